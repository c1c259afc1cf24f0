"""Where the robot stands: reach, sight, room; as measured; and refusals."""

import json
from dataclasses import replace

import numpy as np
import pytest
from synthetic import make_scene

from phototwin.errors import InputError, PlanError
from phototwin.frames import invert, make_T, project, rotation_z, transform
from phototwin.plan import base
from phototwin.plan.base import CAMERA_DISTANCE_M, load_base, place_base
from phototwin.plan.grasp import obstacle_points, propose_grasps
from phototwin.plan.ik import link_points, load_arm, reached, solve_pose, solve_poses, tool_pose
from phototwin.plan.instruction import parse_instruction
from phototwin.plan.places import lift_poses
from phototwin.plan.push import push_way
from phototwin.plan.task import Step, Task
from phototwin.robots import G1, PANDA, SO101, UR10


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


@pytest.mark.parametrize("robot", [UR10, SO101, G1], ids=lambda r: r.name)
def test_every_robot_finds_a_place_from_which_one_grasp_reaches_the_cube_and_lifts_it(scene, robot):
    arm = load_arm(robot)
    task = parse_instruction("pick up the green cube", scene.objects)
    item = scene.object("green_cube")
    T = place_base(scene, task, robot, arm, 0)
    assert T[2, 3] == robot.base_height_m
    tool = (T @ tool_pose(arm, arm.home))[:2, 3] - T[:2, 3]
    towards = item.T_world_object[:2, 3] - T[:2, 3]
    assert np.dot(tool, towards) / np.linalg.norm(tool) / np.linalg.norm(towards) > 0.999
    rest = transform(T, np.concatenate([link_points(arm, arm.home), arm.base_points]))
    for other in scene.objects:
        local = transform(invert(other.T_world_object), rest)
        assert not (np.abs(local) < 0.5 * other.size_m).all(1).any()
    grasps = propose_grasps(item, robot, (), item.T_world_object, 0)
    lifted = lift_poses(item.T_world_object, robot, T)
    ways = grasps.T_object_tool[:24]
    stops = [item.T_world_object, *lifted]
    hit = [solve_poses(arm, invert(T) @ stop @ ways, arm.home)[1] for stop in stops]
    assert (hit[0] & np.any(hit[1:], axis=0)).any()


def test_a_push_needs_no_grasp(scene, arm):
    """The bowl is wider than the gripper, but its way left is within reach."""
    task = Task((Step("push", "white_bowl", "left"),), "push the bowl to the left")
    T = place_base(scene, task, PANDA, arm, 0)
    way = push_way(task.steps[0], scene.camera, {o.key: o.T_world_object for o in scene.objects})
    behind = scene.object("white_bowl").T_world_object[:2, 3] - 0.10 * way
    for shift in (0.0, 0.10):
        down = make_T(np.diag([1.0, -1.0, -1.0]), np.array([*(behind + shift * way), 0.03]))
        poses = [invert(T) @ down @ make_T(rotation_z(a), np.zeros(3)) for a in np.arange(0, 2 * np.pi, np.pi / 4)]
        assert any(reached(*solve_pose(arm, pose, arm.home)[1:]) for pose in poses)


def test_a_base_is_taken_as_measured_in_world_or_camera(scene, tmp_path):
    T = make_T(rotation_z(0.4), np.array([0.3, -0.5, 0.02]))
    np.testing.assert_allclose(load_base(f"0.3 -0.5 0.02 {np.degrees(0.4)}", scene.camera), T, atol=1e-12)
    np.testing.assert_allclose(load_base(f"0.3, -0.5, 0.02, {np.degrees(0.4)}", scene.camera), T, atol=1e-12)
    file = tmp_path / "base.json"
    file.write_text(json.dumps({"T_world_base": T.round(5).tolist()}))
    np.testing.assert_allclose(load_base(str(file), scene.camera), T, atol=2e-5)
    file.write_text(json.dumps({"T_camera_base": (invert(scene.camera.T_world_camera) @ T).tolist()}))
    np.testing.assert_allclose(load_base(str(file), scene.camera), T, atol=1e-9)
    R = load_base(str(file), scene.camera)[:3, :3]
    np.testing.assert_allclose(R @ R.T, np.eye(3), atol=1e-12)


@pytest.mark.parametrize("value", [
    {"T_world_base": [[2.0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]},
    {"T_world_base": [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, -1, 0], [0, 0, 0, 1]]},
    {"T_world_base": [1, 2, 3]}, {"T_world_base": "here"}, {"T_base_camera": np.eye(4).tolist()}, [1.0],
])  # fmt: skip
def test_no_rigid_matrix_is_refused(scene, tmp_path, value):
    file = tmp_path / "base.json"
    file.write_text(json.dumps(value))
    with pytest.raises(InputError, match="rigid 4x4 matrix"):
        load_base(str(file), scene.camera)


def test_neither_numbers_nor_file_is_refused(scene, tmp_path):
    for text in ("1 2 3", str(tmp_path / "missing.json"), "over there"):
        with pytest.raises(InputError, match="x y z yaw"):
            load_base(text, scene.camera)


@pytest.mark.parametrize(("text", "nearer"), [("push the red can away", 0.3), ("push the green cube away", 0.45)])
def test_the_arm_at_work_stays_away_from_a_near_camera(scene, arm, text, nearer, monkeypatch):
    centre = np.mean([item.T_world_object[:3, 3] for item in scene.objects], 0)
    T_world_camera = scene.camera.T_world_camera.copy()
    T_world_camera[:3, 3] += nearer * (centre - T_world_camera[:3, 3])
    near = replace(scene, camera=replace(scene.camera, T_world_camera=T_world_camera))
    task = parse_instruction(text, near.objects)
    fills = base._fills_picture
    chosen = place_base(near, task, PANDA, arm, 0)
    monkeypatch.setattr(base, "_fills_picture", lambda *_: 0.0)
    blind = place_base(near, task, PANDA, arm, 0)
    (step,) = task.steps
    assert fills(near, step, arm, chosen, {}) < fills(near, step, arm, blind, {}) - 0.05
