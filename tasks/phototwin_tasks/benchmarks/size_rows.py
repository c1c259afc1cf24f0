"""Rows of suite ``reconstruct``: the camera over the table, and how large things are."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np

from phototwin.errors import PerceptionError, TwinError
from phototwin.frames import pixel_rays, transform
from phototwin.images import load_depth, load_rgb
from phototwin.perceive.vanishing import ManhattanFrame, detect_segments, manhattan_frame, pitch_roll
from phototwin_tasks.benchmarks import Measure
from phototwin_tasks.benchmarks.capture_measures import bounding_box, box_sides, upright_box
from phototwin_tasks.benchmarks.captures import (
    Bench,
    Capture,
    Take,
    attempt,
    best_match,
    box_hints,
    complain,
    look,
    mask_hints,
    masks_of,
    object_at,
)

SIX = ("six_sugar", "six_cheezit", "six_blue_mug", "six_green_bowl")
TABLES = (("pcr_google7", "<= 0.1", "<= 2"), ("o2s_spoon_plate", "<= 1.5", "<= 12"))
GRAVITY = (*SIX, "pcr_google7", "simpler_bridge_cubes")
BASELINE = "bounding box"
ALL_SIX = "all six_*"
HEIGHT = "camera height=0.336"  # of simpler_bridge_cubes, as its source states it
PRIOR_PITCH_DEG = 35.0  # the simplest guess about gravity: people photograph a table at 30 to 45 degrees


def depth_take(bench: Bench, capture: Capture) -> Take:
    """The capture reconstructed from photo, K and depth."""
    return bench.take(capture, "depth", depth=True)


def main_take(bench: Bench, capture: Capture) -> Take:
    """The capture reconstructed with the best that came with it."""
    if capture.depth is not None:
        return depth_take(bench, capture)
    if capture.name == "simpler_bridge_cubes":
        return bench.take(capture, "RGB, camera height", anchors=(HEIGHT,))
    return bench.take(capture, "RGB, can's height", anchors=("can=0.122",))


def hinted_take(bench: Bench, capture: Capture, method: str, anchors: tuple[str, ...]) -> Take:
    """A capture without its depth: without a hint where that finds the object, else with one box each, which the method then says."""
    take = bench.take(capture, method, anchors=anchors)
    outlines = list(capture.outlines.values())
    if take.scene is not None and all(best_match(masks_of(take.scene), o)[1] > 0.7 for o in outlines):
        return take
    return bench.take(capture, f"{method}, box given", anchors=anchors, hints=box_hints(capture))


def rgb_take(bench: Bench, capture: Capture) -> Take:
    """The capture without its depth; the camera's height over the table, which a user would measure, is read off the depth."""
    seen = depth_take(bench, capture)
    if seen.scene is None:
        return Take(None, "RGB, camera height", error=seen.error)
    height = float(seen.scene.camera.T_world_camera[2, 3])
    return hinted_take(bench, capture, "RGB, camera height", (f"camera height={height:.4f}",))


def table_rows(bench: Bench) -> Iterator[Measure]:
    """Tilt and offset of the support against a known camera pose."""
    for name, tilt_target, offset_target in TABLES:
        capture = bench.capture(name)
        if capture is None or capture.pose is None:
            continue
        pose, take = capture.pose, depth_take(bench, capture)
        for method in ("depth", "least squares"):
            T = _plain_plane(capture) if method != "depth" else take.scene and take.scene.camera.T_world_camera
            tilt, offset = (float("nan"),) * 2 if T is None else plane_error(T, pose)
            aims = (tilt_target, offset_target) if method == "depth" else (None, None)
            yield Measure("table tilt", name, tilt, "deg", aims[0], method)
            yield Measure("table offset", name, offset, "mm", aims[1], method)


def plane_error(T_world_camera: np.ndarray, T_true_camera: np.ndarray) -> tuple[float, float]:
    """Angle between two supports z = 0 seen by one camera [deg], and how far the first lies from the true one where the camera looks [mm]."""
    tilt = np.degrees(np.arccos(np.clip(T_world_camera[2, :3] @ T_true_camera[2, :3], -1, 1)))
    ahead_c = np.array([0, 0, -T_true_camera[2, 3] / T_true_camera[2, 2]])
    return float(tilt), float(1000 * abs(transform(T_world_camera, ahead_c)[2]))


def _plain_plane(capture: Capture) -> np.ndarray:
    """Rows of T_world_camera (4, 4) of a least-squares plane through all of the depth; only the row of z means anything."""
    assert capture.depth is not None
    depth_m = load_depth(capture.depth)
    points_c = (pixel_rays(capture.K_px, depth_m.shape[1], depth_m.shape[0]) * depth_m[..., None])[depth_m > 0]
    middle = points_c.mean(0)
    up = np.linalg.svd(np.cov((points_c - middle).T))[0][:, 2]
    up = up if up @ middle < 0 else -up
    T = np.eye(4)
    T[2] = np.append(up, -up @ middle)
    return T


def size_rows(bench: Bench) -> Iterator[Measure]:
    """Sizes with depth and without, in percent of the truth."""
    sets: dict[tuple[str, str], list[float]] = {}
    for name in SIX:
        capture = bench.capture(name)
        if capture is None:
            continue
        for take in (depth_take(bench, capture), rgb_take(bench, capture)):
            kind = "depth" if take.method == "depth" else "RGB"
            for method in (take.method, f"{BASELINE} ({kind})"):
                for side, error in _side_errors(capture, take, method != take.method).items():
                    yield Measure(f"size error, {side}", name, error, "%", None, method)
                    group = "all" if kind == "depth" else "height" if side == "height" else "footprint"
                    label = kind if method == take.method else method
                    sets.setdefault((f"{kind} {group}", label), []).append(error)
            for side, sigmas in _in_sigmas(capture, take).items():
                yield Measure(f"size error over its sigma, {side}", name, sigmas, "", None, take.method)
    yield from _can_rows(bench, sets)
    yield from _summary(sets)


def _summary(sets: dict[tuple[str, str], list[float]]) -> Iterator[Measure]:
    """Mean and worst of each set of errors."""
    aims = {
        "depth all": ("size error", ALL_SIX, "<= 2.5", "<= 5"),
        "RGB height": ("heights and diameters, error", f"{ALL_SIX}, can", "<= 4", None),
        "RGB footprint": ("box footprint, error", ALL_SIX, "<= 12", None),
    }
    for (group, method), errors in sets.items():
        label, scene, mean, worst = aims[group]
        ours = not method.startswith(BASELINE)
        yield Measure(f"{label}, mean", scene, float(np.mean(errors)), "%", mean if ours else None, method)
        yield Measure(f"{label}, worst", scene, float(np.max(errors)), "%", worst if ours else None, method)


def true_sides(capture: Capture) -> dict[str, float]:
    """Known sides [m] of a capture's one object: from the catalogue where there is one, else its measured height."""
    item = capture.facts["objects"][0]
    if item["size_m"] is None:
        return {"height": item["height_m_by_depth"]}
    short, long, height = sorted(item["size_m"])  # each of these stands on its smallest face
    return {"long side": long, "short side": short, "height": height}


def _side_errors(capture: Capture, take: Take, baseline: bool) -> dict[str, float]:
    """Errors of the known sides [%]; NaN where there is no reconstruction."""
    truth = true_sides(capture)
    outline = next(iter(capture.outlines.values()))

    def sides() -> np.ndarray:
        assert take.scene is not None, "there is no reconstruction"
        item, mask = object_at(take.scene, outline)
        if not baseline:
            return np.array([max(item.size_m[:2]), min(item.size_m[:2]), item.size_m[2]])
        return _box_of_points(take, mask) if take.method == "depth" else box_on_plane(take, mask)

    try:
        found: dict[str, float] = dict(zip(("long side", "short side", "height"), sides().tolist(), strict=True))
    except Exception as error:
        complain(capture.name, take.method, str(error))
        return dict.fromkeys(truth, float("nan"))
    return {side: 100 * abs(found[side] / value - 1) for side, value in truth.items()}


def _in_sigmas(capture: Capture, take: Take) -> dict[str, float]:
    """Errors of the known sides over the standard deviations that the twin states; empty where there is no twin."""
    if take.scene is None:
        return {}
    try:
        item = object_at(take.scene, next(iter(capture.outlines.values())))[0]
    except TwinError:
        return {}
    long, short = np.argsort(item.size_m[:2])[::-1]
    axes = {"long side": long, "short side": short, "height": 2}
    truth = true_sides(capture)
    sigma = np.maximum(item.size_sigma_m, 1e-6)
    return {side: float(abs(item.size_m[axes[side]] - v) / sigma[axes[side]]) for side, v in truth.items()}


def _box_of_points(take: Take, mask: np.ndarray) -> np.ndarray:
    """Sides of the upright box around the masked points of a twin's depth, its farthest half percent left out."""
    assert take.scene is not None
    depth_m, camera = load_depth(take.scene.path(take.scene.depth)), take.scene.camera
    known = mask & (depth_m > 0)
    points_c = (pixel_rays(camera.K_px, camera.width, camera.height) * depth_m[..., None])[known]
    points_w = transform(camera.T_world_camera, points_c)
    low, high = np.percentile(points_w, (0.5, 99.5), axis=0)
    return box_sides(upright_box(points_w[((points_w >= low) & (points_w <= high)).all(1)], foot_z=0.0)[0])


def box_on_plane(take: Take, mask: np.ndarray) -> np.ndarray:
    """Sides of an upright board as wide and tall as the mask's bounding box, its foot where the box's lower edge meets the plane."""
    assert take.scene is not None
    camera = take.scene.camera
    x0, y0, x1, y1 = bounding_box(mask)
    R, height = camera.T_world_camera[:3, :3], camera.T_world_camera[2, 3]

    def ray(x: float, y: float) -> np.ndarray:
        return R @ np.linalg.solve(camera.K_px, [x, y, 1.0])

    foot = ray((x0 + x1) / 2, y1)
    foot = foot * (-height / foot[2])
    top = ray((x0 + x1) / 2, y0)
    top = top * (np.linalg.norm(foot[:2]) / np.linalg.norm(top[:2]))
    depth = (R.T @ foot)[2]
    width = depth * (x1 - x0) / camera.K_px[0, 0]
    return np.array([width, width, top[2] + height])


def _can_rows(bench: Bench, sets: dict[tuple[str, str], list[float]]) -> Iterator[Measure]:
    """The can's diameter where its height is known, and the sugar box's footprint where its height is."""
    counter, sugar = bench.capture("simpler_counter_three_objects"), bench.capture("six_sugar")
    if counter is not None:
        take = main_take(bench, counter)
        truth = counter.facts["objects"][0]["size_m"][0]
        error = attempt(
            counter.name, take.method, lambda: 100 * abs(_can_diameter(take, counter.outlines["can"]) / truth - 1)
        )
        yield Measure("size error, can's diameter", counter.name, error, "%", None, take.method)
        sets.setdefault(("RGB height", "RGB"), []).append(error)
    if sugar is not None:
        take = hinted_take(bench, sugar, "RGB, its height", ("box=0.175",))
        for side, error in _side_errors(sugar, take, False).items():
            if side != "height":
                yield Measure(f"size error, {side}", sugar.name, error, "%", None, take.method)
                sets.setdefault(("RGB footprint", "RGB"), []).append(error)


def _can_diameter(take: Take, outline: np.ndarray) -> float:
    assert take.scene is not None, "there is no reconstruction"
    return float(object_at(take.scene, outline)[0].size_m[:2].mean())


def gravity_rows(bench: Bench) -> Iterator[Measure]:
    """Pitch and roll by lines alone and as perception settles them, K known, depth withheld; a view from above must admit that lines cannot tell."""
    for name in GRAVITY:
        capture = bench.capture(name)
        if capture is None:
            continue
        truth = _true_tilt(bench, capture)
        for method, tell in (
            ("lines", _by_lines),
            ("as perceived", partial(_as_perceived, bench)),
            ("prior", _by_prior),
        ):
            aims = (None, None) if method == "prior" else ("<= 2", "<= 2.5")
            errors = np.full(2, np.nan)
            try:
                errors = np.degrees(np.abs(tell(capture) - truth))
            except Exception as error:
                complain(name, method, str(error))
            yield Measure("pitch error", name, errors[0], "deg", aims[0], method)
            yield Measure("roll error", name, errors[1], "deg", aims[1], method)
    capture = bench.capture("o2s_spoon_plate")
    if capture is not None:
        frame = _frame(capture)
        cannot = float(frame is None or not frame.trusted)
        yield Measure("says that lines cannot tell gravity", capture.name, cannot, "", "== 1", "lines")


def _true_tilt(bench: Bench, capture: Capture) -> np.ndarray:
    """Pitch and roll [rad] of a pose that is stated, else of the plane in the depth."""
    if capture.pose is not None:
        return np.array(pitch_roll(capture.pose[:3, :3]))
    take = depth_take(bench, capture)
    return np.array((np.nan, np.nan) if take.scene is None else pitch_roll(take.scene.camera.T_world_camera[:3, :3]))


def _frame(capture: Capture) -> ManhattanFrame | None:
    return manhattan_frame(detect_segments(load_rgb(capture.photo)), capture.K_px)


def _by_lines(capture: Capture) -> np.ndarray:
    """Pitch and roll [rad] by lines alone.

    Raises:
        PerceptionError: They are not trusted.
    """
    frame = _frame(capture)
    if frame is None or not frame.trusted:
        raise PerceptionError("The lines are too few or have more than one answer.")
    return np.array(pitch_roll(frame.R_world_camera))


def _as_perceived(bench: Bench, capture: Capture) -> np.ndarray:
    """Pitch and roll [rad] that perception settles on, the objects' outlines given, so that nothing but the camera is in question."""
    maps = look(capture, bench.scratch, depth=False, hints=mask_hints(capture))
    return np.array(pitch_roll(maps.T_world_camera[:3, :3]))


def _by_prior(capture: Capture) -> np.ndarray:
    return np.array([np.radians(PRIOR_PITCH_DEG), 0.0])
