"""Light from everywhere that parts hide: the form factors of spheres that stand for them, weighed with the light that comes from there."""

# Warp reads these annotations as types of its own; a type checker cannot.
# pyright: reportInvalidTypeForm=false, reportOperatorIssue=false, reportArgumentType=false, reportCallIssue=false
# pyright: reportAssignmentType=false, reportIndexIssue=false, reportGeneralTypeIssues=false, reportReturnType=false
# ruff: noqa: UP018 (a bare literal would be a constant to Warp)

from __future__ import annotations

from typing import Any

import numpy as np
import warp as wp

from phototwin.kernels.placed import TILE, Placed, SourceDisc, lowest, no_bits, same_surface, to_source, valid
from phototwin.light import SH_COSINE, Light

LEAST_OCCLUSION = wp.constant(-0.3)
"""A bright part may give more light than it hides, up to this share."""
WHOLE = wp.constant(2.5)
"""From this many times its bounding radius on, one sphere stands for a part."""
LUMINANCE = np.array([0.2126, 0.7152, 0.0722])
"""Weights of linear RGB in luminance. Source: ITU-R BT.709."""


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


@wp.func
def hidden_share(
    placed: Placed,
    listed: wp.array4d(dtype=wp.uint32),
    n: int,
    tile: wp.vec2i,
    point: wp.vec3,
    normal: wp.vec3,
    coefficients: wp.array2d(dtype=wp.float32),
    source: SourceDisc,
    source_radiance: float,
    strength: float,
    own: int,
) -> float:
    """Share of the light from everywhere that the parts' spheres hide from a receiver."""
    share = float(0.0)
    line = to_source(source, point)
    lost = float(0.0)
    factors = float(0.0)
    open = float(1.0)
    for word in range(listed.shape[3]):
        bits = listed[n, tile[0], tile[1], word]
        while bits != wp.uint32(0):
            part = 32 * word + lowest(bits)
            bits = bits & (bits - wp.uint32(1))
            first = placed.sphere_first[part]
            last = placed.sphere_first[part + 1] - 1
            bound = placed.bound_w[n, part]
            if wp.length_sq(wp.vec3(bound[0], bound[1], bound[2]) - point) > WHOLE * WHOLE * bound[3] * bound[3]:
                first = last
                last = last + 1
            for s in range(first, last):
                sphere = placed.spheres_w[n, s]
                away = wp.vec3(sphere[0], sphere[1], sphere[2]) - point
                above = wp.dot(away, normal)
                if above > -sphere[3]:
                    far = wp.max(wp.length(away), 1.0e-6)
                    factor = placed.weight[n, part] * sphere_factor(above / far, far, sphere[3])
                    if own == 1:
                        factor *= wp.clamp(2.0 * far / sphere[3] - 2.2, 0.0, 1.0)
                    if factor > 0.0:
                        d = away / far
                        facing = wp.max(-(d[0] * line[0] + d[1] * line[1] + d[2] * line[2]), 0.0)
                        given = placed.albedo[part] * source_radiance * facing
                        lost += factor * (sky(coefficients, placed.albedo[part], d) - given)
                        factors += factor
                        open *= 1.0 - wp.min(factor, 1.0)
    if factors > 0.0:
        # Spheres overlap seen from the receiver: together they hide what is left of each other's share.
        share = strength * lost / factors * (1.0 - open) * wp.pi / wp.max(sky_irradiance(coefficients, normal), 1.0e-6)
        share = wp.clamp(share, LEAST_OCCLUSION, 1.0)
    return share


@wp.kernel(enable_backward=False)
def occlude_kernel(
    # in
    placed: Placed,
    listed: wp.array4d(dtype=wp.uint32),
    points: wp.array3d(dtype=wp.vec3),
    normals: wp.array3d(dtype=wp.vec3),
    coefficients: wp.array2d(dtype=wp.float32),
    source: SourceDisc,
    source_radiance: float,
    strength: float,
    own: int,
    stride: int,
    step: int,
    alike: float,
    span: int,
    # out
    occluded_out: wp.array3d(dtype=wp.float32),
) -> None:
    """One thread a run of samples, every ``step``-th of every ``step``-th row: the hidden share at every ``stride``-th receiver.

    With ``alike`` >= 0 the samples twice as far apart are known: the others take their mean where they differ by no more than that.
    With ``own`` the receivers are on parts: spheres that hold or touch a receiver are those of its own part and do not count.
    """
    n, row, block = wp.tid()
    y = row * step
    r = stride * y
    m = wp.min(n, points.shape[0] - 1)
    bottom = occluded_out.shape[1] - 1
    right = occluded_out.shape[2] - 1
    x = int(block * span)
    while x < wp.min(right + 1, (block + 1) * span):
        if alike < 0.0 or (y & step) != 0 or (x & step) != 0:
            c = stride * x
            share = float(0.0)
            normal = normals[m, r, c]
            if valid(normal):
                must = bool(True)
                p = points[m, r, c]
                y0 = y - (y & step)
                x0 = x - (x & step)
                y1 = y0 + 2 * (y & step)
                x1 = x0 + 2 * (x & step)
                if alike >= 0.0 and y1 <= bottom and x1 <= right:
                    near = bool(True)
                    for k in range(4):
                        v = stride * wp.where(k < 2, y0, y1)
                        u = stride * wp.where((k & 1) == 0, x0, x1)
                        other = normals[m, v, u]
                        near = near and valid(other) and same_surface(p, normal, points[m, v, u], other)
                    if near:
                        around = wp.vec4(
                            occluded_out[n, y0, x0],
                            occluded_out[n, y0, x1],
                            occluded_out[n, y1, x0],
                            occluded_out[n, y1, x1],
                        )
                        must = wp.max(around) - wp.min(around) > alike
                        share = 0.25 * (around[0] + around[1] + around[2] + around[3])
                if must:
                    tile = wp.vec2i(r // TILE, c // TILE)
                    share = hidden_share(
                        placed, listed, n, tile, p, normal, coefficients, source, source_radiance, strength, own
                    )
            occluded_out[n, y, x] = share
        x += step


@wp.kernel(enable_backward=False)
def spread_kernel(
    # in
    listed: wp.array4d(dtype=wp.uint32),
    points: wp.array3d(dtype=wp.vec3),
    normals: wp.array3d(dtype=wp.vec3),
    coarse: wp.array3d(dtype=wp.float32),
    stride: int,
    # out
    fine_out: wp.array3d(dtype=wp.float32),
) -> None:
    """One thread a tile's row of receivers: what lies between every ``stride``-th of them, from those on the same surface."""
    n, r, tx = wp.tid()
    m = wp.min(n, points.shape[0] - 1)
    empty = no_bits(listed, n, r // TILE, tx)
    top = r // stride
    down = float(r - top * stride) / float(stride)
    for c in range(tx * TILE, wp.min(points.shape[2], (tx + 1) * TILE)):
        value = float(0.0)
        if not empty:
            normal = normals[m, r, c]
            if valid(normal):
                left = c // stride
                right = float(c - left * stride) / float(stride)
                y1 = wp.min(top + 1, coarse.shape[1] - 1)
                x1 = wp.min(left + 1, coarse.shape[2] - 1)
                around = wp.vec4(coarse[n, top, left], coarse[n, top, x1], coarse[n, y1, left], coarse[n, y1, x1])
                share = wp.vec4((1.0 - down) * (1.0 - right), (1.0 - down) * right, down * (1.0 - right), down * right)
                if wp.max(around) - wp.min(around) > 0.01:
                    # Where it matters, what lies on another surface counts only where nothing else is.
                    p = points[m, r, c]
                    total = float(0.0)
                    for k in range(4):
                        v = stride * wp.where(k < 2, top, y1)
                        u = stride * wp.where((k & 1) == 0, left, x1)
                        if not same_surface(p, normal, points[m, v, u], normals[m, v, u]):
                            share[k] = 1.0e-3 * share[k]
                        total += share[k]
                    share = share / total
                value = wp.dot(share, around)
        fine_out[n, r, c] = value


def luminance_table(light: Light) -> tuple[Any, float]:
    """Luminance of the light from everywhere, what ``sky`` and ``sky_irradiance`` read, and the source's irradiance / pi."""
    scale = np.array([0.282095, 0.488603, 0.488603, 0.488603, 1.092548, 1.092548, 0.315392, 1.092548, 0.546274])
    radiance = scale * (light.sh @ LUMINANCE)
    table = np.stack([radiance, radiance * SH_COSINE]).astype(np.float32)
    return wp.array(table, dtype=wp.float32), float(light.irradiance @ LUMINANCE / np.pi)
