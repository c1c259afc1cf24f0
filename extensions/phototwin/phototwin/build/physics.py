"""Mass, friction and restitution of everyday things from their material volume and the words in their name."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

MIN_MASS_KG, MAX_MASS_KG = 0.01, 2.0
"""A gripper neither holds what is lighter than a few sheets of paper steadily nor lifts what is heavier."""


@dataclass(frozen=True)
class Material:
    """Density of the closed volume [kg/m^3], coefficient of friction and of restitution."""

    density: float
    friction: float = 0.8
    restitution: float = 0.0


CERAMIC = Material(2300.0, 0.7)
WOOD = Material(650.0, 0.8)
CARTON = Material(450.0, 0.8)
FILLED = Material(1000.0, 0.7)
METAL = Material(2700.0, 0.6)
FRUIT = Material(850.0, 0.8)
RUBBER = Material(300.0, 0.9, 0.3)
SPONGE = Material(80.0, 1.0)
PLASTIC = Material(1000.0, 0.7)

MATERIAL_BY_WORD = {
    **dict.fromkeys(("mug", "cup", "bowl", "plate", "saucer", "dish", "pitcher", "teapot", "vase", "pot"), CERAMIC),
    **dict.fromkeys(("spoon", "cube", "block", "stick", "board", "ladle", "spatula", "brush", "pencil"), WOOD),
    **dict.fromkeys(("box", "carton", "cereal", "package", "book"), CARTON),
    **dict.fromkeys(("can", "bottle", "jar", "tin", "tube", "carafe"), FILLED),
    **dict.fromkeys(("fork", "knife", "wrench", "hammer", "screwdriver"), METAL),
    **dict.fromkeys(("apple", "orange", "lemon", "banana", "pear", "peach", "tomato", "potato", "carrot"), FRUIT),
    **dict.fromkeys(("ball",), RUBBER),
    **dict.fromkeys(("sponge", "foam"), SPONGE),
    **dict.fromkeys(("plastic", "toy", "cap", "lid"), PLASTIC),
}
"""Typical values, good to a factor of two. The last word of a name that is in the table decides: in "orange mug" the mug."""
DEFAULT_SOLID, DEFAULT_HOLLOW = Material(600.0), CERAMIC


def material_of(name: str, hollow: bool) -> Material:
    """What a thing of that name is most likely made of."""
    for word in reversed(re.findall(r"[a-z]+", name.lower())):
        if word in MATERIAL_BY_WORD:
            return MATERIAL_BY_WORD[word]
        if word.endswith("s") and word[:-1] in MATERIAL_BY_WORD:
            return MATERIAL_BY_WORD[word[:-1]]
    return DEFAULT_HOLLOW if hollow else DEFAULT_SOLID


def estimate_physics(name: str, hollow: bool, volume_m3: float) -> tuple[float, float, float]:
    """Mass [kg], friction and restitution of a thing whose material fills ``volume_m3``."""
    material = material_of(name, hollow)
    mass = float(np.clip(material.density * abs(volume_m3), MIN_MASS_KG, MAX_MASS_KG))
    return mass, material.friction, material.restitution
