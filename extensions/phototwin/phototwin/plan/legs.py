"""The legs that skills share: taking a thing, carrying it over others, putting it down."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from phototwin.frames import make_T, transform
from phototwin.plan.collision import SUPPORT
from phototwin.plan.paths import FREE, LINE, STAY, Leg
from phototwin.plan.places import Others
from phototwin.scene import SceneObject

AIR_SPEED_M_S = 0.60
"""Peak tool speed with empty hands."""
PEAK_SPEED_M_S = 0.30
CONTACT_SPEED_M_S = 0.15
"""Peak tool speed with a held object, and on the way to where something is touched; a minimum-jerk way ends much slower."""
LIFT_SPEED_M_S = 0.22
SETTLE_S = 0.25
CLOSE_S = 0.6
OPEN_S = 0.5
HOLD_S = 0.5
REST_S = 0.3
CARRY_CLEARANCE_M = 0.05
"""The held object passes this far above what it is carried over."""
LOWEST_CARRY_M = 0.10
NEAR_M = 0.06
"""The last part of the way down to a place, taken slowly."""


@dataclass(frozen=True, eq=False)
class Deed:
    """One way to do what is asked with an object once it is held.

    Attributes:
        T_world_goal: Where the object shall end, (4, 4) [m].
        legs: Legs after the gripper has closed, for a grasp T_object_tool (4, 4).
        T_world_hard: Where the object is when the arm's reach is put to the test, (K, 4, 4) [m].
        hard: Name of the leg that leads there.
        onto: What the object may touch there.
        suits: Which grasps T_object_tool (4, 4) it can be done with.
        opens: Whether the gripper opens at the goal.
    """

    T_world_goal: np.ndarray
    legs: Callable[[np.ndarray], Sequence[Leg]]
    T_world_hard: np.ndarray
    hard: str
    onto: tuple[str, ...] = ()
    suits: Callable[[np.ndarray], bool] = lambda T_object_tool: True
    opens: bool = True


def drawn_back(T_world_tool: np.ndarray, distance_m: float) -> np.ndarray:
    """The tool pose (4, 4) that far back along its Z."""
    return T_world_tool @ make_T(np.eye(3), np.array([0.0, 0.0, -distance_m]))


def raised(T: np.ndarray, height_m: float) -> np.ndarray:
    """The pose (4, 4) with its origin at that height in the world, where that is higher."""
    out = T.copy()
    out[2, 3] = max(height_m, float(T[2, 3]))
    return out


def way_to(T: np.ndarray) -> np.ndarray:
    """A pose (4, 4) as the single one that a leg passes."""
    return T[None]


def approach_legs(grasp: np.ndarray, back_m: float) -> tuple[Leg, ...]:
    """From anywhere to a closed gripper: the tool pose ``grasp`` (4, 4) in the world, come to from ``back_m`` before it."""
    return (
        Leg("before the object", way_to(drawn_back(grasp, back_m)), FREE, AIR_SPEED_M_S, True),
        Leg("reach", way_to(grasp), LINE, CONTACT_SPEED_M_S, True, handles=True),
        Leg("settle", way_to(grasp), STAY, SETTLE_S, True, handles=True),
        Leg("close", way_to(grasp), STAY, CLOSE_S, False, handles=True),
    )


def lift_deed(T_world_object: np.ndarray, T_world_goal: np.ndarray, under: Sequence[str]) -> Deed:
    """Straight from where it stands to a pose above; ``under`` is what it may touch as it leaves."""

    def legs(T_object_tool: np.ndarray) -> Sequence[Leg]:
        up = way_to(T_world_goal @ T_object_tool)
        return (
            Leg("lift", up, LINE, LIFT_SPEED_M_S, False, True, tuple(under)),
            Leg("hold", up, STAY, HOLD_S, False, True),
        )

    return Deed(T_world_goal, legs, T_world_goal[None], "lift", opens=False)


def lift_leg(T_world_object: np.ndarray, T_object_tool: np.ndarray, height_m: float, under: Sequence[str]) -> Leg:
    """Straight up until the object's origin is at that height."""
    up = raised(T_world_object, height_m) @ T_object_tool
    return Leg("lift", way_to(up), LINE, LIFT_SPEED_M_S, False, True, tuple(under))


def put_legs(
    T_world_goal: np.ndarray,
    T_object_tool: np.ndarray,
    height_m: float,
    onto: Sequence[str],
    back_m: float,
    lower_m_s: float = CONTACT_SPEED_M_S,
    level: bool = True,
) -> tuple[Leg, ...]:
    """From where the held object is, over its goal at that height of its origin, down, open, and ``back_m`` back."""
    place = T_world_goal @ T_object_tool
    over = raised(T_world_goal, height_m) @ T_object_tool
    near = raised(T_world_goal, min(height_m, float(T_world_goal[2, 3]) + NEAR_M)) @ T_object_tool
    touches = tuple(onto)
    legs = [Leg("carry", way_to(over), FREE, PEAK_SPEED_M_S, False, True, level=level)]
    if over[2, 3] - near[2, 3] > NEAR_M:
        legs.append(Leg("come down", way_to(near), LINE, PEAK_SPEED_M_S, False, True, touches))
    legs += [
        Leg("lower", way_to(place), LINE, lower_m_s, False, True, touches),
        Leg("settle", way_to(place), STAY, SETTLE_S, False, True, touches),
        Leg("open", way_to(place), STAY, OPEN_S, True, handles=True),
        Leg("retreat", way_to(drawn_back(place, back_m)), LINE, LIFT_SPEED_M_S, True, handles=True),
        Leg("rest", way_to(drawn_back(place, back_m)), STAY, REST_S, True),
    ]
    return tuple(legs)


def carry_height(item: SceneObject, T_start: np.ndarray, T_end: np.ndarray, others: Others) -> float:
    """Height of the object's origin at which it is carried over everything near its straight way [m]."""
    points = item.mesh.points.astype(np.float64)
    below = max(float(-(points @ T[2, :3]).min()) for T in (T_start, T_end))
    radius = max(float(np.hypot(*(points @ T[:2, :3].T).T).max()) for T in (T_start, T_end))
    top, start, end = 0.0, T_start[:2, 3], T_end[:2, 3]
    for other, T in others:
        around = transform(T, other.mesh.points.astype(np.float64))
        share = np.clip((T[:2, 3] - start) @ (end - start) / max(float((end - start) @ (end - start)), 1e-12), 0.0, 1.0)
        size = float(np.hypot(*(around[:, :2] - T[:2, 3]).T).max())
        apart = float(np.linalg.norm(start + share * (end - start) - T[:2, 3])) - size
        if apart < radius + CARRY_CLEARANCE_M:
            top = max(top, float(around[:, 2].max()))
    return max(top + CARRY_CLEARANCE_M, LOWEST_CARRY_M) + below


def standing_on(item: SceneObject, T_world_object: np.ndarray, others: Others) -> tuple[str, ...]:
    """Keys of what an object may stand on or lean against where it is: the support, and what its bounding box meets."""
    points = transform(T_world_object, item.mesh.points.astype(np.float64))
    lower, upper = points.min(0) - 0.005, points.max(0) + 0.005
    keys = [SUPPORT]
    for other, T in others:
        around = transform(T, other.mesh.points.astype(np.float64))
        if ((around.min(0) < upper) & (around.max(0) > lower)).all():
            keys.append(other.key)
    return tuple(keys)
