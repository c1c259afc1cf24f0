"""The output folder of a run: one owner at a time, nothing half-written that looks whole."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from phototwin.errors import OutputError, TwinError

LOG_FILE = "log.txt"
"""Where a run sends what libraries print."""
LEAST_FREE_BYTES = 200 * 2**20
"""Less than this and a run is not even started: a small dataset of ten demonstrations takes about 100 MB."""

REFUSALS = (
    *(errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST),
    *(errno.EFBIG, errno.EIO, errno.ENAMETOOLONG),
)
"""What a folder or its disk says when it will not be written to for another reason than being full."""


@contextlib.contextmanager
def claim_folder(folder: Path, shared: bool = False) -> Iterator[None]:
    """Hold ``folder`` for this process, or ``shared`` with others that hold it so: made if missing, locked until the block ends.

    A folder that was made for a run which was refused before it wrote anything but its log goes again.

    Raises:
        OutputError: Another process holds it, it cannot be written, or the disk is nearly full.
    """
    made = not folder.exists()
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(folder).free
        if free < LEAST_FREE_BYTES:
            raise OutputError(
                f"'{folder}' has {free / 2**20:.0f} MB free, at least {LEAST_FREE_BYTES / 2**20:.0f} MB are needed: "
                "free some space or give another --out."
            )
        handle = os.open(folder, os.O_RDONLY)
        try:
            try:
                fcntl.flock(handle, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise OutputError(
                    f"'{folder}' is in use by another run: wait for it to end or give another --out."
                ) from error
            try:
                yield
            except TwinError:
                if made and {file.name for file in folder.iterdir()} <= {LOG_FILE}:
                    shutil.rmtree(folder, ignore_errors=True)
                raise
        finally:
            os.close(handle)


@contextlib.contextmanager
def disk_errors(folder: Path) -> Iterator[None]:
    """Turn what the disk refuses into one sentence.

    Raises:
        OutputError: The disk is full, read-only, or the folder may not be written.
    """
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise OutputError(
                f"The disk of '{folder}' is full: free some space, then run the same command again (generate.py: with --resume)."
            ) from error
        if error.errno in REFUSALS:
            raise OutputError(f"'{folder}' cannot be written ({error.strerror}): give another --out.") from error
        raise


@contextlib.contextmanager
def written_aside(folder: Path) -> Iterator[Path]:
    """A folder to write into that takes the place of ``folder`` when the block ends well, and is removed when it does not."""
    aside = folder.with_name(folder.name + ".partial")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    try:
        yield aside
        shutil.rmtree(folder, ignore_errors=True)
        aside.rename(folder)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
