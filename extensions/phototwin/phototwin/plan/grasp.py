"""Parallel-gripper grasps on a closed mesh: antipodal pairs, tilts about them, free of the object, the support and the neighbours.

Everything is in the object frame, for the object as it rests now: standing, lying or leaning. What counts is which way is up
there and how high the object is, so the grasps hold wherever it is moved or turned on the support. Tool frame: origin
between the pads, +Z out of the palm, the fingers slide along Y; the gripper comes, and goes, along its Z.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from phototwin.errors import PlanError
from phototwin.frames import invert, transform
from phototwin.plan.grasp_contacts import (
    MAX_TILT_RAD,
    Pairs,
    antipodal_pairs,
    half_turned,
    sample_surface,
    tool_poses,
)
from phototwin.plan.grasp_score import score_grasps, spread, weight_share
from phototwin.plan.gripper import (
    CONTACT_SLACK_M,
    NEIGHBOUR_MARGIN_M,
    TIP_CLEARANCE_M,
    gripper_boxes,
    gripper_clears,
    gripper_is_free,
    raise_above_support,
)
from phototwin.plan.ik import Arm, solve_poses
from phototwin.plan.region import HELD, Region, grasps_hold
from phototwin.robots import Robot, approach_distance
from phototwin.scene import SceneObject

__all__ = [
    "MAX_TILT_RAD",
    "NEIGHBOUR_MARGIN_M",
    "TIP_CLEARANCE_M",
    "Grasps",
    "gripper_boxes",
    "gripper_is_free",
    "obstacle_points",
    "propose_grasps",
    "reachable_grasps",
    "sample_surface",
]

SAMPLES = 500
"""Surface points from which an opposite side is looked for."""
SURFACE_POINTS, REGION_POINTS = 2500, 20000
"""Points that these are taken from: the first, or where a part is asked for, those on it."""
OBSTACLE_POINTS = 600
MAX_CANDIDATES = 2500
LEANS = (0.0, 0.4, 0.8)
"""Shares of the friction cone by which closing directions lean to the level, tried one after another: squarely first."""


class TooHeavyError(PlanError):
    """Grasps are free, but none holds the weight."""


@dataclass(frozen=True, eq=False)
class Grasps:
    """Grasps of one object, best first.

    Attributes:
        T_object_tool: Tool poses in the object frame, (G, 4, 4) [m].
        width_m: Distance between the pads at contact, (G,) [m].
        score: Quality in 0..1, (G,).
    """

    T_object_tool: np.ndarray
    width_m: np.ndarray
    score: np.ndarray


def propose_grasps(
    item: SceneObject,
    robot: Robot,
    obstacles: tuple[tuple[SceneObject, np.ndarray], ...],
    T_world_object: np.ndarray,
    seed: int,
    count: int = 64,
    candidates: int = MAX_CANDIDATES,
    region: Region | None = None,
    least_tilt_rad: float = 0.0,
) -> Grasps:
    """Up to ``count`` grasps of an object as it rests on the support, best first, each also with the tool turned by half a turn.

    Args:
        item: What to grasp.
        robot: Whose gripper.
        obstacles: Other objects with their poses T_world_object (4, 4).
        T_world_object: Pose of the object, (4, 4), in any orientation.
        seed: Of the surface samples.
        count: How many, duplicates by half a turn included.
        candidates: How many are tried at most; a few hundred tell whether there is any.
        region: The part of it that both pads shall touch; anywhere where it is None.
        least_tilt_rad: By how much the tool must lean from the vertical.

    Raises:
        PlanError: The object is too wide for the gripper, lies too flat, is too heavy, cannot be held there, or no grasp is free.
    """
    refusal = None
    for lean in LEANS:
        try:
            pairs = _pairs(item, T_world_object[2, :3], seed, region, lean)
            return _free_grasps(
                item, robot, obstacles, T_world_object, seed, count, candidates, region, least_tilt_rad, pairs
            )
        except TooHeavyError:
            raise
        except PlanError as error:
            refusal = refusal or error
    assert refusal is not None
    raise refusal


def _pairs(item: SceneObject, up: np.ndarray, seed: int, region: Region | None, lean: float) -> Pairs:
    """Antipodal pairs of points all over the surface, or of those in a region.

    Raises:
        PlanError: The region has none.
    """
    points, normals = sample_surface(item.mesh, SURFACE_POINTS if region is None else REGION_POINTS, seed)
    if region is not None:
        there = region.at(points, normals) >= HELD
        points, normals = points[there], normals[there]
    pairs = antipodal_pairs(item, points[:SAMPLES], normals[:SAMPLES], up, lean)
    if region is None:
        return pairs
    pairs = pairs.only(region.hold(pairs.middle, pairs.closing, pairs.width_m) >= HELD)
    if not len(pairs.width_m):
        raise PlanError(
            f"The {item.name} cannot be held by its {region.part}: it has no two opposite sides there. Name another part."
        )
    return pairs


def _free_grasps(
    item: SceneObject,
    robot: Robot,
    obstacles: tuple[tuple[SceneObject, np.ndarray], ...],
    T_world_object: np.ndarray,
    seed: int,
    count: int,
    candidates: int,
    region: Region | None,
    least_tilt_rad: float,
    pairs: Pairs,
) -> Grasps:
    """The best grasps that take one of the pairs.

    Raises:
        PlanError: There is none; the message says what is in the way.
    """
    up, height = T_world_object[2, :3], float(T_world_object[2, 3])
    pairs = _fitting(item, robot, pairs, up, f" by its {region.part}" if region else "")
    T, pair = tool_poses(pairs, robot, up)
    T, holds = raise_above_support(T, robot, up, height)
    T, pair = T[holds], pair[holds]
    if not len(T):
        points_up = item.mesh.points.astype(np.float64) @ up
        raise PlanError(
            f"The {item.name} lies too flat to grasp: where the gripper could close on it "
            f"({1000 * np.ptp(points_up):.0f} mm high in all), the fingertips would be in the support."
        )
    width, quality = pairs.width_m[pair], pairs.quality[pair]
    leaning = T[:, :3, 2] @ up >= -np.cos(least_tilt_rad) - 1e-9
    if not leaning.any():
        raise PlanError(f"The {item.name} cannot be held from the side.")
    T, width, quality = T[leaning], width[leaning], quality[leaning]
    if len(T) > candidates:
        pick = np.random.default_rng(seed).permutation(len(T))[:candidates]
        T, width, quality = T[pick], width[pick], quality[pick]
    free = gripper_clears(item, np.eye(4), T, width, robot, CONTACT_SLACK_M)
    for other, T_world_other in obstacles:
        T_object_other = invert(T_world_object) @ T_world_other
        free[free] = gripper_clears(other, T_object_other, T[free], width[free], robot, -NEIGHBOUR_MARGIN_M)
    if not free.any():
        raise PlanError(
            f"No free grasp of the {item.name} was found: each of {len(T)} candidates lets the gripper hit the object, "
            "the support or a neighbour. Give the object more room, or choose another one."
        )
    torque, share = weight_share(item, robot, up, T, width)
    if not (free & (share <= 1.0)).any():
        raise TooHeavyError(
            f"The {item.name} is too heavy to hold where the gripper can take it: its weight of {9.81 * item.mass_kg:.1f} N "
            f"turns it with {torque[free].min():.1f} N m, more than the {robot.name}'s pads resist."
        )
    free &= share <= 1.0
    T, width, quality = T[free], width[free], quality[free]
    score = score_grasps(item, robot, up, T, width, quality)
    if region is not None:
        score = score * grasps_hold(region, T, width, robot)
    if robot.one_jaw:
        order = spread(T, score, max(1, count), halves_differ=True)
        return Grasps(T[order], width[order], score[order])
    order = spread(T, score, max(1, count // 2), halves_differ=False)
    both = np.stack([T[order], half_turned(T[order])], 1).reshape(-1, 4, 4)
    return Grasps(both, *(np.repeat(values[order], 2) for values in (width, score)))


def _fitting(item: SceneObject, robot: Robot, pairs: Pairs, up: np.ndarray, where: str) -> Pairs:
    """The pairs that the open gripper takes between its pads.

    Raises:
        PlanError: All are too wide, or there are none.
    """
    # A gripper that may tilt by so much cannot close along a steeper line.
    level = np.abs(pairs.closing @ up) < np.sin(MAX_TILT_RAD)
    narrow = level & (pairs.width_m <= robot.max_width_m)
    if narrow.any():
        return pairs.only(narrow)
    across = f"{1000 * pairs.width_m[level].min():.0f} mm across" if level.any() else "without two opposite sides"
    raise PlanError(
        f"The {item.name} is too wide to grasp{where}: at its narrowest it is {across}, "
        f"and the {robot.name}'s gripper takes {1000 * robot.max_width_m:.0f} mm."
    )


def reachable_grasps(arm: Arm, T_base_object: np.ndarray, T_object_tool: np.ndarray) -> np.ndarray:
    """Which grasps (G, 4, 4) the arm reaches, and before them the place ``approach_distance`` back from which it comes, (G,) bool."""
    T = T_base_object @ T_object_tool
    q, hit = solve_poses(arm, T, arm.home)
    before = T.copy()
    before[:, :3, 3] -= approach_distance(arm.robot) * T[:, :3, 2]
    hit[hit] = solve_poses(arm, before[hit], q[hit])[1]
    return hit


def obstacle_points(item: SceneObject, T_frame_object: np.ndarray) -> np.ndarray:
    """Surface points (P, 3) of an object in another frame, the same ones every time."""
    return transform(T_frame_object, sample_surface(item.mesh, OBSTACLE_POINTS, 0)[0])
