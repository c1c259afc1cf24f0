"""What carries another thing must be under it: hidden sides of carriers grow until what the photo shows standing would stand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from phototwin.frames import invert, transform
from phototwin.kernels.rasterize import rasterize
from phototwin.scene import ConvexPiece, Maps

if TYPE_CHECKING:
    from phototwin.build.fit import FittedShape

GROWING = ("box", "extrusion")
"""Shapes whose far side is a guess; those of revolution know their far side from the near one."""
RESTS_M, RESTS_SHARE = 0.012, 0.15
"""A foot this near to a top, absolutely or as a share of the carrier's height, rests on it."""
COVERED = 0.8
"""Share of the upper thing's half width that is brought onto the carrier: people set things on things, not over their edge."""
STANDS = 0.25
"""Share of it that must be on the carrier for the thing to stand safely."""
MAX_GROWTH = 3.0
"""A side more than this much longer is another thing, not a hidden part."""
SEEN_SHARE = 0.02
"""Growth that shows this share more of the carrier where the photo does not show it is refused."""


def bear_loads(maps: Maps, fits: Sequence[FittedShape], names: tuple[str, ...]) -> tuple[list[FittedShape], list[str]]:
    """The shapes with hidden sides of carriers grown under what rests on them, and a sentence for each.

    A side that turns away from the camera under something else is not seen, and a fit makes it as short as the mask allows. The
    photo is taken of things that stand, so the centre of what rests on a carrier is over it. Growth that would show where the
    photo shows something else is not made.
    """
    grown, notes = list(fits), []
    for i, upper in enumerate(fits):
        carrier = _carrier(grown, i)
        if carrier is None:
            continue
        lower = grown[carrier]
        for axis in (0, 1):
            wanted = _grown(lower, upper, axis, maps.T_world_camera[:2, 3])
            if wanted is not None and _unseen(maps, carrier, lower, wanted):
                longer = 1000 * (wanted.size_m[axis] - lower.size_m[axis])
                notes.append(
                    f"The hidden side of the {names[carrier]} was made {longer:.0f} mm longer, so that the {names[i]} stands on it."
                )
                lower = wanted
        grown[carrier] = lower
    return grown, notes


def _carrier(fits: Sequence[FittedShape], i: int) -> int | None:
    """The thing that object i rests on, the nearest; None where there is none, two are under its centre, or its kind has no hidden side."""
    foot, place = _heights(fits[i])[0], fits[i].T_world_object[:2, 3]
    found: list[tuple[float, int]] = []
    for j, lower in enumerate(fits):
        top = _heights(lower)[1]
        if j != i and abs(foot - top) < max(RESTS_M, RESTS_SHARE * lower.size_m[2]) and foot > 0.3 * top:
            beside = float((np.abs(_local(lower, place)) - lower.size_m[:2] / 2).max())
            if beside < fits[i].size_m[:2].max() / 2:
                found.append((beside, j))
    found.sort()
    if not found or fits[found[0][1]].shape not in GROWING:
        return None
    return found[0][1] if len(found) == 1 or found[1][0] > 0 else None


def _heights(fit: FittedShape) -> tuple[float, float]:
    """Lowest and highest point of a shape in the world [m]."""
    z = transform(fit.T_world_object, fit.points.astype(np.float64))[:, 2]
    return float(z.min()), float(z.max())


def _local(fit: FittedShape, place_w: np.ndarray) -> np.ndarray:
    """A place on the support (2,) along the horizontal axes of a shape, from its centre [m]."""
    return (place_w - fit.T_world_object[:2, 3]) @ fit.T_world_object[:2, :2]


def _grown(lower: FittedShape, upper: FittedShape, axis: int, camera_w: np.ndarray) -> FittedShape | None:
    """The carrier with its far side along an axis grown under the upper thing, or None where that is under it already."""
    place = _local(lower, upper.T_world_object[:2, 3])[axis]
    away = -_local(lower, camera_w)[axis]
    side, half = np.sign(place), lower.size_m[axis] / 2
    corners = _local(lower, transform(upper.T_world_object, upper.points.astype(np.float64))[:, :2])[:, axis]
    reach = float(np.ptp(corners)) / 2
    if side * place + STANDS * reach <= half or side * away <= 0:
        return None
    extra = side * place + COVERED * reach - half
    factor = (2 * half + extra) / (2 * half)
    if factor > MAX_GROWTH:
        return None
    stretch = np.ones(3)
    stretch[axis] = factor
    T = lower.T_world_object.copy()
    T[:3, 3] += T[:3, axis] * side * extra / 2
    return replace(
        lower,
        T_world_object=T,
        points=(lower.points * stretch).astype(np.float32),
        pieces=tuple(ConvexPiece((p.points * stretch).astype(np.float32), p.faces) for p in lower.pieces),
        size_m=lower.size_m * stretch,
    )


def _unseen(maps: Maps, index: int, before: FittedShape, after: FittedShape) -> bool:
    """Whether growth adds nothing where the photo shows neither the carrier nor anything that may hide it."""
    mask, others = maps.masks[index], np.asarray(np.delete(maps.masks, index, axis=0).any(0))
    height, width = mask.shape
    shown = []
    for fit in (before, after):
        T = invert(maps.T_world_camera) @ fit.T_world_object
        points_c = transform(T, fit.points.astype(np.float64))
        shown.append(rasterize(points_c, fit.faces, maps.K_px, width, height).face >= 0)
    outside = [int((image & ~mask & ~others).sum()) for image in shown]
    return outside[1] - outside[0] <= SEEN_SHARE * max(int(mask.sum()), 1)
