"""PPO on a twin: train with a budget of environment steps, and judge what was learned without its noise."""

from __future__ import annotations

import contextlib
import io
import resource
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from phototwin_tasks.register import make_env_cfg

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from isaaclab_rl.rsl_rl import RslRlBaseRunnerCfg, RslRlVecEnvWrapper

    from phototwin_tasks.twin_env import TwinEnvCfg

EPISODES = 512
"""Enough to tell 95 % from 92 % (standard error 1 %)."""
CHECKPOINT = "policy.pt"
UNSEEN = 1000
"""Added to the seed for the starts that a policy is judged on."""


@dataclass(frozen=True)
class TrainConfig:
    """What is learned, and for how long.

    Attributes:
        twin: Folder of the twin; empty for the bundled sample.
        family: Family of the task.
        robot: Short name of the robot.
        instruction: What to do; empty for the family's default on this twin.
        physics: Name of the physics preset.
        device: "cpu" or "cuda:0".
        steps: Environment steps.
        looks: How many times the policy is judged on the way, the end included; a look takes as long as 50 000 steps.
        episodes: So many episodes decide a look.
        enough: Success at a look from which training stops.
        num_envs: Environments side by side; 0 for the family's number.
        seed: Of everything that is drawn.
    """

    twin: str = ""
    family: str = "lift"
    robot: str = "panda"
    instruction: str = ""
    physics: str = "ovphysx"
    device: str = "cpu"
    steps: int = 1_000_000
    looks: int = 5
    episodes: int = EPISODES
    enough: float = 1.0
    num_envs: int = 0
    seed: int = 0


@dataclass(frozen=True)
class CurvePoint:
    """One look at a policy: after so many environment steps and seconds of processor time, its deterministic success in 0..1."""

    steps: int
    cpu_s: float
    success: float


def train_policy(
    config: TrainConfig, folder: Path | None = None, on_point: Callable[[CurvePoint], None] = lambda point: None
) -> list[CurvePoint]:
    """Learn a task by PPO; the curve of its deterministic success.

    Args:
        config: What to learn.
        folder: Where ``policy.pt`` goes, in rsl_rl's format, and what it logs for TensorBoard; nowhere where None.
        on_point: Told every point of the curve as it comes.

    Raises:
        TwinError: The task does not fit the twin, or the robot reaches nothing.
    """
    with _open_runner(config, folder) as (env, runner):
        per_iteration = runner.cfg["num_steps_per_env"] * env.num_envs
        iterations = max(1, round(config.steps / per_iteration))
        curve: list[CurvePoint] = []
        cpu_s, done = 0.0, 0
        unseen: dict[str, Any] = {"run_seed": config.seed + UNSEEN, "start_pool": None}
        for look in range(1, config.looks + 1):
            until = round(iterations * look / config.looks)
            start = _cpu_s()
            with contextlib.redirect_stdout(io.StringIO()):
                # After a look all start at once: without other ends for each they would stay in step, every batch one part of the task.
                runner.learn(until - done, init_at_random_ep_len=True)
            cpu_s, done = cpu_s + _cpu_s() - start, until
            with _other_starts(env.unwrapped, unseen):
                success = success_rate(env, runner.get_inference_policy(), config.episodes)
            point = CurvePoint(done * per_iteration, cpu_s, success)
            curve.append(point)
            on_point(point)
            if point.success >= config.enough:
                break
            runner.alg.train_mode()
            env.reset()
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            runner.save(str(folder / CHECKPOINT))
    return curve


def evaluate_policy(config: TrainConfig, checkpoint: Path, episodes: int = EPISODES) -> float:
    """Deterministic success in 0..1 of a checkpoint of ``train_policy`` or ``isaaclab train``, over ``episodes`` starts it was not trained on."""
    with _open_runner(replace(config, seed=config.seed + UNSEEN)) as (env, runner):
        runner.load(str(checkpoint))
        return success_rate(env, runner.get_inference_policy(), episodes)


def success_rate(env: RslRlVecEnvWrapper, policy: Callable[[Any], torch.Tensor], episodes: int) -> float:
    """Share of episodes that reach success before anything else ends them, at least ``episodes`` of them in whole rounds."""
    rounds = -(-episodes // env.num_envs)
    successes = 0
    for _ in range(rounds):
        obs, _ = env.reset()
        ended = torch.zeros(env.num_envs, dtype=torch.bool, device=env.device)
        while not ended.all():
            with torch.inference_mode():
                obs, _, dones, _ = env.step(policy(obs))
            reached = env.unwrapped.termination_manager.get_term("success")
            successes += int((reached & ~ended).sum())
            ended |= dones.bool()
    return successes / (rounds * env.num_envs)


@contextlib.contextmanager
def _other_starts(env: Any, starts: dict[str, Any]) -> Iterator[None]:
    """Inside it attempts start from another seed's pool, which is kept in ``starts`` for the next time."""
    own = {name: getattr(env, name) for name in starts}
    vars(env).update(starts)
    try:
        yield
    finally:
        starts.update({name: getattr(env, name) for name in starts})
        vars(env).update(own)


@contextlib.contextmanager
def _open_runner(config: TrainConfig, log: Path | None = None) -> Iterator[tuple[RslRlVecEnvWrapper, Any]]:
    """The environment that PPO learns in, and its runner."""
    from phototwin_tasks.learning import for_learning, make_agent_cfg

    cfg = for_learning(make_env_cfg(config.family, config.robot))
    cfg.twin, cfg.instruction, cfg.seed, cfg.sim.device = config.twin, config.instruction, config.seed, config.device
    cfg.scene.num_envs = config.num_envs or cfg.scene.num_envs
    with open_runner(cfg, make_agent_cfg(config.family), config.physics, log) as opened:
        yield opened


@contextlib.contextmanager
def open_runner(
    cfg: TwinEnvCfg, agent: RslRlBaseRunnerCfg, physics: str, log: Path | None = None, first: int = 0
) -> Iterator[tuple[RslRlVecEnvWrapper, Any]]:
    """An environment and rsl_rl's runner over it; a process has one simulation at a time.

    Args:
        cfg: Of the environment; seed and device are also the runner's.
        agent: Of the runner.
        physics: Name of the physics preset.
        log: Where it logs; nowhere where None.
        first: Index of the first attempt.
    """
    from isaaclab_rl.rsl_rl import RslRlVecEnvWrapper, create_rsl_rl_runner, handle_deprecated_rsl_rl_cfg
    from isaaclab_tasks.utils import resolve_presets

    from phototwin_tasks.twin_env import TwinEnv

    resolve_presets(cfg, (physics,))
    # It also drops the fields that this version of rsl_rl has no use for.
    agent = handle_deprecated_rsl_rl_cfg(agent, version("rsl-rl-lib"))
    agent.seed, agent.device = cfg.seed, cfg.sim.device
    torch.manual_seed(agent.seed)
    inner = TwinEnv(cfg)
    try:
        inner.attempt += first
        with contextlib.redirect_stdout(io.StringIO()):
            env = RslRlVecEnvWrapper(inner, clip_actions=agent.clip_actions)
            runner = create_rsl_rl_runner(env, agent, None if log is None else str(log))
        yield env, runner
    finally:
        inner.close()


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime
