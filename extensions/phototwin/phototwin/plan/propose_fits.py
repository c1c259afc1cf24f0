"""Whether things fit on and into each other, stay there, roll or fall over, going by their shapes and sizes alone."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from phototwin.nouns import noun_of
from phototwin.scene import SceneObject

HIGHEST_M = 0.25
"""Towers, and what stands on something, end below this height."""
CARRIER_M = 0.15
"""Things are put on others up to this height."""
SLENDER = 2.5
"""What is more times as high as wide falls over when it is pushed or stacked on."""
DISH = 0.3
"""Height over width up to which a vessel is a plate, on which things are put rather than in it."""
ROOM_M = 0.008
"""Left around a thing in an opening, and beside it on its way."""
WALL_M = 0.006
"""Of a vessel, about."""
LIES_RATIO = 1.3
"""What is this much longer than high lies."""


def fits_in(item: SceneObject, target: SceneObject) -> bool:
    """Whether a thing goes into the opening of a vessel, however it is turned about the vertical."""
    if not target.hollow or dish(target):
        return False
    return 0.5 * float(np.hypot(*item.size_m[:2])) + ROOM_M < opening_radius(target)


def opening_radius(target: SceneObject) -> float:
    """Half the free width of a vessel's opening, about [m]; a handle does not count."""
    return 0.5 * float(min(target.size_m[:2])) - WALL_M


def fits_on(item: SceneObject, target: SceneObject) -> bool:
    """Whether a thing stays on another: flat, wide, steady and not too high."""
    if item.hollow and not flat_top(target):
        return False
    if not (flat_top(target) or dish(target)) or (rolls(item) and not target.hollow):
        return False
    narrow, wide = (float(f(item.size_m[:2])) for f in (min, max))
    room = float(min(target.size_m[:2]))
    high = float(target.size_m[2])
    steady = high <= CARRIER_M and high <= SLENDER * room and high + float(item.size_m[2]) <= HIGHEST_M
    steady = steady and float(item.size_m[2]) <= SLENDER * narrow
    return steady and room >= 0.8 * narrow and room >= 0.6 * wide


def lies(item: SceneObject) -> bool:
    """Whether a round thing lies on its side: much longer than high."""
    return (
        not item.hollow
        and item.shape in ("cylinder", "revolution")
        and float(max(item.size_m[:2])) > LIES_RATIO * float(item.size_m[2])
        and not dish(item)
    )


def rolls(item: SceneObject) -> bool:
    """Whether a thing rolls away when it is let go of or pushed."""
    noun = noun_of(item.name)
    return item.shape == "sphere" or lies(item) or (noun is not None and "sphere" in noun.shapes)


def dish(item: SceneObject) -> bool:
    """Whether a thing is a plate: round or dished, and low."""
    low = float(item.size_m[2]) <= DISH * float(min(item.size_m[:2]))
    return low and item.shape in ("revolution", "cylinder", "extrusion")


def tall(item: SceneObject) -> bool:
    """Whether a thing is higher than it is wide."""
    return float(item.size_m[2]) > 1.1 * float(max(item.size_m[:2]))


def flat_top(item: SceneObject) -> bool:
    """Whether a thing has a level top to put others on."""
    return not item.hollow and item.shape in ("box", "cylinder", "extrusion") and not lies(item)


def stackable(item: SceneObject) -> bool:
    """Whether a thing can be part of a tower."""
    return (
        flat_top(item)
        and item.shape in ("box", "cylinder")
        and float(item.size_m[2]) <= SLENDER * float(min(item.size_m[:2]))
        and not dish(item)
    )


def tower_stands(tower: Sequence[SceneObject]) -> bool:
    """Whether things stacked in this order, from the bottom up, narrow towards the top and stay low enough."""
    widths = [float(min(item.size_m[:2])) for item in tower]
    narrowing = all(upper <= 1.15 * lower for lower, upper in pairwise(widths))
    return narrowing and sum(float(item.size_m[2]) for item in tower) <= HIGHEST_M
