"""The training scripts of robomimic and LeRobot, as they come, train on our datasets. Marked like the simulator's tests: half a minute each."""

import json
import os
import subprocess
import sys
from importlib.util import find_spec

import pytest
from data_helpers import fill_store

from phototwin.data.compose import read_entries, write_dataset
from phototwin_tasks.dataset import job

LOW = ["joint_pos", "tcp_pose", "object_poses"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trainers")
    file = fill_store(folder / "run", 4, size=(96, 64))
    write_dataset(read_entries(file), folder / "both")
    job.convert(folder / "both", "robomimic", folder / "next.hdf5")
    return folder


def train_robomimic(folder, data, algorithm):
    """One epoch by ``robomimic/scripts/train.py``; what it printed."""
    config = {
        "algo_name": algorithm,
        "experiment": {
            "name": "epoch",
            "validate": algorithm == "bc",
            "epoch_every_n_steps": 3,
            "validation_epoch_every_n_steps": 2,
            "rollout": {"enabled": False},
            "logging": {"log_tb": False},
            "save": {"enabled": True, "every_n_epochs": 1},
        },
        "train": {
            "data": str(data),
            "output_dir": str(folder / "out"),
            "num_data_workers": 0,
            "hdf5_cache_mode": "low_dim",
            "hdf5_filter_key": "train",
            "hdf5_validation_filter_key": "valid" if algorithm == "bc" else None,
            "num_epochs": 1,
            "batch_size": 4,
            "cuda": False,
        },
        "observation": {"modalities": {"obs": {"low_dim": LOW, "rgb": ["rgb"]}}},
    }
    (folder / "config.json").write_text(json.dumps(config))
    command = [sys.executable, "-m", "robomimic.scripts.train", "--config", str(folder / "config.json")]
    # It puts its own logger in the place of stdout, and what is buffered then is lost.
    environment = os.environ | {"PYTHONUNBUFFERED": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=500, env=environment)
    assert done.returncode == 0 and "finished run successfully!" in done.stdout, (done.stdout + done.stderr)[-3000:]
    assert list((folder / "out").rglob("model_epoch_1*.pth"))
    return done.stdout


@pytest.mark.sim
def test_robomimic_trains_a_policy_from_our_file(whole, tmp_path):
    pytest.importorskip("robomimic")
    printed = train_robomimic(tmp_path, whole / "both/episodes.hdf5", "bc")
    assert "Validation Epoch 1" in printed and '"Loss"' in printed


@pytest.mark.sim
def test_robomimic_trains_values_which_needs_the_next_frames(whole, tmp_path):
    pytest.importorskip("robomimic")
    train_robomimic(tmp_path, whole / "next.hdf5", "iql")


@pytest.mark.sim
@pytest.mark.skipif(find_spec("accelerate") is None, reason="lerobot[training] (accelerate) is not installed")
def test_lerobot_trains_a_policy_from_our_dataset(whole, tmp_path):
    small = {"dim_model": 64, "n_heads": 2, "dim_feedforward": 64, "n_encoder_layers": 1, "chunk_size": 8}
    options = {
        "dataset.repo_id": "phototwin",
        "dataset.root": whole / "both/lerobot",
        "dataset.video_backend": "pyav",
        "policy.type": "act",
        "policy.device": "cpu",
        "policy.push_to_hub": "false",
        "policy.pretrained_backbone_weights": "null",
        "policy.use_vae": "false",
        "policy.n_action_steps": 8,
        **{f"policy.{name}": value for name, value in small.items()},
        "steps": 3,
        "batch_size": 2,
        "num_workers": 0,
        "log_freq": 1,
        "output_dir": tmp_path / "out",
        "wandb.enable": "false",
    }
    command = [sys.executable, "-m", "lerobot.scripts.lerobot_train", *(f"--{k}={v}" for k, v in options.items())]
    environment = os.environ | {"HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=500, env=environment)
    assert done.returncode == 0 and "End of training" in done.stderr + done.stdout, done.stderr[-3000:]
    assert list((tmp_path / "out").rglob("model.safetensors"))
