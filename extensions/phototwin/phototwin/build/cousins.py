"""Relatives of an object: the same thing a little larger, taller, more tapered, in other colours. Handles, openings and name stay.

Points are mapped by ``(x, y, z) -> s ((1 + taper z / h) w x, (1 + taper z / h) w y, a z)`` with ``w = a^(-1/3)``, ``a`` in z to the power 2/3,
so that aspect alone keeps the volume; ``h`` is half the height.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from phototwin.build.shapes import convex_piece, mesh_volume
from phototwin.frames import transform
from phototwin.kernels.srgb import linear_to_srgb, srgb_to_linear
from phototwin.nouns import COLOR_ALIASES, COLORS, words_of
from phototwin.scene import ConvexPiece, SceneObject

MOST_KG, LEAST_KG = 3.0, 0.005
"""Masses beyond are of no thing on a table that a gripper takes."""
TAPERED = {"box": "mesh", "cylinder": "revolution", "sphere": "mesh"}
"""What a shape becomes when it is tapered."""


@dataclass(frozen=True)
class Kinship:
    """How a relative differs.

    Attributes:
        scale: Factor of all lengths.
        aspect: Factor of its height against its width.
        taper: By which share its top is wider than its middle; negative is narrower.
        hue_rad: Turn of its colours about grey [rad].
        contrast: Factor of the contrast of its texture.
        pattern: Contrast of a pattern on it.
        pattern_seed: Which pattern.
    """

    scale: float = 1.0
    aspect: float = 1.0
    taper: float = 0.0
    hue_rad: float = 0.0
    contrast: float = 1.0
    pattern: float = 0.0
    pattern_seed: int = 0


def draw_kinship(
    rng: np.random.Generator, scale: float, aspect: float, taper: float, hue_rad: float, contrast: float, pattern: float
) -> Kinship:
    """A relative drawn within limits: factors between 1 / x and x, others between -x and x, the pattern up to ``pattern``."""
    share = rng.uniform(-1.0, 1.0, 5)
    return Kinship(
        float(scale ** share[0]),
        float(aspect ** share[1]),
        float(taper * share[2]),
        float(hue_rad * share[3]),
        float(contrast ** share[4]),
        float(pattern * rng.uniform()),
        int(rng.integers(2**31)),
    )


def make_cousin(item: SceneObject, kin: Kinship) -> SceneObject:
    """A relative of an object: mesh, convex pieces, size and mass changed together, standing where it stands.

    Its texture is the object's; ``recolor`` gives the relative's. Density, friction and restitution are the object's.
    """
    mesh = replace(item.mesh, points=_mapped(item.mesh.points, item, kin).astype(np.float32))
    low, high = mesh.points.min(axis=0).astype(np.float64), mesh.points.max(axis=0).astype(np.float64)
    middle = (low + high) / 2
    mesh = replace(mesh, points=(mesh.points - middle).astype(np.float32))
    pieces = tuple(_mapped_piece(piece, item, kin, middle) for piece in item.pieces)
    volume, before = (abs(mesh_volume(m.points.astype(np.float64), m.faces)) for m in (mesh, item.mesh))
    if volume <= 0 or before <= 0:  # an open surface has none
        volume, before = kin.scale**3, 1.0
    tapered = kin.taper != 0.0 or (item.shape == "sphere" and kin.aspect != 1.0)
    return replace(
        item,
        mesh=mesh,
        pieces=pieces,
        shape=TAPERED.get(item.shape, item.shape) if tapered else item.shape,
        T_world_object=_standing(item, mesh.points, middle),
        size_m=high - low,
        mass_kg=float(np.clip(item.mass_kg * volume / before, LEAST_KG, MOST_KG)),
        size_sigma_m=np.zeros(3),
        position_sigma_m=np.zeros(3),
    )


def _mapped(points: np.ndarray, item: SceneObject, kin: Kinship) -> np.ndarray:
    points = points.astype(np.float64)
    along = np.array([kin.aspect ** (-1 / 3), kin.aspect ** (-1 / 3), kin.aspect ** (2 / 3)])
    wider = 1.0 + kin.taper * points[:, 2:] / (0.5 * item.size_m[2])
    return kin.scale * along * points * np.concatenate([wider, wider, np.ones_like(wider)], 1)


def _mapped_piece(piece: ConvexPiece, item: SceneObject, kin: Kinship, middle: np.ndarray) -> ConvexPiece:
    points = _mapped(piece.points, item, kin) - middle
    # A taper bends sides a little: the hull of the moved corners is the piece.
    return convex_piece(points) if kin.taper else ConvexPiece(points.astype(np.float32), piece.faces)


def _standing(item: SceneObject, points: np.ndarray, middle: np.ndarray) -> np.ndarray:
    """The pose at which the relative's lowest point is as high as the object's, and its axis where the object's is."""
    T = item.T_world_object.copy()
    T[:3, 3] = transform(item.T_world_object, middle)
    lowest = [
        float(transform(pose, p.astype(np.float64))[:, 2].min())
        for pose, p in ((item.T_world_object, item.mesh.points), (T, points))
    ]
    T[2, 3] += lowest[0] - lowest[1]
    return T


def recolor(texture: np.ndarray, kin: Kinship, gain: np.ndarray, keep_hue: bool) -> np.ndarray:
    """The texture of a relative, (h, w, 3) uint8 sRGB.

    Args:
        texture: The object's, (h, w, 3) uint8 sRGB.
        kin: How it differs.
        gain: Factor of a pattern at every texel, (h, w).
        keep_hue: Leave the colour as it is, because the object is named after it.
    """
    linear = srgb_to_linear(texture / 255.0)
    if not keep_hue:
        grey = np.maximum(linear @ LUMINANCE, 1e-6)
        turned = np.maximum(linear @ _hue_turn(kin.hue_rad).T, 0.0)
        linear = turned * (grey / np.maximum(turned @ LUMINANCE, 1e-6))[..., None]
    logs = np.log(np.maximum(linear, 1e-4))
    middle = np.median(logs.reshape(-1, 3), axis=0)
    linear = np.exp(middle + kin.contrast * (logs - middle)) * gain[..., None]
    return np.round(255 * linear_to_srgb(np.clip(linear, 0.0, 1.0))).astype(np.uint8)


LUMINANCE = np.array([0.2126, 0.7152, 0.0722])
"""Source: ITU-R BT.709."""


def named_after_color(item: SceneObject) -> bool:
    """Whether the object's name says a colour."""
    return bool(set(words_of(item.name)) & {*COLORS, *COLOR_ALIASES})


def _hue_turn(angle_rad: float) -> np.ndarray:
    """Rotation (3, 3) of linear RGB about the grey axis. Source: Rodrigues' formula."""
    k = np.full(3, 1 / np.sqrt(3))
    K = np.array([[0, -k[2], k[1]], [k[2], 0, -k[0]], [-k[1], k[0], 0]])
    return np.eye(3) + np.sin(angle_rad) * K + (1 - np.cos(angle_rad)) * K @ K
