"""Frames shared among threads: Warp runs a CPU launch in the thread that calls it and lets go of Python's lock meanwhile."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import CodeType

_run_before: set[CodeType] = set()


def split_frames[Result](
    function: Callable[[int, slice], Result], count: int, workers: int | None = None, device: str = "cpu"
) -> list[Result]:
    """What ``function`` returns for consecutive runs of ``count`` frames, in order; each run in a thread of its own.

    The frames must not depend on each other, then the bytes are those of one run. On a GPU, and where a function is called for the first time,
    everything runs in this thread: kernels may have to be compiled, which two threads must not do at once.

    Args:
        function: Takes the number of the run, from 0, and the frames as a slice. Memory that is used again, such as a
            ``Canvas``, must be one per run.
        count: How many frames.
        workers: At most this many runs; None for one per core that this process may use.
        device: Where the function's kernels run.
    """
    cores = len(os.sched_getaffinity(0))
    runs = max(1, min(workers or cores, count)) if device == "cpu" else 1
    edges = [count * i // runs for i in range(runs + 1)]
    jobs = [(i, slice(edges[i], edges[i + 1])) for i in range(runs)]
    code = getattr(function, "__code__", None)
    if runs == 1 or code is None or code not in _run_before:
        results = [function(*job) for job in jobs]
        if code is not None:
            _run_before.add(code)
        return results
    with ThreadPoolExecutor(runs) as pool:
        return [task.result() for task in [pool.submit(function, *job) for job in jobs]]
