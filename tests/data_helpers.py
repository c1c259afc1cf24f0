"""Demonstrations that are physically possible, so that a check that finds something in them is wrong."""

import numpy as np

from phototwin.data.store import EpisodeStore, read_demos
from phototwin.episode import Episode

FPS = 20.0
JOINTS = tuple(f"panda_joint{i}" for i in range(1, 8))
FINGERS = ("panda_finger_joint1", "panda_finger_joint2")


def possible_frames(attempt, steps, size):
    """(T, H, W, 3): a smooth still background and a bright block that moves two pixels a step; its colour is the attempt's."""
    width, height = size
    y, x = np.mgrid[:height, :width]
    rgb = np.zeros((steps, height, width, 3), np.uint8)
    rgb[..., 0] = 80 + 40 * np.sin(x / 9)
    rgb[..., 1] = 90 + 30 * np.cos(y / 7)
    rgb[..., 2] = 70
    for t in range(steps):
        left = 2 * t % (width - 12)
        rgb[t, 8:24, left : left + 12] = (220, 200 - 20 * attempt, 180)
    return rgb


def possible_episode(attempt, steps=30, size=(64, 48), **changes):
    """An attempt in which joints swing, one cube is carried along and one lies still."""
    time = (np.arange(steps + 1) / FPS)[:, None]
    speed = 0.8 + 0.1 * attempt + 0.05 * np.arange(9)
    joints = 0.4 * np.sin(speed * time) + 0.1 * np.arange(9)
    swing = 0.4 * speed * np.cos(speed * time)
    poses = np.zeros((steps + 1, 2, 7))
    poses[..., 6] = 1
    poses[:, 0, :3] = np.concatenate([0.4 + 0.1 * time, 0.01 * attempt + 0 * time, 0.03 + 0 * time], 1)
    poses[:, 1, :3] = (0.3, 0.2 + 0.02 * attempt, 0.02)
    velocities = np.zeros((steps, 2, 6))
    velocities[:, 0, 0] = 0.1
    tool = np.concatenate([poses[:-1, 0, :3], np.tile([1, 0, 0, 0], (steps, 1))], 1)
    rgb = possible_frames(attempt, steps, size)
    labels = np.where(rgb[..., 0] == 220, 255, rgb[..., 0] % 3).astype(np.uint8)
    values = {
        "attempt": attempt,
        "seed": 3,
        "success": True,
        "failure": "",
        "instruction": f"put the green cube on the yellow cube, {attempt}",
        "task": {"family": "place", "object": "green_cube"},
        "fps": FPS,
        "robot": "panda",
        "joint_names": (*JOINTS, *FINGERS),
        "object_keys": ("green_cube", "yellow_cube"),
        "rgb": rgb,
        "raw_rgba": np.concatenate([rgb[..., ::-1], labels[..., None]], -1),
        "raw_depth_mm": (600 + rgb[..., 1].astype(np.uint16)),
        "raw_labels": labels,
        "seam": np.linspace(0.6, 1.0, steps, dtype=np.float32),
        "joint_pos": joints[:-1].astype(np.float32),
        "joint_vel": swing[:-1].astype(np.float32),
        "tcp_pose_w": tool.astype(np.float32),
        "action": np.concatenate([joints[1:, :7], np.ones((steps, 1))], 1).astype(np.float32),
        "action_names": (*JOINTS, "gripper"),
        "object_poses_w": poses[:-1].astype(np.float32),
        "object_velocities_w": velocities.astype(np.float32),
        "final_joint_pos": joints[-1].astype(np.float32),
        "final_object_poses_w": poses[-1].astype(np.float32),
        "base_pose_w": np.array([0, 0, 0, 0, 0, 0, 1], np.float32),
        "K_px": np.array([[60.0, 0, size[0] / 2], [0, 60.0, size[1] / 2], [0, 0, 1]]),
        "T_world_camera": np.array([[0, -1, 0, 0.5], [-1, 0, 0, 0], [0, 0, -1, 0.8], [0, 0, 0, 1.0]]),
        "provenance": {"twin": "abc", "versions": {"numpy": "2"}},
    }
    return Episode(**(values | changes))


def fill_store(folder, count=4, **changes):
    """A store of ``count`` successful attempts, finished: ``episodes.hdf5`` and ``attempts.json``."""
    store = EpisodeStore(folder)
    for attempt in range(count):
        store.write(possible_episode(attempt, **({"steps": 30 + attempt} | changes)))
    store.finish(count)
    return store.file


def two_stores(folder):
    """Stores ``a`` and ``b`` of three and two demonstrations in ``folder``; the second's begin elsewhere."""
    fill_store(folder / "a", 3)
    store = EpisodeStore(folder / "b")
    for attempt in (7, 8):
        store.write(possible_episode(attempt, task={"family": "lift", "object": "yellow_cube"}))
    store.finish(2)
    return folder / "a", folder / "b"


def attempts(file):
    """Numbers of the attempts in a file, in its order."""
    return [e.attempt for e in read_demos(file, frames=False)]
