"""Mend for Isaac Lab 3.0.0 on machines without CUDA."""

from __future__ import annotations

from typing import Any

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
