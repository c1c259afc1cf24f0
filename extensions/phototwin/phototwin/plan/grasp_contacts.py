"""Where a gripper can close on a surface: antipodal pairs of contacts, and the tool poses that take them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from phototwin.kernels.obstacles import MeshSet, load_meshes
from phototwin.kernels.pierce import pierce_mesh
from phototwin.plan.gripper import grip_offset
from phototwin.robots import Robot
from phototwin.scene import Mesh, SceneObject

MAX_TILT_RAD = np.deg2rad(75.0)
TURNS_RAD = np.deg2rad([0.0, *(side * turn for turn in (15.0, 30.0, 45.0, 60.0, 75.0) for side in (-1.0, 1.0))])
"""Turns about the closing direction that are tried, from the most upright approach."""
THINNEST_M = 0.001


@dataclass(frozen=True, eq=False)
class Pairs:
    """Pairs of contacts in each other's friction cone.

    Attributes:
        middle: Halfway between them, (P, 3) [m].
        closing: Unit direction in which the gripper closes, (P, 3).
        width_m: Distance between them, (P,) [m].
        quality: 1 where the surface faces both pads squarely, 0 where one contact would begin to slide, (P,).
    """

    middle: np.ndarray
    closing: np.ndarray
    width_m: np.ndarray
    quality: np.ndarray

    def only(self, which: np.ndarray) -> Pairs:
        """Some of them, by index or by (P,) bool."""
        return Pairs(self.middle[which], self.closing[which], self.width_m[which], self.quality[which])


@lru_cache(maxsize=256)
def surface(mesh: Mesh) -> MeshSet:
    """A mesh ready for rays."""
    return load_meshes([(mesh.points, mesh.faces)])


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


def antipodal_pairs(
    item: SceneObject, points: np.ndarray, normals: np.ndarray, up: np.ndarray, lean: float = 0.0
) -> Pairs:
    """Pairs of contacts of which the first are given points (N, 3) with outward normals (N, 3), all in the object frame.

    The line between them is the first one's normal, or, for a ``lean`` above 0, that share of the friction cone nearer to the
    level (``up`` is the world's vertical, (3,)): rims that slope, and balls that are too wide at their equator, are held so.
    Source: Nguyen (1988): two contacts hold where the line between them is in both friction cones.
    """
    friction_cosine = 1.0 / np.sqrt(1.0 + item.friction**2)
    directions = _leaning(-normals, up, lean * float(np.arctan(item.friction)))
    farthest = float(np.linalg.norm(np.ptp(item.mesh.points, axis=0))) + THINNEST_M
    distance, face = pierce_mesh(surface(item.mesh), points, directions, farthest, threads=1)
    ray, hit = np.nonzero(np.isfinite(distance) & (distance > THINNEST_M))
    corners = item.mesh.points.astype(np.float64)[item.mesh.faces[face[ray, hit]]]
    leaving = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    leaving /= np.linalg.norm(leaving, axis=1, keepdims=True) + 1e-30
    cosine = np.einsum("hi,hi->h", leaving, directions[ray])
    entering = -np.einsum("hi,hi->h", normals[ray], directions[ray])
    good = (cosine >= friction_cosine) & (entering >= friction_cosine - 1e-9)
    ray, hit = ray[good], hit[good]
    width = distance[ray, hit].astype(np.float64)
    worst = np.minimum(cosine, entering)[good]
    quality = np.clip((worst - friction_cosine) / (1.0 - friction_cosine), 0.0, 1.0)
    return Pairs(points[ray] + 0.5 * width[:, None] * directions[ray], directions[ray], width, quality)


def _leaning(directions: np.ndarray, up: np.ndarray, most_rad: float) -> np.ndarray:
    """Unit directions (N, 3) turned towards the level by at most so much."""
    if most_rad == 0.0:
        return directions
    rise = directions @ up
    level = directions - rise[:, None] * up
    length = np.linalg.norm(level, axis=1, keepdims=True)
    level = np.where(length > 1e-9, level / np.maximum(length, 1e-9), 0.0)
    angle = np.arcsin(np.clip(rise, -1.0, 1.0))
    angle = np.sign(angle) * np.maximum(np.abs(angle) - most_rad, 0.0)
    return np.where(length > 1e-9, np.cos(angle)[:, None] * level + np.sin(angle)[:, None] * up, directions)


def tool_poses(pairs: Pairs, robot: Robot, up: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Tool poses (G, 4, 4) for each pair and each turn about its closing direction that is not tilted too far, and their pairs (G,).

    Where only one jaw moves, each is there with either jaw on either side; otherwise half a turn changes nothing.
    """
    lean = pairs.closing @ up
    upright = -up + lean[:, None] * pairs.closing
    length = np.linalg.norm(upright, axis=1)
    usable = np.flatnonzero(length > np.cos(MAX_TILT_RAD))
    upright = upright[usable] / length[usable, None]
    closing = pairs.closing[usable]
    cos, sin = np.cos(TURNS_RAD)[:, None, None], np.sin(TURNS_RAD)[:, None, None]
    approach = cos * upright + sin * np.cross(closing, upright)
    y = np.broadcast_to(closing, approach.shape)
    T = np.zeros((*approach.shape[:2], 4, 4))
    T[..., :3, 0] = np.cross(y, approach)
    T[..., :3, 1] = y
    T[..., :3, 2] = approach
    T[..., :3, 3] = pairs.middle[usable]
    T[..., 3, 3] = 1.0
    keep = approach @ up <= -np.cos(MAX_TILT_RAD) + 1e-9
    T, pair = T[keep], np.broadcast_to(usable, keep.shape)[keep]
    if robot.one_jaw:
        T = np.stack([T, half_turned(T)], 1).reshape(-1, 4, 4)
        pair = np.repeat(pair, 2)
        T[:, :3, 3] -= grip_offset(robot, pairs.width_m[pair])[:, None] * T[:, :3, 1]
    return T, pair


def half_turned(T: np.ndarray) -> np.ndarray:
    """Tool poses (..., 4, 4) turned by half a turn about their Z."""
    return T @ np.diag([-1.0, -1.0, 1.0, 1.0])
