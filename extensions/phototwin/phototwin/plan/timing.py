"""When a motion is where: minimum-jerk ways of the tool, and joint paths timed under limits of speed and acceleration."""

from __future__ import annotations

from typing import Any

import numpy as np

from phototwin.frames import matrix_from_quat_xyzw, quat_xyzw_from_matrix

PEAK_OVER_MEAN = 1.875
"""Of a minimum-jerk motion. Source: Flash and Hogan (1985), x(s) = 10 s^3 - 15 s^4 + 6 s^5."""
JOINT_SPEED_RAD_S = 1.5
JOINT_ACCELERATION_RAD_S2 = 4.0
"""In the air: half as fast as a Panda may, as people like to have it beside them."""
SPEED_SHARE = 0.9
"""Of a joint's own speed limit."""
TOOL_ACCELERATION_M_S2 = 1.2
"""Of the tool along its way: a held object that hangs from its rim swings at more."""
SMOOTH_S = 0.15
"""Acceleration builds up over this time; without it drives ring at the start and the end."""
GRID = 60
"""Points along a path at which speed and acceleration are bounded."""
FINE_S = 0.005


def minimum_jerk(s: np.ndarray) -> np.ndarray:
    """Share of the way at share ``s`` of the time, at rest at both ends. Source: Flash and Hogan (1985)."""
    return s**3 * (10.0 - 15.0 * s + 6.0 * s**2)


def interpolate(T_start: np.ndarray, T_end: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Poses (N, 4, 4) on the way from one to another: a straight line, and a turn about one axis the short way round."""
    quat = quat_xyzw_from_matrix(T_start[:3, :3].T @ T_end[:3, :3])
    angle = 2.0 * np.arctan2(np.linalg.norm(quat[:3]), quat[3])
    axis = quat[:3] / max(float(np.linalg.norm(quat[:3])), 1e-12)
    half = 0.5 * angle * share[:, None]
    turn = matrix_from_quat_xyzw(np.concatenate([np.sin(half) * axis, np.cos(half)], 1))
    out = np.zeros((len(share), 4, 4))
    out[:, :3, :3] = T_start[:3, :3] @ turn
    out[:, :3, 3] = T_start[:3, 3] + share[:, None] * (T_end[:3, 3] - T_start[:3, 3])
    out[:, 3, 3] = 1.0
    return out


def along(poses: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Poses (N, 4, 4) at shares of a way through ``poses`` (K, 4, 4), each part of it equally long."""
    parts = len(poses) - 1
    index = np.clip((share * parts).astype(int), 0, parts - 1)
    out = np.empty((len(share), 4, 4))
    for k in range(parts):
        here = index == k
        if here.any():
            out[here] = interpolate(poses[k], poses[k + 1], share[here] * parts - k)
    return out


def turn_between(T_a: np.ndarray, T_b: np.ndarray) -> float:
    """Angle between two poses (4, 4) [rad]."""
    return float(np.arccos(np.clip((np.trace(T_a[:3, :3].T @ T_b[:3, :3]) - 1.0) / 2.0, -1.0, 1.0)))


def time_path(path: np.ndarray, speed: np.ndarray, acceleration: np.ndarray, fps: float) -> np.ndarray | None:
    """A path in the shortest time that limits of speed and acceleration allow, from rest to rest, sampled at ``fps``.

    TOPP-RA times it; then the way s(t) is averaged over ``SMOOTH_S``, so that the acceleration builds up and dies down.

    Args:
        path: Points (K, D) of a smooth path, K >= 2; any D coordinates, such as joint positions and the tool's way.
        speed: Limit of each coordinate, (D,) [unit/s].
        acceleration: Limit of each coordinate, (D,) [unit/s2].
        fps: Samples per second.

    Returns:
        (T, D): without the first point, with the last; None where no timing keeps the limits.

    Source: Pham and Pham (2018), "A new approach to time-optimal path parameterization based on reachability analysis".
    """
    curve = _curve(path)
    s, rate = _reach_speeds(curve, speed, acceleration)
    if rate is None:
        return None
    dt = 2.0 * np.diff(s) / np.maximum(rate[:-1] + rate[1:], 1e-9)
    t = np.concatenate([[0.0], np.cumsum(dt)])
    fine = np.arange(0.0, t[-1] + SMOOTH_S + FINE_S, FINE_S)
    way = _way_at(fine, t, s, rate)
    summed = np.concatenate([[0.0], np.cumsum(0.5 * (way[1:] + way[:-1]))]) * FINE_S
    smooth = (summed - np.interp(fine - SMOOTH_S, fine, summed)) / SMOOTH_S
    # Averaging carries speed into bends, and between grid points nothing is bounded: slow down by what is too much.
    velocity = np.gradient(curve(np.clip(smooth, 0.0, 1.0)), FINE_S, axis=0)
    too_fast = float((np.abs(velocity) / speed).max())
    too_sudden = float((np.abs(np.gradient(velocity, FINE_S, axis=0)) / acceleration).max())
    total = (t[-1] + SMOOTH_S) * max(1.0, too_fast, np.sqrt(too_sudden))
    count = max(1, int(np.ceil(total * fps)))
    out = curve(np.clip(np.interp(np.arange(1, count + 1) / count, fine / fine[-1], smooth), 0.0, 1.0))
    out[-1] = path[-1]
    return out


def _curve(path: np.ndarray) -> Any:
    """A curve through the points, over 0 to 1, at a parameter that grows with the distance in the widest coordinate."""
    from toppra import SplineInterpolator

    steps = np.abs(np.diff(path, axis=0)).max(1)
    keep = np.concatenate([[True], steps > 1e-9])
    path = path[keep] if keep.sum() > 1 else np.stack([path[0], path[0] + 1e-9])
    knots = np.concatenate([[0.0], np.cumsum(np.abs(np.diff(path, axis=0)).max(1))])
    return SplineInterpolator(knots / knots[-1], path, bc_type="natural")


def _reach_speeds(curve: Any, speed: np.ndarray, acceleration: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """Grid (G,) along a curve and the speed ds/dt (G,) there, None where there is none."""
    from toppra.algorithm import TOPPRA
    from toppra.constraint import JointAccelerationConstraint, JointVelocityConstraint

    limits = [
        JointVelocityConstraint(np.stack([-speed, speed], 1)),
        JointAccelerationConstraint(np.stack([-acceleration, acceleration], 1)),
    ]
    grid = np.linspace(0.0, 1.0, GRID + 1)
    solver: Any = TOPPRA(limits, curve, gridpoints=grid, solver_wrapper="seidel")
    rate = solver.compute_parameterization(0.0, 0.0)[1]
    return grid, None if rate is None else np.maximum(rate, 0.0)


def _way_at(times: np.ndarray, t: np.ndarray, s: np.ndarray, rate: np.ndarray) -> np.ndarray:
    """Way s at ``times``, from grid times (G,), ways and speeds: the acceleration is constant between grid points."""
    k = np.clip(np.searchsorted(t, times, side="right") - 1, 0, len(t) - 2)
    since = np.clip(times - t[k], 0.0, t[k + 1] - t[k])
    acceleration = (rate[k + 1] - rate[k]) / np.maximum(t[k + 1] - t[k], 1e-12)
    return np.clip(s[k] + rate[k] * since + 0.5 * acceleration * since**2, 0.0, 1.0)
