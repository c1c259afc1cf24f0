"""Give drawn pixels what a camera does to light: blur, channels that are drawn apart, noise; nothing outside a footprint changes.

One thread a row on the CPU (launches run their threads one after another there), a thread per ``GPU_SPAN`` pixels on CUDA.
A pass that has nothing to do is left out.
"""

# Warp reads these annotations as types of its own; a type checker cannot.
# pyright: reportInvalidTypeForm=false, reportOperatorIssue=false, reportArgumentType=false, reportCallIssue=false
# pyright: reportAssignmentType=false, reportIndexIssue=false, reportGeneralTypeIssues=false, reportReturnType=false

from __future__ import annotations

from typing import Any

import numpy as np
import warp as wp

from phototwin.kernels.srgb import decode3, encode, encode3, to_warp, transfer_tables

GPU_SPAN = 8
TAP_VARIANCE = 0.5
"""Largest variance of one (v/2, 1 - v, v/2) filter [px^2]; wider blurs are several of them in a row."""


@wp.kernel(enable_backward=False)
def find_spans_kernel(
    # in
    drawn: wp.array2d(dtype=wp.uint8),
    # out
    span_out: wp.array(dtype=wp.vec2i),
) -> None:
    """One thread a row: its first and last drawn pixel; first > last where there is none."""
    row = wp.tid()
    first = int(0)  # noqa: RUF046, UP018 (a literal would be a constant to Warp)
    last = drawn.shape[1] - 1
    while first <= last and drawn[row, first] == wp.uint8(0):
        first += 1
    while last > first and drawn[row, last] == wp.uint8(0):
        last -= 1
    span_out[row] = wp.vec2i(first, last)


@wp.kernel(enable_backward=False)
def cover_kernel(
    # in
    drawn: wp.array2d(dtype=wp.uint8),
    drawn_span: wp.array(dtype=wp.vec2i),
    height: int,
    # out
    cover_out: wp.array2d(dtype=wp.uint8),
    span_out: wp.array(dtype=wp.vec2i),
) -> None:
    """One thread a row: how many sixteenths of each pixel were drawn, as ``composite`` softens edges, and the first and last such pixel."""
    row = wp.tid()
    width = drawn.shape[1]
    y = row % height
    above = wp.where(y > 0, row - 1, row)
    below = wp.where(y < height - 1, row + 1, row)
    first = width
    last = int(-1)  # noqa: RUF046, UP018
    for near in range(above, below + 1):
        if drawn_span[near][0] <= drawn_span[near][1]:
            first = wp.min(first, wp.max(drawn_span[near][0] - 1, 0))
            last = wp.max(last, wp.min(drawn_span[near][1] + 1, width - 1))
    for x in range(first, last + 1):
        cover = int(0)  # noqa: RUF046, UP018
        for dx in range(-1, 2):
            near_x = wp.clamp(x + dx, 0, width - 1)
            column = int(0)  # noqa: RUF046, UP018
            if drawn[above, near_x] != wp.uint8(0):
                column += 1
            if drawn[row, near_x] != wp.uint8(0):
                column += 2
            if drawn[below, near_x] != wp.uint8(0):
                column += 1
            cover += (2 - wp.abs(dx)) * column
        cover_out[row, x] = wp.uint8(cover)
    span_out[row] = wp.vec2i(first, last)


@wp.kernel(enable_backward=False)
def part_channels_kernel(
    # in
    frame: wp.array2d(dtype=wp.vec3ub),
    cover: wp.array2d(dtype=wp.uint8),
    span: wp.array(dtype=wp.vec2i),
    height: int,
    source: wp.mat33,
    decode_table: wp.array(dtype=float),
    encode_table: wp.array(dtype=wp.uint8),
    block: int,
    # out
    frame_out: wp.array2d(dtype=wp.vec3ub),
) -> None:
    """Channel c of a pixel is read at an offset of ``source[c]``: x, y and what is added per pixel of distance from the middle."""
    row, part = wp.tid()
    width = frame.shape[1]
    top = row - row % height
    y = float(row - top)
    away_y = y + 0.5 - 0.5 * float(height)
    for x in range(wp.max(span[row][0], part * block), wp.min(span[row][1] + 1, (part + 1) * block)):
        away_x = float(x) + 0.5 - 0.5 * float(width)
        code = frame[row, x]
        if cover[row, x] == wp.uint8(0):
            continue
        for c in range(3):
            if source[c, 0] != 0.0 or source[c, 1] != 0.0 or source[c, 2] != 0.0:
                u = float(x) + source[c, 0] + source[c, 2] * away_x
                v = y + source[c, 1] + source[c, 2] * away_y
                left = int(wp.floor(u))
                upper = int(wp.floor(v))
                fu = u - float(left)
                fv = v - float(upper)
                x0 = wp.clamp(left, 0, width - 1)
                x1 = wp.clamp(left + 1, 0, width - 1)
                y0 = top + wp.clamp(upper, 0, height - 1)
                y1 = top + wp.clamp(upper + 1, 0, height - 1)
                high = (1.0 - fu) * decode_table[int(frame[y0, x0][c])] + fu * decode_table[int(frame[y0, x1][c])]
                low = (1.0 - fu) * decode_table[int(frame[y1, x0][c])] + fu * decode_table[int(frame[y1, x1][c])]
                code[c] = encode((1.0 - fv) * high + fv * low, encode_table)
        frame_out[row, x] = code


@wp.kernel(enable_backward=False)
def blur_rows_kernel(
    # in
    frame: wp.array2d(dtype=wp.vec3ub),
    span: wp.array(dtype=wp.vec2i),
    height: int,
    taps: wp.array(dtype=float),
    decode_table: wp.array(dtype=float),
    block: int,
    # out
    linear_out: wp.array2d(dtype=wp.vec3),
) -> None:
    """Linear light, blurred along x, of the pixels that the column pass will read; ``taps`` are the weights of offsets 0, 1, ..."""
    row, part = wp.tid()
    width = frame.shape[1]
    radius = taps.shape[0] - 1
    top = row - row % height
    first = width
    last = int(-1)  # noqa: RUF046, UP018
    for near in range(wp.max(row - radius, top), wp.min(row + radius + 1, top + height)):
        first = wp.min(first, span[near][0])
        last = wp.max(last, span[near][1])
    for x in range(wp.max(first, part * block), wp.min(last + 1, (part + 1) * block)):
        total = taps[0] * decode3(frame[row, x], decode_table)
        for i in range(1, radius + 1):
            left = decode3(frame[row, wp.max(x - i, 0)], decode_table)
            total += taps[i] * (left + decode3(frame[row, wp.min(x + i, width - 1)], decode_table))
        linear_out[row, x] = total


@wp.kernel(enable_backward=False)
def blur_columns_kernel(
    # in
    linear: wp.array2d(dtype=wp.vec3),
    cover: wp.array2d(dtype=wp.uint8),
    span: wp.array(dtype=wp.vec2i),
    height: int,
    taps: wp.array(dtype=float),
    encode_table: wp.array(dtype=wp.uint8),
    block: int,
    # out
    frame_out: wp.array2d(dtype=wp.vec3ub),
) -> None:
    """The covered pixels blurred along y."""
    row, part = wp.tid()
    radius = taps.shape[0] - 1
    top = row - row % height
    for x in range(wp.max(span[row][0], part * block), wp.min(span[row][1] + 1, (part + 1) * block)):
        if cover[row, x] != wp.uint8(0):
            total = taps[0] * linear[row, x]
            for i in range(1, radius + 1):
                upper = linear[wp.max(row - i, top), x]
                total += taps[i] * (upper + linear[wp.min(row + i, top + height - 1), x])
            frame_out[row, x] = encode3(total, encode_table)


@wp.kernel(enable_backward=False)
def add_noise_kernel(
    # in
    cover: wp.array2d(dtype=wp.uint8),
    span: wp.array(dtype=wp.vec2i),
    height: int,
    sigma_table: wp.array2d(dtype=float),
    grain: wp.array2d(dtype=wp.vec3),
    grain_at: wp.array(dtype=wp.vec2i),
    block: int,
    # in and out
    frame_out: wp.array2d(dtype=wp.vec3ub),
) -> None:
    """Noise on the covered pixels, by how much of them was drawn: the rest of a pixel is the photo's and has its noise."""
    row, part = wp.tid()
    frame = row // height
    speck_row = (row - frame * height + grain_at[frame][0]) % grain.shape[0]
    start = grain_at[frame][1]
    for x in range(wp.max(span[row][0], part * block), wp.min(span[row][1] + 1, (part + 1) * block)):
        amount = float(cover[row, x]) / 16.0
        if amount > 0.0:
            code = frame_out[row, x]
            speck = amount * grain[speck_row, (x + start) % grain.shape[1]]
            r = float(code[0]) + sigma_table[int(code[0]), 0] * speck[0]
            g = float(code[1]) + sigma_table[int(code[1]), 1] * speck[1]
            b = float(code[2]) + sigma_table[int(code[2]), 2] * speck[2]
            frame_out[row, x] = wp.vec3ub(
                wp.uint8(wp.clamp(r, 0.0, 255.0) + 0.5),
                wp.uint8(wp.clamp(g, 0.0, 255.0) + 0.5),
                wp.uint8(wp.clamp(b, 0.0, 255.0) + 0.5),
            )


def respond(
    frames: Any,
    drawn: Any,
    offsets: np.ndarray,
    blur_px: float,
    shift: np.ndarray,
    sigma_code: np.ndarray,
    grain: np.ndarray,
    device: str = "cpu",
) -> np.ndarray:
    """Frames (N, H, W, 3) uint8 as the camera would have seen what was drawn into them.

    Args:
        frames: (N, H, W, 3) uint8 sRGB, numpy, CPU torch or Warp; it is not changed.
        drawn: (N, H, W) uint8 or bool, not 0 where something was drawn; a pixel with nothing drawn within one pixel keeps its bits.
        offsets: (N, 2) int, row and column of ``grain`` where each frame's noise begins, not negative.
        blur_px: Standard deviation of the Gaussian that blurs what was drawn, in linear light [px].
        shift: Where red and blue lie beside green, (2, 3): x, y, and what is added per pixel of distance from the middle of the
            image, outwards [px].
        sigma_code: Standard deviation of the noise for each 8-bit code and channel, (256, 3) codes.
        grain: (S, T, 3) float32 noise of unit variance, tiled.
        device: Warp device.

    Raises:
        ValueError: The shapes do not belong together.
    """
    shape = tuple(int(n) for n in frames.shape)
    if len(shape) != 4 or shape[3] != 3 or tuple(drawn.shape) != shape[:3] or offsets.shape != (shape[0], 2):
        raise ValueError(f"Frames {shape} do not fit what was drawn {tuple(drawn.shape)} and offsets {offsets.shape}.")
    count, height, width = shape[:3]
    rows = count * height
    source = np.zeros((3, 3))
    source[[0, 2]] = -np.asarray(shift)  # what lies further out is read from further in
    with wp.ScopedDevice(device) as active:
        block = GPU_SPAN if active.is_cuda else width
        blocks = (rows, -(-width // block))
        decode_table, encode_table = transfer_tables(str(active))
        drawn_wp = to_warp(drawn, np.uint8, wp.uint8, str(active), (rows, width))
        given = to_warp(frames, np.uint8, wp.vec3ub, str(active), (rows, width))
        out = wp.clone(given)
        cover = wp.zeros((rows, width), dtype=wp.uint8)
        drawn_span, span = wp.empty(rows, dtype=wp.vec2i), wp.empty(rows, dtype=wp.vec2i)
        wp.launch(find_spans_kernel, rows, inputs=[drawn_wp], outputs=[drawn_span])
        wp.launch(cover_kernel, rows, inputs=[drawn_wp, drawn_span, height], outputs=[cover, span])
        if source.any():
            inputs = [given, cover, span, height, wp.mat33(*(float(v) for v in source.ravel()))]
            inputs += [decode_table, encode_table, block]
            wp.launch(part_channels_kernel, blocks, inputs=inputs, outputs=[out])
        if blur_px > 0.0:
            taps = wp.array(blur_taps(blur_px), dtype=wp.float32)
            linear = wp.empty((rows, width), dtype=wp.vec3)
            inputs = [out, span, height, taps, decode_table, block]
            wp.launch(blur_rows_kernel, blocks, inputs=inputs, outputs=[linear])
            inputs = [linear, cover, span, height, taps, encode_table, block]
            wp.launch(blur_columns_kernel, blocks, inputs=inputs, outputs=[out])
        if np.any(sigma_code):
            sigma = wp.array(np.ascontiguousarray(sigma_code, dtype=np.float32), dtype=wp.float32)
            grain_wp = wp.array(np.ascontiguousarray(grain, dtype=np.float32), dtype=wp.vec3, copy=False)
            at = wp.array(np.ascontiguousarray(offsets, dtype=np.int32), dtype=wp.vec2i)
            inputs = [cover, span, height, sigma, grain_wp, at, block]
            wp.launch(add_noise_kernel, blocks, inputs=inputs, outputs=[out])
        return out.numpy().reshape(shape)


def blur_taps(sigma_px: float) -> np.ndarray:
    """Weights of a symmetric filter with exactly that standard deviation at offsets 0, 1, ..., radius.

    A power of the three-tap filter with the exact variance: sampling a Gaussian would be wrong where it is narrower than a pixel.
    """
    variance = sigma_px**2
    times = int(np.ceil(variance / TAP_VARIANCE))
    full = np.ones(1)
    for _ in range(times):
        v = variance / times
        full = np.convolve(full, [v / 2, 1 - v, v / 2])
    return full[times:]
