"""Photos rendered from a known light by the shadow rays that test_kernels_transfer judges, and whether that light is found again."""

import numpy as np
import pytest
import trimesh

from phototwin.blend.estimate import estimate_light
from phototwin.blend.estimate_fit import Evidence, fit_lights
from phototwin.blend.estimate_samples import linear_from_srgb, sky_lobes, sphere_directions
from phototwin.blend.estimate_segments import split_colors
from phototwin.frames import make_T
from phototwin.kernels.rasterize import rasterize
from phototwin.kernels.transfer import make_blockers, see_sources
from phototwin.light import ambient_irradiance, source_irradiance
from phototwin.scene import Camera

UP = np.array([0.0, 0.0, 1.0])
CENTER = np.array([0.55, 0.0, 0.1])
HARD = pytest.mark.xfail(
    reason="known: a hard shadow on a clean even table is taken for a colour of its own, checkers far off alias",
    strict=False,
)
ALBEDO = np.array([[0.45, 0.42, 0.4], [0.5, 0.12, 0.1], [0.12, 0.2, 0.45]])


def camera(width=320, height=240):
    pitch = np.deg2rad(40)
    forward, right = np.array([np.cos(pitch), 0, -np.sin(pitch)]), np.array([0.0, -1, 0])
    R = np.stack([right, np.cross(forward, right), forward], 1)
    K = np.array([[width * 0.8, 0, width / 2], [0, width * 0.8, height / 2], [0, 0, 1.0]])
    return Camera(K, width, height, make_T(R, np.array([0.0, 0, 0.5])))


def surfaces():
    table = np.array([[-0.2, -1, 0], [1.5, -1, 0], [1.5, 1, 0], [-0.2, 1, 0]]), np.array([[0, 1, 2], [0, 2, 3]])
    box = trimesh.creation.box(
        (0.08, 0.06, 0.15), transform=trimesh.transformations.translation_matrix((0.6, 0.1, 0.075))
    )
    can = trimesh.creation.cylinder(
        0.035, 0.12, transform=trimesh.transformations.translation_matrix((0.5, -0.1, 0.06))
    )
    return table, *((np.asarray(m.vertices), np.asarray(m.faces)) for m in (box, can))


def photograph(direction, direct, ambient, checker=False):
    """sRGB photo and ids: every pixel's albedo / pi under a sun, 0.04 rad wide, and an even sky that the scene hides in part."""
    cam, parts = camera(), surfaces()
    T = cam.T_world_camera
    points = np.concatenate([p for p, _ in parts])
    first = np.cumsum([0, *(len(p) for p, _ in parts)])
    faces = np.concatenate([f + at for (_, f), at in zip(parts, first, strict=False)])
    owner = np.repeat(np.arange(len(parts)), [len(f) for _, f in parts])
    raster = rasterize((points - T[:3, 3]) @ T[:3, :3], faces, cam.K_px, cam.width, cam.height)
    face = raster.face.ravel()
    ids = owner[np.maximum(face, 0)].reshape(cam.height, cam.width)
    at = np.einsum("nk,nkc->nc", raster.bary.reshape(-1, 3), points[faces[np.maximum(face, 0)]])
    corner = points[faces[np.maximum(face, 0)]]
    normal = np.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0])
    normal /= np.linalg.norm(normal, axis=1, keepdims=True)
    sun = np.append(direction, 0.0)[None]
    turns = np.random.default_rng(0).uniform(0, 6, len(at))
    light = direct * see_sources(make_blockers(parts[1:]), at, normal, turns, sun, np.array([0.04]), 16)[:, 0]
    light += ambient * (1 + normal[:, 2]) / 2
    # What the table throws back at the objects.
    bounce = (direct * direction[2] + ambient) * ALBEDO[0].mean() * (1 - normal[:, 2]) / 2
    albedo = ALBEDO[ids.ravel()]
    if checker:
        dark = ((np.floor(at[:, 0] / 0.06) + np.floor(at[:, 1] / 0.06)) % 2 > 0) & (ids.ravel() == 0)
        albedo = np.where(dark[:, None], [0.1, 0.25, 0.3], albedo)
    linear = albedo / np.pi * (light + bounce)[:, None] * (face >= 0)[:, None]
    srgb = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * np.maximum(linear, 1e-9) ** (1 / 2.4) - 0.055)
    return np.round(255 * np.clip(srgb, 0, 1)).astype(np.uint8).reshape(cam.height, cam.width, 3), ids


def towards(azimuth_deg, elevation_deg):
    a, e = np.deg2rad([azimuth_deg, elevation_deg])
    return np.array([np.cos(a) * np.cos(e), np.sin(a) * np.cos(e), np.sin(e)])


def irradiance(light, normal):
    return ambient_irradiance(light, normal) + source_irradiance(light, light.center_w, normal)


@pytest.mark.parametrize(
    ("azimuth", "elevation", "checker"),
    [pytest.param(70, 45, False, marks=HARD), pytest.param(-130, 35, True, marks=HARD), (160, 60, False)],
)
def test_a_sun_is_found_again(azimuth, elevation, checker):
    direction = towards(azimuth, elevation)
    rgb, ids = photograph(direction, 2.2, 1.2, checker)
    light = estimate_light(rgb, camera(), surfaces(), ids, CENTER)
    assert np.rad2deg(np.arccos(light.direction_w @ direction)) < 5
    total, direct = irradiance(light, UP).mean(), source_irradiance(light, CENTER, UP).mean()
    truth = 2.2 * direction[2] + 1.2
    assert abs(np.log(total / truth)) < 0.6, "the scale is a guess, but a fair one"
    assert direct / total == pytest.approx(2.2 * direction[2] / truth, abs=0.2)
    assert light.half_angle_rad < 0.2
    assert "source" in light.note and f"elevation {np.rad2deg(np.arcsin(light.direction_w[2])):.0f}" in light.note
    np.testing.assert_allclose(np.linalg.norm(light.direction_w), 1.0)


def test_what_the_table_throws_back_comes_from_below_and_the_same_seed_gives_the_same():
    rgb, ids = photograph(towards(70, 45), 2.2, 1.2)
    a, b = (estimate_light(rgb, camera(), surfaces(), ids, CENTER, seed=3) for _ in range(2))
    np.testing.assert_array_equal(a.sh, b.sh)
    np.testing.assert_array_equal(a.direction_w, b.direction_w)
    table = linear_from_srgb(rgb)[ids == 0].mean(0)
    # A downward surface sees little but the table: pi times its radiance.
    np.testing.assert_allclose(irradiance(a, -UP), np.pi * table, rtol=0.35)


def test_an_even_sky_has_no_source_that_matters():
    rgb, ids = photograph(towards(0, 89), 0.0, 2.5)
    light = estimate_light(rgb, camera(), surfaces(), ids, CENTER)
    sideways = light.irradiance.mean() * np.hypot(*light.direction_w[:2])
    assert sideways < 0.15 * irradiance(light, UP).mean(), "at most some light from straight above stands out"


def test_an_empty_table_and_a_clipped_photo_still_give_a_light():
    rgb, ids = photograph(towards(70, 45), 2.2, 1.2)
    white = estimate_light(np.full_like(rgb, 255), camera(), surfaces(), ids, CENTER)
    assert "too little" in white.note and irradiance(white, UP).min() > 1
    empty = estimate_light(rgb, camera(), surfaces()[:1], np.zeros_like(ids), CENTER)
    assert np.isfinite(empty.sh).all() and 0.3 < irradiance(empty, UP).mean() < 30


def test_lobes_bring_the_same_to_a_surface_that_faces_up():
    directions = sphere_directions(40000)
    lobes = sky_lobes(directions)
    assert lobes.min() >= 0 and not lobes[directions[:, 2] < -0.01].any()
    up = (lobes * np.maximum(directions[:, 2:], 0)).mean(0) * 4 * np.pi
    np.testing.assert_allclose(up, 1.0, rtol=0.01)


def test_the_fit_recovers_a_light_through_unknown_albedos_and_outliers():
    rng = np.random.default_rng(0)
    X, theta = rng.uniform(0, 1, (600, 3)), np.array([0.5, 0.0, 1.5])
    segment = rng.integers(0, 4, 600)
    log = np.log(rng.uniform(0.1, 0.8, 4))[segment] + np.log(X @ theta + 0.2) + 0.02 * rng.normal(size=600)
    log[:60] += rng.normal(size=60)
    evidence = Evidence(log, np.full(600, 0.2), np.eye(4)[segment], np.full(600, 0.05), np.log(2.0), 0.5)
    fit = fit_lights(evidence, X[:, :2], X[None, :, 2:], np.full(3, 0.5), np.full(3, 10.0))
    np.testing.assert_allclose(fit.theta[0], theta, atol=0.12)


def test_checkers_are_two_colours_and_a_shadow_is_none():
    rng = np.random.default_rng(0)
    xy = rng.uniform(-1, 1, (800, 2))
    points, surface = np.column_stack([xy, np.zeros(800)]), np.zeros(800, int)
    noise = np.exp(0.05 * rng.normal(size=(800, 1)))
    shadow = np.where(np.hypot(*xy.T) < 0.3, 0.6, 1.0)[:, None]
    dark = (np.floor(4 * xy).sum(1) % 2 > 0)[:, None]
    plain = split_colors(0.4 * shadow * noise * np.ones(3), surface, points)
    assert plain.max() == 0
    checker = split_colors(np.where(dark, [0.5, 0.1, 0.1], [0.6, 0.6, 0.55]) * shadow * noise, surface, points)
    assert checker.max() == 1
    assert max((checker == dark[:, 0]).mean(), (checker != dark[:, 0]).mean()) > 0.99
