"""RLDS: what TensorFlow Datasets reads back is what the HDF5 file holds, bit by bit; and a sentence where the extra is missing."""

import importlib.util
import json
import sys

import h5py
import numpy as np
import pytest
from data_helpers import fill_store, possible_episode

from phototwin.data import rlds
from phototwin.data.compose import new_folder
from phototwin.data.rlds import need_rlds, write_rlds
from phototwin.data.store import EpisodeStore, read_demos
from phototwin.errors import InputError, OutputError

needs_rlds = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in rlds.PACKAGES), reason="the extra rlds is not installed"
)


def written(file, out, slots=0):
    with new_folder(out) as partial:
        write_rlds(read_demos(file), partial, slots)
    return out


def read_back(folder):
    """The episodes, each a list of steps and the metadata, by tfds alone."""
    import tensorflow_datasets as tfds

    dataset = tfds.builder_from_directory(str(folder)).as_dataset(split="train", shuffle_files=False)
    return [(list(tfds.as_numpy(e["steps"])), tfds.as_numpy(e["episode_metadata"])) for e in dataset]


@needs_rlds
def test_what_is_read_back_is_what_the_file_holds_bit_by_bit(tmp_path, monkeypatch):
    monkeypatch.setattr(rlds, "EPISODES_A_SHARD", 2)
    file = fill_store(tmp_path / "a", 3)
    out = written(file, tmp_path / "rlds")
    assert len(list(out.glob("*.tfrecord*"))) == 2 and not list(tmp_path.glob("*.partial"))
    back = read_back(out)
    with h5py.File(file) as stream:
        assert len(back) == len(stream["data"]) == 3
        for i, (steps, about) in enumerate(back):
            demo = stream[f"data/demo_{i}"]
            there = {name: np.array([step[name] for step in steps]) for name in steps[0] if name != "observation"}
            seen = {name: np.array([s["observation"][name] for s in steps]) for name in steps[0]["observation"]}
            for mine, theirs in (
                (seen["image"], "obs/rgb"),
                (seen["state"], "obs/joint_pos"),
                (seen["tcp_pose"], "obs/tcp_pose"),
                (there["object_poses"], "obs/object_poses"),
                (there["action"], "actions"),
                (there["reward"], "rewards"),
                (about["K_px"], "camera/K_px"),
                (about["T_world_camera"], "camera/T_world_camera"),
            ):
                assert mine.dtype == demo[theirs].dtype
                np.testing.assert_array_equal(mine, demo[theirs][:])
            np.testing.assert_array_equal(there["is_last"], demo["dones"][:] == 1)
            assert there["is_first"].tolist() == [True] + [False] * (len(steps) - 1)
            np.testing.assert_array_equal(there["is_terminal"], there["reward"] == 1)
            np.testing.assert_array_equal(there["discount"], 1 - there["is_terminal"])
            assert {text.decode() for text in there["language_instruction"]} == {demo.attrs["instruction"]}
            assert about["state_sha256"].decode() == demo.attrs["state_sha256"]
            assert about["seed"] == demo.attrs["seed"] and about["success"] == demo.attrs["success"]
            assert about["fps"] == demo.attrs["fps"]
            assert json.loads(about["provenance"]) == json.loads(demo.attrs["provenance"])


@needs_rlds
def test_a_failure_has_no_terminal_step_and_slots_are_filled_with_zeros(tmp_path):
    episode = possible_episode(0, steps=4, success=False)
    write_rlds([episode], tmp_path, slots=3)
    ((steps, about),) = read_back(tmp_path)
    assert [s["is_terminal"] for s in steps] == [False] * 4 and steps[-1]["is_last"] and steps[-1]["discount"] == 1
    assert not about["success"] and not any(s["reward"] for s in steps)
    poses = np.array([s["object_poses"] for s in steps])
    np.testing.assert_array_equal(poses[:, :14], episode.object_poses_w.reshape(4, 14))
    assert poses.shape == (4, 21) and not poses[:, 14:].any()


@needs_rlds
def test_what_fails_half_way_leaves_nothing(tmp_path):
    store = EpisodeStore(tmp_path / "a")
    store.write(possible_episode(0, steps=5))
    store.write(possible_episode(1, steps=5, rgb=np.zeros((0, 0, 0, 3), np.uint8)))
    store.finish(2)
    with pytest.raises(InputError, match="Attempt 1 has 5 steps and 0 frames"):
        written(store.file, tmp_path / "rlds")
    with pytest.raises(InputError, match="no demonstrations"), new_folder(tmp_path / "rlds") as partial:
        write_rlds([], partial)
    (tmp_path / "file").write_text("x")
    with pytest.raises((OutputError, OSError)):
        write_rlds([possible_episode(0, steps=2)], tmp_path / "file/rlds")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "file"]


def test_a_missing_extra_is_a_sentence_that_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"tensorflow and tensorflow_datasets.*\[rlds\]"):
        need_rlds()
