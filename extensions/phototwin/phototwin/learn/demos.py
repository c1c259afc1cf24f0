"""A LeRobot dataset -> demonstrations in memory, ready to be learned from: every frame once, shrunk, in the order of the dataset."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from phototwin.build.distractors import is_distractor_key
from phototwin.data.lerobot import FACTS_FILE, IMAGE_KEY
from phototwin.errors import InputError
from phototwin.frames import invert, make_T, matrix_from_quat_xyzw, project, transform
from phototwin.learn.config import Shown

STATE, ACTION, PADDED = "observation.state", "action", "action_is_pad"
"""Names of LeRobot's features, and of the mask of actions that lie behind an episode's end."""
PLACES, MARKS = "places", "marks"
"""Names of ``Demos.places`` and ``Demos.marks`` in a batch."""
MARKS_B = np.array([[x, y, 0.0] for x in (0.3, 0.5, 0.7) for y in (-0.25, 0.0, 0.25)])
"""Points before the robot, in the frame of its base [m]: where they are in a picture tells from where it was taken."""
ROUND = "round"
"""In the provenance of a takeover: the number of its round."""
OUTSIDE = 1.5
"""What is farther out of the frame counts as being there."""


@dataclass(frozen=True, eq=False)
class Demos:
    """Demonstrations of E episodes, N frames in all.

    Attributes:
        rgb: (N, h, w, 3) uint8.
        state: (N, S) float32, ``observation.state``: joint positions [rad, m].
        action: (N, A) float32, see ``action_names``.
        places: (N, 2 + 2 K) float32, where in the frame the tool is, and then the origins of the scene's objects, hidden or not, those of the task
            first: -1 to 1 from left to right and from top to bottom, NaN where a scene has fewer; what a policy may learn to see, and never what it
            is shown.
        marks: (N, 2 M) float32, where ``MARKS_B`` are, in the same units, in the frame or not; to be learned like ``places``.
        K: (E, 3, 3), the camera's, from directions to these units.
        starts: (E + 1,) int64, first frame of each episode, and N.
        shown: What each episode is of.
        whole: (E,) bool, whether each is a whole demonstration; takeovers of rounds, which begin later, are not.
        fps: Control and frame rate [Hz].
        robot: Short name of the robot.
        action_names: A names.
        state_names: Names of the joints in ``observation.state``.
        resolution: Width and height that the frames were recorded with [px].
    """

    rgb: np.ndarray
    state: np.ndarray
    action: np.ndarray
    places: np.ndarray
    marks: np.ndarray
    K: np.ndarray
    starts: np.ndarray
    shown: tuple[Shown, ...]
    whole: np.ndarray
    fps: int
    robot: str
    action_names: tuple[str, ...]
    state_names: tuple[str, ...]
    resolution: tuple[int, int]

    def __len__(self) -> int:
        """Episodes."""
        return len(self.starts) - 1


def load_demos(folder: Path, image_px: int, limit: int | None = None) -> Demos:
    """The demonstrations of a LeRobot dataset, its first ``limit`` episodes.

    Args:
        folder: The dataset's folder, or that of a run of generate.py, which holds it in ``demos/lerobot``.
        image_px: Height and width to which the frames are shrunk [px].
        limit: So many episodes; all when None.

    Raises:
        InputError: There is no such dataset, it has fewer episodes, or its videos hold other frames than its tables say.
    """
    root = find_dataset(folder)
    meta, table = _tables(root)
    count = meta.total_episodes if limit is None else limit
    if not 0 < count <= meta.total_episodes:
        raise InputError(f"'{root}' has {meta.total_episodes} episodes, asked for were {count}.")
    height, width = meta.features[IMAGE_KEY]["shape"][:2]
    starts = np.append([row["dataset_from_index"] for row in meta.episodes], meta.total_frames)[: count + 1]
    frames = int(starts[-1])
    rgb = np.empty((frames, image_px, image_px, 3), np.uint8)
    read = 0
    for frame in itertools.islice(_frames(root, meta, image_px), frames):
        rgb[read] = frame
        read += 1
    if read != frames:
        raise InputError(
            f"The videos of '{root}' hold {read} frames, its tables name {frames}: run scripts/dataset.py verify."
        )
    values = {name: np.stack(table[name][:frames]).astype(np.float32) for name in (STATE, ACTION)}
    tasks = {int(row.task_index): str(name) for name, row in meta.tasks.iterrows()}
    told = [tasks[int(table["task_index"][int(start)])] for start in starts[:-1]]
    places, marks, K, shown, whole = _seen(root, table[:frames], starts, (width, height), told)
    return Demos(
        rgb,
        values[STATE],
        values[ACTION],
        places,
        marks,
        K,
        starts,
        shown,
        whole,
        meta.fps,
        str(meta.robot_type),
        tuple(meta.features[ACTION]["names"]),
        tuple(meta.features[STATE]["names"]),
        (width, height),
    )


def _seen(
    root: Path, table: Any, starts: np.ndarray, resolution: tuple[int, int], told: list[str]
) -> tuple[np.ndarray, np.ndarray, np.ndarray, tuple[Shown, ...], np.ndarray]:
    """``Demos.places``, ``Demos.marks``, ``Demos.K``, ``Demos.shown`` and ``Demos.whole`` of a dataset's rows, by the facts of each episode."""
    tool = np.stack(table["observation.tcp_pose"])[:, None, :3]
    objects = np.stack(table["object_poses"]) if "object_poses" in table else np.empty((len(table), 0))
    objects = objects.reshape(len(table), -1, 7)
    points_w = np.concatenate([tool, np.where(objects[..., 3:].any(-1, keepdims=True), objects[..., :3], np.nan)], 1)
    places = np.empty((*points_w.shape[:2], 2), np.float32)
    marks = np.empty((len(table), len(MARKS_B), 2), np.float32)
    K, shown, whole = np.empty((len(starts) - 1, 3, 3)), [], np.ones(len(starts) - 1, bool)
    units = np.array([[2 / resolution[0], 0, -1], [0, 2 / resolution[1], -1], [0, 0, 1]])
    try:
        facts = json.loads((root / FACTS_FILE).read_text())
        for i, (row, begin, end) in enumerate(zip(facts, starts, starts[1:], strict=False)):
            T_camera_world = invert(np.array(row["T_world_camera"]))
            base = np.array(row["base_pose_w"])
            T_camera_base = T_camera_world @ make_T(matrix_from_quat_xyzw(base[3:]), base[:3])
            K[i] = units @ np.array(row["K_px"])
            order = task_first(row)
            points_w[begin:end, 1 : 1 + len(order)] = points_w[begin:end, 1:][:, order]
            places[begin:end] = project(K[i], transform(T_camera_world, points_w[begin:end].astype(np.float64)))
            marks[begin:end] = project(K[i], transform(T_camera_base, MARKS_B))
            shown.append(_shown(row, told[i]))
            whole[i] = ROUND not in row.get("provenance", {})
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"'{root / FACTS_FILE}' does not say from where the episodes were seen ({error}): write the dataset again, scripts/dataset.py convert."
        ) from error
    places = np.clip(places, -OUTSIDE, OUTSIDE)
    return places.reshape(len(places), -1), marks.reshape(len(marks), -1), K, tuple(shown), whole


def task_first(row: dict[str, Any]) -> list[int]:
    """The objects of the photo in an episode's scene, by their numbers there: those of its task in the order of its steps, then the others.

    So that what is taken has one place among those of demonstrations on several twins.

    Args:
        row: The episode's facts beside LeRobot's tables.
    """
    keys = [key for key in row.get("object_keys", ()) if not is_distractor_key(key)]
    task = row.get("task", {})
    steps = json.loads(task["steps"]) if "steps" in task else [task]
    named = [step.get(name) for step in steps for name in ("object", "target")]
    wanted = dict.fromkeys(key for key in named if key in keys)
    return [keys.index(key) for key in (*wanted, *(key for key in keys if key not in wanted))]


def _shown(row: dict[str, Any], told: str) -> Shown:
    """What an episode is of, of the facts beside LeRobot's tables."""
    task, twin = json.dumps(row.get("task", {}), sort_keys=True), str(row.get("provenance", {}).get("twin", ""))
    return Shown(told, task, twin, int(row.get("seed", -1)), tuple(map(float, row["base_pose_w"])))


def find_dataset(folder: Path) -> Path:
    """The folder of the LeRobot dataset that is meant by ``folder``.

    Raises:
        InputError: There is none.
    """
    for root in (Path(folder), Path(folder) / "demos" / "lerobot", Path(folder) / "lerobot"):
        if (root / "meta" / "info.json").is_file():
            return root
    raise InputError(
        f"There is no LeRobot dataset in '{folder}': give the folder of a run of generate.py, or one with meta/info.json."
    )


def _tables(root: Path) -> tuple[Any, Any]:
    import os

    os.environ["HF_HUB_OFFLINE"] = "1"  # nothing may be looked up on the network
    import pandas
    from lerobot.datasets.dataset_metadata import LeRobotDatasetMetadata

    meta = LeRobotDatasetMetadata("phototwin", root=root)
    if IMAGE_KEY not in meta.features:
        raise InputError(f"'{root}' has no '{IMAGE_KEY}': policies learn from what the photo's camera sees.")
    table = pandas.concat([pandas.read_parquet(file) for file in sorted(root.glob("data/*/*.parquet"))])
    return meta, table.sort_values("index", ignore_index=True)


def _frames(root: Path, meta: Any, image_px: int) -> Iterator[np.ndarray]:
    """Every frame in the order of the dataset: an episode's lie one after another in its video file, and episodes in theirs."""
    import av
    import cv2

    key, seen = f"videos/{IMAGE_KEY}", set()
    for row in meta.episodes:
        place = (row[f"{key}/chunk_index"], row[f"{key}/file_index"])
        if place in seen:
            continue
        seen.add(place)
        file = root / meta.video_path.format(video_key=IMAGE_KEY, chunk_index=place[0], file_index=place[1])
        with av.open(str(file)) as video:
            for frame in video.decode(video=0):
                yield cv2.resize(frame.to_ndarray(format="rgb24"), (image_px, image_px), interpolation=cv2.INTER_AREA)


def _refuse_mixed(parts: list[Demos]) -> None:
    for part in parts[1:]:
        for name in ("robot", "fps", "resolution", "state_names", "action_names"):
            mine, theirs = getattr(parts[0], name), getattr(part, name)
            if mine != theirs:
                raise InputError(
                    f"Demonstrations cannot be joined: {name.replace('_', ' ')} is {mine} of the first dataset and {theirs} of another."
                )


def join_demos(parts: list[Demos]) -> Demos:
    """Demonstrations of one robot, frame size and rate as one; objects beyond those of the poorest scene are left out.

    Args:
        parts: What is joined; the list is empty afterwards, so that frames that nobody else holds are not in memory twice.

    Raises:
        InputError: They do not go together.
    """
    if len(parts) == 1:
        return parts.pop()
    _refuse_mixed(parts)
    first = parts[0]
    places = min(part.places.shape[1] for part in parts)
    counts = np.cumsum([0, *(part.starts[-1] for part in parts)])
    starts = np.concatenate([part.starts[:-1] + n for part, n in zip(parts, counts, strict=False)])
    joined = replace(
        first,
        rgb=np.empty((counts[-1], *first.rgb.shape[1:]), np.uint8),
        state=np.concatenate([part.state for part in parts]),
        action=np.concatenate([part.action for part in parts]),
        places=np.concatenate([part.places[:, :places] for part in parts]),
        marks=np.concatenate([part.marks for part in parts]),
        K=np.concatenate([part.K for part in parts]),
        starts=np.append(starts, counts[-1]),
        shown=tuple(each for part in parts for each in part.shown),
        whole=np.concatenate([part.whole for part in parts]),
    )
    del first
    for begin, end in itertools.pairwise(counts):
        joined.rgb[begin:end] = parts.pop(0).rgb
    return joined


def chunk_rows(demos: Demos, frames: np.ndarray, chunk: int) -> tuple[np.ndarray, np.ndarray]:
    """Frames whose actions follow each of ``frames``, (B, chunk), held at the episode's last; and which of them lie behind it."""
    ends = demos.starts[np.searchsorted(demos.starts, frames, side="right")]
    rows = frames[:, None] + np.arange(chunk)
    return np.minimum(rows, ends[:, None] - 1), rows >= ends[:, None]
