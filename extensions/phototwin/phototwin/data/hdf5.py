"""Episode <-> HDF5 group: the layout that Isaac Lab's recorder and robomimic share.

One group a demonstration, T steps::

    actions (T, A)  rewards (T,)  dones (T,)
    executed (T, A)                                                  where noise was added to the actions: what the robot was told
    obs/        rgb (T, H, W, 3)  joint_pos  joint_vel  tcp_pose (T, 7)  object_poses (T, 7 N)      before action t
    next_obs/   the same without rgb                                                                after action t
    states/     articulation/robot/{root_pose, root_velocity, joint_position, joint_velocity}       after action t
                rigid_object/<key>/{root_pose, root_velocity}
    initial_state/   the same, one row                                                              before action 0
    camera/     K_px (3, 3)  T_world_camera (4, 4)
    raw/        rgba (T, H, W, 4)                                    on request: what was rendered, before it was blended,
                depth_mm (T, H, W)  labels (T, H, W)                 depth of what is seen; 0, i + 1 of object i, 255 the robot
    quality/    seam (T,)                                            how real the borders of what was composited look
    fingerprint/  rgb (T, 8)  and as much for each of raw/           first bytes of each frame's SHA-256

and as attributes ``num_samples``, ``success``, ``seed``, ``attempt``, ``instruction``, ``state_sha256`` and the rest of
``Episode``, and ``content_sha256``, a digest of each dataset that is no image. ``states`` follow Isaac Lab (its replay compares row t with the simulator after action t). After the last
action only positions and object poses were recorded; the last rows of velocities and of the tool pose are those before it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from phototwin.data.fingerprint import hash_frames
from phototwin.episode import Episode

FORMAT_VERSION = 1
"""Isaac Lab's version of the layout with scalar-last quaternions; a file without it is read as scalar-first."""
CHUNK_FRAMES = 8
"""Frames a chunk of images holds."""
CHUNK_STRIP_BYTES = 10_000
"""Bytes of one frame in a chunk. The same strip of consecutive frames then lies within deflate's 32 KiB window, and the
still background of a photo costs almost nothing: 7 times smaller and 7 times faster to write than a chunk a frame."""
GZIP_LEVEL = 4
OUR_MASKS = ("train", "valid")
RAW_NAMES = ("rgba", "depth_mm", "labels")
"""What ``raw/`` holds where it was asked for, as ``raw_rgba`` ... of an episode."""
JSON_ATTRIBUTES = ("task", "joint_names", "action_names", "object_keys", "provenance")
CONTENT = "content_sha256"
"""Attribute with the digests of ``content_sha256`` as JSON."""
DIGEST_DIGITS = 16
PLAIN_ATTRIBUTES = ("task_index", "attempt", "seed", "success", "failure", "instruction", "fps", "robot")


def state_sha256(episode: Episode) -> str:
    """Digest of everything that physics and the controller decided: equal digests mean the same episode bit by bit."""
    digest = hashlib.sha256()
    for name in (
        "joint_pos",
        "joint_vel",
        "tcp_pose_w",
        "action",
        "object_poses_w",
        "object_velocities_w",
        "final_joint_pos",
        "final_object_poses_w",
        "base_pose_w",
    ):
        value = np.ascontiguousarray(getattr(episode, name), dtype=np.float32)
        digest.update(f"{name}{value.shape}".encode())
        digest.update(value.tobytes())
    return digest.hexdigest()


def content_sha256(group: Any) -> dict[str, str]:
    """A digest of each dataset of a demonstration that has fewer than three axes, by path, and of our ``attributes``: the first ``DIGEST_DIGITS`` of SHA-256."""
    found: dict[str, str] = {}

    def digest(path: str, item: Any) -> None:
        if hasattr(item, "dtype") and item.ndim < 3 and not path.startswith("fingerprint/"):
            value = np.ascontiguousarray(item[()])
            about = f"{value.dtype.str}{value.shape}".encode()
            found[path] = hashlib.sha256(about + value.tobytes()).hexdigest()[:DIGEST_DIGITS]

    group.visititems(digest)
    names = (*PLAIN_ATTRIBUTES, *JSON_ATTRIBUTES, "num_samples", "state_sha256")
    ours = {name: _plain(group.attrs[name]) for name in names if name in group.attrs}
    found["attributes"] = hashlib.sha256(json.dumps(ours).encode()).hexdigest()[:DIGEST_DIGITS]
    return found


def changes(group: Any, episode: Episode, frames: bool = True) -> list[str]:
    """Paths of what is not what was recorded, ``state_sha256`` and images among them; what was added since, or recorded without digests, is not looked at.

    Args:
        group: A demonstration.
        episode: What was read from it.
        frames: Whether its images were read.
    """
    wrong = [] if state_sha256(episode) == group.attrs["state_sha256"] else ["state_sha256"]
    if CONTENT in group.attrs:
        told, seen = json.loads(group.attrs[CONTENT]), content_sha256(group)
        wrong += sorted(path for path in told if told[path] != seen.get(path))
    images = {"rgb": episode.rgb} | {name: getattr(episode, f"raw_{name}") for name in RAW_NAMES}
    for name, seen in images.items() if frames else ():
        mark = f"fingerprint/{name}"
        if mark in group and not np.array_equal(hash_frames(seen), group[mark][:]):
            wrong.append("obs/rgb" if name == "rgb" else f"raw/{name}")
    if frames and "next_obs/rgb" in group and "fingerprint/rgb" in group:
        marks = group["fingerprint/rgb"][:]
        if not np.array_equal(hash_frames(group["next_obs/rgb"][:]), np.concatenate([marks[1:], marks[-1:]])):
            wrong.append("next_obs/rgb")
    return wrong


def write_episode(group: Any, episode: Episode) -> None:
    """Fill an empty ``h5py.Group`` with one episode; frames only where it succeeded."""
    steps = len(episode.action)
    for name in PLAIN_ATTRIBUTES:
        group.attrs[name] = getattr(episode, name)
    for name in JSON_ATTRIBUTES:
        group.attrs[name] = json.dumps(getattr(episode, name), default=str)
    group.attrs["num_samples"] = steps
    group.attrs["state_sha256"] = state_sha256(episode)
    last = np.arange(steps) == steps - 1
    group["actions"] = np.asarray(episode.action, dtype=np.float32)
    if len(episode.executed):
        group["executed"] = np.asarray(episode.executed, dtype=np.float32)
    group["rewards"] = (last & episode.success).astype(np.float32)
    group["dones"] = last.astype(np.int64)
    obs = {
        "joint_pos": (episode.joint_pos, episode.final_joint_pos),
        "joint_vel": (episode.joint_vel, None),
        "tcp_pose": (episode.tcp_pose_w, None),
        "object_poses": (
            episode.object_poses_w.reshape(steps, 7 * len(episode.object_keys)),
            episode.final_object_poses_w.reshape(-1),
        ),
    }
    for name, (value, final) in obs.items():
        group[f"obs/{name}"] = np.asarray(value, dtype=np.float32)
        group[f"next_obs/{name}"] = _after(value, final)
    if episode.success and len(episode.rgb):
        _write_images(group, "obs/rgb", episode.rgb)
        group["fingerprint/rgb"] = hash_frames(episode.rgb)
        for name in RAW_NAMES:
            if len(images := getattr(episode, f"raw_{name}")):
                _write_images(group, f"raw/{name}", images)
                group[f"fingerprint/{name}"] = hash_frames(images)
    if len(episode.seam):
        group["quality/seam"] = np.asarray(episode.seam, dtype=np.float32)
    if steps:
        _write_states(group, episode)
    group["camera/K_px"] = np.asarray(episode.K_px, dtype=np.float64)
    group["camera/T_world_camera"] = np.asarray(episode.T_world_camera, dtype=np.float64)
    group.attrs[CONTENT] = json.dumps(content_sha256(group))


def read_episode(group: Any, frames: bool = True) -> Episode:
    """The episode that ``write_episode`` put into an ``h5py.Group``; ``rgb`` has no rows where none were stored or wanted."""
    attributes: dict[str, Any] = {name: _plain(group.attrs[name]) for name in PLAIN_ATTRIBUTES if name in group.attrs}
    attributes |= {name: json.loads(group.attrs[name]) for name in JSON_ATTRIBUTES}
    for name in ("joint_names", "action_names", "object_keys"):
        attributes[name] = tuple(attributes[name])
    keys = attributes["object_keys"]
    steps = int(group.attrs["num_samples"])
    velocities = np.zeros((steps, len(keys), 6), dtype=np.float32)
    final_joints, final_poses = (
        np.zeros(len(attributes["joint_names"]), np.float32),
        np.zeros((len(keys), 7), np.float32),
    )
    base = np.array([0, 0, 0, 0, 0, 0, 1], np.float32)
    if steps:
        states, initial = group["states"], group["initial_state"]
        base = initial["articulation/robot/root_pose"][0]
        final_joints = states["articulation/robot/joint_position"][-1]
        for i, key in enumerate(keys):
            item = f"rigid_object/{key}"
            velocities[:, i] = np.concatenate(
                [initial[item]["root_velocity"][:], states[item]["root_velocity"][: steps - 1]]
            )
            final_poses[i] = states[item]["root_pose"][-1]
    return Episode(
        rgb=group["obs/rgb"][:] if frames and "rgb" in group["obs"] else np.zeros((0, 0, 0, 3), np.uint8),
        seam=group["quality/seam"][:] if "quality" in group else np.zeros(0, np.float32),
        joint_pos=group["obs/joint_pos"][:],
        joint_vel=group["obs/joint_vel"][:],
        tcp_pose_w=group["obs/tcp_pose"][:],
        action=group["actions"][:],
        executed=group["executed"][:] if "executed" in group else np.zeros((0, 0), np.float32),
        object_poses_w=group["obs/object_poses"][:].reshape(steps, len(keys), 7),
        object_velocities_w=velocities,
        final_joint_pos=final_joints,
        final_object_poses_w=final_poses,
        base_pose_w=base,
        K_px=group["camera/K_px"][:],
        T_world_camera=group["camera/T_world_camera"][:],
        **{f"raw_{name}": group[f"raw/{name}"][:] for name in RAW_NAMES if frames and f"raw/{name}" in group},
        **attributes,
    )


def write_next_frames(group: Any) -> None:
    """Give a demonstration ``next_obs/rgb``: the frames one row later, and the last one again, as none was taken after it."""
    frames = group["obs/rgb"]
    stored = group.create_dataset("next_obs/rgb", frames.shape, np.uint8, chunks=frames.chunks, compression="gzip")
    for t in range(0, len(frames), CHUNK_FRAMES):
        rows = np.minimum(np.arange(t, min(t + CHUNK_FRAMES, len(frames))) + 1, len(frames) - 1)
        part = frames[rows[0] : rows[-1] + 1]
        stored[t : t + len(rows)] = part[rows - rows[0]]


def write_table(
    file: Any, demos: int, steps: int, env_args: dict[str, Any], masks: Mapping[str, Sequence[str]] | None = None
) -> None:
    """Complete an ``h5py.File`` whose ``data`` group holds ``demo_0`` ... : totals, environment, filter keys.

    Every tenth demonstration, from the second on, is for validation; so a longer dataset keeps the split of a shorter one.

    Args:
        file: The file.
        demos: How many demonstrations it holds.
        steps: Their steps together.
        env_args: robomimic's environment.
        masks: Further filter keys and the names that stand in them.
    """
    file.attrs["format_version"] = FORMAT_VERSION
    file["data"].attrs["total"] = steps
    file["data"].attrs["env_args"] = json.dumps(env_args, default=str)
    split = [i for i in range(demos) if i % 10 != 1], range(1, demos, 10)
    ours = {name: [f"demo_{i}" for i in chosen] for name, chosen in zip(OUR_MASKS, split, strict=True)}
    for name, chosen in (ours | dict(masks or {})).items():
        file[f"mask/{name}"] = np.array(chosen, dtype="S16")


def _after(before: np.ndarray, final: np.ndarray | None) -> np.ndarray:
    """Row t holds what row t + 1 of ``before`` does; the last row is ``final``, or the last of ``before`` where nothing was recorded."""
    before = np.asarray(before, dtype=np.float32)
    if not len(before):
        return before
    last = before[-1] if final is None else np.asarray(final, dtype=np.float32)
    return np.concatenate([before[1:], last[None]])


def _write_images(group: Any, name: str, images: np.ndarray) -> None:
    steps, height, *rest = images.shape
    rows = int(np.clip(CHUNK_STRIP_BYTES // (np.prod(rest) * images.itemsize), 1, height))
    chunks = (min(CHUNK_FRAMES, steps), rows, *rest)
    group.create_dataset(name, data=images, chunks=chunks, compression="gzip", compression_opts=GZIP_LEVEL)


def _write_states(group: Any, episode: Episode) -> None:
    steps = len(episode.action)
    robot = {
        "root_pose": (np.broadcast_to(episode.base_pose_w, (steps, 7)), None),
        "root_velocity": (np.zeros((steps, 6)), None),
        "joint_position": (episode.joint_pos, episode.final_joint_pos),
        "joint_velocity": (episode.joint_vel, None),
    }
    values = {f"articulation/robot/{name}": value for name, value in robot.items()}
    for i, key in enumerate(episode.object_keys):
        values[f"rigid_object/{key}/root_pose"] = (episode.object_poses_w[:, i], episode.final_object_poses_w[i])
        values[f"rigid_object/{key}/root_velocity"] = (episode.object_velocities_w[:, i], None)
    for name, (before, final) in values.items():
        group[f"states/{name}"] = _after(before, final)
        group[f"initial_state/{name}"] = np.asarray(before[:1], dtype=np.float32)


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value
