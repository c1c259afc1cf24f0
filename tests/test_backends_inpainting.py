"""Inpainting by a pipeline: sizes, windows and what stays untouched."""

from types import SimpleNamespace

import numpy as np
import pytest
import tiny_models
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFilter

from phototwin.backends.contract import check_image
from phototwin.backends.inpainting import (
    DiffusionInpainter,
    InpaintConfig,
    blend_hole,
    smooth_hole,
    trained_side,
    widen,
    working_size,
)
from phototwin.errors import PerceptionError

RGB = tiny_models.photo()
MASK = (RGB == (200, 30, 30)).all(-1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny_models.stable_diffusion(tmp_path_factory.mktemp("sd"))


class Pipeline:
    """Draws what it is given, reddish in the hole and all of it a little too dark; remembers how it was called."""

    vae_scale_factor = 8
    unet = SimpleNamespace(config=SimpleNamespace(sample_size=16))
    flagged = None

    def __init__(self):
        self.calls = []

    def __call__(self, image, mask_image, **options):
        self.calls.append((image, mask_image, options))
        picture = np.asarray(image).astype(int) - 7
        picture[np.asarray(mask_image) > 127] += (30, 0, 0)
        images = [Image.fromarray(np.clip(picture, 0, 255).astype(np.uint8))]
        return SimpleNamespace(images=images, nsfw_content_detected=self.flagged)


def with_pipeline(config=None):
    backend = DiffusionInpainter(None, config)
    backend.__dict__["_loaded"] = pipeline = Pipeline()
    return backend, pipeline


def test_the_real_pipeline_fills_the_hole_and_nothing_else(folder):
    filled = [DiffusionInpainter(folder, InpaintConfig(steps=2, seed=seed)) for seed in (0, 1)]
    first, other = (check_image(backend(RGB, MASK), RGB, MASK, "sd") for backend in filled)
    assert (first != RGB)[MASK].any() and (first != other)[MASK].any()
    assert trained_side(filled[0]._loaded) == 64


def test_the_decoders_shift_of_colours_is_taken_out():
    backend, _ = with_pipeline()
    result = check_image(backend(RGB, MASK), RGB, MASK, "x")
    expected = smooth_hole(RGB, MASK) + np.array([30, 0, 0])
    assert np.abs(result.astype(int) - expected)[MASK].max() <= 3  # resampling of a ramp


def test_nothing_of_the_object_is_shown_to_the_pipeline():
    backend, pipeline = with_pipeline()
    backend(RGB, MASK)
    image = np.asarray(pipeline.calls[0][0])
    assert not ((image[..., 0] > 190) & (image[..., 2] < 40)).any()


def test_sizes_are_multiples_and_the_seed_is_fixed():
    backend, pipeline = with_pipeline(InpaintConfig(seed=3))
    backend(RGB, MASK)
    image, mask_image, options = pipeline.calls[0]
    assert image.size == mask_image.size == (options["width"], options["height"])
    assert max(image.size) == 128 and all(side % 8 == 0 for side in image.size)
    assert options["generator"].initial_seed() == 3


def test_far_parts_of_a_hole_get_a_window_each_and_near_ones_share():
    rgb = np.full((300, 600, 3), 100, np.uint8)
    mask = np.zeros((300, 600), bool)
    mask[20:40, 20:40] = mask[20:40, 55:70] = mask[250:270, 500:530] = True
    backend, pipeline = with_pipeline()
    result = check_image(backend(rgb, mask), rgb, mask, "x")
    assert len(pipeline.calls) == 2
    inner = np.array(Image.fromarray(mask).convert("L").filter(ImageFilter.MinFilter(7))) > 0  # borders are resampled
    assert inner.sum() > 200 and (result[inner] == (130, 100, 100)).all()


def test_a_blanked_picture_is_refused(monkeypatch):
    backend, pipeline = with_pipeline()
    pipeline.flagged = [True]
    with pytest.raises(PerceptionError, match="safety filter"):
        backend(RGB, MASK)


def test_a_hole_that_is_everything_is_filled():
    backend, _ = with_pipeline()
    everything = np.ones(MASK.shape, bool)
    assert check_image(backend(RGB, everything), RGB, everything, "x").shape == RGB.shape


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.integers(1, 4000), st.integers(1, 4000), st.sampled_from([512, 1024]), st.sampled_from([8, 16]))
def test_working_sizes(width, height, side, multiple):
    size = working_size(width, height, side, multiple)
    assert max(size) == side and all(n % multiple == 0 and n >= multiple for n in size)
    longer, shorter = max(width, height), min(width, height)
    assert min(size) / side == pytest.approx(shorter / longer, abs=multiple / side)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.integers(0, 90), st.integers(0, 150), st.integers(1, 90), st.integers(1, 150))
def test_windows_hold_their_hole_and_stay_inside(top, left, height, width):
    box = (slice(top, min(top + height, 96)), slice(left, min(left + width, 160)))
    rows, columns = widen(box, (96, 160), InpaintConfig())
    assert 0 <= rows.start <= box[0].start and box[0].stop <= rows.stop <= 96
    assert 0 <= columns.start <= box[1].start and box[1].stop <= columns.stop <= 160


def test_blending_takes_the_rings_offset_per_channel():
    hole = np.zeros((40, 50), bool)
    hole[15:25, 20:30] = True
    rgb = np.full((40, 50, 3), (10, 100, 250), np.uint8)
    drawn = np.full((40, 50, 3), (20.0, 90, 250), np.float32)
    drawn[hole] += (0, 10, 20)
    out = blend_hole(rgb, drawn, hole)
    assert (out[hole] == (10, 110, 255)).all() and (out[~hole] == (10, 100, 250)).all()
