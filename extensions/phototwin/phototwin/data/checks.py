"""What numbers of an episode must be, whatever file holds them: each function gives sentences on what is wrong, none where nothing is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

QUAT_TOLERANCE = 1e-3
"""How far the norm of a quaternion may be from 1; float32 gives 3e-7."""
RIGID_TOLERANCE = 1e-4
"""How far a camera's rotation times its transpose may be from the identity."""
TURN_RAD = 2 * np.pi + 0.01
"""No joint of our robots turns further from zero."""
LEAD_RAD = 1.5
"""A commanded position leads the joint's by 0.5 rad at most in what we make."""
FAR_M = 20.0
"""Nothing on a table is further from the origin of its world."""
JOINT_SPEED = 20.0
"""No joint moves faster between two frames [rad/s or m/s]."""
OBJECT_SPEED = 10.0
"""Nothing moves faster on a table [m/s]; a fall of 1 m ends at 4.4."""
OBJECT_KICK = 1.0
"""How much faster a thing may move from frame to frame than its velocities before and after say [m/s]; 0.55 is seen when it is hit."""
RATE_SLOPE = (0.5, 1.6)
"""Recorded joint velocities over those that positions and frame rate give; 0.76 to 0.92 is seen."""
MOVING = 0.05
"""Joint speed from which on the two are compared [rad/s]."""
ROBOT_LABEL = 255
"""What ``blend.truth`` gives the robot's pixels."""
FAMILY, TWIN, VERSIONS = "family", "twin", "versions"


@dataclass(frozen=True)
class Defect:
    """Something wrong with a dataset.

    Attributes:
        file: The file, relative to the folder that was verified.
        episode: The episode as the file calls it; empty where the whole file is concerned.
        check: Name of the check that found it.
        message: What was found and what was expected.
    """

    file: str
    episode: str
    check: str
    message: str

    def __str__(self) -> str:
        return ": ".join(part for part in (self.file, self.episode, self.check, self.message) if part)


def not_finite(name: str, values: np.ndarray) -> Iterator[str]:
    """NaN or infinity in (T, ...), or in a single number."""
    rows = np.atleast_1d(values)
    bad = np.flatnonzero(~np.isfinite(rows.reshape(len(rows), -1)).all(1)) if rows.size else []
    if len(bad):
        yield f"{name} has NaN or infinite numbers in {len(bad)} rows, the first is {bad[0]}"


def not_unit(name: str, poses: np.ndarray, may_be_empty: bool = False) -> Iterator[str]:
    """Quaternions of poses (T, 7 N) that are no rotations; all-zero ones are allowed where a pose may be none."""
    norms = np.linalg.norm(poses.reshape(len(poses), -1, 7)[..., 3:].astype(np.float64), axis=-1)
    wrong = np.abs(norms - 1) > QUAT_TOLERANCE
    if may_be_empty:
        wrong &= norms > 0
    for row, index in np.argwhere(wrong)[:1]:
        yield f"{name} row {row}: quaternion of pose {index} has norm {norms[row, index]:.4f}, expected 1 (x, y, z, w order)"


def far_away(name: str, poses: np.ndarray) -> Iterator[str]:
    """Positions of poses (T, 7 N) that cannot be metres."""
    reach = np.abs(poses.reshape(len(poses), -1, 7)[..., :3]).max(initial=0.0)
    if reach > FAR_M:
        yield f"{name} reaches {reach:.4g} m from the origin, expected at most {FAR_M:.0f} m: are these millimetres?"


def beyond_turn(name: str, values: np.ndarray, columns: Sequence[str]) -> Iterator[str]:
    """Joint positions or commands (T, J) that cannot be radians."""
    most = np.abs(values).max(0, initial=0.0)
    for i in np.flatnonzero(most > TURN_RAD)[:1]:
        yield f"{name} of {columns[i]} reaches {most[i]:.4g}, expected at most {TURN_RAD:.2f} rad: are these degrees?"


def commands_off(
    actions: np.ndarray, action_names: Sequence[str], joints: np.ndarray, joint_names: Sequence[str]
) -> Iterator[str]:
    """Commanded joint positions (T, A) that do not lead the joints (T, J) of the same names but are somewhere else."""
    for i, name in enumerate(action_names):
        if name in joint_names:
            off = np.abs(actions[:, i] - joints[:, list(joint_names).index(name)])
            if off.max(initial=0.0) > LEAD_RAD:
                yield f"action row {off.argmax()} commands {name} {off.max():.2f} rad from where it is, expected at most {LEAD_RAD}"
                return


def jumps(name: str, values: np.ndarray, fps: float, limit: float, unit: str) -> Iterator[str]:
    """Rows of (T, D) between which a value changes faster than physics allows."""
    speed = np.linalg.norm(np.diff(values.astype(np.float64), axis=0), axis=-1) * fps
    if speed.max(initial=0.0) > limit:
        t = int(speed.argmax())
        yield f"{name} jumps between rows {t} and {t + 1}: {speed[t]:.1f} {unit}, expected at most {limit:.0f}"


def object_jumps(name: str, positions: np.ndarray, velocities: np.ndarray, fps: float) -> Iterator[str]:
    """Rows between which a thing is somewhere else than its velocities (T, 3) say, or is too fast."""
    yield from jumps(name, positions, fps, OBJECT_SPEED, "m/s")
    means = (velocities[1:] + velocities[:-1]) / 2
    off = np.linalg.norm(np.diff(positions, axis=0) * fps - means, axis=-1)
    if off.max(initial=0.0) > OBJECT_KICK:
        t = int(off.argmax())
        yield f"{name} jumps between rows {t} and {t + 1}: {off[t]:.2f} m/s off its velocities, expected at most {OBJECT_KICK}"


def wrong_rate(joints: np.ndarray, velocities: np.ndarray, fps: float) -> Iterator[str]:
    """Whether joint velocities (T, J), positions (T, J) and the frame rate belong together."""
    if not np.isfinite(fps) or fps <= 0:
        yield f"the frame rate is {fps}, expected frames per second"
        return
    change, mean = np.diff(joints.astype(np.float64), axis=0) * fps, (velocities[1:] + velocities[:-1]) / 2
    moving = np.abs(change) > MOVING
    if moving.sum() < 10:
        return
    slope = float((change * mean)[moving].sum() / (change**2)[moving].sum())
    if not RATE_SLOPE[0] <= slope <= RATE_SLOPE[1]:
        yield (
            f"joint velocities are {slope:.2f} times what positions at {fps:g} frames/s give, expected "
            f"{RATE_SLOPE[0]} to {RATE_SLOPE[1]}: another frame rate, or not rad/s?"
        )


def wrong_camera(K_px: np.ndarray, T_world_camera: np.ndarray, size: tuple[int, int] | None) -> Iterator[str]:
    """A camera that cannot be: K (3, 3) [px] for a frame of ``size`` (height, width), and its pose (4, 4)."""
    K, T = np.asarray(K_px, np.float64), np.asarray(T_world_camera, np.float64)
    if K.shape != (3, 3) or T.shape != (4, 4) or not (np.isfinite(K).all() and np.isfinite(T).all()):
        yield f"K_px is {K.shape} and T_world_camera {T.shape}, expected finite (3, 3) and (4, 4)"
        return
    if min(K[0, 0], K[1, 1]) <= 0 or np.abs(K[[1, 2, 2, 2], [0, 0, 1, 2]] - [0, 0, 0, 1]).max() > 1e-9:
        yield f"K_px is {K.tolist()}, expected positive focal lengths and zeros below the diagonal"
    elif size is not None:
        height, width = size
        # A crop of a photo may lie beside its principal point, but not by more than its own size.
        if not (-width < K[0, 2] < 2 * width and -height < K[1, 2] < 2 * height):
            yield f"K_px has its principal point at {K[:2, 2].tolist()}, expected near a frame of {width} x {height}"
        if not (width / 20 < K[0, 0] < width * 20 and 0.5 < K[0, 0] / K[1, 1] < 2):
            yield f"K_px has focal lengths {K[0, 0]:.4g} and {K[1, 1]:.4g} px, which no frame of {width} x {height} has"
    R = T[:3, :3]
    if np.abs(R @ R.T - np.eye(3)).max() > RIGID_TOLERANCE or np.linalg.det(R) < 0 or (T[3] != [0, 0, 0, 1]).any():
        yield "T_world_camera is not a rotation and a position: its 3 x 3 block times its transpose is not the identity"


def wrong_words(instruction: Any, task: Any, provenance: Any) -> Iterator[str]:
    """An episode that does not say what was asked for or where it comes from."""
    if not isinstance(instruction, str) or not instruction.strip():
        yield "there is no instruction"
    if not isinstance(task, dict) or not task.get(FAMILY):
        yield "the task has no family"
    missing = [name for name in (TWIN, VERSIONS) if not (isinstance(provenance, dict) and provenance.get(name))]
    if missing:
        yield f"the provenance does not name {' and '.join(missing)}"


def strange_labels(name: str, labels: np.ndarray, objects: int, first: int = 0) -> Iterator[str]:
    """Pixels of labels (T, ...) that are no object's, nor the robot's, nor nobody's; row 0 of them is row ``first`` of the episode."""
    wrong = np.setdiff1d(labels, [*range(objects + 1), ROBOT_LABEL])
    if len(wrong):
        yield f"{name} has {wrong[0]} from row {first} on, expected 0 to {objects} or {ROBOT_LABEL}"


def repeated(digests: Iterable[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """Name and message of every episode whose digest an earlier one has; given names and digests."""
    first: dict[str, str] = {}
    for name, digest in digests:
        if digest in first:
            yield name, f"has the same states and actions as {first[digest]}"
        else:
            first[digest] = name
