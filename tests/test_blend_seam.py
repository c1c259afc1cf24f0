"""Things in photos must score high, hard pastes low, and every part must see the fault it is there for."""

from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from phototwin.blend.seam import seam_score
from phototwin.kernels.srgb import linear_to_srgb

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
SIZE, FINE = 160, 4


def photo_with_thing(seed, noise=0.006):
    """A photo (linear, then sRGB with noise) of shaded blobs on a shaded table; the mask of one; and the plate without it."""
    rng = np.random.default_rng(seed)
    n = SIZE * FINE
    v, u = np.mgrid[0:n, 0:n] / n
    table = (rng.uniform(0.1, 0.3) * (1 + 0.6 * u + 0.3 * v))[..., None] * rng.uniform(0.6, 1.0, 3)
    grain = ndimage.gaussian_filter(rng.standard_normal((n // 4, n)), (0.8, FINE * 3))
    table *= 1 + 0.04 * np.repeat(grain / grain.std(), 4, axis=0)[..., None]
    places = [(0.5, 0.55, 0.2), (0.15, 0.2, 0.1), (0.85, 0.2, 0.09), (0.15, 0.85, 0.1), (0.9, 0.9, 0.08)]
    pictures = []
    for things in (places, places[1:]):
        out = table.copy()
        for x, y, r in things[::-1]:
            angle, dark = np.random.default_rng([seed, round(100 * x)]).uniform(0, np.pi), (round(100 * x) + seed) % 2
            a, b = (u - x) * np.cos(angle) + (v - y) * np.sin(angle), (v - y) * np.cos(angle) - (u - x) * np.sin(angle)
            inside = np.maximum(np.abs(a), np.abs(b) * 1.3) < r
            shade = 0.6 + 0.4 * a / r + 0.2 * b / r
            color = np.array([0.05, 0.06, 0.07]) if dark else np.array([0.7, 0.5, 0.45])
            out[inside] = (shade[..., None] * color)[inside]
        pictures.append(out)
    x, y, r = places[0]
    angle = np.random.default_rng([seed, round(100 * x)]).uniform(0, np.pi)
    a, b = (u - x) * np.cos(angle) + (v - y) * np.sin(angle), (v - y) * np.cos(angle) - (u - x) * np.sin(angle)
    cover = (np.maximum(np.abs(a), np.abs(b) * 1.3) < r).reshape(SIZE, FINE, SIZE, FINE).mean((1, 3))

    def develop(linear):
        small = linear.reshape(SIZE, FINE, SIZE, FINE, 3).mean((1, 3))
        small = ndimage.gaussian_filter(small, (0.5, 0.5, 0))
        small += noise * np.sqrt(np.maximum(small, 0)) * rng.standard_normal(small.shape)
        return np.round(linear_to_srgb(np.clip(small, 0, 1)) * 255).astype(np.uint8)

    return develop(pictures[0]), cover > 0.5, develop(pictures[1])


def pasted(plate, mask, color=(225, 220, 215)):
    out = plate.copy()
    out[mask] = color
    return out


@pytest.mark.parametrize("seed", range(6))
def test_things_score_high_and_hard_pastes_low(seed):
    photo, mask, plate = photo_with_thing(seed)
    real = seam_score(photo, mask, photo)
    assert real.score > 0.7
    for color in ((225, 220, 215), (25, 25, 28)):
        assert seam_score(pasted(plate, mask, color), mask, plate).score < 0.2 < real.score


def test_auc_over_many_pairs():
    real, fake = [], []
    for seed in range(6, 13):
        photo, mask, plate = photo_with_thing(seed)
        real.append(seam_score(photo, mask, photo).score)
        fake += [seam_score(pasted(plate, mask, c), mask, plate).score for c in ((225, 220, 215), (120, 125, 130))]
    above = np.array(real)[:, None] > np.array(fake)
    assert above.mean() > 0.97


def test_an_aliased_edge_lowers_the_edge_alone():
    photo, mask, plate = photo_with_thing(0)
    thing = ndimage.grey_dilation(photo * mask[..., None], (3, 3, 1))  # its colours reach beyond the cut
    cut = np.where(mask[..., None], np.where(ndimage.binary_erosion(mask)[..., None], photo, thing), plate)
    got, real = seam_score(cut, mask, plate), seam_score(photo, mask, photo)
    assert real.edge > 0.9 and got.edge < 0.6 * real.edge
    assert got.detail == pytest.approx(real.detail, abs=0.2) and got.tone > 0.9


def test_a_blurred_thing_is_too_soft():
    _, mask, plate = photo_with_thing(1)
    cover = ndimage.gaussian_filter(mask.astype(float), 2.5)[..., None]
    soft = np.round(cover * np.array([225, 220, 215]) + (1 - cover) * plate).astype(np.uint8)
    got = seam_score(soft, mask, plate)
    assert got.edge_px is not None and got.edge_px > 1.6 and got.edge < 0.5


def test_flat_colour_inside_a_noisy_photo_is_seen():
    photo, mask, _ = photo_with_thing(2, noise=0.015)
    inner = ndimage.binary_erosion(mask, iterations=3)
    flat = photo.copy()
    flat[inner] = photo[inner].mean(0)
    got, real = seam_score(flat, mask, photo), seam_score(photo, mask, photo)
    assert real.detail > 0.9 and got.detail < 0.3 and got.edge == pytest.approx(real.edge, abs=0.1)


def test_a_fringe_of_another_colour_is_a_halo():
    photo, mask, _ = photo_with_thing(3)
    rim = mask & ~ndimage.binary_erosion(mask, iterations=2)
    fringed = photo.copy()
    fringed[rim] = [40, 220, 60]
    assert seam_score(fringed, mask, photo).halo < 0.2 < 0.8 < seam_score(photo, mask, photo).halo


def test_glare_in_a_dark_photo_and_neon_in_a_grey_one():
    photo, mask, _ = photo_with_thing(4)
    dim = (photo * 0.25).astype(np.uint8)
    bright = np.where(mask[..., None], photo, dim)
    bright[mask] = np.clip(bright[mask].astype(int) + 120, 0, 255)
    assert seam_score(bright, mask, dim).tone < 0.5 < seam_score(dim, mask, dim).tone
    grey = np.repeat(photo.mean(2, keepdims=True), 3, 2).astype(np.uint8)
    neon = grey.copy()
    neon[mask] = np.minimum(grey[mask].astype(int) * [0.1, 1.8, 0.1], 255)
    assert seam_score(neon, mask, grey).chroma < 0.6 < seam_score(grey, mask, grey).chroma


def test_what_has_no_border_scores_one_and_odd_masks_do_no_harm():
    photo, mask, plate = photo_with_thing(5)
    assert seam_score(plate, np.zeros_like(mask), plate).score == 1.0
    assert seam_score(photo, np.ones_like(mask), plate).score == 1.0
    for odd in ((slice(0, 1), slice(0, 1)), (slice(0, SIZE), slice(0, 3)), (slice(80, 81), slice(0, SIZE))):
        tiny = np.zeros_like(mask)
        tiny[odd] = True
        assert 0.0 <= seam_score(photo, tiny, plate).score <= 1.0
    black = np.zeros_like(photo)
    assert 0.0 <= seam_score(photo, mask, black).score <= 1.0
    assert seam_score(photo, mask, plate) == seam_score(photo, mask, plate)


@pytest.mark.parametrize("name", ["six_sugar", "six_blue_mug", "six_green_bowl"])
def test_objects_of_real_captures(name):
    if not (SHARED / name).is_dir():
        pytest.skip("the shared captures are not here")
    from phototwin.perceive.perceive import PerceiveConfig, perceive
    from phototwin.perceive.photo import load_photo

    folder = SHARED / name
    maps = perceive(load_photo(folder / "rgb.png", folder / "depth.png", folder / "scene.json"), PerceiveConfig())
    rgb, mask = maps.rgb, maps.masks[np.argmax(maps.masks.sum((1, 2)))]
    assert seam_score(rgb, mask, rgb).score > 0.6
    assert seam_score(pasted(rgb, mask), mask, rgb).score < 0.2
