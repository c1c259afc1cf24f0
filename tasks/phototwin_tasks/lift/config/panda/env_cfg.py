"""Config of *lift* with a Franka Panda."""

from __future__ import annotations

from isaaclab.utils import configclass

from phototwin_tasks.actions import JointActionsCfg, joint_actions
from phototwin_tasks.lift.lift_env_cfg import LiftEnvCfg


@configclass
class PandaLiftEnvCfg(LiftEnvCfg):
    """Joint positions and an open-or-close gripper."""

    robot: str = "panda"
    actions: JointActionsCfg = joint_actions("panda")
