"""How many steps a second many environments make."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from phototwin_tasks.benchmarks import Measure

CPU_ENVS, GPU_ENVS = (1, 16, 64, 256), (1, 16, 64, 256, 1024, 4096)
RATE_STEPS = 60
TIMEOUT_S = 5400

RATE = """
import json, sys, time, torch
from phototwin_tasks.register import make_env_cfg
from phototwin_tasks.twin_env import TwinEnv
from isaaclab_tasks.utils import resolve_presets
cfg = make_env_cfg("lift", "panda")
cfg.twin, cfg.scene.num_envs, cfg.sim.device = sys.argv[1], int(sys.argv[2]), sys.argv[3]
env = TwinEnv(resolve_presets(cfg, (sys.argv[4],)))
env.reset()
command = torch.zeros(env.num_envs, env.action_manager.total_action_dim, device=env.device)
for _ in range(10):
    env.step(command)
began = time.perf_counter()
for _ in range(int(sys.argv[5])):
    env.step(command)
if "cuda" in sys.argv[3]:
    torch.cuda.synchronize()
print("row", json.dumps(env.num_envs * int(sys.argv[5]) / (time.perf_counter() - began)))
"""


def rate_rows(twin: Path, quick: bool) -> Iterator[Measure]:
    """Environments x steps a second; on a GPU where there is one."""
    import torch

    device, counts = ("cuda:0", GPU_ENVS) if torch.cuda.is_available() else ("cpu", CPU_ENVS)
    for count in counts[1:3] if quick else counts:
        rate, error = run_row(RATE, str(twin), str(count), device, "ovphysx", str(RATE_STEPS))
        yield Measure(
            "steps a second", f"{count} environments", rate or 0, "1/s", None, error or f"ovphysx on {device}"
        )


def run_row(code: str, *arguments: str) -> tuple[Any, str]:
    """What Python code run in a process of its own prints as its row, or None and its last words."""
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )
    rows = [line[4:] for line in done.stdout.splitlines() if line.startswith("row ")]
    if not rows:
        return None, (done.stderr.strip().splitlines() or ["no message"])[-1]
    return json.loads(rows[-1]), ""
