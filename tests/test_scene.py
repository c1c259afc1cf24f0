import dataclasses
import json

import numpy as np
import pytest
from synthetic import HEIGHT, WIDTH, make_scene

from phototwin import images
from phototwin.errors import InputError
from phototwin.frames import invert, project, transform
from phototwin.scene import load_scene, save_scene, scene_equal


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    return make_scene(tmp_path_factory.mktemp("scene"))


def test_synthetic_scene_agrees_with_itself(scene):
    """The mask of each object is where its points project, and the depth there is theirs."""
    ids = images.load_ids(scene.path(scene.masks))
    depth = images.load_depth(scene.path(scene.depth))
    assert ids.shape == depth.shape == (HEIGHT, WIDTH)
    camera = scene.camera
    for i, item in enumerate(scene.objects):
        points_c = transform(invert(camera.T_world_camera) @ item.T_world_object, item.mesh.points.astype(np.float64))
        uv = project(camera.K_px, points_c)
        v, u = np.nonzero(ids == i + 1)
        assert len(u) > 100
        assert np.abs(uv.min(0) - (u.min(), v.min())).max() <= 1.5
        assert np.abs(uv.max(0) - (u.max() + 1, v.max() + 1)).max() <= 1.5
        seen = depth[ids == i + 1]
        assert points_c[:, 2].min() - 1e-3 <= seen.min()
        assert seen.max() <= points_c[:, 2].max() + 1e-3


def test_synthetic_meshes_are_closed_and_pieces_convex(scene):
    import trimesh

    for item in scene.objects:
        mesh = trimesh.Trimesh(item.mesh.points, item.mesh.faces)
        assert mesh.is_watertight
        assert mesh.volume > 0
        assert np.allclose(np.ptp(item.mesh.points, axis=0), item.size_m, atol=1e-6)
        pieces = [trimesh.Trimesh(p.points, p.faces) for p in item.pieces]
        assert all(p.is_convex and p.is_volume for p in pieces)
        assert sum(p.volume for p in pieces) == pytest.approx(mesh.volume, rel=0.15)  # wedges bulge into the bowl


def test_save_and_load_give_the_same_scene(scene, tmp_path):
    save_scene(scene, tmp_path)
    loaded = load_scene(tmp_path)
    assert scene_equal(loaded, scene)
    assert loaded.folder == tmp_path
    assert loaded.objects[0].mesh.points.dtype == np.float32


def test_scene_equal_sees_every_difference(scene):
    item = scene.objects[0]
    points = item.mesh.points.copy()
    points[0, 0] = np.nextafter(points[0, 0], np.float32(1))
    changed = dataclasses.replace(item, mesh=dataclasses.replace(item.mesh, points=points))
    assert not scene_equal(scene, dataclasses.replace(scene, objects=(changed, *scene.objects[1:])))
    assert not scene_equal(scene, dataclasses.replace(scene, objects=scene.objects[::-1]))
    assert not scene_equal(scene, dataclasses.replace(scene, notes={}))
    heavier = dataclasses.replace(item, mass_kg=np.nextafter(item.mass_kg, 1).item())
    assert not scene_equal(scene, dataclasses.replace(scene, objects=(heavier, *scene.objects[1:])))


def test_objects_are_found_by_name_and_key(scene):
    assert scene.object("green cube") is scene.object("green_cube") is scene.objects[0]
    with pytest.raises(InputError, match="green cube, white bowl, red can"):
        scene.object("teapot")


def test_folder_without_scene_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"no scene\.json"):
        load_scene(tmp_path)


@pytest.mark.parametrize("damage", ["not json", '{"version": 99}', '{"version": 1}', "[]"])
def test_damaged_scene_is_refused(scene, tmp_path, damage):
    save_scene(scene, tmp_path)
    (tmp_path / "scene.json").write_text(damage)
    with pytest.raises(InputError):
        load_scene(tmp_path)


def test_missing_mesh_is_refused(scene, tmp_path):
    save_scene(scene, tmp_path)
    (tmp_path / "meshes/red_can.npz").unlink()
    with pytest.raises(InputError, match="cannot be read"):
        load_scene(tmp_path)


def test_scene_json_holds_only_relative_paths(scene, tmp_path):
    save_scene(scene, tmp_path)
    value = json.loads((tmp_path / "scene.json").read_text())
    names = [value["photo"], value["depth"], *(o["mesh"] for o in value["objects"])]
    assert not any(name.startswith("/") or ".." in name for name in names)


def test_depth_images_keep_millimetres(tmp_path):
    depth = np.array([[0.0, 0.5, np.inf], [1.2345, -1.0, 70.0]])
    images.save_depth(tmp_path / "d.png", depth)
    assert np.allclose(images.load_depth(tmp_path / "d.png"), [[0, 0.5, 0], [1.234, 0, 0]], atol=6e-4)


def test_depth_inside_is_the_distance_to_the_nearest_edge():
    from phototwin.scene import depth_inside

    square = np.array([[0.0, 0.0], [2.0, 0.0], [2.0, 1.0], [0.0, 1.0]])
    points = np.array([[[1.0, 0.5], [0.25, 0.5]], [[1.0, 1.0], [1.0, -0.3]]])
    np.testing.assert_allclose(depth_inside(square, points), [[0.5, 0.25], [0.0, -0.3]], atol=1e-12)
