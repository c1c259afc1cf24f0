"""Ends that every family shares."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from phototwin_tasks.mdp.observations import object_pose
from phototwin_tasks.mdp.states import axis_height

if TYPE_CHECKING:
    from phototwin_tasks.twin_env import TwinEnv

FELL_BELOW_M = -0.05
TOPPLED_COS = math.cos(math.radians(50.0))
"""What leans more than this from how it stood will not come back by itself."""


def object_fell(env: TwinEnv) -> torch.Tensor:
    """True where any object left the support, (N,) bool."""
    heights = torch.stack([object_pose(env, item.key)[:, 2] for item in env.twin.objects], -1)
    return (heights < FELL_BELOW_M).any(-1)


def knocked_over(env: TwinEnv) -> torch.Tensor:
    """True where an object that no step of the task takes in hand has toppled, (N,) bool."""
    taken = {step.object for step in env.task.steps}
    toppled = torch.zeros(env.num_envs, dtype=torch.bool, device=env.device)
    for item in env.twin.objects:
        if item.key not in taken and item.shape != "sphere":
            toppled |= axis_height(env, item.key) < TOPPLED_COS
    return toppled
