"""A z-buffer rasteriser: which triangle each pixel of a pinhole camera sees, how far away, and where on the triangle."""

# Warp reads these annotations as types of its own; a type checker cannot.
# pyright: reportInvalidTypeForm=false, reportOperatorIssue=false, reportArgumentType=false, reportCallIssue=false
# pyright: reportAssignmentType=false, reportIndexIssue=false, reportGeneralTypeIssues=false, reportReturnType=false

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import warp as wp

NEAR_M = 0.005
"""What is closer to the camera than this is cut away [m]."""
NO_HIT = 0xFFFFFFFFFFFFFFFF
EDGE_SLACK = wp.constant(1.0e-5)
"""A ray this close (in barycentric weight) beside an edge counts as on it: rounding must not lose rays that pass through a vertex."""
BOUNDS_SLACK_PX = wp.constant(0.01)
"""Rounding of a projection must not lose the pixel whose centre it hits [px]."""
GPU_SPAN = 8
"""Pixels per resolving thread on CUDA; on the CPU a thread takes a whole row, launches being serial there."""


@dataclass(frozen=True, eq=False)
class Raster:
    """What each pixel sees.

    Attributes:
        depth_m: Depth along the optical axis, (H, W) float32 [m], 0 = nothing hit.
        face: Index of the triangle, (H, W) int32, -1 = nothing hit.
        bary: Perspective-correct weights of the triangle's corners, (H, W, 3) float32; all 0 = nothing hit.
    """

    depth_m: np.ndarray
    face: np.ndarray
    bary: np.ndarray


@wp.func
def edge_plane(points_c: wp.array(dtype=wp.vec3), a: int, b: int) -> wp.vec3:
    """Normal of the plane through the camera and the edge a-b; swapping a and b negates it to the last bit, so neighbours leave no gap."""
    lo = wp.min(a, b)
    hi = wp.max(a, b)
    normal = wp.cross(points_c[lo], points_c[hi] - points_c[lo])
    return wp.where(a <= b, normal, -normal)


@wp.func
def bary_of_ray(ray: wp.vec3, n0: wp.vec3, n1: wp.vec3, n2: wp.vec3) -> wp.vec3:
    """Barycentric weights where the ray meets the triangle whose edge planes are given; a negative weight: it does not.

    Source: Olano and Greer (1997), rasterisation in homogeneous coordinates, which needs no clipping.
    """
    w = wp.vec3(wp.dot(n0, ray), wp.dot(n1, ray), wp.dot(n2, ray))
    total = w[0] + w[1] + w[2]
    if total == 0.0:
        return wp.vec3(-1.0, -1.0, -1.0)
    return w / total


@wp.func
def weights_at(
    points_c: wp.array(dtype=wp.vec3), i0: int, i1: int, i2: int, x: int, y: int, intrinsics: wp.vec4
) -> wp.vec3:
    """Weights of a triangle's corners where the centre of pixel (x, y) sees it, none negative."""
    ray = wp.vec3(
        (float(x) + 0.5 - intrinsics[2]) / intrinsics[0], (float(y) + 0.5 - intrinsics[3]) / intrinsics[1], 1.0
    )
    w = bary_of_ray(ray, edge_plane(points_c, i1, i2), edge_plane(points_c, i2, i0), edge_plane(points_c, i0, i1))
    w = wp.max(w, wp.vec3(0.0, 0.0, 0.0))
    return w / (w[0] + w[1] + w[2])


@wp.func
def grow_bounds(bounds: wp.vec4, p: wp.vec3, intrinsics: wp.vec4) -> wp.vec4:
    """Bounds (u_min, v_min, u_max, v_max) that also hold the projection of p [px]."""
    u = intrinsics[0] * p[0] / p[2] + intrinsics[2]
    v = intrinsics[1] * p[1] / p[2] + intrinsics[3]
    return wp.vec4(wp.min(bounds[0], u), wp.min(bounds[1], v), wp.max(bounds[2], u), wp.max(bounds[3], v))


@wp.func
def grow_bounds_clipped(bounds: wp.vec4, a: wp.vec3, b: wp.vec3, near: float, intrinsics: wp.vec4) -> wp.vec4:
    """Bounds with the corner a where it is in front of the near plane, and with the point where the edge a-b crosses that plane."""
    if a[2] >= near:
        bounds = grow_bounds(bounds, a, intrinsics)
    if (a[2] < near) != (b[2] < near):
        bounds = grow_bounds(bounds, a + (b - a) * ((near - a[2]) / (b[2] - a[2])), intrinsics)
    return bounds


@wp.kernel(enable_backward=False)
def draw_triangles_kernel(
    # in
    points_c: wp.array(dtype=wp.vec3),
    faces: wp.array2d(dtype=wp.int32),
    intrinsics: wp.vec4,
    near: float,
    width: int,
    height: int,
    # out
    nearest_out: wp.array2d(dtype=wp.uint64),
) -> None:
    """One thread a triangle: write the packed depth and face of each pixel it covers where nothing nearer is."""
    face = wp.tid()
    i0 = faces[face, 0]
    i1 = faces[face, 1]
    i2 = faces[face, 2]
    p0 = points_c[i0]
    p1 = points_c[i1]
    p2 = points_c[i2]
    bounds = wp.vec4(1.0e9, 1.0e9, -1.0e9, -1.0e9)
    bounds = grow_bounds_clipped(bounds, p0, p1, near, intrinsics)
    bounds = grow_bounds_clipped(bounds, p1, p2, near, intrinsics)
    bounds = grow_bounds_clipped(bounds, p2, p0, near, intrinsics)
    # Only pixels whose centre is inside the bounds: most triangles of a detailed mesh are smaller than a pixel and have none.
    # Clamped as floats first, because a far value would overflow the integer.
    x0 = int(wp.ceil(wp.clamp(bounds[0] - 0.5 - BOUNDS_SLACK_PX, 0.0, float(width))))
    y0 = int(wp.ceil(wp.clamp(bounds[1] - 0.5 - BOUNDS_SLACK_PX, 0.0, float(height))))
    x1 = int(wp.floor(wp.clamp(bounds[2] + 0.5 + BOUNDS_SLACK_PX, 0.0, float(width))))
    y1 = int(wp.floor(wp.clamp(bounds[3] + 0.5 + BOUNDS_SLACK_PX, 0.0, float(height))))
    if x0 >= x1 or y0 >= y1:
        return
    n0 = edge_plane(points_c, i1, i2)
    n1 = edge_plane(points_c, i2, i0)
    n2 = edge_plane(points_c, i0, i1)
    for y in range(y0, y1):
        for x in range(x0, x1):
            ray = wp.vec3(
                (float(x) + 0.5 - intrinsics[2]) / intrinsics[0], (float(y) + 0.5 - intrinsics[3]) / intrinsics[1], 1.0
            )
            w = bary_of_ray(ray, n0, n1, n2)
            if wp.min(w) >= -EDGE_SLACK:
                z = w[0] * p0[2] + w[1] * p1[2] + w[2] * p2[2]
                if z >= near:
                    # Bits of positive floats sort like the floats: one atomic keeps nearest depth and its face.
                    key = (wp.uint64(wp.cast(z, wp.uint32)) << wp.uint64(32)) | wp.uint64(face)
                    wp.atomic_min(nearest_out, y, x, key)


@wp.kernel(enable_backward=False)
def resolve_pixels_kernel(
    # in
    points_c: wp.array(dtype=wp.vec3),
    faces: wp.array2d(dtype=wp.int32),
    intrinsics: wp.vec4,
    nearest: wp.array2d(dtype=wp.uint64),
    no_hit: wp.uint64,
    width: int,
    span: int,
    # out
    depth_out: wp.array2d(dtype=wp.float32),
    face_out: wp.array2d(dtype=wp.int32),
    bary_out: wp.array2d(dtype=wp.vec3),
) -> None:
    """One thread a run of pixels: unpack what was nearest and weigh the corners of its triangle."""
    y, block = wp.tid()
    for x in range(block * span, wp.min(width, (block + 1) * span)):
        key = nearest[y, x]
        if key == no_hit:
            face_out[y, x] = -1
        else:
            face = int(key & wp.uint64(0xFFFFFFFF))
            i0 = faces[face, 0]
            i1 = faces[face, 1]
            i2 = faces[face, 2]
            depth_out[y, x] = wp.cast(wp.uint32(key >> wp.uint64(32)), wp.float32)
            face_out[y, x] = face
            bary_out[y, x] = weights_at(points_c, i0, i1, i2, x, y, intrinsics)


def rasterize(
    points_c: np.ndarray,
    faces: np.ndarray,
    K_px: np.ndarray,
    width: int,
    height: int,
    device: str = "cpu",
    near_m: float = NEAR_M,
) -> Raster:
    """Nearest triangle, its depth and barycentric weights for every pixel; triangles of either winding count.

    Args:
        points_c: Vertices (V, 3) in the camera frame [m].
        faces: Triangles (F, 3), indices into ``points_c``.
        K_px: Intrinsics (3, 3) without skew [px].
        width: Image width [px].
        height: Image height [px].
        device: Warp device.
        near_m: Depth below which nothing is drawn [m]; triangles that cross it are cut there.

    Raises:
        ValueError: The shapes do not fit or a face names a vertex that is not there.
    """
    points_c = np.ascontiguousarray(points_c, dtype=np.float32)
    faces = np.ascontiguousarray(faces, dtype=np.int32)
    if points_c.ndim != 2 or points_c.shape[1] != 3 or faces.ndim != 2 or faces.shape[1] != 3:
        raise ValueError(f"Expected points (V, 3) and faces (F, 3), got {points_c.shape} and {faces.shape}.")
    if faces.size and (faces.min() < 0 or faces.max() >= len(points_c)):
        raise ValueError(f"Faces name vertices {faces.min()}..{faces.max()}, there are {len(points_c)}.")
    intrinsics = wp.vec4(*(float(K_px[i]) for i in ((0, 0), (1, 1), (0, 2), (1, 2))))
    with wp.ScopedDevice(device) as active:
        points_wp = wp.array(points_c, dtype=wp.vec3)
        faces_wp = wp.array(faces, dtype=wp.int32).reshape((len(faces), 3))
        nearest = wp.full((height, width), NO_HIT, dtype=wp.uint64)
        depth, face = wp.zeros((height, width), dtype=wp.float32), wp.zeros((height, width), dtype=wp.int32)
        bary = wp.zeros((height, width), dtype=wp.vec3)
        if len(faces):
            drawn = [points_wp, faces_wp, intrinsics, near_m, width, height]
            wp.launch(draw_triangles_kernel, len(faces), inputs=drawn, outputs=[nearest])
        span = GPU_SPAN if active.is_cuda else width
        resolved = [points_wp, faces_wp, intrinsics, nearest, NO_HIT, width, span]
        blocks = (height, -(-width // span))
        wp.launch(resolve_pixels_kernel, blocks, inputs=resolved, outputs=[depth, face, bary])
        return Raster(depth.numpy(), face.numpy(), bary.numpy())
