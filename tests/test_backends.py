"""Every backend keeps its family's contract; the choice among them; what they add to a photo."""

import json
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tiny_models

from phototwin.backends import choose, weights
from phototwin.backends.choose import Backends, choose_backends
from phototwin.backends.contract import (
    DepthEstimate,
    FoundObject,
    check_depth,
    check_image,
    check_objects,
    check_words,
)
from phototwin.backends.see import paint_hole, see_more
from phototwin.backends.tables import FAMILIES
from phototwin.errors import InputError, PerceptionError
from phototwin.scene import ObjectHint, Photo

RGB = tiny_models.photo()
SHAPE = RGB.shape[:2]
MASK = (RGB == (200, 30, 30)).all(-1)
TINY = {
    "DepthPro-hf": tiny_models.depth_pro,
    "Depth-Anything-V2-Metric-Indoor-Small-hf": tiny_models.depth_anything,
    "Depth-Anything-V2-Metric-Indoor-Base-hf": tiny_models.depth_anything,
    "Depth-Anything-V2-Metric-Indoor-Large-hf": tiny_models.depth_anything,
    "zoedepth-nyu": tiny_models.zoedepth,
    "sam3": tiny_models.sam3,
    "grounding-dino-base": tiny_models.grounding_dino,
    "grounding-dino-tiny": tiny_models.grounding_dino,
    "sam2.1-hiera-large": tiny_models.sam2,
    "sam2.1-hiera-small": lambda folder: tiny_models.sam2(folder, video=True),
    "Qwen3-VL-2B-Instruct": tiny_models.qwen3_vl,
    "SmolVLM-Instruct": tiny_models.smolvlm,
    "SmolVLM-500M-Instruct": tiny_models.smolvlm,
    "stable-diffusion-xl-1.0-inpainting-0.1": tiny_models.stable_diffusion_xl,
    "stable-diffusion-inpainting": lambda folder: tiny_models.stable_diffusion(folder, "fp16"),  # as it is published
}
"""A tiny stand-in of the same architecture for every repository in the tables."""
ONCE = {"depth_anything_large", "depth_anything_base", "smolvlm_small"}
"""Names whose classes and architecture another name tests already."""


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A folder with a tiny model for every repository, made when first asked for."""
    root = tmp_path_factory.mktemp("models")

    def folder(repo):
        name = repo.split("/")[-1]
        if not (root / name).exists():
            TINY[name](root / name)
        return root

    return folder


@pytest.fixture
def no_network(monkeypatch):
    """Hugging Face's libraries may ask the network here, and must not even try."""
    tried = []

    def refuse(*args, **_):
        tried.append(args)
        raise OSError("no network in this test")

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    yield
    assert tried == []


@pytest.fixture
def nothing_installed(monkeypatch, tmp_path):
    monkeypatch.delenv("PHOTOTWIN_MODELS", raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "no-cache"))


def check(family, backend, who):
    """The contract of a family: what every member must pass, on a photo that is not square."""
    before = RGB.copy()
    if family == "depth":
        K_px = np.array([[200.0, 0, 80], [0, 200, 48], [0, 0, 1]])
        check_depth(backend(RGB, None), RGB, who)
        held = check_depth(backend(RGB, K_px), RGB, who)
        assert held.K_px is None
        result, again = held.depth_m, backend(RGB, K_px).depth_m
    elif family == "segmentation":
        found, second = backend(RGB, ("red cube", "cup")), backend(RGB, ("red cube", "cup"))
        check_objects(found, RGB, who)
        assert {item.name for item in found} <= {"red cube", "cup"}
        result, again = (np.array([item.mask for item in items]) for items in (found, second))
    elif family == "listing":
        result, again = check_words(backend(RGB), who), backend(RGB)
    else:
        result, again = check_image(backend(RGB, MASK), RGB, MASK, who), backend(RGB, MASK)
        np.testing.assert_array_equal(backend(RGB, np.zeros(SHAPE, bool)), RGB)
    np.testing.assert_array_equal(result, again)
    np.testing.assert_array_equal(RGB, before)


@pytest.mark.parametrize(
    ("family", "name"), [(family, name) for family, table in FAMILIES.items() for name in table if name not in ONCE]
)
def test_contract(family, name, models, monkeypatch, no_network):
    """Real loading, real processing, random weights, no network."""
    for repo in FAMILIES[family][name].weights:
        monkeypatch.setenv("PHOTOTWIN_MODELS", str(models(repo)))
    chosen = choose_backends(f"{family}={name}")
    backend = getattr(chosen, family)
    if hasattr(backend, "config"):  # random models are sure of nothing and need no long denoising
        loose = {"min_score": 0.0, "min_area_px": 1, "max_area": 0.99} if family == "segmentation" else {"steps": 2}
        backend.config = replace(backend.config, **loose)
    check(family, backend, name)
    assert "_loaded" in backend.__dict__
    chosen.release()
    assert "_loaded" not in backend.__dict__
    assert FAMILIES[family][name].licence in chosen.notes[family]


# A member without any library, as a user would write one.
class Plane:
    def __call__(self, rgb, K_px):
        return DepthEstimate(np.full(rgb.shape[:2], 0.8, np.float32), None, 0.2, "a plane")


def reds(rgb, words):
    mask = (rgb == (200, 30, 30)).all(-1)
    return tuple(FoundObject(word, mask, 1.0) for word in words[:1] if mask.any())


def red_words(rgb):
    return ("red cube", "cup")


def grey(rgb, mask):
    return np.where(mask[..., None], np.uint8(128), rgb)


OWN = {"depth": "Plane", "segmentation": "reds", "listing": "red_words", "inpainting": "grey"}


@pytest.mark.parametrize("family", FAMILIES)
def test_contract_of_a_users_own(family):
    chosen = choose_backends(f"{family}={__name__}:{OWN[family]}")
    check(family, getattr(chosen, family), OWN[family])
    chosen.release()


OUTSIDE = """
import json, pathlib, sys
import numpy as np
folder = pathlib.Path(sys.argv[1])
request = json.loads((folder / "request.json").read_text())
np.save(folder / "depth.npy", np.full((request["height"], request["width"]), 0.7, np.float32))
(folder / "answer.json").write_text(json.dumps({"source": "stand-in", "scale_sigma": 0.12}))
"""


def test_contract_of_a_model_in_another_environment(tmp_path):
    (tmp_path / "run.py").write_text(OUTSIDE)
    chosen = choose_backends(f"depth=command:{sys.executable} {tmp_path / 'run.py'} {{folder}}")
    check("depth", chosen.depth, "outside")
    estimate = chosen.depth(RGB, None)
    assert (estimate.source, estimate.scale_sigma) == ("stand-in", 0.12) and (estimate.depth_m == np.float32(0.7)).all()
    with pytest.raises(InputError, match="folder"):
        choose_backends("depth=command:python run.py")


def test_every_repository_has_a_tiny_model_and_every_name_is_one_word():
    repos = {repo.split("/")[-1] for table in FAMILIES.values() for row in table.values() for repo in row.weights}
    assert repos == set(TINY)
    names = [name for table in FAMILIES.values() for name in table]
    assert len(set(names)) == len(names)  # a short name needs no family
    assert all(name.isidentifier() for name in names) and not {"auto", "offline"} & set(names)


GOOD = DepthEstimate(np.full(SHAPE, 0.5, np.float32), None, 0.2, "x")
K_FAR = np.array([[1e6, 0, 80], [0, 1e6, 48], [0, 0, 1]])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"depth_m": GOOD.depth_m.T}, "160 x 96 float32"),
        ({"depth_m": GOOD.depth_m.astype(np.float64)}, "float64"),
        ({"depth_m": [[1.0]]}, "list"),
        ({"depth_m": np.where(MASK, np.nan, GOOD.depth_m).astype(np.float32)}, "not finite"),
        ({"depth_m": np.where(MASK, -1, GOOD.depth_m).astype(np.float32)}, "down to -1 m"),
        ({"depth_m": GOOD.depth_m * 0}, "no depth"),
        ({"scale_sigma": 0.0}, "scale_sigma"),
        ({"scale_sigma": float("nan")}, "scale_sigma"),
        ({"source": ""}, "source"),
        ({"K_px": np.eye(4)}, "4 x 4"),
        ({"K_px": np.full((3, 3), np.nan)}, "K_px"),
        ({"K_px": K_FAR}, "focal lengths"),
        ({"K_px": np.array([[200.0, 0, 500], [0, 200, 48], [0, 0, 1]])}, "principal point 500"),
    ],
)
def test_depth_that_breaks_the_contract_is_refused(change, said):
    assert check_depth(GOOD, RGB, "mine") is GOOD
    with pytest.raises(PerceptionError, match=said) as caught:
        check_depth(replace(GOOD, **change), RGB, "mine")
    assert "'mine'" in str(caught.value) and str(caught.value).count(". ") == 0


@pytest.mark.parametrize(
    ("found", "said"),
    [
        ([FoundObject("a", MASK, 1.0)], "a list"),
        ((FoundObject("", MASK, 1.0),), "named ''"),
        ((FoundObject("a", MASK.T, 1.0),), "160 x 96 bool"),
        ((FoundObject("a", MASK.astype(np.uint8), 1.0),), "uint8"),
        ((FoundObject("a", np.zeros_like(MASK), 1.0),), "empty"),
        ((FoundObject("a", np.ones_like(MASK), 1.0),), "all-covering"),
        ((FoundObject("a", MASK, 1.5),), "score 1.5"),
        ((FoundObject("a", MASK, 1.0), FoundObject("b", MASK, 0.9)), "overlaps"),
    ],
)
def test_objects_that_break_the_contract_are_refused(found, said):
    with pytest.raises(PerceptionError, match=said):
        check_objects(found, RGB, "mine")


def test_words_and_images_that_break_the_contract_are_refused():
    for words, said in ((["cup"], "tuple"), (("",), "tuple"), (("cup", "cup"), "twice"), (("x" * 61,), "60")):
        with pytest.raises(PerceptionError, match=said):
            check_words(words, "mine")
    outside = RGB.copy()
    outside[0, 0] += 1
    for image, said in ((outside, "1 pixels changed"), (RGB / 255, "float64"), (RGB[1:], "95 x 160 x 3")):
        with pytest.raises(PerceptionError, match=said):
            check_image(image, RGB, MASK, "mine")


# ------------------------------------------------------------------------------------------------ the choice


def fake_weights(folder: Path, shards=("model.safetensors",), index=None):
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    for name in shards:
        (folder / name).write_bytes(b"")
    if index:
        value = {"weight_map": {f"w{i}": name for i, name in enumerate(index)}}
        (folder / "model.safetensors.index.json").write_text(json.dumps(value))


def test_auto_takes_the_best_free_model_that_is_here(nothing_installed, monkeypatch, tmp_path):
    monkeypatch.setenv("PHOTOTWIN_MODELS", str(tmp_path))
    for name in ("DepthPro-hf", "Depth-Anything-V2-Metric-Indoor-Small-hf", "zoedepth-nyu", "grounding-dino-base"):
        fake_weights(tmp_path / name)
    chosen = choose_backends("auto")
    assert chosen.names == {"depth": "depth_anything"}
    assert "Apache-2.0" in chosen.notes["depth"] and "depth_pro (must be named" in chosen.notes["depth"]
    assert "zoedepth" not in chosen.notes["depth"]  # only what would have been better
    assert chosen.segmentation is None and "grounded_sam2" in chosen.notes["segmentation"]
    named = choose_backends("auto,depth_pro")
    assert named.names == {"depth": "depth_pro"} and "research only" in named.notes["depth"]


def test_auto_with_nothing_installed_is_the_weightless_perception(nothing_installed):
    chosen = choose_backends("auto")
    assert (chosen.depth, chosen.segmentation, chosen.listing, chosen.inpainting) == (None,) * 4
    assert all("no weights here" in note for note in chosen.notes.values()) and set(chosen.notes) == set(FAMILIES)


def test_a_library_that_is_missing_is_said(nothing_installed, monkeypatch):
    find = choose.importlib.util.find_spec
    monkeypatch.setattr(choose.importlib.util, "find_spec", lambda n: None if n == "diffusers" else find(n))
    assert "diffusers is not installed" in choose_backends("auto").notes["inpainting"]
    with pytest.raises(InputError, match="needs diffusers: pip install"):
        choose_backends("sd_inpainting")


def test_named_backends_without_weights_tell_how_to_get_them(nothing_installed):
    with pytest.raises(InputError, match="hf download apple/DepthPro-hf'") as caught:
        choose_backends("depth_pro")
    assert "research only" in str(caught.value) and "PHOTOTWIN_MODELS" in str(caught.value)
    assert "http" not in str(caught.value)


@pytest.mark.parametrize(
    ("choice", "said"),
    [
        ("", "expected auto"),
        ("offline,depth_pro", "expected auto"),
        ("nonsense", "Choose auto, offline, or from depth: depth_pro"),
        ("depth=nonsense", "Unknown depth backend"),
        ("colour=depth_pro", "one of depth, segmentation"),
        ("depth=", "FAMILY=NAME"),
        ("json:loads", "depth=json:loads"),
        ("depth=no.such:thing", "could not be loaded"),
        ("depth=json:nothing", "could not be loaded"),
        ("depth=json:__name__", "cannot be called"),
        ("depth_pro,depth=zoedepth", "two depth backends"),
    ],
)
def test_choices_that_cannot_be_are_refused(nothing_installed, choice, said):
    with pytest.raises(InputError, match=said):
        choose_backends(choice)


def test_a_download_that_was_cut_off_is_not_taken(nothing_installed, monkeypatch, tmp_path):
    monkeypatch.setenv("PHOTOTWIN_MODELS", str(tmp_path))
    folder = tmp_path / "zoedepth-nyu"
    fake_weights(folder, shards=("a.safetensors",), index=("a.safetensors", "b.safetensors"))
    assert "lacks b.safetensors" in choose_backends("auto").notes["depth"]
    with pytest.raises(InputError, match=r"lacks b.safetensors; complete it with 'hf download Intel/zoedepth-nyu'"):
        choose_backends("zoedepth")
    (folder / "b.safetensors").write_bytes(b"")
    assert choose_backends("auto").names == {"depth": "zoedepth"}
    (folder / "config.json").unlink()
    assert weights.missing_file(folder) == "config.json"


def test_a_pipeline_lacking_a_part_is_not_taken(tmp_path):
    parts = {"_class_name": "X", "unet": ["diffusers", "U"], "safety_checker": [None, None], "vae": ["diffusers", "V"]}
    (tmp_path / "model_index.json").write_text(json.dumps(parts))
    (tmp_path / "unet").mkdir()
    assert weights.missing_file(tmp_path) == "vae"
    (tmp_path / "vae").mkdir()
    assert weights.missing_file(tmp_path) is None
    (tmp_path / "vae/config.json").write_text("{}")
    assert weights.missing_file(tmp_path) == "vae/*.safetensors"


def test_weights_are_found_in_the_cache_of_hugging_face(nothing_installed, monkeypatch, tmp_path):
    cache = tmp_path / "hub"
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
    repo = cache / "models--Intel--zoedepth-nyu"
    (repo / "refs").mkdir(parents=True)
    (repo / "refs/main").write_text("abc")
    fake_weights(repo / "snapshots/abc")
    assert weights.find_weights("Intel/zoedepth-nyu") == (repo / "snapshots/abc", "")


def test_choosing_imports_no_model_library():
    code = (
        "import sys; from phototwin.backends.choose import choose_backends; choose_backends('auto');"
        "print(*sorted({'torch', 'transformers', 'diffusers', 'PIL', 'scipy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == ""


def test_damaged_weights_are_an_error_that_names_their_folder(nothing_installed, monkeypatch, tmp_path):
    monkeypatch.setenv("PHOTOTWIN_MODELS", str(tmp_path))
    tiny_models.depth_anything(tmp_path / "Depth-Anything-V2-Metric-Indoor-Small-hf")
    file = tmp_path / "Depth-Anything-V2-Metric-Indoor-Small-hf/model.safetensors"
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(InputError, match=r"Small-hf' cannot be loaded \(SafetensorError.*download it again"):
        see_more(Photo(RGB), choose_backends("auto"))


def test_weights_of_another_model_are_never_filled_up_at_random(tmp_path):
    """transformers only warns where a checkpoint lacks weights, and draws them."""
    from safetensors.torch import load_file, save_file
    from transformers import Sam2Model

    folder = tiny_models.sam2(tmp_path)
    state = load_file(folder / "model.safetensors")
    state.pop(next(name for name in state if "mask_decoder" in name))
    save_file(state, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(InputError, match="lack 1 parts of a Sam2Model"):
        weights.load_model(Sam2Model, folder)


# ------------------------------------------------------------------------------------------------ what they add


def ours(**changes) -> Backends:
    parts = {"depth": Plane(), "segmentation": reds, "listing": red_words}
    return Backends(**{**parts, **changes}, names={family: OWN[family] for family in parts})


def test_a_photo_gets_depth_and_objects():
    seen = see_more(Photo(RGB, note="Reduced."), ours())
    assert seen.depth_m is not None and (seen.depth_m == np.float32(0.8)).all()
    assert (seen.depth_source, seen.depth_scale_sigma, seen.K_px) == ("a plane", 0.2, None)
    assert [(hint.name, hint.mask is not None) for hint in seen.hints] == [("red cube", True)]
    np.testing.assert_array_equal(seen.hints[0].mask, MASK)
    assert seen.note.startswith("Reduced. Depth by a plane, as a whole within about 20%.")
    assert "1 objects by reds of red cube, cup, which red_words listed." in seen.note


def test_an_estimated_camera_is_taken_only_where_none_is_known():
    K_px = np.array([[180.0, 0, 80], [0, 180, 48], [0, 0, 1]])

    def camera(rgb, K):
        return replace(GOOD, K_px=K_px, source="Depth Pro")

    seen = see_more(Photo(RGB), ours(depth=camera))
    np.testing.assert_array_equal(seen.K_px, K_px)
    assert seen.K_source == "Depth Pro" and "focal length of 180 px" in seen.note
    known = Photo(RGB, K_px=K_px * 2, K_source="exif")
    assert see_more(known, ours(depth=camera)).K_px is known.K_px


def test_what_the_user_gave_stays():
    def never(*_):
        raise AssertionError("asked for nothing")

    given = Photo(RGB, depth_m=GOOD.depth_m, hints=(ObjectHint("cup", mask=MASK),))
    seen = see_more(given, ours(depth=never, segmentation=never, listing=never))
    assert seen.depth_m is given.depth_m and seen.hints == given.hints and seen.note == ""
    assert see_more(given, choose_backends("offline")) is not None


def test_words_of_the_user_need_no_listing_model():
    seen = see_more(Photo(RGB), ours(depth=None, listing=None), ("red block",))
    assert [hint.name for hint in seen.hints] == ["red block"] and "of the words given" in seen.note
    alone = see_more(Photo(RGB), ours(depth=None, listing=None))
    assert alone.hints == () and "reds was not used" in alone.note


def test_finding_nothing_is_said_and_leaves_the_search_to_perception():
    none = see_more(Photo(RGB), ours(depth=None, listing=lambda rgb: ()))
    assert none.hints == () and "saw no movable objects" in none.note
    lost = see_more(Photo(RGB), ours(depth=None, segmentation=lambda rgb, words: ()))
    assert lost.hints == () and "found none of red cube, cup" in lost.note


def test_broken_results_never_reach_the_photo():
    with pytest.raises(PerceptionError, match="'Plane' returned depth as 160 x 96 float32"):
        see_more(Photo(RGB), ours(depth=lambda rgb, K: replace(GOOD, depth_m=GOOD.depth_m.T)))
    with pytest.raises(PerceptionError, match="'red_words' returned"):
        see_more(Photo(RGB), ours(listing=lambda rgb: ["cup"]))


def test_holes_are_painted_by_the_model_that_was_chosen():
    assert paint_hole(RGB, MASK, ours()) is None
    painted = paint_hole(RGB, MASK, Backends(inpainting=grey))
    assert painted is not None and (painted[MASK] == 128).all() and (painted[~MASK] == RGB[~MASK]).all()
    with pytest.raises(PerceptionError, match="changed outside"):
        paint_hole(RGB, MASK, Backends(inpainting=lambda rgb, mask: 255 - rgb))


def test_a_backend_that_fails_is_an_error_that_names_it():
    def out_of_memory(*_):
        raise RuntimeError("out of memory\nlong trace")

    for family in ("depth", "segmentation", "listing"):
        with pytest.raises(PerceptionError, match=rf"'{OWN[family]}' failed \(RuntimeError: out of memory\)"):
            see_more(Photo(RGB), ours(**{family: out_of_memory}))
    with pytest.raises(PerceptionError, match="failed"):
        paint_hole(RGB, MASK, Backends(inpainting=out_of_memory))


def test_a_backend_cannot_change_the_photo():
    def scribble(rgb, K_px):
        rgb[:] = 0
        return GOOD

    photo = Photo(RGB.copy())
    see_more(photo, ours(depth=scribble, segmentation=None))
    np.testing.assert_array_equal(photo.rgb, RGB)
