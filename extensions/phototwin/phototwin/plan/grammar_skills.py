"""What follows a verb -> steps: one reader per skill."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import pairwise

import numpy as np

from phototwin.errors import InstructionError
from phototwin.plan.grammar_things import (
    Context,
    asks_for_many,
    find_object,
    find_objects,
    inventory,
    join_notes,
)
from phototwin.plan.grammar_words import (
    HOW_MUCH,
    MOVING_RELATIONS,
    OFF_SIDES,
    OFF_THE_SUPPORT,
    OUT_OF,
    POUR_RELATIONS,
    PUSH_RELATIONS,
    RELATIONS,
    SURFACE,
    TOGETHER,
    UNCLEAR,
    UPRIGHT_END,
    read_direction,
    read_part,
    trim,
)
from phototwin.plan.task import Step
from phototwin.scene import SceneObject

CAN_DO = (
    "What can be done: 'pick up the X', 'put the X on / in / next to the Y', 'stack the X on the Y', 'push the X to the left / "
    "to the right / away / closer / towards the Y', 'pour the X into the Y', 'stand the X upright', and several of them with 'then'."
)
Steps = tuple[tuple[Step, ...], str]
"""Steps, and what was taken loosely."""


def _read_lift(text: str, verb: str, rest: str, context: Context) -> Steps:
    _refuse_amount(text, rest)
    if verb in ("get", "take") and list(relation_splits(rest, MOVING_RELATIONS)):
        return _read_place(text, "put", rest, context)
    phrase, part = read_part(rest)
    phrase = re.sub(r"\s+up$", "", re.sub(OFF_THE_SUPPORT, "", phrase))
    if not phrase:
        raise InstructionError(f"'{text}' does not say what to pick up. {inventory(context.objects)}")
    moved, note = _find_from(phrase, context)
    return (Step("lift", moved.key, None, None, part),), note


def _find_from(phrase: str, context: Context) -> tuple[SceneObject, str]:
    """The object of "the cube", or of "the cube out of the bowl": the one that is in it, where several are called so."""
    match = re.search(OUT_OF, phrase)
    try:
        return find_object(phrase, context)
    except InstructionError:
        if match is None:
            raise
    head = phrase[: match.start()]
    anchor, note = find_object(match["where"], context)
    try:
        moved, more = find_object(head, context, anchor.key)
    except InstructionError:
        moved, more = find_object(f"{head} {'in' if match['out'] else 'on'} {match['where']}", context)
    return moved, join_notes((note, more))


def _read_place(text: str, verb: str, rest: str, context: Context) -> Steps:
    if match := re.search(UPRIGHT_END, rest) or re.search(r"\s+(?:back )?up$", rest):
        return _upright_and(text, verb, rest, match, context)
    rest = re.sub(TOGETHER, " next to each other", rest)
    splits = list(relation_splits(rest, RELATIONS))
    direction = read_direction(rest)
    try:
        if splits:
            return _first_good(splits, lambda what, word, where: _place(text, "place", what, word, where, context))
    except InstructionError:
        if direction is None:
            raise
    if direction is not None:  # "move the can to the left"
        return _push_ways(text, *direction, context)
    _refuse_place(text, rest)
    raise InstructionError(f"'{text}' does not say where to put it. {CAN_DO}")


def _place(text: str, skill: str, phrase: str, word: str, target_phrase: str, context: Context) -> Steps:
    """Steps that bring one thing, or one after another, into relation to a target."""
    phrase, part = read_part(re.sub(r"(?:^|\s+)(?:down|up)$", "", re.sub(OFF_THE_SUPPORT, "", phrase)))
    phrase = phrase or _it(context)
    if not phrase:
        raise InstructionError(f"'{text}' does not say what to put there. {inventory(context.objects)}")
    many = asks_for_many(phrase, context.objects)
    if many and RELATIONS[word] == "next to" and target_phrase in ("each other", "one another"):
        items, note = find_objects(phrase, context)
        return tuple(Step(skill, b.key, "next to", a.key, part) for a, b in pairwise(items)), note
    moved, note = ([], "") if many else _one(_find_from(phrase, context))
    if not target_phrase:
        raise InstructionError(f"'{text}' does not say {word} what. {inventory(context.objects)}")
    _refuse_place(text, f"{word} {target_phrase}")
    named = replace(context, said=(*context.said, *(item.key for item in moved)))
    target, target_note = find_object(target_phrase, named, moved[0].key if moved else None)
    relation = RELATIONS[word]
    if many:
        moved, note = find_objects(phrase, context, target.key)
    if target.key in [item.key for item in moved]:
        raise InstructionError(f"'{text}' would put the {target.name} {relation} itself: name two different things.")
    return tuple(Step(skill, item.key, relation, target.key, part) for item in moved), join_notes((note, target_note))


def _it(context: Context) -> str:
    """What is meant where nothing is named: "pick up the can and place in the bowl"."""
    return "it" if len(context.moved) == 1 else ""


def _one(found: tuple[SceneObject, str]) -> tuple[list[SceneObject], str]:
    return [found[0]], found[1]


def relation_splits(rest: str, relations: Iterable[str]) -> Iterable[tuple[str, str, str]]:
    """Every way to part words at a relation: what is before it, the relation, what is behind it."""
    words = "|".join(sorted(relations, key=len, reverse=True))
    for match in re.finditer(rf"(?:^|\s)({words})(?=\s|$)", rest):
        yield rest[: match.start()].strip(), match[1], rest[match.end() :].strip()


def _first_good(splits: list[tuple[str, str, str]], read: Callable[[str, str, str], Steps]) -> Steps:
    """The first reading without an error, or the first reading's error."""
    first = None
    for split in splits:
        try:
            return read(*split)
        except InstructionError as error:
            first = first or error
    assert first is not None
    raise first


def _refuse_place(text: str, rest: str) -> None:
    """Say so where a place is understood but cannot be done."""
    for words in OFF_SIDES:
        if match := re.search(rf"(?:^|\s)({words})(?:\s|$)", rest):
            raise InstructionError(
                f"'{text}' asks for a place '{match[1]}' something, which no task knows: things go on, in or next to others. {CAN_DO}"
            )


def _upright_and(text: str, verb: str, rest: str, match: re.Match[str], context: Context) -> Steps:
    """For "put the bottle upright", also "put the bottle upright on the plate", which takes two steps."""
    first, note = _read_upright(text, "put", rest[: match.end()], context)
    behind = trim(rest[match.end() :])
    if not behind:
        return first, note
    step, *others = first
    if others or next(iter(relation_splits(behind, RELATIONS)), ("no",))[0]:
        raise InstructionError(f"'{behind}' in '{text}' is not understood. {CAN_DO}")
    name = context.item(step.object).name
    more, more_note = _read_place(text, verb, f"{name} {behind}", context)
    return (*first, *more), join_notes((note, more_note))


def _read_stack(text: str, verb: str, rest: str, context: Context) -> Steps:
    rest = re.sub(r"\s+(?:up|(?:on top of|on|onto|upon) (?:each other|one another|one on top of the other))$", "", rest)
    rest = re.sub(r"\s+(?:into|in|to|as) (?:a|one) (?:tower|stack|pile|column)$", "", rest)
    if not rest:
        raise InstructionError(f"'{text}' does not say what to stack. {inventory(context.objects)}")
    parts = [part for part in re.split(r"\s+(?:on top of|on to|onto|upon|on|atop)\s+", rest)]
    if len(parts) == 1 and re.search(r"\b(?:in|into|inside|next to|beside)\b", rest):
        raise InstructionError(f"'{text}' stacks things, which go on one another: say 'on'. {CAN_DO}")
    if len(parts) == 1:
        items, note = find_objects(parts[0], context)
        if len(items) < 2:
            raise InstructionError(f"'{text}' does not say on what to stack the {items[0].name}. {CAN_DO}")
        return _tower(_widest_first(items)), note
    if asks_for_many(parts[0], context.objects):
        base, base_note = find_object(parts[1], context)
        items, note = find_objects(parts[0], context, base.key)
        return _tower([base, *_widest_first([item for item in items if item.key != base.key])]), join_notes(
            (note, base_note)
        )
    items, notes = [], []
    for part in parts:  # from the top down
        item, note = find_object(part, context, items[-1].key if items else None)
        items.append(item)
        notes.append(note)
    if len({item.key for item in items}) < len(items):
        raise InstructionError(f"'{text}' would stack the {items[0].name} on itself: name different things.")
    return _tower(items[::-1]), join_notes(notes)


def _widest_first(items: list[SceneObject]) -> list[SceneObject]:
    """Things in the order in which they are stacked, the widest at the bottom; equal ones as they were named."""
    return sorted(items, key=lambda item: -round(float(np.sort(item.size_m[:2])[0]), 3))


def _tower(items: list[SceneObject]) -> tuple[Step, ...]:
    """Each on the one before."""
    return tuple(Step("stack", upper.key, "on", lower.key) for lower, upper in pairwise(items))


def _read_push(text: str, verb: str, rest: str, context: Context) -> Steps:
    if not rest:
        raise InstructionError(f"'{text}' does not say what to push. {inventory(context.objects)}")
    _refuse_amount(text, rest)
    if re.search(rf"\s(?:off|off of|from)\s+(?:the edge of\s+)?{SURFACE}$", rest):
        raise InstructionError(f"'{text}' would throw things down: what is pushed stays on the surface. {CAN_DO}")
    rest = re.sub(TOGETHER, " next to each other", rest)
    splits = list(relation_splits(rest, PUSH_RELATIONS))
    direction = read_direction(rest)
    if direction is not None:
        try:
            return _push_ways(text, *direction, context)
        except InstructionError:
            if not list(
                relation_splits(direction[0], PUSH_RELATIONS)
            ):  # "push the can to the mug on the left" has its way elsewhere
                raise
    if splits:
        return _first_good(splits, lambda what, word, where: _push_to(text, what, word, where, context))
    _refuse_place(text, rest)
    if match := re.search(rf"(?:^|\s)({UNCLEAR.pattern})$", rest):
        raise InstructionError(
            f"'{match[1]}' in '{text}' can mean several ways: say 'away', 'closer', 'to the left' or 'to the right', as seen "
            "in the photo."
        )
    raise InstructionError(f"'{text}' does not say where to push it. {CAN_DO}")


def _push_ways(text: str, phrase: str, relation: str, context: Context) -> Steps:
    phrase = phrase or _it(context)
    if not phrase:
        raise InstructionError(f"'{text}' does not say what to push. {inventory(context.objects)}")
    items, note = find_objects(phrase, context)
    return tuple(Step("push", item.key, relation) for item in items), note


def _push_to(text: str, phrase: str, word: str, target_phrase: str, context: Context) -> Steps:
    if not phrase:
        raise InstructionError(f"'{text}' does not say what to push. {inventory(context.objects)}")
    if not target_phrase:
        raise InstructionError(f"'{text}' does not say {word} what. {inventory(context.objects)}")
    if side := re.search(r"^(?:the )?(?:left|right)(?: side)? of\b|^(?:the )?edge\b", target_phrase):
        raise InstructionError(
            f"'{word} {side[0]}' in '{text}' is no way to push: say left, right, away, closer or towards a thing."
        )
    steps, note = _place(text, "push", phrase, "next to", target_phrase, context)
    return tuple(replace(step, part="") for step in steps), note


def _read_pour(text: str, verb: str, rest: str, context: Context) -> Steps:
    if verb.startswith("fill"):
        match = re.fullmatch(
            r"(?P<target>.+?)\s+(?:with|from|using)\s+(?:what is in |the contents of )?(?P<what>.+)", rest
        )
        if match is None:
            raise InstructionError(f"'{text}' does not say from what to fill it: say 'pour the X into the Y'.")
        return _pour(text, match["what"], "into", match["target"], context)
    rest = re.sub(r"^(?:out|up)\s+", "", rest)
    rest = re.sub(
        r"^(?:(?:(?:the|some|all|its|all of the)\s+)*\w+\s+)?(?:from|out of|of|in|inside)\s+(?=(?:the|a|an|it|that)\b)",
        "",
        rest,
    )
    splits = list(relation_splits(rest, POUR_RELATIONS))
    if not splits:
        _refuse_place(text, rest)
        raise InstructionError(f"'{text}' does not say into or over what to pour it. {CAN_DO}")
    return _first_good(splits, lambda what, word, where: _pour(text, what, word, where, context))


def _pour(text: str, phrase: str, word: str, target_phrase: str, context: Context) -> Steps:
    phrase, part = read_part(re.sub(r"\s+(?:out|over|up)$", "", phrase))
    phrase = phrase or _it(context)
    if not phrase or not target_phrase:
        raise InstructionError(f"'{text}' does not say what to pour, and {word} what. {inventory(context.objects)}")
    moved, note = find_object(phrase, context)
    target, target_note = find_object(target_phrase, context, moved.key)
    if moved.key == target.key:
        raise InstructionError(f"'{text}' would pour the {moved.name} into itself: name two different things.")
    return (Step("pour", moved.key, POUR_RELATIONS[word], target.key, part),), join_notes((note, target_note))


def _read_upright(text: str, verb: str, rest: str, context: Context) -> Steps:
    match = re.search(UPRIGHT_END, rest)
    if match and trim(rest[match.end() :]):
        return _upright_and(text, "put", rest, match, context)
    phrase = re.sub(
        OFF_THE_SUPPORT,
        "",
        re.sub(r"^(?:up|upright)\s+|\s+(?:back )?up$|\s+up again$", "", re.sub(UPRIGHT_END + "$", "", rest)),
    )
    if not phrase:
        raise InstructionError(f"'{text}' does not say what to stand up. {inventory(context.objects)}")
    if verb == "stand" and phrase == rest and list(relation_splits(phrase, RELATIONS)):
        try:
            return _read_place(text, "put", phrase, context)  # "stand the can next to the mug"
        except InstructionError:
            pass  # "stand the can on the left"
    phrase, part = read_part(phrase)
    if match is None and verb in ("turn", "flip", "rotate"):
        raise InstructionError(f"'{text}' does not say how to turn it: only 'turn the X upright' can be done. {CAN_DO}")
    items, note = find_objects(phrase, context)
    return tuple(Step("upright", item.key, None, None, part) for item in items), note


def _refuse_amount(text: str, rest: str) -> None:
    if match := HOW_MUCH.search(rest):
        raise InstructionError(
            f"'{match[0].strip()}' in '{text}' says how far, which no task knows: leave it out. {CAN_DO}"
        )


READERS: dict[str, Callable[[str, str, str, Context], Steps]] = {
    "lift": _read_lift, "place": _read_place, "stack": _read_stack, "push": _read_push, "pour": _read_pour, "upright": _read_upright,
}  # fmt: skip
