"""Noise on executed paths: as large as asked for, smooth, gone where the fingers move, and the same every time."""

import numpy as np
import pytest

from phototwin.errors import InputError
from phototwin.plan.ik import load_arm, tool_jacobian, tool_pose
from phototwin.plan.noise import MEMORY_S, path_noise
from phototwin.robots import PANDA

FPS = 20.0
STEPS = 200


@pytest.fixture(scope="module")
def arm():
    return load_arm(PANDA)


def path(arm):
    return np.tile(arm.home, (STEPS, 1)) + 0.2 * np.linspace(0, 1, STEPS)[:, None]


def test_the_jacobian_is_the_derivative_of_the_tool(arm):
    q, h = arm.home + 0.1, 1e-6
    for j, column in enumerate(tool_jacobian(arm, q).T):
        ahead, behind = (tool_pose(arm, q + sign * h * np.eye(len(q))[j]) for sign in (1, -1))
        assert np.allclose((ahead - behind)[:3, 3] / (2 * h), column[:3], atol=1e-6)
        turn = (ahead[:3, :3] - behind[:3, :3]) / (2 * h) @ tool_pose(arm, q)[:3, :3].T
        assert np.allclose([turn[2, 1], turn[0, 2], turn[1, 0]], column[3:], atol=1e-6)


def test_the_tool_wanders_as_far_as_asked_and_not_where_the_fingers_move(arm):
    q = path(arm)
    opened = np.arange(STEPS) < 100
    offsets = []
    for seed in range(40):
        noise = path_noise(arm, q, opened, FPS, seed, 0.008)
        offsets.append(tool_pose(arm, q + noise)[:, :3, 3] - tool_pose(arm, q)[:, :3, 3])
        assert noise.dtype == np.float32
    away = np.linalg.norm(offsets, axis=-1)
    rms = np.sqrt(np.mean(np.square(away), 0))
    assert np.isclose(np.sqrt(np.mean(rms[30:80] ** 2)), 0.008, rtol=0.15)
    steps = np.linalg.norm(np.diff(offsets, axis=1), axis=-1)[:, 30:80]
    expected = np.sqrt(
        2 * (1 - np.exp(-1 / (MEMORY_S * FPS)))
    )  # of an Ornstein-Uhlenbeck process; white noise: sqrt(2)
    assert np.isclose(np.sqrt(np.mean(steps**2)), 0.008 * expected, rtol=0.15), "it wanders, it does not tremble"
    assert np.abs(np.array(away)[:, [0, 1, 98, 99, 100, 101, STEPS - 1]]).max() < 2e-4
    assert 0 < rms[94] < 0.5 * 0.008, "less where the fingers are about to close"


def test_noise_is_a_function_of_its_seed_and_none_is_none(arm):
    q, opened = path(arm), np.ones(STEPS, bool)
    assert np.array_equal(path_noise(arm, q, opened, FPS, 3, 0.01), path_noise(arm, q, opened, FPS, 3, 0.01))
    assert not np.array_equal(path_noise(arm, q, opened, FPS, 3, 0.01), path_noise(arm, q, opened, FPS, 4, 0.01))
    assert not path_noise(arm, q, opened, FPS, 3, 0.0).any()


def test_joints_stay_within_their_limits(arm):
    q = np.tile(arm.upper - 1e-3, (STEPS, 1))
    moved = q + path_noise(arm, q, np.ones(STEPS, bool), FPS, 0, 0.05)
    assert (moved <= arm.upper + 1e-6).all()


@pytest.mark.parametrize("std_m", [-0.001, 0.06])
def test_noise_that_cannot_be_meant_is_refused(arm, std_m):
    with pytest.raises(InputError, match="noise on the tool"):
        path_noise(arm, path(arm), np.ones(STEPS, bool), FPS, 0, std_m)
