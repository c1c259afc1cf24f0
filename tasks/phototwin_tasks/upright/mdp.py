"""Success of *upright*, and how far it is."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch

from phototwin_tasks.mdp.observations import gripper_opening
from phototwin_tasks.mdp.states import at_rest, axis_height, bottom, released
from phototwin_tasks.memory import pose_at_start
from phototwin_tasks.place.mdp import CONTACT_M

if TYPE_CHECKING:
    from phototwin.plan.task import Step
    from phototwin.scene import SceneObject
    from phototwin_tasks.twin_env import TwinEnv

UPRIGHT_COS = math.cos(math.radians(10.0))
LYING = 1.5
"""A solid thing this much longer than high lies in the photo: upright it stands on an end."""


def upright_axis(item: SceneObject) -> tuple[tuple[float, float, float], bool]:
    """The axis of an object, in its frame, that points up where it stands upright, and whether the other way round will do too.

    Vessels stand on their foot; a solid that lies in the photo on either of its ends.
    """
    x, y, z = item.size_m
    if item.hollow or max(x, y) < LYING * z:
        return (0.0, 0.0, 1.0), False
    return ((1.0, 0.0, 0.0) if x >= y else (0.0, 1.0, 0.0)), True


def uprightness(env: TwinEnv, key: str) -> torch.Tensor:
    """Cosine of the angle between an object's upright axis and the vertical, (N,)."""
    axis, either = upright_axis(env.twin.object(key))
    up = axis_height(env, key, axis)
    return up.abs() if either else up


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
    length = float(abs(item.size_m @ np.array(upright_axis(item)[0])))
    return torch.cat([start[:, :2], torch.full_like(start[:, 2:], length / 2)], -1)
