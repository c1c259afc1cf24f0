import numpy as np
import pytest
import trimesh
import warp as wp

from phototwin.errors import InputError
from phototwin.frames import make_T, matrix_from_quat_xyzw, transform
from phototwin.kernels.mesh_pairs import mesh_pair_collisions, prepare_mesh

NO_GPU = pytest.mark.skipif(wp.get_cuda_device_count() == 0, reason="no CUDA device")
DEVICES = ["cpu", pytest.param("cuda:0", marks=[pytest.mark.gpu, NO_GPU])]


def fork():
    """Two fingers and a palm, in three pieces that touch nowhere."""
    boxes = [
        ((0.02, 0.01, 0.05), (0, 0.045, 0)),
        ((0.02, 0.01, 0.05), (0, -0.045, 0)),
        ((0.06, 0.2, 0.08), (0, 0, -0.08)),
    ]
    made = [trimesh.creation.box(size).apply_translation(at) for size, at in boxes]
    return trimesh.util.concatenate(made)


def thing():
    return trimesh.creation.torus(0.05, 0.02, 24, 12)


def poses(seed, count, spread):
    rng = np.random.default_rng(seed)
    R = matrix_from_quat_xyzw(rng.standard_normal((count, 4)))
    return np.array([make_T(r, t) for r, t in zip(R, rng.uniform(-spread, spread, (count, 3)), strict=True)])


def prepared(mesh, device="cpu"):
    return prepare_mesh(np.asarray(mesh.vertices), np.asarray(mesh.faces), device)


def segments_cross(start, end, corners):
    """Whether segments (S,) cross triangles (F,), (S, F). Source: Moller and Trumbore (1997)."""
    a, b, c = np.moveaxis(corners, 1, 0)
    way = (end - start)[:, None]
    p = np.cross(way, (c - a)[None])
    det = (p * (b - a)).sum(-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        from_a = start[:, None] - a
        u = (from_a * p).sum(-1) / det
        q = np.cross(from_a, (b - a)[None])
        v, t = (q * way).sum(-1) / det, (q * (c - a)).sum(-1) / det
    return (u >= 0) & (v >= 0) & (u + v <= 1) & (t >= 0) & (t <= 1)


def collide_numpy(moving, fixed, T):
    """The twin: every edge of one against every triangle of the other, then points inside."""
    out = []
    for pose in T:
        a, b = transform(pose, moving.vertices)[moving.faces], fixed.triangles
        hit = any(segments_cross(p[:, i], p[:, (i + 1) % 3], q).any() for p, q in ((a, b), (b, a)) for i in range(3))
        if not hit:
            placed = moving.copy().apply_transform(pose)
            hit = fixed.contains(placed.vertices).any() or any(
                piece.contains(fixed.vertices[:1]).any() for piece in placed.split()
            )
        out.append(hit)
    return np.array(out)


@pytest.mark.parametrize("device", DEVICES)
def test_agrees_with_every_edge_against_every_triangle(device):
    T = poses(0, 150, 0.12)
    found = mesh_pair_collisions(prepared(fork(), device), prepared(thing(), device), T)
    assert 30 < found.collide.sum() < 130
    np.testing.assert_array_equal(found.collide, collide_numpy(fork(), thing(), T))
    assert found.depth_m is None


def test_fcl_agrees_on_thousands_of_poses():
    pytest.importorskip("fcl")
    T, moving, fixed = poses(1, 3000, 0.15), fork(), thing()
    manager = trimesh.collision.CollisionManager()
    manager.add_object("thing", fixed)
    judged = np.array([manager.in_collision_single(moving, pose) for pose in T])
    found = mesh_pair_collisions(prepared(moving), prepared(fixed), T).collide
    # FCL knows surfaces only: what is wholly inside it calls free.
    differ = found != judged
    assert differ.mean() < 0.003
    assert found[differ].all()


def test_a_mesh_inside_the_other_collides_both_ways_round():
    small, large = trimesh.creation.icosphere(2, 0.02), trimesh.creation.icosphere(2, 0.1)
    T = np.array([make_T(np.eye(3), np.array([x, 0, 0])) for x in (0.0, 0.05, 0.1, 0.15)])
    for moving, fixed in ((small, large), (large, small)):
        found = mesh_pair_collisions(prepared(moving), prepared(fixed), T, depth=True)
        np.testing.assert_array_equal(found.collide, [True, True, True, False])
        assert found.depth_m[3] == 0.0 and (found.depth_m[:3] > 0.015).all()


@pytest.mark.parametrize("device", DEVICES)
def test_the_depth_of_boxes_that_overlap(device):
    box = trimesh.creation.box((0.1, 0.1, 0.1))
    shift = np.linspace(0.051, 0.15, 30)
    T = np.array([make_T(np.eye(3), np.array([x, 0.003, 0.002])) for x in shift])
    found = mesh_pair_collisions(prepared(box, device), prepared(box, device), T, depth=True)
    # The corners of one are as deep in the other as the faces overlap, or as near as they are to a side.
    meant = np.maximum(np.minimum(0.1 - shift, 0.002), 0.0)
    np.testing.assert_allclose(found.depth_m, meant, atol=1e-6)
    np.testing.assert_array_equal(found.collide[:-1], shift[:-1] < 0.1)


def test_depths_agree_with_trimesh():
    T, moving, fixed = poses(2, 60, 0.08), fork(), thing()
    found = mesh_pair_collisions(prepared(moving), prepared(fixed), T, depth=True)
    for pose, depth in zip(T, found.depth_m, strict=True):
        placed = moving.copy().apply_transform(pose)
        judged = max(0.0, trimesh.proximity.signed_distance(fixed, placed.vertices).max())
        for piece in placed.split():
            judged = max(judged, trimesh.proximity.signed_distance(piece, fixed.vertices).max())
        assert abs(judged - depth) < 2e-6


def test_threads_give_the_same():
    T, moving, fixed = poses(3, 2000, 0.12), prepared(fork()), prepared(thing())
    one, four = (mesh_pair_collisions(moving, fixed, T, depth=True, threads=n) for n in (1, 4))
    np.testing.assert_array_equal(one.collide, four.collide)
    assert one.depth_m.tobytes() == four.depth_m.tobytes()


def test_no_poses_and_bad_input():
    mesh = prepared(thing())
    assert mesh_pair_collisions(mesh, mesh, np.zeros((0, 4, 4)), depth=True).depth_m.shape == (0,)
    with pytest.raises(InputError, match=r"\(B, 4, 4\)"):
        mesh_pair_collisions(mesh, mesh, np.eye(4))
