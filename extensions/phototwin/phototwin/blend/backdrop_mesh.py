"""Pixels as a mesh: every pixel a small square that hangs together with its neighbours except across cuts, large ones where it is flat."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

BLOCKS = (16, 8, 4)
"""Sides of the squares that stand for many pixels where inverse depth is bilinear [px]."""


@dataclass(frozen=True, eq=False)
class PixelMesh:
    """Triangles over a picture.

    Attributes:
        pixels: Vertices in pixel coordinates (V, 2) float64.
        inverse: Their inverse depth (V,) [1/m].
        faces: Triangles (F, 3) int32.
    """

    pixels: np.ndarray
    inverse: np.ndarray
    faces: np.ndarray


def mesh_pixels(
    inverse: np.ndarray, mask: np.ndarray, right_cut: np.ndarray, down_cut: np.ndarray, tolerance: float
) -> PixelMesh:
    """The squares of a mask's pixels as triangles: they tile the mask without gaps, and share corners except across cuts.

    Args:
        inverse: Inverse depth at the pixels' centres (H, W) [1/m].
        mask: Pixels to cover (H, W) bool.
        right_cut: Where a pixel and its right neighbour are apart (H, W - 1) bool.
        down_cut: The same for the lower neighbour (H - 1, W).
        tolerance: By how much a large square may miss the inverse depth of its pixels [1/m].
    """
    height, width = mask.shape
    value, slot = _corners(inverse, mask, right_cut, down_cut)
    whole = (slot == slot[..., :1]).all(-1)  # all four pixels around the corner share it
    done = np.zeros_like(mask)
    single = np.where(whole, value[..., 0], np.nan)
    squares = []
    for size in BLOCKS:
        at = _flat_blocks(single, mask & ~done, size, tolerance)
        for y, x in at:
            done[y : y + size, x : x + size] = True
        _snap_edges(single, at, size)
        squares.append((at, size))
    value = np.where((whole & np.isfinite(single))[..., None], single[..., None], value)
    rows, columns = np.nonzero(mask & ~done)
    squares.append((np.stack([rows, columns], 1), 1))
    corner = np.arange((height + 1) * (width + 1)).reshape(height + 1, width + 1)[..., None] * 4 + slot
    faces = np.concatenate([_faces(corner, at, size) for at, size in squares])
    used, compact = np.unique(faces, return_inverse=True)
    y, x = np.divmod(used // 4, width + 1)
    return PixelMesh(
        np.stack([x, y], 1).astype(np.float64), value.reshape(-1)[used], compact.reshape(-1, 3).astype(np.int32)
    )


def _corners(
    inverse: np.ndarray, mask: np.ndarray, right_cut: np.ndarray, down_cut: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Inverse depth that each of the four pixels around a corner gives it, and the number (0..3) of the first pixel it shares it with; (H + 1, W + 1, 4).

    The pixels are numbered upper left, upper right, lower right, lower left.
    """
    height, width = mask.shape
    inside = np.pad(mask, 1)
    around = [inside[:-1, :-1], inside[:-1, 1:], inside[1:, 1:], inside[1:, :-1]]
    padded = np.pad(inverse, 1, mode="edge")
    values = [padded[:-1, :-1], padded[:-1, 1:], padded[1:, 1:], padded[1:, :-1]]
    right = np.pad(right_cut, 1, constant_values=True)  # (y, x): link of pixel (y - 1, x - 1) to its right neighbour
    down = np.pad(down_cut, 1, constant_values=True)
    # Links upper left - upper right - lower right - lower left - upper left.
    links = [
        ~right[:-1] & around[0] & around[1],
        ~down[:, 1:] & around[1] & around[2],
        ~right[1:] & around[2] & around[3],
        ~down[:, :-1] & around[3] & around[0],
    ]
    mean = np.empty((height + 1, width + 1, 4))
    mean[:] = ((values[0] + values[1] + values[2] + values[3]) / 4)[..., None]
    group = np.zeros((height + 1, width + 1, 4), np.int8)
    odd = ~(links[0] & links[1] & links[2] & links[3])  # most corners have one surface around them
    of = np.stack([v[odd] for v in values], -1)
    mean[odd], group[odd] = _grouped(of, np.stack([m[odd] for m in around], -1), [k[odd] for k in links])
    return mean, group


def _grouped(values: np.ndarray, inside: np.ndarray, links: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Mean of each group of linked pixels at the slot of its first one, and these slots, (N, 4), of four pixels in a ring."""
    group = np.tile(np.arange(4), (len(values), 1))
    for _ in range(2):
        for k, link in enumerate(links):
            low = np.minimum(group[:, k], group[:, (k + 1) % 4])
            group[:, k] = np.where(link, low, group[:, k])
            group[:, (k + 1) % 4] = np.where(link, low, group[:, (k + 1) % 4])
    total, count = np.zeros(values.shape), np.zeros(values.shape)
    for g in range(4):
        member = (group == g) & inside
        count[:, g] = member.sum(-1)
        total[:, g] = np.where(member, values, 0).sum(-1)
    return total / np.maximum(count, 1), group


def _flat_blocks(single: np.ndarray, free: np.ndarray, size: int, tolerance: float) -> np.ndarray:
    """Upper left pixels (N, 2) of the blocks whose corners are all whole and inverse depths bilinear."""
    rows, columns = free.shape[0] // size, free.shape[1] // size
    if not rows or not columns:
        return np.zeros((0, 2), int)
    view = np.lib.stride_tricks.sliding_window_view(single, (size + 1, size + 1))[::size, ::size][:rows, :columns]
    t = np.linspace(0, 1, size + 1)
    # Two triangles: upper left - lower left - lower right, and upper left - lower right - upper right.
    a, b, c, d = (view[..., y, x][..., None, None] for y, x in ((0, 0), (0, -1), (-1, -1), (-1, 0)))
    x, y = np.meshgrid(t, t)
    flat = np.where(y >= x, a + (d - a) * y + (c - d) * x, a + (b - a) * x + (c - b) * y)
    with np.errstate(invalid="ignore"):
        close = (np.abs(flat - view) <= tolerance).all((-1, -2))
    full = free[: rows * size, : columns * size].reshape(rows, size, columns, size).all((1, 3))
    return np.argwhere(close & full) * size


def _snap_edges(single: np.ndarray, at: np.ndarray, size: int) -> None:
    """Move the corners along the blocks' edges onto these edges, so that smaller squares beside them leave no gap."""
    t = np.arange(size + 1) / size
    y, x = at[:, 0], at[:, 1]
    a, b, c, d = single[y, x], single[y, x + size], single[y + size, x + size], single[y + size, x]
    for k in range(size + 1):
        single[y, x + k] = a + (b - a) * t[k]
        single[y + size, x + k] = d + (c - d) * t[k]
        single[y + k, x] = a + (d - a) * t[k]
        single[y + k, x + size] = b + (c - b) * t[k]


def _faces(corner: np.ndarray, at: np.ndarray, size: int) -> np.ndarray:
    """Two triangles a square; the upper left corner of a square sees it as its lower right pixel, and so on."""
    y, x = at[:, 0], at[:, 1]
    a, b = corner[y, x, 2], corner[y, x + size, 3]
    c, d = corner[y + size, x + size, 0], corner[y + size, x, 1]
    return np.concatenate([np.stack([a, d, c], 1), np.stack([a, c, b], 1)])
