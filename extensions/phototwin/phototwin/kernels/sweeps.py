"""Joint paths swept through a scene: where each of many paths first comes too close, missing nothing between its waypoints."""

# Warp reads these annotations as types of its own; a type checker cannot.
# pyright: reportInvalidTypeForm=false, reportOperatorIssue=false, reportArgumentType=false, reportCallIssue=false
# pyright: reportAssignmentType=false, reportIndexIssue=false, reportGeneralTypeIssues=false, reportReturnType=false
# ruff: noqa: UP018, RUF046 (a bare literal would be a constant to Warp)

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import warp as wp

from phototwin.errors import InputError
from phototwin.kernels.launch import launch_rows
from phototwin.kernels.links import SLIDES, BodySpheres, Chain, ChainOnDevice, chain_on_device, joint_motion
from phototwin.kernels.obstacles import MeshSet, Obstacles, nearest_gap, place_meshes
from phototwin.kernels.volumes import DistanceVolume, Volume, place_volume, volume_gap

wp.set_module_options({"enable_backward": False})

STEP_M = 0.01
REACH_M = 0.15
"""Clearance is not followed further: a path strides through free space by at most this."""


@dataclass(frozen=True, eq=False)
class Sweep:
    """What B paths meet.

    Attributes:
        free: (B,) bool.
        first: Where a path first comes closer than the margin, in waypoints (2.5 is halfway from 2 to 3), (B,) float32; inf where it never does.
        clearance_m: Smallest clearance of the poses that were looked at, up to there, (B,) float32, at most the reach [m].
        sphere: Whose it is, (B,) int32; -1 where nothing came within reach.
        looks: How many poses were looked at, (B,) int32.
    """

    free: np.ndarray
    first: np.ndarray
    clearance_m: np.ndarray
    sphere: np.ndarray
    looks: np.ndarray


@wp.struct
class Body:
    """Spheres on the links of a chain, and how far each joint moves them at most, per radian or metre."""

    link: wp.array(dtype=int)
    centers: wp.array(dtype=wp.vec3)
    radii: wp.array(dtype=float)
    lever: wp.array(dtype=float)


@wp.func
def scene_gap(obstacles: Obstacles, volume: Volume, b: int, center_w: wp.vec3, cap: float) -> float:
    """Signed distance of a point to meshes and volume, at most ``cap``."""
    gap = nearest_gap(obstacles, b, center_w, cap)
    distance = gap[3]
    if volume.values.shape[0] > 0:
        in_volume = volume_gap(volume, b, center_w)
        distance = wp.min(distance, in_volume[3])
    return distance


@wp.kernel(enable_backward=False)
def sweep_paths_kernel(
    # in
    first: int,
    chain: ChainOnDevice,
    body: Body,
    paths: wp.array3d(dtype=float),
    obstacles: Obstacles,
    volume: Volume,
    step: float,
    margin: float,
    reach: float,
    # out
    T_world_link_out: wp.array2d(dtype=wp.transform),
    first_out: wp.array(dtype=float),
    clearance_out: wp.array(dtype=float),
    sphere_out: wp.array(dtype=int),
    looks_out: wp.array(dtype=int),
) -> None:
    """One thread a path. From a pose with clearance d the robot may move by d without touching anything: so far is the next look.

    Source: conservative advancement, Mirtich (1996).
    """
    row, _block = wp.tid()
    b = first + row
    last = paths.shape[1] - 1
    T_world_link_out[b, 0] = chain.T_world_base[wp.min(b, chain.T_world_base.shape[0] - 1)]
    smallest = reach
    whose = int(-1)
    hit = float(wp.inf)
    looks = int(0)
    t = int(0)  # the next look is at share u of the way from waypoint t to the next
    u = float(0.0)
    going = bool(True)
    while going:
        looks += 1
        ahead = wp.min(t + 1, last)
        for i in range(1, chain.parent.shape[0]):
            T = T_world_link_out[b, chain.parent[i]] * chain.T_parent_link[i]
            j = chain.joint[i]
            if j >= 0:
                T = T * joint_motion(chain, i, wp.lerp(paths[b, t, j], paths[b, ahead, j], u))
            T_world_link_out[b, i] = T
        nearest = reach
        for s in range(body.link.shape[0]):
            center_w = wp.transform_point(T_world_link_out[b, body.link[s]], body.centers[s])
            cap = nearest + body.radii[s]
            d = scene_gap(obstacles, volume, b, center_w, cap)
            if d < cap:
                nearest = d - body.radii[s]
                if nearest < smallest:
                    smallest = nearest
                    whose = s
        if nearest < margin:
            hit = float(t) + u
            going = False
        elif t + 1 >= last and (u >= 1.0 or last == 0):
            going = False
        else:
            left = wp.max(step, nearest - margin)
            looking = bool(True)
            while looking:
                way = float(0.0)
                for j in range(body.lever.shape[0]):
                    way += body.lever[j] * wp.abs(paths[b, t + 1, j] - paths[b, t, j])
                if left < way * (1.0 - u):
                    u += left / way
                    looking = False
                elif t + 1 == last:
                    u = 1.0
                    looking = False
                else:
                    left -= way * (1.0 - u)
                    u = 0.0
                    t += 1
    first_out[b] = hit
    clearance_out[b] = smallest
    sphere_out[b] = whose
    looks_out[b] = looks


def sweep_paths(
    chain: Chain,
    spheres: BodySpheres,
    q: np.ndarray,
    meshes: MeshSet,
    T_world_mesh: np.ndarray | None = None,
    T_world_base: np.ndarray | None = None,
    volume: DistanceVolume | None = None,
    step_m: float = STEP_M,
    margin_m: float = 0.0,
    reach_m: float = REACH_M,
    threads: int | None = None,
) -> Sweep:
    """Where B joint paths of T waypoints, straight in joint space between them, first come closer than a margin to the scene.

    No sphere moves by more than ``step_m`` or by its clearance between two looks, so where a path is free no sphere
    is closer than ``margin_m - step_m / 2`` anywhere on it. The robot itself is not in its way.

    Args:
        chain: The robot.
        spheres: Those of its spheres that count; a base on a table would always touch it.
        q: Waypoints, (B, T, J) [rad or m].
        meshes: The scene; its device is used.
        T_world_mesh: Poses of the meshes, (M, 4, 4) or (B, M, 4, 4); None leaves them where they are.
        T_world_base: Of the robot, (4, 4) or (B, 4, 4); None puts it at the origin.
        volume: Distances in the world to what else is in the way.
        step_m: See above [m].
        margin_m: What is closer than this counts as hit [m].
        reach_m: Clearances are not followed further than this [m].
        threads: On a CPU; None takes all cores.

    Raises:
        InputError: Shapes do not fit each other, or no step.
    """
    q = np.ascontiguousarray(q, np.float32)
    if q.ndim != 3 or q.shape[2] != len(chain.lower) or not q.shape[1]:
        raise InputError(f"Expected paths (B, T, {len(chain.lower)}) of at least one waypoint, got {q.shape}.")
    if not step_m > 0.0 or not reach_m > margin_m:
        raise InputError(f"Expected a step > 0 and a reach > the margin, got {step_m}, {reach_m} and {margin_m} m.")
    device, count = meshes.device, len(q)
    nothing = DistanceVolume(np.zeros((0, 0, 0), np.float32), np.zeros(3), 1.0)
    inputs = [
        chain_on_device(chain, T_world_base, count, device),
        _body(chain, spheres, device),
        wp.array(q, dtype=float, device=device),
        place_meshes(meshes, T_world_mesh, count),
        place_volume(volume or nothing, None, count, device),
        float(step_m),
        float(margin_m),
        float(reach_m),
    ]
    links = wp.empty((count, len(chain.names)), dtype=wp.transform, device=device)
    first, clearance = (wp.empty(count, dtype=float, device=device) for _ in range(2))
    sphere, looks = (wp.empty(count, dtype=int, device=device) for _ in range(2))
    launch_rows(sweep_paths_kernel, count, 1, inputs, [links, first, clearance, sphere, looks], device, threads)
    where = first.numpy()
    return Sweep(np.isinf(where), where, clearance.numpy(), sphere.numpy(), looks.numpy())


def _body(chain: Chain, spheres: BodySpheres, device: object) -> Body:
    if len(spheres.link) and not 0 <= spheres.link.min() <= spheres.link.max() < len(chain.names):
        raise InputError(f"Spheres name links {spheres.link.min()}..{spheres.link.max()} of {len(chain.names)}.")
    out = Body()
    out.link = wp.array(np.ascontiguousarray(spheres.link, np.int32), dtype=int, device=device)
    out.centers = wp.array(np.ascontiguousarray(spheres.centers, np.float32), dtype=wp.vec3, device=device)
    out.radii = wp.array(np.ascontiguousarray(spheres.radii_m, np.float32), dtype=float, device=device)
    out.lever = wp.array(levers(chain, spheres).astype(np.float32), dtype=float, device=device)
    return out


def levers(chain: Chain, spheres: BodySpheres) -> np.ndarray:
    """How far a unit of each joint moves any sphere at most, whatever the others do, (J,) [m/rad or 1].

    For a joint that turns, the longest way from it along the links to a sphere's centre; 0 where it carries none.
    """
    count = len(chain.names)
    longest = np.full(count, -np.inf)
    np.maximum.at(longest, spheres.link, np.linalg.norm(spheres.centers, axis=1))
    for i in range(count - 1, 0, -1):
        slide = 0.0
        if chain.kind[i] == SLIDES:
            slide = max(abs(chain.lower[chain.joint[i]]), abs(chain.upper[chain.joint[i]]))
        way = longest[i] + np.linalg.norm(chain.T_parent_link[i, :3, 3]) + slide
        longest[chain.parent[i]] = max(longest[chain.parent[i]], way)
    out = np.zeros(len(chain.lower))
    for i in range(count):
        if chain.joint[i] >= 0 and np.isfinite(longest[i]):
            out[chain.joint[i]] += 1.0 if chain.kind[i] == SLIDES else longest[i]
    return out
