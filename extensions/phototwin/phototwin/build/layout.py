"""Where fitted objects can stand: on the support or on each other and not in each other, as near as possible to where the photo shows them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from phototwin.kernels.signed_distance import Solids, signed_distances
from phototwin.scene import ConvexPiece

BESIDE_GAP_M = 0.001
"""Gap that is left between things side by side."""
ABOVE_GAP_M = 0.0002
"""Gap that is left under everything: it must not drop, nor push. PhysX throws things whose flat face touches another to the last
bit (measured: within 1 um of the table, and from 0.1 mm in it), and sets them down softly from here."""
FLAT = np.cos(np.arctan(0.5))
"""Contacts flatter than the usual friction of 0.5 holds are stood on; steeper ones are slid off."""
STEP_M = 0.005
"""Furthest move of one round along an axis, within which distances change nearly linearly."""
ROUNDS = 120
DONE_M = 2e-5
STUCK_M = 3e-4
"""Deeper overlap than this is left over by contacts that contradict each other."""
WEIGHT_FALL, WEIGHT_OVERLAP = 1e2, 1e5
"""What a millimetre of height and of overlap cost, against half a square millimetre of sideways move."""
BEHIND_M = 1e-4
"""A face is covered where the same object goes on this far behind it."""
TOLD_M = 5e-4
"""Smaller moves are not worth a sentence."""
FAR_MOVE_M = 0.04
"""Further than this an object no longer is where the photo shows it."""
MM = 1000.0


@dataclass(frozen=True, eq=False)
class Layout:
    """Poses that were made possible.

    Attributes:
        T_world_object: (N, 4, 4) [m]; only translations change.
        overlap_before_m: Deepest overlap of the poses that were given [m].
        overlap_m: Deepest overlap that is left [m].
        notes: A sentence for every object that was moved visibly.
    """

    T_world_object: np.ndarray
    overlap_before_m: float
    overlap_m: float
    notes: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class _Contacts:
    """Linearised contacts: object ``first`` must keep ``normal . (move_first - move_second) >= room``; second -1 is the support."""

    first: np.ndarray
    second: np.ndarray
    normal: np.ndarray
    room: np.ndarray


def solve_layout(
    T_world_object: list[np.ndarray],
    pieces: list[tuple[ConvexPiece, ...]],
    names: tuple[str, ...],
    away_w: np.ndarray,
    away_doubt: float,
) -> Layout:
    """The poses with the least sideways move in which nothing overlaps and everything rests on the support or on another thing.

    All objects are solved for together: rounds of a quadratic programme over their moves, in which gravity pulls harder than the
    photo holds sideways and every near pair of surfaces is a linear constraint. A move along the view costs less than one across
    it, as much less as the photo knows less about it, so that reprojection stays true.

    Args:
        T_world_object: N fitted poses (4, 4) [m].
        pieces: Convex pieces of each, object frame.
        names: What to call them.
        away_w: Horizontal directions from the camera to the objects, (N, 2), unit length.
        away_doubt: How much less sure the place along the view is than across it, a factor of at least 1.
    """
    import daqp  # noqa: F401  (the solver below; a missing one must be named here, not by qpsolvers)

    start = np.stack(T_world_object).astype(np.float64) if pieces else np.zeros((0, 4, 4))
    solids, wholes = make_solids(pieces), make_solids([_hull(own) for own in pieces])
    easy_w = np.column_stack([away_w, np.zeros(len(pieces))]) * np.sqrt(1 - 1 / away_doubt)
    before, apart = deepest_overlap(start, solids), np.zeros((len(pieces), len(pieces)), dtype=bool)
    T, stiffness = start, _stiffness(away_w, away_doubt)
    for _ in range(len(pieces) + 1):
        T = _descend(start, solids, wholes, apart, easy_w, stiffness)
        stuck = _overlapping(T, solids) & ~apart
        if not stuck.any():
            break
        apart |= stuck  # pieces of thin walls can push both ways at once: such objects are parted as wholes
    moved = T[:, :3, 3] - start[:, :3, 3]
    notes = tuple(s for m, name in zip(moved, names, strict=True) if (s := _sentence(name, m)))
    return Layout(T, before, deepest_overlap(T, solids), notes)


def _descend(
    start: np.ndarray,
    solids: Solids,
    wholes: Solids,
    apart: np.ndarray,
    easy_w: np.ndarray,
    stiffness: np.ndarray,
) -> np.ndarray:
    """Poses (N, 4, 4) after rounds of moves, until nothing moves any more."""
    T, step = start.copy(), STEP_M
    for _ in range(ROUNDS if len(T) else 0):
        contacts = _find_contacts(T, solids, wholes, apart, easy_w)
        move = _solve_round(contacts, T[:, :3, 3] - start[:, :3, 3], stiffness, step)
        T[:, :3, 3] += move
        if np.abs(move).max() < DONE_M:
            break
        step = max(step * 0.97, STEP_M / 20)  # where contacts take turns, smaller steps come to rest
    return T


def _hull(pieces: tuple[ConvexPiece, ...]) -> tuple[ConvexPiece, ...]:
    """The convex hull of all pieces, as the only one."""
    from scipy.spatial import ConvexHull

    points = np.concatenate([piece.points for piece in pieces]) if pieces else np.zeros((0, 3), np.float32)
    return (ConvexPiece(points, ConvexHull(points).simplices.astype(np.int32)),) if len(points) else ()


def _overlapping(T: np.ndarray, solids: Solids) -> np.ndarray:
    """Which pairs of objects overlap visibly, (N, N) bool, above the diagonal."""
    pairs, _, distance = signed_distances(solids, T, 0.0)
    out = np.zeros((len(T), len(T)), dtype=bool)
    deep = distance < -STUCK_M
    out[solids.owner[pairs[deep, 0]], solids.owner[pairs[deep, 1]]] = True
    return out


def make_solids(pieces: list[tuple[ConvexPiece, ...]]) -> Solids:
    """Objects of convex pieces as corners and half-spaces; planes behind which another piece of the object goes on are no way out."""
    planes: list[np.ndarray] = [np.zeros((0, 4))]
    bounds: list[np.ndarray] = [np.zeros((0, 4))]
    way_out = [np.zeros(0, bool)]
    corners = [np.zeros((0, 3)), *(piece.points for own in pieces for piece in own)]
    for own in pieces:
        mine = [_planes(piece) for piece in own]
        for k, (piece, (plane, centers)) in enumerate(zip(own, mine, strict=True)):
            points = piece.points.astype(np.float64)
            middle = (points.min(0) + points.max(0)) / 2
            bounds.append(np.append(middle, np.linalg.norm(points - middle, axis=1).max())[None])
            probe = centers + plane[:, :3] * BEHIND_M
            covered = np.zeros(len(plane), dtype=bool)
            for other, (theirs, _) in enumerate(mine):
                if other != k:
                    covered |= (probe @ theirs[:, :3].T - theirs[:, 3]).max(1, initial=-1.0) < 0
            planes.append(plane)
            way_out.append(~covered)
    return Solids(
        np.concatenate(planes).astype(np.float32),
        np.concatenate(way_out).astype(np.int32),
        np.cumsum([len(plane) for plane in planes]).astype(np.int32),
        np.concatenate(corners).astype(np.float32),
        np.cumsum([len(points) for points in corners]).astype(np.int32),
        np.concatenate(bounds).astype(np.float32),
        np.repeat(np.arange(len(pieces)), [len(own) for own in pieces]).astype(np.int32),
    )


def _planes(piece: ConvexPiece) -> tuple[np.ndarray, np.ndarray]:
    """Planes (F, 4) of a convex piece's triangles and the triangles' centres (F, 3); slivers are left out."""
    a, b, c = (piece.points[piece.faces[:, i]].astype(np.float64) for i in range(3))
    normal = np.cross(b - a, c - a)
    length = np.linalg.norm(normal, axis=1)
    good = length > 1e-12
    normal, center = normal[good] / length[good, None], ((a + b + c) / 3)[good]
    inward = ((piece.points.mean(0) - center) * normal).sum(1) > 0
    normal[inward] *= -1
    return np.concatenate([normal, (normal * center).sum(1, keepdims=True)], 1), center


def _stiffness(away_w: np.ndarray, away_doubt: float) -> np.ndarray:
    """(N, 3, 3): what a move costs; nothing along Z, 1 across the view and less along it."""
    out = np.zeros((len(away_w), 3, 3))
    for i, (x, y) in enumerate(away_w):
        along = np.outer([x, y], [x, y])
        out[i, :2, :2] = np.eye(2) - (1 - 1 / away_doubt**2) * along
    return out


def _lowest(T: np.ndarray, solids: Solids) -> np.ndarray:
    """Height of the lowest corner of each object (N,) [m]."""
    owner = np.repeat(solids.owner, np.diff(solids.first_point))
    height = np.einsum("vj,vj->v", T[owner, 2, :3], solids.points) + T[owner, 2, 3]
    lowest = np.full(len(T), np.inf)
    np.minimum.at(lowest, owner, height)
    return lowest


def deepest_overlap(T_world_object: np.ndarray, solids: Solids) -> float:
    """Deepest overlap of two objects, or of one and the support, at poses (N, 4, 4) [m]."""
    _, _, distance = signed_distances(solids, T_world_object, 0.0)
    return float(max(0.0, -min(distance.min(initial=0.0), _lowest(T_world_object, solids).min(initial=0.0))))


def _find_contacts(T: np.ndarray, solids: Solids, wholes: Solids, apart: np.ndarray, easy_w: np.ndarray) -> _Contacts:
    """Everything that may touch within one step: pieces of objects, or whole objects where they are to be kept ``apart``."""
    reach = 2 * np.sqrt(3) * STEP_M + BESIDE_GAP_M
    found = []
    for shapes, is_whole in ((solids, False), (wholes, True)):
        pairs, normal, gap = signed_distances(shapes, T, reach, easy_w)
        first, second = shapes.owner[pairs].reshape(-1, 2).T
        near = (gap < reach) & (apart[first, second] == is_whole)
        found.append((first[near], second[near], normal[near], gap[near]))
    first, second, normal, gap = (np.concatenate(parts) for parts in zip(*found, strict=True))
    # On a nearly flat contact friction holds: it is as if it were level.
    flat = np.abs(normal[:, 2]) > FLAT
    gap = np.where(flat, gap / np.maximum(np.abs(normal[:, 2]), FLAT), gap)
    normal = np.where(flat[:, None], np.sign(normal[:, 2:]) * np.array([0.0, 0.0, 1.0]), normal)
    room = np.minimum(np.where(flat, ABOVE_GAP_M, BESIDE_GAP_M) - gap, STEP_M)
    lowest = _lowest(T, solids)
    standing = np.arange(len(T))
    return _Contacts(
        np.concatenate([first, standing]),
        np.concatenate([second, np.full(len(T), -1)]),
        np.concatenate([normal, np.tile([0.0, 0.0, 1.0], (len(T), 1))]),
        np.concatenate([room, np.minimum(ABOVE_GAP_M - lowest, STEP_M)]),
    )


def _solve_round(contacts: _Contacts, moved: np.ndarray, stiffness: np.ndarray, step_m: float) -> np.ndarray:
    """The best moves (N, 3) of one round [m]; contacts that cannot all hold give way as little as possible."""
    from qpsolvers import solve_qp

    count, rows = len(moved), len(contacts.room)
    size = 3 * count + rows  # moves in millimetres, then what each contact gives way, scaled to cost 1
    P, q = np.zeros((size, size)), np.zeros(size)
    for i in range(count):
        block = slice(3 * i, 3 * i + 3)
        P[block, block] = stiffness[i] + 1e-3 * np.eye(3)
        q[block] = stiffness[i] @ moved[i] * MM + np.array([0.0, 0.0, WEIGHT_FALL])
    P[3 * count :, 3 * count :] = np.eye(rows)
    G, h = np.zeros((rows, size)), -contacts.room * MM
    for k in range(rows):
        G[k, 3 * contacts.first[k] : 3 * contacts.first[k] + 3] = -contacts.normal[k]
        if contacts.second[k] >= 0:
            G[k, 3 * contacts.second[k] : 3 * contacts.second[k] + 3] = contacts.normal[k]
        G[k, 3 * count + k] = -1 / np.sqrt(WEIGHT_OVERLAP)
    bound = np.concatenate([np.full(3 * count, step_m * MM), np.full(rows, np.inf)])
    lower = np.concatenate([np.full(3 * count, -step_m * MM), np.zeros(rows)])
    best = solve_qp(P, q, G, h, lb=lower, ub=bound, solver="daqp")
    return np.zeros((count, 3)) if best is None else best[: 3 * count].reshape(count, 3) / MM


def _sentence(name: str, move: np.ndarray) -> str:
    """What was done to one object, or nothing."""
    aside, up = float(np.linalg.norm(move[:2])), float(move[2])
    words = []
    if aside > TOLD_M:
        words.append(f"moved by {MM * aside:.0f} mm, out of its neighbours")
    if abs(up) > 2 * TOLD_M:
        words.append(f"{'lifted' if up > 0 else 'lowered'} by {MM * abs(up):.0f} mm onto what is beneath it")
    if not words:
        return ""
    far = " It no longer stands where the photo shows it." if max(aside, abs(up)) > FAR_MOVE_M else ""
    return f"The {name} was {' and '.join(words)}.{far}"
