"""Policies learn what can be seen, are saved and read back bit by bit, and a training that was interrupted ends the same."""

import json
import math
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from learn_helpers import BC, STEPS, small_dataset, square_demos

from phototwin.errors import InputError
from phototwin.learn.config import CHECKPOINT, Shown, TrainConfig, check_training
from phototwin.learn.demos import ACTION, PADDED, STATE, find_dataset
from phototwin.learn.job import run_training


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return small_dataset(tmp_path_factory.mktemp("learn") / "lerobot")


def test_cloning_finds_what_it_is_shown():
    """Trained on 60 places, the error at unseen ones is a few pixels, and the gripper knows left from right."""
    from phototwin.learn.policy import act
    from phototwin.learn.train import train

    trained = train(square_demos(), TrainConfig(BC, steps=400, batch=32, threads=1))
    assert trained.losses[-1] < 0.35 * trained.losses[0]
    unseen = square_demos(40, seed=9)
    told = act(trained.policy, trained.facts, unseen.rgb[::STEPS], unseen.state[::STEPS])
    assert told.shape == (40, 4, 3)
    wanted = unseen.action[::STEPS, None]
    assert np.abs(told - wanted)[..., :2].mean() < 0.1  # 2.4 px of 48
    clear = np.abs(wanted[:, 0, 0]) > 0.2
    assert (told[clear, 0, 2] == wanted[clear, 0, 2]).mean() > 0.9


@pytest.mark.parametrize("kind", ["bc", "act", "diffusion"])
def test_policies_are_read_back_as_they_were(tmp_path, kind):
    import torch

    from phototwin.learn.policy import act, load_policy
    from phototwin.learn.train import train

    demos = square_demos(6)
    config = TrainConfig(replace(BC, kind=kind, chunk=8), steps=3, batch=4)
    trained = train(demos, config, tmp_path)
    policy, facts = load_policy(tmp_path)
    assert facts == trained.facts and facts.instructions == ("go to the square",)
    assert facts.digest and facts.digest != train(demos, replace(config, seed=1)).facts.digest
    told = []
    for one in (trained.policy, policy):
        torch.manual_seed(0)  # Diffusion draws
        told.append(act(one, facts, demos.rgb[:3], demos.state[:3]))
    assert told[0].shape == (3, 8, 3) and np.array_equal(*told)


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "policy_preprocessor.json"])
def test_a_torn_policy_of_lerobots_is_a_sentence(tmp_path, name):
    from phototwin.learn.policy import load_policy
    from phototwin.learn.train import train

    train(square_demos(6), TrainConfig(replace(BC, kind="act", chunk=8), steps=1, batch=4), tmp_path)
    file = tmp_path / name
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(InputError, match=r"weights .* cannot be read"):
        load_policy(tmp_path)


def test_a_policy_with_other_units_is_another():
    from phototwin.learn.policy import make_policy, policy_sha256

    demos, config = square_demos(6), replace(BC, kind="act", chunk=8)
    one, same, other = (make_policy(config, replace(demos, rgb=demos.rgb // n)) for n in (1, 1, 2))
    for policy in (same, other):
        policy.load_state_dict(one.state_dict())
    digests = [policy_sha256(policy, config) for policy in (one, same, other)]
    assert digests[0] == digests[1] != digests[2]


@pytest.mark.parametrize("text", ["", "[]", '{"config": {"kind": "bc", "colour": 3}}', '{"config": {}}'])
def test_what_is_not_a_policy_of_this_version_is_refused(tmp_path, text):
    from phototwin.learn.policy import FACTS_FILE, load_policy

    (tmp_path / FACTS_FILE).write_text(text)
    with pytest.raises(InputError, match="train it again"):
        load_policy(tmp_path)


def test_cloning_runs_without_us(tmp_path):
    """The TorchScript file gives the same actions, for any number of frames, in a process that knows torch alone.

    To float32's rounding: how a product is summed depends on the threads of a process.
    """
    import torch

    from phototwin.learn.policy import SCRIPT_FILE
    from phototwin.learn.train import train

    demos = square_demos(6)
    policy = train(demos, TrainConfig(BC, steps=3, batch=4), tmp_path).policy
    rgb, state = torch.from_numpy(demos.rgb[:5]).permute(0, 3, 1, 2) / 255.0, torch.from_numpy(demos.state[:5])
    torch.save((rgb, state), tmp_path / "given.pt")
    code = (
        "import sys, torch; rgb, state = torch.load(sys.argv[2]); told = torch.jit.load(sys.argv[1]).chunks(rgb, state);"
        "torch.save(told, sys.argv[3]); assert 'phototwin' not in sys.modules"
    )
    files = [str(tmp_path / name) for name in (SCRIPT_FILE, "given.pt", "told.pt")]
    subprocess.run([sys.executable, "-c", code, *files], check=True, cwd=tmp_path)
    with torch.inference_mode():
        wanted = policy.chunks(rgb, state)
    torch.testing.assert_close(torch.load(tmp_path / "told.pt").detach(), wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("kind", "px"), [("bc", 48), ("bc", 32), ("bc", 64), ("act", 48)])
def test_policies_run_without_torch(tmp_path, kind, px):
    """The ONNX file gives the same actions in onnx's own evaluator and in onnxruntime, for any number of frames; nothing of this machine is in it."""
    import onnx
    import torch
    from onnx.reference import ReferenceEvaluator

    from phototwin.learn.policy import ONNX_FILES
    from phototwin.learn.train import train

    demos = square_demos(6)
    demos = replace(demos, rgb=np.ascontiguousarray(np.pad(demos.rgb, ((0, 0), (0, 16), (0, 16), (0, 0)))[:, :px, :px]))
    policy = train(demos, TrainConfig(replace(BC, kind=kind, image_px=px), steps=3, batch=4), tmp_path).policy
    assert not any(part.training for part in policy.modules())
    file = tmp_path / ONNX_FILES[kind]
    assert b"phototwin" not in file.read_bytes()  # no path of this machine; three letters may be in random weights
    model = onnx.load(file)
    onnx.checker.check_model(model, full_check=True)
    runs = [lambda given: ReferenceEvaluator(model).run(None, given)[0]]
    try:
        import onnxruntime
    except ImportError:
        pass
    else:
        session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
        runs.append(lambda given: session.run(None, given)[0])
    for count in (1, 2, 5):
        rgb = np.ascontiguousarray(demos.rgb[:count].transpose(0, 3, 1, 2)) / np.float32(255)
        given = {"rgb": rgb, "state": demos.state[:count]}
        with torch.inference_mode():
            wanted = policy.chunks(*map(torch.from_numpy, given.values())).numpy()
        assert wanted.shape == (count, 4, 3)
        for run in runs:
            assert np.abs(run(given) - wanted).max() < 1e-4


@pytest.mark.parametrize("kind", ["bc", "act"])
def test_a_training_that_was_interrupted_ends_with_the_same_weights(tmp_path, kind):
    import torch

    from phototwin.learn.train import train

    demos = square_demos(6)
    config = TrainConfig(replace(BC, kind=kind), steps=8, batch=4, save_every=3)
    whole = train(demos, config).policy.state_dict()

    class KilledError(Exception):
        pass

    calls = []

    def die(loss_of):
        def loss(batch):
            calls.append(1)
            if len(calls) == 5:
                raise KilledError
            return loss_of(batch)

        return loss

    from phototwin.learn import train as module

    made = module.make_policy
    try:
        module.make_policy = lambda *args: _with_loss(made(*args), die)
        with pytest.raises(KilledError):
            train(demos, config, tmp_path)
    finally:
        module.make_policy = made
    assert (tmp_path / CHECKPOINT).is_file()
    resumed = train(demos, config, tmp_path).policy.state_dict()
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    assert not (tmp_path / CHECKPOINT).exists()


def _with_loss(policy, wrap):
    policy.loss = wrap(policy.loss)
    return policy


def test_a_folder_is_of_one_training(tmp_path):
    """One with other settings, or with other frames of the same motion, does not go on in it."""
    from phototwin.learn.train import train

    demos, config = square_demos(6), TrainConfig(BC, steps=2, batch=4)
    train(demos, config, tmp_path / "a")
    with pytest.raises(InputError, match=r"was begun with policy.chunk 4 \(asked for: 8\), seed 0 \(asked for: 5\)"):
        train(demos, replace(config, seed=5, policy=replace(BC, chunk=8)), tmp_path / "a")
    with pytest.raises(InputError, match="data_sha256"):
        train(replace(demos, rgb=demos.rgb // 2), config, tmp_path / "a")
    (tmp_path / CHECKPOINT).touch()
    with pytest.raises(InputError, match="nothing is known"):
        train(demos, config, tmp_path)


def test_a_training_that_was_killed_before_its_first_checkpoint_goes_on(dataset, tmp_path, monkeypatch):
    from phototwin.learn import train as module

    class KilledError(Exception):
        pass

    def die(run, folder):
        raise KilledError

    folder, _ = dataset
    config = TrainConfig(replace(BC, image_px=32), steps=3, batch=4, save_every=2)
    with monkeypatch.context() as patch, pytest.raises(KilledError):
        patch.setattr(module, "_save", die)
        run_training((folder,), config, tmp_path / "out")
    with pytest.raises(InputError, match="--resume"):
        run_training((folder,), config, tmp_path / "out")
    assert "3 steps" in run_training((folder,), config, tmp_path / "out", resume=True)
    with pytest.raises(InputError, match="not empty"):
        run_training((folder,), config, tmp_path / "out", resume=True)
    with monkeypatch.context() as patch, pytest.raises(KilledError):
        patch.setattr(module, "_save", die)
        run_training((folder,), config, tmp_path / "torn")
    (tmp_path / "torn" / CHECKPOINT).write_bytes(b"PK")
    with pytest.raises(InputError, match=r"checkpoint.pt' cannot be read .*delete it"):
        run_training((folder,), config, tmp_path / "torn", resume=True)


def test_the_losses_of_a_training_that_goes_on_are_those_of_one_that_did_not_stop(tmp_path, monkeypatch):
    from phototwin.learn import train as module

    monkeypatch.setattr(module, "LOG_EVERY", 4)
    demos, config = square_demos(6), TrainConfig(BC, steps=9, batch=4, save_every=3)
    whole = module.train(demos, config).losses

    def die(step, loss):
        if step == 8:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        module.train(demos, config, tmp_path, die)
    assert module.train(demos, config, tmp_path).losses == whole and len(whole) == 3


def test_several_tasks_are_not_learned_as_one():
    """On one twin a policy would have to guess; on several the picture says which. Other words for the same task are the same task."""
    from phototwin.learn.job import _check_tasks

    lift, same, place = Shown("lift it", "lift", "a"), Shown("pick it up", "lift", "a"), Shown("put it", "place", "a")
    _check_tasks([lift, same, replace(place, twin="b")])
    with pytest.raises(InputError, match=r"2 tasks on one twin \(pick it up, put it\).* split --by"):
        _check_tasks([lift, same, place])


def test_noise_on_the_tools_place_changes_nothing_else():
    """And is drawn behind all the rest: without it, batches are what they were."""
    from phototwin.learn.train import make_batch

    demos = square_demos(6)
    demos = replace(demos, state=np.concatenate([demos.state, demos.state], 1))
    config = TrainConfig(replace(BC, space="tool"), batch=64)
    clean, noisy = (make_batch(demos, replace(config, state_noise_m=m), np.random.default_rng(3)) for m in (0.0, 0.02))
    wrong = (noisy.pop(STATE) - clean.pop(STATE)).numpy()
    assert not wrong[:, 3:].any() and 0.017 < wrong[:, :3].std() < 0.023 and abs(wrong[:, :3].mean()) < 0.006
    assert all(np.array_equal(noisy[name], clean[name], equal_nan=True) for name in clean)
    for bad in (replace(config, state_noise_m=-0.01), TrainConfig(BC, state_noise_m=0.01)):
        with pytest.raises(InputError, match="Noise of"):
            check_training(bad)


def test_what_lies_behind_the_end_is_not_learned():
    """Actions behind an episode's end may be anything: the loss is the same."""
    import torch

    from phototwin.learn.policy import make_policy
    from phototwin.learn.train import make_batch

    demos = square_demos(6)
    policy = make_policy(BC, demos).eval()
    batch = make_batch(demos, TrainConfig(BC, batch=16, jitter=0.0), np.random.default_rng(0))
    assert batch[PADDED].any()
    changed = dict(batch)
    changed[ACTION] = torch.where(batch[PADDED][..., None], torch.tensor(77.0), batch[ACTION])
    changed[ACTION][..., -1] = batch[ACTION][..., -1]
    assert torch.allclose(policy.loss(batch), policy.loss(changed))


def test_tool_space_is_the_same_motion():
    """Joint paths to tool poses and back: the tool is where it was, and the arm near the posture that it had."""
    from phototwin.learn.spaces import arm_of, in_space, joint_actions, tool_numbers, tool_poses
    from phototwin.plan.ik import tool_pose

    arm = arm_of("panda")
    rng = np.random.default_rng(0)
    start = arm.home + rng.uniform(-0.1, 0.1, (5, 1, 7))
    paths = start + np.linspace(0, 0.15, 8)[:, None] * rng.uniform(-1, 1, (5, 1, 7))
    names = ("left", *arm.robot.arm_joints)
    state = np.concatenate([np.full((40, 1), 0.03), paths.reshape(40, 7)], 1).astype(np.float32)
    action = np.concatenate([paths.reshape(40, 7), np.ones((40, 1))], 1).astype(np.float32)
    demos = replace(square_demos(2), state=state, action=action, state_names=names)
    told = in_space(demos, "tool")
    assert (
        told.state.shape == (40, 10) and told.action.shape == (40, 10) and (told.state[:, 9] == np.float32(0.03)).all()
    )
    assert np.allclose(told.state[:, :9], told.action[:, :9], atol=1e-6) and in_space(demos, "joint") is demos
    assert np.allclose(tool_poses(tool_numbers(tool_pose(arm, paths))), tool_pose(arm, paths))
    back = joint_actions(arm, told.action.reshape(5, 8, 10), state.reshape(5, 8, 8)[:, 0], names)
    assert np.abs(tool_pose(arm, back[..., :7])[..., :3, 3] - tool_pose(arm, paths)[..., :3, 3]).max() < 1e-3
    # What the tool leaves free of seven joints is drawn towards home.
    assert np.abs(back[..., :7] - paths).max() < 0.2 and (back[..., 7] == 1).all()


@pytest.mark.parametrize(
    "config",
    [
        {"kind": "pi0"},
        {"space": "wheel"},
        {"size": "huge"},
        {"image_px": 50},
        {"execute": 9},
        {"kind": "diffusion", "chunk": 12},
    ],
)
def test_policies_that_cannot_be_are_refused(config):
    from phototwin.learn.config import check_policy

    with pytest.raises(InputError):
        check_policy(replace(BC, **{"chunk": 8, **config}))


def test_the_script_trains_on_a_dataset_and_refuses_what_it_must(dataset, tmp_path):
    from phototwin.learn.policy import load_policy

    folder, _ = dataset
    config = TrainConfig(replace(BC, image_px=32), steps=2, batch=4)
    said = run_training((folder, folder), config, tmp_path / "out", 2)
    assert "from 4 demonstrations" in said
    facts = json.loads((tmp_path / "out" / "phototwin.json").read_text())
    assert facts["demos"] == 4 and facts["config"]["image_px"] == 32
    with pytest.raises(InputError, match="not empty"):
        run_training((folder,), config, tmp_path / "out")
    with pytest.raises(InputError, match="asked for were 7"):
        run_training((folder,), config, tmp_path / "other", 7)
    with pytest.raises(InputError, match="nothing to learn from"):
        run_training((), config, tmp_path / "other")
    nothing = [{name: math.nan} for name in ("lr", "weight_decay", "jitter", "turn_deg", "state_noise_m")]
    numbers = ({"seed": -1}, {"lr": 0.0}, {"steps": 0}, {"policy": replace(BC, image_px=0)}, {"device": "tpu"})
    for wrong in (*numbers, *nothing):
        with pytest.raises(InputError):
            run_training((folder,), replace(config, **wrong), tmp_path / "wrong")
    assert not (tmp_path / "wrong").exists()
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="is a file"):
        run_training((folder,), config, tmp_path / "file")
    (tmp_path / "out" / "cloning.pt").unlink()
    with pytest.raises(InputError, match=r"weights .* cannot be read"):
        load_policy(tmp_path / "out")
    with pytest.raises(InputError, match="no LeRobot dataset"):
        find_dataset(tmp_path)
