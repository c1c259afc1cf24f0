"""Cropping keeps pixels and geometry together; exposure follows the photo."""

import numpy as np
import pytest

from phototwin.blend.crop import crop_camera, resample_area, resample_nearest
from phototwin.errors import InputError
from phototwin.frames import project
from phototwin.scene import Camera


def make_camera(width=640, height=480):
    K = np.array([[600.0, 0, 310.3], [0, 610.0, 244.9], [0, 0, 1]])
    return Camera(K, width, height, np.eye(4))


def blob(width, height, center, sigma):
    """A Gaussian spot; pixel centres at +0.5."""
    u, v = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    return np.exp(-((u - center[0]) ** 2 + (v - center[1]) ** 2) / (2 * sigma**2))


@pytest.mark.parametrize("resolution", [(224, 224), (640, 480), (320, 180), (96, 200), (1000, 900), (333, 77)])
def test_projected_point_lands_on_its_own_image_content(resolution):
    camera = make_camera()
    point_c = np.array([0.05, -0.03, 0.8])
    spot = project(camera.K_px, point_c)
    image = blob(640, 480, spot, 9.0).astype(np.float32)
    crop = crop_camera(camera, resolution, spot[None])
    out = resample_area(image, crop.box_px, resolution)
    assert out.shape == resolution[::-1] and crop.note is None
    u, v = np.meshgrid(np.arange(resolution[0]) + 0.5, np.arange(resolution[1]) + 0.5)
    centroid = np.array([(out * u).sum(), (out * v).sum()]) / out.sum()
    np.testing.assert_allclose(centroid, project(crop.camera.K_px, point_c), atol=2e-3)
    hard = resample_nearest(image, crop.box_px, resolution)
    peak = np.unravel_index(hard.argmax(), hard.shape)
    scale = (crop.box_px[2] - crop.box_px[0]) / resolution[0]
    assert np.abs(np.array([peak[1], peak[0]]) + 0.5 - centroid).max() <= 0.5 + 1 / scale  # a source pixel either way


def test_crop_is_the_largest_of_its_shape_and_inside_the_photo():
    rng = np.random.default_rng(0)
    for _ in range(50):
        size = tuple(rng.integers(10, 900, 2))
        crop = crop_camera(make_camera(), size, rng.uniform(0, 640, (5, 2)))
        x0, y0, x1, y1 = crop.box_px
        assert x0 >= -1e-9 and y0 >= -1e-9 and x1 <= 640 + 1e-9 and y1 <= 480 + 1e-9
        assert np.isclose((x1 - x0) / (y1 - y0), size[0] / size[1])
        assert np.isclose(x1 - x0, 640) or np.isclose(y1 - y0, 480)


def test_focus_points_pull_the_crop_and_stay_inside():
    points = np.array([[560.0, 100], [635, 400]])
    crop = crop_camera(make_camera(), (224, 224), points)
    assert crop.note is None and np.allclose(crop.box_px, [160, 0, 640, 480])
    crop = crop_camera(make_camera(), (224, 224), np.array([[300.0, 10], [340, 20]]))
    assert np.allclose(crop.box_px, [80, 0, 560, 480])


def test_what_does_not_fit_is_said_and_the_majority_kept():
    points = np.array([[5.0, 240], [500, 240], [600, 240], [630, 240], [np.nan, 3], [-50, 10]])
    crop = crop_camera(make_camera(), (224, 224), points)
    assert crop.note is not None and crop.note.startswith("1 of 4")
    assert crop.box_px[0] <= 500 and crop.box_px[2] >= 630


def test_no_focus_is_the_middle_and_full_size_is_the_photo_itself():
    crop = crop_camera(make_camera(), (480, 480), np.zeros((0, 2)))
    assert np.allclose(crop.box_px, [80, 0, 560, 480])
    image = np.random.default_rng(0).integers(0, 256, (480, 640, 3), dtype=np.uint8)
    crop = crop_camera(make_camera(), (640, 480), np.zeros((0, 2)))
    assert (resample_area(image, crop.box_px, (640, 480)) == image).all()
    assert (resample_nearest(image, crop.box_px, (640, 480)) == image).all()
    assert np.array_equal(crop.camera.K_px, make_camera().K_px)
    with pytest.raises(InputError, match="0 x 4"):
        crop_camera(make_camera(), (0, 4), np.zeros((0, 2)))


def test_area_keeps_the_mean():
    image = np.random.default_rng(1).random((90, 120)).astype(np.float32)
    out = resample_area(image, np.array([0.0, 0, 120, 90]), (37, 28))
    assert np.isclose(out.mean(), image.mean(), atol=1e-5)
