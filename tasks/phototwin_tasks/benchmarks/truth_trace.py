"""Photos of described scenes: path traced by Mitsuba, calmed, developed; and their exact depth and ids.

World: table top at z = 0, Z up, origin at the foot of the camera, +X the way it looks, metres. Light is linear RGB.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from phototwin.blend.reference import load_mitsuba
from phototwin.frames import invert, pixel_rays, transform
from phototwin_tasks.benchmarks.truth_surfaces import Surface

MAX_BOUNCES = 7  # light between wall, table and objects has died out by then
SUPERSAMPLING = 3
CALM_LEVELS = 4  # the last one reaches 8 px, the size of the grain at 12 paths a pixel
FIREFLY = 2.5  # a pixel this many times brighter or darker than the median around it is a rare path, not light


@dataclass(frozen=True, eq=False)
class Part:
    """One surface of a scene, placed and painted.

    Attributes:
        name: Key of its object, "table", "wall"..., then "-" and a number where there are several.
        surface: Its geometry in its own frame.
        T_world_part: Its pose, (4, 4).
        texture: Linear RGB, (H, W, 3) float32; the first axis runs along the first texture coordinate.
        tile: What one texture covers in texture coordinates, two numbers.
        gloss: GGX roughness.
    """

    name: str
    surface: Surface
    T_world_part: np.ndarray
    texture: np.ndarray
    tile: Sequence[float]
    gloss: float

    @property
    def key(self) -> str:
        """What it belongs to."""
        return self.name.split("-")[0]


def build_traced(truth: dict[str, Any], parts: Sequence[Part], width: int, samples: int, filter_: str, integrator: dict[str, Any]) -> Any:  # fmt: skip
    """The Mitsuba scene of a description, ``width`` pixels wide; ids of shapes are the names of the parts."""
    mi = load_mitsuba()
    value: dict[str, Any] = {
        "type": "scene",
        "integrator": integrator,
        "sensor": _sensor(mi, truth["camera"], width, samples, filter_),
        "ambient": {"type": "constant", "radiance": {"type": "rgb", "value": truth["ambient"]}},
    }
    for light in truth["lights"]:
        frame = mi.ScalarTransform4f().look_at(light["center_w"], light["target_w"], [1.0, 0.0, 0.0])
        half = [s / 2 for s in light["size_m"]]
        value[light["name"]] = {
            "type": "rectangle",
            "to_world": frame @ mi.ScalarTransform4f().scale([half[0], half[1], 1.0]),
            "emitter": {"type": "area", "radiance": {"type": "rgb", "value": light["radiance"]}},
        }
    value |= {part.name: _shape(mi, part) for part in parts}
    return mi.load_dict(value)


def _sensor(mi: Any, camera: dict[str, Any], width: int, samples: int, filter_: str) -> dict[str, Any]:
    """The described camera; its principal point is the middle of the image."""
    T = np.array(camera["T_world_camera"])
    film = {"type": "hdrfilm", "width": width, "height": round(camera["height"] * width / camera["width"])}
    return {
        "type": "perspective",
        "fov_axis": "x",
        "fov": float(np.rad2deg(2 * np.arctan(camera["width"] / 2 / camera["K_px"][0][0]))),
        "near_clip": 0.01,
        "far_clip": 100.0,
        # Mitsuba's camera looks along +Z with +X to the left and +Y up: half a turn about Z from OpenCV's.
        "to_world": mi.ScalarTransform4f((T @ np.diag([-1.0, -1.0, 1.0, 1.0])).tolist()),
        "film": {**film, "pixel_format": "rgb", "rfilter": {"type": filter_}},
        "sampler": {"type": "independent", "sample_count": samples},
    }


def _shape(mi: Any, part: Part) -> Any:
    points, normals, uv, faces = part.surface
    # The first axis of a texture array is our first coordinate; Mitsuba's rows run along v, so it is transposed.
    texture = {
        "type": "bitmap",
        "bitmap": mi.Bitmap(np.ascontiguousarray(part.texture.transpose(1, 0, 2))),
        "raw": True,
        "wrap_mode": "repeat",
    }
    props = mi.Properties()
    props["bsdf"] = mi.load_dict(
        {
            "type": "twosided",
            "bsdf": {"type": "roughplastic", "alpha": part.gloss, "nonlinear": True, "diffuse_reflectance": texture},
        }
    )
    mesh = mi.Mesh(part.name, len(points), len(faces), has_vertex_normals=True, has_vertex_texcoords=True, props=props)
    params = mi.traverse(mesh)
    params["vertex_positions"] = transform(part.T_world_part, points).astype(np.float32).ravel()
    params["vertex_normals"] = (normals @ part.T_world_part[:3, :3].T).astype(np.float32).ravel()
    params["vertex_texcoords"] = (uv / np.asarray(part.tile)).astype(np.float32).ravel()
    params["faces"] = faces.astype(np.uint32).ravel()
    params.update()
    mesh.set_id(part.name)
    return mesh


def render_parts(truth: dict[str, Any], parts: Sequence[Part], width: int, samples: int) -> np.ndarray:
    """The described scene as linear RGB (H, W, 3) float64 before exposure."""
    mi = load_mitsuba()
    path = {"type": "path", "max_depth": MAX_BOUNCES}
    scene = build_traced(truth, parts, width, samples, "gaussian", path)
    return np.asarray(mi.render(scene, spp=samples, seed=truth["seed"]), dtype=np.float64)[..., :3]


def render_calm(truth: dict[str, Any], parts: Sequence[Part], samples: int) -> np.ndarray:
    """The described scene as linear RGB (H, W, 3) float64 before exposure, from few paths a pixel.

    The light on each part is smoothed along its surface and multiplied with the part's exact colour again, so textures and
    outlines stay sharp.
    """
    camera = truth["camera"]
    mi = load_mitsuba()
    path = {"type": "path", "max_depth": MAX_BOUNCES}
    scene = build_traced(truth, parts, camera["width"], samples, "box", path)
    rgb = np.asarray(mi.render(scene, spp=samples, seed=truth["seed"]), dtype=np.float32)[..., :3]
    fine = _see_finely(camera, parts)
    light = calm(rgb / np.maximum(fine.color.sum(0), 0.02), fine)
    out = np.zeros(rgb.shape, np.float64)
    for i, color in enumerate(fine.color):
        if color.any():
            out += color * _spread(light, fine.pure == i)
    return out


@dataclass(frozen=True, eq=False)
class Fine:
    """What ``SUPERSAMPLING`` squared rays a pixel see.

    Attributes:
        color: Per part its colour times its share of the pixel, (P, H, W, 3) linear RGB.
        pure: The part that fills a pixel alone, -1 where there are several, (H, W).
        normal: Mean normal, (H, W, 3).
        depth: Mean depth, (H, W) [m].
    """

    color: np.ndarray
    pure: np.ndarray
    normal: np.ndarray
    depth: np.ndarray


def _see_finely(camera: dict[str, Any], parts: Sequence[Part]) -> Fine:
    n, width, height = SUPERSAMPLING, camera["width"], camera["height"]
    fine = {**camera, "width": n * width, "height": n * height, "K_px": (np.diag([n, n, 1]) @ np.array(camera["K_px"])).tolist()}  # fmt: skip
    seen = see_parts(fine, parts)

    def mean(image: np.ndarray) -> np.ndarray:
        return image.reshape(height, n, width, n, -1).mean((1, 3)).astype(np.float32)

    color, pure = np.zeros((len(parts), height, width, 3), np.float32), np.full((height, width), -1)
    for i, part in enumerate(parts):
        here = seen.part == i
        if not here.any():
            continue
        rows, columns = part.texture.shape[:2]
        u = np.floor(seen.uv[here, 0] * rows).astype(int) % rows
        v = np.floor(seen.uv[here, 1] * columns).astype(int) % columns
        albedo = np.zeros((*here.shape, 3), np.float32)
        albedo[here] = part.texture[u, v]
        color[i] = mean(albedo)
        pure[mean(here)[..., 0] == 1.0] = i
    depth = np.where(seen.part >= 0, seen.depth_m, 100.0)
    return Fine(color, pure, mean(seen.normal_w), mean(depth)[..., 0])


def _spread(light: np.ndarray, pure: np.ndarray) -> np.ndarray:
    """The light (H, W, 3) of one part where it fills pixels alone, carried to the pixels around them."""
    import cv2

    if not pure.any():
        return light  # too thin to fill a pixel
    share = cv2.GaussianBlur(pure.astype(np.float32), (5, 5), 1.0)[..., None]
    around = cv2.GaussianBlur(light * pure[..., None], (5, 5), 1.0) / np.maximum(share, 1e-4)
    return np.where(pure[..., None] | (share < 1e-3), light, around)


def calm(light: np.ndarray, fine: Fine) -> np.ndarray:
    """Noisy light (H, W, 3) smoothed within parts where normal, depth and light agree.

    Source: Dammertz et al. (2010), edge-avoiding a-trous wavelet transform, with the 1-2-1 kernel.
    """
    import cv2

    median = np.stack([cv2.medianBlur(np.ascontiguousarray(light[..., c]), 5) for c in range(3)], -1)
    grain = float(np.median(np.abs(light - median)[..., 1] / (median[..., 1] + 1e-3))) * 1.5 + 1e-4
    alone = (fine.pure >= 0)[..., None]
    light = np.where(alone, np.clip(light, median / FIREFLY, FIREFLY * median + 1e-3), light)
    slope = np.maximum(np.hypot(*np.gradient(fine.depth)), 1e-4)
    for level in range(CALM_LEVELS):
        step = 2**level
        tone = light.mean(-1) if level else median.mean(-1)
        total, weights = np.zeros_like(light), np.zeros_like(fine.depth)
        for dy in (-step, 0, step):
            for dx in (-step, 0, step):
                kernel = (2.0 - abs(dy) / step) * (2.0 - abs(dx) / step)
                guides = (light, tone, fine.normal, fine.depth, fine.pure)
                light_k, tone_k, normal_k, depth_k, pure_k = (_shift(a, dy, dx) for a in guides)
                same = (pure_k == fine.pure) * np.maximum((fine.normal * normal_k).sum(-1), 0) ** 32
                same *= np.exp(-np.abs(fine.depth - depth_k) / (slope * step * 2))
                same *= np.exp(-(((tone - tone_k) / (tone + 1e-3)) ** 2) / (2 * (3 * grain / 2**level) ** 2))
                total += (kernel * same)[..., None] * light_k
                weights += kernel * same
        light = np.where(weights[..., None] > 1e-6, total / np.maximum(weights, 1e-6)[..., None], light)
    return light


def _shift(image: np.ndarray, dy: int, dx: int) -> np.ndarray:
    """The image moved by whole pixels, its border repeated."""
    rows = np.clip(np.arange(image.shape[0]) + dy, 0, image.shape[0] - 1)
    columns = np.clip(np.arange(image.shape[1]) + dx, 0, image.shape[1] - 1)
    return image[rows][:, columns]


def develop(linear: np.ndarray, noise: dict[str, float] | None = None, seed: int = 0) -> np.ndarray:
    """Linear RGB to the 8-bit sRGB photo a camera would write, with its noise if given."""
    if noise:
        rng = np.random.default_rng([seed, 2])
        sigma = np.sqrt(noise["shot"] ** 2 * np.maximum(linear, 0) / 0.18 + noise["read"] ** 2 * 0.18)
        linear = linear + sigma * rng.standard_normal(linear.shape)
    linear = np.clip(linear, 0, 1)
    srgb = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return np.round(srgb * 255).astype(np.uint8)


def trace_parts(truth: dict[str, Any], parts: Sequence[Part]) -> tuple[np.ndarray, np.ndarray]:
    """Depth (H, W) [m] and object ids (H, W) of what the ray through each pixel centre meets first, by Mitsuba (slow)."""
    mi = load_mitsuba()
    camera = truth["camera"]
    width, height = camera["width"], camera["height"]
    scene = build_traced(truth, parts, width, 1, "gaussian", {"type": "path", "max_depth": MAX_BOUNCES})
    T = np.array(camera["T_world_camera"])
    rays_w = pixel_rays(np.array(camera["K_px"]), width, height) @ T[:3, :3].T
    depth, ids = np.zeros((height, width)), np.zeros((height, width), dtype=np.uint8)
    number = {item["key"]: i + 1 for i, item in enumerate(truth["objects"])}
    for row in range(height):
        for column in range(width):
            # The direction is not normalised, so the distance is the depth along the optical axis.
            hit = scene.ray_intersect_preliminary(mi.Ray3f(T[:3, 3].tolist(), rays_w[row, column].tolist()))
            if hit.is_valid():
                depth[row, column] = hit.t
                ids[row, column] = number.get(hit.shape.id().split("-")[0], 0)
    return depth, ids


@dataclass(frozen=True, eq=False)
class Seen:
    """What each pixel centre sees of the parts: index of the part (-1 none), depth [m], normal and texture coordinates."""

    part: np.ndarray
    depth_m: np.ndarray
    normal_w: np.ndarray
    uv: np.ndarray


def see_parts(camera: dict[str, Any], parts: Sequence[Part]) -> Seen:
    """What each pixel centre of a described camera sees of the parts, exactly, without light."""
    from phototwin.kernels.rasterize import rasterize

    T_camera_world = invert(np.array(camera["T_world_camera"]))
    first = np.cumsum([0, *(len(p.surface[0]) for p in parts)])
    points = np.concatenate([transform(T_camera_world @ p.T_world_part, p.surface[0]) for p in parts])
    faces = np.concatenate([p.surface[3] + at for p, at in zip(parts, first[:-1], strict=True)])
    owner = np.repeat(np.arange(len(parts)), [len(p.surface[3]) for p in parts])
    normals = np.concatenate([p.surface[1] @ p.T_world_part[:3, :3].T for p in parts])
    uv = np.concatenate([p.surface[2] / np.asarray(p.tile) for p in parts])
    raster = rasterize(points, faces, np.array(camera["K_px"]), camera["width"], camera["height"])
    hit = raster.face >= 0
    corners = faces[np.maximum(raster.face, 0)]
    normal = np.einsum("hwk,hwkc->hwc", raster.bary, normals[corners])
    normal /= np.maximum(np.linalg.norm(normal, axis=-1, keepdims=True), 1e-9)
    part = np.where(hit, owner[np.maximum(raster.face, 0)], -1)
    return Seen(part, raster.depth_m, normal, np.einsum("hwk,hwkc->hwc", raster.bary, uv[corners]))


def ids_of(truth: dict[str, Any], parts: Sequence[Part], seen: Seen) -> np.ndarray:
    """Object ids (H, W) uint8 of what was seen: i + 1 for the i-th described object."""
    number = {item["key"]: i + 1 for i, item in enumerate(truth["objects"])}
    return np.array([*(number.get(p.key, 0) for p in parts), 0], np.uint8)[seen.part]
