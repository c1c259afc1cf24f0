"""A photo without depth: camera, gravity, scale and masks; rendered tables whose truth is known, and the real captures."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from phototwin.errors import InputError, PerceptionError
from phototwin.frames import make_T, pixel_rays, project, transform
from phototwin.images import load_rgb
from phototwin.perceive.rgb import ASSUMED_HEIGHT_M, RgbConfig, perceive_rgb
from phototwin.perceive.segment import segment_photo
from phototwin.perceive.vanishing import camera_rotation, centred_K, pitch_roll
from phototwin.scene import ObjectHint, Photo

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
LIGHT = np.array([0.4, -0.3, 0.87])
LIGHT = LIGHT / np.linalg.norm(LIGHT)


def hit_sphere(origin, direction, center, radius):
    offset = origin - center
    b = (direction * offset).sum(-1)
    c = (offset * offset).sum(-1) - radius**2
    root = b * b - c
    t = -b - np.sqrt(np.maximum(root, 0))
    t = np.where((root > 0) & (t > 1e-4), t, np.inf)
    point = origin + np.where(np.isfinite(t), t, 0)[..., None] * direction
    return t, (point - center) / radius


def hit_box(origin, direction, center, half):
    with np.errstate(divide="ignore", invalid="ignore"):
        near = (center - half - origin) / direction
        far = (center + half - origin) / direction
    low, high = np.minimum(near, far), np.maximum(near, far)
    t = low.max(-1)
    t = np.where((t < high.min(-1)) & (t > 1e-4), t, np.inf)
    axis = low.argmax(-1)
    normal = -np.sign(np.take_along_axis(direction, axis[..., None], -1)) * np.eye(3)[axis]
    return t, normal


def render(objects, table_rgb, T_world_camera, K_px, width, height, rng, texture=0.04, noise=2.0):
    """A path-free ray caster: Lambert + ambient + hard shadows on a textured table. Returns rgb and masks (N, H, W)."""
    rays = pixel_rays(K_px, width, height) @ T_world_camera[:3, :3].T
    direction = rays / np.linalg.norm(rays, axis=-1, keepdims=True)
    origin = np.broadcast_to(T_world_camera[:3, 3], direction.shape)
    t_best = -origin[..., 2] / np.minimum(direction[..., 2], -1e-6)
    normal = np.broadcast_to([0.0, 0.0, 1.0], direction.shape).copy()
    owner = np.full(t_best.shape, -1)
    for i, (hit, args, _) in enumerate(objects):
        t, n = hit(origin, direction, *args)
        closer = t < t_best
        t_best, owner = np.where(closer, t, t_best), np.where(closer, i, owner)
        normal[closer] = n[closer]
    point = origin + t_best[..., None] * direction
    lit = np.ones(t_best.shape)
    for hit, args, _ in objects:
        lit[np.isfinite(hit(point + 2e-3 * normal, np.broadcast_to(LIGHT, point.shape), *args)[0])] = 0.0
    grain = sum(np.sin(point[..., :2] @ rng.normal(0, 90 * k, 2) + rng.uniform(0, 6)) for k in (1, 2, 4)) / 3
    albedo = np.asarray(table_rgb) * (1 + texture * grain[..., None])
    for i, (_, _, color) in enumerate(objects):
        albedo = np.where((owner == i)[..., None], color, albedo)
    falloff = 1 / (1 + 0.4 * ((point[..., :2] - [0.6, 0.2]) ** 2).sum(-1))
    shade = (0.45 + 0.6 * lit * np.maximum(normal @ LIGHT, 0)) * falloff
    rgb = 255 * np.clip(albedo * shade[..., None], 0, 1) ** (1 / 2.2) + rng.normal(0, noise, albedo.shape)
    masks = np.stack([owner == i for i in range(len(objects))])
    return np.clip(cv2.GaussianBlur(rgb, (0, 0), 0.6), 0, 255).astype(np.uint8), masks


def table_scene(seed, width=480, height=360):
    """Two or three boxes and spheres of colours unlike the table's, apart from each other."""
    rng = np.random.default_rng(seed)
    table = rng.uniform(0.15, 0.6) * (1 + rng.uniform(-0.3, 0.3, 3))
    objects, places = [], []
    while len(objects) < 2 + seed % 2:
        x, y, size = rng.uniform(0.45, 0.75), rng.uniform(-0.22, 0.22), rng.uniform(0.02, 0.045)
        hue = cv2.cvtColor(np.uint8([[[rng.integers(0, 180), 220, rng.integers(120, 255)]]]), cv2.COLOR_HSV2RGB)[0, 0]
        color = (hue / 255.0) ** 2.2
        far = all(np.hypot(x - px, (y - py)) > 0.16 for px, py in places)
        if not far or np.linalg.norm(color - table) < 0.3:
            continue
        places.append((x, y))
        if rng.uniform() < 0.5:
            objects.append((hit_sphere, (np.array([x, y, size]), size), color))
        else:
            half = np.array([size, size * rng.uniform(0.6, 1.4), size])
            objects.append((hit_box, (np.array([x, y, half[2]]), half), color))
    T = make_T(camera_rotation(np.radians(38)), np.array([0.0, 0.0, 0.45]))
    rgb, masks = render(objects, table, T, centred_K(width * 0.95, width, height), width, height, rng)
    return rgb, masks


def iou(a, b):
    return (a & b).sum() / max((a | b).sum(), 1)


@pytest.mark.parametrize("seed", [2, 4, 7])
def test_every_object_of_a_rendered_table_is_found_whole_or_the_user_is_asked(seed):
    rgb, masks = table_scene(seed)
    try:
        found = segment_photo(rgb).masks
    except PerceptionError as error:
        assert "--objects" in str(error)
        return
    assert len(found) == len(masks)
    for mask in found:
        assert max(iou(mask, true) for true in masks) >= 0.85


@pytest.mark.parametrize("kind", ["box", "point", "mask"])
def test_a_hint_selects_its_object_and_carries_its_name(kind):
    rgb, masks = table_scene(1)
    true = masks[0]
    v, u = np.nonzero(true)
    hint = {
        "box": ObjectHint("it", box_px=np.array([u.min(), v.min(), u.max() + 1, v.max() + 1.0])),
        "point": ObjectHint("it", point_px=np.array([u.mean() + 0.5, v.mean() + 0.5])),
        "mask": ObjectHint("it", mask=true),
    }[kind]
    found = segment_photo(rgb, (hint,))
    assert found.names == ("it",) and len(found.masks) == 1
    assert iou(found.masks[0], true) >= 0.87
    assert not (found.support_mask & found.masks[0]).any()


def test_masks_are_ordered_from_left_to_right_and_disjoint():
    rgb, masks = table_scene(3)
    hints = tuple(ObjectHint(str(i), mask=mask) for i, mask in enumerate(masks))
    found = segment_photo(rgb, hints)
    centers = [np.nonzero(mask)[1].mean() for mask in found.masks]
    assert centers == sorted(centers)
    assert [np.nonzero(masks[int(name or "")])[1].mean() for name in found.names] == pytest.approx(centers, abs=1)
    assert found.masks.sum(0).max() == 1


def test_nothing_on_the_table_or_no_table_asks_for_a_hint():
    rng = np.random.default_rng(0)
    empty = np.clip(rng.normal(130, 4, (240, 320, 3)), 0, 255).astype(np.uint8)
    with pytest.raises(PerceptionError, match="--objects"):
        segment_photo(empty)
    with pytest.raises(PerceptionError, match="--objects"):
        segment_photo(rng.integers(0, 255, (240, 320, 3), np.uint8))


def test_a_shadow_and_a_lamp_streak_alone_are_no_objects():
    rng = np.random.default_rng(1)
    rgb = np.full((360, 480, 3), (150, 120, 90), float)
    shadow = np.zeros((360, 480), np.float32)
    cv2.circle(shadow, (180, 200), 40, 1.0, -1)
    rgb *= 1 - 0.4 * cv2.GaussianBlur(shadow, (0, 0), 4)[..., None]
    cv2.line(rgb, (260, 250), (420, 262), (250, 248, 245), 5)
    rgb = np.clip(rgb + rng.normal(0, 2, rgb.shape), 0, 255).astype(np.uint8)
    with pytest.raises(PerceptionError, match="Nothing stands out"):
        segment_photo(rgb)


def test_a_hint_on_bare_table_is_refused_by_name():
    rgb, masks = table_scene(2)
    row, column = np.argwhere(~cv2.dilate(masks.any(0).astype(np.uint8), np.ones((61, 61))).astype(bool))[-5000]
    with pytest.raises(PerceptionError, match="'ghost'"):
        segment_photo(rgb, (ObjectHint("ghost", point_px=np.array([column, row], float)),))


def test_a_large_photo_gets_masks_of_its_own_size():
    scale = 3.0
    rgb, masks = table_scene(1)
    size = (round(rgb.shape[1] * scale), round(rgb.shape[0] * scale))
    hints = []
    for true in masks:
        v, u = np.nonzero(true)
        hints.append(ObjectHint(None, box_px=scale * np.array([u.min(), v.min(), u.max() + 1, v.max() + 1.0])))
    found = segment_photo(cv2.resize(rgb, size, interpolation=cv2.INTER_LINEAR), tuple(hints))
    for true in masks:
        big = cv2.resize(true.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST) > 0
        assert max(iou(mask, big) for mask in found.masks) >= 0.85


def test_the_pose_of_the_camera_file_is_kept_and_makes_the_maps_metric():
    rgb, masks = table_scene(1)
    T = make_T(camera_rotation(0.6), np.array([0.1, 0.2, 0.45]))
    photo = Photo(
        rgb,
        K_px=centred_K(456, 480, 360),
        K_source="camera file",
        T_world_camera=T,
        hints=(ObjectHint("a", mask=masks[0]),),
    )
    maps = perceive_rgb(photo, RgbConfig())
    assert maps.metric and np.array_equal(maps.T_world_camera, T)
    assert "camera file" in maps.notes["intrinsics"] and "pose given" in maps.notes["scale"]
    assert set(maps.notes) == {"intrinsics", "gravity", "scale", "segmentation"}
    assert maps.sigma.focal < 0.01 and np.degrees(maps.sigma.pitch_rad) < 0.5 and 0 < maps.sigma.scale < 0.03


def test_a_camera_height_makes_it_metric_and_scales_the_pose():
    rgb, masks = table_scene(1)
    photo = Photo(rgb, hints=(ObjectHint("a", mask=masks[0]),))
    free, known = perceive_rgb(photo, RgbConfig()), perceive_rgb(photo, RgbConfig(camera_height_m=0.336))
    assert not free.metric and free.T_world_camera[2, 3] == ASSUMED_HEIGHT_M
    assert known.metric and known.T_world_camera[2, 3] == 0.336
    assert np.array_equal(free.T_world_camera[:3, :3], known.T_world_camera[:3, :3])
    ahead = known.T_world_camera[:3, 2]
    assert ahead[0] > 0 and abs(ahead[1]) < 1e-9 and np.allclose(known.T_world_camera[:2, 3], 0)
    foot_c = transform(np.linalg.inv(known.T_world_camera), np.array([1e6, 0.0, 0.0]))
    assert project(known.K_px, foot_c)[0] == pytest.approx(known.K_px[0, 2], abs=60)
    assert "0.336" in known.notes["scale"] and "0.5" in free.notes["scale"]
    with pytest.raises(InputError, match="camera height"):
        perceive_rgb(photo, RgbConfig(camera_height_m=-1.0))


def test_without_lines_the_stated_prior_is_used_and_named():
    rgb = np.full((240, 320, 3), 120, np.uint8)
    cv2.circle(rgb, (160, 140), 30, (200, 40, 40), -1)
    mask = cv2.circle(np.zeros((240, 320), np.uint8), (160, 140), 30, 1, -1) > 0
    maps = perceive_rgb(Photo(rgb, hints=(ObjectHint("a", mask=mask),)), RgbConfig(prior_pitch_deg=40.0))
    assert np.degrees(pitch_roll(maps.T_world_camera[:3, :3])) == pytest.approx([40.0, 0.0], abs=1e-9)
    assert "prior" in maps.notes["gravity"] and "prior" in maps.notes["intrinsics"] and not maps.metric
    assert np.degrees(maps.sigma.pitch_rad) == pytest.approx(10) and maps.sigma.focal == 0.15 and maps.sigma.scale > 0.3


def test_two_things_that_hide_each_other_are_not_taken_for_one():
    rgb, _ = table_scene(1)  # a red sphere behind a green box
    with pytest.raises(PerceptionError, match="two things"):
        segment_photo(rgb)


def real(name):
    folder = DATA / name
    if not folder.is_dir():
        pytest.skip("the captures are not here")
    scene = json.loads((folder / "scene.json").read_text())
    k = scene["K_px"]
    K_px = np.array([[k["fx"], 0, k["cx"]], [0, k["fy"], k["cy"]], [0, 0, 1.0]])
    rgb = load_rgb(folder / "rgb.png")
    return Photo(rgb, K_px=K_px, K_source="camera file", name=name), scene


@pytest.mark.parametrize("degrade", ["as is", "jpeg 60", "half"])
def test_the_two_cubes_on_a_real_table_and_nothing_else(degrade):
    photo, scene = real("simpler_bridge_cubes")
    rgb, scale = photo.rgb, 1.0
    if degrade == "jpeg 60":
        rgb = cv2.imdecode(cv2.imencode(".jpg", rgb, [cv2.IMWRITE_JPEG_QUALITY, 60])[1], cv2.IMREAD_COLOR)
    elif degrade == "half":
        rgb, scale = cv2.resize(rgb, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA), 0.5
    found = segment_photo(rgb)
    centers = np.array([np.argwhere(mask).mean(0)[::-1] for mask in found.masks]) / scale
    assert centers == pytest.approx(np.array([[170, 242], [465, 196]]), abs=4)
    assert [mask.sum() / scale**2 for mask in found.masks] == pytest.approx([2650, 2362], rel=0.15)
    if degrade == "as is":
        maps = perceive_rgb(photo, RgbConfig())
        pitch, roll = np.degrees(pitch_roll(maps.T_world_camera[:3, :3]))
        true = np.degrees(pitch_roll(np.array(scene["T_base_camera"])[:3, :3]))
        assert pitch == pytest.approx(true[0], abs=3) and roll == pytest.approx(true[1], abs=3)


def test_can_sponge_and_apple_on_a_small_real_photo():
    photo, _ = real("simpler_counter_three_objects")
    found = segment_photo(photo.rgb)
    centers = np.array([np.argwhere(mask).mean(0)[::-1] for mask in found.masks])
    assert centers == pytest.approx(np.array([[78, 72], [129, 141], [184, 75]]), abs=3)
