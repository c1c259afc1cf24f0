"""Who makes shards: this process, processes beside it, or actors of a Ray cluster. All are asked the same way."""

from __future__ import annotations

import contextlib
import os
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from typing import Any, Protocol, cast

from phototwin.errors import OutputError, PlanError, TwinError
from phototwin_tasks.generate.config import Crew, GenerateConfig
from phototwin_tasks.generate.ledger import ShardResult
from phototwin_tasks.generate.worker import SIMULATOR, Order, Worker

FEW_DEMOS = 24
"""Up to so many demonstrations a second simulator takes longer to start than it saves."""
SHARD_TIMEOUT_S = 1800.0
"""A shard takes seconds to minutes; a worker that is silent for so long hangs."""


@dataclass(frozen=True)
class Trouble:
    """A shard that was not made.

    Attributes:
        kind: "refused" (its job cannot be done), "unable" (not by this process: it lacks something), "disk", "error" or "died".
        reason: One sentence, or the end of a traceback.
    """

    kind: str
    reason: str


@dataclass(frozen=True)
class Ended:
    """An order that is no longer under way.

    Attributes:
        order: Which.
        outcome: What came of it.
        notes: What was used.
    """

    order: Order
    outcome: ShardResult | Trouble
    notes: dict[str, str]


class Pool(Protocol):
    """Workers, numbered from 0."""

    def idle(self) -> dict[int, int | None]:
        """The workers that are free, and the job each worked on last."""
        ...

    def start(self, worker: int, order: Order) -> None:
        """Give a free worker an order."""
        ...

    def wait(self, seconds: float) -> list[Ended]:
        """The orders that ended; at once where one has, at the latest after so long."""
        ...

    def close(self) -> None:
        """End all workers."""
        ...


def make_pool(
    config: GenerateConfig, crew: Crew, on_step: Callable[[float], None] = lambda share: None, maker: str = SIMULATOR
) -> Pool:
    """The workers of a run.

    Raises:
        InputError: Ray is asked for and not installed, or its cluster does not answer.
    """
    if crew.ray:
        from phototwin_tasks.generate.ray_pool import RayPool

        return RayPool(config, crew.ray, maker, crew.workers)
    cores = len(os.sched_getaffinity(0))
    workers = crew.workers or (1 if config.num_demos <= FEW_DEMOS or config.device != "cpu" else cores)
    if workers == 1:
        return SerialPool(config, maker, on_step)
    return ProcessPool(config, workers, max(1, cores // workers), maker)


def perform(worker: Worker, order: Order, on_step: Callable[[float], None] = lambda share: None) -> Any:
    """A shard made by a worker, or what is the trouble with it."""
    try:
        return worker.perform(order, on_step)
    except OutputError as error:
        return Trouble("disk", str(error))
    except PlanError as error:
        return Trouble("refused", str(error))
    except TwinError as error:
        return Trouble("unable", str(error))
    except Exception:  # whatever a simulator raises ends this shard and no other
        traceback.print_exc()
        return Trouble("error", f"{traceback.format_exc().strip().splitlines()[-1]} (the log has the whole of it)")


class SerialPool:
    """One worker in this process; ``wait`` does the work.

    Args:
        config: Of the run.
        maker: What makes episodes.
        on_step: Told the share of the shard that is done.
    """

    def __init__(self, config: GenerateConfig, maker: str, on_step: Callable[[float], None]) -> None:
        self._worker = Worker(config, len(os.sched_getaffinity(0)), maker)
        self._on_step = on_step
        self._order: Order | None = None
        self._job: int | None = None

    def idle(self) -> dict[int, int | None]:
        """Worker 0, unless it has an order."""
        return {} if self._order else {0: self._job}

    def start(self, worker: int, order: Order) -> None:
        """Keep the order until ``wait``."""
        self._order, self._job = order, order.job.index

    def wait(self, seconds: float) -> list[Ended]:
        """Make the shard."""
        order, self._order = self._order, None
        if order is None:
            return []
        outcome = perform(self._worker, order, self._on_step)
        return [Ended(order, outcome, self._worker.notes())]

    def close(self) -> None:
        """Close the simulator."""
        self._worker.close()


@dataclass
class _Process:
    """A worker process.

    Attributes:
        process: Its handle.
        pipe: Our end of the way to it.
        order: What it makes, or None.
        job: What it worked on last.
        since: When it got its order.
    """

    process: Any
    pipe: Connection
    order: Order | None = None
    job: int | None = None
    since: float = 0.0


class ProcessPool:
    """Processes on this machine, each with a simulator of its own; one that dies is replaced.

    Args:
        config: Of the run.
        count: How many.
        threads: Threads for drawing in each.
        maker: What makes episodes.
        timeout_s: A worker that needs longer for a shard is ended.
    """

    def __init__(
        self, config: GenerateConfig, count: int, threads: int, maker: str, timeout_s: float = SHARD_TIMEOUT_S
    ) -> None:
        self._arguments = (config, threads, maker)
        self._timeout_s = timeout_s
        self._context = get_context("spawn")
        self._workers = [self._begin() for _ in range(count)]

    def idle(self) -> dict[int, int | None]:
        """The workers without an order."""
        return {i: worker.job for i, worker in enumerate(self._workers) if worker.order is None}

    def start(self, worker: int, order: Order) -> None:
        """Send an order to a worker; one that has died meanwhile tells in ``wait``."""
        chosen = self._workers[worker]
        chosen.order, chosen.job, chosen.since = order, order.job.index, time.monotonic()
        with contextlib.suppress(OSError):
            chosen.pipe.send(order)

    def wait(self, seconds: float) -> list[Ended]:
        """What workers answer, and the orders of those that died."""
        busy = [worker for worker in self._workers if worker.order is not None]
        for worker in busy:
            if time.monotonic() - worker.since > self._timeout_s:
                worker.process.kill()
        ready = wait([worker.pipe for worker in busy], seconds) if busy else []
        return [self._answer(worker) for worker in busy if worker.pipe in ready]

    def close(self) -> None:
        """End the processes; what they have not stored is not wanted."""
        for worker in self._workers:
            worker.process.kill()
        for worker in self._workers:
            worker.process.join()
            worker.pipe.close()

    def _begin(self) -> _Process:
        ours, theirs = cast("tuple[Connection, Connection]", self._context.Pipe())
        process = self._context.Process(target=_serve, args=(theirs, os.getpid(), *self._arguments), daemon=True)
        with _few_threads():
            process.start()
        theirs.close()
        return _Process(process, ours)

    def _answer(self, worker: _Process) -> Ended:
        order, worker.order = worker.order, None
        assert order is not None
        try:
            outcome, notes = worker.pipe.recv()
        except (EOFError, OSError):
            worker.process.join()
            late = time.monotonic() - worker.since > self._timeout_s
            why = f"its process was silent for {self._timeout_s:.0f} s" if late else "its process ended with status "
            outcome, notes = Trouble("died", why if late else f"{why}{worker.process.exitcode}"), {}
            worker.pipe.close()
            self._workers[self._workers.index(worker)] = self._begin()
        return Ended(order, outcome, notes)


@contextlib.contextmanager
def _few_threads() -> Iterator[None]:
    """What libraries read when they are imported: one thread each, there is a process a core."""
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(dict.fromkeys(names, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _serve(pipe: Connection, parent: int, config: GenerateConfig, threads: int, maker: str) -> None:
    """What a worker process does: orders in, results out, until the pipe ends."""
    _end_with(parent)
    worker = Worker(config, threads, maker)
    while True:
        try:
            order = pipe.recv()
        except (EOFError, KeyboardInterrupt):
            os._exit(0)
        outcome = perform(worker, order)
        with contextlib.suppress(OSError):
            pipe.send((outcome, worker.notes()))


def _end_with(parent: int) -> None:
    """Let the system end this process when its parent ends, however that ends (Linux: prctl, PR_SET_PDEATHSIG)."""
    import ctypes
    import signal

    pr_set_pdeathsig = 1
    ctypes.CDLL(None, use_errno=True).prctl(pr_set_pdeathsig, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(0)
