"""When a step is done, by skill, and when a whole task is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from phototwin_tasks.lift.mdp import lift_goal, lift_share, lifted
from phototwin_tasks.mdp.observations import object_pose
from phototwin_tasks.memory import begin_step
from phototwin_tasks.place.mdp import place_goal, place_share, placed
from phototwin_tasks.pour.mdp import pour_goal, pour_share, poured, pours
from phototwin_tasks.push.mdp import push_goal, push_share, pushed
from phototwin_tasks.stack.mdp import stack_share, stacked
from phototwin_tasks.upright.mdp import is_upright, upright_goal, upright_share

if TYPE_CHECKING:
    from phototwin.plan.task import Step
    from phototwin_tasks.twin_env import TwinEnv

SUCCESS = {"lift": lifted, "place": placed, "stack": stacked, "push": pushed, "pour": poured, "upright": is_upright}
"""Skill -> what says, for every environment, whether the state now is the step's end."""
SHARES = {
    "lift": lift_share,
    "place": place_share,
    "stack": stack_share,
    "push": push_share,
    "pour": pour_share,
    "upright": upright_share,
}
"""Skill -> how much of a step is done, (N,) in 0..1: dense, for rewards."""
GOALS = {
    "lift": lift_goal,
    "place": place_goal,
    "stack": place_goal,
    "push": push_goal,
    "pour": pour_goal,
    "upright": upright_goal,
}
"""Skill -> where a step's object shall get to, (N, 3): what a policy is shown."""
EPISODE_S = {"lift": 5.0, "place": 8.0, "stack": 8.0, "push": 5.0, "pour": 8.0, "upright": 8.0}
"""Time that a policy's episode has for a step of each skill [s]."""
PASSING = ("lift", "pour")
"""Skills whose end need not last: what was lifted may be put down by the next step."""


def step_holds(env: TwinEnv, step: Step) -> torch.Tensor:
    """True where the state now is the end of ``step``, (N,) bool."""
    return SUCCESS[step.skill](env, step)


def lasting_hold(env: TwinEnv, before: int) -> torch.Tensor:
    """True where the ends of the first ``before`` steps that shall last still hold, (N,) bool.

    What a later step moves again need not stay: only the last step that an object is moved in counts.
    """
    holds = torch.ones(env.num_envs, dtype=torch.bool, device=env.device)
    for index, step in enumerate(env.task.steps[:before]):
        moved_again = any(later.object == step.object for later in env.task.steps[index + 1 :])
        if step.skill not in PASSING and not moved_again:
            holds &= step_holds(env, step)
    return holds


def watch_steps(env: TwinEnv) -> None:
    """Remember what is only true for a moment; to be called after every step of the environment, before anything is judged."""
    for index, step in enumerate(env.task.steps):
        if step.skill == "pour":
            env.memory.poured[index] |= (env.progress == index) & pours(env, step)


def task_done(env: TwinEnv) -> torch.Tensor:
    """True where the last step is done and what shall last still holds, (N,) bool.

    Counts ``env.progress`` up on its way and says in ``env.just_done`` where; Isaac Lab computes terminations before rewards.
    """
    watch_steps(env)
    env.just_done[:] = False
    for index, step in enumerate(env.task.steps):
        here = env.progress == index
        if here.any():
            env.just_done |= here & step_holds(env, step)
    count = len(env.task.steps)
    env.progress += env.just_done.long()
    if (go_on := (env.just_done & (env.progress < count)).nonzero()[:, 0]).numel():
        begin_step(env, go_on, env.progress[go_on])
    done = env.progress >= count
    return done & lasting_hold(env, count - 1) if done.any() else done


def step_share(env: TwinEnv) -> torch.Tensor:
    """How much of the step at hand is done, (N,) in 0..1; 0 where all are."""
    share = torch.zeros(env.num_envs, device=env.device)
    for index, step in enumerate(env.task.steps):
        here = env.progress == index
        if here.any():
            share = torch.where(here, SHARES[step.skill](env, step), share)
    return share


def task_share(env: TwinEnv) -> torch.Tensor:
    """How much of the task is done, (N,) in 0..1: whole steps, and the share of the one at hand."""
    count = len(env.task.steps)
    return (env.progress.clamp(max=count) + step_share(env)) / count


def goal_offset(env: TwinEnv) -> torch.Tensor:
    """From the object of the step at hand to where it shall get to, (N, 3) [m]."""
    index = env.progress.clamp(max=len(env.task.steps) - 1)
    offset = torch.zeros(env.num_envs, 3, device=env.device)
    for k, step in enumerate(env.task.steps):
        here = index == k
        if here.any():
            way = GOALS[step.skill](env, step) - object_pose(env, step.object)[:, :3]
            offset = torch.where(here[:, None], way, offset)
    return offset
