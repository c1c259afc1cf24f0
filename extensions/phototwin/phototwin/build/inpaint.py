"""The photo without its objects: their masks and shadows become holes, which texture and tone of what surrounds them fill."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from phototwin.build.fields import components, diffuse, dilate, distance_to, hull_of, masked_blur, window_of
from phototwin.build.holes import find_holes
from phototwin.build.patch import Sheet, find_patch, picture_sheet, support_sheet

FINE_SHARE = 0.006
"""Structure smaller than this share of the picture's width is grain, whose look counts and not its place."""
NOVEL = 1.2
"""Grain in a patch that is this much stronger than the strongest around the hole is a thing, and cut."""
GRAIN_RANGE = (0.7, 1.4)
"""A patch's grain is made as strong as that around the hole, within these limits: copying softens it, another place differs."""
TONE_BLUR_PX = 6
"""Tone is worked out at a size at which its blur is this wide."""
MIN_HOLE_SHARE = 0.03
"""Holes smaller than this share of the picture are not split further when no patch fits, but diffused."""
EDGE_SHARE = 0.015
"""How far the edge of the support may be from where its pixels end, as a share of the picture's width."""
APART_SHARE = 0.06
"""Where more of a hole than this lies beside the support, that part is filled on its own, from what is beside the support."""


def remove_objects(
    rgb: np.ndarray,
    masks: np.ndarray,
    support_mask: np.ndarray,
    K_px: np.ndarray | None = None,
    T_world_camera: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """The photo without objects and their shadows, (H, W, 3) uint8, and for which object each pixel was filled, (H, W) uint8; where that is 0 they are the photo's, bit by bit.

    Args:
        rgb: Photo (H, W, 3) uint8.
        masks: Objects (N, H, W) bool.
        support_mask: Pixels that show the surface (H, W) bool.
        K_px: Intrinsics (3, 3); with the pose, patches are moved on the plane z = 0 and not in the picture.
        T_world_camera: Camera pose (4, 4).
    """
    owner, share = find_holes(rgb, masks, support_mask)
    hole = owner > 0
    surface = hull_of(support_mask) if support_mask.any() else np.ones_like(hole)
    canvas = Canvas(rgb.astype(np.float32), ~hole, hole, share, surface)
    # Largest last: the small ones have then become places to copy from.
    for part in sorted((p for i in np.unique(owner[hole]) for p in components(owner == i)), key=np.count_nonzero):
        for piece in _pieces(part, surface):
            sheet = None
            if K_px is not None and T_world_camera is not None and (piece & surface).any():
                sheet = support_sheet(K_px, T_world_camera, piece)
            _fill(canvas, piece, sheet)
    return np.clip(np.round(canvas.rgb), 0, 255).astype(np.uint8), owner


@dataclass(frozen=True, eq=False)
class Canvas:
    """A picture that is being filled in place.

    Attributes:
        rgb: (H, W, 3) float32.
        known: Pixels of the photo and filled ones, (H, W) bool.
        hole: All pixels that are or were to be filled, (H, W) bool.
        share: How much of the fill shows, 1 where an object or its shadow is, falling to 0 at the hole's border, (H, W) float32.
        surface: Where the support is (H, W) bool.
    """

    rgb: np.ndarray
    known: np.ndarray
    hole: np.ndarray
    share: np.ndarray
    surface: np.ndarray


def _pieces(part: np.ndarray, surface: np.ndarray) -> list[np.ndarray]:
    """A hole, cut a little within the support where much of it lies beyond: the edge itself is filled with what lies beyond."""
    beside = part & ~surface
    if not APART_SHARE < beside.sum() / part.sum() < 1:
        return [part]
    beside = part & dilate(beside, max(3, round(EDGE_SHARE * part.shape[1])))
    return [*components(beside), *components(part & ~beside)]


def _fill(canvas: Canvas, part: np.ndarray, sheet: Sheet | None) -> None:
    """Fill one hole in place from the best copy of known pixels, and mark it known."""
    import cv2

    rows, columns = np.nonzero(part)
    tall, wide = np.ptp(rows) + 1, np.ptp(columns) + 1
    on_surface = (part & canvas.surface).sum() > 0.8 * part.sum()
    if min(tall, wide) > 2:
        for plane in (sheet, picture_sheet()) if on_surface else (picture_sheet(),):
            if plane is None:
                continue
            usable = canvas.known & canvas.surface if plane is sheet else canvas.known
            preferred = canvas.surface if on_surface else np.ones_like(part)
            shift = find_patch(canvas.rgb, usable, part, preferred, plane)
            if shift is not None:
                _copy(canvas, usable, part, plane, shift)
                canvas.known[part] = True
                return
    if max(tall, wide) > MIN_HOLE_SHARE * max(part.shape):
        half = np.zeros_like(part)
        if tall > wide:
            half[: rows.min() + tall // 2] = True
        else:
            half[:, : columns.min() + wide // 2] = True
        for component in (*components(part & half), *components(part & ~half)):
            _fill(canvas, component, sheet)
        return
    window = window_of(part, 2.0)
    crop = np.clip(canvas.rgb[window], 0, 255).astype(np.uint8)
    fill = cv2.inpaint(crop, (~canvas.known)[window].astype(np.uint8), 3, cv2.INPAINT_TELEA).astype(np.float32)
    here, share = canvas.rgb[window], (canvas.share * part)[window][..., None]
    here += share * (fill - here)
    canvas.known[part] = True


def _copy(canvas: Canvas, usable: np.ndarray, part: np.ndarray, sheet: Sheet, shift: np.ndarray) -> None:
    """Copy the shifted patch into the hole in the tone of the hole's surroundings, and fade it in.

    Source: membrane interpolation, Perez et al. (2003), equation 5, here of robust differences: what an imperfect mask
    leaves of object and shadow at the edge must not bleed into the hole.
    """
    import cv2

    band = max(6, round(0.25 * float(np.sqrt(part.sum()))))
    window = window_of(part, 0.0, 2 * band + 3)
    hole, here = part[window], canvas.rgb[window]
    rows, columns = np.mgrid[window]
    pixels = sheet.to_px(sheet.from_px(np.stack([columns, rows], -1) + 0.5) + shift) - 0.5
    x, y = (np.ascontiguousarray(np.clip(pixels[..., k], -1e4, 1e4), dtype=np.float32) for k in (0, 1))
    good = cv2.remap(usable.astype(np.float32), x, y, cv2.INTER_LINEAR) > 0.99
    patch = cv2.remap(canvas.rgb, x, y, cv2.INTER_LANCZOS4, borderMode=cv2.BORDER_REPLICATE)
    patch = diffuse(np.where(good[..., None], patch, 0), good)
    rim = dilate(hole, 2 * band) & usable[window] & good & ~hole
    fill = _blend_bands(here, patch, hole, rim, max(1.5, FINE_SHARE * part.shape[1]))
    # Into what was filled before it fades outwards, into the photo within the hole.
    before = (canvas.hole & usable)[window] & good
    share = (
        np.where(hole, 1.0, np.where(before, np.clip(1 - distance_to(hole) / (band / 2), 0, 1), 0))
        * canvas.share[window]
    )
    here += share[..., None].astype(np.float32) * (fill - here)


def _blend_bands(here: np.ndarray, patch: np.ndarray, hole: np.ndarray, rim: np.ndarray, fine_px: float) -> np.ndarray:
    """The patch in the tone of the rim: its coarse structure as far as it was right on the rim, its grain as strong as there."""
    band = max(3.0, 0.125 * float(np.sqrt(hole.sum())))
    tone = tone_field(here, rim, band)
    if rim.sum() < 12:
        return tone
    around, inside = here - tone, patch - tone_field(patch, rim, band)
    coarse_a, coarse_i = masked_blur(around, rim, fine_px), masked_blur(inside, rim | hole, fine_px)
    fine_a, fine_i = around - coarse_a, inside - coarse_i
    # Wiener's gain: what did not follow the photo on the rim will not inside.
    gain = float(np.clip((coarse_a * coarse_i)[rim].sum() / max(float((coarse_i[rim] ** 2).sum()), 1e-6), 0, 1))
    limit = NOVEL * np.percentile(np.abs(fine_a[rim]), 99.5, axis=0)
    fine_i = np.clip(fine_i, -limit, limit)
    strength = float(np.sqrt((fine_a[rim] ** 2).mean() / max(float((fine_i[hole] ** 2).mean()), 1e-6)))
    return tone + gain * coarse_i + np.clip(strength, *GRAIN_RANGE) * fine_i


def tone_field(values: np.ndarray, rim: np.ndarray, blur: float) -> np.ndarray:
    """Smooth field (h, w, 3) through values (h, w, 3) on the rim: a robust plane and a membrane over what it leaves, outliers cut."""
    import cv2

    height, width = rim.shape
    scale = max(1, int(blur / TONE_BLUR_PX))
    if scale == 1 or rim.sum() < 12 * scale * scale:
        return _tone_field(values, rim, blur)
    # A smooth field needs no more pixels than its blur leaves.
    size = (-(-width // scale), -(-height // scale))
    share = cv2.resize(rim.astype(np.float32), size, interpolation=cv2.INTER_AREA)
    mean = cv2.resize((values * rim[..., None]).astype(np.float32), size, interpolation=cv2.INTER_AREA)
    small = _tone_field(mean / np.maximum(share, 1e-6)[..., None], share > 0.5, blur / scale)
    return cv2.resize(small.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR)


def _tone_field(values: np.ndarray, rim: np.ndarray, blur: float) -> np.ndarray:
    height, width = rim.shape
    if rim.sum() < 12:
        return diffuse(values, rim)
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    basis = np.stack([np.ones_like(x), x, y], -1)
    rows = np.flatnonzero(rim)
    rows = rows[:: max(1, len(rows) // 3000)]
    A, b = basis.reshape(-1, 3)[rows], values.reshape(-1, 3)[rows]
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
    left = np.clip(masked_blur(values - field, rim, blur), -3 * sigma, 3 * sigma)
    return field + diffuse(left, rim)
