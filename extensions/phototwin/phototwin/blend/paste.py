"""What frames look like elsewhere, to compare with: things pasted into the photo under a renderer's own light, or a plain simulator's picture."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from phototwin.blend.blend import Blender, Frames
from phototwin.blend.moving import draw_moving
from phototwin.blend.plate import Plate
from phototwin.blend.truth import frame_truth
from phototwin.kernels.shade import shade_frames
from phototwin.kernels.srgb import linear_to_srgb
from phototwin.light import ambient_irradiance, plain_light, source_irradiance

PLAIN_ALBEDO = 0.5
PLAIN_SKY = (200, 214, 229)
"""What a plain simulator has around its objects: grey surfaces, and a pale sky."""


def paste_frames(
    blender: Blender, T_world_owner: Mapping[str, np.ndarray], plain: bool = False, keep_raw: bool = False
) -> Frames:
    """Robot and objects as a renderer shows them, pasted pixel by pixel where they are in front: no shadow, no soft edge, no noise.

    Args:
        blender: The view; its light and its camera's signature are left out.
        T_world_owner: Poses (N, 4, 4) of every robot body and object by name.
        plain: Into grey surfaces and a sky instead of into the photo.
        keep_raw: Keep what was rendered beside what became of it, with depth and labels.
    """
    plate, moving, light = blender.plate, blender.moving, plain_light()
    drawn = draw_moving(moving, dict(T_world_owner), plate.camera)
    view = plate.camera
    lit = shade_frames(
        drawn.color, drawn.depth_m, drawn.normals_w, drawn.ids, None, light, view.T_world_camera, view.K_px
    )
    ids, depth_m = drawn.ids.numpy(), drawn.depth_m.numpy()
    front = (ids > 0) & ((plate.depth_m <= 0) | (depth_m < plate.depth_m))
    behind = plain_background(plate) if plain else plate.rgb
    rgb = np.where(front[..., None], lit.numpy(), behind)
    mask = np.where(front, 1 + ids % 255, 0).astype(np.uint8)
    if not keep_raw:
        return Frames(rgb, mask)
    raw = np.concatenate([drawn.color.numpy()[..., :3], np.where(ids > 0, 255, 0)[..., None].astype(np.uint8)], -1)
    return Frames(rgb, mask, None, raw, *frame_truth(drawn, plate.depth_m))


def plain_background(plate: Plate) -> np.ndarray:
    """The plate's surfaces in one grey under a plain light, (H, W, 3) uint8; where nothing is near, a sky."""
    import cv2

    light, normals_w = plain_light(), plate.normals_w
    from_all = ambient_irradiance(light, normals_w) + source_irradiance(light, plate.points_w, normals_w)
    srgb = linear_to_srgb(PLAIN_ALBEDO * from_all / np.pi)
    near = (normals_w != 0).any(-1, keepdims=True)
    small = np.where(near, np.round(255 * srgb), PLAIN_SKY).astype(np.uint8)
    return cv2.resize(small, (plate.camera.width, plate.camera.height), interpolation=cv2.INTER_NEAREST)
