"""Patterns that vary how things look: grain, stripes, checks, dots and clouds, as a factor of colour over space."""

from __future__ import annotations

import numpy as np

KINDS = ("grain", "stripes", "checks", "dots", "clouds")
WAVES = 7
"""Waves of which clouds and grain are made."""
EDGE = 4.0
"""How hard the edges of stripes, checks and dots are."""


def pattern_gain(points: np.ndarray, size_m: float, contrast: float, seed: int) -> np.ndarray:
    """Factors (...) between 1 - ``contrast`` and 1 + ``contrast`` at points (..., 3) [m].

    Args:
        points: Where.
        size_m: About how far apart its marks are.
        contrast: How strong it is; 0 gives 1 everywhere.
        seed: Chooses kind, direction and form.
    """
    if contrast == 0.0:
        return np.ones(points.shape[:-1])
    rng = np.random.default_rng(seed)
    kind = KINDS[int(rng.integers(len(KINDS)))]
    axes = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    if kind != "clouds":  # marks that lie flat on what is level
        angle = rng.uniform(0.0, np.pi)
        axes = np.array([[np.cos(angle), np.sin(angle), 0.3], [-np.sin(angle), np.cos(angle), 0.3], [0.0, 0.0, 1.0]])
    at = points @ axes.T * (2.0 * np.pi / (size_m * rng.uniform(0.7, 1.6)))
    if kind == "stripes":
        value = np.tanh(EDGE * np.sin(at[..., 0]))
    elif kind == "checks":
        value = np.tanh(EDGE * np.sin(0.5 * at[..., 0]) * np.sin(0.5 * at[..., 1]))
    elif kind == "dots":
        value = np.tanh(EDGE * (np.cos(at[..., 0]) + np.cos(at[..., 1]) - 0.8))
    else:
        along = np.array([0.08, 1.0, 1.0]) if kind == "grain" else np.full(3, 0.4)
        ways = rng.normal(size=(WAVES, 3)) * along
        phases = rng.uniform(0.0, 2.0 * np.pi, WAVES)
        value = np.tanh(1.2 * np.sin(at @ ways.T + phases).mean(-1) * np.sqrt(WAVES))
    return 1.0 + contrast * value
