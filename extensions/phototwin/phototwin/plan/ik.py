"""Inverse kinematics of an arm: tool poses and whole paths to joint positions, and where its links are.

pinocchio reads the URDF; damped least squares run in ``kernels/inverse.py``, thousands of poses at once. Joint limits are never
passed, and what a redundant arm leaves free goes to where it is nearest to the rest posture, so the posture depends on the pose
and not on how it was reached. An arm of fewer than six joints cannot choose every turn: it meets the place, the
turns it can choose as well as it can, and leaves the turn about ``Robot.free_axis`` to where the joints allow it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from phototwin.errors import PlanError
from phototwin.kernels.inverse import Reacher, follow_rows, make_reacher, solve_rows
from phototwin.kernels.links import chain_of
from phototwin.robots import Robot, rest_positions, tool_in_link

POSITION_TOLERANCE_M = 2e-4
ANGLE_TOLERANCE_RAD = 2e-3
SOLVED_M = 2e-6
"""The search goes on to here, well inside the tolerance, so that neighbouring samples agree and paths stay smooth."""
LIMIT_MARGIN_RAD = 0.02
"""Kept from the joint limits, so that a drive that overshoots does not hit a stop."""
TURN_WEIGHT_M = 0.3
"""What a radian weighs against a metre."""
SHORT_WEIGHT_M = (0.1, 0.03)
"""The same for an arm of fewer than six joints, about the axes whose turn it chooses and about the one whose turn it does not."""
SHORT_ALLOWANCE_RAD = (0.15, 0.35)
"""How far the tool of such an arm may be turned from what was asked for: an SO-101 holds its tool beside the plane it bends in, and closing jaws straighten the rest."""
POSE_PULL = 0.3
PATH_PULL = 0.2
"""Shares of the way to the rest posture in a step, and in a sample of a path."""
PULL_RAD_S = 0.4
"""Joints follow the pull no faster than this along a path."""
POSE_ITERATIONS = 60
PATH_ITERATIONS = 20
SEEDS = 16
JUMP_RAD = 0.5
"""A larger change between neighbouring samples of a path is a change of posture, not a motion."""
DISTINCT_RAD = 0.3
POINTS_PER_LINK = 100


@dataclass(frozen=True, eq=False)
class Arm:
    """A robot's arm ready to be solved; the fingers are locked open.

    Attributes:
        robot: What it was made from.
        model: pinocchio model of the arm joints.
        data: Its scratch memory, so an ``Arm`` belongs to one thread.
        tool: Frame id of the tool frame.
        reacher: What the kernels know of it.
        lower: Lower joint limits, margin included, (J,) [rad].
        upper: Upper joint limits, margin included, (J,) [rad].
        velocity: Joint speed limits, (J,) [rad/s].
        home: Rest posture, (J,) [rad].
        links: Per collision body that moves its name, the id of the joint that carries it, and surface points (P, 3) in that joint's frame [m].
        base_points: Surface points (P, 3) of what does not move, base frame [m].
    """

    robot: Robot
    model: Any
    data: Any
    tool: int
    reacher: Reacher
    lower: np.ndarray
    upper: np.ndarray
    velocity: np.ndarray
    home: np.ndarray
    links: tuple[tuple[str, int, np.ndarray], ...]
    base_points: np.ndarray


def _pinocchio() -> Any:
    """pinocchio, imported on first use; its wheel adds a path of its own that type checkers do not follow."""
    import pinocchio  # pyright: ignore[reportMissingImports]

    return pinocchio


def load_arm(robot: Robot) -> Arm:
    """The arm of a robot's URDF, with the tool frame between its finger pads.

    Raises:
        PlanError: The URDF lacks a joint or link that the robot names.
    """
    from phototwin.stage.robots import robot_urdf

    pin = _pinocchio()
    urdf, share = robot_urdf(robot)
    whole = pin.buildModelFromUrdf(str(urdf))
    missing = [n for n in (*robot.arm_joints, *robot.finger_joints) if not whole.existJointName(n)]
    if missing or not whole.existFrame(robot.tcp_body):
        raise PlanError(
            f"The URDF of robot '{robot.name}' has no {', '.join(missing or [robot.tcp_body])}: correct its names."
        )
    bodies = pin.buildGeomFromUrdf(whole, str(urdf), pin.GeometryType.COLLISION, package_dirs=[str(share)])
    q_ref = pin.neutral(whole)
    for name, value in rest_positions(robot).items():
        q_ref[whole.joints[whole.getJointId(name)].idx_q] = value
    locked = [i for i in range(1, whole.njoints) if whole.names[i] not in robot.arm_joints]
    model, bodies = pin.buildReducedModel(whole, bodies, locked, q_ref)
    hand = model.frames[model.getFrameId(robot.tcp_body)]
    T_body_tool = pin.SE3(tool_in_link(robot))
    tool = model.addFrame(pin.Frame("tool", hand.parentJoint, hand.placement * T_body_tool, pin.FrameType.OP_FRAME))
    model.lowerPositionLimit = model.lowerPositionLimit + LIMIT_MARGIN_RAD
    model.upperPositionLimit = model.upperPositionLimit - LIMIT_MARGIN_RAD
    data = model.createData()
    parts = _link_points(bodies)
    home = np.array(robot.home_rad)
    weight = _per_turn(robot, *SHORT_WEIGHT_M) if robot.free_axis else np.full(3, TURN_WEIGHT_M)
    return Arm(
        robot=robot,
        model=model,
        data=data,
        tool=tool,
        reacher=make_reacher(chain_of(model, ["tool"]), "tool", weight, polish=bool(robot.free_axis)),
        lower=model.lowerPositionLimit.copy(),
        upper=model.upperPositionLimit.copy(),
        velocity=model.velocityLimit.copy(),
        home=home,
        links=tuple(part for part in parts if part[1] > 0),
        base_points=np.concatenate([np.zeros((0, 3)), *(points for _, joint, points in parts if joint == 0)]),
    )


def _link_points(bodies: Any) -> tuple[tuple[str, int, np.ndarray], ...]:
    """Points on the convex hull of every collision body, evenly spread, the same every time."""
    import trimesh

    links = []
    for body in bodies.geometryObjects:
        shape = body.geometry
        if hasattr(shape, "halfSide"):
            mesh = trimesh.creation.box(extents=2.0 * np.asarray(shape.halfSide))
            points = mesh.vertices
        elif hasattr(shape, "vertices"):
            mesh = trimesh.convex.convex_hull(np.array(shape.vertices()))
            points = trimesh.sample.sample_surface(mesh, POINTS_PER_LINK, seed=0)[0]
            points = np.concatenate([points, mesh.vertices])
        else:
            continue
        placed = points @ body.placement.rotation.T + body.placement.translation
        links.append((str(body.name), int(body.parentJoint), np.asarray(placed)))
    return tuple(links)


def tool_pose(arm: Arm, q: np.ndarray) -> np.ndarray:
    """Forward kinematics: T_base_tool (..., 4, 4) of joint positions (..., J)."""
    pin = _pinocchio()
    flat = np.asarray(q, dtype=np.float64).reshape(-1, arm.model.nq)
    out = np.empty((len(flat), 4, 4))
    for i, row in enumerate(flat):
        pin.framesForwardKinematics(arm.model, arm.data, row)
        out[i] = arm.data.oMf[arm.tool].homogeneous
    return out.reshape(*np.shape(q)[:-1], 4, 4)


def tool_jacobian(arm: Arm, q: np.ndarray) -> np.ndarray:
    """What moves of the joints at ``q`` (J,) do to the tool, in the axes of the base: linear, then angular, (6, J) [m/rad, rad/rad]."""
    pin = _pinocchio()
    frame = pin.ReferenceFrame.LOCAL_WORLD_ALIGNED
    return pin.computeFrameJacobian(arm.model, arm.data, np.asarray(q, dtype=np.float64), arm.tool, frame)


def link_points(arm: Arm, q: np.ndarray) -> np.ndarray:
    """Surface points (P, 3) of all moving links and the fingers in the base frame at joint positions (J,) [m]."""
    pin = _pinocchio()
    pin.forwardKinematics(arm.model, arm.data, np.asarray(q, dtype=np.float64))
    parts = []
    for _, joint, points in arm.links:
        placement = arm.data.oMi[joint]
        parts.append(points @ placement.rotation.T + placement.translation)
    return np.concatenate(parts)


def solve_poses(arm: Arm, T_base_tool: np.ndarray, q0: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Joint positions (B, J) for many tool poses (B, 4, 4), and which of them are reached, (B,) bool.

    Each starts at ``q0``, (J,) or (B, J); those that end away from the pose start again from every other posture of ``seed_postures``.
    """
    T = np.asarray(T_base_tool, np.float64)
    q, error = _solve(arm, T, np.broadcast_to(np.asarray(q0, np.float64), (len(T), len(arm.home))))
    hit = _reached(arm, error)
    left = np.flatnonzero(~hit & (np.linalg.norm(T[:, :3, 3], axis=1) < _span(arm)))
    if len(left):
        seeds = _seeds(arm, T[left])[:, ::2]
        again, error_again = _solve(arm, np.repeat(T[left], seeds.shape[1], 0), seeds.reshape(-1, seeds.shape[2]))
        hits = _reached(arm, error_again).reshape(seeds.shape[:2])
        first = hits.argmax(1)
        some = hits.any(1)
        q[left[some]] = again.reshape(seeds.shape)[some, first[some]]
        hit[left[some]] = True
    return q, hit


def solve_pose(arm: Arm, T_base_tool: np.ndarray, q0: np.ndarray) -> tuple[np.ndarray, float, float]:
    """Joint positions (J,) for one tool pose, with what remains: position error [m] and angle error [rad].

    Starts at ``q0`` and, where that ends away from the pose, at other elbow postures; the best is returned, reached or not.
    For an arm of fewer than six joints the angle is what exceeds the turn that such an arm is allowed.
    """
    T = np.asarray(T_base_tool, np.float64)[None]
    q, error = _solve(arm, T, np.asarray(q0, np.float64)[None])
    if not _reached(arm, error)[0]:
        seeds = _seeds(arm, T)[0]
        others, errors = _solve(arm, np.repeat(T, SEEDS, 0), seeds)
        q, error = np.concatenate([q, others]), np.concatenate([error, errors])
    position, angle = _remainder(arm, error)
    fine = (position <= POSITION_TOLERANCE_M) & (angle <= ANGLE_TOLERANCE_RAD)
    best = int(fine.argmax()) if fine.any() else int((position + 0.1 * angle).argmin())
    return q[best], float(position[best]), float(angle[best])


def solve_postures(arm: Arm, T_base_tool: np.ndarray, q0: np.ndarray, count: int = 4) -> list[np.ndarray]:
    """Up to ``count`` distinct joint positions (J,) that reach the pose, nearest to ``q0`` first; empty where none does.

    A redundant arm bends differently in each: half of them are pulled to the posture they start from, not to the one at rest.
    """
    T = np.asarray(T_base_tool, np.float64)[None]
    seeds = np.concatenate([np.asarray(q0, np.float64)[None], _seeds(arm, T)[0]])
    rest = np.where(np.arange(len(seeds))[:, None] % 2, arm.home, seeds)
    q, error = _solve(arm, np.repeat(T, len(seeds), 0), seeds, rest)
    found: list[np.ndarray] = []
    for row in q[_reached(arm, error)]:
        if all(np.abs(row - other).max() > DISTINCT_RAD for other in found):
            found.append(row)
    return sorted(found, key=lambda row: float(np.abs(row - q0).max()))[:count]


def reached(position_error_m: float, angle_error_rad: float) -> bool:
    """Whether the errors of a solution are within what counts as reaching the pose."""
    return position_error_m <= POSITION_TOLERANCE_M and angle_error_rad <= ANGLE_TOLERANCE_RAD


def seed_postures(arm: Arm, T_base_tool: np.ndarray) -> list[np.ndarray]:
    """Joint positions to start from: the rest posture turned towards the pose, with several wrist turns and bends of the arm."""
    return list(_seeds(arm, np.asarray(T_base_tool, np.float64)[None])[0])


def _seeds(arm: Arm, T_base_tool: np.ndarray) -> np.ndarray:
    """``seed_postures`` of many poses (B, 4, 4): (B, SEEDS, J)."""
    rng = np.random.default_rng(0)
    joints = len(arm.home)
    bends = rng.uniform(-0.8, 0.8, (SEEDS, joints))
    bends[SEEDS // 2 :] = rng.uniform(arm.lower, arm.upper, (SEEDS - SEEDS // 2, joints)) - arm.home
    bends[:3] = 0.0
    bends[1:3, -1] = (-np.pi / 2, np.pi / 2)
    facing = np.broadcast_to(arm.home, (len(T_base_tool), joints)).copy()
    axis = arm.reacher.T_before[0, :3, :3] @ arm.reacher.axis[0]
    if abs(axis[2]) > 0.99:  # the first joint turns the arm about the vertical
        at_rest = tool_pose(arm, arm.home)[:2, 3]
        turn = np.arctan2(T_base_tool[:, 1, 3], T_base_tool[:, 0, 3]) - np.arctan2(at_rest[1], at_rest[0])
        turn = (turn + np.pi) % (2.0 * np.pi) - np.pi
        facing[:, 0] += np.sign(axis[2]) * turn
        bends[SEEDS // 2 :, 0] = 0.0
    return np.clip(facing[:, None] + bends, arm.lower, arm.upper)


def solve_path(arm: Arm, T_base_tool: np.ndarray, q0: np.ndarray, fps: float = 30.0) -> np.ndarray:
    """Joint positions (T, J) along tool poses (T, 4, 4) sampled at ``fps``, continuous from ``q0`` (J,).

    ``q0`` should reach the first pose or be close to it.

    Raises:
        PlanError: A pose cannot be reached, the posture would jump, or a joint would be too fast; the message says at which sample.
    """
    q, failed, why = follow_path(arm, T_base_tool, q0, fps)
    if why:
        at = np.round(T_base_tool[failed, :3, 3], 3).tolist()
        raise PlanError(f"The arm cannot follow the path at sample {failed} of {len(q)}, {at} m from the base: {why}.")
    return q


def follow_path(arm: Arm, T_base_tool: np.ndarray, q0: np.ndarray, fps: float) -> tuple[np.ndarray, int, str]:
    """``solve_path`` without raising: joint positions (T, J), the first sample that fails, and why ("" where none does)."""
    T = np.asarray(T_base_tool, np.float64)
    q0 = np.asarray(q0, np.float64)[None]
    start, _ = _solve(arm, T[:1], q0, q0)
    limits = PATH_ITERATIONS, PATH_PULL, PULL_RAD_S / fps, SOLVED_M
    rows, error = follow_rows(arm.reacher, T[None], start, arm.home, *limits, threads=1)
    out = rows[0]
    missed = ~_reached(arm, error[0])
    change = np.abs(np.diff(out, axis=0))
    jumps = np.append(False, (change > JUMP_RAD).any(1))
    if (missed | jumps).any():
        i = int((missed | jumps).argmax())
        why = "the posture would jump, the path passes a singular pose"
        return out, i, why_unreached(arm, T[i], out[i]) if missed[i] else why
    speed = change * fps
    if len(speed) and (speed > arm.velocity).any():
        i, joint = np.unravel_index(int((speed / arm.velocity).argmax()), speed.shape)
        name, limit = arm.robot.arm_joints[joint], arm.velocity[joint]
        return out, int(i) + 1, f"{name} would turn at {speed[i, joint]:.1f} rad/s and {limit:.1f} is its limit"
    return out, 0, ""


def why_unreached(arm: Arm, T_base_tool: np.ndarray, q: np.ndarray) -> str:
    """In words why the solver ended at ``q`` (J,) away from the pose: out of reach, at a joint limit, or singular."""
    distance = float(np.linalg.norm(T_base_tool[:3, 3]))
    if distance > arm.robot.reach_m:
        return f"out of reach, {distance:.2f} m from the base and {arm.robot.reach_m:.2f} m is as far as it gets"
    at_limit = np.flatnonzero((q <= arm.lower + 1e-6) | (q >= arm.upper - 1e-6))
    if len(at_limit):
        return f"{' and '.join(arm.robot.arm_joints[j] for j in at_limit)} at the joint limit"
    if np.linalg.svd(tool_jacobian(arm, q), compute_uv=False)[-1] < 0.02:
        return "the arm is singular there"
    return "out of reach in that orientation"


def _solve(arm: Arm, T: np.ndarray, q: np.ndarray, rest: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Joint positions (B, J) and what remains (B, 6), by the kernel; ``rest`` pulls, (B, J), by default the rest posture."""
    rest = arm.home if rest is None else rest
    return solve_rows(arm.reacher, T, q, rest, POSE_ITERATIONS, POSE_PULL, SOLVED_M, threads=1)


def _remainder(arm: Arm, error: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Position errors [m] and angle errors [rad] that count, of what remains (..., 6) in the tool's frame."""
    allowed = _per_turn(arm.robot, *SHORT_ALLOWANCE_RAD) if arm.robot.free_axis else 0.0
    turns = np.maximum(np.abs(error[..., 3:]) - allowed, 0.0)
    return np.linalg.norm(error[..., :3], axis=-1), np.linalg.norm(turns, axis=-1)


def _reached(arm: Arm, error: np.ndarray) -> np.ndarray:
    position, angle = _remainder(arm, error)
    return (position <= POSITION_TOLERANCE_M) & (angle <= ANGLE_TOLERANCE_RAD)


def _per_turn(robot: Robot, chosen: float, free: float) -> np.ndarray:
    """One value for turns about the tool's X, Y and Z, (3,): that of the free axis differs."""
    return np.where([axis == robot.free_axis.upper() for axis in "XYZ"], free, chosen)


def _span(arm: Arm) -> float:
    """No tool is further from the base than its joints' offsets laid end to end [m]."""
    ways = np.linalg.norm(np.concatenate([arm.reacher.T_before, arm.reacher.T_tool[None]])[:, :3, 3], axis=1)
    return float(ways.sum())
