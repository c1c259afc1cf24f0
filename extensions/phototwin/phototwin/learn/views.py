"""Frames as a camera that is turned a little would take them: more cameras than there are demonstrations."""

from __future__ import annotations

import numpy as np

from phototwin.learn.demos import Demos


def turn_views(
    demos: Demos, frames: np.ndarray, most_deg: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Frames with the camera turned about its own centre, which needs no depth: x' ~ K R K^-1 x.

    What comes into view at the border repeats the border. What a robot is to do does not change, so that a policy must see from where it looks.

    Args:
        demos: Where the frames are from.
        frames: Which, (B,).
        most_deg: Each is turned by an even draw up to this about every axis; 0 for none.
        rng: Of the draws.

    Returns:
        Frames (B, h, w, 3) uint8, and their ``Demos.places`` and ``Demos.marks``.

    Source: Hartley and Zisserman, "Multiple View Geometry", 2004, section 8.4.2.
    """
    import cv2
    from scipy.spatial.transform import Rotation

    rgb, places, marks = demos.rgb[frames], demos.places[frames], demos.marks[frames]
    if not most_deg:
        return rgb, places, marks
    most = np.radians(most_deg)
    K = demos.K[np.searchsorted(demos.starts, frames, side="right") - 1]
    H = K @ Rotation.from_rotvec(rng.uniform(-most, most, (len(frames), 3))).as_matrix() @ np.linalg.inv(K)
    size = rgb.shape[1]
    # From -1..1 across the frame to OpenCV's pixels, whose middles are whole numbers.
    to_px = np.array([[size / 2, 0, (size - 1) / 2], [0, size / 2, (size - 1) / 2], [0, 0, 1]])
    H_px = to_px @ H @ np.linalg.inv(to_px)
    turned = [
        cv2.warpPerspective(frame, matrix, (size, size), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        for frame, matrix in zip(rgb, H_px, strict=True)
    ]
    return np.stack(turned), _turned(places, H), _turned(marks, H)


def _turned(points: np.ndarray, H: np.ndarray) -> np.ndarray:
    """Points (B, 2 N) after the homographies (B, 3, 3)."""
    xy = points.reshape(len(points), -1, 2)
    moved = np.einsum("bij,bnj->bni", H, np.concatenate([xy, np.ones_like(xy[..., :1])], -1))
    return (moved[..., :2] / moved[..., 2:]).reshape(points.shape).astype(np.float32)
