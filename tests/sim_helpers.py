"""What the simulated tests share: a small twin and environments over it, closed again."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path

from synthetic import make_scene

from phototwin.scene import save_scene
from phototwin.stage.author import author_stage


def make_twin(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    scene = make_scene(folder)
    save_scene(scene, folder)
    author_stage(scene, folder)
    return folder


@contextmanager
def open_env(twin: Path, task: str, physics: str, num_envs: int = 2, **fields):
    """An environment whose terminations never reset it; whether the first step is done is at ``env.success()``."""
    from isaaclab_tasks.utils import resolve_presets

    from phototwin_tasks.register import make_env_cfg
    from phototwin_tasks.skills import step_holds
    from phototwin_tasks.twin_env import TwinEnv

    _, family, robot = task.lower().split("-")
    cfg = make_env_cfg(family, robot)
    cfg.terminations.success = cfg.terminations.object_fell = cfg.terminations.time_out = None
    cfg.twin, cfg.scene.num_envs = str(twin), num_envs
    for name, value in fields.items():
        setattr(cfg, name, value)
    env = TwinEnv(resolve_presets(cfg, (physics,)))
    env.success = lambda: step_holds(env, env.task.steps[0])
    try:
        yield env
    finally:
        env.close()
