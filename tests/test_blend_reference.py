"""The path-traced reference against closed forms of ``light.py``, and against the rasteriser where light is even."""

import builtins

import numpy as np
import pytest
import trimesh

from phototwin.blend.reference import load_mitsuba, trace_reference
from phototwin.errors import InputError
from phototwin.frames import make_T
from phototwin.images import save_rgb
from phototwin.kernels.draw import Part
from phototwin.kernels.srgb import linear_to_srgb, srgb_to_linear
from phototwin.light import SH_BAND, Light, ambient_irradiance, sh_basis, source_irradiance
from phototwin.scene import Camera, Mesh, Scene, Support

pytest.importorskip("mitsuba")


@pytest.fixture(autouse=True)
def one_thread():
    import drjit

    drjit.set_thread_count(1)


def looking_at(target, eye, width=48, height=36, focal=70.0, offset=(0.0, 0.0)):
    ahead = np.subtract(target, eye) / np.linalg.norm(np.subtract(target, eye))
    right = np.cross(ahead, [0.0, 0.0, 1.0])
    right /= np.linalg.norm(right)
    R = np.stack([right, np.cross(ahead, right), ahead], 1)
    K = np.array([[focal, 0, width / 2 + offset[0]], [0, focal, height / 2 + offset[1]], [0, 0, 1.0]])
    return Camera(K, width, height, make_T(R, np.array(eye, dtype=float)))


def ball(albedo=0.5, radius=0.1, id=1):
    mesh = trimesh.creation.icosphere(subdivisions=4, radius=radius)
    color = np.full(3, float(linear_to_srgb(np.array(albedo))))
    points = np.asarray(mesh.vertices, np.float32)
    return Part(points, np.asarray(mesh.faces, np.int32), points / radius, color, None, None, id)


def light(direction=(0.3, -0.5, 0.8), irradiance=(1.2, 1.0, 0.8), half_angle=0.1, distance=np.inf, sky=0.3, tilt=0.3):
    """A sky brighter above, never negative, so that the map holds all of it."""
    sh = np.zeros((9, 3))
    sh[0] = sky / 0.282095 * np.array([1.0, 1.1, 1.3])
    sh[2] = tilt * sky / 0.488603
    sh[7] = 0.1 * sky
    unit = np.array(direction) / np.linalg.norm(direction)
    return Light(sh, unit, np.array(irradiance), half_angle, distance, np.zeros(3))


@pytest.mark.parametrize("distance", [np.inf, 1.5])
def test_a_lambertian_ball_shows_the_closed_form(distance):
    given = light(distance=distance)
    camera = looking_at([0, 0, 0], [0.7, -0.6, 0.4])
    got = trace_reference(None, [ball(0.5)], np.eye(4)[None], given, camera, samples=324, roughness=None)
    assert got.lit
    normals, hit = got.normals_w[0], got.ids[0] == 1
    points = 0.1 * normals
    # The penumbra of a source that is a disc, and not a point, reaches over the terminator.
    clear = hit & (np.abs(normals @ given.direction_w) > np.sin(given.half_angle_rad) + 0.1)
    want = 0.5 / np.pi * (ambient_irradiance(given, normals) + source_irradiance(given, points, normals))
    shown = srgb_to_linear(got.color[0] / 255.0)
    ratio = shown[clear] / want[clear]
    assert clear.sum() > 100
    assert np.abs(ratio.mean(0) - 1).max() < 0.015
    assert np.abs(ratio - 1).std() < 0.08


@pytest.mark.parametrize("oblong", [1.0, 0.93])
def test_even_light_shows_the_rasterisers_colours_textures_and_outlines(oblong):
    """In a white furnace a body shows its albedo: texture coordinates, camera, principal point and oblong pixels at once."""
    rng = np.random.default_rng(0)
    texture = np.kron(rng.integers(60, 220, (4, 6, 3)), np.ones((8, 8, 1), int)).astype(np.uint8)
    corners = np.array([[-0.2, 0, -0.15], [0.2, 0, -0.15], [0.2, 0, 0.15], [-0.2, 0, 0.15]], np.float32)
    faces = np.array([[0, 1, 2], [0, 2, 3]], np.int32)
    st = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], np.float32)[faces]
    board = Part(corners, faces, None, np.ones(3), st, texture, 2)
    camera = looking_at([0, 0, 0], [0.1, -0.7, 0.2], offset=(3.3, -2.1))
    camera.K_px[1, 1] *= oblong
    even = light(irradiance=(0, 0, 0), tilt=0.0, sky=1.0)
    even.sh[1:] = 0.0
    even.sh[0] = 1.0 / 0.282095
    got = trace_reference(None, [board], np.eye(4)[None], even, camera, samples=81, roughness=None, object_ids=(2,))
    from phototwin.kernels.draw import draw_parts, make_draw_list

    view = (camera.T_world_camera, camera.K_px, camera.width, camera.height)
    drawn = draw_parts(make_draw_list([board]), np.eye(4)[None, None], *view)
    hit = drawn["ids"].numpy()[0] == 2
    assert (got.ids[0] == drawn["ids"].numpy()[0]).all() and hit.sum() > 400
    error = np.abs(got.color[0].astype(int) - drawn["albedo"].numpy()[0])[hit]
    assert (
        np.median(error) <= 2 and (error < 12).mean() > 0.9
    )  # texels' borders are averaged in one and sampled in the other
    assert got.object_ids == (2,) and got.robot_ids == ()


@pytest.mark.parametrize("albedo", [0.1, 0.5, 0.8])
def test_a_coat_neither_takes_light_nor_adds_any(albedo):
    """In even light a coated ball is its base colour, and a little brighter by what the coat reflects uncoloured."""
    even = light(irradiance=(0, 0, 0), tilt=0.0, sky=0.9)
    even.sh[1:] = 0.0
    even.sh[0] = 0.9 / 0.282095
    camera = looking_at([0, 0, 0], [0, -0.8, 0.3])
    args = dict(light=even, camera=camera, samples=162)
    plain, coated = (trace_reference(None, [ball(albedo)], np.eye(4)[None], roughness=r, **args) for r in (None, 0.5))
    hit = plain.ids[0] == 1
    bare, shown = (srgb_to_linear(g.color[0][hit] / 255.0).mean() / 0.9 for g in (plain, coated))
    assert bare == pytest.approx(albedo, rel=0.03, abs=0.006)  # 8 bits of a dark colour
    assert shown == pytest.approx(albedo + 0.06 * (1 - albedo), abs=0.03)


def test_one_part_shadows_another_and_gloss_adds_a_highlight():
    given = light(direction=(0, 0, 1), half_angle=0.02, sky=0.02)
    camera = looking_at([0, 0, 0], [0, -0.8, 0.3])
    low, high = ball(0.5, id=1), ball(0.5, 0.12, id=2)
    up = make_T(np.eye(3), np.array([0, 0, 0.5]))
    args = dict(light=given, camera=camera, samples=81)
    alone = trace_reference(None, [low], np.eye(4)[None], roughness=None, **args)
    below = trace_reference(None, [low, high], np.stack([np.eye(4), up]), roughness=None, **args)
    top = (alone.ids[0] == 1) & (alone.normals_w[0][..., 2] > 0.5)
    assert below.color[0][top].mean() < 0.45 * alone.color[0][top].mean()
    glossy = trace_reference(None, [low], np.eye(4)[None], roughness=0.3, **args)
    assert glossy.color[0][alone.ids[0] == 1].max() > alone.color[0][alone.ids[0] == 1].max() + 8


def test_the_support_throws_its_colour_back(tmp_path):
    """A red table reddens what faces down, and shows no more red than the photo has."""
    camera = looking_at([0, 0, 0.05], [0, -0.8, 0.35])
    rgb = np.zeros((camera.height, camera.width, 3), np.uint8)
    rgb[:] = [200, 40, 40]
    save_rgb(tmp_path / "background.png", rgb)
    square = 0.6 * np.array([[-1, -1], [1, -1], [1, 1], [-1, 1.0]])
    nothing = Mesh(np.zeros((0, 3), np.float32), np.zeros((0, 3), np.int32), np.zeros((0, 3, 2), np.float32))
    scene = Scene("red", camera, (), Support(square), nothing, folder=tmp_path)
    given = light(direction=(0, -0.3, 1), irradiance=(1.5, 1.5, 1.5), sky=0.1, tilt=0.0)
    T = make_T(np.eye(3), np.array([0, 0, 0.12]))[None]
    args = dict(light=given, camera=camera, samples=162, roughness=None)
    on_table, in_space = (trace_reference(s, [ball(0.6)], T, **args) for s in (scene, None))
    below = (in_space.ids[0] == 1) & (in_space.normals_w[0][..., 2] < -0.3)
    assert below.sum() > 20
    red, blue = (srgb_to_linear(on_table.color[0][below] / 255.0)[:, c].mean() for c in (0, 2))
    assert red > 1.5 * blue
    radiance = srgb_to_linear(np.array([200, 40]) / 255.0)
    assert red < 0.6 * radiance[0] + 0.05


def test_same_seed_same_bytes():
    camera = looking_at([0, 0, 0], [0, -0.8, 0.3], 24, 18, 35.0)
    first, second, other = (
        trace_reference(None, [ball()], np.eye(4)[None], light(), camera, samples=9, seed=s).color for s in (1, 1, 2)
    )
    assert (first == second).all() and (first != other).any()


def test_without_mitsuba_the_message_says_what_to_do(monkeypatch):
    real = builtins.__import__

    def refuse(name, *args, **kwargs):
        if name == "mitsuba":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(InputError, match=r"phototwin\[truth\]"):
        load_mitsuba()


def test_the_sky_of_this_test_is_never_negative():
    directions = np.random.default_rng(0).normal(size=(500, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    assert (sh_basis(directions) @ light().sh).min() > 0 and SH_BAND.max() == 2


def test_the_same_part_stands_in_several_places_and_out_of_sight_it_shows_nothing():
    """Two frames of one part are those of two parts made anew; where nothing is drawn, nothing is traced."""
    camera = looking_at([0, 0, 0], [0.7, -0.6, 0.4])
    args = {"light": light(), "camera": camera, "samples": 36}
    part = ball(0.5)
    for place in ([0.0, 0.0, 0.0], [0.1, 0.05, 0.0]):
        T = make_T(np.eye(3), np.array(place))[None]
        again, anew = (trace_reference(None, [p], T, **args) for p in (part, ball(0.5)))
        assert (again.ids == 1).any() and (again.color == anew.color).all()
    away = trace_reference(None, [part], make_T(np.eye(3), np.array([5.0, -5.0, 3.0]))[None], **args)
    assert not away.ids.any() and away.color.shape == again.color.shape
