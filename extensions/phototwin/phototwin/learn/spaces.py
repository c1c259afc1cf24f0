"""What a policy's numbers mean: joints as the robot takes them, or the tool's pose, which is nearer to what a picture shows."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import numpy as np

from phototwin.learn.demos import Demos
from phototwin.plan.ik import Arm, load_arm, tool_pose
from phototwin.robots import get_robot

ITERATIONS, PULL, PULLED_RAD, SOLVED_M = 12, 0.05, 0.02, 2e-4
"""Of the inverse kinematics: each pose is a few centimetres from the one before."""
TOOL_NAMES = ("x", "y", "z", "x_x", "x_y", "x_z", "y_x", "y_y", "y_z")
"""A tool pose as nine numbers in the frame of the base: its place [m], and the first two columns of its turn, which have no jumps.

Source: Zhou et al., "On the Continuity of Rotation Representations in Neural Networks", 2019."""


def in_space(demos: Demos, space: str) -> Demos:
    """The demonstrations with states and actions of ``space``: "joint" as they are, or "tool".

    In tool space a state is the tool's pose and the fingers' joints, an action the commanded tool's pose and the gripper.
    """
    if space == "joint":
        return demos
    arm = arm_of(demos.robot)
    state = tool_state(arm, demos.state, demos.state_names)
    action = np.concatenate([tool_numbers(tool_pose(arm, demos.action[:, :-1])), demos.action[:, -1:]], 1)
    return replace(demos, state=state, action=action.astype(np.float32), action_names=(*TOOL_NAMES, "gripper"))


@lru_cache(maxsize=2)
def arm_of(robot: str) -> Arm:
    """The arm of a robot by its short name."""
    return load_arm(get_robot(robot))


def tool_state(arm: Arm, joints: np.ndarray, names: tuple[str, ...]) -> np.ndarray:
    """Tool pose and fingers (N, 9 + F) float32 of joint readings (N, S) with these names."""
    fingers = joints[:, [i for i, name in enumerate(names) if name not in arm.robot.arm_joints]]
    return np.concatenate([tool_numbers(tool_pose(arm, arm_joints(arm, joints, names))), fingers], 1).astype(np.float32)


def arm_joints(arm: Arm, joints: np.ndarray, names: tuple[str, ...]) -> np.ndarray:
    """Positions (N, J) of the arm's joints among readings (N, S) with these names."""
    return joints[:, [names.index(name) for name in arm.robot.arm_joints]]


def tool_numbers(T: np.ndarray) -> np.ndarray:
    """Poses (..., 4, 4) as ``TOOL_NAMES``, (..., 9)."""
    return np.concatenate([T[..., :3, 3], T[..., :3, 0], T[..., :3, 1]], -1)


def tool_poses(numbers: np.ndarray) -> np.ndarray:
    """Poses (..., 4, 4) of ``TOOL_NAMES`` (..., 9); columns that are not quite at right angles are made so."""
    x, y = numbers[..., 3:6], numbers[..., 6:9]
    x = x / np.linalg.norm(x, axis=-1, keepdims=True)
    y = y - (x * y).sum(-1, keepdims=True) * x
    y = y / np.linalg.norm(y, axis=-1, keepdims=True)
    T = np.zeros((*numbers.shape[:-1], 4, 4))
    T[..., :3, 0], T[..., :3, 1], T[..., :3, 2] = x, y, np.cross(x, y)
    T[..., :3, 3], T[..., 3, 3] = numbers[..., :3], 1.0
    return T


def joint_actions(arm: Arm, actions: np.ndarray, joints: np.ndarray, names: tuple[str, ...]) -> np.ndarray:
    """Arm joint positions and gripper (B, H, J + 1) that follow tool actions (B, H, 10) from joint readings (B, S)."""
    from phototwin.kernels.inverse import follow_rows

    start = arm_joints(arm, joints, names).astype(np.float64)
    poses = tool_poses(actions[..., :9].astype(np.float64))
    q, _ = follow_rows(arm.reacher, poses, start, arm.home, ITERATIONS, PULL, PULLED_RAD, SOLVED_M)
    return np.concatenate([q, actions[..., -1:]], -1).astype(np.float32)
