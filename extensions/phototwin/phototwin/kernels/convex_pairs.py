"""Two objects of convex pieces in thousands of relative poses: how far apart, how deep in each other, and which way leads apart."""

# Warp reads these annotations as types of its own; a type checker cannot.
# pyright: reportArgumentType=false

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import warp as wp

from phototwin.errors import InputError
from phototwin.kernels.signed_distance import Solids, measure_gap_kernel

CHUNK = 1024
"""Poses at a time: every one takes a copy of the second object's corners and planes."""


@dataclass(frozen=True, eq=False)
class PairGaps:
    """How B poses of a second object stand to a first.

    Attributes:
        gap_m: Signed distance of the nearest or deepest pair of pieces, (B,) [m].
        gradient: Slope of it with a shift of the second object, then with a turn of it about its origin, both in the frame of the
            first, (B, 6) [1, m/rad].
    """

    gap_m: np.ndarray
    gradient: np.ndarray


def convex_pair_gaps(solids: Solids, T_first_second: np.ndarray, device: str = "cpu") -> PairGaps:
    """Signed distances of two objects in B relative poses, with their gradients, by the kernel of ``signed_distances``.

    Separating axes over the face normals of both: before a face exact, elsewhere a lower bound of the distance; where pieces overlap,
    the shortest way along such a normal into free space.

    Args:
        solids: The pieces of exactly two objects, 0 and 1.
        T_first_second: Poses of object 1 in the frame of object 0, (B, 4, 4).
        device: Warp device.

    Raises:
        InputError: Not two objects, or poses of another shape.
    """
    T = np.asarray(T_first_second, np.float64)
    if T.ndim != 3 or T.shape[1:] != (4, 4) or set(solids.owner.tolist()) != {0, 1}:
        raise InputError(
            f"Expected pieces of objects 0 and 1 and poses (B, 4, 4), got {set(solids.owner)} and {T.shape}."
        )
    parts = [_measure(solids, T[i : i + CHUNK], device) for i in range(0, len(T), CHUNK)]
    return PairGaps(
        np.concatenate([gap for gap, _ in parts] or [np.zeros(0)]),
        np.concatenate([gradient for _, gradient in parts] or [np.zeros((0, 6))]),
    )


def _measure(solids: Solids, T: np.ndarray, device: str) -> tuple[np.ndarray, np.ndarray]:
    """Gaps (B,) and gradients (B, 6): all pieces of object 0 once, those of object 1 once for each pose."""
    a, b = np.flatnonzero(solids.owner == 0), np.flatnonzero(solids.owner == 1)
    planes, way_out, first_plane, points, first_point = _tiled(solids, a, b, T)
    pose, i, j = (
        x.ravel() for x in np.meshgrid(np.arange(len(T)), np.arange(len(a)), np.arange(len(b)), indexing="ij")
    )
    pairs = np.stack([i, len(a) + pose * len(b) + j], 1).astype(np.int32)
    out = wp.empty(len(pairs), dtype=wp.vec4, device=device)
    wp.launch(
        measure_gap_kernel,
        dim=len(pairs),
        inputs=[
            wp.array(pairs, dtype=wp.vec2i, device=device),
            wp.array(planes.astype(np.float32), dtype=wp.vec4, device=device),
            wp.array(way_out.astype(np.int32), dtype=int, device=device),
            wp.array(first_plane, dtype=int, device=device),
            wp.array(points.astype(np.float32), dtype=wp.vec3, device=device),
            wp.array(first_point, dtype=int, device=device),
            wp.zeros(len(pairs), dtype=wp.vec3, device=device),
        ],
        outputs=[out],
        device=device,
    )
    values = out.numpy().reshape(len(T), -1, 4).astype(np.float64)
    best = values[..., 3].argmin(1)
    row = np.arange(len(T))
    normal = values[row, best, :3]  # from the second object's piece to the first's
    pieces = pairs.reshape(len(T), -1, 2)[row, best]
    touch = (
        np.stack([_touch(points, first_point, p, n, T_row) for p, n, T_row in zip(pieces, normal, T, strict=True)])
        if len(T)
        else np.zeros((0, 3))
    )
    lever = touch - T[:, :3, 3]
    return values[row, best, 3], np.concatenate([-normal, np.cross(lever, -normal)], 1)


def _touch(
    points: np.ndarray, first_point: np.ndarray, pieces: np.ndarray, normal: np.ndarray, T: np.ndarray
) -> np.ndarray:
    """A point (3,) that moves with the second object and on which the gap depends: where it is a face that counts, what is opposite to it."""
    first, second = (points[first_point[k] : first_point[k + 1]] for k in pieces)
    low, high = first @ normal, second @ normal
    of_first, of_second = first[low < low.min() + 1e-5], second[high > high.max() - 1e-5]
    # The side with fewer corners at the gap is the corner or edge, the other the face it stands before.
    return (of_second if len(of_second) <= len(of_first) else of_first).mean(0)


def _tiled(
    solids: Solids, a: np.ndarray, b: np.ndarray, T: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Planes, their ways out, corners, and where those of each piece begin, in the frame of object 0."""
    planes, points = _rows(solids.first_plane, a), _rows(solids.first_point, a)
    planes_b, points_b = _rows(solids.first_plane, b), _rows(solids.first_point, b)
    R, t = T[:, :3, :3], T[:, :3, 3]
    normals = np.einsum("bij,pj->bpi", R, solids.planes[planes_b, :3])
    offset = solids.planes[planes_b, 3] + np.einsum("bpi,bi->bp", normals, t)
    moved = np.einsum("bij,vj->bvi", R, solids.points[points_b]) + t[:, None]
    count = len(T)
    sizes = [
        np.concatenate([np.diff(f)[a], np.tile(np.diff(f)[b], count)]) for f in (solids.first_plane, solids.first_point)
    ]
    first_plane, first_point = (np.concatenate([[0], np.cumsum(size)]).astype(np.int32) for size in sizes)
    return (
        np.concatenate([solids.planes[planes], np.concatenate([normals, offset[..., None]], 2).reshape(-1, 4)]),
        np.concatenate([solids.way_out[planes], np.tile(solids.way_out[planes_b], count)]),
        first_plane,
        np.concatenate([solids.points[points], moved.reshape(-1, 3)]),
        first_point,
    )


def _rows(first: np.ndarray, pieces: np.ndarray) -> np.ndarray:
    """Rows that belong to some pieces, in their order."""
    return np.concatenate([np.arange(first[k], first[k + 1]) for k in pieces])
