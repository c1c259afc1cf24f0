"""Where the robot stands: on the support, reaching the task's objects, leaving them in the camera's sight."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from phototwin.errors import PlanError
from phototwin.frames import invert, make_T, project, rotation_z, transform
from phototwin.plan.grasp import Grasps, obstacle_points, propose_grasps
from phototwin.plan.ik import Arm, link_points, reached, solve_pose
from phototwin.plan.places import LIFT_M
from phototwin.plan.task import Step, Task
from phototwin.robots import Robot
from phototwin.scene import Camera, Scene, depth_inside

DISTANCES_M = (0.50, 0.55, 0.45, 0.60, 0.40, 0.65, 0.35)
AZIMUTHS = 24
CAMERA_DISTANCE_M = 0.12
"""The arm never comes closer to the camera than this."""
CAMERA_COMFORT_M = 0.30
"""Closer than this it fills the picture, which counts against a place."""
WORK_HEIGHT_M = 0.15
"""Height of the tool at work, for what the arm hides and how much of it is seen then."""
BASE_GAP_M = 0.03
NEIGHBOURHOOD_M = 0.08
"""Objects will be moved about by up to this much along X and Y, and must stay within reach."""
GRASPS_TRIED = 6
CANDIDATES_TRIED = 16
"""Candidates, best looking first, whose reach is computed."""
CELLS = 64
"""Cells across the image in which occlusion is judged."""
WALL_POINTS = 5
"""With more background points than this in the base's column the base would stand in a wall."""
COLUMN_M = (0.04, 0.6)


@dataclass(frozen=True, eq=False)
class _View:
    """The objects as the camera sees them, on a coarse grid: cell index and depth of every surface point."""

    cells: np.ndarray
    depth_m: np.ndarray


def place_base(
    scene: Scene, task: Task, robot: Robot, arm: Arm, seed: int, grasps: dict[str, Grasps] | None = None
) -> np.ndarray:
    """Pose of the robot's base T_world_base (4, 4), on the support plane, +X towards the task's objects.

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
        if step.object not in grasps:
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
        share = min(_reach_share(scene, step, arm, T_world_base, grasps[step.object]) for step in task.steps)
        if share > best_share:
            best, best_share = T_world_base, share
        if best_share == 1.0:
            break
    if best is None:
        names = " or the ".join(dict.fromkeys(scene.object(step.object).name for step in task.steps))
        raise PlanError(f"The {names} is out of reach: no grasp of it has a solution from any place around it.")
    return best


def _candidates(scene: Scene, robot: Robot, arm: Arm, centre: np.ndarray) -> list[np.ndarray]:
    """Possible base poses (4, 4), best looking first."""
    view = _object_view(scene)
    things = np.concatenate([obstacle_points(o, o.T_world_object)[:, :2] for o in scene.objects])
    wall = scene.background.points.astype(np.float64)
    wall = wall[(wall[:, 2] > COLUMN_M[0]) & (wall[:, 2] < COLUMN_M[1]), :2]
    ranked = []
    eye = scene.camera.T_world_camera[:3, 3]
    for order, distance in enumerate(DISTANCES_M):
        rest_b, work_b = (np.concatenate([link_points(arm, q), _pedestal(robot)]) for q in _postures(arm, distance))
        for azimuth in np.linspace(-np.pi, np.pi, AZIMUTHS, endpoint=False):
            foot = centre - distance * np.array([np.cos(azimuth), np.sin(azimuth)])
            T_world_base = make_T(rotation_z(azimuth), np.array([*foot, 0.0]))
            if np.hypot(*(things - foot).T).min() < robot.base_radius_m + BASE_GAP_M:
                continue
            if (np.hypot(*(wall - foot).T) < robot.base_radius_m).sum() > WALL_POINTS:
                continue
            rest_w, work_w = transform(T_world_base, rest_b), transform(T_world_base, work_b)
            away = min(float(np.linalg.norm(body - eye, axis=1).min()) for body in (rest_w, work_w))
            if away < CAMERA_DISTANCE_M:
                continue
            hidden, _ = _looks(scene.camera, rest_w, view)
            hidden_at_work, seen = _looks(scene.camera, work_w, view)
            crowded = max(0.0, 1.0 - away / CAMERA_COMFORT_M)
            margin = float(depth_inside(scene.support.polygon_w, foot)) / robot.base_radius_m
            overhang = np.clip(0.5 - 0.5 * margin, 0.0, 1.0)
            cost = 4.0 * hidden + hidden_at_work - seen + crowded + overhang + 0.05 * order
            ranked.append((cost, order, float(azimuth), T_world_base))
    return [T for *_, T in sorted(ranked, key=lambda entry: entry[:3])]


def _postures(arm: Arm, distance: float) -> tuple[np.ndarray, np.ndarray]:
    """Joint positions (J,) at rest, and with the tool down over a place that far ahead of the base."""
    down = make_T(np.diag([1.0, -1.0, -1.0]), np.array([distance, 0.0, WORK_HEIGHT_M]))
    return arm.home, solve_pose(arm, down, arm.home)[0]


def _pedestal(robot: Robot) -> np.ndarray:
    """Points (P, 3) on the base's cylinder, base frame."""
    angle, height = np.meshgrid(np.linspace(0.0, 2.0 * np.pi, 16, endpoint=False), np.linspace(0.0, 0.3, 6))
    return np.stack([robot.base_radius_m * np.cos(angle), robot.base_radius_m * np.sin(angle), height], -1).reshape(
        -1, 3
    )


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


def _reach_share(scene: Scene, step: Step, arm: Arm, T_world_base: np.ndarray, grasps: Grasps) -> float:
    """Share of the places around the step's objects that a grasp reaches, at the object and lifted; 0 where the object itself is not."""
    item = scene.object(step.object)
    T_base_world = invert(T_world_base)
    heights = [0.0, LIFT_M]
    places = [(item.T_world_object, height) for height in heights]
    if step.target:
        above = item.T_world_object.copy()
        target = scene.object(step.target)
        above[:2, 3] = target.T_world_object[:2, 3]
        top = float(target.size_m[2])
        places += [(above, top), (above, top + 0.05)]
    shifts = [(0.0, 0.0)] + [(sx * NEIGHBOURHOOD_M, sy * NEIGHBOURHOOD_M) for sx in (-1, 1) for sy in (-1, 1)]
    won = total = 0
    for shift in shifts:
        for T_world_object, height in places:
            moved = T_world_object.copy()
            moved[:3, 3] += [*shift, height]
            hit = _any_grasp_reaches(arm, T_base_world @ moved, grasps)
            if not hit and shift == (0.0, 0.0):
                return 0.0
            won, total = won + hit, total + 1
    return won / total


def _any_grasp_reaches(arm: Arm, T_base_object: np.ndarray, grasps: Grasps) -> bool:
    near = arm.robot.reach_m + 0.1
    tried = 0
    for T_object_tool in grasps.T_object_tool:
        pose = T_base_object @ T_object_tool
        if np.linalg.norm(pose[:3, 3]) > near:
            continue
        if reached(*solve_pose(arm, pose, arm.home)[1:]):
            return True
        tried += 1
        if tried == GRASPS_TRIED:
            break
    return False
