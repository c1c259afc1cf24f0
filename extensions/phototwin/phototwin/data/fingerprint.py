"""Fingerprints of frames, recorded when a dataset is written and compared when it is verified.

HDF5 keeps frames bit by bit, so each has the first bytes of its SHA-256. A video does not: there each frame has the mean
brightness of a grid of blocks, which H.264 at CRF 20 changes by about half a grey level while one step of the robot changes
some blocks by ten.

Measured on 11 runs (54 demonstrations of three photos, 64 to 640 pixels wide): the means of decoded frames differ from the recorded
ones by at most 0.75 rms and 3.8 in one block (1.3 and 5.7 at 64 pixels), after the offset that is the same in all frames of an
episode (up to 2.1 rms, from the conversion to YUV) is taken off. Where two neighbouring frames differ by
``MOTION`` or more (half of all frames), a frame lies at most 0.24 of the way to its neighbour (0.40 at 64 pixels), and a
shifted one at least 0.76 (0.61); over windows in which ``WINDOW_MOTION`` is summed up (three of four frames) at most 0.19 (0.30) and at least
0.81 (0.69). ``NEIGHBOUR`` is between the two. Encoding a second time changes no more than that.
"""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

HASH_BYTES = 8
"""Of the SHA-256 of each frame: two different frames have the same with a chance of 5e-20."""
GRID = 12
"""Blocks along each side of a frame: large enough to average what the codec leaves out, small enough to see a step."""
LUMA_256 = (77, 150, 29)
"""Weights of red, green and blue in brightness (BT.601), in 256ths."""
MOTION = 12.0
"""Norm of the difference of two frames' means from which on they can be told apart [grey levels]: one level rms."""
NEIGHBOUR = 0.5
"""How far towards its neighbour a frame may lie."""
WINDOW = 9
"""Frames over which a small motion is summed up."""
WINDOW_MOTION = 24.0
"""The same as ``MOTION`` of all differences in a window: a codec that lags behind a slow motion lags in all of its frames."""
REPLACED = 3.0
"""Rms difference from what was recorded that makes it another picture [grey levels]."""
REPLACED_BLOCK = 15.0
"""The same in one block."""
OFFSET = 5.0
"""The same for what is common to all frames of an episode."""


def hash_frames(frames: np.ndarray) -> np.ndarray:
    """(T, HASH_BYTES) uint8 of frames (T, ...): the first bytes of each one's SHA-256."""
    digests = [hashlib.sha256(np.ascontiguousarray(frame)).digest()[:HASH_BYTES] for frame in frames]
    return np.frombuffer(b"".join(digests), np.uint8).reshape(len(digests), HASH_BYTES)


def hash_rows(columns: Iterable[np.ndarray]) -> str:
    """SHA-256 of columns (T, ...) as float32, one after another, with their shapes."""
    digest = hashlib.sha256()
    for column in columns:
        value = np.ascontiguousarray(column, dtype=np.float32)
        digest.update(f"{value.shape}".encode())
        digest.update(value.tobytes())
    return digest.hexdigest()


def block_means(frames: np.ndarray) -> np.ndarray:
    """(T, GRID * GRID) float32 mean brightness of the blocks of frames (T, H, W, 3) uint8, 0 to 255.

    A side that is shorter than the grid has blocks of one pixel, some of them twice.
    """
    weights = np.array(LUMA_256, np.uint32)
    luma: np.ndarray = np.zeros(frames.shape[:3], np.uint32)
    for i in range(3):
        luma += frames[..., i] * weights[i]
    for axis in (1, 2):
        size = frames.shape[axis]
        edges = np.arange(GRID) * size // GRID
        counts = np.maximum(np.diff(np.append(edges, size)), 1)
        luma = np.add.reduceat(luma, edges, axis) / counts.reshape([-1 if i == axis else 1 for i in range(3)])
    return (luma / 256).astype(np.float32).reshape(len(frames), GRID * GRID)


class MeansWriter:
    """Appends episodes' block means to a file, one compressed member each; close it to make it readable.

    Means are stored as bytes, time last: what stands still costs almost nothing, 2 to 5 KB a demonstration in all.

    Args:
        file: The file; one that was there is replaced.
    """

    def __init__(self, file: Path) -> None:
        self._zip = zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=9)

    def add(self, episode: int, frames: np.ndarray) -> None:
        """Store the fingerprint of the frames (T, H, W, 3) of an episode."""
        means = np.round(block_means(frames)).astype(np.uint8).T
        change = np.diff(means, axis=1, prepend=np.uint8(0))
        stream = io.BytesIO()
        np.lib.format.write_array(stream, np.ascontiguousarray(change))
        # A fixed date: the same episodes make the same bytes.
        self._zip.writestr(zipfile.ZipInfo(f"{episode:06d}.npy"), stream.getvalue(), zipfile.ZIP_DEFLATED, 9)

    def close(self) -> None:
        """Complete the file."""
        self._zip.close()


def read_means(file: Path) -> Any:
    """A mapping of what ``MeansWriter`` wrote, read on demand: see ``episode_means``.

    Raises:
        OSError, zipfile.BadZipFile: There is no such file or it is damaged.
    """
    return np.load(file)


def episode_means(stored: Any, episode: int) -> np.ndarray | None:
    """(T, GRID * GRID) uint8 recorded of an episode; None where nothing was."""
    name = f"{episode:06d}"
    return np.cumsum(stored[name], axis=1, dtype=np.uint8).T if name in stored else None


def compare_means(recorded: np.ndarray, seen: np.ndarray) -> list[str]:
    """What is wrong with the frames of an episode, in sentences, given what was recorded and what is seen, each (T, B); [] where nothing is."""
    if len(recorded) != len(seen):
        return [f"{len(seen)} frames in the video, {len(recorded)} recorded"]
    want, error = recorded.astype(np.float64), seen - recorded.astype(np.float64)
    offset = np.median(error, axis=0)
    error -= offset
    found = []
    rms, worst = np.sqrt((error**2).mean(1)), np.abs(error).max(1)
    other = np.flatnonzero((rms > REPLACED) | (worst > REPLACED_BLOCK))
    for step, name in ((-1, "before"), (1, "after")):
        towards = _towards(want, error, step)
        moved = np.flatnonzero(towards > NEIGHBOUR)
        if len(moved):
            found.append(f"frames {_spans(moved)} show what was recorded one frame {name}")
            other = np.setdiff1d(other, moved)
    if np.sqrt((offset**2).mean()) > OFFSET:
        found.append(f"all frames differ from what was recorded by {np.sqrt((offset**2).mean()):.1f} grey levels")
    if len(other):
        found.append(
            f"frames {_spans(other)} are other pictures than were recorded: blocks differ by up to {worst[other].max():.1f} grey levels, "
            f"the codec's noise is below {REPLACED_BLOCK:.0f}"
        )
    return found


def _towards(want: np.ndarray, error: np.ndarray, step: int) -> np.ndarray:
    """How far each frame lies towards the recorded one ``step`` beside it, (T,): 0 its own, 1 the other; alone or over a window."""
    way = np.zeros_like(want)
    if step < 0:
        way[1:] = want[:-1] - want[1:]
    else:
        way[:-1] = want[1:] - want[:-1]
    length, along = (way**2).sum(1), (error * way).sum(1)
    result = np.zeros(len(want))
    for width, enough in ((1, MOTION), (WINDOW, WINDOW_MOTION)):
        kernel = np.ones(min(width, len(want)))
        total, share = np.convolve(length, kernel, "same"), np.convolve(along, kernel, "same")
        sure = total >= enough**2
        result[sure] = np.maximum(result[sure], share[sure] / total[sure])
    return result


def _spans(rows: np.ndarray) -> str:
    """Row numbers in short: "3, 7-9 and 5 more spans"."""
    parts = np.split(rows, np.flatnonzero(np.diff(rows) > 1) + 1)
    texts = [f"{p[0]}-{p[-1]}" if len(p) > 1 else f"{p[0]}" for p in parts]
    return ", ".join(texts[:3]) + (f" and {len(texts) - 3} more spans" if len(texts) > 3 else "")
