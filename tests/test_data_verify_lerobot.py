"""``verify`` finds every planted defect of a LeRobot dataset and names the episode; a whole one has none."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
from data_helpers import fill_store, possible_episode

from phototwin.data.compose import read_entries, write_dataset
from phototwin.data.fingerprint import block_means, compare_means, episode_means, read_means
from phototwin.data.lerobot import DEPTH_KEY, LABELS_KEY, write_lerobot
from phototwin.data.store import read_demos
from phototwin.data.verify import verify

VIDEO = "videos/observation.images.photo/chunk-000/file-000.mp4"
ROWS = "data/chunk-000/file-000.parquet"
ENTRIES = "meta/episodes/chunk-000/file-000.parquet"
FACTS = "meta/phototwin.json"
LENGTHS = (30, 31, 32, 33)
FIRST = 30
"""Row of the table and frame of the video at which episode 1 begins."""
BEGIN = "videos/observation.images.photo/from_timestamp"
END = "videos/observation.images.photo/to_timestamp"


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A folder with episodes.hdf5 and lerobot/, as merge makes it."""
    folder = tmp_path_factory.mktemp("whole")
    file = fill_store(folder / "run", size=(96, 64))
    return write_dataset(read_entries(file), folder / "both")


def rows(change):
    """Change the table of all rows, a pandas frame; the rows of episode 1 begin at FIRST."""

    def plant(folder):
        import pandas as pd

        table = pd.read_parquet(folder / ROWS)
        table = change(table)
        table.to_parquet(folder / ROWS)

    return plant


def cell(name, row, value):
    def change(table):
        table.loc[FIRST + row, name] = value
        return table

    return rows(change)


def vector(name, change):
    """Change the (T, D) array of a feature in the rows of episode 1."""

    def all_rows(table):
        values = np.stack(table[name].to_numpy())
        values[FIRST : FIRST + 31] = change(values[FIRST : FIRST + 31].copy())
        table[name] = list(values)
        return table

    return rows(all_rows)


def at(index, value):
    def change(values):
        values[index] = value
        return values

    return change


def entry(name, value):
    def plant(folder):
        import pandas as pd

        table = pd.read_parquet(folder / ENTRIES)
        table.at[1, name] = value
        table.to_parquet(folder / ENTRIES)

    return plant


def facts(change):
    def plant(folder):
        value = json.loads((folder / FACTS).read_text())
        change(value)
        (folder / FACTS).write_text(json.dumps(value))

    return plant


def fact(name, value):
    return facts(lambda value_of: value_of[1].update({name: value}))


def video(change):
    """Decode, change the list of frames, encode again as the writer does."""

    def plant(folder):
        import av

        with av.open(str(folder / VIDEO)) as container:
            frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
        frames = change(frames)
        with av.open(str(folder / VIDEO), "w") as container:
            stream = container.add_stream("h264", 20, options={"crf": "20", "g": "8", "preset": "veryfast"})
            stream.height, stream.width = frames[0].shape[:2]
            stream.pix_fmt = "yuv420p"
            for image in frames:
                container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
            container.mux(stream.encode())

    return plant


def own(change):
    """Change the frames of episode 1."""
    return video(lambda f: f[:FIRST] + change(f[FIRST : FIRST + 31]) + f[FIRST + 31 :])


def painted(frames):
    frames[9] = np.full_like(frames[9], 90)
    return frames


def patched(frames):
    frames[9][40:56, 40:56] = 0
    return frames


def other_task(folder):
    import pandas as pd

    table = pd.read_parquet(folder / "meta/tasks.parquet")
    table.index = [name.replace(", 1", ", one") for name in table.index]
    table.to_parquet(folder / "meta/tasks.parquet")


PLANTS = {
    "episode_index": (cell("episode_index", 4, 2), "index"),
    "frame_index": (cell("frame_index", 4, 5), "index"),
    "index": (cell("index", 4, 0), "index"),
    "timestamp": (cell("timestamp", 4, 0.225), "timestamps"),
    "task_index": (cell("task_index", 4, 0), "task"),
    "task's sentence": (other_task, "task"),
    "task of the episode": (entry("tasks", ["something else"]), "task"),
    "NaN": (vector("action", at((4, 2), np.nan)), "finite"),
    "degrees": (vector("action", lambda a: a * 57.3), "units"),
    "millimetres": (vector("object_poses", lambda a: a * 1000), "units"),
    "quaternion": (vector("observation.tcp_pose", at((4, 3), 1.3)), "rotations"),
    "joint jump": (vector("observation.state", at((4, 8), 2.5)), "jumps"),
    "object jump": (vector("object_poses", at((slice(9, None), 7), 1.3)), "jumps"),
    "digest": (vector("action", at((4, 2), 0.1)), "digest"),
    "length": (entry("length", 30), "index"),
    "its part of the video is longer": (entry(END, 3.2), "timestamps"),
    "its part of the video begins late": (entry(BEGIN, 1.55), "frames"),
    "its part of the video is another's": (entry(BEGIN, 0.0), "frames"),
    "camera": (facts(lambda f: f[1]["K_px"].__setitem__(0, [0, 0, 48])), "camera"),
    "camera pose": (facts(lambda f: f[1]["T_world_camera"].__setitem__(0, [0, -1.02, 0, 0.5])), "camera"),
    "provenance": (fact("provenance", {}), "words"),
    "success": (fact("success", False), "success"),
    "another's digest": (facts(lambda f: f[1].update(state_sha256=f[0]["state_sha256"])), "agreement"),
    "of another file": (fact("state_sha256", "0" * 64), "agreement"),
    "frames one early": (own(lambda f: f[1:] + f[-1:]), "frames"),
    "frames one late": (own(lambda f: f[:1] + f[:-1]), "frames"),
    "frame dropped, last one repeated": (own(lambda f: f[:9] + f[10:] + f[-1:]), "frames"),
    "frame repeated": (own(lambda f: [*f[:9], f[8], *f[10:]]), "frames"),
    "frames exchanged": (own(lambda f: [*f[:9], f[10], f[9], *f[11:]]), "frames"),
    "frame replaced": (own(painted), "frames"),
    "patch in a frame": (own(patched), "frames"),
    "darker": (own(lambda f: [image // 10 * 9 for image in f]), "frames"),
}
"""What is planted in episode 1, and the check that must find it."""


def found(whole, tmp_path, plant):
    shutil.copytree(whole, tmp_path / "copy")
    plant(tmp_path / "copy/lerobot")
    return list(verify(tmp_path / "copy"))


def test_a_whole_dataset_has_no_defect(whole):
    assert not list(verify(whole)) and not list(verify(whole / "lerobot"))


def test_encoding_again_is_no_defect(whole, tmp_path):
    assert not found(whole, tmp_path, video(lambda frames: frames))


@pytest.mark.parametrize("name", PLANTS)
def test_what_is_planted_in_an_episode_is_found_and_named(whole, tmp_path, name):
    plant, check = PLANTS[name]
    defects = found(whole, tmp_path, plant)
    assert ("episode 1", check) in {(d.episode, d.check) for d in defects}, defects
    # Of HDF5, only that it holds what LeRobot then does not.
    assert {d.episode for d in defects if d.file.startswith("lerobot")} <= {"episode 1", "", "episodes 0 to 3"}, defects
    assert {d.check for d in defects if d.file == "episodes.hdf5"} <= {"agreement"}


def test_an_episode_that_is_there_twice_is_named_and_another_look_of_it_is_not(tmp_path):
    one, other = possible_episode(0, size=(96, 64)), possible_episode(1, size=(96, 64))
    darker = dataclasses.replace(one, rgb=one.rgb // 2)
    write_lerobot(iter([one, darker, other, one]), tmp_path / "lerobot")
    found = [(d.episode, d.check) for d in verify(tmp_path)]
    assert found == [("episode 3", "duplicates")]


def short(folder):
    content = (folder / ROWS).read_bytes()
    (folder / ROWS).write_bytes(content[: len(content) // 2])


def no_video(folder):
    (folder / VIDEO).write_bytes(b"not a video" * 100)


def less_info(folder):
    value = json.loads((folder / "meta/info.json").read_text()) | {"total_frames": 7}
    (folder / "meta/info.json").write_text(json.dumps(value))


def other_stats(folder):
    value = json.loads((folder / "meta/stats.json").read_text())
    value["action"]["max"][2] += 0.5
    (folder / "meta/stats.json").write_text(json.dumps(value))


@pytest.mark.parametrize(
    ("plant", "file", "episode", "check"),
    [
        (short, ROWS, "episodes 0 to 3", "readable"),
        (rows(lambda table: table.drop(index=5)), ROWS, "episodes 0 to 3", "layout"),
        (rows(lambda table: table.drop(columns="action")), ROWS, "episodes 0 to 3", "layout"),
        (no_video, VIDEO, "episodes 0 to 3", "readable"),
        (lambda folder: (folder / VIDEO).unlink(), VIDEO, "episodes 0 to 3", "readable"),
        (video(lambda frames: frames[:-5]), VIDEO, "episode 3", "frames"),
        (video(lambda frames: frames + frames[:5]), VIDEO, "episodes 0 to 3", "frames"),
        (less_info, "meta/info.json", "", "index"),
        (lambda folder: (folder / "meta/info.json").write_text("{"), "meta/info.json", "", "readable"),
        (lambda folder: (folder / "meta/tasks.parquet").write_bytes(b"PAR1"), "meta/tasks.parquet", "", "readable"),
        (lambda folder: (folder / ENTRIES).unlink(), "meta/episodes", "", "readable"),
        (facts(lambda value: value.pop()), FACTS, "episode 3", "words"),
        (facts(lambda value: value.append(value[0])), FACTS, "episode 4", "index"),
        (lambda f: (f / "meta/phototwin_frames.npz").write_bytes(b"x"), "meta/phototwin_frames.npz", "", "readable"),
        (other_stats, "meta/stats.json", "", "stats"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_what_is_planted_in_a_file_is_found_and_named(whole, tmp_path, plant, file, episode, check):
    defects = found(whole, tmp_path, plant)
    assert (f"lerobot/{file}", episode, check) in {(d.file, d.episode, d.check) for d in defects}, defects


def told_of(name, change):
    def plant(folder):
        value = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps(change(value)))

    return plant


def without(name):
    def plant(folder):
        import pandas as pd

        pd.read_parquet(folder / ENTRIES).drop(columns=name).to_parquet(folder / ENTRIES)

    return plant


@pytest.mark.parametrize(
    ("plant", "file", "word"),
    [
        *((without(name), "meta/episodes", name) for name in ("episode_index", "length", "data/chunk_index", BEGIN)),
        (told_of("meta/info.json", lambda v: v | {"fps": 0}), "meta/info.json", "fps"),
        (told_of("meta/info.json", lambda v: v | {"fps": "x"}), "meta/info.json", "fps"),
        (told_of("meta/info.json", lambda v: v | {"features": []}), "meta/info.json", "features"),
        (told_of("meta/info.json", lambda v: v | {"data_path": "{what}"}), "meta/info.json", "data_path"),
        (told_of("meta/info.json", lambda v: v | {"robot_type": None}), "meta/info.json", "robot_type"),
        (told_of("meta/info.json", lambda v: [1]), "meta/info.json", "fps"),
        (told_of("meta/stats.json", lambda v: [v]), "meta/stats.json", "LeRobot"),
        (told_of(FACTS, lambda v: [1, 2]), FACTS, "writer"),
    ],
)
def test_tables_that_are_not_whole_are_named_and_nothing_is_raised(whole, tmp_path, plant, file, word):
    defects = found(whole, tmp_path, plant)
    assert any((d.file, d.check) == (f"lerobot/{file}", "layout") and word in d.message for d in defects), defects


@pytest.fixture(scope="module")
def with_depth(tmp_path_factory):
    """A LeRobot dataset with depth and labels."""
    folder = tmp_path_factory.mktemp("depth")
    file = fill_store(folder / "run", size=(96, 64))
    return write_lerobot(read_demos(file), folder / "both" / "lerobot", truth=True).parent


def image(name, change):
    """Change the image of a feature in row 3 of episode 1: given and giving an array, or giving the bytes of a file."""

    def plant(table):
        import io

        from PIL import Image

        files = list(table[name])
        given = change(np.asarray(Image.open(io.BytesIO(files[FIRST + 3]["bytes"]))).copy())
        if not isinstance(given, bytes):
            with io.BytesIO() as stream:
                Image.fromarray(given).save(stream, "tiff" if name == DEPTH_KEY else "png")
                given = stream.getvalue()
        files[FIRST + 3] = {"bytes": given, "path": None}
        table[name] = files
        return table

    return rows(plant)


@pytest.mark.parametrize(
    "name, change, check",
    [
        (DEPTH_KEY, lambda depth: depth + np.uint16(1), "digest"),
        (LABELS_KEY, lambda labels: np.where(labels == 255, 1, labels).astype(np.uint16), "digest"),
        (LABELS_KEY, lambda labels: np.full_like(labels, 77), "labels"),
        (LABELS_KEY, lambda labels: b"\x89PNG", "readable"),
        (DEPTH_KEY, lambda depth: depth[:-1], "readable"),
    ],
)
def test_what_is_planted_in_depth_or_labels_is_found_and_named(with_depth, tmp_path, name, change, check):
    assert not list(verify(with_depth))
    defects = found(with_depth, tmp_path, image(name, change))
    assert (f"lerobot/{ROWS}", "episode 1", check) in {(d.file, d.episode, d.check) for d in defects}, defects
    assert {d.episode for d in defects} == {"episode 1"}


def test_fingerprints_are_small_and_come_back(whole, tmp_path):
    stored = read_means(whole / "lerobot/meta/phototwin_frames.npz")

    for i, episode in enumerate(read_demos(whole / "episodes.hdf5")):
        means = episode_means(stored, i)
        assert means is not None and (means == np.round(block_means(episode.rgb))).all()
    assert episode_means(stored, 4) is None
    assert (whole / "lerobot/meta/phototwin_frames.npz").stat().st_size < 4 * 3000


@pytest.mark.parametrize("size", [(12, 12), (5, 7), (33, 21), (640, 480)])
def test_block_means_keep_the_mean(size):
    width, height = size
    rgb = np.random.default_rng(0).integers(0, 256, (2, height, width, 3)).astype(np.uint8)
    means = block_means(rgb)
    assert means.shape == (2, 144) and means.min() >= 0 and means.max() <= 255
    if min(size) >= 12:
        gray = rgb @ (np.array([77, 150, 29]) / 256)
        edges = [np.diff([*(np.arange(12) * s // 12), s]) for s in (height, width)]
        share = np.outer(*edges).ravel() / (height * width)
        assert np.allclose((means * share).sum(1), gray.mean((1, 2)), atol=1e-3)


def test_noise_of_a_codec_is_no_defect_and_a_step_is():
    rng = np.random.default_rng(1)
    steps = np.cumsum(rng.normal(0, 2.0, (60, 144)), 0) + 100
    recorded = np.round(steps).astype(np.uint8)
    seen = steps + rng.normal(0, 0.6, steps.shape) + 1.4
    assert compare_means(recorded, seen) == []
    assert any("one frame after" in text for text in compare_means(recorded, np.roll(seen, -1, 0)))
    assert any("one frame before" in text for text in compare_means(recorded, np.roll(seen, 1, 0)))
    assert compare_means(recorded, seen[:-2]) == ["58 frames in the video, 60 recorded"]
    still = np.full((60, 144), 100.0) + rng.normal(0, 0.6, (60, 144))
    assert compare_means(np.full((60, 144), 100, np.uint8), np.roll(still, 1, 0)) == []


def test_videos_in_several_files(tmp_path, monkeypatch):
    from phototwin.data import lerobot

    monkeypatch.setattr(lerobot, "FILE_SIZE_MB", 0.001)
    lerobot.write_lerobot(read_demos(fill_store(tmp_path / "run", size=(96, 64))), tmp_path / "lerobot")
    videos = sorted((tmp_path / "lerobot/videos").rglob("*.mp4"))
    assert len(videos) == 4 and not list(verify(tmp_path / "lerobot"))
    videos[2].write_bytes(videos[1].read_bytes())
    defects = list(verify(tmp_path / "lerobot"))
    assert {(d.episode, d.check) for d in defects} == {("episode 2", "frames")}
    assert defects[0].file.endswith("file-002.mp4")


def test_a_codec_that_lags_behind_a_slow_motion_is_no_defect():
    """As seen in frames encoded twice: half a grey level a step in a few blocks, drawn most of a frame late."""
    steps = np.full((40, 144), 100.0)
    steps[10:16, :36] += np.arange(1, 7)[:, None]
    steps[16:, :36] += 6
    seen = steps.copy()
    seen[10:16, :36] -= 0.6
    assert compare_means(np.round(steps).astype(np.uint8), seen) == []
    fast = 100 + (steps - 100) * 5
    late = np.concatenate([fast[:1], fast[:-1]])
    # Windows name a few frames on either side as well.
    assert compare_means(np.round(fast).astype(np.uint8), late) == [
        "frames 6-19 show what was recorded one frame before"
    ]
