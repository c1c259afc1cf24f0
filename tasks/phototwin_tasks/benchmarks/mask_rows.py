"""Rows of suite ``reconstruct``: outlines of the objects, by depth, by hints, by colour alone."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np

from phototwin.errors import TwinError
from phototwin_tasks.benchmarks import Measure
from phototwin_tasks.benchmarks.capture_measures import box_mask, overlap
from phototwin_tasks.benchmarks.captures import (
    Bench,
    Capture,
    attempt,
    best_match,
    box_hints,
    complain,
    look,
    point_hints,
)
from phototwin_tasks.benchmarks.size_rows import BASELINE, SIX

SCENES = (*SIX, "pcr_google7", "o2s_spoon_plate", "simpler_bridge_cubes", "simpler_counter_three_objects")
STACKED = {
    "pcr_google7": ("plate", "pitcher", "bowl", "mug"),  # on the plate a pitcher and a bowl, in which there is a mug
    "o2s_spoon_plate": ("wooden spoon", "white block"),  # one lies on the other
}
CLUTTERED = (*SIX, "simpler_bridge_cubes")
"""Photos with things that the truth does not list, at the table's far edge or a gripper: found ones cannot be judged."""


def mask_rows(bench: Bench) -> Iterator[Measure]:
    """Overlap of masks with the true outlines, per object and over all."""
    captures = [c for c in map(bench.capture, SCENES) if c is not None]
    for method, aim in (("depth", ">= 0.94"), ("RGB, box each", ">= 0.90"), ("RGB, point each", ">= 0.90")):
        counted: list[float] = []
        for capture in captures:
            if method == "depth" and capture.depth is None:
                continue
            for name, value in _overlaps(bench, capture, method).items():
                stacked = name in STACKED.get(capture.name, ())
                counts = method != "depth" or not stacked
                counted += [value] if counts else []
                where = f"{capture.name}: {name}{' (stacked)' if stacked else ''}"
                yield Measure("mask IoU", where, value, "", aim if counts else None, method)
        if counted:
            seen = [value for value in counted if np.isfinite(value)]
            yield Measure("mask IoU, mean", "all", float(np.mean(seen or [np.nan])), "", aim, method)
            yield Measure("objects refused", "all", len(counted) - len(seen), "", None, method)
    boxes = [overlap_of_box(outline) for capture in captures for outline in capture.outlines.values()]
    if boxes:
        yield Measure("mask IoU, mean", "all", float(np.mean(boxes)), "", None, BASELINE)
    yield from _free_rows(bench, captures)


def overlap_of_box(outline: np.ndarray) -> float:
    """Share of its bounding box that a mask fills, which is their intersection over union."""
    return float(outline.sum() / box_mask(outline).sum())


def _overlaps(bench: Bench, capture: Capture, method: str) -> dict[str, float]:
    """Overlap by name; NaN where the object is refused. Where hints are refused together, each is tried alone."""
    hints = {"depth": None, "RGB, box each": box_hints(capture), "RGB, point each": point_hints(capture)}[method]
    outlines = capture.outlines
    try:
        masks = look(capture, bench.scratch, method == "depth", hints).masks
        return {name: best_match(masks, outline)[1] for name, outline in outlines.items()}
    except Exception as error:
        complain(capture.name, method, str(error))
    if hints is None:
        return dict.fromkeys(outlines, float("nan"))

    def alone(hint: dict, outline: np.ndarray) -> float:
        return best_match(look(capture, bench.scratch, False, [hint]).masks, outline)[1]

    values = {}
    for (name, outline), hint in zip(outlines.items(), hints, strict=True):
        values[name] = attempt(capture.name, f"{method}, {name} alone", partial(alone, hint, outline))
    return values


def _free_rows(bench: Bench, captures: list[Capture]) -> Iterator[Measure]:
    """Colour alone, no hint: what is accepted must be right, the rest refused."""
    accepted: list[float] = []
    method = "RGB, no hint"
    for capture in captures:
        try:
            masks = look(capture, bench.scratch, depth=False).masks
        except TwinError as error:
            complain(capture.name, method, str(error))
            yield Measure("refused", capture.name, 1.0, "", None, method)
            continue
        values = [max(overlap(mask, outline) for outline in capture.outlines.values()) for mask in masks]
        values = [v for v in values if v > 0 or capture.name not in CLUTTERED]
        accepted += values
        yield Measure(
            "mask IoU of what is accepted", capture.name, float(np.mean(values or [np.nan])), "", None, method
        )
    if accepted:
        yield Measure("mask IoU of what is accepted", "all", float(np.mean(accepted)), "", ">= 0.85", method)
