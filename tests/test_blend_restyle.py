"""What attempts draw of light and looks changes the pixels that it is about, as much as it says, and no others."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
from synthetic import make_scene
from test_blend_frames import ARM_MASK, LAMP, block, placed

from phototwin.blend.blend import blend_frames, make_blender
from phototwin.blend.moving import make_moving_parts
from phototwin.blend.plate import scene_plate
from phototwin.blend.restyle import Style, change_light, paint_robot, restyle_plate, support_share
from phototwin.images import load_rgb
from phototwin.kernels.srgb import srgb_to_linear
from phototwin.light import ambient_irradiance, source_irradiance
from phototwin.pattern import KINDS, pattern_gain

ONES, ZEROS = np.ones(3), np.zeros(3)
ARM_W = np.array([0.42, 0.16, 0.16])


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    return replace(make_scene(tmp_path_factory.mktemp("scene")), light=LAMP)


@pytest.fixture(scope="module")
def still(scene):
    moving = make_moving_parts(scene, (block([0.03, 0.03, 0.05]),))
    whole = np.array([0.0, 0.0, scene.camera.width, scene.camera.height])
    return make_blender(scene_plate(scene, scene.camera, whole), moving, scene.light)


def linear(codes):
    return srgb_to_linear(np.asarray(codes) / 255.0)


def frame(scene, still, style=None, light=None, gain=None):
    light = light or still.light
    plate = restyle_plate(still.plate, scene.support, style or Style(), still.light, light)
    moving = still.moving if gain is None else paint_robot(still.moving, gain)
    blender = make_blender(plate, moving, light)
    frames = blend_frames(blender, placed(still, ARM_W))
    return frames.rgb[0], frames.mask[0], plate


def test_nothing_set_leaves_every_byte_of_the_background(scene, still):
    plate = restyle_plate(still.plate, scene.support, Style(), still.light, still.light)
    assert np.array_equal(plate.rgb, still.plate.rgb) and not plate.still
    brighter = change_light(still.light, ZEROS, 2.0 * ONES, 1.5)
    plate = restyle_plate(still.plate, scene.support, Style(), still.light, brighter)
    assert np.array_equal(plate.rgb, still.plate.rgb), "the photo follows the light only where light_on_photo says so"
    rgb, mask, _ = frame(scene, still, light=brighter)
    lit_rgb, lit_mask, _ = frame(scene, still)
    assert np.array_equal(mask, lit_mask)
    untouched = (mask == 0) & (lit_rgb == still.plate.rgb).all(-1) & (rgb == still.plate.rgb).all(-1)
    assert untouched.mean() > 0.5


def test_twice_the_light_shows_the_robot_twice_as_bright(scene, still):
    dim = change_light(still.light, ZEROS, 0.4 * ONES, 1.0)
    bright = change_light(still.light, ZEROS, 0.8 * ONES, 1.0)
    (one, mask, _), (two, _, _) = frame(scene, still, light=dim), frame(scene, still, light=bright)
    arm = mask == ARM_MASK
    assert arm.sum() > 100
    ratio = linear(two)[arm] / np.maximum(linear(one)[arm], 1e-6)
    assert np.abs(np.median(ratio, 0) - 2.0).max() < 0.05


def test_a_tint_of_the_paint_shows_in_its_channel_of_the_robot_alone(scene, still):
    dim = change_light(still.light, ZEROS, 0.4 * ONES, 1.0)
    plain, mask, _ = frame(scene, still, light=dim)
    red, again, _ = frame(scene, still, light=dim, gain=np.array([1.0, 0.5, 0.5]))
    assert np.array_equal(mask, again)
    arm = mask == ARM_MASK
    inside = arm & np.roll(arm, 1, 0) & np.roll(arm, -1, 0) & np.roll(arm, 1, 1) & np.roll(arm, -1, 1)
    ratio = np.median(linear(red)[inside] / linear(plain)[inside], 0)
    assert np.abs(ratio - [1.0, 0.5, 0.5]).max() < 0.05
    away = cv2.dilate(arm.astype(np.uint8), np.ones((3, 3), np.uint8)) == 0  # edges are soft
    assert np.array_equal(red[away], plain[away])


def test_a_turned_source_throws_the_shadow_the_other_way(scene, still):
    """The lamp stands at +Y; turned about X to -Y, the table beside the arm darkens on the other side."""
    turned = change_light(still.light, np.array([np.pi / 3, 0.0, 0.0]), ONES, 1.0)
    assert np.allclose(turned.direction_w, [0.0, -0.5, np.sqrt(0.75)])
    assert np.array_equal(turned.sh, still.light.sh) and np.array_equal(turned.irradiance, still.light.irradiance)
    (before, mask, _), (after, _, _) = frame(scene, still), frame(scene, still, light=turned)
    where_y = still.plate.points_w[..., 1]
    step = round(mask.shape[0] / where_y.shape[0])
    rows = slice(step // 2, None, step)
    free = mask[rows, rows] == 0
    lost = [
        np.where(free, (still.plate.rgb[rows, rows].astype(float) - x[rows, rows]).mean(-1), 0.0)
        for x in (before, after)
    ]
    middle = [(loss * where_y).sum() / loss.sum() for loss in lost]
    assert middle[0] < middle[1] - 0.05


def test_the_photo_follows_the_light_as_its_surface_would(scene, still):
    turned = change_light(still.light, np.array([0.5, 0.0, 0.0]), np.array([0.9, 0.8, 0.7]), 1.2)
    plate = restyle_plate(still.plate, scene.support, Style(light_on_photo=1.0), still.light, turned)
    up = np.array([0.0, 0.0, 1.0])
    all_light = [ambient_irradiance(x, up) + source_irradiance(x, ZEROS, up) for x in (still.light, turned)]
    ratio = linear(plate.rgb) / linear(still.plate.rgb)
    assert np.abs(np.median(ratio, (0, 1)) - all_light[1] / all_light[0]).max() < 0.02


def test_table_and_background_are_told_apart(scene, still):
    """A plate whose upper rows show a wall half a metre behind the table."""
    depth = still.plate.depth_m.copy()
    depth[:30] = depth[30].mean() * 0.7
    walled = replace(still.plate, depth_m=depth)
    share = support_share(scene.camera, depth, scene.support)
    assert share[:26].max() < 0.05 and share[40:].min() > 0.95
    before = linear(still.plate.rgb)
    table = restyle_plate(walled, scene.support, Style(table_rgb=(0.5, 0.5, 0.5)), still.light, still.light)
    assert np.array_equal(table.rgb[:26], still.plate.rgb[:26])
    assert np.abs(np.median(linear(table.rgb[40:]) / before[40:]) - 0.5) < 0.02
    behind = restyle_plate(walled, scene.support, Style(background_rgb=(1.0, 0.5, 0.5)), still.light, still.light)
    assert np.array_equal(behind.rgb[40:], still.plate.rgb[40:])
    assert np.abs(np.median(linear(behind.rgb[:26]) / before[:26], (0, 1)) - [1.0, 0.5, 0.5]).max() < 0.02
    picture = np.zeros((20, 30, 3), np.uint8)
    picture[..., 2] = 200
    swapped = restyle_plate(walled, scene.support, Style(picture=picture), still.light, still.light)
    assert (swapped.rgb[:26] == [0, 0, 200]).all() and np.array_equal(swapped.rgb[40:], still.plate.rgb[40:])
    blurred = restyle_plate(walled, scene.support, Style(blur=0.02), still.light, still.light)
    assert np.array_equal(blurred.rgb[40:], still.plate.rgb[40:])
    edges = [np.abs(np.diff(x[:24].astype(float), axis=1)).mean() for x in (blurred.rgb, still.plate.rgb)]
    assert edges[0] < 0.6 * edges[1]


def test_patterns_have_their_contrast_and_lie_still_in_the_world(scene, still):
    rng = np.random.default_rng(0)
    points = rng.uniform(-1, 1, (20000, 3))
    kinds = set()
    for seed in range(30):
        gain = pattern_gain(points, 0.08, 0.3, seed)
        assert gain.min() >= 0.7 and gain.max() <= 1.3 and np.ptp(gain) > 0.3
        assert np.array_equal(gain, pattern_gain(points, 0.08, 0.3, seed))
        kinds.add(KINDS[int(np.random.default_rng(seed).integers(len(KINDS)))])
    assert kinds == set(KINDS)
    assert (pattern_gain(points, 0.08, 0.0, 3) == 1.0).all()
    plate = restyle_plate(still.plate, scene.support, Style(pattern=0.3, pattern_seed=4), still.light, still.light)
    shown = (linear(plate.rgb) / linear(still.plate.rgb)).mean(-1)[::4, ::4]
    assert np.ptp(shown) > 0.3


def test_what_has_moved_is_not_in_the_restyled_photo_any_more(scene, still):
    plate = restyle_plate(still.plate, scene.support, Style(table_rgb=(0.8, 0.8, 0.8)), still.light, still.light)
    blender = make_blender(plate, still.moving, still.light)
    frames = blend_frames(blender, placed(still))
    assert {2, 3, 4} <= set(np.unique(frames.mask[0]) - 1), "objects at rest are drawn"
    assert not np.array_equal(frames.rgb[0], load_rgb(scene.path(scene.photo)))
