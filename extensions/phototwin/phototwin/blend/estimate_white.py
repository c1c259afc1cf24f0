"""Nothing is whiter than white: what a photo shows brightest says how much light at least falls on surfaces that face that way."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from phototwin.light import Light, ambient_irradiance, source_irradiance

WHITEST = 0.85
"""Albedo of white paper, porcelain and paint."""
BRIGHT_SHARE = 75.0
"""Percentile of a side's brightness that is not a highlight yet."""
LEAST_SAMPLES = 8
"""Fewer pixels are no side of a thing."""
AROUND = 12
"""Directions around the horizon from which light may be missing."""


def admit_white(
    light: Light, linear: np.ndarray, points_w: np.ndarray, normals_w: np.ndarray, surface: np.ndarray
) -> Light:
    """The light with as little more of it as lets no side of a thing reflect more than ``WHITEST`` of what falls on it.

    The brightest channel counts: paint reflects no more of its own colour. A side is all that belongs to one surface and has the same largest component of its normal. What is missing is a broad glow (half of it even,
    half growing towards one direction), so that an estimate that was right elsewhere changes little there.

    Args:
        light: The light so far.
        linear: What the photo shows of P points, (P, 3) linear RGB.
        points_w: The points, (P, 3) [m].
        normals_w: Their unit normals, (P, 3).
        surface: Which surface each belongs to, (P,).
    """
    from scipy.optimize import linprog

    axis = np.abs(normals_w).argmax(1)
    side = 6 * surface + 2 * axis + (np.take_along_axis(normals_w, axis[:, None], 1)[:, 0] > 0)
    falls = (ambient_irradiance(light, normals_w) + source_irradiance(light, points_w, normals_w)).mean(1)
    missing, facing = [], []
    for number in np.unique(side):
        own = side == number
        if own.sum() >= LEAST_SAMPLES:
            missing.append(np.pi / WHITEST * np.percentile(linear[own].max(1), BRIGHT_SHARE) - falls[own].mean())
            mean = normals_w[own].mean(0)
            facing.append(mean / max(np.linalg.norm(mean), 1e-9))
    if not missing or max(missing) <= 0:
        return light
    turn = 2 * np.pi * np.arange(AROUND) / AROUND
    towards = np.column_stack([np.cos(turn), np.sin(turn), np.zeros(AROUND)])
    towards = np.concatenate([towards, [[0.0, 0.0, 1.0]]])
    brought = np.pi / 2 + np.pi / 3 * np.array(facing) @ towards.T  # irradiance of a glow of (1 + d . towards) / 2
    found = linprog(np.ones(len(towards)), A_ub=-brought, b_ub=-np.array(missing))
    glow = np.asarray(found.x) if found.success else np.zeros(len(towards))
    more = np.zeros((9, 1))
    more[0] = 0.5 * glow.sum() / 0.282095
    x, y, z = 0.5 * glow @ towards / 0.488603
    more[1:4, 0] = (y, z, x)
    color = ambient_irradiance(light, np.array([0.0, 0.0, 1.0])) + light.irradiance
    sh = light.sh + more * color / max(float(color.mean()), 1e-9)
    return replace(light, sh=sh)
