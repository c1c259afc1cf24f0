"""Every measurement of the product goes through ``run_suite``."""

from __future__ import annotations

import inspect
import json
import math
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

from phototwin.errors import InputError
from phototwin.resolve import resolve

SUITES = {
    "main": "phototwin_tasks.benchmarks.main_suite:measure",
    "reconstruct": "phototwin_tasks.benchmarks.reconstruct_suite:measure",
    "blend": "phototwin_tasks.benchmarks.blend_suite:measure",
    "kernels": "phototwin_tasks.benchmarks.kernel_suite:measure",
    "generate": "phototwin_tasks.benchmarks.generate_suite:measure",
    "rl": "phototwin_tasks.benchmarks.rl_suite:measure",
    "learn": "phototwin_tasks.benchmarks.learn_suite:measure",
}
REPOSITORY = Path(__file__).resolve().parents[3]


@dataclass(frozen=True)
class Measure:
    """One number.

    Attributes:
        name: What was measured.
        scene: On what.
        value: The number.
        unit: Its unit.
        target: What it must reach, such as ">= 0.8", or None.
        method: By what means it was reached, or empty.
        ok: Whether it does; None without a target.
    """

    name: str
    scene: str
    value: float
    unit: str
    target: str | None = None
    method: str = ""
    ok: bool | None = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "value", float(self.value))
        object.__setattr__(self, "ok", None if self.target is None else meets(self.value, self.target))


def meets(value: float, target: str) -> bool:
    """Whether a value meets a target: an operator among <, <=, >, >=, == and a number. NaN meets nothing."""
    operator, number = target.split()
    bound = float(number)
    return {
        "<": value < bound,
        "<=": value <= bound,
        ">": value > bound,
        ">=": value >= bound,
        "==": value == bound,
    }[operator]


def run_suite(
    suite: str,
    data: Path | None,
    file: Path | None,
    quick: bool,
    work: Path | None = None,
    parts: tuple[str, ...] = (),
) -> int:
    """Run a suite, print every measure as it comes, write the JSON; returns 1 where a target is missed.

    Args:
        suite: Name of one.
        data: Folder of real captures.
        file: For the JSON; none is written when None.
        quick: A smaller set.
        work: Folder that a suite of hours keeps what it makes in, and goes on from.
        parts: What of a suite of several parts is measured; all of it where empty.

    Raises:
        InputError: Unknown suite or part, or a suite that keeps nothing or has no parts.
    """
    measure: Callable[..., Iterator[Measure]] = resolve(suite, SUITES, "suite")
    chosen = {name: value for name, value in {"work": work, "parts": parts}.items() if value}
    for name in chosen.keys() - inspect.signature(measure).parameters.keys():
        raise InputError(f"The suite '{suite}' has no --{name}: leave it away.")
    measures: list[Measure] = []
    sys.stdout.write(f"{'scene':<40} {'measure':<36} {'value':>10} {'unit':<8} {'target':<10} {'ok':<3} method\n")
    for item in measure(data, quick, **chosen):
        measures.append(item)
        mark = {True: "yes", False: "NO", None: ""}[item.ok]
        row = (
            f"{item.scene:<40} {item.name:<36} {item.value:>10.3f} {item.unit:<8} {item.target or '':<10} {mark:<3} "
            f"{item.method}"
        )
        sys.stdout.write(row.rstrip() + "\n")
        sys.stdout.flush()
    if file:
        value = {"suite": suite, "machine": machine(), "versions": _versions(), "commit": commit()}
        file.write_text(json.dumps(value | {"measures": [_as_json(m) for m in measures]}, indent=1) + "\n")
    missed = [m for m in measures if m.ok is False]
    sys.stdout.write(f"{len(measures)} measures, {len(missed)} targets missed\n")
    return 1 if missed else 0


def _as_json(item: Measure) -> dict:
    """A measure for the file; what is not a number becomes null, which JSON can hold."""
    return asdict(item) | {"value": item.value if math.isfinite(item.value) else None}


def machine() -> str:
    """The size of this machine in words."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    cores = len(os.sched_getaffinity(0))
    return f"{cores} cores, {memory:.0f} GiB, {platform.machine()}, {platform.system()}"


def commit() -> str:
    """The commit that was measured, "+" where files differ from it; "unknown" outside a checkout."""
    try:
        name = subprocess.run(
            ["git", "describe", "--always", "--dirty=+", "--exclude=*"],
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return name.stdout.strip()


def _versions() -> dict[str, str]:
    from phototwin_tasks.generate import versions

    return versions()
