"""Flat things: an outline on the support with a height that changes along its length."""

from __future__ import annotations

import numpy as np

from phototwin.build import shapes
from phototwin.build.fit_solids import Candidate, _sample
from phototwin.build.fit_view import LOW_M, MIN_POINTS, View
from phototwin.frames import invert, make_T, pixel_rays, rotation_z, transform

CELLS = 96  # of the outline's grid along its longer side
STATIONS = 24
MIN_HEIGHT_M = 0.004
HEIGHT_SHARES = (0.08, 0.15, 0.22, 0.3, 0.4, 0.5)  # thickness over width that is tried without depth
USUAL_SHARE = 0.3


def fit_extrusion(view: View) -> Candidate | None:
    """An outline prism whose top follows the measured heights; without depth its thickness comes from the visible side."""
    if len(view.points_w) >= MIN_POINTS:
        return _from_depth(view)
    return _from_silhouette(view)


def _from_depth(view: View) -> Candidate | None:
    import cv2

    assert view.depth_m is not None
    height, width = view.mask.shape
    v, u = np.nonzero(view.mask & (view.depth_m > 0))
    rays = pixel_rays(view.K_px, width, height)[v, u]
    points = transform(invert(view.T_camera_world), rays * view.depth_m[v, u, None].astype(np.float64))
    z = points[:, 2] - view.base_z
    top = float(np.percentile(view.points_w[:, 2], 99)) - view.base_z
    good = (z > 0.5 * LOW_M) & (z < 1.3 * top)
    points, z = points[good], z[good]
    if len(points) < MIN_POINTS:
        return None
    low, high = points[:, :2].min(axis=0), points[:, :2].max(axis=0)
    cell = max(float((high - low).max()) / CELLS, 1.2 * view.px_m)
    grid = np.zeros(np.ceil((high - low) / cell).astype(int)[::-1] + 7, dtype=np.uint8)
    j, i = ((points[:, :2] - low) / cell).astype(int).T + 3
    grid[i, j] = 1
    grid = cv2.morphologyEx(grid, cv2.MORPH_CLOSE, np.ones((5, 5), dtype=np.uint8))
    count, labels, stats, _ = cv2.connectedComponentsWithStats(grid, connectivity=8)
    if count < 2:
        return None
    grid = labels == 1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA]))
    i, j = np.nonzero(grid)
    cells = np.stack([j - 3 + 0.5, i - 3 + 0.5], -1) * cell + low
    return _loft(view, cells, cell, points[:, :2], z, "outline seen from above")


def _from_silhouette(view: View) -> Candidate | None:
    """The largest prism inside the mask: its base and its top both project into it. Its thickness has the clearest upper edge."""
    height, width = view.mask.shape
    flat_w = _lift(view, 0.0)
    if flat_w is None:
        return None
    extent = np.subtract(*np.percentile(flat_w, [98, 2], axis=0))
    best, best_score = None, -np.inf
    for share in HEIGHT_SHARES:
        tall = share * float(extent.min())
        low, high = flat_w.min(axis=0), flat_w.max(axis=0)
        cell = float((high - low).max()) / CELLS
        x, y = np.meshgrid(np.arange(low[0], high[0], cell) + cell / 2, np.arange(low[1], high[1], cell) + cell / 2)
        inside = np.ones(x.shape, dtype=bool)
        for z in (0.0, tall):
            at = view.project(np.stack([x, y, np.full_like(x, view.base_z + z)], -1))
            c, r = np.floor(at[..., 0]).astype(int), np.floor(at[..., 1]).astype(int)
            seen = (c >= 0) & (r >= 0) & (c < width) & (r < height)
            inside &= seen & view.mask[np.clip(r, 0, height - 1), np.clip(c, 0, width - 1)]
        if inside.sum() < 12:
            continue
        cells = np.stack([x[inside], y[inside]], -1)
        made = _loft(view, cells, cell, cells, np.full(len(cells), tall), "thickness from the upper edge")
        score = _upper_edge(view, made) - 0.25 * abs(np.log(share / USUAL_SHARE))
        if score > best_score:
            best, best_score = made, score
    return best


def _lift(view: View, z: float) -> np.ndarray | None:
    v, u = np.nonzero(view.mask)
    K, R = view.K_px, view.T_camera_world[:3, :3]
    rays = np.stack([(u + 0.5 - K[0, 2]) / K[0, 0], (v + 0.5 - K[1, 2]) / K[1, 1], np.ones(len(u))], -1) @ R
    if (rays[:, 2] > -1e-3).any():
        return None
    return (view.camera_w + rays * ((view.base_z + z - view.camera_w[2]) / rays[:, 2:]))[:, :2]


def _upper_edge(view: View, made: Candidate) -> float:
    """Mean gradient across the top's outline where it faces the camera, 0..1."""
    if view.edge is None:
        return 0.0
    rings = transform(made.T_world_fit, made.solid.points).reshape(-1, 4, 3)
    score = []
    for line in (rings[:, 2], rings[:, 3]):
        toward = line[:, :2] - rings[:, 2:4, :2].mean(axis=1)
        if np.mean(toward @ view.ahead_w[:2]) > 0:
            continue
        pixels = view.project(line)
        way = np.gradient(pixels, axis=0)
        normal = np.stack([-way[:, 1], way[:, 0]], -1)
        normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-6)
        score.append(np.minimum(np.abs(np.einsum("ij,ij->i", _sample(view.edge, pixels), normal)), 1.0).mean())
    return float(np.mean(score)) if score else 0.0


def _loft(
    view: View, cells_w: np.ndarray, cell_m: float, height_at_w: np.ndarray, heights_m: np.ndarray, note: str
) -> Candidate:
    """Stations along the outline's long axis: extent from its cells (N, 2), height from the samples (M, 2), (M,)."""
    import cv2

    (cx, cy), _, turn = cv2.minAreaRect(cells_w.astype(np.float32))
    center = np.array([cx, cy])
    yaw = np.radians(turn)
    local = (cells_w - center) @ rotation_z(yaw)[:2, :2]
    if np.ptp(local[:, 1]) > np.ptp(local[:, 0]):
        yaw += np.pi / 2
        local = (cells_w - center) @ rotation_z(yaw)[:2, :2]
    x0, x1 = local[:, 0].min() - cell_m / 2, local[:, 0].max() + cell_m / 2
    edges = np.linspace(x0, x1, STATIONS + 1)
    along = (height_at_w - center) @ rotation_z(yaw)[:2, :2]
    left, right, tall = (np.full(STATIONS, np.nan) for _ in range(3))
    overall = max(float(np.percentile(heights_m, 85)), MIN_HEIGHT_M)
    for k in range(STATIONS):
        here = (local[:, 0] >= edges[k]) & (local[:, 0] <= edges[k + 1])
        if here.any():
            left[k], right[k] = np.percentile(local[here, 1], [2, 98]) + cell_m * np.array([-0.5, 0.5])
        near = (along[:, 0] >= edges[k]) & (along[:, 0] <= edges[k + 1])
        if near.sum() >= 6:
            tall[k] = max(float(np.percentile(heights_m[near], 80)), MIN_HEIGHT_M)
    left, right = _filled(left, 0.0), _filled(right, 0.0)
    tall = _filled(tall, overall)
    stations = np.concatenate([[x0], (edges[:-1] + edges[1:]) / 2, [x1]])
    ends = [np.concatenate([a[:1], a, a[-1:]]) for a in (left, right, tall)]
    T = make_T(rotation_z(yaw), np.array([cx, cy, view.base_z]))
    return Candidate("extrusion", False, T, shapes.loft(stations, *ends), 0.08, note)


def _filled(values: np.ndarray, default: float) -> np.ndarray:
    known = np.flatnonzero(np.isfinite(values))
    if not len(known):
        return np.full(len(values), default)
    return np.interp(np.arange(len(values)), known, values[known])
