"""Words -> typed plan, by the grammar or by a model that sees the photo; whatever answers, the plan is checked the same way."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Protocol, cast

import numpy as np

from phototwin.errors import InputError, InstructionError, TwinError
from phototwin.plan.grammar import read_steps
from phototwin.plan.query import DEFAULT
from phototwin.plan.task import Task, check_task
from phototwin.resolve import resolve
from phototwin.scene import Scene


class Planner(Protocol):
    """Makes a typed plan of an instruction."""

    def __call__(self, text: str, scene: Scene, photo_rgb: np.ndarray, /) -> Task:
        """The task that ``text`` asks for in a scene, of which ``photo_rgb`` (H, W, 3) uint8 is the photo.

        Raises:
            InstructionError: It cannot be done, or no usable plan came back.
        """
        ...


PLANNERS = {
    "grammar": "phototwin.plan.planner:make_grammar",
    "vlm": "phototwin.plan.planner_vlm:make_vlm",
    "endpoint": "phototwin.plan.planner_endpoint:make_endpoint",
}
"""Name -> function that makes the planner, given what follows "=" in the name."""


def make_plan(
    text: str,
    scene: Scene,
    photo_rgb: np.ndarray | None = None,
    planner: str | Planner = "grammar",
    query: str = DEFAULT,
) -> Task:
    """The typed plan of an instruction about a scene.

    Args:
        text: The instruction.
        scene: The twin.
        photo_rgb: Its photo, (H, W, 3) uint8; read from the twin where it is None and the planner looks at it.
        planner: Name ("grammar", "vlm", "vlm=FOLDER", "endpoint", "endpoint=MODEL", "module:Attr"), or what ``choose_planner`` made.
        query: What finds parts that are named; only "words" says beforehand which it knows.

    Raises:
        InstructionError: It cannot be done in this scene, or the planner gave no usable plan.
        InputError: The planner is unknown, or lacks its weights or its address.
    """
    if not text.strip():
        raise InstructionError("The instruction is empty: say what to do, as in 'pick up the X'.")
    chosen = choose_planner(planner) if isinstance(planner, str) else planner
    who = planner if isinstance(planner, str) else getattr(planner, "name", type(planner).__name__)
    if photo_rgb is None and chosen is not plan_by_grammar:
        from phototwin.images import load_rgb

        photo_rgb = load_rgb(scene.path(scene.photo))
    try:
        task = chosen(text, scene, np.zeros((0, 0, 3), np.uint8) if photo_rgb is None else photo_rgb)
    except TwinError:
        raise
    except Exception as error:  # memory, drivers, other people's code
        first = (str(error).strip().splitlines() or [""])[0][:200]
        raise InstructionError(
            f"The planner '{who}' failed ({type(error).__name__}: {first}): choose another, such as grammar."
        ) from error
    if not isinstance(task, Task):
        raise InstructionError(
            f"The planner '{who}' returned a {type(task).__name__}, expected a Task: choose another."
        )
    return check_task(replace(task, text=text), scene.objects, open_words=query != DEFAULT)


def choose_planner(name: str = "grammar") -> Planner:
    """The planner of that name, ready for many instructions; a model is loaded when it is first asked.

    Args:
        name: One of ``PLANNERS``, for some with "=" and a model ("vlm=FOLDER"), or "module:Attr" of a callable planner.

    Raises:
        InputError: It is unknown, or lacks its weights or its address.
    """
    kind, equals, option = name.partition("=")
    if kind in PLANNERS:
        if equals and not option:
            raise InputError(f"The planner '{name}' names no model: leave out the '=', or say which.")
        return resolve(kind, PLANNERS, "planner")(option)
    found = resolve(name, PLANNERS, "planner")
    planner: Any = found() if isinstance(found, type) else found
    if not callable(planner):
        raise InputError(f"The planner '{name}' is a {type(planner).__name__} and cannot be called.")
    return cast(Planner, planner)


def make_grammar(option: str = "") -> Planner:
    """The grammar; it takes no option."""
    if option:
        raise InputError(f"The grammar takes no model, got '{option}': say 'grammar'.")
    return plan_by_grammar


def plan_by_grammar(text: str, scene: Scene, photo_rgb: np.ndarray) -> Task:
    """What the grammar reads, with left and right as the photo's camera sees them."""
    steps, note = read_steps(text, scene.objects, scene.camera.T_world_camera)
    return Task(steps, text, note)
