"""sRGB and linear light, in numpy and in Warp: what the kernels that look at colours share."""

# Warp compiles the functions itself; its Python stubs do not describe what is legal inside them.
# pyright: reportInvalidTypeForm=false, reportCallIssue=false, reportArgumentType=false, reportOperatorIssue=false
# pyright: reportIndexIssue=false

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import warp as wp

ENCODE_STEPS = 16384
"""Entries of the linear -> sRGB table: the steepest step (near black) is 0.2 of an 8-bit code."""


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


@wp.func
def decode3(value: wp.vec3ub, decode_table: wp.array(dtype=float)):  # noqa: ANN201, D103
    return wp.vec3(decode_table[int(value[0])], decode_table[int(value[1])], decode_table[int(value[2])])


@wp.func
def encode3(value: wp.vec3, encode_table: wp.array(dtype=wp.uint8)):  # noqa: ANN201, D103
    return wp.vec3ub(encode(value[0], encode_table), encode(value[1], encode_table), encode(value[2], encode_table))


@cache
def transfer_tables(device: str) -> tuple[wp.array, wp.array]:
    """8-bit sRGB -> linear float, and linear in ``ENCODE_STEPS`` steps -> 8-bit sRGB."""
    decode = srgb_to_linear(np.arange(256) / 255.0).astype(np.float32)
    encode = np.round(linear_to_srgb(np.linspace(0.0, 1.0, ENCODE_STEPS)) * 255.0).astype(np.uint8)
    return wp.array(decode, dtype=wp.float32, device=device), wp.array(encode, dtype=wp.uint8, device=device)


def to_warp(value: Any, np_type: Any, wp_type: Any, device: str, shape: tuple[int, ...]) -> wp.array:
    """``value`` as a Warp array of that shape, without a copy where it already lies on the device."""
    if isinstance(value, wp.array) and value.device == wp.get_device(device) and value.is_contiguous:
        ndim_bytes = int(np.prod(shape)) * wp.types.type_size_in_bytes(wp_type)
        if value.size * wp.types.type_size_in_bytes(value.dtype) == ndim_bytes:
            return wp.array(ptr=value.ptr, dtype=wp_type, shape=shape, device=device, copy=False)
    array = np.ascontiguousarray(value.numpy() if isinstance(value, wp.array) else value, dtype=np_type)
    tail = (3,) if wp_type in (wp.vec3, wp.vec3ub) else ()
    return wp.array(array.reshape(*shape, *tail), dtype=wp_type, device=device, copy=False)
