"""What the policy is told of the state; everything in the frame of the environment, which is the twin's world."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from isaaclab.utils.math import quat_apply, quat_mul

if TYPE_CHECKING:
    from phototwin_tasks.twin_env import TwinEnv


def object_pose(env: TwinEnv, key: str) -> torch.Tensor:
    """Pose of one object, (N, 7): x, y, z [m], quat_xyzw."""
    data = env.scene[key].data
    return torch.cat([data.root_pos_w.torch - env.scene.env_origins, data.root_quat_w.torch], -1)


def object_poses(env: TwinEnv) -> torch.Tensor:
    """Poses of all objects of the twin in its order, (N, 7 x objects)."""
    return torch.cat([object_pose(env, item.key) for item in env.twin.objects], -1)


def object_velocity(env: TwinEnv, key: str) -> torch.Tensor:
    """Linear then angular velocity of one object, (N, 6) [m/s, rad/s]."""
    data = env.scene[key].data
    return torch.cat([data.root_lin_vel_w.torch, data.root_ang_vel_w.torch], -1)


def tool_pose(env: TwinEnv) -> torch.Tensor:
    """Pose of the point between the finger pads, (N, 7): x, y, z [m], quat_xyzw."""
    robot = env.scene["robot"]
    body = robot.body_names.index(env.robot.tcp_body)
    position = robot.data.body_pos_w.torch[:, body] - env.scene.env_origins
    quat = robot.data.body_quat_w.torch[:, body]
    offset = torch.tensor(env.robot.tcp_position_m, device=position.device).expand_as(position)
    turn = torch.tensor(env.robot.tcp_quat_xyzw, device=quat.device).expand_as(quat)
    return torch.cat([position + quat_apply(quat, offset), quat_mul(quat, turn)], -1)


def gripper_opening(env: TwinEnv) -> torch.Tensor:
    """Share of the way the fingers are open, (N,): 0 closed, 1 open; the mean over the finger joints."""
    return opening_of(env, env.scene["robot"].data.joint_pos.torch)


def opening_of(env: TwinEnv, joints: torch.Tensor) -> torch.Tensor:
    """Share of the way the fingers are open at positions (N, J) of all joints, (N,)."""
    names = env.scene["robot"].joint_names
    fingers = joints[:, [names.index(name) for name in env.robot.finger_joints]]
    closed, opened = fingers.new_tensor(env.robot.fingers_closed), fingers.new_tensor(env.robot.fingers_open)
    return ((fingers - closed) / (opened - closed)).mean(-1)
