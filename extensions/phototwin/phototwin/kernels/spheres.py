"""Robots as spheres against a scene: the smallest clearance of each of many poses, its gradient."""

# Warp reads these annotations as types of its own; a type checker cannot.
# pyright: reportInvalidTypeForm=false, reportOperatorIssue=false, reportArgumentType=false, reportCallIssue=false
# pyright: reportAssignmentType=false, reportIndexIssue=false, reportGeneralTypeIssues=false, reportReturnType=false

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import warp as wp

from phototwin.errors import InputError
from phototwin.kernels.launch import launch_rows
from phototwin.kernels.obstacles import FAR_M, MeshSet, Obstacles, nearest_gap, place_meshes
from phototwin.kernels.volumes import DistanceVolume, Volume, place_volume, volume_gap

wp.set_module_options({"enable_backward": False})

SIGN_BIT = wp.constant(wp.uint32(0x80000000))
ALL_BITS = wp.constant(wp.uint32(0xFFFFFFFF))


@dataclass(frozen=True, eq=False)
class Clearance:
    """How far B poses of S spheres are from a scene, negative where they are in it.

    Attributes:
        clearance_m: Smallest of each pose, at most the reach that was asked for, (B,) float32 [m].
        sphere: Whose it is, (B,) int32; -1 where nothing is within reach.
        gap_m: Of every sphere, (B, S) float32 [m]; None unless asked for.
        gradient: Unit directions in which the gaps grow, (B, S, 3) float32, 0 beyond reach; None unless asked for.
    """

    clearance_m: np.ndarray
    sphere: np.ndarray
    gap_m: np.ndarray | None
    gradient: np.ndarray | None


@wp.func
def sortable(value: float) -> wp.uint32:
    """A float as an integer that sorts like it. Source: Herf (2001), radix tricks: flip all bits of negatives, the sign of others."""
    bits = wp.cast(value, wp.uint32)
    return wp.where((bits & SIGN_BIT) != wp.uint32(0), bits ^ ALL_BITS, bits | SIGN_BIT)


@wp.kernel(enable_backward=False)
def measure_mesh_gaps_kernel(
    # in
    first: int,
    centers_w: wp.array2d(dtype=wp.vec3),
    radii: wp.array(dtype=float),
    obstacles: Obstacles,
    reach: float,
    each: bool,
    span: int,
    # out
    nearest_out: wp.array(dtype=wp.uint64),
    gap_out: wp.array2d(dtype=wp.vec4),
) -> None:
    """One thread a pose and block of its spheres: what is nearer than the nearest sphere so far decides."""
    row, block = wp.tid()
    b = first + row
    best = reach
    which = ALL_BITS
    for s in range(block * span, wp.min(radii.shape[0], (block + 1) * span)):
        r = radii[s]
        cap = r + wp.where(each, reach, best)
        gap = nearest_gap(obstacles, b, centers_w[b, s], cap)
        if gap[3] < cap and gap[3] - r < best:  # without the first, rounding of the cap alone would look nearer
            best = gap[3] - r
            which = wp.uint32(s)
        if each:
            gap_out[b, s] = wp.vec4(gap[0], gap[1], gap[2], gap[3] - r)
    wp.atomic_min(nearest_out, b, (wp.uint64(sortable(best)) << wp.uint64(32)) | wp.uint64(which))


@wp.kernel(enable_backward=False)
def measure_volume_gaps_kernel(
    # in
    first: int,
    centers_w: wp.array2d(dtype=wp.vec3),
    radii: wp.array(dtype=float),
    volume: Volume,
    reach: float,
    each: bool,
    span: int,
    # out
    nearest_out: wp.array(dtype=wp.uint64),
    gap_out: wp.array2d(dtype=wp.vec4),
) -> None:
    """One thread a pose and block of its spheres: eight values of the volume for each sphere."""
    row, block = wp.tid()
    b = first + row
    best = reach
    which = ALL_BITS
    for s in range(block * span, wp.min(radii.shape[0], (block + 1) * span)):
        gap = volume_gap(volume, b, centers_w[b, s])
        d = gap[3] - radii[s]
        if d < best:
            best = d
            which = wp.uint32(s)
        if each:
            gap_out[b, s] = wp.where(d < reach, wp.vec4(gap[0], gap[1], gap[2], d), wp.vec4(0.0, 0.0, 0.0, reach))
    wp.atomic_min(nearest_out, b, (wp.uint64(sortable(best)) << wp.uint64(32)) | wp.uint64(which))


def sphere_mesh_distances(
    centers_w: np.ndarray,
    radii_m: np.ndarray,
    meshes: MeshSet,
    T_world_mesh: np.ndarray | None = None,
    reach_m: float = FAR_M,
    each: bool = False,
    threads: int | None = None,
) -> Clearance:
    """Clearance of B poses of S spheres from M meshes, on the device of the meshes.

    Args:
        centers_w: Centres in the world, (B, S, 3) [m].
        radii_m: Radii, (S,) [m].
        meshes: The scene.
        T_world_mesh: Poses of the meshes, (M, 4, 4), or (B, M, 4, 4) for each pose of the spheres; None leaves them where they are.
        reach_m: Clearances are not followed beyond this; a small one is fast [m].
        each: Whether the gap and gradient of every sphere is wanted too, which is slower.
        threads: On a CPU; None takes all cores.

    Raises:
        InputError: Shapes do not fit each other.
    """
    centers_w, radii_m = _checked(centers_w, radii_m)
    obstacles = place_meshes(meshes, T_world_mesh, len(centers_w))
    arguments = (measure_mesh_gaps_kernel, obstacles, meshes.device)
    return _measure(*arguments, centers_w, radii_m, reach_m, each, threads)


def sphere_volume_distances(
    centers_w: np.ndarray,
    radii_m: np.ndarray,
    volume: DistanceVolume,
    T_world_volume: np.ndarray | None = None,
    reach_m: float = FAR_M,
    each: bool = False,
    device: str = "cpu",
    threads: int | None = None,
) -> Clearance:
    """``sphere_mesh_distances`` against a volume, right to a share of its voxel; outside of it a lower bound.

    Args:
        centers_w: Centres in the world, (B, S, 3) [m].
        radii_m: Radii, (S,) [m].
        volume: From ``make_distance_volume``.
        T_world_volume: Its pose, (4, 4), or (B, 4, 4) for each pose of the spheres; None leaves it where it is.
        reach_m: Clearances end there [m].
        each: Whether the gap and gradient of every sphere is wanted too.
        device: Warp device.
        threads: On a CPU; None takes all cores.

    Raises:
        InputError: Shapes do not fit each other.
    """
    centers_w, radii_m = _checked(centers_w, radii_m)
    found = wp.get_device(device)
    placed = place_volume(volume, T_world_volume, len(centers_w), found)
    return _measure(measure_volume_gaps_kernel, placed, found, centers_w, radii_m, reach_m, each, threads)


def _checked(centers_w: np.ndarray, radii_m: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    centers_w, radii_m = np.ascontiguousarray(centers_w, np.float32), np.ascontiguousarray(radii_m, np.float32)
    if centers_w.ndim != 3 or centers_w.shape[2] != 3 or radii_m.shape != centers_w.shape[1:2]:
        raise InputError(f"Expected centres (B, S, 3) and radii (S,), got {centers_w.shape} and {radii_m.shape}.")
    return centers_w, radii_m


def _measure(
    kernel: Any,
    scene: Any,
    device: Any,
    centers_w: np.ndarray,
    radii_m: np.ndarray,
    reach_m: float,
    each: bool,
    threads: int | None,
) -> Clearance:
    """Launch one of the two kernels and unpack what it found."""
    poses, spheres = centers_w.shape[:2]
    span = 1 if device.is_cuda else max(spheres, 1)
    nearest = wp.full(poses, 0xFFFFFFFFFFFFFFFF, dtype=wp.uint64, device=device)
    gaps = wp.empty((poses, spheres) if each else (0, 0), dtype=wp.vec4, device=device)
    inputs = [
        wp.array(centers_w, dtype=wp.vec3, device=device).reshape((poses, spheres)),
        wp.array(radii_m, dtype=float, device=device),
        scene,
        float(min(reach_m, FAR_M)),
        bool(each),
        span,
    ]
    launch_rows(kernel, poses, -(-spheres // span), inputs, [nearest, gaps], device, threads)
    packed = nearest.numpy()
    bits, sphere = (packed >> np.uint64(32)).astype(np.uint32), (packed & np.uint64(0xFFFFFFFF)).astype(np.uint32)
    positive = (bits >> np.uint32(31)).astype(bool)
    clearance = np.where(positive, bits ^ np.uint32(0x80000000), ~bits).view(np.float32)
    if not spheres:
        clearance = np.full(poses, min(reach_m, FAR_M), np.float32)
    found = gaps.numpy() if each else None
    return Clearance(
        clearance_m=clearance,
        sphere=sphere.astype(np.int32),
        gap_m=None if found is None else found[..., 3],
        gradient=None if found is None else found[..., :3],
    )
