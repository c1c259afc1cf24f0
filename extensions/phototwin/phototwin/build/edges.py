"""Edges in a mesh made from a depth map: cut where depth jumps, and what goes on behind them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from phototwin.build.fields import diffuse

HIDDEN_CELLS = 9
"""What an edge hides goes on so many mesh cells behind it: enough for a camera moved by some 15 degrees."""
HIDDEN_GAP = 0.01
"""It lies this share of its depth farther away than the edge shows, so that the two never fight for a pixel."""
CUT_STEPS = 16
"""Places along a mesh edge at which the jump is looked for: finer than a pixel, as an edge is some six pixels long."""


@dataclass(frozen=True, eq=False)
class Piece:
    """A part of a mesh that is seen from the photo's camera.

    Attributes:
        pixels: Where each point is seen (N, 2).
        depth_m: How far away it is (N,).
        faces: (F, 3).
        shown: Pixel whose colour it has (N, 2).
    """

    pixels: np.ndarray
    depth_m: np.ndarray
    faces: np.ndarray
    shown: np.ndarray


def cut_faces(faces: np.ndarray, pixels: np.ndarray, z: np.ndarray, depth_m: np.ndarray) -> Piece:
    """Triangles over a depth jump cut in two where it is in the full picture: a near part that ends there and a far one behind.

    Args:
        faces: Triangles of the grid (F, 3).
        pixels: Of the grid's points (r * c, 2).
        z: Their depth (r, c).
        depth_m: Full depth map (H, W).
    """
    flat = z.reshape(-1)
    level = np.sqrt(flat[faces].min(1) * flat[faces].max(1))
    near = flat[faces] < level[:, None]
    # Turn each triangle so that the corner which is alone on its side comes first; the order stays counter-clockwise.
    single = np.where(near.sum(1) == 1, near.argmax(1), (~near).argmax(1))
    turned = np.take_along_axis(faces, (single[:, None] + np.arange(3)) % 3, 1)
    own_px, own_z = pixels[turned], flat[turned]
    slope = _slopes(z, pixels)[turned]

    def depth_at(px: np.ndarray, k: int) -> np.ndarray:
        """Depth at a pixel of the flat surface about each triangle's corner k."""
        inverse = 1 / own_z[:, k] + ((px - own_px[:, k]) * slope[:, k]).sum(1)
        return 1 / np.maximum(inverse, 0.5 / own_z[:, k])

    alone_near = own_z[:, 0] < level
    cut_px = [_find_jump(own_px[:, 0], own_px[:, k], alone_near, level, depth_m) for k in (1, 2)]
    before = [depth_at(px, 0) for px in cut_px]
    after = [depth_at(px, k) for px, k in zip(cut_px, (1, 2), strict=True)]
    # Corners of the three new triangles: alone, cut, cut; cut, its neighbour, the other neighbour; cut, other neighbour, cut.
    point_px = np.stack([own_px[:, 0], *cut_px, *cut_px, own_px[:, 1], own_px[:, 2]], 1)
    point_z = np.stack([own_z[:, 0], *before, *after, own_z[:, 1], own_z[:, 2]], 1)
    index = 7 * np.arange(len(faces))[:, None]
    new = np.concatenate([index + np.array(t) for t in ((0, 1, 2), (3, 5, 6), (3, 6, 4))])
    point_px = point_px.reshape(-1, 2)
    return Piece(point_px, point_z.reshape(-1), new, point_px)


def _find_jump(
    a_px: np.ndarray, b_px: np.ndarray, a_near: np.ndarray, level: np.ndarray, depth_m: np.ndarray
) -> np.ndarray:
    """Where (N, 2) between pixels a and b (N, 2) depth passes a level (N,)."""
    height, width = depth_m.shape
    t = (np.arange(CUT_STEPS) + 0.5) / CUT_STEPS
    line = a_px[:, None] + t[:, None] * (b_px - a_px)[:, None]
    column, row = np.clip(line.astype(int), 0, np.array([width, height]) - 1).transpose(2, 0, 1)
    same = (depth_m[row, column] < level[:, None]) == a_near[:, None]
    return a_px + (np.cumprod(same, axis=1).sum(1) / CUT_STEPS)[:, None] * (b_px - a_px)


def _slopes(z: np.ndarray, pixels: np.ndarray) -> np.ndarray:
    """Slope of inverse depth per pixel at each point of the grid z (r, c), (r * c, 2): the gentler of both sides, so that no jump enters."""
    grid, inverse, out = pixels.reshape(*z.shape, 2), 1 / z, []
    for axis, k in ((1, 0), (0, 1)):
        step = np.diff(inverse, axis=axis) / np.diff(grid[..., k], axis=axis)
        first, last = np.take(step, [0], axis), np.take(step, [-1], axis)
        before, after = np.concatenate([first, step], axis), np.concatenate([step, last], axis)
        out.append(np.where(np.abs(before) < np.abs(after), before, after).reshape(-1))
    return np.stack(out, -1)


def hidden_piece(z: np.ndarray, torn: np.ndarray, pixels: np.ndarray, jump: float, most: int) -> Piece:
    """What goes on behind the edges of the grid z (r, c): in even inverse depth, in the colours that mirror in the edge.

    The photo's camera sees none of it, one a little aside sees it where there would be a hole.

    Args:
        z: Depth of the grid's points (r, c).
        torn: Triangles over a jump (F, 3).
        pixels: Of the grid's points (r * c, 2).
        jump: What is nearer than the hidden by this share hides it.
        most: Number of triangles.
    """
    from scipy.ndimage import distance_transform_edt

    flat = z.reshape(-1)
    middle = np.sqrt(flat[torn].min(1) * flat[torn].max(1))[:, None]
    far, near = np.zeros(z.size, bool), np.zeros(z.size, bool)
    far[torn[flat[torn] >= middle]] = True
    near[torn[flat[torn] < middle]] = True
    far, near = far.reshape(z.shape), near.reshape(z.shape)
    nearest = np.asarray(distance_transform_edt(~far, return_distances=False, return_indices=True))
    distance = np.linalg.norm(nearest - np.indices(z.shape), axis=0)
    source = (nearest[0] * z.shape[1] + nearest[1]).reshape(-1)
    inverse = diffuse(np.where(far, 1 / z, 0).astype(np.float32), far)
    hidden_z = (1 + HIDDEN_GAP) / np.maximum(inverse.astype(np.float64), 1e-2)
    # Only what lies behind the near side, not before the far one.
    band = ((distance <= HIDDEN_CELLS) & (z < hidden_z / (1 + jump)) | far).astype(bool)
    index = np.arange(z.size).reshape(z.shape)
    a, b, c, d = (index[:-1, :-1], index[:-1, 1:], index[1:, 1:], index[1:, :-1])
    whole = band[:-1, :-1] & band[:-1, 1:] & band[1:, 1:] & band[1:, :-1]
    rank = np.argsort(distance[:-1, :-1][whole], kind="stable")[: most // 2]
    a, b, c, d = (corner[whole][rank] for corner in (a, b, c, d))
    faces = np.concatenate([np.stack([a, d, c], -1), np.stack([a, c, b], -1)])
    mirrored = np.clip(2 * pixels[source] - pixels, 0, pixels.max(0))
    return Piece(pixels, hidden_z.reshape(-1), faces, mirrored)
