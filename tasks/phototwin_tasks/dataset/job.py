"""What ``scripts/dataset.py`` runs; each function gives the text to print."""

from __future__ import annotations

import itertools
import json
import re
from collections import Counter
from collections.abc import Callable, Container, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from phototwin.data.compose import (
    Entry,
    append_dataset,
    drop_repeated,
    new_folder,
    object_slots,
    read_entries,
    refuse_mixed,
    rewrite_hdf5,
    write_dataset,
)
from phototwin.data.lerobot import write_lerobot
from phototwin.data.quality import QualityLimits
from phototwin.data.rlds import need_rlds, write_rlds
from phototwin.data.store import read_demos
from phototwin.data.verify import HDF5_NAME, find_datasets, need_hdf5, verify
from phototwin.errors import InputError, OutputError
from phototwin.output import claim_folder
from phototwin_tasks.dataset.gate import judge_file, read_rejected


@dataclass(frozen=True)
class Wanted:
    """Which demonstrations to keep; what is None or () does not matter.

    Attributes:
        success: Whether they did their task.
        task: Families.
        object: Objects of the task.
        min_seam: Least seam score of the worst frame.
        rejected: File of a review page.
        leave_out: Names of demonstrations that are not wanted.
        limits: Limits of the gate.
    """

    success: bool | None = None
    task: tuple[str, ...] = ()
    object: tuple[str, ...] = ()
    min_seam: float | None = None
    rejected: Path | None = None
    leave_out: tuple[str, ...] = ()
    limits: QualityLimits | None = None


def info(folder: Path) -> str:
    """What the datasets of a folder hold."""
    found = find_datasets(folder)
    lines: list[str] = []
    if found.hdf5 is not None:
        entries = read_entries(found.hdf5)
        lines += [f"{found.hdf5}", *(_about(entries) if entries else ["  no demonstrations"])]
    if found.lerobot is not None:
        lines += _about_lerobot(found.lerobot)
    return "\n".join(lines) + "\n"


def verify_to(stream: TextIO, folder: Path) -> int:
    """Write a line for each defect of the datasets of a folder as it is found; 1 where there is any, else 0."""
    defects = 0
    for defect in verify(folder):
        stream.write(f"{defect}\n")
        defects += 1
    found = find_datasets(folder)
    names = " and ".join(str(p) for p in (found.hdf5, found.lerobot) if p is not None)
    stream.write(f"{defects} defects in {names}\n" if defects else f"{names}: no defects\n")
    return 1 if defects else 0


def merge(folders: Sequence[Path], out: Path, append: bool, lerobot: bool) -> str:
    """Make one dataset of several, or add to one."""
    if not folders:
        raise InputError("No dataset is named: give the folders to merge.")
    entries = [entry for folder in folders for entry in read_entries(need_hdf5(folder))]
    file = out / HDF5_NAME
    with claim_folder(out) if append else nullcontext():  # two that append at once would each write over the other's
        there = read_entries(file) if append and file.is_file() else []
        refuse_mixed([*there, *entries])
        new = drop_repeated(entries, there)
        if append:
            append_dataset(new, out)
        else:
            write_dataset(new, out, lerobot)
    again = f", {len(entries) - len(new)} left out: they are there already" if len(new) < len(entries) else ""
    return f"{len(new)} demonstrations {'added to' if append else 'in'} {out}{again}\n"


def keep(folder: Path, out: Path, wanted: Wanted, twin: Path | None, lerobot: bool) -> str:
    """Make a dataset of the demonstrations that are wanted; says why others are not."""
    file = need_hdf5(folder)
    left_out = dict.fromkeys(wanted.leave_out)
    entries = read_entries(file, tuple(left_out))
    why = {entry.demo: _why_not(entry, wanted) for entry in entries}
    if wanted.rejected is not None:
        by_hand = {each for each in read_rejected(wanted.rejected) if each[0] not in left_out}
        here = by_hand & {(e.demo, e.digest) for e in entries}
        elsewhere = {digest for _, digest in by_hand - here}  # numbered anew since
        missing = len(elsewhere - {e.digest for e in entries})
        if missing:
            raise InputError(
                f"{missing} demonstrations in '{wanted.rejected}' are not in '{file}': it is of another dataset."
            )
        for e in entries:
            if (e.demo, e.digest) in here or e.digest in elsewhere:
                why[e.demo].append("rejected by hand")
    note = ""
    if wanted.limits is not None:
        judged = judge_file(file, [e for e in entries if not why[e.demo]], wanted.limits, twin)
        note = judged.note
        why |= {q.name: list(q.reasons) for q in judged.qualities}
    chosen = [entry for entry in entries if not why[entry.demo]]
    lines = [f"{name}: left out" for name in left_out]
    lines += [f"{name}: {'; '.join(reasons)}" for name, reasons in why.items() if reasons]
    if not chosen:
        raise InputError(f"No demonstration of '{file}' is left. " + " ".join(f"{line}." for line in lines[:3]))
    write_dataset(chosen, out, lerobot)
    total = len(entries) + len(left_out)
    return "\n".join([*lines, f"{len(chosen)} of {total} demonstrations in {out}{note}"]) + "\n"


def split(folder: Path, out: Path, by: str, shares: Sequence[float], lerobot: bool) -> str:
    """Make a dataset of each part of one, in folders of ``out``."""
    entries = read_entries(need_hdf5(folder))
    if not entries:
        raise InputError(f"'{folder}' has no demonstrations to split.")
    if by == "share":
        parts = _deal(entries, shares)
        told = dict.fromkeys(parts, "")
    else:
        key: dict[str, Callable[[Entry], str]] = {
            "task": lambda e: e.task.get("family", ""),
            "object": lambda e: e.task.get("object", ""),
            "instruction": lambda e: e.instruction,
        }
        values: dict[str, list[Entry]] = {}
        for entry in entries:
            values.setdefault(key[by](entry), []).append(entry)
        parts, told = {}, {}
        for value, part in values.items():
            name = _slug(value, parts)
            parts[name], told[name] = part, f": {value}"
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise OutputError(f"'{out}' exists and is not empty: choose another --out, or remove it.")
    for part in parts.values():
        refuse_mixed(part)
    with new_folder(out) as partial:
        for name, part in parts.items():
            write_dataset(part, partial / name, lerobot)
    return "".join(f"{len(part)} demonstrations in {out / name}{told[name]}\n" for name, part in parts.items())


def convert(folder: Path, to: str, out: Path) -> str:
    """Write a dataset anew in another layout."""
    file = need_hdf5(folder)
    if to == "rlds":
        need_rlds()
        entries = read_entries(file)
        refuse_mixed(entries)
        with new_folder(out) as partial:
            write_rlds(read_demos(file, checked=True), partial, slots=object_slots(entries))
    elif to in ("lerobot", "lerobot_depth"):
        entries = read_entries(file)
        refuse_mixed(entries)
        with new_folder(out) as partial:
            truth = to == "lerobot_depth"
            demos = read_demos(file, checked=True)
            write_lerobot(demos, partial / "set", slots=object_slots(entries), truth=truth)
            for item in (partial / "set").iterdir():
                item.rename(partial / item.name)
            (partial / "set").rmdir()
    else:
        rewrite_hdf5(file, out, every_next=to == "robomimic")
    return f"{out}\n"


def review(folder: Path, out: Path | None, limits: QualityLimits, twin: Path | None) -> str:
    """Write the page on which demonstrations are looked through."""
    from phototwin.view.review import ReviewCard, write_review

    file = need_hdf5(folder)
    target = out or file.with_name("review.html")
    if target.suffix.lower() not in (".html", ".htm"):
        raise OutputError(f"'{target}' is no page: give --out a name that ends in .html.")
    judged = judge_file(file, read_entries(file), limits, twin)
    cards = (
        (ReviewCard(q.name, q.digest, q.scores, q.reasons), e)
        for q, e in zip(judged.qualities, read_demos(file), strict=True)
    )
    write_review(target, file.name, cards)
    rejected = sum(bool(q.reasons) for q in judged.qualities)
    return f"{target}: {len(judged.qualities)} demonstrations, {rejected} marked by the gate{judged.note}\n"


def _why_not(entry: Entry, wanted: Wanted) -> list[str]:
    reasons = []
    if wanted.success is not None and entry.success != wanted.success:
        reasons.append("it did its task" if entry.success else "it did not do its task")
    if wanted.task and entry.task.get("family") not in wanted.task:
        reasons.append(f"its task is {entry.task.get('family')}")
    if wanted.object and entry.task.get("object") not in wanted.object:
        reasons.append(f"its object is {entry.task.get('object')}")
    if wanted.min_seam is not None and (entry.seam is None or not entry.seam >= wanted.min_seam):
        reasons.append("no seam score" if entry.seam is None else f"its worst seam is {entry.seam:.2f}")
    return reasons


def _about(entries: Sequence[Entry]) -> list[str]:
    steps, space = sum(e.steps for e in entries), sum(e.bytes for e in entries)
    common = entries[0].common
    size = common["frame size"]
    seams = [e.seam for e in entries if e.seam is not None]

    def counts(values: Sequence[str]) -> str:
        return ", ".join(f"{value} ({times})" for value, times in Counter(values).most_common())

    return [
        f"  {len(entries)} demonstrations, {steps} steps, {sum(e.success for e in entries)} successful, "
        f"{space / len(entries) / 1e6:.2f} MB each",
        f"  {counts([e.common['robot'] for e in entries])} at {common['fps']:g} frames/s, "
        + (f"frames {size[1]} x {size[0]}" if size else "no frames")
        + (f", worst seam {min(seams):.2f}" if seams else ""),
        f"  tasks: {counts([e.task.get('family', '?') for e in entries])}",
        f"  objects: {counts([e.task.get('object', '?') for e in entries])}",
        f"  columns: {len(common['joint names'])} joints, actions {', '.join(common['action names'])}",
        f"  told: {counts([e.instruction for e in entries])}",
    ]


def _about_lerobot(folder: Path) -> list[str]:
    try:
        facts = json.loads((folder / "meta/info.json").read_text())
        count, space = facts["total_episodes"], sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())
        features = ", ".join(f"{k} {tuple(v['shape'])}" for k, v in facts["features"].items() if v["names"])
        return [
            f"{folder}",
            f"  {count} episodes, {facts['total_frames']} frames, {facts['total_tasks']} tasks, {space / max(count, 1) / 1e6:.2f} MB each",
            f"  {facts['robot_type']} at {facts['fps']} frames/s, LeRobot {facts['codebase_version']}",
            f"  features: {features}",
        ]
    except (OSError, ValueError, KeyError) as error:
        raise InputError(
            f"'{folder}/meta/info.json' cannot be read ({error}): 'dataset.py verify' tells more."
        ) from error


def _deal(entries: Sequence[Entry], shares: Sequence[float]) -> dict[str, list[Entry]]:
    """Deal demonstrations out by shares, evenly over their order."""
    if len(shares) < 2 or min(shares) <= 0 or abs(sum(shares) - 1) > 1e-6:
        raise InputError(
            f"--shares {' '.join(map(str, shares))} cannot be: expected two or more positive numbers that add up to 1."
        )
    parts: dict[str, list[Entry]] = {f"part_{i}": [] for i in range(len(shares))}
    for done, entry in enumerate(entries, 1):
        behind = [share * done - len(part) for share, part in zip(shares, parts.values(), strict=True)]
        parts[f"part_{behind.index(max(behind))}"].append(entry)
    empty = [name for name, part in parts.items() if not part]
    if empty:
        raise InputError(
            f"{len(entries)} demonstrations are too few for {len(shares)} parts: {empty[0]} would have none."
        )
    return parts


def _slug(text: str, taken: Container[str]) -> str:
    """A name for a folder that is not taken: the text's letters and digits, of any script, and a number where others have the same."""
    name = re.sub(r"\W+", "_", text.lower()).strip("_")[:60] or "unnamed"
    numbered = (f"{name}_{i}" for i in itertools.count(2))
    return name if name not in taken else next(other for other in numbered if other not in taken)
