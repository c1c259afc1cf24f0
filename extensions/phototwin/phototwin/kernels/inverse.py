"""Inverse kinematics of a chain for thousands of tool poses at once, and along whole paths: damped least squares, one thread a pose or path."""

# Warp reads these annotations as types of its own; a type checker cannot.
# pyright: reportInvalidTypeForm=false, reportOperatorIssue=false, reportArgumentType=false, reportCallIssue=false
# pyright: reportAssignmentType=false, reportIndexIssue=false, reportGeneralTypeIssues=false, reportReturnType=false
# ruff: noqa: UP018, RUF046 (a bare literal would be a constant to Warp)

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import warp as wp

from phototwin.errors import InputError
from phototwin.frames import quat_xyzw_from_matrix
from phototwin.kernels.launch import launch_rows
from phototwin.kernels.links import TURNS, Chain

wp.set_module_options({"enable_backward": False, "max_unroll": 1})  # unrolled, 6 x 6 systems take a minute to compile

real = wp.float64
"""Paths are differentiated twice: single precision would be seen in their accelerations."""
Matrix6 = wp.types.matrix(shape=(6, 6), dtype=wp.float64)
Vector6 = wp.types.vector(length=6, dtype=wp.float64)
MAX_JOINTS = 30
"""A bit of an int for each joint that is held at its limit."""
BIAS = wp.constant(wp.float64(1.0e-8))
"""Damping that is left at the pose itself; it bounds the step where the arm is singular."""
LONGEST_STEP = wp.constant(wp.float64(0.4))
"""Joints turn no further in one step [rad]: beyond, the Jacobian says little."""
STILL = wp.constant(wp.float64(5.0e-4))
"""A posture that moves less than this in a step is where the pull takes it [rad]."""
STUCK = wp.constant(wp.float64(1.0e-7))
FINISH = wp.constant(6)
"""Steps at the end without a pull, so that the pose is met whatever was left of it."""
POLISH = wp.constant(4)
"""Steps at the very end, for arms that cannot choose every turn, in which the place alone counts."""


@dataclass(frozen=True, eq=False)
class Reacher:
    """The joints between a chain's base and its tool, in plain values, for ``solve_rows`` and ``follow_rows``.

    Attributes:
        kind: FIXED, TURNS or SLIDES of each of the J joints, (J,) int32.
        axis: (J, 3), unit.
        T_before: Pose of each joint in the link before it, (J, 4, 4) [m].
        T_tool: Tool in the last link, (4, 4) [m].
        lower: Lower limits, (J,) [rad or m].
        upper: Upper limits, (J,) [rad or m].
        turn_weight_m: What a radian about the tool's X, Y and Z weighs against a metre, (3,).
        polish: Whether the place is met first and turns only as far as the joints allow: for arms of fewer than six.
    """

    kind: np.ndarray
    axis: np.ndarray
    T_before: np.ndarray
    T_tool: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    turn_weight_m: np.ndarray
    polish: bool


@wp.struct
class ReacherOnDevice:
    """A reacher as kernels read it."""

    kind: wp.array(dtype=int)
    axis: wp.array(dtype=wp.vec3d)
    before: wp.array(dtype=wp.transformd)
    tool: wp.transformd
    lower: wp.array(dtype=wp.float64)
    upper: wp.array(dtype=wp.float64)
    turn_weight: wp.vec3d
    polish: int


@wp.struct
class Scratch:
    """What belongs to each row: columns of the Jacobian in the tool's frame, the step, the pull, and the posture it pulls to."""

    linear: wp.array2d(dtype=wp.vec3d)
    angular: wp.array2d(dtype=wp.vec3d)
    step: wp.array2d(dtype=wp.float64)
    pull: wp.array2d(dtype=wp.float64)
    rest: wp.array2d(dtype=wp.float64)


@wp.func
def turn_between(start: wp.quatd, end: wp.quatd) -> wp.vec3d:
    """Rotation vector, in the frame of ``start``, that turns it into ``end`` the short way round."""
    turn = wp.quat_inverse(start) * end
    v = wp.vec3d(turn[0], turn[1], turn[2])
    length = wp.length(v)
    if length < real(1.0e-12):
        return real(2.0) * v
    half = wp.atan2(length, wp.abs(turn[3]))
    return v * (wp.where(turn[3] < real(0.0), real(-2.0), real(2.0)) * half / length)


@wp.func
def place_tool(arm: ReacherOnDevice, q: wp.array2d(dtype=wp.float64), row: int, scratch: Scratch) -> wp.transformd:
    """Pose of the tool; leaves the Jacobian's columns in the tool's frame in ``scratch``."""
    T = wp.transform_identity(dtype=wp.float64)
    for j in range(arm.kind.shape[0]):
        T = T * arm.before[j]
        # For now the place and direction of the joint in the base's frame.
        scratch.linear[row, j] = wp.transform_get_translation(T)
        scratch.angular[row, j] = wp.quat_rotate(wp.transform_get_rotation(T), arm.axis[j])
        if arm.kind[j] == TURNS:
            T = T * wp.transformation(wp.vec3d(), wp.quat_from_axis_angle(arm.axis[j], q[row, j]))
        else:
            T = T * wp.transformation(q[row, j] * arm.axis[j], wp.quat_identity(dtype=wp.float64))
    T = T * arm.tool
    p = wp.transform_get_translation(T)
    turn = wp.transform_get_rotation(T)
    for j in range(arm.kind.shape[0]):
        axis = scratch.angular[row, j]
        linear = axis
        angular = wp.vec3d()
        if arm.kind[j] == TURNS:
            linear = wp.cross(axis, p - scratch.linear[row, j])
            angular = axis
        scratch.linear[row, j] = wp.quat_rotate_inv(turn, linear)
        scratch.angular[row, j] = wp.quat_rotate_inv(turn, angular)
    return T


@wp.func
def solve_damped(A: Matrix6, b: Vector6) -> Vector6:
    """Solution x of A x = b, A symmetric and positive definite, by Cholesky's factors."""
    L = Matrix6()
    for i in range(6):
        for j in range(i + 1):
            s = A[i, j]
            for k in range(j):
                s -= L[i, k] * L[j, k]
            if i == j:
                L[i, i] = wp.sqrt(wp.max(s, real(1.0e-30)))
            else:
                L[i, j] = s / L[j, j]
    x = b
    for i in range(6):
        s = x[i]
        for k in range(i):
            s -= L[i, k] * x[k]
        x[i] = s / L[i, i]
    for m in range(6):
        i = 5 - m
        s = x[i]
        for k in range(i + 1, 6):
            s -= L[k, i] * x[k]
        x[i] = s / L[i, i]
    return x


@wp.func
def joint_step(
    arm: ReacherOnDevice,
    q: wp.array2d(dtype=wp.float64),
    row: int,
    e: Vector6,
    weight: wp.vec3d,
    scratch: Scratch,
) -> wp.float64:
    """One damped least-squares step into ``scratch.step``, and its largest joint; joints at a limit that would pass it stay.

    The step is J# (e - J z) + z: what brings the tool to the pose, and of the pull z what the tool does not feel.
    Source: Sugihara (2011), damping by half the squared error; Liegeois (1977), the null-space pull.
    """
    joints = arm.kind.shape[0]
    damping = real(0.5) * wp.dot(e, e) + BIAS
    held = int(0)
    largest = real(0.0)
    again = bool(True)
    while again:
        A = Matrix6()
        b = e
        for i in range(6):
            A[i, i] = damping
        for j in range(joints):
            if (held & (1 << j)) == 0:
                v = scratch.linear[row, j]
                w = wp.cw_mul(weight, scratch.angular[row, j])
                c = Vector6(v[0], v[1], v[2], w[0], w[1], w[2])
                b -= scratch.pull[row, j] * c
                for i in range(6):
                    for k in range(i + 1):
                        A[i, k] += c[i] * c[k]
        y = solve_damped(A, b)
        again = bool(False)
        largest = real(0.0)
        for j in range(joints):
            scratch.step[row, j] = real(0.0)
            if (held & (1 << j)) == 0:
                v = scratch.linear[row, j]
                w = wp.cw_mul(weight, scratch.angular[row, j])
                d = v[0] * y[0] + v[1] * y[1] + v[2] * y[2] + w[0] * y[3] + w[1] * y[4] + w[2] * y[5]
                d += scratch.pull[row, j]
                scratch.step[row, j] = d
                largest = wp.max(largest, wp.abs(d))
                if (q[row, j] <= arm.lower[j] and d < real(0.0)) or (q[row, j] >= arm.upper[j] and d > real(0.0)):
                    held = held | (1 << j)
                    again = bool(True)
    return largest


@wp.func
def set_pull(
    arm: ReacherOnDevice,
    q: wp.array2d(dtype=wp.float64),
    row: int,
    share: wp.float64,
    most: wp.float64,
    scratch: Scratch,
) -> None:
    """Write the pull towards the rest posture: a share of the way, no joint by more than ``most``."""
    longest = real(1.0e-12)
    for j in range(arm.kind.shape[0]):
        longest = wp.max(longest, share * wp.abs(scratch.rest[row, j] - q[row, j]))
    taken = share * wp.min(real(1.0), most / longest)
    for j in range(arm.kind.shape[0]):
        scratch.pull[row, j] = taken * (scratch.rest[row, j] - q[row, j])


@wp.func
def descend(
    arm: ReacherOnDevice,
    goal: wp.mat44d,
    q: wp.array2d(dtype=wp.float64),
    row: int,
    iterations: int,
    pulls: int,
    share: wp.float64,
    most: wp.float64,
    enough: wp.float64,
    scratch: Scratch,
) -> Vector6:
    """Steps from q until the tool's error is below ``enough`` and the posture is still; what remains, in the tool's frame [m, rad].

    The pull acts in the first ``pulls`` steps.
    """
    there = wp.transform_from_matrix(goal)
    e = Vector6()
    it = int(0)
    last = iterations + arm.polish * POLISH
    going = bool(True)
    while going:
        T = place_tool(arm, q, row, scratch)
        turn = wp.transform_get_rotation(T)
        far = wp.quat_rotate_inv(turn, wp.transform_get_translation(there) - wp.transform_get_translation(T))
        bent = turn_between(turn, wp.transform_get_rotation(there))
        e = Vector6(far[0], far[1], far[2], bent[0], bent[1], bent[2])
        met = wp.length(far) < enough and wp.length(bent) < real(10.0) * enough
        if it >= last or (met and it >= pulls):
            going = bool(False)
        else:
            weight = arm.turn_weight
            if it >= iterations:
                weight = wp.vec3d()
            set_pull(arm, q, row, wp.where(it < pulls, share, real(0.0)), most, scratch)
            w = wp.cw_mul(weight, bent)
            d = joint_step(arm, q, row, Vector6(far[0], far[1], far[2], w[0], w[1], w[2]), weight, scratch)
            scale = wp.min(real(1.0), LONGEST_STEP / wp.max(d, real(1.0e-12)))
            for j in range(arm.kind.shape[0]):
                moved = q[row, j] + scale * scratch.step[row, j]
                q[row, j] = wp.min(wp.max(moved, arm.lower[j]), arm.upper[j])
            it += 1
            if it < pulls and d < STILL and met:
                pulls = it
            if d < STUCK and it >= pulls:
                it = wp.max(it, wp.where(it < iterations, iterations, last))
    return e


@wp.kernel(enable_backward=False)
def solve_poses_kernel(
    # in
    first: int,
    arm: ReacherOnDevice,
    goals: wp.array(dtype=wp.mat44d),
    iterations: int,
    share: wp.float64,
    enough: wp.float64,
    scratch: Scratch,
    # in and out
    q: wp.array2d(dtype=wp.float64),
    # out
    error_out: wp.array(dtype=Vector6),
) -> None:
    """One thread a pose: from the start posture to the pose, and within what is free to the rest posture."""
    row, _block = wp.tid()
    b = first + row
    error_out[b] = descend(arm, goals[b], q, b, iterations, iterations - FINISH, share, LONGEST_STEP, enough, scratch)


@wp.kernel(enable_backward=False)
def follow_paths_kernel(
    # in
    first: int,
    arm: ReacherOnDevice,
    goals: wp.array2d(dtype=wp.mat44d),
    iterations: int,
    share: wp.float64,
    most: wp.float64,
    enough: wp.float64,
    scratch: Scratch,
    # in and out
    q: wp.array2d(dtype=wp.float64),
    # out
    q_out: wp.array3d(dtype=wp.float64),
    error_out: wp.array2d(dtype=Vector6),
) -> None:
    """One thread a path: every sample starts from the one before and is pulled once."""
    row, _block = wp.tid()
    b = first + row
    for t in range(goals.shape[1]):
        error_out[b, t] = descend(arm, goals[b, t], q, b, iterations, 1, share, most, enough, scratch)
        for j in range(arm.kind.shape[0]):
            q_out[b, t, j] = q[b, j]


def make_reacher(chain: Chain, link: str, turn_weight_m: np.ndarray | float, polish: bool = False) -> Reacher:
    """The joints that carry a link of a chain, whose joint positions they must all be.

    Raises:
        InputError: There is no such link, a joint does not move it, or there are too many.
    """
    if link not in chain.names:
        raise InputError(f"The chain has no link '{link}'; its links are {', '.join(chain.names)}.")
    way, at = [], chain.names.index(link)
    while at > 0:
        way.append(at)
        at = int(chain.parent[at])
    kinds, axes, places, joints = [], [], [], []
    T = np.eye(4)
    for i in reversed(way):
        T = T @ chain.T_parent_link[i]
        if chain.joint[i] >= 0:
            kinds.append(chain.kind[i])
            axes.append(chain.axis[i])
            places.append(T)
            joints.append(int(chain.joint[i]))
            T = np.eye(4)
    if joints != list(range(len(chain.lower))) or len(joints) > MAX_JOINTS:
        raise InputError(
            f"The link '{link}' is moved by the joints {joints} of {len(chain.lower)}: expected all of them in order, "
            f"at most {MAX_JOINTS}."
        )
    return Reacher(
        kind=np.array(kinds, dtype=np.int32),
        axis=np.array(axes, dtype=np.float64),
        T_before=np.array(places),
        T_tool=T,
        lower=np.asarray(chain.lower, np.float64),
        upper=np.asarray(chain.upper, np.float64),
        turn_weight_m=np.broadcast_to(np.asarray(turn_weight_m, np.float64), (3,)),
        polish=polish,
    )


def solve_rows(
    arm: Reacher,
    T_base_tool: np.ndarray,
    q_start: np.ndarray,
    q_rest: np.ndarray,
    iterations: int,
    share: float,
    enough_m: float,
    device: str = "cpu",
    threads: int | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Joint positions (B, J) from B starts (B, J) towards B tool poses (B, 4, 4), and what remains in the tool's frame, (B, 6) [m, rad].

    Limits are never passed. What a redundant arm leaves free goes to where it is nearest to the rest posture.

    Args:
        arm: From ``make_reacher``.
        T_base_tool: (B, 4, 4) [m].
        q_start: (B, J).
        q_rest: Postures that pull at what is free, (B, J), or (J,) for all.
        iterations: At most so many steps.
        share: Of the way to the rest posture in a step.
        enough_m: An error below this ends the search; ten times that in radians for turns.
        device: Warp device.
        threads: On a CPU; None takes all cores.

    Raises:
        InputError: Shapes do not fit each other.
    """
    T, q = np.asarray(T_base_tool, np.float64), np.asarray(q_start, np.float64)
    if T.ndim != 3 or T.shape[1:] != (4, 4) or q.shape != (len(T), len(arm.kind)):
        raise InputError(f"Expected poses (B, 4, 4) and postures (B, {len(arm.kind)}), got {T.shape} and {q.shape}.")
    found = wp.get_device(device)
    postures = wp.array(np.clip(q, arm.lower, arm.upper), dtype=wp.float64, device=found)
    error = wp.empty(len(T), dtype=Vector6, device=found)
    goals = wp.array(np.ascontiguousarray(T), dtype=wp.mat44d, device=found)
    inputs = [
        _on_device(arm, found.alias),
        goals,
        iterations,
        float(share),
        float(enough_m),
        _scratch(q.shape, q_rest, found),
    ]
    launch_rows(solve_poses_kernel, len(T), 1, [*inputs, postures], [error], found, threads)
    return postures.numpy(), error.numpy()


def follow_rows(
    arm: Reacher,
    T_base_tool: np.ndarray,
    q_start: np.ndarray,
    q_rest: np.ndarray,
    iterations: int,
    share: float,
    most_rad: float,
    enough_m: float,
    device: str = "cpu",
    threads: int | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Joint positions (B, T, J) along B paths (B, T, 4, 4) from B starts (B, J), and what remains at each sample, (B, T, 6) [m, rad].

    Every sample starts at the one before; the rest posture pulls once a sample, no joint by more than ``most_rad``.
    Other arguments and errors as in ``solve_rows``.
    """
    T, q = np.asarray(T_base_tool, np.float64), np.asarray(q_start, np.float64)
    if T.ndim != 4 or T.shape[2:] != (4, 4) or q.shape != (len(T), len(arm.kind)):
        raise InputError(f"Expected paths (B, T, 4, 4) and postures (B, {len(arm.kind)}), got {T.shape} and {q.shape}.")
    found = wp.get_device(device)
    postures = wp.array(np.clip(q, arm.lower, arm.upper), dtype=wp.float64, device=found)
    out = wp.empty((*T.shape[:2], q.shape[1]), dtype=wp.float64, device=found)
    error = wp.empty(T.shape[:2], dtype=Vector6, device=found)
    goals = wp.array(np.ascontiguousarray(T), dtype=wp.mat44d, device=found)
    inputs = [_on_device(arm, found.alias), goals, iterations, float(share), float(most_rad), float(enough_m)]
    inputs += [_scratch(q.shape, q_rest, found), postures]
    launch_rows(follow_paths_kernel, len(T), 1, inputs, [out, error], found, threads)
    return out.numpy(), error.numpy()


def _rows(T: np.ndarray) -> np.ndarray:
    """Transforms (N, 4, 4) as Warp keeps them: place and quaternion, (N, 7)."""
    return np.concatenate([T[:, :3, 3], quat_xyzw_from_matrix(T[:, :3, :3])], 1)


@lru_cache(maxsize=8)
def _on_device(arm: Reacher, device: str) -> Any:
    out = ReacherOnDevice()
    out.kind = wp.array(arm.kind, dtype=int, device=device)
    out.axis = wp.array(arm.axis, dtype=wp.vec3d, device=device)
    out.before = wp.array(_rows(arm.T_before), dtype=wp.transformd, device=device)
    out.tool = wp.transformd(*_rows(arm.T_tool[None])[0])
    out.lower = wp.array(arm.lower, dtype=wp.float64, device=device)
    out.upper = wp.array(arm.upper, dtype=wp.float64, device=device)
    out.turn_weight = wp.vec3d(*arm.turn_weight_m)
    out.polish = int(arm.polish)
    return out


def _scratch(shape: tuple[int, ...], q_rest: np.ndarray, device: Any) -> Any:
    out = Scratch()
    out.linear = wp.empty(shape, dtype=wp.vec3d, device=device)
    out.angular = wp.empty(shape, dtype=wp.vec3d, device=device)
    out.step = wp.empty(shape, dtype=wp.float64, device=device)
    out.pull = wp.empty(shape, dtype=wp.float64, device=device)
    out.rest = wp.array(np.ascontiguousarray(np.broadcast_to(q_rest, shape)), dtype=wp.float64, device=device)
    return out
