"""Shading: a numpy twin of the whole formula, a white furnace, and normals that face away."""

from dataclasses import replace

import numpy as np
import pytest

from phototwin.errors import InputError
from phototwin.frames import make_T, pixel_rays, rotation_z
from phototwin.kernels.shade import AGREE, GRAZING, ODD, SAME_DEPTH, shade_frames
from phototwin.kernels.srgb import linear_to_srgb, srgb_to_linear
from phototwin.light import Light, ambient_irradiance, sh_basis, source_irradiance

DEVICES = ["cpu", pytest.param("cuda:0", marks=pytest.mark.gpu)]
K_PX = np.array([[40.0, 0.0, 15.0], [0.0, 42.0, 13.5], [0.0, 0.0, 1.0]])
SHAPE = (2, 24, 32)
CAMERA = make_T(rotation_z(0.3), np.array([0.1, -0.2, 0.4]))


def calm(normals, depth, ids, slack=0.0):
    """Normals in which slivers of a pixel have the mean of neighbours that agree more with each other than with it."""
    out, done = normals.copy(), np.zeros(ids.shape, bool)
    inner = np.zeros(ids.shape, bool)
    inner[:, 1:-1, 1:-1] = True
    for dy, dx in ((0, 1), (1, 0), (1, 1), (1, -1)):
        (a, da, ia), (b, db, ib) = (
            [np.roll(v, (k * dy, k * dx), (1, 2)) for v in (normals, depth, ids)] for k in (-1, 1)
        )
        alike = (a * b).sum(-1)
        odd = inner & ~done & (ia > 0) & (ib > 0) & (alike > AGREE - slack)
        odd &= np.maximum((normals * a).sum(-1), (normals * b).sum(-1)) < alike - ODD + slack
        odd &= (np.abs(da - depth) < (SAME_DEPTH + slack) * depth) & (np.abs(db - depth) < (SAME_DEPTH + slack) * depth)
        out[odd] = (a + b)[odd] / np.linalg.norm((a + b)[odd], axis=-1, keepdims=True)
        done |= odd
    return out


def some_light(distance_m=np.inf):
    rng = np.random.default_rng(3)
    sh = 0.05 * rng.normal(size=(9, 3))
    sh[0] = (0.9, 0.8, 0.7)
    direction = np.array([0.3, -0.4, -0.6])
    return Light(
        sh, direction / np.linalg.norm(direction), np.array([1.2, 1.1, 0.9]), 0.1, distance_m, np.array([0, 0, 1.0])
    )


def scene(seed=0):
    """Random base colours and normals that face the camera, at random depths, and a hole in the ids."""
    rng = np.random.default_rng(seed)
    rays = pixel_rays(K_PX, *SHAPE[:0:-1]) @ CAMERA[:3, :3].T
    view = -rays / np.linalg.norm(rays, axis=-1, keepdims=True)
    normals = view + 0.6 * rng.normal(size=(*SHAPE, 3))
    normals /= np.linalg.norm(normals, axis=-1, keepdims=True)
    normals *= np.where((normals * view).sum(-1, keepdims=True) < 0.1, -1, 1)
    normals = np.where((normals * view).sum(-1, keepdims=True) < 0.1, view, normals)
    ids = rng.integers(1, 3, SHAPE).astype(np.int32)
    ids[:, 5:9, 5:20] = 0
    albedo = rng.integers(0, 256, (*SHAPE, 3)).astype(np.uint8)
    return albedo, rng.uniform(0.5, 1.5, SHAPE).astype(np.float32), normals.astype(np.float32), ids, rays, view


def twin(albedo, depth, normals, rays, view, visibility, light, roughness, specular):
    """The formula in numpy, without tables."""
    points = CAMERA[:3, 3] + depth[..., None] * rays
    nv = (normals * view).sum(-1, keepdims=True)
    r = np.stack([1 - roughness, 0.0425 - 0.0275 * roughness, 1.04 - 0.572 * roughness, -0.04 + 0.022 * roughness], 0)[
        ..., None
    ]
    a = np.minimum(r[0] ** 2, 2 ** (-9.28 * nv)) * r[0] + r[1]
    glossy = np.minimum(50 * specular[..., None], 1)
    mirror = np.clip(specular[..., None] * (-1.04 * a + r[2]) + glossy * (1.04 * a + r[3]), 0, 1)
    alpha = roughness[..., None] ** 2
    band = np.exp(-(alpha**2) * np.array([0, 1, 1, 1, 4, 4, 4, 4, 4.0]))
    reflected = 2 * nv * normals - view
    seen = np.maximum((sh_basis(reflected) * band) @ light.sh, 0)
    direct = source_irradiance(light, points, normals) * visibility[..., :1]
    ambient = ambient_irradiance(light, normals) * visibility[..., 1:]
    towards = np.broadcast_to(light.direction_w, normals.shape)
    if np.isfinite(light.distance_m):
        towards = light.center_w + light.distance_m * light.direction_w - points
        towards = towards / np.linalg.norm(towards, axis=-1, keepdims=True)
    nl = np.maximum((normals * towards).sum(-1, keepdims=True), 1e-6)
    half = (view + towards) / np.linalg.norm(view + towards, axis=-1, keepdims=True)
    wide = np.minimum(alpha + 0.5 * np.tan(light.half_angle_rad), 1)
    nh, vh = (normals * half).sum(-1, keepdims=True), (view * half).sum(-1, keepdims=True)
    D = wide**2 / (np.pi * (nh**2 * (wide**2 - 1) + 1) ** 2)
    F = specular[..., None] + glossy * (1 - specular[..., None]) * (1 - np.maximum(vh, 0)) ** 5
    V = 0.5 / (2 * nl * nv * (1 - wide) + wide * (nl + nv))
    return (
        (1 - mirror) * srgb_to_linear(albedo / 255.0) / np.pi * (ambient + direct)
        + mirror * visibility[..., 1:] * seen
        + D * F * V * direct
    )


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("distance", [np.inf, 1.3])
def test_the_kernel_does_what_numpy_does(device, distance):
    albedo, depth, normals, ids, rays, view = scene()
    visibility = np.random.default_rng(1).uniform(0, 1, (*SHAPE, 2)).astype(np.float32)
    light = some_light(distance)
    roughness, specular = (0.9, 0.3, 0.6), (0.04, 0.0, 0.08)
    got = shade_frames(
        albedo, depth, normals, ids, visibility, light, CAMERA, K_PX, roughness, specular, device
    ).numpy()
    parts = [np.array(v)[ids] for v in (roughness, specular)]
    expected = 255 * linear_to_srgb(
        twin(albedo, depth, calm(normals, depth, ids).astype(float), rays, view, visibility, light, *parts)
    )
    # Where it hangs on the last bit whether a pixel is a sliver, the two may differ.
    sure = (calm(normals, depth, ids, 1e-4) == calm(normals, depth, ids, -1e-4)).all(-1)
    assert sure.mean() > 0.98
    error = np.abs(got - expected)[(ids > 0) & sure]
    assert error.max() < 1.6 and np.median(error) < 0.5
    assert (expected[ids > 0] < 250).mean() > 0.8


def test_a_white_thing_in_even_light_cannot_be_seen():
    albedo, depth, normals, ids, _, _ = scene()
    sh = np.zeros((9, 3))
    sh[0] = np.array([0.5, 0.4, 0.3]) / sh_basis(np.array([0, 0, 1.0]))[0]
    light = replace(some_light(), sh=sh, irradiance=np.zeros(3))
    for roughness in (0.1, 0.5, 1.0):
        got = shade_frames(np.full_like(albedo, 255), depth, normals, ids, None, light, CAMERA, K_PX, roughness).numpy()
        expected = 255 * linear_to_srgb(np.array([0.5, 0.4, 0.3]))
        assert np.abs(got[ids > 0] - expected).max() <= 1


def test_without_reflectance_a_surface_shows_its_base_colour_times_the_light_alone():
    albedo, depth, normals, ids, _, _ = scene()
    light = some_light()
    got = shade_frames(albedo, depth, normals, ids, None, light, CAMERA, K_PX, specular=0.0).numpy()
    sure = (calm(normals, depth, ids, 1e-4) == calm(normals, depth, ids, -1e-4)).all(-1) & (ids > 0)
    normals = calm(normals, depth, ids).astype(float)
    arriving = ambient_irradiance(light, normals) + source_irradiance(light, np.zeros_like(normals), normals)
    expected = 255 * linear_to_srgb(srgb_to_linear(albedo / 255.0) / np.pi * arriving)
    assert np.abs(got - expected)[sure].max() < 1.6


def test_normals_that_face_away_are_turned_to_the_camera():
    albedo, depth, normals, ids, _, view = scene()
    view = np.broadcast_to(view, normals.shape)
    light = some_light()
    right = shade_frames(albedo, depth, normals, ids, None, light, CAMERA, K_PX).numpy()
    cosine = (normals * view).sum(-1)
    turned = shade_frames(albedo, depth, -normals, ids, None, light, CAMERA, K_PX).numpy()
    sure = (ids > 0) & (cosine > 0.31)
    np.testing.assert_array_equal(turned[sure], right[sure])
    side = np.cross(view, [0.0, 0.0, 1.0])
    side /= np.linalg.norm(side, axis=-1, keepdims=True)
    slightly = (side - 0.1 * view) / np.linalg.norm(side - 0.1 * view, axis=-1, keepdims=True)
    clamped = (side + GRAZING * view) / np.linalg.norm(side + GRAZING * view, axis=-1, keepdims=True)
    one, two = (
        shade_frames(albedo, depth, n.astype(np.float32), ids, None, light, CAMERA, K_PX).numpy()
        for n in (slightly, clamped)
    )
    assert np.abs(one.astype(int) - two)[ids > 0].max() <= 2


def test_no_light_is_black_and_four_channels_are_read_as_three():
    albedo, depth, normals, ids, _, _ = scene()
    dark = shade_frames(albedo, depth, normals, ids, np.zeros((*SHAPE, 2), np.float32), some_light(), CAMERA, K_PX)
    assert not dark.numpy()[ids > 0].any()
    four = np.concatenate([albedo, np.full((*SHAPE, 1), 7, np.uint8)], -1)
    a, b = (shade_frames(v, depth, normals, ids, None, some_light(), CAMERA, K_PX).numpy() for v in (albedo, four))
    np.testing.assert_array_equal(a[ids > 0], b[ids > 0])
    with pytest.raises(InputError, match="depth"):
        shade_frames(albedo, depth[:1], normals, ids, None, some_light(), CAMERA, K_PX)


@pytest.mark.parametrize("tilt_deg", [15, 30, 90])
def test_a_sliver_far_smaller_than_its_pixel_does_not_glint(tilt_deg):
    """One pixel of a wall whose normal looks elsewhere is shaded like the wall around it; a whole patch of them is a thing."""
    albedo, depth, _, ids, _, _ = scene()
    depth, ids = np.full_like(depth, 0.7), np.ones_like(ids)
    axis = CAMERA[:3, 2]
    normals = np.broadcast_to(-axis, (*SHAPE, 3)).astype(np.float32).copy()
    albedo[:] = 128
    flat = shade_frames(albedo, depth, normals, ids, None, some_light(), CAMERA, K_PX).numpy()
    side = np.cross(axis, [1.0, 0.0, 0.0]).astype(np.float32)
    side /= np.linalg.norm(side)
    normals[:, 10, 12] = np.cos(np.radians(tilt_deg)) * normals[0, 0, 0] + np.sin(np.radians(tilt_deg)) * side
    sliver = shade_frames(albedo, depth, normals, ids, None, some_light(), CAMERA, K_PX).numpy()
    np.testing.assert_array_equal(sliver, flat)
    normals[:, 5:15, 5:15] = normals[0, 10, 12]
    patch = shade_frames(albedo, depth, normals, ids, None, some_light(), CAMERA, K_PX).numpy()
    assert (patch[:, 6:14, 6:14] != flat[:, 6:14, 6:14]).any(-1).mean() > 0.9


@pytest.mark.parametrize("turn_deg", [2, 8, 15])
def test_a_round_thing_stays_as_round_as_it_is(turn_deg):
    """From pixel to pixel its normals turn by so much: each lies between its neighbours, and none is a sliver."""
    albedo, _, _, _, _, view = scene()
    angle = np.radians(turn_deg) * (np.arange(SHAPE[2]) - 15)
    around = np.stack([np.sin(angle), 0 * angle, -np.cos(angle)], -1) @ CAMERA[:3, :3].T
    normals = np.broadcast_to(around, (*SHAPE, 3)).astype(np.float32)
    depth, ids, light = np.full(SHAPE, 0.7, np.float32), np.ones(SHAPE, np.int32), some_light()
    got = shade_frames(albedo, depth, normals, ids, None, light, CAMERA, K_PX, specular=0.0).numpy()
    arriving = ambient_irradiance(light, normals) + source_irradiance(light, np.zeros_like(normals), normals)
    expected = 255 * linear_to_srgb(srgb_to_linear(albedo / 255.0) / np.pi * arriving)
    seen = np.broadcast_to((normals * view).sum(-1) > GRAZING, SHAPE)
    assert seen.mean() > 0.3 and np.abs(got - expected)[seen].max() < 1.6
