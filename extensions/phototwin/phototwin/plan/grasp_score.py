"""How good a grasp is: by itself, and for what shall be done with the object."""

from __future__ import annotations

import numpy as np

from phototwin.frames import transform
from phototwin.kernels.pierce import pierce_mesh
from phototwin.plan.grasp_contacts import MAX_TILT_RAD, surface
from phototwin.plan.gripper import PALM_CLEARANCE_M, TIP_CLEARANCE_M, grip_offset, gripper_boxes
from phototwin.plan.task import Step
from phototwin.robots import Robot, closing_command, match_joint
from phototwin.scene import Mesh, SceneObject

GRAVITY_M_S2 = 9.81
WIDTH_EASE_M = 0.012
"""With this much to spare on the opening, a small error of the object's pose does no harm."""
LEVER_M = 0.04
"""Distance of the centre of mass from the grasp at which holding gets hard: friction torque of pads about 2 cm wide."""
TOUCH_M = 0.0015
"""A pad touches what is this close to its plane."""
ASIDE_M = 0.01
"""How far along its pads a hand that goes where it was seen to go is off: a good grasp still holds there."""
ENOUGH_CONTACT = 0.4
"""Share of a pad that must touch: on less, as on two opposite edges, a thing turns away."""
PAD_GRID = (4, 5)
"""Points across and along a pad at which contact is looked for."""
NEAR_COPY_M = 0.008
NEAR_COPY_COSINE = 0.978
ALIKE_M, ALIKE_RAD = 0.03, np.deg2rad(30.0)
"""Grasps closer than this resemble each other."""
ALIKE_COST = 0.3
"""What a grasp that is like one already taken must be better by."""


def score_grasps(
    item: SceneObject, robot: Robot, up: np.ndarray, T: np.ndarray, width: np.ndarray, quality: np.ndarray
) -> np.ndarray:
    """Quality (G,) in 0..1: upright, close to the centre of mass, antipodal, wide contact on both pads, room in the opening.

    The contact is looked for 1 cm to either side, too, so that a hand that comes a little aside, as one that goes where it sees
    the object, still has the object between its pads.

    Args:
        item: The object.
        robot: Whose gripper.
        up: The world's vertical in the object frame, (3,).
        T: Tool poses in the object frame, (G, 4, 4).
        width: Between the pads, (G,) [m].
        quality: Of the contacts, (G,).
    """
    centre = centre_of_mass(item.mesh)
    held = T[:, :3, 3] + grip_offset(robot, width)[:, None] * T[:, :3, 1]
    away = centre - held
    x, y, z = (np.einsum("gi,gi->g", away, T[:, :3, k]) for k in range(3))
    # The weight turns the object about the closing axis through the lever along X, about X through the lever along Y.
    lever = np.hypot(x, 0.5 * y)
    height = np.clip((away @ up) / LEVER_M, 0.0, 1.0)  # below the centre of mass a thing tips over
    far_above = np.clip((np.abs(z) - 0.03) / 0.10, 0.0, 1.0)
    contact, left, right = (
        pad_contact(item.mesh, robot, _aside(T, by_m), width).min(1) for by_m in (0.0, -ASIDE_M, ASIDE_M)
    )
    steady = (contact + left + right) / 3.0
    room = np.clip((robot.max_width_m - width) / WIDTH_EASE_M, 0.0, 1.0)
    steepest = np.cos(MAX_TILT_RAD)
    upright = (-T[:, :3, 2] @ up - steepest) / (1.0 - steepest)
    score = 0.25 * upright + 0.25 * np.exp(-((lever / LEVER_M) ** 2)) + 0.15 * quality + 0.2 * steady + 0.15 * room
    score = np.clip(score - 0.15 * height - 0.1 * far_above, 0.0, 1.0)
    return score * (0.5 + 0.5 * np.minimum(contact / ENOUGH_CONTACT, 1.0))


def _aside(T: np.ndarray, by_m: float) -> np.ndarray:
    moved = T.copy()
    moved[:, :3, 3] += by_m * T[:, :3, 0]
    return moved


def grip_force(robot: Robot) -> float:
    """What each pad presses with at most [N]: the finger drive's, by the travel of the joint for that of the pad."""
    joint = robot.finger_joints[0]
    travel = abs(robot.fingers_open[0] - closing_command(robot)[0])
    effort = min(match_joint(robot.effort, joint) or np.inf, (match_joint(robot.stiffness, joint) or np.inf) * travel)
    pad_way = robot.finger_open_m * (2.0 if robot.one_jaw else 1.0)
    return effort * abs(robot.fingers_open[0] - robot.fingers_closed[0]) / pad_way


def weight_share(
    item: SceneObject, robot: Robot, up: np.ndarray, T: np.ndarray, width: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Torque of the object's weight that tears the pads open, (G,) [N m], and its share of what they resist: above 1 it hangs down.

    Pads that press with a force resist, about the axes along them, that force times half their length or width; about the
    closing direction a thing may turn.
    """
    held = T[:, :3, 3] + grip_offset(robot, width)[:, None] * T[:, :3, 1]
    torque = np.cross(centre_of_mass(item.mesh) - held, -item.mass_kg * GRAVITY_M_S2 * up)
    about = np.abs(np.stack([np.einsum("gi,gi->g", torque, T[:, :3, k]) for k in (0, 2)], 1))
    most = grip_force(robot) * np.array([robot.pad_half_m, 0.5 * robot.finger_size_m[1]])
    return about.max(1), (about / most).max(1)


def pad_contact(mesh: Mesh, robot: Robot, T: np.ndarray, width: np.ndarray) -> np.ndarray:
    """Share of each closed pad that touches the surface, (G, 2): at -Y, at +Y."""
    x = 0.4 * robot.finger_size_m[1] * np.linspace(-1.0, 1.0, PAD_GRID[0])
    z = 0.9 * robot.pad_half_m * np.linspace(-1.0, 1.0, PAD_GRID[1])
    grid = np.stack(np.meshgrid(x, z, indexing="ij"), -1).reshape(-1, 2)
    middle = grip_offset(robot, width)
    sides = np.array([-1.0, 1.0])
    local = np.zeros((len(T), 2, len(grid), 3))
    local[..., 0], local[..., 2] = grid[:, 0], grid[:, 1]
    local[..., 1] = (middle[:, None] + sides * (0.5 * width[:, None] + TOUCH_M))[..., None]
    origins = np.einsum("gij,gspj->gspi", T[:, :3, :3], local) + T[:, None, None, :3, 3]
    inwards = np.broadcast_to((-sides[:, None] * T[:, None, :3, 1])[:, :, None], origins.shape)
    rays = origins.reshape(-1, 3), inwards.reshape(-1, 3)
    distance, _ = pierce_mesh(surface(mesh), *rays, farthest_m=2.0 * TOUCH_M, most=1, threads=1)
    return np.isfinite(distance).reshape(len(T), 2, len(grid)).mean(2)


def centre_of_mass(mesh: Mesh) -> np.ndarray:
    """Centroid (3,) of the volume, by signed tetrahedra; of the bounding box where the mesh encloses none."""
    a, b, c = np.moveaxis(mesh.points.astype(np.float64)[mesh.faces], 1, 0)
    volume = np.einsum("fi,fi->f", a, np.cross(b, c)) / 6.0
    if abs(volume.sum()) < 1e-9:
        return 0.5 * (mesh.points.min(0) + mesh.points.max(0)).astype(np.float64)
    return (volume[:, None] * (a + b + c) / 4.0).sum(0) / volume.sum()


def spread(T: np.ndarray, score: np.ndarray, count: int, halves_differ: bool) -> np.ndarray:
    """Indices of up to ``count`` grasps, best first: good ones, and of them those that differ from each other.

    One after another the best is taken, less what it resembles those taken before; near copies (8 mm and 12 degrees) are left out. So there
    are grasps from several sides where an arm cannot reach the best. Turned by half a turn about its Z a gripper is the same,
    unless ``halves_differ``.
    Source: Carbonell and Goldstein (1998), maximal marginal relevance.
    """
    kept: list[int] = []
    alive, likeness = np.ones(len(T), dtype=bool), np.zeros(len(T))
    while len(kept) < count and alive.any():
        i = int(np.argmax(np.where(alive, score - ALIKE_COST * likeness, -np.inf)))
        kept.append(i)
        apart = np.linalg.norm(T[:, :3, 3] - T[i, :3, 3], axis=1)
        along = T[:, :3, 1] @ T[i, :3, 1]
        turned = np.minimum(along if halves_differ else np.abs(along), T[:, :3, 2] @ T[i, :3, 2])
        alive &= ~((apart < NEAR_COPY_M) & (turned > NEAR_COPY_COSINE))
        alive[i] = False
        turn = np.arccos(np.clip(turned, -1.0, 1.0))
        likeness = np.maximum(likeness, np.exp(-((apart / ALIKE_M) ** 2) - (turn / ALIKE_RAD) ** 2))
    return np.array(sorted(kept, key=lambda i: -score[i]), dtype=int)


def suit(
    T_object_tool: np.ndarray,
    step: Step,
    item: SceneObject,
    robot: Robot,
    T_world_object: np.ndarray,
    T_world_goal: np.ndarray | None = None,
) -> np.ndarray:
    """How well grasps suit what shall be done with the object, (G,) in 0..1, to be multiplied with their scores; 0: not at all.

    To put something down or set it up, the gripper must come clear of the support at the goal too; into a vessel it should
    come from above and hold the upper part; to set something up it should hold it near the end that goes up; to pour, the
    tool should come from the side, so that the wrist alone turns it, and leave the lip in front of it free.

    Args:
        T_object_tool: Grasps, (G, 4, 4).
        step: What shall be done.
        item: The object.
        robot: Whose gripper.
        T_world_object: Where it is, (4, 4).
        T_world_goal: Where it shall go, (4, 4); None where that is open.
    """
    fit = np.ones(len(T_object_tool))
    up = (T_world_object if T_world_goal is None else T_world_goal)[2, :3]
    points_up = item.mesh.points.astype(np.float64) @ up
    low, high = float(points_up.min()), float(points_up.max())
    held = np.clip((T_object_tool[:, :3, 3] @ up - low) / max(high - low, 1e-6), 0.0, 1.0)
    down = np.clip(-T_object_tool[:, :3, 2] @ up, -1.0, 1.0)
    if step.skill in ("place", "stack") and step.relation == "in":
        fit *= (0.5 + 0.5 * np.clip(down, 0.0, 1.0)) * (0.7 + 0.3 * held)
    elif step.skill in ("place", "stack"):
        fit *= 0.8 + 0.2 * held
    elif step.skill == "upright":
        fit *= 0.4 + 0.6 * held
    elif step.skill == "pour":
        fit *= (0.6 + 0.4 * np.sqrt(1.0 - down**2)) * (0.8 + 0.2 * held)
    if T_world_goal is not None and step.skill in ("place", "stack", "upright"):
        fit *= goal_is_clear(T_object_tool, robot, T_world_goal)
    return fit


def goal_is_clear(T_object_tool: np.ndarray, robot: Robot, T_world_goal: np.ndarray) -> np.ndarray:
    """Which grasps (G, 4, 4) keep the gripper above the support where the object is put down, (G,) bool."""
    lower, upper = gripper_boxes(robot)
    corners = np.stack([np.where([(k >> i) & 1 for i in range(3)], upper, lower) for k in range(8)], 1).reshape(-1, 3)
    heights = np.array([transform(T, corners)[:, 2] for T in T_world_goal @ T_object_tool]).reshape(-1, 3, 8)
    clear = 0.5 * np.array([TIP_CLEARANCE_M, TIP_CLEARANCE_M, PALM_CLEARANCE_M])
    return (heights.min(2) > clear).all(1)
