"""Exact surfaces of described things: what truth scenes (and the bundled sample) are made of.

A described object is a dictionary with ``shape``, ``size_m`` and what that shape needs; ``object_surfaces`` gives its surfaces
in its own frame: Z up, origin at the centre of its bounding box, +X along its longer horizontal side.
"""

from __future__ import annotations

from typing import Any

import numpy as np

HANDLE_RADIUS_M = 0.0055
FLOOR_M = 0.006  # thickness of the bottom of bowl and mug
CAN_EDGE_M = 0.002
PLATE_M = 0.004  # thickness of a plate
STAR_DEPTH = 0.5  # inner over outer radius of a star

Surface = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
"""Points (V, 3) [m], unit normals (V, 3), uv (V, 2), faces (F, 3)."""


def rounded_box(size_m: list[float], edge_m: float, cells: int = 3) -> Surface:
    """A box whose edges are rounded with radius ``edge_m``; uv in metres on each side, from its corner."""
    half = np.asarray(size_m) / 2
    parts, count = [], 0
    for axis in range(3):
        for sign in (-1.0, 1.0):
            a, b = (axis + 1) % 3, (axis + 2) % 3
            ticks = []
            for k in (a, b):  # the round parts get ``cells`` steps each, the flat middle one
                round_part = half[k] - edge_m + edge_m * np.tan(np.linspace(0, np.pi / 4, cells + 1))
                ticks.append(np.concatenate([-round_part[::-1], round_part]))
            grid = np.stack(np.meshgrid(*ticks, indexing="ij"), -1).reshape(-1, 2)
            cube = np.zeros((len(grid), 3))
            cube[:, axis], cube[:, a], cube[:, b] = sign * half[axis], grid[:, 0], grid[:, 1]
            inner = np.clip(cube, -(half - edge_m), half - edge_m)
            normals = (cube - inner) / np.linalg.norm(cube - inner, axis=1, keepdims=True)
            uv = grid + half[[a, b]]
            faces = _grid_faces(len(ticks[0]), len(ticks[1]))
            parts.append((inner + edge_m * normals, normals, uv, (faces if sign > 0 else faces[:, ::-1]) + count))
            count += len(grid)
    points, normals, uvs, faces = (np.concatenate(p) for p in zip(*parts, strict=True))
    return points, normals, uvs, faces


def lathe(profile: np.ndarray, steps: int = 128) -> Surface:
    """A surface of revolution about Z; ``profile`` (P, 2) radius and height runs from the outside bottom to the inside bottom."""
    phi = np.linspace(0, 2 * np.pi, steps + 1)
    slope = np.gradient(profile, axis=0)
    slope /= np.linalg.norm(slope, axis=1, keepdims=True)
    ring = np.stack([np.cos(phi), np.sin(phi)], -1)
    points = np.concatenate([profile[:, None, :1] * ring, np.broadcast_to(profile[:, None, 1:], (len(profile), len(phi), 1))], -1)  # fmt: skip
    normals = np.concatenate([slope[:, None, 1:] * ring, np.broadcast_to(-slope[:, None, :1], (*points.shape[:2], 1))], -1)  # fmt: skip
    u, v = np.meshgrid(np.linspace(0, 1, len(profile)), phi / (2 * np.pi), indexing="ij")
    faces = _grid_faces(len(profile), len(phi))[:, ::-1]
    return points.reshape(-1, 3), normals.reshape(-1, 3), np.stack([v, u], -1).reshape(-1, 2), faces


def tube(path: np.ndarray, radius_m: float | np.ndarray, steps: int = 24) -> Surface:
    """A tube around ``path`` (P, 3), which lies in the XZ plane; its radius may change along the path (P,)."""
    ahead = np.gradient(path, axis=0)
    ahead /= np.linalg.norm(ahead, axis=1, keepdims=True)
    side = np.array([0.0, 1.0, 0.0])
    up = np.cross(ahead, side)
    phi = np.linspace(0, 2 * np.pi, steps + 1)
    normals = np.cos(phi)[None, :, None] * up[:, None] + np.sin(phi)[None, :, None] * side
    points = path[:, None] + np.reshape(radius_m, (-1, 1, 1)) * normals
    uv = np.zeros((points.shape[0] * points.shape[1], 2))
    return points.reshape(-1, 3), normals.reshape(-1, 3), uv, _grid_faces(len(path), len(phi))


def prism(outline: np.ndarray, height_m: float) -> Surface:
    """An upright prism over ``outline`` (K, 2), counter-clockwise and seen whole from its origin; uv in metres along each side."""
    points, normals, uvs, faces, count = [], [], [], [], 0
    for a, b in zip(outline, np.roll(outline, -1, 0), strict=True):
        length = float(np.linalg.norm(b - a))
        outward = np.array([b[1] - a[1], a[0] - b[0], 0.0]) / length
        corners = [[*a, -0.5 * height_m], [*b, -0.5 * height_m], [*b, 0.5 * height_m], [*a, 0.5 * height_m]]
        points += corners
        normals += [outward] * 4
        uvs += [[0, 0], [length, 0], [length, height_m], [0, height_m]]
        faces += [[count, count + 1, count + 2], [count, count + 2, count + 3]]
        count += 4
    for sign in (-1.0, 1.0):
        center, ring = count, count + 1 + np.arange(len(outline))
        points += [[0.0, 0.0, sign * height_m / 2], *([*p, sign * height_m / 2] for p in outline)]
        normals += [[0.0, 0.0, sign]] * (len(outline) + 1)
        uvs += [[0.1, 0.1], *(p + 0.1 for p in outline)]
        after = np.roll(ring, -1)
        fan = np.stack([np.full(len(ring), center), ring, after], -1)
        faces += (fan if sign > 0 else fan[:, ::-1]).tolist()
        count += len(outline) + 1
    return np.array(points, float), np.array(normals, float), np.array(uvs, float), np.array(faces)


def _grid_faces(rows: int, columns: int) -> np.ndarray:
    index = np.arange(rows * columns).reshape(rows, columns)
    a, b, c, d = (x.ravel() for x in (index[:-1, :-1], index[1:, :-1], index[1:, 1:], index[:-1, 1:]))
    return np.concatenate([np.stack([a, b, c], -1), np.stack([a, c, d], -1)])


# ---------------------------------------------------------------- profiles: radius and height (P, 2) [m], standing on z = 0


def vessel_profile(shape: str, radius: float, height: float, wall: float) -> np.ndarray:
    """A bowl or mug: bottom, outside, rim, inside, floor."""
    t = np.linspace(0, 1, 40)
    shoulder = height - wall / 2  # where the round rim begins
    if shape == "bowl":
        outer = np.stack([0.5 * radius + 0.5 * radius * np.sin(t * np.pi / 2) ** 0.9, shoulder * t**1.6], -1)
    else:
        outer = np.stack([radius * (1 - 0.06 * (1 - t) ** 6), shoulder * t], -1)
    inner = outer[::-1] - [wall, 0.0]
    inner = inner[inner[:, 1] > FLOOR_M]
    lip = np.linspace(0, np.pi, 9)
    rim = np.array([radius - wall / 2, shoulder]) + wall / 2 * np.stack([np.cos(lip), np.sin(lip)], -1)
    bottom = np.stack([np.linspace(0, outer[0, 0], 8)[:-1], np.zeros(7)], -1)
    floor = np.stack([np.linspace(inner[-1, 0], 0, 8), np.full(8, FLOOR_M)], -1)
    return np.concatenate([bottom, outer[:-1], rim, inner[1:], floor])


def solid_profile(sides: np.ndarray) -> np.ndarray:
    """A solid: from the axis along the bottom, up the given sides (P, 2), and along the top back to the axis."""
    bottom = np.stack([np.linspace(0, sides[0, 0], 7)[:-1], np.full(6, sides[0, 1])], -1)
    top = np.stack([np.linspace(sides[-1, 0], 0, 7)[1:], np.full(6, sides[-1, 1])], -1)
    return np.concatenate([bottom, sides, top])


def can_profile(radius: float, height: float, edge: float = CAN_EDGE_M) -> np.ndarray:
    """A can with rounded edges."""
    a = np.linspace(0, np.pi / 2, 6)
    low = np.stack([radius - edge + edge * np.sin(a), edge - edge * np.cos(a)], -1)
    wall = np.stack([np.full(8, radius), np.linspace(edge, height - edge, 10)[1:-1]], -1)
    high = np.stack([radius - edge + edge * np.cos(a), height - edge + edge * np.sin(a)], -1)
    return solid_profile(np.concatenate([low, wall, high]))


def bottle_profile(radius: float, height: float, neck: float, shoulder: float) -> np.ndarray:
    """A closed bottle: straight to the share ``shoulder`` of its height, then a smooth shoulder to the neck's radius and a cap."""
    t = np.linspace(0, 1, 24)
    rise = height * (0.86 - shoulder)
    curve = np.stack(
        [neck + (radius - neck) * (0.5 + 0.5 * np.cos(np.pi * t)), height * shoulder + rise * t], -1
    )  # fmt: skip
    low = can_profile(radius, height)[6:12]
    wall = np.stack([np.full(8, radius), np.linspace(CAN_EDGE_M, height * shoulder, 10)[1:-1]], -1)
    cap = np.array([[1.18, 0.861], [1.18, 0.90], [1.18, 0.96], [1.18, 0.995], [1.05, 1.0]]) * [neck, height]
    return solid_profile(np.concatenate([low, wall, curve, cap]))


def plate_profile(radius: float, height: float) -> np.ndarray:
    """A plate: flat in the middle, with a rim that rises to ``height``."""
    t = np.linspace(0, 1, 20)
    outer = np.stack([0.55 * radius + 0.45 * radius * t, (height - PLATE_M) * t**1.5], -1)
    return solid_profile(np.concatenate([outer, outer[::-1] + np.array([0, PLATE_M])]))


# ---------------------------------------------------------------- objects


def object_surfaces(item: dict[str, Any]) -> list[Surface]:
    """The surfaces of one described object in its own frame (origin at the centre of its bounding box)."""
    length, width, height = item["size_m"]
    match item["shape"]:
        case "box":
            return [rounded_box(item["size_m"], item["edge_m"])]
        case "can":
            return [lathe(can_profile(width / 2, height) - [0, height / 2])]
        case "lying can":
            points, normals, uv, faces = lathe(can_profile(width / 2, length) - [0, length / 2])
            return [(points[:, [2, 0, 1]], normals[:, [2, 0, 1]], uv, faces)]  # an even permutation: still right-handed
        case "bottle":
            return [lathe(bottle_profile(width / 2, height, item["neck_m"], item["shoulder"]) - [0, height / 2])]
        case "ball":
            a = np.linspace(-np.pi / 2, np.pi / 2, 60)
            return [lathe(height / 2 * np.stack([np.cos(a), np.sin(a)], -1))]
        case "plate":
            return [lathe(plate_profile(width / 2, height) - [0, height / 2])]
        case "banana":
            return [_banana(item)]
        case "prism" | "star":
            return [prism(_outline(item), height)]
        case _:
            return _vessel(item)


def _vessel(item: dict[str, Any]) -> list[Surface]:
    length, width, height = item["size_m"]
    # The body sits at one end of the bounding box when a handle takes the rest of it.
    center = np.array([-(length - width) / 2, 0.0, 0.0])
    profile = vessel_profile(item["shape"], width / 2, height, item["wall_m"])
    points, normals, uv, faces = lathe(profile - [0.0, height / 2])
    parts = [(points + center, normals, uv, faces)]
    if length > width:
        angle = np.linspace(-np.pi / 2, np.pi / 2, 40)
        inside = item["wall_m"]  # the ends of the handle are hidden in the wall
        reach = length - width - HANDLE_RADIUS_M + inside
        path = np.stack([width / 2 - inside + reach * np.cos(angle) ** 0.8, 0 * angle, height / 3 * np.sin(angle)], -1)
        parts.append(tube(path + center, HANDLE_RADIUS_M))
    return parts


def _banana(item: dict[str, Any]) -> Surface:
    """A bent tube that lies on its side, with pointed ends; scaled to its bounding box."""
    angle = np.linspace(-item["bend_rad"] / 2, item["bend_rad"] / 2, 60)
    path = np.stack([np.sin(angle), 0 * angle, np.cos(angle)], -1)
    share = np.abs(np.linspace(-1, 1, 60))
    radius = item["thickness"] * np.sqrt(np.maximum(1 - share**3, 1e-4))
    points, normals, uv, faces = tube(path, radius, 32)
    turn = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]])  # from the XZ plane down onto the table
    points, normals = points @ turn.T, normals @ turn.T
    low, high = points.min(0), points.max(0)
    scale = np.asarray(item["size_m"]) / (high - low)
    normals = normals / scale
    return (points - (low + high) / 2) * scale, normals / np.linalg.norm(normals, axis=1, keepdims=True), uv, faces


def _outline(item: dict[str, Any]) -> np.ndarray:
    """The outline of a regular prism or a star, centred and scaled to its bounding box."""
    corners = item["corners"] * (2 if item["shape"] == "star" else 1)
    angle = 2 * np.pi * np.arange(corners) / corners
    radius = np.where(np.arange(corners) % 2, STAR_DEPTH, 1.0) if item["shape"] == "star" else np.ones(corners)
    outline = radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], -1)
    low, high = outline.min(0), outline.max(0)
    return (outline - (low + high) / 2) * np.asarray(item["size_m"])[:2] / (high - low)
