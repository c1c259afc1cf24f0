"""What a vision policy is shown: the blended frames of the photo's camera, and of its own body what drives tell."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from isaaclab.envs.mdp import last_action
from isaaclab.managers import ManagerTermBase, ObservationTermCfg

from phototwin_tasks.looks import attempt_blenders, make_looks, render
from phototwin_tasks.mdp.shown import gripper_state, tool_state

if TYPE_CHECKING:
    from phototwin_tasks.twin_env import TwinEnv


class BlendedFrames(ManagerTermBase):
    """The photo as it would look with robot and objects where they are now, and where they were first, (N, 6, H, W), as ``frame_input`` gives it.

    The hand hides what it is about to take; what was seen when the attempt began tells where that is. Drawn from the poses by ``renderer``; every attempt has the looks that it has drawn.

    Args:
        cfg: Its ``params`` hold ``renderer``, the name of one that needs no camera in the environment.
        env: The environment; frames have its ``cfg.resolution``.
    """

    def __init__(self, cfg: ObservationTermCfg, env: TwinEnv) -> None:
        super().__init__(cfg, env)
        self._looks = make_looks(env, str(cfg.params["renderer"]))
        self._blenders = [self._looks.still] * env.num_envs
        self._first: np.ndarray | None = None
        self._begins = np.ones(env.num_envs, dtype=bool)

    def reset(self, env_ids: Sequence[int] | None = None) -> None:
        """Take the looks of the attempts that begin."""
        env: Any = self._env
        ids = torch.arange(env.num_envs, device=env.device)[slice(None) if env_ids is None else env_ids]
        # A reset has counted them on already.
        attempts = (env.attempt[ids] - env.num_envs) % (env.cfg.randomize_pool or torch.iinfo(torch.int64).max)
        for i, blender in zip(ids.tolist(), attempt_blenders(env, self._looks, attempts.tolist()), strict=True):
            self._blenders[i] = blender
        self._begins[ids.cpu().numpy()] = True

    def __call__(self, env: TwinEnv, renderer: str) -> torch.Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        """One frame of every environment."""
        rgb = np.stack([frame.rgb for frame in render(env, self._looks, self._blenders, env.common_step_counter)])
        if self._first is None:
            self._first = rgb.copy()
        self._first[self._begins] = rgb[self._begins]
        self._begins[:] = False
        return frame_input(rgb, self._first).to(env.device)


def frame_input(rgb: np.ndarray, first: np.ndarray) -> torch.Tensor:
    """Frames of now and of when the attempts began, each (N, H, W, 3) uint8, as a network gets them, (N, 6, H, W) float32 in -0.5..0.5."""
    return torch.from_numpy(np.concatenate([rgb, first], -1)).permute(0, 3, 1, 2).float() / 255.0 - 0.5


def proprioception(env: TwinEnv) -> torch.Tensor:
    """What a robot knows of itself: where its tool is and what it was told, ``tool_state``, ``gripper_state`` and the last action, (N, 16)."""
    return torch.cat([tool_state(env), gripper_state(env), last_action(env)], -1)
