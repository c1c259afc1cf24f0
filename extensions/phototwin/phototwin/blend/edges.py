"""Step edges of an image, measured to a fraction of a pixel: how soft they are, and where red and blue lie beside green."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from phototwin.kernels.srgb import srgb_to_linear

LUMA = np.array([[0.2126, 0.7152, 0.0722]], np.float32)
"""Weights of linear RGB in luminance. Source: ITU-R BT.709."""
HALF_WINDOW_PX = 4
"""An edge is looked at this far to both sides; another edge nearer than that spoils it [px]."""
MIN_STEP = 0.06
"""Height of the step in linear light; smaller ones drown in noise."""
MIN_CODES = 24.0
"""The same in 8-bit codes."""
PURITY = 0.92
"""Share of all change in the window that the step itself must be."""
CLIPPED = 250
"""Where a side of an edge is brighter than this, each channel's edge lies where it ceases to be clipped: no fringe of the lens."""
MAX_OBLIQUE = 0.6
"""Tangent of the angle between an edge and the pixel rows or columns up to which it is measured along them."""
MIN_EDGES = 40
LOOK_PX = 1.5
"""Standard deviation of the Gaussian through which a step is looked at [px]."""
SAME_EDGE = 3.0
"""Neighbouring rows show the same edge: errors are this much larger than those of as many independent ones."""
SHARPEST = 0.1
"""The quantile of edge widths that counts as the camera's sharpness; the rest is out of focus, rounded or shadow."""
MIN_SHIFT_PX = 0.06
"""Smaller colour fringes in the corners are taken for none [px]."""


@dataclass(frozen=True, eq=False)
class StepEdges:
    """Edges of an image, E of them.

    Attributes:
        width_px: Standard deviation across the edge, (E,) [px].
        beside_px: Where red and blue lie beside green, along the axis of measurement, (E, 2) [px]; NaN where one of them is too faint.
        at_px: Place relative to the middle of the image, (E, 2): x, y [px].
        slope: Components of the edge's normal, (E, 2), that along the axis of measurement being 1.
    """

    width_px: np.ndarray
    beside_px: np.ndarray
    at_px: np.ndarray
    slope: np.ndarray


def step_edges(rgb: np.ndarray, look_px: float = LOOK_PX) -> StepEdges:
    """The clean, isolated step edges of an image (H, W, 3) uint8, in linear light, along its rows and its columns.

    Args:
        rgb: The image.
        look_px: Standard deviation of the Gaussian through which a step is looked at: the smaller, the less counts what lies beside
            it, and the less can be said of soft ones.
    """
    along = _edges_along_rows(rgb, look_px)
    across = _edges_along_rows(rgb.transpose(1, 0, 2), look_px)
    turned = StepEdges(across.width_px, across.beside_px, across.at_px[:, ::-1], across.slope[:, ::-1])
    pairs = zip(*((e.width_px, e.beside_px, e.at_px, e.slope) for e in (along, turned)), strict=True)
    return StepEdges(*(np.concatenate(pair) for pair in pairs))


def widths_across(
    rgb: np.ndarray, rows: np.ndarray, columns: np.ndarray, normals: np.ndarray, off_px: float, look_px: float
) -> np.ndarray:
    """Standard deviations [px] of the clean steps of an image (H, W, 3) uint8 at given places of a known outline, fewer than places.

    Args:
        rgb: The image.
        rows: Row of each place, (P,).
        columns: Column of each place, (P,).
        normals: Unit normals of the outline there, (P, 2): x, y.
        off_px: How far from its place the middle of a step may lie.
        look_px: See ``step_edges``.
    """
    steep = np.abs(normals[:, 1]) > np.abs(normals[:, 0])
    main, cross = np.where(steep, normals[:, 1], normals[:, 0]), np.where(steep, normals[:, 0], normals[:, 1])
    offsets = np.arange(-HALF_WINDOW_PX, HALF_WINDOW_PX + 2)
    y, x = rows[:, None] + steep[:, None] * offsets, columns[:, None] + ~steep[:, None] * offsets
    whole = (y[:, 0] >= 0) & (x[:, 0] >= 0) & (y[:, -1] < rgb.shape[0]) & (x[:, -1] < rgb.shape[1])
    color, slope = rgb[y[whole], x[whole]], cross[whole] / main[whole]
    light = _linear_table()[color] @ LUMA[0]
    change = light[:, 1:] - light[:, :-1]
    step, total = np.abs(light[:, -1] - light[:, 0]), np.abs(change).sum(1)
    lift = np.abs((color[:, -1].astype(np.float32) - color[:, 0]).mean(1))
    good = (step > MIN_STEP) & (lift > MIN_CODES) & (step > PURITY * total)
    center, variance = _moments(change[good], offsets[:-1], look_px)
    near = np.abs(center) <= off_px
    return np.sqrt(variance[near] / (1 + slope[good][near] ** 2))


def edge_width(edges: StepEdges) -> float | None:
    """Standard deviation of the sharpest edges [px]; None where there are too few edges.

    Right to 0.1 px between 0.5 and 1.6 px. A sharper edge shows as anything up to 0.4 px, by where it falls between two pixels.
    """
    return float(np.quantile(edges.width_px, SHARPEST)) if len(edges.width_px) >= MIN_EDGES else None


def fringe_shift(edges: StepEdges, shape: tuple[int, int]) -> np.ndarray:
    """Shift of red and blue against green, (2, 3): x, y, and growth per pixel from the middle; 0 where it is not certain.

    A channel displaced by ``d`` moves along the axis of measurement by ``d . slope``; fitted by reweighted least squares.
    """
    out = np.zeros((2, 3))
    design = np.concatenate([edges.slope, (edges.slope * edges.at_px).sum(1, keepdims=True)], 1)
    corner = np.hypot(*shape) / 2
    for channel in range(2):
        known = np.isfinite(edges.beside_px[:, channel])
        if known.sum() >= MIN_EDGES:
            fit, error = _fit_robustly(design[known], edges.beside_px[known, channel])
            sure = (np.abs(fit) > 4 * SAME_EDGE * error) & (np.abs(fit) * np.array([1.0, 1.0, corner]) > MIN_SHIFT_PX)
            out[channel] = np.where(sure, fit, 0.0)
    return out


def _fit_robustly(design: np.ndarray, value: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Coefficients and their standard errors of a linear fit by reweighted least squares (Geman and McClure's weights)."""
    weight = np.ones(len(value))
    fit, covariance, scale = np.zeros(design.shape[1]), np.eye(design.shape[1]), 1.0
    for _ in range(8):
        covariance = np.linalg.inv((design * weight[:, None]).T @ design + 1e-9 * np.eye(design.shape[1]))
        fit = covariance @ ((design * weight[:, None]).T @ value)
        rest = value - design @ fit
        scale = max(1.4826 * float(np.median(np.abs(rest))), 1e-3)
        weight = 1.0 / (1.0 + (rest / (2 * scale)) ** 2) ** 2
    return fit, scale * np.sqrt(np.diag(covariance))


def _edges_along_rows(rgb: np.ndarray, look_px: float) -> StepEdges:
    import cv2

    linear = cv2.LUT(np.ascontiguousarray(rgb), _linear_table())
    luma = cv2.transform(linear, LUMA)
    codes = cv2.cvtColor(np.ascontiguousarray(rgb), cv2.COLOR_RGB2GRAY).astype(np.float32)
    n = HALF_WINDOW_PX
    size = 2 * n + 1
    change = np.asarray(luma[:, 1:] - luma[:, :-1], np.float32)
    amount = np.abs(change)
    step = np.abs(cv2.boxFilter(change, -1, (size, 1), normalize=False))
    total = cv2.boxFilter(amount, -1, (size, 1), normalize=False)
    lift = np.abs(cv2.boxFilter(np.asarray(codes[:, 1:] - codes[:, :-1], np.float32), -1, (size, 1), normalize=False))
    good = (step > MIN_STEP) & (lift > MIN_CODES) & (step > PURITY * total)
    good &= amount >= cv2.dilate(amount, np.ones((1, size), np.uint8))
    gx, gy = cv2.Sobel(luma, cv2.CV_32F, 1, 0), cv2.Sobel(luma, cv2.CV_32F, 0, 1)
    gx, gy = (g[:, :-1] + g[:, 1:] for g in (gx, gy))
    good &= np.abs(gy) < MAX_OBLIQUE * np.abs(gx)
    good[:, :n], good[:, -n:], good[:2], good[-2:] = False, False, False, False
    rows, columns = np.nonzero(good)
    offsets = np.arange(-n, n + 1)
    at_columns = columns[:, None] + offsets
    window = linear[rows[:, None], at_columns + 1] - linear[rows[:, None], at_columns]
    light = change[rows[:, None], at_columns]
    slope = gy[rows, columns] / gx[rows, columns]
    center, variance = _moments(light, offsets, look_px)
    variance = np.maximum(variance, 0.0) / (1 + slope**2)  # along the row an oblique edge is wider
    fringe = np.stack([_moments(window[..., c], offsets, look_px)[0] for c in range(3)], 1)
    height = np.abs(window.sum(1))
    codes_at = rgb[rows[:, None], at_columns].max((1, 2))
    height[codes_at >= CLIPPED] = 0.0
    fringe = np.where((height > MIN_STEP) & (np.abs(window).sum(1) * PURITY < height), fringe, np.nan)
    middle = np.array([rgb.shape[1], rgb.shape[0]]) / 2
    at = np.stack([columns + 1.0 + center, rows + 0.5], 1) - middle
    beside = fringe[:, [0, 2]] - fringe[:, 1:2]
    return StepEdges(np.sqrt(variance), beside, at, np.stack([np.ones_like(slope), slope], 1))


@lru_cache(maxsize=1)
def _linear_table() -> np.ndarray:
    """Linear light of every code, as OpenCV looks it up."""
    return srgb_to_linear(np.arange(256) / 255.0).astype(np.float32)


def _moments(change: np.ndarray, offsets: np.ndarray, look_px: float) -> tuple[np.ndarray, np.ndarray]:
    """Centre and variance of steps (E, W) of known differences.

    Differences count by a Gaussian around the centre, whose width is taken off again, so that overshoot of sharpened photos and
    what lies beside the edge hardly count.
    """
    center = np.zeros(len(change))
    spread = np.zeros(len(change))
    for _ in range(4):
        away = offsets - center[:, None]
        weighted = change * np.exp(-(away**2) / (2 * look_px**2))
        height = weighted.sum(1)
        height = np.where(np.abs(height) < 1e-6, 1e-6, height)
        # Bounded: a window without a clean step must not send its centre away.
        center = np.clip(center + (weighted * away).sum(1) / height, -2.0, 2.0)
        spread = np.clip((weighted * away**2).sum(1) / height, 0.0, 0.9 * look_px**2)
    return center, spread / (1 - spread / look_px**2)
