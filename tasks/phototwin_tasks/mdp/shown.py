"""The state as a learned policy is shown it: offsets between tool, grasp, object and goal, in the frame of the environment."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from isaaclab.utils.math import axis_angle_from_quat, matrix_from_quat, quat_conjugate, quat_mul, quat_unique

from phototwin_tasks.mdp.guide import grasp_offset, step_at_hand
from phototwin_tasks.mdp.observations import gripper_opening, object_pose, object_velocity, tool_pose
from phototwin_tasks.mdp.way import way_offset
from phototwin_tasks.skills import goal_offset

if TYPE_CHECKING:
    from phototwin_tasks.twin_env import TwinEnv

FAR_M, NEAR_M = 0.1, 0.02
"""What is far is shown in units of the first; what a step or two would close, in units of the second."""


def far_and_near(offset_m: torch.Tensor) -> torch.Tensor:
    """Offsets (N, K) [m] twice, as numbers of the order of one, (N, 2 K): all of the way, and its last centimetres."""
    return torch.cat([offset_m / FAR_M, torch.tanh(offset_m / NEAR_M)], -1)


def tool_state(env: TwinEnv) -> torch.Tensor:
    """Tool position relative to the base [0.1 m], what the command is ahead of it by [0.02 m, rad], (N, 9)."""
    tool = tool_pose(env)
    command = _command(env)
    turn = axis_angle_from_quat(quat_unique(quat_mul(command[:, 3:7], quat_conjugate(tool[:, 3:]))))
    base = tool.new_tensor(env.T_world_base[:3, 3])
    return torch.cat([(tool[:, :3] - base) / FAR_M, (command[:, :3] - tool[:, :3]) / NEAR_M, turn], -1)


def gripper_state(env: TwinEnv) -> torch.Tensor:
    """Share of the way the fingers are open, and that commanded, (N, 2)."""
    return torch.stack([gripper_opening(env), _command(env)[:, 7]], -1)


def _command(env: TwinEnv) -> torch.Tensor:
    """What the tool is commanded, (N, 8); while the environment is being built, the home pose."""
    if hasattr(env, "action_manager"):
        return env.action_manager.get_term("tool").processed_actions
    return torch.cat([env.guide.home, env.guide.home.new_ones(1)]).expand(env.num_envs, 8)


def way_and_grasp(env: TwinEnv) -> torch.Tensor:
    """From the command to where the tool should head next, and to the grasp; from the tool to the grasp: ``far_and_near``, and turns [rad], (N, 24).

    The command moves at once and the tool later: who steers by the tool alone overshoots.
    """
    command = _command(env)[:, :7]
    offsets = [way_offset(env, command), grasp_offset(env, command), grasp_offset(env)]
    ways = far_and_near(torch.cat([offset[:, :3] for offset in offsets], -1))
    return torch.cat([ways, offsets[1][:, 3:], offsets[2][:, 3:]], -1)


def object_state(env: TwinEnv) -> torch.Tensor:
    """Of the object at hand: height [0.1 m], first two columns of its rotation, linear velocity [m/s], (N, 10)."""
    row = env.guide.rows[step_at_hand(env)]
    every = torch.arange(env.num_envs, device=env.device)
    poses = torch.stack([object_pose(env, item.key) for item in env.twin.objects], 1)[every, row]
    speeds = torch.stack([object_velocity(env, item.key)[:, :3] for item in env.twin.objects], 1)[every, row]
    turn = matrix_from_quat(poses[:, 3:])[:, :, :2].reshape(env.num_envs, 6)
    return torch.cat([poses[:, 2:3] / FAR_M, turn, speeds], -1)


def goal_state(env: TwinEnv) -> torch.Tensor:
    """From the object at hand to where it shall get to, ``far_and_near``, (N, 6)."""
    return far_and_near(goal_offset(env))


def object_offsets(env: TwinEnv) -> torch.Tensor:
    """From the tool to every object, (N, 3 x objects) [0.1 m]."""
    tool = tool_pose(env)[:, :3]
    return torch.cat([object_pose(env, item.key)[:, :3] - tool for item in env.twin.objects], -1) / FAR_M


def progress_flags(env: TwinEnv) -> torch.Tensor:
    """Which step is at hand, (N, S)."""
    return torch.nn.functional.one_hot(step_at_hand(env), len(env.task.steps)).float()
