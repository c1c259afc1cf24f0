"""Rigid meshes that stand in the way: how far a point is from the nearest, negative inside, and which way leads away."""

# Warp reads these annotations as types of its own; a type checker cannot.
# pyright: reportInvalidTypeForm=false, reportOperatorIssue=false, reportArgumentType=false, reportCallIssue=false
# pyright: reportAssignmentType=false, reportIndexIssue=false, reportGeneralTypeIssues=false, reportReturnType=false
# ruff: noqa: UP018, RUF046 (a bare literal would be a constant to Warp)

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import warp as wp

from phototwin.errors import InputError
from phototwin.frames import invert

LEAF_TRIANGLES = 2
"""Triangles in a leaf of the bounding volume hierarchy: the fastest of 1, 2, 4 and 8 for closest points on a CPU."""
FAR_M = 1000.0
"""Nothing on a table is further away: distances end there."""
ON_EDGE = wp.constant(1.0e-6)
"""A corner of a triangle with less weight than this has none: the point is on the opposite edge."""


@wp.struct
class Obstacles:
    """Meshes and where they are, as kernels read them.

    Attributes:
        ids: Warp's meshes, (M,).
        lower: Lower corners of their bounds in their own frames, (M,) [m].
        upper: Upper corners, (M,) [m].
        inner: No point is deeper inside than this, (M,) [m].
        first_face: Where a mesh's rows of ``normals`` begin; -1 where the winding number tells inside from outside, (M,).
        normals: Outward directions at the corners 0, 1, 2 of a triangle, at the edges before them, and of its face, (F, 7).
        T_mesh_world: Poses, (1 or B, M).
    """

    ids: wp.array(dtype=wp.uint64)
    lower: wp.array(dtype=wp.vec3)
    upper: wp.array(dtype=wp.vec3)
    inner: wp.array(dtype=float)
    first_face: wp.array(dtype=int)
    normals: wp.array2d(dtype=wp.vec3)
    T_mesh_world: wp.array2d(dtype=wp.mat44)


@dataclass(frozen=True, eq=False)
class MeshSet:
    """Meshes on one device, ready for queries in any poses.

    Attributes:
        device: Warp device.
        meshes: M Warp meshes.
        lower: Bounds in the frame of each mesh, (M, 3) [m].
        upper: Upper bounds, (M, 3) [m].
        inner_m: No point is deeper inside than this, (M,) [m].
        first_face: Where a mesh's rows of ``normals`` begin, -1 for one that is not closed or not of one piece, (M,) int32.
        normals: Outward directions at the parts of every triangle of the others, (F, 7, 3) float32.
    """

    device: Any
    meshes: tuple[Any, ...]
    lower: np.ndarray
    upper: np.ndarray
    inner_m: np.ndarray
    first_face: np.ndarray
    normals: np.ndarray


@wp.func
def outward(normals: wp.array2d(dtype=wp.vec3), face: int, u: float, v: float) -> wp.vec3:
    """Outward direction at the corner, edge or inside of a triangle, whichever the weights u, v, 1 - u - v are at."""
    w = 1.0 - u - v
    at_u = u > ON_EDGE
    at_v = v > ON_EDGE
    at_w = w > ON_EDGE
    if at_u and at_v and at_w:
        return normals[face, 6]
    if at_u and at_v:
        return normals[face, 3]
    if at_v and at_w:
        return normals[face, 4]
    if at_w and at_u:
        return normals[face, 5]
    return wp.where(at_u, normals[face, 0], wp.where(at_v, normals[face, 1], normals[face, 2]))


@wp.func
def gap_to_mesh(obstacles: Obstacles, m: int, p: wp.vec3, outside: bool, reach: float) -> wp.vec4:
    """Direction away from mesh m and signed distance of a point of its frame; a distance of ``reach`` where nothing is nearer.

    Source: Baerentzen and Aanaes (2005): the angle-weighted normal of the nearest corner, edge or face tells inside from outside.
    """
    mesh = obstacles.ids[m]
    near = wp.mesh_query_point_no_sign(mesh, p, reach)
    if not near.result:
        return wp.vec4(0.0, 0.0, 0.0, reach)
    away = p - wp.mesh_eval_position(mesh, near.face, near.u, near.v)
    n = wp.mesh_eval_face_normal(mesh, near.face)
    distance = wp.length(away)
    if not outside:
        if obstacles.first_face[m] >= 0:
            way_out = outward(obstacles.normals, obstacles.first_face[m] + near.face, near.u, near.v)
            if wp.dot(away, way_out) < 0.0:
                distance = -distance
        else:
            # How far off the surface the point is, is known: only the sign is asked for.
            signed = wp.mesh_query_point_sign_winding_number(mesh, p, 1.01 * distance + 1.0e-6)
            distance *= signed.sign
    if wp.abs(distance) > 1.0e-7:
        n = away / distance
    return wp.vec4(n[0], n[1], n[2], distance)


@wp.func
def nearest_gap(obstacles: Obstacles, row: int, point_w: wp.vec3, cap: float) -> wp.vec4:
    """Direction away from what is nearest and signed distance to it; ``cap`` and no direction where nothing is nearer than that.

    A point deep inside is far from every surface, so inside the bounds the search goes at least as far as the mesh is deep.
    """
    best = wp.vec4(0.0, 0.0, 0.0, cap)
    pose = wp.min(row, obstacles.T_mesh_world.shape[0] - 1)
    count = obstacles.ids.shape[0]
    # The mesh whose bounds are nearest comes first: what it finds keeps the search in the others short.
    start = int(0)
    least = cap
    for m in range(count):
        p = wp.transform_point(obstacles.T_mesh_world[pose, m], point_w)
        beside = wp.length(p - wp.min(wp.max(p, obstacles.lower[m]), obstacles.upper[m]))
        if beside < least:
            least = beside
            start = m
    if least >= cap and cap > 0.0:
        return best
    for k in range(count):
        m = (start + k) % count
        T = obstacles.T_mesh_world[pose, m]
        p = wp.transform_point(T, point_w)
        beside = wp.length(p - wp.min(wp.max(p, obstacles.lower[m]), obstacles.upper[m]))
        if beside < best[3] or beside == 0.0:
            outside = beside > 0.0
            reach = best[3]
            if not outside:
                reach = wp.max(reach, obstacles.inner[m])
            gap = gap_to_mesh(obstacles, m, p, outside, reach)
            if gap[3] < best[3]:
                n = wp.transform_vector(wp.transpose(T), wp.vec3(gap[0], gap[1], gap[2]))
                best = wp.vec4(n[0], n[1], n[2], gap[3])
    return best


def load_meshes(meshes: Sequence[tuple[np.ndarray, np.ndarray]], device: str = "cpu") -> MeshSet:
    """Meshes made ready for distance queries.

    Args:
        meshes: Points (V, 3) [m] and triangles (F, 3) of each.
        device: Warp device.

    Raises:
        InputError: Arrays are no mesh.
    """
    found = wp.get_device(device)
    made, lower, upper, normals = [], [], [], []
    for points, faces in meshes:
        points, faces = np.asarray(points, dtype=np.float64), np.asarray(faces, dtype=np.int64)
        _check(points, faces)
        corner, inverted = _closed_piece(points, faces)
        if inverted:
            faces, corner = faces[:, ::-1], corner[:, ::-1]
        made.append(
            wp.Mesh(
                wp.array(points.astype(np.float32), dtype=wp.vec3, device=found),
                wp.array(np.ascontiguousarray(faces, dtype=np.int32).reshape(-1), dtype=int, device=found),
                support_winding_number=not len(corner),
                bvh_leaf_size=None if found.is_cuda else LEAF_TRIANGLES,
            )
        )
        used = points[np.unique(faces)].astype(np.float32)
        lower.append(used.min(0))
        upper.append(used.max(0))
        normals.append(_outward_normals(points, corner))
    low, high = np.reshape(lower, (-1, 3)), np.reshape(upper, (-1, 3))
    inner = 0.5 * (high - low).min(1) if len(made) else np.zeros(0)
    counts = np.array([len(n) for n in normals], dtype=np.int32)
    first = np.where(counts > 0, np.cumsum(counts) - counts, -1).astype(np.int32)
    directions = np.concatenate([*normals, np.zeros((0, 7, 3))]).astype(np.float32)
    return MeshSet(found, tuple(made), low, high, inner * (1.0 + 1e-5), first, directions)


def place_meshes(meshes: MeshSet, T_world_mesh: np.ndarray | None, rows: int) -> Any:
    """The meshes at poses (M, 4, 4), or (B, M, 4, 4) of their own for each of B rows; None leaves them where they are.

    Raises:
        InputError: The poses do not fit the meshes or the rows.
    """
    count = len(meshes.meshes)
    T = np.broadcast_to(np.eye(4), (1, count, 4, 4)) if T_world_mesh is None else np.asarray(T_world_mesh, np.float64)
    T = T[None] if T.ndim == 3 else T
    if T.ndim != 4 or T.shape[1:] != (count, 4, 4) or len(T) not in (1, rows):
        raise InputError(
            f"Poses of shape {np.shape(T_world_mesh)} do not fit {count} meshes: expected ({count}, 4, 4), "
            f"or ({rows}, {count}, 4, 4) for {rows} rows."
        )
    device = meshes.device
    out = Obstacles()
    out.ids = wp.array(np.array([m.id for m in meshes.meshes], dtype=np.uint64), dtype=wp.uint64, device=device)
    out.lower = wp.array(meshes.lower.astype(np.float32), dtype=wp.vec3, device=device)
    out.upper = wp.array(meshes.upper.astype(np.float32), dtype=wp.vec3, device=device)
    out.inner = wp.array(meshes.inner_m.astype(np.float32), dtype=float, device=device)
    out.first_face = wp.array(meshes.first_face, dtype=int, device=device)
    out.normals = wp.array(meshes.normals, dtype=wp.vec3, device=device).reshape((len(meshes.normals), 7))
    flat = np.ascontiguousarray(invert(T).astype(np.float32).reshape(-1, 4, 4))
    out.T_mesh_world = wp.array(flat, dtype=wp.mat44, device=device).reshape((len(T), count))
    return out


def _check(points: np.ndarray, faces: np.ndarray) -> None:
    if points.ndim != 2 or points.shape[1] != 3 or faces.ndim != 2 or faces.shape[1] != 3 or not len(faces):
        raise InputError(
            f"Expected points (V, 3) and triangles (F, 3) of a mesh, got {points.shape} and {faces.shape}."
        )
    if faces.min() < 0 or faces.max() >= len(points):
        raise InputError(f"Triangles name vertices {faces.min()}..{faces.max()}, there are {len(points)}.")
    if not np.isfinite(points).all():
        raise InputError("A mesh has vertices that are not finite numbers.")


def _closed_piece(points: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, bool]:
    """Corners (F, 3) of the triangles, equal where their places are, of a mesh that is one piece without a border, and whether it is inside out.

    No corners for any other mesh: where several pieces overlap, the nearest triangle may lie inside another piece and tell nothing.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    corner = np.unique(points.astype(np.float32), axis=0, return_inverse=True)[1].reshape(-1)[faces]
    whole = corner[(corner != np.roll(corner, 1, 1)).all(1)]
    edges = np.stack([whole, np.roll(whole, -1, 1)], -1).reshape(-1, 2)
    count = len(points)
    there, back = edges[:, 0] * count + edges[:, 1], edges[:, 1] * count + edges[:, 0]
    closed = len(np.unique(there)) == len(there) and np.array_equal(np.sort(there), np.sort(back))
    if not closed or not len(edges):
        return corner[:0], False
    graph = coo_array((np.ones(len(edges)), (edges[:, 0], edges[:, 1])), shape=(count, count))
    labels = connected_components(graph, directed=False)[1]
    if len(np.unique(labels[edges[:, 0]])) > 1:
        return corner[:0], False
    a, b, c = np.moveaxis(points[faces] - points[faces].mean((0, 1)), 1, 0)
    return corner, float(np.einsum("fi,fi->", a, np.cross(b, c))) < 0.0


def _outward_normals(points: np.ndarray, corner: np.ndarray) -> np.ndarray:
    """Rows (F, 7, 3) of ``Obstacles.normals``: faces weigh by their angle at a corner and evenly at an edge; not of unit length."""
    if not len(corner):
        return np.zeros((0, 7, 3))
    place = np.unique(points.astype(np.float32), axis=0).astype(np.float64)
    p = place[corner]
    ahead, behind = np.roll(p, -1, 1) - p, np.roll(p, 1, 1) - p
    face = np.cross(ahead[:, 0], behind[:, 0])
    face /= np.maximum(np.linalg.norm(face, axis=1, keepdims=True), 1e-30)
    lengths = np.linalg.norm(ahead, axis=2) * np.linalg.norm(behind, axis=2)
    angle = np.arccos(np.clip(np.einsum("fci,fci->fc", ahead, behind) / np.maximum(lengths, 1e-30), -1.0, 1.0))
    at_corner = np.zeros_like(place)
    np.add.at(at_corner, corner, angle[..., None] * face[:, None])
    low, high = np.minimum(corner, np.roll(corner, -1, 1)), np.maximum(corner, np.roll(corner, -1, 1))
    edge = np.unique(low * len(place) + high, return_inverse=True)[1].reshape(corner.shape)
    at_edge = np.zeros((edge.max() + 1, 3))
    np.add.at(at_edge, edge, np.broadcast_to(face[:, None], p.shape))
    return np.concatenate([at_corner[corner], at_edge[edge], face[:, None]], 1)
