"""The blending's truth test: its light against closed forms, its scenes and regions, its rows on made-up numbers."""

import json

import numpy as np
import pytest

from phototwin.frames import invert, make_T, transform
from phototwin.images import load_ids, load_rgb
from phototwin.light import Light, ambient_irradiance, plain_light, sh_basis
from phototwin.robots import tool_in_link
from phototwin_tasks.benchmarks import blend_measure, blend_render, blend_rows, blend_scenes, blend_suite
from phototwin_tasks.benchmarks.blend_light import even_directions, true_light, window_irradiance
from phototwin_tasks.benchmarks.blend_measure import REGIONS, Score
from phototwin_tasks.benchmarks.truth_surfaces import rounded_box
from phototwin_tasks.benchmarks.truth_trace import Part

WINDOW = {"name": "window", "center_w": [0.0, 0.0, 1.0], "target_w": [0.0, 0.0, 0.0], "size_m": [0.8, 0.5], "radiance": [2.0, 1.0, 0.5]}  # fmt: skip


@pytest.fixture(scope="module")
def described():
    return {seed: blend_scenes.describe_blend(seed) for seed in (0, 9)}


# ---------------------------------------------------------------- light


def test_a_windows_irradiance_is_the_form_factor_of_a_rectangle():
    vector, solid_angle = window_irradiance(WINDOW, np.zeros(3))
    x, y = 0.4, 0.25  # a corner of a quarter of it, over its height of 1 m

    def half(a, b):
        return a / np.hypot(1, a) * np.arctan(b / np.hypot(1, a))

    factor = 4 / (2 * np.pi) * (half(x, y) + half(y, x))
    np.testing.assert_allclose(vector[2], np.pi * factor * np.array(WINDOW["radiance"]), rtol=1e-3)
    np.testing.assert_allclose(vector[:2], 0, atol=1e-9)
    exact = 4 * np.arctan(x * y / np.sqrt(1 + x * x + y * y))
    assert solid_angle == pytest.approx(exact, rel=1e-3)


def test_a_windows_back_is_dark():
    assert window_irradiance(WINDOW, np.array([0.0, 0.0, 2.0]))[1] == 0


def test_a_small_far_window_obeys_the_inverse_square_wherever_it_faces():
    center = np.array([3.0, -4.0, 5.0])
    lamp = {**WINDOW, "center_w": center.tolist(), "size_m": [0.02, 0.02]}
    vector, solid_angle = window_irradiance(lamp, np.zeros(3))
    assert solid_angle == pytest.approx(0.02**2 / 50, rel=1e-4)
    np.testing.assert_allclose(vector[:, 1] / np.linalg.norm(vector[:, 1]), center / np.sqrt(50), atol=1e-4)


def test_even_directions_integrate_the_harmonics():
    d = even_directions(2000)
    gram = 4 * np.pi / len(d) * sh_basis(d).T @ sh_basis(d)
    np.testing.assert_allclose(gram, np.eye(9), atol=5e-3)


def test_true_light_far_from_everything_is_the_sky_and_the_window():
    pytest.importorskip("mitsuba")
    speck = Part("table-0", rounded_box([0.01, 0.01, 0.01], 0.001), make_T(np.eye(3), np.array([0, 0, -50.0])), np.full((2, 2, 3), 0.5, np.float32), [1, 1], 0.3)  # fmt: skip
    truth = {
        "seed": 0, "center_w": [0.0, 0.0, 0.0], "lights": [WINDOW], "ambient": [0.3, 0.2, 0.1], "exposure": 2.0,
        "camera": {"width": 8, "height": 8, "K_px": [[8, 0, 4], [0, 8, 4], [0, 0, 1]], "T_world_camera": np.eye(4).tolist()},
    }  # fmt: skip
    light = true_light(truth, [speck])
    np.testing.assert_allclose(light.direction_w, [0, 0, 1], atol=1e-6)
    assert light.distance_m == 1.0
    assert light.half_angle_rad == pytest.approx(np.sqrt(0.8 * 0.5 / np.pi), rel=0.1)
    # The window hides some of the sky behind it at most.
    np.testing.assert_allclose(ambient_irradiance(light, np.array([0.0, 0.0, -1.0])), 2 * np.pi * np.array([0.3, 0.2, 0.1]), rtol=0.05)  # fmt: skip


def test_a_coats_pigment_shows_the_color_it_is_made_for():
    color, f = np.linspace(0, 1, 11), blend_scenes.INTERNAL_REFLECTION
    pigment = blend_scenes.coat_pigment(color)
    np.testing.assert_allclose((1 - f) * pigment / (1 - f * pigment), color, atol=1e-12)


# ---------------------------------------------------------------- scenes


def test_descriptions_depend_on_the_seed_alone(described):
    again = blend_scenes.describe_blend(9)
    assert json.dumps(again, sort_keys=True) == json.dumps(described[9], sort_keys=True)


def test_the_robot_stands_on_the_table_and_touches_nothing(described):
    for truth in described.values():
        poses = blend_scenes.body_poses(truth["robot"])
        assert blend_scenes.on_table(truth["table"], np.array(truth["robot"]["T_world_base"])[None, :2, 3], 0.1)
        for visual in blend_scenes.load_robot()[1]:
            points_w = transform(poses[visual.body], visual.points.astype(float))
            assert points_w[:, 2].min() > (-0.002 if visual.body == "panda_link0" else 0.0)
            for item in truth["objects"]:
                local = transform(invert(np.array(item["T_world_object"])), points_w)
                assert not (np.abs(local) < np.array(item["size_m"]) / 2).all(1).any()


def test_bodies_are_where_kinematics_puts_them(described):
    from phototwin.plan.ik import tool_pose

    arm = blend_scenes.load_robot()[0]
    robot = described[0]["robot"]
    poses = blend_scenes.body_poses(robot)
    T_world_base = np.array(robot["T_world_base"])
    np.testing.assert_allclose(poses["panda_link0"], T_world_base, atol=1e-9)
    T_hand_tool = tool_in_link(arm.robot)
    np.testing.assert_allclose(poses["panda_hand"] @ T_hand_tool, T_world_base @ tool_pose(arm, np.array(robot["q_rad"])), atol=1e-9)  # fmt: skip


def test_a_moved_camera_stays_within_its_range(described):
    camera, moved = described[0]["camera"], described[0]["moved_camera"]
    T, T_moved = np.array(camera["T_world_camera"]), np.array(moved["T_world_camera"])
    delta = invert(T) @ T_moved
    assert 0 < np.linalg.norm(delta[:3, 3]) <= blend_scenes.MOVED_M + 1e-9
    assert 0 < np.rad2deg(np.arccos((np.trace(delta[:3, :3]) - 1) / 2)) <= blend_scenes.MOVED_DEG + 1e-6
    assert abs(moved["K_px"][0][0] / camera["K_px"][0][0] - 1) <= blend_scenes.MOVED_FOCAL + 1e-9
    np.testing.assert_allclose(T_moved[:3, :3] @ T_moved[:3, :3].T, np.eye(3), atol=1e-9)


@pytest.fixture(scope="module")
def tiny(described, tmp_path_factory):
    pytest.importorskip("mitsuba")
    truth = json.loads(json.dumps(described[0]))
    truth["camera"] = blend_scenes.shrink_camera(truth["camera"], 5)
    del truth["moved_camera"], truth["moved_object"]
    folder = tmp_path_factory.mktemp("tiny")
    blend_render.make_blend_scene(truth, folder, samples=4)
    return blend_measure.Case(folder)


def test_a_tiny_scene_has_everything_the_suite_reads(tiny):
    assert tiny.photo.shape == tiny.with_robot.shape == tiny.noisy.shape == (48, 64, 3)
    assert tiny.light.irradiance.min() > 0
    robot = tiny.regions["robot"]
    assert 0.02 < robot.mean() < 0.5
    assert not (tiny.regions["shadow"] & robot).any()
    assert tiny.ids.max() == len(tiny.truth["objects"])
    facing = tiny.depth_m > 0
    np.testing.assert_allclose(np.linalg.norm(tiny.normals_w[facing], axis=-1), 1, atol=2e-3)


def test_the_robot_is_where_truth_and_photo_differ_most(tiny):
    change = np.abs(tiny.with_robot.astype(float) - tiny.photo).mean(-1)
    full = load_ids(tiny.folder / "coverage.png") == 255
    assert change[full].mean() > 4 * change[~tiny.regions["robot + shadow"]].mean()


def test_a_hard_paste_changes_the_robots_pixels_only(tiny):
    pasted = blend_measure.hard_paste(tiny, tiny.photo)
    changed = (pasted != tiny.photo).any(-1)
    coverage = load_ids(tiny.folder / "coverage.png")
    assert changed[coverage == 255].all()
    assert not changed[coverage == 0].any()
    colors = {tuple(c) for c in pasted[coverage == 255]}
    assert (255, 255, 255) in colors
    np.testing.assert_array_equal(load_rgb(tiny.folder / "photo.png"), tiny.photo)


def test_a_tiny_scene_is_blended_and_measured_with_every_light(tiny, tmp_path):
    results, more = blend_suite.measure_case(tiny, "exact", tmp_path)
    by_light = {r.light: r for r in results}
    assert set(by_light) == {"estimated", "true", "none", "hard paste", "truth"}
    assert by_light["hard paste"].scores["robot"].share == 1
    assert by_light["truth"].scores["frame"].share == 0
    assert by_light["true"].scores["robot"].share < 0.5
    assert by_light["true"].direction_deg == pytest.approx(0, abs=1e-4)
    assert by_light["none"].scores["shadow"].share == pytest.approx(1, abs=0.05)
    assert {m.name: m.value for m in more}["pixels bit-exact, nothing moved"] == 100
    assert blend_suite.grain_row(tiny).value < 0.5


# ---------------------------------------------------------------- measures


def test_scores_are_shares_of_the_hard_pastes_error():
    rng = np.random.default_rng(0)
    true_rgb = rng.integers(40, 200, (20, 30, 3)).astype(np.uint8)
    hard = (true_rgb + 20).astype(np.uint8)
    where = np.zeros((20, 30), bool)
    where[5:15, 5:20] = True
    near = true_rgb.copy()
    near[where] += 5
    found = blend_measure.score(near, true_rgb, hard, where)
    assert found.share == pytest.approx(0.25)
    assert found.psnr_db == pytest.approx(20 * np.log10(255 / 5))
    assert blend_measure.score(hard, true_rgb, hard, where).share == 1
    assert blend_measure.score(true_rgb, true_rgb, hard, where).ssim == pytest.approx(1)
    assert np.isnan(blend_measure.score(near, true_rgb, hard, np.zeros_like(where)).share)


def test_share_and_direction_of_a_source():
    sh = np.zeros((9, 3))
    sh[0] = 0.5 / 0.282095
    up = Light(sh, np.array([0.0, 0.0, 1.0]), np.full(3, np.pi), 0.1, np.inf, np.zeros(3))
    assert blend_measure.source_share(up) == pytest.approx(2 / 3, rel=1e-4)
    aside = Light(sh, np.array([np.sin(0.3), 0.0, np.cos(0.3)]), np.full(3, np.pi), 0.1, np.inf, np.zeros(3))
    assert blend_measure.direction_error_deg(aside, up) == pytest.approx(np.rad2deg(0.3))
    assert blend_measure.direction_error_deg(plain_light(), plain_light()) == pytest.approx(0, abs=1e-5)


def test_all_light_together_comes_from_where_its_integral_points():
    rng = np.random.default_rng(3)
    light = Light(rng.normal(size=(9, 3)), np.array([0.6, 0.0, 0.8]), np.array([1.0, 2.0, 3.0]), 0.1, 2.0, np.zeros(3))
    d = even_directions(4000)
    exact = 4 * np.pi / len(d) * d.T @ (sh_basis(d) @ light.sh).mean(1) + 2.0 * light.direction_w
    np.testing.assert_allclose(blend_measure.flow_of(light), exact, atol=0.02)
    assert blend_measure.flow_error_deg(light, light) == pytest.approx(0, abs=1e-4)


def test_shadow_is_where_light_changed_off_the_robot():
    photo = np.full((40, 60, 3), 0.4)
    with_robot = photo.copy()
    with_robot[10:30, 5:30] *= 0.9
    with_robot[10:30, 40:55] *= 0.97
    with_robot[:, 28:30] = 0.9
    coverage = np.zeros((40, 60))
    coverage[:, 28:30] = 1
    mask = blend_render.shadow_mask(photo, with_robot, coverage)
    assert mask[14:26, 9:26].all()
    assert not mask[:, 28:].any()
    assert not mask[:5].any()


def test_unchanged_pixels_are_counted_outside_only():
    photo = np.zeros((4, 4, 3), np.uint8)
    rgb, drawn, shaded = photo.copy(), np.zeros((4, 4), bool), np.zeros((4, 4), bool)
    rgb[0] = 9
    drawn[0, :2], shaded[0, 2:3] = True, True
    assert blend_measure.unchanged_share(rgb, photo, drawn, shaded) == pytest.approx(12 / 13)
    assert np.isnan(blend_measure.unchanged_share(rgb, photo, np.ones_like(drawn), shaded))


# ---------------------------------------------------------------- rows


def result(seed, light="estimated", geometry="exact", both=0.3, shadow=0.5, direction=4.0, source=0.5):
    share = {"robot": 0.2, "shadow": shadow, "robot + shadow": both, "frame": 0.3}
    scores = {name: Score(30.0, 0.9, share[name]) for name in REGIONS}
    return blend_rows.Result(seed, geometry, light, scores, direction, 3.0, source, 1.0, 0.8)


def test_scene_rows_hold_the_issues_bounds():
    good = list(blend_rows.scene_rows([result(0)]))
    assert {m.ok for m in good} == {True, None}
    bad = [m.name for m in blend_rows.scene_rows([result(0, both=0.7, shadow=1.1, direction=11)]) if m.ok is False]
    assert bad == ["robot + shadow, error of paste's", "shadow, error of paste's", "light direction off by"]
    assert {m.ok for m in blend_rows.scene_rows([result(0, light="true", both=0.9)])} == {None}
    assert not list(blend_rows.scene_rows([result(0, light="hard paste")]))
    weak = [m.name for m in blend_rows.scene_rows([result(0, direction=90, source=0.1)])]
    assert "light direction off by" not in weak


def test_summary_takes_median_and_worst_and_tells_held_out_scenes_apart():
    results = [result(s, both=b) for s, b in ((0, 0.1), (1, 0.5), (2, 0.3), (3, 0.7))]
    rows = {(m.scene, m.name): m for m in blend_rows.summary_rows(results, [])}
    name = "robot + shadow, error of paste's, {}"
    assert rows["4 all scenes", name.format("median")].value == pytest.approx(0.4)
    assert rows["4 all scenes", name.format("median")].ok
    assert rows["2 held-out scenes", name.format("worst")].value == 0.7
    assert not rows["2 held-out scenes", name.format("worst")].ok
    assert rows["2 tuning scenes", name.format("worst")].value == 0.3


def test_only_estimated_light_is_held_to_the_bounds_and_refusals_count():
    results = [result(0), result(0, light="none", both=0.9), result(0, light="hard paste", both=1.0)]
    refusals = [blend_rows.Refusal(2, "reconstructed", "no table")]
    rows = list(blend_rows.summary_rows(results, refusals))
    assert [(m.name, m.method) for m in rows if m.ok is False] == [("scenes without a picture", "reconstructed")]
    assert any(m.method == "hard paste" and "PSNR" in m.name for m in rows)
