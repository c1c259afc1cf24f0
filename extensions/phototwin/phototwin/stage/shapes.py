"""Geometry that the stage needs beside the scene's own: normals, the support's slab."""

from __future__ import annotations

import numpy as np

CREASE_DEG = 40.0
"""Faces that meet at less than this shade as one smooth surface; a fitted lathe has steps of 5 to 30 degrees, a box 90."""
MAX_SLAB_CORNERS = 32
"""PhysX cooks hulls of at most 64 vertices; a slab has two for each corner."""
RIGHT_ANGLE_TOLERANCE = 1e-6


def corner_normals(points: np.ndarray, faces: np.ndarray, crease_deg: float = CREASE_DEG) -> np.ndarray:
    """Unit normals (F, 3, 3) float32 per face corner: smooth where neighbouring faces meet flatly, sharp at creases.

    Corners at one place count as one vertex, so seams do not show.
    """
    triangles = points[faces].astype(np.float64)
    area2 = np.cross(triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0])
    unit = area2 / np.maximum(np.linalg.norm(area2, axis=1, keepdims=True), 1e-300)
    vertex = np.unique(points, axis=0, return_inverse=True)[1].reshape(-1)[faces.reshape(-1)]
    order = np.argsort(vertex, kind="stable")
    face = order // 3
    start = np.searchsorted(vertex[order], vertex[order], side="left")
    count = np.searchsorted(vertex[order], vertex[order], side="right") - start
    total = np.zeros((len(order), 3))
    for k in range(int(count.max(initial=0))):  # the k-th neighbour of every corner at once
        rows = np.flatnonzero(count > k)
        other = face[start[rows] + k]
        near = np.einsum("ij,ij->i", unit[face[rows]], unit[other]) > np.cos(np.radians(crease_deg))
        total[rows] += np.where(near[:, None], area2[other], 0.0)
    length = np.linalg.norm(total, axis=1, keepdims=True)
    total = np.where(
        length > 0, total / np.maximum(length, 1e-300), (0.0, 0.0, 1.0)
    )  # faces without area: any unit vector
    normals = np.empty_like(total)
    normals[order] = total
    return normals.reshape(-1, 3, 3).astype(np.float32)


def rectangle(outline: np.ndarray) -> tuple[np.ndarray, np.ndarray, float] | None:
    """Centre (2,), size (2,) and angle [rad] of a convex outline (K, 2), or None where it is no rectangle."""
    if len(outline) != 4:
        return None
    along, across = outline[1] - outline[0], outline[3] - outline[0]
    size = np.array([np.linalg.norm(along), np.linalg.norm(across)])
    is_parallelogram = np.abs(outline[0] + along + across - outline[2]).max() <= RIGHT_ANGLE_TOLERANCE * size.max()
    if not is_parallelogram or abs(along @ across) > RIGHT_ANGLE_TOLERANCE * size[0] * size[1]:
        return None
    return outline.mean(0), size, float(np.arctan2(along[1], along[0]))


def few_corners(outline: np.ndarray, limit: int = MAX_SLAB_CORNERS) -> np.ndarray:
    """A convex outline inside the given one with at most ``limit`` corners: those go first that cost the least area."""
    while len(outline) > limit:
        a, b = np.roll(outline, 1, 0) - outline, np.roll(outline, -1, 0) - outline
        outline = np.delete(outline, np.argmin(np.abs(a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0])), 0)
    return outline


def slab(outline: np.ndarray, thickness_m: float) -> tuple[np.ndarray, np.ndarray]:
    """Points (2K, 3) float32 and faces (4K - 4, 3) int32 of a convex outline swept from z = 0 down by the thickness."""
    n = len(outline)
    top = np.column_stack([outline, np.zeros(n)])
    points = np.concatenate([top, top - (0.0, 0.0, thickness_m)]).astype(np.float32)
    i = np.arange(1, n - 1)
    cap = np.column_stack([np.zeros(n - 2, int), i, i + 1])
    j, k = np.arange(n), (np.arange(n) + 1) % n
    sides = np.concatenate([np.column_stack([j, j + n, k + n]), np.column_stack([j, k + n, k])])
    return points, np.concatenate([cap, cap[:, ::-1] + n, sides]).astype(np.int32)
