"""Camera randomisation against path-traced truth: the photo's scene from a camera a few centimetres and degrees away."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from phototwin.blend.backdrop import BackdropView, make_backdrop, view_backdrop
from phototwin.errors import TwinError
from phototwin.images import load_depth, load_rgb
from phototwin.scene import Camera
from phototwin_tasks.benchmarks import Measure
from phototwin_tasks.benchmarks.blend_measure import Case, camera_of
from phototwin_tasks.benchmarks.blend_methods import Setting, twin_setting
from phototwin_tasks.benchmarks.capture_measures import psnr

LEAST_DB = 24.0
MOST_HOLES = 0.5  # percent of the picture


def camera_rows(folders: Iterable[Path]) -> Iterator[Measure]:
    """Pictures from moved cameras against what Mitsuba sees from there, with exact depth and with the product's twin.

    Args:
        folders: Scenes of the truth test (``blend_scenes``); those without ``moved.png`` are left out.
    """
    with tempfile.TemporaryDirectory() as scratch:
        for folder in folders:
            if not (folder / "moved.png").is_file():
                continue
            case = Case(folder)
            moved = camera_of(json.loads((folder / "moved_camera.json").read_text()))
            true_rgb = load_rgb(folder / "moved.png")
            started = time.process_time()
            backdrop = make_backdrop(case.photo, case.depth_m, case.camera)
            made = time.process_time()
            view = view_backdrop(backdrop, moved)
            drawn = time.process_time()
            yield from _rows(case, view, view.rgb, true_rgb, "exact depth")
            yield Measure("backdrop made", case.folder.name, made - started, "s", "<= 3.0", "processor time")
            yield Measure("backdrop seen", case.folder.name, 1000 * (drawn - made), "ms", None, "processor time")
            yield from _twin_rows(case, moved, true_rgb, Path(scratch) / folder.name)


def _rows(case: Case, view: BackdropView, rgb: np.ndarray, true_rgb: np.ndarray, method: str) -> Iterator[Measure]:
    scene, from_photo = case.folder.name, ~np.isnan(view.source_px[..., 0])
    yield Measure("moved camera", scene, psnr(rgb, true_rgb), "dB", f">= {LEAST_DB}", method)
    yield Measure("moved camera, seen in the photo", scene, psnr(rgb, true_rgb, from_photo), "dB", None, method)
    yield Measure("moved camera, not in the photo", scene, psnr(rgb, true_rgb, ~from_photo), "dB", None, method)
    yield Measure("share not in the photo", scene, 100 * float((~from_photo).mean()), "%", None, method)
    yield Measure("holes", scene, 100 * float(view.holes.mean()), "%", f"< {MOST_HOLES}", method)


def _twin_rows(case: Case, moved: Camera, true_rgb: np.ndarray, folder: Path) -> Iterator[Measure]:
    method = "twin"
    try:
        setting = twin_setting(case, case.photo, folder)
    except TwinError as error:
        yield Measure("moved camera", case.folder.name, float("nan"), "dB", f">= {LEAST_DB}", f"{method}: {error}")
        return
    rgb, view = twin_from(setting, moved)
    yield from _rows(case, view, rgb, true_rgb, method)


def twin_from(setting: Setting, camera: Camera) -> tuple[np.ndarray, BackdropView]:
    """A twin's picture (H, W, 3) uint8 from another camera, objects where the photo has them, and its background alone."""
    from phototwin.blend.blend import blend_frames, make_blender
    from phototwin.blend.moving import make_moving_parts
    from phototwin.blend.plate import make_plate

    scene = setting.scene
    background, depth = load_rgb(scene.path(scene.background_rgb)), load_depth(scene.path(scene.background_depth))
    guessed = scene.camera_sigma.depth_m == 0
    view = view_backdrop(
        make_backdrop(background, depth, scene.camera, scene.support.polygon_w, guessed=guessed), camera
    )
    if not scene.objects:
        return view.rgb, view
    moving = make_moving_parts(scene, (), setting.estimated)
    blender = make_blender(make_plate(camera, view.rgb, view.depth_m, still=False), moving, setting.estimated)
    return blend_frames(blender, {item.key: item.T_world_object[None] for item in scene.objects}).rgb[0], view
