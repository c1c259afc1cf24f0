"""Suite ``reconstruct``: how true twins are, on real captures and on generated scenes, with the simplest baseline beside each number."""

from __future__ import annotations

import importlib.util
import tempfile
from collections.abc import Iterator
from pathlib import Path

from phototwin_tasks.benchmarks import Measure
from phototwin_tasks.benchmarks.audit_rows import audit_rows
from phototwin_tasks.benchmarks.captures import Bench
from phototwin_tasks.benchmarks.mask_rows import mask_rows
from phototwin_tasks.benchmarks.mesh_rows import mesh_rows, real_solid_rows
from phototwin_tasks.benchmarks.picture_rows import background_rows, first_frame_rows, time_rows
from phototwin_tasks.benchmarks.size_rows import SIX, gravity_rows, size_rows, table_rows

SCENES = (
    "sample",
    *SIX,
    "pcr_google7",
    "o2s_spoon_plate",
    "simpler_bridge_cubes",
    "simpler_counter_three_objects",
)
QUICK_SCENES = ("sample", "six_sugar", "simpler_counter_three_objects")
TRUTH = "phototwin_tasks.benchmarks.truth_suite"


def measure(data: Path | None, quick: bool) -> Iterator[Measure]:
    """Every row of the table; ``quick`` takes three captures and few generated scenes. Captures that are not there are left out."""
    with tempfile.TemporaryDirectory(prefix="phototwin_reconstruct_") as folder:
        yield from measure_in(data, quick, Path(folder))


def measure_in(data: Path | None, quick: bool, scratch: Path) -> Iterator[Measure]:
    """``measure`` with the twins left in ``scratch``."""
    names = QUICK_SCENES if quick else SCENES
    bench = Bench(data, scratch, names)
    yield from table_rows(bench)
    yield from size_rows(bench)
    yield from gravity_rows(bench)
    yield from mesh_rows(bench)
    yield from real_solid_rows(bench, names)
    yield from mask_rows(bench)
    yield from background_rows(bench)
    yield from first_frame_rows(bench, names)
    yield from time_rows(bench)
    yield from audit_rows(bench, names)
    if importlib.util.find_spec(TRUTH):
        yield from importlib.import_module(TRUTH).measure_truth(quick, scratch)
