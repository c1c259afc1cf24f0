"""scripts/dataset.py at the command line: what it prints, its exit status, and one sentence for bad input."""

import importlib.util
import json

import h5py
import pytest
from data_helpers import fill_store
from test_cli_bad_input import call, refused, text


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cli")
    fill_store(folder / "a", 3)
    return folder


def test_verify_tells_by_its_status(whole, tmp_path):
    done = call("dataset", "verify", whole / "a")
    assert done.returncode == 0 and "no defects" in done.stdout, done.stderr
    bad = fill_store(tmp_path / "b", 2)
    with h5py.File(bad, "r+") as file:
        file["data/demo_1/actions"][3, 2] = float("nan")
    done = call("dataset", "verify", tmp_path / "b")
    assert done.returncode == 1 and done.stderr == ""
    assert "episodes.hdf5: demo_1: finite: actions has NaN" in done.stdout and "defects in" in done.stdout


def test_info_filter_and_review(whole, tmp_path):
    done = call("dataset", "info", whole / "a/episodes.hdf5")
    assert done.returncode == 0 and "3 demonstrations" in done.stdout, done.stderr
    options = ("--quality", "--seam", "0.9", "--low-seam-share", "1.0", "--no-lerobot")
    done = call("dataset", "filter", whole / "a", *options, "--out", tmp_path / "good")
    assert done.returncode == 0 and "3 of 3" in done.stdout, done.stderr
    done = call("dataset", "review", whole / "a", "--out", tmp_path / "page.html")
    assert done.returncode == 0 and (tmp_path / "page.html").is_file(), done.stderr


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda p: p / "missing", ["missing", "does not exist"]),
        (lambda p: p, ["holds no dataset", "episodes.hdf5"]),
        (lambda p: text(p, "empty.hdf5", ""), ["empty.hdf5", "verify"]),
        (lambda p: text(p, "notes.hdf5", "not HDF5 at all"), ["notes.hdf5", "verify"]),
    ],
    ids=["missing", "empty folder", "empty file", "no HDF5"],
)
@pytest.mark.parametrize("verb", ["info", "filter", "convert"])
def test_bad_datasets(tmp_path, make, words, verb):
    more = {"info": (), "filter": ("--out", tmp_path / "o"), "convert": ("--to", "hdf5", "--out", tmp_path / "o")}
    refused(call("dataset", verb, make(tmp_path), *more[verb]), *words)
    assert not (tmp_path / "o").exists() and not list(tmp_path.rglob("*.partial"))


def test_outputs_that_cannot_be(whole, tmp_path):
    refused(call("dataset", "merge", whole / "a", "--out", whole / "a", "--no-lerobot"), "exists", "--out")
    text(tmp_path, "file", "x")
    refused(
        call("dataset", "merge", whole / "a", "--out", tmp_path / "file/out", "--no-lerobot"), "could not be written"
    )
    refused(call("dataset", "merge", "--out", tmp_path / "out"), "No dataset is named")
    refused(
        call("dataset", "filter", whole / "a", "--task", "fly", "--out", tmp_path / "out"), "demo_0: its task is place"
    )
    assert not (tmp_path / "out").exists()


def test_a_lerobot_dataset_alone_is_not_enough_to_filter(tmp_path):
    (tmp_path / "meta").mkdir()
    refused(call("dataset", "filter", tmp_path, "--out", tmp_path / "out"), "LeRobot dataset only", "episodes.hdf5")


def test_depth_and_masks_become_lerobots(whole, tmp_path):
    done = call("dataset", "convert", whole / "a", "--to", "lerobot_depth", "--out", tmp_path / "o")
    assert done.returncode == 0, done.stderr
    done = call("dataset", "verify", tmp_path / "o")
    assert done.returncode == 0 and "no defects" in done.stdout, done.stdout
    info = json.loads((tmp_path / "o/meta/info.json").read_text())
    assert {"observation.images.photo_depth", "labels"} <= info["features"].keys()


@pytest.mark.skipif(importlib.util.find_spec("tensorflow_datasets") is not None, reason="the extra rlds is installed")
def test_rlds_without_its_extra_is_a_sentence(whole, tmp_path):
    refused(call("dataset", "convert", whole / "a", "--to", "rlds", "--out", tmp_path / "o"), "tensorflow", "[rlds]")
    assert not list(tmp_path.iterdir())
