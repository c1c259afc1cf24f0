"""Volumes of signed distances: made once from meshes, then eight values tell how far a point is."""

# Warp reads these annotations as types of its own; a type checker cannot.
# pyright: reportInvalidTypeForm=false, reportOperatorIssue=false, reportArgumentType=false, reportCallIssue=false
# pyright: reportAssignmentType=false, reportIndexIssue=false, reportGeneralTypeIssues=false, reportReturnType=false

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import warp as wp

from phototwin.errors import InputError
from phototwin.frames import invert
from phototwin.kernels.launch import launch_rows
from phototwin.kernels.obstacles import FAR_M, MeshSet, Obstacles, nearest_gap, place_meshes

wp.set_module_options({"enable_backward": False})

MAX_VOXELS = 2**27


@dataclass(frozen=True, eq=False)
class DistanceVolume:
    """Signed distances on the corners of a grid of cubes.

    Attributes:
        values_m: Negative inside, (X, Y, Z) float32 [m].
        origin: Where value (0, 0, 0) is, (3,) [m].
        voxel_m: Edge of a cube [m].
    """

    values_m: np.ndarray
    origin: np.ndarray
    voxel_m: float


@wp.struct
class Volume:
    """A distance volume and where it is, as kernels read it."""

    values: wp.array3d(dtype=float)
    origin: wp.vec3
    voxel: float
    T_volume_world: wp.array(dtype=wp.mat44)


@wp.func
def volume_gap(volume: Volume, row: int, point_w: wp.vec3) -> wp.vec4:
    """Gradient and signed distance of a point, trilinear; outside the volume a lower bound of it.

    Source: a convex box lies behind the plane through its nearest point c, so ``|p - x|^2 >= |p - c|^2 + |c - x|^2`` for all x in it.
    """
    T = volume.T_volume_world[wp.min(row, volume.T_volume_world.shape[0] - 1)]
    p = wp.transform_point(T, point_w)
    nx = volume.values.shape[0]
    ny = volume.values.shape[1]
    nz = volume.values.shape[2]
    g = (p - volume.origin) / volume.voxel
    c = wp.vec3(
        wp.clamp(g[0], 0.0, float(nx - 1)), wp.clamp(g[1], 0.0, float(ny - 1)), wp.clamp(g[2], 0.0, float(nz - 1))
    )
    i = wp.min(int(c[0]), nx - 2)
    j = wp.min(int(c[1]), ny - 2)
    k = wp.min(int(c[2]), nz - 2)
    x = c[0] - float(i)
    y = c[1] - float(j)
    z = c[2] - float(k)
    # Along z first, then y, then x; each difference is a part of the gradient.
    v00 = wp.lerp(volume.values[i, j, k], volume.values[i, j, k + 1], z)
    v01 = wp.lerp(volume.values[i, j + 1, k], volume.values[i, j + 1, k + 1], z)
    v10 = wp.lerp(volume.values[i + 1, j, k], volume.values[i + 1, j, k + 1], z)
    v11 = wp.lerp(volume.values[i + 1, j + 1, k], volume.values[i + 1, j + 1, k + 1], z)
    d00 = volume.values[i, j, k + 1] - volume.values[i, j, k]
    d01 = volume.values[i, j + 1, k + 1] - volume.values[i, j + 1, k]
    d10 = volume.values[i + 1, j, k + 1] - volume.values[i + 1, j, k]
    d11 = volume.values[i + 1, j + 1, k + 1] - volume.values[i + 1, j + 1, k]
    inside = wp.lerp(wp.lerp(v00, v01, y), wp.lerp(v10, v11, y), x)
    slope = wp.vec3(
        wp.lerp(v10, v11, y) - wp.lerp(v00, v01, y),
        wp.lerp(v01 - v00, v11 - v10, x),
        wp.lerp(wp.lerp(d00, d01, y), wp.lerp(d10, d11, y), x),
    )
    n = wp.normalize(slope)
    distance = inside
    beside = (g - c) * volume.voxel
    if wp.length_sq(beside) > 0.0:
        further = wp.length(beside)
        distance = wp.where(inside > 0.0, wp.sqrt(further * further + inside * inside), inside - further)
        n = wp.normalize(beside + wp.max(inside, 0.0) * n)
    n = wp.transform_vector(wp.transpose(T), n)
    return wp.vec4(n[0], n[1], n[2], distance)


@wp.kernel(enable_backward=False)
def fill_volume_kernel(
    # in
    first: int,
    obstacles: Obstacles,
    origin: wp.vec3,
    voxel: float,
    far: float,
    # out
    values_out: wp.array3d(dtype=float),
) -> None:
    """One thread a column: a step along it changes the distance by a step at most, which bounds the search."""
    row, j = wp.tid()
    i = first + row
    cap = far
    for k in range(values_out.shape[2]):
        p = origin + voxel * wp.vec3(float(i), float(j), float(k))
        gap = nearest_gap(obstacles, 0, p, cap)
        values_out[i, j, k] = gap[3]
        cap = wp.min(far, wp.abs(gap[3]) + 1.01 * voxel)


def make_distance_volume(
    meshes: MeshSet,
    voxel_m: float,
    lower: np.ndarray | None = None,
    upper: np.ndarray | None = None,
    T_world_mesh: np.ndarray | None = None,
    threads: int | None = None,
) -> DistanceVolume:
    """Signed distance to the nearest of M meshes at the corners of a grid.

    Args:
        meshes: At least one.
        voxel_m: Edge of a cube of the grid [m].
        lower: Where the grid begins, (3,) [m]; by default two cubes before the meshes.
        upper: Up to where it reaches at least, (3,) [m].
        T_world_mesh: Poses of the meshes, (M, 4, 4); None leaves them where they are.
        threads: On a CPU; None takes all cores.

    Raises:
        InputError: Nothing to measure, no size, or more cubes than fit into memory.
    """
    if not meshes.meshes or not voxel_m > 0.0:
        raise InputError(f"A volume needs a mesh and a voxel > 0, got {len(meshes.meshes)} meshes and {voxel_m} m.")
    T = np.broadcast_to(np.eye(4), (len(meshes.meshes), 4, 4)) if T_world_mesh is None else np.asarray(T_world_mesh)
    pick = np.array([[(k >> i) & 1 for i in range(3)] for k in range(8)], dtype=bool)
    corners = np.where(pick[:, None], meshes.upper, meshes.lower)
    corners_w = np.einsum("mij,kmj->kmi", T[:, :3, :3], corners) + T[:, :3, 3]
    low = corners_w.min((0, 1)) - 2.0 * voxel_m if lower is None else np.asarray(lower, np.float64)
    high = corners_w.max((0, 1)) + 2.0 * voxel_m if upper is None else np.asarray(upper, np.float64)
    shape = np.maximum(np.ceil((high - low) / voxel_m - 1e-9).astype(int) + 1, 2)
    if shape.astype(np.float64).prod() > MAX_VOXELS:
        raise InputError(
            f"A volume of {' x '.join(map(str, shape))} cubes does not fit: take a larger voxel than {voxel_m} m."
        )
    values = wp.empty(tuple(int(n) for n in shape), dtype=float, device=meshes.device)
    inputs = [place_meshes(meshes, T, 1), wp.vec3(*(float(x) for x in low)), float(voxel_m), FAR_M]
    launch_rows(fill_volume_kernel, int(shape[0]), int(shape[1]), inputs, [values], meshes.device, threads)
    return DistanceVolume(values.numpy(), low, float(voxel_m))


def place_volume(volume: DistanceVolume, T_world_volume: np.ndarray | None, rows: int, device: Any) -> Any:
    """The volume at a pose (4, 4), or at one for each of B rows (B, 4, 4).

    Raises:
        InputError: Neither shape.
    """
    T = np.eye(4) if T_world_volume is None else np.asarray(T_world_volume, np.float64)
    T = T[None] if T.ndim == 2 else T
    if T.shape[1:] != (4, 4) or len(T) not in (1, rows):
        raise InputError(f"Poses of shape {np.shape(T_world_volume)} are neither (4, 4) nor ({rows}, 4, 4).")
    out = Volume()
    out.values = wp.array(np.ascontiguousarray(volume.values_m, np.float32), dtype=float, device=device)
    out.origin = wp.vec3(*(float(x) for x in volume.origin))
    out.voxel = float(volume.voxel_m)
    out.T_volume_world = wp.array(np.ascontiguousarray(invert(T), np.float32), dtype=wp.mat44, device=device)
    return out
