"""The stages of a run and their manifest: a stage whose inputs did not change is loaded, not run again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from phototwin.errors import InputError
from phototwin.frozen import fingerprint, load_value, save_value
from phototwin.progress import StageTimer


@cache
def source_fingerprint() -> str:
    """SHA-256 of this package's own source files: a stage of another version is another stage."""
    root = Path(__file__).resolve().parent
    digest = hashlib.sha256()
    for file in sorted(root.rglob("*.py")):
        digest.update(file.relative_to(root).as_posix().encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()


@dataclass(frozen=True)
class StageRecord:
    """What the manifest keeps of one stage: the fingerprint of its inputs and program, and whether its result was kept from an earlier run."""

    key: str
    kept: bool


class Stages:
    """Runs the stages of one reconstruction and keeps their results in a folder, one ``<stage>.npz`` and ``<stage>.json`` each.

    Args:
        folder: Where the results are; None keeps nothing.
        timer: Times each stage and tells progress.
        redo: Names of stages that run again even if nothing changed.
    """

    def __init__(self, folder: Path | None, timer: StageTimer, redo: tuple[str, ...] = ()) -> None:
        self.records: dict[str, StageRecord] = {}
        self._folder, self._timer, self._redo = folder, timer, redo

    def run[T](self, name: str, make: Callable[[], T], *inputs: Any) -> T:
        """The result of a stage: what an earlier run left for the same inputs, or what ``make`` returns."""
        key = fingerprint((name, source_fingerprint(), inputs))
        file = self._folder / f"{name}.npz" if self._folder else None
        if file and name not in self._redo and _key_of(file) == key:
            try:
                with self._timer.stage(f"{name}: unchanged, kept"):
                    value = load_value(file)
                self.records[name] = StageRecord(key, True)
                return value
            except InputError:
                pass  # damaged since: make it again
        with self._timer.stage(name):
            value = make()
            if file:
                file.with_suffix(".json").unlink(missing_ok=True)  # a key must never stand beside another's result
                save_value(file, value)
                file.with_suffix(".json").write_text(json.dumps({"key": key}) + "\n")
        self.records[name] = StageRecord(key, False)
        return value


def _key_of(file: Path) -> str:
    """The key that a kept result belongs to; empty where there is none."""
    try:
        return str(json.loads(file.with_suffix(".json").read_text())["key"]) if file.is_file() else ""
    except (OSError, ValueError, KeyError, TypeError):
        return ""
