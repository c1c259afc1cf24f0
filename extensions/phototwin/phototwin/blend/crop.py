"""Fit the photo's camera to the frame size of the demonstrations: crop around what matters, then scale evenly."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from phototwin.errors import InputError
from phototwin.scene import Camera


@dataclass(frozen=True, eq=False)
class Crop:
    """A part of the photo and the camera that sees exactly that part.

    Attributes:
        camera: The camera of the cropped and scaled image.
        box_px: x_min, y_min, x_max, y_max in the photo, (4,) float64 [px]; edges may lie between pixels.
        note: What did not fit, one sentence; None where everything did.
    """

    camera: Camera
    box_px: np.ndarray
    note: str | None = None


def crop_camera(camera: Camera, resolution: tuple[int, int], focus_px: np.ndarray) -> Crop:
    """The largest part of the image with the shape of ``resolution``, placed so that the focus points are in it.

    Nothing is padded and nothing is stretched. The part is centred on the focus points as far as the image reaches; where
    they do not fit, it keeps as many as it can.

    Args:
        camera: The photo's camera.
        resolution: Width and height of the frames [px].
        focus_px: Points to keep, (N, 2) [px]; points outside the image (or not finite) do not count. May be empty.

    Raises:
        InputError: A side of ``resolution`` is not positive.
    """
    width, height = resolution
    if width < 1 or height < 1:
        raise InputError(f"The frame size is {width} x {height}: both sides must be at least 1 pixel.")
    scale = min(camera.width / width, camera.height / height)
    size = np.array([width, height]) * scale
    limit = np.array([camera.width, camera.height])
    focus_px = np.asarray(focus_px, dtype=np.float64).reshape(-1, 2)
    focus = focus_px[((focus_px >= 0) & (focus_px <= limit)).all(1)]  # comparisons with NaN are false
    corner = np.array([_place(focus[:, k], float(size[k]), float(limit[k])) for k in range(2)])
    box = np.concatenate([corner, corner + size])
    kept = int(((focus >= corner - 1e-6) & (focus <= corner + size + 1e-6)).all(1).sum())
    note = None
    if kept < len(focus):
        note = (
            f"{len(focus) - kept} of {len(focus)} points of interest lie outside the {width} x {height} frames, cut from "
            f"the {camera.width} x {camera.height} photo; a --resolution with the photo's proportions shows them."
        )
    K_px = camera.K_px.copy()
    K_px[:2, 2] -= corner
    K_px[:2] /= scale
    return Crop(Camera(K_px, width, height, camera.T_world_camera), box, note)


def resample_area(image: np.ndarray, box_px: np.ndarray, resolution: tuple[int, int]) -> np.ndarray:
    """``box_px`` of an image (H, W) or (H, W, C) at ``resolution`` (width, height), same dtype: means over the pixels' areas.

    Where the box is enlarged, the area is one source pixel wide, which is linear interpolation.
    """
    from scipy import sparse

    def weights(size: int, first: float, last: float, count: int) -> sparse.csr_array:
        step = (last - first) / count
        centers = first + (np.arange(count) + 0.5) * step
        low, high = centers - max(step, 1.0) / 2, centers + max(step, 1.0) / 2
        column = np.floor(low).astype(int)[:, None] + np.arange(int(np.ceil(max(step, 1.0))) + 1)
        overlap = np.minimum(high[:, None], column + 1) - np.maximum(low[:, None], column)
        value = np.where((column >= 0) & (column < size), np.maximum(overlap, 0.0), 0.0)
        value /= value.sum(1, keepdims=True)
        row = np.broadcast_to(np.arange(count)[:, None], column.shape)
        entries = (value.ravel(), (row.ravel(), np.clip(column, 0, size - 1).ravel()))
        return sparse.csr_array(sparse.coo_array(entries, shape=(count, size)))

    (width, height), channels = resolution, image.reshape(*image.shape[:2], -1).shape[2]
    x_min, y_min, x_max, y_max = box_px
    part = weights(image.shape[0], y_min, y_max, height) @ image.reshape(image.shape[0], -1).astype(np.float32)
    part = part.reshape(height, image.shape[1], channels).transpose(1, 0, 2).reshape(image.shape[1], -1)
    part = (weights(image.shape[1], x_min, x_max, width) @ part).reshape(width, height, channels).transpose(1, 0, 2)
    if np.issubdtype(image.dtype, np.integer):
        part = np.round(part)
    return np.ascontiguousarray(part).astype(image.dtype).reshape(height, width, *image.shape[2:])


def resample_nearest(image: np.ndarray, box_px: np.ndarray, resolution: tuple[int, int]) -> np.ndarray:
    """``box_px`` of an image (H, W, ...) at ``resolution`` (width, height) by the nearest pixel: for depth and ids."""
    width, height = resolution
    x_min, y_min, x_max, y_max = box_px
    x = np.floor(x_min + (np.arange(width) + 0.5) * (x_max - x_min) / width).astype(int)
    y = np.floor(y_min + (np.arange(height) + 0.5) * (y_max - y_min) / height).astype(int)
    return image[np.clip(y, 0, image.shape[0] - 1)[:, None], np.clip(x, 0, image.shape[1] - 1)]


def _place(points: np.ndarray, size: float, limit: float) -> float:
    """Where a window of ``size`` begins in [0, limit] to hold most of the points, and of those places the most central one."""
    if not len(points):
        return (limit - size) / 2
    center = (points.min() + points.max()) / 2 - size / 2
    starts = np.clip(np.concatenate([[center], points, points - size]), 0.0, limit - size)
    held = ((points >= starts[:, None] - 1e-6) & (points <= starts[:, None] + size + 1e-6)).sum(1)
    return float(min(zip(-held, np.abs(starts - center), starts, strict=True))[2])
