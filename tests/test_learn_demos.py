"""Demonstrations in memory: what the dataset holds, where things are in it, chunks, joins and statistics."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from learn_helpers import BC, STEPS, small_dataset, square_demos
from test_data_lerobot import smooth_episode

from phototwin.data.lerobot import write_lerobot
from phototwin.errors import InputError
from phototwin.frames import invert, make_T, matrix_from_quat_xyzw
from phototwin.learn.demos import chunk_rows, join_demos, load_demos
from phototwin.learn.policy import image_stats
from phototwin.learn.views import turn_views


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return small_dataset(tmp_path_factory.mktemp("learn") / "lerobot")


def test_frames_and_rows_are_those_of_the_dataset(dataset):
    folder, episodes = dataset
    demos = load_demos(folder, 32)
    assert len(demos) == 3 and demos.starts.tolist() == [0, 13, 19, 28] and demos.resolution == (64, 48)
    assert (demos.fps, demos.robot, demos.action_names) == (20, "panda", episodes[0].action_names)
    assert (demos.action == np.concatenate([e.action for e in episodes])).all()
    assert demos.state_names == episodes[0].joint_names
    assert (demos.state == np.concatenate([e.joint_pos for e in episodes])).all()
    wanted = np.concatenate([e.rgb.mean((1, 2)) for e in episodes])
    assert np.abs(demos.rgb.mean((1, 2)) - wanted).max() < 2.5, "each frame is its own"
    short = load_demos(folder, 32, 2)
    assert len(short) == 2 and (short.rgb == demos.rgb[:19]).all() and len(short.action) == 19


def test_marks_are_where_the_camera_of_each_episode_has_them(dataset):
    """By OpenCV's own projection."""
    import cv2

    from phototwin.learn.demos import MARKS_B

    folder, episodes = dataset
    demos = load_demos(folder, 32)
    for i, episode in enumerate(episodes):
        points_w = make_T(matrix_from_quat_xyzw(episode.base_pose_w[3:]), episode.base_pose_w[:3])
        T_camera_base = invert(episode.T_world_camera) @ points_w
        turn, _ = cv2.Rodrigues(T_camera_base[:3, :3])
        uv, _ = cv2.projectPoints(MARKS_B, turn, T_camera_base[:3, 3], episode.K_px, np.zeros(4))
        wanted = uv[:, 0] / (32, 24) - 1  # frames of 64 x 48
        assert np.allclose(demos.marks[demos.starts[i]].reshape(-1, 2), wanted, atol=1e-4)


def test_places_are_those_of_the_tasks_objects_first(dataset, tmp_path):
    """In a scene where the thing that is taken stands second, and beside another where it is the only one."""
    from phototwin.learn.demos import task_first

    row = {"object_keys": ["bowl", "cube", "mug", "distractor_1"], "task": {"object": "cube", "target": "bowl"}}
    assert task_first(row) == [1, 0, 2]
    steps = [{"object": "mug", "target": ""}, {"object": "cube", "target": "mug"}]
    assert task_first({**row, "task": {"object": "mug", "steps": json.dumps(steps)}}) == [2, 1, 0]
    assert task_first({"object_keys": []}) == task_first({}) == []
    folder, _ = dataset
    plain = load_demos(folder, 32)
    shutil.copytree(folder, tmp_path / "set")
    file = tmp_path / "set/meta/phototwin.json"
    facts = json.loads(file.read_text())
    last = facts[1]["object_keys"][-1]
    facts[1]["task"] = {"family": "lift", "object": last}
    file.write_text(json.dumps(facts))
    demos, count = load_demos(tmp_path / "set", 32), len(facts[1]["object_keys"])
    begin, end = plain.starts[1:3]
    seen = plain.places[begin:end, 2:].reshape(end - begin, count, 2)
    first = task_first(json.loads((folder / "meta/phototwin.json").read_text())[1])
    wanted = seen[:, first.index(count - 1)]
    assert np.array_equal(demos.places[begin:end, 2:4], wanted) and np.array_equal(
        demos.places[:begin], plain.places[:begin]
    )


def test_a_turned_view_shows_things_where_they_are_told_to_be():
    """A bright spot in the frame is found where its place has gone, for a camera whose turn is a homography."""
    rng = np.random.default_rng(3)
    size, count = 64, 40
    spots = rng.uniform(-0.5, 0.5, (count, 2)).astype(np.float32)
    middle = (np.arange(size) + 0.5) / size * 2 - 1
    far = (middle[None, None, :] - spots[:, 0, None, None]) ** 2 + (
        middle[None, :, None] - spots[:, 1, None, None]
    ) ** 2
    rgb = np.repeat((255 * np.exp(-far / 0.01)).astype(np.uint8)[..., None], 3, -1)
    K = np.broadcast_to(np.diag([2.5, 2.5, 1.0]), (count, 3, 3))
    demos = replace(square_demos(count), rgb=rgb, places=spots, marks=spots * 2, K=K, starts=np.arange(count + 1))
    frames = np.arange(count)
    same = turn_views(demos, frames, 0.0, rng)
    assert (same[0] == rgb).all() and (same[1] == spots).all()
    turned, places, marks = turn_views(demos, frames, 4.0, rng)
    weight = turned[..., 0].astype(float) ** 2
    weight /= weight.sum((1, 2), keepdims=True)
    found = np.stack([(weight.sum(1) * middle).sum(-1), (weight.sum(2) * middle).sum(-1)], -1)
    moved = np.linalg.norm(places - spots, axis=1) * size / 2
    assert moved.mean() > 2 and np.abs(found - places).max() * size / 2 < 0.3  # px
    assert np.linalg.norm(marks - 2 * spots, axis=1).mean() > 0.05


def test_statistics_of_frames_do_not_depend_on_how_many_there_are():
    some = np.random.default_rng(0).integers(20, 250, (7, 48, 64, 3)).astype(np.uint8)
    rows = some.reshape(-1, 3) / 255.0
    found = image_stats(some)
    for name, want in (("mean", rows.mean(0)), ("std", rows.std(0)), ("min", rows.min(0)), ("max", rows.max(0))):
        np.testing.assert_allclose(found[name].ravel(), want, atol=1e-6)
    many = image_stats(np.repeat(some, 900, axis=0))  # 19 million pixels: float32 counts to 16.8
    assert all((many[name] == found[name]).all() for name in found)
    flat = image_stats(np.full((2, 4, 4, 3), 255, np.uint8))
    assert (flat["std"] >= 1e-3).all() and (flat["min"] == 1.0).all() and (flat["max"] > flat["min"]).all()


def test_takeovers_do_not_shorten_the_time_for_an_attempt(dataset, tmp_path):
    from phototwin.learn.train import make_facts

    folder, _ = dataset
    half = [replace(smooth_episode(i, 8, (64, 48)), provenance={"round": 1, "twin": "t"}) for i in range(2)]
    write_lerobot(half, tmp_path / "round")
    takeovers, whole = load_demos(tmp_path / "round", 32), load_demos(folder, 32)
    assert whole.whole.all() and not takeovers.whole.any()
    seconds = make_facts(BC, whole).seconds
    assert make_facts(BC, takeovers).seconds == 8 / takeovers.fps != seconds
    both = join_demos([whole, takeovers])
    assert make_facts(BC, both).seconds == seconds and len(both.whole) == len(both)


def test_a_chunk_ends_with_its_episode():
    demos = replace(square_demos(3), starts=np.array([0, 6, 12, 18]))
    rows, behind = chunk_rows(demos, np.array([0, 4, 11, 12]), 4)
    assert rows.tolist() == [[0, 1, 2, 3], [4, 5, 5, 5], [11, 11, 11, 11], [12, 13, 14, 15]]
    assert behind.sum(1).tolist() == [0, 2, 3, 0]


def test_datasets_are_joined_and_refused_where_they_differ():
    a, b = square_demos(3), square_demos(2, seed=1)
    both = join_demos([a, b])
    assert len(both) == 5 and both.starts[-1] == 5 * STEPS and (both.action[3 * STEPS :] == b.action).all()
    others = {"robot": "ur10", "fps": 30, "resolution": (64, 32), "state_names": ("a", "c", "b")}
    for name, value in others.items():
        with pytest.raises(InputError, match=f"cannot be joined: {name.replace('_', ' ')} is"):
            join_demos([a, replace(b, **{name: value})])
