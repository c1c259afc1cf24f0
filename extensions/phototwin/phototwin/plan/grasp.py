"""Parallel-gripper grasps on a closed mesh: antipodal pairs, tilts about them, free of the object, the support and the neighbours.

Everything is in the object frame (Z up as the object stands), so the grasps hold wherever the object is moved or turned
on the support. Tool frame: origin between the pads, +Z out of the palm, the fingers slide along Y.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from phototwin.errors import PlanError
from phototwin.frames import invert, transform
from phototwin.robots import Robot
from phototwin.scene import Mesh, SceneObject

SAMPLES = 500
"""Surface points from which an opposite side is looked for."""
SURFACE_POINTS = 2500
OBSTACLE_POINTS = 600
MAX_TILT_RAD = np.deg2rad(60.0)
TURNS_RAD = np.deg2rad([0.0, -15.0, 15.0, -30.0, 30.0, -45.0, 45.0, -60.0, 60.0])
"""Turns about the closing direction that are tried, from the most upright approach."""
TIP_CLEARANCE_M = 0.003
"""Fingertips stay this far above the support: tracking is good to 1 mm when settled."""
PALM_CLEARANCE_M = 0.01
CONTACT_SLACK_M = 0.003
"""How far the object may bulge out between the pads' contact plane and the opening fingers."""
NEIGHBOUR_MARGIN_M = 0.004
APPROACH_M = 0.10
"""The gripper comes from this far back along its Z, and all that way must be free."""
MAX_CANDIDATES = 2500
WIDTH_EASE_M = 0.012
"""With this much to spare on the opening, a small error of the object's pose does no harm."""
LEVER_M = 0.04
"""Distance of the centre of mass from the grasp at which holding gets hard: friction torque of pads about 2 cm wide."""


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
) -> Grasps:
    """Up to ``count`` grasps of an object that stands on the support, best first, each also with the tool turned by half a turn.

    Args:
        item: What to grasp.
        robot: Whose gripper.
        obstacles: Other objects with their poses T_world_object (4, 4).
        T_world_object: Pose of the object, (4, 4), upright.
        seed: Of the surface samples.
        count: How many, duplicates by half a turn included.
        candidates: How many are tried at most; a few hundred tell whether there is any.

    Raises:
        PlanError: The object is too wide for the gripper, or no grasp is free.
    """
    surface, normals = sample_surface(item.mesh, SURFACE_POINTS, seed)
    contact, closing, width, quality = _antipodal_pairs(item, surface[:SAMPLES], normals[:SAMPLES])
    # A gripper that may tilt by 60 degrees cannot close along a steeper line.
    level = (np.abs(closing[:, 2]) < np.sin(MAX_TILT_RAD)) & (width > 1e-3)
    narrow = level & (width <= robot.max_width_m)
    if not narrow.any():
        across = f"{1000 * width[level].min():.0f} mm across" if level.any() else "without two opposite sides"
        raise PlanError(
            f"The {item.name} is too wide to grasp: at its narrowest it is {across}, "
            f"and the {robot.name}'s gripper takes {1000 * robot.max_width_m:.0f} mm."
        )
    T, width, quality = _tool_poses(contact[narrow], closing[narrow], width[narrow], quality[narrow])
    support_z = -float(T_world_object[2, 3])
    T, kept = _raise_above_support(T, robot, support_z)
    T, width, quality = T[kept], width[kept], quality[kept]
    if not len(T):
        raise PlanError(
            f"The {item.name} lies too flat to grasp: where the gripper could close on it ({1000 * item.size_m[2]:.0f} mm "
            "high in all), the fingertips would be in the support."
        )
    if len(T) > candidates:
        pick = np.random.default_rng(seed).permutation(len(T))[:candidates]
        T, width, quality = T[pick], width[pick], quality[pick]
    free = gripper_is_free(T, width, robot, surface, CONTACT_SLACK_M)
    for other, T_world_other in obstacles:
        points = obstacle_points(other, invert(T_world_object) @ T_world_other)
        free &= gripper_is_free(T, width, robot, points, -NEIGHBOUR_MARGIN_M)
    if not free.any():
        raise PlanError(
            f"No free grasp of the {item.name} was found: each of {len(T)} candidates lets the gripper hit the object, "
            "the support or a neighbour. Give the object more room, or choose another one."
        )
    T, width, quality = T[free], width[free], quality[free]
    score = _score(T, width, quality, item, robot, surface)
    order = _spread(T, score, max(1, count // 2))
    T, width, score = T[order], width[order], score[order]
    both = np.stack([T, T @ np.diag([-1.0, -1.0, 1.0, 1.0])], 1).reshape(-1, 4, 4)
    return Grasps(both, np.repeat(width, 2), np.repeat(score, 2))


def sample_surface(mesh: Mesh, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Points (count, 3) evenly spread over the surface and the outward normals (count, 3) there."""
    corners = mesh.points.astype(np.float64)[mesh.faces]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    area = np.linalg.norm(normals, axis=1)
    rng = np.random.default_rng(seed)
    face = rng.choice(len(area), count, p=area / area.sum())
    r = rng.random((2, count))
    u, v = 1.0 - np.sqrt(r[0]), r[1] * np.sqrt(r[0])
    points = corners[face, 0] + u[:, None] * (corners[face, 1] - corners[face, 0])
    points += v[:, None] * (corners[face, 2] - corners[face, 0])
    return points, normals[face] / area[face, None]


def obstacle_points(item: SceneObject, T_frame_object: np.ndarray) -> np.ndarray:
    """Surface points (P, 3) of an object in another frame, the same ones every time."""
    return transform(T_frame_object, sample_surface(item.mesh, OBSTACLE_POINTS, 0)[0])


def cast_rays(mesh: Mesh, origins: np.ndarray, directions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """All hits of rays with a mesh: ray index (H,), distance (H,) in units of the direction, face index (H,).

    Args:
        mesh: The mesh.
        origins: (N, 3).
        directions: (N, 3).

    Source: Pluecker's side test: a ray crosses a triangle where it passes all three edges on the same side.
    """
    a, b, c = np.moveaxis(mesh.points.astype(np.float64)[mesh.faces], 1, 0)
    moment = np.cross(origins, directions)
    sides = [directions @ np.cross(p, q).T + moment @ (q - p).T for p, q in ((a, b), (b, c), (c, a))]
    lowest, highest = np.minimum(np.minimum(*sides[:2]), sides[2]), np.maximum(np.maximum(*sides[:2]), sides[2])
    ray, face = np.nonzero((lowest >= 0) | (highest <= 0))
    normal = np.cross(b - a, c - a)[face]
    along = np.einsum("hi,hi->h", normal, directions[ray])
    solid = np.abs(along) > 1e-12
    ray, face, normal, along = ray[solid], face[solid], normal[solid], along[solid]
    return ray, np.einsum("hi,hi->h", normal, a[face] - origins[ray]) / along, face


def _antipodal_pairs(
    item: SceneObject, points: np.ndarray, normals: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Centres (P, 3), unit closing directions (P, 3), widths (P,) and quality (P,) of contacts within each other's friction cone."""
    directions = -normals
    ray, distance, face = cast_rays(item.mesh, points, directions)
    corners = item.mesh.points.astype(np.float64)[item.mesh.faces[face]]
    exit_normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    exit_normal /= np.linalg.norm(exit_normal, axis=1, keepdims=True) + 1e-30
    cosine = np.einsum("hi,hi->h", exit_normal, directions[ray])
    friction_cosine = 1.0 / np.sqrt(1.0 + item.friction**2)
    # The friction angle bounds the sum of both contacts' deviation where the closing direction may tilt between them.
    good = (distance > 1e-3) & (cosine >= friction_cosine)
    ray, distance, cosine, exit_normal = ray[good], distance[good], cosine[good], exit_normal[good]
    opposite = points[ray] + distance[:, None] * directions[ray]
    quality = (cosine - friction_cosine) / (1.0 - friction_cosine)
    return 0.5 * (points[ray] + opposite), directions[ray], distance, quality


def _tool_poses(
    contact: np.ndarray, closing: np.ndarray, width: np.ndarray, quality: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Tool poses (G, 4, 4) for each pair and each turn about its closing direction that is not tilted too far."""
    down = np.array([0.0, 0.0, -1.0])
    upright = down - (closing @ down)[:, None] * closing
    length = np.linalg.norm(upright, axis=1)
    usable = length > np.cos(MAX_TILT_RAD)
    contact, closing, width, quality = contact[usable], closing[usable], width[usable], quality[usable]
    upright = upright[usable] / length[usable, None]
    across = np.cross(closing, upright)
    cos, sin = np.cos(TURNS_RAD)[:, None, None], np.sin(TURNS_RAD)[:, None, None]
    approach = cos * upright + sin * across
    y = np.broadcast_to(closing, approach.shape)
    T = np.zeros((*approach.shape[:2], 4, 4))
    T[..., :3, 0] = np.cross(y, approach)
    T[..., :3, 1] = y
    T[..., :3, 2] = approach
    T[..., :3, 3] = contact
    T[..., 3, 3] = 1.0
    keep = approach[..., 2] <= -np.cos(MAX_TILT_RAD) + 1e-9
    turns = len(TURNS_RAD)
    return T[keep], np.tile(width, (turns, 1))[keep], np.tile(quality, (turns, 1))[keep]


def gripper_boxes(robot: Robot) -> tuple[np.ndarray, np.ndarray]:
    """The open gripper as boxes in the tool frame, (3, 2, 3) as lower and upper corners [m]: left finger, right finger, hand."""
    tip, palm = robot.pad_half_m, robot.pad_half_m - robot.finger_length_m
    half_x, outer = 0.5 * robot.finger_size_m[1], robot.finger_open_m + robot.finger_size_m[0]
    left = [[-half_x, robot.finger_open_m, palm], [half_x, outer, tip]]
    right = [[-half_x, -outer, palm], [half_x, -robot.finger_open_m, tip]]
    palm_x, palm_y = robot.palm_half_m
    hand = [[-palm_x, -palm_y, palm - robot.hand_depth_m], [palm_x, palm_y, palm]]
    boxes = np.array([left, right, hand])
    return boxes[:, 0], boxes[:, 1]


def _raise_above_support(T: np.ndarray, robot: Robot, support_z: float) -> tuple[np.ndarray, np.ndarray]:
    """Draw tools back along their Z until fingertips and palm clear the support; (G, 4, 4) and which still hold with their pads (G,)."""
    lower, upper = gripper_boxes(robot)
    corners = np.stack([np.where([(k >> i) & 1 for i in range(3)], upper, lower) for k in range(8)], 1)
    lowest = (T[:, 2, :3] @ corners.reshape(-1, 3).T).reshape(len(T), 3, 8).min(2) + T[:, 2, 3, None]
    needed = support_z + np.array([TIP_CLEARANCE_M, TIP_CLEARANCE_M, PALM_CLEARANCE_M]) - lowest
    back = np.maximum(needed.max(1), 0.0) / -T[:, 2, 2]
    out = T.copy()
    out[:, :3, 3] -= back[:, None] * T[:, :3, 2]
    return out, back <= robot.pad_half_m - 0.001


def gripper_is_free(T: np.ndarray, width: np.ndarray, robot: Robot, points: np.ndarray, slack_m: float) -> np.ndarray:
    """Which of the tool poses (G, 4, 4) keep the gripper clear of points (P, 3) of the same frame, (G,) bool.

    The fingers sweep from open to ``width`` (G,), the hand comes from ``APPROACH_M`` back. ``slack_m`` is how far points
    may reach into the fingers' way from the inside; negative keeps that distance on all sides instead.
    """
    lower, upper = gripper_boxes(robot)
    margin = max(0.0, -slack_m)
    half_x, outer, palm, tip = upper[0, 0] + margin, upper[0, 1] + margin, lower[0, 2], upper[0, 2] + margin
    free = np.empty(len(T), dtype=bool)
    for start in range(0, len(T), 256):
        part = slice(start, start + 256)
        inverse = invert(T[part])
        local = inverse[:, :3, :3] @ points.T + inverse[:, :3, 3, None]
        x, y, z = np.abs(local[:, 0]), np.abs(local[:, 1]), local[:, 2]
        inner = (0.5 * width[part] + slack_m)[:, None] if slack_m >= 0 else 0.0
        finger = (x < half_x) & (y > inner) & (y < outer) & (z > palm) & (z < tip)
        hand = (x < robot.palm_half_m[0] + margin) & (y < robot.palm_half_m[1] + margin)
        hand &= (z < palm + margin) & (z > palm - robot.hand_depth_m - APPROACH_M)
        free[part] = ~(finger | hand).any(1)
    return free


def _score(
    T: np.ndarray, width: np.ndarray, quality: np.ndarray, item: SceneObject, robot: Robot, surface: np.ndarray
) -> np.ndarray:
    """Quality (G,) in 0..1: upright, close to the centre of mass, antipodal, wide contact on both pads, room in the opening."""
    centre = _centre_of_mass(item.mesh)
    away = centre - T[:, :3, 3]
    x, y, z = (np.einsum("gi,gi->g", away, T[:, :3, k]) for k in range(3))
    # The weight turns the object about the closing axis through the lever along X, about X through the lever along Y.
    lever = np.hypot(x, 0.5 * y)
    height = np.clip((centre[2] - T[:, 2, 3]) / LEVER_M, 0.0, 1.0)  # below the centre of mass a thing tips over
    far_above = np.clip((np.abs(z) - 0.03) / 0.10, 0.0, 1.0)
    contact = np.minimum(*_pad_contact(T, width, robot, item, surface))
    room = np.clip((robot.max_width_m - width) / WIDTH_EASE_M, 0.0, 1.0)
    upright = (-T[:, 2, 2] - np.cos(MAX_TILT_RAD)) / (1.0 - np.cos(MAX_TILT_RAD))
    score = 0.25 * upright + 0.25 * np.exp(-((lever / LEVER_M) ** 2)) + 0.15 * quality + 0.2 * contact + 0.15 * room
    return np.clip(score - 0.15 * height - 0.1 * far_above, 0.0, 1.0)


def _pad_contact(
    T: np.ndarray, width: np.ndarray, robot: Robot, item: SceneObject, surface: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Share of each pad that touches the surface, (G,) and (G,), from the surface points next to it."""
    corners = item.mesh.points.astype(np.float64)[item.mesh.faces]
    area = 0.5 * np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1).sum()
    half_x = 0.4 * robot.finger_size_m[1]
    expected = len(surface) * 4.0 * half_x * robot.pad_half_m / area
    shares = np.empty((2, len(T)))
    for start in range(0, len(T), 256):
        part = slice(start, start + 256)
        inverse = invert(T[part])
        local = inverse[:, :3, :3] @ surface.T + inverse[:, :3, 3, None]
        on_pad = (np.abs(local[:, 0]) < half_x) & (np.abs(local[:, 2]) < robot.pad_half_m)
        for side, sign in enumerate((-1.0, 1.0)):
            touching = np.abs(local[:, 1] - sign * 0.5 * width[part, None]) < 0.001
            shares[side, part] = (on_pad & touching).sum(1) / expected
    return np.clip(shares[0], 0.0, 1.0), np.clip(shares[1], 0.0, 1.0)


def _centre_of_mass(mesh: Mesh) -> np.ndarray:
    """Centroid (3,) of the volume, by signed tetrahedra; of the bounding box where the mesh encloses none."""
    a, b, c = np.moveaxis(mesh.points.astype(np.float64)[mesh.faces], 1, 0)
    volume = np.einsum("fi,fi->f", a, np.cross(b, c)) / 6.0
    if abs(volume.sum()) < 1e-9:
        return 0.5 * (mesh.points.min(0) + mesh.points.max(0)).astype(np.float64)
    return (volume[:, None] * (a + b + c) / 4.0).sum(0) / volume.sum()


def _spread(T: np.ndarray, score: np.ndarray, count: int) -> np.ndarray:
    """Indices of up to ``count`` grasps, best first, leaving out near copies (8 mm and 12 degrees) of better ones."""
    order = np.argsort(-score, kind="stable")
    kept: list[int] = []
    alive = np.ones(len(T), dtype=bool)
    for i in order:
        if not alive[i]:
            continue
        kept.append(int(i))
        if len(kept) == count:
            break
        near = np.linalg.norm(T[:, :3, 3] - T[i, :3, 3], axis=1) < 0.008
        # Turned by half a turn about its Z the gripper is the same, so compare |closing direction| and approach.
        same = (np.abs(T[:, :3, 1] @ T[i, :3, 1]) > 0.978) & (T[:, :3, 2] @ T[i, :3, 2] > 0.978)
        alive &= ~(near & same)
    return np.array(kept, dtype=int)
