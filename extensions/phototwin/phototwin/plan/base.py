"""Where the robot stands: found, on the support, reaching the task's objects and leaving them in the camera's sight; or as measured."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from phototwin.errors import InputError, PlanError
from phototwin.frames import invert, make_T, project, rotation_z, transform
from phototwin.plan.grasp import Grasps, obstacle_points, propose_grasps
from phototwin.plan.ik import Arm, link_points, solve_pose, solve_poses, tool_pose
from phototwin.plan.places import LIFT_M
from phototwin.plan.task import Step, Task
from phototwin.robots import Robot
from phototwin.scene import Camera, Scene, depth_inside

DISTANCES = (0.667, 0.733, 0.6, 0.8, 0.533, 0.867, 0.467)
"""Shares of the reach at which the middle of the task's objects may be, the favourites first."""
AZIMUTHS = 24
CAMERA_DISTANCE_M = 0.12
"""The arm never comes closer to the camera than this."""
CAMERA_COMFORT_M = 0.30
"""Closer than this it fills the picture, which counts against a place."""
WORK_HEIGHT = 0.2
"""Height of the tool at work, as a share of the reach, for what the arm hides and how much of it is seen then."""
BASE_GAP_M = 0.03
REST_GAP_M = 0.01
"""Room that the robot at rest leaves around every object."""
NEIGHBOURHOOD_M = 0.08
"""Objects will be moved about by up to this much along X and Y, and must stay within reach."""
GRASPS_TRIED = 16
CANDIDATES_TRIED = 16
"""Candidates, best looking first, whose reach is computed."""
CELLS = 64
"""Cells across the image in which occlusion is judged."""
WALL_POINTS = 5
"""With more background points than this in the base's column the base would stand in a wall."""
WALL_FROM_M = 0.04
SIDES = 8
"""Directions from which a pushing tool may have to come."""
PUSH_GAP_M = 0.03
RIGID = 1e-3
"""How far a given rotation may be from one: files state few digits."""


@dataclass(frozen=True, eq=False)
class _View:
    """The objects as the camera sees them, on a coarse grid: cell index and depth of every surface point."""

    cells: np.ndarray
    depth_m: np.ndarray


def load_base(base: str, camera: Camera) -> np.ndarray:
    """Pose of the robot's base T_world_base (4, 4) as somebody measured it [m].

    Args:
        base: "x y z yaw" in the world [m, degrees], or a JSON file with a 4x4 matrix "T_world_base" or, from a hand-eye calibration,
            "T_camera_base" (camera: +X right, +Y down, +Z forward).
        camera: The photo's.

    Raises:
        InputError: It is neither.
    """
    words = base.replace(",", " ").split()
    try:
        x, y, z, yaw = (float(word) for word in words)
    except ValueError:
        return _read_base(Path(base), camera)
    return make_T(rotation_z(np.radians(yaw)), np.array([x, y, z]))


def _read_base(file: Path, camera: Camera) -> np.ndarray:
    try:
        value: Any = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise InputError(
            f"The robot's base is given as '{file}', which is neither four numbers 'x y z yaw' nor a readable JSON file ({error})."
        ) from error
    given = [name for name in ("T_world_base", "T_camera_base") if isinstance(value, dict) and name in value]
    try:
        T = np.array(value[given[0]], dtype=np.float64) if given else np.zeros(0)
    except (TypeError, ValueError):
        T = np.zeros(0)
    R = T[:3, :3] if T.shape == (4, 4) else np.zeros((3, 3))
    if not np.allclose(R @ R.T, np.eye(3), atol=RIGID) or np.linalg.det(R) < 0 or not np.isfinite(T).all():
        raise InputError(
            f"'{file}' must hold a rigid 4x4 matrix named T_world_base or T_camera_base, row by row, in metres."
        )
    u, _, vt = np.linalg.svd(R)
    T = make_T(u @ vt, T[:3, 3])
    return T if given[0] == "T_world_base" else camera.T_world_camera @ T


def place_base(
    scene: Scene, task: Task, robot: Robot, arm: Arm, seed: int, grasps: dict[str, Grasps] | None = None
) -> np.ndarray:
    """Pose of the robot's base T_world_base (4, 4), at the robot's height over the support, turned so that its tool at rest is towards the task's objects.

    Candidates stand around the objects; those in an object, in a wall or at the camera are left out. The others are ordered by
    what the robot hides of the objects (at rest above all, then at work), how much of it is seen, its distance to the camera
    and whether the base is on the known support; the first from which the objects can be reached wherever they may be moved is taken, or the one that reaches most.

    Args:
        scene: The twin.
        task: What shall be done there: every step's object must be reached.
        robot: The robot.
        arm: Its kinematics.
        seed: Of the grasps that are tried.
        grasps: Grasps by object key; those that are missing are proposed.

    Raises:
        PlanError: From nowhere can the object be reached.
    """
    grasps = dict(grasps or {})
    for step in task.steps:
        if step.object not in grasps and step.skill != "push":
            item = scene.object(step.object)
            others = tuple((o, o.T_world_object) for o in scene.objects if o.key != item.key)
            grasps[item.key] = propose_grasps(item, robot, others, item.T_world_object, seed)
    centre = np.mean([scene.object(key).T_world_object[:2, 3] for key in task.keys], 0)
    candidates = _candidates(scene, robot, arm, centre)
    if not candidates:
        raise PlanError(
            "There is no free place for the robot within reach of the objects: clear the support around them."
        )
    best, best_share = None, 0.0
    for T_world_base in candidates[:CANDIDATES_TRIED]:
        share = 1.0
        for step in task.steps:
            share = min(share, _reach_share(arm, T_world_base, *_tool_poses(scene, step, grasps)))
            if share <= best_share:
                break
        if share > best_share:
            best, best_share = T_world_base, share
        if best_share == 1.0:
            break
    if best is None:
        names = " or the ".join(dict.fromkeys(scene.object(step.object).name for step in task.steps))
        raise PlanError(f"The {names} is out of reach: from no place around it does the {robot.name}'s tool get there.")
    return best


def _candidates(scene: Scene, robot: Robot, arm: Arm, centre: np.ndarray) -> list[np.ndarray]:
    """Possible base poses (4, 4), best looking first."""
    view = _object_view(scene)
    points = [obstacle_points(o, o.T_world_object) for o in scene.objects]
    things = np.concatenate(points)[:, :2]
    boxes = [(p.min(0) - REST_GAP_M, p.max(0) + REST_GAP_M) for p in points]
    wall = scene.background.points.astype(np.float64)
    wall = wall[(wall[:, 2] > WALL_FROM_M) & (wall[:, 2] < 0.8 * robot.reach_m), :2]
    ranked = []
    eye = scene.camera.T_world_camera[:3, 3]
    ahead = np.arctan2(*tool_pose(arm, arm.home)[[1, 0], 3])
    for order, distance in enumerate(robot.reach_m * share for share in DISTANCES):
        postures = _postures(arm, distance, ahead)
        rest_b, work_b = (np.concatenate([link_points(arm, q), arm.base_points]) for q in postures)
        for azimuth in np.linspace(-np.pi, np.pi, AZIMUTHS, endpoint=False):
            foot = centre - distance * np.array([np.cos(azimuth), np.sin(azimuth)])
            T_world_base = make_T(rotation_z(azimuth - ahead), np.array([*foot, robot.base_height_m]))
            if np.hypot(*(things - foot).T).min() < robot.base_radius_m + BASE_GAP_M:
                continue
            if (np.hypot(*(wall - foot).T) < robot.base_radius_m).sum() > WALL_POINTS:
                continue
            rest_w, work_w = transform(T_world_base, rest_b), transform(T_world_base, work_b)
            away = min(float(np.linalg.norm(body - eye, axis=1).min()) for body in (rest_w, work_w))
            if away < CAMERA_DISTANCE_M or any(((rest_w > low) & (rest_w < high)).all(1).any() for low, high in boxes):
                continue
            hidden, _ = _looks(scene.camera, rest_w, view)
            hidden_at_work, seen = _looks(scene.camera, work_w, view)
            crowded = max(0.0, 1.0 - away / CAMERA_COMFORT_M)
            margin = float(depth_inside(scene.support.polygon_w, foot)) / robot.base_radius_m
            margin *= -1.0 if robot.base_height_m else 1.0  # who stands on the floor stands before the support
            misplaced = np.clip(0.5 - 0.5 * margin, 0.0, 1.0)
            cost = 4.0 * hidden + hidden_at_work - seen + crowded + misplaced + 0.05 * order
            ranked.append((cost, order, float(azimuth), T_world_base))
    return [T for *_, T in sorted(ranked, key=lambda entry: entry[:3])]


def _postures(arm: Arm, distance: float, ahead: float) -> tuple[np.ndarray, np.ndarray]:
    """Joint positions (J,) at rest, and with the tool down over a place that far from the base in the direction ``ahead``."""
    height = WORK_HEIGHT * arm.robot.reach_m - arm.robot.base_height_m
    place = np.array([distance * np.cos(ahead), distance * np.sin(ahead), height])
    down = make_T(rotation_z(ahead) @ np.diag([1.0, -1.0, -1.0]), place)
    return arm.home, solve_pose(arm, down, arm.home)[0]


def _object_view(scene: Scene) -> _View:
    points = np.concatenate([obstacle_points(o, o.T_world_object) for o in scene.objects])
    cells, depth, inside = _project_to_cells(scene.camera, points)
    return _View(cells[inside], depth[inside])


def _project_to_cells(camera: Camera, points_w: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cell index, depth [m], and whether it is in the image, for points (P, 3)."""
    points_c = transform(invert(camera.T_world_camera), points_w)
    depth = points_c[:, 2]
    ahead = depth > 0.02
    uv = project(camera.K_px, np.where(ahead[:, None], points_c, [0.0, 0.0, 1.0]))
    inside = ahead & (uv >= 0).all(1) & (uv[:, 0] < camera.width) & (uv[:, 1] < camera.height)
    size = camera.width / CELLS
    column, row = np.floor(uv[:, 0] / size).astype(int), np.floor(uv[:, 1] / size).astype(int)
    return row * CELLS + column, depth, inside


def _looks(camera: Camera, body_w: np.ndarray, view: _View) -> tuple[float, float]:
    """Share of the objects' points that the robot at rest hides, and share of the robot's points in the image."""
    cells, depth, inside = _project_to_cells(camera, body_w)
    rows = int(np.ceil(camera.height * CELLS / camera.width)) + 1
    nearest = np.full((rows, CELLS), np.inf)
    np.minimum.at(nearest.reshape(-1), cells[inside], depth[inside])
    # Body points are a few centimetres apart: a point stands for the cells around it too.
    padded = np.pad(nearest, 1, constant_values=np.inf)
    filled = np.min([padded[i : i + rows, j : j + CELLS] for i in range(3) for j in range(3)], 0).reshape(-1)
    hidden = float((filled[view.cells] < view.depth_m).mean()) if len(view.cells) else 0.0
    return hidden, float(inside.mean())


def _tool_poses(scene: Scene, step: Step, grasps: dict[str, Grasps]) -> tuple[np.ndarray, np.ndarray]:
    """Tool poses T_world_tool (P, K, 4, 4) that a step asks for: P places, at each of which one of K ways is enough.

    Also whether a place is one that must be reached, (P,) bool: where the objects are now, and not where they may be moved.
    """
    item = scene.object(step.object)
    shifts = [(0.0, 0.0)] + [(sx * NEIGHBOURHOOD_M, sy * NEIGHBOURHOOD_M) for sx in (-1, 1) for sy in (-1, 1)]
    lifts = [0.0] if step.skill == "push" else [0.0, LIFT_M]
    places = [(item.T_world_object, lift) for lift in lifts]
    if step.target and step.skill != "push":
        above = item.T_world_object.copy()
        target = scene.object(step.target)
        above[:2, 3] = target.T_world_object[:2, 3]
        top = float(target.size_m[2])
        places += [(above, top), (above, top + 0.05)]
    ways = _pushes(item.size_m) if step.skill == "push" else _some(grasps[step.object].T_object_tool)
    poses, musts = [], []
    for shift in shifts:
        for T_world_object, height in places:
            moved = T_world_object.copy()
            moved[:3, 3] += [*shift, height]
            poses.append(moved @ ways)
            musts.append(shift == (0.0, 0.0))
    return np.stack(poses), np.array(musts)


def _some(T_object_tool: np.ndarray) -> np.ndarray:
    """At most ``GRASPS_TRIED`` of grasps (G, 4, 4): the best, and some of all others."""
    best = np.arange(min(len(T_object_tool), GRASPS_TRIED // 2))
    others = np.linspace(len(best), len(T_object_tool) - 1, GRASPS_TRIED - len(best)).astype(int)
    return T_object_tool[np.unique(np.concatenate([best, others]).clip(0, len(T_object_tool) - 1))]


def _pushes(size_m: np.ndarray) -> np.ndarray:
    """Tool poses (SIDES, 4, 4) around an object, in its frame: the tool down, its closing direction along the object's side."""
    out = []
    for azimuth in np.linspace(0.0, 2.0 * np.pi, SIDES, endpoint=False):
        away = 0.5 * float(np.hypot(*size_m[:2])) + PUSH_GAP_M
        R = rotation_z(azimuth) @ np.diag([1.0, -1.0, -1.0])
        out.append(make_T(R, np.array([away * np.cos(azimuth), away * np.sin(azimuth), 0.0])))
    return np.stack(out)


def _reach_share(arm: Arm, T_world_base: np.ndarray, T_world_tool: np.ndarray, must: np.ndarray) -> float:
    """Share of the places (P, K, 4, 4) at which the arm reaches one of the poses; 0 where it misses one that it must reach."""
    T_base_tool = invert(T_world_base) @ T_world_tool
    first = _any_reached(arm, T_base_tool[must])
    if not first.all():
        return 0.0
    return float(np.concatenate([first, _any_reached(arm, T_base_tool[~must])]).mean())


def _any_reached(arm: Arm, T_base_tool: np.ndarray) -> np.ndarray:
    """At which of P places (P, K, 4, 4) one of the poses is reached, (P,) bool."""
    places, ways = T_base_tool.shape[:2]
    hit = solve_poses(arm, T_base_tool.reshape(-1, 4, 4), arm.home)[1]
    return np.any(hit.reshape(places, ways), axis=1)
