"""The main job: a photo or a twin -> demonstrations, preview and report in one folder."""

from __future__ import annotations

import json
import resource
from dataclasses import asdict, fields
from pathlib import Path

from phototwin.console import logged_to, progress_on
from phototwin.data.store import read_demos
from phototwin.errors import InputError, OutputError
from phototwin.output import LOG_FILE, claim_folder
from phototwin.pipeline import STAGES, STAGES_FOLDER, Source, photo_to_twin, sample_source
from phototwin.progress import StageTimer
from phototwin.view.preview import write_preview
from phototwin.view.report import SHOWN_EPISODES, ReportFacts, write_report
from phototwin_tasks.generate.config import Crew, GenerateConfig, check_crew, complete_config, versions
from phototwin_tasks.generate.jobs import plan_run
from phototwin_tasks.generate.run import Generated, generate_demos


def complete_source(source: Source, twin: Path | None = None) -> Source:
    """The source with the bundled sample where nothing was given.

    Raises:
        InputError: Parts that do not go together.
    """
    given = [f"--{f.name.replace('_', '-')}" for f in fields(source) if getattr(source, f.name) != f.default]
    if twin and given:
        raise InputError(f"--twin starts from a finished twin: leave {', '.join(given)} out.")
    if given and not source.photo:
        raise InputError(f"{', '.join(given)} belong{'s' * (len(given) == 1)} to a photo: give --photo as well.")
    return source if source.photo or twin else sample_source()


def run_folder(source: Source, twin: Path | None, out: Path | None) -> Path:
    """The folder of the run: ``out``, or ``out/<name>`` after the twin or the photo."""
    if out:
        return out
    if twin:
        from phototwin.scene import load_scene

        return Path("out") / load_scene(twin).name
    from phototwin.perceive.photo import photo_name

    assert source.photo is not None
    return Path("out") / photo_name(source.photo)


def run_main_job(
    source: Source, twin: Path | None, config: GenerateConfig, out: Path | None, resume: bool, crew: Crew | None = None
) -> str:
    """Run everything; returns the closing lines for the user.

    Raises:
        TwinError: With one sentence on what is wrong and what to do.
    """
    complete_config(config)
    check_crew(crew := crew or Crew())
    source = complete_source(source, twin)
    folder = run_folder(source, twin, out)
    with claim_folder(folder), logged_to(folder / LOG_FILE) as terminal, progress_on(terminal) as progress:
        timer = StageTimer(progress)
        twin = twin or make_twin(source, folder, config.seed, resume, timer)
        made = generate_demos(plan_run(folder, (twin,), config, resume), crew, timer)
        with timer.stage("write preview and report"):
            write_preview(read_demos(made.demos / "episodes.hdf5", SHOWN_EPISODES), folder / "preview.mp4")
            facts = report_facts(made, timer.seconds)
            write_report(folder, twin, read_demos(made.demos / "episodes.hdf5", SHOWN_EPISODES), facts)
        write_summary(folder, made, timer.seconds)
    return closing_lines(folder, twin, made)


def run_reconstruction(source: Source, seed: int, out: Path | None, redo: tuple[str, ...]) -> str:
    """Photo to twin and its report, no further; returns the closing lines for the user.

    The same command again runs only the stages whose inputs changed; demonstrations of another twin must not stand beside it.

    Raises:
        TwinError: With one sentence on what is wrong and what to do.
    """
    source = complete_source(source)
    unknown = sorted(set(redo) - set(STAGES))
    if unknown:
        raise InputError(f"There is no stage {', '.join(unknown)} to --redo: choose among {', '.join(STAGES)}.")
    folder = run_folder(source, None, out)
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


def make_twin(source: Source, folder: Path, seed: int, resume: bool, timer: StageTimer) -> Path:
    """The twin of the photo in ``folder/twin``; with ``resume``, one that is there already."""
    twin = folder / "twin"
    if not (resume and (twin / "twin.usda").is_file()):
        if (twin / "twin.usda").is_file():
            raise OutputError(
                f"'{folder}' holds a twin already: go on with --resume, use it with --twin {twin}, or give another --out."
            )
        photo_to_twin(source, twin, stages=folder / STAGES_FOLDER, seed=seed, progress=timer)
        audit_made(twin, timer)
    return twin


def audit_made(twin: Path, timer: StageTimer) -> str:
    """Audit a new twin in MuJoCo, keep ``audit.json`` in it, and say in lines whether it is fit for simulation."""
    from phototwin_tasks.audit.audit import audit_twin
    from phototwin_tasks.audit.values import save_audit

    with timer.stage("audit"):
        audit = audit_twin(twin)
        save_audit(audit, twin)
    lines = [f"  no-go: {reason}\n" for reason in audit.reasons] + [f"  note: {text}\n" for text in audit.warnings]
    return "".join([f"audit of {len(audit.objects)} object(s): {'GO' if audit.go else 'NO-GO'}\n", *lines])


def report_facts(made: Generated, seconds: dict[str, float]) -> ReportFacts:
    """What the report tells besides the files."""
    settings = {name: str(value) for name, value in asdict(made.run.config).items()} | {
        "instruction": instructions(made)
    }
    rows = tuple((a.index, a.success, a.failure, a.steps) for a in made.attempts)
    return ReportFacts(seconds, settings, made.notes, versions(), rows, peak_memory_gb())


def instructions(made: Generated) -> str:
    """What the robot was told."""
    return "; ".join(job.task.text for job in made.run.jobs)


def write_summary(folder: Path, made: Generated, seconds: dict[str, float]) -> None:
    """``summary.json``: the numbers of the run for other programs."""
    value = {
        "instruction": instructions(made),
        "attempts": len(made.attempts),
        "successes": sum(a.success for a in made.attempts),
        "demonstrations": made.num_demos,
        "seconds": seconds,
        "peak_memory_gb": peak_memory_gb(),
    }
    (folder / "summary.json").write_text(json.dumps(value, indent=1) + "\n")


def peak_memory_gb() -> float:
    """Most memory that this process has had, and the largest of its helpers beside it [GB]."""
    used = [resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(used) * 1024 / 1e9


def closing_lines(folder: Path, twin: Path, made: Generated) -> str:
    """What was written and how to look at it."""
    succeeded = sum(a.success for a in made.attempts)
    return (
        f"'{instructions(made)}': {made.num_demos} demonstrations, {succeeded} of {len(made.attempts)} attempts succeeded.\n"
        f"  {folder / 'report.html'}   open in a browser\n"
        f"  {folder / 'preview.mp4'}   the first demonstrations\n"
        f"  {twin / 'twin.usda'}   open in Isaac Sim, usdview or Newton\n"
        f"  {made.demos / 'episodes.hdf5'}   Isaac Lab and robomimic\n"
        f"  {made.demos / 'lerobot'}   LeRobotDataset('phototwin', root=...)\n"
    )
