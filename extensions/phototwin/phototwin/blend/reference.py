"""A path-traced reference of robot and objects in a photo's light: the judge of the fast renderers, through Mitsuba (extra ``truth``).

It fills the same buffers as the others, with finished colour: light bounces between what is drawn, and from the support, whose
albedo is what the photo shows of it divided by the light that falls on it.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from phototwin.buffers import Buffers
from phototwin.errors import InputError
from phototwin.frames import invert, project, transform
from phototwin.images import load_rgb
from phototwin.kernels.draw import Part, draw_parts, make_draw_list
from phototwin.kernels.shade import ROUGHNESS
from phototwin.kernels.srgb import linear_to_srgb, srgb_to_linear
from phototwin.light import Light, ambient_irradiance, sh_basis, source_irradiance
from phototwin.scene import Camera, Scene

MAX_BOUNCES = 6
FINE = 3
"""Pixels are traced in so many parts along each side, so that colours at outlines do not mix with what lies behind."""
SUN_M = 100.0
"""Where a source at infinity is put [m]."""
LEAST_ANGLE_RAD = 0.002
"""A source is never smaller than this, or no path would be sure to find it."""
SKY_ROWS = 64
SUPPORT_CELL_M = 0.02
SUPPORT_CELLS = 200
"""At most so many cells along a side of the support."""
MOST_ALBEDO = 0.95
COAT_IOR = 1.5
COAT_CELLS = (6, 8)
"""Angles from which light comes, and directions along each side of a square of samples, over which a coat is averaged."""


def load_mitsuba() -> Any:
    """Mitsuba with the variant that runs everywhere: scalar, without LLVM or a GPU.

    Raises:
        InputError: It is not installed.
    """
    try:
        import mitsuba as mi
    except ImportError as error:
        raise InputError(
            "Mitsuba is not installed: run this with ./isaaclab.sh -p, or install phototwin[truth]."
        ) from error
    mi.set_variant("scalar_rgb")
    mi.set_log_level(mi.LogLevel.Error)
    return mi


def trace_reference(
    scene: Scene | None,
    parts: Sequence[Part],
    T_world_parts: np.ndarray,
    light: Light,
    camera: Camera,
    samples: int = 64,
    roughness: float | None = ROUGHNESS,
    robot_ids: tuple[int, ...] = (),
    object_ids: tuple[int, ...] = (),
    seed: int = 0,
) -> Buffers:
    """One frame of parts in a light, path traced: ``lit`` buffers with N = 1.

    Args:
        scene: The twin whose support throws light back; None for parts in empty space.
        parts: What is drawn.
        T_world_parts: Their poses, (P, 4, 4).
        light: What shines on them.
        camera: The camera.
        samples: Paths a pixel, at least.
        roughness: Of the clear coat on all surfaces; what it does not reflect shows the base colour. None for surfaces without one.
        robot_ids: Ids of the robot.
        object_ids: Ids of the objects, in the scene's order.
        seed: Draws the paths.

    Raises:
        InputError: Mitsuba is not installed.
    """
    mi = load_mitsuba()
    fine, draw_list = _fine_camera(camera), make_draw_list(parts)
    exact, fine_ids = (
        draw_parts(draw_list, T_world_parts[None], view.T_world_camera, view.K_px, view.width, view.height)
        for view in (camera, fine)
    )
    ids, fine_ids = exact["ids"].numpy(), fine_ids["ids"].numpy()[0]
    rows, columns = (_span((fine_ids > 0).any(axis)) for axis in (1, 0))
    value: dict[str, Any] = {
        "type": "scene",
        "integrator": {"type": "path", "max_depth": MAX_BOUNCES},
        "sensor": _sensor(mi, fine, -(-samples // FINE**2), rows, columns),
        "sky": _sky(mi, light),
        "source": _source(mi, light),
    }
    placed = [(_group(part, roughness), T) for part, T in zip(parts, T_world_parts, strict=True)]
    if scene is not None:
        placed.append((_make_group(_support(scene, light), None), np.eye(4)))
    for i, (group, T) in enumerate(placed):
        value[f"group-{id(group)}"] = group  # a scene must have what it places
        value[f"placed-{i}"] = {"type": "instance", "to_world": mi.ScalarTransform4f(T.tolist()), "shapegroup": group}
    traced = mi.render(mi.load_dict(value), spp=-(-samples // FINE**2), seed=seed)
    linear = np.zeros((*fine_ids.shape, 3), np.float32)
    linear[rows, columns] = np.asarray(traced, dtype=np.float32)[..., :3]
    color = np.round(255 * linear_to_srgb(_mean_of_own(linear, fine_ids, ids[0]))).astype(np.uint8)
    return Buffers(color[None], exact["depth"].numpy(), ids, exact["normals"].numpy(), robot_ids, object_ids, lit=True)


@lru_cache(maxsize=8)
def _coat(roughness: float) -> tuple[float, float, float]:
    """What a coat does to even light: share it reflects itself, and t and f of the diffuse share ``t p / (1 - f p)`` over a pigment p.

    Averaged over Mitsuba's own model, which at a rough surface is not what its smooth formulas say.
    """
    mi = load_mitsuba()
    angles, grid = COAT_CELLS
    u, v = (np.stack(np.meshgrid(*[(np.arange(grid) + 0.5) / grid] * 2), -1).reshape(-1, 2)).T
    shares = np.zeros((2, 2))
    for k, pigment in enumerate((0.5, 1.0)):
        bsdf = mi.load_dict(_coated(roughness, {"type": "rgb", "value": pigment}))
        context, at = mi.BSDFContext(), mi.SurfaceInteraction3f()
        for cosine in np.sqrt((np.arange(angles) + 0.5) / angles):  # even light weighs directions by their cosine
            at.wi = mi.Vector3f(np.sqrt(1 - cosine**2), 0.0, cosine)
            for component in range(2):
                context.component = component
                weights = [bsdf.sample(context, at, 0.5, mi.Point2f(*pair))[1][0] for pair in zip(u, v, strict=True)]
                shares[k, component] += np.mean(weights) / angles
    half, whole = shares[:, 1]
    f = (whole - 2 * half) / (whole - half)
    return float(shares[0, 0]), float(whole * (1 - f)), float(f)


def _coated(roughness: float, pigment: dict[str, Any]) -> dict[str, Any]:
    return {"type": "roughplastic", "distribution": "beckmann", "alpha": roughness**2, "int_ior": COAT_IOR, "nonlinear": True, "diffuse_reflectance": pigment}  # fmt: skip


def _mean_of_own(linear: np.ndarray, fine_ids: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """Mean colour (H, W, 3) of those parts of each pixel that show what its centre shows."""
    row, column = (
        np.floor((np.arange(m) + 0.5) * n / m).astype(int) for m, n in zip(fine_ids.shape, ids.shape, strict=True)
    )
    own = fine_ids == ids[row[:, None], column]
    both = np.concatenate([linear * own[..., None], own[..., None]], -1)
    for axis, cell in ((0, row), (1, column)):
        both = np.add.reduceat(both, np.flatnonzero(np.diff(cell, prepend=-1)), axis=axis)
    return both[..., :3] / np.maximum(both[..., 3:], 1)


def _fine_camera(camera: Camera) -> Camera:
    """The camera with more and, up to rounding, square pixels, which is all that Mitsuba knows."""
    K = camera.K_px
    height = round(FINE * camera.height * K[0, 0] / K[1, 1])
    scale = np.diag([FINE, height / camera.height, 1.0])
    return Camera(scale @ K, FINE * camera.width, height, camera.T_world_camera)


def _span(some: np.ndarray) -> slice:
    """From the first to the last that is set; one where none is, as no picture is empty."""
    there = np.flatnonzero(some)
    return slice(there[0], there[-1] + 1) if len(there) else slice(0, 1)


def _sensor(mi: Any, camera: Camera, samples: int, rows: slice, columns: slice) -> dict[str, Any]:
    """The camera, of whose picture only a part is traced."""
    K, width, height = camera.K_px, camera.width, camera.height
    return {
        "type": "perspective",
        "fov_axis": "x",
        "fov": float(np.rad2deg(2 * np.arctan(width / 2 / K[0, 0]))),
        "principal_point_offset_x": float((width / 2 - K[0, 2]) / width),
        "principal_point_offset_y": float((height / 2 - K[1, 2]) / height),
        "near_clip": 0.01,
        "far_clip": 2 * SUN_M,
        # Mitsuba's camera looks along +Z with +X to the left and +Y up: half a turn about Z from OpenCV's.
        "to_world": mi.ScalarTransform4f((camera.T_world_camera @ np.diag([-1.0, -1.0, 1.0, 1.0])).tolist()),
        "film": {
            "type": "hdrfilm",
            "width": width,
            "height": height,
            "crop_offset_x": int(columns.start),
            "crop_offset_y": int(rows.start),
            "crop_width": int(columns.stop - columns.start),
            "crop_height": int(rows.stop - rows.start),
            "pixel_format": "rgb",
            "rfilter": {"type": "box"},
        },
        "sampler": {"type": "independent", "sample_count": samples},
    }


def _sky(mi: Any, light: Light) -> dict[str, Any]:
    """All light but the source as an environment map; what the harmonics make negative is dark."""
    rows, columns = SKY_ROWS, 2 * SKY_ROWS
    theta, phi = np.meshgrid(
        (np.arange(rows) + 0.5) / rows * np.pi, (np.arange(columns) + 0.5) / columns * 2 * np.pi, indexing="ij"
    )
    # Mitsuba's map has its pole at +Y and begins at -Z.
    directions = np.stack([np.sin(phi) * np.sin(theta), np.cos(theta), -np.cos(phi) * np.sin(theta)], -1)
    radiance = np.maximum(sh_basis(directions) @ light.sh, 0.0).astype(np.float32)
    return {"type": "envmap", "bitmap": mi.Bitmap(radiance)}


def _source(mi: Any, light: Light) -> dict[str, Any]:
    """The dominant source as a disc that faces the centre and brings it the light's irradiance."""
    distance = light.distance_m if np.isfinite(light.distance_m) else SUN_M
    angle = max(light.half_angle_rad, LEAST_ANGLE_RAD)
    place = light.center_w + distance * light.direction_w
    aside = [1.0, 0.0, 0.0] if abs(light.direction_w[0]) < 0.9 else [0.0, 1.0, 0.0]
    frame = mi.ScalarTransform4f().look_at(place.tolist(), light.center_w.tolist(), aside)
    radius = float(distance * np.tan(angle))
    # The disc also hides the sky behind it, so it shines as brightly itself.
    hidden = np.maximum(sh_basis(light.direction_w) @ light.sh, 0.0)
    radiance = light.irradiance / (np.pi * np.sin(angle) ** 2) + hidden
    return {
        "type": "disk",
        "to_world": frame @ mi.ScalarTransform4f().scale([radius, radius, 1.0]),
        "bsdf": {"type": "diffuse", "reflectance": {"type": "rgb", "value": 0.0}},
        "emitter": {"type": "area", "radiance": {"type": "rgb", "value": radiance.tolist()}},
    }


_groups: WeakKeyDictionary[Part, dict[float | None, Any]] = WeakKeyDictionary()
"""Parts as they were made for an earlier frame: making them takes twice as long as tracing a frame of 128 px."""


def _group(part: Part, roughness: float | None) -> Any:
    """``_make_group``, once for each part and roughness."""
    made = _groups.setdefault(part, {})
    if roughness not in made:
        made[roughness] = _make_group(part, roughness)
    return made[roughness]


def _make_group(part: Part, roughness: float | None) -> Any:
    """A part in its own frame as what Mitsuba can place: a mesh in which every corner is a vertex of its own."""
    mi = load_mitsuba()
    points = part.points[part.faces].reshape(-1, 3)
    smooth = part.normals is not None
    if part.st is None or part.texture is None:
        texture = np.broadcast_to(srgb_to_linear(np.clip(part.color_rgb, 0, 1)), (2, 2, 3))
        uv = np.zeros((len(points), 2))
    else:
        texture = srgb_to_linear(part.texture / 255.0)
        uv = part.st.reshape(-1, 2) * [1.0, -1.0] + [0.0, 1.0]  # Mitsuba's first row lies at v = 0
    if roughness is None:
        bsdf: dict[str, Any] = {"type": "diffuse", "reflectance": _bitmap(mi, texture)}
    else:
        mirrored, t, f = _coat(roughness)
        shown = (1 - mirrored) * texture
        bsdf = _coated(roughness, _bitmap(mi, shown / (t + f * shown)))
    props = mi.Properties()
    props["bsdf"] = mi.load_dict({"type": "twosided", "bsdf": bsdf})
    mesh = mi.Mesh(
        "part", len(points), len(part.faces), has_vertex_normals=smooth, has_vertex_texcoords=True, props=props
    )
    params = mi.traverse(mesh)
    params["vertex_positions"] = points.astype(np.float32).ravel()
    if part.normals is not None:
        params["vertex_normals"] = part.normals[part.faces].astype(np.float32).ravel()
    params["vertex_texcoords"] = uv.astype(np.float32).ravel()
    params["faces"] = np.arange(len(points), dtype=np.uint32)
    params.update()
    return mi.load_dict({"type": "shapegroup", "mesh": mesh})


def _bitmap(mi: Any, linear: np.ndarray) -> dict[str, Any]:
    image = np.ascontiguousarray(np.clip(linear, 0.0, MOST_ALBEDO), dtype=np.float32)
    return {"type": "bitmap", "bitmap": mi.Bitmap(image), "raw": True, "wrap_mode": "clamp"}


def _support(scene: Scene, light: Light) -> Part:
    """The support as a level grid without gloss, with the albedo that shows the photo's colours in this light."""
    low, high = scene.support.polygon_w.min(0), scene.support.polygon_w.max(0)
    cells = np.clip(np.ceil((high - low) / SUPPORT_CELL_M).astype(int), 2, SUPPORT_CELLS)
    x, y = (np.linspace(low[k], high[k], cells[k]) for k in range(2))
    points_w = np.stack([*np.meshgrid(x, y), np.zeros((cells[1], cells[0]))], -1)
    albedo = np.clip(_photo_at(scene, points_w) * np.pi / np.maximum(_light_on(light, points_w), 1e-4), 0, MOST_ALBEDO)
    texture = np.round(255 * linear_to_srgb(albedo)).astype(np.uint8)[::-1]
    corners = np.array([[x[0], y[0], 0], [x[-1], y[0], 0], [x[-1], y[-1], 0], [x[0], y[-1], 0]], np.float32)
    faces = np.array([[0, 1, 2], [0, 2, 3]], np.int32)
    st = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], np.float32)[faces]
    return Part(corners, faces, None, np.full(3, 0.5), st, texture, 1)


def _light_on(light: Light, points_w: np.ndarray) -> np.ndarray:
    """Irradiance (..., 3) on level points (..., 3)."""
    up = np.broadcast_to([0.0, 0.0, 1.0], points_w.shape)
    return ambient_irradiance(light, up) + source_irradiance(light, points_w, up)


def _photo_at(scene: Scene, points_w: np.ndarray) -> np.ndarray:
    """Linear colour (..., 3) that the photo without its objects shows where points (..., 3) are; its middle one outside the photo."""
    camera = scene.camera
    rgb = srgb_to_linear(load_rgb(scene.path(scene.background_rgb)) / 255.0)
    points_c = transform(invert(camera.T_world_camera), points_w)
    ahead = points_c[..., 2] > 0.01
    uv = project(camera.K_px, np.where(ahead[..., None], points_c, [0.0, 0.0, 1.0]))
    u, v = np.floor(uv[..., 0]).astype(int), np.floor(uv[..., 1]).astype(int)
    seen = ahead & (u >= 0) & (v >= 0) & (u < camera.width) & (v < camera.height)
    color = rgb[np.clip(v, 0, camera.height - 1), np.clip(u, 0, camera.width - 1)]
    usual = np.median(color[seen], axis=0) if seen.any() else np.full(3, 0.2)
    return np.where(seen[..., None], color, usual)
