"""Actions for learning: small moves of a commanded tool pose and of the fingers; the arm follows by inverse kinematics."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from isaaclab.managers import ActionTerm, ActionTermCfg
from isaaclab.utils import configclass
from isaaclab.utils.math import (
    axis_angle_from_quat,
    matrix_from_quat,
    quat_conjugate,
    quat_from_angle_axis,
    quat_mul,
    quat_unique,
)

from phototwin.frames import invert
from phototwin.kernels.inverse import follow_rows
from phototwin.plan.drives import drive_lags
from phototwin_tasks.mdp.guide import step_at_hand
from phototwin_tasks.mdp.observations import tool_pose

if TYPE_CHECKING:
    from phototwin_tasks.twin_env import TwinEnv

LEASH_M = 0.05
"""Actions do not move the command farther ahead of the tool than this: what is blocked must not press ever harder."""
FLOOR_M = 0.005
"""Fingertips may be commanded this far below where the lowest grasp has them."""
TURN_RAD = 0.2
"""The commanded turn changes by so much in a step at most, as where the next step of the task wants another tilt."""
MOST_STEP_RAD = 0.15
"""Of a joint in a step: 3 rad/s at 20 Hz."""
ITERATIONS, PULL, PULLED_RAD, SOLVED_M = 8, 0.05, 0.02, 2e-4
"""Of the inverse kinematics: it starts where the step before has ended, a few centimetres away."""


@configclass
class ToolMoveActionCfg(ActionTermCfg):
    """Moves of the tool along X, Y, Z and about the vertical, and of the fingers (positive opens), each in -1..1.

    The tilt of the tool is not the policy's: it is that of the grasp of the step at hand. Fingers are moved and not switched,
    so that a policy's noise does not keep them between open and closed.
    """

    class_type: type[ActionTerm] = "{DIR}.actions:ToolMoveAction"  # pyright: ignore[reportAssignmentType]
    asset_name: str = "robot"
    move_m: float = 0.02
    turn_rad: float = 0.08
    open_share: float = 0.25


class ToolMoveAction(ActionTerm):
    """A commanded tool pose that actions move, and the arm posture that follows it, from one to the next evenly over a step.

    The posture is a plan's and not the arm's own: drives get it ahead of time by what they are late.
    """

    cfg: ToolMoveActionCfg
    _env: TwinEnv

    def __init__(self, cfg: ToolMoveActionCfg, env: TwinEnv) -> None:
        """Start where learning starts."""
        super().__init__(cfg, env)
        robot, n = env.robot, self.num_envs
        self._joints = [self._asset.joint_names.index(name) for name in robot.arm_joints]
        self._fingers = [self._asset.joint_names.index(name) for name in robot.finger_joints]
        self._closed = torch.tensor(robot.fingers_closed, device=self.device)
        self._opened = torch.tensor(robot.fingers_open, device=self.device)
        self._lags = torch.tensor(drive_lags(robot), dtype=torch.float32, device=self.device)
        self._base = torch.tensor(invert(env.T_world_base), dtype=torch.float32, device=self.device)
        self._home = torch.tensor(env.start_rad, dtype=torch.float32, device=self.device)
        self._floor = self._lowest_grasp() - FLOOR_M
        self._raw = torch.zeros(n, 5, device=self.device)
        self._position = env.guide.home[:3].repeat(n, 1)
        self._turn = env.guide.home[3:].repeat(n, 1)
        self._yaw = torch.zeros(n, device=self.device)
        self._opening = torch.ones(n, 1, device=self.device)
        self._posture = self._home.repeat(n, 1)
        self._step = torch.zeros_like(self._posture)
        self._substep = 0

    def _lowest_grasp(self) -> float:
        """Height of the lowest grasp where the photo shows things [m]."""
        env = self._env
        heights = []
        for step, grasp in zip(env.task.steps, env.guide.grasps.cpu().double().numpy(), strict=True):
            T = env.twin.object(step.object).T_world_object
            heights.append(float(T[2, :3] @ grasp[:3] + T[2, 3]))
        return min(heights)

    @property
    def action_dim(self) -> int:
        """Moves along X, Y, Z, a turn, and the fingers."""
        return 5

    @property
    def raw_actions(self) -> torch.Tensor:
        """As they came, (N, 5)."""
        return self._raw

    @property
    def processed_actions(self) -> torch.Tensor:
        """The commanded tool pose in the frame of the environment and the share of the way open, (N, 8)."""
        return torch.cat([self._position, self._turn, self._opening], -1)

    def process_actions(self, actions: torch.Tensor) -> None:
        """Move the command, and find the posture for it."""
        self._raw[:] = actions
        moves = actions.clamp(-1, 1)
        tool = tool_pose(self._env)[:, :3]
        near, far = torch.minimum(tool - LEASH_M, self._position), torch.maximum(tool + LEASH_M, self._position)
        self._position[:] = torch.clamp(self._position + self.cfg.move_m * moves[:, :3], near, far)
        self._position[:, 2].clamp_(min=self._floor)
        self._yaw += self.cfg.turn_rad * moves[:, 3]
        self._turn[:] = self._next_turn()
        self._opening[:] = (self._opening + self.cfg.open_share * moves[:, 4:]).clamp(0, 1)
        fingers = self._closed + self._opening * (self._opened - self._closed)
        self._asset.set_joint_position_target_index(target=fingers, joint_ids=self._fingers)
        wanted = self._follow() - self._posture
        # Shortened as a whole: joints cut one by one would lead elsewhere.
        self._step[:] = wanted * (MOST_STEP_RAD / wanted.abs().amax(-1, keepdim=True).clamp(min=MOST_STEP_RAD))
        self._substep = 0

    def _next_turn(self) -> torch.Tensor:
        """The commanded turn: what the grasp of the step at hand wants, turned about the vertical, or as far towards it as a step goes, (N, 4)."""
        up = torch.tensor([0.0, 0.0, 1.0], device=self.device).expand(self.num_envs, 3)
        reference = self._env.guide.reference[step_at_hand(self._env)]
        goal = quat_mul(quat_from_angle_axis(self._yaw, up), reference)
        rest = axis_angle_from_quat(quat_unique(quat_mul(goal, quat_conjugate(self._turn))))
        angle = rest.norm(dim=-1)
        axis = rest / angle.clamp(min=1e-9)[:, None]
        return quat_mul(quat_from_angle_axis(angle.clamp(max=TURN_RAD), axis), self._turn)

    def _follow(self) -> torch.Tensor:
        """Postures that reach the command from the ones before, (N, J)."""
        T = torch.eye(4, device=self.device).repeat(self.num_envs, 1, 1)
        T[:, :3, :3], T[:, :3, 3] = matrix_from_quat(self._turn), self._position
        arm = self._env.cell.arm
        goals = (self._base @ T).cpu().numpy()[:, None]
        q, _ = follow_rows(
            arm.reacher, goals, self._posture.cpu().numpy(), arm.home, ITERATIONS, PULL, PULLED_RAD, SOLVED_M
        )
        return torch.as_tensor(q[:, 0], dtype=torch.float32, device=self.device)

    def apply_actions(self) -> None:
        """Targets of the arm's drives for the next step of physics."""
        count = self._env.cfg.decimation
        self._posture += self._step / count
        ahead = self._lags * self._step / self._env.step_dt if self._substep < count - 1 else 0.0
        self._substep += 1
        self._asset.set_joint_position_target_index(target=self._posture + ahead, joint_ids=self._joints)

    def reset(self, env_ids: Sequence[int] | None = None) -> None:
        """Back to where learning starts."""
        ids = slice(None) if env_ids is None else env_ids
        home = self._env.guide.home
        self._raw[ids], self._yaw[ids], self._step[ids] = 0.0, 0.0, 0.0
        self._position[ids], self._turn[ids], self._opening[ids] = home[:3], home[3:], 1.0
        self._posture[ids] = self._home
