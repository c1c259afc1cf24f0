"""EpisodeStore: a folder of attempts that is readable at every moment and whole at the end.

While a run goes on, every finished attempt is one file ``episodes/attempt_000012.hdf5`` and ``episodes.hdf5`` is a table of
links to the successful ones. ``finish`` replaces the table by a self-contained file and removes the files that went into it.
Every file is written aside and renamed, so what has a proper name is whole.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from phototwin.data.hdf5 import read_episode, write_episode, write_table
from phototwin.episode import Episode
from phototwin.errors import OutputError

GYM_ENV_TYPE = 2
"""robomimic's number for gym environments; Isaac Lab writes the same."""


@dataclass(frozen=True)
class Attempt:
    """What became of one attempt.

    Attributes:
        index: Index of the attempt in its run.
        success: Whether the success term held at the end.
        failure: One word of the rollout's failure classes; empty on success.
        steps: Control steps.
        state_sha256: Digest of its states and actions, see ``phototwin.data.hdf5.state_sha256``.
    """

    index: int
    success: bool
    failure: str
    steps: int
    state_sha256: str


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
        self._attempts: dict[int, Attempt] | None = None

    def path(self, index: int) -> Path:
        """The file of attempt ``index``."""
        return self.folder / "episodes" / f"attempt_{index:06d}.hdf5"

    def attempts(self) -> tuple[Attempt, ...]:
        """What exists, by index.

        Raises:
            OutputError: A file cannot be read.
        """
        if self._attempts is None:
            found = [a for file in self._attempt_files() for a in _read_attempts(file)] + self._packed()
            self._attempts = {a.index: a for a in found}
        return tuple(self._attempts[i] for i in sorted(self._attempts))

    def write(self, episode: Episode) -> Path:
        """Store one attempt as a file of its own, itself a dataset of one demonstration; frames only where it succeeded.

        Raises:
            OutputError: The disk is full or the folder cannot be written; nothing that looks whole is left.
        """
        import h5py

        self.attempts()
        self.unpack()
        with h5py.File("attempt", "w", driver="core", backing_store=False) as file:
            write_episode(file.create_group("data/demo_0"), episode)
            write_table(file, 1, len(episode.action), self._env_args)
            file.flush()
            content = file.id.get_file_image()
            attempt = _summary(file["data/demo_0"])
        _write_bytes(self.path(episode.attempt), content)
        self._attempts = (self._attempts or {}) | {attempt.index: attempt}
        return self.path(episode.attempt)

    def unpack(self) -> None:
        """Give demonstrations that only ``episodes.hdf5`` holds a file each again: more attempts are coming.

        Raises:
            OutputError: As ``write``.
        """
        import h5py

        for i, attempt in enumerate(self._packed()):
            if self.path(attempt.index).is_file():
                continue
            with h5py.File("attempt", "w", driver="core", backing_store=False) as file:
                with h5py.File(self.file) as source:
                    source.copy(f"data/demo_{i}", file.create_group("data"), "demo_0")
                write_table(file, 1, attempt.steps, self._env_args)
                file.flush()
                content = file.id.get_file_image()
            _write_bytes(self.path(attempt.index), content)

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
                data[f"demo_{i}"] = h5py.ExternalLink(f"episodes/{self.path(attempt.index).name}", "/data/demo_0")
            write_table(file, len(chosen), sum(a.steps for a in chosen), self._env_args)
            file.flush()
            content = file.id.get_file_image()
        _write_bytes(self.file, content)
        self._write_summary()
        return self.file

    def finish(self, num_demos: int) -> Path:
        """Make ``episodes.hdf5`` self-contained: the first ``num_demos`` successes in the order of attempts.

        The files that went into it are removed; those of failures and of successes beyond ``num_demos`` stay in
        ``episodes/``. ``attempts.json`` lists every attempt. A store that is whole already stays as it is.

        Raises:
            OutputError: As ``write``.
        """
        import h5py

        chosen = [a for a in self.attempts() if a.success][:num_demos]
        if [a.index for a in self._packed()] != [a.index for a in chosen]:
            self.unpack()
            partial = _partial(self.file)
            with _clean_failure(partial), h5py.File(partial, "w") as file:
                data = file.create_group("data")
                for i, attempt in enumerate(chosen):
                    with h5py.File(self.path(attempt.index)) as source:
                        source.copy("data/demo_0", data, f"demo_{i}")
                write_table(file, len(chosen), sum(a.steps for a in chosen), self._env_args)
            with _clean_failure(partial):
                _sync(partial)
                os.replace(partial, self.file)
        self._write_summary()
        for file in [self.path(a.index) for a in chosen] + list(self.folder.glob("episodes/*.partial")):
            file.unlink(missing_ok=True)
        return self.file

    def _attempt_files(self) -> list[Path]:
        return sorted(self.folder.glob("episodes/attempt_*.hdf5"))

    def _packed(self) -> list[Attempt]:
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
        _write_bytes(self.folder / "attempts.json", content.encode())


def read_demos(file: Path, limit: int | None = None) -> Iterator[Episode]:
    """The demonstrations of an ``episodes.hdf5`` or of one attempt's file, one after another; links are followed.

    Raises:
        OutputError: The file cannot be read.
    """
    import h5py

    with _readable(file), h5py.File(file) as stream:
        data: Any = stream["data"]
        for name in sorted(data, key=lambda name: int(name[5:]))[:limit]:
            yield read_episode(data[name])


def _read_attempts(file: Path) -> list[Attempt]:
    import h5py

    with _readable(file), h5py.File(file) as stream:
        return [_summary(stream["data/demo_0"])]


def _summary(group: Any) -> Attempt:
    a = group.attrs
    return Attempt(int(a["attempt"]), bool(a["success"]), a["failure"], int(a["num_samples"]), a["state_sha256"])


@contextmanager
def _readable(file: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, KeyError) as error:
        raise OutputError(f"'{file}' cannot be read ({error}): delete it and run again with --resume.") from error


def _partial(file: Path) -> Path:
    return file.with_name(file.name + ".partial")


@contextmanager
def _clean_failure(partial: Path) -> Iterator[None]:
    """Turn a failed write into an ``OutputError`` and remove what it left."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        partial.unlink(missing_ok=True)
        reason = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error)
        raise OutputError(
            f"'{partial.with_suffix('')}' could not be written ({reason}): free some space or choose another --out, "
            "then run again with --resume; finished attempts are kept."
        ) from error


def _write_bytes(file: Path, content: bytes) -> None:
    partial = _partial(file)
    with _clean_failure(partial):
        file.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(content)
        _sync(partial)
        os.replace(partial, file)


def _sync(file: Path) -> None:
    with open(file, "rb") as stream:
        os.fsync(stream.fileno())
