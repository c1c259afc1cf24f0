"""Things that are added to a scene: simple solids with patterns on them, standing firmly."""

from __future__ import annotations

import numpy as np

from phototwin.build.shapes import Solid, box, lump, mesh_volume, revolution
from phototwin.kernels.rasterize import rasterize
from phototwin.pattern import pattern_gain
from phototwin.scene import ConvexPiece, Mesh, SceneObject

KEY = "distractor"
"""Added things are called "distractor 1" with the key "distractor_1", and so on: no instruction means them."""
KINDS = ("block", "can", "cup", "prism", "bottle")
TILE_PX = 64
"""Side of each of the six sides of a texture."""
MARKS_M = (0.015, 0.05)
"""Distance between the marks of a pattern."""
DENSITY = (250.0, 900.0)
"""From foam to a full package [kg/m^3]."""
FRICTION = (0.6, 0.9)
DARKEST, LIGHTEST = 0.03, 0.75
"""Reflectance."""


def is_distractor(item: SceneObject) -> bool:
    """Whether a thing was added to its scene."""
    return is_distractor_key(item.key)


def is_distractor_key(key: str) -> bool:
    """Whether a key is that of a thing that was added to its scene."""
    return key.startswith(f"{KEY}_")


def make_distractor(number: int, rng: np.random.Generator) -> tuple[SceneObject, np.ndarray]:
    """A solid of 3 to 12 cm at the world's origin, and its base colours (h, w, 3) in linear RGB.

    Args:
        number: Which of its scene; part of its name.
        rng: Draws its shape, size, colours and mass.
    """
    kind = KINDS[int(rng.integers(len(KINDS)))]
    solid = _solid(kind, rng)
    low, high = solid.points.min(axis=0), solid.points.max(axis=0)
    middle = (low + high) / 2
    points, faces, st = _unfold(solid.points - middle, solid.faces)
    mesh = Mesh(points, faces, st, f"textures/{KEY}_{number}.png")
    colors = _colors(mesh, rng)
    volume = abs(mesh_volume(solid.points, solid.faces))
    T = np.eye(4)
    T[2, 3] = middle[2]
    item = SceneObject(
        name=f"{KEY} {number}",
        key=f"{KEY}_{number}",
        shape={"block": "box", "can": "cylinder", "prism": "extrusion"}.get(kind, "revolution"),
        hollow=False,
        T_world_object=T,
        size_m=high - low,
        color_rgb=np.full(3, 0.5),
        mesh=mesh,
        pieces=tuple(ConvexPiece((p.points - middle).astype(np.float32), p.faces) for p in solid.pieces),
        mass_kg=float(volume * rng.uniform(*DENSITY)),
        friction=float(rng.uniform(*FRICTION)),
        material="plastic",
    )
    return item, colors


def _solid(kind: str, rng: np.random.Generator) -> Solid:
    """A solid that stands on z = 0, not much taller than wide."""
    if kind == "block":
        return box(rng.uniform([0.04, 0.03, 0.03], [0.10, 0.07, 0.09]), bevel_m=0.002)
    radius, height = rng.uniform(0.02, 0.038), rng.uniform(0.04, 0.10)
    if kind == "can":
        return revolution(np.array([radius, radius]), np.array([0.0, height]))
    if kind == "cup":
        return revolution(radius * np.array([rng.uniform(0.65, 0.9), 1.0]), np.array([0.0, height]))
    if kind == "bottle":
        shares = np.array([1.0, 1.0, rng.uniform(0.6, 0.8), 0.4, 0.4])
        return revolution(radius * shares, 1.3 * height * np.array([0.0, 0.6, 0.75, 0.85, 1.0]))
    corners = int(rng.integers(3, 9))
    angle = 2 * np.pi * np.arange(corners) / corners
    ring = 1.2 * radius * np.stack([np.cos(angle), np.sin(angle)], -1)
    return lump(np.concatenate([np.column_stack([ring, np.full(corners, z)]) for z in (0.0, min(height, 0.07))]))


def _unfold(points: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Points (V, 3) float32, faces, and texture coordinates (F, 3, 2): each of the six sides is seen straight on, in 3 x 2 tiles."""
    corner = points[faces]
    normal = np.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0])
    axis = np.abs(normal).argmax(axis=1)
    side = 2 * axis + (np.take_along_axis(normal, axis[:, None], 1)[:, 0] > 0)
    low, size = points.min(axis=0), np.ptp(points, axis=0)
    share = (corner - low) / size
    across = np.stack([(axis + 1) % 3, (axis + 2) % 3], -1)
    flat = np.take_along_axis(share, np.repeat(across[:, None], 3, 1), 2)
    rim = 1.5 / TILE_PX  # so that no side bleeds into its neighbour
    flat = rim + (1 - 2 * rim) * flat
    tile = np.stack([side % 3, side // 3], -1)[:, None]
    st = (tile + flat) / np.array([3.0, 2.0])
    return points.astype(np.float32), faces.astype(np.int32), st.astype(np.float32)


def _colors(mesh: Mesh, rng: np.random.Generator) -> np.ndarray:
    """Base colours (h, w, 3) linear: one colour, a pattern, and the other colour where the pattern is dark."""
    height, width = 2 * TILE_PX, 3 * TILE_PX
    corners = mesh.st.reshape(-1, 2)
    flat = np.column_stack([corners[:, 0] * width, (1 - corners[:, 1]) * height, np.ones(len(corners))])
    raster = rasterize(flat, np.arange(len(corners)).reshape(-1, 3), np.eye(3), width, height)
    face = np.maximum(raster.face, 0)
    points = np.einsum("hwk,hwkc->hwc", raster.bary, mesh.points.astype(np.float64)[mesh.faces[face]])
    size, seed = float(rng.uniform(*MARKS_M)), int(rng.integers(2**31))
    mix = pattern_gain(points, size, 0.5, seed) - 0.5
    one, two = (_paint(rng) for _ in range(2))
    strength = rng.uniform(0.0, 1.0)
    mix = np.where(raster.face >= 0, 1.0 - strength * (1.0 - mix), 1.0)[..., None]
    return mix * one + (1.0 - mix) * two


def _paint(rng: np.random.Generator) -> np.ndarray:
    """A colour, (3,) linear: any hue, from grey to full."""
    hue = np.cos(rng.uniform(0, 2 * np.pi) - np.array([0.0, 2.0, 4.0]) * np.pi / 3)
    value = np.exp(rng.uniform(np.log(2 * DARKEST), np.log(LIGHTEST)))
    return np.clip(value * (1.0 + rng.uniform(0.0, 1.0) * hue), DARKEST, LIGHTEST)
