"""Listing: what a model says becomes nouns, or an error that says what it said."""

import numpy as np
import pytest
import tiny_models
from hypothesis import given, settings
from hypothesis import strategies as st

from phototwin.backends.listing import MAX_SIDE_PX, MAX_WORDS, VisionLanguage, parse_list
from phototwin.errors import PerceptionError

RGB = tiny_models.photo()


@pytest.mark.parametrize("make", [tiny_models.smolvlm, tiny_models.qwen3_vl])
def test_the_models_answer_comes_through_template_generation_and_decoding(tmp_path, make):
    backend = VisionLanguage(make(tmp_path))
    assert backend.answer(RGB).replace(" ", "") == '["redcup","spoon"]'
    assert backend(RGB) == ("red cup", "spoon")


def test_an_answer_that_is_no_list_is_an_error_that_quotes_it(tmp_path):
    backend = VisionLanguage(tiny_models.smolvlm(tmp_path, ["There", "is", "a", "cup!", "<eos>"]))
    with pytest.raises(PerceptionError, match="answered 'There is a cup!'"):
        backend(RGB)


def test_a_model_that_never_stops_is_cut_off_and_refused(tmp_path):
    backend = VisionLanguage(tiny_models.smolvlm(tmp_path, ["cup", ",", "cup"]))
    with pytest.raises(PerceptionError, match=f"up to {MAX_WORDS} nouns"):
        backend(RGB)


def test_large_photos_are_reduced_before_they_are_asked_about(tmp_path):
    backend = VisionLanguage(tiny_models.smolvlm(tmp_path))
    processor, model = backend._loaded
    seen = []

    class Spy:
        def apply_chat_template(self, messages, **options):
            seen.append(messages[0]["content"][0]["image"].size)
            return processor.apply_chat_template(messages, **options)

        batch_decode = processor.batch_decode

    backend.__dict__["_loaded"] = (Spy(), model)
    large = np.zeros((1080, 1920, 3), np.uint8)
    assert backend(large) == ("red cup", "spoon")
    assert seen == [(MAX_SIDE_PX, 576)] and large.shape == (1080, 1920, 3)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ('["red cup", "spoon"]', ("red cup", "spoon")),
        ('```json\n["Cup",\n "Spoon"]\n```', ("cup", "spoon")),
        ('```\n["cup"]\n```', ("cup",)),
        ("[]", ()),
        ("none", ()),
        ("Nothing.", ()),
        ("cup, spoon, cup", ("cup", "spoon")),
        ("A red cup, the spoon, jack-in-the-box.", ("red cup", "spoon", "jack-in-the-box")),
        ('["cup", "CUP ", " tea  pot"]', ("cup", "tea pot")),
        ("cup", ("cup",)),
    ],
)
def test_lists(answer, words):
    assert parse_list(answer) == words


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "I see a red cup and a spoon on the table.",
        "1. cup\n2. spoon",
        "- cup\n- spoon",
        '{"objects": ["cup"]}',
        '["cup", 3]',
        '["cup", ""]',
        '["cup", "spoon"',
        '[["cup"]]',
        "cup,, spoon",
        "cup; spoon",
        '["' + "x" * 61 + '"]',
        ", ".join(["cup"] * (MAX_WORDS + 1)),
    ],
)
def test_anything_else_is_refused(answer):
    with pytest.raises(PerceptionError, match="expected a JSON list"):
        parse_list(answer)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.text(max_size=80))
def test_no_answer_breaks_the_parser(answer):
    try:
        words = parse_list(answer)
    except PerceptionError:
        return
    assert len(set(words)) == len(words) and all(0 < len(word) <= 60 for word in words)
