"""Frames that look otherwise than the photo: other light, another table, another background, another paint on the robot."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from phototwin.blend.moving import MovingParts
from phototwin.blend.plate import SUPPORT_BAND_M, Plate, make_plate
from phototwin.frames import pixel_rays, support_depth
from phototwin.kernels.draw import recolored
from phototwin.kernels.srgb import linear_to_srgb, srgb_to_linear
from phototwin.light import Light, ambient_irradiance, source_irradiance
from phototwin.pattern import pattern_gain
from phototwin.scene import Camera, Support, depth_inside

PATTERN_M = 0.08
"""Distance between the marks of a pattern on the support."""
MOST_RELIGHT = 3.0
"""A photo's pixel gets at most so much brighter, or darker, when its light changes: further off it would be all noise, or black."""
SUPPORT_SLACK = 0.01
"""Share of its distance by which the depth of the support may be off."""
BORDER_SHARE = 1 / 320
"""Width of the border between support and background, in image widths: neither depth nor mask is finer."""


@dataclass(frozen=True, eq=False)
class Style:
    """How the still part of frames differs from the photo; the defaults change nothing.

    Attributes:
        table_rgb: Factor of the support's colour, linear RGB, (3,).
        pattern: Contrast of a pattern on the support.
        pattern_seed: Which pattern.
        background_rgb: Factor of the colour of all that is not the support, (3,).
        blur: Blur of it, standard deviation in image widths.
        picture: What replaces it, (h, w, 3) uint8, or None.
        light_on_photo: Share of a change of light that the photo's own pixels follow.
    """

    table_rgb: tuple[float, float, float] = (1.0, 1.0, 1.0)
    pattern: float = 0.0
    pattern_seed: int = 0
    background_rgb: tuple[float, float, float] = (1.0, 1.0, 1.0)
    blur: float = 0.0
    picture: np.ndarray | None = None
    light_on_photo: float = 0.0


def change_light(light: Light, turn_rad: np.ndarray, all_rgb: np.ndarray, source: float) -> Light:
    """A light whose source is turned about the scene and whose strengths are multiplied.

    Args:
        light: The photo's.
        turn_rad: Rotation vector of the source, world frame, (3,).
        all_rgb: Factor of all light, linear RGB, (3,).
        source: Further factor of the source alone.
    """
    from scipy.spatial.transform import Rotation

    return replace(
        light,
        sh=light.sh * all_rgb,
        direction_w=Rotation.from_rotvec(turn_rad).apply(light.direction_w),
        irradiance=light.irradiance * all_rgb * source,
    )


def restyle_plate(plate: Plate, support: Support, style: Style, before: Light, now: Light) -> Plate:
    """The plate in another style and light; what it shows of objects is not in it any more, so all of them are drawn.

    Args:
        plate: The photo's, or one of a moved camera.
        support: The twin's.
        style: How it shall look.
        before: The photo's light.
        now: The light there shall be.
    """
    linear = srgb_to_linear(plate.rgb / 255.0)
    share = support_share(plate.camera, plate.depth_m, support)[..., None]
    table = linear * np.array(style.table_rgb) * _pattern(plate.camera, style)[..., None]
    linear = share * table + (1.0 - share) * _background(linear, share, style)
    if style.light_on_photo > 0:
        linear = linear * _light_ratio(plate, before, now) ** style.light_on_photo
    codes = np.round(255 * linear_to_srgb(np.clip(linear, 0.0, 1.0))).astype(np.uint8)
    # What nothing has touched keeps its very bytes.
    same = np.abs(linear - srgb_to_linear(plate.rgb / 255.0)).max(-1, keepdims=True) < 1e-9
    return make_plate(plate.camera, np.where(same, plate.rgb, codes), plate.depth_m, still=False)


def support_share(camera: Camera, depth_m: np.ndarray, support: Support) -> np.ndarray:
    """How much of each pixel shows the support, (H, W) float in 0..1, from depth (H, W) [m]: what lies in its plane and hangs together with its outline."""
    import cv2

    points_w, plane = _on_plane(camera)
    on = np.abs(depth_m - plane) < SUPPORT_BAND_M + SUPPORT_SLACK * depth_m
    on &= depth_m > 0
    size = max(3, 2 * round(camera.width * BORDER_SHARE) + 1)
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size))
    closed = cv2.morphologyEx(on.astype(np.uint8), cv2.MORPH_CLOSE, kernel)
    _, label = cv2.connectedComponents(cv2.morphologyEx(closed, cv2.MORPH_OPEN, kernel))
    known = (depth_inside(support.polygon_w, points_w[..., :2]) > 0) & np.isfinite(plane)
    wanted = np.unique(label[known & (label > 0)])
    clean = np.isin(label, wanted).astype(np.float32)
    return cv2.GaussianBlur(clean, (0, 0), max(0.5, camera.width * BORDER_SHARE)).astype(np.float64)


def paint_robot(moving: MovingParts, gain_rgb: np.ndarray) -> MovingParts:
    """What moves, with the robot's colours multiplied by (3,) in linear light, at most white."""
    robot = set(moving.robot_ids)

    def paint(color_rgb: np.ndarray) -> np.ndarray:
        return linear_to_srgb(np.clip(srgb_to_linear(np.asarray(color_rgb)) * gain_rgb, 0.0, 1.0))

    parts = tuple(replace(p, color_rgb=paint(p.color_rgb)) if p.id in robot else p for p in moving.parts)
    draw_list = recolored(moving.draw_list, np.array([p.color_rgb for p in parts]))
    return replace(moving, parts=parts, draw_list=draw_list)


def _pattern(camera: Camera, style: Style) -> np.ndarray:
    """Factors (H, W) of the pattern that lies on the support plane."""
    if style.pattern == 0.0:
        return np.ones((camera.height, camera.width))
    points_w, plane = _on_plane(camera)
    gain = pattern_gain(points_w, PATTERN_M, style.pattern, style.pattern_seed)
    return np.where(np.isfinite(plane), gain, 1.0)


def _on_plane(camera: Camera) -> tuple[np.ndarray, np.ndarray]:
    """Where each pixel's ray meets the support plane, (H, W, 3) [m], and the depth there (H, W), inf where it does not."""
    plane = support_depth(camera.K_px, camera.T_world_camera, camera.width, camera.height)
    rays_w = pixel_rays(camera.K_px, camera.width, camera.height) @ camera.T_world_camera[:3, :3].T
    return camera.T_world_camera[:3, 3] + rays_w * np.where(np.isfinite(plane), plane, 0.0)[..., None], plane


def _background(linear: np.ndarray, share: np.ndarray, style: Style) -> np.ndarray:
    """What the pixels show that are not the support, (H, W, 3) linear."""
    import cv2

    height, width = linear.shape[:2]
    if style.picture is not None:
        grow = max(width / style.picture.shape[1], height / style.picture.shape[0])
        size = [
            max(low, round(side * grow)) for side, low in zip(style.picture.shape[1::-1], (width, height), strict=True)
        ]
        large = cv2.resize(style.picture, size, interpolation=cv2.INTER_AREA)
        left, top = (size[0] - width) // 2, (size[1] - height) // 2
        linear = srgb_to_linear(large[top : top + height, left : left + width] / 255.0)
    linear = linear * np.array(style.background_rgb)
    if style.blur > 0:
        # The support does not bleed into it.
        weight = 1.0 - share if style.picture is None else np.ones_like(share)
        both = np.concatenate([linear * weight, weight], -1)
        blurred = cv2.GaussianBlur(both, (0, 0), style.blur * width)
        seen = blurred[..., 3:] > 1e-3
        linear = np.where(seen, blurred[..., :3] / np.maximum(blurred[..., 3:], 1e-3), linear)
    return linear


def _light_ratio(plate: Plate, before: Light, now: Light) -> np.ndarray:
    """How much more light falls on what each pixel shows, (H, W, 3); shadows are left as they are in the photo."""
    import cv2

    normals = plate.normals_w.astype(np.float64)
    # What is far has no normal: it gets as much more as a level place in the middle.
    far = ~(normals != 0).any(-1)
    normals[far] = (0.0, 0.0, 1.0)
    points = np.where(far[..., None], before.center_w, plate.points_w)

    def all_light(light: Light) -> np.ndarray:
        return ambient_irradiance(light, normals) + source_irradiance(light, points, normals)

    ratio = all_light(now) / np.maximum(all_light(before), 1e-3)
    ratio = np.clip(ratio, 1.0 / MOST_RELIGHT, MOST_RELIGHT).astype(np.float32)
    height, width = plate.rgb.shape[:2]
    return cv2.resize(ratio, (width, height), interpolation=cv2.INTER_LINEAR).astype(np.float64)
