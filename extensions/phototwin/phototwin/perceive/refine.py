"""Draw a mask found by depth along the edges of the photo."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from phototwin.perceive.clusters import Cloud

GRABCUT_ROUNDS = 3
MAX_ROI_PX = 120_000  # larger crops are cut at lower resolution: GrabCut's time grows with pixels
BAND_M = 0.012  # depth edges of stereo sensors are off by about this much
SHARP_BAND_M = 0.002  # a sensor that sees the support this smooth has no such edges: only whole pixels are in doubt
SHARP_SPREAD_M = 0.0002  # median deviation of the support; millimetre rounding alone gives half of it, stereo twice
MIN_HOLE_PX = 10
HOLE_BEHIND_M, HOLE_BEHIND_SHARE = 0.008, 0.015
"""A hole shows the support further behind its rim than this, absolutely and as a share of the distance; a flat thing's own noise does not."""
SUPPORT_BELOW_M = 0.002
CORE_SHARE = 0.6  # of the local half-width, beyond which a pixel is surely the object's
MAX_GROWTH = 3.0  # a sensor may lose both edges of a thin thing, not more
MIN_AGREEMENT = 0.6  # overlap with the mask by depth under which colour is not believed


def refine_mask(cloud: Cloud, mask: np.ndarray, others: np.ndarray) -> np.ndarray | None:
    """The mask (H, W) bool with GrabCut's outline, or None where colour does not tell the object from what is around it.

    Args:
        cloud: The organised cloud.
        mask: (H, W) bool, the object by depth.
        others: (H, W) bool, other objects by depth.
    """
    import cv2

    trimap, region = _trimap(cloud, mask, others)
    rows, columns = region
    crop = np.ascontiguousarray(cloud.rgb[rows, columns, ::-1])
    labels = trimap.copy()
    scale = min(1.0, np.sqrt(MAX_ROI_PX / labels.size))
    if scale < 1:
        size = (max(8, round(crop.shape[1] * scale)), max(8, round(crop.shape[0] * scale)))
        crop = cv2.resize(crop, size, interpolation=cv2.INTER_AREA)
        labels = cv2.resize(labels, size, interpolation=cv2.INTER_NEAREST)
    if not (labels == cv2.GC_FGD).any() or not (labels == cv2.GC_BGD).any():
        return None
    cv2.setRNGSeed(0)
    cv2.grabCut(crop, labels, (0, 0, 1, 1), np.zeros((1, 65)), np.zeros((1, 65)), GRABCUT_ROUNDS, cv2.GC_INIT_WITH_MASK)
    cut = ((labels == cv2.GC_FGD) | (labels == cv2.GC_PR_FGD)).astype(np.uint8)
    if scale < 1:
        size = (columns.stop - columns.start, rows.stop - rows.start)
        cut = (cv2.resize(cut * 255, size, interpolation=cv2.INTER_LINEAR) > 127).astype(np.uint8)
    out = np.zeros_like(mask)
    out[rows, columns] = _smooth(cut, mask[rows, columns], trimap)
    out &= ~_seen_through(cloud, out)
    agreement = (out & mask).sum() / max(1, ((out | mask) & cloud.known).sum())  # gaps in depth speak neither way
    return out if agreement >= MIN_AGREEMENT and out.sum() < MAX_GROWTH * mask.sum() else None


def _seen_through(cloud: Cloud, mask: np.ndarray) -> np.ndarray:
    """Pixels (H, W) bool within a mask where depth shows the support well behind what encloses them: the hole of a handle."""
    import cv2

    low = mask & cloud.known & (cloud.height_m < cloud.threshold_m)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(low.astype(np.uint8), connectivity=4)
    out = np.zeros_like(mask)
    for i in range(1, count):
        hole = labels == i
        ring = (cv2.dilate(hole.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0) & ~hole
        rim = ring & mask & cloud.known & ~low
        if stats[i, cv2.CC_STAT_AREA] < MIN_HOLE_PX or not mask[ring].all() or not rim.any():
            continue
        near, far = float(np.median(cloud.depth_m[rim])), float(np.median(cloud.depth_m[hole]))
        if far - near > max(HOLE_BEHIND_M, HOLE_BEHIND_SHARE * near):
            out |= hole
    return out


def _trimap(cloud: Cloud, mask: np.ndarray, others: np.ndarray) -> tuple[np.ndarray, tuple[slice, slice]]:
    """GrabCut labels uint8 of the region to cut, and that region."""
    import cv2

    depth = float(np.median(cloud.depth_m[mask & cloud.known]))
    support = cloud.known & (np.abs(np.nan_to_num(cloud.height_m, nan=np.inf)) < SUPPORT_BELOW_M)
    sharp = support.any() and float(np.median(np.abs(cloud.height_m[support]))) < SHARP_SPREAD_M
    band = max(2 if sharp else 3, round(cloud.K_px[0, 0] * (SHARP_BAND_M if sharp else BAND_M) / depth))
    hidden = max(2, int(np.ceil(2 * cloud.K_px[1, 1] * float(np.median(cloud.threshold_m[mask])) / depth)))
    margin = 2 * band + hidden
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    region = (
        slice(max(0, rows[0] - margin), min(mask.shape[0], rows[-1] + 1 + margin)),
        slice(max(0, columns[0] - margin), min(mask.shape[1], columns[-1] + 1 + margin)),
    )
    mask, others, known, height_m = mask[region], others[region], cloud.known[region], cloud.height_m[region]
    foot = mask.copy()  # the lowest millimetres of an object look like support: leave them open
    for shift in range(1, hidden + 1):
        foot[shift:] |= mask[:-shift]
    distance = cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, 3)
    flat = known & (height_m < SUPPORT_BELOW_M)
    elsewhere = known & (height_m > cloud.threshold_m[region]) & ~mask
    sure_background = ((flat & ~foot) | elsewhere) & (distance > 3)
    sure_background |= ((distance > band) & ~foot) | (others & ~mask)
    # Depth fattens thin things: what is sure is their core, half as wide as they are, or all but the band's half.
    depth_in = cv2.distanceTransform(np.pad(mask, 1).astype(np.uint8), cv2.DIST_L2, 3)[1:-1, 1:-1]
    widest = cv2.dilate(depth_in, np.ones((2 * band + 1, 2 * band + 1), np.uint8))
    inner = depth_in > np.minimum(band / 2, CORE_SHARE * widest)
    labels = np.where(mask, cv2.GC_PR_FGD, cv2.GC_PR_BGD).astype(np.uint8)
    labels[sure_background] = cv2.GC_BGD
    labels[inner] = cv2.GC_FGD
    return labels, region


def _smooth(cut: np.ndarray, mask: np.ndarray, trimap: np.ndarray) -> np.ndarray:
    """Without specks: parts that hold a piece of the mask, pinholes closed where depth does not show the support."""
    import cv2

    cut = cv2.morphologyEx(cut, cv2.MORPH_CLOSE, _disk(1))
    count, labels, stats, _ = cv2.connectedComponentsWithStats(cut, connectivity=4)
    largest = max((int(stats[i, cv2.CC_STAT_AREA]) for i in range(1, count)), default=0)
    keep = [i for i in range(1, count) if stats[i, cv2.CC_STAT_AREA] > 0.02 * largest and (mask & (labels == i)).any()]
    out = np.isin(labels, keep)
    count, labels, stats, _ = cv2.connectedComponentsWithStats((~out).astype(np.uint8), connectivity=4)
    for i in range(1, count):
        x, y, w, h, area = stats[i]
        inside = x > 0 and y > 0 and x + w < out.shape[1] and y + h < out.shape[0]
        hole = labels == i
        if inside and area < 0.05 * largest and (trimap[hole] == cv2.GC_BGD).mean() < 0.3:
            out |= hole
    return out


def _disk(radius: int) -> np.ndarray:
    import cv2

    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
