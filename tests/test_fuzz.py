"""Any photo, depth, camera and hints give a twin that loads and passes the validator, or one sentence of refusal.

PHOTOTWIN_FUZZ=300 ./isaaclab.sh -t tests/test_fuzz.py      # a longer search with new examples each time
"""

import json
import os
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from PIL import Image

from phototwin.errors import TwinError
from phototwin.frames import make_T, rotation_z, support_depth
from phototwin.pipeline import Source, photo_to_twin
from phototwin.scene import load_scene
from phototwin.stage.read import read_stage

EXAMPLES = int(os.environ.get("PHOTOTWIN_FUZZ", "0"))
FAST_EXAMPLES = 14
MAX_CPU_S = 60.0  # an example of this size takes one or two; a loop that does not end is stopped by the timeout
PROFILE = (
    {"max_examples": EXAMPLES}
    if EXAMPLES
    else {"max_examples": FAST_EXAMPLES, "derandomize": True, "phases": (Phase.explicit, Phase.generate)}
)

PHOTOS = ("things", "constant", "black", "white", "noise", "gradient", "checker")
DEPTHS = (
    "none",
    "things",
    "things",
    "constant",
    "noise",
    "holes",
    "nan",
    "saturated",
    "steps",
    "zero",
    "tilted",
    "near",
    "far",
)
CAMERAS = ("none", "K", "K", "pose", "wide", "tele", "pose level", "pose down", "pose high", "pose low", "pose other")
HINTS = ("none", "boxes", "points", "one pixel", "huge", "same", "ids", "masks overlap", "thin")
ANCHORS = (
    "",
    "",
    "camera height=0.5",
    "camera height=5",
    "camera height=0.001",
    "thing 1=0.05",
    "thing 1=0.0001",
    "thing 1=1.5",
)


@st.composite
def inputs(draw):
    """What a user could hand in, as names of kinds and a seed: small to print, small to shrink."""
    return {
        "size": draw(st.tuples(st.integers(64, 96), st.integers(64, 96))),
        "seed": draw(st.integers(0, 10_000)),
        "photo": draw(st.sampled_from(PHOTOS)),
        "depth": draw(st.sampled_from(DEPTHS)),
        "camera": draw(st.sampled_from(CAMERAS)),
        "hints": draw(st.sampled_from(HINTS)),
        "anchor": draw(st.sampled_from(ANCHORS)),
        "pitch": draw(st.floats(1, 90)),
        "height": draw(st.floats(0.05, 3.0)),
        "things": draw(st.integers(0, 4)),
    }


def pose_of(pitch_deg, height_m):
    p = np.deg2rad(pitch_deg)
    forward, right = np.array([np.cos(p), 0.0, -np.sin(p)]), np.array([0.0, -1.0, 0.0])
    return make_T(np.stack([right, np.cross(forward, right), forward], 1), np.array([0.0, 0.0, height_m]))


def write_inputs(value, folder: Path) -> Source:
    """The files of one example."""
    rng = np.random.default_rng(value["seed"])
    width, height = value["size"]
    K = np.array([[1.1 * width, 0, width / 2], [0, 1.1 * width, height / 2], [0, 0, 1.0]])
    T = pose_of(value["pitch"], value["height"])
    rgb, depth, ids = draw_things(rng, K, T, width, height, value["things"])
    Image.fromarray(photo_of(value["photo"], rng, rgb)).save(folder / "photo.png")
    source = {"photo": folder / "photo.png"}
    if value["depth"] != "none":
        file = folder / ("depth.png" if value["depth"] == "saturated" else "depth.npy")
        values = depth_of(value["depth"], rng, depth)
        Image.fromarray(values).save(file) if file.suffix == ".png" else np.save(file, values)
        source["depth"] = file
    if value["camera"] != "none":
        (folder / "camera.json").write_text(json.dumps(camera_of(value["camera"], rng, K, T)))
        source["camera"] = folder / "camera.json"
    if value["hints"] == "ids":
        Image.fromarray(ids).save(folder / "masks.png")
        source["masks"] = folder / "masks.png"
    elif value["hints"] != "none":
        (folder / "objects.json").write_text(json.dumps(hints_of(value["hints"], rng, ids, folder)))
        source["objects"] = folder / "objects.json"
    return Source(**source, anchor=(value["anchor"],) if value["anchor"] else ())


def draw_things(rng, K, T, width, height, count):
    """Photo, depth and ids of coloured blocks and bumps on a plane."""
    depth = np.minimum(support_depth(K, T, width, height), 60.0)
    rgb = 130 + 12 * rng.standard_normal((height, width, 3))
    ids = np.zeros((height, width), np.uint8)
    y, x = np.indices((height, width))
    for i in range(count):
        cx, cy, r = rng.uniform(0, width), rng.uniform(0, height), rng.uniform(2, 25)
        flat = np.abs(x - cx) + np.abs(y - cy) if rng.random() < 0.5 else np.hypot(x - cx, y - cy)
        here = flat < r
        bump = rng.uniform(0.001, 0.3) * (np.sqrt(np.maximum(1 - (flat / r) ** 2, 0)) if rng.random() < 0.5 else 1.0)
        depth = np.where(here, np.maximum(depth - bump, 0.03), depth)
        rgb[here] = rng.uniform(0, 255, 3)
        ids[here] = i + 1
    return rgb, depth, ids


def photo_of(kind, rng, rgb):
    y, x = np.indices(rgb.shape[:2])
    image = {
        "things": rgb,
        "constant": np.full_like(rgb, 117),
        "black": np.zeros_like(rgb),
        "white": np.full_like(rgb, 255),
        "noise": rng.uniform(0, 255, rgb.shape),
        "gradient": np.repeat((x + y)[..., None], 3, -1),
        "checker": np.repeat(((x // 8 + y // 8) % 2 * 200)[..., None], 3, -1),
    }[kind]
    return np.clip(image, 0, 255).astype(np.uint8)


def depth_of(kind, rng, depth):
    shape = depth.shape
    holes = rng.random(shape)
    y, x = np.indices(shape)
    values = {
        "things": depth + 0.001 * rng.standard_normal(shape),
        "constant": np.full(shape, 0.7),
        "noise": rng.uniform(0.1, 3, shape),
        "holes": np.where(holes < rng.uniform(0.1, 0.999), 0, depth),
        "nan": np.where(holes < 0.3, np.nan, np.where(holes < 0.5, np.inf, np.where(holes < 0.6, -1.0, depth))),
        "saturated": np.where(holes < 0.5, 65.535, depth),
        "steps": 0.5 + 0.1 * (x // 10 + y // 12),
        "zero": np.zeros(shape),
        "tilted": 0.3 + x * rng.uniform(0.001, 0.1) + y * rng.uniform(-0.001, 0.01),
        "near": 0.03 * depth,
        "far": 15 * depth,
    }[kind]
    if kind == "saturated":
        return np.round(1000 * np.minimum(values, 65.535)).astype(np.uint16)
    return values.astype(np.float32)


def camera_of(kind, rng, K, T):
    scale = {"wide": 0.25, "tele": 12.0}.get(kind, 1.0)
    K = np.diag([scale, scale, 1]) @ K
    K[:2, 2] /= scale
    value = {"K_px": K.tolist()}
    poses = {
        "pose": T,
        "pose level": pose_of(0.01, T[2, 3]),
        "pose down": pose_of(90, T[2, 3]),
        "pose high": pose_of(60, 40.0),
        "pose low": pose_of(30, 0.001),
        "pose other": make_T(rotation_z(2.0), np.array([5.0, -3.0, 0.0])) @ pose_of(45, 0.5),
    }
    return value | ({"T_world_camera": poses[kind].tolist()} if kind in poses else {})


def hints_of(kind, rng, ids, folder):
    height, width = ids.shape
    count = int(rng.integers(1, 4))
    hints = []
    for i in range(count):
        x, y = rng.uniform(0, width - 12), rng.uniform(0, height - 12)
        item = {"name": f"thing {i + 1}"}
        mask = np.zeros(ids.shape, np.uint8)
        if kind == "boxes":
            item["box"] = [x, y, min(x + rng.uniform(1, 50), width), min(y + rng.uniform(1, 50), height)]
        elif kind == "points":
            item["point"] = [x, y]
        elif kind == "one pixel":
            mask[int(y), int(x)] = 255
        elif kind == "huge":
            item["box"] = [0, 0, width, height]
        elif kind == "same":
            item["box"] = [10, 10, 40, 45]
        elif kind == "thin":
            mask[int(y), :] = 255
        else:
            mask[10 + 5 * i : 50, 10:45] = 255
        if mask.any():
            Image.fromarray(mask).save(folder / f"mask{i}.png")
            item["mask"] = f"mask{i}.png"
        hints.append(item)
    return hints


def check_twin(folder):
    """The twin loads, all its numbers are finite and mean something, and the validator accepts its USD."""
    from phototwin.stage.validate import validate_stage

    scene = load_scene(folder)
    read_stage(folder / "twin.usda")
    arrays = [scene.camera.K_px, scene.camera.T_world_camera, scene.support.polygon_w, scene.background.points]
    for item in scene.objects:
        arrays += [item.T_world_object, item.size_m, item.mesh.points, item.mesh.st, item.size_sigma_m, item.position_sigma_m]  # fmt: skip
        arrays += [piece.points for piece in item.pieces]
        assert (item.size_m > 0).all() and item.mass_kg > 0 and item.friction >= 0, item
        assert len(item.pieces) and len(item.mesh.faces)
        assert np.allclose(item.T_world_object[:3, :3] @ item.T_world_object[:3, :3].T, np.eye(3), atol=1e-6)
    assert all(np.isfinite(a).all() for a in arrays)
    assert np.isfinite([i.mass_kg for i in scene.objects]).all()
    assert all("nan" not in note.lower().split() for note in scene.notes.values())
    assert not (issues := validate_stage(folder / "twin.usda")), issues


@pytest.mark.timeout(max(300, 10 * EXAMPLES))
@settings(deadline=None, suppress_health_check=list(HealthCheck), database=None, **PROFILE)
@given(value=inputs())
def test_any_input_gives_a_valid_twin_or_a_sentence(value, tmp_path_factory):
    folder = tmp_path_factory.mktemp("fuzz")
    source = write_inputs(value, folder)
    start = time.process_time()
    try:
        photo_to_twin(source, folder / "twin")
    except TwinError as error:
        text = str(error)
        assert text and "Traceback" not in text and "nan" not in text.lower().split()
        assert not (folder / "twin").exists()
    else:
        check_twin(folder / "twin")
    assert time.process_time() - start < MAX_CPU_S
