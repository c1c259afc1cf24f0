"""The surface that things stand on, as a colour field: smooth in the picture, textured, darkened by shadows but not recoloured."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from phototwin.perceive.regions import close, dilate, erode, label, main_piece, open_

TEXTURE_SIGMAS = 3.5
"""A pixel this many robust deviations from the field is not support."""
MIN_SIGMA_L, MIN_SIGMA_AB = 1.6, 1.2
"""Floors of the deviations [Lab units]: JPEG and sensor noise of a surface without any texture."""
GROW_ROUNDS, GROW_PX, SLOPE_RIDGE = 12, 16.0, 1.0
"""From the quadratic on, the field is a local line fit of this radius and the support regrown: it follows lamps and falling light.
The field is grown on half of the working copy's resolution, and so is everything in pixels here."""
GROWN = 5e-4
"""Growing ends when fewer pixels than this share change."""
GROOVE_PX, GROOVE_AREA, GROOVE_STEP = 6, 0.01, 1.0
"""A piece of at least this share of the photo that has the surface's very colour belongs to it across a gap of up to this width."""
EDGE_FLOOR, EDGE_FACTOR = 5.0, 2.0
"""A gradient [Lab units per px] that ends a surface: above the floor and this many times the 90th percentile of its texture."""
SHADOW_WEIGHT = 0.35
"""How much of a darkening counts when the chroma stays: cast shadows are common, objects in the table's very colour rare."""
GREY_CHROMA = 6.0
"""Below this chroma the hue of a surface means nothing."""
SHADOW_FLOOR = 0.55
"""Darkest shadow as a ratio of (L + 16): (0.55)^3 = 17 % of the light remains; what is darker is an object."""


@dataclass(frozen=True, eq=False)
class SupportField:
    """The colour of the support, extended over the whole picture.

    Attributes:
        distance: (H, W) float32; above 1 the pixel is not support, shadows discounted.
        residual: (H, W, 3) uint8 colour difference to the field, 128 = none, shadows discounted.
        off_hue: (H, W) float32 chroma beside the field's hue, in deviations: near 0 in a shadow, even a glossy surface's, whose chroma grows.
        mask: (H, W) bool, connected pixels of the support.
        sigma: Deviations of its texture in lightness and chroma, (2,) [Lab units].
    """

    distance: np.ndarray
    residual: np.ndarray
    off_hue: np.ndarray
    mask: np.ndarray
    sigma: np.ndarray


def fit_support(rgb: np.ndarray, strictness: float = 1.0) -> SupportField:
    """The support's colour field, from the dominant colour of the lower middle of a working copy (H, W, 3) uint8.

    Args:
        rgb: (H, W, 3) uint8.
        strictness: Factor on distances and gradients: above 1 less is support; what holds at 1 and above is well founded.
    """
    import cv2

    lab = to_lab(cv2.medianBlur(rgb, 5))
    half = np.ascontiguousarray(lab[::2, ::2])
    field, sigma, mask = _grow(half, strictness)
    size = (rgb.shape[1], rgb.shape[0])
    field = cv2.resize(field, size, interpolation=cv2.INTER_LINEAR)
    distance = strictness * _distance(lab, field, sigma).astype(np.float32)
    near = dilate(cv2.resize(mask.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST) > 0, 2)
    off_hue = _off_hue(lab, field) / sigma[1]
    return SupportField(
        distance, _residual(to_lab(rgb), field), off_hue, close(open_(near & (distance < 1), 1), 2), sigma
    )


def to_lab(rgb: np.ndarray) -> np.ndarray:
    """CIE Lab (H, W, 3) float32, L in 0..100, of uint8 sRGB."""
    import cv2

    return np.asarray(cv2.cvtColor(rgb.astype(np.float32) / 255, cv2.COLOR_RGB2LAB))


def _grow(lab: np.ndarray, strictness: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Field (H, W, 3), deviations (2,) and mask (H, W) of the surface in the lower middle of a Lab picture."""
    import cv2

    height, width = lab.shape[:2]
    v, u = np.mgrid[0:height, 0:width].astype(np.float32)
    u, v = u / width * 2 - 1, v / height * 2 - 1
    window = np.exp(-0.5 * ((u / 0.5) ** 2 + ((v - 0.3) / 0.45) ** 2))
    field = np.broadcast_to(_mode(lab, window), lab.shape)
    sigma = np.array([6.0, 4.0])
    basis = np.stack([np.ones_like(u), u, v, u * u, u * v, v * v], -1)
    mask = main_piece(_distance(lab, field, sigma) < 1, window)
    for terms in (3, 6, 6):
        field = _fit_field(lab, basis[..., :terms], mask, sigma)
        sigma = _spread(lab, field, mask)
        mask = main_piece(_distance(lab, field, sigma) < 1, window)
    calm = ~_edges(lab, mask, strictness)
    planks = cv2.GaussianBlur(lab, (0, 0), 2.0)
    for _ in range(GROW_ROUNDS):
        before = mask
        field = _local_plane(lab, mask, GROW_PX)
        sigma = _spread(lab, field, mask)
        near = (strictness * _distance(lab, field, sigma) < 1) & calm
        mask = _join_across_grooves(
            main_piece(near, window), calm & (_plain_distance(planks, field, sigma) < GROOVE_STEP)
        )
        if (mask != before).mean() < GROWN:
            break
    return field, sigma, mask


def _distance(lab: np.ndarray, field: np.ndarray, sigma: np.ndarray) -> np.ndarray:
    """Distance (H, W) of colours to the field in units of ``TEXTURE_SIGMAS`` deviations, shadows discounted."""
    light, chroma = _shadow_free(lab, field)
    return np.hypot(light / sigma[0], np.linalg.norm(chroma, axis=-1) / sigma[1]) / TEXTURE_SIGMAS


def _plain_distance(lab: np.ndarray, field: np.ndarray, sigma: np.ndarray) -> np.ndarray:
    """Like ``_distance``, shadows not discounted."""
    delta = lab - field
    return np.hypot(delta[..., 0] / sigma[0], np.linalg.norm(delta[..., 1:], axis=-1) / sigma[1]) / TEXTURE_SIGMAS


def _shadow_free(lab: np.ndarray, field: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Difference in lightness (H, W) and chroma (H, W, 2) to the field, as if a shadow of up to ``SHADOW_FLOOR`` were mostly lifted.

    Light scaled by k^3 scales L + 16, a and b alike by k (CIE 1976), so the chroma of a shadow follows from its lightness.
    """
    ratio = np.clip((lab[..., 0] + 16) / (field[..., 0] + 16), 0.1, 1.0)
    delta = lab[..., 0] - field[..., 0]
    beyond = np.minimum(ratio - SHADOW_FLOOR, 0) * (field[..., 0] + 16)
    light = np.where(delta > 0, delta, SHADOW_WEIGHT * (delta - beyond) + beyond)
    return light, lab[..., 1:] - field[..., 1:] * ratio[..., None]


def _residual(lab: np.ndarray, field: np.ndarray) -> np.ndarray:
    light, chroma = _shadow_free(lab, field)
    return np.clip(np.concatenate([light[..., None], chroma], -1) * 1.5 + 128, 0, 255).astype(np.uint8)


def _off_hue(lab: np.ndarray, field: np.ndarray) -> np.ndarray:
    """Chroma (H, W) of colours across the direction of the field's chroma; the whole difference where the field is grey or the hue opposite."""
    color, base = lab[..., 1:], field[..., 1:]
    length = np.linalg.norm(base, axis=-1)
    across = np.abs(color[..., 0] * base[..., 1] - color[..., 1] * base[..., 0]) / np.maximum(length, 1e-6)
    opposite = (color * base).sum(-1) < 0
    return np.where((length < GREY_CHROMA) | opposite, np.linalg.norm(color - base, axis=-1), across).astype(np.float32)


def _mode(lab: np.ndarray, window: np.ndarray) -> np.ndarray:
    """Most frequent colour (3,) under a weight window: the fullest histogram cell after smoothing, then its mean."""
    from scipy.ndimage import gaussian_filter

    bins = (np.arange(0, 105, 4), np.arange(-90, 95, 5), np.arange(-90, 95, 5))
    colors = lab.reshape(-1, 3)
    histogram = gaussian_filter(np.histogramdd(colors, bins=bins, weights=window.ravel())[0], 1.0)
    cell = np.unravel_index(np.argmax(histogram), histogram.shape)
    center = np.array([edges[i : i + 2].mean() for edges, i in zip(bins, cell, strict=True)])
    for _ in range(5):
        near = np.linalg.norm((colors - center) * [0.5, 1, 1], axis=1) < 8
        weight = window.ravel()[near]
        if weight.sum() <= 0:
            break
        center = (colors[near] * weight[:, None]).sum(0) / weight.sum()
    return center.astype(np.float32)


def _robust_fit(basis: np.ndarray, lab: np.ndarray, sigma: np.ndarray) -> np.ndarray:
    """Coefficients (terms, 3) of the field by reweighted least squares; darker than the field counts less (shadow)."""
    step = max(1, len(basis) // 6000)
    basis, lab = basis[::step].astype(np.float64), lab[::step].astype(np.float64)
    weight = np.ones(len(basis))
    coefficients = np.zeros((basis.shape[1], 3))
    for _ in range(6):
        gram = (basis * weight[:, None]).T @ basis + 1e-6 * len(basis) * np.eye(basis.shape[1])
        coefficients = np.linalg.solve(gram, (basis * weight[:, None]).T @ lab)
        delta = lab - basis @ coefficients
        norm = np.hypot(delta[:, 0] / sigma[0], np.linalg.norm(delta[:, 1:], axis=1) / sigma[1]) / 3.0
        weight = np.maximum(1 - norm**2, 0) ** 2 + 1e-4
        weight *= np.where(delta[:, 0] < -sigma[0], 0.5, 1.0)
    return coefficients


def _fit_field(lab: np.ndarray, basis: np.ndarray, mask: np.ndarray, sigma: np.ndarray) -> np.ndarray:
    coefficients = _robust_fit(basis[mask], lab[mask], sigma)
    return (basis.reshape(-1, basis.shape[-1]) @ coefficients).reshape(lab.shape)


def _spread(lab: np.ndarray, field: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Robust deviation of lightness and of chroma inside the mask, (2,), with floors."""
    delta = lab[mask] - field[mask]
    spread = 1.48 * np.median(np.abs(delta), axis=0)
    return np.maximum([spread[0], np.hypot(spread[1], spread[2]) / 1.41], [MIN_SIGMA_L, MIN_SIGMA_AB])


def _local_plane(values: np.ndarray, mask: np.ndarray, radius_px: float) -> np.ndarray:
    """Smooth field of the values (H, W, 3) inside the mask: at each pixel the local weighted line fit, carried on outside.

    Source: normalized convolution (Knutsson and Westin 1993), first order, on a quarter of the resolution.
    """
    import cv2

    step = 2
    small = (values.shape[1] // step, values.shape[0] // step)
    weight = cv2.resize(mask.astype(np.float32), small, interpolation=cv2.INTER_AREA)[..., None]
    inside = cv2.resize((values * mask[..., None]).astype(np.float32), small, interpolation=cv2.INTER_AREA)
    x, y = np.meshgrid(*(np.arange(n, dtype=np.float32) * step / radius_px for n in small))
    moments = np.dstack(
        [
            weight,
            *(weight[..., 0] * m for m in (x, y, x * x, x * y, y * y)),
            inside,
            inside * x[..., None],
            inside * y[..., None],
        ]
    )
    total = np.zeros_like(moments)
    for widen, trust in ((1, 1.0), (3, 1e-3), (9, 1e-6)):
        total += trust * cv2.GaussianBlur(moments, (0, 0), widen * radius_px / step)
    total = total[..., 1:] / np.maximum(total[..., :1], 1e-12)
    mean_x, mean_y, mean = total[..., 0], total[..., 1], total[..., 5:8]
    var_x, var_y = (total[..., 2] - mean_x**2 + SLOPE_RIDGE, total[..., 4] - mean_y**2 + SLOPE_RIDGE)
    cov = total[..., 3] - mean_x * mean_y
    with_x, with_y = total[..., 8:11] - mean_x[..., None] * mean, total[..., 11:14] - mean_y[..., None] * mean
    determinant = np.maximum(var_x * var_y - cov**2, 1e-6)
    ahead_x, ahead_y = np.clip(x - mean_x, -2, 2), np.clip(y - mean_y, -2, 2)
    per_x, per_y = (ahead_x * var_y - ahead_y * cov) / determinant, (ahead_y * var_x - ahead_x * cov) / determinant
    plane = mean + per_x[..., None] * with_x + per_y[..., None] * with_y
    return cv2.resize(plane, values.shape[1::-1], interpolation=cv2.INTER_LINEAR)


def _edges(lab: np.ndarray, mask: np.ndarray, strictness: float) -> np.ndarray:
    """Pixels (H, W) bool whose colour gradient is beyond what the surface's own texture shows."""
    import cv2

    blurred = cv2.GaussianBlur(lab, (0, 0), 0.8)
    gradient = (
        np.sqrt(sum(cv2.Sobel(blurred, cv2.CV_32F, *d).astype(np.float32) ** 2 for d in ((1, 0), (0, 1))).sum(-1)) / 8
    )
    inside = gradient[erode(mask, 2)]
    texture = np.percentile(inside, 90) if inside.size else 0.0
    return strictness * gradient > max(EDGE_FLOOR, EDGE_FACTOR * texture)


def _join_across_grooves(mask: np.ndarray, same: np.ndarray) -> np.ndarray:
    """The mask plus large pieces of the very same colour beyond a narrow gap (planks, a cable, a thin line)."""
    labels, count = label(same & ~mask)
    area = np.bincount(labels.ravel(), minlength=count + 1)
    touched = np.bincount(labels[dilate(mask, GROOVE_PX)], minlength=count + 1)
    keep = (area >= GROOVE_AREA * mask.size) & (touched >= 0.1 * mask.shape[1])
    keep[0] = False
    return mask | keep[labels]
