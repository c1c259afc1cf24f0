"""How far convex pieces of objects are from each other, negative where they overlap, and which way leads apart."""

# Warp reads these annotations as types of its own; a type checker cannot.
# pyright: reportInvalidTypeForm=false, reportOperatorIssue=false, reportArgumentType=false, reportCallIssue=false
# pyright: reportAssignmentType=false, reportIndexIssue=false, reportGeneralTypeIssues=false, reportReturnType=false

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import warp as wp

from phototwin.errors import InputError

FAR_M = wp.constant(1.0e6)


@dataclass(frozen=True, eq=False)
class Solids:
    """Objects as unions of convex pieces, each piece both its corners and the half-spaces of its faces, in the frame of its object.

    Attributes:
        planes: ``n . p - d`` is negative inside, (P, 4) float32 rows ``n_x n_y n_z d`` with unit normals [m].
        way_out: (P,) int32, 1 where the plane borders on free space, 0 where another piece of the same object goes on behind it.
        first_plane: First plane of each piece, and one past the last, (K + 1,) int32.
        points: Corners, (V, 3) float32 [m].
        first_point: First corner of each piece, and one past the last, (K + 1,) int32.
        bounds: Sphere around each piece, (K, 4) float32 rows ``c_x c_y c_z r`` [m].
        owner: Object of each piece, (K,) int32.
    """

    planes: np.ndarray
    way_out: np.ndarray
    first_plane: np.ndarray
    points: np.ndarray
    first_point: np.ndarray
    bounds: np.ndarray
    owner: np.ndarray


@wp.func
def gap_before_faces(
    planes: wp.array(dtype=wp.vec4),
    way_out: wp.array(dtype=int),
    first_plane: wp.array(dtype=int),
    points_w: wp.array(dtype=wp.vec3),
    first_point: wp.array(dtype=int),
    k: int,
    other: int,
    easy: wp.vec3,
) -> wp.vec4:
    """Normal and distance of the face of piece k that the other piece is furthest in front of, or out from behind with least cost."""
    best = wp.vec4(0.0, 0.0, 1.0, -FAR_M)
    best_cost = float(-FAR_M)
    for m in range(first_plane[k], first_plane[k + 1]):
        plane = planes[m]
        n = wp.vec3(plane[0], plane[1], plane[2])
        nearest = float(FAR_M)
        for v in range(first_point[other], first_point[other + 1]):
            nearest = wp.min(nearest, wp.dot(n, points_w[v]) - plane[3])
        cost = nearest
        if nearest < 0.0:
            cost = nearest * wp.length(n - wp.dot(n, easy) * easy)
        if cost > best_cost and (way_out[m] != 0 or nearest > 0.0):
            best = wp.vec4(n[0], n[1], n[2], nearest)
            best_cost = cost
    return best


@wp.kernel(enable_backward=False)
def measure_gap_kernel(
    # in
    pairs: wp.array(dtype=wp.vec2i),
    planes_w: wp.array(dtype=wp.vec4),
    way_out: wp.array(dtype=int),
    first_plane: wp.array(dtype=int),
    points_w: wp.array(dtype=wp.vec3),
    first_point: wp.array(dtype=int),
    easy_w: wp.array(dtype=wp.vec3),
    # out
    gap_out: wp.array(dtype=wp.vec4),
) -> None:
    """One thread per pair of pieces: the axis among the normals of both along which they are furthest apart."""
    i = wp.tid()
    a = pairs[i][0]
    b = pairs[i][1]
    easy = easy_w[i]
    of_b = gap_before_faces(planes_w, way_out, first_plane, points_w, first_point, b, a, easy)
    of_a = gap_before_faces(planes_w, way_out, first_plane, points_w, first_point, a, b, easy)
    cost_b = of_b[3]
    cost_a = of_a[3]
    if cost_a < 0.0 and cost_b < 0.0:
        n_a = wp.vec3(of_a[0], of_a[1], of_a[2])
        n_b = wp.vec3(of_b[0], of_b[1], of_b[2])
        cost_a *= wp.length(n_a - wp.dot(n_a, easy) * easy)
        cost_b *= wp.length(n_b - wp.dot(n_b, easy) * easy)
    gap_out[i] = wp.where(cost_b >= cost_a, of_b, wp.vec4(-of_a[0], -of_a[1], -of_a[2], of_a[3]))


def signed_distances(
    solids: Solids, T_world_object: np.ndarray, reach_m: float, easy_w: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Signed distances between all pieces of different objects that may be within reach of each other.

    Separating axes over the face normals of both pieces: where two pieces overlap, the shortest way along such a normal
    into free space, exact but for pairs of edges; where they do not, a lower bound of their distance, exact before a face.

    Args:
        solids: N objects of K pieces.
        T_world_object: Poses, (N, 4, 4) [m].
        reach_m: Pieces whose bounding spheres are further apart are left out [m].
        easy_w: For each object a direction (N, 3), at most of unit length: of overlapping pieces the way out is preferred that leads
            along it, by weighing depths with ``|n - (n . e) e|``; None prefers none.

    Returns:
        Pairs of pieces (M, 2) int32, the first of the object with the lower index; unit normals (M, 3) in the world, from the second
        to the first piece; and distances (M,) [m].

    Raises:
        InputError: Poses and objects do not fit each other.
    """
    if T_world_object.shape[1:] != (4, 4) or (len(solids.owner) and solids.owner.max() >= len(T_world_object)):
        raise InputError(f"Poses of shape {T_world_object.shape} do not fit the objects: expected one (4, 4) each.")
    R, t = T_world_object[solids.owner, :3, :3], T_world_object[solids.owner, :3, 3]
    centers_w = np.einsum("kij,kj->ki", R, solids.bounds[:, :3]) + t
    apart = np.linalg.norm(centers_w[:, None] - centers_w[None], axis=-1) - solids.bounds[:, 3] - solids.bounds[:, 3:].T
    a, b = np.nonzero((apart < reach_m) & (solids.owner[:, None] < solids.owner[None]))
    if not len(a):
        return np.zeros((0, 2), np.int32), np.zeros((0, 3)), np.zeros(0)
    pairs = np.stack([a, b], 1).astype(np.int32)
    piece_of_plane = np.repeat(np.arange(len(solids.owner)), np.diff(solids.first_plane))
    piece_of_point = np.repeat(np.arange(len(solids.owner)), np.diff(solids.first_point))
    normals_w = np.einsum("pij,pj->pi", R[piece_of_plane], solids.planes[:, :3])
    planes_w = np.column_stack([normals_w, solids.planes[:, 3] + (normals_w * t[piece_of_plane]).sum(1)])
    points_w = np.einsum("vij,vj->vi", R[piece_of_point], solids.points) + t[piece_of_point]
    easy = np.zeros((len(T_world_object), 3)) if easy_w is None else easy_w
    easy_of_pair = (easy[solids.owner[a]] + easy[solids.owner[b]]) / 2
    device = "cpu"  # some thousand pairs at most: the copy to a GPU would take longer
    out = wp.zeros(len(pairs), dtype=wp.vec4, device=device)
    wp.launch(
        measure_gap_kernel,
        dim=len(pairs),
        inputs=[
            wp.array(pairs, dtype=wp.vec2i, device=device),
            wp.array(planes_w.astype(np.float32), dtype=wp.vec4, device=device),
            wp.array(solids.way_out, dtype=int, device=device),
            wp.array(solids.first_plane, dtype=int, device=device),
            wp.array(points_w.astype(np.float32), dtype=wp.vec3, device=device),
            wp.array(solids.first_point, dtype=int, device=device),
            wp.array(easy_of_pair.astype(np.float32), dtype=wp.vec3, device=device),
        ],
        outputs=[out],
        device=device,
    )
    values = out.numpy().astype(np.float64)
    return pairs, values[:, :3], values[:, 3]
