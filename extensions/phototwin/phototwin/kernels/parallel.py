"""Frames shared among threads: Warp runs a CPU launch in the thread that calls it and lets go of Python's lock meanwhile."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import CodeType

AT_ONCE = 4
"""Memory of larger runs is new to the process every time, and the system clears it page by page: a sixth of the time at 640 x 480."""

_run_before: set[CodeType] = set()


def split_frames[Result](
    function: Callable[[int, slice], Result],
    count: int,
    workers: int | None = None,
    device: str = "cpu",
    at_once: int = AT_ONCE,
) -> list[Result]:
    """What ``function`` returns for consecutive runs of ``count`` frames, in order; each worker is a thread and makes some of the runs.

    The frames must not depend on each other, then the bytes are those of one run. On a GPU, and where a function is called for the first time,
    everything runs in this thread: kernels may have to be compiled, which two threads need not do at once.

    Args:
        function: Takes the number of the worker, from 0, and the frames as a slice. Memory that is used again, such as a
            ``Canvas``, must be one per worker.
        count: How many frames.
        workers: At most this many threads; None for one per core that this process may use.
        device: Where the function's kernels run.
        at_once: At most this many frames in a run on the CPU.
    """
    if device != "cpu":
        return [function(0, slice(0, count))]
    workers = max(1, min(workers or len(os.sched_getaffinity(0)), count))
    # All runs are of one size but for a frame, so memory made for one fits the others.
    runs = workers * max(1, -(-count // (workers * at_once)))
    edges = [count * i // runs for i in range(runs + 1)]

    def work(worker: int) -> list[Result]:
        # Runs in turn: what comes later often shows more, and is more work.
        return [function(worker, slice(edges[i], edges[i + 1])) for i in range(worker, runs, workers)]

    code = getattr(function, "__code__", None)
    if workers == 1 or code is None or code not in _run_before:
        done = [work(worker) for worker in range(workers)]
        if code is not None:
            _run_before.add(code)
    else:
        with ThreadPoolExecutor(workers) as pool:
            done = [task.result() for task in [pool.submit(work, worker) for worker in range(workers)]]
    return [done[i % workers][i // workers] for i in range(runs)]
