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


@contextlib.contextmanager
def terminal_progress() -> Iterator[Progress]:
    """A bar per stage on the terminal, with rate and time left; plain lines where the output is no terminal."""
    import sys

    from rich.progress import BarColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    if not sys.stderr.isatty():
        yield _print_stages
        return
    from rich.console import Console

    columns = (TextColumn("{task.description:<28}"), BarColumn(), TextColumn("{task.percentage:>3.0f} %"))
    with Bars(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=Console(stderr=True)) as bars:
        tasks: dict[str, int] = {}

        def report(stage: str, share: float) -> None:
            if stage not in tasks:
                tasks[stage] = bars.add_task(stage, total=1.0)
            bars.update(tasks[stage], completed=share)  # pyright: ignore[reportArgumentType]

        yield report


def _print_stages(stage: str, share: float) -> None:
    import sys

    if share in (0.0, 1.0):
        sys.stderr.write(f"[phototwin] {stage}{'' if share == 0 else ': done'}\n")
        sys.stderr.flush()
