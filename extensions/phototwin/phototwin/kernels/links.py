"""Forward kinematics of a robot for many configurations at once: where its links are, and the spheres that stand for them."""

# Warp reads these annotations as types of its own; a type checker cannot.
# pyright: reportInvalidTypeForm=false, reportOperatorIssue=false, reportArgumentType=false, reportCallIssue=false
# pyright: reportAssignmentType=false, reportIndexIssue=false, reportGeneralTypeIssues=false, reportReturnType=false

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import warp as wp

from phototwin.errors import InputError
from phototwin.frames import quat_xyzw_from_matrix
from phototwin.kernels.launch import launch_rows

FIXED = wp.constant(0)
TURNS = wp.constant(1)
SLIDES = wp.constant(2)
AXES = {"X": (1.0, 0.0, 0.0), "Y": (0.0, 1.0, 0.0), "Z": (0.0, 0.0, 1.0)}


@dataclass(frozen=True, eq=False)
class Chain:
    """A fixed-base robot of L links in plain values, parents before children; link 0 is the base.

    Attributes:
        names: L names: of the joint that carries the link, or of the frame.
        parent: Link that carries each, (L,) int32; -1 for the base.
        kind: FIXED, TURNS or SLIDES, (L,) int32.
        joint: Which of the J joint positions moves it, (L,) int32; -1 where none does.
        axis: Of the joint, (L, 3), unit.
        T_parent_link: Pose in the parent where the joint is at 0, (L, 4, 4) [m].
        lower: Lower joint limits, (J,) [rad or m].
        upper: Upper joint limits, (J,) [rad or m].
    """

    names: tuple[str, ...]
    parent: np.ndarray
    kind: np.ndarray
    joint: np.ndarray
    axis: np.ndarray
    T_parent_link: np.ndarray
    lower: np.ndarray
    upper: np.ndarray


@dataclass(frozen=True, eq=False)
class BodySpheres:
    """S spheres fixed to the links of a chain.

    Attributes:
        link: Link of each, (S,) int32.
        centers: Centres in the frame of the link, (S, 3) [m].
        radii_m: (S,) [m].
    """

    link: np.ndarray
    centers: np.ndarray
    radii_m: np.ndarray


@wp.struct
class ChainOnDevice:
    """A chain as kernels read it."""

    parent: wp.array(dtype=int)
    kind: wp.array(dtype=int)
    joint: wp.array(dtype=int)
    axis: wp.array(dtype=wp.vec3)
    T_parent_link: wp.array(dtype=wp.transform)
    T_world_base: wp.array(dtype=wp.transform)


@wp.func
def joint_motion(chain: ChainOnDevice, i: int, q: float) -> wp.transform:
    """What the joint of link i adds to the pose of the link at position q."""
    if chain.kind[i] == TURNS:
        return wp.transform(wp.vec3(0.0, 0.0, 0.0), wp.quat_from_axis_angle(chain.axis[i], q))
    return wp.transform(q * chain.axis[i], wp.quat_identity())


@wp.kernel(enable_backward=False)
def place_links_kernel(
    # in
    first: int,
    chain: ChainOnDevice,
    q: wp.array2d(dtype=float),
    # out
    T_world_link_out: wp.array2d(dtype=wp.transform),
) -> None:
    """One thread a configuration: from the base outwards."""
    row, _block = wp.tid()
    b = first + row
    T_world_link_out[b, 0] = chain.T_world_base[wp.min(b, chain.T_world_base.shape[0] - 1)]
    for i in range(1, chain.parent.shape[0]):
        T = T_world_link_out[b, chain.parent[i]] * chain.T_parent_link[i]
        if chain.joint[i] >= 0:
            T = T * joint_motion(chain, i, q[b, chain.joint[i]])
        T_world_link_out[b, i] = T


@wp.kernel(enable_backward=False)
def place_spheres_kernel(
    # in
    first: int,
    T_world_link: wp.array2d(dtype=wp.transform),
    link: wp.array(dtype=int),
    centers: wp.array(dtype=wp.vec3),
    span: int,
    # out
    centers_w_out: wp.array2d(dtype=wp.vec3),
) -> None:
    """One thread a configuration and block of spheres."""
    row, block = wp.tid()
    b = first + row
    for s in range(block * span, wp.min(link.shape[0], (block + 1) * span)):
        centers_w_out[b, s] = wp.transform_point(T_world_link[b, link[s]], centers[s])


@wp.kernel(enable_backward=False)
def write_matrices_kernel(
    # in
    first: int,
    T_world_link: wp.array2d(dtype=wp.transform),
    span: int,
    # out
    matrices_out: wp.array2d(dtype=wp.mat44),
) -> None:
    """One thread a configuration and block of links: rigid transforms as matrices."""
    row, block = wp.tid()
    b = first + row
    for i in range(block * span, wp.min(T_world_link.shape[1], (block + 1) * span)):
        matrices_out[b, i] = wp.transform_to_matrix(T_world_link[b, i])


def chain_of(model: Any, frames: Sequence[str] = ()) -> Chain:
    """The chain of a pinocchio model, whose joints become its links, with named frames as further, fixed links.

    Args:
        model: ``pinocchio.Model`` of joints that turn or slide about one axis.
        frames: Names of frames of the model, such as the tool's.

    Raises:
        InputError: A joint of another kind, or no frame of that name.
    """
    rows: list[tuple[str, int, int, int, tuple[float, ...], np.ndarray]] = []
    lower, upper = np.zeros(model.nv), np.zeros(model.nv)
    for i in range(1, model.njoints):
        joint = model.joints[i]
        kind, axis = _kind_and_axis(joint, model.names[i])
        rows.append(
            (model.names[i], int(model.parents[i]), kind, int(joint.idx_v), axis, _matrix(model.jointPlacements[i]))
        )
        bounded = joint.nq == 1  # a wheel has the cosine and sine of its angle
        lower[joint.idx_v] = model.lowerPositionLimit[joint.idx_q] if bounded else -np.pi
        upper[joint.idx_v] = model.upperPositionLimit[joint.idx_q] if bounded else np.pi
    for name in frames:
        if not model.existFrame(name):
            raise InputError(
                f"The robot has no frame '{name}'; its frames are {', '.join(f.name for f in model.frames)}."
            )
        frame = model.frames[model.getFrameId(name)]
        rows.append((name, int(frame.parentJoint), FIXED, -1, AXES["Z"], _matrix(frame.placement)))
    names, parent, kinds, joints, axes, placements = zip(*rows, strict=True) if rows else ((),) * 6
    return Chain(
        names=("base", *names),
        parent=np.array([-1, *parent], dtype=np.int32),
        kind=np.array([FIXED, *kinds], dtype=np.int32),
        joint=np.array([-1, *joints], dtype=np.int32),
        axis=np.array([AXES["Z"], *axes]),
        T_parent_link=np.array([np.eye(4), *placements]),
        lower=lower,
        upper=upper,
    )


def _matrix(placement: Any) -> np.ndarray:
    return np.array(placement.homogeneous, dtype=np.float64)


def _kind_and_axis(joint: Any, name: str) -> tuple[int, tuple[float, ...]]:
    """What pinocchio's joint does, read off its type: JointModelRZ, JointModelPY, JointModelRUBX, JointModelPrismaticUnaligned ..."""
    word = joint.shortname().removeprefix("JointModel")
    if word in ("RevoluteUnaligned", "RevoluteUnboundedUnaligned", "PrismaticUnaligned"):
        return SLIDES if word.startswith("P") else TURNS, tuple(float(x) for x in joint.extract().axis)
    if word[:-1] in ("R", "RUB", "P") and word[-1] in AXES:
        return SLIDES if word[0] == "P" else TURNS, AXES[word[-1]]
    raise InputError(
        f"The joint '{name}' is a {joint.shortname()}; only joints that turn or slide about one axis are known."
    )


def link_poses(
    chain: Chain,
    q: np.ndarray,
    T_world_base: np.ndarray | None = None,
    device: str = "cpu",
    threads: int | None = None,
) -> np.ndarray:
    """Poses T_world_link (B, L, 4, 4) float32 of all links in B configurations.

    Args:
        chain: The robot.
        q: Joint positions, (B, J) [rad or m].
        T_world_base: Of the base, (4, 4), or (B, 4, 4) of its own for each; None puts it at the origin.
        device: Warp device.
        threads: On a CPU; None takes all cores.

    Raises:
        InputError: Shapes do not fit each other.
    """
    found = wp.get_device(device)
    T = place_links(chain, q, T_world_base, found, threads)
    span = 1 if found.is_cuda else T.shape[1]
    out = wp.empty(T.shape, dtype=wp.mat44, device=found)
    launch_rows(write_matrices_kernel, T.shape[0], -(-T.shape[1] // span), [T, span], [out], found, threads)
    return out.numpy()


def sphere_centers(
    chain: Chain,
    spheres: BodySpheres,
    q: np.ndarray,
    T_world_base: np.ndarray | None = None,
    device: str = "cpu",
    threads: int | None = None,
) -> np.ndarray:
    """Centres (B, S, 3) float32 of a robot's spheres in B configurations, for ``sphere_mesh_distances``; arguments as ``link_poses``."""
    found = wp.get_device(device)
    T = place_links(chain, q, T_world_base, found, threads)
    return place_spheres(T, spheres, found, threads).numpy()


def place_links(chain: Chain, q: np.ndarray, T_world_base: np.ndarray | None, device: Any, threads: int | None) -> Any:
    """``link_poses`` as a Warp array (B, L) of transforms that stays on the device."""
    q = np.ascontiguousarray(q, np.float32)
    if q.ndim != 2 or q.shape[1] != len(chain.lower):
        raise InputError(f"Expected joint positions (B, {len(chain.lower)}), got {q.shape}.")
    out = wp.empty((len(q), len(chain.names)), dtype=wp.transform, device=device)
    inputs = [chain_on_device(chain, T_world_base, len(q), device), wp.array(q, dtype=float, device=device)]
    launch_rows(place_links_kernel, len(q), 1, inputs, [out], device, threads)
    return out


def place_spheres(T_world_link: Any, spheres: BodySpheres, device: Any, threads: int | None) -> Any:
    """Centres (B, S) of spheres as a Warp array of points that stays on the device.

    Raises:
        InputError: A sphere names a link that is not there.
    """
    rows, count = T_world_link.shape[0], len(spheres.link)
    if count and not 0 <= spheres.link.min() <= spheres.link.max() < T_world_link.shape[1]:
        raise InputError(f"Spheres name links {spheres.link.min()}..{spheres.link.max()} of {T_world_link.shape[1]}.")
    out = wp.empty((rows, count), dtype=wp.vec3, device=device)
    span = 1 if device.is_cuda else max(count, 1)
    link = wp.array(np.ascontiguousarray(spheres.link, np.int32), dtype=int, device=device)
    centers = wp.array(np.ascontiguousarray(spheres.centers, np.float32), dtype=wp.vec3, device=device)
    launch_rows(
        place_spheres_kernel, rows, -(-count // span), [T_world_link, link, centers, span], [out], device, threads
    )
    return out


def chain_on_device(chain: Chain, T_world_base: np.ndarray | None, rows: int, device: Any) -> Any:
    """The chain with its base at one pose (4, 4), or at one for each of the rows (B, 4, 4).

    Raises:
        InputError: Neither shape.
    """
    T = np.eye(4) if T_world_base is None else np.asarray(T_world_base, np.float64)
    T = T[None] if T.ndim == 2 else T
    if T.shape[1:] != (4, 4) or len(T) not in (1, rows):
        raise InputError(f"Base poses of shape {np.shape(T_world_base)} are neither (4, 4) nor ({rows}, 4, 4).")
    out = ChainOnDevice()
    out.parent = wp.array(chain.parent, dtype=int, device=device)
    out.kind = wp.array(chain.kind, dtype=int, device=device)
    out.joint = wp.array(chain.joint, dtype=int, device=device)
    out.axis = wp.array(chain.axis.astype(np.float32), dtype=wp.vec3, device=device)
    out.T_parent_link = wp.array(_rows(chain.T_parent_link), dtype=wp.transform, device=device)
    out.T_world_base = wp.array(_rows(T), dtype=wp.transform, device=device)
    return out


def _rows(T: np.ndarray) -> np.ndarray:
    """Transforms (N, 4, 4) as Warp keeps them: place and quaternion, (N, 7) float32."""
    return np.concatenate([T[:, :3, 3], quat_xyzw_from_matrix(T[:, :3, :3])], 1).astype(np.float32)
