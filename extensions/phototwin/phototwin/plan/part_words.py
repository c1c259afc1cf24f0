"""The words for parts of things: what people call a handle, a rim, a red part."""

from __future__ import annotations

import re

from phototwin.nouns import COLOR_ALIASES, COLORS

PARTS = {
    "handle": "handle|ear|grip|shaft|stem",
    "rim": "rim|lip|brim|mouth",
    "edge": "edges?|corners?",
    "side": "sides?|body|wall|middle",
    "top": "top|lid|cap|neck|above",
    "bottom": "bottom|base|foot|underside",
    "head": "head|bowl|scoop|blade",
    "inside": "inside|interior",
    "tip": "tip|thin end|narrow end|pointed end",
    "end": "end|thick end|wide end|broad end",
    "spout": "spout",
}
"""Part -> words for it, as patterns."""
ANYWHERE = r"part|bit|area|piece|spot|patch|portion|section|region"
"""What follows a colour where it alone names the part."""
KEYPOINT = r"(?:rim|side|end) \d"
"""The own names of keypoints that are numbered."""
COLOR = "|".join([*COLORS, *COLOR_ALIASES])
_WORDS = "|".join(PARTS.values()).replace("bowl|", "")
"""Without the bowl of a spoon: "the cube by the bowl" is beside one."""
PART_PHRASE = rf"{KEYPOINT}|(?:{COLOR}) (?:{_WORDS}|{ANYWHERE})|{_WORDS}"
"""One part, alone or with its colour."""
_PATTERNS = (
    *PARTS.items(),
    ("", ANYWHERE),
    *((color, color) for color in COLORS),
    *((color, alias) for alias, color in COLOR_ALIASES.items()),
)


def is_keypoint(word: str) -> bool:
    """Whether a canonical word is the name of a keypoint."""
    return word in ("tip", "end", "spout") or word[-1].isdigit()


def read_words(phrase: str) -> tuple[str, ...] | None:
    """Canonical words ("red", "handle") of a phrase that names a part; None where one is not known."""
    words: list[str] = []
    rest = re.sub(r"\b(?:the|its|of|a|an)\b", " ", phrase.lower())
    rest = re.sub(r"\s+", " ", rest).strip()
    while rest:
        found = _first_word(rest)
        if found is None:
            return None
        word, rest = found
        words += [word] if word else []
    return tuple(dict.fromkeys(words)) or None


def _first_word(rest: str) -> tuple[str, str] | None:
    """The canonical first word of a phrase ("" where it says nothing) and what follows it."""
    found = [(match.end(), name) for name, words in _PATTERNS if (match := re.match(rf"(?:{words})(?!\w)", rest))]
    if match := re.match(rf"(?:{KEYPOINT})(?!\w)", rest):
        found.append((match.end(), match[0]))
    if not found:
        return None
    end, name = max(found)
    return name, rest[end:].strip()
