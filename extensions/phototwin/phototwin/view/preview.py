"""A short film of the first demonstrations, side by side."""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import numpy as np

from phototwin.episode import Episode
from phototwin.errors import InputError, OutputError

MAX_EPISODES = 4
LEAST_HEIGHT_PX = 400
"""Smaller films are enlarged by a whole number, so that pixels stay square."""
HOLD_S = 1.0
"""How long the last frame stays."""
CRF = "20"


def write_preview(episodes: Iterable[Episode], file: Path) -> Path:
    """``file``, an MP4 (H.264, yuv420p: plays everywhere) with up to ``MAX_EPISODES`` episodes in a grid.

    All start together; one that ends early shows its last frame. The film is written aside and renamed.

    Args:
        episodes: Episodes with frames of one size; those without frames are passed over.
        file: Where the film goes.

    Raises:
        InputError: No episode has frames.
        OutputError: The file cannot be written.
    """
    shown = list(itertools.islice((e for e in episodes if len(e.rgb)), MAX_EPISODES))
    if not shown:
        raise InputError("There is nothing to preview: no episode has frames.")
    partial = file.with_name(file.name + ".partial")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        _encode(grid_frames([e.rgb for e in shown], round(HOLD_S * shown[0].fps)), shown[0].fps, partial)
        os.replace(partial, file)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise OutputError(f"The preview '{file}' could not be written: {error}.") from error
    return file


def grid_frames(clips: list[np.ndarray], hold: int) -> Iterable[np.ndarray]:
    """Frames (H', W', 3) uint8 of all clips (T, H, W, 3) in one grid, even sides, at least ``LEAST_HEIGHT_PX`` high."""
    columns = math.ceil(math.sqrt(len(clips)))
    rows = math.ceil(len(clips) / columns)
    height, width = clips[0].shape[1:3]
    factor = max(math.ceil(LEAST_HEIGHT_PX / (rows * height)), 1)
    sheet_size = (rows * height * factor, columns * width * factor)
    sheet = np.zeros((sheet_size[0] + sheet_size[0] % 2, sheet_size[1] + sheet_size[1] % 2, 3), np.uint8)
    for t in range(max(len(clip) for clip in clips) + hold):
        for i, clip in enumerate(clips):
            y, x = i // columns * height * factor, i % columns * width * factor
            frame = clip[min(t, len(clip) - 1)].repeat(factor, 0).repeat(factor, 1)
            sheet[y : y + height * factor, x : x + width * factor] = frame
        yield sheet


def _encode(frames: Iterable[np.ndarray], fps: float, file: Path) -> None:
    import av

    av.logging.set_libav_level(av.logging.ERROR)  # x264 reports every file on the terminal
    with av.open(str(file), "w", format="mp4", options={"movflags": "faststart"}) as container:
        options = {"crf": CRF, "preset": "veryfast"}
        stream = container.add_stream("libx264", Fraction(fps).limit_denominator(1000), options=options)
        stream.pix_fmt = "yuv420p"
        for t, image in enumerate(frames):
            if t == 0:
                stream.height, stream.width = image.shape[:2]
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts = t
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
