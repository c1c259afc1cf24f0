"""Every robot in the simulator: it holds its posture, opens and closes, and is where pinocchio says."""

import numpy as np
import pytest
from sim_helpers import make_twin, open_env

pytestmark = pytest.mark.sim


@pytest.fixture(scope="module")
def twin(tmp_path_factory):
    return make_twin(tmp_path_factory.mktemp("robots") / "twin")


@pytest.mark.parametrize("name", ["UR10", "SO101", "G1"])
def test_a_robot_holds_its_posture_moves_its_fingers_and_is_where_kinematics_puts_it(twin, name):
    import torch

    from phototwin.plan.ik import tool_pose as kinematics
    from phototwin_tasks.looks import matrices
    from phototwin_tasks.mdp.observations import gripper_opening, tool_pose

    with open_env(twin, f"PhotoTwin-Lift-{name}", "ovphysx", instruction="pick up the green cube") as env:
        env.reset()
        robot, arm = env.robot, env.cell.arm
        action = torch.tensor([*robot.home_rad, 1.0]).repeat(env.num_envs, 1)
        home = env.T_world_base @ kinematics(arm, arm.home)
        for _ in range(40):
            env.step(action)
            assert np.abs(tool_pose(env)[:, :3].numpy() - home[:3, 3]).max() < 1e-3
        assert gripper_opening(env).numpy() == pytest.approx(1.0, abs=0.01)
        action[:, -1] = -1.0
        for _ in range(20):
            env.step(action)
        assert gripper_opening(env).numpy() == pytest.approx(0.0, abs=0.02)
        action[:, -1] = 1.0
        worst = follow(env, action)
        assert worst < 0.03  # while all joints move at up to 0.56 rad/s
        columns = [env.scene["robot"].joint_names.index(joint) for joint in robot.arm_joints]
        q = env.scene["robot"].data.joint_pos.torch[:, columns].numpy().astype(float)
        error = np.abs(matrices(tool_pose(env)) - env.T_world_base @ kinematics(arm, q))
        assert error.max() < 1e-4
        assert gripper_opening(env).numpy() == pytest.approx(1.0, abs=0.02)
        assert np.abs(q - action[0, :-1].numpy()).max() < 2e-3


def follow(env, action):
    """Turn every joint by 0.3 rad within a second and wait; returns how far the tool was off at the worst [m]."""
    from phototwin.plan.ik import tool_pose as kinematics
    from phototwin.plan.timing import minimum_jerk
    from phototwin_tasks.mdp.observations import tool_pose

    arm = env.cell.arm
    start = arm.home.copy()
    end = np.clip(start + 0.3 * (-1.0) ** np.arange(len(start)), arm.lower, arm.upper)
    worst = 0.0
    for share in np.append(minimum_jerk(np.arange(1, 21) / 20), np.ones(10)):
        q = start + share * (end - start)
        action[:, :-1] = action.new_tensor(q)
        env.step(action)
        wanted = (env.T_world_base @ kinematics(arm, q))[:3, 3]
        worst = max(worst, float(np.linalg.norm(tool_pose(env)[:, :3].numpy() - wanted, axis=1).max()))
    return worst
