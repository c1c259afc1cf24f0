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
def likeness(apart_m: float, cosine: float, same: bool) -> float:
    """How much a receiver says about a pixel, by the difference of their depths, the cosine between their normals, and whether they are on one thing."""
    alike = wp.max(cosine, 0.0)
    weight = (1.0e-3 + alike * alike * alike * alike) / (1.0e-3 + wp.abs(apart_m))
    return wp.where(same, weight, 1.0e-4 * weight)


@wp.kernel(enable_backward=False)
def spread_by_id_kernel(
    # in
    ids: wp.array(dtype=wp.int32),
    depth_m: wp.array(dtype=wp.float32),
    normals: wp.array(dtype=wp.vec3),
    received: wp.array(dtype=wp.vec3),
    blocked: wp.array(dtype=wp.float32),
    occluded: wp.array(dtype=wp.float32),
    size: wp.vec2i,
    half: wp.vec2i,
    towards: wp.vec3,
    span: int,
    # out
    visibility_out: wp.array(dtype=wp.vec2),
) -> None:
    """One thread a run of pixels: what the nearest receivers on the same surface say, alike in thing, depth and normal.

    Receivers that face away from the source were not asked whether it is hidden: where only those are near, the ring around them is.
    Arrays are flat; ``size`` and ``half`` are the rows and columns of the pixels and of the receivers.
    """
    row, block = wp.tid()
    n = row // size[0]
    y = row - n * size[0]
    r0 = y >> 1
    for x in range(block * span, wp.min(size[1], (block + 1) * span)):
        pixel = row * size[1] + x
        index = ids[pixel]
        if index > 0:
            z = depth_m[pixel]
            normal = normals[pixel]
            c0 = x >> 1
            hidden = float(0.0)
            closed = float(0.0)
            asked = float(0.0)
            weights = float(0.0)
            for k in range(4):
                # In even rows and columns there is one receiver, not two.
                if (k >> 1) <= (y & 1) and (k & 1) <= (x & 1):
                    r = wp.min(r0 + (k >> 1), half[0] - 1)
                    c = wp.min(c0 + (k & 1), half[1] - 1)
                    at = (n * size[0] + 2 * r) * size[1] + 2 * c
                    other = ids[at]
                    if other > 0:
                        receiver = (n * half[0] + r) * half[1] + c
                        facing = received[receiver]
                        weight = likeness(depth_m[at] - z, wp.dot(normal, facing), other == index)
                        closed += weight * occluded[receiver]
                        weights += weight
                        if wp.dot(facing, towards) > TURNED_AWAY:
                            hidden += weight * blocked[receiver]
                            asked += weight
            if asked == 0.0 and wp.dot(normal, towards) > 0.0:
                for r in range(wp.max(r0 - 1, 0), wp.min(r0 + 3, half[0])):
                    for c in range(wp.max(c0 - 1, 0), wp.min(c0 + 3, half[1])):
                        receiver = (n * half[0] + r) * half[1] + c
                        facing = received[receiver]
                        if wp.dot(facing, towards) > TURNED_AWAY:
                            at = (n * size[0] + 2 * r) * size[1] + 2 * c
                            weight = likeness(depth_m[at] - z, wp.dot(normal, facing), ids[at] == index)
                            hidden += weight * blocked[receiver]
                            asked += weight
            if asked > 0.0:
                hidden = hidden / asked
            if weights > 0.0:
                closed = closed / weights
            visibility_out[pixel] = wp.vec2(1.0 - hidden, 1.0 - closed)


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
        given = [v.flatten() for v in (index, depth, normals, found, blocked, occluded)]
        given += [wp.vec2i(height, width), wp.vec2i(*half), towards, span]
        blocks = (count * height, -(-width // span))
        wp.launch(spread_by_id_kernel, blocks, inputs=given, outputs=[visibility.flatten()])
    return visibility
