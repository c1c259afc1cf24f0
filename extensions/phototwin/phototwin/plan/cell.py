"""What motion is planned in: a twin, a robot at its place, and ways to grasp each thing."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, fields, replace
from functools import cached_property

import numpy as np

from phototwin.errors import PlanError
from phototwin.plan.base import place_base
from phototwin.plan.collision import Checker, make_checker
from phototwin.plan.grasp import Grasps, propose_grasps
from phototwin.plan.ik import Arm
from phototwin.plan.query import DEFAULT, find_region
from phototwin.plan.region import Region
from phototwin.plan.task import Step, Task
from phototwin.robots import Robot
from phototwin.scene import Scene

SIDE_TILT_RAD = np.deg2rad(40.0)
"""Tools that lean more than this come from the side."""
GRASPS, SHORT_ARM_GRASPS = 64, 256
"""Kept of an object; of those an arm of fewer than six joints reaches but one in ten."""


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
        grasp_variety: How much attempts differ in which of the good grasps they take: 1 as usual, 0 always the best.
        query: What finds the parts that steps name, see ``query.choose_query``.
    """

    scene: Scene
    robot: Robot
    arm: Arm
    T_world_base: np.ndarray
    grasps: dict[str, Grasps]
    fps: float
    grasp_variety: float = 1.0
    query: str = DEFAULT

    def region(self, step: Step) -> Region | None:
        """Where the object of a step shall be held; None anywhere.

        Raises:
            PlanError: It has no such part.
        """
        item = self.scene.object(step.object)
        return find_region(self.scene, item, step.part, self.query) if step.part else None

    @cached_property
    def checker(self) -> Checker:
        """Who hits whom in this workcell, made when it is first asked for; belongs to one thread."""
        return make_checker(self.scene, self.arm, self.T_world_base)


def make_workcell(
    scene: Scene,
    task: Task,
    robot: Robot,
    arm: Arm,
    seed: int,
    fps: float,
    T_world_base: np.ndarray | None = None,
    query: str = DEFAULT,
) -> Workcell:
    """The workcell of a task: grasps of everything it moves, the base as given or where all steps are in reach.

    Raises:
        PlanError: Something cannot be grasped or reached.
    """
    if T_world_base is None:
        T_world_base = place_base(scene, task, robot, arm, seed)
    cell = Workcell(scene, robot, arm, T_world_base, {}, fps, query=query)
    grasps = {key: task_grasps(cell, task, key, seed) for key in dict.fromkeys(s.object for s in task.steps)}
    return replace(cell, grasps={k: g for k, g in grasps.items() if g is not None})


def task_grasps(cell: Workcell, task: Task, key: str, seed: int) -> Grasps | None:
    """Grasps of an object for all that a task does with it, best first; None where it is only pushed.

    Each part that a step names is looked for; to pour, tools from the side are looked for too, since from there the wrist alone tilts a thing.

    Raises:
        PlanError: It cannot be grasped, or not there.
    """
    item, robot = cell.scene.object(key), cell.robot
    steps = [step for step in task.steps if step.object == key and step.skill != "push"]
    count = SHORT_ARM_GRASPS if robot.free_axis else GRASPS

    def proposed(region: Region | None, least_tilt_rad: float = 0.0) -> Grasps:
        T = item.T_world_object
        return propose_grasps(item, robot, (), T, seed, count, region=region, least_tilt_rad=least_tilt_rad)

    found = [proposed(region) for region in dict.fromkeys(map(cell.region, steps))]
    for region in dict.fromkeys(cell.region(step) for step in steps if step.skill == "pour"):
        with suppress(PlanError):
            found.append(proposed(region, SIDE_TILT_RAD))
    if not found:
        return None
    merged = [np.concatenate([getattr(g, f.name) for g in found]) for f in fields(Grasps)]
    order = np.argsort(-merged[2], kind="stable")
    return Grasps(*(values[order] for values in merged))
