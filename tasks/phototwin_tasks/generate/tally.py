"""How a run stands: demonstrations, rate, success by task and object, cost, time left."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from phototwin.data.store import write_bytes
from phototwin_tasks.generate.failures import failure_class
from phototwin_tasks.generate.jobs import Run
from phototwin_tasks.generate.ledger import ShardResult

STATUS_FILE = "status.json"


@dataclass(frozen=True)
class Tally:
    """Numbers of a run.

    Attributes:
        demonstrations: How many there are.
        wanted: How many there shall be.
        attempts: How many were made.
        successes: How many of them succeeded.
        by_task: Successes and attempts by skill and object.
        failures: How often each class of failure came.
        cpu_s: Processor time of all workers [s], their starts included.
        start_cpu_s: Of that, for starts.
        seconds: Time this run has been working [s].
        per_minute: Demonstrations a minute since it began.
        left_s: Time left at that rate [s], or None.
    """

    demonstrations: int
    wanted: int
    attempts: int
    successes: int
    by_task: dict[str, tuple[int, int]] = field(default_factory=dict)
    failures: dict[str, int] = field(default_factory=dict)
    cpu_s: float = 0.0
    start_cpu_s: float = 0.0
    seconds: float = 0.0
    per_minute: float = 0.0
    left_s: float | None = None

    @property
    def cpu_per_demo_s(self) -> float:
        """Processor time a successful attempt [s]; infinite before the first."""
        return self.cpu_s / self.successes if self.successes else float("inf")

    def line(self) -> str:
        """One line for people."""
        share = 100 * self.successes / max(self.attempts, 1)
        left = "" if self.left_s is None else f", {_minutes(self.left_s)} left"
        cost = f", {self.cpu_per_demo_s:.1f} CPU-s each" if self.successes else ""
        return (
            f"{self.demonstrations} of {self.wanted} demonstrations, {self.per_minute:.0f} a minute, "
            f"{share:.0f} % of {self.attempts} attempts{cost}{left}"
        )


def take_tally(run: Run, results: Iterable[ShardResult], demos: int, before: int, began: float) -> Tally:
    """How a run stands.

    Args:
        run: The run.
        results: What is finished.
        demos: Demonstrations that there are.
        before: Demonstrations that there were when this process began.
        began: When that was, by ``time.monotonic`` [s].
    """
    results = list(results)
    label = {job.index: job.label for job in run.jobs}
    tried: Counter[str] = Counter()
    done: Counter[str] = Counter()
    failures: Counter[str] = Counter()
    for result in results:
        for attempt in result.attempts:
            tried[label[attempt.task]] += 1
            done[label[attempt.task]] += attempt.success
            if not attempt.success:
                failures[failure_class(attempt.failure)] += 1
        if result.reason:
            failures["crash"] += result.shard.size
    seconds = time.monotonic() - began
    rate = 60.0 * (demos - before) / seconds if seconds else 0.0
    wanted = run.config.num_demos
    return Tally(
        demonstrations=demos,
        wanted=wanted,
        attempts=tried.total(),
        successes=done.total(),
        by_task={name: (done[name], tried[name]) for name in sorted(tried)},
        failures=dict(failures.most_common()),
        cpu_s=sum(r.cpu_s + r.start_cpu_s for r in results),
        start_cpu_s=sum(r.start_cpu_s for r in results),
        seconds=seconds,
        per_minute=rate,
        left_s=60.0 * (wanted - demos) / rate if rate else None,
    )


def write_status(folder: Path, tally: Tally) -> None:
    """``status.json`` in ``folder``: how the run stands, for other programs."""
    write_bytes(folder / STATUS_FILE, (json.dumps(_plain(asdict(tally)), indent=1) + "\n").encode())


def _plain(value: Mapping[str, object]) -> dict[str, object]:
    return {name: round(item, 3) if isinstance(item, float) else item for name, item in value.items()}


def _minutes(seconds: float) -> str:
    hours, rest = divmod(round(seconds), 3600)
    return f"{hours}:{rest // 60:02d}:{rest % 60:02d} h" if hours else f"{rest // 60}:{rest % 60:02d} min"
