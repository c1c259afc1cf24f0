"""What sticks out of the body of an object."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from phototwin.scene import Mesh, SceneObject

CELL_M = 0.002
BODY_SHARE = 0.6
"""Radius of the disc that is rolled inside an outline, as a share of the largest that fits: what it does not reach sticks out."""
HANDLE_SHARE = 0.6
"""A handle reaches this many radii of that disc beyond the body: corners of a square reach 0.41 only."""
LEAST_HANDLE_M = 0.01
SMALL_SHARE = 0.5
"""A piece of the body smaller than this share of its largest one is a thickening of what sticks out."""


def on_handle(item: SceneObject, points: np.ndarray) -> np.ndarray:
    """Which points (N, 3) of the object frame are at a piece that sticks out of the body, (N,) bool."""
    handle, low = _handle_cells(item.mesh)
    index = np.floor((points[:, :2] - low) / CELL_M).astype(int)
    inside = ((index >= 0) & (index < handle.shape)).all(1)
    index = np.clip(index, 0, np.array(handle.shape) - 1)
    return inside & handle[index[:, 0], index[:, 1]]


def has_handle(item: SceneObject) -> bool:
    """Whether a piece sticks out of the object's body."""
    return bool(_handle_cells(item.mesh)[0].any())


@lru_cache(maxsize=256)
def _handle_cells(mesh: Mesh) -> tuple[np.ndarray, np.ndarray]:
    """Cells (X, Y) bool of the object's outline from above that stick out of its body, and the corner (2,) where the grid begins [m].

    The body is what a disc rolled inside the outline covers (a morphological opening), without its smaller pieces.
    """
    from scipy.ndimage import label

    outline, low = _outline(mesh)
    inside = _depth(outline)
    radius = BODY_SHARE * float(inside.max())
    body = _large(_depth(inside < radius) < radius + 1.0)
    away = _depth(~body)
    pieces, count = label(outline & ~body)  # pyright: ignore[reportGeneralTypeIssues]
    handle = np.zeros_like(outline)
    for k in range(1, count + 1):
        piece = pieces == k
        if float(away[piece].max()) > max(HANDLE_SHARE * radius, LEAST_HANDLE_M / CELL_M):
            handle |= piece
    return handle, low


def _large(cells: np.ndarray) -> np.ndarray:
    """Cells (X, Y) bool without the smaller pieces."""
    from scipy.ndimage import label

    pieces, count = label(cells)  # pyright: ignore[reportGeneralTypeIssues]
    sizes = np.bincount(pieces.ravel(), minlength=count + 1)
    sizes[0] = 0
    return (sizes >= SMALL_SHARE * sizes.max())[pieces] & cells


def _depth(cells: np.ndarray) -> np.ndarray:
    """Distance of each set cell (X, Y) from the nearest that is not, in cells."""
    from scipy.ndimage import distance_transform_edt

    return np.asarray(distance_transform_edt(cells), dtype=np.float64)


def _outline(mesh: Mesh) -> tuple[np.ndarray, np.ndarray]:
    """Cells (X, Y) bool that the mesh covers seen from above, with an empty border, and the corner (2,) of the grid [m]."""
    import cv2

    points = mesh.points[:, :2].astype(np.float64)
    low = points.min(0) - 2.0 * CELL_M
    shape = np.ceil((points.max(0) - low) / CELL_M).astype(int) + 2
    image = np.zeros((shape[0], shape[1]), np.uint8)
    # OpenCV's columns are our Y; 4 bits of fraction, and cells have their centres at whole numbers there.
    corners = np.round(((points - low) / CELL_M - 0.5)[:, ::-1] * 16.0).astype(np.int32)
    for triangle in corners[mesh.faces]:
        cv2.fillConvexPoly(image, triangle, 1, shift=4)
    return image.astype(bool), low
