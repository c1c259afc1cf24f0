import numpy as np
import pytest

from phototwin.build.names import Look, color_of, make_key, name_objects, shape_word
from phototwin.build.physics import MATERIALS, MAX_MASS_KG, MIN_MASS_KG, estimate_physics, material_of
from phototwin.nouns import color_names

SWATCHES = {
    "red": [(200, 30, 30), (150, 20, 25), (205, 75, 55), (230, 60, 40)],
    "orange": [(240, 130, 20), (255, 150, 50)],
    "yellow": [(250, 220, 40), (220, 190, 60)],
    "green": [(40, 140, 60), (60, 110, 75), (120, 200, 90)],
    "teal": [(60, 170, 165), (40, 130, 130)],
    "blue": [(20, 45, 110), (50, 90, 200), (90, 150, 220)],
    "purple": [(110, 50, 160)],
    "pink": [(240, 150, 170), (230, 90, 170)],
    "brown": [(110, 65, 30), (90, 60, 45)],
    "white": [(245, 245, 245), (225, 220, 210), (190, 190, 195)],
    "black": [(15, 15, 18), (35, 33, 35)],
    "gray": [(120, 120, 122), (90, 92, 95)],
}


@pytest.mark.parametrize("word", SWATCHES)
def test_colours_are_called_what_people_call_them(word):
    assert set(color_names(np.array(SWATCHES[word], np.uint8))) == {word}


@pytest.mark.parametrize("gain", [0.6, 0.8, 1.1])
def test_brightness_does_not_change_strong_colours(gain):
    for word in ("red", "yellow", "green", "blue"):
        pixels = np.clip(np.array(SWATCHES[word][:1]) * gain, 0, 255).astype(np.uint8)
        assert color_names(pixels)[0] == word


def test_the_colour_of_most_pixels_wins():
    rgb = np.zeros((10, 10, 3), np.uint8)
    rgb[:7], rgb[7:] = (200, 30, 30), (250, 250, 250)
    word, color = color_of(rgb, np.ones((10, 10), bool))
    assert word == "red"
    np.testing.assert_allclose(color, np.array([200, 30, 30]) / 255)


@pytest.mark.parametrize("light", [(1.0, 0.85, 0.65), (0.8, 0.95, 1.0), (0.7, 0.7, 0.7)])
@pytest.mark.parametrize("word", ["white", "red", "yellow", "green", "blue"])
def test_names_survive_lamp_light_window_light_and_dim_light(light, word):
    """The object on a light grey table with shading, all under one light."""
    shading = np.linspace(0.75, 1.0, 40)[:, None, None]
    rgb = np.full((80, 80, 3), 205.0)
    rgb[20:60, 20:60] = np.array(SWATCHES[word][0]) * shading
    mask = np.zeros((80, 80), bool)
    mask[20:60, 20:60] = True
    assert color_of((rgb * light).astype(np.uint8), mask)[0] == word


@pytest.mark.parametrize(
    ("word", "shape", "hollow", "size", "fill"),
    [
        ("cube", "box", False, (0.04, 0.038, 0.041), 1.0),
        ("box", "box", False, (0.16, 0.06, 0.21), 1.0),
        ("block", "box", False, (0.1, 0.07, 0.03), 1.0),
        ("ball", "sphere", False, (0.07, 0.07, 0.07), 0.52),
        ("ball", "revolution", False, (0.08, 0.08, 0.072), 0.55),
        ("bowl", "revolution", True, (0.16, 0.16, 0.08), 0.1),
        ("mug", "revolution", True, (0.13, 0.09, 0.115), 0.1),
        ("cup", "revolution", True, (0.08, 0.08, 0.09), 0.1),
        ("plate", "revolution", True, (0.25, 0.25, 0.03), 0.3),
        ("can", "cylinder", False, (0.066, 0.066, 0.122), 0.785),
        ("can", "revolution", False, (0.066, 0.066, 0.122), 0.75),
        ("cylinder", "cylinder", False, (0.03, 0.03, 0.06), 0.785),
        ("cylinder", "cylinder", False, (0.08, 0.08, 0.06), 0.785),
        ("bottle", "revolution", False, (0.07, 0.07, 0.25), 0.6),
        ("stick", "extrusion", False, (0.3, 0.06, 0.02), 0.5),
    ],
)
def test_shapes_get_their_nouns(word, shape, hollow, size, fill):
    assert shape_word(shape, hollow, np.array(size), fill) == word


def look(color="green", x=0.0, y=0.0):
    return Look(color, "box", False, np.full(3, 0.04), 1.0, np.array([x, y]))


def test_equal_names_are_told_apart_by_place_or_number():
    assert name_objects([look(x=0.1), look(x=-0.2, y=0.1)], (None, None)) == ("right green cube", "left green cube")
    assert name_objects([look(y=0.3), look(x=0.1)], (None, None)) == ("far green cube", "near green cube")
    three = name_objects([look(x=0.2), look(x=0.0), look(x=0.1), look("red")], (None,) * 4)
    assert three == ("green cube 3", "green cube 1", "green cube 2", "red cube")


def test_user_names_win_and_keys_stay_unique():
    names = name_objects([look(x=0), look(x=1), look(x=2)], ("Coke can", None, "coke-can"))
    assert names[0] == "Coke can" and names[1] == "green cube"
    assert len({make_key(n) for n in names}) == 3
    assert make_key("7 Äpfel!") == "object_7_apfel" and make_key("日本") == "object"
    assert name_objects([], ()) == ()


def test_mass_from_words():
    assert estimate_physics("soda can", False, 4e-4).mass_kg == pytest.approx(0.4)
    assert MATERIALS[material_of("orange mug", True)].density > 2000 > MATERIALS[material_of("orange", False)].density
    assert estimate_physics("thing", False, 0.0).mass_kg == MIN_MASS_KG
    assert estimate_physics("thing", False, 1.0).mass_kg == MAX_MASS_KG
