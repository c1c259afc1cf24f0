"""Commands that run ahead: drives that are late follow the plan."""

from dataclasses import replace

import numpy as np
import pytest

from phototwin.errors import PlanError
from phototwin.plan.drives import drive_lags, lead_commands
from phototwin.robots import PANDA

FPS = 30.0


def late(command, q_start, lags, steps=40):
    """Joints that a spring pulls through a viscous damper: lag dq/dt = command - q, commands held for a sample."""
    q, out = q_start.copy(), []
    for row in command:
        for _ in range(steps):
            q = q + (row - q) * (1.0 - np.exp(-1.0 / (FPS * steps * lags)))
        out.append(q)
    return np.array(out)


def test_drives_are_where_the_plan_has_them():
    s = np.linspace(0.0, 1.0, 91)[1:]
    share = s**3 * (10.0 - 15.0 * s + 6.0 * s**2)
    q_start = np.array(PANDA.home_rad)
    q = q_start + share[:, None] * np.array([0.8, 0.3, -0.5, 0.4, 0.6, -0.7, 1.0])
    lags = drive_lags(PANDA)
    assert lags[0] == pytest.approx(50.0 / 600.0) and lags[6] == pytest.approx(15.0 / 50.0)
    blind = np.abs(late(q, q_start, lags) - q).max()
    led = np.abs(late(lead_commands(PANDA, q_start, q, FPS), q_start, lags) - q).max()
    assert blind > 0.1
    assert led < 0.15 * blind


def test_at_rest_the_command_is_the_posture():
    q = np.tile(PANDA.home_rad, (5, 1))
    command = lead_commands(PANDA, q[0], q, FPS)
    assert command.dtype == np.float32
    np.testing.assert_array_equal(command, q.astype(np.float32))


def test_gains_that_are_missing_are_named():
    with pytest.raises(PlanError, match="no stiffness and damping of panda_joint1"):
        drive_lags(replace(PANDA, stiffness={}))
