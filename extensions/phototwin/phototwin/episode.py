"""Episode: one attempt of a robot at a task, as arrays with their provenance."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass(frozen=True, eq=False)
class Episode:
    """One attempt. T steps; everything is in the world frame of the twin; poses are x, y, z, qx, qy, qz, qw.

    Row t of ``rgb``, the states and the poses is what was seen before ``action[t]`` was applied.

    Attributes:
        attempt: Index of the attempt in its task; with the run's seed it determines the episode.
        seed: Seed of the run.
        success: Whether the task's success term held at the end.
        failure: Why not, one word of the rollout's failure classes; empty on success.
        instruction: What the robot was told.
        task: Family and objects of the task, as recorded in the dataset: ``plan.task.describe_task``.
        fps: Control and frame rate [Hz].
        robot: Name of the robot.
        joint_names: J joint names.
        object_keys: N keys of the scene's objects.
        rgb: (T, H, W, 3) uint8, robot and objects composited into the photo; T = 0 where nothing was rendered.
        raw_rgba: (T, H, W, 4) uint8, what was rendered before, alpha 255 where anything was; T = 0 where it was not kept.
        raw_depth_mm: (T, H, W) uint16, depth of what is seen, 0 = unknown; T = 0 where it was not kept.
        raw_labels: (T, H, W) uint8, whose each pixel is: 0 nobody's, i + 1 object i, 255 the robot; T = 0 where it was not kept.
        seam: (T,) float32, how much like a real photo the borders of what was composited look, 0 to 1; T = 0 without frames.
        joint_pos: (T, J) float32 [rad, m].
        joint_vel: (T, J) float32 [rad/s, m/s].
        tcp_pose_w: (T, 7) float32, the point between the finger pads.
        action: (T, A) float32, see ``action_names``.
        action_names: A names.
        executed: (T, A) float32, what the robot was told where noise was added to ``action``, which then is what should have been done; T = 0 elsewhere.
        object_poses_w: (T, N, 7) float32.
        object_velocities_w: (T, N, 6) float32, linear then angular.
        final_joint_pos: (J,) float32 after the last action.
        final_object_poses_w: (N, 7) float32 after the last action.
        base_pose_w: (7,) float32, the robot's base.
        K_px: (3, 3) float64 of the frames [px].
        T_world_camera: (4, 4) float64 of the frames.
        task_index: Index of the task in its run.
        last_rgb: (H, W, 3) uint8, the last that was seen of it; of no size where nothing was rendered. Not part of the dataset.
        provenance: Twin hash, backends, versions.
    """

    attempt: int
    seed: int
    success: bool
    failure: str
    instruction: str
    task: dict[str, str]
    fps: float
    robot: str
    joint_names: tuple[str, ...]
    object_keys: tuple[str, ...]
    rgb: np.ndarray
    joint_pos: np.ndarray
    joint_vel: np.ndarray
    tcp_pose_w: np.ndarray
    action: np.ndarray
    action_names: tuple[str, ...]
    object_poses_w: np.ndarray
    object_velocities_w: np.ndarray
    final_joint_pos: np.ndarray
    final_object_poses_w: np.ndarray
    base_pose_w: np.ndarray
    K_px: np.ndarray
    T_world_camera: np.ndarray
    raw_rgba: np.ndarray = field(default_factory=lambda: np.zeros((0, 0, 0, 4), np.uint8))
    raw_depth_mm: np.ndarray = field(default_factory=lambda: np.zeros((0, 0, 0), np.uint16))
    raw_labels: np.ndarray = field(default_factory=lambda: np.zeros((0, 0, 0), np.uint8))
    seam: np.ndarray = field(default_factory=lambda: np.zeros(0, np.float32))
    executed: np.ndarray = field(default_factory=lambda: np.zeros((0, 0), np.float32))
    task_index: int = 0
    last_rgb: np.ndarray = field(default_factory=lambda: np.zeros((0, 0, 3), np.uint8))
    provenance: dict[str, Any] = field(default_factory=dict)

    @property
    def commands(self) -> np.ndarray:
        """What the robot was told, (T, A): repeated from the first state they make the episode again."""
        return self.executed if len(self.executed) else self.action
