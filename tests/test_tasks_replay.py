"""A recorded demonstration comes back: its states exactly, its actions in the same engine and in MuJoCo's own."""

import numpy as np
import pytest
from sim_helpers import make_twin

from phototwin.errors import InputError
from phototwin.progress import StageTimer

pytestmark = pytest.mark.sim


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    from phototwin_tasks.generate.config import Crew, GenerateConfig
    from phototwin_tasks.generate.jobs import plan_run
    from phototwin_tasks.generate.run import generate_demos

    folder = tmp_path_factory.mktemp("replay")
    twin = make_twin(folder / "twin")
    config = GenerateConfig(("pick up the green cube",), num_demos=2, num_envs=2, resolution=(64, 64), fps=15)
    generate_demos(plan_run(folder, (twin,), config, False), Crew(1), StageTimer())
    return folder


@pytest.mark.parametrize(("by", "engine"), [("state", "ovphysx"), ("action", "ovphysx"), ("action", "mujoco")])
def test_it_does_its_task_again(made, by, engine):
    from phototwin_tasks.replay.job import replay_run

    done = replay_run(made, by, engine)
    assert (done.successes, done.demos) == (2, 2)
    assert done.worst < 1e-5


def test_what_is_not_the_task_is_not_taken_for_it(made, monkeypatch):
    """The same actions with the gripper left open lift nothing: in MuJoCo the judge says so."""
    from dataclasses import replace

    import phototwin_tasks.replay.job as job

    original = job.read_demos

    def open_handed(*args):
        for episode in original(*args):
            action = episode.action.copy()
            action[:, -1] = 1.0
            yield replace(episode, action=action)

    monkeypatch.setattr(job, "read_demos", open_handed)
    assert job.replay_run(made, "action", "mujoco").successes == 0


def test_mujocos_model_is_the_twin_with_the_robot(made):
    from phototwin.frames import make_T, rotation_z
    from phototwin.robots import get_robot
    from phototwin.scene import load_scene
    from phototwin_tasks.replay.mujoco_engine import make_cell

    robot, scene = get_robot("panda"), load_scene(made / "twin")
    T = make_T(rotation_z(0.7), np.array([-0.2, 0.1, 0.0]))
    cell = make_cell(scene, robot, T, 15.0)
    model = cell.model
    assert [model.actuator(i).name for i in range(model.nu)] == [*robot.arm_joints, *robot.finger_joints]
    assert cell.substeps * model.opt.timestep == pytest.approx(1 / 15) and model.opt.timestep <= 0.002
    for item in scene.objects:
        assert model.body(item.key).mass[0] == pytest.approx(item.mass_kg, rel=1e-6)
    hand = model.body(robot.tcp_body)
    assert model.body_gravcomp[hand.id] == 1.0


def test_what_cannot_be_replayed_is_refused(made, tmp_path):
    from phototwin_tasks.replay.job import replay_run

    with pytest.raises(InputError, match="by state in the first two"):
        replay_run(made, "state", "mujoco")
    with pytest.raises(InputError, match="bullet"):
        replay_run(made, "action", "bullet")
    with pytest.raises(InputError, match="no plan of a run"):
        replay_run(tmp_path, "action", "ovphysx")
