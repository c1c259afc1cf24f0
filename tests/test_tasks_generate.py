"""Demonstrations end to end on a small twin: friction grasps, killed and resumed runs, real readers of what was written."""

import hashlib
import shutil
from pathlib import Path

import numpy as np
import pytest
from sim_helpers import make_twin

from phototwin.errors import InputError, OutputError
from phototwin.progress import StageTimer

pytestmark = pytest.mark.sim


@pytest.fixture(scope="module")
def twin(tmp_path_factory):
    return make_twin(tmp_path_factory.mktemp("generate") / "twin")


def generate(twin, folder, resume=False, workers=1, **fields):
    from phototwin_tasks.generate.config import Crew, GenerateConfig
    from phototwin_tasks.generate.jobs import plan_run
    from phototwin_tasks.generate.run import generate_demos

    folder.mkdir(exist_ok=True)
    values = {"instructions": ("pick up the green cube",), "num_demos": 3, "num_envs": 2, "resolution": (64, 64)}
    run = plan_run(folder, (twin,), GenerateConfig(**(values | fields)), resume)
    return generate_demos(run, Crew(workers), StageTimer())


def state_bytes(file: Path) -> dict[str, str]:
    """SHA-256 of every dataset of an episodes.hdf5, frames included."""
    import h5py

    found = {}
    with h5py.File(file) as stream:
        stream.visititems(
            lambda name, item: (
                found.__setitem__(name, hashlib.sha256(item[()].tobytes()).hexdigest())
                if isinstance(item, h5py.Dataset) and name.startswith("data/")
                else None
            )
        )
    return found


@pytest.fixture(scope="module")
def whole(twin, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "run"
    return folder, generate(twin, folder)


def test_only_successes_are_stored_and_the_object_hangs_by_friction(whole, twin):
    import h5py

    from phototwin.scene import load_scene

    folder, made = whole
    assert made.num_demos == 3 and sum(a.success for a in made.attempts) >= 3
    row = [o.key for o in load_scene(twin).objects].index("green_cube")
    with h5py.File(folder / "demos/episodes.hdf5") as file:
        assert len(file["data"]) == 3
        for demo in file["data"].values():
            assert demo.attrs["success"]
            poses = demo["obs/object_poses"][()].reshape(demo.attrs["num_samples"], -1, 7)
            assert poses[-1, row, 2] > 0.10 and poses[0, row, 2] < 0.03
            tool = demo["obs/tcp_pose"][()]
            held = poses[:, row, 2] > 0.05
            gap = np.linalg.norm(tool[held, :3] - poses[held, row, :3], axis=1)
            assert gap.max() - gap.min() < 0.01, "the object slides in the gripper"
            assert demo["obs/rgb"].shape[1:] == (64, 64, 3)


def test_a_killed_run_leaves_a_readable_prefix_and_resumes_to_the_same_bytes(whole, twin, tmp_path, monkeypatch):
    import h5py

    import phototwin_tasks.rollout as rollout_module

    original = rollout_module.rollout
    batches = []

    def dies(*args, **kwargs):
        if batches:
            raise KeyboardInterrupt
        batches.append(1)
        return original(*args, **kwargs)

    monkeypatch.setattr(rollout_module, "rollout", dies)
    with pytest.raises(KeyboardInterrupt):
        generate(twin, tmp_path / "run")
    monkeypatch.undo()
    demos = tmp_path / "run/demos"
    assert not (demos / "lerobot").exists()
    with h5py.File(demos / "episodes.hdf5") as file:
        assert 1 <= len(file["data"]) <= 2 and all("obs/rgb" in demo for demo in file["data"].values())
    with pytest.raises(OutputError, match="--resume"):
        generate(twin, tmp_path / "run")
    with pytest.raises(InputError, match="seed was 0, is 1"):
        generate(twin, tmp_path / "run", resume=True, seed=1)
    generate(twin, tmp_path / "run", resume=True)
    assert state_bytes(demos / "episodes.hdf5") == state_bytes(whole[0] / "demos/episodes.hdf5")


def test_more_demonstrations_can_be_added_later(whole, twin, tmp_path):
    shutil.copytree(whole[0], tmp_path / "run")
    generate(twin, tmp_path / "run", resume=True, num_demos=4)
    longer = state_bytes(tmp_path / "run/demos/episodes.hdf5")
    shorter = state_bytes(whole[0] / "demos/episodes.hdf5")
    assert shorter.items() <= longer.items()
    assert any(name.startswith("data/demo_3/") for name in longer)


def test_newton_lifts_too(twin, tmp_path):
    made = generate(twin, tmp_path / "run", physics="newton_mjwarp", num_demos=1, num_envs=2)
    assert made.num_demos == 1


def test_isaac_lab_lerobot_and_robomimic_read_it(whole):
    import os

    os.environ["HF_HUB_OFFLINE"] = "1"
    import robomimic.utils.obs_utils as obs_utils
    from isaaclab.utils.datasets import HDF5DatasetFileHandler
    from lerobot.datasets.lerobot_dataset import LeRobotDataset
    from robomimic.utils.dataset import SequenceDataset

    demos = whole[0] / "demos"
    handler = HDF5DatasetFileHandler()
    handler.open(str(demos / "episodes.hdf5"))
    assert handler.get_num_episodes() == 3
    episode = handler.load_episode("demo_0", "cpu")
    assert episode.data["actions"].shape[1] == 8
    handler.close()  # HDF5 opens a file in one mode at a time
    obs_utils.initialize_obs_utils_with_obs_specs({"obs": {"low_dim": ["joint_pos", "tcp_pose"], "rgb": ["rgb"]}})
    dataset = SequenceDataset(
        str(demos / "episodes.hdf5"), obs_keys=("joint_pos", "tcp_pose", "rgb"), dataset_keys=("actions",),
        hdf5_cache_mode=None, load_next_obs=False, seq_length=4,
    )  # fmt: skip
    assert dataset[0]["obs"]["rgb"].shape == (4, 64, 64, 3)
    frames = LeRobotDataset("phototwin", root=demos / "lerobot", video_backend="pyav")
    assert frames.num_episodes == 3 and len(frames) == len(dataset)
    assert frames[0]["task"] == "pick up the green cube"


def test_a_task_that_cannot_be_done_is_refused(twin, tmp_path):
    from phototwin.errors import InstructionError

    with pytest.raises(InstructionError, match="purple"):
        generate(twin, tmp_path / "run", instructions=("pick up the purple elephant",))
    with pytest.raises(InputError, match="Unknown physics"):
        generate(twin, tmp_path / "other", physics="bullet")
    with pytest.raises(InputError, match="Unknown robot"):
        generate(twin, tmp_path / "third", robot="terminator")


def test_a_run_that_began_nothing_may_be_begun_again_with_other_settings(twin, tmp_path):
    from phototwin_tasks.generate.config import GenerateConfig
    from phototwin_tasks.generate.jobs import plan_run

    green, red = (GenerateConfig((text,)) for text in ("pick up the green cube", "pick up the red can"))
    for config in (green, red):
        plan_run(tmp_path, (twin,), config, resume=False)
    (tmp_path / "demos/episodes").mkdir()
    (tmp_path / "demos/episodes/attempt_000_000000.hdf5").touch()
    with pytest.raises(OutputError, match="--resume"):
        plan_run(tmp_path, (twin,), red, resume=False)
    with pytest.raises(InputError, match=r"red can.*green cube"):
        plan_run(tmp_path, (twin,), green, resume=True)
