"""How a given mesh may stand in the photo: every way it can rest, every heading, placed by the mask's borders and compared."""

from __future__ import annotations

import numpy as np

from phototwin.build.fit_solids import first_guess
from phototwin.build.fit_view import JUMP_SHARE, View
from phototwin.build.register_fit import Pose, posed
from phototwin.frames import rotation_z, transform
from phototwin.kernels.rasterize import rasterize

RESTS = 14  # ways of resting that are tried
HEADINGS = 24  # 15 deg apart: the fit that follows turns further than half of that
SAME_REST_DEG = 8.0  # ups closer than this are one
SAME_HEADING_DEG = 25.0  # of starts that are kept
SIDE_PX = 72  # pictures are compared at this size
HULL_POINTS = 160
BORDER_STEPS = 10
UNSEEN_BORDER = 0.1  # weight of a side of the mask where a nearer thing or the image ends it
DEPTH_WEIGHT, DEPTH_SHARE = 0.6, 0.12  # of the depth's disagreement, which counts up to this share of the size
NOT_RESTING_COST = 0.03  # of an axis that is up without a face to rest on
RISE = 1e-4


def search(view: View, points: np.ndarray, faces: np.ndarray) -> list[Pose]:
    """Poses, best first, that differ in how the mesh rests or by more than ``SAME_HEADING_DEG``.

    Args:
        view: The object in the photo.
        points: (V, 3), any frame; the size is about 1.
        faces: (F, 3).
    """
    hull = _hull_points(points)
    ups, costs = rests(points)
    turns = np.array([rotation_z(2 * np.pi * k / HEADINGS) @ _upright(up) for up in ups for k in range(HEADINGS)])
    poses = _place(view, hull, turns)
    small = _small(view)
    scores = np.array([_score(small, points, faces, pose) for pose in poses]) + np.repeat(costs, HEADINGS)
    kept: list[int] = []
    for i in np.argsort(scores, kind="stable"):
        gaps = [_angle_deg(turns[i] @ turns[j].T) for j in kept]
        if np.isfinite(scores[i]) and all(gap > SAME_HEADING_DEG for gap in gaps):
            kept.append(int(i))
    return [poses[i] for i in kept]


def rests(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Directions (R, 3) that can be up, and what each costs (R,): faces of the hull it can stand on, then the six axes.

    Source: a body rests on a face of its convex hull over which its centre lies; the larger the face, the likelier.
    """
    from scipy.spatial import ConvexHull

    hull = ConvexHull(points)
    corner = points[hull.simplices]
    area = 0.5 * np.linalg.norm(np.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0]), axis=1)
    centroid = (corner.mean(axis=1) * area[:, None]).sum(axis=0) / area.sum()
    ups: list[np.ndarray] = []
    weights: list[float] = []
    left = area.copy()
    for face in np.argsort(-area, kind="stable"):
        if left[face] <= 0:
            continue
        normal = hull.equations[face, :3]
        alike = (hull.equations[:, :3] @ normal > np.cos(np.radians(SAME_REST_DEG))) & (left > 0)
        mean = (hull.equations[alike, :3] * area[alike, None]).sum(axis=0)
        mean /= np.linalg.norm(mean)
        if _rests_on(corner[alike].reshape(-1, 3), mean, centroid):
            ups.append(-mean)
            weights.append(float(area[alike].sum()))
        left[alike] = 0
    best = np.argsort(-np.array(weights), kind="stable")[: RESTS - 6]
    ups = [ups[i] for i in best]
    costs = [0.0] * len(ups)
    for axis in np.concatenate([np.eye(3), -np.eye(3)]):
        if all(axis @ up < np.cos(np.radians(SAME_REST_DEG)) for up in ups):
            ups.append(axis)
            costs.append(NOT_RESTING_COST)
    return np.array(ups), np.array(costs)


def _rests_on(border: np.ndarray, normal: np.ndarray, centroid: np.ndarray) -> bool:
    """Whether the centre is over the face that points (N, 3) span."""
    import cv2

    across = _upright(normal)[:2]
    outline = cv2.convexHull((border @ across.T).astype(np.float32))
    x, y = across @ centroid
    return cv2.pointPolygonTest(outline, (float(x), float(y)), measureDist=False) >= 0


def _upright(up: np.ndarray) -> np.ndarray:
    """A rotation (3, 3) that takes ``up`` to +Z."""
    side = np.eye(3)[np.argmin(np.abs(up))]
    x = np.cross(side, up)
    x /= np.linalg.norm(x)
    return np.stack([x, np.cross(up, x), up])


def _angle_deg(R: np.ndarray) -> float:
    return float(np.degrees(np.arccos(np.clip((np.trace(R) - 1) / 2, -1, 1))))


def _hull_points(points: np.ndarray) -> np.ndarray:
    from scipy.spatial import ConvexHull

    corners = points[ConvexHull(points).vertices]
    return corners[np.linspace(0, len(corners) - 1, min(HULL_POINTS, len(corners))).astype(int)]


def _place(view: View, hull: np.ndarray, turns: np.ndarray) -> list[Pose]:
    """Place and size of every turned mesh (B, 3, 3), so that its projection has the mask's borders; all at once by Gauss-Newton."""
    v, u = np.nonzero(view.mask)
    wanted = np.array([u.min(), v.min(), u.max() + 1, v.max() + 1], dtype=np.float64)
    seen = np.concatenate([view.contour_px.min(axis=0) - 0.5, view.contour_px.max(axis=0) + 0.5])
    weight = np.where(np.abs(seen - wanted) <= 3.0, 1.0, UNSEEN_BORDER)
    turned = np.einsum("bij,nj->bni", turns, hull)
    turned[..., 2] -= turned[..., 2].min(axis=1, keepdims=True)
    center, width, height = first_guess(view)
    state = np.tile([*center, np.log(max(width, height))], (len(turns), 1))

    def borders(q: np.ndarray) -> np.ndarray:
        points_w = np.exp(q[:, 2])[:, None, None] * turned
        points_w += np.concatenate([q[:, :2], np.full((len(q), 1), view.base_z)], 1)[:, None]
        pixels = view.project(points_w)
        return np.concatenate([pixels.min(axis=1), pixels.max(axis=1)], 1)

    for _ in range(BORDER_STEPS):
        now = borders(state)
        steps = np.exp(state[:, 2])[:, None] * [RISE, RISE, 0] + [0, 0, RISE]
        J = np.stack(
            [(borders(state + steps * axis) - now) / steps[:, k : k + 1] for k, axis in enumerate(np.eye(3))], -1
        )
        size = np.exp(state[:, 2])[:, None] * [1.0, 1.0, 0.0] + [
            0.0,
            0.0,
            1.0,
        ]  # a step of 1 is one size, or a factor e
        A = J * size[:, None] * weight[:, None]
        r = (wanted - now) * weight
        normal = np.einsum("bki,bkj->bij", A, A)
        normal += np.eye(3) * (1e-3 * np.trace(normal, axis1=1, axis2=2)[:, None, None] / 3 + 1e-9)
        step = np.linalg.solve(normal, np.einsum("bki,bk->bi", A, r)[..., None])[..., 0]
        state = state + np.clip(step, -0.5, 0.5) * size
    foot = np.einsum("bij,nj->bni", turns, hull)[..., 2].min(axis=1)
    out = []
    for turn, q, low in zip(turns, state, foot, strict=True):
        scale = float(np.exp(np.clip(q[2], -12, 6)))
        out.append(Pose(turn, np.array([q[0], q[1], view.base_z - scale * low]), scale))
    return out


def _small(view: View) -> View:
    """The view with few pixels: only what ``_score`` looks at is made smaller."""
    from dataclasses import replace

    step = int(np.ceil(max(view.mask.shape) / SIDE_PX))
    K = view.K_px.copy()
    K[:2, 2] -= step // 2 + 0.5
    K[:2] /= step
    K[:2, 2] += 0.5
    part = (slice(step // 2, None, step), slice(step // 2, None, step))
    depth = None if view.depth_m is None else view.depth_m[part]
    return replace(view, K_px=K, mask=view.mask[part], depth_m=depth)


def _score(view: View, points: np.ndarray, faces: np.ndarray, pose: Pose) -> float:
    """Missing overlap, and how far the depth disagrees where both are; inf where nothing is in the picture."""
    height, width = view.mask.shape
    raster = rasterize(transform(view.T_camera_world, posed(pose, points)), faces, view.K_px, width, height)
    covered = raster.face >= 0
    both = covered & view.mask
    if not both.any():
        return np.inf
    if view.depth_m is None or not len(view.points_w):
        return 1.0 - both.sum() / (covered | view.mask).sum()
    nearer = (view.depth_m > 0) & (view.depth_m < raster.depth_m * (1 - JUMP_SHARE)) & ~view.mask
    score = 1.0 - both.sum() / ((covered & ~nearer) | view.mask).sum()
    known = both & (view.depth_m > 0)
    if not known.any():
        return float(score)
    gap = np.abs(raster.depth_m[known] - view.depth_m[known])
    return float(score + DEPTH_WEIGHT * np.mean(np.minimum(gap / (DEPTH_SHARE * pose.scale), 1.0)))
