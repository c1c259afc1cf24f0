"""Pours: the rim stays over the target while the held thing is tilted, and it is put back where it stood."""

import numpy as np
import pytest
from synthetic import make_bowl, make_can, make_scene

from phototwin.errors import PlanError
from phototwin.frames import invert, make_T, rotation_z, transform
from phototwin.plan.cell import make_workcell
from phototwin.plan.ik import load_arm
from phototwin.plan.paths import TILT_RAD as LEVEL_RAD
from phototwin.plan.pour import ABOVE_M, TILT_RAD, make_tilt, opening, rim_over_target, tilt_angle
from phototwin.plan.task import Step, Task
from phototwin.plan.waypoints import plan_step
from phototwin.robots import PANDA

FPS = 20.0


@pytest.fixture(scope="module")
def cell(tmp_path_factory):
    scene = make_scene(tmp_path_factory.mktemp("scene"))
    task = Task((Step("pour", "red_can", "in", "white_bowl"),), "pour the red can into the white bowl")
    return make_workcell(scene, task, PANDA, load_arm(PANDA), 0, FPS)


@pytest.fixture(scope="module")
def plan(cell):
    return plan_step(cell, Step("pour", "red_can", "in", "white_bowl"), poses_of(cell.scene), cell.arm.home, 0)


def poses_of(scene):
    return {item.key: item.T_world_object for item in scene.objects}


def held_poses(cell, plan):
    """The can's poses while the gripper is closed, and the names of the legs then."""
    closed = ~plan.gripper_open
    T = plan.T_world_tool[closed] @ invert(plan.T_object_tool)
    return T, np.array(plan.steps)[plan.step[closed]]


@pytest.mark.parametrize("way_rad", [0.0, 1.1, 2.9, 4.4])
def test_a_tilt_keeps_the_rim_over_the_opening_and_clear_of_the_target(way_rad):
    can, bowl = make_can(), make_bowl()
    way = np.array([np.cos(way_rad), np.sin(way_rad), 0.0])
    tilt = make_tilt(can, rotation_z(0.7), way, bowl, bowl.T_world_object)
    assert tilt_angle(tilt.T_world_object[0]) == pytest.approx(0.0, abs=1e-6)
    assert tilt_angle(tilt.T_world_object[-1]) == pytest.approx(TILT_RAD, abs=1e-9)
    assert np.deg2rad(100.0) <= TILT_RAD
    off = rim_over_target(can, tilt.T_world_object[1:], bowl, bowl.T_world_object)
    assert np.linalg.norm(off, axis=1).max() < 0.25 * opening(bowl)[1]
    pivot = transform(invert(bowl.T_world_object), np.array([transform(T, tilt.rim_o) for T in tilt.T_world_object]))
    np.testing.assert_allclose(pivot[:, :2], 0.0, atol=1e-9)
    for T in tilt.T_world_object:
        lowest = transform(T, can.mesh.points.astype(np.float64))[:, 2].min()
        assert lowest == pytest.approx(bowl.size_m[2] + ABOVE_M, abs=1e-6)
        leans = T[:3, 2] @ way
        assert leans >= -1e-9


def test_the_rim_stays_over_the_target_during_all_of_the_tilt(cell, plan):
    can, bowl = cell.scene.object("red_can"), cell.scene.object("white_bowl")
    T, legs = held_poses(cell, plan)
    tilting = np.isin(legs, ["tilt", "pour", "tilt back"])
    angle = tilt_angle(T[tilting])
    assert angle.max() > np.deg2rad(105.0)
    leaning = T[tilting][angle > np.deg2rad(5.0)]
    off = rim_over_target(can, leaning, bowl, bowl.T_world_object)
    assert np.linalg.norm(off, axis=1).max() < 0.5 * opening(bowl)[1]
    lowest = min(transform(pose, can.mesh.points.astype(np.float64))[:, 2].min() for pose in T[tilting][::4])
    assert lowest > bowl.size_m[2] + 0.5 * ABOVE_M
    held_still = T[legs == "pour"]
    assert np.ptp(held_still[:, :3, 3], axis=0).max() < 1e-3 and len(held_still) >= 0.7 * FPS


def test_on_the_way_it_stays_upright_and_it_ends_where_it_stood(cell, plan):
    T, legs = held_poses(cell, plan)
    carried = np.isin(legs, ["lift", "carry over", "carry", "lower"])
    assert tilt_angle(T[carried]).max() < LEVEL_RAD + 0.02
    start = cell.scene.object("red_can").T_world_object
    np.testing.assert_allclose(T[-1][:3, 3], plan.T_world_goal[:3, 3], atol=1e-3)
    np.testing.assert_allclose(T[-1][:2, 3], start[:2, 3], atol=1e-3)
    assert 0.0 < T[-1][2, 3] - start[2, 3] < 0.01
    assert plan.gripper_open[-1] and plan.held is None


def test_no_neighbour_is_swept_by_what_is_held(cell, plan):
    cube = cell.scene.object("green_cube")
    T, _ = held_poses(cell, plan)
    points = cell.scene.object("red_can").mesh.points.astype(np.float64)
    for pose in T[::3]:
        local = transform(invert(cube.T_world_object) @ pose, points)
        assert not (np.abs(local) < cube.size_m / 2).all(1).any()


def test_speeds_and_limits_of_a_pour(cell, plan):
    q = np.vstack([cell.arm.home, plan.q.astype(np.float64)])
    assert (np.abs(np.diff(q, axis=0)) * FPS <= cell.arm.velocity + 1e-3).all()
    assert (q >= cell.arm.lower - 1e-6).all() and (q <= cell.arm.upper + 1e-6).all()
    assert len(plan.q) / FPS < 25.0


def test_pours_are_the_same_for_a_seed_and_out_of_reach_is_said(cell, plan):
    step = Step("pour", "red_can", "in", "white_bowl")
    again = plan_step(cell, step, poses_of(cell.scene), cell.arm.home, 0)
    np.testing.assert_array_equal(plan.q, again.q)
    far = poses_of(cell.scene)
    far["white_bowl"] = make_T(np.eye(3), np.array([3.0, 0.0, 0.025]))
    with pytest.raises(PlanError, match=r"No motion was found to pour the red can: .* at the step 'tilt: out of reach"):
        plan_step(cell, step, far, cell.arm.home, 0)
