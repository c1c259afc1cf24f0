"""Distances between what was reconstructed and what is true: pictures, outlines, meshes and lengths, as plain numbers."""

from __future__ import annotations

import numpy as np

from phototwin.build.shapes import mesh_volume
from phototwin.scene import ConvexPiece

SSIM_SIGMA_PX = 1.5
"""Source: Wang et al. (2004), section III-C, with its constants 0.01 and 0.03."""
CONTRAST_SIGMA_PX = 4.0
"""Detail finer than this is texture, coarser is light."""
ONE_SIGMA = (15.87, 84.13)
"""Percentiles one standard deviation to both sides of the middle of a normal distribution."""
SAMPLES_A_SIDE = 72
"""Cells a side of the grid that volumes are sampled on; one random point a cell."""


def psnr(a_rgb: np.ndarray, b_rgb: np.ndarray, where: np.ndarray | None = None) -> float:
    """Peak signal-to-noise ratio of two pictures (H, W, 3) uint8 on the pixels of a mask [dB]; inf where they agree, NaN without a pixel."""
    error = (a_rgb.astype(np.float64) - b_rgb.astype(np.float64)) ** 2
    error = error if where is None else error[where]
    if not error.size:
        return float("nan")
    return float(10 * np.log10(255**2 / error.mean())) if error.any() else float("inf")


def ssim(a_rgb: np.ndarray, b_rgb: np.ndarray, where: np.ndarray | None = None) -> float:
    """Mean structural similarity of the luminance of two pictures (H, W, 3) uint8 on the pixels of a mask, -1..1.

    Source: Wang et al. (2004), equation 13, Gaussian windows.
    """
    from scipy.ndimage import gaussian_filter

    a, b = luminance(a_rgb), luminance(b_rgb)

    def smooth(image: np.ndarray) -> np.ndarray:
        return gaussian_filter(image, SSIM_SIGMA_PX, truncate=3.5)

    mean_a, mean_b = smooth(a), smooth(b)
    var_a, var_b = smooth(a * a) - mean_a**2, smooth(b * b) - mean_b**2
    cov = smooth(a * b) - mean_a * mean_b
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    value = (2 * mean_a * mean_b + c1) * (2 * cov + c2) / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))
    return float(value.mean() if where is None else value[where].mean())


def luminance(rgb: np.ndarray) -> np.ndarray:
    """Luma (H, W) float64 in 0..255 of (H, W, 3) uint8. Source: ITU-R BT.601."""
    return rgb.astype(np.float64) @ np.array([0.299, 0.587, 0.114])


def texture_contrast(rgb: np.ndarray, where: np.ndarray) -> float:
    """Spread of the luminance's fine detail on the pixels of a mask (H, W): a standard deviation, but few strong edges do not count.

    What lies outside the mask does not bleed in.
    """
    from scipy.ndimage import gaussian_filter

    if not where.any():
        return float("nan")
    light, weight = luminance(rgb), where.astype(np.float64)
    share = gaussian_filter(weight, CONTRAST_SIGMA_PX)
    coarse = gaussian_filter(light * weight, CONTRAST_SIGMA_PX) / np.maximum(share, 1e-9)
    low, high = np.percentile((light - coarse)[where], ONE_SIGMA)
    return float(high - low) / 2


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    """Intersection over union of two masks, 0 where both are empty."""
    union = np.logical_or(a, b).sum()
    return float(np.logical_and(a, b).sum() / union) if union else 0.0


def bounding_box(mask: np.ndarray) -> tuple[int, int, int, int]:
    """x_min, y_min, x_max, y_max [px] of a mask that is not empty; the maxima lie just outside."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def box_mask(mask: np.ndarray) -> np.ndarray:
    """The bounding box of a mask, filled, (H, W) bool."""
    x0, y0, x1, y1 = bounding_box(mask)
    out = np.zeros_like(mask, dtype=bool)
    out[y0:y1, x0:x1] = True
    return out


def inner_point(mask: np.ndarray) -> tuple[float, float]:
    """x, y [px] of the centre of the pixel deepest inside a mask."""
    from scipy.ndimage import distance_transform_edt

    depth = np.asarray(distance_transform_edt(np.pad(mask, 1)))[1:-1, 1:-1]
    row, column = np.unravel_index(int(depth.argmax()), depth.shape)
    return float(column) + 0.5, float(row) + 0.5


def f_score(points: np.ndarray, truth: np.ndarray, reach_m: float) -> float:
    """Harmonic mean of the shares of two clouds (N, 3), (M, 3) that lie within ``reach_m`` of the other, 0..1.

    Source: Knapitsch et al. (2017), section 4.
    """
    from scipy.spatial import cKDTree

    precision = float((cKDTree(truth).query(points)[0] <= reach_m).mean())
    recall = float((cKDTree(points).query(truth)[0] <= reach_m).mean())
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def sample_surface(points: np.ndarray, faces: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Points (count, 3) evenly spread over a triangle mesh."""
    corners = points[faces].astype(np.float64)
    area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    owner = rng.choice(len(faces), count, p=area / area.sum())
    u, v = rng.random((2, count, 1))
    flip = u + v > 1
    u, v = np.where(flip, 1 - u, u), np.where(flip, 1 - v, v)
    a, b, c = (corners[owner, k] for k in range(3))
    return a + u * (b - a) + v * (c - a)


def union_volume(pieces: tuple[ConvexPiece, ...], rng: np.random.Generator) -> float:
    """Volume [m^3] of the union of convex pieces, by one random point in each cell of a grid over their bounding box."""
    if not pieces:
        return 0.0
    corners = np.concatenate([piece.points for piece in pieces]).astype(np.float64)
    low, high = corners.min(0), corners.max(0)
    cells = np.stack(np.meshgrid(*[np.arange(SAMPLES_A_SIDE)] * 3, indexing="ij"), -1).reshape(-1, 3)
    points = low + (cells + rng.random(cells.shape)) / SAMPLES_A_SIDE * (high - low)
    return float(np.prod(high - low) * inside_pieces(pieces, points).mean())


def inside_pieces(pieces: tuple[ConvexPiece, ...], points: np.ndarray) -> np.ndarray:
    """Which points (N, 3) lie in the convex hull of at least one piece, (N,) bool."""
    from scipy.spatial import ConvexHull

    inside = np.zeros(len(points), bool)
    for piece in pieces:
        corners = piece.points.astype(np.float64)
        near = np.flatnonzero(((points >= corners.min(0)) & (points <= corners.max(0))).all(1) & ~inside)
        planes = ConvexHull(corners).equations
        inside[near] = (points[near] @ planes[:, :3].T + planes[:, 3] <= 1e-9).all(1)
    return inside


def inside_mesh(points: np.ndarray, faces: np.ndarray, point: np.ndarray) -> bool:
    """Whether a point (3,) lies inside a closed mesh: its faces fill more than half of the sphere around the point.

    Source: Van Oosterom and Strackee (1983), the solid angle of a triangle.
    """
    a, b, c = (points[faces[:, k]].astype(np.float64) - point for k in range(3))
    na, nb, nc = (np.linalg.norm(v, axis=1) for v in (a, b, c))
    triple = np.einsum("ij,ij->i", a, np.cross(b, c))
    rest = na * nb * nc + (a * b).sum(1) * nc + (b * c).sum(1) * na + (c * a).sum(1) * nb
    return bool(abs(2 * np.arctan2(triple, rest).sum()) > 2 * np.pi)


def emptiest_point(cloud: np.ndarray, low: float = 0.4, high: float = 0.8) -> np.ndarray:
    """The point (3,) of the convex hull of an upright vessel's cloud (N, 3), between two shares of its height, farthest from the cloud: in its cavity."""
    from scipy.spatial import ConvexHull, cKDTree

    floor, top = cloud[:, 2].min(), cloud[:, 2].max()
    axes = [np.linspace(cloud[:, k].min(), cloud[:, k].max(), 24) for k in (0, 1)]
    axes.append(floor + np.linspace(low, high, 5) * (top - floor))
    points = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3)
    planes = ConvexHull(cloud).equations
    points = points[(points @ planes[:, :3].T + planes[:, 3] <= 0).all(1)]
    return points[np.argmax(cKDTree(cloud).query(points)[0])]


def widest_m(points: np.ndarray) -> float:
    """Largest horizontal extent of points (N, 3) in any direction [m]."""
    angles = np.radians(np.arange(180))
    across = points[:, :2] @ np.stack([np.cos(angles), np.sin(angles)])
    return float(np.ptp(across, axis=0).max())


def upright_box(points_w: np.ndarray, foot_z: float | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Corners (8, 3) and faces (12, 3), outward, of the smallest upright box around points (N, 3), from ``foot_z`` up if given: the simplest baseline."""
    angles = np.radians(np.arange(90))
    axes = np.stack([np.cos(angles), np.sin(angles), -np.sin(angles), np.cos(angles)], -1).reshape(-1, 2, 2)
    along = points_w[:, :2] @ axes.transpose(0, 2, 1)
    best = int(np.ptp(along, axis=1).prod(-1).argmin())
    low, high, top = along[best].min(0), along[best].max(0), points_w[:, 2].max()
    foot_z = points_w[:, 2].min() if foot_z is None else foot_z
    flat = np.array([[low[0], low[1]], [high[0], low[1]], [high[0], high[1]], [low[0], high[1]]]) @ axes[best]
    corners = np.array([[x, y, z] for z in (foot_z, top) for x, y in flat])
    walls = [(k, (k + 1) % 4, (k + 1) % 4 + 4, k + 4) for k in range(4)]
    quads = [(3, 2, 1, 0), (4, 5, 6, 7), *walls]
    return corners, np.array([f for a, b, c, d in quads for f in ((a, b, c), (a, c, d))])


def box_sides(corners: np.ndarray) -> np.ndarray:
    """Sides (3,) of an ``upright_box`` [m]: longer, shorter, height."""
    x, y = (float(np.linalg.norm(corners[k] - corners[0])) for k in (1, 3))
    return np.array([max(x, y), min(x, y), corners[4, 2] - corners[0, 2]])


def volume_error(points: np.ndarray, faces: np.ndarray, pieces: tuple[ConvexPiece, ...], seed: int) -> float:
    """By how many percent the union of the convex pieces differs from the volume of the mesh."""
    volume = abs(mesh_volume(points.astype(np.float64), faces))
    return 100 * abs(union_volume(pieces, np.random.default_rng(seed)) / volume - 1) if volume else float("nan")
