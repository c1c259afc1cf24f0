"""scripts/query.py at the command line: the picture, what it says, and one sentence for what it cannot answer."""

import pytest
from PIL import Image
from synthetic import make_scene
from test_cli_bad_input import call, refused

from phototwin.scene import save_scene


@pytest.fixture(scope="module")
def twin(tmp_path_factory):
    folder = tmp_path_factory.mktemp("query") / "twin"
    save_scene(make_scene(folder), folder)
    return folder


def test_a_part_is_shown_and_its_grasps_are_told(twin, tmp_path):
    done = call("query", twin, "the can by its top", "--out", tmp_path / "deep/top.png")
    assert done.returncode == 0 and done.stderr == "", done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith("red can, top: ") and "of that seen by the photo" in lines[0]
    assert "grasps there by the panda" in lines[1] and lines[2] == str(tmp_path / "deep/top.png") and len(lines) == 3
    assert Image.open(tmp_path / "deep/top.png").size == (160, 120)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("the can", ["names no part of the red can", "by its handle"]),
        ("the can by its handle", ["has no handle"]),
        ("the can by its logo", ["logo", "--query clip"]),
        ("the banana by its tip", ["banana", "In the photo"]),
        ("", ["does not say what to pick up"]),
    ],
)
def test_what_cannot_be_answered(twin, tmp_path, text, words):
    refused(call("query", twin, text, "--out", tmp_path / "o.png"), *words)
    assert not list(tmp_path.iterdir())


def test_no_twin_no_weights_no_place(twin, tmp_path):
    refused(call("query", tmp_path, "the can by its top"), "not a twin")
    refused(call("query", twin, "the can by its logo", "--query", f"clip={tmp_path}"), "clip", "hf download")
    (tmp_path / "file").write_text("x")
    refused(call("query", twin, "the can by its top", "--out", tmp_path / "file/o.png"), "file")
