"""Mends for Isaac Lab 3.0.0 and OvPhysX 0.6."""

from __future__ import annotations

import contextlib
import ctypes
import sys
from collections.abc import Iterator
from typing import Any

SLACK_NS = 5_000_000
"""How late the timers of OvPhysX's threads may be."""
PR_SET_TIMERSLACK, PR_GET_TIMERSLACK = 29, 30
"""Source: linux/prctl.h."""

ALLOCATORS = ("zeros", "empty", "ones", "full", "zeros_like", "empty_like", "ones_like", "full_like", "clone")


def drop_pinned_without_cuda() -> None:
    """Let ``isaaclab_ov`` run without CUDA.

    It asks Warp for page-locked memory, which Warp cannot give without a driver ("Failed to allocate 8 bytes on device
    'cpu'"). Pinning only speeds up copies to a GPU, so without one it is dropped. Calling this twice changes nothing.
    """
    import warp as wp

    wp.init()
    if wp.is_cuda_available():
        return
    for name in ALLOCATORS:
        original = getattr(wp, name)
        if getattr(original, "drops_pinned", False):
            continue
        setattr(wp, name, _unpinned(original))


def _unpinned(original: Any) -> Any:
    def allocate(*args: Any, **kwargs: Any) -> Any:
        kwargs.pop("pinned", None)
        return original(*args, **kwargs)

    allocate.drops_pinned = True  # pyright: ignore[reportFunctionMemberAccess]
    return allocate


@contextlib.contextmanager
def late_timers() -> Iterator[None]:
    """Threads that are started inside it may wake up ``SLACK_NS`` late where they wait by the clock; on Linux, elsewhere it does nothing.

    OvPhysX starts one that naps for a moment ten thousand times a second, which costs 22 % of a core for as long as the simulator is open.
    """
    if sys.platform != "linux":
        yield
        return
    prctl = ctypes.CDLL(None).prctl
    before = prctl(PR_GET_TIMERSLACK, 0, 0, 0, 0)
    prctl(PR_SET_TIMERSLACK, ctypes.c_ulong(SLACK_NS), 0, 0, 0)
    try:
        yield
    finally:
        prctl(PR_SET_TIMERSLACK, ctypes.c_ulong(before), 0, 0, 0)
