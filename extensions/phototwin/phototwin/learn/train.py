"""Demonstrations -> a trained policy: batches, steps, checkpoints; the same seed gives the same weights."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import torch

from phototwin.data.lerobot import IMAGE_KEY
from phototwin.errors import InputError
from phototwin.learn.begun import begin_folder
from phototwin.learn.config import (
    CHECKPOINT,
    PRECISIONS,
    TRAINING_FILE,
    PolicyConfig,
    PolicyFacts,
    TrainConfig,
    check_training,
)
from phototwin.learn.demos import ACTION, MARKS, PADDED, PLACES, STATE, Demos, chunk_rows
from phototwin.learn.policy import make_policy, policy_sha256, save_policy
from phototwin.learn.spaces import in_space
from phototwin.learn.views import turn_views

LOG_EVERY = 50
PROGRESS = ("step", "losses", "since", "cpu_s")
"""What a checkpoint holds beside weights, optimiser and schedule."""
MOST_GRADIENT = 10.0
"""Norm to which gradients are cut."""
WARM_UP = 100
"""Steps over which the learning rate rises."""


@dataclass(frozen=True)
class Trained:
    """A training that has ended.

    Attributes:
        policy: The policy, in evaluation mode.
        facts: What it was made of.
        losses: Mean loss of every ``LOG_EVERY`` steps.
        cpu_s: Processor time of the steps.
    """

    policy: Any
    facts: PolicyFacts
    losses: tuple[float, ...]
    cpu_s: float


def train(
    demos: Demos,
    config: TrainConfig,
    folder: Path | None = None,
    on_step: Callable[[int, float], None] = lambda step, loss: None,
    start: tuple[Any, PolicyFacts] | None = None,
) -> Trained:
    """A policy that does as the demonstrations do.

    Args:
        demos: What it learns from.
        config: How.
        folder: Where the policy, a checkpoint every ``save_every`` steps and TensorBoard's log go; with a checkpoint of the same config
            and demonstrations there, training goes on from it, to the same weights. None keeps nothing.
        on_step: Told the step and the mean loss every ``LOG_EVERY`` steps.
        start: A policy to go on from instead of a new one, and what is known of it.

    Raises:
        InputError: The config makes no sense, or ``folder`` was begun with another training.
    """
    check_training(config)
    if config.threads:
        torch.set_num_threads(config.threads)
    config = replace(config, precision=choose_precision(config))
    half = config.precision == "bfloat16"
    torch.manual_seed(config.seed)
    facts = make_facts(config.policy, demos)
    if folder is not None:
        _begin(folder, config, facts, "" if start is None else start[1].digest)
    demos = in_space(demos, config.policy.space)
    policy = start[0] if start is not None else make_policy(config.policy, demos)
    policy.to(config.device)
    optimiser = torch.optim.AdamW(policy.parameters(), config.lr, weight_decay=config.weight_decay)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: _rate(step, config.steps))
    run = _Run(policy, optimiser, schedule)
    _resume(run, folder)
    writer = _writer(folder, run.step)
    policy.train()
    before = time.process_time() - run.cpu_s
    while run.step < config.steps:
        # Drawn anew from seed and step: a training that goes on is the one that was not interrupted.
        torch.manual_seed(_seed(config.seed, run.step))
        batch = make_batch(demos, config, np.random.default_rng([config.seed, run.step]))
        with torch.autocast(torch.device(config.device).type, torch.bfloat16, enabled=half):
            loss = policy.loss(batch)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(policy.parameters(), MOST_GRADIENT)
        optimiser.step()
        schedule.step()
        run.step += 1
        run.cpu_s = time.process_time() - before
        run.since.append(float(loss.detach()))
        if run.step % LOG_EVERY == 0 or run.step == config.steps:
            run.losses.append(float(np.mean(run.since)))
            run.since = []
            on_step(run.step, run.losses[-1])
            if writer is not None:
                writer.add_scalar("loss", run.losses[-1], run.step)
        if folder is not None and run.step % config.save_every == 0 and run.step < config.steps:
            _save(run, folder)
    policy.eval().to("cpu")
    facts = replace(facts, digest=policy_sha256(policy, config.policy))
    if folder is not None:
        save_policy(policy, facts, folder)
        (folder / CHECKPOINT).unlink(missing_ok=True)
    if writer is not None:
        writer.close()
    return Trained(policy, facts, tuple(run.losses), run.cpu_s)


@dataclass
class _Run:
    """A training on its way: what learns, and how far it is.

    Attributes:
        since: Losses of the steps since the last mean.
    """

    policy: Any
    optimiser: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LambdaLR
    step: int = 0
    losses: list[float] = field(default_factory=list)
    since: list[float] = field(default_factory=list)
    cpu_s: float = 0.0


def make_batch(demos: Demos, config: TrainConfig, rng: np.random.Generator) -> dict[str, torch.Tensor]:
    """Frames drawn evenly from all demonstrations, with what follows them, in LeRobot's names."""
    frames = rng.integers(0, len(demos.rgb), config.batch)
    rows, behind = chunk_rows(demos, frames, config.policy.chunk)
    views, places, marks = turn_views(demos, frames, config.turn_deg, rng)
    rgb = torch.from_numpy(views).permute(0, 3, 1, 2).float() / 255.0
    if config.jitter:
        gain, lift = rng.uniform(-config.jitter, config.jitter, (2, len(frames), 1, 1, 1)).astype(np.float32)
        rgb = ((rgb - 0.5) * torch.from_numpy(1 + gain) + 0.5 + torch.from_numpy(lift) / 2).clamp(0, 1)
    state = demos.state[frames]
    if config.state_noise_m:
        state[:, :3] += rng.normal(0.0, config.state_noise_m, (len(frames), 3))
    batch = {
        IMAGE_KEY: rgb,
        STATE: torch.from_numpy(state),
        ACTION: torch.from_numpy(demos.action[rows]),
        PADDED: torch.from_numpy(behind),
        PLACES: torch.from_numpy(places),
        MARKS: torch.from_numpy(marks),
    }
    return {name: value.to(config.device) for name, value in batch.items()}


def choose_precision(config: TrainConfig) -> str:
    """What "auto" means for the device of a training.

    Raises:
        InputError: Unknown names, or there is no such device.
    """
    if config.precision not in PRECISIONS:
        raise InputError(f"Unknown precision '{config.precision}'. Choose one of {', '.join(PRECISIONS)}.")
    if config.device != "cpu" and not (config.device.startswith("cuda") and torch.cuda.is_available()):
        raise InputError(f"There is no device '{config.device}' to train on here. Use --device cpu.")
    if config.precision != "auto":
        return config.precision
    # Private, but the only place where torch says so; where it is gone, training is in float32.
    fast = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    return "bfloat16" if config.device != "cpu" or fast() else "float32"


def make_facts(config: PolicyConfig, demos: Demos) -> PolicyFacts:
    """What must be known of a policy that learns from ``demos``."""
    frames = np.diff(demos.starts)
    return PolicyFacts(
        config=config,
        robot=demos.robot,
        fps=demos.fps,
        state_names=demos.state_names,
        shown=tuple(dict.fromkeys(demos.shown)),
        resolution=demos.resolution,
        seconds=float(frames[demos.whole if demos.whole.any() else slice(None)].mean()) / demos.fps,
        demos=len(demos),
        data_sha256=demos_digest(demos),
    )


def demos_digest(demos: Demos) -> str:
    """What tells one set of demonstrations from another: SHA-256 of all that is learned from."""
    digest = hashlib.sha256()
    labels = (np.nan_to_num(demos.places), np.nan_to_num(demos.marks), demos.K)
    for value in (demos.rgb, demos.action, demos.state, demos.starts, *labels):
        digest.update(np.ascontiguousarray(value).data)  # its bytes where they are: frames are gigabytes
    return digest.hexdigest()


def _rate(step: int, steps: int) -> float:
    """Share of the largest learning rate."""
    warm = min(1.0, (step + 1) / min(WARM_UP, steps))
    return warm * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * step / steps)))


def _seed(seed: int, step: int) -> int:
    return int(np.random.SeedSequence([seed, step, 1]).generate_state(1)[0])


def _writer(folder: Path | None, step: int) -> Any:
    if folder is None:
        return None
    from torch.utils.tensorboard import SummaryWriter

    # What an interrupted training told of later steps is told again.
    return SummaryWriter(str(folder), purge_step=step + 1 if step else None)


def _begin(folder: Path, config: TrainConfig, facts: PolicyFacts, start: str) -> None:
    """Write down what a training begins with, before its first step."""
    if (folder / CHECKPOINT).is_file() and not (folder / TRAINING_FILE).is_file():
        raise InputError(f"'{folder / CHECKPOINT}' is of a training that nothing is known of: delete it.")
    begun = {"data_sha256": facts.data_sha256, "demos": facts.demos, "start": start}
    begin_folder(folder / TRAINING_FILE, begun | asdict(config))


def _save(run: _Run, folder: Path) -> None:
    """A checkpoint, written aside and renamed: a training that is killed meanwhile goes on from the one before."""
    states = {name: getattr(run, name).state_dict() for name in ("policy", "optimiser", "schedule")}
    value = {name: getattr(run, name) for name in PROGRESS} | states
    partial = folder / f"{CHECKPOINT}.partial"
    torch.save(value, partial)
    partial.rename(folder / CHECKPOINT)


def _resume(run: _Run, folder: Path | None) -> None:
    """Bring a training to where its checkpoint is, if there is one."""
    file = None if folder is None else folder / CHECKPOINT
    if file is None or not file.is_file():
        return
    try:
        value = torch.load(file, weights_only=True)
    except (OSError, EOFError, RuntimeError, UnpicklingError) as error:
        raise InputError(
            f"'{file}' cannot be read ({error!s:.200}): delete it, and the training begins anew from its first step."
        ) from error
    for name in ("policy", "optimiser", "schedule"):
        getattr(run, name).load_state_dict(value[name])
    for name in PROGRESS:
        setattr(run, name, value[name])
