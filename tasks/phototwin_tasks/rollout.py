"""A batch of attempts in one environment: reset, plan, act, look, judge."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from phototwin.blend.blend import Frames
from phototwin.episode import Episode
from phototwin.errors import PlanError
from phototwin.frames import quat_xyzw_from_matrix
from phototwin.plan.grasp import Grasps
from phototwin.plan.waypoints import JointPlan, plan_attempt
from phototwin.scene import Camera
from phototwin_tasks.looks import Looks, attempt_blenders, matrices, render
from phototwin_tasks.mdp.observations import lowest_point, object_pose, object_velocity, tool_pose
from phototwin_tasks.twin_env import CONTROL_HZ, TwinEnv

SETTLE_STEPS = 10
"""Control steps before planning in which the objects come to rest."""
HOLD_STEPS = 6
"""Control steps after the plan's end in which the last command is held: success is judged at rest."""
GRASPED_M = 0.03
"""An object that never rose this far above its support was not grasped."""


@dataclass
class _Record:
    """What one attempt has seen so far."""

    plan: JointPlan | None
    failure: str
    frames: list[Frames] = field(default_factory=list)
    rows: dict[str, list[np.ndarray]] = field(default_factory=dict)
    highest_m: float = 0.0
    final: dict[str, np.ndarray] = field(default_factory=dict)
    success: bool = False

    @property
    def length(self) -> int:
        return 0 if self.plan is None else len(self.plan.q) + HOLD_STEPS


def rollout(
    env: TwinEnv,
    attempts: Sequence[int],
    success: Callable[[TwinEnv], torch.Tensor],
    grasps: Grasps,
    looks: Looks | None,
    on_step: Callable[[float], None] = lambda share: None,
    provenance: dict[str, Any] | None = None,
) -> list[Episode]:
    """One episode per environment.

    Args:
        env: The environment; its terminations must not end episodes early.
        attempts: Index of the attempt of each environment.
        success: The task's success term.
        grasps: Grasps of the task's object.
        looks: Makes frames when given.
        on_step: Told the share of the batch that is done.
        provenance: Recorded with every episode.
    """
    env.attempt[:] = torch.as_tensor(attempts, device=env.device)
    env.reset()
    blenders = [] if looks is None else attempt_blenders(looks, env.run_seed, list(attempts))
    command = _home_command(env)
    for _ in range(SETTLE_STEPS):
        env.step(command)
    records = [_plan(env, i, attempt, grasps) for i, attempt in enumerate(attempts)]
    rest_m = lowest_point(env, env.task.object).cpu().numpy()
    steps = max(record.length for record in records)
    for t in range(steps):
        for i, record in enumerate(records):
            if record.plan is not None:
                row = min(t, len(record.plan.q) - 1)
                command[i] = torch.from_numpy(_action(record.plan, row)).to(command)
        running = [i for i, record in enumerate(records) if t < record.length]
        states = _states(env) | {"action": command.cpu().numpy().copy()}
        _record(records, running, states, [] if looks is None else render(env, looks, blenders, t))
        env.step(command)
        height = lowest_point(env, env.task.object).cpu().numpy() - rest_m
        for i in running:
            records[i].highest_m = max(records[i].highest_m, float(height[i]))
        ended = [i for i in running if t == records[i].length - 1]
        if ended:
            _judge(env, records, ended, success)
        on_step((t + 1) / steps)
    cameras = [blender.plate.camera for blender in blenders] or [env.crop.camera] * len(records)
    return [_episode(env, i, attempts[i], record, cameras[i], provenance or {}) for i, record in enumerate(records)]


def _home_command(env: TwinEnv) -> torch.Tensor:
    home = torch.tensor([*env.robot.home_rad, 1.0], device=env.device)
    return home.repeat(env.num_envs, 1)


def _action(plan: JointPlan, row: int) -> np.ndarray:
    return np.append(plan.q[row], 1.0 if plan.gripper_open[row] else -1.0).astype(np.float32)


def _plan(env: TwinEnv, index: int, attempt: int, grasps: Grasps) -> _Record:
    poses = {item.key: matrices(object_pose(env, item.key)[index]) for item in env.twin.objects}
    seed = int(np.random.SeedSequence([env.run_seed, attempt]).generate_state(1)[0])
    joints = _arm_positions(env)[index]
    try:
        plan = plan_attempt(
            env.task, env.twin, poses, env.robot, env.T_world_base, env.arm, seed, CONTROL_HZ, joints, grasps
        )
        return _Record(plan, "")
    except PlanError as error:
        return _Record(None, f"plan: {error}")


def _arm_positions(env: TwinEnv) -> np.ndarray:
    robot = env.scene["robot"]
    columns = [robot.joint_names.index(name) for name in env.robot.arm_joints]
    return robot.data.joint_pos.torch[:, columns].cpu().numpy().astype(np.float64)


def _states(env: TwinEnv) -> dict[str, np.ndarray]:
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


def _states_of(index: int, states: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: value[index].copy() for name, value in states.items()}


def _record(
    records: list[_Record], running: list[int], states: dict[str, np.ndarray], frames: Sequence[Frames]
) -> None:
    for i in running:
        for name, value in states.items():
            records[i].rows.setdefault(name, []).append(value[i].copy())
        if frames:
            records[i].frames.append(frames[i])


def _judge(env: TwinEnv, records: list[_Record], ended: list[int], success: Callable[[TwinEnv], torch.Tensor]) -> None:
    passed = success(env).cpu().numpy()
    states = _states(env)
    for i in ended:
        record = records[i]
        record.final = _states_of(i, states)
        record.success = bool(passed[i])
        if not record.success:
            held = env.task.family == "lift"
            record.failure = "grasp" if record.highest_m < GRASPED_M else ("slip" if held else "placement")


def _episode(
    env: TwinEnv, index: int, attempt: int, record: _Record, camera: Camera, provenance: dict[str, Any]
) -> Episode:
    keys = tuple(item.key for item in env.twin.objects)
    joints = tuple(env.scene["robot"].joint_names)
    widths = {"joint_pos": (len(joints),), "joint_vel": (len(joints),), "tcp_pose_w": (7,)}
    widths |= {
        "object_poses_w": (len(keys), 7),
        "object_velocities_w": (len(keys), 6),
        "action": (len(env.robot.arm_joints) + 1,),
    }
    rows = {
        name: np.stack(record.rows[name]) if record.rows else np.zeros((0, *width), np.float32)
        for name, width in widths.items()
    }
    final = _states_of(index, _states(env)) | record.final
    base = np.append(env.T_world_base[:3, 3], quat_xyzw_from_matrix(env.T_world_base[:3, :3])).astype(np.float32)
    task = {"family": env.task.family, "object": env.task.object}
    if env.task.target:
        task |= {"relation": str(env.task.relation), "target": env.task.target}
    return Episode(
        attempt=attempt,
        seed=env.run_seed,
        success=record.success,
        failure=record.failure,
        instruction=env.task.text,
        task=task,
        fps=float(CONTROL_HZ),
        robot=env.robot.name,
        joint_names=joints,
        object_keys=keys,
        rgb=_stack(record, "rgb", camera, 3),
        raw_rgba=_stack(record, "raw_rgba", camera, 4),
        seam=np.array([frame.seam for frame in record.frames], np.float32),
        action_names=(*env.robot.arm_joints, "gripper"),
        final_joint_pos=final["joint_pos"],
        final_object_poses_w=final["object_poses_w"],
        base_pose_w=base,
        K_px=camera.K_px,
        T_world_camera=camera.T_world_camera,
        provenance=provenance,
        **rows,
    )


def _stack(record: _Record, name: str, camera: Camera, channels: int) -> np.ndarray:
    """One image of every frame, (T, H, W, channels) uint8; no rows where none was made."""
    images = [getattr(frame, name) for frame in record.frames]
    if not images or images[0] is None:
        return np.zeros((0, camera.height, camera.width, channels), np.uint8)
    return np.stack(images)
