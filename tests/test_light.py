"""The light's own arithmetic, against quadrature and closed forms, and its file."""

import json
from dataclasses import replace

import numpy as np
import pytest

from phototwin.errors import InputError
from phototwin.light import (
    Light,
    ambient_irradiance,
    light_from_json,
    light_to_json,
    load_light,
    plain_light,
    sh_basis,
    source_irradiance,
)


def directions(count=40000):
    """Even on the sphere. Source: spherical Fibonacci lattice."""
    i = np.arange(count) + 0.5
    z, phi = 1 - 2 * i / count, np.pi * (1 + 5**0.5) * i
    return np.stack([np.sqrt(1 - z * z) * np.cos(phi), np.sqrt(1 - z * z) * np.sin(phi), z], -1)


def test_the_basis_is_orthonormal():
    Y = sh_basis(directions())
    np.testing.assert_allclose(4 * np.pi * Y.T @ Y / len(Y), np.eye(9), atol=2e-3)


def test_irradiance_is_the_cosine_integral_of_the_radiance():
    rng = np.random.default_rng(0)
    w = directions()
    light = replace(plain_light(), sh=np.concatenate([[[3.0, 2, 4]], 0.3 * rng.normal(size=(8, 3))]))
    normals = directions(20)
    want = 4 * np.pi * (np.maximum(normals @ w.T, 0) @ (sh_basis(w) @ light.sh)) / len(w)
    np.testing.assert_allclose(ambient_irradiance(light, normals), want, rtol=2e-3)


def test_an_even_sky_lights_every_normal_alike():
    light = plain_light()
    np.testing.assert_allclose(ambient_irradiance(light, directions(50)), 0.42 * np.pi, rtol=1e-5)


def test_a_near_source_falls_off_with_the_square_and_the_cosine():
    light = Light(np.zeros((9, 3)), np.array([0, 0, 1.0]), np.array([2.0, 1, 1]), 0.1, 1.5, np.array([0, 0, 0.5]))
    up = np.array([0, 0, 1.0])
    np.testing.assert_allclose(source_irradiance(light, np.array([0, 0, 0.5]), up), light.irradiance)
    far = source_irradiance(light, np.array([1.5, 0, 0.5]), up)
    np.testing.assert_allclose(far, light.irradiance * 0.5 * np.sqrt(0.5), rtol=1e-12)
    assert (source_irradiance(light, np.zeros(3), -up) == 0).all()
    sun = replace(light, distance_m=np.inf)
    np.testing.assert_array_equal(source_irradiance(sun, np.array([9.0, 9, 0]), up), light.irradiance)


@pytest.mark.parametrize("distance", [np.inf, 1.25])
def test_a_light_comes_back_from_its_file(tmp_path, distance):
    light = replace(plain_light(), distance_m=distance, note="Measured.")
    file = tmp_path / "light.json"
    file.write_text(json.dumps(light_to_json(light)))
    back = load_light(file)
    assert light_to_json(back) == light_to_json(light_from_json(light_to_json(light))) or np.allclose(
        back.direction_w, light.direction_w
    )
    assert back.distance_m == distance and back.note == "Measured."


@pytest.mark.parametrize(
    "change",
    [
        {"sh": [[0, 0, 0]]},
        {"direction_w": [0, 0, 0]},
        {"irradiance": [-1, 0, 0]},
        {"distance_m": -1},
        {"half_angle_rad": 4},
        {"direction_w": [0, float("nan"), 1]},
        {"center_w": "here"},
    ],
)
def test_what_is_no_light_is_refused(tmp_path, change):
    file = tmp_path / "light.json"
    file.write_text(json.dumps(light_to_json(plain_light()) | change))
    with pytest.raises(InputError, match=r"light\.json"):
        load_light(file)
    file.write_text("{")
    with pytest.raises(InputError, match="cannot be read as a light"):
        load_light(file)
