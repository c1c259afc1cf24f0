"""Which photos are meant, and what lies beside them."""

from pathlib import Path

import pytest
from PIL import Image

from phototwin.errors import InputError
from phototwin.pipeline import Source
from phototwin_tasks.generate.sources import expand_photos, names_of, sources_of


@pytest.fixture
def folder(tmp_path):
    for name in ("b.jpg", "a.png", "a_depth.png", "a_camera.json", "depth_of_field.png", "notes.txt", "c_masks.png"):
        Image.new("RGB", (8, 8)).save(tmp_path / name) if name[-3:] in ("png", "jpg") else (tmp_path / name).touch()
    return tmp_path


def test_a_folder_is_its_photos_and_not_what_lies_beside_them(folder):
    """A mask whose photo is missing is taken for a photo: nothing is left out in silence."""
    assert [p.name for p in expand_photos((folder,))] == ["a.png", "b.jpg", "c_masks.png", "depth_of_field.png"]


def test_patterns_lists_and_single_files(folder):
    assert [p.name for p in expand_photos((folder / "*.jpg", folder / "a.png", folder / "b.jpg"))] == ["b.jpg", "a.png"]
    missing = folder / "missing.png"
    assert expand_photos((missing,)) == (missing,)  # whoever reads it tells
    with pytest.raises(InputError, match="no photo"):
        expand_photos((folder / "*.webp",))


def test_captures_in_folders_of_their_own(tmp_path):
    for name in ("mug", "box"):
        (tmp_path / name).mkdir()
        for file in ("rgb.png", "depth.png"):
            Image.new("RGB", (8, 8)).save(tmp_path / name / file)
    (tmp_path / "mug/camera.json").touch()
    box, mug = sources_of(Source(tmp_path), ())
    assert (box.photo, mug.photo) == (tmp_path / "box/rgb.png", tmp_path / "mug/rgb.png")
    assert box.depth == tmp_path / "box/depth.png" and box.camera is None and mug.camera == tmp_path / "mug/camera.json"
    assert names_of((box, mug)) == ["box", "mug"]


def test_one_photo_stays_as_it_was_given(folder):
    source = Source(folder / "a.png")
    assert sources_of(source, ()) == (source,)


def test_companions_are_taken_and_what_is_of_all_is_given_to_all(folder):
    first, second = sources_of(Source(folder / "a.png", anchor=("mug=0.1",)), (folder / "b.jpg",))
    assert first.depth == folder / "a_depth.png" and first.camera == folder / "a_camera.json"
    assert second.depth is None and second.anchor == first.anchor == ("mug=0.1",)
    with pytest.raises(InputError, match="--depth belongs to one photo"):
        sources_of(Source(folder / "a.png", depth=folder / "a_depth.png"), (folder / "b.jpg",))


def test_names_are_all_different():
    assert names_of(tuple(Source(Path(p)) for p in ("x/desk.png", "y/desk.jpg", "z/rgb.png"))) == [
        "desk",
        "desk_2",
        "z",
    ]
