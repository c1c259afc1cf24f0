"""Gym ids, one for every family and robot, and what stands behind them."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import TYPE_CHECKING

import gymnasium as gym

if TYPE_CHECKING:
    from phototwin_tasks.twin_env import TwinEnvCfg

FAMILIES = ("lift", "place")
"""Each a package ``<family>`` with ``<family>_env_cfg.py`` and in it ``<Family>EnvCfg``."""
TITLES = {"panda": "Panda", "ur10": "UR10", "so101": "SO101"}
"""Robots by short name, with what they are called in ids."""


def task_id(family: str, robot: str) -> str:
    """Gym id of a family with a robot that is registered, such as "PhotoTwin-Lift-Panda"."""
    return f"PhotoTwin-{family.capitalize()}-{TITLES[robot]}"


def make_env_cfg(family: str, robot: str) -> TwinEnvCfg:
    """The config of a family with a robot, by short name or "module:Attr": joint positions and an open-or-close gripper.

    Raises:
        InputError: There is no such robot.
    """
    from phototwin_tasks.actions import joint_actions

    module = importlib.import_module(f"phototwin_tasks.{family}.{family}_env_cfg")
    cfg = getattr(module, f"{family.capitalize()}EnvCfg")()
    cfg.robot, cfg.actions = robot, joint_actions(robot)
    return cfg


def register_tasks() -> None:
    """Register every family with every robot; nothing heavy is imported before a config is asked for."""
    for family in FAMILIES:
        for robot in TITLES:
            gym.register(
                id=task_id(family, robot),
                entry_point="phototwin_tasks.twin_env:TwinEnv",
                disable_env_checker=True,
                kwargs={"env_cfg_entry_point": _maker(family, robot)},
            )


def _maker(family: str, robot: str) -> Callable[[], TwinEnvCfg]:
    """Isaac Lab calls this without arguments; it refuses ``functools.partial``."""
    return lambda: make_env_cfg(family, robot)
