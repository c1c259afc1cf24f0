"""Suite ``blend``: blended pictures against path-traced truth, moved cameras, flow, and speed."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from phototwin.blend.seam import seam_score
from phototwin.errors import TwinError
from phototwin.light import Light
from phototwin_tasks.benchmarks import Measure
from phototwin_tasks.benchmarks.blend_measure import (
    REGIONS,
    Case,
    direction_error_deg,
    flow_error_deg,
    hard_paste,
    rmse,
    score,
    source_share,
    unchanged_share,
)
from phototwin_tasks.benchmarks.blend_methods import (
    GEOMETRIES,
    LIGHTS,
    blend_case,
    make_setting,
    moved_object_picture,
    still_share,
)
from phototwin_tasks.benchmarks.blend_render import blend_scene, shadow_mask
from phototwin_tasks.benchmarks.blend_rows import PASTE, TRUTH, Refusal, Result, scene_rows, summary_rows
from phototwin_tasks.benchmarks.blend_scenes import SCENES, srgb_decoded
from phototwin_tasks.benchmarks.camera_rows import camera_rows
from phototwin_tasks.benchmarks.capture_measures import psnr
from phototwin_tasks.benchmarks.flow_rows import flow_rows
from phototwin_tasks.benchmarks.frame_speed import speed_rows

QUICK_SEEDS, QUICK_MOVED = (0, 2, 4, 8), 2


def measure(data: Path | None, quick: bool) -> Iterator[Measure]:
    """Every measure of the suite.

    Args:
        data: Not used: the scenes are generated, and kept in the cache.
        quick: Four tuning scenes.
    """
    del data
    seeds = QUICK_SEEDS if quick else tuple(range(SCENES))
    with tempfile.TemporaryDirectory() as scratch:
        yield from measure_scenes(seeds, Path(scratch))
    yield from camera_rows([blend_scene(seed) for seed in seeds[: QUICK_MOVED if quick else None]])
    yield from flow_rows(quick)
    yield from speed_rows(quick)


def measure_scenes(seeds: Sequence[int], scratch: Path) -> Iterator[Measure]:
    """The truth test on scenes.

    Args:
        seeds: Which.
        scratch: Where twins go.
    """
    results: list[Result] = []
    refusals: list[Refusal] = []
    others: list[Measure] = []
    for seed in seeds:
        case = Case(blend_scene(seed))
        others.append(grain_row(case))
        for geometry in GEOMETRIES:
            try:
                found, extra = measure_case(case, geometry, scratch)
            except TwinError as error:
                refusals.append(Refusal(seed, geometry, str(error)))
                sys.stderr.write(f"blend scene {seed}, {geometry}: {error}\n")
                continue
            results += found
            others += extra
            yield from scene_rows(found)
    yield from summary_rows(results, refusals)
    yield from others


def measure_case(case: Case, geometry: str, scratch: Path) -> tuple[list[Result], list[Measure]]:
    """One scene with one geometry: the robot with every light, the empty photo, and an object that was moved, where there is one.

    Raises:
        TwinError: There is no twin.
    """
    setting = make_setting(case, geometry, scratch)
    hard = hard_paste(case, setting.photo)
    results = [result_of(case, geometry, PASTE, hard, hard, None, float("nan"))]
    if geometry == GEOMETRIES[0]:
        results.append(result_of(case, geometry, TRUTH, case.with_robot, hard, case.light, float("nan")))
    for light in LIGHTS:
        blend = blend_case(case, setting, light)
        kept = unchanged_share(blend.rgb, setting.photo, blend.drawn, blend.shaded)
        results.append(result_of(case, geometry, light, blend.rgb, hard, blend.light, kept))
    scene = f"scene {case.seed}"
    extra = [Measure("pixels bit-exact, nothing moved", scene, 100 * still_share(setting), "%", "== 100", geometry)]
    if "moved_object" in case.truth and geometry == "reconstructed":
        extra += moved_rows(case, *moved_object_picture(case, setting))
    return results, extra


def grain_row(case: Case) -> Measure:
    """How much photo and truth differ where the robot changes nothing, as a share of the hard paste's error: what paths leave."""
    touched = case.regions["robot + shadow"]
    error = rmse(hard_paste(case, case.photo), case.with_robot, touched)
    share = rmse(case.photo, case.with_robot, ~touched) / max(error, 1e-9)
    return Measure("grain of the truth, of paste's error", f"scene {case.seed}", share, "", "< 0.1")


def result_of(case: Case, geometry: str, light: str, rgb: np.ndarray, hard: np.ndarray, used: Light | None, unchanged: float) -> Result:  # fmt: skip
    """The scores of one picture in all regions, and of the light that was used, where there was one."""
    scores = {name: score(rgb, case.with_robot, hard, case.regions[name]) for name in REGIONS}
    nothing = float("nan")
    direction = direction_error_deg(used, case.light) if used else nothing
    flow = flow_error_deg(used, case.light) if used else nothing
    photo = case.photo if geometry != GEOMETRIES[-1] else case.noisy
    seam = seam_score(rgb, case.covered, photo).score
    return Result(case.seed, geometry, light, scores, direction, flow, source_share(case.light), unchanged, seam)


def moved_rows(case: Case, ours: np.ndarray, pasted: np.ndarray) -> Iterator[Measure]:
    """One object elsewhere, where that changes the picture: its old and new place and both shadows."""
    from phototwin.images import load_rgb

    true_rgb = load_rgb(case.folder / "moved_object.png")
    linear, moved = srgb_decoded(case.photo / 255.0), srgb_decoded(true_rgb / 255.0)
    changed = shadow_mask(linear, moved, np.zeros(case.ids.shape))
    scene, label = f"scene {case.seed}, moved object", "estimated light, reconstructed"
    share = rmse(ours, true_rgb, changed) / max(rmse(pasted, true_rgb, changed), 1e-9)
    yield Measure("moved object, error of paste's", scene, share, "", None, label)
    yield Measure("moved object, PSNR", scene, psnr(ours, true_rgb, changed), "dB", None, label)
    yield Measure("moved object, PSNR", scene, psnr(pasted, true_rgb, changed), "dB", None, PASTE)
