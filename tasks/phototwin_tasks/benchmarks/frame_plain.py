"""Shading, shadow and compositing as one writes them with numpy, torch and OpenCV: what the kernels are measured against."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from phototwin.blend.plate import Plate, sampled_pixels
from phototwin.buffers import Buffers
from phototwin.frames import pixel_rays, transform
from phototwin.kernels.casters import Casters
from phototwin.kernels.composite import (
    DEPTH_TOLERANCE_M,
    DEPTH_TOLERANCE_RELATIVE,
    FAINT,
    LEAST_RATIO,
    PlateArrays,
)
from phototwin.kernels.shade import AGREE, GRAZING, ODD, ROUGHNESS, SAME_DEPTH, SPECULAR, TURNED
from phototwin.kernels.srgb import ENCODE_STEPS, linear_to_srgb, srgb_to_linear
from phototwin.light import SH_COSINE, Light
from phototwin.scene import Camera

DISC_POINTS = 8
"""Points of the source that the plain shadow is thrown from, as many as the kernel's rays."""


@cache
def tables() -> tuple[np.ndarray, np.ndarray]:
    """8-bit sRGB to linear, and linear in steps to 8-bit sRGB."""
    decode = srgb_to_linear(np.arange(256) / 255.0).astype(np.float32)
    encode = np.round(linear_to_srgb(np.linspace(0.0, 1.0, ENCODE_STEPS)) * 255.0).astype(np.uint8)
    return decode, encode


def shade_plain(library: str, drawn: Buffers, visibility: np.ndarray, light: Light, camera: Camera) -> np.ndarray:
    """``shade_frames`` on the covered pixels alone, by "numpy" or "torch"."""
    if library == "torch":
        import torch

        xp: Any = torch
        put = torch.from_numpy
    else:
        xp, put = np, np.asarray
    covered = np.asarray(drawn.ids) > 0
    rays = pixel_rays(camera.K_px, camera.width, camera.height) @ camera.T_world_camera[:3, :3].T
    rays = np.broadcast_to(rays.astype(np.float32), (*covered.shape, 3))[covered]
    normals = np.asarray(_calm(xp, *(put(np.asarray(v)) for v in (drawn.normals_w, drawn.depth_m, drawn.ids))))
    parts = (np.asarray(v)[covered] for v in (normals, drawn.depth_m, visibility))
    decode, encode = (put(v) for v in tables())
    base = decode[put(np.asarray(drawn.color)[covered].astype(np.int64))]
    eye = camera.T_world_camera[:3, 3].astype(np.float32)
    normals, depth, seen = (put(v) for v in parts)
    value = _radiance(xp, put, base, put(rays), normals, depth, seen, light, eye)
    codes = encode[_whole(xp, value.clip(0.0, 1.0) * (ENCODE_STEPS - 1) + 0.5)]
    out = np.zeros((*covered.shape, 3), np.uint8)
    out[covered] = np.asarray(codes)
    return out


def _calm(xp: Any, normals: Any, depth: Any, ids: Any) -> Any:
    """Normals (N, H, W, 3) in which slivers of a pixel have the mean of neighbours that agree more with each other than with it."""
    out, open_ = xp.zeros_like(normals) + normals, xp.zeros_like(ids) > 0
    open_[:, 1:-1, 1:-1] = True
    for dy, dx in ((0, 1), (1, 0), (1, 1), (1, -1)):
        (a, da, ia), (b, db, ib) = (
            [xp.roll(v, (k * dy, k * dx), (1, 2)) for v in (normals, depth, ids)] for k in (-1, 1)
        )
        alike = (a * b).sum(-1)
        odd = open_ & (ia > 0) & (ib > 0) & (alike > AGREE)
        odd &= ((normals * a).sum(-1) < alike - ODD) & ((normals * b).sum(-1) < alike - ODD)
        odd &= (abs(da - depth) < SAME_DEPTH * depth) & (abs(db - depth) < SAME_DEPTH * depth)
        mean = a[odd] + b[odd]
        out[odd] = mean / xp.sqrt((mean * mean).sum(-1))[:, None]
        open_ &= ~odd
    return out


def _whole(xp: Any, value: Any) -> Any:
    return value.astype(np.int64) if xp is np else value.long()


def _radiance(
    xp: Any, put: Any, base: Any, rays: Any, normals: Any, depth: Any, visibility: Any, light: Light, eye: np.ndarray
) -> Any:
    """Linear colours (M, 3) of pixels with linear base colours (M, 3)."""
    view = -rays / xp.sqrt((rays * rays).sum(-1))[:, None]
    cosine = (normals * view).sum(-1)[:, None]
    normals = xp.where(cosine < TURNED, -normals, normals + (GRAZING - cosine).clip(0.0) * view)
    normals = normals / xp.sqrt((normals * normals).sum(-1))[:, None]
    nv = (normals * view).sum(-1)[:, None]
    r0, alpha = 1.0 - ROUGHNESS, ROUGHNESS**2
    a = xp.exp(-6.4324 * nv).clip(None, r0 * r0) * r0 + 0.0425 - 0.0275 * ROUGHNESS
    scale = -1.04 * a + (1.04 - 0.572 * ROUGHNESS)
    mirror = (SPECULAR * scale + 1.04 * a + (0.022 * ROUGHNESS - 0.04)).clip(0.0, 1.0)
    blur = np.exp(-(alpha**2) * np.array([0, 1, 1, 1, 4, 4, 4, 4, 4.0]))
    sh = [put((light.sh * factor[:, None]).astype(np.float32)) for factor in (SH_COSINE, blur)]
    ambient = (_basis(xp, normals) @ sh[0]).clip(0.0) * visibility[:, 1:]
    gloss = mirror * visibility[:, 1:] * (_basis(xp, 2.0 * nv * normals - view) @ sh[1]).clip(0.0)
    towards, strength = put(light.direction_w.astype(np.float32)), visibility[:, :1]
    if np.isfinite(light.distance_m):
        place = light.center_w + light.distance_m * light.direction_w
        away = put(place.astype(np.float32)) - (put(eye) + depth[:, None] * rays)
        far = xp.sqrt((away * away).sum(-1))[:, None]
        towards, strength = away / far, strength * (light.distance_m / far) ** 2
    nl = (normals * towards).sum(-1)[:, None].clip(0.0)
    arriving = strength * nl * put(light.irradiance.astype(np.float32))
    half = view + towards
    half = half / xp.sqrt((half * half).sum(-1))[:, None]
    nh, vh = (normals * half).sum(-1)[:, None], (view * half).sum(-1)[:, None].clip(0.0)
    wide = min(alpha + 0.5 * np.tan(light.half_angle_rad), 1.0)
    fresnel = SPECULAR + (1.0 - SPECULAR) * (1.0 - vh) ** 5
    both = 2.0 * nl * nv
    shine = fresnel * wide**2 / (nh * nh * (wide**2 - 1.0) + 1.0) ** 2 * 0.5 / (both + wide * (nl + nv - both))
    return (1.0 - mirror) / np.pi * base * (ambient + arriving) + gloss + shine / np.pi * arriving


def _basis(xp: Any, d: Any) -> Any:
    x, y, z = d[:, 0], d[:, 1], d[:, 2]
    one = 0.282095 + 0.0 * x
    square = [1.092548 * x * y, 1.092548 * y * z, 0.315392 * (3 * z * z - 1), 1.092548 * x * z]
    return xp.stack([one, 0.488603 * y, 0.488603 * z, 0.488603 * x, *square, 0.546274 * (x * x - y * y)], -1)


def shadow_opencv(
    casters: Casters, T_world_parts: np.ndarray, weight: np.ndarray, plate: Plate, light: Light
) -> tuple[np.ndarray]:
    """Hidden share of the source (N, h, w) on the support plane: every triangle is thrown onto it from points of the source, and filled.

    That is exact for the plane, and for nothing else that the photo shows.
    """
    import cv2

    height, width = plate.points_w.shape[:2]
    view = plate.camera
    to_image = view.K_px @ np.linalg.inv(view.T_world_camera)[:3]
    out = np.zeros((len(T_world_parts), height, width), np.float32)
    place = light.center_w + min(light.distance_m, 1e3) * light.direction_w
    side = np.cross(light.direction_w, [0.0, 1.0, 0.0])
    side /= np.linalg.norm(side)
    radius = min(light.distance_m, 1e3) * np.tan(light.half_angle_rad)
    meshes = [(m.points.numpy(), m.indices.numpy().reshape(-1, 3)) for m in casters.meshes]
    for n, T in enumerate(T_world_parts):
        triangles = [transform(T[p], points)[faces] for p, (points, faces) in enumerate(meshes) if weight[n, p] > 0]
        corners = np.concatenate(triangles)
        corners = corners[(corners[..., 2] > 0).all(1)]
        for k in range(DISC_POINTS):
            angle, reach = 2.39996 * k, radius * np.sqrt((k + 0.5) / DISC_POINTS)
            across = np.cos(angle) * side + np.sin(angle) * np.cross(light.direction_w, side)
            source = place + reach * across
            thrown = corners + (source - corners) * (-corners[..., 2:] / (source[2] - corners[..., 2:]))
            seen = thrown @ to_image[:, :3].T + to_image[:, 3]
            # Receivers are the middles of the sampled pixels.
            sampled = sampled_pixels(plate.camera.width)
            at = (seen[..., :2] / np.maximum(seen[..., 2:], 1e-6) - sampled.start - 0.5) / sampled.step
            inside = (seen[..., 2] > 0.01).all(1) & (at.max(1) > 0).all(1) & (at.min(1) < [width, height]).all(1)
            mask = np.zeros((height, width), np.uint8)
            for triangle in np.round(16 * at[inside]).astype(np.int32):
                cv2.fillConvexPoly(mask, triangle, 1, cv2.LINE_8, 4)
            out[n] += mask
    return (out / DISC_POINTS,)


def composite_opencv(
    color: np.ndarray, drawn: Buffers, arrays: PlateArrays, blocked: np.ndarray, occluded: np.ndarray
) -> np.ndarray:
    """``composite`` where everything is drawn, (N, H, W, 3) uint8: OpenCV where it has what is needed, numpy on few pixels elsewhere."""
    import cv2

    decode, encode = tables()
    plate: Any = arrays.rgb.numpy()
    behind, k = arrays.depth_m.numpy(), arrays.source_share.numpy()
    limit = np.where(behind > 0, behind * (1 + DEPTH_TOLERANCE_RELATIVE) + DEPTH_TOLERANCE_M, np.inf)
    plain, square = decode[plate], np.ones((3, 3), np.uint8)
    step = round(plate.shape[0] / len(k))
    rows, columns = ((np.arange(size, dtype=np.float32) - step // 2) / step for size in plate.shape[:2])
    at_x, at_y = np.meshgrid(columns, rows)
    out = np.empty_like(color)
    for n in range(len(color)):
        shown = (drawn.depth_m[n] > 0) & (drawn.depth_m[n] < limit) & (drawn.ids[n] > 0)
        mask = np.where(shown, drawn.ids[n] % 255 + 1, 0).astype(np.uint8)
        b = np.maximum(blocked[n] - FAINT, 0) / (1 - FAINT)
        o = (occluded[n] - np.clip(occluded[n], -FAINT, FAINT)) / (1 - FAINT)
        ratio = np.maximum(1 - (1 - k) * o[..., None] - k * b[..., None], LEAST_RATIO)
        dark = cv2.remap(ratio.astype(np.float32), at_x, at_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        edge = np.not_equal(cv2.dilate(mask, square), cv2.erode(mask, square))
        out[n] = np.where(shown[..., None], color[n], plate)
        changed = (dark != 1).any(-1) & ~shown & ~edge
        out[n][changed] = _encoded(dark[changed] * plain[changed], encode)
        out[n][edge] = _encoded(_soft(edge, mask, color[n], dark, plain, decode), encode)
    return out


def _soft(edge: Any, mask: np.ndarray, color: np.ndarray, dark: np.ndarray, plain: np.ndarray, decode: np.ndarray) -> np.ndarray:  # fmt: skip
    """Linear colours (M, 3) of the pixels at edges, by the tent filter."""
    y, x = np.nonzero(edge)
    total, coverage = np.zeros((len(y), 3), np.float32), np.zeros(len(y), np.float32)
    own = decode[color[y, x]]
    for dy in (-1, 0, 1):
        for dx in (-1, 0, 1):
            v, u = np.clip(y + dy, 0, mask.shape[0] - 1), np.clip(x + dx, 0, mask.shape[1] - 1)
            weight = np.where(mask[v, u] > 0, (2 - abs(dy)) * (2 - abs(dx)), 0).astype(np.float32)
            same = (mask[v, u] == mask[y, x])[:, None]
            total += weight[:, None] * np.where(same, own, decode[color[v, u]])
            coverage += weight
    return (total + (16 - coverage)[:, None] * dark[y, x] * plain[y, x]) / 16


def _encoded(linear: np.ndarray, encode: np.ndarray) -> np.ndarray:
    return encode[(np.clip(linear, 0, 1) * (ENCODE_STEPS - 1) + 0.5).astype(np.int32)]
