"""The one factor that a photo without depth leaves open: from what the user measured, or from how large things usually are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from phototwin.errors import InputError
from phototwin.nouns import Thing, find_thing, noun_of

CAMERA_HEIGHT = "camera height"
MAX_LENGTH_M, MAX_CAMERA_HEIGHT_M = 1.5, 5.0  # of a thing on a table, of a camera over it: more was not meant in metres
DEFAULT_LENGTH_M = 0.08


@dataclass(frozen=True)
class Anchor:
    """A length that the user knows: the longest side of the named thing, or the height of the camera above the support [m]."""

    name: str
    length_m: float


def parse_anchor(text: str) -> Anchor:
    """The anchor that ``"green cube=0.04"`` or ``"camera height=0.45"`` states.

    Raises:
        InputError: It is not a name and a length in metres.
    """
    name, _, value = text.rpartition("=")
    try:
        length = float(value.strip().removesuffix("m"))
    except ValueError:
        length = float("nan")
    if not name.strip() or not 0 < length < np.inf:
        raise InputError(f"The anchor '{text}' is not a name and a length in metres. Write it like 'green cube=0.04'.")
    anchor = Anchor(" ".join(name.split()), length)
    most, what = (MAX_CAMERA_HEIGHT_M, "a camera") if _is_camera(anchor) else (MAX_LENGTH_M, "a thing on a table")
    if length > most:
        raise InputError(
            f"The anchor '{text}' states {length:g} metres, but {what} has at most {most:g}: metres? "
            "40 mm are written like 'green cube=0.04'."
        )
    return anchor


def _is_camera(anchor: Anchor) -> bool:
    return anchor.name.lower().replace("_", " ") == CAMERA_HEIGHT


def match_name(wanted: str, names: tuple[str, ...]) -> tuple[int, str]:
    """Index of the one object that ``wanted`` means, and a note where a word of it was taken loosely.

    Only names are compared, because sizes are not known yet: the form in a name ("cylinder") stands for the proportions.

    Raises:
        InputError: It means none, or several.
    """
    found = find_thing(wanted, [Thing(name) for name in names])
    if not found.indices:
        raise InputError(f"The anchor names '{wanted}', but the photo shows: {', '.join(names) or 'no object'}.")
    index, *others = found.indices
    if others:
        several = ", ".join(names[i] for i in found.indices)
        raise InputError(f"The anchor '{wanted}' could mean any of: {several}. Name one of them.")
    return index, found.note


def find_scale(
    anchors: tuple[Anchor, ...],
    names: tuple[str, ...],
    longest_m: np.ndarray,
    camera_height_m: float,
    metric: bool,
    has_depth: bool,
) -> tuple[float, str]:
    """The factor that all lengths are multiplied with, and where it comes from, in words.

    Args:
        anchors: What the user measured.
        names: Names of the objects.
        longest_m: Their longest sides before scaling, (N,).
        camera_height_m: Height of the camera before scaling.
        metric: False where lengths are known only up to the factor.
        has_depth: True where a depth image gives the lengths; anchors are then only compared with it.

    Raises:
        InputError: An anchor names nothing in the photo, or several things.
    """
    factors, words, remarks = [], [], ""
    for anchor in anchors:
        is_camera = _is_camera(anchor)
        index, note = (-1, "") if is_camera else match_name(anchor.name, names)
        remarks += f" {note}" if note else ""
        factors.append(anchor.length_m / (camera_height_m if is_camera else longest_m[index]))
        what = CAMERA_HEIGHT if is_camera else f"longest side of the {names[index]}"
        words.append(f"{what} = {anchor.length_m:g} m")
    if not anchors:
        return (1.0, "") if metric else _prior_scale(names, longest_m)
    factor, stated = float(np.exp(np.mean(np.log(factors)))), "; ".join(words)
    if metric and has_depth:
        return (
            1.0,
            f"Lengths come from the depth image; the anchor ({stated}) differs from it by {100 * (factor - 1):+.0f} %.{remarks}",
        )
    spread = f", which disagree by {100 * (max(factors) / min(factors) - 1):.0f} %" if len(factors) > 1 else ""
    instead = f" It rescales the given camera pose by {factor:.3f}." if metric else ""
    return factor, f"Lengths come from the anchor: {stated}{spread}.{instead}{remarks}"


def _prior_scale(names: tuple[str, ...], longest_m: np.ndarray) -> tuple[float, str]:
    """The factor that brings the objects, in the median, to the size such things usually have."""
    if not names:
        return 1.0, "Nothing states a length and there is no object: the camera height is an assumption."
    typical = [noun.typical_m if (noun := noun_of(name)) else None for name in names]
    known = [i for i, value in enumerate(typical) if value is not None] or list(range(len(names)))
    factor = float(np.median([(typical[i] or DEFAULT_LENGTH_M) / longest_m[i] for i in known]))
    assumed = ", ".join(f"{names[i]} {typical[i] or DEFAULT_LENGTH_M:g} m" for i in known)
    return (
        factor,
        f"Nothing states a length: assumed usual longest sides ({assumed}). Give --anchor 'NAME=METRES' to be exact.",
    )
