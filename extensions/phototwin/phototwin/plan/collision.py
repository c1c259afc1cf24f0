"""Who hits whom: an arm, what it holds, and the things around, by coal through pinocchio.

The robot's links are convex hulls; objects are the surfaces of their convex pieces, which is what the simulator collides;
the support is a half space; of the background, what rises above the support is an obstacle.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from phototwin.frames import invert
from phototwin.plan.ik import Arm
from phototwin.robots import Robot, rest_positions
from phototwin.scene import Scene

SUPPORT, BACKGROUND = "the support", "the background"
WALL_M = 0.04
"""What of the background lies lower is the support's own unevenness."""
ROOM_M = 0.4
"""The background is looked at this much further than the arm reaches."""
AIR_M = 0.01
"""Clearance kept in the air: a moving arm lags behind its targets by about as much."""
TOUCH_M = 0.001


@dataclass(frozen=True, eq=False)
class _Body:
    """A convex hull on a link.

    Attributes:
        name: Of the link.
        joint: Id of the joint that carries it; 0 where it does not move.
        placement: Pose in that joint's frame with the gripper closed, (4, 4); with it open it is the identity.
        points: (P, 3) in that frame, gripper open [m].
        gripper: Whether it is part of the gripper.
    """

    name: str
    joint: int
    placement: np.ndarray
    points: np.ndarray
    gripper: bool


@dataclass(eq=False)
class Checker:
    """An arm among things, ready to be asked; belongs to one thread.

    Attributes:
        arm: The arm.
        T_base_world: World in the frame of the arm's base, (4, 4).
        model: pinocchio's geometry model: links first, then things.
        data: Its scratch memory.
        bodies: The links.
        things: Index in the model of every thing by key, support and background included.
        hulls: Index of every object's convex hull by key: what stands for it while it is held.
        first, second: Index in the model of both sides of every pair, (P,).
        active: Which pairs are looked at, (P,) bool.
        margin: Clearance that every pair must keep, (P,) [m].
        opened: Whether the gripper is open.
        held: Key of the object that moves with the tool, or None.
    """

    arm: Arm
    T_base_world: np.ndarray
    model: Any
    data: Any
    bodies: tuple[_Body, ...]
    things: dict[str, int]
    hulls: dict[str, int]
    first: np.ndarray
    second: np.ndarray
    active: np.ndarray
    margin: np.ndarray
    opened: bool = True
    held: str | None = None


def make_checker(scene: Scene, arm: Arm, T_world_base: np.ndarray) -> Checker:
    """The arm at its place in a twin; objects stand as in the photo until ``arrange`` says otherwise."""
    import pinocchio as pin  # pyright: ignore[reportMissingImports]

    bodies = load_bodies(arm.robot, arm.model)
    T_base_world = invert(T_world_base)
    model = pin.GeometryModel()
    for i, body in enumerate(bodies):
        geometry = _convex(body.points)
        model.addGeometryObject(pin.GeometryObject(f"{body.name}_{i}", body.joint, pin.SE3.Identity(), geometry))
    things, hulls = {}, {}
    for key, geometry, T_world_thing in _things(scene, arm, T_world_base):
        placement = pin.SE3(T_base_world @ T_world_thing)
        things[key] = model.addGeometryObject(pin.GeometryObject(key, 0, placement, geometry))
    for item in scene.objects:
        geometry = _convex(np.concatenate([piece.points for piece in item.pieces]))
        hulls[item.key] = model.addGeometryObject(
            pin.GeometryObject(f"{item.key}_held", 0, pin.SE3.Identity(), geometry)
        )
    pairs = _pairs(arm, bodies, things, hulls)
    for a, b in pairs:
        model.addCollisionPair(pin.CollisionPair(a, b))
    first, second = np.array(pairs).T
    checker = Checker(
        arm, T_base_world, model, pin.GeometryData(model), bodies, things, hulls, first, second,
        np.ones(len(pairs), dtype=bool), np.zeros(len(pairs)),
    )  # fmt: skip
    _leave_out_what_always_touches(checker)
    return checker


def arrange(
    checker: Checker,
    T_world_objects: dict[str, np.ndarray],
    opened: bool,
    held: tuple[str, np.ndarray] | None = None,
    touches: Iterable[str] = (),
    handles: str | None = None,
    clearance_m: float = TOUCH_M,
    hand_only: bool = False,
) -> None:
    """Put things where they are, and say who may touch whom.

    Args:
        checker: What is asked afterwards.
        T_world_objects: Poses by key, (4, 4) [m].
        opened: Whether the gripper is open.
        held: Key of the object that moves with the tool, and its pose T_tool_object (4, 4).
        touches: Keys of what the held object may touch; ``SUPPORT`` is one of them.
        handles: Key of the object that the gripper may touch; what is held it may anyway.
        clearance_m: Kept by all that may not touch.
        hand_only: Look at the gripper and what it holds alone: where these are does not depend on how the arm is bent.
    """
    import pinocchio as pin  # pyright: ignore[reportMissingImports]

    for key, T in T_world_objects.items():
        checker.model.geometryObjects[checker.things[key]].placement = pin.SE3(checker.T_base_world @ T)
    if held:
        tool, item = checker.arm.model.frames[checker.arm.tool], checker.model.geometryObjects[checker.hulls[held[0]]]
        item.parentJoint, item.placement = tool.parentJoint, tool.placement * pin.SE3(held[1])
    if opened != checker.opened:
        for body, item in zip(checker.bodies, checker.model.geometryObjects, strict=False):
            item.placement = pin.SE3.Identity() if opened else pin.SE3(body.placement)
        checker.opened = opened
    checker.held = held[0] if held else None
    active = _who_counts(checker, {*touches}, handles, hand_only)
    _activate(checker, active, np.where(checker.second < len(checker.bodies), 0.0, clearance_m))


def _who_counts(checker: Checker, touches: set[str], handles: str | None, hand_only: bool) -> np.ndarray:
    """Which pairs are looked at, (P,) bool."""
    a, b = checker.first, checker.second
    links, surfaces = len(checker.bodies), len(checker.bodies) + len(checker.things)
    gripper = np.array([body.gripper for body in checker.bodies] + [False] * (len(checker.things) + len(checker.hulls)))
    in_hand = checker.hulls[checker.held] if checker.held else -1
    handled = [checker.things[key] for key in (handles, checker.held) if key]
    with_surface = (a < links) & (b >= links) & (b < surfaces)
    free_surface = with_surface & ~(gripper[a] & np.isin(b, handled))
    if checker.held:
        free_surface &= b != checker.things[checker.held]
    held_by_link = (a < links) & (b == in_hand) & ~gripper[a]
    held_by_thing = (a == in_hand) & ~np.isin(b, [checker.things[key] for key in touches])
    if hand_only:
        return (free_surface & gripper[a]) | held_by_thing
    return (b < links) | free_surface | held_by_link | held_by_thing


def _activate(checker: Checker, active: np.ndarray, margin: np.ndarray) -> None:
    for k in np.flatnonzero(active != checker.active):
        (checker.data.activateCollisionPair if active[k] else checker.data.deactivateCollisionPair)(int(k))
    for k in np.flatnonzero(margin != checker.margin):
        checker.data.collisionRequests[int(k)].security_margin = float(margin[k])
    checker.active, checker.margin = active, margin


def collides(checker: Checker, q: np.ndarray) -> bool:
    """Whether anything that may not touch does at joint positions (J,)."""
    import pinocchio as pin  # pyright: ignore[reportMissingImports]

    return bool(pin.computeCollisions(checker.arm.model, checker.arm.data, checker.model, checker.data, q, True))


def first_hit(checker: Checker, q: np.ndarray) -> tuple[int, str]:
    """The first of the joint positions (T, J) at which something is hit, and what hits what ("" where nothing is)."""
    for i, row in enumerate(np.asarray(q, dtype=np.float64)):
        if collides(checker, row):
            return i, _who(checker)
    return 0, ""


def _who(checker: Checker) -> str:
    """In words what touches what, where things are now."""
    import pinocchio as pin  # pyright: ignore[reportMissingImports]

    names = {index: key for key, index in (*checker.things.items(), *checker.hulls.items())}
    for k in np.flatnonzero(checker.active):
        if pin.computeCollision(checker.model, checker.data, int(k)):
            a, b = int(checker.first[k]), int(checker.second[k])
            if b < len(checker.bodies):
                return f"{checker.bodies[a].name} would hit {checker.bodies[b].name}"
            hitter = "the arm" if a not in names else f"the held {checker.held}"
            return f"{hitter} would hit {_words(names[b])}".replace("_", " ")
    return "something would be hit"


def _words(key: str) -> str:
    return key if key in (SUPPORT, BACKGROUND) else f"the {key}"


def load_bodies(robot: Robot, model: Any) -> tuple[_Body, ...]:
    """The collision bodies of a robot's URDF, one hull a link, on the joints of its arm's model."""
    import pinocchio as pin  # pyright: ignore[reportMissingImports]

    from phototwin.stage.robots import robot_urdf

    urdf, share = robot_urdf(robot)
    whole = pin.buildModelFromUrdf(str(urdf))
    shapes = pin.buildGeomFromUrdf(whole, str(urdf), pin.GeometryType.COLLISION, package_dirs=[str(share)])
    opened = rest_positions(robot)
    closed = opened | dict(zip(robot.finger_joints, robot.fingers_closed, strict=True))
    of_gripper = _frames_below(whole, robot.tcp_body)
    placed = []
    for positions in (opened, closed):
        q = pin.neutral(whole)
        for name, value in positions.items():
            q[whole.joints[whole.getJointId(name)].idx_q] = value
        locked = [i for i in range(1, whole.njoints) if whole.names[i] not in robot.arm_joints]
        placed.append(pin.buildReducedModel(whole, shapes, locked, q)[1].geometryObjects)
    groups: dict[int, list[int]] = {}
    for i, shape in enumerate(shapes.geometryObjects):
        groups.setdefault(int(shape.parentFrame), []).append(i)
    bodies = []
    for frame, members in groups.items():
        points = np.concatenate([_shape_points(placed[0][i]) for i in members])
        moved = placed[1][members[0]].placement * placed[0][members[0]].placement.inverse()
        joint = int(placed[0][members[0]].parentJoint)
        bodies.append(_Body(whole.frames[frame].name, joint, moved.homogeneous, points, frame in of_gripper))
    return tuple(bodies)


def _frames_below(whole: Any, link: str) -> set[int]:
    """Ids of a link's frame and of all that hang on it."""
    found = {whole.getFrameId(link)}
    for i, frame in enumerate(whole.frames):  # parents come before children
        if int(frame.parentFrame) in found:
            found.add(i)
    return found


def _shape_points(item: Any) -> np.ndarray:
    """Points (P, 3) whose hull is that of a URDF shape, in the frame of its joint."""
    import trimesh

    shape = item.geometry
    if hasattr(shape, "halfSide"):
        points = trimesh.creation.box(extents=2.0 * np.asarray(shape.halfSide)).vertices
    elif hasattr(shape, "vertices"):
        points = np.array(shape.vertices())
    elif hasattr(shape, "halfLength"):
        points = trimesh.creation.cylinder(shape.radius, 2.0 * shape.halfLength, sections=24).vertices
    else:
        points = trimesh.creation.icosphere(2, shape.radius).vertices
    return np.asarray(points) @ item.placement.rotation.T + item.placement.translation


def _convex(points: np.ndarray) -> Any:
    import coal  # pyright: ignore[reportMissingImports]

    listed = coal.StdVec_Vec3s()
    for point in np.asarray(points, dtype=np.float64):
        listed.append(point)
    return coal.Convex.convexHull(listed, True, "Qt")


def _surface(points: np.ndarray, faces: np.ndarray) -> Any:
    import coal  # pyright: ignore[reportMissingImports]

    mesh = coal.BVHModelOBBRSS()
    mesh.beginModel(len(faces), len(points))
    mesh.addVertices(np.asarray(points, dtype=np.float64))
    mesh.addTriangles(np.asarray(faces, dtype=np.int64))
    mesh.endModel()
    return mesh


def _things(scene: Scene, arm: Arm, T_world_base: np.ndarray) -> Iterable[tuple[str, Any, np.ndarray]]:
    """Key, geometry and pose (4, 4) of everything the arm may hit."""
    import coal  # pyright: ignore[reportMissingImports]

    for item in scene.objects:
        if len(item.pieces) == 1:
            yield item.key, _convex(item.pieces[0].points), item.T_world_object
            continue
        starts = np.cumsum([0, *(len(piece.points) for piece in item.pieces)])
        points = np.concatenate([piece.points for piece in item.pieces])
        faces = np.concatenate([piece.faces + s for piece, s in zip(item.pieces, starts[:-1], strict=True)])
        yield item.key, _surface(points, faces), item.T_world_object
    yield SUPPORT, coal.Halfspace(np.array([0.0, 0.0, 1.0]), 0.0), np.eye(4)
    points, faces = scene.background.points.astype(np.float64), scene.background.faces
    near = np.hypot(*(points[:, :2] - T_world_base[:2, 3]).T) < arm.robot.reach_m + ROOM_M
    faces = faces[((points[:, 2] > WALL_M) & near)[faces].all(1)]
    if len(faces):
        used, index = np.unique(faces, return_inverse=True)
        yield BACKGROUND, _surface(points[used], index.reshape(-1, 3)), np.eye(4)


def _pairs(arm: Arm, bodies: tuple[_Body, ...], things: dict[str, int], hulls: dict[str, int]) -> list[tuple[int, int]]:
    """Links that are not neighbours; moving links and things; held objects with links and with other things."""
    parents = arm.model.parents
    pairs = []
    for a, one in enumerate(bodies):
        for b, other in enumerate(bodies[:a]):
            near = one.joint == other.joint or one.joint == parents[other.joint] or other.joint == parents[one.joint]
            if not near:
                pairs.append((b, a))
        pairs += [(a, index) for index in things.values() if one.joint]
        pairs += [(a, index) for index in hulls.values()]
    for key, hull in hulls.items():
        pairs += [(hull, index) for other, index in things.items() if other != key]
    return pairs


def _leave_out_what_always_touches(checker: Checker) -> None:
    """Drop pairs of links that touch in the rest posture: hulls are larger than links, and a robot does not rest in itself."""
    import pinocchio as pin  # pyright: ignore[reportMissingImports]

    count = len(checker.bodies)
    collides(checker, checker.arm.home)
    own = np.flatnonzero(checker.second < count)
    touching = [k for k in own if pin.computeCollision(checker.model, checker.data, int(k))]
    for k in touching[::-1]:
        checker.model.removeCollisionPair(pin.CollisionPair(int(checker.first[k]), int(checker.second[k])))
    keep = np.ones(len(checker.first), dtype=bool)
    keep[touching] = False
    checker.first, checker.second = checker.first[keep], checker.second[keep]
    checker.active, checker.margin = np.ones(int(keep.sum()), dtype=bool), np.zeros(int(keep.sum()))
    checker.data = pin.GeometryData(checker.model)
