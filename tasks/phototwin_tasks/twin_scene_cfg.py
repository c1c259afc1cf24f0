"""Twin -> InteractiveSceneCfg: every part of the scene is spawned from the USD files of the twin."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import isaaclab.sim as sim_utils
from isaaclab.actuators import ImplicitActuatorCfg
from isaaclab.assets import ArticulationCfg, AssetBaseCfg, RigidObjectCfg
from isaaclab.scene import InteractiveSceneCfg
from isaaclab.sensors import CameraCfg
from isaaclab.sim.spawners.sensors.sensors_cfg import OpenCvPinholeDistortionCfg
from isaaclab_newton.sim.schemas import MujocoCollisionCfg, MujocoRigidBodyCfg, NewtonArticulationCfg
from isaaclab_physx.sim.schemas import PhysxArticulationCfg, PhysxRigidBodyCfg

from phototwin.frames import quat_xyzw_from_matrix
from phototwin.robots import match_joint, rest_positions

if TYPE_CHECKING:
    import numpy as np
    from isaaclab.renderers.renderer_cfg import RendererCfg

    from phototwin.robots import Robot
    from phototwin.scene import Camera, Scene, SceneObject

ENV_SPACING_M = 6.0
CAMERA_CLIP_M = (0.01, 20.0)
BASE_BUFFERS = ("albedo", "depth", "normals", "semantic_segmentation")
"""What is asked of a renderer without light of its own."""
LIT_BUFFERS = ("rgb", "depth", "semantic_segmentation")
"""What is asked of a path tracer: finished colour; only shadow on the photo and grading are added."""
# Friction holds the objects: condim 4 adds torsional friction at the pads; the time constant of solref keeps contacts stiff.
MUJOCO_CONTACT = MujocoCollisionCfg(condim=4, solref=(0.008, 1.0))


def make_scene_cfg(scene: Scene, robot: Robot, T_world_base: np.ndarray, num_envs: int) -> InteractiveSceneCfg:
    """The scene of one environment, ``num_envs`` times: robot, support and objects; the frame of an environment is the twin's world.

    Args:
        scene: A twin whose folder holds the authored USD files.
        robot: The robot.
        T_world_base: Pose of the robot's base, (4, 4) [m].
        num_envs: Number of environments.
    """
    cfg = InteractiveSceneCfg(num_envs=num_envs, env_spacing=ENV_SPACING_M, replicate_physics=True)
    cfg.robot = make_robot_cfg(robot, T_world_base)
    cfg.support = AssetBaseCfg(
        prim_path="{ENV_REGEX_NS}/support",
        spawn=sim_utils.UsdFileCfg(
            usd_path=str(scene.folder / "meshes/support.usdc"), semantic_tags=[("class", "support")]
        ),
    )
    for item in scene.objects:
        setattr(cfg, item.key, make_object_cfg(item, scene.folder))
    cfg.light = AssetBaseCfg(prim_path="/World/light", spawn=sim_utils.DomeLightCfg(intensity=1500.0))
    return cfg


def make_object_cfg(item: SceneObject, folder: Path) -> RigidObjectCfg:
    """A movable object, standing where the photo shows it."""
    return RigidObjectCfg(
        prim_path=f"{{ENV_REGEX_NS}}/{item.key}",
        spawn=sim_utils.UsdFileCfg(
            usd_path=str(folder / f"meshes/{item.key}.usdc"),
            semantic_tags=[("class", item.key)],
            collision_props=[sim_utils.UsdPhysicsCollisionCfg(), MUJOCO_CONTACT],
        ),
        init_state=RigidObjectCfg.InitialStateCfg(**_pose(item.T_world_object)),
    )


def make_robot_cfg(robot: Robot, T_world_base: np.ndarray) -> ArticulationCfg:
    """The robot with its base fixed at ``T_world_base``, arm at home, fingers open."""
    from phototwin.stage.robots import robot_usd

    return ArticulationCfg(
        prim_path="{ENV_REGEX_NS}/robot",
        spawn=sim_utils.UsdFileCfg(
            usd_path=str(robot_usd(robot)),
            semantic_tags=[("class", "robot")],
            rigid_props=[
                sim_utils.UsdPhysicsRigidBodyCfg(),
                PhysxRigidBodyCfg(disable_gravity=True, max_depenetration_velocity=5.0),
                MujocoRigidBodyCfg(gravcomp=1.0),
            ],
            collision_props=[sim_utils.UsdPhysicsCollisionCfg(), MUJOCO_CONTACT],
            articulation_props=[
                PhysxArticulationCfg(
                    enabled_self_collisions=False, solver_position_iteration_count=12, solver_velocity_iteration_count=1
                ),
                NewtonArticulationCfg(self_collision_enabled=False),
            ],
        ),
        init_state=ArticulationCfg.InitialStateCfg(**_pose(T_world_base), joint_pos=rest_positions(robot)),
        actuators={
            "arm": _actuator(robot, robot.arm_joints),
            "fingers": _actuator(robot, robot.finger_joints),
        },
    )


def _actuator(robot: Robot, joints: tuple[str, ...]) -> ImplicitActuatorCfg:
    return ImplicitActuatorCfg(
        joint_names_expr=list(joints),
        joint_effort_limit=_matching(robot.effort, joints),
        stiffness=_matching(robot.stiffness, joints),
        damping=_matching(robot.damping, joints),
        armature=_matching(robot.armature, joints),
    )


def make_camera_cfg(camera: Camera, renderer: RendererCfg) -> CameraCfg:
    """The photo's camera with exact intrinsics; reading its data renders what the renderer preset gives."""
    K = camera.K_px
    return CameraCfg(
        prim_path="{ENV_REGEX_NS}/camera",
        width=camera.width,
        height=camera.height,
        # A period of 0 renders whenever the data is read; a large one silently freezes the image (Isaac Lab 3.0.0).
        update_period=0.0,
        data_types=list(BASE_BUFFERS if renderer.renderer_type == "newton_warp" else LIT_BUFFERS),
        colorize_semantic_segmentation=False,
        spawn=sim_utils.PinholeCameraCfg(
            clipping_range=CAMERA_CLIP_M,
            # from_intrinsic_matrix averages fx and fy; the OpenCV model keeps all four numbers.
            distortion=OpenCvPinholeDistortionCfg(
                image_size=(camera.width, camera.height), fx=K[0, 0], fy=K[1, 1], cx=K[0, 2], cy=K[1, 2]
            ),
        ),
        offset=CameraCfg.OffsetCfg(**_pose(camera.T_world_camera), convention="ros"),
        renderer_cfg=renderer,
    )


def _pose(T: np.ndarray) -> dict[str, Any]:
    quat = quat_xyzw_from_matrix(T[:3, :3])
    return {"pos": tuple(float(x) for x in T[:3, 3]), "rot": tuple(float(x) for x in quat)}


def _matching(values: dict[str, float], joints: tuple[str, ...]) -> dict[str, float]:
    """The value of each joint by name: Isaac Lab refuses a joint that two patterns match."""
    found = {joint: match_joint(values, joint) for joint in joints}
    return {joint: value for joint, value in found.items() if value is not None}
