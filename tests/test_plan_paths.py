"""Timing under limits, who hits whom, and ways around what is in the way; judged by closed forms and by points in boxes."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from synthetic import box_mesh, make_scene

from phototwin.frames import invert, make_T, rotation_z, transform
from phototwin.plan.cell import Workcell
from phototwin.plan.collision import AIR_M, SUPPORT, arrange, collides, first_hit
from phototwin.plan.grasp import propose_grasps
from phototwin.plan.ik import link_points, load_arm, solve_pose, tool_pose
from phototwin.plan.paths import FREE, LINE, Leg, Load, Motion, Searches, Trouble, find_way, follow_legs, joint_line
from phototwin.plan.task import Step
from phototwin.plan.timing import SMOOTH_S, time_path
from phototwin.plan.waypoints import plan_step
from phototwin.robots import PANDA
from phototwin.scene import ConvexPiece, Mesh, SceneObject

FPS = 20.0
BASE = make_T(rotation_z(np.pi / 2), np.array([0.42, -0.5, 0.0]))
WALL_M = np.array([0.24, 0.03, 0.20])


@pytest.fixture(scope="module")
def arm():
    return load_arm(PANDA)


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    return make_scene(tmp_path_factory.mktemp("scene"))


def make_wall(T_world_object):
    points, faces, st = box_mesh(WALL_M)
    mesh = Mesh(points, faces, st)
    return SceneObject(
        "grey wall", "grey_wall", "box", False, T_world_object, WALL_M, np.full(3, 0.5), mesh,
        (ConvexPiece(points, faces),), 1.0,
    )  # fmt: skip


def walled(scene, arm, place):
    """The cube alone behind a wall, and the robot on its own side of it."""
    wall = make_wall(make_T(np.eye(3), np.array([*place, WALL_M[2] / 2])))
    objects = (*(o for o in scene.objects if o.key == "green_cube"), wall)
    scene = replace(scene, objects=objects)
    cube = scene.object("green_cube")
    grasps = {cube.key: propose_grasps(cube, PANDA, (), cube.T_world_object, 0)}
    return Workcell(scene, PANDA, arm, BASE, grasps, FPS)


def poses_of(scene):
    return {item.key: item.T_world_object for item in scene.objects}


def inside(points_w, T_world_object, size, slack=0.0):
    return (np.abs(transform(invert(T_world_object), points_w)) < 0.5 * size - slack).all(1)


def down_at(x, y, z):
    return make_T(np.diag([1.0, -1.0, -1.0]), np.array([x, y, z]))


@pytest.mark.parametrize("seed", range(3))
def test_a_timed_path_keeps_its_limits_stays_on_the_path_and_rests_at_both_ends(seed):
    rng = np.random.default_rng(seed)
    knots = np.cumsum(rng.uniform(-0.5, 0.5, (5, 3)), axis=0)
    dense = np.concatenate([np.linspace(a, b, 12, endpoint=False) for a, b in pairwise(knots)])
    path = np.concatenate([dense, knots[-1:]])
    path = np.array([np.convolve(np.pad(c, 6, mode="edge"), np.ones(13) / 13, mode="valid") for c in path.T]).T
    speed, acceleration, fps = np.array([1.0, 1.5, 2.0]), np.array([3.0, 4.0, 5.0]), 100.0
    out = time_path(path, speed, acceleration, fps)
    assert out is not None
    np.testing.assert_allclose(out[-1], path[-1], atol=1e-12)
    v = np.diff(np.vstack([path[:1], out]), axis=0) * fps
    assert (np.abs(v).max(0) <= 1.03 * speed).all()
    assert np.abs(v[0]).max() < 0.05 and np.abs(v[-1]).max() < 0.05
    a = np.diff(v, axis=0) * fps
    assert (np.percentile(np.abs(a), 99, axis=0) <= 1.15 * acceleration).all()
    fine = np.concatenate([np.linspace(p, q, 20) for p, q in pairwise(path)])
    assert max(np.linalg.norm(fine - row, axis=1).min() for row in out[::20]) < 5e-3


def test_a_straight_way_takes_as_long_as_the_trapezoid_says():
    distance, v, a, fps = 2.0, 1.0, 4.0, 100.0
    out = time_path(np.array([[0.0], [distance]]), np.array([v]), np.array([a]), fps)
    assert out is not None
    assert len(out) / fps == pytest.approx(distance / v + v / a + SMOOTH_S, abs=0.03)


def test_coal_agrees_with_points_in_boxes(scene, arm):
    cell = Workcell(scene, PANDA, arm, BASE, {}, FPS)
    arrange(cell.checker, poses_of(scene), True, clearance_m=0.0)
    can, cube = scene.object("red_can"), scene.object("green_cube")
    rng, hits, q = np.random.default_rng(0), 0, arm.home
    for _ in range(150):
        x, y = cube.T_world_object[:2, 3] + rng.uniform(-0.12, 0.12, 2)
        target = down_at(x, y, rng.uniform(0.0, 0.15))
        q, *_ = solve_pose(arm, invert(BASE) @ target, arm.home)
        points = transform(BASE, link_points(arm, q))
        deep = (points[:, 2] < -0.002).any() or inside(points, cube.T_world_object, cube.size_m, 0.002).any()
        deep |= inside(points, can.T_world_object, can.size_m * [0.7, 0.7, 1.0], 0.002).any()
        if deep:
            hits += 1
            assert collides(cell.checker, q)
    assert hits > 10
    index, why = first_hit(cell.checker, np.stack([arm.home, arm.home]))
    assert (index, why) == (0, "")


def test_what_is_held_is_looked_at_and_may_touch_what_it_is_put_on(scene, arm):
    cell, can = Workcell(scene, PANDA, arm, BASE, {}, FPS), scene.object("red_can")
    q, *_ = solve_pose(arm, invert(BASE) @ down_at(can.T_world_object[0, 3], can.T_world_object[1, 3], 0.125), arm.home)
    T_world_tool = BASE @ tool_pose(arm, q)
    T_tool_cube = invert(T_world_tool) @ make_T(np.eye(3), np.array([*can.T_world_object[:2, 3], 0.105]))
    poses = poses_of(scene)
    arrange(cell.checker, poses, False, ("green_cube", T_tool_cube))
    assert first_hit(cell.checker, q[None]) == (0, "the held green cube would hit the red can")
    arrange(cell.checker, poses, False, ("green_cube", T_tool_cube), ("red_can",))
    assert not collides(cell.checker, q)
    arrange(cell.checker, poses, False, ("green_cube", T_tool_cube @ make_T(np.eye(3), np.array([0.0, 0.0, 0.11]))))
    assert collides(cell.checker, q)
    arrange(cell.checker, poses, False, ("green_cube", T_tool_cube), ("red_can", SUPPORT), hand_only=True)
    assert not collides(cell.checker, q)


def test_a_way_around_a_wall_is_found_the_same_for_a_seed_and_free_for_a_second_judge(scene, arm):
    cell = walled(scene, arm, (0.45, -0.10))
    poses, wall = poses_of(cell.scene), cell.scene.object("grey_wall")
    cube = cell.scene.object("green_cube")
    poses[cube.key] = make_T(np.eye(3), np.array([0.8, 0.4, 0.02]))
    start, end = (solve_pose(arm, invert(BASE) @ down_at(0.45, y, 0.12), arm.home)[0] for y in (-0.22, 0.06))
    leg = Leg("over", down_at(0.45, 0.06, 0.12)[None], FREE, 0.6, True)
    load = Load(cube.key, np.eye(4), poses)
    blocked = follow_legs(cell, (leg,), start, load, Searches(1, 0))
    assert isinstance(blocked, Trouble) and blocked.blocked and "would hit the grey wall" in blocked.why
    found = [follow_legs(cell, (leg,), start, load, Searches(seed, 2)) for seed in (1, 1, 7)]
    assert all(isinstance(motion, Motion) for motion in found)
    np.testing.assert_array_equal(found[0].q, found[1].q)
    assert found[0].q.shape != found[2].q.shape or not np.array_equal(found[0].q, found[2].q)
    for motion in (found[0], found[2]):
        q = np.vstack([start, motion.q])
        assert np.abs(np.diff(q, axis=0)).max() * FPS < 1.05 * 1.5
        np.testing.assert_allclose(
            tool_pose(arm, q[-1])[:3, 3], (invert(BASE) @ down_at(0.45, 0.06, 0.12))[:3, 3], atol=1e-3
        )
        for row in np.concatenate([joint_line(a, b) for a, b in pairwise(q)]):
            points = transform(BASE, link_points(arm, row))
            assert not inside(points, wall.T_world_object, WALL_M).any()
            assert points[:, 2].min() > 0.0
    assert np.abs(end - start).max() > 0.1


def test_a_held_object_is_carried_over_a_wall_and_not_through_it(scene, arm):
    cell = walled(scene, arm, (0.45, 0.02))
    poses, wall = poses_of(cell.scene), cell.scene.object("grey_wall")
    wall_T = make_T(np.eye(3), np.array([0.42, 0.0, 0.07 - WALL_M[2] / 2]))  # 7 cm of it stand out of the support
    poses[wall.key] = wall_T
    step = Step("place", "green_cube", "next to", wall.key)
    plan = plan_step(cell, step, poses, arm.home, 0)
    closed = np.flatnonzero(~plan.gripper_open)
    corners = np.array([[x, y, z] for x in (-1, 0, 1) for y in (-1, 0, 1) for z in (-1, 0, 1)]) * 0.02
    for t in closed:
        T = plan.T_world_tool[t] @ invert(plan.T_object_tool)
        assert not inside(transform(T, corners), wall_T, WALL_M, -0.001).any()
        assert transform(T, corners)[:, 2].min() > -0.002


def test_searches_find_corners_or_say_so():
    lower, upper = np.full(2, -2.0), np.full(2, 2.0)
    a, b = np.array([-1.0, 0.0]), np.array([1.0, 0.0])

    def gap(q):
        return abs(q[0]) > 0.2 or q[1] > 1.0

    way = find_way(gap, lower, upper, a, b, 3)
    assert way is not None
    np.testing.assert_allclose(way[[0, -1]], [a, b], atol=1e-9)
    for p, q in pairwise(way):
        assert all(gap(p + s * (q - p)) for s in np.linspace(0, 1, 30))
    assert find_way(lambda q: abs(q[0]) > 0.2, lower, upper, a, b, 3) is None


def test_a_line_that_cannot_be_followed_names_the_leg(scene, arm):
    cell = Workcell(scene, PANDA, arm, BASE, {}, FPS)
    load = Load("green_cube", np.eye(4), poses_of(scene))
    far = follow_legs(
        cell, (Leg("reach", down_at(2.0, 0.0, 0.1)[None], LINE, 0.2, True),), arm.home, load, Searches(0, 0)
    )
    assert isinstance(far, Trouble) and far.leg == "reach" and not far.blocked
    above, *_ = solve_pose(arm, invert(BASE) @ down_at(0.55, -0.12, 0.1), arm.home)
    under = down_at(0.55, -0.12, 0.0)
    low = follow_legs(cell, (Leg("lower", under[None], LINE, 0.2, True),), above, load, Searches(0, 0))
    assert isinstance(low, Trouble) and low.why == "the arm would hit the support"
    assert AIR_M > 0.0
