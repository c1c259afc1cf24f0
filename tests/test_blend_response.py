"""Plant noise, blur, fringes and JPEG in clean images, and find them again; put a photo's response on what was drawn."""

import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from phototwin.blend.jpeg import JpegGrid, find_jpeg_grid
from phototwin.blend.response import Response, apply_response, measure_response, noise_codes, noise_tile
from phototwin.kernels.srgb import linear_to_srgb, srgb_to_linear

SIZE = 224


def response(read=0.0, shot=0.0, grain=0.0, shared=0.3, edge=None, shift=None, jpeg=None):
    shift = np.zeros((2, 3)) if shift is None else shift
    return Response(np.full(3, read), np.full(3, shot), grain, shared, edge, shift, jpeg, "")


def clean_image(seed=0, size=SIZE, texture=0.0, fine=8):
    """Linear light (size, size, 3) of turned rectangles and discs in many colours on a shaded, perhaps grained table; area-sampled."""
    rng = np.random.default_rng(seed)
    n = size * fine
    v, u = np.mgrid[0:n, 0:n] / n
    out = (0.15 + 0.25 * u + 0.1 * v)[..., None] * rng.uniform(0.6, 1.0, 3)
    if texture:
        grain = ndimage.gaussian_filter(rng.standard_normal((n // 4, n)), (1.0, fine * 3))
        out *= 1 + texture * np.repeat(grain / grain.std(), 4, axis=0)[..., None]
    for _ in range(12):
        x, y, angle, r = *rng.uniform(0.1, 0.9, 2), rng.uniform(0, np.pi), rng.uniform(0.03, 0.1)
        a, b = (u - x) * np.cos(angle) + (v - y) * np.sin(angle), (v - y) * np.cos(angle) - (u - x) * np.sin(angle)
        inside = (np.maximum(abs(a), abs(b)) < r) if rng.random() < 0.6 else (a * a + b * b < r * r)
        out[inside] = (0.02 if rng.random() < 0.5 else 0.8) * rng.uniform(0.4, 1.0, 3)
    return np.clip(out, 0, 1).reshape(size, fine, size, fine, 3).mean((1, 3))


def to_rgb(linear):
    return np.round(linear_to_srgb(linear) * 255).astype(np.uint8)


def jpeg(rgb, quality, subsampling=0):
    packed = io.BytesIO()
    Image.fromarray(rgb).save(packed, "JPEG", quality=quality, subsampling=subsampling)
    return np.asarray(Image.open(packed))


def everywhere(rgb, planted, seed=3):
    return apply_response(rgb[None], np.ones((1, *rgb.shape[:2]), bool), planted, np.array([seed]))[0]


def mid_noise(got):
    return noise_codes(got.read, got.shot)[100:180].mean()


@pytest.mark.parametrize("seed", [0, 1])
def test_a_clean_image_has_no_noise_no_fringes_no_grid_and_sharp_edges(seed):
    got = measure_response(to_rgb(clean_image(seed)))
    assert mid_noise(got) < 0.1 and got.blur_px == 0 and not got.shift.any() and got.jpeg is None
    assert got.edge_px is not None and got.edge_px < 0.5


@pytest.mark.parametrize("texture", [0.05, 0.15])
def test_texture_is_not_noise(texture):
    rgb = to_rgb(clean_image(4, texture=texture))
    assert rgb.astype(float).std((0, 1)).max() > 10
    assert mid_noise(measure_response(rgb)) < 0.35


@pytest.mark.parametrize("shot,grain", [(0.008, 0.0), (0.02, 0.0), (0.03, 0.3)])
@pytest.mark.parametrize("seed", [0, 2])
def test_planted_noise_is_found(shot, grain, seed):
    """What apply adds, measure finds: the round trip."""
    planted = response(read=0.001, shot=shot, grain=grain)
    got = measure_response(everywhere(to_rgb(clean_image(seed)), planted))
    assert mid_noise(got) == pytest.approx(mid_noise(planted), rel=0.25)
    assert abs(got.grain_px - grain) < 0.15
    assert abs(got.shared - planted.shared) < 0.15


def test_noise_that_a_denoiser_took_is_not_put_back():
    noisy = everywhere(to_rgb(clean_image(0)), response(shot=0.02))
    smooth = np.stack([ndimage.median_filter(noisy[..., c], 5) for c in range(3)], -1)
    assert mid_noise(measure_response(smooth)) < 0.25 * mid_noise(measure_response(noisy))


@pytest.mark.parametrize("sigma", [0.6, 1.0, 1.5])
@pytest.mark.parametrize("noise", [0.0, 0.01])
def test_planted_blur_is_found(sigma, noise):
    linear = ndimage.gaussian_filter(clean_image(1), (sigma, sigma, 0))
    got = measure_response(everywhere(to_rgb(linear), response(shot=noise)))
    own = np.sqrt(1 / 12)  # what area sampling does to an edge
    assert got.edge_px == pytest.approx(np.hypot(sigma, own), abs=0.15)


def test_planted_fringes_are_found_and_their_sign_comes_back():
    planted = response(shift=np.array([[0.3, 0.0, 0.004], [-0.2, 0.25, -0.003]]))
    rgb = to_rgb(ndimage.gaussian_filter(clean_image(5), (0.6, 0.6, 0)))
    got = measure_response(everywhere(rgb, planted))
    corner = np.array([1, 1, SIZE / 2])
    assert np.abs((got.shift - planted.shift) * corner).max() < 0.12


@pytest.mark.parametrize("quality", [60, 80, 92])
@pytest.mark.parametrize("subsampling,name", [(0, "4:4:4"), (2, "4:2:0")])
def test_planted_jpeg_is_found_wherever_its_grid_begins(quality, subsampling, name):
    noisy = everywhere(to_rgb(clean_image(6, texture=0.05)), response(shot=0.015))
    packed = jpeg(noisy, quality, subsampling)[3:, 5:]
    got = find_jpeg_grid(packed)
    assert got is not None and abs(got.quality - quality) <= 4 and got.sampling == name
    side = 8 if subsampling == 0 else 16
    assert ((got.y + 3) % side, (got.x + 5) % side) == (0, 0)
    assert find_jpeg_grid(noisy) is None


def test_scaling_takes_the_grid_away():
    packed = jpeg(to_rgb(clean_image(6, size=320, fine=4)), 70)
    small = np.asarray(Image.fromarray(packed).resize((SIZE, SIZE), Image.Resampling.BOX))
    assert find_jpeg_grid(small) is None


def test_nothing_changes_where_nothing_was_drawn_and_the_seed_decides_the_rest():
    linear = ndimage.gaussian_filter(clean_image(1), (1.3, 1.3, 0))
    plate = jpeg(everywhere(to_rgb(linear), response(shot=0.02)), 75)
    found = replace(measure_response(plate), shot=np.full(3, 0.02))  # the compression took the photo's noise
    assert found.blur_px > 0 and found.jpeg is not None
    frames = np.repeat(plate[None], 3, 0)
    drawn = np.zeros((3, SIZE, SIZE), bool)
    drawn[:, 60:150, 70:123] = True
    frames[drawn] = [200, 160, 90]
    got = apply_response(frames, drawn, found, np.array([7, 8, 7]))
    away = ~ndimage.binary_dilation(drawn[0], np.ones((3, 3)))
    assert (got[:, away] == frames[:, away]).all()
    assert (got[0] == got[2]).all() and (got[0] != got[1]).any()
    assert got[0, 80:130, 90:110].std() > 0.3
    untouched = apply_response(frames, drawn, response(), np.array([7, 8, 7]))
    assert (untouched == frames).all()


def test_a_pasted_patch_measures_like_the_photo_around_it():
    """Half of a clean image gets the response that was measured on the other, noisy, blurred, compressed half."""
    rng_photo = everywhere(to_rgb(ndimage.gaussian_filter(clean_image(8), (1.1, 1.1, 0))), response(shot=0.025))
    found = measure_response(rng_photo)
    again = measure_response(everywhere(to_rgb(clean_image(9)), found))
    assert mid_noise(again) == pytest.approx(mid_noise(found), rel=0.3)
    assert again.edge_px is not None and found.edge_px is not None
    # ``apply`` expects the composite's soft edges; these were sharper.
    assert again.edge_px == pytest.approx(np.hypot(found.blur_px, 0.4), abs=0.2)


def test_recompressed_pixels_lie_on_the_photos_grid():
    grid = JpegGrid(70, "4:2:0", 3, 6)
    frame = everywhere(to_rgb(clean_image(3)), response(shot=0.02))
    drawn = np.ones((1, SIZE, SIZE), bool)
    got = find_jpeg_grid(apply_response(frame[None], drawn, response(jpeg=grid), np.array([0]))[0])
    assert got is not None and (got.x, got.y, got.sampling) == (3, 6, "4:2:0") and abs(got.quality - 70) <= 4


def test_the_noise_tile_has_unit_variance_and_the_correlation_asked_for():
    tile = noise_tile(0.5, 0.4)
    assert np.abs(tile.std((0, 1)) - 1).max() < 1e-3
    assert np.corrcoef(tile[..., 0].ravel(), tile[..., 2].ravel())[0, 1] == pytest.approx(0.4, abs=0.03)
    beside = (tile[:, 1:] * tile[:, :-1]).mean()
    assert beside == pytest.approx(np.exp(-1 / (4 * 0.5**2)), abs=0.03)


def test_images_without_anything_to_measure():
    for rgb in (
        np.zeros((64, 64, 3), np.uint8),
        np.full((224, 224, 3), 255, np.uint8),
        np.full((20, 20, 3), 90, np.uint8),
    ):
        got = measure_response(rgb)
        assert got.edge_px is None and got.blur_px == 0 and got.jpeg is None and mid_noise(got) == 0
        assert (apply_response(rgb[None], np.ones((1, *rgb.shape[:2]), bool), got, np.array([1]))[0] == rgb).all()
    assert srgb_to_linear(np.array(1.0)) == pytest.approx(1.0)
