"""Photo to twin from files: each stage alone, its replacement by a file, and the manifest that says which."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import trimesh
from PIL import Image
from test_build_scene import BOX_SIZE, K_PX, T_WORLD_CAMERA, make_maps

from phototwin.errors import InputError
from phototwin.frozen import file_fingerprint
from phototwin.images import load_ids, load_rgb, save_depth, save_ids, save_rgb
from phototwin.pipeline import MANIFEST, STAGES, Source, photo_to_twin
from phototwin.scene import load_scene


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    """A photo with depth, camera and masks as files, and a folder with its first twin."""
    folder = tmp_path_factory.mktemp("given")
    maps = make_maps(True)
    save_rgb(folder / "photo.png", maps.rgb)
    save_depth(folder / "depth.png", maps.depth_m)
    save_ids(folder / "masks.png", np.where(maps.masks.any(0), maps.masks.argmax(0) + 1, 0))
    camera = {"K_px": K_PX.tolist(), "T_world_camera": T_WORLD_CAMERA.tolist()}
    (folder / "camera.json").write_text(json.dumps(camera))
    source = Source(folder / "photo.png", folder / "depth.png", folder / "camera.json", masks=folder / "masks.png")
    photo_to_twin(source, folder / "twin", stages=folder / "stages")
    return folder, source


def kept(folder):
    """Stages that the last run did not run again."""
    stages = json.loads((folder / "twin" / MANIFEST).read_text())["stages"]
    return {name for name, record in stages.items() if record["kept"]}


def again(given, source=None, **options):
    folder, first = given
    photo_to_twin(source or first, folder / "twin", stages=folder / "stages", **options)
    return kept(folder)


def test_the_manifest_names_inputs_by_hash_and_every_stage(given):
    folder, source = given
    photo_to_twin(source, folder / "fresh", seed=3)
    manifest = json.loads((folder / "fresh" / MANIFEST).read_text())
    assert set(manifest["inputs"]) == {"photo", "depth", "camera", "masks"}
    assert manifest["inputs"]["depth"] == {"file": "depth.png", "sha256": file_fingerprint(folder / "depth.png")}
    assert manifest["settings"]["seed"] == 3 and manifest["versions"]["numpy"] == np.__version__
    assert set(manifest["stages"]) == set(STAGES) - {"see"} and not any(s["kept"] for s in manifest["stages"].values())
    assert str(folder) not in json.dumps(manifest) and manifest["models"] == {}
    first = load_scene(folder / "fresh").objects[0]
    metrics = manifest["metrics"][first.key]
    assert metrics["outline_iou"] > 0.9 and metrics["depth_rmse_mm"] < 3
    np.testing.assert_allclose(metrics["size_mm"], 1000 * first.size_m, atol=0.01)
    np.testing.assert_array_equal(load_ids(folder / "fresh/masks.png"), load_ids(folder / "masks.png"))


def test_only_what_changed_runs_again(given):
    folder, source = given
    assert again(given) == {"perceive", "shapes", "background"}
    before = (folder / "twin/scene.json").read_bytes()
    assert again(given, redo=("shapes",)) == {"perceive", "background"}
    assert (folder / "twin/scene.json").read_bytes() == before  # the same shapes again
    assert again(given, replace(source, anchor=("red box=0.08",))) == {"perceive", "shapes", "background"}


def test_a_given_background_replaces_inpainting(given):
    folder, source = given
    plain = np.full_like(load_rgb(folder / "photo.png"), 90)
    Image.fromarray(plain).save(folder / "empty.png")
    assert again(given, replace(source, background=folder / "empty.png")) == {"perceive", "shapes"}
    scene = load_scene(folder / "twin")
    np.testing.assert_array_equal(load_rgb(scene.path(scene.background_rgb)), plain)
    assert "given" in scene.notes["background"]


def test_a_given_mesh_replaces_the_fitted_shape(given):
    folder, source = given
    meshes = folder / "meshes"
    meshes.mkdir()
    trimesh.creation.box((8.0, 5.0, 10.0)).export(meshes / "object_1.ply")  # of no known unit
    again(given)
    assert again(given, replace(source, meshes=meshes)) == {"perceive", "background"}
    box = load_scene(folder / "twin").objects[0]
    assert box.shape == "mesh"
    np.testing.assert_allclose(np.sort(box.size_m), np.sort(BOX_SIZE), rtol=0.08)
    (meshes / "spoon.ply").write_bytes((meshes / "object_1.ply").read_bytes())
    with pytest.raises(InputError, match="spoon"):
        again(given, replace(source, meshes=meshes))


@pytest.mark.parametrize("name", ["meshes", "background", "materials"])
def test_missing_files_are_refused_at_once(given, name):
    folder, source = given
    with pytest.raises(InputError, match="missing"):
        photo_to_twin(replace(source, **{name: folder / "missing"}), folder / "none")
    assert not (folder / "none").exists()


ANSWERS = """
import sys, trimesh
trimesh.creation.box((1.0, 0.6, 0.8)).export(sys.argv[1] + "/mesh.glb")
"""


def test_shapes_come_from_a_program_of_another_environment(given):
    folder, source = given
    (folder / "answers.py").write_text(ANSWERS)
    command = f"command:{sys.executable} {folder / 'answers.py'} {{folder}}"
    masks = np.asarray(load_ids(folder / "masks.png"))
    save_ids(folder / "one.png", np.where(masks == 1, 1, 0))
    photo_to_twin(replace(source, masks=folder / "one.png", shapes_from=command), folder / "asked")
    (box,) = load_scene(folder / "asked").objects
    assert box.shape == "mesh"
    np.testing.assert_allclose(np.sort(box.size_m), np.sort(BOX_SIZE), rtol=0.08)
    with pytest.raises(InputError, match="command"):
        photo_to_twin(replace(source, shapes_from="trellis"), folder / "none")


class GreyWall:
    """An inpainting model of somebody's own: everything behind is grey."""

    def __call__(self, rgb, mask):
        return np.where(mask[..., None], np.uint8(128), rgb)


def test_a_model_of_somebodys_own_paints_the_background(given, monkeypatch):
    folder, source = given
    monkeypatch.setattr(sys.modules["phototwin.pipeline"], "GreyWall", GreyWall, raising=False)
    again(given)
    mine = replace(source, perception="inpainting=phototwin.pipeline:GreyWall")
    assert "background" not in again(given, mine)
    scene = load_scene(folder / "twin")
    background, photo = load_rgb(scene.path(scene.background_rgb)), load_rgb(folder / "photo.png")
    assert (background[load_ids(folder / "masks.png") > 0] == 128).all() and (background == photo).all(-1).mean() > 0.5
    assert "GreyWall" in scene.notes["background"]


def test_processes_that_need_the_sample_at_once_all_get_it(tmp_path):
    command = [sys.executable, "-c", "from phototwin.pipeline import sample_twin; print(sample_twin())"]
    environment = os.environ | {"PHOTOTWIN_CACHE": str(tmp_path)}
    started = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    folders = {process.communicate()[0].splitlines()[-1] for process in started}
    assert [process.returncode for process in started] == [0, 0]
    (folder,) = folders
    assert load_scene(Path(folder)).objects
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("sample")] == [Path(folder).name]
