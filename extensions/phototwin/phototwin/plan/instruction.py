"""What the robot is told, as a task: an English sentence about the things in the scene -> ``Task``.

The grammar is small and it refuses what it does not know, naming what it does: a wrong guess costs a whole run.
"""

from __future__ import annotations

import re

import numpy as np

from phototwin.errors import InstructionError
from phototwin.nouns import Thing, color_names, find_thing, vocabulary, words_of
from phototwin.plan.task import Step, Task
from phototwin.scene import SceneObject

LIFT_VERBS = ("pick up", "pick", "lift up", "lift", "grab", "take", "raise", "grasp")
PLACE_VERBS = ("put", "place", "move", "set", "stack", "drop", "bring")
RELATIONS = {
    "on top of": "on",
    "onto": "on",
    "on": "on",
    "into": "in",
    "inside": "in",
    "in": "in",
    "next to": "next to",
    "beside": "next to",
    "near": "next to",
    "to": "next to",
}
MANY = frozenset({"all", "both", "every", "each", "everything", "them", "these", "those"})
POLITE_START = (
    r"^(?:(?:please|now|ok|okay|hey|robot|kindly|(?:can|could|would|will) you|i want you to|try to|go and),?\s+)+"
)
POLITE_END = r"(?:,?\s+(?:please|now|for me|thanks|thank you|carefully|gently))+$"
OFF_THE_SUPPORT = r"\s+(?:off|off of|from)\s+(?:the\s+)?(?:table|counter|desk|surface|ground|floor)$"
CAN_DO = "What can be done: 'pick up the X', 'put the X on the Y', 'put the X in the Y' (a hollow Y), 'put the X next to the Y'."
GRASPABLE_M = 0.075
"""Narrow side that most parallel grippers take; only used to suggest a task."""
HIGHEST_TARGET_M = 0.15
"""Things are suggested to be put on others up to this height: above it the stack is hard to reach."""


def parse_instruction(text: str, objects: tuple[SceneObject, ...]) -> Task:
    """The task that an English sentence asks for.

    Raises:
        InstructionError: It names nothing in the scene or several things, or asks for what no task can do.
    """
    sentence = re.sub(r"\s+", " ", re.sub(r"[.!?\"'`]+", " ", text.lower())).strip()
    sentence = re.sub(POLITE_END, "", re.sub(POLITE_START, "", sentence + " ").strip())
    if not sentence:
        raise InstructionError(f"The instruction is empty. {CAN_DO} {_inventory(objects)}")
    sentence = _join_pick_and_place(sentence)
    if re.search(r"\bthen\b|;|\bafter(?:wards)?\b|\band (?:" + "|".join(LIFT_VERBS + PLACE_VERBS) + r")\b", sentence):
        raise InstructionError(f"'{text}' asks for several steps; one task at a time can be done yet. {CAN_DO}")
    for verb in LIFT_VERBS:
        if re.match(rf"{verb}\b", sentence):
            return _parse_lift(text, sentence[len(verb) :].strip(), objects)
    for verb in PLACE_VERBS:
        if re.match(rf"{verb}\b", sentence):
            return _parse_place(text, sentence[len(verb) :].strip(), objects)
    raise InstructionError(f"'{sentence.split()[0]}' in '{text}' is not something the robot can do. {CAN_DO}")


def default_instruction(objects: tuple[SceneObject, ...]) -> str:
    """The instruction for a scene when none is given: place the smallest graspable thing, or pick up the only one.

    Raises:
        InstructionError: The scene is empty.
    """
    if not objects:
        raise InstructionError("There is nothing on the support, so there is nothing to do.")
    small = sorted(objects, key=lambda item: (not _graspable(item), float(item.size_m.prod()), item.key))
    moved = small[0]
    for relation, fits in (("in", _fits_in), ("on", _fits_on)):
        for target in small[:0:-1]:
            if fits(moved, target):
                return f"put the {moved.name} {relation} the {target.name}"
    if len(objects) > 1 and _graspable(moved):
        return f"put the {moved.name} next to the {small[1].name}"
    return f"pick up the {moved.name}"


def _graspable(item: SceneObject) -> bool:
    return item.hollow or float(item.size_m[:2].min()) <= GRASPABLE_M


def _fits_in(moved: SceneObject, target: SceneObject) -> bool:
    return target.hollow and float(max(moved.size_m[:2])) < 0.75 * float(min(target.size_m[:2]))


def _fits_on(moved: SceneObject, target: SceneObject) -> bool:
    flat = not target.hollow and target.shape in ("box", "cylinder", "extrusion")
    wide = float(min(target.size_m[:2])) >= 0.8 * float(min(moved.size_m[:2]))
    return flat and wide and float(target.size_m[2]) <= HIGHEST_TARGET_M


def _join_pick_and_place(sentence: str) -> str:
    """'pick up X and put it on Y' is one task: 'put X on Y'."""
    lift, place = "|".join(LIFT_VERBS), "|".join(PLACE_VERBS)
    return re.sub(rf"^(?:{lift}) (.+?),? (?:and |and then |then )(?:{place}) (?:it|that)\b", r"put \1", sentence)


def _parse_lift(text: str, rest: str, objects: tuple[SceneObject, ...]) -> Task:
    phrase = re.sub(r"\s+up$", "", re.sub(OFF_THE_SUPPORT, "", rest))
    if not phrase:
        raise InstructionError(f"'{text}' does not say what to pick up. {_inventory(objects)}")
    moved, note = find_object(phrase, objects)
    return Task((Step("lift", moved.key),), text, note)


def _parse_place(text: str, rest: str, objects: tuple[SceneObject, ...]) -> Task:
    relations = "|".join(sorted(RELATIONS, key=len, reverse=True))
    splits = list(re.finditer(rf"(?:^|\s)({relations})(?:\s|$)", rest))
    if not splits:
        raise InstructionError(f"'{text}' does not say where to put it. {CAN_DO}")
    split = splits[0]
    phrase, target_phrase = re.sub(r"\s+down$", "", rest[: split.start()]), rest[split.end() :].strip()
    if not phrase:
        raise InstructionError(f"'{text}' does not say what to put there. {_inventory(objects)}")
    moved, note = find_object(phrase, objects)
    if not target_phrase:
        raise InstructionError(f"'{text}' does not say {split[1]} what. {_inventory(objects)}")
    (target, target_note), relation = find_object(target_phrase, objects), RELATIONS[split[1]]
    if moved.key == target.key:
        raise InstructionError(f"'{text}' would put the {moved.name} {relation} itself: name two different things.")
    if relation == "in" and not target.hollow:
        hollow = ", ".join(item.name for item in objects if item.hollow) or "nothing here"
        raise InstructionError(f"The {target.name} is not hollow, so nothing goes in it. Hollow: {hollow}.")
    return Task((Step("place", moved.key, relation, target.key),), text, f"{note} {target_note}".strip())


def find_object(phrase: str, objects: tuple[SceneObject, ...]) -> tuple[SceneObject, str]:
    """The one object that a noun phrase ("the green cube", "the can") means, and a note where it was taken loosely.

    Raises:
        InstructionError: No object fits, several do, or the phrase asks for many.
    """
    words = words_of(phrase)
    known = vocabulary() | {word for item in objects for word in words_of(item.name)}
    for word in words:
        plural = word not in known and (word.removesuffix("s") in known or word.removesuffix("es") in known)
        if plural or word in MANY or word == "and":
            raise InstructionError(
                f"'{phrase}' asks for more than one thing: name one at a time. {_inventory(objects)}"
            )
    if not words:
        raise InstructionError(f"'{phrase}' names nothing. {_inventory(objects)}")
    found = find_thing(phrase, [_thing(item) for item in objects])
    if not found.indices:
        raise InstructionError(f"Nothing in the photo is called '{phrase}'. {_inventory(objects)}")
    index, *others = found.indices
    if others:
        names = " or the ".join(objects[i].name for i in found.indices)
        raise InstructionError(f"'{phrase}' could be several things: the {names}? Say which.")
    return objects[index], found.note


def _thing(item: SceneObject) -> Thing:
    color = str(color_names(255.0 * np.asarray(item.color_rgb)[None])[0])
    return Thing(item.name, item.shape, item.hollow, item.size_m, color)


def _inventory(objects: tuple[SceneObject, ...]) -> str:
    return f"In the photo: {', '.join(item.name for item in objects) or 'nothing'}."
