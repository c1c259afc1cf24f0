"""EpisodeStore: a folder of attempts that is readable at every moment and whole at the end.

While a run goes on, every finished attempt is one file ``episodes/attempt_003_000012.hdf5`` (task 3 of the run, attempt 12) and
``episodes.hdf5`` is a table of links to the successful ones. ``finish`` replaces the table by a self-contained file and removes the
files that went into it. Every file is written aside and renamed, so what has a proper name is whole. A failed attempt leaves the
last that was seen of it in ``failures/``.
"""

from __future__ import annotations

import glob
import json
import os
import shutil
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from phototwin.data.hdf5 import changes, read_episode, write_episode, write_table
from phototwin.episode import Episode
from phototwin.errors import InputError, OutputError
from phototwin.images import png_bytes

GYM_ENV_TYPE = 2
"""robomimic's number for gym environments; Isaac Lab writes the same."""


@dataclass(frozen=True)
class Attempt:
    """What became of one attempt.

    Attributes:
        index: Index of the attempt in its task.
        success: Whether the success term held at the end.
        failure: One word of the rollout's failure classes; empty on success.
        steps: Control steps.
        state_sha256: Digest of its states and actions, see ``phototwin.data.hdf5.state_sha256``.
        task: Index of its task in the run.
    """

    index: int
    success: bool
    failure: str
    steps: int
    state_sha256: str
    task: int = 0

    @property
    def key(self) -> tuple[int, int]:
        """What tells it from every other of the run: task and index."""
        return self.task, self.index


class EpisodeStore:
    """The episodes of one run in ``folder``.

    Args:
        folder: Where ``episodes.hdf5``, ``attempts.json`` and ``episodes/`` are or will be.
        env_name: Name of the environment, for robomimic's ``env_args``.
        env_kwargs: What the environment is made with, for the same.
    """

    def __init__(self, folder: Path, env_name: str = "phototwin", env_kwargs: dict[str, Any] | None = None) -> None:
        self.folder = Path(folder)
        self.file = self.folder / "episodes.hdf5"
        self._env_args = {"env_name": env_name, "type": GYM_ENV_TYPE, "env_kwargs": env_kwargs or {}}
        self._attempts: dict[tuple[int, int], Attempt] | None = None

    def path(self, index: int, task: int = 0) -> Path:
        """The file of attempt ``index`` of a task."""
        return self.folder / "episodes" / f"attempt_{task:03d}_{index:06d}.hdf5"

    def picture(self, index: int, task: int = 0) -> Path:
        """The last frame of attempt ``index`` of a task, where it failed."""
        return self.folder / "failures" / self.path(index, task).with_suffix(".png").name

    def attempts(self) -> tuple[Attempt, ...]:
        """What exists, by task and index.

        Raises:
            OutputError: A file cannot be read.
        """
        if self._attempts is None:
            found = [a for file in self._attempt_files() for a in _read_attempts(file)] + self.packed()
            self._attempts = {a.key: a for a in found}
        return tuple(self._attempts[key] for key in sorted(self._attempts))

    def note(self, attempts: Sequence[Attempt]) -> None:
        """Count attempts in that another process has written."""
        self.attempts()
        self._attempts = (self._attempts or {}) | {a.key: a for a in attempts}

    def write(self, episode: Episode) -> Path:
        """Store one attempt as a file of its own, itself a dataset of one demonstration; frames only where it succeeded.

        Raises:
            OutputError: The disk is full or the folder cannot be written; nothing that looks whole is left.
        """
        import h5py

        if len(episode.last_rgb) and not episode.success:
            write_bytes(self.picture(episode.attempt, episode.task_index), png_bytes(episode.last_rgb))
        with h5py.File("attempt", "w", driver="core", backing_store=False) as file:
            write_episode(file.create_group("data/demo_0"), episode)
            write_table(file, 1, len(episode.action), self._env_args)
            file.flush()
            content = file.id.get_file_image()
            attempt = _summary(file["data/demo_0"])
        file_of = self.path(*attempt.key[::-1])
        write_bytes(file_of, content)
        if self._attempts is not None:
            self._attempts[attempt.key] = attempt
        return file_of

    def unpack(self) -> None:
        """Give demonstrations that only ``episodes.hdf5`` holds a file each again: more attempts are coming.

        Raises:
            OutputError: As ``write``.
        """
        import h5py

        for i, attempt in enumerate(self.packed()):
            if self.path(attempt.index, attempt.task).is_file():
                continue
            with h5py.File("attempt", "w", driver="core", backing_store=False) as file:
                with h5py.File(self.file) as source:
                    source.copy(f"data/demo_{i}", file.create_group("data"), "demo_0")
                write_table(file, 1, attempt.steps, self._env_args)
                file.flush()
                content = file.id.get_file_image()
            write_bytes(self.path(attempt.index, attempt.task), content)

    def link(self) -> Path:
        """Make ``episodes.hdf5`` the table of all successful attempts so far, as links, in the order of attempts.

        Raises:
            OutputError: As ``write``.
        """
        import h5py

        self.unpack()
        chosen = [a for a in self.attempts() if a.success]
        with h5py.File("table", "w", driver="core", backing_store=False) as file:
            data = file.create_group("data")
            for i, attempt in enumerate(chosen):
                name = self.path(attempt.index, attempt.task).name
                data[f"demo_{i}"] = h5py.ExternalLink(f"episodes/{name}", "/data/demo_0")
            write_table(file, len(chosen), sum(a.steps for a in chosen), self._env_args)
            file.flush()
            content = file.id.get_file_image()
        write_bytes(self.file, content)
        self._write_summary()
        return self.file

    def finish(self, chosen: int | Sequence[Attempt]) -> Path:
        """Make ``episodes.hdf5`` self-contained: so many successes, the first in the order of attempts, or those that are named.

        The files that went into it are removed; those of failures and of other successes stay in ``episodes/``.
        ``attempts.json`` lists every attempt. A store that is whole already stays as it is.

        Raises:
            OutputError: As ``write``.
        """
        import h5py

        if isinstance(chosen, int):
            chosen = [a for a in self.attempts() if a.success][:chosen]
        if [a.key for a in self.packed()] != [a.key for a in chosen]:
            self.unpack()
            partial = partial_of(self.file)
            with _clean_failure(self.file), h5py.File(partial, "w") as file:
                data = file.create_group("data")
                for i, attempt in enumerate(chosen):
                    with h5py.File(self.path(attempt.index, attempt.task)) as source:
                        source.copy("data/demo_0", data, f"demo_{i}")
                write_table(file, len(chosen), sum(a.steps for a in chosen), self._env_args)
            with _clean_failure(self.file):
                _sync(partial)
                os.replace(partial, self.file)
        self._write_summary()
        left = [*self.folder.glob("*/*.partial"), *self.folder.glob(f"{self.file.name}.*.partial")]
        for file in [self.path(a.index, a.task) for a in chosen] + left:
            file.unlink(missing_ok=True)
        return self.file

    def _attempt_files(self) -> list[Path]:
        return sorted(self.folder.glob("episodes/attempt_*.hdf5"))

    def packed(self) -> list[Attempt]:
        """Attempts that ``episodes.hdf5`` itself holds, in its order; none while it is a table of links."""
        import h5py

        if not self.file.is_file():
            return []
        with _readable(self.file), h5py.File(self.file) as file:
            data: Any = file["data"]
            names = [name for name in data if isinstance(data.get(name, getlink=True), h5py.HardLink)]
            return [_summary(data[name]) for name in sorted(names, key=lambda name: int(name[5:]))]

    def _write_summary(self) -> None:
        content = json.dumps({"attempts": [asdict(a) for a in self.attempts()]}, indent=1) + "\n"
        write_bytes(self.folder / "attempts.json", content.encode())


def read_demos(file: Path, limit: int | None = None, frames: bool = True, checked: bool = False) -> Iterator[Episode]:
    """The demonstrations of ``named_demos`` without their names."""
    return (episode for _, episode in named_demos(file, limit, frames, checked))


def named_demos(
    file: Path, limit: int | None = None, frames: bool = True, checked: bool = False, only: str = ""
) -> Iterator[tuple[str, Episode]]:
    """Name and content of the demonstrations of an ``episodes.hdf5`` or of one attempt's file, one after another; links are followed.

    Args:
        file: The file.
        limit: So many; all where None.
        frames: Whether frames are wanted, which are nearly all of the data.
        checked: Whether each is compared with the digests that were recorded with it.
        only: Name of the one that is wanted; empty for all.

    Raises:
        OutputError: The file or a demonstration cannot be read.
        InputError: A demonstration is not what was recorded.
    """
    import h5py

    with _readable(file):
        stream = h5py.File(file)
    with stream:
        with _readable(file):
            data: Any = stream["data"]
            names = [only] if only else sorted(data, key=lambda name: int(name[5:]))[:limit]
        for name in names:
            with _readable(file, f"{name} of "):
                group = data[name]
                episode = read_episode(group, frames)
                changed = changes(group, episode, frames) if checked else []
            if changed:
                raise InputError(
                    f"{name} of '{file}' is not what was recorded ({', '.join(changed)} differ): 'dataset.py verify' tells more, "
                    f"'dataset.py filter --leave-out {name}' goes on without it."
                )
            yield name, episode


def _read_attempts(file: Path) -> list[Attempt]:
    import h5py

    with _readable(file), h5py.File(file) as stream:
        return [_summary(stream["data/demo_0"])]


def _summary(group: Any) -> Attempt:
    a = group.attrs
    task = int(a.get("task_index", 0))
    return Attempt(int(a["attempt"]), bool(a["success"]), a["failure"], int(a["num_samples"]), a["state_sha256"], task)


@contextmanager
def _readable(file: Path, which: str = "") -> Iterator[None]:
    try:
        yield
    except (OSError, KeyError, ValueError, TypeError, RuntimeError) as error:
        own = file.match("episodes/attempt_*.hdf5")  # of one attempt, which can be made again
        advice = "delete it and run again with --resume" if own else "'dataset.py verify' tells more"
        raise OutputError(f"{which}'{file}' cannot be read ({error}): {advice}.") from error


def partial_of(file: Path) -> Path:
    """Where a file is written before it gets its name; no two processes of a cluster share one."""
    return file.with_name(f"{file.name}.{socket.gethostname()}-{os.getpid()}.partial")


def clear_partials(file: Path) -> None:
    """Remove what processes of this machine that are gone have left beside a file or folder, by the names of ``partial_of``."""
    before = f"{file.name}.{socket.gethostname()}-"
    for left in file.parent.glob(f"{glob.escape(before)}*.partial"):
        number = left.name[len(before) :].partition(".")[0]
        if number.isdigit() and not Path(f"/proc/{number}").exists():
            if left.is_dir():
                shutil.rmtree(left, ignore_errors=True)
            else:
                left.unlink(missing_ok=True)


@contextmanager
def _clean_failure(file: Path) -> Iterator[None]:
    """Turn a failed write into an ``OutputError`` and remove what it left."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        partial_of(file).unlink(missing_ok=True)
        reason = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error)
        raise OutputError(
            f"'{file}' could not be written ({reason}): free some space or choose another --out, "
            "then run again with --resume; finished attempts are kept."
        ) from error


def write_bytes(file: Path, content: bytes) -> None:
    """Write a file aside, to the disk, and give it its name: it is whole or it is not there.

    Raises:
        OutputError: The disk is full or the folder cannot be written.
    """
    partial = partial_of(file)
    with _clean_failure(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(content)
        _sync(partial)
        os.replace(partial, file)


def _sync(file: Path) -> None:
    with open(file, "rb") as stream:
        os.fsync(stream.fileno())
