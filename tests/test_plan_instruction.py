"""The grammar: what it accepts, and the one clear sentence for everything else."""

from dataclasses import replace

import numpy as np
import pytest
from synthetic import mug_mesh

from phototwin.errors import InstructionError
from phototwin.plan.instruction import default_instruction, parse_instruction
from phototwin.scene import Mesh, SceneObject

EMPTY = Mesh(np.zeros((0, 3), np.float32), np.zeros((0, 3), np.int32), np.zeros((0, 3, 2), np.float32))


def make(name, shape="box", hollow=False, size=(0.04, 0.04, 0.04), color=(0.5, 0.5, 0.5)):
    key = name.replace(" ", "_")
    return SceneObject(name, key, shape, hollow, np.eye(4), np.array(size), np.array(color), EMPTY, (), 0.1)


GREEN = make("green cube")
YELLOW = make("yellow cube")
RED = make("red box", size=(0.16, 0.06, 0.2))
BOWL = make("white bowl", "revolution", True, (0.16, 0.16, 0.06))
CAN = make("can", "cylinder", size=(0.066, 0.066, 0.122), color=(0.8, 0.1, 0.1))
MUG = replace(make("blue mug", "revolution", True, (0.09, 0.09, 0.11)), mesh=mug_mesh())
SCENE = (GREEN, YELLOW, RED, BOWL, CAN, MUG)

ACCEPTED = [
    ("pick up the green cube", ("lift", "green_cube", None, None)),
    ("Please pick the green cube up.", ("lift", "green_cube", None, None)),
    ("Could you grab the can, please?", ("lift", "can", None, None)),
    ("can you lift the can", ("lift", "can", None, None)),
    ("pick up the can from the table", ("lift", "can", None, None)),
    ("raise the cylinder", ("lift", "can", None, None)),
    ("take the red can", ("lift", "can", None, None)),
    ("lift the red box", ("lift", "red_box", None, None)),
    ("lift the box", ("lift", "red_box", None, None)),
    ("grab the cup", ("lift", "blue_mug", None, None)),
    ("pick up the blue one", ("lift", "blue_mug", None, None)),
    ("pick up the green block", ("lift", "green_cube", None, None)),
    ("put the green cube on the yellow cube", ("place", "green_cube", "on", "yellow_cube")),
    ("stack the green cube on top of the yellow one", ("stack", "green_cube", "on", "yellow_cube")),
    ("Place the green cube onto the red box", ("place", "green_cube", "on", "red_box")),
    ("drop the yellow block into the bowl", ("place", "yellow_cube", "in", "white_bowl")),
    ("put the can inside the white bowl", ("place", "can", "in", "white_bowl")),
    ("move the can next to the mug", ("place", "can", "next to", "blue_mug")),
    ("set the can down beside the red box", ("place", "can", "next to", "red_box")),
    ("put the green cube near the bowl", ("place", "green_cube", "next to", "white_bowl")),
    ("pick up the green cube and put it on the yellow cube", ("place", "green_cube", "on", "yellow_cube")),
]

REFUSED = [
    ("", "empty"),
    ("pick up the banana", "green cube, yellow cube, red box, white bowl, can, blue mug"),
    ("pick up the elephant", "Nothing in the photo is called 'the elephant'"),
    ("pick up the purple cube", "Nothing in the photo is called"),
    ("pick up the cube", "green cube or the yellow cube"),
    ("pick up it", "Say which"),
    ("pick up the cubes", "more than one thing"),
    ("pick up all", "more than one thing"),
    ("pick up the can and the mug", "more than one thing"),
    ("pick up", "does not say what to pick up"),
    ("paint the green cube", "What can be done"),
    ("the green cube", "What can be done"),
    ("put the green cube on the green cube", "itself"),
    ("put the can in the red box", "not hollow"),
    ("put the green cube", "does not say where"),
    ("put the green cube on", "does not say on what"),
    ("put the green cube on the table", "Nothing in the photo is called"),
    ("put on the mug", "does not say what to put"),
]


@pytest.mark.parametrize(("text", "expected"), ACCEPTED, ids=[text for text, _ in ACCEPTED])
def test_accepted(text, expected):
    task = parse_instruction(text, SCENE)
    (step,) = task.steps
    assert (step.skill, step.object, step.relation, step.target) == expected
    assert task.text == text


@pytest.mark.parametrize(("text", "part"), REFUSED, ids=[text for text, _ in REFUSED])
def test_refused_with_a_reason(text, part):
    with pytest.raises(InstructionError) as caught:
        parse_instruction(text, SCENE)
    assert part in str(caught.value)


def test_nouns_that_only_the_shape_allows_are_noted():
    things = (
        make("white cylinder", "cylinder", size=(0.064, 0.064, 0.122)),
        make("red cylinder", "cylinder", size=(0.08, 0.08, 0.078)),
        make("green block", "extrusion", size=(0.101, 0.079, 0.02)),
    )
    task = parse_instruction("put the can on the sponge", things)
    assert (task.steps[0].object, task.steps[0].target) == ("white_cylinder", "green_block")
    assert "'can' was taken for" not in task.text and task.note.count("because of its shape") == 2
    assert parse_instruction("pick up the apple", things).steps[0].object == "red_cylinder"
    assert parse_instruction("pick up the white cylinder", things).note == ""
    with pytest.raises(InstructionError, match="white cylinder or the red cylinder"):
        parse_instruction("pick up the cylinder", things)


def test_every_object_is_found_by_its_own_name():
    for item in SCENE:
        assert parse_instruction(f"pick up the {item.name}", SCENE).steps[0].object == item.key


@pytest.mark.parametrize(
    ("objects", "expected"),
    [
        ((GREEN, YELLOW), "put the green cube on the yellow cube"),
        ((GREEN, BOWL), "put the green cube in the white bowl"),
        ((BOWL, GREEN, RED), "put the green cube in the white bowl"),
        ((GREEN, RED), "put the green cube next to the red box"),
        ((CAN,), "pick up the can"),
    ],
)
def test_default_is_understood_by_the_grammar(objects, expected):
    text = default_instruction(objects)
    assert text == expected
    parse_instruction(text, objects)


def test_default_of_an_empty_scene_is_refused():
    with pytest.raises(InstructionError, match="nothing"):
        default_instruction(())
