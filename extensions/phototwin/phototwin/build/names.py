"""Names that people would use, from colour, shape and size, and identifiers made of them."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

import numpy as np

from phototwin.nouns import DARK_L, LIGHT_L, color_names

LIGHT_TRUST = 0.6
"""How much of the tint of the photo's bright parts is taken for the light's, in the exponent; the rest may be their own."""
MAX_TINT = 1.25
HANDLE_RATIO = 1.12
"""A round vessel this much longer than wide has a handle."""
CAN_TALL, CAN_WIDE_M = (1.2, 2.6), (0.05, 0.1)
"""Height over width, and width, of the cylinders that are called cans."""
CAN_FILL = 0.72
"""Volume as a share of the bounding box, at least: pi / 4 for a cylinder, less for what has a neck."""


@dataclass(frozen=True, eq=False)
class Look:
    """What a name is made of.

    Attributes:
        color: Name of the colour.
        shape: One of ``OBJECT_SHAPES``.
        hollow: A vessel.
        size_m: Extent along the object axes, (3,); X is the longer horizontal side.
        fill: Volume as a share of the bounding box.
        position: Position to the right and away as the camera sees it, (2,) [m].
    """

    color: str
    shape: str
    hollow: bool
    size_m: np.ndarray
    fill: float
    position: np.ndarray


def light_of(rgb: np.ndarray) -> np.ndarray:
    """What white would look like in a photo (H, W, 3) uint8: (3,) in 0..1, from its bright parts.

    Source: the white-patch assumption, damped, because the bright parts may be a coloured table.
    """
    bright = np.percentile(rgb.reshape(-1, 3)[:: max(1, rgb.size // 300000)], 95, axis=0) / 255.0
    tint = np.clip(bright / max(bright.mean(), 1e-6), 1 / MAX_TINT, MAX_TINT) ** LIGHT_TRUST
    # Dim photos make everything darker; but a dark table must not make grey things white.
    return np.clip(bright.max() * 1.25, 0.75, 1.0) * tint


def color_of(rgb: np.ndarray, mask: np.ndarray) -> tuple[str, np.ndarray]:
    """What people call the colour of the masked pixels, by vote, and the median of the pixels that voted for it, (3,) in 0..1.

    Greys vote together, because shading makes white grey; how bright their brighter half is then decides among them.
    """
    pixels = rgb[mask] if mask.any() else np.full((1, 3), 128, np.uint8)
    pixels = pixels[:: max(1, len(pixels) // 5000)]
    light = light_of(rgb)
    votes = color_names(pixels, light)
    greys = np.isin(votes, ("white", "gray", "black"))
    bright = np.percentile(pixels[greys], 70, axis=0)[None] if greys.any() else pixels[:1]
    votes = np.where(greys, "grey", votes)
    words, counts = np.unique(votes, return_counts=True)
    most = str(words[counts.argmax()])
    color = np.median(pixels[votes == most], axis=0) / 255.0
    if most != "grey":
        return most, color
    lightness = color_lightness(bright, light)
    return ("white" if lightness > LIGHT_L else "gray" if lightness > DARK_L else "black"), color


def color_lightness(rgb: np.ndarray, light: np.ndarray) -> float:
    """Lab lightness, 0..100, of the mean of colours (N, 3) in 0..255 under a light that makes white look like ``light``."""
    linear = (np.clip(rgb.mean(0) / 255.0 / light, 0, 1)) ** 2.2
    luminance = float(linear @ (0.2126, 0.7152, 0.0722))
    return 116 * np.cbrt(luminance) - 16 if luminance > 0.0089 else 903.3 * luminance


def shape_word(shape: str, hollow: bool, size_m: np.ndarray, fill: float) -> str:
    """The noun for a shape of that size; ``fill`` is its volume as a share of the bounding box."""
    length, width, height = (float(v) for v in size_m)
    if shape == "sphere":
        return "ball"
    if shape == "box":
        if max(size_m) <= 1.25 * min(size_m):
            return "cube"
        return "block" if max(size_m) < 0.14 else "box"
    if shape == "extrusion":
        return _flat_word(length, width, height, fill)
    handle = length > HANDLE_RATIO * width
    if hollow:
        if height < 0.25 * width:
            return "plate"
        if height < 0.75 * width:
            return "bowl"
        return ("pitcher" if height > 0.17 else "mug") if handle else "cup"
    if height < 0.25 * width:
        return "plate" if width > 0.12 else "disk"
    if shape == "revolution" and 0.7 < height / width < 1.4 and fill < 0.62:
        return "ball"
    if not handle and fill > CAN_FILL and _within(height / width, CAN_TALL) and _within(width, CAN_WIDE_M):
        return "can"
    return "bottle" if shape == "revolution" and height > 2 * width else "cylinder"


def _within(value: float, limits: tuple[float, float]) -> bool:
    return limits[0] <= value <= limits[1]


def _flat_word(length: float, width: float, height: float, fill: float) -> str:
    if length > 3.5 * max(width, height):
        return "stick"
    if height < 0.3 * width and length > 0.14:
        return "plate" if fill < 0.88 else "board"
    return "block"


def name_objects(looks: list[Look], given: tuple[str | None, ...]) -> tuple[str, ...]:
    """One unique name per object; a name that the user gave wins.

    Equal names are told apart by where things are ("left", "right", "near", "far") where there are two, otherwise by
    numbers from left to right.
    """
    names = [
        (user or "").strip() or f"{look.color} {shape_word(look.shape, look.hollow, look.size_m, look.fill)}"
        for user, look in zip(given, looks, strict=True)
    ]
    for name in sorted(set(names)):
        same = [i for i, other in enumerate(names) if other == name]
        for i, word in zip(same, _tell_apart([looks[i].position for i in same]), strict=True):
            names[i] = name if len(same) == 1 else word.format(name)
    while len(set(map(make_key, names))) < len(names):  # "red cube" and "Red_Cube", or a given "left red cube"
        keys = [make_key(name) for name in names]
        names = [
            f"{n} {keys[:i].count(k) + 1}" if k in keys[:i] else n
            for i, (n, k) in enumerate(zip(names, keys, strict=True))
        ]
    return tuple(names)


def _tell_apart(positions: list[np.ndarray]) -> list[str]:
    """Patterns that say which of several equal things is meant."""
    places = np.array(positions)
    if len(places) == 2:
        axis = int(np.abs(places[1] - places[0]).argmax())
        first, second = (("left {}", "right {}"), ("near {}", "far {}"))[axis]
        return [first, second] if places[0, axis] <= places[1, axis] else [second, first]
    order = np.argsort(places[:, 0], kind="stable")
    return [f"{{}} {int(np.flatnonzero(order == i)[0]) + 1}" for i in range(len(places))]


def make_key(name: str) -> str:
    """The name as an identifier: lower-case ASCII letters, digits and underscores, a letter first."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    key = re.sub(r"[^a-z0-9]+", "_", plain).strip("_")
    return key if key[:1].isalpha() else f"object_{key}".rstrip("_")
