"""Rows of suite ``reconstruct``: outlines of the objects, by depth, by hints, by colour alone."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from phototwin.errors import TwinError
from phototwin_tasks.benchmarks import Measure
from phototwin_tasks.benchmarks.capture_measures import box_mask
from phototwin_tasks.benchmarks.captures import Bench, Capture, best_match, box_hints, complain, look, point_hints
from phototwin_tasks.benchmarks.size_rows import BASELINE, SIX

SCENES = (*SIX, "pcr_google7")
STACKED = ("object 1", "object 2", "object 3", "object 4")
"""Of pcr_google7: a mug in a bowl and a pitcher, all on a large plate; the teapot stands apart."""


def mask_rows(bench: Bench) -> Iterator[Measure]:
    """Overlap of masks with the true outlines, per object and over all."""
    captures = [c for c in map(bench.capture, SCENES) if c is not None]
    for method, aim in (("depth", ">= 0.94"), ("RGB, box each", ">= 0.90"), ("RGB, point each", ">= 0.90")):
        all_found: list[float] = []
        for capture in captures:
            for name, value in _overlaps(bench, capture, method).items():
                stacked = capture.name == "pcr_google7" and name in STACKED
                counts = method != "depth" or not stacked
                all_found += [value] if counts else []
                where = f"{capture.name}: {name}{' (stacked)' if stacked else ''}"
                yield Measure("mask IoU", where, value, "", aim if counts else None, method)
        if all_found:
            yield Measure("mask IoU, mean", "all six_*, pcr_google7", float(np.mean(all_found)), "", aim, method)
    boxes = [overlap_of_box(outline) for capture in captures for outline in capture.outlines.values()]
    if boxes:
        yield Measure("mask IoU, mean", "all six_*, pcr_google7", float(np.mean(boxes)), "", None, BASELINE)
    yield from _free_rows(bench, captures)


def overlap_of_box(outline: np.ndarray) -> float:
    """Share of its bounding box that a mask fills, which is their intersection over union."""
    return float(outline.sum() / box_mask(outline).sum())


def _overlaps(bench: Bench, capture: Capture, method: str) -> dict[str, float]:
    hints = {"depth": None, "RGB, box each": box_hints(capture), "RGB, point each": point_hints(capture)}[method]
    try:
        masks = look(capture, bench.scratch, method == "depth", hints).masks
    except Exception as error:
        complain(capture.name, method, str(error))
        return dict.fromkeys(capture.outlines, 0.0)
    return {name: best_match(masks, outline)[1] for name, outline in capture.outlines.items()}


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
        # A thing that the truth does not list (clutter at the table's far edge) cannot be judged.
        values = [best_match(masks, outline)[1] for outline in capture.outlines.values()]
        if capture.name == "pcr_google7":
            values = [max(best_match(mask[None], o)[1] for o in capture.outlines.values()) for mask in masks]
        accepted += [v for v in values if v > 0]
        yield Measure("mask IoU of what is accepted", capture.name, float(np.mean(values)), "", None, method)
    if accepted:
        yield Measure("mask IoU of what is accepted", "all", float(np.mean(accepted)), "", ">= 0.85", method)
