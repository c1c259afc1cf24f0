"""Warp frames along optical flow: every pixel of the new frame takes its colour from where its point was, and holes are filled.

The flow runs backwards, from the new frame to the one that is known (``scene_flow`` with the frames exchanged), so every pixel is written
once and nothing is torn. A sequence is warped from one keyframe by composing flows, so its pixels are resampled once and not once a frame.
"""

# Warp compiles the kernels itself; its Python stubs do not describe what is legal inside them.
# pyright: reportInvalidTypeForm=false, reportCallIssue=false, reportArgumentType=false, reportOperatorIssue=false
# pyright: reportAssignmentType=false, reportIndexIssue=false, reportGeneralTypeIssues=false, reportReturnType=false

from __future__ import annotations

from typing import Any

import numpy as np
import warp as wp

from phototwin.errors import InputError
from phototwin.kernels.flow import GPU_SPAN, as_device

FILL_REACH = 96
"""A hole takes its colour from known pixels no farther than this in eight directions [px]."""


@wp.func
def texel(image: wp.array3d(dtype=wp.vec3ub), n: int, y: int, x: int) -> wp.vec3:
    """Colour of a pixel as floats."""
    value = image[n, y, x]
    return wp.vec3(float(value[0]), float(value[1]), float(value[2]))


@wp.kernel(enable_backward=False)
def warp_pixels_kernel(
    # in
    image: wp.array3d(dtype=wp.vec3ub),
    flow: wp.array3d(dtype=wp.vec2),
    occluded: wp.array3d(dtype=wp.uint8),
    fill: wp.array3d(dtype=wp.vec3ub),
    span: int,
    # out
    image_out: wp.array3d(dtype=wp.vec3ub),
    holes_out: wp.array3d(dtype=wp.uint8),
) -> None:
    """One thread a run of pixels: bilinear colour of the place the flow points to; the fill, if any, where there is none."""
    n, y, block = wp.tid()
    width = image.shape[2]
    height = image.shape[1]
    for x in range(block * span, wp.min(flow.shape[2], (block + 1) * span)):
        d = flow[n, y, x]
        u = float(x) + d[0]
        v = float(y) + d[1]
        inside = u >= -0.5 and v >= -0.5 and u < float(width) - 0.5 and v < float(height) - 0.5
        if occluded[n, y, x] != wp.uint8(0) or not inside:
            holes_out[n, y, x] = wp.uint8(1)
            image_out[n, y, x] = wp.vec3ub()
            if fill.shape[0] > 0:
                image_out[n, y, x] = fill[n % fill.shape[0], y, x]
        else:
            holes_out[n, y, x] = wp.uint8(0)
            left = int(wp.floor(u))
            top = int(wp.floor(v))
            fx = u - float(left)
            fy = v - float(top)
            x0 = wp.max(left, 0)
            x1 = wp.min(left + 1, width - 1)
            y0 = wp.max(top, 0)
            y1 = wp.min(top + 1, height - 1)
            upper = texel(image, n, y0, x0) * (1.0 - fx) + texel(image, n, y0, x1) * fx
            lower = texel(image, n, y1, x0) * (1.0 - fx) + texel(image, n, y1, x1) * fx
            value = upper * (1.0 - fy) + lower * fy
            image_out[n, y, x] = wp.vec3ub(wp.uint8(value[0] + 0.5), wp.uint8(value[1] + 0.5), wp.uint8(value[2] + 0.5))


@wp.func
def at_edge(ids: wp.array3d(dtype=wp.int32), n: int, y: int, x: int) -> bool:
    """Whether one of the eight pixels around shows something else."""
    found = bool(False)  # noqa: UP018 (a literal would be a constant to Warp)
    here = ids[n, y, x]
    for k in range(9):
        qx = wp.clamp(x + k % 3 - 1, 0, ids.shape[2] - 1)
        qy = wp.clamp(y + k // 3 - 1, 0, ids.shape[1] - 1)
        if ids[n, qy, qx] != here:
            found = True
    return found


@wp.kernel(enable_backward=False)
def mark_mixed_kernel(
    # in
    flow: wp.array3d(dtype=wp.vec2),
    occluded: wp.array3d(dtype=wp.uint8),
    ids: wp.array3d(dtype=wp.int32),
    ids_known: wp.array3d(dtype=wp.int32),
    span: int,
    # out
    occluded_out: wp.array3d(dtype=wp.uint8),
) -> None:
    """One thread a run of pixels: what lay at the edge of another thing then, and does not now, holds that thing's colour too."""
    n, y, block = wp.tid()
    for x in range(block * span, wp.min(flow.shape[2], (block + 1) * span)):
        hidden = occluded[n, y, x]
        if hidden == wp.uint8(0):
            d = flow[n, y, x]
            qx = wp.clamp(int(wp.floor(float(x) + d[0] + 0.5)), 0, ids_known.shape[2] - 1)
            qy = wp.clamp(int(wp.floor(float(y) + d[1] + 0.5)), 0, ids_known.shape[1] - 1)
            if at_edge(ids_known, n, qy, qx) and not at_edge(ids, n, y, x):
                hidden = wp.uint8(1)
        occluded_out[n, y, x] = hidden


@wp.kernel(enable_backward=False)
def fill_holes_kernel(
    # in
    image: wp.array3d(dtype=wp.vec3ub),
    holes: wp.array3d(dtype=wp.uint8),
    ids: wp.array3d(dtype=wp.int32),
    has_fill: int,
    reach: int,
    span: int,
    # out
    image_out: wp.array3d(dtype=wp.vec3ub),
) -> None:
    """One thread a run of pixels: a hole becomes the mean of the nearest known pixels of its own thing in eight directions, near ones counting more.

    With a fill only what moves is filled so, and only from itself; without one, from anything where nothing of it is known.
    """
    n, y, block = wp.tid()
    width = image.shape[2]
    height = image.shape[1]
    for x in range(block * span, wp.min(width, (block + 1) * span)):
        own = int(0)  # noqa: RUF046, UP018 (a literal would be a constant to Warp)
        if ids.shape[0] > 0:
            own = ids[n, y, x]
        if holes[n, y, x] != wp.uint8(0) and (has_fill == 0 or own > 0):
            total = wp.vec3()
            weight = float(0.0)  # noqa: UP018
            other = wp.vec3()
            other_weight = float(0.0)  # noqa: UP018
            for k in range(9):
                dx = k % 3 - 1
                dy = k // 3 - 1
                if k != 4:
                    for step in range(1, reach + 1):
                        qx = x + step * dx
                        qy = y + step * dy
                        if qx < 0 or qy < 0 or qx >= width or qy >= height:
                            break
                        if holes[n, qy, qx] == wp.uint8(0):
                            share = 1.0 / float(step * step * (dx * dx + dy * dy))
                            same = bool(True)  # noqa: UP018
                            if ids.shape[0] > 0:
                                same = ids[n, qy, qx] == own
                            if same:
                                total += share * texel(image, n, qy, qx)
                                weight += share
                                break
                            other += share * texel(image, n, qy, qx)
                            other_weight += share
            if weight == 0.0 and has_fill == 0:
                total = other
                weight = other_weight
            if weight > 0.0:
                total = total / weight
                image_out[n, y, x] = wp.vec3ub(
                    wp.uint8(total[0] + 0.5), wp.uint8(total[1] + 0.5), wp.uint8(total[2] + 0.5)
                )


@wp.kernel(enable_backward=False)
def compose_flows_kernel(
    # in
    flow_ba: wp.array3d(dtype=wp.vec2),
    occluded_ba: wp.array3d(dtype=wp.uint8),
    flow_cb: wp.array3d(dtype=wp.vec2),
    occluded_cb: wp.array3d(dtype=wp.uint8),
    span: int,
    # out
    flow_out: wp.array3d(dtype=wp.vec2),
    occluded_out: wp.array3d(dtype=wp.uint8),
) -> None:
    """One thread a run of pixels: go from c to b, and on from there; of the four pixels around only known ones near the nearest count."""
    n, y, block = wp.tid()
    width = flow_ba.shape[2]
    height = flow_ba.shape[1]
    for x in range(block * span, wp.min(flow_cb.shape[2], (block + 1) * span)):
        d = flow_cb[n, y, x]
        u = float(x) + d[0]
        v = float(y) + d[1]
        inside = u >= -0.5 and v >= -0.5 and u < float(width) - 0.5 and v < float(height) - 0.5
        total = wp.vec2()
        weight = float(0.0)  # noqa: UP018 (a literal would be a constant to Warp)
        if occluded_cb[n, y, x] == wp.uint8(0) and inside:
            nearest_x = wp.clamp(int(wp.floor(u + 0.5)), 0, width - 1)
            nearest_y = wp.clamp(int(wp.floor(v + 0.5)), 0, height - 1)
            nearest = flow_ba[n, nearest_y, nearest_x]
            if occluded_ba[n, nearest_y, nearest_x] == wp.uint8(0):
                left = int(wp.floor(u))
                top = int(wp.floor(v))
                for k in range(4):
                    qx = wp.clamp(left + (k & 1), 0, width - 1)
                    qy = wp.clamp(top + (k >> 1), 0, height - 1)
                    fx = u - float(left)
                    fy = v - float(top)
                    share = wp.where((k & 1) == 1, fx, 1.0 - fx) * wp.where((k >> 1) == 1, fy, 1.0 - fy)
                    there = flow_ba[n, qy, qx]
                    # Across an edge the flow jumps; a mean of both sides is the flow of neither.
                    if occluded_ba[n, qy, qx] == wp.uint8(0) and wp.length(there - nearest) < 1.0:
                        total += share * there
                        weight += share
        if weight > 0.0:
            flow_out[n, y, x] = d + total / weight
            occluded_out[n, y, x] = wp.uint8(0)
        else:
            flow_out[n, y, x] = wp.vec2()
            occluded_out[n, y, x] = wp.uint8(1)


def warp_frames(
    image: Any,
    flow_px: Any,
    occluded: Any,
    fill: Any | None = None,
    ids: Any | None = None,
    ids_known: Any | None = None,
    fill_holds_things: bool = False,
    device: str = "cpu",
) -> tuple[np.ndarray, np.ndarray]:
    """New frames (N, H, W, 3) uint8 made of known ones along the flow, and where they are holes, (N, H, W) bool.

    Args:
        image: Known frames (N, H', W', 3) uint8; numpy or Warp.
        flow_px: From each pixel of the new frames to its place in the known ones, (N, H, W, 2) float32 [px].
        occluded: Pixels of the new frames that the known ones do not show, (N, H, W) bool.
        fill: What shows in holes: (N or 1, H, W, 3) uint8, such as the photo without robot and objects; None fills from the pixels around.
        ids: What each pixel of the new frames shows, (N, H, W) int32, 0 = the background. Holes in other things are filled from
            what is seen of the same thing, and from ``fill`` only where that is nothing or ``fill`` shows the things as well.
        ids_known: The same of the known frames (N, H', W'); with both, pixels that held a mixture with a thing that has moved away are holes.
        fill_holds_things: Whether ``fill`` shows what moves as well, such as a plain render of the new frame.
        device: Warp device.

    Raises:
        InputError: Shapes that do not belong together.
    """
    single = np.ndim(occluded) == 2 if not isinstance(occluded, wp.array) else occluded.ndim == 2
    nothing = np.zeros((0, 0, 0), np.int32)
    with wp.ScopedDevice(device) as active:
        known, flow = as_device(image, wp.vec3ub, 3), as_device(flow_px, wp.vec2, 3)
        hidden = as_device(_bytes(occluded), wp.uint8, 3)
        things, things_known = (as_device(nothing if v is None else v, wp.int32, 3) for v in (ids, ids_known))
        plate = wp.empty((0, 0, 0), dtype=wp.vec3ub) if fill is None else as_device(fill, wp.vec3ub, 3)
        _check(known, flow, hidden, plate, things, things_known)
        count, height, width = hidden.shape
        span = GPU_SPAN if active.is_cuda else width
        grid = (count, height, -(-width // span))
        if things.size and things_known.size:
            mixed = wp.empty_like(hidden)
            inputs = [flow, hidden, things, things_known, span]
            wp.launch(mark_mixed_kernel, grid, inputs=inputs, outputs=[mixed])
            hidden = mixed
        way = _warp_by_kernel if active.is_cuda else _warp_by_opencv
        out, holes = way(known, flow, hidden, plate)
        if fill is None or (things.size and not fill_holds_things):
            inputs = [out, holes, things, int(fill is not None), FILL_REACH, span]
            wp.launch(fill_holes_kernel, grid, inputs=inputs, outputs=[out])
        frames, missing = out.numpy(), holes.numpy().view(bool)
    return (frames[0], missing[0]) if single else (frames, missing)


def _check(
    known: wp.array, flow: wp.array, hidden: wp.array, plate: wp.array, things: wp.array, things_known: wp.array
) -> None:
    wrong = flow.shape != hidden.shape or known.shape[0] != hidden.shape[0]
    wrong |= plate.size > 0 and (plate.shape[1:] != hidden.shape[1:] or plate.shape[0] not in (1, hidden.shape[0]))
    wrong |= things.size > 0 and things.shape != hidden.shape
    wrong |= things_known.size > 0 and things_known.shape != known.shape
    if wrong:
        raise InputError(
            f"Cannot warp: expected as many frames as flows, and flow, occlusion, fill and ids of one size, got frames {known.shape}, flow "
            f"{flow.shape}, occlusion {hidden.shape}, fill {plate.shape}, ids {things.shape} and {things_known.shape}."
        )


def _warp_by_kernel(known: wp.array, flow: wp.array, hidden: wp.array, plate: wp.array) -> tuple[wp.array, wp.array]:
    count, height, width = hidden.shape
    span = GPU_SPAN if wp.get_device().is_cuda else width
    out, holes = wp.empty((count, height, width), dtype=wp.vec3ub), wp.empty((count, height, width), dtype=wp.uint8)
    grid = (count, height, -(-width // span))
    wp.launch(warp_pixels_kernel, grid, inputs=[known, flow, hidden, plate, span], outputs=[out, holes])
    return out, holes


def _warp_by_opencv(known: wp.array, flow: wp.array, hidden: wp.array, plate: wp.array) -> tuple[wp.array, wp.array]:
    """The same on the CPU, where OpenCV's vector instructions are faster than a kernel; places are rounded to 1/32 pixel."""
    import cv2

    images, flows, fills = known.numpy(), flow.numpy(), plate.numpy()
    _, height, width = hidden.shape
    out, holes = np.empty((*hidden.shape, 3), np.uint8), np.empty(hidden.shape, bool)
    x, y = np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32)[:, None]
    how = cv2.INTER_LINEAR | cv2.WARP_RELATIVE_MAP
    for n, (image, d) in enumerate(zip(images, flows, strict=True)):
        cv2.remap(image, d, None, how, dst=out[n], borderMode=cv2.BORDER_REPLICATE)  # pyright: ignore[reportCallIssue, reportArgumentType]
        u, v = d[..., 0] + x, d[..., 1] + y
        inside = (u >= -0.5) & (v >= -0.5) & (u < image.shape[1] - 0.5) & (v < image.shape[0] - 0.5)
        np.logical_or(hidden.numpy()[n].view(bool), ~inside, out=holes[n])
        if len(fills):
            cv2.copyTo(fills[n % len(fills)], holes[n].view(np.uint8), out[n])
        else:
            out[n][holes[n]] = 0
    return wp.array(out, dtype=wp.vec3ub, copy=False), wp.array(holes.view(np.uint8), dtype=wp.uint8, copy=False)


def compose_flows(
    flow_ba: Any, occluded_ba: Any, flow_cb: Any, occluded_cb: Any, device: str = "cpu"
) -> tuple[np.ndarray, np.ndarray]:
    """Flow (N, H, W, 2) from frames c to frames a, and what of c is not seen in a, from those of c to b and of b to a.

    Args:
        flow_ba: From frame b to frame a (N, H, W, 2) [px].
        occluded_ba: Pixels of b that a does not show (N, H, W).
        flow_cb: From frame c to frame b (N, H, W, 2) [px].
        occluded_cb: Pixels of c that b does not show (N, H, W).
        device: Warp device.
    """
    single = np.ndim(occluded_cb) == 2
    with wp.ScopedDevice(device) as active:
        flows = [as_device(f, wp.vec2, 3) for f in (flow_ba, flow_cb)]
        hidden = [as_device(_bytes(o), wp.uint8, 3) for o in (occluded_ba, occluded_cb)]
        if any(f.shape != h.shape for f, h in zip(flows, hidden, strict=True)) or len(flows[0]) != len(flows[1]):
            raise InputError(
                f"Cannot compose flows of shapes {[f.shape for f in flows]} and occlusions {[h.shape for h in hidden]}."
            )
        count, height, width = flows[1].shape
        span = GPU_SPAN if active.is_cuda else width
        out, missing = wp.empty_like(flows[1]), wp.empty_like(hidden[1])
        inputs = [flows[0], hidden[0], flows[1], hidden[1], span]
        wp.launch(compose_flows_kernel, (count, height, -(-width // span)), inputs=inputs, outputs=[out, missing])
        flow, lost = out.numpy(), missing.numpy().view(bool)
    return (flow[0], lost[0]) if single else (flow, lost)


def _bytes(mask: Any) -> Any:
    return mask if isinstance(mask, wp.array) else np.ascontiguousarray(mask, dtype=bool).view(np.uint8)
