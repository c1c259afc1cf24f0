"""Action spaces."""

from __future__ import annotations

from isaaclab.envs.mdp.actions.actions_cfg import BinaryJointPositionActionCfg, JointPositionActionCfg
from isaaclab.utils import configclass

from phototwin.robots import closing_command, get_robot
from phototwin_tasks.mdp.actions import ToolMoveActionCfg


@configclass
class JointActionsCfg:
    """Absolute arm joint positions [rad], then the gripper: positive opens, negative closes."""

    arm: JointPositionActionCfg = None  # pyright: ignore[reportAssignmentType]
    gripper: BinaryJointPositionActionCfg = None  # pyright: ignore[reportAssignmentType]


def joint_actions(robot_name: str) -> JointActionsCfg:
    """The joint actions of a robot."""
    robot = get_robot(robot_name)
    return JointActionsCfg(
        arm=JointPositionActionCfg(
            asset_name="robot", joint_names=list(robot.arm_joints), preserve_order=True, use_default_offset=False
        ),
        gripper=BinaryJointPositionActionCfg(
            asset_name="robot",
            joint_names=list(robot.finger_joints),
            open_command_expr=dict(zip(robot.finger_joints, robot.fingers_open, strict=True)),
            close_command_expr=dict(zip(robot.finger_joints, closing_command(robot), strict=True)),
        ),
    )


@configclass
class ToolActionsCfg:
    """Moves of the tool along X, Y, Z and about the vertical, and of the fingers."""

    tool: ToolMoveActionCfg = ToolMoveActionCfg()


def tool_actions(robot_name: str) -> ToolActionsCfg:
    """The tool actions, the same for every robot."""
    return ToolActionsCfg()


CONTROLS = {"tool": tool_actions, "joint": joint_actions}
"""Action space by name."""
