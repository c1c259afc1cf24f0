"""Clutter with exact truth: things that touch, lean close, stack, lie in each other and stand in each other's shadow.

Physics is what these scenes are for, so light is simple: one lamp with a hard shadow over an ambient, drawn by the z-buffer in
under a second. Masks are given, depth is a sensor's.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from phototwin.frames import invert, make_T, rotation_z, transform
from phototwin.output import written_aside
from phototwin_tasks.benchmarks.truth_scenes import (
    GENERATOR_VERSION,
    describe_room,
    draw_object,
    in_view,
    object_parts,
    scene_parts,
    truth_cache,
    write_scene,
)
from phototwin_tasks.benchmarks.truth_surfaces import FLOOR_M, PLATE_M, object_surfaces, vessel_profile
from phototwin_tasks.benchmarks.truth_trace import Part, Seen, develop, ids_of, see_parts

KINDS = ("stack", "plate", "bowl", "row", "heap", "shadow")
"""Arrangements, taken in turn by the seeds: boxes on boxes, a cube on a plate, a ball in a bowl, a row, a heap, small behind tall."""
MAX_GAP_M = 0.005
MIN_SEEN_PX = 250
MAX_TRIES = 200
SHADOW_PX, SHADOW_SLACK_M = 1024, 0.004
SIDES = ("box", "box", "carton", "can", "can", "mug", "cup", "bottle", "bowl", "prism")
"""What stands beside other things."""


def clutter_scene(seed: int, cache: Path | None = None) -> Path:
    """Folder of the clutter scene of that seed, made when it is not there."""
    folder = (cache or truth_cache()) / f"clutter_{seed:04d}"
    if not (folder / "truth.json").is_file():
        with written_aside(folder) as aside:
            make_clutter_scene(seed, aside)
    return folder


def make_clutter_scene(seed: int, folder: Path) -> dict[str, Any]:
    """Write the clutter scene of that seed into ``folder``; returns its description."""
    truth = describe_clutter(seed)
    parts = scene_parts(truth)
    seen = see_parts(truth["camera"], parts)
    linear = light_parts(truth, parts, seen)
    truth["exposure"] = float(truth["brightness"] / max(np.percentile(linear.mean(-1), 95), 1e-6))
    rgb = develop(linear * truth["exposure"], truth["noise"], seed)
    write_scene(truth, rgb, seen.depth_m, ids_of(truth, parts, seen), folder)
    return truth


def light_parts(truth: dict[str, Any], parts: list[Part], seen: Seen) -> np.ndarray:
    """Linear RGB (H, W, 3) of what was seen under the first lamp with its shadow, and ambient light."""
    camera, lamp = truth["camera"], truth["lights"][0]
    T, K = np.array(camera["T_world_camera"]), np.array(camera["K_px"])
    v, u = np.meshgrid(np.arange(camera["height"]) + 0.5, np.arange(camera["width"]) + 0.5, indexing="ij")
    rays = np.stack([(u - K[0, 2]) / K[0, 0], (v - K[1, 2]) / K[1, 1], np.ones_like(u)], -1)
    points_w = transform(T, rays * seen.depth_m[..., None])
    lamp_w = np.array(lamp["center_w"])
    to_lamp = lamp_w - points_w
    distance = np.linalg.norm(to_lamp, axis=-1, keepdims=True)
    facing = np.clip((seen.normal_w * to_lamp / distance).sum(-1), 0, 1)
    light = 0.5 + 3.0 * (facing * ~_shadowed(lamp, parts, points_w))[..., None] / distance**2
    albedo = np.zeros_like(points_w)
    for i, part in enumerate(parts):
        here = seen.part == i
        rows, columns = part.texture.shape[:2]
        at = np.floor(seen.uv[here] * [rows, columns]).astype(int) % [rows, columns]
        albedo[here] = part.texture[at[:, 0], at[:, 1]]
    return albedo * light


def _shadowed(lamp: dict[str, Any], parts: list[Part], points_w: np.ndarray) -> np.ndarray:
    """Where something stands between points (H, W, 3) and the lamp: a depth map from the lamp decides."""
    center, target = np.array(lamp["center_w"]), np.array(lamp["target_w"])
    z = (target - center) / np.linalg.norm(target - center)
    x = np.cross(z, [0.0, 0.0, 1.0])
    x /= np.linalg.norm(x)
    T = make_T(np.stack([x, np.cross(z, x), z], 1), center)
    K = [[SHADOW_PX * 0.7, 0.0, SHADOW_PX / 2], [0.0, SHADOW_PX * 0.7, SHADOW_PX / 2], [0.0, 0.0, 1.0]]
    view = {"width": SHADOW_PX, "height": SHADOW_PX, "K_px": K, "T_world_camera": T.tolist()}
    near = see_parts(view, [p for p in parts if p.key not in ("wall", "floor", "table")]).depth_m
    points_l = transform(invert(T), points_w)
    uv = points_l[..., :2] / np.maximum(points_l[..., 2:], 1e-6) * K[0][0] + SHADOW_PX / 2
    inside = (points_l[..., 2] > 0) & (uv >= 0).all(-1) & (uv < SHADOW_PX).all(-1)
    column, row = (np.clip(uv[..., k].astype(int), 0, SHADOW_PX - 1) for k in (0, 1))
    first = near[row, column]
    return inside & (first > 0) & (points_l[..., 2] > first + SHADOW_SLACK_M)


# ---------------------------------------------------------------- the description


def describe_clutter(seed: int) -> dict[str, Any]:
    """Camera, table and a crowd of things, drawn from ``seed``; plain values. ``kind`` is one of ``KINDS``."""
    kind = KINDS[seed % len(KINDS)]
    for trial in range(MAX_TRIES):
        rng = np.random.default_rng([seed, 78, trial])
        truth = describe_room(rng, 1_000_000 + seed)
        crowd = Crowd(truth, rng)
        _ARRANGE[kind](crowd)
        if kind != "shadow":
            crowd.add_beside(str(rng.choice(SIDES)))
        if crowd.whole():
            return {**truth, "version": GENERATOR_VERSION, "kind": kind, "objects": crowd.items}
    raise RuntimeError(f"Seed {seed} found no place for a {kind} in {MAX_TRIES} tries.")


class Crowd:
    """Objects put down one after the other around the place where the camera looks."""

    def __init__(self, truth: dict[str, Any], rng: np.random.Generator) -> None:
        self.truth, self.rng, self.items = truth, rng, []
        self.footprints: list[Any] = []
        T = np.array(truth["camera"]["T_world_camera"])
        self.center = T[:2, 3] - T[:2, 2] * T[2, 3] / T[2, 2]

    def draw(self, kind: str) -> dict[str, Any]:
        """An object without a place."""
        return draw_object(self.rng, kind, f"object{len(self.items) + 1}")

    def put(self, item: dict[str, Any], xy_w: np.ndarray, bottom_m: float = 0.0, yaw: float | None = None) -> int:
        """Put an object down; returns its number."""
        yaw = float(self.rng.uniform(-np.pi, np.pi)) if yaw is None else yaw
        T = make_T(rotation_z(yaw), np.array([*xy_w, bottom_m + item["size_m"][2] / 2]))
        self.items.append({**item, "T_world_object": T.tolist()})
        self.footprints.append(_footprint(item, T))
        return len(self.items) - 1

    def top_m(self, number: int) -> float:
        """Height of an object's top."""
        return self.items[number]["T_world_object"][2][3] + self.items[number]["size_m"][2] / 2

    def add_beside(self, kind: str, gap_m: float | None = None, angle: float | None = None) -> int:
        """Push a new object towards the middle of the crowd until it is ``gap_m`` from the others."""
        item = self.draw(kind)
        gap_m = float(self.rng.uniform(0.0, MAX_GAP_M)) if gap_m is None else gap_m
        angle = float(self.rng.uniform(-np.pi, np.pi)) if angle is None else angle
        yaw = float(self.rng.uniform(-np.pi, np.pi))
        way = np.array([np.cos(angle), np.sin(angle)])
        middle = np.mean([np.array(i["T_world_object"])[:2, 3] for i in self.items], axis=0)
        near, far = 0.0, 0.6
        for _ in range(30):
            half = (near + far) / 2
            footprint = _footprint(item, make_T(rotation_z(yaw), np.array([*(middle + half * way), 0.0])))
            if all(footprint.distance(f) > gap_m + 1e-6 for f in self.footprints):
                far = half
            else:
                near = half
        return self.put(item, middle + far * way, yaw=yaw)

    def whole(self) -> bool:
        """Whether everything is in the picture and can be seen."""
        camera = self.truth["camera"]
        for item in self.items:
            T = np.array(item["T_world_object"])
            if not in_view(transform(T, np.concatenate([s[0] for s in object_surfaces(item)])), camera):
                return False
        parts = [p for item in self.items for p in object_parts(item, 0, textured=False)]
        ids = ids_of({"objects": self.items}, parts, see_parts(camera, parts))
        return bool((np.bincount(ids.ravel(), minlength=len(self.items) + 1)[1:] >= MIN_SEEN_PX).all())


def _footprint(item: dict[str, Any], T: np.ndarray) -> Any:
    from shapely import MultiPoint

    points = np.concatenate([s[0] for s in object_surfaces(item)])
    return MultiPoint(transform(T, points)[:, :2]).convex_hull


def _stack(crowd: Crowd) -> None:
    """Two or three boxes on each other, each well over the one below."""
    base = crowd.put(crowd.draw("box"), crowd.center)
    for _ in range(int(crowd.rng.integers(1, 3))):
        below = crowd.items[base]
        item = crowd.draw("box")
        scale = min(1.0, 0.9 * min(below["size_m"][:2]) / max(item["size_m"][:2]))
        item["size_m"] = [s * scale for s in item["size_m"]]
        off = 0.12 * np.array(below["size_m"][:2]) * crowd.rng.uniform(-1, 1, 2)
        base = crowd.put(item, np.array(below["T_world_object"])[:2, 3] + off, crowd.top_m(base))


def _plate(crowd: Crowd) -> None:
    """A cube on the flat middle of a plate."""
    plate = crowd.draw("plate")
    crowd.put(plate, crowd.center)
    side = 0.6 * 0.55 * plate["size_m"][0] / 2 * np.sqrt(2)
    cube = {**crowd.draw("box"), "size_m": [min(float(side), 0.05)] * 3}
    crowd.put(cube, crowd.center, PLATE_M)


def _bowl(crowd: Crowd) -> None:
    """A ball at rest in a bowl."""
    bowl = crowd.draw("bowl")
    crowd.put(bowl, crowd.center)
    ball = crowd.draw("ball")
    radius = min(ball["size_m"][0] / 2, 0.35 * bowl["size_m"][0] / 2)
    profile = vessel_profile("bowl", bowl["size_m"][1] / 2, bowl["size_m"][2], bowl["wall_m"])
    inner = profile[profile[:, 1].argmax() :]
    inner = inner[inner[:, 0] < radius]
    center_m = max(float((inner[:, 1] + np.sqrt(radius**2 - inner[:, 0] ** 2)).max()), FLOOR_M + radius)
    crowd.put({**ball, "size_m": [2 * radius] * 3}, crowd.center, center_m - radius)


def _row(crowd: Crowd) -> None:
    """Things side by side, gaps from none to a few millimetres."""
    crowd.put(crowd.draw(str(crowd.rng.choice(SIDES))), crowd.center)
    angle = float(crowd.rng.uniform(-0.5, 0.5)) + np.pi / 2
    for k in range(int(crowd.rng.integers(1, 4))):
        crowd.add_beside(str(crowd.rng.choice(SIDES)), angle=angle + np.pi * (k % 2))


def _heap(crowd: Crowd) -> None:
    """Things around one in the middle, as close as they come."""
    crowd.put(crowd.draw("box"), crowd.center)
    turn = float(crowd.rng.uniform(-np.pi, np.pi))
    count = int(crowd.rng.integers(3, 5))
    for k in range(count):
        crowd.add_beside(str(crowd.rng.choice(SIDES)), angle=turn + 2 * np.pi * k / count)


def _shadow(crowd: Crowd) -> None:
    """Small things in the shadow of a tall one, the lamp low behind it."""
    crowd.put(crowd.draw("carton"), crowd.center)
    angle = float(crowd.rng.uniform(0.4, np.pi - 0.4))  # beside the line of sight, so that it hides nothing
    lamp = crowd.truth["lights"][0]
    away = 1.2 * np.array([np.cos(angle), np.sin(angle)])
    lamp["center_w"] = [*(crowd.center + away).tolist(), 0.6]
    lamp["target_w"] = [*crowd.center.tolist(), 0.0]
    for k in range(2):
        crowd.add_beside(
            str(crowd.rng.choice(["box", "ball", "can"])), 0.002 + 0.02 * k, angle + np.pi + 0.5 * (k - 0.5)
        )


_ARRANGE = {"stack": _stack, "plate": _plate, "bowl": _bowl, "row": _row, "heap": _heap, "shadow": _shadow}
