"""Success of *pour*, and how far it is."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch
from isaaclab.utils.math import quat_apply

from phototwin.plan.pour import opening, rim_points
from phototwin_tasks.mdp.observations import object_pose
from phototwin_tasks.mdp.states import at_rest, axis_height, bottom, heights, tool_distance, top
from phototwin_tasks.memory import has_poured
from phototwin_tasks.place.mdp import CONTACT_M, NEAR_M

if TYPE_CHECKING:
    from phototwin.plan.task import Step
    from phototwin_tasks.twin_env import TwinEnv

POURING_RAD = math.radians(90.0)
"""Tilt of a vessel's axis at which it gives out what is in it."""
STANDING_COS = math.cos(math.radians(30.0))
HELD_M = 0.06


def pours(env: TwinEnv, step: Step) -> torch.Tensor:
    """True where the object is tilted by more than 90 degrees and the lowest point of its rim is above the target's opening, (N,) bool."""
    lip = lowest_rim_point(env, step.object)
    middle, radius = _opening(env, str(step.target))
    over = (lip[:, :2] - middle[:, :2]).norm(dim=-1) < radius
    tilted = axis_height(env, step.object) < math.cos(POURING_RAD)
    return over & tilted & (lip[:, 2] > top(env, str(step.target)))


def _opening(env: TwinEnv, key: str) -> tuple[torch.Tensor, float]:
    """Middle of an object's opening, in the frame of the environment, (N, 3), and its radius [m]."""
    middle_o, radius = opening(env.twin.object(key))
    pose = object_pose(env, key)
    return pose[:, :3] + quat_apply(pose[:, 3:], pose.new_tensor(middle_o).expand(len(pose), 3)), radius


def lowest_rim_point(env: TwinEnv, key: str) -> torch.Tensor:
    """The point of an object's rim over which it pours, in the frame of the environment, (N, 3) [m]."""
    rim = rim_points(env.twin.object(key)).astype(np.float32)
    pose = object_pose(env, key)
    lip = torch.as_tensor(rim, dtype=pose.dtype, device=pose.device)[heights(env, key, rim).argmin(-1)]
    return pose[:, :3] + quat_apply(pose[:, 3:], lip)


def poured(env: TwinEnv, step: Step) -> torch.Tensor:
    """True where it has poured and the object was not dropped: it is in the gripper, or stands at rest, (N,) bool."""
    key = step.object
    held = (tool_distance(env, key) < HELD_M) & (bottom(env, key) > CONTACT_M)
    stands = (axis_height(env, key) > STANDING_COS) & at_rest(env, key)
    return has_poured(env, step) & (held | stands)


def pour_share(env: TwinEnv, step: Step) -> torch.Tensor:
    """How far it is, (N,) in 0..1: half for the rim coming over the target's opening, half for the tilt there."""
    (middle, _), lip = _opening(env, str(step.target)), lowest_rim_point(env, step.object)
    near = 1 - torch.tanh((lip[:, :2] - middle[:, :2]).norm(dim=-1) / NEAR_M)
    above = (bottom(env, step.object) / top(env, str(step.target)).clamp(min=1e-3)).clamp(0, 1)
    tilt = torch.acos(axis_height(env, step.object).clamp(-1, 1)) / POURING_RAD
    share = above * near * (0.5 + 0.5 * tilt.clamp(0, 1))
    return torch.where(has_poured(env, step), 1.0, share)


def pour_goal(env: TwinEnv, step: Step) -> torch.Tensor:
    """A point over the target's opening, (N, 3) [m]."""
    middle, _ = _opening(env, str(step.target))
    height = top(env, str(step.target)) + float(max(env.twin.object(step.object).size_m)) / 2
    return torch.cat([middle[:, :2], height[:, None]], -1)
