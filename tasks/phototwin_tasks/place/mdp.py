"""Success of *place*."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from phototwin_tasks.mdp.observations import gripper_opening, lowest_point, object_pose, object_velocity

if TYPE_CHECKING:
    from phototwin.plan.task import Step
    from phototwin_tasks.twin_env import TwinEnv

CONTACT_M = 0.015
NEXT_TO_M = 0.12


def placed(env: TwinEnv, step: Step, speed_m_s: float = 0.05, opening: float = 0.5) -> torch.Tensor:
    """True where the object rests where the task wants it and the gripper has let go: (N,) bool.

    Args:
        env: The environment.
        step: What to put where.
        speed_m_s: How fast it may still move.
        opening: Share of the way that the fingers must be open.
    """
    relation = {"on": is_on, "in": is_in, "next to": is_next_to}[str(step.relation)]
    still = object_velocity(env, step.object)[:, :3].norm(dim=-1) < speed_m_s
    return relation(env, step.object, str(step.target)) & still & (gripper_opening(env) > opening)


def is_on(env: TwinEnv, moved: str, other: str) -> torch.Tensor:
    """The object's centre is over the target's footprint and its bottom at the target's top; a hollow target may hold it below its rim."""
    item, target = object_pose(env, moved), object_pose(env, other)
    support = env.twin.object(other)
    size = support.size_m
    over = (item[:, :2] - target[:, :2]).norm(dim=-1) < max(size[0], size[1]) / 2
    above_top = lowest_point(env, moved) - (target[:, 2] + size[2] / 2)
    lowest = -size[2] if support.hollow else -CONTACT_M
    return over & (above_top < CONTACT_M) & (above_top > lowest)


def is_in(env: TwinEnv, moved: str, other: str) -> torch.Tensor:
    """The object's centre is over the vessel's opening and its bottom below the rim."""
    item, target = object_pose(env, moved), object_pose(env, other)
    size = env.twin.object(other).size_m
    inside = (item[:, :2] - target[:, :2]).norm(dim=-1) < min(size[0], size[1]) / 2
    rim = target[:, 2] + size[2] / 2
    bottom = lowest_point(env, moved)
    return inside & (bottom < rim - 0.2 * size[2]) & (bottom > -CONTACT_M)


def is_next_to(env: TwinEnv, moved: str, other: str) -> torch.Tensor:
    """The object stands on the support, and the gap between the two footprints is small."""
    item, target = object_pose(env, moved), object_pose(env, other)
    radii = sum(max(env.twin.object(key).size_m[:2]) / 2 for key in (moved, other))
    gap = (item[:, :2] - target[:, :2]).norm(dim=-1) - radii
    return (gap < NEXT_TO_M) & (lowest_point(env, moved).abs() < CONTACT_M)
