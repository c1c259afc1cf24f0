"""What the robot shall do, as data: a task is a chain of steps, each a skill with the objects it is about."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

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
PARTS = ("", "rim", "handle", "side", "top")
"""Where an object may be asked to be grasped; "" anywhere."""
FAMILIES = (*SKILLS, "sequence")


@dataclass(frozen=True)
class Step:
    """One skill.

    Attributes:
        skill: One of ``SKILLS``.
        object: Key of the object that is moved.
        relation: One of the skill's ``RELATIONS``; None where the skill has none.
        target: Key of the object it is moved in relation to, or None.
        part: Part of the object at which it is grasped, one of ``PARTS``.
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
