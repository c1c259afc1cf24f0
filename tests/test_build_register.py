"""Given meshes: draw a known thing, hand it over turned and scaled, and ask for its pose, size, closedness and pieces back."""

from functools import cache

import numpy as np
import pytest
import trimesh
from scipy.spatial.transform import Rotation

from phototwin.build import shapes
from phototwin.build.convex import convex_pieces
from phototwin.build.fit import FittedShape
from phototwin.build.given import load_meshes, match_meshes
from phototwin.build.register import register_mesh
from phototwin.build.repair import clean, close, marching_tetrahedra, rebuild, simplify
from phototwin.build.shapes import PIECE_VERTICES, is_closed, mesh_volume
from phototwin.build.solid import holds_water, solid_cells
from phototwin.errors import InputError
from phototwin.frames import invert, make_T, rotation_z, support_depth, transform
from phototwin.kernels.rasterize import rasterize
from phototwin.meshes import load_mesh
from phototwin.scene import GivenMesh

WIDTH, HEIGHT = 640, 480
K_PX = np.array([[520.0, 0, 321], [0, 520.0, 238], [0, 0, 1]])


def mug():
    heights = np.linspace(0, 0.09, 8)
    bend = np.linspace(-1.2, 1.2, 9)
    path = np.stack([0.036 + 0.03 * (np.cos(bend) - np.cos(1.2)), np.zeros(9), 0.045 + 0.03 * np.sin(bend)], -1)
    handle = shapes.tube(path, np.array([0, 1.0, 0]), 0.008, 0.012)
    return shapes.merge([shapes.vessel(np.full(8, 0.04), heights, 0.004, 0.006), handle])


def bowl():
    heights = np.linspace(0, 0.06, 8)
    return shapes.vessel(0.03 + 0.05 * np.sqrt(heights / 0.06), heights, 0.004, 0.006)


def banana():
    bend = np.linspace(0.3, 2.2, 14)
    path = np.stack([0.09 * np.cos(bend), 0.09 * np.sin(bend), np.zeros(14)], -1)
    return shapes.tube(path, np.array([0, 0, 1.0]), 0.035, 0.035, 16)


def box():
    return shapes.box(np.array([0.06, 0.1, 0.16]))


THINGS = {"mug": mug, "bowl": bowl, "banana": banana, "box": box}


def camera(pitch_deg, height_m):
    pitch = np.radians(pitch_deg)
    z = np.array([np.cos(pitch), 0, -np.sin(pitch)])
    x = np.array([0.0, -1.0, 0.0])
    return make_T(np.stack([x, np.cross(z, x), z], 1), np.array([0, 0, height_m]))


def standing(solid, yaw_deg, place=(0.62, 0.03)):
    points = solid.points @ rotation_z(np.radians(yaw_deg)).T + [*place, 0.0]
    return points - [0, 0, points[:, 2].min()]


def photographed(points_w, faces, T, seed=0):
    """Mask and noisy depth of a thing on the table."""
    raster = rasterize(transform(invert(T), points_w), faces, K_PX, WIDTH, HEIGHT)
    mask, table = raster.face >= 0, support_depth(K_PX, T, WIDTH, HEIGHT)
    depth = np.where(mask, raster.depth_m, np.where(table < 3, table, 0))
    noise = np.random.default_rng(seed).normal(0, 0.0015, depth.shape)
    return mask, np.where(depth > 0, depth + noise, 0).astype(np.float32)


def handed_over(points_w, faces, seed):
    """The thing in a random frame and unit."""
    rng = np.random.default_rng(seed)
    R = Rotation.random(random_state=seed).as_matrix()
    return GivenMesh(points_w @ R.T * np.exp(rng.normal(0, 1.5)) + rng.normal(0, 1, 3), faces, "a test")


@cache
def recovered(name, depth) -> tuple[FittedShape, np.ndarray, np.ndarray]:
    solid, seed, T = THINGS[name](), sum(map(ord, name)), camera(35, 0.5)
    points_w = standing(solid, 17.0 * seed)
    mask, depth_m = photographed(points_w, solid.faces, T, seed)
    given = handed_over(points_w, solid.faces, seed)
    return register_mesh(given, mask, K_PX, T, depth_m if depth else None, None), points_w, solid.faces


def distance(points_w, fit):
    """Mean distance of points to the fitted surface [m]."""
    mesh = trimesh.Trimesh(transform(fit.T_world_object, fit.points.astype(float)), fit.faces, process=False)
    return float(np.abs(trimesh.proximity.closest_point_naive(mesh, points_w)[1]).mean())


@pytest.mark.parametrize("depth", [True, False])
@pytest.mark.parametrize("name", THINGS)
def test_pose_and_size_come_back(name, depth):
    fit, points_w, faces = recovered(name, depth)
    scale = (mesh_volume(fit.points.astype(float), fit.faces) / mesh_volume(points_w, faces)) ** (1 / 3)
    assert scale == pytest.approx(1, abs=0.02 if not depth else 0.005)
    assert fit.iou >= 0.97
    assert distance(points_w[::3], fit) < 0.0015
    assert "poor" not in fit.notes and (fit.depth_rmse_m is not None) == depth


@pytest.mark.parametrize("name", THINGS)
def test_what_comes_back_is_an_object(name):
    fit = recovered(name, True)[0]
    assert fit.shape == "mesh" and is_closed(fit.faces) and mesh_volume(fit.points.astype(float), fit.faces) > 0
    assert fit.hollow == (name in ("mug", "bowl"))
    low, high = fit.points.min(axis=0), fit.points.max(axis=0)
    assert np.allclose(low + high, 0, atol=1e-6) and np.allclose(high - low, fit.size_m, atol=1e-6)
    assert fit.size_m[0] >= fit.size_m[1]
    assert np.allclose(fit.T_world_object[:3, 2], [0, 0, 1]) and np.linalg.det(fit.T_world_object[:3, :3]) > 0
    foot = fit.T_world_object[2, 3] + low[2]
    assert foot == pytest.approx(0, abs=1e-6)
    pieces = [p.points[:, 2].min() for p in fit.pieces]
    assert min(pieces) == pytest.approx(low[2], abs=1e-4)


def test_a_handle_is_on_the_side_where_it_is_seen():
    solid, T = mug(), camera(40, 0.5)
    for yaw in (90, 270):
        points_w = standing(solid, yaw)
        mask, _ = photographed(points_w, solid.faces, T)
        fit = register_mesh(handed_over(points_w, solid.faces, yaw), mask, K_PX, T, None, None)
        fitted_w = transform(fit.T_world_object, fit.points.astype(float))
        far = fitted_w[np.hypot(*(fitted_w[:, :2] - [0.62, 0.03]).T) > 0.048]
        assert len(far) and (np.sign(far[:, 1] - 0.03) == (1 if yaw == 90 else -1)).all()


def test_a_mirror_image_is_not_taken():
    """A left-handed thing for a right-handed one: no proper turn makes them agree, and nothing is mirrored to make them."""
    parts = [shapes.box(np.array(s)) for s in ((0.14, 0.03, 0.03), (0.03, 0.06, 0.03), (0.03, 0.03, 0.10))]
    parts = [
        shapes.Solid(p.points + m, p.faces, ())
        for p, m in zip(parts, ([0.055, 0, 0], [0, 0.03, 0], [0, 0, 0]), strict=True)
    ]
    solid, T = shapes.merge(parts), camera(40, 0.5)
    points_w = standing(solid, 200)
    mask, depth_m = photographed(points_w, solid.faces, T)
    right = register_mesh(handed_over(points_w, solid.faces, 1), mask, K_PX, T, depth_m, None)
    mirrored = handed_over(points_w * [1, -1, 1], solid.faces[:, ::-1], 1)
    wrong = register_mesh(mirrored, mask, K_PX, T, depth_m, None)
    assert right.iou > 0.97 and distance(points_w, right) < 0.0015
    assert wrong.iou < right.iou - 0.03 and distance(points_w, wrong) > 0.003


def test_a_wrong_mesh_is_called_a_poor_fit():
    T, points_w = camera(35, 0.5), standing(box(), 30)
    mask, depth_m = photographed(points_w, box().faces, T)
    for depth in (depth_m, None):
        fit = register_mesh(GivenMesh(banana().points, banana().faces, "a test"), mask, K_PX, T, depth, None)
        assert "poor fit" in fit.notes


def test_a_thing_behind_another_is_found_with_depth():
    T, points_w = camera(30, 0.45), standing(mug(), 120)
    near = standing(shapes.box(np.array([0.03, 0.2, 0.07])), 0, (0.5, 0.09))
    own = rasterize(transform(invert(T), points_w), mug().faces, K_PX, WIDTH, HEIGHT)
    front = rasterize(transform(invert(T), near), box().faces, K_PX, WIDTH, HEIGHT)
    mask = (own.face >= 0) & ~(front.face >= 0)
    assert 0.5 < mask.sum() / (own.face >= 0).sum() < 0.9
    table = support_depth(K_PX, T, WIDTH, HEIGHT)
    depth = np.where(front.face >= 0, front.depth_m, np.where(mask, own.depth_m, np.where(table < 3, table, 0)))
    fit = register_mesh(handed_over(points_w, mug().faces, 3), mask, K_PX, T, depth.astype(np.float32), None)
    scale = (mesh_volume(fit.points.astype(float), fit.faces) / mesh_volume(points_w, mug().faces)) ** (1 / 3)
    assert scale == pytest.approx(1, abs=0.02) and distance(points_w, fit) < 0.002


@pytest.mark.parametrize("name", THINGS)
def test_pieces_have_the_volume_and_few_corners(name):
    solid = THINGS[name]()
    pieces, note = convex_pieces(solid.points, solid.faces)
    inside, _, cell = solid_cells(solid.points, solid.faces)
    volume = sum(mesh_volume(p.points.astype(float), p.faces) for p in pieces)
    assert volume == pytest.approx(inside.sum() * cell**3, rel=0.03) and note == ""
    assert len(pieces) <= 36 and all(len(p.points) <= PIECE_VERTICES for p in pieces)
    if name == "mug":  # the inside is free
        probe = np.stack([*(a.ravel() for a in np.meshgrid(*[np.linspace(-0.02, 0.02, 7)] * 2)), np.full(49, 0.05)], -1)
        for piece in pieces:
            corner = piece.points[piece.faces].astype(float)
            normal = np.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0])
            outside = np.einsum("fj,nfj->nf", normal, probe[:, None] - corner[:, 0]) > 0
            assert outside.any(axis=1).all()


def test_open_surfaces_are_closed_and_stay_what_they_are():
    ball = trimesh.creation.icosphere(4, 0.05)
    sheet = ball.slice_plane([0, 0, 0], [0, 0, -1])
    points, faces, note = close(*clean(np.array(sheet.vertices), np.array(sheet.faces)))
    assert is_closed(faces) and holds_water(points, faces) and "rebuilt" in note
    footless = ball.slice_plane([0, 0, -0.04], [0, 0, 1])
    points, faces, note = close(*clean(np.array(footless.vertices), np.array(footless.faces)))
    assert is_closed(faces) and not holds_water(points, faces) and "filled" in note
    assert mesh_volume(points, faces) == pytest.approx(4 / 3 * np.pi * 0.05**3, rel=0.04)
    soup = ball.vertices[ball.faces].reshape(-1, 3)
    points, faces = clean(soup, np.arange(len(soup)).reshape(-1, 3))
    assert is_closed(faces) and len(points) == len(ball.vertices)
    inverted = close(np.array(ball.vertices), np.array(ball.faces)[:, ::-1])
    assert mesh_volume(*inverted[:2]) > 0


def test_marching_is_closed_on_any_field_and_right_on_a_ball():
    rng = np.random.default_rng(0)
    field = rng.normal(size=(14, 15, 16))
    field[[0, -1]] = field[:, [0, -1]] = field[:, :, [0, -1]] = 1.0
    assert is_closed(marching_tetrahedra(field, np.zeros(3), 1.0)[1])
    grid = np.stack(np.meshgrid(*[np.arange(24.0)] * 3, indexing="ij"), -1)
    points, faces = marching_tetrahedra(np.linalg.norm(grid - 11.4, axis=-1) - 9, np.zeros(3), 1.0)
    assert is_closed(faces) and mesh_volume(points, faces) == pytest.approx(4 / 3 * np.pi * 9**3, rel=0.01)
    assert np.allclose(np.linalg.norm(points - 11.4, axis=1), 9, atol=0.1)
    fewer = simplify(points, faces, 600, keep_closed=True)
    assert is_closed(fewer[1]) and len(fewer[1]) <= 1200 and mesh_volume(*fewer) == pytest.approx(3054, rel=0.02)


def test_files_of_every_kind_are_read_with_their_colours(tmp_path):
    mesh = trimesh.creation.box((1, 2, 3))
    mesh.visual.vertex_colors = np.tile([200, 30, 40, 255], (len(mesh.vertices), 1))
    for ending in ("glb", "gltf", "obj", "ply", "stl"):
        folder = tmp_path / ending
        folder.mkdir()
        mesh.export(folder / f"mug.{ending}")
        given = load_meshes(folder)["mug"]
        assert len(given.faces) == 12 and np.allclose(np.ptp(given.points, axis=0), [1, 2, 3]), ending
        assert f"mug.{ending}" in given.source
        if ending in ("glb", "ply"):
            assert given.colors_rgb is not None and (given.colors_rgb == [200, 30, 40]).all()


def test_parts_of_a_file_are_put_where_the_file_says(tmp_path):
    scene = trimesh.Scene()
    scene.add_geometry(trimesh.creation.box((1, 1, 1)))
    scene.add_geometry(trimesh.creation.box((1, 1, 1)), transform=trimesh.transformations.translation_matrix([5, 0, 0]))
    scene.export(tmp_path / "two.glb")
    given = load_mesh(tmp_path / "two.glb")
    assert len(given.faces) == 24 and np.ptp(given.points, axis=0).max() == pytest.approx(6)


@pytest.mark.parametrize("ending", ["glb", "obj", "ply", "stl", "gltf"])
@pytest.mark.parametrize("content", [b"", b"garbage", b"glTF\x02\0\0\0", b"\0" * 200, b"v 1 nan 2\nf 1 1 1\n"])
def test_broken_files_are_named(tmp_path, ending, content):
    (tmp_path / f"mug.{ending}").write_bytes(content)
    with pytest.raises(InputError, match=rf"mug\.{ending}"):
        load_meshes(tmp_path)


def test_useless_meshes_are_refused(tmp_path):
    flat = trimesh.Trimesh(
        [[0, 0, 0], [1, 0, 0], [2, 0, 0], [3, 0, 0]], [[0, 1, 2], [1, 2, 3], [0, 1, 3], [0, 2, 3]], process=False
    )
    flat.export(tmp_path / "line.ply")
    with pytest.raises(InputError, match="a point or a line"):
        load_mesh(tmp_path / "line.ply")
    with pytest.raises(InputError, match="not a folder"):
        load_meshes(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="holds no mesh"):
        load_meshes(tmp_path / "empty")
    trimesh.creation.box().export(tmp_path / "line.stl")
    with pytest.raises(InputError, match="more than one mesh named 'line'"):
        load_meshes(tmp_path)


def test_meshes_find_their_objects():
    one, two = (GivenMesh(np.eye(3), np.zeros((4, 3), np.int32), name) for name in ("one", "two"))
    assert match_meshes({"Blue Mug": one, "object_2": two}, ("blue mug", None)) == {0: one, 1: two}
    for stems, words in (
        (("spoon",), "object_2"),
        (("object_3",), "object_3"),
        (("blue_mug", "object_1"), "Two meshes"),
    ):
        with pytest.raises(InputError, match=words):
            match_meshes({stem: one for stem in stems}, ("blue mug", None))


def test_a_leaky_solid_is_rebuilt_in_its_own_size():
    ball = trimesh.creation.icosphere(5, 0.05)
    keep = np.random.default_rng(0).random(len(ball.faces)) > 0.03
    points, faces, note = close(*clean(np.array(ball.vertices), np.array(ball.faces)[keep]))
    assert is_closed(faces)
    np.testing.assert_allclose(np.ptp(points, axis=0), 0.1, rtol=0.015)
    assert mesh_volume(points, faces) == pytest.approx(4 / 3 * np.pi * 0.05**3, rel=0.03), note
    points, faces = rebuild(np.array(ball.vertices), np.array(ball.faces)[keep])
    np.testing.assert_allclose(np.linalg.norm(points - points.mean(0), axis=1), 0.05, atol=0.002)
