"""Dense rewards that every family shares."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from phototwin_tasks.mdp.observations import lowest_point, object_pose, tool_pose

if TYPE_CHECKING:
    from phototwin_tasks.twin_env import TwinEnv


def tool_to_object(env: TwinEnv, std_m: float) -> torch.Tensor:
    """Nearness of the tool to the first step's object, (N,) in 0..1."""
    distance = (tool_pose(env)[:, :3] - object_pose(env, env.task.steps[0].object)[:, :3]).norm(dim=-1)
    return 1 - torch.tanh(distance / std_m)


def height_above_rest(env: TwinEnv, height_m: float) -> torch.Tensor:
    """How far the first step's object is lifted, (N,), 1 at ``height_m`` and above."""
    return (lowest_point(env, env.task.steps[0].object) / height_m).clamp(0, 1)
