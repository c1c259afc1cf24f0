"""Where the tool should come to for the step at hand: learned policies are shown the twin's own grasps instead of having to find them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from isaaclab.utils.math import (
    axis_angle_from_quat,
    combine_frame_transforms,
    matrix_from_quat,
    quat_conjugate,
    quat_mul,
    quat_unique,
)

from phototwin.errors import PlanError
from phototwin.frames import invert, make_T, quat_xyzw_from_matrix
from phototwin.plan.ik import reached, solve_pose
from phototwin.plan.ik import tool_pose as forward_kinematics
from phototwin.plan.waypoints import plan_step
from phototwin_tasks.mdp.observations import gripper_opening, object_pose, tool_pose

if TYPE_CHECKING:
    from phototwin.plan.cell import Workcell
    from phototwin.plan.task import Step
    from phototwin_tasks.twin_env import TwinEnv

HALF_TURN = np.diag([-1.0, -1.0, 1.0, 1.0])
"""About its Z a gripper of two like fingers is the same turned by half a turn."""
SAME_M = 1e-3
READY_M = 0.15
"""Learning starts this far before the first grasp."""
TAKEN_M, MISSED_M = 0.02, 0.04
"""With the tool nearer than the first to where it should take the object, closed fingers have the object between them; not farther than the second."""
CLOSED_SHARE = 0.015
"""Fingers less open than this have closed on nothing."""
BACK_M = 0.08
"""The tool comes to a grasp from this far back along its approach, and from nearer the less it is beside it."""


@dataclass(frozen=True)
class Guide:
    """Of S steps.

    Attributes:
        rows: Row of each step's object among the objects of the twin, (S,) int64.
        grasps: Tool pose in that object's frame at which it is taken, (S, 7): x, y, z [m], quat_xyzw.
        reference: Turn of the tool (quat_xyzw) with which it takes the object where the photo shows it, (S, 4).
        openings: Share of the way open at which the fingers meet the object there, (S,).
        home: Tool pose at the start of an episode, (7,).
    """

    rows: torch.Tensor
    grasps: torch.Tensor
    reference: torch.Tensor
    openings: torch.Tensor
    home: torch.Tensor


def ready_posture(cell: Workcell, step: Step) -> np.ndarray:
    """Arm joint positions (J,) from which learning starts: before the grasp of a step where the photo shows its object, else at home.

    From there a policy's first moves already meet the object; from home it would spend most of its steps in empty air.
    """
    home = cell.arm.home
    R_world_home = (cell.T_world_base @ forward_kinematics(cell.arm, home))[:3, :3]
    T_ready = cell.scene.object(step.object).T_world_object @ _best_grasp(cell, step, R_world_home)
    T_ready = T_ready @ make_T(np.eye(3), np.array([0.0, 0.0, -READY_M]))
    q, position_m, angle_rad = solve_pose(cell.arm, invert(cell.T_world_base) @ T_ready, home)
    return q if reached(position_m, angle_rad) else home


def make_guide(env: TwinEnv) -> Guide:
    """The guide of the environment's task."""
    cell = env.cell
    keys = [item.key for item in env.twin.objects]
    T_home = cell.T_world_base @ forward_kinematics(cell.arm, env.start_rad)
    grasps = [_best_grasp(cell, step, T_home[:3, :3]) for step in env.task.steps]
    places = [env.twin.object(step.object).T_world_object for step in env.task.steps]
    widths = [_width(cell, step, T) for step, T in zip(env.task.steps, grasps, strict=True)]
    openings = [width / (2 * cell.robot.finger_open_m) for width in widths]
    turns = [quat_xyzw_from_matrix((T @ grasp)[:3, :3]) for T, grasp in zip(places, grasps, strict=True)]
    return Guide(
        rows=torch.tensor([keys.index(step.object) for step in env.task.steps], device=env.device),
        grasps=torch.tensor(np.stack([_pose(T) for T in grasps]), dtype=torch.float32, device=env.device),
        reference=torch.tensor(np.stack(turns), dtype=torch.float32, device=env.device),
        openings=torch.tensor(openings, dtype=torch.float32, device=env.device),
        home=torch.tensor(_pose(T_home), dtype=torch.float32, device=env.device),
    )


def _pose(T: np.ndarray) -> np.ndarray:
    return np.append(T[:3, 3], quat_xyzw_from_matrix(T[:3, :3]))


def _best_grasp(cell: Workcell, step: Step, R_world_home: np.ndarray) -> np.ndarray:
    """T_object_tool (4, 4) with which the whole step can be done in the photo's own arrangement; else the best by score.

    Of a grasp and its half turn the one nearer to how the tool is held at home.
    """
    T_world_objects = {item.key: item.T_world_object for item in cell.scene.objects}
    try:
        T = plan_step(cell, step, T_world_objects, cell.arm.home, 0).T_object_tool
    except PlanError:
        if step.object not in cell.grasps:  # it is pushed, from above if need be
            return invert(T_world_objects[step.object]) @ make_T(R_world_home, T_world_objects[step.object][:3, 3])
        T = cell.grasps[step.object].T_object_tool[0]
    R = R_world_home.T @ T_world_objects[step.object][:3, :3]
    return max((T, T @ HALF_TURN), key=lambda candidate: float(np.trace(R @ candidate[:3, :3])))


def _width(cell: Workcell, step: Step, T_object_tool: np.ndarray) -> float:
    """Distance between the pads at a grasp [m]; 0 where it is none of those proposed, as in a push."""
    grasps = cell.grasps.get(step.object)
    if grasps is None:
        return 0.0
    away = np.linalg.norm(grasps.T_object_tool[:, :3, 3] - T_object_tool[:3, 3], axis=1)
    return float(grasps.width_m[away.argmin()]) if away.min() < SAME_M else 0.0


def step_at_hand(env: TwinEnv) -> torch.Tensor:
    """Index of the step that each environment is at, (N,); the last one where all are done."""
    return env.progress.clamp(max=len(env.task.steps) - 1)


def grasp_pose(env: TwinEnv) -> torch.Tensor:
    """Tool pose at which the object of the step at hand is taken, where it is now, (N, 7)."""
    index = step_at_hand(env)
    poses = torch.stack([object_pose(env, item.key) for item in env.twin.objects], 1)
    item = poses[torch.arange(len(index), device=index.device), env.guide.rows[index]]
    grasp = env.guide.grasps[index]
    return torch.cat(combine_frame_transforms(item[:, :3], item[:, 3:], grasp[:, :3], grasp[:, 3:]), -1)


def grasp_offset(env: TwinEnv, pose: torch.Tensor | None = None) -> torch.Tensor:
    """From the tool, or another pose (N, 7), to that: position [m] and turn as a rotation vector [rad], in the frame of the environment, (N, 6)."""
    tool, goal = tool_pose(env) if pose is None else pose, grasp_pose(env)
    turn = quat_unique(quat_mul(goal[:, 3:], quat_conjugate(tool[:, 3:])))
    return torch.cat([goal[:, :3] - tool[:, :3], axis_angle_from_quat(turn)], -1)


def grasp_way(env: TwinEnv, pose: torch.Tensor | None = None) -> torch.Tensor:
    """From the tool, or another pose (N, 7), to the grasp, but along its approach, (N, 3) [m].

    From the side it would go through the object.
    """
    offset = grasp_offset(env, pose)[:, :3]
    approach = matrix_from_quat(grasp_pose(env)[:, 3:])[:, :, 2]
    beside = (offset - (offset * approach).sum(-1, keepdim=True) * approach).norm(dim=-1, keepdim=True)
    return offset - approach * beside.clamp(max=BACK_M)


def grasp_closed(env: TwinEnv) -> torch.Tensor:
    """How far the fingers have closed at the grasp, (N,) in 0..1: 1 where the object stops them, 0 elsewhere and in a push.

    Every bit of distance counts: an object that slips a little in the hand is not lost.
    """
    away = grasp_offset(env)[:, :3].norm(dim=-1)
    there = ((MISSED_M - away) / (MISSED_M - TAKEN_M)).clamp(0, 1)
    opening = gripper_opening(env)
    width = env.guide.openings[step_at_hand(env)]
    closed = (1 - (opening - width) / (1 - width).clamp(min=CLOSED_SHARE)).clamp(0, 1)
    return closed * there * ((opening > CLOSED_SHARE) & (width > 0))
