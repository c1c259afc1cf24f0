"""What a demonstration takes on the disk, how fast datasets are written and read beside the bare libraries, and whether intervals cover."""

from __future__ import annotations

import importlib
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from phototwin.data.hdf5 import CHUNK_FRAMES, GZIP_LEVEL, write_episode
from phototwin.data.lerobot import IMAGE_KEY, write_lerobot
from phototwin.data.store import read_demos
from phototwin.data.verify import verify
from phototwin.learn.statistics import narrow_enough, success_rate
from phototwin_tasks.benchmarks import Measure
from phototwin_tasks.benchmarks.learn_defects import defect_rows

READS = 200
DEMOS = 8
RATES = np.linspace(0.02, 0.98, 97)
TRIALS = 100


def data_rows(run: Path, scratch: Path) -> Iterator[Measure]:
    """Sizes and speeds of the datasets of a run.

    Args:
        run: Folder of a run of generate.py.
        scratch: For what is written.
    """
    import h5py

    for name in ("ours_lerobot", "lerobot_alone"):  # of a suite that was interrupted
        shutil.rmtree(scratch / name, ignore_errors=True)
    importlib.import_module("lerobot.datasets.lerobot_dataset")  # takes 10 s, which are no part of writing
    file, lerobot = run / "demos" / "episodes.hdf5", run / "demos" / "lerobot"
    episodes = list(read_demos(file, DEMOS))
    frames = sum(len(e.rgb) for e in episodes)
    with h5py.File(file) as stream:
        count = len(stream["data"])  # pyright: ignore[reportArgumentType]
    size = "x".join(map(str, episodes[0].rgb.shape[1:3]))
    what = f"{frames} frames of {size}"
    yield Measure("HDF5, a demonstration", what, file.stat().st_size / count / 1e6, "MB")
    video = sum(f.stat().st_size for f in lerobot.rglob("*") if f.is_file())
    yield Measure("LeRobot, a demonstration", what, video / count / 1e6, "MB")

    def ours() -> None:
        with h5py.File(scratch / "ours.hdf5", "w") as out:
            for i, episode in enumerate(episodes):
                write_episode(out.create_group(f"data/demo_{i}"), episode)

    def plain() -> None:
        with h5py.File(scratch / "plain.hdf5", "w") as out:
            for i, episode in enumerate(episodes):
                chunks = (CHUNK_FRAMES, *episode.rgb.shape[1:])
                options = {"chunks": chunks, "compression": "gzip", "compression_opts": GZIP_LEVEL}
                out.create_dataset(f"data/demo_{i}/obs/rgb", data=episode.rgb, **options)

    mine, bare = _seconds(ours), _seconds(plain)
    yield Measure("writing HDF5", what, frames / mine, "frames/s", None, "all that an episode has")
    yield Measure(
        "writing HDF5 against h5py alone",
        what,
        bare / mine,
        "x",
        None,
        "alone: frames, the same gzip, chunks of whole frames",
    )
    made = _seconds(lambda: write_lerobot(episodes, scratch / "ours_lerobot"))
    theirs = _seconds(lambda: _lerobot_alone(episodes, scratch / "lerobot_alone"))
    yield Measure("writing LeRobot", what, frames / made, "frames/s")
    yield Measure("writing LeRobot against LeRobot's own encoder", what, theirs / made, "x")
    yield from _read_rows(scratch, what)
    found = len(list(verify(run)))
    yield Measure("defects that verify sees in it", what, found, "", "== 0")
    yield from defect_rows(file, scratch)


def _read_rows(scratch: Path, what: str) -> Iterator[Measure]:
    import h5py
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    rng = np.random.default_rng(0)
    with h5py.File(scratch / "ours.hdf5") as mine, h5py.File(scratch / "plain.hdf5") as bare:
        names = [f"data/demo_{i}/obs/rgb" for i in rng.integers(0, len(mine["data"]), READS)]  # pyright: ignore[reportArgumentType]
        rows = [int(rng.integers(0, len(mine[name]))) for name in names]  # pyright: ignore[reportArgumentType]
        seconds = [_seconds(lambda of=of: [of[n][t] for n, t in zip(names, rows, strict=True)]) for of in (mine, bare)]  # pyright: ignore[reportIndexIssue]
    yield Measure("random frames of HDF5", what, READS / seconds[0], "frames/s")
    yield Measure("random frames of HDF5 against h5py alone", what, seconds[1] / seconds[0], "x")
    folders = (scratch / "ours_lerobot", scratch / "lerobot_alone")
    mine, alone = (LeRobotDataset("phototwin", root=folder, video_backend="pyav") for folder in folders)
    picks = [int(i) for i in rng.integers(0, len(mine), READS)]
    seconds = [_seconds(lambda of=of: [of[i] for i in picks]) for of in (mine, alone) if of[picks[0]]]
    yield Measure("random frames of LeRobot", what, READS / seconds[0], "frames/s", None, "by LeRobot's own reader")
    yield Measure("random frames of LeRobot against what its own encoder wrote", what, seconds[1] / seconds[0], "x")


def _lerobot_alone(episodes: list[Any], folder: Path) -> None:
    """The same frames through LeRobot's writer with its own streaming encoder."""
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    features = {
        IMAGE_KEY: {"dtype": "video", "shape": episodes[0].rgb.shape[1:], "names": ["height", "width", "channels"]},
        "action": {"dtype": "float32", "shape": episodes[0].action.shape[1:], "names": list(episodes[0].action_names)},
    }
    dataset = LeRobotDataset.create(
        "alone", round(episodes[0].fps), features, root=folder, video_backend="pyav", streaming_encoding=True
    )
    for episode in episodes:
        for t in range(len(episode.action)):
            dataset.add_frame({IMAGE_KEY: episode.rgb[t], "action": episode.action[t], "task": episode.instruction})
        dataset.save_episode()
    dataset.finalize()


def _seconds(call: Callable[[], Any]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def interval_rows(runs: int) -> Iterator[Measure]:
    """How often intervals hold the truth: exactly for a fixed number of trials, simulated where one stops early."""
    from scipy.stats import binom

    chance = binom.pmf(np.arange(TRIALS + 1)[:, None], TRIALS, RATES)
    for method, target in (("wilson", ">= 0.94"), ("exact", ">= 0.95"), ("always", ">= 0.95")):
        rates = [success_rate(k, TRIALS, method=method) for k in range(TRIALS + 1)]
        low, high = np.array([r.low for r in rates])[:, None], np.array([r.high for r in rates])[:, None]
        covered = (chance * ((low <= RATES) & (high >= RATES))).sum(0)
        what = f"{TRIALS} trials, rates {RATES[0]:g} to {RATES[-1]:g}"
        yield Measure(f"{method}: truth covered, mean", what, covered.mean(), "", target, f"least {covered.min():.3f}")
    rng = np.random.default_rng(0)
    for method, target in (("wilson", None), ("always", ">= 0.95")):
        held = float(np.mean([_stopped(rng, method) for _ in range(runs)]))
        yield Measure(f"{method}: truth covered when stopping early", f"{runs} simulated runs", held, "", target)


def _stopped(rng: np.random.Generator, method: str) -> bool:
    """Whether the interval holds a random truth at the moment where it first is narrower than a tenth to either side."""
    truth = float(rng.uniform(0.05, 0.95))
    done = np.cumsum(rng.random(1000) < truth)
    for n in range(10, 1001, 10):
        rate = success_rate(int(done[n - 1]), n, method=method)
        if rate.half_width <= 0.1:
            return rate.low <= truth <= rate.high
    assert method != "always" or not narrow_enough(int(done[-1]), 1000, 0.1)
    return True
