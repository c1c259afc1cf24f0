"""English instructions -> steps: a sentence falls into clauses, each with a verb, and each is read by what its verb asks for."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from phototwin.errors import InstructionError
from phototwin.plan.grammar_skills import CAN_DO, READERS, Steps, relation_splits
from phototwin.plan.grammar_things import (
    Context,
    find_object,
    find_objects,
    inventory,
    join_notes,
    make_context,
)
from phototwin.plan.grammar_words import (
    AGAIN,
    NOT,
    RELATIONS,
    SEEK,
    WHEN,
    plain,
    read_verb,
    split_clauses,
)
from phototwin.plan.task import MAX_STEPS, Step
from phototwin.scene import SceneObject


def read_steps(text: str, objects: tuple[SceneObject, ...], T_world_camera: np.ndarray | None = None) -> Steps:
    """The steps that a sentence asks for, and a note of what was taken loosely.

    Raises:
        InstructionError: It is not understood, or names nothing or several things.
    """
    sentence = plain(text)
    if not sentence:
        raise InstructionError(f"The instruction is empty. {CAN_DO} {inventory(objects)}")
    _refuse_logic(text, sentence)
    context = make_context(objects, T_world_camera)
    steps: list[Step] = []
    notes: list[str] = []
    verb = ""
    clauses = split_clauses(sentence)
    if not clauses:
        raise InstructionError(f"'{text}' is empty but for how its parts are joined. {CAN_DO} {inventory(objects)}")
    for clause in clauses:
        if (seek := SEEK.fullmatch(clause)) and read_verb(clause) is None:
            item, note = find_object(seek["what"], context)
            context = replace(context, said=(*context.said, item.key), moved=(item.key,), target=None)
            notes.append(note)
            continue
        elided = bool(steps) and read_verb(clause) is None and bool(re.match(r"(?:the|a|an|it|that)\b", clause))
        if elided:  # "push the can to the left, then the mug to the right"
            found, note = _read_elided(text, verb, clause, steps[-1], context)
        else:
            (found, note), verb = _read_clause(text, clause, context)
        steps += found
        notes.append(note)
        context = _after(context, found)
        if len(steps) > MAX_STEPS:
            raise InstructionError(f"'{text}' takes more than {MAX_STEPS} steps: make several tasks of it.")
    if not steps:
        raise InstructionError(f"'{text}' does not say what to do. {CAN_DO}")
    return _join_lifts(steps), join_notes(notes)


def _refuse_logic(text: str, sentence: str) -> None:
    """Refuse what no chain of steps can say."""
    for pattern, what in ((NOT, "what not to do"), (WHEN, "conditions or another order"), (AGAIN, "how often")):
        if match := pattern.search(sentence):
            raise InstructionError(
                f"'{match[0].strip()}' in '{text}' says {what}, which no task can do: say the steps in their order. {CAN_DO}"
            )


def _read_clause(text: str, clause: str, context: Context) -> tuple[Steps, str]:
    """Steps and note of one clause, and its verb."""
    found = read_verb(clause)
    if found is None:
        raise InstructionError(f"'{clause.split()[0]}' in '{text}' is not something the robot can do. {CAN_DO}")
    verb, skill, rest = found
    return _read_shared(text, verb, skill, rest, context) or READERS[skill](text, verb, rest, context), verb


def _read_elided(text: str, verb: str, clause: str, last: Step, context: Context) -> Steps:
    """Steps of a clause without a verb: that of the clause before, and its relation and target too where it names a thing alone."""
    try:
        return _read_clause(text, f"{verb} {clause}", context)[0]
    except InstructionError:
        phrase = re.sub(r",?\s+(?:too|also|as well)$", "", clause)
        if last.skill not in ("place", "push", "pour") or list(relation_splits(phrase, RELATIONS)):
            raise
        items, note = find_objects(phrase, context, last.target)
        return tuple(replace(last, object=item.key, part="") for item in items), note


def _read_shared(text: str, verb: str, skill: str, rest: str, context: Context) -> Steps | None:
    """Steps of "put A on B and C in D", which share their verb; None where the parts are not understood each on its own."""
    parts = re.split(r"\s*,?\s+and\s+(?=(?:the|a|an)\s)", rest)
    if skill == "lift" or len(parts) < 2:
        return None
    steps: tuple[Step, ...] = ()
    notes = []
    for part in parts:
        try:
            more, note = READERS[skill](text, verb, part, context)
        except InstructionError:
            return None
        steps, context = (*steps, *more), _after(context, more)
        notes.append(note)
    return steps, join_notes(notes)


def _after(context: Context, steps: Iterable[Step]) -> Context:
    """What pronouns stand for once these steps have been said."""
    steps = tuple(steps)
    named = [key for step in steps for key in (step.object, step.target) if key]
    moved = tuple(dict.fromkeys(step.object for step in steps))
    return replace(context, said=(*context.said, *named), moved=moved, target=steps[-1].target if steps else None)


def _join_lifts(steps: list[Step]) -> tuple[Step, ...]:
    """Steps without the lifts that the next step begins with anyway: "pick up X and put it on Y" is one; X is grasped as was said."""
    kept: list[Step] = []
    for step in steps:
        if kept and kept[-1].skill == "lift" and kept[-1].object == step.object:
            lift = kept.pop()
            if step.skill != "push" and not step.part:
                step = replace(step, part=lift.part)
        kept.append(step)
    return tuple(kept)
