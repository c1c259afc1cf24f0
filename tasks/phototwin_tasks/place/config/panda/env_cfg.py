"""Config of *place* with a Franka Panda."""

from __future__ import annotations

from isaaclab.utils import configclass

from phototwin_tasks.actions import JointActionsCfg, joint_actions
from phototwin_tasks.place.place_env_cfg import PlaceEnvCfg


@configclass
class PandaPlaceEnvCfg(PlaceEnvCfg):
    """Joint positions and an open-or-close gripper."""

    robot: str = "panda"
    actions: JointActionsCfg = joint_actions("panda")
