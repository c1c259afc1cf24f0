"""Regions that words name: on shapes whose parts are known, in photos painted to order, and held by the grasps that are asked for."""

from dataclasses import replace

import numpy as np
import pytest
import tiny_models
from synthetic import box_mesh, lathe, make_bowl, make_can, make_cube, make_scene, mug_mesh, planar_st, raycast

from phototwin.errors import InputError, InstructionError, PlanError
from phototwin.frames import invert, make_T, pixel_rays, rotation_z, transform
from phototwin.images import load_ids, load_rgb, save_ids, save_rgb
from phototwin.plan import query_clip
from phototwin.plan.cell import make_workcell
from phototwin.plan.grasp import propose_grasps
from phototwin.plan.gripper import grip_offset
from phototwin.plan.ik import load_arm
from phototwin.plan.part_words import read_words
from phototwin.plan.planner import make_plan
from phototwin.plan.query import choose_query, find_region
from phototwin.plan.query_clip import NEGATIVES, relevance
from phototwin.plan.query_picture import paint_region
from phototwin.plan.query_words import missing_part
from phototwin.plan.region import HELD, grasps_hold, placed, sample_item, see_item
from phototwin.robots import PANDA
from phototwin.scene import Mesh


def merged(*parts):
    start = np.cumsum([0, *(len(p) for p, _ in parts[:-1])])
    points = np.concatenate([p for p, _ in parts]).astype(np.float32)
    faces = np.concatenate([f + k for (_, f), k in zip(parts, start, strict=True)]).astype(np.int32)
    return points, faces


def shaped(item, points, faces, turn_rad=0.0):
    """``item`` with another mesh, turned about the vertical; sample points turned back are those of the mesh that was given."""
    R = rotation_z(turn_rad)
    points = (np.asarray(points, np.float64) @ R.T).astype(np.float32)
    mesh = Mesh(points, faces, planar_st(points, faces))
    T = make_T(np.eye(3), np.array([*item.T_world_object[:2, 3], -float(points[:, 2].min())]))
    return replace(item, mesh=mesh, size_m=np.ptp(points, axis=0).astype(float), T_world_object=T)


def local(item, turn_rad=0.0):
    return sample_item(item).points_o @ rotation_z(turn_rad)


def iou(region, truth):
    inside = region.inside
    return (inside & truth).sum() / (inside | truth).sum()


R_TOP, H_MUG, WALL = 0.045, 0.11, 0.004


def mug(turn_rad=0.0):
    mesh = mug_mesh(R_TOP, H_MUG, WALL)
    return shaped(make_bowl(), mesh.points, mesh.faces, turn_rad)


def tapered_mug(turn_rad=0.0, foot=0.030):
    """A cone with a handle whose lower arm reaches below the outline of the rim."""
    h = H_MUG / 2
    profile = [(0, -h), (foot, -h), (R_TOP, h), (R_TOP - WALL, h), (foot - WALL, WALL - h), (0, WALL - h)]
    bars = []
    for size, at in (
        ((0.012, 0.014, 0.07), (0.070, 0, 0)),
        ((0.034, 0.014, 0.01), (0.054, 0, 0.03)),
        ((0.040, 0.014, 0.01), (0.051, 0, -0.03)),
    ):
        points, faces, _ = box_mesh(np.array(size))
        bars.append((points + np.float32(at), faces))
    return shaped(make_bowl(), *merged(lathe(np.array(profile, float), 64), *bars), turn_rad)


def spoon(turn_rad=0.0, with_rest=False):
    """A shaft of 14 x 12 mm and a head of 60 x 50 x 12 mm at +X; where asked for, a block lies across the shaft, as in a real photo."""
    parts = [((0.20, 0.014, 0.012), (0, 0, 0)), ((0.06, 0.05, 0.012), (0.12, 0, 0))]
    parts += [((0.015, 0.045, 0.012), (-0.03, 0, 0))] if with_rest else []
    boxes = [(box_mesh(np.array(size))[0] + np.float32(at), box_mesh(np.ones(3))[1]) for size, at in parts]
    return shaped(make_cube(), *merged(*boxes), turn_rad)


def part_of(item, words):
    return find_region(None, item, words)


# ---------------------------------------------------------------- by shape


@pytest.mark.parametrize("turn_rad", [0.0, 0.7, -2.3])
@pytest.mark.parametrize(("make", "least"), [(mug, 0.9), (tapered_mug, 0.85)])
def test_the_handle_of_a_mug(make, least, turn_rad):
    item = make(turn_rad)
    p = local(item, turn_rad)
    body = R_TOP if make is mug else 0.030 + (R_TOP - 0.030) * (p[:, 2] / H_MUG + 0.5)
    truth = np.hypot(p[:, 0], p[:, 1]) > body + 0.0015
    assert iou(part_of(item, "handle"), truth) > least


@pytest.mark.parametrize("make", [mug, tapered_mug, make_bowl])
def test_a_rim_is_the_band_at_the_lip_and_the_bottom_at_the_foot(make):
    item = make()
    p = sample_item(item).points_o
    top, low = p[:, 2].max(), p[:, 2].min()
    handle = part_of(item, "handle").inside if make is not make_bowl else np.zeros(len(p), bool)
    rim = part_of(item, "rim")
    assert iou(rim, (p[:, 2] > top - 0.0135 if make is not make_bowl else p[:, 2] > top - 0.0075) & ~handle) > 0.8
    bottom = part_of(item, "bottom")
    share = (p[:, 2] - low) / (top - low)
    assert share[bottom.inside].max() < 0.21 and bottom.inside[share < 0.01].all()
    # The floor inside is low down, and yet no bottom; the wall is inside or outside, not both.
    inside, side = part_of(item, "inside").inside, part_of(item, "side").inside
    assert not (inside & bottom.inside).any() and not (inside & side).any() and not (side & handle).any()
    n = sample_item(item).normals_o
    radial = np.einsum("ni,ni->n", n[:, :2], p[:, :2]) / np.hypot(p[:, 0], p[:, 1])
    assert radial[inside & (np.abs(n[:, 2]) < 0.5)].max() < 0 < radial[side].min()


@pytest.mark.parametrize("turn_rad", [0.0, 1.1])
@pytest.mark.parametrize("with_rest", [False, True])
def test_a_spoon_has_a_head_and_a_handle(with_rest, turn_rad):
    item = spoon(turn_rad, with_rest)
    x = local(item, turn_rad)[:, 0]
    assert iou(part_of(item, "head"), x > 0.09) > 0.85
    assert iou(part_of(item, "handle"), x < 0.09) > 0.85
    if turn_rad:
        return  # an object's own X is along its longer side: only so it has ends
    tip = part_of(item, "tip").inside
    assert x[tip].max() < -0.07 and tip[x < -0.095].all()


def test_edges_of_a_box_and_of_a_can():
    cube = make_cube(0.05)
    p = np.sort(np.abs(sample_item(cube).points_o), axis=1)
    assert iou(part_of(cube, "edge"), p[:, 1] > 0.025 - 0.004) > 0.7
    can = make_can()
    p = sample_item(can).points_o
    near = np.hypot(np.hypot(p[:, 0], p[:, 1]) - 0.03, np.abs(p[:, 2]) - 0.045) < 0.004
    assert iou(part_of(can, "edge"), near) > 0.6


def test_words_meet_in_the_weakest():
    item = mug()
    handle, top, both = (part_of(item, words) for words in ("handle", "top", "top of the handle"))
    np.testing.assert_array_equal(both.score, np.minimum(handle.score, top.score))
    assert both.inside.any() and sample_item(item).points_o[both.inside][:, 2].min() > 0.02


@pytest.mark.parametrize(
    ("phrase", "words"),
    [
        ("the handle", ("handle",)),
        ("red part", ("red",)),
        ("dark blue ear", None),
        ("crimson lid", ("red", "top")),
        ("the top of its handle", ("top", "handle")),
        ("rim 3", ("rim 3",)),
        ("thick end", ("end",)),
        ("logo", None),
        ("handlebar", None),
        ("", None),
        ("part", None),
    ],
)
def test_words_for_parts(phrase, words):
    assert read_words(phrase) == words


def test_what_is_not_there_is_refused_by_name():
    assert "no part that is known" in missing_part(mug(), "logo") and "--query clip" in missing_part(mug(), "logo")
    assert "is not hollow and has no rim" in missing_part(make_can(), "rim")
    assert "has no handle" in missing_part(make_can(), "handle") and "has no head" in missing_part(make_can(), "head")
    assert "has no keypoint 'spout'" in missing_part(mug(), "spout")
    with pytest.raises(PlanError, match="no part that is known"):
        part_of(mug(), "logo")
    with pytest.raises(InputError, match="takes no model"):
        choose_query("words=x")
    with pytest.raises(InputError, match="Unknown query 'clap'"):
        choose_query("clap")


def test_a_backend_of_ones_own(monkeypatch):
    import sys
    import types

    module = types.ModuleType("my_query")
    module.half = lambda scene, item, part: (sample_item(item).points_o[:, 0] > 0).astype(float)
    module.wrong = lambda scene, item, part: np.zeros(3)
    monkeypatch.setitem(sys.modules, "my_query", module)
    item = make_cube()
    region = find_region(None, item, "sunny side", "my_query:half")
    np.testing.assert_array_equal(region.inside, sample_item(item).points_o[:, 0] > 0)
    with pytest.raises(PlanError, match="expected 6000 finite numbers"):
        find_region(None, item, "x", "my_query:wrong")


# ---------------------------------------------------------------- by the photo


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    return make_scene(tmp_path_factory.mktemp("region") / "twin")


def points_seen(scene, item):
    """Rows, columns and points in the object frame (P, 3) of the pixels that show an object, by depth that was ray cast."""
    camera = scene.camera
    depth, ids, _ = raycast(camera, scene.objects)
    rows, columns = np.nonzero(ids == [o.key for o in scene.objects].index(item.key) + 1)
    rays = pixel_rays(camera.K_px, camera.width, camera.height)[rows, columns] * depth[rows, columns, None]
    return rows, columns, transform(invert(item.T_world_object) @ camera.T_world_camera, rays)


def test_a_convex_thing_alone_is_seen_where_it_faces_the_camera(scene):
    for item in (scene.objects[0], scene.objects[2]):
        samples, seen = sample_item(item), see_item(scene, item)
        eye = transform(invert(item.T_world_object), scene.camera.T_world_camera[None, :3, 3])[0]
        facing = np.einsum("ni,ni->n", samples.normals_o, eye - samples.points_o) > 0
        assert not seen.seen[~facing].any()
        assert seen.seen[facing].mean() > 0.93  # the rest projects to pixels at the border of the mask
        assert seen.seen[seen.source].all() and (seen.source[seen.seen] == np.flatnonzero(seen.seen)).all()
        # Another sample stands for what is not seen: none that is seen is nearer, by place and by where it faces.
        keys = placed(samples.points_o, samples.normals_o)
        hidden = np.flatnonzero(~seen.seen)[::50]
        away = np.linalg.norm(keys[hidden, None] - keys[seen.seen], axis=2).min(1)
        np.testing.assert_allclose(np.linalg.norm(keys[hidden] - keys[seen.source[hidden]], axis=1), away, atol=1e-9)


def test_what_the_mask_or_another_thing_hides_is_not_seen(scene, tmp_path):
    item = scene.objects[2]
    whole = see_item(scene, item)
    wall = shaped(make_cube(), *box_mesh(np.array([0.01, 0.2, 0.3]))[:2])
    T = make_T(np.eye(3), item.T_world_object[:3, 3] - (0.08, 0, 0))
    hidden = replace(scene, objects=(*scene.objects, replace(wall, key="wall", T_world_object=T)))
    assert whole.seen.any() and not see_item(hidden, item).seen.any()
    ids = load_ids(scene.path(scene.masks))
    upper = ids.copy()
    rows = np.nonzero(ids == 3)[0]
    upper[int(rows.mean()) :][upper[int(rows.mean()) :] == 3] = 0
    save_ids(tmp_path / "masks.png", upper)
    half = see_item(replace(scene, masks=str(tmp_path / "masks.png")), item)
    assert 0 < half.seen.sum() < whole.seen.sum() and (half.px[:, 1] < int(rows.mean())).all()


def test_a_part_painted_red_is_recovered_from_the_photo(scene, tmp_path):
    item = scene.objects[2]  # a can
    rgb = load_rgb(scene.path(scene.photo)).copy()
    rows, columns, points = points_seen(scene, item)
    band = np.abs(points[:, 2] - 0.01) < 0.015
    rgb[rows, columns] = (40, 70, 190)
    rgb[rows[band], columns[band]] = (200, 30, 30)
    save_rgb(tmp_path / "photo.png", rgb)
    painted = replace(scene, photo=str(tmp_path / "photo.png"))
    region, seen = find_region(painted, item, "red part"), see_item(painted, item).seen
    samples = sample_item(item)
    truth = (np.abs(samples.points_o[:, 2] - 0.01) < 0.015) & (np.abs(samples.normals_o[:, 2]) < 0.5)
    overlap = (region.inside & truth & seen).sum() / ((region.inside | truth) & seen).sum()
    assert overlap > 0.7  # a pixel is 3 mm
    assert (region.inside & ~seen).any(), "the back of a band that goes around is red as well"
    blue = find_region(painted, item, "blue part")
    assert (region.inside & blue.inside).mean() < 0.02  # a tie between neighbours counts as both
    low = find_region(painted, item, "blue bottom")
    assert low.inside.any() and samples.points_o[low.inside][:, 2].max() < -0.02
    with pytest.raises(PlanError, match="Nothing of the red can fits 'yellow part'"):
        find_region(painted, item, "yellow part")


def test_the_picture_is_red_where_the_part_is(scene):
    item = scene.objects[2]
    region = find_region(scene, item, "top")
    picture = paint_region(scene, item, region).astype(int)
    rows, columns, points = points_seen(scene, item)
    red = picture[rows, columns, 0] - picture[rows, columns, 2]
    height = points[:, 2] / 0.09 + 0.5
    assert red[height > 0.85].min() > red[height < 0.6].max()
    outside = load_ids(scene.path(scene.masks)) == 0
    assert (picture[outside] <= load_rgb(scene.path(scene.photo))[outside] // 2 + 1).all()


# ---------------------------------------------------------------- by a model


def clip(tmp_path):
    return choose_query(f"clip={tiny_models.clip(tmp_path / 'clip')}")


def test_clip_answers_for_every_sample_the_same_every_time(scene, tmp_path):
    backend = clip(tmp_path)
    for item in scene.objects:
        score = backend(scene, item, "logo")
        assert score.shape == (len(sample_item(item).points_o),) and (score > 0).all() and (score < 1).all()
        np.testing.assert_array_equal(score, backend(scene, item, "logo"))
        seen = see_item(scene, item)
        np.testing.assert_allclose(score, score[seen.source], atol=1e-12)


def test_features_of_the_photo_go_to_the_places_that_show_them(scene, tmp_path, monkeypatch):
    """Patches left of the thing's middle mean the words, those right of it the first negative."""
    backend, item = clip(tmp_path), scene.objects[2]
    u = np.nonzero(load_ids(scene.path(scene.masks)) == 3)[1]
    middle = 0.5 * (u.min() + u.max() + 1)
    real = query_clip.ClipQuery._patches

    def patches(self, photo_rgb, mask):
        centres, _ = real(self, photo_rgb, mask)
        return centres, np.eye(2)[(centres[:, 0] > middle).astype(int)]

    monkeypatch.setattr(query_clip.ClipQuery, "_patches", patches)
    monkeypatch.setattr(
        query_clip.ClipQuery, "_texts", lambda self, texts: np.eye(2)[[0 if "logo" in t else 1 for t in texts]]
    )
    score, seen = backend(scene, item, "logo"), see_item(scene, item)
    clear = np.abs(seen.px[:, 0] - middle) > 2
    np.testing.assert_array_equal((score >= HELD)[clear], (seen.px[:, 0] < middle)[clear])


def test_relevance_is_the_least_share_against_any_negative():
    """Closed form: softmax over a pair of logits 10 cos, the worst pair counts (LERF, eq. 3)."""
    wanted, negatives = np.array([0.3, 0.2, 0.2]), np.array([[0.1, 0.2], [0.2, 0.1], [0.1, 0.25]])
    pairs = np.exp(10 * wanted)[:, None] / (np.exp(10 * wanted)[:, None] + np.exp(10 * negatives))
    np.testing.assert_allclose(relevance(wanted, negatives), pairs.min(1))
    assert len(NEGATIVES) > 1


def test_clip_without_weights_or_without_anything_seen(scene, tmp_path, monkeypatch):
    monkeypatch.delenv("PHOTOTWIN_MODELS", raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    for name in ("clip", f"clip={tmp_path}"):
        with pytest.raises(InputError, match="hf download openai/clip-vit-large-patch14"):
            choose_query(name)
    save_ids(tmp_path / "masks.png", np.zeros((120, 160), np.uint8))
    blind = replace(scene, masks=str(tmp_path / "masks.png"))
    with pytest.raises(PlanError, match="shows nothing of the green cube"):
        clip(tmp_path)(blind, blind.objects[0], "logo")
    with pytest.raises(PlanError, match="no part of it is known to be red"):
        find_region(blind, blind.objects[0], "red part")


# ---------------------------------------------------------------- grasps


def contacts(item, grasps):
    closing = grasps.T_object_tool[:, :3, 1]
    middle = grasps.T_object_tool[:, :3, 3] + grip_offset(PANDA, grasps.width_m)[:, None] * closing
    half = 0.5 * grasps.width_m[:, None] * closing
    return np.concatenate([middle - half, middle + half])


def test_both_pads_touch_the_part_that_is_asked_for():
    item = mug()
    T = item.T_world_object
    for words, fits in (
        ("handle", lambda p: np.hypot(p[:, 0], p[:, 1]) > R_TOP),
        ("rim", lambda p: (p[:, 2] > H_MUG / 2 - 0.017) & (np.hypot(p[:, 0], p[:, 1]) < R_TOP + 1e-3)),
        ("top handle", lambda p: (np.hypot(p[:, 0], p[:, 1]) > R_TOP) & (p[:, 2] > 0.015)),
    ):
        region = part_of(item, words)
        grasps = propose_grasps(item, PANDA, (), T, 0, region=region)
        assert len(grasps.score) and fits(contacts(item, grasps)).all()
        assert (grasps_hold(region, grasps.T_object_tool, grasps.width_m, PANDA) >= HELD).all()
    anywhere = propose_grasps(item, PANDA, (), T, 0)
    hold = grasps_hold(part_of(item, "handle"), anywhere.T_object_tool, anywhere.width_m, PANDA)
    at = contacts(item, anywhere).reshape(2, -1, 3)
    both = (np.hypot(at[..., 0], at[..., 1]) > R_TOP + 0.004).all(0)
    assert (hold[both] >= HELD).mean() > 0.95 and (hold[~both] < HELD).mean() > 0.95


@pytest.mark.parametrize(
    ("text", "part"), [("grasp the mug by the handle", "handle"), ("pick up the mug by its rim", "rim")]
)
def test_an_instruction_ends_in_grasps_of_the_part(scene, text, part):
    item = replace(mug(), name="blue mug", key="blue_mug")
    with_mug = replace(scene, objects=(item,))
    task = make_plan(text, with_mug)
    assert task.steps[0].part == part
    cell = make_workcell(with_mug, task, PANDA, load_arm(PANDA), 0, 15.0)
    grasps, region = cell.grasps["blue_mug"], cell.region(task.steps[0])
    np.testing.assert_array_equal(region.score, find_region(with_mug, item, part).score)
    assert (grasps_hold(region, grasps.T_object_tool, grasps.width_m, PANDA) >= HELD).all()


def test_open_words_are_for_a_model(scene):
    text = "grasp the can by its logo"
    with pytest.raises(InstructionError, match="'logo' is no part that is known"):
        make_plan(text, scene)
    assert make_plan(text, scene, query="clip").steps[0].part == "logo"
