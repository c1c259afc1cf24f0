"""The patch of a flat surface that fits best into a hole of its picture, and how it is copied there."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from phototwin.build.fields import dilate, extent

SEARCH_CELLS = 320
"""Longest side of the grid in which patches are compared."""
SEARCH_REACH = 2.5
"""Patches are looked for within this many hole sizes on a rectified surface, farther out it is too small in the picture to be of use."""
MIN_SOURCE = 0.985
"""Share of a patch that must come from known pixels."""
SOURCE_SLACK = 0.02
"""By how much less that may be after the patch was placed exactly: the grid sees a hole one cell larger than it is."""
CANDIDATES = 6
"""So many patches of the grid are compared once more in the full picture."""
RING_SAMPLES = 1500
FINEST_PX = 0.25
"""Patches are placed this exactly: grain and joints must meet."""


@dataclass(frozen=True, eq=False)
class Sheet:
    """A flat surface in the picture.

    Attributes:
        H_px_sheet: Homography (3, 3) from sheet coordinates to pixels; one unit is about one pixel near the hole.
        depth: Row (3,) whose product with (x, y, 1) is proportional to the depth of a sheet point.
    """

    H_px_sheet: np.ndarray
    depth: np.ndarray

    def to_px(self, points: np.ndarray) -> np.ndarray:
        """Pixels (..., 2) of sheet points (..., 2); far outside the picture where they lie behind the camera."""
        flat = points @ self.H_px_sheet[:, :2].T + self.H_px_sheet[:, 2]
        ahead = points @ self.depth[:2] + self.depth[2] > 1e-9
        scale = np.where(np.abs(flat[..., 2:]) > 1e-12, flat[..., 2:], 1e-12)
        return np.where(ahead[..., None], flat[..., :2] / scale, -1e6)

    def from_px(self, pixels: np.ndarray) -> np.ndarray:
        """Sheet points (..., 2) of pixels (..., 2)."""
        H = np.linalg.inv(self.H_px_sheet)
        flat = pixels @ H[:, :2].T + H[:, 2]
        return flat[..., :2] / np.where(np.abs(flat[..., 2:]) > 1e-12, flat[..., 2:], 1e-12)

    def growth(self, at: np.ndarray, shifts: np.ndarray) -> np.ndarray:
        """How many times farther from the camera a sheet point is after shifts (..., 2)."""
        here = float(at @ self.depth[:2] + self.depth[2])
        return 1.0 + shifts @ self.depth[:2] / here


def picture_sheet() -> Sheet:
    """The picture itself as the sheet, for what lies on no known plane."""
    return Sheet(np.eye(3), np.array([0.0, 0.0, 1.0]))


def support_sheet(K_px: np.ndarray, T_world_camera: np.ndarray, hole: np.ndarray) -> Sheet | None:
    """The plane z = 0 about the middle of a hole (H, W) bool, its units the size of a pixel there; None where it is not seen."""
    R, t = T_world_camera[:3, :3], T_world_camera[:3, 3]
    rows, columns = np.nonzero(hole)
    ray_w = R @ np.linalg.solve(K_px, [columns.mean() + 0.5, rows.mean() + 0.5, 1.0])
    if ray_w[2] > -1e-3 * np.linalg.norm(ray_w):
        return None
    z = -t[2] / ray_w[2]
    middle, unit = (t + z * ray_w)[:2], z / K_px[0, 0]
    right = R[:2, 0] / max(float(np.linalg.norm(R[:2, 0])), 1e-9)
    down = np.array([right[1], -right[0]])
    A = np.eye(3)
    A[:2, 0], A[:2, 1], A[:2, 2] = unit * right, unit * down, middle
    M = np.stack([R.T[:, 0], R.T[:, 1], -R.T @ t], 1) @ A
    H = K_px @ M
    # In sheet coordinates the hole's middle is the origin, in depths of which the last row counts.
    return Sheet(H / M[2, 2], M[2] / M[2, 2])


def find_patch(
    image: np.ndarray, known: np.ndarray, part: np.ndarray, preferred: np.ndarray, sheet: Sheet
) -> np.ndarray | None:
    """The shift (2,) on the sheet from the hole to the patch whose surroundings are most like the hole's; None where none is known enough.

    Args:
        image: (H, W, 3) float32.
        known: Pixels that may be copied (H, W) bool.
        part: The hole (H, W) bool.
        preferred: Pixels that are sure to show the same surface (H, W) bool.
        sheet: The plane on which patches are moved.
    """
    grid = _Grid.around(part, known, sheet)
    cells = grid.draw(sheet, image, known, part, preferred)
    good, hole = cells[1], cells[2]
    reach = int(np.clip(0.2 * extent(hole), 3, 12))
    ring = dilate(hole, reach) & good & ~hole
    if ring.sum() < 6:
        return None
    cost, penalty = _compare(cells, ring, grid, sheet)
    shifts = _best_cells(cost, max(2, round(0.1 * extent(hole))))
    if not len(shifts):
        return None
    ends = [_place(image, known, part, sheet, s * grid.step, grid.step, reach) for s in shifts]
    total = [end[1] + penalty[tuple(s[::-1])] for end, s in zip(ends, shifts, strict=True)]
    best = int(np.argmin(total))
    return ends[best][0] if np.isfinite(total[best]) else None


@dataclass(frozen=True)
class _Grid:
    """A raster of the sheet.

    Attributes:
        low: Sheet coordinates of its first corner (2,).
        step: Sheet units a cell.
        columns: Number of columns.
        rows: Number of rows.
    """

    low: np.ndarray
    step: float
    columns: int
    rows: int

    @staticmethod
    def around(part: np.ndarray, known: np.ndarray, sheet: Sheet) -> _Grid:
        corner = np.array([0.5, 0.5])
        inside = sheet.from_px(np.argwhere(part)[:, ::-1] + corner)
        seen = sheet.from_px(np.argwhere(known[::4, ::4])[:, ::-1] * 4 + corner)
        ahead = (seen @ sheet.depth[:2] + sheet.depth[2] > 1e-6) if len(seen) else np.zeros(0, bool)
        grow = SEARCH_REACH * float(np.ptp(inside, axis=0).max()) + 8
        if not sheet.depth[:2].any():
            grow = np.inf
        low, high = inside.min(0) - grow, inside.max(0) + grow
        both = np.concatenate([seen[ahead], inside])
        low, high = np.maximum(low, both.min(0)), np.minimum(high, both.max(0))
        step = max(1.0, float((high - low).max()) / SEARCH_CELLS)
        columns, rows = (int(n) for n in np.ceil((high - low) / step).astype(int) + 1)
        return _Grid(low, step, columns, rows)

    def draw(
        self, sheet: Sheet, image: np.ndarray, known: np.ndarray, part: np.ndarray, preferred: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Picture (r, c, 3), and which cells are known, hole and preferred, (r, c) bool."""
        import cv2

        y, x = np.mgrid[: self.rows, : self.columns]
        pixels = sheet.to_px(self.low + self.step * np.stack([x, y], -1)) - 0.5
        maps = [np.ascontiguousarray(np.clip(pixels[..., k], -1e4, 1e4), dtype=np.float32) for k in (0, 1)]

        def warp(values: np.ndarray) -> np.ndarray:
            values = values.astype(np.float32)
            if self.step > 1.25:
                values = cv2.GaussianBlur(values, (0, 0), 0.4 * self.step)
            return cv2.remap(values, maps[0], maps[1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=0)

        return warp(image), warp(known) > 0.98, warp(part) > 0.02, warp(preferred) > 0.5


def _compare(
    cells: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray], ring: np.ndarray, grid: _Grid, sheet: Sheet
) -> tuple[np.ndarray, np.ndarray]:
    """For every shift of whole cells (rows and columns as in a Fourier spectrum) its cost, and the part of it that is not about the ring.

    The cost is the squared difference of the rings, of which a constant tone counts little; inf where a patch is not known.
    """
    from scipy.fft import irfft2, next_fast_len, rfft2

    image, good, hole, preferred = cells
    shape = tuple(next_fast_len(2 * int(n), True) or 2 * int(n) for n in good.shape)

    def spectrum(values: np.ndarray) -> np.ndarray:
        return np.asarray(rfft2(values.astype(np.float32), shape))

    def correlation(product: np.ndarray) -> np.ndarray:
        return np.asarray(irfft2(product, shape))

    picture = (image - image[ring].mean(0)) * good[..., None]
    power = (picture**2).sum(-1)
    good_f, ring_f, hole_f = spectrum(good), spectrum(ring).conj(), spectrum(hole).conj()
    count = np.maximum(correlation(ring_f * good_f), 1e-3)
    square_f = spectrum(ring * power).conj() * good_f + ring_f * spectrum(power)
    tone = np.zeros(shape, np.float32)
    for channel in np.moveaxis(picture, -1, 0):
        fixed, moving = spectrum(ring * channel).conj(), spectrum(channel)
        square_f -= 2 * fixed * moving
        tone += (correlation(fixed * good_f - ring_f * moving) / count) ** 2
    cost = correlation(square_f) / count - 0.9 * tone
    spread = float(image[ring].var(0).sum()) + 4.0
    y, x = np.meshgrid(*(np.fft.fftfreq(n, 1 / n) for n in shape), indexing="ij")
    shifts = np.stack([x, y], -1) * grid.step
    rows, columns = np.nonzero(hole)
    middle = grid.low + grid.step * np.array([columns.mean(), rows.mean()])
    growth = sheet.growth(middle, shifts) - 1.0
    # Magnified from afar a patch is blurred; a long way off the light is another.
    penalty = spread * (
        np.where(growth > 0, 1.5, 0.3) * growth**2 + 0.2 * (shifts**2).sum(-1) / (grid.step * max(good.shape)) ** 2
    )
    if not sheet.depth[:2].any():
        # On no known plane, perspective changes the grain's size with the row.
        penalty += spread * (y / good.shape[0]) ** 2
    # Of what may be another surface as little as can be.
    penalty += 0.5 * spread * correlation(hole_f * spectrum(good & ~preferred)) / hole.sum()
    # The ring does not see what else the patch brings along: what differs more than the surroundings do is a thing.
    contrast = correlation(hole_f * spectrum(power)) / hole.sum()
    penalty += 0.5 * np.maximum(contrast - 1.5 * spread, 0.0)
    cost += penalty
    cost[(correlation(hole_f * good_f) / hole.sum() < MIN_SOURCE) | (count < 0.6 * ring.sum())] = np.inf
    return cost, penalty


def _best_cells(cost: np.ndarray, apart: int) -> np.ndarray:
    """Shifts (N, 2) int in cells, x and y, of the lowest costs, best first, some cells apart."""
    cost, shape, out = cost.copy(), cost.shape, []
    for _ in range(CANDIDATES):
        row, column = np.unravel_index(int(cost.argmin()), shape)
        if not np.isfinite(cost[row, column]):
            break
        out.append([int(v) if v < n / 2 else int(v) - n for v, n in ((column, shape[1]), (row, shape[0]))])
        rows, columns = (
            np.arange(row - apart, row + apart + 1) % shape[0],
            np.arange(column - apart, column + apart + 1) % shape[1],
        )
        cost[np.ix_(rows, columns)] = np.inf
    return np.array(out, dtype=int).reshape(-1, 2)


def _place(
    image: np.ndarray, known: np.ndarray, part: np.ndarray, sheet: Sheet, shift: np.ndarray, step: float, reach: int
) -> tuple[np.ndarray, float]:
    """The shift (2,) moved downhill to a fraction of a pixel in the full picture, and its cost."""
    import cv2

    ring = dilate(part, max(4, round(reach * step))) & known & ~part
    rows, columns = np.nonzero(ring)
    thin = slice(None, None, max(1, len(rows) // RING_SAMPLES))
    rows, columns = rows[thin], columns[thin]
    points, here = sheet.from_px(np.stack([columns, rows], -1) + 0.5), image[rows, columns]
    rows, columns = np.nonzero(part)
    thin = slice(None, None, max(1, len(rows) // RING_SAMPLES))
    inner, usable = sheet.from_px(np.stack([columns, rows], -1)[thin] + 0.5), known.astype(np.float32)

    def sample(values: np.ndarray, at: np.ndarray) -> np.ndarray:
        pixels = (sheet.to_px(at) - 0.5).clip(-1e4, 1e4).astype(np.float32)
        # OpenCV wants its maps as pictures.
        return cv2.remap(values, pixels[:, :1], pixels[:, 1:], cv2.INTER_LINEAR)[:, 0]

    def cost_of(at: np.ndarray) -> float:
        ok = sample(usable, points + at) > 0.99
        source = sample(usable, inner + at)
        if ok.mean() < 0.5 or source.mean() < MIN_SOURCE - SOURCE_SLACK:
            return np.inf
        difference = here[ok] - sample(image, points + at)[ok]
        square = ((difference - 0.95 * np.median(difference, axis=0)) ** 2).sum(1)
        # What is left of a shadow at the rim must not lead the patch astray.
        return float(np.minimum(square, 9 * np.median(square) + 1).mean())

    best = np.asarray(shift, dtype=np.float64)
    best_cost = cost_of(best)
    around = np.array([(dx, dy) for dx in (-1, 0, 1) for dy in (-1, 0, 1) if dx or dy], dtype=np.float64)
    while step > FINEST_PX:
        costs = [cost_of(best + step * d) for d in around]
        if min(costs) < best_cost:
            best, best_cost = best + step * around[int(np.argmin(costs))], min(costs)
        else:
            step /= 2
    return best, best_cost
