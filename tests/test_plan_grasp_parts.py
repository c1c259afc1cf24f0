"""Grasps of things in any pose, by part, with any gripper: closed forms, contacts in the friction cone, and coal as judge of what is hit."""

from dataclasses import replace

import numpy as np
import pytest
from synthetic import box_mesh, lathe, mug_mesh

from phototwin.errors import PlanError
from phototwin.frames import make_T, rotation_z, transform
from phototwin.plan.grasp import propose_grasps, reachable_grasps
from phototwin.plan.grasp_contacts import antipodal_pairs, sample_surface
from phototwin.plan.grasp_parts import has_handle, on_handle
from phototwin.plan.grasp_score import goal_is_clear, grip_force, pad_contact, score_grasps, suit
from phototwin.plan.gripper import CONTACT_SLACK_M, grip_offset, gripper_boxes, gripper_clears, gripper_is_free
from phototwin.plan.ik import load_arm, reached, solve_pose
from phototwin.plan.query import find_region
from phototwin.plan.region import grasps_hold
from phototwin.plan.task import Step
from phototwin.robots import PANDA, SO101
from phototwin.scene import Mesh, SceneObject

LYING = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]])
"""The object's Z along the world's -Y, its Y up."""


def make(name, points, faces, hollow=False, rotation=None):
    points = np.asarray(points, np.float32)
    size = (points.max(0) - points.min(0)).astype(np.float64)
    R = np.eye(3) if rotation is None else rotation
    T = make_T(R, np.array([0.1, 0.05, -float((points @ R[2]).min())]))
    mesh = Mesh(points, np.asarray(faces, np.int32), np.zeros((len(faces), 3, 2), np.float32))
    return SceneObject(name, name, "box", hollow, T, size, np.full(3, 0.5), mesh, (), 0.1)


def make_cylinder(radius=0.025, height=0.16, rotation=None):
    h = height / 2
    return make("can", *lathe(np.array([(0, -h), (radius, -h), (radius, h), (0, h)], float), 64), rotation=rotation)


def make_mug(radius=0.045, height=0.1, wall=0.004):
    """A vessel too wide to span, with a handle that is a bar of 12 x 15 mm, 70 mm high, 25 mm beside it, on two arms."""
    mesh = mug_mesh(radius, height, wall)
    return make("mug", mesh.points, mesh.faces, hollow=True)


def make_plate():
    """A dish of 24 cm whose rim rises at 30 degrees: nothing squarely across its wall can be reached, it lies so level."""
    foot, rim, low, high, wall = 0.07, 0.12, -0.02, 0.012, 0.004
    profile = [(0, low), (foot, low), (rim, high), (rim - 0.002, high + wall), (foot, low + wall), (0, low + wall)]
    return make("plate", *lathe(np.array(profile, float), 96), hollow=True)


def part_of(item, words):
    """The region of a part that the object's shape tells; no photo is looked at."""
    return find_region(None, item, words)


def propose(item, robot=PANDA, **options):
    return propose_grasps(item, robot, (), item.T_world_object, 0, **options)


def test_a_lying_cylinder_is_held_across_its_diameter_from_above():
    item = make_cylinder(rotation=LYING)
    grasps = propose(item)
    up = item.T_world_object[2, :3]
    # Closing along the diameter, level, and never along the axis: 0.16 m do not fit.
    assert np.median(np.abs(grasps.width_m - 0.05)) < 2e-4
    assert (np.abs(grasps.T_object_tool[:, 2, 1]) < 0.05).all()
    best = grasps.T_object_tool[:8]
    assert (-best[:, :3, 2] @ up > np.cos(np.deg2rad(25.0))).all()
    lower, upper = gripper_boxes(PANDA)
    corners = np.array([[x, y, z] for lo, hi in zip(lower, upper, strict=True) for x in (lo[0], hi[0]) for y in (lo[1], hi[1]) for z in (lo[2], hi[2])])  # fmt: skip
    for T in item.T_world_object @ grasps.T_object_tool:
        assert transform(T, corners)[:, 2].min() > 0.002


def test_turned_about_the_vertical_a_lying_thing_has_the_same_grasps():
    item = make_cylinder(rotation=LYING)
    turned = make_T(rotation_z(0.8) @ LYING, item.T_world_object[:3, 3])
    np.testing.assert_allclose(
        propose_grasps(item, PANDA, (), turned, 0).T_object_tool, propose(item).T_object_tool, atol=1e-9
    )


def test_upside_down_the_mirror_image_of_the_grasps_is_found():
    item = make_cylinder(0.03, 0.12)
    flipped = make_T(np.diag([1.0, -1.0, -1.0]), item.T_world_object[:3, 3])
    over = propose_grasps(item, PANDA, (), flipped, 0)
    # In the object's frame the gripper now comes from below.
    assert (over.T_object_tool[:, 2, 2] > 0.2).all()
    assert over.score[0] == pytest.approx(propose(item).score[0], abs=0.03)


@pytest.mark.parametrize("lean", [0.0, 0.4, 0.8])
def test_pairs_lie_on_the_surface_inside_both_friction_cones(lean):
    radius = 0.03
    angle = np.linspace(-np.pi / 2, np.pi / 2, 41)
    ball = make("ball", *lathe(np.stack([radius * np.cos(angle), radius * np.sin(angle)], 1), 64))
    points, normals = sample_surface(ball.mesh, 300, 0)
    pairs = antipodal_pairs(ball, points, normals, np.array([0.0, 0.0, 1.0]), lean)
    assert len(pairs.width_m) > 250
    cone = np.arctan(ball.friction)
    for side in (-1.0, 1.0):
        contact = pairs.middle + 0.5 * side * pairs.width_m[:, None] * pairs.closing
        np.testing.assert_allclose(np.linalg.norm(contact, axis=1), radius, atol=3e-4)
        cosine = np.einsum("pi,pi->p", contact / radius, side * pairs.closing)
        # On the facets of the mesh normals are up to 3 degrees off those of the ball.
        assert (np.arccos(np.clip(cosine, -1.0, 1.0)) < cone + 0.06).all()
    # A chord that leans by an angle from the normal is 2 r cos(angle) long; leaning makes steep ones leveller.
    rise = np.abs(pairs.closing[:, 2])
    assert rise.max() <= np.sin(np.pi / 2 - lean * cone) + 0.02
    if lean == 0.0:
        np.testing.assert_allclose(pairs.width_m, 2 * radius, atol=1e-3)


def test_a_mug_is_held_by_the_part_that_is_asked_for():
    mug = make_mug()
    assert has_handle(mug)
    assert on_handle(mug, np.array([[0.075, 0.0, 0.0]])).all() and not on_handle(mug, np.zeros((1, 3))).any()
    handle = propose(mug, region=part_of(mug, "handle"))
    assert (np.hypot(*handle.T_object_tool[:, :2, 3].T) > 0.05).all()
    assert handle.width_m.max() < 0.05
    rim = propose(mug, region=part_of(mug, "rim"))
    np.testing.assert_allclose(rim.width_m, 0.004, atol=5e-4)
    assert (rim.T_object_tool[:, 2, 3] > 0.05 - 0.016).all()
    assert (np.hypot(*rim.T_object_tool[:, :2, 3].T) < 0.05).all()
    with pytest.raises(PlanError, match=r"too wide to grasp by its side|No free grasp of the mug"):
        propose(mug, region=part_of(mug, "side"))  # 90 mm across, 78 mm fit


def test_what_has_no_such_part_is_refused_by_name():
    can = make_cylinder()
    with pytest.raises(PlanError, match="The can has no handle"):
        part_of(can, "handle")
    with pytest.raises(PlanError, match=r"not hollow and has no rim"):
        part_of(can, "rim")
    assert not has_handle(can) and not has_handle(make("block", *box_mesh(np.array([0.15, 0.1, 0.05]))[:2]))
    bottoms, tops = propose(can, region=part_of(can, "bottom")), propose(can, region=part_of(can, "top"))
    assert bottoms.T_object_tool[:, 2, 3].max() < -0.04 < 0.035 < tops.T_object_tool[:, 2, 3].min()
    # So low down the gripper must come from the side: its fingers are shorter than the can.
    leaning = propose(can, least_tilt_rad=np.deg2rad(40.0)).T_object_tool
    assert (-leaning[:, 2, 2] > -np.cos(np.deg2rad(40.0)) - 1).all() and (
        -leaning[:, 2, 2] <= np.cos(np.deg2rad(40.0)) + 1e-9
    ).all()


def test_a_sloping_rim_is_held_by_leaning_within_the_friction_cone():
    plate = make_plate()
    grasps = propose(plate)
    assert (grasps_hold(part_of(plate, "rim"), grasps.T_object_tool, grasps.width_m, PANDA) >= 0.5).any()
    assert (grasps.width_m < 0.008).all()
    assert (np.hypot(*grasps.T_object_tool[:, :2, 3].T) > 0.07).all()
    flat = make("lid", *box_mesh(np.array([0.2, 0.2, 0.008]))[:2])
    with pytest.raises(PlanError, match="too wide"):
        propose(flat)


def coal_hits(item, T, boxes):
    """Whether any of the boxes of each pose meets the mesh, by coal."""
    import coal  # pyright: ignore[reportMissingImports]

    model = coal.BVHModelOBBRSS()
    model.beginModel(len(item.mesh.faces), len(item.mesh.points))
    model.addVertices(item.mesh.points.astype(np.float64))
    model.addTriangles(item.mesh.faces)
    model.endModel()
    out = []
    for pose in T:
        hit = False
        for low, high in zip(*boxes, strict=True):
            result = coal.CollisionResult()
            place = coal.Transform3s(pose[:3, :3], transform(pose, 0.5 * (low + high)))
            coal.collide(model, coal.Transform3s(), coal.Box(*(high - low)), place, coal.CollisionRequest(), result)
            hit |= result.isCollision()
        out.append(hit)
    return np.array(out)


@pytest.mark.parametrize("make_item", [make_mug, make_plate, make_cylinder, lambda: make_cylinder(rotation=LYING)])
def test_coal_finds_the_open_gripper_free_at_every_grasp_and_on_its_way_there(make_item):
    item = make_item()
    T = propose(item).T_object_tool
    for back in (0.0, 0.02, 0.05):
        before = T.copy()
        before[:, :3, 3] -= back * T[:, :3, 2]
        assert not coal_hits(item, before, gripper_boxes(PANDA)).any()


def test_points_and_meshes_are_judged_alike():
    item = make_mug()
    rng = np.random.default_rng(0)
    T = propose(item).T_object_tool
    T = np.concatenate([T, T])
    T[:, :3, 3] += rng.uniform(-0.02, 0.02, (len(T), 3))
    width = np.full(len(T), 0.01)
    dense = sample_surface(item.mesh, 20000, 1)[0]
    by_mesh = gripper_clears(item, np.eye(4), T, width, PANDA, CONTACT_SLACK_M)
    by_points = gripper_is_free(T, width, PANDA, dense, CONTACT_SLACK_M)
    # Points can only miss what a surface between them hits.
    assert not (by_mesh & ~by_points).any()
    assert (by_mesh == by_points).mean() > 0.95


def test_a_jaw_that_stands_still_waits_beside_the_object():
    cube = make("cube", *box_mesh(np.full(3, 0.03))[:2])
    grasps = propose(cube, SO101)
    T = grasps.T_object_tool
    offset = grip_offset(SO101, grasps.width_m)
    middle = T[:, :3, 3] + offset[:, None] * T[:, :3, 1]
    # The middle of the cube is between the contacts along the closing direction.
    np.testing.assert_allclose(np.einsum("gi,gi->g", middle, T[:, :3, 1]), 0.0, atol=1e-5)
    still = -SO101.finger_open_m - (offset - 0.5 * grasps.width_m)
    assert (still <= -CONTACT_SLACK_M + 1e-9).all() and (still >= -0.0061).all()
    assert not coal_hits(cube, T, gripper_boxes(SO101)).any()
    # Either jaw may be on either side, which is not the same here.
    assert len({tuple(np.round(row, 3)) for row in T[:, :3, 1]}) >= 4


def test_pads_touch_flat_faces_wholly_and_edges_hardly():
    cube = make("cube", *box_mesh(np.full(3, 0.04))[:2])
    down = np.diag([1.0, -1.0, -1.0])
    T = np.array([make_T(down, np.zeros(3)), make_T(rotation_z(np.pi / 4) @ down, np.zeros(3))])
    share = pad_contact(cube.mesh, PANDA, T, np.array([0.04, 0.04 * 2**0.5]))
    np.testing.assert_allclose(share[0], 1.0)
    assert share[1].max() < 0.6


def test_what_suits_a_step():
    item = make_cylinder(0.025, 0.16, rotation=LYING)
    grasps, T_now = propose(item), item.T_world_object
    stand = make_T(np.eye(3), np.array([0.1, 0.05, 0.085]))
    fit = suit(grasps.T_object_tool, Step("upright", "can"), item, PANDA, T_now, stand)
    clear = goal_is_clear(grasps.T_object_tool, PANDA, stand)
    assert (fit[~clear] == 0).all() and (fit[clear] > 0).all()
    # Near the end that goes up is best: that end is at +Z of the object.
    assert np.corrcoef(fit[clear], grasps.T_object_tool[clear, 2, 3])[0, 1] > 0.9
    standing = make_cylinder()
    every = propose(standing)
    pour = suit(every.T_object_tool, Step("pour", "can", "in", "bowl"), standing, PANDA, standing.T_world_object)
    inside = suit(every.T_object_tool, Step("place", "can", "in", "bowl"), standing, PANDA, standing.T_world_object)
    tilt = -every.T_object_tool[:, 2, 2]
    assert np.corrcoef(pour, tilt)[0, 1] < 0 < np.corrcoef(inside, tilt)[0, 1]


def test_grasps_that_are_reached_are_those_with_a_posture_at_them_and_before_them():
    arm = load_arm(PANDA)
    item = make_cylinder()
    T = propose(item).T_object_tool[::4]
    T_base_object = make_T(np.eye(3), np.array([0.68, 0.0, 0.08]))
    hit = reachable_grasps(arm, T_base_object, T)
    assert hit.any()
    for pose in T_base_object @ T[hit]:
        assert reached(*solve_pose(arm, pose, arm.home)[1:])
    assert not reachable_grasps(arm, make_T(np.eye(3), np.array([1.6, 0.0, 0.08])), T).any()


def test_what_is_too_heavy_for_the_pads_is_refused():
    # 70 N on pads that reach 9.5 mm either way resist 0.67 N m; at its rim a plate turns with its weight times some 0.1 m.
    assert grip_force(PANDA) == pytest.approx(70.0)
    plate = make_plate()
    light, heavy = (replace(plate, mass_kg=m) for m in (0.3, 1.2))
    assert len(propose(light).score)
    with pytest.raises(PlanError, match=r"too heavy to hold .* 11.8 N"):
        propose(heavy)


def test_grasps_do_not_depend_on_where_the_world_has_its_origin():
    item = make_mug()
    moved = replace(item, T_world_object=make_T(np.eye(3), np.array([3.0, 2.0, 0.0])) @ item.T_world_object)
    np.testing.assert_array_equal(propose(moved).T_object_tool, propose(item).T_object_tool)


def test_a_grasp_that_still_holds_a_centimetre_aside_is_worth_more():
    item = make("cube", *box_mesh(np.full(3, 0.045)))
    by_m = np.array([0.0, 0.005, 0.010, 0.015])
    T = np.stack([make_T(np.diag([1.0, -1.0, -1.0]), np.array([x, 0.0, 0.0])) for x in by_m])
    score = score_grasps(item, PANDA, np.array([0.0, 0.0, 1.0]), T, np.full(4, 0.045), np.ones(4))
    assert (np.diff(score) < 0.0).all()
    # The first three have the whole of both pads on the cube; the lever of a centimetre alone costs 0.015.
    assert (pad_contact(item.mesh, PANDA, T[:3], np.full(3, 0.045)) == 1.0).all()
    assert score[0] - score[2] > 0.03
