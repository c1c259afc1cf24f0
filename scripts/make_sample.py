"""Make the bundled sample: a path-traced photo of a tabletop with its depth, masks, camera and ground truth.

    ./isaaclab.sh -p scripts/make_sample.py                  # the committed files again (some minutes)
    ./isaaclab.sh -p scripts/make_sample.py --out out/look --samples 16

Everything is made here, textures included, from one description (``describe``) and one seed; ``truth.json`` is that
description, and ``render`` turns it back into the photo at any size. World: table top at z = 0, Z up, origin at the
foot of the camera, +X the way it looks, metres.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from phototwin.console import run_script
from phototwin.errors import InputError
from phototwin.frames import make_T, pixel_rays, rotation_z, transform
from phototwin.images import save_depth, save_ids, save_rgb

SAMPLE = Path(__file__).resolve().parents[1] / "usd_assets/sample"
WOOD_PX_PER_M = 1200.0  # finer than the photo's finest millimetre per pixel
PLANK_M = 0.145
GLOSS = {"box": 0.25, "bowl": 0.2, "mug": 0.09, "table": 0.28, "wall": 0.6}  # GGX roughness: paint, glaze, oil, plaster
HANDLE_RADIUS_M = 0.0055
FLOOR_M = 0.006  # thickness of the bottom of bowl and mug
MAX_BOUNCES = 7  # light between wall, table and objects has died out by then


Surface = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
"""Points (V, 3) [m], unit normals (V, 3), uv (V, 2), faces (F, 3)."""


@dataclass(frozen=True)
class Args:
    """Where the sample goes and how long to trace it.

    Attributes:
        out: Folder to write.
        samples: Light paths per pixel.
        seed: Seed of textures, paths and sensor noise.
    """

    out: Path = SAMPLE
    samples: int = 400
    seed: int = 7


def describe(seed: int) -> dict[str, Any]:
    """The whole scene as plain values: camera, table, wall, lights, objects with pose, size and colour (linear RGB)."""
    pitch = np.deg2rad(37.0)
    forward, right = np.array([np.cos(pitch), 0.0, -np.sin(pitch)]), np.array([0.0, -1.0, 0.0])
    R = np.stack([right, np.cross(forward, right), forward], axis=1)
    camera = {
        "width": 640,
        "height": 480,
        "K_px": [[600.0, 0.0, 320.0], [0.0, 600.0, 240.0], [0.0, 0.0, 1.0]],
        "T_world_camera": make_T(R, np.array([0.0, 0.0, 0.55])).tolist(),
    }
    objects = [
        _object("green cube", "box", [0.045, 0.045, 0.045], [0.55, 0.09], 28.0, [0.035, 0.24, 0.055], edge_m=0.002),
        _object("yellow cube", "box", [0.05, 0.05, 0.05], [0.60, -0.08], -17.0, [0.68, 0.57, 0.035], edge_m=0.002),
        _object("red box", "box", [0.06, 0.04, 0.10], [0.76, 0.20], 62.0, [0.42, 0.022, 0.02], edge_m=0.001),
        _object("white bowl", "bowl", [0.14, 0.14, 0.055], [0.76, -0.23], 0.0, [0.66, 0.65, 0.62], wall_m=0.004),
        _object("blue mug", "mug", [0.102, 0.074, 0.09], [0.82, -0.01], -118.0, [0.02, 0.075, 0.30], wall_m=0.004),
    ]
    lights = [
        {"name": "window", "center_w": [0.1, 1.5, 1.5], "target_w": [0.8, 0.0, 0.0], "size_m": [0.7, 0.9], "radiance": [24.0, 23.0, 21.0]},
        {"name": "ceiling", "center_w": [0.9, 0.0, 2.4], "target_w": [0.9, 0.0, 0.0], "size_m": [3.0, 3.0], "radiance": [0.42, 0.44, 0.48]},
    ]  # fmt: skip
    return {
        "seed": seed,
        "camera": camera,
        "table": {"size_m": [1.3, 1.6, 0.035], "center_w": [0.74, 0.05], "yaw_deg": 5.0, "edge_m": 0.003},
        "wall": {"x_w": 2.0, "color": [0.60, 0.58, 0.54]},
        "lights": lights,
        "ambient": [0.06, 0.063, 0.07],
        "exposure": 2.1,
        "noise": {"shot": 0.0016, "read": 0.0025},
        "objects": objects,
    }


def _object(
    name: str, shape: str, size_m: list[float], xy_w: list[float], yaw_deg: float, color: list[float], **params: float
) -> dict[str, Any]:
    T = make_T(rotation_z(np.deg2rad(yaw_deg)), np.array([*xy_w, size_m[2] / 2]))
    return {
        "name": name,
        "key": name.replace(" ", "_"),
        "shape": shape,
        "hollow": shape in ("bowl", "mug"),
        "size_m": size_m,
        "T_world_object": T.tolist(),
        "color": color,
        **params,
    }


# ---------------------------------------------------------------- geometry, in the frame of its object


def rounded_box(size_m: list[float], edge_m: float, cells: int = 3) -> Surface:
    """A box whose edges are rounded with radius ``edge_m``; uv in metres on each side, from its corner."""
    half = np.asarray(size_m) / 2
    parts, count = [], 0
    for axis in range(3):
        for sign in (-1.0, 1.0):
            a, b = (axis + 1) % 3, (axis + 2) % 3
            ticks = []
            for k in (a, b):  # the round parts get ``cells`` steps each, the flat middle one
                round_part = half[k] - edge_m + edge_m * np.tan(np.linspace(0, np.pi / 4, cells + 1))
                ticks.append(np.concatenate([-round_part[::-1], round_part]))
            grid = np.stack(np.meshgrid(*ticks, indexing="ij"), -1).reshape(-1, 2)
            cube = np.zeros((len(grid), 3))
            cube[:, axis], cube[:, a], cube[:, b] = sign * half[axis], grid[:, 0], grid[:, 1]
            inner = np.clip(cube, -(half - edge_m), half - edge_m)
            normals = (cube - inner) / np.linalg.norm(cube - inner, axis=1, keepdims=True)
            uv = grid + half[[a, b]]
            faces = _grid_faces(len(ticks[0]), len(ticks[1]))
            parts.append((inner + edge_m * normals, normals, uv, (faces if sign > 0 else faces[:, ::-1]) + count))
            count += len(grid)
    points, normals, uvs, faces = (np.concatenate(p) for p in zip(*parts, strict=True))
    return points, normals, uvs, faces


def lathe(profile: np.ndarray, steps: int = 128) -> Surface:
    """A surface of revolution about Z; ``profile`` (P, 2) radius and height runs from the outside bottom to the inside bottom."""
    phi = np.linspace(0, 2 * np.pi, steps + 1)
    slope = np.gradient(profile, axis=0)
    slope /= np.linalg.norm(slope, axis=1, keepdims=True)
    ring = np.stack([np.cos(phi), np.sin(phi)], -1)
    points = np.concatenate([profile[:, None, :1] * ring, np.broadcast_to(profile[:, None, 1:], (len(profile), len(phi), 1))], -1)  # fmt: skip
    normals = np.concatenate([slope[:, None, 1:] * ring, np.broadcast_to(-slope[:, None, :1], (*points.shape[:2], 1))], -1)  # fmt: skip
    u, v = np.meshgrid(np.linspace(0, 1, len(profile)), phi / (2 * np.pi), indexing="ij")
    faces = _grid_faces(len(profile), len(phi))[:, ::-1]
    return points.reshape(-1, 3), normals.reshape(-1, 3), np.stack([v, u], -1).reshape(-1, 2), faces


def tube(path: np.ndarray, radius_m: float, steps: int = 24) -> Surface:
    """A tube around ``path`` (P, 3), which lies in the XZ plane."""
    ahead = np.gradient(path, axis=0)
    ahead /= np.linalg.norm(ahead, axis=1, keepdims=True)
    side = np.array([0.0, 1.0, 0.0])
    up = np.cross(ahead, side)
    phi = np.linspace(0, 2 * np.pi, steps + 1)
    normals = np.cos(phi)[None, :, None] * up[:, None] + np.sin(phi)[None, :, None] * side
    points = path[:, None] + radius_m * normals
    uv = np.zeros((points.shape[0] * points.shape[1], 2))
    return points.reshape(-1, 3), normals.reshape(-1, 3), uv, _grid_faces(len(path), len(phi))


def _grid_faces(rows: int, columns: int) -> np.ndarray:
    index = np.arange(rows * columns).reshape(rows, columns)
    a, b, c, d = (x.ravel() for x in (index[:-1, :-1], index[1:, :-1], index[1:, 1:], index[:-1, 1:]))
    return np.concatenate([np.stack([a, b, c], -1), np.stack([a, c, d], -1)])


def object_mesh(item: dict[str, Any]) -> list[Surface]:
    """The surfaces of one described object in its own frame (origin at the centre of its bounding box)."""
    if item["shape"] == "box":
        return [rounded_box(item["size_m"], item["edge_m"])]
    length, width, height = item["size_m"]
    # The body sits at one end of the bounding box when a handle takes the rest of it.
    center = np.array([-(length - width) / 2, 0.0, 0.0])
    profile = vessel_profile(item["shape"], width / 2, height, item["wall_m"])
    points, normals, uv, faces = lathe(profile - [0.0, height / 2])
    parts = [(points + center, normals, uv, faces)]
    if length > width:
        angle = np.linspace(-np.pi / 2, np.pi / 2, 40)
        inside = item["wall_m"]  # the ends of the handle are hidden in the wall
        reach = length - width - HANDLE_RADIUS_M + inside
        path = np.stack([width / 2 - inside + reach * np.cos(angle) ** 0.8, 0 * angle, height / 3 * np.sin(angle)], -1)
        parts.append(tube(path + center, HANDLE_RADIUS_M))
    return parts


def vessel_profile(shape: str, radius: float, height: float, wall: float) -> np.ndarray:
    """Radius and height (P, 2) [m] of a bowl or mug that stands on z = 0: bottom, outside, rim, inside, floor."""
    t = np.linspace(0, 1, 40)
    shoulder = height - wall / 2  # where the round rim begins
    if shape == "bowl":
        outer = np.stack([0.5 * radius + 0.5 * radius * np.sin(t * np.pi / 2) ** 0.9, shoulder * t**1.6], -1)
    else:
        outer = np.stack([radius * (1 - 0.06 * (1 - t) ** 6), shoulder * t], -1)
    inner = outer[::-1] - [wall, 0.0]
    inner = inner[inner[:, 1] > FLOOR_M]
    lip = np.linspace(0, np.pi, 9)
    rim = np.array([radius - wall / 2, shoulder]) + wall / 2 * np.stack([np.cos(lip), np.sin(lip)], -1)
    bottom = np.stack([np.linspace(0, outer[0, 0], 8)[:-1], np.zeros(7)], -1)
    floor = np.stack([np.linspace(inner[-1, 0], 0, 8), np.full(8, FLOOR_M)], -1)
    return np.concatenate([bottom, outer[:-1], rim, inner[1:], floor])


# ---------------------------------------------------------------- textures: (H, W, 3) linear RGB


def _noise(rng: np.random.Generator, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Smooth noise in -1..1 with a feature size of 1 in the given coordinates."""
    table = rng.uniform(-1, 1, (256, 256))
    i, j = np.floor(x).astype(int), np.floor(y).astype(int)
    fx, fy = (t * t * (3 - 2 * t) for t in (x - i, y - j))
    pick = [table[(i + a) % 256, (j + b) % 256] for a in (0, 1) for b in (0, 1)]
    return (pick[0] * (1 - fy) + pick[1] * fy) * (1 - fx) + (pick[2] * (1 - fy) + pick[3] * fy) * fx


def wood_texture(length_m: float, width_m: float, seed: int) -> np.ndarray:
    """Oiled planks along the first axis, with rings, fibres and fine seams."""
    rng = np.random.default_rng([seed, 1])
    x, y = np.meshgrid(
        np.arange(0, length_m, 1 / WOOD_PX_PER_M), np.arange(0, width_m, 1 / WOOD_PX_PER_M), indexing="ij"
    )
    plank = np.floor(y / PLANK_M).astype(int)
    shift = rng.uniform(0, 100, (plank.max() + 1, 2))[plank]
    tone = rng.uniform(-1, 1, plank.max() + 1)[plank]
    along, across = x + shift[..., 0], y + shift[..., 1]
    bend = _noise(rng, along * 2.2, across * 9) + 0.4 * _noise(rng, along * 6, across * 25)
    rings = 0.5 + 0.5 * np.sin(2 * np.pi * (across * 38 + 1.1 * bend))
    fibre = _noise(rng, along * 30, across * 700) + 0.7 * _noise(rng, along * 9, across * 260)
    blotch = _noise(rng, along * 4, across * 8)
    shade = 1 + 0.10 * tone + 0.13 * (rings**3 - 0.4) + 0.07 * fibre + 0.06 * blotch
    seam = np.abs(y / PLANK_M - np.round(y / PLANK_M)) * PLANK_M
    shade *= 1 - 0.6 * np.exp(-((seam / 0.0008) ** 2))
    color = np.array([0.255, 0.152, 0.088]) * (1 + 0.02 * blotch[..., None] * [1.0, 0.0, -1.0])
    return np.clip(color * shade[..., None], 0.005, 0.9).astype(np.float32)


def paint_texture(color: list[float], seed: int, key: str, side_m: float, label: bool = False) -> np.ndarray:
    """One colour with faint blotches, tiled every ``side_m``; ``label`` prints a pale band with a dark stripe."""
    rng = np.random.default_rng([seed, *key.encode()])
    x, y = np.meshgrid(np.linspace(0, 1, 256), np.linspace(0, 1, 256), indexing="ij")
    scale = side_m / 0.01
    shade = 1 + 0.05 * _noise(rng, x * scale, y * scale) + 0.035 * _noise(rng, x * 8 * scale, y * 8 * scale)
    image = np.asarray(color) * shade[..., None]
    if label:
        band = (y > 0.62) & (y < 0.80)
        image[band] = (np.array([0.60, 0.52, 0.36]) * shade[..., None])[band]
        image[(y > 0.69) & (y < 0.73)] *= 0.25
    return np.clip(image, 0.002, 0.9).astype(np.float32)


# ---------------------------------------------------------------- the path tracer


def load_mitsuba() -> Any:
    """Mitsuba with the variant that runs everywhere: scalar, without LLVM or a GPU."""
    try:
        import mitsuba as mi
    except ImportError as error:
        raise InputError(
            "Mitsuba is not installed: run this with ./isaaclab.sh -p, or install phototwin[truth]."
        ) from error
    mi.set_variant("scalar_rgb")
    mi.set_log_level(mi.LogLevel.Error)
    return mi


def build(truth: dict[str, Any], width: int, samples: int) -> Any:
    """The Mitsuba scene of a description, ``width`` pixels wide; ids of shapes start with the object's key, "table" or "wall"."""
    mi = load_mitsuba()
    value: dict[str, Any] = {
        "type": "scene",
        "integrator": {"type": "path", "max_depth": MAX_BOUNCES},
        "sensor": _sensor(mi, truth["camera"], width, samples),
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
    value |= _room(mi, truth)
    for item in truth["objects"]:
        side = 0.1 if item["shape"] == "box" else 1.0
        paint = paint_texture(item["color"], truth["seed"], item["key"], 0.05, label=item["key"] == "red_box")
        for i, part in enumerate(object_mesh(item)):
            name = f"{item['key']}-{i}"
            T = np.array(item["T_world_object"])
            value[name] = _shape(mi, name, part, T, paint, [side, side], GLOSS[item["shape"]])
    return mi.load_dict(value)


def _sensor(mi: Any, camera: dict[str, Any], width: int, samples: int) -> dict[str, Any]:
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
        "film": {**film, "pixel_format": "rgb", "rfilter": {"type": "gaussian"}},
        "sampler": {"type": "independent", "sample_count": samples},
    }


def _room(mi: Any, truth: dict[str, Any]) -> dict[str, Any]:
    """Table and wall."""
    table, wall = truth["table"], truth["wall"]
    size = table["size_m"]
    wood = wood_texture(size[0], size[1], truth["seed"])
    T_table = make_T(rotation_z(np.deg2rad(table["yaw_deg"])), np.array([*table["center_w"], -size[2] / 2]))
    T_wall = make_T(np.eye(3), np.array([wall["x_w"], 0.0, 0.0]))
    corners = np.array([[0, -3, -1], [0, 3, -1], [0, 3, 2], [0, -3, 2]], dtype=float)
    flat = (corners, np.tile([-1.0, 0.0, 0.0], (4, 1)), corners[:, 1:], np.array([[0, 2, 1], [0, 3, 2]]))
    plaster = paint_texture(wall["color"], truth["seed"], "wall", 0.08)
    return {
        "table": _shape(mi, "table", rounded_box(size, table["edge_m"]), T_table, wood, size[:2], GLOSS["table"]),
        "wall": _shape(mi, "wall", flat, T_wall, plaster, [0.7, 0.7], GLOSS["wall"]),
    }


def _shape(
    mi: Any, name: str, part: Surface, T: np.ndarray, image: np.ndarray, tile_m: list[float], gloss: float
) -> Any:  # fmt: skip
    points, normals, uv, faces = part
    # The first axis of a texture array is our first coordinate; Mitsuba's rows run along v, so it is transposed.
    texture = {
        "type": "bitmap",
        "bitmap": mi.Bitmap(np.ascontiguousarray(image.transpose(1, 0, 2))),
        "raw": True,
        "wrap_mode": "repeat",
    }
    props = mi.Properties()
    props["bsdf"] = mi.load_dict(
        {
            "type": "twosided",
            "bsdf": {"type": "roughplastic", "alpha": gloss, "nonlinear": True, "diffuse_reflectance": texture},
        }
    )
    mesh = mi.Mesh(name, len(points), len(faces), has_vertex_normals=True, has_vertex_texcoords=True, props=props)
    params = mi.traverse(mesh)
    params["vertex_positions"] = transform(T, points).astype(np.float32).ravel()
    params["vertex_normals"] = (normals @ T[:3, :3].T).astype(np.float32).ravel()
    params["vertex_texcoords"] = (uv / np.asarray(tile_m)).astype(np.float32).ravel()
    params["faces"] = faces.astype(np.uint32).ravel()
    params.update()
    mesh.set_id(name)
    return mesh


def render(truth: dict[str, Any], width: int, samples: int) -> np.ndarray:
    """The described scene as linear RGB (H, W, 3) float64, exposed so that 1 is the sensor's white."""
    mi = load_mitsuba()
    image = mi.render(build(truth, width, samples), spp=samples, seed=truth["seed"])
    return np.asarray(image, dtype=np.float64)[..., :3] * truth["exposure"]


def develop(linear: np.ndarray, noise: dict[str, float] | None = None, seed: int = 0) -> np.ndarray:
    """Linear RGB to the 8-bit sRGB photo a camera would write, with its noise if given."""
    if noise:
        rng = np.random.default_rng([seed, 2])
        sigma = np.sqrt(noise["shot"] ** 2 * np.maximum(linear, 0) / 0.18 + noise["read"] ** 2 * 0.18)
        linear = linear + sigma * rng.standard_normal(linear.shape)
    linear = np.clip(linear, 0, 1)
    srgb = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return np.round(srgb * 255).astype(np.uint8)


def trace(truth: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """Depth (H, W) [m] and object ids (H, W) of what the ray through each pixel centre meets first."""
    mi = load_mitsuba()
    camera = truth["camera"]
    width, height = camera["width"], camera["height"]
    scene = build(truth, width, 1)
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


def main(args: Args) -> int:
    """Write photo, depth, masks, camera and truth; returns the exit status."""
    truth = describe(args.seed)
    args.out.mkdir(parents=True, exist_ok=True)
    depth, ids = trace(truth)
    save_depth(args.out / "depth.png", depth)
    save_ids(args.out / "masks.png", ids)
    camera = truth["camera"]
    save_rgb(
        args.out / "photo.png",
        develop(render(truth, camera["width"], args.samples), truth["noise"], args.seed),
    )
    (args.out / "camera.json").write_text(json.dumps(camera, indent=1) + "\n")
    (args.out / "truth.json").write_text(json.dumps(truth | {"samples": args.samples}, indent=1) + "\n")
    print(f"Wrote {args.out}: photo.png, depth.png, masks.png, camera.json, truth.json")
    return 0


if __name__ == "__main__":
    run_script(Args, main)
