"""The holes that objects leave in a photo when they are taken out: body, rim and shadow of each."""

from __future__ import annotations

import numpy as np

from phototwin.build.fields import dilate, distance_to, extent, hull_of
from phototwin.build.shadow import MIN_RIM_PX, RIM_SHARE, find_shadow

FADE_SHARE, MIN_FADE_PX = 0.04, 2
"""Over this share of the object's size a filled hole fades into the photo, and at least [px]."""
SHADOW_PX = 800
"""Shadows are looked for in a picture of at most this width: they are smooth."""


def find_holes(rgb: np.ndarray, masks: np.ndarray, support_mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For which object each pixel of the photo is to be replaced, (H, W) uint8, and how much of what replaces it shows, (H, W) float32.

    The first holds i + 1 where the body, the rim or the shadow of object i is and in a border around, 0 elsewhere. The second is 1 on
    bodies, rims and shadows and falls to 0 over the border. So photo and cleared picture together say how each shadow darkens the support.

    Args:
        rgb: Photo (H, W, 3) uint8.
        masks: Objects (N, H, W) bool.
        support_mask: Pixels that show the surface (H, W) bool.
    """
    owner, bodies, core = (
        np.zeros(rgb.shape[:2], np.uint8),
        np.zeros(rgb.shape[:2], bool),
        np.zeros(rgb.shape[:2], bool),
    )
    rims = [dilate(mask, max(MIN_RIM_PX, round(RIM_SHARE * extent(mask)))) for mask in masks]
    for rim in rims:
        bodies |= rim
    if not bodies.any():
        return owner, np.zeros(owner.shape, np.float32)
    surface = hull_of(support_mask) if support_mask.any() else np.ones_like(bodies)
    for i, shade in enumerate(_shadows(rgb, masks, bodies, surface)):
        whole = rims[i] | shade
        core |= whole
        owner[dilate(whole, max(MIN_FADE_PX, round(FADE_SHARE * extent(masks[i])))) & (owner == 0)] = i + 1
    for grown in (rims, masks):  # what is nearer decides
        for i, region in enumerate(grown):
            owner[region] = i + 1
    return owner, _share_of(owner > 0, core)


def nearest_owner(changed: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """For which object each changed pixel was changed, when nobody says: the nearest one, i + 1, and 0 where nothing changed, (H, W) uint8.

    Args:
        changed: Pixels in which photo and background differ (H, W) bool.
        masks: Objects (N, H, W) bool.
    """
    away = np.stack([distance_to(mask) for mask in masks])
    return np.where(changed, away.argmin(0) + 1, 0).astype(np.uint8)


def _shadows(rgb: np.ndarray, masks: np.ndarray, bodies: np.ndarray, surface: np.ndarray) -> list[np.ndarray]:
    """The shadow of each object, (H, W) bool."""
    import cv2

    height, width = rgb.shape[:2]
    scale = -(-width // SHADOW_PX)
    if scale == 1:
        return [find_shadow(rgb, mask, bodies, surface) for mask in masks]
    size = (-(-width // scale), -(-height // scale))

    def shrink(mask: np.ndarray) -> np.ndarray:
        return cv2.resize(mask.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST) > 0

    small, bodies, surface = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA), shrink(bodies), shrink(surface)
    found = [find_shadow(small, shrink(mask), bodies, surface).astype(np.float32) for mask in masks]
    return [cv2.resize(shade, (width, height), interpolation=cv2.INTER_LINEAR) > 0.5 for shade in found]


def _share_of(hole: np.ndarray, core: np.ndarray) -> np.ndarray:
    outer, inner = distance_to(~hole), distance_to(core)
    return np.where(hole, outer / np.maximum(outer + inner, 1e-6), 0).astype(np.float32)
