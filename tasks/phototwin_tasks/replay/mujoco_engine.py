"""A twin with its robot in MuJoCo's own engine: the exported MJCF, the robot's URDF through MuJoCo's importer, and position actuators."""

from __future__ import annotations

import math
import tempfile
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from phototwin.episode import Episode
from phototwin.frames import matrix_from_quat_xyzw, quat_xyzw_from_matrix
from phototwin.plan.randomize_draw import Draw
from phototwin.robots import Robot, closing_command, match_joint
from phototwin.scene import Scene
from phototwin.stage.mjcf import CONTACT_S, export_mjcf
from phototwin.stage.robots import FINGER_STATIC_FRICTION, robot_urdf
from phototwin_tasks.replay.states import States

MOST_STEP_S = 0.002
"""MuJoCo's own default step."""
LINK_FRICTION = 0.8
ROBOT_BITS, THING_BITS = (2, 1), (1, 3)
"""contype and conaffinity: links of the robot do not touch each other, everything else does."""


@dataclass(frozen=True, eq=False)
class MujocoCell:
    """A compiled model.

    Attributes:
        model: ``mujoco.MjModel``.
        joints: Names of the robot's joints, arm then fingers: the order of its actuators.
        keys: Keys of the objects.
        substeps: Physics steps of a control step.
    """

    model: Any
    joints: tuple[str, ...]
    keys: tuple[str, ...]
    substeps: int


def make_cell(scene: Scene, robot: Robot, T_world_base: np.ndarray, fps: float) -> MujocoCell:
    """The twin and its robot as one MuJoCo model.

    Args:
        scene: The twin.
        robot: The robot.
        T_world_base: Pose of its base, (4, 4) [m].
        fps: Control rate [Hz].
    """
    import mujoco

    with tempfile.TemporaryDirectory(prefix="phototwin_mujoco_") as folder:
        spec = mujoco.MjSpec.from_file(str(export_mjcf(scene, Path(folder) / "twin.xml")))
        for geom in spec.geoms:
            if geom.contype:
                geom.contype, geom.conaffinity = THING_BITS
        arm = _robot_spec(robot)
        frame = spec.worldbody.add_frame(
            pos=T_world_base[:3, 3], quat=np.roll(quat_xyzw_from_matrix(T_world_base[:3, :3]), 1)
        )
        spec.attach(arm, frame=frame, prefix="")
        joints = (*robot.arm_joints, *robot.finger_joints)
        for name in joints:
            _add_drive(spec, robot, name)
        substeps = math.ceil(1.0 / fps / MOST_STEP_S)
        spec.option.timestep = 1.0 / fps / substeps
        spec.option.integrator = mujoco.mjtIntegrator.mjINT_IMPLICITFAST
        return MujocoCell(spec.compile(), joints, tuple(item.key for item in scene.objects), substeps)


def _robot_spec(robot: Robot) -> Any:
    """The robot through MuJoCo's URDF importer: collision shapes only, no fused links, pads with the friction of rubber."""
    import mujoco

    urdf, share = robot_urdf(robot)
    tree = ET.parse(urdf).getroot()
    for link in tree.iter("link"):
        for seen in link.findall("visual"):
            link.remove(seen)
    for mesh in tree.iter("mesh"):
        name = mesh.attrib["filename"]
        mesh.set("filename", str(share / name.removeprefix("package://")) if name.startswith("package://") else name)
    settings = ET.SubElement(ET.SubElement(tree, "mujoco"), "compiler")
    settings.attrib.update(strippath="false", fusestatic="false", balanceinertia="true", autolimits="true")
    spec = mujoco.MjSpec.from_string(ET.tostring(tree, encoding="unicode"))
    movers = {name: match_joint(robot.armature, name) or 0.0 for name in (*robot.arm_joints, *robot.finger_joints)}
    for equality in list(spec.equalities):
        spec.delete(equality)  # fingers that follow another one are driven themselves, as in the other engines
    for body in spec.bodies:
        body.gravcomp = 1.0
        rubber = any(joint.name in robot.finger_joints for joint in body.joints)
        for joint in body.joints:
            joint.armature, joint.frictionloss = movers.get(joint.name, 0.0), 0.0
            joint.damping = np.zeros_like(joint.damping)
        for geom in body.geoms:
            geom.contype, geom.conaffinity = ROBOT_BITS
            geom.condim, geom.solref = 4, [CONTACT_S, 1.0]
            geom.friction[0] = FINGER_STATIC_FRICTION if rubber else LINK_FRICTION
    return spec


def _add_drive(spec: Any, robot: Robot, joint: str) -> None:
    """A position actuator with the robot's gains."""
    import mujoco

    stiffness, damping = match_joint(robot.stiffness, joint) or 0.0, match_joint(robot.damping, joint) or 0.0
    effort = match_joint(robot.effort, joint) or 0.0
    drive = spec.add_actuator(name=joint, target=joint, trntype=mujoco.mjtTrn.mjTRN_JOINT)
    drive.gaintype, drive.biastype = mujoco.mjtGain.mjGAIN_FIXED, mujoco.mjtBias.mjBIAS_AFFINE
    drive.gainprm[0] = stiffness
    drive.biasprm[1], drive.biasprm[2] = -stiffness, -damping
    drive.forcelimited, drive.forcerange = True, [-effort, effort]


def simulate(cell: MujocoCell, robot: Robot, episode: Episode, draw: Draw | None = None) -> States:
    """What happens when an episode's actions are repeated from its first state.

    Args:
        cell: The model.
        robot: The robot.
        episode: What was recorded.
        draw: Masses, friction, gains and gravity of the attempt; None for the twin's own.
    """
    import mujoco

    model = cell.model
    own, gravity = {name: getattr(model, name).copy() for name in CHANGED}, model.opt.gravity.copy()
    try:
        if draw is not None:
            _apply(cell, draw)
        data = mujoco.MjData(model)
        rows = [_begin(cell, data, episode)]
        width = len(robot.arm_joints)
        for action in episode.commands:
            fingers = robot.fingers_open if action[width] > 0 else closing_command(robot)
            data.ctrl[:] = (*action[:width], *fingers)
            mujoco.mj_step(model, data, cell.substeps)
            rows.append(_row(cell, data, episode))
    finally:
        for name, value in own.items():
            getattr(model, name)[:] = value
        model.opt.gravity[:] = gravity
        mujoco.mj_setConst(model, mujoco.MjData(model))
    return States(*(np.stack(each).astype(np.float32) for each in zip(*rows, strict=True)))


CHANGED = ("body_mass", "body_inertia", "geom_friction", "actuator_gainprm", "actuator_biasprm")
"""What a draw changes of a model, besides gravity."""


def _apply(cell: MujocoCell, draw: Draw) -> None:
    """Give the model what an attempt has drawn."""
    import mujoco

    model = cell.model
    for key, factor in draw.mass_factor.items():
        body = model.body(key).id
        model.body_mass[body] *= factor
        model.body_inertia[body] *= factor
    model.opt.gravity[:] = draw.gravity_m_s2
    model.geom_friction[:, 0] *= draw.friction_factor
    model.actuator_gainprm[:, 0] *= draw.stiffness_factor
    model.actuator_biasprm[:, 1] *= draw.stiffness_factor
    model.actuator_biasprm[:, 2] *= draw.damping_factor
    mujoco.mj_setConst(model, mujoco.MjData(model))


def _begin(cell: MujocoCell, data: Any, episode: Episode) -> tuple[np.ndarray, ...]:
    """The first state of an episode, in the model."""
    import mujoco

    model = cell.model
    for name, position, speed in zip(episode.joint_names, episode.joint_pos[0], episode.joint_vel[0], strict=True):
        joint = model.joint(name)
        data.qpos[joint.qposadr[0]], data.qvel[joint.dofadr[0]] = position, speed
    for i, key in enumerate(episode.object_keys):
        joint, pose = model.joint(f"{key}_free"), episode.object_poses_w[0, i].astype(np.float64)
        at, dof = joint.qposadr[0], joint.dofadr[0]
        data.qpos[at : at + 3], data.qpos[at + 3 : at + 7] = pose[:3], np.roll(pose[3:], 1)
        data.qvel[dof : dof + 3] = episode.object_velocities_w[0, i, :3]
    mujoco.mj_forward(model, data)
    return _row(cell, data, episode)


def _row(cell: MujocoCell, data: Any, episode: Episode) -> tuple[np.ndarray, ...]:
    """The state as episodes record it: joint positions and velocities, object poses and velocities."""
    model = cell.model
    position = np.array([data.qpos[model.joint(name).qposadr[0]] for name in episode.joint_names])
    speed = np.array([data.qvel[model.joint(name).dofadr[0]] for name in episode.joint_names])
    poses, velocities = np.zeros((len(episode.object_keys), 7)), np.zeros((len(episode.object_keys), 6))
    for i, key in enumerate(episode.object_keys):
        joint = model.joint(f"{key}_free")
        at, dof = joint.qposadr[0], joint.dofadr[0]
        poses[i] = (*data.qpos[at : at + 3], *np.roll(data.qpos[at + 3 : at + 7], -1))
        turn = matrix_from_quat_xyzw(poses[i, 3:])
        velocities[i] = (*data.qvel[dof : dof + 3], *(turn @ data.qvel[dof + 3 : dof + 6]))
    return position, speed, poses, velocities
