"""The inside of meshes on a grid: which cells are solid, and whether they would hold water."""

from __future__ import annotations

import numpy as np

GRID_CELLS = 128  # along the longest side of the solid
WATER_SHARE = 0.08  # a vessel holds water of this share of its hull's volume
OFF_PLANES = np.array([0.137, 0.211, 0.5])  # cells: grid lines run beside the planes and corners that made things have
FLOOR_PERCENT = 20.0  # of a cavity's ground is below the height that counts as its floor


def solid_cells(points: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Which cells of a grid (X, Y, Z) have their centre inside a closed mesh, the first centre (3,), and the cell's size.

    Source: the winding number along vertical lines; parts that overlap count once.
    """
    start, cell, shape = _grid(points)
    return winding((points[faces] - start) / cell, shape) > 0, start, cell


def winding(corner: np.ndarray, shape: np.ndarray) -> np.ndarray:
    """How often a closed surface winds around each point (X, Y, Z) of a grid; triangles (T, 3, 3) in units of the grid."""
    x, y, z, ahead = _crossings(corner, shape)
    change = np.zeros((shape[0], shape[1], shape[2] + 1), dtype=np.int16)
    np.add.at(change, (x, y, np.clip(np.ceil(z), 0, shape[2]).astype(int)), ahead)
    return change.cumsum(axis=2, dtype=np.int16)[..., :-1]


def holds_water(points: np.ndarray, faces: np.ndarray) -> bool:
    """Whether a mesh, Z up, is a vessel that things can be put into."""
    return water(points, faces)[0] > WATER_SHARE


def water(points: np.ndarray, faces: np.ndarray) -> tuple[float, np.ndarray, float]:
    """How much water a mesh holds as a share of its hull's volume, the middle of the water (2,), and the height of the floor beneath it.

    Only what is seen from above counts, so the mesh may be open.

    Args:
        points: (V, 3), Z up.
        faces: (F, 3).
    """
    from scipy.ndimage import binary_fill_holes
    from scipy.spatial import ConvexHull

    start, cell, shape = _grid(points)
    x, y, z, _ = _crossings((points[faces] - start) / cell, shape)
    top = np.zeros((shape[0] + 2, shape[1] + 2))
    np.maximum.at(top, (x + 1, y + 1), np.maximum(z, 0))
    depth = np.zeros_like(top)
    for level in range(1, int(top.max()) + 1):
        solid = top >= level
        depth += np.asarray(binary_fill_holes(solid)) & ~solid
    wet = depth > 0
    if not wet.any():
        return 0.0, np.zeros(2), 0.0
    middle = start[:2] + cell * (np.argwhere(wet).mean(axis=0) - 1)
    floor = start[2] + cell * float(np.percentile(top[wet], FLOOR_PERCENT))
    return float(depth.sum()) * cell**3 / float(ConvexHull(points).volume), middle, floor


def _grid(points: np.ndarray) -> tuple[np.ndarray, float, np.ndarray]:
    """First centre (3,), size and number (3,) of the cells around a mesh."""
    low, size = points.min(axis=0), np.ptp(points, axis=0)
    cell = float(size.max()) / GRID_CELLS
    return low + cell * OFF_PLANES, cell, np.ceil(size / cell).astype(int) + 1


def _crossings(corner: np.ndarray, shape: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Where vertical lines through a grid's cells meet triangles (T, 3, 3), in cells: x, y, height; and 1 on the way in, -1 out."""
    first = np.ceil(corner[..., :2].min(axis=1)).astype(int)
    count = np.maximum(np.floor(corner[..., :2].max(axis=1)).astype(int) - first + 1, 0)
    number = count.prod(axis=1)
    face = np.repeat(np.arange(len(corner)), number)
    index = np.arange(len(face)) - np.repeat(np.cumsum(number) - number, number)
    x, y = first[face, 0] + index // count[face, 1], first[face, 1] + index % count[face, 1]
    a, b, c = (corner[face, k] for k in range(3))
    area = _cross(b[:, :2] - a[:, :2], c[:, :2] - a[:, :2])
    flat = area == 0
    place, whole = np.stack([x, y], -1), np.where(flat, 1.0, area)
    wa = _cross(b[:, :2] - place, c[:, :2] - place) / whole
    wb = _cross(c[:, :2] - place, a[:, :2] - place) / whole
    hit = ~flat & (wa >= 0) & (wb >= 0) & (wa + wb <= 1) & (x >= 0) & (y >= 0) & (x < shape[0]) & (y < shape[1])
    z = wa * a[:, 2] + wb * b[:, 2] + (1 - wa - wb) * c[:, 2]
    return x[hit], y[hit], z[hit], np.where(area[hit] < 0, 1, -1)


def _cross(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]
