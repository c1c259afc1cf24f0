"""Where the robot stands: found, on the support, reaching the task's objects and leaving them in the camera's sight; or as measured."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from phototwin.errors import InputError, PlanError
from phototwin.frames import invert, make_T, matrix_from_quat_xyzw, project, rotation_z, transform
from phototwin.plan.grasp import Grasps, obstacle_points, propose_grasps
from phototwin.plan.ik import Arm, link_points, solve_pose, solve_poses, tool_pose
from phototwin.plan.places import lift_poses
from phototwin.plan.task import Step, Task
from phototwin.robots import Robot, approach_distance
from phototwin.scene import Camera, Scene, depth_inside

QUAT_TOLERANCE = 1e-3
DISTANCES = (0.667, 0.733, 0.6, 0.8, 0.533, 0.867, 0.467)
"""Shares of the reach at which the middle of the task's objects may be, the favourites first."""
AZIMUTHS = 24
CAMERA_DISTANCE_M = 0.12
"""The arm never comes closer to the camera than this."""
CAMERA_COMFORT_M = 0.30
"""Closer than this it fills the picture, which counts against a place."""
WAYS_SEEN, LEAST_SCORE = 6, 1e-3
"""Ways to hold the object in which the arm's nearness to the camera is looked at, and what a place is worth that only reaches it."""
WORK_HEIGHT = 0.2
"""Height of the tool at work, as a share of the reach, for what the arm hides and how much of it is seen then."""
BASE_GAP_M = 0.03
REST_GAP_M = 0.01
"""Room that the robot at rest leaves around every object."""
NEIGHBOURHOOD_M = 0.08
"""Objects will be moved about by up to this much along X and Y, and must stay within reach."""
WAYS_TRIED, SHORT_ARM_WAYS = 16, 64
"""Grasps that are tried; an arm of fewer than six joints reaches but one in ten."""
CANDIDATES_TRIED = 16
"""Candidates, best looking first, whose reach is computed."""
CELLS = 64
"""Cells across the image in which occlusion is judged."""
WALL_POINTS = 5
"""With more background points than this in the base's column the base would stand in a wall."""
WALL_FROM_M = 0.04
OVER_M = 0.05
"""Things are carried to their place from this far above it."""
PUSH_M, PUSH_GAP_M = 0.10, 0.03
"""How far a pushed thing must be able to go, and how far behind it the tool begins."""
PUSH_LEANS_RAD = (0.0, 0.4, 0.7)
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
        base: "x y z yaw" in the world [m, degrees], "x y z qx qy qz qw", or a JSON file, or its text, with a 4x4 matrix "T_world_base" or, from a
            hand-eye calibration, "T_camera_base" (camera: +X right, +Y down, +Z forward).
        camera: The photo's.

    Raises:
        InputError: It is neither.
    """
    words = base.replace(",", " ").split()
    try:
        x, y, z, *turn = (float(word) for word in words)
    except ValueError:
        return _read_base(base, camera)
    if len(turn) == 1:
        return make_T(rotation_z(np.radians(turn[0])), np.array([x, y, z]))
    if len(turn) == 4 and abs(np.linalg.norm(turn) - 1) < QUAT_TOLERANCE:
        return make_T(matrix_from_quat_xyzw(np.array(turn)), np.array([x, y, z]))
    raise InputError(
        f"The robot's base is given as '{base}': expected x y z yaw, or x y z and a quaternion x y z w of norm 1."
    )


def fixed_base(base: str) -> str:
    """``base`` as ``load_base`` takes it, with what a file says now in place of its name.

    Raises:
        InputError: It is neither numbers nor a readable JSON file.
    """
    words = base.replace(",", " ").split()
    try:
        [float(word) for word in words]
    except ValueError:
        return json.dumps(_json_base(base), sort_keys=True)
    return base


def _json_base(base: str) -> Any:
    try:
        return json.loads(base if base.lstrip().startswith("{") else Path(base).read_text())
    except (OSError, ValueError) as error:
        raise InputError(
            f"The robot's base is given as '{base}', which is neither numbers 'x y z yaw' or 'x y z qx qy qz qw' nor a readable JSON file ({error})."
        ) from error


def _read_base(base: str, camera: Camera) -> np.ndarray:
    value = _json_base(base)
    given = [name for name in ("T_world_base", "T_camera_base") if isinstance(value, dict) and name in value]
    try:
        T = np.array(value[given[0]], dtype=np.float64) if given else np.zeros(0)
    except (TypeError, ValueError):
        T = np.zeros(0)
    R = T[:3, :3] if T.shape == (4, 4) else np.zeros((3, 3))
    if not np.allclose(R @ R.T, np.eye(3), atol=RIGID) or np.linalg.det(R) < 0 or not np.isfinite(T).all():
        raise InputError(
            f"'{base}' must hold a rigid 4x4 matrix named T_world_base or T_camera_base, row by row, in metres."
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
    and whether the base is on the known support; the first from which the objects can be reached wherever they may be moved, and without
    an arm that fills the picture, is taken, or the one that comes nearest to that.

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
    grasps = _with_grasps(scene, task, robot, seed, grasps or {})
    centre = np.mean([scene.object(key).T_world_object[:2, 3] for key in task.keys], 0)
    candidates = _candidates(scene, robot, arm, centre)
    if not candidates:
        raise PlanError(
            "There is no free place for the robot within reach of the objects: clear the support around them."
        )
    best, best_score = None, 0.0
    for T_world_base in candidates[:CANDIDATES_TRIED]:
        score = 1.0
        for step in task.steps:
            share = _reach_share(scene, step, arm, T_world_base, grasps)
            if share > 0.0:
                share = max(share - _fills_picture(scene, step, arm, T_world_base, grasps), LEAST_SCORE)
            score = min(score, share)
            if score <= best_score:
                break
        if score > best_score:
            best, best_score = T_world_base, score
        if best_score == 1.0:
            break
    if best is None:
        names = " or the ".join(dict.fromkeys(scene.object(step.object).name for step in task.steps))
        raise PlanError(f"The {names} is out of reach: from no place around it does the {robot.name}'s tool get there.")
    return best


def reach_share(scene: Scene, task: Task, robot: Robot, arm: Arm, seed: int = 0) -> float:
    """Share of the places to which the task's objects may be moved that the robot reaches from where it is placed, the least of all steps; 0 where it reaches none."""
    try:
        grasps = _with_grasps(scene, task, robot, seed, {})
        T_world_base = place_base(scene, task, robot, arm, seed, grasps)
    except PlanError:
        return 0.0
    return min(_reach_share(scene, step, arm, T_world_base, grasps) for step in task.steps)


def _with_grasps(scene: Scene, task: Task, robot: Robot, seed: int, grasps: dict[str, Grasps]) -> dict[str, Grasps]:
    """Grasps of all objects that the task takes; those that are not given are proposed.

    Raises:
        PlanError: There is none of one of them.
    """
    grasps = dict(grasps)
    for step in task.steps:
        if step.object not in grasps and step.skill != "push":
            item = scene.object(step.object)
            others = tuple((o, o.T_world_object) for o in scene.objects if o.key != item.key)
            count = 4 * SHORT_ARM_WAYS if robot.free_axis else 4 * WAYS_TRIED
            grasps[item.key] = propose_grasps(item, robot, others, item.T_world_object, seed, count)
    return grasps


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


def _reach_share(scene: Scene, step: Step, arm: Arm, T_world_base: np.ndarray, grasps: dict[str, Grasps]) -> float:
    """Share of the places to which the step's object may be moved at which one way to hold it reaches all stops of the step.

    0 where there is none at the place at which it is.
    """
    ways, stops = _ways(scene, step, arm.robot, grasps), _stops(scene, step, arm.robot, T_world_base)
    shifts = np.array([(0, 0), *((sx, sy) for sx in (-1, 1) for sy in (-1, 1))]) * NEIGHBOURHOOD_M
    moves_b = np.append(shifts, np.zeros((len(shifts), 1)), 1) @ T_world_base[:3, :3]
    before = ways @ make_T(np.eye(3), np.array([0.0, 0.0, -approach_distance(arm.robot)]))
    T_base_tool = [invert(T_world_base) @ stop[:, None] @ ways for stop in stops]
    T_base_tool.insert(1, invert(T_world_base) @ stops[0][:, None] @ before)
    if not _held_throughout(arm, T_base_tool, moves_b[:1])[0]:
        return 0.0
    return float(np.append(True, _held_throughout(arm, T_base_tool, moves_b[1:])).mean())


def _fills_picture(scene: Scene, step: Step, arm: Arm, T_world_base: np.ndarray, grasps: dict[str, Grasps]) -> float:
    """How near the arm comes to the camera within its view at the stops of a step, in most ways to hold the object: 0 from ``CAMERA_COMFORT_M`` on, 1 at the camera."""
    ways, camera = _ways(scene, step, arm.robot, grasps), scene.camera
    worst = 0.0
    for stop in _stops(scene, step, arm.robot, T_world_base):
        q, hit = solve_poses(arm, invert(T_world_base) @ stop[0] @ ways, arm.home)
        near = []
        for posture in q[hit][:WAYS_SEEN]:
            body_w = transform(T_world_base, link_points(arm, posture))
            seen = body_w[_project_to_cells(camera, body_w)[2]] - camera.T_world_camera[:3, 3]
            near.append(min(np.linalg.norm(seen, axis=1), default=np.inf))
        if near:
            worst = max(worst, 1.0 - float(np.median(near)) / CAMERA_COMFORT_M)
    return worst


def _held_throughout(arm: Arm, T_base_tool: list[np.ndarray], moves_b: np.ndarray) -> np.ndarray:
    """For which of P moves (P, 3) one of K ways reaches every stop, each in one of its poses (A, K, 4, 4); (P,) bool."""
    held = np.ones((len(moves_b), T_base_tool[0].shape[1]), dtype=bool)
    for poses in T_base_tool:
        hit = np.zeros_like(held)
        for alternative in poses:
            asked = held & ~hit
            place, way = np.nonzero(asked)
            T = alternative[way]
            T[:, :3, 3] += moves_b[place]
            if len(T):
                hit[asked] = solve_poses(arm, T, arm.home)[1]
        held = hit
    return np.any(held, axis=1)


def _stops(scene: Scene, step: Step, robot: Robot, T_world_base: np.ndarray) -> list[np.ndarray]:
    """Where the step's object passes: for every stop the poses T_world_object (A, 4, 4) of which one is enough."""
    T_now = scene.object(step.object).T_world_object
    if step.skill == "push":
        return [T_now[None], _raised(T_now, _push_way(scene, step) * PUSH_M)[None]]
    stops = [T_now[None], np.stack(lift_poses(T_now, robot, T_world_base))]
    if step.target:
        target = scene.object(step.target)
        across = target.T_world_object[:2, 3] - T_now[:2, 3]
        stops += [_raised(T_now, np.append(across, target.size_m[2] + height))[None] for height in (0.0, OVER_M)]
    return stops


def _raised(T: np.ndarray, by: np.ndarray) -> np.ndarray:
    """A pose (4, 4) moved by (3,) [m]."""
    out = T.copy()
    out[:3, 3] += by
    return out


def _ways(scene: Scene, step: Step, robot: Robot, grasps: dict[str, Grasps]) -> np.ndarray:
    """Tool poses T_object_tool (K, 4, 4) by which the step's object is moved.

    Some grasps, the best and some of all others; for a push, behind it, the tool down or leaning.
    """
    item = scene.object(step.object)
    if step.skill != "push":
        T = grasps[step.object].T_object_tool
        count = SHORT_ARM_WAYS if robot.free_axis else WAYS_TRIED
        best = np.arange(min(len(T), count // 2))
        others = np.linspace(len(best), len(T) - 1, count - len(best)).astype(int)
        return T[np.unique(np.concatenate([best, others]).clip(0, len(T) - 1))]
    way = _push_way(scene, step)
    behind = -way * (0.5 * float(np.hypot(*item.size_m[:2])) + PUSH_GAP_M)
    poses = []
    for lean in PUSH_LEANS_RAD:
        approach = np.sin(lean) * way - np.cos(lean) * np.array([0.0, 0.0, 1.0])
        for side in (-1.0, 1.0):
            y = side * np.cross([0.0, 0.0, 1.0], way)
            poses.append(make_T(np.stack([np.cross(y, approach), y, approach], 1), behind))
    T_world_here = make_T(np.eye(3), item.T_world_object[:3, 3])
    return invert(item.T_world_object) @ T_world_here @ np.stack(poses)


def _push_way(scene: Scene, step: Step) -> np.ndarray:
    """The asked way along the support, (3,), unit."""
    from phototwin.plan.push import push_way  # which knows workcells, and these know this module

    way = push_way(step, scene.camera, {item.key: item.T_world_object for item in scene.objects})
    return np.append(way, 0.0)
