"""What a noun phrase says about where a thing stands in the photo, how large it is and what it is next to."""

from __future__ import annotations

import re

import numpy as np

from phototwin.scene import SceneObject

ORDERS = {
    "right": ("rightmost", "right most", "right hand", "right"),
    "left": ("leftmost", "left most", "left hand", "left"),
    "near": ("nearest", "closest", "frontmost", "front", "nearer", "closer", "near"),
    "far": ("farthest", "furthest", "rearmost", "back", "rear", "far", "distant"),
    "large": ("largest", "biggest", "larger", "bigger", "large", "big", "huge"),
    "small": ("smallest", "littlest", "smaller", "small", "little", "tiny"),
    "tall": ("tallest", "highest", "taller", "tall", "high"),
    "short": ("shortest", "lowest", "shorter", "short", "low", "flat"),
    "long": ("longest", "longer", "long"),
    "wide": ("widest", "wider", "wide", "thickest", "thick", "fat"),
    "narrow": ("narrowest", "narrower", "narrow", "thinnest", "thin", "slim"),
    "middle": ("middle", "central", "center", "centre"),
    "other": ("other", "remaining"),
}
"""By what the one that is meant stands out -> words for it."""
PLACES = ("left", "right", "near", "far", "middle")
"""Orders that are about where things stand."""
LEAST_M = 0.01
"""Things this much further left are the left ones."""
LEAST_SHARE = 1.05
"""Things this much longer are the long ones: measured sizes are not better."""
BESIDE_RATIO = 1.3
"""The thing next to another is nearer to it than any other by this factor."""
CLAUSES = (
    (r"^(?:the|a|an) ", ""),
    (r"^(.+?) (?:that|which) (?:is|are|s) (\w+)$", r"\2 \1"),
    (r" (?:that|which|who) (?:is|are|s|stands?|lies?|sits?) ", " "),
    (r" (?:standing|lying|sitting|located|placed)\b", ""),
)
"""Relative clauses, and what is left of them."""
PLACED = (
    (r"^(.+?) (?:on|to|at|from) (?:the|your|my) (left|right)(?: hand)?(?: side)?$", r"\2 \1"),
    (r"^(.+?) (?:in|at) the (front|back|middle|center|centre|rear)$", r"\2 \1"),
    (r"^(.+?) (?:in front|up front)$", r"front \1"),
    (r"^(.+?) (nearest|closest|nearer|closer|near) (?:to )?(?:me|you|us|the camera|the viewer)$", r"near \1"),
    (r"^(.+?) (farthest|furthest|far) (?:away )?(?:from (?:me|you|us|the camera|the viewer))$", r"far \1"),
    (r"^(.+?) (?:farthest|furthest|far) away$", r"far \1"),
)  # fmt: skip
REFERENCES = (
    ("left", r"(?:to the )?left of"),
    ("right", r"(?:to the )?right of"),
    ("far", r"behind"),
    ("near", r"in front of"),
    ("beside", r"(?:right )?next to|(?:nearest|closest|near|close|nearer|closer)(?: to)?|beside|by|alongside|touching"),
    ("within", r"(?:on top of|on|inside|in)"),
)
_BARE = r"(?:(?:the |your |my )?(?:left|right|front|back|rear|middle|center|centre)(?: hand)?(?: side)?|(?:to )?(?:me|you|us|the camera|the viewer))"
"""What tells where in the photo something is, and is no thing."""
REFERENCE = re.compile(
    "^(?P<head>.+?) (?:"
    + "|".join(rf"(?P<{name}>{words})" for name, words in REFERENCES)
    + rf") (?P<tail>(?!{_BARE}$).+)$"
)
BETWEEN = re.compile(r"(?P<head>.+?) (?:in )?between (?P<one>.+?) and (?P<other>.+)$")
NUMBERS = {
    "first": 0,
    "second": 1,
    "third": 2,
    "fourth": 3,
    "fifth": 4,
    "1st": 0,
    "2nd": 1,
    "3rd": 2,
    "4th": 3,
    "5th": 4,
    "last": -1,
}
ORDINAL = re.compile(
    rf"(?:the )?(?P<number>{'|'.join(NUMBERS)}) (?P<head>.+?) from (?:the |your |my )?(?P<side>left|right|front|back)$"
)
"""For "the second cube from the left"."""
ORDER = re.compile(r"\b(?:(?:the |most )*)(?:" + "|".join(rf"(?P<{n}>{'|'.join(w)})" for n, w in ORDERS.items()) + r")\b")  # fmt: skip


def standing_out(
    indices: list[int],
    order: str,
    objects: tuple[SceneObject, ...],
    said: tuple[str, ...],
    T_world_camera: np.ndarray | None,
) -> tuple[int, ...]:
    """Of several things the one that stands out in an order, or all that do not differ in it.

    Args:
        indices: The things.
        order: A key of ``ORDERS``.
        objects: What there is.
        said: Keys of what was named already, which "the other" is not.
        T_world_camera: The camera that sees them, (4, 4), or None.
    """
    if order == "other":
        return tuple(i for i in indices if objects[i].key not in said)
    if len(indices) < 2:
        return tuple(indices)
    if order == "middle":
        middle = sorted(indices, key=lambda i: seen_at(objects[i], T_world_camera)[0])
        return (middle[len(middle) // 2],) if len(middle) % 2 else tuple(indices)
    values = {i: _value(objects[i], order, T_world_camera) for i in indices}
    most = max(values.values())
    least = LEAST_M if order in PLACES else float(np.log(LEAST_SHARE))
    return tuple(i for i in indices if values[i] > most - least)


def nth(
    indices: tuple[int, ...], match: re.Match[str], objects: tuple[SceneObject, ...], T_world_camera: np.ndarray | None
) -> tuple[int, ...]:
    """Of several things the one that an ``ORDINAL`` counts to; none where there are not so many."""
    order = {"front": "near", "back": "far"}.get(match["side"], match["side"])
    row = sorted(indices, key=lambda i: -_value(objects[i], order, T_world_camera))
    number = NUMBERS[match["number"]]
    return (row[number],) if number < len(row) and row else ()


def _value(item: SceneObject, order: str, T_world_camera: np.ndarray | None) -> float:
    """How far left, large and so on a thing is."""
    right, away = seen_at(item, T_world_camera)
    size = np.log(np.maximum(item.size_m, 1e-6))
    values = {
        "left": -right, "right": right, "near": -away, "far": away,
        "large": size.mean(), "small": -size.mean(), "tall": size[2], "short": -size[2],
        "long": size.max(), "wide": size[:2].min(), "narrow": -size[:2].min(),
    }  # fmt: skip
    return float(values[order])


def seen_at(item: SceneObject, T_world_camera: np.ndarray | None) -> np.ndarray:
    """Where a thing is to the right and away as the camera sees it, (2,) [m]."""
    axes = np.array([[0.0, -1.0], [1.0, 0.0]])
    if T_world_camera is not None:
        right = T_world_camera[:2, 0] / max(float(np.linalg.norm(T_world_camera[:2, 0])), 1e-9)
        axes = np.array([right, [-right[1], right[0]]])
    return axes @ item.T_world_object[:2, 3]


def beside(
    indices: tuple[int, ...],
    order: str,
    anchor: SceneObject,
    objects: tuple[SceneObject, ...],
    T_world_camera: np.ndarray | None,
) -> tuple[int, ...]:
    """Of several things those that stand to another as asked ("left" of it, "beside", "within" it); of those the ones nearest to it.

    Args:
        indices: The things.
        order: A name in ``REFERENCES``.
        anchor: The other.
        objects: What there is.
        T_world_camera: The camera that sees them, (4, 4), or None.
    """
    others = [i for i in indices if objects[i].key != anchor.key]
    offsets = {i: objects[i].T_world_object[:3, 3] - anchor.T_world_object[:3, 3] for i in others}
    away = {i: float(np.hypot(*offsets[i][:2])) for i in others}
    if order == "within":
        reach = 0.5 * float(max(anchor.size_m[:2]))
        others = [i for i in others if away[i] < reach and offsets[i][2] > -0.25 * float(anchor.size_m[2])]
    elif order != "beside":
        there = seen_at(anchor, T_world_camera)
        axis, sign = {"left": (0, -1), "right": (0, 1), "near": (1, -1), "far": (1, 1)}[order]
        others = [i for i in others if sign * (seen_at(objects[i], T_world_camera) - there)[axis] > LEAST_M]
    nearest = min((away[i] for i in others), default=0.0)
    return tuple(i for i in others if away[i] <= BESIDE_RATIO * nearest)
