"""Pushing a thing along the support with the closed gripper: which way, where it is touched, and the legs of it.

The gripper leans towards the way it pushes, so that its tips touch first and low, whatever stands above them. Among several ways
close to the one asked for, leans, heights and offsets, the one comes first whose contact faces the way and spans the line
through the centre of mass: under it lies the centre of friction, so the object goes straight.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from phototwin.errors import PlanError
from phototwin.frames import invert, make_T, transform
from phototwin.plan.cell import Workcell
from phototwin.plan.grasp import sample_surface
from phototwin.plan.grasp_score import centre_of_mass
from phototwin.plan.legs import AIR_SPEED_M_S, CONTACT_SPEED_M_S, LIFT_SPEED_M_S, REST_S, Others, standing_on, way_to
from phototwin.plan.paths import FREE, LINE, STAY, Leg
from phototwin.plan.task import Step
from phototwin.robots import Robot
from phototwin.scene import Camera, Scene, SceneObject, depth_inside

PUSH_M = 0.12
SHORT_PUSH_M = 0.08
"""Where there is no room, or no reach, for the whole way."""
LEAST_PUSH_M = 0.02
BESIDE_M = 0.015
"""Gap that is left when a thing is pushed next to another."""
PUSH_SPEED_M_S = 0.12
"""Peak: a thing that is let go of at a tenth of a metre a second slides on by less than a millimetre."""
BACKS_M = (0.03, 0.012)
"""The push starts this far behind the contact; less where there is no room."""
RISE_M = 0.08
STILL_S = 0.25
TIP_M = 0.004
"""Fingertips stay this far above the support, at least."""
LEANS_RAD = np.deg2rad([0.0, 20.0, 35.0, 50.0])
TURNS_RAD = np.deg2rad([0.0, 10.0, -10.0, 20.0, -20.0])
"""Ways off the one asked for that still go there."""
OFFSETS_M = (0.0, 0.006, -0.006)
HEIGHTS = (0.0, 0.3, 0.6)
"""Of the fingertips, as shares of the height of the centre of mass."""
SHORT_OF_ROOM = 0.4
"""What it costs to start a push from nearer by."""
SAMPLES = 800
TOUCHING_M = 0.002
"""Points this close behind the first contact touch too."""
HAND_LEAD_M = 0.008
"""The fingers touch at least this long before the hand would."""
STEADY = 0.8
"""A push is taken that high at most, as a share of the height at which the object would tip."""
KEPT = 4
"""Contacts of each way and lean that are offered: the arm may reach none of one lean, and its copies would crowd out the others."""
ROOM_M = 0.01
ROLLING = 0.25
"""What rests on less than this share of its width rolls that way."""
ALONG_AXIS = 0.2
"""Sine of the angle to a lying thing's axis within which it slides along it instead of rolling."""


@dataclass(frozen=True, eq=False)
class Push:
    """One way to push.

    Attributes:
        T_world_goal: Where the object shall end, (4, 4) [m].
        T_object_tool: The tool at the first touch, (4, 4) [m].
        legs: The motion.
        cost: How far it is from a steady push along the asked way.
    """

    T_world_goal: np.ndarray
    T_object_tool: np.ndarray
    legs: tuple[Leg, ...]
    cost: float


@dataclass(frozen=True, eq=False)
class _Body:
    """What is pushed: surface points (P, 3) and normals (P, 3) in the world, centre of mass (3,), friction."""

    points: np.ndarray
    normals: np.ndarray
    centre: np.ndarray
    friction: float


def push_way(step: Step, camera: Camera, T_world_objects: dict[str, np.ndarray]) -> np.ndarray:
    """The asked way along the support, (2,), unit: as the camera sees it, or towards the target.

    To the right is where the camera's +X points along the support; away is a quarter turn to the left of it.
    """
    if step.relation == "next to":
        way = T_world_objects[str(step.target)][:2, 3] - T_world_objects[step.object][:2, 3]
        return way / max(float(np.linalg.norm(way)), 1e-9)
    right = camera.T_world_camera[:2, 0] / np.linalg.norm(camera.T_world_camera[:2, 0])
    away = np.array([-right[1], right[0]])
    return {"right": right, "left": -right, "away": away, "closer": -away}[str(step.relation)]


def pushes(
    step: Step, cell: Workcell, T_world_objects: dict[str, np.ndarray], others: Others, rng: np.random.Generator
) -> list[Push]:
    """Ways to push the step's object where the step says, the steadiest first.

    Raises:
        PlanError: There is no room that way, no steady contact, or it is there already.
    """
    scene = cell.scene
    item, T_now = scene.object(step.object), T_world_objects[step.object]
    points_o, normals_o = sample_surface(item.mesh, SAMPLES, 0)
    R = T_now[:3, :3]
    centre = transform(T_now, centre_of_mass(item.mesh))
    friction = 0.5 * (item.friction + scene.support.friction)
    body = _Body(transform(T_now, points_o), normals_o @ R.T, centre, friction)
    asked = push_way(step, scene.camera, T_world_objects)
    onto = standing_on(item, T_now, others)
    turns = TURNS_RAD[:1] if step.relation == "next to" else TURNS_RAD
    options: list[Push] = []
    blocked = ""
    for turn in turns:
        c, s = np.cos(turn), np.sin(turn)
        way = np.array([c * asked[0] - s * asked[1], s * asked[0] + c * asked[1]])
        why = ""
        for late, distance in enumerate(_distances(step, scene, body, T_world_objects, asked)):
            why = _rolls(item, T_now, way) or _no_room(body, way, distance, scene, others)
            if not why:
                contacts = _contacts(body, way, cell.robot, abs(float(turn)) + late, rng)
                options += [_as_push(c, T_now, distance, onto, back) for c in contacts for back in BACKS_M]
                break
        blocked = blocked or why
    if not options:
        reason = blocked or "the gripper finds no steady contact on it, low enough and ahead of the hand"
        raise PlanError(f"The {item.name} cannot be pushed {_words(step, scene)}: {reason}.")
    return sorted(options, key=lambda push: push.cost)


def _words(step: Step, scene: Scene) -> str:
    where = {
        "away": "away from the camera",
        "closer": "closer to the camera",
        "left": "to the left",
        "right": "to the right",
    }
    return where.get(str(step.relation)) or f"next to the {scene.object(str(step.target)).name}"


def _distances(
    step: Step, scene: Scene, body: _Body, T_world_objects: dict[str, np.ndarray], way: np.ndarray
) -> tuple[float, ...]:
    """Distances to push [m], the preferred one first.

    Raises:
        PlanError: It is next to the target already.
    """
    if step.relation != "next to":
        return PUSH_M, SHORT_PUSH_M
    target = scene.object(str(step.target))
    beyond = transform(T_world_objects[target.key], target.mesh.points.astype(np.float64))[:, :2] @ way
    gap = float(beyond.min() - (body.points[:, :2] @ way).max())
    if gap - BESIDE_M < LEAST_PUSH_M:
        item = scene.object(step.object)
        raise PlanError(
            f"The {item.name} is {1000 * max(gap, 0.0):.0f} mm from the {target.name} already: there is no way to push it."
        )
    return (gap - BESIDE_M,)


def _rolls(item: SceneObject, T_now: np.ndarray, way: np.ndarray) -> str:
    """Why an object with next to no foot along the way cannot be pushed that way; "" where it has one."""
    points = transform(T_now, item.mesh.points.astype(np.float64))
    foot = points[points[:, 2] < points[:, 2].min() + 0.001, :2]
    for axis in np.linalg.svd(foot - foot.mean(0), full_matrices=True)[2]:
        narrow = np.ptp(foot @ axis) < ROLLING * np.ptp(points[:, :2] @ axis)
        if narrow and abs(float(axis @ way)) > ALONG_AXIS:
            return "it would roll away"
    return ""


def _no_room(body: _Body, way: np.ndarray, distance: float, scene: Scene, others: Others) -> str:
    """What is in the way of an object that moves along the support, or how it would leave it; "" where nothing is."""
    across = np.array([-way[1], way[0]])
    low, high = (body.points[:, :2] @ across).min() - ROOM_M, (body.points[:, :2] @ across).max() + ROOM_M
    front, back = (body.points[:, :2] @ way).max(), (body.points[:, :2] @ way).min()
    for other, T in others:
        around = transform(T, other.mesh.points.astype(np.float64))[:, :2]
        side, along = around @ across, around @ way
        beside = (side.max() < low) or (side.min() > high)
        if not beside and along.max() > front - 0.5 * (front - back) and along.min() < front + distance + ROOM_M / 2:
            return f"the {other.name} is in the way"
    goal = body.centre[:2] + distance * way
    inside = depth_inside(scene.support.polygon_w, np.stack([body.centre[:2], goal]))
    return "it would leave the support" if inside[1] < min(0.02, inside[0]) else ""


def closed_gripper(robot: Robot) -> tuple[np.ndarray, np.ndarray]:
    """The closed gripper as two boxes in the tool frame, fingers and hand: lower and upper corners (2, 3) each [m]."""
    tip, palm = robot.pad_half_m, robot.pad_half_m - robot.finger_length_m
    half_x, thick = 0.5 * robot.finger_size_m[1], robot.finger_size_m[0]
    middle = -robot.finger_open_m if robot.one_jaw else 0.0
    palm_x, palm_y = robot.palm_half_m
    lower = np.array([[-half_x, middle - thick, palm], [-palm_x, -palm_y, palm - robot.hand_depth_m]])
    upper = np.array([[half_x, middle + thick, tip], [palm_x, palm_y, palm]])
    return lower, upper


def _tool_axes(robot: Robot, way: np.ndarray, lean: float, half_turn: bool) -> np.ndarray:
    """Rotation (3, 3) of a tool that points down and leans towards the way, its narrow side first."""
    ahead = np.array([*way, 0.0])
    z = -np.cos(lean) * np.array([0.0, 0.0, 1.0]) + np.sin(lean) * ahead
    level = np.cross([0.0, 0.0, 1.0], ahead) * (-1.0 if half_turn else 1.0)
    if robot.palm_half_m[0] <= robot.palm_half_m[1]:
        return np.stack([np.cross(level, z), level, z], 1)
    return np.stack([level, np.cross(z, level), z], 1)


@dataclass(frozen=True, eq=False)
class _Contact:
    """Where the tool first touches, (4, 4) [m], which way it goes on, (2,), and how unsteady that is."""

    T_world_tool: np.ndarray
    way: np.ndarray
    cost: float


def _contacts(body: _Body, way: np.ndarray, robot: Robot, cost: float, rng: np.random.Generator) -> list[_Contact]:
    """First touches along one way, of all leans, heights, offsets and both turns of the tool, that are low and steady."""
    lower, upper = closed_gripper(robot)
    corners = np.stack([np.where([(k >> i) & 1 for i in range(3)], upper, lower) for k in range(8)], 1).reshape(-1, 3)
    ahead, across = np.array([*way, 0.0]), np.array([-way[1], way[0], 0.0])
    highest = STEADY * _tipping_height(body, way)
    middle = 0.5 * float(lower[0, 1] + upper[0, 1])
    found = []
    for lean in LEANS_RAD:
        R = _tool_axes(robot, way, float(lean), False)
        half_turn = _tool_axes(robot, way, float(lean), True)
        below = -float((corners @ R.T)[:, 2].min())
        tips = np.maximum(TIP_M, np.array(HEIGHTS) * float(body.centre[2]))
        origins = np.array([body.centre + o * across - middle * R[:, 1] for o in OFFSETS_M for _ in tips])
        origins[:, 2] = np.tile(tips + below, len(OFFSETS_M))
        reach, height, unsteady = _touch(body, R, origins, lower, upper, ahead, across)
        here = []
        for k in np.flatnonzero(height < highest):
            own = cost + unsteady[k] + 0.3 * abs(float(lean) - LEANS_RAD[1]) + 0.5 * height[k] / highest
            for turned in (R, half_turn):
                place = origins[k] + reach[k] * ahead + middle * (R[:, 1] - turned[:, 1])
                here.append(_Contact(make_T(turned, place), way, float(own) + 0.05 * float(rng.random())))
        found += sorted(here, key=lambda contact: contact.cost)[:KEPT]
    return found


def _tipping_height(body: _Body, way: np.ndarray) -> float:
    """Height of a push at which the object would tip over its front edge instead of sliding [m]."""
    foot = body.points[body.points[:, 2] < body.points[:, 2].min() + 0.004]
    lever = float((foot[:, :2] @ way).max() - body.centre[:2] @ way)
    return max(lever, 0.0) / body.friction


def _touch(
    body: _Body,
    R: np.ndarray,
    origins: np.ndarray,
    lower: np.ndarray,
    upper: np.ndarray,
    ahead: np.ndarray,
    across: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """How far tools at ``origins`` (N, 3) go ahead until they touch [m], the height of that [m], and how unsteady it is, (N,) each.

    The height is infinite where the hand would touch first, or nothing does. Source: slabs, Kay and Kajiya (1986).
    """
    local, direction = (body.points - origins[:, None]) @ R, -(ahead @ R)
    direction = np.where(np.abs(direction) < 1e-9, 1e-9, direction)
    way_in = []
    for low, high in zip(lower, upper, strict=True):
        ends = np.stack([(low - local) / direction, (high - local) / direction])
        enter, leave = ends.min(0).max(2), ends.max(0).min(2)
        way_in.append(np.where(enter <= leave, enter, np.inf))
    fingers, hand = way_in
    first = fingers.min(1)
    touching = (fingers < first[:, None] + TOUCHING_M) & np.isfinite(fingers)
    # Along a face that touches, the pressure moves to where the object does not tip: its lowest point counts.
    height = np.where(touching, body.points[:, 2], np.inf).min(1)
    height[~np.isfinite(first) | (hand.min(1) < first + HAND_LEAD_M)] = np.inf
    side = (body.points - body.centre) @ across
    left, right = np.where(touching, side, np.inf).min(1), np.where(touching, side, -np.inf).max(1)
    beside = np.maximum(0.0, np.maximum(left, -right))
    normal = -body.normals[fingers.argmin(1)]
    facing = np.arccos(np.clip(normal @ ahead / np.maximum(np.hypot(*normal[:, :2].T), 1e-9), -1.0, 1.0))
    return first, height, beside / 0.01 + 2.0 * facing


PUSH_STARTS, PUSH_ENDS = 1, 3
"""Legs of a push that end where it begins and where it ends."""


def _as_push(contact: _Contact, T_now: np.ndarray, distance: float, onto: tuple[str, ...], back_m: float) -> Push:
    """The whole push from a contact on; ``onto`` is what the object stands on or leans against."""
    touch, ahead = contact.T_world_tool, np.array([*contact.way, 0.0])

    def moved(T: np.ndarray, along: float, up: float = 0.0) -> np.ndarray:
        return make_T(T[:3, :3], T[:3, 3] + along * ahead + [0.0, 0.0, up])

    start, end = moved(touch, -back_m), moved(touch, distance)
    back = moved(end, -back_m)
    legs = (
        Leg("behind the object", way_to(moved(start, 0.0, RISE_M)), FREE, AIR_SPEED_M_S, False),
        Leg("come down", way_to(start), LINE, LIFT_SPEED_M_S, False),
        Leg("touch", way_to(touch), LINE, CONTACT_SPEED_M_S, False, handles=True),
        Leg("push", way_to(end), LINE, PUSH_SPEED_M_S, False, True, onto),
        Leg("hold", way_to(end), STAY, STILL_S, False, True, onto),
        Leg("draw back", way_to(back), LINE, CONTACT_SPEED_M_S, False, handles=True),
        Leg("rise", way_to(moved(back, 0.0, RISE_M)), LINE, LIFT_SPEED_M_S, False, handles=True),
        Leg("rest", way_to(moved(back, 0.0, RISE_M)), STAY, REST_S, False, handles=True),
    )
    return Push(
        moved(T_now, distance), invert(T_now) @ touch, legs, contact.cost + SHORT_OF_ROOM * (back_m < BACKS_M[0])
    )
