"""Light that reaches what moves: which pixels of robot and objects see the dominant source, and how open they are to the rest."""

# Warp reads these annotations as types of its own; a type checker cannot.
# pyright: reportInvalidTypeForm=false, reportOperatorIssue=false, reportArgumentType=false, reportCallIssue=false
# pyright: reportAssignmentType=false, reportIndexIssue=false, reportGeneralTypeIssues=false, reportReturnType=false
# ruff: noqa: UP018 (a bare literal would be a constant to Warp)

from __future__ import annotations

from typing import Any

import numpy as np
import warp as wp

from phototwin.kernels.casters import Casters
from phototwin.kernels.rasterize import GPU_SPAN
from phototwin.kernels.shadow import cast_shadows
from phototwin.kernels.srgb import to_warp
from phototwin.light import Light

TURNED_AWAY = wp.constant(0.02)
"""Cosine up to which a surface counts as turned away from the source."""
OWN_START_M = 0.003
"""Rays start this far off a part's own surface: smooth normals lie about where flat triangles are [m]."""


@wp.kernel(enable_backward=False)
def pick_receivers_kernel(
    # in
    depth_m: wp.array3d(dtype=wp.float32),
    normals: wp.array3d(dtype=wp.vec3),
    ids: wp.array3d(dtype=wp.int32),
    eye: wp.vec3,
    corner: wp.vec3,
    across: wp.vec3,
    down: wp.vec3,
    span: int,
    # out
    points_out: wp.array3d(dtype=wp.vec3),
    normals_out: wp.array3d(dtype=wp.vec3),
) -> None:
    """One thread a run of every second pixel of every second row: where it is, and its normal, zero where nothing is."""
    n, r, block = wp.tid()
    y = 2 * r
    for c in range(block * span, wp.min(points_out.shape[2], (block + 1) * span)):
        x = 2 * c
        normal = wp.vec3(0.0, 0.0, 0.0)
        if ids[n, y, x] > 0:
            ray = corner + (float(x) + 0.5) * across + (float(y) + 0.5) * down
            normal = normals[n, y, x]
            if wp.dot(normal, ray) > 0.3 * wp.length(ray):
                normal = -normal
            points_out[n, r, c] = eye + depth_m[n, y, x] * ray
        normals_out[n, r, c] = normal


@wp.func
def likeness(
    ids: wp.array3d(dtype=wp.int32),
    depth_m: wp.array3d(dtype=wp.float32),
    received: wp.array3d(dtype=wp.vec3),
    n: int,
    r: int,
    c: int,
    index: int,
    z: float,
    normal: wp.vec3,
) -> float:
    """How much a receiver says about a pixel of a thing ``index`` at depth z with that normal; 0 where it is on nothing."""
    other = ids[n, 2 * r, 2 * c]
    if other <= 0:
        return 0.0
    weight = 1.0 / (1.0e-3 + wp.abs(depth_m[n, 2 * r, 2 * c] - z))
    alike = wp.max(wp.dot(normal, received[n, r, c]), 0.0)
    weight *= 1.0e-3 + alike * alike * alike * alike
    return wp.where(other == index, weight, 1.0e-4 * weight)


@wp.kernel(enable_backward=False)
def spread_by_id_kernel(
    # in
    ids: wp.array3d(dtype=wp.int32),
    depth_m: wp.array3d(dtype=wp.float32),
    normals: wp.array3d(dtype=wp.vec3),
    received: wp.array3d(dtype=wp.vec3),
    blocked: wp.array3d(dtype=wp.float32),
    occluded: wp.array3d(dtype=wp.float32),
    towards: wp.vec3,
    span: int,
    # out
    visibility_out: wp.array3d(dtype=wp.vec2),
) -> None:
    """One thread a run of pixels: what the nearest receivers on the same surface say, alike in thing, depth and normal.

    Receivers that face away from the source were not asked whether it is hidden: where only those are near, the ring around them is.
    """
    n, y, block = wp.tid()
    for x in range(block * span, wp.min(ids.shape[2], (block + 1) * span)):
        index = ids[n, y, x]
        if index > 0:
            z = depth_m[n, y, x]
            normal = normals[n, y, x]
            r0 = y >> 1
            c0 = x >> 1
            hidden = float(0.0)
            closed = float(0.0)
            asked = float(0.0)
            weights = float(0.0)
            for dr in range(2):
                for dc in range(2):
                    r = wp.min(r0 + dr * (y & 1), blocked.shape[1] - 1)
                    c = wp.min(c0 + dc * (x & 1), blocked.shape[2] - 1)
                    weight = likeness(ids, depth_m, received, n, r, c, index, z, normal)
                    if weight > 0.0:
                        closed += weight * occluded[n, r, c]
                        weights += weight
                        if wp.dot(received[n, r, c], towards) > TURNED_AWAY:
                            hidden += weight * blocked[n, r, c]
                            asked += weight
            if asked == 0.0 and wp.dot(normal, towards) > 0.0:
                for r in range(wp.max(r0 - 1, 0), wp.min(r0 + 3, blocked.shape[1])):
                    for c in range(wp.max(c0 - 1, 0), wp.min(c0 + 3, blocked.shape[2])):
                        if wp.dot(received[n, r, c], towards) > TURNED_AWAY:
                            weight = likeness(ids, depth_m, received, n, r, c, index, z, normal)
                            hidden += weight * blocked[n, r, c]
                            asked += weight
            if asked > 0.0:
                hidden = hidden / asked
            if weights > 0.0:
                closed = closed / weights
            visibility_out[n, y, x] = wp.vec2(1.0 - hidden, 1.0 - closed)


def light_foreground(
    casters: Casters,
    T_world_parts: np.ndarray,
    depth_m: Any,
    normals_w: Any,
    ids: Any,
    T_world_camera: np.ndarray,
    K_px: np.ndarray,
    light: Light,
    start_m: float = OWN_START_M,
) -> Any:
    """How much of the source and how much of the rest of the light each pixel of robot and objects gets.

    A Warp array (N, H, W, 2) float32 as ``shade_frames`` takes it; where ids are 0 it means nothing. Worked out at every second pixel of every second row.

    Args:
        casters: The parts that were drawn.
        T_world_parts: Pose of every part in every frame, (N, P, 4, 4).
        depth_m: (N, H, W) float32 along the optical axis [m], numpy, CPU torch or Warp.
        normals_w: (N, H, W, 3) float32 unit normals, world frame.
        ids: (N, H, W) int32, 0 is nothing.
        T_world_camera: Pose of the camera, (4, 4).
        K_px: Intrinsics (3, 3) without skew [px].
        light: What shines.
        start_m: How far off its surface a ray starts [m].
    """
    count, height, width = (int(s) for s in ids.shape[:3])
    shape = (count, height, width)
    device = casters.device
    R = T_world_camera[:3, :3]
    corner = R @ np.array([-K_px[0, 2] / K_px[0, 0], -K_px[1, 2] / K_px[1, 1], 1.0])
    steps = (T_world_camera[:3, 3], corner, R[:, 0] / K_px[0, 0], R[:, 1] / K_px[1, 1])
    with wp.ScopedDevice(device) as active:
        depth = to_warp(depth_m, np.float32, wp.float32, device, shape)
        normals, index = (
            to_warp(normals_w, np.float32, wp.vec3, device, shape),
            to_warp(ids, np.int32, wp.int32, device, shape),
        )
        half = (-(-height // 2), -(-width // 2))
        points, found = (wp.empty((count, *half), dtype=wp.vec3) for _ in range(2))
        span = GPU_SPAN if active.is_cuda else width
        given = [depth, normals, index, *(wp.vec3(*(float(c) for c in v)) for v in steps), span]
        wp.launch(pick_receivers_kernel, (count, half[0], -(-half[1] // span)), inputs=given, outputs=[points, found])
        weight = np.ones(T_world_parts.shape[:2])
        blocked, occluded = cast_shadows(
            casters, T_world_parts, weight, points, found, light, start_m, own=True, strength=1.0
        )
        visibility = wp.empty(shape, dtype=wp.vec2)
        towards = wp.vec3(*(float(c) for c in light.direction_w))
        given = [index, depth, normals, found, blocked, occluded, towards, span]
        wp.launch(spread_by_id_kernel, (count, height, -(-width // span)), inputs=given, outputs=[visibility])
    return visibility
