"""What noun phrases mean: literal names, synonyms, forms, colours, and the refusals between them."""

import numpy as np
import pytest

from phototwin.build.names import shape_word
from phototwin.build.physics import MATERIALS
from phototwin.nouns import COLOR_ALIASES, COLORS, NEAR_COLORS, NOUNS, Thing, color_names, find_thing, noun_of, words_of
from phototwin.scene import OBJECT_SHAPES


def thing(name, shape, size_mm, hollow=False, color=None):
    return Thing(name, shape, hollow, np.array(size_mm) / 1000, color)


CAN = thing("white cylinder", "cylinder", (64, 64, 122))
APPLE = thing("red cylinder", "cylinder", (80, 80, 76))
SPONGE = thing("green block", "extrusion", (101, 79, 20))
SPOON = thing("brown stick", "extrusion", (336, 71, 41))
PLATE = thing("white plate", "revolution", (264, 264, 34))
BOWL = thing("teal bowl", "revolution", (153, 153, 80), True)
MUG = thing("blue mug", "revolution", (117, 88, 114), True)
CUBE = thing("yellow cube", "box", (33, 29, 31))
TABLE = (CAN, APPLE, SPONGE, SPOON, PLATE, BOWL, MUG, CUBE)

EXACT = {
    "white cylinder": CAN, "the red cylinder": APPLE, "plate": PLATE, "dish": PLATE, "bowl": BOWL, "mug": MUG,
    "cup": MUG, "coffee mug": MUG, "blue_cup": MUG, "yellow block": CUBE, "turquoise bowl": BOWL, "light blue mug": MUG,
}  # fmt: skip
LOOSE = {
    "can": CAN, "white can": CAN, "coke can": CAN, "apple": APPLE, "red apple": APPLE, "tomato": APPLE, "ball": APPLE,
    "sponge": SPONGE, "green sponge": SPONGE, "spoon": SPOON, "wooden spoon": SPOON, "green bowl": BOWL,
    "blue bowl": BOWL, "orange cube": CUBE, "teal cup": MUG,
}  # fmt: skip
NOTHING = [
    "elephant",
    "purple can",
    "banana",
    "lemon",
    "orange",
    "red mug",
    "purple cube",
    "blue sponge",
    "bottle",
    "pen",
]
SEVERAL = {"cylinder": (CAN, APPLE), "white thing": (CAN, PLATE), "container": (BOWL, MUG)}


@pytest.mark.parametrize("phrase", [*EXACT, *LOOSE])
def test_a_phrase_means_one_thing_and_says_where_it_is_loose(phrase):
    found = find_thing(phrase, TABLE)
    assert [TABLE[i].name for i in found.indices] == [(EXACT | LOOSE)[phrase].name]
    assert bool(found.note) == (phrase in LOOSE)
    assert not found.note or (phrase in found.note and LOOSE[phrase].name in found.note)


@pytest.mark.parametrize("phrase", NOTHING)
def test_what_is_not_there_is_not_found(phrase):
    assert find_thing(phrase, TABLE).indices == ()


@pytest.mark.parametrize("phrase", SEVERAL)
def test_equal_fits_are_all_listed(phrase):
    assert tuple(TABLE[i] for i in find_thing(phrase, TABLE).indices) == SEVERAL[phrase]


def test_the_order_of_things_does_not_matter():
    for phrase in (*EXACT, *LOOSE, *SEVERAL, *NOTHING):
        there, back = (find_thing(phrase, t).indices for t in (TABLE, TABLE[::-1]))
        assert {TABLE[i] for i in there} == {TABLE[::-1][i] for i in back}


def test_every_thing_is_found_by_its_own_name_alone():
    for i, item in enumerate(TABLE):
        assert find_thing(item.name, TABLE) == find_thing(f"the {item.name.upper()}", TABLE)
        assert find_thing(item.name, TABLE).indices == (i,)


def test_a_name_beats_a_fit_and_no_fit_overrules_a_telling_name():
    named = thing("soda can", "cylinder", (64, 64, 122))
    assert find_thing("can", (CAN, named)).indices == (1,)
    assert find_thing("lemon", (thing("apple", "sphere", (80, 80, 80), color="yellow"),)).indices == ()
    assert find_thing("ball", (thing("apple", "sphere", (80, 80, 80)),)).indices == (0,)


def test_one_better_in_one_word_and_another_in_the_other_is_a_question():
    things = (thing("teal cube", "box", (40, 40, 40)), thing("green block", "box", (80, 40, 30)))
    assert find_thing("green cube", things).indices == (0, 1)


def test_a_fruit_that_is_also_a_colour_is_a_fruit_at_the_end_of_a_phrase():
    cube, ball = thing("orange cube", "box", (40, 40, 40)), thing("orange ball", "sphere", (75, 75, 75))
    assert find_thing("the orange", (cube, ball)).indices == (1,)
    assert find_thing("the orange", (cube,)).indices == ()
    assert find_thing("the orange one", (cube,)).indices == (0,)


def test_a_lying_can_is_a_can_and_sizes_far_off_are_not():
    lying = thing("white cylinder", "cylinder", (122, 64, 64))
    assert find_thing("can", (lying, APPLE)).indices == (0,)
    assert find_thing("apple", (thing("red ball", "sphere", (400, 400, 400)),)).indices == ()


def test_the_measured_colour_counts_where_the_name_has_none():
    cans = (thing("can", "cylinder", (64, 64, 122), color="red"), thing("tin", "cylinder", (64, 64, 122), color="blue"))
    assert find_thing("blue can", cans).indices == (1,)
    assert find_thing("green can", cans).indices == ()


def test_a_form_in_a_name_stands_for_unknown_proportions():
    names = [Thing(n) for n in ("white cylinder", "green block", "red ball", "brown stick", "my gadget")]
    for index, word in enumerate(("can", "sponge", "apple", "spoon", "gadget")):
        assert find_thing(word, names).indices == (index,)
    assert find_thing("cup", names).indices == find_thing("", names).indices == find_thing("the", names).indices == ()


def test_the_tables_hold_together():
    words = [word for noun in NOUNS for word in noun.words]
    assert len(words) == len(set(words))
    for noun in NOUNS:
        assert set(noun.shapes) <= set(OBJECT_SHAPES) and set(noun.also) <= set(words)
        assert set(noun.colors) <= set(COLORS) and noun.material in (*MATERIALS, "")
        assert 1 <= noun.long[0] < noun.long[1] and 1 <= noun.flat[0] < noun.flat[1] and 0.02 < noun.typical_m < 0.5
    assert set(COLOR_ALIASES.values()) <= set(COLORS) and all(len(p) == 2 and p <= set(COLORS) for p in NEAR_COLORS)


def test_every_form_that_we_name_things_by_is_in_the_lexicon():
    rng = np.random.default_rng(0)
    for shape in OBJECT_SHAPES:
        for hollow in (False, True):
            for size in np.exp(rng.uniform(np.log(0.02), np.log(0.4), (300, 3))):
                size[:2] = np.sort(size[:2])[::-1]
                noun = noun_of(shape_word(shape, hollow, size, float(rng.uniform(0.3, 1))))
                assert noun is not None and noun.form


def test_words():
    assert words_of("The dark-blue Mug of my") == ["blue", "mug"] and words_of("dark mug") == ["dark", "mug"]
    assert noun_of("orange mug") is noun_of("Mugs") and noun_of("gadget") is None


def test_colour_spaces_agree_with_opencv():
    """HSV and Lab by the formulas against OpenCV's, through the names they lead to."""
    cv2 = pytest.importorskip("cv2")
    from phototwin.nouns import _hsv, _lab

    rgb = np.random.default_rng(1).random((2000, 3)).astype(np.float32)
    hsv = np.stack(_hsv(rgb.astype(float)), 1)
    np.testing.assert_allclose(hsv, cv2.cvtColor(rgb[None], cv2.COLOR_RGB2HSV)[0], atol=0.01)
    lab = cv2.cvtColor(rgb[None], cv2.COLOR_RGB2LAB)[0]
    lightness, chroma = _lab(rgb.astype(float))
    np.testing.assert_allclose(lightness, lab[:, 0], atol=0.5)
    np.testing.assert_allclose(chroma, np.hypot(lab[:, 1], lab[:, 2]), atol=1.0)
    assert list(color_names(np.zeros((1, 3)))) == ["black"]
