"""A policy drives a batch of attempts: look, act for a while, look again; what happened, as episodes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import torch

from phototwin.episode import Episode
from phototwin_tasks.film import Film
from phototwin_tasks.looks import Looks, attempt_blenders, look, matrices
from phototwin_tasks.mdp.frames import proprioception
from phototwin_tasks.mdp.observations import object_pose
from phototwin_tasks.mdp.states import bottom
from phototwin_tasks.memory import begin_step
from phototwin_tasks.records import (
    Record,
    control_steps,
    home_command,
    keep_rows,
    make_episode,
    read_rows,
    rows_of,
    watch_attempts,
    why_failed,
)
from phototwin_tasks.rollout import SETTLE_S
from phototwin_tasks.skills import task_done
from phototwin_tasks.twin_env import TwinEnv

SHOVE_STREAM = 3
"""Shoves are drawn from seed and attempt with this behind them."""
DRIVER_STREAM = 5
"""What policies draw comes from seed and the first attempt of a batch with this behind them."""
SHOVE_FROM_S, SHOVE_UNTIL_S = 0.5, 2.5
"""When the object is shoved."""


class Driver(Protocol):
    """What drives: ``learn.policy`` or a program elsewhere."""

    @property
    def execute(self) -> int:
        """So many actions of a chunk are done before it looks again."""
        ...

    def begin(self, attempts: int, seed: int) -> None:
        """New attempts begin, so many side by side; what it draws comes of the seed."""
        ...

    def actions(self, rgb: np.ndarray, state: np.ndarray, instruction: str) -> np.ndarray:
        """Actions (B, H, A) for frames (B, h, w, 3) uint8 and readings (B, S), see ``readings``."""
        ...


@dataclass(frozen=True)
class Limits:
    """What a drive is given.

    Attributes:
        seconds: Time for an attempt; what is not done by then has failed.
        shove_m_s: Speed with which the object is shoved once on its way there; 0 leaves it alone.
    """

    seconds: float
    shove_m_s: float = 0.0


def drive(
    env: TwinEnv,
    looks: Looks,
    driver: Driver,
    attempts: Sequence[int],
    limits: Limits,
    films: Callable[[list[Episode]], Sequence[int]] | None = None,
    provenance: dict[str, Any] | None = None,
    on_step: Callable[[float], None] = lambda share: None,
) -> list[Episode]:
    """One episode per environment; ``action`` is what the policy did.

    An attempt ends when its task is done, when time is up, or when its object has left the support.

    Args:
        env: The environment; its terminations must not end episodes early.
        looks: What the policy sees.
        driver: The policy.
        attempts: Index of the attempt of each environment.
        limits: Time and disturbances.
        films: Told what has come, says which episodes come with all their frames; None where none does: frames are then only made where
            the policy looks.
        provenance: Recorded with every episode.
        on_step: Told the share of the time that is over.
    """
    env.attempt[:] = torch.as_tensor(attempts, device=env.device)
    env.reset()
    command = home_command(env)
    for _ in range(control_steps(env, SETTLE_S)):
        env.step(command)
    begin_step(env, torch.arange(env.num_envs, device=env.device), 0)
    # A reset counts the attempts on; frames are seeded by the attempts at hand.
    env.attempt[:] = torch.as_tensor(attempts, device=env.device)
    blenders, seen = attempt_blenders(env, looks, attempts), Film(env, looks if films else None, attempts)
    records = [_begin(env, attempt, i) for i, attempt in enumerate(attempts)]
    shoves = [_shove(env, attempt, limits.shove_m_s) for attempt in attempts]
    driver.begin(len(records), driver_seed(env.run_seed, attempts))
    steps = control_steps(env, limits.seconds)
    told, frames = np.zeros((0, 0, 0)), None
    for t in range(steps):
        running = [i for i, record in enumerate(records) if not record.ended]
        if not running:
            break
        rows = read_rows(env)
        if t % driver.execute == 0:
            frames = look(env, looks, blenders, t, frames, running)
            told = driver.actions(frames, readings(env, rows), env.task.text)
        action = told[:, min(t % driver.execute, told.shape[1] - 1)]
        command[:] = torch.as_tensor(action, dtype=command.dtype, device=command.device)
        keep_rows(records, running, rows | {"action": action.astype(np.float32)})
        seen.see(running, t)
        _push(env, {i: shove.velocity for i in running if (shove := shoves[i]) and shove.step == t})
        env.step(command)
        watch_attempts(env, records, running)
        _end(env, records, running, t + 1 == steps)
        on_step((t + 1) / steps)
    blind = Film(env, None, attempts)
    episodes = [make_episode(env, i, record, blind, provenance or {}) for i, record in enumerate(records)]
    for i in films(episodes) if films else ():
        episodes[i] = replace(episodes[i], rgb=seen.frames(i)["rgb"])
    return episodes


def driver_seed(run_seed: int, attempts: Sequence[int]) -> int:
    """What the driver of a batch draws from: an evaluation that goes on ends as one that was not interrupted."""
    return int(np.random.SeedSequence([run_seed, attempts[0], DRIVER_STREAM]).generate_state(1)[0])


def readings(env: TwinEnv, rows: dict[str, np.ndarray]) -> np.ndarray:
    """What drivers are told of the robot: joint positions where actions are joint positions, ``proprioception`` where they are moves of the tool."""
    if env.cfg.control == "joint":
        return rows["joint_pos"]
    return proprioception(env).cpu().numpy()


def _begin(env: TwinEnv, attempt: int, index: int) -> Record:
    record = Record(attempt)
    record.began = {item.key: matrices(object_pose(env, item.key))[index] for item in env.twin.objects}
    record.rest_m = float(bottom(env, env.task.steps[0].object)[index])
    return record


def _end(env: TwinEnv, records: list[Record], running: list[int], late: bool) -> None:
    """End the attempts that are done, lost, or out of time."""
    before = env.progress.clone()
    done = task_done(env).cpu().numpy()
    advanced = (env.progress > before).cpu().numpy()
    states = None
    for i in running:
        record = records[i]
        if advanced[i] and not done[i] and record.step + 1 < len(env.task.steps):
            record.step += 1
            record.highest_m = 0.0
            record.rest_m = float(bottom(env, env.task.steps[record.step].object)[i])
        if not (done[i] or late):
            continue
        states = states or read_rows(env)
        record.success, record.ended = bool(done[i]), True
        record.final = rows_of(i, states)
        if not done[i]:
            record.failure = why_failed(env, record, states["object_poses_w"][i])


@dataclass(frozen=True, eq=False)
class _Shove:
    """At which control step an object is shoved, and the velocity (3,) [m/s] it gets."""

    step: int
    velocity: np.ndarray


def _shove(env: TwinEnv, attempt: int, speed_m_s: float) -> _Shove | None:
    """How the object of an attempt is shoved."""
    if not speed_m_s:
        return None
    rng = np.random.default_rng([env.run_seed, attempt, SHOVE_STREAM])
    angle = rng.uniform(0, 2 * np.pi)
    when = control_steps(env, rng.uniform(SHOVE_FROM_S, SHOVE_UNTIL_S))
    return _Shove(when, speed_m_s * np.array([np.cos(angle), np.sin(angle), 0.0]))


def _push(env: TwinEnv, velocities: dict[int, np.ndarray]) -> None:
    """Give the object of the first step its velocity (3,) in some environments."""
    if not velocities:
        return
    moving = torch.zeros(len(velocities), 6, device=env.device)
    moving[:, :3] = torch.as_tensor(np.stack(list(velocities.values())), dtype=torch.float32)
    ids = torch.tensor(list(velocities), dtype=torch.int32, device=env.device)
    env.scene[env.task.steps[0].object].write_root_velocity_to_sim_index(root_velocity=moving, env_ids=ids)
