"""What is seen of a batch of attempts: frames as they come, or poses from which the frames that are wanted are made afterwards."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from phototwin.blend.blend import Frames
from phototwin.scene import Camera
from phototwin_tasks.looks import Looks, attempt_blenders, owner_poses, render, render_attempt
from phototwin_tasks.twin_env import TwinEnv


class Film:
    """The frames of a batch.

    Where frames follow from poses alone, only those of successful attempts are drawn, many at once: half of the work otherwise goes into
    attempts that fail or have ended.

    Args:
        env: The environment, as it stands when the attempts begin.
        looks: What makes frames; None for none.
        attempts: Index of the attempt of each environment.
    """

    def __init__(self, env: TwinEnv, looks: Looks | None, attempts: Sequence[int]) -> None:
        self._env, self._looks, self._attempts = env, looks, list(attempts)
        self._blenders = [] if looks is None else attempt_blenders(env, looks, self._attempts)
        self._frames: list[list[Frames]] = [[] for _ in attempts]
        self._poses: list[list[dict[str, np.ndarray]]] = [[] for _ in attempts]
        self._start = {} if looks is None or looks.live else owner_poses(env)

    def see(self, running: Sequence[int], step: int) -> None:
        """Look at the environments that are still at it, before step ``step``."""
        if self._looks is None:
            return
        if self._looks.live:
            frames = render(self._env, self._looks, self._blenders, step)
            for i in running:
                self._frames[i].append(frames[i])
            return
        poses = owner_poses(self._env)
        for i in running:
            self._poses[i].append({name: T[i] for name, T in poses.items()})

    def camera(self, index: int) -> Camera:
        """The camera of an environment's frames."""
        return self._blenders[index].plate.camera if self._blenders else self._env.crop.camera

    def frames(self, index: int) -> dict[str, np.ndarray]:
        """All frames of an environment's attempt: ``rgb`` (T, H, W, 3), ``raw_rgba`` (T, H, W, 4), ``raw_depth_mm`` and ``raw_labels`` (T, H, W), ``seam`` (T,); T is 0 where none were made."""
        camera = self.camera(index)
        size = (0, camera.height, camera.width)
        found: dict[str, np.ndarray] = {
            "rgb": np.zeros((*size, 3), np.uint8),
            "raw_rgba": np.zeros((*size, 4), np.uint8),
            "raw_depth_mm": np.zeros(size, np.uint16),
            "raw_labels": np.zeros(size, np.uint8),
            "seam": np.zeros(0, np.float32),
        }
        if self._frames[index]:
            made = {name: [getattr(frame, name) for frame in self._frames[index]] for name in found}
            return found | {name: np.stack(each) for name, each in made.items() if each[0] is not None}
        if self._poses[index]:
            frames = self._draw(index, self._poses[index], 0)
            return found | {name: value for name in found if (value := getattr(frames, name)) is not None}
        return found

    def last(self, index: int) -> np.ndarray:
        """The last that was seen of an environment's attempt, (H, W, 3) uint8; of no size where nothing was."""
        if self._frames[index]:
            return self._frames[index][-1].rgb
        if not self._start:
            return np.zeros((0, 0, 3), np.uint8)
        seen = self._poses[index]
        poses = seen[-1] if seen else {name: T[index] for name, T in self._start.items()}
        return self._draw(index, [poses], max(len(seen) - 1, 0)).rgb[0]

    def _draw(self, index: int, poses: list[dict[str, np.ndarray]], first: int) -> Frames:
        assert self._looks is not None
        stacked = {name: np.stack([row[name] for row in poses]) for name in poses[0]}
        blender = self._blenders[index]
        return render_attempt(self._env, self._looks, blender, self._attempts[index], stacked, first)
