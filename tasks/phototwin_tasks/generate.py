"""Twin -> demonstrations: batches of attempts until enough of them succeeded, then the datasets."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import math
import os
from collections import Counter
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from phototwin.data.lerobot import LerobotProcess
from phototwin.data.store import Attempt, EpisodeStore
from phototwin.errors import InputError, OutputError, PlanError
from phototwin.output import disk_errors
from phototwin.plan.instruction import default_instruction, parse_instruction
from phototwin.plan.task import Task
from phototwin.progress import StageTimer
from phototwin.robots import get_robot
from phototwin.scene import load_scene
from phototwin_tasks.machine import check_machine

if TYPE_CHECKING:
    from phototwin_tasks.looks import Looks
    from phototwin_tasks.twin_env import TwinEnv

OWN_RENDERER, TRACER = "warp_raster", "path_traced"
"""Renderers that draw from poses alone and need no camera in the environment."""
PHYSICS = ("ovphysx", "newton_mjwarp", "isaacsim_physx")
RENDERERS = (OWN_RENDERER, TRACER, "newton_warp", "ovrtx", "isaacsim_rtx")
LEAST_SIDE_PX, MOST_SIDE_PX = 32, 4096
MOST_JITTER = (0.10, 10.0, 0.1)
"""Limits of camera randomisation: along and about each axis [m, deg], zoom."""
SPARE = 1.2
"""Attempts of the first batch for every demonstration wanted."""
MOST_ENVS = 16
"""More environments than this in a process only cost memory: rendering is what takes the time."""
MOST_ATTEMPTS_PER_DEMO = 5
"""Below a yield of one in five something is wrong with the scene; more attempts will not mend it."""


@dataclass(frozen=True)
class GenerateConfig:
    """What decides the demonstrations, besides the twin.

    Attributes:
        instruction: What to do; empty for a task that fits the twin.
        robot: Short name of the robot.
        num_demos: How many successful episodes to store.
        num_envs: Environments side by side; 0 chooses.
        seed: Seed of the run.
        resolution: Width and height of the frames [px].
        physics: Name of the physics preset.
        renderer: Name of the renderer preset.
        device: "cpu" or "cuda:0".
        camera_jitter: How far the camera of each attempt but the first is moved: along each axis [m], about each axis [deg], zoom [share].
        keep_raw: Store what was rendered beside what became of it.
    """

    instruction: str = ""
    robot: str = "panda"
    num_demos: int = 10
    num_envs: int = 0
    seed: int = 0
    resolution: tuple[int, int] = (224, 224)
    physics: str = "ovphysx"
    renderer: str = OWN_RENDERER
    device: str = "cpu"
    camera_jitter: tuple[float, float, float] = (0.0, 0.0, 0.0)
    keep_raw: bool = False


@dataclass(frozen=True)
class Generated:
    """What a run made.

    Attributes:
        instruction: What the robot was told.
        attempts: How each attempt ended, in order.
        num_demos: Demonstrations in the dataset.
        demos: Folder of the datasets.
        notes: What was used.
    """

    instruction: str
    attempts: tuple[Attempt, ...]
    num_demos: int
    demos: Path
    notes: dict[str, str]


def generate_demos(twin: Path, folder: Path, config: GenerateConfig, resume: bool, timer: StageTimer) -> Generated:
    """Fill ``folder/demos`` with ``config.num_demos`` successful episodes of the twin.

    Args:
        twin: Folder of the twin.
        folder: Folder of the run; already claimed by the caller.
        config: What to make.
        resume: Go on with what an earlier run of the same config left.
        timer: Told progress, keeps seconds per stage.

    Raises:
        InputError: The config differs from the one that the folder was begun with, or is not possible.
        OutputError: The folder holds demonstrations already, or the disk refuses.
        PlanError: The task cannot be done on this twin.
    """
    config = complete_config(config)
    demos = folder / "demos"
    task = _task(twin, config)
    with disk_errors(folder), contextlib.ExitStack() as stack:
        _check_run(demos, twin, config, resume)
        store = EpisodeStore(demos)
        store.unpack()
        # LeRobot takes long to import and to encode: it works beside the simulator, fed with files as they come.
        dataset = LerobotProcess(demos / "lerobot")
        try:
            with timer.stage("start the simulator"):
                env, looks = _make_env(twin, task, config)
            stack.callback(env.close)  # a process has one simulation at a time
            notes = _notes(env, config)
            _run_batches(env, looks, store, dataset, config, twin, timer)
            with timer.stage("write the datasets"):
                dataset.finish()
                store.finish(config.num_demos)
        except BaseException:
            dataset.discard()
            raise
    return Generated(task.text, store.attempts(), config.num_demos, demos, notes)


def twin_hash(twin: Path) -> str:
    """SHA-256 of the files that define a twin."""
    digest = hashlib.sha256()
    for file in [twin / "scene.json", *sorted((twin / "meshes").glob("*.npz")), *sorted(twin.glob("*.png"))]:
        digest.update(file.name.encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()


def complete_config(config: GenerateConfig) -> GenerateConfig:
    """The config with nothing left open.

    Raises:
        InputError: A name is unknown or a number impossible; the message names the choices.
    """
    get_robot(config.robot)
    for value, choices, what in ((config.physics, PHYSICS, "physics"), (config.renderer, RENDERERS, "renderer")):
        if value not in choices:
            raise InputError(f"Unknown {what} '{value}'. Choose one of {', '.join(choices)}.")
    if config.num_demos < 1 or config.num_envs < 0:
        raise InputError(
            f"--num-demos is {config.num_demos} and --num-envs {config.num_envs}: "
            "at least one demonstration, and 0 or more environments (0 chooses)."
        )
    if min(config.resolution) < LEAST_SIDE_PX or max(config.resolution) > MOST_SIDE_PX:
        raise InputError(
            f"--resolution is {config.resolution}; each side must be between {LEAST_SIDE_PX} and {MOST_SIDE_PX}."
        )
    _check_jitter(config)
    check_machine(config.physics, config.renderer, config.device)
    return replace(config, num_envs=config.num_envs or min(MOST_ENVS, math.ceil(config.num_demos * SPARE)))


def _check_jitter(config: GenerateConfig) -> None:
    jitter = config.camera_jitter
    if min(jitter) < 0 or any(value > most for value, most in zip(jitter, MOST_JITTER, strict=True)):
        raise InputError(
            f"--camera-jitter is {jitter}: metres, degrees and a share of the focal length, from 0 to {MOST_JITTER}; "
            "further away too much would have to be made up."
        )
    if any(jitter) and config.renderer not in (OWN_RENDERER, TRACER):
        raise InputError(
            f"--camera-jitter moves the camera of each attempt, which the renderer {config.renderer} cannot: use {OWN_RENDERER}."
        )


def _task(twin: Path, config: GenerateConfig) -> Task:
    objects = load_scene(twin).objects
    return parse_instruction(config.instruction or default_instruction(objects), objects)


def _check_run(demos: Path, twin: Path, config: GenerateConfig, resume: bool) -> None:
    """Refuse to mix runs: one folder holds one config; only the number of demonstrations may grow."""
    file = demos / "run.json"
    value = json.loads(json.dumps(asdict(config) | {"twin": twin_hash(twin)}))
    # A run that ended before its first attempt, say out of reach, has begun nothing.
    begun = (demos / "episodes.hdf5").exists() or any((demos / "episodes").glob("*.hdf5"))
    if begun and not resume:
        raise OutputError(
            f"'{demos}' holds demonstrations already: add --resume to go on with them, or give another --out."
        )
    if begun and file.exists():
        before = json.loads(file.read_text())
        changed = [key for key in value if key != "num_demos" and before.get(key) != value[key]]
        if changed:
            detail = ", ".join(f"{key} was {before.get(key)!r}, is {value[key]!r}" for key in changed)
            raise InputError(f"'{demos}' was begun with other settings ({detail}): repeat them, or give another --out.")
    demos.mkdir(parents=True, exist_ok=True)
    partial = file.with_suffix(".partial")
    partial.write_text(json.dumps(value, indent=1) + "\n")
    os.replace(partial, file)


def _make_env(twin: Path, task: Task, config: GenerateConfig) -> tuple[TwinEnv, Looks]:
    """The environment of the instruction's family, and what makes its frames."""
    from isaaclab_tasks.utils import resolve_presets

    from phototwin_tasks.looks import CameraJitter, make_looks
    from phototwin_tasks.register import make_env_cfg
    from phototwin_tasks.twin_env import TwinEnv

    cfg = make_env_cfg(task.family, config.robot)
    # An episode ends when its plan does: nothing may reset an environment in between.
    cfg.terminations.success = cfg.terminations.object_fell = cfg.terminations.time_out = None
    cfg.twin, cfg.instruction, cfg.seed = str(twin), task.text, config.seed
    cfg.resolution, cfg.with_camera = config.resolution, config.renderer not in (OWN_RENDERER, TRACER)
    cfg.scene.num_envs, cfg.sim.device = config.num_envs, config.device
    resolve_presets(cfg, (config.physics, config.renderer))
    env = TwinEnv(cast("Any", cfg))
    looks = make_looks(env, config.renderer, CameraJitter(*config.camera_jitter), config.keep_raw)
    return env, looks


def _run_batches(
    env: TwinEnv,
    looks: Looks,
    store: EpisodeStore,
    dataset: LerobotProcess,
    config: GenerateConfig,
    twin: Path,
    timer: StageTimer,
) -> None:
    """Batches of ``num_envs`` attempts, whole ones only, so that an attempt's companions are the same in every run."""
    from phototwin_tasks.rollout import rollout

    provenance = {"twin": twin_hash(twin), "versions": versions()} | asdict(config)
    done = {a.index: (a.success, a.failure) for a in store.attempts()}
    demos = 0
    with timer.stage("roll out"):
        for first in itertools.count(0, config.num_envs):
            batch = range(first, first + config.num_envs)
            if not all(index in done for index in batch):
                _give_up_if_hopeless(done, config, env.task.text)

                def on_step(share: float, demos: int = demos) -> None:
                    timer("roll out", min((demos + share * config.num_envs / SPARE) / config.num_demos, 0.999))

                for episode in rollout(env, list(batch), looks, on_step, provenance):
                    store.write(episode)
                    done[episode.attempt] = (episode.success, episode.failure)
                store.link()
            for index in batch:
                if done[index][0] and demos < config.num_demos:
                    dataset.add(store.path(index))
                    demos += 1
            if demos == config.num_demos:
                return


def _give_up_if_hopeless(done: dict[int, tuple[bool, str]], config: GenerateConfig, instruction: str) -> None:
    successes = sum(ok for ok, _ in done.values())
    if not done or (
        len(done) < config.num_demos * MOST_ATTEMPTS_PER_DEMO and (successes or len(done) < 2 * config.num_envs)
    ):
        return
    why, count = Counter(failure for ok, failure in done.values() if not ok).most_common(1)[0]
    raise PlanError(
        f"'{instruction}' succeeded in {successes} of {len(done)} attempts, too few to go on; "
        f"the most frequent failure ({count} times) was: {why}. Try another object, robot or instruction."
    )


def _notes(env: TwinEnv, config: GenerateConfig) -> dict[str, str]:
    """What was used, for the report."""
    x, y = env.T_world_base[:2, 3]
    yaw = math.degrees(math.atan2(env.T_world_base[1, 0], env.T_world_base[0, 0]))
    grasps = env.cell.grasps
    notes = {
        "robot": f"{config.robot}, base on the support at x = {x:.3f} m, y = {y:.3f} m, turned by {yaw:.0f} deg",
        "physics": f"{config.physics} on {config.device}",
        "renderer": config.renderer,
        "grasps": ", ".join(
            f"{len(g.score)} free grasps of the {env.twin.object(key).name}" for key, g in grasps.items()
        ),
    }
    if config.physics == "ovphysx":
        notes["licence"] = "ovphysx and ovstage are closed source under NVIDIA's licences; newton_mjwarp is open"
    if env.task.note:
        notes["instruction"] = env.task.note
    if env.crop.note:
        notes["frames"] = env.crop.note
    return notes


def versions() -> dict[str, str]:
    """Versions of the packages that decide an episode."""
    from importlib.metadata import version

    names = ("phototwin", "isaaclab", "ovphysx", "newton", "warp-lang", "torch", "numpy", "pin")
    return {name: version(name) for name in names}
