"""Suite ``generate``: how often attempts succeed, what a demonstration costs, and what holds when runs are killed, shared or replayed."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from phototwin_tasks.benchmarks import REPOSITORY, Measure
from phototwin_tasks.benchmarks.generate_rate import rate_rows
from phototwin_tasks.benchmarks.generate_runs import generate, kill_rows, replay_rows, speed_rows
from phototwin_tasks.benchmarks.generate_yield import yield_rows
from phototwin_tasks.benchmarks.main_suite import SCENES, MainScene, source_arguments

MORE_SCENES = (
    MainScene("six_green_bowl", depth=True),
    MainScene("six_sugar", depth=True),
    MainScene("pcr_google7", depth=True),
)
ROBOTS: dict[str, tuple[str, ...] | None] = {
    "panda": None,
    "ur10": ("lift", "place"),
    "so101": ("lift", "place"),
    "g1": ("lift", "place"),
}
"""Robots and the families that they are tried with; None for all."""
TASKS = {"lift": "pick up the green cube", "place": "put the green cube in the white bowl"}
"""What runs on the sample do."""


def measure(data: Path | None, quick: bool) -> Iterator[Measure]:
    """Every measure of the suite.

    Args:
        data: Folder of real captures; those that are not there are left out.
        quick: Two scenes, the Panda, fewer attempts.
    """
    with tempfile.TemporaryDirectory(prefix="phototwin_generate_") as folder:
        scratch = Path(folder)
        scenes = [s for s in (*SCENES, *MORE_SCENES) if s.name == "sample" or (data and (data / s.name).is_dir())]
        twins = {}
        for scene in scenes[:2] if quick else scenes:
            twin, reason = make_twin(scene, data, scratch)
            if twin is None:
                yield Measure("perception: no twin", scene.name, 1, "", None, reason)
            else:
                twins[scene.name] = twin
        sample = twins["sample"]
        yield from speed_rows(sample, TASKS, scratch, 16 if quick else 48)
        yield from replay_rows(scratch / "place_2", "sample, made in ovphysx", 8 if quick else 16)
        newton = ("--physics", "newton_mjwarp", "--num-envs", "4", "--resolution", "64", "64", "--fps", "15")
        facts = generate(scratch / "newton", sample, TASKS["place"], 4, *newton)
        if "error" in facts:
            yield Measure("demonstrations", "sample, made in newton_mjwarp", 0, "", ">= 4", facts["error"])
        else:
            yield from replay_rows(scratch / "newton", "sample, made in newton_mjwarp", 4)
        yield from kill_rows(sample, TASKS["lift"], scratch, 24, 3 if quick else 10)
        yield from yield_rows(twins, {"panda": None} if quick else ROBOTS, 8 if quick else 16)
        yield from rate_rows(sample, quick)


def make_twin(scene: MainScene, data: Path | None, scratch: Path) -> tuple[Path | None, str]:
    """The twin of a scene, or why there is none."""
    out = scratch / "twins" / scene.name
    command = [sys.executable, str(REPOSITORY / "scripts/reconstruct.py"), *source_arguments(scene, data, scratch)]
    done = subprocess.run([*command, "--out", str(out)], capture_output=True, text=True, timeout=600, check=False)
    if done.returncode:
        return None, (done.stderr.strip().splitlines() or ["no message"])[-1]
    return out / "twin", ""
