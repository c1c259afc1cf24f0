"""What the user says about objects: boxes, points and masks, with names or without."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from phototwin.errors import InputError
from phototwin.perceive.files import BROKEN, check_file, read_array, read_json
from phototwin.scene import ObjectHint

HINT_KEYS = {"name", "box", "point", "mask"}
MAX_OBJECTS = 60
"""More ids than this in one image are no objects: a photo was given in the place of masks."""


def read_hints(file: Path, width: int, height: int) -> tuple[ObjectHint, ...]:
    """The hints of a JSON list of {"name", "box": [x0, y0, x1, y1], "point": [x, y], "mask": file}, each but one optional.

    Raises:
        InputError: An entry is malformed or lies outside the photo.
    """
    value = read_json(file, "objects")
    items = value.get("objects") if isinstance(value, dict) else value
    if not isinstance(items, list) or not items:
        raise InputError(f"The objects file '{file}' must hold a list of objects, or {{\"objects\": [...]}}.")
    hints = tuple(_read_hint(item, f"Object {i + 1} in '{file}'", file, width, height) for i, item in enumerate(items))
    names = [hint.name for hint in hints if hint.name]
    double = {name for name in names if names.count(name) > 1}
    if double:
        raise InputError(f"The objects file '{file}' gives the name {sorted(double)} twice: names must differ.")
    return hints


def read_masks(path: Path, width: int, height: int) -> tuple[ObjectHint, ...]:
    """One hint per object of an id image (0 = background), or of a folder with one black and white PNG per object, named after it.

    Raises:
        InputError: There is no mask, or one has another size than the photo.
    """
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.suffix.lower() == ".png")
        if not files:
            raise InputError(f"The folder '{path}' of --masks holds no PNG: expected one per object, named after it.")
        return tuple(
            ObjectHint(
                file.stem.replace("_", " ").strip(), mask=_read_mask(file.name, f"'{file.stem}'", file, width, height)
            )
            for file in files
        )
    check_file(path, "masks")
    try:
        with Image.open(path) as image:
            if image.mode not in ("L", "P", "I", "I;16"):
                raise InputError(f"The masks '{path}' have the mode {image.mode}, expected grey ids, 0 = background.")
            ids = np.array(image)
    except BROKEN as error:
        raise InputError(f"The masks '{path}' are not an image that can be read ({error}).") from error
    if ids.shape != (height, width):
        raise InputError(
            f"The masks '{path}' have {ids.shape[1]} x {ids.shape[0]} pixels, the upright photo {width} x {height}."
        )
    found = [int(value) for value in np.unique(ids) if value]
    if not found or len(found) > MAX_OBJECTS:
        raise InputError(
            f"The masks '{path}' hold {len(found)} ids above 0, expected 1 to {MAX_OBJECTS}: 0 = background, 1 = first object."
        )
    return tuple(ObjectHint(mask=ids == value) for value in found)


def _read_hint(item: Any, where: str, file: Path, width: int, height: int) -> ObjectHint:
    if not isinstance(item, dict):
        raise InputError(f"{where} must be an object with {', '.join(sorted(HINT_KEYS))}.")
    if set(item) - HINT_KEYS:
        raise InputError(
            f"{where} has unknown keys {sorted(set(item) - HINT_KEYS)}: expected {', '.join(sorted(HINT_KEYS))}."
        )
    item = {key: part for key, part in item.items() if part is not None}
    name = item.get("name")
    if name is not None and (not isinstance(name, str) or not name.strip() or len(name) > 60):
        raise InputError(f"{where} has a name that is not a short text: {name!r}.")
    if not set(item) & {"box", "point", "mask"}:
        raise InputError(f"{where} says nothing about where it is: give a box, a point or a mask.")
    box = read_array(item["box"], (4,), f"The box of {where}") if "box" in item else None
    point = read_array(item["point"], (2,), f"The point of {where}") if "point" in item else None
    if box is not None and not (0 <= box[0] < box[2] <= width and 0 <= box[1] < box[3] <= height):
        raise InputError(
            f"The box of {where} must be x0 < x1, y0 < y1 inside the upright photo of {width} x {height}, got {box.tolist()}."
        )
    if point is not None and not (0 <= point[0] < width and 0 <= point[1] < height):
        raise InputError(
            f"The point of {where} must be inside the upright photo of {width} x {height}, got {point.tolist()}."
        )
    mask = _read_mask(item["mask"], where, file, width, height) if "mask" in item else None
    return ObjectHint(name.strip() if name else None, box, point, mask)


def _read_mask(value: Any, where: str, file: Path, width: int, height: int) -> np.ndarray:
    if not isinstance(value, str):
        raise InputError(f"The mask of {where} must be the name of an image file.")
    path = file.parent / value
    check_file(path, "mask")
    try:
        with Image.open(path) as image:
            mask = np.array(image.convert("L")) > 127 if image.mode != "1" else np.array(image)
    except BROKEN as error:
        raise InputError(f"The mask '{path}' is not an image that can be read ({error}).") from error
    if mask.shape != (height, width):
        raise InputError(
            f"The mask '{path}' has {mask.shape[1]} x {mask.shape[0]} pixels, the upright photo {width} x {height}."
        )
    if not mask.any() or mask.all():
        raise InputError(
            f"The mask '{path}' is all {'black' if not mask.any() else 'white'}: white must be the object."
        )
    return mask
