"""What the robot is told, as a task: an English sentence about the things in the scene -> ``Task``.

The grammar is small and it refuses what it does not know, naming what it does: a wrong guess costs a whole run.
"""

from __future__ import annotations

import numpy as np

from phototwin.errors import InstructionError
from phototwin.plan.grammar import read_steps
from phototwin.plan.propose_fits import fits_in, fits_on
from phototwin.plan.task import Task, check_task
from phototwin.scene import SceneObject

GRASPABLE_M = 0.075
"""Narrow side that most parallel grippers take; only used to suggest a task."""


def parse_instruction(text: str, objects: tuple[SceneObject, ...], T_world_camera: np.ndarray | None = None) -> Task:
    """The task that an English sentence asks for.

    Args:
        text: The sentence, or several.
        objects: What there is.
        T_world_camera: The photo's camera, (4, 4), from which left, right, near and far are seen; without it along the world's X.

    Raises:
        InstructionError: It names nothing in the scene or several things, or asks for what no task can do.
    """
    steps, note = read_steps(text, objects, T_world_camera)
    return check_task(Task(steps, text, note), objects)


def default_instruction(objects: tuple[SceneObject, ...]) -> str:
    """The instruction for a scene when none is given: place the smallest graspable thing, or pick up the only one.

    Raises:
        InstructionError: The scene is empty.
    """
    if not objects:
        raise InstructionError("There is nothing on the support, so there is nothing to do.")
    small = sorted(objects, key=lambda item: (not _graspable(item), float(item.size_m.prod()), item.key))
    moved = small[0]
    for relation, fits in (("in", fits_in), ("on", fits_on)):
        for target in small[:0:-1]:
            if fits(moved, target):
                return f"put the {moved.name} {relation} the {target.name}"
    if len(objects) > 1 and _graspable(moved):
        return f"put the {moved.name} next to the {small[1].name}"
    return f"pick up the {moved.name}"


def _graspable(item: SceneObject) -> bool:
    """Whether most grippers take it, going by its size: across its narrow side, or at the rim."""
    return item.hollow or float(item.size_m[:2].min()) <= GRASPABLE_M
