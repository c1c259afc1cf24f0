"""What decides the demonstrations of a run, and what only decides who makes them."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, replace

from phototwin.errors import InputError
from phototwin.plan.noise import check_noise
from phototwin.plan.randomize import PRESETS, Randomization, load_randomization
from phototwin.robots import get_robot
from phototwin_tasks.machine import check_machine

OWN_RENDERER, TRACER, PASTED, PLAIN = "warp_raster", "path_traced", "pasted", "plain"
POSED = (OWN_RENDERER, TRACER, PASTED, PLAIN)
"""Renderers that draw from poses alone and need no camera in the environment. The last two show what others train on, to compare with."""
PHYSICS = ("ovphysx", "newton_mjwarp", "isaacsim_physx")
RENDERERS = (*POSED, "newton_warp", "ovrtx", "isaacsim_rtx")
LEAST_SIDE_PX, MOST_SIDE_PX = 32, 4096
MOST_JITTER = (0.10, 10.0, 0.1)
"""Limits of camera randomisation: along and about each axis [m, deg], zoom."""
FPS = (10, 12, 15, 20, 24, 30, 40, 60)
"""Control and frame rates [Hz]: whole numbers of physics steps of 1/120 s each."""
MOST_VARIETY = 10.0
SPARE = 1.2
"""Attempts of the first batch for every demonstration wanted."""
MOST_ENVS = 16
"""More environments than this in a process only cost memory: rendering is what takes the time."""


@dataclass(frozen=True)
class GenerateConfig:
    """What decides the demonstrations, besides the twins.

    Attributes:
        instructions: What to do on each twin; empty for tasks that make sense on it.
        planner: What reads instructions: "grammar", "vlm", "endpoint" ..., see ``phototwin.plan.planner``.
        query: What finds the parts of things that instructions name: "words", "clip" ..., see ``phototwin.plan.query``.
        robot: Short name of the robot.
        num_demos: How many successful episodes to store, shared among the tasks.
        num_tasks: At most so many tasks are proposed for a twin where no instruction is given.
        num_envs: Environments side by side, the attempts of one shard; 0 chooses.
        seed: Seed of the run.
        fps: Control and frame rate [Hz], one of ``FPS``.
        resolution: Width and height of the frames [px].
        physics: Name of the physics preset.
        renderer: Name of the renderer preset.
        device: "cpu" or "cuda:0".
        randomize: Ranges of what attempts vary: a preset ("none", "default", "wide") or a JSON file, see ``load_randomization``.
        base: Where the robot stands, "x y z yaw" or a JSON file (docs/robots.md); empty finds a place.
        camera_jitter: Instead of its ranges for the camera: how far it is moved along each axis [m], about each axis [deg], zoom [share].
        grasp_variety: How much attempts differ in which of the good grasps they take: 1 as usual, 0 always the best, which is easier to learn from.
        noise_m: Root mean square distance by which the tool is made to wander off its path [m]; what is recorded as action is what should be done there.
        keep_raw: Store what was rendered beside what became of it.
    """

    instructions: tuple[str, ...] = ()
    planner: str = "grammar"
    query: str = "words"
    robot: str = "panda"
    num_demos: int = 10
    num_tasks: int = 3
    num_envs: int = 0
    seed: int = 0
    fps: int = 15
    resolution: tuple[int, int] = (224, 224)
    physics: str = "ovphysx"
    renderer: str = OWN_RENDERER
    device: str = "cpu"
    randomize: str = "default"
    base: str = ""
    camera_jitter: tuple[float, float, float] = (0.0, 0.0, 0.0)
    grasp_variety: float = 1.0
    noise_m: float = 0.0
    keep_raw: bool = False


@dataclass(frozen=True)
class Crew:
    """Who works on a run; it changes how long the run takes and nothing of what it makes.

    Attributes:
        workers: Processes with a simulator each; 1 works in this process, 0 chooses.
        ray: Address of a Ray cluster ("auto" for the one this machine is part of), or empty.
        part: What of the run to do: "all"; or "plan", "work" (together with others, in a shared folder) and "merge".
    """

    workers: int = 0
    ray: str = ""
    part: str = "all"


PARTS = ("all", "plan", "work", "merge")


def complete_config(config: GenerateConfig, tasks: int = 1) -> GenerateConfig:
    """The config of a run with so many tasks, with nothing left open.

    Raises:
        InputError: A name is unknown or a number impossible; the message names the choices.
    """
    get_robot(config.robot)
    for value, choices, what in (
        (config.physics, PHYSICS, "physics"),
        (config.renderer, RENDERERS, "renderer"),
        (config.fps, FPS, "frame rate"),
    ):
        if value not in choices:
            raise InputError(f"Unknown {what} '{value}'. Choose one of {', '.join(map(str, choices))}.")
    if config.num_demos < 1 or config.num_envs < 0 or config.num_tasks < 1:
        raise InputError(
            f"--num-demos is {config.num_demos}, --num-envs {config.num_envs} and --num-tasks {config.num_tasks}: "
            "at least one demonstration and one task, and 0 or more environments (0 chooses)."
        )
    if min(config.resolution) < LEAST_SIDE_PX or max(config.resolution) > MOST_SIDE_PX:
        raise InputError(
            f"--resolution is {config.resolution}; each side must be between {LEAST_SIDE_PX} and {MOST_SIDE_PX}."
        )
    _check_jitter(config)
    check_noise(config.noise_m)
    if not 0 <= config.grasp_variety <= MOST_VARIETY:
        raise InputError(f"--grasp-variety is {config.grasp_variety}, expected 0 (the best grasp) to {MOST_VARIETY:g}.")
    if config.randomize not in PRESETS:  # what a file says now is what the run is made of
        config = replace(config, randomize=json.dumps(asdict(randomization(config)), sort_keys=True))
    if config.base:  # likewise
        from phototwin.plan.base import fixed_base

        config = replace(config, base=fixed_base(config.base))
    check_machine(config.physics, config.renderer, config.device)
    each = math.ceil(config.num_demos / max(tasks, 1))
    return replace(config, num_envs=config.num_envs or min(MOST_ENVS, math.ceil(each * SPARE)))


def check_crew(crew: Crew) -> None:
    """Refuse what cannot be meant.

    Raises:
        InputError: Unknown part, or options that exclude each other.
    """
    if crew.part not in PARTS:
        raise InputError(f"Unknown part '{crew.part}' of a run. Choose one of {', '.join(PARTS)}.")
    if crew.workers < 0:
        raise InputError(f"--workers is {crew.workers}, expected 0 (chooses) or more processes.")
    if crew.ray and crew.part == "work":
        raise InputError("--part work shares a run through its folder, --ray through a cluster: use one of the two.")


def _check_jitter(config: GenerateConfig) -> None:
    jitter = config.camera_jitter
    if min(jitter) < 0 or any(value > most for value, most in zip(jitter, MOST_JITTER, strict=True)):
        raise InputError(
            f"--camera-jitter is {jitter}: metres, degrees and a share of the focal length, from 0 to {MOST_JITTER}; "
            "further away too much would have to be made up."
        )
    if any(jitter) and config.renderer not in POSED:
        raise InputError(
            f"--camera-jitter moves the camera of each attempt, which the renderer {config.renderer} cannot: use {OWN_RENDERER}."
        )


def randomization(config: GenerateConfig) -> Randomization:
    """The ranges of what attempts vary.

    Raises:
        InputError: There is no such preset or file, or a number in it is impossible.
    """
    given = config.randomize
    ranges = load_randomization(json.loads(given) if given.startswith("{") else given)
    if any(config.camera_jitter):
        shift_m, turn_deg, zoom = config.camera_jitter
        ranges = replace(ranges, camera_shift_m=shift_m, camera_turn_deg=turn_deg, camera_zoom=zoom)
    return ranges


def versions() -> dict[str, str]:
    """Versions of the packages that decide an episode."""
    from importlib.metadata import version

    names = ("phototwin", "isaaclab", "ovphysx", "newton", "warp-lang", "torch", "numpy", "pin")
    return {name: version(name) for name in names}
