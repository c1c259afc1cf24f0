"""Parts and the dominant source as they stand in every frame, for the kernels that ask what hides what."""

# Warp reads these annotations as types of its own; a type checker cannot.
# pyright: reportInvalidTypeForm=false, reportOperatorIssue=false, reportArgumentType=false, reportCallIssue=false
# pyright: reportAssignmentType=false, reportIndexIssue=false, reportGeneralTypeIssues=false, reportReturnType=false

from __future__ import annotations

import numpy as np
import warp as wp

from phototwin.frames import invert
from phototwin.kernels.casters import Casters
from phototwin.light import Light

TILE = wp.constant(8)
"""Side of the square of receivers whose parts are listed together."""
FAR_M = wp.constant(1.0e3)
FAINT_FACTOR = wp.constant(0.004)
"""A part whose bounding sphere hides less than this of the sky is left out."""


@wp.struct
class SourceDisc:
    """The dominant source, as rays look for it; ``radius`` and ``distance`` are 0 where it is infinitely far."""

    towards: wp.vec3
    tangent: wp.float32
    place: wp.vec3
    radius: wp.float32
    distance: wp.float32


@wp.struct
class Placed:
    """Parts in every frame: poses, bounding spheres of the parts and of their pieces, spheres that stand for them (the last of each part for all of it)."""

    meshes: wp.array(dtype=wp.uint64)
    T_part_world: wp.array2d(dtype=wp.mat44)
    weight: wp.array2d(dtype=wp.float32)
    albedo: wp.array(dtype=wp.float32)
    bound_w: wp.array2d(dtype=wp.vec4)
    piece_first: wp.array(dtype=wp.int32)
    piece_part: wp.array(dtype=wp.int32)
    pieces_w: wp.array2d(dtype=wp.vec4)
    sphere_first: wp.array(dtype=wp.int32)
    spheres_w: wp.array2d(dtype=wp.vec4)


@wp.func
def to_source(source: SourceDisc, point: wp.vec3) -> wp.vec4:
    """Unit vector from a point to the middle of the source, and the tangent of the source's angular radius there."""
    if source.distance == 0.0:
        return wp.vec4(source.towards[0], source.towards[1], source.towards[2], source.tangent)
    away = source.place - point
    far = wp.max(wp.length(away), 1.0e-6)
    away = away / far
    return wp.vec4(away[0], away[1], away[2], source.radius / far)


@wp.func
def reach_to(source: SourceDisc, point: wp.vec3) -> float:
    """How far rays towards the source go [m]."""
    reach = float(FAR_M)
    if source.distance != 0.0:
        reach = wp.length(source.place - point)
    return reach


@wp.func
def may_block(bound: wp.vec4, point: wp.vec3, towards: wp.vec3, tangent: float, reach: float, slack: float) -> bool:
    """Whether a sphere may reach into the cone from a ball of radius ``slack`` around the point towards the source."""
    away = wp.vec3(bound[0], bound[1], bound[2]) - point
    radius = bound[3] + slack
    along = wp.dot(away, towards)
    if along < -radius or along > reach + radius:
        return False
    across = radius + wp.max(along + radius, 0.0) * tangent
    return wp.dot(away, away) - along * along <= across * across


@wp.func
def valid(normal: wp.vec3) -> bool:
    """Whether a receiver is on a surface."""
    return wp.dot(normal, normal) > 0.25


@wp.func
def same_surface(p: wp.vec3, n: wp.vec3, q: wp.vec3, m: wp.vec3) -> bool:
    """Whether a receiver's neighbour lies on its surface: normals alike, and not above its plane by more than a fifth of their distance."""
    away = q - p
    return wp.dot(n, m) > 0.9 and wp.abs(wp.dot(away, n)) < 0.2 * wp.length(away) + 1.0e-4


@wp.func
def lowest(bits: wp.uint32) -> int:
    """Index of the lowest bit of a word that is not 0: the exponent of that power of two as a float."""
    alone = bits & (~bits + wp.uint32(1))
    return int(wp.cast(float(alone), wp.uint32) >> wp.uint32(23)) - 127


@wp.func
def no_bits(listed: wp.array4d(dtype=wp.uint32), n: int, ty: int, tx: int) -> bool:
    """Whether a tile's list is empty."""
    some = wp.uint32(0)
    for word in range(listed.shape[3]):
        some = some | listed[n, ty, tx, word]
    return some == wp.uint32(0)


@wp.kernel(enable_backward=False)
def bound_tiles_kernel(
    # in
    points: wp.array3d(dtype=wp.vec3),
    normals: wp.array3d(dtype=wp.vec3),
    # out
    ball_out: wp.array3d(dtype=wp.vec4),
) -> None:
    """One thread a tile: a ball around its receivers; a negative radius where it has none."""
    m, ty, tx = wp.tid()
    low = wp.vec3(1.0e9, 1.0e9, 1.0e9)
    high = wp.vec3(-1.0e9, -1.0e9, -1.0e9)
    for r in range(ty * TILE, wp.min((ty + 1) * TILE, points.shape[1])):
        for c in range(tx * TILE, wp.min((tx + 1) * TILE, points.shape[2])):
            if valid(normals[m, r, c]):
                low = wp.min(low, points[m, r, c])
                high = wp.max(high, points[m, r, c])
    ball = wp.vec4(0.0, 0.0, 0.0, -1.0)
    if low[0] <= high[0]:
        middle = 0.5 * (low + high)
        ball = wp.vec4(middle[0], middle[1], middle[2], 0.5 * wp.length(high - low))
    ball_out[m, ty, tx] = ball


@wp.kernel(enable_backward=False)
def list_parts_kernel(
    # in
    placed: Placed,
    source: SourceDisc,
    shines: int,
    ball: wp.array3d(dtype=wp.vec4),
    penumbra: float,
    # out
    blockers_out: wp.array4d(dtype=wp.uint32),
    occluders_out: wp.array4d(dtype=wp.uint32),
    smooth_out: wp.array3d(dtype=wp.uint8),
) -> None:
    """One thread a tile of a frame: bits of the pieces that may hide the source from it, and of the parts that hide some of the sky.

    The tile is smooth, 1, where every piece is so far off that its penumbra is ``penumbra`` times as wide as every fourth receiver is apart.
    """
    n, ty, tx = wp.tid()
    around = ball[wp.min(n, ball.shape[0] - 1), ty, tx]
    for word in range(blockers_out.shape[3]):
        blockers_out[n, ty, tx, word] = wp.uint32(0)
    for word in range(occluders_out.shape[3]):
        occluders_out[n, ty, tx, word] = wp.uint32(0)
    nearest = float(FAR_M)
    if around[3] >= 0.0:
        middle = wp.vec3(around[0], around[1], around[2])
        line = to_source(source, middle)
        towards = wp.vec3(line[0], line[1], line[2])
        reach = reach_to(source, middle) + around[3]
        spread = float(line[3])
        if source.distance != 0.0:
            spread += around[3] / reach
        for part in range(placed.meshes.shape[0]):
            if placed.weight[n, part] > 0.0:
                bound = placed.bound_w[n, part]
                if shines == 1 and may_block(bound, middle, towards, spread, reach, around[3]):
                    for piece in range(placed.piece_first[part], placed.piece_first[part + 1]):
                        if may_block(placed.pieces_w[n, piece], middle, towards, spread, reach, around[3]):
                            bit = wp.uint32(1) << wp.uint32(piece & 31)
                            blockers_out[n, ty, tx, piece >> 5] = blockers_out[n, ty, tx, piece >> 5] | bit
                            piece_w = placed.pieces_w[n, piece]
                            away = wp.vec3(piece_w[0], piece_w[1], piece_w[2]) - middle
                            nearest = wp.min(nearest, wp.length(away) - piece_w[3] - around[3])
                apart = wp.length(wp.vec3(bound[0], bound[1], bound[2]) - middle) - around[3]
                if apart <= bound[3] or bound[3] * bound[3] > FAINT_FACTOR * apart * apart:
                    bit = wp.uint32(1) << wp.uint32(part & 31)
                    occluders_out[n, ty, tx, part >> 5] = occluders_out[n, ty, tx, part >> 5] | bit
        # The ball's diameter is the tile's diagonal, 8 receivers to a side.
        apart_m = around[3] * wp.sqrt(2.0) * 4.0 / float(TILE)
        smooth_out[n, ty, tx] = wp.where(2.0 * line[3] * nearest >= penumbra * apart_m, wp.uint8(1), wp.uint8(0))
    else:
        smooth_out[n, ty, tx] = wp.uint8(0)


def place_casters(casters: Casters, T_world_parts: np.ndarray, weight: np.ndarray) -> Placed:
    """The casters in poses (N, P, 4, 4), counting as much as ``weight`` (N, P) says; call it within their device's scope."""
    T = T_world_parts.astype(np.float64)
    placed = Placed()
    placed.meshes = casters.mesh_ids
    placed.T_part_world = wp.array(invert(T).astype(np.float32), dtype=wp.mat44)
    placed.weight = wp.array(weight.astype(np.float32), dtype=wp.float32)
    placed.albedo = wp.array(casters.albedo.astype(np.float32), dtype=wp.float32)
    placed.bound_w = wp.array(_moved(T, casters.bound_p), dtype=wp.vec4)
    pieces = np.repeat(np.arange(casters.parts), np.diff(casters.piece_first))
    placed.piece_first = wp.array(casters.piece_first, dtype=wp.int32)
    placed.piece_part = wp.array(pieces.astype(np.int32), dtype=wp.int32)
    placed.pieces_w = wp.array(_moved(T[:, pieces], casters.pieces_p), dtype=wp.vec4)
    spheres = np.repeat(np.arange(casters.parts), np.diff(casters.sphere_first))
    placed.sphere_first = wp.array(casters.sphere_first, dtype=wp.int32)
    placed.spheres_w = wp.array(_moved(T[:, spheres], casters.spheres_p), dtype=wp.vec4)
    return placed


def place_source(light: Light) -> SourceDisc:
    """The light's dominant source."""
    source = SourceDisc()
    source.towards = wp.vec3(*(float(c) for c in light.direction_w))
    source.tangent = float(np.tan(light.half_angle_rad))
    far = float(light.distance_m) if np.isfinite(light.distance_m) else 0.0
    source.place = wp.vec3(*(float(c) for c in light.center_w + far * light.direction_w))
    source.radius, source.distance = far * source.tangent, far
    return source


def _moved(T: np.ndarray, balls: np.ndarray) -> np.ndarray:
    """Balls (B, 4) moved by transforms (N, B, 4, 4), (N, B, 4) float32."""
    centres = np.einsum("nbij,bj->nbi", T[..., :3, :3], balls[:, :3]) + T[..., :3, 3]
    return np.concatenate([centres, np.broadcast_to(balls[:, 3:], (*centres.shape[:2], 1))], -1).astype(np.float32)
