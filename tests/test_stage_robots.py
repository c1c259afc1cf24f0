import dataclasses
import math
import shutil
import subprocess
import sys
from importlib import metadata
from types import SimpleNamespace

import numpy as np
import pytest

from phototwin.errors import InputError, OutputError, TwinError
from phototwin.robots import G1, PANDA, ROBOTS, SO101, UR10, get_robot, match_joint, rest_positions, tool_in_link
from phototwin.stage import robots
from phototwin.stage.robots import robot_urdf, robot_usd


@pytest.fixture(scope="module")
def panda(tmp_path_factory):
    return robot_usd(PANDA, tmp_path_factory.mktemp("cache"))


def open_stage(file):
    from pxr import Usd

    return Usd.Stage.Open(str(file))


def test_urdf_and_its_packages_are_found():
    urdf, packages = robot_urdf(PANDA)
    assert urdf.is_file()
    assert (packages / "example-robot-data/robots/panda_description/meshes").is_dir()


def test_pinocchio_reads_the_urdf():
    import pinocchio

    urdf, packages = robot_urdf(PANDA)
    model = pinocchio.buildModelFromUrdf(str(urdf))
    assert set(PANDA.arm_joints) < set(model.names)
    assert model.existFrame(PANDA.tcp_body)
    geometry = pinocchio.buildGeomFromUrdf(model, str(urdf), pinocchio.COLLISION, package_dirs=[str(packages)])
    assert geometry.ngeoms > 8


def test_articulation_root_is_the_only_root_prim(panda):
    from pxr import UsdPhysics

    stage = open_stage(panda)
    assert [p.GetPath() for p in stage.GetPseudoRoot().GetAllChildren()] == [stage.GetDefaultPrim().GetPath()]
    roots = [p for p in stage.TraverseAll() if p.HasAPI(UsdPhysics.ArticulationRootAPI)]
    assert roots == [stage.GetDefaultPrim()]
    assert not [p for p in stage.TraverseAll() if p.IsA(UsdPhysics.Scene) or p.IsInstanceable()]


def test_drives_have_the_robot_s_gains(panda):
    """Angular gains are per degree in USD, and both fingers are driven on their own."""
    from pxr import UsdPhysics

    seen = {}
    stage = open_stage(panda)
    for prim in stage.TraverseAll():
        for kind, unit in (("angular", 180 / math.pi), ("linear", 1.0)):
            if prim.HasAPI(UsdPhysics.DriveAPI, kind):
                drive = UsdPhysics.DriveAPI(prim, kind)
                values = (drive.GetStiffnessAttr().Get(), drive.GetDampingAttr().Get())
                seen[prim.GetName()] = (*(v * unit for v in values), drive.GetMaxForceAttr().Get())
                assert not any("mimic" in name.lower() for name in prim.GetAppliedSchemas() + prim.GetPropertyNames())
    assert set(seen) == {*PANDA.arm_joints, *PANDA.finger_joints}
    assert np.allclose(seen["panda_joint1"], (600, 50, 87), rtol=1e-6)
    assert np.allclose(seen["panda_joint5"], (250, 30, 12), rtol=1e-6)
    assert np.allclose(seen["panda_joint7"], (50, 15, 12), rtol=1e-6)
    assert seen["panda_finger_joint1"] == seen["panda_finger_joint2"] == (1000, 100, 70)


def test_only_the_fingers_have_rubber(panda):
    from pxr import UsdPhysics, UsdShade

    rubber = set()
    stage = open_stage(panda)
    for prim in stage.TraverseAll():
        material = UsdShade.MaterialBindingAPI(prim).ComputeBoundMaterial("physics")[0]
        if prim.HasAPI(UsdPhysics.CollisionAPI) and material and material.GetPrim().HasAPI(UsdPhysics.MaterialAPI):
            assert UsdPhysics.MaterialAPI(material.GetPrim()).GetStaticFrictionAttr().Get() == pytest.approx(1.2)
            rubber.add(prim.GetParent().GetName())
    assert rubber == {"panda_leftfinger", "panda_rightfinger"}


@pytest.mark.parametrize(("robot", "rubber"), [
    (UR10, {"panda_leftfinger", "panda_rightfinger"}),
    (SO101, {"gripper_link", "moving_jaw_so101_v1_link"}),
    (G1, {f"right_hand_{finger}_link" for finger in ("palm", "thumb_0", "thumb_1", "thumb_2", "index_0", "index_1", "middle_0", "middle_1")}),
], ids=lambda value: getattr(value, "name", ""))  # fmt: skip
def test_every_robot_is_driven_in_all_its_joints_and_has_rubber_where_it_grasps(robot, rubber, tmp_path):
    from pxr import UsdPhysics, UsdShade

    stage = open_stage(robot_usd(robot, tmp_path))
    driven, soft = set(), set()
    for prim in stage.TraverseAll():
        if any(prim.HasAPI(UsdPhysics.DriveAPI, kind) for kind in ("angular", "linear")):
            driven.add(prim.GetName())
        material = UsdShade.MaterialBindingAPI(prim).ComputeBoundMaterial("physics")[0]
        if prim.HasAPI(UsdPhysics.CollisionAPI) and material and material.GetPrim().HasAPI(UsdPhysics.MaterialAPI):
            soft.add(prim.GetParent().GetName())
    assert driven == {*robot.arm_joints, *robot.finger_joints}
    assert soft == rubber
    assert not [p for p in stage.TraverseAll() if p.IsA(UsdPhysics.Scene) or p.IsInstanceable()]


@pytest.mark.parametrize("name", sorted(ROBOTS))
def test_every_robot_is_whole(name):
    """What is stated of a robot fits its URDF: home and fingers within limits, the tool point between the open pads."""
    import pinocchio

    robot = get_robot(name)
    urdf, _ = robot_urdf(robot)
    model = pinocchio.buildModelFromUrdf(str(urdf))
    for joint, value in rest_positions(robot).items():
        index = model.joints[model.getJointId(joint)].idx_q
        assert model.lowerPositionLimit[index] <= value <= model.upperPositionLimit[index]
    for joint, value in zip(robot.finger_joints, robot.fingers_closed, strict=True):
        index = model.joints[model.getJointId(joint)].idx_q
        assert model.lowerPositionLimit[index] - 1e-9 <= value <= model.upperPositionLimit[index]
    for values in (robot.stiffness, robot.damping, robot.effort, robot.armature):
        assert all(match_joint(values, joint) is not None for joint in rest_positions(robot))
    for joint in robot.arm_joints:
        index = model.joints[model.getJointId(joint)].idx_v
        assert match_joint(robot.effort, joint) <= model.effortLimit[index]
    T = tool_in_link(robot)
    np.testing.assert_allclose(T[:3, :3] @ T[:3, :3].T, np.eye(3), atol=1e-6)
    assert robot.max_width_m < 2 * robot.finger_open_m
    assert robot.free_axis == ("y" if len(robot.arm_joints) < 6 else "")


def test_newton_loads_nine_driven_joints(panda):
    import newton

    builder = newton.ModelBuilder()
    builder.add_usd(str(panda))
    assert builder.joint_dof_count == 9
    assert np.allclose(builder.joint_target_ke, [600] * 4 + [250, 150, 50, 1000, 1000], rtol=1e-5)
    assert np.allclose(builder.joint_target_kd, [50] * 4 + [30, 25, 15, 100, 100], rtol=1e-5)


def test_nothing_of_this_machine_is_inside(panda):
    from pxr import UsdUtils

    text = open_stage(panda).GetRootLayer().ExportToString()
    assert str(robot_urdf(PANDA)[1]) not in text
    assert str(panda.parent) not in text
    assert "/tmp" not in text
    assert len(UsdUtils.ComputeAllDependencies(str(panda))[0]) == 1


def test_second_call_takes_the_cached_file(panda, monkeypatch):
    monkeypatch.setattr(robots, "_convert", lambda *_: pytest.fail("converted again"))
    assert robot_usd(PANDA, panda.parent.parent) == panda
    assert [p.name for p in panda.parent.iterdir()] == [panda.name]


def test_cache_follows_the_environment(panda, monkeypatch, tmp_path):
    monkeypatch.setenv("PHOTOTWIN_CACHE", str(panda.parent.parent))
    assert robot_usd(PANDA) == panda
    monkeypatch.delenv("PHOTOTWIN_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert robots.cache_folder() == tmp_path / "phototwin"


def test_other_gains_recipe_or_versions_make_another_file(monkeypatch):
    urdf, _ = robot_urdf(PANDA)
    keys = {robots._key(PANDA, urdf), robots._key(dataclasses.replace(PANDA, effort={"panda.*": 5.0}), urdf)}
    monkeypatch.setattr(robots, "RECIPE_VERSION", robots.RECIPE_VERSION + 1)
    keys.add(robots._key(PANDA, urdf))
    monkeypatch.setattr(metadata, "version", lambda name: "9.9")
    keys.add(robots._key(PANDA, urdf))
    assert len(keys) == 4


def test_two_processes_may_race(tmp_path):
    code = "import sys, pathlib; from phototwin.robots import PANDA; from phototwin.stage.robots import robot_usd; "
    code += "print(robot_usd(PANDA, pathlib.Path(sys.argv[1])))"
    both = [
        subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    paths = {process.communicate(timeout=120)[0].strip() for process in both}
    assert [process.returncode for process in both] == [0, 0]
    assert len(paths) == 1
    assert [str(p) for p in (tmp_path / "robots").iterdir()] == [*paths]


def test_failures_are_one_sentence_and_leave_nothing(tmp_path, monkeypatch):
    with pytest.raises(InputError, match="does not have"):
        robot_usd(dataclasses.replace(PANDA, urdf="robots/no_such.urdf"), tmp_path)
    broken = tmp_path / "broken.urdf"
    broken.write_text("<robot")
    with pytest.raises(TwinError, match="could not be converted"):
        robot_usd(dataclasses.replace(PANDA, urdf=str(broken)), tmp_path)
    with pytest.raises(TwinError, match="states no stiffness for its joint 'panda_joint1'"):
        robot_usd(dataclasses.replace(PANDA, stiffness={}), tmp_path)
    with pytest.raises(TwinError, match="no joint elbow"):
        robot_usd(dataclasses.replace(PANDA, arm_joints=("elbow",)), tmp_path)
    assert list((tmp_path / "robots").iterdir()) == []
    with pytest.raises(OutputError, match="PHOTOTWIN_CACHE"):
        robot_usd(PANDA, broken)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=10**6))
    with pytest.raises(OutputError, match="No space left"):
        robot_usd(PANDA, tmp_path)


def test_missing_package_is_named(monkeypatch):
    def missing(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "distribution", missing)
    with pytest.raises(TwinError, match="example-robot-data"):
        robot_urdf(PANDA)
