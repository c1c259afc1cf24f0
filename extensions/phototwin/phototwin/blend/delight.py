"""Take the photo's light out of an object's texture, so that it can be lit anew where the object goes."""

from __future__ import annotations

import numpy as np

from phototwin.frames import transform
from phototwin.kernels.casters import Casters
from phototwin.kernels.rasterize import rasterize
from phototwin.kernels.shadow import cast_shadows
from phototwin.kernels.srgb import linear_to_srgb, srgb_to_linear
from phototwin.light import Light, ambient_irradiance, source_irradiance
from phototwin.scene import Camera, Mesh
from phototwin.stage.shapes import corner_normals

SHADE_RANGE = (0.5, 2.0)
"""Light on one part of an object against its mean is believed within these limits: what lies beyond is more likely a wrong guess."""
SEEN_COSINE = 0.1
"""A texel more edge-on to the camera than this was not read there."""
BRIGHT_SHARE = 99.5
"""Percentile of the colours that is still kept below white: what is above it are highlights."""
SKIN_M = 0.002
"""Light is looked for from this far above the surface, or it would shade itself."""
COARSE_PX = 96
"""Light varies slowly: it is worked out on a texture of at most this side."""


def delight_texture(
    mesh: Mesh,
    texture: np.ndarray,
    T_world_object: np.ndarray,
    camera: Camera,
    light: Light,
    casters: Casters,
    T_world_parts: np.ndarray,
    weight: np.ndarray,
) -> tuple[np.ndarray, float, float]:
    """Base colours of an object, and what they, or the colours of the photo itself, have to be multiplied with.

    What the photo showed of a point is its colour times the light there, shadows included; where the photo did not see the object, its
    texture was continued from what it saw, so the mean light of the seen part is taken out there.

    Args:
        mesh: The object's surface with texture coordinates.
        texture: What the photo shows, (h, w, 3) uint8 sRGB.
        T_world_object: Where it stands in the photo, (4, 4).
        camera: The photo's camera.
        light: The photo's light.
        casters: What throws shadows.
        T_world_parts: Poses of all of it in the photo, (P, 4, 4).
        weight: Which of it was there, (P,) float.

    Returns:
        Colours (h, w, 3) uint8 sRGB; their factor, at least 1: under irradiance E a point shows ``factor * linear colour * E / pi``; and
        the factor with which the photo's own colours would do instead, the mean light taken out of them alone.
    """
    shade, mean = _texel_light(mesh, texture.shape[:2], T_world_object, camera, light, casters, T_world_parts, weight)
    color = srgb_to_linear(texture / 255.0) * np.pi / shade
    factor = max(1.0, float(np.percentile(color.max(-1), BRIGHT_SHARE)))
    return np.round(255 * linear_to_srgb(color / factor)).astype(np.uint8), factor, float(np.pi / mean.mean())


def light_texture(
    mesh: Mesh,
    color: np.ndarray,
    T_world_object: np.ndarray,
    camera: Camera,
    light: Light,
    casters: Casters,
    T_world_parts: np.ndarray,
    weight: np.ndarray,
) -> np.ndarray:
    """What a photo would show of base colours (h, w, 3) linear, as a texture (h, w, 3) uint8 sRGB: ``delight_texture`` the other way round.

    Arguments are those of ``delight_texture``.
    """
    shade, _ = _texel_light(mesh, color.shape[:2], T_world_object, camera, light, casters, T_world_parts, weight)
    return np.round(255 * linear_to_srgb(np.clip(color * shade / np.pi, 0.0, 1.0))).astype(np.uint8)


def _texel_light(
    mesh: Mesh,
    shape: tuple[int, ...],
    T_world_object: np.ndarray,
    camera: Camera,
    light: Light,
    casters: Casters,
    T_world_parts: np.ndarray,
    weight: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Irradiance (h, w, 3) that is believed of every texel, and its mean (3,) over those that the photo saw."""
    points_w, normals_w, known = texel_places(mesh, shape, T_world_object)
    shade, mean = np.full((*known.shape, 3), np.pi), np.full(3, np.pi)
    if known.any():
        irradiance = _irradiance(points_w, normals_w, light, casters, T_world_parts, weight)
        towards = camera.T_world_camera[:3, 3] - points_w
        towards /= np.maximum(np.linalg.norm(towards, axis=-1, keepdims=True), 1e-9)
        seen = known & ((towards * normals_w).sum(-1) > SEEN_COSINE)
        seen = seen if seen.any() else known
        mean = np.maximum(irradiance[seen].mean(0), 1e-3)
        shade = np.where(seen[..., None], np.clip(irradiance / mean, *SHADE_RANGE), 1.0) * mean
    return _enlarge(shade, shape), mean


def _irradiance(
    points_w: np.ndarray,
    normals_w: np.ndarray,
    light: Light,
    casters: Casters,
    T_world_parts: np.ndarray,
    weight: np.ndarray,
) -> np.ndarray:
    """Irradiance (h, w, 3) with the shadows of everything that stood there."""
    lifted_w = (points_w + SKIN_M * normals_w).astype(np.float32)
    blocked, _ = cast_shadows(casters, T_world_parts[None], weight[None], lifted_w, normals_w.astype(np.float32), light)
    lit = 1.0 - blocked.numpy()[0]
    return ambient_irradiance(light, normals_w) + lit[..., None] * source_irradiance(light, points_w, normals_w)


def texel_places(
    mesh: Mesh, shape: tuple[int, ...], T_world_object: np.ndarray, most_px: int = COARSE_PX
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """World points and normals of a grid of texels of at most that side, and which of them lie on the object."""
    height, width = (min(side, most_px) for side in shape)
    corners = mesh.st.reshape(-1, 2)
    flat = np.column_stack([corners[:, 0] * width, (1 - corners[:, 1]) * height, np.ones(len(corners))])
    faces = np.arange(len(corners)).reshape(-1, 3)
    # Charts may be mirrored in the texture: both sides are drawn.
    raster = rasterize(flat, faces, np.eye(3), width, height)
    known = raster.face >= 0
    places = transform(T_world_object, np.asarray(mesh.points, np.float64))
    face = np.maximum(raster.face, 0)
    points_w = np.einsum("hwk,hwkc->hwc", raster.bary, places[mesh.faces[face]])
    corner_w = corner_normals(places, mesh.faces).astype(np.float64)
    normals_w = np.einsum("hwk,hwkc->hwc", raster.bary, corner_w[face])
    normals_w /= np.maximum(np.linalg.norm(normals_w, axis=-1, keepdims=True), 1e-12)
    return points_w, np.where(known[..., None], normals_w, 0.0), known


def _enlarge(values: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    import cv2

    return cv2.resize(values, (shape[1], shape[0]), interpolation=cv2.INTER_LINEAR)
