"""A batch of attempts in one environment: reset; for every step plan, act, look, judge."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch

from phototwin.episode import Episode
from phototwin.errors import PlanError
from phototwin.frames import matrix_from_quat_xyzw, quat_xyzw_from_matrix
from phototwin.plan.drives import lead_commands
from phototwin.plan.randomize_draw import draw_to_json
from phototwin.plan.task import describe_task
from phototwin.plan.waypoints import JointPlan, plan_step
from phototwin.scene import Camera
from phototwin_tasks.film import Film
from phototwin_tasks.generate.failures import plan_failure
from phototwin_tasks.looks import Looks, matrices
from phototwin_tasks.mdp.observations import object_pose, object_velocity, tool_pose
from phototwin_tasks.mdp.states import bottom
from phototwin_tasks.memory import begin_step
from phototwin_tasks.randomization import attempt_draw
from phototwin_tasks.skills import lasting_hold, step_holds, watch_steps
from phototwin_tasks.twin_env import TwinEnv

SETTLE_S = 0.5
"""Time before planning in which the objects come to rest."""
HOLD_S = 0.3
"""Time after a plan's end in which the last command is held: success is judged at rest."""
MOST_S = 60.0
"""A step of a task that takes longer has gone wrong."""
BYSTANDER_M, BYSTANDER_RAD = 0.03, 0.35
"""A thing that no step is about and that was moved or tilted further than this was hit."""
GRASPED_M = 0.03
"""An object that never rose this far above its support was not grasped."""


@dataclass
class _Record:
    """What one attempt has seen so far.

    Attributes:
        attempt: Its index.
        step: Index of the task's step it is at.
        plan: The motion of that step; None before the first.
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
    started: int = 0
    ended: bool = False
    success: bool = False
    failure: str = ""
    rest_m: float = 0.0
    highest_m: float = 0.0
    began: dict[str, np.ndarray] = field(default_factory=dict)
    rows: dict[str, list[np.ndarray]] = field(default_factory=dict)
    final: dict[str, np.ndarray] = field(default_factory=dict)


def rollout(
    env: TwinEnv,
    attempts: Sequence[int],
    looks: Looks | None,
    on_step: Callable[[float], None] = lambda share: None,
    provenance: dict[str, Any] | None = None,
) -> list[Episode]:
    """One episode per environment. Each step of the task is planned from the state that the one before has left.

    Args:
        env: The environment; its terminations must not end episodes early.
        attempts: Index of the attempt of each environment.
        looks: Makes frames when given.
        on_step: Told the share of the batch that is done.
        provenance: Recorded with every episode.
    """
    env.attempt[:] = torch.as_tensor(attempts, device=env.device)
    env.reset()
    command = _home_command(env)
    for _ in range(_steps(env, SETTLE_S)):
        env.step(command)
    film = Film(env, looks, attempts)
    records = [_Record(attempt) for attempt in attempts]
    _plan(env, records, range(len(records)), 0)
    t = 0
    while running := [i for i, record in enumerate(records) if not record.ended]:
        for i in running:
            command[i] = torch.from_numpy(_action(records[i], t)).to(command)
        states = _states(env) | {"action": command.cpu().numpy().copy()}
        _record(records, running, states)
        film.see(running, t)
        env.step(command)
        t += 1
        _watch(env, records, running)
        arrived = [i for i in running if t - records[i].started == _length(env, records[i])]
        if arrived:
            _judge(env, records, arrived)
            _plan(env, records, [i for i in arrived if not records[i].ended], t)
        on_step(_share(env, records, t))
    return [_episode(env, i, record, film, provenance or {}) for i, record in enumerate(records)]


def _steps(env: TwinEnv, seconds: float) -> int:
    """Control steps in a time."""
    return round(seconds / env.step_dt)


def _length(env: TwinEnv, record: _Record) -> int:
    """Control steps of the plan it follows."""
    return 0 if record.plan is None else len(record.plan.q) + _steps(env, HOLD_S)


def _share(env: TwinEnv, records: list[_Record], t: int) -> float:
    """How much of the batch is done: the attempt that is furthest behind counts."""
    count = len(env.task.steps)
    shares = [1.0 if r.ended else (r.step + (t - r.started) / _length(env, r)) / count for r in records]
    return min(shares)


def _home_command(env: TwinEnv) -> torch.Tensor:
    home = torch.tensor([*env.robot.home_rad, 1.0], device=env.device)
    return home.repeat(env.num_envs, 1)


def _action(record: _Record, t: int) -> np.ndarray:
    plan = record.plan
    assert plan is not None
    row = min(t - record.started, len(plan.q) - 1)
    return np.append(plan.q[row], 1.0 if plan.gripper_open[row] else -1.0).astype(np.float32)


def _plan(env: TwinEnv, records: list[_Record], which: Sequence[int], t: int) -> None:
    """Motions of the step that each of ``which`` is at, from what the simulator says now."""
    if not which:
        return
    poses = {item.key: matrices(object_pose(env, item.key)) for item in env.twin.objects}
    joints = _arm_positions(env)
    at = [records[i].step for i in which]
    begin_step(env, torch.tensor(list(which), device=env.device), torch.tensor(at, device=env.device))
    for i in which:
        record, step = records[i], env.task.steps[records[i].step]
        # The first step's draw is that of its attempt alone, whatever follows it.
        words = [env.run_seed, record.attempt, record.step][: 2 + (record.step > 0)]
        seed = int(np.random.SeedSequence(words).generate_state(1)[0])
        held = record.plan.held if record.plan else None
        try:
            plan = plan_step(env.cell, step, {key: T[i] for key, T in poses.items()}, joints[i], seed, held)
            record.plan = replace(plan, q=lead_commands(env.robot, joints[i], plan.q, env.cell.fps))
            record.started, record.highest_m = t, 0.0
            record.began = {key: T[i] for key, T in poses.items()}
            record.rest_m = float(bottom(env, step.object)[i])
        except PlanError as error:
            record.ended, record.failure = True, plan_failure(str(error))
        if not record.ended and _length(env, record) > _steps(env, MOST_S):
            record.ended, record.failure = True, f"timeout: the motion would take more than {MOST_S:.0f} s"


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


def _record(records: list[_Record], running: list[int], states: dict[str, np.ndarray]) -> None:
    for i in running:
        for name, value in states.items():
            records[i].rows.setdefault(name, []).append(value[i].copy())


def _watch(env: TwinEnv, records: list[_Record], running: list[int]) -> None:
    """Keep how high the object of its step has risen in each running attempt, and what is only true for a moment."""
    watch_steps(env)
    heights = {key: bottom(env, key).cpu().numpy() for key in {step.object for step in env.task.steps}}
    for i in running:
        record = records[i]
        height = float(heights[env.task.steps[record.step].object][i])
        record.highest_m = max(record.highest_m, height - record.rest_m)


def _judge(env: TwinEnv, records: list[_Record], arrived: list[int]) -> None:
    """Whether the step is done; the next one, or the end of the attempt."""
    states = _states(env)
    steps = env.task.steps
    passed = {k: step_holds(env, steps[k]).cpu().numpy() for k in {records[i].step for i in arrived}}
    lasting = lasting_hold(env, len(steps) - 1).cpu().numpy()
    for i in arrived:
        record = records[i]
        last = record.step == len(steps) - 1
        if not passed[record.step][i]:
            record.failure = _why_failed(env, record, states["object_poses_w"][i])
        elif last and not lasting[i]:
            record.failure = "undone"
        elif not last:
            record.step += 1
            continue
        record.success, record.ended, record.final = not record.failure, True, _states_of(i, states)


def _why_failed(env: TwinEnv, record: _Record, poses_w: np.ndarray) -> str:
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


def _episode(env: TwinEnv, index: int, record: _Record, film: Film, provenance: dict[str, Any]) -> Episode:
    keys = tuple(item.key for item in env.twin.objects)
    joints = tuple(env.scene["robot"].joint_names)
    widths = {"joint_pos": (len(joints),), "joint_vel": (len(joints),), "tcp_pose_w": (7,)}
    widths |= {
        "object_poses_w": (len(keys), 7),
        "object_velocities_w": (len(keys), 6),
        "action": (len(env.robot.arm_joints) + 1,),
    }
    rows: dict[str, Any] = {
        name: np.stack(record.rows[name]) if record.rows else np.zeros((0, *width), np.float32)
        for name, width in widths.items()
    }
    final = _states_of(index, _states(env)) | record.final
    camera = film.camera(index)
    # What a failed attempt looked like at its end is enough: its frames are not stored.
    seen: dict[str, Any] = (
        film.frames(index) if record.success else {"rgb": _no_frames(camera), "last_rgb": film.last(index)}
    )
    base = np.append(env.T_world_base[:3, 3], quat_xyzw_from_matrix(env.T_world_base[:3, :3])).astype(np.float32)
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
        base_pose_w=base,
        K_px=camera.K_px,
        T_world_camera=camera.T_world_camera,
        provenance=provenance | {"draw": draw_to_json(attempt_draw(env, record.attempt))},
        **rows,
        **seen,
    )


def _no_frames(camera: Camera) -> np.ndarray:
    return np.zeros((0, camera.height, camera.width, 3), np.uint8)
