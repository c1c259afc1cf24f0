"""Every defect of an HDF5 dataset: those of each demonstration, then those of the file as a whole."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from phototwin.data import checks
from phototwin.data.checks import Defect
from phototwin.data.checks_hdf5 import EPISODE_CHECKS, Demo
from phototwin.data.hdf5 import FORMAT_VERSION


def verify_hdf5(file: Path, name: str) -> Iterator[Defect]:
    """Every defect of an HDF5 dataset.

    Args:
        file: The file.
        name: What defects call it.
    """
    import h5py

    try:
        stream = h5py.File(file)
    except OSError as error:
        yield Defect(name, "", "readable", f"cannot be opened ({error}): it is cut off or no HDF5 file")
        return
    with stream:
        data: Any = stream.get("data")
        if not isinstance(data, h5py.Group):
            yield Defect(name, "", "readable", "has no group 'data', expected one with demo_0, demo_1 ...")
            return
        demos = [Demo(key, data.get(key)) for key in sorted(data, key=_number)]
        for demo in demos:
            yield from (Defect(name, demo.name, check, text) for check, text in _episode_defects(demo))
        whole = [demo for demo in demos if demo.group is not None]
        for check, found in (("index", _index), ("masks", _masks), ("schema", _schema), ("duplicates", _duplicates)):
            try:
                yield from (Defect(name, episode, check, text) for episode, text in found(stream, whole))
            except (OSError, KeyError, ValueError, TypeError) as error:
                yield Defect(name, "", check, f"cannot be checked: {error}")


def _number(name: str) -> tuple[int, str]:
    digits = name.removeprefix("demo_")
    return (int(digits) if digits.isdigit() else 1 << 60, name)


def _episode_defects(demo: Demo) -> Iterator[tuple[str, str]]:
    if demo.group is None:
        yield "readable", "its file is gone: the table links to what is not there"
        return
    bent, unreadable = False, ""
    for name, check in EPISODE_CHECKS.items():
        try:
            for text in check(demo):
                bent = bent or name == "layout"
                yield name, text
        except (OSError, KeyError, ValueError, TypeError, IndexError, RuntimeError) as error:
            # Of what has another shape than it should later checks know nothing; what the disk does not give is told in any case, once.
            if not bent or (isinstance(error, OSError) and str(error) != unreadable):
                yield name, f"cannot be read: {error}"
            bent, unreadable = True, str(error) if isinstance(error, OSError) else unreadable


def _index(stream: Any, demos: list[Demo]) -> Iterator[tuple[str, str]]:
    """Names without gaps, totals, format, environment."""
    if stream.attrs.get("format_version") != FORMAT_VERSION:
        yield (
            "",
            f"format_version is {stream.attrs.get('format_version')}, expected {FORMAT_VERSION} (x, y, z, w quaternions)",
        )
    wanted, names = {f"demo_{i}" for i in range(len(demos))}, {demo.name for demo in demos}
    for name in sorted(wanted - names, key=_number):
        yield name, f"is missing: {len(demos)} demonstrations must be demo_0 to demo_{len(demos) - 1}"
    for name in sorted(names - wanted, key=_number):
        yield name, f"is one too many: {len(demos)} demonstrations must be demo_0 to demo_{len(demos) - 1}"
    if not demos:
        yield "", "holds no demonstrations"
    steps, total = sum(demo.steps for demo in demos), stream["data"].attrs.get("total")
    if total != steps:
        yield "", f"total is {total}, expected the sum of num_samples, {steps}"
    args = json.loads(stream["data"].attrs.get("env_args", "null"))
    if not isinstance(args, dict) or {"env_name", "type", "env_kwargs"} - args.keys():
        yield "", "env_args is not an environment, expected env_name, type and env_kwargs: robomimic needs them"


def _masks(stream: Any, demos: list[Demo]) -> Iterator[tuple[str, str]]:
    """Each demonstration is for training or for validation."""
    names, seen = [demo.name for demo in demos], {}
    if "mask" not in stream or {"train", "valid"} - set(stream["mask"]):
        yield "", "has no mask/train or no mask/valid: robomimic splits by them"
        return
    for mask in stream["mask"]:
        entries = [entry.decode() for entry in stream["mask"][mask][:]]
        for entry in sorted({e for e in entries if e not in names or entries.count(e) > 1}):
            yield entry, f"stands in mask/{mask} but " + ("twice" if entry in names else "does not exist")
        if mask in ("train", "valid"):
            for entry in set(entries) & set(names):
                seen.setdefault(entry, []).append(mask)
    for name in names:
        if len(seen.get(name, [])) != 1:
            found = " and ".join(f"mask/{mask}" for mask in seen.get(name, [])) or "neither mask"
            yield name, f"is in {found}, expected in one of mask/train and mask/valid"


def _schema(stream: Any, demos: list[Demo]) -> Iterator[tuple[str, str]]:
    """One robot, rate, frame size and meaning of columns in the whole file."""
    first: dict[str, tuple[str, Any]] = {}
    for demo in demos:
        facts = {name: demo.group.attrs[name] for name in ("robot", "fps", "joint_names", "action_names")}
        facts |= {place: ", ".join(sorted(demo.group.get(place, ()))) for place in ("obs", "next_obs")}
        if "obs/rgb" in demo.group:
            facts["frame size"] = demo.group["obs/rgb"].shape[1:]
        for name, value in facts.items():
            at, want = first.setdefault(name, (demo.name, value))
            if value != want:
                yield demo.name, f"{name} is {value}, but {want} in {at}: one file has one"


def _duplicates(stream: Any, demos: list[Demo]) -> Iterator[tuple[str, str]]:
    """No demonstration is there twice; the same motion in other frames, told in other words or done for another task is another one."""

    def digest(demo: Demo) -> str:
        paths = ("actions", "obs/joint_pos", "obs/object_poses", "fingerprint/rgb")
        parts = [demo.group[path][()].tobytes() for path in paths if path in demo.group]
        parts += [str(demo.group.attrs[name]).encode() for name in ("instruction", "task")]
        return hashlib.sha256(b"".join(parts)).hexdigest()

    return checks.repeated((demo.name, digest(demo)) for demo in demos)
