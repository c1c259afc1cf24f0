"""What every script does at its edges: parse arguments, keep libraries quiet, say errors in one sentence."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from phototwin.errors import TwinError
from phototwin.progress import Progress

EXIT_ERROR = 2
EXIT_INTERRUPTED = 130


def run_script[ArgsT](args_type: type[ArgsT], main: Callable[[ArgsT], int]) -> None:
    """Parse the command line into ``args_type``, run ``main`` and exit with its status; a TwinError becomes one line and status 2."""
    import tyro

    args = tyro.cli(args_type, description=sys.modules["__main__"].__doc__)
    try:
        status = main(args)
    except TwinError as error:
        sys.stderr.write(f"error: {error}\n")
        status = EXIT_ERROR
    except KeyboardInterrupt:
        sys.stderr.write(
            "interrupted: the same command goes on where this one stopped (generate.py, train.py and distill.py: with --resume).\n"
        )
        status = EXIT_INTERRUPTED
    sys.stdout.flush()
    sys.stderr.flush()
    # Simulators leave threads and atexit hooks behind that can hang or crash after all files are closed.
    os._exit(status)


@contextlib.contextmanager
def logged_to(file: Path) -> Iterator[IO[str]]:
    """Send everything that is printed (libraries included, C code too) to ``file``; yields the terminal to write to instead."""
    sys.stdout.flush()
    sys.stderr.flush()
    saved = os.dup(1), os.dup(2)
    terminal = os.fdopen(os.dup(2), "w", buffering=1)
    with file.open("ab") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    try:
        yield terminal
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for number, copy in zip((1, 2), saved, strict=True):
            os.dup2(copy, number)
            os.close(copy)
        terminal.close()


@contextlib.contextmanager
def progress_on(terminal: IO[str]) -> Iterator[Progress]:
    """A bar per stage with elapsed time, rate and time left; a line per stage where the output is no terminal.

    What follows a colon in the name of a stage ("roll out: 7 of 10") tells how it stands and may change while it goes on.
    """
    if not terminal.isatty():
        shown = ""

        def line(stage: str, share: float) -> None:
            nonlocal shown
            if ": " in stage:
                if stage != shown:
                    terminal.write(f"{stage}\n")
                shown = stage
            elif share in (0.0, 1.0):
                terminal.write(f"{stage}{' ...' if share == 0 else ': done'}\n")

        yield line
        return
    from rich.console import Console
    from rich.progress import BarColumn, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    columns = (TextColumn("{task.description:<32}"), BarColumn(), TextColumn("{task.percentage:>3.0f} %"))
    with Bars(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=Console(file=terminal)) as bars:
        tasks: dict[str, TaskID] = {}

        def report(stage: str, share: float) -> None:
            name = stage.partition(": ")[0]
            if name not in tasks:
                tasks[name] = bars.add_task(stage, total=1.0)
            # None leaves the text as it is.
            bars.update(tasks[name], completed=share, description=stage if ": " in stage else None)

        yield report
