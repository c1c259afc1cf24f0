"""Ends that every family shares."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from phototwin_tasks.mdp.observations import object_pose

if TYPE_CHECKING:
    from phototwin_tasks.twin_env import TwinEnv

FELL_BELOW_M = -0.05


def object_fell(env: TwinEnv) -> torch.Tensor:
    """True where any object left the support, (N,) bool."""
    heights = torch.stack([object_pose(env, item.key)[:, 2] for item in env.twin.objects], -1)
    return (heights < FELL_BELOW_M).any(-1)
