"""The LeRobot dataset is read back by LeRobot's own class; what is not finished leaves nothing."""

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from data_helpers import possible_episode
from test_data import make_episode

from phototwin.data.lerobot import (
    DEPTH_KEY,
    FACTS_FILE,
    IMAGE_KEY,
    LABELS_KEY,
    LerobotProcess,
    _EndedEarlyError,
    _from_lines,
    write_lerobot,
)
from phototwin.data.store import EpisodeStore
from phototwin.errors import InputError, OutputError

STEPS = (13, 6)


def smooth_episode(attempt, steps, size=(48, 32)):
    """Frames that a codec can keep: a gradient whose brightness grows with the step."""
    width, height = size
    rgb = np.zeros((steps, height, width, 3), np.uint8)
    rgb[..., 0] = np.linspace(40, 160, width)
    rgb[..., 1] = np.linspace(60, 120, height)[:, None]
    rgb[..., 2] = 90
    rgb += np.arange(steps, dtype=np.uint8)[:, None, None, None] * 5
    return replace(make_episode(attempt, steps=steps), rgb=rgb)


def check(folder, episodes):
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    dataset = LeRobotDataset("phototwin", root=folder, video_backend="pyav")
    assert dataset.num_episodes == len(episodes) and len(dataset) == sum(len(e.action) for e in episodes)
    assert dataset.fps == 20 and dataset.meta.robot_type == "panda"
    row = 0
    for index, episode in enumerate(episodes):
        for t in range(len(episode.action)):
            item = dataset[row]
            row += 1
            assert int(item["episode_index"]) == index and int(item["frame_index"]) == t
            assert item["task"] == episode.instruction
            assert (item["action"].numpy() == episode.action[t]).all()
            assert (item["observation.state"].numpy() == episode.joint_pos[t]).all()
            assert (item["observation.tcp_pose"].numpy() == episode.tcp_pose_w[t]).all()
            assert (item["object_poses"].numpy() == episode.object_poses_w[t].ravel()).all()
            frame = item[IMAGE_KEY].numpy().transpose(1, 2, 0) * 255
            assert np.sqrt(np.mean((frame - episode.rgb[t]) ** 2)) < 3.0
    assert dataset.meta.features["action"]["names"] == list(episodes[0].action_names)
    mean = dataset.meta.stats[IMAGE_KEY]["mean"].ravel() * 255
    assert np.abs(mean - np.concatenate([e.rgb[:1] for e in episodes]).mean((0, 1, 2))).max() < 40
    facts = json.loads((folder / FACTS_FILE).read_text())
    assert [(f["attempt"], f["success"], f["K_px"]) for f in facts] == [
        (e.attempt, e.success, e.K_px.tolist()) for e in episodes
    ]


@pytest.mark.parametrize("size", [(48, 32), (33, 21)])
def test_lerobot_reads_it(tmp_path, size, capfd):
    episodes = [smooth_episode(i, steps, size) for i, steps in enumerate(STEPS)]
    (tmp_path / "set").mkdir()
    (tmp_path / "set/old").touch()
    assert write_lerobot(iter(episodes), tmp_path / "set") == tmp_path / "set"
    assert [p.name for p in tmp_path.iterdir()] == ["set"] and not (tmp_path / "set/old").exists()
    check(tmp_path / "set", episodes)
    assert "x264" not in capfd.readouterr().err


def test_depth_and_masks_come_back_exactly_as_lerobots_own_depth_maps(tmp_path):
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    episodes = [possible_episode(i, steps=steps) for i, steps in enumerate(STEPS)]
    write_lerobot(iter(episodes), tmp_path / "set", truth=True)
    dataset = LeRobotDataset("phototwin", root=tmp_path / "set", video_backend="pyav")
    assert dataset.meta.depth_keys == [DEPTH_KEY]
    items = [dataset[i] for i in range(len(dataset))]
    for name, value in ((DEPTH_KEY, "raw_depth_mm"), (LABELS_KEY, "raw_labels")):
        seen = np.stack([item[name].numpy()[0] for item in items])
        assert (seen == np.concatenate([getattr(e, value) for e in episodes])).all() and seen.max() > 200


def test_depth_that_was_not_kept_is_asked_for(tmp_path):
    with pytest.raises(InputError, match="--keep-raw"):
        write_lerobot([smooth_episode(0, 5)], tmp_path / "set", truth=True)
    assert not list(tmp_path.iterdir())


def test_a_process_beside_the_rollouts(tmp_path):
    store = EpisodeStore(tmp_path / "demos")
    process = LerobotProcess(tmp_path / "demos/lerobot")
    episodes = [smooth_episode(i, steps) for i, steps in enumerate(STEPS)]
    for episode in episodes:
        process.add(store.write(episode))
    check(process.finish(), episodes)
    process.discard()
    assert (tmp_path / "demos/lerobot").is_dir()


def test_a_discarded_process_leaves_nothing(tmp_path):
    process = LerobotProcess(tmp_path / "demos/lerobot")
    (tmp_path / "demos/lerobot.partial").mkdir(parents=True)
    process.discard()
    process.add(tmp_path / "x")
    assert not list((tmp_path / "demos").iterdir())
    with pytest.raises(OutputError, match="was not written"):
        process.finish()


def test_input_that_ends_early_leaves_nothing(tmp_path):
    file = EpisodeStore(tmp_path / "demos").write(smooth_episode(0, 6))
    with pytest.raises(_EndedEarlyError):
        write_lerobot(_from_lines([f"{file}\n"]), tmp_path / "set")
    assert [p.name for p in tmp_path.iterdir()] == ["demos"]


def test_no_episodes_and_no_frames_are_refused(tmp_path):
    with pytest.raises(InputError, match="no demonstrations"):
        write_lerobot([], tmp_path / "set")
    with pytest.raises(InputError, match="Attempt 4 has 13 steps and 0 frames"):
        write_lerobot([make_episode(4, success=False)], tmp_path / "set")
    assert not list(tmp_path.iterdir())


def test_a_failing_disk_keeps_the_old_dataset(tmp_path):
    (tmp_path / "set").mkdir()
    (tmp_path / "set/old").touch()

    def episodes():
        yield smooth_episode(0, 6)
        raise OSError(28, "No space left on device")

    with pytest.raises(OutputError, match="No space left"):
        write_lerobot(episodes(), tmp_path / "set")
    assert [p.name for p in tmp_path.rglob("*")] == ["set", "old"]


def test_scenes_with_other_objects_share_a_dataset(tmp_path):
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    two = smooth_episode(0, 6)
    three = replace(
        smooth_episode(1, 5),
        object_keys=("a", "b", "c"),
        object_poses_w=np.arange(5 * 21, dtype=np.float32).reshape(5, 3, 7),
        instruction="pick up c",
    )
    with pytest.raises(InputError, match="3 objects, expected at most 2"):
        write_lerobot([two, three], tmp_path / "set", slots=2)
    write_lerobot([two, three], tmp_path / "set", slots=3)
    dataset = LeRobotDataset("phototwin", root=tmp_path / "set", video_backend="pyav")
    first, last = dataset[0]["object_poses"].numpy(), dataset[10]["object_poses"].numpy()
    assert (first[:14] == two.object_poses_w[0].ravel()).all() and not first[14:].any()
    assert (last == three.object_poses_w[4].ravel()).all() and dataset[10]["task"] == "pick up c"
    facts = json.loads((tmp_path / "set" / FACTS_FILE).read_text())
    assert [f["object_keys"] for f in facts] == [list(two.object_keys), ["a", "b", "c"]]


def test_the_command_says_how_it_is_used():
    command = [sys.executable, "-m", "phototwin.data.lerobot"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2 and "usage" in done.stderr
