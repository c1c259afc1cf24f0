"""Noise on what a robot executes while the plan's own commands are recorded: demonstrations that show the way back."""

from __future__ import annotations

import numpy as np

from phototwin.errors import InputError
from phototwin.plan.ik import Arm, tool_jacobian

MOST_NOISE_M = 0.05
"""More of it and grasps are missed and things hit."""
MEMORY_S = 0.3
"""Time over which noise forgets itself: the tool wanders, it does not tremble."""
STILL_S, FULL_S = 0.1, 0.8
"""So long before and after the fingers move, and at the ends, there is none; from the second on there is all."""
DAMPING = 0.05
"""Of the least squares that turn moves of the tool into moves of the joints; near a singularity they stay small."""


def path_noise(
    arm: Arm, q: np.ndarray, gripper_open: np.ndarray, fps: float, seed: int | np.random.SeedSequence, std_m: float
) -> np.ndarray:
    """What is added to the joint positions of a path so that the tool wanders about it, (T, J) float32 [rad].

    An Ornstein-Uhlenbeck process along each axis, whose size fades where the fingers are about to move.

    Args:
        arm: The arm.
        q: Joint positions, (T, J).
        gripper_open: (T,) bool.
        fps: Their rate [Hz].
        seed: Of what is drawn.
        std_m: Root mean square distance of the tool from its path where the noise is full [m].

    Raises:
        InputError: ``std_m`` is negative or beyond ``MOST_NOISE_M``.

    Source: Laskey et al., "DART: Noise Injection for Robust Imitation Learning", 2017: from such demonstrations a policy
    learns to correct its own errors, which it never sees in clean ones.
    """
    check_noise(std_m)
    steps = len(q)
    keep = float(np.exp(-1.0 / (MEMORY_S * fps)))
    drawn = np.random.default_rng(seed).standard_normal((steps, 3))
    wander = np.zeros((steps, 3))
    for t in range(1, steps):
        wander[t] = keep * wander[t - 1] + np.sqrt(1 - keep**2) * drawn[t]
    wander *= (std_m / np.sqrt(3) * _strength(np.asarray(gripper_open), fps))[:, None]
    J = np.stack([tool_jacobian(arm, row)[:3] for row in np.asarray(q, np.float64)])
    lifted = J @ J.transpose(0, 2, 1) + DAMPING**2 * np.eye(3)
    moved = q + (J.transpose(0, 2, 1) @ np.linalg.solve(lifted, wander[..., None]))[..., 0]
    return (np.clip(moved, np.minimum(arm.lower, q), np.maximum(arm.upper, q)) - q).astype(np.float32)


def check_noise(std_m: float) -> None:
    """Refuse noise that cannot be meant.

    Raises:
        InputError: It is negative or beyond ``MOST_NOISE_M``.
    """
    if not 0 <= std_m <= MOST_NOISE_M:
        raise InputError(f"The noise on the tool is {std_m} m, expected 0 to {MOST_NOISE_M} m.")


def _strength(gripper_open: np.ndarray, fps: float) -> np.ndarray:
    """How much of the noise there is, (T,) in 0..1."""
    steps = len(gripper_open)
    events = np.concatenate([[0, steps - 1], np.flatnonzero(np.diff(gripper_open.astype(int))) + 1])
    away_s = np.abs(np.arange(steps)[:, None] - events).min(1) / fps
    return np.clip((away_s - STILL_S) / (FULL_S - STILL_S), 0.0, 1.0)
