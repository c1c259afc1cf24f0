"""Pictures of a twin and its maps, without a simulator."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from PIL import Image

from phototwin.frames import invert, make_T, rotation_z, transform
from phototwin.images import load_depth, load_ids, load_rgb
from phototwin.kernels.rasterize import rasterize
from phototwin.scene import Camera, Mesh, Scene

SUPERSAMPLING = 2
"""Rendered pixels per shown pixel and axis."""
EMPTY_RGB = (238, 238, 242)
"""What shows where the twin has nothing."""
GREY = 170
"""Colour of a mesh without a texture."""
PALETTE = np.array(
    [[230, 75, 60], [52, 152, 219], [46, 204, 113], [241, 196, 15], [155, 89, 182], [26, 188, 156], [230, 126, 34]],
    np.uint8,
)
"""Colours of object masks, repeated where there are more objects."""
MASK_OPACITY = 0.6
DEPTH_COLORS = np.array([[253, 231, 37], [94, 201, 98], [33, 145, 140], [59, 82, 139], [68, 1, 84]], np.float64)
"""Near to far. Source: the viridis map at fifths, reversed."""
UNKNOWN_RGB = (40, 40, 44)


def render_twin(scene: Scene, camera: Camera, over_photo: bool) -> np.ndarray:
    """The twin's meshes with their textures, seen by a camera, (H, W, 3) uint8.

    Args:
        scene: The twin.
        camera: Where from.
        over_photo: True draws the objects over the background image, which belongs to the photo's camera; False draws the
            background mesh, and nothing where there is none.
    """
    view = scaled_camera(camera, camera.width * SUPERSAMPLING)
    width, height = view.width, view.height
    meshes = [(item.mesh, item.T_world_object) for item in scene.objects]
    if over_photo:
        image = np.asarray(Image.fromarray(load_rgb(scene.path(scene.background_rgb))).resize((width, height)))
        image = image.copy()
    else:
        meshes.append((scene.background, np.eye(4)))
        image = np.broadcast_to(np.array(EMPTY_RGB, np.uint8), (height, width, 3)).copy()
    if not meshes:
        return np.asarray(Image.fromarray(image).resize((camera.width, camera.height), Image.Resampling.BOX))
    T_camera_world = invert(view.T_world_camera)
    points_c = [transform(T_camera_world, transform(T, mesh.points.astype(np.float64))) for mesh, T in meshes]
    first_point = np.cumsum([0, *(len(p) for p in points_c)])
    first_face = np.cumsum([0, *(len(mesh.faces) for mesh, _ in meshes)])
    faces = np.concatenate([mesh.faces + first for (mesh, _), first in zip(meshes, first_point[:-1], strict=True)])
    raster = rasterize(np.concatenate(points_c), faces, view.K_px, width, height)
    for k, (mesh, _) in enumerate(meshes):
        here = (raster.face >= first_face[k]) & (raster.face < first_face[k + 1])
        st = np.einsum("nk,nkc->nc", raster.bary[here], mesh.st[raster.face[here] - first_face[k]])
        image[here] = _texels(scene, mesh, st)
    small = (camera.width, camera.height)
    return np.asarray(Image.fromarray(image).resize(small, Image.Resampling.BOX))


def side_camera(scene: Scene, angle_rad: float) -> Camera:
    """The photo's camera moved around the objects, about the vertical."""
    centers = [item.T_world_object[:3, 3] for item in scene.objects]
    pivot = np.mean(centers, 0) if centers else np.append(scene.support.polygon_w.mean(0), 0.0)
    turn = make_T(np.eye(3), pivot) @ make_T(rotation_z(angle_rad), np.zeros(3)) @ make_T(np.eye(3), -pivot)
    return replace(scene.camera, T_world_camera=turn @ scene.camera.T_world_camera)


def scaled_camera(camera: Camera, width: int) -> Camera:
    """The same view with another width [px]."""
    height = max(round(camera.height * width / camera.width), 1)
    K_px = camera.K_px.copy()
    K_px[0] *= width / camera.width
    K_px[1] *= height / camera.height
    return Camera(K_px, width, height, camera.T_world_camera)


def overlay_masks(scene: Scene) -> np.ndarray:
    """The photo with each object's mask in its colour of ``PALETTE`` and a white outline, (H, W, 3) uint8."""
    photo, ids = load_rgb(scene.path(scene.photo)), load_ids(scene.path(scene.masks)).astype(int)
    color = PALETTE[(ids - 1) % len(PALETTE)]
    grey = photo.mean(-1, keepdims=True).repeat(3, -1) * 0.6 + 60
    out = np.where((ids > 0)[..., None], (1 - MASK_OPACITY) * photo + MASK_OPACITY * color, grey)
    edge = np.zeros(ids.shape, bool)
    for axis in (0, 1):
        step = np.diff(ids, axis=axis) != 0
        lead, trail = (slice(1, None), slice(None)), (slice(None, -1), slice(None))
        edge[lead[:: 1 - 2 * axis]] |= step
        edge[trail[:: 1 - 2 * axis]] |= step
    out[edge] = 255
    return out.astype(np.uint8)


def color_depth(scene: Scene) -> tuple[np.ndarray, tuple[float, float] | None]:
    """The depth map in colours, (H, W, 3) uint8, and the nearest and farthest depth shown [m]; None where nothing is known."""
    depth = load_depth(scene.path(scene.depth))
    known = depth > 0
    out = np.broadcast_to(np.array(UNKNOWN_RGB, np.uint8), (*depth.shape, 3)).copy()
    if not known.any():
        return out, None
    near, far = (float(v) for v in np.percentile(depth[known], (1, 99)))
    share = np.clip((depth[known] - near) / max(far - near, 1e-6), 0, 1) * (len(DEPTH_COLORS) - 1)
    channels = [np.interp(share, np.arange(len(DEPTH_COLORS)), DEPTH_COLORS[:, c]) for c in range(3)]
    out[known] = np.stack(channels, -1).astype(np.uint8)
    return out, (near, far)


def _texels(scene: Scene, mesh: Mesh, st: np.ndarray) -> np.ndarray:
    """Texture colours (n, 3) uint8 at coordinates (n, 2), nearest texel; (0, 0) is the lower left."""
    if mesh.texture is None:
        return np.full((len(st), 3), GREY, np.uint8)
    texture = load_rgb(scene.path(mesh.texture))
    height, width = texture.shape[:2]
    x = np.clip(np.floor(st[:, 0] * width).astype(int), 0, width - 1)
    y = np.clip(np.floor((1 - st[:, 1]) * height).astype(int), 0, height - 1)
    return texture[y, x]
