"""Boxes against meshes in thousands of poses, as for the fingers and the hand of a gripper: which are free of every surface and not inside."""

# Warp reads these annotations as types of its own; a type checker cannot.
# pyright: reportInvalidTypeForm=false, reportOperatorIssue=false, reportArgumentType=false, reportCallIssue=false
# pyright: reportAssignmentType=false, reportIndexIssue=false, reportGeneralTypeIssues=false, reportReturnType=false
# ruff: noqa: UP018, RUF046 (a bare literal would be a constant to Warp)

from __future__ import annotations

import numpy as np
import warp as wp

from phototwin.errors import InputError
from phototwin.kernels.launch import launch_rows
from phototwin.kernels.obstacles import MeshSet, Obstacles, nearest_gap, place_meshes

wp.set_module_options({"enable_backward": False, "max_unroll": 4})


@wp.func
def parted(axis: wp.vec3, a: wp.vec3, b: wp.vec3, c: wp.vec3, half: wp.vec3) -> bool:
    """Whether a direction parts a triangle from the box of those half sizes at the origin."""
    p = wp.dot(axis, a)
    q = wp.dot(axis, b)
    r = wp.dot(axis, c)
    reach = half[0] * wp.abs(axis[0]) + half[1] * wp.abs(axis[1]) + half[2] * wp.abs(axis[2])
    return wp.max(p, wp.max(q, r)) < -reach or wp.min(p, wp.min(q, r)) > reach


@wp.func
def parted_along_edge(edge: wp.vec3, a: wp.vec3, b: wp.vec3, c: wp.vec3, half: wp.vec3) -> bool:
    """Whether the direction across an edge of the triangle and one of the box parts them."""
    return (
        parted(wp.vec3(0.0, -edge[2], edge[1]), a, b, c, half)
        or parted(wp.vec3(edge[2], 0.0, -edge[0]), a, b, c, half)
        or parted(wp.vec3(-edge[1], edge[0], 0.0), a, b, c, half)
    )


@wp.func
def triangle_meets_box(a: wp.vec3, b: wp.vec3, c: wp.vec3, half: wp.vec3) -> bool:
    """Whether a triangle meets the box of those half sizes at the origin. Source: Akenine-Moeller (2001), the 13 separating axes."""
    low = wp.min(a, wp.min(b, c))
    high = wp.max(a, wp.max(b, c))
    if low[0] > half[0] or low[1] > half[1] or low[2] > half[2]:
        return False
    if high[0] < -half[0] or high[1] < -half[1] or high[2] < -half[2]:
        return False
    if parted(wp.cross(b - a, c - a), a, b, c, half):
        return False
    return not (
        parted_along_edge(b - a, a, b, c, half)
        or parted_along_edge(c - b, a, b, c, half)
        or parted_along_edge(a - c, a, b, c, half)
    )


@wp.func
def box_meets_mesh(obstacles: Obstacles, pose: int, m: int, T: wp.mat44, center: wp.vec3, half: wp.vec3) -> bool:
    """Whether a box of the frame T meets mesh m, or is inside it."""
    T_mesh_box = obstacles.T_mesh_world[pose, m] * T
    x = wp.transform_vector(T_mesh_box, wp.vec3(1.0, 0.0, 0.0))
    y = wp.transform_vector(T_mesh_box, wp.vec3(0.0, 1.0, 0.0))
    z = wp.transform_vector(T_mesh_box, wp.vec3(0.0, 0.0, 1.0))
    middle = wp.transform_point(T_mesh_box, center)
    around = half[0] * wp.abs(x) + half[1] * wp.abs(y) + half[2] * wp.abs(z)
    low = middle - around
    high = middle + around
    if low[0] > obstacles.upper[m][0] or low[1] > obstacles.upper[m][1] or low[2] > obstacles.upper[m][2]:
        return False
    if high[0] < obstacles.lower[m][0] or high[1] < obstacles.lower[m][1] or high[2] < obstacles.lower[m][2]:
        return False
    mesh = obstacles.ids[m]
    query = wp.mesh_query_aabb(mesh, low, high)
    face = int(0)
    hit = bool(False)
    while not hit and wp.mesh_query_aabb_next(query, face):
        a = wp.mesh_get_point(mesh, 3 * face) - middle
        b = wp.mesh_get_point(mesh, 3 * face + 1) - middle
        c = wp.mesh_get_point(mesh, 3 * face + 2) - middle
        hit = triangle_meets_box(
            wp.vec3(wp.dot(x, a), wp.dot(y, a), wp.dot(z, a)),
            wp.vec3(wp.dot(x, b), wp.dot(y, b), wp.dot(z, b)),
            wp.vec3(wp.dot(x, c), wp.dot(y, c), wp.dot(z, c)),
            half,
        )
    return hit


@wp.kernel(enable_backward=False)
def find_box_hits_kernel(
    # in
    first: int,
    obstacles: Obstacles,
    T_world_frame: wp.array(dtype=wp.mat44),
    lower: wp.array2d(dtype=wp.vec3),
    upper: wp.array2d(dtype=wp.vec3),
    # out
    hit_out: wp.array(dtype=int),
) -> None:
    """One thread a pose: its boxes one after another, each against all meshes."""
    row, _block = wp.tid()
    b = first + row
    T = T_world_frame[b]
    pose = wp.min(b, obstacles.T_mesh_world.shape[0] - 1)
    own = wp.min(b, lower.shape[0] - 1)
    hit = int(-1)
    for k in range(lower.shape[1]):
        half = 0.5 * (upper[own, k] - lower[own, k])
        if hit < 0 and half[0] > 0.0 and half[1] > 0.0 and half[2] > 0.0:
            center = 0.5 * (upper[own, k] + lower[own, k])
            m = int(0)
            while hit < 0 and m < obstacles.ids.shape[0]:
                if box_meets_mesh(obstacles, pose, m, T, center, half):
                    hit = k
                m += 1
            if hit < 0:
                gap = nearest_gap(obstacles, b, wp.transform_point(T, center), 0.0)
                if gap[3] < 0.0:
                    hit = k
    hit_out[b] = hit


def find_box_hits(
    meshes: MeshSet,
    T_world_frame: np.ndarray,
    lower: np.ndarray,
    upper: np.ndarray,
    T_world_mesh: np.ndarray | None = None,
    threads: int | None = None,
) -> np.ndarray:
    """Which of the boxes of each of B poses meets a mesh first, (B,) int: its index, -1 where all are free.

    Triangles against boxes, exactly; a box wholly inside a mesh meets it too. A box without volume meets nothing.

    Args:
        meshes: M meshes from ``load_meshes``.
        T_world_frame: Frames of the boxes, (B, 4, 4).
        lower: Lower corners of K boxes in their frame, (K, 3), or (B, K, 3) [m].
        upper: Upper corners.
        T_world_mesh: Poses of the meshes, (M, 4, 4), or (B, M, 4, 4); None where they are.
        threads: On a CPU; None takes all cores.

    Raises:
        InputError: Shapes do not fit each other.
    """
    T = np.asarray(T_world_frame, np.float64)
    low, high = (np.asarray(c, np.float64) for c in (lower, upper))
    low, high = (c[None] if c.ndim == 2 else c for c in (low, high))
    if T.ndim != 3 or T.shape[1:] != (4, 4) or low.shape != high.shape or low.ndim != 3 or low.shape[2] != 3:
        raise InputError(f"Expected poses (B, 4, 4) and corners (B, K, 3), got {T.shape}, {low.shape}, {high.shape}.")
    if len(low) not in (1, len(T)):
        raise InputError(f"Boxes of {len(low)} poses do not fit {len(T)} poses.")
    device = meshes.device
    out = wp.empty(len(T), dtype=int, device=device)
    inputs = [
        place_meshes(meshes, T_world_mesh, len(T)),
        wp.array(np.ascontiguousarray(T, np.float32), dtype=wp.mat44, device=device),
        wp.array(np.ascontiguousarray(low, np.float32), dtype=wp.vec3, device=device),
        wp.array(np.ascontiguousarray(high, np.float32), dtype=wp.vec3, device=device),
    ]
    launch_rows(find_box_hits_kernel, len(T), 1, inputs, [out], device, threads)
    return out.numpy()
