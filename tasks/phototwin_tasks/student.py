"""A distilled policy as files in a folder: what it learned from, and the network as a program that torch runs alone."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from phototwin.errors import InputError
from phototwin.learn.config import Shown, read_shown, told
from phototwin.plan.randomize import load_randomization
from phototwin_tasks.machine import check_machine

STUDENT_FILE = "student.json"
"""Written last: where it is, the student is whole."""
SCRIPT_FILE = "student.torchscript"
"""rsl_rl's own export: ``torch.jit.load(FILE)(body, [frames])`` is what the student means to do, without noise."""
LEAST_PX = 32
"""Smaller frames leave nothing to the last convolution."""


@dataclass(frozen=True)
class DistillConfig:
    """What decides a distillation, besides the expert and the twin.

    Attributes:
        family: Family of the task.
        robot: Short name of the robot.
        instruction: What to do; empty for the family's default on the twin. It is what the expert has learned.
        iterations: Of rsl_rl's loop: some control steps of every environment, then the student learns from them.
        num_envs: Environments side by side.
        episode_s: Time of an episode [s]; 0 is the family's. A student that is stuck shows only how it is to be stuck.
        image_px: Side of the frames [px].
        seed: Of the first weights and of every draw.
        randomize: Ranges of what attempts vary: a preset or a JSON file, see ``load_randomization``.
        randomize_pool: As in ``TwinEnvCfg``.
        physics: Name of the physics preset.
        device: "cpu" or "cuda:0".
    """

    family: str = "lift"
    robot: str = "panda"
    instruction: str = ""
    iterations: int = 36
    num_envs: int = 32
    episode_s: float = 0.0
    image_px: int = 64
    seed: int = 0
    randomize: str = "default"
    randomize_pool: int = 0
    physics: str = "ovphysx"
    device: str = "cpu"


@dataclass(frozen=True)
class StudentFacts:
    """What must be known to drive a robot with a student; the names are those of ``PolicyFacts``.

    Attributes:
        robot: Short name of the robot.
        fps: Control rate [Hz].
        shown: What it has learned to do and where, one.
        resolution: Width and height of the frames [px].
        seconds: Time that an episode had while it learned [s].
        digest: SHA-256 of its program.
        state_names: It is not given joint readings.
        control: What its actions are, see ``TwinEnvCfg``.
    """

    robot: str
    fps: int
    shown: tuple[Shown, ...]
    resolution: tuple[int, int]
    seconds: float
    digest: str
    state_names: tuple[str, ...] = field(default=(), init=False)
    control: str = field(default="tool", init=False)

    @property
    def instructions(self) -> tuple[str, ...]:
        """What it has learned to do, one."""
        return told(self.shown)


def check_distillation(config: DistillConfig) -> None:
    """Refuse what cannot be meant.

    Raises:
        InputError: An unknown name or an impossible number.
    """
    from phototwin.plan.task import FAMILIES
    from phototwin.robots import get_robot
    from phototwin_tasks.generate.config import OWN_RENDERER, PHYSICS

    get_robot(config.robot)
    for value, choices, what in ((config.family, FAMILIES, "family"), (config.physics, PHYSICS, "physics")):
        if value not in choices:
            raise InputError(f"Unknown {what} '{value}'. Choose one of {', '.join(choices)}.")
    if config.iterations < 1 or config.num_envs < 1:
        raise InputError(f"{config.iterations} iterations of {config.num_envs} environments: expected at least 1 of 1.")
    if config.image_px < LEAST_PX:
        raise InputError(f"Frames of {config.image_px} px: expected at least {LEAST_PX}.")
    if config.seed < 0 or config.randomize_pool < 0 or config.episode_s < 0:
        raise InputError(
            "Seed, time of an episode and the number of attempts that are drawn once must not be negative."
        )
    load_randomization(config.randomize)
    check_machine(config.physics, OWN_RENDERER, config.device)


def save_student(facts: StudentFacts, folder: Path) -> None:
    """Write what belongs to the program that is in ``folder`` already."""
    (folder / STUDENT_FILE).write_text(json.dumps(asdict(facts), indent=1) + "\n")


def load_student(folder: Path) -> tuple[Any, StudentFacts]:
    """The program of a student and what must be known to drive with it.

    Raises:
        InputError: There is none, or its files do not belong together.
    """
    import torch

    try:
        value: dict[str, Any] = json.loads((folder / STUDENT_FILE).read_text())
        for name in ("control", "state_names"):
            value.pop(name)
        shown = read_shown(value.pop("shown"))
        value = {name: tuple(v) if isinstance(v, list) else v for name, v in value.items()}
        facts = StudentFacts(shown=shown, **value)
        if program_digest(folder) != facts.digest:
            raise ValueError(f"{SCRIPT_FILE} is not the one that it was written for")
        return torch.jit.load(str(folder / SCRIPT_FILE), map_location="cpu").eval(), facts
    except (OSError, KeyError, ValueError, TypeError, RuntimeError) as error:
        raise InputError(f"'{folder}' holds no student that can be used ({error}): distil it again.") from error


def program_digest(folder: Path) -> str:
    """SHA-256 of the student's program."""
    return hashlib.sha256((folder / SCRIPT_FILE).read_bytes()).hexdigest()
