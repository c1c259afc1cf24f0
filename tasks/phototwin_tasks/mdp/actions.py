"""Actions for learning: small moves of a commanded tool pose, followed by Isaac Lab's differential inverse kinematics."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from isaaclab.controllers import DifferentialIKController, DifferentialIKControllerCfg
from isaaclab.managers import ActionTerm, ActionTermCfg
from isaaclab.utils import configclass
from isaaclab.utils.math import quat_apply, quat_from_angle_axis, quat_mul

from phototwin_tasks.mdp.guide import step_at_hand
from phototwin_tasks.mdp.observations import tool_pose

if TYPE_CHECKING:
    from phototwin_tasks.twin_env import TwinEnv

LEASH_M = 0.05
"""The command never runs farther ahead of the tool than this: what is blocked must not press ever harder."""
FLOOR_M = 0.005
"""Fingertips may be commanded this far below where the lowest grasp has them."""
MOST_STEP_RAD = 0.15
"""Of a joint at one solution of the inverse kinematics, so that a wrist swings round instead of jumping."""


@configclass
class ToolMoveActionCfg(ActionTermCfg):
    """Moves of the tool along X, Y, Z and about the vertical, each in -1..1.

    The tilt of the tool is not the policy's: it is that of the grasp of the step at hand.
    """

    class_type: type[ActionTerm] = "{DIR}.actions:ToolMoveAction"  # pyright: ignore[reportAssignmentType]
    asset_name: str = "robot"
    move_m: float = 0.02
    turn_rad: float = 0.1
    solve_every: int = 3
    damping: float = 0.05


class ToolMoveAction(ActionTerm):
    """A commanded tool pose that actions move; every few physics steps the arm's joint targets are set towards it."""

    cfg: ToolMoveActionCfg
    _env: TwinEnv

    def __init__(self, cfg: ToolMoveActionCfg, env: TwinEnv) -> None:
        """Start at the home pose, turned as the first grasp wants it."""
        super().__init__(cfg, env)
        robot = env.robot
        self._joints = [self._asset.joint_names.index(name) for name in robot.arm_joints]
        self._columns = [j + self._asset.num_base_dofs for j in self._joints]
        self._body = self._asset.body_names.index(robot.tcp_body)
        self._jacobian_body = self._body - 1 if self._asset.is_fixed_base else self._body
        self._tool = torch.tensor(robot.tcp_position_m, device=self.device)
        ik = DifferentialIKControllerCfg(
            command_type="pose", use_relative_mode=False, ik_method="dls", ik_params={"lambda_val": cfg.damping}
        )
        self._controller = DifferentialIKController(ik, self.num_envs, self.device)
        self._raw = torch.zeros(self.num_envs, 4, device=self.device)
        self._position = env.guide.home[:3].repeat(self.num_envs, 1)
        self._yaw = torch.zeros(self.num_envs, device=self.device)
        self._command = torch.zeros(self.num_envs, 7, device=self.device)
        self._floor = self._lowest_grasp() - FLOOR_M
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
        """Moves along X, Y, Z and a turn."""
        return 4

    @property
    def raw_actions(self) -> torch.Tensor:
        """As they came, (N, 4)."""
        return self._raw

    @property
    def processed_actions(self) -> torch.Tensor:
        """The commanded tool pose, in the frame of the environment, (N, 7)."""
        return self._command

    def process_actions(self, actions: torch.Tensor) -> None:
        """Move the commanded pose."""
        self._raw[:] = actions
        moves = actions.clamp(-1, 1)
        tool = tool_pose(self._env)[:, :3]
        wanted = self._position + self.cfg.move_m * moves[:, :3]
        self._position[:] = torch.clamp(wanted, tool - LEASH_M, tool + LEASH_M)
        self._position[:, 2].clamp_(min=self._floor)
        self._yaw += self.cfg.turn_rad * moves[:, 3]
        up = torch.tensor([0.0, 0.0, 1.0], device=self.device).expand(self.num_envs, 3)
        turn = quat_from_angle_axis(self._yaw, up)
        reference = self._env.guide.reference[step_at_hand(self._env)]
        self._command[:] = torch.cat([self._position, quat_mul(turn, reference)], -1)
        self._controller.set_command(self._command)
        self._substep = 0

    def apply_actions(self) -> None:
        """Set the joint targets; the ones before stay where none are due."""
        due = self._substep % self.cfg.solve_every == 0
        self._substep += 1
        if not due:
            return
        tool = tool_pose(self._env)
        data = self._asset.data
        jacobian = data.body_link_jacobian_w.torch[:, self._jacobian_body][:, :, self._columns]
        lever = quat_apply(data.body_quat_w.torch[:, self._body], self._tool.expand(self.num_envs, 3))
        linear = jacobian[:, :3] + torch.linalg.cross(jacobian[:, 3:], lever[:, :, None], dim=1)
        joints = data.joint_pos.torch[:, self._joints]
        wanted = self._controller.compute(tool[:, :3], tool[:, 3:], torch.cat([linear, jacobian[:, 3:]], 1), joints)
        wanted = torch.clamp(wanted, joints - MOST_STEP_RAD, joints + MOST_STEP_RAD)
        self._asset.set_joint_position_target_index(target=wanted, joint_ids=self._joints)

    def reset(self, env_ids: Sequence[int] | None = None) -> None:
        """Back to the home pose."""
        ids = slice(None) if env_ids is None else env_ids
        self._raw[ids], self._yaw[ids] = 0.0, 0.0
        self._position[ids] = self._env.guide.home[:3]
