"""The table of the blending's truth test, from what was measured per scene."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from phototwin_tasks.benchmarks import Measure
from phototwin_tasks.benchmarks.blend_measure import REGIONS, Score
from phototwin_tasks.benchmarks.blend_methods import GEOMETRIES, LIGHTS

TARGETS = {("robot + shadow", "worst"): "<= 0.6", ("robot + shadow", "median"): "<= 0.40", ("shadow", "median"): "<= 0.70", ("shadow", "worst"): "<= 1"}  # fmt: skip
"""Issue 4's bounds on the error as a share of the hard paste's, with estimated light."""
DIRECTION_TARGET = "<= 10"
STRONG_SOURCE = 0.25
"""Scenes whose source brings at least this share of the light on the table have a dominant direction."""
PASTE, TRUTH = "hard paste", "truth"


@dataclass(frozen=True, eq=False)
class Result:
    """One blended picture of one scene against the truth.

    Attributes:
        seed: The scene; even ones were for tuning.
        geometry: One of ``GEOMETRIES``.
        light: One of ``LIGHTS``, ``PASTE`` or ``TRUTH``.
        scores: By region.
        direction_deg: Of the used light's source from the true one [deg].
        flow_deg: The same of where all light together comes from [deg].
        source_share: True share of the source in the light on the table.
        unchanged: Share of the untouched pixels that are the photo's bit by bit.
        seam: How much like a photo's edges the robot's border looks, 0 to 1.
    """

    seed: int
    geometry: str
    light: str
    scores: dict[str, Score]
    direction_deg: float
    flow_deg: float
    source_share: float
    unchanged: float
    seam: float


@dataclass(frozen=True)
class Refusal:
    """A scene for which one geometry gave no picture, and why."""

    seed: int
    geometry: str
    why: str


def scene_rows(results: Sequence[Result]) -> Iterator[Measure]:
    """What each scene shows; bounds hold for estimated light."""
    for r in results:
        if r.light in (PASTE, TRUTH):
            continue
        scene = f"scene {r.seed}{'' if r.seed % 2 == 0 else ', held out'}"
        both, shadow, label = r.scores["robot + shadow"], r.scores["shadow"], method_of(r)
        aims = TARGETS if r.light == "estimated" else {}
        for region, found in (("robot + shadow", both), ("shadow", shadow)):
            yield Measure(f"{region}, error of paste's", scene, found.share, "", aims.get((region, "worst")), label)
        if r.light != "estimated":
            continue
        yield Measure("robot, error of paste's", scene, r.scores["robot"].share, "", None, label)
        yield Measure("robot + shadow, PSNR", scene, both.psnr_db, "dB", None, label)
        if r.source_share >= STRONG_SOURCE:
            yield Measure("light direction off by", scene, r.direction_deg, "deg", DIRECTION_TARGET, label)


def method_of(result: Result) -> str:
    """Light and geometry in words."""
    return result.light if result.light in (PASTE, TRUTH) else f"{result.light} light, {result.geometry}"


def summary_rows(results: Sequence[Result], refusals: Sequence[Refusal]) -> Iterator[Measure]:
    """Medians and worst of all scenes, of the tuning and of the held-out ones."""
    seeds = {r.seed for r in results}
    held_out = {seed for seed in seeds if seed % 2}
    groups = {"all scenes": seeds}
    if held_out and held_out != seeds:
        groups |= {"tuning scenes": seeds - held_out, "held-out scenes": held_out}
    for name, chosen in groups.items():
        mine = [r for r in results if r.seed in chosen]
        for geometry in GEOMETRIES:
            for light in (*LIGHTS, PASTE, TRUTH):
                group = [r for r in mine if (r.geometry, r.light) == (geometry, light)]
                if group and not (light == PASTE and geometry != GEOMETRIES[0]):
                    yield from _group(f"{len(chosen)} {name}", group, name != "tuning scenes")
    for geometry in GEOMETRIES:
        tried = {r.seed for r in results if r.geometry == geometry} | {
            r.seed for r in refusals if r.geometry == geometry
        }
        if tried:
            lost = sum(r.geometry == geometry for r in refusals)
            yield Measure("scenes without a picture", f"{len(tried)} all scenes", lost, "", "== 0", geometry)


def _group(scene: str, group: Sequence[Result], bound: bool) -> Iterator[Measure]:
    """Rows of one light and geometry; ``bound`` holds estimated light to the targets."""
    light, label = group[0].light, method_of(group[0])
    yield Measure("seam score, median", scene, float(np.median([r.seam for r in group])), "", None, label)
    for region in REGIONS if light != TRUTH else ():
        scores = [s for s in (r.scores[region] for r in group) if np.isfinite(s.share)]
        if not scores:
            continue
        shares = [s.share for s in scores]
        for word, value in (("median", np.median(shares)), ("worst", max(shares))):
            target = TARGETS.get((region, word)) if bound and light == "estimated" else None
            if light != PASTE:
                yield Measure(f"{region}, error of paste's, {word}", scene, float(value), "", target, label)
        yield Measure(
            f"{region}, PSNR, median", scene, float(np.median([s.psnr_db for s in scores])), "dB", None, label
        )
        yield Measure(f"{region}, SSIM, median", scene, float(np.median([s.ssim for s in scores])), "", None, label)
    if light == "estimated":
        strong = [r.direction_deg for r in group if r.source_share >= STRONG_SOURCE]
        if strong:
            yield Measure("light direction off by, median", scene, float(np.median(strong)), "deg", None, label)
            yield Measure(
                "light direction off by, worst", scene, max(strong), "deg", DIRECTION_TARGET if bound else None, label
            )
    if light in ("estimated", "none"):
        flows = [r.flow_deg for r in group]
        yield Measure("all light together off by, median", scene, float(np.median(flows)), "deg", None, label)
        yield Measure("all light together off by, worst", scene, max(flows), "deg", None, label)
    if light in LIGHTS:
        kept = [r.unchanged for r in group if np.isfinite(r.unchanged)]
        if kept:
            yield Measure("untouched pixels bit-exact", scene, 100 * min(kept), "%", "== 100", label)
