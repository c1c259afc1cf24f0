"""What every renderer hands to compositing, whichever it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, eq=False)
class Buffers:
    """What a renderer saw of robot and objects in N frames; arrays are numpy, CPU torch or Warp.

    Attributes:
        color: (N, H, W, 3 or 4) uint8 sRGB: base colour, or finished colour where ``lit``.
        depth_m: (N, H, W) float32 along the optical axis, 0 where nothing was hit [m].
        ids: (N, H, W) int32, 0 is nothing.
        normals_w: (N, H, W, 3) float32 unit normals, world frame; None only where ``lit``.
        robot_ids: Ids of the robot.
        object_ids: Ids of the objects, in the scene's order; -1 for one that the renderer does not know.
        lit: The colour holds light already: only shadow on the photo and grading are added.
        factor: What each object's colours are multiplied with in linear light, (O,); None for 1.
    """

    color: Any
    depth_m: Any
    ids: Any
    normals_w: Any | None
    robot_ids: tuple[int, ...]
    object_ids: tuple[int, ...]
    lit: bool = False
    factor: Any | None = None
