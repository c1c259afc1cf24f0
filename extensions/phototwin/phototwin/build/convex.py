"""Convex pieces of any closed mesh: one hull where that is enough, else cut after cut where a hull would bridge the most air."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from phototwin.build.repair import simplify
from phototwin.build.shapes import PIECE_VERTICES, convex_piece, is_closed, mesh_volume
from phototwin.build.solid import WATER_SHARE, solid_cells, water
from phototwin.scene import ConvexPiece

HULL_SLACK = 0.03  # a hull at most this much larger than the mesh stands for it alone
EXCESS = 0.04  # cutting stops when all hulls together are at most this much larger than the solid
MAX_PIECES = 36  # as many as a fitted vessel has
CUT_FACES = 1500  # the search's cost grows with the faces
CUT_PLACES = (0.3, 0.5, 0.7)  # of a part's extent; and where its section changes most
SECTION_BINS = 32
MIN_CELLS = 30  # of a part that may be cut further
THINNEST = 0.4  # a piece is flattened to this share at most
WEDGES = 12  # around a vessel's wall before the worst of them are cut further


@dataclass(frozen=True, eq=False)
class _Part:
    """What lies between cuts: its surface (T, 3, 3), cells of the solid (N, 3), hull and the hull's volume."""

    soup: np.ndarray
    cells: np.ndarray
    hull_points: np.ndarray
    hull_volume: float


def convex_pieces(points: np.ndarray, faces: np.ndarray) -> tuple[tuple[ConvexPiece, ...], str]:
    """Convex pieces whose union stands for a closed mesh, and a note where their volume is off by more than 3 % ("" = it is not).

    The part whose hull bridges the most air is cut by the plane that leaves the least; in the end each piece is flattened on
    its hollow side until it has the volume of what it stands for: a wall keeps its outside and its thickness.
    """
    volume = abs(mesh_volume(points, faces))
    hull = _limited(convex_piece(points))
    if _volume(convex_piece(points)) <= (1 + HULL_SLACK) * volume:
        return (hull,), ""
    light_points, light_faces = simplify(points, faces, CUT_FACES, keep_closed=is_closed(faces))
    inside, start, cell = solid_cells(points, faces)
    cells = np.argwhere(inside) * cell + start
    if len(cells) < MIN_CELLS:
        return (hull,), "it is too thin to be cut into convex pieces: one hull stands for it"
    whole = _part(light_points[light_faces], cells)
    assert whole is not None
    each = cell**3
    share, middle, floor = water(points, faces)
    parts = _cut_all(_wedges(whole, middle, floor) if share > WATER_SHARE else [whole], each)
    pieces = tuple(piece for part in parts if (piece := _flattened(part, len(part.cells) * each)) is not None)
    off = sum(_volume(p) for p in pieces) / (len(cells) * each) - 1
    note = (
        f"its {len(pieces)} convex pieces have {100 * off:+.0f} % of the mesh's volume" if abs(off) > HULL_SLACK else ""
    )
    return pieces, note


def _part(soup: np.ndarray, cells: np.ndarray) -> _Part | None:
    """A part with its hull; None where there is none."""
    from scipy.spatial import ConvexHull, QhullError

    points = soup.reshape(-1, 3)
    if len(points) < 4:
        return None
    try:
        hull = ConvexHull(points)
    except QhullError:
        return None
    return _Part(soup, cells, points[hull.vertices], float(hull.volume))


def _wedges(whole: _Part, middle: np.ndarray, floor: float) -> list[_Part]:
    """A vessel's floor and wedges of its wall: no single plane makes a wall more convex, so a search would not find the first cuts."""
    up = np.array([0.0, 0.0, 1.0])
    halves = _cut(whole, up, floor)
    base, wall = halves if halves is not None else (None, whole)
    out = [base] if base is not None else []
    for k in range(WEDGES):
        wedge: _Part | None = wall
        for turn, sign in ((k, 1.0), (k + 1, -1.0)):
            angle = 2 * np.pi * turn / WEDGES
            side = sign * np.array([-np.sin(angle), np.cos(angle), 0.0])
            offset = float(side[:2] @ middle)
            if wedge is not None:
                wedge = _part(_clip(wedge.soup, side, offset), wedge.cells[wedge.cells @ side >= offset])
        if wedge is not None and len(wedge.cells):
            out.append(wedge)
    return out


def _cut_all(parts: list[_Part], each: float) -> list[_Part]:
    """The parts after cutting, until their hulls bridge little air or there are as many as may be."""
    parts, done = list(parts), []
    solid = sum(len(part.cells) for part in parts) * each
    while parts and len(parts) + len(done) < MAX_PIECES:
        if sum(p.hull_volume for p in parts + done) <= (1 + EXCESS) * solid:
            break
        worst = parts.pop(int(np.argmax([part.hull_volume - len(part.cells) * each for part in parts])))
        halves = _best_cut(worst) if len(worst.cells) >= MIN_CELLS else None
        if halves is None:
            done.append(worst)
        else:
            parts += halves
    return parts + done


def _cut(part: _Part, axis: np.ndarray, place: float) -> tuple[_Part, _Part] | None:
    """What lies below and above a plane; None where one of them is nothing."""
    below = part.cells @ axis <= place
    if below.all() or not below.any():
        return None
    low, high = (
        _part(_clip(part.soup, -axis, -place), part.cells[below]),
        _part(_clip(part.soup, axis, place), part.cells[~below]),
    )
    return None if low is None or high is None else (low, high)


def _best_cut(part: _Part) -> tuple[_Part, _Part] | None:
    """The two halves whose hulls are smallest together, over planes across the part's principal axes."""
    middle = part.cells.mean(axis=0)
    axes = np.linalg.svd((part.cells - middle)[:: max(1, len(part.cells) // 4000)], full_matrices=False)[2]
    best, best_volume = None, np.inf  # the two halves of a bowl bridge as much as it did, but can be cut further
    for axis in axes:
        for place in _cut_places(part.cells @ axis):
            halves = _cut(part, axis, place)
            if halves is not None and halves[0].hull_volume + halves[1].hull_volume < best_volume:
                best, best_volume = halves, halves[0].hull_volume + halves[1].hull_volume
    return best


def _cut_places(along: np.ndarray) -> list[float]:
    """Where to cut a part whose cells lie at ``along`` (N,): at shares of its extent and where its section changes most."""
    low, high = float(along.min()), float(along.max())
    counts, edges = np.histogram(along, SECTION_BINS, (low, high + 1e-12))
    change = np.abs(np.diff(counts))
    steps = edges[1:-1][np.argsort(-change, kind="stable")[:2]]
    return [low + share * (high - low) for share in CUT_PLACES] + [float(s) for s in steps]


def _clip(soup: np.ndarray, normal: np.ndarray, offset: float) -> np.ndarray:
    """The part of triangles (T, 3, 3) where ``normal . x >= offset``."""
    height = soup @ normal - offset
    inside = height >= 0
    count = inside.sum(axis=1)
    out = [soup[count == 3]]
    for number in (1, 2):
        some, level, within = soup[count == number], height[count == number], inside[count == number]
        if not len(some):
            continue
        odd = (within if number == 1 else ~within).argmax(axis=1)  # the corner that is alone on its side
        order = (odd[:, None] + np.arange(3)) % 3
        row = np.arange(len(some))[:, None]
        (a, b, c), (ha, hb, hc) = np.moveaxis(some[row, order], 1, 0), level[row, order].T
        ab = a + (ha / (ha - hb))[:, None] * (b - a)
        ac = a + (ha / (ha - hc))[:, None] * (c - a)
        if number == 1:
            out.append(np.stack([a, ab, ac], 1))
        else:
            out += [np.stack([ab, b, c], 1), np.stack([ab, c, ac], 1)]
    return np.concatenate(out)


def _flattened(part: _Part, volume: float) -> ConvexPiece | None:
    """The part's hull at the given volume: pressed together along its thinnest direction, its full side stays where it is."""
    if len(part.cells) == 0:
        return None
    piece = _limited(convex_piece(part.hull_points))
    points = piece.points.astype(np.float64)
    middle = points.mean(axis=0)
    axis = _thinnest(points)
    share = float(np.clip(volume / _volume(piece), THINNEST, 1.0))
    along = (points - middle) @ axis
    full = (part.cells.mean(axis=0) - middle) @ axis > 0
    anchor = along.max() if full else along.min()
    return convex_piece(points + ((share - 1) * (along - anchor))[:, None] * axis)


def _thinnest(points: np.ndarray) -> np.ndarray:
    """The direction (3,), normal to one of the hull's faces, along which points (N, 3) extend least."""
    from scipy.spatial import ConvexHull

    normals = ConvexHull(points).equations[:, :3]
    return normals[np.ptp(points @ normals.T, axis=0).argmin()]


def _limited(piece: ConvexPiece) -> ConvexPiece:
    """The piece with at most as many vertices as the engines take."""
    low, high, faces = piece.points.min(axis=0), piece.points.max(axis=0), 2 * PIECE_VERTICES - 4
    while len(piece.points) > PIECE_VERTICES:
        points = piece.points.astype(np.float64)
        if faces >= PIECE_VERTICES:
            points = np.clip(simplify(points, piece.faces, faces, keep_closed=False)[0], low, high)  # its foot stays
        else:  # a hull that does not get simpler: the vertices that reach furthest
            points = points[np.unique((points @ _directions().T).argmax(axis=0))]
        piece = convex_piece(points)
        faces -= 8
    return piece


def _directions() -> np.ndarray:
    """Evenly spread unit vectors (PIECE_VERTICES, 3): a spiral by the golden angle."""
    turn = np.arange(PIECE_VERTICES) * np.pi * (3 - np.sqrt(5))
    z = 1 - (2 * np.arange(PIECE_VERTICES) + 1) / PIECE_VERTICES
    return np.stack([np.sqrt(1 - z**2) * np.cos(turn), np.sqrt(1 - z**2) * np.sin(turn), z], -1)


def _volume(piece: ConvexPiece) -> float:
    return mesh_volume(piece.points.astype(np.float64), piece.faces)
