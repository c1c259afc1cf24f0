"""The files of a scene of the blending's truth test, path traced; see ``blend_scenes`` for what they are."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from phototwin.images import save_depth, save_ids, save_rgb
from phototwin.light import light_to_json
from phototwin.output import written_aside
from phototwin_tasks.benchmarks.blend_light import exposure_of, true_light
from phototwin_tasks.benchmarks.blend_scenes import (
    blend_cache,
    describe_blend,
    robot_parts,
    with_moved_object,
)
from phototwin_tasks.benchmarks.truth_scenes import scene_parts
from phototwin_tasks.benchmarks.truth_trace import Part, develop, ids_of, render_calm, see_parts

SAMPLES = 96  # paths per pixel; smoothing along the surfaces does the rest
SHADOW_CHANGE = 0.04
"""Light that changes by more than this share is shadow (or the robot's reflection)."""
GRAIN_PX = (7, 7)  # the light is averaged over so many pixels before it is compared
LEAST_SHADOW_PX = 100
COVERAGE_SAMPLES = 4  # squared per pixel


def blend_scene(seed: int, cache: Path | None = None) -> Path:
    """Folder of the scene of that seed, made when it is not there."""
    folder = (cache or blend_cache()) / f"{seed:04d}"
    if not (folder / "truth.json").is_file():
        with written_aside(folder) as aside:
            make_blend_scene(describe_blend(seed), aside)
    return folder


def make_blend_scene(truth: dict[str, Any], folder: Path, samples: int = SAMPLES) -> dict[str, Any]:
    """Render a described scene into ``folder``; returns the description with exposure and light.

    Args:
        truth: The description, see ``describe_blend``.
        folder: Where the files go.
        samples: Light paths a pixel.
    """
    limit_threads()
    folder.mkdir(parents=True, exist_ok=True)
    parts = scene_parts(truth)
    robot = robot_parts(truth["robot"])
    photo = render_calm(truth, parts, samples)
    light = true_light(truth, parts)
    truth["exposure"] = exposure = exposure_of(truth, photo, light)
    truth["light"] = light_to_json(replace(light, sh=light.sh * exposure, irradiance=light.irradiance * exposure))
    exposed = photo * exposure
    save_rgb(folder / "photo.png", develop(exposed))
    save_rgb(folder / "photo_noisy.png", _camera_file(exposed, truth))
    # Another seed: the same random paths would hide the grain that the two have.
    with_robot = render_calm({**truth, "seed": truth["seed"] + 1}, [*parts, *robot], samples) * exposure
    save_rgb(folder / "truth.png", develop(with_robot))
    _save_geometry(truth, parts, robot, exposed, with_robot, folder)
    if "moved_camera" in truth:
        moved = render_calm({**truth, "camera": truth["moved_camera"]}, parts, samples) * exposure
        save_rgb(folder / "moved.png", develop(moved))
        (folder / "moved_camera.json").write_text(json.dumps(truth["moved_camera"], indent=1) + "\n")
    if "moved_object" in truth:
        elsewhere = with_moved_object(truth)
        moved = render_calm(elsewhere, scene_parts(elsewhere), samples) * exposure
        save_rgb(folder / "moved_object.png", develop(moved))
        (folder / "moved_object.json").write_text(json.dumps(truth["moved_object"], indent=1) + "\n")
    (folder / "truth.json").write_text(json.dumps(truth, indent=1) + "\n")
    return truth


def limit_threads() -> None:
    """One thread for the path tracer."""
    import drjit

    drjit.set_thread_count(1)


def _camera_file(linear: np.ndarray, truth: dict[str, Any]) -> np.ndarray:
    """What a camera's JPEG holds of a linear picture."""
    from PIL import Image

    packed = io.BytesIO()
    image = Image.fromarray(develop(linear, truth["noise"], truth["seed"]))
    image.save(packed, "JPEG", quality=truth["jpeg_quality"], subsampling=0)
    return np.asarray(Image.open(packed))


def _save_geometry(truth: dict[str, Any], parts: list[Part], robot: list[Part], photo: np.ndarray, with_robot: np.ndarray, folder: Path) -> None:  # fmt: skip
    """What the pixel centres see, where the robot is, and where it changes the light."""
    camera = truth["camera"]
    seen = see_parts(camera, parts)
    save_depth(folder / "depth_exact.png", seen.depth_m)
    save_ids(folder / "masks.png", ids_of(truth, parts, seen))
    np.save(folder / "normals.npy", seen.normal_w.astype(np.float16))
    coverage = robot_coverage(camera, parts, robot)
    save_ids(folder / "coverage.png", np.round(255 * coverage))
    save_ids(folder / "shadow.png", 255 * shadow_mask(photo, with_robot, coverage))
    pose = {key: camera[key] for key in ("K_px", "T_world_camera")}
    (folder / "camera_pose.json").write_text(json.dumps(pose, indent=1) + "\n")


def robot_coverage(camera: dict[str, Any], parts: list[Part], robot: list[Part]) -> np.ndarray:
    """Share (H, W) of each pixel that shows the robot."""
    n = COVERAGE_SAMPLES
    K = np.diag([n, n, 1.0]) @ np.array(camera["K_px"])
    fine = {**camera, "width": camera["width"] * n, "height": camera["height"] * n, "K_px": K.tolist()}
    mine = see_parts(fine, [*parts, *robot]).part >= len(parts)
    return mine.reshape(camera["height"], n, camera["width"], n).mean((1, 3))


def shadow_mask(photo: np.ndarray, with_robot: np.ndarray, coverage: np.ndarray) -> np.ndarray:
    """Pixels (H, W) off the robot whose light (linear RGB, (H, W, 3)) the robot changes; not single grains."""
    import cv2

    off = (coverage == 0).astype(np.float32)

    def mean(image: np.ndarray) -> np.ndarray:
        return cv2.blur(image.mean(-1).astype(np.float32) * off, GRAIN_PX) / np.maximum(cv2.blur(off, GRAIN_PX), 1e-6)

    change = np.abs(mean(with_robot) / np.maximum(mean(photo), 1e-4) - 1)
    changed = ((change > SHADOW_CHANGE) & (off > 0)).astype(np.uint8)
    _, labels, stats, _ = cv2.connectedComponentsWithStats(changed, connectivity=4)
    return (stats[labels, cv2.CC_STAT_AREA] >= LEAST_SHADOW_PX) & (changed > 0)
