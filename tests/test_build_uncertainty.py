"""Standard deviations against Monte Carlo: boxes, cans and balls are drawn, disturbed and fitted again by least squares."""

from __future__ import annotations

import numpy as np
import pytest

from phototwin.build import uncertainty
from phototwin.build.fit import FittedShape
from phototwin.build.scale import Anchor, find_scale, lengths_of
from phototwin.build.shapes import box, revolution, sphere
from phototwin.build.uncertainty import (
    BASE_SIGMA_M,
    DIRECTIONS,
    EDGE_SIGMA_PX,
    fit_doubts,
    object_sigmas,
    propagate,
    side_sigmas,
)
from phototwin.frames import invert, make_T, pixel_rays, project, rotation_z, transform
from phototwin.kernels.rasterize import rasterize
from phototwin.perceive.vanishing import camera_rotation
from phototwin.scene import CameraSigma, Maps

W, H = 320, 240
K_PX = np.array([[300.0, 0, 160], [0, 300, 120], [0, 0, 1]])
T_WORLD_CAMERA = make_T(camera_rotation(np.radians(40)), np.array([0, 0, 0.4]))
SIGMA = CameraSigma(focal=0.02, pitch_rad=np.radians(1.0), roll_rad=np.radians(1.0), scale=0.01, depth_m=0.002)
ANGLES = 2 * np.pi * np.arange(DIRECTIONS) / DIRECTIONS
WAYS = np.stack([np.cos(ANGLES), np.sin(ANGLES)], -1)


def make_fit(shape="box", size=(0.1, 0.06, 0.08), place=(0.45, 0.05), yaw=0.5):
    size = np.array(size)
    solid = {
        "box": lambda: box(size),
        "cylinder": lambda: revolution(np.full(2, size[0] / 2), np.array([0.0, size[2]])),
        "sphere": lambda: sphere(size[0] / 2),
    }[shape]()
    points = solid.points - (solid.points.max(0) + solid.points.min(0)) / 2
    T = make_T(rotation_z(yaw), np.array([*place, size[2] / 2]))
    return FittedShape(
        shape, False, T, points.astype(np.float32), solid.faces, (), np.ptp(points, axis=0), 1.0, None, ""
    )


def see(fit, T=T_WORLD_CAMERA, K=K_PX):
    """Mask, and depth of the thing alone."""
    points_c = transform(invert(T), transform(fit.T_world_object, fit.points.astype(float)))
    raster = rasterize(points_c, fit.faces, K, W, H)
    mask = raster.face >= 0
    return mask, np.where(mask, raster.depth_m, 0).astype(np.float32)


def make_maps(fits, sigma=SIGMA, metric=True, with_depth=False):
    seen = [see(fit) for fit in fits]
    depth = np.max([d for _, d in seen], axis=0) if with_depth else None
    masks = np.array([m for m, _ in seen])
    rgb = np.zeros((H, W, 3), np.uint8)
    return Maps(rgb, K_PX, T_WORLD_CAMERA, depth, np.asarray(~masks.any(0)), masks, (None,) * len(fits), metric, sigma)


def refit(fit, extents, T, K):
    """The free sides and place (5,) of the shape whose outline reaches furthest to ``extents``, by plain Gauss-Newton."""
    tied = {
        "box": np.eye(6),
        "cylinder": [[1, 1, 0, 0, 0, 0], [0, 0, 1, 0, 0, 0], [0, 0, 0, 0, 1, 0], [0, 0, 0, 0, 0, 1]],
    }
    tie = np.array(tied[fit.shape], float)
    up = np.array([0, 0, fit.size_m[2] / 2])

    def reach(p):
        change = p @ tie
        grown = (fit.points + up) * np.exp(change[:3])
        place = [*(fit.T_world_object[:2, 3] + change[4:6]), 0.0]
        turned = grown @ (rotation_z(change[3]) @ fit.T_world_object[:3, :3]).T + place
        return (project(K, transform(invert(T), turned)) @ WAYS.T).max(0)

    p = np.zeros(len(tie))
    for _ in range(8):
        J = np.stack([(reach(p + d) - reach(p - d)) / 2e-4 for d in 1e-4 * np.eye(len(p))], -1)
        p = p + np.linalg.lstsq(J, extents - reach(p), rcond=1e-3)[0]
    return (p @ tie)[[0, 1, 2, 4, 5]]


@pytest.mark.parametrize("shape", ["box", "cylinder"])
@pytest.mark.parametrize("cause", ["mask", "camera"])
def test_without_depth_the_deviations_are_those_of_disturbed_refits(
    shape: str, cause: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(uncertainty, "CORNER_SIGMA_PX", 1e6)  # the outline alone is fitted here
    fit = make_fit(shape, (0.08, 0.08, 0.1) if shape == "cylinder" else (0.1, 0.06, 0.08))
    mask, _ = see(fit)
    pixels = project(K_PX, transform(invert(T_WORLD_CAMERA), transform(fit.T_world_object, fit.points.astype(float))))
    extents, rng, found = (pixels @ WAYS.T).max(0), np.random.default_rng(0), []
    sigma = SIGMA if cause == "camera" else CameraSigma()
    for _ in range(150):
        view = rng.normal(size=3) * [sigma.pitch_rad, sigma.roll_rad, sigma.focal]
        T = make_T(camera_rotation(np.radians(40) + view[0], view[1]), T_WORLD_CAMERA[:3, 3])
        K = K_PX * [[1 + view[2]], [1 + view[2]], [1]] + [[0, 0, -view[2] * 160], [0, 0, -view[2] * 120], [0, 0, 0]]
        noise = rng.normal(0, EDGE_SIGMA_PX, DIRECTIONS) if cause == "mask" else 0
        found.append(refit(fit, extents + noise, T, K))
    doubt = propagate(fit, mask, K_PX, T_WORLD_CAMERA, None, sigma)
    predicted = doubt.sigma if cause == "mask" else np.sqrt((doubt.gain**2).sum(1))
    ratio = predicted / np.std(found, axis=0)
    assert (ratio > 1 / 1.5).all() and (ratio < 1.5).all(), ratio


def test_with_depth_the_deviations_are_those_of_the_sensor():
    ball = make_fit("sphere", (0.08, 0.08, 0.08))
    mask, depth = see(ball)
    sigma = CameraSigma(depth_m=0.002)
    v, u = np.nonzero(mask)
    rays = pixel_rays(K_PX, W, H)[v, u]
    rng, found = np.random.default_rng(0), []
    for _ in range(80):  # a bias of the sensor, the same all over the thing
        biased = depth[v, u] + 0.002 * (0.4 + 0.6 * depth[v, u].mean() ** 2) * rng.normal()
        points = transform(T_WORLD_CAMERA, rays * biased[:, None])
        A = np.column_stack([2 * points, np.ones(len(points))])
        x = np.linalg.lstsq(A, (points**2).sum(1), rcond=None)[0]
        found.append(x[:2] - ball.T_world_object[:2, 3])
    doubt = propagate(ball, mask, K_PX, T_WORLD_CAMERA, depth, sigma)
    assert doubt.sigma[3] == pytest.approx(np.std(found, axis=0)[0], rel=0.5)
    assert doubt.sigma[0] < 0.03 and doubt.sigma[4] < doubt.sigma[3]


def test_what_is_seen_less_is_less_sure():
    fits = [make_fit(yaw=0.0), make_fit("cylinder", (0.06, 0.06, 0.1)), make_fit("sphere", (0.07, 0.07, 0.07))]
    for fit in fits:
        mask, depth = see(fit)
        without = propagate(fit, mask, K_PX, T_WORLD_CAMERA, None, SIGMA)
        with_depth = propagate(fit, mask, K_PX, T_WORLD_CAMERA, depth, CameraSigma(0.003, 0.002, 0.002, 0.003, 0.002))
        assert (with_depth.sigma[:3] < without.sigma[:3]).all()
        assert np.isfinite(without.covariance).all() and (np.linalg.eigvalsh(without.covariance) > -1e-9).all()
    mask, _ = see(fits[0])  # a face looks at the camera: its footprint's depth is told by the top alone
    doubt = propagate(fits[0], mask, K_PX, T_WORLD_CAMERA, None, CameraSigma())
    assert doubt.sigma[0] > 1.5 * doubt.sigma[1]
    half = mask & (np.arange(W) < np.nonzero(mask)[1].mean())  # the fit does not meet the mask
    assert propagate(fits[0], half, K_PX, T_WORLD_CAMERA, None, CameraSigma()).sigma[1] > 3 * doubt.sigma[1]


def test_an_anchored_side_is_as_sure_as_the_anchor_and_the_rest_shares_its_doubt():
    fits = [make_fit(place=(0.45, 0.1)), make_fit("cylinder", (0.06, 0.06, 0.12), place=(0.5, -0.1))]
    wild = CameraSigma(0.1, np.radians(8), np.radians(2), 0.5, 0)
    maps = make_maps(fits, wild, metric=False)
    doubts = fit_doubts(maps, fits)
    loose = side_sigmas(fits, doubts)
    scale = find_scale(
        (Anchor("can", 0.12, "height", tolerance_m=0.0006),), lengths_of(maps, fits, ("box", "can"), doubts)
    )
    sizes, places = object_sigmas(fits, doubts, T_WORLD_CAMERA[:3, 3], scale)
    assert scale.factor == pytest.approx(1.0, rel=1e-6) and scale.sigma > loose[1, 2] / 0.12
    assert sizes[1, 2] == pytest.approx(0.0006, rel=0.05)  # not its own doubt on top of the scale's
    assert (sizes > 0).all() and (places > 0).all() and sizes[0, 2] < 2 * loose[0, 2]
    height = find_scale(
        (Anchor("camera height", 0.4, tolerance_m=0.004),), lengths_of(maps, fits, ("box", "can"), doubts)
    )
    by_camera, _ = object_sigmas(fits, doubts, T_WORLD_CAMERA[:3, 3], height)
    assert by_camera == pytest.approx(np.hypot(loose, 0.01 * np.array([fit.size_m for fit in fits])), rel=1e-6)


def test_the_scale_alone_is_a_share_of_sides_and_of_the_way_from_the_camera():
    fit = make_fit()
    exact = CameraSigma(scale=0.05)
    maps = make_maps([fit], exact)
    doubts = fit_doubts(maps, [fit])
    scale = find_scale((), lengths_of(maps, [fit], ("box",), doubts))
    sizes, places = object_sigmas([fit], doubts, T_WORLD_CAMERA[:3, 3], scale)
    assert scale.sigma == 0.05
    assert sizes[0] == pytest.approx(np.hypot(0.05 * fit.size_m, side_sigmas([fit], doubts)[0]))
    assert places[0, 0] == pytest.approx(np.hypot(0.05 * 0.45, doubts[0].sigma[3])) and places[0, 0] > BASE_SIGMA_M
