"""The scale: anchors in words, weighted least squares against its closed form, and the one that lies found among them."""

from __future__ import annotations

import numpy as np
import pytest

from phototwin.build.scale import Anchor, Lengths, find_scale, match_name, parse_anchor
from phototwin.errors import InputError

NAMES = ("green cube", "mug")
SIZES = np.array([[0.1, 0.1, 0.08], [0.2, 0.16, 0.2]])


def lengths(names=NAMES, size_m=SIZES, sigma_share=0.0, camera_height_m=1.0, own_sigma=None, own_source="the depth"):
    size_m = np.asarray(size_m, float)
    place = np.stack([np.arange(len(names)) * 0.5, np.zeros(len(names))], -1)
    doubt = np.full((len(names), 5), float(sigma_share))
    return Lengths(tuple(names), size_m, doubt, place, camera_height_m, own_sigma, own_source)


def solved(anchors, known):
    scale = find_scale(anchors, known)
    return scale.factor, scale.sigma, scale.sentence


def test_anchors_are_parsed_and_refused():
    assert parse_anchor(" green  cube = 0.04 m") == Anchor("green cube", 0.04)
    assert parse_anchor("camera height=0.45") == Anchor("camera height", 0.45)
    assert parse_anchor("white mug height=0.1") == Anchor("white mug", 0.1, side="height")
    assert parse_anchor("plate Diameter=0.2") == Anchor("plate", 0.2, side="diameter")
    assert parse_anchor("red mug to left tomato = 0.3") == Anchor("red mug", 0.3, other="left tomato")
    for text in ("green cube=0.04+-0.001", "green cube=0.04 ± 0.001 m"):
        assert parse_anchor(text) == Anchor("green cube", 0.04, tolerance_m=0.001)
    for bad in ("green cube", "=0.3", "cube=", "cube=-1", "cube=nan", "cube=inf", "cube=four", "cube=40"):
        with pytest.raises(InputError, match="green cube=0"):
            parse_anchor(bad)
    for bad in ("cube=0.04+-0", "cube=0.04+-x", "cube=0.04+-0.05", "cube=0.04+--0.001"):
        with pytest.raises(InputError, match=r"0\.04\+-0\.001"):
            parse_anchor(bad)
    with pytest.raises(InputError, match=r"metres\?"):
        parse_anchor("camera above floor=120")


def test_how_sure_an_anchor_is():
    assert Anchor("cube", 0.04).sigma_m == pytest.approx(0.001) and Anchor("book", 0.4).sigma_m == pytest.approx(0.002)
    assert Anchor("camera_height", 0.3).sigma_m == pytest.approx(0.005)
    assert Anchor("cube", 0.04, tolerance_m=0.01).sigma_m == 0.01


def test_an_anchor_finds_its_object_or_says_why_not():
    names = ("green cube", "yellow cube", "red box")
    assert match_name("the yellow cube", names) == (1, "")
    assert match_name("green_block", names) == (0, "")
    assert match_name("apple", ("apple", "apple pie")) == (0, "")
    with pytest.raises(InputError, match="green cube, yellow cube"):
        match_name("cube", names)
    with pytest.raises(InputError, match="the photo shows"):
        match_name("mug", names)


def test_an_anchor_may_use_a_noun_that_only_the_form_allows():
    names = ("white cylinder", "green block", "red ball", "brown stick")
    for index, word in enumerate(("can", "sponge", "apple", "spoon")):
        found, note = match_name(word, names)
        assert found == index and names[index] in note and "shape" in note
    factor, _, note = solved((Anchor("can", 0.122),), lengths(names, np.full((4, 3), 0.244)))
    assert factor == pytest.approx(0.5) and "'can' was taken for the white cylinder" in note
    with pytest.raises(InputError, match="white cylinder, far white cylinder"):
        match_name("white tin", ("white cylinder", "far white cylinder", "red cylinder"))


def test_one_anchor_sets_the_scale_by_the_side_it_names():
    for text, factor in (
        ("green cube=0.04", 0.4),
        ("cube height=0.04", 0.5),
        ("mug width=0.08", 0.5),
        ("mug diameter=0.08", 0.5),
        ("mug length=0.1", 0.5),
        ("cube to mug=0.25", 0.5),
        ("camera height=0.4", 0.4),
    ):
        found, sigma, note = solved((parse_anchor(text),), lengths())
        assert found == pytest.approx(factor), text
        anchor = parse_anchor(text)
        assert sigma == pytest.approx(anchor.sigma_m / anchor.length_m) and f"{anchor.length_m:g} m" in note


def test_several_anchors_are_weighted_by_their_precision():
    sharp, blunt = Anchor("green cube", 0.0404, tolerance_m=0.0004), Anchor("camera height", 0.4, tolerance_m=0.012)
    weights = np.array([(0.0404 / 0.0004) ** 2, (0.4 / 0.012) ** 2])
    mean = weights @ np.log([0.404, 0.4]) / weights.sum()
    factor, sigma, note = solved((sharp, blunt), lengths())
    assert np.log(factor) == pytest.approx(mean) and sigma == pytest.approx(weights.sum() ** -0.5)
    assert "2 measurements" in note and "left out" not in note
    # What the object is compared with is in doubt as well.
    _, wide, _ = solved((sharp,), lengths(sigma_share=0.03))
    assert wide == pytest.approx(np.hypot(0.03, 0.0004 / 0.0404))


def test_standard_deviations_are_those_of_repeated_measurements():
    rng = np.random.default_rng(0)
    truth, found, sigmas = 0.5, [], []
    for _ in range(400):
        noise = 1 + rng.normal(0, [0.02, 0.03, 0.01])
        anchors = (
            Anchor("green cube", 0.05 * noise[0], tolerance_m=0.001),
            Anchor("mug", 0.1 * noise[1], tolerance_m=0.003),
            Anchor("camera height", 0.5 * noise[2], tolerance_m=0.005),
        )
        factor, sigma, _ = solved(anchors, lengths())
        found.append(np.log(factor / truth))
        sigmas.append(sigma)
    assert np.std(found) == pytest.approx(np.mean(sigmas), rel=0.12) and abs(np.mean(found)) < 0.002


@pytest.mark.parametrize("liar", [0, 1, 2])
def test_the_anchor_that_lies_is_named_and_left_out(liar):
    stated = [("green cube", 0.05), ("mug", 0.1), ("camera height", 0.5)]
    stated[liar] = (stated[liar][0], stated[liar][1] * 1.3)
    factor, _, note = solved(tuple(Anchor(*each) for each in stated), lengths())
    assert factor == pytest.approx(0.5, rel=1e-6)
    assert f"{stated[liar][0]} = {stated[liar][1]:g} m disagrees by +30 %".lower() in note.lower()
    assert note.count("left out") == 1


def test_one_word_against_another_keeps_the_more_precise_and_doubts_it():
    cube, camera = Anchor("green cube", 0.04), Anchor("camera height", 0.5)
    factor, sigma, note = solved((cube, camera), lengths())
    assert factor == pytest.approx(0.5) and "green cube = 0.04 m disagrees by -20 %" in note
    assert sigma == pytest.approx(np.log(0.5 / 0.4) / 2, rel=0.02)


def test_a_sensor_is_believed_against_an_anchor_and_an_estimate_is_not():
    cube = Anchor("green cube", 0.04)
    factor, sigma, note = solved((cube,), lengths(own_sigma=0.003, own_source="the depth file"))
    assert factor == 1.0 and sigma > 0.1 and "-60 %" in note and "the depth file" in note
    near = Anchor("green cube", 0.098)
    factor, sigma, note = solved((near,), lengths(own_sigma=0.003))
    assert factor == pytest.approx(1.0, abs=2e-3) and sigma < 0.003 and "left out" not in note
    for own in (0.08, 0.03):  # a depth model, a pose: both give way
        factor, _, note = solved((cube,), lengths(own_sigma=own, own_source="the given camera pose"))
        assert factor == pytest.approx(0.4) and "rescales the given camera pose by 0.400" in note
    factor, _, _ = solved((Anchor("green cube", 0.092),), lengths(own_sigma=0.1))
    assert factor == pytest.approx(0.92, abs=0.002)
    assert solved((), lengths(own_sigma=0.003)) == (1.0, 0.003, "")


def test_the_height_of_the_table_needs_that_of_the_camera_above_the_floor():
    both = (parse_anchor("camera above floor=1.25"), parse_anchor("Table height=0.75+-0.003"))
    factor, sigma, note = solved(both, lengths())
    assert factor == pytest.approx(0.5) and sigma == pytest.approx(np.hypot(0.0125, 0.003) / 0.5)
    assert "camera height = 0.5 m" in note
    for alone in both:
        with pytest.raises(InputError, match="says nothing alone"):
            find_scale((alone,), lengths())
    with pytest.raises(InputError, match="below the table"):
        find_scale((Anchor("camera above floor", 0.5), both[1]), lengths())


def test_two_things_in_one_place_have_no_distance():
    with pytest.raises(InputError, match="same place"):
        find_scale((parse_anchor("cube to cube=0.1"),), lengths())


def test_without_any_measurement_usual_sizes_are_assumed_and_doubted():
    factor, sigma, note = solved((), lengths())
    assert factor == pytest.approx(np.median([0.45, 0.5])) and "assumed" in note and 0.15 <= sigma <= 0.3
    _, unknown, _ = solved((), lengths(("blob",), SIZES[:1]))
    assert unknown > sigma
    assert find_scale((), lengths((), np.zeros((0, 3)))).factor == 1.0
