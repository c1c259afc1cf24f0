import dataclasses

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from synthetic import hull_piece, make_scene

from phototwin.errors import InputError
from phototwin.frames import make_T, matrix_from_quat_xyzw
from phototwin.images import save_depth, save_ids, save_rgb
from phototwin.light import Light
from phototwin.scene import (
    OBJECT_SHAPES,
    Camera,
    Mesh,
    Scene,
    SceneObject,
    Support,
    load_scene,
    save_scene,
    scene_equal,
)
from phototwin.stage.author import author_stage
from phototwin.stage.read import read_stage
from phototwin.stage.schema import STAGE_VERSION

WORDS = ("cup", "Würfel", "can 2", 'a "b"', "x\\y", "<&>", "red\nbox")


def random_mesh(rng, texture):
    piece = hull_piece(rng.normal(size=(12, 3)) * rng.uniform(0.01, 0.2))
    st = rng.uniform(-0.5, 1.5, (len(piece.faces), 3, 2)).astype(np.float32)
    st[0] = np.float32(-0.0)
    return Mesh(piece.points, piece.faces, st, texture)


def random_pose(rng):
    return make_T(matrix_from_quat_xyzw(rng.normal(size=4)), rng.normal(size=3))


def random_object(rng, index):
    return SceneObject(
        name=f"{rng.choice(WORDS)} {index}",
        key=f"thing_{index}",
        shape=str(rng.choice(OBJECT_SHAPES)),
        hollow=bool(rng.integers(2)),
        T_world_object=random_pose(rng),
        size_m=rng.uniform(0.01, 0.3, 3),
        color_rgb=rng.uniform(0, 1, 3),
        mesh=random_mesh(rng, f"textures/{index}.png" if rng.integers(2) else None),
        pieces=tuple(hull_piece(rng.normal(size=(9, 3)) * 0.05) for _ in range(rng.integers(1, 13))),
        mass_kg=float(rng.uniform(0.001, 5)),
        friction=float(rng.uniform(0, 2)),
        restitution=float(rng.uniform(0, 1)),
        material=str(rng.choice(WORDS)),
        size_sigma_m=rng.uniform(0, 0.01, 3),
        position_sigma_m=rng.uniform(0, 0.01, 3),
    )


def random_light(rng):
    direction = rng.normal(size=3)
    distance = float(rng.choice([np.inf, rng.uniform(0.5, 3)]))
    return Light(
        rng.normal(size=(9, 3)),
        direction / np.linalg.norm(direction),
        rng.uniform(0, 3, 3),
        float(rng.uniform(0, 0.5)),
        distance,
        rng.normal(size=3),
        str(rng.choice(WORDS)),
    )


def random_scene(seed, folder):
    rng = np.random.default_rng(seed)
    K = np.array(
        [[rng.uniform(50, 900), 0, rng.uniform(0, 64)], [0, rng.uniform(50, 900), rng.uniform(0, 48)], [0, 0, 1]]
    )
    angle = np.sort(rng.uniform(0, 2 * np.pi, rng.integers(3, 40)))
    polygon = np.stack([np.cos(angle), np.sin(angle)], -1) * rng.uniform(0.2, 3)
    scene = Scene(
        name=f"scene {seed}",
        camera=Camera(K, 64, 48, random_pose(rng)),
        objects=tuple(random_object(rng, i) for i in range(rng.integers(0, 4))),
        support=Support(polygon, float(rng.uniform(0.001, 0.1)), float(rng.uniform(0, 2))),
        background=random_mesh(rng, "background.png"),
        photo="in put/photo 1.png",
        light=random_light(rng),
        notes={str(word): str(rng.choice(WORDS)) for word in rng.permutation(WORDS)[: rng.integers(0, 4)]},
        folder=folder,
    )
    rgb = np.zeros((48, 64, 3), np.uint8)
    for name in (scene.photo, scene.background_rgb, *(f"textures/{i}.png" for i in range(3))):
        save_rgb(folder / name, rgb)
    save_depth(folder / scene.depth, rgb[..., 0] / 1.0)
    save_depth(folder / scene.background_depth, rgb[..., 0] / 1.0)
    save_ids(folder / scene.masks, rgb[..., 0])
    save_ids(folder / scene.owners, rgb[..., 0])
    return scene


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**31))
def test_any_scene_comes_back_bit_by_bit(tmp_path_factory, seed):
    folder = tmp_path_factory.mktemp("any")
    scene = random_scene(seed, folder)
    back = read_stage(author_stage(scene, folder))
    assert scene_equal(back, scene)
    assert back.folder == folder
    assert back.background.points.dtype == np.float32
    assert back.background.faces.dtype == np.int32


def test_usd_and_json_tell_the_same(tmp_path):
    scene = make_scene(tmp_path)
    save_scene(scene, tmp_path)
    author_stage(scene, tmp_path)
    assert scene_equal(read_stage(tmp_path), load_scene(tmp_path))
    assert scene_equal(read_stage(tmp_path / "twin.usda"), scene)


def test_reading_and_authoring_again_changes_no_byte(tmp_path):
    scene = make_scene(tmp_path)
    author_stage(scene, tmp_path)
    author_stage(read_stage(tmp_path), tmp_path / "again")
    for file in ("twin.usda", "meshes/white_bowl.usdc", "meshes/support.usdc", "meshes/background.usdc"):
        assert (tmp_path / file).read_bytes() == (tmp_path / "again" / file).read_bytes()


def test_objects_keep_their_order_by_id(tmp_path):
    """The mask image numbers the objects, so an editor that sorts prims must not renumber them."""
    from pxr import Usd

    scene = make_scene(tmp_path)
    stage = Usd.Stage.Open(str(author_stage(scene, tmp_path)))
    stage.GetPrimAtPath("/World").SetChildrenReorder(["red_can", "white_bowl", "green_cube"])
    stage.Save()
    assert [item.key for item in read_stage(tmp_path).objects] == ["green_cube", "white_bowl", "red_can"]


def test_a_prim_that_was_moved_has_its_new_pose(tmp_path):
    from pxr import Gf, Usd

    scene = make_scene(tmp_path)
    stage = Usd.Stage.Open(str(author_stage(scene, tmp_path)))
    stage.GetPrimAtPath("/World/red_can").GetAttribute("xformOp:translate").Set(Gf.Vec3d(0.6, 0.0, 0.045))
    turned = Gf.Quatd(np.cos(0.5), 0, 0, np.sin(0.5))
    stage.GetPrimAtPath("/World/red_can").GetAttribute("xformOp:orient").Set(turned)
    stage.Save()
    back = read_stage(tmp_path)
    c, s = np.cos(1.0), np.sin(1.0)
    assert np.allclose(back.object("red can").T_world_object[:3, :3], [[c, -s, 0], [s, c, 0], [0, 0, 1]], atol=1e-12)
    assert np.allclose(back.object("red can").T_world_object[:3, 3], (0.6, 0.0, 0.045))
    kept = dataclasses.replace(back, objects=(*back.objects[:2], scene.objects[2]))
    assert scene_equal(kept, scene)


def test_what_is_no_twin_is_refused(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        read_stage(tmp_path)
    (tmp_path / "twin.usda").write_text("not usd")
    with pytest.raises(InputError, match="cannot be opened"):
        read_stage(tmp_path)
    (tmp_path / "other.usda").write_text('#usda 1.0\ndef Xform "World" {}\n')
    with pytest.raises(InputError, match="not a twin"):
        read_stage(tmp_path / "other.usda")


def test_other_versions_and_lost_attributes_are_refused(tmp_path):
    text = author_stage(make_scene(tmp_path), tmp_path).read_text()
    (tmp_path / "new.usda").write_text(text.replace(f"phototwin:version = {STAGE_VERSION}", "phototwin:version = 99"))
    with pytest.raises(InputError, match="version 99"):
        read_stage(tmp_path / "new.usda")
    (tmp_path / "lost.usda").write_text(text.replace("phototwin:K = ", "phototwin:L = "))
    with pytest.raises(InputError, match="phototwin:K"):
        read_stage(tmp_path / "lost.usda")
