"""Where the datasets of a folder are, and everything that is wrong with them.

The named checks are the tables ``EPISODE_CHECKS`` of ``checks_hdf5`` and ``checks_lerobot``; each function looks at one episode.
``verify_hdf5`` and ``verify_lerobot`` add what concerns whole files, and this module what concerns several of them.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Container, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from phototwin.data.checks import Defect
from phototwin.data.lerobot import FACTS_FILE, lerobot_facts
from phototwin.data.store import named_demos
from phototwin.data.verify_hdf5 import verify_hdf5
from phototwin.data.verify_lerobot import verify_lerobot
from phototwin.errors import InputError, TwinError

HDF5_NAME, LEROBOT_NAME, ATTEMPTS_NAME, RUN_NAME = "episodes.hdf5", "lerobot", "attempts.json", "run.json"


@dataclass(frozen=True)
class Place:
    """Where datasets are.

    Attributes:
        folder: The folder that holds them.
        hdf5: The HDF5 file, or None.
        lerobot: The folder of the LeRobot dataset, or None.
    """

    folder: Path
    hdf5: Path | None
    lerobot: Path | None


def find_datasets(folder: Path) -> Place:
    """The datasets of a run, of a folder of datasets, or the one that ``folder`` itself is.

    Raises:
        InputError: There is none.
    """
    folder = Path(folder)
    if folder.is_file():
        return Place(folder.parent, folder, None)
    if (folder / "meta").is_dir():
        return Place(folder, None, folder)
    for place in (folder, folder / "demos"):
        hdf5, lerobot = place / HDF5_NAME, place / LEROBOT_NAME
        if hdf5.is_file() or lerobot.is_dir():
            return Place(place, hdf5 if hdf5.is_file() else None, lerobot if lerobot.is_dir() else None)
    what = "holds no dataset" if folder.is_dir() else "does not exist"
    raise InputError(
        f"'{folder}' {what}: give the folder of a run of generate.py, a folder with {HDF5_NAME} or {LEROBOT_NAME}/, or an .hdf5 file."
    )


def need_hdf5(folder: Path) -> Path:
    """The HDF5 dataset of a folder.

    Raises:
        InputError: There is none.
    """
    found = find_datasets(folder)
    if found.hdf5 is None:
        raise InputError(
            f"'{folder}' holds a LeRobot dataset only: this needs {HDF5_NAME}, whose frames are not compressed with loss and which has velocities."
        )
    return found.hdf5


def verify(folder: Path) -> Iterator[Defect]:
    """Every defect of the datasets of a folder, one after another.

    Raises:
        InputError: There is no dataset.
    """
    found = find_datasets(folder)
    if found.hdf5 is not None:
        yield from verify_hdf5(found.hdf5, found.hdf5.name)
        for file in sorted(found.folder.glob("episodes/attempt_*.hdf5")):
            yield from verify_hdf5(file, f"episodes/{file.name}")
    if found.lerobot is not None:
        yield from verify_lerobot(found.lerobot, found.lerobot.name)
    demos = _demos(found.hdf5) if found.hdf5 is not None else None
    if demos is None:
        return
    if (found.folder / ATTEMPTS_NAME).is_file():
        kept = [_demos(file) or {} for file in found.folder.glob("episodes/attempt_*.hdf5")]
        there = set(demos).union(*kept)
        yield from _attempts(found.folder / ATTEMPTS_NAME, demos, there)
    if found.lerobot is not None:
        yield from _agreement(found.lerobot, demos)


def _demos(file: Path) -> dict[str, dict[str, Any]] | None:
    """Of every demonstration of an HDF5 file, by its ``state_sha256``, its ``name`` and what LeRobot's ``FACTS_FILE`` tells of one; None where it cannot be read."""
    found = {}
    try:
        for name, episode in named_demos(file, frames=False):
            facts = json.loads(json.dumps(lerobot_facts(episode)))
            task, steps = episode.task_index, len(episode.action)
            found[_numbered(facts["state_sha256"], found)] = {
                "name": name,
                "task_index": task,
                "steps": steps,
                "facts": facts,
            }
    except (TwinError, ValueError, KeyError, TypeError):
        return None  # told by verify_hdf5
    return found


def _numbered(digest: str, found: Container[str]) -> str:
    """A digest, with a number behind it where demonstrations before have the same: one motion in several looks."""
    names = (f"{digest} {i}" if i else digest for i in itertools.count())
    return next(name for name in names if name not in found)


def _attempts(file: Path, demos: dict[str, dict[str, Any]], there: set[str]) -> Iterator[Defect]:
    """Whether the list of attempts and the demonstrations tell the same, and every success that is listed is ``there``."""
    try:
        attempts = json.loads(file.read_text())["attempts"]
        entries = {(a["task"], a["index"]): (a["success"], a["steps"], a["state_sha256"]) for a in attempts}
    except (OSError, ValueError, KeyError, TypeError) as error:
        yield Defect(file.name, "", "readable", f"is not a list of attempts: {error}")
        return
    if len(entries) != len(attempts):
        yield Defect(file.name, "", "index", "lists an attempt twice")
    for demo in demos.values():
        digest = demo["facts"]["state_sha256"]
        key = (demo["task_index"], demo["facts"]["attempt"])
        want = (demo["facts"]["success"], demo["steps"], digest)
        if entries.get(key) != want:
            text = f"attempt {key[1]} of task {key[0]} is listed as {entries.get(key)}, but the demonstration is {want}"
            yield Defect(file.name, demo["name"], "agreement", text)
    told = {(demo["task_index"], demo["facts"]["attempt"]) for demo in demos.values()}
    for (task, index), (success, _, digest) in entries.items():
        if success and digest not in there and (task, index) not in told:
            text = f"attempt {index} of task {task} is listed as a success, but no file holds it"
            yield Defect(file.name, "", "agreement", text)


def _agreement(lerobot: Path, demos: dict[str, dict[str, Any]]) -> Iterator[Defect]:
    """Whether the HDF5 file and the LeRobot dataset hold the same demonstrations and tell the same of them."""
    try:
        listed = json.loads((lerobot / FACTS_FILE).read_text())
        digests = [facts.get("state_sha256") for facts in listed]
    except (OSError, ValueError, TypeError, AttributeError):
        return  # told by verify_lerobot
    if None in digests:
        yield Defect(f"{lerobot.name}/{FACTS_FILE}", "", "agreement", "has episodes without state_sha256")
        return
    told: dict[str, tuple[int, Any]] = {}
    for i, (digest, facts) in enumerate(zip(digests, listed, strict=True)):
        told[_numbered(digest, told)] = (i, facts)
    for digest, (i, facts) in told.items():
        if digest not in demos:
            yield Defect(lerobot.name, f"episode {i}", "agreement", f"is not in {HDF5_NAME}")
            continue
        want = demos[digest]["facts"]
        other = [name for name in want if facts.get(name) != want[name]]
        if other:
            text = f"{', '.join(other)} are not those of {demos[digest]['name']} in {HDF5_NAME}"
            yield Defect(f"{lerobot.name}/{FACTS_FILE}", f"episode {i}", "agreement", text)
    for digest, demo in demos.items():
        if digest not in told:
            yield Defect(HDF5_NAME, demo["name"], "agreement", f"is not in {lerobot.name}/")
