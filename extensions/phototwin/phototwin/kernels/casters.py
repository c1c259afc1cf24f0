"""Rigid parts that throw shadows: a ray-castable mesh for each, and a few spheres that stand for it where only its size counts."""

# Warp reads these annotations as types of its own; a type checker cannot.
# pyright: reportInvalidTypeForm=false, reportOperatorIssue=false, reportArgumentType=false, reportCallIssue=false
# pyright: reportAssignmentType=false, reportIndexIssue=false, reportGeneralTypeIssues=false, reportReturnType=false

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import warp as wp

SAMPLES = 600
"""Points on a part's surface from which its spheres are fitted."""
LINES = 4000
"""Lines that are shot at a part to see how much it shows: 2 % of error."""
MOST_SPHERES = 5
MOST_PIECES = 8
MOST_FACES = 1000
LEAST_FACES = 24
"""Pieces with fewer triangles are not divided: large triangles have large bounds whatever is done."""
ROUND = 1.5
"""A piece of a part whose longest side is at most this many times its shortest is one sphere."""
DEFAULT_ALBEDO = 0.5
"""Linear reflectance of a part of which nothing is known."""
LEAST_POINTS = 12
"""Fewer points are not divided any further."""


@dataclass(frozen=True, eq=False)
class Casters:
    """Parts on a device; made once by ``make_casters``, their poses come with every call.

    Attributes:
        device: Warp device.
        parts: How many parts there are (P).
        meshes: Their ``wp.Mesh``, each in its part's frame; kept alive here.
        mesh_ids: Handles of the meshes, (P,) uint64 on the device.
        bound_p: Bounding sphere of each part in its own frame: centre and radius, (P, 4) float64 [m].
        piece_first: First piece of each part, (P + 1,) int32.
        pieces_p: Bounding spheres of the pieces that parts are divided into, in the parts' frames, (Q, 4) float64 [m].
        albedo: Linear reflectance of each part, (P,) float64.
        sphere_first: First sphere of each part, (P + 1,) int32.
        spheres_p: Fitted spheres in their parts' frames, (S, 4) float64 [m]; the last one of a part stands for all of it.
    """

    device: str
    parts: int
    meshes: tuple[Any, ...]
    mesh_ids: Any
    bound_p: np.ndarray
    piece_first: np.ndarray
    pieces_p: np.ndarray
    albedo: np.ndarray
    sphere_first: np.ndarray
    spheres_p: np.ndarray


def make_casters(
    parts: Sequence[tuple[np.ndarray, np.ndarray]], device: str = "cpu", albedo: Sequence[float] | None = None
) -> Casters:
    """Parts ready to throw shadows.

    Meshes are reduced to ``MOST_FACES`` triangles: shadows of a robot's links differ by 3 % of the light in their penumbrae then, and
    rays take a fifth less time.

    Args:
        parts: Points (V, 3) in the part's frame [m] and triangles (F, 3) of each part.
        device: Warp device.
        albedo: Linear reflectance of each part, how much light it throws back; None takes ``DEFAULT_ALBEDO``.

    Raises:
        ValueError: There are no parts, or a part has no triangles.
    """
    if not parts or any(len(faces) == 0 for _, faces in parts):
        raise ValueError(f"Every one of at least one part needs triangles, got {[len(f) for _, f in parts]}.")
    parts = [_reduced(points, faces) for points, faces in parts]
    pieces = [bound_pieces(points, faces) for points, faces in parts]
    bounds = np.array([_bound(points[np.unique(faces)]) for points, faces in parts])
    with wp.ScopedDevice(device):
        meshes = tuple(
            wp.Mesh(
                wp.array(np.asarray(points, np.float32), dtype=wp.vec3),
                wp.array(np.asarray(faces, np.int32).ravel(), dtype=wp.int32),
            )
            for points, faces in parts
        )
        shown = shown_areas(meshes, bounds)
        spheres = [_with_whole(fit_spheres(*part, area)) for part, area in zip(parts, shown.tolist(), strict=True)]
        return Casters(
            device=device,
            parts=len(parts),
            meshes=meshes,
            mesh_ids=wp.array([int(m.id) for m in meshes], dtype=wp.uint64),
            bound_p=bounds,
            piece_first=np.cumsum([0, *(len(p) for p in pieces)]).astype(np.int32),
            pieces_p=np.concatenate(pieces),
            albedo=np.full(len(parts), DEFAULT_ALBEDO) if albedo is None else np.array(albedo, dtype=np.float64),
            sphere_first=np.cumsum([0, *(len(s) for s in spheres)]).astype(np.int32),
            spheres_p=np.concatenate(spheres),
        )


def _reduced(points: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The mesh with at most about ``MOST_FACES`` triangles."""
    import trimesh

    if len(faces) <= MOST_FACES:
        return points, faces
    mesh = trimesh.Trimesh(points, faces, process=False)
    mesh.merge_vertices(merge_tex=True, merge_norm=True)
    mesh = mesh.simplify_quadric_decimation(face_count=MOST_FACES)
    return np.asarray(mesh.vertices), np.asarray(mesh.faces)


def fit_spheres(points: np.ndarray, faces: np.ndarray, shown_m2: float | None = None) -> np.ndarray:
    """Spheres (S, 4), centre and radius, that hide about as much as the part does, seen from everywhere.

    The surface is divided across its longest side until its pieces are round. A piece's sphere has the area that the hull of
    the piece shows on average, a quarter of its surface. Source: Cauchy (1841), mean projection of convex bodies. Radii are then scaled
    until all spheres together show what the part does.

    Args:
        points: Points (V, 3) [m].
        faces: Triangles (F, 3).
        shown_m2: What the part shows on average, see ``shown_areas``; None takes what its hull shows.
    """
    import trimesh

    mesh = trimesh.Trimesh(points, faces, process=False)
    samples = np.asarray(trimesh.sample.sample_surface(mesh, SAMPLES, seed=0)[0])
    pieces = [samples]
    while len(pieces) < MOST_SPHERES:
        shapes = [_axes(piece) for piece in pieces]
        need = [
            length if length > ROUND * width and len(p) >= LEAST_POINTS else 0.0
            for (_, length, width), p in zip(shapes, pieces, strict=True)
        ]
        worst = int(np.argmax(need))
        if need[worst] == 0.0:
            break
        piece = pieces.pop(worst)
        along = piece @ shapes[worst][0]
        middle = (along.min() + along.max()) / 2
        halves = [piece[along <= middle], piece[along > middle]]
        pieces[worst:worst] = [half for half in halves if len(half) >= 4]
    radii = np.sqrt(np.array([_hull_area(piece) for piece in pieces]) / (4 * np.pi))
    shown = _hull_area(samples) / 4 if shown_m2 is None else shown_m2
    radii *= np.sqrt(shown / max(float((np.pi * radii**2).sum()), 1e-12))
    centres = np.array([(piece.min(0) + piece.max(0)) / 2 for piece in pieces])
    return np.concatenate([centres, radii[:, None]], 1)


@wp.kernel(enable_backward=False)
def hit_bound_kernel(
    # in
    mesh: wp.uint64,
    bound: wp.vec4,
    # out
    hits_out: wp.array(dtype=wp.int32),
) -> None:
    """One thread a line, evenly among all that meet the bounding sphere: whether it hits the mesh."""
    i = wp.tid()
    state = wp.rand_init(0, i)
    direction = wp.sample_unit_sphere_surface(state)
    offset = wp.sample_unit_disk(state)
    side = wp.vec3(direction[1], direction[2], direction[0])
    side = wp.normalize(side - wp.dot(side, direction) * direction)
    across = offset[0] * side + offset[1] * wp.cross(direction, side)
    start = wp.vec3(bound[0], bound[1], bound[2]) + bound[3] * (across - 1.1 * direction)
    hits_out[i] = wp.where(wp.mesh_query_ray_anyhit(mesh, start, direction, 2.3 * bound[3]), 1, 0)


def shown_areas(meshes: Sequence[Any], bounds: np.ndarray) -> np.ndarray:
    """What meshes show on average seen from everywhere, (P,) [m^2], with their bounding spheres (P, 4)."""
    hits = wp.empty(LINES, dtype=wp.int32)
    areas = []
    for mesh, bound in zip(meshes, bounds, strict=True):
        wp.launch(hit_bound_kernel, LINES, inputs=[mesh.id, wp.vec4(*(float(b) for b in bound))], outputs=[hits])
        areas.append(np.pi * bound[3] ** 2 * max(float(hits.numpy().mean()), 1.0 / LINES))
    return np.array(areas)


def bound_pieces(points: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Bounding spheres (Q, 4) of pieces that together are the part: the largest is divided across its longest side, again and again."""
    corners = np.asarray(points, np.float64)[faces]
    pieces = [corners]
    bounds = [_bound(corners.reshape(-1, 3))]
    while len(pieces) < MOST_PIECES:
        size = [b[3] if len(p) >= LEAST_FACES else 0.0 for p, b in zip(pieces, bounds, strict=True)]
        worst = int(np.argmax(size))
        if size[worst] == 0.0:
            break
        piece = pieces.pop(worst)
        bounds.pop(worst)
        axis = int(np.argmax(np.ptp(piece.reshape(-1, 3), axis=0)))
        middles = piece.mean(1)[:, axis]
        low = middles <= np.median(middles)
        halves = [half for half in (piece[low], piece[~low]) if len(half)]
        pieces[worst:worst] = halves
        bounds[worst:worst] = [_bound(half.reshape(-1, 3)) for half in halves]
        if len(halves) == 1:
            break
    return np.array(bounds)


def _with_whole(spheres: np.ndarray) -> np.ndarray:
    """Spheres (S + 1, 4): the last one shows as much as all the others, from their common middle."""
    area = spheres[:, 3] ** 2
    middle = (spheres[:, :3] * area[:, None]).sum(0) / area.sum()
    return np.concatenate([spheres, [[*middle, np.sqrt(area.sum())]]])


def _axes(points: np.ndarray) -> tuple[np.ndarray, float, float]:
    """Longest principal axis, and the extents along the longest and the shortest."""
    axes = np.linalg.svd(points - points.mean(0), full_matrices=False)[2]
    extents = np.ptp(points @ axes.T, axis=0)
    longest = int(np.argmax(extents))
    return axes[longest], float(extents[longest]), float(extents.min())


def _hull_area(points: np.ndarray) -> float:
    """Surface of the convex hull; of something flat, both sides."""
    from scipy.spatial import ConvexHull

    return float(ConvexHull(points, qhull_options="QJ").area)


def _bound(points: np.ndarray) -> np.ndarray:
    """A bounding sphere, centre and radius (4,)."""
    centre = (points.min(0) + points.max(0)) / 2.0
    return np.array([*centre, np.linalg.norm(points - centre, axis=1).max()])
