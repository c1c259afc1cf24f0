"""Objects end where nothing overlaps and nothing hovers, moved as little as possible; coal and MuJoCo are the judges."""

from itertools import pairwise

import coal
import mujoco
import numpy as np
import pytest
import trimesh

from phototwin.build.layout import ABOVE_GAP_M, BESIDE_GAP_M, deepest_overlap, make_solids, solve_layout
from phototwin.errors import InputError
from phototwin.frames import make_T, rotation_z, transform
from phototwin.kernels.signed_distance import signed_distances
from phototwin.scene import ConvexPiece

AHEAD = np.array([1.0, 0.0])


def piece(mesh):
    hull = mesh.convex_hull
    return ConvexPiece(hull.vertices.astype(np.float32), hull.faces.astype(np.int32))


def box(*size):
    return (piece(trimesh.creation.box(size)),)


Z0 = ABOVE_GAP_M  # what rests on the support rests this high


def at(x, y, z, yaw=0.0):
    return make_T(rotation_z(yaw), np.array([x, y, z]))


def cup(radius=0.05, height=0.06, wall=0.006, sides=12):
    """A vessel of wall staves and a floor."""
    angles = np.linspace(0, 2 * np.pi, sides + 1)
    out = [piece(trimesh.creation.cylinder(radius, wall, sections=sides, transform=at(0, 0, -height / 2 + wall / 2)))]
    for a, b in pairwise(angles):
        ring = [[r * np.cos(t), r * np.sin(t), z] for r in (radius - wall, radius) for t in (a, b) for z in (-1, 1)]
        corners = np.array(ring) * [1, 1, height / 2 - wall / 2] + [0, 0, wall / 2]
        out.append(piece(trimesh.Trimesh(corners).convex_hull))
    return tuple(out)


def solve(poses, pieces, doubt=1.0, away=AHEAD):
    names = tuple("abcdefgh"[: len(poses)])
    return solve_layout(poses, pieces, names, np.tile(away, (len(poses), 1)), doubt)


def coal_distance(T_a, a, T_b, b):
    """Signed distance of two objects by another library."""
    least = np.inf
    for p in a:
        for q in b:
            shapes = []
            for T, part in ((T_a, p), (T_b, q)):
                points = coal.StdVec_Vec3s()
                points.extend([row for row in transform(T, part.points.astype(float))])
                shapes.append(coal.Convex.convexHull(points, True, "Qt"))
            request, result = coal.DistanceRequest(), coal.DistanceResult()
            request.enable_signed_distance = True
            least = min(
                least, coal.distance(shapes[0], coal.Transform3s(), shapes[1], coal.Transform3s(), request, result)
            )
    return least


def test_distances_of_boxes_in_closed_form():
    solids = make_solids([box(0.04, 0.04, 0.04), box(0.02, 0.06, 0.04)])
    for x, expected in ((0.05, 0.02), (0.03, 0.0), (0.025, -0.005)):
        pairs, normal, distance = signed_distances(solids, np.stack([at(0, 0, 0), at(x, 0.003, 0)]), 0.1)
        assert pairs.tolist() == [[0, 1]] and distance[0] == pytest.approx(expected, abs=1e-7)
        np.testing.assert_allclose(normal[0], [-1, 0, 0], atol=1e-6)
    assert not len(signed_distances(solids, np.stack([at(0, 0, 0), at(0.5, 0, 0)]), 0.1)[0])
    with pytest.raises(InputError, match="fit the objects"):
        signed_distances(solids, np.eye(4)[None], 0.1)


def test_distances_agree_with_coal():
    rng = np.random.default_rng(0)
    closer = 0
    for _ in range(40):
        parts = [(piece(trimesh.Trimesh(rng.normal(size=(12, 3)) * 0.02).convex_hull),) for _ in range(2)]
        poses = np.stack([at(0, 0, 0, rng.uniform(0, 6)), at(*rng.normal(size=3) * 0.03, rng.uniform(0, 6))])
        pairs, _, distance = signed_distances(make_solids(parts), poses, 1.0)
        truth = coal_distance(poses[0], parts[0], poses[1], parts[1])
        assert len(pairs) == 1
        if truth > 0:
            assert distance[0] <= truth + 1e-6  # outside it never promises more room than there is
        else:
            assert distance[0] <= truth + 1e-6  # faces alone can only find a longer way out
        closer += abs(distance[0] - truth) < 0.25 * abs(truth) + 5e-4
    assert closer > 25


def test_the_wall_between_two_pieces_is_no_way_out():
    halves = tuple(piece(trimesh.creation.box((0.04, 0.04, 0.04), transform=at(x, 0, 0))) for x in (-0.02, 0.02))
    solids = make_solids([halves, box(0.01, 0.01, 0.02)])
    assert (solids.way_out == 0).sum() == 4  # two triangles of each half
    _, normal, distance = signed_distances(solids, np.stack([at(0, 0, 0), at(0.003, 0, 0.028)]), 0.1)
    np.testing.assert_allclose(normal[distance < 0], [[0, 0, -1]] * int((distance < 0).sum()), atol=1e-6)


def test_overlapping_boxes_part_by_the_shortest_move_and_share_it():
    out = solve([at(0, 0, 0.02), at(0.03, 0.005, 0.02)], [box(0.04, 0.04, 0.04)] * 2)
    gap = out.T_world_object[1, :3, 3] - out.T_world_object[0, :3, 3]
    np.testing.assert_allclose(gap, [0.04 + BESIDE_GAP_M, 0.005, 0], atol=2e-5)
    np.testing.assert_allclose(out.T_world_object[:, 0, 3].sum(), 0.03, atol=1e-6)
    assert out.overlap_before_m == pytest.approx(0.01, abs=1e-6) and out.overlap_m < 1e-5
    assert len(out.notes) == 2 and "moved by 5 mm" in out.notes[0]


def test_a_move_along_the_view_is_preferred_as_the_photo_knows_less_there():
    poses, boxes = [at(0, 0, 0.02), at(0.03, 0.0305, 0.02)], [box(0.04, 0.04, 0.04)] * 2
    for away, axis in (([1.0, 0.0], 0), ([0.0, 1.0], 1)):
        moved = np.abs(solve(poses, boxes, 3.0, np.array(away)).T_world_object[:, :2, 3] - [[0, 0], [0.03, 0.0305]])
        assert moved[:, axis].max() >= moved[:, 1 - axis].max()


def test_what_stands_right_stays():
    stacked = [at(0, 0, 0.02 + Z0), at(0.005, 0, 0.06 + 2 * Z0), at(0.05, 0, 0.02 + Z0)]
    out = solve(stacked, [box(0.04, 0.04, 0.04)] * 3)
    np.testing.assert_allclose(out.T_world_object, stacked, atol=2e-5)
    assert not out.notes and not solve([], []).notes


@pytest.mark.parametrize("height", [0.01, 0.02, 0.07])
def test_things_are_lifted_or_lowered_onto_the_support(height):
    out = solve([at(0.3, 0.1, height)], [box(0.04, 0.04, 0.04)])
    np.testing.assert_allclose(out.T_world_object[0, :3, 3], [0.3, 0.1, 0.02 + Z0], atol=2e-5)
    assert bool(out.notes) == (height != 0.02)


def test_a_tower_comes_down_onto_itself():
    poses = [at(0, 0, 0.03), at(0.004, 0, 0.07), at(-0.004, 0.002, 0.115)]
    out = solve(poses, [box(0.04, 0.04, 0.04)] * 3)
    np.testing.assert_allclose(np.diff(out.T_world_object[:, 2, 3]), 0.04 + ABOVE_GAP_M, atol=1e-4)
    np.testing.assert_allclose(out.T_world_object[:, :2, 3], [[0, 0], [0.004, 0], [-0.004, 0.002]], atol=1e-4)


def test_a_thing_in_a_vessel_lies_on_its_floor():
    ball = (piece(trimesh.creation.icosphere(2, 0.02)),)
    out = solve([at(0, 0, 0.03), at(0.01, 0.004, 0.05)], [cup(), ball])
    assert out.overlap_m < 1e-4
    np.testing.assert_allclose(out.T_world_object[0, :3, 3], [0, 0, 0.03], atol=1e-3)
    assert out.T_world_object[1, 2, 3] == pytest.approx(0.006 + 0.02, abs=1.5e-3)
    assert np.linalg.norm(out.T_world_object[1, :2, 3]) < 0.03


def random_clutter(rng, count):
    poses, pieces = [], []
    for k in range(count):
        size = rng.uniform(0.03, 0.08, 3)
        kind = rng.integers(3)
        if kind == 0:
            pieces.append(box(*size))
        elif kind == 1:
            pieces.append((piece(trimesh.creation.cylinder(size[0] / 2, size[2], sections=24)),))
        else:
            pieces.append(cup(size[0] / 2 + 0.02, size[2]))
        height = size[2] / 2
        place = np.array([0.075 * (k % 2), 0.075 * (k // 2)]) + rng.uniform(
            -0.012, 0.012, 2
        )  # overlaps of some centimetres
        poses.append(at(*place, height + rng.uniform(-0.006, 0.006), rng.uniform(0, 6)))
    return poses, pieces


@pytest.mark.parametrize("seed", range(6))
def test_clutter_ends_without_overlap_in_coal_and_at_rest_in_mujoco(seed):
    rng = np.random.default_rng(seed)
    poses, pieces = random_clutter(rng, int(rng.integers(3, 7)))
    out = solve(poses, pieces, 1.5)
    again = solve(poses, pieces, 1.5)
    np.testing.assert_array_equal(out.T_world_object, again.T_world_object)
    assert out.overlap_m < 2e-4 <= out.overlap_before_m
    for i in range(len(poses)):
        for j in range(i):
            assert coal_distance(out.T_world_object[i], pieces[i], out.T_world_object[j], pieces[j]) > -3e-4
    assert rest_drift(out.T_world_object, pieces) < 0.005


def rest_drift(poses, pieces):
    """How far objects have moved after a second of MuJoCo, in the mean [m]."""
    spec = mujoco.MjSpec()
    spec.worldbody.add_geom(type=mujoco.mjtGeom.mjGEOM_PLANE, size=[2, 2, 0.1], friction=[0.8, 0.005, 0.0001])
    for i, (T, own) in enumerate(zip(poses, pieces, strict=True)):
        quat = np.zeros(4)
        mujoco.mju_mat2Quat(quat, T[:3, :3].ravel())
        body = spec.worldbody.add_body(name=f"b{i}", pos=T[:3, 3], quat=quat)
        body.add_freejoint()
        for k, part in enumerate(own):
            spec.add_mesh(name=f"m{i}_{k}", uservert=part.points.astype(float).ravel())
            body.add_geom(
                type=mujoco.mjtGeom.mjGEOM_MESH, meshname=f"m{i}_{k}", density=600, friction=[0.8, 0.005, 0.0001]
            )
    model = spec.compile()
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    start = data.xpos.copy()
    while data.time < 1.0:
        mujoco.mj_step(model, data)
    return float(np.linalg.norm((data.xpos - start)[1:], axis=1).mean())


def test_overlap_with_the_support_counts():
    solids = make_solids([box(0.04, 0.04, 0.04)])
    assert deepest_overlap(at(0, 0, 0.015)[None], solids) == pytest.approx(0.005, abs=1e-6)
    assert deepest_overlap(at(0, 0, 0.025)[None], solids) == 0
