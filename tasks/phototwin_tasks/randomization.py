"""The draws of an environment's attempts, as tensors for its reset events."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import numpy as np
import torch

from phototwin.frames import quat_xyzw_from_matrix
from phototwin.plan.randomize_draw import Draw, draw_attempt

if TYPE_CHECKING:
    from phototwin_tasks.twin_env import TwinEnv


@dataclass(frozen=True, eq=False)
class Starts:
    """What n attempts start from; tensors on the environment's device.

    Attributes:
        poses: Of all O objects in the frame of their environment, (n, O, 7): x, y, z [m], quat_xyzw.
        mass: Factor of every object's mass, (n, O).
        friction: Factor of friction, (n,).
        stiffness: Factor of the drives' stiffness, (n,).
        damping: Factor of their damping, (n,).
        gravity: Gravity, (n, 3) [m/s^2].
    """

    poses: torch.Tensor
    mass: torch.Tensor
    friction: torch.Tensor
    stiffness: torch.Tensor
    damping: torch.Tensor
    gravity: torch.Tensor

    def rows(self, index: torch.Tensor) -> Starts:
        """Those of some attempts."""
        return Starts(*(getattr(self, f.name)[index] for f in fields(self)))


def attempt_draw(env: TwinEnv, attempt: int) -> Draw:
    """What an attempt draws; kept, as several events and the frames ask for it."""
    if attempt not in env.draws:
        if len(env.draws) >= max(256, 4 * env.num_envs):
            env.draws.clear()
        env.draws[attempt] = draw_attempt(env.room, env.run_seed, attempt, env.randomization)
    return env.draws[attempt]


def attempt_starts(env: TwinEnv, env_ids: torch.Tensor) -> Starts:
    """What the next attempts of some environments start from.

    With ``cfg.randomize_pool`` attempt i starts as attempt i modulo that number: all are drawn once, and a reset only picks rows.
    """
    attempts = env.attempt[env_ids]
    pool = env.cfg.randomize_pool
    if not pool:
        return stack_draws([attempt_draw(env, a) for a in attempts.tolist()], str(env.device))
    if env.start_pool is None:
        draws = [draw_attempt(env.room, env.run_seed, a, env.randomization) for a in range(pool)]
        env.start_pool = stack_draws(draws, str(env.device))
    return env.start_pool.rows(attempts % pool)


def stack_draws(draws: Sequence[Draw], device: str) -> Starts:
    """Draws as tensors."""
    T = np.array([list(d.T_world_objects.values()) for d in draws]).reshape(len(draws), -1, 4, 4)
    poses = np.concatenate([T[..., :3, 3], quat_xyzw_from_matrix(T[..., :3, :3])], -1)

    def put(values: object) -> torch.Tensor:
        return torch.tensor(np.asarray(values), dtype=torch.float32, device=device)

    return Starts(
        put(poses),
        put([list(d.mass_factor.values()) for d in draws]).reshape(len(draws), -1),
        put([d.friction_factor for d in draws]),
        put([d.stiffness_factor for d in draws]),
        put([d.damping_factor for d in draws]),
        put([d.gravity_m_s2 for d in draws]),
    )
