"""How light reaches points of a scene: rays towards a hemisphere and towards soft sources, by queries against ``wp.Mesh``."""

# Warp reads these annotations as types of its own; a type checker cannot.
# pyright: reportInvalidTypeForm=false, reportOperatorIssue=false, reportArgumentType=false, reportCallIssue=false
# pyright: reportAssignmentType=false, reportIndexIssue=false, reportGeneralTypeIssues=false, reportReturnType=false

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import warp as wp

RAY_START_M = wp.constant(1.5e-3)
"""Rays start this far off the surface: rounding, and meshes that are a little off their pixels, must not shadow themselves [m]."""
FAR_M = wp.constant(1.0e4)
GOLDEN_ANGLE = wp.constant(2.39996323)


@dataclass(frozen=True, eq=False)
class Blockers:
    """Surfaces that rays may hit, joined into one mesh on a device; made once by ``make_blockers``.

    Attributes:
        device: Warp device.
        mesh: The ``wp.Mesh``, or None where there is nothing to hit.
        owner: Which of the surfaces each face belongs to, (F,) int32.
    """

    device: str
    mesh: Any
    owner: np.ndarray


@wp.kernel(enable_backward=False)
def cast_rays_kernel(
    # in
    mesh: wp.uint64,
    origins: wp.array(dtype=wp.vec3),
    directions: wp.array2d(dtype=wp.vec3),
    # out
    distance_out: wp.array2d(dtype=wp.float32),
    face_out: wp.array2d(dtype=wp.int32),
) -> None:
    """One thread a point: the first hit of each of its rays."""
    i = wp.tid()
    for j in range(directions.shape[1]):
        hit = wp.mesh_query_ray(mesh, origins[i], directions[i, j], FAR_M)
        distance_out[i, j] = wp.where(hit.result, hit.t, wp.inf)
        face_out[i, j] = wp.where(hit.result, hit.face, -1)


@wp.kernel(enable_backward=False)
def see_sources_kernel(
    # in
    mesh: wp.uint64,
    points: wp.array(dtype=wp.vec3),
    normals: wp.array(dtype=wp.vec3),
    turns: wp.array(dtype=wp.float32),
    centers: wp.array(dtype=wp.vec4),
    radii: wp.array(dtype=wp.float32),
    rays: int,
    # out
    cosine_out: wp.array2d(dtype=wp.float32),
) -> None:
    """One thread a point: for each source the mean cosine towards the part of its disc that the point sees."""
    i = wp.tid()
    p = points[i]
    n = normals[i]
    start = p + RAY_START_M * n
    for c in range(centers.shape[0]):
        # A point (w = 1) or, like the sun, a direction (w = 0), where the radius is that of the disc at distance 1.
        center = wp.vec3(centers[c][0], centers[c][1], centers[c][2])
        towards = center - centers[c][3] * p
        axis = wp.normalize(towards)
        side = wp.normalize(
            wp.cross(axis, wp.where(wp.abs(axis[2]) < 0.9, wp.vec3(0.0, 0.0, 1.0), wp.vec3(1.0, 0.0, 0.0)))
        )
        up = wp.cross(axis, side)
        total = float(0.0)  # noqa: UP018 (a variable that changes in a loop, to Warp)
        for k in range(rays):
            # Equal shares of the disc along a spiral.
            r = radii[c] * wp.sqrt((float(k) + 0.5) / float(rays))
            turn = turns[i] + float(k) * GOLDEN_ANGLE
            way = towards + r * (wp.cos(turn) * side + wp.sin(turn) * up)
            far = wp.length(way)
            way = way / far
            cosine = wp.dot(n, way)
            if cosine > 0.0:
                reach = wp.where(centers[c][3] > 0.0, far, FAR_M)
                # Two tests: Warp evaluates both sides of an "or", and there may be no mesh to ask.
                blocked = bool(False)  # noqa: UP018
                if mesh != wp.uint64(0):
                    blocked = wp.mesh_query_ray_anyhit(mesh, start, way, reach)
                if not blocked:
                    total += cosine
        cosine_out[i, c] = total / float(rays)


def make_blockers(surfaces: Sequence[tuple[np.ndarray, np.ndarray]], device: str = "cpu") -> Blockers:
    """Surfaces, each points (V, 3) [m] and faces (F, 3), joined for ray queries.

    Raises:
        ValueError: A face names a vertex that is not there.
    """
    points, faces, owner, first = [], [], [], 0
    for i, (p, f) in enumerate(surfaces):
        if len(f) and (np.min(f) < 0 or np.max(f) >= len(p)):
            raise ValueError(f"Faces of surface {i} name vertices {np.min(f)}..{np.max(f)}, there are {len(p)}.")
        points.append(np.asarray(p, dtype=np.float32).reshape(-1, 3))
        faces.append(np.asarray(f, dtype=np.int32).reshape(-1, 3) + first)
        owner.append(np.full(len(faces[-1]), i, np.int32))
        first += len(points[-1])
    if not sum(len(f) for f in faces):
        return Blockers(device, None, np.zeros(0, np.int32))
    with wp.ScopedDevice(device):
        mesh = wp.Mesh(
            wp.array(np.concatenate(points), dtype=wp.vec3), wp.array(np.concatenate(faces).ravel(), dtype=wp.int32)
        )
    return Blockers(device, mesh, np.concatenate(owner))


def cast_rays(blockers: Blockers, origins: np.ndarray, directions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distance (P, R) float32 of the first hit of R rays from each of P points (inf = none) [m], and the surface that was hit (P, R) int32, -1 = none.

    Args:
        blockers: What can be hit.
        origins: Where the rays start, (P, 3) [m]; start them off the surface.
        directions: Unit vectors, (P, R, 3).
    """
    count, rays = directions.shape[:2]
    if blockers.mesh is None or not count * rays:
        return np.full((count, rays), np.inf, np.float32), np.full((count, rays), -1, np.int32)
    with wp.ScopedDevice(blockers.device):
        distance, face = wp.empty((count, rays), dtype=wp.float32), wp.empty((count, rays), dtype=wp.int32)
        given = [blockers.mesh.id, _vectors(origins), _vectors(directions)]
        wp.launch(cast_rays_kernel, count, inputs=given, outputs=[distance, face])
        hit = face.numpy()
        return distance.numpy(), np.where(hit >= 0, blockers.owner[np.maximum(hit, 0)], -1).astype(np.int32)


def see_sources(
    blockers: Blockers,
    points: np.ndarray,
    normals: np.ndarray,
    turns: np.ndarray,
    centers: np.ndarray,
    radii: np.ndarray,
    rays: int,
) -> np.ndarray:
    """Mean cosine (P, C) float32 between the normals of P points and the parts of C round sources that they see; 0 in full shadow.

    Args:
        blockers: What casts shadows.
        points: (P, 3) [m].
        normals: Unit vectors, (P, 3).
        turns: Angle by which each point's pattern of rays is turned, (P,) [rad]: alike for all, shadows show steps.
        centers: (C, 4): a point x, y, z, 1 [m], or the unit direction x, y, z, 0 of a source infinitely far away.
        radii: Radius of each disc, (C,) [m], or its angular radius where the source is infinitely far away [rad].
        rays: Rays to each disc, in a spiral of equal shares.
    """
    if not len(points) or not len(centers):
        return np.zeros((len(points), len(centers)), np.float32)
    with wp.ScopedDevice(blockers.device):
        out = wp.empty((len(points), len(centers)), dtype=wp.float32)
        given = [wp.uint64(0) if blockers.mesh is None else blockers.mesh.id, _vectors(points), _vectors(normals)]
        given += [wp.array(np.asarray(turns, np.float32)), wp.array(np.asarray(centers, np.float32), dtype=wp.vec4)]
        given += [wp.array(np.asarray(radii, np.float32)), rays]
        wp.launch(see_sources_kernel, len(points), inputs=given, outputs=[out])
        return out.numpy()


def _vectors(values: np.ndarray) -> Any:
    return wp.array(np.ascontiguousarray(values, dtype=np.float32), dtype=wp.vec3)
