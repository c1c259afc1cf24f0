"""Success of *push*, and how far it is."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from phototwin.plan.push import PUSH_M, push_way
from phototwin_tasks.mdp.observations import object_pose
from phototwin_tasks.mdp.states import at_rest, axis_height, bottom
from phototwin_tasks.memory import pose_at_start
from phototwin_tasks.place.mdp import CONTACT_M, NEXT_TO_M, gap

if TYPE_CHECKING:
    from phototwin.plan.task import Step
    from phototwin_tasks.twin_env import TwinEnv

PUSHED_M = 0.06
"""What has gone this far has been pushed: half of the way that plans take, three quarters of their short one."""
NEARER_M = 0.01
"""What is pushed next to something comes closer by this much at least."""
STANDING_COS = math.cos(math.radians(20.0))


def pushed(env: TwinEnv, step: Step) -> torch.Tensor:
    """True where the object stands, at rest, where it was to be pushed: (N,) bool.

    Into a direction, as seen in the photo, it has gone 6 cm and less to the side than ahead; next to a target it has come nearer and the gap is small.
    """
    start = pose_at_start(env, step)
    standing = axis_height(env, step.object) > STANDING_COS * start_height(start)
    level = (bottom(env, step.object) < CONTACT_M) & standing & at_rest(env, step.object)
    if step.target is not None:
        before, now = (_distance(env, step, pose) for pose in (start, object_pose(env, step.object)))
        return level & (before - now > NEARER_M) & (gap(env, step.object, step.target) < NEXT_TO_M)
    ahead, aside = _way(env, step, start)
    return level & (ahead > PUSHED_M) & (aside < ahead)


def _distance(env: TwinEnv, step: Step, pose: torch.Tensor) -> torch.Tensor:
    """Horizontal distance from poses (N, 7) to the step's target, (N,) [m]."""
    return (pose[:, :2] - object_pose(env, str(step.target))[:, :2]).norm(dim=-1)


def start_height(start: torch.Tensor) -> torch.Tensor:
    """Cosine of the angle of the object's axis with the vertical in poses (N, 7), (N,)."""
    x, y = start[:, 3], start[:, 4]
    return 1 - 2 * (x * x + y * y)


def _way(env: TwinEnv, step: Step, start: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """How far the object has gone into the direction, and to the side of it, (N,) and (N,) [m]."""
    direction = start.new_tensor(push_way(step, env.twin.camera, {}))
    moved = object_pose(env, step.object)[:, :2] - start[:, :2]
    ahead = moved @ direction
    return ahead, (moved - ahead[:, None] * direction).norm(dim=-1)


def push_share(env: TwinEnv, step: Step) -> torch.Tensor:
    """How much of the way is done, (N,) in 0..1."""
    start = pose_at_start(env, step)
    if step.target is None:
        ahead, aside = _way(env, step, start)
        return ((ahead - 0.5 * aside) / PUSH_M).clamp(0, 1)
    before, now = (_distance(env, step, pose) for pose in (start, object_pose(env, step.object)))
    return ((before - now) / before.clamp(min=1e-3)).clamp(0, 1)


def push_goal(env: TwinEnv, step: Step) -> torch.Tensor:
    """Where the object shall get to on the support, (N, 3) [m]."""
    start = pose_at_start(env, step)[:, :3]
    if step.target is not None:
        return torch.cat([object_pose(env, step.target)[:, :2], start[:, 2:]], -1)
    return start + PUSH_M * start.new_tensor([*push_way(step, env.twin.camera, {}), 0.0])
