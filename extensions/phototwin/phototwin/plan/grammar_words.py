"""The words of the grammar: verbs by skill, relations, directions and parts, and how a sentence falls into clauses."""

from __future__ import annotations

import re

from phototwin.errors import InstructionError
from phototwin.plan.part_words import PART_PHRASE, read_words

MAX_TEXT = 400
"""Longer texts are no instructions."""
VERBS = {
    "lift": "pick up|pick|lift up|lift|grab|take|raise|grasp|get|fetch|hold up|hold|grip|seize|hoist",
    "place": "put down|put|place|move|set down|set|drop|bring|lay down|lay|transfer|carry|position|deposit|insert|return",
    "stack": "stack up|stack|pile up|pile|build up|(?:build|make|form) (?:a|one) (?:tower|stack|pile)(?: out)?(?: of| from| with| using)?",
    "push": "push|slide|shove|nudge|drag|pull|scoot|poke|sweep",
    "pour": "pour out|pour|tip out|tip|empty out|empty|dump out|dump|tilt|decant|fill up|fill",
    "upright": "stand up|stand|reorient|straighten up|straighten|upright|erect|turn|flip|rotate|right(?= (?:the|a|an|it|that|this|both|all)\\b)",
}  # fmt: skip
"""Verbs by skill, as patterns; of two that match, the longer one counts."""
RELATIONS = {
    "on top of": "on", "on to": "on", "onto": "on", "on": "on", "upon": "on", "atop": "on",
    "into": "in", "inside of": "in", "inside": "in", "in to": "in", "in": "in", "within": "in",
    "right next to": "next to", "next to": "next to", "beside": "next to", "besides": "next to", "near": "next to", "to": "next to", "by": "next to",
    "close to": "next to", "alongside": "next to", "adjacent to": "next to",
}  # fmt: skip
POUR_RELATIONS = {
    "into": "in", "inside": "in", "in to": "in", "in": "in", "to": "in", "over": "on", "onto": "on", "on to": "on",
    "on top of": "on", "on": "on", "above": "on",
}  # fmt: skip
PUSH_RELATIONS = ("up against", "against", "towards", "toward", "up to", "next to", "close to", "closer to", "nearer to", "over to", "beside", "near", "to", "into")  # fmt: skip
"""Words after which a push goes to another thing."""
MOVING_RELATIONS = ("into", "onto", "on to", "in to", "to", "over to")
"""Relations that "get" and "take" something into."""
OFF_SIDES = (
    r"(?:to |on |at )?(?:the )?(?:left|right)(?: hand)?(?: side)? of",
    r"behind",
    r"in front of",
    r"under(?:neath)?",
    r"below",
    r"between",
    r"around",
    r"away from",
    r"to (?:the )?edge(?: of)?",
)
"""Places that are understood and cannot be done, as patterns."""
VIEWER = r"(?:me|you|us|the camera|the viewer|the front|yourself|myself)"
DIRECTIONS = (
    ("left", r"(?:(?:over )?to (?:the|your|my) |to |towards? the |on the |the )?left(?:wards?|(?: hand)? side)?"),
    ("right", r"(?:(?:over )?to (?:the|your|my) |to |towards? the |on the |the )?right(?:wards?|(?: hand)? side)?"),
    ("away", rf"(?:far(?:ther)?|further)? ?away(?: from {VIEWER})?|farther|further|to the (?:back|far side|rear)"),
    ("closer", rf"(?:closer|nearer|near)(?: to(?:wards?)? {VIEWER})?|(?:over )?to(?:wards?)? {VIEWER}"),
)
"""Relation of a push -> what says so; as seen in the photo."""
UNCLEAR = re.compile(
    r"(?:straight )?(?:forwards?|ahead|back(?:wards?)?|up|down|sideways|aside|around|over|off)(?: a bit| a little)?"
)
HOW_MUCH = re.compile(
    r"(?<!the )(?<!a )\b(?:\d+(?: \d+)? ?(?:cm|mm|m|in)|(?:\d+(?: \d+)?|one|two|three|five|ten|twenty|an?|half an?|a few) "
    r"(?:centimet(?:er|re)s?|millimet(?:er|re)s?|met(?:er|re)s?|inch(?:es)?|foot|feet|degrees?))\b"
)
A_BIT = re.compile(
    r"\b(?:just )?(?:a (?:little )?bit|a little|slightly|somewhat|straight|all the way|over(?= to the))\b"
)
UPRIGHT_END = r"\s+(?:back )?(?:upright|right side up|the right way up|vertical(?:ly)?|on (?:its|their) (?:base|bottom|foot|feet|end)s?|straight)"
TOGETHER = r"\s+(?:close(?:r)? |right )?together$"
SURFACE = r"(?:the\s+)?(?:table|counter|desk|surface|ground|floor|worktop|table top|tabletop|countertop)"
OFF_THE_SUPPORT = rf"\s+(?:up\s+)?(?:off|off of|from)\s+{SURFACE}$"
OUT_OF = r"\s+(?:up\s+)?(?:(?P<out>out of|from inside|from within|from in)|(?P<off>off of|off|from on top of)|from)\s+(?P<where>.+)$"
PRONOUNS = frozenset({"it", "that", "this", "that one", "this one", "the same", "the same one", "same one"})
THEM = frozenset({"them", "these", "those", "both", "both of them", "all of them", "they"})
COUNTS = {"two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "2": 2, "3": 3, "4": 4, "5": 5, "6": 6, "both": 2}  # fmt: skip
SEEK = re.compile(
    r"(?:go (?:over )?to|walk to|drive to|move to|reach for|reach|approach|find|locate|look for|look at|search for|identify|detect|see)\s+(?P<what>.+)"
)
"""Clauses that only say what the next ones are about."""
ADVERBS = r"\b(?:carefully|gently|slowly|quickly|simply|smoothly|precisely|neatly|softly)\b"
BY_HAND = r"\s+(?:with|using|in|by)\s+(?:(?:the|your|its|a)\s+)?(?:robot\s+)?(?:left\s+|right\s+)?(?:gripper|hand|hands|arm|fingers)\b"
"""What it is done with goes without saying."""
POLITE_START = (
    r"^(?:(?:please|now|ok|okay|hey|hi|hello|robot|kindly|first|firstly|just|go ahead and|(?:can|could|would|will) you|"
    r"i want you to|i would like you to|i d like you to|i need you to|you should|you must|you need to|you have to|(?:your|the) (?:task|job|goal) is to|"
    r"(?:i want |i would like |make |let |have )?the robot(?: arm)?(?: to| should| must| shall| will| needs to| has to)?|try to|go and|let us|"
    r"carefully|gently|slowly|quickly|simply)[\s,]+)+"
)
POLITE_END = r"(?:[\s,]+(?:please|now|for me|thanks|thank you|carefully|gently|slowly|quickly|again|instead))+$"
_LEAD = r"(?:and|then|afterwards?|after that|after this|next|finally|lastly|second|secondly|third|thirdly|also|now|please|carefully|gently|slowly)"
NOT = re.compile(r"\b(?:not|never|without|except|avoid|unless|but the|instead of|no)\b")
WHEN = re.compile(
    r"^(?:if|when|while|until|once|as soon as|after|before|because)\b|\s(?:if|when|while|until|before|once|as soon as|after(?! that| this))\s"
)
AGAIN = re.compile(r"\b(?:twice|thrice|\w+ times|forever|repeatedly)\b")

_BY_LENGTH = sorted((v for verbs in VERBS.values() for v in re.split(r"\|(?![^(]*\))", verbs)), key=len, reverse=True)
VERB = rf"(?:{'|'.join(_BY_LENGTH)})(?![a-z])"
SPLIT = re.compile(
    rf"(?:\s*[;,]\s*|\s+)(?:{_LEAD}\b[\s,]*)+(?={VERB})|\s*[;,]\s*(?={VERB})|\s*;\s*|\s*,?\s*\b(?:and )?then\b[\s,]*"
)
_SKILL = [(re.compile(rf"(?:{verbs})(?![a-z])"), skill) for skill, verbs in VERBS.items()]


def plain(text: str) -> str:
    """A sentence in lower case, with one kind of separator between its parts and without what is only polite.

    Raises:
        InstructionError: It is far too long.
    """
    if len(text) > MAX_TEXT:
        raise InstructionError(f"The instruction has {len(text)} characters, at most {MAX_TEXT}: '{text[:40]}...'")
    sentence = re.sub(r"n['’]t\b", " not", text.lower())
    sentence = re.sub(r"[\"'`’‘“”()\[\]{}<>*]+", " ", sentence)
    sentence = re.sub(BY_HAND, " ", re.sub(ADVERBS, " ", sentence))
    sentence = re.sub(r"[.!?:;]+(?=\s|$)|;", " ; ", sentence)
    sentence = re.sub(r"[\s.!?:\-]+", " ", sentence)
    sentence = re.sub(r"(?:\s*;\s*)+", "; ", sentence).strip(" ;,")
    return trim(sentence)


def trim(clause: str) -> str:
    """A clause without what is only polite at its ends."""
    return re.sub(POLITE_END, "", re.sub(POLITE_START, "", clause.strip(" ;,") + " ").strip(" ;,")).strip(" ;,")


def split_clauses(sentence: str) -> list[str]:
    """The clauses of a plain sentence, in order."""
    return [clause for clause in map(trim, SPLIT.split(sentence)) if clause]


def read_verb(clause: str) -> tuple[str, str, str] | None:
    """Verb, skill and rest of a clause, or None where it begins with no verb that is known."""
    found = [(match.end(), skill) for pattern, skill in _SKILL if (match := pattern.match(clause))]
    if not found:
        return None
    end, skill = max(found)
    return clause[:end], skill, clause[end:].strip()


def read_direction(rest: str) -> tuple[str, str] | None:
    """What is pushed and where, from "the can a bit to the left"; nothing where only the way is said, None where no way is."""
    rest = re.sub(r"\s+", " ", A_BIT.sub(" ", rest)).strip()
    for relation, pattern in DIRECTIONS:
        if re.fullmatch(pattern, rest):
            return "", relation
        if match := re.fullmatch(rf"(?P<what>.+?) (?:{pattern})", rest):
            return match["what"], relation
        if match := re.fullmatch(rf"(?:{pattern}) (?P<what>(?:the|a|it|that|this)\b.*)", rest):
            return match["what"], relation
    return None


def read_part(phrase: str) -> tuple[str, str]:
    """Noun phrase and words for a part from "the mug by its handle", "the red part of the mug" or "the spoon s tip"; "" where none is named.

    After "by its" any word may stand: whether it is a part is for others to say.
    """
    words = rf"(?:{PART_PHRASE})(?: (?:of )?(?:the |its )?(?:{PART_PHRASE}))?"
    patterns = (
        rf"(?P<what>.+?) (?:by|at|on|from|with|using|around) (?:(?:the|its|his|her|their) )?(?P<part>{words})",
        rf"(?:(?:the|its) )?(?P<part>{words}) of (?P<what>.+)",
        rf"(?P<what>.+?) s (?P<part>{words}|bowl)",
        r"(?P<what>.+?) (?:by|at) (?:its|his|her|their) (?P<part>.+)",
    )
    for pattern in patterns:
        if match := re.fullmatch(pattern, phrase):
            return match["what"], " ".join(read_words(match["part"]) or (match["part"],))
    return phrase, ""
