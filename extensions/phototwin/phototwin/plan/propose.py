"""Tasks that make sense on a twin, when nobody said what to do: which things a gripper takes, and what may become of them.

Sizes and shapes decide, and where ``propose_reached`` is asked, what the robot's arm reaches.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain, pairwise, permutations, repeat, zip_longest
from typing import cast

import numpy as np

from phototwin.errors import InstructionError, PlanError
from phototwin.frames import transform
from phototwin.plan.base import reach_share
from phototwin.plan.cell import Workcell
from phototwin.plan.grasp import Grasps, propose_grasps
from phototwin.plan.ik import Arm, load_arm
from phototwin.plan.propose_fits import (
    HIGHEST_M,
    ROOM_M,
    SLENDER,
    dish,
    fits_in,
    fits_on,
    lies,
    opening_radius,
    rolls,
    stackable,
    tall,
    tower_stands,
)
from phototwin.plan.propose_words import phrases, word_task
from phototwin.plan.push import PUSH_M, push_way, pushes
from phototwin.plan.query import find_region
from phototwin.plan.task import RELATIONS, Step, Task, holds_something
from phototwin.plan.upright import LEANS_RAD, standing_axes
from phototwin.robots import Robot
from phototwin.scene import Scene, SceneObject, depth_inside

FEW_CANDIDATES = 400
"""Grasps that are tried to tell whether there is any."""
LEAST_SCORE = 0.5
"""A thing whose best grasp is worse slips out of every other hand: it is not proposed. Who asks for it by name gets an attempt."""
APART_M = 0.06
"""Gap from which two things are not next to each other yet."""
POUR_SHARE = 0.6
"""Width of a vessel that is poured into, as a share of that of what is poured from."""
LARGEST_M, HEAVIEST_KG = 0.45, 2.0
"""Limits of what an arm on a table handles."""
LOWEST_PUSH_M = 0.015
"""Fingertips do not push what is lower."""
LEAST_FOOT_M = 0.025
"""A thing is only set up on a foot this wide."""
LEAST_REACH = 0.7
"""Tasks whose objects are reached from fewer of the places to which they may be moved are not proposed for a robot."""
LOOKED_THROUGH = 60
"""So many proposals are looked through for some that the robot reaches."""
MAX_TOWER = 4
LIFTED_M = 0.005
"""What has its bottom this far above that of another, within its outline, is in it or on it."""
ROUNDS = 20
"""How often all plans are gone through for other words, until there are enough."""
PAIRS = 12
"""Chains of two steps that are tried."""


Plans = Iterator[tuple[tuple[Step, ...], str]]
"""Steps, and why they make sense."""


@dataclass(frozen=True)
class Proposal:
    """A task that makes sense.

    Attributes:
        task: Its text is an instruction that the grammar reads back as its steps.
        why: What makes it possible, one sentence.
    """

    task: Task
    why: str


@dataclass(frozen=True, eq=False)
class Outlook:
    """What can be told of a twin's objects before anything is planned, by their keys.

    Attributes:
        scene: The twin.
        no_grasp: Why it cannot be grasped; "" where it can.
        grasps: Ways to grasp it where there are any.
        loaded: Keys of what stands on it or in it.
        points_w: Corners of its mesh in the world, (V, 3) [m].
        cell: The twin and the gripper; there is no arm in it yet.
        pushable: Pushes that were looked at closely, and whether the gripper finds a contact for them.
    """

    scene: Scene
    no_grasp: dict[str, str]
    grasps: dict[str, Grasps]
    loaded: dict[str, tuple[str, ...]]
    points_w: dict[str, np.ndarray]
    cell: Workcell
    pushable: dict[Step, bool] = field(default_factory=dict)

    def free(self, item: SceneObject) -> bool:
        """It can be grasped, and nothing is on it or in it."""
        return not self.no_grasp[item.key] and not self.loaded[item.key]


def propose_tasks(scene: Scene, robot: Robot, count: int = 10, seed: int = 0) -> tuple[Proposal, ...]:
    """Up to ``count`` tasks that make sense on a twin, of as many skills as possible, worded by chance.

    Where there are fewer, the same tasks come again in other words.

    Args:
        scene: The twin.
        robot: Whose gripper shall do it.
        count: How many.
        seed: Of the choice, the order and the words.

    Raises:
        InstructionError: There is nothing, or nothing can be done with what there is; the message says why.
    """
    if not scene.objects:
        raise InstructionError("There is nothing on the support, so there is nothing to do.")
    known = look_at(scene, robot)
    rng = np.random.default_rng(seed)
    plans = list(_mixed(known, rng))
    names = {item.key: phrases(item, scene) for item in scene.objects}
    proposals: list[Proposal] = []
    said: set[str] = set()
    for steps, why in chain.from_iterable(repeat(plans, ROUNDS)):
        if len(proposals) >= count:
            break
        if not all(_can_be_pushed(step, known) for step in steps if step.skill == "push"):
            continue
        task = word_task(steps, scene, names, rng)
        if task is not None and task.text not in said:
            said.add(task.text)
            proposals.append(Proposal(task, why))
    if not proposals:
        reasons = " ".join(dict.fromkeys(why for why in known.no_grasp.values() if why))
        raise InstructionError(f"Nothing can be done with what is in the photo of '{scene.name}'. {reasons}".strip())
    return tuple(proposals)


def propose_reached(
    scene: Scene, robot: Robot, count: int, seed: int = 0, families: bool = False
) -> tuple[Proposal, ...]:
    """The first proposals that the robot reaches wherever their objects may be moved, or nearly.

    Args:
        scene: The twin.
        robot: Who shall do it.
        count: At most so many.
        seed: As for ``propose_tasks``.
        families: One of every family only.

    Raises:
        InstructionError: Nothing makes sense, or nothing of it is reached.
    """
    arm, kept, shares = load_arm(robot), [], {}
    for proposal in propose_tasks(scene, robot, max(count, LOOKED_THROUGH), seed):
        task = proposal.task
        if families and task.family in [k.task.family for k in kept]:
            continue
        if task.steps not in shares:
            shares[task.steps] = reach_share(scene, task, robot, arm, seed)
        if shares[task.steps] >= LEAST_REACH:
            kept.append(proposal)
        if len(kept) == count:
            break
    if not kept:
        raise InstructionError(
            f"The {robot.name} reaches nothing in '{scene.name}' that it could do something with: take a robot with longer arms."
        )
    return tuple(kept)


def look_at(scene: Scene, robot: Robot) -> Outlook:
    """What can be told of a twin's objects with a robot's gripper in mind."""
    no_grasp, grasps, loaded = {}, {}, {}
    points_w = {o.key: transform(o.T_world_object, o.mesh.points.astype(np.float64)) for o in scene.objects}
    for item in scene.objects:
        others = tuple((other, other.T_world_object) for other in scene.objects if other is not item)
        loaded[item.key] = tuple(other.key for other, _ in others if _carried(other, item, points_w))
        no_grasp[item.key] = _too_much(item)
        if no_grasp[item.key]:
            continue
        try:
            found = propose_grasps(item, robot, others, item.T_world_object, 0, candidates=FEW_CANDIDATES)
        except PlanError as error:
            no_grasp[item.key] = str(error)
            continue
        if found.score.max() < LEAST_SCORE:
            no_grasp[item.key] = (
                f"The {item.name} would slip out of the {robot.name}'s gripper: no grasp of it is sure."
            )
        else:
            grasps[item.key] = found
    cell = Workcell(scene, robot, cast(Arm, None), np.eye(4), {}, 1.0)
    return Outlook(scene, no_grasp, grasps, loaded, points_w, cell)


def _too_much(item: SceneObject) -> str:
    """Why a thing is not for an arm on a table, or nothing."""
    if float(max(item.size_m)) > LARGEST_M:
        return f"The {item.name} is {_mm(max(item.size_m))} long, too large to handle."
    if item.mass_kg >= HEAVIEST_KG:
        return f"The {item.name} has about {item.mass_kg:.1f} kg, too heavy to handle."
    return ""


def _carried(item: SceneObject, carrier: SceneObject, points_w: dict[str, np.ndarray]) -> bool:
    """Whether an object stands on or in another."""
    points = points_w[carrier.key]
    middle = 0.5 * (points_w[item.key].min(0) + points_w[item.key].max(0))
    inside = (points[:, :2].min(0) < middle[:2]).all() and (points[:, :2].max(0) > middle[:2]).all()
    return bool(inside and points_w[item.key][:, 2].min() > points[:, 2].min() + LIFTED_M)


def _can_be_pushed(step: Step, known: Outlook) -> bool:
    """Whether the gripper finds a contact for a push; looked at only when it is about to be proposed, since it takes time."""
    if step not in known.pushable:
        poses = {item.key: item.T_world_object for item in known.scene.objects}
        others = tuple((item, item.T_world_object) for item in known.scene.objects if item.key != step.object)
        try:
            pushes(step, known.cell, poses, others, np.random.default_rng(0))
            known.pushable[step] = True
        except PlanError:
            known.pushable[step] = False
    return known.pushable[step]


def _mixed(known: Outlook, rng: np.random.Generator) -> Plans:
    """All plans in an order drawn by chance in which the skills take turns."""
    singles = {skill: list(find(known)) for skill, find in _FINDERS.items()}
    groups = [*singles.values(), list(_chains(singles, rng))]
    for group in groups:
        rng.shuffle(group)  # pyright: ignore[reportArgumentType]
    order = rng.permutation(len(groups))
    for row in zip_longest(*(groups[i] for i in order)):
        yield from (plan for plan in row if plan is not None)


def _lifts(known: Outlook) -> Plans:
    for item in known.scene.objects:
        if known.free(item):
            grasps = known.grasps[item.key]
            why = f"The gripper can hold the {item.name} where it is {_mm(grasps.width_m[0])} wide."
            yield (Step("lift", item.key),), why
            for part in _parts(item, known):
                why = f"The gripper can hold the {item.name} at its {part}."
                yield (Step("lift", item.key, part=part),), why


def _parts(item: SceneObject, known: Outlook) -> list[str]:
    """Parts of a vessel by which the gripper can hold it."""
    held = []
    for part in ("handle", "rim") if item.hollow else ():
        with suppress(PlanError):
            region = find_region(known.scene, item, part)
            others = tuple((other, other.T_world_object) for other in known.scene.objects if other is not item)
            propose_grasps(item, known.cell.robot, others, item.T_world_object, 0, 2, FEW_CANDIDATES, region)
            held.append(part)
    return held


def _places(known: Outlook) -> Plans:
    for item, target in permutations(known.scene.objects, 2):
        if (
            not known.free(item)
            or known.loaded[target.key]
            or item.key in known.loaded[target.key]
            or _on_something(target, known)
        ):
            continue
        if fits_in(item, target):
            why = f"The {item.name} ({_mm(max(item.size_m[:2]))}) fits into the {target.name} ({_mm(2 * opening_radius(target))})."
            yield (Step("place", item.key, "in", target.key),), why
        elif fits_on(item, target):
            yield (
                (Step("place", item.key, "on", target.key),),
                f"The {target.name} is flat and wide enough for the {item.name}.",
            )
        if _gap(item, target, known) > APART_M and not rolls(item):
            why = f"The {item.name} stands {_mm(_gap(item, target, known))} from the {target.name}."
            yield (Step("place", item.key, "next to", target.key),), why


def _stacks(known: Outlook) -> Plans:
    items = [
        item
        for item in known.scene.objects
        if stackable(item) and not known.loaded[item.key] and not _on_something(item, known)
    ]
    for count in range(2, min(len(items), MAX_TOWER) + 1):
        for tower in permutations(items, count):  # from the bottom up
            if tower_stands(tower) and all(known.free(item) for item in tower[1:]):
                steps = tuple(Step("stack", up.key, "on", low.key) for low, up in pairwise(tower))
                yield (
                    steps,
                    f"{', '.join(item.name for item in tower)}: flat, each at most as wide as what is under it.",
                )


def _pushes(known: Outlook) -> Plans:
    scene = known.scene
    poses = {item.key: item.T_world_object for item in scene.objects}
    for item in scene.objects:
        if not _pushable(item, known):
            continue
        steps = [Step("push", item.key, relation) for relation in RELATIONS["push"] if relation != "next to"]
        steps += [Step("push", item.key, "next to", other.key) for other in scene.objects if other is not item]
        for step in steps:
            way = push_way(step, scene.camera, poses)
            distance = PUSH_M
            if step.target is not None:
                distance = _gap_along(known.points_w[item.key], known.points_w[step.target], way)
                if distance < APART_M or distance > 3.0 * PUSH_M:
                    continue
            if _way_is_free(step, way, distance, known):
                yield (step,), f"The {item.name} stands steady and the way is free for {_mm(distance)}."


def _pours(known: Outlook) -> Plans:
    for item, target in permutations(known.scene.objects, 2):
        source = not dish(item) and not lies(item) and holds_something(item) and (item.hollow or tall(item))
        vessel = target.hollow and not dish(target) and not known.loaded[target.key]
        if source and vessel and known.free(item) and min(target.size_m[:2]) >= POUR_SHARE * min(item.size_m[:2]):
            opening = _mm(2 * opening_radius(target))
            why = f"The {item.name} can be held and tilted over the {target.name}, whose opening is {opening} wide."
            yield (Step("pour", item.key, "in", target.key),), why


def _uprights(known: Outlook) -> Plans:
    for item in known.scene.objects:
        tilt = min(
            float(np.arccos(np.clip((item.T_world_object[:3, :3] @ axis)[2], -1.0, 1.0)))
            for axis in standing_axes(item)
        )
        foot = float(np.sort(item.size_m)[0])
        if known.free(item) and tilt > LEANS_RAD and foot >= LEAST_FOOT_M and max(item.size_m) <= HIGHEST_M:
            yield (Step("upright", item.key),), f"The {item.name} lies and has a foot of {_mm(foot)} to stand on."


_FINDERS = {"lift": _lifts, "place": _places, "stack": _stacks, "push": _pushes, "pour": _pours, "upright": _uprights}
"""What makes sense, by skill."""


def _chains(singles: dict[str, list[tuple[tuple[Step, ...], str]]], rng: np.random.Generator) -> Plans:
    """Two steps after one another that do not undo each other."""
    firsts = [plan for skill in ("place", "push", "upright", "pour") for plan in singles[skill]]
    seconds = [*firsts, *singles["lift"]]
    if len(firsts) < 1 or len(seconds) < 2:
        return
    for _ in range(PAIRS):
        (first, why), (second, more) = firsts[int(rng.integers(len(firsts)))], seconds[int(rng.integers(len(seconds)))]
        if _compatible(first[0], second[0]):
            yield (*first, *second), f"{why} {more}"


def _compatible(first: Step, second: Step) -> bool:
    """Whether the second step can still be done after the first, and leaves its end alone."""
    if second.object in (first.object, first.target) or second.target == first.object:
        return False
    if first.skill == "push" or second.skill == "push":  # the ways were looked at as things stand in the photo
        return not {first.object, first.target} & {second.object, second.target} - {None}
    shared = first.target is not None and first.target == second.target
    return not shared or (first.relation == "in" and first.skill == "pour")


def _pushable(item: SceneObject, known: Outlook) -> bool:
    high = float(item.size_m[2])
    steady = LOWEST_PUSH_M <= high <= 0.8 * SLENDER * float(min(item.size_m[:2])) and not rolls(item)
    return steady and not _too_much(item) and not known.loaded[item.key] and not _on_something(item, known)


def _on_something(item: SceneObject, known: Outlook) -> bool:
    return any(item.key in carried for carried in known.loaded.values())


def _gap(item: SceneObject, other: SceneObject, known: Outlook) -> float:
    """Distance between two things along the line between their middles, seen from above [m]."""
    way = other.T_world_object[:2, 3] - item.T_world_object[:2, 3]
    length = float(np.linalg.norm(way))
    return _gap_along(known.points_w[item.key], known.points_w[other.key], way / length) if length > 1e-9 else 0.0


def _gap_along(points: np.ndarray, others: np.ndarray, way: np.ndarray) -> float:
    return float((others[:, :2] @ way).min() - (points[:, :2] @ way).max())


def _way_is_free(step: Step, way: np.ndarray, distance: float, known: Outlook) -> bool:
    """Whether nothing is where the pushed thing goes, and it ends on the known support."""
    points, across = known.points_w[step.object][:, :2], np.array([-way[1], way[0]])
    low, high = (points @ across).min() - ROOM_M, (points @ across).max() + ROOM_M
    back, front = (points @ way).min(), (points @ way).max()
    for key, around in known.points_w.items():
        side, along = around[:, :2] @ across, around[:, :2] @ way
        on_the_way = (
            side.max() > low and side.min() < high and along.max() > back and along.min() < front + distance + ROOM_M
        )
        if key not in (step.object, step.target) and on_the_way:
            return False
    middle = 0.5 * (points.min(0) + points.max(0))
    return bool((depth_inside(known.scene.support.polygon_w, middle + distance * way) > 0.02).all())


def _mm(length_m: float) -> str:
    return f"{1000 * float(length_m):.0f} mm"
