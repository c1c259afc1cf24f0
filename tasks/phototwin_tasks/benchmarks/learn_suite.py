"""Suite ``learn``: what policies reach from how many demonstrations, what rounds and looks add, what datasets cost, and whether intervals cover."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from phototwin.errors import InputError
from phototwin.plan.instruction import default_instruction
from phototwin.scene import load_scene
from phototwin_tasks.benchmarks import Measure
from phototwin_tasks.benchmarks.generate_suite import MORE_SCENES, TASKS, make_twin
from phototwin_tasks.benchmarks.learn_data import data_rows, interval_rows
from phototwin_tasks.benchmarks.learn_runs import (
    Bench,
    Job,
    Trial,
    evaluate_policy,
    make_demos,
    open_bench,
    rate_row,
    train_policy,
)
from phototwin_tasks.benchmarks.main_suite import SCENES

PARTS = ("nothing", "lift", "place", "rounds", "looks", "mix", "data", "intervals")
"""What can be measured alone: from nothing to a policy, curves of the two tasks, on-policy rounds, looks, several twins, datasets, intervals."""
QUICK_PARTS = tuple(part for part in PARTS if part not in ("place", "mix"))
TARGETS = {"lift": ">= 0.9", "place": ">= 0.75"}
"""Success that cloning and ACT must come to from the most demonstrations."""
KINDS = {
    "bc": (),
    "act": ("--policy.kind", "act", "--batch", "32"),
    "diffusion": ("--policy.kind", "diffusion", "--batch", "32"),
}
STEPS = {50: 1000, 200: 1500, 1000: 2500}
"""Of the optimiser, by demonstrations."""
ACT_STEPS = {50: 1000, 200: 2000, 1000: 6000}
DIFFUSION_STEPS = 6000
"""Twenty minutes of a core."""
QUICK_STEPS = 50
FROM_NOTHING = 200
"""Demonstrations of the policy that is timed from nothing to evaluated."""
LOOKS = {"blended": "", "pasted": "pasted", "plain": "plain"}
"""Renderer of the frames that each learns from; the blended ones are those of the run for lift."""
UNSEEN_LOOK = "path_traced"
"""What policies of the three looks are tested on: frames that none of them was shown."""
MIX = {"sample": TASKS["lift"], "six_sugar": "", "simpler_counter_three_objects": "pick up the can"}
"""Scenes of the policy of several twins, and what is asked for there; empty for the family's default."""
HELD_OUT = {"simpler_bridge_cubes": "pick up the green cube", "six_blue_mug": ""}
"""Scenes whose photos nothing learns from."""
FRAMES = ("--fps", "20", "--resolution", "128", "128", "--grasp-variety", "0")
NOISE = ("--noise-m", "0.03")
"""More than a policy is wrong by when it first sees where it must go; with less it learns to go on where it is going."""
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


@dataclass(frozen=True)
class Size:
    """How much is measured.

    Attributes:
        counts: Demonstrations, rising.
        seeds: Of trainings and of the attempts that test them.
        episodes: Attempts of a test of each seed.
        traced: Attempts of a test of each seed on path-traced frames, which take a second each.
        alone: Attempts where there is one seed.
        some: Demonstrations where several trainings are compared, the first of those of the curve.
        rounds: On-policy rounds, which together bring what ``some`` has beyond the smallest count.
    """

    counts: tuple[int, ...] = (50, 200, 1000)
    seeds: tuple[int, ...] = (0, 1, 2)
    episodes: int = 48
    traced: int = 36
    alone: int = 112
    some: int = 200
    rounds: int = 3


QUICK = Size(counts=(4, 16), seeds=(0,), episodes=16, traced=16, alone=16, some=16, rounds=1)


def measure(data: Path | None, quick: bool, work: Path | None = None, parts: tuple[str, ...] = ()) -> Iterator[Measure]:
    """Every measure of the suite.

    Args:
        data: Folder of real captures for the mix of twins and the held-out photos; without it there are none.
        quick: Few demonstrations and steps, one seed.
        work: Where everything is kept; what is there is not made again. A folder that is removed when None.
        parts: Those of ``PARTS`` that are measured; all where empty, of a quick run those of ``QUICK_PARTS``.

    Raises:
        InputError: There is no such part.
    """
    from phototwin.pipeline import sample_twin

    unknown = set(parts) - set(PARTS)
    if unknown:
        raise InputError(f"There is no part '{unknown.pop()}' of the suite: choose of {', '.join(PARTS)}.")
    parts = parts or (QUICK_PARTS if quick else PARTS)
    size = QUICK if quick else Size()
    twin = sample_twin()
    keep = nullcontext(work) if work else tempfile.TemporaryDirectory(prefix="phototwin_learn_")
    with keep as folder:
        scratch = Path(folder).absolute()
        scratch.mkdir(parents=True, exist_ok=True)
        hard = scratch / "hard.json"
        hard.write_text(json.dumps(HARD))
        if "nothing" in parts:
            yield from _from_nothing_rows(twin, scratch, size)
        with open_bench(scratch) as bench:
            if {"lift", "rounds", "looks", "mix", "data"} & set(parts):
                yield from _demo_rows(bench, twin, hard, "lift", size, "lift" in parts)
            if "lift" in parts:
                yield from _curve_rows(bench, twin, hard, "lift", size)
            if "place" in parts:
                yield from _demo_rows(bench, twin, hard, "place", size, whole=True)
                yield from _curve_rows(bench, twin, hard, "place", size)
            if "rounds" in parts:
                yield from _round_rows(bench, twin, hard, size)
            twins = _twins(data, scratch) if data is not None and {"looks", "mix"} & set(parts) else {}
            if "looks" in parts:
                yield from _look_rows(bench, twin, hard, size, {k: v for k, v in twins.items() if k in HELD_OUT})
            if "mix" in parts:
                yield from _mix_rows(bench, {"sample": twin, **twins}, hard, size)
        if "data" in parts and (scratch / "lift" / "summary.json").is_file():
            yield from data_rows(scratch / "lift", scratch)
    if "intervals" in parts:
        yield from interval_rows(100 if quick else 1000)


def _demo_rows(bench: Bench, twin: Path, hard: Path, family: str, size: Size, whole: bool) -> Iterator[Measure]:
    """Make the demonstrations of a task: the first ``some``, and where ``whole`` the others of the curve beside them."""
    given = (*FRAMES, *NOISE, "--randomize", str(hard))
    parts = {family: (size.some, "0"), f"{family}_more": (size.counts[-1] - size.some if whole else 0, "1")}
    for run, (demos, seed) in parts.items():
        if demos:
            began, known = time.monotonic(), (bench.scratch / run).exists()
            error = make_demos(bench.scratch / run, twin, TASKS[family], demos, *given, "--seed", seed)
            spent = float("nan") if known else (time.monotonic() - began) / 60
            said = error or "was there before" * known
            yield Measure(f"{run}: {demos} demonstrations", "sample", spent, "min", None, said)


def _steps(kind: str, demos: int, size: Size) -> tuple[str, str]:
    """The option for so many demonstrations."""
    if size is QUICK:
        return "--steps", str(QUICK_STEPS)
    if kind == "diffusion":
        return "--steps", str(DIFFUSION_STEPS)
    table = ACT_STEPS if kind == "act" else STEPS
    return "--steps", str(table[min(n for n in table if n >= demos)])


def _tested(hard: Path, episodes: int, seed: int, *options: str) -> tuple[str, ...]:
    return ("--randomize", str(hard), "--episodes", str(episodes), "--seed", str(seed), *options)


def _taught(bench: Bench, family: str, kind: str, count: int, seed: int, size: Size, tests: tuple[Trial, ...]) -> Job:
    """A training on the first ``count`` demonstrations of a task; what several parts ask for is trained once."""
    runs = (
        (bench.scratch / family,) if count <= size.some else (bench.scratch / family, bench.scratch / f"{family}_more")
    )
    demos = ("--demos", str(count)) if count <= size.some else ()
    given = (*KINDS[kind], *demos, "--seed", str(seed), *_steps(kind, count, size))
    return Job(f"{family}_{kind}_{count}_{seed}", runs, given, tests)


def _curve_rows(bench: Bench, twin: Path, hard: Path, family: str, size: Size) -> Iterator[Measure]:
    """Success from more and more demonstrations, by kind of policy; that of the most with shoves, too."""
    last = size.counts[-1]
    cells = [(kind, count) for kind in ("bc", "act") for count in size.counts] + [("diffusion", last)]
    started = {cell: [] for cell in cells}
    for seed in size.seeds:
        for kind, count in cells:
            tests = [Trial("hard", twin, _tested(hard, size.episodes, seed))]
            if count == last:
                tests.append(Trial("shoved", twin, _tested(hard, size.episodes, seed, "--shove-m-s", str(SHOVE_M_S))))
            started[kind, count].append(bench.start(_taught(bench, family, kind, count, seed, size, tuple(tests))))
    for (kind, count), jobs in started.items():
        outcomes = [job.result() for job in jobs]
        target = TARGETS[family] if count == last and kind != "diffusion" and size is not QUICK else None
        name = f"{family}: {kind} from {count}"
        yield rate_row(name, "sample, hard", outcomes, target, "success")
        if count == last:
            yield rate_row(f"{name}, shoved", "sample, hard", outcomes, None, f"{SHOVE_M_S:g} m/s", 1)


def _round_rows(bench: Bench, twin: Path, hard: Path, size: Size) -> Iterator[Measure]:
    """Rounds against as many demonstrations and steps, from data with noise and without."""
    first, each = size.counts[0], (size.some - size.counts[0]) // size.rounds
    error = make_demos(bench.scratch / "lift_clean", twin, TASKS["lift"], size.some, *FRAMES, "--randomize", str(hard))
    steps = int(_steps("bc", size.some, size)[1])
    later = steps // (size.rounds + 2)
    jobs = {"lift": ([], []), "lift_clean": ([], [])}
    if error:
        yield Measure("lift: demonstrations without noise", "sample", float("nan"), "", None, error)
        del jobs["lift_clean"]
    for seed in size.seeds:
        options = _tested(hard, size.episodes, seed)
        for run, (driven, told) in jobs.items():
            given = (
                *("--demos", str(first), "--steps", str(steps - size.rounds * later), "--seed", str(seed)),
                *("--rounds", str(size.rounds), "--round-demos", str(each), "--round-steps", str(later)),
                *("--twin", str(twin), "--round-randomize", str(hard)),
            )
            tests = tuple(Trial(f"round_{i}", twin, options, f"round_{i}/policy") for i in range(size.rounds + 1))
            driven.append(bench.start(Job(f"{run}_rounds_{seed}", (bench.scratch / run,), given, tests)))
            job = _taught(bench, run, "bc", size.some, seed, size, (Trial("hard", twin, options),))
            told.append(bench.start(job))
    for run, (driven, told) in jobs.items():
        name = "noise" if run == "lift" else "no noise"
        rounds, offline = [job.result() for job in driven], [job.result() for job in told]
        for i in range(size.rounds + 1):
            said = f"lift, {name}: {first} and {i} rounds of {each}"
            yield rate_row(said, "sample, hard", rounds, None, "bc, all rounds", i)
        yield rate_row(f"lift, {name}: {size.some} offline", "sample, hard", offline, None, "bc, as many steps")


def _from_nothing_rows(twin: Path, scratch: Path, size: Size) -> Iterator[Measure]:
    """Minutes from an instruction to a lift policy that is evaluated: poses, masses and friction vary as by default, looks do not."""
    demos = min(FROM_NOTHING, size.counts[-1])
    begun = time.monotonic()
    run, out, test = scratch / "nothing", scratch / "nothing_bc", scratch / "nothing_bc_test"
    anew = not test.exists()
    try:
        error = make_demos(run, twin, TASKS["lift"], demos, *FRAMES, *NOISE)
        if error:
            raise RuntimeError(error)
        train_policy([run], out, *_steps("bc", demos, size))
        rate = evaluate_policy(out, twin, test, "--episodes", str(size.alone))
    except RuntimeError as error:
        yield Measure("from nothing to a lift policy", "sample", float("nan"), "min", "<= 15", str(error))
        return
    minutes = (time.monotonic() - begun) / 60 if anew else float("nan")
    said = f"bc, {demos} demonstrations" if anew else "was there before"
    yield Measure("from nothing to a lift policy", "sample", minutes, "min", "<= 15" if anew else None, said)
    yield Measure("its success", "sample, default", rate.rate, "", None, f"[{rate.low:.2f}, {rate.high:.2f}]")


def _look_rows(bench: Bench, twin: Path, hard: Path, size: Size, held_out: dict[str, Path]) -> Iterator[Measure]:
    """Does photorealism pay? The same demonstrations in three looks, each policy driving on frames of a fourth, and on twins of photos that it never saw."""
    jobs = {}
    for name, renderer in LOOKS.items():
        run = f"look_{name}" if renderer else "lift"
        options = (*FRAMES, *NOISE, "--randomize", str(hard), "--renderer", renderer)
        error = make_demos(bench.scratch / run, twin, TASKS["lift"], size.some, *options) if renderer else ""
        if error:
            yield Measure(f"trained on {name} frames", "sample", float("nan"), "", None, error)
            continue
        jobs[name] = run, []
    for seed in size.seeds:
        tests = [Trial(UNSEEN_LOOK, twin, _tested(hard, size.traced, seed, "--renderer", UNSEEN_LOOK))]
        tests.append(Trial("hard", twin, _tested(hard, size.episodes, seed)))
        for scene, other in held_out.items():
            told = _told(other, HELD_OUT[scene])
            tests.append(Trial(scene, other, _tested(hard, size.episodes, seed, "--instruction", told)))
        for run, started in jobs.values():
            started.append(bench.start(_taught(bench, run, "bc", size.some, seed, size, tuple(tests))))
    for name, (_, started) in jobs.items():
        outcomes = [job.result() for job in started]
        where = ("sample, path traced", "sample, blended", *(f"{scene}, blended" for scene in held_out))
        for i, scene in enumerate(where):
            yield rate_row(f"trained on {name} frames", scene, outcomes, None, f"bc from {size.some}", i)


def _mix_rows(bench: Bench, twins: dict[str, Path], hard: Path, size: Size) -> Iterator[Measure]:
    """One policy from demonstrations on several twins, on each of them and on photos that it never saw."""
    runs, tests = [], []
    for scene, instruction in (MIX | HELD_OUT).items():
        if scene not in twins:
            yield Measure("mix", scene, float("nan"), "", None, "there is no twin of it")
            continue
        told = _told(twins[scene], instruction)
        if scene in MIX:
            run = bench.scratch / ("lift" if scene == "sample" else f"mix_{scene}")
            options = (*FRAMES, *NOISE, "--randomize", str(hard))
            error = "" if scene == "sample" else make_demos(run, twins[scene], told, size.some, *options)
            if error:
                yield Measure("mix: demonstrations", scene, float("nan"), "", None, error)
                continue
            runs.append(run)
        tests.append(Trial(scene, twins[scene], _tested(hard, size.alone, 0, "--instruction", told)))
    given = ("--demos", str(size.some), *_steps("bc", size.some * len(runs), size))
    outcome = bench.start(Job("mix_bc", tuple(runs), given, tuple(tests))).result()
    for i, test in enumerate(tests):
        seen = "hard" if test.name in MIX else "hard, held out"
        yield rate_row(f"lift, {len(runs)} twins", f"{test.name}, {seen}", [outcome], None, f"bc, {size.some} each", i)


def _told(twin: Path, instruction: str) -> str:
    """What is asked for on a twin: the instruction, or what the twin's own things suggest."""
    return instruction or default_instruction(load_scene(twin).objects)


def _twins(data: Path, scratch: Path) -> dict[str, Path]:
    """The twins of the scenes that are there and can be made."""
    found = {}
    for scene in (*SCENES, *MORE_SCENES):
        place = scratch / "twins" / scene.name / "twin"
        if scene.name in MIX | HELD_OUT and (data / scene.name).is_dir():
            if not (place / "scene.json").is_file():
                make_twin(scene, data, scratch)
            if (place / "scene.json").is_file():
                found[scene.name] = place
    return found
