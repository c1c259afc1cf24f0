"""Progress of long work: a callable that is told what is being done and how far it is."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator

Progress = Callable[[str, float], None]
"""Called as ``progress(stage, share)`` with the share of the stage that is done, 0..1."""


def silent(stage: str, share: float) -> None:
    """Report nothing."""


class StageTimer:
    """Seconds per stage, in order; forwards progress to another callable."""

    def __init__(self, progress: Progress = silent) -> None:
        self.seconds: dict[str, float] = {}
        self._progress = progress

    def __call__(self, stage: str, share: float) -> None:
        """Pass progress on."""
        self._progress(stage, share)

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time one stage; progress says 0 at its start and 1 at its end."""
        self._progress(name, 0.0)
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start
        self._progress(name, 1.0)
