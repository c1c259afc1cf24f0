"""A picture of a region: how well the words fit each place of an object, over the photo."""

from __future__ import annotations

import numpy as np

from phototwin.frames import invert
from phototwin.images import load_ids, load_rgb
from phototwin.plan.keypoints import meet_surface
from phototwin.plan.region import HELD, Region
from phototwin.scene import Scene, SceneObject

DIM = 0.45
"""Of the photo around the object is left."""
MIX = 0.65
"""Of the colour that tells the score."""


def paint_region(scene: Scene, item: SceneObject, region: Region) -> np.ndarray:
    """The photo (H, W, 3) uint8, dim but for the object, which is blue where the words do not fit, over white at the threshold, to red."""
    rgb = load_rgb(scene.path(scene.photo))
    picture = DIM * rgb.astype(np.float64)
    number = [other.key for other in scene.objects].index(item.key) + 1
    rows, columns = np.nonzero(load_ids(scene.path(scene.masks)) == number)
    if len(rows):
        camera = scene.camera
        T_object_camera = invert(item.T_world_object) @ camera.T_world_camera
        pixels = np.stack([columns + 0.5, rows + 0.5, np.ones(len(rows))], 1)
        rays = pixels @ np.linalg.inv(camera.K_px).T @ T_object_camera[:3, :3].T
        rays /= np.linalg.norm(rays, axis=1, keepdims=True)
        points, normals, met = meet_surface(item.mesh, np.broadcast_to(T_object_camera[:3, 3], rays.shape), rays)
        own = rgb[rows, columns].astype(np.float64)
        own[met] = (1.0 - MIX) * own[met] + MIX * score_colors(region.at(points[met], normals[met]))
        picture[rows, columns] = own
    return np.clip(np.round(picture), 0, 255).astype(np.uint8)


def score_colors(score: np.ndarray) -> np.ndarray:
    """Colours (N, 3) in 0..255 of scores (N,): blue at 0, white at the threshold, red at 1."""
    x = np.clip((score - HELD) / (1.0 - HELD), -1.0, 1.0)[:, None]
    white, red, blue = np.array([255.0, 255.0, 255.0]), np.array([220.0, 20.0, 20.0]), np.array([20.0, 40.0, 220.0])
    return white + np.maximum(x, 0.0) * (red - white) + np.maximum(-x, 0.0) * (blue - white)
