"""Why attempts fail, in a few classes."""

from __future__ import annotations

CLASSES = {
    "perception": "the photo shows too little, or its twin is not fit for simulation",
    "plan": "no motion was found around what is in the way",
    "ik": "a pose on the way is out of reach",
    "grasp": "the object was not taken up",
    "slip": "the object was taken up and lost",
    "collision": "something that was to stay was moved or thrown over",
    "placement": "the object came to rest elsewhere",
    "undone": "a later step undid an earlier one",
    "timeout": "the motion did not come to its end in time",
    "crash": "the simulator ended unexpectedly, twice",
}
"""Class -> what it means."""


IK_WORDS = ("out of reach", "joint limit", "singular")
"""How ``phototwin.plan.ik`` says that a pose cannot be had."""


def failure_class(failure: str) -> str:
    """The class of what an episode tells of its failure: the word before a colon."""
    word = failure.partition(":")[0].strip()
    return word if word in CLASSES else "plan"


def plan_failure(message: str) -> str:
    """What an attempt tells where planning ended with a message: "ik" where the arm cannot get there, else "plan"."""
    return f"{'ik' if any(words in message for words in IK_WORDS) else 'plan'}: {message}"
