"""Scenes of the truth test of blending: a photo without the robot, and what the camera would have seen with it.

A folder holds ``photo.png`` and ``truth.png`` (the robot stands in it; both clean, one exposure), ``photo_noisy.png`` (sensor noise
and JPEG), ``coverage.png`` (share of each pixel that shows the robot, 255 = all), ``shadow.png`` (255 where the robot changes the
light on what is not the robot), ``depth_exact.png``, ``masks.png``, ``normals.npy`` and ``truth.json``. Some have ``moved.png`` with
``moved_camera.json`` (the photo from a camera nearby) and ``moved_object.png`` with ``moved_object.json`` (one object elsewhere).
Scenes with an even seed are for tuning; nobody looks at the odd ones while tuning.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from phototwin.errors import InputError
from phototwin.frames import invert, make_T, project, rotation_z, transform
from phototwin_tasks.benchmarks.truth_scenes import HEIGHT, TABLES, WIDTH, describe_truth, in_view, truth_cache
from phototwin_tasks.benchmarks.truth_surfaces import object_surfaces
from phototwin_tasks.benchmarks.truth_trace import Part, see_parts

BLEND_VERSION = 1
"""Part of the cache's folder name: raise it when the same seed gives another scene."""
SCENES = 20
SHRINK = 2  # scenes are described at 640 x 480 and rendered at half of that
ROOM_SEEDS = 5000  # no room of another suite is met again
ROOMS_TRIED, POSES_TRIED = 40, 60
MAX_OBJECTS = 5
LIGHTS = ("window", "lamp", "sun", "overcast", "low window")
"""Kinds of dominant sources, taken in turn by the seeds two by two, so that tuning and held-out scenes have the same ones."""
WINDOW_SHARE = {"window": (0.4, 0.7), "lamp": (0.45, 0.75), "sun": (0.5, 0.8), "overcast": (0.15, 0.35), "low window": (0.35, 0.6)}  # fmt: skip
"""Share of the light on the table that comes from the dominant source, before bounces."""
OPEN_SKY = ("sun", "overcast")
"""Sources above the room's ceiling, which goes: the sky around shines in its place."""
CEILING_FACTOR = 0.35  # form factor of the ceiling's panel from the table, about
PROBE_HEIGHT_M = 0.25  # the light is measured at this height over the table, amid the robot
ROBOT = "panda"
ROBOT_GLOSS = 0.25
ROBOT_SEEN = (0.05, 0.42)
"""Share of the picture that the robot may cover."""
INTERNAL_REFLECTION = 0.5965
"""Share of diffuse light inside a coat of refractive index 1.49 that its surface throws back. Source: integral of Fresnel's equations over the cosine lobe."""
MOVED_M, MOVED_DEG, MOVED_FOCAL = 0.05, 5.0, 0.03
MOVED_CAMERAS = (0, 2, 4, 6, 8, 10, 1, 3, 5, 7)
MOVED_OBJECTS = (0, 2, 4, 6, 1, 3)


def blend_cache() -> Path:
    """Where rendered scenes are kept between runs."""
    return truth_cache().parent / f"blend-{BLEND_VERSION}"


def describe_blend(seed: int) -> dict[str, Any]:
    """Room, lights, camera, objects and a robot that stands among them, drawn from ``seed``; plain values.

    Raises:
        InputError: No room was found where the robot can stand, which no seed in use does.
    """
    for attempt in range(ROOMS_TRIED):
        rng = np.random.default_rng([seed, attempt, 177])
        truth = describe_truth(ROOM_SEEDS + 100 * attempt + seed)
        kind, color = TABLES[seed % len(TABLES)]
        truth["table"] |= {"kind": kind, "color": color}
        truth["objects"] = truth["objects"][:MAX_OBJECTS]
        truth |= {"blend_seed": seed, "blend_version": BLEND_VERSION, "light_kind": LIGHTS[seed // 2 % len(LIGHTS)]}
        target = look_at(truth["camera"])
        truth["center_w"] = [float(target[0]), float(target[1]), PROBE_HEIGHT_M]
        if not truth["objects"] or not draw_window(truth, rng) or not draw_robot(truth, rng):
            continue
        if seed in MOVED_CAMERAS:
            truth["moved_camera"] = moved_camera(truth["camera"], rng)
        if seed in MOVED_OBJECTS and not draw_moved_object(truth, rng):
            continue
        for name in ("camera", "moved_camera"):
            if name in truth:
                truth[name] = shrink_camera(truth[name], SHRINK)
        return truth
    raise InputError(f"No room was found for blend scene {seed}: choose another seed.")


def look_at(camera: dict[str, Any]) -> np.ndarray:
    """Where on the table the middle of the image looks, (2,) [m]."""
    T = np.array(camera["T_world_camera"])
    return T[:2, 3] - T[:2, 2] * T[2, 3] / T[2, 2]


def shrink_camera(camera: dict[str, Any], by: int) -> dict[str, Any]:
    """The same camera with ``by`` times fewer pixels along each side."""
    K = np.diag([1 / by, 1 / by, 1.0]) @ np.array(camera["K_px"])
    return {**camera, "width": camera["width"] // by, "height": camera["height"] // by, "K_px": K.tolist()}


# ---------------------------------------------------------------- light


def draw_window(truth: dict[str, Any], rng: np.random.Generator) -> bool:
    """Replace the window of a described room by a source of its kind; False where no place outside the picture was found."""
    kind, (window, ceiling) = truth["light_kind"], truth["lights"]
    target = np.array([*truth["center_w"][:2], 0.0])
    size, away, elevation = _source_shape(kind, rng)
    fill = CEILING_FACTOR * np.array(ceiling["radiance"])
    if kind in OPEN_SKY:
        truth["ambient"] = (np.array(truth["ambient"]) + fill + rng.uniform(0.0, 0.3)).tolist()
        fill = np.zeros(3)
    for _ in range(POSES_TRIED):
        azimuth = rng.uniform(-np.pi, np.pi)
        towards = np.array(
            [np.cos(azimuth) * np.cos(elevation), np.sin(azimuth) * np.cos(elevation), np.sin(elevation)]
        )
        place = target + away * towards
        if _source_fits(truth, place, max(size)):
            break
    else:
        return False
    irradiance = np.pi * np.mean(np.array(truth["ambient"]) + fill)
    share = rng.uniform(*WINDOW_SHARE[kind])
    strength = share / (1 - share) * irradiance * away**2 / (size[0] * size[1] * towards[2])
    hue = np.array(window["radiance"])
    placed = {"name": "window", "center_w": place.tolist(), "target_w": target.tolist(), "size_m": size}
    window = {**placed, "radiance": (strength * hue / hue.mean()).tolist()}
    truth["lights"] = [window] if kind in OPEN_SKY else [window, ceiling]
    return True


def _source_shape(kind: str, rng: np.random.Generator) -> tuple[list[float], float, float]:
    """Size [m], distance from the table [m] and elevation [rad] of a dominant source."""
    u = rng.uniform
    if kind == "sun":
        away, half = 9.0, np.deg2rad(u(0.4, 1.0))
        side, elevation = 2 * away * float(np.tan(half)), u(30, 65)
    else:
        sides = {"window": (0.4, 1.0), "lamp": (0.08, 0.2), "overcast": (1.6, 2.4), "low window": (0.3, 0.7)}
        distances = {"window": (1.3, 2.2), "lamp": (1.1, 1.8), "overcast": (2.2, 2.8), "low window": (1.3, 1.9)}
        heights = {"window": (40, 70), "lamp": (35, 75), "overcast": (55, 85), "low window": (18, 32)}
        side, away, elevation = u(*sides[kind]), u(*distances[kind]), u(*heights[kind])
    return [float(side), float(side * u(0.7, 1.3))], float(away), float(np.deg2rad(elevation))


def _source_fits(truth: dict[str, Any], place: np.ndarray, side_m: float) -> bool:
    """Whether a source there is on this side of the wall, out of the picture and not before the camera."""
    wall, camera = truth["wall"], truth["camera"]
    if wall and place[0] + side_m / 2 > wall["x_w"] - 0.05:
        return False
    steps = np.linspace(-0.5, 0.5, 7)
    around = place + side_m * np.stack(np.meshgrid(steps, steps, steps), -1).reshape(-1, 3)
    points_c = transform(invert(np.array(camera["T_world_camera"])), around)
    if np.linalg.norm(points_c, axis=1).min() < 0.4:
        return False
    uv = project(np.array(camera["K_px"]), points_c[points_c[:, 2] > 0.05])
    return not ((uv > 0) & (uv < [camera["width"], camera["height"]])).all(1).any()


# ---------------------------------------------------------------- robot


@lru_cache(maxsize=1)
def load_robot() -> tuple[Any, tuple[Any, ...]]:
    """The robot's arm for kinematics, and its visual meshes."""
    from phototwin.plan.ik import load_arm
    from phototwin.robots import get_robot
    from phototwin.stage.robots import robot_usd
    from phototwin.stage.visuals import read_visuals

    robot = get_robot(ROBOT)
    return load_arm(robot), read_visuals(robot_usd(robot))


def body_poses(robot: dict[str, Any]) -> dict[str, np.ndarray]:
    """T_world_body (4, 4) of every body of a described robot, by name."""
    import pinocchio  # pyright: ignore[reportMissingImports]

    arm, visuals = load_robot()
    pinocchio.framesForwardKinematics(arm.model, arm.data, np.array(robot["q_rad"]))
    T_world_base = np.array(robot["T_world_base"])
    bodies = dict.fromkeys(v.body for v in visuals)
    return {name: T_world_base @ arm.data.oMf[arm.model.getFrameId(name)].homogeneous for name in bodies}


def robot_parts(robot: dict[str, Any]) -> list[Part]:
    """The placed and painted visual meshes of a described robot, keyed "robot"."""
    poses, parts = body_poses(robot), []
    for i, visual in enumerate(load_robot()[1]):
        points, normals = visual.points.astype(np.float64), visual.normals.astype(np.float64)
        texture = np.tile(coat_pigment(srgb_decoded(visual.color_rgb)), (2, 2, 1)).astype(np.float32)
        surface = (points, normals, np.zeros((len(points), 2)), visual.faces)
        parts.append(Part(f"robot-{i}", surface, poses[visual.body], texture, [1.0, 1.0], ROBOT_GLOSS))
    return parts


def srgb_decoded(srgb: np.ndarray) -> np.ndarray:
    """Linear values of sRGB in 0..1. Source: IEC 61966-2-1."""
    return np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)


def coat_pigment(color: np.ndarray) -> np.ndarray:
    """The pigment under a clear coat that shows the diffuse ``color`` (linear): light that the coat throws back meets the pigment again.

    A pigment p shows p / (1 - f p) under the coat, scaled so that white stays white; f is ``INTERNAL_REFLECTION``.
    """
    f = INTERNAL_REFLECTION
    return color / (1 - f + f * color)


def draw_robot(truth: dict[str, Any], rng: np.random.Generator) -> bool:
    """Place the robot on the table, its tool over it, partly in the picture, touching nothing; False where no pose was found."""
    from phototwin.plan.ik import link_points, reached, solve_pose

    arm = load_robot()[0]
    for _ in range(POSES_TRIED):
        tool = _point_in_view(truth["camera"], rng)
        azimuth, distance = np.deg2rad(rng.uniform(-120, 120)), rng.uniform(0.38, 0.65)
        foot = tool + distance * np.array([np.cos(azimuth), np.sin(azimuth)])
        T_world_base = make_T(rotation_z(azimuth + np.pi + rng.uniform(-0.5, 0.5)), np.array([*foot, 0.0]))
        if not _stands_free(truth, foot):
            continue
        tilt, turn, height = rng.uniform(-0.4, 0.4), rng.uniform(-np.pi / 2, np.pi / 2), rng.uniform(0.03, 0.3)
        lean = np.array([[np.cos(tilt), 0, np.sin(tilt)], [0, 1, 0], [-np.sin(tilt), 0, np.cos(tilt)]])
        R = rotation_z(turn) @ lean @ np.diag([1.0, -1.0, -1.0])
        T_base_tool = invert(T_world_base) @ make_T(R, np.array([*tool, height]))
        q0 = np.clip(arm.home + rng.uniform(-0.4, 0.4, len(arm.home)), arm.lower, arm.upper)
        q, position, angle = solve_pose(arm, T_base_tool, q0)
        if not reached(position, angle):
            continue
        robot = {"name": ROBOT, "q_rad": q.tolist(), "T_world_base": T_world_base.tolist()}
        if _touches_nothing(truth, transform(T_world_base, link_points(arm, q))) and _well_seen(truth, robot):
            truth["robot"] = robot
            return True
    return False


def _point_in_view(camera: dict[str, Any], rng: np.random.Generator) -> np.ndarray:
    """A point (2,) of the table's plane in the middle of the picture [m]."""
    pixel = np.array([rng.uniform(0.25, 0.75) * WIDTH, rng.uniform(0.3, 0.8) * HEIGHT, 1.0])
    T = np.array(camera["T_world_camera"])
    ray_w = T[:3, :3] @ np.linalg.solve(np.array(camera["K_px"]), pixel)
    return T[:2, 3] - ray_w[:2] * T[2, 3] / min(ray_w[2], -1e-3)


def on_table(table: dict[str, Any], points_w: np.ndarray, inset_m: float) -> bool:
    """Whether points (N, 2) lie on the table, that far from its edges."""
    local = (points_w - table["center_w"]) @ rotation_z(np.deg2rad(table["yaw_deg"]))[:2, :2]
    return bool((np.abs(local) < np.array(table["size_m"][:2]) / 2 - inset_m).all())


def _stands_free(truth: dict[str, Any], foot: np.ndarray) -> bool:
    """Whether the base can stand there: on the table, off the objects."""
    for item in truth["objects"]:
        apart = float(np.linalg.norm(np.array(item["T_world_object"])[:2, 3] - foot))
        if apart < 0.16 + np.linalg.norm(item["size_m"][:2]) / 2:
            return False
    return on_table(truth["table"], foot[None], 0.1)


def _touches_nothing(truth: dict[str, Any], points_w: np.ndarray) -> bool:
    """Whether surface points (P, 3) of the arm keep off table, wall, objects, window and camera."""
    camera_w, window = np.array(truth["camera"]["T_world_camera"])[:3, 3], truth["lights"][0]
    if points_w[:, 2].min() < 0.012 or np.linalg.norm(points_w - camera_w, axis=1).min() < 0.2:
        return False
    if truth["wall"] and points_w[:, 0].max() > truth["wall"]["x_w"] - 0.03:
        return False
    if np.linalg.norm(points_w - np.array(window["center_w"]), axis=1).min() < 0.15 + max(window["size_m"]) * 0.75:
        return False
    for item in truth["objects"]:
        local = transform(invert(np.array(item["T_world_object"])), points_w)
        if (np.abs(local) < np.array(item["size_m"]) / 2 + 0.012).all(1).any():
            return False
    return True


def _well_seen(truth: dict[str, Any], robot: dict[str, Any]) -> bool:
    """Whether a fair part of the picture shows the robot, and some of its shadow falls into the picture."""
    small = shrink_camera(truth["camera"], 8)
    parts = robot_parts(robot)
    share = float((see_parts(small, parts).part >= 0).mean())
    if not ROBOT_SEEN[0] < share < ROBOT_SEEN[1]:
        return False
    points_w = np.concatenate([transform(p.T_world_part, p.surface[0][::20]) for p in parts])
    lamp_w = np.array(truth["lights"][0]["center_w"])
    points_w = points_w[points_w[:, 2] < 0.9 * lamp_w[2]]
    fallen = points_w + (points_w - lamp_w) * (points_w[:, 2:] / (lamp_w[2] - points_w[:, 2:]))
    points_c = transform(invert(np.array(small["T_world_camera"])), fallen)
    points_c = points_c[points_c[:, 2] > 0.1]
    uv = project(np.array(small["K_px"]), points_c)
    inside = ((uv > 0) & (uv < [small["width"], small["height"]])).all(1)
    return float(inside.sum()) > 0.1 * len(points_w)


# ---------------------------------------------------------------- what is moved


def moved_camera(camera: dict[str, Any], rng: np.random.Generator) -> dict[str, Any]:
    """The camera a few centimetres and degrees away, with another focal length; at least half of each range."""
    shift = rng.standard_normal(3)
    shift *= MOVED_M * rng.uniform(0.5, 1.0) / np.linalg.norm(shift)
    axis = rng.standard_normal(3)
    angle = np.deg2rad(MOVED_DEG) * rng.uniform(0.5, 1.0)
    T = np.array(camera["T_world_camera"])
    turned = T[:3, :3] @ rotation_about(axis / np.linalg.norm(axis), angle)
    K = np.array(camera["K_px"])
    K[:2, :2] *= 1 + rng.choice([-1, 1]) * rng.uniform(0.5, 1.0) * MOVED_FOCAL
    return {**camera, "K_px": K.tolist(), "T_world_camera": make_T(turned, T[:3, 3] + shift).tolist()}


def rotation_about(axis: np.ndarray, angle_rad: float) -> np.ndarray:
    """Rotation (3, 3) about a unit axis (3,). Source: Rodrigues' formula."""
    x, y, z = axis
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + np.sin(angle_rad) * cross + (1 - np.cos(angle_rad)) * cross @ cross


def draw_moved_object(truth: dict[str, Any], rng: np.random.Generator) -> bool:
    """Choose one object and another place for it a hand's breadth away; False where there is none."""
    for i in rng.permutation(len(truth["objects"])):
        item = truth["objects"][i]
        for T in _places_nearby(np.array(item["T_world_object"]), rng):
            points_w = transform(T, np.concatenate([s[0] for s in object_surfaces(item)]))
            radius = np.linalg.norm(item["size_m"][:2]) / 2
            others = [o for o in truth["objects"] if o["key"] != item["key"]]
            gaps = [np.linalg.norm(np.array(o["T_world_object"])[:2, 3] - T[:2, 3]) - radius - np.linalg.norm(o["size_m"][:2]) / 2 for o in others]  # fmt: skip
            if in_view(points_w, truth["camera"]) and on_table(truth["table"], points_w[:, :2], 0.02) and min(gaps, default=1.0) > 0.01:  # fmt: skip
                truth["moved_object"] = {"key": item["key"], "T_world_object": T.tolist()}
                return True
    return False


def _places_nearby(T: np.ndarray, rng: np.random.Generator) -> Iterator[np.ndarray]:
    for _ in range(POSES_TRIED):
        angle, distance = rng.uniform(-np.pi, np.pi), rng.uniform(0.08, 0.16)
        shift = make_T(np.eye(3), np.array([distance * np.cos(angle), distance * np.sin(angle), 0.0]))
        yield shift @ T @ make_T(rotation_z(rng.uniform(-0.6, 0.6)), np.zeros(3))


def with_moved_object(truth: dict[str, Any]) -> dict[str, Any]:
    """The description with its object where it was moved to."""
    value = copy.deepcopy(truth)
    for item in value["objects"]:
        if item["key"] == truth["moved_object"]["key"]:
            item["T_world_object"] = truth["moved_object"]["T_world_object"]
    return value
