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
    sample_image,
    solve,
    some_points,
)
from phototwin.build.fit_view import View, convex_outline, polygon_distance
from phototwin.frames import make_T, rotation_z

TURNS = 8  # directions of the axis that are tried
TRIED = 3  # of them to the end
LYING_COST, UNSEEN_COST = (
    0.01,
    0.03,
)  # a freedom less than a box; where only a silhouette speaks, rarer than what stands
MISSING_END_COST = 0.04  # of one whose round end the photo does not show
INNER_PX, MIN_INNER, END_EDGE = 2.5, 5, 0.35
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
    cost = LYING_COST if len(points) else UNSEEN_COST + MISSING_END_COST * (1.0 - _end_shown(view, p))
    return Candidate("mesh", False, T, solid, cost, "a cylinder on its side")


def _end_shown(view: View, p: np.ndarray) -> float:
    """Share of the near end's border inside the mask along which the photo has an edge, 0..1; 0 where it cannot be seen.

    A flat thing from above and a can on its side have the same outline; only a can has a round end that turns from the light.
    """
    if view.edge is None:
        return 0.0
    radius, long = np.exp(p[3:5])
    along, beside = rotation_z(p[2])[:, 0], rotation_z(p[2])[:, 1]
    middle = np.array([p[0], p[1], view.base_z + radius])
    along = along if along @ (view.camera_w - middle) > 0 else -along
    ring = middle + long / 2 * along + radius * (CIRCLE[:, :1] * beside + CIRCLE[:, 1:] * [0.0, 0.0, 1.0])
    pixels = view.project(ring)
    way = np.roll(pixels, -1, axis=0) - np.roll(pixels, 1, axis=0)
    normal = np.stack([-way[:, 1], way[:, 0]], -1)
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-6)
    outline = convex_outline(view.project(np.concatenate([ring, ring - long * along])))
    inner = polygon_distance(pixels, outline) < -INNER_PX
    if inner.sum() < MIN_INNER:
        return 0.0
    best = np.zeros(len(ring))
    for shift in (-2, -1, 0, 1, 2):
        best = np.maximum(best, np.abs(np.einsum("ij,ij->i", sample_image(view.edge, pixels + shift * normal), normal)))
    return float(np.mean(best[inner] > END_EDGE))


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
