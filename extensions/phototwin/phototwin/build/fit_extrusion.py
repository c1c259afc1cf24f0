"""Flat things: an outline on the support with a height that changes along its length."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from phototwin.build import shapes
from phototwin.build.fit_solids import Candidate, sample_image
from phototwin.build.fit_view import LOW_M, MIN_POINTS, View
from phototwin.frames import make_T, pixel_rays, rotation_z, transform

CELLS = 96  # of the outline's grid along its longer side
STATIONS = 40
MIN_HEIGHT_M = 0.004
HEIGHT_SHARES = (0.08, 0.15, 0.22, 0.3, 0.4, 0.5)  # thickness over width that is tried without depth
USUAL_SHARE = 0.3
STRETCH_COST = 0.08  # per e-fold
RAISED_M = 0.012  # parts higher than this may hang in the air
EXTRUSION_COST = 0.05  # an outline can follow any mask, so it must be clearly better


def fit_extrusion(view: View) -> list[Candidate]:
    """Outline prisms whose top follows the measured heights; without depth the thickness comes from the visible side."""
    if len(view.points_w) >= MIN_POINTS:
        return _from_depth(view)
    flat = _from_silhouette(view)
    return [] if flat is None else [replace(flat, complexity=flat.complexity + _stretch_cost(view, flat))]


def _stretch_cost(view: View, flat: Candidate) -> float:
    """An upright thing smeared over the support is long along the view: such outlines cost more."""
    points = (flat.solid.points @ flat.T_world_fit[:3, :3].T)[:, :2]
    ahead = view.ahead_w[:2]
    deep, wide = np.ptp(points @ ahead), np.ptp(points @ np.array([-ahead[1], ahead[0]]))
    return STRETCH_COST * max(0.0, float(np.log(deep / (1.5 * wide))))


def _from_depth(view: View) -> list[Candidate]:
    """Mask pixels lifted to the smoothed measured heights: the outline is the mask's, not that of the noisy points."""
    import cv2

    assert view.depth_m is not None
    height, width = view.mask.shape
    rays = pixel_rays(view.K_px, width, height) @ view.T_camera_world[:3, :3]
    v, u = np.nonzero(view.mask & (view.depth_m > 0))
    z = np.zeros(view.mask.shape, dtype=np.float32)
    z[v, u] = (view.camera_w[2] + rays[v, u, 2] * view.depth_m[v, u]) - view.base_z
    top = float(np.percentile(view.points_w[:, 2], 99)) - view.base_z
    good = (view.mask & (z > 0.5 * LOW_M) & (z < 1.3 * top)).astype(np.float32)
    if good.sum() < MIN_POINTS or (rays[view.mask][:, 2] > -1e-3).any():
        return []
    reach = max(2.0, 0.06 * float(np.sqrt(view.mask.sum())))
    weight = cv2.GaussianBlur(good, (0, 0), reach)
    smooth = cv2.GaussianBlur(good * z, (0, 0), reach) / np.maximum(weight, 1e-6)
    smooth = np.where(weight > 0.02, smooth, top)
    v, u = np.nonzero(view.mask)
    way = rays[v, u]
    lifted = view.camera_w + way * ((view.base_z + smooth[v, u] - view.camera_w[2]) / way[:, 2])[:, None]
    cells, tall = lifted[:, :2], smooth[v, u]
    made = [_loft(view, cells, 1.1 * view.px_m, cells, tall, False, "outline seen from above")]
    if float(np.percentile(tall, 95)) > RAISED_M:
        made.append(_loft(view, cells, 1.1 * view.px_m, cells, tall, True, "no thicker than it is wide"))
    return made


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
        made = _loft(view, cells, cell, cells, np.full(len(cells), tall), False, "thickness from the upper edge")
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
        score.append(np.minimum(np.abs(np.einsum("ij,ij->i", sample_image(view.edge, pixels), normal)), 1.0).mean())
    return float(np.mean(score)) if score else 0.0


def _loft(
    view: View, cells_w: np.ndarray, cell_m: float, at_w: np.ndarray, heights_m: np.ndarray, lifted: bool, note: str
) -> Candidate:
    """Stations along the outline's long axis.

    Args:
        view: The evidence.
        cells_w: Cells of the outline (N, 2) [m].
        cell_m: Their size [m].
        at_w: Where heights are known (M, 2) [m].
        heights_m: Those heights over the support (M,) [m].
        lifted: Let narrow parts hang in the air: nowhere thicker than wide.
        note: A few words for the report.
    """
    import cv2

    (cx, cy), _, turn = cv2.minAreaRect(cells_w.astype(np.float32))
    center, yaw = np.array([cx, cy]), np.radians(turn)
    local = (cells_w - center) @ rotation_z(yaw)[:2, :2]
    if np.ptp(local[:, 1]) > np.ptp(local[:, 0]):
        yaw += np.pi / 2
        local = (cells_w - center) @ rotation_z(yaw)[:2, :2]
    x0, x1 = local[:, 0].min() - cell_m / 2, local[:, 0].max() + cell_m / 2
    count = int(np.clip((x1 - x0) / (2 * max(cell_m, view.px_m)), 8, STATIONS))  # finer would copy the mask's pixels
    half = max((x1 - x0) / count / 2, 0.75 * cell_m)
    x = np.linspace(x0, x1, count + 1)
    along = ((at_w - center) @ rotation_z(yaw)[:2, :2])[:, 0]
    left, right, tall = (np.full(len(x), np.nan) for _ in range(3))
    for k, station in enumerate(x):
        here = np.abs(local[:, 0] - station) <= half
        if here.any():
            left[k], right[k] = np.percentile(local[here, 1], [4, 96]) + 0.5 * cell_m * np.array([-1, 1])
        near = np.abs(along - station) <= 1.5 * half
        if near.sum() >= 6:
            tall[k] = max(float(np.percentile(heights_m[near], 70)), MIN_HEIGHT_M)
    left, right = _filled(left, 0.0), _filled(right, 0.0)
    tall = _filled(tall, max(float(np.percentile(heights_m, 85)), MIN_HEIGHT_M))
    bottom = np.zeros(len(x))
    if lifted:
        bottom = np.maximum(tall - np.maximum(right - left, MIN_HEIGHT_M), 0.0)
        bottom -= bottom.min()
    T = make_T(rotation_z(yaw), np.array([cx, cy, view.base_z]))
    return Candidate("extrusion", False, T, shapes.loft(x, left, right, tall, bottom), EXTRUSION_COST, note)


def _filled(values: np.ndarray, default: float) -> np.ndarray:
    known = np.flatnonzero(np.isfinite(values))
    if not len(known):
        return np.full(len(values), default)
    return np.interp(np.arange(len(values)), known, values[known])
