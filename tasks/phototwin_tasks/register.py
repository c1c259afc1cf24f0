"""Gym ids, one for every family and robot, and what stands behind them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import gymnasium as gym

from phototwin.plan.task import FAMILIES

if TYPE_CHECKING:
    from isaaclab_rl.rsl_rl import RslRlOnPolicyRunnerCfg

    from phototwin_tasks.twin_env import TwinEnvCfg

TITLES = {"panda": "Panda", "ur10": "UR10", "so101": "SO101", "g1": "G1"}
"""Robots by short name, with what they are called in ids."""


def task_id(family: str, robot: str) -> str:
    """Gym id of a family with a robot that is registered, such as "PhotoTwin-Lift-Panda"."""
    return f"PhotoTwin-{family.capitalize()}-{TITLES[robot]}"


def make_env_cfg(family: str, robot: str) -> TwinEnvCfg:
    """The config of a family with a robot, by short name or "module:Attr", for plans: joint positions and an open-or-close gripper.

    Families differ in what ``skills`` says of theirs, and in nothing else.

    Raises:
        InputError: There is no such robot.
    """
    from phototwin.robots import get_robot
    from phototwin_tasks.twin_env import TwinEnvCfg

    get_robot(robot)
    cfg = TwinEnvCfg()
    cfg.family, cfg.robot = family, robot
    return cfg


def register_tasks() -> None:
    """Register every family with every robot; nothing heavy is imported before a config is asked for."""
    for family in FAMILIES:
        for robot in TITLES:
            gym.register(
                id=task_id(family, robot),
                entry_point="phototwin_tasks.twin_env:TwinEnv",
                disable_env_checker=True,
                kwargs={
                    "env_cfg_entry_point": _env_maker(family, robot),
                    "rsl_rl_cfg_entry_point": _agent_maker(family),
                },
            )


def _env_maker(family: str, robot: str) -> Callable[[], TwinEnvCfg]:
    """The config that ``isaaclab train`` finds; Isaac Lab calls it without arguments and refuses ``functools.partial``."""

    def make() -> TwinEnvCfg:
        from phototwin_tasks.learning import for_learning

        return for_learning(make_env_cfg(family, robot))

    return make


def _agent_maker(family: str) -> Callable[[], RslRlOnPolicyRunnerCfg]:
    """PPO's settings for ``isaaclab train --rl_library rsl_rl``."""

    def make() -> RslRlOnPolicyRunnerCfg:
        from phototwin_tasks.learning import make_agent_cfg

        return make_agent_cfg(family)

    return make
