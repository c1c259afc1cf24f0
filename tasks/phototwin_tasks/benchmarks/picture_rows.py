"""Rows of suite ``reconstruct``: the cleared background, the first frame, and time."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from phototwin.frames import invert, support_depth, transform
from phototwin.images import load_depth, load_rgb
from phototwin.kernels.rasterize import rasterize
from phototwin.scene import Scene
from phototwin.view.render import render_twin
from phototwin_tasks.benchmarks import Measure
from phototwin_tasks.benchmarks.capture_measures import psnr, ssim, texture_contrast, upright_box
from phototwin_tasks.benchmarks.captures import Bench, Take, all_objects
from phototwin_tasks.benchmarks.size_rows import BASELINE, SIX, main_take

RING_PX = (4, 40)
"""A hole is compared with its surroundings between these distances from it, as shares of 640 pixels of width."""
WOOD = (*SIX, "simpler_bridge_cubes")


def background_rows(bench: Bench) -> Iterator[Measure]:
    """The background where objects were: against the empty counter, and its grain on wood."""
    counter = bench.capture("simpler_counter_three_objects")
    take = main_take(bench, counter) if counter else None
    if counter is not None and take is not None and take.scene is not None:
        true_rgb, photo = load_rgb(counter.folder / "background.png"), load_rgb(counter.photo)
        everything = np.any(list(counter.outlines.values()), axis=0)
        for name, outline in counter.outlines.items():
            fair = matched_light(true_rgb, photo, ring(outline, everything))
            for label, image in _cleared(take):
                aim = ">= 30" if label == take.method else None
                where = f"{counter.name}: {name}"
                yield Measure("background PSNR", where, psnr(image, fair, outline), "dB", aim, label)
    for name in WOOD:
        capture = bench.capture(name)
        take = None if capture is None else main_take(bench, capture)
        if capture is None or take is None or take.scene is None:
            continue
        for thing, outline in capture.outlines.items():
            for label, image in _cleared(take):
                ratio = contrast_ratio(take.scene, outline, image)
                if np.isfinite(ratio):
                    aim, off = "<= 30" if label == take.method else None, 100 * abs(ratio - 1)
                    yield Measure("texture contrast off by", f"{name}: {thing}", off, "%", aim, label)


def _cleared(take: Take) -> Iterator[tuple[str, np.ndarray]]:
    """The background by our method and by the simplest one."""
    assert take.scene is not None
    yield take.method, load_rgb(take.scene.path(take.scene.background_rgb))
    yield "Telea", telea(take.scene)


def ring(mask: np.ndarray, objects: np.ndarray) -> np.ndarray:
    """Pixels around a mask that are no object."""
    from scipy.ndimage import distance_transform_edt

    near, far = (d * mask.shape[1] / 640 for d in RING_PX)
    away = np.asarray(distance_transform_edt(~mask))
    clear = np.asarray(distance_transform_edt(~objects)) > near
    return (away > near) & (away < far) & clear


def matched_light(true_rgb: np.ndarray, photo_rgb: np.ndarray, where: np.ndarray) -> np.ndarray:
    """A picture of the same place, its light shifted to the photo's: per channel by the median difference around the object."""
    shift = np.median(photo_rgb[where].astype(float) - true_rgb[where], axis=0)
    return np.clip(np.round(true_rgb + shift), 0, 255).astype(np.uint8)


def telea(scene: Scene) -> np.ndarray:
    """The simplest way to clear the photo: OpenCV's inpainting of the masks, widened by two pixels."""
    import cv2

    holes = cv2.dilate(all_objects(scene).astype(np.uint8), np.ones((5, 5), np.uint8))
    return cv2.inpaint(load_rgb(scene.path(scene.photo)), holes, 5, cv2.INPAINT_TELEA)


def contrast_ratio(scene: Scene, outline: np.ndarray, image: np.ndarray) -> float:
    """Fine detail of the support inside an object's hole against that around it; NaN where little of the hole shows the support."""
    camera = scene.camera
    behind = load_depth(scene.path(scene.background_depth))
    plane = support_depth(camera.K_px, camera.T_world_camera, camera.width, camera.height)
    on_support = np.isfinite(plane) & (np.abs(behind - plane) < 0.02 * np.where(np.isfinite(plane), plane, 1))
    hole, around = outline & on_support, ring(outline, outline | all_objects(scene)) & on_support
    if min(hole.sum(), around.sum()) < 200:
        return float("nan")
    photo = load_rgb(scene.path(scene.photo))
    return texture_contrast(image, hole) / max(texture_contrast(photo, around), 1e-9)


def first_frame_rows(bench: Bench, names: tuple[str, ...]) -> Iterator[Measure]:
    """All objects drawn back over the background, against the photo."""
    for name in names:
        capture = bench.capture(name)
        if capture is None:
            continue
        take = main_take(bench, capture)
        for method in (take.method, BASELINE):
            ours = method == take.method
            values = (float("nan"),) * 3
            if take.scene is not None:
                values = _compare(
                    take.scene, render_twin(take.scene, take.scene.camera, True) if ours else boxes(take.scene)
                )
            yield Measure("first frame PSNR", name, values[0], "dB", ">= 28" if ours else None, method)
            yield Measure("first frame SSIM", name, values[1], "", ">= 0.90" if ours else None, method)
            yield Measure("first frame PSNR, on objects", name, values[2], "dB", None, method)


def _compare(scene: Scene, image: np.ndarray) -> tuple[float, float, float]:
    photo, objects = load_rgb(scene.path(scene.photo)), all_objects(scene)
    return psnr(image, photo), ssim(image, photo), psnr(image, photo, objects)


def boxes(scene: Scene) -> np.ndarray:
    """The simplest first frame: each object's bounding box in its typical colour over the background."""
    image, camera = load_rgb(scene.path(scene.background_rgb)).copy(), scene.camera
    meshes = [upright_box(transform(o.T_world_object, o.mesh.points.astype(np.float64))) for o in scene.objects]
    points = np.concatenate([m[0] for m in meshes])
    faces = np.concatenate([m[1] + 8 * i for i, m in enumerate(meshes)])
    raster = rasterize(
        transform(invert(camera.T_world_camera), points), faces, camera.K_px, camera.width, camera.height
    )
    for i, item in enumerate(scene.objects):
        image[(raster.face >= 0) & (raster.face // 12 == i)] = np.round(255 * item.color_rgb).astype(np.uint8)
    return image


def time_rows(bench: Bench) -> Iterator[Measure]:
    """Seconds from photo to twin of every reconstruction that was made; on a busy machine the processor's are the honest ones."""
    for (name, method), take in bench.takes.items():
        if take.scene is not None:
            yield Measure("time, photo to twin", name, take.wall_s, "s", "<= 20", method)
            yield Measure("processor time, photo to twin", name, take.cpu_s, "s", None, method)
