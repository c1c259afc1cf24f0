"""What an attempt has seen so far: its states and actions row by row, why it failed, and the episode it becomes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from phototwin.episode import Episode
from phototwin.frames import matrix_from_quat_xyzw
from phototwin.plan.randomize_draw import draw_to_json
from phototwin.plan.task import describe_task
from phototwin.plan.waypoints import JointPlan
from phototwin.scene import Camera
from phototwin_tasks.film import Film
from phototwin_tasks.mdp.observations import object_pose, object_velocity, tool_pose
from phototwin_tasks.mdp.states import bottom
from phototwin_tasks.randomization import attempt_draw
from phototwin_tasks.skills import watch_steps
from phototwin_tasks.twin_env import TwinEnv

BYSTANDER_M, BYSTANDER_RAD = 0.03, 0.35
"""A thing that no step is about and that was moved or tilted further than this was hit."""
GRASPED_M = 0.03
"""An object that never rose this far above its support was not grasped."""


@dataclass
class Record:
    """What one attempt has seen so far.

    Attributes:
        attempt: Its index.
        step: Index of the task's step it is at.
        plan: The motion of that step; None before the first.
        noise: What is added to its joint positions where noise is wanted, (T, J) [rad].
        started: Control step at which that motion began.
        ended: Whether it is over.
        success: Whether it did all of its task.
        failure: Why not.
        rest_m: Height of the step's object when the step began [m].
        highest_m: How far it rose since [m].
        began: Poses of all objects when the step began, by key.
        rows: States and actions by name.
        final: States at the end.
    """

    attempt: int
    step: int = 0
    plan: JointPlan | None = None
    noise: np.ndarray = field(default_factory=lambda: np.zeros((0, 0), np.float32))
    started: int = 0
    ended: bool = False
    success: bool = False
    failure: str = ""
    rest_m: float = 0.0
    highest_m: float = 0.0
    began: dict[str, np.ndarray] = field(default_factory=dict)
    rows: dict[str, list[np.ndarray]] = field(default_factory=dict)
    final: dict[str, np.ndarray] = field(default_factory=dict)


def control_steps(env: TwinEnv, seconds: float) -> int:
    """Control steps in a time."""
    return round(seconds / env.step_dt)


def home_command(env: TwinEnv) -> torch.Tensor:
    """What keeps every robot where it starts with its fingers open, (N, A)."""
    if env.cfg.control == "tool":
        return torch.zeros_like(env.action_manager.action)
    home = torch.tensor([*env.robot.home_rad, 1.0], device=env.device)
    return home.repeat(env.num_envs, 1)


def read_rows(env: TwinEnv) -> dict[str, np.ndarray]:
    """States of every environment now, (N, ...) by the names of ``Episode``."""
    robot = env.scene["robot"].data
    keys = [item.key for item in env.twin.objects]
    values = {
        "joint_pos": robot.joint_pos.torch,
        "joint_vel": robot.joint_vel.torch,
        "tcp_pose_w": tool_pose(env),
        "object_poses_w": torch.stack([object_pose(env, key) for key in keys], 1),
        "object_velocities_w": torch.stack([object_velocity(env, key) for key in keys], 1),
    }
    return {name: value.cpu().numpy().astype(np.float32) for name, value in values.items()}


def rows_of(index: int, states: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Those of one environment."""
    return {name: value[index].copy() for name, value in states.items()}


def keep_rows(records: list[Record], running: list[int], states: dict[str, np.ndarray]) -> None:
    """Add a row to the records of the environments that are still at it."""
    for i in running:
        for name, value in states.items():
            records[i].rows.setdefault(name, []).append(value[i].copy())


def watch_attempts(env: TwinEnv, records: list[Record], running: list[int]) -> None:
    """Keep how high the object of its step has risen in each running attempt, and what is only true for a moment."""
    watch_steps(env)
    heights = {key: bottom(env, key).cpu().numpy() for key in {step.object for step in env.task.steps}}
    for i in running:
        record = records[i]
        height = float(heights[env.task.steps[record.step].object][i])
        record.highest_m = max(record.highest_m, height - record.rest_m)


def why_failed(env: TwinEnv, record: Record, poses_w: np.ndarray) -> str:
    """The class of a failed step: what its object and the things beside it did; object poses are (O, 7)."""
    step = env.task.steps[record.step]
    for item, pose in zip(env.twin.objects, poses_w, strict=True):
        moved = float(np.linalg.norm(pose[:3] - record.began[item.key][:3, 3]))
        upright = matrix_from_quat_xyzw(pose[3:])[:, 2] @ record.began[item.key][:3, 2]
        tilted = float(np.arccos(np.clip(upright, -1.0, 1.0)))
        if item.key not in (step.object, step.target) and (moved > BYSTANDER_M or tilted > BYSTANDER_RAD):
            return f"collision: the {item.name} was hit"
    if step.skill in ("push", "upright"):
        return "placement"
    if record.highest_m < GRASPED_M:
        return "grasp"
    return "slip" if step.skill == "lift" else "placement"


def make_episode(env: TwinEnv, index: int, record: Record, film: Film, provenance: dict[str, Any]) -> Episode:
    """The episode that an environment's record has become."""
    keys = tuple(item.key for item in env.twin.objects)
    joints = tuple(env.scene["robot"].joint_names)
    widths = {"joint_pos": (len(joints),), "joint_vel": (len(joints),), "tcp_pose_w": (7,)}
    widths |= {
        "object_poses_w": (len(keys), 7),
        "object_velocities_w": (len(keys), 6),
        "action": (len(env.robot.arm_joints) + 1,),
    }
    if "executed" in record.rows:
        widths["executed"] = widths["action"]
    rows: dict[str, Any] = {
        name: np.stack(record.rows[name]) if record.rows else np.zeros((0, *width), np.float32)
        for name, width in widths.items()
    }
    final = rows_of(index, read_rows(env)) | record.final
    camera = film.camera(index)
    # What a failed attempt looked like at its end is enough: its frames are not stored.
    seen: dict[str, Any] = (
        film.frames(index) if record.success else {"rgb": _no_frames(camera), "last_rgb": film.last(index)}
    )
    return Episode(
        attempt=record.attempt,
        seed=env.run_seed,
        success=record.success,
        failure=record.failure,
        instruction=env.task.text,
        task=describe_task(env.task),
        fps=float(round(1.0 / env.step_dt)),
        robot=env.robot.name,
        joint_names=joints,
        object_keys=keys,
        action_names=(*env.robot.arm_joints, "gripper"),
        final_joint_pos=final["joint_pos"],
        final_object_poses_w=final["object_poses_w"],
        base_pose_w=env.base_pose_w,
        K_px=camera.K_px,
        T_world_camera=camera.T_world_camera,
        provenance=provenance | {"draw": draw_to_json(attempt_draw(env, record.attempt))},
        **rows,
        **seen,
    )


def _no_frames(camera: Camera) -> np.ndarray:
    return np.zeros((0, camera.height, camera.width, 3), np.uint8)
