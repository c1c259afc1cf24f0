"""The quality gate over a file: with the shapes of the twin's objects where the twin is there."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from phototwin.data.compose import Entry
from phototwin.data.quality import Pieces, Quality, QualityLimits, judge
from phototwin.data.store import named_demos
from phototwin.data.verify import RUN_NAME
from phototwin.episode import Episode
from phototwin.errors import InputError
from phototwin.scene import load_scene
from phototwin_tasks.generate.jobs import twin_hash


@dataclass(frozen=True)
class Judged:
    """The gate's word on a file.

    Attributes:
        qualities: On each demonstration, in order.
        note: What could not be judged, after a semicolon; empty where all was.
    """

    qualities: list[Quality]
    note: str


def judge_file(file: Path, entries: Sequence[Entry], limits: QualityLimits, twin: Path | None) -> Judged:
    """The gate's word on demonstrations of an HDF5 dataset.

    Args:
        file: The dataset.
        entries: Those of its demonstrations that are judged; the others are not looked at.
        limits: What may be measured.
        twin: Folder of the twin; where None, the twins of the run that ``file`` lies in are taken, if they are there.

    Raises:
        InputError: ``twin`` is no twin, or none of the demonstrations was made in it.
    """
    import warp

    warp.config.quiet = True  # overlaps are measured by a kernel, whose greeting is no part of the answer
    pieces = {folder: _shapes(folder) for folder in ([twin] if twin else _twins(file))}
    shapes = {twin_hash(folder): found for folder, found in pieces.items()}
    known: list[bool] = []

    def bodies(episode: Episode) -> Mapping[str, Pieces]:
        # Variants of a twin have other shapes under the same keys.
        found = {} if episode.provenance.get("variant") else shapes.get(str(episode.provenance.get("twin")), {})
        known.append(bool(found))
        return found

    qualities = judge(_named(file, entries), limits, bodies)
    if twin is not None and known and not any(known):
        raise InputError(
            f"No demonstration of '{file}' was made in the twin '{twin}': give its own, or leave --twin out."
        )
    blind = len(known) - sum(known)
    note = f"; the shapes of {blind} are not known, so their objects' centres stand for them" if blind else ""
    return Judged(qualities, note)


def read_rejected(file: Path) -> set[tuple[str, str]]:
    """Names and digests of the demonstrations that a review page's ``rejected.json`` lists.

    Raises:
        InputError: It is no such file.
    """
    try:
        listed = json.loads(file.read_text())["rejected"]
        return {(str(item.get("demo", "")), str(item["state_sha256"])) for item in listed}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"'{file}' is no rejected.json of a review page: {error}.") from error


def _named(file: Path, entries: Sequence[Entry]) -> Iterator[tuple[str, str, Episode]]:
    for entry in entries:
        for name, episode in named_demos(file, frames=False, only=entry.demo):
            yield name, entry.digest, episode


def _twins(file: Path) -> list[Path]:
    """Twins of the run that a dataset belongs to, as far as they are there."""
    try:
        jobs = json.loads((file.parent / RUN_NAME).read_text())["jobs"]
        folders = {(file.absolute().parents[1] / job["twin"]).resolve() for job in jobs}
    except (OSError, ValueError, KeyError, TypeError):
        return []  # no run, or one of an older release: the caller tells that shapes are not known
    return [folder for folder in sorted(folders) if (folder / "scene.json").is_file()]


def _shapes(folder: Path) -> dict[str, Pieces]:
    return {item.key: item.pieces for item in load_scene(folder).objects}
