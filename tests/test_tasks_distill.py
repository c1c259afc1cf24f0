"""Distilling an expert: what is refused, what a student is given, and that one learns on blended frames and is evaluated."""

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sim_helpers import make_twin

from phototwin.errors import InputError
from phototwin.learn.config import Shown
from phototwin_tasks.student import (
    SCRIPT_FILE,
    DistillConfig,
    StudentFacts,
    check_distillation,
    load_student,
    program_digest,
    save_student,
)

TOLD = "pick up the green cube"


class Program(torch.nn.Module):
    """Means the mean of what it feels, of what it sees and has seen first, and far too much."""

    def forward(self, body: torch.Tensor, frames: list[torch.Tensor]) -> torch.Tensor:
        felt, seen, first = body.mean(1), frames[0][:, :3].mean((1, 2, 3)), frames[0][:, 3:].mean((1, 2, 3))
        return torch.stack([felt, seen, first, seen * 0 + 7, seen * 0 - 7], 1)


@pytest.fixture
def folder(tmp_path):
    torch.jit.script(Program()).save(tmp_path / SCRIPT_FILE)
    save_student(StudentFacts("panda", 20, (Shown(TOLD),), (48, 48), 5.0, program_digest(tmp_path)), tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"family": "juggle"}, "Unknown family 'juggle'"),
        ({"robot": "r2d2"}, "r2d2"),
        ({"physics": "bullet"}, "Unknown physics"),
        ({"iterations": 0}, "at least 1"),
        ({"num_envs": 0}, "at least 1"),
        ({"image_px": 16}, "at least 32"),
        ({"seed": -1}, "negative"),
        ({"episode_s": -1.0}, "negative"),
        ({"randomize_pool": -1}, "negative"),
        ({"randomize": "a lot"}, "a lot"),
        ({"device": "gpu"}, "Unknown device"),
    ],
)
def test_distillations_that_cannot_be_are_refused(wrong, said):
    with pytest.raises(InputError, match=said):
        check_distillation(replace(DistillConfig(), **wrong))


def test_a_student_is_read_back_and_drives_as_it_means(folder):
    from phototwin_tasks.evaluate.drivers import StudentDriver
    from phototwin_tasks.evaluate.job import _driven

    program, facts = load_student(folder)
    assert (facts.control, facts.fps, facts.resolution, facts.instructions) == ("tool", 20, (48, 48), (TOLD,))
    rgb = np.zeros((2, 48, 48, 3), np.uint8)
    rgb[1] = 255
    state = np.full((2, 16), 0.25, np.float32)
    state[1] = -3.0
    driver = StudentDriver(program)
    driver.begin(2, 0)
    told = driver.actions(rgb, state, TOLD)
    assert driver.execute == told.shape[1] == 1
    assert np.allclose(told[:, 0], [[0.25, -0.5, -0.5, 1, -1], [-1.0, 0.5, 0.5, 1, -1]]), "no more than is done"
    later = driver.actions(rgb[::-1], state, TOLD)
    assert np.allclose(later[:, 0, 1], [0.5, -0.5]) and np.allclose(later[:, 0, 2], [-0.5, 0.5])
    driver.begin(2, 0)
    assert np.allclose(driver.actions(rgb[::-1], state, TOLD)[:, 0, 2], [0.5, -0.5])
    with _driven(str(folder), None) as (found, known, name):
        assert isinstance(found, StudentDriver) and known == facts and name == str(folder.resolve())


def test_a_students_folder_that_is_not_whole_is_refused(folder, tmp_path):
    torch.jit.script(torch.nn.Identity()).save(folder / SCRIPT_FILE)
    with pytest.raises(InputError, match="not the one that it was written for"):
        load_student(folder)
    (folder / SCRIPT_FILE).unlink()
    with pytest.raises(InputError, match="distil it again"):
        load_student(folder)
    (folder / "student.json").write_text("{}")
    with pytest.raises(InputError, match="distil it again"):
        load_student(folder)


def test_what_is_no_expert_is_refused(tmp_path):
    from phototwin_tasks.distill import read_expert, run_distillation

    file = tmp_path / "model_1.pt"
    with pytest.raises(InputError, match="There is no expert"):
        read_expert(file)
    file.write_bytes(b"no checkpoint")
    with pytest.raises(InputError, match="torch cannot read it"):
        read_expert(file)
    torch.save({"student_state_dict": {}}, file)
    with pytest.raises(InputError, match="actor_state_dict"):
        read_expert(file)
    with pytest.raises(InputError, match="is not empty"):
        run_distillation(file, tmp_path / "twin", DistillConfig(), tmp_path)


def test_a_checkpoint_that_was_not_written_to_its_end_does_not_count(tmp_path):
    from phototwin_tasks.distill import last_checkpoint

    assert last_checkpoint(tmp_path) == (None, 0)
    for number in (0, 20, 100):
        torch.save({"number": number}, tmp_path / f"model_{number}.pt")
    assert last_checkpoint(tmp_path) == ({"number": 100}, 101)
    whole = (tmp_path / "model_100.pt").read_bytes()
    (tmp_path / "model_100.pt").write_bytes(whole[: len(whole) // 2])
    assert last_checkpoint(tmp_path) == ({"number": 20}, 21)


def test_the_learning_rate_falls_and_every_iteration_is_told():
    from phototwin_tasks.distill import LEAST_RATE, _watch

    group = {"lr": 1.0}
    rates = []
    alg = SimpleNamespace(learning_rate=1.0, optimizer=SimpleNamespace(param_groups=[group]))
    alg.update = lambda: {"behavior": rates.append(group["lr"]) or 0.5}
    told = []
    _watch(alg, 2, 6, lambda iteration, loss: told.append((iteration, loss)))
    for _ in range(4):
        alg.update()
    assert told == [(2, 0.5), (3, 0.5), (4, 0.5), (5, 0.5)]
    assert rates == sorted(rates, reverse=True) and rates[0] < 1 and rates[-1] > LEAST_RATE


def test_the_expert_is_shown_as_what_the_environment_does_of_it():
    from tensordict import TensorDict

    from phototwin_tasks.distill import Expert

    torch.manual_seed(0)
    obs = TensorDict({"policy": torch.randn(64, 3) * 100}, batch_size=[64])
    told = Expert(obs, {"teacher": ["policy"]}, "teacher", 2, hidden_dims=[8])(obs)
    assert told.abs().max() == 1.0 and (told.abs() < 1).any()


TURNED_AT = 9 + 2 + 24 + 3
"""Where the sine of the object's turn about the vertical stands in the state: of what there is, it alone does not depend on where the tool is."""
FLAT = 50.0
"""Elu is the identity up there."""
FINGERS, GAIN = 4, 1.5


def telling_expert(file, count):
    """A checkpoint as PPO's of a network set by hand: it stays, and tells by the fingers how the object is turned."""
    from rsl_rl.models import MLPModel
    from tensordict import TensorDict

    from phototwin_tasks.learning import make_agent_cfg

    actor = make_agent_cfg("lift").actor.to_dict()
    actor = {name: actor[name] for name in ("hidden_dims", "activation", "obs_normalization", "distribution_cfg")}
    obs = TensorDict({"policy": torch.zeros(1, 9 + 2 + 24 + 10 + 6 + 3 * count + 1 + 5)}, batch_size=[1])
    model = MLPModel(obs, {"actor": ["policy"]}, "actor", 5, **actor)
    layers = [module for module in model.mlp.modules() if isinstance(module, torch.nn.Linear)]
    with torch.no_grad():
        for layer in layers:
            layer.weight.zero_()
            layer.bias.zero_()
        layers[0].weight[FINGERS, TURNED_AT], layers[0].bias[FINGERS] = GAIN, FLAT
        for layer in layers[1:]:
            layer.weight[FINGERS, FINGERS] = 1.0
        layers[-1].bias[FINGERS] = -FLAT
    torch.save({"actor_state_dict": model.state_dict()}, file)
    return file


def check_it_looks(out, twin, attempts, row):
    """In an environment of an evaluation the student tells of each cube how it is turned."""
    from phototwin.frames import matrix_from_quat_xyzw
    from phototwin.scene import load_scene
    from phototwin_tasks.evaluate.config import EvalConfig
    from phototwin_tasks.evaluate.drive import Limits, drive
    from phototwin_tasks.evaluate.drivers import StudentDriver
    from phototwin_tasks.evaluate.run import generate_config
    from phototwin_tasks.generate.jobs import Job, tasks_of, twin_hash
    from phototwin_tasks.generate.worker import make_env

    program, facts = load_student(out)
    config = replace(generate_config(EvalConfig(num_envs=attempts, instruction=TOLD), facts), seed=0)
    task, wordings = tasks_of(load_scene(twin), config)[0][0]
    env, looks = make_env(twin, Job(0, str(twin), twin_hash(twin), task, wordings), config, 1, facts.control)
    try:
        episodes = drive(env, looks, StudentDriver(program), range(attempts), Limits(0.4))
    finally:
        env.close()
    told = np.array([e.action[:, FINGERS].mean() for e in episodes])
    turned = matrix_from_quat_xyzw(np.stack([e.object_poses_w[0, row, 3:] for e in episodes]))[:, 1, 0]
    wanted = np.clip(GAIN * turned, -1, 1)
    assert np.ptp(wanted) > 0.5 and np.abs(told - wanted).max() < 0.3 * np.ptp(wanted), (told, wanted)


@pytest.mark.sim
def test_a_student_learns_to_tell_what_it_sees_goes_on_and_is_evaluated(tmp_path):
    from phototwin.scene import load_scene
    from phototwin_tasks.distill import RUN_FILE, distill, run_distillation
    from phototwin_tasks.evaluate.config import EvalConfig
    from phototwin_tasks.evaluate.job import run_evaluation
    from phototwin_tasks.evaluate.run import load_evaluation

    twin = make_twin(tmp_path / "twin")
    keys = [item.key for item in load_scene(twin).objects]
    row = keys.index("green_cube")
    expert = telling_expert(tmp_path / "model_9.pt", len(keys))
    config = DistillConfig(instruction=TOLD, iterations=2, num_envs=4, image_px=48, randomize_pool=4)
    out = tmp_path / "out"
    made = distill(expert, twin, config, out)
    assert len(made.losses) == 2 and made.losses[1] < 0.1 * made.losses[0], made.losses
    assert distill(expert, twin, config, tmp_path / "twice").losses == made.losses
    assert made.facts.seconds == 5.0 and not list(out.glob("git/*"))
    said = run_distillation(expert, twin, replace(config, iterations=3), out, resume=True)
    assert "3 iterations" in said and (out / "model_2.pt").is_file()
    assert json.loads((out / RUN_FILE).read_text())["iterations"] == 3
    check_it_looks(out, twin, 4, row)
    with pytest.raises(InputError, match=r"was begun with seed 0 .asked for: 1"):
        distill(expert, twin, replace(config, seed=1), out)
    with pytest.raises(InputError, match="does not fit the task"):
        distill(telling_expert(tmp_path / "wrong.pt", 9), twin, config, tmp_path / "other")
    asked = EvalConfig(episodes=2, num_envs=2, seconds=0.5, videos=0)
    run_evaluation((str(out),), (twin,), asked, tmp_path / "evaluation")
    rows = load_evaluation(tmp_path / "evaluation").rows
    assert [row.failure for row in rows] == ["grasp", "grasp"] and len({row.state_sha256 for row in rows}) == 2
