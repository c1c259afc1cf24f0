"""Success of *stack*, and how far it is."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from phototwin_tasks.mdp.states import at_rest, axis_height, bottom, centre_of_mass, over_top, released, top
from phototwin_tasks.place.mdp import CONTACT_M, place_share

if TYPE_CHECKING:
    from phototwin.plan.task import Step
    from phototwin_tasks.twin_env import TwinEnv

LEVEL_COS = math.cos(math.radians(15.0))
"""A target that leans further carries nothing."""


def stacked(env: TwinEnv, step: Step) -> torch.Tensor:
    """True where the object rests on the target, its centre of mass over the target's top, and the gripper has let go: (N,) bool."""
    moved, other = step.object, str(step.target)
    above = bottom(env, moved) - top(env, other)
    support = env.twin.object(other)
    # One bowl stands in another: its foot is below the other's rim.
    nested = -float(support.size_m[2]) if support.hollow else -CONTACT_M
    on = (above < CONTACT_M) & (above > nested) & (over_top(env, centre_of_mass(env, moved), other) > 0)
    level = axis_height(env, other) > LEVEL_COS
    return on & level & at_rest(env, moved) & released(env, moved)


stack_share = place_share
