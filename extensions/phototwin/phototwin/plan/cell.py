"""What motion is planned in: a twin, a robot at its place, and ways to grasp each thing."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from phototwin.plan.base import place_base
from phototwin.plan.grasp import Grasps, propose_grasps
from phototwin.plan.ik import Arm
from phototwin.plan.task import Task
from phototwin.robots import Robot
from phototwin.scene import Scene


@dataclass(frozen=True, eq=False)
class Workcell:
    """A robot in a twin, ready to plan.

    Attributes:
        scene: The twin.
        robot: The robot.
        arm: Its kinematics; belongs to one thread.
        T_world_base: Pose of its base, (4, 4) [m].
        grasps: Grasps by object key, of what the task moves.
        fps: Control rate [Hz].
    """

    scene: Scene
    robot: Robot
    arm: Arm
    T_world_base: np.ndarray
    grasps: dict[str, Grasps]
    fps: float


def make_workcell(scene: Scene, task: Task, robot: Robot, arm: Arm, seed: int, fps: float) -> Workcell:
    """The workcell of a task: grasps of everything it moves, the base where all steps are in reach.

    Raises:
        PlanError: Something cannot be grasped or reached.
    """
    items = [scene.object(key) for key in dict.fromkeys(step.object for step in task.steps)]
    T_world_base = place_base(scene, task, robot, arm, seed)
    grasps = {item.key: propose_grasps(item, robot, (), item.T_world_object, seed) for item in items}
    return Workcell(scene, robot, arm, T_world_base, grasps, fps)
