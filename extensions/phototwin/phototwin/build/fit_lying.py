"""Cylinders that lie on their side: cans, bottles' bodies, rolls."""

from __future__ import annotations

import numpy as np

from phototwin.build import shapes
from phototwin.build.fit_solids import (
    CIRCLE,
    POINT_SIGMA_M,
    Candidate,
    box_distance,
    contour_residuals,
    first_guess,
    solve,
    some_points,
)
from phototwin.build.fit_view import View
from phototwin.frames import make_T, rotation_z

TURNS = 8  # directions of the axis that are tried
TRIED = 3  # of them to the end
LYING_COST, UNSEEN_COST = (
    0.01,
    0.03,
)  # one freedom less than a box has; rarer than what stands where only a silhouette speaks
ON_ITS_SIDE = np.array([[0.0, 0, 1], [0, 1, 0], [-1, 0, 0]])  # an axis along Z becomes one along X
LOW_SIDE = np.pi / 24  # turn about the axis that lays a facet of the convex piece on the support


def fit_lying(view: View) -> Candidate:
    """The cylinder whose axis is level and which touches the support."""
    center, width, height = first_guess(view)
    points = some_points(view)
    across = min(width, height)

    def residuals(p: np.ndarray) -> np.ndarray:
        return _residuals(view, p, points)

    scale = np.array([width, width, 0.3, 1.0, 1.0])
    starts = []
    for turn in np.arange(TURNS) * (np.pi / TURNS):
        start = np.array([*center, turn, np.log(across / 2), np.log(1.4 * width)])
        starts.append((float(np.sum(np.abs(residuals(start)))), start))
    starts.sort(key=lambda item: item[0])
    p, _ = min((solve(residuals, start, scale, 25) for _, start in starts[:TRIED]), key=lambda item: item[1])
    radius, long = np.exp(p[3:5])
    standing = shapes.revolution(np.array([radius, radius]), np.array([0.0, long]))
    turned = shapes.turned(standing, ON_ITS_SIDE @ rotation_z(LOW_SIDE))
    solid = shapes.moved(turned, np.array([-long / 2, 0.0, radius]))
    T = make_T(rotation_z(p[2]), np.array([p[0], p[1], view.base_z]))
    return Candidate("mesh", False, T, solid, LYING_COST if len(points) else UNSEEN_COST, "a cylinder on its side")


def _residuals(view: View, p: np.ndarray, points: np.ndarray) -> np.ndarray:
    radius, long = np.exp(np.clip(p[3:5], -9, 3))
    along, beside = rotation_z(p[2])[:, 0], rotation_z(p[2])[:, 1]
    middle = np.array([p[0], p[1], view.base_z + radius])
    ring = middle + radius * (CIRCLE[:, :1] * beside + CIRCLE[:, 1:] * [0.0, 0.0, 1.0])
    parts = [contour_residuals(view, np.concatenate([ring - long / 2 * along, ring + long / 2 * along]))]
    if len(points):
        local = points - middle
        rho = np.hypot(local @ beside, local[:, 2])
        parts.append(box_distance(np.stack([rho, local @ along], -1), np.array([radius, long / 2])) / POINT_SIGMA_M)
    return np.concatenate(parts)
