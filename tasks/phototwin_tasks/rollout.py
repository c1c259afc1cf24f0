"""A batch of attempts in one environment: reset; for every step plan, act, look, judge."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
import torch

from phototwin.episode import Episode
from phototwin.errors import PlanError
from phototwin.plan.drives import lead_commands
from phototwin.plan.noise import path_noise
from phototwin.plan.waypoints import plan_step
from phototwin_tasks.film import Film
from phototwin_tasks.generate.failures import plan_failure
from phototwin_tasks.looks import Looks, matrices
from phototwin_tasks.mdp.observations import gripper_opening, object_pose
from phototwin_tasks.mdp.states import bottom, fingers_press, released
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
from phototwin_tasks.skills import lasting_hold, step_holds
from phototwin_tasks.twin_env import TwinEnv

SETTLE_S = 0.5
"""Time before planning in which the objects come to rest."""
HOLD_S = 0.3
"""Time after a plan's end in which the last command is held: success is judged at rest."""
MOST_S = 60.0
"""A step of a task that takes longer has gone wrong."""
IN_HAND_OPEN = 0.9
"""Fingers that press and are less open than this have something between them."""
NOISE_STREAM = 2
"""The noise on a step's motion is drawn from seed, attempt and step with this behind them."""


class Guest(Protocol):
    """Who drives before the plan does."""

    @property
    def leaves(self) -> Sequence[int]:
        """Control step at which it leaves each environment to the plan."""
        ...

    def actions(self, t: int) -> np.ndarray:
        """What every environment is told at control step ``t``, (N, A)."""
        ...


def rollout(
    env: TwinEnv,
    attempts: Sequence[int],
    looks: Looks | None,
    on_step: Callable[[float], None] = lambda share: None,
    provenance: dict[str, Any] | None = None,
    noise_m: float = 0.0,
    guest: Guest | None = None,
) -> list[Episode]:
    """One episode per environment. Each step of the task is planned from the state that the one before has left.

    Args:
        env: The environment; its terminations must not end episodes early.
        attempts: Index of the attempt of each environment.
        looks: Makes frames when given.
        on_step: Told the share of the batch that is done.
        provenance: Recorded with every episode.
        noise_m: How far the tool is made to wander off its path, see ``plan.noise``; the recorded action is the plan's.
        guest: Who drives first; an episode then begins where the plan takes over.
    """
    env.attempt[:] = torch.as_tensor(attempts, device=env.device)
    env.reset()
    command = home_command(env)
    for _ in range(control_steps(env, SETTLE_S)):
        env.step(command)
    # A reset counts the attempts on; what is seen live is seeded by those at hand.
    env.attempt[:] = torch.as_tensor(attempts, device=env.device)
    film = Film(env, looks, attempts)
    records = [Record(attempt) for attempt in attempts]
    begin_step(env, torch.arange(env.num_envs, device=env.device), 0)
    t = 0
    while any(not record.ended for record in records):
        due = [i for i, record in enumerate(records) if record.plan is None and (not guest or guest.leaves[i] == t)]
        _plan(env, records, [i for i in due if not records[i].ended], t, noise_m)
        running = [i for i, record in enumerate(records) if record.plan and not record.ended]
        if guest and t < max(guest.leaves):
            command[:] = torch.as_tensor(guest.actions(t), dtype=command.dtype, device=command.device)
        for i in running:
            command[i] = torch.from_numpy(_action(records[i], t)).to(command)
        states = read_rows(env) | {"action": command.cpu().numpy().copy()}
        if noise_m:
            for i in running:
                command[i, :-1] += torch.from_numpy(_noise(records[i], t)).to(command)
            states["executed"] = command.cpu().numpy().copy()
        keep_rows(records, running, states)
        film.see(running, t)
        env.step(command)
        t += 1
        watch_attempts(env, records, running)
        arrived = [i for i in running if t - records[i].started == _length(env, records[i])]
        if arrived:
            _judge(env, records, arrived)
            _plan(env, records, [i for i in arrived if not records[i].ended], t, noise_m)
        on_step(_share(env, records, t))
    return [make_episode(env, i, record, film, provenance or {}) for i, record in enumerate(records)]


def _length(env: TwinEnv, record: Record) -> int:
    """Control steps of the plan it follows."""
    return 0 if record.plan is None else len(record.plan.q) + control_steps(env, HOLD_S)


def _share(env: TwinEnv, records: list[Record], t: int) -> float:
    """How much of the batch is done: the attempt that is furthest behind counts."""
    count = len(env.task.steps)
    done = [r.step + (t - r.started) / _length(env, r) if r.plan else 0.0 for r in records]
    return min(1.0 if r.ended else share / count for r, share in zip(records, done, strict=True))


def _action(record: Record, t: int) -> np.ndarray:
    plan = record.plan
    assert plan is not None
    row = min(t - record.started, len(plan.q) - 1)
    return np.append(plan.q[row], 1.0 if plan.gripper_open[row] else -1.0).astype(np.float32)


def _noise(record: Record, t: int) -> np.ndarray:
    """What is added to its arm's command, (J,) [rad]."""
    return record.noise[min(t - record.started, len(record.noise) - 1)]


def _plan(env: TwinEnv, records: list[Record], which: Sequence[int], t: int, noise_m: float) -> None:
    """Motions of the step that each of ``which`` is at, from what the simulator says now."""
    if not which:
        return
    poses = {item.key: matrices(object_pose(env, item.key)) for item in env.twin.objects}
    joints = _arm_positions(env)
    at = [records[i].step for i in which]
    begin_step(env, torch.tensor(list(which), device=env.device), torch.tensor(at, device=env.device))
    for i in which:
        record, step = records[i], env.task.steps[records[i].step]
        # The first step's draw is that of its attempt alone, whatever follows it.
        words = [env.run_seed, record.attempt, record.step][: 2 + (record.step > 0)]
        seed = int(np.random.SeedSequence(words).generate_state(1)[0])
        held = record.plan.held if record.plan else _in_hand(env, step.object, i)
        try:
            plan = plan_step(env.cell, step, {key: T[i] for key, T in poses.items()}, joints[i], seed, held)
            record.plan = replace(plan, q=lead_commands(env.robot, joints[i], plan.q, env.cell.fps))
            if noise_m:
                drawn = np.random.SeedSequence([env.run_seed, record.attempt, record.step, NOISE_STREAM])
                record.noise = path_noise(env.cell.arm, plan.q, plan.gripper_open, env.cell.fps, drawn, noise_m)
            record.started, record.highest_m = t, 0.0
            record.began = {key: T[i] for key, T in poses.items()}
            record.rest_m = float(bottom(env, step.object)[i])
        except PlanError as error:
            record.ended, record.failure = True, plan_failure(str(error))
        if not record.ended and _length(env, record) > control_steps(env, MOST_S):
            record.ended, record.failure = True, f"timeout: the motion would take more than {MOST_S:.0f} s"


def _in_hand(env: TwinEnv, key: str, index: int) -> str | None:
    """The object, where the gripper of an environment has it already: whoever drove before the plan may have taken it."""
    pressed = bool(fingers_press(env)[index] & ~released(env, key)[index])
    return key if pressed and bool(gripper_opening(env)[index] < IN_HAND_OPEN) else None


def _arm_positions(env: TwinEnv) -> np.ndarray:
    robot = env.scene["robot"]
    columns = [robot.joint_names.index(name) for name in env.robot.arm_joints]
    return robot.data.joint_pos.torch[:, columns].cpu().numpy().astype(np.float64)


def _judge(env: TwinEnv, records: list[Record], arrived: list[int]) -> None:
    """Whether the step is done; the next one, or the end of the attempt."""
    states = read_rows(env)
    steps = env.task.steps
    passed = {k: step_holds(env, steps[k]).cpu().numpy() for k in {records[i].step for i in arrived}}
    lasting = lasting_hold(env, len(steps) - 1).cpu().numpy()
    for i in arrived:
        record = records[i]
        last = record.step == len(steps) - 1
        if not passed[record.step][i]:
            record.failure = why_failed(env, record, states["object_poses_w"][i])
        elif last and not lasting[i]:
            record.failure = "undone"
        elif not last:
            record.step += 1
            continue
        record.success, record.ended, record.final = not record.failure, True, rows_of(i, states)
