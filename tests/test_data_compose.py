"""Merge, append, filter, split, convert: nothing lost, nothing half-written, and what comes out has no defect."""

import json
import os
import shutil
import socket
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from data_helpers import attempts, fill_store, possible_episode, two_stores
from test_data import assert_same

from phototwin.data import compose
from phototwin.data.compose import read_entries, rewrite_hdf5, write_dataset
from phototwin.data.fingerprint import hash_frames
from phototwin.data.hdf5 import content_sha256
from phototwin.data.quality import QualityLimits
from phototwin.data.store import EpisodeStore, read_demos
from phototwin.data.verify import verify
from phototwin.errors import InputError, OutputError
from phototwin_tasks.dataset import job


@pytest.fixture
def two(tmp_path):
    return two_stores(tmp_path)


def test_merged_demonstrations_are_the_same_bit_by_bit(tmp_path, two):
    assert "5 demonstrations" in job.merge(two, tmp_path / "out", append=False, lerobot=True)
    together = [e for folder in two for e in read_demos(folder / "episodes.hdf5")]
    for a, b in zip(together, read_demos(tmp_path / "out/episodes.hdf5"), strict=True):
        assert_same(a, b)
    assert not list(verify(tmp_path / "out"))
    facts = json.loads((tmp_path / "out/lerobot/meta/phototwin.json").read_text())
    assert [f["attempt"] for f in facts] == [0, 1, 2, 7, 8]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "b", "out"]


def test_a_table_of_links_is_merged_whole(tmp_path):
    store = EpisodeStore(tmp_path / "a")
    for attempt in range(2):
        store.write(possible_episode(attempt))
    store.link()
    write_dataset(read_entries(store.file), tmp_path / "out", lerobot=False)
    (tmp_path / "a").rename(tmp_path / "gone")
    assert attempts(tmp_path / "out/episodes.hdf5") == [0, 1]


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"robot": "ur10"}, "robot ur10"),
        ({"fps": 10.0}, "fps 10.0"),
        ({"size": (48, 48)}, "frame size"),
        ({"action_names": tuple("abcdefgh")}, "action names"),
    ],
    ids=["robot", "fps", "size", "actions"],
)
def test_what_cannot_be_one_dataset_is_refused(tmp_path, two, changes, word):
    fill_store(tmp_path / "c", 1, **changes)
    with pytest.raises(InputError, match=word) as told:
        job.merge((two[0], tmp_path / "c"), tmp_path / "out", append=False, lerobot=False)
    assert "demo_0" in str(told.value) and not (tmp_path / "out").exists()


@pytest.mark.parametrize("broken", ["write_table", "write_lerobot"])
def test_a_full_disk_leaves_nothing(tmp_path, two, monkeypatch, broken):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(compose, broken, full)
    with pytest.raises(OutputError, match="No space left"):
        job.merge(two, tmp_path / "out", append=False, lerobot=True)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "b"]


def test_what_a_killed_merge_left_is_in_nobodys_way_and_a_folder_that_looks_like_it_is_kept(tmp_path, two):
    (tmp_path / "out.partial").mkdir()
    (tmp_path / "out.partial/mine").write_bytes(b"thesis")
    (tmp_path / "out").mkdir()
    job.merge(two, tmp_path / "out", append=False, lerobot=False)
    assert attempts(tmp_path / "out/episodes.hdf5") == [0, 1, 2, 7, 8] and (tmp_path / "out.partial/mine").is_file()


def test_what_processes_that_are_gone_have_left_is_removed_and_nothing_else(tmp_path, two):
    host, gone = socket.gethostname(), 2**22 + 1  # beyond the numbers that Linux gives
    job.merge(two[:1], tmp_path / "out", append=False, lerobot=False)
    for name in (f"lerobot.{host}-{gone}.partial", f"lerobot.elsewhere-{gone}.partial", "lerobot.backup"):
        (tmp_path / "out" / name).mkdir()
        (tmp_path / "out" / name / "x").touch()
    (tmp_path / "out" / f"episodes.hdf5.{host}-{gone}.partial").touch()
    (tmp_path / "out" / f"episodes.hdf5.{host}-{os.getppid()}.partial").touch()
    job.merge(two[1:], tmp_path / "out", append=True, lerobot=False)
    left = sorted(p.name for p in (tmp_path / "out").iterdir())
    others = [f"episodes.hdf5.{host}-{os.getppid()}.partial", "lerobot.backup", f"lerobot.elsewhere-{gone}.partial"]
    assert left == sorted(["episodes.hdf5", *others]), "and no LeRobot dataset that nobody has asked for"


@pytest.mark.parametrize("append", [False, True])
@pytest.mark.parametrize("path", ["obs/rgb", "actions", "raw/depth_mm", "next_obs/rgb"])
def test_damage_is_not_merged_and_what_is_left_out_goes(tmp_path, two, path, append):
    for folder in two:
        rewrite_hdf5(folder / "episodes.hdf5", tmp_path / "robomimic.hdf5", every_next=True)
        os.replace(tmp_path / "robomimic.hdf5", folder / "episodes.hdf5")
    with h5py.File(two[0] / "episodes.hdf5", "r+") as stream:
        item = stream[f"data/demo_1/{path}"]
        item[1] = item[1] + item.dtype.type(1)
    if append:
        job.merge(two[1:], tmp_path / "out", append=False, lerobot=False)
    with pytest.raises(InputError, match=rf"demo_1 of .*{path}.* differ.*--leave-out demo_1"):
        job.merge(two[:1], tmp_path / "out", append=append, lerobot=False)
    text, kept = keep(tmp_path / "rest", two[0], leave_out=("demo_1",))
    assert "demo_1: left out" in text and kept == [0, 2]
    with pytest.raises(InputError, match="no demo_7 to leave out"):
        keep(tmp_path / "none", two[0], leave_out=("demo_7",))


def test_the_same_motion_in_other_frames_or_words_is_another_demonstration(tmp_path, two):
    for name in ("told", "looks", "bare"):
        shutil.copytree(two[1], tmp_path / name)
    with h5py.File(tmp_path / "told/episodes.hdf5", "r+") as stream:
        for demo in stream["data"].values():
            demo.attrs["instruction"] = "take it"
            demo.attrs["content_sha256"] = json.dumps(content_sha256(demo))
    with h5py.File(tmp_path / "looks/episodes.hdf5", "r+") as stream:
        for demo in stream["data"].values():
            demo["obs/rgb"][...] = 255 - demo["obs/rgb"][:]
            demo["fingerprint/rgb"][...] = hash_frames(demo["obs/rgb"][:])
    with h5py.File(tmp_path / "bare/episodes.hdf5", "r+") as stream:
        for demo in stream["data"].values():
            del demo["fingerprint/rgb"]
    folders = [two[1], *(tmp_path / name for name in ("told", "looks"))]
    assert job.merge((*folders, two[1]), tmp_path / "out", append=False, lerobot=True).startswith("6 demonstrations")
    assert not list(verify(tmp_path / "out"))
    text = job.merge((two[1], tmp_path / "bare"), tmp_path / "both", append=False, lerobot=False)
    assert text.startswith("4 demonstrations"), "nobody knows whether frames without fingerprints are the same"


def test_a_demonstration_is_taken_once(tmp_path, two):
    text = job.merge((two[0], two[0], two[1]), tmp_path / "out", append=False, lerobot=False)
    assert text.startswith("5 demonstrations in ") and "3 left out: they are there already" in text
    assert not list(verify(tmp_path / "out"))


@pytest.mark.parametrize("path", ["obs/rgb", "actions", "executed", "camera/T_world_camera"])
@pytest.mark.parametrize("to", ["hdf5", "robomimic", "lerobot"])
def test_what_is_damaged_is_not_converted_into_something_that_looks_whole(tmp_path, path, to):
    file = fill_store(tmp_path / "a", 2, executed=possible_episode(0, steps=30).action, steps=30)
    with h5py.File(file, "r+") as stream:
        item = stream[f"data/demo_1/{path}"]
        item[1] = item[1] + item.dtype.type(1)
    with pytest.raises(InputError, match=rf"demo_1 of .* is not what was recorded .*{path}"):
        job.convert(tmp_path / "a", to, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_torn_demonstration_is_named_and_nobody_is_told_to_delete_the_dataset(tmp_path, two):
    file = two[0] / "episodes.hdf5"
    with h5py.File(file) as stream:
        at = stream["data/demo_2/obs/rgb"].id.get_chunk_info(0).byte_offset
    with file.open("r+b") as raw:
        raw.seek(at)
        raw.write(b"\0" * 64)
    for command in (
        lambda: job.convert(two[0], "lerobot", tmp_path / "x"),
        lambda: job.review(two[0], None, QualityLimits(), None),
    ):
        with pytest.raises(OutputError, match=r"demo_2 of .* verify") as told:
            command()
        assert "delete" not in str(told.value)


def test_what_others_have_added_stays(tmp_path, two):
    for folder in two:
        with h5py.File(folder / "episodes.hdf5", "r+") as file:
            for demo in file["data"].values():
                demo["obs/force"] = np.ones((demo.attrs["num_samples"], 3), np.float32)
                demo.attrs["model_file"] = "<mujoco/>"
            file["mask/easy"] = np.array(["demo_1"], dtype="S16")
    job.merge(two, tmp_path / "both", append=False, lerobot=False)
    job.convert(tmp_path / "both", "robomimic", tmp_path / "robomimic.hdf5")
    for name in ("both/episodes.hdf5", "robomimic.hdf5"):
        with h5py.File(tmp_path / name) as file:
            assert file["mask/easy"][:].tolist() == [b"demo_1", b"demo_4"]
            for demo in file["data"].values():
                assert (demo["obs/force"][:] == 1).all() and demo.attrs["model_file"] == "<mujoco/>"
        assert not list(verify(tmp_path / name))


def test_a_gap_in_the_names_moves_nothing(tmp_path, two):
    with h5py.File(two[0] / "episodes.hdf5", "r+") as file:
        del file["data/demo_1"]
    text, left = keep(tmp_path, two[0], limits=QualityLimits())
    assert left == [0, 2] and "2 of 2" in text
    assert "2 demonstrations" in job.review(two[0], None, QualityLimits(), None)
    page = (two[0] / "review.html").read_text()
    assert "demo_2" in page and "demo_1" not in page


def test_an_output_that_exists_is_refused(tmp_path, two):
    with pytest.raises(OutputError, match="not empty"):
        job.merge(two, two[0], append=False, lerobot=False)
    with pytest.raises(OutputError, match="exists"):
        rewrite_hdf5(two[0] / "episodes.hdf5", two[1] / "episodes.hdf5")
    with pytest.raises(OutputError, match="not empty"):
        job.convert(two[0], "lerobot", two[1])
    with pytest.raises(OutputError, match="not empty"):
        job.split(two[0], two[1], "share", (0.5, 0.5), lerobot=False)


def keep(tmp_path, folder, **wanted):
    text = job.keep(folder, tmp_path / "out", job.Wanted(**wanted), None, lerobot=False)
    return text, attempts(tmp_path / "out/episodes.hdf5")


def test_filter_by_what_is_recorded(tmp_path, two):
    job.merge(two, tmp_path / "both", append=False, lerobot=False)
    text, left = keep(tmp_path / "1", tmp_path / "both", task=("lift",))
    assert left == [7, 8] and "demo_0: its task is place" in text and "2 of 5" in text
    assert keep(tmp_path / "2", tmp_path / "both", object=("green_cube",))[1] == [0, 1, 2]
    assert keep(tmp_path / "3", tmp_path / "both", success=True, min_seam=0.6)[1] == [0, 1, 2, 7, 8]
    assert not list(verify(tmp_path / "1/out"))
    with pytest.raises(InputError, match=r"demo_0: its worst seam is 0\.60"):
        keep(tmp_path / "4", tmp_path / "both", min_seam=0.7)
    assert not (tmp_path / "4").exists()


def test_filter_by_hand(tmp_path, two):
    entries = read_entries(two[0] / "episodes.hdf5")
    file = tmp_path / "rejected.json"
    file.write_text(json.dumps({"rejected": [{"demo": "demo_1", "state_sha256": entries[1].digest}]}))
    text, left = keep(tmp_path, two[0], rejected=file)
    assert left == [0, 2] and "demo_1: rejected by hand" in text
    job.merge((two[1], two[0]), tmp_path / "both", append=False, lerobot=False)  # numbers them anew
    text, left = keep(tmp_path / "moved", tmp_path / "both", rejected=file)
    assert "demo_3: rejected by hand" in text and left == [7, 8, 0, 2]
    with pytest.raises(InputError, match="another dataset"):
        keep(tmp_path / "x", two[1], rejected=file)
    file.write_text("[]")
    with pytest.raises(InputError, match=r"no rejected\.json"):
        keep(tmp_path / "x", two[0], rejected=file)


def test_of_one_that_is_there_twice_the_rejected_one_goes(tmp_path, two):
    compose.write_dataset(read_entries(two[0] / "episodes.hdf5") * 2, tmp_path / "twice", lerobot=False)
    entries = read_entries(tmp_path / "twice/episodes.hdf5")
    assert entries[0].digest == entries[3].digest
    file = tmp_path / "rejected.json"
    file.write_text(json.dumps({"rejected": [{"demo": e.demo, "state_sha256": e.digest} for e in entries[3:]]}))
    text, left = keep(tmp_path, tmp_path / "twice", rejected=file)
    assert left == [0, 1, 2] and "3 of 6" in text


def test_filter_by_quality(tmp_path):
    store = EpisodeStore(tmp_path / "a")
    store.write(possible_episode(0))
    fast = possible_episode(1)
    fast.object_poses_w[10:, 1, 0] += 0.5
    store.write(fast)
    store.finish(2)
    text, left = keep(tmp_path, tmp_path / "a", limits=QualityLimits())
    assert left == [0] and "demo_1: an object moves at 10.00 m/s, limit 2" in text
    assert "the shapes of 2 are not known" in text


def test_split(tmp_path, two):
    job.merge(two, tmp_path / "both", append=False, lerobot=False)
    job.split(tmp_path / "both", tmp_path / "by_task", "task", (), lerobot=False)
    assert attempts(tmp_path / "by_task/place/episodes.hdf5") == [0, 1, 2]
    assert attempts(tmp_path / "by_task/lift/episodes.hdf5") == [7, 8]
    job.split(tmp_path / "both", tmp_path / "shares", "share", (0.6, 0.4), lerobot=False)
    parts = [attempts(tmp_path / f"shares/part_{i}/episodes.hdf5") for i in range(2)]
    assert [len(p) for p in parts] == [3, 2] and sorted([*parts[0], *parts[1]]) == [0, 1, 2, 7, 8]
    assert not list(verify(tmp_path / "shares/part_0"))
    with pytest.raises(InputError, match="too few"):
        job.split(tmp_path / "both", tmp_path / "x", "share", (0.99, 0.01), lerobot=False)
    with pytest.raises(InputError, match="add up to 1"):
        job.split(tmp_path / "both", tmp_path / "x", "share", (0.9, 0.9), lerobot=False)
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    "words",
    [("拿起杯子", "放下杯子"), ("pick up cup #1", "pick up cup (1)"), (90 * "a" + "b", 90 * "a" + "c")],
    ids=["script", "signs", "long"],
)
def test_split_keeps_apart_what_differs(tmp_path, words):
    store = EpisodeStore(tmp_path / "a")
    for attempt, text in enumerate(words):
        store.write(possible_episode(attempt, instruction=text))
    store.finish(2)
    told = job.split(tmp_path / "a", tmp_path / "parts", "instruction", (), lerobot=False)
    parts = sorted(attempts(p / "episodes.hdf5") for p in (tmp_path / "parts").iterdir())
    assert parts == [[0], [1]] and all(text in told for text in words)


def test_convert(tmp_path, two):
    with h5py.File(two[0] / "episodes.hdf5", "r+") as file:
        del file["data/demo_1/fingerprint"]
    job.convert(two[0], "hdf5", tmp_path / "new.hdf5")
    assert not list(verify(tmp_path / "new.hdf5"))
    job.convert(two[0], "robomimic", tmp_path / "robomimic.hdf5")
    assert not list(verify(tmp_path / "robomimic.hdf5"))
    with h5py.File(tmp_path / "robomimic.hdf5") as file:
        for name, demo in file["data"].items():
            frames = demo["obs/rgb"][:]
            assert (demo["next_obs/rgb"][:] == np.concatenate([frames[1:], frames[-1:]])).all(), name
            assert set(demo["obs"]) == set(demo["next_obs"])
    job.convert(two[0], "lerobot", tmp_path / "set")
    assert not list(verify(tmp_path / "set"))


def test_info(tmp_path, two):
    text = job.info(two[0])
    assert "3 demonstrations, 93 steps, 3 successful" in text and "frames 64 x 48" in text
    assert "panda (3) at 20 frames/s" in text and "place (3)" in text and "green_cube (3)" in text


def test_what_is_recorded_of_one_is_recorded_of_all(tmp_path, two):
    rewrite_hdf5(two[0] / "episodes.hdf5", tmp_path / "next.hdf5", every_next=True)
    with pytest.raises(InputError, match=r"demo_0 of .* has next_obs joint_pos.*, but .*rgb.*--to robomimic"):
        job.merge([tmp_path / "next.hdf5", two[1]], tmp_path / "out", append=False, lerobot=False)


def test_what_others_have_added_to_obs_is_in_robomimics_next_obs(tmp_path, two):
    with h5py.File(two[0] / "episodes.hdf5", "r+") as stream:
        for demo in stream["data"].values():
            demo["obs/force"] = np.arange(3 * len(demo["actions"]), dtype=np.float32).reshape(-1, 3)
    rewrite_hdf5(two[0] / "episodes.hdf5", tmp_path / "next.hdf5", every_next=True)
    with h5py.File(tmp_path / "next.hdf5") as stream:
        before, after = (stream[f"data/demo_1/{place}/force"][:] for place in ("obs", "next_obs"))
    assert np.array_equal(after[:-1], before[1:]) and np.array_equal(after[-1], before[-1])
    assert not list(verify(tmp_path / "next.hdf5"))


def test_a_demonstration_that_was_chosen_is_the_one_that_is_copied(tmp_path, two):
    entries = read_entries(two[0] / "episodes.hdf5")
    with h5py.File(two[0] / "episodes.hdf5", "r+") as stream:  # as a run that goes on numbers them anew
        stream["data"].move("demo_0", "other")
        stream["data"].move("demo_1", "demo_0")
        stream["data"].move("other", "demo_1")
    with pytest.raises(InputError, match=r"demo_0 of .* is another one than a moment ago"):
        write_dataset(entries, tmp_path / "out", lerobot=False)
    assert not (tmp_path / "out").exists()


def test_what_is_left_out_may_be_unreadable(tmp_path, two):
    with h5py.File(two[0] / "episodes.hdf5", "r+") as stream:
        del stream["data/demo_1/obs/tcp_pose"], stream["data/demo_1"].attrs["robot"]
    with pytest.raises(InputError, match=r"demo_1 of .* cannot be read .*--leave-out"):
        job.info(two[0])
    wanted = job.Wanted(leave_out=("demo_1",), limits=QualityLimits(below_support_m=1.0))
    assert "demo_1: left out\n2 of 3" in job.keep(two[0], tmp_path / "out", wanted, None, lerobot=False)
    assert attempts(tmp_path / "out/episodes.hdf5") == [0, 2] and not list(verify(tmp_path / "out"))


def test_a_copy_of_what_goes_stays(tmp_path):
    store = EpisodeStore(tmp_path / "a")
    for attempt in (0, 1):  # the same motion twice
        store.write(replace(possible_episode(0), attempt=attempt))
    store.finish(2)
    limits = QualityLimits(below_support_m=1.0)
    both = job.keep(tmp_path / "a", tmp_path / "both", job.Wanted(limits=limits), None, lerobot=False)
    assert "demo_1: it is demo_0 again\n1 of 2" in both
    one = job.keep(tmp_path / "a", tmp_path / "one", job.Wanted(leave_out=("demo_0",), limits=limits), None, False)
    assert "demo_0: left out\n1 of 2" in one and attempts(tmp_path / "one/episodes.hdf5") == [1]


def test_folders_that_cannot_be_replaced(tmp_path, two, monkeypatch):
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    with pytest.raises(OutputError, match="the folder that you are in"):
        job.merge(two, Path("."), append=False, lerobot=False)
    before = (two[0] / "episodes.hdf5").read_bytes()
    with pytest.raises(OutputError, match=r"ends in \.html"):
        job.review(two[0], two[0] / "episodes.hdf5", QualityLimits(), None)
    assert (two[0] / "episodes.hdf5").read_bytes() == before
    monkeypatch.chdir(two[0])
    (two[0] / "run.json").write_text('{"jobs": [{"twin": "twin"}]}')
    assert "3 demonstrations" in job.review(Path("."), None, QualityLimits(), None)


def test_the_same_done_for_another_task_is_no_copy(tmp_path):
    store = EpisodeStore(tmp_path / "a")
    for attempt, family in enumerate(("lift", "place")):
        store.write(replace(possible_episode(0), attempt=attempt, task={"family": family, "object": "green_cube"}))
    store.finish(2)
    assert not list(verify(tmp_path / "a"))
    with h5py.File(tmp_path / "a/episodes.hdf5", "r+") as stream:
        stream["data/demo_0/weight"] = 1.5  # a number that somebody has added
    assert not list(verify(tmp_path / "a"))


def test_nothing_is_not_split(tmp_path):
    EpisodeStore(tmp_path / "a").link()  # a run that has only begun
    with pytest.raises(InputError, match="no demonstrations to split"):
        job.split(tmp_path / "a", tmp_path / "out", "task", (), lerobot=False)
