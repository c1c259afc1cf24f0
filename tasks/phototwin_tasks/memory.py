"""What success looks back on: where things were when a step began, and whether something was poured since."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from phototwin_tasks.mdp.observations import object_pose

if TYPE_CHECKING:
    from phototwin.plan.task import Step
    from phototwin_tasks.twin_env import TwinEnv


@dataclass
class Memory:
    """Of S steps in N environments with O objects.

    Attributes:
        starts: Pose of every object when an environment began a step, (S, N, O, 7): x, y, z [m], quat_xyzw.
        poured: Whether a step's object has poured since then, (S, N) bool.
    """

    starts: torch.Tensor
    poured: torch.Tensor


def make_memory(steps: int, num_envs: int, objects: int, device: str) -> Memory:
    """An empty memory."""
    starts = torch.zeros(steps, num_envs, objects, 7, device=device)
    starts[..., 6] = 1
    return Memory(starts, torch.zeros(steps, num_envs, dtype=torch.bool, device=device))


def begin_step(env: TwinEnv, env_ids: torch.Tensor, index: torch.Tensor | int) -> None:
    """Environments ``env_ids`` (M,) begin the steps ``index`` (M,) now."""
    env.progress[env_ids] = index
    index = env.progress[env_ids]
    poses = torch.stack([object_pose(env, item.key) for item in env.twin.objects], 1)
    env.memory.starts[index, env_ids] = poses[env_ids]
    env.memory.poured[index, env_ids] = False


def step_index(env: TwinEnv, step: Step) -> int:
    """Which step of the task it is; the same one may come twice."""
    return next(i for i, other in enumerate(env.task.steps) if other is step)


def pose_at_start(env: TwinEnv, step: Step, key: str = "") -> torch.Tensor:
    """Pose of a step's object, or of another, when it began, (N, 7)."""
    row = [item.key for item in env.twin.objects].index(key or step.object)
    return env.memory.starts[step_index(env, step), :, row]


def has_poured(env: TwinEnv, step: Step) -> torch.Tensor:
    """True where the object has poured since the step began, (N,) bool."""
    return env.memory.poured[step_index(env, step)]
