"""Setting up: which axis belongs up, where the thing stands then, and how it gets there."""

from dataclasses import replace

import numpy as np
import pytest
from synthetic import box_mesh, make_bowl, make_can, make_cube, make_scene

from phototwin.errors import PlanError
from phototwin.frames import invert, make_T, rotation_z, transform
from phototwin.plan.cell import make_workcell
from phototwin.plan.grasp import propose_grasps
from phototwin.plan.ik import load_arm
from phototwin.plan.places import turn_between_axes
from phototwin.plan.task import Step, Task
from phototwin.plan.upright import standing_axes, upright_poses
from phototwin.plan.waypoints import plan_step
from phototwin.robots import PANDA
from phototwin.scene import ConvexPiece

FPS = 20.0
SIZE_M = np.array([0.15, 0.05, 0.05])


def lying_box():
    points, faces, st = box_mesh(SIZE_M)
    box = make_cube()
    return replace(
        box,
        mesh=replace(box.mesh, points=points, faces=faces, st=st),
        pieces=(ConvexPiece(points, faces),),
        size_m=SIZE_M,
        mass_kg=0.2,
        T_world_object=make_T(rotation_z(0.4), np.array([0.40, -0.12, 0.025])),
    )


@pytest.fixture(scope="module")
def cell(tmp_path_factory):
    scene = make_scene(tmp_path_factory.mktemp("scene"))
    scene = replace(scene, objects=tuple(lying_box() if o.key == "green_cube" else o for o in scene.objects))
    task = Task((Step("upright", "green_cube"),), "set the green cube upright")
    return make_workcell(scene, task, PANDA, load_arm(PANDA), 0, FPS)


def poses_of(scene):
    return {item.key: item.T_world_object for item in scene.objects}


def test_the_axis_that_belongs_up():
    np.testing.assert_allclose(standing_axes(make_can()), [[0, 0, 1]])
    np.testing.assert_allclose(standing_axes(make_bowl()), [[0, 0, 1]])
    assert sorted(standing_axes(lying_box())[:, 0]) == [-1.0, 1.0]
    box = lying_box()
    points = box.mesh.points.copy()
    points[points[:, 0] > 0, 1:] *= 0.01  # a wedge stands on its wide end alone
    wedge = replace(box, mesh=replace(box.mesh, points=points))
    np.testing.assert_allclose(standing_axes(wedge), [[1, 0, 0]])


@pytest.mark.parametrize("seed", range(4))
def test_turns_take_one_axis_to_the_other(seed):
    rng = np.random.default_rng(seed)
    a, b = (v / np.linalg.norm(v) for v in rng.standard_normal((2, 3)))
    for end in (b, a, -a):
        R = turn_between_axes(a, end)
        np.testing.assert_allclose(R @ a, end, atol=1e-9)
        np.testing.assert_allclose(R @ R.T, np.eye(3), atol=1e-9)
        assert np.linalg.det(R) == pytest.approx(1.0)


@pytest.mark.parametrize("seed", range(2))
def test_the_box_ends_on_its_end(cell, seed):
    poses = poses_of(cell.scene)
    plan = plan_step(cell, Step("upright", "green_cube"), poses, cell.arm.home, seed)
    closed = np.flatnonzero(~plan.gripper_open)
    T = plan.T_world_tool[closed[-1]] @ invert(plan.T_object_tool)
    assert abs(T[2, 0]) == pytest.approx(1.0, abs=1e-4)
    low = transform(T, cell.scene.object("green_cube").mesh.points.astype(np.float64))[:, 2].min()
    assert 0.0 < low < 0.008
    assert np.linalg.norm(T[:2, 3] - poses["green_cube"][:2, 3]) < 0.13
    assert plan.gripper_open[-1] and plan.held is None
    corners = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)]) * SIZE_M / 2
    for t in closed:
        held = transform(plan.T_world_tool[t] @ invert(plan.T_object_tool), corners)
        assert held[:, 2].min() > -0.003
    speed = np.abs(np.diff(np.vstack([cell.arm.home, plan.q]), axis=0)) * FPS
    assert (speed <= cell.arm.velocity + 1e-3).all()


def test_a_can_on_its_side_is_grasped_as_it_lies_and_set_on_its_foot(cell):
    lying = np.array([[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [-1.0, 0.0, 0.0]])
    T_lying = make_T(rotation_z(0.5) @ lying, np.array([0.36, 0.12, 0.03]))
    poses = poses_of(cell.scene) | {"red_can": T_lying}
    plan = plan_step(cell, Step("upright", "red_can"), poses, cell.arm.home, 0)
    closed = np.flatnonzero(~plan.gripper_open)
    T = plan.T_world_tool[closed[-1]] @ invert(plan.T_object_tool)
    np.testing.assert_allclose(T[:3, 2], [0.0, 0.0, 1.0], atol=3e-3)
    assert 0.045 < T[2, 3] < 0.052


def test_what_stands_or_has_no_room_is_said(cell):
    poses = poses_of(cell.scene)
    with pytest.raises(PlanError, match="red can stands upright already"):
        plan_step(cell, Step("upright", "red_can"), poses, cell.arm.home, 0)
    item, rng = cell.scene.object("green_cube"), np.random.default_rng(0)
    bowl = cell.scene.object("white_bowl")
    crowd = tuple(
        (bowl, make_T(np.eye(3), np.array([*(poses["green_cube"][:2, 3] + [x, y]), 0.025])))
        for x in np.linspace(-0.2, 0.2, 5)
        for y in np.linspace(-0.2, 0.2, 5)
    )
    with pytest.raises(PlanError, match="no room to set the green cube up"):
        upright_poses(item, poses["green_cube"], crowd, cell, rng)
    assert upright_poses(item, poses["green_cube"], (), cell, rng)
    assert len(propose_grasps(item, PANDA, (), poses["green_cube"], 0).score)
