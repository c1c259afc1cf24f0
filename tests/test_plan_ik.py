"""Inverse kinematics judged by forward kinematics, limits and continuity."""

import numpy as np
import pytest

from phototwin.errors import PlanError
from phototwin.frames import make_T, rotation_z
from phototwin.plan.ik import (
    link_points,
    load_arm,
    reached,
    solve_path,
    solve_pose,
    solve_poses,
    solve_postures,
    tool_pose,
)
from phototwin.robots import PANDA

DOWN = np.diag([1.0, -1.0, -1.0])


@pytest.fixture(scope="module")
def arm():
    return load_arm(PANDA)


def down_at(x, y, z, yaw=0.0):
    return make_T(rotation_z(yaw) @ DOWN, np.array([x, y, z]))


def test_the_tool_frame_of_the_urdf(arm):
    # At zero the Panda's hand hangs 0.088 m ahead; its flange is 0.333 + 0.316 + 0.384 - 0.107 m up, the tool 0.1034 m below it.
    T = tool_pose(arm, np.zeros(7))
    np.testing.assert_allclose(
        T[:3, 3], [0.088, 0.0, 0.333 + 0.316 + 0.384 - 0.107 - PANDA.tcp_position_m[2]], atol=1e-6
    )
    np.testing.assert_allclose(T[:3, 2], [0.0, 0.0, -1.0], atol=1e-6)


def test_forward_of_inverse_is_the_pose(arm):
    rng = np.random.default_rng(0)
    solved = 0
    for _ in range(60):
        T = tool_pose(arm, rng.uniform(arm.lower, arm.upper))
        q, position, angle = solve_pose(arm, T, arm.home)
        assert (q >= arm.lower - 1e-9).all() and (q <= arm.upper + 1e-9).all()
        if reached(position, angle):
            solved += 1
            np.testing.assert_allclose(tool_pose(arm, q), T, atol=2e-3)
            assert np.linalg.norm(tool_pose(arm, q)[:3, 3] - T[:3, 3]) <= 2.5e-4
    assert solved >= 54


def test_many_poses_at_once_are_those_one_by_one(arm):
    rng = np.random.default_rng(2)
    T = tool_pose(arm, rng.uniform(arm.lower, arm.upper, (80, 7)))
    T[::8, :3, 3] *= 3.0
    q, hit = solve_poses(arm, T, arm.home)
    alone = np.array([reached(*solve_pose(arm, pose, arm.home)[1:]) for pose in T])
    assert not (hit & ~alone).any()  # alone, more starts are tried
    assert hit.sum() >= alone.sum() - 2
    assert hit.mean() > 0.8 and not hit[::8].all()
    np.testing.assert_allclose(tool_pose(arm, q[hit]), T[hit], atol=2e-3)
    np.testing.assert_array_equal(q, solve_poses(arm, T, arm.home)[0])


def test_poses_over_the_table_are_reached_from_home_with_any_yaw_within_a_quarter_turn(arm):
    for x in (0.35, 0.5, 0.65):
        for y in (-0.25, 0.0, 0.25):
            for yaw in (-1.5, 0.0, 1.5):
                _, position, angle = solve_pose(arm, down_at(x, y, 0.1, yaw), arm.home)
                assert reached(position, angle), (x, y, yaw)


def test_postures_are_distinct_and_all_reach(arm):
    T = down_at(0.5, 0.1, 0.2)
    postures = solve_postures(arm, T, arm.home)
    assert len(postures) >= 1
    for i, q in enumerate(postures):
        np.testing.assert_allclose(tool_pose(arm, q), T, atol=2e-3)
        assert all(np.abs(q - other).max() > 0.3 for other in postures[:i])


def test_a_path_is_followed_within_tolerance_limits_and_speed(arm):
    s = np.linspace(0.0, 1.0, 200)
    fps = 20.0
    path = np.array(
        [
            down_at(0.45 + 0.12 * np.sin(2 * np.pi * t), 0.25 * np.sin(4 * np.pi * t), 0.3 - 0.25 * np.sin(np.pi * t))
            for t in s
        ]
    )
    q0 = solve_pose(arm, path[0], arm.home)[0]
    q = solve_path(arm, path, q0, fps)
    assert q.shape == (200, 7)
    np.testing.assert_allclose(tool_pose(arm, q)[:, :3, 3], path[:, :3, 3], atol=2.5e-4)
    assert (q >= arm.lower - 1e-9).all() and (q <= arm.upper + 1e-9).all()
    assert (np.abs(np.diff(q, axis=0)) * fps <= arm.velocity).all()
    # The path ends where it began, and so does the posture: it does not drift.
    assert np.abs(q[-1] - q[0]).max() < 0.05
    np.testing.assert_array_equal(q, solve_path(arm, path, q0, fps))


@pytest.mark.parametrize(
    ("path", "fps", "reason"),
    [
        ([down_at(0.5, 0.0, 0.3), down_at(1.2, 0.0, 0.3)], 20.0, "out of reach"),
        ([down_at(0.5, 0.0, 0.3), down_at(0.5, 0.1, 0.3)], 2000.0, "would turn at"),
        ([down_at(0.5, 0.0, 0.3), down_at(0.5, 0.0, 0.3, np.pi)], 20.0, "limit|jump|orientation|singular"),
    ],
)
def test_what_cannot_be_followed_is_refused_with_the_sample_and_the_reason(arm, path, fps, reason):
    q0 = solve_pose(arm, path[0], arm.home)[0]
    with pytest.raises(PlanError, match=reason):
        solve_path(arm, np.array(path), q0, fps)


def test_link_points_move_with_the_arm_and_end_at_the_fingertips(arm):
    q = solve_pose(arm, down_at(0.5, 0.0, 0.05), arm.home)[0]
    points = link_points(arm, q)
    # The lowest thing of an arm that points down is its fingertips, half a pad below the tool point.
    assert points[:, 2].min() == pytest.approx(0.05 - PANDA.pad_half_m, abs=1e-3)
    lowest = points[points[:, 2] < 0.05]
    assert np.abs(lowest[:, 1]).max() < PANDA.finger_open_m + 0.02
    # Turning joint 1 turns all of them about Z.
    turned = q.copy()
    turned[0] += 0.3
    np.testing.assert_allclose(link_points(arm, turned), points @ rotation_z(0.3).T, atol=1e-9)
