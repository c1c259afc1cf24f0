"""What an attempt draws is what physics does, on both engines: mass and inertia, friction, drives, the way things fall."""

from dataclasses import replace

import numpy as np
import pytest
from sim_helpers import make_twin, open_env

pytestmark = pytest.mark.sim
ENGINES = ("ovphysx", "newton_mjwarp")
PHYSICS = {
    "preset": "none", "mass_factor": 2.0, "friction_factor": 2.0, "gain_factor": 1.3, "gravity_tilt_deg": 30.0, "shift_m": 0.06,
}  # fmt: skip


@pytest.fixture(scope="module")
def twin(tmp_path_factory):
    return make_twin(tmp_path_factory.mktemp("random") / "twin")


def numbers(value):
    return value.torch.cpu().numpy().copy()


def hold(env, steps):
    import torch

    action = torch.tensor([*env.robot.home_rad, 1.0], device=env.device).repeat(env.num_envs, 1)
    for _ in range(steps):
        env.step(action)


@pytest.mark.parametrize("engine", ENGINES)
def test_drawn_physics_is_what_the_engine_has(twin, engine):
    from phototwin_tasks.randomization import attempt_draw

    with open_env(twin, "PhotoTwin-Lift-Panda", engine, num_envs=3, randomize=PHYSICS) as env:
        env.attempt[:] = env.attempt.new_tensor([0, 1, 2])
        env.reset()
        draws = [attempt_draw(env, a) for a in range(3)]
        keys = [item.key for item in env.twin.objects]
        own = {key: (numbers(env.scene[key].data.body_mass), numbers(env.scene[key].data.body_inertia)) for key in keys}
        robot = env.scene["robot"].data
        stiffness = numbers(robot.joint_stiffness)
        for i, draw in enumerate(draws):
            for key in keys:
                mass, inertia = own[key]
                factor = draw.mass_factor[key]
                assert np.isclose(mass[i], env.twin.object(key).mass_kg * factor, rtol=1e-4).all()
                assert np.allclose(inertia[i], inertia[0] * factor, rtol=1e-4, atol=1e-9)
            assert np.allclose(stiffness[i], stiffness[0] * draw.stiffness_factor, rtol=1e-5)
        assert draws[0].stiffness_factor == 1.0 != draws[1].stiffness_factor
        check_free_fall(env, draws)
        check_again(env, own)


def check_free_fall(env, draws):
    """Let go high above the table, a thing gains speed as the drawn gravity says."""
    import torch

    key, start = "green_cube", 0.8
    body = env.scene[key]
    pose = torch.zeros(env.num_envs, 7)
    pose[:, 0], pose[:, 2], pose[:, 6] = 0.2, start, 1.0
    pose[:, :3] += env.scene.env_origins
    body.write_root_pose_to_sim_index(root_pose=pose)
    body.write_root_velocity_to_sim_index(root_velocity=torch.zeros(env.num_envs, 6))
    hold(env, 1)  # the first step still has an impulse of the reset in it
    before, steps = numbers(body.data.root_lin_vel_w), 3
    hold(env, steps)
    gained = (numbers(body.data.root_lin_vel_w) - before) / (steps * env.step_dt)
    for i, draw in enumerate(draws):
        assert np.allclose(gained[i], draw.gravity_m_s2, atol=0.02), (i, gained[i])
    assert np.abs(gained[1:, :2]).max() > 1.0


def check_again(env, own):
    """A reset to the same attempts gives the same physics, however often."""
    env.attempt[:] = env.attempt.new_tensor([0, 1, 2])
    env.reset()
    for key, (mass, inertia) in own.items():
        assert np.allclose(numbers(env.scene[key].data.body_mass), mass)
        assert np.allclose(numbers(env.scene[key].data.body_inertia), inertia)


@pytest.mark.parametrize("engine", ENGINES)
def test_friction_decides_what_slides_on_tilted_ground(twin, engine):
    """Gravity tilted by 30 degrees, tan 0.58: the cube stays with its friction of 0.8 and slides with a fifth of it."""
    tilt = np.radians(30.0)
    gravity = (9.81 * np.sin(tilt) * -0.6, 9.81 * np.sin(tilt) * 0.8, -9.81 * np.cos(tilt))
    config = PHYSICS | {"friction_factor": 5.0, "mass_factor": 1.0, "gain_factor": 1.0}
    with open_env(twin, "PhotoTwin-Lift-Panda", engine, num_envs=2, randomize=config) as env:
        from phototwin_tasks.randomization import attempt_draw

        for attempt, factor in ((0, 1.0), (1, 0.2)):
            env.draws[attempt] = replace(attempt_draw(env, 0), friction_factor=factor, gravity_m_s2=gravity)
        env.attempt[:] = env.attempt.new_tensor([0, 1])
        env.reset()
        before = numbers(env.scene["green_cube"].data.root_pos_w)
        hold(env, 8)
        moved = numbers(env.scene["green_cube"].data.root_pos_w) - before
        assert np.linalg.norm(moved[0, :2]) < 0.01
        assert np.linalg.norm(moved[1, :2]) > 0.03
        heading = moved[1, :2] / np.linalg.norm(moved[1, :2])
        assert heading @ [-0.6, 0.8] > 0.95


def test_attempts_from_a_pool_start_as_themselves(twin):
    from phototwin.plan.randomize_draw import placement_pool
    from phototwin_tasks.mdp.observations import object_pose

    with open_env(twin, "PhotoTwin-Lift-Panda", "ovphysx", num_envs=3, randomize="wide", randomize_pool=5) as env:
        env.attempt[:] = env.attempt.new_tensor([3, 4, 5])
        env.reset()
        pool = placement_pool(env.room, env.randomization, env.run_seed, 5)
        at = np.stack([object_pose(env, item.key).cpu().numpy() for item in env.twin.objects], 1)
        assert np.allclose(at[..., :3], pool[[3, 4, 0]][..., :3], atol=1e-5)
        assert env.start_pool is not None and not env.draws
        assert env.attempt.tolist() == [6, 7, 8]


def test_a_variant_is_an_environment_like_any_other(twin, tmp_path):
    """Relatives and added things rest where they were put, the task is about the same object, frames show the added things."""
    from phototwin.plan.randomize import PRESETS
    from phototwin_tasks.looks import attempt_blenders, make_looks, render
    from phototwin_tasks.mdp.observations import object_pose
    from phototwin_tasks.variants import make_variant

    config = replace(PRESETS["default"], distractors=3, cousins=1.0)
    folder = next(f for v in range(1, 9) if has_added(f := make_variant(twin, config, 0, v, tmp_path / str(v))))
    with open_env(
        folder, "PhotoTwin-Lift-Panda", "ovphysx", instruction="pick up the green cube", resolution=(160, 120)
    ) as env:
        env.attempt[:] = env.attempt.new_tensor([0, 1])
        env.reset()
        assert env.task.keys == ("green_cube",)
        start = {item.key: object_pose(env, item.key).cpu().numpy().copy() for item in env.twin.objects}
        hold(env, 20)
        for key, before in start.items():
            assert np.linalg.norm(object_pose(env, key).cpu().numpy()[:, :3] - before[:, :3], axis=1).max() < 3e-3, key
        looks = make_looks(env, "warp_raster")
        frames = render(env, looks, attempt_blenders(env, looks, [0, 1]), 0)
        ids = [
            looks.still.moving.object_ids[i] for i, o in enumerate(env.twin.objects) if o.key.startswith("distractor")
        ]
        assert np.isin(frames[1].mask, [1 + i for i in ids]).sum() > 10


def test_a_robot_stays_where_it_stands_while_things_are_put_beside_it(twin, tmp_path):
    """Every shard has other things on the table; a robot does not move its base for that."""
    from contextlib import closing

    from phototwin.scene import load_scene
    from phototwin_tasks.generate.config import GenerateConfig, complete_config
    from phototwin_tasks.generate.jobs import Job, tasks_of, twin_hash
    from phototwin_tasks.generate.schedule import Shard
    from phototwin_tasks.generate.worker import Order, Simulator

    file = tmp_path / "many.json"
    file.write_text('{"preset": "default", "distractors": 8, "cousins": 1.0}')
    config = GenerateConfig(("pick up the green cube",), num_demos=1, num_envs=1, randomize=str(file))
    config = complete_config(config)
    job = Job(0, str(twin), twin_hash(twin), *tasks_of(load_scene(twin), config)[0][0])
    found = []
    with closing(Simulator(config, 1)) as simulator:
        for shard in range(4):
            env, _ = simulator.open(Order(Shard(0, shard, 1), job, twin, tmp_path / "demos"))
            found.append((env.T_world_base, len(env.twin.objects)))
    assert len({count for _, count in found}) > 1, "there are other things in each"
    assert all(np.allclose(T, found[0][0], atol=1e-12) for T, _ in found)


def has_added(folder):
    from phototwin.build.distractors import is_distractor
    from phototwin.scene import load_scene

    return any(is_distractor(item) for item in load_scene(folder).objects)
