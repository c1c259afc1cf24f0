"""Success of *lift*, and how far it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from phototwin_tasks.mdp.observations import object_velocity
from phototwin_tasks.mdp.states import bottom, tool_distance
from phototwin_tasks.memory import pose_at_start

if TYPE_CHECKING:
    from phototwin.plan.task import Step
    from phototwin_tasks.twin_env import TwinEnv

LIFT_HEIGHT_M = 0.10
FALLING_M_S = 0.3
"""PhysX says up to 0.25 m/s of what hangs still between two pads, pushed out of both and back; what falls is faster after 5 mm."""
HELD_M = 0.06
"""What is held is no farther from the tool point than this."""


def lifted(env: TwinEnv, step: Step, height_m: float = LIFT_HEIGHT_M, speed_m_s: float = FALLING_M_S) -> torch.Tensor:
    """True where the object hangs still in the gripper: (N,) bool.

    Args:
        env: The environment.
        step: What to lift.
        height_m: How high its lowest point must be above the support.
        speed_m_s: How fast it may still move.
    """
    still = object_velocity(env, step.object)[:, :3].norm(dim=-1) < speed_m_s
    return (bottom(env, step.object) > height_m) & still & (tool_distance(env, step.object) < HELD_M)


def lift_share(env: TwinEnv, step: Step) -> torch.Tensor:
    """How much of the height is won, (N,) in 0..1."""
    return (bottom(env, step.object) / LIFT_HEIGHT_M).clamp(0, 1)


def lift_goal(env: TwinEnv, step: Step) -> torch.Tensor:
    """A point above where the object stood, (N, 3) [m]."""
    start = pose_at_start(env, step)[:, :3]
    return start + start.new_tensor([0.0, 0.0, 1.5 * LIFT_HEIGHT_M])
