"""How much the border of what was drawn looks like the border of a thing in a photo: five numbers and a score, no learned model.

Each part compares what lies inside a mask, or across its border, with the photo's own statistics; 1 is as in a real photo.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from phototwin.blend.edges import step_edges, widths_across
from phototwin.kernels.srgb import srgb_to_linear

NEAR_PX = 2.0
"""Steps whose middle is this close to the mask's border belong to it [px]."""
INNER_PX = 3
"""What is this deep inside the mask has nothing of the border's mixing [px]."""
LOOK_PX = 0.8
"""Steps are looked at through a Gaussian this wide: shading beside a hard cut must not make it look soft [px]."""
MIN_BORDER_EDGES, MIN_PHOTO_EDGES, MIN_INNER_PX = 12, 40, 60
"""With less to look at, a part is not judged."""
EDGE_RANGE = (0.2, 0.5)
"""Between these quantiles of the photo's edge widths those of a border belong."""
SOFT_PX = 1.0
"""No edge is called too soft below this: round and distant things have such borders in every photo [px]."""
SOFTER = 2.5
"""Nor is the photo's own typical edge a measure where it is so many times softer than its sharpest: that is texture and shadow."""
EDGE_SLACK = 0.85
EDGE_FALL = 0.35
"""The score falls by a factor e where the width is this share of the photo's beyond the range."""
MARGIN_PX = 8
MOST_PLACES, MOST_INNER_PX = 300, 3000
"""Places along a border and pixels inside that are looked at: more tell nothing new."""
BLOCK_PX, FLAT_PX = 7, 5
FLOOR_SHARE = 0.25
"""The quantile of fine detail that stands for the smooth places: noise in a photo, nothing in a drawing."""
FLOOR_SLACK = 0.15
"""Detail below this cannot be seen [8-bit codes]."""
ROUGHER, SMOOTHER = 2.5, 1.0
"""A thing may be this much rougher (printed all over) or smoother than the photo's smooth places, natural logarithm."""
FLAT_SLACK, FLAT_FALL = 0.1, 0.25
"""Share of places of one single colour: light and noise leave few in a photo."""
RANGE_TAIL = 0.002
"""Share of pixels that lies beyond the black and the white point."""
STOPS_SLACK, STOPS_FALL = 1.5, 1.0
"""A new thing may be brighter or darker than all else in a photo, but not by much more than surfaces differ."""
DARKEST = 0.003
"""Linear light below which nothing is told apart."""
CHROMA_SLACK, CHROMA_FALL = 40.0, 40.0
"""The same for strength of colour [8-bit codes]."""
CLIPPED = 250
HALO_SLACK, HALO_FALL = 15.0, 25.0
"""Bright rims and dark contacts are no halo [8-bit codes]."""
LUMA = np.array([[0.299, 0.587, 0.114], [-0.1687, -0.3313, 0.5], [0.5, -0.4187, -0.0813]])
"""RGB to brightness and the two colour differences. Source: ITU-T T.871."""


@dataclass(frozen=True)
class Seam:
    """How well what was drawn sits in the photo; every part is 1 where it is as in a real photo and falls to 0.

    Attributes:
        edge: Softness of the border against the photo's own edges; below 1 where it is cut too sharply or is too soft.
        detail: Finest detail in smooth places inside the mask against the photo's: noise, or the lack of it.
        tone: Black and white point inside the mask within the photo's.
        chroma: Colours inside the mask no stronger than the photo's.
        halo: Border pixels that mix the colours of the two sides, and show nothing else.
        edge_px: Standard deviation of the border's edges [px]; None where none is clear.
        halo_codes: Typical distance of border pixels from any mixture of the two sides [8-bit codes].
        score: All of it in one number.
    """

    edge: float
    detail: float
    tone: float
    chroma: float
    halo: float
    edge_px: float | None
    halo_codes: float
    score: float


@dataclass(frozen=True, eq=False)
class _PhotoStatistics:
    """Edge widths at ``EDGE_RANGE`` [px] or None, floor of detail [codes], black and white point (linear), strongest colour, share of flat places."""

    edges_px: tuple[float, float] | None
    floor: float
    black: float
    white: float
    chroma: float
    flat: float


def seam_score(frame: np.ndarray, mask: np.ndarray, plate: np.ndarray) -> Seam:
    """How well what was drawn into a photo sits in it.

    Args:
        frame: (H, W, 3) uint8 sRGB, the photo with what was drawn.
        mask: (H, W) bool, what was drawn; where it is empty (or full) there is no border and everything is 1.
        plate: (H, W, 3) uint8, the photo.
    """
    if not mask.any() or mask.all():
        return Seam(1.0, 1.0, 1.0, 1.0, 1.0, None, 0.0, 1.0)
    photo = _photo_statistics(plate.tobytes(), plate.shape)
    rows, columns = (np.flatnonzero(mask.any(axis)) for axis in (1, 0))
    top, left = max(rows[0] - MARGIN_PX, 0), max(columns[0] - MARGIN_PX, 0)
    cut = slice(top, rows[-1] + 1 + MARGIN_PX), slice(left, columns[-1] + 1 + MARGIN_PX)
    part, inside = np.ascontiguousarray(frame[cut]), np.ascontiguousarray(mask[cut]).astype(np.uint8)
    y, x, normals = _outline(inside)
    edge, edge_px = _edge_part(widths_across(part, y, x, normals, NEAR_PX, LOOK_PX), photo)
    halo_codes = _halo(part, inside, y, x, normals)
    halo = float(np.exp(-((max(halo_codes - HALO_SLACK, 0.0) / HALO_FALL) ** 2)))
    detail, tone, chroma = _inner_parts(part, inside, photo)
    score = edge * detail * tone * np.sqrt(chroma * halo)
    return Seam(edge, detail, tone, chroma, halo, edge_px, halo_codes, float(score))


def _outline(inside: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Some pixels along the inner border of a mask: rows and columns (P,), and unit normals (P, 2) x, y that point out of it."""
    import cv2

    rim = inside - cv2.erode(inside, np.ones((3, 3), np.uint8), borderType=cv2.BORDER_CONSTANT, borderValue=1)
    y, x = np.nonzero(rim)
    every = -(-len(y) // MOST_PLACES)
    y, x = y[::every], x[::every]
    soft = cv2.blur(np.pad(255 * inside, 1, mode="edge"), (5, 5)).astype(np.float32)
    out = np.stack([soft[y + 1, x] - soft[y + 1, x + 2], soft[y, x + 1] - soft[y + 2, x + 1]], 1)
    length = np.linalg.norm(out, axis=1)
    clear = length > 0
    return y[clear], x[clear], out[clear] / length[clear, None]


def _edge_part(width: np.ndarray, photo: _PhotoStatistics) -> tuple[float, float | None]:
    """How well the softness of the border's steps (E,) fits the photo's edges, and that softness [px]."""
    if len(width) < MIN_BORDER_EDGES or photo.edges_px is None:
        return 1.0, None
    clearest, softness = (float(v) for v in np.quantile(width, [0.25, 0.5]))
    sharpest, typical = photo.edges_px
    softest = max(min(typical, SOFTER * sharpest), SOFT_PX)
    too_sharp = max(EDGE_SLACK * sharpest - softness, 0.0) / max(sharpest, 1e-3)
    too_soft = max(clearest - softest / EDGE_SLACK, 0.0) / softest
    return float(np.exp(-(((too_sharp + too_soft) / EDGE_FALL) ** 2))), softness


def _halo(part: np.ndarray, inside: np.ndarray, y: np.ndarray, x: np.ndarray, normals: np.ndarray) -> float:
    """Median distance of border pixels from the segment between the colours of the two sides [codes], beyond what the sides vary."""
    offsets = np.arange(-4, 6)
    u = np.clip(np.round(x[:, None] + normals[:, :1] * offsets), 0, part.shape[1] - 1).astype(int)
    v = np.clip(np.round(y[:, None] + normals[:, 1:] * offsets), 0, part.shape[0] - 1).astype(int)
    good = (inside[v[:, :2], u[:, :2]] > 0).all(1) & (inside[v[:, -2:], u[:, -2:]] == 0).all(1)
    if not good.any():
        return 0.0
    color = part[v[good], u[good]].astype(np.float32)
    inner, outer, between = color[:, :2], color[:, -2:], color[:, 3:7]
    a, b = inner.mean(1), outer.mean(1)
    varies = np.abs(inner[:, 1] - inner[:, 0]).max(1) + np.abs(outer[:, 1] - outer[:, 0]).max(1)
    along = b - a
    share = ((between - a[:, None]) * along[:, None]).sum(2) / np.maximum((along**2).sum(1), 1.0)[:, None]
    nearest = a[:, None] + np.clip(share, 0, 1)[..., None] * along[:, None]
    away = np.linalg.norm(between - nearest, axis=2).max(1)
    return float(np.median(np.maximum(away - varies, 0.0)))


def _inner_parts(part: np.ndarray, inside: np.ndarray, photo: _PhotoStatistics) -> tuple[float, float, float]:
    """Detail, tone and chroma inside the mask against the photo's."""
    import cv2

    body = cv2.erode(inside, np.ones((3, 3), np.uint8)) > 0
    if body.sum() < MIN_INNER_PX:
        return 1.0, 1.0, 1.0
    luma = cv2.cvtColor(part, cv2.COLOR_RGB2GRAY).astype(np.float32)
    some = np.flatnonzero(body)
    some = some[:: -(-len(some) // MOST_INNER_PX)]
    values = part.reshape(-1, 3)[some].astype(np.float32) @ LUMA.T
    low, high = _tone_ends(values[:, 0])
    stops = max(np.log2(high / photo.white), np.log2(photo.black / low), 0.0)
    tone = float(np.exp(-((max(stops - STOPS_SLACK, 0.0) / STOPS_FALL) ** 2)))
    strongest = float(np.quantile(np.hypot(values[:, 1], values[:, 2]), 1 - RANGE_TAIL))
    chroma = float(np.exp(-((max(strongest - photo.chroma - CHROMA_SLACK, 0.0) / CHROMA_FALL) ** 2)))
    deep = (cv2.erode(inside, np.ones((2 * INNER_PX + 1,) * 2, np.uint8)) > 0) & (luma < CLIPPED)
    if deep.sum() < MIN_INNER_PX:
        return 1.0, tone, chroma
    floor, flat = _floor(luma, deep)
    rougher = float(np.log((floor + FLOOR_SLACK) / (photo.floor + FLOOR_SLACK)))
    off = max(rougher - ROUGHER, -rougher - SMOOTHER, 0.0) + max(flat - photo.flat - FLAT_SLACK, 0.0) / FLAT_FALL
    return float(np.exp(-(off**2))), tone, chroma


def _tone_ends(luma: np.ndarray) -> tuple[float, float]:
    """Black and white point of brightness in codes, linear light."""
    low, high = srgb_to_linear(np.quantile(luma, [RANGE_TAIL, 1 - RANGE_TAIL]) / 255.0)
    return max(float(low), DARKEST), max(float(high), DARKEST)


def _floor(luma: np.ndarray, where: np.ndarray) -> tuple[float, float]:
    """Fine detail in the smooth places (standard deviation of noise that would look like it [codes]), and the share of places without any.

    Source: Immerkaer (1996), the filter.
    """
    import cv2

    laplace = np.array([1.0, -2.0, 1.0], np.float32)
    power = cv2.blur(cv2.filter2D(luma, -1, np.outer(laplace, laplace) / 6) ** 2, (BLOCK_PX, BLOCK_PX))
    near = np.ones((FLAT_PX, FLAT_PX), np.uint8)
    flat = cv2.dilate(luma, near) - cv2.erode(luma, near) < 1.0
    return float(np.sqrt(max(float(np.quantile(np.asarray(power, np.float32)[where], FLOOR_SHARE)), 0.0))), float(
        flat[where].mean()
    )


@lru_cache(maxsize=4)
def _photo_statistics(pixels: bytes, shape: tuple[int, ...]) -> _PhotoStatistics:
    """Of a whole photo, given as bytes so that the frames of one photo measure it once."""
    import cv2

    rgb = np.frombuffer(pixels, np.uint8).reshape(shape)
    luma = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY).astype(np.float32)
    values = rgb.reshape(-1, 3).astype(np.float32) @ LUMA.T
    strength = np.quantile(np.hypot(values[:, 1], values[:, 2]), 1 - RANGE_TAIL)
    width = step_edges(rgb, LOOK_PX).width_px
    low, high = np.quantile(width, EDGE_RANGE) if len(width) >= MIN_PHOTO_EDGES else (0.0, 0.0)
    edges = (float(low), float(high)) if high > 0 else None
    known = luma < CLIPPED
    floor, flat = _floor(luma, known) if known.any() else (0.0, 1.0)
    black, white = _tone_ends(luma)
    return _PhotoStatistics(edges, floor, black, white, float(strength), flat)
