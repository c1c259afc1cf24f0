"""Values come back bit by bit, equal values have one fingerprint, and damaged or foreign files are refused."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from phototwin.errors import InputError
from phototwin.frozen import file_fingerprint, fingerprint, load_value, save_value
from phototwin.progress import StageTimer
from phototwin.scene import CameraSigma, Maps, ObjectHint, Photo, scene_equal
from phototwin.stages import Stages

PLAIN = st.none() | st.booleans() | st.integers(-(2**40), 2**40) | st.floats(allow_nan=False) | st.text(max_size=5)
ARRAYS = hnp.arrays(st.sampled_from([bool, np.uint8, np.int32, np.float32, np.float64]), hnp.array_shapes(min_dims=0))
TREES = st.recursive(
    PLAIN | ARRAYS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.lists(inner, max_size=3).map(tuple) | st.dictionaries(st.text(), inner)
    ),
    max_leaves=6,
)


def same(a, b):
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    if isinstance(a, list | tuple):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[k], b[k]) for k in a)
    return type(a) is type(b) and a == b


@settings(max_examples=60, deadline=None)
@given(TREES)
def test_any_tree_comes_back(tmp_path_factory, value):
    file = tmp_path_factory.mktemp("frozen") / "value.npz"
    save_value(file, value)
    back = load_value(file)
    assert same(value, back) and fingerprint(value) == fingerprint(back)


def make_maps():
    rng = np.random.default_rng(0)
    rgb, masks = rng.integers(0, 255, (6, 8, 3), dtype=np.uint8), rng.random((2, 6, 8)) > 0.5
    return Maps(rgb, np.eye(3), np.eye(4), None, masks[0], masks, ("cup", None), False, CameraSigma(0.1), {"a": "b"})


def test_dataclasses_come_back_and_every_pixel_counts(tmp_path):
    maps = make_maps()
    save_value(tmp_path / "m.npz", maps)
    assert scene_equal(load_value(tmp_path / "m.npz"), maps)
    changed = maps.rgb.copy()
    changed[3, 3, 1] ^= 1
    assert fingerprint(replace(maps, rgb=changed)) != fingerprint(maps) == fingerprint(make_maps())
    photo = Photo(maps.rgb, hints=(ObjectHint("cup", np.arange(4.0)),))
    save_value(tmp_path / "p.npz", photo)
    assert scene_equal(load_value(tmp_path / "p.npz"), photo)


@pytest.mark.parametrize(
    "tree", ['{"class": "os:system", "fields": {}}', '{"class": "phototwin.errors:InputError", "fields": {}}', "{"]
)
def test_foreign_classes_and_damage_are_refused(tmp_path, tree):
    np.savez(tmp_path / "x.npz", tree=np.array(tree))
    with pytest.raises(InputError, match="cannot be read"):
        load_value(tmp_path / "x.npz")


def test_a_folder_is_its_files_and_their_names(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a/x").write_text("1")
    before = file_fingerprint(tmp_path / "a")
    assert before == file_fingerprint(tmp_path / "a")
    (tmp_path / "a/x").rename(tmp_path / "a/y")
    assert file_fingerprint(tmp_path / "a") != before


def run_twice(folder: Path, *inputs, redo=()):
    calls = []
    stages = Stages(folder, StageTimer(), redo)
    value = stages.run("perceive", lambda: calls.append(1) or make_maps(), *inputs)
    return len(calls), stages.records["perceive"], value


def test_a_stage_runs_again_only_when_its_inputs_change(tmp_path):
    ran, record, value = run_twice(tmp_path, 1, "x")
    assert ran == 1 and not record.kept
    ran, again, kept = run_twice(tmp_path, 1, "x")
    assert ran == 0 and again.kept and again.key == record.key and scene_equal(kept, value)
    assert run_twice(tmp_path, 1, "x", redo=("perceive",))[0] == 1
    assert run_twice(tmp_path, 2, "x")[0] == 1
    (tmp_path / "perceive.npz").write_bytes(b"cut off")
    ran, record, value = run_twice(tmp_path, 2, "x")
    assert ran == 1 and not record.kept and isinstance(value, Maps)


def test_a_failed_stage_leaves_no_key(tmp_path):
    run_twice(tmp_path, 1)
    stages = Stages(tmp_path, StageTimer())
    with pytest.raises(ZeroDivisionError):
        stages.run("perceive", lambda: 1 / 0, 2)
    assert run_twice(tmp_path, 1)[0] == 0  # what was there before is still good
