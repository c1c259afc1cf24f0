"""What the robot shall do, as data: a task is a chain of steps, each a skill with the objects it is about."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from phototwin.errors import InstructionError
from phototwin.nouns import noun_of
from phototwin.scene import SceneObject

SKILLS = ("lift", "place", "stack", "push", "pour", "upright")
RELATIONS = {
    "lift": (),
    "place": ("on", "in", "next to"),
    "stack": ("on",),
    "push": ("left", "right", "away", "closer", "next to"),
    "pour": ("in", "on"),
    "upright": (),
}
"""Relations that a skill knows; left and right are as seen in the photo, away and closer from its camera."""
MAX_PART = 60
"""Longer texts name no part of a thing."""
FAMILIES = (*SKILLS, "sequence")
MAX_STEPS = 8
"""An episode of more steps takes minutes, and hardly any attempt gets through all of them."""
TARGETLESS = ("left", "right", "away", "closer")
POURED = ("filled", "carton", "ceramic")
"""Materials of nouns for what holds something that can be poured: bottles, packets, crockery."""


@dataclass(frozen=True)
class Step:
    """One skill.

    Attributes:
        skill: One of ``SKILLS``.
        object: Key of the object that is moved.
        relation: One of the skill's ``RELATIONS``; None where the skill has none.
        target: Key of the object it is moved in relation to, or None.
        part: Words for the part of the object at which it is grasped ("handle", "red part"), see ``query.find_region``; "" anywhere.
    """

    skill: str
    object: str
    relation: str | None = None
    target: str | None = None
    part: str = ""


@dataclass(frozen=True)
class Task:
    """Steps to be done one after another.

    Attributes:
        steps: At least one.
        text: The instruction as it was given.
        note: Which of its words were taken loosely, and for what; empty where it names things by their names.
        planner: What made the steps of the text: "grammar", or a model's name.
    """

    steps: tuple[Step, ...]
    text: str
    note: str = ""
    planner: str = "grammar"

    @property
    def family(self) -> str:
        """The family of environments that does it: the skill of its steps, "sequence" where they differ or follow one another."""
        skills = {step.skill for step in self.steps}
        alone = len(self.steps) == 1 or skills == {"stack"}
        return self.steps[0].skill if alone else "sequence"

    @property
    def keys(self) -> tuple[str, ...]:
        """Keys of all objects it is about, in the order in which they come up."""
        named = [key for step in self.steps for key in (step.object, step.target) if key]
        return tuple(dict.fromkeys(named))


def describe_task(task: Task) -> dict[str, str]:
    """What a dataset records of a task: its family, what the first step is about, and all steps where there are several."""
    first = task.steps[0]
    value = {"family": task.family, "object": first.object}
    if first.relation:
        value["relation"] = first.relation
    if first.target:
        value["target"] = first.target
    if len(task.steps) > 1:
        value["steps"] = json.dumps([asdict(step) for step in task.steps])
    return value


def check_task(task: Task, objects: tuple[SceneObject, ...], open_words: bool = False) -> Task:
    """``task``, whose steps make sense for these objects; every planner's answer passes through here.

    Args:
        task: The task.
        objects: What there is.
        open_words: Parts may have any name, as there is a model that looks for them.

    Raises:
        InstructionError: A skill, object, relation or part is unknown or does not fit; the message names the choices.
    """
    count = len(task.steps)
    if not 1 <= count <= MAX_STEPS:
        raise InstructionError(
            f"'{task.text}' takes {count} steps; expected 1 to {MAX_STEPS}: make several tasks of it."
        )
    by_key = {item.key: item for item in objects}
    for number, step in enumerate(task.steps, 1):
        if problem := _problem(step, by_key, open_words):
            where = f"Step {number} of '{task.text}': " if count > 1 else ""
            raise InstructionError(where + problem)
    return task


def _problem(step: Step, by_key: dict[str, SceneObject], open_words: bool) -> str:
    """What is wrong with a step, or nothing."""
    choices = ", ".join(by_key) or "nothing"
    if step.skill not in SKILLS:
        return f"'{step.skill}' is no skill. Choose one of {', '.join(SKILLS)}."
    if step.object not in by_key:
        return f"There is no object '{step.object}'. Choose one of {choices}."
    if problem := _relation_problem(step):
        return problem
    item = by_key[step.object]
    if len(step.part) > MAX_PART:
        return f"The part '{step.part[:MAX_PART]}...' has {len(step.part)} characters, at most {MAX_PART}."
    if step.part and not open_words and (problem := _part_problem(item, step.part)):
        return problem
    if step.skill == "pour" and not holds_something(item):
        return f"Nothing can be poured out of the {item.name}: it is no vessel. {_hollow(by_key)}"
    if step.target is None:
        return ""
    if step.target not in by_key:
        return f"There is no object '{step.target}'. Choose one of {choices}."
    target = by_key[step.target]
    if target.key == item.key:
        return f"The {item.name} would go {step.relation} itself: name two different things."
    if step.relation == "in" and not target.hollow:
        return f"The {target.name} is not hollow, so nothing goes in it. {_hollow(by_key)}"
    return ""


def _relation_problem(step: Step) -> str:
    """What is wrong with the relation of a step, and with whether it has a target."""
    allowed = RELATIONS[step.skill]
    if not allowed and (step.relation or step.target):
        return f"{step.skill} takes the object alone, without a relation ('{step.relation}') and a target ('{step.target}')."
    if allowed and step.relation not in allowed:
        return f"'{step.relation}' is no relation of {step.skill}. Choose one of {', '.join(allowed)}."
    wants = bool(allowed) and step.relation not in TARGETLESS
    if wants and step.target is None:
        return f"{step.skill} '{step.relation}' needs a target."
    if not wants and step.target is not None:
        return f"{step.skill} '{step.relation}' is a direction and takes no target ('{step.target}')."
    return ""


def keypoint_names(item: SceneObject) -> tuple[str, ...]:
    """Keypoints at which a plan can ask for an object to be grasped."""
    from phototwin.plan.keypoints import find_keypoints  # brings Warp

    return find_keypoints(item).names


def _part_problem(item: SceneObject, part: str) -> str:
    """Why an object has no such part, or nothing."""
    from phototwin.plan.query_words import missing_part  # brings Warp

    return missing_part(item, part)


def holds_something(item: SceneObject) -> bool:
    """True for what something can be poured out of: vessels, and round or carton things that may be full."""
    noun = noun_of(item.name)
    full = noun is not None and (noun.hollow is not False or noun.material in POURED)
    return item.hollow or full or (noun is None and item.shape in ("box", "cylinder", "revolution"))


def _hollow(by_key: dict[str, SceneObject]) -> str:
    return f"Hollow: {', '.join(item.name for item in by_key.values() if item.hollow) or 'nothing here'}."
