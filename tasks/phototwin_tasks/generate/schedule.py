"""Which shard comes next, when a run is whole, and which attempts are its demonstrations: functions of results alone.

Everything is decided by the attempts of a task in their order, never by when or where they were made. So every way to run the
shards ends in the same dataset.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Literal

from phototwin.data.store import Attempt

HOPELESS_SHARDS = 2
"""A task without one success in so many shards is given up."""
LEAST_JUDGED, LEAST_YIELD = 40, 0.2
"""After so many attempts a task with fewer successes than this share is given up: more attempts will not mend it."""
EXPECTED_YIELD, WORTH = 0.85, 5
"""What is expected of a task before anything is known, and how many attempts that expectation is worth."""

State = Literal["open", "full", "hopeless"]


@dataclass(frozen=True, order=True)
class Shard:
    """Consecutive attempts of one job, always made together.

    Attributes:
        job: Index of the job.
        index: Its number within the job.
        size: How many attempts.
    """

    job: int
    index: int
    size: int

    @property
    def attempts(self) -> range:
        """Indices of its attempts."""
        return range(self.index * self.size, (self.index + 1) * self.size)

    @property
    def name(self) -> str:
        """Its name in files."""
        return f"shard_{self.job:03d}_{self.index:05d}"


@dataclass(frozen=True)
class JobState:
    """How far a job is, by its finished shards in order up to the first that is missing.

    Attributes:
        successes: Successful attempts among them, in order.
        tried: How many attempts they had.
        hopeless: Whether it was given up.
        failures: How often each failure came.
    """

    successes: tuple[Attempt, ...]
    tried: int
    hopeless: bool
    failures: dict[str, int]


Results = Mapping[Shard, tuple[Attempt, ...]]
"""Attempts of the finished shards; one that was set aside has none."""


def job_state(job: int, size: int, results: Results) -> JobState:
    """The state of a job; a job that was given up stays so, whatever was made beyond that."""
    successes: list[Attempt] = []
    failures: Counter[str] = Counter()
    tried = index = 0
    hopeless = False
    while not hopeless and (shard := Shard(job, index, size)) in results:
        successes += [a for a in results[shard] if a.success]
        failures.update(a.failure for a in results[shard] if not a.success)
        index += 1
        tried += size
        few = tried >= LEAST_JUDGED and len(successes) < LEAST_YIELD * tried
        hopeless = few or (index >= HOPELESS_SHARDS and not successes)
    return JobState(tuple(successes), tried, hopeless, dict(failures))


def quotas(wanted: list[int], states: list[JobState]) -> list[int]:
    """How many demonstrations each job shall give: what hopeless ones fall short of is shared among the others, one by one."""
    given = [min(n, len(s.successes)) if s.hopeless else n for n, s in zip(wanted, states, strict=True)]
    able = [i for i, s in enumerate(states) if not s.hopeless]
    for k in range(sum(wanted) - sum(given) if able else 0):
        given[able[k % len(able)]] += 1
    return given


def demonstrations(wanted: list[int], states: list[JobState]) -> list[Attempt]:
    """The attempts of the dataset in its order: job by job what was wanted at first, then job by job what others fell short of."""
    share = quotas(wanted, states)
    first = [a for n, q, s in zip(wanted, share, states, strict=True) for a in s.successes[: min(n, q)]]
    return first + [a for n, q, s in zip(wanted, share, states, strict=True) for a in s.successes[n:q]]


def certain(wanted: list[int], states: list[JobState]) -> list[Attempt]:
    """The head of ``demonstrations`` that nothing can change any more."""
    found: list[Attempt] = []
    for n, state in zip(wanted, states, strict=True):
        found += state.successes[:n]
        if len(state.successes) < n and not state.hopeless:
            return found
    return demonstrations(wanted, states) if is_whole(wanted, states) else found


def is_whole(wanted: list[int], states: list[JobState]) -> bool:
    """Whether every job has given what it shall, or was given up."""
    return all(s.hopeless or len(s.successes) >= q for q, s in zip(quotas(wanted, states), states, strict=True))


def next_shard(
    wanted: list[int], states: list[JobState], size: int, results: Results, taken: Collection[Shard], prefer: int | None
) -> Shard | None:
    """The shard that shall be begun now, or None where what is under way should do.

    Args:
        wanted: Demonstrations of each job, see ``Run.wanted``.
        states: Of each job.
        size: Attempts of a shard.
        results: What is finished.
        taken: What is under way.
        prefer: The job that the free worker has its simulator open for, if it needs more.
    """
    jobs = sorted(range(len(wanted)), key=lambda i: (i != prefer, i))
    for job in jobs:
        quota, state = quotas(wanted, states)[job], states[job]
        if state.hopeless or len(state.successes) >= quota:
            continue
        share = (len(state.successes) + WORTH * EXPECTED_YIELD) / (state.tried + WORTH)
        first = state.tried // size
        ahead = [s for s in (*results, *taken) if s.job == job and s.index >= first]
        expected = len(state.successes) + sum(
            sum(a.success for a in results[s]) if s in results else share * size for s in ahead
        )
        if expected >= quota and Shard(job, first, size) in taken:
            continue
        index = first
        while Shard(job, index, size) in taken or Shard(job, index, size) in results:
            index += 1
        return Shard(job, index, size)
    return None
