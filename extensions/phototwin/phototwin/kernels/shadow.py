"""Shadows of parts that move: how much of the dominant source, and of the light from everywhere else, they hide.

The source is a disc: rays to points of it are cast against the parts' meshes, eight per receiver, and the points differ between
neighbours in a pattern of 4 x 4 that a filter of that size takes out again. Rays are cast for every fourth receiver first; where
those around a receiver say much the same and nothing near can throw a smaller shadow between them, it says what they say.
"""

# Warp reads these annotations as types of its own; a type checker cannot.
# pyright: reportInvalidTypeForm=false, reportOperatorIssue=false, reportArgumentType=false, reportCallIssue=false
# pyright: reportAssignmentType=false, reportIndexIssue=false, reportGeneralTypeIssues=false, reportReturnType=false
# ruff: noqa: UP018, RUF046 (a bare literal would be a constant to Warp)

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import warp as wp

from phototwin.kernels.casters import Casters
from phototwin.kernels.occlusion import luminance_table, occlude_kernel, spread_kernel
from phototwin.kernels.placed import (
    TILE,
    Placed,
    SourceDisc,
    bound_tiles_kernel,
    list_parts_kernel,
    lowest,
    may_block,
    no_bits,
    place_casters,
    place_source,
    reach_to,
    same_surface,
    to_source,
    valid,
)
from phototwin.kernels.rasterize import GPU_SPAN
from phototwin.light import Light

SAMPLES = wp.constant(8)
"""Rays per receiver."""
PATTERN = wp.constant(4)
"""Side of the square of receivers that look at different points of the source."""
ALIKE = wp.constant(0.3)
"""Neighbours whose shares differ by no more than this are in a wide penumbra, or in none: what lies between them is their mean."""
STEEP = wp.constant(0.65)
"""Where shares within four receivers differ by more than this the penumbra is too narrow to be averaged over them."""
EVEN = 0.04
"""The same of the light from everywhere."""
STRENGTH = 0.7
"""The spheres of a robot's links overlap where they are joined and hide 15 % more than the links do (rays against a Panda's meshes in 16 poses);
the rest is light that goes back and forth between a part and what is under it, which the path-traced scenes of suite ``blend`` (even seeds) show."""
START_M = 0.002
"""Rays start this far off the receiver's surface: what is known of a surface is not exact [m]."""
PENUMBRA = wp.constant(0.5)
"""A shadow is smooth between receivers where its penumbra is wider than this share of their distance."""
FINE_COLUMNS = 160
"""With more receivers in a row than this, the light from everywhere is looked at in every fourth of them instead of every second."""

vec8 = wp.types.vector(length=8, dtype=wp.float32)


@wp.func
def cast_rays(
    placed: Placed,
    source: SourceDisc,
    listed: wp.array4d(dtype=wp.uint32),
    n: int,
    r: int,
    c: int,
    point: wp.vec3,
    normal: wp.vec3,
    pattern: wp.array2d(dtype=wp.vec2),
) -> float:
    """Share of the source that is hidden from a receiver."""
    line = to_source(source, point)
    towards = wp.vec3(line[0], line[1], line[2])
    if wp.dot(towards, normal) <= 0.0:
        return 0.0
    reach = reach_to(source, point)
    # Source: Duff et al. (2017), an orthonormal basis without branches.
    sign = wp.where(towards[2] >= 0.0, 1.0, -1.0)
    a = -1.0 / (sign + towards[2])
    b = towards[0] * towards[1] * a
    across = line[3] * wp.vec3(1.0 + sign * towards[0] * towards[0] * a, sign * b, -sign * towards[0])
    upward = line[3] * wp.vec3(b, sign + towards[1] * towards[1] * a, -towards[1])
    phase = (r & (PATTERN - 1)) * PATTERN + (c & (PATTERN - 1))
    if (r & 1) == 0 and (c & 1) == 0:
        phase = ((r >> 1) & (PATTERN - 1)) * PATTERN + ((c >> 1) & (PATTERN - 1))
    hidden = vec8()
    for half in range(2):
        done = int(-1)
        for word in range(listed.shape[3]):
            bits = listed[n, r // TILE, c // TILE, word]
            while bits != wp.uint32(0):
                piece = 32 * word + lowest(bits)
                bits = bits & (bits - wp.uint32(1))
                part = placed.piece_part[piece]
                if part != done and may_block(placed.pieces_w[n, piece], point, towards, line[3], reach, 0.0):
                    done = part
                    weight = placed.weight[n, part]
                    T = placed.T_part_world[n, part]
                    start = wp.transform_point(T, point)
                    ahead = wp.transform_vector(T, towards)
                    right = wp.transform_vector(T, across)
                    up = wp.transform_vector(T, upward)
                    mesh = placed.meshes[part]
                    for j in range(SAMPLES // 2):
                        k = 2 * j + 1 - half
                        if hidden[k] < weight:
                            at = pattern[phase, k]
                            if wp.mesh_query_ray_anyhit(mesh, start, ahead + at[0] * right + at[1] * up, reach):
                                hidden[k] = weight
        if half == 0:
            # Every second ring says the same: so do the others, but for the last sliver of a penumbra.
            one = hidden[1]
            if hidden[3] == one and hidden[5] == one and hidden[7] == one:
                return one
    total = float(0.0)
    for k in range(SAMPLES):
        total += hidden[k]
    return total / float(SAMPLES)


@wp.kernel(enable_backward=False)
def block_kernel(
    # in
    placed: Placed,
    source: SourceDisc,
    listed: wp.array4d(dtype=wp.uint32),
    smooth: wp.array3d(dtype=wp.uint8),
    points: wp.array3d(dtype=wp.vec3),
    normals: wp.array3d(dtype=wp.vec3),
    pattern: wp.array2d(dtype=wp.vec2),
    start_m: float,
    step: int,
    alike: float,
    # out
    blocked_out: wp.array3d(dtype=wp.float32),
) -> None:
    """One thread a tile's row of receivers: every ``step``-th of every ``step``-th row.

    With ``alike`` >= 0 those twice as far apart are known: the others take their mean where they differ by no more than that.
    """
    n, row, tx = wp.tid()
    r = row * step
    m = wp.min(n, points.shape[0] - 1)
    bottom = points.shape[1] - 1
    right = points.shape[2] - 1
    empty = no_bits(listed, n, r // TILE, tx)
    c = int(tx * TILE)
    while c < wp.min(right + 1, (tx + 1) * TILE):
        if empty:
            blocked_out[n, r, c] = 0.0
        elif alike < 0.0 or (r & step) != 0 or (c & step) != 0:
            share = float(0.0)
            normal = normals[m, r, c]
            if valid(normal):
                must = bool(True)
                if alike >= 0.0 and (step == 1 or smooth[n, r // TILE, tx] != wp.uint8(0)):
                    r0 = r - (r & step)
                    c0 = c - (c & step)
                    r1 = r0 + 2 * (r & step)
                    c1 = c0 + 2 * (c & step)
                    if r1 <= bottom and c1 <= right:
                        known = valid(normals[m, r0, c0]) and valid(normals[m, r1, c1])
                        if known and valid(normals[m, r0, c1]) and valid(normals[m, r1, c0]):
                            around = wp.vec4(
                                blocked_out[n, r0, c0],
                                blocked_out[n, r0, c1],
                                blocked_out[n, r1, c0],
                                blocked_out[n, r1, c1],
                            )
                            must = wp.max(around) - wp.min(around) > alike
                            share = 0.25 * (around[0] + around[1] + around[2] + around[3])
                if must:
                    point = points[m, r, c] + start_m * normal
                    share = cast_rays(placed, source, listed, n, r, c, point, normal, pattern)
            blocked_out[n, r, c] = share
        c += step


@wp.kernel(enable_backward=False)
def smooth_wide_kernel(
    # in
    listed: wp.array4d(dtype=wp.uint32),
    points: wp.array3d(dtype=wp.vec3),
    normals: wp.array3d(dtype=wp.vec3),
    blocked: wp.array3d(dtype=wp.float32),
    # out
    wide_out: wp.array3d(dtype=wp.float32),
) -> None:
    """One thread a tile's row of every second receiver of every second row: the mean over the square of the pattern among these, -1 where shares change fast."""
    n, row, tx = wp.tid()
    m = wp.min(n, points.shape[0] - 1)
    r = 2 * row
    bottom = points.shape[1] - 1
    right = points.shape[2] - 1
    empty = no_bits(listed, n, r // TILE, tx)
    for column in range(tx * TILE // 2, wp.min(wide_out.shape[2], (tx + 1) * TILE // 2)):
        value = float(0.0)
        if not empty:
            c = 2 * column
            normal = normals[m, r, c]
            value = -1.0
            if valid(normal):
                p = points[m, r, c]
                low = float(2.0)
                high = float(-1.0)
                total = float(0.0)
                weights = float(0.0)
                for i in range(-2, 3):
                    for j in range(-2, 3):
                        y = r + 2 * i
                        x = c + 2 * j
                        if y >= 0 and y <= bottom and x >= 0 and x <= right:
                            other = normals[m, y, x]
                            if valid(other) and same_surface(p, normal, points[m, y, x], other):
                                share = blocked[n, y, x]
                                weight = wp.where(wp.abs(i) == 2, 0.5, 1.0) * wp.where(wp.abs(j) == 2, 0.5, 1.0)
                                total += weight * share
                                weights += weight
                                low = wp.min(low, share)
                                high = wp.max(high, share)
                if high - low <= STEEP and weights > 0.0:
                    value = total / weights
        wide_out[n, row, column] = value


@wp.kernel(enable_backward=False)
def smooth_kernel(
    # in
    listed: wp.array4d(dtype=wp.uint32),
    points: wp.array3d(dtype=wp.vec3),
    normals: wp.array3d(dtype=wp.vec3),
    blocked: wp.array3d(dtype=wp.float32),
    wide: wp.array3d(dtype=wp.float32),
    # out
    blocked_out: wp.array3d(dtype=wp.float32),
) -> None:
    """One thread a tile's row of receivers: in a wide penumbra between the means of ``smooth_wide_kernel``, in a narrow one the mean of the nearest, elsewhere what it is."""
    n, r, tx = wp.tid()
    m = wp.min(n, points.shape[0] - 1)
    bottom = points.shape[1] - 1
    right = points.shape[2] - 1
    empty = no_bits(listed, n, r // TILE, tx)
    y0 = r >> 1
    y1 = wp.min(y0 + (r & 1), wide.shape[1] - 1)
    for c in range(tx * TILE, wp.min(right + 1, (tx + 1) * TILE)):
        share = float(0.0)
        if not empty:
            share = blocked[n, r, c]
            near = wp.vec4(
                blocked[n, wp.max(r - 1, 0), c],
                blocked[n, wp.min(r + 1, bottom), c],
                blocked[n, r, wp.max(c - 1, 0)],
                blocked[n, r, wp.min(c + 1, right)],
            )
            low = wp.min(near)
            high = wp.max(near)
            x0 = c >> 1
            x1 = wp.min(x0 + (c & 1), wide.shape[2] - 1)
            around = wp.vec4(wide[n, y0, x0], wide[n, y0, x1], wide[n, y1, x0], wide[n, y1, x1])
            on_surface = valid(normals[m, r, c])
            soft = (share > 0.0 and share < 1.0) or (low > 0.0 and low < 1.0) or (high > 0.0 and high < 1.0)
            if on_surface and wp.min(around) >= 0.0 and wp.max(around) - wp.min(around) <= ALIKE:
                share = 0.25 * (around[0] + around[1] + around[2] + around[3])
            elif on_surface and soft:
                reach = wp.where(high - low > 0.5, 1, 2)
                p = points[m, r, c]
                normal = normals[m, r, c]
                total = float(0.0)
                weights = float(0.0)
                for y in range(wp.max(r - reach, 0), wp.min(r + reach, bottom) + 1):
                    for x in range(wp.max(c - reach, 0), wp.min(c + reach, right) + 1):
                        other = normals[m, y, x]
                        if (y == r and x == c) or (valid(other) and same_surface(p, normal, points[m, y, x], other)):
                            weight = wp.where(wp.abs(y - r) == reach, 0.5, 1.0) * wp.where(
                                wp.abs(x - c) == reach, 0.5, 1.0
                            )
                            total += weight * blocked[n, y, x]
                            weights += weight
                share = total / weights
        blocked_out[n, r, c] = share


def cast_shadows(
    casters: Casters,
    T_world_parts: np.ndarray,
    weight: np.ndarray,
    receivers_w: Any,
    normals_w: Any,
    light: Light,
    start_m: float = START_M,
    own: bool = False,
    strength: float = STRENGTH,
) -> tuple[Any, Any]:
    """What moving parts take from receivers: the hidden share of the source's disc, and of the light from everywhere else.

    Both are (N, R, C) float32 Warp arrays. A source behind a receiver's surface is not hidden by anything. A part sends light
    of its own instead of what it hides, so a bright part hides less, and the second share may be a little below zero.

    Args:
        casters: The parts.
        T_world_parts: Pose of every part in every frame, (N, P, 4, 4).
        weight: How much each part counts in each frame, (N, P) 0..1.
        receivers_w: Points (R, C, 3), the same in all frames, or (N, R, C, 3) [m].
        normals_w: Their unit normals, of the same shape; zero where there is no surface.
        light: What shines.
        start_m: How far off its surface a ray starts [m].
        own: The receivers are on the parts themselves, see ``occlude_kernel``.
        strength: What the hidden share of the light from everywhere is multiplied with.

    Raises:
        ValueError: Shapes that do not belong together.
    """
    count = len(T_world_parts)
    if T_world_parts.shape != (count, casters.parts, 4, 4) or weight.shape != (count, casters.parts):
        raise ValueError(
            f"Expected poses (N, {casters.parts}, 4, 4) and weights (N, {casters.parts}), got {T_world_parts.shape} and {weight.shape}."
        )
    with wp.ScopedDevice(casters.device) as active:
        points, normals = _receivers(receivers_w), _receivers(normals_w)
        if points.shape != normals.shape or points.shape[0] not in (1, count):
            raise ValueError(
                f"Expected as many points as normals, of 1 or {count} frames, got {points.shape} and {normals.shape}."
            )
        rows, columns = points.shape[1:]
        placed, source = place_casters(casters, T_world_parts, weight), place_source(light)
        tiles = (-(-rows // TILE), -(-columns // TILE))
        ball = wp.empty((points.shape[0], *tiles), dtype=wp.vec4)
        wp.launch(bound_tiles_kernel, ball.shape, inputs=[points, normals], outputs=[ball])
        words = (-(-len(casters.pieces_p) // 32), -(-casters.parts // 32))
        lists = [wp.empty((count, *tiles, w), dtype=wp.uint32) for w in words]
        shines = int(np.max(light.irradiance) > 0)
        smooth = wp.empty((count, *tiles), dtype=wp.uint8)
        given = [placed, source, shines, ball, PENUMBRA]
        wp.launch(list_parts_kernel, (count, *tiles), inputs=given, outputs=[*lists, smooth])
        raw, blocked, occluded = (wp.empty((count, rows, columns), dtype=wp.float32) for _ in range(3))
        given = [placed, source, lists[0], smooth, points, normals, _pattern(casters.device), start_m]
        runs = (count, rows, tiles[1])
        for step, alike in ((4, -1.0), (2, ALIKE), (1, ALIKE)):
            dim = (count, -(-rows // step), tiles[1])
            wp.launch(block_kernel, dim, inputs=[*given, step, alike], outputs=[raw])
        wide = wp.empty((count, -(-rows // 2), -(-columns // 2)), dtype=wp.float32)
        given = [lists[0], points, normals, raw]
        wp.launch(smooth_wide_kernel, (count, wide.shape[1], tiles[1]), inputs=given, outputs=[wide])
        wp.launch(smooth_kernel, runs, inputs=[*given, wide], outputs=[blocked])
        stride = 2 if columns <= FINE_COLUMNS else 4
        coarse = wp.empty((count, -(-rows // stride), -(-columns // stride)), dtype=wp.float32)
        coefficients, radiance = luminance_table(light)
        given = [placed, lists[1], points, normals, coefficients, source, radiance, strength, int(own), stride]
        for step, alike in ((2, -1.0), (1, EVEN)):
            whole = GPU_SPAN if active.is_cuda else coarse.shape[2]
            dim = (count, -(-coarse.shape[1] // step), -(-coarse.shape[2] // whole))
            wp.launch(occlude_kernel, dim, inputs=[*given, step, alike, whole], outputs=[coarse])
        wp.launch(spread_kernel, runs, inputs=[lists[1], points, normals, coarse, stride], outputs=[occluded])
    return blocked, occluded


def _receivers(value: Any) -> Any:
    """Points or normals as a (M, R, C) Warp array of vectors."""
    if isinstance(value, wp.array):
        return value
    array = np.ascontiguousarray(value, dtype=np.float32)
    return wp.array(array[None] if array.ndim == 3 else array, dtype=wp.vec3)


@cache
def _pattern(device: str) -> Any:
    """Points of the unit disc, (16, 8): for each place of the 4 x 4 pattern eight, one in each of eight rings of equal area.

    Over the whole pattern every ring is divided evenly in radius and angle (a lattice), and neighbours are far apart in it.
    """
    # Source: Bayer (1973), its digits turned round: the receivers looked at first are far apart in it too, the others fill in.
    bayer = np.array([0, 8, 2, 10, 12, 4, 14, 6, 3, 11, 1, 9, 15, 7, 13, 5])
    order = (bayer % 4 * 4 + bayer // 4 + 2) % 16
    ring = np.arange(8)
    radius = np.sqrt((ring + (order[:, None] + 0.5) / 16.0) / 8.0)
    angle = 2 * np.pi * (ring * 0.61803399 + (order[:, None] * 5 % 16) / 16.0)
    points = np.stack([radius * np.cos(angle), radius * np.sin(angle)], -1).astype(np.float32)
    return wp.array(points, dtype=wp.vec2, device=device)
