"""What the dataset promises: nothing lost, nothing half-written, the same bytes after a resume, and readers that exist."""

import errno
import json
import os
from dataclasses import fields, replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from phototwin.data.hdf5 import state_sha256
from phototwin.data.store import EpisodeStore, read_demos
from phototwin.episode import Episode
from phototwin.errors import OutputError


def make_episode(attempt, success=True, steps=13, size=(24, 16)):
    """Identifiable data: every number is made of attempt, step and column, so a wrong index cannot hide."""

    def rows(count, *shape):
        step = np.arange(count, dtype=np.float32).reshape(-1, *(1,) * len(shape))
        return (attempt * 1000 + step + np.arange(np.prod(shape)).reshape(shape) / 64).astype(np.float32)

    width, height = size
    rgb = np.zeros((steps, height, width, 3), np.uint8)
    rgb[..., 0], rgb[..., 1] = np.arange(steps)[:, None, None] * 10, np.arange(width) * 8
    return Episode(
        attempt=attempt,
        seed=7,
        success=success,
        failure="" if success else "dropped",
        instruction="put the <green> cube on the yellow cube",
        task={"family": "place", "object": "green_cube"},
        fps=20.0,
        robot="panda",
        joint_names=("j0", "j1", "j2"),
        object_keys=("green_cube", "yellow_cube"),
        rgb=rgb if success else rgb[:0],
        raw_rgba=np.concatenate([rgb[..., ::-1], np.full((*rgb.shape[:3], 1), attempt, np.uint8)], -1)[
            : steps * success
        ],
        seam=np.linspace(0.5, 1.0, steps, dtype=np.float32)[: steps * success],
        joint_pos=rows(steps, 3),
        joint_vel=rows(steps, 3) + 0.5,
        tcp_pose_w=rows(steps, 7),
        action=rows(steps, 4),
        action_names=("a", "b", "c", "d"),
        object_poses_w=rows(steps, 2, 7),
        object_velocities_w=rows(steps, 2, 6),
        final_joint_pos=rows(steps + 1, 3)[-1],
        final_object_poses_w=rows(steps + 1, 2, 7)[-1],
        base_pose_w=np.array([1, 2, 3, 0, 0, 0, 1], np.float32),
        K_px=np.array([[600.0, 0, 12.5], [0, 601, 8.25], [0, 0, 1]]),
        T_world_camera=np.eye(4) * 1.0000001,
        provenance={"twin": "abc", "versions": {"numpy": "2"}},
    )


def fill(folder, outcomes, start=0):
    store = EpisodeStore(folder)
    for i, success in enumerate(outcomes[start:], start):
        store.write(make_episode(i, success, steps=5 + i))
        store.link()
    return store


def datasets(file):
    """Every dataset's bytes and every attribute, by path; links are followed."""
    found = {}

    def visit(group, path):
        for key in group:
            item = group[key]
            found.update({f"{path}/{key}@{k}": str(v) for k, v in item.attrs.items()})
            if isinstance(item, h5py.Group):
                visit(item, f"{path}/{key}")
            else:
                found[f"{path}/{key}"] = (item.shape, str(item.dtype), item[()].tobytes())

    with h5py.File(file) as stream:
        visit(stream, "")
    return found


def assert_same(a: Episode, b: Episode):
    for f in fields(a):
        x, y = getattr(a, f.name), getattr(b, f.name)
        if isinstance(x, np.ndarray):
            assert x.dtype == y.dtype and x.shape == y.shape and (x == y).all(), f.name
        else:
            assert x == y, f.name


OUTCOMES = [True, False, True, True, False, True]


def test_an_episode_comes_back_as_it_was(tmp_path):
    episode = make_episode(3)
    depth_mm = np.arange(13 * 16 * 24, dtype=np.uint16).reshape(13, 16, 24)
    episode = replace(episode, raw_depth_mm=depth_mm, raw_labels=(depth_mm % 251).astype(np.uint8))
    file = EpisodeStore(tmp_path).write(episode)
    (back,) = read_demos(file)
    assert_same(episode, back)
    (blind,) = read_demos(file, frames=False)
    assert not blind.rgb.size and not blind.raw_labels.size and (blind.action == episode.action).all()
    assert state_sha256(back) == state_sha256(episode)


def test_failures_keep_states_but_no_frames_and_may_be_empty(tmp_path):
    store = EpisodeStore(tmp_path)
    rendered = replace(make_episode(0, success=False), rgb=make_episode(0).rgb)
    (back,) = read_demos(store.write(rendered))
    assert back.rgb.size == 0 and (back.joint_pos == rendered.joint_pos).all() and back.failure == "dropped"
    (back,) = read_demos(store.write(make_episode(1, success=False, steps=0)))
    assert back.action.shape == (0, 4)
    assert [a.steps for a in store.attempts()] == [13, 0]


def test_layout_of_time(tmp_path):
    """obs row t is before action t; next_obs and states row t are after it; reward and done are on the last row."""
    episode = make_episode(2)
    with h5py.File(EpisodeStore(tmp_path).write(episode)) as file:
        demo = file["data/demo_0"]
        assert demo.attrs["num_samples"] == 13 and demo.attrs["success"] and demo.attrs["attempt"] == 2
        assert demo.attrs["instruction"] == episode.instruction and demo.attrs["seed"] == 7
        assert (demo["states/articulation/robot/joint_position"][:-1] == episode.joint_pos[1:]).all()
        assert (demo["states/articulation/robot/joint_position"][-1] == episode.final_joint_pos).all()
        assert (demo["next_obs/joint_pos"][:] == demo["states/articulation/robot/joint_position"][:]).all()
        green = demo["states/rigid_object/green_cube/root_pose"]
        assert (demo["next_obs/object_poses"][:, :7] == green[:]).all()
        first = demo["initial_state/rigid_object/yellow_cube/root_pose"]
        assert first.shape == (1, 7) and (first[0] == episode.object_poses_w[0, 1]).all()
        assert (demo["rewards"][:] == [0] * 12 + [1]).all() and (demo["dones"][:] == [0] * 12 + [1]).all()
        assert demo["obs/rgb"].dtype == np.uint8 and file["data"].attrs["total"] == 13


def test_a_killed_run_leaves_a_readable_prefix(tmp_path):
    """Whatever the moment, the table of links and every attempt read back."""
    for count in range(1, len(OUTCOMES) + 1):
        fill(tmp_path, OUTCOMES[:count], start=count - 1)
        (tmp_path / "episodes/attempt_000_000099.hdf5.partial").write_bytes(b"torn")
        want = [i for i in range(count) if OUTCOMES[i]]
        assert [e.attempt for e in read_demos(tmp_path / "episodes.hdf5")] == want
        assert [a.index for a in EpisodeStore(tmp_path).attempts()] == list(range(count))


@pytest.mark.parametrize("killed_after", [0, 1, 3, 5])
def test_resume_ends_in_the_same_bytes(tmp_path, killed_after):
    whole = fill(tmp_path / "a", OUTCOMES).finish(3)
    fill(tmp_path / "b", OUTCOMES[:killed_after])
    resumed = EpisodeStore(tmp_path / "b")
    assert len(resumed.attempts()) == killed_after
    broken = fill(tmp_path / "b", OUTCOMES, start=killed_after).finish(3)
    assert datasets(whole) == datasets(broken)
    assert (tmp_path / "a/attempts.json").read_text() == (tmp_path / "b/attempts.json").read_text()


def test_finish_is_self_contained_and_idempotent(tmp_path):
    store = fill(tmp_path, OUTCOMES)
    store.finish(3)
    left = sorted(p.name for p in (tmp_path / "episodes").iterdir())
    assert left == ["attempt_000_000001.hdf5", "attempt_000_000004.hdf5", "attempt_000_000005.hdf5"]
    content = store.file.read_bytes()
    again = EpisodeStore(tmp_path)
    again.finish(3)
    assert again.file.read_bytes() == content
    moved = tmp_path / "elsewhere.hdf5"
    os.rename(store.file, moved)
    assert [e.attempt for e in read_demos(moved)] == [0, 2, 3]
    assert [e.attempt for e in read_demos(moved, limit=2)] == [0, 2]
    summary = json.loads((tmp_path / "attempts.json").read_text())["attempts"]
    assert [a["success"] for a in summary] == OUTCOMES and summary[1]["failure"] == "dropped"


def test_a_finished_store_can_be_continued(tmp_path):
    fill(tmp_path / "a", [*OUTCOMES, True, True]).finish(6)
    fill(tmp_path / "b", OUTCOMES).finish(3)
    more = EpisodeStore(tmp_path / "b")
    assert len(more.attempts()) == len(OUTCOMES)
    more.unpack()
    assert all(more.path(i).is_file() for i in range(len(OUTCOMES)))
    more = fill(tmp_path / "b", [*OUTCOMES, True, True], start=len(OUTCOMES))
    more.finish(6)
    assert datasets(tmp_path / "a/episodes.hdf5") == datasets(tmp_path / "b/episodes.hdf5")


def test_a_longer_dataset_keeps_the_split_of_a_shorter_one(tmp_path):
    def split(count):
        store = EpisodeStore(tmp_path / str(count))
        for i in range(count):
            store.write(make_episode(i, steps=2))
        with h5py.File(store.finish(count)) as file:
            return {k: [n.decode() for n in file[f"mask/{k}"][:]] for k in ("train", "valid")}

    short, long = split(4), split(13)
    assert short == {"train": ["demo_0", "demo_2", "demo_3"], "valid": ["demo_1"]}
    assert long["valid"] == ["demo_1", "demo_11"] and len(long["train"]) == 11


def full_disk(*_, **__):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_full_disk_while_writing_an_attempt(tmp_path, monkeypatch):
    store = fill(tmp_path, OUTCOMES[:2])
    before = datasets(store.file)

    def torn(self, content):
        with open(self, "wb") as stream:
            stream.write(content[: len(content) // 2])
        full_disk()

    monkeypatch.setattr(Path, "write_bytes", torn)
    with pytest.raises(OutputError, match="No space left on device"):
        store.write(make_episode(2))
    with pytest.raises(OutputError, match="--resume"):
        store.link()
    monkeypatch.undo()
    assert datasets(store.file) == before and not list(tmp_path.rglob("*.partial"))
    assert [a.index for a in store.attempts()] == [0, 1] == [a.index for a in EpisodeStore(tmp_path).attempts()]


@pytest.mark.parametrize("broken", ["phototwin.data.store.write_table", "os.replace", "os.fsync"])
def test_full_disk_while_finishing_loses_nothing(tmp_path, monkeypatch, broken):
    store = fill(tmp_path, OUTCOMES)
    before = datasets(store.file)
    monkeypatch.setattr(broken, full_disk)
    with pytest.raises(OutputError, match="No space left"):
        store.finish(3)
    monkeypatch.undo()
    assert datasets(store.file) == before and not list(tmp_path.rglob("*.partial"))
    assert [e.attempt for e in read_demos(EpisodeStore(tmp_path).finish(3))] == [0, 2, 3]


def test_unreadable_file_is_named(tmp_path):
    fill(tmp_path, [True])
    (tmp_path / "episodes/attempt_000_000000.hdf5").write_bytes(b"not hdf5")
    with pytest.raises(OutputError, match="attempt_000_000000"):
        EpisodeStore(tmp_path).attempts()


@pytest.mark.parametrize("finished", [False, True])
def test_robomimic_reads_it(tmp_path, finished):
    pytest.importorskip("robomimic")
    import robomimic.utils.file_utils as file_utils
    import robomimic.utils.obs_utils as obs_utils
    from robomimic.utils.dataset import SequenceDataset

    store = fill(tmp_path, OUTCOMES)
    file = str(store.finish(4) if finished else store.file)
    low = ["joint_pos", "joint_vel", "tcp_pose", "object_poses"]
    obs_utils.initialize_obs_utils_with_obs_specs([{"obs": {"low_dim": low, "rgb": ["rgb"]}}])
    options = {"dataset_keys": ("actions", "rewards", "dones"), "seq_length": 3, "frame_stack": 2}
    frames = SequenceDataset(file, obs_keys=(*low, "rgb"), load_next_obs=False, **options)
    assert len(frames) == sum(5 + i for i, success in enumerate(OUTCOMES) if success)
    item = frames[2]
    assert item["obs"]["rgb"].shape == (4, 16, 24, 3) and (item["obs"]["rgb"][1] == make_episode(0).rgb[2]).all()
    assert np.allclose(item["actions"][1], make_episode(0).action[2])
    states = SequenceDataset(file, obs_keys=low, load_next_obs=True, hdf5_cache_mode="low_dim", **options)
    item = states[6]
    assert np.allclose(item["next_obs"]["joint_pos"][1], make_episode(2).joint_pos[2])
    train = SequenceDataset(file, obs_keys=low, load_next_obs=True, filter_by_attribute="train", **options)
    assert train.n_demos == 3
    assert file_utils.get_env_metadata_from_dataset(file)["env_name"] == "phototwin"


@pytest.mark.sim
def test_isaac_lab_reads_it(tmp_path):
    from isaaclab.utils.datasets import HDF5DatasetFileHandler

    file = fill(tmp_path, OUTCOMES).finish(4)
    handler = HDF5DatasetFileHandler()
    handler.open(str(file))
    try:
        assert handler.get_num_episodes() == 4 and not handler.is_legacy_quaternion_format()
        episode = handler.load_episode("demo_1", "cpu")
        assert episode is not None and episode.success and episode.seed == 7
        want = make_episode(2, steps=7)
        assert np.allclose(np.asarray(episode.get_action(3)), want.action[3])
        state = episode.get_state(0)
        assert state is not None
        assert np.allclose(state["rigid_object"]["green_cube"]["root_pose"][0], want.object_poses_w[1, 0])
        initial = episode.get_initial_state()
        assert np.allclose(initial["articulation"]["robot"]["joint_position"], want.joint_pos[:1])
    finally:
        handler.close()
