"""Inverse kinematics kernels against closed forms of small arms, and against pinocchio on a whole robot."""

import numpy as np
import pytest
import warp as wp

from phototwin.errors import InputError
from phototwin.frames import make_T, rotation_z
from phototwin.kernels.inverse import follow_rows, make_reacher, solve_rows
from phototwin.kernels.links import FIXED, SLIDES, TURNS, Chain
from phototwin.plan.ik import load_arm, tool_pose
from phototwin.robots import PANDA

NO_GPU = pytest.mark.skipif(wp.get_cuda_device_count() == 0, reason="no CUDA device")
DEVICES = ["cpu", pytest.param("cuda:0", marks=[pytest.mark.gpu, NO_GPU])]
ENOUGH_M = 1e-8


def make_chain(kinds, axes, offsets, limit=3.0):
    """Joints one after another, each offset in the one before; the last offset is the tool's."""
    count = len(kinds)
    places = np.array([make_T(np.eye(3), np.array(o, float)) for o in offsets])
    return Chain(
        names=("base", *(f"joint{i}" for i in range(count)), "tool"),
        parent=np.arange(-1, count + 1, dtype=np.int32),
        kind=np.array([FIXED, *kinds, FIXED], np.int32),
        joint=np.array([-1, *range(count), -1], np.int32),
        axis=np.array([(0, 0, 1), *axes, (0, 0, 1)], float),
        T_parent_link=np.concatenate([np.eye(4)[None], places]),
        lower=np.full(count, -limit),
        upper=np.full(count, limit),
    )


def planar(limit=3.0):
    """Two links of 0.3 and 0.2 m and a wrist, all turning about Z."""
    return make_chain([TURNS] * 3, [(0, 0, 1)] * 3, [(0, 0, 0), (0.3, 0, 0), (0.2, 0, 0), (0, 0, 0)], limit)


@pytest.mark.parametrize("device", DEVICES)
def test_a_planar_arm_bends_by_the_law_of_cosines(device):
    arm = make_reacher(planar(), "tool", 0.3)
    distance = np.array([0.15, 0.3, 0.45])
    T = np.array([make_T(rotation_z(0.4), np.array([d * np.cos(0.7), d * np.sin(0.7), 0.0])) for d in distance])
    q, error = solve_rows(arm, T, np.tile([0.3, 0.8, 0.0], (3, 1)), np.zeros(3), 60, 0.0, ENOUGH_M, device)
    elbow = np.arccos((distance**2 - 0.3**2 - 0.2**2) / (2 * 0.3 * 0.2))
    np.testing.assert_allclose(q[:, 1], elbow, atol=1e-6)
    np.testing.assert_allclose(q.sum(1), 0.4, atol=1e-6)
    assert np.abs(error).max() < 1e-6


@pytest.mark.parametrize("device", DEVICES)
def test_gantries_slide_exactly_and_stop_at_their_limits(device):
    arm = make_reacher(
        make_chain([SLIDES] * 3, np.eye(3), [(0.1, 0, 0), (0, 0, 0), (0, 0, 0), (0, 0, 0.2)], 0.5), "tool", 0.3
    )
    goals = np.array([[0.3, -0.2, 0.4], [2.0, 0.1, 0.2]])
    T = np.array([make_T(np.eye(3), p) for p in goals])
    q, error = solve_rows(arm, T, np.zeros((2, 3)), np.zeros(3), 60, 0.0, ENOUGH_M, device)
    np.testing.assert_allclose(q, [[0.2, -0.2, 0.2], [0.5, 0.1, 0.0]], atol=1e-6)
    np.testing.assert_allclose(error[1, :3], [1.4, 0.0, 0.0], atol=1e-6)


def test_a_joint_at_its_limit_leaves_the_rest_of_the_way_to_the_others():
    # Four joints in a plane: with the first held at 0.2 rad the other three still reach.
    chain = make_chain([TURNS] * 4, [(0, 0, 1)] * 4, [(0, 0, 0), (0.2, 0, 0), (0.2, 0, 0), (0.2, 0, 0), (0.0, 0, 0)])
    lower, upper = chain.lower.copy(), chain.upper.copy()
    upper[0] = 0.2
    held = Chain(**{**chain.__dict__, "lower": lower, "upper": upper})
    arm = make_reacher(held, "tool", 0.3)
    T = make_T(rotation_z(1.2), np.array([0.1, 0.4, 0.0]))[None]
    q, error = solve_rows(arm, T, np.full((1, 4), 0.1), np.array([2.0, 0.0, 0.0, 0.0]), 80, 0.3, ENOUGH_M)
    assert np.abs(error).max() < 1e-6
    assert q[0, 0] == pytest.approx(0.2)


def test_what_is_free_ends_nearest_to_the_rest_posture_wherever_it_began():
    arm = load_arm(PANDA)
    T = make_T(np.diag([1.0, -1.0, -1.0]), np.array([0.5, 0.1, 0.2]))
    starts = arm.home + np.random.default_rng(0).uniform(-0.4, 0.4, (20, 7))
    q, error = solve_rows(arm.reacher, np.repeat(T[None], 20, 0), starts, arm.home, 100, 0.3, ENOUGH_M)
    assert np.linalg.norm(error[:, :3], axis=1).max() < 1e-6
    assert np.ptp(q, axis=0).max() < 5e-3
    # Its distance to rest is stationary along the one way it can move without moving the tool.
    import pinocchio  # pyright: ignore[reportMissingImports]

    J = pinocchio.computeFrameJacobian(arm.model, arm.data, q[0], arm.tool)
    free = np.linalg.svd(J)[2][-1]
    assert abs(free @ (q[0] - arm.home)) < 5e-3


def test_pinocchio_agrees_where_the_tool_is():
    arm = load_arm(PANDA)
    rng = np.random.default_rng(1)
    T = tool_pose(arm, rng.uniform(arm.lower, arm.upper, (100, 7)))
    q, error = solve_rows(arm.reacher, T, np.tile(arm.home, (100, 1)), arm.home, 60, 0.3, 1e-7)
    away = tool_pose(arm, q)
    np.testing.assert_allclose(
        np.linalg.norm(error[:, :3], axis=1), np.linalg.norm((T - away)[:, :3, 3], axis=1), atol=1e-9
    )
    cosine = 0.5 * (np.einsum("bij,bij->b", T[:, :3, :3], away[:, :3, :3]) - 1.0)
    np.testing.assert_allclose(np.cos(np.linalg.norm(error[:, 3:], axis=1)), cosine, atol=1e-9)
    assert (q >= arm.lower).all() and (q <= arm.upper).all()


def test_paths_side_by_side_are_those_alone():
    arm = load_arm(PANDA)
    s = np.linspace(0.0, 1.0, 40)
    down = np.diag([1.0, -1.0, -1.0])
    paths = np.array(
        [[make_T(rotation_z(turn * t) @ down, np.array([0.5, 0.1 * t, 0.2])) for t in s] for turn in (0.0, 0.5)]
    )
    q0 = np.tile(arm.home, (2, 1))
    both, error = follow_rows(arm.reacher, paths, q0, arm.home, 20, 0.2, 0.02, 1e-6)
    alone, _ = follow_rows(arm.reacher, paths[1:], q0[1:], arm.home, 20, 0.2, 0.02, 1e-6)
    np.testing.assert_array_equal(both[1], alone[0])
    assert np.linalg.norm(error[:, 1:, :3], axis=2).max() < 1e-6
    assert np.abs(np.diff(both[:, 1:], axis=1)).max() < 0.1


def test_a_short_arm_meets_the_place_and_turns_as_far_as_it_can():
    # Pan, three bends in its plane, a roll: a tool that leans out of that plane cannot be had.
    kinds, axes = [TURNS] * 5, [(0, 0, 1), (0, 1, 0), (0, 1, 0), (0, 1, 0), (0, 0, 1)]
    chain = make_chain(kinds, axes, [(0, 0, 0.1), (0, 0, 0), (0, 0, 0.15), (0, 0, 0.15), (0, 0, 0.05), (0, 0, 0.05)])
    arm = make_reacher(chain, "tool", np.array([0.1, 0.03, 0.1]), polish=True)
    lean = 0.2
    down = np.diag([-1.0, 1.0, -1.0])
    R = down @ np.array([[1, 0, 0], [0, np.cos(lean), -np.sin(lean)], [0, np.sin(lean), np.cos(lean)]])
    T = np.array([make_T(turn, np.array([0.2, 0.0, 0.05])) for turn in (down, R)])
    _, error = solve_rows(arm, T, np.tile([0.0, 0.4, 1.4, 1.0, 0.0], (2, 1)), np.zeros(5), 60, 0.0, 1e-7)
    assert np.linalg.norm(error[:, :3], axis=1).max() < 1e-6
    assert np.abs(error[0, 3:]).max() < 1e-4
    assert 0.05 < np.linalg.norm(error[1, 3:]) < 1.1 * lean


def test_bad_shapes_and_links_are_refused():
    arm = make_reacher(planar(), "tool", 0.3)
    with pytest.raises(InputError, match="no link 'hand'"):
        make_reacher(planar(), "hand", 0.3)
    with pytest.raises(InputError, match=r"moved by the joints \[0, 1\] of 3"):
        make_reacher(planar(), "joint1", 0.3)
    with pytest.raises(InputError, match=r"postures \(B, 3\)"):
        solve_rows(arm, np.eye(4)[None], np.zeros((2, 3)), np.zeros(3), 10, 0.0, 1e-6)
    with pytest.raises(InputError, match=r"paths \(B, T, 4, 4\)"):
        follow_rows(arm, np.eye(4)[None], np.zeros((1, 3)), np.zeros(3), 10, 0.0, 0.1, 1e-6)
