"""Shards without a simulator: a maker of episodes that is quick, and goes wrong where it is told to."""

from __future__ import annotations

import os
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from test_data import make_episode

from phototwin.errors import InputError, PlanError
from phototwin.plan.task import Step, Task
from phototwin.progress import StageTimer
from phototwin_tasks.generate import run as run_module
from phototwin_tasks.generate.config import Crew, GenerateConfig
from phototwin_tasks.generate.jobs import Job, Run, load_run, save_run

SIZE = 4
"""Attempts of a shard."""


class FakeMaker:
    """Episodes that say who they are; one in five fails. The job's instruction says what goes wrong."""

    def __init__(self, config, threads):
        self.config, self.delay = config, float(os.environ.get("FAKE_DELAY", "0"))

    def open(self, order):
        if "unreachable" in order.job.task.text:
            raise PlanError("The cube is out of reach.")
        if "weights" in order.job.task.text and not os.environ.get("FAKE_WEIGHTS"):
            raise InputError("The weights are not here.")

    def make(self, order, on_step):
        text, shard = order.job.task.text, order.shard
        time.sleep(self.delay)
        if "dies" in text and shard.index == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        if "falls once" in text and shard.index == 0:
            mark = order.folder / "died"
            if not mark.exists():
                mark.touch()
                os.kill(os.getpid(), signal.SIGKILL)
        if "raises" in text and shard.index == 0:
            raise RuntimeError("a bug")
        if "hangs" in text and shard.index == 0:
            time.sleep(60)
        return [self.episode(order, attempt, "never" in text) for attempt in shard.attempts]

    def episode(self, order, attempt, never):
        success = not never and (attempt + order.job.index + self.config.seed) % 5 != 2
        made = make_episode(attempt, success, steps=3 + attempt % 4)
        last = np.full((4, 4, 3), attempt, np.uint8)
        return replace(
            made,
            seed=self.config.seed,
            failure="" if success else "grasp",
            action=made.action + 100 * self.config.seed + 10 * order.job.index,
            last_rgb=last,
        )

    def notes(self):
        return {"maker": "fake"}

    def close(self):
        pass


class FakeDataset:
    """What stands for LeRobot's process, which takes seconds to import."""

    def __init__(self, folder, slots=0):
        self.folder, self.files = Path(folder), []

    def add(self, file):
        assert file.is_file()
        self.files.append(file.name)

    def finish(self):
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "files.txt").write_text("\n".join(self.files))

    def discard(self):
        pass


def fake_run(folder, num_demos=10, texts=("pick up the cube",), seed=0):
    for name in ("demos", "twin"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    jobs = tuple(
        Job(i, "twin", "abc", Task((Step("lift", f"cube_{i}"),), text), (text, f"please {text}"))
        for i, text in enumerate(texts)
    )
    config = GenerateConfig(num_demos=num_demos, num_envs=SIZE, seed=seed)
    run = Run(folder / "demos", config, jobs, ("abc",))
    save_run(run)
    return run


def generate(run, workers=1, part="all", ray=""):
    """Make a run with the fake maker and, in this process, the fake dataset."""
    before, run_module.LerobotProcess = run_module.LerobotProcess, FakeDataset
    try:
        return run_module.generate_demos(run, Crew(workers, ray, part), StageTimer(), "shard_helpers:FakeMaker")
    finally:
        run_module.LerobotProcess = before


if __name__ == "__main__":
    generate(load_run(Path(sys.argv[1])), int(sys.argv[2]), sys.argv[3])
    os._exit(0)
