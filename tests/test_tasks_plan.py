"""What a run is of: tasks told apart by what is done, shared fairly, and nothing of a run that was refused stays."""

import json
from pathlib import Path

import pytest
from shard_helpers import fake_run, generate
from sim_helpers import make_twin

from phototwin.errors import InputError, PlanError
from phototwin.plan.base import fixed_base, load_base
from phototwin.progress import StageTimer
from phototwin.scene import load_scene
from phototwin_tasks import main_job
from phototwin_tasks.generate.config import GenerateConfig, complete_config
from phototwin_tasks.generate.jobs import load_run, plan_run

LIFT, SAME, OTHER = "pick up the green cube", "grab the green cube", "push the green cube to the left"


@pytest.fixture(scope="module")
def twin(tmp_path_factory):
    return make_twin(tmp_path_factory.mktemp("plan") / "twin")


def planned(folder, twins, texts, num_demos=10):
    return plan_run(folder, twins, GenerateConfig(texts, num_demos=num_demos, num_envs=4), resume=False)


def test_the_same_in_other_words_is_one_task(twin, tmp_path):
    run = planned(tmp_path, (twin,), (LIFT, OTHER, SAME))
    assert [job.wordings for job in run.jobs] == [(LIFT, SAME), (OTHER,)]
    assert [job.index for job in run.jobs] == [0, 1] and load_run(tmp_path) == run


def test_where_there_are_more_tasks_than_demonstrations_every_twin_has_its_turn(twin, tmp_path):
    run = planned(tmp_path / "few", (twin, twin), (LIFT, OTHER), num_demos=2)
    assert [job.task.family for job in run.jobs] == ["lift", "lift", "push", "push"]
    assert [job.index for job in run.jobs] == [0, 1, 2, 3]
    run = planned(tmp_path / "enough", (twin, twin), (LIFT, OTHER), num_demos=4)
    assert [job.task.family for job in run.jobs] == ["lift", "push", "lift", "push"]


def test_tasks_that_nothing_was_asked_of_are_named_and_step_in(tmp_path):
    texts = ("pick up the cube", "pick up the other cube", "pick up the third cube")
    made = generate(fake_run(tmp_path / "a", 2, texts))
    assert made.num_demos == 2 and [s.what for s in made.set_aside] == [texts[2]]
    assert "larger --num-demos" in made.set_aside[0].reason
    made = generate(fake_run(tmp_path / "b", 1, ("pick up the unreachable cube", "pick up the cube")))
    assert made.num_demos == 1 and [s.reason for s in made.set_aside] == ["The cube is out of reach."]


def test_a_refusal_ends_with_its_cause(twin, tmp_path):
    planned(tmp_path, (twin,), (LIFT,))
    (tmp_path / "demos/shards").mkdir(parents=True)
    (tmp_path / "demos/shards/job_000.refused").write_text("out of reach\n")
    planned(tmp_path, (twin,), (OTHER,))
    assert not (tmp_path / "demos/shards").exists()


def test_what_one_machine_lacks_another_may_have(tmp_path, monkeypatch):
    run = fake_run(tmp_path, 4, ("pick up the cube with weights",))
    with pytest.raises(PlanError, match="weights are not here"):
        generate(run, part="work")
    assert not list((tmp_path / "demos/shards").glob("job_*.refused"))
    monkeypatch.setenv("FAKE_WEIGHTS", "1")
    generate(run, part="work")
    assert generate(run, part="merge").num_demos == 4


@pytest.mark.parametrize("part", ["all", "merge"])
def test_a_run_that_was_refused_says_so_again(tmp_path, part):
    run = fake_run(tmp_path, 4, ("pick up the unreachable cube",))
    for again in ("work", part):
        with pytest.raises(PlanError, match="out of reach"):
            generate(run, part=again)


def test_where_the_robot_stands_is_what_the_file_said(twin, tmp_path):
    camera = load_scene(twin).camera
    file = tmp_path / "base.json"
    T = [[1.0, 0, 0, 0.1], [0, 1, 0, -0.4], [0, 0, 1, 0], [0, 0, 0, 1]]
    file.write_text(json.dumps({"T_world_base": T}))
    base = complete_config(GenerateConfig(base=str(file))).base
    file.unlink()
    assert load_base(base, camera).tolist() == T and complete_config(GenerateConfig(base=base)).base == base
    assert fixed_base("0.1 -0.4 0 90") == "0.1 -0.4 0 90"
    with pytest.raises(InputError, match=r"neither numbers .* nor a readable JSON file"):
        complete_config(GenerateConfig(base=str(file)))


def test_a_twin_is_used_again_only_if_it_is_of_the_same(tmp_path, monkeypatch):
    from phototwin.pipeline import MANIFEST, Source, write_manifest
    from phototwin.stages import Stages

    made, audited = [], []

    def build(source, twin, *, stages, seed, progress):
        made.append(source)
        twin.mkdir(parents=True, exist_ok=True)
        (twin / "twin.usda").touch()
        write_manifest(twin / MANIFEST, source, seed, {}, Stages(None, timer), {})

    monkeypatch.setattr(main_job, "photo_to_twin", build)
    monkeypatch.setattr(main_job, "audit_made", lambda twin, timer: audited.append((twin / "audit.json").touch()))
    for name in ("a.png", "b.png", "a_depth.png"):
        (tmp_path / name).write_bytes(name.encode())
    photo, timer = Source(tmp_path / "a.png"), StageTimer()
    deep = Source(tmp_path / "a.png", tmp_path / "a_depth.png", anchor=("cube=0.04",))

    def again(source, begun=False):
        main_job.make_twin(source, tmp_path / "run", 0, True, begun, timer)
        return len(made), len(audited)

    assert again(photo) == (1, 1) and again(photo) == (1, 1)
    (tmp_path / "run/twin/audit.json").unlink()  # killed before it was audited
    assert again(photo) == (1, 2)
    assert again(deep) == (2, 3) and again(deep, begun=True) == (2, 3)
    with pytest.raises(InputError, match=r"anchor, depth differ"):
        again(photo, begun=True)
    with pytest.raises(InputError, match=r"anchor, depth, photo differ"):
        again(Source(Path(tmp_path / "b.png")), begun=True)
