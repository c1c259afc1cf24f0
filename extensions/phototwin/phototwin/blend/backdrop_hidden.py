"""Where the surfaces of a picture go on: beyond its borders, and behind what stands before them."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from phototwin.blend.backdrop_surfaces import (
    NOTHING,
    Surfaces,
    centers,
    find_cuts,
    model_at,
    support_model,
    support_sides,
    within_sides,
)
from phototwin.scene import Camera

MAX_PAD_SHARE = 0.4
"""The picture is continued by no more than this share of its longer side."""
PAD_SLACK_PX = 3
BORDER_REACH = 1.6
"""A plane takes part beyond the border this many times farther than what is nearest there."""
BORDER_SLACK_PX = 8.0
MIN_BORDER = 0.02
"""What shows on less of the picture's border does not go on beyond it."""
DECAY_PX = 30.0
"""Beyond its last pixel a surface returns to its plane over this distance [px]."""
REACH_SLACK_PX = 3.0
SAME_PX = 0.2
"""What the support's plane displaces by less than this is the support [px]."""
SPREAD, LEAST_SPREAD_PX = 3.0, 40.0
"""A closed jump is spread over this many times its own width in the farthest view, and over so many pixels at least."""
LARGE_SHARE, FINITE_SHARE = 0.05, 0.25
"""What is no plane and smaller than the first share of the picture goes on by no more than the second share of its size."""
REACH_GROWTH_PX = 15
"""The widest of the gaps that open within this window decides how far a surface goes on."""
BEHIND = 0.004
"""What is hidden lies this share of its distance behind what hides it, at least."""
CLEAN_PX = 1.6
"""Pixels this close behind an edge hold some of its colour."""
OVERLAP_PX = 2
"""Hidden parts reach this far under the visible ones, so that nothing shows between them [px]."""


@dataclass(frozen=True, eq=False)
class Canvas:
    """A picture with room around it.

    Attributes:
        camera: Sees the whole canvas.
        left: Columns before the picture [px].
        top: Rows above it [px].
        height: Rows of the picture.
        width: Columns of the picture.
    """

    camera: Camera
    left: int
    top: int
    height: int
    width: int

    @property
    def inside(self) -> tuple[slice, slice]:
        """Where the picture is."""
        return slice(self.top, self.top + self.height), slice(self.left, self.left + self.width)


@dataclass(frozen=True, eq=False)
class Hidden:
    """One surface where it goes on.

    Attributes:
        surface: Its number.
        seen: Pixels of the canvas that show it, away from edges (H, W) bool.
        wanted: Pixels where it goes on (H, W) bool.
        behind: Those of them that something hides (H, W) bool.
        inverse: Its inverse depth wherever it is wanted or seen (H, W) float64 [1/m].
    """

    surface: int
    seen: np.ndarray
    wanted: np.ndarray
    behind: np.ndarray
    inverse: np.ndarray


def make_canvas(camera: Camera, inverse: np.ndarray, move_m: float, turn_rad: float, focal: float) -> Canvas:
    """The picture's camera with as much room around it as moved cameras look beyond its borders.

    Args:
        camera: The photo's camera.
        inverse: Inverse depth (H, W) [1/m].
        move_m: Largest move along each axis [m].
        turn_rad: Largest turn about each axis [rad].
        focal: Largest change of the focal length, as a share of it.
    """
    height, width = inverse.shape
    t = np.linspace(0, 1, 9)
    edge = np.concatenate([np.stack(p, 1) for p in ((t, 0 * t), (t, 0 * t + 1), (0 * t, t), (0 * t + 1, t))])
    pixels = edge * [width, height]
    index = np.minimum(pixels.astype(int), [width - 1, height - 1])
    depth = 1.0 / inverse[index[:, 1], index[:, 0]]
    zoom = camera.K_px.copy()
    zoom[[0, 1], [0, 1]] *= 1 - focal
    rays = np.concatenate([pixels, np.ones((len(pixels), 1))], 1) @ np.linalg.inv(zoom).T * depth[:, None]
    seen = []
    for signs in itertools.product((-1, 1), repeat=6):
        points = rays @ _turn(turn_rad * np.array(signs[:3])).T + move_m * np.array(signs[3:])
        ahead = points[:, 2] > 0.05
        uvw = points[ahead] @ camera.K_px.T
        seen.append(uvw[:, :2] / uvw[:, 2:])
    seen_px = np.concatenate(seen)
    most = MAX_PAD_SHARE * max(height, width)
    low = np.clip(np.ceil(-seen_px.min(0)) + PAD_SLACK_PX, 4, most).astype(int)
    high = np.clip(np.ceil(seen_px.max(0) - [width, height]) + PAD_SLACK_PX, 4, most).astype(int)
    K = camera.K_px.copy()
    K[:2, 2] += low
    size = np.array([width, height]) + low + high
    return Canvas(Camera(K, int(size[0]), int(size[1]), camera.T_world_camera), int(low[0]), int(low[1]), height, width)


def _turn(angles: np.ndarray) -> np.ndarray:
    """Rotation (3, 3) by a rotation vector. Source: Rodrigues' formula."""
    angle = float(np.linalg.norm(angles))
    if angle < 1e-12:
        return np.eye(3)
    x, y, z = angles / angle
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross


def nearest_of(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distance (H, W) [px] of each pixel to a mask that is not empty, and flat index of the nearest pixel of it."""
    import cv2

    away, found = cv2.distanceTransformWithLabels(
        (~mask).astype(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )
    number, flat = found.astype(np.int64), np.flatnonzero(mask)
    table = np.zeros(len(flat) + 1, np.int64)
    table[number.reshape(-1)[flat]] = flat
    return away, table[number]


def close_jumps(inverse: np.ndarray, camera: Camera, stretch_px_m: float) -> np.ndarray:
    """Inverse depth (H, W) that leaves the support's edge without a jump and only then goes over into what was given [1/m].

    Args:
        inverse: Inverse depth (H, W) [1/m].
        camera: The camera.
        stretch_px_m: By how much the farthest view displaces a point for each unit of inverse depth [px m].
    """
    plane = model_at(support_model(camera), *centers(*inverse.shape))
    on = np.abs(plane - inverse) * stretch_px_m < SAME_PX
    if not on.any():
        return inverse
    away, index = nearest_of(on)
    edge = inverse.reshape(-1)[index]
    over = np.clip(away / np.maximum(SPREAD * stretch_px_m * np.abs(edge - inverse), LEAST_SPREAD_PX), 0, 1)
    return np.where(on, inverse, edge + (inverse - edge) * over * over * (3 - 2 * over))


def grow_near_side(surfaces: Surfaces, stretch_px_m: float) -> Surfaces:
    """The same with everything one pixel larger over what lies behind it: pixels at an edge hold the colours of both sides."""
    label, inverse = surfaces.label.copy(), surfaces.inverse.copy()
    right, down = find_cuts(inverse, label, int(surfaces.flat.sum()), stretch_px_m)
    before, before_label = surfaces.inverse, surfaces.label
    for axis, cut in ((1, right), (0, down)):
        here, there = [slice(None)] * 2, [slice(None)] * 2
        here[axis], there[axis] = slice(0, -1), slice(1, None)
        for near, far in ((tuple(here), tuple(there)), (tuple(there), tuple(here))):
            grown = cut & (before[near] > before[far]) & (before[near] > inverse[far])
            inverse[far] = np.where(grown, before[near], inverse[far])
            label[far] = np.where(grown, before_label[near], label[far])
    return Surfaces(inverse, label, surfaces.models, surfaces.limits, surfaces.flat, surfaces.support)


def continue_surface(
    surfaces: Surfaces, canvas: Canvas, surface: int, where: np.ndarray, sources: np.ndarray, known: np.ndarray
) -> np.ndarray:
    """Inverse depth (N,) of a surface where it goes on: its plane, met smoothly where it comes from.

    Args:
        surfaces: What the picture shows.
        canvas: The picture and the room around it.
        surface: Its number.
        where: Pixels of the canvas where it goes on, flat indices (N,).
        sources: The pixel each of them is continued from (N,).
        known: Inverse depth there (N,) [1/m].
    """
    if surface == NOTHING:
        return known * (1 - BEHIND)
    row, column = np.divmod(where, canvas.camera.width)
    at = _model(surfaces, surface, canvas, row, column)
    if surfaces.flat[surface]:
        return at
    source_row, source_column = np.divmod(sources, canvas.camera.width)
    rest = known - _model(surfaces, surface, canvas, source_row, source_column)
    away = np.hypot(row - source_row, column - source_column)
    return np.clip(at + rest * np.exp(-away / DECAY_PX), *surfaces.limits[surface])


def _model(surfaces: Surfaces, surface: int, canvas: Canvas, row: np.ndarray, column: np.ndarray) -> np.ndarray:
    return model_at(surfaces.models[surface], column + 0.5 - canvas.left, row + 0.5 - canvas.top)


def pad_surfaces(surfaces: Surfaces, canvas: Canvas, allowed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Inverse depth and surface of every pixel of the canvas: what is at the nearest border goes on, planes as far as they are in front.

    Args:
        surfaces: What the picture shows.
        canvas: The picture and the room around it.
        allowed: Where the support may be, see ``support_reach``.

    Returns:
        Inverse depth (H, W) float64 [1/m] and numbers of surfaces (H, W) int32.
    """
    shape = (canvas.camera.height, canvas.camera.width)
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    out, border = np.ones(shape, bool), np.zeros(shape, bool)
    out[canvas.inside] = False
    border[canvas.inside] = _border_of(surfaces)
    away, source = nearest_of(border)
    near_row, near_column = np.divmod(source, shape[1])
    label = surfaces.label[near_row - canvas.top, near_column - canvas.left]
    inverse = surfaces.inverse[near_row - canvas.top, near_column - canvas.left]
    label[canvas.inside], inverse[canvas.inside] = surfaces.label, surfaces.inverse
    for i in np.unique(label[out]):
        mine = np.flatnonzero(out & (label == i))
        if i != NOTHING:
            known = inverse.reshape(-1)[mine]
            inverse.reshape(-1)[mine] = continue_surface(surfaces, canvas, i, mine, source.reshape(-1)[mine], known)
    lost = out & (label == surfaces.support) & ~allowed & (surfaces.support != NOTHING)
    inverse[lost] = 0.0
    label[lost] = NOTHING
    for i in np.flatnonzero(surfaces.flat):
        mine = np.zeros(shape, bool)
        mine[canvas.inside] = surfaces.label == i
        mine &= border
        if not mine.any():
            continue
        distance = nearest_of(mine)[0]
        here = _model(surfaces, int(i), canvas, rows, columns)
        take = out & (here > 1e-6) & (here > inverse) & ((distance <= BORDER_REACH * away + BORDER_SLACK_PX) | lost)
        take &= allowed if i == surfaces.support else True
        inverse[take], label[take] = here[take], i
    missing = out & (inverse <= 1e-6)
    others = ~out & ~missing & (label != surfaces.support)
    if missing.any():
        index = nearest_of(others & border if (others & border).any() else ~missing)[1][missing]
        inverse[missing], label[missing] = inverse.reshape(-1)[index], label.reshape(-1)[index]
    return inverse, label


def _border_of(surfaces: Surfaces) -> np.ndarray:
    """Pixels on the picture's border whose surface shows on enough of it to go on there (H, W) bool; all of it where none does."""
    rim = np.ones(surfaces.label.shape, bool)
    rim[1:-1, 1:-1] = False
    count = np.bincount(surfaces.label[rim] + 1, minlength=len(surfaces.models) + 1)
    enough = count >= MIN_BORDER * rim.sum()
    enough[0] = False
    large = rim & enough[surfaces.label + 1]
    return large if large.any() else rim


def support_reach(surfaces: Surfaces, canvas: Canvas, polygon_w: np.ndarray | None) -> np.ndarray:
    """Pixels of the canvas whose rays meet the support within its visible edges (H, W) bool.

    Args:
        surfaces: What the picture shows.
        canvas: The picture and the room around it.
        polygon_w: A known outline of the support (K, 2) [m], or None.
    """
    camera = canvas.camera
    if surfaces.support == NOTHING:
        return np.ones((camera.height, camera.width), bool)
    K = camera.K_px.copy()
    K[:2, 2] -= [canvas.left, canvas.top]
    photo = Camera(K, canvas.width, canvas.height, camera.T_world_camera)
    sides = support_sides(surfaces.label == surfaces.support, photo, polygon_w)
    return within_sides(*sides, camera, *centers(camera.height, camera.width), slack_m=0.004)


def find_hidden(
    surfaces: Surfaces,
    canvas: Canvas,
    inverse: np.ndarray,
    label: np.ndarray,
    cuts: tuple[np.ndarray, np.ndarray],
    allowed: np.ndarray,
    stretch_px_m: float,
) -> list[Hidden]:
    """Where each surface goes on behind what stands before it, as far as moved cameras look there, and beyond the border.

    Args:
        surfaces: What the picture shows.
        canvas: The picture and the room around it.
        inverse: Inverse depth of the canvas (H, W) [1/m].
        label: Surfaces of the canvas (H, W).
        cuts: See ``find_cuts``, of the canvas.
        allowed: Where the support may be, see ``support_reach``.
        stretch_px_m: By how much the farthest view displaces a point for each unit of inverse depth [px m].
    """
    near, far = _jumps(inverse, cuts)
    edge = np.zeros(inverse.shape, bool)
    edge.reshape(-1)[far] = True
    inside = np.zeros(inverse.shape, bool)
    inside[canvas.inside] = True
    clean = inside & (nearest_of(edge)[0] > CLEAN_PX) if edge.any() else inside
    out = []
    # What is too small to be continued as itself still leaves no hole: it goes on flat, behind everything that is there.
    for i in [*range(len(surfaces.models)), NOTHING]:
        mine = label == i
        behind, filled = np.zeros_like(mine), np.where(mine, inverse, 0.0)
        pick = label.reshape(-1)[far] == i
        if i == NOTHING:
            pick |= ~np.append(surfaces.flat, False)[label.reshape(-1)[far]]
        if pick.any():
            where, value = _band(surfaces, canvas, i, inverse, label, near[pick], far[pick], stretch_px_m)
            if i == NOTHING and out:
                keep = ~np.any([h.behind.reshape(-1)[where] for h in out], axis=0)
                where, value = where[keep], value[keep]
            if i == surfaces.support != NOTHING:
                keep = allowed.reshape(-1)[where]
                where, value = where[keep], value[keep]
            behind.reshape(-1)[where] = True
            filled.reshape(-1)[where] = value
        wanted = behind | (mine & ~inside)
        if wanted.any():
            shown = mine if i != NOTHING else ~np.append(surfaces.flat, False)[label]
            out.append(Hidden(i, shown & clean, wanted, behind, filled))
    return out


def _jumps(inverse: np.ndarray, cuts: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Flat indices of the pixels on the near and on the far side of every cut."""
    index = np.arange(inverse.size).reshape(inverse.shape)
    right, down = cuts
    a = np.concatenate([index[:, :-1][right], index[:-1][down]])
    b = np.concatenate([index[:, 1:][right], index[1:][down]])
    flat = inverse.reshape(-1)
    first = flat[a] >= flat[b]
    return np.where(first, a, b), np.where(first, b, a)


def _band(
    surfaces: Surfaces,
    canvas: Canvas,
    surface: int,
    inverse: np.ndarray,
    label: np.ndarray,
    near: np.ndarray,
    far: np.ndarray,
    stretch: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Pixels (flat indices) that hide a surface and may come to show it, and its inverse depth there."""
    import cv2

    flat = inverse.reshape(-1)
    reach = np.zeros(inverse.shape, np.float32)
    np.maximum.at(reach.reshape(-1), near, (stretch * (flat[near] - flat[far])).astype(np.float32) + REACH_SLACK_PX)
    seeds = np.zeros(inverse.shape, bool)
    seeds.reshape(-1)[near] = True
    reach = cv2.dilate(reach, np.ones((REACH_GROWTH_PX, REACH_GROWTH_PX), np.uint8))
    distance, seed = nearest_of(seeds)
    reach = reach.reshape(-1)[seed]
    if surface == NOTHING:
        where = np.flatnonzero(distance <= reach)
    elif surfaces.flat[surface]:
        where = np.flatnonzero((distance <= reach) & (label != surface))
    else:  # a thing is finite, and may hide a part of itself
        area = int((surfaces.label == surface).sum())
        if area < LARGE_SHARE * surfaces.label.size:
            reach = np.minimum(reach, FINITE_SHARE * np.sqrt(area))
        where = np.flatnonzero(distance <= reach)
    source_of = np.zeros(inverse.size, np.int64)
    source_of[near] = far
    sources = source_of[seed.reshape(-1)[where]]
    value = continue_surface(surfaces, canvas, surface, where, sources, flat[sources])
    hidden = (value > 1e-6) & (value < flat[where] * (1 - BEHIND))
    return where[hidden], value[hidden]
