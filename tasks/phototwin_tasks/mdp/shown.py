"""The state as a learned policy is shown it: offsets between tool, grasp, object and goal, in the frame of the environment."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from isaaclab.utils.math import matrix_from_quat

from phototwin_tasks.mdp.guide import grasp_offset, step_at_hand
from phototwin_tasks.mdp.observations import gripper_opening, object_pose, object_velocity, tool_pose
from phototwin_tasks.skills import goal_offset

if TYPE_CHECKING:
    from phototwin_tasks.twin_env import TwinEnv


def tool_state(env: TwinEnv) -> torch.Tensor:
    """Tool position relative to the base [m] and what the command is ahead of it by [m], (N, 6)."""
    tool = tool_pose(env)[:, :3]
    base = tool.new_tensor(env.T_world_base[:3, 3])
    term = env.action_manager.get_term("tool") if hasattr(env, "action_manager") else None
    ahead = torch.zeros_like(tool) if term is None else term.processed_actions[:, :3] - tool
    return torch.cat([tool - base, ahead], -1)


def gripper_state(env: TwinEnv) -> torch.Tensor:
    """Share of the way the fingers are open, (N, 1)."""
    return gripper_opening(env)[:, None]


def grasp_offset_turned(env: TwinEnv) -> torch.Tensor:
    """From the tool to where it takes the object at hand: position [m] and turn [rad], (N, 6)."""
    return grasp_offset(env)


def object_state(env: TwinEnv) -> torch.Tensor:
    """Of the object at hand: height, first two columns of its rotation, linear velocity, (N, 10)."""
    row = env.guide.rows[step_at_hand(env)]
    every = torch.arange(env.num_envs, device=env.device)
    poses = torch.stack([object_pose(env, item.key) for item in env.twin.objects], 1)[every, row]
    speeds = torch.stack([object_velocity(env, item.key)[:, :3] for item in env.twin.objects], 1)[every, row]
    turn = matrix_from_quat(poses[:, 3:])[:, :, :2].reshape(env.num_envs, 6)
    return torch.cat([poses[:, 2:3], turn, speeds], -1)


def goal_state(env: TwinEnv) -> torch.Tensor:
    """From the object at hand to where it shall get to, (N, 3) [m]."""
    return goal_offset(env)


def object_offsets(env: TwinEnv) -> torch.Tensor:
    """From the tool to every object, (N, 3 x objects) [m]."""
    tool = tool_pose(env)[:, :3]
    return torch.cat([object_pose(env, item.key)[:, :3] - tool for item in env.twin.objects], -1)


def progress_flags(env: TwinEnv) -> torch.Tensor:
    """Which step is at hand, (N, S)."""
    return torch.nn.functional.one_hot(step_at_hand(env), len(env.task.steps)).float()
