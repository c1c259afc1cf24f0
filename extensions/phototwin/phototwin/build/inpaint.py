"""The photo without its objects: find their shadows, then fill the holes with texture and tone of what surrounds them."""

from __future__ import annotations

import numpy as np

RIM_SHARE, MIN_RIM_PX = 0.02, 3
"""How far around a mask the object's colour may still reach, as a share of its size, and at least [px]."""
SHADOW_REACH = 0.9
"""Shadows are looked for within this many object sizes."""
SHADOW_CORE, SHADOW_EDGE = 0.10, 0.04
"""How much darker (natural logarithm) than the surface a shadow's core is, and where its soft edge is taken to end."""
SHADOW_FADE = 0.33
"""What is one object size away must be this much darker still: weak shade far from an object is grain or another board."""
SHADOW_TAIL, SHADOW_HALO = 0.4, 0.1
"""A shadow that is still as dark as a core where that ends it goes on within so many object sizes, and fades within so many more."""
SHADOW_TINT = 0.12
"""A shadow darkens the three channels alike, within this plus a third of the darkening."""
SEARCH_PX = 320
"""Longest side of the picture in which the patch to copy is searched."""
MIN_SOURCE = 0.985
"""Share of a patch that must come from known pixels."""
MIN_HOLE_SHARE = 0.03
"""Holes smaller than this share of the picture are not split further when no patch fits, but diffused."""


def remove_objects(rgb: np.ndarray, masks: np.ndarray, support_mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The photo without objects and their shadows, (H, W, 3) uint8, and the pixels that were replaced, (H, W) bool.

    Args:
        rgb: Photo (H, W, 3) uint8.
        masks: Objects (N, H, W) bool.
        support_mask: Pixels that show the surface (H, W) bool.
    """
    hole = np.zeros(rgb.shape[:2], bool)
    for mask in masks:
        hole |= _dilate(mask, max(MIN_RIM_PX, round(RIM_SHARE * _extent(mask))))
    if not hole.any():
        return rgb.copy(), hole
    surface = _hull(support_mask) if support_mask.any() else np.ones_like(hole)
    shade = np.zeros_like(hole)
    for mask in masks:
        shade |= find_shadow(rgb, mask, hole, surface)
    hole |= shade
    out, known = rgb.astype(np.float32), ~hole
    # Largest last: the small ones have then become places to copy from.
    for part in sorted(_components(hole), key=np.count_nonzero):
        _fill(out, known, part, surface)
    return np.clip(np.round(out), 0, 255).astype(np.uint8), hole


def find_shadow(rgb: np.ndarray, mask: np.ndarray, objects: np.ndarray, surface: np.ndarray) -> np.ndarray:
    """Pixels (H, W) bool of the surface that the object shades: darker than the surface around, of its colour, touching the object.

    Args:
        rgb: Photo (H, W, 3) uint8.
        mask: The object.
        objects: All objects with their rims.
        surface: The region in which shadows can lie.
    """
    import cv2

    out = np.zeros_like(mask)
    if not mask.any():
        return out
    window = _window(mask, SHADOW_REACH)
    # The side of a square as large: a spoon's shadow is as narrow as the spoon.
    free, size = (surface & ~objects)[window], float(np.sqrt(mask.sum()))
    if free.sum() < 50:
        return out
    # Logarithms: a shadow is a factor. The offset keeps noise in the dark small.
    picture = np.log(np.asarray(rgb[window], dtype=np.float32) / 255.0 + 0.03)
    picture = _masked_blur(picture, ~objects[window], max(1.2, rgb.shape[1] / 350))
    residual, sigma = _surface_residual(picture, free)
    tone = residual.mean(-1)
    tint = np.abs(residual - tone[..., None]).max(-1) < SHADOW_TINT + np.abs(tone) / 3
    away = cv2.distanceTransform((~mask[window]).astype(np.uint8), cv2.DIST_L2, 5) / size
    weak = free & tint & (tone < -max(1.3 * sigma, SHADOW_EDGE))
    darker = weak & (tone < -max(1.3 * sigma, SHADOW_EDGE) - SHADOW_FADE * away)
    # Grain and cracks are dark too, but thin.
    radius = max(1, round(0.03 * size))
    weak &= _dilate(_erode(weak, radius), radius)
    darker &= _dilate(_erode(darker, radius), radius) | (away < 0.1)
    core = darker & (tone < -max(2.5 * sigma, SHADOW_CORE))
    label = cv2.connectedComponents((darker | objects[window]).astype(np.uint8))[1]
    touching = np.intersect1d(np.unique(label[mask[window]]), np.unique(label[core]))
    shade = np.isin(label, touching[touching > 0]) & free
    dark = weak & (tone < -max(2.5 * sigma, SHADOW_CORE))
    tail = _reached(shade & (away > 0.1), dark & _dilate(shade, round(SHADOW_TAIL * size)))
    shade |= tail | (weak & _dilate(tail, round(SHADOW_HALO * size)))
    out[window] = _dilate(shade, max(MIN_RIM_PX, round(RIM_SHARE * size))) & free
    return out


def _reached(seed: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The connected parts of a mask (H, W) bool that a seed touches."""
    import cv2

    label = cv2.connectedComponents(mask.astype(np.uint8))[1]
    hit = np.unique(label[seed & mask])
    return np.isin(label, hit[hit > 0])


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


def _fill(out: np.ndarray, known: np.ndarray, part: np.ndarray, surface: np.ndarray) -> None:
    """Fill one hole of ``out`` in place from the best shifted copy of known pixels, and mark it known."""
    import cv2

    rows, columns = np.nonzero(part)
    tall, wide = np.ptp(rows) + 1, np.ptp(columns) + 1
    if min(tall, wide) > 2:
        shift = _best_shift(out, known, part, surface)
        if shift is not None:
            _copy(out, known, part, shift)
            known |= part
            return
    if max(tall, wide) > MIN_HOLE_SHARE * max(part.shape):
        half = np.zeros_like(part)
        if tall > wide:
            half[: rows.min() + tall // 2] = True
        else:
            half[:, : columns.min() + wide // 2] = True
        for component in (*_components(part & half), *_components(part & ~half)):
            _fill(out, known, component, surface)
        return
    window = _window(part, 2.0)
    crop = np.clip(out[window], 0, 255).astype(np.uint8)
    out[part] = cv2.inpaint(crop, (~known)[window].astype(np.uint8), 3, cv2.INPAINT_TELEA)[part[window]]
    known |= part


def _best_shift(image: np.ndarray, known: np.ndarray, part: np.ndarray, surface: np.ndarray) -> tuple[int, int] | None:
    """Rows and columns to the patch whose surroundings look most like the hole's, or None where no patch is known enough."""
    import cv2

    scale = max(1, -(-max(part.shape) // SEARCH_PX))
    size = (-(-part.shape[1] // scale), -(-part.shape[0] // scale))

    def shrink(values: np.ndarray) -> np.ndarray:
        return cv2.resize(values.astype(np.float32), size, interpolation=cv2.INTER_AREA)

    good, hole = shrink(known) > 0.999, shrink(part) > 0.001
    reach = int(np.clip(0.2 * _extent(hole), 3, 10))
    ring = _dilate(hole, reach) & good & ~hole
    if ring.sum() < 6:
        return None
    coarse = _search(shrink(image), good, hole, ring, shrink(surface) > 0.5)
    if coarse is None or scale == 1:
        return coarse
    return _refine_shift(image, known, part, (coarse[0] * scale, coarse[1] * scale), scale)


def _search(
    image: np.ndarray, good: np.ndarray, hole: np.ndarray, ring: np.ndarray, surface: np.ndarray
) -> tuple[int, int] | None:
    """Best of all shifts by cross-correlation: squared difference of the rings, of which a constant tone counts little."""
    from scipy.fft import irfft2, next_fast_len, rfft2

    shape = tuple(next_fast_len(2 * int(n), True) or 2 * int(n) for n in good.shape)

    def spectrum(values: np.ndarray) -> np.ndarray:
        return np.asarray(rfft2(values.astype(np.float32), shape))

    def correlation(product: np.ndarray) -> np.ndarray:
        return np.asarray(irfft2(product, shape))

    picture = image - image[ring].mean(0)
    good_f, ring_f, hole_f = spectrum(good), spectrum(ring).conj(), spectrum(hole).conj()
    count = np.maximum(correlation(ring_f * good_f), 1e-3)
    square_f = spectrum(ring * (picture**2).sum(-1)).conj() * good_f
    square_f += ring_f * spectrum(good * (picture**2).sum(-1))
    tone = np.zeros(shape, np.float32)
    for channel in np.moveaxis(picture, -1, 0):
        fixed, moving = spectrum(ring * channel).conj(), spectrum(good * channel)
        square_f -= 2 * fixed * moving
        tone += (correlation(fixed * good_f - ring_f * moving) / count) ** 2
    cost = correlation(square_f) / count - 0.9 * tone
    spread = float(image[ring].var(0).sum()) + 4.0
    # What lies on the surface comes from the surface, what lies beyond from beyond.
    crossed = correlation(spectrum(hole & surface).conj() * spectrum(~surface))
    crossed += correlation(spectrum(hole & ~surface).conj() * spectrum(surface))
    rows, columns = (np.fft.fftfreq(n, 1 / n) for n in shape)
    # Perspective changes the grain's size with the row, less along it.
    away = (rows[:, None] / good.shape[0]) ** 2 + 0.2 * (columns[None] / good.shape[1]) ** 2
    cost += spread * (away + 0.5 * crossed / hole.sum())
    # The ring does not see what else the patch brings along: what differs more than the surroundings do is a thing.
    contrast = correlation(hole_f * spectrum(good * (picture**2).sum(-1))) / hole.sum()
    cost += 0.5 * np.maximum(contrast - 1.5 * spread, 0.0)
    cost[(correlation(hole_f * good_f) / hole.sum() < MIN_SOURCE) | (count < 0.6 * ring.sum())] = np.inf
    best = np.unravel_index(int(cost.argmin()), cost.shape)
    return (int(rows[best[0]]), int(columns[best[1]])) if np.isfinite(cost[best]) else None


def _refine_shift(
    image: np.ndarray, good: np.ndarray, part: np.ndarray, shift: tuple[int, int], reach: int
) -> tuple[int, int]:
    """The best shift within ``reach`` pixels, judged in the full picture."""
    ring = _dilate(part, 6) & good & ~part
    rows, columns = np.nonzero(ring)
    best, best_cost = shift, np.inf
    for dy in range(shift[0] - reach, shift[0] + reach + 1):
        for dx in range(shift[1] - reach, shift[1] + reach + 1):
            y, x = np.clip(rows + dy, 0, part.shape[0] - 1), np.clip(columns + dx, 0, part.shape[1] - 1)
            ok = good[y, x]
            if ok.mean() < 0.5:
                continue
            difference = image[rows, columns][ok] - image[y, x][ok]
            cost = float((difference - 0.95 * difference.mean(0)).var() + 0.05 * (difference**2).mean())
            if cost < best_cost:
                best, best_cost = (dy, dx), cost
    return best


def _copy(out: np.ndarray, good: np.ndarray, part: np.ndarray, shift: tuple[int, int]) -> None:
    """Copy the shifted patch into the hole, in the tone of the hole's surroundings, and fade it out beyond the hole's edge.

    Source: membrane interpolation, Perez et al. (2003), equation 5, here of robust differences: what an imperfect mask
    leaves of object and shadow at the edge must not bleed into the hole.
    """
    import cv2

    extent = _extent(part)
    band = int(np.clip(0.12 * extent, 6, 16))
    window = _window(part, 0.0, 3 * band)
    hole, near = part[window], good[window]
    rows, columns = np.mgrid[window]
    y, x = rows + shift[0], columns + shift[1]
    inside = (y >= 0) & (y < part.shape[0]) & (x >= 0) & (x < part.shape[1])
    y, x = np.clip(y, 0, part.shape[0] - 1), np.clip(x, 0, part.shape[1] - 1)
    patch, usable = out[y, x], inside & good[y, x]
    patch = diffuse(patch, usable)
    rim = _dilate(hole, 2 * band) & near & usable & ~hole
    fade = np.clip(1 - cv2.distanceTransform((~hole).astype(np.uint8), cv2.DIST_L2, 5) / (band / 2), 0, 1)[..., None]
    fade = np.where(hole, 1.0, np.where(near & usable, fade[..., 0], 0.0))[..., None]
    out[window] += fade * (patch + _tone(out[window] - patch, rim, band / 2) - out[window])


def _tone(difference: np.ndarray, rim: np.ndarray, blur: float) -> np.ndarray:
    """Smooth field (h, w, 3) through the differences on the rim: a robust plane and a membrane over what it leaves, outliers cut."""
    height, width = rim.shape
    if rim.sum() < 12:
        return diffuse(difference, rim)
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    basis = np.stack([np.ones_like(x), x, y], -1)
    rows = np.flatnonzero(rim)
    rows = rows[:: max(1, len(rows) // 3000)]
    A, b = basis.reshape(-1, 3)[rows], difference.reshape(-1, 3)[rows]
    weight, solution, sigma = np.ones(len(A)), np.zeros((3, 3)), np.ones(3)
    for _ in range(10):
        root = np.sqrt(weight)[:, None]
        # A little ridge on the slopes: a rim seen on one side only must not extrapolate.
        ridge = np.diag([0.0, 1.0, 1.0]) * np.sqrt(0.02 * len(A))
        solution = np.linalg.lstsq(np.vstack([A * root, ridge]), np.vstack([b * root, np.zeros((3, 3))]), rcond=None)[0]
        error = b - A @ solution
        sigma = np.maximum(1.48 * np.median(np.abs(error), axis=0), 1.0)
        weight = 1.0 / (1.0 + ((error / (2 * sigma)) ** 2).mean(1) ** 2)
    field = basis @ solution
    left = np.clip(_masked_blur(difference - field, rim, blur), -3 * sigma, 3 * sigma)
    return field + diffuse(left, rim)


def _masked_blur(values: np.ndarray, mask: np.ndarray, sigma: float) -> np.ndarray:
    import cv2

    weight = cv2.GaussianBlur(mask.astype(np.float32), (0, 0), sigma)
    total = cv2.GaussianBlur(np.where(mask[..., None], values, 0).astype(np.float32), (0, 0), sigma)
    return total / np.maximum(weight, 1e-6)[..., None]


def _extent(mask: np.ndarray) -> int:
    """Longer side of a mask's bounding box [px]."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return int(max(np.ptp(rows), np.ptp(columns))) + 1 if len(rows) else 0


def _window(mask: np.ndarray, reach: float, extra: int = 3) -> tuple[slice, slice]:
    """Bounding box of a mask, grown by ``reach`` of its longer side."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    grow = int(reach * max(np.ptp(rows), np.ptp(columns))) + extra
    spans = [(max(0, i[0] - grow), min(n, i[-1] + grow + 1)) for i, n in zip((rows, columns), mask.shape, strict=True)]
    return slice(*spans[0]), slice(*spans[1])


def _components(mask: np.ndarray) -> list[np.ndarray]:
    import cv2

    count, label = cv2.connectedComponents(mask.astype(np.uint8))
    return [label == i for i in range(1, count)]


def _hull(mask: np.ndarray) -> np.ndarray:
    """Convex hull of a mask's pixels as a mask."""
    import cv2

    points = np.argwhere(mask)[:, ::-1].astype(np.int32)
    out = np.zeros(mask.shape, np.uint8)
    cv2.fillConvexPoly(out, cv2.convexHull(points), 1)
    return out > 0


def _dilate(mask: np.ndarray, radius: int) -> np.ndarray:
    import cv2

    return cv2.dilate(mask.astype(np.uint8), _disc(radius)) > 0


def _erode(mask: np.ndarray, radius: int) -> np.ndarray:
    import cv2

    return cv2.erode(mask.astype(np.uint8), _disc(radius)) > 0


def _disc(radius: int) -> np.ndarray:
    import cv2

    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
