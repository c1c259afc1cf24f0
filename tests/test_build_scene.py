import json

import cv2
import numpy as np
import pytest
import trimesh
from synthetic import look_at

from phototwin.build.build import BuildConfig, build_scene, clear_background, fit_shapes
from phototwin.build.fit import FitConfig
from phototwin.build.shapes import mesh_volume
from phototwin.build.texture import shade_raster
from phototwin.errors import InputError, PerceptionError
from phototwin.frames import invert, make_T, rotation_z, support_depth, transform
from phototwin.images import load_depth, load_ids, load_rgb
from phototwin.kernels.rasterize import rasterize
from phototwin.scene import Maps, load_scene, scene_equal

WIDTH, HEIGHT = 320, 240
K_PX = np.array([[330.0, 0, 161.0], [0, 330.0, 118.0], [0, 0, 1]])
T_WORLD_CAMERA = look_at(np.array([0.0, 0.0, 0.4]), np.array([0.5, 0.0, 0.0]))
BOX_SIZE, RADIUS = (0.1, 0.06, 0.08), 0.04


def make_maps(with_depth, factor=1.0):
    """A red box and a yellow ball on a textured table, ray cast; lengths times ``factor``."""
    T = T_WORLD_CAMERA.copy()
    T[:3, 3] *= factor
    box = trimesh.creation.box(np.array(BOX_SIZE) * factor)
    ball = trimesh.creation.icosphere(subdivisions=4, radius=RADIUS * factor)
    box.apply_transform(make_T(rotation_z(0.5), np.array([0.42, 0.1, 0.04]) * factor))
    ball.apply_translation(np.array([0.45, -0.1, 0.04]) * factor)
    table = support_depth(K_PX, T, WIDTH, HEIGHT)
    rng = np.random.default_rng(0)
    grain = cv2.GaussianBlur(rng.normal(0, 25, (HEIGHT, WIDTH)), (0, 0), 1.5)
    rgb = np.array([150, 120, 90]) + grain[..., None]
    depth, masks = np.where(np.isfinite(table), table, 0), []
    for mesh, color in ((box, (200, 40, 35)), (ball, (235, 200, 40))):
        raster = rasterize(transform(invert(T), mesh.vertices), mesh.faces, K_PX, WIDTH, HEIGHT)
        mask = raster.face >= 0
        depth[mask] = raster.depth_m[mask]
        light = mesh.face_normals[raster.face[mask]] @ (np.array([-0.4, 0.3, 0.87]))
        rgb[mask] = np.array(color) * (0.7 + 0.3 * np.clip(light, 0, 1))[:, None]
        masks.append(mask)
    masks = np.array(masks)
    rgb = np.clip(rgb, 0, 255).astype(np.uint8)
    support = np.isfinite(table) & ~masks.any(0)
    notes = {"gravity": "Made up."}
    depth = depth.astype(np.float32) if with_depth else None
    return Maps(rgb, K_PX, T, depth, support, masks, (None, None), metric=with_depth, notes=notes)


@pytest.fixture(scope="module")
def shapes():
    return fit_shapes(make_maps(True), FitConfig())


def build(shapes, folder, **config):
    return build_scene("made", shapes, clear_background(shapes.maps), folder, BuildConfig(**config))


@pytest.fixture(scope="module")
def deep(shapes, tmp_path_factory):
    return shapes.maps, build(shapes, tmp_path_factory.mktemp("deep"))


def test_sizes_names_and_poses_come_back(deep):
    _, scene = deep
    assert [o.name for o in scene.objects] == ["red box", "yellow ball"] or [o.name for o in scene.objects] == [
        "red block",
        "yellow ball",
    ]
    box, ball = scene.objects
    np.testing.assert_allclose(box.size_m, BOX_SIZE, atol=0.006)
    np.testing.assert_allclose(ball.size_m, 2 * RADIUS, atol=0.006)
    np.testing.assert_allclose(box.T_world_object[:3, 3], [0.42, 0.1, 0.04], atol=0.006)
    np.testing.assert_allclose(ball.T_world_object[:3, 3], [0.45, -0.1, 0.04], atol=0.006)
    for item in scene.objects:
        assert 0.01 <= item.mass_kg <= 2 and item.pieces and (scene.folder / f"textures/{item.key}.png").is_file()
        lowest = transform(item.T_world_object, item.mesh.points.astype(np.float64))[:, 2].min()
        assert abs(lowest) < 1e-3
    np.testing.assert_allclose(scene.objects[0].color_rgb, np.array([200, 40, 35]) / 255, atol=0.15)


def test_what_is_saved_is_the_scene_and_its_images(deep):
    maps, scene = deep
    assert scene_equal(load_scene(scene.folder), scene)
    np.testing.assert_array_equal(load_rgb(scene.path(scene.photo)), maps.rgb)
    ids = load_ids(scene.path(scene.masks))
    for i, mask in enumerate(maps.masks):
        np.testing.assert_array_equal(ids == i + 1, mask)
    depth = load_depth(scene.path(scene.depth))
    np.testing.assert_allclose(depth, maps.depth_m, atol=6e-4)
    behind = load_depth(scene.path(scene.background_depth))
    assert (behind > 0).all()
    table = support_depth(K_PX, T_WORLD_CAMERA, WIDTH, HEIGHT)
    inside = maps.masks.any(0) & np.isfinite(table)
    np.testing.assert_allclose(behind[inside], table[inside], atol=2e-3)
    assert scene.notes["gravity"] == "Made up." and "mm" in scene.notes[f"object {scene.objects[0].name}"]


def test_the_twin_seen_by_its_camera_is_the_photo(deep):
    maps, scene = deep
    picture = load_rgb(scene.path(scene.background_rgb))
    for item in scene.objects:
        T = invert(scene.camera.T_world_camera) @ item.T_world_object
        raster = rasterize(transform(T, item.mesh.points.astype(float)), item.mesh.faces, K_PX, WIDTH, HEIGHT)
        shown = shade_raster(raster, item.mesh.st, load_rgb(scene.path(item.mesh.texture or "")))
        picture = np.where((raster.face >= 0)[..., None], shown, picture)
    inner = cv2.erode(maps.masks.any(0).astype(np.uint8), np.ones((7, 7), np.uint8)) > 0
    error = picture[inner].astype(float) - maps.rgb[inner]
    assert -10 * np.log10((error**2).mean() / 255**2) > 30
    whole = picture.astype(float) - maps.rgb
    assert -10 * np.log10((whole**2).mean() / 255**2) > 25


def test_without_depth_an_anchor_gives_the_size(tmp_path):
    maps = make_maps(False, factor=2.5)
    scene = build(fit_shapes(maps, FitConfig()), tmp_path, anchors=("ball=0.08",))
    ball = scene.objects[1]
    assert max(ball.size_m) == pytest.approx(0.08, rel=1e-3) and "yellow ball = 0.08 m" in scene.notes["scale"]
    np.testing.assert_allclose(scene.camera.T_world_camera[:3, 3], [0, 0, 0.4], atol=0.03)
    np.testing.assert_allclose(scene.objects[0].T_world_object[:2, 3], [0.42, 0.1], atol=0.04)
    for piece in ball.pieces:
        assert np.ptp(piece.points, axis=0).max() <= 0.08 * 1.035  # a hull of the ball's volume has corners outside it
    depth, behind = (load_depth(scene.path(n)) for n in (scene.depth, scene.background_depth))
    assert (depth > 0).all() and (depth <= behind + 2e-3).all()
    assert (behind - depth)[maps.masks.any(0)].mean() > 0.01


def test_bad_anchors_and_an_empty_photo_are_refused_before_anything_is_written(shapes, tmp_path):
    maps = shapes.maps
    for anchor, match in (
        ("spoon=0.1", "the photo shows"),
        ("box", "length in metres"),
        ("box=40", "metres\\?"),
        ("box=1.6", "metres\\?"),
        ("camera height=45", "metres\\?"),
    ):
        with pytest.raises(InputError, match=match):
            build(shapes, tmp_path / "twin", anchors=(anchor,))
    nothing = Maps(maps.rgb, K_PX, T_WORLD_CAMERA, maps.depth_m, maps.support_mask, maps.masks[:0], ())
    with pytest.raises(PerceptionError, match="--objects"):
        fit_shapes(nothing, FitConfig())
    assert not (tmp_path / "twin").exists()


def test_a_materials_file_decides_what_it_names(shapes, tmp_path):
    file = tmp_path / "materials.json"
    felt = {"density": 200, "friction": 0.9}
    stated = {"materials": {"felt": felt}, "objects": {"box": {"material": "felt"}, "ball": {"mass_kg": 0.057}}}
    file.write_text(json.dumps(stated | {"support": {"friction": 0.4}}))
    box, ball = (scene := build(shapes, tmp_path / "twin", materials=file)).objects
    volume = abs(mesh_volume(box.mesh.points.astype(np.float64), box.mesh.faces))
    assert (box.material, box.friction) == ("felt", 0.9) and box.mass_kg == pytest.approx(200 * volume, rel=1e-3)
    assert ball.mass_kg == 0.057 and scene.support.friction == 0.4
    for bad, match in (
        ({"objects": {"spoon": {}}}, "not in the photo"),
        ({"objects": {"box": {"material": "unobtainium"}}}, "no material"),
        ({"objects": {"box": {"mass_kg": -1}}}, "mass_kg"),
        ({"materials": {"felt": {"friction": 1}}}, "density"),
        ({"materials": {"wood": {"colour": 1}}}, "unknown keys"),
        ([], "JSON object"),
    ):
        file.write_text(json.dumps(bad))
        with pytest.raises(InputError, match=match):
            build(shapes, tmp_path / "bad", materials=file)
    assert not (tmp_path / "bad").exists()
