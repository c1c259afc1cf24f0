"""Task and grasp -> tool waypoints -> a path sampled in time -> joint positions.

A plan goes from the arm's start through the air to a point before the object, then along straight tool motions: reach,
close, lift, and for "place" carry, lower, open, retreat. The held object moves with the tool, so where the object shall
end determines where the tool must.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from phototwin.errors import PlanError
from phototwin.frames import invert, make_T, matrix_from_quat_xyzw, quat_xyzw_from_matrix, transform
from phototwin.plan.cell import Workcell
from phototwin.plan.grasp import APPROACH_M, NEIGHBOUR_MARGIN_M, Grasps, gripper_is_free, obstacle_points
from phototwin.plan.ik import (
    Arm,
    follow_path,
    link_points,
    reached,
    solve_pose,
    solve_postures,
    tool_pose,
    why_unreached,
)
from phototwin.plan.places import goal_poses
from phototwin.plan.task import Step
from phototwin.robots import Robot
from phototwin.scene import SceneObject

PEAK_SPEED_M_S = 0.30
CONTACT_SPEED_M_S = 0.15
"""Peak tool speed in the air, and on the way to where something is touched; a minimum-jerk way ends much slower."""
LIFT_SPEED_M_S = 0.22
PEAK_TURN_RAD_S = 1.5
PEAK_JOINT_RAD_S = 1.5
PEAK_OVER_MEAN = 1.875
"""Of a minimum-jerk motion. Source: Flash and Hogan (1985), x(s) = 10 s^3 - 15 s^4 + 6 s^5."""
SETTLE_S = 0.25
CLOSE_S = 0.6
OPEN_S = 0.5
HOLD_S = 0.5
CARRY_CLEARANCE_M = 0.05
"""The held object passes this far above what it is carried over."""
NEAR_M = 0.06
"""The last part of the way down to a place, taken slowly."""
LINK_CLEARANCE_M = 0.001
CHECK_EVERY = 5
MAX_GRASPS = 24
MAX_PLACES = 6
SCORE_NOISE = 0.05
"""Spread of the draw among grasps: demonstrations shall differ, but a much better grasp stays first."""


@dataclass(frozen=True, eq=False)
class Waypoints:
    """Tool poses to pass, in the world.

    Attributes:
        names: K names; the first is where the path starts.
        T_world_tool: (K, 4, 4) [m].
        gripper_open: (K,) bool, on the way to that waypoint.
        seconds: (K,) time from the waypoint before; 0 for the first.
    """

    names: tuple[str, ...]
    T_world_tool: np.ndarray
    gripper_open: np.ndarray
    seconds: np.ndarray


@dataclass(frozen=True, eq=False)
class JointPlan:
    """One attempt's motion, sampled at the control rate; row 0 is one step after the start posture.

    Attributes:
        q: Arm joint positions, (T, J) float32 [rad].
        gripper_open: (T,) bool.
        T_world_tool: Tool poses, (T, 4, 4) [m].
        T_object_tool: The grasp, (4, 4) [m].
        T_world_goal: Where the object shall end, (4, 4) [m].
        step: Index into ``steps`` for every row, (T,) int.
        steps: Names of the steps, for reports.
    """

    q: np.ndarray
    gripper_open: np.ndarray
    T_world_tool: np.ndarray
    T_object_tool: np.ndarray
    T_world_goal: np.ndarray
    step: np.ndarray
    steps: tuple[str, ...]


def plan_step(
    cell: Workcell,
    step: Step,
    T_world_objects: dict[str, np.ndarray],
    q0: np.ndarray,
    seed: int | np.random.SeedSequence,
) -> JointPlan:
    """The motion of one step, from arm posture ``q0`` (J,), with the first grasp for which all of it can be done.

    Args:
        cell: Scene, robot and grasps.
        step: What to do.
        T_world_objects: Current object poses by key, (4, 4).
        q0: Posture at the start, (J,) [rad].
        seed: Of the draw among good grasps and places.

    Raises:
        PlanError: No grasp leads to the end; the message names the step that fails most and why.
    """
    rng = np.random.default_rng(seed)
    scene, grasps = cell.scene, cell.grasps[step.object]
    item = scene.object(step.object)
    T_world_object = T_world_objects[item.key]
    others = tuple((o, T_world_objects[o.key]) for o in scene.objects if o.key != item.key)
    order = _grasp_order(grasps, item, T_world_object, others, cell.robot, rng)[:MAX_GRASPS]
    goals = goal_poses(step, scene, T_world_objects, cell.robot, cell.T_world_base, rng)
    failures: Counter[str] = Counter()
    for g in order:
        T_object_tool = grasps.T_object_tool[g]
        free_goals = [T for T in goals if step.target is None or _gripper_fits(T_object_tool, T, others, cell.robot)]
        if not free_goals:
            failures["open: the fingers would hit a neighbour"] += 1
        for T_world_goal in free_goals[:MAX_PLACES]:
            waypoints = plan_motion(step, item, T_world_object, T_object_tool, T_world_goal, others)
            motion, name, why = _joint_motion(cell, waypoints, others, step, q0)
            if motion is not None:
                q, opened, leads = motion
                T_world_tool = cell.T_world_base @ tool_pose(cell.arm, q)
                names = ("start", *waypoints.names)
                return JointPlan(q.astype(np.float32), opened, T_world_tool, T_object_tool, T_world_goal, leads, names)
            failures[f"{name}: {why}"] += 1
            if name in ("before the object", "reach"):
                break  # another place does not mend the grasp
    reason, times = failures.most_common(1)[0]
    raise PlanError(
        f"No motion was found to {step.skill} the {item.name}: {len(order)} grasps were tried; "
        f"{times} of {failures.total()} tries fail at the step '{reason}'."
    )


def _gripper_fits(
    T_object_tool: np.ndarray,
    T_world_goal: np.ndarray,
    others: tuple[tuple[SceneObject, np.ndarray], ...],
    robot: Robot,
) -> bool:
    """Whether the opening gripper is clear of everything else where the object is put down."""
    points = np.concatenate([obstacle_points(o, invert(T_world_goal) @ T) for o, T in others])
    free = gripper_is_free(T_object_tool[None], np.zeros(1), robot, points, -0.5 * NEIGHBOUR_MARGIN_M)
    return bool(free[0])


def _grasp_order(
    grasps: Grasps,
    item: SceneObject,
    T_world_object: np.ndarray,
    others: tuple[tuple[SceneObject, np.ndarray], ...],
    robot: Robot,
    rng: np.random.Generator,
) -> np.ndarray:
    """Indices of the grasps that are free of neighbours where everything is now, by score with a little chance."""
    free = np.ones(len(grasps.score), dtype=bool)
    for other, T_world_other in others:
        points = obstacle_points(other, invert(T_world_object) @ T_world_other)
        free &= gripper_is_free(grasps.T_object_tool, grasps.width_m, robot, points, -NEIGHBOUR_MARGIN_M)
    if not free.any():
        raise PlanError(f"Every grasp of the {item.name} would hit a neighbour: give the objects more room.")
    drawn = grasps.score + SCORE_NOISE * rng.standard_normal(len(free))
    return np.array([i for i in np.argsort(-drawn, kind="stable") if free[i]])


def plan_motion(
    step: Step,
    item: SceneObject,
    T_world_object: np.ndarray,
    T_object_tool: np.ndarray,
    T_world_goal: np.ndarray,
    others: tuple[tuple[SceneObject, np.ndarray], ...],
) -> Waypoints:
    """Tool waypoints for one grasp and one goal pose of the object (all (4, 4)), from before the grasp to the end."""
    grasp = T_world_object @ T_object_tool
    before = grasp @ make_T(np.eye(3), np.array([0.0, 0.0, -APPROACH_M]))
    stops = [("before the object", before, True, 0.0), ("reach", grasp, True, CONTACT_SPEED_M_S)]
    stops += [("settle", grasp, True, SETTLE_S), ("close", grasp, False, CLOSE_S)]
    if step.target is None:
        stops += [("lift", T_world_goal @ T_object_tool, False, LIFT_SPEED_M_S)]
        stops += [("hold", T_world_goal @ T_object_tool, False, HOLD_S)]
        return _timed(stops)
    place = T_world_goal @ T_object_tool
    carry = _carry_height(item, T_world_object, T_world_goal, others)
    up, over = grasp.copy(), place.copy()
    up[2, 3] += max(carry - T_world_object[2, 3], 0.0)
    over[2, 3] += max(carry - T_world_goal[2, 3], 0.0)
    retreat = place @ make_T(np.eye(3), np.array([0.0, 0.0, -APPROACH_M]))
    near = place.copy()
    near[2, 3] += min(max(carry - T_world_goal[2, 3], 0.0), NEAR_M)
    stops += [("lift", up, False, LIFT_SPEED_M_S), ("carry", over, False, PEAK_SPEED_M_S)]
    stops += [("come down", near, False, PEAK_SPEED_M_S)] if over[2, 3] - near[2, 3] > NEAR_M else []
    stops += [("lower", place, False, CONTACT_SPEED_M_S), ("settle", place, False, SETTLE_S)]
    stops += [
        ("open", place, True, OPEN_S),
        ("retreat", retreat, True, LIFT_SPEED_M_S),
        ("rest", retreat, True, HOLD_S),
    ]
    return _timed(stops)


def _carry_height(
    item: SceneObject,
    T_start: np.ndarray,
    T_end: np.ndarray,
    others: tuple[tuple[SceneObject, np.ndarray], ...],
) -> float:
    """Height of the object's origin at which it is carried over everything near its straight way [m]."""
    bottom, radius = float(item.mesh.points[:, 2].min()), float(np.hypot(*item.size_m[:2])) / 2.0
    top = 0.0
    way = np.linspace(T_start[:2, 3], T_end[:2, 3], 20)
    for other, T in others:
        points = transform(T, other.mesh.points.astype(np.float64))
        distance = np.linalg.norm(points[:, None, :2] - way, axis=2).min()
        if distance < radius + CARRY_CLEARANCE_M:
            top = max(top, float(points[:, 2].max()))
    return max(top + CARRY_CLEARANCE_M, 0.10) - bottom


def _timed(stops: list[tuple[str, np.ndarray, bool, float]]) -> Waypoints:
    """Waypoints from (name, pose, gripper open, peak speed of the way there; where the pose stays, seconds)."""
    seconds = [0.0]
    for (_, before, _, _), (_, after, _, value) in pairwise(stops):
        distance = float(np.linalg.norm(after[:3, 3] - before[:3, 3]))
        angle = float(np.arccos(np.clip((np.trace(before[:3, :3].T @ after[:3, :3]) - 1.0) / 2.0, -1.0, 1.0)))
        moving = distance > 1e-9 or angle > 1e-6
        duration = PEAK_OVER_MEAN * max(distance / value, angle / PEAK_TURN_RAD_S) if moving else value
        seconds.append(max(duration, 0.2))
    names, poses, opened, _ = zip(*stops, strict=True)
    return Waypoints(tuple(names), np.array(poses), np.array(opened), np.array(seconds))


def sample_path(waypoints: Waypoints, fps: float) -> tuple[np.ndarray, np.ndarray]:
    """Tool poses (T, 4, 4) at the control rate and whether the gripper is open (T,); the first row is the first waypoint."""
    poses, opened, _ = _sample(waypoints, fps)
    return poses, opened


def _sample(waypoints: Waypoints, fps: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """``sample_path`` and the index of the waypoint each row leads to (T,)."""
    poses, opened, leads = [waypoints.T_world_tool[:1]], [waypoints.gripper_open[:1]], [np.zeros(1, dtype=int)]
    for k in range(1, len(waypoints.names)):
        count = max(1, round(float(waypoints.seconds[k]) * fps))
        share = minimum_jerk(np.arange(1, count + 1) / count)
        poses.append(interpolate(waypoints.T_world_tool[k - 1], waypoints.T_world_tool[k], share))
        opened.append(np.full(count, waypoints.gripper_open[k]))
        leads.append(np.full(count, k))
    return np.concatenate(poses), np.concatenate(opened), np.concatenate(leads)


def minimum_jerk(s: np.ndarray) -> np.ndarray:
    """Share of the way at share ``s`` of the time, at rest at both ends. Source: Flash and Hogan (1985)."""
    return s**3 * (10.0 - 15.0 * s + 6.0 * s**2)


def interpolate(T_start: np.ndarray, T_end: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Poses (N, 4, 4) on the way from one to another: a straight line, and a turn about one axis the short way round."""
    quat = quat_xyzw_from_matrix(T_start[:3, :3].T @ T_end[:3, :3])
    angle = 2.0 * np.arctan2(np.linalg.norm(quat[:3]), quat[3])
    axis = quat[:3] / max(float(np.linalg.norm(quat[:3])), 1e-12)
    half = 0.5 * angle * share[:, None]
    turn = matrix_from_quat_xyzw(np.concatenate([np.sin(half) * axis, np.cos(half)], 1))
    out = np.zeros((len(share), 4, 4))
    out[:, :3, :3] = T_start[:3, :3] @ turn
    out[:, :3, 3] = T_start[:3, 3] + share[:, None] * (T_end[:3, 3] - T_start[:3, 3])
    out[:, 3, 3] = 1.0
    return out


def _joint_motion(
    cell: Workcell,
    waypoints: Waypoints,
    others: tuple[tuple[SceneObject, np.ndarray], ...],
    step: Step,
    q0: np.ndarray,
) -> tuple[tuple[np.ndarray, np.ndarray, np.ndarray] | None, str, str]:
    """Joint positions (T, J), gripper open (T,) and step (T,), or None with the step that fails and why.

    The way to the first waypoint is a straight line in joint space, the rest follows the tool path; each posture that
    reaches the first waypoint is tried.
    """
    arm, fps = cell.arm, cell.fps
    T_base_world = invert(cell.T_world_base)
    q_key = q0
    for name, T_world_tool in zip(waypoints.names, waypoints.T_world_tool, strict=True):
        q_key, position, angle = solve_pose(arm, T_base_world @ T_world_tool, q_key)
        if not reached(position, angle):
            return None, name, why_unreached(arm, T_base_world @ T_world_tool, q_key)
    poses, opened, leads = _sample(waypoints, fps)
    obstacles = [(o, T) for o, T in others if o.key != step.target]
    failed = (None, waypoints.names[0], "out of reach")
    for q_before in solve_postures(arm, T_base_world @ poses[0], q0):
        q, sample, why = follow_path(arm, T_base_world @ poses, q_before, fps)
        if why:
            failed = (None, waypoints.names[leads[sample]], why)
            continue
        free = free_motion(q0, q_before, fps)
        whole, lead = np.concatenate([free, q]), np.concatenate([np.zeros(len(free), dtype=int), leads + 1])
        hit, why = _first_collision(arm, cell.T_world_base, whole, obstacles)
        if why:
            failed = (None, ("start", *waypoints.names)[lead[hit]], why)
            continue
        return (whole, np.concatenate([np.ones(len(free), dtype=bool), opened]), lead), "", ""
    return failed


def free_motion(q_start: np.ndarray, q_end: np.ndarray, fps: float) -> np.ndarray:
    """Joint positions (T, J) from one posture to another, straight in joint space; neither end is included."""
    seconds = max(PEAK_OVER_MEAN * float(np.abs(q_end - q_start).max()) / PEAK_JOINT_RAD_S, 0.2)
    count = max(1, round(seconds * fps))
    return q_start + minimum_jerk(np.arange(1, count) / count)[:, None] * (q_end - q_start)


def _first_collision(
    arm: Arm, T_world_base: np.ndarray, q: np.ndarray, obstacles: list[tuple[SceneObject, np.ndarray]]
) -> tuple[int, str]:
    """The first sample at which a link is in the support or in an object's bounding box, and which ("" where none is)."""
    boxes = [(o, invert(T) @ T_world_base) for o, T in obstacles]
    for i in range(0, len(q), CHECK_EVERY):
        points_b = link_points(arm, q[i])
        if (points_b @ T_world_base[2, :3] + T_world_base[2, 3]).min() < LINK_CLEARANCE_M:
            return i, "the arm would hit the support"
        for item, T_object_base in boxes:
            centre = 0.5 * (item.mesh.points.max(0) + item.mesh.points.min(0))
            if (np.abs(transform(T_object_base, points_b) - centre) < 0.5 * item.size_m).all(1).any():
                return i, f"the arm would hit the {item.name}"
    return 0, ""
