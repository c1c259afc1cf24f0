"""Where an arm's tool gets, and with which approach: a map made once from many postures, then thousands of base places scored by it."""

# Warp reads these annotations as types of its own; a type checker cannot.
# pyright: reportInvalidTypeForm=false, reportOperatorIssue=false, reportArgumentType=false, reportCallIssue=false
# pyright: reportAssignmentType=false, reportIndexIssue=false, reportGeneralTypeIssues=false, reportReturnType=false
# ruff: noqa: UP018, RUF046 (a bare literal would be a constant to Warp)

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import warp as wp

from phototwin.errors import InputError
from phototwin.frames import invert
from phototwin.kernels.launch import launch_rows
from phototwin.kernels.links import SLIDES, TURNS, Chain, link_poses

wp.set_module_options({"enable_backward": False})

VOXEL_M = 0.04
AZIMUTHS = 16
SIDES = 4
"""Cells along an edge of the cube on which directions are sorted: 96 directions some 25 degrees apart."""
SAMPLES = 800_000
ENOUGH = 3
"""A cell that fewer postures reach lies on the border: of its tool poses too many are out of reach."""
CHUNK = 50_000
UPRIGHT = 1e-6


@dataclass(frozen=True, eq=False)
class ReachMap:
    """How many sampled postures bring the tool into each cell.

    Cells are cylindrical around the base's Z: azimuth, radius, height, and the tool's +Z as a cell of a cube that turns with the azimuth.

    Attributes:
        counts: (A, R, H, D) int32.
        voxel_m: Size of a cell in radius and height [m].
        lowest_m: Height at which the cells begin [m].
    """

    counts: np.ndarray
    voxel_m: float
    lowest_m: float


@wp.func
def direction_cell(d: wp.vec3, sides: int) -> int:
    """Cell of a unit direction on the faces of a cube; cells of equal angle, not of equal side."""
    a = wp.vec3(wp.abs(d[0]), wp.abs(d[1]), wp.abs(d[2]))
    axis = int(0)
    if a[1] > a[0] and a[1] >= a[2]:
        axis = 1
    elif a[2] > a[0] and a[2] > a[1]:
        axis = 2
    main = d[axis]
    u = d[(axis + 1) % 3] / wp.abs(main)
    v = d[(axis + 2) % 3] / wp.abs(main)
    quarter = float(0.7853982)
    i = wp.clamp(int(0.5 * (wp.atan(u) / quarter + 1.0) * float(sides)), 0, sides - 1)
    j = wp.clamp(int(0.5 * (wp.atan(v) / quarter + 1.0) * float(sides)), 0, sides - 1)
    face = 2 * axis + wp.where(main < 0.0, 1, 0)
    return (face * sides + i) * sides + j


@wp.func
def cell_of(place: wp.vec3, approach: wp.vec3, voxel: float, lowest: float, azimuths: int, sides: int) -> wp.vec4i:
    """Azimuth, radius, height and direction cell of a tool in the frame of the base; the first three may be outside the map."""
    radius = wp.length(wp.vec2(place[0], place[1]))
    angle = wp.atan2(place[1], place[0])
    c = wp.cos(angle)
    s = wp.sin(angle)
    turned = wp.vec3(c * approach[0] + s * approach[1], c * approach[1] - s * approach[0], approach[2])
    a = int(wp.floor((angle / 6.2831855 + 0.5) * float(azimuths)))
    return wp.vec4i(
        wp.clamp(a, 0, azimuths - 1),
        int(wp.floor(radius / voxel)),
        int(wp.floor((place[2] - lowest) / voxel)),
        direction_cell(turned, sides),
    )


@wp.kernel(enable_backward=False)
def count_postures_kernel(
    # in
    first: int,
    T_base_tool: wp.array(dtype=wp.mat44),
    q_first: wp.array(dtype=float),
    lower: float,
    upper: float,
    turns: bool,
    voxel: float,
    lowest: float,
    sides: int,
    # out
    counts_out: wp.array4d(dtype=int),
) -> None:
    """One thread a posture: it counts in its cell, or, where the first joint turns about the base's Z, in every azimuth that joint allows."""
    row, _block = wp.tid()
    i = first + row
    T = T_base_tool[i]
    place = wp.vec3(T[0, 3], T[1, 3], T[2, 3])
    azimuths = counts_out.shape[0]
    cell = cell_of(place, wp.vec3(T[0, 2], T[1, 2], T[2, 2]), voxel, lowest, azimuths, sides)
    if cell[1] < counts_out.shape[1] and cell[2] >= 0 and cell[2] < counts_out.shape[2]:
        if turns:
            angle = wp.atan2(place[1], place[0])
            for a in range(azimuths):
                # The middle of the azimuth's cell stands for all of it.
                needed = q_first[i] + 6.2831855 * ((float(a) + 0.5) / float(azimuths) - 0.5) - angle
                needed -= 6.2831855 * wp.floor((needed - lower) / 6.2831855)
                if needed <= upper:
                    wp.atomic_add(counts_out, a, cell[1], cell[2], cell[3], 1)
        else:
            wp.atomic_add(counts_out, cell[0], cell[1], cell[2], cell[3], 1)


@wp.kernel(enable_backward=False)
def score_bases_kernel(
    # in
    first: int,
    counts: wp.array4d(dtype=int),
    T_base_world: wp.array(dtype=wp.mat44),
    T_world_tool: wp.array(dtype=wp.mat44),
    voxel: float,
    lowest: float,
    sides: int,
    span: int,
    # out
    found_out: wp.array2d(dtype=int),
) -> None:
    """One thread a base and block of targets: how many postures are known for each."""
    row, block = wp.tid()
    b = first + row
    for k in range(block * span, wp.min(T_world_tool.shape[0], (block + 1) * span)):
        target = T_world_tool[k]
        place = wp.transform_point(T_base_world[b], wp.vec3(target[0, 3], target[1, 3], target[2, 3]))
        approach = wp.transform_vector(T_base_world[b], wp.vec3(target[0, 2], target[1, 2], target[2, 2]))
        cell = cell_of(place, approach, voxel, lowest, counts.shape[0], sides)
        known = int(0)
        if cell[1] < counts.shape[1] and cell[2] >= 0 and cell[2] < counts.shape[2]:
            known = counts[cell[0], cell[1], cell[2], cell[3]]
        found_out[b, k] = known


def make_reach_map(
    chain: Chain,
    tool: str,
    seed: int,
    samples: int = SAMPLES,
    voxel_m: float = VOXEL_M,
    fixed: np.ndarray | None = None,
    device: str = "cpu",
    threads: int | None = None,
) -> ReachMap:
    """What an arm reaches, from random postures within its joint limits.

    Where the first joint turns about the base's Z, every posture stands for all azimuths that the joint allows.

    Args:
        chain: The robot.
        tool: Name of the link whose +Z is the approach, as "tool".
        seed: Of the postures.
        samples: How many.
        voxel_m: Size of a cell [m].
        fixed: Joint positions (J,) of joints that are held, NaN where one moves; None holds none.
        device: Warp device.
        threads: On a CPU; None takes all cores.

    Raises:
        InputError: No link of that name, or no size.
    """
    if tool not in chain.names or not voxel_m > 0.0:
        raise InputError(
            f"Expected a link among {', '.join(chain.names)} and a voxel > 0, got '{tool}' and {voxel_m} m."
        )
    if not len(chain.lower):
        raise InputError("The robot has no joints that move: there is nothing to map.")
    link, root, turns = chain.names.index(tool), max(int(chain.joint[1]), 0), _turns_about_base(chain)
    rng, found = np.random.default_rng(seed), wp.get_device(device)
    held = np.full(len(chain.lower), np.nan) if fixed is None else np.asarray(fixed, np.float64)
    lower, upper = np.where(np.isnan(held), chain.lower, held), np.where(np.isnan(held), chain.upper, held)
    slides = chain.joint[chain.kind == int(SLIDES)]
    reach = (
        np.linalg.norm(chain.T_parent_link[1:, :3, 3], axis=1).sum() + np.maximum(abs(lower), abs(upper))[slides].sum()
    )
    cells = int(np.ceil(reach / voxel_m))
    counts = wp.zeros((AZIMUTHS, cells, 2 * cells, 6 * SIDES * SIDES), dtype=int, device=found)
    for start in range(0, samples, CHUNK):
        q = rng.uniform(lower, upper, (min(CHUNK, samples - start), len(lower))).astype(np.float32)
        T = np.ascontiguousarray(link_poses(chain, q, device=device, threads=threads)[:, link])
        inputs = [
            wp.array(T, dtype=wp.mat44, device=found),
            wp.array(np.ascontiguousarray(q[:, root]), dtype=float, device=found),
            float(lower[root]),
            float(upper[root]),
            turns,
            float(voxel_m),
            -cells * float(voxel_m),
            SIDES,
        ]
        # Threads would race for the cells: Warp's atomics on a CPU are plain additions.
        launch_rows(count_postures_kernel, len(q), 1, inputs, [counts], found, 1)
    return ReachMap(counts.numpy(), float(voxel_m), -cells * float(voxel_m))


def _turns_about_base(chain: Chain) -> bool:
    """Whether the first joint alone carries all the others and turns about the base's +Z through its origin."""
    if len(chain.names) < 2 or chain.kind[1] != int(TURNS) or (chain.parent[2:] == 0).any():
        return False
    T = chain.T_parent_link[1]
    axis = T[:3, :3] @ chain.axis[1]
    return bool(axis[2] > 1.0 - UPRIGHT and np.hypot(*T[:2, 3]) < UPRIGHT)


def count_postures(
    reach: ReachMap,
    T_world_base: np.ndarray,
    T_world_tool: np.ndarray,
    device: str = "cpu",
    threads: int | None = None,
) -> np.ndarray:
    """How many known postures reach each of K tool poses from each of B base poses, (B, K) int32; 0 where none is known.

    The mean of ``>= ENOUGH`` over the targets is the score of a base. The turn about the approach is not looked at.

    Args:
        reach: From ``make_reach_map``.
        T_world_base: (B, 4, 4) [m].
        T_world_tool: (K, 4, 4) [m].
        device: Warp device.
        threads: On a CPU; None takes all cores.

    Raises:
        InputError: Poses of another shape.
    """
    bases, targets = np.asarray(T_world_base, np.float64), np.ascontiguousarray(T_world_tool, np.float32)
    if bases.ndim != 3 or bases.shape[1:] != (4, 4) or targets.ndim != 3 or targets.shape[1:] != (4, 4):
        raise InputError(
            f"Expected base poses (B, 4, 4) and tool poses (K, 4, 4), got {bases.shape} and {targets.shape}."
        )
    found = wp.get_device(device)
    out = wp.empty((len(bases), len(targets)), dtype=int, device=found)
    span = 1 if found.is_cuda else max(len(targets), 1)
    inputs = [
        wp.array(np.ascontiguousarray(reach.counts, np.int32), dtype=int, device=found),
        wp.array(invert(bases).astype(np.float32), dtype=wp.mat44, device=found),
        wp.array(targets, dtype=wp.mat44, device=found),
        reach.voxel_m,
        reach.lowest_m,
        SIDES,
        span,
    ]
    launch_rows(score_bases_kernel, len(bases), -(-len(targets) // span), inputs, [out], found, threads)
    return out.numpy()
