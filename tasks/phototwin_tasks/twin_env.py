"""The environment every family shares: a ManagerBasedRLEnv whose scene is filled in from the twin that its config names."""

from __future__ import annotations

import json
import warnings
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import isaaclab.sim as sim_utils
import numpy as np
import torch
from isaaclab.envs import ManagerBasedRLEnv, ManagerBasedRLEnvCfg
from isaaclab.managers import EventTermCfg, ObservationGroupCfg, ObservationTermCfg, TerminationTermCfg
from isaaclab.scene import InteractiveSceneCfg
from isaaclab.utils import configclass
from isaaclab_tasks.utils import resolve_presets

from phototwin.blend.crop import crop_camera
from phototwin.build.distractors import is_distractor
from phototwin.errors import InstructionError
from phototwin.frames import quat_xyzw_from_matrix
from phototwin.plan.base import load_base
from phototwin.plan.cell import make_workcell
from phototwin.plan.ik import load_arm
from phototwin.plan.instruction import default_instruction, parse_instruction
from phototwin.plan.propose import propose_tasks
from phototwin.plan.randomize import load_randomization
from phototwin.plan.randomize_draw import Draw
from phototwin.plan.randomize_places import Room, focus_points
from phototwin.plan.task import Step, Task
from phototwin.robots import Robot, get_robot
from phototwin.scene import Scene, load_scene
from phototwin_tasks import mdp
from phototwin_tasks.actions import CONTROLS
from phototwin_tasks.compat import drop_pinned_without_cuda, late_timers
from phototwin_tasks.mdp.guide import Guide, make_guide, ready_posture
from phototwin_tasks.memory import begin_step, make_memory
from phototwin_tasks.presets import PhysicsPresetCfg, RendererPresetCfg, size_contacts
from phototwin_tasks.randomization import Starts
from phototwin_tasks.skills import EPISODE_S, task_done
from phototwin_tasks.twin_scene_cfg import make_camera_cfg, make_scene_cfg

PROPOSALS = 24
"""Among so many tasks that make sense on a twin each family that does is found."""
CONTROL_HZ = 20
PHYSICS_HZ = 120


@configclass
class ObservationsCfg:
    """State, flat; the photo's camera is read by whoever composites frames."""

    @configclass
    class PolicyCfg(ObservationGroupCfg):
        """What a state policy sees."""

        joint_pos = ObservationTermCfg(func=mdp.joint_pos_rel)
        joint_vel = ObservationTermCfg(func=mdp.joint_vel_rel)
        tool_pose = ObservationTermCfg(func=mdp.tool_pose)
        object_poses = ObservationTermCfg(func=mdp.object_poses)
        actions = ObservationTermCfg(func=mdp.last_action)

    policy: PolicyCfg = PolicyCfg()


def begin_task(env: TwinEnv, env_ids: torch.Tensor | slice) -> None:
    """The first step begins."""
    begin_step(env, torch.arange(env.num_envs, device=env.device)[env_ids], 0)


@configclass
class EventsCfg:
    """Everything back to its place, then what the attempt has drawn; ranges are ``TwinEnvCfg.randomize``."""

    reset_all = EventTermCfg(func=mdp.reset_scene_to_default, mode="reset")
    reset_masses = EventTermCfg(func=mdp.reset_masses, mode="reset")
    reset_friction = EventTermCfg(func=mdp.reset_friction, mode="reset")
    reset_drives = EventTermCfg(func=mdp.reset_drives, mode="reset")
    reset_gravity = EventTermCfg(func=mdp.reset_gravity, mode="reset")
    reset_objects = EventTermCfg(func=mdp.reset_objects, mode="reset")
    begin_task = EventTermCfg(func=begin_task, mode="reset")


@configclass
class TerminationsCfg:
    """Success, and the ends that every family shares."""

    success = TerminationTermCfg(func=task_done)

    time_out = TerminationTermCfg(func=mdp.time_out, time_out=True)
    object_fell = TerminationTermCfg(func=mdp.object_fell)


@configclass
class NoRewardsCfg:
    """Plans need none; ``learning`` has those that policies learn from."""


@configclass
class TwinEnvCfg(ManagerBasedRLEnvCfg):
    """20 Hz control over 120 Hz physics on any twin: as it comes for plans, through ``learning.for_learning`` for policies.

    Attributes:
        twin: Folder of the twin; empty for the bundled sample (``env.twin=DIR`` on Isaac Lab's command line).
        robot: Short name of the robot.
        instruction: What to do; empty for the family's default on this twin.
        steps: The same as JSON, a list of the fields of ``Step``, where a planner has read the instruction already.
        family: Family of the task.
        control: What actions are: "joint" (arm joint positions) or "tool" (moves of the tool); then the gripper.
        resolution: Width and height of the camera's images [px].
        renderer: Renderer preset of the camera.
        with_camera: Whether the photo's camera is in the scene; reading it renders.
        base: Where the robot stands as measured, "x y z yaw" or a JSON file, see ``load_base``; empty to have a place found.
        base_from_seed: Seed of the search for the base.
        grasp_variety: As in ``Workcell``.
        query: As in ``Workcell``.
        randomize: Ranges of what attempts vary: a preset, a JSON file, or a dictionary, see ``load_randomization``.
        randomize_pool: So many attempts are drawn once and used again and again; 0 draws every attempt when it comes.
    """

    twin: str = ""
    robot: str = "panda"
    instruction: str = ""
    steps: str = ""
    family: str = "lift"
    control: str = "joint"
    resolution: tuple[int, int] = (224, 224)
    renderer: Any = RendererPresetCfg()
    with_camera: bool = False
    base: str = ""
    base_from_seed: int = 0
    grasp_variety: float = 1.0
    query: str = "words"
    randomize: Any = "default"
    randomize_pool: int = 0

    scene: InteractiveSceneCfg = InteractiveSceneCfg(num_envs=16, env_spacing=6.0)
    observations: Any = ObservationsCfg()
    events: Any = EventsCfg()
    terminations: Any = TerminationsCfg()
    actions: Any = None
    rewards: Any = NoRewardsCfg()

    def __post_init__(self) -> None:
        """Fixed rates; the engine is a preset."""
        self.decimation = PHYSICS_HZ // CONTROL_HZ
        self.episode_length_s = 15.0
        self.seed = 0
        self.sim.dt = 1 / PHYSICS_HZ
        self.sim.render_interval = self.decimation
        self.sim.device = "cpu"
        self.sim.physics = PhysicsPresetCfg()
        self.sim.physics_material = sim_utils.RigidBodyMaterialCfg(static_friction=0.8, dynamic_friction=0.8)


class TwinEnv(ManagerBasedRLEnv):
    """An Isaac Lab environment over a photo twin.

    Attributes:
        twin: The scene.
        robot: The robot.
        task: What to do.
        cell: What motion is planned in: the robot at its place, and grasps of what the task moves.
        T_world_base: Pose of the robot's base, (4, 4) [m].
        start_rad: Arm joint positions at the start of an episode, (J,): at home, or for learning before the first object.
        progress: Index of the step that each environment is at, (N,) int64; the number of steps where all are done.
        memory: Where things were when steps began, and what happened since.
        just_done: Where a step came to its end in the last step of the environment, (N,) bool.
        crop: The part of the photo that frames show, and its camera at ``cfg.resolution``.
        attempt: Attempt that each environment's next reset is for, (N,) int64.
        run_seed: Seed of the run.
        randomization: Ranges of what attempts vary.
        room: What decides where objects may stand.
        draws: What attempts have drawn, by attempt; filled by ``attempt_draw``.
        start_pool: What attempts start from, where they are drawn from a pool.
        as_built: What physics was told of before events changed it, by name.
    """

    def __init__(self, cfg: TwinEnvCfg, render_mode: str | None = None, **kwargs: Any) -> None:
        """Fill the scene in from the twin, then build it.

        Raises:
            TwinError: The twin cannot be read, the instruction does not fit it, or the robot reaches nothing.
        """
        drop_pinned_without_cuda()
        resolve_presets(cfg)
        take_device_at_hand(cfg)
        self.twin = load_scene(twin_folder(cfg.twin))
        self.robot = get_robot(cfg.robot)
        self.task = planned_task(cfg) if cfg.steps else family_task(self.twin, cfg.family, cfg.instruction, self.robot)
        arm = load_arm(self.robot)
        base = load_base(cfg.base, self.twin.camera) if cfg.base else None
        cell = make_workcell(
            self.twin, self.task, self.robot, arm, cfg.base_from_seed, control_hz(cfg), base, cfg.query
        )
        self.cell = replace(cell, grasp_variety=cfg.grasp_variety)
        self.T_world_base = self.cell.T_world_base
        self.crop = crop_camera(self.twin.camera, cfg.resolution, focus_points(self.twin))
        self.run_seed = int(cfg.seed or 0)
        self.randomization = load_randomization(cfg.randomize)
        self.room = Room(self.twin, self.crop.camera, self.T_world_base, self.robot)
        self.draws: dict[int, Draw] = {}
        self.start_pool: Starts | None = None
        self.as_built: dict[str, torch.Tensor] = {}
        self.attempt = torch.arange(cfg.scene.num_envs, device=cfg.sim.device)
        self.progress = torch.zeros_like(self.attempt)
        self.just_done = torch.zeros_like(self.attempt, dtype=torch.bool)
        self.memory = make_memory(len(self.task.steps), cfg.scene.num_envs, len(self.twin.objects), cfg.sim.device)
        cfg.actions = cfg.actions or CONTROLS[cfg.control](cfg.robot)
        cfg.episode_length_s = cfg.episode_length_s or sum(EPISODE_S[step.skill] for step in self.task.steps)
        size_contacts(cfg.sim.physics, self.twin)
        cfg.scene = make_scene_cfg(self.twin, self.robot, self.T_world_base, cfg.scene.num_envs)
        self.start_rad = ready_posture(self.cell, self.task.steps[0]) if cfg.control == "tool" else arm.home
        start = dict(zip(self.robot.arm_joints, self.start_rad.tolist(), strict=True))
        cfg.scene.robot.init_state.joint_pos = cfg.scene.robot.init_state.joint_pos | start
        if cfg.with_camera:
            cfg.scene.camera = make_camera_cfg(self.crop.camera, cfg.renderer)
        with late_timers():
            super().__init__(cfg, render_mode, **kwargs)

    @property
    def base_pose_w(self) -> np.ndarray:
        """Where the robot stands: place [m] and quaternion x, y, z, w, (7,) float32."""
        T = self.T_world_base
        return np.append(T[:3, 3], quat_xyzw_from_matrix(T[:3, :3])).astype(np.float32)

    @cached_property
    def guide(self) -> Guide:
        """Where the tool should come to in each step: for learning, so made when it is first asked for."""
        return make_guide(self)


def take_device_at_hand(cfg: TwinEnvCfg) -> None:
    """Isaac Lab's command line asks for a CUDA device unless it is told another: without one, physics runs on the CPU, and says so."""
    if str(cfg.sim.device).startswith("cuda") and not torch.cuda.is_available():
        warnings.warn(f"There is no CUDA device: physics runs on the CPU instead of '{cfg.sim.device}'.", stacklevel=2)
        cfg.sim.device = "cpu"


def control_hz(cfg: TwinEnvCfg) -> int:
    """The rate at which an environment is told what to do [Hz]."""
    return round(1.0 / (cfg.sim.dt * cfg.decimation))


def planned_task(cfg: TwinEnvCfg) -> Task:
    """The task whose steps the config brings."""
    return Task(tuple(Step(**step) for step in json.loads(cfg.steps)), cfg.instruction)


def family_task(twin: Scene, family: str, instruction: str, robot: Robot) -> Task:
    """The task of an instruction; where it is empty, one of the family that makes sense on the twin.

    Raises:
        InstructionError: It does not fit the twin, or is of another family; or nothing of the family makes sense.
    """
    things = tuple(item for item in twin.objects if not is_distractor(item))
    task = parse_instruction(instruction or default_instruction(things), things, twin.camera.T_world_camera)
    if not instruction and family == "lift":
        return parse_instruction(f"pick up the {twin.object(task.keys[0]).name}", things)
    if task.family == family:
        return task
    if instruction:
        raise InstructionError(
            f"'{task.text}' is a {task.family} task and this environment does {family}: use the other one."
        )
    tasks = [proposal.task for proposal in propose_tasks(replace(twin, objects=things), robot, PROPOSALS)]
    made = [task for task in tasks if task.family == family]
    if not made:
        raise InstructionError(
            f"Nothing on this twin makes sense for the family '{family}'; for others, say: {'; '.join(t.text for t in tasks[:4])}."
        )
    return made[0]


def twin_folder(name: str) -> Path:
    """The folder of a twin by path; the bundled sample's (made on first use) when the name is empty.

    Raises:
        InputError: There is no twin there.
    """
    if name:
        return Path(name).resolve()
    from phototwin.pipeline import sample_twin

    return sample_twin()
