"""Every defect of a LeRobot dataset: its files, each episode, and what the tables say of the whole.

Data files are read one at a time and videos frame by frame, so memory does not grow with the dataset.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from phototwin.data import checks
from phototwin.data.checks import Defect
from phototwin.data.checks_lerobot import EPISODE_CHECKS, Rows
from phototwin.data.fingerprint import block_means, episode_means, read_means
from phototwin.data.lerobot import FACTS_FILE, MEANS_FILE

VERSION = "v3.0"
STATS_TOLERANCE = 1e-3
"""How far statistics may be from those of the rows, as a share of the range."""
ENTRY = (
    "episode_index",
    "length",
    "tasks",
    "data/chunk_index",
    "data/file_index",
    "dataset_from_index",
    "dataset_to_index",
)
OF_VIDEO = ("chunk_index", "file_index", "from_timestamp", "to_timestamp")
"""Columns of ``meta/episodes``."""


def _is_path(value: Any) -> bool:
    """Whether a pattern of ``info.json`` names a file."""
    try:
        return bool(value.format(chunk_index=0, file_index=0, video_key="v"))
    except (AttributeError, KeyError, IndexError, ValueError, TypeError):
        return False


def _are_features(value: Any) -> bool:
    parts = value.values() if isinstance(value, dict) else [None]
    return all(isinstance(part, dict) and {"dtype", "shape", "names"} <= part.keys() for part in parts)


INFO: dict[str, Any] = {
    "fps": lambda value: isinstance(value, int | float) and value > 0,
    "data_path": _is_path,
    "video_path": _is_path,
    "features": _are_features,
    "robot_type": lambda value: isinstance(value, str),
    "chunks_size": lambda value: isinstance(value, int),
    "splits": lambda value: isinstance(value, dict),
}
"""What ``info.json`` must tell, and whether it can be."""
READ_ERRORS = (OSError, ValueError, KeyError, TypeError, IndexError, RuntimeError, zipfile.BadZipFile)


@dataclass
class _Whole:
    """What is gathered over all episodes.

    Attributes:
        digests: Episode and digest of its rows.
        least, most: Smallest and largest numbers of each vector feature, (D,).
        moments: Rows of each, their sum and the sum of their squares, (3, D).
    """

    digests: list[tuple[str, str]] = field(default_factory=list)
    least: dict[str, np.ndarray] = field(default_factory=dict)
    most: dict[str, np.ndarray] = field(default_factory=dict)
    moments: dict[str, np.ndarray] = field(default_factory=dict)

    def add(self, rows: Rows) -> None:
        seen = b"" if rows.recorded is None else np.ascontiguousarray(rows.recorded).tobytes()
        task = json.dumps(rows.facts.get("task"), sort_keys=True)
        about = f"{rows.facts.get('state_sha256', rows.index)} {rows.facts.get('instruction')} {task} "
        self.digests.append((f"episode {rows.index}", hashlib.sha256(about.encode() + seen).hexdigest()))
        for name, value in rows.vectors().items():
            if len(value):
                self.least[name] = np.minimum(self.least.get(name, np.inf), value.min(0))
                self.most[name] = np.maximum(self.most.get(name, -np.inf), value.max(0))
                value = value.astype(np.float64)
                one = np.stack([np.full(value.shape[1], len(value)), value.sum(0), (value**2).sum(0)])
                self.moments[name] = self.moments.get(name, 0.0) + one

    def statistics(self, name: str) -> dict[str, np.ndarray]:
        """What ``meta/stats.json`` must tell of a feature, each (D,)."""
        count, total, squares = self.moments[name]
        mean = total / count
        std = np.sqrt(np.maximum(squares / count - mean**2, 0.0))
        return {"min": self.least[name], "max": self.most[name], "mean": mean, "std": std}


class _Dataset:
    """The tables of a dataset.

    Args:
        folder: Its folder.
        name: What defects call it.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self.folder, self.name = folder, name
        self.defects: list[Defect] = []
        self.info: dict[str, Any] = self._read("meta/info.json", _read_json) or {}
        self.facts: list[dict[str, Any]] = self._read(FACTS_FILE, _read_json) or []
        tasks = self._read("meta/tasks.parquet", _read_tasks) or {}
        self.tasks: dict[int, str] = tasks
        self.stats: dict[str, Any] = self._read("meta/stats.json", _read_json) or {}
        self.stored = self._read(MEANS_FILE, read_means)
        files = sorted(p.relative_to(folder) for p in folder.glob("meta/episodes/*/*.parquet"))
        if not files:
            self.tell("meta/episodes", "", "readable", "holds no table of episodes")
        self.entries: list[dict[str, Any]] = [e for file in files for e in self._read(str(file), _read_entries) or []]
        for file, value, kind in (("meta/stats.json", self.stats, dict), (FACTS_FILE, self.facts, list)):
            parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else [None]
            if not isinstance(value, kind) or not all(isinstance(part, dict) for part in parts):
                self.tell(file, "", "layout", "is not what LeRobot and the writer make of it")
                self.stats, self.facts = ({}, self.facts) if kind is dict else (self.stats, [])
        wrong = [name for name, fits in INFO.items() if not (isinstance(self.info, dict) and fits(self.info.get(name)))]
        if self.info and wrong:
            self.tell("meta/info.json", "", "layout", f"does not tell, or not as LeRobot does: {', '.join(wrong)}")
        if wrong:
            self.info = {}
        features = self.info.get("features", {})
        self.video_key = next((key for key, value in features.items() if value["dtype"] == "video"), "")
        columns = [*ENTRY, *(f"videos/{self.video_key}/{name}" for name in OF_VIDEO if self.video_key)]
        gone = [name for name in columns if any(name not in entry for entry in self.entries)]
        if gone:
            self.tell("meta/episodes", "", "layout", f"columns are missing: {', '.join(gone)}")
            self.entries = []

    def tell(self, file: str, episode: str, check: str, message: str) -> None:
        """Note a defect of one of the dataset's files."""
        self.defects.append(Defect(f"{self.name}/{file}" if file else self.name, episode, check, message))

    def told(self) -> Iterator[Defect]:
        """The defects noted since the last call."""
        found, self.defects = self.defects, []
        yield from found

    def _read(self, file: str, reader: Any) -> Any:
        try:
            return reader(self.folder / file)
        except READ_ERRORS as error:
            self.tell(file, "", "readable", f"cannot be read: {_short(error)}")
            return None

    def file_of(self, entry: dict[str, Any], kind: str) -> str:
        """Path of the data or video file that holds an episode, by ``info.json``."""
        place = "data" if kind == "data" else f"videos/{self.video_key}"
        chunk, file = int(entry[f"{place}/chunk_index"]), int(entry[f"{place}/file_index"])
        pattern = str(self.info[f"{kind}_path"])
        return pattern.format(chunk_index=chunk, file_index=file, video_key=self.video_key)


def verify_lerobot(folder: Path, name: str) -> Iterator[Defect]:
    """Every defect of a LeRobot dataset.

    Args:
        folder: Its folder.
        name: What defects call it.
    """
    data = _Dataset(folder, name)
    broken = bool(data.defects)
    yield from data.told()
    if not data.info or not data.entries or not data.video_key:
        if not broken:
            yield Defect(name, "", "readable", "has no video, or no episodes: expected a dataset of demonstrations")
        return
    whole = _Whole()
    videos: dict[str, np.ndarray | None] = {}
    for file, entries in _by_file(data, "data").items():
        table = _read_table(data, file, entries)
        yield from data.told()
        for entry in entries if table is not None else []:
            video = data.file_of(entry, "video")
            if video not in videos:
                videos.clear()  # episodes are in the order of their videos: one file's frames at a time
                videos[video] = _read_video(data, video, [e for e in data.entries if data.file_of(e, "video") == video])
                yield from data.told()
            assert table is not None
            yield from _episode_defects(data, file, entry, table, videos[video], whole)
    yield from _whole_defects(data, whole)


def _episode_defects(
    data: _Dataset, file: str, entry: dict[str, Any], table: Any, video: np.ndarray | None, whole: _Whole
) -> Iterator[Defect]:
    index = int(entry["episode_index"])
    episode, bent = f"episode {index}", False
    if index >= len(data.facts):
        yield Defect(
            f"{data.name}/{FACTS_FILE}", episode, "words", "has no entry: camera, success and provenance are unknown"
        )
        return
    try:
        rows = _rows(data, entry, table, video)
    except READ_ERRORS as error:
        yield Defect(f"{data.name}/{file}", episode, "readable", f"its images cannot be read: {_short(error)}")
        return
    for check, function in EPISODE_CHECKS.items():
        place = data.file_of(entry, "video") if check == "frames" else file
        try:
            for text in function(rows):
                bent = bent or check in ("index", "layout")
                yield Defect(f"{data.name}/{place}", episode, check, text)
        except READ_ERRORS as error:
            if not bent:  # of what has other rows than it should later checks know nothing
                yield Defect(f"{data.name}/{place}", episode, check, f"cannot be checked: {_short(error)}")
            bent = True
    whole.add(rows)


def _rows(data: _Dataset, entry: dict[str, Any], table: Any, video: np.ndarray | None) -> Rows:
    index, length = int(entry["episode_index"]), int(entry["length"])
    first = int(entry["dataset_from_index"]) - table["first"]
    columns = {name: value[first : first + length] for name, value in table["columns"].items()}
    columns |= {name: _images(value) for name, value in columns.items() if value.dtype == object}
    begin = round(float(entry[f"videos/{data.video_key}/from_timestamp"]) * float(data.info["fps"]))
    means = None if video is None else video[begin : begin + length]
    recorded = None if data.stored is None else episode_means(data.stored, index)
    return Rows(index, entry, columns, data.facts[index], data.info, data.tasks, means, recorded, data.video_key)


def _whole_defects(data: _Dataset, whole: _Whole) -> Iterator[Defect]:
    info, place = data.info, f"{data.name}/meta/info.json"
    if info.get("codebase_version") != VERSION:
        yield Defect(place, "", "index", f"codebase_version is {info.get('codebase_version')}, expected {VERSION}")
    totals = {"total_episodes": len(data.entries), "total_tasks": len(data.tasks)}
    totals["total_frames"] = sum(int(e["length"]) for e in data.entries)
    for name, want in totals.items():
        if info.get(name) != want:
            yield Defect(place, "", "index", f"{name} is {info.get(name)}, but the tables hold {want}")
    if [int(e["episode_index"]) for e in data.entries] != list(range(len(data.entries))):
        yield Defect(f"{data.name}/meta/episodes", "", "index", "episode_index does not count from 0 without gaps")
    if len(data.facts) > len(data.entries):
        yield Defect(f"{data.name}/{FACTS_FILE}", f"episode {len(data.entries)}", "index", "is not in the dataset")
    for episode, text in checks.repeated(whole.digests):
        yield Defect(data.name, episode, "duplicates", text)
    if len(whole.digests) < len(data.entries):
        return  # what was not read is in the statistics
    for name in whole.least:
        for kind, value in whole.statistics(name).items():
            said = np.asarray(data.stats.get(name, {}).get(kind, []), np.float64)
            room = STATS_TOLERANCE * (1 + np.abs(value))
            if said.shape != value.shape or (np.abs(said - value) > room).any():
                yield Defect(f"{data.name}/meta/stats.json", "", "stats", f"{kind} of {name} is not that of the rows")


def _by_file(data: _Dataset, kind: str) -> dict[str, list[dict[str, Any]]]:
    """Episodes by the file that holds them, in order."""
    found: dict[str, list[dict[str, Any]]] = {}
    for entry in data.entries:
        found.setdefault(data.file_of(entry, kind), []).append(entry)
    return found


def _read_table(data: _Dataset, file: str, entries: list[dict[str, Any]]) -> Any:
    """The first row's index and the columns of a data file; None where it cannot be read."""
    import pyarrow.parquet as parquet

    first = min(int(e["dataset_from_index"]) for e in entries)
    try:
        table = parquet.read_table(data.folder / file)
        columns = {name: _column(table.column(name)) for name in table.column_names}
        missing = [k for k, v in data.info["features"].items() if v["dtype"] != "video" and k not in columns]
        if missing:
            data.tell(file, _range(entries), "layout", f"columns are missing: {', '.join(missing)}")
            return None
    except READ_ERRORS as error:
        data.tell(file, _range(entries), "readable", f"cannot be read: {_short(error)}")
        return None
    rows, want = table.num_rows, sum(int(e["length"]) for e in entries)
    if rows != want:
        data.tell(file, _range(entries), "layout", f"has {rows} rows, but its episodes are {want} long together")
    return {"first": first, "columns": columns}


def _column(column: Any) -> np.ndarray:
    """(T,) or (T, D) array of a parquet column; of one of images the bytes of each file."""
    import pyarrow as pa

    flat = column.combine_chunks()
    if isinstance(flat, pa.ChunkedArray):
        flat = pa.concat_arrays(flat.chunks)
    if pa.types.is_struct(flat.type):
        return flat.field("bytes").to_numpy(zero_copy_only=False)
    if pa.types.is_list(flat.type) or pa.types.is_large_list(flat.type) or pa.types.is_fixed_size_list(flat.type):
        return flat.flatten().to_numpy(zero_copy_only=False).reshape(len(flat), -1)
    return flat.to_numpy(zero_copy_only=False)


def _images(files: np.ndarray) -> np.ndarray:
    """(T, H, W, 1) array of images of one channel."""
    from PIL import Image

    return np.stack([np.asarray(Image.open(io.BytesIO(file))) for file in files])[..., None]


def _read_video(data: _Dataset, file: str, entries: list[dict[str, Any]]) -> np.ndarray | None:
    """Block means (N, B) of all frames of a video, decoded one after another; None where it cannot be opened."""
    import av

    fps, means, late = float(data.info["fps"]), [], None
    try:
        with av.open(str(data.folder / file)) as container:
            for i, frame in enumerate(container.decode(video=0)):
                if late is None and (frame.time is None or abs(frame.time - i / fps) > 0.5 / fps):
                    late = f"frame {i} is at {frame.time} s, expected {i / fps:.4f} s at {fps:g} frames/s"
                means.append(block_means(frame.to_ndarray(format="rgb24")[None])[0])
    except (*READ_ERRORS, av.FFmpegError) as error:
        data.tell(file, _range(entries), "readable", f"cannot be decoded beyond frame {len(means)}: {_short(error)}")
        if not means:
            return None
    if late is not None:
        data.tell(file, _range(entries), "timestamps", late)
    want = max(round(float(e[f"videos/{data.video_key}/to_timestamp"]) * fps) for e in entries)
    if len(means) > want:
        data.tell(file, _range(entries), "frames", f"has {len(means)} frames, but its episodes end at {want}")
    return np.stack(means)


def _range(entries: list[dict[str, Any]]) -> str:
    numbers = [int(e["episode_index"]) for e in entries]
    return f"episode {numbers[0]}" if len(numbers) == 1 else f"episodes {min(numbers)} to {max(numbers)}"


def _short(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0] or type(error).__name__


def _read_json(file: Path) -> Any:
    return json.loads(file.read_text())


def _read_tasks(file: Path) -> dict[int, str]:
    import pandas as pd

    table = pd.read_parquet(file)
    return {int(number): str(sentence) for sentence, number in table["task_index"].items()}


def _read_entries(file: Path) -> list[dict[str, Any]]:
    import pyarrow.parquet as parquet

    names = [name for name in parquet.read_schema(file).names if not name.startswith("stats/")]
    return parquet.read_table(file, columns=names).to_pylist()
