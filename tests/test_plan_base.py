"""Where the robot stands: reach, sight, room; and refusals."""

from dataclasses import replace

import numpy as np
import pytest
from synthetic import make_scene

from phototwin.errors import PlanError
from phototwin.frames import invert, make_T, project, transform
from phototwin.plan.base import CAMERA_DISTANCE_M, place_base
from phototwin.plan.grasp import obstacle_points, propose_grasps
from phototwin.plan.ik import link_points, load_arm, reached, solve_pose
from phototwin.plan.instruction import parse_instruction
from phototwin.robots import PANDA


@pytest.fixture(scope="module")
def arm():
    return load_arm(PANDA)


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    return make_scene(tmp_path_factory.mktemp("scene"))


@pytest.fixture(scope="module")
def placed(scene, arm):
    task = parse_instruction("put the green cube in the bowl", scene.objects)
    return task, place_base(scene, task, PANDA, arm, 0)


def test_the_base_stands_upright_on_the_support_and_is_the_same_every_time(scene, arm, placed):
    task, T = placed
    assert T[2, 3] == 0.0
    np.testing.assert_allclose(T[2, :3], [0, 0, 1], atol=1e-12)
    np.testing.assert_array_equal(T, place_base(scene, task, PANDA, arm, 0))


def test_the_base_is_clear_of_objects_and_camera(scene, arm, placed):
    T = placed[1]
    for item in scene.objects:
        away = np.hypot(*(obstacle_points(item, item.T_world_object)[:, :2] - T[:2, 3]).T)
        assert away.min() > PANDA.base_radius_m
    body = transform(T, link_points(arm, arm.home))
    assert np.linalg.norm(body - scene.camera.T_world_camera[:3, 3], axis=1).min() >= CAMERA_DISTANCE_M


def test_the_robot_at_rest_hides_nothing_of_the_objects(scene, arm, placed):
    T_camera_world = invert(scene.camera.T_world_camera)
    body = transform(T_camera_world @ placed[1], link_points(arm, arm.home))
    body_px = project(scene.camera.K_px, body[body[:, 2] > 0.05])
    for item in scene.objects:
        points = transform(T_camera_world @ item.T_world_object, item.mesh.points.astype(float))
        centre_px = project(scene.camera.K_px, points.mean(0))
        near = np.linalg.norm(body_px - centre_px, axis=1) < 4.0
        assert not (near & (body[body[:, 2] > 0.05, 2] < points[:, 2].mean())).any()


def test_the_objects_are_reached_in_place_and_moved(scene, arm, placed):
    task, T = placed
    item = scene.object(task.steps[0].object)
    grasps = propose_grasps(item, PANDA, (), item.T_world_object, 0)
    for shift in ((0, 0), (0.05, 0), (-0.05, 0), (0, 0.05), (0, -0.05)):
        moved = make_T(np.eye(3), np.array([*shift, 0.0])) @ item.T_world_object
        poses = invert(T) @ moved @ grasps.T_object_tool[:10]
        assert any(reached(*solve_pose(arm, pose, arm.home)[1:]) for pose in poses)


def test_no_free_place_is_refused(scene, arm):
    task = parse_instruction("pick up the can", scene.objects)
    wall = replace(scene.background, points=np.array(
        [[x, y, 0.3] for x in np.arange(-1, 2, 0.03) for y in np.arange(-1.5, 1.5, 0.03)], np.float32))  # fmt: skip
    with pytest.raises(PlanError, match="no free place"):
        place_base(replace(scene, background=wall), task, PANDA, arm, 0)


def test_what_is_too_high_is_out_of_reach(scene, arm):
    up = make_T(np.eye(3), np.array([0.0, 0.0, 1.5]))
    objects = tuple(replace(o, T_world_object=up @ o.T_world_object) for o in scene.objects)
    task = parse_instruction("pick up the can", objects)
    with pytest.raises(PlanError, match="out of reach"):
        place_base(replace(scene, objects=objects), task, PANDA, arm, 0)
