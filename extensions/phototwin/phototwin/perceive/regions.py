"""Small things with binary masks (H, W): pieces, outlines, sizes. Radii are in pixels, discs are round."""

from __future__ import annotations

import numpy as np


def label(mask: np.ndarray) -> tuple[np.ndarray, int]:
    """Numbers (H, W) int32 of the 4-connected pieces, 0 = none, and how many pieces there are."""
    import cv2

    count, labels = cv2.connectedComponents(mask.astype(np.uint8), connectivity=4)
    return labels, count - 1


def main_piece(mask: np.ndarray, window: np.ndarray) -> np.ndarray:
    """The connected piece with the most window weight."""
    labels, count = label(mask)
    if not count:
        return mask
    weight = np.bincount(labels.ravel(), weights=window.ravel(), minlength=count + 1)
    weight[0] = 0
    return labels == int(np.argmax(weight))


def largest(mask: np.ndarray) -> np.ndarray:
    """The largest connected piece, its holes filled."""
    from scipy.ndimage import binary_fill_holes

    return binary_fill_holes(main_piece(mask, np.ones(mask.shape)))  # pyright: ignore[reportReturnType]


def touches_border(mask: np.ndarray) -> bool:
    """Whether a mask comes within 2 px of the edge of the picture."""
    return bool(mask[:2].any() or mask[-2:].any() or mask[:, :2].any() or mask[:, -2:].any())


def inner_radius(mask: np.ndarray) -> float:
    """Radius of the largest inscribed disc [px]."""
    import cv2

    return float(cv2.distanceTransform(np.pad(mask, 1).astype(np.uint8), cv2.DIST_L2, 5).max())


def crop_around(mask: np.ndarray, margin: float) -> tuple[slice, slice]:
    """Bounding box of a mask, widened by a share of its longer side, at least 12 px."""
    rows, columns = np.nonzero(mask.any(1))[0], np.nonzero(mask.any(0))[0]
    pad = max(12, int(margin * max(np.ptp(rows), np.ptp(columns))))
    return slice(max(rows[0] - pad, 0), rows[-1] + pad + 1), slice(max(columns[0] - pad, 0), columns[-1] + pad + 1)


def _disc(radius: int) -> np.ndarray:
    import cv2

    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))


def erode(mask: np.ndarray, radius: int) -> np.ndarray:
    """The mask without what is nearer than the radius to its outside."""
    import cv2

    return cv2.erode(mask.astype(np.uint8), _disc(radius)) > 0


def dilate(mask: np.ndarray, radius: int) -> np.ndarray:
    """The mask and what is within the radius of it."""
    import cv2

    return cv2.dilate(mask.astype(np.uint8), _disc(radius)) > 0


def open_(mask: np.ndarray, radius: int) -> np.ndarray:
    """The mask without what is thinner than the disc."""
    return dilate(erode(mask, radius), radius)


def close(mask: np.ndarray, radius: int) -> np.ndarray:
    """The mask with gaps narrower than the disc filled."""
    return erode(dilate(mask, radius), radius)


def pieces(mask: np.ndarray, min_px: float) -> list[np.ndarray]:
    """The connected pieces of at least ``min_px`` pixels, their holes filled."""
    from scipy.ndimage import binary_fill_holes, find_objects

    labels, _ = label(mask)
    out = []
    for i, where in enumerate(find_objects(labels)):
        piece = np.zeros_like(mask)
        piece[where] = binary_fill_holes(labels[where] == i + 1)
        if piece.sum() >= min_px:
            out.append(piece)
    return out


def piece_at(mask: np.ndarray, y: int, x: int) -> np.ndarray:
    """The connected piece at a pixel, holes filled; empty where the mask is empty there."""
    from scipy.ndimage import binary_fill_holes

    labels, _ = label(mask)
    if not labels[y, x]:
        return np.zeros_like(mask)
    return binary_fill_holes(labels == labels[y, x])  # pyright: ignore[reportReturnType]


def hull(mask: np.ndarray, specks_px: int = 4) -> np.ndarray:
    """Convex hull (H, W) bool of the mask without specks up to a radius."""
    import cv2

    core = open_(mask, specks_px).astype(np.uint8)
    out = np.zeros_like(core)
    if core.any():
        cv2.fillConvexPoly(out, cv2.convexHull(cv2.findNonZero(core)), 1)  # pyright: ignore
    return out > 0


def farther_than(mask: np.ndarray, reach_px: float) -> np.ndarray:
    """Pixels farther than ``reach_px`` from the mask."""
    import cv2

    return cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, 5) > reach_px
