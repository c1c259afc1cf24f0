"""Closed meshes and convex pieces of the shapes that objects are fitted with.

Every builder works in the *fit frame*: Z up, z = 0 where the thing stands, the axis of round things at x = y = 0.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from phototwin.scene import ConvexPiece

ROUND_SEGMENTS = 48  # of a mesh: 0.2 % of the radius from a true circle
PIECE_VERTICES = 64  # PhysX cooks a convex hull with at most 64 vertices on a GPU
WALL_WEDGES = (16, 14, 12)  # convex wedges around a vessel's wall of one, two, three bands: 36 pieces at most
VOLUME_SLACK, THINNER = 0.01, (0.8, 1.25)  # of a wall's pieces against the mesh; how much thinner or thicker they get
DISH_WEDGES = 16  # the corners of a rectangle are among their ends
BAND_SLACK = 0.3  # a band of wall may bend by this share of its thickness
BALL_RINGS = (8, 12, 14, 12, 8)  # corners of a ball's hull around its axis, evenly spread; with two facets 64
BALL_CAP_CORNERS, BALL_CAP_RAD = 5, 0.2  # the facets' corners lie 2 % of the radius outside the ball
CONVEX_SLACK = 1.04  # neighbouring slices become one piece while its hull is at most 4 % larger than they are


@dataclass(frozen=True, eq=False)
class Solid:
    """A closed surface and convex pieces that stand for it.

    Attributes:
        points: (V, 3) float64 [m].
        faces: (F, 3) int32, counter-clockwise seen from outside.
        pieces: Convex pieces; their union is roughly the solid.
    """

    points: np.ndarray
    faces: np.ndarray
    pieces: tuple[ConvexPiece, ...]


def mesh_volume(points: np.ndarray, faces: np.ndarray) -> float:
    """Signed volume of a closed mesh [m^3], positive when faces look outward."""
    a, b, c = (points[faces[:, i]] for i in range(3))
    return float(np.einsum("ij,ij->i", a, np.cross(b, c)).sum() / 6.0)


def is_closed(faces: np.ndarray) -> bool:
    """True where every directed edge occurs once and its opposite once: an oriented manifold without a border."""
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]).astype(np.int64)
    base = int(faces.max()) + 1
    there, back = edges[:, 0] * base + edges[:, 1], edges[:, 1] * base + edges[:, 0]
    return len(np.unique(there)) == len(there) and bool(np.array_equal(np.sort(there), np.sort(back)))


def convex_piece(points: np.ndarray) -> ConvexPiece:
    """The convex hull of points (N, 3) as a piece whose faces look outward."""
    from scipy.spatial import ConvexHull

    hull = ConvexHull(points)
    used = np.unique(hull.simplices)
    renumber = np.full(len(points), -1, dtype=np.int64)
    renumber[used] = np.arange(len(used))
    vertices, faces = points[used], renumber[hull.simplices]
    a, b, c = (vertices[faces[:, i]] for i in range(3))
    inward = np.einsum("ij,ij->i", np.cross(b - a, c - a), hull.equations[:, :3]) < 0
    faces[inward] = faces[inward][:, ::-1]
    return ConvexPiece(vertices.astype(np.float32), faces.astype(np.int32))


def merge(solids: Sequence[Solid]) -> Solid:
    """Several closed solids as one value; they may overlap where they are joined."""
    points, faces, offset = [], [], 0
    for solid in solids:
        points.append(solid.points)
        faces.append(solid.faces + offset)
        offset += len(solid.points)
    pieces = tuple(piece for solid in solids for piece in solid.pieces)
    return Solid(np.concatenate(points), np.concatenate(faces).astype(np.int32), pieces)


def turned(solid: Solid, R: np.ndarray) -> Solid:
    """The solid with a rotation (3, 3) applied to its points (N, 3) as ``R @ p``."""
    pieces = tuple(ConvexPiece((p.points @ R.T).astype(np.float32), p.faces) for p in solid.pieces)
    return Solid(solid.points @ R.T, solid.faces, pieces)


def moved(solid: Solid, way: np.ndarray) -> Solid:
    """The solid moved by (3,) [m]."""
    pieces = tuple(ConvexPiece((p.points + way).astype(np.float32), p.faces) for p in solid.pieces)
    return Solid(solid.points + way, solid.faces, pieces)


def box(size_m: np.ndarray, bevel_m: float = 0.0) -> Solid:
    """A box of that size (3,), standing on z = 0 with its axis at the origin; a bevel takes that much off each side of an edge."""
    signs = np.array([[x, y, z] for z in (0, 1) for y in (-0.5, 0.5) for x in (-0.5, 0.5)])
    if bevel_m > 0:
        corners = 2 * signs - [0, 0, 1]
        half = np.asarray(size_m) / 2
        points = np.concatenate([corners * (half - bevel_m * (1 - axis)) for axis in np.eye(3)])
        return lump(points + np.array([0.0, 0.0, half[2]]))
    points = signs * size_m
    quads = [[0, 2, 3, 1], [4, 5, 7, 6], [0, 1, 5, 4], [1, 3, 7, 5], [3, 2, 6, 7], [2, 0, 4, 6]]
    faces = np.array([t for a, b, c, d in quads for t in ([a, b, c], [a, c, d])], dtype=np.int32)
    return Solid(points, faces, (convex_piece(points),))


def lathe(profile: np.ndarray, segments: int = ROUND_SEGMENTS) -> tuple[np.ndarray, np.ndarray]:
    """Mesh of the surface that a profile sweeps about Z.

    Args:
        profile: (P, 2) radius and height [m]; starts and ends on the axis (radius 0), solid to the left of its way.
        segments: Number of straight pieces around.

    Returns:
        points (V, 3), faces (F, 3) int32.
    """
    angle = 2 * np.pi * np.arange(segments) / segments
    circle = np.stack([np.cos(angle), np.sin(angle)], -1)
    rings = profile[1:-1]
    points = np.zeros((len(rings) * segments + 2, 3))
    points[0, 2], points[-1, 2] = profile[0, 1], profile[-1, 1]
    body = points[1:-1].reshape(len(rings), segments, 3)
    body[..., :2] = rings[:, None, :1] * circle
    body[..., 2] = rings[:, 1:]
    index = np.arange(len(rings) * segments).reshape(len(rings), segments) + 1
    ahead = np.roll(index, -1, axis=1)
    a, b, c, d = index[:-1], ahead[:-1], ahead[1:], index[1:]
    last = np.full(segments, len(points) - 1)
    faces = [
        np.stack([np.zeros(segments, dtype=np.int64), ahead[0], index[0]], -1),
        np.stack([a, b, c], -1).reshape(-1, 3),
        np.stack([a, c, d], -1).reshape(-1, 3),
        np.stack([index[-1], ahead[-1], last], -1),
    ]
    return points, np.concatenate(faces).astype(np.int32)


def revolution(radii_m: np.ndarray, heights_m: np.ndarray) -> Solid:
    """A solid of revolution: radius (N,) over increasing height (N,)."""
    profile = np.stack([np.maximum(radii_m, 0), heights_m], -1)
    ends = np.array([[0.0, heights_m[0]], [0.0, heights_m[-1]]])
    rings = profile[profile[:, 0] > 1e-5]
    points, faces = lathe(np.concatenate([ends[:1], rings, ends[1:]]))
    return Solid(points, faces, _stacked_pieces(profile))


def sphere(radius_m: float, rings: int = 17) -> Solid:
    """A ball that touches z = 0."""
    angle = np.linspace(0, np.pi, rings)
    solid = revolution(radius_m * np.sin(angle), radius_m * (1 - np.cos(angle)))
    return Solid(solid.points, solid.faces, (_ball_piece(radius_m),))


def _ball_piece(radius_m: float) -> ConvexPiece:
    """A hull of the ball's volume with small facets that touch the ball at the bottom and the top: it rests at the ball's height.

    A single corner straight down would be as low, but no resting place: the ball would tip over it and wobble.
    """
    polar = np.linspace(BALL_CAP_RAD, np.pi - BALL_CAP_RAD, len(BALL_RINGS) + 2)[1:-1]
    around = np.concatenate(
        [_ring(np.sin(t), np.cos(t), n, k) for k, (t, n) in enumerate(zip(polar, BALL_RINGS, strict=True))]
    )
    caps = np.concatenate([_ring(np.tan(BALL_CAP_RAD), z, BALL_CAP_CORNERS, 0) for z in (-1.0, 1.0)])
    scale = 1.0
    for _ in range(20):  # the facets stay, so the rest takes a few steps
        piece = convex_piece(np.concatenate([scale * around, caps]))
        scale *= (4 / 3 * np.pi / mesh_volume(piece.points.astype(np.float64), piece.faces)) ** (1 / 3)
    return convex_piece(radius_m * (np.concatenate([scale * around, caps]) + np.array([0.0, 0.0, 1.0])))


def _ring(radius: float, z: float, count: int, turn: int) -> np.ndarray:
    """Corners (count, 3) of a level polygon, every second ring turned by half a corner."""
    angle = 2 * np.pi * (np.arange(count) + 0.5 * (turn % 2)) / count
    return np.stack([radius * np.cos(angle), radius * np.sin(angle), np.full(count, z)], -1)


def vessel(radii_m: np.ndarray, heights_m: np.ndarray, wall_m: float, floor_m: float) -> Solid:
    """A hollow solid of revolution, open at the top.

    Args:
        radii_m: Outer radius (N,) [m].
        heights_m: Increasing heights (N,) from 0 to the rim [m].
        wall_m: Thickness of the wall, measured across the surface [m].
        floor_m: Height of the inner floor [m].
    """
    floor_m = float(np.clip(floor_m, 0.2 * wall_m, 0.9 * heights_m[-1]))
    heights = np.union1d(heights_m, [floor_m])
    outer = np.interp(heights, heights_m, radii_m)
    slope = np.gradient(outer, heights)
    horizontal = wall_m * np.sqrt(1 + np.clip(slope, -3, 3) ** 2)
    inner = np.maximum(outer - horizontal, 0.15 * outer)
    inside = heights >= floor_m - 1e-9
    up = np.stack([outer, heights], -1)
    down = np.stack([inner[inside], heights[inside]], -1)[::-1]
    profile = np.concatenate([[[0, 0]], up[up[:, 0] > 1e-5], down, [[0, floor_m]]])
    points, faces = lathe(profile)
    base = _stacked_pieces(up[heights <= floor_m + 1e-9])
    wall = _wall_pieces(up[inside], inner[inside])
    share = (mesh_volume(points, faces) - _pieces_volume(base)) / _pieces_volume(wall)
    if abs(share - 1) > VOLUME_SLACK:  # hulls of bent bands are thicker than the wall
        kept = float(np.clip(share, *THINNER))
        wall = _wall_pieces(up[inside], up[inside][:, 0] - kept * (up[inside][:, 0] - inner[inside]))
    return Solid(points, faces, base + wall)


def dish(outline_m: np.ndarray, stations: np.ndarray, heights_m: np.ndarray, thick_m: float, on_ring: bool) -> Solid:
    """A shallow vessel over a convex outline, with a measured inside and walls of one thickness.

    Args:
        outline_m: The rim (S, 2), counter-clockwise about the origin [m].
        stations: Where the inside is known, from the floor's border to the rim (K,), as shares of the outline, increasing to 1.
        heights_m: Height of the inside there (K,) [m].
        thick_m: Thickness across the wall [m].
        on_ring: Stand on a ring, with the floor as thin as the wall; else the floor is solid down to the support.
    """
    reach = float(np.linalg.norm(outline_m, axis=1).mean())
    inner = np.stack([stations * reach, heights_m], -1)
    inner[-1, 0] -= thick_m
    keep = np.append(inner[:-1, 0] < inner[-1, 0], True)
    inner = inner[keep]
    slope = np.gradient(inner[:, 1], inner[:, 0])
    aside = thick_m / np.sqrt(1 + slope**2)
    outer = np.stack([inner[:, 0] + slope * aside, inner[:, 1] - aside], -1)
    outer[:, 0] = np.minimum(outer[:, 0], reach)
    outer[:, 1] = np.maximum(outer[:, 1], 0.0)
    outer[-1] = reach, inner[-1, 1]
    foot, under = float(inner[0, 0]), float(inner[0, 1]) - thick_m
    ring = max(foot - 1.5 * thick_m, 0.5 * foot)
    start = [[0.0, under], [ring, under], [ring, 0.0], [foot, 0.0]] if on_ring else [[0.0, 0.0], [foot, 0.0]]
    rising = (outer[:, 1] > 5e-4) & (outer[:, 0] > foot + 1e-4)
    profile = np.concatenate([start, outer[rising], inner[::-1], [[0.0, inner[0, 1]]]])
    points, faces = lathe(profile, len(outline_m))
    segments = len(outline_m)
    shape = outline_m / reach
    radius = np.linalg.norm(points[1:-1, :2], axis=1).reshape(-1, segments)
    points[1:-1, :2] = (radius[..., None] * shape).reshape(-1, 2)
    floor, wall = _dish_pieces(shape, inner, outer, foot, ring if on_ring else 0.0, under)
    share = (mesh_volume(points, faces) - _pieces_volume(floor)) / _pieces_volume(wall)
    if abs(share - 1) > VOLUME_SLACK:
        outer = inner + float(np.clip(share, *THINNER)) * (outer - inner)
        wall = _dish_pieces(shape, inner, outer, foot, ring if on_ring else 0.0, under)[1]
    return Solid(points, faces, floor + wall)


def _dish_pieces(
    shape: np.ndarray, inner: np.ndarray, outer: np.ndarray, foot_m: float, ring_m: float, under_m: float
) -> tuple[tuple[ConvexPiece, ...], tuple[ConvexPiece, ...]]:
    """Floor with its foot ring, and wedges of the wall; corners lie on the outline ``shape`` (S, 2) times a radius."""
    step = len(shape) // DISH_WEDGES
    corners = shape[::step]
    corners = corners * np.sqrt(_polygon_area(shape) / _polygon_area(corners))  # chords enclose the outline's area

    def at(point: np.ndarray | tuple[float, float], wedge: int) -> np.ndarray:
        xy = point[0] * corners[[wedge, (wedge + 1) % DISH_WEDGES]]
        return np.concatenate([xy, np.full((2, 1), point[1])], 1)

    def disc(low: float, high: float) -> np.ndarray:
        return np.concatenate(
            [np.concatenate([foot_m * corners, np.full((DISH_WEDGES, 1), z)], 1) for z in (low, high)]
        )

    floor = float(inner[0, 1])
    base, wall = [convex_piece(disc(under_m if ring_m else 0.0, floor))], []
    cuts = _wall_bands(outer, BAND_SLACK * float(np.linalg.norm(outer[0] - inner[0])))[:4]
    lowest = np.array([foot_m, max(under_m, 0.0) if ring_m else 0.0])
    outside = np.concatenate([[lowest], outer[1:]])
    for i, j in itertools.pairwise(cuts):
        for wedge in range(DISH_WEDGES):
            ends = (inner[i], inner[j], outside[i], outside[j])
            wall.append(convex_piece(np.concatenate([at(q, wedge) for q in ends])))
    if ring_m and under_m > 0:
        for wedge in range(DISH_WEDGES):
            ends = ((ring_m, 0.0), (foot_m, 0.0), (ring_m, under_m), (foot_m, under_m))
            base.append(convex_piece(np.concatenate([at(q, wedge) for q in ends])))
    return tuple(base), tuple(wall)


def _pieces_volume(pieces: Sequence[ConvexPiece]) -> float:
    return sum(mesh_volume(p.points.astype(np.float64), p.faces) for p in pieces)


def _polygon_area(corners: np.ndarray) -> float:
    """Area of a polygon (N, 2). Source: the shoelace formula."""
    x, y = corners.T
    return 0.5 * abs(float(np.sum(x * np.roll(y, -1) - y * np.roll(x, -1))))


def loft(
    x_m: np.ndarray, left_m: np.ndarray, right_m: np.ndarray, height_m: np.ndarray, bottom_m: np.ndarray | None = None
) -> Solid:
    """An outline with a height that changes along X: a flat thing on the table.

    Args:
        x_m: Increasing stations (S,) [m].
        left_m: Lower y of the outline at each station (S,) [m].
        right_m: Upper y (S,) [m].
        height_m: Height of the top at each station (S,) [m].
        bottom_m: Height of the underside (S,), None = on the support [m].
    """
    count, low = len(x_m), np.zeros(len(x_m)) if bottom_m is None else bottom_m
    rings = np.stack(
        [
            np.stack([x_m, left_m, low], -1),
            np.stack([x_m, right_m, low], -1),
            np.stack([x_m, right_m, height_m], -1),
            np.stack([x_m, left_m, height_m], -1),
        ],
        1,
    )
    index = np.arange(count * 4).reshape(count, 4)
    ahead = np.roll(index, -1, axis=1)
    a, b, c, d = index[:-1], ahead[:-1], ahead[1:], index[1:]
    first, last = index[0], index[-1]
    faces = np.concatenate(
        [
            np.stack([a, b, c], -1).reshape(-1, 3),
            np.stack([a, c, d], -1).reshape(-1, 3),
            [[first[0], first[2], first[1]], [first[0], first[3], first[2]]],
            [[last[0], last[1], last[2]], [last[0], last[2], last[3]]],
        ]
    ).astype(np.int32)
    points = rings.reshape(-1, 3)
    if mesh_volume(points, faces) < 0:
        faces = faces[:, ::-1].copy()
    return Solid(points, faces, _run_pieces(rings))


def tube(path: np.ndarray, side: np.ndarray, thick_m: float, wide_m: float, segments: int = 10) -> Solid:
    """A bent rod with an elliptic section, closed at both ends: a handle.

    Args:
        path: Middle line (P, 3) [m].
        side: Unit vector (3,) across the plane of the path.
        thick_m: Section's extent within the plane [m].
        wide_m: Section's extent along ``side`` [m].
        segments: Number of corners of the section.
    """
    along = np.gradient(path, axis=0)
    along /= np.linalg.norm(along, axis=1, keepdims=True)
    out = np.cross(side, along)
    angle = 2 * np.pi * np.arange(segments) / segments
    rings = path[:, None] + 0.5 * (
        thick_m * np.cos(angle)[None, :, None] * out[:, None] + wide_m * np.sin(angle)[None, :, None] * side
    )
    index = np.arange(len(path) * segments).reshape(len(path), segments)
    ahead = np.roll(index, -1, axis=1)
    a, b, c, d = index[:-1], ahead[:-1], ahead[1:], index[1:]
    fan = np.arange(1, segments - 1)
    faces = np.concatenate(
        [
            np.stack([a, b, c], -1).reshape(-1, 3),
            np.stack([a, c, d], -1).reshape(-1, 3),
            np.stack([np.full_like(fan, index[0, 0]), index[0, fan + 1], index[0, fan]], -1),
            np.stack([np.full_like(fan, index[-1, 0]), index[-1, fan], index[-1, fan + 1]], -1),
        ]
    ).astype(np.int32)
    points = rings.reshape(-1, 3)
    if mesh_volume(points, faces) < 0:
        faces = faces[:, ::-1].copy()
    return Solid(points, faces, _run_pieces(rings))


def lump(points: np.ndarray) -> Solid:
    """The convex hull of points (N, 3) as a solid: a spout or a knob."""
    piece = convex_piece(points)
    return Solid(piece.points.astype(np.float64), piece.faces, (piece,))


def _run_pieces(rings: np.ndarray) -> tuple[ConvexPiece, ...]:
    """Convex pieces of a chain of sections (S, C, 3): neighbours are joined while the hull stays tight."""
    from scipy.spatial import ConvexHull

    single = [ConvexHull(rings[i : i + 2].reshape(-1, 3)).volume for i in range(len(rings) - 1)]
    pieces, start = [], 0
    while start < len(rings) - 1:
        stop = start + 1
        while (
            stop + 1 < len(rings)
            and (stop + 2 - start) * rings.shape[1] <= PIECE_VERTICES
            and ConvexHull(rings[start : stop + 2].reshape(-1, 3)).volume
            <= CONVEX_SLACK * sum(single[start : stop + 1])
        ):
            stop += 1
        pieces.append(convex_piece(rings[start : stop + 1].reshape(-1, 3)))
        start = stop
    return tuple(pieces)


def _frustum_volume(profile: np.ndarray) -> float:
    r, z = profile.T
    return float(np.pi / 3 * np.sum(np.diff(z) * (r[:-1] ** 2 + r[:-1] * r[1:] + r[1:] ** 2)))


def _upper_hull(profile: np.ndarray) -> np.ndarray:
    """The points (radius, height) of a profile that its solid's convex hull keeps."""
    keep: list[np.ndarray] = []
    for point in profile:
        while len(keep) > 1:
            (r0, z0), (r1, z1) = keep[-2], keep[-1]
            if (r1 - r0) * (point[1] - z0) > (point[0] - r0) * (z1 - z0):
                break
            keep.pop()
        keep.append(point)
    return np.array(keep)


def _stacked_pieces(profile: np.ndarray) -> tuple[ConvexPiece, ...]:
    """Convex slices of a solid of revolution, profile (N, 2) radius and height."""
    pieces, start = [], 0
    while start < len(profile) - 1:
        stop = start + 1
        while stop + 1 < len(profile):
            run = profile[start : stop + 2]
            if _frustum_volume(_upper_hull(run)) > CONVEX_SLACK * _frustum_volume(run):
                break
            stop += 1
        pieces.append(_disc_piece(_upper_hull(profile[start : stop + 1])))
        start = stop
    return tuple(pieces)


def _disc_piece(profile: np.ndarray) -> ConvexPiece:
    """One convex slice; it has as many corners as the limit allows and the volume of the round one."""
    while len(profile) > 6:  # a ball keeps 6 rings: drop the ring whose loss costs least
        loss = [
            abs(_frustum_volume(profile) - _frustum_volume(np.delete(profile, i, axis=0)))
            for i in range(1, len(profile) - 1)
        ]
        profile = np.delete(profile, 1 + int(np.argmin(loss)), axis=0)
    rings = int((profile[:, 0] > 1e-5).sum())
    segments = min(24, (PIECE_VERTICES - len(profile) + rings) // max(rings, 1))
    angle = 2 * np.pi * np.arange(segments) / segments
    area = np.sqrt((2 * np.pi / segments) / np.sin(2 * np.pi / segments))  # a polygon of the circle's area
    points = []
    for radius, height in profile:
        if radius <= 1e-5:
            points.append(np.array([[0.0, 0.0, height]]))
        else:
            xy = radius * area * np.stack([np.cos(angle), np.sin(angle)], -1)
            points.append(np.concatenate([xy, np.full((segments, 1), height)], -1))
    return convex_piece(np.concatenate(points))


def _wall_bands(outer: np.ndarray, tolerance_m: float) -> list[int]:
    """Indices that cut a wall's profile (N, 2) into at most three bands that are straight within the tolerance."""
    cuts = [0, len(outer) - 1]
    while len(cuts) < 4:
        worst, where = tolerance_m, -1
        for i, j in itertools.pairwise(cuts):
            chord = np.interp(outer[i : j + 1, 1], outer[[i, j], 1], outer[[i, j], 0])
            gap = np.abs(chord - outer[i : j + 1, 0])
            if gap.max() > worst:
                worst, where = float(gap.max()), i + int(gap.argmax())
        if where < 0:
            break
        cuts = sorted([*cuts, where])
    return cuts


def _wall_pieces(outer: np.ndarray, inner_m: np.ndarray) -> tuple[ConvexPiece, ...]:
    """Wedges of a vessel's wall: outer profile (N, 2) radius and height, inner radius (N,)."""
    thickness = float(np.median(outer[:, 0] - inner_m))
    cuts = _wall_bands(outer, BAND_SLACK * thickness)
    wedges = WALL_WEDGES[len(cuts) - 2]
    step = 2 * np.pi / wedges
    widen_outer = np.sqrt((step / 2) / np.sin(step / 2))  # chords enclose the area of the arcs
    widen_inner = np.sqrt(step / np.sin(step))
    pieces = []
    for i, j in itertools.pairwise(cuts):
        r_out = outer[[i, j], 0] * widen_outer
        r_in = np.minimum(inner_m[[i, j]] * widen_inner, r_out - 0.3 * (outer[[i, j], 0] - inner_m[[i, j]]))
        height = outer[[i, j], 1]
        for wedge in range(wedges):
            corners = []
            for radius, share in ((r_out, (0.0, 0.5, 1.0)), (r_in, (0.0, 1.0))):
                for part in share:
                    angle = (wedge + part) * step
                    corners.append(np.stack([radius * np.cos(angle), radius * np.sin(angle), height], -1))
            pieces.append(convex_piece(np.concatenate(corners)))
    return tuple(pieces)
