"""The grammar beyond one pick or place: every skill, chains, pronouns, plurals, parts, places and sizes as seen, and refusals."""

import re
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic import box_mesh, look_at, planar_st
from test_plan_instruction import BOWL, CAN, GREEN, MUG, RED, SCENE, YELLOW, make

from phototwin.errors import InstructionError
from phototwin.frames import make_T
from phototwin.plan.grammar import read_steps
from phototwin.plan.grammar_words import MAX_TEXT
from phototwin.plan.instruction import parse_instruction
from phototwin.plan.task import MAX_STEPS, Step, check_task
from phototwin.scene import Mesh

BOTTLE = make("brown bottle", "revolution", size=(0.24, 0.07, 0.07), color=(0.4, 0.25, 0.1))
ALL = (*SCENE, BOTTLE)


def short(step):
    """A step as words."""
    words = (step.skill, step.object, step.relation, step.target, step.part)
    return " ".join(word for word in words if word)


def read(text, objects=ALL, camera=None):
    return [short(step) for step in parse_instruction(text, objects, camera).steps]


ONE_STEP = {
    "push green_cube left": [
        "push the green cube to the left", "push the green cube left", "slide the green cube to the left side", "shove the green cube a bit to the left",
        "nudge the green cube leftwards", "move the green cube to the left", "push the green cube towards the left", "Could you push the green cube over to the left?",
    ],
    "push can right": ["push the can to the right", "drag the can slightly to the right", "sweep the can to your right", "push the can to the right hand side"],
    "push can away": ["push the can away", "push the can away from the camera", "push the can further away", "shove the can away from me", "slide the can to the back"],
    "push can closer": ["pull the can closer", "push the can towards you", "drag the can nearer", "pull the can towards the camera", "slide the can closer to me", "push the can to the front"],
    "push red_box next to white_bowl": ["push the red box towards the bowl", "push the box next to the bowl", "slide the box up to the bowl", "shove the red box against the bowl", "push the red box to the bowl"],
    "pour blue_mug in white_bowl": [
        "pour the mug into the bowl", "pour the water from the mug into the bowl", "pour the contents of the mug in the bowl", "pour out the mug into the bowl", "empty the mug into the bowl",
        "pour some coffee out of the mug into the bowl", "fill the bowl with the mug", "fill up the bowl from the mug", "pour from the mug into the bowl", "tip the mug out into the bowl",
    ],
    "pour can on red_box": ["pour the can over the red box", "tip the can over the red box", "empty the can onto the red box"],
    "upright brown_bottle": [
        "stand the bottle up", "stand the bottle upright", "put the bottle upright", "set the bottle upright", "set the bottle up", "reorient the bottle", "turn the bottle upright", "right the bottle",
        "stand up the bottle", "flip the bottle right side up", "straighten the bottle", "put the bottle on its base", "upright the bottle", "put the bottle back upright",
    ],
    "stack green_cube on yellow_cube": ["stack the green cube on the yellow cube", "pile the green cube onto the yellow one", "stack the green cube on top of the yellow cube", "stack up the green cube on the yellow cube"],
    "lift blue_mug handle": ["pick up the mug by its handle", "grasp the mug by the handle", "grab the handle of the mug", "grab the mug's handle", "take hold of the mug by its handle", "lift the mug at the handle"],
    "lift blue_mug rim": ["grasp the mug by the rim", "hold the blue mug by the lip"],
    "lift blue_mug edge": ["pick the mug up by its edge", "grab the edge of the mug"],
    "lift can top": ["pick up the can from above", "grab the can at the top"],
    "lift can side": ["pick up the can by its side", "grasp the can from the side", "hold the can around its body"],
    "lift can": ["get the can", "fetch the can, please", "pick up the can from the counter", "lift the can off the table", "hold up the can", "okay robot, now pick up the can"],
    "place can in white_bowl": ["get the can into the bowl", "take the can into the bowl", "pick up the can and put it in the bowl", "pick the can up, then drop it into the bowl", "grab the can. Put it in the bowl.", "insert the can in the bowl"],
    "place can on red_box": ["stand the can on the red box", "pick up the can and set it down on the red box", "the can".join(["lay ", " on the red box"])],
    "place blue_mug on red_box rim": ["pick up the mug by the rim and put it on the red box", "put the mug on the red box by its rim".replace(" on the red box by its rim", " by its rim on the red box")],
}  # fmt: skip
SENTENCES = [(text, expected) for expected, texts in ONE_STEP.items() for text in texts]


@pytest.mark.parametrize(("text", "expected"), SENTENCES, ids=[text for text, _ in SENTENCES])
def test_one_step(text, expected):
    if text.startswith("take hold"):
        text = text.replace("take hold of", "take")
    assert read(text) == [expected]


CHAINS = [
    ("pick up the can and put it in the bowl, then push the green cube to the left", "place can in white_bowl; push green_cube left"),
    ("Pick up the can. Put it in the bowl. Then stack the cubes.", "place can in white_bowl; stack yellow_cube on green_cube"),
    ("push the can to the left; pour the mug into the bowl; stand the bottle up", "push can left; pour blue_mug in white_bowl; upright brown_bottle"),
    ("put the can in the bowl and lift the mug", "place can in white_bowl; lift blue_mug"),
    ("pick up the can, then lift the mug", "lift can; lift blue_mug"),
    ("first push the can away, then pull it closer, and finally pick it up", "push can away; push can closer; lift can"),
    ("pick up the mug, pour it into the bowl, and put it next to the can", "pour blue_mug in white_bowl; place blue_mug next to can"),
    ("stand the bottle up and then pick it up by its side", "upright brown_bottle; lift brown_bottle side"),
    ("put the bottle upright on the red box", "upright brown_bottle; place brown_bottle on red_box"),
    ("put the green cube in the bowl and the can on the red box", "place green_cube in white_bowl; place can on red_box"),
    ("put the green cube in the bowl and then the yellow one", "place green_cube in white_bowl; place yellow_cube in white_bowl"),
    ("push the yellow cube to the mug and then the can to the left", "push yellow_cube next to blue_mug; push can left"),
    ("put the green cube on the red box, then put the can next to it", "place green_cube on red_box; place can next to green_cube"),
    ("put the can next to the mug and push it to the left", "place can next to blue_mug; push can left"),
    ("pick up the mug by the handle and pour it into the bowl", "pour blue_mug in white_bowl handle"),
    ("stack the cubes, then put the can in the bowl, after that push the red box to the right", "stack yellow_cube on green_cube; place can in white_bowl; push red_box right"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), CHAINS, ids=[text for text, _ in CHAINS])
def test_chains(text, expected):
    assert "; ".join(read(text)) == expected
    task = parse_instruction(text, ALL)
    skills = {step.skill for step in task.steps}
    assert task.family == ("sequence" if len(task.steps) > 1 and skills != {"stack"} else task.steps[0].skill)


MANY = [
    ("stack the cubes", "stack yellow_cube on green_cube"),
    ("stack the two cubes on top of each other", "stack yellow_cube on green_cube"),
    ("build a tower of the cubes", "stack yellow_cube on green_cube"),
    ("pile up the cubes", "stack yellow_cube on green_cube"),
    ("make a stack with the green cube, the yellow cube and the red box", "stack green_cube on red_box; stack yellow_cube on green_cube"),
    ("stack the green cube on the yellow cube on the red box", "stack yellow_cube on red_box; stack green_cube on yellow_cube"),
    ("stack the cubes on the red box", "stack green_cube on red_box; stack yellow_cube on green_cube"),
    ("stack the green and yellow cubes", "stack yellow_cube on green_cube"),
    ("put both cubes in the bowl", "place green_cube in white_bowl; place yellow_cube in white_bowl"),
    ("put all the cubes into the bowl", "place green_cube in white_bowl; place yellow_cube in white_bowl"),
    ("put the can and the green cube in the bowl", "place can in white_bowl; place green_cube in white_bowl"),
    ("push both cubes to the left", "push green_cube left; push yellow_cube left"),
    ("push the cubes away and then put them in the bowl", "push green_cube away; push yellow_cube away; place green_cube in white_bowl; place yellow_cube in white_bowl"),
    ("put the cubes next to each other", "place yellow_cube next to green_cube"),
    ("push the can and the red box together", "push red_box next to can"),
    ("put the green cube on the other cube", "place green_cube on yellow_cube"),
    ("put the yellow cube on the other one", "place yellow_cube on green_cube"),
    ("stand the can and the bottle up", "upright can; upright brown_bottle"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), MANY, ids=[text for text, _ in MANY])
def test_several_things_at_once(text, expected):
    assert "; ".join(read(text)) == expected


def test_everything_but_the_target():
    things = (GREEN, BOWL, CAN)
    assert read("put everything in the bowl", things) == ["place green_cube in white_bowl", "place can in white_bowl"]


def test_the_widest_is_at_the_bottom_of_a_tower():
    big = make("blue cube", size=(0.07,) * 3)
    small = make("white cube", size=(0.03,) * 3)
    assert read("stack the cubes", (GREEN, small, big)) == [
        "stack green_cube on blue_cube",
        "stack white_cube on green_cube",
    ]


REFUSED = [
    ("don't pick up the can", "says what not to do"),
    ("put everything in the bowl except the can", "says what not to do"),
    ("pick up the can twice", "says how often"),
    ("if there is a can, pick it up", "says conditions"),
    ("put the can in the bowl before you lift the mug", "says conditions or another order"),
    ("put the can in the bowl after lifting the mug", "another order"),
    ("push the can 10 cm to the left", "says how far"),
    ("lift the can by two centimeters", "says how far"),
    ("push the can forward", "can mean several ways: say 'away', 'closer'"),
    ("push the can back", "can mean several ways"),
    ("push the can", "does not say where to push it"),
    ("push to the left", "does not say what to push"),
    ("push", "does not say what to push"),
    ("push the can off the table", "stays on the surface"),
    ("push the can behind the bowl", "a place 'behind' something"),
    ("push the can into the edge", "no way to push"),
    ("push the can to the left of the bowl", "no way to push"),
    ("put the can to the left of the bowl", "a place 'to the left of' something"),
    ("put the can behind the mug", "a place 'behind' something"),
    ("put the can between the mug and the bowl", "a place 'between' something"),
    ("put the can there", "does not say where"),
    ("pour the mug", "does not say into or over what"),
    ("pour the green cube into the bowl", "it is no vessel"),
    ("pour the mug into the red box", "not hollow"),
    ("pour the mug into itself", "Nothing in the photo is called 'itself'"),
    ("pour the mug into the mug", "into itself"),
    ("pour into the bowl", "does not say what to pour"),
    ("fill the bowl", "from what to fill"),
    ("turn the bottle", "does not say how to turn"),
    ("stand up", "does not say what to stand up"),
    ("stack the green cube", "on what to stack"),
    ("stack the can in the bowl", "say 'on'"),
    ("stack the green cube on the green cube", "itself"),
    ("stack", "does not say what to stack"),
    ("stack the four cubes", "what fits: green cube, yellow cube, red box"),
    ("stack the mugs", "what fits: blue mug"),
    ("put them in the bowl", "asks for more than one thing"),
    ("pick up the can by the rim", "has no rim"),
    ("pick up the other cube", "green cube or the yellow cube"),
    ("push the can to the left and it to the right and the mug", "asks for more than one thing"),
    ("pick up the can and paint it", "asks for more than one thing"),
    ("pick up the can, then dance", "'dance'"),
    ("then", "empty"),
    ("put the can on the left of it", "a place"),
    ("pick up the left", "Nothing in the photo"),
    ("open the box", "'open' in 'open the box' is not something the robot can do"),
    ("wipe the table", "'wipe'"),
    ("pick up " + "the " * 200 + "can", f"at most {MAX_TEXT}"),
    ("push the can to the left" + " then to the right" * 3, "'to'"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "part"), REFUSED, ids=[text[:60] for text, _ in REFUSED])
def test_refused_with_a_reason(text, part):
    with pytest.raises(InstructionError) as caught:
        parse_instruction(text, ALL)
    assert part in str(caught.value)


def test_a_chain_is_not_endless():
    good = "; ".join(["push the can to the left"] * MAX_STEPS)
    assert len(parse_instruction(good, ALL).steps) == MAX_STEPS
    with pytest.raises(InstructionError, match=f"more than {MAX_STEPS} steps"):
        parse_instruction(f"{good}; lift the can", ALL)


def test_pronouns_for_a_place_are_noted():
    task = parse_instruction("put the green cube on the red box, then put the can next to it", ALL)
    assert task.note == "'it' was taken for the green cube."
    assert parse_instruction("pick up the can and put it in the bowl", ALL).note == ""


def at(item, name, x, y, z=0.0, size=None):
    size = item.size_m if size is None else np.array(size)
    T = make_T(np.eye(3), np.array([x, y, z + size[2] / 2]))
    return replace(item, name=name, key=name.replace(" ", "_"), T_world_object=T, size_m=size)


PLACED = (
    at(MUG, "blue mug", 0.4, 0.2),  # near, left
    at(MUG, "white mug", 0.6, 0.0),  # far, middle
    at(MUG, "red mug", 0.5, -0.2),  # right
    at(BOWL, "big bowl", 0.7, 0.3, size=(0.2, 0.2, 0.08)),
    at(BOWL, "small bowl", 0.7, -0.3, size=(0.12, 0.12, 0.05)),
    at(GREEN, "green cube", 0.7, 0.3, 0.01),  # in the big bowl
    at(GREEN, "yellow cube", 0.42, 0.26),  # next to the blue mug
)
WHERE = {
    "blue_mug": ["left mug", "leftmost mug", "mug on the left", "mug to the left", "nearest mug", "mug closest to you", "closest mug", "mug in front", "front mug", "mug left of the white mug", "mug next to the yellow cube", "mug on the left hand side"],
    "white_mug": ["farthest mug", "mug in the middle", "middle mug", "mug farthest from the camera", "mug behind the red mug", "rear mug", "second mug from the left", "third mug from the front", "last mug from the front", "mug at the back"],
    "red_mug": ["right mug", "mug on the right", "rightmost mug", "mug to the right of the white mug"],
    "big_bowl": ["bigger bowl", "large bowl", "bowl on the left", "tallest bowl", "bowl behind the blue mug"],
    "small_bowl": ["smaller bowl", "little bowl", "bowl that is on the right", "shorter bowl"],
    "green_cube": ["cube in the big bowl", "cube inside the bigger bowl", "farthest cube", "cube that is green", "cube which is in the bowl on the left"],
    "yellow_cube": ["cube beside the blue mug", "nearest cube", "cube near the left mug"],
}  # fmt: skip
PHRASES = [(f"the {phrase}", key) for key, phrases in WHERE.items() for phrase in phrases]


@pytest.mark.parametrize(("phrase", "key"), PHRASES, ids=[phrase for phrase, _ in PHRASES])
def test_things_by_where_they_are_and_how_large(phrase, key):
    camera = look_at(np.array([0.0, 0.0, 0.5]), np.array([0.5, 0.0, 0.0]))
    for seen_from in (None, camera):  # that camera looks along the world's X too
        assert read(f"pick up {phrase}", PLACED, seen_from) == [f"lift {key}"]
    assert read(f"push {phrase} to the right", PLACED)[0] == f"push {key} right"


def test_what_only_its_place_tells_is_noted():
    notes = [
        parse_instruction(f"pick up the {phrase}", PLACED).note for phrase in ("left mug", "mug behind the red mug")
    ]
    assert notes == [
        "'left mug' was taken for the blue mug by where it stands in the photo.",
        "'mug behind the red mug' was taken for the white mug by where it stands in the photo.",
    ]
    for phrase in ("blue mug", "bigger bowl", "left blue mug"):
        assert parse_instruction(f"pick up the {phrase}", PLACED).note == ""


def test_left_and_right_are_the_cameras():
    behind = look_at(np.array([1.2, 0.0, 0.5]), np.array([0.5, 0.0, 0.0]))
    aside = look_at(np.array([0.5, 1.0, 0.5]), np.array([0.5, 0.0, 0.0]))
    assert read("pick up the left mug", PLACED, behind) == ["lift red_mug"]
    assert read("pick up the nearest mug", PLACED, behind) == ["lift white_mug"]
    assert read("pick up the right mug", PLACED, aside) == ["lift blue_mug"]
    assert read("pick up the farthest mug", PLACED, aside) == ["lift red_mug"]


@pytest.mark.parametrize(
    ("phrase", "names"),
    [
        ("the small mug", "blue mug or the white mug or the red mug"),  # equal in size
        ("the mug", "blue mug or the white mug or the red mug"),
        ("the other mug", "blue mug or the white mug or the red mug"),
        ("the mug in the small bowl", "Nothing in the photo"),
        ("the fourth mug from the left", "Nothing in the photo"),
        ("the green mug on the left", "Nothing in the photo"),
    ],
)
def test_what_does_not_stand_out_is_a_question(phrase, names):
    with pytest.raises(InstructionError) as caught:
        parse_instruction(f"pick up {phrase}", PLACED)
    assert names in str(caught.value)


def test_references_among_relations():
    """Of two relations either may say which thing is meant; what makes sense is taken."""
    assert read("put the cube next to the blue mug in the small bowl", PLACED) == ["place yellow_cube in small_bowl"]
    assert read("take the cube out of the big bowl", PLACED) == ["lift green_cube"]
    assert read("put the yellow cube in the bowl on the right", PLACED) == ["place yellow_cube in small_bowl"]
    assert read("put the left mug next to the right mug", PLACED) == ["place blue_mug next to red_mug"]
    assert read("push the yellow cube to the mug on the right", PLACED) == ["push yellow_cube next to red_mug"]
    assert read("push the mug on the right to the left", PLACED) == ["push red_mug left"]
    assert read("put the red mug on the left", PLACED) == ["push red_mug left"]


def test_a_name_with_and_in_it_is_one_thing():
    things = (replace(MUG, name="cup and saucer", key="cup_and_saucer"), GREEN)
    assert read("pick up the cup and saucer", things) == ["lift cup_and_saucer"]


def test_keypoints_are_named_where_the_thing_has_them():
    spoon_points = box_mesh(np.array([0.05, 0.05, 0.012]))[0] + np.float32([0.1, 0, 0])
    points = np.concatenate([box_mesh(np.array([0.2, 0.012, 0.01]))[0], spoon_points])
    faces = np.concatenate([box_mesh(np.ones(3))[1], box_mesh(np.ones(3))[1] + 8])
    points = points - 0.5 * (points.max(0) + points.min(0))
    mesh = Mesh(points.astype(np.float32), faces, planar_st(points, faces))
    spoon = replace(make("brown stick", "extrusion", size=tuple(np.ptp(points, axis=0))), mesh=mesh)
    assert read("pick up the spoon by its tip", (spoon, CAN)) == ["lift brown_stick tip"]
    assert read("grab the spoon by the thick end and put it next to the can", (spoon, CAN)) == [
        "place brown_stick next to can end"
    ]
    with pytest.raises(InstructionError, match=r"has no keypoint 'spout'\. Choose one of top, bottom"):
        parse_instruction("lift the spoon by its spout", (spoon, CAN))


KITCHEN = tuple(
    at(make(name, "revolution" if hollow else "box", hollow), name, x, y, size=size)
    for name, hollow, size, x, y in (
        ("carrot", False, (0.17, 0.03, 0.03), 0.3, -0.3),
        ("plate", True, (0.2, 0.2, 0.02), 0.5, -0.3),
        ("spoon", False, (0.2, 0.04, 0.02), 0.7, -0.3),
        ("green block", False, (0.04, 0.04, 0.04), 0.3, -0.1),
        ("yellow block", False, (0.05, 0.05, 0.05), 0.5, -0.1),
        ("yellow basket", True, (0.25, 0.2, 0.1), 0.3, 0.1),
        ("coke can", False, (0.066, 0.066, 0.12), 0.5, 0.1),
        ("apple", False, (0.08, 0.08, 0.08), 0.7, 0.1),
        ("black bowl", True, (0.14, 0.14, 0.06), 0.6, -0.2),
        ("small bowl", True, (0.14, 0.14, 0.06), 0.9, 0.4),
        ("ramekin", True, (0.08, 0.08, 0.04), 0.7, -0.12),
        ("alphabet soup", False, (0.066, 0.066, 0.1), 0.5, 0.3),
        ("white mug", True, (0.1, 0.08, 0.1), 0.7, 0.3),
        ("yellow and white mug", True, (0.1, 0.08, 0.1), 0.8, 0.3),
        ("left plate", True, (0.2, 0.2, 0.02), 0.8, 0.5),
        ("right plate", True, (0.2, 0.2, 0.02), 0.8, -0.5),
        ("milk", False, (0.07, 0.07, 0.18), 0.9, 0.1),
    )
)
PEOPLE = {
    "put carrot on plate": "place carrot on plate",
    "put carrot on the left plate": "place carrot on left_plate",
    "pick coke can": "lift coke_can",
    "move coke can near apple": "place coke_can next to apple",
    "pick up the bowl between the plate and the ramekin and place it on the plate": "place black_bowl on plate",
    "put both the alphabet soup and the milk in the basket": "place alphabet_soup in yellow_basket; place milk in yellow_basket",
    "put the white mug on the left plate and put the yellow and white mug on the right plate": "place white_mug on left_plate; place yellow_and_white_mug on right_plate",
    "put carrot from plate into basket": "place carrot in yellow_basket",
    "put the apple, the carrot and the spoon in the basket": "place apple in yellow_basket; place carrot in yellow_basket; place spoon in yellow_basket",
    "put the blocks in the basket and the coke can on the plate": "place green_block in yellow_basket; place yellow_block in yellow_basket; place coke_can on plate",
    "put the apple back in the basket": "place apple in yellow_basket",
    "pick up the apple with the gripper": "lift apple",
    "pick up the apple and hold it": "lift apple",
    "push the coke can gently to the left": "push coke_can left",
    "pour the milk into the black bowl then put it next to the ramekin": "pour milk in black_bowl; place milk next to ramekin",
    "tilt the white mug over the small bowl": "pour white_mug on small_bowl",
    "stack the blocks": "stack green_block on yellow_block",
    "put one block on the other": "place green_block on yellow_block",
    "put the smallest block on the biggest block": "place green_block on yellow_block",
    "put the small block on the big one": "place green_block on yellow_block",
    "push the block closest to the apple to the right": "push yellow_block right",
    "can you please put the apple into the black bowl for me?": "place apple in black_bowl",
    "You need to put the apple into the black bowl": "place apple in black_bowl",
    "The robot should put the apple in the basket.": "place apple in yellow_basket",
    "go to the apple and pick it up": "lift apple",
    "find the milk, then pour it into the black bowl": "pour milk in black_bowl",
    "pick up the apple then place on the plate": "place apple on plate",
    "pick up the apple and place in the black bowl": "place apple in black_bowl",
    "pick up apple, place it on plate, then push the can left": "place apple on plate; push coke_can left",
    "Your task is to pick up the coke can.": "lift coke_can",
}  # fmt: skip


@pytest.mark.parametrize("text", PEOPLE)
def test_as_people_and_datasets_say_it(text):
    assert "; ".join(read(text, KITCHEN)) == PEOPLE[text]


def test_any_of_several_is_noted():
    task = parse_instruction("put one block on the other", KITCHEN)
    assert task.note == "'one block' can be any: the green block was taken."
    with pytest.raises(InstructionError, match="does not say what to do"):
        parse_instruction("find the milk", KITCHEN)


WORDS = sorted(
    {w for text, *_ in (*SENTENCES, *CHAINS, *MANY, *REFUSED) for w in text.lower().split() if len(text) < 200}
)


DOCUMENTED = re.findall(r"^\| (.+?) \| ((?:lift|place|stack|push|pour|upright) .+?) \|$", (Path(__file__).parents[1] / "docs/instructions.md").read_text(), re.M)  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), DOCUMENTED)
def test_what_the_documents_say(text, expected):
    assert "; ".join(read(text)) == expected


def test_the_documents_say_something():
    assert len(DOCUMENTED) > 10


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(WORDS), max_size=14).map(" ".join) | st.text(max_size=60))
def test_whatever_is_said_is_a_checked_task_or_one_sentence(text):
    try:
        task = parse_instruction(text, PLACED)
    except InstructionError as error:
        assert len(str(error)) > 20
        return
    assert check_task(task, PLACED) is task and task.text == text


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.text(max_size=12) | st.sampled_from(["left cup", "put", "2 cubes", "the", "cup and saucer", "it", "on", "other one", "¿?"]), min_size=1, max_size=4),
    st.sampled_from(["pick up the {}", "put everything in the {}", "put the {} on the other one", "push the {} to the left", "stack the {} on it", "pour the {} into the left {}"]),
)  # fmt: skip
def test_whatever_things_are_called(names, sentence):
    things = tuple(
        replace(at(MUG, "mug", 0.1 * i, 0.1 * i), name=name, key=f"object_{i}") for i, name in enumerate(names)
    )
    for name in names:
        try:
            task = parse_instruction(sentence.format(name, name), things)
        except InstructionError:
            continue
        assert set(task.keys) <= {item.key for item in things}


STEPS = {
    "push the can to the left": Step("push", "can", "left"),
    "pour the mug into the bowl": Step("pour", "blue_mug", "in", "white_bowl"),
    "put the green cube on the red box": Step("place", "green_cube", "on", "red_box"),
    "stand the bottle up": Step("upright", "brown_bottle"),
    "stack the yellow cube on the green cube": Step("stack", "yellow_cube", "on", "green_cube"),
    "put the can in the bowl": Step("place", "can", "in", "white_bowl"),
}


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.sampled_from(sorted(STEPS)), min_size=1, max_size=MAX_STEPS),
    st.lists(st.sampled_from([", then ", " and then ", "; ", ". ", " and ", ", ", ", and finally ", ". After that, ", ". Next, "]), min_size=8, max_size=8),
)  # fmt: skip
def test_sentences_can_be_joined_in_any_way(sentences, joints):
    text = sentences[0] + "".join(joint + sentence for joint, sentence in zip(joints, sentences[1:], strict=False))
    if len(text) <= MAX_TEXT:
        assert parse_instruction(text, ALL).steps == tuple(STEPS[sentence] for sentence in sentences)


def test_long_nonsense_is_read_in_no_time():
    texts = [
        "the " * 99,
        "on " * 130,
        "pick up the can " * 24,
        "a, " * 130,
        "put " * 99,
        "please " * 57,
        "of the left of the right " * 15,
    ]
    start = time.process_time()
    for text in texts:
        with pytest.raises(InstructionError):
            read_steps(text[:MAX_TEXT], ALL)
    assert time.process_time() - start < 5.0


def test_an_empty_scene_is_named():
    with pytest.raises(InstructionError, match="In the photo: nothing"):
        parse_instruction("pick up the can", ())


def test_the_existing_names_are_untouched():
    assert (GREEN.key, YELLOW.key, RED.key) == ("green_cube", "yellow_cube", "red_box")
