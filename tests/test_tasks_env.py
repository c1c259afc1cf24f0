"""The Isaac Lab environments over a twin, on both engines: geometry, rest, camera, success terms."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from sim_helpers import make_twin, open_env

from phototwin.frames import invert, project, quat_xyzw_from_matrix, rotation_z, transform

pytestmark = pytest.mark.sim
ENGINES = ("ovphysx", "newton_mjwarp")


@pytest.fixture(scope="module")
def twin(tmp_path_factory):
    return make_twin(tmp_path_factory.mktemp("env") / "twin")


def home(env):
    import torch

    return torch.tensor([*env.robot.home_rad, 1.0], device=env.device).repeat(env.num_envs, 1)


def put(env, key, position, quat=(0.0, 0.0, 0.0, 1.0)):
    """Write an object's pose (in the frame of its environment) and no velocity."""
    import torch

    body = env.scene[key]
    pose = torch.tensor([*position, *quat], dtype=torch.float32).repeat(env.num_envs, 1)
    pose[:, :3] += env.scene.env_origins
    body.write_root_pose_to_sim_index(root_pose=pose)
    body.write_root_velocity_to_sim_index(root_velocity=torch.zeros(env.num_envs, 6))


@pytest.mark.parametrize("engine", ENGINES)
def test_objects_rest_where_the_attempt_puts_them_and_the_camera_sees_them_there(twin, engine):
    from phototwin.plan.randomize import Randomization
    from phototwin.plan.randomize_draw import draw_attempt
    from phototwin_tasks.mdp.observations import object_pose, tool_pose

    with open_env(twin, "PhotoTwin-Lift-Panda", engine, resolution=(160, 120), with_camera=True) as env:
        env.attempt[:] = env.attempt.new_tensor([0, 7])
        env.reset()
        wanted = [draw_attempt(env.room, env.run_seed, a, Randomization()).T_world_objects for a in (0, 7)]
        action = home(env)
        for _ in range(20):
            env.step(action)
        for item in env.twin.objects:
            at = object_pose(env, item.key).cpu().numpy()
            for i in range(2):
                assert np.linalg.norm(at[i, :3] - wanted[i][item.key][:3, 3]) < 2e-3, (item.key, i)
        _check_camera(env)
        before = _ids(env)
        action[:, 1] += 0.9  # the arm leans into the picture
        for _ in range(25):
            env.step(action)
        assert (_ids(env) != before).any(), "the image is frozen"
        moved = tool_pose(env)[:, :3].cpu().numpy()
        assert np.isfinite(moved).all()


def _ids(env):
    return env.scene["camera"].data.output["semantic_segmentation"].torch.cpu().numpy()[..., 0].copy()


def _check_camera(env):
    """The centre of what the renderer labels an object lies where the photo's K projects the object."""
    from phototwin_tasks.mdp.observations import object_pose

    data = env.scene["camera"].data
    ids = _ids(env)
    depth = data.output["depth"].torch.cpu().numpy()[..., 0]
    labels = {v["class"]: int(k) for k, v in data.info["semantic_segmentation"]["idToLabels"].items()}
    camera = env.crop.camera
    cube = env.twin.object("green_cube")
    for i in range(env.num_envs):
        seen = ids[i] == labels["green_cube"]
        assert seen.sum() > 20
        rows, columns = np.nonzero(seen)
        centre_c = transform(invert(camera.T_world_camera), object_pose(env, "green_cube").cpu().numpy()[i, :3])
        expected = project(camera.K_px, centre_c)
        assert np.abs([columns.mean() + 0.5, rows.mean() + 0.5] - expected).max() < 1.5
        assert abs(np.median(depth[i][seen]) - centre_c[2]) < cube.size_m.max()


def test_our_rasteriser_sees_what_newton_s_renderer_sees(twin):
    from phototwin.blend.moving import draw_moving, make_moving_parts
    from phototwin.stage.robots import robot_usd
    from phototwin.stage.visuals import read_visuals
    from phototwin_tasks.looks import camera_buffers, owner_poses

    with open_env(twin, "PhotoTwin-Lift-Panda", "ovphysx", resolution=(160, 120), with_camera=True) as env:
        env.reset()
        action = home(env)
        action[:, 1] += 0.9  # the arm leans into the picture
        for _ in range(25):
            env.step(action)
        moving = make_moving_parts(env.twin, read_visuals(robot_usd(env.robot)))
        theirs = camera_buffers(env, moving.photo_factor)
        ours = draw_moving(moving, owner_poses(env), env.crop.camera)
        assert not theirs.lit and theirs.normals_w is not None
        their_ids, their_depth = theirs.ids, theirs.depth_m.cpu().numpy()
        ids, depth, normals = ours.ids.numpy(), ours.depth_m.numpy(), ours.normals_w.numpy()
        pairs = [(theirs.robot_ids, moving.robot_ids)]
        pairs += [((a,), (b,)) for a, b in zip(theirs.object_ids, moving.object_ids, strict=True)]
        for wanted, label in pairs:
            a, b = np.isin(their_ids, wanted), np.isin(ids, label)
            if a.sum() > 100:
                assert (a & b).sum() / (a | b).sum() > 0.95
                assert np.median(np.abs(their_depth - depth)[a & b]) < 1e-3
                cosine = (theirs.normals_w.cpu().numpy()[..., :3] * normals).sum(-1)[a & b]
                assert np.median(cosine) > 0.98
        assert (their_ids == theirs.robot_ids[0]).sum() > 300
        check_frames_agree(env)


def check_frames_agree(env):
    """Frames of the same moment from our rasteriser and from Newton's buffers: one scene in one light."""
    from phototwin.plan.randomize import load_randomization
    from phototwin_tasks.looks import attempt_blenders, make_looks, render

    frames = {}
    for renderer in ("warp_raster", "newton_warp"):
        looks = make_looks(env, renderer, keep_raw=True)
        frames[renderer] = render(env, looks, attempt_blenders(env, looks, [0, 1]), 0)
    looks_robot_ids = looks.still.moving.robot_ids
    ours = frames["warp_raster"]
    robot = np.isin(ours[0].mask, [1 + i for i in looks_robot_ids])
    difference = np.abs(ours[0].rgb[robot].astype(float) - frames["newton_warp"][0].rgb[robot])
    assert np.median(difference) < 4
    assert all(f[0].raw_rgba.shape == (120, 160, 4) for f in frames.values())
    env.randomization = load_randomization({"camera_shift_m": 0.03, "camera_turn_deg": 3.0, "camera_zoom": 0.02})
    env.draws.clear()
    moved = make_looks(env, "warp_raster")
    cameras = [b.plate.camera for b in attempt_blenders(env, moved, [0, 1])]
    assert np.array_equal(cameras[0].T_world_camera, env.crop.camera.T_world_camera)
    assert not np.allclose(cameras[1].T_world_camera, env.crop.camera.T_world_camera)
    first, second = render(env, moved, attempt_blenders(env, moved, [0, 1]), 0)
    assert (first.rgb == ours[0].rgb).all() and (second.rgb != ours[1].rgb).mean() > 0.5


@pytest.mark.parametrize("engine", ENGINES)
def test_lift_succeeds_only_high_still_and_in_the_gripper(twin, engine):
    from phototwin_tasks.mdp.observations import tool_pose

    with open_env(twin, "PhotoTwin-Lift-Panda", engine, instruction="pick up the green cube") as env:
        env.reset()
        env.step(home(env))
        assert not env.success().any()
        tool = tool_pose(env)[0, :3].tolist()
        assert tool[2] > 0.2
        put(env, "green_cube", tool)
        assert env.success().all()
        put(env, "green_cube", (tool[0], tool[1] + 0.3, tool[2]))
        assert not env.success().any()


def test_the_lowest_point_of_a_tipped_can_is_its_mesh_not_its_box(twin):
    from phototwin_tasks.mdp.states import bottom

    with open_env(twin, "PhotoTwin-Lift-Panda", "ovphysx") as env:
        env.reset()
        can = env.twin.object("red_can")
        half = np.pi / 8  # tipped by 45 degrees about X
        put(env, "red_can", (0.4, 0.1, 0.3), (np.sin(half), 0.0, 0.0, np.cos(half)))
        radius, height = can.size_m[0] / 2, can.size_m[2]
        expected = 0.3 - np.cos(2 * half) * height / 2 - np.sin(2 * half) * radius
        assert np.abs(bottom(env, "red_can").cpu().numpy() - expected).max() < 1.5e-3
        # Lying on its side it is as high as its radius, however it is rolled; a box's corner would be deeper.
        R = rotation_z(0.7)
        roll = np.array([[0, 0, 1], [0, 1, 0], [-1, 0, 0]]) @ R
        put(env, "red_can", (0.4, 0.1, 0.3), tuple(quat_xyzw_from_matrix(roll)))
        assert np.abs(bottom(env, "red_can").cpu().numpy() - (0.3 - radius)).max() < 1.5e-3


@pytest.mark.parametrize("relation", ["on", "in", "next to"])
def test_place_succeeds_only_in_the_relation_asked_for(twin, relation):
    target = {"on": "red can", "in": "white bowl", "next to": "red can"}[relation]
    instruction = f"put the green cube {relation} the {target}"
    with open_env(twin, "PhotoTwin-Place-Panda", "ovphysx", instruction=instruction) as env:
        env.reset()
        cube, other = env.twin.object("green_cube"), env.twin.object(env.task.steps[0].target)
        x, y, _ = other.T_world_object[:3, 3]
        put(env, other.key, other.T_world_object[:3, 3])  # in every environment where the photo shows it
        top, half = other.size_m[2], cube.size_m[2] / 2
        places = {
            "on": (x, y, top + half),
            "in": (x, y, half + 0.012),
            "next to": (x, y - other.size_m[:2].max() / 2 - cube.size_m[0] - 0.02, half),
        }
        for name, place in places.items():
            put(env, "green_cube", place)
            if (name, relation) == ("in", "next to"):
                continue  # inside a can's footprint: no such state exists
            assert bool(env.success().all()) == (name == relation), name
        put(env, "green_cube", (x, y, places[relation][2] + 0.1))
        assert not env.success().any()


def test_tasks_are_listed_by_isaac_lab():
    done = subprocess.run(
        [str(Path(sys.executable).with_name("isaaclab")), "list_envs"], capture_output=True, text=True, timeout=300
    )
    for name in ("PhotoTwin-Lift-Panda", "PhotoTwin-Place-Panda"):
        assert name in done.stdout, done.stderr[-2000:]


def test_names_of_engines_and_renderers_are_the_presets():
    from phototwin_tasks.generate import PHYSICS, POSED, RENDERERS
    from phototwin_tasks.presets import PhysicsPresetCfg, RendererPresetCfg

    assert {*PHYSICS, "default"} == set(PhysicsPresetCfg.__dataclass_fields__)
    assert {*RENDERERS, "default"} - {*POSED} == set(RendererPresetCfg.__dataclass_fields__)
