"""Bad input at the command line: one clear sentence, a non-zero exit, and nothing that looks like a result."""

import json
import resource
import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sim_helpers import make_twin

from phototwin.frames import support_depth
from phototwin.images import load_depth, save_depth
from phototwin.output import claim_folder
from phototwin.scene import load_scene, save_scene

ROOT = Path(__file__).resolve().parents[1]
SAMPLE = ROOT / "usd_assets" / "sample"


def call(script, *arguments, before=None):
    command = [sys.executable, str(ROOT / f"scripts/{script}.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, preexec_fn=before)


def run(tmp_path, *arguments, script="reconstruct", before=None):
    """The script with its output in ``tmp_path / "run"``, where no result may appear."""
    done = call(script, *arguments, "--out", tmp_path / "run", before=before)
    assert not (tmp_path / "run/twin").exists()
    assert not (tmp_path / "run/demos/episodes.hdf5").exists()
    assert not list((tmp_path / "run").rglob("*.partial"))
    return done


def refused(done, *words):
    assert done.returncode == 2, done.stderr[-2000:]
    lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1 and done.stderr.endswith(lines[0] + "\n"), done.stderr[-2000:]
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
    noise = rng.normal(0, 3, (height, width, 3))
    return (np.full((height, width, 3), (120, 90, 60)) + noise).clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """The bundled sample at half its size: photo, depth and camera of a reconstruction that takes seconds."""
    folder = tmp_path_factory.mktemp("small")
    Image.open(SAMPLE / "photo.png").reduce(2).save(folder / "photo.png")
    save_depth(folder / "depth.png", load_depth(SAMPLE / "depth.png")[::2, ::2])
    camera = json.loads((SAMPLE / "camera.json").read_text())
    camera |= {"width": 320, "height": 240, "K_px": (np.diag([0.5, 0.5, 1]) @ camera["K_px"]).tolist()}
    text(folder, "camera.json", json.dumps(camera))
    return folder


@pytest.fixture(scope="module")
def twin(tmp_path_factory):
    return make_twin(tmp_path_factory.mktemp("cli") / "twin")


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda p: p / "missing.png", ["missing.png"]),
        (lambda p: text(p, "notes.jpg", "not an image"), ["notes.jpg"]),
        (lambda p: text(p, "empty.png", ""), ["empty"]),
        (lambda p: save(p, "tiny.png", np.zeros((1, 1, 3), np.uint8)), ["1 x 1"]),
        (lambda p: save(p, "bare.png", empty_table()), ["--objects"]),
    ],
    ids=["missing", "no image", "empty", "one pixel", "bare table"],
)
def test_bad_photo(tmp_path, make, words):
    refused(run(tmp_path, "--photo", make(tmp_path)), *words)


def test_nothing_on_the_table_with_depth(tmp_path, small):
    """A table seen obliquely, with its depth exact to the millimetre, and nothing on it."""
    camera = json.loads((small / "camera.json").read_text())
    depth_m = support_depth(np.array(camera["K_px"]), np.array(camera["T_world_camera"]), 320, 240)
    save_depth(tmp_path / "depth.png", depth_m)
    photo = save(tmp_path, "bare.png", empty_table())
    done = run(tmp_path, "--photo", photo, "--depth", tmp_path / "depth.png", "--camera", small / "camera.json")
    refused(done, "nothing", "--objects")


def test_a_grey_photo_with_alpha_stored_turned_is_accepted(tmp_path, small):
    """Each alone is a matter of loading, see test_perceive_photo.py; here together, and through to the twin."""
    image = Image.open(small / "photo.png").convert("LA")
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned by a quarter clockwise, so stored turned the other way
    image.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "photo.png", exif=exif)
    parts = ("--depth", small / "depth.png", "--camera", small / "camera.json")
    done = call("reconstruct", "--photo", tmp_path / "photo.png", *parts, "--out", tmp_path / "run")
    assert done.returncode == 0, done.stderr[-2000:]
    scene = load_scene(tmp_path / "run/twin")
    assert (scene.camera.width, scene.camera.height) == (320, 240) and len(scene.objects) == 5
    assert (tmp_path / "run/twin/twin.usda").is_file() and (tmp_path / "run/report.html").is_file()


def test_depth_of_another_size(tmp_path):
    depth = save(tmp_path, "depth.png", np.full((100, 100), 700, np.uint16))
    refused(run(tmp_path, "--photo", SAMPLE / "photo.png", "--depth", depth), "100 x 100", "640 x 480")


@pytest.mark.parametrize(
    ("K", "word"),
    [
        ([[-600, 0, 320], [0, 600, 240], [0, 0, 1]], "focal"),
        ([[600, 0, 3200], [0, 600, 240], [0, 0, 1]], "principal point"),
        ([[600, 0], [0, 600]], "3 x 3"),
    ],
    ids=["negative", "outside", "shape"],
)
def test_impossible_camera(tmp_path, K, word):
    camera = text(tmp_path, "camera.json", json.dumps({"K_px": K}))
    refused(run(tmp_path, "--photo", SAMPLE / "photo.png", "--camera", camera), word)


@pytest.mark.parametrize("anchor", ["green cube", "green cube=0", "green cube=tall", "elephant=0.04"])
def test_bad_anchor(tmp_path, small, anchor):
    parts = ("--photo", small / "photo.png", "--depth", small / "depth.png", "--camera", small / "camera.json")
    refused(run(tmp_path, *parts, "--anchor", anchor), anchor.partition("=")[0])


def test_parts_without_a_photo(tmp_path):
    refused(run(tmp_path, "--depth", SAMPLE / "depth.png"), "--photo")


def test_no_twin_there(tmp_path):
    refused(run(tmp_path, "--twin", tmp_path, script="generate"), "scene.json")


def test_output_is_a_file(tmp_path):
    (tmp_path / "run").write_text("")
    refused(call("reconstruct", "--out", tmp_path / "run"), "--out")
    assert (tmp_path / "run").read_text() == ""


@pytest.mark.parametrize("script", ["reconstruct", "generate"])
def test_output_folder_in_use_by_another_process(tmp_path, script):
    with claim_folder(tmp_path / "run"):
        refused(run(tmp_path, script=script), "in use", "--out")


def test_output_folder_that_cannot_be_made():
    refused(call("reconstruct", "--out", "/dev/null/run"), "/dev/null/run", "--out")


@pytest.mark.parametrize("limit", [20_000, 400_000], ids=["images", "meshes"])
def test_disk_that_takes_no_more(tmp_path, small, limit):
    """Not a full disk, which needs rights to make, but the same way through: writing fails in the middle."""
    parts = ("--photo", small / "photo.png", "--depth", small / "depth.png", "--camera", small / "camera.json")
    done = run(tmp_path, *parts, before=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)))
    refused(done, str(tmp_path / "run"), "File too large")


def test_unknown_option_is_named(tmp_path):
    done = run(tmp_path, "--colour", "red")
    assert done.returncode != 0 and "--colour" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--robot", "terminator"], ["robot", "panda"]),
        (["--physics", "bullet"], ["physics", "ovphysx"]),
        (["--renderer", "crayon"], ["renderer", "newton_warp"]),
        (["--num-demos", "0"], ["--num-demos"]),
        (["--resolution", "1", "1"], ["--resolution"]),
        (["--device", "abacus"], ["device", "cuda:0"]),
        (["--device", "cuda:99"], ["cuda:99", "--device cpu"]),
    ],
    ids=["robot", "physics", "renderer", "number", "resolution", "device", "missing device"],
)
def test_impossible_settings_are_refused_before_the_photo_is_read(tmp_path, arguments, words):
    refused(run(tmp_path, *arguments, script="generate"), *words)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("option", ["--physics isaacsim_physx", "--renderer isaacsim_rtx"])
@pytest.mark.skipif(find_spec("isaacsim") is not None, reason="Isaac Sim is here")
def test_what_is_not_installed_is_refused_before_the_photo_is_read(tmp_path, option):
    refused(run(tmp_path, *option.split(), script="generate"), option, "Isaac Sim")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("instruction", "words"),
    [
        ("pick up the elephant", ["elephant", "green cube"]),
        ("pick up the cube", ["which", "green cube", "yellow cube"]),
        ("sing a song", ["sing a song"]),
    ],
    ids=["nothing", "two things", "no task"],
)
def test_instruction_that_names_nothing_or_two_things(tmp_path, two_cubes, instruction, words):
    refused(run(tmp_path, "--twin", two_cubes, "--instruction", instruction, script="generate"), *words)
    assert not (tmp_path / "run/demos").exists()


@pytest.fixture(scope="module")
def two_cubes(twin, tmp_path_factory):
    """A twin with a green and a yellow cube; only its scene.json, which is all that an instruction is read against."""
    scene = load_scene(twin)
    cube = scene.object("green_cube")
    scene = replace(scene, objects=(*scene.objects, replace(cube, name="yellow cube", key="yellow_cube")))
    folder = tmp_path_factory.mktemp("two")
    save_scene(scene, folder)
    return folder


@pytest.mark.sim
def test_object_out_of_reach(tmp_path, twin):
    """A cube that no gripper opens for."""
    scene = load_scene(twin)
    wide = replace(scene.object("green_cube"), size_m=np.full(3, 0.3))
    wide = replace(wide, mesh=replace(wide.mesh, points=wide.mesh.points * 7.5))
    folder = tmp_path / "wide"
    save_scene(replace(scene, objects=(wide, *scene.objects[1:])), folder)
    refused(run(tmp_path, "--twin", folder, "--instruction", "pick up the green cube", script="generate"), "green cube")
