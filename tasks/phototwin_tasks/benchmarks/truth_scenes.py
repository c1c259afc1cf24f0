"""Random tabletops with exact truth: a description from a seed, and the files of its photo.

A folder holds ``photo.png`` (what a camera's JPEG holds), ``depth.png`` (with a sensor's noise and holes), ``depth_exact.png``,
``masks.png``, ``camera.json`` (K only), ``camera_pose.json``, ``objects.json`` (one box an object) and ``truth.json``.
"""

from __future__ import annotations

import io
import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from phototwin.frames import invert, make_T, pixel_rays, project, rotation_z, transform
from phototwin.images import save_depth, save_ids, save_rgb
from phototwin.output import written_aside
from phototwin_tasks.benchmarks.truth_paint import object_texture, paint_texture, table_texture
from phototwin_tasks.benchmarks.truth_surfaces import Surface, object_surfaces, rounded_box
from phototwin_tasks.benchmarks.truth_trace import Part, develop, ids_of, render_calm, see_parts

GENERATOR_VERSION = 1
"""Part of the cache's folder name: raise it when the same seed gives another scene."""
WIDTH, HEIGHT = 640, 480
SAMPLES = 10  # paths per pixel; smoothing does the rest, and a scene stays under ten seconds of one core
GAP_M = 0.012
BORDER_PX = 10
MIN_AREA_PX = 500
MIN_VISIBLE = 0.75  # share of an object's outline that nothing stands before
MAX_TRIES = 60
FLOOR_BELOW_M = 0.75
JPEG_QUALITY = (80, 96)
HINT_SLACK_PX = 3  # a box drawn by hand is a little too large

PAINTS = {
    "red": [0.45, 0.02, 0.02], "orange": [0.72, 0.22, 0.02], "yellow": [0.70, 0.56, 0.04], "green": [0.05, 0.28, 0.07],
    "blue": [0.02, 0.08, 0.35], "purple": [0.18, 0.04, 0.32], "pink": [0.68, 0.24, 0.34], "white": [0.66, 0.65, 0.62],
    "grey": [0.20, 0.20, 0.21], "black": [0.025, 0.025, 0.027], "brown": [0.17, 0.08, 0.04], "cyan": [0.03, 0.36, 0.42],
}  # fmt: skip
"""Names and linear RGB of what things are painted with."""
TABLES = (
    ("wood", [0.255, 0.152, 0.088]), ("wood", [0.52, 0.40, 0.25]), ("wood", [0.045, 0.030, 0.024]), ("wood", [0.20, 0.07, 0.035]),
    ("plain", [0.60, 0.60, 0.58]), ("plain", [0.05, 0.18, 0.09]), ("plain", [0.14, 0.15, 0.17]),
    ("marble", [0.55, 0.55, 0.56]), ("speckle", [0.45, 0.42, 0.37]), ("checker", [0.55, 0.53, 0.50]), ("stripes", [0.5, 0.48, 0.42]),
)  # fmt: skip
"""Kinds and linear RGB of table tops."""
OBJECTS = ("box", "box", "carton", "flat", "can", "can", "bottle", "bowl", "mug", "mug", "cup", "ball", "plate", "banana", "prism", "star", "lying can")  # fmt: skip
"""What is put on them; twice means twice as often."""


def truth_cache() -> Path:
    """Where generated scenes are kept between runs."""
    cache = Path(os.environ.get("PHOTOTWIN_CACHE", Path.home() / ".cache" / "phototwin"))
    return cache / f"truth-{GENERATOR_VERSION}"


def truth_scene(seed: int, cache: Path | None = None) -> Path:
    """Folder of the scene of that seed, made when it is not there."""
    folder = (cache or truth_cache()) / f"{seed:04d}"
    if not (folder / "truth.json").is_file():
        with written_aside(folder) as aside:
            make_truth_scene(seed, aside)
    return folder


def make_truth_scene(seed: int, folder: Path, samples: int = SAMPLES) -> dict[str, Any]:
    """Write the scene of that seed into ``folder``; returns its description.

    Args:
        seed: Draws everything: camera, table, light, objects, noise.
        folder: Where the files go.
        samples: Light paths a pixel.
    """
    truth = describe_truth(seed)
    parts = scene_parts(truth)
    seen = see_parts(truth["camera"], parts)
    linear = render_calm(truth, parts, samples)
    truth["exposure"] = float(truth["brightness"] / max(np.percentile(linear.mean(-1), 95), 1e-6))
    rgb = develop(linear * truth["exposure"], truth["noise"], seed)
    write_scene(truth, rgb, seen.depth_m, ids_of(truth, parts, seen), folder)
    return truth


def write_scene(truth: dict[str, Any], rgb: np.ndarray, depth_m: np.ndarray, ids: np.ndarray, folder: Path) -> None:
    """The files of one scene; the photo goes through JPEG first, the depth through a sensor."""
    from PIL import Image

    folder.mkdir(parents=True, exist_ok=True)
    packed = io.BytesIO()
    Image.fromarray(rgb).save(packed, "JPEG", quality=truth["jpeg_quality"], subsampling=0)
    save_rgb(folder / "photo.png", np.asarray(Image.open(packed)))
    save_depth(folder / "depth_exact.png", depth_m)
    save_depth(folder / "depth.png", sense_depth(depth_m, truth["seed"]))
    save_ids(folder / "masks.png", ids)
    camera = truth["camera"]
    (folder / "camera.json").write_text(json.dumps({"K_px": camera["K_px"]}, indent=1) + "\n")
    pose = {key: camera[key] for key in ("K_px", "T_world_camera")}
    (folder / "camera_pose.json").write_text(json.dumps(pose, indent=1) + "\n")
    hints = [{"name": item["name"], "box": _box_of(ids == i + 1)} for i, item in enumerate(truth["objects"])]
    (folder / "objects.json").write_text(json.dumps(hints, indent=1) + "\n")
    (folder / "truth.json").write_text(json.dumps(truth, indent=1) + "\n")


def sense_depth(depth_m: np.ndarray, seed: int) -> np.ndarray:
    """Exact depth as a depth camera would read it: noise that grows with distance, holes (0) at jumps and in some spots.

    The noise is the recipe's sigma(z) = 0.8 + 1.2 z^2 mm; a stereo sensor loses what only one of its eyes sees, on the left of a jump.
    """
    import cv2

    rng = np.random.default_rng([seed, 3])
    noisy = depth_m + (0.0008 + 0.0012 * depth_m**2) * rng.standard_normal(depth_m.shape)
    low, high = cv2.erode(depth_m, np.ones((3, 3))), cv2.dilate(depth_m, np.ones((3, 3)))
    jump = (high - low > 0.025 * low).astype(np.uint8)
    left = np.zeros((3, 9), np.uint8)
    left[:, :5] = 1
    hole = cv2.dilate(jump, left) > 0
    hole &= depth_m > low + 0.01  # only what lies behind is lost
    spots = cv2.GaussianBlur(rng.standard_normal(depth_m.shape), (0, 0), 4.0)
    hole |= spots > 3.0 * spots.std()
    return np.where(hole | (depth_m <= 0), 0, noisy)


def _box_of(mask: np.ndarray) -> list[int]:
    rows, columns = np.nonzero(mask)
    low = np.maximum([columns.min() - HINT_SLACK_PX, rows.min() - HINT_SLACK_PX], 0)
    high = np.minimum([columns.max() + 1 + HINT_SLACK_PX, rows.max() + 1 + HINT_SLACK_PX], mask.shape[::-1])
    return [*low.tolist(), *high.tolist()]


# ---------------------------------------------------------------- the description


def describe_truth(seed: int) -> dict[str, Any]:
    """Camera, table, room, light and one to six separate objects, drawn from ``seed``; plain values."""
    rng = np.random.default_rng([seed, 77])
    truth = describe_room(rng, seed)
    _place_objects(truth, rng, int(rng.integers(1, 7)))
    return truth


def describe_room(rng: np.random.Generator, seed: int) -> dict[str, Any]:
    """Camera, empty table, wall, floor and light; plain values."""
    camera, target = _draw_camera(rng)
    kind, color = TABLES[int(rng.integers(len(TABLES)))]
    size = [rng.uniform(1.0, 1.6), rng.uniform(1.2, 1.8), 0.035]
    center = [target[0] + rng.uniform(-0.1, 0.25), target[1] + rng.uniform(-0.2, 0.2)]
    second = list(PAINTS.values())[int(rng.integers(len(PAINTS)))]
    return {
        "seed": seed,
        "version": GENERATOR_VERSION,
        "camera": camera,
        "table": {
            "kind": kind, "color": color, "second_color": second, "size_m": size, "center_w": center,
            "yaw_deg": rng.uniform(-25, 25), "edge_m": 0.003, "gloss": rng.uniform(0.15, 0.5),
        },
        "wall": {"x_w": center[0] + size[0] * rng.uniform(0.7, 1.2), "color": _tint(rng, 0.3, 0.65)} if rng.random() < 0.7 else None,
        "floor": {"color": _tint(rng, 0.08, 0.4)},
        "lights": _draw_lights(rng, target),
        "ambient": (rng.uniform(0.03, 0.25) * np.array(_tint(rng, 0.9, 1.0))).tolist(),
        "brightness": rng.uniform(0.5, 0.8),
        "noise": {"shot": rng.uniform(0.001, 0.004), "read": rng.uniform(0.001, 0.004)},
        "jpeg_quality": int(rng.integers(*JPEG_QUALITY)),
        "objects": [],
    }  # fmt: skip


def _draw_camera(rng: np.random.Generator) -> tuple[dict[str, Any], np.ndarray]:
    """The camera, and where on the table it looks."""
    pitch, roll, distance = np.deg2rad(rng.uniform(20, 65)), np.deg2rad(rng.uniform(-3, 3)), rng.uniform(0.5, 1.2)
    focal = WIDTH / 2 / np.tan(np.deg2rad(rng.uniform(50, 75)) / 2)
    forward, right = np.array([np.cos(pitch), 0.0, -np.sin(pitch)]), np.array([0.0, -1.0, 0.0])
    R = np.stack([right, np.cross(forward, right), forward], axis=1)
    R = R @ rotation_z(roll)  # about the optical axis
    camera = {
        "width": WIDTH,
        "height": HEIGHT,
        "K_px": [[focal, 0.0, WIDTH / 2], [0.0, focal, HEIGHT / 2], [0.0, 0.0, 1.0]],
        "T_world_camera": make_T(R, np.array([0.0, 0.0, distance * np.sin(pitch)])).tolist(),
    }
    return camera, np.array([distance * np.cos(pitch), 0.0])


def _draw_lights(rng: np.random.Generator, target: np.ndarray) -> list[dict[str, Any]]:
    """A window or lamp from any side but the camera's back, and a dim ceiling."""
    angle, away = rng.uniform(0, 2 * np.pi), rng.uniform(0.7, 1.6)
    place = [target[0] + away * np.cos(angle), target[1] + away * np.sin(angle), rng.uniform(0.9, 2.0)]
    side = rng.uniform(0.15, 1.0)
    lamp = (rng.uniform(6, 14) / side * np.array(_warmth(rng))).tolist()
    aim = [float(target[0]), float(target[1]), 0.0]
    return [
        {"name": "window", "center_w": place, "target_w": aim, "size_m": [side, side * rng.uniform(0.7, 1.4)], "radiance": lamp},
        {"name": "ceiling", "center_w": [0.9, 0.0, 2.6], "target_w": [0.9, 0.0, 0.0], "size_m": [3.0, 3.0], "radiance": [rng.uniform(0.2, 0.9)] * 3},
    ]  # fmt: skip


def _warmth(rng: np.random.Generator) -> list[float]:
    """Light between a cloudy sky and a warm lamp."""
    t = rng.uniform(-1, 1)
    return [1.0 + 0.12 * t, 1.0, 1.0 - 0.2 * t]


def _tint(rng: np.random.Generator, low: float, high: float) -> list[float]:
    return (rng.uniform(low, high) * (1 + 0.08 * rng.uniform(-1, 1, 3))).tolist()


def draw_object(rng: np.random.Generator, kind: str, key: str) -> dict[str, Any]:
    """One described object without a place: shape, size, colours, finish."""
    u = rng.uniform
    more: dict[str, Any] = {}
    shape = {"carton": "box", "flat": "box", "cup": "mug"}.get(kind, kind)
    if kind == "box":
        long, short = sorted(u(0.03, 0.09, 2), reverse=True)
        size = [long, short, u(0.03, 0.10)] if rng.random() < 0.6 else [u(0.035, 0.07)] * 3
    elif kind == "carton":
        size = [u(0.06, 0.13), u(0.035, 0.06), u(0.09, 0.20)]
    elif kind == "flat":
        size = [u(0.10, 0.22), u(0.06, 0.10), u(0.008, 0.03)]
    elif kind in ("can", "bottle"):
        d = u(0.05, 0.08)
        size = [d, d, u(0.06, 0.14) if kind == "can" else u(0.15, 0.24)]
        more = {"neck_m": d * u(0.17, 0.25), "shoulder": u(0.5, 0.66)} if kind == "bottle" else {}
    elif kind == "lying can":
        d = u(0.05, 0.075)
        size = [max(u(0.07, 0.13), d * 1.2), d, d]
    elif kind in ("bowl", "plate", "ball"):
        d = u(*{"bowl": (0.10, 0.18), "plate": (0.14, 0.24), "ball": (0.04, 0.09)}[kind])
        size = [d, d, {"bowl": d * u(0.33, 0.5), "plate": u(0.014, 0.026), "ball": d}[kind]]
    elif kind in ("mug", "cup"):
        d = u(0.065, 0.095)
        size = [d + (u(0.026, 0.038) if kind == "mug" else 0.0), d, d * u(0.95, 1.3)]
    elif kind == "banana":
        size = [u(0.14, 0.19), u(0.05, 0.065), u(0.032, 0.04)]
        more = {"bend_rad": u(1.4, 2.0), "thickness": u(0.16, 0.22)}
    else:
        more = {"corners": int(rng.integers(5, 7)) if kind == "star" else 6}
        size = [u(0.06, 0.11)] * 2 + [u(0.02, 0.07)]
    color, other = (str(c) for c in rng.choice(list(PAINTS), 2, replace=False))
    paint = str(rng.choice(["plain", "label", "stripes", "wood", "speckle"], p=[0.4, 0.3, 0.1, 0.1, 0.1]))
    if kind in ("banana", "ball", "plate") and paint == "label":
        paint = "plain"
    more |= {"edge_m": 0.0015} if shape == "box" else {}
    more |= {"wall_m": u(0.003, 0.005)} if shape in ("bowl", "mug") else {}
    return {
        "name": f"{color} {kind} {key}", "key": key, "shape": shape, "hollow": shape in ("bowl", "mug"),
        "size_m": [float(s) for s in size], "color": PAINTS[color], "second_color": PAINTS[other],
        "paint": paint, "gloss": u(0.08, 0.5), **more,
    }  # fmt: skip


def _place_objects(truth: dict[str, Any], rng: np.random.Generator, count: int) -> None:
    """Put ``count`` objects (fewer where there is no room) on the table, whole in the picture and apart from each other."""
    footprints: list[Any] = []
    for i in range(count):
        item = draw_object(rng, str(rng.choice(OBJECTS)), f"object{i + 1}")
        for _ in range(MAX_TRIES):
            T = _random_pose(truth, rng, item["size_m"][2])
            placed = {**item, "T_world_object": T.tolist()}
            points_w = transform(T, np.concatenate([s[0] for s in object_surfaces(item)]))
            footprint = _outline_of(points_w)
            near = any(footprint.distance(other) < GAP_M for other in footprints)
            if near or not in_view(points_w, truth["camera"]) or not _on_table(points_w, truth["table"]):
                continue
            if _all_visible({**truth, "objects": [*truth["objects"], placed]}):
                truth["objects"].append(placed)
                footprints.append(footprint)
                break


def _random_pose(truth: dict[str, Any], rng: np.random.Generator, height_m: float) -> np.ndarray:
    camera = truth["camera"]
    pixel = np.array([rng.uniform(0.12, 0.88) * WIDTH, rng.uniform(0.2, 0.88) * HEIGHT])
    T, K = np.array(camera["T_world_camera"]), np.array(camera["K_px"])
    ray_w = T[:3, :3] @ np.linalg.solve(K, np.append(pixel, 1.0))
    down = min(ray_w[2], -1e-3)  # above the horizon nothing stands; far away is refused by the table
    foot = T[:3, 3] - ray_w * (T[2, 3] / down)
    return make_T(rotation_z(rng.uniform(-np.pi, np.pi)), np.array([foot[0], foot[1], height_m / 2]))


def _outline_of(points_w: np.ndarray) -> Any:
    from shapely import MultiPoint

    return MultiPoint(points_w[:, :2]).convex_hull


def in_view(points_w: np.ndarray, camera: dict[str, Any]) -> bool:
    """Whether points (N, 3) are all in the picture, off its border."""
    points_c = transform(invert(np.array(camera["T_world_camera"])), points_w)
    if points_c[:, 2].min() < 0.15:
        return False
    uv = project(np.array(camera["K_px"]), points_c)
    return bool((uv > BORDER_PX).all() and (uv < np.array([WIDTH, HEIGHT]) - BORDER_PX).all())


def _on_table(points_w: np.ndarray, table: dict[str, Any]) -> bool:
    local = (points_w[:, :2] - table["center_w"]) @ rotation_z(np.deg2rad(table["yaw_deg"]))[:2, :2]
    return bool((np.abs(local) < np.array(table["size_m"][:2]) / 2 - 0.02).all())


def _all_visible(truth: dict[str, Any]) -> bool:
    """Whether every object is large enough and mostly unhidden; judged at half size, which is fast."""
    camera = truth["camera"]
    half = {**camera, "width": WIDTH // 2, "height": HEIGHT // 2, "K_px": (np.diag([0.5, 0.5, 1]) @ np.array(camera["K_px"])).tolist()}  # fmt: skip
    things = [object_parts(item, truth["seed"], textured=False) for item in truth["objects"]]
    together = see_parts(half, [p for parts in things for p in parts])
    owner = np.repeat(np.arange(len(things)), [len(parts) for parts in things])
    ids = np.where(together.part >= 0, owner[together.part], -1)
    for i, parts in enumerate(things):
        alone = int((see_parts(half, parts).part >= 0).sum())
        seen = int((ids == i).sum())
        if seen < max(MIN_AREA_PX / 4, MIN_VISIBLE * alone):
            return False
    return True


# ---------------------------------------------------------------- the parts


def object_parts(item: dict[str, Any], seed: int, textured: bool = True) -> list[Part]:
    """The placed and painted surfaces of one object."""
    texture, tile = object_texture(item, seed) if textured else (np.zeros((1, 1, 3), np.float32), [1.0, 1.0])
    T = np.array(item["T_world_object"])
    return [
        Part(f"{item['key']}-{i}", surface, T, texture, tile, item["gloss"])
        for i, surface in enumerate(object_surfaces(item))
    ]


def scene_parts(truth: dict[str, Any]) -> list[Part]:
    """Table, floor, wall and objects of a description."""
    table, wall, seed = truth["table"], truth["wall"], truth["seed"]
    size = table["size_m"]
    T_table = make_T(rotation_z(np.deg2rad(table["yaw_deg"])), np.array([*table["center_w"], -size[2] / 2]))
    parts = [
        Part("table", rounded_box(size, table["edge_m"]), T_table, table_texture(table, seed), size[:2], table["gloss"])
    ]
    floor = paint_texture(truth["floor"]["color"], seed, "floor", 0.08)
    T_floor = make_T(np.eye(3), np.array([0.0, 0.0, -FLOOR_BELOW_M]))
    parts.append(Part("floor", _sheet((-6.0, 10.0), (-8.0, 8.0)), T_floor, floor, [0.7, 0.7], 0.5))
    if wall:
        turn = np.array([[0.0, 0.0, -1.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]])  # the sheet's +Z looks back at the camera
        plaster = paint_texture(wall["color"], seed, "wall", 0.08)
        T_wall = make_T(turn, np.array([wall["x_w"], 0.0, 0.0]))
        parts.append(Part("wall", _sheet((-FLOOR_BELOW_M, 3.0), (-8.0, 8.0)), T_wall, plaster, [0.7, 0.7], 0.6))
    return parts + [part for item in truth["objects"] for part in object_parts(item, seed)]


def _sheet(x: tuple[float, float], y: tuple[float, float]) -> Surface:
    """A flat sheet that faces +Z; uv in metres."""
    points = np.array([[x[0], y[0], 0], [x[1], y[0], 0], [x[1], y[1], 0], [x[0], y[1], 0]], float)
    return points, np.tile([0.0, 0.0, 1.0], (4, 1)), points[:, :2], np.array([[0, 1, 2], [0, 2, 3]])


def plane_depth(truth: dict[str, Any]) -> np.ndarray:
    """Depth (H, W) of the table's plane, for tests [m]."""
    camera = truth["camera"]
    T = np.array(camera["T_world_camera"])
    rays_w = pixel_rays(np.array(camera["K_px"]), camera["width"], camera["height"]) @ T[:3, :3].T
    return -T[2, 3] / np.minimum(rays_w[..., 2], -1e-9)
