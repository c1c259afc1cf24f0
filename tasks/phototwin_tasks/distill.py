"""A state expert taught to a student that sees: rsl_rl's distillation, in which the student drives and the expert says what it would have done."""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import math
import pickle
import re
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from rsl_rl.models import MLPModel

from phototwin.console import logged_to
from phototwin.errors import InputError
from phototwin.learn.begun import begin_folder
from phototwin.learn.config import Shown
from phototwin.output import disk_errors
from phototwin.plan.randomize import load_randomization
from phototwin.plan.task import describe_task
from phototwin.scene import load_scene
from phototwin_tasks.generate.jobs import twin_hash
from phototwin_tasks.generate.ledger import file_sha256
from phototwin_tasks.register import make_env_cfg
from phototwin_tasks.rl import open_runner
from phototwin_tasks.student import (
    SCRIPT_FILE,
    DistillConfig,
    StudentFacts,
    check_distillation,
    program_digest,
    save_student,
)
from phototwin_tasks.twin_env import CONTROL_HZ, twin_folder

RUN_FILE = "distillation.json"
"""What a distillation was begun with."""
FREE = ("iterations", "device")
"""More iterations of the same, on any device, are the same distillation."""
LOG_FILE = "distillation.log"
LEAST_RATE = 0.05
"""Share of the learning rate that is left at the end."""
LEARNED = "actor_state_dict"
"""Where rsl_rl keeps a policy that PPO has learned."""


class Expert(MLPModel):
    """What PPO has learned, cut to what the environment does of it: a student should not have to learn how far beyond that an action lies."""

    def forward(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Actions in -1..1."""
        return super().forward(*args, **kwargs).clamp(-1.0, 1.0)


@dataclass(frozen=True)
class Distilled:
    """What has become of a distillation.

    Attributes:
        facts: Of the student.
        losses: Difference between what student and expert would have done (Huber), the mean of each iteration in this process.
        cpu_s: Processor time of the iterations in this process.
    """

    facts: StudentFacts
    losses: tuple[float, ...]
    cpu_s: float


def distill(
    expert: Path,
    twin: Path,
    config: DistillConfig,
    folder: Path,
    on_iteration: Callable[[int, float], None] = lambda iteration, loss: None,
) -> Distilled:
    """Teach a student what an expert does.

    Args:
        expert: Checkpoint of ``isaaclab train`` or ``train_policy`` (rsl_rl) for the same task on the same twin.
        twin: Folder of the twin.
        config: How.
        folder: Where the student, rsl_rl's checkpoints and TensorBoard's log go; with checkpoints of the same distillation there it goes
            on from the last one, with attempts that have not been.
        on_iteration: Told the number of every iteration and its loss.

    Raises:
        TwinError: The config or the checkpoint makes no sense, the task does not fit the twin, or ``folder`` holds another distillation.
    """
    from phototwin_tasks.learning import for_distilling, make_distillation_cfg

    check_distillation(config)
    known = read_expert(expert)
    sha256 = twin_hash(twin)
    begun = {"expert": file_sha256(expert), "twin": sha256, **asdict(config)}
    begun["randomize"] = json.dumps(asdict(load_randomization(config.randomize)))  # what a file says now
    begin_folder(folder / RUN_FILE, begun, FREE)
    last, done = last_checkpoint(folder)
    cfg = for_distilling(make_env_cfg(config.family, config.robot), config.image_px)
    cfg.twin, cfg.instruction, cfg.sim.device = str(twin), config.instruction, config.device
    cfg.seed, cfg.scene.num_envs, cfg.episode_length_s = config.seed, config.num_envs, config.episode_s
    cfg.randomize, cfg.randomize_pool = config.randomize, config.randomize_pool
    losses: list[float] = []

    def learned(iteration: int, loss: float) -> None:
        losses.append(loss)
        on_iteration(iteration, loss)

    agent = make_distillation_cfg(config.family)
    agent.max_iterations = config.iterations
    # An attempt has at least one step: before these, none of what was driven up to the checkpoint is driven again.
    first = done * agent.num_steps_per_env * config.num_envs
    with open_runner(cfg, agent, config.physics, folder, first) as (env, runner):
        runner.logger.git_status_repos.clear()  # it would store what is not committed in any repository around
        _teach(runner.alg, known, expert)
        if last is not None:
            runner.alg.load(last, {"student": True, "optimizer": True}, True)
            runner.current_learning_iteration = done
            torch.manual_seed(config.seed + done)
        _watch(runner.alg, done, config.iterations, learned)
        start = time.process_time()
        if done < config.iterations:
            with contextlib.redirect_stdout(io.StringIO()):
                runner.learn(config.iterations - done, init_at_random_ep_len=True)
        cpu_s = time.process_time() - start
        runner.export_policy_to_jit(str(folder), SCRIPT_FILE)
        made, seconds = env.unwrapped, env.unwrapped.max_episode_length_s
        shown = Shown(
            made.task.text,
            json.dumps(describe_task(made.task), sort_keys=True),
            sha256,
            config.seed,
            tuple(made.base_pose_w.tolist()),
        )
    size = (config.image_px, config.image_px)
    facts = StudentFacts(config.robot, CONTROL_HZ, (shown,), size, seconds, program_digest(folder))
    save_student(facts, folder)
    return Distilled(facts, tuple(losses), cpu_s)


def read_expert(file: Path) -> dict[str, Any]:
    """What a checkpoint of rsl_rl's PPO holds, its policy among it.

    Raises:
        InputError: It is none.
    """
    if not file.is_file():
        raise InputError(f"There is no expert '{file}': give a checkpoint of isaaclab train, such as model_121.pt.")
    try:
        known = torch.load(file, map_location="cpu", weights_only=True)
    except (OSError, EOFError, RuntimeError, pickle.UnpicklingError) as error:
        raise InputError(f"'{file}' is no checkpoint of rsl_rl: torch cannot read it ({error!s:.200}).") from error
    if not isinstance(known, dict) or LEARNED not in known:
        raise InputError(f"'{file}' holds no policy that rsl_rl's PPO has learned ('{LEARNED}' is missing).")
    return known


def last_checkpoint(folder: Path) -> tuple[dict[str, Any] | None, int]:
    """The last checkpoint in the folder of a distillation that was written to its end, and after how many iterations; None and 0 where there is none."""
    files = {int(m[1]): f for f in folder.glob("model_*.pt") if (m := re.fullmatch(r"model_(\d+)", f.stem))}
    for iteration in sorted(files, reverse=True):
        with contextlib.suppress(OSError, EOFError, RuntimeError, pickle.UnpicklingError):
            # rsl_rl names a checkpoint after the iteration that it was written at the end of, the first 0.
            return torch.load(files[iteration], map_location="cpu", weights_only=True), iteration + 1
    return None, 0


def _teach(alg: Any, known: dict[str, Any], file: Path) -> None:
    """Give the expert what it has learned."""
    try:
        alg.load(known, {"teacher": True}, True)
    except RuntimeError as error:
        raise InputError(
            f"The expert '{file}' does not fit the task ({' '.join(str(error).split())[:300]}): "
            "it must have learned the same family of tasks on this twin."
        ) from error


def _watch(alg: Any, done: int, iterations: int, learned: Callable[[int, float], None]) -> None:
    """Have every iteration told as it comes, and its learning rate fall along a half cosine; rsl_rl's distillation has a constant one."""
    update, most = alg.update, alg.learning_rate
    count = itertools.count(done)

    def updated() -> dict[str, float]:
        iteration = next(count)
        fallen = 0.5 * (1 + math.cos(math.pi * iteration / iterations))
        alg.learning_rate = most * (LEAST_RATE + (1 - LEAST_RATE) * fallen)
        for group in alg.optimizer.param_groups:
            group["lr"] = alg.learning_rate
        losses = update()
        learned(iteration, losses["behavior"])
        return losses

    alg.update = updated


def run_distillation(expert: Path, twin: Path, config: DistillConfig, out: Path, resume: bool = False) -> str:
    """Distil an expert into a folder; what to say at the end.

    Args:
        expert: As in ``distill``.
        twin: As in ``distill``.
        config: How.
        out: Folder of the student.
        resume: Go on with a distillation in ``out``.

    Raises:
        InputError: ``out`` is not empty and ``resume`` is False, or as ``distill``.
        OutputError: The disk refuses.
    """
    if out.exists() and any(out.iterdir()) and not (resume and (out / RUN_FILE).is_file()):
        raise InputError(f"'{out}' is not empty: give another --out, or --resume where a distillation was interrupted.")
    twin = twin_folder(str(twin))
    load_scene(twin)
    check_distillation(config)
    read_expert(expert)
    with disk_errors(out):
        out.mkdir(parents=True, exist_ok=True)
        with logged_to(out / LOG_FILE) as terminal:
            begun, first = time.monotonic(), last_checkpoint(out)[1]

            def say(iteration: int, loss: float) -> None:
                left = (time.monotonic() - begun) / (iteration + 1 - first) * (config.iterations - iteration - 1)
                terminal.write(
                    f"iteration {iteration + 1} of {config.iterations}, loss {loss:.4f}, {left / 60:.1f} min left\n"
                )

            made = distill(expert, twin, config, out, say)
    loss = f"loss {made.losses[-1]:.4f}, " if made.losses else ""
    return (
        f"'{made.facts.instructions[0]}' distilled: {config.iterations} iterations, {loss}{made.cpu_s / 60:.1f} CPU-minutes.\n"
        f"  {out}   scripts/evaluate.py --policy {out} --twin {twin}\n"
    )
