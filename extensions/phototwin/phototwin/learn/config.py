"""What decides a policy and its training, and what must be known to drive with it; light, so that command lines start at once."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from phototwin.errors import InputError

KINDS = ("bc", "act", "diffusion")
SIZES = ("small", "usual")
SPACES = ("tool", "joint")
PRECISIONS = ("auto", "float32", "bfloat16")
TRAINING_FILE = "training.json"
"""What a training was begun with."""
CHECKPOINT = "checkpoint.pt"
"""What a training goes on from: weights, optimiser, step."""
DOWN = 3
"""Temporal halvings of Diffusion's U-net: a chunk is a multiple of 2 ** DOWN."""


@dataclass(frozen=True)
class PolicyConfig:
    """What kind of policy.

    Attributes:
        kind: "bc" (our small network), "act" or "diffusion" (LeRobot's).
        space: What it is shown and tells: "tool" (poses of the tool, which the arm follows by inverse kinematics) or "joint".
        size: "small" trains on a CPU, "usual" are LeRobot's own settings; bc has one size.
        image_px: Side to which frames are shrunk [px].
        chunk: Actions that are predicted at once.
        execute: So many of them are done before it looks again. Fewer than all of them let it stand still for ever where it is nearly
            there: a policy that is shown where it is now waits as demonstrations wait, and the fingers close in a part of the chunk that is never done.
    """

    kind: str = "bc"
    space: str = "tool"
    size: str = "small"
    image_px: int = 96
    chunk: int = 16
    execute: int = 16


@dataclass(frozen=True)
class Shown:
    """What a demonstration was of.

    Attributes:
        instruction: What the robot was told.
        task: The task as JSON; the same task may be told in other words.
        twin: SHA-256 of the twin, that of the photo also where a variant of it was used; empty where nobody knows.
        seed: Of the run; -1 where nobody knows.
        base_pose_w: Where the robot stood: place [m] and quaternion x, y, z, w in the world; () where nobody knows.
    """

    instruction: str
    task: str = ""
    twin: str = ""
    seed: int = -1
    base_pose_w: tuple[float, ...] = ()


@dataclass(frozen=True)
class PolicyFacts:
    """What must be known to drive a robot with it.

    Attributes:
        config: Its kind.
        robot: Short name of the robot.
        fps: Control rate [Hz].
        state_names: Names of the joints whose readings it is given.
        shown: What it was shown, each once; evaluations keep apart from it.
        resolution: Width and height of the frames before they are shrunk [px].
        seconds: Mean length of the demonstrations it has learned from [s]; takeovers of rounds, which begin later, do not count.
        demos: How many episodes those are, takeovers too.
        data_sha256: Of those episodes, see ``demos_digest``.
        digest: SHA-256 of config and weights; empty while it learns.
    """

    config: PolicyConfig
    robot: str
    fps: int
    state_names: tuple[str, ...]
    shown: tuple[Shown, ...]
    resolution: tuple[int, int]
    seconds: float
    demos: int
    data_sha256: str
    digest: str = ""

    @property
    def instructions(self) -> tuple[str, ...]:
        """What it was told, each once."""
        return told(self.shown)

    @property
    def control(self) -> str:
        """What its actions are to the environment: joint positions."""
        return "joint"


def read_shown(rows: Iterable[dict[str, Any]]) -> tuple[Shown, ...]:
    """What ``asdict`` and JSON made of it, back.

    Raises:
        TypeError, ValueError: It is nothing of the kind.
    """
    found = tuple(Shown(**{**row, "base_pose_w": tuple(map(float, row.get("base_pose_w", ())))}) for row in rows)
    for each in found:
        if (
            not all(isinstance(text, str) for text in (each.instruction, each.task, each.twin))
            or type(each.seed) is not int
        ):
            raise TypeError(f"expected words, task and twin as texts and a whole seed, got {each}")
    return found


def told(shown: Iterable[Shown]) -> tuple[str, ...]:
    """The instructions among what was shown, each once."""
    return tuple(dict.fromkeys(each.instruction for each in shown))


def check_policy(config: PolicyConfig) -> None:
    """Refuse what cannot be meant.

    Raises:
        InputError: An unknown name or an impossible number.
    """
    if config.kind not in KINDS:
        raise InputError(f"Unknown policy '{config.kind}'. Choose one of {', '.join(KINDS)}.")
    if config.size not in SIZES:
        raise InputError(f"Unknown size '{config.size}'. Choose one of {', '.join(SIZES)}.")
    if config.space not in SPACES:
        raise InputError(f"Unknown space '{config.space}' of actions. Choose one of {', '.join(SPACES)}.")
    if config.image_px < 32 or config.image_px % 16:
        raise InputError(f"Frames of {config.image_px} px: expected a multiple of 16 from 32 on.")
    if not 1 <= config.execute <= config.chunk:
        raise InputError(
            f"A chunk of {config.chunk} actions of which {config.execute} are done: expected 1 to all of them."
        )
    if config.kind == "diffusion" and config.chunk % 2**DOWN:
        raise InputError(f"A chunk of {config.chunk} actions: Diffusion Policy wants a multiple of {2**DOWN}.")


@dataclass(frozen=True)
class TrainConfig:
    """How a policy is trained.

    Attributes:
        policy: What kind.
        steps: Steps of the optimiser.
        batch: Frames a step.
        lr: Largest learning rate; it falls to a hundredth along a half cosine.
        weight_decay: Of AdamW.
        jitter: Brightness and contrast of each frame vary by up to this share; what the light of a photo does not show.
        state_noise_m: The tool's place is shown wrong by a normal draw of this deviation along every axis [m], so that a policy looks where the thing is
            instead of going on to where the tool goes; space "tool" alone.
        turn_deg: The camera of each frame is turned by up to this about every axis, as ``learn.views`` says; 0 shows frames as they are.
        seed: Of the first weights and of every draw.
        save_every: Steps between checkpoints.
        threads: Of torch; 0 leaves them as they are.
        precision: Of the products in training: "float32", "bfloat16" (half the time where a processor multiplies it), or "auto", the second on such a processor.
        device: "cpu" or "cuda:0".
    """

    policy: PolicyConfig = field(default_factory=PolicyConfig)
    steps: int = 3000
    batch: int = 64
    lr: float = 1e-3
    weight_decay: float = 1e-4
    jitter: float = 0.2
    state_noise_m: float = 0.0
    turn_deg: float = 1.5
    seed: int = 0
    save_every: int = 500
    threads: int = 0
    precision: str = "auto"
    device: str = "cpu"


def check_training(config: TrainConfig) -> None:
    """Refuse what cannot be meant; precision and device are judged where torch is.

    Raises:
        InputError: An unknown name or an impossible number.
    """
    check_policy(config.policy)
    if config.steps < 1 or config.batch < 1 or config.save_every < 1:
        raise InputError(
            f"{config.steps} steps of {config.batch} frames, saved every {config.save_every}: expected at least 1 of each."
        )
    if not (config.lr > 0 and all(n >= 0 for n in (config.weight_decay, config.jitter, config.turn_deg))):
        raise InputError("The learning rate must be above 0; weight decay, jitter and turns must not be negative.")
    if not config.state_noise_m >= 0 or (config.state_noise_m and config.policy.space != "tool"):
        raise InputError(
            f"Noise of {config.state_noise_m} m on the tool's place: expected no negative number, and --policy.space tool, which shows it."
        )
    if config.seed < 0 or config.threads < 0:
        raise InputError(f"Seed {config.seed} and {config.threads} threads: expected no negative number.")
