"""What is sent to a robot's drives so that its joints are where the plan has them."""

from __future__ import annotations

import numpy as np

from phototwin.errors import PlanError
from phototwin.robots import Robot, match_joint


def drive_lags(robot: Robot) -> np.ndarray:
    """How far in time the arm joints run behind their commands, (J,) [s].

    A drive pulls with stiffness (command - q) - damping dq/dt, so a joint that moves on evenly is damping / stiffness late.

    Raises:
        PlanError: The robot states no gains of a joint.
    """
    lags = []
    for joint in robot.arm_joints:
        stiffness, damping = match_joint(robot.stiffness, joint), match_joint(robot.damping, joint)
        if not stiffness or damping is None:
            raise PlanError(f"The robot '{robot.name}' states no stiffness and damping of {joint}: add them.")
        lags.append(damping / stiffness)
    return np.array(lags)


def lead_commands(robot: Robot, q_start: np.ndarray, q: np.ndarray, fps: float) -> np.ndarray:
    """Commands (T, J) float32 that run ahead of joint positions (T, J) by what the drives are late; at rest they are the same.

    Without them a tool that comes down at 0.3 m/s is a centimetre beside its way. ``q_start`` (J,) is where the joints are one sample before.
    """
    way = np.concatenate([np.asarray(q_start, np.float64)[None], q, q[-1:]])
    speed = 0.5 * fps * (way[2:] - way[:-2])
    return (q + drive_lags(robot) * speed).astype(np.float32)
