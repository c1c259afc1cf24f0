"""Suite ``learn``: what policies reach from how many demonstrations, what rounds add, what datasets cost, and whether intervals cover."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from phototwin.learn.statistics import Rate, success_rate
from phototwin_tasks.benchmarks import REPOSITORY, Measure
from phototwin_tasks.benchmarks.generate_runs import generate
from phototwin_tasks.benchmarks.generate_suite import TASKS
from phototwin_tasks.benchmarks.learn_data import data_rows, interval_rows

COUNTS = (50, 200, 1000)
SEEDS = (0, 1, 2)
EPISODES = 100
TARGETS = {"lift": ">= 0.9", "place": ">= 0.75"}
"""Success that cloning must come to from the most demonstrations."""
STEPS = {50: 1000, 200: 1500, 1000: 3000}
DIFFUSION_STEPS = 4000
FROM_NOTHING = (200, 1500)
"""Demonstrations and steps of the policy that is timed from nothing to evaluated."""
LOOKS = {"blended": "warp_raster", "pasted": "pasted", "plain": "plain"}
UNSEEN_LOOK = "path_traced"
"""What policies of the three looks are tested on: frames that none of them was shown."""
LOOK_DEMOS = 200
LOOK = ("--fps", "20", "--resolution", "128", "128")
TEACH = ("--noise-m", "0.008", "--grasp-variety", "0")
HARD = {
    "preset": "default",
    "camera_shift_m": 0.02,
    "camera_turn_deg": 2.0,
    "light_turn_deg": 20.0,
    "light_factor": 1.25,
    "light_contrast": 1.2,
    "light_on_photo": 1.0,
    "distractors": 2,
}
"""What demonstrations and evaluations vary: poses as by default, camera, light, added things."""
SHOVE_M_S = 0.6
TIMEOUT_S = 7200


def measure(data: Path | None, quick: bool) -> Iterator[Measure]:
    """Every measure of the suite.

    Args:
        data: Not used: the sample is bundled.
        quick: Lift from a few demonstrations, one seed.
    """
    from phototwin.pipeline import sample_twin

    twin = sample_twin()
    counts, seeds, episodes = ((16,), SEEDS[:1], 16) if quick else (COUNTS, SEEDS, EPISODES)
    with tempfile.TemporaryDirectory(prefix="phototwin_learn_") as folder:
        scratch = Path(folder)
        hard = scratch / "hard.json"
        hard.write_text(json.dumps(HARD))
        yield from _from_nothing_rows(twin, scratch, quick)
        for family in ("lift",) if quick else ("lift", "place"):
            run = scratch / family
            facts = generate(run, twin, TASKS[family], counts[-1], *LOOK, *TEACH, "--randomize", str(hard))
            if "error" in facts:
                yield Measure(f"{family}: demonstrations", "sample", 0, "", f">= {counts[-1]}", facts["error"])
                continue
            yield Measure(f"{family}: demonstrations in", "sample", sum(facts["seconds"].values()) / 60, "min")
            try:
                yield from _curve_rows(run, twin, hard, family, counts, seeds, episodes, scratch)
            except RuntimeError as error:
                yield Measure(f"{family}: policies", "sample", 0, "", TARGETS[family], str(error))
        yield from _look_rows(twin, hard, scratch, seeds, 16 if quick else LOOK_DEMOS, episodes)
        yield from data_rows(scratch / "lift", scratch)
    yield from interval_rows(100 if quick else 1000)


def _curve_rows(
    run: Path,
    twin: Path,
    hard: Path,
    family: str,
    counts: tuple[int, ...],
    seeds: tuple[int, ...],
    episodes: int,
    scratch: Path,
) -> Iterator[Measure]:
    """Success from more and more demonstrations, by kind of policy; then what rounds add."""
    for kind in ("bc", "act", "diffusion"):
        for count in counts if kind != "diffusion" else counts[-1:]:
            steps = DIFFUSION_STEPS if kind == "diffusion" else STEPS.get(count, 50)
            target = TARGETS[family] if count == max(STEPS) and kind != "diffusion" else None
            rates, minutes = [], 0.0
            for seed in seeds if kind != "diffusion" else seeds[:1]:
                out = scratch / f"{family}_{kind}_{count}_{seed}"
                options = ("--policy.kind", kind, "--demos", str(count), "--steps", str(steps), "--seed", str(seed))
                spent = train_policy(run, out, *options, *(() if kind == "bc" else ("--batch", "32", "--lr", "3e-4")))
                minutes += spent / 60
                rates.append(evaluate_policy(out, twin, scratch / f"{out.name}_eval", hard, episodes, seed))
            yield rate_row(f"{family}: {kind} from {count}", rates, target, f"{minutes / len(rates):.1f} min each")
    yield from _round_rows(run, twin, hard, family, counts, episodes, scratch)


def _round_rows(
    run: Path, twin: Path, hard: Path, family: str, counts: tuple[int, ...], episodes: int, scratch: Path
) -> Iterator[Measure]:
    """Rounds against as many demonstrations more; with and without shoves."""
    first = counts[0]
    more = 3 * first
    out = scratch / f"{family}_rounds"
    steps = str(STEPS.get(first, 50))
    rounds = ("--rounds", "3", "--twin", str(twin), "--round-demos", str(first), "--round-steps", steps)
    train_policy(run, out, "--demos", str(first), "--steps", steps, *rounds)
    offline = scratch / f"{family}_offline"
    if first + more > counts[-1]:
        more = counts[-1] - first
    train_policy(run, offline, "--demos", str(first + more), "--steps", str(4 * STEPS.get(first, 50)))
    for shove in (0.0, SHOVE_M_S):
        for name, policy in (("rounds", out / "round_3" / "policy"), ("offline", offline)):
            place = scratch / f"{family}_{name}_{shove:g}"
            rate = evaluate_policy(policy, twin, place, hard, episodes, 0, "--shove-m-s", str(shove))
            said = f"{first} + 3 x {first}" if name == "rounds" else f"{first + more}"
            yield rate_row(f"{family}: {name}, {said}, shoves of {shove:g} m/s", [rate], None, "bc")


def _from_nothing_rows(twin: Path, scratch: Path, quick: bool) -> Iterator[Measure]:
    """Minutes from an instruction to a lift policy that is evaluated: poses, masses and friction vary as by default, looks do not."""
    demos, steps = (16, 50) if quick else FROM_NOTHING
    begun = time.monotonic()
    run, out = scratch / "nothing", scratch / "nothing_bc"
    try:
        facts = generate(run, twin, TASKS["lift"], demos, *LOOK, *TEACH)
        if "error" in facts:
            raise RuntimeError(facts["error"])
        train_policy(run, out, "--steps", str(steps))
        rate = evaluate_policy(out, twin, scratch / "nothing_eval", "default", 16 if quick else EPISODES, 0)
    except RuntimeError as error:
        yield Measure("from nothing to a lift policy", "sample", float("nan"), "min", "<= 15", str(error))
        return
    minutes = (time.monotonic() - begun) / 60
    yield Measure("from nothing to a lift policy", "sample", minutes, "min", "<= 15", f"bc, {demos} demonstrations")
    yield rate_row("from nothing: its success", [rate], None, "default randomisation")


def _look_rows(
    twin: Path, hard: Path, scratch: Path, seeds: tuple[int, ...], demos: int, episodes: int
) -> Iterator[Measure]:
    """Does photorealism pay? The same demonstrations in three looks, each policy driving on frames of a fourth."""
    for name, renderer in LOOKS.items():
        run, rates = scratch / f"look_{name}", []
        facts = generate(
            run, twin, TASKS["lift"], demos, *LOOK, *TEACH, "--randomize", str(hard), "--renderer", renderer
        )
        if "error" in facts:
            yield Measure(f"trained on {name} frames", "sample", float("nan"), "", None, facts["error"])
            continue
        for seed in seeds:
            out = scratch / f"look_{name}_{seed}"
            train_policy(run, out, "--steps", str(STEPS[200]), "--seed", str(seed))
            place = scratch / f"{out.name}_eval"
            rates.append(evaluate_policy(out, twin, place, hard, episodes, seed, "--renderer", UNSEEN_LOOK))
        yield rate_row(f"trained on {name} frames, tested on path-traced ones", rates, None, f"bc from {demos}")


def rate_row(name: str, rates: list[Rate], target: str | None, method: str) -> Measure:
    """All seeds together, with their interval."""
    rate = success_rate(sum(r.successes for r in rates), sum(r.trials for r in rates))
    each = ", ".join(f"{r.rate:.2f}" for r in rates)
    return Measure(name, "sample", rate.rate, "", target, f"[{rate.low:.2f}, {rate.high:.2f}], seeds {each}; {method}")


def train_policy(run: Path, out: Path, *options: str) -> float:
    """Train by the script; seconds it took.

    Raises:
        RuntimeError: It failed; the message is its last line.
    """
    began = time.monotonic()
    _run("train.py", str(run), "--out", str(out), "--threads", str(os.cpu_count() or 1), *options)
    return time.monotonic() - began


def evaluate_policy(
    policy: Path, twin: Path, out: Path, hard: Path | str, episodes: int, seed: int, *options: str
) -> Rate:
    """Evaluate by the script; success with its interval.

    Raises:
        RuntimeError: It failed; the message is its last line.
    """
    where = ("--policy", str(policy), "--twin", str(twin), "--out", str(out), "--randomize", str(hard))
    _run("evaluate.py", *where, "--episodes", str(episodes), "--seed", str(seed), "--videos", "0", *options)
    found = json.loads((out / "evaluation.json").read_text())["success"]
    return success_rate(round(found["rate"] * found["trials"]), found["trials"])


def _run(script: str, *arguments: str) -> None:
    command = [sys.executable, str(REPOSITORY / "scripts" / script), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    if done.returncode:
        raise RuntimeError(f"{script}: {(done.stderr.strip().splitlines() or ['no message'])[-1]}")
