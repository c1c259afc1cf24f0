"""What a policy learns from: what it is shown, rewards, ends of episodes, and the settings of PPO and of distillation."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from isaaclab.envs.mdp import action_rate_l2, last_action, time_out
from isaaclab.managers import ObservationGroupCfg, ObservationTermCfg, RewardTermCfg, TerminationTermCfg
from isaaclab.utils import configclass
from isaaclab_rl.rsl_rl import (
    RslRlCNNModelCfg,
    RslRlDistillationAlgorithmCfg,
    RslRlDistillationRunnerCfg,
    RslRlMLPModelCfg,
    RslRlOnPolicyRunnerCfg,
    RslRlPpoAlgorithmCfg,
)

from phototwin_tasks.generate.config import OWN_RENDERER
from phototwin_tasks.mdp import rewards, shown
from phototwin_tasks.mdp.frames import BlendedFrames, proprioception
from phototwin_tasks.mdp.terminations import knocked_over, object_fell
from phototwin_tasks.skills import task_done

if TYPE_CHECKING:
    from phototwin_tasks.twin_env import TwinEnvCfg

NUM_ENVS = 512
STEPS_PER_ITERATION = 16
ITERATIONS = 122
"""A million steps."""
STUDENT_STEPS = 64
"""As long as two or three episodes: rsl_rl keeps nothing of the iterations before, and a student forgets what a few steps do not show."""
STUDENT_STD = 0.1
"""Of the noise on a student's actions while it learns, which are in -1..1."""
POOL = 512
"""Starts of attempts that are drawn once: a reset only picks one."""


@configclass
class LearningObservationsCfg:
    """State, flat, as offsets between what is to come together, scaled to numbers of the order of one."""

    @configclass
    class PolicyCfg(ObservationGroupCfg):
        """What a state policy sees."""

        tool = ObservationTermCfg(func=shown.tool_state)
        gripper = ObservationTermCfg(func=shown.gripper_state)
        grasp = ObservationTermCfg(func=shown.way_and_grasp)
        item = ObservationTermCfg(func=shown.object_state)
        goal = ObservationTermCfg(func=shown.goal_state)
        clutter = ObservationTermCfg(func=shown.object_offsets)
        progress = ObservationTermCfg(func=shown.progress_flags)
        actions = ObservationTermCfg(func=last_action)

    policy: PolicyCfg = PolicyCfg()


@configclass
class DistillationObservationsCfg(LearningObservationsCfg):
    """Beside the expert's state what the student is shown: nothing that a real robot with the photo's camera would not know."""

    @configclass
    class BodyCfg(ObservationGroupCfg):
        """Of the robot itself."""

        body = ObservationTermCfg(func=proprioception)

    @configclass
    class CameraCfg(ObservationGroupCfg):
        """The photo's camera."""

        frames = ObservationTermCfg(func=BlendedFrames, params={"renderer": OWN_RENDERER})  # pyright: ignore[reportArgumentType]

    body: BodyCfg = BodyCfg()
    camera: CameraCfg = CameraCfg()


@configclass
class LearningRewardsCfg:
    """Come to where the object is taken, take it, do the task; do not jerk."""

    reach = RewardTermCfg(func=rewards.tool_on_way, weight=1.0, params={"std_m": 0.3})
    reach_fine = RewardTermCfg(func=rewards.tool_near, weight=2.0, params={"std_m": 0.03})
    turn = RewardTermCfg(func=rewards.tool_turned, weight=0.5, params={"std_rad": 0.5})
    ready = RewardTermCfg(func=rewards.fingers_ready, weight=0.5)
    take = RewardTermCfg(func=rewards.object_taken, weight=2.0)
    share = RewardTermCfg(func=rewards.share_done, weight=20.0)
    done = RewardTermCfg(func=rewards.step_done, weight=100.0)
    action_rate = RewardTermCfg(func=action_rate_l2, weight=-5e-3)


@configclass
class LearningTerminationsCfg:
    """An episode that has reached its end is cut short without loss: a truncation, what would follow still counts."""

    success = TerminationTermCfg(func=task_done, time_out=True)
    time_out = TerminationTermCfg(func=time_out, time_out=True)
    object_fell = TerminationTermCfg(func=object_fell)
    knocked_over = TerminationTermCfg(func=knocked_over)


def for_learning(cfg: TwinEnvCfg) -> TwinEnvCfg:
    """``cfg``, changed to one that policies learn in."""
    cfg.control, cfg.episode_length_s = "tool", 0.0
    cfg.observations, cfg.rewards = LearningObservationsCfg(), LearningRewardsCfg()
    cfg.terminations = LearningTerminationsCfg()
    cfg.scene.num_envs, cfg.randomize_pool = NUM_ENVS, POOL
    return cfg


def for_distilling(cfg: TwinEnvCfg, image_px: int) -> TwinEnvCfg:
    """``cfg``, changed to one in which a student sees frames of ``image_px`` and an expert tells what it would do."""
    for_learning(cfg)
    cfg.observations, cfg.resolution = DistillationObservationsCfg(), (image_px, image_px)
    return cfg


def make_distillation_cfg(family: str) -> RslRlDistillationRunnerCfg:
    """Distillation for a family, as rsl_rl wants it: the student drives, the expert says what it would have done.

    A batch is one control step of all environments; ``gradient_length`` of them make a step of the optimiser.
    """
    expert = make_agent_cfg(family)
    cfg = RslRlDistillationRunnerCfg(
        num_steps_per_env=STUDENT_STEPS,
        save_interval=5,
        experiment_name=f"phototwin_{family}_student",
        obs_groups={"student": ["body", "camera"], "teacher": ["policy"]},
        clip_actions=expert.clip_actions,
        student=RslRlCNNModelCfg(
            hidden_dims=[256, 128],
            activation="elu",
            obs_normalization=False,
            # What it does beside what it means brings it to where it has not been; rsl_rl neither learns it nor takes a student without.
            distribution_cfg=RslRlCNNModelCfg.GaussianDistributionCfg(init_std=STUDENT_STD),
            cnn_cfg=RslRlCNNModelCfg.CNNCfg(
                output_channels=[32, 64, 64], kernel_size=[5, 3, 3], stride=[2, 2, 2], activation="elu"
            ),
        ),
        teacher=expert.actor,
        algorithm=RslRlDistillationAlgorithmCfg(
            num_learning_epochs=4, learning_rate=1e-3, gradient_length=2, max_grad_norm=1.0, loss_type="huber"
        ),
    )
    cfg.teacher.class_name = "phototwin_tasks.distill:Expert"
    cfg.device = expert.device
    return cfg


def make_agent_cfg(family: str) -> RslRlOnPolicyRunnerCfg:
    """PPO for a family, as rsl_rl wants it."""
    cfg = RslRlOnPolicyRunnerCfg(
        num_steps_per_env=STEPS_PER_ITERATION,
        max_iterations=ITERATIONS,
        save_interval=20,
        experiment_name=f"phototwin_{family}",
        obs_groups={"actor": ["policy"], "critic": ["policy"]},
        clip_actions=1.0,
        actor=RslRlMLPModelCfg(
            hidden_dims=[256, 128, 64],
            activation="elu",
            # Observations come scaled. Statistics of the first steps, all alike, would move for long, and with them what a policy does.
            obs_normalization=False,
            distribution_cfg=RslRlMLPModelCfg.GaussianDistributionCfg(init_std=0.5),
        ),
        critic=RslRlMLPModelCfg(hidden_dims=[256, 128, 64], activation="elu", obs_normalization=False),
        algorithm=RslRlPpoAlgorithmCfg(
            num_learning_epochs=5,
            num_mini_batches=4,
            learning_rate=1e-3,
            schedule="adaptive",
            gamma=0.98,
            lam=0.95,
            entropy_coef=0.003,
            desired_kl=0.01,
            max_grad_norm=1.0,
            value_loss_coef=1.0,
            # Clipped, a value moves by 0.2 an iteration at most; here values are tens.
            use_clipped_value_loss=False,
            clip_param=0.2,
        ),
    )
    cfg.device = "cuda:0" if torch.cuda.is_available() else "cpu"
    return cfg
