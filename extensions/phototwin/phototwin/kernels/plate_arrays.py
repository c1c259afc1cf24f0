"""The still part of all frames, put on a device once: what ``composite`` blends into."""

# Warp's Python stubs do not describe its array types.
# pyright: reportInvalidTypeForm=false, reportCallIssue=false, reportArgumentType=false

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import warp as wp

from phototwin.errors import InputError


@dataclass(frozen=True, eq=False)
class PlateArrays:
    """The still part of all frames, on a device; made once by ``make_plate_arrays``."""

    device: str
    rgb: wp.array
    photo: wp.array
    owners: wp.array
    depth_m: wp.array
    rest: wp.array
    rest_owner: wp.array
    source_share: wp.array
    rest_blocked: wp.array
    rest_occluded: wp.array


def make_plate_arrays(
    rgb: np.ndarray,
    photo: np.ndarray,
    owners: np.ndarray,
    depth_m: np.ndarray,
    rest: np.ndarray,
    rest_owner: np.ndarray,
    source_share: np.ndarray,
    rest_blocked: np.ndarray,
    rest_occluded: np.ndarray,
    device: str = "cpu",
) -> PlateArrays:
    """The still part of all frames for ``composite``.

    Args:
        rgb: The photo without its O objects, (H, W, 3) uint8.
        photo: The photo, (H, W, 3) uint8.
        owners: i + 1 where the two differ because of object i, else 0, (H, W) uint8; there is nothing where an object is not among the O.
        depth_m: Depth of ``rgb`` (H, W) float32, 0 is infinitely far [m].
        rest: How the objects are drawn where they stand in the photo, (H, W, 3) uint8.
        rest_owner: i + 1 where that shows object i, (H, W) uint8.
        source_share: Share of the dominant source in the light on what ``rgb`` shows, (h, w, 3) float32, at every ``step``-th pixel from
            ``step // 2`` on, ``step`` being H / h.
        rest_blocked: Share of the source that each object hides where it stands in the photo, (O, h, w) float32.
        rest_occluded: The same of all other light, (O, h, w) float32.
        device: Warp device.

    Raises:
        InputError: Shapes that do not belong together.
    """
    height, width = depth_m.shape
    small = source_share.shape[:2]
    for name, array, shape in (
        ("rgb", rgb, (height, width, 3)),
        ("photo", photo, (height, width, 3)),
        ("owners", owners, (height, width)),
        ("rest", rest, (height, width, 3)),
        ("rest_owner", rest_owner, (height, width)),
        ("source_share", source_share, (*small, 3)),
        ("rest_blocked", rest_blocked, (len(rest_blocked), *small)),
        ("rest_occluded", rest_occluded, (len(rest_blocked), *small)),
    ):
        if array.shape != shape:
            raise InputError(f"Cannot composite: '{name}' has shape {array.shape}, expected {shape}.")

    def put(array: np.ndarray, np_type: Any, wp_type: Any) -> wp.array:
        return wp.array(np.ascontiguousarray(array, dtype=np_type), dtype=wp_type, device=device)

    return PlateArrays(
        device,
        put(rgb, np.uint8, wp.vec3ub),
        put(photo, np.uint8, wp.vec3ub),
        put(owners, np.uint8, wp.uint8),
        put(depth_m, np.float32, wp.float32),
        put(rest, np.uint8, wp.vec3ub),
        put(rest_owner, np.uint8, wp.uint8),
        put(source_share, np.float32, wp.vec3),
        put(rest_blocked, np.float32, wp.float32),
        put(rest_occluded, np.float32, wp.float32),
    )
