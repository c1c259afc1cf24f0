"""The jobs of a run: every task on every twin, written down once so that whoever works on the run later does the same."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import shutil
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from phototwin.data.store import write_bytes
from phototwin.errors import InputError, InstructionError, OutputError, TwinError
from phototwin.plan.task import Step, Task
from phototwin.robots import get_robot
from phototwin.scene import Scene, load_scene
from phototwin_tasks.generate.config import GenerateConfig, complete_config

RUN_FILE = "run.json"
WORDINGS, WORDS_STREAM = 6, 11
"""Draws of other words for a proposed task, and what they are drawn with beside the seed."""
DERIVED_FROM = "derived from"
"""Note of a variant of a twin: ``twin_hash`` of that twin."""
FREE_FIELDS = ("num_demos",)
"""What a later run in the same folder may ask for anew."""


@dataclass(frozen=True)
class Job:
    """One task on one twin.

    Attributes:
        index: Its number in the run.
        twin: Folder of the twin: relative to the run's folder where it lies inside, else absolute.
        twin_sha256: Digest of the twin's files.
        task: What to do.
        wordings: How it is said, in turn from attempt to attempt; the task's text is the first.
    """

    index: int
    twin: str
    twin_sha256: str
    task: Task
    wordings: tuple[str, ...]

    @property
    def label(self) -> str:
        """Skill and object of its first step, for statistics."""
        return f"{self.task.family} {self.task.steps[0].object}"


@dataclass(frozen=True)
class SetAside:
    """What a run leaves out.

    Attributes:
        what: A photo, a twin or an instruction.
        kind: One word of the failure classes.
        reason: Why, one sentence.
    """

    what: str
    kind: str
    reason: str


@dataclass(frozen=True)
class Run:
    """All that is fixed when a run begins.

    Attributes:
        folder: ``demos`` of the run's folder.
        config: Complete.
        jobs: At least one.
        twins: Digests of all twins that were given.
        set_aside: What was left out before the first attempt.
    """

    folder: Path
    config: GenerateConfig
    jobs: tuple[Job, ...]
    twins: tuple[str, ...] = ()
    set_aside: tuple[SetAside, ...] = ()

    def twin(self, job: Job) -> Path:
        """Folder of the twin of a job."""
        return (self.folder.parent / job.twin).resolve()

    def wanted(self, job: Job) -> int:
        """How many demonstrations of a job are wanted at first: the run's number, shared evenly."""
        return len(range(job.index, self.config.num_demos, len(self.jobs)))


def plan_run(
    folder: Path,
    twins: tuple[Path, ...],
    config: GenerateConfig,
    resume: bool,
    set_aside: tuple[SetAside, ...] = (),
) -> Run:
    """The run in ``folder``: begun, or the one that was begun there with the same settings.

    Args:
        folder: Folder of the run; the demonstrations go into its ``demos``.
        twins: Folders of the twins.
        config: What to make.
        resume: Go on with a run that has made demonstrations already.
        set_aside: What was left out before.

    Raises:
        InputError: The folder was begun with other settings.
        InstructionError: No task can be done on any twin.
        OutputError: The folder holds demonstrations and ``resume`` is False, or cannot be written.
    """
    demos = folder / "demos"
    begun = has_begun(demos)
    if begun and not resume:
        raise OutputError(
            f"'{demos}' holds demonstrations already: add --resume to go on with them, or give another --out."
        )
    scenes = [load_scene(twin) for twin in twins]
    hashes = [twin_hash(twin) for twin in twins]
    if begun and (demos / RUN_FILE).is_file():
        return _go_on(load_run(folder), config, hashes)
    parts: list[list[Job]] = []
    left_out = list(set_aside)
    for twin, scene, digest in zip(twins, scenes, hashes, strict=True):
        found, refused = tasks_of(scene, config)
        parts.append([Job(0, _named(twin, folder), digest, *each) for each in found])
        left_out += refused
    jobs = [job for part in parts for job in part]
    if config.num_demos < len(jobs):  # not enough for all: the first of every twin come first
        jobs = [job for row in itertools.zip_longest(*parts) for job in row if job is not None]
    jobs = [replace(job, index=i) for i, job in enumerate(jobs)]
    if not jobs:
        raise InstructionError(f"There is nothing to do: {left_out[0].reason if left_out else 'no twin was given.'}")
    shutil.rmtree(demos / "shards", ignore_errors=True)  # of a run that was refused before its first attempt
    run = Run(demos, complete_config(config, len(jobs)), tuple(jobs), tuple(hashes), tuple(left_out))
    save_run(run)
    return run


def has_begun(demos: Path) -> bool:
    """Whether a folder holds any attempt; a run that ended before its first one, say out of reach, has begun nothing."""
    return (demos / "episodes.hdf5").exists() or any((demos / "episodes").glob("*.hdf5"))


Said = tuple[Task, tuple[str, ...]]
"""A task and its wordings."""


def tasks_of(scene: Scene, config: GenerateConfig) -> tuple[list[Said], list[SetAside]]:
    """The tasks of a twin, and what of the instructions does not fit it."""
    from phototwin.plan.planner import choose_planner, make_plan
    from phototwin.plan.query import choose_query

    if not config.instructions:
        try:
            return propose(scene, config), []
        except TwinError as error:
            return [], [SetAside(scene.name, "plan", str(error))]
    planner = choose_planner(config.planner)
    choose_query(config.query)  # one that is unknown or lacks its weights ends the run before it begins
    found: dict[tuple[Step, ...], Said] = {}
    refused: list[SetAside] = []
    for text in config.instructions:
        try:
            task = make_plan(text, scene, planner=planner, query=config.query)
            first, said = found.get(task.steps, (task, ()))
            found[task.steps] = (
                first,
                (*said, text),
            )  # the same in other words is no other task: it would be the same attempts
        except InstructionError as error:
            refused.append(SetAside(f"{scene.name}: {text}", "plan", str(error)))
    return list(found.values()), refused


def propose(scene: Scene, config: GenerateConfig) -> list[Said]:
    """Tasks that make sense on a twin, at most ``config.num_tasks``, each in several wordings.

    Raises:
        InstructionError: Nothing can be done with what there is.
    """
    from phototwin.plan.propose import propose_reached

    proposals = propose_reached(scene, get_robot(config.robot), config.num_tasks, config.seed)
    tasks = {proposal.task.steps: proposal.task for proposal in reversed(proposals)}
    return [(task, _wordings(task, scene, config.seed)) for task in reversed(tasks.values())]


def _wordings(task: Task, scene: Scene, seed: int) -> tuple[str, ...]:
    """The task's text and other ways to say the same."""
    from phototwin.plan.propose_words import phrases, word_task

    rng = np.random.default_rng([seed, WORDS_STREAM])
    names = {item.key: phrases(item, scene) for item in scene.objects}
    others = [word_task(task.steps, scene, names, rng) for _ in range(WORDINGS)]
    return tuple(dict.fromkeys([task.text, *(other.text for other in others if other is not None)]))


def twin_hash(twin: Path) -> str:
    """SHA-256 of the files that define a twin."""
    digest = hashlib.sha256()
    named = json.loads((twin / "scene.json").read_text()).values()  # its pictures; others may lie beside them
    pictures = sorted(file for file in twin.glob("*.png") if file.name in named)
    for file in [twin / "scene.json", *sorted((twin / "meshes").glob("*.npz")), *pictures]:
        digest.update(file.name.encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()


def save_run(run: Run) -> None:
    """Write ``run.json``."""
    value = {
        "config": asdict(run.config),
        "jobs": [asdict(job) for job in run.jobs],
        "twins": run.twins,
        "set_aside": [asdict(item) for item in run.set_aside],
    }
    write_bytes(run.folder / RUN_FILE, (json.dumps(value, indent=1) + "\n").encode())


def load_run(folder: Path) -> Run:
    """The run that was begun in ``folder``.

    Raises:
        InputError: There is none, or its file cannot be read.
    """
    file = folder / "demos" / RUN_FILE
    try:
        value = json.loads(file.read_text())
        known = {f.name: value["config"][f.name] for f in fields(GenerateConfig)}
        settings: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in known.items()}
        config = GenerateConfig(**settings)
        jobs = tuple(_job(job) for job in value["jobs"])
        left_out = tuple(SetAside(**item) for item in value["set_aside"])
        return Run(file.parent, config, jobs, tuple(value["twins"]), left_out)
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise InputError(f"'{file}' is no plan of a run ({error!r}): begin one with --part plan.") from error


def _job(value: dict[str, Any]) -> Job:
    task = value["task"]
    steps = tuple(Step(**step) for step in task["steps"])
    said = tuple(value["wordings"])
    return Job(value["index"], value["twin"], value["twin_sha256"], Task(**task | {"steps": steps}), said)


def _go_on(run: Run, config: GenerateConfig, hashes: list[str]) -> Run:
    """The run that was begun, with the number of demonstrations that is wanted now."""
    asked = complete_config(config, len(run.jobs))
    pairs = {
        name: (getattr(run.config, name), getattr(asked, name))
        for name in asdict(asked)
        if name not in FREE_FIELDS and (name != "num_envs" or config.num_envs)
    }
    pairs["twin"] = (run.twins, tuple(hashes))
    changed = [f"{name} was {before!r}, is {now!r}" for name, (before, now) in pairs.items() if before != now]
    if changed:
        raise InputError(
            f"'{run.folder}' was begun with other settings ({', '.join(changed)}): repeat them, or give another --out."
        )
    run = replace(run, config=replace(run.config, num_demos=config.num_demos))
    save_run(run)
    return run


def _named(twin: Path, folder: Path) -> str:
    twin, folder = twin.resolve(), folder.resolve()
    return os.path.relpath(twin, folder) if twin.is_relative_to(folder) else str(twin)
