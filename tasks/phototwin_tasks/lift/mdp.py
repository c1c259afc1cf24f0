"""Success of *lift*."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from phototwin_tasks.mdp.observations import lowest_point, object_pose, object_velocity, tool_pose

if TYPE_CHECKING:
    from phototwin.plan.task import Step
    from phototwin_tasks.twin_env import TwinEnv

LIFT_HEIGHT_M = 0.10


def lifted(
    env: TwinEnv, step: Step, height_m: float = LIFT_HEIGHT_M, speed_m_s: float = 0.1, reach_m: float = 0.06
) -> torch.Tensor:
    """True where the object hangs still in the gripper: (N,) bool.

    Args:
        env: The environment.
        step: What to lift.
        height_m: How high its lowest point must be above the support.
        speed_m_s: How fast it may still move.
        reach_m: How far the tool may be from the object's bounding box.
    """
    key = step.object
    half_diagonal = float(torch.tensor(env.twin.object(key).size_m).norm()) / 2
    distance = (tool_pose(env)[:, :3] - object_pose(env, key)[:, :3]).norm(dim=-1)
    high = lowest_point(env, key) > height_m
    still = object_velocity(env, key)[:, :3].norm(dim=-1) < speed_m_s
    return high & still & (distance < half_diagonal + reach_m)
