"""Jobs of the suite ``learn``: what is there is not made again, what fails is a row and not the end."""

import json

import pytest

from phototwin.errors import InputError
from phototwin.learn.config import TRAINING_FILE
from phototwin.learn.statistics import success_rate
from phototwin_tasks.benchmarks import learn_runs
from phototwin_tasks.benchmarks.learn_runs import Job, Outcome, Trial, make_demos, open_bench, rate_row
from phototwin_tasks.benchmarks.learn_suite import PARTS, QUICK, Size, _steps, _taught, measure


@pytest.fixture
def scripts(monkeypatch):
    """Calls of scripts, which write what the true ones do."""
    calls = []

    def run(script, *arguments):
        calls.append((script, *arguments))
        if "broken" in arguments:
            raise RuntimeError(f"{script}: it broke")
        from pathlib import Path

        out = Path(arguments[arguments.index("--out") + 1])
        out.mkdir(parents=True, exist_ok=True)
        found = {"success": {"rate": 0.75, "trials": 16}}
        (out / "evaluation.json").write_text(json.dumps(found))

    monkeypatch.setattr(learn_runs, "_run", run)
    return calls


def test_a_training_that_is_there_is_not_done_again(tmp_path, scripts):
    tests = (Trial("x", tmp_path / "twin", ("--seed", "3")), Trial("y", tmp_path / "twin", (), "round_1/policy"))
    job = Job("a", (tmp_path / "run",), ("--steps", "5"), tests)
    for _ in range(2):
        with open_bench(tmp_path) as bench:
            outcome = bench.start(job).result()
        assert [(r.successes, r.trials) for r in outcome.rates] == [(12, 16)] * 2
    assert [call[0] for call in scripts] == ["train.py", *["evaluate.py"] * 4]
    assert str(tmp_path / "a" / "round_1/policy") in scripts[2]


def test_an_interrupted_training_goes_on_and_one_of_which_nothing_is_known_begins_again(tmp_path, scripts):
    begun, lost = tmp_path / "begun", tmp_path / "lost"
    for out, name in ((begun, TRAINING_FILE), (lost, "events")):
        out.mkdir()
        (out / name).touch()
        learn_runs.train_policy([tmp_path], out, "--steps", "5")
    assert ["--resume" in call for call in scripts] == [True, False]
    assert (begun / TRAINING_FILE).exists() and not (lost / "events").exists()


def test_what_fails_is_a_row_with_the_reason(tmp_path, scripts):
    with open_bench(tmp_path) as bench:
        outcomes = [bench.start(Job(f"b{i}", (), ("broken",) * i, ())).result() for i in range(2)]
    row = rate_row("b", "x", outcomes, ">= 0.9", "bc")
    assert row.ok is False and row.method == "train.py: it broke"


def test_seeds_are_put_together(tmp_path):
    outcomes = [Outcome((success_rate(k, 100),), 2.0) for k in (90, 80)]
    row = rate_row("b", "x", outcomes, ">= 0.9", "bc")
    assert row.value == pytest.approx(0.85) and row.ok is False
    assert "seeds 0.90, 0.80" in row.method


def test_demonstrations_are_gone_on_with(tmp_path, monkeypatch):
    given = []
    monkeypatch.setattr(learn_runs, "generate", lambda *args, **kwargs: given.append(args) or {})
    assert make_demos(tmp_path, tmp_path, "pick up the cube", 5) == ""
    (tmp_path / "demos").mkdir()
    (tmp_path / "demos" / "run.json").write_text("{}")
    make_demos(tmp_path, tmp_path, "pick up the cube", 5)
    (tmp_path / "summary.json").write_text("{}")
    make_demos(tmp_path, tmp_path, "pick up the cube", 5)
    assert ["--resume" in args for args in given] == [False, True]


def test_steps_are_those_of_the_next_larger_count():
    assert _steps("bc", 200, Size()) == _steps("bc", 150, Size())
    assert int(_steps("act", 1000, Size())[1]) > int(_steps("bc", 1000, Size())[1])
    assert _steps("diffusion", 16, QUICK) == _steps("bc", 4, QUICK)


def test_a_part_is_measured_alone_and_an_unknown_one_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("phototwin.pipeline.sample_twin", lambda: tmp_path / "twin")
    rows = list(measure(None, True, tmp_path, ("intervals",)))
    assert rows and all("truth covered" in row.name for row in rows)
    with pytest.raises(InputError, match=", ".join(PARTS)):
        list(measure(None, True, tmp_path, ("lifts",)))


def test_what_learns_from_the_first_demonstrations_is_the_same_training_in_every_part(tmp_path):
    with open_bench(tmp_path) as bench:
        few, all_ = (_taught(bench, "lift", "bc", count, 1, Size(), ()) for count in (200, 1000))
    assert few.runs == (tmp_path / "lift",) and few.options[:2] == ("--demos", "200")
    assert all_.runs == (tmp_path / "lift", tmp_path / "lift_more") and "--demos" not in all_.options
