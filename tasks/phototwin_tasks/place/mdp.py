"""Success of *place*, and how far it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from phototwin_tasks.mdp.observations import object_pose
from phototwin_tasks.mdp.states import at_rest, bottom, commanded_opening, released, top
from phototwin_tasks.memory import pose_at_start

if TYPE_CHECKING:
    from phototwin.plan.task import Step
    from phototwin_tasks.twin_env import TwinEnv

CONTACT_M = 0.015
NEXT_TO_M = 0.12
CARRY_M = 0.04
"""Height above what it is put on from which an object is let down."""
NEAR_M = 0.10
"""Distance from the goal over which nearness falls off."""
ASTRAY = 1.2
"""An object that is this much farther from its place than it was is told the way back still."""


def placed(env: TwinEnv, step: Step) -> torch.Tensor:
    """True where the object rests where the task wants it and the gripper has let go: (N,) bool."""
    relation = {"on": is_on, "in": is_in, "next to": is_next_to}[str(step.relation)]
    return relation(env, step.object, str(step.target)) & at_rest(env, step.object) & released(env, step.object)


def is_on(env: TwinEnv, moved: str, other: str) -> torch.Tensor:
    """The object's centre is over the target's footprint and its bottom at the target's top; a hollow target may hold it below its rim."""
    item, target = object_pose(env, moved), object_pose(env, other)
    support = env.twin.object(other)
    size = support.size_m
    over = (item[:, :2] - target[:, :2]).norm(dim=-1) < max(size[0], size[1]) / 2
    above_top = bottom(env, moved) - (target[:, 2] + size[2] / 2)
    lowest = -size[2] if support.hollow else -CONTACT_M
    return over & (above_top < CONTACT_M) & (above_top > lowest)


def is_in(env: TwinEnv, moved: str, other: str) -> torch.Tensor:
    """The object's centre is over the vessel's opening and its bottom below the rim."""
    item, target = object_pose(env, moved), object_pose(env, other)
    size = env.twin.object(other).size_m
    inside = (item[:, :2] - target[:, :2]).norm(dim=-1) < min(size[0], size[1]) / 2
    rim = target[:, 2] + size[2] / 2
    height = bottom(env, moved)
    return inside & (height < rim - 0.2 * size[2]) & (height > -CONTACT_M)


def is_next_to(env: TwinEnv, moved: str, other: str) -> torch.Tensor:
    """The object stands on the support, and the gap between the two footprints is small."""
    return (gap(env, moved, other) < NEXT_TO_M) & (bottom(env, moved).abs() < CONTACT_M)


def gap(env: TwinEnv, moved: str, other: str) -> torch.Tensor:
    """Distance between the circles around the footprints of two objects, (N,) [m]; negative where they overlap."""
    item, target = object_pose(env, moved), object_pose(env, other)
    return (item[:, :2] - target[:, :2]).norm(dim=-1) - _radii(env, moved, other)


def _radii(env: TwinEnv, moved: str, other: str) -> float:
    """Sum of the radii of the circles around two footprints [m]."""
    return sum(float(max(env.twin.object(key).size_m[:2])) / 2 for key in (moved, other))


def place_share(env: TwinEnv, step: Step) -> torch.Tensor:
    """How far the object is on its way, (N,) in 0..1: for being lifted (not too high), for the way made to its place, for being let down and let go.

    Every centimetre of the way counts, however long it is, and the last ones most. Letting go must be worth more than holding on is to who
    learns, ``rewards.object_taken`` ends with it, and every bit the fingers are told to open counts, long before the object is free.
    """
    moved, target = step.object, env.twin.object(str(step.target))
    height = bottom(env, moved)
    if step.relation == "next to":
        reach, rest, carry = NEXT_TO_M / 3, torch.zeros_like(height), torch.full_like(height, CARRY_M)
    else:
        reach = float(min(target.size_m[:2])) / 4
        rest = object_pose(env, target.key)[:, 2] + target.size_m[2] / 2
        carry = rest + CARRY_M
    distance = _way_to_go(env, step, object_pose(env, moved), object_pose(env, target.key))
    at_start = _way_to_go(env, step, pose_at_start(env, step), pose_at_start(env, step, target.key))
    over = distance < reach
    off = torch.where(height < carry, carry - height, (height - carry) / 2)
    lifted = torch.where(over, 1.0, (1 - off / carry).clamp(0, 1))
    made = (1 - distance / (ASTRAY * at_start.clamp(min=reach))).clamp(0, 1)
    near = torch.where(over, 1.0, (made + 1 - torch.tanh(distance / NEAR_M)) / 2)
    down = (1 - (height - rest) / CARRY_M).clamp(0, 1) * over
    gone = down * commanded_opening(env).clamp(0, 1)
    return 0.1 * lifted + 0.5 * lifted * near + 0.15 * down + 0.25 * gone


def _way_to_go(env: TwinEnv, step: Step, item: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Horizontal distance between poses (N, 7) of a step's object and target that is left to go, (N,) [m]."""
    between = (item[:, :2] - target[:, :2]).norm(dim=-1)
    if step.relation != "next to":
        return between
    return (between - _radii(env, step.object, str(step.target)) - NEXT_TO_M / 2).abs()


def place_goal(env: TwinEnv, step: Step) -> torch.Tensor:
    """Where the object's centre shall get to, (N, 3) [m]: over the target's top, or beside it on the side where it is."""
    target = object_pose(env, str(step.target))[:, :3]
    half = float(env.twin.object(step.object).size_m[2]) / 2
    if step.relation != "next to":
        return torch.cat([target[:, :2], top(env, str(step.target))[:, None] + half], -1)
    item = object_pose(env, step.object)[:, :2]
    away = item - target[:, :2]
    distance = gap(env, step.object, str(step.target))[:, None] - NEXT_TO_M / 2
    beside = item - distance * away / away.norm(dim=-1, keepdim=True).clamp(min=1e-6)
    return torch.cat([beside, torch.full_like(beside[:, :1], half)], -1)
