import dataclasses

import numpy as np
import pytest
from synthetic import make_scene

from phototwin.errors import OutputError
from phototwin.frames import make_T, matrix_from_quat_xyzw, rotation_z
from phototwin.scene import Support
from phototwin.stage.mass import mass_properties
from phototwin.stage.mjcf import export_mjcf

PENTAGON = np.array([[0.15, -0.30], [0.80, -0.35], [0.90, 0.0], [0.80, 0.35], [0.20, 0.30]])


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    return make_scene(tmp_path_factory.mktemp("scene"))


def load(file):
    import mujoco

    return mujoco.MjModel.from_xml_path(str(file))


@pytest.mark.parametrize("polygon", [None, PENTAGON])
def test_objects_stay_where_they_are_for_two_seconds(scene, tmp_path, polygon):
    import mujoco

    if polygon is not None:
        scene = dataclasses.replace(scene, support=Support(polygon))
    model = load(export_mjcf(scene, tmp_path / "twin.xml"))
    data = mujoco.MjData(model)
    start = data.qpos.reshape(-1, 7).copy()
    while data.time < 2.0:
        mujoco.mj_step(model, data)
    moved = np.linalg.norm(data.qpos.reshape(-1, 7)[:, :3] - start[:, :3], axis=1)
    assert moved.max() < 0.005
    turned = 2 * np.arccos(np.clip(np.abs(np.sum(data.qpos.reshape(-1, 7)[:, 3:] * start[:, 3:], 1)), 0, 1))
    assert turned.max() < 0.01


@pytest.mark.parametrize("yaw", [0.0, 0.4, 0.785])
def test_a_pushed_cube_slides_as_far_as_friction_lets_it(scene, tmp_path, yaw):
    """v^2 / (2 mu g) straight ahead, whichever way it faces; mu is the larger of the two surfaces."""
    import mujoco

    cube = scene.object("green cube")
    place = make_T(rotation_z(yaw), np.array([0.6, -0.2, 0.02]))
    alone = dataclasses.replace(scene, objects=(dataclasses.replace(cube, T_world_object=place),))
    model = load(export_mjcf(alone, tmp_path / "twin.xml"))
    data = mujoco.MjData(model)
    mujoco.mj_step(model, data, 250)
    start = data.qpos[:3].copy()
    data.qvel[0] = 0.3
    mujoco.mj_step(model, data, 250)
    moved = data.qpos[:3] - start
    assert moved[0] == pytest.approx(0.3**2 / (2 * max(cube.friction, scene.support.friction) * 9.81), rel=0.06)
    assert abs(moved[1]) < 2e-4


def test_poses_masses_and_inertia_are_the_scene_s(scene, tmp_path):
    import mujoco

    model = load(export_mjcf(scene, tmp_path / "twin.xml"))
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    for item in scene.objects:
        body = model.body(item.key)
        assert body.mass[0] == pytest.approx(item.mass_kg)
        assert np.allclose(sorted(body.inertia), sorted(mass_properties(item).inertia), rtol=1e-5)
        assert np.allclose(data.body(item.key).xpos, item.T_world_object[:3, 3])
        assert np.allclose(data.body(item.key).xmat.reshape(3, 3), item.T_world_object[:3, :3], atol=1e-9)
        quat_xyzw = np.roll(body.iquat, -1)
        R, mass = matrix_from_quat_xyzw(quat_xyzw), mass_properties(item)
        Q = matrix_from_quat_xyzw(mass.axes_quat_xyzw)
        expected = Q @ np.diag(mass.inertia) @ Q.T
        assert np.allclose(R @ np.diag(body.inertia) @ R.T, expected, rtol=1e-4, atol=1e-9)
        pieces = [model.geom(f"{item.key}_piece_{i}") for i in range(len(item.pieces))]
        assert all(g.friction[0] == item.friction and g.group[0] == 3 for g in pieces)
        assert model.geom(f"{item.key}_visual").contype[0] == 0


def test_a_cube_dropped_into_the_bowl_stays_in_it(scene, tmp_path):
    """The bowl is hollow: its pieces are not merged into one hull."""
    import mujoco

    model = load(export_mjcf(scene, tmp_path / "twin.xml"))
    data = mujoco.MjData(model)
    bowl = scene.object("white bowl").T_world_object[:3, 3]
    data.joint("green_cube_free").qpos[:3] = bowl + np.array([0.0, 0.0, 0.05])
    while data.time < 2.0:
        mujoco.mj_step(model, data)
    cube = data.body("green_cube").xpos
    assert np.linalg.norm(cube[:2] - data.body("white_bowl").xpos[:2]) < 0.03
    assert 0.01 < cube[2] < 0.045


def test_camera_window_is_that_of_K(scene, tmp_path):
    import mujoco

    model = load(export_mjcf(scene, tmp_path / "twin.xml"))
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    view = mujoco.MjvScene(model, 200)
    camera = mujoco.MjvCamera()
    camera.type, camera.fixedcamid = mujoco.mjtCamera.mjCAMERA_FIXED, model.camera("camera").id
    mujoco.mjv_updateScene(model, data, mujoco.MjvOption(), None, camera, mujoco.mjtCatBit.mjCAT_ALL, view)
    gl, near = view.camera[0], view.camera[0].frustum_near
    (fx, _, cx), (_, fy, cy), _ = scene.camera.K_px
    width, height = scene.camera.width, scene.camera.height
    window = [gl.frustum_center - gl.frustum_width, gl.frustum_center + gl.frustum_width]
    assert np.allclose(np.array(window) / near, [-cx / fx, (width - cx) / fx], atol=1e-5)
    assert np.allclose(np.array([gl.frustum_bottom, gl.frustum_top]) / near, [(cy - height) / fy, cy / fy], atol=1e-5)
    T = scene.camera.T_world_camera
    assert np.allclose(np.asarray(data.camera("camera").xmat).reshape(3, 3), T[:3, :3] * (1, -1, -1), atol=1e-9)
    assert np.allclose(data.camera("camera").xpos, T[:3, 3])


def test_texture_coordinates_arrive(scene, tmp_path):
    """MuJoCo counts v from the top, as its images are stored."""
    model = load(export_mjcf(scene, tmp_path / "twin.xml"))
    mesh = model.mesh("green_cube")
    start = int(mesh.texcoordadr[0])
    got = model.mesh_texcoord[start : start + model.mesh_texcoordnum[mesh.id]]
    st = scene.object("green cube").mesh.st.reshape(-1, 2)
    assert np.allclose(
        np.unique(np.round(got, 5), axis=0), np.unique(np.round(st * (1, -1) + (0, 1), 5), axis=0), atol=1e-4
    )


def test_folder_that_cannot_be_made_is_refused(scene, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match="could not be written"):
        export_mjcf(scene, tmp_path / "file" / "twin.xml")
