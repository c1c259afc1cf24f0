"""What ``scripts/dataset.py replay`` runs: the demonstrations of a run once more, and how many of them do their task again."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from itertools import batched, groupby
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from phototwin.console import logged_to
from phototwin.data.store import read_demos
from phototwin.episode import Episode
from phototwin.errors import InputError
from phototwin.output import disk_errors
from phototwin.robots import get_robot
from phototwin.scene import load_scene
from phototwin_tasks.generate.config import OWN_RENDERER, randomization
from phototwin_tasks.generate.jobs import Job, Run, load_run
from phototwin_tasks.generate.worker import VARIANTS

if TYPE_CHECKING:
    from phototwin_tasks.replay.states import States
    from phototwin_tasks.twin_env import TwinEnv

ENGINES = ("ovphysx", "newton_mjwarp", "mujoco")
WAYS = ("state", "action")
MOST_AT_ONCE = 8
REPLAY_LOG = "replay.log"


@dataclass(frozen=True)
class Replayed:
    """How a replay ended.

    Attributes:
        by: "state" or "action".
        engine: Where.
        recorded: Where it was made.
        demos: How many demonstrations.
        successes: How many of them did their task again.
        worst: Greatest difference between states that were written and read back [m, rad]; 0 by action.
    """

    by: str
    engine: str
    recorded: str
    demos: int
    successes: int
    worst: float = 0.0

    @property
    def share(self) -> float:
        """Share of the demonstrations that did their task again."""
        return self.successes / self.demos if self.demos else 0.0


def replay_run(folder: Path, by: str, engine: str, count: int | None = None) -> Replayed:
    """Replay the first demonstrations of a run.

    Args:
        folder: Folder of the run.
        by: "state" or "action".
        engine: One of ``ENGINES``; states are written in any but "mujoco".
        count: How many; all where None.

    Raises:
        InputError: There is no run, or a name is unknown.
    """
    if by not in WAYS or engine not in ENGINES or (by == "state" and engine == "mujoco"):
        raise InputError(
            f"--by {by} --engine {engine} cannot be replayed. By {' or '.join(WAYS)}, in {', '.join(ENGINES)} "
            "(by state in the first two)."
        )
    run = load_run(folder)
    file = run.folder / "episodes.hdf5"
    if not file.is_file():
        raise InputError(f"'{folder}' holds no demonstrations: make some with scripts/generate.py first.")
    successes = demos = 0
    worst = 0.0
    for job in run.jobs:
        mine = (e for e in read_demos(file, count) if e.task_index == job.index)
        # Episodes are in the order of their attempts, so those of a variant come together.
        for variant, some in groupby(mine, lambda e: int(e.provenance.get("variant", 0))):
            twin = _variant_twin(run, job, variant)
            for episodes in batched(some, MOST_AT_ONCE):
                done, differs = _replay(run, job, twin, list(episodes), by, engine)
                successes, demos, worst = successes + int(done.sum()), demos + len(done), max(worst, differs)
    return Replayed(by, engine, run.config.physics, demos, successes, worst)


def _variant_twin(run: Run, job: Job, variant: int) -> Path:
    """Folder of the twin that a variant's episodes were made in."""
    from phototwin_tasks.variants import shard_variant

    folder, seed = run.folder.parent / VARIANTS, run.config.seed
    return shard_variant(run.twin(job), job.twin_sha256, randomization(run.config), seed, variant, folder)[1]


def _replay(run: Run, job: Job, twin: Path, episodes: list[Episode], by: str, engine: str) -> tuple[np.ndarray, float]:
    """Success of each episode, (N,) bool, and the greatest difference."""
    from phototwin_tasks.generate.worker import open_env
    from phototwin_tasks.replay.states import replay_actions, replay_states, states_of

    stage = run.config.physics if engine == "mujoco" else engine
    config = replace(run.config, physics=stage, num_envs=len(episodes), renderer=OWN_RENDERER)
    env = open_env(twin, job, config)
    try:
        if engine == "mujoco":
            return replay_states(env, list(_in_mujoco(run, twin, episodes, env)))[0], 0.0
        if by == "state":
            return replay_states(env, [states_of(e) for e in episodes])
        return replay_actions(env, episodes), 0.0
    finally:
        env.close()


def _in_mujoco(run: Run, twin: Path, episodes: list[Episode], env: TwinEnv) -> Iterator[States]:
    """What MuJoCo's engine makes of each episode; the environment only judges it."""
    from phototwin_tasks.randomization import attempt_draw
    from phototwin_tasks.replay.mujoco_engine import make_cell, simulate

    robot = get_robot(run.config.robot)
    cell = make_cell(load_scene(twin), robot, env.T_world_base, run.config.fps)
    for episode in episodes:
        yield simulate(cell, robot, episode, attempt_draw(env, episode.attempt))


def run_replay(folder: Path, by: str, engine: str, count: int | None) -> str:
    """Replay, write ``replay_<by>_<engine>.json`` beside the run's own files, and say how it went.

    Raises:
        TwinError: As ``replay_run``.
    """
    load_run(folder)
    with disk_errors(folder), logged_to(folder / REPLAY_LOG):
        done = replay_run(folder, by, engine, count)
        value = asdict(done) | {"share": done.share}
        (folder / f"replay_{by}_{engine}.json").write_text(json.dumps(value, indent=1) + "\n")
    text = f"made in {done.recorded}, by {by} in {engine}: {done.successes} of {done.demos} do their task again\n"
    return text + (f"  what is read back differs by at most {done.worst:.2g} (m, rad)\n" if by == "state" else "")
