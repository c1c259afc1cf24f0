"""Closed-loop evaluation: who does what the demonstration did succeeds, who does nothing fails, and the same seed gives the same."""

import math
from dataclasses import replace
from types import MappingProxyType, SimpleNamespace

import numpy as np
import pytest
from sim_helpers import make_twin

from phototwin.errors import InputError
from phototwin.learn.config import PolicyConfig, PolicyFacts, Shown
from phototwin.progress import StageTimer
from phototwin_tasks.evaluate.config import EvalConfig, Row

pytestmark = pytest.mark.sim
TOLD = "pick up the green cube"
FACTS = PolicyFacts(PolicyConfig(), "panda", 20, (), (Shown(TOLD),), (64, 64), 4.0, 1, "data", "weights")


class Still:
    """Stays at home with its fingers open; remembers what it was shown."""

    execute = 4

    def __init__(self, home):
        self.home, self.seen = np.append(home, 1.0), []

    def begin(self, attempts, seed):
        self.attempts = attempts

    def actions(self, rgb, state, instruction):
        assert len(rgb) == len(state) == self.attempts and instruction == TOLD
        self.seen.append(rgb)
        return np.tile(self.home, (self.attempts, 8, 1))


class Oracle(Still):
    """Does what was recorded."""

    def __init__(self, episodes):
        self.recorded, self.seen = [e.action for e in episodes], []

    def begin(self, attempts, seed):
        self.attempts, self.t = attempts, 0

    def actions(self, rgb, state, instruction):
        super_rows = [[a[min(self.t + k, len(a) - 1)] for k in range(8)] for a in self.recorded]
        self.t += self.execute
        return np.array(super_rows)


@pytest.fixture(scope="module")
def twin(tmp_path_factory):
    return make_twin(tmp_path_factory.mktemp("evaluate") / "twin")


class Guest:
    """Does what was recorded until it leaves."""

    def __init__(self, episodes, leaves):
        self.recorded, self.leaves = [e.action for e in episodes], leaves

    def actions(self, t):
        return np.stack([action[min(t, len(action) - 1)] for action in self.recorded])


def check_takeovers(env, looks, shown):
    """The planner goes on from wherever the guest has come to, also with the object in its hand."""
    from phototwin_tasks.rollout import rollout

    at_once = rollout(env, [1, 2], looks, guest=Guest(shown, [0, 0]))
    for one, other in zip(shown, at_once, strict=True):
        # It starts from joints as they are read, in single precision: a straight line from there is the same to a few rounding errors.
        assert np.allclose(one.action, other.action, atol=1e-5) and np.allclose(
            one.joint_pos, other.joint_pos, atol=1e-3
        )
        assert np.abs(one.rgb.astype(int) - other.rgb).mean() < 0.1
    closing = [int(np.flatnonzero(e.action[:, -1] < 0)[0]) for e in shown]
    leaves = [closing[0] - 12, closing[1] + 16]
    taken = rollout(env, [1, 2], looks, guest=Guest(shown, leaves))
    assert [e.success for e in taken] == [True, True]
    for i, (one, other) in enumerate(zip(shown, taken, strict=True)):
        assert np.array_equal(one.joint_pos[leaves[i]], other.joint_pos[0]), "it begins where the guest has left"
        assert len(other.rgb) == len(other.action) < len(one.action)
    assert (taken[0].action[:3, -1] > 0).all() and (taken[1].action[:, -1] < 0).all(), "what is held stays held"


def test_who_does_what_was_demonstrated_succeeds_in_the_same_states(twin):
    from phototwin.scene import load_scene
    from phototwin_tasks.evaluate.drive import Limits, drive
    from phototwin_tasks.evaluate.run import generate_config
    from phototwin_tasks.generate.jobs import Job, tasks_of, twin_hash
    from phototwin_tasks.generate.worker import make_env
    from phototwin_tasks.rollout import rollout

    config = generate_config(EvalConfig(num_envs=2, instruction=TOLD), FACTS)
    task, wordings = tasks_of(load_scene(twin), config)[0][0]
    env, looks = make_env(twin, Job(0, str(twin), twin_hash(twin), task, wordings), config, 1)
    try:
        shown = rollout(env, [1, 2], looks)
        driven = drive(env, looks, Oracle(shown), [1, 2], Limits(10.0), lambda episodes: [0, 1])
        assert [e.success for e in shown] == [e.success for e in driven] == [True, True]
        for one, other in zip(shown, driven, strict=True):
            steps = len(other.action)
            assert steps <= len(one.action), "done when the task is, not when the plan ends"
            assert np.array_equal(one.joint_pos[:steps], other.joint_pos)
            assert np.array_equal(one.object_poses_w[:steps], other.object_poses_w)
            assert np.array_equal(one.rgb[:steps], other.rgb), "and the same was seen"
        still = Still(env.robot.home_rad)
        check_takeovers(env, looks, shown)
        idle = drive(env, looks, still, [1, 2], Limits(1.0))
        assert [e.failure for e in idle] == ["grasp", "grasp"] and all(len(e.action) == 20 for e in idle)
        assert len(still.seen) == 5 and np.array_equal(still.seen[0][0], shown[0].rgb[0])
        shoved = drive(env, looks, still, [1, 2], Limits(3.0, shove_m_s=0.4))
        row = [item.key for item in env.twin.objects].index(task.steps[0].object)
        places = [e.object_poses_w[:, row, :2] for e in (*idle, *shoved)]
        moved = [float(np.linalg.norm(place[-1] - place[0])) for place in places]
        # It slides until friction has used up what it was given: v^2 / (2 mu g); friction varies by a tenth.
        assert max(moved[:2]) < 1e-3 and np.allclose(moved[2:], 0.4**2 / (2 * 0.8 * 9.81), rtol=0.2)
    finally:
        env.close()


def test_an_evaluation_that_was_interrupted_ends_the_same(twin, tmp_path):
    from phototwin.robots import get_robot
    from phototwin_tasks.evaluate.films import VIDEOS
    from phototwin_tasks.evaluate.run import EVALUATION_FILE, describe, evaluate, load_evaluation

    driver = Still(get_robot("panda").home_rad)
    config = EvalConfig(episodes=5, num_envs=2, seconds=0.5, videos=1)
    whole = evaluate(driver, FACTS, "still", (twin,), config, threads=1)
    assert len(whole.rows) == 5 and [row.attempt for row in whole.rows] == [1, 2, 3, 4, 5]
    assert whole.rate().successes == 0 and whole.failures() == {"grasp": 5}

    class KilledError(Exception):
        pass

    def die(evaluation):
        if len(evaluation.rows) == 4:
            raise KilledError

    with pytest.raises(KilledError):
        evaluate(driver, FACTS, "still", (twin,), config, tmp_path, 1, die)
    assert len(load_evaluation(tmp_path).rows) == 4
    resumed = evaluate(driver, FACTS, "still", (twin,), config, tmp_path, 1)
    assert resumed.rows == whole.rows and load_evaluation(tmp_path).rows == whole.rows
    assert [f.name.endswith("grasp.mp4") for f in (tmp_path / VIDEOS).iterdir()] == [True]
    assert "0 % [0, 43] (0 of 5)" in "\n".join(describe(resumed))
    for other, word in ((replace(config, seed=1), "other settings"), (replace(config, seconds=0.6), "other settings")):
        with pytest.raises(InputError, match=f"another evaluation .{word}"):
            evaluate(driver, FACTS, "still", (twin,), other, tmp_path, 1)
    with pytest.raises(InputError, match="trained again"):
        evaluate(driver, replace(FACTS, digest="other weights"), "still", (twin,), config, tmp_path, 1)
    assert (tmp_path / EVALUATION_FILE).is_file()


class Nods(Still):
    """Moves by what it is shown, so that a wrong frame, reading or order is a wrong move."""

    def actions(self, rgb, state, instruction):
        told = super().actions(rgb, state, instruction).astype(np.float32)
        told[..., 0] += (rgb.mean((1, 2, 3)) / 255 - 0.3)[:, None]
        told[..., 1] += state[:, :1] - state[:, 1:2] - self.home[1] + self.home[0]
        return told


def test_a_policy_behind_a_server_does_the_same_and_goes_on_when_the_server_is_back(twin, tmp_path):
    pytest.importorskip("websockets")
    from test_learn_remote import listening

    from phototwin.learn.remote import RemotePolicy
    from phototwin.learn.serve import describe_policy, make_server
    from phototwin.robots import get_robot
    from phototwin_tasks.evaluate.job import run_evaluation
    from phototwin_tasks.evaluate.run import evaluate, load_evaluation

    home = get_robot("panda").home_rad
    names = (*get_robot("panda").arm_joints, *get_robot("panda").finger_joints)
    facts = replace(FACTS, state_names=names, config=PolicyConfig(execute=4))
    said = describe_policy(facts)
    config = EvalConfig(episodes=4, num_envs=2, seconds=0.6, videos=0)
    here = evaluate(Nods(home), facts, "here", (twin,), config, threads=1)
    assert len({row.state_sha256 for row in here.rows}) == 4
    asked = []

    class Dies(Nods):
        def actions(self, rgb, state, instruction):
            asked.append(len(rgb))
            if len(asked) == 5:  # of three looks in each of two batches
                raise RuntimeError("out of memory")
            return super().actions(rgb, state, instruction)

    with listening(make_server(lambda: Dies(home), said, "127.0.0.1", 0)) as address:
        remote = RemotePolicy(address)
        with pytest.raises(InputError, match="out of memory"):
            evaluate(remote, remote.facts, "there", (twin,), config, tmp_path, 1)
        assert asked == [2] * 5 and load_evaluation(tmp_path).rows == here.rows[:2]
        again = RemotePolicy(address)
        there = evaluate(again, again.facts, "there", (twin,), config, tmp_path, 1)
        again.close()
        filmed = replace(config, episodes=2, videos=1)
        said = run_evaluation((address,), (twin,), filmed, tmp_path / "out")
    assert there.rows == here.rows
    page = (tmp_path / "out" / "evaluation.html").read_text()
    assert "evaluation.html" in said and page.count("<video ") == 1 and "<h3>grasp: 2 attempts</h3>" in page
    assert load_evaluation(tmp_path / "out").rows == here.rows[:2]
    other = replace(remote.facts, digest="of another")
    with pytest.raises(InputError, match="another evaluation"):
        evaluate(Nods(home), other, "there", (twin,), config, tmp_path, 1)
    with pytest.raises(InputError, match="made for another robot"):
        evaluate(Nods(home), replace(facts, state_names=names[::-1]), "here", (twin,), config, threads=1)


def test_rounds_add_what_the_planner_does_where_the_student_has_come_to(twin, tmp_path):
    from phototwin.learn.config import TrainConfig
    from phototwin.learn.demos import load_demos
    from phototwin_tasks.generate.config import Crew, GenerateConfig
    from phototwin_tasks.generate.jobs import plan_run, twin_hash
    from phototwin_tasks.generate.run import generate_demos
    from phototwin_tasks.rounds import RoundsConfig, train_in_rounds

    asked = GenerateConfig((TOLD,), num_demos=2, num_envs=2, resolution=(64, 64), fps=20)
    generate_demos(plan_run(tmp_path / "run", (twin,), asked, False), Crew(1), StageTimer())
    demos = load_demos(tmp_path / "run", 32)
    training = TrainConfig(PolicyConfig(image_px=32, chunk=8, execute=4), steps=2, batch=4)
    ranges = tmp_path / "ranges.json"
    ranges.write_text('{"preset": "default", "distractors": 2}')
    environment = EvalConfig(num_envs=1, randomize=str(ranges))
    config = RoundsConfig(rounds=1, demos=2, steps=2, latest=0.3, environment=environment)
    told, before = [], sorted(twin.parent.rglob("*"))
    train_in_rounds(demos, twin, training, config, tmp_path / "out", lambda number, policy, facts: told.append(facts))
    assert [facts.demos for facts in told] == [2, 4]
    assert {facts.seconds for facts in told} == {len(demos.rgb) / 2 / 20}, "time for an attempt does not shrink"
    assert sorted(twin.parent.rglob("*")) == before and list((tmp_path / "out" / "round_1" / "variants").iterdir())
    added = load_demos(tmp_path / "out" / "round_1" / "lerobot", 32)
    assert len(added) == 2 and added.state_names == demos.state_names
    assert {(each.twin, each.seed) for each in told[1].shown} == {(twin_hash(twin), 0), (twin_hash(twin), 100)}
    again = []
    train_in_rounds(demos, twin, training, config, tmp_path / "out", lambda number, policy, facts: again.append(facts))
    assert again == told, "what is whole is not made again"
    ranges.write_text('{"preset": "default", "distractors": 1}')
    for other, name in ((config, "distractors 2 .asked for: 1"), (replace(config, steps=3), "rounds.steps 2")):
        with pytest.raises(InputError, match=f"was begun with .*{name}"):
            train_in_rounds(demos, twin, training, other, tmp_path / "out")


def test_what_was_shown_is_not_what_is_tested(twin):
    from phototwin.frames import matrix_from_quat_xyzw
    from phototwin.plan.base import load_base
    from phototwin.scene import load_scene
    from phototwin_tasks.evaluate.run import evaluate, shown_base
    from phototwin_tasks.generate.jobs import twin_hash

    base = (0.1, -0.4, 0.02, 0.0, 0.004, math.sin(0.3), math.cos(0.3))
    shown = Shown(TOLD, "lift", twin_hash(twin), 1002, base)
    facts = replace(FACTS, shown=(shown,))
    with pytest.raises(InputError, match=r"learned from demonstrations of seed 1002.* --seed"):
        evaluate(Still(np.zeros(7)), facts, "still", (twin,), EvalConfig(seed=2))
    given = load_base(shown_base(facts, twin_hash(twin), TOLD), load_scene(twin).camera)
    assert np.allclose(given[:3, 3], base[:3]) and np.allclose(given[:3, :3], matrix_from_quat_xyzw(np.array(base[3:])))
    assert shown_base(facts, "another twin", TOLD) == ""


def test_the_words_are_those_that_a_policy_was_told_on_the_twin():
    from phototwin_tasks.evaluate.run import instruction_of

    cube, mug = Shown("lift the cube", "cube", "a"), Shown("lift the mug", "mug", "b")
    facts = replace(FACTS, shown=(cube, mug))
    assert [instruction_of(EvalConfig(), facts, twin) for twin in "ab"] == ["lift the cube", "lift the mug"]
    assert instruction_of(EvalConfig(instruction="wave"), facts, "c") == "wave"
    with pytest.raises(InputError, match=r"told 2 things .*: give --instruction"):
        instruction_of(EvalConfig(), facts, "c")
    same = replace(cube, twin="b", instruction="take the cube")
    assert instruction_of(EvalConfig(), replace(FACTS, shown=(cube, same)), "c") == "lift the cube"
    assert instruction_of(EvalConfig(), replace(FACTS, shown=()), "c") == ""
    alike = tuple(Shown("lift the cube", task, twin) for task, twin in (("green_cube", "a"), ("red_cube", "b")))
    assert [instruction_of(EvalConfig(), replace(FACTS, shown=alike), twin) for twin in "abc"] == ["lift the cube"] * 3
    server = SimpleNamespace(shown=(), instructions=("lift the cube", "open the drawer"))  # of which nobody knows more
    with pytest.raises(InputError, match=r"told 2 things .*: give --instruction"):
        instruction_of(EvalConfig(), server, "c")


def test_policies_that_are_compared_meet_the_same(monkeypatch):
    from contextlib import contextmanager

    from phototwin_tasks.evaluate import job

    here, there = (0.1, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0), (0.3, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0)
    known = {
        "a": FACTS,
        "b": replace(FACTS, seconds=6.0, shown=(Shown(TOLD, "lift", "t", 0, here),)),
        "c": replace(FACTS, shown=(Shown("push it"),)),
        "d": replace(FACTS, shown=(Shown(TOLD, "lift", "t", 0, there),)),
        "larger": replace(FACTS, resolution=(128, 128)),
        "wide": replace(FACTS, resolution=(128, 72)),
        "other": replace(FACTS, robot="ur10"),
    }

    @contextmanager
    def driven(policy, server):
        yield None, known[policy], policy

    monkeypatch.setattr(job, "_driven", driven)
    stands = {"t": " ".join(map(repr, here))}
    assert job.alike(EvalConfig(), ("a", "b"), ["t"], None) == (EvalConfig(seconds=12.0), stands)
    with pytest.raises(InputError, match=r"'push it' \(c\): give --instruction"):
        job.alike(EvalConfig(), ("a", "c"), ["t"], None)
    assert job.alike(EvalConfig(instruction="x", seconds=3.0), ("a", "c"), ["t"], None) == (
        EvalConfig(instruction="x", seconds=3.0),
        {},
    )
    with pytest.raises(InputError, match=r"different places.*: give --base"):
        job.alike(EvalConfig(), ("b", "d"), ["t"], None)
    assert job.alike(EvalConfig(base="0 0 0 0"), ("b", "d"), ["t"], None)[0].base == "0 0 0 0"
    assert job.alike(EvalConfig(), ("a", "larger"), ["t"], None)[0].seconds == 8.0
    for other, word in (("wide", "frames of 128 x 72"), ("other", "ur10")):
        with pytest.raises(InputError, match=rf"would not meet the same attempts.*{word}.*Evaluate them apart"):
            job.alike(EvalConfig(), ("a", other), ["t"], None)


class Done:
    """Stands in for a twin with a simulator: every attempt succeeds."""

    size, notes = 4, MappingProxyType({})

    def __init__(self, driver, facts, twin, name, *rest):
        self.name = name

    def attempts(self, shard):
        return [Row(self.name, 1 + 4 * shard + i, 0, True, 1.0, "", "") for i in range(4)]

    def close(self):
        pass


def test_a_variant_of_what_was_shown_is_not_held_out(twin, tmp_path, monkeypatch):
    from phototwin.plan.randomize import load_randomization
    from phototwin_tasks.evaluate import run
    from phototwin_tasks.generate.jobs import twin_hash
    from phototwin_tasks.variants import make_variant

    monkeypatch.setattr(run, "_Stage", Done)
    variant = make_variant(twin, replace(load_randomization("default"), distractors=2), 0, 1, tmp_path / "variant")
    other = make_twin(tmp_path / "other")
    (other / "scene.json").write_text((other / "scene.json").read_text().replace('"name": "', '"name": "other ', 1))
    facts = replace(FACTS, shown=(Shown(TOLD, "lift", twin_hash(twin), 0),))
    config = EvalConfig(instruction=TOLD, episodes=4, num_envs=4, randomize="none")
    found = run.evaluate(Still(np.zeros(7)), facts, "x", (variant, other), config)
    assert twin_hash(variant) != twin_hash(twin) and [run.held_out(found, name) for name in found.twins()] == [
        ", seen in training",
        ", held out",
    ]
    assert any(line.startswith("nothing varies") for line in run.describe(found))
    before = twin_hash(twin)
    (twin / "a_look_at_it.png").write_bytes(b"")
    assert twin_hash(twin) == before
    (twin / "a_look_at_it.png").unlink()


def test_one_rate_is_stopped_by_and_twins_of_one_name_are_told_apart(twin, monkeypatch):
    from phototwin_tasks.evaluate import run

    monkeypatch.setattr(run, "_Stage", Done)
    with pytest.raises(InputError, match="give one --twin"):
        run.evaluate(Still(np.zeros(7)), FACTS, "x", (twin, twin), EvalConfig(half_width=0.2))
    found = run.evaluate(Still(np.zeros(7)), FACTS, "x", (twin,) * 3, EvalConfig(episodes=4))
    assert len(found.rows) == 12 and len(found.twins()) == 3
    monkeypatch.setattr(run, "load_scene", lambda name: SimpleNamespace(name=name))
    names = run._names(("desk", "desk", "desk 2", "shelf"))
    assert len(set(names)) == 4 and names[2:] == ["desk 2", "shelf"]


def test_evaluations_stop_when_they_know_enough(twin):
    from phototwin.robots import get_robot
    from phototwin_tasks.evaluate.run import evaluate

    config = EvalConfig(episodes=200, num_envs=8, seconds=0.2, half_width=0.2, videos=0)
    found = evaluate(Still(get_robot("panda").home_rad), FACTS, "still", (twin,), config, threads=1)
    assert found.stopped_early and 8 <= len(found.rows) < 40 and found.rate().half_width <= 0.2


@pytest.mark.parametrize(
    "wrong", [{"episodes": 0}, {"half_width": 0.6}, {"confidence": 1.0}, {"seconds": -1.0}, {"seed": -1}]
)
def test_evaluations_that_cannot_be_are_refused(wrong):
    from phototwin_tasks.evaluate.config import check_eval

    with pytest.raises(InputError):
        check_eval(replace(EvalConfig(), **wrong))
