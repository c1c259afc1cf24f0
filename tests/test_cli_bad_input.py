"""Bad input at the command line: one clear sentence, a non-zero exit, and nothing that looks like a result."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
SAMPLE = ROOT / "usd_assets" / "sample"


def run(tmp_path, *arguments, script="reconstruct"):
    command = [sys.executable, str(ROOT / f"scripts/{script}.py"), *map(str, arguments), "--out", str(tmp_path / "run")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert not (tmp_path / "run/twin").exists()
    assert not (tmp_path / "run/demos/episodes.hdf5").exists()
    return done


def refused(done, *words):
    assert done.returncode == 2, done.stderr[-2000:]
    lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1 and "Traceback" not in done.stderr, done.stderr[-2000:]
    for word in words:
        assert word.lower() in lines[0].lower(), lines[0]


def save(tmp_path, name, array):
    Image.fromarray(array).save(tmp_path / name)
    return tmp_path / name


def text(tmp_path, name, content):
    (tmp_path / name).write_text(content)
    return tmp_path / name


def empty_table(width=320, height=240):
    rng = np.random.default_rng(0)
    return (
        (np.full((height, width, 3), (120, 90, 60)) + rng.normal(0, 3, (height, width, 3)))
        .clip(0, 255)
        .astype(np.uint8)
    )


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda p: p / "missing.png", ["missing.png"]),
        (lambda p: text(p, "notes.jpg", "not an image"), ["notes.jpg"]),
        (lambda p: text(p, "empty.png", ""), ["empty"]),
        (lambda p: save(p, "tiny.png", np.zeros((1, 1, 3), np.uint8)), ["1 x 1"]),
        (lambda p: save(p, "bare.png", empty_table()), ["--objects"]),
    ],
)
def test_bad_photo(tmp_path, make, words):
    refused(run(tmp_path, "--photo", make(tmp_path)), *words)


def test_depth_of_another_size(tmp_path):
    depth = save(tmp_path, "depth.png", np.full((100, 100), 700, np.uint16))
    refused(run(tmp_path, "--photo", SAMPLE / "photo.png", "--depth", depth), "100 x 100", "640 x 480")


def test_impossible_camera(tmp_path):
    camera = text(tmp_path, "camera.json", json.dumps({"K_px": [[-600, 0, 320], [0, 600, 240], [0, 0, 1]]}))
    refused(run(tmp_path, "--photo", SAMPLE / "photo.png", "--camera", camera), "focal")


def test_parts_without_a_photo(tmp_path):
    refused(run(tmp_path, "--depth", SAMPLE / "depth.png"), "--photo")


def test_no_twin_there(tmp_path):
    refused(run(tmp_path, "--twin", tmp_path, script="generate"), "scene.json")


def test_output_is_a_file(tmp_path):
    (tmp_path / "run").write_text("")
    command = [sys.executable, str(ROOT / "scripts/reconstruct.py"), "--out", str(tmp_path / "run")]
    refused(subprocess.run(command, capture_output=True, text=True, timeout=120), "--out")
    assert (tmp_path / "run").read_text() == ""


def test_unknown_option_is_named(tmp_path):
    done = run(tmp_path, "--colour", "red")
    assert done.returncode != 0 and "--colour" in done.stderr


@pytest.mark.sim
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--robot", "terminator"], ["robot", "panda"]),
        (["--physics", "bullet"], ["physics", "ovphysx"]),
        (["--num-demos", "0"], ["--num-demos"]),
    ],
)
def test_impossible_settings_are_refused_before_the_photo_is_read(tmp_path, arguments, words):
    refused(run(tmp_path, *arguments, script="generate"), *words)


@pytest.mark.sim
@pytest.mark.parametrize(
    ("instruction", "words"),
    [("pick up the elephant", ["elephant", "green cube"]), ("pick up the cube", ["which", "green cube"])],
)
def test_instruction_that_names_nothing_or_two_things(tmp_path, instruction, words):
    command = [
        sys.executable,
        str(ROOT / "scripts/generate.py"),
        "--instruction",
        instruction,
        "--out",
        str(tmp_path / "run"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    refused(done, *words)
    assert not (tmp_path / "run/demos").exists()
