"""Planners: what they answer becomes the same checked plan, or one clear sentence; nothing of it is ever run."""

import json
from dataclasses import replace

import numpy as np
import pytest
import tiny_models
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic import make_scene

from phototwin.backends.tables import LISTING
from phototwin.errors import InputError, InstructionError
from phototwin.plan.planner import PLANNERS, choose_planner, make_plan
from phototwin.plan.planner_answer import AnswerError, ask_for_plan, describe_scene, read_answer, tidy
from phototwin.plan.task import MAX_STEPS, Step, Task, check_task
from phototwin.resolve import resolve

RGB = tiny_models.photo()
GOOD = {
    "steps": [{"skill": "place", "object": "green_cube", "relation": "in", "target": "white_bowl", "part": None}],
    "reason": "The cube goes into the bowl.",
}
PLACE = Step("place", "green_cube", "in", "white_bowl")


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    return make_scene(tmp_path_factory.mktemp("twin"))


def test_every_planner_of_the_table_exists():
    assert all(callable(resolve(name, PLANNERS, "planner")) for name in PLANNERS)


def test_the_grammar_is_the_default_and_sees_with_the_photos_camera(scene):
    task = make_plan("put the cube in the bowl", scene)
    assert task.steps == (PLACE,) and task.planner == "grammar" and task.note == ""
    # The camera looks along +X: the can at y = 0.10 is left of the bowl at y = 0.08 and of the cube at y = -0.10.
    assert make_plan("pick up the thing on the right", scene).keys == ("green_cube",)
    turned = scene.camera.T_world_camera @ np.diag([-1.0, -1.0, 1.0, 1.0])
    upside_down = replace(scene, camera=replace(scene.camera, T_world_camera=turned))
    assert make_plan("pick up the rightmost thing", upside_down).keys == ("red_can",)


def test_a_planner_of_ones_own_is_checked_like_all_others(scene):
    def mine(text, scene, photo_rgb):
        assert photo_rgb.shape == (120, 160, 3)
        return Task((PLACE,), "another text", planner="mine")

    task = make_plan("go", scene, planner=mine)
    assert task == Task((PLACE,), "go", planner="mine")
    for answer, part in (
        (Task((Step("fly", "green_cube"),), ""), "'fly' is no skill"),
        (json.dumps(GOOD), "returned a str"),
    ):
        with pytest.raises(InstructionError, match=part):
            make_plan("go", scene, RGB, lambda *_, answer=answer: answer)
    with pytest.raises(InstructionError, match=r"failed \(ZeroDivisionError"):
        make_plan("go", scene, RGB, lambda *_: 1 / 0)
    with pytest.raises(InstructionError, match="empty"):
        make_plan("  ", scene, RGB, mine)


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("oracle", "Unknown planner 'oracle'. Choose one of endpoint, grammar, vlm"),
        ("grammar=big", "takes no model"),
        ("vlm=", "names no model"),
        ("vlm=/nowhere", "is no folder with a model"),
        ("phototwin.plan.task:SKILLS", "cannot be called"),
    ],
)
def test_unknown_planners_are_refused(name, part):
    with pytest.raises(InputError, match=part):
        choose_planner(name)


def test_a_missing_model_is_named(monkeypatch, tmp_path):
    monkeypatch.delenv("PHOTOTWIN_MODELS", raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(InputError, match=r"hf download .*PHOTOTWIN_MODELS.* Nothing is downloaded"):
        choose_planner("vlm")


def test_the_prompt_holds_what_a_model_must_know(scene):
    asked = []

    def ask(question, turns):
        asked.append((question, turns))
        return json.dumps(GOOD)

    task = ask_for_plan(ask, 'put "it" in\nthe bowl', scene, "tiny")
    assert task == Task((PLACE,), 'put "it" in\nthe bowl', "Planned by tiny: The cube goes into the bowl.", "tiny")
    question, turns = asked[0]
    assert turns == () and question.endswith(r'Instruction: "put \"it\" in\nthe bowl"')
    rows = json.loads(describe_scene(scene).split("\n", 1)[1])
    assert [row["key"] for row in rows] == [item.key for item in scene.objects]
    assert rows[1]["hollow"] and rows[0]["size_mm"] == [40, 40, 40]
    from phototwin.images import load_ids

    ids = load_ids(scene.path(scene.masks))
    for number, row in enumerate(rows, 1):  # the place in the picture is on or next to the object's own pixels
        v, u = np.nonzero(ids == number)
        assert np.hypot(row["at"][0] * 160 - u, row["at"][1] * 120 - v).min() < 8


def test_a_plan_that_breaks_the_rules_may_be_mended_once(scene):
    bad = json.dumps({"steps": [{"skill": "lift", "object": "banana"}]})
    said = []

    def ask(question, turns):
        said.append(turns)
        return json.dumps(GOOD) if turns else bad

    assert ask_for_plan(ask, "go", scene, "tiny").steps == (PLACE,)
    assert said[1][0] == ("assistant", bad) and "no object 'banana'. Choose one of green_cube" in said[1][1][1]
    with pytest.raises(InstructionError, match="not even when told what was wrong: There is no object 'banana'"):
        ask_for_plan(lambda *_: bad, "go", scene, "tiny")


BAD = [
    ("", "no JSON object"),
    ("I would lift the cube.", "no JSON object"),
    ("[1, 2]", "no JSON object"),
    ('{"steps": [', "no JSON"),
    ('{"steps": []}', "1 to"),
    ('{"steps": {}}', "1 to"),
    ('{"plan": []}', 'Unknown field "plan"'),
    ('{"steps": ["lift"]}', "must be an object"),
    ('{"steps": [{"skill": "lift", "object": "red_can"}], "refuse": "no"}', "both"),
    ('{"steps": [{"skill": "lift", "object": 3}]}', '"object" of step 1 must be a text'),
    ('{"steps": [{"skill": "lift"}]}', 'needs "skill"'),
    ('{"steps": [{"skill": "lift", "object": "red_can", "speed": 9}]}', 'Unknown field "speed" in step 1'),
    ('{"steps": [{"skill": "lift", "object": "red_can"}], "code": "import os"}', 'Unknown field "code"'),
    ('{"steps": [{"skill": "lift", "object": "red_can"}], "reason": 3}', '"reason" must be'),
    ('{"steps": [{"skill": "lift", "object": "red_can", "object": "green_cube"}]}', "comes twice"),
    ('{"steps": [{"skill": "lift", "object": "red_can"}]} {"steps": []}', "more than one JSON object"),
    ('{"steps": [{"skill": "__import__", "object": "red_can"}]}', "is no skill"),
    ('{"steps": [{"skill": "lift", "object": "../../etc/passwd"}]}', "no object"),
    ('{"steps": [{"skill": "place", "object": "red_can", "relation": "in", "target": "green_cube"}]}', "not hollow"),
    ('{"a":' * 3000, "no JSON"),
    ('{"steps": [' + '{"skill": "lift", "object": "red_can"},' * 2000 + "]}", "more than 20000 characters"),
]  # fmt: skip


@pytest.mark.parametrize(("answer", "part"), BAD, ids=[part + str(i) for i, (_, part) in enumerate(BAD)])
def test_answers_that_are_no_plan(scene, answer, part):
    with pytest.raises(AnswerError) as caught:
        read_answer(answer, "go", scene, "tiny")
    assert part in str(caught.value)


@pytest.mark.parametrize(
    "answer",
    [
        json.dumps(GOOD),
        "```json\n" + json.dumps(GOOD, indent=2) + "\n```",
        "Here is the plan:\n```\n" + json.dumps(GOOD) + "\n```\nGood luck!",
        "<think>Maybe {this}? No.</think>" + json.dumps(GOOD),
        "Sure! " + json.dumps(GOOD) + " Done.",
        json.dumps(GOOD | {"refuse": None}),
    ],
)
def test_the_plan_is_found_in_what_is_said_around_it(scene, answer):
    assert read_answer(answer, "go", scene, "tiny").steps == (PLACE,)


def test_a_refusal_is_passed_on_in_one_printable_line(scene):
    answer = json.dumps({"refuse": "No\x1b[31m banana\n<script>" + "x" * 1000})
    with pytest.raises(InstructionError) as caught:
        read_answer(answer, "go", scene, "tiny")
    assert "cannot be done: No [31m banana <script>" in str(caught.value)
    assert str(caught.value).isprintable() and len(str(caught.value)) < 300


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=300) | st.recursive(st.none() | st.booleans() | st.floats() | st.text(max_size=9), lambda x: st.lists(x, max_size=4) | st.dictionaries(st.sampled_from(["steps", "skill", "object", "relation", "target", "part", "reason", "refuse", "x"]), x, max_size=6), max_leaves=20).map(json.dumps))  # fmt: skip
def test_whatever_is_answered_is_a_plan_or_an_error(scene, answer):
    try:
        task = read_answer(answer, "go", scene, "tiny")
    except (AnswerError, InstructionError):
        return
    check_task(task, scene.objects)


@given(st.text())
def test_tidy_words_are_printable_and_short(said):
    assert tidy(said, 50).isprintable() and len(tidy(said, 50)) <= 50


CHECKED = [
    (Step("fly", "red_can"), "'fly' is no skill. Choose one of lift, place"),
    (Step("lift", "banana"), "no object 'banana'. Choose one of green_cube, white_bowl, red_can"),
    (Step("lift", "red_can", "on", "white_bowl"), "lift takes the object alone"),
    (Step("place", "red_can", "under", "white_bowl"), "'under' is no relation of place. Choose one of on, in, next to"),
    (Step("place", "red_can", "on"), "needs a target"),
    (Step("place", "red_can", "on", "table"), "no object 'table'"),
    (Step("place", "red_can", "on", "red_can"), "itself"),
    (Step("place", "red_can", "in", "green_cube"), "not hollow, so nothing goes in it. Hollow: white bowl."),
    (Step("push", "red_can", "left", "white_bowl"), "takes no target"),
    (Step("push", "red_can", "next to"), "needs a target"),
    (Step("pour", "green_cube", "in", "white_bowl"), "no vessel"),
    (Step("lift", "red_can", part="nose"), "'nose' is no part"),
    (Step("lift", "red_can", part="rim"), "has no rim"),
]


@pytest.mark.parametrize(("step", "part"), CHECKED, ids=[part for _, part in CHECKED])
def test_plans_that_make_no_sense(scene, step, part):
    with pytest.raises(InstructionError) as caught:
        check_task(Task((step,), "go"), scene.objects)
    assert part in str(caught.value)


def test_the_length_of_a_plan(scene):
    for count in (0, MAX_STEPS + 1):
        with pytest.raises(InstructionError, match=f"takes {count} steps; expected 1 to {MAX_STEPS}"):
            check_task(Task((PLACE,) * count, "go"), scene.objects)
    with pytest.raises(InstructionError, match="Step 2 of 'go': 'fly' is no skill"):
        check_task(Task((PLACE, Step("fly", "red_can")), "go"), scene.objects)
    held = Task((Step("lift", "red_can"), Step("lift", "green_cube"), PLACE), "go")
    assert check_task(held, scene.objects) is held


def test_a_random_models_babble_is_an_error_that_quotes_it(tmp_path, monkeypatch, scene):
    monkeypatch.setattr("phototwin.plan.planner_vlm.MAX_TOKENS", 40)
    folder = tiny_models.smolvlm(tmp_path / "babbler")
    with pytest.raises(InstructionError, match=r"planner 'babbler' gave no usable plan .* no JSON object"):
        make_plan("put the cube in the bowl", scene, RGB, f"vlm={folder}")


@pytest.mark.parametrize("make", [tiny_models.smolvlm, tiny_models.qwen3_vl])
def test_a_models_plan_comes_through_template_generation_and_decoding(tmp_path, monkeypatch, scene, make):
    said = ['{"steps":', '[{"skill":', '"lift",', '"object":', '"red_can"}]}', "<eos>"]
    repo = LISTING["qwen3_vl"].weights[0].split("/")[-1]
    make(tmp_path / repo, said)
    monkeypatch.setenv("PHOTOTWIN_MODELS", str(tmp_path))
    task = make_plan("lift the can", scene, RGB, "vlm")
    assert task == Task((Step("lift", "red_can"),), "lift the can", f"Planned by {repo}.", repo)


def test_a_model_is_told_what_was_wrong_after_its_own_words(tmp_path, monkeypatch, scene):
    monkeypatch.setattr("phototwin.plan.planner_vlm.MAX_TOKENS", 40)
    planner = choose_planner(f"vlm={tiny_models.smolvlm(tmp_path)}")
    processor, model = planner.model._loaded
    seen = []

    class Spy:
        def apply_chat_template(self, messages, **options):
            seen.append([(m["role"], [part["type"] for part in m["content"]]) for m in messages])
            return processor.apply_chat_template(messages, **options)

        batch_decode = processor.batch_decode

    planner.model.__dict__["_loaded"] = (Spy(), model)
    with pytest.raises(InstructionError):
        make_plan("lift the can", scene, RGB, planner)
    asked = ("user", ["image", "text"])
    assert seen == [[asked], [asked, ("assistant", ["text"]), ("user", ["text"])]]
