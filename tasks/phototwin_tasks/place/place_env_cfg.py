"""Config of *place*, for any robot."""

from __future__ import annotations

from isaaclab.managers import RewardTermCfg
from isaaclab.utils import configclass

from phototwin_tasks import mdp
from phototwin_tasks.skills import step_done
from phototwin_tasks.twin_env import TwinEnvCfg


@configclass
class PlaceRewardsCfg:
    """Come near, succeed, do not jerk."""

    reach = RewardTermCfg(func=mdp.tool_to_object, weight=1.0, params={"std_m": 0.1})
    success = RewardTermCfg(func=step_done, weight=20.0)
    action_rate = RewardTermCfg(func=mdp.action_rate_l2, weight=-1e-3)


@configclass
class PlaceEnvCfg(TwinEnvCfg):
    """Put one object of the twin on, in or next to another."""

    family: str = "place"
    rewards: PlaceRewardsCfg = PlaceRewardsCfg()
