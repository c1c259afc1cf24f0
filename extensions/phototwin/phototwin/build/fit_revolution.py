"""Surfaces of revolution: vessels, bottles, plates; with the handle or spout that sticks out of them."""

from __future__ import annotations

import numpy as np

from phototwin.build import shapes
from phototwin.build.fit_solids import (
    POINT_SIGMA_M,
    Candidate,
    cavity_look,
    first_guess,
    rim_edge,
    solve,
    some_points,
)
from phototwin.build.fit_view import MIN_POINTS, View, convex_outline, polygon_distance
from phototwin.frames import make_T, rotation_z

ARC = 2 * np.pi * np.arange(24) / 24
CIRCLE = np.stack([np.cos(ARC), np.sin(ARC)], -1) / np.sqrt(
    np.cos(np.pi / 24)
)  # between the inner and the outer polygon
STATIONS = 10  # radii along the height
SMOOTH_M = 0.004  # second difference of the radii that counts as one sigma
CONE_HEIGHTS, CONE_FEET = (0.25, 0.4, 0.6, 0.9, 1.4, 2.2), (0.35, 0.55, 0.8, 1.0)
TALL_SIGMA_M = 0.004  # the rim's last pixels are often without depth, so the contour may raise the top
CAVITY_M, CAVITY_SHARE = (
    0.004,
    0.06,
)  # points this far below the surface, also as a share of the radius, are in a cavity
RIM_SHOWN = 0.6  # share of the near rim with an edge in the photo
OUTSIDE_M = 0.007  # points further out than this are a handle or a spout
INNER_COS = 0.25  # normals that face the axis more than this are on an inner wall
WALL_M = 0.004  # of a vessel whose wall's two sides are not both seen
DOUBT = 1.2  # heights that differ more are told to the user
FLARE = 1.12  # mouth over foot of what widens upward
TAPER = 1.04  # mouth over foot from which on a belly may hide a smaller foot
STRAIGHT = 0.95  # mouth over the widest radius: cans and bottles narrow to their lids, cups do not
USUAL_FOOT = 0.6  # foot over mouth of a bowl whose foot its own belly hides
LEAST_FOOT = 0.35  # on a smaller foot it would tip over
LIFT_STEP, MAX_LIFT = 1.08, 2.2  # heights that are tried, as shares of the lowest
LIFT_SLACK = 0.15  # a taller reading may explain the contour worse by this share of its cost
MIN_WALL_M, MAX_WALL_SHARE = 0.0025, 0.25


def fit_revolution(view: View, cylinder: np.ndarray) -> list[Candidate]:
    """Solid and, where it can be one, hollow revolution; ``cylinder`` holds x, y, radius, height to start from."""
    with_depth = len(view.points_w) >= MIN_POINTS
    tall = max(first_guess(view)[2], 0.004) if with_depth else float(cylinder[3])
    points, normals = _even_points(view)
    center = _axis(points, normals, cylinder[:2], float(cylinder[2])) if with_depth else cylinder[:2]
    heights = np.linspace(0.0, 1.0, STATIONS)
    start = np.concatenate([center, np.full(STATIONS, cylinder[2]), [tall, WALL_M]])
    if with_depth:
        start[2:-2] = _radii_by_height(points, center, view.base_z, tall, float(cylinder[2]))
        starts = [start]
    else:
        starts = [start, *_cone_starts(view, heights)]
    chosen = view.body_contour
    p = min((_solve_profile(view, s, points, normals, chosen, heights) for s in starts), key=lambda item: item[1])[0]
    rho = np.linalg.norm(points[:, :2] - p[:2], axis=1)
    keep = rho < np.interp(points[:, 2] - view.base_z, heights * p[-2], p[2:-2]) + OUTSIDE_M
    if not keep.all():
        p = _solve_profile(view, p, points[keep], normals[keep], chosen, heights)[0]
    return _candidates(view, p, heights, points, normals)


def _cone_starts(view: View, heights: np.ndarray) -> list[np.ndarray]:
    """The two cones, of a grid over height and foot, whose contours lie closest: where a silhouette fit can start."""
    _, width, _ = first_guess(view)
    found = []
    for share in CONE_HEIGHTS:
        for foot in CONE_FEET:
            radii = width / 2 * (foot + (1 - foot) * heights)
            center = view.foot_w[:2] + view.ahead_w[:2] * radii[0]
            p = np.concatenate([center, radii, [share * width, WALL_M]])
            miss = revolution_contour(view, p, heights, view.body_contour)
            found.append((float(np.sum(np.sqrt(1 + miss**2) - 1)), p))
    found.sort(key=lambda item: item[0])
    return [p for _, p in found[:2]]


def _even_points(view: View) -> tuple[np.ndarray, np.ndarray]:
    points = some_points(view, 500)
    if not len(points):
        return points, points
    pick = np.linspace(0, len(view.points_w) - 1, min(500, len(view.points_w))).astype(int)
    return points, view.normals_w[pick]


def _axis(points: np.ndarray, normals: np.ndarray, guess: np.ndarray, radius: float) -> np.ndarray:
    """Where the axis stands (2,): every normal's line meets it. Source: n_x (p_y - c_y) - n_y (p_x - c_x) = 0, reweighted."""
    center = guess.copy()
    flat = np.linalg.norm(normals[:, :2], axis=1)
    A = np.stack([-normals[:, 1], normals[:, 0]], -1)
    b = A[:, 0] * points[:, 0] + A[:, 1] * points[:, 1]
    weight = flat.copy()
    for _ in range(12):
        M = A.T @ (A * weight[:, None]) + 1e-4 * len(points) * np.eye(2)
        center = np.linalg.solve(M, A.T @ (b * weight) + 1e-4 * len(points) * guess)
        miss = np.abs(A @ center - b) / np.maximum(flat, 1e-3)
        weight = flat / (1 + (miss / 0.006) ** 2)
    return center if np.linalg.norm(center - guess) < radius else guess


def _radii_by_height(points: np.ndarray, center: np.ndarray, base_z: float, tall: float, radius: float) -> np.ndarray:
    """Outer radius at each station (STATIONS,): the median of the points under 1.12 x the 35th percentile, which handles do not reach."""
    rho = np.linalg.norm(points[:, :2] - center, axis=1)
    level = np.clip((points[:, 2] - base_z) / tall * (STATIONS - 1), 0, STATIONS - 1).round().astype(int)
    out = np.full(STATIONS, np.nan)
    for k in range(STATIONS):
        here = rho[level == k]
        if len(here) >= 5:
            out[k] = np.median(here[here <= 1.12 * np.percentile(here, 35) + 1e-6])
    known = np.flatnonzero(np.isfinite(out))
    return np.interp(np.arange(STATIONS), known, out[known]) if len(known) else np.full(STATIONS, radius)


def _solve_profile(
    view: View, start: np.ndarray, points: np.ndarray, normals: np.ndarray, chosen: np.ndarray, heights: np.ndarray
) -> tuple[np.ndarray, float]:
    """Refine x, y, radii (STATIONS,), height, wall; without points the wall stays as it is; with the cost."""
    radius = float(np.median(start[2:-2]))
    scale = np.concatenate([[radius, radius], np.full(STATIONS, radius), [start[-2], 2 * WALL_M]])

    def residuals(p: np.ndarray) -> np.ndarray:
        radii, tall, wall = p[2:-2], p[-2], p[-1]
        smooth = max(SMOOTH_M, 0.06 * radius)
        parts = [
            revolution_contour(view, p, heights, chosen),
            np.diff(radii, 2) / smooth,
            np.minimum(radii - 0.1 * radius, 0) / 0.001,
            [(wall - WALL_M) / WALL_M],
        ]
        if len(points):
            out = points[:, :2] - p[:2]
            rho = np.linalg.norm(out, axis=1)
            facing = np.einsum("ij,ij->i", normals[:, :2], out) / np.maximum(rho, 1e-6)
            outer = np.interp(points[:, 2] - view.base_z, heights * tall, radii)
            miss = np.where(facing < 0, rho - (outer - wall), rho - outer) * np.abs(facing)
            parts += [miss / POINT_SIGMA_M, [(tall - start[-2]) / TALL_SIGMA_M]]
        return np.concatenate(parts)

    return solve(residuals, start, scale, 15)


def revolution_contour(view: View, p: np.ndarray, heights: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Contour residuals (N,) of a surface of revolution: distance to the nearest of its slices, each of which is convex."""
    radii, tall = np.maximum(p[2:-2], 1e-3), p[-2]
    rings = np.zeros((STATIONS, len(CIRCLE), 3))
    rings[..., :2] = radii[:, None, None] * CIRCLE + p[:2]
    rings[..., 2] = (view.base_z + heights * tall)[:, None]
    pixels = view.project(rings.reshape(-1, 3)).reshape(STATIONS, len(CIRCLE), 2)
    border = view.contour_px[chosen]
    distance = np.full(len(border), 1e3)
    for k in range(STATIONS - 1):
        outline = convex_outline(np.concatenate([pixels[k], pixels[k + 1]]))
        distance = np.minimum(distance, polygon_distance(border, outline))
    return distance + 0.5


def _candidates(
    view: View, p: np.ndarray, heights: np.ndarray, points: np.ndarray, normals: np.ndarray
) -> list[Candidate]:
    from phototwin.build.fit_extra import fit_appendages

    radii, tall = np.maximum(p[2:-2], 1e-3), float(p[-2])
    T = make_T(np.eye(3), np.array([p[0], p[1], view.base_z]))
    levels = heights * tall
    extras, extra_note = fit_appendages(view, T, radii, levels)
    turn = _toward(extras)
    T, extras = T @ make_T(turn, np.zeros(3)), [shapes.turned(extra, turn.T) for extra in extras]
    cost = 0.03 + 0.02 * len(extras)
    out = [
        Candidate("revolution", False, T, shapes.merge([shapes.revolution(radii, levels), *extras]), cost, extra_note)
    ]
    wall, floor, note = _cavity(view, p, points, normals, bool(extras))
    if wall is None:
        return out
    if not len(points) and _foot_width(p) * TAPER < float(p[-3]):
        p, tallest = _usual_height(view, p, heights)
        T, radii, levels = make_T(turn, np.array([p[0], p[1], view.base_z])), p[2:-2], heights * p[-2]
        floor *= float(p[-2]) / tall
        if tallest > DOUBT * tall:
            note += f", its foot is hidden: {1000 * tall:.0f} to {1000 * tallest:.0f} mm tall would look the same"
    if len(points):
        radii = _with_foot(view, p, radii, levels, floor, points, normals)
    hollow = shapes.merge([shapes.vessel(radii, levels, wall, floor), *extras])
    out.append(
        Candidate(
            "revolution",
            True,
            T,
            hollow,
            cost + (0.01 if len(points) else -0.005),
            f"{note}{', ' + extra_note if extra_note else ''}",
        )
    )
    return out


def _toward(extras: list[shapes.Solid]) -> np.ndarray:
    """Rotation (3, 3) about Z whose X axis points at the first of the parts that stick out: a mug's length is along its handle."""
    if not extras:
        return np.eye(3)
    x, y = extras[0].points[:, :2].mean(axis=0)
    return rotation_z(float(np.arctan2(y, x)))


def _flares(p: np.ndarray) -> bool:
    return float(p[-3]) > FLARE * _foot_width(p)


def _foot_width(p: np.ndarray) -> float:
    return float(p[2:5].mean())


def _usual_height(view: View, p: np.ndarray, heights: np.ndarray) -> tuple[np.ndarray, float]:
    """The profile with the most usual foot among those with the same outline, and the largest height of them [m].

    A bowl seen from above hides its foot: a lower, wider one further away has nearly the same outline. The rim is moved along
    its rays step by step, the rest follows.
    """
    best, best_foot, tallest, q, first = p, _foot_share(p), float(p[-2]), p, None
    while (
        q[-2] * LIFT_STEP < min(MAX_LIFT * p[-2], 0.8 * (view.camera_w[2] - view.base_z))
        and _foot_share(q) > LEAST_FOOT
    ):
        if first is None:
            first = _at_height(view, q, heights, float(q[-2]))[1]
        tall = float(q[-2]) * LIFT_STEP
        nearer = (view.camera_w[2] - view.base_z - tall) / (view.camera_w[2] - view.base_z - q[-2])
        start = np.concatenate(
            [view.camera_w[:2] + (q[:2] - view.camera_w[:2]) * nearer, q[2:-2] * nearer, [tall, q[-1]]]
        )
        q, cost = _at_height(view, start, heights, tall)
        if cost > (1 + LIFT_SLACK) * first or q[-3] < STRAIGHT * q[2:-2].max():
            break
        tallest = tall
        if abs(_foot_share(q) - USUAL_FOOT) < abs(best_foot - USUAL_FOOT):
            best, best_foot = q, _foot_share(q)
    return best, tallest


def _foot_share(p: np.ndarray) -> float:
    return float(p[2] / p[-3])


def _at_height(view: View, p: np.ndarray, heights: np.ndarray, tall: float) -> tuple[np.ndarray, float]:
    """``_solve_profile`` without points and with the height held."""
    radius = float(np.median(p[2:-2]))

    def full(q: np.ndarray) -> np.ndarray:
        return np.concatenate([q[:2], np.maximum(q[2:], 1e-3), [tall, p[-1]]])

    def residuals(q: np.ndarray) -> np.ndarray:
        smooth = np.diff(q[2:], 2) / max(SMOOTH_M, 0.06 * radius)
        low = np.minimum(q[2:] - 0.1 * radius, 0) / 0.001
        return np.concatenate([revolution_contour(view, full(q), heights, view.body_contour), smooth, low])

    q, cost = solve(residuals, p[:-2], np.full(len(p) - 2, radius), 12)
    return full(q), cost


def _with_foot(
    view: View,
    p: np.ndarray,
    radii: np.ndarray,
    levels: np.ndarray,
    floor: float,
    points: np.ndarray,
    normals: np.ndarray,
) -> np.ndarray:
    """Radii with a foot as wide as the inner floor where no outer point was seen that low: a plate stands, on no tip."""
    out = points[:, :2] - p[:2]
    outside = np.einsum("ij,ij->i", normals[:, :2], out) > 0.3 * np.linalg.norm(out, axis=1)
    if np.sum(outside & (points[:, 2] - view.base_z < max(floor, 0.25 * float(levels[-1])))) >= 5:
        return radii
    return np.where(levels < floor, np.maximum(radii, np.interp(floor, levels, radii)), radii)


def _cavity(
    view: View, p: np.ndarray, points: np.ndarray, normals: np.ndarray, has_handle: bool
) -> tuple[float | None, float, str]:
    """Wall thickness, height of the inner floor and what they rest on; wall None where nothing speaks for a cavity."""
    radii, tall = p[2:-2], float(p[-2])
    mouth = float(radii[-1])
    wall = float(np.clip(p[-1], MIN_WALL_M, MAX_WALL_SHARE * mouth))
    floor = max(1.2 * wall, 0.03 * tall)
    if not len(points):
        shaded = mouth > STRAIGHT * float(radii.max()) and cavity_look(view, p[:2], mouth, tall) > 0.5
        signs = ((_flares(p), "widens upward"), (has_handle, "a handle"), (shaded, "is lit inside it as a cavity"))
        shown = " and ".join(words for sign, words in signs if sign)
        if shown and (rim_edge(view, p[:2], mouth, tall) or 0.0) > RIM_SHOWN and tall < 4 * mouth:
            return wall, floor, f"open because it has a rim and {shown}"
        return None, floor, ""
    rho = np.linalg.norm(points[:, :2] - p[:2], axis=1)
    z = points[:, 2] - view.base_z
    levels = np.linspace(0, tall, STATIONS)
    slope = np.interp(z, levels, np.gradient(radii, levels))
    below = (np.interp(z, levels, radii) - rho) / np.sqrt(1 + slope**2)
    inside = (below > max(0.6 * wall, CAVITY_M, CAVITY_SHARE * mouth)) & (z < 0.9 * tall)
    level = inside & (normals[:, 2] > 0.85) & (rho < 0.6 * mouth)
    if level.sum() >= 8:
        floor = float(np.clip(np.percentile(z[level], 20), 0.3 * wall, 0.9 * tall))
    if inside.sum() < max(6, 0.02 * len(points)) or mouth < 0.35 * radii.max():
        return None, floor, ""
    return wall, floor, "points inside the rim"
