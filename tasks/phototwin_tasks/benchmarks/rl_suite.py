"""Suite ``rl``: what PPO learns from states on twins' own objects, judged without its noise on starts it was not trained on."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

from phototwin_tasks.benchmarks import Measure
from phototwin_tasks.benchmarks.generate_rate import run_row
from phototwin_tasks.benchmarks.generate_suite import MORE_SCENES, make_twin
from phototwin_tasks.benchmarks.main_suite import SCENES

TASKS = (
    ("sample", "lift", "pick up the green cube"),
    ("sample", "place", "put the green cube in the white bowl"),
    ("simpler_bridge_cubes", "lift", "pick up the green cube"),
    ("six_blue_mug", "lift", ""),
    ("six_sugar", "lift", ""),
    ("simpler_counter_three_objects", "lift", "pick up the can"),
)
"""Scene, family, instruction; empty for the family's default."""
STEPS = 1_000_000
GOALS = {"lift": ">= 0.95", "place": ">= 0.8"}
"""Deterministic success that each family must come to."""
LOOKS = 4
MOST_MIN = 20
LEARN = """
import json, sys
from phototwin_tasks.rl import TrainConfig, train_policy
twin, family, instruction, steps, looks, enough = sys.argv[1:]
config = TrainConfig(twin, family, instruction=instruction, steps=int(steps), looks=int(looks), enough=float(enough))
print("row", json.dumps([(p.steps, p.cpu_s, p.success) for p in train_policy(config)]))
"""


def measure(data: Path | None, quick: bool) -> Iterator[Measure]:
    """Every measure of the suite.

    Args:
        data: Folder of real captures; those that are not there are left out.
        quick: One task, on the bundled sample.
    """
    with tempfile.TemporaryDirectory(prefix="phototwin_rl_") as folder:
        scenes = {scene.name: scene for scene in (*SCENES, *MORE_SCENES)}
        for name, family, instruction in TASKS[:1] if quick else TASKS:
            if name != "sample" and not (data and (data / name).is_dir()):
                continue
            scratch = Path(tempfile.mkdtemp(dir=folder))
            twin, reason = make_twin(scenes[name], data, scratch)
            target = GOALS[family]
            what = f"PPO, {family}: success"
            if twin is None:
                yield Measure(what, name, 0, "", target, reason)
                continue
            words = (str(twin), family, instruction, str(STEPS), str(LOOKS), target.split()[1])
            curve, error = run_row(LEARN, *words)
            if curve is None:
                yield Measure(what, name, 0, "", target, error)
                continue
            steps, cpu_s, success = max(curve, key=lambda point: point[2])
            yield Measure(what, name, success, "", target, f"{instruction or 'default'}, {steps} steps, deterministic")
            yield Measure(f"PPO, {family}: processor time", name, cpu_s / 60, "min", f"<= {MOST_MIN}")
