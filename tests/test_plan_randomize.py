"""What an attempt draws is a function of seed, attempt and factor alone; objects stand free, apart by their outlines, in view and in reach."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from synthetic import make_can, make_scene

from phototwin.errors import InputError
from phototwin.frames import invert, make_T, matrix_from_quat_xyzw, project, rotation_z, transform
from phototwin.plan.randomize import FACTORS, PRESETS, Randomization, factor_table, load_randomization, sweep
from phototwin.plan.randomize_draw import draw_attempt, draw_to_json, placement_pool
from phototwin.plan.randomize_places import CORNERS, HEADROOM_M, Room, focus_points, footprint
from phototwin.robots import get_robot
from phototwin.scene import depth_inside

T_WORLD_BASE = make_T(rotation_z(np.pi), np.array([0.95, 0.0, 0.0]))
WIDE = PRESETS["wide"]


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    return make_scene(tmp_path_factory.mktemp("twin"))


@pytest.fixture(scope="module")
def room(scene):
    return Room(scene, scene.camera, T_WORLD_BASE, get_robot("panda"))


def true_gap(a: np.ndarray, b: np.ndarray) -> float:
    """Distance of two convex outlines by brute force over their edges; 0 where one has a corner in the other."""
    if depth_inside(a, b).max() > 0 or depth_inside(b, a).max() > 0:
        return 0.0
    least = np.inf
    for one, two in ((a, b), (b, a)):
        start, end = two, np.roll(two, -1, 0)
        along = end - start
        t = (((one[:, None] - start) * along).sum(-1) / np.maximum((along**2).sum(-1), 1e-18)).clip(0, 1)
        least = min(least, np.linalg.norm(one[:, None] - start - t[..., None] * along, axis=-1).min())
    return float(least)


def test_attempt_zero_is_the_photo(scene, room):
    draw = draw_attempt(room, 0, 0, WIDE)
    for item in scene.objects:
        assert np.array_equal(draw.T_world_objects[item.key], item.T_world_object)
    neutral = draw_attempt(room, 0, 5, PRESETS["none"])
    assert draw_to_json(draw) == draw_to_json(replace(neutral, attempt=0, table=draw.table))
    assert neutral.table.pattern == 0.0 and neutral.table.gain_rgb == (1.0, 1.0, 1.0)


def test_same_seed_and_attempt_give_the_same_draw_and_others_differ(room):
    first, again, other, seeded = (
        draw_to_json(draw_attempt(room, s, a, WIDE)) for s, a in ((0, 3), (0, 3), (0, 4), (1, 3))
    )
    assert first == again
    for name in set(first) - {"attempt", "note"}:
        assert first[name] != other[name], name
        assert first[name] != seeded[name], name


def test_a_factor_does_not_move_the_others_and_twice_the_range_is_twice_as_far(room):
    config = PRESETS["none"]
    plain = draw_to_json(draw_attempt(room, 7, 2, config))
    touched = {
        "shift_m": "T_world_objects", "yaw_deg": "T_world_objects", "mass_factor": "mass_factor", "gain_factor": "stiffness_factor damping_factor",
        "gravity_tilt_deg": "gravity_m_s2", "friction_factor": "friction_factor",
    }  # fmt: skip
    for factor in FACTORS:
        if factor in ("margin_m", "background_swap", "distractors") or factor.startswith("cousin"):
            continue
        varied = draw_to_json(draw_attempt(room, 7, 2, replace(config, **{factor: getattr(WIDE, factor) or 2.0})))
        changed = {name for name in plain if plain[name] != varied[name]}
        names = touched.get(factor, factor.partition("_")[0]).split()
        assert changed == set(names), factor
    half, whole = (draw_attempt(room, 7, 2, replace(config, camera_shift_m=m)).camera.shift_m for m in (0.02, 0.04))
    assert np.allclose(2 * np.array(half), whole)
    one, two = (draw_attempt(room, 7, 2, replace(config, mass_factor=m)).mass_factor for m in (1.5, 1.5**2))
    assert all(np.isclose(one[key] ** 2, two[key]) for key in one)


def test_draws_stay_in_their_ranges_and_fill_them(room):
    draws = [draw_attempt(room, 3, a, WIDE) for a in range(1, 150)]

    def check(values, low, high, share=0.8):
        values = np.asarray(values)
        assert values.min() >= low - 1e-12 and values.max() <= high + 1e-12
        assert np.ptp(values) > share * (high - low)

    for key in ("green_cube", "white_bowl", "red_can"):
        check(np.log([d.mass_factor[key] for d in draws]), -np.log(WIDE.mass_factor), np.log(WIDE.mass_factor))
    check(np.log([d.friction_factor for d in draws]), -np.log(WIDE.friction_factor), np.log(WIDE.friction_factor))
    gravity = np.array([d.gravity_m_s2 for d in draws])
    assert np.allclose(np.linalg.norm(gravity, axis=1), 9.81)
    check(np.degrees(np.arccos(-gravity[:, 2] / 9.81)), 0.0, WIDE.gravity_tilt_deg)
    check(np.array([d.camera.shift_m for d in draws]), -WIDE.camera_shift_m, WIDE.camera_shift_m)
    check(np.degrees([np.linalg.norm(d.light.turn_rad) for d in draws]), 0.0, WIDE.light_turn_deg)
    check(np.log([d.light.source for d in draws]), -np.log(WIDE.light_contrast), np.log(WIDE.light_contrast))


def test_objects_stay_upright_free_and_near(scene, room):
    config = Randomization()
    for attempt in range(1, 60):
        draw = draw_attempt(room, 0, attempt, config)
        assert not draw.note
        outlines = {}
        for item in scene.objects:
            T = draw.T_world_objects[item.key]
            assert np.allclose(T[2, :3], item.T_world_object[2, :3])
            assert T[2, 3] == item.T_world_object[2, 3]
            assert np.linalg.norm(T[:2, 3] - item.T_world_object[:2, 3]) <= config.shift_m + 1e-9
            turn = (T[:3, :3] @ item.T_world_object[:3, :3].T)[:2, 0]
            assert abs(np.arctan2(turn[1], turn[0])) <= np.radians(config.yaw_deg) + 1e-9
            outlines[item.key] = footprint(item, T), footprint(item, item.T_world_object)
        check_apart(outlines, config.margin_m)


def check_apart(outlines, margin_m):
    keys = list(outlines)
    for i, a in enumerate(keys):
        for b in keys[:i]:
            own = true_gap(outlines[a][1], outlines[b][1])
            assert true_gap(outlines[a][0], outlines[b][0]) >= min(own, margin_m) - 5e-4


def test_wide_draws_reach_over_the_free_support_and_stay_on_it_in_view_and_in_reach(scene, room):
    robot, poses = room.robot, {item.key: [] for item in scene.objects}
    for attempt in range(1, 200):
        draw = draw_attempt(room, 1, attempt, WIDE)
        outlines = {}
        for item in scene.objects:
            T = draw.T_world_objects[item.key]
            poses[item.key].append(T)
            assert depth_inside(scene.support.polygon_w, footprint(item, T)).min() > -1e-6
            assert robot.base_radius_m < np.linalg.norm(T[:2, 3] - T_WORLD_BASE[:2, 3]) < robot.reach_m
            for lifted in (0.0, HEADROOM_M):
                points_w = transform(T, CORNERS * item.size_m) + np.array([0.0, 0.0, lifted])
                px = project(scene.camera.K_px, transform(invert(scene.camera.T_world_camera), points_w))
                assert (px >= 0).all() and (px <= [scene.camera.width, scene.camera.height]).all()
            outlines[item.key] = footprint(item, T), footprint(item, item.T_world_object)
        check_apart(outlines, WIDE.margin_m)
    for key, drawn in poses.items():
        places = np.array([T[:2, 3] for T in drawn])
        possible = np.array([xy for xy in grid(scene) if can_stand(scene, room, scene.object(key), xy)])
        assert (np.ptp(places, axis=0) > 0.85 * np.ptp(possible, axis=0)).all(), key
        assert len(possible) > 200
        headings = np.arctan2(*np.array([T[:2, 0] for T in drawn]).T[::-1])
        assert np.histogram(headings, 4, (-np.pi, np.pi))[0].min() > 20


def grid(scene, step_m=0.02):
    """Places all over the support."""
    low, high = scene.support.polygon_w.min(0), scene.support.polygon_w.max(0)
    return np.stack(np.meshgrid(*(np.arange(a, b, step_m) for a, b in zip(low, high, strict=True))), -1).reshape(-1, 2)


def can_stand(scene, room, item, xy):
    """Whether an object alone may stand at a place, turned as in the photo, by the words of the rule."""
    T = item.T_world_object.copy()
    T[:2, 3] = xy
    far = np.linalg.norm(xy - T_WORLD_BASE[:2, 3])
    reach = room.robot.base_radius_m + 0.08 + np.hypot(*item.size_m[:2]) / 2 <= far <= room.robot.reach_m - 0.03
    points_w = transform(T, CORNERS * item.size_m)
    lifted = np.concatenate([points_w, points_w + np.array([0.0, 0.0, HEADROOM_M])])
    px = project(scene.camera.K_px, transform(invert(scene.camera.T_world_camera), lifted))
    seen = (px >= 0).all() and (px <= [scene.camera.width, scene.camera.height]).all()
    return reach and seen and depth_inside(scene.support.polygon_w, footprint(item, T)).min() >= 0


def test_what_stands_on_something_goes_with_it(scene):
    """A can in the bowl: their places relative to each other are those of the photo."""
    bowl = scene.object("white_bowl")
    inside = bowl.T_world_object.copy()
    inside[2, 3] = 0.012 + 0.045
    can = replace(make_can(), T_world_object=inside)
    stacked = replace(scene, objects=(scene.objects[0], bowl, can))
    room = Room(stacked, stacked.camera, T_WORLD_BASE, get_robot("panda"))
    assert [g.members for g in room.groups] == [(1, 2), (0,)]
    for attempt in range(1, 20):
        T = draw_attempt(room, 0, attempt, WIDE).T_world_objects
        relative = invert(T["white_bowl"]) @ T["red_can"]
        assert np.allclose(relative, invert(bowl.T_world_object) @ inside, atol=1e-12)
        assert not np.allclose(T["white_bowl"], bowl.T_world_object)


def test_raised_background_is_not_stood_in(scene):
    """A wall across the support, part of the background: nothing that was beside it is put into it."""
    y = np.linspace(-0.35, 0.35, 30)
    wall = np.array([[0.55, v, z] for v in y for z in (0.03, 0.1)], np.float32)
    mesh = replace(scene.background, points=np.concatenate([scene.background.points, wall]))
    walled = replace(scene, background=mesh)
    room = Room(walled, walled.camera, T_WORLD_BASE, get_robot("panda"))
    assert len(room.raised_w)
    for attempt in range(1, 40):
        for item in scene.objects:
            T = draw_attempt(room, 0, attempt, WIDE).T_world_objects[item.key]
            own = depth_inside(footprint(item, item.T_world_object), wall[:, :2]).max()
            assert depth_inside(footprint(item, T), wall[:, :2]).max() <= max(0.0, own)


def test_no_room_falls_back_to_the_photo_and_says_so(scene):
    """Fences 3 mm around everything: the draw gives up, and keeps what the photo has."""
    fences = []
    for item in scene.objects:
        outline = footprint(item, item.T_world_object)
        middle = outline.mean(0)
        ring = np.concatenate([np.linspace(a, b, 20) for a, b in zip(outline, np.roll(outline, -1, 0), strict=True)])
        away = (ring - middle) / np.linalg.norm(ring - middle, axis=1, keepdims=True)
        fences.append(np.column_stack([ring + 0.003 * away, np.full(len(ring), 0.03)]))
    mesh = replace(scene.background, points=np.concatenate([scene.background.points, *fences]).astype(np.float32))
    fenced = replace(scene, background=mesh)
    draw = draw_attempt(Room(fenced, scene.camera, T_WORLD_BASE, get_robot("panda")), 0, 1, Randomization(yaw_deg=180))
    assert "stand as in the photo" in draw.note
    for item in scene.objects:
        assert np.array_equal(draw.T_world_objects[item.key], item.T_world_object)


def test_the_pool_holds_the_attempts(scene, room):
    pool = placement_pool(room, WIDE, 4, 6)
    assert pool.shape == (6, len(scene.objects), 7)
    for attempt in range(6):
        drawn = draw_attempt(room, 4, attempt, WIDE).T_world_objects
        for i, item in enumerate(scene.objects):
            assert np.allclose(pool[attempt, i, :3], drawn[item.key][:3, 3])
            assert np.allclose(matrix_from_quat_xyzw(pool[attempt, i, 3:]), drawn[item.key][:3, :3])


def test_focus_points_are_in_the_photo(scene):
    points = focus_points(scene)
    assert points.shape == (8 * len(scene.objects), 2)
    assert (points > 0).all() and (points < [scene.camera.width, scene.camera.height]).all()


def test_configs_come_from_presets_files_and_dictionaries(tmp_path):
    assert load_randomization("default") == Randomization()
    file = tmp_path / "mine.json"
    file.write_text(json.dumps({"preset": "none", "mass_factor": 1.5, "distractors": 2}))
    mine = load_randomization(file)
    assert mine == replace(PRESETS["none"], mass_factor=1.5, distractors=2)
    assert load_randomization(asdict(mine)) == mine == load_randomization(mine)
    assert isinstance(mine.distractors, int)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("nonsense", "neither a preset"),
        ({"preset": "loud"}, "no preset"),
        ({"mas_factor": 2}, "unknown names mas_factor"),
        ({"mass_factor": 0.5}, "from 1 to 10"),
        ({"mass_factor": "2"}, "expected a number"),
        ({"shift_m": float("nan")}, "expected a number"),
        ({"distractors": 1.5}, "whole number"),
        ({"background_swap": 0.5}, "no pictures"),
        ({"pictures": 3}, "path of a folder"),
    ],
)
def test_bad_configs_are_refused_with_words(value, words):
    with pytest.raises(InputError, match=words):
        load_randomization(value)


def test_a_sweep_changes_one_factor():
    runs = sweep(PRESETS["none"], "light_turn_deg", [0, 20, 40])
    assert [run.light_turn_deg for run in runs] == [0.0, 20.0, 40.0]
    assert all(replace(run, light_turn_deg=0.0) == PRESETS["none"] for run in runs)
    with pytest.raises(InputError, match="no factor 'wind'"):
        sweep(PRESETS["none"], "wind", [1])
    with pytest.raises(InputError, match="from 1 to"):
        sweep(PRESETS["none"], "mass_factor", [0])


def test_the_table_in_the_documentation_is_the_config():
    page = (Path(__file__).resolve().parents[1] / "docs/randomization.md").read_text()
    assert factor_table() in page
    assert all(facts["meaning"] and facts["unit"] for facts in FACTORS.values())
    for name, facts in FACTORS.items():
        assert (
            facts["neutral"] <= getattr(Randomization(), name) <= facts["wide"] <= facts["most"] or name == "margin_m"
        )
