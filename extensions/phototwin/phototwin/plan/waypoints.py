"""One step of a task -> joint positions in time, from the state that the step before has left.

A step is done by taking the object and doing one of several deeds with it (legs in ``plan.legs``, places in ``plan.places``, tilts in
``plan.pour`` and ``plan.upright``), or by pushing it (``plan.push``). Grasps are tried in order, deeds for each of them; the first for which
all legs can be followed (``plan.paths``) is the plan. The held object moves with the tool, so where the object shall be
determines where the tool must.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from phototwin.errors import PlanError
from phototwin.frames import invert
from phototwin.plan.cell import Workcell
from phototwin.plan.collision import arrange, collides, first_hit
from phototwin.plan.grasp import NEIGHBOUR_MARGIN_M, Grasps, reachable_grasps
from phototwin.plan.grasp_score import suit
from phototwin.plan.gripper import gripper_clears
from phototwin.plan.ik import reached, solve_pose, solve_poses, solve_postures, tool_pose, why_unreached
from phototwin.plan.legs import (
    CONTACT_SPEED_M_S,
    Deed,
    approach_legs,
    carry_height,
    lift_deed,
    lift_leg,
    put_legs,
    raised,
    standing_on,
)
from phototwin.plan.paths import Leg, Load, Motion, Searches, Trouble, follow_legs, free_ways, timed_way, tool_line
from phototwin.plan.places import Others, free_spots, goal_poses, levelled
from phototwin.plan.pour import pour_deeds
from phototwin.plan.push import PUSH_ENDS, PUSH_STARTS, Push, pushes
from phototwin.plan.region import HELD, grasps_hold
from phototwin.plan.task import Step
from phototwin.plan.upright import grasps_as_it_lies, upright_poses
from phototwin.robots import approach_distance

STACK_SPEED_M_S = 0.08
"""Peak speed down onto a stack: what stands there must stay."""
MAX_GRASPS = 24
MAX_DEEDS = 6
MAX_TRIES = 40
"""Whole motions that are tried along straight ways."""
MAX_SEARCHES = 6
"""Searches for ways around obstacles, when none of the straight ones is free: each looks at thousands of postures."""
MAX_PUSHES = 160
SCORE_NOISE = 0.05
"""Spread of the draw among grasps: demonstrations shall differ, but a much better grasp stays first."""


@dataclass(frozen=True, eq=False)
class JointPlan:
    """One step's motion, sampled at the control rate; row 0 is one sample after the start posture.

    Attributes:
        q: Arm joint positions, (T, J) float32 [rad].
        gripper_open: (T,) bool.
        T_world_tool: Tool poses, (T, 4, 4) [m].
        T_object_tool: The grasp, or where a push begins, (4, 4) [m].
        T_world_goal: Where the object shall end, (4, 4) [m].
        step: Index into ``steps`` for every row, (T,) int.
        steps: Names of the legs, for reports.
        held: Key of the object that is still held at the end, or None.
    """

    q: np.ndarray
    gripper_open: np.ndarray
    T_world_tool: np.ndarray
    T_object_tool: np.ndarray
    T_world_goal: np.ndarray
    step: np.ndarray
    steps: tuple[str, ...]
    held: str | None = None


def plan_step(
    cell: Workcell,
    step: Step,
    T_world_objects: dict[str, np.ndarray],
    q0: np.ndarray,
    seed: int | np.random.SeedSequence,
    held: str | None = None,
) -> JointPlan:
    """The motion of one step, from arm posture ``q0`` (J,), with the first grasp for which all of it can be done.

    Args:
        cell: Scene, robot and grasps.
        step: What to do.
        T_world_objects: Current object poses by key, (4, 4).
        q0: Posture at the start, (J,) [rad].
        seed: Of the draw among good grasps and places, and of searches for a way.
        held: Key of the object that the gripper holds at the start: the step goes on with it, or first puts it down.

    Raises:
        PlanError: Nothing that was tried leads to the end; the message names the leg that fails most and why.
    """
    rng = np.random.default_rng(seed)
    q0 = np.asarray(q0, dtype=np.float64)
    if held and (held != step.object or step.skill == "push"):
        down = Step("place", held)
        first = _with_held(cell, down, _put_back(cell, down, T_world_objects), T_world_objects, q0, rng)
        poses = T_world_objects | {held: first.T_world_goal}
        then = plan_step(cell, step, poses, first.q[-1], int(rng.integers(2**31)))
        return _joined(first, then)
    if step.skill == "push":
        return _push(cell, step, T_world_objects, q0, rng)
    deeds = _deeds(cell, step, T_world_objects, rng)
    if held:
        return _with_held(cell, step, deeds, T_world_objects, q0, rng)
    return _with_grasp(cell, step, deeds, T_world_objects, q0, rng)


def _others(cell: Workcell, key: str, T_world_objects: dict[str, np.ndarray]) -> Others:
    return tuple((o, T_world_objects[o.key]) for o in cell.scene.objects if o.key != key)


def _deeds(cell: Workcell, step: Step, poses: dict[str, np.ndarray], rng: np.random.Generator) -> list[Deed]:
    """What may be done with the object once it is held, best first."""
    item, T_now = cell.scene.object(step.object), poses[step.object]
    others = _others(cell, item.key, poses)
    if step.skill == "pour":
        return pour_deeds(step, cell, poses, others, rng)
    if step.skill == "upright":
        goals = upright_poses(item, T_now, others, cell, rng)
    else:
        goals = goal_poses(step, cell.scene, poses, cell.robot, cell.T_world_base, rng)
    if step.skill == "lift":
        return [lift_deed(T_now, T, standing_on(item, T_now, others)) for T in goals]
    onto = (step.target,) if step.target and step.relation != "next to" else ()
    return [put_deed(step, cell, T_now, T, others, onto) for T in goals]


def _put_back(cell: Workcell, step: Step, poses: dict[str, np.ndarray]) -> list[Deed]:
    """Ways to put a held object down where there is room, nearest first.

    Raises:
        PlanError: There is none.
    """
    item, T_now = cell.scene.object(step.object), poses[step.object]
    others = _others(cell, item.key, poses)
    spots = free_spots(item, levelled(T_now[:3, :3]), T_now[:2, 3], others, cell.scene)
    if not spots:
        raise PlanError(f"There is no room to put the held {item.name} down before the next step: make room.")
    return [put_deed(step, cell, T_now, T, others, ()) for T in spots]


def put_deed(
    step: Step, cell: Workcell, T_now: np.ndarray, T_world_goal: np.ndarray, others: Others, onto: Sequence[str]
) -> Deed:
    """Lift the object from where it is, carry it over what is in between, and put it down at a pose (4, 4)."""
    item, back_m = cell.scene.object(step.object), approach_distance(cell.robot)
    height = carry_height(item, T_now, T_world_goal, others)
    under = standing_on(item, T_now, others)
    speed = STACK_SPEED_M_S if step.skill == "stack" else CONTACT_SPEED_M_S

    def legs(T_object_tool: np.ndarray) -> Sequence[Leg]:
        lift = lift_leg(T_now, T_object_tool, height, under)
        level = step.skill != "upright"
        down = put_legs(T_world_goal, T_object_tool, height, (*onto, *under[:1]), back_m, speed, level)
        return lift, *down

    hard = np.stack([T_world_goal, raised(T_world_goal, height)])
    return Deed(T_world_goal, legs, hard, "lower", (*onto, *under[:1]))


def _with_held(
    cell: Workcell,
    step: Step,
    deeds: Sequence[Deed],
    poses: dict[str, np.ndarray],
    q0: np.ndarray,
    rng: np.random.Generator,
) -> JointPlan:
    """The first of the deeds that can be done with the object as it is held now."""
    item = cell.scene.object(step.object)
    T_object_tool = invert(poses[item.key]) @ cell.T_world_base @ tool_pose(cell.arm, q0)
    load = Load(item.key, T_object_tool, poses)
    failures: Counter[str] = Counter()

    def attempt(deed: Deed, searches: Searches) -> JointPlan | Trouble:
        legs = deed.legs(T_object_tool)
        motion = follow_legs(cell, legs, q0, load, searches)
        if isinstance(motion, Trouble):
            return _counted(motion, failures)
        return _plan(cell, motion, legs, deed, T_object_tool, item.key)

    plan = _first_of(deeds, attempt, failures, rng)
    if plan is None:
        raise _no_motion(f"{step.skill} the {item.name}, which is held", failures, "")
    return plan


def _first_of(
    options: Sequence[Any],
    attempt: Callable[[Any, Searches], JointPlan | Trouble],
    failures: Counter[str],
    rng: np.random.Generator,
) -> JointPlan | None:
    """The plan of the first option that can be done along straight ways; else of the first that searches for ways around open up."""
    searches = Searches(int(rng.integers(2**31)), 0)
    blocked, most = [], failures.total() + MAX_TRIES
    for option in options:
        found = attempt(option, searches)
        if isinstance(found, JointPlan):
            return found
        if found.blocked:
            blocked.append(option)
        if failures.total() >= most:
            break
    searches.left = MAX_SEARCHES
    for option in blocked:
        found = attempt(option, searches)
        if isinstance(found, JointPlan):
            return found
        if not searches.left:
            break
    return None


def _counted(trouble: Trouble, failures: Counter[str]) -> Trouble:
    failures[f"{trouble.leg}: {trouble.why}"] += 1
    return trouble


def _with_grasp(
    cell: Workcell,
    step: Step,
    deeds: Sequence[Deed],
    poses: dict[str, np.ndarray],
    q0: np.ndarray,
    rng: np.random.Generator,
) -> JointPlan:
    """The first grasp and the first of the deeds with it that can be done."""
    item = cell.scene.object(step.object)
    others = _others(cell, item.key, poses)
    grasps = grasps_as_it_lies(cell, item, poses[item.key], cell.region(step))
    order = _grasp_order(grasps, cell, step, poses[item.key], deeds, others, rng)
    T_base_object = invert(cell.T_world_base) @ poses[item.key]
    hit = reachable_grasps(cell.arm, T_base_object, grasps.T_object_tool[order])
    order = (order[hit] if hit.any() else order)[:MAX_GRASPS]  # where none is, the tries say why
    failures: Counter[str] = Counter()

    def attempt(g: int, searches: Searches) -> JointPlan | Trouble:
        T_object_tool = grasps.T_object_tool[g]
        able = _able(cell, item.key, deeds, poses, T_object_tool, failures)
        if not able:
            return Trouble("", "")
        return _try_grasp(cell, item.key, T_object_tool, able, poses, q0, searches, failures)

    plan = _first_of(order.tolist(), attempt, failures, rng)
    if plan is None:
        raise _no_motion(f"{step.skill} the {item.name}", failures, f"{len(order)} grasps were tried; ")
    return plan


def _no_motion(what: str, failures: Counter[str], tried: str) -> PlanError:
    reason, times = failures.most_common(1)[0]
    return PlanError(
        f"No motion was found to {what}: {tried}{times} of {failures.total()} tries fail at the step '{reason}'."
    )


def _able(
    cell: Workcell,
    key: str,
    deeds: Sequence[Deed],
    poses: dict[str, np.ndarray],
    T_object_tool: np.ndarray,
    failures: Counter[str],
) -> list[Deed]:
    """The deeds for which the arm reaches the hardest poses with a grasp, and the gripper has room to open at the goal."""
    arm, T_base_world = cell.arm, invert(cell.T_world_base)
    for leg in approach_legs(poses[key] @ T_object_tool, approach_distance(cell.robot))[:2]:
        pose = T_base_world @ leg.T_world_tool[-1]
        q, position, angle = solve_pose(arm, pose, arm.home)
        if not reached(position, angle):
            failures[f"{leg.name}: {why_unreached(arm, pose, q)}"] += 1
            return []
    hit = np.array([deed.suits(T_object_tool) for deed in deeds])
    if not hit.any():
        failures[f"{deeds[0].hard}: no way to do it leaves the lip free with such a grasp"] += 1
        return []
    arrange(cell.checker, poses, False, (key, invert(T_object_tool)), deeds[0].onto, hand_only=True)
    for hard in np.stack([deed.T_world_hard for deed in deeds], 1):
        tools = T_base_world @ hard[hit] @ T_object_tool
        q, there = solve_poses(arm, tools, arm.home)
        if not there.any():
            failures[f"{deeds[0].hard}: {why_unreached(arm, tools[0], q[0])}"] += 1
            return []
        _, why = first_hit(cell.checker, q[there])
        clear = np.array([collides(cell.checker, row) for row in q[there]]) == 0
        there[there] = clear
        hit[hit] = there
        if not hit.any():
            failures[f"{deeds[0].hard}: {why}"] += 1
            return []
    able, others = [], _others(cell, key, poses)
    for k in np.flatnonzero(hit):
        if not deeds[k].opens or _gripper_fits(T_object_tool, deeds[k].T_world_goal, others, cell):
            able.append(deeds[k])
        if len(able) == MAX_DEEDS:
            break
    if not able:
        failures["open: the fingers would hit a neighbour"] += 1
    return able


def _try_grasp(
    cell: Workcell,
    key: str,
    T_object_tool: np.ndarray,
    deeds: Sequence[Deed],
    poses: dict[str, np.ndarray],
    q0: np.ndarray,
    searches: Searches,
    failures: Counter[str],
) -> JointPlan | Trouble:
    """One grasp with the first of the deeds that can be done; what cannot is counted in ``failures``."""
    arm, T_base_world = cell.arm, invert(cell.T_world_base)
    load = Load(key, T_object_tool, poses)
    first, *approach = approach_legs(poses[key] @ T_object_tool, approach_distance(cell.robot))
    blocked = False
    straight = tool_line(cell, first, q0)
    befores = solve_postures(arm, T_base_world @ first.T_world_tool[-1], q0)
    # First the posture that a straight line of the tool leads to: the way to the nearest joints may swing low over the table.
    for q_before in befores if isinstance(straight, Trouble) else [straight[-1], *befores]:
        taken = follow_legs(cell, approach, q_before, load, searches)
        if isinstance(taken, Trouble):
            _counted(taken, failures)
            continue
        # An arm of few joints takes the object a little differently than asked.
        T_taken = invert(poses[key]) @ cell.T_world_base @ tool_pose(arm, taken.q[-1])
        for deed in deeds:
            legs = deed.legs(T_taken)
            done = follow_legs(cell, legs, taken.q[-1], replace(taken.load, T_object_tool=T_taken), searches)
            if isinstance(done, Trouble):
                blocked |= _counted(done, failures).blocked
                continue
            free = _first_way(cell, first, q0, load, searches, q_before)
            if isinstance(free, Trouble):
                blocked |= _counted(free, failures).blocked
                break
            start = Motion(free, np.full(len(free), first.opened), np.zeros(len(free), dtype=int), load)
            return _plan(cell, _chained(start, taken, done), (first, *approach, *legs), deed, T_taken, key)
    return Trouble(first.name, "no deed can be done", blocked)


def _chained(*motions: Motion) -> Motion:
    """Motions one after another; their legs are counted on."""
    legs, count = [], 0
    for motion in motions:
        legs.append(motion.leg + count)
        count = int(legs[-1][-1]) + 1
    q, opened = (np.concatenate([getattr(m, name) for m in motions]) for name in ("q", "opened"))
    return Motion(q, opened, np.concatenate(legs), motions[-1].load)


def _plan(
    cell: Workcell, motion: Motion, legs: Sequence[Leg], deed: Deed | Push, T_object_tool: np.ndarray, key: str
) -> JointPlan:
    T_world_tool = cell.T_world_base @ tool_pose(cell.arm, motion.q)
    names = tuple(leg.name for leg in legs)
    held = key if legs[-1].held else None
    q = motion.q.astype(np.float32)
    return JointPlan(q, motion.opened, T_world_tool, T_object_tool, deed.T_world_goal, motion.leg, names, held)


def _joined(first: JointPlan, then: JointPlan) -> JointPlan:
    """Two plans as one; the goal and the grasp are the second's."""
    parts = {
        name: np.concatenate([getattr(first, name), getattr(then, name)])
        for name in ("q", "gripper_open", "T_world_tool")
    }
    step = np.concatenate([first.step, then.step + len(first.steps)])
    return replace(then, **parts, step=step, steps=(*first.steps, *then.steps))


def _push(
    cell: Workcell, step: Step, poses: dict[str, np.ndarray], q0: np.ndarray, rng: np.random.Generator
) -> JointPlan:
    """The first push that can be done."""
    item, failures = cell.scene.object(step.object), Counter()
    load = Load(item.key, np.eye(4), poses)
    options = pushes(step, cell, poses, _others(cell, item.key, poses), rng)

    def attempt(push: Push, searches: Searches) -> JointPlan | Trouble:
        motion = follow_legs(cell, push.legs, q0, replace(load, T_object_tool=push.T_object_tool), searches)
        if isinstance(motion, Trouble):
            return _counted(motion, failures)
        return _plan(cell, motion, push.legs, push, push.T_object_tool, item.key)

    plan = _first_of(_within_reach(cell, options, load, failures), attempt, failures, rng)
    if plan is None:
        raise _no_motion(f"push the {item.name}", failures, "")
    return plan


def _within_reach(cell: Workcell, options: Sequence[Push], load: Load, failures: Counter[str]) -> list[Push]:
    """The pushes whose beginning and end the arm reaches with a gripper that hits nothing there."""
    able = list(options[:MAX_PUSHES])
    for index in (PUSH_STARTS, PUSH_ENDS):
        tools = np.array([push.legs[index].T_world_tool[-1] for push in able])
        q, hit = solve_poses(cell.arm, invert(cell.T_world_base) @ tools, cell.arm.home)
        leg = able[0].legs[index]
        arrange(cell.checker, load.T_world_objects, leg.opened, handles=load.key if leg.held else None, hand_only=True)
        kept = []
        for push, pose, row, there in zip(able, tools, q, hit, strict=True):
            why = first_hit(cell.checker, row[None])[1]
            if there and not why:
                kept.append(push)
            else:
                pose_b = invert(cell.T_world_base) @ pose
                failures[f"{leg.name}: {why if there else why_unreached(cell.arm, pose_b, row)}"] += 1
        able = kept
        if not able:
            break
    return able


def _first_way(
    cell: Workcell, leg: Leg, q0: np.ndarray, load: Load, searches: Searches, q_end: np.ndarray
) -> np.ndarray | Trouble:
    """Joint positions (T, J) of the first leg, to a posture from which the others have been followed."""
    found: np.ndarray | Trouble = Trouble(leg.name, "out of reach")
    for path in free_ways(cell, leg, q0, load, searches, q_end):
        found = path if isinstance(path, Trouble) else timed_way(cell, leg, path, load)
        if not isinstance(found, Trouble):
            return found
    return found


def _gripper_fits(T_object_tool: np.ndarray, T_world_goal: np.ndarray, others: Others, cell: Workcell) -> bool:
    """Whether the opening gripper is clear of everything else where the object is put down."""
    T, width = (T_world_goal @ T_object_tool)[None], np.zeros(1)
    margin = -0.5 * NEIGHBOUR_MARGIN_M
    return all(gripper_clears(o, T_other, T, width, cell.robot, margin)[0] for o, T_other in others)


def _grasp_order(
    grasps: Grasps,
    cell: Workcell,
    step: Step,
    T_world_object: np.ndarray,
    deeds: Sequence[Deed],
    others: Others,
    rng: np.random.Generator,
) -> np.ndarray:
    """Indices of the grasps that are free of neighbours where everything is now, by what suits the step with a little chance."""
    item, T_world_tool = cell.scene.object(step.object), T_world_object @ grasps.T_object_tool
    region = cell.region(step)
    free = np.ones(len(grasps.score), dtype=bool)
    if region is not None:
        free = grasps_hold(region, grasps.T_object_tool, grasps.width_m, cell.robot) >= HELD
    if not free.any():
        raise PlanError(f"The {item.name} cannot be held by its {step.part} as it is now: leave out where to hold it.")
    for other, T_other in others:
        free &= gripper_clears(other, T_other, T_world_tool, grasps.width_m, cell.robot, -NEIGHBOUR_MARGIN_M)
    if not free.any():
        raise PlanError(f"Every grasp of the {item.name} would hit a neighbour: give the objects more room.")
    goals = [None] if step.skill in ("lift", "pour") else [deed.T_world_goal for deed in deeds[:2]]
    fit = np.max([suit(grasps.T_object_tool, step, item, cell.robot, T_world_object, T) for T in goals], axis=0)
    drawn = grasps.score * fit + cell.grasp_variety * SCORE_NOISE * rng.standard_normal(len(free))
    order = [i for i in np.argsort(-drawn, kind="stable") if free[i] and fit[i] > 0.0]
    if not order:
        raise PlanError(
            f"Every grasp of the {item.name} that is free here would bring the gripper into the support there."
        )
    return np.array(order)
