"""Small tools on masks and fields of a picture."""

from __future__ import annotations

import numpy as np


def diffuse(values: np.ndarray, known: np.ndarray, sweeps: int = 4) -> np.ndarray:
    """Values (H, W) or (H, W, C) float32 with every unknown pixel filled smoothly from the known ones; all 0 where nothing is known.

    Source: the pull-push algorithm (Gortler et al. 1996), with a few relaxation sweeps of the Laplace equation a level.
    """
    import cv2

    values = np.asarray(values, dtype=np.float32)
    flat = values if values.ndim == 3 else values[..., None]
    height, width = known.shape
    if known.all() or max(height, width) == 1:
        return np.where(known[..., None], flat, 0).reshape(values.shape)
    size = (max(1, -(-width // 2)), max(1, -(-height // 2)))
    weight = known.astype(np.float32)
    mass = cv2.resize(weight, size, interpolation=cv2.INTER_AREA)
    total = cv2.resize(flat * weight[..., None], size, interpolation=cv2.INTER_AREA).reshape(size[1], size[0], -1)
    coarse = diffuse(total / np.maximum(mass, 1e-12)[..., None], mass > 1e-9, sweeps)
    fine = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR).reshape(flat.shape)
    fine = np.where(known[..., None], flat, fine)
    for _ in range(sweeps):
        smooth = cv2.blur(fine, (3, 3), borderType=cv2.BORDER_REPLICATE).reshape(flat.shape)
        fine = np.where(known[..., None], flat, smooth)
    return fine.reshape(values.shape)


def masked_blur(values: np.ndarray, mask: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian mean (h, w, c) float32 of the values of a mask's pixels only."""
    import cv2

    weight = cv2.GaussianBlur(mask.astype(np.float32), (0, 0), sigma)
    total = cv2.GaussianBlur(np.where(mask[..., None], values, 0).astype(np.float32), (0, 0), sigma)
    return total / np.maximum(weight, 1e-6)[..., None]


def extent(mask: np.ndarray) -> int:
    """Longer side of a mask's bounding box [px]."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return int(max(np.ptp(rows), np.ptp(columns))) + 1 if len(rows) else 0


def window_of(mask: np.ndarray, reach: float, extra: int = 3) -> tuple[slice, slice]:
    """Bounding box of a mask, grown by ``reach`` of its longer side."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    grow = int(reach * max(np.ptp(rows), np.ptp(columns))) + extra
    spans = [(max(0, i[0] - grow), min(n, i[-1] + grow + 1)) for i, n in zip((rows, columns), mask.shape, strict=True)]
    return slice(*spans[0]), slice(*spans[1])


def components(mask: np.ndarray) -> list[np.ndarray]:
    """The connected parts of a mask."""
    import cv2

    count, label = cv2.connectedComponents(mask.astype(np.uint8))
    return [label == i for i in range(1, count)]


def hull_of(mask: np.ndarray) -> np.ndarray:
    """Convex hull of a mask's pixels as a mask; empty where the mask is."""
    import cv2

    out = np.zeros(mask.shape, np.uint8)
    rows = np.flatnonzero(mask.any(1))
    if len(rows):
        first, last = mask[rows].argmax(1), mask.shape[1] - 1 - mask[rows, ::-1].argmax(1)
        points = np.stack([np.concatenate([first, last]), np.concatenate([rows, rows])], -1).astype(np.int32)
        cv2.fillConvexPoly(out, cv2.convexHull(points), 1)
    return out > 0


def dilate(mask: np.ndarray, radius: float) -> np.ndarray:
    """The pixels within a radius [px] of a mask."""
    return distance_to(mask) <= radius


def erode(mask: np.ndarray, radius: float) -> np.ndarray:
    """The pixels of a mask that have no other pixel within a radius [px]."""
    return distance_to(~mask) > radius


def distance_to(mask: np.ndarray) -> np.ndarray:
    """Distance (H, W) float32 of each pixel to a mask [px]; very large everywhere where the mask is empty."""
    import cv2

    if not mask.any():
        return np.full(mask.shape, np.float32(1e9))
    return cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, 5)
