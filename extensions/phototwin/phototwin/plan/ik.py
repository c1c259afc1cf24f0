"""Inverse kinematics of an arm by pink on pinocchio: tool poses and whole paths to joint positions, and where its links are.

Every step is pink's quadratic program: the tool task, joint limits as constraints, and a weak pull towards the rest posture
in what a redundant arm leaves free, so that the posture depends on the pose and not on how it was reached.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from phototwin.errors import PlanError
from phototwin.robots import Robot, rest_positions, tool_in_link

POSITION_TOLERANCE_M = 2e-4
ANGLE_TOLERANCE_RAD = 2e-3
LIMIT_MARGIN_RAD = 0.02
"""Kept from the joint limits, so that a drive that overshoots does not hit a stop."""
ORIENTATION_COST = 0.3
"""Weight of a radian against a metre in the tool task."""
REST_COST = 1e-3
"""Weight of the rest posture: its pull must not be seen at the tool."""
REST_GAIN = 0.05
"""Share of the way to the rest posture per step."""
DAMPING = 1e-2
"""Levenberg-Marquardt damping of the tool task; pink scales it with the squared error."""
SOLVER = "daqp"
PATH_ITERATIONS = 15
POSE_ITERATIONS = 50
EXTRA_SEEDS = 8
JUMP_RAD = 0.5
"""A larger change between neighbouring samples of a path is a change of posture, not a motion."""
POINTS_PER_LINK = 100


@dataclass(frozen=True, eq=False)
class Arm:
    """A robot's arm ready to be solved; the fingers are locked open.

    Attributes:
        robot: What it was made from.
        model: pinocchio model of the arm joints.
        data: Its scratch memory, so an ``Arm`` belongs to one thread.
        tool: Frame id of the tool frame.
        configuration: pink's view of model and data.
        tool_task, rest_task: pink's tasks.
        lower: Lower joint limits, margin included, (J,) [rad].
        upper: Upper joint limits, margin included, (J,) [rad].
        velocity: Joint speed limits, (J,) [rad/s].
        home: Rest posture, (J,) [rad].
        links: Per collision body its name, the id of the joint that carries it, and surface points (P, 3) in that joint's frame [m].
    """

    robot: Robot
    model: Any
    data: Any
    tool: int
    configuration: Any
    tool_task: Any
    rest_task: Any
    lower: np.ndarray
    upper: np.ndarray
    velocity: np.ndarray
    home: np.ndarray
    links: tuple[tuple[str, int, np.ndarray], ...]


def _pinocchio() -> Any:
    """pinocchio, imported on first use; its wheel adds a path of its own that type checkers do not follow."""
    import pinocchio  # pyright: ignore[reportMissingImports]

    return pinocchio


def load_arm(robot: Robot) -> Arm:
    """The arm of a robot's URDF, with the tool frame between its finger pads.

    Raises:
        PlanError: The URDF lacks a joint or link that the robot names.
    """
    import pink

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
    home = np.array(robot.home_rad)
    rest = pink.PostureTask(cost=REST_COST, gain=REST_GAIN)
    rest.set_target(home)
    return Arm(
        robot=robot,
        model=model,
        data=data,
        tool=tool,
        configuration=pink.Configuration(model, data, home),
        tool_task=pink.FrameTask("tool", 1.0, ORIENTATION_COST, lm_damping=DAMPING),
        rest_task=rest,
        lower=model.lowerPositionLimit.copy(),
        upper=model.upperPositionLimit.copy(),
        velocity=model.velocityLimit.copy(),
        home=home,
        links=_link_points(bodies),
    )


def _link_points(bodies: Any) -> tuple[tuple[str, int, np.ndarray], ...]:
    """Points on the convex hull of every collision body that moves, evenly spread, the same every time."""
    import trimesh

    links = []
    for body in bodies.geometryObjects:
        if body.parentJoint == 0:
            continue
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
    flat = np.atleast_2d(q)
    out = np.empty((len(flat), 4, 4))
    for i, row in enumerate(flat):
        pin.framesForwardKinematics(arm.model, arm.data, np.asarray(row, dtype=np.float64))
        out[i] = arm.data.oMf[arm.tool].homogeneous
    return out.reshape(*np.shape(q)[:-1], 4, 4)


def link_points(arm: Arm, q: np.ndarray) -> np.ndarray:
    """Surface points (P, 3) of all moving links and the fingers in the base frame at joint positions (J,) [m]."""
    pin = _pinocchio()
    pin.forwardKinematics(arm.model, arm.data, np.asarray(q, dtype=np.float64))
    parts = []
    for _, joint, points in arm.links:
        placement = arm.data.oMi[joint]
        parts.append(points @ placement.rotation.T + placement.translation)
    return np.concatenate(parts)


def solve_pose(arm: Arm, T_base_tool: np.ndarray, q0: np.ndarray) -> tuple[np.ndarray, float, float]:
    """Joint positions (J,) for one tool pose, with what remains: position error [m] and angle error [rad].

    Starts at ``q0`` and, where that ends away from the pose, at other elbow postures; the best is returned, reached or not.
    """
    best = (np.asarray(q0, dtype=np.float64), np.inf, np.inf)
    for seed in (np.asarray(q0, dtype=np.float64), *seed_postures(arm, T_base_tool)):
        q, position, angle = _descend(arm, T_base_tool, seed, POSE_ITERATIONS)
        if position + 0.1 * angle < best[1] + 0.1 * best[2]:
            best = (q, position, angle)
        if reached(position, angle):
            break
    return best


def solve_postures(arm: Arm, T_base_tool: np.ndarray, q0: np.ndarray, count: int = 4) -> list[np.ndarray]:
    """Up to ``count`` distinct joint positions (J,) that reach the pose, nearest to ``q0`` first; empty where none does."""
    found: list[np.ndarray] = []
    for seed in (np.asarray(q0, dtype=np.float64), *seed_postures(arm, T_base_tool)):
        q, position, angle = _descend(arm, T_base_tool, seed, POSE_ITERATIONS)
        if reached(position, angle) and all(np.abs(q - other).max() > 0.3 for other in found):
            found.append(q)
        if len(found) == count:
            break
    return sorted(found, key=lambda q: float(np.abs(q - q0).max()))


def reached(position_error_m: float, angle_error_rad: float) -> bool:
    """Whether the errors of a solution are within what counts as reaching the pose."""
    return position_error_m <= POSITION_TOLERANCE_M and angle_error_rad <= ANGLE_TOLERANCE_RAD


def seed_postures(arm: Arm, T_base_tool: np.ndarray) -> list[np.ndarray]:
    """Joint positions to start from: the rest posture turned towards the pose, with several wrist turns and bends of the arm."""
    rng = np.random.default_rng(0)
    facing = arm.home.copy()
    facing[0] = np.arctan2(T_base_tool[1, 3], T_base_tool[0, 3])
    seeds = [facing]
    for turn in (-np.pi / 2, np.pi / 2):
        seeds.append(facing.copy())
        seeds[-1][-1] += turn
    seeds += [facing + rng.uniform(-0.8, 0.8, facing.shape) for _ in range(EXTRA_SEEDS - len(seeds))]
    return [np.clip(seed, arm.lower, arm.upper) for seed in seeds]


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
    out = np.empty((len(T_base_tool), len(q0)))
    q = np.asarray(q0, dtype=np.float64)
    for i, pose in enumerate(T_base_tool):
        before = q
        q, position, angle = _descend(arm, pose, q, POSE_ITERATIONS if i == 0 else PATH_ITERATIONS)
        if not reached(position, angle):
            return out, i, why_unreached(arm, pose, q)
        if i and np.abs(q - before).max() > JUMP_RAD:
            return out, i, "the posture would jump, the path passes a singular pose"
        out[i] = q
    speed = np.abs(np.diff(out, axis=0)) * fps
    if len(speed) and (speed > arm.velocity).any():
        i, joint = np.unravel_index(int((speed / arm.velocity).argmax()), speed.shape)
        name, limit = arm.robot.arm_joints[joint], arm.velocity[joint]
        return out, int(i) + 1, f"{name} would turn at {speed[i, joint]:.1f} rad/s and {limit:.1f} is its limit"
    return out, 0, ""


def why_unreached(arm: Arm, T_base_tool: np.ndarray, q: np.ndarray) -> str:
    """In words why the solver ended at ``q`` (J,) away from the pose: out of reach, at a joint limit, or singular."""
    pin = _pinocchio()
    distance = float(np.linalg.norm(T_base_tool[:3, 3]))
    if distance > arm.robot.reach_m:
        return f"out of reach, {distance:.2f} m from the base and {arm.robot.reach_m:.2f} m is as far as it gets"
    at_limit = np.flatnonzero((q <= arm.lower + 1e-6) | (q >= arm.upper - 1e-6))
    if len(at_limit):
        return f"{' and '.join(arm.robot.arm_joints[j] for j in at_limit)} at the joint limit"
    J = pin.computeFrameJacobian(arm.model, arm.data, q, arm.tool, pin.ReferenceFrame.LOCAL)
    if np.linalg.svd(J, compute_uv=False)[-1] < 0.02:
        return "the arm is singular there"
    return "out of reach in that orientation"


def _descend(arm: Arm, T_base_tool: np.ndarray, q: np.ndarray, iterations: int) -> tuple[np.ndarray, float, float]:
    """Pink's steps from ``q`` until the pose is reached or the iterations are used up."""
    import pink

    arm.configuration.update(np.clip(q, arm.lower, arm.upper))
    arm.tool_task.set_target(_pinocchio().SE3(np.asarray(T_base_tool, dtype=np.float64)))
    position = angle = np.inf
    for i in range(iterations + 1):
        error = arm.tool_task.compute_error(arm.configuration)
        position, angle = float(np.sqrt(error[:3] @ error[:3])), float(np.sqrt(error[3:] @ error[3:]))
        # Well inside the tolerance, so that neighbouring samples agree and the path stays smooth.
        if (position < 0.25 * POSITION_TOLERANCE_M and angle < 0.25 * ANGLE_TOLERANCE_RAD) or i == iterations:
            break
        step = pink.solve_ik(arm.configuration, (arm.tool_task, arm.rest_task), dt=1.0, solver=SOLVER)
        arm.configuration.integrate_inplace(step, 1.0)
    return np.clip(arm.configuration.q, arm.lower, arm.upper), position, angle
