"""Pushes: the asked way in the picture, a low and central contact, and reasons where none is possible."""

from dataclasses import replace

import numpy as np
import pytest
from synthetic import make_scene

from phototwin.errors import PlanError
from phototwin.frames import invert, make_T, project, rotation_z, transform
from phototwin.plan.cell import Workcell
from phototwin.plan.ik import load_arm
from phototwin.plan.push import PUSH_M, SHORT_PUSH_M, closed_gripper, push_way, pushes
from phototwin.plan.task import Step
from phototwin.plan.waypoints import plan_step
from phototwin.robots import PANDA

FPS = 20.0
BASE = make_T(rotation_z(np.pi), np.array([0.95, 0.0, 0.0]))
WAYS = {"left": (-1, 0), "right": (1, 0), "away": (0, -1), "closer": (0, 1)}


@pytest.fixture(scope="module")
def arm():
    return load_arm(PANDA)


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    """Everything out of the way of everything else."""
    scene = make_scene(tmp_path_factory.mktemp("scene"))
    places = {"green_cube": (0.50, -0.16), "white_bowl": (0.42, 0.24), "red_can": (0.52, 0.04)}
    objects = []
    for item in scene.objects:
        T = make_T(item.T_world_object[:3, :3], np.array([*places[item.key], item.T_world_object[2, 3]]))
        objects.append(replace(item, T_world_object=T))
    return replace(scene, objects=tuple(objects))


@pytest.fixture(scope="module")
def cell(scene, arm):
    return Workcell(scene, PANDA, arm, BASE, {}, FPS)


def poses_of(scene):
    return {item.key: item.T_world_object for item in scene.objects}


@pytest.mark.parametrize("key", ["red_can", "green_cube"])
@pytest.mark.parametrize("relation", list(WAYS))
def test_a_push_goes_the_asked_way_in_the_picture(cell, arm, relation, key):
    step, poses = Step("push", key, relation), poses_of(cell.scene)
    plan = plan_step(cell, step, poses, arm.home, 0)
    before, after = poses[key], plan.T_world_goal
    np.testing.assert_allclose(after[:3, :3], before[:3, :3])
    assert after[2, 3] == before[2, 3]
    moved = np.linalg.norm(after[:3, 3] - before[:3, 3])
    assert min(abs(moved - PUSH_M), abs(moved - SHORT_PUSH_M)) < 1e-9
    camera = cell.scene.camera
    px = project(camera.K_px, transform(invert(camera.T_world_camera), np.stack([before[:3, 3], after[:3, 3]])))
    shift, asked = px[1] - px[0], np.array(WAYS[relation])
    assert shift @ asked > 0.6 * np.linalg.norm(shift)
    way = push_way(step, camera, poses)
    assert (after - before)[:2, 3] @ way > np.cos(np.deg2rad(21.0)) * moved
    assert not plan.gripper_open.any() and plan.held is None


@pytest.mark.parametrize("relation", list(WAYS))
def test_the_tool_touches_low_from_behind_and_follows_the_way(cell, arm, relation):
    step, poses = Step("push", "red_can", relation), poses_of(cell.scene)
    can = cell.scene.object("red_can")
    plan = plan_step(cell, step, poses, arm.home, 1)
    names = np.array(plan.steps)[plan.step]
    way = (plan.T_world_goal - poses["red_can"])[:3, 3]
    length = np.linalg.norm(way)
    touch = poses["red_can"] @ plan.T_object_tool
    lower, upper = closed_gripper(PANDA)
    dense = np.array([[r * np.cos(a), r * np.sin(a), z] for r in (0.0, 0.03) for a in np.linspace(0, 6.28, 90)
                      for z in np.linspace(-0.045, 0.045, 30)])  # fmt: skip
    local = transform(invert(touch), transform(poses["red_can"], dense))
    for low, high in zip(lower, upper, strict=True):
        assert not ((local > low + 1.5e-3) & (local < high - 1.5e-3)).all(1).any()
    nudged = transform(
        invert(make_T(touch[:3, :3], touch[:3, 3] + 0.003 * way / length)), transform(poses["red_can"], dense)
    )
    met = ((nudged > lower[0]) & (nudged < upper[0])).all(1)
    assert met.any()
    assert dense[met][:, 2].max() + 0.045 < 0.5 * can.size_m[2]
    pushing = plan.T_world_tool[names == "push"][:, :3, 3] - touch[:3, 3]
    along = pushing @ way / length
    assert np.linalg.norm(pushing - along[:, None] * way / length, axis=1).max() < 1e-3
    assert along.min() > -1e-3 and along[-1] == pytest.approx(length, abs=1e-3)
    corners = np.array([[x, y, z] for x in (0, 1) for y in (0, 1) for z in (0, 1)])
    for T in plan.T_world_tool[::5]:
        boxes = [transform(T, low + corners * (high - low))[:, 2].min() for low, high in zip(lower, upper, strict=True)]
        assert min(boxes) > 0.001


def test_a_push_next_to_a_target_ends_beside_it(cell, arm):
    poses = poses_of(cell.scene)
    plan = plan_step(cell, Step("push", "green_cube", "next to", "red_can"), poses, arm.home, 0)
    apart = np.linalg.norm((plan.T_world_goal - poses["red_can"])[:2, 3]) - 0.03
    assert 0.02 < apart - 0.02 * np.sqrt(2) + 0.015 < 0.05
    near = poses | {"green_cube": make_T(np.eye(3), np.array([0.52, 0.04 - 0.03 - 0.02 - 0.02, 0.02]))}
    with pytest.raises(PlanError, match="from the red can already"):
        plan_step(cell, Step("push", "green_cube", "next to", "red_can"), near, arm.home, 0)


def test_what_is_in_the_way_or_would_roll_is_said(cell, arm):
    poses = poses_of(cell.scene)
    step = Step("push", "red_can", "right")
    way = push_way(step, cell.scene.camera, poses)
    beside = poses | {"green_cube": poses["red_can"] @ make_T(np.eye(3), np.array([*(0.08 * way), -0.025]))}
    with pytest.raises(PlanError, match="cannot be pushed to the right: the green cube is in the way"):
        plan_step(cell, step, beside, arm.home, 0)
    lying = np.array([[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [-1.0, 0.0, 0.0]])
    across = rotation_z(np.arctan2(way[1], way[0]) + np.pi / 2) @ lying
    with pytest.raises(PlanError, match="it would roll away"):
        plan_step(cell, step, poses | {"red_can": make_T(across, np.array([0.52, 0.04, 0.03]))}, arm.home, 0)
    along = rotation_z(np.arctan2(way[1], way[0])) @ lying
    assert plan_step(cell, step, poses | {"red_can": make_T(along, np.array([0.52, 0.04, 0.03]))}, arm.home, 0)
    edge = replace(cell.scene.support, polygon_w=np.array([[0.4, -0.4], [0.6, -0.4], [0.6, 0.4], [0.4, 0.4]]))
    small = replace(cell, scene=replace(cell.scene, support=edge))
    with pytest.raises(PlanError, match="away from the camera: it would leave the support"):
        plan_step(small, Step("push", "red_can", "away"), poses, arm.home, 0)


def test_contacts_span_the_line_through_the_centre_of_mass(cell):
    rng = np.random.default_rng(0)
    poses = poses_of(cell.scene)
    options = pushes(Step("push", "green_cube", "left"), cell, poses, (), rng)
    costs = [push.cost for push in options]
    assert costs == sorted(costs)
    way = (options[0].T_world_goal - poses["green_cube"])[:2, 3] / PUSH_M
    tool = (poses["green_cube"] @ options[0].T_object_tool)[:2, 3] - poses["green_cube"][:2, 3]
    assert abs(way[0] * tool[1] - way[1] * tool[0]) < 0.008
    faces = [rotation_z(k * np.pi / 2) @ poses["green_cube"][:3, 0] for k in range(4)]
    assert max(face[:2] @ way for face in faces) > np.cos(np.deg2rad(26.0))


def test_pushes_are_the_same_for_a_seed(cell, arm):
    first, again = (
        plan_step(cell, Step("push", "green_cube", "left"), poses_of(cell.scene), arm.home, 4) for _ in range(2)
    )
    np.testing.assert_array_equal(first.q, again.q)
