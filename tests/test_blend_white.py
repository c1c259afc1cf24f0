"""White things set a floor under the light."""

import numpy as np
import pytest

from phototwin.blend.estimate_white import WHITEST, admit_white
from phototwin.light import Light, ambient_irradiance, source_irradiance

LIGHT = Light(
    np.concatenate([[[0.6, 0.5, 0.4]], np.zeros((8, 3))]),
    np.array([0.0, 0.0, 1.0]),
    np.array([0.8, 0.8, 0.8]),
    0.1,
    np.inf,
    np.zeros(3),
)
NORMALS = np.repeat(np.array([[0, 0, 1.0], [-1.0, 0, 0], [0, 1.0, 0]]), 20, 0)
SURFACE = np.repeat([0, 1, 1], 20)


def falls(light, normals=NORMALS):
    return ambient_irradiance(light, normals) + source_irradiance(light, np.zeros_like(normals), normals)


def test_what_no_paint_contradicts_stays_as_it_is():
    shown = 0.6 / np.pi * falls(LIGHT)
    assert admit_white(LIGHT, shown, np.zeros_like(NORMALS), NORMALS, SURFACE) is LIGHT


def test_a_side_brighter_than_white_brings_light_from_where_it_looks():
    shown = 0.6 / np.pi * falls(LIGHT)
    shown[20:40] *= 3.0  # what faces -X would reflect 180 %
    light = admit_white(LIGHT, shown, np.zeros_like(NORMALS), NORMALS, SURFACE)
    more = falls(light) - falls(LIGHT)
    assert np.pi * shown[20].max() / falls(light)[20].mean() == pytest.approx(WHITEST, rel=1e-3)
    assert more[20].mean() > 1.5 * max(more[0].mean(), more[40].mean()) and more.min() >= 0
    behind = falls(light, np.array([[1.0, 0, 0]])) - falls(LIGHT, np.array([[1.0, 0, 0]]))
    assert behind.mean() < 0.3 * more[20].mean()
    np.testing.assert_array_equal(light.irradiance, LIGHT.irradiance)


def test_few_bright_pixels_are_highlights():
    shown = 0.6 / np.pi * falls(LIGHT)
    shown[20:24] *= 3.0
    assert admit_white(LIGHT, shown, np.zeros_like(NORMALS), NORMALS, SURFACE) is LIGHT
    lone = np.append(SURFACE[:-1], 9)
    shown[-1] *= 5.0
    assert admit_white(LIGHT, shown, np.zeros_like(NORMALS), NORMALS, lone) is LIGHT
