"""Truth scenes are exact, and comparing a twin with them finds exactly the errors that were put in."""

import json
from dataclasses import replace

import numpy as np
import pytest
from synthetic import make_scene

from phototwin.frames import invert, make_T, pixel_rays, rotation_z, transform
from phototwin.images import load_depth, load_ids, load_rgb, save_ids
from phototwin.perceive.photo import load_photo
from phototwin_tasks.benchmarks import truth_scenes, truth_suite
from phototwin_tasks.benchmarks.truth_clutter import KINDS, MAX_GAP_M, describe_clutter, make_clutter_scene
from phototwin_tasks.benchmarks.truth_compare import compare_twin
from phototwin_tasks.benchmarks.truth_scenes import OBJECTS, describe_truth, draw_object, plane_depth, sense_depth
from phototwin_tasks.benchmarks.truth_surfaces import object_surfaces
from phototwin_tasks.benchmarks.truth_trace import calm, ids_of, see_parts, trace_parts

SEED = 4


@pytest.fixture(scope="module")
def truth():
    return describe_truth(SEED)


@pytest.fixture(scope="module")
def parts(truth):
    return truth_scenes.scene_parts(truth)


def points_of(item):
    return transform(np.array(item["T_world_object"]), np.concatenate([s[0] for s in object_surfaces(item)]))


def smaller(camera, factor):
    K = np.diag([1 / factor, 1 / factor, 1]) @ np.array(camera["K_px"])
    return {**camera, "width": camera["width"] // factor, "height": camera["height"] // factor, "K_px": K.tolist()}


@pytest.mark.parametrize("kind", sorted(set(OBJECTS)))
def test_objects_are_closed_outward_and_fill_their_boxes(kind):
    for seed in range(3):
        item = draw_object(np.random.default_rng(seed), kind, "thing")
        surfaces = object_surfaces(item)
        for points, normals, uv, faces in surfaces:
            a, b, c = points[faces].swapaxes(0, 1)
            cross = np.cross(b - a, c - a)
            solid = np.linalg.norm(cross, axis=1) > 1e-9
            outward = np.einsum("ij,ij->i", cross, normals[faces].sum(1))[solid] > 0
            assert outward.mean() > 0.98, kind  # smoothed normals of sharp ends may tip over
            assert np.einsum("ij,ij->i", a, cross).sum() > 0
            if uv.any():  # closed: the vector area vanishes; a handle's ends are open inside the wall
                assert np.linalg.norm(cross.sum(0)) < 1e-3 * np.linalg.norm(cross, axis=1).sum()
            assert uv.shape == (len(points), 2)
        points = np.concatenate([s[0] for s in surfaces])
        assert np.allclose(points.max(0) + points.min(0), 0, atol=2e-3)
        assert np.allclose(np.ptp(points, axis=0), item["size_m"], atol=2.5e-3), kind
        assert item["size_m"][0] >= item["size_m"][1] - 1e-9


def test_scenes_are_drawn_from_their_seed_and_things_stand_apart_in_view(truth):
    from shapely import MultiPoint

    assert truth == describe_truth(SEED) and json.loads(json.dumps(truth)) == truth
    assert 1 <= len(truth["objects"]) <= 6
    outlines = [MultiPoint(points_of(item)[:, :2]).convex_hull for item in truth["objects"]]
    for i, a in enumerate(outlines):
        assert all(a.distance(b) >= 0.01 for b in outlines[i + 1 :])
    for item in truth["objects"]:
        assert abs(points_of(item)[:, 2].min()) < 2e-3
        assert truth_scenes.in_view(points_of(item), truth["camera"])


def test_what_is_seen_lies_on_the_described_surfaces(truth, parts):
    seen = see_parts(truth["camera"], parts)
    ids = ids_of(truth, parts, seen)
    camera = truth["camera"]
    T, K = np.array(camera["T_world_camera"]), np.array(camera["K_px"])
    points_w = transform(T, pixel_rays(K, camera["width"], camera["height"]) * seen.depth_m[..., None])
    table = (seen.part == 0) & (seen.normal_w[..., 2] > 0.999)
    assert table.mean() > 0.3 and np.abs(seen.depth_m - plane_depth(truth))[table].max() < 1e-5
    assert set(np.unique(ids)) == set(range(len(truth["objects"]) + 1))
    for i, item in enumerate(truth["objects"]):
        inside = transform(invert(np.array(item["T_world_object"])), points_w[ids == i + 1])
        assert (np.abs(inside) <= np.array(item["size_m"]) / 2 + 2e-3).all()


def test_the_path_tracer_sees_the_same(truth, parts):
    pytest.importorskip("mitsuba")
    small = {**truth, "camera": smaller(truth["camera"], 8)}
    seen = see_parts(small["camera"], parts)
    depth, ids = trace_parts(small, parts)
    same = ids == ids_of(small, parts, seen)
    assert same.mean() > 0.999
    assert np.median(np.abs(depth - seen.depth_m)) < 1e-5


def test_a_photo_is_written_that_the_product_reads(tmp_path, monkeypatch):
    pytest.importorskip("mitsuba")
    monkeypatch.setattr(truth_scenes, "_draw_camera", lambda rng, draw=truth_scenes._draw_camera: (smaller(draw(rng)[0], 4), draw(rng)[1]))  # fmt: skip
    monkeypatch.setattr(truth_scenes, "_place_objects", lambda truth, rng, count: None)
    truth = truth_scenes.make_truth_scene(3, tmp_path / "empty", samples=2)
    photo = load_photo(tmp_path / "empty/photo.png", tmp_path / "empty/depth.png", tmp_path / "empty/camera_pose.json")
    assert photo.rgb.shape == (truth["camera"]["height"], truth["camera"]["width"], 3)
    assert np.allclose(photo.T_world_camera, truth["camera"]["T_world_camera"])
    assert 20 < photo.rgb.mean() < 235 and photo.rgb.std() > 3


def test_smoothed_light_keeps_its_steps_and_loses_its_grain():
    rng = np.random.default_rng(0)
    light = np.where(np.arange(64)[None, :, None] < 32, 1.0, 4.0) * np.ones((48, 1, 3))
    noisy = (light * (1 + 0.15 * rng.standard_normal(light.shape))).astype(np.float32)
    flat = np.tile(np.array([0, 0, 1], np.float32), (48, 64, 1))
    fine = truth_scenes_fine(np.zeros((48, 64), int), flat, np.ones((48, 64), np.float32))
    out = calm(noisy, fine)
    assert np.abs(out / light - 1)[4:-4, 4:-4].mean() < 0.3 * np.abs(noisy / light - 1).mean()
    assert out[:, 28:31].mean() < 1.3 and out[:, 33:36].mean() > 3.5


def truth_scenes_fine(pure, normal, depth):
    from phototwin_tasks.benchmarks.truth_trace import Fine

    return Fine(np.zeros((1, *pure.shape, 3), np.float32), pure, normal, depth)


def test_the_sensor_has_the_stated_noise_and_loses_only_what_is_behind_a_jump():
    depth = np.full((120, 200), 1.0, np.float32)
    depth[40:80, 80:120] = 0.6
    seen = sense_depth(depth, 5)
    known = seen > 0
    for z in (1.0, 0.6):
        here = known & (depth == np.float32(z))
        assert abs((seen[here] - z).std() / (0.0008 + 0.0012 * z**2) - 1) < 0.05
    near = np.zeros_like(known)
    near[36:84, 70:130] = True
    assert 0.05 < (~known)[near & (depth == 1.0)].mean() < 0.9
    assert (~known)[~near].mean() < 0.01
    assert np.array_equal(seen, sense_depth(depth, 5))


@pytest.mark.parametrize("seed", range(len(KINDS)))
def test_clutter_touches_and_does_not_overlap(seed):
    from shapely import MultiPoint

    truth = describe_clutter(seed)
    items = truth["objects"]
    outlines = [MultiPoint(points_of(i)[:, :2]).convex_hull for i in items]
    low, high = ([f(points_of(i)[:, 2]) for i in items] for f in (np.min, np.max))
    for k, item in enumerate(items):
        others = [j for j in range(len(items)) if j != k]
        if low[k] > 2e-3:  # on or in another thing
            below = [j for j in others if outlines[j].contains(outlines[k].centroid) and low[j] < low[k]]
            assert below
            if truth["kind"] == "stack":
                assert min(abs(low[k] - high[j]) for j in below) < 1e-6
            continue
        beside = [outlines[k].distance(outlines[j]) for j in others if low[j] < 2e-3]
        assert truth["kind"] == "shadow" or not beside or min(beside) <= MAX_GAP_M + 1e-4
        assert all(d > 0 for d in beside), item["name"]


def test_a_ball_in_a_bowl_touches_it_without_cutting_in():
    import trimesh

    items = describe_clutter(KINDS.index("bowl"))["objects"]
    bowl, ball = items[0], items[1]
    points, _, _, faces = object_surfaces(bowl)[0]
    mesh = trimesh.Trimesh(transform(np.array(bowl["T_world_object"]), points), faces)
    center = np.array(ball["T_world_object"])[:3, 3]
    gap = mesh.nearest.on_surface(center[None])[1][0] - ball["size_m"][0] / 2
    assert abs(gap) < 4e-4


def test_clutter_has_shadows_and_its_files(tmp_path):
    truth = make_clutter_scene(KINDS.index("shadow"), tmp_path / "s")
    ids, depth = load_ids(tmp_path / "s/masks.png"), load_depth(tmp_path / "s/depth_exact.png")
    assert ids.max() == len(truth["objects"]) and (depth > 0).mean() > 0.5
    photo = load_rgb(tmp_path / "s/photo.png").astype(float).mean(-1)
    answer = truth_suite._clutter_answer(tmp_path / "s", 5, tmp_path)
    assert not answer.refusal and len(answer.audit) == len(truth["objects"])
    assert all(o.found and o.iou > 0.95 and o.position_mm < 20 for o in answer.comparison.objects)
    assert np.percentile(photo[ids == 0], 2) < 0.75 * np.median(photo[ids == 0])


# ---------------------------------------------------------------- comparing


@pytest.fixture
def twin(tmp_path):
    """A scene that is its own truth."""
    scene = make_scene(tmp_path)
    items = [
        {
            "name": item.name, "key": item.key, "shape": "box" if item.shape == "box" else "can", "hollow": item.hollow,
            "size_m": item.size_m.tolist(), "T_world_object": item.T_world_object.tolist(),
        }
        for item in scene.objects
    ]  # fmt: skip
    camera = {"T_world_camera": scene.camera.T_world_camera.tolist(), "K_px": scene.camera.K_px.tolist(), "width": 160, "height": 120}  # fmt: skip
    return scene, {"camera": camera, "objects": items}, load_ids(tmp_path / "masks.png")


def test_a_perfect_twin_in_another_world_has_no_error(twin):
    scene, truth, ids = twin
    turn = make_T(rotation_z(0.7), np.array([3.0, -2.0, 0.0]))
    moved = replace(
        scene,
        camera=replace(scene.camera, T_world_camera=turn @ scene.camera.T_world_camera),
        objects=tuple(replace(o, T_world_object=turn @ o.T_world_object) for o in scene.objects),
    )
    found = compare_twin(moved, truth, ids)
    assert found.extra == 0 and found.tilt_deg < 1e-4 and abs(found.height_mm) < 1e-6
    for row in found.objects:
        assert row.found and row.hollow_right and row.iou == 1.0 and row.sigmas == ()
        assert row.position_mm < 1e-6 and np.abs(row.size_error).max() < 2e-3
    assert found.objects[0].yaw_deg < 1e-4


def test_errors_are_found_as_they_were_put_in(twin, tmp_path):
    scene, truth, ids = twin
    cube, bowl, can = scene.objects
    shifted = (
        make_T(np.eye(3), np.array([0.003, 0.004, 0.0])) @ cube.T_world_object @ make_T(rotation_z(0.1), np.zeros(3))
    )
    cube = replace(cube, T_world_object=shifted, size_m=cube.size_m * [1.1, 1.0, 0.9], size_sigma_m=np.full(3, 0.001))
    bowl = replace(bowl, mesh=replace(bowl.mesh, points=bowl.mesh.points * np.float32(1.05)), hollow=False)
    few = np.where(ids == 3, 0, ids)  # the can was missed, and something else was found
    few[:10, :10] = 3
    save_ids(tmp_path / "masks.png", few)
    found = compare_twin(replace(scene, objects=(cube, bowl, can)), truth, ids)
    a, b, c = found.objects
    assert found.extra == 1 and not c.found and a.found and b.found
    assert a.position_mm == pytest.approx(5.0, abs=1e-6) and a.yaw_deg == pytest.approx(np.rad2deg(0.1), abs=1e-6)
    assert a.size_error == pytest.approx((0.1, 0.0, -0.1), abs=1e-9) and a.sigmas == pytest.approx((4.0, 0.0, 4.0))
    assert b.size_error == pytest.approx((0.05, 0.05, 0.05), abs=2e-3) and b.hollow_right is False


def test_the_table_counts_what_was_refused_and_what_broke(twin):
    scene, truth, ids = twin
    good = compare_twin(scene, truth, ids)
    answers = [
        truth_suite.Answer(0, "pose", False, "", good),
        truth_suite.Answer(1, "pose", False, "Name the objects.", None),
        truth_suite.Answer(1, "pose", True, "BROKEN ValueError: x", None),
        truth_suite.Answer(0, "depth", False, "", good),
        truth_suite.Answer(0, "height", False, "", good),
    ]
    rows = list(truth_suite.rows(answers, [], 2))
    value = {(m.method, m.name): m.value for m in rows}
    assert value["K + pose", "photos answered"] == 0.5 and value["K + pose", "objects found"] == 1.0
    assert value["K + pose + boxes", "broken"] == 1 and value["K + pose + boxes", "photos answered"] == 0
    assert next(m for m in rows if m.method == "K + pose + boxes" and m.name == "broken").ok is False
    assert all(np.isfinite(m.value) for m in rows)
