"""What is true of an object now, for every environment: how it stands, whether it moves, whether the gripper has it."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import torch
from isaaclab.utils.math import matrix_from_quat, quat_apply, quat_apply_inverse

from phototwin_tasks.mdp.observations import gripper_opening, object_pose, object_velocity, opening_of, tool_pose

if TYPE_CHECKING:
    from phototwin.scene import SceneObject
    from phototwin_tasks.twin_env import TwinEnv

REST_M_S, REST_RAD_S = 0.05, 0.6
"""What moves slower is at rest; a light thing on another trembles by a few cm/s, and rounded ones rock."""
OPEN_SHARE = 0.5
"""Share of the way that the fingers of a gripper that has let go are open."""
PRESS_SHARE = 0.1
"""Fingers that are commanded to be closed further than they are by more than this press on something."""
HAND_M = 0.04
"""What is farther from the tool point than this is not in the hand, open or closed."""
RIM_BAND_M = 0.006
"""Points this far below the highest one of a mesh belong to its top."""
KNOB_M = 0.005
"""Half the side of a top that is but a point."""


@lru_cache(maxsize=64)
def hull_points(item: SceneObject) -> np.ndarray:
    """Corners (P, 3) of the convex hull of an object's mesh, object frame [m]: what can be lowest, highest or outermost of it."""
    from scipy.spatial import ConvexHull

    points = item.mesh.points.astype(np.float64)
    return points[ConvexHull(points, qhull_options="QJ").vertices].astype(np.float32)


@lru_cache(maxsize=64)
def top_edges(item: SceneObject) -> tuple[np.ndarray, np.ndarray]:
    """The outline of an object's top as inward normals (K, 2) and offsets (K,): a point p lies over it where ``normals @ p + offsets >= 0``."""
    from scipy.spatial import ConvexHull

    points = item.mesh.points.astype(np.float64)
    top = points[points[:, 2] > points[:, 2].max() - RIM_BAND_M, :2]
    knob = top.mean(0) + KNOB_M * np.array([[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]])
    equations = ConvexHull(np.concatenate([top, knob])).equations
    return -equations[:, :2].astype(np.float32), -equations[:, 2].astype(np.float32)


def heights(env: TwinEnv, key: str, points_o: np.ndarray) -> torch.Tensor:
    """Heights of points (P, 3) of an object above the support, (N, P) [m]."""
    pose = object_pose(env, key)
    points = torch.as_tensor(points_o, dtype=pose.dtype, device=pose.device)
    return pose[:, 2:3] + matrix_from_quat(pose[:, 3:])[:, 2] @ points.T


def bottom(env: TwinEnv, key: str) -> torch.Tensor:
    """Height of an object's lowest point above the support, (N,) [m]."""
    return heights(env, key, hull_points(env.twin.object(key))).amin(-1)


def top(env: TwinEnv, key: str) -> torch.Tensor:
    """Height of an object's highest point above the support, (N,) [m]."""
    return heights(env, key, hull_points(env.twin.object(key))).amax(-1)


def axis_height(env: TwinEnv, key: str, axis_o: tuple[float, float, float] = (0.0, 0.0, 1.0)) -> torch.Tensor:
    """Cosine of the angle between an axis of an object and the vertical, (N,): 1 where it points up."""
    quat = object_pose(env, key)[:, 3:]
    return quat_apply(quat, quat.new_tensor(axis_o).expand(len(quat), 3))[:, 2]


def at_rest(env: TwinEnv, key: str, speed_m_s: float = REST_M_S) -> torch.Tensor:
    """True where an object hardly moves, (N,) bool."""
    velocity = object_velocity(env, key)
    return (velocity[:, :3].norm(dim=-1) < speed_m_s) & (velocity[:, 3:].norm(dim=-1) < REST_RAD_S)


def tool_distance(env: TwinEnv, key: str) -> torch.Tensor:
    """Distance from the tool point to an object's bounding box, (N,) [m]; 0 inside."""
    pose = object_pose(env, key)
    tool_o = quat_apply_inverse(pose[:, 3:], tool_pose(env)[:, :3] - pose[:, :3])
    half = torch.as_tensor(env.twin.object(key).size_m / 2, dtype=pose.dtype, device=pose.device)
    return (tool_o.abs() - half).clamp(min=0).norm(dim=-1)


def released(env: TwinEnv, key: str) -> torch.Tensor:
    """True where the gripper does not hold an object: it is open and does not press, or is elsewhere, (N,) bool.

    Fingers around a wide thing are far open too.
    """
    return ((gripper_opening(env) > OPEN_SHARE) & ~fingers_press(env)) | (tool_distance(env, key) > HAND_M)


def commanded_opening(env: TwinEnv) -> torch.Tensor:
    """Share of the way open that the fingers are commanded to, (N,), whatever is between them."""
    return opening_of(env, env.scene["robot"].data.joint_pos_target.torch)


def fingers_press(env: TwinEnv) -> torch.Tensor:
    """True where the fingers are commanded to be closed further than they are, (N,) bool: something stops them, or they are on their way."""
    return gripper_opening(env) - commanded_opening(env) > PRESS_SHARE


def centre_of_mass(env: TwinEnv, key: str) -> torch.Tensor:
    """Centre of mass of an object, in the frame of the environment, (N, 3) [m]."""
    return env.scene[key].data.root_com_pos_w.torch - env.scene.env_origins


def over_top(env: TwinEnv, points_w: torch.Tensor, key: str) -> torch.Tensor:
    """How deep points (N, 3) lie inside the outline of an object's top, seen along its own vertical, (N,) [m]; negative outside."""
    pose = object_pose(env, key)
    normals, offsets = (torch.as_tensor(a, device=pose.device) for a in top_edges(env.twin.object(key)))
    points_o = quat_apply_inverse(pose[:, 3:], points_w - pose[:, :3])
    return (points_o[:, :2] @ normals.T + offsets).amin(-1)
