"""Proposals: on every scene what is proposed can be said, is read back as what was meant, and is possible by its sizes."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic import box_mesh, lathe, look_at, make_bowl, make_can, make_cube, make_scene, planar_st

from phototwin.errors import InstructionError, PlanError
from phototwin.frames import make_T, rotation_z
from phototwin.plan.base import reach_share
from phototwin.plan.grasp import propose_grasps
from phototwin.plan.ik import load_arm
from phototwin.plan.instruction import parse_instruction
from phototwin.plan.propose import look_at as outlook
from phototwin.plan.propose import propose_reached, propose_tasks
from phototwin.plan.propose_fits import dish, fits_in, fits_on, lies, rolls, stackable, tower_stands
from phototwin.plan.propose_words import VERBS, phrases, read_back, word_task
from phototwin.plan.task import RELATIONS, SKILLS, Step, Task, check_task
from phototwin.robots import PANDA, SO101
from phototwin.scene import Camera, Mesh, Scene, SceneObject, Support

COLORS = {"red": (0.8, 0.1, 0.1), "green": (0.1, 0.6, 0.2), "blue": (0.1, 0.2, 0.8), "white": (0.9, 0.9, 0.9)}
EMPTY = Mesh(np.zeros((0, 3), np.float32), np.zeros((0, 3), np.int32), np.zeros((0, 3, 2), np.float32))


def thing(color, noun, size, x, y, yaw=0.0):
    """A solid box or cylinder, or a cup with a wall of 4 mm."""
    size = np.asarray(size, float)
    shape = {"cube": "box", "block": "box", "box": "box", "cup": "revolution", "bowl": "revolution"}.get(
        noun, "cylinder"
    )
    if shape == "box":
        points, faces, _ = box_mesh(size)
    else:
        r, h, wall = size[0] / 2, size[2] / 2, 0.004
        profile = [(0.0, -h), (r, -h), (r, h), (0.0, h)]
        if shape == "revolution":
            profile = [(0.0, -h), (r, -h), (r, h), (r - wall, h), (r - wall, wall - h), (0.0, wall - h)]
        points, faces = lathe(np.array(profile), 24)
        size = np.array([size[0], size[0], size[2]])
    T = make_T(rotation_z(yaw), np.array([x, y, size[2] / 2]))
    name = f"{color} {noun}"
    return SceneObject(
        name, name.replace(" ", "_"), shape, shape == "revolution", T, size, np.array(COLORS[color]),
        Mesh(points, faces, planar_st(points, faces)), (), 0.2,
    )  # fmt: skip


def scene_of(*objects, eye=(0.0, 0.0, 0.5)):
    K = np.array([[300.0, 0.0, 160.0], [0.0, 300.0, 120.0], [0.0, 0.0, 1.0]])
    camera = Camera(K, 320, 240, look_at(np.array(eye), np.array([0.5, 0.0, 0.0])))
    polygon = np.array([[0.1, -0.5], [1.0, -0.5], [1.0, 0.5], [0.1, 0.5]])
    return Scene("made", camera, tuple(objects), Support(polygon), EMPTY)


KINDS = {
    "cube": (0.03, 0.06, 1.0, 1.0),
    "block": (0.03, 0.06, 0.8, 2.4),
    "can": (0.05, 0.075, 1.3, 2.0),
    "cup": (0.06, 0.09, 0.9, 1.3),
    "bowl": (0.12, 0.18, 0.4, 0.6),
}
"""Width from, to; height over width from, to."""


@st.composite
def scenes(draw):
    """One to six things with names of their own on a grid of places."""
    names = draw(st.lists(st.tuples(st.sampled_from(sorted(COLORS)), st.sampled_from(sorted(KINDS))), min_size=1, max_size=6, unique=True))  # fmt: skip
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    places = [(0.3 + 0.2 * i, -0.3 + 0.2 * j) for i in range(3) for j in range(4)]
    objects = []
    for (color, noun), k in zip(names, rng.permutation(len(places)), strict=False):
        low, high, flat, tall = KINDS[noun]
        width = rng.uniform(low, high)
        jitter = rng.uniform(-0.02, 0.02, 2)
        size = (width, width, width * rng.uniform(flat, tall))
        objects.append(thing(color, noun, size, *(np.array(places[k]) + jitter), rng.uniform(-3, 3)))
    return scene_of(*objects)


@settings(max_examples=15, deadline=None)
@given(scenes(), st.integers(0, 1000))
def test_every_wording_is_read_back_as_the_same_checked_task(scene, seed):
    try:
        proposals = propose_tasks(scene, PANDA, 12, seed)
    except InstructionError as error:
        assert "Nothing can be done" in str(error)
        return
    assert 1 <= len(proposals) <= 12 and len({p.task.text for p in proposals}) == len(proposals)
    for proposal in proposals:
        task = check_task(proposal.task, scene.objects)
        for camera in (None, scene.camera.T_world_camera):
            again = parse_instruction(task.text, scene.objects, camera)
            assert again.steps == task.steps and not again.note
        assert proposal.why and task.planner == "grammar"


@settings(max_examples=8, deadline=None)
@given(scenes())
def test_proposals_are_possible_by_their_sizes(scene):
    known = outlook(scene, PANDA)
    try:
        proposals = propose_tasks(scene, PANDA, 15, 0)
    except InstructionError:
        return
    for step in (step for p in proposals for step in p.task.steps):
        item = scene.object(step.object)
        if step.skill != "push":
            assert not known.no_grasp[item.key]
        if step.skill == "place" and step.relation == "in":
            assert max(item.size_m[:2]) < min(scene.object(step.target).size_m[:2])
        if step.skill == "stack":
            assert stackable(item) and stackable(scene.object(step.target))
        if step.skill == "pour":
            assert scene.object(step.target).hollow
        if step.skill == "push":
            assert item.size_m[2] <= 2 * min(item.size_m[:2]) + 1e-9


def test_the_same_seed_proposes_the_same_and_another_says_it_differently(tmp_path):
    scene = make_scene(tmp_path)
    first, again, other = (propose_tasks(scene, PANDA, 10, seed) for seed in (3, 3, 4))
    assert first == again
    assert {p.task.text for p in first} != {p.task.text for p in other}


def test_all_skills_that_make_sense_come_up_and_the_others_do_not(tmp_path):
    scene = make_scene(tmp_path)  # a cube, a bowl and a can
    proposals = propose_tasks(scene, PANDA, 40, 0)
    found = {(s.skill, s.object, s.relation, s.target) for p in proposals for s in p.task.steps}
    assert {("lift", "green_cube", None, None), ("place", "green_cube", "in", "white_bowl")} <= found
    assert ("place", "green_cube", "next to", "red_can") in found and ("pour", "red_can", "in", "white_bowl") in found
    assert any(skill == "push" for skill, *_ in found) and {p.task.family for p in proposals} >= {"lift", "sequence"}
    assert not any(skill == "upright" for skill, *_ in found)
    assert ("place", "white_bowl", "on", "green_cube") not in found and (
        "place",
        "red_can",
        "in",
        "green_cube",
    ) not in found


def test_a_lying_can_is_set_up_and_not_pushed():
    can = thing("red", "can", (0.06, 0.06, 0.12), 0.5, 0.0)
    R = np.array([[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [-1.0, 0.0, 0.0]])
    points = (can.mesh.points @ R.T).astype(np.float32)
    lying = replace(
        can, size_m=np.ptp(points, axis=0).astype(float), mesh=replace(can.mesh, points=points),
        T_world_object=make_T(np.eye(3), np.array([0.5, 0.0, 0.03])),
    )  # fmt: skip
    assert lies(lying) and rolls(lying) and not lies(can)
    skills = {s.skill for p in propose_tasks(scene_of(lying), PANDA, 20, 0) for s in p.task.steps}
    assert "upright" in skills and "push" not in skills
    standing = {s.skill for p in propose_tasks(scene_of(can), PANDA, 20, 0) for s in p.task.steps}
    assert "upright" not in standing


def test_what_is_in_a_bowl_is_not_put_there_again_and_a_full_bowl_stays():
    bowl, cube = make_bowl(0.13), make_cube(0.05)
    inside = replace(cube, T_world_object=bowl.T_world_object @ make_T(np.eye(3), np.array([0.0, 0.0, 0.012])))
    found = [s for p in propose_tasks(scene_of(bowl, inside), PANDA, 30, 0) for s in p.task.steps]
    assert not [s for s in found if s.object == "white_bowl"]
    assert not [s for s in found if (s.skill, s.target) == ("place", "white_bowl")]


def test_pushes_stay_on_the_support_and_out_of_the_others():
    near_edge = thing("red", "cube", (0.05, 0.05, 0.05), 0.95, 0.0)
    wall = thing("blue", "block", (0.05, 0.05, 0.1), 0.95, 0.12)
    ways = {s.relation for p in propose_tasks(scene_of(near_edge, wall), PANDA, 60, 0) for s in p.task.steps if s.object == "red_cube" and s.skill == "push"}  # fmt: skip
    assert "closer" in ways and "right" in ways
    assert "away" not in ways and "left" not in ways


def test_what_the_gripper_finds_no_contact_on_is_not_pushed(monkeypatch):
    cube = thing("red", "cube", (0.05,) * 3, 0.5, 0.0)
    assert any(p.task.family == "push" for p in propose_tasks(scene_of(cube), PANDA, 10, 0))

    def refuse(*_):
        raise PlanError("no steady contact")

    monkeypatch.setattr("phototwin.plan.propose.pushes", refuse)
    assert {p.task.family for p in propose_tasks(scene_of(cube), PANDA, 10, 0)} == {"lift"}


def test_what_would_slip_is_not_proposed(monkeypatch):
    cube = thing("red", "cube", (0.05,) * 3, 0.5, 0.0)
    sure = propose_grasps(cube, PANDA, (), cube.T_world_object, 0)
    for score, families in ((0.42, set()), (0.6, {"lift"})):
        found = replace(sure, score=np.full_like(sure.score, score))
        monkeypatch.setattr("phototwin.plan.propose.propose_grasps", lambda *_, found=found, **__: found)
        assert ("red_cube" in outlook(scene_of(cube), PANDA).grasps) == bool(families)
        assert {p.task.family for p in propose_tasks(scene_of(cube), PANDA, 20, 0)} - {"push"} == families


@pytest.mark.parametrize(
    ("objects", "part"),
    [
        ((), "nothing on the support"),
        ((thing("red", "box", (0.7, 0.7, 0.3), 0.5, 0.0),), "red box is 700 mm long, too large"),
        ((replace(thing("red", "box", (0.2, 0.2, 0.3), 0.5, 0.0), mass_kg=7.5),), "about 7.5 kg, too heavy"),
        ((replace(thing("red", "can", (0.2, 0.2, 0.44), 0.5, 0.0), mass_kg=1.0),), "too wide to grasp"),
    ],
)
def test_scenes_in_which_nothing_can_be_done(objects, part):
    with pytest.raises(InstructionError) as caught:
        propose_tasks(scene_of(*objects), PANDA)
    assert part in str(caught.value)


def test_every_sentence_of_the_tables_is_understood():
    scene = scene_of(
        thing("red", "cube", (0.04,) * 3, 0.4, -0.2), thing("blue", "cup", (0.08, 0.08, 0.09), 0.4, 0.2), thing("white", "bowl", (0.15, 0.15, 0.06), 0.6, 0.0),
    )  # fmt: skip
    steps = {
        "lift": Step("lift", "red_cube"), "on": Step("place", "red_cube", "on", "blue_cup"), "in": Step("place", "red_cube", "in", "white_bowl"),
        "next to": Step("place", "red_cube", "next to", "blue_cup"), "stack": Step("stack", "red_cube", "on", "blue_cup"), "push": Step("push", "red_cube", "next to", "blue_cup"),
        "pour": Step("pour", "blue_cup", "in", "white_bowl"), "pour on": Step("pour", "blue_cup", "on", "white_bowl"), "upright": Step("upright", "red_cube"),
        **{way: Step("push", "red_cube", way) for way in RELATIONS["push"] if way != "next to"},
    }  # fmt: skip
    assert set(steps) == set(VERBS)
    for kind, sentences in VERBS.items():
        step = steps[kind]
        target = scene.object(step.target).name if step.target else ""
        for sentence in sentences:
            text = sentence.format(o=f"the {scene.object(step.object).name}", t=f"the {target}")
            assert read_back(text, (step,), scene), text


def test_towers_are_said_as_a_whole_too():
    cubes = [
        thing(color, "cube", (size,) * 3, 0.4, y)
        for color, size, y in (("red", 0.06, -0.2), ("green", 0.05, 0.0), ("blue", 0.04, 0.2))
    ]
    scene = scene_of(*cubes)
    steps = tuple(Step("stack", up.key, "on", low.key) for low, up in pairwise(cubes))
    names = {item.key: phrases(item, scene) for item in scene.objects}
    texts = {word_task(steps, scene, names, np.random.default_rng(seed)).text for seed in range(40)}
    assert any("the cubes" in text for text in texts)
    assert any(text.count(" on ") == 2 and text.count("stack") == 1 for text in texts)


def test_no_wording_says_where_a_thing_stands():
    """Attempts move things about, and the words are recorded with each of them."""
    scene = scene_of(thing("red", "cube", (0.04,) * 3, 0.4, -0.2), thing("blue", "cube", (0.05,) * 3, 0.5, 0.2))
    said = {phrase for item in scene.objects for phrase in phrases(item, scene)}
    assert {"the red cube", "the red one", "the small cube", "the bigger cube"} <= said
    assert not any(
        word in phrase.split() for phrase in said for word in ("left", "right", "nearest", "farthest", "near")
    )


def test_names_that_the_grammar_cannot_read_are_left_out():
    odd = replace(thing("red", "cube", (0.04,) * 3, 0.4, 0.0), name="¿?", key="object_1")
    with pytest.raises(InstructionError, match="Nothing can be done"):
        propose_tasks(scene_of(odd), PANDA)
    named = replace(odd, name="Cup and Saucer", key="cup_and_saucer")
    assert propose_tasks(scene_of(named), PANDA)[0].task.keys == ("cup_and_saucer",)


def test_fits():
    cube, bowl, can = make_cube(), make_bowl(), make_can()
    assert fits_in(cube, bowl) and not fits_in(bowl, cube) and fits_in(can, bowl) and not fits_in(bowl, bowl)
    block = thing("red", "block", (0.1, 0.1, 0.05), 0, 0)
    assert fits_on(cube, block) and not fits_on(cube, bowl) and not fits_on(make_can(0.12), block)
    assert dish(thing("white", "plate", (0.2, 0.2, 0.02), 0, 0)) and not dish(bowl)
    assert tower_stands((block, cube)) and not tower_stands((cube, block))
    assert set(RELATIONS) == set(SKILLS)


def test_what_the_robot_does_not_reach_is_not_proposed(monkeypatch):
    near, far = thing("red", "cube", (0.05,) * 3, 0.5, 0.2), thing("green", "cube", (0.05,) * 3, 0.5, -0.2)
    scene = scene_of(near, far)
    monkeypatch.setattr(
        "phototwin.plan.propose.reach_share", lambda _, task, *__: 0.4 + 0.6 * ("green_cube" not in task.keys)
    )
    found = propose_reached(scene, PANDA, 8)
    assert found and all(proposal.task.keys == ("red_cube",) for proposal in found)
    monkeypatch.setattr("phototwin.plan.propose.reach_share", lambda *_: 0.0)
    with pytest.raises(InstructionError, match="reaches nothing in 'made'"):
        propose_reached(scene, PANDA, 8)


def test_a_large_arm_reaches_what_a_small_one_does_not():
    box = thing("blue", "box", (0.05, 0.1, 0.2), 0.5, 0.0)
    task = Task((Step("lift", "blue_box"),), "lift the blue box")
    assert reach_share(scene_of(box), task, PANDA, load_arm(PANDA)) == 1.0
    assert reach_share(scene_of(box), task, SO101, load_arm(SO101)) < 0.7


def test_one_proposal_of_each_family(tmp_path):
    families = [proposal.task.family for proposal in propose_reached(make_scene(tmp_path), PANDA, 60, families=True)]
    assert len(families) == len(set(families)) and {"lift", "place"} <= set(families)
