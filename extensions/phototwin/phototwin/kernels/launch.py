"""Launches over many rows: one launch on a GPU, on the CPU one part of the rows for each thread."""

# Warp reads these annotations as types of its own; a type checker cannot.
# pyright: reportInvalidTypeForm=false, reportOperatorIssue=false, reportArgumentType=false, reportCallIssue=false

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import warp as wp

PARTS_PER_THREAD = 16
"""Rows take unequal time: with several parts a thread the first to end takes over from the others."""
LEAST_ROWS = 32
"""Fewer rows a part are not worth a launch of some 50 microseconds."""


def count_threads(threads: int | None) -> int:
    """How many threads a CPU launch takes: those asked for, otherwise one for each core this process may use."""
    return threads or len(os.sched_getaffinity(0))


def launch_rows(
    kernel: Any,
    rows: int,
    blocks: int,
    inputs: Sequence[Any],
    outputs: Sequence[Any],
    device: Any,
    threads: int | None = None,
) -> None:
    """Launch a kernel over (rows, blocks); its first argument is the row at which its part begins.

    Warp runs a CPU launch in the thread that calls it and lets go of Python's lock meanwhile, so launches of several Python
    threads run side by side.
    """
    if not rows or not blocks:
        return
    threads = 1 if device.is_cuda else count_threads(threads)
    part = max(LEAST_ROWS, -(-rows // (threads * PARTS_PER_THREAD)))
    if threads == 1 or part >= rows:
        wp.launch(kernel, (rows, blocks), inputs=[0, *inputs], outputs=list(outputs), device=device)
        return

    def run(first: int) -> None:
        dim = (min(part, rows - first), blocks)
        wp.launch(kernel, dim, inputs=[first, *inputs], outputs=list(outputs), device=device)

    run(0)  # before the threads, which would each compile a new kernel
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(run, range(part, rows, part)))
