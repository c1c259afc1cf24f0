"""One mesh against another in thousands of relative poses, as for a gripper and what it shall grasp: whether they collide, and how deep."""

# Warp reads these annotations as types of its own; a type checker cannot.
# pyright: reportInvalidTypeForm=false, reportOperatorIssue=false, reportArgumentType=false, reportCallIssue=false
# pyright: reportAssignmentType=false, reportIndexIssue=false, reportGeneralTypeIssues=false, reportReturnType=false
# ruff: noqa: UP018, RUF046 (a bare literal would be a constant to Warp)

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import warp as wp

from phototwin.errors import InputError
from phototwin.frames import invert
from phototwin.kernels.launch import launch_rows
from phototwin.kernels.obstacles import MeshSet, Obstacles, load_meshes, nearest_gap, place_meshes

wp.set_module_options({"enable_backward": False})  # compiling is half the work without the functions' derivatives

LEAF = 4
"""Triangles in a leaf: below that a test of the leaf's sphere costs as much as it saves."""


@dataclass(frozen=True, eq=False)
class CollisionMesh:
    """A mesh ready for ``mesh_pair_collisions``, in its own frame.

    Attributes:
        meshes: The mesh alone.
        spheres: Around the nodes of a tree over its triangles, depth first, (N, 4) float32: centre and radius [m].
        skip: Where the search goes on when a node is free, (N,) int32.
        leaf: First triangle of each node that is a leaf, one past its last; -1 elsewhere, (N, 2) int32.
        triangles: In the order of the tree, (F, 3, 3) float32 [m].
        points: Its vertices, (V, 3) float32 [m].
        pieces: One vertex of each connected piece, (P, 3) float32 [m].
    """

    meshes: MeshSet
    spheres: np.ndarray
    skip: np.ndarray
    leaf: np.ndarray
    triangles: np.ndarray
    points: np.ndarray
    pieces: np.ndarray


@dataclass(frozen=True, eq=False)
class PairHits:
    """What B relative poses of two meshes do.

    Attributes:
        collide: (B,) bool; a mesh wholly inside the other collides too.
        depth_m: How deep the deepest vertex of one is in the other, (B,) float32, 0 where none is [m]; None unless asked for.
    """

    collide: np.ndarray
    depth_m: np.ndarray | None


@wp.struct
class Tree:
    """A mesh's tree of spheres as kernels read it."""

    spheres: wp.array(dtype=wp.vec4)
    skip: wp.array(dtype=int)
    leaf: wp.array(dtype=wp.vec2i)
    corners: wp.array(dtype=wp.vec3)


@wp.func
def pierces(start: wp.vec3, end: wp.vec3, a: wp.vec3, b: wp.vec3, c: wp.vec3) -> bool:
    """Whether a segment crosses a triangle: its ends on two sides of the plane, and all three edges passed on one side.

    Signs of volumes alone, without tolerances: those of Warp's own triangle test are lengths, and too long for parts of a centimetre.
    """
    way = end - start
    p = a - start
    q = b - start
    r = c - start
    u = wp.dot(way, wp.cross(p, q))
    v = wp.dot(way, wp.cross(q, r))
    w = wp.dot(way, wp.cross(r, p))
    if not ((u >= 0.0 and v >= 0.0 and w >= 0.0) or (u <= 0.0 and v <= 0.0 and w <= 0.0)):
        return False
    n = wp.cross(b - a, c - a)
    return wp.dot(n, p) * wp.dot(n, a - end) <= 0.0 and u + v + w != 0.0


@wp.func
def triangles_cross(a: wp.vec3, b: wp.vec3, c: wp.vec3, p: wp.vec3, q: wp.vec3, r: wp.vec3) -> bool:
    """Whether an edge of one triangle crosses the other; triangles that lie in one plane do not."""
    n = wp.cross(q - p, r - p)
    da = wp.dot(n, a - p)
    db = wp.dot(n, b - p)
    dc = wp.dot(n, c - p)
    if (da > 0.0 and db > 0.0 and dc > 0.0) or (da < 0.0 and db < 0.0 and dc < 0.0):
        return False
    if pierces(a, b, p, q, r) or pierces(b, c, p, q, r) or pierces(c, a, p, q, r):
        return True
    return pierces(p, q, a, b, c) or pierces(q, r, a, b, c) or pierces(r, p, a, b, c)


@wp.func
def triangle_hits(mesh: wp.uint64, a: wp.vec3, b: wp.vec3, c: wp.vec3) -> bool:
    """Whether a triangle crosses one of a mesh's."""
    query = wp.mesh_query_aabb(mesh, wp.min(a, wp.min(b, c)), wp.max(a, wp.max(b, c)))
    face = int(0)
    hit = bool(False)
    while not hit and wp.mesh_query_aabb_next(query, face):
        p = wp.mesh_get_point(mesh, 3 * face)
        q = wp.mesh_get_point(mesh, 3 * face + 1)
        r = wp.mesh_get_point(mesh, 3 * face + 2)
        hit = triangles_cross(a, b, c, p, q, r)
    return hit


@wp.func
def surfaces_cross(obstacles: Obstacles, tree: Tree, T: wp.mat44) -> bool:
    """Whether any triangle of the tree crosses the mesh: nodes whose sphere meets no surface are passed over."""
    mesh = obstacles.ids[0]
    node = int(0)
    hit = bool(False)
    while not hit and node < tree.skip.shape[0]:
        ball = tree.spheres[node]
        center = wp.transform_point(T, wp.vec3(ball[0], ball[1], ball[2]))
        beside = wp.length(center - wp.min(wp.max(center, obstacles.lower[0]), obstacles.upper[0]))
        meets = beside < ball[3]
        first = tree.leaf[node][0]
        if meets and first < 0:
            near = wp.mesh_query_point_no_sign(mesh, center, ball[3])
            meets = near.result
        if meets and first >= 0:
            f = first
            while not hit and f < tree.leaf[node][1]:
                a = wp.transform_point(T, tree.corners[3 * f])
                b = wp.transform_point(T, tree.corners[3 * f + 1])
                c = wp.transform_point(T, tree.corners[3 * f + 2])
                hit = triangle_hits(mesh, a, b, c)
                f += 1
        node = wp.where(meets, node + 1, tree.skip[node])
    return hit


@wp.kernel(enable_backward=False)
def find_collisions_kernel(
    # in
    first: int,
    fixed: Obstacles,
    moving: Obstacles,
    tree: Tree,
    T_fixed_moving: wp.array(dtype=wp.mat44),
    moving_pieces: wp.array(dtype=wp.vec3),
    fixed_pieces: wp.array(dtype=wp.vec3),
    # out
    hit_out: wp.array(dtype=int),
) -> None:
    """One thread a pose: surfaces first, then whether a piece of one that touches nothing is inside the other."""
    row, _block = wp.tid()
    b = first + row
    T = T_fixed_moving[b]
    hit = surfaces_cross(fixed, tree, T)
    i = int(0)
    while not hit and i < moving_pieces.shape[0]:
        gap = nearest_gap(fixed, 0, wp.transform_point(T, moving_pieces[i]), 0.0)
        hit = gap[3] < 0.0
        i += 1
    i = int(0)
    while not hit and i < fixed_pieces.shape[0]:
        gap = nearest_gap(moving, b, fixed_pieces[i], 0.0)
        hit = gap[3] < 0.0
        i += 1
    hit_out[b] = wp.where(hit, 1, 0)


@wp.kernel(enable_backward=False)
def measure_depths_kernel(
    # in
    first: int,
    fixed: Obstacles,
    moving: Obstacles,
    T_fixed_moving: wp.array(dtype=wp.mat44),
    moving_points: wp.array(dtype=wp.vec3),
    fixed_points: wp.array(dtype=wp.vec3),
    # out
    depth_out: wp.array(dtype=float),
) -> None:
    """One thread a pose: the vertex of either mesh that is deepest in the other."""
    row, _block = wp.tid()
    b = first + row
    deepest = float(0.0)
    for v in range(moving_points.shape[0]):
        gap = nearest_gap(fixed, 0, wp.transform_point(T_fixed_moving[b], moving_points[v]), deepest)
        deepest = gap[3]
    for v in range(fixed_points.shape[0]):
        gap = nearest_gap(moving, b, fixed_points[v], deepest)
        deepest = gap[3]
    depth_out[b] = -deepest


def prepare_mesh(points: np.ndarray, faces: np.ndarray, device: str = "cpu") -> CollisionMesh:
    """A mesh, points (V, 3) [m] and triangles (F, 3), made ready for collision tests.

    Raises:
        InputError: Arrays are no mesh.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    meshes = load_meshes([(points, faces)], device)
    points, faces = np.asarray(points, np.float32), np.asarray(faces, np.int64)
    used, index = np.unique(points[faces].reshape(-1, 3), axis=0, return_inverse=True)
    corner = index.reshape(-1, 3)
    ends = np.concatenate([corner[:, :2], corner[:, 1:]])
    graph = coo_array((np.ones(len(ends)), (ends[:, 0], ends[:, 1])), shape=(len(used), len(used)))
    labels = connected_components(graph, directed=False)[1]
    pieces = used[np.unique(labels, return_index=True)[1]]
    triangles = used[corner]
    order: list[int] = []
    rows: list[list[float]] = []
    skip: list[int] = []
    leaf: list[tuple[int, int]] = []
    _grow(triangles.astype(np.float64), np.arange(len(corner)), order, rows, skip, leaf)
    spheres = np.array(rows, np.float32)
    return CollisionMesh(
        meshes, spheres, np.array(skip, np.int32), np.array(leaf, np.int32), triangles[order], used, pieces
    )


def _grow(
    triangles: np.ndarray,
    members: np.ndarray,
    order: list[int],
    rows: list[list[float]],
    skip: list[int],
    leaf: list[tuple[int, int]],
) -> None:
    """Append the tree over some triangles, depth first: halves of equal number across the longest side of their bounds."""
    corners = triangles[members].reshape(-1, 3)
    center = 0.5 * (corners.min(0) + corners.max(0))
    radius = np.linalg.norm(corners - center, axis=1).max() * (1.0 + 1e-5) + 1e-7
    node = len(rows)
    rows.append([*center, radius])
    skip.append(0)
    leaf.append((-1, -1))
    if len(members) <= LEAF:
        leaf[node] = (len(order), len(order) + len(members))
        order.extend(members.tolist())
    else:
        middles = triangles[members].mean(1)
        along = middles[:, int(np.argmax(np.ptp(middles, axis=0)))]
        sorted_ = members[np.argsort(along, kind="stable")]
        for half in np.array_split(sorted_, 2):
            _grow(triangles, half, order, rows, skip, leaf)
    skip[node] = len(rows)


def mesh_pair_collisions(
    moving: CollisionMesh,
    fixed: CollisionMesh,
    T_fixed_moving: np.ndarray,
    depth: bool = False,
    threads: int | None = None,
) -> PairHits:
    """Whether two meshes collide in each of B relative poses, on the device of the fixed one.

    Triangles against triangles, and where no two cross, whether one mesh is inside the other. The search descends a tree over the
    finer mesh, whichever that is, and asks the coarser one, whose queries are then cheap: several times faster than the other way round.

    Args:
        moving: From ``prepare_mesh``.
        fixed: From ``prepare_mesh`` on the same device.
        T_fixed_moving: Poses of the moving mesh in the frame of the fixed one, (B, 4, 4).
        depth: Whether the depth of those that collide is wanted too, which takes every vertex.
        threads: On a CPU; None takes all cores.

    Raises:
        InputError: Poses of another shape, or meshes on two devices.
    """
    T = np.asarray(T_fixed_moving, np.float64)
    if T.ndim != 3 or T.shape[1:] != (4, 4):
        raise InputError(f"Expected poses (B, 4, 4), got {T.shape}.")
    device = fixed.meshes.device
    if moving.meshes.device != device:
        raise InputError(f"One mesh is on {moving.meshes.device}, the other on {device}: prepare both on one device.")
    if len(moving.triangles) < len(fixed.triangles):
        moving, fixed, T = fixed, moving, invert(T)
    hits = wp.empty(len(T), dtype=int, device=device)
    tree = Tree()
    tree.spheres = wp.array(moving.spheres, dtype=wp.vec4, device=device)
    tree.skip = wp.array(moving.skip, dtype=int, device=device)
    tree.leaf = wp.array(moving.leaf, dtype=wp.vec2i, device=device)
    tree.corners = wp.array(moving.triangles.reshape(-1, 3), dtype=wp.vec3, device=device)
    there = place_meshes(fixed.meshes, None, 1)
    poses = wp.array(np.ascontiguousarray(T, np.float32), dtype=wp.mat44, device=device)
    pieces = [wp.array(mesh.pieces, dtype=wp.vec3, device=device) for mesh in (moving, fixed)]
    inputs = [there, place_meshes(moving.meshes, T[:, None], len(T)), tree, poses, *pieces]
    launch_rows(find_collisions_kernel, len(T), 1, inputs, [hits], device, threads)
    collide = hits.numpy().astype(bool)
    if not depth:
        return PairHits(collide, None)
    depth_m, some = np.zeros(len(T), np.float32), np.flatnonzero(collide)
    out = wp.empty(len(some), dtype=float, device=device)
    poses = wp.array(np.ascontiguousarray(T[some], np.float32), dtype=wp.mat44, device=device)
    points = [wp.array(mesh.points, dtype=wp.vec3, device=device) for mesh in (moving, fixed)]
    inputs = [there, place_meshes(moving.meshes, T[some][:, None], len(some)), poses, *points]
    launch_rows(measure_depths_kernel, len(some), 1, inputs, [out], device, threads)
    depth_m[some] = out.numpy()
    return PairHits(collide, depth_m)
