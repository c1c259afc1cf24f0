"""Box, upright cylinder and ball by least squares on the contour's distance, the measured points, or both."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from phototwin.build import shapes
from phototwin.build.fit_view import LOW_M, MIN_POINTS, View, convex_outline, polygon_distance
from phototwin.frames import make_T, rotation_z

CONTOUR_SIGMA_PX = 1.0  # masks are right to about a pixel; larger errors count linearly (soft L1)
POINT_SIGMA_M = 0.0025  # noise of a depth sensor at table distance
EDGE_WEIGHT = 0.5  # of one inner-edge sample against one contour point
YAW_STARTS = 24
YAW_KEPT = 4
EDGE_NEUTRAL = 0.7  # misfit of an edge that the model hides: neither praise nor blame
PRIOR_WEIGHT = 0.25  # pulls a box towards a cube only where nothing else decides
LEAN_SIGMA_RAD = 0.02  # things stand upright to about a degree
LEAN_SHOWN_DEG = 1.0
BORDER_PX = 2.0  # a mask's border as a whole lies at most that far inside a sharp-edged box's
BEVEL_SHARE = 1.4  # a bevel draws the outline in by this part of its size and less
MAX_BEVEL_M, MAX_BEVEL_SHARE = 0.003, 0.1
HEIGHT_STARTS = (0.5, 0.65, 0.8, 1.2)  # of the height that the contour alone prefers
BOX_COST, CYLINDER_COST = 0.012, 0.006  # a ball has fewer freedoms and costs nothing
MISSING_RIM_COST = 0.06  # of a cylinder whose top has no edge towards the camera
SHADED_LID_COST = 0.04  # of a cylinder whose top is lit as only the inside of a vessel is
HANDLE_SHIFT = 0.13  # of the outline's width: how far a handle moves its middle
BESIDE_SHARE = 0.05  # of the object's size in pixels: border points further out may be a handle's
BESIDE_GAIN, LEAST_OWN, ONE_SIDED = 0.35, 0.6, 0.8  # of the plain cylinder's loss to get below; of the contour to keep
EVEN_TONE, HOLLOW_TONE = 0.10, 0.20  # spread of the logarithm of light over a flat lid at most, in a cavity at least
MISSING_EDGE_COST = 0.2  # of a box whose inner edges the photo does not show
LID_SHARE, MIN_LID_PX = 0.85, 6.0  # of the radius that is looked at: rims are bright; too few pixels say nothing
ARC = 2 * np.pi * np.arange(36) / 36
CIRCLE = np.stack([np.cos(ARC), np.sin(ARC)], -1)


@dataclass(frozen=True, eq=False)
class Candidate:
    """One way to explain an object.

    Attributes:
        shape: One of ``scene.OBJECT_SHAPES``.
        hollow: Open vessel.
        T_world_fit: Pose of the fit frame (4, 4) [m].
        solid: Surface and pieces in the fit frame.
        complexity: What the shape must pay for its freedom, in units of the score.
        note: A few words about it.
    """

    shape: str
    hollow: bool
    T_world_fit: np.ndarray
    solid: shapes.Solid
    complexity: float
    note: str = ""


def solve(
    residuals: Callable[[np.ndarray], np.ndarray], start: np.ndarray, scale: np.ndarray, evaluations: int = 40
) -> tuple[np.ndarray, float]:
    """Robust least squares from ``start`` with steps measured in ``scale``; returns the parameters and half the soft-L1 cost."""
    from scipy.optimize import least_squares

    result = least_squares(
        lambda q: residuals(start + (q - 1.0) * scale),
        np.ones(len(start)),
        loss="soft_l1",
        diff_step=1e-5,
        max_nfev=evaluations,
        xtol=1e-5,
        ftol=1e-5,
    )
    return start + (result.x - 1.0) * scale, float(result.cost)


def contour_residuals(view: View, hull_points_w: np.ndarray, chosen: np.ndarray | slice = slice(None)) -> np.ndarray:
    """Distance of the mask's border to a convex silhouette in units of its noise; border pixels lie half a pixel inside."""
    outline = convex_outline(view.project(hull_points_w))
    distance = polygon_distance(view.contour_px[chosen], outline) + 0.5
    return np.clip(distance, -1e3, 1e3) / CONTOUR_SIGMA_PX


def some_points(view: View, count: int = 350) -> np.ndarray:
    """At most ``count`` of the measured points, evenly picked."""
    if len(view.points_w) < MIN_POINTS:
        return view.points_w[:0]
    return view.points_w[np.linspace(0, len(view.points_w) - 1, min(count, len(view.points_w))).astype(int)]


def first_guess(view: View) -> tuple[np.ndarray, float, float]:
    """Centre on the support (2,), width and height [m] of an upright thing that fills the mask."""
    if len(view.points_w) >= MIN_POINTS:
        low, high = np.percentile(view.points_w[:, :2], [3, 97], axis=0)
        width = max(float(np.linalg.norm(high - low) / np.sqrt(2)), 2 * LOW_M)
        return (low + high) / 2, width, max(float(np.percentile(view.points_w[:, 2], 99)) - view.base_z, LOW_M)
    v, u = np.nonzero(view.mask)
    up_c = view.T_camera_world[:3, 2]
    up_px = np.array([up_c[0], up_c[1]]) / max(np.hypot(up_c[0], up_c[1]), 1e-6)
    along = np.stack([u, v], -1) @ up_px
    across = np.stack([u, v], -1) @ np.array([-up_px[1], up_px[0]])
    width = float(np.subtract(*np.percentile(across, [99, 1]))) * view.px_m
    extent = float(np.subtract(*np.percentile(along, [99.8, 0.2]))) * view.px_m
    sine = float(np.clip(view.T_camera_world[2, 2] * -1.0, 0.0, 1.0))  # of the angle at which the camera looks down
    height = (extent - 0.8 * width * sine) / max(np.sqrt(1 - sine**2), 0.2)
    height = float(np.clip(height, 0.25 * width, 6 * width))
    return view.foot_w[:2] + view.ahead_w[:2] * width / 2, width, height


def fit_box(view: View) -> Candidate:
    """The upright box that explains contour, points and the edges inside the contour; 24 yaw starts."""
    center, width, height = first_guess(view)
    points = some_points(view)
    scale = np.array([width, width, 0.3, 1.0, 1.0, 1.0])
    starts = []
    for start in _measured_boxes(view) if len(points) else _turned_boxes(center, width, height):
        starts.append((float(np.sum(np.abs(_box_residuals(view, start, points, False)))), start))
    starts.sort(key=lambda item: item[0])
    few = 2 if len(points) else 1  # depth leaves less doubt
    rough = [
        solve(lambda p: _box_residuals(view, p, points, False), start, scale, 8)
        for _, start in starts[: YAW_STARTS // 3 // few]
    ]
    rough.sort(key=lambda item: item[1])
    fine = [
        solve(lambda p: _box_residuals(view, p, points, True), start, scale) for start, _ in rough[: YAW_KEPT // few]
    ]
    if view.edge is not None and not len(points):
        fine += _other_heights(view, min(fine, key=lambda item: item[1])[0], scale)
    p, _ = min(fine, key=lambda item: item[1])
    note, bevel = "", 0.0
    if len(points):
        p, border, note = _settled(view, p, points, scale)
        bevel = border * view.px_m * BEVEL_SHARE
    size = np.exp(p[3:])
    T = make_T(rotation_z(p[2]), np.array([p[0], p[1], view.base_z]))
    cost = BOX_COST
    if view.edge is not None and not len(points):
        shown = _inner_edge_misfit(view, _box_corners(view, p))
        shown = shown[shown != EDGE_NEUTRAL]
        cost += MISSING_EDGE_COST * max(float(shown.mean()) - 0.5, 0.0) if len(shown) else 0.0
    bevel = float(np.clip(bevel, 0.0, min(MAX_BEVEL_M, MAX_BEVEL_SHARE * float(size.min()))))
    return Candidate("box", False, T, shapes.box(size, bevel), cost, note)


def _turned_boxes(center: np.ndarray, width: float, height: float) -> list[np.ndarray]:
    """The same box in all directions."""
    size = np.log([0.75 * width, 0.75 * width, height])
    return [np.array([*center, yaw, *size]) for yaw in np.arange(YAW_STARTS) * (np.pi / 2 / YAW_STARTS)]


def _measured_boxes(view: View) -> list[np.ndarray]:
    """Boxes around the measured points, along their upright faces and in a few other directions.

    Where only one face is seen the points do not say how deep the box is, so some go on behind them.
    """
    level = view.normals_w[:, 0] + 1j * view.normals_w[:, 1]
    faces = level[np.abs(view.normals_w[:, 2]) < 0.5]
    turns = list(np.arange(6) * (np.pi / 12))
    if len(faces) >= 8:  # four directions of one box are one: angles times four
        turns.insert(0, float(np.angle(np.mean((faces / np.abs(faces)) ** 4))) / 4)
    tall = max(float(np.percentile(view.points_w[:, 2], 99)) - view.base_z, LOW_M)
    out = []
    for turn in turns:
        R = rotation_z(turn)[:2, :2]
        low, high = np.percentile(view.points_w[:, :2] @ R, [1, 99], axis=0)
        behind = np.sign(view.ahead_w[:2] @ R)
        for axes in ((0, 0), (1, 0), (0, 1)):
            more = np.array(axes) * max(float((high - low).max()) / 2, LOW_M)
            first, last = low - more * (behind < 0), high + more * (behind > 0)
            size = np.maximum(last - first, LOW_M)
            out.append(np.array([*R @ (first + last) / 2, turn, *np.log([*size, tall])]))
    return out


def _other_heights(view: View, best: np.ndarray, scale: np.ndarray) -> list[tuple[np.ndarray, float]]:
    """Refits from boxes with nearly the same contour but another height: only inner edges tell footprint from height."""
    nothing = view.points_w[:0]
    fits = []
    for factor in HEIGHT_STARTS:
        pinned = best.copy()
        pinned[5] += np.log(factor)

        def held(p: np.ndarray, tall: float = pinned[5]) -> np.ndarray:
            return np.append(_box_residuals(view, p, nothing, False), 100.0 * (p[5] - tall))

        fits.append(solve(held, pinned, scale, 8)[0])
    return [solve(lambda p: _box_residuals(view, p, nothing, True), start, scale, 15) for start in fits]


def _settled(view: View, p: np.ndarray, points: np.ndarray, scale: np.ndarray) -> tuple[np.ndarray, float, str]:
    """The box (6,) that may lean a little (a soft package does), set upright, how far the mask lies inside its outline [px], and a note.

    Masks are cut a little too tight all around, and round edges draw the silhouette in; the measured faces tell.
    """

    def residuals(q: np.ndarray) -> np.ndarray:
        return np.concatenate([_box_residuals(view, q, points, False), q[6:8] / LEAN_SIGMA_RAD, q[8:]])

    leaning, _ = solve(residuals, np.append(p, [0.0, 0.0, 0.3]), np.append(scale, [0.1, 0.1, 1.0]))
    lean = float(np.degrees(np.hypot(leaning[6], leaning[7])))
    upright = leaning.copy()
    upright[6:8] = 0.0
    if lean < LEAN_SHOWN_DEG:
        free, note = [0, 1, 2, 3, 4, 5, 8], ""
    else:
        free, note = [0, 1, 2], f"it leans by {lean:.1f} degrees and is set upright"

    def held(q: np.ndarray) -> np.ndarray:
        full = upright.copy()
        full[free] = q
        return residuals(full)

    upright[free] = solve(held, upright[free], np.append(scale, [0.1, 0.1, 1.0])[free], 20)[0]
    return upright[:6], BORDER_PX * float(np.clip(upright[8], 0, 1)), note


def _box_frame(p: np.ndarray) -> np.ndarray:
    """Rotation (3, 3) of a box: yaw, and a lean about its own X and Y where there are more parameters."""
    R = rotation_z(p[2])
    if len(p) == 6:
        return R
    (ca, sa), (cb, sb) = ((np.cos(t), np.sin(t)) for t in p[6:8])
    return R @ np.array([[1, 0, 0], [0, ca, -sa], [0, sa, ca]]) @ np.array([[cb, 0, sb], [0, 1, 0], [-sb, 0, cb]])


def _box_corners(view: View, p: np.ndarray) -> np.ndarray:
    signs = np.array([[x, y, z] for z in (0, 1) for y in (-0.5, 0.5) for x in (-0.5, 0.5)])
    return (signs * np.exp(np.clip(p[3:6], -9, 3))) @ _box_frame(p).T + [p[0], p[1], view.base_z]


def _box_residuals(view: View, p: np.ndarray, points: np.ndarray, with_edges: bool) -> np.ndarray:
    corners = _box_corners(view, p)
    size = np.exp(np.clip(p[3:6], -9, 3))
    parts = [contour_residuals(view, corners) + (BORDER_PX * np.clip(p[8], 0, 1) if len(p) > 8 else 0.0)]
    if len(points):
        local = (points - [p[0], p[1], view.base_z]) @ _box_frame(p) - [0, 0, size[2] / 2]
        parts.append(box_distance(local, size / 2) / POINT_SIGMA_M)
    elif with_edges and view.edge is not None:
        parts.append(EDGE_WEIGHT * _inner_edge_misfit(view, corners))
    weak = PRIOR_WEIGHT * (0.1 if len(points) else 1.0)
    parts.append(weak * np.array([p[3] - p[4], p[5] - (p[3] + p[4]) / 2]))
    return np.concatenate(parts)


def box_distance(local: np.ndarray, half: np.ndarray) -> np.ndarray:
    """Signed distance (N,) of points (N, 3) to a centred box with half sizes (3,)."""
    gap = np.abs(local) - half
    return np.linalg.norm(np.maximum(gap, 0), axis=-1) + np.minimum(gap.max(axis=-1), 0)


_BOX_FACES = ((0, 2, 3, 1), (4, 5, 7, 6), (0, 1, 5, 4), (1, 3, 7, 5), (3, 2, 6, 7), (2, 0, 4, 6))
_BOX_EDGES = (
    (4, 5, 1, 2), (5, 7, 1, 3), (7, 6, 1, 4), (6, 4, 1, 5), (0, 4, 2, 5), (1, 5, 2, 3), (3, 7, 3, 4), (2, 6, 4, 5),
)  # fmt: skip
"""Edges that can lie inside a silhouette seen from above: corner, corner, and the two faces that meet there."""


def _inner_edge_misfit(view: View, corners: np.ndarray, samples: int = 10) -> np.ndarray:
    """1 - gradient across the edges between two visible faces, (8 * samples,); hidden edges are neutral."""
    visible = []
    for face in _BOX_FACES:
        a, b, c = corners[list(face[:3])]
        visible.append(np.dot(np.cross(b - a, c - a), view.camera_w - a) > 0)
    pixels = view.project(corners)
    share = (np.arange(samples) + 0.5) / samples
    out = []
    for a, b, left, right in _BOX_EDGES:
        if not (visible[left] and visible[right]):
            out.append(np.full(samples, EDGE_NEUTRAL))
            continue
        way = pixels[b] - pixels[a]
        normal = np.array([-way[1], way[0]]) / max(float(np.linalg.norm(way)), 1e-6)
        at = pixels[a] + share[:, None] * way
        out.append(1.0 - np.minimum(np.abs(sample_image(view.edge, at) @ normal), 1.0))
    return np.concatenate(out)


def sample_image(image: np.ndarray | None, at_px: np.ndarray) -> np.ndarray:
    """Bilinear values (N, C) of an image (H, W, C) at pixel coordinates (N, 2)."""
    assert image is not None
    x = np.clip(at_px[:, 0] - 0.5, 0, image.shape[1] - 1.001)
    y = np.clip(at_px[:, 1] - 0.5, 0, image.shape[0] - 1.001)
    i, j = y.astype(int), x.astype(int)
    fy, fx = (y - i)[:, None], (x - j)[:, None]
    top = image[i, j] * (1 - fx) + image[i, j + 1] * fx
    return top * (1 - fy) + (image[i + 1, j] * (1 - fx) + image[i + 1, j + 1] * fx) * fy


def fit_cylinder(view: View) -> tuple[Candidate, np.ndarray, np.ndarray]:
    """The upright cylinder, its parameters x, y, radius, height [m], and the contour (N,) bool without what sticks out of it."""
    center, width, height = first_guess(view)
    points = some_points(view)
    scale = np.array([width, width, 1.0, 1.0])
    starts = [np.array([*center, *np.log([width / 2, share * height])]) for share in (1.0, 0.4)]
    fits = [solve(lambda p: _round_residuals(view, p, points, view.body_contour), s, scale) for s in starts]
    p, body = min(fits, key=lambda item: item[1])[0], view.body_contour
    if not len(points):
        p, body = _beside_a_handle(view, p, center, width, height)
    radius, tall = np.exp(p[2:])
    T = make_T(np.eye(3), np.array([p[0], p[1], view.base_z]))
    solid = shapes.revolution(np.array([radius, radius]), np.array([0.0, tall]))
    cost = CYLINDER_COST
    shown = None if len(points) else rim_edge(view, p[:2], float(radius), float(tall))
    if shown is not None:
        cost += MISSING_RIM_COST * max(0.0, 1 - shown / 0.8)
        cost += SHADED_LID_COST * cavity_look(view, p[:2], float(radius), float(tall))
    return Candidate("cylinder", False, T, solid, cost), np.array([p[0], p[1], radius, tall]), body


def _round_residuals(view: View, p: np.ndarray, points: np.ndarray, chosen: np.ndarray | slice) -> np.ndarray:
    radius, tall = np.exp(np.clip(p[2:], -9, 3))
    ring = np.concatenate([radius * CIRCLE + p[:2], np.zeros((len(CIRCLE), 1))], -1)
    rings = np.concatenate([ring + np.array([0, 0, view.base_z + z]) for z in (0.0, tall)])
    parts = [contour_residuals(view, rings, chosen)]
    if len(points):
        rho = np.linalg.norm(points[:, :2] - p[:2], axis=1)
        across = np.stack([rho, points[:, 2] - view.base_z - tall / 2], -1)
        parts.append(box_distance(across, np.array([radius, tall / 2])) / POINT_SIGMA_M)
    else:
        parts.append(0.5 * PRIOR_WEIGHT * np.array([p[3] - p[2] - np.log(2)]))
    return np.concatenate(parts)


def _beside_a_handle(
    view: View, plain: np.ndarray, center: np.ndarray, width: float, height: float
) -> tuple[np.ndarray, np.ndarray]:
    """The cylinder and the contour (N,) bool that is its own, where one side of the outline is a handle.

    A handle makes the outline wider and moves its middle. A narrower cylinder wins that explains much better what is left
    of the contour without the border points far outside it, if those all lie on one side.
    """
    nothing, limit = view.points_w[:0], max(4.0, BESIDE_SHARE * float(np.sqrt(view.mask.sum())))

    def misses(p: np.ndarray) -> np.ndarray:
        return _round_residuals(view, p, nothing, slice(None))[: len(view.contour_px)]

    def loss(miss: np.ndarray) -> float:
        return float(np.mean(np.sqrt(1 + miss**2) - 1))

    best, chosen, least = plain, view.body_contour, BESIDE_GAIN * loss(misses(plain)[view.body_contour])
    aside = np.array([-view.ahead_w[1], view.ahead_w[0]])
    for side in (-1, 1):
        p = np.array([*(center + side * HANDLE_SHIFT * width * aside), *np.log([(0.5 - HANDLE_SHIFT) * width, height])])
        own, miss = view.body_contour, misses(p)
        for _ in range(3):
            p, _ = solve(
                lambda q, on=own: _round_residuals(view, q, nothing, on), p, np.array([width, width, 1, 1]), 12
            )
            miss = misses(p)
            own = (miss < limit) & view.body_contour
        axis_px = view.project(np.array([p[0], p[1], view.base_z + np.exp(p[3]) / 2]))
        left_out = np.sign(view.contour_px - axis_px)[view.body_contour & ~own, 0]
        one_sided = len(left_out) > 0 and abs(left_out.mean()) > ONE_SIDED
        if one_sided and own.mean() >= LEAST_OWN and loss(miss[own]) < least:
            best, chosen, least = p, own, loss(miss[own])
    return best, chosen


def rim_edge(view: View, center: np.ndarray, radius: float, tall: float) -> float | None:
    """Share of a round top's near rim along which the photo has an edge; None where colour or the rim cannot be seen."""
    if view.edge is None:
        return None
    near = CIRCLE[CIRCLE @ -view.ahead_w[:2] > 0.5]
    near = near[np.argsort(near @ np.array([-view.ahead_w[1], view.ahead_w[0]]))]
    pixels = view.project(np.concatenate([radius * near + center, np.full((len(near), 1), view.base_z + tall)], -1))
    if np.ptp(pixels, axis=0).sum() < 6 or view.camera_w[2] < view.base_z + tall:
        return None
    way = np.gradient(pixels, axis=0)
    normal = np.stack([-way[:, 1], way[:, 0]], -1)
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-6)
    best = np.zeros(len(near))
    for shift in (-2, -1, 0, 1, 2):
        gradient = sample_image(view.edge, pixels + shift * normal)
        best = np.maximum(best, np.abs(np.einsum("ij,ij->i", gradient, normal)))
    return float(np.mean(best > 0.35))


def cavity_look(view: View, center: np.ndarray, radius: float, tall: float) -> float:
    """How much the light inside a round top's ellipse looks like that in a cavity, 0..1; 0 where colour or the top is not seen.

    A flat lid has one normal, so its light hardly changes across it; a cavity shows walls that face all ways. A quadratic over
    the disc is fitted to the logarithm of light: prints and grain are finer than that.
    """
    if view.tone is None or view.camera_w[2] < view.base_z + tall:
        return 0.0
    grid = np.linspace(-LID_SHARE, LID_SHARE, 25)
    x, y = (a.ravel() for a in np.meshgrid(grid, grid))
    x, y = (a[np.hypot(x, y) < LID_SHARE] for a in (x, y))
    disc = np.stack([center[0] + radius * x, center[1] + radius * y, np.full_like(x, view.base_z + tall)], -1)
    pixels = view.project(disc)
    if np.ptp(pixels, axis=0).min() < MIN_LID_PX:
        return 0.0
    tone = sample_image(view.tone, pixels)[:, 0]
    terms = np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], -1)
    smooth = terms @ np.linalg.lstsq(terms, tone, rcond=None)[0]
    return float(np.clip((smooth.std() - EVEN_TONE) / (HOLLOW_TONE - EVEN_TONE), 0.0, 1.0))


def fit_sphere(view: View) -> Candidate:
    """The ball that rests on the support."""
    center, width, _ = first_guess(view)
    points = some_points(view)
    polar = np.linspace(-np.pi / 2, np.pi / 2, 13)[1:-1]
    unit = np.concatenate(
        [np.concatenate([np.cos(t) * CIRCLE, np.full((len(CIRCLE), 1), np.sin(t))], -1) for t in polar]
    )

    def residuals(p: np.ndarray) -> np.ndarray:
        radius = np.exp(np.clip(p[2], -9, 3))
        middle = np.array([p[0], p[1], view.base_z + radius])
        parts = [contour_residuals(view, radius * unit + middle)]
        if len(points):
            parts.append((np.linalg.norm(points - middle, axis=1) - radius) / POINT_SIGMA_M)
        return np.concatenate(parts)

    p, _ = solve(residuals, np.array([*center, np.log(width / 2)]), np.array([width, width, 1.0]))
    T = make_T(np.eye(3), np.array([p[0], p[1], view.base_z]))
    return Candidate("sphere", False, T, shapes.sphere(float(np.exp(p[2]))), 0.0)
