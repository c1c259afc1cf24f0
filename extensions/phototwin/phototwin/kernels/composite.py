"""Composite shaded robots and objects into a photo: depth order, soft edges, shadows on what the photo shows.

Three passes, one thread per image row (a launch on the CPU runs its threads one after another, so a thread per pixel costs
more than the pixel itself). The first says which pixels show something drawn, the second how much light the photo's pixels
lose to the shadows, the third blends. Pixels that nothing drawn touches and no shadow darkens stay the photo, bit by bit.
"""

# Warp compiles the kernels itself; its Python stubs do not describe what is legal inside them.
# pyright: reportInvalidTypeForm=false, reportCallIssue=false, reportArgumentType=false, reportOperatorIssue=false
# pyright: reportIndexIssue=false, reportGeneralTypeIssues=false, reportAssignmentType=false

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import warp as wp

from phototwin.errors import InputError
from phototwin.kernels.plate_arrays import PlateArrays
from phototwin.kernels.srgb import decode3, encode3, to_warp, transfer_tables

DEPTH_TOLERANCE_M = 0.006
"""How far behind the photo's depth a surface still counts as in front: contact with the support, penetration, calibration."""
DEPTH_TOLERANCE_RELATIVE = 0.005
"""The same per metre of depth: noise of depth sensors grows with distance."""
FAINT = 0.01
"""A shadow that takes less of the light than this (a code of 255 in mid-grey) is none, or it would have no end; deeper ones are so much lighter."""
STILL_CODES = 2
"""A drawing that changed by no more codes than this has not changed: shadows are sampled, and light thrown back is faint."""
LEAST_RATIO = 0.02
"""No shadow is blacker: light comes back from everywhere."""


@wp.kernel(enable_backward=False)
def mark_drawn_kernel(  # noqa: D103
    # in
    color: wp.array2d(dtype=wp.vec3ub),
    depth_m: wp.array2d(dtype=float),
    ids: wp.array2d(dtype=wp.int32),
    roles: wp.array(dtype=wp.int32),
    share: wp.array2d(dtype=float),
    factor: wp.array(dtype=float),
    photo: wp.array2d(dtype=wp.vec3ub),
    rest: wp.array2d(dtype=wp.vec3ub),
    rest_owner: wp.array2d(dtype=wp.uint8),
    behind_m: wp.array2d(dtype=float),
    tolerance: wp.vec2,
    still: int,
    decode_table: wp.array(dtype=float),
    encode_table: wp.array(dtype=wp.uint8),
    # out
    shown_out: wp.array2d(dtype=wp.vec3ub),
    mask_out: wp.array2d(dtype=wp.uint8),
    span_out: wp.array(dtype=wp.vec2i),
) -> None:
    row = wp.tid()
    width = depth_m.shape[1]
    height = behind_m.shape[0]
    y = row % height
    frame = row // height
    first = width
    last = int(-1)  # noqa: RUF046, UP018 (a literal would be a constant to Warp)
    for x in range(width):
        index = ids[row, x]
        role = int(-1)  # noqa: RUF046, UP018
        if index > 0 and index < roles.shape[0]:
            role = roles[index]
        if role >= 0:
            z = depth_m[row, x]
            far = behind_m[y, x]
            if z > 0.0 and (far <= 0.0 or z < far + tolerance[0] + tolerance[1] * far):
                value = color[row, x]
                kept = float(0.0)  # noqa: UP018
                bright = float(1.0)  # noqa: UP018
                if role > 0:
                    kept = share[frame, role - 1]
                    bright = factor[role - 1]
                drawn = bool(True)  # noqa: UP018
                if kept == 0.0 and bright != 1.0:
                    value = encode3(bright * decode3(value, decode_table), encode_table)
                if kept > 0.0:
                    # A thing that has not moved is the photo's own picture of it, darker or brighter as its drawing is.
                    was = rest[y, x]
                    now = decode3(value, decode_table)
                    own = decode3(photo[y, x], decode_table)
                    same = rest_owner.shape[0] > 0
                    if same:
                        same = int(rest_owner[y, x]) == role
                    changed = bool(False)  # noqa: UP018
                    if same:
                        for c in range(3):
                            step = int(value[c]) - int(was[c])
                            step -= wp.clamp(step, -still, still)
                            if step != 0:
                                changed = True
                                before = decode_table[int(was[c])]
                                after = decode_table[int(was[c]) + step]
                                own[c] = own[c] * wp.min((after + 0.002) / (before + 0.002), 1.5)
                    drawn = changed or kept < 1.0
                    value = encode3(kept * own + (1.0 - kept) * bright * now, encode_table)
                if drawn:
                    shown_out[row, x] = value
                    mask_out[row, x] = wp.uint8(1 + index % 255)
                    first = wp.min(first, x)
                    last = x
    span_out[row] = wp.vec2i(first, last)


@wp.kernel(enable_backward=False)
def combine_shadows_kernel(  # noqa: D103
    # in
    blocked: wp.array2d(dtype=float),
    occluded: wp.array2d(dtype=float),
    source_share: wp.array2d(dtype=wp.vec3),
    rest_blocked: wp.array3d(dtype=float),
    rest_occluded: wp.array3d(dtype=float),
    share: wp.array2d(dtype=float),
    faint: float,
    least: float,
    # out
    ratio_out: wp.array2d(dtype=wp.vec3),
    span_out: wp.array(dtype=wp.vec2i),
) -> None:
    row = wp.tid()
    width = source_share.shape[1]
    height = source_share.shape[0]
    y = row % height
    frame = row // height
    first = width
    last = int(-1)  # noqa: RUF046, UP018
    for x in range(width):
        b = wp.max(blocked[row, x] - faint, 0.0) / (1.0 - faint)
        o = (occluded[row, x] - wp.clamp(occluded[row, x], -faint, faint)) / (1.0 - faint)
        ratio = wp.vec3(1.0, 1.0, 1.0)
        if b > 0.0 or o != 0.0:
            # Where the photo has a shadow already, less of its light comes from the source.
            lit = float(1.0)  # noqa: UP018
            open_sky = float(1.0)  # noqa: UP018
            for i in range(share.shape[1]):
                kept = share[frame, i]
                if kept > 0.0:
                    lit *= 1.0 - kept * rest_blocked[i, y, x]
                    open_sky *= 1.0 - kept * rest_occluded[i, y, x]
            k = source_share[y, x]
            for c in range(3):
                from_source = k[c] * lit
                part = from_source / wp.max(from_source + (1.0 - k[c]) * open_sky, 1.0e-4)
                ratio[c] = wp.max(1.0 - (1.0 - part) * o - part * b, least)
            first = wp.min(first, x)
            last = x
        ratio_out[row, x] = ratio
    span_out[row] = wp.vec2i(first, last)


@wp.func
def ratio_at(ratio: wp.array2d(dtype=wp.vec3), first_row: int, height: int, fx: float, fy: float):  # noqa: ANN201
    """The ratio between its samples, linearly."""
    x0 = int(wp.floor(fx))
    y0 = int(wp.floor(fy))
    tx = fx - float(x0)
    ty = fy - float(y0)
    x1 = wp.clamp(x0 + 1, 0, ratio.shape[1] - 1)
    y1 = first_row + wp.clamp(y0 + 1, 0, height - 1)
    x0 = wp.clamp(x0, 0, ratio.shape[1] - 1)
    y0 = first_row + wp.clamp(y0, 0, height - 1)
    upper = ratio[y0, x0] * (1.0 - tx) + ratio[y0, x1] * tx
    lower = ratio[y1, x0] * (1.0 - tx) + ratio[y1, x1] * tx
    return upper * (1.0 - ty) + lower * ty


@wp.func
def same_in_column(mask: wp.array2d(dtype=wp.uint8), above: int, row: int, below: int, x: int) -> int:
    """The mask's value at a pixel where those above and below are the same, else -1."""
    value = mask[row, x]
    found = int(value)
    if mask[above, x] != value or mask[below, x] != value:
        found = -1
    return found


@wp.kernel(enable_backward=False)
def blend_kernel(  # noqa: D103
    # in
    shown: wp.array2d(dtype=wp.vec3ub),
    mask: wp.array2d(dtype=wp.uint8),
    span: wp.array(dtype=wp.vec2i),
    ratio: wp.array2d(dtype=wp.vec3),
    ratio_span: wp.array(dtype=wp.vec2i),
    height: int,
    ratio_height: int,
    step: int,
    decode_table: wp.array(dtype=float),
    encode_table: wp.array(dtype=wp.uint8),
    # in and out: the photo, frame by frame
    image_out: wp.array2d(dtype=wp.vec3ub),
) -> None:
    row = wp.tid()
    width = mask.shape[1]
    y = row % height
    frame = row // height
    above = wp.where(y > 0, row - 1, row)
    below = wp.where(y < height - 1, row + 1, row)
    first = wp.min(wp.min(span[above][0], span[row][0]), span[below][0]) - 1
    last = wp.max(wp.max(span[above][1], span[row][1]), span[below][1]) + 1
    dark_first = width
    dark_last = int(-1)  # noqa: RUF046, UP018
    # Sample k stands for pixel k * step + step // 2.
    scale = 1.0 / float(step)
    offset = float(step // 2)
    fy = (float(y) - offset) * scale
    first_row = frame * ratio_height
    if ratio_height > 0:
        top = first_row + wp.max(int(wp.floor(fy)), 0)
        top = wp.min(top, first_row + ratio_height - 1)
        bottom = first_row + wp.clamp(int(wp.floor(fy)) + 1, 0, ratio_height - 1)
        low = wp.min(ratio_span[top][0], ratio_span[bottom][0])
        high = wp.max(ratio_span[top][1], ratio_span[bottom][1])
        if high >= 0:
            dark_first = wp.max((low - 1) * step, 0)
            dark_last = wp.min((high + 2) * step, width - 1)
            # Beyond the outermost samples their values go on.
            if low == 0:
                dark_first = 0
            if high == ratio.shape[1] - 1:
                dark_last = width - 1
    start = wp.max(wp.min(first, dark_first), 0)
    end = wp.min(wp.max(last, dark_last), width - 1)
    left = same_in_column(mask, above, row, below, wp.max(start - 1, 0))
    middle = same_in_column(mask, above, row, below, start)
    for x in range(start, end + 1):
        right = same_in_column(mask, above, row, below, wp.min(x + 1, width - 1))
        whole = middle >= 0 and left == middle and right == middle
        if whole and middle > 0:
            image_out[row, x] = shown[row, x]
        else:
            dark = wp.vec3(1.0, 1.0, 1.0)
            if x >= dark_first and x <= dark_last:
                dark = ratio_at(ratio, first_row, ratio_height, (float(x) - offset) * scale, fy)
            if whole:
                if dark[0] != 1.0 or dark[1] != 1.0 or dark[2] != 1.0:
                    image_out[row, x] = encode3(wp.cw_mul(dark, decode3(image_out[row, x], decode_table)), encode_table)
            else:
                value = wp.vec3(0.0, 0.0, 0.0)
                coverage = int(0)  # noqa: RUF046, UP018
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
                                value += float(weight) * decode3(shown[row, x], decode_table)
                            else:
                                value += float(weight) * decode3(shown[near_row, near_x], decode_table)
                value += float(16 - coverage) * wp.cw_mul(dark, decode3(image_out[row, x], decode_table))
                image_out[row, x] = encode3(value / 16.0, encode_table)
        left = middle
        middle = right


@wp.kernel(enable_backward=False)
def keep_photo_kernel(  # noqa: D103
    # in
    plate: wp.array2d(dtype=wp.vec3ub),
    photo: wp.array2d(dtype=wp.vec3ub),
    owners: wp.array2d(dtype=wp.uint8),
    share: wp.array2d(dtype=float),
    decode_table: wp.array(dtype=float),
    encode_table: wp.array(dtype=wp.uint8),
    # out
    image_out: wp.array2d(dtype=wp.vec3ub),
) -> None:
    row = wp.tid()
    height = plate.shape[0]
    y = row % height
    frame = row // height
    for x in range(plate.shape[1]):
        owner = int(owners[y, x])
        if owner > 0 and owner <= share.shape[1]:
            kept = share[frame, owner - 1]
            if kept >= 1.0:
                image_out[row, x] = photo[y, x]
            elif kept > 0.0:
                clear = decode3(plate[y, x], decode_table)
                value = kept * decode3(photo[y, x], decode_table) + (1.0 - kept) * clear
                image_out[row, x] = encode3(value, encode_table)


def composite(
    color: Any,
    depth_m: Any,
    ids: Any,
    plate: PlateArrays,
    robot_ids: Sequence[int],
    object_ids: Sequence[int],
    share: np.ndarray | None = None,
    blocked: Any | None = None,
    occluded: Any | None = None,
    factor: np.ndarray | None = None,
    comparable: bool = True,
) -> tuple[np.ndarray, np.ndarray]:
    """Photos with the drawn robot and objects in them, (N, H, W, 3) uint8, and what was drawn, (N, H, W) uint8: 0 nothing, else 1 + id % 255.

    A pixel shows what was drawn where its id is a robot's or an object's and its depth is not behind the photo's
    (``DEPTH_TOLERANCE_M`` and ``DEPTH_TOLERANCE_RELATIVE``). Where two ids, or an id and the photo, meet, the edge is
    softened by the tent filter (1 2 1) x (1 2 1) of their masks in linear light; a pixel counts with its own colour for all
    neighbours of its id, so textures stay sharp, and colours of what is not drawn never show. The photo's pixels lose the share of
    light that shadows take. Pixels with nothing drawn within one pixel and no shadow are the photo, bit by bit.

    An object that has not moved (``share`` 1) is the photo's own picture of it and of its shadow, times what its drawing has lost
    or won of light since; one that has moved (0) is drawn, and the photo has lost it.

    Args:
        color: Finished colours (N, H, W, 3) uint8 sRGB, numpy, CPU torch or Warp.
        depth_m: (N, H, W) or (N, H, W, 1) float32 along the optical axis, 0 where nothing was hit [m].
        ids: (N, H, W) or (N, H, W, 1) int32, 0 is nothing.
        plate: The photo with and without its objects.
        robot_ids: Ids of the robot.
        object_ids: Id of each of the plate's objects.
        share: How much each object still is the photo's, (N, O) float in 0..1; None where all are drawn.
        blocked: Share of the dominant source that what moved hides from the photo's pixels, (N, h, w) float32; None without shadows.
        occluded: The same of all other light, (N, h, w) float32; below 0 where bright things throw light back.
        factor: What each object's colours are multiplied with in linear light, (O,); None leaves them.
        comparable: Whether the plate's ``rest`` was drawn by what drew ``color``, so that their ratio is a change of light.

    Raises:
        InputError: Shapes that do not belong together.
    """
    device = plate.device
    height, width = plate.depth_m.shape
    count = int(color.shape[0])
    _check_shapes(color, depth_m, ids, plate, share, blocked, occluded)
    rows = count * height
    table_in, table_out = transfer_tables(device)
    objects = len(object_ids)
    share = np.zeros((count, objects)) if share is None else share
    factor_wp = wp.array(np.ones(objects) if factor is None else factor, dtype=wp.float32, device=device)
    share_wp = wp.array(share.astype(np.float32).reshape(count, objects), dtype=wp.float32, device=device)
    image = wp.empty((rows, width), dtype=wp.vec3ub, device=device)
    shown = wp.empty((rows, width), dtype=wp.vec3ub, device=device)
    mask = wp.zeros((rows, width), dtype=wp.uint8, device=device)
    span = wp.empty(rows, dtype=wp.vec2i, device=device)
    for i in range(count):
        wp.copy(image, plate.rgb, dest_offset=i * plate.rgb.size, count=plate.rgb.size)
    if share.any():
        kept = [plate.rgb, plate.photo, plate.owners, share_wp, table_in, table_out]
        wp.launch(keep_photo_kernel, dim=rows, inputs=kept, outputs=[image], device=device)
    marked = [
        to_warp(color, np.uint8, wp.vec3ub, device, (rows, width)),
        to_warp(depth_m, np.float32, wp.float32, device, (rows, width)),
        to_warp(ids, np.int32, wp.int32, device, (rows, width)),
        wp.array(_roles(robot_ids, object_ids), dtype=wp.int32, device=device),
        share_wp,
        factor_wp,
        plate.photo,
        plate.rest,
        plate.rest_owner if comparable else wp.empty((0, 0), dtype=wp.uint8, device=device),
        plate.depth_m,
        wp.vec2(DEPTH_TOLERANCE_M, DEPTH_TOLERANCE_RELATIVE),
        STILL_CODES,
        table_in,
        table_out,
    ]
    wp.launch(mark_drawn_kernel, dim=rows, inputs=marked, outputs=[shown, mask, span], device=device)
    ratio, ratio_span, ratio_height = _shadow_ratio(plate, share_wp, blocked, occluded, count)
    step = round(height / max(ratio_height, 1))
    blended = [shown, mask, span, ratio, ratio_span, height, ratio_height, step, table_in, table_out]
    wp.launch(blend_kernel, dim=rows, inputs=blended, outputs=[image], device=device)
    return image.numpy().reshape(count, height, width, 3), mask.numpy().reshape(count, height, width)


def _shadow_ratio(
    plate: PlateArrays, share: wp.array, blocked: Any | None, occluded: Any | None, count: int
) -> tuple[wp.array, wp.array, int]:
    """Share of its light (N * h, w) that each sample of the photo keeps, where each row has some that lose any, and h; 0 rows without shadows."""
    device = plate.device
    if blocked is None or occluded is None:
        return wp.empty((0, 0), dtype=wp.vec3, device=device), wp.empty(0, dtype=wp.vec2i, device=device), 0
    height, width = plate.source_share.shape
    ratio = wp.empty((count * height, width), dtype=wp.vec3, device=device)
    span = wp.empty(count * height, dtype=wp.vec2i, device=device)
    inputs = [
        to_warp(blocked, np.float32, wp.float32, device, (count * height, width)),
        to_warp(occluded, np.float32, wp.float32, device, (count * height, width)),
        plate.source_share,
        plate.rest_blocked,
        plate.rest_occluded,
        share,
        FAINT,
        LEAST_RATIO,
    ]
    wp.launch(combine_shadows_kernel, dim=count * height, inputs=inputs, outputs=[ratio, span], device=device)
    return ratio, span, height


def _roles(robot_ids: Sequence[int], object_ids: Sequence[int]) -> np.ndarray:
    """By id: -1 nothing of ours, 0 the robot, i + 1 object i."""
    roles = np.full(max([0, *robot_ids, *object_ids]) + 1, -1, dtype=np.int32)
    for i, index in enumerate(object_ids):
        if index > 0:
            roles[index] = i + 1
    roles[list(robot_ids)] = 0
    return roles


def _check_shapes(
    color: Any,
    depth_m: Any,
    ids: Any,
    plate: PlateArrays,
    share: np.ndarray | None,
    blocked: Any | None,
    occluded: Any | None,
) -> None:
    size = (int(color.shape[0]), *plate.depth_m.shape)
    small = (size[0], *plate.source_share.shape)
    got = {"color": (tuple(color.shape), (*size, 3))}
    got |= {"depth": (tuple(depth_m.shape)[:3], size), "ids": (tuple(ids.shape)[:3], size)}
    if share is not None:
        got["share"] = (share.shape, (size[0], plate.rest_blocked.shape[0]))
    if blocked is not None and occluded is not None:
        got |= {"blocked": (tuple(blocked.shape), small), "occluded": (tuple(occluded.shape), small)}
    wrong = [f"{name} {is_} where {due} was expected" for name, (is_, due) in got.items() if is_ != due]
    if wrong:
        raise InputError(f"Cannot composite: {', '.join(wrong)}.")
