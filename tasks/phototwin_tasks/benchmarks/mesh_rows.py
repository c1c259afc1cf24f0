"""Rows of suite ``reconstruct``: meshes against complete clouds, and whether they can be simulated."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np

from phototwin.build.shapes import is_closed
from phototwin.frames import invert, pixel_rays, transform
from phototwin.images import load_depth
from phototwin.scene import Scene, SceneObject
from phototwin_tasks.benchmarks import Measure
from phototwin_tasks.benchmarks.capture_measures import (
    emptiest_point,
    f_score,
    inside_mesh,
    inside_pieces,
    sample_surface,
    upright_box,
    volume_error,
    widest_m,
)
from phototwin_tasks.benchmarks.captures import Bench, Capture, attempt, mask_hints, object_at
from phototwin_tasks.benchmarks.size_rows import BASELINE, main_take

VESSELS = ("pitcher", "bowl", "mug")
REAL_VESSELS = ("six_blue_mug", "six_green_bowl")
SAMPLES = 20000
SEED = 0
GIVEN = "depth, masks given"


def mesh_rows(bench: Bench) -> Iterator[Measure]:
    """Every object of the scene whose complete clouds are known, and their medians."""
    capture = bench.capture("pcr_google7")
    if capture is None:
        return
    rows: list[Measure] = []
    for name, cloud_c, outline in _truths(capture):
        for row in _object_rows(bench, capture, name, cloud_c, outline):
            rows.append(row)
            yield row
    for measure, unit, aim in (
        ("F-score at 10 mm", "", ">= 0.85"),
        ("F-score at 2 % of size", "", ">= 0.85"),
        ("diameter error", "%", "<= 4"),
    ):
        for method in (GIVEN, BASELINE):
            values = [r.value for r in rows if r.name == measure and r.method == method]
            middle = float(np.median(values)) if values else float("nan")
            yield Measure(f"{measure}, median", capture.name, middle, unit, aim if method == GIVEN else None, method)


def _truths(capture: Capture) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Name, complete cloud (N, 3) in the camera's frame and outline of each object."""
    assert capture.pose is not None
    with np.load(capture.folder / "complete_points_world.npz") as data:
        points_c, owner = transform(invert(capture.pose), data["points_w"].astype(np.float64)), data["instance"]
    for i, (name, outline) in enumerate(capture.outlines.items()):
        yield name, points_c[owner == i], outline


def _object_rows(
    bench: Bench, capture: Capture, name: str, cloud_c: np.ndarray, outline: np.ndarray
) -> Iterator[Measure]:
    take = bench.take(capture, GIVEN, depth=True, hints=mask_hints(capture))
    label = f"{capture.name}: {name}"
    found: list[SceneObject] = []
    if take.scene is not None:
        scene = take.scene
        attempt(label, GIVEN, lambda: found.append(object_at(scene, outline)[0]) or 0.0)
    if take.scene is None or not found:
        for measure in ("F-score at 10 mm", "F-score at 2 % of size", "diameter error"):
            yield Measure(measure, label, float("nan"), "", None, GIVEN)
        return
    item, cloud = found[0], transform(take.scene.camera.T_world_camera, cloud_c)
    rng = np.random.default_rng(SEED)
    surface = transform(item.T_world_object, sample_surface(item.mesh.points, item.mesh.faces, SAMPLES, rng))
    box = _baseline_surface(take.scene, outline, rng)
    for method, points in ((GIVEN, surface), (BASELINE, box)):
        reach = 0.02 * float(np.ptp(cloud, axis=0).max())
        yield Measure("F-score at 10 mm", label, f_score(points, cloud, 0.01), "", None, method)
        yield Measure("F-score at 2 % of size", label, f_score(points, cloud, reach), "", None, method)
        wide = 100 * abs(widest_m(points) / widest_m(cloud) - 1)
        yield Measure("diameter error", label, wide, "%", None, method)
        tall = 100 * abs(np.ptp(points[:, 2]) / np.ptp(cloud[:, 2]) - 1)
        yield Measure("height error", label, tall, "%", None, method)
    yield from solid_rows(label, GIVEN, item)
    if name in VESSELS:
        cavity = transform(invert(item.T_world_object), emptiest_point(cloud))
        yield Measure("hollow stays hollow", label, hollow_at(item, cavity), "", "== 1", GIVEN)


def solid_rows(label: str, method: str, item: SceneObject) -> Iterator[Measure]:
    """Whether a mesh is closed, and how far its convex pieces are from its volume."""
    yield Measure("closed", label, float(is_closed(item.mesh.faces)), "", "== 1", method)
    error = attempt(label, method, lambda: volume_error(item.mesh.points, item.mesh.faces, item.pieces, SEED))
    yield Measure("pieces' volume error", label, error, "%", "<= 3", method)


def hollow_at(item: SceneObject, point_o: np.ndarray) -> float:
    """1 where a point (3,) of the object's frame is outside the mesh and outside every convex piece, else 0."""
    filled = inside_mesh(item.mesh.points, item.mesh.faces, point_o) or inside_pieces(item.pieces, point_o[None])[0]
    return float(not filled)


def _baseline_surface(scene: Scene, outline: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Points on the smallest upright box around the masked points of the depth, from the support up."""
    corners, faces = upright_box(seen_points(scene, outline))
    return sample_surface(corners, faces, SAMPLES, rng)


def seen_points(scene: Scene, outline: np.ndarray) -> np.ndarray:
    """Points (N, 3) of the depth inside an outline, world frame [m]."""
    depth_m, camera = load_depth(scene.path(scene.depth)), scene.camera
    rays = pixel_rays(camera.K_px, camera.width, camera.height)
    return transform(camera.T_world_camera, (rays * depth_m[..., None])[outline & (depth_m > 0)])


def real_solid_rows(bench: Bench, names: tuple[str, ...]) -> Iterator[Measure]:
    """Worst of all objects of each capture: closed, and the pieces' volume."""
    for name in names:
        capture = bench.capture(name)
        take = None if capture is None else main_take(bench, capture)
        if take is None or take.scene is None:
            continue
        rows = [row for item in take.scene.objects for row in solid_rows(name, take.method, item)]
        closed = min(row.value for row in rows if row.name == "closed")
        worst = max(row.value for row in rows if row.name != "closed")
        yield Measure("closed, all objects", name, closed, "", "== 1", take.method)
        yield Measure("pieces' volume error, worst", name, worst, "%", "<= 3", take.method)
    for name in filter(names.__contains__, REAL_VESSELS):
        capture = bench.capture(name)
        take = None if capture is None else main_take(bench, capture)
        if capture is not None and take is not None and take.scene is not None:
            value = attempt(name, take.method, partial(_real_hollow, take.scene, next(iter(capture.outlines.values()))))
            yield Measure("hollow stays hollow", name, value, "", "== 1", take.method)


def _real_hollow(scene: Scene, outline: np.ndarray) -> float:
    """Whether the object at an outline is empty half-way between its near wall, seen from outside, and its far one, seen from inside."""
    item = object_at(scene, outline)[0]
    return hollow_at(item, transform(invert(item.T_world_object), emptiest_point(seen_points(scene, outline))))
