"""URDFs made of others: pinocchio, which reads them, is the judge."""

from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pytest

from phototwin.errors import InputError
from phototwin.robots import G1, PANDA, SO101, UR10, Box, Hand
from phototwin.stage.compose import compose_urdf, matrix_from_rpy, rpy_from_matrix
from phototwin.stage.robots import robot_urdf

ARM = """<robot name="arm"><link name="base"/><link name="tip"/><link name="cover"/><link name="screw"/>
<joint name="turn" type="revolute"><parent link="base"/><child link="tip"/><origin xyz="0 0 1" rpy="0.3 -0.2 0.5"/>
<axis xyz="0 2 0"/><limit lower="-2" upper="2" effort="1" velocity="1"/></joint>
<joint name="lid" type="fixed"><parent link="tip"/><child link="cover"/></joint>
<joint name="thread" type="prismatic"><parent link="cover"/><child link="screw"/><axis xyz="1 0 0"/>
<limit lower="-1" upper="1" effort="1" velocity="1"/></joint>
<transmission name="t"><joint name="turn"/></transmission></robot>"""
HAND = """<robot name="hand"><link name="flange"/><link name="palm"/><link name="finger"/>
<joint name="f" type="fixed"><parent link="flange"/><child link="palm"/></joint>
<joint name="slide" type="prismatic"><parent link="palm"/><child link="finger"/><origin xyz="0 0.1 0"/><axis xyz="0 1 0"/>
<limit lower="0" upper="1" effort="1" velocity="1"/></joint></robot>"""
PLAIN = replace(PANDA, urdf="arm.urdf")


def read(text):
    import pinocchio as pin

    return pin.buildModelFromXML(text)


def poses(model, q):
    import pinocchio as pin

    data = model.createData()
    pin.framesForwardKinematics(model, data, np.asarray(q, dtype=float))
    return {f.name: data.oMf[i].homogeneous.copy() for i, f in enumerate(model.frames)}


@pytest.mark.parametrize("value", [-1.3, 0.0, 0.7])
def test_a_locked_joint_stands_where_the_moving_one_stood(value):
    moving = read(compose_urdf(ARM, "", PLAIN))
    held = read(compose_urdf(ARM, "", replace(PLAIN, locked={"turn": value, "thread": 0.4})))
    assert (moving.nq, held.nq) == (2, 0)
    before, after = poses(moving, [value, 0.4]), poses(held, [])
    for link in ("tip", "screw"):
        np.testing.assert_allclose(after[link], before[link], atol=1e-9)


def test_the_first_pattern_that_matches_locks_and_fixed_joints_stay():
    held = read(compose_urdf(ARM, "", replace(PLAIN, locked={"turn": 0.5, ".*": 0.0})))
    exact = read(compose_urdf(ARM, "", replace(PLAIN, locked={"turn": 0.5, "thread": 0.0})))
    np.testing.assert_allclose(poses(held, [])["screw"], poses(exact, [])["screw"], atol=1e-12)


def test_a_hand_is_mounted_where_it_should_with_all_it_carries_and_nothing_else():
    hand = Hand("hand.urdf", "palm", "tip", (0.0, 0.0, 0.2), (0.1, 0.2, 0.3))
    model = read(compose_urdf(ARM, HAND, replace(PLAIN, hand=hand)))
    assert set(model.names[1:]) == {"turn", "slide", "thread"}
    assert not model.existFrame("flange")
    q = np.zeros(model.nq)
    q[model.joints[model.getJointId("slide")].idx_q] = 0.05
    at = poses(model, q)
    relative = np.linalg.inv(at["tip"]) @ at["palm"]
    np.testing.assert_allclose(relative[:3, 3], [0, 0, 0.2], atol=1e-12)
    np.testing.assert_allclose(relative[:3, :3], matrix_from_rpy(np.array([0.1, 0.2, 0.3])), atol=1e-12)
    np.testing.assert_allclose(at["finger"][:3, 3], (at["palm"] @ [0, 0.15, 0, 1])[:3], atol=1e-9)


def test_what_is_left_out_goes_with_what_it_carries():
    model = read(compose_urdf(ARM, "", replace(PLAIN, without=("lid",))))
    assert list(model.names[1:]) == ["turn"]
    assert not model.existFrame("cover")
    assert not model.existFrame("screw")


def test_boxes_take_the_place_of_collision_shapes_and_other_simulators_parts_are_dropped():
    text = compose_urdf(ARM, "", replace(PLAIN, boxes={"tip": (Box((1, 2, 3), (4, 5, 6), (0, 0, 1)),)}))
    root = ElementTree.fromstring(text)
    assert root.get("name") == "panda"
    assert not root.findall("transmission")
    (box,) = root.findall(".//collision")
    assert box.find("origin").get("xyz") == "1.0 2.0 3.0"
    assert box.find("geometry/box").get("size") == "4.0 5.0 6.0"


def test_roll_pitch_yaw_goes_there_and_back():
    from scipy.spatial.transform import Rotation

    rng = np.random.default_rng(0)
    for rpy in [*rng.uniform(-np.pi, np.pi, (50, 3)), (0.3, np.pi / 2, 0.0), (1.0, -np.pi / 2, 0.4)]:
        R = matrix_from_rpy(np.array(rpy))
        np.testing.assert_allclose(R, Rotation.from_euler("xyz", rpy).as_matrix(), atol=1e-12)
        np.testing.assert_allclose(matrix_from_rpy(rpy_from_matrix(R)), R, atol=1e-7)


def test_what_is_not_there_or_twice_is_refused():
    with pytest.raises(InputError, match="not a URDF"):
        compose_urdf("<robot", "", PLAIN)
    with pytest.raises(InputError, match="no joint 'elbow'"):
        compose_urdf(ARM, "", replace(PLAIN, without=("elbow",)))
    with pytest.raises(InputError, match="no link 'wrist'"):
        compose_urdf(ARM, HAND, replace(PLAIN, hand=Hand("hand.urdf", "palm", "wrist")))
    with pytest.raises(InputError, match="both have a link 'tip'"):
        compose_urdf(ARM, ARM, replace(PLAIN, hand=Hand("arm.urdf", "tip", "tip")))


@pytest.mark.parametrize("robot", [UR10, SO101, G1], ids=lambda r: r.name)
def test_composed_robots_move_what_they_say_and_weigh_what_their_urdf_says(robot, tmp_path):
    import pinocchio as pin

    urdf, share = robot_urdf(robot, tmp_path)
    assert robot_urdf(robot, tmp_path)[0] == urdf
    assert [p.name for p in (tmp_path / "robots").iterdir()] == [urdf.name]
    model = pin.buildModelFromUrdf(str(urdf))
    assert set(model.names[1:]) == {*robot.arm_joints, *robot.finger_joints}
    pin.buildGeomFromUrdf(model, str(urdf), pin.GeometryType.COLLISION, package_dirs=[str(share)])
    weight = sum(float(m.get("value")) for m in ElementTree.parse(urdf).getroot().iter("mass"))
    assert pin.computeTotalMass(model) + model.inertias[0].mass == pytest.approx(weight, abs=0.02)


def test_a_plain_robot_s_urdf_is_the_package_s(tmp_path):
    urdf, share = robot_urdf(PANDA, tmp_path)
    assert share in urdf.parents
    assert not list(tmp_path.iterdir())
