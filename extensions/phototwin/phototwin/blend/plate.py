"""The plate: what of a photo stays when robot and objects move, at the size of the frames."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from phototwin.blend.crop import resample_area, resample_nearest
from phototwin.errors import InputError
from phototwin.frames import pixel_rays, support_depth, transform
from phototwin.images import load_depth, load_ids, load_rgb
from phototwin.scene import Camera, Scene

SUPPORT_BAND_M = 0.01
"""Background within this of the support plane is the support."""
SHADOW_STEP, SHADOW_COLUMNS = 2, 213
"""Shadows are worked out for every second pixel of every second row at least, and for so many in a row: they are smooth, and edges of things are not theirs."""


@dataclass(frozen=True, eq=False)
class Plate:
    """The still part of all frames.

    Attributes:
        camera: Its camera.
        rgb: The photo without its objects, (H, W, 3) uint8.
        photo: The photo, (H, W, 3) uint8.
        owners: i + 1 where the two differ because of object i, else 0, (H, W) uint8.
        depth_m: Depth of ``rgb``, (H, W) float32, 0 is infinitely far [m].
        points_w: What ``rgb`` shows at the ``sampled_pixels``, (h, w, 3) float32 [m].
        normals_w: Its unit normals, (h, w, 3) float32; zero where nothing is near.
        still: The camera is the photo's, so objects that stand where they stood are the photo's own picture of them.
    """

    camera: Camera
    rgb: np.ndarray
    photo: np.ndarray
    owners: np.ndarray
    depth_m: np.ndarray
    points_w: np.ndarray
    normals_w: np.ndarray
    still: bool = True


def make_plate(
    camera: Camera,
    rgb: np.ndarray,
    depth_m: np.ndarray,
    normals_w: np.ndarray | None = None,
    photo: np.ndarray | None = None,
    owners: np.ndarray | None = None,
    still: bool = True,
) -> Plate:
    """The plate of a picture with depth.

    Args:
        camera: Its camera.
        rgb: The photo without what moves, (H, W, 3) uint8.
        depth_m: Its depth (H, W), 0 is infinitely far [m].
        normals_w: Its unit normals (H, W, 3); None takes them from the depth, and straight up on the support.
        photo: The photo itself; None where it is ``rgb``.
        owners: For which object the two differ (H, W) uint8; None where they do not.
        still: False where the camera is not the photo's.

    Raises:
        InputError: Shapes that do not belong together.
    """
    shape = (camera.height, camera.width)
    for name, array in (("rgb", rgb), ("depth", depth_m), ("photo", photo), ("owners", owners), ("normals", normals_w)):
        if array is not None and array.shape[:2] != shape:
            raise InputError(f"The plate's {name} has {array.shape[:2]} rows and columns, its camera {shape}.")
    points_w, found_w = _surface(camera, depth_m)
    if normals_w is not None:
        middle = sampled_pixels(camera.width)
        found_w = normals_w[middle, middle]
    owners = np.zeros(shape, np.uint8) if owners is None else owners
    photo = rgb if photo is None else photo
    return Plate(
        camera,
        rgb,
        photo,
        complete_owners(owners, (photo != rgb).any(-1)),
        depth_m.astype(np.float32),
        points_w.astype(np.float32),
        found_w.astype(np.float32),
        still,
    )


def scene_plate(scene: Scene, camera: Camera, box_px: np.ndarray) -> Plate:
    """The plate of a twin.

    Args:
        scene: The twin.
        camera: Camera of the frames, see ``crop_camera``.
        box_px: What part of the photo it sees, (4,) [px].
    """
    size = (camera.width, camera.height)
    background = resample_area(load_rgb(scene.path(scene.background_rgb)), box_px, size)
    photo = resample_area(load_rgb(scene.path(scene.photo)), box_px, size)
    depth = resample_nearest(load_depth(scene.path(scene.background_depth)), box_px, size)
    owners = resample_nearest(load_ids(scene.path(scene.owners)), box_px, size)
    return make_plate(camera, background, depth, None, photo, owners)


def sampled_pixels(width: int) -> slice:
    """Rows, and columns, of an image so wide that shadows are worked out for."""
    step = max(SHADOW_STEP, round(width / SHADOW_COLUMNS))
    return slice(step // 2, None, step)


def _surface(camera: Camera, depth_m: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Points and normals of the pixels that shadows are worked out for, from depth."""
    import cv2

    middle = sampled_pixels(camera.width)
    rays_w = pixel_rays(camera.K_px, camera.width, camera.height) @ camera.T_world_camera[:3, :3].T
    plane = support_depth(camera.K_px, camera.T_world_camera, camera.width, camera.height)
    on_support = (np.abs(depth_m - plane) < SUPPORT_BAND_M)[middle, middle]
    depth = np.where(on_support, plane[middle, middle], depth_m[middle, middle])
    near = depth > 0
    rays_w = rays_w[middle, middle]
    points_w = transform(camera.T_world_camera, np.zeros(3)) + rays_w * depth[..., None]
    # Depth in whole millimetres makes steps: the slope is that of a smoothed surface.
    smooth = cv2.GaussianBlur(points_w, (0, 0), 1.5)
    down, right = np.gradient(smooth, axis=0), np.gradient(smooth, axis=1)
    normals_w = np.cross(down, right)
    normals_w /= np.maximum(np.linalg.norm(normals_w, axis=-1, keepdims=True), 1e-12)
    normals_w *= -np.sign((normals_w * rays_w).sum(-1, keepdims=True))
    normals_w[on_support] = (0.0, 0.0, 1.0)
    normals_w[~near] = 0.0
    return points_w, normals_w


def complete_owners(owners: np.ndarray, changed: np.ndarray) -> np.ndarray:
    """Owners of all changed pixels: one that has none (a border pixel that was averaged) has its nearest neighbour's."""
    import cv2

    if not (changed & (owners == 0)).any() or not owners.any():
        return owners
    _, label = cv2.distanceTransformWithLabels(
        (owners == 0).astype(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )
    of_label = np.zeros(label.max() + 1, np.uint8)
    of_label[label[owners > 0]] = owners[owners > 0]
    return np.where(changed, of_label[label], owners).astype(np.uint8)
