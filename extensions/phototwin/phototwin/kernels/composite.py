"""Composite rendered robots and objects into a photo by depth: shade, test against the photo's depth, blend soft edges.

Two passes, one thread per image row (a launch on the CPU runs its threads one after another, so a thread per pixel costs
more than the pixel itself). The first writes 8-bit foreground colours and a mask of ids, the second touches only pixels
within one pixel of the mask; everything else stays the background, bit by bit.
"""

# Warp compiles the kernels itself; its Python stubs do not describe what is legal inside them.
# pyright: reportInvalidTypeForm=false, reportCallIssue=false, reportArgumentType=false, reportOperatorIssue=false

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import warp as wp

from phototwin.errors import InputError

ROBOT_ROLE = 1
"""Lookup value of ids that are shaded by the light."""
OBJECT_ROLE = 2
"""Lookup value of ids whose colour is shown as it is: their textures come from the photo, with its light in them."""
DEPTH_TOLERANCE_M = 0.006
"""How far behind the photo's depth a surface still counts as in front: contact with the support, penetration, calibration."""
DEPTH_TOLERANCE_RELATIVE = 0.005
"""The same per metre of depth: noise of depth sensors grows with distance."""
ENCODE_STEPS = 16384
"""Entries of the linear -> sRGB table: the steepest step (near black) is 0.2 of an 8-bit code."""


@dataclass(frozen=True)
class Light:
    """One far light and an even sky, in linear RGB units: a white surface facing the light shows ``ambient + directional``.

    Attributes:
        direction_w: Points from the scene towards the light, world frame; need not be normalised.
        ambient: Light from everywhere, RGB.
        directional: Light of the far source, RGB; falls on a surface with the cosine of its angle.
    """

    direction_w: tuple[float, float, float] = (-0.35, 0.35, 0.87)
    ambient: tuple[float, float, float] = (0.42, 0.42, 0.42)
    directional: tuple[float, float, float] = (0.48, 0.48, 0.48)


def srgb_to_linear(value: np.ndarray) -> np.ndarray:
    """Linear light of sRGB values, both in 0..1. Source: IEC 61966-2-1."""
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)


def linear_to_srgb(value: np.ndarray) -> np.ndarray:
    """SRGB values of linear light, both in 0..1. Source: IEC 61966-2-1."""
    value = np.clip(value, 0.0, 1.0)
    return np.where(value <= 0.0031308, value * 12.92, 1.055 * value ** (1 / 2.4) - 0.055)


@wp.func
def encode(value: float, encode_table: wp.array(dtype=wp.uint8)):  # noqa: ANN201, D103
    top = encode_table.shape[0] - 1
    return encode_table[int(wp.clamp(value, 0.0, 1.0) * float(top) + 0.5)]


@wp.kernel(enable_backward=False)
def shade_foreground_kernel(  # noqa: D103
    # in
    albedo: wp.array(dtype=wp.uint8),
    channels: int,
    depth_m: wp.array2d(dtype=float),
    normals_w: wp.array2d(dtype=wp.vec3),
    ids: wp.array2d(dtype=wp.int32),
    roles: wp.array(dtype=wp.uint8),
    background_depth_m: wp.array2d(dtype=float),
    light_w: wp.vec3,
    ambient: wp.vec3,
    directional: wp.vec3,
    tolerance: wp.vec2,
    decode_table: wp.array(dtype=float),
    encode_table: wp.array(dtype=wp.uint8),
    # out
    color_out: wp.array(dtype=wp.uint8),
    mask_out: wp.array2d(dtype=wp.uint8),
    span_out: wp.array(dtype=wp.vec2i),
) -> None:
    row = wp.tid()
    width = depth_m.shape[1]
    y = row % background_depth_m.shape[0]
    first = width
    last = int(-1)  # noqa: RUF046, UP018 (a literal would be a constant to Warp)
    for x in range(width):
        role = wp.uint8(0)
        index = ids[row, x]
        if index > 0 and index < roles.shape[0]:
            role = roles[index]
        if role != wp.uint8(0):
            z = depth_m[row, x]
            behind = background_depth_m[y, x]
            if z > 0.0 and (behind <= 0.0 or z < behind + tolerance[0] + tolerance[1] * behind):
                source = (row * width + x) * channels
                target = (row * width + x) * 3
                if role == wp.uint8(1) and normals_w.shape[0] > 0:
                    cosine = wp.max(wp.dot(normals_w[row, x], light_w), 0.0)
                    for c in range(3):
                        value = decode_table[int(albedo[source + c])] * (ambient[c] + directional[c] * cosine)
                        color_out[target + c] = encode(value, encode_table)
                else:
                    for c in range(3):
                        color_out[target + c] = albedo[source + c]
                mask_out[row, x] = wp.uint8(1 + index % 255)
                first = wp.min(first, x)
                last = x
    span_out[row] = wp.vec2i(first, last)


@wp.kernel(enable_backward=False)
def blend_edges_kernel(  # noqa: D103
    # in
    color: wp.array(dtype=wp.uint8),
    mask: wp.array2d(dtype=wp.uint8),
    span: wp.array(dtype=wp.vec2i),
    background: wp.array(dtype=wp.uint8),
    height: int,
    decode_table: wp.array(dtype=float),
    encode_table: wp.array(dtype=wp.uint8),
    # out
    image_out: wp.array(dtype=wp.uint8),
) -> None:
    row = wp.tid()
    width = mask.shape[1]
    y = row % height
    above = wp.where(y > 0, row - 1, row)
    below = wp.where(y < height - 1, row + 1, row)
    first = wp.max(wp.min(wp.min(span[above][0], span[row][0]), span[below][0]) - 1, 0)
    last = wp.min(wp.max(wp.max(span[above][1], span[row][1]), span[below][1]) + 1, width - 1)
    for x in range(first, last + 1):
        coverage = int(0)  # noqa: RUF046, UP018
        own = int(0)  # noqa: RUF046, UP018
        others = wp.vec3(0.0, 0.0, 0.0)
        center = mask[row, x]
        for dy in range(-1, 2):
            near_row = wp.clamp(row + dy, above, below)
            for dx in range(-1, 2):
                near_x = wp.clamp(x + dx, 0, width - 1)
                near = mask[near_row, near_x]
                if near != wp.uint8(0):
                    weight = (2 - wp.abs(dy)) * (2 - wp.abs(dx))
                    coverage += weight
                    if near == center:
                        own += weight
                    else:
                        at = (near_row * width + near_x) * 3
                        others += float(weight) * wp.vec3(
                            decode_table[int(color[at])],
                            decode_table[int(color[at + 1])],
                            decode_table[int(color[at + 2])],
                        )
        target = (row * width + x) * 3
        if own == 16:
            for c in range(3):
                image_out[target + c] = color[target + c]
        elif coverage > 0:
            source = (y * width + x) * 3
            for c in range(3):
                value = others[c] + float(16 - coverage) * decode_table[int(background[source + c])]
                if own > 0:
                    value += float(own) * decode_table[int(color[target + c])]
                image_out[target + c] = encode(value / 16.0, encode_table)


def composite(
    albedo: Any,
    depth_m: Any,
    normals_w: Any | None,
    ids: Any,
    background: np.ndarray,
    background_depth_m: np.ndarray,
    light: Light,
    robot_ids: Sequence[int],
    object_ids: Sequence[int],
    device: str = "cpu",
) -> np.ndarray:
    """Photos with the rendered robot and objects in them, (N, H, W, 3) uint8.

    A pixel shows what was rendered where its id is a robot's or an object's and its depth is not behind the photo's
    (``DEPTH_TOLERANCE_M`` and ``DEPTH_TOLERANCE_RELATIVE``). Where two ids, or an id and the photo, meet, the edge is
    softened by the tent filter (1 2 1) x (1 2 1) of their masks in linear light; a pixel counts with its own colour for all
    neighbours of its id, so textures stay sharp, and colours of what is not foreground never show. Pixels with no foreground
    within one pixel are the background, bit by bit.

    Args:
        albedo: (N, H, W, 3 or 4) uint8 sRGB, numpy, CPU torch or Warp.
        depth_m: (N, H, W) or (N, H, W, 1) float32 along the optical axis, 0 where nothing was hit [m].
        normals_w: (N, H, W, 3) float32 unit normals, world frame; None shows the robot's albedo as it is.
        ids: (N, H, W) or (N, H, W, 1) int32, 0 is nothing.
        background: (H, W, 3) uint8 sRGB.
        background_depth_m: (H, W) float32, 0 is infinitely far [m].
        light: What shines on the robot.
        robot_ids: Ids that ``light`` shades.
        object_ids: Ids whose albedo is shown as it is.
        device: Warp device.

    Raises:
        InputError: Shapes that do not belong together.
    """
    height, width = background.shape[:2]
    count, channels = int(albedo.shape[0]), int(albedo.shape[-1])
    _check_shapes(albedo, depth_m, normals_w, ids, background, background_depth_m)
    rows = count * height
    table_in, table_out = _tables(device)
    plate = _to_warp(background, np.uint8, wp.uint8, device, (height * width * 3,))
    color = wp.empty(rows * width * 3, dtype=wp.uint8, device=device)
    image = wp.empty(rows * width * 3, dtype=wp.uint8, device=device)
    mask = wp.zeros((rows, width), dtype=wp.uint8, device=device)
    span = wp.empty(rows, dtype=wp.vec2i, device=device)
    if normals_w is None:
        normals = wp.empty((0, 0), dtype=wp.vec3, device=device)
    else:
        normals = _to_warp(normals_w, np.float32, wp.vec3, device, (rows, width))
    direction = np.asarray(light.direction_w, dtype=np.float64)
    inputs = [
        _to_warp(albedo, np.uint8, wp.uint8, device, (rows * width * channels,)),
        channels,
        _to_warp(depth_m, np.float32, wp.float32, device, (rows, width)),
        normals,
        _to_warp(ids, np.int32, wp.int32, device, (rows, width)),
        wp.array(_roles(robot_ids, object_ids), dtype=wp.uint8, device=device),
        _to_warp(background_depth_m, np.float32, wp.float32, device, (height, width)),
        wp.vec3(*(direction / np.linalg.norm(direction))),
        wp.vec3(*light.ambient),
        wp.vec3(*light.directional),
        wp.vec2(DEPTH_TOLERANCE_M, DEPTH_TOLERANCE_RELATIVE),
        table_in,
        table_out,
    ]
    wp.launch(shade_foreground_kernel, dim=rows, inputs=inputs, outputs=[color, mask, span], device=device)
    for i in range(count):
        wp.copy(image, plate, dest_offset=i * plate.size, count=plate.size)
    inputs = [color, mask, span, plate, height, table_in, table_out]
    wp.launch(blend_edges_kernel, dim=rows, inputs=inputs, outputs=[image], device=device)
    return image.numpy().reshape(count, height, width, 3)


def _roles(robot_ids: Sequence[int], object_ids: Sequence[int]) -> np.ndarray:
    roles = np.zeros(max([0, *robot_ids, *object_ids]) + 1, dtype=np.uint8)
    roles[list(object_ids)] = OBJECT_ROLE
    roles[list(robot_ids)] = ROBOT_ROLE
    return roles


@cache
def _tables(device: str) -> tuple[wp.array, wp.array]:
    """8-bit sRGB -> linear float, and linear in ``ENCODE_STEPS`` steps -> 8-bit sRGB."""
    decode = srgb_to_linear(np.arange(256) / 255.0).astype(np.float32)
    encode = np.round(linear_to_srgb(np.linspace(0.0, 1.0, ENCODE_STEPS)) * 255.0).astype(np.uint8)
    return wp.array(decode, dtype=wp.float32, device=device), wp.array(encode, dtype=wp.uint8, device=device)


def _to_warp(value: Any, np_type: Any, wp_type: Any, device: str, shape: tuple[int, ...]) -> wp.array:
    """``value`` as a Warp array of that shape, without a copy where it already lies on the device."""
    if isinstance(value, wp.array) and value.device == wp.get_device(device) and value.is_contiguous:
        ndim_bytes = int(np.prod(shape)) * wp.types.type_size_in_bytes(wp_type)
        if value.size * wp.types.type_size_in_bytes(value.dtype) == ndim_bytes:
            return wp.array(ptr=value.ptr, dtype=wp_type, shape=shape, device=device, copy=False)
    array = np.ascontiguousarray(value.numpy() if isinstance(value, wp.array) else value, dtype=np_type)
    tail = (3,) if wp_type == wp.vec3 else ()
    return wp.array(array.reshape(*shape, *tail), dtype=wp_type, device=device, copy=False)


def _check_shapes(
    albedo: Any, depth_m: Any, normals_w: Any | None, ids: Any, background: np.ndarray, background_depth_m: np.ndarray
) -> None:
    size = (int(albedo.shape[0]), *background.shape[:2])
    got = {"albedo": tuple(albedo.shape)[:3], "depth": tuple(depth_m.shape)[:3], "ids": tuple(ids.shape)[:3]}
    if normals_w is not None:
        got["normals"] = tuple(normals_w.shape)[:3]
    got["background depth"] = (size[0], *background_depth_m.shape)
    wrong = [f"{name} {shape}" for name, shape in got.items() if shape != size]
    if wrong or albedo.shape[-1] not in (3, 4) or background.shape[2:] != (3,):
        detail = ", ".join(wrong) or f"albedo {tuple(albedo.shape)}, background {background.shape}"
        raise InputError(f"Cannot composite: expected (images, height, width) = {size} everywhere, got {detail}.")
