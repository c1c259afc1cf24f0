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
from phototwin.frames import make_T, rotation_z
from phototwin.images import save_depth, save_ids, save_rgb
from phototwin_tasks.benchmarks.truth_paint import paint_texture, wood_texture
from phototwin_tasks.benchmarks.truth_surfaces import object_surfaces, rounded_box
from phototwin_tasks.benchmarks.truth_trace import Part, develop, render_parts, trace_parts

SAMPLE = Path(__file__).resolve().parents[1] / "usd_assets/sample"
GLOSS = {"box": 0.25, "bowl": 0.2, "mug": 0.09, "table": 0.28, "wall": 0.6}  # GGX roughness: paint, glaze, oil, plaster


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


def parts(truth: dict[str, Any]) -> list[Part]:
    """Table, wall and objects of the description."""
    table, wall = truth["table"], truth["wall"]
    size = table["size_m"]
    wood = wood_texture(size[0], size[1], truth["seed"])
    T_table = make_T(rotation_z(np.deg2rad(table["yaw_deg"])), np.array([*table["center_w"], -size[2] / 2]))
    T_wall = make_T(np.eye(3), np.array([wall["x_w"], 0.0, 0.0]))
    corners = np.array([[0, -3, -1], [0, 3, -1], [0, 3, 2], [0, -3, 2]], dtype=float)
    flat = (corners, np.tile([-1.0, 0.0, 0.0], (4, 1)), corners[:, 1:], np.array([[0, 2, 1], [0, 3, 2]]))
    plaster = paint_texture(wall["color"], truth["seed"], "wall", 0.08)
    found = [
        Part("table", rounded_box(size, table["edge_m"]), T_table, wood, size[:2], GLOSS["table"]),
        Part("wall", flat, T_wall, plaster, [0.7, 0.7], GLOSS["wall"]),
    ]
    for item in truth["objects"]:
        side = 0.1 if item["shape"] == "box" else 1.0
        paint = paint_texture(item["color"], truth["seed"], item["key"], 0.05, label=item["key"] == "red_box")
        T = np.array(item["T_world_object"])
        for i, surface in enumerate(object_surfaces(item)):
            found.append(Part(f"{item['key']}-{i}", surface, T, paint, [side, side], GLOSS[item["shape"]]))
    return found


def render(truth: dict[str, Any], width: int, samples: int) -> np.ndarray:
    """The described scene as linear RGB (H, W, 3) float64, exposed so that 1 is the sensor's white."""
    return render_parts(truth, parts(truth), width, samples) * truth["exposure"]


def main(args: Args) -> int:
    """Write photo, depth, masks, camera and truth; returns the exit status."""
    truth = describe(args.seed)
    args.out.mkdir(parents=True, exist_ok=True)
    depth, ids = trace_parts(truth, parts(truth))
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
