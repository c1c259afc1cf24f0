"""Legs of a motion -> joint positions in time: straight tool ways where things touch, free ways around clutter in the air.

A free way is tried straight first, the tool's line before the joint line; where that hits something OMPL looks for a way around it. Free ways are timed by TOPP-RA, the others by minimum jerk. Every sample of the result is checked for collisions.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np

from phototwin.frames import invert
from phototwin.plan.cell import Workcell
from phototwin.plan.collision import AIR_M, TOUCH_M, Checker, arrange, collides, first_hit
from phototwin.plan.ik import follow_path, solve_pose, solve_postures, tool_pose, why_unreached
from phototwin.plan.timing import (
    JOINT_ACCELERATION_RAD_S2,
    JOINT_SPEED_RAD_S,
    PEAK_OVER_MEAN,
    SPEED_SHARE,
    TOOL_ACCELERATION_M_S2,
    along,
    minimum_jerk,
    time_path,
    turn_between,
)

FREE, LINE, STAY = "free", "line", "stay"
PEAK_TURN_RAD_S = 1.5
SHORTEST_S = 0.2
SLOWER = (1.0, 1.4, 2.0)
"""A straight way on which a joint would be too fast is tried again, this much slower."""
STEP_RAD = 0.03
"""A joint line is looked at this often: 1.5 cm at the end of a stretched arm, about the clearance kept in the air."""
STEP_M = 0.02
TREE_STEP_RAD = 0.05
RANGE_RAD = 0.6
"""Length of a branch of the search tree."""
MOST_CHECKS = 4000
"""Postures that a search looks at before it gives up; a count, not a time, so that it ends the same way on a busy machine."""
SEARCHED = 2
"""Postures at the end of a way for which one around obstacles is searched."""
SHORTCUTS = 40
TILT_RAD = 0.35
"""A held object is not tilted further than this on its way: it may be full, and it hangs on friction."""


@dataclass(frozen=True, eq=False)
class Leg:
    """One part of a motion.

    Attributes:
        name: For reports.
        T_world_tool: Tool poses that are passed, at equal shares of the way, ending at the last, (K, 4, 4) [m].
        way: ``FREE`` through the air, ``LINE`` straight from pose to pose, or ``STAY``.
        pace: Peak speed of the tool [m/s]; the seconds of a stay.
        opened: Whether the gripper is open.
        held: Whether the object moves with the tool.
        touches: What the held object may touch: keys, ``collision.SUPPORT``.
        handles: Whether the gripper may touch the object while it is not held.
        level: Whether the held object must not tilt on its way through the air.
    """

    name: str
    T_world_tool: np.ndarray
    way: str
    pace: float
    opened: bool
    held: bool = False
    touches: tuple[str, ...] = ()
    handles: bool = False
    level: bool = True


@dataclass(frozen=True, eq=False)
class Load:
    """What a motion is about.

    Attributes:
        key: The object.
        T_object_tool: How it is held, (4, 4) [m].
        T_world_objects: Where everything is, by key, (4, 4) [m]; of the object itself, where it stands when it is not held.
    """

    key: str
    T_object_tool: np.ndarray
    T_world_objects: dict[str, np.ndarray]


@dataclass(frozen=True, eq=False)
class Motion:
    """Joint positions in time.

    Attributes:
        q: (T, J) [rad].
        opened: Whether the gripper is open, (T,) bool.
        leg: Index of the leg of every row, (T,) int.
        load: Where things are afterwards.
    """

    q: np.ndarray
    opened: np.ndarray
    leg: np.ndarray
    load: Load


@dataclass(frozen=True)
class Trouble:
    """Which leg cannot be done, and why; ``blocked`` where something was in a free way, so that a search may help."""

    leg: str
    why: str
    blocked: bool = False


@dataclass
class Searches:
    """How many searches for ways around obstacles are left, and the seed of the next one."""

    seed: int
    left: int


def follow_legs(
    cell: Workcell, legs: Sequence[Leg], q0: np.ndarray, load: Load, searches: Searches
) -> Motion | Trouble:
    """The motion along ``legs`` from posture ``q0`` (J,), or what stops it.

    Where a leg fails, the free leg before it is tried again in another way: with the arm bent differently.
    """
    found = _follow(cell, legs, 0, np.asarray(q0, dtype=np.float64), load, searches)
    if isinstance(found, Trouble):
        return found
    parts, load_then = [], load
    for leg, part in zip(legs, found, strict=True):
        rows = timed_way(cell, leg, part, load_then) if leg.way == FREE else part
        if isinstance(rows, Trouble):
            return rows
        parts.append(rows)
        load_then = _moved(cell, leg, rows[-1], load_then)
    counts = [len(rows) for rows in parts]
    opened = np.repeat([leg.opened for leg in legs], counts)
    return Motion(np.concatenate(parts), opened, np.repeat(np.arange(len(legs)), counts), load_then)


def _follow(
    cell: Workcell, legs: Sequence[Leg], k: int, q: np.ndarray, load: Load, searches: Searches
) -> list[np.ndarray] | Trouble:
    """Ways (K, J) of the legs from the k-th on, those through the air not timed yet; or the trouble of the leg that got furthest."""
    if k == len(legs):
        return []
    leg, worst, blocked = legs[k], Trouble(legs[k].name, "out of reach"), False
    for part in _options(cell, leg, q, load, searches):
        rest = part
        if not isinstance(part, Trouble):
            rest = _follow(cell, legs, k + 1, part[-1], _moved(cell, leg, part[-1], load), searches)
            if not isinstance(rest, Trouble):
                return [part, *rest]
        assert isinstance(rest, Trouble)
        blocked |= rest.blocked
        worst = rest if worst.leg == leg.name else worst
    return replace(worst, blocked=blocked)


def _options(cell: Workcell, leg: Leg, q: np.ndarray, load: Load, searches: Searches) -> Iterable[np.ndarray | Trouble]:
    """Ways (K, J) to do a leg from a posture (J,), in the order in which they are tried."""
    if leg.way == STAY:
        _, why = first_hit(look_out(cell, leg, load, TOUCH_M), q[None])
        return (Trouble(leg.name, why) if why else np.repeat(q[None], max(1, round(leg.pace * cell.fps)), axis=0),)
    return (_line(cell, leg, q, load),) if leg.way == LINE else free_ways(cell, leg, q, load, searches)


def _moved(cell: Workcell, leg: Leg, q: np.ndarray, load: Load) -> Load:
    """The load with the held object where the tool has brought it."""
    if not leg.held:
        return load
    T_world_object = cell.T_world_base @ tool_pose(cell.arm, q) @ invert(load.T_object_tool)
    return replace(load, T_world_objects=load.T_world_objects | {load.key: T_world_object})


def look_out(cell: Workcell, leg: Leg, load: Load, clearance_m: float) -> Checker:
    """The checker, arranged for a leg."""
    held = (load.key, invert(load.T_object_tool)) if leg.held else None
    handles = load.key if leg.handles else None
    arrange(cell.checker, load.T_world_objects, leg.opened, held, leg.touches, handles, clearance_m)
    return cell.checker


def _line(cell: Workcell, leg: Leg, q: np.ndarray, load: Load) -> np.ndarray | Trouble:
    """Straight from where the tool is through the leg's poses, in minimum jerk."""
    T_base_world = invert(cell.T_world_base)
    start = cell.T_world_base @ tool_pose(cell.arm, q)
    poses = np.concatenate([start[None], leg.T_world_tool])
    seconds = max(_seconds(poses, leg.pace), SHORTEST_S)
    rows, why = q[None], "out of reach"
    for slower in SLOWER:
        count = max(1, round(slower * seconds * cell.fps))
        tool = T_base_world @ along(poses, minimum_jerk(np.arange(1, count + 1) / count))
        rows, _, why = follow_path(cell.arm, tool, q, cell.fps)
        if not why:
            break
    if why:
        return Trouble(leg.name, why)
    _, why = first_hit(look_out(cell, leg, load, TOUCH_M), rows)
    return Trouble(leg.name, why) if why else rows


def _seconds(poses: np.ndarray, peak_m_s: float) -> float:
    """Time that a minimum-jerk way through the poses (K, 4, 4) takes at a peak speed and the peak turn."""
    ways, turns = _ways(poses)
    return PEAK_OVER_MEAN * len(ways) * max(float(ways.max()) / peak_m_s, float(turns.max()) / PEAK_TURN_RAD_S)


def _ways(poses: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distances (K - 1,) [m] and turns (K - 1,) [rad] between successive poses (K, 4, 4)."""
    ways = np.linalg.norm(np.diff(poses[:, :3, 3], axis=0), axis=1)
    return ways, np.array([turn_between(a, b) for a, b in pairwise(poses)])


def free_ways(
    cell: Workcell, leg: Leg, q: np.ndarray, load: Load, searches: Searches, q_end: np.ndarray | None = None
) -> Iterable[np.ndarray | Trouble]:
    """Ways (K, J) through the air to the leg's pose, or to the posture ``q_end`` that reaches it, and why others are none."""
    pose = invert(cell.T_world_base) @ leg.T_world_tool[-1]
    path = tool_line(cell, leg, q)
    if isinstance(path, Trouble):
        if q_end is None:
            yield path
    elif q_end is None or np.array_equal(path[-1], q_end):
        yield _blocked(cell, leg, load, path) or path
    ends = [q_end] if q_end is not None else solve_postures(cell.arm, pose, q)
    if not ends:
        yield Trouble(leg.name, why_unreached(cell.arm, pose, solve_pose(cell.arm, pose, q)[0]))
    trouble: Trouble | None = None
    for end in ends:
        path = joint_line(q, end)
        trouble = _blocked(cell, leg, load, path)
        yield trouble or path
    for end in ends[:SEARCHED]:
        if trouble is None or not searches.left:
            return
        searches.seed, searches.left = searches.seed + 1, searches.left - 1
        path = _search(cell, leg, load, q, end, searches.seed)
        yield Trouble(leg.name, f"no way around was found: {trouble.why}") if path is None else path


def timed_way(cell: Workcell, leg: Leg, path: np.ndarray, load: Load) -> np.ndarray | Trouble:
    """Joint positions (T, J) at the control rate along a way through the air (K, J)."""
    rows = _timed(cell, leg, path)
    if rows is None:
        return Trouble(leg.name, "no timing of the way there keeps the limits of speed and acceleration")
    _, why = first_hit(look_out(cell, leg, load, TOUCH_M), rows)
    return Trouble(leg.name, why) if why else rows


def tool_line(cell: Workcell, leg: Leg, q: np.ndarray) -> np.ndarray | Trouble:
    """Joint positions (K, J) of a leg along the straight line of the tool, from the posture ``q`` (J,)."""
    poses = np.concatenate([(cell.T_world_base @ tool_pose(cell.arm, q))[None], leg.T_world_tool])
    far, turn = (float(part.sum()) for part in _ways(poses))
    count = max(2, int(np.ceil(max(far / STEP_M, turn / (3.0 * STEP_RAD)))))
    tool = invert(cell.T_world_base) @ along(poses, np.arange(1, count + 1) / count)
    # Samples are STEP_M apart: a joint beyond its limit at half the pace is one that the timing could not slow down sensibly.
    rows, _, why = follow_path(cell.arm, tool, q, leg.pace / (2 * STEP_M))
    return Trouble(leg.name, why) if why else np.concatenate([q[None], rows])


def joint_line(q: np.ndarray, q_end: np.ndarray) -> np.ndarray:
    """Joint positions (K, J) straight from one posture to another, ``STEP_RAD`` apart."""
    count = max(2, int(np.ceil(np.abs(q_end - q).max() / STEP_RAD)))
    return q + np.linspace(0.0, 1.0, count + 1)[:, None] * (q_end - q)


def _blocked(cell: Workcell, leg: Leg, load: Load, path: np.ndarray) -> Trouble | None:
    """What a way through the air (K, J) hits or comes too close to; its ends are as close to things as they must be."""
    checker = look_out(cell, leg, load, _air(cell, leg, load, path))
    _, why = first_hit(checker, path)
    if not why and leg.held and leg.level and _tilts(cell, leg, load, path):
        why = f"the held {load.key.replace('_', ' ')} would tilt"
    return Trouble(leg.name, why, blocked=True) if why else None


def _air(cell: Workcell, leg: Leg, load: Load, path: np.ndarray) -> float:
    """Clearance to be kept along a way: that of the air, where its ends have it."""
    checker = look_out(cell, leg, load, AIR_M)
    return TOUCH_M if collides(checker, path[0]) or collides(checker, path[-1]) else AIR_M


def _tilts(cell: Workcell, leg: Leg, load: Load, path: np.ndarray) -> bool:
    """Whether the held object leans further anywhere than at both ends and the tilt that is allowed."""
    up = (cell.T_world_base @ tool_pose(cell.arm, path) @ invert(load.T_object_tool))[:, 2, :3]
    lean = np.arccos(np.clip(np.stack([up @ up[0], up @ up[-1]]), -1.0, 1.0)).min(0)
    return bool(lean.max() > TILT_RAD)


def _timed(cell: Workcell, leg: Leg, path: np.ndarray) -> np.ndarray | None:
    """Joint positions (T, J) at the control rate along a way (K, J); None where there is no timing."""
    tool = tool_pose(cell.arm, path)[:, :3, 3]
    way = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(tool, axis=0), axis=1))])
    joints = np.minimum(JOINT_SPEED_RAD_S, SPEED_SHARE * cell.arm.velocity)
    speed = np.append(joints, leg.pace)
    acceleration = np.append(np.full(len(joints), JOINT_ACCELERATION_RAD_S2), TOOL_ACCELERATION_M_S2)
    rows = time_path(np.column_stack([path, way]), speed, acceleration, cell.fps)
    return None if rows is None else rows[:, :-1]


def _search(cell: Workcell, leg: Leg, load: Load, q: np.ndarray, q_end: np.ndarray, seed: int) -> np.ndarray | None:
    """A smooth way (K, J) around what is in the way, by OMPL's RRT-Connect and shortcuts; None where none is found."""
    ends = np.stack([q, q_end])
    checker = look_out(cell, leg, load, _air(cell, leg, load, ends))
    up = (cell.T_world_base @ tool_pose(cell.arm, ends) @ invert(load.T_object_tool))[:, 2, :3]

    def valid(row: np.ndarray) -> bool:
        if collides(checker, row):
            return False
        if not (leg.held and leg.level):
            return True
        T = cell.T_world_base @ tool_pose(cell.arm, row) @ invert(load.T_object_tool)
        return float((up @ T[2, :3]).max()) > np.cos(TILT_RAD)

    if not (valid(q) and valid(q_end)):
        return None
    vertices = find_way(valid, cell.arm.lower, cell.arm.upper, q, q_end, seed)
    if vertices is None:
        return None
    for extra in (0, 1, 3, 7):
        path = _smooth(vertices, extra)
        inside = (path >= cell.arm.lower).all() and (path <= cell.arm.upper).all()
        if inside and all(valid(row) for row in path):
            return path
    return None


def find_way(
    valid: Any, lower: np.ndarray, upper: np.ndarray, q: np.ndarray, q_end: np.ndarray, seed: int
) -> np.ndarray | None:
    """Corners (K, J) of a way from ``q`` to ``q_end`` on which ``valid(row)`` holds, shortened; None where none is found.

    Both ends must be valid: OMPL would wait for better ones.

    The same every time for a seed. Source: Kuffner and LaValle (2000), RRT-Connect; OMPL's implementation.
    """
    from ompl import base, geometric, util

    util.noOutputHandler()
    util.RNG.setSeed(1 + seed % (2**31 - 1))
    count, looks = len(q), [0]
    space = base.RealVectorStateSpace(count)
    bounds = base.RealVectorBounds(count)
    for j in range(count):
        bounds.setLow(j, float(min(lower[j], q[j], q_end[j])))
        bounds.setHigh(j, float(max(upper[j], q[j], q_end[j])))
    space.setBounds(bounds)

    def check(state: Any) -> bool:
        looks[0] += 1
        return bool(valid(np.array(state[0:count])))

    info = base.SpaceInformation(space)
    info.setStateValidityChecker(check)
    info.setStateValidityCheckingResolution(TREE_STEP_RAD / space.getMaximumExtent())
    info.setup()
    problem = base.ProblemDefinition(info)
    start: Any = info.allocState()
    goal: Any = info.allocState()
    start[0:count], goal[0:count] = list(map(float, q)), list(map(float, q_end))
    problem.setStartAndGoalStates(start, goal)
    planner = geometric.RRTConnect(info)
    planner.setRange(RANGE_RAD)
    planner.setProblemDefinition(problem)
    planner.setup()
    planner.solve(base.PlannerTerminationCondition(lambda: looks[0] > MOST_CHECKS))
    if not problem.hasExactSolution():
        return None
    path: Any = problem.getSolutionPath()
    simplifier = geometric.PathSimplifier(info)
    simplifier.partialShortcutPath(path, SHORTCUTS, SHORTCUTS)
    simplifier.reduceVertices(path, SHORTCUTS, SHORTCUTS)
    simplifier.smoothBSpline(path, 2)
    return np.array([path.getState(i)[0:count] for i in range(path.getStateCount())])


def _smooth(vertices: np.ndarray, extra: int) -> np.ndarray:
    """A curve through corners (K, J), sampled ``STEP_RAD`` apart; ``extra`` points on every edge hold it to the edges."""
    from scipy.interpolate import CubicSpline

    parts = np.arange(extra + 1)[:, None, None] / (extra + 1)
    edges = (vertices[:-1] + parts * np.diff(vertices, axis=0)).transpose(1, 0, 2).reshape(-1, vertices.shape[1])
    points = np.concatenate([edges, vertices[-1:]])
    steps = np.abs(np.diff(points, axis=0)).max(1)
    points = points[np.concatenate([[True], steps > 1e-6])]
    knots = np.concatenate([[0.0], np.cumsum(np.abs(np.diff(points, axis=0)).max(1))])
    count = max(2, int(np.ceil(knots[-1] / STEP_RAD)))
    return CubicSpline(knots, points, bc_type="natural")(np.linspace(0.0, knots[-1], count + 1))
