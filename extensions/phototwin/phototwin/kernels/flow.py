"""Exact optical flow of a pair of frames from depth, camera motion and the motion of every object and link, with a true occlusion test.

Each pixel's point is moved as its object moves and projected into the second frame. It is hidden there where that frame's own depth is
nearer than the point: one camera, one depth, and not a comparison of two flows.
"""

# Warp compiles the kernels itself; its Python stubs do not describe what is legal inside them.
# pyright: reportInvalidTypeForm=false, reportCallIssue=false, reportArgumentType=false, reportOperatorIssue=false
# pyright: reportAssignmentType=false, reportIndexIssue=false, reportGeneralTypeIssues=false, reportReturnType=false

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import warp as wp

from phototwin.errors import InputError
from phototwin.frames import invert
from phototwin.scene import Camera

NEAR_M = 0.005
"""Points that come closer to the second camera than this leave its view [m]."""
NOISE_M, NOISE_SHARE = 0.001, 0.002
"""What is nearer than a moved point by less than this, plus this share of its distance, does not hide it: rounding and noise of depth [m]."""
SLANT_LIMIT = wp.constant(0.5)
"""A surface seen at a grazing angle is followed to a neighbouring pixel by this share of its distance at most."""
NUMPY_OF = {
    wp.float32: (np.float32, 0),
    wp.int32: (np.int32, 0),
    wp.uint8: (np.uint8, 0),
    wp.vec2: (np.float32, 1),
    wp.vec3ub: (np.uint8, 1),
}
"""Type of the numbers in an array, and how many axes each of its values takes."""
GPU_SPAN = 8
"""Pixels per thread on CUDA; on the CPU a thread takes a whole row, launches being serial there."""


@dataclass(frozen=True, eq=False)
class Flow:
    """Where the points that a first frame shows are in a second one.

    Attributes:
        flow_px: From a pixel's centre in the first frame to its point in the second, (N, H, W, 2) float32 [px]; 0 where it is behind the camera.
        occluded: Whether the second frame does not show the point: hidden by something nearer, or outside the picture, (N, H, W) bool.
    """

    flow_px: np.ndarray
    occluded: np.ndarray


@wp.func
def point_at(x: int, y: int, z: float, intrinsics: wp.vec4) -> wp.vec3:
    """Camera point of a pixel's centre at a depth."""
    return wp.vec3(
        (float(x) + 0.5 - intrinsics[2]) / intrinsics[0] * z, (float(y) + 0.5 - intrinsics[3]) / intrinsics[1] * z, z
    )


@wp.func
def tangent(
    depth_m: wp.array3d(dtype=wp.float32),
    ids: wp.array3d(dtype=wp.int32),
    n: int,
    x: int,
    y: int,
    dx: int,
    dy: int,
    intrinsics: wp.vec4,
) -> wp.vec3:
    """Step to the neighbour along one axis on the same surface: of both sides the one with the smaller change of depth."""
    z = depth_m[n, y, x]
    here = point_at(x, y, z, intrinsics)
    best = wp.vec3(float(dx), float(dy), 0.0) * (z / intrinsics[0])
    change = float(SLANT_LIMIT) * z
    for side in range(2):
        sign = 1 - 2 * side
        nx = x + sign * dx
        ny = y + sign * dy
        if nx >= 0 and ny >= 0 and nx < depth_m.shape[2] and ny < depth_m.shape[1]:
            there = depth_m[n, ny, nx]
            if there > 0.0 and ids[n, ny, nx] == ids[n, y, x] and wp.abs(there - z) < change:
                change = wp.abs(there - z)
                best = (point_at(nx, ny, there, intrinsics) - here) * float(sign)
    return best


@wp.kernel(enable_backward=False)
def flow_pixels_kernel(
    # in
    depth_a: wp.array3d(dtype=wp.float32),
    ids_a: wp.array3d(dtype=wp.int32),
    intrinsics_a: wp.array(dtype=wp.vec4),
    T_b_a: wp.array2d(dtype=wp.mat44),
    depth_b: wp.array3d(dtype=wp.float32),
    ids_b: wp.array3d(dtype=wp.int32),
    intrinsics_b: wp.array(dtype=wp.vec4),
    tolerance: wp.vec2,
    near: float,
    span: int,
    # out
    flow_out: wp.array3d(dtype=wp.vec2),
    occluded_out: wp.array3d(dtype=wp.uint8),
) -> None:
    """One thread a run of pixels: move each point, project it, and weigh which of the four pixels around it lie before it."""
    n, y, block = wp.tid()
    width = depth_b.shape[2]
    height = depth_b.shape[1]
    k_a = intrinsics_a[n]
    k_b = intrinsics_b[n]
    for x in range(block * span, wp.min(depth_a.shape[2], (block + 1) * span)):
        z = depth_a[n, y, x]
        index = ids_a[n, y, x]
        if index < 0 or index >= T_b_a.shape[1]:
            index = 0
        T = T_b_a[n, index]
        p = wp.vec3()
        if z > 0.0:
            p = wp.transform_point(T, point_at(x, y, z, k_a))
        else:  # infinitely far: only turns move it
            p = wp.transform_vector(T, point_at(x, y, 1.0, k_a))
        if p[2] < near:
            flow_out[n, y, x] = wp.vec2()
            occluded_out[n, y, x] = wp.uint8(1)
            continue
        u = k_b[0] * p[0] / p[2] + k_b[2]
        v = k_b[1] * p[1] / p[2] + k_b[3]
        flow_out[n, y, x] = wp.vec2(u - float(x) - 0.5, v - float(y) - 0.5)
        if u < 0.0 or v < 0.0 or u >= float(width) or v >= float(height):
            occluded_out[n, y, x] = wp.uint8(1)
            continue
        limit = wp.where(z > 0.0, p[2] - tolerance[0] - tolerance[1] * p[2], 1.0e9)
        left = int(wp.floor(u - 0.5))
        top = int(wp.floor(v - 0.5))
        fx = u - 0.5 - float(left)
        fy = v - 0.5 - float(top)
        before = float(0.0)  # noqa: UP018 (a literal would be a constant to Warp)
        normal = wp.vec3()
        for k in range(4):
            cx = left + (k & 1)
            cy = top + (k >> 1)
            share = wp.where((k & 1) == 1, fx, 1.0 - fx) * wp.where((k >> 1) == 1, fy, 1.0 - fy)
            qx = wp.clamp(cx, 0, width - 1)
            qy = wp.clamp(cy, 0, height - 1)
            there = depth_b[n, qy, qx]
            if there > 0.0 and there < limit:
                hides = float(1.0)  # noqa: UP018
                if z > 0.0 and ids_b[n, qy, qx] == ids_a[n, y, x]:
                    # The same surface may only be slanted: follow its tangent plane to that pixel.
                    if normal[0] == 0.0 and normal[1] == 0.0 and normal[2] == 0.0:
                        along = tangent(depth_a, ids_a, n, x, y, 1, 0, k_a)
                        down = tangent(depth_a, ids_a, n, x, y, 0, 1, k_a)
                        normal = wp.normalize(wp.transform_vector(T, wp.cross(along, down)))
                    facing = wp.dot(normal, point_at(qx, qy, 1.0, k_b))
                    expected = p[2]
                    if wp.abs(facing) > 1.0e-6:
                        expected = wp.dot(normal, p) / facing
                    least = (1.0 - SLANT_LIMIT) * p[2]
                    expected = wp.clamp(expected, least, p[2])
                    if there >= expected - tolerance[0] - tolerance[1] * p[2]:
                        hides = 0.0
                before += share * hides
        occluded_out[n, y, x] = wp.where(before > 0.5, wp.uint8(1), wp.uint8(0))


def scene_flow(
    depth_m: Any,
    ids: Any,
    camera_a: Camera | Sequence[Camera],
    camera_b: Camera | Sequence[Camera],
    T_b_from_a: np.ndarray,
    depth_b_m: Any,
    ids_b: Any,
    noise: tuple[float, float] = (NOISE_M, NOISE_SHARE),
    device: str = "cpu",
) -> Flow:
    """Optical flow from frame a to frame b of N pairs, or of one where arrays have no leading axis.

    Args:
        depth_m: Depth of frame a along the optical axis, (N, H, W) float32, 0 = infinitely far [m]; numpy or Warp.
        ids: What moves as one (N, H, W) int32: row of ``T_b_from_a``.
        camera_a: Camera of frame a, one for all pairs or N.
        camera_b: Camera of frame b; its picture may have another size.
        T_b_from_a: Motion of each id in the world from frame a to frame b, (N, I, 4, 4): identity where nothing moves.
        depth_b_m: Depth of frame b, (N, H', W') float32, 0 = infinitely far [m].
        ids_b: Ids of frame b, (N, H', W').
        noise: By how much nearer depth must be to hide a point: metres, and share of its distance.
        device: Warp device.

    Raises:
        InputError: Shapes that do not belong together.
    """
    single = np.ndim(T_b_from_a) == 3
    motion = np.asarray(T_b_from_a, dtype=np.float64)
    motion = motion[None] if single else motion
    count = len(motion)
    with wp.ScopedDevice(device) as active:
        first = [as_device(v, d, 3) for v, d in ((depth_m, wp.float32), (ids, wp.int32))]
        second = [as_device(v, d, 3) for v, d in ((depth_b_m, wp.float32), (ids_b, wp.int32))]
        cameras = [_each(camera, count) for camera in (camera_a, camera_b)]
        _check(first, second, cameras, motion)
        T_b_w, T_w_a = invert(_poses(cameras[1])), _poses(cameras[0])
        T_b_a = (T_b_w[:, None] @ motion @ T_w_a[:, None]).astype(np.float32)
        height, width = first[0].shape[1:]
        span = GPU_SPAN if active.is_cuda else width
        flow = wp.empty((count, height, width), dtype=wp.vec2)
        occluded = wp.empty((count, height, width), dtype=wp.uint8)
        inputs = [*first, _intrinsics(cameras[0]), wp.array(T_b_a, dtype=wp.mat44), *second, _intrinsics(cameras[1])]
        inputs += [wp.vec2(*noise), NEAR_M, span]
        wp.launch(flow_pixels_kernel, (count, height, -(-width // span)), inputs=inputs, outputs=[flow, occluded])
        flow_px, hidden = flow.numpy(), occluded.numpy().view(bool)
    return Flow(flow_px[0], hidden[0]) if single else Flow(flow_px, hidden)


def as_device(value: Any, dtype: Any, ndim: int) -> wp.array:
    """A Warp array of ``ndim`` axes on the current device, a leading axis added where it is missing; no copy where none is needed."""
    if isinstance(value, wp.array) and value.dtype == dtype and value.device == wp.get_device() and value.ndim == ndim:
        return value
    array = value.numpy() if isinstance(value, wp.array) else np.asarray(value)
    kind, tail = NUMPY_OF[dtype]
    array = np.ascontiguousarray(array, dtype=kind)
    return wp.array(array[None] if array.ndim == ndim + tail - 1 else array, dtype=dtype, copy=False)


def _each(camera: Camera | Sequence[Camera], count: int) -> list[Camera]:
    return [camera] * count if isinstance(camera, Camera) else list(camera)


def _poses(cameras: list[Camera]) -> np.ndarray:
    return np.stack([c.T_world_camera for c in cameras]).astype(np.float64)


def _intrinsics(cameras: list[Camera]) -> wp.array:
    return wp.array(
        np.array([[c.K_px[i] for i in ((0, 0), (1, 1), (0, 2), (1, 2))] for c in cameras], np.float32), dtype=wp.vec4
    )


def _check(first: list[wp.array], second: list[wp.array], cameras: list[list[Camera]], motion: np.ndarray) -> None:
    count = len(motion)
    sizes = [(count, c[0].height, c[0].width) if c else None for c in cameras]
    shapes = [tuple(a.shape) for a in (*first, *second)]
    wrong = (
        motion.ndim != 4 or motion.shape[2:] != (4, 4) or motion.shape[1] < 1 or any(len(c) != count for c in cameras)
    )
    if wrong or shapes != [sizes[0], sizes[0], sizes[1], sizes[1]]:
        raise InputError(
            f"Cannot compute flow: expected depth and ids {sizes[0]} and {sizes[1]} and motions ({count}, ids, 4, 4), "
            f"got {shapes} and {motion.shape}."
        )
