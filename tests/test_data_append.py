"""Append: what was there stays, nothing is half-written, and one at a time."""

import os
from pathlib import Path

import pytest
from data_helpers import attempts, two_stores
from test_data import datasets

from phototwin.data import compose
from phototwin.data.compose import append_dataset, read_entries
from phototwin.data.lerobot import has_truth
from phototwin.data.verify import verify
from phototwin.errors import InputError, OutputError
from phototwin.output import claim_folder
from phototwin_tasks.dataset import job


@pytest.fixture
def two(tmp_path):
    return two_stores(tmp_path)


def test_append_keeps_what_was_there(tmp_path, two):
    job.merge(two[:1], tmp_path / "out", append=False, lerobot=False)
    before = datasets(tmp_path / "out/episodes.hdf5")
    job.merge(two[1:], tmp_path / "out", append=True, lerobot=False)
    after = datasets(tmp_path / "out/episodes.hdf5")
    assert {k: v for k, v in after.items() if k.startswith("/data/demo_2/")} == {
        k: v for k, v in before.items() if k.startswith("/data/demo_2/")
    }
    assert attempts(tmp_path / "out/episodes.hdf5") == [0, 1, 2, 7, 8] and not list(verify(tmp_path / "out"))
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["episodes.hdf5"]


def test_a_run_is_not_appended_to(tmp_path, two):
    (two[0] / "run.json").write_text("{}")
    with pytest.raises(InputError, match="--resume"):
        append_dataset(read_entries(two[1] / "episodes.hdf5"), two[0])


def test_a_failing_append_keeps_the_old_dataset(tmp_path, two, monkeypatch):
    before = (two[0] / "episodes.hdf5").read_bytes()
    monkeypatch.setattr(compose, "write_table", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        append_dataset(read_entries(two[1] / "episodes.hdf5"), two[0])
    assert (two[0] / "episodes.hdf5").read_bytes() == before and not list(two[0].glob("*.partial"))


def test_an_append_whose_lerobot_fails_keeps_both_datasets(tmp_path, two, monkeypatch):
    job.merge(two[:1], tmp_path / "out", append=False, lerobot=True)
    before = {p: p.read_bytes() for p in (tmp_path / "out").rglob("*") if p.is_file()}

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch, pytest.raises(OutputError, match="No space left"):
        patch.setattr(compose, "write_lerobot", full)
        job.merge(two[1:], tmp_path / "out", append=True, lerobot=True)
    assert {p: p.read_bytes() for p in (tmp_path / "out").rglob("*") if p.is_file()} == before


class Killed(BaseException):
    """Stands in for a signal that nothing catches."""


@pytest.mark.parametrize("moment", [0, 1, 2])
def test_an_append_killed_at_any_moment_is_mended_by_the_same_command(tmp_path, two, monkeypatch, moment):
    job.merge(two[:1], tmp_path / "out", append=False, lerobot=True)
    calls = []

    def replace(old, new):
        if Path(new).parent == tmp_path / "out" and Path(new).name in ("episodes.hdf5", "lerobot", ".lerobot.replaced"):
            calls.append(new)
            if len(calls) == moment + 1:
                raise Killed
        os.rename(old, new)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(os, "replace", replace)
        job.merge(two[1:], tmp_path / "out", append=True, lerobot=True)
    text = job.merge(two[1:], tmp_path / "out", append=True, lerobot=True)
    assert ("2 left out: they are there already" in text) == (moment > 0)
    assert attempts(tmp_path / "out/episodes.hdf5") == [0, 1, 2, 7, 8] and not list(verify(tmp_path / "out"))
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["episodes.hdf5", "lerobot"]


def test_append_needs_something_to_add_to(tmp_path, two):
    with pytest.raises(InputError, match="leave --append out"):
        job.merge(two, tmp_path / "none", append=True, lerobot=False)


def test_two_that_append_at_once_do_not_write_over_each_other(tmp_path, two):
    job.merge(two[:1], tmp_path / "out", append=False, lerobot=False)
    with claim_folder(tmp_path / "out"), pytest.raises(OutputError, match="in use by another run"):
        job.merge(two[1:], tmp_path / "out", append=True, lerobot=False)
    assert attempts(tmp_path / "out/episodes.hdf5") == [0, 1, 2]


def test_append_leaves_a_copy_that_somebody_keeps_alone(tmp_path, two):
    job.merge(two[:1], tmp_path / "out", append=False, lerobot=False)
    (tmp_path / "out/lerobot.old").mkdir()
    (tmp_path / "out/lerobot.old/notes.txt").write_text("mine")
    job.merge(two[1:], tmp_path / "out", append=True, lerobot=False)
    assert (tmp_path / "out/lerobot.old/notes.txt").read_text() == "mine"
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["episodes.hdf5", "lerobot.old"]


def test_append_keeps_depth_and_labels_of_the_lerobot_dataset(tmp_path, two):
    job.merge(two[:1], tmp_path / "out", append=False, lerobot=False)
    job.convert(tmp_path / "out", "lerobot_depth", tmp_path / "out/lerobot")
    job.merge(two[1:], tmp_path / "out", append=True, lerobot=True)
    assert has_truth(tmp_path / "out/lerobot") and not list(verify(tmp_path / "out"))
