"""The support surface in a depth image: a robust plane, how sure we are of it, and the world that stands on it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from phototwin.errors import PerceptionError
from phototwin.frames import make_T

TRIPLETS = 600
SAMPLE = 8000  # points that vote
REFINE_SAMPLE = 40_000
TUKEY_ROUNDS = 8
TUKEY_C = 4.685  # 95 % efficient under Gaussian noise
MIN_SUPPORT_SHARE = 0.15  # of all trusted readings
MAX_SIDEWAYS = 0.6  # |n_x|: nobody rolls a camera by more than 37 degrees
MAX_LEANING = 0.3  # n_y: beyond, the surface leans towards the camera, as a wall does
MAX_POSE_TILT_RAD = np.radians(15.0)
MAX_POSE_OFFSET_M = 0.1
HEIGHT_RANGE_M = (0.08, 4.0)  # of the camera above the support
TILES = 4  # along either side: readings of one tile share the sensor's slow errors and count as one witness
MIN_TILE_POINTS = 10
TILT_SIGMA_RAD = np.radians(0.1)  # left of a calibrated sensor's bow and of the alignment of depth to colour
MAX_TILT_SIGMA_RAD = np.radians(10.0)
DOWNWARDS = np.cos(np.radians(10.0))  # within 10 degrees of straight down the view has no horizontal direction


@dataclass(frozen=True, eq=False)
class Plane:
    """The plane ``normal_c . p + camera_height_m = 0`` in camera coordinates.

    Attributes:
        normal_c: Unit normal towards the camera's side, (3,) float64: up.
        camera_height_m: Distance of the camera from the plane [m].
        bow: Coefficients (6,) of the sensor's bow [m] over (1, u, v, uu, uv, vv), u and v in -1..1 over the image.
        spread_m: Median absolute residual of the plane's own points [m].
        share: Part of the trusted readings that lie on the plane.
        tilt_sigma_rad: Standard deviations (2,) of the normal's tilt along and across the view: the camera's pitch and roll [rad].
    """

    normal_c: np.ndarray
    camera_height_m: float
    bow: np.ndarray
    spread_m: float
    share: float
    tilt_sigma_rad: np.ndarray


def depth_sigma(depth_m: np.ndarray) -> np.ndarray:
    """Standard deviation of a depth reading [m]: stereo and time-of-flight sensors alike grow with the square of depth.

    Source: Nguyen et al. (2012), "Modeling Kinect sensor noise", eq. 4, with the constants of a RealSense D400.
    """
    return 0.0008 + 0.0012 * depth_m**2


def bow_basis(width: int, height: int) -> np.ndarray:
    """The quadratic basis (H, W, 6) float32 of ``Plane.bow``."""
    u, v = np.meshgrid(np.linspace(-1, 1, width, dtype=np.float32), np.linspace(-1, 1, height, dtype=np.float32))
    return np.stack([np.ones_like(u), u, v, u * u, u * v, v * v], -1)


def heights(plane: Plane, points_c: np.ndarray) -> np.ndarray:
    """Height (H, W) of an organised cloud (H, W, 3) above the plane, sensor bow taken off [m]."""
    raw = points_c @ plane.normal_c + plane.camera_height_m
    limit = 3 * depth_sigma(points_c[..., 2])  # the quadratic must not run away where the plane has no points
    return raw - np.clip(bow_basis(points_c.shape[1], points_c.shape[0]) @ plane.bow, -limit, limit)


def fit_plane(
    points_c: np.ndarray, trusted: np.ndarray, rng: np.random.Generator, T_world_camera: np.ndarray | None = None
) -> Plane:
    """The plane most readings lie on and hardly any lie below.

    Random triplets vote with an even spread over the image; the winner is refined by Tukey-weighted least squares.

    Args:
        points_c: Organised cloud (H, W, 3) float64 in camera coordinates [m].
        trusted: (H, W) bool, readings to use.
        rng: Draws the triplets.
        T_world_camera: Where given, only planes near its z = 0 are candidates.

    Raises:
        PerceptionError: No plane explains enough of the readings.
    """
    index = np.flatnonzero(trusted)
    if index.size < 500 or index.size < 0.02 * trusted.size:
        raise PerceptionError(
            f"Only {100 * index.size / trusted.size:.1f} % of the depth image holds readings in range: "
            "too few to find the support; take the depth nearer, or check its unit."
        )
    flat = points_c.reshape(-1, 3)
    votes = flat[rng.choice(index, min(SAMPLE, index.size), replace=False)]
    normal, offset = _best_triplet(votes, rng, T_world_camera)
    chosen = rng.choice(index, min(REFINE_SAMPLE, index.size), replace=False)
    points = flat[chosen]
    normal, offset, weight = _refine(points, normal, offset)
    residual = points @ normal + offset
    inlier = np.abs(residual) < 3 * depth_sigma(points[:, 2])
    if inlier.mean() < MIN_SUPPORT_SHARE:
        raise PerceptionError(
            f"No flat support was found: the best plane holds {100 * inlier.mean():.0f} % of the depth readings, expected "
            f"{100 * MIN_SUPPORT_SHARE:.0f} %; show more of the table, or give its pose as T_world_camera in --camera."
        )
    height, width = trusted.shape
    u, v = (chosen % width) / (width - 1) * 2 - 1, (chosen // width) / (height - 1) * 2 - 1
    basis = np.stack([np.ones_like(u), u, v, u * u, u * v, v * v], -1)
    root = np.sqrt(weight)[:, None]
    bow = np.linalg.lstsq(
        np.vstack([basis * root, 1e-3 * np.eye(6)]), np.append(residual * root[:, 0], np.zeros(6)), rcond=None
    )[0]
    spread = float(np.median(np.abs(residual - basis @ bow)[inlier]))
    tile = ((v + 1) / 2 * (TILES - 0.01)).astype(int) * TILES + ((u + 1) / 2 * (TILES - 0.01)).astype(int)
    tilt = _tilt_sigma(points[inlier], residual[inlier], tile[inlier], normal)
    return Plane(normal, float(offset), bow, spread, float(inlier.mean()), tilt)


def _tilt_sigma(points: np.ndarray, residual: np.ndarray, tile: np.ndarray, normal: np.ndarray) -> np.ndarray:
    """Standard deviations (2,) of the normal along and across the view, from how the residuals' means differ between image tiles [rad]."""
    count = np.bincount(tile, minlength=TILES**2)
    full = count >= MIN_TILE_POINTS
    axes = world_axes(normal)
    columns = [np.ones(len(points)), points @ axes[0], points @ axes[1], residual]
    means = np.stack([np.bincount(tile, column, TILES**2)[full] / count[full] for column in columns], -1)
    basis, off = means[:, :3], means[:, 3]
    if len(off) < 6:
        return np.full(2, MAX_TILT_SIGMA_RAD)
    noise = float(off @ off) / (len(off) - 3)
    variance = noise * np.diag(np.linalg.pinv(basis.T @ basis))[1:]
    along, across = np.hypot(np.sqrt(variance), TILT_SIGMA_RAD)
    level = max(float(np.sqrt(1 - min(normal[2] ** 2, 1.0))), 0.1)  # from above, roll is a turn about the vertical
    return np.minimum([along, across / level], MAX_TILT_SIGMA_RAD)


def _best_triplet(
    votes: np.ndarray, rng: np.random.Generator, T_world_camera: np.ndarray | None
) -> tuple[np.ndarray, float]:
    triplets = votes[rng.integers(0, len(votes), (TRIPLETS * 2, 3))]
    normals = np.cross(triplets[:, 1] - triplets[:, 0], triplets[:, 2] - triplets[:, 0])
    length = np.linalg.norm(normals, axis=1)
    normals, base = normals[length > 1e-6] / length[length > 1e-6, None], triplets[length > 1e-6, 0]
    offsets = -np.einsum("ij,ij->i", normals, base)
    normals, offsets = normals * np.sign(offsets)[:, None], np.abs(offsets)
    possible = (offsets > HEIGHT_RANGE_M[0]) & (offsets < HEIGHT_RANGE_M[1])
    if T_world_camera is None:
        possible &= (normals[:, 1] < MAX_LEANING) & (np.abs(normals[:, 0]) < MAX_SIDEWAYS)
    else:
        possible &= normals @ T_world_camera[2, :3] > np.cos(MAX_POSE_TILT_RAD)
        possible &= np.abs(offsets - T_world_camera[2, 3]) < MAX_POSE_OFFSET_M
    normals, offsets = normals[possible][:TRIPLETS], offsets[possible][:TRIPLETS]
    if not len(offsets):
        near = "" if T_world_camera is None else " near the pose that the camera file gives (15 degrees, 10 cm)"
        raise PerceptionError(
            f"No flat support was found in the depth{near}: show more of the table, or correct --camera."
        )
    sigma = depth_sigma(votes[:, 2]).astype(np.float32)
    score = np.empty(len(offsets))
    for start in range(0, len(offsets), 64):  # blocks keep the residuals inside the cache
        block = slice(start, start + 64)
        residual = votes.astype(np.float32) @ normals[block].T.astype(np.float32) + offsets[block].astype(np.float32)
        residual /= sigma[:, None]
        score[block] = (np.abs(residual) < 3).sum(0) - 0.5 * (residual < -6).sum(0)
    best = int(np.argmax(score))
    return normals[best], float(offsets[best])


def _refine(points: np.ndarray, normal: np.ndarray, offset: float) -> tuple[np.ndarray, float, np.ndarray]:
    """Tukey-weighted total least squares; returns the plane and the last weights."""
    sigma = depth_sigma(points[:, 2])
    weight = np.zeros(len(points))
    for _ in range(TUKEY_ROUNDS):
        residual = (points @ normal + offset) / sigma
        near = np.abs(residual) < 6
        scale = np.clip(1.4826 * np.median(np.abs(residual[near])) if near.any() else 1.0, 0.05, 1.0)
        weight = np.clip(1 - (residual / (TUKEY_C * scale)) ** 2, 0, None) ** 2 / sigma**2 * sigma.min() ** 2
        if weight.sum() <= 0:
            break
        centre = np.average(points, axis=0, weights=weight)
        spread = (points - centre) * np.sqrt(weight)[:, None]
        fitted = np.linalg.eigh(spread.T @ spread)[1][:, 0]
        fitted *= np.sign(fitted @ normal)
        normal, offset = fitted, float(-fitted @ centre)
    return normal, offset, weight


def world_from_plane(plane: Plane) -> np.ndarray:
    """T_world_camera (4, 4): support at z = 0, origin under the camera, +X the horizontal direction of the view.

    Looking straight down, +X is where the top of the photo points.
    """
    return make_T(world_axes(plane.normal_c), np.array([0.0, 0.0, plane.camera_height_m]))


def world_axes(up: np.ndarray) -> np.ndarray:
    """Rows (3, 3): the world's axes in camera coordinates, +X along the view, +Z the unit vector ``up``."""
    forward = np.array([0.0, 0.0, 1.0]) if abs(up[2]) < DOWNWARDS else np.array([0.0, -1.0, 0.0])
    x = forward - (forward @ up) * up
    x /= np.linalg.norm(x)
    return np.stack([x, np.cross(up, x), up])


def align_pose(T_world_camera: np.ndarray, plane: Plane) -> tuple[np.ndarray, float, float]:
    """The given pose, turned as little as possible about the camera and lifted until the plane is z = 0.

    Returns:
        The corrected pose (4, 4), the tilt taken out [rad] and the height taken out [m].
    """
    up_w = T_world_camera[:3, :3] @ plane.normal_c
    axis = np.cross(up_w, [0.0, 0.0, 1.0])
    sine, cosine = float(np.linalg.norm(axis)), float(up_w[2])
    x, y, z = axis
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    turn = np.eye(3) + cross + cross @ cross / (1 + cosine)
    position = np.array([*T_world_camera[:2, 3], plane.camera_height_m])
    tilt = float(np.arctan2(sine, cosine))
    return make_T(turn @ T_world_camera[:3, :3], position), tilt, plane.camera_height_m - float(T_world_camera[2, 3])
