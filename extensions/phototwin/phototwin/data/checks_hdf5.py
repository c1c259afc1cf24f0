"""The checks of each demonstration of an HDF5 dataset; ``verify_hdf5`` has those of the file as a whole."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from phototwin.data import checks
from phototwin.data.fingerprint import HASH_BYTES, hash_frames
from phototwin.data.hdf5 import (
    CHUNK_FRAMES,
    CONTENT,
    JSON_ATTRIBUTES,
    PLAIN_ATTRIBUTES,
    RAW_NAMES,
    changes,
    read_episode,
)

Sentences = Iterator[str]
STILL_M = 1e-5
"""Where two copies of the same number may differ: not at all but for rounding."""


@dataclass(frozen=True)
class Demo:
    """A demonstration's group as the checks see it.

    Attributes:
        name: ``demo_3``.
        group: Its ``h5py.Group``.
    """

    name: str
    group: Any

    @cached_property
    def steps(self) -> int:
        """What its ``num_samples`` says."""
        return int(self.group.attrs["num_samples"])

    @cached_property
    def joint_names(self) -> list[str]:
        """Names of the columns of joint values."""
        return json.loads(self.group.attrs["joint_names"])

    @cached_property
    def action_names(self) -> list[str]:
        """Names of the columns of actions."""
        return json.loads(self.group.attrs["action_names"])

    @cached_property
    def object_keys(self) -> list[str]:
        """The objects whose poses are recorded."""
        return json.loads(self.group.attrs["object_keys"])

    @property
    def fps(self) -> float:
        """Frame rate [Hz]."""
        return float(self.group.attrs["fps"])

    def widths(self) -> dict[str, int | None]:
        """Columns of every dataset that must be there and has a row a step; None of those that have no columns."""
        joints, objects = len(self.joint_names), 7 * len(self.object_keys)
        seen = {"joint_pos": joints, "joint_vel": joints, "tcp_pose": 7, "object_poses": objects}
        robot = {"root_pose": 7, "root_velocity": 6, "joint_position": joints, "joint_velocity": joints}
        want: dict[str, int | None] = {
            f"{place}/{name}": width for place in ("obs", "next_obs") for name, width in seen.items()
        }
        if self.steps:
            want |= {f"states/articulation/robot/{name}": width for name, width in robot.items()}
            for key in self.object_keys:
                want |= {f"states/rigid_object/{key}/root_pose": 7, f"states/rigid_object/{key}/root_velocity": 6}
        told = {"executed": len(self.action_names)} if "executed" in self.group else {}
        return want | told | {"actions": len(self.action_names), "rewards": None, "dones": None}

    def floats(self) -> Iterator[tuple[str, np.ndarray]]:
        """Every dataset of floating-point numbers with its path, one after another."""
        paths: list[str] = []
        self.group.visit(paths.append)
        for path in paths:
            item = self.group[path]
            if hasattr(item, "dtype") and item.dtype.kind == "f":
                yield path, item[()]


def check_layout(demo: Demo) -> Sentences:
    """Everything is there, as long as ``num_samples`` and as wide as the names say."""
    missing = [name for name in (*PLAIN_ATTRIBUTES, *JSON_ATTRIBUTES, "num_samples") if name not in demo.group.attrs]
    if missing:
        yield f"attributes are missing: {', '.join(missing)}"
        return
    for path, width in demo.widths().items():
        if path not in demo.group:
            yield f"dataset {path} is missing"
            continue
        want = (demo.steps,) if width is None else (demo.steps, width)
        if demo.group[path].shape != want:
            yield f"{path} is {demo.group[path].shape}, expected {want}: num_samples is {demo.steps}"
        first = path.replace("states/", "initial_state/")
        if first != path and (first not in demo.group or demo.group[first].shape != (1, width)):
            yield f"{first} is missing or not (1, {width})"
    images = [(f"raw/{name}", f"fingerprint/{name}") for name in RAW_NAMES]
    rows = ("obs/rgb", "next_obs/rgb", "fingerprint/rgb", "quality/seam")
    for path in (*rows, *(path for pair in images for path in pair)):
        if path in demo.group and len(demo.group[path]) != demo.steps:
            yield f"{path} has {len(demo.group[path])} rows, expected {demo.steps}"
    if "obs/rgb" in demo.group:
        rgb = demo.group["obs/rgb"]
        if rgb.dtype != np.uint8 or rgb.ndim != 4 or rgb.shape[3] != 3:
            yield f"obs/rgb is {rgb.shape} {rgb.dtype}, expected (T, H, W, 3) uint8"


def check_words(demo: Demo) -> Sentences:
    """Language, task and provenance are there."""
    a = demo.group.attrs
    yield from checks.wrong_words(a["instruction"], json.loads(a["task"]), json.loads(a["provenance"]))


def check_finite(demo: Demo) -> Sentences:
    """No NaN, no infinity."""
    for path, values in demo.floats():
        yield from checks.not_finite(path, values)


def check_units(demo: Demo) -> Sentences:
    """Radians, metres and seconds."""
    actions, joints = demo.group["actions"][:], demo.group["obs/joint_pos"][:]
    yield from checks.beyond_turn("actions", actions, demo.action_names)
    yield from checks.beyond_turn("obs/joint_pos", joints, demo.joint_names)
    yield from checks.commands_off(actions, demo.action_names, joints, demo.joint_names)
    for path in ("obs/tcp_pose", "obs/object_poses"):
        yield from checks.far_away(path, demo.group[path][:])
    yield from checks.wrong_rate(joints, demo.group["obs/joint_vel"][:], demo.fps)


def check_rotations(demo: Demo) -> Sentences:
    """Quaternions have norm 1."""
    for path, values in demo.floats():
        if path.endswith(("tcp_pose", "object_poses", "root_pose")):
            yield from checks.not_unit(path, values)


def check_camera(demo: Demo) -> Sentences:
    """The camera can be one."""
    size = demo.group["obs/rgb"].shape[1:3] if "obs/rgb" in demo.group else None
    yield from checks.wrong_camera(demo.group["camera/K_px"][()], demo.group["camera/T_world_camera"][()], size)


def check_success(demo: Demo) -> Sentences:
    """Success flag, failure class, rewards and dones tell the same."""
    success, failure = bool(demo.group.attrs["success"]), str(demo.group.attrs["failure"])
    if success == bool(failure):
        yield f"success is {success} but failure is '{failure}': exactly one of them must hold"
    last = np.arange(demo.steps) == demo.steps - 1
    for name, want in (("rewards", last & success), ("dones", last)):
        if not np.array_equal(demo.group[name][:], want.astype(float)):
            yield f"{name} must be {int(want.any())} in the last row and 0 before, as success is {success}"


def check_time(demo: Demo) -> Sentences:
    """Row t of ``next_obs`` and ``states`` is row t + 1 of ``obs``; ``initial_state`` is row 0."""
    if not demo.steps:
        return
    g = demo.group
    pairs = [
        (f"next_obs/{name}", g[f"obs/{name}"][:]) for name in ("joint_pos", "joint_vel", "tcp_pose", "object_poses")
    ]
    pairs += [("states/articulation/robot/joint_position", g["obs/joint_pos"][:])]
    pairs += [("states/articulation/robot/joint_velocity", g["obs/joint_vel"][:])]
    poses = g["obs/object_poses"][:]
    for i, key in enumerate(demo.object_keys):
        pairs.append((f"states/rigid_object/{key}/root_pose", poses[:, 7 * i : 7 * i + 7]))
    for path, before in pairs:
        off = np.flatnonzero((np.abs(g[path][:-1] - before[1:]) > STILL_M).any(1))
        if len(off):
            yield f"{path} row {off[0]} is not what obs has in row {off[0] + 1}"
        first = path.replace("states/", "initial_state/")
        if first != path and (np.abs(g[first][0] - before[0]) > STILL_M).any():
            yield f"{first} is not what obs has in row 0"


def check_jumps(demo: Demo) -> Sentences:
    """Nothing is suddenly somewhere else."""
    if not demo.steps:
        return
    joints, poses = (
        np.concatenate([demo.group[f"obs/{name}"][:], demo.group[f"next_obs/{name}"][-1:]])
        for name in ("joint_pos", "object_poses")
    )
    yield from checks.jumps("obs/joint_pos", joints, demo.fps, checks.JOINT_SPEED, "rad/s")
    for i, key in enumerate(demo.object_keys):
        item = f"rigid_object/{key}/root_velocity"
        # That after the last action was not recorded: the row repeats the one before.
        speeds = np.concatenate([demo.group[f"initial_state/{item}"][:], demo.group[f"states/{item}"][:]])[:, :3]
        yield from checks.object_jumps(key, poses[:, 7 * i : 7 * i + 3], speeds, demo.fps)


def check_digest(demo: Demo) -> Sentences:
    """Everything but images is what was recorded, bit by bit."""
    wrong = changes(demo.group, read_episode(demo.group, frames=False), frames=False)
    if wrong:
        yield f"not what was recorded, by their digests: {', '.join(wrong)}"
    if CONTENT not in demo.group.attrs:
        yield f"{CONTENT} is missing: 'dataset.py convert --to hdf5' records what older releases did not"


def check_frames(demo: Demo) -> Sentences:
    """Every frame is the recorded one, in its place."""
    if "next_obs/rgb" in demo.group and "obs/rgb" in demo.group:
        before, after = demo.group["obs/rgb"], demo.group["next_obs/rgb"]
        for t in range(0, len(before), CHUNK_FRAMES):
            later = before[t + 1 : t + 1 + CHUNK_FRAMES]
            want = np.concatenate([later, before[-1:]]) if t + CHUNK_FRAMES >= len(before) else later
            off = np.flatnonzero((after[t : t + CHUNK_FRAMES] != want).any((1, 2, 3)))
            if len(off):
                yield f"next_obs/rgb row {t + off[0]} is not what obs/rgb has one row later (the last one again)"
                break
    for path in ("obs/rgb", *(f"raw/{name}" for name in RAW_NAMES)):
        mark = f"fingerprint/{path.partition('/')[2]}"
        if path not in demo.group and mark not in demo.group:
            continue
        if path not in demo.group or mark not in demo.group:
            gone = path if path not in demo.group else mark
            yield f"{gone} is missing: 'dataset.py convert --to hdf5' records fingerprints where there were none"
            continue
        frames, want = demo.group[path], demo.group[mark][:]
        if want.shape != (len(frames), HASH_BYTES):
            yield f"{mark} is {want.shape}, expected {(len(frames), HASH_BYTES)}"
            continue
        seen = [hash_frames(frames[t : t + CHUNK_FRAMES]) for t in range(0, len(frames), CHUNK_FRAMES)]
        yield from _other_frames(path, np.concatenate([*seen, want[:0]]), want)


def _other_frames(path: str, seen: np.ndarray, want: np.ndarray) -> Sentences:
    off = np.flatnonzero((seen != want).any(1))
    if not len(off):
        return
    places = {row.tobytes(): t for t, row in reversed(list(enumerate(want)))}
    t = int(off[0])
    place = places.get(seen[t].tobytes())
    what = "shows what was never recorded" if place is None else f"shows what was recorded in row {place}"
    yield f"{len(off)} frames of {path} are not the recorded ones; row {t} {what}"


def check_labels(demo: Demo) -> Sentences:
    """Every pixel is an object's, the robot's or nobody's."""
    if "raw/labels" not in demo.group:
        return
    labels, most = demo.group["raw/labels"], len(demo.object_keys)
    for t in range(0, len(labels), CHUNK_FRAMES):
        found = list(checks.strange_labels("raw/labels", labels[t : t + CHUNK_FRAMES], most, t))
        if found:
            yield from found
            return


EPISODE_CHECKS: dict[str, Callable[[Demo], Sentences]] = {
    "layout": check_layout,
    "words": check_words,
    "finite": check_finite,
    "units": check_units,
    "rotations": check_rotations,
    "camera": check_camera,
    "success": check_success,
    "time": check_time,
    "jumps": check_jumps,
    "digest": check_digest,
    "frames": check_frames,
    "labels": check_labels,
}
"""In this order, on every demonstration of an HDF5 file."""
