"""Colours for a surface where it goes on out of sight: its own texture moved along it, in the tone of what is beside."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from phototwin.build.fields import diffuse, dilate, distance_to, masked_blur
from phototwin.build.patch import Sheet, picture_sheet

CELLS = 360
"""Longest side of the raster in which shifts are compared."""
DIRECTIONS = 20
RINGS = (0.06, 0.12, 0.2, 0.3, 0.45, 0.65)
"""Lengths of the shifts that are tried, as shares of the raster."""
MAX_SHIFTS = 14
"""So many shifts are used at most: each costs a pass over the colours."""
RIM_CELLS = 4
"""The texture just beside what is wanted decides which shift continues it."""
COARSE = 2
"""Costs are compared on cells this many times larger."""
FEATHER_CELLS = 1.5
LEVEL_SHARE = 0.06
"""Tone is what is left of a surface after a blur as wide as this share of the raster."""
MOST_EXTRA = 0.8
"""A shift that costs more than this beside its fit brings what does not belong here."""
TONE_STEP, SEAM_STEP = 4, 2
"""Cells in which tones and seams are worked out [px]."""
UNREACHED = 1e7
LEAST_GAIN = 0.003
EDGE_CLEAR_PX = 5.0
"""Texture is not taken from this close to other things: their shadows lie there [px]."""
SMALL_PX = 150
"""Smaller parts get a tone and no texture."""
STRANGE, STRANGE_LEAST, STRANGE_CELLS = 5.0, 25.0, 160
"""Colours this many times farther from a smooth field than is usual on the surface, and by so many of 255 levels, are not its own; seen on so many cells."""
SEAM_MOST, SEAM_DECAY_PX = 60.0, 40.0
"""A seam is corrected by so many of 255 levels at most, and the correction dies away over this distance."""
SEAM_PX = 4
"""What is painted is also compared with the picture in a rim of this width [px]."""
STRETCH_COST, DISTANCE_COST, HEIGHT_COST = 1.0, 0.15, 4.0
"""Of magnifying a texture (it blurs), of bringing it from afar (its light is another), and from another height of the picture, in units
of the surface's contrast."""


@dataclass(frozen=True, eq=False)
class _Raster:
    """A surface flattened: colours (r, c, 3), and which cells are known and wanted, (r, c)."""

    rgb: np.ndarray
    known: np.ndarray
    wanted: np.ndarray
    low: np.ndarray
    step: float

    def cell_of(self, points: np.ndarray) -> np.ndarray:
        """Cell coordinates (column, row) (..., 2) of sheet points, centres at whole numbers."""
        return (points - self.low) / self.step


def paint_surface(
    rgb: np.ndarray, known: np.ndarray, wanted: np.ndarray, K_px: np.ndarray, model: np.ndarray | None
) -> np.ndarray:
    """Colours (N, 3) float32 of the wanted pixels, in the order of ``np.nonzero``.

    Args:
        rgb: Canvas (H, W, 3) float32.
        known: Pixels that show the surface (H, W) bool; at least one.
        wanted: Pixels to paint (H, W) bool.
        K_px: Intrinsics (3, 3) of the canvas.
        model: Inverse depth of its plane as (a, b, c) in pixels of the canvas, along which texture moves; None moves it in the picture.
    """
    tone = paint_tone(rgb, known, wanted)
    if min(known.sum(), wanted.sum()) < SMALL_PX:
        return tone
    sheet = picture_sheet() if model is None else plane_sheet(K_px, model, wanted)
    plain = known & ~_strange(rgb, known) & (distance_to(~known) > EDGE_CLEAR_PX)
    if plain.sum() < SMALL_PX:
        return tone
    raster = _flatten(rgb, plain, wanted, sheet)
    if raster.wanted.sum() < 4 or raster.known.sum() < 64:
        return tone
    shifts, shares = _choose_shifts(raster, sheet)
    if not len(shifts):
        return tone
    level = _level(raster)
    rim = known & dilate(wanted, SEAM_PX)
    color, covered = _bring(rgb, plain, wanted | rim, sheet, raster, level, shifts, shares)
    away = _seam(rgb, color, rim & (covered > 0.5), wanted)
    covered = covered[wanted][:, None]
    return covered * (color[wanted] + away) + (1 - covered) * tone


def _bring(
    rgb: np.ndarray,
    usable: np.ndarray,
    where: np.ndarray,
    sheet: Sheet,
    raster: _Raster,
    level: np.ndarray,
    shifts: np.ndarray,
    shares: list[np.ndarray],
) -> tuple[np.ndarray, np.ndarray]:
    """Colours (H, W, 3) that the shifts bring to pixels, on the tone that is there, and how far they are covered, (H, W) in 0..1."""
    rows, columns = np.nonzero(where)
    points = _from_px(sheet, columns.astype(np.float32) + np.float32(0.5), rows.astype(np.float32) + np.float32(0.5))
    cells = raster.cell_of(points).astype(np.float32)
    tone_here, can_use = sample(level, cells), usable.astype(np.float32)
    total, weight = np.zeros((len(rows), 3), np.float32), np.zeros(len(rows), np.float32)
    for shift, share in zip(shifts, shares, strict=True):
        mine = sample(share, cells)
        here = np.flatnonzero(mine > 0.01)
        pixels = _to_px(sheet, points[here], shift * raster.step)
        good = sample(can_use, pixels) > 0.9
        here, pixels = here[good], pixels[good]
        grain = sample(rgb, pixels, smooth=True) - sample(level, cells[here] + shift)
        total[here] += mine[here, None] * (grain + tone_here[here])
        weight[here] += mine[here]
    color, covered = np.zeros((*where.shape, 3), np.float32), np.zeros(where.shape, np.float32)
    color[where] = total / np.maximum(weight, 1e-6)[:, None]
    covered[where] = np.clip(weight, 0, 1)
    return color, covered


def _from_px(sheet: Sheet, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Sheet points (N, 2) float32 of pixel coordinates; as ``Sheet.from_px``, in single precision."""
    x, y, w = (np.float32(a) * u + np.float32(b) * v + np.float32(c) for a, b, c in np.linalg.inv(sheet.H_px_sheet))
    w = np.where(np.abs(w) > 1e-9, w, np.float32(1e-9))
    return np.stack([x / w, y / w], 1)


def _to_px(sheet: Sheet, points: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """Places (N, 2) float32 of shifted sheet points, column and row with centres at whole numbers; far outside where behind the camera."""
    H = sheet.H_px_sheet.copy()
    H[:, 2] += H[:, :2] @ shift
    ahead = points @ sheet.depth[:2].astype(np.float32) + np.float32(sheet.depth[2] + sheet.depth[:2] @ shift)
    x, y, w = (np.float32(a) * points[:, 0] + np.float32(b) * points[:, 1] + np.float32(c) for a, b, c in H)
    w = np.where(ahead > 1e-6, w, np.float32(1e-9))
    return np.stack([x / w, y / w], 1) - np.float32(0.5)


def _seam(rgb: np.ndarray, color: np.ndarray, rim: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """What must be added to the wanted pixels (N, 3) so that they meet the picture without a seam.

    Source: membrane interpolation, Perez et al. (2003), equation 5, here of smoothed differences that die away.
    """
    if not rim.any():
        return np.zeros((int(wanted.sum()), 3), np.float32)
    difference = np.clip(_smooth(rgb - color, rim, SEAM_STEP), -SEAM_MOST, SEAM_MOST)[wanted]
    return difference * np.exp(-distance_to(rim)[wanted] / SEAM_DECAY_PX)[:, None]


def _strange(rgb: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Known pixels that look unlike the rest of the surface (H, W) bool: things on it, not its texture."""
    import cv2

    scale = max(1, round(max(known.shape) / STRANGE_CELLS))
    size = (known.shape[1] // scale, known.shape[0] // scale)
    share = cv2.resize(known.astype(np.float32), size, interpolation=cv2.INTER_AREA)
    mean = cv2.resize(rgb * known[..., None], size, interpolation=cv2.INTER_AREA) / np.maximum(share, 1e-6)[..., None]
    ok = share > 0.9
    if ok.sum() < 50:
        return np.zeros_like(known)
    y, x = np.mgrid[-1 : 1 : size[1] * 1j, -1 : 1 : size[0] * 1j]
    basis = np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], -1)
    A, b, weight = basis[ok], mean[ok], np.ones(int(ok.sum()))
    error = np.zeros(len(b))
    for _ in range(8):
        root = np.sqrt(weight)[:, None]
        solution = np.linalg.lstsq(A * root, b * root, rcond=None)[0]
        error = np.linalg.norm(b - A @ solution, axis=1)
        weight = 1.0 / (1.0 + (error / (2 * max(float(np.median(error)), 1.0))) ** 2) ** 2
    limit = max(STRANGE * 1.48 * float(np.median(error)), STRANGE_LEAST)
    odd = np.zeros(size[::-1], np.uint8)
    odd[ok] = error > limit
    odd = cv2.dilate(cv2.morphologyEx(odd, cv2.MORPH_OPEN, np.ones((2, 2), np.uint8)), np.ones((5, 5), np.uint8))
    odd = cv2.resize(odd, known.shape[::-1], interpolation=cv2.INTER_NEAREST) > 0
    return odd if (odd & known).sum() < 0.4 * known.sum() else np.zeros_like(known)


def plane_sheet(K_px: np.ndarray, model: np.ndarray, wanted: np.ndarray) -> Sheet:
    """A plane about the middle of the wanted pixels, its units the size of a pixel there."""
    rows, columns = np.nonzero(wanted)
    u, v = columns + 0.5, rows + 0.5
    normal = K_px.T @ model  # normal . point = 1 on the plane
    inverse = model[0] * u + model[1] * v + model[2]
    k = int(np.argsort(inverse)[len(inverse) // 2])
    ray = np.linalg.solve(K_px, [u[k], v[k], 1.0])
    middle, unit = ray / inverse[k], 1.0 / (inverse[k] * K_px[0, 0])
    across = np.cross(normal, [0.0, 0.0, 1.0]) if abs(normal[0]) > 1e-9 * abs(normal[1]) else np.array([1.0, 0.0, 0.0])
    right = np.array([1.0, 0.0, 0.0]) - normal * normal[0] / (normal @ normal)
    right = right if np.linalg.norm(right) > 0.1 else across
    right /= np.linalg.norm(right)
    down = np.cross(normal / np.linalg.norm(normal), right)
    down = down if down[1] > 0 or down[2] < 0 else -down
    M = np.stack([unit * right, unit * down, middle], 1)
    return Sheet(K_px @ M / M[2, 2], M[2] / M[2, 2])


def sample(image: np.ndarray, at: np.ndarray, smooth: bool = False) -> np.ndarray:
    """Values (N,) or (N, C) float32 of an image at points (N, 2), column and row, centres at whole numbers; its border repeated."""
    import cv2

    count, wide = len(at), 4096
    rows = max(1, -(-count // wide))
    maps = np.zeros((rows * wide, 2), np.float32)
    maps[:count] = np.clip(at, -1e4, 3e4)
    x, y = (np.ascontiguousarray(maps[:, k].reshape(rows, wide)) for k in (0, 1))
    how = cv2.INTER_CUBIC if smooth else cv2.INTER_LINEAR
    out = cv2.remap(image.astype(np.float32, copy=False), x, y, how, borderMode=cv2.BORDER_REPLICATE)
    return out.reshape(rows * wide, -1)[:count] if image.ndim == 3 else out.reshape(-1)[:count]


def paint_tone(rgb: np.ndarray, known: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Smooth colours (N, 3) of the wanted pixels."""
    return _smooth(rgb, known, TONE_STEP)[wanted]


def _smooth(values: np.ndarray, known: np.ndarray, step: int) -> np.ndarray:
    """Smooth field (H, W, C) through the known values, worked out on cells of ``step`` pixels."""
    import cv2

    size = (-(-known.shape[1] // step), -(-known.shape[0] // step))
    share = cv2.resize(known.astype(np.float32), size, interpolation=cv2.INTER_AREA)
    total = cv2.resize(np.where(known[..., None], values, 0).astype(np.float32), size, interpolation=cv2.INTER_AREA)
    there = share > 0.05
    blurred = cv2.GaussianBlur(total, (0, 0), 0.8) / np.maximum(cv2.GaussianBlur(share, (0, 0), 0.8), 1e-6)[..., None]
    field = diffuse(np.where(there[..., None], blurred, 0), there)
    return cv2.resize(field, known.shape[::-1], interpolation=cv2.INTER_LINEAR)


def _flatten(rgb: np.ndarray, known: np.ndarray, wanted: np.ndarray, sheet: Sheet) -> _Raster:
    """The surface as a raster that holds what is wanted and as much of what is known."""
    import cv2

    def points_of(mask: np.ndarray) -> np.ndarray:
        rows, columns = np.nonzero(mask)
        thin = slice(None, None, max(1, len(rows) // 20000))
        points = sheet.from_px(np.stack([columns[thin], rows[thin]], 1) + 0.5)
        return points[points @ sheet.depth[:2] + sheet.depth[2] > 1e-6]

    inside, seen = points_of(wanted), points_of(known)
    # Perspective sends a few pixels near the horizon very far: they are served by what lies nearer.
    low, high = np.percentile(inside, [2, 98], axis=0)
    grow = 0.6 * float((high - low).max()) + 16
    low, high = (
        np.maximum(low - grow, np.minimum(seen.min(0), low)),
        np.minimum(high + grow, np.maximum(seen.max(0), high)),
    )
    step = max(1.0, float((high - low).max()) / CELLS)
    columns, rows = (int(n) for n in np.ceil((high - low) / step) + 1)
    y, x = np.mgrid[:rows, :columns]
    pixels = sheet.to_px(low + step * np.stack([x, y], -1)) - 0.5
    maps = [np.ascontiguousarray(np.clip(pixels[..., k], -1e4, 1e4), dtype=np.float32) for k in (0, 1)]

    def warp(values: np.ndarray, blur: bool) -> np.ndarray:
        values = values.astype(np.float32)
        if blur and step > 1.25:
            values = cv2.GaussianBlur(values, (0, 0), 0.4 * step)
        return cv2.remap(values, maps[0], maps[1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=0)

    return _Raster(warp(rgb, True), warp(known, False) > 0.98, warp(wanted, False) > 0.02, low, step)


def _moved(image: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """``image`` at every cell plus ``shift`` (column, row), 0 outside."""
    import cv2

    M = np.array([[1.0, 0.0, shift[0]], [0.0, 1.0, shift[1]]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(image.astype(np.float32), M, image.shape[1::-1], flags=flags)


def _candidates(raster: _Raster) -> np.ndarray:
    """Shifts (N, 2) in cells: of each direction and length the one under which the surface looks most like itself.

    Source: He and Sun (2012), statistics of patch offsets for image completion; the offsets by masked correlation.
    """
    from scipy.fft import irfft2, next_fast_len, rfft2

    rows, columns = raster.known.shape
    shape = tuple(next_fast_len(2 * n, True) or 2 * n for n in (rows, columns))
    known = raster.known.astype(np.float32)
    fine = (raster.rgb - masked_blur(raster.rgb, raster.known, 8.0)) * known[..., None]
    known_f = np.asarray(rfft2(known, shape))
    square = np.asarray(rfft2((fine**2).sum(-1), shape))
    total = 2 * (known_f.conj() * square).real - 2 * sum(
        np.abs(np.asarray(rfft2(fine[..., c], shape))) ** 2 for c in range(3)
    )
    count = np.asarray(irfft2(np.abs(known_f) ** 2, shape))
    cost = np.asarray(irfft2(total, shape)) / np.maximum(count, 1.0)
    y, x = np.meshgrid(*(np.fft.fftfreq(n, 1 / n) for n in shape), indexing="ij")
    cost[count < 0.03 * known.sum()] = np.inf
    length, angle = np.hypot(x, y), np.arctan2(y, x)
    sector = np.round(angle / (2 * np.pi) * DIRECTIONS).astype(int) % DIRECTIONS
    out = []
    for ring in RINGS:
        middle = ring * max(rows, columns)
        for k in range(DIRECTIONS):
            here = np.flatnonzero((np.abs(length - middle) < 0.3 * middle) & (sector == k))
            if len(here) and np.isfinite(low := cost.reshape(-1)[here]).any():
                at = here[int(low.argmin())]
                out.append([x.reshape(-1)[at], y.reshape(-1)[at]])
    return np.unique(np.array(out).reshape(-1, 2), axis=0)


def _choose_shifts(raster: _Raster, sheet: Sheet) -> tuple[np.ndarray, list[np.ndarray]]:
    """The shifts used (S, 2) in cells and where: shares (r, c) float32 of the cells they reach."""
    import cv2

    shifts = _candidates(raster)
    if not len(shifts):
        return shifts, []
    middle = raster.low + raster.step * np.argwhere(raster.wanted).mean(0)[::-1]
    growth = sheet.growth(middle, shifts * raster.step) - 1.0
    extra = np.where(growth > 0, STRETCH_COST, 0.2 * STRETCH_COST) * growth**2
    extra += DISTANCE_COST * np.linalg.norm(shifts, axis=1) / max(raster.known.shape)
    if not sheet.depth[:2].any():  # on no plane: other heights of the picture show other things, at another size
        extra += HEIGHT_COST * np.abs(shifts[:, 1]) / raster.known.shape[0]
    keep = extra <= MOST_EXTRA
    shifts, extra = shifts[keep], extra[keep]
    size = (-(-raster.known.shape[1] // COARSE), -(-raster.known.shape[0] // COARSE))
    fine = np.where(raster.known[..., None], raster.rgb - _level(raster), 0)
    rgb = cv2.resize(fine, size, interpolation=cv2.INTER_AREA)
    known = cv2.resize(raster.known.astype(np.float32), size, interpolation=cv2.INTER_AREA)
    wanted = cv2.resize(raster.wanted.astype(np.float32), size, interpolation=cv2.INTER_AREA) > 0
    rim = (known > 0.98) & dilate(wanted, RIM_CELLS)
    spread = float(rgb[known > 0.98].var(0).sum()) + 4.0
    costs = np.full((len(shifts), *rim.shape), np.inf, np.float32)
    for k, shift in enumerate(shifts):
        valid = _moved(known, shift / COARSE) > 0.98
        both = rim & valid
        if both.sum() < 12 or not (valid & wanted).any():
            continue
        square = np.minimum(((rgb - _moved(rgb, shift / COARSE)) ** 2).sum(-1), 4 * spread).astype(np.float32)
        field = diffuse(np.where(both, square, 0), both, 1)
        costs[k] = np.where(valid, cv2.GaussianBlur(field, (0, 0), 2.0) + spread * extra[k], np.inf)
    return _assign(costs, shifts, wanted, raster.known.shape)


def _assign(
    costs: np.ndarray, shifts: np.ndarray, wanted: np.ndarray, shape: tuple[int, ...]
) -> tuple[np.ndarray, list[np.ndarray]]:
    """The cheapest shift of every wanted cell, with few shifts in all, their borders feathered."""
    import cv2

    flat = np.where(np.isfinite(costs[:, wanted]), costs[:, wanted], UNREACHED)
    chosen: list[int] = []
    best = np.full(flat.shape[1], np.float32(UNREACHED))
    for _ in range(MAX_SHIFTS):
        gain = np.maximum(best - flat, 0).sum(1)
        k = int(gain.argmax())
        if gain[k] < LEAST_GAIN * float(best.sum()):
            break
        chosen.append(k)
        best = np.minimum(best, flat[k])
    if not chosen:
        return shifts[:0], []
    pick = costs[chosen]
    owner = np.where(np.isfinite(pick).any(0), pick.argmin(0), -1)
    shares = []
    for k in range(len(chosen)):
        share = cv2.GaussianBlur((owner == k).astype(np.float32), (0, 0), FEATHER_CELLS)
        share = np.where(np.isfinite(pick[k]), share, 0).astype(np.float32)
        shares.append(cv2.resize(share, shape[::-1], interpolation=cv2.INTER_LINEAR))
    return shifts[chosen], shares


def _level(raster: _Raster) -> np.ndarray:
    """The surface's tone (r, c, 3): what varies so slowly that it is light and not texture, continued where nothing is known."""
    blur = LEVEL_SHARE * max(raster.known.shape)
    return diffuse(np.where(raster.known[..., None], masked_blur(raster.rgb, raster.known, blur), 0), raster.known)
