"""Demonstrations in memory of a task that is solved by looking: where the bright square is, there the arm shall go."""

from __future__ import annotations

import numpy as np
from test_data_lerobot import smooth_episode

from phototwin.data.lerobot import write_lerobot
from phototwin.learn.config import PolicyConfig, Shown
from phototwin.learn.demos import MARKS_B, Demos

PX = 48
STEPS = 6
BC = PolicyConfig("bc", "joint", image_px=PX, chunk=4, execute=2)
"""A policy that is trained in seconds."""


def square_demos(count=60, seed=0):
    """Episodes with one square each; the first two numbers of an action are its place (-1..1), the last opens left of the middle."""
    rng = np.random.default_rng(seed)
    places = rng.uniform(-0.8, 0.8, (count, 2)).astype(np.float32)
    grid = (np.arange(PX) + 0.5) / PX * 2 - 1
    inside = (np.abs(grid[None, None, :] - places[:, 0, None, None]) < 0.15) & (
        np.abs(grid[None, :, None] - places[:, 1, None, None]) < 0.15
    )
    rgb = np.where(inside[..., None], np.uint8(230), rng.integers(40, 80, (count, PX, PX, 1), dtype=np.uint8))
    frames = np.repeat(np.broadcast_to(rgb, (count, PX, PX, 3)), STEPS, 0)
    rows = np.repeat(places, STEPS, 0)
    state = np.concatenate([rows * 0, rng.normal(0, 1, (count * STEPS, 1))], 1).astype(np.float32)
    action = np.concatenate([rows, np.where(rows[:, :1] < 0, 1.0, -1.0)], 1).astype(np.float32)
    return Demos(
        rgb=np.ascontiguousarray(frames),
        state=state,
        action=action,
        places=np.concatenate([rows * np.nan, rows], 1),
        marks=np.zeros((count * STEPS, 2 * len(MARKS_B)), np.float32),
        K=np.broadcast_to(np.eye(3), (count, 3, 3)),
        starts=np.arange(count + 1) * STEPS,
        shown=(Shown("go to the square", "{}", "twin", seed),) * count,
        whole=np.ones(count, bool),
        fps=20,
        robot="panda",
        action_names=("x", "y", "gripper"),
        state_names=("a", "b", "c"),
        resolution=(PX, PX),
    )


def small_dataset(folder):
    """A LeRobot dataset of three short episodes, and these."""
    episodes = [smooth_episode(i, steps, (64, 48)) for i, steps in enumerate((13, 6, 9))]
    return write_lerobot(episodes, folder), episodes
