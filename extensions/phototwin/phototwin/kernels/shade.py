"""Shade what a renderer saw of robot and objects by a photo's light: base colour, normals and depth to finished colour.

One thread an image row on the CPU, and only pixels where something is. Light from everywhere reaches a surface as nine
coefficients say, diffusely and as a blurred reflection; the dominant source adds a cosine and a highlight.
"""

# Warp reads these annotations as types of its own; a type checker cannot.
# pyright: reportInvalidTypeForm=false, reportOperatorIssue=false, reportArgumentType=false, reportCallIssue=false
# pyright: reportAssignmentType=false, reportIndexIssue=false, reportGeneralTypeIssues=false, reportReturnType=false

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import warp as wp

from phototwin.errors import InputError
from phototwin.kernels.rasterize import GPU_SPAN
from phototwin.kernels.srgb import encode3, to_warp, transfer_tables
from phototwin.light import SH_COSINE, Light

ROUGHNESS = 0.5
"""Of painted metal and satin plastic, where nothing is known."""
SPECULAR = 0.04
"""Reflectance of dielectrics seen straight on, where nothing is known; a refractive index of 1.5."""
SH_SCALE = np.array([0.282095, 0.488603, 0.488603, 0.488603, 1.092548, 1.092548, 0.315392, 1.092548, 0.546274])
"""Constants of the basis. Source: Ramamoorthi and Hanrahan (2001), equation 3."""
GRAZING = wp.constant(0.02)
"""Least cosine between a normal and the direction to the camera: what is seen faces the camera, whatever interpolated normals say."""
AGREE = wp.constant(0.8)
"""Cosine from which two normals belong to one surface."""
ODD = wp.constant(0.02)
"""By so much less does the normal of a sliver agree with its neighbours than they do with each other; on a smooth surface it lies between them."""
SAME_DEPTH = wp.constant(0.02)
"""Share of the depth by which neighbours of a sliver may lie before or behind it."""
TURNED = wp.constant(-0.3)
"""A normal that points this far away from the camera belongs to the other side of a thin wall."""


@wp.func
def harmonics(table: wp.array2d(dtype=wp.vec3), d: wp.vec3, one: float, two: float) -> wp.vec3:
    """Sum of the coefficients of ``_table`` in direction d, degrees 1 and 2 multiplied by ``one`` and ``two``."""
    linear = table[0, 1] * d[1] + table[0, 2] * d[2] + table[0, 3] * d[0]
    square = table[0, 4] * (d[0] * d[1]) + table[0, 5] * (d[1] * d[2]) + table[0, 7] * (d[0] * d[2])
    square += table[0, 6] * (3.0 * d[2] * d[2] - 1.0) + table[0, 8] * (d[0] * d[0] - d[1] * d[1])
    return wp.max(table[0, 0] + one * linear + two * square, wp.vec3(0.0, 0.0, 0.0))


@wp.func
def facing(normal: wp.vec3, view: wp.vec3) -> wp.vec3:
    """The unit normal turned until it faces the camera."""
    cosine = wp.dot(normal, view)
    if cosine >= GRAZING:
        return normal
    if cosine < TURNED:
        return -normal
    return wp.normalize(normal + (GRAZING - cosine) * view)


@wp.func
def glossy(specular: float) -> float:
    """1 from a reflectance of 2 % seen straight on; 0 for what reflects nothing there: it reflects nothing at grazing angles either.

    No real surface does that, but a thing whose highlights are in its texture must. Source: Karis (2013), less than 2 % is no material.
    """
    return wp.min(50.0 * specular, 1.0)


@wp.func
def calm(
    normals: wp.array2d(dtype=wp.vec3),
    depth_m: wp.array2d(dtype=wp.float32),
    ids: wp.array2d(dtype=wp.int32),
    row: int,
    x: int,
    height: int,
) -> wp.vec3:
    """The normal of a pixel, or the mean of two opposite neighbours that agree with each other and not with it.

    Such a pixel shows a sliver, a bevel or the ground of a groove, that is far smaller than the pixel: it must not glint for all of it.
    """
    normal = normals[row, x]
    y = row % height
    if x > 0 and x < ids.shape[1] - 1 and y > 0 and y < height - 1:
        z = depth_m[row, x]
        found = bool(False)  # noqa: UP018 (a literal would be a constant to Warp)
        for way in range(4):
            dr = wp.where(way == 0, 0, 1)
            dc = wp.where(way == 1, 0, wp.where(way == 3, -1, 1))
            one = normals[row + dr, x + dc]
            if not found and ids[row + dr, x + dc] > 0 and ids[row - dr, x - dc] > 0:
                other = normals[row - dr, x - dc]
                alike = wp.dot(one, other)
                odd = wp.max(wp.dot(normals[row, x], one), wp.dot(normals[row, x], other)) < alike - ODD
                near = wp.abs(depth_m[row + dr, x + dc] - z) < SAME_DEPTH * z
                near = near and wp.abs(depth_m[row - dr, x - dc] - z) < SAME_DEPTH * z
                if odd and near and alike > AGREE:
                    found = True
                    normal = wp.normalize(one + other)
    return normal


@wp.func
def mirror_share(roughness: float, specular: float, cosine: float) -> float:
    """Share of even light that a dielectric reflects without taking its colour. Source: Karis (2014), the fit of the split sum."""
    r0 = 1.0 - roughness
    a = wp.min(r0 * r0, wp.exp(-6.4324 * cosine)) * r0 + 0.0425 - 0.0275 * roughness
    scale = -1.04 * a + 1.04 - 0.572 * roughness
    offset = 1.04 * a - 0.04 + 0.022 * roughness
    return wp.clamp(specular * scale + glossy(specular) * offset, 0.0, 1.0)


@wp.func
def highlight(normal: wp.vec3, view: wp.vec3, towards: wp.vec3, alpha: float, specular: float, cosine: float) -> float:
    """Microfacet reflectance times pi, without the cosine. Source: Walter et al. (2007), GGX; Hammon (2017), visibility."""
    half = wp.normalize(view + towards)
    nh = wp.dot(normal, half)
    nv = wp.max(wp.dot(normal, view), GRAZING)
    spread = nh * nh * (alpha * alpha - 1.0) + 1.0
    away = 1.0 - wp.max(wp.dot(view, half), 0.0)
    away2 = away * away
    fresnel = specular + glossy(specular) * (1.0 - specular) * away2 * away2 * away
    both = 2.0 * cosine * nv
    return fresnel * alpha * alpha / (spread * spread) * 0.5 / (both + alpha * (cosine + nv - both))


@wp.kernel(enable_backward=False)
def shade_rows_kernel(
    # in
    albedo: wp.array2d(dtype=wp.uint8),
    channels: int,
    depth_m: wp.array2d(dtype=wp.float32),
    ids: wp.array2d(dtype=wp.int32),
    normals: wp.array2d(dtype=wp.vec3),
    visibility: wp.array2d(dtype=wp.float32),
    material: wp.array(dtype=wp.vec2),
    irradiance: wp.array2d(dtype=wp.vec3),
    radiance: wp.array2d(dtype=wp.vec3),
    source: wp.vec3,
    towards_far: wp.vec3,
    place: wp.vec4,
    tangent: float,
    eye: wp.vec3,
    corner: wp.vec3,
    across: wp.vec3,
    down: wp.vec3,
    height: int,
    span: int,
    decode_table: wp.array(dtype=wp.float32),
    encode_table: wp.array(dtype=wp.uint8),
    # out
    color_out: wp.array2d(dtype=wp.vec3ub),
) -> None:
    """One thread a run of pixels."""
    row, block = wp.tid()
    width = ids.shape[1]
    start = corner + (float(row % height) + 0.5) * down
    for x in range(block * span, wp.min(width, (block + 1) * span)):
        index = ids[row, x]
        if index > 0:
            ray = start + (float(x) + 0.5) * across
            view = -wp.normalize(ray)
            normal = facing(calm(normals, depth_m, ids, row, x, height), view)
            shown = wp.vec2(1.0, 1.0)
            if visibility.shape[0] > 0:
                shown = wp.vec2(visibility[row, 2 * x], visibility[row, 2 * x + 1])
            surface = material[wp.min(index, material.shape[0] - 1)]
            nv = wp.dot(normal, view)
            mirror = mirror_share(surface[0], surface[1], nv)
            alpha = surface[0] * surface[0]
            light = shown[1] * harmonics(irradiance, normal, 1.0, 1.0)
            blur = wp.exp(-alpha * alpha)
            blur2 = blur * blur
            reflected = 2.0 * nv * normal - view
            gloss = (mirror * shown[1]) * harmonics(radiance, reflected, blur, blur2 * blur2)
            towards = towards_far
            strength = shown[0]
            if place[3] > 0.0:
                away = wp.vec3(place[0], place[1], place[2]) - (eye + depth_m[row, x] * ray)
                far = wp.max(wp.length(away), 1.0e-6)
                towards = away / far
                strength *= (place[3] / far) * (place[3] / far)
            cosine = wp.dot(normal, towards)
            if cosine > 0.0 and strength > 0.0:
                arriving = (strength * cosine) * source
                light += arriving
                # A large source widens the highlight. Source: Karis (2013), representative lobes.
                wide = wp.min(alpha + 0.5 * tangent, 1.0)
                gloss += (highlight(normal, view, towards, wide, surface[1], cosine) / wp.pi) * arriving
            at = channels * x
            base = wp.vec3(
                decode_table[int(albedo[row, at])],
                decode_table[int(albedo[row, at + 1])],
                decode_table[int(albedo[row, at + 2])],
            )
            color_out[row, x] = encode3(((1.0 - mirror) / wp.pi) * wp.cw_mul(base, light) + gloss, encode_table)


def shade_frames(
    albedo: Any,
    depth_m: Any,
    normals_w: Any,
    ids: Any,
    visibility: Any | None,
    light: Light,
    T_world_camera: np.ndarray,
    K_px: np.ndarray,
    roughness: float | Sequence[float] = ROUGHNESS,
    specular: float | Sequence[float] = SPECULAR,
    device: str = "cpu",
    out: Any | None = None,
) -> Any:
    """Finished colours (N, H, W, 3) uint8 sRGB as a Warp array; what they are where ids are 0 means nothing.

    Args:
        albedo: (N, H, W, 3 or 4) uint8 sRGB base colour, numpy, CPU torch or Warp.
        depth_m: (N, H, W) float32 along the optical axis [m].
        normals_w: (N, H, W, 3) float32 unit normals, world frame.
        ids: (N, H, W) int32, 0 is nothing.
        visibility: (N, H, W, 2) float32, how much of the source and how much of the rest of the light a pixel gets, see
            ``light_foreground``; None where nothing is in the way.
        light: What shines.
        T_world_camera: Pose of the camera, (4, 4).
        K_px: Intrinsics (3, 3) without skew [px].
        roughness: Of the surface, 0..1, for all ids or for each id from 0 on.
        specular: Reflectance seen straight on, likewise.
        device: Warp device.
        out: An array of an earlier call to write to; None makes one.

    Raises:
        InputError: Shapes that do not belong together.
    """
    count, height, width = (int(s) for s in ids.shape[:3])
    channels = int(albedo.shape[-1])
    for name, array in (("albedo", albedo), ("depth", depth_m), ("normals", normals_w), ("visibility", visibility)):
        if array is not None and tuple(array.shape)[:3] != (count, height, width):
            raise InputError(
                f"Cannot shade: ids are {(count, height, width)} images, rows, columns, {name} is {tuple(array.shape)}."
            )
    rows = count * height
    finite = bool(np.isfinite(light.distance_m))
    far = float(light.distance_m) if finite else 0.0
    R = T_world_camera[:3, :3]
    corner = R @ np.array([-K_px[0, 2] / K_px[0, 0], -K_px[1, 2] / K_px[1, 1], 1.0])
    with wp.ScopedDevice(device) as active:
        shown = wp.empty((0, 0), dtype=wp.float32)
        if visibility is not None:
            shown = to_warp(visibility, np.float32, wp.float32, device, (rows, 2 * width))
        inputs = [
            to_warp(albedo, np.uint8, wp.uint8, device, (rows, width * channels)),
            channels,
            to_warp(depth_m, np.float32, wp.float32, device, (rows, width)),
            to_warp(ids, np.int32, wp.int32, device, (rows, width)),
            to_warp(normals_w, np.float32, wp.vec3, device, (rows, width)),
            shown,
            wp.array(_materials(roughness, specular), dtype=wp.vec2),
            _table(light, SH_COSINE),
            _table(light, np.ones(9)),
            _vec(light.irradiance),
            _vec(light.direction_w),
            wp.vec4(*(float(c) for c in light.center_w + far * light.direction_w), far),
            float(np.tan(light.half_angle_rad)),
            _vec(T_world_camera[:3, 3]),
            _vec(corner),
            _vec(R[:, 0] / K_px[0, 0]),
            _vec(R[:, 1] / K_px[1, 1]),
            height,
        ]
        color = wp.empty((count, height, width, 3), dtype=wp.uint8) if out is None else out
        flat = to_warp(color, np.uint8, wp.vec3ub, device, (rows, width))
        span = GPU_SPAN if active.is_cuda else width
        inputs += [span, *transfer_tables(device)]
        wp.launch(shade_rows_kernel, (rows, -(-width // span)), inputs=inputs, outputs=[flat])
    return color


def _materials(roughness: float | Sequence[float], specular: float | Sequence[float]) -> np.ndarray:
    """Roughness and reflectance by id, (M, 2) float32; the last row is for all higher ids."""
    columns = [np.atleast_1d(np.asarray(value, dtype=np.float32)) for value in (roughness, specular)]
    length = max(len(c) for c in columns)
    return np.stack([np.pad(c, (0, length - len(c)), mode="edge") for c in columns], 1)


def _table(light: Light, factor: np.ndarray) -> Any:
    """Coefficients of the light times the basis' constants, (1, 9) vectors."""
    return wp.array(((SH_SCALE * factor)[:, None] * light.sh).astype(np.float32)[None], dtype=wp.vec3)


def _vec(value: np.ndarray) -> Any:
    return wp.vec3(*(float(c) for c in value))
