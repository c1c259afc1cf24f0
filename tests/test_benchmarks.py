"""The door to every measurement: targets, exit status, JSON."""

import json

import pytest

from phototwin.errors import InputError
from phototwin_tasks import benchmarks
from phototwin_tasks.benchmarks import Measure, meets, run_suite


@pytest.mark.parametrize(
    ("value", "target", "ok"),
    [
        (0.8, ">= 0.8", True),
        (0.79, ">= 0.8", False),
        (3, "< 3", False),
        (2, "<= 2", True),
        (1, "> 1", False),
        (5, "== 5", True),
    ],
)
def test_meets(value, target, ok):
    assert meets(value, target) is ok


def test_nan_meets_nothing():
    assert not any(meets(float("nan"), f"{op} 0") for op in ("<", "<=", ">", ">=", "=="))


def fake_good(data, quick):
    yield Measure("a", "x", 1.0, "s", "< 2")
    yield Measure("b", "x", 1.0, "")


def fake_bad(data, quick):
    yield Measure("a", "x", 3.0, "s", "< 2")


def test_status_and_json(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(benchmarks, "_versions", lambda: {"phototwin": "0"})
    assert run_suite(f"{__name__}:fake_good", None, tmp_path / "good.json", True) == 0
    value = json.loads((tmp_path / "good.json").read_text())
    assert set(value) == {"suite", "machine", "versions", "commit", "measures"}
    assert value["measures"][0] == {
        "name": "a", "scene": "x", "value": 1.0, "unit": "s", "target": "< 2", "method": "", "ok": True,
    }  # fmt: skip
    assert value["measures"][1]["ok"] is None
    assert run_suite(f"{__name__}:fake_bad", None, None, True) == 1
    assert "1 targets missed" in capsys.readouterr().out


def fake_kept(data, quick, work=None, parts=()):
    yield Measure(f"{work} {parts}", "x", 1.0, "")


def test_a_suite_is_told_where_to_keep_things_and_what_to_measure_and_one_that_cannot_says_so(tmp_path, capsys):
    assert run_suite(f"{__name__}:fake_kept", None, None, True, tmp_path, ("one",)) == 0
    assert f"{tmp_path} ('one',)" in capsys.readouterr().out
    with pytest.raises(InputError, match="has no --work"):
        run_suite(f"{__name__}:fake_good", None, None, True, tmp_path)
    with pytest.raises(InputError, match="has no --parts"):
        run_suite(f"{__name__}:fake_good", None, None, True, parts=("one",))


def fake_empty(data, quick):
    yield Measure("a", "x", float("nan"), "s", "< 2", "by hand")
    yield Measure("b", "x", float("inf"), "dB", "> 2")


def test_what_is_no_number_is_null_in_json_and_missed(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(benchmarks, "_versions", dict)
    assert run_suite(f"{__name__}:fake_empty", None, tmp_path / "a.json", True) == 1

    def refuse(word):
        raise AssertionError(f"{word} is not JSON")

    first, second = json.loads((tmp_path / "a.json").read_text(), parse_constant=refuse)["measures"]
    assert first["value"] is None
    assert first["ok"] is False
    assert first["method"] == "by hand"
    assert second["ok"] is True
    assert "by hand" in capsys.readouterr().out


def test_unknown_suite_names_the_choices():
    with pytest.raises(InputError, match="main"):
        run_suite("nonsense", None, None, True)
