"""Whole runs, measured: cost and rate of a demonstration, two processes against one, the same seed twice, kill -9, replay."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from phototwin.data.hdf5 import state_sha256
from phototwin.data.store import read_demos
from phototwin.errors import TwinError
from phototwin_tasks.benchmarks import REPOSITORY, Measure
from phototwin_tasks.generate.jobs import load_run
from phototwin_tasks.generate.ledger import Ledger, ShardResult

SIZE = ("--resolution", "224", "224", "--fps", "15")
SMALL = ("--resolution", "64", "64", "--fps", "15", "--num-envs", "4")
TIMEOUT_S = 1500


def speed_rows(twin: Path, instructions: dict[str, str], scratch: Path, demos: int) -> Iterator[Measure]:
    """Cost and rate at 224x224 and 15 frames a second, written to disk; one process of one core against two of one each.

    Args:
        twin: Folder of the twin.
        instructions: Family -> instruction.
        scratch: Where runs go; those of two processes are left there as ``FAMILY_2``.
        demos: Of each run.
    """
    for family, instruction in instructions.items():
        each: dict[int, float] = {}
        for workers in (1, 2):
            out = scratch / f"{family}_{workers}"
            cores = sorted(os.sched_getaffinity(0))[:workers]
            facts = generate(out, twin, instruction, demos, *SIZE, "--workers", str(workers), cores=set(cores))
            if "error" in facts:
                yield Measure("demonstrations", f"{family}, {workers} processes", 0, "", f">= {demos}", facts["error"])
                continue
            results = results_of(out)
            wins = sum(a.success for r in results for a in r.attempts)
            each[workers] = sum(r.wall_s for r in results) / workers / wins
            yield from _cost_rows(f"{family}, {workers} process{'es' * (workers > 1)}", facts, results, wins, workers)
        if len(each) == 2:
            target = ">= 1.7"
            yield Measure("two processes against one", family, each[1] / each[2], "x", target, "rate without the start")
            yield Measure("states that differ between them", family, differing(scratch, family), "", "== 0", "digests")


def _cost_rows(what: str, facts: dict, results: list[ShardResult], wins: int, workers: int) -> Iterator[Measure]:
    cpu, start = sum(r.cpu_s for r in results) / wins, sum(r.start_cpu_s for r in results)
    wall = sum(r.wall_s for r in results) / workers / wins
    target = "<= 1" if workers == 2 else None
    yield Measure("seconds a demonstration", what, wall, "s", target, f"on {workers} core(s), without the start")
    yield Measure("processor time a demonstration", what, cpu, "CPU-s", None, "planning, physics, frames, HDF5")
    yield Measure("demonstrations a minute and core", what, 60 / wall / workers, "1/min")
    yield Measure("yield", what, wins / facts["attempts"], "", ">= 0.8")
    yield Measure("start of all simulators", what, start, "CPU-s")
    yield Measure("everything, start to report", what, sum(facts["seconds"].values()), "s")


def differing(scratch: Path, family: str) -> float:
    """Attempts that both runs made and whose states differ; NaN where there are none."""
    one, two = ({a.key: a.state_sha256 for a in attempts_of(scratch / f"{family}_{n}")} for n in (1, 2))
    both = one.keys() & two.keys()
    return float(sum(one[key] != two[key] for key in both)) if both else float("nan")


def kill_rows(twin: Path, instruction: str, scratch: Path, demos: int, kills: int) -> Iterator[Measure]:
    """A run that is killed again and again at random moments, against one that is not."""
    whole, out = scratch / "unbroken", scratch / "killed"
    generate(whole, twin, instruction, demos, *SMALL, "--workers", "2")
    rng, lost, broken, seen = random.Random(0), 0, 0, {}
    for count in range(kills):
        command = _command(out, twin, instruction, demos, *SMALL, "--workers", "2", *["--resume"] * (count > 0))
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until = time.monotonic() + 120
        while process.poll() is None and not _files(out) - seen.keys() and time.monotonic() < until:
            time.sleep(0.02)
        time.sleep(rng.uniform(0.0, 6.0))
        process.kill()
        process.wait()
        now, bad = _readable(out)
        broken += bad
        lost += len(seen.keys() - now.keys()) if not _packed(out) else 0
        seen |= now
    facts = generate(out, twin, instruction, demos, *SMALL, "--workers", "2", "--resume")
    yield Measure("finished episodes lost", f"kill -9, {kills} times", lost, "", "== 0")
    yield Measure("broken episodes stored", f"kill -9, {kills} times", broken, "", "== 0")
    made = {e.attempt: state_sha256(e) for e in _demos(out)}
    want = {e.attempt: state_sha256(e) for e in _demos(whole)}
    same = float(made == want and len(made) == demos)
    method = facts.get("error", "states of all demonstrations")
    yield Measure("the same dataset as an unbroken run", f"kill -9, {kills} times", same, "", "== 1", method)


def replay_rows(out: Path, scene: str, count: int) -> Iterator[Measure]:
    """Demonstrations of a run once more, by state and by action in every engine."""
    ways = [("state", "ovphysx"), ("action", "ovphysx"), ("action", "newton_mjwarp"), ("action", "mujoco")]
    for by, engine in ways:
        command = [
            sys.executable,
            str(REPOSITORY / "scripts/dataset.py"),
            "replay",
            str(out),
            "--by",
            by,
            "--engine",
            engine,
        ]
        done = subprocess.run([*command, "--count", str(count)], capture_output=True, text=True, timeout=TIMEOUT_S)
        file = out / f"replay_{by}_{engine}.json"
        if done.returncode or not file.is_file():
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            yield Measure(f"replay by {by} in {engine}", scene, 0, "", ">= 0.8", last)
            continue
        value = json.loads(file.read_text())
        target = ">= 1" if by == "state" else ">= 0.8"
        method = f"made in {value['recorded']}, {value['successes']} of {value['demos']}"
        yield Measure(f"replay by {by} in {engine}", scene, value["share"], "", target, method)
        if by == "state":
            yield Measure("states read back differ by", scene, value["worst"], "m, rad", "<= 1e-5")


def generate(
    out: Path,
    twin: Path,
    instruction: str,
    demos: int,
    *options: str,
    cores: set[int] | None = None,
    timeout_s: float = TIMEOUT_S,
) -> dict:
    """``summary.json`` of a run of generate.py; "error" holds its last line where it failed."""
    command = _command(out, twin, instruction, demos, *options)
    pin = None if cores is None else (lambda: os.sched_setaffinity(0, cores))
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=timeout_s, preexec_fn=pin, env=environment, check=False
    )
    file = out / "summary.json"
    if done.returncode or not file.is_file():
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        sys.stderr.write(f"{out.name}: {last}\n")
        return {"error": last}
    return json.loads(file.read_text())


def _command(out: Path, twin: Path, instruction: str, demos: int, *options: str) -> list[str]:
    command = [sys.executable, str(REPOSITORY / "scripts/generate.py"), "--twin", str(twin), "--out", str(out)]
    return [*command, "--instruction", instruction, "--num-demos", str(demos), *options]


def results_of(out: Path) -> list[ShardResult]:
    """What a run wrote down of its shards."""
    run = load_run(out)
    return list(Ledger(run.folder, run.config.num_envs).results().values())


def attempts_of(out: Path) -> list:
    """All attempts of a run; none where it did not begin."""
    try:
        return [a for r in results_of(out) for a in r.attempts]
    except TwinError:
        return []


def _files(out: Path) -> set[str]:
    return {file.name for file in (out / "demos/episodes").glob("attempt_*.hdf5")}


def _readable(out: Path) -> tuple[dict[str, str], int]:
    """Digests of all attempt files, and how many of them do not hold what they say."""
    import h5py

    found, bad = {}, 0
    for name in sorted(_files(out)):
        file = out / "demos/episodes" / name
        try:
            (episode,) = read_demos(file)
            found[name] = state_sha256(episode)
            with h5py.File(file) as stream:
                bad += stream["data/demo_0"].attrs["state_sha256"] != found[name]
        except (TwinError, OSError, ValueError):
            bad += 1
    return found, bad


def _packed(out: Path) -> bool:
    return (out / "summary.json").is_file()


def _demos(out: Path) -> list:
    file = out / "demos/episodes.hdf5"
    return list(read_demos(file)) if file.is_file() else []
