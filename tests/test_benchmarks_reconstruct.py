"""Measures of suite ``reconstruct`` on inputs whose answer is known in closed form, and rows that survive a bad scene."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from phototwin.build.shapes import convex_piece, is_closed, mesh_volume
from phototwin.errors import PerceptionError
from phototwin.frames import make_T, rotation_z
from phototwin.perceive.vanishing import camera_rotation
from phototwin_tasks.benchmarks import captures, mask_rows, reconstruct_suite, size_rows
from phototwin_tasks.benchmarks.capture_measures import (
    bounding_box,
    box_mask,
    box_sides,
    emptiest_point,
    f_score,
    inner_point,
    inside_mesh,
    inside_pieces,
    overlap,
    psnr,
    sample_surface,
    ssim,
    texture_contrast,
    union_volume,
    upright_box,
    widest_m,
)
from phototwin_tasks.benchmarks.size_rows import plane_error

RNG = np.random.default_rng(3)


def noise_picture(height=120, width=160):
    return RNG.integers(60, 190, (height, width, 3)).astype(np.uint8)


def box_mesh(low, high):
    (x0, y0, z0), (x1, y1, z1) = low, high
    corners, faces = upright_box(np.array([[x0, y0, z1], [x1, y0, z1], [x0, y1, z1]], float))
    corners[:4, 2] = z0
    return corners, faces


def piece(low, high):
    return convex_piece(box_mesh(low, high)[0])


@pytest.mark.parametrize("step", [1, 5, 30])
def test_psnr_of_a_constant_error_is_20_log_255_over_it(step):
    a = noise_picture()
    assert psnr(a, a + np.uint8(step)) == pytest.approx(20 * np.log10(255 / step))


def test_psnr_counts_the_mask_only():
    a = noise_picture()
    b, where = a.copy(), np.zeros(a.shape[:2], bool)
    b[:50] += 10
    where[50:] = True
    assert psnr(a, b, where) == float("inf")
    assert np.isnan(psnr(a, b, np.zeros_like(where)))


def test_ssim_is_one_on_itself_and_low_for_other_noise():
    a = noise_picture()
    assert ssim(a, a) == pytest.approx(1)
    assert ssim(a, noise_picture()) < 0.1


def test_ssim_of_flat_pictures_is_its_luminance_term():
    a, b, c1 = 100.0, 150.0, (0.01 * 255) ** 2
    flat = [np.full((64, 64, 3), v, np.uint8) for v in (a, b)]
    assert ssim(*flat) == pytest.approx((2 * a * b + c1) / (a * a + b * b + c1), abs=1e-6)


def test_texture_contrast_sees_detail_not_light_nor_what_is_outside():
    row = np.linspace(40, 120, 160)
    light = np.broadcast_to(row[None, :, None], (120, 160, 3))
    where = np.zeros((120, 160), bool)
    where[30:90, 40:120] = True
    grain = RNG.normal(0, 8, (120, 160, 1))
    picture = np.clip(light + grain, 0, 255).astype(np.uint8)
    picture[:, 60] = 20  # an edge across it, one column in eighty
    picture[~where] = 255
    flat = np.where(where[..., None], light, 255).astype(np.uint8)
    assert texture_contrast(picture, where) == pytest.approx(8, rel=0.06)
    assert texture_contrast(flat, where) < 1.0


def test_overlap_and_boxes_of_rectangles():
    a, b = np.zeros((40, 60), bool), np.zeros((40, 60), bool)
    a[10:20, 10:30] = True
    b[10:20, 20:40] = True
    assert overlap(a, a) == 1
    assert overlap(a, b) == pytest.approx(100 / 300)
    assert overlap(~a & a, ~b & b) == 0
    assert bounding_box(a) == (10, 10, 30, 20)
    assert np.array_equal(box_mask(a), a)


def test_inner_point_is_inside_what_is_hollow():
    ring = np.zeros((50, 50), bool)
    ring[5:45, 5:45] = True
    ring[15:40, 10:40] = False
    x, y = inner_point(ring)
    assert ring[int(y), int(x)]


def test_f_score_of_a_cloud_against_itself_and_shifted():
    cloud = RNG.random((500, 3))
    assert f_score(cloud, cloud, 1e-6) == 1
    assert f_score(cloud, cloud + 2, 0.5) == 0


def test_f_score_is_the_harmonic_mean_of_its_shares():
    grid = np.stack(np.meshgrid(*[np.arange(4.0)] * 3), -1).reshape(-1, 3)
    half = np.concatenate([grid[:32], grid[:32] + 100])  # half of it is right, half of the truth is found
    assert f_score(half, grid, 0.1) == pytest.approx(0.5)


def test_surface_samples_are_even():
    points, faces = box_mesh((0, 0, 0), (4, 1, 1))
    samples = sample_surface(points, faces, 40000, np.random.default_rng(0))
    on_end = np.isclose(samples[:, 0], 4)
    assert on_end.mean() == pytest.approx(1 / 18, abs=0.005)  # an end has 1 of 18 units of area
    assert samples[on_end][:, 1:].mean(0) == pytest.approx([0.5, 0.5], abs=0.02)


def test_union_volume_counts_overlaps_once():
    pieces = (piece((0, 0, 0), (2, 1, 1)), piece((1, 0, 0), (3, 1, 1)))
    assert union_volume(pieces, np.random.default_rng(0)) == pytest.approx(3, rel=1e-3)
    apart = (piece((0, 0, 0), (1, 1, 1)), piece((9, 0, 0), (10, 1, 1)))
    assert union_volume(apart, np.random.default_rng(0)) == pytest.approx(2, rel=0.01)
    assert union_volume((), np.random.default_rng(0)) == 0


def test_inside_mesh_and_pieces_agree_on_boxes():
    points, faces = box_mesh((-1, -2, 0), (1, 2, 3))
    pieces = (piece((-1, -2, 0), (1, 2, 3)),)
    for p in RNG.uniform(-4, 4, (60, 3)):
        truth = bool((p > [-1, -2, 0]).all() and (p < [1, 2, 3]).all())
        assert inside_mesh(points, faces, p) is truth
        assert bool(inside_pieces(pieces, p[None])[0]) is truth


def test_emptiest_point_of_a_cup_is_on_its_axis():
    angle, z = RNG.uniform(0, 2 * np.pi, 6000), RNG.uniform(0, 0.1, 6000)
    wall = np.stack([0.04 * np.cos(angle) + 0.3, 0.04 * np.sin(angle), z], -1)
    handle = np.stack([np.full(300, 0.37), np.zeros(300), RNG.uniform(0.02, 0.08, 300)], -1)
    point = emptiest_point(np.concatenate([wall, handle]))
    assert np.linalg.norm(point[:2] - [0.3, 0]) < 0.004
    assert 0.04 <= point[2] <= 0.08


@pytest.mark.parametrize("angle_deg", [0, 27, 90, 133])
def test_upright_box_of_a_turned_box(angle_deg):
    points = np.stack(np.meshgrid([-0.05, 0.05], [-0.02, 0.02], [0.0, 0.12]), -1).reshape(-1, 3)
    corners, faces = upright_box(points @ rotation_z(np.radians(angle_deg)).T + [0.4, 0.1, 0])
    assert box_sides(corners) == pytest.approx([0.1, 0.04, 0.12], abs=1e-9)
    assert inside_mesh(corners, faces, np.array([0.4, 0.1, 0.06]))
    assert is_closed(faces)
    assert mesh_volume(corners, faces) == pytest.approx(0.1 * 0.04 * 0.12)


def test_widest_of_a_stick_is_its_length():
    stick = np.array([[0, 0, 0], [0.3, 0.4, 0.9]])
    assert widest_m(stick) == pytest.approx(0.5, abs=1e-4)


def test_plane_error_of_a_known_tilt_and_lift():
    truth = make_T(camera_rotation(np.radians(40)), np.array([0, 0, 0.5]))
    tilted = make_T(camera_rotation(np.radians(41)), np.array([0, 0, 0.5]))
    assert plane_error(tilted, truth)[0] == pytest.approx(1)
    lifted = make_T(rotation_z(0.7) @ camera_rotation(np.radians(40)), np.array([3, 0, 0.51]))
    assert plane_error(lifted, truth) == pytest.approx((0, 10), abs=1e-5)


def test_outline_of_polygons_is_exact_on_pixels_and_keeps_holes():
    outer = [[10.0, 10], [50, 10], [50, 40], [10, 40]]
    hole = [[20.0, 20], [30, 20], [30, 30], [20, 30]]
    mask = captures.outline_of([outer, hole], (60, 80))
    expected = np.zeros((60, 80), bool)
    expected[10:40, 10:50] = True
    expected[20:30, 20:30] = False
    assert overlap(mask, expected) > 0.93
    slid = captures.outline_of([[[x + 0.25, y] for x, y in outer]], (60, 80))
    assert overlap(slid, captures.outline_of([outer], (60, 80))) > 0.97


def test_drawn_outlines_lie_on_the_captures():
    data = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not data.is_dir():
        pytest.skip("the captures are not there")
    for name, things in json.loads(captures.DRAWN.read_text()).items():
        with Image.open(data / name / "rgb.png") as photo:
            shape = (photo.height, photo.width)
        masks = [captures.outline_of(polygons, shape) for polygons in things.values()]
        assert min(mask.sum() for mask in masks) > 300
        assert np.sum(masks, axis=0).max() <= 1 + (name == "o2s_spoon_plate")  # drawn edges may share pixels
        facts = json.loads((data / name / "scene.json").read_text())
        assert list(things) == [item["name"] for item in facts["objects"]]


def tiny_capture(folder):
    folder.mkdir(parents=True)
    Image.fromarray(noise_picture()).save(folder / "rgb.png")
    facts = {"K_px": {"fx": 150, "fy": 150, "cx": 80, "cy": 60}, "objects": [{"name": "x", "size_m": None}]}
    facts["objects"][0]["height_m_by_depth"] = 0.1
    (folder / "scene.json").write_text(json.dumps(facts))
    Image.fromarray(np.pad(np.ones((40, 50), np.uint8), ((30, 50), (60, 50)))).save(folder / "masks.png")
    Image.fromarray(np.full((120, 160), 500, np.uint16)).save(folder / "depth.png")


def test_a_scene_that_fails_gives_empty_rows_and_a_sentence(tmp_path, monkeypatch, capsys):
    tiny_capture(tmp_path / "data" / "six_sugar")

    def refuse(*args, **kwargs):
        raise PerceptionError("There is nothing to see.")

    monkeypatch.setattr(captures, "photo_to_twin", refuse)
    monkeypatch.setattr(mask_rows, "look", refuse)
    monkeypatch.setattr(size_rows, "look", refuse)
    monkeypatch.setattr(reconstruct_suite, "SCENES", ("six_sugar",))
    monkeypatch.setattr(reconstruct_suite, "TRUTH", "phototwin_tasks.benchmarks.no_such_suite")
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    rows = list(reconstruct_suite.measure_in(tmp_path / "data", False, scratch))
    assert "There is nothing to see." in capsys.readouterr().err
    assert {row.scene for row in rows} >= {"six_sugar", "all six_*"}
    ours = [row for row in rows if row.name == "size error, height" and row.scene == "six_sugar"]
    assert ours
    assert all(np.isnan(row.value) for row in ours)
    assert [row.ok for row in rows if row.name == "first frame PSNR" and row.target] == [False]


def test_captures_that_are_not_there_are_left_out(tmp_path):
    bench = captures.Bench(tmp_path, tmp_path, ("six_sugar",))
    assert bench.capture("six_sugar") is None
    assert bench.capture("sample") is None
    assert captures.Bench(None, tmp_path, ("six_sugar", "sample")).capture("six_sugar") is None


def test_a_take_is_made_once(tmp_path, monkeypatch):
    calls = []

    def refuse(source, folder):
        calls.append(source)
        raise PerceptionError("No.")

    monkeypatch.setattr(captures, "photo_to_twin", refuse)
    tiny_capture(tmp_path / "six_sugar")
    bench = captures.Bench(tmp_path, tmp_path, ("six_sugar",))
    capture = bench.capture("six_sugar")
    assert capture is not None
    for _ in range(2):
        take = bench.take(capture, "depth", depth=True, hints=captures.mask_hints(capture))
        assert take.scene is None
        assert take.error == "No."
    assert len(calls) == 1
    assert json.loads(Path(calls[0].camera).read_text())["K_px"][0] == [150, 0, 80]
    assert captures.load_capture("six_sugar", tmp_path / "six_sugar", tmp_path).outlines["x"].sum() > 1000
