"""When a step is done, by skill, and when a whole task is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from phototwin_tasks.lift.mdp import lifted
from phototwin_tasks.place.mdp import placed

if TYPE_CHECKING:
    from phototwin.plan.task import Step
    from phototwin_tasks.twin_env import TwinEnv

SUCCESS = {"lift": lifted, "place": placed}
"""Skill -> what says, for every environment, whether the state now is the step's end."""
PASSING = ("lift", "pour")
"""Skills whose end need not last: what was lifted may be put down by the next step."""


def step_holds(env: TwinEnv, step: Step) -> torch.Tensor:
    """True where the state now is the end of ``step``, (N,) bool."""
    return SUCCESS[step.skill](env, step)


def lasting_hold(env: TwinEnv, before: int) -> torch.Tensor:
    """True where the ends of the first ``before`` steps that shall last still hold, (N,) bool."""
    holds = torch.ones(env.num_envs, dtype=torch.bool, device=env.device)
    for step in env.task.steps[:before]:
        if step.skill not in PASSING:
            holds &= step_holds(env, step)
    return holds


def task_done(env: TwinEnv) -> torch.Tensor:
    """True where the last step is done and what shall last still holds, (N,) bool.

    Counts ``env.progress`` up on its way and says in ``env.just_done`` where; Isaac Lab computes terminations before rewards.
    """
    env.just_done[:] = False
    for index, step in enumerate(env.task.steps):
        here = env.progress == index
        if here.any():
            env.just_done |= here & step_holds(env, step)
    env.progress += env.just_done.long()
    count = len(env.task.steps)
    done = env.progress >= count
    return done & lasting_hold(env, count - 1) if done.any() else done


def step_done(env: TwinEnv) -> torch.Tensor:
    """1 where a step has just come to its end, (N,) float: a reward."""
    return env.just_done.float()
