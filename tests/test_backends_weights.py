"""Real weights, where there are any, on the bundled sample with its ground truth. None were at hand when this was written."""

import os
from pathlib import Path

import numpy as np
import pytest

from phototwin.backends.choose import choose_backends
from phototwin.backends.contract import check_depth, check_image, check_objects, check_words
from phototwin.backends.tables import FAMILIES
from phototwin.backends.weights import find_weights
from phototwin.images import load_depth, load_ids, load_rgb

pytestmark = pytest.mark.weights
SAMPLE = Path(__file__).resolve().parents[1] / "usd_assets/sample"
RGB, DEPTH_M, IDS = (
    load(SAMPLE / name) for load, name in ((load_rgb, "photo.png"), (load_depth, "depth.png"), (load_ids, "masks.png"))
)
K = np.array([[600.0, 0, 320], [0, 600, 240], [0, 0, 1]])
WORDS = ("red block", "green cube", "blue mug", "yellow cube", "white bowl")


def backend(family, name, monkeypatch):
    monkeypatch.setenv("PHOTOTWIN_MODELS", os.environ["PHOTOTWIN_WEIGHTS"])
    for repo in FAMILIES[family][name].weights:
        folder, reason = find_weights(repo)
        if folder is None:
            pytest.skip(f"{repo}: {reason}")
    return getattr(choose_backends(f"{family}={name}"), family)


@pytest.mark.parametrize("name", FAMILIES["depth"])
def test_depth_follows_the_truth(name, monkeypatch):
    estimate = check_depth(backend("depth", name, monkeypatch)(RGB, K), RGB, name)
    known = (DEPTH_M > 0) & (estimate.depth_m > 0)
    ratio = estimate.depth_m[known] / DEPTH_M[known]
    scale = float(np.median(ratio))
    assert known.mean() > 0.5 * (DEPTH_M > 0).mean()
    assert abs(np.log(scale)) < 3 * estimate.scale_sigma
    assert np.median(np.abs(ratio / scale - 1)) < 0.05


@pytest.mark.parametrize("name", FAMILIES["segmentation"])
def test_named_objects_are_found(name, monkeypatch):
    found = check_objects(backend("segmentation", name, monkeypatch)(RGB, WORDS), RGB, name)
    for value in np.unique(IDS[IDS > 0]):
        truth = value == IDS
        assert max((f.mask & truth).sum() / (f.mask | truth).sum() for f in found) > 0.85


@pytest.mark.parametrize("name", FAMILIES["listing"])
def test_most_objects_are_listed(name, monkeypatch):
    words = " ".join(check_words(backend("listing", name, monkeypatch)(RGB), name))
    assert sum(any(part in words for part in word.split()[1:]) for word in WORDS) >= 3


@pytest.mark.parametrize("name", FAMILIES["inpainting"])
def test_the_hole_is_filled_with_table(name, monkeypatch):
    mask = IDS > 0
    result = check_image(backend("inpainting", name, monkeypatch)(RGB, mask), RGB, mask, name)
    assert np.abs(result[mask].mean(0) - RGB[~mask].mean(0)).max() < 60


def test_words_find_the_handle_of_the_mug(monkeypatch):
    from phototwin.pipeline import sample_twin
    from phototwin.plan.query import choose_query, find_region
    from phototwin.plan.query_clip import REPO
    from phototwin.plan.region import see_item
    from phototwin.scene import load_scene

    monkeypatch.setenv("PHOTOTWIN_MODELS", os.environ["PHOTOTWIN_WEIGHTS"])
    folder, reason = find_weights(REPO)
    if folder is None:
        pytest.skip(f"{REPO}: {reason}")
    scene = load_scene(sample_twin())
    mug = scene.object("blue mug")
    handle, seen = find_region(scene, mug, "handle").inside, see_item(scene, mug).seen
    score = choose_query(f"clip={folder}")(scene, mug, "handle")
    inside, outside = score[seen & handle], score[seen & ~handle]
    # Of a sample on the handle and one elsewhere, the first scores higher (area under the ROC curve).
    assert (inside[:, None] > outside[None]).mean() > 0.75
