"""Rigid transforms and cameras: the only place where conventions are converted.

Inside the project: ``T_a_b`` maps coordinates of frame b to frame a, quaternions are ``quat_xyzw``, cameras are OpenCV
(+X right, +Y down, +Z forward) with pixel centres at +0.5, the world is Z up in metres.
"""

from __future__ import annotations

import numpy as np

T_OPENCV_USD = np.diag([1.0, -1.0, -1.0, 1.0])
"""Maps USD/OpenGL camera coordinates (+Y up, -Z forward) to OpenCV camera coordinates; it is its own inverse."""


def invert(T: np.ndarray) -> np.ndarray:
    """Inverse of one or many rigid transforms, (..., 4, 4)."""
    R = T[..., :3, :3]
    out = np.zeros_like(T)
    out[..., :3, :3] = np.swapaxes(R, -1, -2)
    out[..., :3, 3] = -np.einsum("...ji,...j->...i", R, T[..., :3, 3])
    out[..., 3, 3] = 1.0
    return out


def transform(T_a_b: np.ndarray, points_b: np.ndarray) -> np.ndarray:
    """Points (..., 3) of frame b in frame a."""
    return points_b @ T_a_b[:3, :3].T + T_a_b[:3, 3]


def make_T(R: np.ndarray, t: np.ndarray) -> np.ndarray:
    """A (4, 4) float64 transform from a rotation (3, 3) and a translation (3,)."""
    T = np.eye(4)
    T[:3, :3] = R
    T[:3, 3] = t
    return T


def rotation_z(angle_rad: float) -> np.ndarray:
    """Rotation (3, 3) about +Z."""
    c, s = np.cos(angle_rad), np.sin(angle_rad)
    return np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])


def quat_xyzw_from_matrix(R: np.ndarray) -> np.ndarray:
    """Unit quaternions (..., 4), scalar last and non-negative, of rotations (..., 3, 3).

    Source: Bar-Itzhack (2000), the eigenvector of the largest eigenvalue; stable for every rotation.
    """
    R = np.asarray(R, dtype=np.float64)
    xx, yx, zx = R[..., 0, 0], R[..., 0, 1], R[..., 0, 2]
    xy, yy, zy = R[..., 1, 0], R[..., 1, 1], R[..., 1, 2]
    xz, yz, zz = R[..., 2, 0], R[..., 2, 1], R[..., 2, 2]
    K = np.stack(
        [
            np.stack([xx - yy - zz, yx + xy, zx + xz, yz - zy], -1),
            np.stack([yx + xy, yy - xx - zz, zy + yz, zx - xz], -1),
            np.stack([zx + xz, zy + yz, zz - xx - yy, xy - yx], -1),
            np.stack([yz - zy, zx - xz, xy - yx, xx + yy + zz], -1),
        ],
        -2,
    )
    quat = np.linalg.eigh(K / 3.0)[1][..., -1]
    return quat * np.where(quat[..., 3:] < 0, -1.0, 1.0)


def matrix_from_quat_xyzw(quat_xyzw: np.ndarray) -> np.ndarray:
    """Rotations (..., 3, 3) of quaternions (..., 4), scalar last; they need not be normalised."""
    q = np.asarray(quat_xyzw, dtype=np.float64)
    x, y, z, w = np.moveaxis(q / np.linalg.norm(q, axis=-1, keepdims=True), -1, 0)
    return np.stack(
        [
            np.stack([1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)], -1),
            np.stack([2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)], -1),
            np.stack([2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)], -1),
        ],
        -2,
    )


def project(K_px: np.ndarray, points_c: np.ndarray) -> np.ndarray:
    """Pixel coordinates (..., 2) of camera points (..., 3); pixel (row 0, column 0) has its centre at (0.5, 0.5)."""
    uvw = points_c @ K_px.T
    return uvw[..., :2] / uvw[..., 2:]


def pixel_rays(K_px: np.ndarray, width: int, height: int) -> np.ndarray:
    """Rays (H, W, 3) through the pixel centres in camera coordinates, scaled to z = 1, so ``depth * ray`` is the point."""
    u, v = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    return np.stack([(u - K_px[0, 2]) / K_px[0, 0], (v - K_px[1, 2]) / K_px[1, 1], np.ones_like(u)], -1)


def support_depth(
    K_px: np.ndarray, T_world_camera: np.ndarray, width: int, height: int, z_w: float = 0.0
) -> np.ndarray:
    """Depth (H, W) along the optical axis where each pixel's ray meets the plane ``z = z_w``; inf where it never does [m]."""
    rays_w = pixel_rays(K_px, width, height) @ T_world_camera[:3, :3].T
    with np.errstate(divide="ignore"):
        depth = (z_w - T_world_camera[2, 3]) / rays_w[..., 2]
    return np.where(depth > 0, depth, np.inf)
