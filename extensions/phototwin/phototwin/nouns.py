"""The words of the house: what people call things and colours, and which thing of the photo a noun phrase means.

What a thing is cannot be read off its shape, so names made by us are forms ("white cylinder", "brown stick"). People say
"can" and "spoon". This lexicon says which forms, proportions and colours such nouns can have; a phrase means a thing where
every word fits it, and the thing that no other fits better in any word is the one meant.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

Range = tuple[float, float]
COMPACT: Range = (1.0, 1.25)
"""As long as wide, give or take what a fit from one view gets wrong."""
PROPORTION_SLACK = 1.25
"""Proportions this far outside a noun's range still fit, roughly."""
SIZE_SLACK = 1.7
"""Things of one noun are at most this much larger or smaller than usual."""
ROUND = ("sphere", "revolution", "cylinder")
LONG = ("extrusion", "box", "cylinder", "revolution")
VESSEL = ("revolution", "cylinder")


@dataclass(frozen=True)
class Noun:
    """What a noun says about a thing. With the extents sorted, a >= b >= c, its proportions do not depend on how it lies.

    Attributes:
        words: The noun and words that mean the same.
        shapes: Those of ``OBJECT_SHAPES`` that it can be fitted with.
        long: Range of a / b.
        flat: Range of b / c.
        typical_m: Usual longest side; half of all things are within a third of it [m].
        material: What it is made of, a key of ``build.physics.MATERIALS``.
        hollow: A vessel (True), never one (False), or either (None).
        form: It names a form that we ourselves give things by, so that a more telling noun may mean the same thing.
        also: Other nouns that people use for it.
        colors: Colours it can have, or look as if it had; none stands for all.
        kinds: Words that people put before it which say nothing that can be checked ("soda can").
    """

    words: tuple[str, ...]
    shapes: tuple[str, ...]
    long: Range
    flat: Range
    typical_m: float
    material: str = ""
    hollow: bool | None = False
    form: bool = False
    also: tuple[str, ...] = ()
    colors: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()


def _form(
    words: str,
    shapes: tuple[str, ...],
    long: Range,
    flat: Range,
    typical_m: float,
    material: str = "",
    hollow: bool | None = False,
    also: str = "",
    kinds: str = "",
) -> Noun:
    return Noun(
        tuple(words.split()), shapes, long, flat, typical_m, material, hollow, True, tuple(also.split()),
        kinds=tuple(kinds.split()),
    )  # fmt: skip


def _fruit(words: str, typical_m: float, colors: str, long: Range = COMPACT) -> Noun:
    shapes = ROUND if long[1] < 3 else (*LONG, "sphere")
    return Noun(tuple(words.split()), shapes, long, (1.0, 1.6), typical_m, "fruit", colors=tuple(colors.split()))


def _tool(words: str, typical_m: float, material: str, long: Range = (3.0, 14.0), flat: Range = (1.0, 9.0)) -> Noun:
    return Noun(tuple(words.split()), LONG, long, flat, typical_m, material)


NOUNS = (
    _form("cube", ("box",), (1, 1.3), (1, 1.3), 0.045, "wood", also="block box brick"),
    _form("block brick", ("box", "extrusion"), (1, 4), (1, 5), 0.07, "wood", also="cube box"),
    _form(
        "box carton packet package parcel",
        ("box",),
        (1, 4),
        (1, 6),
        0.2,
        "carton",
        also="cube block brick",
        kinds="cereal cracker sugar tea tissue cardboard gelatin pudding milk juice",
    ),
    _form("ball sphere", ROUND, COMPACT, COMPACT, 0.07, "rubber", kinds="tennis"),
    _form("cylinder", VESSEL, (1, 4), (1, 1.5), 0.1),
    _form("disk disc puck", (*VESSEL, "extrusion"), (1, 1.25), (3, 30), 0.1, hollow=None),
    _form("stick rod bar", LONG, (3, 30), (1, 4), 0.2, "wood"),
    _form("board slab", ("extrusion", "box"), (1, 3), (4, 40), 0.25, "wood", kinds="cutting chopping"),
    _form("plate dish saucer", (*VESSEL, "extrusion"), (1, 1.2), (3, 30), 0.2, "ceramic", None, kinds="dinner"),
    _form("bowl basin", VESSEL, (1, 1.4), (1.4, 4), 0.15, "ceramic", True, kinds="soup cereal salad"),
    _form("cup beaker", VESSEL, (1, 1.7), (1, 1.35), 0.085, "ceramic", True, "mug glass tumbler", "coffee tea"),
    _form("mug", VESSEL, (1, 1.5), (1, 1.5), 0.1, "ceramic", True, "cup pitcher jug", "coffee tea"),
    _form("pitcher jug", VESSEL, (1.25, 2.2), (1, 1.7), 0.2, "ceramic", True, "mug", "water milk"),
    _form(
        "bottle flask carafe",
        VESSEL,
        (2, 5),
        (1, 1.6),
        0.22,
        "filled",
        None,
        kinds="water wine beer soda ketchup mustard bleach soap",
    ),
    _form(
        "can tin",
        VESSEL,
        (1.2, 2.6),
        (1, 1.25),
        0.12,
        "filled",
        kinds="soda coke cola pepsi beer soup drink tomato aluminium aluminum tuna",
    ),
    Noun(("glass", "tumbler"), VESSEL, (1, 2.2), (1, 1.3), 0.12, "ceramic", True, also=("cup",), kinds=("water",)),
    Noun(("jar",), VESSEL, (1, 2.2), (1, 1.3), 0.13, "filled", None, kinds=("jam", "honey", "glass")),
    Noun(("vase",), VESSEL, (1.2, 4), (1, 1.4), 0.22, "ceramic", None, kinds=("flower",)),
    Noun(("pot", "pan", "skillet", "saucepan"), VESSEL, (1, 2.2), (1, 6), 0.25, "ceramic", True, kinds=("cooking",)),
    Noun(("teapot", "kettle"), VESSEL, (1.15, 1.9), (1, 1.4), 0.2, "ceramic", True),
    _fruit("apple", 0.08, "red green yellow orange pink"),
    _fruit("orange tangerine mandarin clementine", 0.08, "orange yellow brown"),
    _fruit("peach apricot nectarine", 0.075, "orange pink yellow red"),
    _fruit("tomato", 0.075, "red orange"),
    _fruit("plum", 0.05, "purple red blue black"),
    _fruit("lemon", 0.08, "yellow orange", (1.0, 1.6)),
    _fruit("lime", 0.06, "green yellow", (1.0, 1.5)),
    _fruit("pear", 0.1, "green yellow brown", (1.1, 1.8)),
    _fruit("potato", 0.09, "brown beige yellow orange", (1.0, 2.2)),
    _fruit("onion", 0.08, "brown white beige purple orange", (1.0, 1.4)),
    _fruit("egg", 0.06, "white beige brown pink", (1.05, 1.6)),
    _fruit("strawberry", 0.04, "red pink", (1.0, 1.7)),
    _fruit("eggplant aubergine", 0.18, "purple black", (1.4, 4.0)),
    _fruit("banana", 0.19, "yellow green", (2.0, 7.0)),
    _fruit("cucumber zucchini courgette", 0.2, "green", (2.5, 8.0)),
    _fruit("carrot", 0.17, "orange brown red", (3.0, 10.0)),
    _tool("spoon ladle", 0.22, "wood"),
    _tool("spatula turner", 0.3, "wood"),
    _tool("fork knife", 0.2, "metal", flat=(1.0, 15.0)),
    _tool("brush toothbrush", 0.2, "wood"),
    _tool("pen pencil marker crayon", 0.15, "wood", (5.0, 25.0), (1.0, 2.0)),
    _tool("screwdriver", 0.2, "metal", (4.0, 14.0), (1.0, 3.0)),
    _tool("wrench spanner", 0.2, "metal"),
    _tool("hammer", 0.3, "metal", (1.8, 8.0)),
    Noun(("scissors", "tongs", "pliers"), ("extrusion",), (1.5, 8), (2, 15), 0.18, "metal"),
    Noun(("sponge",), ("box", "extrusion"), (1, 2.6), (1.2, 6), 0.11, "sponge", kinds=("kitchen", "dish")),
    Noun(("soap",), ("box", "extrusion", "cylinder"), (1, 2.5), (1.1, 4), 0.08, "filled"),
    Noun(("book", "notebook"), ("box", "extrusion"), (1, 2), (3, 40), 0.21, "carton"),
    Noun(("phone", "smartphone"), ("box", "extrusion"), (1.6, 2.6), (4, 16), 0.15, "plastic"),
    Noun(("remote",), ("box", "extrusion"), (2.2, 6), (1.2, 4), 0.18, "plastic", kinds=("tv",)),
)
"""Rough values of everyday things. Of two entries with a word the first counts."""

COLORS = (
    "red", "orange", "yellow", "green", "teal", "blue", "purple", "pink", "brown", "beige", "white", "gray", "black",
)  # fmt: skip
COLOR_ALIASES = {
    "grey": "gray", "silver": "gray", "violet": "purple", "lilac": "purple", "magenta": "pink", "rose": "pink",
    "cyan": "teal", "turquoise": "teal", "navy": "blue", "maroon": "red", "crimson": "red", "scarlet": "red",
    "gold": "yellow", "golden": "yellow", "tan": "beige", "cream": "beige",
}  # fmt: skip
NEAR_COLORS = frozenset(
    frozenset(pair.split())
    for pair in (
        "red orange", "red pink", "red brown", "orange yellow", "orange brown", "orange beige", "orange pink", "yellow beige", "brown beige", "green teal", "teal blue", "blue purple", "purple pink",
        "pink beige", "white beige", "white gray", "gray black",
    )
)  # fmt: skip
"""Colours that people, or photos, mistake for each other. Green and blue are not: teal is between them."""
SHADES = frozenset({"light", "dark", "bright", "pale", "deep"})
"""Before a colour they say nothing that is checked."""
ANYTHING = frozenset({"one", "thing", "object", "item", "it"})
STUFF = frozenset({"wooden", "plastic", "metal", "steel", "ceramic", "paper", "rubber", "toy"})
"""What a photo does not tell; taken on trust."""
CONTAINERS = frozenset({"container", "vessel"})
FILLERS = frozenset({"the", "a", "an", "this", "that", "your", "my", "of"})

EXACT, SAME, SNUG, ROUGH = 4, 3, 2, 1
"""How well a word fits: it is in the name; it means the same; its noun has that shape; roughly, or it says little."""

NEUTRAL_CHROMA = (5.0, 0.13)
"""Lab chroma below which a colour looks grey to people: this much, plus this share of its lightness (dark colours have little)."""
DARK_L, LIGHT_L = 22.0, 68.0
"""Lab lightness: greys darker than the one are black, lighter than the other white."""
HUES = ((14, "red"), (41, "orange"), (72, "yellow"), (165, "green"), (195, "teal"), (258, "blue"), (300, "purple"))
"""Upper end of each colour's HSV hue [deg]; above the last it is pink, then red again."""
PINK_END = 345.0
BROWN_VALUE = 0.62
"""Orange darker than this (HSV value) is called brown."""
PALE_SATURATION, DULL_SATURATION = 0.45, 0.58
"""Below the one a warm colour is called beige or pink; orange below the other is that of wood."""


@dataclass(frozen=True, eq=False)
class Thing:
    """What is known of a thing that a phrase may mean.

    Attributes:
        name: Its name.
        shape: One of ``OBJECT_SHAPES``, or None where only the name is known; the form it names then stands for the rest.
        hollow: A vessel.
        size_m: Extents, (3,) [m], or None.
        color: What people call its colour, or None.
    """

    name: str
    shape: str | None = None
    hollow: bool = False
    size_m: np.ndarray | None = None
    color: str | None = None


@dataclass(frozen=True)
class Found:
    """Which things a phrase may mean, as indices: one, none or several; ``note`` says where words were taken loosely."""

    indices: tuple[int, ...]
    note: str = ""


_BY_WORD = {word: noun for noun in reversed(NOUNS) for word in noun.words}


def words_of(text: str) -> list[str]:
    """The words of a name or phrase in lower case, without articles."""
    words = [word for word in re.findall(r"[^\W_]+", text.lower()) if word not in FILLERS]
    return [w for w, after in zip(words, [*words[1:], ""], strict=False) if w not in SHADES or _color(after) is None]


def vocabulary() -> frozenset[str]:
    """Every noun and colour that is known."""
    kinds = {word for noun in NOUNS for word in noun.kinds}
    return frozenset({*_BY_WORD, *kinds, *COLORS, *COLOR_ALIASES, *ANYTHING, *CONTAINERS, *STUFF})


def noun_of(name: str) -> Noun | None:
    """The noun of a name: the last known one of its words, also in the plural; in "orange mug" the mug."""
    for word in reversed(words_of(name)):
        if noun := _BY_WORD.get(word) or _BY_WORD.get(word.removesuffix("s")):
            return noun
    return None


def find_thing(phrase: str, things: Sequence[Thing]) -> Found:
    """The thing that a noun phrase means: every word fits it, and no other thing fits better in any word.

    The thing of just that name comes first. Several indices are those that fit and are not clearly worse than another.
    """
    words = words_of(phrase)
    exact = [i for i, thing in enumerate(things) if words_of(thing.name) == words]
    if len(exact) == 1 or not words:
        return Found(tuple(exact) if words else ())
    noun = noun_of(phrase)
    scores = [[_score(word, i + 1 == len(words), noun, thing) for i, word in enumerate(words)] for thing in things]
    fitting = [i for i, score in enumerate(scores) if min(score) > 0]
    best = tuple(
        i
        for i in fitting
        if not any(
            scores[k] != scores[i] and all(a >= b for a, b in zip(scores[k], scores[i], strict=True)) for k in fitting
        )
    )
    return Found(best, _note(phrase, words, scores[best[0]], things[best[0]].name) if len(best) == 1 else "")


def find_things(phrase: str, things: Sequence[Thing]) -> tuple[tuple[int, ...], ...]:
    """Indices of the things that a noun phrase in the singular fits: by name, as well by what means the same, and at all."""
    words = words_of(phrase)
    noun = noun_of(phrase)
    fits = [[_score(word, i + 1 == len(words), noun, thing) for i, word in enumerate(words)] for thing in things]
    return tuple(
        tuple(i for i, fit in enumerate(fits) if min(fit, default=0) >= level) for level in (EXACT, SAME, ROUGH)
    )


def _note(phrase: str, words: list[str], scores: list[int], name: str) -> str:
    loose = [i for i, score in enumerate(scores) if score <= SNUG]
    is_color = [_color(words[i]) is not None and (i + 1 < len(words) or words[i] not in _BY_WORD) for i in loose]
    colors = any(is_color)
    nouns = any(words[i] in _BY_WORD and not color for i, color in zip(loose, is_color, strict=True))
    if not nouns and not colors:
        return ""
    why = " and ".join(["its shape"] * nouns + ["a colour near to that"] * colors)
    return f"'{phrase}' was taken for the {name} because of {why}: nothing in the photo has just that name."


def _score(word: str, last: bool, noun: Noun | None, thing: Thing) -> int:
    """How well one word of a phrase, whose noun is given, fits a thing; 0 where it does not."""
    names, color, asked = words_of(thing.name), _color(word), _BY_WORD.get(word)
    fruit = last and color is not None and asked is not None  # "the orange", as against "the orange cube"
    if word in names and not (fruit and names[-1] != word):
        return EXACT
    if color and not fruit:
        own = _colors(thing)
        return SAME if color in own else ROUGH if _is_near(color, own) else 0
    if word in ANYTHING | STUFF or (word in CONTAINERS and thing.hollow):
        return ROUGH
    if not last and noun is not None and word in noun.kinds:
        return ROUGH
    return 0 if asked is None else _score_noun(word, asked, thing)


def _colors(thing: Thing) -> set[str]:
    """The colours in its name, otherwise the one it shows."""
    names = words_of(thing.name)
    named = {c for c in map(_color, names[:-1] if names and names[-1] in _BY_WORD else names) if c}
    return named or ({thing.color} if thing.color else set())


def _is_near(color: str, others: set[str]) -> bool:
    return any(frozenset((color, other)) in NEAR_COLORS for other in others)


def _score_noun(word: str, asked: Noun, thing: Thing) -> int:
    own = noun_of(thing.name)
    if own is not None:
        if own is asked or word in own.also or set(words_of(thing.name)) & set(own.words) & set(asked.also):
            return SAME
        if not own.form and not asked.form:
            return 0  # an apple is no lemon, however alike they are
    return _shape_fit(asked, own, thing)


def _shape_fit(asked: Noun, own: Noun | None, thing: Thing) -> int:
    """How well shape, proportions, size and colour of a thing allow a noun: ``SNUG``, ``ROUGH`` or 0."""
    if thing.shape is not None and thing.size_m is not None:
        shapes, hollow = (thing.shape,), thing.hollow
        c, b, a = (max(float(v), 1e-9) for v in np.sort(thing.size_m))
        proportions = (a / b, b / c)
        if not asked.form and abs(np.log(a / asked.typical_m)) > np.log(SIZE_SLACK):
            return 0
    elif own is not None and own.form:
        shapes, hollow = own.shapes, own.hollow
        proportions = tuple(float(np.sqrt(low * high)) for low, high in (own.long, own.flat))
    else:
        return 0
    colors = _colors(thing)
    if asked.colors and colors and not colors & set(asked.colors):
        return 0
    if not set(shapes) & set(asked.shapes) or (asked.hollow is False and hollow):
        return 0
    off = [max(low / p, p / high) for p, (low, high) in zip(proportions, (asked.long, asked.flat), strict=True)]
    rough = sum(o > 1.001 for o in off) + (asked.hollow is True and not hollow)
    if not rough:
        return SNUG
    # What we ourselves gave another form has been looked at already.
    forms = asked.form and own is not None and own.form
    return ROUGH if rough == 1 and max(off) <= PROPORTION_SLACK and not forms else 0


def _color(word: str) -> str | None:
    """The colour that a word means."""
    return word if word in COLORS else COLOR_ALIASES.get(word)


def color_names(rgb: np.ndarray, light: np.ndarray | None = None) -> np.ndarray:
    """Names (N,) of sRGB colours (N, 3) in 0..255 under a light that makes white look like ``light`` (3,)."""
    pixels = np.asarray(rgb, dtype=np.float64) / 255.0
    pixels = np.clip(pixels / (1.0 if light is None else light), 0, 1)
    hue, saturation, value = _hsv(pixels)
    lightness, chroma = _lab(pixels)
    neutral = (chroma < NEUTRAL_CHROMA[0] + NEUTRAL_CHROMA[1] * lightness) | (lightness < DARK_L / 8)
    words = np.select([hue < end for end, _ in HUES] + [hue < PINK_END], [w for _, w in HUES] + ["pink"], "red")
    dull, dark = saturation < PALE_SATURATION, value < BROWN_VALUE
    wood = (words == "orange") & (dark | (saturation < DULL_SATURATION))
    words = np.where((words == "red") & dull, np.where(dark, "brown", "pink"), words)
    words = np.where((words == "orange") & dull & ~dark, "beige", np.where(wood, "brown", words))
    greys = np.select([lightness < DARK_L, lightness > LIGHT_L], ["black", "white"], "gray")
    return np.where(neutral, greys, words)


def _hsv(rgb: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Hue [deg], saturation and value (N,) of colours (N, 3) in 0..1."""
    value, spread = rgb.max(1), np.ptp(rgb, axis=1)
    r, g, b = rgb.T
    safe = np.where(spread > 0, spread, 1.0)
    sector = np.select([value == r, value == g], [(g - b) / safe, 2 + (b - r) / safe], 4 + (r - g) / safe)
    hue = np.where(spread > 0, 60.0 * sector, 0.0) % 360.0
    return hue, spread / np.maximum(value, 1e-9), value


def _lab(rgb: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """CIE Lab lightness and chroma (N,) of sRGB colours (N, 3) in 0..1.

    Source: IEC 61966-2-1 (sRGB to XYZ) and CIE 15 (XYZ to L*a*b*), white D65.
    """
    linear = np.where(rgb > 0.04045, ((rgb + 0.055) / 1.055) ** 2.4, rgb / 12.92)
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    t = linear @ (to_xyz / to_xyz.sum(1, keepdims=True)).T
    x, y, z = np.where(t > (6 / 29) ** 3, np.cbrt(t), t * (29 / 6) ** 2 / 3 + 4 / 29).T
    return 116 * y - 16, np.hypot(500 * (x - y), 200 * (y - z))
