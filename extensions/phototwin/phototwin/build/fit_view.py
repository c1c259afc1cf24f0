"""What one photo says about one object: contour, points, normals, edges; and how well a mesh agrees with it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from phototwin.errors import PerceptionError
from phototwin.frames import invert, pixel_rays, project, transform

CONTOUR_POINTS = 160
FIT_POINTS = 1200
LOW_M = 0.004  # points this close to the support belong to it
JUMP_SHARE = 0.02  # depth steps over 2 % of the distance are edges: readings there are mixtures
NORMAL_NEIGHBOURS = 30
BEHIND_M = 0.005
MOSTLY = 0.5  # of an object's columns must end above the same thing for it to stand on that
RESTS_M = 0.015  # between the top of the one and the lowest points of the other
MIN_POINTS = 60
WEAK_EDGE = 24.0  # 3 grey levels a pixel (a Sobel filter sums 8 of them): less is shading, not an edge
DARK_LEVEL = 5.0  # grey levels added before the logarithm: black is noise
SILHOUETTE_PX = 400  # smaller crops are drawn finer, so that the overlap of a 30 px cube means something


@dataclass(frozen=True, eq=False)
class View:
    """One object as the camera sees it.

    Attributes:
        K_px: (3, 3) [px].
        T_camera_world: (4, 4) [m].
        camera_w: Camera centre (3,) [m].
        mask: (H, W) bool.
        depth_m: (H, W) float32, 0 unknown, or None.
        hiding: (H, W) bool, pixels of other things that are not clearly behind this one: it may go on behind them.
        contour_px: Outer border (N, 2), through the centres of its pixels, where the object's own silhouette is seen [px].
        body_contour: (N,) bool, the part that stays when thin appendages are opened away.
        px_m: Size of a pixel at the object [m].
        foot_w: Point of the support under the nearest visible low end (3,) [m].
        ahead_w: Horizontal unit vector from the camera to the object (3,).
        base_z: Height of what the object stands on [m].
        points_w: Measured points on the object (P, 3), or (0, 3) [m].
        normals_w: Their unit normals, towards the camera (P, 3).
        edge: (H, W, 2) float32 gradient along x and y, 1 = a strong edge; None where no colour was given.
        tone: (H, W, 1) logarithm of the calmed brightness; None where no colour was given.
    """

    K_px: np.ndarray
    T_camera_world: np.ndarray
    camera_w: np.ndarray
    mask: np.ndarray
    depth_m: np.ndarray | None
    hiding: np.ndarray
    contour_px: np.ndarray
    body_contour: np.ndarray
    px_m: float
    foot_w: np.ndarray
    ahead_w: np.ndarray
    base_z: float
    points_w: np.ndarray
    normals_w: np.ndarray
    edge: np.ndarray | None
    tone: np.ndarray | None

    def project(self, points_w: np.ndarray) -> np.ndarray:
        """Pixels (..., 2) of world points (..., 3); points behind the camera land far outside."""
        points_c = transform(self.T_camera_world, points_w)
        points_c[..., 2] = np.maximum(points_c[..., 2], 1e-3)
        return project(self.K_px, points_c)


def make_view(
    mask: np.ndarray,
    K_px: np.ndarray,
    T_world_camera: np.ndarray,
    depth_m: np.ndarray | None,
    rgb: np.ndarray | None,
    others: np.ndarray | None = None,
) -> View:
    """The evidence of one mask; ``others`` (H, W) int32 are the ids of other objects, 0 where there is none.

    Raises:
        PerceptionError: The mask is too small, or its foot does not meet the support in front of the camera.
    """
    if mask.sum() < 40:
        raise PerceptionError(
            f"An object's mask has only {int(mask.sum())} pixels; at least 40 are needed to fit a shape."
        )
    mask = _largest_part(mask)
    camera_w = T_world_camera[:3, 3]
    foot_w, ahead_w = _foot(mask, K_px, T_world_camera)
    points_w, normals_w, base_z = np.zeros((0, 3)), np.zeros((0, 3)), 0.0
    if depth_m is not None:
        points_w, normals_w = _measured_points(mask, depth_m, K_px, T_world_camera)
        base_z = _base_height(mask, depth_m, K_px, T_world_camera, points_w)
        if others is not None and len(points_w) >= MIN_POINTS:
            base_z = _top_beneath(mask, others, depth_m, K_px, T_world_camera, points_w, base_z)
        standing = points_w[:, 2] > base_z + LOW_M
        points_w, normals_w = points_w[standing], normals_w[standing]
    center_w = np.median(points_w, axis=0) if len(points_w) >= MIN_POINTS else foot_w
    distance = transform(invert(T_world_camera), center_w)[2]
    hiding = np.zeros_like(mask) if others is None else _hiding(mask, others, depth_m)
    contour, body = _contour(mask, depth_m, hiding)
    return View(
        K_px=K_px,
        T_camera_world=invert(T_world_camera),
        camera_w=camera_w,
        mask=mask,
        depth_m=depth_m,
        hiding=hiding,
        contour_px=contour,
        body_contour=body,
        px_m=float(distance / np.sqrt(K_px[0, 0] * K_px[1, 1])),
        foot_w=foot_w,
        ahead_w=ahead_w,
        base_z=base_z,
        points_w=points_w,
        normals_w=normals_w,
        edge=None if rgb is None else _edges(rgb, mask),
        tone=None if rgb is None else _tone(rgb),
    )


def _largest_part(mask: np.ndarray) -> np.ndarray:
    import cv2

    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    if count <= 2:
        return mask
    area = stats[1:, cv2.CC_STAT_AREA]
    return np.isin(labels, 1 + np.flatnonzero(area >= 0.15 * area.max()))


def _foot(mask: np.ndarray, K_px: np.ndarray, T_world_camera: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where the ray of the mask's lowest pixel meets the support, and the horizontal direction of looking."""
    v, u = np.nonzero(mask)
    rays_c = np.stack([(u + 0.5 - K_px[0, 2]) / K_px[0, 0], (v + 0.5 - K_px[1, 2]) / K_px[1, 1], np.ones(len(u))], -1)
    rays_w = rays_c @ T_world_camera[:3, :3].T
    down = rays_w[:, 2] / np.linalg.norm(rays_w, axis=1)
    height = T_world_camera[2, 3]
    low = down <= np.partition(down, min(len(down) - 1, 4))[min(len(down) - 1, 4)]
    ray = rays_w[low].mean(axis=0)
    if height <= 0 or ray[2] >= -1e-3:
        raise PerceptionError(
            "An object's lowest pixel does not look down at the support, so its place is unknown; "
            "check the camera's pose or give depth."
        )
    foot = T_world_camera[:3, 3] + ray * (-height / ray[2])
    ahead = rays_w.mean(axis=0) * [1, 1, 0]
    length = np.linalg.norm(ahead)
    if length < 0.05 * np.linalg.norm(rays_w.mean(axis=0)):  # seen from straight above: image up is ahead
        ahead = -T_world_camera[:3, 1] * [1, 1, 0]
        length = np.linalg.norm(ahead)
    return foot, ahead / length


def _measured_points(
    mask: np.ndarray, depth_m: np.ndarray, K_px: np.ndarray, T_world_camera: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Up to ``FIT_POINTS`` points on the object and their normals; depth edges and far strays are dropped."""
    import cv2
    from scipy.spatial import cKDTree

    known = mask & (depth_m > 0)
    near = np.where(depth_m > 0, depth_m, np.inf).astype(np.float32)
    far = np.where(depth_m > 0, depth_m, 0).astype(np.float32)
    kernel = np.ones((3, 3), dtype=np.uint8)
    step = cv2.dilate(far, kernel) - cv2.erode(near, kernel)
    inner = cv2.erode(mask.astype(np.uint8), kernel) > 0
    good = known & (step < JUMP_SHARE * np.maximum(depth_m, 0.1)) & (inner if (inner & known).sum() > 200 else mask)
    good = _near_parts(good, depth_m)
    v, u = np.nonzero(good)
    if len(v) < MIN_POINTS:
        return np.zeros((0, 3)), np.zeros((0, 3))
    height, width = mask.shape
    rays = pixel_rays(K_px, width, height)[v, u]
    points = transform(T_world_camera, rays * depth_m[v, u, None].astype(np.float64))
    rng = np.random.default_rng(0)
    dense = points if len(points) <= 12000 else points[rng.choice(len(points), 12000, replace=False)]
    chosen = dense if len(dense) <= FIT_POINTS else dense[rng.choice(len(dense), FIT_POINTS, replace=False)]
    count = int(np.clip(len(dense) // 40, 12, NORMAL_NEIGHBOURS))
    neighbours = dense[cKDTree(dense).query(chosen, k=count)[1]]
    offset = neighbours - neighbours.mean(axis=1, keepdims=True)
    normals = np.linalg.eigh(np.einsum("nki,nkj->nij", offset, offset))[1][:, :, 0]
    away = np.einsum("ij,ij->i", normals, T_world_camera[:3, 3] - chosen) < 0
    normals[away] *= -1
    return chosen, normals


def _near_parts(good: np.ndarray, depth_m: np.ndarray) -> np.ndarray:
    """Drop parts far in front of or behind the main one: what a sloppy mask caught of other things."""
    import cv2

    count, labels, stats, _ = cv2.connectedComponentsWithStats(good.astype(np.uint8), connectivity=4)
    if count <= 2:
        return good
    main = 1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA]))
    middle = float(np.median(depth_m[labels == main]))
    width, height = stats[main, cv2.CC_STAT_WIDTH], stats[main, cv2.CC_STAT_HEIGHT]
    reach = 1.2 * middle * np.hypot(width, height) / good.shape[1]  # about the object's own size for usual lenses
    keep = np.zeros(count, dtype=bool)
    for i in range(1, count):
        gap = abs(float(np.median(depth_m[labels == i])) - middle)
        keep[i] = stats[i, cv2.CC_STAT_AREA] >= 12 and gap < max(reach, 0.03)
    return keep[np.asarray(labels, dtype=np.int64)]


def _base_height(
    mask: np.ndarray, depth_m: np.ndarray, K_px: np.ndarray, T_world_camera: np.ndarray, points_w: np.ndarray
) -> float:
    """Height of what the object stands on: 0 unless its lowest points and the surface seen below them are both higher."""
    if len(points_w) < MIN_POINTS:
        return 0.0
    low, high = np.percentile(points_w[:, 2], [1.0, 99.0])
    if low < max(0.012, 0.12 * high):
        return 0.0
    height, width = mask.shape
    v, u = np.nonzero(mask)
    bottom = np.full(width, -1)
    np.maximum.at(bottom, u, v)
    columns = np.flatnonzero(bottom >= 0)
    rays = pixel_rays(K_px, width, height)
    seen = []
    for gap in (4, 6, 8):
        rows = bottom[columns] + gap
        inside = rows < height
        r, c = rows[inside], columns[inside]
        z = depth_m[r, c].astype(np.float64)
        own = depth_m[bottom[c], c]
        beside = (z > 0) & (z > own - 0.02)  # nearer things hide the foot and say nothing
        points = transform(T_world_camera, rays[r, c] * z[:, None])[beside]
        seen.append(points[:, 2])
    under = np.concatenate(seen)
    if len(under) < 8 or np.percentile(under, 30) < 0.008:
        return 0.0
    return float(np.clip(np.percentile(under, 30), 0.0, low))


def _top_beneath(
    mask: np.ndarray,
    others: np.ndarray,
    depth_m: np.ndarray,
    K_px: np.ndarray,
    T_world_camera: np.ndarray,
    points_w: np.ndarray,
    base_z: float,
) -> float:
    """Height of the top of the object that this one stands on, else ``base_z``: it is seen below most of it and no higher than its foot."""
    height, width = mask.shape
    columns = np.flatnonzero(mask.any(0))
    bottom = height - 1 - mask[::-1, columns].argmax(0)
    below = others[np.minimum(bottom + 3, height - 1), columns]
    ids, counts = np.unique(below[below > 0], return_counts=True)
    low = float(np.percentile(points_w[:, 2], 2.0))
    if not len(ids) or counts.max() < MOSTLY * len(columns):
        return base_z
    part = (others == ids[counts.argmax()]) & (depth_m > 0)
    rays = pixel_rays(K_px, width, height)[part]
    if len(rays) < MIN_POINTS:
        return base_z
    top = float(np.percentile(transform(T_world_camera, rays * depth_m[part, None].astype(np.float64))[:, 2], 98.0))
    return min(top, low) if abs(top - low) < RESTS_M else base_z


def _hiding(mask: np.ndarray, others: np.ndarray, depth_m: np.ndarray | None) -> np.ndarray:
    """Pixels (H, W) of others that may hide this object: those it touches in the photo, but for what is clearly behind it.

    With depth, clearly behind is further away where the two meet: what stands on it or against it is not. Without depth, what
    reaches further down in the photo stands nearer and hides it.
    """
    import cv2

    kernel = np.ones((7, 7), dtype=np.uint8)
    lowest = int(np.nonzero(mask.any(1))[0].max())
    out = np.zeros_like(mask)
    for other in np.unique(others[others > 0]):
        part = others == other
        meets = part & (cv2.dilate(mask.astype(np.uint8), kernel) > 0)
        if not meets.any():
            continue
        if depth_m is None:
            out |= part if int(np.nonzero(part.any(1))[0].max()) > lowest else False
            continue
        own = cv2.dilate(np.where(mask & (depth_m > 0), depth_m, 0).astype(np.float32), kernel)
        known = meets & (depth_m > 0) & (own > 0)
        behind = depth_m[known] > own[known] * (1 + JUMP_SHARE) + BEHIND_M
        if not len(behind) or behind.mean() < 0.5:
            out |= part
    return out


def _contour(mask: np.ndarray, depth_m: np.ndarray | None, hiding: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Evenly spaced border points (N, 2), without those at the image's border or behind something nearer."""
    import cv2

    height, width = mask.shape
    contours = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)[0]
    points = np.concatenate([c[:, 0, :] for c in contours if len(c) >= 8]).astype(np.int64)
    inside = (points > 1).all(axis=1) & (points[:, 0] < width - 2) & (points[:, 1] < height - 2)
    if depth_m is not None:
        inside &= ~_hidden(points, mask, depth_m)
    inside &= cv2.dilate(hiding.astype(np.uint8), np.ones((7, 7), np.uint8))[points[:, 1], points[:, 0]] == 0
    if inside.sum() >= 12:
        points = points[inside]
    points = points[np.linspace(0, len(points) - 1, min(CONTOUR_POINTS, len(points))).astype(int)]
    side = np.sqrt(mask.sum())
    size = max(3, 2 * round(0.16 * side) + 1)
    padded = cv2.copyMakeBorder(mask.astype(np.uint8), size, size, size, size, cv2.BORDER_CONSTANT)
    opened = cv2.morphologyEx(padded, cv2.MORPH_OPEN, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size)))
    opened = opened[size:-size, size:-size]
    gap = cv2.distanceTransform((1 - opened).astype(np.uint8), cv2.DIST_L2, 3)
    body = gap[points[:, 1], points[:, 0]] <= max(2.0, 0.02 * side)
    if opened.sum() < 0.6 * mask.sum():
        body[:] = True
    return points + 0.5, body


def _hidden(points: np.ndarray, mask: np.ndarray, depth_m: np.ndarray) -> np.ndarray:
    """Border points (N, 2) beside something nearer: that border is not the object's own."""
    import cv2

    own = np.where(mask & (depth_m > 0), depth_m, 0).astype(np.float32)
    other = np.where(~mask & (depth_m > 0), depth_m, np.inf).astype(np.float32)
    kernel = np.ones((7, 7), dtype=np.uint8)
    nearest_other, farthest_own = cv2.erode(other, kernel), cv2.dilate(own, kernel)
    u, v = points.T
    return (farthest_own[v, u] > 0) & (nearest_other[v, u] < farthest_own[v, u] * (1 - JUMP_SHARE) - 0.005)


def _edges(rgb: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Gradient (H, W, 2) of the blurred photo, the strongest colour channel, scaled so that 1 is a strong inner edge."""
    import cv2

    blurred = cv2.GaussianBlur(rgb, (0, 0), 1.3).astype(np.float32)
    gradient = np.stack([cv2.Sobel(blurred, cv2.CV_32F, 1, 0), cv2.Sobel(blurred, cv2.CV_32F, 0, 1)], -1)
    strength = np.linalg.norm(gradient, axis=-1)
    best = np.argmax(strength, axis=-1)
    chosen = np.take_along_axis(gradient, best[..., None, None], axis=2)[:, :, 0]
    inner = cv2.erode(mask.astype(np.uint8), np.ones((5, 5), dtype=np.uint8)) > 0
    inside = strength.max(axis=-1)[inner if inner.sum() > 30 else mask]
    return chosen / max(float(np.percentile(inside, 92)), WEAK_EDGE)


def _tone(rgb: np.ndarray) -> np.ndarray:
    """Logarithm of the calmed brightness (H, W, 1): ratios of light, whatever the colour."""
    import cv2

    grey = cv2.GaussianBlur(rgb, (0, 0), 1.0).astype(np.float64).mean(axis=-1, keepdims=True)
    return np.log(grey + DARK_LEVEL)


def polygon_distance(points: np.ndarray, polygon: np.ndarray) -> np.ndarray:
    """Signed distance (N,) of points (N, 2) to a convex polygon (M, 2): negative inside, the largest over its edge lines."""
    ahead = np.concatenate([polygon[1:], polygon[:1]])
    edge = ahead - polygon
    if np.sum(polygon[:, 0] * ahead[:, 1] - polygon[:, 1] * ahead[:, 0]) < 0:
        edge = -edge
    length = np.hypot(edge[:, 0], edge[:, 1])
    real = length > 1e-9
    normal = np.stack([edge[real, 1], -edge[real, 0]], -1) / length[real, None]
    offset = np.einsum("ij,ij->i", normal, polygon[real])
    return (points @ normal.T - offset).max(axis=1)


def convex_outline(points_px: np.ndarray) -> np.ndarray:
    """Convex hull (M, 2) of pixels (N, 2)."""
    import cv2

    kept = np.asarray(cv2.convexHull(points_px.astype(np.float32), returnPoints=False), dtype=np.int64)[:, 0]
    return points_px[kept]  # in double precision: the fits differentiate numerically


def silhouette(view: View, points_w: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """The pixels (H, W) bool of which a closed world mesh covers at least half."""
    import cv2

    height, width = view.mask.shape
    fine = int(
        np.clip(np.ceil(SILHOUETTE_PX / max(height, width)), 1, 8)
    )  # cv2 draws borders half a fine pixel too wide
    pixels = view.project(points_w)
    a, b, c = (pixels[faces[:, i]] for i in range(3))
    area = (b[:, 0] - a[:, 0]) * (c[:, 1] - a[:, 1]) - (b[:, 1] - a[:, 1]) * (c[:, 0] - a[:, 0])
    image = np.zeros((height * fine, width * fine), dtype=np.uint8)
    corners = np.clip(np.stack([a, b, c], 1) * fine - 0.5, -1e4, 2e4)  # cv2 puts pixel centres at integers
    one_side = area > 1e-4 if (area > 0).sum() < (area < 0).sum() else area < -1e-4
    for triangle in np.round(corners[one_side] * 16).astype(np.int32):  # a closed surface's either side covers it all
        cv2.fillConvexPoly(image, triangle, 1, cv2.LINE_8, 4)
    if fine == 1:
        return image > 0
    return image.reshape(height, fine, width, fine).mean(axis=(1, 3)) > 0.5


def overlap(view: View, points_w: np.ndarray, faces: np.ndarray) -> float:
    """Intersection over union of a mesh's silhouette and the mask; pixels hidden by nearer things do not count."""
    covered = silhouette(view, points_w, faces)
    counted = np.ones_like(covered)
    if view.depth_m is not None and len(view.points_w):
        distance = transform(view.T_camera_world, view.points_w)[:, 2]
        counted = view.mask | (view.depth_m <= 0) | (view.depth_m > distance.min() * (1 - JUMP_SHARE))
    counted &= view.mask | ~view.hiding
    union = ((covered | view.mask) & counted).sum()
    return float((covered & view.mask).sum() / max(union, 1))
