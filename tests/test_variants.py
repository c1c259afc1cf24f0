"""Relatives and added things: geometry, mass and pictures belong together, and the derived twin is a twin like any other."""

from dataclasses import replace

import numpy as np
import pytest
from synthetic import make_bowl, make_can, make_cube, make_scene

from phototwin.blend.blend import blend_frames, make_blender
from phototwin.blend.moving import make_moving_parts
from phototwin.blend.plate import scene_plate
from phototwin.build.cousins import Kinship, draw_kinship, make_cousin, named_after_color, recolor
from phototwin.build.distractors import is_distractor, make_distractor
from phototwin.build.shapes import is_closed, mesh_volume
from phototwin.errors import InputError
from phototwin.frames import transform
from phototwin.images import load_depth, load_ids, load_rgb
from phototwin.kernels.srgb import srgb_to_linear
from phototwin.plan.randomize import PRESETS, Randomization
from phototwin.plan.randomize_places import focus_points, outline_gap
from phototwin.scene import depth_inside, load_scene, save_scene
from phototwin.stage.author import author_stage
from phototwin.stage.mass import mass_properties
from phototwin_tasks.variants import (
    add_distractors,
    borrow_thing,
    draw_cousins,
    has_variants,
    make_variant,
    replace_by_cousin,
)

WIDE = PRESETS["wide"]


@pytest.fixture(scope="module")
def twin(tmp_path_factory):
    folder = tmp_path_factory.mktemp("twins") / "twin"  # alone in its folder, whatever other tests leave beside it
    folder.mkdir()
    scene = make_scene(folder)
    save_scene(scene, folder)
    author_stage(scene, folder)
    return folder


@pytest.mark.parametrize("make", [make_cube, make_bowl, make_can])
def test_twice_the_size_is_eight_times_the_mass_and_32_times_the_inertia(make):
    item = make()
    cousin = make_cousin(item, Kinship(scale=2.0))
    assert np.allclose(cousin.size_m, 2 * item.size_m, rtol=1e-5)
    assert np.isclose(cousin.mass_kg, 8 * item.mass_kg, rtol=1e-4)
    assert np.allclose(mass_properties(cousin).inertia, 32 * mass_properties(item).inertia, rtol=1e-3)
    volumes = [sum(mesh_volume(p.points.astype(float), p.faces) for p in x.pieces) for x in (item, cousin)]
    assert np.isclose(volumes[1], 8 * volumes[0], rtol=1e-4)


@pytest.mark.parametrize("make", [make_cube, make_bowl, make_can])
@pytest.mark.parametrize("kin", [Kinship(aspect=1.3), Kinship(taper=0.15), Kinship(0.8, 0.9, -0.15)])
def test_a_relative_stands_where_the_object_stands_with_pieces_that_fit_it(make, kin):
    item = make()
    cousin = make_cousin(item, kin)
    low, high = cousin.mesh.points.min(0), cousin.mesh.points.max(0)
    assert np.allclose(low + high, 0.0, atol=1e-6) and np.allclose(high - low, cousin.size_m, atol=1e-6)
    bottoms = [transform(x.T_world_object, x.mesh.points.astype(float))[:, 2].min() for x in (item, cousin)]
    assert np.isclose(*bottoms, atol=1e-6)
    assert np.allclose(cousin.T_world_object[:2, 3], item.T_world_object[:2, 3], atol=1e-6)
    assert is_closed(cousin.mesh.faces) == is_closed(item.mesh.faces)
    body = mesh_volume(cousin.mesh.points.astype(float), cousin.mesh.faces)
    before = mesh_volume(item.mesh.points.astype(float), item.mesh.faces)
    assert np.isclose(cousin.mass_kg / item.mass_kg, body / before, rtol=1e-3)
    if kin.taper == 0.0:
        assert np.isclose(body / before, kin.scale**3, rtol=1e-4)
        assert np.isclose((cousin.size_m / item.size_m)[2] / (cousin.size_m / item.size_m)[0], kin.aspect, rtol=1e-4)
    pieces = sum(mesh_volume(p.points.astype(float), p.faces) for p in cousin.pieces)
    own = sum(mesh_volume(p.points.astype(float), p.faces) for p in item.pieces)
    assert np.isclose(pieces / body, own / before, rtol=0.04)
    points = np.concatenate([p.points for p in cousin.pieces])
    assert (points >= low - 1e-4).all() and (points <= high + 1e-4).all()


def test_colors_turn_about_grey_and_keep_their_brightness():
    texture = np.full((8, 8, 3), (200, 60, 40), np.uint8)
    turned = recolor(texture, Kinship(hue_rad=2 * np.pi / 3), np.ones((8, 8)), keep_hue=False)
    assert turned[0, 0].argmax() == 1
    luminance = [srgb_to_linear(x[0, 0] / 255.0) @ (0.2126, 0.7152, 0.0722) for x in (texture, turned)]
    assert np.isclose(*luminance, rtol=0.05)
    assert np.array_equal(recolor(texture, Kinship(hue_rad=2.0), np.ones((8, 8)), keep_hue=True), texture)
    grey = np.full((4, 4, 3), 120, np.uint8)
    assert np.array_equal(recolor(grey, Kinship(hue_rad=1.0), np.ones((4, 4)), keep_hue=False), grey)
    two = np.stack([np.full((4, 3), 60), np.full((4, 3), 180)]).astype(np.uint8)
    strong = recolor(two, Kinship(contrast=1.4), np.ones((2, 4)), keep_hue=True)
    assert np.ptp(strong.astype(int)) > np.ptp(two.astype(int)) + 20
    assert named_after_color(make_cube()) and not named_after_color(replace(make_cube(), name="mug"))


def test_kinship_stays_in_its_limits():
    drawn = [draw_kinship(np.random.default_rng(i), 1.2, 1.1, 0.1, 0.5, 1.3, 0.2) for i in range(300)]
    for name, low, high in (
        ("scale", 1 / 1.2, 1.2),
        ("aspect", 1 / 1.1, 1.1),
        ("taper", -0.1, 0.1),
        ("hue_rad", -0.5, 0.5),
    ):
        values = np.array([getattr(k, name) for k in drawn])
        assert low <= values.min() < low + 0.1 * (high - low) and high >= values.max() > high - 0.1 * (high - low)
    assert draw_kinship(np.random.default_rng(0), 1.0, 1.0, 0.0, 0.0, 1.0, 0.0) == replace(
        Kinship(), pattern_seed=drawn[0].pattern_seed
    )


def test_added_things_are_closed_solid_and_fit_a_gripper():
    sizes = []
    for seed in range(40):
        item, colors = make_distractor(1, np.random.default_rng(seed))
        assert is_closed(item.mesh.faces) and is_distractor(item)
        volume = mesh_volume(item.mesh.points.astype(float), item.mesh.faces)
        assert np.isclose(sum(mesh_volume(p.points.astype(float), p.faces) for p in item.pieces), volume, rtol=0.05)
        assert np.isclose(item.T_world_object[2, 3], item.size_m[2] / 2)
        assert 0.005 < item.mass_kg < 1.0 and colors.min() > 0 and colors.max() < 1
        assert item.mesh.st.min() >= 0 and item.mesh.st.max() <= 1
        sizes.append(item.size_m)
    assert np.min(sizes) > 0.02 and np.max(sizes) < 0.15


@pytest.fixture(scope="module")
def crowded(twin, tmp_path_factory):
    scene = load_scene(twin)
    return scene, add_distractors(scene, 5, 3, tmp_path_factory.mktemp("crowded"))


def test_added_things_stand_free_in_view_and_in_the_pictures(crowded):
    scene, derived = crowded
    added = [item for item in derived.objects if is_distractor(item)]
    assert len(added) == 3 and derived.objects[:3] == scene.objects
    assert np.array_equal(focus_points(derived), focus_points(scene))
    masks, before = (load_ids(s.path(s.masks)) for s in (derived, scene))
    photo, owners = load_rgb(derived.path(derived.photo)), load_ids(derived.path(derived.owners))
    background = load_rgb(derived.path(derived.background_rgb))
    depth = load_depth(derived.path(derived.depth))
    for i, item in enumerate(derived.objects):
        if not is_distractor(item):
            continue
        for other in derived.objects[:i]:
            assert outline_gap(item, other) > 0.03
        seen = masks == i + 1
        assert seen.sum() > 20
        assert (photo[seen] != background[seen]).any(-1).mean() > 0.9
        centre_c = (np.linalg.inv(scene.camera.T_world_camera) @ item.T_world_object)[:3, 3]
        assert abs(np.median(depth[seen]) - centre_c[2]) < item.size_m.max()
        assert depth_inside(scene.support.polygon_w, item.T_world_object[:2, 3]) > 0
    kept = (masks == before) & (masks > 0)
    assert kept.sum() > 0.9 * (before > 0).sum()
    assert (owners[(photo != background).any(-1)] > 0).all(), (
        "wherever photo and background differ somebody is the cause"
    )


def test_a_derived_twin_is_its_own_photo_and_loads_again(crowded):
    _, derived = crowded
    again = load_scene(derived.folder)
    assert [o.key for o in again.objects] == [o.key for o in derived.objects]
    whole = np.array([0.0, 0.0, derived.camera.width, derived.camera.height])
    moving = make_moving_parts(again, ())
    blender = make_blender(scene_plate(again, again.camera, whole), moving, again.light)
    poses = {key: T.copy() for key, T in moving.at_rest().items()}
    assert np.array_equal(blend_frames(blender, poses).rgb[0], load_rgb(again.path(again.photo)))
    poses["distractor_1"][0, 2, 3] += 0.5  # lifted away: the background is there again
    gone = blend_frames(blender, poses).rgb[0]
    place = load_ids(again.path(again.masks)) == 4
    difference = np.abs(gone[place].astype(int) - load_rgb(again.path(again.background_rgb))[place]).mean()
    assert difference < 12


def test_lit_and_delit_again_an_added_thing_has_its_own_colors(crowded):
    """What is baked into a texture is what comes out of it, so a thing that moves is lit anew and not twice."""
    scene, derived = crowded
    moving = make_moving_parts(derived, ())
    added = [item for item in derived.objects if is_distractor(item)]
    rng = np.random.default_rng(np.random.SeedSequence([5, 3]))
    item, colors = make_distractor(1, rng)
    assert item.key == added[0].key and np.allclose(item.size_m, added[0].size_m)
    index = moving.keys.index(item.key)
    part = next(p for p in moving.parts if p.id == moving.object_ids[index])
    assert part.texture is not None
    base = srgb_to_linear(part.texture / 255.0) * moving.factor[index]
    assert np.abs(np.median(base / colors, (0, 1)) - 1.0).max() < 0.05
    assert scene.light == derived.light or np.array_equal(scene.light.sh, derived.light.sh)


def test_a_replaced_object_leaves_nothing_of_the_old_one(twin, tmp_path):
    scene = load_scene(twin)
    derived = replace_by_cousin(scene, "red_can", Kinship(scale=0.7), tmp_path)
    can, old = derived.object("red_can"), scene.object("red_can")
    assert can.size_m[2] < 0.75 * old.size_m[2] and can.mesh.texture == "textures/red_can.png"
    before, now = (load_ids(s.path(s.masks)) == 3 for s in (scene, derived))
    assert now.sum() < 0.7 * before.sum() and not (now & ~before).any()
    photo, background = (load_rgb(derived.path(x)) for x in (derived.photo, derived.background_rgb))
    uncovered = before & ~now
    assert np.abs(photo[uncovered].astype(int) - background[uncovered]).mean() < 12
    others = np.isin(load_ids(scene.path(scene.masks)), (1, 2))
    same = (photo[others] == load_rgb(scene.path(scene.photo))[others]).all(-1)
    assert same.mean() > 0.9, "only what its shadow fell on has changed"


def test_variants_are_functions_of_their_number_and_zero_is_the_twin(twin, tmp_path):
    assert make_variant(twin, WIDE, 0, 0, tmp_path / "none") == twin
    assert make_variant(twin, Randomization(), 0, 3, tmp_path / "none") == twin and not has_variants(Randomization())
    one, again, other = (make_variant(twin, WIDE, 0, v, tmp_path / n) for v, n in ((2, "a"), (2, "b"), (3, "c")))
    bytes_of = [
        {f.relative_to(d): f.read_bytes() for f in d.rglob("*") if f.suffix in (".json", ".npz", ".png")}
        for d in (one, again, other)
    ]
    assert bytes_of[0] == bytes_of[1] != bytes_of[2]
    assert "Derived from another twin" in load_scene(one).notes["variant"]
    assert {p.name for p in tmp_path.iterdir()} == {"a", "b", "c"}


def test_relatives_do_not_reach_into_their_neighbours(twin):
    scene = load_scene(twin)
    cube = scene.objects[0]
    near = replace(make_can(), T_world_object=cube.T_world_object.copy())
    near.T_world_object[0, 3] += 0.06
    near.T_world_object[2, 3] = 0.045
    tight = replace(scene, objects=(cube, near))
    config = replace(WIDE, cousins=1.0, cousin_scale=2.0)
    for variant in range(12):
        objects, textures = draw_cousins(tight, config, 0, variant)
        assert set(textures) == {"green_cube", "red_can"}
        assert outline_gap(*objects) >= min(outline_gap(cube, near), 0.001) - 1e-6


def test_things_of_other_twins_are_lent_with_their_own_colors(twin, tmp_path):
    lent = borrow_thing(twin, 2, np.random.default_rng(0))
    assert lent is not None
    item, colors = lent
    source = load_scene(twin).objects
    own = next(o for o in source if np.array_equal(o.mesh.points, item.mesh.points))
    assert item.key == "distractor_2" and item.mass_kg == own.mass_kg and len(item.pieces) == len(own.pieces)
    assert np.isclose(transform(item.T_world_object, item.mesh.points.astype(float))[:, 2].min(), 0.0)
    lit = srgb_to_linear(load_rgb(twin / str(own.mesh.texture)) / 255.0)
    mean = [x.reshape(-1, 3).mean(0) for x in (colors, lit)]
    assert np.abs(mean[0] / mean[0].sum() - mean[1] / mean[1].sum()).max() < 0.05, "the hue is the object's"
    config = replace(PRESETS["none"], distractors=2, things=str(twin.parent))
    folders = [make_variant(twin, config, 0, v, tmp_path / str(v)) for v in range(1, 7)]
    meshes = [o.mesh.points.shape for f in folders for o in load_scene(f).objects if is_distractor(o)]
    assert set(meshes) & {o.mesh.points.shape for o in source}, "some are lent"
    assert set(meshes) - {o.mesh.points.shape for o in source}, "some are made"
    with pytest.raises(InputError, match="holds no twin"):
        make_variant(twin, replace(config, things=str(tmp_path / "nothing")), 0, 1, tmp_path / "x")
