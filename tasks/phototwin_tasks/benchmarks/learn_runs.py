"""Trainings and evaluations by the scripts, as many side by side as there are cores; what a folder holds already is not made again."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from phototwin.learn.config import TRAINING_FILE
from phototwin.learn.statistics import Rate, success_rate
from phototwin_tasks.benchmarks import REPOSITORY, Measure
from phototwin_tasks.benchmarks.generate_runs import generate

SECONDS_FILE = "seconds.json"
"""Beside what a training wrote: how long it took."""
TIMEOUT_S = 7200


@dataclass(frozen=True)
class Trial:
    """An evaluation of what a training gave.

    Attributes:
        name: Of its folder, behind that of the training.
        twin: Folder of the twin on which it is tested.
        options: Of evaluate.py.
        policy: Which folder of the training is tested, below its own.
    """

    name: str
    twin: Path
    options: tuple[str, ...]
    policy: str = "."


@dataclass(frozen=True)
class Job:
    """A training and the evaluations of what came of it.

    Attributes:
        name: Of its folder; every test has one beside it.
        runs: Folders of runs of generate.py, whose demonstrations it learns from.
        options: Of train.py.
        tests: Evaluations.
    """

    name: str
    runs: tuple[Path, ...]
    options: tuple[str, ...]
    tests: tuple[Trial, ...]


@dataclass(frozen=True)
class Outcome:
    """What came of a job.

    Attributes:
        rates: Success of each test with its interval; empty where something failed.
        minutes: That the training took, on one core.
        error: Last line of the script that failed, or empty.
    """

    rates: tuple[Rate, ...]
    minutes: float = float("nan")
    error: str = ""


class Bench:
    """Where jobs are done.

    Args:
        scratch: Folder of everything.
        pool: What runs them.
    """

    def __init__(self, scratch: Path, pool: ThreadPoolExecutor) -> None:
        self.scratch, self._pool = scratch, pool

    def start(self, job: Job) -> Future[Outcome]:
        """Do a job when a core is free."""
        return self._pool.submit(self._do, job)

    def _do(self, job: Job) -> Outcome:
        place = self.scratch / job.name
        try:
            minutes = train_policy(job.runs, place, *job.options) / 60
            rates = [
                evaluate_policy(place / test.policy, test.twin, self.scratch / f"{job.name}_{test.name}", *test.options)
                for test in job.tests
            ]
        except (RuntimeError, subprocess.TimeoutExpired) as error:
            return Outcome((), error=str(error))
        return Outcome(tuple(rates), minutes)


@contextmanager
def open_bench(scratch: Path) -> Iterator[Bench]:
    """A bench with a worker for each core; what has not begun when it is left is dropped."""
    pool = ThreadPoolExecutor(len(os.sched_getaffinity(0)))
    try:
        yield Bench(scratch, pool)
    finally:
        pool.shutdown(cancel_futures=True)


def rate_row(
    name: str, scene: str, outcomes: Sequence[Outcome], target: str | None, method: str, test: int = 0
) -> Measure:
    """A test of all seeds together, with its interval; NaN and the reason where one failed."""
    error = next((outcome.error for outcome in outcomes if outcome.error), "")
    if error:
        return Measure(name, scene, float("nan"), "", target, error)
    rates = [outcome.rates[test] for outcome in outcomes]
    rate = success_rate(sum(r.successes for r in rates), sum(r.trials for r in rates))
    each = ", ".join(f"{r.rate:.2f}" for r in rates)
    minutes = sum(outcome.minutes for outcome in outcomes) / len(outcomes)
    said = f"[{rate.low:.2f}, {rate.high:.2f}], seeds {each}; {method}, {minutes:.1f} min of a core"
    return Measure(name, scene, rate.rate, "", target, said)


def make_demos(out: Path, twin: Path, instruction: str, demos: int, *options: str) -> str:
    """Demonstrations in ``out`` by generate.py; the last line where it failed, else empty."""
    if (out / "summary.json").is_file():
        return ""
    resume = ["--resume"] if (out / "demos" / "run.json").is_file() else []
    return str(generate(out, twin, instruction, demos, *options, *resume, timeout_s=TIMEOUT_S).get("error", ""))


def train_policy(runs: Sequence[Path], out: Path, *options: str) -> float:
    """Train by the script with one thread; seconds it took, of one that was interrupted those since.

    Raises:
        RuntimeError: It failed; the message is its last line.
    """
    file = out / SECONDS_FILE
    if not file.is_file():
        began = time.monotonic()
        resume = ["--resume"] if (out / TRAINING_FILE).is_file() else []
        if not resume and "--rounds" not in options:  # rounds make only what is missing
            shutil.rmtree(out, ignore_errors=True)
        _run("train.py", *map(str, runs), "--out", str(out), "--threads", "1", *options, *resume)
        file.write_text(json.dumps(time.monotonic() - began))
    return float(json.loads(file.read_text()))


def evaluate_policy(policy: Path, twin: Path, out: Path, *options: str) -> Rate:
    """Evaluate by the script, which goes on where it was interrupted; success with its interval.

    Raises:
        RuntimeError: It failed; the message is its last line.
    """
    where = ("--policy", str(policy), "--twin", str(twin), "--out", str(out), "--videos", "0")
    _run("evaluate.py", *where, *options)
    found = json.loads((out / "evaluation.json").read_text())["success"]
    return success_rate(round(found["rate"] * found["trials"]), found["trials"])


def _run(script: str, *arguments: str) -> None:
    command = [sys.executable, str(REPOSITORY / "scripts" / script), *arguments]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{script}: {(done.stderr.strip().splitlines() or ['no message'])[-1]}")
