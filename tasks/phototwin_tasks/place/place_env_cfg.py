"""Config of *place*, for any robot."""

from __future__ import annotations

from isaaclab.managers import RewardTermCfg, SceneEntityCfg, TerminationTermCfg
from isaaclab.utils import configclass

from phototwin_tasks import mdp
from phototwin_tasks.place.mdp import placed
from phototwin_tasks.twin_env import TerminationsCfg, TwinEnvCfg

FINGERS = SceneEntityCfg("robot", joint_names=[".*finger.*"])


@configclass
class PlaceRewardsCfg:
    """Come near, succeed, do not jerk."""

    reach = RewardTermCfg(func=mdp.tool_to_object, weight=1.0, params={"std_m": 0.1})
    success = RewardTermCfg(func=placed, weight=20.0, params={"speed_m_s": 0.05, "opening": 0.5, "fingers": FINGERS})
    action_rate = RewardTermCfg(func=mdp.action_rate_l2, weight=-1e-3)


@configclass
class PlaceTerminationsCfg(TerminationsCfg):
    """Success: at rest on, in or next to the target, gripper open."""

    success = TerminationTermCfg(func=placed, params={"speed_m_s": 0.05, "opening": 0.5, "fingers": FINGERS})


@configclass
class PlaceEnvCfg(TwinEnvCfg):
    """Put one object of the twin on, in or next to another."""

    family: str = "place"
    rewards: PlaceRewardsCfg = PlaceRewardsCfg()
    terminations: PlaceTerminationsCfg = PlaceTerminationsCfg()
