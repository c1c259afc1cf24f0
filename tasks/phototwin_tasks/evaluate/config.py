"""What decides an evaluation, and what it found."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Protocol

from phototwin.errors import InputError
from phototwin.learn.config import Shown
from phototwin.learn.statistics import Rate, success_rate
from phototwin_tasks.generate.config import OWN_RENDERER

UNSEEN = 1000
"""Added to the seed; an evaluation whose attempts were in the training all the same is refused."""


class Known(Protocol):
    """What must be known of what drives: ``PolicyFacts``, ``ServerFacts`` or ``StudentFacts``."""

    @property
    def robot(self) -> str:
        """Short name of the robot."""
        ...

    @property
    def fps(self) -> int:
        """Control rate [Hz]."""
        ...

    @property
    def control(self) -> str:
        """What its actions are, as in ``TwinEnvCfg``."""
        ...

    @property
    def state_names(self) -> tuple[str, ...]:
        """Names of the joints whose readings it is given; () where they do not matter."""
        ...

    @property
    def shown(self) -> tuple[Shown, ...]:
        """What it was shown; () where it does not say."""
        ...

    @property
    def instructions(self) -> tuple[str, ...]:
        """What it was told; () where it does not say."""
        ...

    @property
    def resolution(self) -> tuple[int, int]:
        """Width and height of the frames [px]."""
        ...

    @property
    def seconds(self) -> float:
        """Mean length of the demonstrations it has learned from [s]."""
        ...

    @property
    def digest(self) -> str:
        """What it was made of; an evaluation of another does not go on here."""
        ...


@dataclass(frozen=True)
class EvalConfig:
    """What decides an evaluation, besides the policy and the twins.

    Attributes:
        instruction: What to do; empty for what the policy was shown.
        episodes: Attempts on each twin.
        seed: Of the attempts, ``UNSEEN`` added; two policies with the same seed meet the same attempts.
        half_width: Stop as soon as the interval of all attempts is no wider than this to either side; 0 does all of them.
        confidence: Of the intervals.
        seconds: Time for an attempt; 0 is twice what demonstrations took.
        shove_m_s: Speed with which the object is shoved once in each attempt.
        randomize: Ranges of what attempts vary: a preset or a JSON file, see ``load_randomization``.
        num_envs: Attempts side by side.
        physics: Name of the physics preset.
        renderer: Name of the renderer.
        device: "cpu" or "cuda:0".
        query: What finds the parts of things that the instruction names, as of generate.py.
        base: Where the robot stands; empty is the place it had in the demonstrations of the same twin, on another twin one that is found.
        videos: So many failures, and as many successes, of each twin are filmed; the first of every class of failures before the second of any.
    """

    instruction: str = ""
    episodes: int = 100
    seed: int = 0
    half_width: float = 0.0
    confidence: float = 0.95
    seconds: float = 0.0
    shove_m_s: float = 0.0
    randomize: str = "default"
    num_envs: int = 16
    physics: str = "ovphysx"
    renderer: str = OWN_RENDERER
    device: str = "cpu"
    query: str = "words"
    base: str = ""
    videos: int = 4


@dataclass(frozen=True)
class Row:
    """One attempt.

    Attributes:
        twin: Name of the twin.
        attempt: Index of the attempt.
        variant: Number of the twin's variant.
        success: Whether the task was done in time.
        seconds: After which time it was, or how long the attempt lasted.
        failure: Class of the failure; empty on success.
        state_sha256: Digest of states and actions: the same evaluation gives the same.
    """

    twin: str
    attempt: int
    variant: int
    success: bool
    seconds: float
    failure: str
    state_sha256: str


@dataclass(frozen=True)
class Evaluation:
    """What became of a policy's attempts.

    Attributes:
        policy: Folder of the policy, or address of its server.
        config: What was asked for.
        rows: Attempts in order.
        stopped_early: Whether the interval was narrow enough before all attempts were done.
        notes: What was used.
        seen: Names of the twins on which the policy has learned; None where it does not say.
    """

    policy: str
    config: EvalConfig
    rows: tuple[Row, ...]
    stopped_early: bool = False
    notes: dict[str, str] = field(default_factory=dict)
    seen: tuple[str, ...] | None = None

    def rate(self, twin: str = "") -> Rate:
        """Success on a twin, or on all; the interval allows for stopping where that was allowed."""
        rows = [row for row in self.rows if twin in ("", row.twin)]
        method = "always" if self.config.half_width else "wilson"
        return success_rate(sum(row.success for row in rows), len(rows), self.config.confidence, method)

    def twins(self) -> list[str]:
        """Names of the twins, in order."""
        return list(dict.fromkeys(row.twin for row in self.rows))

    def seconds(self) -> float:
        """Mean time to success; nan without one."""
        times = [row.seconds for row in self.rows if row.success]
        return sum(times) / len(times) if times else float("nan")

    def failures(self) -> dict[str, int]:
        """How often each class of failure came, the most frequent first."""
        return dict(Counter(row.failure.partition(":")[0] for row in self.rows if not row.success).most_common())


def check_eval(config: EvalConfig) -> None:
    """Refuse what cannot be meant.

    Raises:
        InputError: A number is impossible.
    """
    if config.episodes < 1 or config.num_envs < 1 or config.videos < 0:
        raise InputError(
            f"{config.episodes} episodes, {config.num_envs} environments, {config.videos} videos: expected at least 1, 1 and 0."
        )
    if not 0 <= config.half_width < 0.5 or not 0.5 <= config.confidence < 1:
        raise InputError(
            f"A half width of {config.half_width} at a confidence of {config.confidence}: expected 0 to 0.5, and 0.5 to 1."
        )
    if config.seconds < 0 or config.shove_m_s < 0 or config.seed < 0:
        raise InputError("Time, speed of shoves and seed must not be negative.")
