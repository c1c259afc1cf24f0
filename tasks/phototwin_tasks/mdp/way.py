"""Where the tool should head next: to the grasp, and with the object in the hand to where it shall get to."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from phototwin_tasks.mdp.guide import BACK_M, grasp_closed, grasp_way
from phototwin_tasks.mdp.observations import tool_pose
from phototwin_tasks.skills import goal_offset

if TYPE_CHECKING:
    from phototwin_tasks.twin_env import TwinEnv

HELD_SHARE = 0.5
"""Fingers closed at the grasp by so much of their way have the object, also one that stands askew between them."""


def way_offset(env: TwinEnv, pose: torch.Tensor | None = None) -> torch.Tensor:
    """From the tool, or another pose (N, 7), to where it should head next, (N, 3) [m].

    One way for the whole step, so that who has learned to follow it to the grasp follows it on to the goal.
    """
    held = grasp_closed(env) > HELD_SHARE
    return torch.where(held[:, None], goal_way(env, pose), grasp_way(env, pose))


def goal_way(env: TwinEnv, pose: torch.Tensor | None = None) -> torch.Tensor:
    """From the tool, or another pose (N, 7), to where the tool has brought what it holds to its goal, but from above, (N, 3) [m]."""
    offset = goal_offset(env)
    if pose is not None:
        offset = offset + tool_pose(env)[:, :3] - pose[:, :3]
    beside = offset[:, :2].norm(dim=-1, keepdim=True).clamp(max=BACK_M)
    return torch.cat([offset[:, :2], offset[:, 2:] + beside], -1)
