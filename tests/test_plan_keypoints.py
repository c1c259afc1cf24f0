"""Keypoints: where they are on shapes whose points are known, and that a photo's features are lifted to the right surface."""

from dataclasses import replace

import numpy as np
import pytest
import tiny_models
import trimesh
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic import box_mesh, lathe, make_bowl, make_can, make_cube, make_scene, planar_st

from phototwin.errors import InputError, PerceptionError
from phototwin.frames import invert, project, transform
from phototwin.images import load_ids, load_rgb, save_ids
from phototwin.plan.keypoints import find_keypoints
from phototwin.plan.keypoints_seen import APART_M, choose_keypoints, cluster
from phototwin.scene import Mesh


def merged(*parts):
    """Points and faces of several closed meshes as one."""
    points, faces, count = [], [], 0
    for p, f in parts:
        points.append(p)
        faces.append(f + count)
        count += len(p)
    return np.concatenate(points), np.concatenate(faces)


def box(size, at):
    points, faces, _ = box_mesh(np.array(size))
    return points + np.float32(at), faces


def make(item, points, faces, turn_rad=0.0):
    """``item`` with another mesh, turned about the vertical and moved so that its box is around the origin; and that motion."""
    c, s = np.cos(turn_rad), np.sin(turn_rad)
    R = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
    points = points @ R.T
    shift = -0.5 * (points.max(0) + points.min(0))
    points = (points + shift).astype(np.float32)
    mesh = Mesh(points, faces.astype(np.int32), planar_st(points, faces))
    return replace(item, mesh=mesh, size_m=np.ptp(points, axis=0).astype(float)), lambda p: np.asarray(p) @ R.T + shift


R_MUG, H_MUG, WALL = 0.04, 0.10, 0.005
BAR = np.array([0.068, 0.0, 0.0])


def mug(turn_rad=0.0):
    """A lathe mug with a handle of three bars towards +X, before the turn."""
    h = H_MUG / 2
    profile = [(0.0, -h), (R_MUG, -h), (R_MUG, h), (R_MUG - WALL, h), (R_MUG - WALL, WALL - h), (0.0, WALL - h)]
    arms = [box((0.032, 0.012, 0.010), (0.052, 0.0, z)) for z in (-0.025, 0.025)]
    points, faces = merged(lathe(np.array(profile), 64), *arms, box((0.010, 0.012, 0.060), BAR))
    return make(make_bowl(), points, faces, turn_rad)


@pytest.mark.parametrize("turn_rad", [0.0, 0.7, 2.0, -2.6])
def test_a_mugs_handle_rim_and_opening(turn_rad):
    item, moved = mug(turn_rad)
    found = find_keypoints(item)
    assert np.linalg.norm(found.point("handle") - moved(BAR)) < 0.004
    way = found.normals_o[found.names.index("handle")]
    assert way @ (moved(BAR) - moved(np.zeros(3))) / np.linalg.norm(BAR) > 0.99
    axis = moved(np.zeros(3))
    assert np.linalg.norm(found.point("top") - axis - (0, 0, H_MUG / 2)) < 0.002
    assert np.linalg.norm(found.point("inside") - axis + (0, 0, H_MUG / 2 - WALL)) < 0.002
    rim = np.array([found.point(name) for name in found.names if name.startswith("rim")])
    assert len(rim) == 8
    assert np.abs(np.hypot(*(rim - axis)[:, :2].T) - (R_MUG - WALL / 2)).max() < 0.002
    assert np.abs(rim[:, 2] - axis[2] - H_MUG / 2).max() < 1e-6
    assert "spout" not in found.names and not {"tip", "end", "end 1"} & set(found.names)


def test_the_handles_side_is_left_out():
    names = find_keypoints(mug()[0]).names
    assert {"side 2", "side 3", "side 4"} <= set(names) and "side 1" not in names


@settings(max_examples=20, deadline=None)
@given(st.floats(0.03, 0.15), st.floats(0.02, 0.2), st.floats(0.002, 0.006))
def test_the_rim_of_any_bowl_is_the_middle_of_its_wall(radius, height, wall):
    item = make_bowl(radius, height, wall)
    found = find_keypoints(item)
    rim = np.array([found.point(f"rim {k}") for k in range(1, 9)])
    assert np.abs(np.hypot(*rim[:, :2].T) - (radius - wall / 2)).max() < 0.002
    assert "handle" not in found.names and "spout" not in found.names


def test_a_pitcher_has_a_spout_opposite_to_its_handle():
    item, moved = mug()
    points = item.mesh.points.copy()
    local = points - np.float32(moved(np.zeros(3)))
    angle = np.arctan2(local[:, 1], local[:, 0])
    at_rim = (local[:, 2] > H_MUG / 2 - 0.001) & (np.hypot(local[:, 0], local[:, 1]) < R_MUG + 0.001)
    pull = np.where(at_rim, 0.015 * np.clip(np.cos((np.abs(angle) - np.pi) * 4), 0, 1) * (np.abs(angle) > 2.7), 0)
    points[:, 0] -= pull.astype(np.float32)
    spouted = replace(item, mesh=replace(item.mesh, points=points))
    found = find_keypoints(spouted)
    assert found.point("spout")[0] < moved((-R_MUG, 0, 0))[0] and abs(found.point("spout")[1]) < 0.004
    assert found.normals_o[found.names.index("spout")][0] < -0.9 and "handle" in found.names


def test_a_cube_and_a_can_by_their_middles():
    for item, half in ((make_cube(), (0.02, 0.02, 0.02)), (make_can(), (0.03, 0.03, 0.045))):
        found = find_keypoints(item)
        expected = {"top": (0, 0, half[2]), "bottom": (0, 0, -half[2]), "side 1": (half[0], 0, 0)}
        expected |= {"side 2": (0, half[1], 0), "side 3": (-half[0], 0, 0), "side 4": (0, -half[1], 0)}
        assert set(found.names) == set(expected)
        for name, point in expected.items():
            assert np.linalg.norm(found.point(name) - point) < 0.001
            normal = found.normals_o[found.names.index(name)]
            assert normal @ np.array(point) / np.linalg.norm(point) > 0.99


def test_a_lying_spoon_has_a_tip_and_a_thicker_end():
    points, faces = merged(box((0.2, 0.012, 0.01), (0, 0, 0)), box((0.05, 0.05, 0.012), (0.1, 0, 0)))
    found = find_keypoints(make(make_cube(), points, faces)[0])
    assert found.point("end")[0] > 0.1 and found.point("tip")[0] < -0.1
    stick = find_keypoints(make(make_cube(), *box((0.2, 0.02, 0.02), (0, 0, 0)))[0])
    assert np.allclose(stick.point("end 1"), (0.1, 0, 0), atol=1e-3) and np.allclose(
        stick.point("end 2"), (-0.1, 0, 0), atol=1e-3
    )
    standing = find_keypoints(make(make_cube(), *box((0.02, 0.02, 0.2), (0, 0, 0)))[0])
    assert not {"tip", "end", "end 1"} & set(standing.names)


def test_a_bent_things_top_is_on_it():
    """The middle of a bracket's box is outside of it."""
    points, faces = merged(box((0.1, 0.01, 0.02), (0.05, 0, 0)), box((0.01, 0.1, 0.02), (0, 0.05, 0)))
    item, _ = make(make_cube(), points, faces)
    found = find_keypoints(item)
    assert abs(found.point("top")[2] - item.mesh.points[:, 2].max()) < 1e-3
    judge = trimesh.Trimesh(item.mesh.points, item.mesh.faces, process=False)
    assert np.abs(trimesh.proximity.closest_point_naive(judge, found.points_o)[1]).max() < 0.002


def test_points_are_on_the_surface_and_normals_are_unit():
    judge_of = lambda mesh: trimesh.Trimesh(mesh.points, mesh.faces, process=False)  # noqa: E731
    for item in (make_cube(), make_bowl(), make_can(), mug(1.0)[0]):
        found = find_keypoints(item)
        assert len(set(found.names)) == len(found.names)
        np.testing.assert_allclose(np.linalg.norm(found.normals_o, axis=1), 1.0, atol=1e-6)
        hung = [i for i, name in enumerate(found.names) if not (item.hollow and name == "top") and name != "handle"]
        distance = trimesh.proximity.closest_point_naive(judge_of(item.mesh), found.points_o[hung])[1]
        assert distance.max() < 0.003


def test_names_that_are_not_there_are_refused_with_the_choices():
    with pytest.raises(InputError, match=r"no keypoint 'handle'\. Choose one of top, bottom, side 1"):
        find_keypoints(make_cube()).point("handle")


@pytest.mark.parametrize("registers", [0, 3])
def test_seen_keypoints_are_on_the_surface_that_the_photo_shows(tmp_path, registers):
    scene = make_scene(tmp_path / "twin")
    rgb = load_rgb(scene.path(scene.photo))
    ids = load_ids(scene.path(scene.masks))
    finder = choose_keypoints(f"dinov2={tiny_models.dinov2(tmp_path / 'model', registers)}")
    assert choose_keypoints("geometry")(scene.objects[0], scene, rgb, 0) is find_keypoints(scene.objects[0])
    for number, item in enumerate(scene.objects, 1):
        found, again = finder(item, scene, rgb, 1), finder(item, scene, rgb, 1)
        np.testing.assert_array_equal(found.points_o, again.points_o)
        assert found.names == tuple(f"part {k + 1}" for k in range(len(found.names))) and 1 <= len(found.names) <= 5
        points_w = transform(item.T_world_object, found.points_o)
        px = project(scene.camera.K_px, transform(invert(scene.camera.T_world_camera), points_w)).astype(int)
        assert (ids[px[:, 1], px[:, 0]] == number).all()
        judge = trimesh.Trimesh(item.mesh.points, item.mesh.faces, process=False)
        assert trimesh.proximity.closest_point_naive(judge, found.points_o)[1].max() < 1e-4
        to_camera = scene.camera.T_world_camera[:3, 3] - points_w
        facing = (found.normals_o @ item.T_world_object[:3, :3].T * to_camera).sum(1)
        assert (facing > 0).all()
        apart = np.linalg.norm(found.points_o[:, None] - found.points_o, axis=2)[~np.eye(len(found.names), dtype=bool)]
        assert (apart > APART_M).all()


def test_what_the_photo_does_not_show_is_refused(tmp_path):
    scene = make_scene(tmp_path / "twin")
    save_ids(scene.path(scene.masks), np.zeros((120, 160), np.uint8))
    finder = choose_keypoints(f"dinov2={tiny_models.dinov2(tmp_path / 'model')}")
    with pytest.raises(PerceptionError, match="shows too little of the green cube"):
        finder(scene.objects[0], scene, load_rgb(scene.path(scene.photo)), 0)


def test_missing_weights_and_unknown_names(monkeypatch, tmp_path):
    monkeypatch.delenv("PHOTOTWIN_MODELS", raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    for name in ("dinov2", f"dinov2={tmp_path}"):
        with pytest.raises(InputError, match="hf download facebook/dinov2-small"):
            choose_keypoints(name)
    with pytest.raises(InputError, match="Unknown keypoints 'corners'"):
        choose_keypoints("corners")


def test_clusters_find_parts_that_look_alike_and_the_seed_decides():
    rng = np.random.default_rng(0)
    middles = np.array([(0.0, 0, 0), (0.1, 0, 0), (0, 0.1, 0)])
    part = np.repeat([0, 1, 2], (50, 30, 20))
    points = middles[part] + rng.normal(0, 0.005, (100, 3))
    looks = 10 * np.eye(8)[part] + rng.normal(0, 0.5, (100, 8))
    for seed in range(5):
        chosen = cluster(looks, points, 3, seed)
        assert part[chosen].tolist() == [0, 1, 2]  # the largest first
        assert np.linalg.norm(points[chosen] - middles, axis=1).max() < 0.006
        np.testing.assert_array_equal(chosen, cluster(looks, points, 3, seed))
    assert len(cluster(np.zeros((10, 4)), np.zeros((10, 3)), 3, 0)) == 1
