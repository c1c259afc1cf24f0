"""Rendered buffers + photo -> photoreal frames."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from phototwin.kernels.composite import Light, composite, srgb_to_linear

__all__ = ["Light", "composite_frames", "match_exposure"]

SUPPORT_ALBEDO = 0.4
"""Reflectance assumed for the support surface: tables are mid-toned. What the photo shows of it then tells how much light there is."""
EXPOSURE_TRUST = 0.5
"""Exponent on the measured factor: a dark table in a bright room looks like a grey one in the dark, so half (in stops) is believed."""
EXPOSURE_RANGE = (0.6, 1.4)
"""Limits of the factor, so that a black or a white table leaves the robot visible."""
LUMINANCE = np.array([0.2126, 0.7152, 0.0722])
"""Weights of linear RGB in luminance. Source: ITU-R BT.709."""


def match_exposure(background: np.ndarray, support_mask: np.ndarray, light: Light | None = None) -> Light:
    """``light`` (default ``Light()``) scaled to the brightness of the photo.

    The support is a level surface: under ``light`` it would show the luminance ``SUPPORT_ALBEDO * (ambient + directional *
    cos)``, the photo shows its mean over ``support_mask``, and the light is scaled by their ratio (see ``EXPOSURE_TRUST``).

    Args:
        background: (H, W, 3) uint8 sRGB.
        support_mask: (H, W) bool; where it is empty, ``light`` comes back as it is.
        light: The light to scale.
    """
    light = light or Light()
    if not support_mask.any():
        return light
    measured = float((srgb_to_linear(background[support_mask] / 255.0) @ LUMINANCE).mean())
    direction = np.asarray(light.direction_w)
    cosine = max(float(direction[2] / np.linalg.norm(direction)), 0.0)
    expected = SUPPORT_ALBEDO * float((np.array(light.ambient) + cosine * np.array(light.directional)) @ LUMINANCE)
    factor = float(np.clip((measured / expected) ** EXPOSURE_TRUST, *EXPOSURE_RANGE))
    red, green, blue = (float(factor * c) for c in light.ambient)
    red_far, green_far, blue_far = (float(factor * c) for c in light.directional)
    return replace(light, ambient=(red, green, blue), directional=(red_far, green_far, blue_far))


def composite_frames(
    buffers: dict[str, Any],
    background: np.ndarray,
    background_depth_m: np.ndarray,
    light: Light,
    robot_ids: tuple[int, ...],
    object_ids: tuple[int, ...],
    device: str = "cpu",
) -> np.ndarray:
    """Frames (N, H, W, 3) uint8: what a renderer saw of robot and objects, in front of and behind what the photo shows.

    Args:
        buffers: "albedo" (N, H, W, 3|4) uint8, "depth" (N, H, W) [m] along the optical axis, "ids" (N, H, W) int32 and, if
            there are any, "normals" (N, H, W, 3) world; see ``phototwin.kernels.composite.composite``.
        background: (H, W, 3) uint8, the photo without its objects.
        background_depth_m: (H, W) float32, 0 is infinitely far [m].
        light: What shines on the robot, see ``match_exposure``.
        robot_ids: Ids of the robot, shaded by ``light``.
        object_ids: Ids of objects, whose textures hold the photo's light already.
        device: Warp device.

    Raises:
        InputError: Shapes that do not belong together.
    """
    return composite(
        buffers["albedo"],
        buffers["depth"],
        buffers.get("normals"),
        buffers["ids"],
        background,
        background_depth_m,
        light,
        robot_ids,
        object_ids,
        device,
    )
