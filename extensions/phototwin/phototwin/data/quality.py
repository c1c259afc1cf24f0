"""The gate before training: what each demonstration measures, and why it should not be learned from.

``verify`` asks whether a file is what was recorded; this asks whether what was recorded is worth learning: physics that holds, borders
that look real, nothing twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from phototwin.episode import Episode
from phototwin.frames import matrix_from_quat_xyzw
from phototwin.scene import ConvexPiece

Pieces = Sequence[ConvexPiece]
"""The convex pieces of an object, in its frame."""
STILL_M = 1e-5
"""Frames in which no object moves further need not be looked at again."""


@dataclass(frozen=True)
class QualityLimits:
    """What a demonstration may measure. What good ones measure stands in ``docs/datasets.md``.

    Attributes:
        object_speed: Fastest object [m/s].
        object_kick: By how much a thing may be faster from frame to frame than its velocities say [m/s].
        joint_speed: Fastest joint [rad/s].
        below_support_m: How deep a corner of an object may be below the support (z = 0).
        overlap_m: How deep an object may be inside another.
        seam: Score below which the border in a frame looks composited.
        low_seam_share: Share of the frames that may look so.
        apart_rad: A demonstration is an earlier one again where its joints stay this close [rms] ...
        apart_m: ... and its objects begin this close to where they began there.
    """

    object_speed: float = 2.0
    object_kick: float = 0.8
    joint_speed: float = 4.0
    below_support_m: float = 0.005
    overlap_m: float = 0.005
    seam: float = 0.5
    low_seam_share: float = 0.1
    apart_rad: float = 0.005
    apart_m: float = 0.001


@dataclass(frozen=True)
class Quality:
    """What became of the gate for one demonstration.

    Attributes:
        name: Its name in the file.
        digest: Its ``state_sha256``.
        scores: What it measures, by name; what could not be measured is not in it.
        reasons: Why it is rejected; () where it passes.
    """

    name: str
    digest: str
    scores: dict[str, float]
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Trace:
    """What near-duplicates are told by.

    Attributes:
        joints: (S * J,) joint positions at S shares of its time.
        start_m: (3 N,) where the objects begin.
    """

    joints: np.ndarray
    start_m: np.ndarray


SAMPLES = 32
"""Points of a trajectory that are compared."""
MEASURED = (
    *("joint_pos", "joint_vel", "tcp_pose_w", "action", "executed", "object_poses_w", "object_velocities_w"),
    *("final_joint_pos", "final_object_poses_w", "base_pose_w", "seam", "K_px", "T_world_camera"),
)
"""Arrays of an episode that must be finite before anything is measured."""


def judge(
    episodes: Iterable[tuple[str, str, Episode]],
    limits: QualityLimits | None = None,
    bodies: Callable[[Episode], Mapping[str, Pieces]] = lambda episode: {},
) -> list[Quality]:
    """The gate's word on each demonstration, in order; episodes are looked at one at a time and need no frames.

    Args:
        episodes: Name, digest and episode.
        limits: What may be measured.
        bodies: Shapes of an episode's objects by key; without them penetration is only known where an object's centre sinks below the support.
    """
    limits, traces, found = limits or QualityLimits(), [], []
    for name, digest, episode in episodes:
        broken = _not_finite(episode)
        scores = {} if broken else measure(episode, limits, bodies(episode))
        reasons = [] if episode.success else [f"it failed: {episode.failure}"]
        reasons += [f"NaN or infinite numbers in {', '.join(broken)}"] if broken else _reasons(scores, limits)
        # What is rejected itself makes no other one superfluous.
        traces.append(_Trace(np.zeros(0), np.zeros(0)) if reasons else _trace(episode))
        found.append(Quality(name, digest, scores, tuple(reasons)))
    for later, earlier in _repeats(traces, limits).items():
        quality = found[later]
        found[later] = replace(quality, reasons=(*quality.reasons, f"it is {found[earlier].name} again"))
    return found


def _not_finite(episode: Episode) -> list[str]:
    """Names of the arrays of an episode in which a number is none."""
    return [name for name in MEASURED if not np.isfinite(getattr(episode, name)).all()]


def measure(episode: Episode, limits: QualityLimits, bodies: Mapping[str, Pieces]) -> dict[str, float]:
    """Scores of one demonstration, by name of the limit they belong to."""
    poses, velocities = episode.object_poses_w.astype(np.float64), episode.object_velocities_w[..., :3]
    joints = episode.joint_pos
    if len(joints):
        poses = np.concatenate([poses, episode.final_object_poses_w[None]])
        joints = np.concatenate([joints, episode.final_joint_pos[None]])
        velocities = np.concatenate([velocities, velocities[-1:]])  # that after the last action was not recorded
    steps = np.diff(poses[..., :3], axis=0) * episode.fps
    kicks = steps - (velocities[1:] + velocities[:-1]) / 2
    scores = {
        "steps": float(len(episode.action)),
        "object_speed": float(np.linalg.norm(steps, axis=-1).max(initial=0.0)),
        "object_kick": float(np.linalg.norm(kicks, axis=-1).max(initial=0.0)),
        "joint_speed": float(np.abs(np.diff(joints, axis=0)).max(initial=0.0) * episode.fps),
        "below_support_m": float(_sunk(episode, poses, bodies)),
    }
    if len(bodies) > 1:
        scores["overlap_m"] = _overlap(episode, poses, bodies)
    if len(episode.seam):
        scores["seam"] = float(episode.seam.min())
        scores["low_seam_share"] = float((episode.seam < limits.seam).mean())
    return scores


def _reasons(scores: Mapping[str, float], limits: QualityLimits) -> list[str]:
    said = {
        "object_speed": "an object moves at {:.2f} m/s",
        "object_kick": "an object is {:.2f} m/s off its velocity",
        "joint_speed": "a joint moves at {:.2f} rad/s",
        "below_support_m": "an object is {:.4f} m below the support",
        "overlap_m": "two objects are {:.4f} m inside each other",
        "low_seam_share": "borders look composited in {:.2f} of the frames",
    }
    return [
        f"{text.format(scores[name])}, limit {getattr(limits, name):g}"
        for name, text in said.items()
        if name in scores and not scores[name] <= getattr(limits, name)
    ]


def _sunk(episode: Episode, poses: np.ndarray, bodies: Mapping[str, Pieces]) -> float:
    """How deep the lowest corner of any object gets below z = 0 [m]; its centre, where its shape is not known."""
    deepest = 0.0
    for i, key in enumerate(episode.object_keys):
        corners = np.concatenate([piece.points for piece in bodies[key]]) if key in bodies else np.zeros((1, 3))
        heights = poses[:, i, 2:3] + matrix_from_quat_xyzw(poses[:, i, 3:])[:, 2] @ corners.T
        deepest = max(deepest, float(-heights.min(initial=0.0)))
    return deepest


def _overlap(episode: Episode, poses: np.ndarray, bodies: Mapping[str, Pieces]) -> float:
    """How deep two objects are inside each other at worst [m]: the shortest way out along a face, as ``signed_distances`` has it."""
    from phototwin.build.layout import make_solids
    from phototwin.kernels.signed_distance import signed_distances

    known = [i for i, key in enumerate(episode.object_keys) if key in bodies]
    solids = make_solids([tuple(bodies[episode.object_keys[i]]) for i in known])
    T = np.tile(np.eye(4), (len(poses), len(known), 1, 1))
    T[..., :3, :3], T[..., :3, 3] = matrix_from_quat_xyzw(poses[:, known, 3:]), poses[:, known, :3]
    moved = np.abs(np.diff(T, axis=0)).max((1, 2, 3), initial=0.0) > STILL_M
    deepest = 0.0
    for t in np.flatnonzero(np.append(True, moved)[: len(T)]):
        _, _, distance = signed_distances(solids, T[t], 0.0)
        deepest = max(deepest, -float(distance.min(initial=0.0)))
    return deepest


def _trace(episode: Episode) -> _Trace:
    count = len(episode.joint_pos)
    if not count:
        return _Trace(np.zeros(0), np.zeros(0))
    rows = np.linspace(0, count - 1, SAMPLES).round().astype(int)
    joints = episode.joint_pos[rows].astype(np.float64).ravel()
    return _Trace(joints, episode.object_poses_w[0, :, :3].astype(np.float64).ravel())


def _repeats(traces: Sequence[_Trace], limits: QualityLimits) -> dict[int, int]:
    """Index of each demonstration that is an earlier one again, and of that one, which is none itself; by a tree, as all pairs of thousands take minutes."""
    from scipy.spatial import KDTree

    alike: dict[tuple[int, int], list[int]] = {}
    for i, trace in enumerate(traces):
        if len(trace.joints) and np.isfinite(trace.joints).all() and np.isfinite(trace.start_m).all():
            alike.setdefault((len(trace.joints), len(trace.start_m)), []).append(i)
    found: dict[int, int] = {}
    for (width, starts), members in alike.items():
        tree = KDTree(np.stack([traces[i].joints for i in members]))
        near = tree.query_ball_point(tree.data, limits.apart_rad * np.sqrt(width), return_sorted=True)
        for place, i in enumerate(members):
            for other in (members[n] for n in near[place] if n < place):
                apart = np.abs(traces[i].start_m - traces[other].start_m).max(initial=0.0) if starts else 0.0
                if other not in found and apart <= limits.apart_m:
                    found[i] = other
                    break
    return found
