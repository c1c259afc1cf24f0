"""Episodes -> an RLDS dataset, by the sequential writer of TensorFlow Datasets.

One example an episode: ``steps``, a dataset of its steps, and ``episode_metadata``. ``tfds.builder_from_directory(folder).as_dataset(split="train")``
reads it without any code of ours. Frames are PNG, so that everything comes back bit by bit.
Source: Ramos et al. 2021 (RLDS), arXiv 2111.02767.
"""

from __future__ import annotations

import importlib.util
import io
import itertools
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from phototwin.data.hdf5 import state_sha256
from phototwin.data.lerobot import slot_poses
from phototwin.episode import Episode
from phototwin.errors import InputError
from phototwin.images import png_bytes

NAME = "phototwin"
VERSION = "1.0.0"
SPLIT = "train"
PACKAGES = ("tensorflow", "tensorflow_datasets")
EPISODES_A_SHARD = 16
"""About 40 MB at 128 px and 110 steps; whole shards are what readers shuffle and share out."""


def need_rlds() -> None:
    """Check that what writes RLDS is installed.

    Raises:
        InputError: It is not; the message says how to get it.
    """
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise InputError(
            f"RLDS needs {' and '.join(missing)}, which this environment does not have: install the extra with "
            "uv pip install --python .venv/bin/python -e '.[rlds]' (1.5 GB), or convert to lerobot or hdf5."
        )


def write_rlds(episodes: Iterable[Episode], folder: Path, slots: int = 0) -> None:
    """Write an RLDS dataset of ``episodes`` into ``folder``, an empty folder; one episode is in memory at a time.

    A step has ``observation`` (``image`` PNG, ``state`` joint positions, ``tcp_pose``), ``action``, ``reward``, ``discount`` (0 at a terminal step),
    ``is_first``, ``is_last``, ``is_terminal`` (the last step of a success), ``language_instruction`` and ``object_poses``. Step t holds what was seen
    before action t; nothing is there after the last action.

    Args:
        episodes: Episodes with frames, all of one robot and frame size.
        folder: Where ``dataset_info.json``, ``features.json`` and the TFRecord files go.
        slots: Objects that ``object_poses`` has room for where scenes differ, as in ``write_lerobot``.

    Raises:
        InputError: There are no episodes, one has no frames, or TensorFlow Datasets is not installed.
        OSError: The folder cannot be written.
    """
    need_rlds()
    remaining = iter(episodes)
    first = next(remaining, None)
    if first is None:
        raise InputError("There are no demonstrations to make an RLDS dataset of.")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # read at import: it would tell what processor it runs on
    import tensorflow as tf
    import tensorflow_datasets as tfds  # pyright: ignore[reportMissingImports]

    try:
        writer = _writer(tfds, first, folder, slots)
        writer.initialize_splits([SPLIT])
        for episode in itertools.chain([first], remaining):
            writer.add_examples({SPLIT: [_example(episode, slots)]})
        writer.close_all()
    except tf.errors.OpError as error:
        raise OSError(error.message) from error


def _writer(tfds: Any, episode: Episode, folder: Path, slots: int) -> Any:
    identity = tfds.core.dataset_builder.dataset_info.DatasetIdentity(
        name=NAME, version=tfds.core.Version(VERSION), data_dir=str(folder), module_name=__name__
    )
    info = tfds.core.DatasetInfo(
        builder=identity,
        description="Demonstrations of a robot in the twin of a photo, composited into it.",
        features=_features(tfds, episode, slots),
        disable_shuffling=True,  # the order of the demonstrations stays
    )
    return tfds.core.SequentialWriter(info, EPISODES_A_SHARD)


def _features(tfds: Any, episode: Episode, slots: int) -> Any:
    def vector(width: int, doc: str) -> Any:
        return tfds.features.Tensor(shape=(width,), dtype=np.float32, doc=doc)

    joints, actions = ", ".join(episode.joint_names), ", ".join(episode.action_names)
    step = {
        "observation": {
            "image": tfds.features.Image(shape=episode.rgb.shape[1:], encoding_format="png", doc="Robot and objects in the photo."),
            "state": vector(len(episode.joint_names), f"Joint positions [rad, m]: {joints}."),
            "tcp_pose": vector(7, "Between the finger pads, world: x y z [m], qx qy qz qw."),
        },
        "object_poses": vector(slot_poses(episode, slots).shape[1], "World, 7 numbers an object: x y z [m], qx qy qz qw."),
        "action": vector(len(episode.action_names), f"{actions}."),
        "reward": tfds.features.Scalar(np.float32, doc="1 at the last step of a success."),
        "discount": tfds.features.Scalar(np.float32, doc="0 at a terminal step, else 1."),
        "is_first": np.bool_,
        "is_last": np.bool_,
        "is_terminal": tfds.features.Scalar(np.bool_, doc="The task is done after this step."),
        "language_instruction": tfds.features.Text(),
    }  # fmt: skip
    about = {name: np.int64 for name in ("seed", "attempt", "task_index")}
    texts = {name: tfds.features.Text() for name in ("robot", "state_sha256")}
    json_texts = {
        name: tfds.features.Text(doc="JSON") for name in ("task", "object_keys", "joint_names", "action_names", "provenance")
    }  # fmt: skip
    exact = {"dtype": np.float64, "encoding": "bytes"}  # TFRecord's own numbers have 32 bits
    arrays = {
        "K_px": tfds.features.Tensor(shape=(3, 3), **exact, doc="Of the frames [px]."),
        "T_world_camera": tfds.features.Tensor(shape=(4, 4), **exact, doc="Of the frames, OpenCV axes."),
        "fps": tfds.features.Tensor(shape=(), **exact, doc="Control and frame rate [Hz]."),
        "base_pose": vector(7, "The robot's base, world."),
    }
    metadata = {**about, **texts, **json_texts, **arrays, "success": np.bool_}
    return tfds.features.FeaturesDict({"steps": tfds.features.Dataset(step), "episode_metadata": metadata})


def _example(episode: Episode, slots: int) -> dict[str, Any]:
    steps, frames = len(episode.action), len(episode.rgb)
    if not steps or frames != steps:
        raise InputError(f"Attempt {episode.attempt} has {steps} steps and {frames} frames: nothing to show.")
    return {"steps": list(_steps(episode, slots)), "episode_metadata": _metadata(episode)}


def _steps(episode: Episode, slots: int) -> Iterator[dict[str, Any]]:
    poses, last = slot_poses(episode, slots), len(episode.action) - 1
    for t in range(last + 1):
        done = t == last and episode.success
        yield {
            "observation": {
                "image": io.BytesIO(png_bytes(episode.rgb[t])),  # encoded here: TensorFlow takes four times as long
                "state": episode.joint_pos[t],
                "tcp_pose": episode.tcp_pose_w[t],
            },
            "object_poses": poses[t],
            "action": episode.action[t],
            "reward": np.float32(done),
            "discount": np.float32(not done),
            "is_first": t == 0,
            "is_last": t == last,
            "is_terminal": done,
            "language_instruction": episode.instruction,
        }


def _metadata(episode: Episode) -> dict[str, Any]:
    plain = ("seed", "attempt", "task_index", "robot", "success", "fps", "K_px", "T_world_camera")
    told = ("task", "object_keys", "joint_names", "action_names", "provenance")
    return {
        **{name: getattr(episode, name) for name in plain},
        **{name: json.dumps(getattr(episode, name), default=str) for name in told},
        "base_pose": episode.base_pose_w,
        "state_sha256": state_sha256(episode),
    }
