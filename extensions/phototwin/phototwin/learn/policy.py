"""A policy as a value: what kind, made from demonstrations, saved to a folder and read back. Every kind has ``loss(batch)`` and ``chunks(rgb, state)``."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, replace
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError

from phototwin.data.lerobot import IMAGE_KEY
from phototwin.data.store import write_bytes
from phototwin.errors import InputError
from phototwin.learn.cloning import LABELS, CloningPolicy
from phototwin.learn.config import PolicyConfig, PolicyFacts, check_policy, read_shown
from phototwin.learn.demos import ACTION, MARKS, STATE, Demos
from phototwin.learn.export import export_onnx
from phototwin.learn.eye import KEYPOINTS, MARK_STD
from phototwin.learn.lerobot_policies import LerobotPolicy
from phototwin.learn.spaces import arm_of, joint_actions, tool_state

FACTS_FILE = "phototwin.json"
"""Beside the weights: what the policy was made of, and what it needs to drive a robot."""
WEIGHTS_FILE, SCRIPT_FILE = "cloning.pt", "cloning.torchscript"
"""Weights, and the same network as a program that torch runs without this package: ``torch.jit.load(FILE).chunks(rgb, state)``."""
ONNX_FILES = {"bc": "cloning.onnx", "act": "act.onnx"}
"""The whole of ``chunks`` for programs without torch; Diffusion Policy draws noise at every call and is not written so."""
STATS_STRIDE = 17
"""Every how many frames the statistics of the images are taken."""


def make_policy(config: PolicyConfig, demos: Demos) -> Any:
    """A policy that has learned nothing yet but the units of the demonstrations.

    Raises:
        InputError: As ``check_policy``.
    """
    check_policy(config)
    stats = {name: _stats(rows) for name, rows in ((STATE, demos.state), (ACTION, demos.action), (MARKS, demos.marks))}
    if config.kind == "bc":
        units = {name: (stats[name]["mean"], stats[name]["std"]) for name in (STATE, ACTION)}
        units[MARKS] = (stats[MARKS]["mean"], np.full(demos.marks.shape[1], MARK_STD))
        return CloningPolicy(config.chunk, demos.places.shape[1] // 2, units)
    stats[IMAGE_KEY] = image_stats(demos.rgb[::STATS_STRIDE])
    return LerobotPolicy(config.kind, config.size, config.image_px, config.chunk, stats)


def image_stats(rgb: np.ndarray) -> dict[str, np.ndarray]:
    """LeRobot's statistics (3, 1, 1) in 0..1 of frames (N, H, W, 3) uint8; exact however many there are, as they are counted, not added up."""
    counts = np.zeros((3, 256), np.int64)
    for frame in rgb:
        counts += np.stack([np.bincount(frame[..., c].ravel(), minlength=256) for c in range(3)])
    share, values = counts / counts.sum(1, keepdims=True), np.arange(256) / 255.0
    mean = share @ values
    std = np.sqrt(np.maximum(share @ values**2 - mean**2, 0.0))
    least, most = (counts > 0).argmax(1) / 255.0, 1.0 - (counts[:, ::-1] > 0).argmax(1) / 255.0
    return {name: value.reshape(3, 1, 1).astype(np.float32) for name, value in _bounded(mean, std, least, most).items()}


def _stats(values: np.ndarray) -> dict[str, np.ndarray]:
    """LeRobot's statistics of rows."""
    rows = values.astype(np.float64)  # a sum of float32 stops growing at some length
    found = _bounded(rows.mean(0), rows.std(0), rows.min(0), rows.max(0))
    return {name: value.astype(np.float32) for name, value in found.items()}


def _bounded(mean: np.ndarray, std: np.ndarray, least: np.ndarray, most: np.ndarray) -> dict[str, np.ndarray]:
    """What hardly moves must not be blown up."""
    return {"mean": mean, "std": np.maximum(std, 1e-3), "min": least, "max": np.maximum(most, least + 1e-3)}


def save_policy(policy: Any, facts: PolicyFacts, folder: Path) -> None:
    """Write a policy into ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    given = (torch.zeros(2, 3, facts.config.image_px, facts.config.image_px), torch.zeros(2, policy.states))
    if isinstance(policy, LerobotPolicy):
        policy.save(folder)
    else:
        torch.save(policy.state_dict(), folder / WEIGHTS_FILE)
        torch.jit.trace_module(policy, {"chunks": given}).save(str(folder / SCRIPT_FILE))
    if facts.config.kind in ONNX_FILES:
        export_onnx(policy, given, folder / ONNX_FILES[facts.config.kind])
    # Last and at once: where it is, the policy is whole.
    write_bytes(folder / FACTS_FILE, (json.dumps(asdict(facts), indent=1) + "\n").encode())


def load_policy(folder: Path) -> tuple[Any, PolicyFacts]:
    """What ``save_policy`` wrote, ready to drive.

    Raises:
        InputError: There is no policy there, or one that another version has written.
    """
    file = Path(folder) / FACTS_FILE
    if not file.is_file():
        raise InputError(f"There is no policy in '{folder}' ({FACTS_FILE} is missing): give the folder of a training.")
    try:
        value: dict[str, Any] = json.loads(file.read_text())
        config = PolicyConfig(**value.pop("config"))
        shown = read_shown(value.pop("shown"))
        value = {name: tuple(v) if isinstance(v, list) else v for name, v in value.items()}
        facts = PolicyFacts(config=config, shown=shown, **value)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"'{file}' is not what this version writes of a policy ({error}): train it again with scripts/train.py."
        ) from error
    try:
        policy = _load_cloning(Path(folder), config) if config.kind == "bc" else LerobotPolicy.load(Path(folder))
    except (OSError, EOFError, RuntimeError, KeyError, ValueError, UnpicklingError, SafetensorError) as error:
        raise InputError(
            f"The weights in '{folder}' cannot be read ({error!s:.300}): copy the whole folder of the training, or train again."
        ) from error
    return policy.eval(), replace(facts, digest=policy_sha256(policy, facts.config))


def _load_cloning(folder: Path, config: PolicyConfig) -> CloningPolicy:
    state = torch.load(folder / WEIGHTS_FILE, weights_only=True)
    stats = {name: (state[f"units.{label}.mean"], state[f"units.{label}.std"]) for name, label in LABELS.items()}
    policy = CloningPolicy(config.chunk, len(state["net.look.point.bias"]) - KEYPOINTS, stats)
    policy.load_state_dict(state)
    return policy


def policy_sha256(policy: Any, config: PolicyConfig) -> str:
    """What tells one policy from another: SHA-256 of its config and of the names and numbers of its weights and units."""
    digest = hashlib.sha256(json.dumps(asdict(config), sort_keys=True).encode())
    units = policy.units() if isinstance(policy, LerobotPolicy) else {}  # our own network's are among its weights
    for name, value in sorted({**policy.state_dict(), **units}.items()):
        digest.update(name.encode() + np.ascontiguousarray(value.cpu().numpy()).tobytes())
    return digest.hexdigest()


def act(policy: Any, facts: PolicyFacts, rgb: np.ndarray, joints: np.ndarray) -> np.ndarray:
    """Joint commands and gripper (B, H, J + 1) float32 for frames (B, h, w, 3) uint8 of any size and joint readings (B, S)."""
    import cv2

    px = facts.config.image_px
    small = np.stack([cv2.resize(frame, (px, px), interpolation=cv2.INTER_AREA) for frame in rgb])
    in_tool = facts.config.space == "tool"
    state = tool_state(arm_of(facts.robot), joints, facts.state_names) if in_tool else joints
    with torch.inference_mode():
        seen = torch.from_numpy(small).permute(0, 3, 1, 2).float() / 255.0
        told = policy.chunks(seen, torch.as_tensor(state, dtype=torch.float32)).float().numpy()
    return joint_actions(arm_of(facts.robot), told, joints, facts.state_names) if in_tool else told
