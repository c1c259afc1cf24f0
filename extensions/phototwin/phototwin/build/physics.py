"""Mass, friction and restitution of everyday things from their material volume and the words in their name."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from phototwin.nouns import noun_of, words_of

MIN_MASS_KG, MAX_MASS_KG = 0.01, 2.0
"""A gripper neither holds what is lighter than a few sheets of paper steadily nor lifts what is heavier."""


@dataclass(frozen=True)
class Material:
    """Density of the closed volume [kg/m^3], coefficient of friction and of restitution."""

    density: float
    friction: float = 0.8
    restitution: float = 0.0


MATERIALS = {
    "ceramic": Material(2300.0, 0.7),
    "wood": Material(650.0, 0.8),
    "carton": Material(450.0, 0.8),
    "filled": Material(1000.0, 0.7),
    "metal": Material(2700.0, 0.6),
    "fruit": Material(850.0, 0.8),
    "rubber": Material(300.0, 0.9, 0.3),
    "sponge": Material(80.0, 1.0),
    "plastic": Material(1000.0, 0.7),
}
"""Typical values, good to a factor of two; ``phototwin.nouns`` says which things are made of what."""
MATERIAL_WORDS = {
    **dict.fromkeys(("plastic", "toy", "cap", "lid"), "plastic"),
    **dict.fromkeys(("metal", "steel"), "metal"),
    **dict.fromkeys(("wooden", "wood"), "wood"),
    **dict.fromkeys(("cardboard", "paper", "cereal"), "carton"),
    **dict.fromkeys(("foam",), "sponge"),
    **dict.fromkeys(("tube",), "filled"),
}
"""Words that say what a thing is made of, whatever it is."""
DEFAULT_SOLID, DEFAULT_HOLLOW = Material(600.0), MATERIALS["ceramic"]


def material_of(name: str, hollow: bool) -> Material:
    """What a thing of that name is most likely made of: a word for it decides, otherwise the noun."""
    stated = next((MATERIAL_WORDS[word] for word in words_of(name) if word in MATERIAL_WORDS), "")
    noun = noun_of(name)
    return MATERIALS.get(stated or (noun.material if noun else ""), DEFAULT_HOLLOW if hollow else DEFAULT_SOLID)


def estimate_physics(name: str, hollow: bool, volume_m3: float) -> tuple[float, float, float]:
    """Mass [kg], friction and restitution of a thing whose material fills ``volume_m3``."""
    material = material_of(name, hollow)
    mass = float(np.clip(material.density * abs(volume_m3), MIN_MASS_KG, MAX_MASS_KG))
    return mass, material.friction, material.restitution
