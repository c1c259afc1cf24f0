"""Config of *lift*, for any robot."""

from __future__ import annotations

from isaaclab.managers import RewardTermCfg, TerminationTermCfg
from isaaclab.utils import configclass

from phototwin_tasks import mdp
from phototwin_tasks.lift.mdp import lifted
from phototwin_tasks.twin_env import TerminationsCfg, TwinEnvCfg

LIFT_HEIGHT_M = 0.10


@configclass
class LiftRewardsCfg:
    """Come near, lift, do not jerk."""

    reach = RewardTermCfg(func=mdp.tool_to_object, weight=1.0, params={"std_m": 0.1})
    lift = RewardTermCfg(func=mdp.height_above_rest, weight=10.0, params={"height_m": LIFT_HEIGHT_M})
    action_rate = RewardTermCfg(func=mdp.action_rate_l2, weight=-1e-3)


@configclass
class LiftTerminationsCfg(TerminationsCfg):
    """Success: 10 cm above the support, at rest, in the gripper."""

    success = TerminationTermCfg(func=lifted, params={"height_m": LIFT_HEIGHT_M, "speed_m_s": 0.1, "reach_m": 0.06})


@configclass
class LiftEnvCfg(TwinEnvCfg):
    """Pick one object of the twin up."""

    family: str = "lift"
    rewards: LiftRewardsCfg = LiftRewardsCfg()
    terminations: LiftTerminationsCfg = LiftTerminationsCfg()
