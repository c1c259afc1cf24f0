"""Setting up what lies: which of a thing's axes belongs up, where it then stands, and how it is taken as it lies."""

from __future__ import annotations

from itertools import product, zip_longest

import numpy as np

from phototwin.errors import PlanError
from phototwin.frames import rotation_z
from phototwin.plan.cell import Workcell
from phototwin.plan.grasp import Grasps, propose_grasps
from phototwin.plan.grasp_score import centre_of_mass
from phototwin.plan.places import Others, free_spots, turn_between_axes
from phototwin.plan.region import Region
from phototwin.scene import SceneObject, depth_inside

LIES_RATIO = 1.5
"""What is this much longer than high in the photo lies there."""
LEANS_RAD = np.deg2rad(20.0)
"""A thing whose axis is this far from the vertical does not stand."""
AS_STOOD_RAD = np.deg2rad(5.0)
"""Up to here the grasps of the standing thing serve."""
FOOT_M = 0.004
"""What is this close to the lowest point bears weight."""
STEADY_SHARE = 0.1
"""The centre of mass lies this deep inside the foot at least, as a share of the foot's width."""
RELEASE_M = 0.003
TURNS_RAD = tuple(np.pi / 4 * k for k in (0, 1, -1, 2, -2, 3, -3, 4))


def standing_axes(item: SceneObject) -> np.ndarray:
    """Unit axes of the object, (A, 3), of which one points up when it stands.

    The one that points up in the photo; where the thing lies in the photo, those ends of its longest axis on which it can stand.
    """
    long_way = float(max(item.size_m[:2]))
    lies = not item.hollow and long_way > LIES_RATIO * float(item.size_m[2]) - 1e-6
    if not lies:
        return np.array([[0.0, 0.0, 1.0]])
    axis = np.eye(3)[int(np.argmax(item.size_m[:2]))]
    ends = [end for end in (axis, -axis) if _stands_on(item, end)]
    return np.array(ends) if ends else np.array([[0.0, 0.0, 1.0]])


def _stands_on(item: SceneObject, up: np.ndarray) -> bool:
    """Whether the object stays up on the end opposite to ``up`` (3,)."""
    points = item.mesh.points.astype(np.float64) @ turn_between_axes(up, np.array([0.0, 0.0, 1.0])).T
    centre = turn_between_axes(up, np.array([0.0, 0.0, 1.0])) @ centre_of_mass(item.mesh)
    foot = points[points[:, 2] < points[:, 2].min() + FOOT_M][:, :2]
    if len(foot) < 3 or np.ptp(foot, axis=0).min() < 1e-3:
        return False
    from scipy.spatial import ConvexHull

    outline = foot[ConvexHull(foot).vertices]
    return bool(depth_inside(outline, centre[:2]) > STEADY_SHARE * np.ptp(foot, axis=0).min())


def upright_poses(
    item: SceneObject, T_now: np.ndarray, others: Others, cell: Workcell, rng: np.random.Generator
) -> list[np.ndarray]:
    """Poses (4, 4) in which the object stands, near where it lies, with several turns.

    Raises:
        PlanError: It stands already, cannot stand, or has no room.
    """
    axes = standing_axes(item)
    lean = [float(np.arccos(np.clip((T_now[:3, :3] @ a)[2], -1.0, 1.0))) for a in axes]
    if min(lean) < LEANS_RAD:
        raise PlanError(f"The {item.name} stands upright already: there is nothing to set up.")
    sign = 1.0 if rng.random() < 0.5 else -1.0
    poses = []
    for turn, axis in product(TURNS_RAD, axes):
        R = rotation_z(sign * turn) @ turn_between_axes(T_now[:3, :3] @ axis, np.array([0.0, 0.0, 1.0])) @ T_now[:3, :3]
        poses.append(free_spots(item, R, T_now[:2, 3], others, cell.scene, RELEASE_M))
    poses = [T for nearest in zip_longest(*poses) for T in nearest if T is not None]
    if not poses:
        raise PlanError(f"There is no room to set the {item.name} up where it lies: clear the support around it.")
    return poses


def grasps_as_it_lies(cell: Workcell, item: SceneObject, T_now: np.ndarray, region: Region | None) -> Grasps:
    """Grasps for the way the object lies or stands now: the cell's own where it is as in the photo, otherwise those in the region that is asked for.

    Raises:
        PlanError: It cannot be grasped as it lies.
    """
    up = T_now[2, :3]  # the vertical in the object's frame
    if up[2] > np.cos(AS_STOOD_RAD) and item.key in cell.grasps:
        return cell.grasps[item.key]
    return propose_grasps(item, cell.robot, (), T_now, 0, region=region)
