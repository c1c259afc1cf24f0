"""The shadows that objects cast on the surface they stand on."""

from __future__ import annotations

import numpy as np

from phototwin.build.fields import dilate, distance_to, erode, masked_blur, window_of

RIM_SHARE, MIN_RIM_PX = 0.02, 3
"""How far around a mask the object's colour may still reach, as a share of its size, and at least [px]."""
SHADOW_REACH = 1.4
"""Shadows are looked for within this many object sizes."""
FAR, PATCHY_PERCENT = 0.8, 95
"""Beyond so many object sizes the surface shows itself; so many per cent of it there are less dark than what may count as shade."""
SHADOW_CORE, SHADOW_EDGE = 0.10, 0.04
"""How much darker (natural logarithm) than the surface a shadow's core is, and where its soft edge is taken to end."""
SHADOW_FADES = (0.33, 0.6, 1.0, 1.6)
"""What is one object size away must be this much darker still: weak shade far from an object is grain or another board.
The first of these that ends all shade within reach."""
CONTACT = 0.4
"""If none does, only what is within so many object sizes counts."""
SHADOW_TAIL, SHADOW_HALO = 0.4, 0.1
"""A shadow that is still as dark as a core where that ends it goes on within so many object sizes, and fades within so many more."""
SHADOW_TINT = 0.12
"""A shadow darkens the three channels alike, within this plus a third of the darkening."""


def find_shadow(rgb: np.ndarray, mask: np.ndarray, objects: np.ndarray, surface: np.ndarray) -> np.ndarray:
    """Pixels (H, W) bool of the surface that the object shades: darker than the surface around, of its colour, touching the object.

    Args:
        rgb: Photo (H, W, 3) uint8.
        mask: The object.
        objects: All objects with their rims.
        surface: The region in which shadows can lie.
    """
    out = np.zeros_like(mask)
    if not mask.any():
        return out
    window = window_of(mask, SHADOW_REACH)
    # The side of a square as large: a spoon's shadow is as narrow as the spoon.
    free, size = (surface & ~objects)[window], float(np.sqrt(mask.sum()))
    if free.sum() < 50:
        return out
    # Logarithms: a shadow is a factor. The offset keeps noise in the dark small.
    picture = np.log(np.asarray(rgb[window], dtype=np.float32) / 255.0 + 0.03)
    picture = masked_blur(picture, ~objects[window], max(1.2, rgb.shape[1] / 350))
    residual, sigma = _surface_residual(picture, free)
    tone = residual.mean(-1)
    tint = np.abs(residual - tone[..., None]).max(-1) < SHADOW_TINT + np.abs(tone) / 3
    dark = np.where(free & tint, -tone, 0)
    sigma = max(sigma, _patchiness(dark, free, objects[window], size) / 1.3)
    shade = np.zeros_like(free)
    for fade in SHADOW_FADES:
        shade = _shade_at(dark, sigma, mask[window], objects[window], free, size, fade)
        if not _runs_out(shade, surface[window], window, mask.shape):
            break
    else:
        shade &= dilate(mask[window], round(CONTACT * size))
    out[window] = dilate(shade, max(MIN_RIM_PX, round(RIM_SHARE * size))) & free
    return out


def _patchiness(dark: np.ndarray, free: np.ndarray, objects: np.ndarray, size: float) -> float:
    """How dark (h, w) the surface is in places where no object is near, so that such places do not count as shade elsewhere."""
    import cv2

    far = free & (distance_to(objects) > FAR * size)
    if far.sum() < 0.1 * size * size:
        return 0.0
    radius = max(1, round(0.03 * size))
    calm = np.asarray(
        cv2.morphologyEx(dark.astype(np.float32), cv2.MORPH_OPEN, np.ones((2 * radius + 1, 2 * radius + 1)))
    )
    return float(np.percentile(calm[far].astype(np.float64), PATCHY_PERCENT))


def _shade_at(
    dark: np.ndarray, sigma: float, mask: np.ndarray, objects: np.ndarray, free: np.ndarray, size: float, fade: float
) -> np.ndarray:
    """What of a window (h, w) is dark enough, given how fast darkness must fade away from the object, and hangs together with it."""
    import cv2

    away = distance_to(mask) / size
    edge = max(1.3 * sigma, SHADOW_EDGE)
    weak, darker = dark > edge, dark > edge + fade * away
    # Grain and cracks are dark too, but thin.
    radius = max(1, round(0.03 * size))
    weak &= dilate(erode(weak, radius), radius)
    darker &= dilate(erode(darker, radius), radius) | (away < 0.1)
    deep = dark > max(2.5 * sigma, SHADOW_CORE)
    label = cv2.connectedComponents((darker | objects).astype(np.uint8))[1]
    touching = np.intersect1d(np.unique(label[mask]), np.unique(label[darker & deep]))
    shade = np.isin(label, touching[touching > 0]) & free
    tail = _reached(shade & (away > 0.1), weak & deep & dilate(shade, round(SHADOW_TAIL * size)))
    return shade | tail | (weak & dilate(tail, round(SHADOW_HALO * size)))


def _runs_out(shade: np.ndarray, surface: np.ndarray, window: tuple[slice, slice], shape: tuple[int, int]) -> bool:
    """Whether a window's shade (h, w) reaches the end of the surface or of the window, within the picture: then the surface itself is dark there."""
    rows, columns = window
    cut = [(rows.start > 0, shade[0]), (rows.stop < shape[0], shade[-1])]
    cut += [(columns.start > 0, shade[:, 0]), (columns.stop < shape[1], shade[:, -1])]
    return any(inside and line.any() for inside, line in cut) or bool((shade & dilate(~surface, 1)).any())


def _reached(seed: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The connected parts of a mask (H, W) bool that a seed touches."""
    import cv2

    label = cv2.connectedComponents(mask.astype(np.uint8))[1]
    hit = np.unique(label[seed & mask])
    return np.isin(label, hit[hit > 0])


def _surface_residual(picture: np.ndarray, free: np.ndarray) -> tuple[np.ndarray, float]:
    """Picture minus a quadratic field (h, w, 3) fitted to the free pixels, shadows not followed, and the spread of the mean about it."""
    height, width = free.shape
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    basis = np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], -1)
    rows = np.flatnonzero(free)
    rows = rows[:: max(1, len(rows) // 4000)]
    A, b = basis.reshape(-1, 6)[rows], picture.reshape(-1, 3)[rows]
    weight, sigma, solution = np.ones(len(A)), 1.0, np.zeros((6, 3))
    for _ in range(12):
        root = np.sqrt(weight)[:, None]
        solution = np.linalg.lstsq(A * root, b * root, rcond=None)[0]
        tone = (b - A @ solution).mean(1)
        # The bright half tells the surface's own spread; the dark half may be shadow.
        sigma = max(1.48 * float(np.median(tone[tone >= 0])) if (tone >= 0).any() else 0.0, 0.005)
        weight = 1.0 / (1.0 + (tone / (np.where(tone < 0, 1.5, 3.0) * sigma)) ** 4)
    return picture - basis @ solution, sigma
