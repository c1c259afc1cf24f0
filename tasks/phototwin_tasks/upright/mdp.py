"""Success of *upright*, and how far it is."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import torch

from phototwin.plan.upright import standing_axes
from phototwin_tasks.mdp.observations import gripper_opening
from phototwin_tasks.mdp.states import at_rest, axis_height, bottom, released
from phototwin_tasks.memory import pose_at_start
from phototwin_tasks.place.mdp import CONTACT_M

if TYPE_CHECKING:
    from phototwin.plan.task import Step
    from phototwin.scene import SceneObject
    from phototwin_tasks.twin_env import TwinEnv

UPRIGHT_COS = math.cos(math.radians(10.0))


@lru_cache(maxsize=64)
def upright_axes(item: SceneObject) -> np.ndarray:
    """Unit axes of an object, (A, 3), of which one points up when it stands."""
    return standing_axes(item)


def uprightness(env: TwinEnv, key: str) -> torch.Tensor:
    """Cosine of the angle between the vertical and the nearest of an object's upright axes, (N,)."""
    axes = upright_axes(env.twin.object(key))
    return torch.stack([axis_height(env, key, tuple(axis)) for axis in axes.tolist()]).amax(0)


def is_upright(env: TwinEnv, step: Step) -> torch.Tensor:
    """True where the object stands upright within 10 degrees, at rest on the support, and the gripper has let go: (N,) bool."""
    key = step.object
    stands = (uprightness(env, key) > UPRIGHT_COS) & (bottom(env, key).abs() < CONTACT_M)
    return stands & at_rest(env, key) & released(env, key)


def upright_share(env: TwinEnv, step: Step) -> torch.Tensor:
    """How far it is, (N,) in 0..1: most for the turn, the rest for being let go on the support."""
    turned = 1 - torch.acos(uprightness(env, step.object).clamp(-1, 1)) / math.pi
    down = (bottom(env, step.object).abs() < CONTACT_M).float() * (turned > 1 - 10 / 180)
    return 0.7 * turned + 0.3 * down * gripper_opening(env).clamp(0, 1)


def upright_goal(env: TwinEnv, step: Step) -> torch.Tensor:
    """Where the object's centre will be once it stands, (N, 3) [m]: above where it lay."""
    start = pose_at_start(env, step)[:, :3]
    item = env.twin.object(step.object)
    length = float(np.abs(upright_axes(item)[0]) @ item.size_m)
    return torch.cat([start[:, :2], torch.full_like(start[:, 2:], length / 2)], -1)
