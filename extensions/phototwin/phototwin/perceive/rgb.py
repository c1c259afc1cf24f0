"""A photo without depth -> ``Maps``: camera, gravity, scale, support and objects, each from the best evidence there is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from phototwin.errors import InputError
from phototwin.frames import make_T
from phototwin.perceive.segment import segment_photo
from phototwin.perceive.vanishing import (
    FOCAL_PRIOR_HFOV_DEG,
    MIN_EXPLAINED,
    ManhattanFrame,
    camera_rotation,
    centred_K,
    detect_segments,
    focal_from_lines,
    manhattan_frame,
    pitch_roll,
    prior_focal,
)
from phototwin.scene import Maps, Photo

ASSUMED_HEIGHT_M = 0.5
"""Working value of the camera's height where nothing states it; only a unit, ``build`` rescales it."""
LINES_PX = 1280
"""Lines are detected on a copy with at most this longer side: finer ones are noise."""


@dataclass(frozen=True)
class RgbConfig:
    """How to read a photo without depth.

    Attributes:
        camera_height_m: Height of the camera above the support, where the user knows it [m].
        prior_pitch_deg: Tilt below the horizontal that is assumed where lines cannot tell it; people photograph a table at 30 to 45.
    """

    camera_height_m: float | None = None
    prior_pitch_deg: float = 35.0


def perceive_rgb(photo: Photo, config: RgbConfig) -> Maps:
    """Maps of a photo that came without depth.

    The world has the support at z = 0, the origin under the camera and +X the way it looks, unless the photo brings a pose.

    Raises:
        PerceptionError: The objects or the support cannot be told safely; the message names the hint that helps.
        InputError: The configured camera height is not positive.
    """
    if config.camera_height_m is not None and not (np.isfinite(config.camera_height_m) and config.camera_height_m > 0):
        raise InputError(f"The camera height must be a positive number of metres, got {config.camera_height_m}.")
    segments = _segments(photo)
    K_px, frame, intrinsics = _intrinsics(photo, segments)
    T_world_camera, gravity = _gravity(photo, config, segments, K_px, frame)
    T_world_camera, scale, metric = _scale(photo, config, T_world_camera)
    found = segment_photo(photo.rgb, photo.hints)
    notes = {"intrinsics": intrinsics, "gravity": gravity, "scale": scale, "segmentation": found.note}
    return Maps(
        photo.rgb, K_px, T_world_camera, None, found.support_mask, found.masks, found.names, metric, notes=notes
    )


def _segments(photo: Photo) -> np.ndarray:
    """Line segments (N, 4) in the photo's own pixels."""
    import cv2

    height, width = photo.rgb.shape[:2]
    scale = min(1.0, LINES_PX / max(height, width))
    size = (round(width * scale), round(height * scale))
    rgb = photo.rgb if scale == 1 else cv2.resize(photo.rgb, size, interpolation=cv2.INTER_AREA)
    return detect_segments(rgb) * np.tile([width / size[0], height / size[1]], 2)


def _intrinsics(photo: Photo, segments: np.ndarray) -> tuple[np.ndarray, ManhattanFrame | None, str]:
    """K (3, 3) [px], the frame that came with it (None where not tried), and where it is from."""
    height, width = photo.rgb.shape[:2]
    if photo.K_px is not None:
        return photo.K_px, None, f"Intrinsics from the {photo.K_source or 'photo'}."
    from_lines = focal_from_lines(segments, width, height) if photo.T_world_camera is None else None
    if from_lines is not None:
        focal_px, frame = from_lines
        return (
            centred_K(focal_px, width, height),
            frame,
            (
                f"Focal length {focal_px:.0f} px from the vanishing points of three orthogonal directions of lines (about 10 % uncertain)."
            ),
        )
    return (
        centred_K(prior_focal(width), width, height),
        None,
        (
            f"Focal length assumed: prior of {FOCAL_PRIOR_HFOV_DEG:.0f} deg horizontal field of view (neither camera file, EXIF nor lines tell it)."
        ),
    )


def _gravity(
    photo: Photo, config: RgbConfig, segments: np.ndarray, K_px: np.ndarray, frame: ManhattanFrame | None
) -> tuple[np.ndarray, str]:
    """T_world_camera with the assumed height, and how the vertical was found."""
    if photo.T_world_camera is not None:
        return photo.T_world_camera, "Camera pose given."
    frame = frame or manhattan_frame(segments, K_px)
    if frame is not None and frame.trusted:
        R = frame.R_world_camera
        source = f"lines: {frame.explained:.0%} of their length points to three orthogonal directions"
    else:
        R = camera_rotation(np.radians(config.prior_pitch_deg))
        why = (
            "too few lines"
            if frame is None
            else f"lines explain {frame.explained:.0%} or are ambiguous, {MIN_EXPLAINED:.0%} and one answer needed"
        )
        source = f"prior, not measured: {why}"
    pitch, roll = np.degrees(pitch_roll(R))
    T = make_T(R, np.array([0.0, 0.0, ASSUMED_HEIGHT_M]))
    return T, f"Camera tilted {pitch:.1f} deg down, rolled {roll:.1f} deg ({source})."


def _scale(photo: Photo, config: RgbConfig, T_world_camera: np.ndarray) -> tuple[np.ndarray, str, bool]:
    """The pose with its final height, where the scale is from, and whether it is metric."""
    if photo.T_world_camera is not None:
        return T_world_camera, "Camera pose given.", True
    if config.camera_height_m is None:
        return (
            T_world_camera,
            f"Not known yet: camera height set to {ASSUMED_HEIGHT_M} m until an anchor or a prior tells it.",
            False,
        )
    T = make_T(T_world_camera[:3, :3], np.array([0.0, 0.0, config.camera_height_m]))
    return T, f"Camera height {config.camera_height_m:g} m given.", True
