"""The camera's tilt from the outlines of the things on the table, where straight lines do not tell it.

Most things on a table are nearly upright boxes, cups and cans, or balls. Such shapes are fitted to each outline for every tilt of a grid,
all tilts at once: where the tilt is wrong, the ellipse of a rim is too flat or a box's sides converge the wrong way, and the fit is worse.
A ball fits as well under any tilt and says nothing; neither does a thing that is none of these.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from phototwin.perceive.vanishing import ManhattanFrame, camera_rotation, line_evidence, pitch_roll

DIRECTIONS = 32
WITNESSES = 16.0
"""Directions whose errors are independent: a shadow or a blurred side shifts several at once."""
EDGE_SIGMA_PX = 0.9
MAX_MISFIT_PX, MAX_MISFIT_SHARE = 1.3, 0.01
"""Outlines that no shape meets to the larger of these (the second of their extent) are of something else."""
MOST_EVIDENCE = 8.0
"""What one outline can speak against a tilt, as a logarithm of probability: any one may be something else after all."""
MAX_OBJECTS = 8
PITCHES_DEG, ROLLS_DEG = np.arange(14.0, 89.0, 4.0), np.array([-5.0, 0.0, 5.0])
FINE_PITCHES_DEG, FINE_ROLLS_DEG = np.arange(-4.0, 5.0, 2.0), np.arange(-5.0, 6.0, 2.5)
PITCH_SIGMA_DEG, ROLL_SIGMA_DEG, MOST_PRIOR = 10.0, 3.0, 4.5
"""How far photos of tables are from the assumed tilt and from level, and what this can speak against a tilt at most: some look straight down."""
MOST_FRAME = 6.0
"""What a trusted frame of lines can speak against a tilt at most."""
NEAR_DEG = 9.0
LEAST_SIGMA_DEG = (0.8, 0.8)
"""Errors that stay where masks are good, measured on path-traced scenes; masks and shapes have errors in common."""
WORTH_DEG = 7.0
"""Outlines that leave the pitch less sure than this do not tell it."""
ROUNDS, MAX_STEP, DIFFERENCE = 10, 0.3, 1e-4
YAW_STARTS = 4
BORDER_PX = 2
BOX = np.array([[x, y, z] for z in (0.0, 1.0) for y in (-0.5, 0.5) for x in (-0.5, 0.5)])
ANGLES = 2 * np.pi * np.arange(DIRECTIONS) / DIRECTIONS
WAYS = np.stack([np.cos(ANGLES), np.sin(ANGLES)], -1)


@dataclass(frozen=True, eq=False)
class Tilt:
    """The tilt that outlines tell.

    Attributes:
        angles_rad: Pitch and roll (2,).
        sigma_rad: Their standard deviations (2,).
        used: Number of outlines that had a say.
    """

    angles_rad: np.ndarray
    sigma_rad: np.ndarray
    used: int


def tilt_from_outlines(
    masks: np.ndarray,
    K_px: np.ndarray,
    segments: np.ndarray,
    prior_pitch_deg: float,
    frame: ManhattanFrame | None = None,
) -> Tilt | None:
    """The most probable tilt given outlines, what lines there are, and how people photograph tables; None where outlines do not tell it.

    Args:
        masks: (N, H, W) bool.
        K_px: (3, 3) [px].
        segments: Straight lines (M, 4) [px].
        prior_pitch_deg: Usual pitch.
        frame: A trusted frame of lines, which then takes the place of the usual tilt and of single lines. Outlines correct it, or
            overrule it where they flatly contradict: a few lines that lie askew can look like a frame.
    """
    largest = sorted(masks, key=lambda mask: -int(mask.sum()))[:MAX_OBJECTS]
    outlines = [extents for mask in largest if (extents := outline_extents(mask)) is not None]
    tilts = _pairs(PITCHES_DEG, ROLLS_DEG)
    misfits = [outline_misfit(extents, K_px, tilts) for extents in outlines]
    told = [k for k, misfit in enumerate(misfits) if np.sqrt(misfit.min()) <= _bearable_px(outlines[k])]
    if not told:
        return None
    kept, least = [outlines[k] for k in told], [float(misfits[k].min()) for k in told]

    def cost_of(angles: np.ndarray, seen: list[np.ndarray]) -> np.ndarray:
        known = (
            _usual(angles, prior_pitch_deg) - line_evidence(segments, K_px, angles)
            if frame is None
            else _told(angles, frame)
        )
        return known + _against(seen, least)

    def fine(center: np.ndarray, step: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
        near = center + step * _pairs(FINE_PITCHES_DEG, FINE_ROLLS_DEG)
        return near, cost_of(near, [outline_misfit(extents, K_px, near) for extents in kept])

    cost = cost_of(tilts, [misfits[k] for k in told])
    first = tilts[np.argmin(cost)] if frame is None else np.degrees(pitch_roll(frame.R_world_camera))
    second = tilts[np.argmin(cost + 1e3 * (np.abs(tilts[:, 0] - first[0]) <= NEAR_DEG))]
    around, low = min((fine(first), fine(second)), key=lambda item: item[1].min())
    around, low = fine(around[np.argmin(low)], 1.0 if frame is None else 0.5)
    best, sigma = _peak(around, low)
    # Another answer, far away and nearly as good, is the larger doubt; a cell of the coarse grid is worth four of the fine one.
    far = np.abs(tilts[:, 0] - best[0]) > NEAR_DEG
    share, own = 4 * np.exp(low.min() - cost[far]), np.exp(low.min() - low).sum()
    other = float(share @ (tilts[far, 0] - best[0]) ** 2 / (share.sum() + own))
    sigma = np.hypot(sigma, [np.hypot(LEAST_SIGMA_DEG[0], np.sqrt(other)), LEAST_SIGMA_DEG[1]])
    return Tilt(np.radians(best), np.radians(sigma), len(told)) if sigma[0] < WORTH_DEG else None


def _pairs(pitch_deg: np.ndarray, roll_deg: np.ndarray) -> np.ndarray:
    return np.stack(np.meshgrid(pitch_deg, roll_deg, indexing="ij"), -1).reshape(-1, 2)


def _bearable_px(extents: np.ndarray) -> float:
    half = DIRECTIONS // 2
    return max(MAX_MISFIT_PX, MAX_MISFIT_SHARE * float((extents[:half] + extents[half:]).max()))


def _usual(tilts_deg: np.ndarray, prior_pitch_deg: float) -> np.ndarray:
    """Minus the logarithm of how usual tilts (B, 2) are, (B,)."""
    pitch, roll = tilts_deg.T
    far = np.minimum(((pitch - prior_pitch_deg) / PITCH_SIGMA_DEG) ** 2 / 2, MOST_PRIOR)
    return far + (roll / ROLL_SIGMA_DEG) ** 2 / 2


def _told(tilts_deg: np.ndarray, frame: ManhattanFrame) -> np.ndarray:
    """Minus the logarithm of how well tilts (B, 2) agree with a frame of lines, (B,)."""
    off = (tilts_deg - np.degrees(pitch_roll(frame.R_world_camera))) / np.degrees(frame.sigma_rad)
    return np.minimum((off**2).sum(1) / 2, MOST_FRAME)


def _against(misfits: list[np.ndarray], least: list[float]) -> np.ndarray:
    """Minus the logarithm of how well tilts explain outlines, (B,); an outline's noise is its ``least`` misfit."""
    cost = np.zeros_like(misfits[0])
    for misfit, lowest in zip(misfits, least, strict=True):
        against = (misfit - lowest) * WITNESSES / (2 * max(EDGE_SIGMA_PX**2, lowest))
        cost -= np.logaddexp(-against, -MOST_EVIDENCE)
    return cost


def _peak(tilts_deg: np.ndarray, cost: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean (2,) and standard deviation (2,) of the probability that a grid of costs (B,) stands for [deg]."""
    share = np.exp(-(cost - cost.min()))
    share /= share.sum()
    mean = share @ tilts_deg
    cell = np.array([np.diff(np.unique(tilts_deg[:, axis])).max() for axis in (0, 1)])
    return mean, np.sqrt(share @ (tilts_deg - mean) ** 2 + cell**2 / 12)


def outline_extents(mask: np.ndarray) -> np.ndarray | None:
    """How far a mask (H, W) reaches in each of ``DIRECTIONS`` directions (K,) [px]; None where the image cuts it off or it is tiny."""
    import cv2

    height, width = mask.shape
    contours = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)[0]
    points = np.concatenate([c[:, 0, :] for c in contours]) if contours else np.zeros((0, 2))
    if len(points) < 40 or points.min() < BORDER_PX or (points >= [width - BORDER_PX, height - BORDER_PX]).any():
        return None
    return ((points + 0.5) @ WAYS.T).max(0) + 0.5


def outline_misfit(extents: np.ndarray, K_px: np.ndarray, tilts_deg: np.ndarray) -> np.ndarray:
    """Mean square (soft beyond a pixel) distance (B,) [px^2] of an outline from the nearest box, round vessel or ball, for B tilts."""
    R = np.stack([camera_rotation(*tilt) for tilt in np.radians(tilts_deg)])
    quarter = DIRECTIONS // 4
    right, bottom, left, top = extents[0], extents[quarter], -extents[2 * quarter], -extents[3 * quarter]
    focal, radius, tall = np.sqrt(K_px[0, 0] * K_px[1, 1]), (right - left) / 2, bottom - top
    sine, cosine = np.sin(np.radians(tilts_deg[:, 0])), np.cos(np.radians(tilts_deg[:, 0]))
    upright = np.maximum(tall - 2 * radius * sine, 0.2 * tall) / np.maximum(cosine, 0.2)
    u, v = np.full(len(R), (left + right) / 2), np.maximum(bottom - radius * sine, (top + bottom) / 2)
    wide, high = np.full(len(R), np.log(radius / focal)), np.log(upright / focal)
    starts = [("vessel", np.stack([u, v, wide, high, np.full(len(R), -0.1)], -1))]
    for yaw in np.arange(YAW_STARTS) * np.pi / 2 / YAW_STARTS:
        side = wide + np.log(1.5)
        starts.append(("box", np.stack([u, v, side, side, high, np.full(len(R), yaw)], -1)))
    fits = [_best_fit(kind, start, R, K_px, extents) for kind, start in starts]
    # A ball's outline depends on where it is in the picture alone.
    ball = np.array([[u[0], (top + bottom) / 2, np.log(radius / focal)]])
    return np.minimum(np.min(fits, axis=0), _best_fit("ball", ball, R[:1], K_px, extents))


def _best_fit(kind: str, start: np.ndarray, R: np.ndarray, K_px: np.ndarray, extents: np.ndarray) -> np.ndarray:
    """Robust mean square misfit (B,) [px^2] of the best shapes, by damped Gauss-Newton for all cameras at once."""
    p, damping = start, np.full(len(start), 1e-2)
    scale = np.array([10.0, 10.0, 1.0, 1.0, 1.0, 1.0])[: start.shape[1]]
    residual = _extents(kind, p, R, K_px) - extents
    cost = _soft(residual)
    for _ in range(ROUNDS):
        steps = DIFFERENCE * np.diag(scale)
        J = np.stack([(_extents(kind, p + d, R, K_px) - extents - residual) / DIFFERENCE for d in steps], -1)
        weighted = J / np.sqrt(1 + residual**2)[..., None]
        A = np.swapaxes(weighted, 1, 2) @ J
        A += (damping * (np.trace(A, axis1=1, axis2=2) + 1e-6))[:, None, None] * np.eye(p.shape[1])
        g = (weighted * residual[..., None]).sum(1)
        change = -np.clip(np.linalg.solve(A, g[..., None])[..., 0], -MAX_STEP, MAX_STEP) * scale
        tried = _extents(kind, p + change, R, K_px) - extents
        new = _soft(tried)
        better = new < cost
        p, residual = np.where(better[:, None], p + change, p), np.where(better[:, None], tried, residual)
        cost, damping = np.where(better, new, cost), np.clip(np.where(better, damping / 3, damping * 5), 1e-6, 1e3)
    return cost


def _soft(residual: np.ndarray) -> np.ndarray:
    return 2 * (np.sqrt(1 + residual**2) - 1).mean(1)


def _extents(kind: str, p: np.ndarray, R: np.ndarray, K_px: np.ndarray) -> np.ndarray:
    """Extents (B, K) of shapes seen by cameras 1 above the support.

    Args:
        kind: "box": foot's pixel u, v, logarithms of width, depth and height as shares of its distance, yaw. "vessel": foot, logarithms of
            radius, height and of the foot's radius over the rim's. "ball": its centre's pixel, logarithm of its radius.
        p: Parameters (B, 3..6).
        R: World from camera, (B, 3, 3).
        K_px: (3, 3) [px].
    """
    ray_c = np.stack([(p[:, 0] - K_px[0, 2]) / K_px[0, 0], (p[:, 1] - K_px[1, 2]) / K_px[1, 1], np.ones(len(p))], -1)
    size = np.exp(np.clip(p[:, 2:5], -6, 2))
    if kind == "ball":
        ball = size[:, 0, None, None] ** 2 * np.eye(3) - ray_c[:, :, None] * ray_c[:, None, :]
        return _conic_extents(K_px @ ball @ K_px.T)
    ray_w = np.einsum("bij,bj->bi", R, ray_c)
    reach = -1 / np.minimum(ray_w[:, 2:], -0.02)
    foot_c, size = ray_c * reach, size * reach
    x_c, y_c, up_c = np.moveaxis(R, 1, 0)  # the world's axes in camera coordinates
    if kind == "vessel":
        ratio = np.exp(np.clip(p[:, 4:5], -1.5, 1.5))
        rim = _disc_extents(foot_c + size[:, 1:2] * up_c, size[:, :1], x_c, y_c, K_px)
        return np.maximum(rim, _disc_extents(foot_c, size[:, :1] * ratio, x_c, y_c, K_px))
    c, s = np.cos(p[:, 5:]), np.sin(p[:, 5:])
    axes = np.stack([size[:, :1] * (c * x_c + s * y_c), size[:, 1:2] * (c * y_c - s * x_c), size[:, 2:3] * up_c], 1)
    points_c = BOX @ axes + foot_c[:, None]
    pixels = points_c[..., :2] / np.maximum(points_c[..., 2:], 1e-3) * [K_px[0, 0], K_px[1, 1]] + K_px[:2, 2]
    return (pixels @ WAYS.T).max(1)


def _disc_extents(
    center_c: np.ndarray, radius: np.ndarray, x_c: np.ndarray, y_c: np.ndarray, K_px: np.ndarray
) -> np.ndarray:
    H = K_px @ np.stack([radius * x_c, radius * y_c, center_c], -1)
    return _conic_extents(H * [1.0, 1.0, -1.0] @ np.swapaxes(H, 1, 2))


def _conic_extents(C: np.ndarray) -> np.ndarray:
    """Extents (B, K) of ellipses given by dual conics (B, 3, 3): the lines (n, -h) with (n, -h) C (n, -h)^T = 0 touch them.

    Source: Hartley and Zisserman (2004), "Multiple View Geometry", 2.2.3 and 8.3.
    """
    along, square = WAYS @ C[:, :2, 2, None], np.einsum("ki,bij,kj->bk", WAYS, C[:, :2, :2], WAYS)
    last = np.minimum(C[:, 2, 2], -1e-9)[:, None]  # negative while the thing is in front of the camera
    return (along[..., 0] - np.sqrt(np.maximum(along[..., 0] ** 2 - last * square, 0))) / last
