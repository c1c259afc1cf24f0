"""Config of *lift*, for any robot."""

from __future__ import annotations

from isaaclab.managers import RewardTermCfg
from isaaclab.utils import configclass

from phototwin_tasks import mdp
from phototwin_tasks.lift.mdp import LIFT_HEIGHT_M
from phototwin_tasks.twin_env import TwinEnvCfg


@configclass
class LiftRewardsCfg:
    """Come near, lift, do not jerk."""

    reach = RewardTermCfg(func=mdp.tool_to_object, weight=1.0, params={"std_m": 0.1})
    lift = RewardTermCfg(func=mdp.height_above_rest, weight=10.0, params={"height_m": LIFT_HEIGHT_M})
    action_rate = RewardTermCfg(func=mdp.action_rate_l2, weight=-1e-3)


@configclass
class LiftEnvCfg(TwinEnvCfg):
    """Pick one object of the twin up."""

    family: str = "lift"
    rewards: LiftRewardsCfg = LiftRewardsCfg()
