"""Segmentation backends: words to tokens to boxes to masks, with closed forms on a photo that is not square."""

from types import SimpleNamespace

import numpy as np
import pytest
import tiny_models
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from phototwin.backends.contract import FoundObject, check_objects
from phototwin.backends.segmentation import (
    WORDS_A_PROMPT,
    GroundedSam2,
    Sam3,
    SegmentationConfig,
    pixel_boxes,
    prompt_of,
    separate,
    tokens_in,
)

RGB = tiny_models.photo(96, 160)
HEIGHT, WIDTH = 96, 160


@pytest.fixture(scope="module")
def grounded(tmp_path_factory):
    root = tmp_path_factory.mktemp("grounded")
    return GroundedSam2(tiny_models.grounding_dino(root / "dino"), tiny_models.sam2(root / "sam2"))


def rectangle(x0, y0, x1, y1):
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[y0:y1, x0:x1] = True
    return mask


def test_a_box_of_shares_is_scaled_by_each_side_of_the_photo():
    boxes = pixel_boxes(np.array([[0.5, 0.5, 0.25, 0.5], [0.0, 1.0, 0.5, 0.5]]), WIDTH, HEIGHT)
    np.testing.assert_allclose(boxes, [[60, 24, 100, 72], [0, 72, 40, 96]])


def test_words_are_found_again_among_the_tokens(grounded):
    text, spans = prompt_of(("Red  Cube", "cups", "mr. spoon"))
    assert text == "red cube. cups. mr spoon."
    assert [text[a:b] for a, b in spans] == ["red cube", "cups", "mr spoon"]
    tokenizer = grounded._loaded[0].tokenizer
    encoded = tokenizer(text, return_offsets_mapping=True)
    tokens = [
        tokenizer.convert_ids_to_tokens([encoded["input_ids"][i] for i in tokens_in(encoded["offset_mapping"], span)])
        for span in spans
    ]
    assert tokens == [["red", "cube"], ["cup", "##s"], ["[UNK]", "spoon"]]


class Detector:
    """A network that sees one box per row of ``seen``: (centre x, centre y, width, height, the token that fires)."""

    device = torch.device("cpu")

    def __init__(self, seen):
        self.seen = seen

    def __call__(self, **inputs):
        logits = torch.full((1, len(self.seen), 256), -torch.inf)
        for i, (*_, token) in enumerate(self.seen):
            for place in (inputs["input_ids"][0] == token).nonzero():
                logits[0, i, place] = 3.0 - i
        return SimpleNamespace(logits=logits, pred_boxes=torch.tensor([[row[:4] for row in self.seen]]))


class Segmenter:
    """A network that fills every box it is asked for; boxes come to it in its own square picture."""

    device = torch.device("cpu")

    def __call__(self, pixel_values, input_boxes, multimask_output):
        assert pixel_values.shape[-2:] == (128, 128) and not multimask_output
        grid = (torch.arange(32) + 0.5) * 4
        x0, y0, x1, y1 = input_boxes[0].T[:, :, None]
        inside = ((grid > y0) & (grid < y1))[:, :, None] & ((grid > x0) & (grid < x1))[:, None, :]
        return SimpleNamespace(pred_masks=(inside.float() * 20 - 10)[None, :, None])


def with_networks(grounded, seen, **settings):
    other = GroundedSam2(grounded.detector, grounded.segmenter, SegmentationConfig(**settings))
    dino, _, sam, _ = grounded._loaded
    other.__dict__["_loaded"] = (dino, Detector(seen), sam, Segmenter())
    return other


def test_grounded_boxes_become_masks_at_their_place_under_their_word(grounded):
    cup, cube = 200, 202
    seen = [(0.25, 0.25, 0.2, 0.3, cube), (0.75, 0.6, 0.2, 0.4, cup)]
    found = check_objects(with_networks(grounded, seen)(RGB, ("cup", "red cube")), RGB, "grounded")
    assert [item.name for item in found] == ["red cube", "cup"]
    assert [item.score for item in found] == pytest.approx([1 / (1 + np.exp(-3)), 1 / (1 + np.exp(-2))])
    for item, (x0, y0, x1, y1) in zip(found, [(24, 9.6, 56, 38.4), (104, 38.4, 136, 76.8)], strict=True):
        truth = rectangle(*(round(v) for v in (x0, y0, x1, y1)))
        assert (item.mask & truth).sum() / (item.mask | truth).sum() > 0.85  # 5 and 3 photo pixels a mask pixel


def test_things_found_by_no_word_surely_are_left_out(grounded):
    cup, unasked = 200, 203
    seen = [(0.25, 0.25, 0.2, 0.3, unasked), (0.5, 0.5, 1.0, 1.0, cup), (0.75, 0.6, 0.0, 0.4, cup)]
    assert with_networks(grounded, seen)(RGB, ("cup",)) == ()  # another word; the whole photo; a line


def test_long_lists_are_asked_in_parts(grounded):
    asked = []

    class Spy(GroundedSam2):
        def _boxes(self, rgb, words):
            asked.append(words)
            return []

    words = tuple(f"thing{i}" for i in range(2 * WORDS_A_PROMPT + 1))
    assert Spy(grounded.detector, grounded.segmenter)(RGB, words) == ()
    assert sum(asked, ()) == words and [len(part) for part in asked] == [WORDS_A_PROMPT, WORDS_A_PROMPT, 1]


def test_sam3_masks_are_scaled_to_the_photo_and_doubles_dropped(tmp_path):
    backend = Sam3(tiny_models.sam3(tmp_path))
    processor, _ = backend._loaded

    class Network:
        device = torch.device("cpu")
        asked = 0

        def get_vision_features(self, pixel_values):
            assert pixel_values.shape[-2:] == (112, 112)
            return "features"

        def __call__(self, vision_embeds, input_ids, attention_mask):
            assert vision_embeds == "features" and input_ids.shape == attention_mask.shape == (1, 32)
            self.asked += 1
            masks = torch.full((1, 3, 40, 40), -9.0)
            masks[0, 0, 10:20, 10:30] = 9.0  # the same under both words: one thing
            masks[0, 1, 30:36, 20 - 10 * self.asked + 10 : 20] = 9.0  # only under the second word
            masks[0, 2, :5] = 9.0  # not sure enough
            logits = torch.tensor([[4.0 - self.asked, 2.0, -2.0]])
            return SimpleNamespace(
                pred_logits=logits,
                pred_masks=masks,
                pred_boxes=torch.zeros(1, 3, 4),
                presence_logits=torch.tensor([[9.0]]),
            )

    backend.__dict__["_loaded"] = (processor, Network())
    found = check_objects(backend(RGB, ("cup", "mug")), RGB, "sam3")
    assert [item.name for item in found] == ["cup", "mug"]
    truth = rectangle(40, 24, 120, 48)  # 4 and 2.4 photo pixels a mask pixel
    assert (found[0].mask & truth).sum() / (found[0].mask | truth).sum() > 0.95


def test_what_lies_on_a_plate_keeps_its_pixels():
    plate, spoon = rectangle(20, 20, 100, 80), rectangle(40, 40, 70, 50)
    found = separate([FoundObject("plate", plate, 0.9), FoundObject("spoon", spoon, 0.5)], SegmentationConfig())
    assert [item.name for item in found] == ["plate", "spoon"]
    np.testing.assert_array_equal(found[1].mask, spoon)
    np.testing.assert_array_equal(found[0].mask, plate & ~spoon)


def test_doubles_specks_and_furniture_are_dropped():
    cup, same = rectangle(20, 20, 60, 60), rectangle(21, 20, 61, 60)
    speck = cup | rectangle(100, 80, 103, 82)
    table, dot = rectangle(0, 0, 150, 90), rectangle(100, 10, 104, 14)
    items = [("cup", speck, 0.8), ("mug", same, 0.7), ("table", table, 0.9), ("dot", dot, 0.9)]
    found = separate([FoundObject(*item) for item in items], SegmentationConfig())
    assert [item.name for item in found] == ["cup"]
    np.testing.assert_array_equal(found[0].mask, cup)


def test_a_thing_hidden_by_others_is_dropped():
    box = rectangle(20, 20, 60, 60)
    covers = [FoundObject(f"c{i}", rectangle(20, 20 + 10 * i, 58, 30 + 10 * i), 0.9) for i in range(4)]
    names = [item.name for item in separate([FoundObject("box", box, 0.99), *covers], SegmentationConfig())]
    assert names == ["c0", "c1", "c2", "c3"]


boxes = st.tuples(st.integers(0, 150), st.integers(0, 90), st.integers(1, 100), st.integers(1, 90))


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.lists(st.tuples(boxes, st.floats(0, 1)), max_size=8))
def test_any_masks_come_out_within_the_contract(items):
    masks = [(rectangle(x, y, x + w, y + h), score) for (x, y, w, h), score in items]
    found = separate([FoundObject(f"n{i}", m, s) for i, (m, s) in enumerate(masks)], SegmentationConfig())
    check_objects(found, RGB, "any")
    assert all((item.mask & ~masks[int(item.name[1:])][0]).sum() == 0 for item in found)
    assert [item.score for item in found] == sorted((item.score for item in found), reverse=True)
