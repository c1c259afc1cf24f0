"""Where a held object may be put down: on, in or next to another, upright, with several turns."""

from __future__ import annotations

from itertools import product

import numpy as np

from phototwin.errors import PlanError
from phototwin.frames import make_T, rotation_z, transform
from phototwin.plan.grasp import SURFACE_POINTS, sample_surface
from phototwin.plan.task import Step
from phototwin.robots import Robot
from phototwin.scene import Scene, SceneObject, depth_inside

Others = tuple[tuple[SceneObject, np.ndarray], ...]
"""Objects with their poses T_world_object (4, 4)."""
LIFT_M = 0.18
"""A long thing held at one end hangs lower at the other: with 16 cm a bowl held at its rim missed 10 cm of clearance."""
SHORT_LEANS_RAD = (0.0, 0.3, 0.6, 0.9)
RELEASE_M = 0.004
"""The held object is let go this far above where it shall stand."""
GAPS_M = (0.03, 0.04)
"""Gaps between neighbours for "next to"."""
STACK_RELEASE_M = 0.002
"""What is stacked falls less far."""
NEIGHBOUR_ROOM_M = 0.01
"""Kept free around an object that is put down beside another, or into another."""
BESIDE_TURNS_RAD = (0.0, np.pi / 2, -np.pi / 2)
LEVEL_M = 0.01
"""Step in height at which the inside of a vessel is measured."""
OFF_CENTRE_M = 0.015
"""A grasp may be this far from the object's axis."""
LEVEL_RAD = np.deg2rad(30.0)
"""What leans less than this is meant to be upright."""
SPOT_SHIFTS_M = (
    (0.0, 0.0),
    *((r * np.cos(a), r * np.sin(a)) for r in (0.06, 0.12) for a in np.arange(0.0, 6.2, np.pi / 3)),
)


def goal_poses(
    step: Step,
    scene: Scene,
    T_world_objects: dict[str, np.ndarray],
    robot: Robot,
    T_world_base: np.ndarray,
    rng: np.random.Generator,
) -> list[np.ndarray]:
    """Poses (4, 4) where the step's object may end, upright, best first: above its place (lift), or placed with several turns.

    Raises:
        PlanError: It does not fit, or there is no free side.
    """
    item = scene.object(step.object)
    T_now = T_world_objects[item.key]
    if step.target is None:
        return lift_poses(T_now, robot, T_world_base)
    target = scene.object(step.target)
    T_target = T_world_objects[target.key]
    if step.relation == "next to":
        return _beside(item, target, scene, T_world_objects, T_world_base)
    bottoms = _bottoms_in(item, target, robot) if step.relation == "in" else [_bottom_on(item, target)]
    origin_z = T_target[2, 3] - float(item.mesh.points[:, 2].min())
    if step.skill == "stack":
        bottoms = [bottom + STACK_RELEASE_M - RELEASE_M for bottom in bottoms]
    first = _turn_onto(item, T_now, target, T_target) if step.skill == "stack" else 0.0
    upright = levelled(T_now[:3, :3])
    turned = [rotation_z(first + turn) @ upright for turn in _turns(rng)]
    return [make_T(R, np.array([*T_target[:2, 3], origin_z + bottom])) for bottom in bottoms for R in turned]


def lift_poses(T_now: np.ndarray, robot: Robot, T_world_base: np.ndarray) -> list[np.ndarray]:
    """Poses (4, 4) of a lifted thing: straight above where it is.

    In the hand of an arm of fewer than six joints it may lean outwards too: raised, such a hand does not point down any more.
    """
    T_up = T_now.copy()
    T_up[2, 3] += LIFT_M
    away = T_now[:2, 3] - T_world_base[:2, 3]
    away = np.array([*away / max(float(np.linalg.norm(away)), 1e-9), 0.0])
    up = np.array([0.0, 0.0, 1.0])
    poses = []
    for lean in SHORT_LEANS_RAD if robot.free_axis else (0.0,):
        down = -np.cos(lean) * up + np.sin(lean) * away  # where what pointed down points to
        poses.append(make_T(turn_between_axes(-up, down) @ T_now[:3, :3], T_up[:3, 3]))
    return poses


def _turn_onto(item: SceneObject, T_now: np.ndarray, target: SceneObject, T_target: np.ndarray) -> float:
    """The smallest turn about the vertical that lines up the sides of two things, round ones aside [rad]."""
    if "box" not in (item.shape, target.shape) or {"revolution", "sphere", "cylinder"} & {item.shape, target.shape}:
        return 0.0
    yaw = [float(np.arctan2(T[1, 0], T[0, 0])) for T in (T_now, T_target)]
    return (yaw[1] - yaw[0] + np.pi / 4) % (np.pi / 2) - np.pi / 4


def levelled(R: np.ndarray) -> np.ndarray:
    """An orientation (3, 3) with its Z straight up where it nearly is: what hangs in a gripper leans a little."""
    up = R[:, 2]
    return turn_between_axes(up, np.array([0.0, 0.0, 1.0])) @ R if up[2] > np.cos(LEVEL_RAD) else R


def turn_between_axes(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The smallest rotation (3, 3) that takes unit vector ``a`` to ``b``. Source: Rodrigues' formula."""
    axis, cosine = np.cross(a, b), float(a @ b)
    if cosine < -1.0 + 1e-9:
        side = np.cross(a, np.eye(3)[int(np.argmin(np.abs(a)))])
        side /= np.linalg.norm(side)
        return 2.0 * np.outer(side, side) - np.eye(3)
    K = np.array([[0.0, -axis[2], axis[1]], [axis[2], 0.0, -axis[0]], [-axis[1], axis[0], 0.0]])
    return np.eye(3) + K + K @ K / (1.0 + cosine)


def free_spots(
    item: SceneObject, R: np.ndarray, near_w: np.ndarray, others: Others, scene: Scene, drop_m: float = RELEASE_M
) -> list[np.ndarray]:
    """Poses (4, 4) with orientation ``R`` (3, 3) on the support at and around a point (2,), where footprints stay apart."""
    points = item.mesh.points.astype(np.float64) @ R.T
    low, high = points[:, :2].min(0) - NEIGHBOUR_ROOM_M, points[:, :2].max(0) + NEIGHBOUR_ROOM_M
    feet = [transform(T, o.mesh.points.astype(np.float64))[:, :2] for o, T in others]
    spots = []
    for shift in SPOT_SHIFTS_M:
        place = near_w + np.array(shift)
        apart = all((f.min(0) > high + place).any() or (f.max(0) < low + place).any() for f in feet)
        if apart and depth_inside(scene.support.polygon_w, place) > 0.0:
            spots.append(make_T(R, np.array([*place, drop_m - float(points[:, 2].min())])))
    return spots


def _bottom_on(item: SceneObject, target: SceneObject) -> float:
    """Height of the object's bottom on top of the target, in the target's frame [m]; in a dished one, of what lies under it."""
    points = sample_surface(target.mesh, SURFACE_POINTS, 0)[0]
    under = points[np.hypot(*points[:, :2].T) <= 0.5 * float(np.hypot(*item.size_m[:2]))]
    return float((under if target.hollow and len(under) else target.mesh.points)[:, 2].max()) + RELEASE_M


def _bottoms_in(item: SceneObject, target: SceneObject, robot: Robot) -> list[float]:
    """Heights at which the object's bottom may be let go into a vessel, in the vessel's frame, lowest first [m].

    At the rim always: fingertips are never below what they hold, so the open gripper is then above the rim. Lower, where
    the inner wall leaves room for the open fingers and the object.

    Raises:
        PlanError: The opening is too small.
    """
    points = sample_surface(target.mesh, SURFACE_POINTS, 0)[0]
    radius, rim = np.hypot(*points[:, :2].T), float(target.mesh.points[:, 2].max())
    levels = np.arange(rim - 0.5 * LEVEL_M, float(target.mesh.points[:, 2].min()), -LEVEL_M)
    inner = np.array([radius[np.abs(points[:, 2] - z) <= 0.5 * LEVEL_M].min(initial=np.inf) for z in levels])
    width = float(min(item.size_m[:2]))
    if width > 2.0 * inner[0]:
        raise PlanError(
            f"The {item.name} does not fit in the {target.name}: it is {1000 * width:.0f} mm wide, "
            f"the opening {2000 * inner[0]:.0f} mm."
        )
    fingers = float(np.hypot(robot.finger_open_m + robot.finger_size_m[0], 0.5 * robot.finger_size_m[1]))
    needed = max(fingers + OFF_CENTRE_M, 0.5 * float(np.hypot(*item.size_m[:2]))) + NEIGHBOUR_ROOM_M
    deep = int(np.argmin(np.append(inner, 0.0) >= needed))
    lowered = [rim - LEVEL_M * deep + RELEASE_M] if deep else []
    return [*lowered, rim + RELEASE_M]


def _turns(rng: np.random.Generator) -> list[float]:
    """Turns about the vertical, small ones first."""
    sign = 1.0 if rng.random() < 0.5 else -1.0
    return [0.0, *(sign * s * np.pi / 4 * k for k in (1, 2, 3) for s in (1, -1)), np.pi]


def _beside(
    item: SceneObject,
    target: SceneObject,
    scene: Scene,
    T_world_objects: dict[str, np.ndarray],
    T_world_base: np.ndarray,
) -> list[np.ndarray]:
    """Upright poses on the support beside the target on free sides, nearest to where the object is first."""
    T_now, T_target = T_world_objects[item.key], T_world_objects[target.key]
    beside = transform(T_target, target.mesh.points.astype(np.float64))[:, :2] - T_target[:2, 3]
    others = [
        transform(T_world_objects[o.key], o.mesh.points.astype(np.float64))[:, :2]
        for o in scene.objects
        if o.key not in (item.key, target.key)
    ]
    height = RELEASE_M - float(item.mesh.points[:, 2].min())
    places = []
    for gap, angle, turn in product(GAPS_M, np.linspace(0.0, 2.0 * np.pi, 12, endpoint=False), BESIDE_TURNS_RAD):
        R = rotation_z(turn) @ levelled(T_now[:3, :3])
        outline = item.mesh.points[:, :2].astype(np.float64) @ R[:2, :2].T
        side = np.array([np.cos(angle), np.sin(angle)])
        place = T_target[:2, 3] + ((beside @ side).max() - (outline @ side).min() + gap) * side
        radius = float(np.hypot(*outline.T).max())
        if min((np.hypot(*(points - place).T).min() for points in others), default=np.inf) < radius + NEIGHBOUR_ROOM_M:
            continue
        outside = bool(depth_inside(scene.support.polygon_w, place) < 0)
        way, far = np.linalg.norm(place - T_now[:2, 3]), np.linalg.norm(place - T_world_base[:2, 3])
        cost = float(way + 0.5 * far + 10.0 * outside + 0.02 * abs(turn))
        places.append((cost, make_T(R, np.array([*place, height]))))
    if not places:
        raise PlanError(f"There is no free side next to the {target.name} for the {item.name}: make room.")
    return [T for _, T in sorted(places, key=lambda pair: pair[0])]
