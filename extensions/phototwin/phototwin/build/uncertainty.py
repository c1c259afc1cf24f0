"""How sure sizes and places are: the fits' own noise, what they inherit from the camera, and the common factor, carried to first order.

A shape is fitted with the camera held fixed, so an error of the camera does not average out in the fit but passes through it: the
"consider covariance" of estimation theory. With H the fit's normal matrix over its own parameters p and the camera's c,

    error(p) = noise of covariance H_pp^-1  -  H_pp^-1 H_pc error(c).

Source: Tapley, Schutz and Born (2004), "Statistical Orbit Determination", 6.2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from phototwin.frames import invert, make_T, project, rotation_z, transform
from phototwin.scene import CameraSigma, Maps

if TYPE_CHECKING:
    from collections.abc import Sequence

    from phototwin.build.fit import FittedShape
    from phototwin.build.scale import Scale

EDGE_SIGMA_PX = 0.7
"""Of a mask's border at least, more where the fit misses the mask (Birge's ratio: errors are taken as large as residuals show);
shadows and blur shift long stretches of it together, so ``DIRECTIONS`` stretches count, not pixels."""
DIRECTIONS = 16
CORNER_SIGMA_PX = 2.0  # of a box's upper corners, which inner edges of the photo show
SURFACE_SAMPLES = 100
NOISE_PATCH_PX = 40.0  # pixels that share a sensor's noise
SURFACE_SIGMA_M = 0.001  # real surfaces are no ideal shapes
BASE_SIGMA_M = 0.0008  # height of the support under a thing: the sensor's bow
LOG_SIDE_SIGMA = 0.5  # of a side that nothing shows
FLAT_SHARE, HIDDEN_FOOT_SIGMA = 0.08, 1.0  # a flat disc may be a plate whose rim hides its foot: much taller
MIN_READINGS = 60
BORDER_PX = 2.0
STEP = 1e-4
QUANTITIES = 5
"""Per object: the logarithms of its three sides, and its place x, y [m]."""


@dataclass(frozen=True, eq=False)
class Doubt:
    """Errors of one fitted shape before scaling, as (log side x, log side y, log side z, x [m], y [m]).

    Attributes:
        covariance: Of its own errors, (5, 5).
        gain: What one standard deviation of the camera's pitch, roll and focal length does to them, (5, 3).
    """

    covariance: np.ndarray
    gain: np.ndarray

    @property
    def sigma(self) -> np.ndarray:
        """Standard deviations (5,) of all causes but the common factor."""
        return np.sqrt(np.diag(self.covariance) + (self.gain**2).sum(1))


def fit_doubts(maps: Maps, fits: Sequence[FittedShape]) -> list[Doubt]:
    """The doubt of every fitted shape."""
    return [
        propagate(fit, mask, maps.K_px, maps.T_world_camera, maps.depth_m, maps.sigma)
        for fit, mask in zip(fits, maps.masks, strict=True)
    ]


def side_sigmas(fits: Sequence[FittedShape], doubts: Sequence[Doubt]) -> np.ndarray:
    """Standard deviations (N, 3) of the sides without that of the common factor [m]."""
    return np.array([fit.size_m * doubt.sigma[:3] for fit, doubt in zip(fits, doubts, strict=True)]).reshape(-1, 3)


def object_sigmas(
    fits: Sequence[FittedShape], doubts: Sequence[Doubt], camera_w: np.ndarray, scale: Scale
) -> tuple[np.ndarray, np.ndarray]:
    """Standard deviations of sides and positions (N, 3) after scaling [m]; what an anchor fixed is as sure as the anchor.

    Args:
        fits: Scaled shapes.
        doubts: Theirs, from before scaling.
        camera_w: The camera's position after scaling (3,) [m].
        scale: Which errors the factor inherited, and its own.
    """
    camera_gain = sum((row @ doubt.gain for row, doubt in zip(scale.rows, doubts, strict=True)), np.zeros(3))
    inherited = sum(row @ doubt.covariance @ row for row, doubt in zip(scale.rows, doubts, strict=True))
    sizes, places = [], []
    for fit, doubt, row in zip(fits, doubts, scale.rows, strict=True):
        place = fit.T_world_object[:2, 3] - camera_w[:2]
        reach = np.append(
            np.ones(3), place / scale.factor
        )  # how an error of the logarithm of the factor shifts each quantity
        gain = doubt.gain + np.outer(reach, camera_gain)
        shared = np.outer(doubt.covariance @ row, reach)
        own = doubt.covariance + shared + shared.T + np.outer(reach, reach) * (inherited + scale.own_sigma**2)
        sigma = np.sqrt(np.maximum(np.diag(own) + (gain**2).sum(1), 0))
        sizes.append(fit.size_m * sigma[:3])
        places.append([*(scale.factor * sigma[3:]), fit.size_m[2] * sigma[2] / 2])
    return np.array(sizes).reshape(-1, 3), np.array(places).reshape(-1, 3)


def propagate(
    fit: FittedShape,
    mask: np.ndarray,
    K_px: np.ndarray,
    T_world_camera: np.ndarray,
    depth_m: np.ndarray | None,
    sigma: CameraSigma,
) -> Doubt:
    """The doubt of one shape that stands on the support: outline, upper corners of a box, and the visible surface where depth saw it.

    Args:
        fit: The shape.
        mask: (H, W) bool.
        K_px: (3, 3) [px].
        T_world_camera: (4, 4) [m].
        depth_m: (H, W), 0 unknown [m], or None.
        sigma: How sure the camera is; ``scale`` is left to ``object_sigmas``.
    """
    freedoms = _freedoms(fit.shape)
    camera = np.diag([sigma.pitch_rad, sigma.roll_rad, sigma.focal])
    extents = _extents(fit, mask, K_px, T_world_camera)
    blocks = [_outline(fit, extents, K_px, T_world_camera, freedoms)]
    readings = 0 if depth_m is None else int((mask & (depth_m > 0)).sum())
    if readings >= MIN_READINGS:
        blocks.append(_surface(fit, K_px, T_world_camera, freedoms, sigma.depth_m, readings))
    count = len(freedoms)
    normal = np.diag([1 / LOG_SIDE_SIGMA**2 if row[:3].any() else 1e-6 for row in freedoms])
    mixed = np.zeros((count, 5))
    for J, weight in blocks:
        normal += (J[:, :count] * weight[:, None]).T @ J[:, :count]
        mixed += (J[:, :count] * weight[:, None]).T @ J[:, count:]
    inverse = np.linalg.inv(normal)
    passed = -inverse @ mixed
    bias_m = sigma.depth_m * _spread(float(transform(invert(T_world_camera), fit.T_world_object[:3, 3])[2]))
    local = passed[:, 3:] * ([bias_m, BASE_SIGMA_M] if readings >= MIN_READINGS else [0.0, 0.0])
    to_quantities = freedoms[:, [0, 1, 2, 4, 5]].T
    covariance = to_quantities @ (extents.excess * inverse + local @ local.T) @ to_quantities.T
    if readings < MIN_READINGS and fit.shape == "cylinder" and fit.size_m[2] < FLAT_SHARE * fit.size_m[0]:
        covariance[2, 2] += HIDDEN_FOOT_SIGMA**2
    return Doubt(covariance, to_quantities @ passed[:, :3] @ camera)


def _freedoms(shape: str) -> np.ndarray:
    """What a fit may change, (P, 6): rows of (log x, log y, log z, yaw, place x, place y)."""
    place = np.eye(6)[4:]
    if shape == "sphere":
        return np.vstack([[1, 1, 1, 0, 0, 0], place])
    if shape in ("cylinder", "revolution"):
        return np.vstack([[1, 1, 0, 0, 0, 0], [0, 0, 1, 0, 0, 0], place])
    return np.eye(6)


def _spread(depth_m: float) -> float:
    """Noise of a depth sensor relative to that at 1 m; see ``perceive.plane.depth_sigma``."""
    return 0.4 + 0.6 * depth_m**2


def _moved(fit: FittedShape, points_o: np.ndarray, change: np.ndarray) -> np.ndarray:
    """World points of a shape whose sides, yaw and place change by (6,), its foot staying at its height."""
    T = fit.T_world_object
    up = np.array([0, 0, fit.size_m[2] / 2])
    grown = (points_o + up) * np.exp(change[:3]) - up
    return transform(make_T(rotation_z(change[3]) @ T[:3, :3], T[:3, 3] + [change[4], change[5], 0]), grown)


def _turned(T_world_camera: np.ndarray, pitch_rad: float, roll_rad: float) -> np.ndarray:
    c, s = np.cos(pitch_rad), np.sin(pitch_rad)
    turn = np.array([[1, 0, 0], [0, c, -s], [0, s, c]]) @ rotation_z(roll_rad)
    return make_T(T_world_camera[:3, :3] @ turn, T_world_camera[:3, 3])


@dataclass(frozen=True, eq=False)
class _Extents:
    """Where a shape's outline touches the supporting lines of ``DIRECTIONS`` directions that the image shows.

    Attributes:
        touching: Indices of the vertices (D,).
        ways: Directions (D, 2) in the image.
        excess: Variance of the mask's border over ``EDGE_SIGMA_PX`` squared, as the fit's residuals show it: at least 1.
    """

    touching: np.ndarray
    ways: np.ndarray
    excess: float


def _extents(fit: FittedShape, mask: np.ndarray, K_px: np.ndarray, T_world_camera: np.ndarray) -> _Extents:
    pixels = project(K_px, transform(invert(T_world_camera), transform(fit.T_world_object, fit.points.astype(float))))
    angle = 2 * np.pi * np.arange(DIRECTIONS) / DIRECTIONS
    ways = np.stack([np.cos(angle), np.sin(angle)], -1)
    touching = (pixels @ ways.T).argmax(0)
    height, width = mask.shape
    seen = (pixels[touching] > BORDER_PX).all(1) & (pixels[touching] < [width - BORDER_PX, height - BORDER_PX]).all(1)
    v, u = np.nonzero(mask)
    missed = (np.stack([u + 0.5, v + 0.5], -1) @ ways.T).max(0) + 0.5 - (pixels @ ways.T).max(0)
    excess = 1 + float(np.mean(missed[seen] ** 2)) / EDGE_SIGMA_PX**2 if seen.any() else 1.0
    return _Extents(touching[seen], ways[seen], excess)


def _outline(
    fit: FittedShape, extents: _Extents, K_px: np.ndarray, T_world_camera: np.ndarray, freedoms: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Derivatives (M, P + 5) of the outline's extents [px] by freedoms, pitch, roll, log focal, bias and base; weights (M,).

    The point that touches a supporting line moves along that line to first order when the shape changes, so the derivative
    of the extent is that of the touching point.
    """
    points, ways = fit.points[extents.touching].astype(float), extents.ways
    weight = np.full(len(points), EDGE_SIGMA_PX**-2)
    if fit.shape == "box":
        corners = np.array([[x, y, 1] for x in (-1, 1) for y in (-1, 1)]) * fit.size_m / 2
        points = np.concatenate([points, corners, corners])
        ways = np.concatenate([ways, np.tile([1.0, 0], (4, 1)), np.tile([0, 1.0], (4, 1))])
        weight = np.append(weight, np.full(8, CORNER_SIGMA_PX**-2))

    def reach(change: np.ndarray, view: np.ndarray) -> np.ndarray:
        K = K_px * np.array([[np.exp(view[2])], [np.exp(view[2])], [1.0]])
        K[:2, 2] = K_px[:2, 2]
        T_camera_world = invert(_turned(T_world_camera, *view[:2]))
        return (project(K, transform(T_camera_world, _moved(fit, points, change))) * ways).sum(1)

    columns = [(reach(STEP * row, np.zeros(3)) - reach(-STEP * row, np.zeros(3))) / (2 * STEP) for row in freedoms]
    columns += [(reach(np.zeros(6), STEP * d) - reach(np.zeros(6), -STEP * d)) / (2 * STEP) for d in np.eye(3)]
    return np.stack([*columns, *np.zeros((2, len(points)))], -1), weight


def _surface(
    fit: FittedShape,
    K_px: np.ndarray,
    T_world_camera: np.ndarray,
    freedoms: np.ndarray,
    depth_sigma_m: float,
    readings: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Derivatives (M, P + 5) of the gap between surface and readings along the normal [m], and weights (M,)."""
    triangles = fit.points.astype(float)[fit.faces]
    across = np.cross(triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0])
    normals_w = across @ fit.T_world_object[:3, :3].T
    centers_w = transform(fit.T_world_object, triangles.mean(1))
    rays_w = centers_w - T_world_camera[:3, 3]
    distance = np.linalg.norm(rays_w, axis=1)
    shown = np.maximum(-(normals_w * rays_w).sum(1) / distance**3, 0)  # solid angle
    at = (np.arange(SURFACE_SAMPLES) + 0.5) / SURFACE_SAMPLES * shown.sum()
    chosen = np.minimum(np.searchsorted(np.cumsum(shown), at), len(shown) - 1)
    points, rays_w = triangles.mean(1)[chosen], rays_w[chosen]
    normals_w = normals_w[chosen] / np.maximum(np.linalg.norm(normals_w[chosen], axis=1, keepdims=True), 1e-15)
    points_c = transform(invert(T_world_camera), centers_w[chosen])

    def surface(change: np.ndarray) -> np.ndarray:
        return (_moved(fit, points, change) * normals_w).sum(1)

    def measured(view: np.ndarray) -> np.ndarray:
        seen_c = points_c * [np.exp(-view[2]), np.exp(-view[2]), 1.0]
        return (transform(_turned(T_world_camera, *view[:2]), seen_c) * normals_w).sum(1)

    columns = [(surface(STEP * row) - surface(-STEP * row)) / (2 * STEP) for row in freedoms]
    columns += [-(measured(STEP * d) - measured(-STEP * d)) / (2 * STEP) for d in np.eye(3)]
    slope = (normals_w * rays_w).sum(1) / points_c[:, 2]  # of the normal's way per metre of depth
    noise_m = np.hypot(SURFACE_SIGMA_M, depth_sigma_m * _spread(float(points_c[:, 2].mean())) * slope)
    weight = min(readings / NOISE_PATCH_PX, SURFACE_SAMPLES) / SURFACE_SAMPLES / noise_m**2
    return np.stack([*columns, -slope, -normals_w[:, 2]], -1), weight
