"""New HDF5 and LeRobot datasets out of demonstrations that exist: merge, append, filter, split, convert.

Demonstrations are copied one at a time, group by group, as they are stored; a dataset is written aside and renamed, so what has a
name is whole. ``demo_i`` is numbered anew; ``state_sha256`` stays and tells which is which.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from phototwin.build.distractors import is_distractor_key
from phototwin.data.hdf5 import OUR_MASKS, write_episode, write_next_frames, write_table
from phototwin.data.lerobot import has_truth, old_of, replace_folder, write_lerobot
from phototwin.data.store import GYM_ENV_TYPE, clear_partials, named_demos, partial_of, read_demos
from phototwin.data.verify import HDF5_NAME, LEROBOT_NAME, RUN_NAME
from phototwin.errors import InputError, OutputError

ONE_EACH = ("robot", "fps", "frame size", "joint names", "action names", "obs", "next_obs")
"""What all demonstrations of a dataset have in common."""


@dataclass(frozen=True)
class Entry:
    """A demonstration in a file, by what it is chosen.

    Attributes:
        file: The file.
        demo: Its name in it.
        digest: Its ``state_sha256``.
        frames: Digest of its frames' fingerprints, its own name where it has frames without; empty where there are none.
        steps: Its length.
        success: Whether it did its task.
        instruction: What the robot was told.
        task: Family and objects.
        object_keys: The scene's objects.
        seam: Its worst seam score, None where none was recorded.
        bytes: What its datasets take in the file.
        common: What must be the same in all demonstrations of a dataset, by ``ONE_EACH``.
    """

    file: Path
    demo: str
    digest: str
    frames: str
    steps: int
    success: bool
    instruction: str
    task: dict[str, str]
    object_keys: tuple[str, ...]
    seam: float | None
    bytes: int
    common: dict[str, Any]


def read_entries(file: Path, without: Sequence[str] = ()) -> list[Entry]:
    """The demonstrations of an HDF5 dataset, in order; frames are not read.

    Args:
        file: The dataset.
        without: Names of demonstrations that are not looked at, whatever is wrong with them.

    Raises:
        InputError: The file cannot be read, is not one of our datasets, or has no demonstration of such a name.
    """
    import h5py

    place = f"'{file}'"
    try:
        with h5py.File(file) as stream:
            data: Any = stream["data"]
            names = sorted(data, key=lambda name: int(name[5:]))
            unknown = [name for name in without if name not in names]
            if unknown:
                has = f"it has {', '.join(names[:3])} ..."
                raise InputError(f"'{file}' has no {', '.join(unknown)} to leave out: {has}")
            entries = []
            for name in (name for name in names if name not in without):
                place = f"{name} of '{file}'"
                entries.append(_entry(Path(file), name, data[name]))
            return entries
    except (OSError, KeyError, ValueError, TypeError, RuntimeError) as error:
        raise InputError(
            f"{place} cannot be read as a dataset ({error}): 'dataset.py verify' tells more, "
            "'dataset.py filter --leave-out' goes on without a demonstration."
        ) from error


def write_dataset(entries: Sequence[Entry], out: Path, lerobot: bool = True) -> Path:
    """``out``, now a folder with ``episodes.hdf5`` and, if wanted, ``lerobot/``, of the given demonstrations.

    Raises:
        InputError: There are none, or they do not fit together.
        OutputError: ``out`` exists, or cannot be written.
    """
    refuse_mixed(entries)
    with new_folder(out) as partial:
        write_hdf5(entries, partial / HDF5_NAME)
        if lerobot:
            write_lerobot(read_demos(partial / HDF5_NAME), partial / LEROBOT_NAME, slots=object_slots(entries))
    return out


def append_dataset(entries: Sequence[Entry], out: Path) -> Path:
    """``out`` with more demonstrations: its file, and its LeRobot dataset where it has one, are written anew aside and then take their names.

    Killed in between the two it has the new file beside the old LeRobot dataset; the same call mends that. A LeRobot dataset with depth and labels keeps them.

    Raises:
        InputError: They do not fit together, or ``out`` holds no dataset or a run.
        OutputError: ``out`` cannot be written; what it held is kept.
    """
    file, lerobot = out / HDF5_NAME, out / LEROBOT_NAME
    if (out / RUN_NAME).is_file():
        raise InputError(f"'{out}' is a run: go on with generate.py --resume, or merge it into a new folder.")
    if not file.is_file():
        raise InputError(f"'{out}' holds no {HDF5_NAME} to add to: leave --append out to make a new dataset.")
    together = [*read_entries(file), *entries]
    refuse_mixed(together)
    aside, new = partial_of(file), partial_of(lerobot)
    clear_partials(file)
    clear_partials(lerobot)
    with _writing(out, aside, new):
        write_hdf5(together, aside)
        # The second where a call was killed between two names.
        before = lerobot if lerobot.is_dir() else old_of(lerobot)
        if before.is_dir():
            write_lerobot(read_demos(aside), new, slots=object_slots(together), truth=has_truth(before))
        os.replace(aside, file)
        if new.is_dir():
            replace_folder(new, lerobot)
    return out


def drop_repeated(entries: Iterable[Entry], there: Iterable[Entry] = ()) -> list[Entry]:
    """Those of ``entries`` that are neither an earlier one nor ``there``: the same states, actions, frames, words and task."""

    def content(entry: Entry) -> tuple[str, ...]:
        return entry.digest, entry.frames, entry.instruction, json.dumps(entry.task, sort_keys=True)

    seen = {content(entry) for entry in there}
    kept = []
    for entry in entries:
        if content(entry) not in seen:
            seen.add(content(entry))
            kept.append(entry)
    return kept


def write_hdf5(entries: Iterable[Entry], file: Path) -> None:
    """Copy demonstrations into a new self-contained file, one at a time, with the filter keys that they stand in.

    Raises:
        InputError: One is not what was recorded.
    """
    import h5py

    entries = list(entries)
    with h5py.File(file, "w") as stream:
        data = stream.create_group("data")
        args, masks = [], {}
        for i, entry in enumerate(entries):
            with h5py.File(entry.file) as source:
                there: Any = source["data"]
                if str(there[entry.demo].attrs["state_sha256"]) != entry.digest:
                    raise InputError(
                        f"{entry.demo} of '{entry.file}' is another one than a moment ago: a run is still writing it. "
                        "Run the same command again, or when the run has ended."
                    )
                for _ in named_demos(entry.file, checked=True, only=entry.demo):
                    pass
                # Through the group: a table of links leads to another file.
                data.copy(there[entry.demo], f"demo_{i}")
                args.append(_environment(source, entry.file))
                for name in _own_masks(source, entry.demo):
                    masks.setdefault(name, []).append(f"demo_{i}")
        write_table(stream, len(entries), sum(e.steps for e in entries), _one_environment(args), masks)
    with open(file, "rb") as written:
        os.fsync(written.fileno())


def rewrite_hdf5(file: Path, out: Path, every_next: bool = False) -> Path:
    """``out``, now an HDF5 file with the demonstrations of ``file`` as they are written today: self-contained, with fingerprints.

    Args:
        file: An HDF5 dataset, whole or a table of links.
        out: The file to write.
        every_next: Whether ``next_obs`` has frames too, which robomimic's value-based algorithms read. The last frame stands for the one after
            the last action, which was not recorded.

    Raises:
        InputError: ``file`` cannot be read.
        OutputError: ``out`` exists or cannot be written.
    """
    import h5py

    entries = read_entries(file)
    refuse_mixed(entries)
    if out.exists():
        raise OutputError(f"'{out}' exists: choose another --out, or remove it.")
    partial = partial_of(out)
    clear_partials(out)
    with _writing(out, partial):
        with h5py.File(partial, "w") as stream, h5py.File(file) as source:
            data, masks = stream.create_group("data"), {}
            for i, (name, episode) in enumerate(named_demos(file, checked=True)):
                group: Any = data.create_group(f"demo_{i}")
                write_episode(group, episode)
                _copy_others(source[f"data/{name}"], group)
                if (every_next or f"data/{name}/next_obs/rgb" in source) and "rgb" in group["obs"]:
                    write_next_frames(group)
                if every_next:
                    _complete_next(group)
                for mask in _own_masks(source, name):
                    masks.setdefault(mask, []).append(f"demo_{i}")
            args = _environment(source, file)
            write_table(stream, len(entries), sum(e.steps for e in entries), args, masks)
        os.replace(partial, out)
    return out


def _copy_others(old: Any, new: Any) -> None:
    """Copy what a demonstration has beyond our layout: datasets that others have added, and attributes."""
    paths: list[str] = []
    old.visit(paths.append)
    for path in paths:
        if hasattr(old[path], "dtype") and path not in new and path != "next_obs/rgb":
            old.copy(old[path], new, path)
    for name, value in old.attrs.items():
        if name not in new.attrs:
            new.attrs[name] = value


def _complete_next(group: Any) -> None:
    """Give what others have added to ``obs`` a row later in ``next_obs``, the last row twice: robomimic reads both by the same names."""
    for name, item in group["obs"].items():
        if name not in group["next_obs"] and hasattr(item, "dtype"):
            rows = item[()]
            group[f"next_obs/{name}"] = np.concatenate([rows[1:], rows[-1:]])


def _own_masks(source: Any, demo: str) -> list[str]:
    """Filter keys, beside ours, in which a demonstration stands."""
    masks = source.get("mask", {})
    others = [name for name in masks if name not in OUR_MASKS and hasattr(masks[name], "dtype")]
    return [name for name in others if demo.encode() in masks[name][:].tolist()]


def _environment(source: Any, file: Path) -> dict[str, Any]:
    """The ``env_args`` of a file, which robomimic reads.

    Raises:
        InputError: It has none.
    """
    try:
        return json.loads(source["data"].attrs["env_args"])
    except (KeyError, ValueError) as error:
        raise InputError(f"'{file}' has no env_args ({error}): 'dataset.py verify' tells more.") from error


def refuse_mixed(entries: Sequence[Entry]) -> None:
    """Check that demonstrations can be one dataset.

    Raises:
        InputError: There are none, or two differ in robot, frame rate, frame size or columns.
    """
    if not entries:
        raise InputError(
            "No demonstration is left to write: loosen what is asked for; 'dataset.py info' lists what there is."
        )
    first = entries[0]
    for entry in entries:
        for name in ONE_EACH:
            if entry.common[name] != first.common[name]:
                way = ", or give both 'dataset.py convert --to robomimic' first" if name == "next_obs" else ""
                raise InputError(
                    f"{entry.demo} of '{entry.file}' has {name} {entry.common[name]}, but {first.demo} of '{first.file}' {first.common[name]}: "
                    f"a dataset has one. Keep them apart{way}."
                )


def object_slots(entries: Sequence[Entry]) -> int:
    """How many slots ``object_poses`` needs in LeRobot: 0 where all scenes have the same objects."""
    own = {tuple(key for key in entry.object_keys if not is_distractor_key(key)) for entry in entries}
    return 0 if len(own) == 1 else max(map(len, own))


@contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """A folder that becomes ``out`` when all went well, and is removed where it did not.

    Raises:
        OutputError: ``out`` exists, or the disk is full.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise OutputError(f"'{out}' exists and is not empty: choose another --out, or remove it.")
    if out.resolve() == Path.cwd():
        raise OutputError(f"'{out}' is the folder that you are in: give --out a name inside it.")
    partial = partial_of(out)
    clear_partials(out)
    shutil.rmtree(partial, ignore_errors=True)
    with _writing(out, partial):
        partial.mkdir(parents=True)
        yield partial
        if out.exists():
            out.rmdir()
        os.replace(partial, out)


@contextmanager
def _writing(out: Path, *aside: Path) -> Iterator[None]:
    """Turn a failed write into an ``OutputError``; whatever failed, nothing is left aside."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        yield
    except (OSError, RuntimeError) as error:
        raise OutputError(
            f"'{out}' could not be written ({error}): free some space or choose another --out."
        ) from error
    finally:
        for partial in aside:
            if partial.is_dir():
                shutil.rmtree(partial, ignore_errors=True)
            elif partial.is_file():
                partial.unlink()


def _entry(file: Path, name: str, group: Any) -> Entry:
    attributes = group.attrs
    common = {"robot": str(attributes["robot"]), "fps": float(attributes["fps"])}
    common["frame size"] = tuple(group["obs/rgb"].shape[1:3]) if "rgb" in group["obs"] else None
    common["joint names"] = tuple(json.loads(attributes["joint_names"]))
    common["action names"] = tuple(json.loads(attributes["action_names"]))
    common |= {place: ", ".join(sorted(group[place])) for place in ("obs", "next_obs")}
    seam = group["quality/seam"][:] if "quality" in group else ()
    return Entry(
        file=file,
        demo=name,
        digest=str(attributes["state_sha256"]),
        frames=_frames(file, name, group),
        steps=int(attributes["num_samples"]),
        success=bool(attributes["success"]),
        instruction=str(attributes["instruction"]),
        task=json.loads(attributes["task"]),
        object_keys=tuple(json.loads(attributes["object_keys"])),
        seam=float(np.min(seam)) if len(seam) else None,
        bytes=_stored_bytes(group),
        common=common,
    )


def _frames(file: Path, name: str, group: Any) -> str:
    if "fingerprint/rgb" in group:
        return hashlib.sha256(group["fingerprint/rgb"][:].tobytes()).hexdigest()
    return f"{name} of {file}" if "rgb" in group["obs"] else ""


def _stored_bytes(group: Any) -> int:
    """What all datasets of a group take in the file."""
    total = 0

    def count(_: str, item: Any) -> None:
        nonlocal total
        if hasattr(item, "dtype"):
            total += item.id.get_storage_size()

    group.visititems(count)
    return total


def _one_environment(args: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The environment of robomimic's ``env_args``: the common one, or one that tells only the name where they differ."""
    if all(each == args[0] for each in args):
        return args[0]
    return {"env_name": args[0]["env_name"], "type": GYM_ENV_TYPE, "env_kwargs": {}}
