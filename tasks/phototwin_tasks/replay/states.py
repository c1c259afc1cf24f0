"""States of episodes in an environment: written, read back, judged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from phototwin.episode import Episode
from phototwin_tasks.mdp.observations import object_pose, object_velocity
from phototwin_tasks.memory import begin_step
from phototwin_tasks.skills import lasting_hold, step_holds, task_done

if TYPE_CHECKING:
    from phototwin_tasks.twin_env import TwinEnv


@dataclass(frozen=True, eq=False)
class States:
    """Robot and objects over time; the first row is before the first action, the last after the last.

    Attributes:
        joint_pos: (T + 1, J) [rad, m], in the order of the environment's joints.
        joint_vel: (T + 1, J) [rad/s, m/s].
        object_poses_w: (T + 1, O, 7): x, y, z [m], quat_xyzw, in the order of the twin's objects.
        object_velocities_w: (T + 1, O, 6), linear then angular.
    """

    joint_pos: np.ndarray
    joint_vel: np.ndarray
    object_poses_w: np.ndarray
    object_velocities_w: np.ndarray

    def __len__(self) -> int:
        return len(self.joint_pos)

    def row(self, t: int) -> States:
        """Row ``t``, or the last where there are fewer."""
        t = min(t, len(self) - 1)
        return States(self.joint_pos[t], self.joint_vel[t], self.object_poses_w[t], self.object_velocities_w[t])


def states_of(episode: Episode) -> States:
    """The states that an episode recorded; velocities after the last action are those before it."""
    velocities = episode.object_velocities_w
    return States(
        np.concatenate([episode.joint_pos, episode.final_joint_pos[None]]),
        np.concatenate([episode.joint_vel, episode.joint_vel[-1:]]),
        np.concatenate([episode.object_poses_w, episode.final_object_poses_w[None]]),
        np.concatenate([velocities, velocities[-1:]]),
    )


def stacked(rows: Sequence[States]) -> States:
    """One array (N, ...) of rows of several episodes."""
    names = ("joint_pos", "joint_vel", "object_poses_w", "object_velocities_w")
    return States(*(np.stack([getattr(row, name) for row in rows]) for name in names))


def write_states(env: TwinEnv, states: States) -> None:
    """Put every environment into its row of ``states`` (N, ...)."""
    ids = torch.arange(env.num_envs, device=env.device, dtype=torch.int32)

    def put(values: np.ndarray) -> torch.Tensor:
        return torch.as_tensor(np.ascontiguousarray(values, dtype=np.float32), device=env.device)

    robot = env.scene["robot"]
    robot.write_joint_position_to_sim_index(position=put(states.joint_pos), env_ids=ids)
    robot.write_joint_velocity_to_sim_index(velocity=put(states.joint_vel), env_ids=ids)
    for row, item in enumerate(env.twin.objects):
        pose = put(states.object_poses_w[:, row])
        pose[:, :3] += env.scene.env_origins
        env.scene[item.key].write_root_pose_to_sim_index(root_pose=pose, env_ids=ids)
        velocity = put(states.object_velocities_w[:, row])
        env.scene[item.key].write_root_velocity_to_sim_index(root_velocity=velocity, env_ids=ids)
    env.sim.forward()
    env.scene.update(dt=0.0)


def read_states(env: TwinEnv) -> States:
    """What the simulator says, (N, ...)."""
    robot = env.scene["robot"].data
    keys = [item.key for item in env.twin.objects]
    values = (
        robot.joint_pos.torch,
        robot.joint_vel.torch,
        torch.stack([object_pose(env, key) for key in keys], 1),
        torch.stack([object_velocity(env, key) for key in keys], 1),
    )
    return States(*(value.cpu().numpy().astype(np.float32) for value in values))


class Judge:
    """Watches environments go through their attempts and says which of them did their task.

    Args:
        env: The environment, each of its environments in the first state of an attempt.
        lengths: Control steps of each attempt: what comes later does not count.
    """

    def __init__(self, env: TwinEnv, lengths: Sequence[int]) -> None:
        self._env, self._lengths = env, np.asarray(lengths)
        self.success = np.zeros(len(lengths), dtype=bool)
        begin_step(env, torch.arange(env.num_envs, device=env.device), 0)

    def watch(self, t: int) -> None:
        """Look at the state after ``t`` control steps."""
        task_done(self._env)
        ends = np.flatnonzero(self._lengths == t)
        if len(ends):
            env, steps = self._env, self._env.task.steps
            holds = step_holds(env, steps[-1]) & lasting_hold(env, len(steps) - 1) & (env.progress >= len(steps))
            self.success[ends] = holds.cpu().numpy()[ends]


def replay_states(env: TwinEnv, episodes: Sequence[States]) -> tuple[np.ndarray, float]:
    """Write recorded states one after another: which attempts did their task, (N,) bool, and the greatest difference of what is read back.

    Args:
        env: An environment with as many environments as there are episodes.
        episodes: Their states.
    """
    env.reset()
    worst, judge = 0.0, None
    for t in range(max(len(e) for e in episodes)):
        wanted = stacked([e.row(t) for e in episodes])
        write_states(env, wanted)
        if judge is None:
            judge = Judge(env, [len(e) - 1 for e in episodes])
        judge.watch(t)
        got = read_states(env)
        flipped = replace(got, object_poses_w=_same_sign(got.object_poses_w, wanted.object_poses_w))
        for name in ("joint_pos", "object_poses_w"):
            worst = max(worst, float(np.abs(getattr(flipped, name) - getattr(wanted, name)).max()))
    assert judge is not None
    return judge.success, worst


def _same_sign(poses: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Poses whose quaternions have the sign of the wanted ones: both are the same turn."""
    turned = poses.copy()
    sign = np.where((poses[..., 3:] * wanted[..., 3:]).sum(-1, keepdims=True) < 0, -1.0, 1.0)
    turned[..., 3:] *= sign
    return turned


def replay_actions(env: TwinEnv, episodes: Sequence[Episode]) -> np.ndarray:
    """Start from each episode's first state and repeat its actions: which attempts did their task, (N,) bool.

    Args:
        env: An environment, in any engine, with as many environments as there are episodes.
        episodes: What was recorded. Masses, frictions and gains are drawn again as they were, by attempt.
    """
    env.attempt[:] = torch.as_tensor([e.attempt for e in episodes], device=env.device)
    env.reset()
    write_states(env, stacked([states_of(e).row(0) for e in episodes]))
    judge = Judge(env, [len(e.action) for e in episodes])
    for t in range(max(len(e.action) for e in episodes)):
        action = np.stack([e.commands[min(t, len(e.action) - 1)] for e in episodes])
        env.step(torch.as_tensor(action, device=env.device))
        judge.watch(t + 1)
    return judge.success
