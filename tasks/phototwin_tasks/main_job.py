"""The main job: a photo or a twin -> demonstrations, preview and report in one folder."""

from __future__ import annotations

import json
import os
import resource
import socket
from collections import Counter
from dataclasses import asdict, fields, replace
from itertools import islice
from pathlib import Path

from phototwin.console import logged_to, progress_on
from phototwin.data.store import EpisodeStore, read_demos
from phototwin.errors import InputError, OutputError, TwinError
from phototwin.output import LOG_FILE, claim_folder
from phototwin.pipeline import STAGES, STAGES_FOLDER, Source, other_inputs, photo_to_twin, sample_source
from phototwin.progress import StageTimer
from phototwin.scene import load_scene
from phototwin.view.preview import write_preview
from phototwin.view.report import AUDIT_FILE, SHOWN_EPISODES, ReportFacts, write_overview, write_report
from phototwin.view.run_section import FailureRow, RunFacts, TaskRow
from phototwin_tasks.generate.config import Crew, GenerateConfig, check_crew, complete_config, versions
from phototwin_tasks.generate.failures import CLASSES, failure_class
from phototwin_tasks.generate.jobs import Run, SetAside, has_begun, load_run, plan_run
from phototwin_tasks.generate.run import Generated, generate_demos
from phototwin_tasks.generate.sources import names_of, sources_of


def complete_source(source: Source, twins: tuple[Path, ...] = (), photos: tuple[Path, ...] = ()) -> Source:
    """The source with the bundled sample where nothing was given.

    Raises:
        InputError: Parts that do not go together.
    """
    given = [f"--{f.name.replace('_', '-')}" for f in fields(source) if getattr(source, f.name) != f.default]
    given += ["--photos"] if photos else []
    if twins and given:
        raise InputError(f"--twin starts from a finished twin: leave {', '.join(given)} out.")
    if given and not (source.photo or photos):
        raise InputError(f"{', '.join(given)} belong{'s' * (len(given) == 1)} to a photo: give --photo as well.")
    return source if source.photo or photos or twins else sample_source()


def run_folder(sources: tuple[Source, ...], twins: tuple[Path, ...], out: Path | None) -> Path:
    """The folder of the run: ``out``, or ``out/<name>`` after the first twin or photo."""
    if out:
        return out
    if twins:
        return Path("out") / load_scene(twins[0]).name
    from phototwin.perceive.photo import photo_name

    assert sources[0].photo is not None
    return Path("out") / photo_name(sources[0].photo)


def run_main_job(
    source: Source,
    twins: tuple[Path, ...],
    config: GenerateConfig,
    out: Path | None,
    resume: bool,
    crew: Crew | None = None,
    photos: tuple[Path, ...] = (),
) -> str:
    """Run everything; returns the closing lines for the user.

    Args:
        source: A photo, a folder or a pattern of photos, and what comes with it.
        twins: Start from these instead.
        config: What to make.
        out: Folder of the run.
        resume: Go on with an interrupted run.
        crew: Who works on it, and on what part.
        photos: More photos.

    Raises:
        TwinError: With one sentence on what is wrong and what to do.
    """
    complete_config(config)
    check_crew(crew := crew or Crew())
    source = complete_source(source, twins, photos)
    sources = () if twins else sources_of(source, photos)
    folder = run_folder(sources, twins, out)
    shared = crew.part == "work"
    log = folder / (f"log_{socket.gethostname()}_{os.getpid()}.txt" if shared else LOG_FILE)
    with claim_folder(folder, shared), logged_to(log) as terminal, progress_on(terminal) as progress:
        timer = StageTimer(progress)
        if crew.part in ("work", "merge"):
            run = load_run(folder)
        else:
            made_twins, left_out = (twins, ()) if twins else make_twins(sources, folder, config.seed, resume, timer)
            run = plan_run(folder, made_twins, config, resume, left_out)
        if crew.part == "plan":
            return planned_lines(folder, run)
        made = generate_demos(run, crew, timer)
        if shared:
            return f"{made.tally.line()}\n  --part merge makes the dataset of them\n"
        with timer.stage("write preview and report"):
            write_reports(folder, made, timer.seconds)
        write_summary(folder, made, timer.seconds)
    return closing_lines(folder, made)


def make_twins(
    sources: tuple[Source, ...], folder: Path, seed: int, resume: bool, timer: StageTimer
) -> tuple[tuple[Path, ...], tuple[SetAside, ...]]:
    """The twins of photos, and the photos that were set aside: one alone must become a twin, of several those that are fit for simulation do.

    Raises:
        TwinError: The only photo cannot be used, or none of several.
    """
    begun = has_begun(folder / "demos")
    if len(sources) == 1:
        return (make_twin(sources[0], folder, seed, resume, begun, timer),), ()
    twins, left_out = [], []
    for name, source in zip(names_of(sources), sources, strict=True):
        twin = folder / "twins" / name / "twin"
        try:
            make_twin(source, twin.parent, seed, resume=True, begun=begun, timer=timer)
            reasons = no_go(twin)
        except TwinError as error:
            reasons = (str(error),)
        if reasons:
            left_out.append(SetAside(str(source.photo), "perception", " ".join(reasons)))
        else:
            twins.append(twin)
    if not twins:
        raise InputError(f"None of {len(sources)} photos could be used; the first: {left_out[0].reason}")
    return tuple(twins), tuple(left_out)


def run_reconstruction(source: Source, seed: int, out: Path | None, redo: tuple[str, ...]) -> str:
    """Photo to twin and its report, no further; returns the closing lines for the user.

    The same command again runs only the stages whose inputs changed; demonstrations of another twin must not stand beside it.

    Raises:
        TwinError: With one sentence on what is wrong and what to do.
    """
    source = complete_source(source)
    assert source.photo is not None
    unknown = sorted(set(redo) - set(STAGES))
    if unknown:
        raise InputError(f"There is no stage {', '.join(unknown)} to --redo: choose among {', '.join(STAGES)}.")
    folder = run_folder((source,), (), out)
    with claim_folder(folder), logged_to(folder / LOG_FILE) as terminal, progress_on(terminal) as progress:
        if (folder / "demos").exists():
            raise OutputError(
                f"'{folder}' holds demonstrations recorded in its twin: give another --out for a new twin."
            )
        timer = StageTimer(progress)
        twin = folder / "twin"
        photo_to_twin(source, twin, stages=folder / STAGES_FOLDER, redo=redo, seed=seed, progress=timer)
        verdict = audit_made(twin, timer)
        write_report(folder, twin, (), ReportFacts(timer.seconds, {"seed": str(seed)}, versions=versions()))
    return (
        f"{verdict}"
        f"  {folder / 'report.html'}   open in a browser\n"
        f"  {twin / 'twin.usda'}   open in Isaac Sim, usdview or Newton\n"
        f"  scripts/generate.py --twin {twin}   makes demonstrations in it\n"
    )


def make_twin(source: Source, folder: Path, seed: int, resume: bool, begun: bool, timer: StageTimer) -> Path:
    """The twin of the photo in ``folder/twin``; with ``resume``, one that is there already and was made of the same.

    Args:
        source: The photo and what comes with it.
        folder: Where the twin and the stages are.
        seed: Of every random choice.
        resume: Whether one that is there may be used.
        begun: Whether demonstrations have been recorded in it, so that another cannot take its place.
        timer: Told progress.

    Raises:
        InputError: The twin there was made of something else, and demonstrations have been recorded in it.
        OutputError: There is a twin, and ``resume`` is False.
    """
    twin = folder / "twin"
    there = (twin / "twin.usda").is_file()
    if there and not resume:
        raise OutputError(
            f"'{folder}' holds a twin already: go on with --resume, use it with --twin {twin}, or give another --out."
        )
    other = other_inputs(twin, source, seed) if there else []
    if other and begun:
        raise InputError(
            f"The twin in '{folder}' was made of something else ({', '.join(other)} differ), and demonstrations were recorded in it: "
            "repeat what it was made of, or give another --out."
        )
    if other or not there:
        photo_to_twin(source, twin, stages=folder / STAGES_FOLDER, seed=seed, progress=timer)
    if other or not (twin / AUDIT_FILE).is_file():
        audit_made(twin, timer)
    return twin


def no_go(twin: Path) -> tuple[str, ...]:
    """What its audit holds against a twin."""
    from phototwin_tasks.audit.values import load_audit

    return load_audit(twin).reasons


def audit_made(twin: Path, timer: StageTimer) -> str:
    """Audit a new twin in MuJoCo, keep ``audit.json`` in it, and say in lines whether it is fit for simulation."""
    from phototwin_tasks.audit.audit import audit_twin
    from phototwin_tasks.audit.values import save_audit

    with timer.stage("audit"):
        audit = audit_twin(twin)
        save_audit(audit, twin)
    lines = [f"  no-go: {reason}\n" for reason in audit.reasons] + [f"  note: {text}\n" for text in audit.warnings]
    return "".join([f"audit of {len(audit.objects)} object(s): {'GO' if audit.go else 'NO-GO'}\n", *lines])


def write_reports(folder: Path, made: Generated, seconds: dict[str, float]) -> None:
    """Preview and report; with several twins one report each, and one of the run that leads to them."""
    episodes = made.demos / "episodes.hdf5"
    write_preview(read_demos(episodes, SHOWN_EPISODES), folder / "preview.mp4")
    twins = list(dict.fromkeys(made.run.twin(job) for job in made.run.jobs))
    if len(twins) == 1:
        write_report(folder, twins[0], read_demos(episodes, SHOWN_EPISODES), report_facts(made, seconds))
        return
    links = []
    for i, twin in enumerate(twins):
        part = only_of(made, twin)
        name = f"{i:02d}_{load_scene(twin).name}"
        shown = (e for e in read_demos(episodes) if e.task_index in {job.index for job in part.run.jobs})
        write_report(folder / "reports" / name, twin, islice(shown, SHOWN_EPISODES), report_facts(part, {}))
        links.append((name, f"reports/{name}/report.html"))
    write_overview(folder, folder.resolve().name, run_facts(made), links)


def only_of(made: Generated, twin: Path) -> Generated:
    """What was made in one of several twins."""
    jobs = tuple(job for job in made.run.jobs if made.run.twin(job) == twin)
    mine = {job.index for job in jobs}
    attempts = tuple(a for a in made.attempts if a.task in mine)
    return replace(made, run=replace(made.run, jobs=jobs), attempts=attempts, set_aside=())


def report_facts(made: Generated, seconds: dict[str, float]) -> ReportFacts:
    """What the report tells besides the files."""
    settings = {name: str(value) for name, value in asdict(made.run.config).items()}
    settings["instructions"] = instructions(made)
    rows = tuple((a.index, a.success, a.failure, a.steps) for a in made.attempts)
    return ReportFacts(seconds, settings, made.notes, versions(), rows, peak_memory_gb(), run_facts(made))


def run_facts(made: Generated) -> RunFacts:
    """Tasks, failures and cost of what was made."""
    store, jobs = EpisodeStore(made.demos), {job.index: job for job in made.run.jobs}
    names = {job.index: load_scene(made.run.twin(job)).name for job in made.run.jobs}
    counts = {i: [a.success for a in made.attempts if a.task == i] for i in jobs}
    tasks = tuple(
        TaskRow(names[i], job.task.text, job.wordings[1:], job.label, sum(counts[i]), len(counts[i]))
        for i, job in jobs.items()
    )
    failures = tuple(
        FailureRow(
            jobs[a.task].task.text,
            a.index,
            failure_class(a.failure),
            a.failure.partition(": ")[2],
            store.picture(a.index, a.task),
        )
        for a in made.attempts
        if not a.success
    )
    tally = made.tally
    numbers = {
        "demonstrations": str(tally.demonstrations),
        "a minute": f"{tally.per_minute:.0f}",
        "CPU-s a demonstration": f"{tally.cpu_per_demo_s:.1f}",
    }
    aside = tuple((item.what, item.kind, item.reason) for item in made.set_aside)
    return RunFacts(numbers, tasks, failures, dict(Counter(f.kind for f in failures)), CLASSES, aside)


def instructions(made: Generated) -> str:
    """What the robot was told."""
    return "; ".join(job.task.text for job in made.run.jobs)


def write_summary(folder: Path, made: Generated, seconds: dict[str, float]) -> None:
    """``summary.json``: the numbers of the run for other programs."""
    tally = made.tally
    value = {
        "instruction": instructions(made),
        "instructions": [job.task.text for job in made.run.jobs],
        "attempts": len(made.attempts),
        "successes": sum(a.success for a in made.attempts),
        "demonstrations": made.num_demos,
        "by_task": tally.by_task,
        "failures": tally.failures,
        "set_aside": [asdict(item) for item in made.set_aside],
        "cpu_s": tally.cpu_s,
        "start_cpu_s": tally.start_cpu_s,
        "seconds": seconds,
        "peak_memory_gb": peak_memory_gb(),
    }
    (folder / "summary.json").write_text(json.dumps(value, indent=1) + "\n")


def peak_memory_gb() -> float:
    """Most memory that this process has had, and the largest of its helpers beside it [GB]."""
    used = [resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(used) * 1024 / 1e9


def planned_lines(folder: Path, run: Run) -> str:
    """What was planned, and how to go on."""
    tasks = "".join(f"  {load_scene(run.twin(job)).name}: {job.task.text}\n" for job in run.jobs)
    aside = "".join(f"  set aside ({item.kind}): {item.what}: {item.reason}\n" for item in run.set_aside)
    return (
        f"{len(run.jobs)} task(s), {run.config.num_demos} demonstrations in shards of {run.config.num_envs} attempts:\n"
        f"{tasks}{aside}  --part work --out {folder}   as often and on as many machines as you like\n"
        f"  --part merge --out {folder}   makes the dataset\n"
    )


def closing_lines(folder: Path, made: Generated) -> str:
    """What was written and how to look at it."""
    succeeded = sum(a.success for a in made.attempts)
    short = made.run.config.num_demos - made.num_demos
    twins = dict.fromkeys(made.run.twin(job) for job in made.run.jobs)
    first = next(iter(twins))
    return (
        f"'{instructions(made)}': {made.num_demos} demonstrations, {succeeded} of {len(made.attempts)} attempts succeeded.\n"
        + (f"  {short} fewer than wanted, see what was set aside in the report.\n" if short else "")
        + f"  {folder / 'report.html'}   open in a browser\n"
        f"  {folder / 'preview.mp4'}   the first demonstrations\n"
        f"  {first / 'twin.usda'}   open in Isaac Sim, usdview or Newton\n"
        f"  {made.demos / 'episodes.hdf5'}   Isaac Lab and robomimic\n"
        f"  {made.demos / 'lerobot'}   LeRobotDataset('phototwin', root=...)\n"
    )
