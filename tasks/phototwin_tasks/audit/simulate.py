"""Rest and pushes of a twin in one of Isaac Lab's engines: ``python -m phototwin_tasks.audit.simulate TWIN ENGINE FILE``.

A program of its own, because an engine that crashes takes its process with it.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import isaaclab.sim as sim_utils
import numpy as np
import torch
from isaaclab.assets import AssetBaseCfg
from isaaclab.scene import InteractiveScene, InteractiveSceneCfg
from isaaclab.sim import SimulationContext
from isaaclab.sim.utils.stage import use_stage
from isaaclab_tasks.utils import resolve_presets

from phototwin.scene import Scene, load_scene
from phototwin_tasks.audit.rest import PUSH_MPS, PUSH_S, SETTLE_S, Motion, matrices, push_directions
from phototwin_tasks.compat import drop_pinned_without_cuda, late_timers
from phototwin_tasks.presets import size_contacts
from phototwin_tasks.twin_env import PHYSICS_HZ, TwinEnvCfg
from phototwin_tasks.twin_scene_cfg import ENV_SPACING_M, make_object_cfg


def simulate_twin(twin: Scene, engine: str) -> Motion:
    """Let a twin come to rest and push its objects, in the steps and with the engine settings of the environments.

    There is an environment for each object, which is pushed only there, so all of it is one run.
    """
    drop_pinned_without_cuda()
    environment: Any = resolve_presets(TwinEnvCfg(), (engine,))
    config = environment.sim
    size_contacts(config.physics, twin)
    with late_timers():
        context = SimulationContext(config)
    with late_timers(), use_stage(context.stage):
        scene = InteractiveScene(_scene_cfg(twin))
        context.register_interactive_scene(scene)
        context.reset()
    scene.update(config.dt)
    _run(context, scene, SETTLE_S)
    rest = _poses(scene, twin)[:, 0]
    for i, (item, direction) in enumerate(zip(twin.objects, push_directions(twin), strict=True)):
        velocity = torch.zeros(len(twin.objects), 6)
        velocity[i, :3] = torch.from_numpy(PUSH_MPS * direction)
        scene[item.key].write_root_velocity_to_sim_index(root_velocity=velocity)
    _run(context, scene, PUSH_S)
    pushed = _poses(scene, twin)
    return Motion(engine, rest, np.array([pushed[i, i] for i in range(len(twin.objects))]))


def _scene_cfg(twin: Scene) -> InteractiveSceneCfg:
    """Support and objects, once for each object."""
    cfg = InteractiveSceneCfg(num_envs=len(twin.objects), env_spacing=ENV_SPACING_M, replicate_physics=True)
    cfg.support = AssetBaseCfg(
        prim_path="{ENV_REGEX_NS}/support",
        spawn=sim_utils.UsdFileCfg(usd_path=str(twin.folder / "meshes/support.usdc")),
    )
    for item in twin.objects:
        setattr(cfg, item.key, make_object_cfg(item, twin.folder))
    return cfg


def _run(context: SimulationContext, scene: InteractiveScene, seconds: float) -> None:
    for _ in range(round(seconds * PHYSICS_HZ)):
        scene.write_data_to_sim()
        context.step(render=False)
        scene.update(1.0 / PHYSICS_HZ)


def _poses(scene: InteractiveScene, twin: Scene) -> np.ndarray:
    """T_world_object (objects, environments, 4, 4) in the frame of each environment [m]."""
    rows = []
    for item in twin.objects:
        data = scene[item.key].data
        rows.append(torch.cat([data.root_pos_w.torch - scene.env_origins, data.root_quat_w.torch], -1))
    return matrices(torch.stack(rows).cpu().numpy().astype(np.float64))


def main(twin: str, engine: str, file: str) -> None:
    """Simulate and write the motion as arrays ``rest`` and ``pushed``."""
    motion = simulate_twin(load_scene(Path(twin)), engine)
    np.savez(file, rest=motion.rest, pushed=motion.pushed)


if __name__ == "__main__":
    main(*sys.argv[1:])
    sys.stdout.flush()
    # Engines leave threads and atexit hooks behind that can hang or crash after the file is written.
    os._exit(0)
