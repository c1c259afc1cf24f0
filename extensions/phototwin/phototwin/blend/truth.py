"""What frames show, as numbers: the depth and the owner of every pixel, by the rule by which they are composited."""

from __future__ import annotations

from typing import Any

import numpy as np

from phototwin.buffers import Buffers
from phototwin.kernels.composite import DEPTH_TOLERANCE_M, DEPTH_TOLERANCE_RELATIVE

ROBOT_LABEL = 255
"""Label of the robot's pixels; objects have their index in the scene + 1, everything else 0."""
FARTHEST_MM = 65535


def frame_truth(drawn: Buffers, behind_m: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Depth (N, H, W) uint16 [mm, 0 = unknown] and labels (N, H, W) uint8 of frames.

    An object has its label also where it stands still and is the photo's own picture.

    Args:
        drawn: What was rendered of robot and objects.
        behind_m: Depth of what stays of the photo, (H, W), 0 where nothing is known [m].
    """
    ids, z = _numpy(drawn.ids).astype(np.int64), _numpy(drawn.depth_m)
    in_front = z < behind_m + DEPTH_TOLERANCE_M + DEPTH_TOLERANCE_RELATIVE * behind_m
    owner = np.zeros(int(max([ids.max(initial=0), *drawn.robot_ids, *drawn.object_ids])) + 1, np.uint8)
    owner[list(drawn.robot_ids)] = ROBOT_LABEL
    for i, index in enumerate(drawn.object_ids):
        if index > 0:
            owner[index] = i + 1
    labels = np.where((z > 0) & ((behind_m <= 0) | in_front), owner[np.maximum(ids, 0)], 0).astype(np.uint8)
    depth_mm = 1000.0 * np.where(labels > 0, z, behind_m)
    return np.where(depth_mm < FARTHEST_MM, np.round(depth_mm), 0).astype(np.uint16), labels


def _numpy(value: Any) -> np.ndarray:
    return value.numpy() if hasattr(value, "numpy") else np.asarray(value)
