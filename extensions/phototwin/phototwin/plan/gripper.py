"""The gripper as boxes: what it sweeps on its way to a grasp and as it closes, and what that must be clear of.

Tool frame: origin between the open pads, +Z out of the palm, the fingers slide along Y. Where only one jaw moves, the other
stands at the object already, so the object is then not in the middle.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from phototwin.frames import invert
from phototwin.kernels.boxes import find_box_hits
from phototwin.kernels.obstacles import MeshSet, load_meshes
from phototwin.robots import Robot, approach_distance
from phototwin.scene import SceneObject

TIP_CLEARANCE_M = 0.003
"""Fingertips stay this far above the support: tracking is good to 1 mm when settled."""
PALM_CLEARANCE_M = 0.01
CONTACT_SLACK_M = 0.003
"""How far the object may bulge out between the pads' contact plane and the opening fingers."""
STILL_JAW_GAP_M = 0.006
"""A jaw that stands still keeps up to this far from the object until the other pushes it there."""
NEIGHBOUR_MARGIN_M = 0.004
LEAST_SLOPE = 0.2
"""A tool that comes down less steeply than this (its sine) is not drawn back to clear the support: it would go too far."""


def gripper_boxes(robot: Robot) -> tuple[np.ndarray, np.ndarray]:
    """The open gripper as boxes in the tool frame, (3, 3) and (3, 3) as lower and upper corners [m]: left finger, right finger, hand."""
    tip, palm = robot.pad_half_m, robot.pad_half_m - robot.finger_length_m
    half_x, outer = 0.5 * robot.finger_size_m[1], robot.finger_open_m + robot.finger_size_m[0]
    left = [[-half_x, robot.finger_open_m, palm], [half_x, outer, tip]]
    right = [[-half_x, -outer, palm], [half_x, -robot.finger_open_m, tip]]
    palm_x, palm_y = robot.palm_half_m
    hand = [[-palm_x, -palm_y, palm - robot.hand_depth_m], [palm_x, palm_y, palm]]
    boxes = np.array([left, right, hand])
    return boxes[:, 0], boxes[:, 1]


def grip_offset(robot: Robot, width_m: np.ndarray) -> np.ndarray:
    """Where along the tool's Y the middle of what is held lies, for widths (G,), (G,) [m]: 0, or beside the jaw that stands still."""
    width = np.asarray(width_m, np.float64)
    if not robot.one_jaw:
        return np.zeros(width.shape)
    room = np.clip(0.25 * (2.0 * robot.finger_open_m - width), CONTACT_SLACK_M, STILL_JAW_GAP_M)
    return 0.5 * width + room - robot.finger_open_m


def swept_boxes(robot: Robot, width_m: np.ndarray, slack_m: float) -> tuple[np.ndarray, np.ndarray]:
    """What the gripper sweeps as it comes ``approach_distance`` along its Z and closes on ``width_m`` (G,): lower and upper corners (G, 5, 3) [m].

    ``slack_m`` is how far the held object may reach into the fingers' way from the inside; negative keeps that distance on
    all sides instead, also between the fingers.
    """
    lower, upper = (np.repeat(np.concatenate([c, c[:2]])[None], len(width_m), 0) for c in gripper_boxes(robot))
    lower[:, 2:, 2] -= approach_distance(robot)
    middle = grip_offset(robot, width_m)
    inside = 0.5 * np.asarray(width_m) + slack_m
    if slack_m >= 0:
        lower[:, 0, 1] = middle + inside
        upper[:, 1, 1] = -robot.finger_open_m if robot.one_jaw else middle - inside
        return lower, upper
    lower[:, 0, 1], upper[:, 1, 1] = 0.0, 0.0
    lower[:, :, :2] += slack_m
    upper -= slack_m
    lower[:, 2:, 2] += slack_m
    return lower, upper


@lru_cache(maxsize=256)
def solid_meshes(item: SceneObject) -> MeshSet:
    """The object's surface and the convex pieces that stand for it in physics, ready for ``gripper_clears``."""
    parts = [(item.mesh.points, item.mesh.faces), *((piece.points, piece.faces) for piece in item.pieces)]
    return load_meshes(parts)


def gripper_clears(
    item: SceneObject,
    T_frame_object: np.ndarray,
    T_frame_tool: np.ndarray,
    width_m: np.ndarray,
    robot: Robot,
    slack_m: float,
) -> np.ndarray:
    """Which tool poses (G, 4, 4) keep the gripper clear of an object, on the way and as it closes on ``width_m`` (G,), (G,) bool.

    ``slack_m`` as in ``swept_boxes``: for the held object itself how far it may bulge, for a neighbour minus the margin.
    """
    meshes = solid_meshes(item)
    T_object_tool = invert(T_frame_object) @ T_frame_tool
    return find_box_hits(meshes, T_object_tool, *swept_boxes(robot, width_m, slack_m), threads=1) < 0


def gripper_is_free(T: np.ndarray, width: np.ndarray, robot: Robot, points: np.ndarray, slack_m: float) -> np.ndarray:
    """``gripper_clears`` for points (P, 3) of the tool poses' frame instead of an object, (G,) bool."""
    lower, upper = swept_boxes(robot, width, slack_m)
    free = np.empty(len(T), dtype=bool)
    for start in range(0, len(T), 256):
        part = slice(start, start + 256)
        inverse = invert(T[part])
        local = np.swapaxes(inverse[:, :3, :3] @ points.T + inverse[:, :3, 3, None], 1, 2)[:, None]
        inside = (local > lower[part, :, None]) & (local < upper[part, :, None])
        free[part] = ~inside.all(-1).reshape(len(local), -1).any(1)
    return free


def raise_above_support(T: np.ndarray, robot: Robot, up: np.ndarray, height_m: float) -> tuple[np.ndarray, np.ndarray]:
    """Draw tools back along their Z until fingertips and palm clear the support; (G, 4, 4) and which still hold with their pads (G,).

    Args:
        T: Tool poses in the object frame, (G, 4, 4).
        robot: Whose gripper.
        up: The world's vertical in the object frame, (3,).
        height_m: Of the object's origin above the support.
    """
    lower, upper = gripper_boxes(robot)
    corners = np.stack([np.where([(k >> i) & 1 for i in range(3)], upper, lower) for k in range(8)], 1)
    axes_up = up @ T[:, :3, :3]
    lowest = (axes_up @ corners.reshape(-1, 3).T).reshape(len(T), 3, 8).min(2) + (T[:, :3, 3] @ up + height_m)[:, None]
    needed = (np.array([TIP_CLEARANCE_M, TIP_CLEARANCE_M, PALM_CLEARANCE_M]) - lowest).max(1)
    slope = -axes_up[:, 2]
    back = np.maximum(needed, 0.0) / np.maximum(slope, LEAST_SLOPE)
    out = T.copy()
    out[:, :3, 3] -= back[:, None] * T[:, :3, 2]
    return out, (back <= robot.pad_half_m - 0.001) & ((needed <= 0) | (slope >= LEAST_SLOPE))
