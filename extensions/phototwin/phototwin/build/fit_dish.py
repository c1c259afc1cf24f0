"""Open, shallow things whose inside is measured from above: plates, trays and bowls, round or rectangular."""

from __future__ import annotations

import numpy as np

from phototwin.build import shapes
from phototwin.build.fit_solids import Candidate, contour_residuals, solve
from phototwin.build.fit_view import MIN_POINTS, View
from phototwin.frames import make_T, rotation_z

RINGS = 14  # of the measured profile
LEAST_DEPTH_M, LEAST_DEPTH_SHARE = 0.005, 0.15  # a rim that is less higher than the middle is that of a slab
UPWARD = 0.3  # normals that rise more are on the inside
THICK_SHARE, THICK_M = 0.018, (0.003, 0.012)  # of a plate over its width, where its underside is not seen
FLOOR_SHARE, FLOOR_M = 0.2, 0.002  # of the depth: what is lower than that belongs to the floor
SQUARE = (2.5, 5.0, 10.0)  # exponents of the outline |x/a|^n + |y/b|^n = 1 that are tried; 2 is an ellipse
SQUARE_GAIN = 0.75  # share of a circle's cost that a rectangle must get below
ROUND_COST, SQUARE_COST = 0.02, 0.03
FOOT_GAP = 2.2  # floors higher than this many thicknesses stand on a ring
PLATE_SHARE, PLATE_FOOT = 0.1, 0.6  # height and foot over width of usual plates
PLATE_RADIUS_M = (0.06, 0.2)
FLAT_SHARE = 0.05  # height over width below which a disc seen by its silhouette may be a plate
STEEP, STEEP_FLAT_SHARE = 0.94, 0.15  # sine of looking down from which a silhouette hardly tells heights
PLATE_COST = -0.01  # plates are much more usual than flat discs of that width
FOOT_SPREAD = 0.6  # foot over mouth while the outline is fitted


def fit_dish(view: View) -> list[Candidate]:
    """The dish with the measured inside, or nothing where no inside is measured.

    Its outline is a circle or a rounded rectangle at the height of the rim; its inside is the median height over rings of that
    outline; its underside lies one thickness below, on a foot as wide as the floor.
    """
    if len(view.points_w) < MIN_POINTS:
        return []
    inner = view.points_w[view.normals_w[:, 2] > UPWARD]
    if len(inner) < MIN_POINTS or len(inner) < 0.4 * len(view.points_w):
        return []
    rim = float(np.percentile(view.points_w[:, 2], 98)) - view.base_z
    if view.camera_w[2] < view.base_z + 1.2 * rim:
        return []
    p, exponent = _outline(view, rim)
    ring = _share(inner, p, exponent)
    profile = _profile(ring, inner[:, 2] - view.base_z, rim)
    middle = float(np.median(profile[:3]))
    deep = rim - middle
    if deep < max(LEAST_DEPTH_M, LEAST_DEPTH_SHARE * rim):
        return []
    width = 2 * float(np.exp(p[3:5]).min())
    thick = float(np.clip(THICK_SHARE * width, *THICK_M))
    levels = (np.arange(RINGS) + 0.5) / RINGS
    low = np.flatnonzero(profile <= middle + max(FLOOR_SHARE * deep, FLOOR_M))
    floor = float(np.clip(levels[low.max()], 0.3, 0.85))
    keep = levels > floor
    stations = np.concatenate([[floor], levels[keep][:-1], [1.0]])
    heights = np.concatenate([[middle], np.maximum.accumulate(np.maximum(profile[keep][:-1], middle)), [rim]])
    outline = _unit(exponent, 48) * np.exp(p[3:5])
    solid = shapes.dish(outline, stations, heights, thick, middle > FOOT_GAP * thick)
    T = make_T(rotation_z(p[2]), np.array([p[0], p[1], view.base_z]))
    square = exponent > 2
    note = f"its inside is measured, {1000 * thick:.0f} mm thick by its width"
    return [Candidate("mesh" if square else "revolution", True, T, solid, SQUARE_COST if square else ROUND_COST, note)]


def usual_plate(view: View, cylinder: np.ndarray) -> list[Candidate]:
    """A plate of usual height for a flat disc that only its silhouette tells: a rim hides the foot, and few discs lie flat.

    Args:
        view: The evidence; nothing is returned where it holds depth.
        cylinder: x, y, radius, height of the upright cylinder that fits best [m].
    """
    x, y, radius, tall = (float(v) for v in cylinder)
    flat = STEEP_FLAT_SHARE if -view.T_camera_world[2, 2] > STEEP else FLAT_SHARE
    if len(view.points_w) or tall > flat * 2 * radius or not PLATE_RADIUS_M[0] < radius < PLATE_RADIUS_M[1]:
        return []
    rim = PLATE_SHARE * 2 * radius
    nearer = (view.camera_w[2] - rim) / (view.camera_w[2] - tall)  # the same rim, higher on its rays
    center = view.camera_w[:2] + (np.array([x, y]) - view.camera_w[:2]) * nearer
    thick = float(np.clip(THICK_SHARE * 2 * radius, *THICK_M))
    stations = np.linspace(PLATE_FOOT, 1.0, 6)
    heights = thick + (rim - thick) * np.linspace(0, 1, 6) ** 1.5
    solid = shapes.dish(_unit(2.0, 48) * radius * nearer, stations, heights, thick, False)
    T = make_T(np.eye(3), np.array([*center, 0.0]))
    return [
        Candidate("revolution", True, T, solid, PLATE_COST, "a plate of usual height: its rim hides how high it is")
    ]


def _unit(exponent: float, count: int) -> np.ndarray:
    """Corners (count, 2) of the curve |x|^n + |y|^n = 1, counter-clockwise."""
    angle = 2 * np.pi * np.arange(count) / count
    circle = np.stack([np.cos(angle), np.sin(angle)], -1)
    return np.sign(circle) * np.abs(circle) ** (2 / exponent)


def _share(points_w: np.ndarray, p: np.ndarray, exponent: float) -> np.ndarray:
    """Where points (N, 3) lie between the middle, 0, and the outline, 1."""
    local = np.abs((points_w[:, :2] - p[:2]) @ rotation_z(p[2])[:2, :2]) / np.exp(p[3:5])
    return (local**exponent).sum(axis=1) ** (1 / exponent)


def _outline(view: View, rim: float) -> tuple[np.ndarray, float]:
    """Centre, yaw and logarithms of the half axes (5,) of the rim, and its exponent."""
    rays = np.linalg.solve(view.K_px, np.append(view.contour_px, np.ones((len(view.contour_px), 1)), 1).T).T
    rays = rays @ view.T_camera_world[:3, :3]
    down = np.minimum(rays[:, 2], -1e-3)
    border = view.camera_w[:2] + rays[:, :2] * ((view.base_z + rim - view.camera_w[2]) / down)[:, None]
    center, radius = np.median(border, axis=0), 0.0
    for _ in range(3):
        radius = float(np.median(np.linalg.norm(border - center, axis=1)))
        center = (border.min(axis=0) + border.max(axis=0)) / 2

    def residuals(q: np.ndarray, exponent: float) -> np.ndarray:
        ring = (_unit(exponent, 32) * np.exp(np.clip(q[3:5], -9, 3))) @ rotation_z(q[2])[:2, :2].T
        top = np.concatenate([ring + q[:2], np.full((len(ring), 1), view.base_z + rim)], 1)
        foot = np.concatenate([FOOT_SPREAD * ring + q[:2], np.full((len(ring), 1), view.base_z)], 1)
        return contour_residuals(view, np.concatenate([top, foot]))

    scale = np.array([radius, radius, 0.3, 1.0, 1.0])

    def circle(q: np.ndarray) -> np.ndarray:
        return residuals(np.array([q[0], q[1], 0.0, q[2], q[2]]), 2.0)

    c, round_cost = solve(circle, np.array([*center, np.log(radius)]), np.array([radius, radius, 1.0]))
    best, best_cost, best_exponent = np.array([c[0], c[1], 0.0, c[2], c[2]]), SQUARE_GAIN * round_cost, 2.0
    turn = _rectangle_turn(border)
    half = np.ptp((border - center) @ rotation_z(turn)[:2, :2], axis=0) / 2
    start = np.array([*center, turn, *np.log(np.maximum(half, 1e-3))])
    for exponent in SQUARE:
        q, cost = solve(lambda q, n=exponent: residuals(q, n), start, scale, 15)
        if cost < best_cost:
            best, best_cost, best_exponent = q, cost, exponent
    return best, best_exponent


def _rectangle_turn(border: np.ndarray) -> float:
    """Angle of the smallest rectangle around points (N, 2) [rad]."""
    import cv2

    return float(np.radians(cv2.minAreaRect(border.astype(np.float32))[2]))


def _profile(ring: np.ndarray, heights: np.ndarray, rim: float) -> np.ndarray:
    """Median height in each ring (RINGS,), the last one the rim's."""
    level = np.clip((ring * RINGS).astype(int), 0, RINGS - 1)
    out = np.full(RINGS, np.nan)
    for k in range(RINGS):
        here = heights[(level == k) & (ring < 1.05)]
        if len(here) >= 3:
            out[k] = np.median(here)
    out[-1] = rim
    known = np.flatnonzero(np.isfinite(out))
    return np.interp(np.arange(RINGS), known, out[known])
