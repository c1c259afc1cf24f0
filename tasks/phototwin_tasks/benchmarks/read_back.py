"""Real clients read what a run wrote: the asset validator, MuJoCo, robomimic, LeRobot."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from phototwin.scene import load_scene
from phototwin_tasks.benchmarks import Measure

REST_S = 2.0


def measure_read_back(scene: str, twin: Path, demos: Path | None, scratch: Path) -> Iterator[Measure]:
    """Issues of the stage, drift in MuJoCo's C engine, and what the dataset classes count.

    Args:
        scene: Name in the table.
        twin: Folder of the twin.
        demos: Folder of the datasets, or None.
        scratch: Folder for the exported MJCF.
    """
    from phototwin.stage.validate import validate_stage

    yield Measure("asset validator issues", scene, len(validate_stage(twin / "twin.usda")), "", "== 0")
    yield Measure("drift in MuJoCo in 2 s", scene, 1000 * mujoco_drift(twin, scratch), "mm", "< 5")
    if demos:
        steps, read = count_steps(demos / "episodes.hdf5"), lerobot_steps(demos / "lerobot")
        yield Measure("robomimic reads", scene, robomimic_steps(demos / "episodes.hdf5") / steps, "of steps", "== 1")
        yield Measure("LeRobot reads", scene, read / steps, "of steps", "== 1")


def mujoco_drift(twin: Path, scratch: Path) -> float:
    """How far the objects of the exported MJCF move in ``REST_S`` seconds, the furthest of them [m]."""
    import mujoco

    from phototwin.stage.mjcf import export_mjcf

    scene = load_scene(twin)
    model = mujoco.MjModel.from_xml_path(str(export_mjcf(scene, scratch / f"{scene.name}.xml")))
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    bodies = [model.body(item.key).id for item in scene.objects]
    start = data.xpos[bodies].copy()
    while data.time < REST_S:
        mujoco.mj_step(model, data)
    return float(np.linalg.norm(data.xpos[bodies] - start, axis=1).max())


def count_steps(file: Path) -> int:
    """Steps of all demonstrations in an episodes.hdf5."""
    import h5py

    with h5py.File(file) as stream:
        return sum(len(demo["actions"]) for demo in stream["data"].values())  # pyright: ignore[reportIndexIssue]


def robomimic_steps(file: Path) -> int:
    """Steps that robomimic's sequence dataset serves."""
    import robomimic.utils.obs_utils as obs_utils
    from robomimic.utils.dataset import SequenceDataset

    specs = {"obs": {"low_dim": ["joint_pos", "tcp_pose"], "rgb": ["rgb"]}}
    with contextlib.redirect_stdout(io.StringIO()):  # it prints what it was just told
        obs_utils.initialize_obs_utils_with_obs_specs(specs)
    dataset = SequenceDataset(
        str(file),
        obs_keys=("joint_pos", "tcp_pose", "rgb"),
        dataset_keys=("actions",),
        hdf5_cache_mode=None,
        load_next_obs=False,
    )
    dataset[len(dataset) - 1]
    return len(dataset)


def lerobot_steps(folder: Path) -> int:
    """Frames that LeRobot's dataset serves."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    dataset = LeRobotDataset("phototwin", root=folder, video_backend="pyav")
    dataset[len(dataset) - 1]
    return len(dataset)
