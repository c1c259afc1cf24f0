"""``verify`` finds every planted defect of an HDF5 dataset and names the demonstration; a whole dataset has none."""

import dataclasses
import json
import shutil

import h5py
import numpy as np
import pytest
from data_helpers import fill_store, possible_episode

from phototwin.data.compose import rewrite_hdf5
from phototwin.data.lerobot import write_lerobot
from phototwin.data.store import EpisodeStore, read_demos
from phototwin.data.verify import verify
from phototwin.errors import InputError


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    store = EpisodeStore(folder)
    for attempt in range(4):
        episode = possible_episode(attempt, steps=30 + attempt)
        store.write(dataclasses.replace(episode, executed=episode.action + np.float32(0.01)))
    store.finish(4)
    return folder


def scale(path, factor):
    def plant(data):
        data[f"demo_1/{path}"][...] *= factor

    return plant


def put(path, index, value):
    def plant(data):
        data[f"demo_1/{path}"][index] = value

    return plant


def add(path, index, value):
    def plant(data):
        item = data[f"demo_1/{path}"]
        item[index] = item[index] + value

    return plant


def replace(path, change):
    """Store a changed copy of a dataset."""

    def plant(data):
        value = change(data[f"demo_1/{path}"][()])
        del data[f"demo_1/{path}"]
        data[f"demo_1/{path}"] = value

    return plant


def remove(path):
    def plant(data):
        del data[f"demo_1/{path}"]

    return plant


def remove_both(data):
    remove("obs/rgb")(data)
    remove("fingerprint/rgb")(data)


def attribute(name, value):
    def plant(data):
        data["demo_1"].attrs[name] = value

    return plant


def forget(name):
    def plant(data):
        del data["demo_1"].attrs[name]

    return plant


def mask(name, change):
    def plant(data):
        masks = data.parent["mask"]
        entries = change([e.decode() for e in masks[name][:]])
        del masks[name]
        masks[name] = np.array(entries, "S16")

    return plant


def copied(data):
    del data["demo_1"]
    data.copy("demo_0", "demo_1")


def lost(data):
    del data["demo_1"]


def surplus(data):
    data.move("demo_1", "demo_x")


def torn(data):
    """Overwrite a compressed chunk, as a bad disk does."""
    where = data["demo_1/obs/rgb"].id.get_chunk_info(0)
    name = data.file.filename
    data.file.flush()
    with open(name, "r+b") as stream:
        stream.seek(where.byte_offset + 10)
        stream.write(b"\xff" * 40)


def total(data):
    data.attrs["total"] = 5


def no_environment(data):
    del data.attrs["env_args"]


def old_quaternions(data):
    del data.parent.attrs["format_version"]


PLANTS = {
    "num_samples": (attribute("num_samples", 40), "layout"),
    "truncated array": (replace("actions", lambda a: a[:-3]), "layout"),
    "narrow array": (replace("obs/joint_pos", lambda a: a[:, :-1]), "layout"),
    "short seam": (replace("quality/seam", lambda a: a[:-1]), "layout"),
    "missing next_obs": (remove("next_obs/joint_pos"), "layout"),
    "missing states": (remove("states/rigid_object/green_cube"), "layout"),
    "missing camera": (remove("camera/K_px"), "camera"),
    "missing provenance": (forget("provenance"), "layout"),
    "provenance without twin": (attribute("provenance", json.dumps({"versions": {"numpy": "2"}})), "words"),
    "no instruction": (attribute("instruction", " "), "words"),
    "NaN in action": (put("actions", (7, 2), np.nan), "finite"),
    "infinite pose": (put("obs/object_poses", (3, 1), np.inf), "finite"),
    "NaN seam": (put("quality/seam", 3, np.nan), "finite"),
    "degrees": (scale("actions", 57.3), "units"),
    "joints in degrees": (scale("obs/joint_pos", 57.3), "units"),
    "command elsewhere": (add("actions", (7, 0), 2.0), "units"),
    "millimetres": (scale("obs/object_poses", 1000), "units"),
    "another frame rate": (attribute("fps", 60.0), "units"),
    "velocities in degrees": (scale("obs/joint_vel", 57.3), "units"),
    "quaternion of no norm": (put("obs/object_poses", (5, slice(3, 7)), 0.0), "rotations"),
    "long quaternion": (put("obs/tcp_pose", (5, 3), 1.2), "rotations"),
    "negative focal length": (put("camera/K_px", (0, 0), -60.0), "camera"),
    "K of another size": (scale("camera/K_px", np.array([[40.0], [40.0], [1.0]])), "camera"),
    "camera that scales": (put("camera/T_world_camera", (0, 1), -1.02), "camera"),
    "camera that mirrors": (put("camera/T_world_camera", (2, 2), 1.0), "camera"),
    "failed": (attribute("success", False), "success"),
    "failure class": (attribute("failure", "slip"), "success"),
    "reward too early": (put("rewards", 3, 1.0), "success"),
    "never done": (put("dones", slice(None), 0), "success"),
    "next_obs not shifted": (replace("next_obs/tcp_pose", lambda a: np.roll(a, 1, 0)), "time"),
    "states shifted": (replace("states/rigid_object/yellow_cube/root_pose", lambda a: a + np.float32(0.01)), "time"),
    "other initial state": (put("initial_state/articulation/robot/joint_position", (0, 1), 0.5), "time"),
    "object jump": (add("obs/object_poses", (slice(12, None), 1), 0.3), "jumps"),
    "joint jump": (add("obs/joint_pos", (slice(12, None), 8), 1.4), "jumps"),
    "digest": (attribute("state_sha256", "0" * 64), "digest"),
    "smallest change of an action": (add("actions", (3, 3), np.float32(1e-6)), "digest"),
    "frames one early": (replace("obs/rgb", lambda a: np.roll(a, -1, 0)), "frames"),
    "frame replaced": (put("obs/rgb", 4, 128), "frames"),
    "one pixel": (put("obs/rgb", (4, 0, 0, 0), 1), "frames"),
    "no frames": (remove("obs/rgb"), "frames"),
    "depth one late": (replace("raw/depth_mm", lambda a: np.roll(a, 1, 0)), "frames"),
    "labels replaced": (put("raw/labels", 4, 1), "frames"),
    "label of nobody": (put("raw/labels", (4, 0, 0), 77), "labels"),
    "no labels": (remove("raw/labels"), "frames"),
    "commands reversed": (replace("executed", lambda a: a[::-1].copy()), "digest"),
    "short commands": (replace("executed", lambda a: a[:-1]), "layout"),
    "another base": (put("states/articulation/robot/root_pose", (3, 0), 0.5), "digest"),
    "base that moves": (put("states/articulation/robot/root_velocity", (3, 0), 3.0), "digest"),
    "last row of next_obs": (put("next_obs/tcp_pose", (-1, 0), 0.5), "digest"),
    "last velocity": (put("states/rigid_object/green_cube/root_velocity", (-1, 0), 0.3), "digest"),
    "another seam": (put("quality/seam", 3, 1.0), "digest"),
    "camera elsewhere": (put("camera/T_world_camera", (0, 3), 0.8), "digest"),
    "another seed": (attribute("seed", 99), "digest"),
    "older release": (forget("content_sha256"), "digest"),
    "end elsewhere": (put("next_obs/object_poses", (-1, 0), 2.6), "jumps"),
    "no frames and no fingerprint": (remove_both, "schema"),
    "short depth": (replace("raw/depth_mm", lambda a: a[:-1]), "layout"),
    "no fingerprint": (remove("fingerprint/rgb"), "frames"),
    "torn chunk": (torn, "frames"),
    "in no mask": (mask("valid", lambda e: []), "masks"),
    "in both masks": (mask("train", lambda e: [*e, "demo_1"]), "masks"),
    "twice in a mask": (mask("valid", lambda e: [*e, *e]), "masks"),
    "another robot": (attribute("robot", "ur10"), "schema"),
    "duplicate": (copied, "duplicates"),
    "missing": (lost, "index"),
}
"""What is planted in demo_1, and the check that must find it."""


def found(whole, tmp_path, plant):
    folder = tmp_path / "copy"
    shutil.copytree(whole, folder)
    with h5py.File(folder / "episodes.hdf5", "r+") as file:
        plant(file["data"])
    return list(verify(folder))


def test_a_whole_dataset_has_no_defect(whole):
    assert not list(verify(whole)) and not list(verify(whole / "episodes.hdf5"))


@pytest.mark.parametrize("name", PLANTS)
def test_what_is_planted_in_a_demonstration_is_found_and_named(whole, tmp_path, name):
    plant, check = PLANTS[name]
    defects = found(whole, tmp_path, plant)
    assert ("demo_1", check) in {(d.episode, d.check) for d in defects}, defects
    assert {d.file for d in defects} <= {"episodes.hdf5", "attempts.json"}
    # Nothing is said of a demonstration that is whole; of the last one, that its number is one too many where demo_1 is gone.
    assert {d.episode for d in defects} - {"", "demo_1"} <= ({"demo_3"} if name == "missing" else set()), defects
    assert str(defects[0]).startswith("episodes.hdf5: ") and len(defects[0].message) > 10


@pytest.mark.parametrize(
    ("plant", "episode", "check", "word"),
    [
        (total, "", "index", "126"),
        (no_environment, "", "index", "env_args"),
        (old_quaternions, "", "index", "format_version"),
        (surplus, "demo_x", "index", "too many"),
        (mask("valid", lambda e: [*e, "demo_99"]), "demo_99", "masks", "does not exist"),
    ],
)
def test_what_is_planted_in_the_file_is_found(whole, tmp_path, plant, episode, check, word):
    defects = found(whole, tmp_path, plant)
    assert any((d.episode, d.check) == (episode, check) and word in d.message for d in defects), defects


def test_what_the_disk_does_not_give_is_told_beside_everything_else(whole, tmp_path):
    """Also of a demonstration of which something has been told already, and once."""

    def plant(data):
        forget("content_sha256")(data)
        torn(data)

    defects = found(whole, tmp_path, plant)
    assert [(d.episode, d.check) for d in defects if "cannot be read" in d.message] == [("demo_1", "frames")]
    assert ("demo_1", "digest") in {(d.episode, d.check) for d in defects}


def test_next_frames_are_the_frames_one_row_later(tmp_path):
    rewrite_hdf5(fill_store(tmp_path / "a", 2), tmp_path / "robomimic.hdf5", every_next=True)
    assert not list(verify(tmp_path / "robomimic.hdf5"))
    with h5py.File(tmp_path / "robomimic.hdf5", "r+") as file:
        file["data/demo_1/next_obs/rgb"][-1] = 0
    (defect,) = verify(tmp_path / "robomimic.hdf5")
    assert (defect.episode, defect.check) == ("demo_1", "frames") and "next_obs/rgb row 30" in defect.message


@pytest.mark.parametrize("forgotten", ["success", "attempt", "state_sha256", "object_keys"])
def test_a_demonstration_without_an_attribute_beside_a_list_of_attempts(whole, tmp_path, forgotten):
    defects = found(whole, tmp_path, forget(forgotten))
    assert "demo_1" in {d.episode for d in defects} and {d.episode for d in defects} <= {"", "demo_1"}, defects


def test_a_success_that_no_file_holds_is_told(whole, tmp_path):
    def shorten(data):
        total = data.attrs["total"] - data["demo_3"].attrs["num_samples"]
        del data["demo_3"]
        data.attrs["total"] = total
        mask("train", lambda e: e[:-1])(data)

    (defect,) = found(whole, tmp_path, shorten)
    assert defect.file == "attempts.json" and "attempt 3 of task 0" in defect.message and "no file" in defect.message


def test_a_scene_without_objects_has_no_defect(tmp_path):
    none = {"object_poses_w": np.zeros((30, 0, 7), np.float32), "object_velocities_w": np.zeros((30, 0, 6), np.float32)}
    episode = possible_episode(
        0,
        object_keys=(),
        final_object_poses_w=np.zeros((0, 7), np.float32),
        raw_labels=np.zeros((30, 48, 64), np.uint8),
        **none,
    )
    store = EpisodeStore(tmp_path)
    store.write(episode)
    store.finish(1)
    assert not list(verify(tmp_path))
    write_lerobot(read_demos(store.file), tmp_path / "lerobot")
    assert not list(verify(tmp_path))


def test_a_frame_out_of_place_is_told_from_a_replaced_one(whole, tmp_path):
    (early,) = found(whole, tmp_path / "a", replace("obs/rgb", lambda a: np.roll(a, -1, 0)))
    assert "row 0 shows what was recorded in row 1" in early.message and "31 frames" in early.message
    (other,) = found(whole, tmp_path / "b", put("obs/rgb", 4, 128))
    assert "row 4 shows what was never recorded" in other.message and "1 frames" in other.message


@pytest.mark.parametrize("keep", [0.0, 0.3, 0.9])
def test_a_file_that_is_cut_off_is_named(whole, tmp_path, keep):
    content = (whole / "episodes.hdf5").read_bytes()
    (tmp_path / "episodes.hdf5").write_bytes(content[: int(len(content) * keep)])
    (defect,) = verify(tmp_path)
    assert (defect.file, defect.check) == ("episodes.hdf5", "readable") and "cut off" in defect.message


def test_another_hdf5_file_is_told(tmp_path):
    with h5py.File(tmp_path / "other.hdf5", "w") as file:
        file["x"] = 1
    (defect,) = verify(tmp_path / "other.hdf5")
    assert "no group 'data'" in defect.message


def test_a_link_that_leads_nowhere_names_the_demonstration(tmp_path):
    store = EpisodeStore(tmp_path)
    for attempt in range(3):
        store.write(possible_episode(attempt))
    store.link()
    assert not list(verify(tmp_path))
    store.path(1).unlink()
    assert {(d.episode, d.check) for d in verify(tmp_path)} >= {("demo_1", "readable")}


def test_failed_attempts_are_checked_too(tmp_path):
    store = EpisodeStore(tmp_path)
    store.write(possible_episode(0))
    empty = {name: getattr(possible_episode(2, steps=1), name)[:0] for name in ("rgb", "seam")}
    store.write(possible_episode(1, success=False, failure="slip", **empty))
    store.finish(1)
    assert not list(verify(tmp_path))
    with h5py.File(store.path(1), "r+") as file:
        file["data/demo_0/actions"][3] = np.nan
    defects = list(verify(tmp_path))
    assert {d.file for d in defects} == {"episodes/attempt_000_000001.hdf5"} and "finite" in {d.check for d in defects}


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda a: a[0] | {"success": False}, "demo_0"),
        (lambda a: a[0] | {"steps": 7}, "demo_0"),
        (lambda a: a[0] | {"index": 77}, "demo_0"),
    ],
)
def test_a_list_of_attempts_that_tells_another_story(whole, tmp_path, change, word):
    shutil.copytree(whole, tmp_path / "copy")
    file = tmp_path / "copy/attempts.json"
    attempts = json.loads(file.read_text())["attempts"]
    attempts[0] = change(attempts)
    file.write_text(json.dumps({"attempts": attempts}))
    (defect,) = verify(tmp_path / "copy")
    assert (defect.file, defect.episode, defect.check) == ("attempts.json", word, "agreement")


def test_no_dataset_there(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        list(verify(tmp_path / "nothing"))
    with pytest.raises(InputError, match="holds no dataset"):
        list(verify(tmp_path))
