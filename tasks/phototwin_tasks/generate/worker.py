"""Shard -> episodes: a worker keeps one simulator open for the job it works on."""

from __future__ import annotations

import contextlib
import json
import math
import socket
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from phototwin.data.store import Attempt, EpisodeStore
from phototwin.episode import Episode
from phototwin.errors import PlanError
from phototwin.resolve import resolve
from phototwin_tasks.generate.config import POSED, GenerateConfig, randomization, versions
from phototwin_tasks.generate.jobs import Job
from phototwin_tasks.generate.ledger import ShardResult, file_sha256
from phototwin_tasks.generate.schedule import Shard

if TYPE_CHECKING:
    from phototwin_tasks.looks import Looks
    from phototwin_tasks.twin_env import TwinEnv

VARIANTS = "variants"
"""Folder of a run with the twins that are derived from its own, see ``phototwin_tasks.variants``."""
SIMULATOR = "phototwin_tasks.generate.worker:Simulator"
"""What makes episodes in a real run; tests name something quicker."""


@dataclass(frozen=True)
class Order:
    """A shard to be made.

    Attributes:
        shard: Which.
        job: Its job.
        twin: Folder of its twin.
        folder: ``demos`` of the run: where the attempts go.
    """

    shard: Shard
    job: Job
    twin: Path
    folder: Path


class Maker(Protocol):
    """What makes the episodes of a shard."""

    def open(self, order: Order) -> object:
        """Get ready for the job of an order."""
        ...

    def make(self, order: Order, on_step: Callable[[float], None]) -> list[Episode]:
        """The episodes of the shard's attempts, in order."""
        ...

    def notes(self) -> dict[str, str]:
        """What was used, for the report."""
        ...

    def close(self) -> None:
        """Let go of the simulator."""
        ...


class Worker:
    """Makes shards and stores them, one after another.

    Args:
        config: Of the run.
        threads: Threads for drawing.
        maker: "module:Attr" of what makes episodes, called with ``config`` and ``threads``.
    """

    def __init__(self, config: GenerateConfig, threads: int, maker: str = SIMULATOR) -> None:
        self._start_cpu_s = time.process_time()
        self._maker: Maker = resolve(maker, {}, "maker of episodes")(config, threads)

    def perform(self, order: Order, on_step: Callable[[float], None] = lambda share: None) -> ShardResult:
        """Make a shard; its attempts are on the disk when this returns.

        Raises:
            TwinError: The job cannot be done, or the disk refuses.
        """
        before_cpu = time.process_time()
        self._maker.open(order)
        self._start_cpu_s += time.process_time() - before_cpu
        begun, began_cpu = time.perf_counter(), time.process_time()
        episodes = self._maker.make(order, on_step)
        store, attempts, files = EpisodeStore(order.folder), [], []
        for episode in episodes:
            said = order.job.wordings[episode.attempt % len(order.job.wordings)]
            file = store.write(replace(episode, task_index=order.job.index, instruction=said))
            attempts.append(_attempt(order, episode))
            files.append(file_sha256(file))
        cpu, wall = time.process_time() - began_cpu, time.perf_counter() - begun
        result = ShardResult(
            order.shard, tuple(attempts), tuple(files), cpu, wall, self._start_cpu_s, socket.gethostname()
        )
        self._start_cpu_s = 0.0
        return result

    def notes(self) -> dict[str, str]:
        """What was used, for the report."""
        return self._maker.notes()

    def close(self) -> None:
        """Let go of the simulator."""
        self._maker.close()


def _attempt(order: Order, episode: Episode) -> Attempt:
    from phototwin.data.hdf5 import state_sha256

    digest, steps = state_sha256(episode), len(episode.action)
    return Attempt(episode.attempt, episode.success, episode.failure, steps, digest, order.job.index)


class Simulator:
    """Rolls shards out in Isaac Lab, with the environment of the job that came last.

    Args:
        config: Of the run.
        threads: Threads for drawing.
        control: What actions are, as in ``TwinEnvCfg``; plans are joint positions.
    """

    def __init__(self, config: GenerateConfig, threads: int, control: str = "joint") -> None:
        self._config, self._threads, self._control = config, threads, control
        self._opened: tuple[tuple[int, int], TwinEnv, Looks] | None = None
        self._variant = 0
        self._notes: dict[str, str] = {}
        self._bases: dict[int, str] = {}

    def open(self, order: Order) -> tuple[TwinEnv, Looks]:
        """The environment of the order's job and its looks, opened where they are not open already."""
        from phototwin_tasks.variants import shard_variant

        ranges, variants = randomization(self._config), order.folder.parent / VARIANTS
        sha256, seed, shard = order.job.twin_sha256, self._config.seed, order.shard.index
        number, twin = shard_variant(order.twin, sha256, ranges, seed, shard, variants)
        if self._opened is None or self._opened[0] != (order.job.index, number):
            self.close()
            self._variant = number
            # A robot does not walk about while things are put beside it: it stands where the twin itself has a place for it.
            base = self._config.base or ("" if number == 0 else self._base(order))
            try:
                env, looks = make_env(twin, order.job, replace(self._config, base=base), self._threads, self._control)
            except PlanError as error:
                if number == 0:
                    raise
                # A relative too wide for the gripper, or things in the way: the shard is made in the twin itself.
                self._notes[f"variant {number}, {order.job.task.text}"] = f"not used: {error}"
                self._variant = 0
                env, looks = make_env(order.twin, order.job, self._config, self._threads, self._control)
            self._opened = ((order.job.index, number), env, looks)
            self._notes |= job_notes(env, self._config, order.job)
        return self._opened[1:]

    def _base(self, order: Order) -> str:
        """Where the robot stands in the order's twin, as ``load_base`` reads it."""
        if order.job.index not in self._bases:
            from phototwin.plan.base import place_base
            from phototwin.plan.ik import load_arm
            from phototwin.robots import get_robot
            from phototwin.scene import load_scene

            robot = get_robot(self._config.robot)
            T_world_base = place_base(load_scene(order.twin), order.job.task, robot, load_arm(robot), 0)
            yaw_deg = math.degrees(math.atan2(T_world_base[1, 0], T_world_base[0, 0]))
            self._bases[order.job.index] = " ".join(repr(float(x)) for x in (*T_world_base[:3, 3], yaw_deg))
        return self._bases[order.job.index]

    @property
    def variant(self) -> int:
        """Number of the twin's variant that is open; 0 is the twin itself."""
        return self._variant

    def make(self, order: Order, on_step: Callable[[float], None]) -> list[Episode]:
        """The episodes of a shard."""
        from phototwin_tasks.rollout import rollout

        env, looks = self.open(order)
        provenance: dict[str, Any] = {"twin": order.job.twin_sha256, "versions": versions()} | asdict(self._config)
        provenance |= {"num_envs": order.shard.size, "variant": self._variant}
        return rollout(env, list(order.shard.attempts), looks, on_step, provenance, self._config.noise_m)

    def notes(self) -> dict[str, str]:
        """What was used."""
        return self._notes

    def close(self) -> None:
        """Close the environment: a process has one simulation at a time."""
        if self._opened is not None:
            self._opened[1].close()
            self._opened = None


def make_env(
    twin: Path, job: Job, config: GenerateConfig, threads: int | None = None, control: str = "joint"
) -> tuple[TwinEnv, Looks]:
    """The environment of a job in which actions are ``control``, and what makes its frames with so many threads.

    Raises:
        TwinError: The task cannot be done on this twin by this robot.
    """
    from phototwin_tasks.looks import make_looks

    env = open_env(twin, job, config, control)
    with contextlib.ExitStack() as stack:
        stack.callback(env.close)
        looks = make_looks(env, config.renderer, config.keep_raw, threads)
        stack.pop_all()
    return env, looks


def open_env(twin: Path, job: Job, config: GenerateConfig, control: str = "joint") -> TwinEnv:
    """The environment of a job in which actions are ``control``.

    Raises:
        TwinError: The task cannot be done on this twin by this robot.
    """
    from isaaclab_tasks.utils import resolve_presets

    from phototwin_tasks.register import make_env_cfg
    from phototwin_tasks.twin_env import PHYSICS_HZ, TwinEnv

    cfg = make_env_cfg(job.task.family, config.robot)
    # An episode ends when its plan does: nothing may reset an environment in between.
    cfg.terminations.success = cfg.terminations.object_fell = cfg.terminations.time_out = None
    cfg.twin, cfg.instruction, cfg.seed, cfg.control = str(twin), job.task.text, config.seed, control
    cfg.steps = json.dumps([asdict(step) for step in job.task.steps])
    cfg.base = config.base
    cfg.grasp_variety = config.grasp_variety
    cfg.query = config.query
    cfg.randomize = asdict(randomization(config))
    cfg.resolution, cfg.with_camera = config.resolution, config.renderer not in POSED
    cfg.scene.num_envs, cfg.sim.device = config.num_envs, config.device
    cfg.decimation = cfg.sim.render_interval = PHYSICS_HZ // config.fps
    resolve_presets(cfg, (config.physics, config.renderer))
    return TwinEnv(cast("Any", cfg))


def job_notes(env: TwinEnv, config: GenerateConfig, job: Job) -> dict[str, str]:
    """What was used for a job, for the report."""
    x, y, z = env.T_world_base[:3, 3]
    yaw = math.degrees(math.atan2(env.T_world_base[1, 0], env.T_world_base[0, 0]))
    grasps = env.cell.grasps
    place = f"{config.robot}, base at x = {x:.3f} m, y = {y:.3f} m, z = {z:.3f} m, turned by {yaw:.0f} deg"
    found = ", ".join(f"{len(g.score)} free grasps of the {env.twin.object(key).name}" for key, g in grasps.items())
    notes = {f"robot, {job.task.text}": place} | ({f"grasps, {job.task.text}": found} if found else {})
    notes |= {"physics": f"{config.physics} on {config.device}", "renderer": config.renderer}
    if config.physics == "ovphysx":
        notes["licence"] = "ovphysx and ovstage are closed source under NVIDIA's licences; newton_mjwarp is open"
    if job.task.note:
        notes[f"instruction, {job.task.text}"] = job.task.note
    if env.crop.note:
        notes["frames"] = env.crop.note
    return notes
