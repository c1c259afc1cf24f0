"""Resets."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from phototwin.frames import quat_xyzw_from_matrix
from phototwin.plan.randomize import RandomizeConfig, sample_object_poses

if TYPE_CHECKING:
    from phototwin_tasks.twin_env import TwinEnv


def reset_objects(env: TwinEnv, env_ids: torch.Tensor | slice, ranges: dict[str, float]) -> None:
    """Put every object where the attempt of its environment has it: attempt 0 as in the photo, the others moved at random.

    ``ranges`` are the fields of ``RandomizeConfig``. An attempt draws from ``SeedSequence([seed, attempt])`` alone, so its poses do not depend on what ran before.
    """
    randomize = RandomizeConfig(**ranges)
    ids = torch.arange(env.num_envs, device=env.device)[env_ids]
    poses = np.zeros((len(env.twin.objects), len(ids), 7), dtype=np.float32)
    for column, attempt in enumerate(env.attempt[ids].tolist()):
        sampled = sample_object_poses(env.twin, env.crop.camera, env.T_world_base, env.run_seed, attempt, randomize)
        for row, item in enumerate(env.twin.objects):
            T = sampled[item.key]
            poses[row, column, :3], poses[row, column, 3:] = T[:3, 3], quat_xyzw_from_matrix(T[:3, :3])
    for row, item in enumerate(env.twin.objects):
        pose = torch.from_numpy(poses[row]).to(env.device)
        pose[:, :3] += env.scene.env_origins[ids]
        body = env.scene[item.key]
        index = ids.to(torch.int32)
        body.write_root_pose_to_sim_index(root_pose=pose, env_ids=index)
        body.write_root_velocity_to_sim_index(root_velocity=torch.zeros(len(ids), 6, device=env.device), env_ids=index)
    env.attempt[ids] += env.num_envs
    env.progress[ids] = 0
