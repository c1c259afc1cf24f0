"""A photo without depth -> ``Maps``: camera, gravity, scale, support and objects, each from the best evidence there is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from phototwin.errors import InputError
from phototwin.frames import make_T
from phototwin.perceive.segment import segment_photo
from phototwin.perceive.tilt import PITCH_SIGMA_DEG, ROLL_SIGMA_DEG, tilt_from_outlines
from phototwin.perceive.vanishing import (
    FOCAL_PRIOR_HFOV_DEG,
    FOCAL_SIGMA,
    ManhattanFrame,
    camera_rotation,
    centred_K,
    detect_segments,
    focal_from_lines,
    focal_sigma,
    manhattan_frame,
    pitch_roll,
    prior_focal,
)
from phototwin.scene import CameraSigma, Maps, Photo

ASSUMED_HEIGHT_M = 0.5
"""Working value of the camera's height where nothing states it; only a unit, ``build`` rescales it."""
PITCH_PER_FOCAL_DEG = 13.0
"""How far an error of the focal length (as a share) turns the tilt that outlines tell: 2 degrees for 15 %, on path-traced scenes."""
POSE_SIGMA_DEG, POSE_SCALE_SIGMA = 0.3, 0.015
"""Of a given camera pose; a hand-eye calibration among the captures is 9 mm off at 0.6 m."""
OVERRULED = 3.5
"""Standard deviations between what lines say and what was found, beyond which they were not believed."""
HEIGHT_SIGMA = 0.01
"""Of a given camera height as a share of it: where in the camera the lens centre sits is a guess."""
UNKNOWN_SCALE_SIGMA = 0.5
"""Of lengths in units of the working camera height."""
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
    K_px, frame, focal, intrinsics = _intrinsics(photo, segments)
    found = segment_photo(photo.rgb, photo.hints)
    T_world_camera, tilt_rad, gravity = _gravity(photo, config, segments, K_px, frame, found.masks, focal)
    T_world_camera, scale_sigma, scale, metric = _scale(photo, config, T_world_camera)
    return Maps(
        rgb=photo.rgb,
        K_px=K_px,
        T_world_camera=T_world_camera,
        depth_m=None,
        support_mask=found.support_mask,
        masks=found.masks,
        names=found.names,
        metric=metric,
        sigma=CameraSigma(focal, float(tilt_rad[0]), float(tilt_rad[1]), scale_sigma),
        notes={"intrinsics": intrinsics, "gravity": gravity, "scale": scale, "segmentation": found.note},
    )


def _segments(photo: Photo) -> np.ndarray:
    """Line segments (N, 4) in the photo's own pixels."""
    import cv2

    height, width = photo.rgb.shape[:2]
    scale = min(1.0, LINES_PX / max(height, width))
    size = (round(width * scale), round(height * scale))
    rgb = photo.rgb if scale == 1 else cv2.resize(photo.rgb, size, interpolation=cv2.INTER_AREA)
    return detect_segments(rgb) * np.tile([width / size[0], height / size[1]], 2)


def _intrinsics(photo: Photo, segments: np.ndarray) -> tuple[np.ndarray, ManhattanFrame | None, float, str]:
    """K (3, 3) [px], the frame that came with it (None where not tried), the focal length's sigma as a share, and where K is from."""
    height, width = photo.rgb.shape[:2]
    if photo.K_px is not None:
        return photo.K_px, None, focal_sigma(photo.K_source), f"Intrinsics from the {photo.K_source or 'photo'}."
    from_lines = focal_from_lines(segments, width, height) if photo.T_world_camera is None else None
    if from_lines is not None:
        focal_px, frame = from_lines
        sigma = FOCAL_SIGMA["lines"]
        note = f"Focal length {focal_px:.0f} px +- {100 * sigma:.0f} % from the vanishing points of three orthogonal directions of lines."
        return centred_K(focal_px, width, height), frame, sigma, note
    note = f"Focal length assumed: prior of {FOCAL_PRIOR_HFOV_DEG:.0f} deg horizontal field of view (neither camera file, EXIF nor lines tell it)."
    return centred_K(prior_focal(width), width, height), None, FOCAL_SIGMA["prior"], note


def _gravity(
    photo: Photo,
    config: RgbConfig,
    segments: np.ndarray,
    K_px: np.ndarray,
    frame: ManhattanFrame | None,
    masks: np.ndarray,
    focal_sigma: float,
) -> tuple[np.ndarray, np.ndarray, str]:
    """T_world_camera with the assumed height, the sigmas of pitch and roll (2,) [rad], and how the vertical was found."""
    if photo.T_world_camera is not None:
        return photo.T_world_camera, np.radians([POSE_SIGMA_DEG, POSE_SIGMA_DEG]), "Camera pose given."
    frame = frame or manhattan_frame(segments, K_px)
    trusted = frame if frame is not None and frame.trusted else None
    tilt = tilt_from_outlines(masks, K_px, segments, config.prior_pitch_deg, trusted)
    why = "too few" if frame is None else f"explain {frame.explained:.0%}, or more than one answer"
    if tilt is not None:
        by_focal = np.radians([PITCH_PER_FOCAL_DEG, PITCH_PER_FOCAL_DEG / 2]) * focal_sigma
        R, sigma_rad = camera_rotation(*tilt.angles_rad), np.hypot(tilt.sigma_rad, by_focal)
        source = f"{tilt.used} outline{'s' * (tilt.used > 1)} as upright boxes, round vessels and balls; lines: {why}"
        if trusted is not None:
            source = source.replace(f"lines: {why}", _lines_say(trusted, R))
    elif trusted is not None:
        R, sigma_rad = trusted.R_world_camera, trusted.sigma_rad
        source = f"lines: {trusted.explained:.0%} of their length points to three orthogonal directions"
    else:
        R = camera_rotation(np.radians(config.prior_pitch_deg))
        sigma_rad = np.radians([PITCH_SIGMA_DEG, ROLL_SIGMA_DEG])
        source = f"prior, not measured: no outline tells it; lines: {why}"
    (pitch, roll), (of_pitch, of_roll) = np.degrees(pitch_roll(R)), np.degrees(sigma_rad)
    T = make_T(R, np.array([0.0, 0.0, ASSUMED_HEIGHT_M]))
    words = f"Camera tilted {pitch:.1f} +- {of_pitch:.1f} deg down, rolled {roll:.1f} +- {of_roll:.1f} deg ({source})."
    return T, sigma_rad, words


def _lines_say(frame: ManhattanFrame, R_world_camera: np.ndarray) -> str:
    """What a trusted frame adds to the tilt that was found with it, or that it was overruled."""
    pitch = float(np.degrees(pitch_roll(frame.R_world_camera)[0]))
    off = abs(pitch - np.degrees(pitch_roll(R_world_camera)[0])) / np.degrees(frame.sigma_rad[0])
    verdict = f"overruled, they said {pitch:.1f} deg" if off > OVERRULED else "agree"
    return f"lines: {frame.explained:.0%} of their length points to three orthogonal directions, {verdict}"


def _scale(photo: Photo, config: RgbConfig, T_world_camera: np.ndarray) -> tuple[np.ndarray, float, str, bool]:
    """The pose with its final height, the scale's sigma as a share, where it is from, and whether it is metric."""
    if photo.T_world_camera is not None:
        return T_world_camera, POSE_SCALE_SIGMA, "Camera pose given.", True
    if config.camera_height_m is None:
        note = f"Not known yet: camera height set to {ASSUMED_HEIGHT_M} m until an anchor or a prior tells it."
        return T_world_camera, UNKNOWN_SCALE_SIGMA, note, False
    T = make_T(T_world_camera[:3, :3], np.array([0.0, 0.0, config.camera_height_m]))
    return T, HEIGHT_SIGMA, f"Camera height {config.camera_height_m:g} m given.", True
