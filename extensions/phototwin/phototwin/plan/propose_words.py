"""Steps -> an English instruction, worded differently by seed, that the grammar reads back as the same steps."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import numpy as np

from phototwin.errors import InstructionError
from phototwin.nouns import COLORS, NOUNS, SIZE_SLACK, noun_of
from phototwin.plan.instruction import parse_instruction
from phototwin.plan.task import Step, Task
from phototwin.scene import Scene, SceneObject

DRAWS = 12
"""Wordings that are tried before the plainest one is taken."""
PLAIN_SHARE = 0.4
"""How often a thing is called by its very name: most people do."""
POLITE_SHARE = 0.15
VERBS = {
    "lift": ("pick up {o}", "lift {o}", "grab {o}", "take {o}", "pick {o} up", "raise {o}", "grasp {o}", "pick up {o} from the table"),
    "on": ("put {o} on {t}", "place {o} on {t}", "set {o} on {t}", "put {o} on top of {t}", "place {o} onto {t}", "pick up {o} and put it on {t}", "move {o} onto {t}"),
    "in": ("put {o} in {t}", "place {o} in {t}", "drop {o} into {t}", "put {o} into {t}", "place {o} inside {t}", "pick up {o} and put it in {t}", "move {o} into {t}"),
    "next to": ("put {o} next to {t}", "place {o} beside {t}", "move {o} next to {t}", "set {o} down next to {t}", "put {o} close to {t}", "pick up {o} and place it next to {t}"),
    "stack": ("stack {o} on {t}", "stack {o} on top of {t}", "pile {o} on {t}"),
    "left": ("push {o} to the left", "slide {o} to the left", "push {o} left", "shove {o} to the left", "move {o} to the left"),
    "right": ("push {o} to the right", "slide {o} to the right", "push {o} right", "shove {o} to the right", "move {o} to the right"),
    "away": ("push {o} away", "push {o} away from the camera", "slide {o} further away", "shove {o} away", "slide {o} away from you"),
    "closer": ("push {o} closer", "pull {o} closer", "slide {o} towards the camera", "push {o} towards you", "drag {o} closer to the camera"),
    "push": ("push {o} towards {t}", "push {o} next to {t}", "slide {o} up to {t}", "push {o} against {t}", "slide {o} next to {t}"),
    "pour": ("pour {o} into {t}", "pour the contents of {o} into {t}", "empty {o} into {t}", "pour from {o} into {t}", "tip {o} out into {t}"),
    "pour on": ("pour {o} over {t}", "tip {o} over {t}", "empty {o} over {t}"),
    "upright": ("stand {o} up", "stand {o} upright", "set {o} upright", "put {o} upright", "turn {o} upright"),
}  # fmt: skip
"""Sentences by what a step does, the plainest first."""
PARTS = {"rim": ("by the rim", "by its rim"), "handle": ("by the handle", "by its handle"), "side": ("by its side", "from the side"), "top": ("from above", "by the top")}  # fmt: skip
SPELLINGS = {"gray": "grey", "purple": "violet", "teal": "turquoise"}
"""Colours that have two words."""
JOINTS = (", then ", " and then ", "; then ", ". Then ", ", and ")


def word_task(
    steps: Sequence[Step], scene: Scene, names: dict[str, tuple[str, ...]], rng: np.random.Generator
) -> Task | None:
    """The task of these steps, worded by chance; None where the grammar reads no wording back as the same steps.

    A wording counts where it means the same with and without the photo's camera, and nothing in it is taken loosely.

    Args:
        steps: What to say.
        scene: The twin.
        names: ``phrases`` by object key, for all objects.
        rng: Chooses the words.
    """
    for draw in range(DRAWS + 1):
        text = _sentence(steps, names, scene, rng, plainest=draw == DRAWS)
        task = read_back(text, steps, scene)
        if task is not None:
            return task
    return None


def read_back(text: str, steps: Sequence[Step], scene: Scene) -> Task | None:
    """The task of a text where the grammar reads just these steps from it, whatever it knows of the camera."""
    try:
        seen = parse_instruction(text, scene.objects, scene.camera.T_world_camera)
        blind = parse_instruction(text, scene.objects)
    except InstructionError:
        return None
    return seen if seen.steps == blind.steps == tuple(steps) and not seen.note else None


def _sentence(
    steps: Sequence[Step], names: dict[str, tuple[str, ...]], scene: Scene, rng: np.random.Generator, plainest: bool
) -> str:
    """One wording of the steps."""

    def pick(options: Sequence[str]) -> str:
        return options[0] if plainest else options[int(rng.integers(len(options)))]

    def name(key: str) -> str:
        options = names[key]
        return options[0] if plainest or rng.random() < PLAIN_SHARE else pick(options)

    if len(steps) > 1 and all(step.skill == "stack" for step in steps) and not plainest and rng.random() < 0.7:
        return _tower(steps, names, scene, pick, name)
    said = []
    for step in steps:
        sentence = pick(VERBS[_kind(step)]).format(o=name(step.object), t=name(step.target) if step.target else "")
        said.append(sentence + (f" {pick(PARTS[step.part])}" if step.part else ""))
    text = said[0]
    for more in said[1:]:
        joint = pick(JOINTS)
        text += joint + more
    if plainest or rng.random() >= POLITE_SHARE:
        return text
    return pick((f"please {text}", f"{text[0].upper()}{text[1:]}.", f"could you {text}?"))


def _tower(
    steps: Sequence[Step],
    names: dict[str, tuple[str, ...]],
    scene: Scene,
    pick: Callable[[Sequence[str]], str],
    name: Callable[[str], str],
) -> str:
    """One wording of several things stacked on one another."""
    keys = [str(steps[0].target), *(step.object for step in steps)]  # from the bottom up
    plural = plural_of([scene.object(key) for key in keys])
    if plural:
        return pick(
            (
                f"stack the {plural}",
                f"build a tower of the {plural}",
                f"pile up the {plural}",
                f"stack the {plural} on top of each other",
            )
        )
    return f"stack {' on '.join(name(key) for key in reversed(keys))}"


def _kind(step: Step) -> str:
    """Which sentences say what a step does."""
    if step.skill == "place":
        return str(step.relation)
    if step.skill == "push":
        return "push" if step.relation == "next to" else str(step.relation)
    return "pour on" if (step.skill, step.relation) == ("pour", "on") else step.skill


def phrases(item: SceneObject, scene: Scene) -> tuple[str, ...]:
    """Ways to name a thing, its own name first: other nouns and spellings for it, no colour, how large it is.

    None says where it stands: attempts move things about, and the words are recorded with each of them.
    """
    *others, last = item.name.lower().split() or [item.key]
    nouns = [last, *_synonyms(last, item)]
    fronts = [others, *([spelling, *others[1:]] for color, spelling in SPELLINGS.items() if others[:1] == [color])]
    options = [f"the {item.name}", *(f"the {' '.join([*front, noun])}" for noun in nouns for front in fronts)]
    bare = [word for word in others if word not in COLORS]
    options += [f"the {' '.join([*bare, noun])}" for noun in nouns]
    options += [f"the {others[0]} one"] if others and others[0] in COLORS else []
    if sum(noun_of(other.name) is noun_of(item.name) for other in scene.objects) > 1:
        options += [f"the {which} {last}" for which in ("small", "large", "bigger", "smaller")]
    lift = (Step("lift", item.key),)
    good = [option for option in dict.fromkeys(options) if read_back(f"pick up {option}", lift, scene)]
    return tuple(good) or (f"the {item.name}",)


def _synonyms(word: str, item: SceneObject) -> list[str]:
    """Other nouns for a thing: those that mean the same, and those that its size and proportions suit as well."""
    own = next((noun for noun in NOUNS if word in noun.words), None)
    if own is None:
        return []
    c, b, a = np.sort(item.size_m)
    near = [noun for noun in NOUNS if set(noun.words) & set(own.also)]
    suited = [
        noun.words[0]
        for noun in near
        if noun.long[0] <= a / b <= noun.long[1] and noun.flat[0] <= b / c <= noun.flat[1]
        and abs(np.log(a / noun.typical_m)) < np.log(SIZE_SLACK)
    ]  # fmt: skip
    return [other for other in (*own.words[:2], *suited) if other != word]


def plural_of(items: Sequence[SceneObject]) -> str:
    """The plural noun that all of these things share as the last word of their names; empty where there is none."""
    nouns = {(item.name.lower().split() or [""])[-1] for item in items}
    if len(nouns) > 1 or not re.fullmatch(r"[a-z]+", noun := nouns.pop()):
        return ""
    return noun + ("es" if noun.endswith(("s", "x", "ch", "sh")) else "s")
