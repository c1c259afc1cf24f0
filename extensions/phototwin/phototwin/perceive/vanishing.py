"""Which way is down, and how long the lens is, from the straight lines of one photo.

Tables, drawers, boxes and walls come in three orthogonal directions. A frame of three such directions (a *Manhattan
frame*) is searched that explains as much line length as possible; one of its axes is the vertical.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from phototwin.frames import rotation_z

MIN_SEGMENT = 0.03
"""Shortest line segment that counts, as a share of the image width: shorter ones are texture with random directions."""
MAX_SEGMENTS = 250
TOLERANCE_DEG = 4.0
"""A segment is explained by a vanishing point when it points to it within this angle."""
MIN_EXPLAINED = 0.4
"""Share of line length a frame must explain; three random directions explain about 13 % at this tolerance."""
MIN_SECOND = 0.08
"""Share of line length the second best direction must have: one direction alone leaves the horizon free to turn about it."""
USUAL_ROLL_DEG, MOST_EXPLAINED = 12.0, 0.8
"""People hold cameras nearly level: a larger turn is believed only where all three directions are seen or nearly all lines agree;
two directions that explain less can be boxes that lie askew."""
RIVAL = 0.89
"""A frame with another vertical that scores this share of the best makes the answer ambiguous."""
RIVAL_DEG = 10.0
PITCH_RANGE_DEG = (10.0, 89.0)
"""Tilts of a camera that sees the top of a table; a level view shows the same three axes and would be mistaken for a view from above."""
FOCAL_PRIOR_HFOV_DEG = 60.0
"""Horizontal field of view assumed when nothing tells it: between a phone's main camera (65-70) and a webcam (55-60)."""
LINES_SIGMA_DEG = (0.8, 1.2)
"""Standard deviations of pitch and roll that stay however many lines there are: errors on six real photos with K known, where
the lines themselves promise 0.2 to 0.5. Edges that only nearly belong to the three directions, and lens distortion, make the rest."""
MAX_WITNESSES = 20.0
POLISH_ROUNDS, MAX_POLISH_DEG, MAX_SIGMA_DEG = 10, 1.0, 20.0
FOCAL_SIGMA = {"camera file": 0.003, "exif": 0.02, "lines": 0.08, "prior": 0.15}
"""Standard deviation of the focal length as a share of it, by where it comes from: calibration, EXIF (rounded to millimetres, crops of
video modes), three vanishing points (6-14 % off on real photos), none (fields of view of 45 to 80 degrees are usual)."""
MODEL_FOCAL_SIGMA = 0.06
FOCAL_DROP = 0.08
"""How much of the score must be lost at both ends of the focal range before the lines are believed about the focal length."""


@dataclass(frozen=True, eq=False)
class ManhattanFrame:
    """Three orthogonal directions seen in a photo.

    Attributes:
        R_world_camera: (3, 3) rotation; world Z up, +X horizontally the way the camera looks.
        explained: Share of the line length that points to one of the three vanishing points, 0..1.
        shares: Explained line length of the two horizontal directions and of the vertical, (3,).
        score: Soft score, 0..1 (1 = every segment points exactly to a vanishing point).
        rival: Score of the best frame whose vertical differs by more than ``RIVAL_DEG``, as a share of ``score``.
        sigma_rad: Standard deviations (2,) of pitch and roll, should the frame be the right one [rad].
    """

    R_world_camera: np.ndarray
    explained: float
    shares: np.ndarray
    score: float
    rival: float
    sigma_rad: np.ndarray

    @property
    def trusted(self) -> bool:
        """Whether the lines are enough to tell the vertical."""
        return (
            self.explained >= MIN_EXPLAINED
            and np.sort(self.shares)[1] >= MIN_SECOND
            and self.rival <= RIVAL
            and self._level_or_sure
            and self._inside
        )

    @property
    def _level_or_sure(self) -> bool:
        """Whether the camera is turned no more than people do, or the lines leave no doubt that it is."""
        level = abs(pitch_roll(self.R_world_camera)[1]) < np.radians(USUAL_ROLL_DEG)
        return bool(level or self.shares.min() >= MIN_SECOND or self.explained >= MOST_EXPLAINED)

    @property
    def _inside(self) -> bool:
        """Whether the tilt is not at the border of the searched range, where the true one may lie beyond."""
        pitch_deg = np.degrees(pitch_roll(self.R_world_camera)[0])
        return bool(PITCH_RANGE_DEG[0] + 1 < pitch_deg < PITCH_RANGE_DEG[1])


def detect_segments(rgb: np.ndarray) -> np.ndarray:
    """Straight line segments of an image (H, W, 3) uint8: (N, 4) x0, y0, x1, y1 [px], longest first, at most ``MAX_SEGMENTS``."""
    import cv2

    gray = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
    found = cv2.createLineSegmentDetector().detect(gray)[0]
    if found is None:
        return np.zeros((0, 4))
    segments = found.reshape(-1, 4).astype(np.float64) + 0.5
    length = np.hypot(segments[:, 2] - segments[:, 0], segments[:, 3] - segments[:, 1])
    order = np.argsort(-length, kind="stable")[:MAX_SEGMENTS]
    return segments[order[length[order] >= MIN_SEGMENT * rgb.shape[1]]]


def camera_rotation(pitch_rad: float, roll_rad: float = 0.0) -> np.ndarray:
    """R_world_camera (3, 3) of a camera that looks along world +X, tilted down by ``pitch_rad`` and turned about its axis by ``roll_rad``."""
    s, c = np.sin(pitch_rad), np.cos(pitch_rad)
    level = np.array([[0.0, -s, c], [-1.0, 0.0, 0.0], [0.0, -c, -s]])
    return level @ rotation_z(roll_rad)


def pitch_roll(R_world_camera: np.ndarray) -> tuple[float, float]:
    """Tilt below the horizontal and turn about the optical axis [rad] of a camera; inverse of ``camera_rotation`` up to yaw."""
    up_c = R_world_camera[2]
    return float(np.arcsin(np.clip(-up_c[2], -1, 1))), float(np.arctan2(-up_c[0], -up_c[1]))


def manhattan_frame(segments: np.ndarray, K_px: np.ndarray) -> ManhattanFrame | None:
    """The frame of three orthogonal directions that explains the most line length, its vertical the one nearest to the image's.

    Coarse grid over pitch (``PITCH_RANGE_DEG``), roll (within 24 deg) and yaw, two finer grids around the best, then least squares.
    Source: the consensus idea of Coughlan and Yuille (1999), with a truncated quadratic instead of their mixture.

    Args:
        segments: (N, 4) [px].
        K_px: (3, 3) [px].

    Returns:
        The frame, or None where there are fewer than 6 segments.
    """
    if len(segments) < 6:
        return None
    lines = _lines(segments, K_px)
    angles = _grid(np.arange(*PITCH_RANGE_DEG, 3.0), np.arange(-24, 25, 4.0), np.arange(0, 90, 3.0))
    scores = _scores(angles, lines)
    best = angles[np.argmax(scores)]
    for step in (1.0, 0.25):
        around = np.arange(-4, 5) * step
        fine = _grid(best[0] + around, best[1] + around, best[2] + around)
        best = fine[np.argmax(_scores(fine, lines))]
    polished, sigma_rad = _polished(best, lines)
    up_c = np.stack([camera_rotation(*a[:2])[2] for a in np.radians(angles)])
    R = camera_rotation(*np.radians(polished[:2]))
    far = up_c @ R[2] < np.cos(np.radians(RIVAL_DEG))
    score = float(_scores(best[None], lines)[0])
    deviation, weight = _deviations(best[None], lines)[0], lines[2]
    owner = np.where(deviation.min(0) < np.sin(np.radians(TOLERANCE_DEG)) ** 2, deviation.argmin(0), 3)
    shares = np.array([weight[owner == k].sum() for k in range(3)])
    rival = float(scores[far].max() / max(score, 1e-9))
    return ManhattanFrame(R, float(shares.sum()), shares, score, rival, sigma_rad)


def _polished(
    angles_deg: np.ndarray, lines: tuple[np.ndarray, np.ndarray, np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Pitch, roll and yaw (3,) [deg] by weighted least squares near a good guess, and the sigmas (2,) of pitch and roll [rad].

    Tukey's weights with the tolerance as their limit. The residuals' own spread gives the noise; edges of one plank are no
    independent witnesses, so the number that counts is Kish's effective sample size of the weights.
    """
    owner = _deviations(angles_deg[None], lines)[0].argmin(0)
    best = angles_deg
    for _ in range(POLISH_ROUNDS):
        residual, weight, J = _linearized(best, lines, owner)
        H = (J * weight[:, None]).T @ J + 1e-12 * np.eye(3)
        best = best - np.clip(np.linalg.lstsq(H, (J * weight[:, None]).T @ residual, rcond=None)[0], -0.5, 0.5)
    if np.abs(best - angles_deg).max() > MAX_POLISH_DEG:  # the lines do not hold it: the grid's answer stays
        best = angles_deg
    residual, weight, J = _linearized(best, lines, owner)
    noise = (weight @ residual**2) * (weight @ weight) / max(weight.sum() ** 2, 1e-12)
    formal = np.sqrt(np.clip(noise * np.diag(np.linalg.pinv((J * weight[:, None]).T @ J))[:2], 0, MAX_SIGMA_DEG**2))
    return best, np.radians(np.hypot(formal, LINES_SIGMA_DEG))


def _linearized(
    angles_deg: np.ndarray, lines: tuple[np.ndarray, np.ndarray, np.ndarray], owner: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Residuals (N,), their weights (N,) and their derivatives (N, 3) by pitch, roll and yaw [1/deg]."""
    residual, step = _sines(angles_deg, lines, owner), 0.01
    weight = lines[2] * np.clip(1 - (residual / np.sin(np.radians(TOLERANCE_DEG))) ** 2, 0, None) ** 2
    steps = step * np.eye(3)
    change = [_sines(angles_deg + d, lines, owner) - _sines(angles_deg - d, lines, owner) for d in steps]
    return residual, weight, np.stack(change, -1) / (2 * step)


def _sines(angles_deg: np.ndarray, lines: tuple[np.ndarray, np.ndarray, np.ndarray], owner: np.ndarray) -> np.ndarray:
    """Signed sine of the angle between each segment and the line from its midpoint to its own vanishing point, (N,)."""
    middle, direction, _ = lines
    axis = _axes_c(angles_deg[None])[0][owner]
    toward = axis[:, :2] - axis[:, 2:] * middle
    cross = toward[:, 0] * direction[:, 1] - toward[:, 1] * direction[:, 0]
    ahead = np.where((toward * direction).sum(1) < 0, -1.0, 1.0)
    return ahead * cross / np.sqrt((toward**2).sum(1) + 1e-12)


def line_evidence(segments: np.ndarray, K_px: np.ndarray, tilts_deg: np.ndarray) -> np.ndarray:
    """How much lines that are too few or too ambiguous to be trusted speak for tilts (B, 2) of pitch and roll, (B,).

    A logarithm of probability: the share of line length that the best frame of each tilt explains, times the number of lines that
    count (Kish's effective sample size; edges of one plank are no independent witnesses, so at most ``MAX_WITNESSES``).
    """
    if len(segments) < 2:
        return np.zeros(len(tilts_deg))
    lines, yaws = _lines(segments, K_px), np.arange(0, 90, 3.0)
    angles = np.concatenate([np.repeat(tilts_deg, len(yaws), 0), np.tile(yaws, len(tilts_deg))[:, None]], 1)
    scores = _scores(angles, lines).reshape(len(tilts_deg), len(yaws)).max(1)
    return scores * min(1 / float(lines[2] @ lines[2]), MAX_WITNESSES)


def focal_from_lines(segments: np.ndarray, width: int, height: int) -> tuple[float, ManhattanFrame] | None:
    """Focal length [px] and frame of a photo with a centred principal point and square pixels, or None where lines cannot tell.

    Believed only when the frame is trusted, all three directions are seen and the score falls off clearly toward both
    shorter and longer lenses.
    """
    hfovs = np.arange(40.0, 91.0, 5.0)
    focals = width / 2 / np.tan(np.radians(hfovs) / 2)
    frames = [manhattan_frame(segments, centred_K(f, width, height)) for f in focals]
    if any(frame is None for frame in frames):
        return None
    score = np.array([frame.score for frame in frames if frame is not None])
    k = int(np.argmax(score))
    frame = frames[k]
    if frame is None or not frame.trusted or frame.shares.min() < MIN_SECOND or k in (0, len(score) - 1):
        return None
    if max(score[0], score[-1]) > (1 - FOCAL_DROP) * score[k]:
        return None
    return float(focals[k]), frame


def centred_K(focal_px: float, width: int, height: int) -> np.ndarray:
    """Intrinsics (3, 3) [px] with square pixels and the principal point in the middle of the image."""
    return np.array([[focal_px, 0, width / 2], [0, focal_px, height / 2], [0, 0, 1.0]])


def focal_sigma(K_source: str | None) -> float:
    """Standard deviation of a focal length, as a share of it, by ``Photo.K_source``; what is neither file nor EXIF is a model's estimate."""
    return FOCAL_SIGMA["camera file"] if K_source is None else FOCAL_SIGMA.get(K_source, MODEL_FOCAL_SIGMA)


def prior_focal(width: int) -> float:
    """Focal length [px] of ``FOCAL_PRIOR_HFOV_DEG``."""
    return width / 2 / np.tan(np.radians(FOCAL_PRIOR_HFOV_DEG) / 2)


def _lines(segments: np.ndarray, K_px: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Midpoints (N, 2), unit directions (N, 2) on the plane z = 1 and weights (N,) that add up to 1."""
    ends = (segments.reshape(-1, 2, 2) - K_px[:2, 2]) / np.array([K_px[0, 0], K_px[1, 1]])
    delta = ends[:, 1] - ends[:, 0]
    length = np.linalg.norm(delta, axis=1)
    return ends.mean(1), delta / length[:, None], length / length.sum()


def _grid(pitch_deg: np.ndarray, roll_deg: np.ndarray, yaw_deg: np.ndarray) -> np.ndarray:
    return np.stack(np.meshgrid(pitch_deg, roll_deg, yaw_deg, indexing="ij"), -1).reshape(-1, 3)


def _axes_c(angles_deg: np.ndarray) -> np.ndarray:
    """The three directions of each frame in camera coordinates, (G, 3 directions, 3)."""
    pitch, roll, yaw = np.radians(angles_deg).T
    sp, cp, sr, cr = np.sin(pitch), np.cos(pitch), np.sin(roll), np.cos(roll)
    zero = np.zeros_like(pitch)
    forward = np.stack([-sp * sr * 1.0, -sp * cr, cp], -1)
    left = np.stack([-cr, sr, zero], -1)
    up = np.stack([-cp * sr, -cp * cr, -sp], -1)
    c, s = np.cos(yaw)[:, None], np.sin(yaw)[:, None]
    return np.stack([c * forward + s * left, -s * forward + c * left, up], 1)


def _deviations(angles_deg: np.ndarray, lines: tuple[np.ndarray, np.ndarray, np.ndarray]) -> np.ndarray:
    """Squared sine of the angle between each segment and the line from its midpoint to each vanishing point, (G, 3, N)."""
    middle, direction, _ = (array.astype(np.float32) for array in lines)
    axes = _axes_c(angles_deg).astype(np.float32)
    dx = axes[..., 0:1] - axes[..., 2:] * middle[:, 0]
    dy = axes[..., 1:2] - axes[..., 2:] * middle[:, 1]
    return (dx * direction[:, 1] - dy * direction[:, 0]) ** 2 / (dx * dx + dy * dy + np.float32(1e-12))


def _scores(angles_deg: np.ndarray, lines: tuple[np.ndarray, np.ndarray, np.ndarray]) -> np.ndarray:
    """Soft share of explained line length of each frame, (G,)."""
    scores = np.empty(len(angles_deg))
    for start in range(0, len(angles_deg), 512):
        deviation = _deviations(angles_deg[start : start + 512], lines).min(1) / np.sin(np.radians(TOLERANCE_DEG)) ** 2
        scores[start : start + 512] = np.maximum(1 - deviation, 0) @ lines[2]
    return scores
