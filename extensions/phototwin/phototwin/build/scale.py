"""The one factor that all lengths share: weighted least squares over what the user measured, what the depth or the pose says, or how large things usually are."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from phototwin.errors import InputError
from phototwin.nouns import Thing, find_thing, noun_of
from phototwin.scene import Maps

if TYPE_CHECKING:
    from collections.abc import Sequence

    from phototwin.build.fit import FittedShape
    from phototwin.build.uncertainty import Doubt

CAMERA_HEIGHT, FLOOR_HEIGHT, TABLE_HEIGHT = "camera height", "camera above floor", "table height"
MAX_LENGTH_M, MAX_CAMERA_HEIGHT_M = 1.5, 5.0  # of a thing on a table, of a camera over it: more was not meant in metres
DEFAULT_LENGTH_M = 0.08
TAPE_M, TAPE_SHARE = 0.001, 0.005  # standard deviation of a length somebody read off a tape: the larger of the two
LENS_M, LENS_SHARE = 0.005, 0.01  # of a camera's height: where in the camera the lens centre sits is a guess
DISAGREES = 3.0
"""An anchor further than this many standard deviations from what the others say is left out."""
SURE_SHARE = 0.01
"""Maps whose own scale is at least this sure (a sensor's depth) are believed against a single anchor, less sure ones are not."""
USUAL_SIGMA, UNKNOWN_SIGMA, LEAST_USUAL_SIGMA = 0.3, 0.6, 0.15
"""How far one thing is from the usual size of its kind, from 8 cm where its kind is unknown, and many things together (they share a photo)."""
SIDES = {"longest side": None, "length": 0, "width": 1, "diameter": 1, "height": 2}
"""Names of an object's sides -> index into ``size_m``; a diameter is the shorter side because handles add to the longer."""


@dataclass(frozen=True)
class Anchor:
    """A length that the user knows [m].

    Attributes:
        name: The thing, or ``CAMERA_HEIGHT`` (of the camera above the support), ``FLOOR_HEIGHT`` or ``TABLE_HEIGHT``.
        length_m: The length.
        side: One of ``SIDES``.
        other: Where given, the length is the distance between the centres of ``name`` and ``other``, seen from above.
        tolerance_m: Its standard deviation where the user gave one.
    """

    name: str
    length_m: float
    side: str = "longest side"
    other: str | None = None
    tolerance_m: float | None = None

    @property
    def sigma_m(self) -> float:
        """Standard deviation [m]: the user's, or that of a tape."""
        if self.tolerance_m is not None:
            return self.tolerance_m
        least, share = (LENS_M, LENS_SHARE) if "camera" in self.kind else (TAPE_M, TAPE_SHARE)
        return max(least, share * self.length_m)

    @property
    def kind(self) -> str:
        """The name where it is one of the three lengths that belong to no object, or empty."""
        name = self.name.lower().replace("_", " ")
        return name if name in (CAMERA_HEIGHT, FLOOR_HEIGHT, TABLE_HEIGHT) else ""


@dataclass(frozen=True, eq=False)
class Lengths:
    """What the twin measures before it is scaled.

    Attributes:
        names: Names of the N objects.
        size_m: Their sides (N, 3): longer and shorter horizontal one, height.
        doubt: Standard deviations (N, 5) of the logarithms of the sides and of the places [m], without that of the common factor.
        place_w: Their centres on the support (N, 2).
        camera_height_m: Of the camera above the support.
        own_sigma: Standard deviation of the maps' own scale as a share, None where they have none.
        own_source: What that scale comes from ("the depth", "the given camera pose"), for the report.
    """

    names: tuple[str, ...]
    size_m: np.ndarray
    doubt: np.ndarray
    place_w: np.ndarray
    camera_height_m: float
    own_sigma: float | None = None
    own_source: str = "the depth"


@dataclass(frozen=True, eq=False)
class Scale:
    """The factor and its doubt.

    Attributes:
        factor: All lengths are multiplied with it.
        sigma: Its standard deviation as a share, from all causes.
        sentence: Where it comes from, for the report; empty where there is nothing to add.
        rows: How its logarithm inherits the errors of what it was compared with, (N, 5) over ``uncertainty.Doubt``'s quantities.
        own_sigma: The part of ``sigma`` that it does not inherit.
    """

    factor: float
    sigma: float
    sentence: str
    rows: np.ndarray
    own_sigma: float


def lengths_of(maps: Maps, fits: Sequence[FittedShape], names: tuple[str, ...], doubts: Sequence[Doubt]) -> Lengths:
    """What ``find_scale`` compares anchors with: the fitted shapes and the camera, before scaling.

    Args:
        maps: Their ``sigma.scale`` counts only where they are metric.
        fits: N shapes.
        names: N names.
        doubts: N doubts of the shapes.
    """
    return Lengths(
        names=names,
        size_m=np.array([fit.size_m for fit in fits]).reshape(-1, 3),
        doubt=np.array([doubt.sigma for doubt in doubts]).reshape(-1, 5),
        place_w=np.array([fit.T_world_object[:2, 3] for fit in fits]).reshape(-1, 2),
        camera_height_m=float(maps.T_world_camera[2, 3]),
        own_sigma=maps.sigma.scale if maps.metric else None,
        own_source="the given camera pose" if maps.depth_m is None else "the depth",
    )


@dataclass(frozen=True, eq=False)
class _Reading:
    """One measurement of the logarithm of the factor.

    Attributes:
        log_factor: What it says.
        stated: Standard deviation of what was stated.
        row: How it inherits the errors of what it is compared with, (N, 5).
        inherited: Standard deviation that comes from there.
        words: What it is.
        is_own: True for the maps' own scale.
    """

    log_factor: float
    stated: float
    row: np.ndarray
    inherited: float
    words: str
    is_own: bool = False

    @property
    def sigma(self) -> float:
        return float(np.hypot(self.stated, self.inherited))


def parse_anchor(text: str) -> Anchor:
    """The anchor that a text states.

    ``"green cube=0.04"`` (longest side), ``"mug height=0.1"`` (also length, width, diameter), ``"mug to bowl=0.2"`` (between centres),
    ``"camera height=0.45"``, or ``"camera above floor=1.2"`` together with ``"table height=0.75"``; ``"cube=0.04+-0.001"`` adds how sure it is.

    Raises:
        InputError: It is not a name and a length in metres.
    """
    name, _, value = text.rpartition("=")
    number, _, tolerance = value.replace("±", "+-").partition("+-")
    length, sigma = _metres(number), _metres(tolerance) if tolerance.strip() else None
    words = name.split()
    if not words or not 0 < length < np.inf or (sigma is not None and not 0 < sigma < length):
        raise InputError(
            f"The anchor '{text}' is not a name and a length in metres. Write it like 'green cube=0.04' or 'green cube=0.04+-0.001'."
        )
    anchor = replace(_named(words), length_m=length, tolerance_m=sigma)
    most, what = (MAX_CAMERA_HEIGHT_M, "a camera") if anchor.kind else (MAX_LENGTH_M, "a thing on a table")
    if length > most:
        raise InputError(
            f"The anchor '{text}' states {length:g} metres, but {what} has at most {most:g}: metres? "
            "40 mm are written like 'green cube=0.04'."
        )
    return anchor


def _metres(text: str) -> float:
    try:
        return float(text.strip().removesuffix("m"))
    except ValueError:
        return float("nan")


def _named(words: list[str]) -> Anchor:
    """The anchor that the words before "=" mean, its length still open."""
    whole = Anchor(" ".join(words), 0.0)
    if whole.kind:
        return whole
    if "to" in words[1:-1]:
        cut = words.index("to", 1)
        return Anchor(" ".join(words[:cut]), 0.0, other=" ".join(words[cut + 1 :]))
    if len(words) > 1 and words[-1].lower() in SIDES:
        return Anchor(" ".join(words[:-1]), 0.0, side=words[-1].lower())
    return whole


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


def find_scale(anchors: tuple[Anchor, ...], lengths: Lengths) -> Scale:
    """The factor that all lengths are multiplied with, how sure it is, and where it comes from, in words.

    Every anchor, and the maps' own scale where they have one, is a measurement of the factor's logarithm; they are averaged by their
    variances. The one that the others contradict by more than ``DISAGREES`` standard deviations is left out and named, until none is.

    Raises:
        InputError: An anchor names nothing in the photo or several things, or cannot be used.
    """
    nothing = np.zeros_like(lengths.doubt)
    remarks: list[str] = []
    readings = [_read(anchor, lengths, remarks) for anchor in _without_floor(anchors)]
    if lengths.own_sigma is not None:
        readings.append(_Reading(0.0, max(lengths.own_sigma, 1e-4), nothing, 0.0, lengths.own_source, is_own=True))
    if not anchors:
        if lengths.own_sigma is None:
            factor, sigma, sentence = _prior_scale(lengths)
            return Scale(factor, sigma, sentence, nothing, sigma)
        return Scale(1.0, lengths.own_sigma, "", nothing, lengths.own_sigma)
    kept, refused = _agreeing(readings)
    log_factor, sigma, share = _mean(kept)
    own = float(np.sqrt(np.sum((share * [r.stated for r in kept]) ** 2)))
    if len(kept) == 1 and refused:  # one word against another: half of the difference is the least that is in doubt
        rift = min(abs(r.log_factor - log_factor) for r in refused) / 2
        sigma, own = float(np.hypot(sigma, rift)), float(np.hypot(own, rift))
    factor = float(np.exp(log_factor))
    sentence = f"Lengths come from {_listed(kept, log_factor)}, to {100 * sigma:.1f} %."
    sentence += "".join(f" {_complaint(reading, kept)}" for reading in refused)
    if lengths.own_sigma is not None and abs(factor - 1) > 0.001:
        sentence += f" This rescales {lengths.own_source} by {factor:.3f}."
    rows = np.tensordot(share, np.array([r.row for r in kept]), 1)
    return Scale(factor, sigma, " ".join([sentence, *remarks]), rows, own)


def _without_floor(anchors: tuple[Anchor, ...]) -> tuple[Anchor, ...]:
    """The anchors, with the camera's and the table's height above the floor replaced by their difference.

    Raises:
        InputError: One of the two is given without the other, or the table is higher than the camera.
    """
    floor = [a for a in anchors if a.kind == FLOOR_HEIGHT]
    table = [a for a in anchors if a.kind == TABLE_HEIGHT]
    if not floor and not table:
        return anchors
    if len(floor) != 1 or len(table) != 1:
        raise InputError(
            f"The height of the table above the floor says nothing alone, because a twin ends at the table: give '{TABLE_HEIGHT}' and "
            f"'{FLOOR_HEIGHT}' together, once each, or '{CAMERA_HEIGHT}' above the table."
        )
    height = floor[0].length_m - table[0].length_m
    if height <= 0:
        raise InputError(
            f"The anchors put the camera {-height:g} m below the table: '{FLOOR_HEIGHT}' must exceed '{TABLE_HEIGHT}'."
        )
    sigma = float(np.hypot(floor[0].sigma_m, table[0].sigma_m))
    return (*(a for a in anchors if a.kind in ("", CAMERA_HEIGHT)), Anchor(CAMERA_HEIGHT, height, tolerance_m=sigma))


def _read(anchor: Anchor, lengths: Lengths, remarks: list[str]) -> _Reading:
    """What an anchor says about the factor: its own doubt and that of the length it is compared with."""
    row = np.zeros_like(lengths.doubt)  # of the logarithm of the factor, so minus that of the compared length
    if anchor.kind:
        measured, what = lengths.camera_height_m, CAMERA_HEIGHT
    else:
        index, note = match_name(anchor.name, lengths.names)
        remarks += [note] if note else []
        if anchor.other is not None:
            second, note = match_name(anchor.other, lengths.names)
            remarks += [note] if note else []
            what = f"distance {lengths.names[index]} to {lengths.names[second]}"
            measured = _distance(index, second, lengths, row)
        else:
            axis = SIDES[anchor.side]
            axis = int(np.argmax(lengths.size_m[index])) if axis is None else axis
            what, measured = f"{anchor.side} of the {lengths.names[index]}", float(lengths.size_m[index, axis])
            row[index, axis] = -1.0
    inherited = float(np.linalg.norm(row * lengths.doubt))
    log_factor = float(np.log(anchor.length_m / measured))
    return _Reading(log_factor, anchor.sigma_m / anchor.length_m, row, inherited, f"{what} = {anchor.length_m:g} m")


def _distance(first: int, second: int, lengths: Lengths, row: np.ndarray) -> float:
    """Distance of two centres seen from above; fills in what it inherits."""
    between = lengths.place_w[first] - lengths.place_w[second]
    measured = float(np.linalg.norm(between))
    if measured < 0.01:
        raise InputError(
            f"The anchor '{lengths.names[first]} to {lengths.names[second]}' is a distance between centres, but they stand in the same place."
        )
    row[first, 3:], row[second, 3:] = -between / measured**2, between / measured**2
    return measured


def _mean(readings: list[_Reading]) -> tuple[float, float, np.ndarray]:
    """Weighted mean of the logarithms, its standard deviation, and each one's share in it."""
    weight = np.array([1 / r.sigma**2 for r in readings])
    share = weight / weight.sum()
    return float(share @ [r.log_factor for r in readings]), float(1 / np.sqrt(weight.sum())), share


def _contradiction(reading: _Reading, others: list[_Reading]) -> float:
    """How many standard deviations a reading is from the mean of the others."""
    mean, sigma, _ = _mean(others)
    return abs(reading.log_factor - mean) / float(np.hypot(reading.sigma, sigma))


def _agreeing(readings: list[_Reading]) -> tuple[list[_Reading], list[_Reading]]:
    """Readings that agree, and those left out for contradicting the rest.

    Where only two are left, or several contradict equally, it cannot be told who is wrong: the maps' own scale yields unless it
    is sure, and otherwise the less precise reading.
    """
    kept, refused = list(readings), []
    while len(kept) > 1:
        doubts = [_contradiction(r, kept[:i] + kept[i + 1 :]) for i, r in enumerate(kept)]
        if max(doubts) <= DISAGREES:
            break
        worst = [i for i, doubt in enumerate(doubts) if doubt > 0.99 * max(doubts)]
        refused.append(kept.pop(max(worst, key=lambda i: _yields(kept[i]))))
    return kept, refused


def _yields(reading: _Reading) -> tuple[float, float]:
    """Larger for the reading that gives way."""
    own = 0.0 if not reading.is_own else (-1.0 if reading.sigma <= SURE_SHARE else 1.0)
    return own, reading.sigma


def _listed(readings: list[_Reading], log_factor: float) -> str:
    if len(readings) == 1:
        return readings[0].words if readings[0].is_own else f"the anchor: {readings[0].words}"
    each = "; ".join(f"{r.words} ({100 * np.expm1(r.log_factor - log_factor):+.1f} %)" for r in readings)
    return f"{len(readings)} measurements weighted by their precision: {each}"


def _complaint(reading: _Reading, kept: list[_Reading]) -> str:
    off = 100 * np.expm1(reading.log_factor - _mean(kept)[0])
    name = f"{reading.words[0].upper()}{reading.words[1:]}"
    return (
        f"{name} disagrees by {off:+.0f} % ({_contradiction(reading, kept):.0f} standard deviations) and is left out."
    )


def _prior_scale(lengths: Lengths) -> tuple[float, float, str]:
    """The factor that brings the objects, in the median, to the size such things usually have."""
    names = lengths.names
    if not names:
        return (
            1.0,
            UNKNOWN_SIGMA,
            "Nothing states a length and there is no object: the camera height is an assumption.",
        )
    typical = [noun.typical_m if (noun := noun_of(name)) else None for name in names]
    known = [i for i, value in enumerate(typical) if value is not None]
    used = known or list(range(len(names)))
    longest_m = lengths.size_m.max(axis=1)
    factor = float(np.median([(typical[i] or DEFAULT_LENGTH_M) / longest_m[i] for i in used]))
    sigma = max((USUAL_SIGMA if known else UNKNOWN_SIGMA) / np.sqrt(len(used)), LEAST_USUAL_SIGMA)
    assumed = ", ".join(f"{names[i]} {typical[i] or DEFAULT_LENGTH_M:g} m" for i in used)
    return (
        factor,
        float(sigma),
        f"Nothing states a length: assumed usual longest sides ({assumed}), to {100 * sigma:.0f} %. Give --anchor 'NAME=METRES' to be exact.",
    )
