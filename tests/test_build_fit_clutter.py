"""Things that stand on or behind others: their border there says nothing, and they stand on what is under them."""

import numpy as np
import pytest
from test_build_loads import K_PX, T_WORLD_CAMERA, box, maps_of

from phototwin.build.build import fit_shapes
from phototwin.build.fit import FitConfig
from phototwin.frames import invert, support_depth, transform
from phototwin.kernels.rasterize import rasterize

CONFIG = FitConfig(shapes=("box", "cylinder"))


def deep_maps(truth):
    """Masks with exact depth of shapes on the support."""
    from dataclasses import replace

    maps = maps_of(truth)
    depth = support_depth(K_PX, T_WORLD_CAMERA, 320, 240)
    depth = np.where(np.isfinite(depth), depth, 0)
    for fit, mask in zip(truth, maps.masks, strict=True):
        points_c = transform(invert(T_WORLD_CAMERA) @ fit.T_world_object, fit.points.astype(float))
        depth[mask] = rasterize(points_c, fit.faces, K_PX, 320, 240).depth_m[mask]
    return replace(maps, depth_m=depth.astype(np.float32))


def heights(fit):
    z = transform(fit.T_world_object, fit.points.astype(float))[:, 2]
    return z.min(), z.max()


@pytest.mark.parametrize("yaw", [0.3, 0.7])
def test_a_stack_comes_back_with_its_own_sizes(yaw):
    truth = [box((0.08, 0.06, 0.06), (0.5, 0, 0.03), 0.2), box((0.05, 0.04, 0.07), (0.505, 0.005, 0.095), yaw)]
    lower, upper = fit_shapes(deep_maps(truth), CONFIG).fits
    np.testing.assert_allclose(heights(upper), [0.06, 0.13], atol=0.003)
    np.testing.assert_allclose(heights(lower), [0, 0.06], atol=0.003)
    np.testing.assert_allclose(upper.size_m, [0.05, 0.04, 0.07], rtol=0.08)
    np.testing.assert_allclose(lower.size_m, [0.08, 0.06, 0.06], rtol=0.12)


def test_a_thing_behind_another_keeps_its_height():
    truth = [box((0.05, 0.05, 0.09), (0.55, 0.0, 0.045), 0.4), box((0.04, 0.08, 0.05), (0.45, 0.02, 0.025))]
    behind, before = fit_shapes(deep_maps(truth), CONFIG).fits
    np.testing.assert_allclose(heights(behind), [0, 0.09], atol=0.004)
    np.testing.assert_allclose(before.size_m[2], 0.05, atol=0.003)
    np.testing.assert_allclose(behind.T_world_object[:2, 3], [0.55, 0.0], atol=0.008)
