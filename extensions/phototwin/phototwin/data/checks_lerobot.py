"""The checks of each episode of a LeRobot dataset; ``verify_lerobot`` has those of its files."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from phototwin.data import checks
from phototwin.data.fingerprint import compare_means, hash_rows
from phototwin.data.lerobot import DEPTH_KEY, LABELS_KEY

Sentences = Iterator[str]
TIME_S = 1e-3
"""How far a timestamp may be from its frame's time: float32 is good to 1e-4 s after an hour."""
POSES = ("observation.tcp_pose", "object_poses")


@dataclass(frozen=True)
class Rows:
    """An episode as the checks see it.

    Attributes:
        index: Its index in the dataset.
        entry: Its row of ``meta/episodes``: ``length``, ``tasks``, where its rows and frames are.
        columns: Its rows of the data files by feature, (T,), (T, D), or of an image (T, H, W, 1).
        facts: Its entry in ``meta/phototwin.json``.
        info: ``meta/info.json``.
        tasks: The sentence of each task index.
        means: Block means of its decoded frames, (T, B); None where its video cannot be read.
        recorded: The recorded ones; None where none were.
        video_key: The feature that is a video.
    """

    index: int
    entry: dict[str, Any]
    columns: dict[str, np.ndarray]
    facts: dict[str, Any]
    info: dict[str, Any]
    tasks: dict[int, str]
    means: np.ndarray | None
    recorded: np.ndarray | None
    video_key: str

    @property
    def fps(self) -> float:
        """Frame rate [Hz]."""
        return float(self.info["fps"])

    @property
    def length(self) -> int:
        """How many rows it has by ``meta/episodes``."""
        return int(self.entry["length"])

    def names(self, feature: str) -> list[str]:
        """What the columns of a feature are."""
        return list(self.info["features"][feature]["names"])

    def vectors(self) -> dict[str, np.ndarray]:
        """The columns that are float vectors."""
        return {name: value for name, value in self.columns.items() if value.dtype.kind == "f" and value.ndim == 2}


def check_layout(rows: Rows) -> Sentences:
    """As many rows as the episode is long, as wide as their names say."""
    for name, value in rows.columns.items():
        shape = tuple(rows.info["features"][name]["shape"])
        want = (rows.length,) if shape == (1,) else (rows.length, *shape)
        if value.shape != want:
            yield f"{name} is {value.shape}, expected {want}"


def check_index(rows: Rows) -> Sentences:
    """Numbers of rows, frames and episode count on."""
    first = int(rows.entry["dataset_from_index"])
    if int(rows.entry["dataset_to_index"]) - first != rows.length:
        yield f"dataset_to_index - dataset_from_index is not its length, {rows.length}"
    wanted = {
        "index": np.arange(first, first + rows.length),
        "frame_index": np.arange(rows.length),
        "episode_index": np.full(rows.length, rows.index),
    }
    for name, want in wanted.items():
        off = np.flatnonzero(rows.columns[name] != want)
        if len(off):
            yield f"{name} is {rows.columns[name][off[0]]} in row {off[0]}, expected {want[off[0]]} ({len(off)} rows are off)"


def check_timestamps(rows: Rows) -> Sentences:
    """Row t is at t / fps; the episode's part of the video is as long as it is."""
    off = np.flatnonzero(np.abs(rows.columns["timestamp"] - np.arange(rows.length) / rows.fps) > TIME_S)
    if len(off):
        t = off[0]
        yield f"timestamp is {rows.columns['timestamp'][t]:.4f} s in row {t}, expected {t / rows.fps:.4f} at {rows.fps:g} frames/s"
    begin, end = (float(rows.entry[f"videos/{rows.video_key}/{name}_timestamp"]) for name in ("from", "to"))
    if abs(end - begin - rows.length / rows.fps) > TIME_S:
        yield f"its part of the video lasts {end - begin:.4f} s, expected {rows.length / rows.fps:.4f} s for {rows.length} frames"
    if abs(begin * rows.fps - round(begin * rows.fps)) > TIME_S * rows.fps:
        yield f"its part of the video begins at {begin:.4f} s, which is between two frames"


def check_task(rows: Rows) -> Sentences:
    """All rows name the task that the episode was told."""
    numbers = sorted(set(rows.columns["task_index"].tolist()))
    sentences = [rows.tasks.get(number) for number in numbers]
    told = rows.facts["instruction"]
    if sentences != [told]:
        yield f"task_index {numbers} stands for {sentences}, but it was told '{told}'"
    if list(rows.entry["tasks"]) != [told]:
        yield f"meta/episodes says its tasks are {list(rows.entry['tasks'])}, but it was told '{told}'"


def check_words(rows: Rows) -> Sentences:
    """Language, task and provenance are there."""
    yield from checks.wrong_words(rows.facts.get("instruction"), rows.facts.get("task"), rows.facts.get("provenance"))


def check_finite(rows: Rows) -> Sentences:
    """No NaN, no infinity."""
    for name, value in rows.columns.items():
        if value.dtype.kind == "f":
            yield from checks.not_finite(name, value)


def _poses(rows: Rows) -> list[str]:
    """Those of ``POSES`` that there are: a scene without objects has no poses of them."""
    return [name for name in POSES if name in rows.columns]


def check_units(rows: Rows) -> Sentences:
    """Radians and metres."""
    actions, joints = rows.columns["action"], rows.columns["observation.state"]
    action_names, joint_names = rows.names("action"), rows.names("observation.state")
    yield from checks.beyond_turn("action", actions, action_names)
    yield from checks.beyond_turn("observation.state", joints, joint_names)
    yield from checks.commands_off(actions, action_names, joints, joint_names)
    for name in _poses(rows):
        yield from checks.far_away(name, rows.columns[name])


def check_rotations(rows: Rows) -> Sentences:
    """Quaternions have norm 1; a slot without an object has zeros."""
    for name in _poses(rows):
        yield from checks.not_unit(name, rows.columns[name], may_be_empty=name == "object_poses")


def check_camera(rows: Rows) -> Sentences:
    """The camera can be one."""
    height, width = rows.info["features"][rows.video_key]["shape"][:2]
    yield from checks.wrong_camera(rows.facts["K_px"], rows.facts["T_world_camera"], (height, width))


def check_success(rows: Rows) -> Sentences:
    """Only what succeeded is in a LeRobot dataset."""
    if rows.facts.get("success") is not True:
        yield f"success is {rows.facts.get('success')}, expected true"


def check_jumps(rows: Rows) -> Sentences:
    """Nothing is suddenly somewhere else."""
    yield from checks.jumps(
        "observation.state", rows.columns["observation.state"], rows.fps, checks.JOINT_SPEED, "rad/s"
    )
    poses = rows.columns.get("object_poses", np.empty((0, 0)))
    for i in range(poses.shape[1] // 7):
        name = f"object_poses of pose {i}"
        yield from checks.jumps(name, poses[:, 7 * i : 7 * i + 3], rows.fps, checks.OBJECT_SPEED, "m/s")


def check_digest(rows: Rows) -> Sentences:
    """The rows are the recorded ones bit by bit."""
    vectors = rows.vectors()
    if "rows_sha256" not in rows.facts:
        yield "meta/phototwin.json has no rows_sha256: 'dataset.py convert --to lerobot' records it"
    elif hash_rows(vectors[name] for name in sorted(vectors)) != rows.facts["rows_sha256"]:
        yield "states or actions are not the recorded ones: their digest is not rows_sha256 of meta/phototwin.json"
    truth = sorted({DEPTH_KEY, LABELS_KEY} & rows.columns.keys())
    if truth and hash_rows(rows.columns[name] for name in truth) != rows.facts.get("truth_sha256"):
        yield "depth or labels are not the recorded ones: their digest is not truth_sha256 of meta/phototwin.json"


def check_frames(rows: Rows) -> Sentences:
    """Every decoded frame is the recorded one, in its place, as far as the codec lets one see."""
    if rows.recorded is None:
        yield "no fingerprints were recorded in meta/phototwin_frames.npz: 'dataset.py convert --to lerobot' records them"
    elif rows.means is not None:
        yield from compare_means(rows.recorded, rows.means)


def check_labels(rows: Rows) -> Sentences:
    """Every pixel is an object's, the robot's or nobody's."""
    if LABELS_KEY in rows.columns:
        yield from checks.strange_labels(LABELS_KEY, rows.columns[LABELS_KEY], len(rows.facts["object_keys"]))


EPISODE_CHECKS: dict[str, Callable[[Rows], Sentences]] = {
    "layout": check_layout,
    "index": check_index,
    "timestamps": check_timestamps,
    "task": check_task,
    "words": check_words,
    "finite": check_finite,
    "units": check_units,
    "rotations": check_rotations,
    "camera": check_camera,
    "success": check_success,
    "jumps": check_jumps,
    "digest": check_digest,
    "frames": check_frames,
    "labels": check_labels,
}
"""In this order, on every episode of a LeRobot dataset."""
