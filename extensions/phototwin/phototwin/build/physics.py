"""Mass, friction and restitution of everyday things from their material volume and the words in their name, or as a file says."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from phototwin.errors import InputError
from phototwin.nouns import Thing, find_thing, noun_of, words_of

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
SOLID_MATERIAL, HOLLOW_MATERIAL = "unknown solid", "ceramic"
"""What a thing is taken for whose name says nothing."""
MATERIALS |= {SOLID_MATERIAL: Material(600.0)}
MATERIAL_KEYS = {"density", "friction", "restitution"}
OBJECT_KEYS = {"material", "mass_kg", "friction", "restitution"}


@dataclass(frozen=True)
class Override:
    """What a file says about one object; None leaves the table's value."""

    material: str | None = None
    mass_kg: float | None = None
    friction: float | None = None
    restitution: float | None = None


@dataclass(frozen=True)
class Materials:
    """The table of materials, and what is known of single objects.

    Attributes:
        table: Material name -> its values.
        objects: Noun phrase -> what holds for the object that it means.
        support_friction: Coefficient of friction of the support, or None for the usual one.
    """

    table: Mapping[str, Material] = field(default_factory=lambda: MATERIALS)
    objects: Mapping[str, Override] = field(default_factory=dict)
    support_friction: float | None = None


@dataclass(frozen=True)
class Physics:
    """Material name, mass [kg], coefficients of friction and restitution."""

    material: str
    mass_kg: float
    friction: float
    restitution: float


def load_materials(file: Path | None) -> Materials:
    """The table of materials with what a JSON file changes in it.

    ``{"materials": {"felt": {"density": 200, "friction": 0.9}}, "objects": {"mug": {"material": "ceramic", "mass_kg": 0.31}},
    "support": {"friction": 0.5}}``; every part may be left out.

    Raises:
        InputError: The file is not that, or a number is impossible.
    """
    if file is None:
        return Materials()
    try:
        value = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise InputError(f"The materials file '{file}' cannot be read as JSON ({error}).") from error
    value = _section(value, {"materials", "objects", "support"}, f"The materials file '{file}'")
    table = dict(MATERIALS)
    for name, item in _section(value.get("materials", {}), None, f"'materials' in '{file}'").items():
        where = f"The material '{name}' in '{file}'"
        numbers = _numbers(_section(item, MATERIAL_KEYS, where), where)
        if name not in table and "density" not in numbers:
            raise InputError(f"{where} is new and needs a 'density' in kg/m^3.")
        table[name] = replace(table.get(name, Material(0.0)), **numbers)
    objects = {}
    for name, item in _section(value.get("objects", {}), None, f"'objects' in '{file}'").items():
        where = f"The object '{name}' in '{file}'"
        item = _section(item, OBJECT_KEYS, where)
        material = item.get("material")
        if material is not None and material not in table:
            raise InputError(
                f"{where} is of '{material}', which is no material. There are: {', '.join(sorted(table))}."
            )
        stated = _numbers({key: number for key, number in item.items() if key != "material"}, where)
        objects[name] = replace(Override(material), **stated)
    support = _numbers(
        _section(value.get("support", {}), {"friction"}, f"'support' in '{file}'"), f"'support' in '{file}'"
    )
    return Materials(table, objects, support.get("friction"))


def match_overrides(materials: Materials, names: tuple[str, ...]) -> dict[int, Override]:
    """Index of the object -> what the file says about it.

    Raises:
        InputError: A name in the file means none of the objects, or several.
    """
    found: dict[int, Override] = {}
    for phrase, override in materials.objects.items():
        indices = find_thing(phrase, [Thing(name) for name in names]).indices
        if len(indices) != 1:
            what = "could mean any of" if indices else "is not in the photo, which shows"
            listed = ", ".join(names[i] for i in indices) if indices else ", ".join(names) or "no object"
            raise InputError(f"The object '{phrase}' of the materials file {what}: {listed}. Name one of them.")
        found[indices[0]] = override
    return found


def material_of(name: str, hollow: bool) -> str:
    """What a thing of that name is most likely made of, a key of ``MATERIALS``: a word for it decides, otherwise the noun."""
    stated = next((MATERIAL_WORDS[word] for word in words_of(name) if word in MATERIAL_WORDS), "")
    noun = noun_of(name)
    return stated or (noun.material if noun else "") or (HOLLOW_MATERIAL if hollow else SOLID_MATERIAL)


def estimate_physics(
    name: str, hollow: bool, volume_m3: float, materials: Materials | None = None, override: Override | None = None
) -> Physics:
    """How a thing behaves whose material fills ``volume_m3``; what the user stated is taken as it is."""
    materials, override = materials or Materials(), override or Override()
    kind = override.material or material_of(name, hollow)
    material = materials.table[kind]
    mass = float(np.clip(material.density * abs(volume_m3), MIN_MASS_KG, MAX_MASS_KG))
    return Physics(
        kind,
        mass if override.mass_kg is None else override.mass_kg,
        material.friction if override.friction is None else override.friction,
        material.restitution if override.restitution is None else override.restitution,
    )


def _section(value: Any, keys: set[str] | None, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InputError(f"{where} must be a JSON object, got {str(value)[:60]}.")
    unknown = set(value) - keys if keys is not None else set()
    if unknown:
        raise InputError(f"{where} has unknown keys {sorted(unknown)}: expected {', '.join(sorted(keys or ()))}.")
    return value


def _numbers(value: dict[str, Any], where: str) -> dict[str, float]:
    """Physical numbers, checked: positive density and mass, friction 0..5, restitution 0..1."""
    most = {"density": 25000.0, "mass_kg": 100.0, "friction": 5.0, "restitution": 1.0}
    for key, number in value.items():
        positive = key in ("density", "mass_kg")
        good = isinstance(number, int | float) and not isinstance(number, bool) and 0 <= number <= most[key]
        if not good or (positive and number == 0):
            raise InputError(
                f"{where} has {key} = {number}, expected a number {'above' if positive else 'from'} 0 up to {most[key]:g}."
            )
    return {key: float(number) for key, number in value.items()}
