"""Which surfaces a picture of the background shows, and where each of them goes on out of sight.

Everything is told in inverse depth, which is affine in the pixel on every plane: a surface is three numbers wherever it is flat.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from phototwin.build.fields import erode
from phototwin.frames import pixel_rays, transform
from phototwin.scene import Camera, depth_inside

PLANE_M, PLANE_SHARE = 0.004, 0.004
"""Points this close to the support's plane, plus this share of their distance, are points of it [m]."""
FIT_PX = 0.5
"""Points belong to a plane where taking them for it displaces them by less than this in the farthest view [px]."""
BESIDE_M, OUTLINE_STEP = 0.03, 4
"""The support may reach this far beyond its outline [m], which is looked at in steps of so many pixels."""
FLAT_PX = 0.15
"""Readings this exact are as good as the plane [px]."""
MIN_SUPPORT = 0.005
"""A smaller share of the picture on the plane z = 0 is chance."""
AROUND_PX = 9
"""Neighbours within this window tell which of two crossing planes a pixel is on [px]."""
MIN_PLANE = 0.03
"""A plane with a smaller share of the picture is no wall and no floor."""
MAX_PLANES = 4
DRAWS = 300
SAMPLES = 6000
SPECK = 40
"""Patches of a plane with fewer pixels are chance [px]."""
CUT_PX = 1.0
"""Neighbours that the farthest view pulls apart by more than this are not one surface [px]."""
CUT_STEPS = 3.0
"""A slanted surface takes the same step on both sides: a jump is this many times the usual step."""
MIN_SEGMENT = 60
"""Smaller patches of no plane are not continued [px]."""
MAX_SEGMENTS = 24
NOTHING = -1


@dataclass(frozen=True, eq=False)
class Surfaces:
    """The surfaces that a picture shows.

    Attributes:
        inverse: Inverse depth (H, W) float64, readings on planes moved onto them [1/m].
        label: Number of the surface of each pixel (H, W) int32; ``NOTHING`` where it is too small to count.
        models: Inverse depth of each surface as (a, b, c) with a u + b v + c in pixel coordinates, (S, 3).
        limits: Least and greatest inverse depth that a surface may take where it goes on, (S, 2); unlimited for planes.
        flat: Whether a surface is a plane, (S,) bool.
        support: Number of the support's plane, or ``NOTHING``.
    """

    inverse: np.ndarray
    label: np.ndarray
    models: np.ndarray
    limits: np.ndarray
    flat: np.ndarray
    support: int


def model_at(model: np.ndarray, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Inverse depth of a plane at pixel coordinates [1/m]."""
    return model[0] * u + model[1] * v + model[2]


def centers(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Pixel coordinates u, v (H, W) of the pixels' centres."""
    u, v = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    return u, v


def find_surfaces(
    inverse: np.ndarray, camera: Camera, stretch_px_m: float, polygon_w: np.ndarray | None = None, torn: bool = True
) -> Surfaces:
    """The support, other large planes, and the patches between depth jumps that lie on none.

    Args:
        inverse: Inverse depth (H, W), above 0 everywhere [1/m].
        camera: The camera; the support is the world's plane z = 0.
        stretch_px_m: By how much the farthest view displaces a point for each unit of inverse depth [px m].
        polygon_w: Outline of the support (K, 2), convex, counter-clockwise [m], or None.
        torn: Whether depth has jumps and planes that mean something; without, all that hangs together beside the support's outline is one
            surface.
    """
    inverse = inverse.astype(np.float64)
    models: list[np.ndarray] = []
    close: list[float] = []
    label = np.full(inverse.shape, NOTHING, np.int32)
    near_support = _support_tolerance(inverse, camera, stretch_px_m)
    support, outline = NOTHING, _within_outline(camera, None if torn else polygon_w)
    if near_support is not None:
        support, close = 0, [near_support]
        models.append(support_model(camera))
        label = _label_planes(inverse, models, close)
        label[~outline] = NOTHING
    rng = np.random.default_rng(0)
    while torn and len(models) <= MAX_PLANES:
        found = _find_plane(inverse, label == NOTHING, stretch_px_m, rng)
        if found is None:
            break
        free = label == NOTHING
        twin = [i for i, m in enumerate(models) if _apart(found, m, free) * stretch_px_m < FIT_PX]
        if twin and close[twin[0]] >= FIT_PX / stretch_px_m:
            break
        if twin:  # the same plane, its readings more scattered than was thought
            close[twin[0]] = FIT_PX / stretch_px_m
        else:
            models.append(found)
            close.append(FIT_PX / stretch_px_m)
        label = _label_planes(inverse, models, close)
    u, v = centers(*inverse.shape)
    for i, model in enumerate(models):
        inverse[label == i] = model_at(model, u, v)[label == i]
    planes = len(models)
    right, down = (c & torn for c in find_cuts(inverse, label, planes, stretch_px_m))
    for patch in _patches(label, right, down):
        label[patch] = len(models)
        models.append(_fit_affine(u[patch], v[patch], inverse[patch]))
    limits = np.tile([1e-6, np.inf], (len(models), 1))
    for i in range(planes, len(models)):
        values = inverse[label == i]
        limits[i] = 0.7 * values.min(), 1.4 * values.max()
    flat = np.arange(len(models)) < planes
    return Surfaces(inverse, label, np.array(models).reshape(-1, 3), limits, flat, support)


def support_model(camera: Camera) -> np.ndarray:
    """Inverse depth of the plane z = 0 as (a, b, c), see ``model_at``; negative above its horizon."""
    R, t = camera.T_world_camera[:3, :3], camera.T_world_camera[:3, 3]
    return np.linalg.solve(camera.K_px.T, -R[2] / t[2])


def _within_outline(camera: Camera, polygon_w: np.ndarray | None) -> np.ndarray:
    """Pixels (H, W) whose rays meet the plane z = 0 in a polygon or just beside it; all where there is none."""
    if polygon_w is None or len(polygon_w) < 3:
        return np.ones((camera.height, camera.width), bool)
    u, v = (c[::OUTLINE_STEP, ::OUTLINE_STEP] for c in centers(camera.height, camera.width))
    points, ahead = _on_support(camera, u, v)
    inside = ahead & (depth_inside(polygon_w, points) > -BESIDE_M)
    return inside.repeat(OUTLINE_STEP, 0).repeat(OUTLINE_STEP, 1)[: camera.height, : camera.width]


def _on_support(camera: Camera, u: np.ndarray, v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """World x, y (..., 2) where the rays through pixel coordinates meet the plane z = 0, and whether they do."""
    inverse = model_at(support_model(camera), u, v)
    K = camera.K_px
    rays = np.stack([(u - K[0, 2]) / K[0, 0], (v - K[1, 2]) / K[1, 1], np.ones_like(u)], -1)
    points = transform(camera.T_world_camera, rays / np.maximum(inverse, 1e-6)[..., None])
    return points[..., :2], inverse > 1e-6


def _support_tolerance(inverse: np.ndarray, camera: Camera, stretch: float) -> float | None:
    """How far from the plane z = 0 readings of it may be in inverse depth [1/m], by how much they scatter; None where there are none."""
    if camera.T_world_camera[2, 3] <= 0:
        return None
    depth = 1.0 / inverse
    rays_w = pixel_rays(camera.K_px, inverse.shape[1], inverse.shape[0]) @ camera.T_world_camera[:3, :3].T
    on = np.abs(camera.T_world_camera[2, 3] + rays_w[..., 2] * depth) < PLANE_M + PLANE_SHARE * depth
    if on.sum() < MIN_SUPPORT * on.size:
        return None
    off = np.abs(model_at(support_model(camera), *centers(*inverse.shape)) - inverse)[on]
    return float(np.clip(4 * 1.48 * np.median(off), FLAT_PX / stretch, max(np.percentile(off, 99), FLAT_PX / stretch)))


def _label_planes(inverse: np.ndarray, models: list[np.ndarray], close: list[float]) -> np.ndarray:
    """Number of the plane that each pixel and its neighbours lie on best, ``NOTHING`` where that is none (H, W) int32.

    Planes cross: without the neighbours a strip of the wall would belong to the table.
    """
    import cv2

    u, v = centers(*inverse.shape)
    best, label = np.full(inverse.shape, np.inf), np.full(inverse.shape, NOTHING, np.int32)
    for i, model in enumerate(models):
        off = np.abs(model_at(model, u, v) - inverse)
        around = cv2.blur(np.minimum(off, 8 * close[i]) / close[i], (AROUND_PX, AROUND_PX))
        better = (off < close[i]) & (around < best)
        best[better], label[better] = around[better], i
    for i in range(len(models)):
        mine = label == i
        label[mine & ~_without_specks(mine)] = NOTHING
    return label


def _without_specks(mask: np.ndarray) -> np.ndarray:
    import cv2

    count, label, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=4)
    large = stats[:, cv2.CC_STAT_AREA] >= SPECK
    large[0] = False
    return large[label.astype(np.int32)] if count > 1 else np.zeros_like(mask)


def _find_plane(inverse: np.ndarray, free: np.ndarray, stretch: float, rng: np.random.Generator) -> np.ndarray | None:
    """The plane with the most of the free pixels; None where none has enough.

    Source: Fischler and Bolles (1981), random sample consensus.
    """
    rows, columns = np.nonzero(free)
    if len(rows) < MIN_PLANE * free.size:
        return None
    pick = rng.integers(len(rows), size=SAMPLES)
    points = np.stack([columns[pick] + 0.5, rows[pick] + 0.5, np.ones(SAMPLES)], 1)
    values = inverse[rows[pick], columns[pick]]
    best, most = None, 0
    for triplet in rng.integers(SAMPLES, size=(DRAWS, 3)):
        A = points[triplet]
        if abs(np.linalg.det(A)) < 1e-3 * free.size:
            continue
        model = np.linalg.solve(A, values[triplet])
        count = int((np.abs(points @ model - values) * stretch < FIT_PX).sum())
        if count > most:
            best, most = model, count
    if best is None or most / SAMPLES * len(rows) < MIN_PLANE * free.size:
        return None
    for _ in range(3):
        close = np.abs(points @ best - values) * stretch < FIT_PX
        best = np.linalg.lstsq(points[close], values[close], rcond=None)[0]
    return best


def _apart(a: np.ndarray, b: np.ndarray, where: np.ndarray) -> float:
    """Median difference of the inverse depths of two planes at a mask's pixels [1/m]."""
    rows, columns = np.nonzero(where)
    return float(np.median(np.abs(model_at(a - b, columns + 0.5, rows + 0.5))))


def find_cuts(
    inverse: np.ndarray, label: np.ndarray, planes: int, stretch_px_m: float
) -> tuple[np.ndarray, np.ndarray]:
    """Where a pixel and its right (H, W - 1) and lower neighbour (H - 1, W) are not one surface, bool.

    Two pixels are apart where the farthest view pulls them apart, unless the surface only slants or both lie on one plane.
    """
    out = []
    for axis in (1, 0):
        step = np.abs(np.diff(inverse, axis=axis)) * stretch_px_m
        pad = [(0, 0), (0, 0)]
        pad[axis] = (1, 1)
        outer = np.pad(step, pad, mode="edge")
        first, last = [slice(None)] * 2, [slice(None)] * 2
        first[axis], last[axis] = slice(0, -2), slice(2, None)
        usual = np.minimum(outer[tuple(first)], outer[tuple(last)])
        here, there = [slice(None)] * 2, [slice(None)] * 2
        here[axis], there[axis] = slice(0, -1), slice(1, None)
        a, b = label[tuple(here)], label[tuple(there)]
        same = (a == b) & (a >= 0) & (a < planes)
        out.append((step > CUT_PX) & (step > CUT_STEPS * usual) & ~same)
    return out[0], out[1]


def _patches(label: np.ndarray, right: np.ndarray, down: np.ndarray) -> list[np.ndarray]:
    """The largest connected patches of pixels without a label, not connected across cuts."""
    import cv2

    height, width = label.shape
    free = label == NOTHING
    # Every second cell of a finer raster is a pixel, the cells between are the links.
    links = np.zeros((2 * height - 1, 2 * width - 1), np.uint8)
    links[::2, ::2] = free
    links[::2, 1::2] = free[:, :-1] & free[:, 1:] & ~right
    links[1::2, ::2] = free[:-1] & free[1:] & ~down
    count, found = cv2.connectedComponents(links, connectivity=4)
    found = found[::2, ::2]
    area = np.bincount(found[free], minlength=count)
    area[0] = 0
    order = np.argsort(-area)[:MAX_SEGMENTS]
    return [found == i for i in order if area[i] >= MIN_SEGMENT]


def _fit_affine(u: np.ndarray, v: np.ndarray, values: np.ndarray) -> np.ndarray:
    """The plane (a, b, c) through inverse depths, outliers cut, its slopes a little damped."""
    thin = slice(None, None, max(1, len(u) // 2000))
    u, v, values = u[thin], v[thin], values[thin]
    middle, size = np.array([u.mean(), v.mean()]), max(float(np.std(u) + np.std(v)), 1.0)
    A = np.stack([(u - middle[0]) / size, (v - middle[1]) / size, np.ones(len(u))], 1)
    ridge = np.diag([1.0, 1.0, 0.0]) * np.sqrt(0.02 * len(u))
    weight, solution = np.ones(len(u)), np.zeros(3)
    for _ in range(6):
        root = np.sqrt(weight)
        solution = np.linalg.lstsq(
            np.vstack([A * root[:, None], ridge]), np.concatenate([values * root, np.zeros(3)]), rcond=None
        )[0]
        error = np.abs(values - A @ solution)
        weight = 1.0 / (1.0 + (error / max(3 * float(np.median(error)), 1e-9)) ** 2)
    a, b = solution[:2] / size
    return np.array([a, b, solution[2] - a * middle[0] - b * middle[1]])


# ---------------------------------------------------------------- the support's outline

OPEN_SHARE = 0.012
"""An edge of the support this close to the picture's border, as a share of its width, is not an edge but the end of the view."""
OUTLINE_M = 0.01
"""Bends of the outline smaller than this are noise [m]."""
EDGE_SHARE = 0.025
"""An edge shorter than this share of the picture's width says nothing about where the support ends."""


def support_sides(support: np.ndarray, camera: Camera, polygon_w: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Half planes n, d with n . (x, y) <= d that hold the support (K, 2), (K,): its visible edges only, it goes on beyond the picture.

    Args:
        support: Pixels of the plane z = 0 (H, W) bool.
        camera: The camera.
        polygon_w: A known outline (N, 2) [m], or None.
    """
    import cv2

    none = np.zeros((0, 2)), np.zeros(0)
    rim = support & ~erode(np.pad(support, 1), 1.5)[1:-1, 1:-1]
    if rim.sum() < 8:
        return none
    u, v = centers(*support.shape)
    depth = 1.0 / np.maximum(model_at(support_model(camera), u[rim], v[rim]), 1e-6)
    rays = pixel_rays(camera.K_px, camera.width, camera.height)[rim]
    points = transform(camera.T_world_camera, rays * depth[:, None])[:, :2]
    if polygon_w is not None:
        points = np.concatenate([points, polygon_w])
    hull = cv2.convexHull(points.astype(np.float32))
    hull = cv2.approxPolyDP(hull, OUTLINE_M, True)[:, 0].astype(np.float64)
    if len(hull) < 3:
        return none
    following = np.roll(hull, -1, axis=0)
    edge = following - hull
    normal = np.stack([edge[:, 1], -edge[:, 0]], 1) / np.maximum(np.linalg.norm(edge, axis=1, keepdims=True), 1e-9)
    if ((hull.mean(0) - hull) * normal).sum(1).mean() > 0:
        normal = -normal
    closed = np.array([_is_edge(a, b, camera) for a, b in zip(hull, following, strict=True)])
    return normal[closed], (normal * hull).sum(1)[closed]


def _is_edge(a: np.ndarray, b: np.ndarray, camera: Camera) -> bool:
    """Whether the side a-b of the support's outline lies within the picture."""
    points_w = np.concatenate([a + (b - a) * np.linspace(0, 1, 9)[:, None], np.zeros((9, 1))], 1)
    R, t = camera.T_world_camera[:3, :3], camera.T_world_camera[:3, 3]
    points_c = (points_w - t) @ R
    if points_c[:, 2].min() <= 1e-3:
        return False
    uv = (points_c @ camera.K_px.T)[:, :2] / points_c[:, 2:]
    slack = 1.5 + OPEN_SHARE * camera.width
    inside = ((uv > slack) & (uv < np.array([camera.width, camera.height]) - slack)).all(1)
    return bool(inside.mean() > 0.5 and np.linalg.norm(uv[-1] - uv[0]) > EDGE_SHARE * camera.width)


def within_sides(
    normal: np.ndarray, offset: np.ndarray, camera: Camera, u: np.ndarray, v: np.ndarray, slack_m: float = 0.0
) -> np.ndarray:
    """Whether the rays through pixel coordinates meet the plane z = 0 inside all half planes, bool of the shape of ``u``."""
    points, inside = _on_support(camera, u, v)
    for n, d in zip(normal, offset, strict=True):
        inside &= points @ n <= d + slack_m
    return inside
