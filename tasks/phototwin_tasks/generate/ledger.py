"""What is finished of a run, who works on what, and what went wrong: small files in ``demos/shards``, each written whole or not at all.

``shard_003_00012.json`` says that a shard is finished and what came of it; it is written after the files of its attempts.
``shard_003_00012.claim-0`` is held by who works on it, ``.trouble-0`` tells how its worker ended. A claim that has not been renewed
for long is passed over by making the next one, ``.claim-1``: making a file that must not exist yet is the one step in which only one
of many processes on a shared disk succeeds, so nothing here is ever deleted while others look at it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import socket
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from phototwin.data.store import Attempt, EpisodeStore, write_bytes
from phototwin.errors import OutputError
from phototwin_tasks.generate.schedule import Shard

MOST_TRIES = 2
"""A shard that ended its worker so often is set aside."""
STALE_S = 300.0
"""A claim that was not renewed for so long belongs to a process that is gone: disks of clusters may lag by a minute."""
RENEW_S = 60.0


@dataclass(frozen=True)
class ShardResult:
    """What came of a shard.

    Attributes:
        shard: Which.
        attempts: How each of its attempts ended, in order; none where the shard was set aside.
        files: SHA-256 of the file of each attempt.
        cpu_s: Processor time of its worker for it [s].
        wall_s: Time it took [s].
        start_cpu_s: Processor time spent on the worker's start and simulator since the shard before [s].
        host: Where.
        reason: Why it was set aside, or "".
    """

    shard: Shard
    attempts: tuple[Attempt, ...]
    files: tuple[str, ...] = ()
    cpu_s: float = 0.0
    wall_s: float = 0.0
    start_cpu_s: float = 0.0
    host: str = ""
    reason: str = ""


class Ledger:
    """The record of one run.

    Args:
        folder: ``demos`` of the run.
        size: Attempts of a shard.
    """

    def __init__(self, folder: Path, size: int) -> None:
        self.folder, self.size = folder / "shards", size
        self._store = EpisodeStore(folder)
        self._known: dict[Shard, ShardResult] = {}

    def results(self) -> dict[Shard, ShardResult]:
        """What is finished; files that others have added since are read.

        Raises:
            OutputError: A file cannot be read.
        """
        for file in self.folder.glob("shard_*.json"):
            shard = self._shard(file.name)
            if shard not in self._known:
                self._known[shard] = self._read(shard, file)
        return dict(self._known)

    def finish(self, result: ShardResult) -> None:
        """Write down that a shard is finished; its attempts must be on the disk."""
        write_bytes(self._file(result.shard, "json"), (json.dumps(asdict(result), indent=1) + "\n").encode())
        self._known[result.shard] = result

    def finished(self, shard: Shard) -> bool:
        """Whether a shard is finished, by whomever."""
        return self._file(shard, "json").is_file()

    def reopen(self, shard: Shard) -> None:
        """Take back that a shard is finished: its files are not what they were."""
        self._file(shard, "json").unlink(missing_ok=True)
        self._known.pop(shard, None)

    def trouble(self, shard: Shard, reason: str) -> bool:
        """Note that a shard ended its worker; True where it is not to be tried again."""
        tries = len(list(self.folder.glob(f"{shard.name}.trouble-*")))
        write_bytes(self._file(shard, f"trouble-{tries}"), (reason + "\n").encode())
        if tries + 1 < MOST_TRIES:
            return False
        self.finish(ShardResult(shard, (), host=socket.gethostname(), reason=reason))
        return True

    def refuse(self, job: int, reason: str) -> None:
        """Write down that a job cannot be done at all."""
        write_bytes(self.folder / f"job_{job:03d}.refused", (reason + "\n").encode())

    def refused(self) -> dict[int, str]:
        """Why jobs cannot be done, by their index."""
        return {int(f.name[4:7]): f.read_text().strip() for f in sorted(self.folder.glob("job_*.refused"))}

    def broken(self) -> list[Shard]:
        """Finished shards of which an attempt is missing, in its file and in the finished ``episodes.hdf5``."""
        packed = {a.key: a for a in self._store.packed()}
        return [
            shard
            for shard, result in sorted(self.results().items())
            if any(packed.get(a.key) != a and not self._store.path(*a.key[::-1]).is_file() for a in result.attempts)
        ]

    def holds(self, shard: Shard, attempt: Attempt) -> bool:
        """Whether the file of an attempt of a finished shard is, byte by byte, what was written."""
        result = self._known[shard]
        file = self._store.path(attempt.index, attempt.task)
        return file.is_file() and file_sha256(file) == result.files[result.attempts.index(attempt)]

    def unpack(self) -> None:
        """Give demonstrations that only the finished dataset holds a file each again; their bytes are then others, their states the same."""
        packed = {a.key: a for a in self._store.packed()}
        self._store.unpack()
        for result in list(self.results().values()):
            files = [
                file_sha256(self._store.path(a.index, a.task)) if packed.get(a.key) == a else digest
                for a, digest in zip(result.attempts, result.files, strict=True)
            ]
            if tuple(files) != result.files:
                self.finish(replace(result, files=tuple(files)))

    def _file(self, shard: Shard, suffix: str) -> Path:
        return self.folder / f"{shard.name}.{suffix}"

    def _shard(self, name: str) -> Shard:
        numbers = re.match(r"shard_(\d+)_(\d+)\.", name)
        if numbers is None:
            raise OutputError(f"'{self.folder / name}' is no file of a shard: remove it.")
        return Shard(int(numbers[1]), int(numbers[2]), self.size)

    def _read(self, shard: Shard, file: Path) -> ShardResult:
        try:
            value = json.loads(file.read_text())
            attempts = tuple(Attempt(**a) for a in value["attempts"])
            rest = {name: value[name] for name in ("cpu_s", "wall_s", "start_cpu_s", "host", "reason")}
            if value["shard"] != asdict(shard):
                raise ValueError(f"it is of {value['shard']}, expected {asdict(shard)}")
            return ShardResult(shard, attempts, tuple(value["files"]), **rest)
        except (OSError, KeyError, TypeError, ValueError) as error:
            raise OutputError(f"'{file}' cannot be read ({error}): delete it and run again with --resume.") from error


def file_sha256(file: Path) -> str:
    """SHA-256 of a file's bytes."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


class Claims:
    """Who works on which shard, where several processes share a run through its folder.

    Args:
        ledger: The record of the run.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger, self._folder = ledger, ledger.folder
        self._mine: dict[Shard, Path] = {}
        self._renewed = time.monotonic()

    def take(self, shard: Shard) -> bool:
        """Claim a shard; False where another process holds it or has finished it.

        What was finished after the caller has looked is seen here: a claim is given back only after the result was written.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        last = self._last(shard)
        if last is not None and (not self._is_stale(last) or self._ledger.finished(shard)):
            return False
        number = 0 if last is None else int(last.name.rpartition("-")[2]) + 1
        file = self._folder / f"{shard.name}.claim-{number}"
        try:
            handle = os.open(file, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
        except FileExistsError:
            return False
        with os.fdopen(handle, "w") as stream:
            stream.write(f"{socket.gethostname()} {os.getpid()}\n")
        self._mine[shard] = file
        return True

    def held(self, shard: Shard) -> bool:
        """Whether some process, this one included, works on a shard."""
        last = self._last(shard)
        return last is not None and not self._is_stale(last)

    def release(self, shard: Shard) -> None:
        """Give a claim back: the shard is finished, or shall be tried by anybody."""
        file = self._mine.pop(shard, None)
        if file is not None:
            os.utime(file, (0, 0))

    def renew(self) -> None:
        """Say that this process is still there; to be called often."""
        if time.monotonic() - self._renewed > RENEW_S:
            for file in self._mine.values():
                with contextlib.suppress(OSError):
                    os.utime(file)
            self._renewed = time.monotonic()

    def _last(self, shard: Shard) -> Path | None:
        found = self._folder.glob(f"{shard.name}.claim-*")
        return max(found, key=lambda f: int(f.name.rpartition("-")[2]), default=None)

    def _is_stale(self, file: Path) -> bool:
        """Whether its holder has ended: its process is not on this machine any more, or it was not renewed for long."""
        host, _, process = file.read_text().partition(" ")
        age_s = self._now() - file.stat().st_mtime
        if host == socket.gethostname() and process.strip().isdigit():
            return file not in self._mine.values() and (age_s > STALE_S or not _is_alive(int(process)))
        return age_s > STALE_S

    def _now(self) -> float:
        """The time as the disk has it: clocks of machines differ."""
        probe = self._folder / f".clock-{socket.gethostname()}-{os.getpid()}"
        probe.touch()
        os.utime(probe)
        return probe.stat().st_mtime


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
