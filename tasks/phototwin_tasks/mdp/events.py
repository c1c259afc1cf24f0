"""Resets: every attempt starts as it was drawn. Ranges are ``env.randomization``, draws those of ``plan.randomize_draw``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from phototwin_tasks.randomization import attempt_starts

if TYPE_CHECKING:
    from phototwin_tasks.twin_env import TwinEnv


def reset_objects(env: TwinEnv, env_ids: torch.Tensor | slice) -> None:
    """Put every object where the attempt of its environment has it, and count the attempts on: the last of the events."""
    ids = torch.arange(env.num_envs, device=env.device)[env_ids]
    index = ids.to(torch.int32)
    poses = attempt_starts(env, ids).poses
    still = torch.zeros(len(ids), 6, device=env.device)
    for row, item in enumerate(env.twin.objects):
        pose = poses[:, row].clone()
        pose[:, :3] += env.scene.env_origins[ids]
        body = env.scene[item.key]
        body.write_root_pose_to_sim_index(root_pose=pose, env_ids=index)
        body.write_root_velocity_to_sim_index(root_velocity=still, env_ids=index)
    env.attempt[ids] += env.num_envs
    env.progress[ids] = 0
