"""Put fitted objects where they can be: not in each other, not in the support."""

from __future__ import annotations

import numpy as np

from phototwin.frames import transform
from phototwin.scene import ConvexPiece

TOUCH_M = 0.001
"""Gap that is left between things that were pushed apart."""
STACK_M = 0.003
"""Pieces whose heights overlap by less than this stand on each other."""
SNAP_M = 0.004
"""What hovers lower than this above the support is set onto it: the fit is no better."""
MAX_SHIFT_M = 0.04
"""Farther than this an object no longer is where the photo shows it; physics must sort the rest out."""
ROUNDS = 60


def settle_objects(
    poses: list[np.ndarray], pieces: list[tuple[ConvexPiece, ...]], names: tuple[str, ...]
) -> tuple[list[np.ndarray], list[str]]:
    """Poses (4, 4) with overlaps resolved by small horizontal moves and nothing below z = 0, and a sentence per object moved.

    Args:
        poses: T_world_object of each object.
        pieces: Its convex pieces, object frame.
        names: What to call it.
    """
    solids = [
        [transform(T, np.asarray(p.points, np.float64)) for p in own] for T, own in zip(poses, pieces, strict=True)
    ]
    shift = np.zeros((len(poses), 3))
    for i, solid in enumerate(solids):
        lowest = min((float(p[:, 2].min()) for p in solid), default=0.0)
        if lowest < SNAP_M:
            shift[i, 2] = -lowest
    hulls = [[(_outline(p[:, :2]), p[:, 2].min(), p[:, 2].max()) for p in solid] for solid in solids]
    pairs = [(i, j) for i in range(len(poses)) for j in range(i + 1, len(poses))]
    for _ in range(ROUNDS):
        moved = False
        for i, j in pairs:
            push = _deepest_overlap(hulls[i], hulls[j], shift[i], shift[j])
            if push is not None:
                shift[i, :2] += push / 2
                shift[j, :2] -= push / 2
                moved = True
        if not moved:
            break
    out, notes = [], []
    for T, move, name in zip(poses, shift, names, strict=True):
        length = float(np.linalg.norm(move[:2]))
        if length > MAX_SHIFT_M:
            move[:2] *= MAX_SHIFT_M / length
            notes.append(f"The {name} still overlaps its neighbour after a move of {100 * MAX_SHIFT_M:.0f} cm.")
        elif length > 5e-4:
            notes.append(f"The {name} was moved by {1000 * length:.0f} mm, out of its neighbour.")
        if move[2] > 1e-3:
            notes.append(f"The {name} was lifted by {1000 * move[2]:.0f} mm onto the support.")
        T = T.copy()
        T[:3, 3] += move
        out.append(T)
    return out, notes


def _deepest_overlap(first: list, second: list, shift_a: np.ndarray, shift_b: np.ndarray) -> np.ndarray | None:
    """The move (2,) of the first object that separates the pair of pieces that overlap most, or None where none do."""
    deepest, move = 0.0, None
    for outline_a, low_a, high_a in first:
        for outline_b, low_b, high_b in second:
            if min(high_a + shift_a[2], high_b + shift_b[2]) - max(low_a + shift_a[2], low_b + shift_b[2]) < STACK_M:
                continue
            push = _separation(outline_a + shift_a[:2], outline_b + shift_b[:2])
            depth = float(np.linalg.norm(push))
            if depth > deepest:
                deepest, move = depth, push * (1 + TOUCH_M / depth)
    return move


def _separation(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The shortest move (2,) of convex polygon a that ends its overlap with b, 0 where they do not overlap.

    Source: separating axes; the least overlap over all edge normals.
    """
    best, move = np.inf, np.zeros(2)
    for polygon in (a, b):
        edges = np.roll(polygon, -1, axis=0) - polygon
        normals = np.stack([edges[:, 1], -edges[:, 0]], 1)
        normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)
        on_a, on_b = a @ normals.T, b @ normals.T
        up, down = on_b.max(0) - on_a.min(0), on_a.max(0) - on_b.min(0)
        overlap = np.minimum(up, down)
        k = int(overlap.argmin())
        if overlap[k] <= 0:
            return np.zeros(2)
        if overlap[k] < best:
            best, move = overlap[k], normals[k] * (up[k] if up[k] < down[k] else -down[k])
    return move


def _outline(points: np.ndarray) -> np.ndarray:
    from scipy.spatial import ConvexHull, QhullError

    try:
        return points[ConvexHull(points).vertices]
    except QhullError:
        return points
