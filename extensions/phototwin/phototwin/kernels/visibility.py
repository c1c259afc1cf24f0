"""What cameras see of points in the workspace, behind things and behind a robot in many postures."""

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
from phototwin.kernels.obstacles import MeshSet, Obstacles, place_meshes

wp.set_module_options({"enable_backward": False})

NEAR_M = 0.01
"""What is closer to a camera than this is not seen [m]."""
SLACK_M = 1e-3
"""A point on a surface is not hidden by that surface: what is this close before it does not count [m]."""


@dataclass(frozen=True, eq=False)
class Cameras:
    """C pinhole cameras.

    Attributes:
        T_world_camera: (C, 4, 4) [m].
        K_px: Intrinsics without skew, (C, 3, 3) [px].
        size_px: Width and height, (C, 2) [px].
    """

    T_world_camera: np.ndarray
    K_px: np.ndarray
    size_px: np.ndarray


@wp.kernel(enable_backward=False)
def find_visible_kernel(
    # in
    first: int,
    points_w: wp.array(dtype=wp.vec3),
    T_camera_world: wp.array(dtype=wp.mat44),
    eyes_w: wp.array(dtype=wp.vec3),
    intrinsics: wp.array(dtype=wp.vec4),
    size: wp.array(dtype=wp.vec2),
    obstacles: Obstacles,
    balls_w: wp.array(dtype=wp.vec4),
    near: float,
    slack: float,
    # out
    visible_out: wp.array2d(dtype=wp.uint8),
) -> None:
    """One thread a point and camera: in the image, in front, and nothing between."""
    row, c = wp.tid()
    i = first + row
    point = points_w[i]
    p = wp.transform_point(T_camera_world[c], point)
    seen = p[2] > near
    if seen:
        u = intrinsics[c][0] * p[0] / p[2] + intrinsics[c][2]
        v = intrinsics[c][1] * p[1] / p[2] + intrinsics[c][3]
        seen = u >= 0.0 and v >= 0.0 and u < size[c][0] and v < size[c][1]
    way_w = eyes_w[c] - point
    length2 = wp.length_sq(way_w)
    m = int(0)
    while seen and m < obstacles.ids.shape[0]:
        # Most rays pass by: the nearest point of the segment to the middle of the mesh says so without a change of frame.
        ball = balls_w[m]
        to = wp.vec3(ball[0], ball[1], ball[2]) - point
        share = wp.clamp(wp.dot(to, way_w) / length2, 0.0, 1.0)
        if wp.length_sq(to - share * way_w) <= ball[3] * ball[3]:
            T = obstacles.T_mesh_world[0, m]
            length = wp.sqrt(length2)
            way = wp.transform_vector(T, way_w) / length
            # From the point to the camera: what hides it is near it more often than not.
            start = wp.transform_point(T, point) + slack * way
            if length > slack:
                seen = not wp.mesh_query_ray_anyhit(obstacles.ids[m], start, way, length - slack)
        m += 1
    visible_out[c, i] = wp.where(seen, wp.uint8(1), wp.uint8(0))


@wp.kernel(enable_backward=False)
def hide_by_spheres_kernel(
    # in
    first: int,
    points_w: wp.array(dtype=wp.vec3),
    eyes_w: wp.array(dtype=wp.vec3),
    visible: wp.array2d(dtype=wp.uint8),
    centers_w: wp.array2d(dtype=wp.vec3),
    radii: wp.array(dtype=float),
    # out
    near_out: wp.array3d(dtype=wp.vec4),
    visible_out: wp.array3d(dtype=wp.uint8),
) -> None:
    """One thread a posture and camera: of the points that things leave visible, which the spheres do not hide.

    A sphere hides a point where the segment from the camera enters it; a point inside a sphere is hidden too. For each
    sphere the way to it, its distance and the cosine of its half angle are worked out once.
    """
    row, c = wp.tid()
    b = first + row
    eye = eyes_w[c]
    count = radii.shape[0]
    for s in range(count):
        to = centers_w[b, s] - eye
        near_out[b, c, s] = wp.vec4(to[0], to[1], to[2], wp.length_sq(to) - radii[s] * radii[s])
    for i in range(points_w.shape[0]):
        seen = visible[c, i] != wp.uint8(0)
        way = points_w[i] - eye
        length2 = wp.length_sq(way)
        s = int(0)
        while seen and s < count:
            ball = near_out[b, c, s]
            along = wp.dot(way, wp.vec3(ball[0], ball[1], ball[2]))
            # |t way - to|^2 = r^2 has a root t in 0..1, or the camera is inside the sphere.
            if ball[3] <= 0.0:
                seen = False
            elif along > 0.0 and along * along >= length2 * ball[3]:
                root = wp.sqrt(along * along - length2 * ball[3])
                seen = along - root > length2
            s += 1
        visible_out[b, c, i] = wp.where(seen, wp.uint8(1), wp.uint8(0))


def visible_points(
    points_w: np.ndarray,
    cameras: Cameras,
    meshes: MeshSet,
    T_world_mesh: np.ndarray | None = None,
    slack_m: float = SLACK_M,
    threads: int | None = None,
) -> np.ndarray:
    """Which points (M, 3) each of C cameras sees past meshes, (C, M) bool; the mean over an axis is the share of the workspace.

    Args:
        points_w: In the world [m].
        cameras: Where they are and what they take in.
        meshes: What may hide points; its device is used.
        T_world_mesh: Poses of the meshes, (K, 4, 4); None leaves them where they are.
        slack_m: What is closer than this before a point does not hide it [m].
        threads: On a CPU; None takes all cores.

    Raises:
        InputError: Shapes do not fit each other.
    """
    points, device = _points(points_w), meshes.device
    T, intrinsics, size = _cameras(cameras)
    visible = wp.empty((len(T), len(points)), dtype=wp.uint8, device=device)
    inputs = [
        wp.array(points, dtype=wp.vec3, device=device),
        wp.array(invert(T).astype(np.float32), dtype=wp.mat44, device=device),
        wp.array(np.ascontiguousarray(T[:, :3, 3], np.float32), dtype=wp.vec3, device=device),
        wp.array(intrinsics, dtype=wp.vec4, device=device),
        wp.array(size, dtype=wp.vec2, device=device),
        place_meshes(meshes, T_world_mesh, 1),
        wp.array(_balls(meshes, T_world_mesh), dtype=wp.vec4, device=device),
        NEAR_M,
        float(slack_m),
    ]
    launch_rows(find_visible_kernel, len(points), len(T), inputs, [visible], device, threads)
    return visible.numpy().astype(bool)


def visible_past_spheres(
    points_w: np.ndarray,
    cameras: Cameras,
    visible: np.ndarray,
    centers_w: np.ndarray,
    radii_m: np.ndarray,
    device: str = "cpu",
    threads: int | None = None,
) -> np.ndarray:
    """Which of the points stay visible when a robot of S spheres stands in the view in B postures, (B, C, M) bool.

    Args:
        points_w: (M, 3) [m].
        cameras: C cameras.
        visible: Without the robot, (C, M) bool, from ``visible_points``.
        centers_w: Of the robot's spheres, (B, S, 3) [m].
        radii_m: (S,) [m].
        device: Warp device.
        threads: On a CPU; None takes all cores.

    Raises:
        InputError: Shapes do not fit each other.
    """
    points, found = _points(points_w), wp.get_device(device)
    T = _cameras(cameras)[0]
    centers, radii = np.ascontiguousarray(centers_w, np.float32), np.ascontiguousarray(radii_m, np.float32)
    if centers.ndim != 3 or centers.shape[2] != 3 or radii.shape != centers.shape[1:2]:
        raise InputError(f"Expected centres (B, S, 3) and radii (S,), got {centers.shape} and {radii.shape}.")
    if np.shape(visible) != (len(T), len(points)):
        raise InputError(f"Expected ({len(T)}, {len(points)}) answers of the cameras, got {np.shape(visible)}.")
    rows = len(centers)
    out = wp.empty((rows, len(T), len(points)), dtype=wp.uint8, device=found)
    near = wp.empty((rows, len(T), len(radii)), dtype=wp.vec4, device=found)
    inputs = [
        wp.array(points, dtype=wp.vec3, device=found),
        wp.array(np.ascontiguousarray(T[:, :3, 3], np.float32), dtype=wp.vec3, device=found),
        wp.array(np.asarray(visible).astype(np.uint8), dtype=wp.uint8, device=found),
        wp.array(centers, dtype=wp.vec3, device=found).reshape(centers.shape[:2]),
        wp.array(radii, dtype=float, device=found),
    ]
    launch_rows(hide_by_spheres_kernel, rows, len(T), inputs, [near, out], found, threads)
    return out.numpy().astype(bool)


def _balls(meshes: MeshSet, T_world_mesh: np.ndarray | None) -> np.ndarray:
    """Spheres (K, 4) float32 around the bounds of the meshes, in the world."""
    middle, half = 0.5 * (meshes.lower + meshes.upper), 0.5 * (meshes.upper - meshes.lower)
    if T_world_mesh is not None:
        T = np.asarray(T_world_mesh, np.float64).reshape(-1, 4, 4)
        middle = np.einsum("kij,kj->ki", T[:, :3, :3], middle) + T[:, :3, 3]
    radius = np.linalg.norm(half, axis=1) * (1.0 + 1e-5) + 1e-6
    return np.concatenate([middle, radius[:, None]], 1).astype(np.float32)


def _points(points_w: np.ndarray) -> np.ndarray:
    points = np.ascontiguousarray(points_w, np.float32)
    if points.ndim != 2 or points.shape[1] != 3:
        raise InputError(f"Expected points (M, 3), got {points.shape}.")
    return points


def _cameras(cameras: Cameras) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Poses (C, 4, 4) float64, intrinsics (C, 4) as fx fy cx cy and sizes (C, 2) float32."""
    T, K = np.asarray(cameras.T_world_camera, np.float64), np.asarray(cameras.K_px, np.float32)
    size = np.ascontiguousarray(cameras.size_px, np.float32)
    if T.ndim != 3 or T.shape[1:] != (4, 4) or K.shape != (len(T), 3, 3) or size.shape != (len(T), 2):
        raise InputError(
            f"Expected cameras (C, 4, 4), (C, 3, 3) and (C, 2), got {T.shape}, {K.shape} and {size.shape}."
        )
    return T, np.ascontiguousarray(np.stack([K[:, 0, 0], K[:, 1, 1], K[:, 0, 2], K[:, 1, 2]], 1)), size
