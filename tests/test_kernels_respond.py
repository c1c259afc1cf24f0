"""The camera's response on drawn pixels, against numpy and against what its parts promise."""

import numpy as np
import pytest
from scipy import ndimage

from phototwin.kernels.respond import blur_taps, respond
from phototwin.kernels.srgb import linear_to_srgb, srgb_to_linear

HEIGHT, WIDTH = 40, 52
NO_SHIFT = np.zeros((2, 3))
NO_NOISE = np.zeros((256, 3))
GRAIN = np.random.default_rng(5).standard_normal((64, 64, 3)).astype(np.float32)


def case(seed=0, count=2):
    rng = np.random.default_rng(seed)
    frames = rng.integers(0, 256, (count, HEIGHT, WIDTH, 3), dtype=np.uint8)
    drawn = np.zeros((count, HEIGHT, WIDTH), np.uint8)
    drawn[0, 5:20, 10:30] = 3
    drawn[-1, 22:, 0:9] = 1
    return frames, drawn


def cover_of(drawn):
    tent = np.outer([1, 2, 1], [1, 2, 1])
    return np.stack([ndimage.correlate((d != 0).astype(int), tent, mode="nearest") for d in drawn])


def run(frames, drawn, blur=0.0, shift=NO_SHIFT, sigma=NO_NOISE, offsets=None, device="cpu"):
    offsets = np.zeros((len(frames), 2), int) if offsets is None else offsets
    return respond(frames, drawn, offsets, blur, shift, sigma, GRAIN, device)


@pytest.mark.parametrize("sigma", [0.0, 0.3, 0.7, 1.0, 2.3])
def test_taps_have_the_variance_asked_for(sigma):
    taps = blur_taps(sigma)
    full = np.concatenate([taps[:0:-1], taps])
    x = np.arange(len(full)) - len(full) // 2
    assert full.sum() == pytest.approx(1) and (full * x**2).sum() == pytest.approx(sigma**2) and (full >= 0).all()


def test_nothing_to_do_changes_nothing():
    frames, drawn = case()
    assert (run(frames, drawn) == frames).all()
    busy = dict(blur=1.2, shift=np.full((2, 3), 0.3), sigma=NO_NOISE + 4)
    assert (run(frames, drawn * 0, **busy) == frames).all()


@pytest.mark.parametrize("blur", [0.4, 1.1])
def test_blur_equals_numpy_in_linear_light(blur):
    frames, drawn = case()
    linear = srgb_to_linear(frames / 255.0)
    taps = blur_taps(blur)
    full = np.concatenate([taps[:0:-1], taps])
    for axis in (1, 2):
        linear = ndimage.correlate1d(linear, full, axis=axis, mode="nearest")
    want = np.where(cover_of(drawn)[..., None] > 0, np.round(linear_to_srgb(linear) * 255), frames)
    assert np.abs(run(frames, drawn, blur=blur).astype(int) - want).max() <= 1


def test_noise_is_the_grain_by_coverage_and_level():
    frames, drawn = case(1)
    sigma = np.linspace(1, 6, 256)[:, None] * np.array([1.0, 0.5, 2.0])
    offsets = np.array([[3, 60], [17, 0]])
    y, x = np.arange(HEIGHT), np.arange(WIDTH)
    speck = np.stack([GRAIN[(y[:, None] + r) % 64, (x + c) % 64] for r, c in offsets])
    level = np.take_along_axis(sigma, frames.reshape(-1, 3).astype(int), 0).reshape(frames.shape)
    want = frames + level * speck * cover_of(drawn)[..., None] / 16
    got = run(frames, drawn, sigma=sigma, offsets=offsets)
    assert np.abs(got - np.floor(np.clip(want, 0, 255) + 0.5)).max() <= 1
    assert (got == np.floor(np.clip(want, 0, 255) + 0.5)).mean() > 0.999
    outside = cover_of(drawn) == 0
    assert (got[outside] == frames[outside]).all()


def test_channels_part_by_whole_pixels_and_from_the_middle():
    frames, drawn = case(2)
    drawn[:] = 1
    shift = np.array([[2.0, 0.0, 0.0], [0.0, -1.0, 0.0]])
    got = run(frames, drawn, shift=shift)
    assert (got[:, :, 2:, 0] == frames[:, :, :-2, 0]).all() and (got[..., 1] == frames[..., 1]).all()
    assert (got[:, :-1, :, 2] == frames[:, 1:, :, 2]).all()
    ramp = np.round(linear_to_srgb(np.linspace(0.1, 0.9, WIDTH)) * 255).astype(np.uint8)
    smooth = np.broadcast_to(ramp[:, None], (1, HEIGHT, WIDTH, 3))
    grown = run(smooth, drawn[:1], shift=np.array([[0, 0, 0.02], [0, 0, 0]]))
    x = np.arange(WIDTH)
    want = np.interp(x - 0.02 * (x + 0.5 - WIDTH / 2), x, srgb_to_linear(ramp / 255.0))
    assert np.abs(grown[0, 7, :, 0] - linear_to_srgb(want) * 255).max() < 1.01


def test_frames_do_not_touch_each_other():
    frames, drawn = case(3)
    drawn[:] = 1
    busy = dict(blur=1.5, shift=np.full((2, 3), 0.01), sigma=NO_NOISE + 3)
    both = run(frames, drawn, offsets=np.array([[1, 2], [3, 4]]), **busy)
    for i, offset in enumerate([[1, 2], [3, 4]]):
        alone = run(frames[i : i + 1], drawn[i : i + 1], offsets=np.array([offset]), **busy)
        assert (both[i] == alone[0]).all()


def test_shapes_that_do_not_belong_together_are_refused():
    frames, drawn = case()
    with pytest.raises(ValueError, match="do not fit"):
        run(frames, drawn[:1])
    with pytest.raises(ValueError, match="do not fit"):
        run(frames, drawn, offsets=np.zeros((3, 2), int))


@pytest.mark.gpu
def test_cuda_equals_cpu():
    frames, drawn = case(4)
    busy = dict(blur=1.2, shift=np.full((2, 3), 0.02), sigma=NO_NOISE + 3)
    got, want = (run(frames, drawn, device=d, **busy).astype(int) for d in ("cuda", "cpu"))
    assert np.abs(got - want).max() <= 1 and (got == want).mean() > 0.99
