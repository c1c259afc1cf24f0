"""How often attempts succeed, by scene, family and robot: states only, in processes of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from phototwin.plan.task import Task
from phototwin_tasks.benchmarks import Measure

TIMEOUT_S = 1200
HALVES = {"lift": 0.8, "place": 0.8}
"""Share of the attempts of a family that must succeed."""
OTHERS = 0.6
PROPOSED = 60
"""Proposals that are looked through for one of every family."""


def yield_rows(twins: dict[str, Path], robots: dict[str, tuple[str, ...] | None], attempts: int) -> Iterator[Measure]:
    """Yield of every family that makes sense on a twin, for every robot.

    Args:
        twins: Folders by name.
        robots: Robot -> its families; None for all.
        attempts: Of each.
    """
    orders = [(name, twin, robot, families) for robot, families in robots.items() for name, twin in twins.items()]
    total: dict[tuple[str, str], list[float]] = {}
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        made = pool.map(lambda order: _measure(order[1], order[2], order[3], attempts), orders)
        for (name, _, robot, _), rows in zip(orders, made, strict=True):
            for row in rows:
                yield from _rows(name, robot, row, total)
    for (robot, family), shares in total.items():
        target = f">= {HALVES.get(family, OTHERS)}"
        mean = sum(shares) / len(shares)
        yield Measure(f"yield of {family}, mean of scenes", robot, mean, "", target, f"{len(shares)} scenes")


def _rows(scene: str, robot: str, row: dict, total: dict[tuple[str, str], list[float]]) -> Iterator[Measure]:
    family = row["family"]
    what = f"{scene} {robot}"
    if row.get("refused"):
        yield Measure(f"{family}: refused", what, 1, "", None, row["refused"][:120])
        return
    share = row["successes"] / row["attempts"]
    total.setdefault((robot, family), []).append(share)
    worst = "; ".join(f"{count} x {name}" for name, count in row["failures"].items())
    method = f"{row['instruction']} ({worst or 'no failure'})"
    yield Measure(f"yield of {family}", what, share, "", f">= {HALVES.get(family, OTHERS)}", method)
    yield Measure(f"{family}: planning and physics an attempt", what, row["cpu_s"] / row["attempts"], "CPU-s")


def _measure(twin: Path, robot: str, families: tuple[str, ...] | None, attempts: int) -> list[dict]:
    command = [sys.executable, "-m", "phototwin_tasks.benchmarks.generate_yield", str(twin), robot, str(attempts)]
    command += list(families or ())
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, env=environment, check=False)
    except subprocess.TimeoutExpired as late:
        text = late.stdout.decode() if isinstance(late.stdout, bytes) else late.stdout or ""
        return [*_parsed(text), {"family": "rest", "refused": f"did not end within {TIMEOUT_S} s"}]
    rows = _parsed(done.stdout)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        rows.append({"family": "rest", "refused": f"status {done.returncode}: {last}"})
    return rows


def _parsed(text: str) -> list[dict]:
    return [json.loads(line[4:]) for line in text.splitlines() if line.startswith("row ")]


def main() -> int:
    """``python -m phototwin_tasks.benchmarks.generate_yield TWIN ROBOT ATTEMPTS [FAMILY ...]``: one line a family, as JSON."""
    twin, robot, attempts = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    for task in _one_of_each(twin, robot, tuple(sys.argv[4:])):
        sys.stdout.write("row " + json.dumps(_attempt(twin, robot, task, attempts)) + "\n")
        sys.stdout.flush()
    os._exit(0)


def _one_of_each(twin: Path, robot: str, families: tuple[str, ...]) -> list[Task]:
    """The first proposal of every family that the robot reaches."""
    from phototwin.errors import InstructionError
    from phototwin.plan.propose import propose_reached
    from phototwin.robots import get_robot
    from phototwin.scene import load_scene

    try:
        proposals = propose_reached(load_scene(twin), get_robot(robot), PROPOSED, families=True)
    except InstructionError:
        return []
    tasks = sorted((proposal.task for proposal in proposals), key=lambda task: task.family)
    return [task for task in tasks if not families or task.family in families]


def _attempt(twin: Path, robot: str, task: Task, attempts: int) -> dict:
    import time
    from collections import Counter

    from phototwin.errors import TwinError
    from phototwin_tasks.generate.config import GenerateConfig
    from phototwin_tasks.generate.failures import failure_class
    from phototwin_tasks.generate.jobs import Job
    from phototwin_tasks.generate.worker import open_env
    from phototwin_tasks.rollout import rollout

    row: dict = {"family": task.family, "instruction": task.text, "attempts": attempts}
    config = GenerateConfig(robot=robot, num_envs=attempts, fps=15)
    try:
        env = open_env(twin, Job(0, str(twin), "", task, (task.text,)), config)
    except TwinError as error:
        return row | {"refused": str(error)}
    try:
        began = time.process_time()
        episodes = rollout(env, range(attempts), None)
        row["cpu_s"] = time.process_time() - began
    finally:
        env.close()
    failed = Counter(failure_class(e.failure) for e in episodes if not e.success)
    row["steps"] = sum(len(e.action) for e in episodes) / attempts
    return row | {"successes": sum(e.success for e in episodes), "failures": dict(failed.most_common())}


if __name__ == "__main__":
    sys.exit(main())
