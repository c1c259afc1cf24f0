"""Which things of the scene a noun phrase means: by name, by where they are in the photo, by size, by what they are next to."""

from __future__ import annotations

import re
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass

import numpy as np

from phototwin.errors import InstructionError
from phototwin.nouns import Thing, color_names, find_thing, find_things, vocabulary, words_of
from phototwin.plan.grammar_where import (
    BETWEEN,
    CLAUSES,
    ORDER,
    ORDINAL,
    PLACED,
    PLACES,
    REFERENCE,
    REFERENCES,
    beside,
    nth,
    standing_out,
)
from phototwin.plan.grammar_words import COUNTS, PRONOUNS, THEM
from phototwin.scene import SceneObject

THINGS = frozenset({"things", "objects", "items", "ones"})
MANY = THINGS | {"all", "both", "every", "each", "everything", "them", "these", "those"}  # fmt: skip
EVERYTHING = frozenset({"everything", "all", "all things", "all objects", "all of it", "every thing", "every object", "things", "objects", "all items"})  # fmt: skip
_ANY = re.compile(r"(?:an?|one|any|some|either)(?: of the)?\b")
"""Words that leave open which one is meant."""


@dataclass(frozen=True, eq=False)
class Context:
    """What a noun phrase is said about.

    Attributes:
        objects: What there is.
        things: What the lexicon must know of each of them.
        T_world_camera: Camera that left, right, near and far are seen from; None stands for one that looks along the world's X.
        said: Keys of everything that was named so far.
        moved: Keys of what the clause before moves.
        target: Key of where it moves it, or None.
    """

    objects: tuple[SceneObject, ...]
    things: tuple[Thing, ...]
    T_world_camera: np.ndarray | None = None
    said: tuple[str, ...] = ()
    moved: tuple[str, ...] = ()
    target: str | None = None

    def item(self, key: str) -> SceneObject:
        """The object of that key."""
        return next(item for item in self.objects if item.key == key)


def make_context(objects: tuple[SceneObject, ...], T_world_camera: np.ndarray | None) -> Context:
    """The context in which nothing has been said yet."""
    colors = color_names(255.0 * np.array([item.color_rgb for item in objects]).reshape(-1, 3))
    things = (Thing(o.name, o.shape, o.hollow, o.size_m, str(c)) for o, c in zip(objects, colors, strict=True))
    return Context(objects, tuple(things), T_world_camera)


def find_object(phrase: str, context: Context, avoid: str | None = None) -> tuple[SceneObject, str]:
    """The one object that a noun phrase ("the green cube", "the left can", "it") means, and a note where it was taken loosely.

    Args:
        phrase: The words.
        context: What they are said about.
        avoid: Key of the object that "it" cannot be, because the same clause moves it.

    Raises:
        InstructionError: No object fits, several do, or the phrase asks for many.
    """
    objects = context.objects
    if phrase in PRONOUNS and context.moved:
        return _referent(phrase, context, avoid)
    if not BETWEEN.match(phrase) and asks_for_many(phrase, objects):
        raise InstructionError(f"'{phrase}' asks for more than one thing: name one at a time. {inventory(objects)}")
    if not words_of(phrase):
        raise InstructionError(f"'{phrase}' names nothing. {inventory(objects)}")
    indices, note = _resolve(phrase, context)
    if not indices:
        raise InstructionError(f"Nothing in the photo is called '{phrase}'. {inventory(objects)}")
    index, *others = indices
    if others and _ANY.match(phrase):
        index = next((i for i in indices if objects[i].key not in context.said), index)
        return objects[index], join_notes((note, f"'{phrase}' can be any: the {objects[index].name} was taken."))
    if others:
        names = " or the ".join(objects[i].name for i in indices)
        raise InstructionError(f"'{phrase}' could be several things: the {names}? Say which.")
    return objects[index], note


def find_objects(phrase: str, context: Context, avoid: str | None = None) -> tuple[list[SceneObject], str]:
    """All objects that a phrase means ("the cubes", "the can and the mug", "everything"), or the one that it names.

    Raises:
        InstructionError: Nothing fits, or less than the phrase asks for.
    """
    objects = context.objects
    if phrase in THEM and len(context.moved) > 1:
        return [context.item(key) for key in context.moved], ""
    if BETWEEN.match(phrase) or not asks_for_many(phrase, objects):
        item, note = find_object(phrase, context, avoid)
        return [item], note
    if phrase in THEM and not context.moved:
        raise InstructionError(f"'{phrase}' asks for more than one thing: name them. {inventory(objects)}")
    if re.sub(r"^the ", "", phrase) in EVERYTHING:
        return [item for item in objects if item.key != avoid], ""
    parts = [
        re.sub(r"^(?:both|all)(?: of)? ", "", part)
        for part in re.split(r"\s*(?:,\s*and|,|\band\b|&)\s+", phrase)
        if part
    ]
    if len(parts) > 1:
        return _each(parts, phrase, context, avoid)
    return _plural(phrase, context, avoid)


def asks_for_many(phrase: str, objects: tuple[SceneObject, ...]) -> bool:
    """Whether a noun phrase stands for more than one thing; "cup and saucer" may be the name of one."""
    words = words_of(phrase)
    if sum(words_of(item.name) == words for item in objects) == 1:
        return False
    known = vocabulary() | {word for item in objects for word in words_of(item.name)}
    return any(word in MANY or word == "and" or _singular(word, known) != word for word in words)


def inventory(objects: tuple[SceneObject, ...]) -> str:
    """What there is, as a sentence."""
    return f"In the photo: {', '.join(item.name for item in objects) or 'nothing'}."


def _referent(phrase: str, context: Context, avoid: str | None) -> tuple[SceneObject, str]:
    """What a pronoun stands for: what was moved last; where that is what moves now, where it went."""
    key, *others = context.moved
    if others:
        raise InstructionError(
            f"'{phrase}' could be several things of the step before: say which. {inventory(context.objects)}"
        )
    if key == avoid and context.target is not None:
        key = context.target
    item = context.item(key)
    certain = context.target is None or avoid is None
    return item, "" if certain else f"'{phrase}' was taken for the {item.name}."


def _singular(word: str, known: frozenset[str]) -> str:
    """The word without its plural ending, where only so it is known."""
    if word in known:
        return word
    return next((w for w in (word.removesuffix("s"), word.removesuffix("es")) if w in known), word)


def _each(parts: list[str], phrase: str, context: Context, avoid: str | None) -> tuple[list[SceneObject], str]:
    """The things of a list; in "the red and green cubes" each part lacks the noun that the last one has."""
    known = vocabulary() | {word for item in context.objects for word in words_of(item.name)}
    last = words_of(parts[-1])
    noun = _singular(last[-1], known) if last else ""
    if last and noun != last[-1]:
        parts = [f"{part} {noun}" if noun not in words_of(part) else part for part in parts[:-1]] + [
            " ".join([*last[:-1], noun])
        ]
    found = [find_object(part, context, avoid) for part in parts]
    items = list({item.key: item for item, _ in found}.values())
    if len(items) < len(parts):
        raise InstructionError(f"'{phrase}' names the {items[0].name} twice. {inventory(context.objects)}")
    return items, join_notes(note for _, note in found)


def _plural(phrase: str, context: Context, avoid: str | None) -> tuple[list[SceneObject], str]:
    """All things that the singular of a phrase fits."""
    objects = context.objects
    known = vocabulary() | {word for item in objects for word in words_of(item.name)}
    words = [word for word in words_of(phrase) if word not in MANY - THINGS or word in COUNTS]
    wanted = [COUNTS[word] for word in words if word in COUNTS]
    single = " ".join(_singular(word, known) for word in words if word not in COUNTS) or "thing"
    levels = [[i for i in level if objects[i].key != avoid] for level in find_things(single, context.things)]
    enough = [level for level in levels if (len(level) == wanted[0] if wanted else len(level) > 1)]
    if not enough:
        names = ", ".join(objects[i].name for i in levels[-1]) or "nothing here"
        raise InstructionError(f"'{phrase}' asks for more than one thing; what fits: {names}. {inventory(objects)}")
    indices = enough[0]
    return [objects[i] for i in indices], ""


def join_notes(notes: Iterable[str]) -> str:
    """Notes as one text, each once."""
    return " ".join(dict.fromkeys(note for note in notes if note))


def _resolve(phrase: str, context: Context) -> tuple[tuple[int, ...], str]:
    """Indices of the things that a phrase may mean: by its words alone, else by where they are, by size or by a neighbour."""
    found = find_thing(phrase, context.things)
    if len(found.indices) == 1:
        return found.indices, found.note
    for pattern, instead in CLAUSES:
        phrase = re.sub(pattern, instead, phrase)
    if match := BETWEEN.match(phrase):
        return _by_two(match, context)
    if match := ORDINAL.match(phrase):
        indices, note = _resolve(match["head"], context)
        meant = nth(indices, match, context.objects, context.T_world_camera)
        return meant, join_notes((note, _by_place(phrase, meant[0], context) if meant else ""))
    if match := REFERENCE.match(phrase):
        with suppress(InstructionError):
            by_neighbour = _by_neighbour(match, context)
            if by_neighbour[0]:
                return by_neighbour
    for pattern, instead in PLACED:
        phrase = re.sub(pattern, instead, phrase)
    if len((again := find_thing(phrase, context.things)).indices) == 1:
        return again.indices, again.note
    if match := REFERENCE.match(phrase):
        return _by_neighbour(match, context)
    match = ORDER.search(phrase)
    if match is None or not match.lastgroup:
        return found.indices, found.note
    rest = re.sub(r"\s+", " ", phrase[: match.start()] + phrase[match.end() :]).strip()
    if not rest and not match[0].endswith(("est", "most", "other")):
        return (), ""  # "the smallest" is a thing, "the left" is not
    if rest in ("one", "") and context.said:  # "put the green cube on the other one": the other cube
        rest = (words_of(context.item(context.said[-1]).name) or ["thing"])[-1]
    order = match.lastgroup
    indices, note = _resolve(rest or "thing", context)
    meant = standing_out(list(indices), order, context.objects, context.said, context.T_world_camera)
    if len(meant) == 1 < len(indices) and order in PLACES:
        note = join_notes((note, _by_place(phrase, meant[0], context)))
    return meant, note


def _by_place(phrase: str, index: int, context: Context) -> str:
    """A note for the report: once attempts move things about, the words no longer say which one is meant."""
    return f"'{phrase}' was taken for the {context.objects[index].name} by where it stands in the photo."


def _by_two(match: re.Match[str], context: Context) -> tuple[tuple[int, ...], str]:
    """The thing of "the bowl between the plate and the mug": the one nearest to the middle of both."""
    indices, note = _resolve(match["head"], context)
    (one, _), (other, _) = (find_object(match[name], context) for name in ("one", "other"))
    middle = 0.5 * (one.T_world_object[:2, 3] + other.T_world_object[:2, 3])
    objects = context.objects
    left = [i for i in indices if objects[i].key not in (one.key, other.key)]
    nearest = min(left, key=lambda i: float(np.linalg.norm(objects[i].T_world_object[:2, 3] - middle)), default=None)
    if nearest is None:
        return (), note
    return (nearest,), join_notes((note, _by_place(match[0], nearest, context) if len(left) > 1 else ""))


def _by_neighbour(match: re.Match[str], context: Context) -> tuple[tuple[int, ...], str]:
    """The thing of a phrase such as "the can behind the mug"."""
    order = next(name for name, _ in REFERENCES if match[name])
    indices, note = _resolve(match["head"], context)
    anchor, anchor_note = find_object(match["tail"], context)
    meant = beside(indices, order, anchor, context.objects, context.T_world_camera)
    if len(meant) == 1 < len(indices):
        note = join_notes((note, _by_place(match[0], meant[0], context)))
    return meant, join_notes((note, anchor_note))
