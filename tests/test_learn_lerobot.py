"""LeRobot's own policies: LeRobot reads what was trained here, they follow a device, and what they draw comes of the batch."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from learn_helpers import BC, square_demos

from phototwin.data.lerobot import IMAGE_KEY
from phototwin.learn.config import TrainConfig
from phototwin.learn.demos import ACTION


def test_lerobots_policies_are_read_in_a_new_process(tmp_path):
    """Where nothing has made LeRobot's kinds known before."""
    from phototwin.learn.train import train

    for kind in ("act", "diffusion"):
        train(square_demos(3), TrainConfig(replace(BC, kind=kind, chunk=8), steps=1, batch=2), tmp_path / kind)
        code = "import sys; from pathlib import Path; from phototwin.learn.policy import load_policy; load_policy(Path(sys.argv[1]))"
        subprocess.run([sys.executable, "-c", code, str(tmp_path / kind)], check=True)


def test_lerobot_reads_its_policies_without_us(tmp_path):
    from lerobot.policies.act.modeling_act import ACTPolicy

    from phototwin.learn.train import train

    train(square_demos(6), TrainConfig(replace(BC, kind="act"), steps=1, batch=4), tmp_path)
    policy = ACTPolicy.from_pretrained(tmp_path)
    assert policy.config.chunk_size == 4 and list(policy.config.image_features) == [IMAGE_KEY]


def test_the_usual_size_is_lerobots_alone(tmp_path):
    """A process that knows LeRobot alone is told the same actions by what was trained here."""
    import torch

    from phototwin.learn.train import train

    demos = square_demos(3)
    policy = train(demos, TrainConfig(replace(BC, kind="act", size="usual"), steps=1, batch=2), tmp_path).policy
    rgb, state = torch.from_numpy(demos.rgb[:2]).permute(0, 3, 1, 2) / 255.0, torch.from_numpy(demos.state[:2])
    torch.save((rgb, state), tmp_path / "given.pt")
    code = (
        "import sys, torch; from lerobot.policies.factory import get_policy_class, make_pre_post_processors;"
        "folder = sys.argv[1]; policy = get_policy_class('act').from_pretrained(folder).eval();"
        "before, after = make_pre_post_processors(policy.config, pretrained_path=folder);"
        f"rgb, state = torch.load(sys.argv[2]); given = before({{{IMAGE_KEY!r}: rgb, 'observation.state': state}});"
        "told = after(policy.predict_action_chunk(given)); assert 'phototwin' not in sys.modules; torch.save(told, sys.argv[3])"
    )
    files = [str(tmp_path / name) for name in ("given.pt", "told.pt")]
    subprocess.run([sys.executable, "-c", code, str(tmp_path), *files], check=True, cwd=tmp_path)
    with torch.inference_mode():
        wanted = policy.chunks(rgb, state)
    torch.testing.assert_close(torch.load(tmp_path / "told.pt").detach(), wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", ["act", "diffusion"])
def test_lerobots_policies_bring_data_to_where_they_are(kind):
    """On torch's device without storage, as there need not be a GPU: whatever comes, the network is given what lies where it lies itself."""
    import torch

    from phototwin.learn.policy import make_policy
    from phototwin.learn.train import make_batch

    demos, config = square_demos(6), replace(BC, kind=kind, chunk=8)
    policy = make_policy(config, demos)
    batch = make_batch(demos, TrainConfig(config, batch=4), np.random.default_rng(0))
    for device in ("meta", "cpu"):
        policy.policy.to_empty(device=device) if device == "cpu" else policy.to(device)
        policy.to(device)
        given = policy.before({name: batch[name].to(device) for name in (IMAGE_KEY, ACTION)})
        assert {value.device.type for value in given.values() if isinstance(value, torch.Tensor)} == {device}


def test_what_diffusion_draws_comes_of_the_batch():
    import torch

    from phototwin.learn.train import train
    from phototwin_tasks.evaluate.drivers import PolicyDriver

    demos = square_demos(6)
    trained = train(demos, TrainConfig(replace(BC, kind="diffusion", chunk=8), steps=1, batch=4))
    told = []
    for before in (1, 2):
        torch.manual_seed(before)
        driver = PolicyDriver(trained.policy, trained.facts)
        for seed in (7, 7, 8):
            driver.begin(3, seed)
            told.append([driver.actions(demos.rgb[:3], demos.state[:3], "") for _ in range(2)])
        assert torch.initial_seed() == before, "nobody else's draws are changed"
    assert np.array_equal(told[0], told[1]) and np.array_equal(told[:3], told[3:])
    assert not np.array_equal(told[0], told[2]) and not np.array_equal(*told[0])


def test_acts_eye_is_taught_where_things_are():
    """Of scenes with fewer things than it has key points only those that are there; the marks from their mean on."""
    import torch

    from phototwin.learn.demos import MARKS, PLACES
    from phototwin.learn.policy import make_policy
    from phototwin.learn.train import make_batch

    demos = square_demos(6)
    demos = replace(demos, marks=demos.marks + np.float32(0.7))
    policy = make_policy(replace(BC, kind="act", chunk=8), demos).train()
    (eye,) = policy.eyes()
    assert torch.allclose(eye.mean, torch.tensor(0.7))
    batch = make_batch(
        demos, TrainConfig(replace(BC, kind="act", chunk=8), batch=8, turn_deg=0), np.random.default_rng(0)
    )
    assert batch[PLACES].shape[1] == 4, "tool and square, and a key point more that nothing is known of"

    def loss(**changed):
        torch.manual_seed(0)
        return policy.loss(batch | changed)

    at_first = loss()
    at_first.backward()
    reached = eye.look.point.weight.grad
    assert reached[1].abs().sum() > 0 and reached[3:].abs().sum() > 0, "the square's key point, and those that are free"
    assert loss(**{PLACES: -batch[PLACES]}) != at_first
    assert torch.isclose(loss(**{MARKS: batch[MARKS] + 0.05}) - at_first, torch.tensor(0.2), atol=0.02)
    assert loss(**{PLACES: torch.full_like(batch[PLACES], torch.nan)}).isfinite()
    policy.eval()
    assert torch.equal(eye.loss(batch), torch.tensor(0.0))
