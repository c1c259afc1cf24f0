"""Depth backends: their real loading, pre- and post-processing on tiny random weights, and closed forms for what follows."""

from types import SimpleNamespace

import numpy as np
import pytest
import tiny_models
import torch

from phototwin.backends.contract import check_depth
from phototwin.backends.depth import (
    HYPERSIM_FOCAL,
    SIGMA_FIXED_CAMERA,
    DepthAnything,
    DepthPro,
    ZoeDepth,
    field_of_view_deg,
    fixed_camera_sigma,
)
from phototwin.errors import InputError, PerceptionError

RGB = tiny_models.photo()
HEIGHT, WIDTH = RGB.shape[:2]
K = np.array([[200.0, 0, 80], [0, 200, 48], [0, 0, 1]])


@pytest.fixture(scope="module")
def depth_pro(tmp_path_factory):
    return DepthPro(tiny_models.depth_pro(tmp_path_factory.mktemp("depth_pro")))


def with_output(backend, output):
    """The backend with its real processor, and a network that always gives ``output``."""
    processor, _ = backend._loaded

    class Fixed:
        device = torch.device("cpu")

        def __call__(self, *args, **kwargs):
            self.pixels = kwargs.get("pixel_values", args[0] if args else None)
            return output(self.pixels)

    other = type(backend)(backend.weights)
    other.__dict__["_loaded"] = (processor, Fixed())
    return other


def test_depth_pro_tells_the_focal_length_of_its_field_of_view(depth_pro):
    def network(pixels):
        return SimpleNamespace(predicted_depth=torch.full((1, 128, 128), 0.8), field_of_view=torch.tensor([50.0]))

    estimate = check_depth(with_output(depth_pro, network)(RGB, None), RGB, "depth_pro")
    focal = WIDTH / (2 * np.tan(np.radians(50) / 2))
    np.testing.assert_allclose(estimate.K_px, [[focal, 0, WIDTH / 2], [0, focal, HEIGHT / 2], [0, 0, 1]], rtol=1e-6)
    np.testing.assert_allclose(estimate.depth_m, focal / (WIDTH * 0.8), rtol=1e-5)  # arXiv 2410.02073, eq. 1


def test_depth_pro_uses_the_camera_that_is_given(depth_pro):
    free, held = depth_pro(RGB, None), depth_pro(RGB, K)
    assert held.K_px is None
    assert free.K_px is not None and 55 < field_of_view_deg(free.K_px[0, 0], WIDTH) < 65
    known = (free.depth_m > 0) & (held.depth_m > 0)
    assert known.mean() > 0.8
    np.testing.assert_allclose(held.depth_m[known] / free.depth_m[known], 200 / free.K_px[0, 0], rtol=1e-4)
    assert field_of_view_deg(200, WIDTH) == pytest.approx(43.6028, abs=1e-4)


def test_depth_pro_without_field_of_view_asks_for_the_camera(tmp_path):
    backend = DepthPro(tiny_models.depth_pro(tmp_path, has_fov=False))
    check_depth(backend(RGB, K), RGB, "depth_pro")
    with pytest.raises(PerceptionError, match="--camera"):
        backend(RGB, None)


@pytest.mark.parametrize(
    ("backend", "make"),
    [(DepthPro, tiny_models.depth_pro), (DepthAnything, tiny_models.depth_anything), (ZoeDepth, tiny_models.zoedepth)],
)
def test_depth_lands_on_the_pixels_it_belongs_to(tmp_path, backend, make):
    """A network that answers with the photo's own red channel: the result must be that ramp at the photo's own size."""
    seen = backend(make(tmp_path))

    def network(pixels):
        processor = seen._loaded[0]
        mean, std = processor.image_mean[0], processor.image_std[0]
        red = pixels[:, 0] * std + mean + 0.5
        if backend is DepthPro:  # its field of view makes the factor between width and focal length 1
            return SimpleNamespace(predicted_depth=1 / red, field_of_view=torch.tensor([field_of_view_deg(1, 1)]))
        return SimpleNamespace(predicted_depth=red)

    depth_m = with_output(seen, network)(RGB, None).depth_m
    expected = RGB[..., 0] / 255 + 0.5
    inside = np.ones(RGB.shape[:2], bool)
    inside[20:60, 30:90] = False  # the red patch, blurred by the small network size
    assert depth_m.shape == RGB.shape[:2]
    np.testing.assert_allclose(depth_m[inside], expected[inside], atol=0.02)
    assert depth_m[40, 60] > expected[40, 20] + 0.2


def test_relative_depth_weights_are_refused(tmp_path):
    with pytest.raises(InputError, match="relative depth"):
        DepthAnything(tiny_models.depth_anything(tmp_path, "relative"))(RGB, None)


def test_weights_of_another_model_are_refused(tmp_path):
    folder = tiny_models.zoedepth(tmp_path)
    with pytest.raises(InputError):
        DepthPro(folder)(RGB, None)


def test_a_camera_far_from_the_training_camera_is_trusted_less():
    same = np.diag([HYPERSIM_FOCAL * WIDTH, HYPERSIM_FOCAL * WIDTH, 1])
    assert fixed_camera_sigma(None, WIDTH, HYPERSIM_FOCAL) == SIGMA_FIXED_CAMERA
    assert fixed_camera_sigma(same, WIDTH, HYPERSIM_FOCAL) == pytest.approx(SIGMA_FIXED_CAMERA)
    twice = fixed_camera_sigma(same * 2, WIDTH, HYPERSIM_FOCAL)
    assert twice == pytest.approx(np.hypot(SIGMA_FIXED_CAMERA, np.log(2)))
    assert twice == pytest.approx(fixed_camera_sigma(same / 2, WIDTH, HYPERSIM_FOCAL))
