"""Pouring: the held thing is tilted about its rim, and the lowest point of the rim stays over the target's opening."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import product

import numpy as np

from phototwin.frames import make_T, rotation_z, transform
from phototwin.plan.cell import Workcell
from phototwin.plan.legs import PEAK_SPEED_M_S, Deed, Others, carry_height, lift_leg, put_legs, standing_on, way_to
from phototwin.plan.paths import FREE, LINE, STAY, Leg
from phototwin.plan.places import RELEASE_M
from phototwin.plan.task import Step
from phototwin.robots import approach_distance
from phototwin.scene import SceneObject

TILT_RAD = np.deg2rad(110.0)
TILT_STEP_RAD = np.deg2rad(10.0)
TILT_SPEED_M_S = 0.25
HOLD_S = 0.8
"""At the end of the tilt: what is poured needs time to run out."""
ABOVE_M = 0.03
"""Lowest point of the tilted thing above the target's rim."""
RIM_M = 0.004
"""What is this close to the top belongs to the rim."""
LIP_SHARE = 0.5
"""A grasp further to the side of the lip than this share of the rim's radius would be poured over."""
WAYS = 12
TURNS_RAD = (0.0, np.pi)


@dataclass(frozen=True, eq=False)
class Tilt:
    """A tilt of an upright thing.

    Attributes:
        way_w: Horizontal unit direction in which it is poured, (3,).
        rim_o: The point of its rim that becomes the lowest, object frame, (3,) [m].
        T_world_object: Poses from upright to poured, (K, 4, 4) [m].
    """

    way_w: np.ndarray
    rim_o: np.ndarray
    T_world_object: np.ndarray


def rim_points(item: SceneObject) -> np.ndarray:
    """Points (P, 3) of the object's rim, object frame: what is as high as its highest point."""
    points = item.mesh.points.astype(np.float64)
    return points[points[:, 2] > points[:, 2].max() - RIM_M]


def opening(item: SceneObject) -> tuple[np.ndarray, float]:
    """Middle of the object's opening, (3,) in its frame, and its radius [m]: of what lies inside its rim."""
    rim = rim_points(item)
    low, high = rim.min(0), rim.max(0)
    return 0.5 * (low + high), 0.5 * float((high - low)[:2].min())


@lru_cache(maxsize=64)
def outline(item: SceneObject) -> np.ndarray:
    """Corners (P, 3) of the object's convex hull, object frame: among them is its lowest point, however it is tilted."""
    from scipy.spatial import ConvexHull

    points = item.mesh.points.astype(np.float64)
    return points[ConvexHull(points).vertices]


def make_tilt(
    item: SceneObject, R_upright: np.ndarray, way_w: np.ndarray, target: SceneObject, T_target: np.ndarray
) -> Tilt:
    """The tilt of an object about its rim over a target, from orientation ``R_upright`` (3, 3), in direction ``way_w`` (3,).

    The rim's lowest point stays above the middle of the opening, and the whole thing ``ABOVE_M`` above the target.
    """
    rim = rim_points(item)
    rim_o = rim[int(np.argmax((rim @ R_upright.T) @ way_w))]
    middle = transform(T_target, opening(target)[0])
    floor = float(transform(T_target, target.mesh.points.astype(np.float64))[:, 2].max()) + ABOVE_M
    points = (outline(item) - rim_o) @ R_upright.T
    axis = np.cross([0.0, 0.0, 1.0], way_w)
    poses = []
    for angle in np.linspace(0.0, TILT_RAD, round(TILT_RAD / TILT_STEP_RAD) + 1):
        R = _turn(axis, float(angle))
        height = floor - float((points @ R[2]).min())
        pivot = np.array([middle[0], middle[1], height])
        poses.append(make_T(R @ R_upright, pivot - R @ R_upright @ rim_o))
    return Tilt(way_w, rim_o, np.array(poses))


def _turn(axis: np.ndarray, angle: float) -> np.ndarray:
    """Rotation (3, 3) about a unit axis. Source: Rodrigues' formula."""
    K = np.array([[0.0, -axis[2], axis[1]], [axis[2], 0.0, -axis[0]], [-axis[1], axis[0], 0.0]])
    return np.eye(3) + np.sin(angle) * K + (1.0 - np.cos(angle)) * K @ K


def pour_deeds(
    step: Step, cell: Workcell, T_world_objects: dict[str, np.ndarray], others: Others, rng: np.random.Generator
) -> list[Deed]:
    """Ways to pour the step's object over its target and to put it back, towards the base first: there the wrist turns furthest."""
    item, target = cell.scene.object(step.object), cell.scene.object(str(step.target))
    T_now, T_target = T_world_objects[item.key], T_world_objects[target.key]
    toward_base = cell.T_world_base[:2, 3] - T_target[:2, 3]
    start = float(np.arctan2(toward_base[1], toward_base[0])) + rng.uniform(-0.2, 0.2)
    deeds = []
    for turn, k in product(TURNS_RAD, range(WAYS)):
        angle = start + 2.0 * np.pi * ((k + 1) // 2) * (-1.0) ** k / WAYS
        way = np.array([np.cos(angle), np.sin(angle), 0.0])
        tilt = make_tilt(item, rotation_z(turn) @ T_now[:3, :3], way, target, T_target)
        deeds.append(_pour_deed(item, T_now, tilt, others, approach_distance(cell.robot)))
    return deeds


def _pour_deed(item: SceneObject, T_now: np.ndarray, tilt: Tilt, others: Others, back_m: float) -> Deed:
    """Lift, carry over the target, tilt, hold, tilt back, and put it back where it stood."""
    upright, poured = tilt.T_world_object[0], tilt.T_world_object[1:]
    height = max(carry_height(item, T_now, upright, others), float(upright[2, 3]))
    goal = T_now.copy()
    goal[2, 3] += RELEASE_M
    under = standing_on(item, T_now, others)

    def legs(T_object_tool: np.ndarray) -> Sequence[Leg]:
        there, back = poured @ T_object_tool, tilt.T_world_object[-2::-1] @ T_object_tool
        return (
            lift_leg(T_now, T_object_tool, height, under),
            Leg("carry over", way_to(upright @ T_object_tool), FREE, PEAK_SPEED_M_S, False, True),
            Leg("tilt", there, LINE, TILT_SPEED_M_S, False, True),
            Leg("pour", there[-1:], STAY, HOLD_S, False, True),
            Leg("tilt back", back, LINE, TILT_SPEED_M_S, False, True),
            *put_legs(goal, T_object_tool, height, under, back_m),
        )

    def leaves_the_lip_free(T_object_tool: np.ndarray) -> bool:
        middle, radius = opening(item)
        return float(upright[:3, :3] @ (T_object_tool[:3, 3] - middle) @ tilt.way_w) < LIP_SHARE * radius

    return Deed(goal, legs, tilt.T_world_object[[-1, 0]], "tilt", suits=leaves_the_lip_free)


def rim_over_target(
    item: SceneObject, T_world_object: np.ndarray, target: SceneObject, T_target: np.ndarray
) -> np.ndarray:
    """Offset (..., 2) of the lowest point of the object's rim from the middle of the target's opening [m], for poses (..., 4, 4)."""
    rim_w = rim_points(item) @ np.swapaxes(T_world_object[..., :3, :3], -1, -2) + T_world_object[..., None, :3, 3]
    lowest = np.take_along_axis(rim_w, rim_w[..., 2].argmin(-1)[..., None, None], axis=-2)[..., 0, :]
    return lowest[..., :2] - transform(T_target, opening(target)[0])[:2]


def tilt_angle(T_world_object: np.ndarray) -> np.ndarray:
    """Angle (...) between the object's own vertical and the world's, for poses (..., 4, 4) [rad]."""
    return np.arccos(np.clip(T_world_object[..., 2, 2], -1.0, 1.0))
