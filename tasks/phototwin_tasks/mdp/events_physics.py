"""Resets of what physics is told: mass, friction, drives, gravity. Each does nothing where its range is none.

Isaac Lab's own terms draw from one stream that all environments share; these write what the attempt has drawn, so that it is
the same in every batch. Both engines take all of them for each environment apart. ``env.as_built`` keeps what there was before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import warp as wp

from phototwin_tasks.randomization import attempt_starts

if TYPE_CHECKING:
    from phototwin_tasks.twin_env import TwinEnv


def reset_masses(env: TwinEnv, env_ids: torch.Tensor | slice) -> None:
    """Scale every object's mass, and its inertia in proportion."""
    if env.randomization.mass_factor == 1.0:
        return
    ids = torch.arange(env.num_envs, device=env.device)[env_ids]
    factors, index = attempt_starts(env, ids).mass, ids.to(torch.int32)
    for row, item in enumerate(env.twin.objects):
        body = env.scene[item.key]
        mass = _as_built(env, f"{item.key} mass", body.data.body_mass.torch)
        inertia = _as_built(env, f"{item.key} inertia", body.data.body_inertia.torch)
        rows, factor = ids.to(mass.device), factors[:, row].to(mass.device)
        body.set_masses_index(masses=mass[rows] * factor[:, None], env_ids=index)
        body.set_inertias_index(inertias=inertia[rows] * factor[:, None, None], env_ids=index)


def reset_drives(env: TwinEnv, env_ids: torch.Tensor | slice) -> None:
    """Scale stiffness and damping of the robot's drives."""
    if env.randomization.gain_factor == 1.0:
        return
    ids = torch.arange(env.num_envs, device=env.device)[env_ids]
    starts, index, robot = attempt_starts(env, ids), ids.to(torch.int32), env.scene["robot"]
    stiffness = _as_built(env, "stiffness", robot.data.joint_stiffness.torch)[ids] * starts.stiffness[:, None]
    damping = _as_built(env, "damping", robot.data.joint_damping.torch)[ids] * starts.damping[:, None]
    robot.write_joint_stiffness_to_sim_index(stiffness=stiffness, env_ids=index)
    robot.write_joint_damping_to_sim_index(damping=damping, env_ids=index)


def reset_gravity(env: TwinEnv, env_ids: torch.Tensor | slice) -> None:
    """Tilt gravity, by a force on every object: PhysX knows one gravity for all environments, and the robot's own is balanced."""
    if env.randomization.gravity_tilt_deg == 0.0:
        return
    ids = torch.arange(env.num_envs, device=env.device)[env_ids]
    extra = attempt_starts(env, ids).gravity - torch.tensor(env.cfg.sim.gravity, device=env.device)
    for item in env.twin.objects:
        body = env.scene[item.key]
        mass = body.data.body_mass.torch.to(env.device)[ids]
        force = mass[:, :, None] * extra[:, None]
        composer = body.permanent_wrench_composer
        composer.set_forces_and_torques_index(forces=force, env_ids=ids.to(torch.int32), is_global=True)


def reset_friction(env: TwinEnv, env_ids: torch.Tensor | slice) -> None:
    """Scale the friction of objects and robot; on Newton, where the larger coefficient of two counts, of the support too."""
    if env.randomization.friction_factor == 1.0:
        return
    ids = torch.arange(env.num_envs, device=env.device)[env_ids]
    factor = attempt_starts(env, ids).friction
    if "newton" in type(env.sim.cfg.physics).__module__:
        _scale_newton(env, ids, factor)
        return
    for name in ("robot", *(item.key for item in env.twin.objects)):
        _scale_physx(env, name, ids.cpu(), factor.cpu())


def _scale_newton(env: TwinEnv, ids: torch.Tensor, factor: torch.Tensor) -> None:
    """Every shape of some environments."""
    from newton import ModelFlags

    manager: Any = env.sim.physics_manager
    model = manager.get_model()
    now, world = wp.to_torch(model.shape_material_mu), wp.to_torch(model.shape_world).long()
    factors = torch.ones(env.num_envs + 1, device=now.device)  # the last, world -1, is what all environments share
    chosen = torch.zeros(env.num_envs + 1, dtype=torch.bool, device=now.device)
    factors[ids], chosen[ids] = factor.to(now.device), True
    now[:] = torch.where(chosen[world], _as_built(env, "friction", now) * factors[world], now)
    manager.add_model_change(ModelFlags.SHAPE_PROPERTIES)


def _scale_physx(env: TwinEnv, name: str, ids: torch.Tensor, factor: torch.Tensor) -> None:
    """Static and dynamic friction of every shape of one asset; the buffer (environments, shapes, 3) is written whole, so it is kept."""
    view: Any = env.scene[name].root_view
    kind = _ovphysx_material(name) if not hasattr(view, "get_material_properties") else None  # None inside Isaac Sim
    if f"{name} friction now" not in env.as_built:
        given = view.get_material_properties() if kind is None else view.get_attribute(kind)
        env.as_built[f"{name} friction"] = wp.to_torch(given).clone()
        env.as_built[f"{name} friction now"] = wp.to_torch(given).clone()
    own, now = env.as_built[f"{name} friction"], env.as_built[f"{name} friction now"]
    now[ids, :, :2] = own[ids, :, :2] * factor[:, None, None]
    buffer, index = wp.from_torch(now, dtype=wp.float32), wp.from_torch(ids.to(torch.int32))
    if kind is None:
        view.set_material_properties(buffer, index)
    else:
        view.set_attribute(kind, buffer, indices=index)


def _ovphysx_material(name: str) -> Any:
    from isaaclab_ov import tensor_types

    if name == "robot":
        return tensor_types.SHAPE_FRICTION_AND_RESTITUTION
    return tensor_types.RIGID_BODY_SHAPE_FRICTION_AND_RESTITUTION


def _as_built(env: TwinEnv, name: str, now: torch.Tensor) -> torch.Tensor:
    """A value as it was before the first reset that changed it."""
    if name not in env.as_built:
        env.as_built[name] = now.clone()
    return env.as_built[name]
