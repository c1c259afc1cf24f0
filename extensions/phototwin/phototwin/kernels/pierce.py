"""All places where rays go through a mesh, nearest first."""

# Warp reads these annotations as types of its own; a type checker cannot.
# pyright: reportInvalidTypeForm=false, reportOperatorIssue=false, reportArgumentType=false, reportCallIssue=false
# pyright: reportAssignmentType=false, reportIndexIssue=false, reportGeneralTypeIssues=false, reportReturnType=false
# ruff: noqa: UP018, RUF046 (a bare literal would be a constant to Warp)

from __future__ import annotations

import numpy as np
import warp as wp

from phototwin.errors import InputError
from phototwin.kernels.launch import launch_rows
from phototwin.kernels.obstacles import MeshSet

wp.set_module_options({"enable_backward": False})

NUDGE_M = wp.constant(1.0e-5)
"""The search goes on this far behind a hit: surfaces that are closer together count as one."""


@wp.kernel(enable_backward=False)
def pierce_mesh_kernel(
    # in
    first: int,
    mesh: wp.uint64,
    origins: wp.array(dtype=wp.vec3),
    directions: wp.array(dtype=wp.vec3),
    farthest: float,
    # out
    distance_out: wp.array2d(dtype=float),
    face_out: wp.array2d(dtype=int),
) -> None:
    """One thread a ray: from hit to hit."""
    row, _block = wp.tid()
    i = first + row
    gone = float(0.0)
    count = int(0)
    going = bool(True)
    while going and count < distance_out.shape[1]:
        found = wp.mesh_query_ray(mesh, origins[i] + gone * directions[i], directions[i], farthest - gone)
        if found.result:
            gone += found.t
            distance_out[i, count] = gone
            face_out[i, count] = found.face
            gone += NUDGE_M
            count += 1
        else:
            going = bool(False)


def pierce_mesh(
    meshes: MeshSet,
    origins: np.ndarray,
    directions: np.ndarray,
    farthest_m: float,
    most: int = 16,
    threads: int | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Distances (N, most) float32 [m] at which rays go through a mesh, inf beyond the last, and the faces (N, most) int32, -1 there.

    Args:
        meshes: One mesh, from ``load_meshes``.
        origins: (N, 3) in its frame [m].
        directions: (N, 3), unit.
        farthest_m: Where rays end.
        most: Hits that are kept of each ray.
        threads: On a CPU; None takes all cores.

    Raises:
        InputError: Shapes do not fit each other, or there is more than one mesh.
    """
    origins, directions = np.asarray(origins, np.float32), np.asarray(directions, np.float32)
    if origins.ndim != 2 or origins.shape[1] != 3 or origins.shape != directions.shape or len(meshes.meshes) != 1:
        raise InputError(
            f"Expected rays (N, 3) and (N, 3) and one mesh, got {origins.shape}, {directions.shape} and {len(meshes.meshes)}."
        )
    device = meshes.device
    distance = wp.full((len(origins), most), np.inf, dtype=float, device=device)
    face = wp.full((len(origins), most), -1, dtype=int, device=device)
    inputs = [
        meshes.meshes[0].id,
        wp.array(np.ascontiguousarray(origins), dtype=wp.vec3, device=device),
        wp.array(np.ascontiguousarray(directions), dtype=wp.vec3, device=device),
        float(farthest_m),
    ]
    launch_rows(pierce_mesh_kernel, len(origins), 1, inputs, [distance, face], device, threads)
    return distance.numpy(), face.numpy()
