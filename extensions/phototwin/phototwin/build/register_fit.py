"""Pose and size of a mesh by one least-squares fit: outline against outline, measured points against the surface that is seen."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from phototwin.build.fit_solids import CONTOUR_SIGMA_PX, POINT_SIGMA_M, some_points
from phototwin.build.fit_view import View
from phototwin.frames import transform
from phototwin.kernels.rasterize import Raster, rasterize

COARSE_PX, FINE_PX = 160, 360  # longer side of the pictures that are drawn
COARSE_STEPS, FINE_STEPS = 14, 10
LEAN_SIGMA_RAD = 0.05  # a mesh's own upright is right to about this
FOOT_SIGMA_M = 0.0008  # the foot stands on the support
OUTLINE_POINTS = 160
REACH = (0.25, 0.05)  # how far a partner may be, as a share of the size: first step, last step
ALONG = 0.4  # least cosine between the normals of partners
ROBUST = 2.0  # deviations in sigmas beyond this count linearly
DAMPING = 1e-4
STEP_LIMIT = np.array([0.25, 0.25, 0.25, 0.3, 0.3, 0.3, 0.25])  # rad, shares of the size, logarithm
SMOOTH_PX = 2.0  # of an outline's normal


@dataclass(frozen=True, eq=False)
class Pose:
    """A similarity: world = scale * R @ mesh + t; no mirror image.

    Attributes:
        R: (3, 3).
        t: (3,) [m].
        scale: Metres per unit of the mesh.
    """

    R: np.ndarray
    t: np.ndarray
    scale: float


def posed(pose: Pose, points: np.ndarray) -> np.ndarray:
    """Points (N, 3) of the mesh in the world [m]."""
    return pose.scale * points @ pose.R.T + pose.t


@dataclass(frozen=True, eq=False)
class _Target:
    """What is fitted to, at one size of picture."""

    K_px: np.ndarray
    width: int
    height: int
    fine: float
    outline_px: np.ndarray
    normals_px: np.ndarray
    sigma_px: float
    points_w: np.ndarray
    normals_w: np.ndarray


def refine(view: View, points: np.ndarray, faces: np.ndarray, start: Pose, coarse: bool) -> Pose:
    """The pose near ``start`` at which outline and measured points agree best, foot on the support.

    Gauss-Newton on seven freedoms (turn, shift, logarithm of the scale): the measured outline's distance along its normal
    to the drawn one and back, and the distance of measured points to the visible surface along its normal, both robust.

    Source: Drummond and Cipolla 2002 (outlines); Chen and Medioni 1992 (points to planes); Zinsser et al. 2005 (scale in ICP).
    """
    target = _target(view, COARSE_PX if coarse else FINE_PX)
    steps = COARSE_STEPS if coarse else FINE_STEPS
    up = start.R[2].copy()  # in the mesh's frame
    pose = start
    for k in range(steps):
        share = k / (steps - 1)
        reach = (REACH[0] * (REACH[1] / REACH[0]) ** share) if coarse else REACH[1]
        pose, moved = _step(view, target, points, faces, pose, up, reach)
        if moved < 1e-5:
            break
    return _on_foot(view, points, pose)


def _on_foot(view: View, points: np.ndarray, pose: Pose) -> Pose:
    low = float((pose.scale * points @ pose.R[2]).min())
    return Pose(pose.R, np.array([pose.t[0], pose.t[1], view.base_z - low]), pose.scale)


def _target(view: View, side_px: int) -> _Target:
    import cv2

    height, width = view.mask.shape
    fine = float(np.clip(side_px / max(height, width), 0.25, 4.0))
    K = view.K_px.copy()
    K[:2] *= fine
    blurred = cv2.GaussianBlur(view.mask.astype(np.float32), (0, 0), SMOOTH_PX)
    gradient = np.stack([cv2.Sobel(blurred, cv2.CV_32F, 1, 0), cv2.Sobel(blurred, cv2.CV_32F, 0, 1)], -1)
    u, v = (view.contour_px - 0.5).astype(int).T
    normals = -gradient[v, u].astype(np.float64)
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-9)
    outline = (view.contour_px + 0.5 * normals) * fine  # border pixels lie half a pixel inside
    points = some_points(view)
    chosen = np.linspace(0, len(view.points_w) - 1, len(points)).astype(int)
    size = (int(np.ceil(width * fine)), int(np.ceil(height * fine)))
    return _Target(K, *size, fine, outline, normals, CONTOUR_SIGMA_PX * fine, points, view.normals_w[chosen])


def _step(
    view: View, target: _Target, points: np.ndarray, faces: np.ndarray, pose: Pose, up: np.ndarray, reach: float
) -> tuple[Pose, float]:
    """One Gauss-Newton step and how far it went (shares of the size)."""
    points_w = posed(pose, points)
    raster = rasterize(transform(view.T_camera_world, points_w), faces, target.K_px, target.width, target.height)
    pivot = np.array([*points_w.mean(axis=0)[:2], view.base_z])
    rows = [_outline_rows(view, target, points_w, faces, raster, pivot, reach * pose.scale)]
    if len(target.points_w):
        rows.append(_point_rows(view, target, points_w, faces, raster, pivot, reach * pose.scale))
    rows.append(_prior_rows(view, points_w, pivot, pose.R @ up))
    J, r = np.concatenate([j for j, _ in rows]), np.concatenate([v for _, v in rows])
    weight = 1.0 / np.sqrt(1.0 + (r / ROBUST) ** 2)  # soft L1
    weight[-3:] = 1.0
    unit = np.array([1.0, 1.0, 1.0, pose.scale, pose.scale, pose.scale, 1.0])
    A = J * unit
    normal = A.T @ (weight[:, None] * A)
    normal += DAMPING * np.diag(np.diag(normal)) + 1e-6 * np.trace(normal) * np.eye(7) / 7
    step = np.linalg.solve(normal, -A.T @ (weight * r))
    step = step * min(1.0, float(np.min(STEP_LIMIT / np.maximum(np.abs(step), 1e-12))))
    turn, shift, grow = _rotation(step[:3]), step[3:6] * pose.scale, float(np.exp(step[6]))
    t = pivot + grow * turn @ (pose.t - pivot) + shift
    return Pose(turn @ pose.R, t, pose.scale * grow), float(np.abs(step).max())


def _motion(points_w: np.ndarray, pivot: np.ndarray) -> np.ndarray:
    """Derivative (N, 3, 7) of points by turn, shift and logarithm of the scale about a pivot."""
    arm = points_w - pivot
    out = np.zeros((len(arm), 3, 7))
    out[:, 0, 1], out[:, 0, 2] = arm[:, 2], -arm[:, 1]
    out[:, 1, 0], out[:, 1, 2] = -arm[:, 2], arm[:, 0]
    out[:, 2, 0], out[:, 2, 1] = arm[:, 1], -arm[:, 0]
    out[:, :, 3:6] = np.eye(3)
    out[:, :, 6] = arm
    return out


def _outline_rows(
    view: View,
    target: _Target,
    points_w: np.ndarray,
    faces: np.ndarray,
    raster: Raster,
    pivot: np.ndarray,
    reach_m: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Rows of the measured outline's partners on the drawn outline, and of the drawn outline's on the measured one."""
    import cv2
    from scipy.spatial import cKDTree

    covered = (raster.face >= 0).astype(np.uint8)
    chains = cv2.findContours(covered, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)[0]
    if not chains:
        return np.zeros((0, 7)), np.zeros(0)
    rim = np.concatenate([chain[:, 0] for chain in chains]).astype(np.int64)
    inside = (rim > 0).all(axis=1) & (rim[:, 0] < target.width - 1) & (rim[:, 1] < target.height - 1)
    rim = rim[inside]
    if len(rim) < 8:
        return np.zeros((0, 7)), np.zeros(0)
    blurred = cv2.GaussianBlur(covered.astype(np.float32), (0, 0), SMOOTH_PX)
    gradient = np.stack([cv2.Sobel(blurred, cv2.CV_32F, 1, 0), cv2.Sobel(blurred, cv2.CV_32F, 0, 1)], -1)
    facing = -gradient[rim[:, 1], rim[:, 0]].astype(np.float64)
    facing /= np.maximum(np.linalg.norm(facing, axis=1, keepdims=True), 1e-9)
    place = rim + 0.5 + 0.5 * facing
    reach_px = reach_m / view.px_m * target.fine
    forth_gap, forth = cKDTree(place).query(target.outline_px)
    some = np.linspace(0, len(rim) - 1, min(OUTLINE_POINTS, len(rim))).astype(int)
    back_gap, back = cKDTree(target.outline_px).query(place[some])
    model = np.concatenate([forth, some])
    measured = np.concatenate([np.arange(len(target.outline_px)), back])
    gap = np.concatenate([forth_gap, back_gap])
    good = (gap < reach_px) & ((facing[model] * target.normals_px[measured]).sum(axis=1) > ALONG)
    model, measured = model[good], measured[good]
    v, u = rim[model, 1], rim[model, 0]
    surface_w = np.einsum("nc,ncd->nd", raster.bary[v, u].astype(np.float64), points_w[faces[raster.face[v, u]]])
    slope = _projection_slope(view, target, surface_w)
    normal = target.normals_px[measured]
    J = np.einsum("ni,nij,njk->nk", normal, slope, _motion(surface_w, pivot)) / target.sigma_px
    return J, ((place[model] - target.outline_px[measured]) * normal).sum(axis=1) / target.sigma_px


def _projection_slope(view: View, target: _Target, points_w: np.ndarray) -> np.ndarray:
    """Derivative (N, 2, 3) of the pixel by the world point."""
    points_c = transform(view.T_camera_world, points_w)
    x, y, z = points_c.T
    fx, fy, zero = target.K_px[0, 0], target.K_px[1, 1], np.zeros(len(x))
    slope_c = np.stack([np.stack([fx / z, zero, -fx * x / z**2], -1), np.stack([zero, fy / z, -fy * y / z**2], -1)], 1)
    return slope_c @ view.T_camera_world[:3, :3]


def _point_rows(
    view: View,
    target: _Target,
    points_w: np.ndarray,
    faces: np.ndarray,
    raster: Raster,
    pivot: np.ndarray,
    reach_m: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Rows of measured points against the nearest surface that the camera sees, along the surface's normal."""
    from scipy.spatial import cKDTree

    v, u = np.nonzero(raster.face >= 0)
    if len(v) < 8:
        return np.zeros((0, 7)), np.zeros(0)
    face = raster.face[v, u]
    surface_w = np.einsum("nc,ncd->nd", raster.bary[v, u].astype(np.float64), points_w[faces[face]])
    corner = points_w[faces[face]]
    normal = np.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0])
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-12)
    normal[np.einsum("ij,ij->i", normal, view.camera_w - surface_w) < 0] *= -1
    gap, near = cKDTree(surface_w).query(target.points_w)
    good = (gap < reach_m) & (np.einsum("ij,ij->i", normal[near], target.normals_w) > ALONG)
    near = near[good]
    n, q = normal[near], surface_w[near]
    J = np.einsum("ni,nik->nk", n, _motion(q, pivot)) / POINT_SIGMA_M
    return J, np.einsum("ij,ij->i", n, q - target.points_w[good]) / POINT_SIGMA_M


def _prior_rows(view: View, points_w: np.ndarray, pivot: np.ndarray, up_w: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows that keep the foot on the support and the mesh upright."""
    lowest = points_w[[int(points_w[:, 2].argmin())]]
    J = np.zeros((3, 7))
    J[0] = _motion(lowest, pivot)[0, 2] / FOOT_SIGMA_M
    J[1, 1], J[2, 0] = 1 / LEAN_SIGMA_RAD, -1 / LEAN_SIGMA_RAD
    return J, np.array([(lowest[0, 2] - view.base_z) / FOOT_SIGMA_M, *(up_w[:2] / LEAN_SIGMA_RAD)])


def _rotation(vector: np.ndarray) -> np.ndarray:
    from scipy.spatial.transform import Rotation

    return Rotation.from_rotvec(vector).as_matrix()
