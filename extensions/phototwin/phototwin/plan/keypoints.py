"""Points on an object that a plan can name: top, bottom, rim, handle, spout, sides, ends, from its geometry alone.

Everything is in the object frame, as it stands in the photo. Names are stable: the same mesh always gives the same ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from phototwin.errors import InputError
from phototwin.kernels.pierce import pierce_mesh
from phototwin.plan.grasp_contacts import sample_surface, surface
from phototwin.plan.grasp_parts import on_handle
from phototwin.scene import Mesh, SceneObject

RIM_POINTS = 8
DIRECTIONS = 72
"""Rays from the axis by which the inside of a rim is seen."""
LIPS_M = (0.0005, 0.002, 0.005)
"""The rim is measured this far below its top: close to it where the rim is even, otherwise as low as its lowest part."""
SURFACE_POINTS = 6000
SPOUT_SHARE, LEAST_SPOUT_M = 0.08, 0.004
"""A spout widens the rim by this share of its radius, and at least so much."""
SPOUT_RAD = np.pi / 2
"""A wider bulge is the shape of the rim."""
LONG = 2.0
"""What is this much longer than wide and high has ends."""
END_SHARE = 0.12
"""Share of its length that counts as an end."""
THINNER = 0.8
"""Of two ends the tip is thinner than the other by this factor."""
FOOT_SHARE = 0.02
"""Share of its height, from the bottom, that counts as what it stands on."""
FACING = 0.5
"""Cosine of the largest tilt of what faces up."""
MIDDLE_SHARE = 0.25
"""Share of a handle's height, about its middle, where only the bar that a hand goes round is."""
UP = np.array([0.0, 0.0, 1.0])


@dataclass(frozen=True, eq=False)
class Keypoints:
    """Named points of one object.

    Attributes:
        names: K names, each once.
        points_o: (K, 3) object frame [m].
        normals_o: Unit directions out of the object, from where a gripper or another thing would come, (K, 3).
    """

    names: tuple[str, ...]
    points_o: np.ndarray
    normals_o: np.ndarray

    def point(self, name: str) -> np.ndarray:
        """The point of that name, (3,).

        Raises:
            InputError: There is none.
        """
        if name not in self.names:
            raise InputError(f"There is no keypoint '{name}'. Choose one of {', '.join(self.names)}.")
        return self.points_o[self.names.index(name)]


Found = Iterator[tuple[str, np.ndarray, np.ndarray]]
"""Name, point (3,) and normal (3,)."""


@lru_cache(maxsize=256)
def find_keypoints(item: SceneObject) -> Keypoints:
    """The keypoints that an object's geometry shows.

    Every object has "top", "bottom" and its "side 1" to "side 4" (+X, +Y, -X, -Y) where the surface is there. A vessel has "inside"
    and "rim 1" to "rim 8" (from +X on, counter-clockwise) in the middle of its wall, and "spout" where the rim has one. What
    sticks out of its body is the "handle". A lying long thing has "tip" and "end", or two ends where they are alike.
    """
    rows = [*_poles(item), *_rim(item), *_handle(item), *_sides(item), *_ends(item)]
    names, points, normals = zip(*rows, strict=True)
    return Keypoints(names, np.array(points), np.array(normals))


def meet_surface(mesh: Mesh, origins: np.ndarray, directions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Points (N, 3) and normals (N, 3) where rays first meet a mesh, and which do, (N,) bool; zeros where they do not."""
    far = float(np.linalg.norm(origins - mesh.points.mean(0), axis=1).max(initial=0.0))
    distance, normal = _cast(mesh, origins, directions, 1, far)
    met = np.isfinite(distance[:, 0])
    distance = np.where(met, distance[:, 0], 0.0)[:, None]
    return np.where(met[:, None], origins + distance * directions, 0.0), np.where(met[:, None], normal[:, 0], 0.0), met


def _cast(
    mesh: Mesh, origins: np.ndarray, directions: np.ndarray, most: int = 1, far_m: float = 0.1
) -> tuple[np.ndarray, np.ndarray]:
    """Distances (N, most) and face normals (N, most, 3) where rays meet the mesh; inf where they do not."""
    reach = 2.0 * float(np.linalg.norm(np.ptp(mesh.points, axis=0))) + far_m
    distance, face = pierce_mesh(surface(mesh), origins, directions, reach, most)
    corners = mesh.points.astype(np.float64)[mesh.faces[face]]
    normal = np.cross(corners[..., 1, :] - corners[..., 0, :], corners[..., 2, :] - corners[..., 0, :])
    return distance.astype(np.float64), normal / np.maximum(np.linalg.norm(normal, axis=-1, keepdims=True), 1e-30)


def _poles(item: SceneObject) -> Found:
    """The middle of the top, or of the opening, and of the bottom; the floor inside of a vessel."""
    points = item.mesh.points.astype(np.float64)
    low, high = points[:, 2].min(), points[:, 2].max()
    foot = points[points[:, 2] < low + max(FOOT_SHARE * (high - low), 1e-4)]
    if item.hollow:
        middle = find_opening(item)[0]
        yield "top", np.array([*middle, high]), UP
        yield "inside", _pole(item, middle, 1.0)[0], UP
    else:
        yield "top", *_pole(item, _middle(points), 1.0)
    yield "bottom", *_pole(item, _middle(foot), -1.0)


def _pole(item: SceneObject, middle: np.ndarray, sign: float) -> tuple[np.ndarray, np.ndarray]:
    """Point (3,) and normal (3,) of the surface on the vertical through ``middle`` (2,), seen from above (1) or below (-1).

    Where a bent thing is not there, the nearest part of its surface that faces that way.
    """
    z = item.mesh.points[:, 2]
    origin = np.array([*middle, sign * (sign * z).max() + 0.05 * sign])
    distance, normal = _cast(item.mesh, origin[None], -sign * UP[None])
    if np.isfinite(distance[0, 0]):
        return origin - sign * distance[0, 0] * UP, normal[0, 0]
    points, normals = sample_surface(item.mesh, SURFACE_POINTS, 0)
    away = np.linalg.norm(points[:, :2] - middle, axis=1) + (sign * normals[:, 2] < FACING)
    return points[away.argmin()], normals[away.argmin()]


def _middle(points: np.ndarray) -> np.ndarray:
    """Middle (2,) of the box around points (P, 3), seen from above."""
    return 0.5 * (points[:, :2].min(0) + points[:, :2].max(0))


@lru_cache(maxsize=256)
def find_opening(item: SceneObject) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Middle (2,) of a vessel's opening, and the radii (D,) of its inner and outer wall there in ``DIRECTIONS`` directions from +X on."""
    return max((_walls(item.mesh, lip) for lip in LIPS_M), key=lambda found: np.isfinite(found[2]).sum())


def _walls(mesh: Mesh, lip_m: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What ``find_opening`` tells, measured ``lip_m`` below the top; inf where a ray meets no wall.

    What sticks out is outside, so the inner wall alone says where the middle is: a circle fitted to it.
    Source: Kasa (1976), least squares on x^2 + y^2 = 2ax + 2by + c.
    """
    directions = _around(DIRECTIONS)
    z = float(mesh.points[:, 2].max()) - lip_m
    middle = _middle(mesh.points[mesh.points[:, 2] > z - 1e-4])
    inner = outer = np.full(DIRECTIONS, np.inf)
    for _ in range(3):
        distance, _ = _cast(mesh, np.tile([*middle, z], (DIRECTIONS, 1)), directions, 2)
        inner, outer = distance.T
        wall = (middle + inner[:, None] * directions[:, :2])[np.isfinite(inner)]
        if len(wall) < DIRECTIONS // 2:
            break
        A = np.column_stack([2.0 * wall, np.ones(len(wall))])
        middle = np.linalg.lstsq(A, (wall**2).sum(1), rcond=None)[0][:2]
    return middle, inner, outer


def _around(count: int) -> np.ndarray:
    """Horizontal unit directions (count, 3) from +X on, counter-clockwise."""
    angle = 2.0 * np.pi * np.arange(count) / count
    return np.stack([np.cos(angle), np.sin(angle), np.zeros(count)], 1)


def _rim(item: SceneObject) -> Found:
    """Points in the middle of a vessel's wall at its top, and the spout."""
    if not item.hollow:
        return
    middle, inner, outer = find_opening(item)
    seen = np.isfinite(inner) & np.isfinite(outer)
    if seen.sum() < DIRECTIONS // 2:
        return
    top = float(item.mesh.points[:, 2].max())
    half_wall = 0.5 * float(np.median(outer[seen] - inner[seen]))  # a handle at the rim makes the wall thick there
    directions = _around(DIRECTIONS)
    for k in range(RIM_POINTS):
        i = k * DIRECTIONS // RIM_POINTS
        if seen[i]:
            yield f"rim {k + 1}", np.array([*(middle + (inner[i] + half_wall) * directions[i, :2]), top]), UP
    usual = float(np.median(inner[seen]))
    bulge = np.where(seen, inner - usual, 0.0)
    wide = bulge > 0.5 * max(SPOUT_SHARE * usual, LEAST_SPOUT_M)
    if bulge.max() > max(SPOUT_SHARE * usual, LEAST_SPOUT_M) and wide.mean() * 2.0 * np.pi < SPOUT_RAD:
        i = int(bulge.argmax())
        yield "spout", np.array([*(middle + (inner[i] + half_wall) * directions[i, :2]), top]), directions[i]


def _handle(item: SceneObject) -> Found:
    """The middle of the bar of a handle, and the way out to it."""
    points, _ = sample_surface(item.mesh, SURFACE_POINTS, 0)
    points = points[on_handle(item, points)]
    if len(points) < 4:
        return
    axis = find_opening(item)[0] if item.hollow else _middle(item.mesh.points)
    out = points[:, :2].mean(0) - axis
    out /= max(float(np.linalg.norm(out)), 1e-9)
    low, high = points[:, 2].min(), points[:, 2].max()
    near = np.abs(points[:, 2] - 0.5 * (low + high)) <= 0.5 * MIDDLE_SHARE * (high - low) + 1e-4
    bar = points[near] if near.sum() >= 4 else points
    yield "handle", 0.5 * (bar.min(0) + bar.max(0)), np.array([*out, 0.0])


def _sides(item: SceneObject) -> Found:
    """Where the body is touched from four sides at half its height; not where the handle is in front of it."""
    points = item.mesh.points.astype(np.float64)
    axis = find_opening(item)[0] if item.hollow else _middle(points)
    z = 0.5 * (points[:, 2].min() + points[:, 2].max())
    far = float(np.linalg.norm(np.ptp(points, axis=0)))
    directions = _around(4)
    origins = np.array([*axis, z]) + far * directions
    distance, normal = _cast(item.mesh, origins, -directions)
    for k, direction in enumerate(directions):
        if not np.isfinite(distance[k, 0]):
            continue
        touched = origins[k] - distance[k, 0] * direction
        if not on_handle(item, touched[None] - 1e-4 * direction)[0]:
            yield f"side {k + 1}", touched, normal[k, 0]


def _ends(item: SceneObject) -> Found:
    """Both ends of a long thing that lies: the thinner one is the tip."""
    points = item.mesh.points.astype(np.float64)
    size = np.ptp(points, axis=0)
    axis = int(size[:2].argmax())
    if item.hollow or size[axis] < LONG * max(np.delete(size, axis)):
        return
    found = []
    for sign in (1.0, -1.0):
        along = sign * points[:, axis]
        end = points[along > along.max() - END_SHARE * size[axis]]
        middle = 0.5 * (end.min(0) + end.max(0))
        middle[axis] = sign * along.max()
        found.append((float(np.delete(np.ptp(end, axis=0), axis).max()), middle, sign * np.eye(3)[axis]))
    (thick, *_), (thin, *_) = sorted(found, key=lambda row: -row[0])
    alike = thin > THINNER * thick
    for number, (width, middle, way) in enumerate(found, 1):
        name = f"end {number}" if alike else "tip" if width == thin else "end"
        yield name, middle, way
