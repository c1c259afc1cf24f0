"""Learning on a twin: what the action term commands, and that PPO's whole path works."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from sim_helpers import make_twin

pytestmark = pytest.mark.sim


@pytest.fixture(scope="module")
def twin(tmp_path_factory):
    return make_twin(tmp_path_factory.mktemp("rl") / "twin")


def test_moves_of_the_tool_follow_a_script_to_a_lifted_cube(twin):
    """A policy written by hand on what a learned one is shown: come above the grasp, go down, close, lift."""
    import torch
    from isaaclab_tasks.utils import resolve_presets

    from phototwin_tasks.learning import for_learning
    from phototwin_tasks.mdp.guide import grasp_offset, grasp_way
    from phototwin_tasks.mdp.observations import object_pose
    from phototwin_tasks.register import make_env_cfg
    from phototwin_tasks.twin_env import TwinEnv

    cfg = for_learning(make_env_cfg("lift", "panda"))
    cfg.twin, cfg.scene.num_envs, cfg.instruction = str(twin), 2, "pick up the green cube"
    cfg.randomize, cfg.randomize_pool = "none", 2
    env = TwinEnv(resolve_presets(cfg, ("ovphysx",)))
    try:
        obs, _ = env.reset()
        assert torch.isfinite(obs["policy"]).all()
        assert torch.allclose(env.memory.starts[0, :, 0], object_pose(env, "green_cube"), atol=1e-5)
        reached = torch.zeros(2, dtype=torch.bool)
        ended = torch.zeros(2, dtype=torch.bool)
        returns = torch.zeros(2)
        near = torch.zeros(2)
        for _ in range(int(env.max_episode_length)):
            command = env.action_manager.get_term("tool").processed_actions[:, :7]
            offset = grasp_offset(env)
            there = (offset[:, :3].norm(dim=-1) < 0.01) & (offset[:, 3:].norm(dim=-1) < 0.1)
            near += there.float()
            way = torch.where((near > 8)[:, None], torch.tensor([0.0, 0.0, 0.05]), grasp_way(env, command))
            moves = (way / cfg.actions.tool.move_m).clamp(-1, 1)
            turn = (grasp_offset(env, command)[:, 5:6] / cfg.actions.tool.turn_rad).clamp(-1, 1)
            grip = torch.where(near > 2, -1.0, 1.0)[:, None]
            _, reward, terminated, truncated, _ = env.step(torch.cat([moves, turn, grip], 1))
            returns += reward * ~ended
            reached |= env.termination_manager.get_term("success") & ~ended
            ended |= terminated | truncated
            if ended.all():
                break
        assert reached.all()
        assert (returns > 0).all()
    finally:
        env.close()


def test_ppo_learns_for_a_few_iterations_and_its_policy_is_judged_again(twin, tmp_path):
    from phototwin_tasks.rl import CHECKPOINT, TrainConfig, evaluate_policy, train_policy

    config = TrainConfig(
        twin=str(twin), instruction="pick up the green cube", steps=16 * 16 * 4, looks=2, episodes=16, num_envs=16
    )
    curve = train_policy(config, tmp_path)
    assert [point.steps for point in curve] == [16 * 16 * 2, 16 * 16 * 4]
    assert all(0.0 <= point.success <= 1.0 and point.cpu_s > 0 for point in curve)
    assert evaluate_policy(config, tmp_path / CHECKPOINT, 16) <= 1.0


def test_after_every_look_attempts_end_at_times_of_their_own(monkeypatch):
    """All start at once after a look; in step, every batch of PPO would be one part of the task."""
    from contextlib import contextmanager
    from types import SimpleNamespace

    from phototwin_tasks import rl

    learned = []
    runner = SimpleNamespace(
        cfg={"num_steps_per_env": 16},
        learn=lambda count, init_at_random_ep_len: learned.append((count, init_at_random_ep_len)),
        get_inference_policy=lambda: None,
        alg=SimpleNamespace(train_mode=lambda: None),
    )
    env = SimpleNamespace(num_envs=4, unwrapped=SimpleNamespace(run_seed=0, start_pool=None), reset=lambda: None)

    @contextmanager
    def opened(config, log):
        yield env, runner

    monkeypatch.setattr(rl, "_open_runner", opened)
    monkeypatch.setattr(rl, "success_rate", lambda env, policy, episodes: 0.5)
    curve = rl.train_policy(rl.TrainConfig(steps=6 * 64, looks=3))
    assert learned == [(2, True)] * 3 and [point.steps for point in curve] == [128, 256, 384]


def test_isaac_lab_trains_any_twin_from_its_command_line(twin, tmp_path):
    done = subprocess.run(
        [
            str(Path(sys.executable).with_name("isaaclab")), "train", "--rl_library", "rsl_rl",
            "--task", "PhotoTwin-Lift-Panda", "--num_envs", "16", "--max_iterations", "2", f"env.twin={twin}",
        ],
        capture_output=True, text=True, timeout=500, cwd=tmp_path, env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )  # fmt: skip
    checkpoints = list(tmp_path.glob("logs/rsl_rl/phototwin_lift/*/model_*.pt"))
    assert done.returncode == 0 and checkpoints, done.stdout[-2000:] + done.stderr[-2000:]
