"""The main job: a photo or a twin -> demonstrations, preview and report in one folder."""

from __future__ import annotations

import resource
from dataclasses import dataclass
from pathlib import Path

from phototwin.console import logged_to, progress_on
from phototwin.errors import InputError
from phototwin.output import claim_folder
from phototwin.pipeline import SAMPLE, photo_to_twin
from phototwin.progress import StageTimer
from phototwin_tasks.generate import GenerateConfig, Generated, generate_demos


@dataclass(frozen=True)
class Source:
    """Where the scene comes from: a twin, a photo with whatever belongs to it, or (all None) the bundled sample.

    Attributes:
        photo: Image file.
        depth: Its depth.
        camera: Its camera.
        objects: Hints about its objects.
        anchors: Known lengths.
        twin: Folder of a finished twin.
    """

    photo: Path | None = None
    depth: Path | None = None
    camera: Path | None = None
    objects: Path | None = None
    anchors: tuple[str, ...] = ()
    twin: Path | None = None


def complete_source(source: Source) -> Source:
    """The source with the bundled sample where nothing was given.

    Raises:
        InputError: Parts that do not go together.
    """
    extras = (source.depth, source.camera, source.objects, source.anchors or None)
    if source.twin:
        if source.photo or any(extras):
            raise InputError(
                "--twin starts from a finished twin: leave --photo, --depth, --camera, --objects and --anchor out."
            )
        return source
    if source.photo:
        return source
    if any(extras):
        raise InputError("--depth, --camera, --objects and --anchor belong to a photo: give --photo as well.")
    return Source(SAMPLE / "photo.png", SAMPLE / "depth.png", SAMPLE / "camera.json")


def run_folder(source: Source, out: Path | None) -> Path:
    """The folder of the run: ``out``, or ``out/<name>`` after the twin or the photo."""
    if out:
        return out
    if source.twin:
        from phototwin.scene import load_scene

        return Path("out") / load_scene(source.twin).name
    from phototwin.perceive.photo import photo_name

    assert source.photo is not None
    return Path("out") / photo_name(source.photo)


def run_main_job(source: Source, config: GenerateConfig, out: Path | None, resume: bool) -> str:
    """Run everything; returns the closing lines for the user.

    Raises:
        TwinError: With one sentence on what is wrong and what to do.
    """
    from phototwin.view.preview import write_preview
    from phototwin.view.report import write_report

    source = complete_source(source)
    folder = run_folder(source, out)
    with claim_folder(folder), logged_to(folder / "log.txt") as terminal, progress_on(terminal) as progress:
        timer = StageTimer(progress)
        twin = source.twin or make_twin(source, folder, config.seed, resume, timer)
        made = generate_demos(twin, folder, config, resume, timer)
        with timer.stage("write preview and report"):
            write_preview(made.demos / "episodes.hdf5", folder / "preview.mp4")
            write_report(folder, twin, made.demos, report_facts(config, made, timer))
    return closing_lines(folder, twin, made)


def run_reconstruction(source: Source, seed: int, out: Path | None, resume: bool) -> str:
    """Photo to twin and its report, no further; returns the closing lines for the user.

    Raises:
        TwinError: With one sentence on what is wrong and what to do.
    """
    from phototwin.view.report import write_report

    source = complete_source(source)
    folder = run_folder(source, out)
    with claim_folder(folder), logged_to(folder / "log.txt") as terminal, progress_on(terminal) as progress:
        timer = StageTimer(progress)
        twin = make_twin(source, folder, seed, resume, timer)
        write_report(folder, twin, None, ReportFacts(seconds=timer.seconds, settings={"seed": str(seed)}))
    return (
        f"  {folder / 'report.html'}   open in a browser\n"
        f"  {twin / 'twin.usda'}   open in Isaac Sim, usdview or Newton\n"
        f"  scripts/generate.py --twin {twin}   makes demonstrations in it\n"
    )


def make_twin(source: Source, folder: Path, seed: int, resume: bool, timer: StageTimer) -> Path:
    """The twin of the photo in ``folder/twin``; with ``resume``, one that is there already."""
    twin = folder / "twin"
    if not (resume and (twin / "twin.usda").is_file()):
        if (twin / "twin.usda").is_file():
            from phototwin.errors import OutputError

            raise OutputError(
                f"'{folder}' holds a twin already: go on with --resume, use it with --twin {twin}, or give another --out."
            )
        assert source.photo is not None
        photo_to_twin(
            source.photo,
            twin,
            depth=source.depth,
            camera=source.camera,
            objects=source.objects,
            anchors=source.anchors,
            seed=seed,
            progress=timer,
        )
    return twin


def peak_memory_gb() -> float:
    """Most memory that this process has had [GB]."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def closing_lines(folder: Path, twin: Path, made: Generated) -> str:
    """What was written and how to look at it."""
    succeeded = sum(a.success for a in made.attempts)
    return (
        f"'{made.instruction}': {made.num_demos} demonstrations, {succeeded} of {len(made.attempts)} attempts succeeded.\n"
        f"  {folder / 'report.html'}   open in a browser\n"
        f"  {folder / 'preview.mp4'}   the first demonstrations\n"
        f"  {twin / 'twin.usda'}   open in Isaac Sim, usdview or Newton\n"
        f"  {made.demos / 'episodes.hdf5'}   Isaac Lab and robomimic\n"
        f"  {made.demos / 'lerobot'}   LeRobotDataset('phototwin', root=...)\n"
    )
