"""The grid that JPEG left in an image: where its blocks begin, how coarse they are, and the same done to a part of a frame."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

BLOCK = 8
QUALITIES = (*range(30, 90, 3), *range(90, 98))
"""What is tried; above, nothing is left to be seen."""
SAMPLINGS = {"4:4:4": 0x111111, "4:2:2": 0x211111, "4:2:0": 0x221111}
"""OpenCV's numbers for the resolution of colour."""
RGB = np.eye(3)
COLOR = np.array([[-0.1687, 0.5], [-0.3313, -0.4187], [0.5, -0.0813]])
"""RGB to blue and red difference. Source: ITU-T T.871."""
SEARCH_PX = 256
"""Side of the part of the image that is searched, around its middle [px]."""
GHOST_LIMIT = 0.7
"""Compressing on the grid must change the image by less than this share of what compressing off the grid changes."""
ZERO_CODES = 0.6
"""A coefficient that was rounded to zero comes back this small: what remains is the rounding of pixels."""
GRID_LEAD = 0.03
"""By how much the share of such coefficients must be higher on the grid than beside it."""


@dataclass(frozen=True)
class JpegGrid:
    """How an image was compressed.

    Attributes:
        quality: Quality of libjpeg that comes closest.
        sampling: Resolution of colour, a key of ``SAMPLINGS``.
        x: Column where a block begins, 0..7, or 0..15 where colour is coarser and its blocks are larger [px].
        y: Row where a block begins [px].
    """

    quality: int
    sampling: str
    x: int
    y: int


def find_jpeg_grid(rgb: np.ndarray) -> JpegGrid | None:
    """How an image (H, W, 3) uint8 was compressed; None where no grid shows, as after any scaling.

    On the grid, many coefficients are zero; compressing anew with the same quality changes least, while beside the grid it
    changes as much as any image. The same with colour alone tells its resolution. Source: Farid (2009), JPEG ghosts.
    """
    top, left = (max(n - SEARCH_PX, 0) // 2 for n in rgb.shape[:2])
    part = rgb[top : top + SEARCH_PX, left : left + SEARCH_PX]
    if min(part.shape[:2]) < 6 * BLOCK:
        return None
    zeros = _zeros_of_phases(part)
    y, x = np.unravel_index(np.argmax(zeros), zeros.shape)
    if zeros[y, x] - np.median(zeros) < GRID_LEAD:
        return None
    on = _whole_blocks(part[y:, x:])
    off = _whole_blocks(part[(y + 4) % BLOCK :, (x + 4) % BLOCK :])
    ghosts = [_change(on, q, "4:4:4") / max(_change(off, q, "4:4:4"), 1e-9) for q in QUALITIES]
    quality = QUALITIES[int(np.argmin(ghosts))]
    if min(ghosts) > GHOST_LIMIT:
        return None
    tries = [(s, x + dx, y + dy) for s in SAMPLINGS for dx in _starts(s, 0) for dy in _starts(s, 1)]
    sampling, x, y = min(tries, key=lambda t: _change(_whole_blocks(part[t[2] :, t[1] :]), quality, t[0], COLOR))
    return JpegGrid(quality, sampling, int((left + x) % _side(sampling, 0)), int((top + y) % _side(sampling, 1)))


def recompress(frame: np.ndarray, footprint: np.ndarray, grid: JpegGrid) -> np.ndarray:
    """A frame (H, W, 3) uint8 whose pixels in ``footprint`` (H, W) bool have been compressed on the photo's grid; the others keep their bits."""
    rows, columns = np.flatnonzero(footprint.any(1)), np.flatnonzero(footprint.any(0))
    if not len(rows):
        return frame
    top, bottom = _cover(rows[0], rows[-1] + 1, grid.y, _side(grid.sampling, 1))
    left, right = _cover(columns[0], columns[-1] + 1, grid.x, _side(grid.sampling, 0))
    part = _pack(_padded(frame, top, bottom, left, right), grid.quality, grid.sampling)
    y, x = max(top, 0), max(left, 0)
    inside = (slice(y, min(bottom, frame.shape[0])), slice(x, min(right, frame.shape[1])))
    part = part[y - top :, x - left :][: inside[0].stop - y, : inside[1].stop - x]
    out = frame.copy()
    out[inside] = np.where(footprint[inside][..., None], part, frame[inside])
    return out


def _side(sampling: str, axis: int) -> int:
    """Width (axis 0) or height (1) of a block of colour [px]."""
    return BLOCK * (SAMPLINGS[sampling] >> (20 - 4 * axis) & 0xF)


def _starts(sampling: str, axis: int) -> range:
    """Where a block of colour may begin if one of brightness begins at 0 [px]."""
    return range(0, _side(sampling, axis), BLOCK)


def _cover(first: int, last: int, phase: int, step: int) -> tuple[int, int]:
    """The whole blocks that hold first..last; they may reach over the border of the image."""
    low = (first - phase) // step * step + phase
    return int(low), int(low + -(-(last - low) // step) * step)


def _padded(frame: np.ndarray, top: int, bottom: int, left: int, right: int) -> np.ndarray:
    """A part of the frame; what lies outside repeats its border."""
    rows = np.clip(np.arange(top, bottom), 0, frame.shape[0] - 1)
    columns = np.clip(np.arange(left, right), 0, frame.shape[1] - 1)
    return frame[rows[:, None], columns]


def _pack(rgb: np.ndarray, quality: int, sampling: str) -> np.ndarray:
    import cv2

    flags = [cv2.IMWRITE_JPEG_QUALITY, quality, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, SAMPLINGS[sampling]]
    packed = cv2.imencode(".jpg", np.ascontiguousarray(rgb[..., ::-1]), flags)[1]
    return np.asarray(cv2.imdecode(packed, cv2.IMREAD_COLOR))[..., ::-1]


def _change(rgb: np.ndarray, quality: int, sampling: str, of: np.ndarray = RGB) -> float:
    """Root mean square change of what the columns of ``of`` make of a colour, by compressing."""
    return float(np.sqrt(np.mean(((_pack(rgb, quality, sampling).astype(np.float32) - rgb) @ of) ** 2)))


def _whole_blocks(rgb: np.ndarray) -> np.ndarray:
    height, width = (n // (2 * BLOCK) * 2 * BLOCK for n in rgb.shape[:2])
    return rgb[:height, :width]


def _zeros_of_phases(rgb: np.ndarray) -> np.ndarray:
    """Share of the higher coefficients of luma that are zero if blocks began at row y, column x, (8, 8)."""
    luma = rgb.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)
    i = np.arange(BLOCK)
    dct = np.sqrt(2 / BLOCK) * np.cos(np.pi * (2 * i + 1) * i[:, None] / (2 * BLOCK)).astype(np.float32)
    dct[0] /= np.sqrt(2)
    high = i[:, None] + i >= 4
    rows, columns = (n // BLOCK - 1 for n in luma.shape)
    share = np.zeros((BLOCK, BLOCK))
    for y in range(BLOCK):
        for x in range(BLOCK):
            cut = luma[y : y + rows * BLOCK, x : x + columns * BLOCK]
            blocks = cut.reshape(rows, BLOCK, columns, BLOCK).transpose(0, 2, 1, 3)
            share[y, x] = (np.abs((dct @ blocks @ dct.T)[..., high]) < ZERO_CODES).mean()
    return share
