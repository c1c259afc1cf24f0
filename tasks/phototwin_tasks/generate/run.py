"""Run -> demonstrations: shards are dealt out to workers until there are enough, then all becomes one dataset."""

from __future__ import annotations

import contextlib
import sys
import time
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

from phototwin.data.lerobot import LerobotProcess
from phototwin.data.store import Attempt, EpisodeStore
from phototwin.errors import OutputError, PlanError
from phototwin.output import disk_errors
from phototwin.progress import StageTimer
from phototwin.scene import load_scene
from phototwin_tasks.generate.config import Crew
from phototwin_tasks.generate.jobs import Run, SetAside
from phototwin_tasks.generate.ledger import Claims, Ledger
from phototwin_tasks.generate.pools import Ended, Pool, Trouble, make_pool
from phototwin_tasks.generate.schedule import (
    JobState,
    Shard,
    certain,
    demonstrations,
    is_whole,
    job_state,
    next_shard,
    quotas,
)
from phototwin_tasks.generate.tally import Tally, take_tally, write_status
from phototwin_tasks.generate.worker import SIMULATOR, Order

STAGE = "roll out"
POLL_S = 2.0
"""How often a process looks at what others have finished, where several share a run."""
SAY_S = 5.0
"""Least time between two lines of progress, and between two tables of links."""


@dataclass(frozen=True)
class Generated:
    """What a run made.

    Attributes:
        run: The run.
        attempts: How each attempt ended, by task and index.
        num_demos: Demonstrations in the dataset.
        tally: Its numbers.
        notes: What was used.
        set_aside: What was left out and why.
    """

    run: Run
    attempts: tuple[Attempt, ...]
    num_demos: int
    tally: Tally
    notes: dict[str, str]
    set_aside: tuple[SetAside, ...] = ()

    @property
    def demos(self) -> Path:
        """Folder of the datasets."""
        return self.run.folder


def generate_demos(run: Run, crew: Crew, timer: StageTimer, maker: str = SIMULATOR) -> Generated:
    """Fill ``run.folder`` with successful episodes; the folder of the run is already claimed by the caller.

    With ``crew.part`` "work" this makes attempts together with other processes and leaves the datasets to a later "merge".

    Args:
        run: What to make.
        crew: Who makes it.
        timer: Told progress, keeps seconds per stage.
        maker: What makes episodes.

    Raises:
        OutputError: The disk refuses, or files of a run that shall be merged are missing.
        PlanError: No task can be done.
    """
    with disk_errors(run.folder), contextlib.ExitStack() as stack:
        desk = Desk(run, crew, timer)
        # LeRobot takes long to import and to encode: it works beside the simulator, fed with files as they come.
        dataset = LerobotProcess(run.folder / "lerobot", object_slots(run)) if crew.part != "work" else None
        if dataset is not None:
            stack.callback(dataset.discard)
        if crew.part != "merge":
            _deal(desk, dataset, stack, maker)
        _stop_if_nothing_works(desk)
        if dataset is not None:
            _merge(desk, dataset, timer)
        return desk.generated()


def object_slots(run: Run) -> int:
    """How many objects the scenes of a run have at most; 0 where there is one scene only."""
    if len(run.twins) < 2:
        return 0
    return max(len(load_scene(run.twin(job)).objects) for job in run.jobs)


class Desk:
    """What the process that deals out shards knows of the run.

    Args:
        run: The run.
        crew: Who works on it.
        timer: Told progress.
    """

    def __init__(self, run: Run, crew: Crew, timer: StageTimer) -> None:
        self.run, self.crew, self.timer = run, crew, timer
        self.size = run.config.num_envs
        self.store = EpisodeStore(run.folder)
        self.ledger = Ledger(run.folder, self.size)
        self.claims = Claims(self.ledger) if crew.part == "work" else None
        self.wanted = [run.wanted(job) for job in run.jobs]
        self.taken: set[Shard] = set()
        self.notes: dict[str, str] = {}
        self.refused: dict[int, str] = {}
        self.unable: dict[int, str] = {}
        self.states: list[JobState] = []
        self.fed = 0
        self._began, self._said = time.monotonic(), 0.0
        for shard in self.ledger.broken():
            self._reopen(shard)
        self.look()
        self._before = len(demonstrations(self.wanted, self.states))
        if not self.whole and crew.part == "all":
            self.ledger.unpack()

    def look(self) -> None:
        """Read what is finished."""
        results = {shard: r.attempts for shard, r in self.ledger.results().items()}
        self.refused = self.unable | self.ledger.refused()
        self.states = [job_state(job.index, self.size, results) for job in self.run.jobs]
        for job in self.refused:
            self.states[job] = replace(self.states[job], hopeless=True)

    @property
    def whole(self) -> bool:
        """Whether nothing more is to be made."""
        return is_whole(self.wanted, self.states)

    def next_order(self, prefer: int | None) -> Order | None:
        """What a free worker shall do, claimed where others share the run; None for nothing now."""
        results = {shard: r.attempts for shard, r in self.ledger.results().items()}
        others: set[Shard] = set()
        while True:
            shard = next_shard(self.wanted, self.states, self.size, results, self.taken | others, prefer)
            if shard is None:
                return None
            if self.claims is None or self.claims.take(shard):
                self.taken.add(shard)
                job = self.run.jobs[shard.job]
                return Order(shard, job, self.run.twin(job), self.run.folder)
            others.add(shard)

    def ended(self, end: Ended) -> None:
        """Write down what became of an order.

        Raises:
            OutputError: The worker could not write.
        """
        shard, outcome = end.order.shard, end.outcome
        self.notes |= end.notes
        if not isinstance(outcome, Trouble):
            self.ledger.finish(outcome)
            self.store.note(outcome.attempts)
        elif outcome.kind == "disk":
            raise OutputError(outcome.reason)
        elif outcome.kind == "refused":
            self.ledger.refuse(shard.job, outcome.reason)
        elif outcome.kind == "unable":
            # A file or weights are missing here: others, or the same command later, may have them.
            self.unable[shard.job] = outcome.reason
        else:
            last = self.ledger.trouble(shard, outcome.reason)
            sys.stderr.write(f"{shard.name}: {outcome.reason}; {'set aside' if last else 'it is tried again'}\n")
        self.taken.discard(shard)
        if self.claims is not None:
            self.claims.release(shard)
        self.look()
        if time.monotonic() - self._said > SAY_S:
            self.say()

    def say(self) -> None:
        """Tell how the run stands, here and in ``status.json``; renew the table of links."""
        tally = self.tally()
        share = min(tally.demonstrations / tally.wanted, 0.999)
        self.timer(f"{STAGE}: {tally.line()}", share)
        write_status(self.run.folder.parent, tally)
        if self.claims is None and self.store.attempts():
            self.store.link()
        self._said = time.monotonic()

    def feed(self, dataset: LerobotProcess) -> None:
        """Give the dataset the demonstrations that are certain, each checked against what was written down of it."""
        for attempt in certain(self.wanted, self.states)[self.fed :]:
            shard = Shard(attempt.task, attempt.index // self.size, self.size)
            if not self.ledger.holds(shard, attempt):
                self._reopen(shard)
                self.look()
                return
            dataset.add(self.store.path(attempt.index, attempt.task))
            self.fed += 1

    def tally(self) -> Tally:
        """The numbers of the run."""
        demos = len(demonstrations(self.wanted, self.states))
        return take_tally(self.run, self.ledger.results().values(), demos, self._before, self._began)

    def generated(self) -> Generated:
        """What was made."""
        results = self.ledger.results().values()
        attempts = tuple(sorted((a for r in results for a in r.attempts), key=lambda a: a.key))
        tally = self.tally()
        aside = [*self.run.set_aside, *self._given_up()]
        aside += [SetAside(f"attempts {r.shard.attempts}", "crash", r.reason) for r in results if r.reason]
        return Generated(self.run, attempts, tally.demonstrations, tally, self.notes, tuple(aside))

    def _given_up(self) -> list[SetAside]:
        found = []
        for job, state, share in zip(self.run.jobs, self.states, quotas(self.wanted, self.states), strict=True):
            if not share and not state.hopeless:
                few = f"no demonstration was asked of it: {len(self.run.jobs)} tasks share {self.run.config.num_demos}"
                found.append(SetAside(job.task.text, "plan", f"{few}; give a larger --num-demos"))
            elif job.index in self.refused:
                found.append(SetAside(job.task.text, "plan", self.refused[job.index]))
            elif state.hopeless:
                found.append(SetAside(job.task.text, "plan", why_hopeless(job.task.text, state)))
        return found

    def _reopen(self, shard: Shard) -> None:
        sys.stderr.write(f"{shard.name}: files are missing or not what was written; it is made again\n")
        self.ledger.reopen(shard)


def why_hopeless(instruction: str, state: JobState) -> str:
    """One sentence on a task that was given up."""
    why, count = Counter(state.failures).most_common(1)[0] if state.failures else ("its simulator ended", 1)
    return (
        f"'{instruction}' succeeded in {len(state.successes)} of {state.tried} attempts, too few to go on; "
        f"the most frequent failure ({count} times) was: {why}. Try another object, robot or instruction."
    )


def _deal(desk: Desk, dataset: LerobotProcess | None, stack: contextlib.ExitStack, maker: str) -> None:
    """Deal out shards until the run is whole."""
    if desk.whole:
        return

    def on_step(share: float) -> None:
        if desk.claims is not None:
            desk.claims.renew()
        done = len(demonstrations(desk.wanted, desk.states)) + 0.85 * share * desk.size
        desk.timer(STAGE, min(done / max(sum(desk.wanted), 1), 0.999))

    pool = make_pool(desk.run.config, desk.crew, on_step, maker)
    stack.callback(pool.close)
    with desk.timer.stage(STAGE):
        while not desk.whole:
            _hand_out(desk, pool)
            ended = pool.wait(POLL_S)
            for end in ended:
                desk.ended(end)
            if desk.claims is not None:
                desk.claims.renew()
                if not ended and not desk.taken:
                    time.sleep(POLL_S)
                desk.look()
            if dataset is not None:
                desk.feed(dataset)
            _stop_if_nothing_works(desk)
        desk.say()


def _hand_out(desk: Desk, pool: Pool) -> None:
    for worker, job in pool.idle().items():
        order = desk.next_order(job)
        if order is None:
            return
        pool.start(worker, order)


def _stop_if_nothing_works(desk: Desk) -> None:
    """Refuse to end without a demonstration, or with a single task that falls short.

    Raises:
        PlanError: With the reason.
    """
    if all(state.hopeless for state in desk.states) and desk.whole:
        worst = desk.generated().set_aside[-1]
        got = len(demonstrations(desk.wanted, desk.states))
        if not got or len(desk.run.jobs) == 1:
            raise PlanError(worst.reason)


def _merge(desk: Desk, dataset: LerobotProcess, timer: StageTimer) -> None:
    """One verified dataset of all that was made.

    Raises:
        OutputError: Attempts are missing.
    """
    if not desk.whole:
        raise OutputError(
            f"'{desk.run.folder}' has {desk.tally().demonstrations} of {desk.run.config.num_demos} demonstrations: "
            "run --part work again, then --part merge."
        )
    chosen = demonstrations(desk.wanted, desk.states)
    with timer.stage("write the datasets"):
        if [a.key for a in desk.store.packed()] == [a.key for a in chosen] and (desk.run.folder / "lerobot").is_dir():
            return
        desk.ledger.unpack()
        desk.feed(dataset)
        if desk.fed < len(chosen):
            raise OutputError(
                f"Files of finished attempts in '{desk.run.folder}' are broken or missing; they were taken out of the "
                "record: run the same command again with --resume (a cluster: --part work, then --part merge)."
            )
        dataset.finish()
        desk.store.note([a for r in desk.ledger.results().values() for a in r.attempts])
        desk.store.finish(chosen)
