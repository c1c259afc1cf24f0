"""Shadows of parts that move: how much of the dominant source, and of the light from everywhere else, they hide.

The source is a disc: rays to points of it are cast against the parts' meshes, eight per receiver, and the points differ between
neighbours in a pattern of 4 x 4 that a small filter of that size takes out again without a trace. Rays are cast for
every second receiver first; where those around a receiver agree, it agrees. Light from everywhere is hidden by the spheres
that stand for the parts, whose form factors have a closed form.
"""

# Warp reads these annotations as types of its own; a type checker cannot.
# pyright: reportInvalidTypeForm=false, reportOperatorIssue=false, reportArgumentType=false, reportCallIssue=false
# pyright: reportAssignmentType=false, reportIndexIssue=false, reportGeneralTypeIssues=false, reportReturnType=false
# ruff: noqa: UP018, RUF046, SIM102, SIM110 (a bare literal would be a constant to Warp, which knows no generators)

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import warp as wp

from phototwin.frames import invert
from phototwin.kernels.casters import Casters
from phototwin.kernels.rasterize import GPU_SPAN
from phototwin.light import SH_COSINE, Light

SAMPLES = wp.constant(8)
"""Rays per receiver."""
PATTERN = wp.constant(4)
"""Side of the square of receivers that look at different points of the source."""
TILE = wp.constant(8)
"""Side of the square of receivers whose parts are listed together."""
FAR_M = wp.constant(1.0e3)
FAINT_FACTOR = wp.constant(0.004)
"""A part whose bounding sphere hides less than this of the sky is left out."""
LEAST_OCCLUSION = wp.constant(-0.3)
"""A bright part may give more light than it hides, up to this share."""
LUMINANCE = np.array([0.2126, 0.7152, 0.0722])
"""Weights of linear RGB in luminance. Source: ITU-R BT.709."""
START_M = 0.002
"""Rays start this far off the receiver's surface: what is known of a surface is not exact [m]."""

vec8 = wp.types.vector(length=8, dtype=wp.float32)


@wp.struct
class SourceDisc:
    """The dominant source, as rays look for it."""

    towards: wp.vec3
    tangent: wp.float32
    """Of its angular radius."""
    place: wp.vec3
    radius: wp.float32
    """Radius at ``place``; 0 where the source is infinitely far."""
    distance: wp.float32
    """From the place where the light was measured; 0 where the source is infinitely far."""


@wp.struct
class Moving:
    """Parts as they stand in every frame."""

    meshes: wp.array(dtype=wp.uint64)
    T_part_world: wp.array2d(dtype=wp.mat44)
    bound_w: wp.array2d(dtype=wp.vec4)
    weight: wp.array2d(dtype=wp.float32)
    sphere_first: wp.array(dtype=wp.int32)
    spheres_w: wp.array2d(dtype=wp.vec4)
    albedo: wp.array(dtype=wp.float32)


@wp.func
def to_source(source: SourceDisc, point: wp.vec3) -> wp.vec4:
    """Unit vector from a point to the middle of the source, and the tangent of the source's angular radius there."""
    if source.distance == 0.0:
        return wp.vec4(source.towards[0], source.towards[1], source.towards[2], source.tangent)
    away = source.place - point
    far = wp.max(wp.length(away), 1.0e-6)
    away = away / far
    return wp.vec4(away[0], away[1], away[2], source.radius / far)


@wp.func
def reach_to(source: SourceDisc, point: wp.vec3) -> float:
    """How far rays towards the source go [m]."""
    reach = float(FAR_M)
    if source.distance != 0.0:
        reach = wp.length(source.place - point)
    return reach


@wp.func
def may_block(bound: wp.vec4, point: wp.vec3, towards: wp.vec3, tangent: float, reach: float, slack: float) -> bool:
    """Whether a sphere may reach into the cone from a ball of radius ``slack`` around the point towards the source."""
    away = wp.vec3(bound[0], bound[1], bound[2]) - point
    radius = bound[3] + slack
    along = wp.dot(away, towards)
    if along < -radius or along > reach + radius:
        return False
    across = radius + wp.max(along + radius, 0.0) * tangent
    return wp.dot(away, away) - along * along <= across * across


@wp.func
def sphere_factor(cosine: float, distance: float, radius: float) -> float:
    """Form factor of a sphere at an angle to the normal, what is below the surface's horizon left out.

    Source: Hamilton and Morgan (1952), the sphere cut by the horizon; Nusselt's analogue where it is whole.
    """
    h = wp.max(distance / radius, 1.001)
    inverse = 1.0 / (h * h)
    c = wp.clamp(cosine, -1.0, 1.0)
    if c * h >= 1.0:
        return c * inverse
    if c * h <= -1.0:
        return 0.0
    sine = wp.sqrt(wp.max(1.0 - c * c, 1.0e-8))
    rim = wp.sqrt(h * h - 1.0)
    cut = wp.sqrt(wp.max(1.0 - h * h * c * c, 0.0))
    seen = c * wp.acos(wp.clamp(-rim * c / sine, -1.0, 1.0)) - rim * cut
    return wp.max((seen * inverse + wp.atan2(cut, rim)) / wp.pi, 0.0)


@wp.func
def valid(normal: wp.vec3) -> bool:
    """Whether a receiver is on a surface."""
    return wp.dot(normal, normal) > 0.25


@wp.kernel(enable_backward=False)
def bound_tiles_kernel(
    # in
    points: wp.array3d(dtype=wp.vec3),
    normals: wp.array3d(dtype=wp.vec3),
    # out
    ball_out: wp.array3d(dtype=wp.vec4),
) -> None:
    """One thread a tile: a ball around its receivers; a negative radius where it has none."""
    m, ty, tx = wp.tid()
    low = wp.vec3(1.0e9, 1.0e9, 1.0e9)
    high = wp.vec3(-1.0e9, -1.0e9, -1.0e9)
    for r in range(ty * TILE, wp.min((ty + 1) * TILE, points.shape[1])):
        for c in range(tx * TILE, wp.min((tx + 1) * TILE, points.shape[2])):
            if valid(normals[m, r, c]):
                low = wp.min(low, points[m, r, c])
                high = wp.max(high, points[m, r, c])
    ball = wp.vec4(0.0, 0.0, 0.0, -1.0)
    if low[0] <= high[0]:
        middle = 0.5 * (low + high)
        ball = wp.vec4(middle[0], middle[1], middle[2], 0.5 * wp.length(high - low))
    ball_out[m, ty, tx] = ball


@wp.kernel(enable_backward=False)
def list_parts_kernel(
    # in
    moving: Moving,
    source: SourceDisc,
    shines: int,
    ball: wp.array3d(dtype=wp.vec4),
    # out
    blockers_out: wp.array4d(dtype=wp.uint32),
    occluders_out: wp.array4d(dtype=wp.uint32),
) -> None:
    """One thread a tile of a frame: bits of the parts that may hide the source from it, and of those that hide some of the sky."""
    n, ty, tx = wp.tid()
    around = ball[wp.min(n, ball.shape[0] - 1), ty, tx]
    middle = wp.vec3(around[0], around[1], around[2])
    line = to_source(source, middle)
    towards = wp.vec3(line[0], line[1], line[2])
    reach = reach_to(source, middle) + around[3]
    spread = float(line[3])
    if source.distance != 0.0:
        spread += around[3] / reach
    for word in range(blockers_out.shape[3]):
        blocking = wp.uint32(0)
        occluding = wp.uint32(0)
        if around[3] >= 0.0:
            for bit in range(wp.min(32, moving.meshes.shape[0] - 32 * word)):
                part = 32 * word + bit
                if moving.weight[n, part] > 0.0:
                    bound = moving.bound_w[n, part]
                    if shines == 1 and may_block(bound, middle, towards, spread, reach, around[3]):
                        blocking = blocking | (wp.uint32(1) << wp.uint32(bit))
                    apart = wp.length(wp.vec3(bound[0], bound[1], bound[2]) - middle) - around[3]
                    if apart <= bound[3] or bound[3] * bound[3] > FAINT_FACTOR * apart * apart:
                        occluding = occluding | (wp.uint32(1) << wp.uint32(bit))
        blockers_out[n, ty, tx, word] = blocking
        occluders_out[n, ty, tx, word] = occluding


@wp.func
def cast_rays(
    moving: Moving,
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
    hidden = vec8()
    for word in range(listed.shape[3]):
        bits = listed[n, r // TILE, c // TILE, word]
        part = 32 * word
        while bits != wp.uint32(0):
            if (bits & wp.uint32(1)) != wp.uint32(0):
                if may_block(moving.bound_w[n, part], point, towards, line[3], reach, 0.0):
                    weight = moving.weight[n, part]
                    T = moving.T_part_world[n, part]
                    start = wp.transform_point(T, point)
                    ahead = wp.transform_vector(T, towards)
                    right = wp.transform_vector(T, across)
                    up = wp.transform_vector(T, upward)
                    mesh = moving.meshes[part]
                    for k in range(SAMPLES):
                        if hidden[k] < weight:
                            at = pattern[phase, k]
                            if wp.mesh_query_ray_anyhit(mesh, start, ahead + at[0] * right + at[1] * up, reach):
                                hidden[k] = weight
            bits = bits >> wp.uint32(1)
            part += 1
    total = float(0.0)
    for k in range(SAMPLES):
        total += hidden[k]
    return total / float(SAMPLES)


@wp.func
def no_part(listed: wp.array4d(dtype=wp.uint32), n: int, ty: int, tx: int) -> bool:
    """Whether a tile's list is empty."""
    for word in range(listed.shape[3]):
        if listed[n, ty, tx, word] != wp.uint32(0):
            return False
    return True


@wp.kernel(enable_backward=False)
def block_kernel(
    # in
    moving: Moving,
    source: SourceDisc,
    listed: wp.array4d(dtype=wp.uint32),
    points: wp.array3d(dtype=wp.vec3),
    normals: wp.array3d(dtype=wp.vec3),
    pattern: wp.array2d(dtype=wp.vec2),
    start_m: float,
    refine: int,
    span: int,
    # out
    blocked_out: wp.array3d(dtype=wp.float32),
) -> None:
    """One thread a run of receivers: every second of every second row, or with ``refine`` the others."""
    n, row, block = wp.tid()
    r = row
    if refine == 0:
        r = 2 * row
    m = wp.min(n, points.shape[0] - 1)
    width = points.shape[2]
    first = int(block * span)
    step = int(1)
    if refine == 0:
        first = first + (first & 1)
        step = 2
    c = int(first)
    while c < wp.min(width, (block + 1) * span):
        if refine == 0 or (r & 1) == 1 or (c & 1) == 1:
            share = float(0.0)
            normal = normals[m, r, c]
            if valid(normal) and not no_part(listed, n, r // TILE, c // TILE):
                must = bool(refine == 0)
                if refine == 1:
                    r0 = r & ~1
                    c0 = c & ~1
                    r1 = wp.where((r & 1) == 1, r0 + 2, r0)
                    c1 = wp.where((c & 1) == 1, c0 + 2, c0)
                    inside = r1 < points.shape[1] and c1 < width
                    if inside:
                        inside = valid(normals[m, r0, c0]) and valid(normals[m, r1, c1])
                        inside = inside and valid(normals[m, r0, c1]) and valid(normals[m, r1, c0])
                    if not inside:
                        must = True
                    else:
                        share = blocked_out[n, r0, c0]
                        other = blocked_out[n, r1, c1]
                        # Equal shares of a penumbra are a coincidence.
                        must = share != other or (share > 0.0 and share < 1.0)
                        must = must or blocked_out[n, r0, c1] != share or blocked_out[n, r1, c0] != share
                if must:
                    point = points[m, r, c] + start_m * normal
                    share = cast_rays(moving, source, listed, n, r, c, point, normal, pattern)
            blocked_out[n, r, c] = share
        c += step


@wp.func
def same_surface(p: wp.vec3, n: wp.vec3, q: wp.vec3, m: wp.vec3) -> bool:
    """Whether a receiver's neighbour lies on its surface: normals alike, and neither above the other's plane by more than a fifth of their distance."""
    away = q - p
    return wp.dot(n, m) > 0.9 and wp.abs(wp.dot(away, n)) < 0.2 * wp.length(away) + 1.0e-4


@wp.kernel(enable_backward=False)
def smooth_kernel(
    # in
    listed: wp.array4d(dtype=wp.uint32),
    points: wp.array3d(dtype=wp.vec3),
    normals: wp.array3d(dtype=wp.vec3),
    blocked: wp.array3d(dtype=wp.float32),
    span: int,
    # out
    blocked_out: wp.array3d(dtype=wp.float32),
) -> None:
    """One thread a run of receivers: in a penumbra the mean over the square of the pattern, elsewhere what it is.

    A penumbra narrower than that square is averaged over its nearest neighbours only.
    """
    n, r, block = wp.tid()
    m = wp.min(n, points.shape[0] - 1)
    bottom = points.shape[1] - 1
    right = points.shape[2] - 1
    for c in range(block * span, wp.min(points.shape[2], (block + 1) * span)):
        share = float(0.0)
        if not no_part(listed, n, r // TILE, c // TILE):
            share = blocked[n, r, c]
            near = wp.vec4(
                blocked[n, wp.max(r - 1, 0), c],
                blocked[n, wp.min(r + 1, bottom), c],
                blocked[n, r, wp.max(c - 1, 0)],
                blocked[n, r, wp.min(c + 1, right)],
            )
            low = wp.min(near)
            high = wp.max(near)
            soft = (share > 0.0 and share < 1.0) or (low > 0.0 and low < 1.0) or (high > 0.0 and high < 1.0)
            if soft and valid(normals[m, r, c]):
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


@wp.func
def sky(coefficients: wp.array2d(dtype=wp.float32), part_albedo: float, d: wp.vec3) -> float:
    """Radiance that comes from direction ``d`` less what a part there sends instead: its albedo times the light it gets from this side.

    A part that faces the receiver has the normal -d, which turns the sign of the odd degree.
    """
    one = coefficients[0, 1] * d[1] + coefficients[0, 2] * d[2] + coefficients[0, 3] * d[0]
    two = coefficients[0, 4] * d[0] * d[1] + coefficients[0, 5] * d[1] * d[2] + coefficients[0, 7] * d[0] * d[2]
    two += coefficients[0, 6] * (3.0 * d[2] * d[2] - 1.0) + coefficients[0, 8] * (d[0] * d[0] - d[1] * d[1])
    zero = coefficients[0, 0] * (1.0 - part_albedo)
    return zero + one * (1.0 + part_albedo * (2.0 / 3.0)) + two * (1.0 - 0.25 * part_albedo)


@wp.func
def sky_irradiance(coefficients: wp.array2d(dtype=wp.float32), d: wp.vec3) -> float:
    """Irradiance of the light from everywhere on a surface with normal ``d``."""
    total = coefficients[1, 0] + coefficients[1, 1] * d[1] + coefficients[1, 2] * d[2] + coefficients[1, 3] * d[0]
    total += coefficients[1, 4] * d[0] * d[1] + coefficients[1, 5] * d[1] * d[2] + coefficients[1, 7] * d[0] * d[2]
    total += coefficients[1, 6] * (3.0 * d[2] * d[2] - 1.0) + coefficients[1, 8] * (d[0] * d[0] - d[1] * d[1])
    return total


@wp.kernel(enable_backward=False)
def occlude_kernel(
    # in
    moving: Moving,
    listed: wp.array4d(dtype=wp.uint32),
    points: wp.array3d(dtype=wp.vec3),
    normals: wp.array3d(dtype=wp.vec3),
    coefficients: wp.array2d(dtype=wp.float32),
    source: SourceDisc,
    source_radiance: float,
    own: int,
    span: int,
    # out
    occluded_out: wp.array3d(dtype=wp.float32),
) -> None:
    """One thread a run of every second receiver of every second row: share of the light from everywhere that the parts' spheres hide.

    With ``own`` the receivers are on parts: spheres that hold or touch a receiver are those of its own part and do not count.
    """
    n, row, block = wp.tid()
    r = 2 * row
    m = wp.min(n, points.shape[0] - 1)
    for column in range(block * span, wp.min(occluded_out.shape[2], (block + 1) * span)):
        c = 2 * column
        share = float(0.0)
        normal = normals[m, r, c]
        if valid(normal) and not no_part(listed, n, r // TILE, c // TILE):
            point = points[m, r, c]
            line = to_source(source, point)
            lost = float(0.0)
            factors = float(0.0)
            open = float(1.0)
            for word in range(listed.shape[3]):
                bits = listed[n, r // TILE, c // TILE, word]
                part = 32 * word
                while bits != wp.uint32(0):
                    if (bits & wp.uint32(1)) != wp.uint32(0):
                        for s in range(moving.sphere_first[part], moving.sphere_first[part + 1]):
                            sphere = moving.spheres_w[n, s]
                            away = wp.vec3(sphere[0], sphere[1], sphere[2]) - point
                            above = wp.dot(away, normal)
                            if above > -sphere[3]:
                                far = wp.max(wp.length(away), 1.0e-6)
                                factor = moving.weight[n, part] * sphere_factor(above / far, far, sphere[3])
                                if own == 1:
                                    factor *= wp.clamp(2.0 * far / sphere[3] - 2.2, 0.0, 1.0)
                                if factor > 0.0:
                                    d = away / far
                                    facing = wp.max(-(d[0] * line[0] + d[1] * line[1] + d[2] * line[2]), 0.0)
                                    given = moving.albedo[part] * source_radiance * facing
                                    lost += factor * (sky(coefficients, moving.albedo[part], d) - given)
                                    factors += factor
                                    open *= 1.0 - wp.min(factor, 1.0)
                    bits = bits >> wp.uint32(1)
                    part += 1
            if factors > 0.0:
                # Spheres overlap seen from the receiver: together they hide what is left of each other's share.
                share = lost / factors * (1.0 - open) * wp.pi / wp.max(sky_irradiance(coefficients, normal), 1.0e-6)
                share = wp.clamp(share, LEAST_OCCLUSION, 1.0)
        occluded_out[n, row, column] = share


@wp.kernel(enable_backward=False)
def spread_kernel(
    # in
    listed: wp.array4d(dtype=wp.uint32),
    points: wp.array3d(dtype=wp.vec3),
    normals: wp.array3d(dtype=wp.vec3),
    coarse: wp.array3d(dtype=wp.float32),
    span: int,
    # out
    fine_out: wp.array3d(dtype=wp.float32),
) -> None:
    """One thread a run of receivers: what lies between every second of every second row, taken from those on the same surface."""
    n, r, block = wp.tid()
    m = wp.min(n, points.shape[0] - 1)
    for c in range(block * span, wp.min(points.shape[2], (block + 1) * span)):
        value = float(0.0)
        normal = normals[m, r, c]
        if valid(normal) and not no_part(listed, n, r // TILE, c // TILE):
            p = points[m, r, c]
            total = float(0.0)
            weights = float(0.0)
            for dr in range(2):
                for dc in range(2):
                    y = wp.min((r >> 1) + dr * (r & 1), coarse.shape[1] - 1)
                    x = wp.min((c >> 1) + dc * (c & 1), coarse.shape[2] - 1)
                    other = normals[m, 2 * y, 2 * x]
                    if valid(other):
                        weight = wp.where(same_surface(p, normal, points[m, 2 * y, 2 * x], other), 1.0, 1.0e-3)
                        total += weight * coarse[n, y, x]
                        weights += weight
            if weights > 0.0:
                value = total / weights
        fine_out[n, r, c] = value


def cast_shadows(
    casters: Casters,
    T_world_parts: np.ndarray,
    weight: np.ndarray,
    receivers_w: Any,
    normals_w: Any,
    light: Light,
    start_m: float = START_M,
    own: bool = False,
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
        moving, source = _place(casters, T_world_parts, weight), _source(light)
        tiles = (-(-rows // TILE), -(-columns // TILE))
        ball = wp.empty((points.shape[0], *tiles), dtype=wp.vec4)
        wp.launch(bound_tiles_kernel, ball.shape, inputs=[points, normals], outputs=[ball])
        lists = [wp.empty((count, *tiles, -(-casters.parts // 32)), dtype=wp.uint32) for _ in range(2)]
        shines = int(np.max(light.irradiance) > 0)
        wp.launch(list_parts_kernel, (count, *tiles), inputs=[moving, source, shines, ball], outputs=lists)
        whole = GPU_SPAN if active.is_cuda else columns
        half = (-(-rows // 2), -(-columns // 2))
        raw, blocked, occluded = (wp.empty((count, rows, columns), dtype=wp.float32) for _ in range(3))
        coarse = wp.empty((count, *half), dtype=wp.float32)
        given = [moving, source, lists[0], points, normals, _pattern(casters.device), start_m]
        blocks = -(-columns // whole)
        wp.launch(block_kernel, (count, half[0], blocks), inputs=[*given, 0, whole], outputs=[raw])
        wp.launch(block_kernel, (count, rows, blocks), inputs=[*given, 1, whole], outputs=[raw])
        wp.launch(
            smooth_kernel, (count, rows, blocks), inputs=[lists[0], points, normals, raw, whole], outputs=[blocked]
        )
        coefficients, radiance = _luminance(light)
        given = [moving, lists[1], points, normals, coefficients, source, radiance, int(own), whole]
        wp.launch(occlude_kernel, (count, half[0], -(-half[1] // whole)), inputs=given, outputs=[coarse])
        wp.launch(
            spread_kernel, (count, rows, blocks), inputs=[lists[1], points, normals, coarse, whole], outputs=[occluded]
        )
    return blocked, occluded


def _receivers(value: Any) -> Any:
    """Points or normals as a (M, R, C) Warp array of vectors."""
    if isinstance(value, wp.array):
        return value
    array = np.ascontiguousarray(value, dtype=np.float32)
    return wp.array(array[None] if array.ndim == 3 else array, dtype=wp.vec3)


def _place(casters: Casters, T_world_parts: np.ndarray, weight: np.ndarray) -> Moving:
    """The parts' poses, bounds and spheres in every frame, on the device."""
    T = T_world_parts.astype(np.float64)
    owner = np.repeat(np.arange(casters.parts), np.diff(casters.sphere_first))
    moving = Moving()
    moving.meshes = casters.mesh_ids
    moving.T_part_world = wp.array(invert(T).astype(np.float32), dtype=wp.mat44)
    moving.bound_w = wp.array(_placed(T, casters.bound_p), dtype=wp.vec4)
    moving.weight = wp.array(weight.astype(np.float32), dtype=wp.float32)
    moving.sphere_first = wp.array(casters.sphere_first, dtype=wp.int32)
    moving.spheres_w = wp.array(_placed(T[:, owner], casters.spheres_p), dtype=wp.vec4)
    moving.albedo = wp.array(casters.albedo.astype(np.float32), dtype=wp.float32)
    return moving


def _placed(T: np.ndarray, balls: np.ndarray) -> np.ndarray:
    """Balls (B, 4) moved by transforms (N, B, 4, 4), (N, B, 4) float32."""
    centres = np.einsum("nbij,bj->nbi", T[..., :3, :3], balls[:, :3]) + T[..., :3, 3]
    return np.concatenate([centres, np.broadcast_to(balls[:, 3:], (*centres.shape[:2], 1))], -1).astype(np.float32)


def _source(light: Light) -> SourceDisc:
    source = SourceDisc()
    source.towards = wp.vec3(*(float(c) for c in light.direction_w))
    source.tangent = float(np.tan(light.half_angle_rad))
    finite = bool(np.isfinite(light.distance_m))
    far = float(light.distance_m) if finite else 0.0
    source.place = wp.vec3(*(float(c) for c in light.center_w + far * light.direction_w))
    source.radius, source.distance = far * source.tangent, far
    return source


def _luminance(light: Light) -> tuple[Any, float]:
    """Luminance of the light from everywhere: what the functions ``sky`` and ``sky_irradiance`` read, and the source's irradiance / pi."""
    scale = np.array([0.282095, 0.488603, 0.488603, 0.488603, 1.092548, 1.092548, 0.315392, 1.092548, 0.546274])
    radiance = scale * (light.sh @ LUMINANCE)
    table = np.stack([radiance, radiance * SH_COSINE]).astype(np.float32)
    return wp.array(table, dtype=wp.float32), float(light.irradiance @ LUMINANCE / np.pi)


@cache
def _pattern(device: str) -> Any:
    """Points of the unit disc, (16, 8): for each place of the 4 x 4 pattern eight, one in each of eight rings of equal area.

    Over the whole pattern every ring is divided evenly in radius and angle (a lattice), and neighbours are far apart in it.
    """
    # Source: Bayer (1973), from the last: receivers looked at first have the outermost points, so they miss no penumbra.
    order = 15 - np.array([0, 8, 2, 10, 12, 4, 14, 6, 3, 11, 1, 9, 15, 7, 13, 5])
    ring = np.arange(8)
    radius = np.sqrt((ring + (order[:, None] + 0.5) / 16.0) / 8.0)
    angle = 2 * np.pi * (ring * 0.61803399 + (order[:, None] * 5 % 16) / 16.0)
    points = np.stack([radius * np.cos(angle), radius * np.sin(angle)], -1).astype(np.float32)
    return wp.array(points, dtype=wp.vec2, device=device)
