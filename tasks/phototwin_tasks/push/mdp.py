"""Success of *push*, and how far it is."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch

from phototwin_tasks.mdp.observations import object_pose
from phototwin_tasks.mdp.states import at_rest, axis_height, bottom
from phototwin_tasks.memory import pose_at_start
from phototwin_tasks.place.mdp import CONTACT_M, NEXT_TO_M, gap

if TYPE_CHECKING:
    from phototwin.plan.task import Step
    from phototwin_tasks.twin_env import TwinEnv

PUSH_M = 0.10
"""How far a push in a direction is asked to go."""
ENOUGH = 0.6
"""Share of it that counts."""
STANDING_COS = math.cos(math.radians(20.0))
QUARTER_TURNS = {"right": 0, "away": 1, "left": 2, "closer": 3}
"""Directions as quarter turns to the left of what is to the right in the photo."""


def direction_w(T_world_camera: np.ndarray, relation: str) -> np.ndarray:
    """Unit direction (2,) on the support of a relation as seen from a camera: what is right in the photo points along its +X."""
    right = T_world_camera[:2, 0] / np.linalg.norm(T_world_camera[:2, 0])
    angle = QUARTER_TURNS[relation] * np.pi / 2
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) @ right


def pushed(env: TwinEnv, step: Step) -> torch.Tensor:
    """True where the object stands, at rest, where it was to be pushed: (N,) bool.

    Into a direction it has gone 60 % of the way asked for and less to the side than ahead; next to a target the gap is small.
    """
    start = pose_at_start(env, step)
    standing = axis_height(env, step.object) > STANDING_COS * start_height(start)
    level = (bottom(env, step.object) < CONTACT_M) & standing & at_rest(env, step.object)
    if step.target is not None:
        return level & (gap(env, step.object, step.target) < NEXT_TO_M)
    ahead, aside = _way(env, step, start)
    return level & (ahead > ENOUGH * PUSH_M) & (aside < ahead)


def start_height(start: torch.Tensor) -> torch.Tensor:
    """Cosine of the angle of the object's axis with the vertical in poses (N, 7), (N,)."""
    x, y = start[:, 3], start[:, 4]
    return 1 - 2 * (x * x + y * y)


def _way(env: TwinEnv, step: Step, start: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """How far the object has gone into the direction, and to the side of it, (N,) and (N,) [m]."""
    direction = start.new_tensor(direction_w(env.twin.camera.T_world_camera, str(step.relation)))
    moved = object_pose(env, step.object)[:, :2] - start[:, :2]
    ahead = moved @ direction
    return ahead, (moved - ahead[:, None] * direction).norm(dim=-1)


def push_share(env: TwinEnv, step: Step) -> torch.Tensor:
    """How much of the way is done, (N,) in 0..1."""
    start = pose_at_start(env, step)
    if step.target is None:
        ahead, aside = _way(env, step, start)
        return ((ahead - 0.5 * aside) / PUSH_M).clamp(0, 1)
    target = object_pose(env, step.target)[:, :2]
    before = (start[:, :2] - target).norm(dim=-1)
    now = (object_pose(env, step.object)[:, :2] - target).norm(dim=-1)
    return ((before - now) / before.clamp(min=1e-3)).clamp(0, 1)


def push_goal(env: TwinEnv, step: Step) -> torch.Tensor:
    """Where the object shall get to on the support, (N, 3) [m]."""
    start = pose_at_start(env, step)[:, :3]
    if step.target is not None:
        return torch.cat([object_pose(env, step.target)[:, :2], start[:, 2:]], -1)
    direction = direction_w(env.twin.camera.T_world_camera, str(step.relation))
    return start + PUSH_M * start.new_tensor([*direction, 0.0])
