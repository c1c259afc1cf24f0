"""Frames: what stays is the photo bit by bit, what moves takes the photo's light and throws shadows, whoever rendered it."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
from synthetic import make_scene

from phototwin.blend.blend import MOVED_M, STILL_M, blend_frames, make_blender, photo_share
from phototwin.blend.delight import delight_texture
from phototwin.blend.moving import draw_moving, make_moving_parts, trace_moving
from phototwin.blend.paste import PLAIN_SKY, paste_frames, plain_background
from phototwin.blend.plate import make_plate, scene_plate
from phototwin.blend.response import measure_response
from phototwin.errors import InputError
from phototwin.images import load_rgb
from phototwin.kernels.casters import make_casters
from phototwin.kernels.srgb import linear_to_srgb, srgb_to_linear
from phototwin.light import Light, ambient_irradiance, source_irradiance
from phototwin.stage.visuals import BodyVisual

CORNERS = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], np.float32)
BOX = np.array([[0, 1, 3], [0, 3, 2], [4, 6, 7], [4, 7, 5], [0, 4, 5], [0, 5, 1], [2, 3, 7], [2, 7, 6], [0, 2, 6], [0, 6, 4], [1, 5, 7], [1, 7, 3]])  # fmt: skip
ARM_MASK = 2
"""What the mask says of the arm, whose id is 1."""
LAMP = Light(
    np.concatenate([[[0.8, 0.8, 0.8]], np.zeros((8, 3))]),
    np.array([0.0, 0.5, np.sqrt(0.75)]),
    np.full(3, 1.2),
    0.02,
    np.inf,
    np.zeros(3),
)


def block(half_m):
    """A white box as the only body of a robot."""
    corner = CORNERS[BOX]
    normals = np.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0])
    normals = np.repeat(normals / np.linalg.norm(normals, axis=1, keepdims=True), 3, 0).astype(np.float32)
    points = corner.reshape(-1, 3) * np.asarray(half_m, np.float32)
    return BodyVisual("arm", points, np.arange(36, dtype=np.int32).reshape(-1, 3), normals, np.full(3, 0.9))


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    return replace(make_scene(tmp_path_factory.mktemp("scene")), light=LAMP)


@pytest.fixture(scope="module")
def blender(scene):
    moving = make_moving_parts(scene, (block([0.03, 0.03, 0.05]),))
    whole = np.array([0.0, 0.0, scene.camera.width, scene.camera.height])
    return make_blender(scene_plate(scene, scene.camera, whole), moving, scene.light)


def placed(blender, arm_w=None, **objects):
    """Poses of one frame: the arm at a point or away, objects at rest but for those moved by a vector."""
    poses = {name: T.copy() for name, T in blender.moving.at_rest().items()}
    if arm_w is not None:
        poses["arm"] = np.eye(4)[None].copy()
        poses["arm"][0, :3, 3] = arm_w
    for key, shift in objects.items():
        poses[key][0, :3, 3] += shift
    return poses


def test_where_nothing_moved_the_frame_is_the_photo(scene, blender):
    frames = blend_frames(blender, placed(blender))
    assert (frames.rgb[0] == load_rgb(scene.path(scene.photo))).all()
    assert not frames.mask.any() and blend_frames(blender, placed(blender), judge=True).seam[0] == 1.0
    settled = blend_frames(
        blender, placed(blender, green_cube=[0.0003, 0, -0.0002])
    )  # what a simulator's rest is off by
    changed = (settled.rgb[0] != load_rgb(scene.path(scene.photo))).any(-1)
    assert changed.mean() < 0.01


def test_a_thing_that_moved_takes_its_picture_and_its_shadow_along(scene, blender):
    frames = blend_frames(blender, placed(blender, green_cube=[0.0, -0.1, 0.0]))
    plate = blender.plate
    number = 1 + [item.key for item in scene.objects].index("green_cube")
    left = (plate.owners == number) & (frames.mask[0] == 0)
    assert left.any()
    difference = np.abs(frames.rgb[0][left].astype(int) - plate.rgb[left])
    assert np.median(difference) <= 2  # the table without it, but for the new shadow
    others = np.isin(plate.owners, [i for i in range(1, 4) if i != number])
    difference = np.abs(frames.rgb[0][others].astype(int) - plate.photo[others])
    assert (difference <= 3).mean() > 0.95  # less light comes back from where it was


def test_the_arm_darkens_the_table_on_the_side_away_from_the_light(blender):
    """The lamp stands at +Y, so the shadow falls towards -Y; elsewhere the photo keeps its bits."""
    arm_w = np.array([0.45, -0.1, 0.16])
    frames = blend_frames(blender, placed(blender, arm_w))
    plate = blender.plate
    ratio = srgb_to_linear(frames.rgb[0] / 255.0).mean(-1) / np.maximum(
        srgb_to_linear(plate.photo / 255.0).mean(-1), 1e-3
    )
    edge = cv2.dilate(frames.mask[0], np.ones((3, 3), np.uint8)) > 0
    table = ~edge & (plate.owners == 0)
    falls_w = arm_w - LAMP.direction_w * arm_w[2] / LAMP.direction_w[2]
    across = np.array([0.0, 2 * (arm_w[1] - falls_w[1]), 0.0])
    shadow, mirrored = pixel_of(plate, falls_w), pixel_of(plate, falls_w + across)
    assert table[shadow] and ratio[shadow] < 0.75
    assert ratio[mirrored] > 0.85
    untouched = table & (frames.rgb[0] == plate.photo).all(-1)
    assert untouched.mean() > 0.2
    assert ratio[table].max() < 1.1 and ratio[table].min() > 0.02


def pixel_of(plate, point_w):
    from phototwin.frames import invert, project, transform

    u, v = project(plate.camera.K_px, transform(invert(plate.camera.T_world_camera), np.asarray(point_w)))
    return int(v), int(u)


def test_an_unmoved_thing_in_the_arms_shadow_is_its_photo_but_darker(scene, blender):
    cube = next(item for item in scene.objects if item.key == "green_cube")
    arm_w = cube.T_world_object[:3, 3] + 0.15 * LAMP.direction_w
    frames = blend_frames(blender, placed(blender, arm_w))
    top = pixel_of(blender.plate, cube.T_world_object[:3, 3] + [0, 0, cube.size_m[2] / 2])
    if frames.mask[0][top] == ARM_MASK:
        pytest.skip("the arm stands before the cube in this view")
    assert (frames.rgb[0][top] < blender.plate.photo[top]).all()


def test_a_thing_leaves_the_photo_gradually(blender):
    shifts = [0.0, STILL_M, 0.5 * (STILL_M + MOVED_M), MOVED_M, 0.05]
    share = [photo_share(blender, placed(blender, red_can=[d, 0, 0]))[0, 2] for d in shifts]
    np.testing.assert_allclose(share, [1, 1, 0.5, 0, 0], atol=1e-6)
    turned = placed(blender)
    turned["red_can"][0, :3, :3] = turned["red_can"][0, :3, :3] @ np.diag([-1.0, -1.0, 1.0])
    assert photo_share(blender, turned)[0, 2] == 0


def test_what_a_renderer_lit_is_composited_as_it_is(blender):
    poses = placed(blender, [0.45, 0.0, 0.2])
    drawn = draw_moving(blender.moving, poses, blender.plate.camera)
    finished = replace(drawn, color=np.full_like(drawn.color.numpy(), 77), normals_w=None, lit=True)
    frames = blend_frames(blender, poses, finished, keep_raw=True)
    inside = cv2.erode((frames.mask[0] == ARM_MASK).astype(np.uint8), np.ones((3, 3))) > 0
    assert inside.any() and (frames.rgb[0][inside] == 77).all()
    assert frames.raw_rgba is not None and (frames.raw_rgba[0][..., 3] > 0)[inside].all()


def test_noise_is_a_function_of_its_seed_and_stays_on_what_is_drawn(blender):
    noisy = np.random.default_rng(0).normal(0, 4, blender.plate.photo.shape)
    response = measure_response(np.clip(128 + noisy, 0, 255).astype(np.uint8))
    poses = {name: np.repeat(T, 2, 0) for name, T in placed(blender, [0.45, 0.0, 0.2]).items()}
    clean = blend_frames(blender, poses)
    noisy_blender = replace(blender, response=response)
    first = blend_frames(noisy_blender, poses, seeds=np.array([3, 4]))
    again = blend_frames(noisy_blender, poses, seeds=np.array([4, 3]))
    assert (first.rgb[0] == again.rgb[1]).all() and (first.rgb[0] != first.rgb[1]).any()
    away = cv2.dilate((clean.mask[0] > 0).astype(np.uint8), np.ones((5, 5))) == 0
    assert (first.rgb[0][away] == clean.rgb[0][away]).all()


def test_a_moved_camera_shows_no_piece_of_the_photo(blender):
    plate = blender.plate
    moved = make_plate(plate.camera, plate.rgb, plate.depth_m, still=False)
    frames = blend_frames(make_blender(moved, blender.moving, LAMP), placed(blender))
    assert frames.mask.any() and photo_share(make_blender(moved, blender.moving, LAMP), placed(blender)).max() == 0


@pytest.mark.parametrize("name", ["depth", "rgb", "owners"])
def test_a_plate_whose_parts_differ_in_size_is_refused(blender, name):
    plate = blender.plate
    parts = {"rgb": plate.rgb, "depth_m": plate.depth_m, "owners": plate.owners}
    key = {"depth": "depth_m"}.get(name, name)
    parts[key] = parts[key][:-1]
    with pytest.raises(InputError, match=name):
        make_plate(plate.camera, **parts)


def test_light_that_was_put_into_a_texture_comes_out_again(scene):
    """A grey thing shaded by a known light, read as its texture: what comes back is grey all over, by the right factor."""
    cube = next(item for item in scene.objects if item.key == "green_cube")
    mesh, T = cube.mesh, cube.T_world_object
    nothing = make_casters([(mesh.points, mesh.faces)])
    size = 256
    from phototwin.blend.delight import texel_places

    points_w, normals_w, known = texel_places(mesh, (96, 96), T)
    light = replace(LAMP, irradiance=np.array([0.9, 0.7, 0.5]))
    irradiance = ambient_irradiance(light, normals_w) + source_irradiance(light, points_w, normals_w)
    shown = linear_to_srgb(0.35 / np.pi * irradiance)
    texture = np.round(255 * cv2.resize(shown, (size, size), interpolation=cv2.INTER_LINEAR)).astype(np.uint8)
    T_away = np.eye(4)[None].copy()
    T_away[0, 2, 3] = -1e4  # nothing throws a shadow
    colors, factor, _ = delight_texture(mesh, texture, T, scene.camera, light, nothing, T_away, np.ones(1))
    albedo = srgb_to_linear(colors / 255.0) * factor
    seen = normals_w @ (scene.camera.T_world_camera[:3, 3] - T[:3, 3]) > 0.02
    inner = cv2.erode((known & seen).astype(np.uint8), np.ones((5, 5))) > 0
    inner = cv2.resize(inner.astype(np.uint8), (size, size), interpolation=cv2.INTER_NEAREST) > 0
    assert inner.any()
    np.testing.assert_allclose(albedo[inner], 0.35, rtol=0.12)


def test_the_path_traced_reference_fills_the_same_buffers(scene, blender):
    """The arm and the things by Mitsuba in the same light: the same frame, but for light that bounces and a glossy coat."""
    pytest.importorskip("mitsuba")
    camera = replace(scene.camera, K_px=scene.camera.K_px * np.array([[1.0], [150.0 / 153.0], [1.0]]))
    plate = make_plate(camera, blender.plate.rgb, blender.plate.depth_m, still=False)
    view = make_blender(plate, blender.moving, LAMP)
    poses = placed(view, [0.45, -0.1, 0.16])
    traced = trace_moving(blender.moving, poses, camera, None, LAMP, 16, np.array([0]))
    ours, theirs = blend_frames(view, poses), blend_frames(view, poses, traced)
    arm = cv2.erode((ours.mask[0] == ARM_MASK).astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    assert arm.sum() > 100 and (theirs.mask[0][arm] == ARM_MASK).all()
    difference = np.abs(ours.rgb[0][arm].astype(float) - theirs.rgb[0][arm])
    assert np.median(difference) < 16


def test_frames_do_not_depend_on_how_many_threads_make_them(blender):
    one = [placed(blender, [0.45, 0.02 * i, 0.2], red_can=[0.0, 0.01 * i, 0.0]) for i in range(5)]
    poses = {name: np.concatenate([p[name] for p in one]) for name in one[0]}
    for _ in range(2):
        several, alone = (blend_frames(blender, poses, judge=True, workers=w) for w in (3, 1))
        assert (several.rgb == alone.rgb).all() and (several.mask == alone.mask).all()
        assert (several.seam == alone.seam).all()


def test_frames_in_which_nothing_moves_are_drawn_once(blender):
    shifts_m = np.array([0.0, 0.0001, 0.00015, 0.0003, 0.00035, 0.05])
    frames_of = [placed(blender, [0.45, shift, 0.2]) for shift in shifts_m]
    poses = {name: np.concatenate([frame[name] for frame in frames_of]) for name in frames_of[0]}
    grain = np.random.default_rng(0).normal(128, 4, blender.plate.photo.shape)
    noisy = replace(blender, response=measure_response(np.clip(grain, 0, 255).astype(np.uint8)))
    frames = blend_frames(noisy, poses, seeds=np.arange(6), judge=1, keep_raw=True)
    assert frames.rgb.shape[0] == frames.mask.shape[0] == frames.raw_rgba.shape[0] == len(frames.seam) == 6
    # Still frames share what was drawn, each with noise of its own; what moved too far is drawn anew, from the first on.
    for i, first in enumerate([0, 0, 0, 3, 3, 5]):
        alone = blend_frames(noisy, {name: T[first : first + 1] for name, T in poses.items()}, seeds=np.array([i]))
        np.testing.assert_array_equal(frames.rgb[i], alone.rgb[0])
    assert (frames.rgb[0] != frames.rgb[1]).any()


def test_a_turning_thing_is_not_still(blender):
    still, turned = placed(blender, green_cube=[0.0, -0.1, 0.0]), placed(blender, green_cube=[0.0, -0.1, 0.0])
    angle = np.radians(1.0)
    turned["green_cube"][0, :2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]] @ turned[
        "green_cube"
    ][0, :2, :2]
    poses = {name: np.concatenate([still[name], turned[name]]) for name in still}
    frames = blend_frames(blender, poses)
    assert (frames.rgb[0] != frames.rgb[1]).any()


def test_what_is_pasted_stands_where_it_would_be_blended_and_throws_no_shadow(blender):
    """The same outline; around it the photo without its things bit by bit, or one grey under a sky."""
    poses = placed(blender, np.array([0.45, -0.1, 0.16]), green_cube=[0.0, -0.1, 0.0])
    blended, plate = blend_frames(blender, poses), blender.plate
    for plain, behind in ((False, plate.rgb), (True, plain_background(plate))):
        frames = paste_frames(blender, poses, plain, keep_raw=True)
        drawn = frames.mask[0] > 0
        assert (frames.rgb[0][~drawn] == behind[~drawn]).all()
        assert (frames.mask[0] == ARM_MASK).sum() == pytest.approx((blended.mask[0] == ARM_MASK).sum(), rel=0.1)
        assert frames.raw_rgba is not None and ((frames.raw_rgba[0, ..., 3] > 0) >= drawn).all()
    colors = plain_background(plate).reshape(-1, 3)
    near = ~(colors == PLAIN_SKY).all(-1)
    assert near.any() and (np.ptp(colors[near].astype(int), axis=1) <= 1).all()
