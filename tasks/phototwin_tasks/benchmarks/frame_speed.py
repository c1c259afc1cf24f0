"""How fast whole frames are made, step by step, and beside plain implementations of the same steps."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from phototwin.blend.blend import Blender, blend_frames, make_blender
from phototwin.blend.crop import crop_camera
from phototwin.blend.moving import draw_moving, make_moving_parts
from phototwin.blend.plate import scene_plate
from phototwin.buffers import Buffers
from phototwin.frames import invert, make_T, rotation_z, transform
from phototwin.kernels.composite import composite
from phototwin.kernels.draw import make_canvas
from phototwin.kernels.foreground import light_foreground
from phototwin.kernels.rasterize import rasterize
from phototwin.kernels.shade import shade_frames
from phototwin.kernels.shadow import cast_shadows
from phototwin.pipeline import SAMPLE, Source, photo_to_twin
from phototwin.scene import Scene, load_scene
from phototwin_tasks.benchmarks import Measure
from phototwin_tasks.benchmarks.blend_scenes import body_poses, load_robot
from phototwin_tasks.benchmarks.frame_plain import composite_opencv, shade_plain, shadow_opencv

FRAMES, OBJECTS, ROUNDS = 16, 3, 7
SIZES = ((224, 224, 250.0), (640, 480, 60.0))
"""Width, height and the frames per second that two cores must make."""
BASE_M, BASE_TURN_RAD = (0.35, -0.35, 0.0), 0.9
SWING_RAD = np.array([0.6, 0.5, 0.0, 0.3, 0.0, 0.2, 0.0])
"""Beside the objects the arm swings from its home over the table, from one end of the frames to the other."""
LIFT_M = 0.12
SAME_DEPTH_M = 1e-3


@dataclass(frozen=True, eq=False)
class Bench:
    """A view with everything in it that moves.

    Attributes:
        blender: The view.
        poses: Poses (N, 4, 4) of robot and objects; the first object is lifted with the arm.
        T_casters: Poses (N, P, 4, 4) of the casters.
        weight: How much each counts, (N, P).
        drawn: What is seen of them, as numpy arrays.
        name: The size of the frames.
    """

    blender: Blender
    poses: dict[str, np.ndarray]
    T_casters: np.ndarray
    weight: np.ndarray
    drawn: Buffers
    name: str


def speed_rows(quick: bool) -> Iterator[Measure]:
    """Frames per second, milliseconds per step, and each step as a share of the fastest plain implementation.

    Args:
        quick: The smaller frames only.
    """
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "twin"
        photo_to_twin(
            Source(SAMPLE / "photo.png", SAMPLE / "depth.png", SAMPLE / "camera.json", masks=SAMPLE / "masks.png"),
            folder,
        )
        scene = load_scene(folder)
        for width, height, wanted in SIZES[: 1 if quick else None]:
            bench = make_bench(scene, width, height)
            yield from _whole_rows(bench, wanted)
            yield from _step_rows(bench)


def make_bench(scene: Scene, width: int, height: int) -> Bench:
    """The bundled sample with a Panda that swings over the table, ``FRAMES`` frames of it."""
    scene = replace(scene, objects=scene.objects[:OBJECTS])
    crop = crop_camera(scene.camera, (width, height), np.zeros((0, 2)))
    arm, visuals = load_robot()
    shrink = float(crop.box_px[2] - crop.box_px[0]) / width
    moving = make_moving_parts(scene, visuals, shrink=shrink)
    plate = scene_plate(scene, crop.camera, crop.box_px)
    others = plate.owners > OBJECTS  # they are gone for good
    photo = np.where(others[..., None], plate.rgb, plate.photo)
    plate = replace(plate, photo=photo, owners=np.where(others, 0, plate.owners).astype(np.uint8))
    blender = make_blender(plate, moving, scene.light)
    T_world_base = make_T(rotation_z(BASE_TURN_RAD), np.array(BASE_M))
    share = np.linspace(0.0, 1.0, FRAMES)
    each = [body_poses({"q_rad": arm.home + s * SWING_RAD, "T_world_base": T_world_base}) for s in share]
    poses = {name: np.stack([one[name] for one in each]) for name in each[0]}
    poses |= {item.key: np.repeat(item.T_world_object[None], FRAMES, 0) for item in scene.objects}
    poses[scene.objects[0].key][:, 2, 3] += LIFT_M * np.maximum(share, 0.1)
    weight = np.ones((FRAMES, moving.casters.parts))
    weight[:, len(moving.caster_owners) - len(moving.keys) + 1 :] = 0.0
    drawn = draw_moving(moving, poses, crop.camera)
    drawn = replace(
        drawn,
        color=drawn.color.numpy(),
        depth_m=drawn.depth_m.numpy(),
        ids=drawn.ids.numpy(),
        normals_w=None if drawn.normals_w is None else drawn.normals_w.numpy(),
    )
    return Bench(blender, poses, moving.caster_poses(poses), weight, drawn, f"{width} x {height}")


def _whole_rows(bench: Bench, wanted: float) -> Iterator[Measure]:
    seconds, _ = fastest(lambda: blend_frames(bench.blender, bench.poses), time.perf_counter)
    yield Measure("whole frames", bench.name, FRAMES / seconds, "1/s", f">= {wanted:g}", "draw, light, shadow, blend")
    work, frames = fastest(lambda: blend_frames(bench.blender, bench.poses, workers=1), time.process_time)
    yield Measure("whole frame, processor time", bench.name, 1000 * work / FRAMES, "ms", None, "one thread")
    shared = blend_frames(bench.blender, bench.poses, workers=2)
    yield Measure("frames of two threads that differ", bench.name, float((shared.rgb != frames.rgb).sum()), "", "== 0")
    yield Measure("drawn pixels", bench.name, float((bench.drawn.ids > 0).mean()), "")
    yield Measure("like full frames", bench.name, _like_full_frames(bench), "", ">= 0.999", "depth where both draw")


def _like_full_frames(bench: Bench) -> float:
    """Share of the pixels, of those where both draw what moves, in which everything drawn as one mesh over the whole frame has the same depth."""
    moving, view = bench.blender.moving, bench.blender.plate.camera
    mesh = moving.draw_list.mesh
    points, faces = mesh.points.numpy(), mesh.faces.numpy()
    part = mesh.vertex_part.numpy()
    T = np.stack([bench.poses[owner][-1] for owner in moving.owners])
    points_w = np.einsum("vij,vj->vi", T[part, :3, :3], points) + T[part, :3, 3]
    points_c = transform(invert(view.T_world_camera), points_w)
    depth = rasterize(points_c, faces, view.K_px, view.width, view.height).depth_m
    both = (depth > 0) & (bench.drawn.depth_m[-1] > 0)
    return float((np.abs(depth - bench.drawn.depth_m[-1])[both] < SAME_DEPTH_M).mean())


def _step_rows(bench: Bench) -> Iterator[Measure]:
    """Every step alone, on one thread, and beside others where there are others."""
    moving, plate, light = bench.blender.moving, bench.blender.plate, bench.blender.light
    view, drawn = plate.camera, bench.drawn
    camera = (view.T_world_camera, view.K_px)
    seen = (drawn.depth_m, drawn.normals_w, drawn.ids)
    canvas = make_canvas(moving.draw_list, FRAMES, view.width, view.height)
    with one_thread():
        yield _step(bench, "draw", fastest(lambda: draw_moving(moving, bench.poses, view, canvas))[0])
        taken, visibility = fastest(lambda: light_foreground(moving.casters, bench.T_casters, *seen, *camera, light))
        yield _step(bench, "light on what moves", taken)
        visibility = visibility.numpy()

        def shade() -> Any:
            return shade_frames(drawn.color, *seen, visibility, light, *camera)

        others = {
            name: (lambda name=name: shade_plain(name, drawn, visibility, light, view)) for name in ("numpy", "torch")
        }
        color = yield from _beside(bench, "shade", shade, others, lambda image: image[drawn.ids > 0], 2.0)

        def shadow() -> Any:
            points, normals = plate.points_w, plate.normals_w
            return cast_shadows(moving.casters, bench.T_casters, bench.weight, points, normals, light)

        plain = {"opencv": lambda: shadow_opencv(moving.casters, bench.T_casters, bench.weight, plate, light)}
        shadows = yield from _beside(bench, "shadow", shadow, plain, lambda both: both[0], None)

        def blend() -> Any:
            ids = (drawn.robot_ids, drawn.object_ids)
            return composite(color, drawn.depth_m, drawn.ids, bench.blender.arrays, *ids, None, *shadows)[0]

        plain = {"opencv": lambda: composite_opencv(color, drawn, bench.blender.arrays, *shadows)}
        yield from _beside(bench, "composite", blend, plain, lambda image: image, 2.0)


def _step(bench: Bench, name: str, seconds: float, method: str = "ours") -> Measure:
    return Measure(name, bench.name, 1000 * seconds / FRAMES, "ms", None, method)


def _beside(
    bench: Bench,
    name: str,
    ours: Callable[[], Any],
    others: dict[str, Callable[[], Any]],
    part: Callable[[Any], Any],
    tolerance: float | None,
) -> Iterator[Measure]:
    """Times of a step and its rivals and how far their results are apart; returns ours."""
    taken, result = fastest(ours)
    result = tuple(v.numpy() for v in result) if isinstance(result, tuple) else np.asarray(result)
    yield _step(bench, name, taken)
    times = {}
    for method, call in others.items():
        times[method], theirs = fastest(call, rounds=3)
        yield _step(bench, name, times[method], method)
        apart = np.abs(part(result).astype(np.float64) - np.asarray(part(theirs), dtype=np.float64))
        if tolerance is None:
            yield Measure(f"{name}, mean difference", bench.name, float(apart.mean()), "", None, method)
        else:
            far = float((apart > tolerance).mean())
            yield Measure(f"{name}, values that differ", bench.name, far, "", "<= 0.001", method)
    best = min(times, key=times.__getitem__)
    yield Measure(f"{name}, share of the fastest other", bench.name, taken / times[best], "", "<= 1", best)
    return result


def fastest(
    call: Callable[[], Any], clock: Callable[[], float] = time.process_time, rounds: int = ROUNDS
) -> tuple[float, Any]:
    """The shortest time of some rounds after a first one [s], and what the last returned."""
    result, times = call(), []
    for _ in range(rounds):
        started = clock()
        result = call()
        times.append(clock() - started)
    return min(times), result


@contextmanager
def one_thread() -> Iterator[None]:
    """OpenCV and torch on one thread each, as Warp is, and as they were afterwards."""
    import cv2
    import torch

    before = cv2.getNumThreads(), torch.get_num_threads()
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(before[0])
        torch.set_num_threads(before[1])
