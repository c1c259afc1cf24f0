"""Dense rewards that every family shares: come to the grasp, take the object, do the step's share of the task."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from phototwin_tasks.mdp.guide import TAKEN_M, grasp_closed, grasp_offset, step_at_hand
from phototwin_tasks.mdp.observations import gripper_opening
from phototwin_tasks.mdp.way import way_offset
from phototwin_tasks.skills import step_share, task_share

if TYPE_CHECKING:
    from phototwin_tasks.twin_env import TwinEnv

CARRIED_SHARE = 0.75
"""From this share of a step on what is left is to let go: what the hand has earned by taking the object it keeps."""


def let_go(env: TwinEnv) -> torch.Tensor:
    """How much of that rest is done at the step at hand, (N,) in 0..1."""
    return ((step_share(env) - CARRIED_SHARE) / (1 - CARRIED_SHARE)).clamp(min=0)


def tool_near(env: TwinEnv, std_m: float) -> torch.Tensor:
    """Nearness of the tool to where it takes the object at hand, (N,) in 0..1."""
    return torch.maximum(1 - torch.tanh(grasp_offset(env)[:, :3].norm(dim=-1) / std_m), let_go(env))


def tool_on_way(env: TwinEnv, std_m: float) -> torch.Tensor:
    """Nearness of the tool to where it should head next, (N,) in 0..1."""
    return torch.maximum(1 - torch.tanh(way_offset(env).norm(dim=-1) / std_m), let_go(env))


def tool_turned(env: TwinEnv, std_rad: float) -> torch.Tensor:
    """Nearness of the tool's turn to that grasp's, (N,) in 0..1."""
    return torch.maximum(1 - torch.tanh(grasp_offset(env)[:, 3:].norm(dim=-1) / std_rad), let_go(env))


def object_taken(env: TwinEnv) -> torch.Tensor:
    """How far the fingers have closed at the grasp, (N,) in 0..1.

    Every bit of closing counts: where only closed fingers do, a policy that hovers over the grasp with open ones never tries.
    """
    return torch.maximum(grasp_closed(env), let_go(env))


def fingers_ready(env: TwinEnv) -> torch.Tensor:
    """1 at the grasp, and elsewhere how far the fingers are open (closed, for what is pushed), (N,) in 0..1: closed ones press on things from above."""
    there = grasp_offset(env)[:, :3].norm(dim=-1) < TAKEN_M
    opening = gripper_opening(env).clamp(0, 1)
    wanted = (env.guide.openings[step_at_hand(env)] > 0).float()
    return torch.maximum(torch.where(there, 1.0, 1 - (opening - wanted).abs()), let_go(env))


def share_done(env: TwinEnv) -> torch.Tensor:
    """How much of the task is done, (N,) in 0..1."""
    return task_share(env)


def step_done(env: TwinEnv) -> torch.Tensor:
    """1 where a step has just come to its end, (N,) float."""
    return env.just_done.float()
