"""Loading: what comes in is upright, metric and checked; what cannot be is refused in one sentence."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from phototwin.errors import InputError
from phototwin.perceive.photo import MAX_SIDE_PX, load_background, load_photo

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
W, H = 96, 72
K = {"fx": 80.0, "fy": 80.0, "cx": 47.0, "cy": 36.0}
T_DOWN = [[0, -1, 0, 0], [-1, 0, 0, 0], [0, 0, -1, 0.5], [0, 0, 0, 1]]


def coordinates(width: int = W, height: int = H) -> np.ndarray:
    """An image whose pixels say where they are: red = column, green = row."""
    v, u = np.mgrid[:height, :width]
    return np.stack([u % 256, v % 256, np.full_like(u, 40)], -1).astype(np.uint8)


def write_json(file: Path, value: object) -> Path:
    file.write_text(value if isinstance(value, str) else json.dumps(value))
    return file


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    file = tmp_path / "desk.png"
    Image.fromarray(coordinates()).save(file)
    return file


def save_depth(file: Path, values: np.ndarray) -> Path:
    np.save(file, values) if file.suffix == ".npy" else Image.fromarray(values).save(file)
    return file


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied_and_companions_refer_to_the_upright_photo(tmp_path: Path, orientation: int):
    upright = coordinates()
    undo = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.transpose(1, 0, 2),
        6: lambda a: np.rot90(a, 1),
        7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
        8: lambda a: np.rot90(a, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.ascontiguousarray(undo(upright))).save(tmp_path / "p.png", exif=exif)
    depth = save_depth(tmp_path / "d.npy", np.full((H, W), 0.7, np.float32))
    loaded = load_photo(tmp_path / "p.png", depth, write_json(tmp_path / "c.json", {"K_px": K}))
    np.testing.assert_array_equal(loaded.rgb, upright)
    if orientation >= 5:
        turned = save_depth(tmp_path / "t.npy", np.full((W, H), 0.7, np.float32))
        with pytest.raises(InputError, match="before its EXIF rotation"):
            load_photo(tmp_path / "p.png", turned)


@pytest.mark.parametrize("mode", ["L", "1", "P", "LA", "RGBA", "CMYK", "I;16", "PA"])
def test_every_mode_becomes_rgb(tmp_path: Path, mode: str):
    grey = np.tile(np.linspace(0, 255, W).astype(np.uint8), (H, 1))
    file = tmp_path / ("p.tif" if mode in ("CMYK",) else "p.png")
    if mode == "I;16":
        Image.fromarray(grey.astype(np.uint16) * 257).save(file)
    elif mode == "PA":
        Image.fromarray(grey).convert("P").save(file, transparency=0)
    else:
        Image.fromarray(grey).convert("RGBA" if mode == "RGBA" else "L").convert(mode).save(file)
    rgb = load_photo(file).rgb
    assert rgb.shape == (H, W, 3) and rgb.dtype == np.uint8
    if mode not in ("1", "PA"):
        assert np.abs(rgb.astype(int) - grey[..., None]).max() <= 1
    if mode == "PA":
        assert (rgb[:, 0] == 255).all()


def test_alpha_is_laid_on_white(tmp_path: Path):
    rgba = np.zeros((H, W, 4), np.uint8)
    rgba[:, : W // 2, 3] = 255
    Image.fromarray(rgba).save(tmp_path / "a.png")
    rgb = load_photo(tmp_path / "a.png").rgb
    assert (rgb[:, : W // 2] == 0).all() and (rgb[:, W // 2 :] == 255).all()


def test_large_photo_is_reduced_with_everything_that_belongs_to_it(tmp_path: Path):
    width, height = 3000, 2000
    Image.fromarray(coordinates(width, height)).save(tmp_path / "big.jpg")
    depth = np.full((height, width), 0.5, np.float32)
    depth[:, 1500:] = 1.0
    mask = np.zeros((height, width), np.uint8)
    mask[500:1000, 1500:2000] = 255
    Image.fromarray(mask).save(tmp_path / "m.png")
    objects = [{"box": [0, 0, 1500, 1000], "name": "a"}, {"point": [1500, 1000]}, {"mask": "m.png"}]
    loaded = load_photo(
        tmp_path / "big.jpg",
        save_depth(tmp_path / "d.npy", depth),
        write_json(tmp_path / "c.json", {"K_px": [[2400, 0, 1500], [0, 2400, 1000], [0, 0, 1]]}),
        write_json(tmp_path / "o.json", objects),
    )
    assert loaded.rgb.shape == (1280, MAX_SIDE_PX, 3) and loaded.depth_m.shape == (1280, MAX_SIDE_PX)
    np.testing.assert_allclose(loaded.K_px, [[1536, 0, 960], [0, 1536, 640], [0, 0, 1]])
    assert set(np.unique(loaded.depth_m)) == {0.5, 1.0} and (loaded.depth_m[0, 960:] == 1).all()
    np.testing.assert_allclose(loaded.hints[0].box_px, [0, 0, 960, 640])
    np.testing.assert_allclose(loaded.hints[1].point_px, [960, 640])
    assert abs(loaded.hints[2].mask.mean() - mask.astype(bool).mean()) < 1e-3
    assert "3000 x 2000" in loaded.note


def test_twelve_thousand_by_nine_thousand_is_accepted(tmp_path: Path):
    Image.new("L", (12000, 9000), 90).save(tmp_path / "huge.jpg")
    loaded = load_photo(tmp_path / "huge.jpg")
    assert loaded.rgb.shape == (1440, 1920, 3) and "12000 x 9000" in loaded.note


@pytest.mark.parametrize("kind", ["png", "npy_float", "npy_mm", "npy_double", "exr"])
def test_depth_formats_agree(tmp_path: Path, photo: Path, kind: str):
    depth_m = (0.3 + np.arange(H * W).reshape(H, W) / 10000).astype(np.float32)
    depth_m[3, 5] = 0
    if kind == "png":
        file = save_depth(tmp_path / "d.png", np.round(depth_m * 1000).astype(np.uint16))
    elif kind == "npy_mm":
        file = save_depth(tmp_path / "d.npy", np.round(depth_m * 1000).astype(np.uint16))
    else:
        values = depth_m.astype(np.float64 if kind == "npy_double" else np.float32)
        values[3, 5], values[0, 0], values[0, 1] = np.nan, np.inf, -1
        if kind == "exr":
            import os

            os.environ["OPENCV_IO_ENABLE_OPENEXR"] = "1"
            import cv2

            file = tmp_path / "d.exr"
            cv2.imwrite(str(file), values)
        else:
            file = save_depth(tmp_path / "d.npy", values)
        depth_m[0, :2] = 0
    loaded = load_photo(photo, file).depth_m
    assert loaded.dtype == np.float32 and loaded[3, 5] == 0
    np.testing.assert_allclose(loaded, depth_m, atol=5.1e-4 if kind in ("png", "npy_mm") else 1e-7)


def test_camera_forms_agree(tmp_path: Path, photo: Path):
    matrix = [[K["fx"], 0, K["cx"]], [0, K["fy"], K["cy"]], [0, 0, 1]]
    for value in ({"K_px": K}, {"K_px": matrix}, {"K_px": K, "T_base_camera": T_DOWN, "T_base_camera_note": "x"}):
        loaded = load_photo(photo, camera=write_json(tmp_path / "c.json", value))
        np.testing.assert_array_equal(loaded.K_px, matrix)
        assert loaded.K_source == "camera file"
    np.testing.assert_allclose(loaded.T_world_camera, T_DOWN)


def test_exif_focal_length(tmp_path: Path):
    def load(tags: dict[int, object], size: tuple[int, int] = (900, 600), orientation: int = 1):
        exif = Image.Exif()
        exif[0x0112] = orientation
        exif.get_ifd(0x8769).update(tags)
        Image.new("RGB", size).save(tmp_path / "e.jpg", exif=exif)
        return load_photo(tmp_path / "e.jpg")

    full_frame = load({0xA405: 36})
    np.testing.assert_allclose(full_frame.K_px, [[900, 0, 450], [0, 900, 300], [0, 0, 1]], rtol=1e-3)
    assert full_frame.K_source == "exif"
    turned = load({0xA405: 36}, orientation=6)
    np.testing.assert_allclose(turned.K_px[:2, 2], [300, 450])
    assert turned.K_px[0, 0] == pytest.approx(900, rel=1e-3)
    # 4 mm lens, 6 mm wide sensor: 6000 pixels of 1 um, photo stored at 900
    sensor = load({0x920A: 4.0, 0xA20E: 10000.0, 0xA210: 3, 0xA002: 6000, 0xA003: 4000})
    assert sensor.K_px[0, 0] == pytest.approx(600)
    assert load({0xA405: 36, 0xA002: 900, 0xA003: 900}).K_px is None  # cropped since
    assert load({0x920A: 4.0}).K_px is None
    assert load({}).K_source is None


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("my desk-2.jpg", "my_desk_2"),
        ("kitchen/rgb.png", "kitchen"),
        ("3 cups/photo.png", "photo_3_cups"),
        ("__.png", "photo"),
    ],
)
def test_names_are_identifiers(tmp_path: Path, path: str, name: str):
    file = tmp_path / path
    file.parent.mkdir(exist_ok=True)
    Image.fromarray(coordinates()).save(file)
    loaded = load_photo(file).name
    assert loaded == name and loaded.isidentifier()


def one_sentence(info: pytest.ExceptionInfo[InputError]) -> str:
    text = str(info.value)
    assert len(text) < 500 and "\n" not in text and text.endswith("."), text
    return text


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "no photo file"),
        ("folder", "is a folder"),
        (b"", "empty"),
        (b"hello, I am a text", "not an image"),
        ("truncated.png", "truncated"),
        ("truncated.jpg", "truncated"),
        ((1, 1), "1 x 1"),
        ((400, 63), "at least 64"),
        ((9000, 70), "once reduced"),
    ],
)
def test_bad_photos(tmp_path: Path, content: object, says: str):
    file = tmp_path / (content if isinstance(content, str) and "." in content else "p.png")
    if content == "folder":
        file.mkdir()
    elif isinstance(content, bytes):
        file.write_bytes(content)
    elif isinstance(content, tuple):
        Image.new("RGB", content).save(file)
    elif isinstance(content, str):
        noise = np.random.default_rng(0).integers(0, 255, (H, W, 3), dtype=np.uint8)
        Image.fromarray(noise).save(file)
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(InputError, match=says) as info:
        load_photo(file)
    assert "p.png" in one_sentence(info) or "truncated" in one_sentence(info)


@pytest.mark.parametrize(
    ("name", "values", "says"),
    [
        ("d.png", np.full((H, W + 1), 500, np.uint16), "97 x 72 values and the upright photo 96 x 72"),
        ("d.png", np.full((H, W), 50, np.uint8), "mode L"),
        ("d.png", np.full((H, W, 3), 50, np.uint8), "mode RGB"),
        ("d.png", np.zeros((H, W), np.uint16), "no reading"),
        ("d.npy", np.full((H, W), np.nan), "no reading"),
        ("d.npy", np.full((H, W), 700.0), "looks like millimetres"),
        ("d.npy", np.full((H, W), 1, np.uint16), "too near"),
        ("d.npy", np.full((H, W, 2), 1.0), "96 x 72 x 2"),
        ("d.npy", np.full((H, W), 1 + 1j), "complex"),
        ("d.npy", b"nonsense", "damaged"),
        ("d.npy", b"", "empty"),
        ("d.png", b"nonsense", "damaged"),
        ("d.exr", b"nonsense", "EXR"),
        ("d.tif", b"nonsense", "'.tif', expected .png"),
        ("d.png", None, "no depth file"),
    ],
)
def test_bad_depth(tmp_path: Path, photo: Path, name: str, values: np.ndarray | bytes | None, says: str):
    file = tmp_path / name
    if isinstance(values, bytes):
        file.write_bytes(values)
    elif values is not None:
        save_depth(file, values)
    with pytest.raises(InputError, match=says) as info:
        load_photo(photo, file)
    one_sentence(info)


def with_pose(**changes: object) -> dict[str, object]:
    T = [list(map(float, row)) for row in T_DOWN]
    for key, value in changes.items():
        T[int(key[1])][int(key[2])] = value
    return {"K_px": K, "T_world_camera": T}


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("{", "not JSON"),
        ([1], "no 'K_px'"),
        ({"fx": 1}, "no 'K_px'"),
        ({"K_px": {"fx": 1, "fy": 1}}, "expected fx, fy, cx, cy"),
        ({"K_px": [[1, 2], [3, 4]]}, "3 x 3"),
        ({"K_px": {**K, "fx": float("nan")}}, "finite"),
        ({"K_px": {**K, "fx": "eighty"}}, "finite"),
        ({"K_px": {**K, "fx": -80}}, "positive"),
        ({"K_px": {**K, "fx": 0}}, "positive"),
        ({"K_px": {**K, "cx": 500}}, "outside"),
        ({"K_px": {**K, "cx": 20, "cy": 16}}, "far from the middle"),
        ({"K_px": {**K, "fy": 200}}, "no camera has"),
        ({"K_px": {**K, "fx": 8, "fy": 8}}, "no camera has"),
        ({"K_px": [[80, 5, 47], [0, 80, 36], [0, 0, 1]]}, "skew"),
        ({"K_px": [[80, 0, 47], [0, 80, 36], [0, 0, 2]]}, "row 0, 0, 1"),
        ({"K_px": K, "width": 640, "height": 480}, "640 x 480"),
        ({"K_px": K, "T_camera_world": T_DOWN}, "unknown keys"),
        ({"K_px": K, "T_world_camera": T_DOWN, "T_base_camera": T_DOWN}, "both"),
        ({"K_px": K, "T_world_camera": T_DOWN[:3]}, "4 x 4"),
        (with_pose(_00=2.0), "rigid"),
        (with_pose(_01=1.0), "rigid"),
        (with_pose(_30=1.0), "rigid"),
        (with_pose(_23=-0.5), "above"),
        (with_pose(_22=1.0, _01=1.0), "look up"),
    ],
)
def test_bad_cameras(tmp_path: Path, photo: Path, value: object, says: str):
    with pytest.raises(InputError, match=says) as info:
        load_photo(photo, camera=write_json(tmp_path / "c.json", value))
    one_sentence(info)


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("[", "not JSON"),
        ([], "list"),
        ({"things": []}, "list"),
        (["cup"], "must be an object"),
        ([{"name": "cup"}], "where it is"),
        ([{"box": [0, 0, 10]}], "4 finite"),
        ([{"box": [10, 0, 5, 5]}], "x0 < x1"),
        ([{"box": [0, 0, 200, 20]}], "inside the upright photo of 96 x 72"),
        ([{"point": [96, 3]}], "inside the upright photo"),
        ([{"point": [3, None]}], "finite"),
        ([{"point": [3, 3], "colour": "red"}], "unknown keys"),
        ([{"point": [3, 3], "name": ""}], "short text"),
        ([{"point": [3, 3], "name": "a"}, {"point": [9, 3], "name": "a"}], "twice"),
        ([{"mask": "none.png"}], "no mask file"),
        ([{"mask": "black.png"}], "all black"),
        ([{"mask": "small.png"}], "10 x 10"),
        ([{"mask": 3}], "name of an image"),
    ],
)
def test_bad_hints(tmp_path: Path, photo: Path, value: object, says: str):
    Image.new("L", (W, H)).save(tmp_path / "black.png")
    Image.new("L", (10, 10), 255).save(tmp_path / "small.png")
    with pytest.raises(InputError, match=says) as info:
        load_photo(photo, objects=write_json(tmp_path / "o.json", value))
    one_sentence(info)


@pytest.mark.skipif(not DATA.is_dir(), reason="the real captures are not here")
def test_real_captures_load():
    for folder in sorted(path for path in DATA.iterdir() if path.is_dir()):
        depth = folder / "depth.png"
        loaded = load_photo(folder / "rgb.png", depth if depth.exists() else None, folder / "scene.json")
        assert loaded.name == folder.name and loaded.K_source == "camera file" and loaded.note == ""


def test_masks_come_as_an_id_image_or_as_a_folder(tmp_path: Path):
    Image.fromarray(coordinates()).save(tmp_path / "photo.png")
    height, width = coordinates().shape[:2]
    ids = np.zeros((height, width), np.uint8)
    ids[5:20, 5:20], ids[30:50, 10:40] = 1, 7
    Image.fromarray(ids).save(tmp_path / "ids.png")
    hints = load_photo(tmp_path / "photo.png", masks=tmp_path / "ids.png").hints
    assert [int(hint.mask.sum()) for hint in hints] == [int((ids == 1).sum()), int((ids == 7).sum())]
    folder = tmp_path / "masks"
    folder.mkdir()
    Image.fromarray(np.where(ids == 7, 255, 0).astype(np.uint8)).save(folder / "blue_mug.png")
    (hint,) = load_photo(tmp_path / "photo.png", masks=folder).hints
    assert hint.name == "blue mug" and np.array_equal(hint.mask, ids == 7)


def test_bad_masks_are_refused(tmp_path: Path):
    Image.fromarray(coordinates()).save(tmp_path / "photo.png")
    height, width = coordinates().shape[:2]
    (tmp_path / "none").mkdir()
    Image.fromarray(np.zeros((height, width), np.uint8)).save(tmp_path / "empty.png")
    Image.fromarray(np.ones((height, width + 1), np.uint8)).save(tmp_path / "size.png")
    Image.fromarray((np.arange(height * width) % 251).astype(np.uint8).reshape(height, width)).save(
        tmp_path / "many.png"
    )
    Image.fromarray(coordinates()).save(tmp_path / "colour.png")
    (tmp_path / "text.png").write_text("no image")
    for name in ("none", "empty.png", "size.png", "many.png", "colour.png", "text.png", "missing.png"):
        with pytest.raises(InputError) as info:
            load_photo(tmp_path / "photo.png", masks=tmp_path / name)
        assert name.split(".")[0] in one_sentence(info)
    with pytest.raises(InputError, match="keep one"):
        load_photo(tmp_path / "photo.png", objects=tmp_path / "x.json", masks=tmp_path / "empty.png")


def test_a_given_background_has_the_size_of_the_photo(tmp_path: Path):
    rgb = coordinates()
    Image.fromarray(rgb).save(tmp_path / "empty.png")
    np.testing.assert_array_equal(load_background(tmp_path / "empty.png", rgb.shape), rgb)
    half = (rgb.shape[0] // 2, rgb.shape[1] // 2, 3)
    assert load_background(tmp_path / "empty.png", half).shape == half
    with pytest.raises(InputError, match="same view"):
        load_background(tmp_path / "empty.png", (rgb.shape[0], rgb.shape[0], 3))
