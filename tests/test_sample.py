"""The bundled sample agrees with its own ground truth: closed forms first, then a small re-render of its description."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from phototwin.frames import invert, pixel_rays, project, support_depth, transform
from phototwin.images import load_depth, load_ids, load_rgb
from phototwin_tasks.benchmarks.truth_surfaces import object_surfaces, vessel_profile

ROOT = Path(__file__).resolve().parents[1]
SAMPLE = ROOT / "usd_assets/sample"
PANDA_OPENING_M = 0.078
EDGE_PX = 1.5  # masks are of pixel centres and edges are rounded, so outlines agree to about a pixel


@pytest.fixture(scope="module")
def truth():
    return json.loads((SAMPLE / "truth.json").read_text())


@pytest.fixture(scope="module")
def images():
    return load_rgb(SAMPLE / "photo.png"), load_depth(SAMPLE / "depth.png"), load_ids(SAMPLE / "masks.png")


@pytest.fixture(scope="module")
def maker():
    spec = importlib.util.spec_from_file_location("make_sample", ROOT / "scripts/make_sample.py")
    module = importlib.util.module_from_spec(spec)
    import sys

    sys.modules["make_sample"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    yield module
    del sys.modules["make_sample"]


def camera_of(truth):
    return np.array(truth["camera"]["K_px"]), np.array(truth["camera"]["T_world_camera"])


def points_w(truth, images):
    K, T = camera_of(truth)
    depth = images[1]
    return transform(T, pixel_rays(K, depth.shape[1], depth.shape[0]) * depth[..., None])


def test_the_files_are_there_small_and_of_one_size(truth, images):
    camera = json.loads((SAMPLE / "camera.json").read_text())
    assert camera == truth["camera"]
    assert all(image.shape[:2] == (camera["height"], camera["width"]) for image in images)
    assert (SAMPLE / "photo.png").stat().st_size < 900_000
    assert Image.open(SAMPLE / "depth.png").mode.startswith("I")
    T = np.array(camera["T_world_camera"])
    assert np.allclose(T[:3, :3] @ T[:3, :3].T, np.eye(3)) and np.isclose(np.linalg.det(T[:3, :3]), 1)
    assert np.allclose(T[:2, 3], 0) and np.isclose(T[1, 2], 0) and T[0, 2] > 0  # foot of the camera, looking along +X


def test_table_pixels_have_the_depth_of_the_plane(truth, images):
    K, T = camera_of(truth)
    _, depth, ids = images
    plane = support_depth(K, T, depth.shape[1], depth.shape[0])
    height = points_w(truth, images)[..., 2]
    table = (ids == 0) & (np.abs(height) < 0.002) & (depth < 1.2)
    assert table.mean() > 0.5
    assert np.abs(depth - plane)[table].max() <= 0.00051  # half a millimetre of rounding
    assert (depth > 0).all()  # every ray meets the table, the wall or an object


def test_masks_match_the_objects_names_and_places(truth, images):
    K, T = camera_of(truth)
    ids = images[2]
    assert set(np.unique(ids)) == set(range(len(truth["objects"]) + 1))
    seen = points_w(truth, images)
    for i, item in enumerate(truth["objects"]):
        half = np.array(item["size_m"]) / 2
        T_world_object = np.array(item["T_world_object"])
        inside = transform(invert(T_world_object), seen[ids == i + 1])
        assert (np.abs(inside) <= half + 0.0015).all(), item["name"]  # depth is in millimetres
        corners_o = np.array(np.meshgrid(*zip(-half, half, strict=True))).reshape(3, -1).T
        outline = project(K, transform(invert(T) @ T_world_object, corners_o))
        rows, columns = np.nonzero(ids == i + 1)
        pixels = np.stack([columns + 0.5, rows + 0.5], -1)
        low, high = pixels.min(0), pixels.max(0)
        assert (low >= outline.min(0) - EDGE_PX).all() and (high <= outline.max(0) + EDGE_PX).all(), item["name"]
        if item["shape"] == "box":  # its corners are where its outline ends
            assert np.abs(low - outline.min(0)).max() < 2 * EDGE_PX
            assert np.abs(high - outline.max(0)).max() < 2 * EDGE_PX
        assert np.isclose(T_world_object[2, 3], half[2]), f"{item['name']} does not stand on the table"


def test_a_robot_can_work_on_it(truth, images):
    """Graspable sizes, room between things, nothing cut by the border, and a free place for the base in view."""
    ids, seen = images[2], points_w(truth, images)
    border = np.concatenate([ids[0], ids[-1], ids[:, 0], ids[:, -1]])
    assert not border.any()
    clouds = [seen[ids == i + 1][:, :2] for i in range(len(truth["objects"]))]
    for i, a in enumerate(clouds):
        for b in clouds[i + 1 :]:
            gap = np.linalg.norm(a[::3, None] - b[None, ::3], axis=-1).min()
            assert gap >= 0.06
    for item in truth["objects"]:
        grip = item["wall_m"] if item["shape"] == "bowl" else min(item["size_m"][:2])
        assert grip <= PANDA_OPENING_M
    furthest = max(cloud[:, 0].max() for cloud in clouds)
    table = seen[(ids == 0) & (np.abs(seen[..., 2]) < 0.002)]
    behind = table[(np.abs(table[:, 1]) < 0.2)][:, 0].max() - furthest
    assert behind >= 0.35


def test_colours_are_those_of_the_names(truth, images):
    rgb, _, ids = images
    hues = {"red": (340, 20), "yellow": (44, 65), "green": (90, 160), "blue": (200, 250)}
    hsv = np.asarray(Image.fromarray(rgb).convert("HSV")).astype(float) * [360 / 255, 1 / 255, 1 / 255]
    for i, item in enumerate(truth["objects"]):
        hue, saturation, value = np.median(hsv[ids == i + 1], axis=0)
        word = item["name"].split()[0]
        if word == "white":
            assert saturation < 0.25 and value > 0.55
            continue
        low, high = hues[word]
        assert saturation > 0.4
        assert low <= hue <= high if low < high else hue >= low or hue <= high, (item["name"], hue)
    assert rgb[ids == 0].std() > 10 and (rgb == 255).all(-1).mean() < 0.01  # texture, and no burnt-out area


def test_the_truth_is_what_the_script_describes(truth, maker):
    described = json.loads(json.dumps(maker.describe(truth["seed"])))
    assert {k: v for k, v in truth.items() if k != "samples"} == described
    assert truth["samples"] >= 256


def test_meshes_are_closed_and_fill_their_boxes(truth):
    for item in truth["objects"]:
        low, high = np.full(3, np.inf), np.full(3, -np.inf)
        for points, normals, _, faces in object_surfaces(item):
            low, high = np.minimum(low, points.min(0)), np.maximum(high, points.max(0))
            a, b, c = points[faces].swapaxes(0, 1)
            cross = np.cross(b - a, c - a)
            solid = np.linalg.norm(cross, axis=1) > 1e-10
            assert (np.einsum("ij,ij->i", cross, normals[faces].sum(1))[solid] > 0).all(), item["name"]
            assert np.einsum("ij,ij->i", a, cross).sum() > 0  # six times the volume
        assert np.allclose(high - low, item["size_m"], atol=0.0015), (item["name"], high - low)


@pytest.mark.parametrize("shape", ["bowl", "mug"])
def test_vessel_profiles_do_not_cross_themselves(shape):
    """Out, up, over the rim, down and back to the axis: heights rise to one maximum, radii never jump."""
    profile = vessel_profile(shape, 0.05, 0.06, 0.004)
    top = profile[:, 1].argmax()
    assert (np.diff(profile[: top + 1, 1]) >= -1e-12).all() and (np.diff(profile[top:, 1]) <= 1e-12).all()
    assert profile[0, 0] == profile[-1, 0] == 0 and np.isclose(profile[:, 1].max(), 0.06)
    assert np.abs(np.diff(profile[15:-10], axis=0)).max() < 0.005
    before, after = profile[top - 4 : top], profile[top + 1 : top + 5][::-1]
    assert (before[:, 0] > after[:, 0]).all()


def test_a_small_render_of_the_truth_is_the_photo(truth, images, maker):
    pytest.importorskip("mitsuba")
    small = maker.render(truth, 64, 16)
    photo = images[0].astype(float) / 255
    linear = np.where(photo <= 0.04045, photo / 12.92, ((photo + 0.055) / 1.055) ** 2.4)
    height, width = small.shape[:2]
    blocks = linear.reshape(height, linear.shape[0] // height, width, linear.shape[1] // width, 3).mean((1, 3))
    error = np.abs(np.clip(small, 0, 1) - blocks)
    assert np.median(error) < 0.02
    assert abs(small.mean() / blocks.mean() - 1) < 0.05
    correlation = np.corrcoef(np.clip(small, 0, 1).ravel(), blocks.ravel())[0, 1]
    assert correlation > 0.9
