"""Twenty defects planted one by one in a copy of a run's datasets: how many of them ``verify`` finds, and names the demonstration of."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from phototwin.data.compose import read_entries, write_dataset
from phototwin.data.lerobot import FACTS_FILE
from phototwin.data.verify import HDF5_NAME, LEROBOT_NAME, verify
from phototwin_tasks.benchmarks import Measure

DEMOS = 4
"""In the copy; defects are planted in the second."""
ROWS = "data/chunk-000/file-000.parquet"
VIDEO = "videos/observation.images.photo/chunk-000/file-000.mp4"


def _values(path: str, change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Any], None]:
    """Put a changed copy of an array in its place."""

    def plant(demo: Any) -> None:
        value = change(demo[path][()])
        del demo[path]
        demo[path] = value

    return plant


def _at(index: Any, value: float) -> Callable[[np.ndarray], np.ndarray]:
    def change(values: np.ndarray) -> np.ndarray:
        values[index] = value
        return values

    return change


def _torn(demo: Any) -> None:
    """Overwrite a compressed part of the frames, as a bad disk does."""
    place = demo["obs/rgb"].id.get_chunk_info(0).byte_offset
    demo.file.flush()
    with open(demo.file.filename, "r+b") as stream:
        stream.seek(place + 10)
        stream.write(b"\xff" * 40)


def _twice(demo: Any) -> None:
    data, name = demo.parent, demo.name.rpartition("/")[2]
    del data[name]
    data.copy("demo_0", name)


IN_HDF5: dict[str, Callable[[Any], Any]] = {
    "rows missing": _values("actions", lambda a: a[:-3]),
    "NaN": _values("actions", _at((7, 2), np.nan)),
    "degrees": _values("obs/joint_pos", lambda a: a * np.float32(57.3)),
    "millimetres": _values("obs/object_poses", lambda a: a * 1000),
    "quaternion without norm": _values("obs/tcp_pose", _at((5, 3), 1.2)),
    "another frame rate": lambda demo: demo.attrs.__setitem__("fps", 60.0),
    "failed": lambda demo: demo.attrs.__setitem__("success", False),
    "next row not shifted": _values("next_obs/tcp_pose", lambda a: np.roll(a, 1, 0)),
    "one bit of an action": _values("actions", lambda a: a.view(np.uint32).__xor__(np.uint32(1)).view(np.float32)),
    "frames one early": _values("obs/rgb", lambda a: np.roll(a, -1, 0)),
    "one pixel": _values("obs/rgb", lambda a: a ^ (np.arange(a.size).reshape(a.shape) == 0).astype(np.uint8)),
    "torn file": _torn,
    "the same twice": _twice,
}
"""What is planted in a demonstration's group."""


def _table(change: Callable[[Any, slice], None]) -> Callable[[Path, slice], None]:
    """Change the table of all rows, of which the slice is the second episode's."""

    def plant(folder: Path, own: slice) -> None:
        import pandas

        table = pandas.read_parquet(folder / ROWS)
        change(table, own)
        table.to_parquet(folder / ROWS)

    return plant


def _video(change: Callable[[list[np.ndarray], slice], list[np.ndarray]]) -> Callable[[Path, slice], None]:
    """Change the frames of the video, of which the slice is the second episode's, and encode them again."""

    def plant(folder: Path, own: slice) -> None:
        import av

        frames, rate = [], None
        with av.open(str(folder / VIDEO)) as container:
            frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
            rate = container.streams.video[0].average_rate
        with av.open(str(folder / VIDEO), "w") as container:
            stream = container.add_stream("h264", rate, options={"crf": "20", "g": "8", "preset": "veryfast"})
            stream.height, stream.width = frames[0].shape[:2]
            stream.pix_fmt = "yuv420p"
            for image in change(frames, own):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
            container.mux(stream.encode())

    return plant


def _facts(name: str, value: Any) -> Callable[[Path, slice], None]:
    def plant(folder: Path, own: slice) -> None:
        facts = json.loads((folder / FACTS_FILE).read_text())
        facts[1][name] = value
        (folder / FACTS_FILE).write_text(json.dumps(facts))

    return plant


def _doubled(table: Any, own: slice) -> None:
    column = table["action"].to_list()
    column[own.start + 4] = 2 * column[own.start + 4]
    table["action"] = column


def _black(frames: list[np.ndarray], own: slice) -> list[np.ndarray]:
    frames[own.start + 9] = np.zeros_like(frames[0])
    return frames


IN_LEROBOT: dict[str, Callable[[Path, slice], None]] = {
    "a row's time": _table(lambda table, own: table.__setitem__("timestamp", table["timestamp"].where(table.index != own.start + 4, 9.0))),
    "a row's episode": _table(lambda table, own: table.__setitem__("episode_index", table["episode_index"].where(table.index != own.start + 4, 0))),
    "an action doubled": _table(_doubled),
    "frames one late": _video(lambda f, own: [*f[: own.start], f[own.start], *f[own.start : own.stop - 1], *f[own.stop :]]),
    "a black frame": _video(_black),
    "no provenance": _facts("provenance", {}),
    "camera of another size": _facts("K_px", [[4000.0, 0.0, 2000.0], [0.0, 4000.0, 1500.0], [0.0, 0.0, 1.0]]),
}  # fmt: skip
"""What is planted in the folder of the dataset."""


def defect_rows(file: Path, scratch: Path) -> Iterator[Measure]:
    """How many planted defects are found, with the demonstration named.

    Args:
        file: HDF5 file of a run.
        scratch: For the copies.
    """
    import h5py

    whole, copy = scratch / "defects", scratch / "defects_copy"
    shutil.rmtree(whole, ignore_errors=True)
    entries = read_entries(file)[:DEMOS]
    write_dataset(entries, whole)
    before = [str(defect) for defect in verify(whole)]
    yield Measure("defects before any is planted", f"{DEMOS} demonstrations", len(before), "", "== 0", *before[:1])
    own = slice(entries[0].steps, entries[0].steps + entries[1].steps)
    missed = []
    for name in (*IN_HDF5, *IN_LEROBOT):
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(whole, copy)
        if name in IN_LEROBOT:
            IN_LEROBOT[name](copy / LEROBOT_NAME, own)
        else:
            with h5py.File(copy / HDF5_NAME, "r+") as stream:
                IN_HDF5[name](stream["data/demo_1"])
        found = [d for d in verify(copy) if str(d) not in before]
        if not any(defect.episode in ("demo_1", "episode 1") for defect in found):
            missed.append(name)
    count = len(IN_HDF5) + len(IN_LEROBOT)
    said = f"missed: {', '.join(missed)}" if missed else "each with its demonstration"
    yield Measure("planted defects that verify finds", f"{count} planted", count - len(missed), "", f"== {count}", said)
