"""Which pixels of a surface are of one colour: albedo is unknown, but one per segment."""

from __future__ import annotations

import numpy as np

MAX_COLORS = 4
APART = 0.16
"""Two colours differ at least this much in the features below..."""
APART_SPREADS = 3.6
"""... and by this many of the spreads within them: halving one Gaussian cloud gives 2.7."""
TONE_WEIGHT = 0.3
"""Brightness counts less than hue: shading changes it."""
SMALLEST = 0.04
MIN_PIXELS = 12


def split_colors(
    linear: np.ndarray, surface: np.ndarray, points_w: np.ndarray, lit: np.ndarray | None = None
) -> np.ndarray:
    """Segment of each pixel (P,) int: pixels of one surface and of one colour.

    Args:
        linear: (P, 3) linear RGB.
        surface: (P,) int.
        points_w: (P, 3) [m].
        lit: Irradiance (P,) where it is known: brightness then tells as much as hue.
    """
    logs = np.log(np.maximum(linear, 1e-5))
    hue = np.stack([logs[:, 0] - logs[:, 1], logs[:, 2] - logs[:, 1]], -1)
    tone = logs.mean(1) - (0 if lit is None else np.log(lit))
    segment = np.zeros(len(surface), int)
    first = 0
    for i in np.unique(surface):
        here = np.flatnonzero(surface == i)
        share = TONE_WEIGHT * (1 if i == 0 else 0.4) if lit is None else 2 * TONE_WEIGHT
        level = tone[here]
        if lit is None and i == 0:
            level = level - smooth_field(points_w[here, :2], level)
        label = _clusters(np.concatenate([hue[here], share * level[:, None]], 1))
        segment[here] = first + label
        first += label.max() + 1
    return segment


def smooth_field(xy: np.ndarray, values: np.ndarray) -> np.ndarray:
    """A robust quadratic through values (N,) over the plane, at the same places."""
    if len(values) < 30:
        return np.full(len(values), np.median(values))
    x, y = ((xy - xy.mean(0)) / np.maximum(xy.std(0), 1e-6)).T
    A = np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], -1)
    weight = np.ones(len(values))
    field = np.zeros(len(values))
    for _ in range(8):
        field = A @ np.linalg.lstsq(A * weight[:, None], values * weight, rcond=None)[0]
        off = values - field
        spread = 1.48 * np.median(np.abs(off - np.median(off))) + 1e-4
        weight = 1 / (1 + (off / spread / 1.5) ** 2)
    return field


def _clusters(features: np.ndarray) -> np.ndarray:
    """Labels (N,) from 0: the largest cloud is split in two as long as its halves are clearly apart."""
    label = np.zeros(len(features), int)
    for _ in range(MAX_COLORS - 1):
        best, best_gap = None, 0.0
        for k in range(label.max() + 1):
            at = np.flatnonzero(label == k)
            if len(at) < 2 * MIN_PIXELS:
                continue
            side, gap, spreads = _halve(features[at])
            share = min(side.mean(), 1 - side.mean())
            if (
                gap > APART
                and spreads > APART_SPREADS
                and share * len(at) > max(MIN_PIXELS, SMALLEST * len(at))
                and gap > best_gap
            ):
                best, best_gap = at[side], gap
        if best is None:
            break
        label[best] = label.max() + 1
    return label


def _halve(features: np.ndarray) -> tuple[np.ndarray, float, float]:
    """Two means: which side each is on, how far apart the halves are, and in units of their mean spread along that line."""
    center = features.mean(0)
    axis = np.linalg.svd(features - center, full_matrices=False)[2][0]
    along = (features - center) @ axis
    side = along > 0
    a, b = center, center
    for _ in range(10):
        if side.all() or not side.any():
            return side, 0.0, 0.0
        a, b = features[side].mean(0), features[~side].mean(0)
        new = ((features - a) ** 2).sum(1) < ((features - b) ** 2).sum(1)
        if (new == side).all():
            break
        side = new
    if side.all() or not side.any():
        return side, 0.0, 0.0
    gap = float(np.linalg.norm(a - b))
    axis = (a - b) / max(gap, 1e-9)
    spread = (_spread((features[side] - a) @ axis) + _spread((features[~side] - b) @ axis)) / 2
    return side, gap, gap / max(spread, 1e-6)


def _spread(values: np.ndarray) -> float:
    return float(1.48 * np.median(np.abs(values - np.median(values)))) + 1e-3
