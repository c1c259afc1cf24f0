"""What an environment looks like: its frames, blended into the photo, from the photo's camera or from ones beside it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from phototwin.blend.backdrop import Backdrop, Margin, make_backdrop, view_backdrop
from phototwin.blend.blend import Blender, Frames, blend_frames, make_blender
from phototwin.blend.moving import make_moving_parts, paint_codes, trace_moving
from phototwin.blend.plate import make_plate, scene_plate
from phototwin.blend.response import measure_response
from phototwin.buffers import Buffers
from phototwin.frames import make_T, matrix_from_quat_xyzw
from phototwin.images import load_depth, load_rgb
from phototwin.scene import Camera
from phototwin.stage.robots import robot_usd
from phototwin.stage.visuals import read_visuals
from phototwin_tasks.generate import OWN_RENDERER, TRACER
from phototwin_tasks.mdp.observations import object_pose
from phototwin_tasks.twin_env import TwinEnv

TRACED_PATHS = 36
"""Paths a pixel of the path-traced renderer."""
NOISE_STREAM, CAMERA_STREAM = 1, 2
"""What else than the attempt itself is drawn from its seed."""


@dataclass(frozen=True)
class CameraJitter:
    """How far the cameras of attempts are moved from the photo's; each number is the limit of an even draw.

    Attributes:
        shift_m: Along each axis [m].
        turn_deg: About each axis [deg].
        zoom: Of the focal length, as a share of it.
    """

    shift_m: float = 0.0
    turn_deg: float = 0.0
    zoom: float = 0.0

    def __bool__(self) -> bool:
        return max(self.shift_m, self.turn_deg, self.zoom) > 0


@dataclass(frozen=True, eq=False)
class Looks:
    """What makes the frames of an environment; made once by ``make_looks``.

    Attributes:
        still: The blender of the photo's own camera.
        jitter: How far cameras move.
        backdrop: The background for moved cameras, None where none moves.
        renderer: Who draws what moves: ``OWN_RENDERER``, ``TRACER``, or any other name for the environment's own camera.
        keep_raw: Keep what was rendered beside what became of it.
    """

    still: Blender
    jitter: CameraJitter
    backdrop: Backdrop | None
    renderer: str
    keep_raw: bool = False


def make_looks(env: TwinEnv, renderer: str, jitter: CameraJitter, keep_raw: bool = False) -> Looks:
    """The looks of an environment over a twin.

    Args:
        env: The environment.
        renderer: Who draws, as in ``Looks``.
        jitter: How far the cameras of attempts are moved.
        keep_raw: Keep what was rendered.
    """
    scene, camera = env.twin, env.crop.camera
    shrink = float(env.crop.box_px[2] - env.crop.box_px[0]) / camera.width
    moving = make_moving_parts(scene, read_visuals(robot_usd(env.robot)), shrink=shrink)
    plate = scene_plate(scene, camera, env.crop.box_px)
    still = make_blender(plate, moving, scene.light, measure_response(plate.photo))
    backdrop = None
    if jitter:
        background = load_rgb(scene.path(scene.background_rgb))
        depth = load_depth(scene.path(scene.background_depth))
        margin = Margin(jitter.shift_m, np.radians(jitter.turn_deg), jitter.zoom)
        guessed = scene.camera_sigma.depth_m == 0
        backdrop = make_backdrop(background, depth, scene.camera, scene.support.polygon_w, margin, guessed, shrink)
    return Looks(still, jitter, backdrop, renderer, keep_raw)


def jittered_camera(camera: Camera, jitter: CameraJitter, seed: int, attempt: int) -> Camera:
    """The camera of an attempt, drawn from its seed; attempt 0 has the photo's own."""
    if not jitter or attempt == 0:
        return camera
    from scipy.spatial.transform import Rotation

    rng = np.random.default_rng([seed, attempt, CAMERA_STREAM])
    shift, turn = rng.uniform(-jitter.shift_m, jitter.shift_m, 3), rng.uniform(-jitter.turn_deg, jitter.turn_deg, 3)
    T_camera_moved = make_T(Rotation.from_rotvec(turn, degrees=True).as_matrix(), shift)
    zoom = 1.0 + rng.uniform(-jitter.zoom, jitter.zoom)
    K_px = np.diag([zoom, zoom, 1.0]) @ camera.K_px
    K_px[:2, 2] = camera.K_px[:2, 2]
    return replace(camera, K_px=K_px, T_world_camera=camera.T_world_camera @ T_camera_moved)


def attempt_blenders(looks: Looks, seed: int, attempts: list[int]) -> list[Blender]:
    """One blender an attempt; all are the photo's own where no camera moves."""
    return [_blender_of(looks, jittered_camera(looks.still.plate.camera, looks.jitter, seed, i)) for i in attempts]


def _blender_of(looks: Looks, camera: Camera) -> Blender:
    still = looks.still
    if camera is still.plate.camera or looks.backdrop is None:
        return still
    view = view_backdrop(looks.backdrop, camera)
    plate = make_plate(camera, view.rgb, view.depth_m, still=False)
    return make_blender(plate, still.moving, still.light, still.response, still.real)


def render(env: TwinEnv, looks: Looks, blenders: list[Blender], step: int) -> list[Frames]:
    """One frame of every environment as it stands.

    Args:
        env: The environment.
        looks: Its looks.
        blenders: One an environment, see ``attempt_blenders``.
        step: Which frame of the attempts this is; it seeds the camera's noise.
    """
    poses = owner_poses(env)
    attempts = env.attempt.cpu().numpy()
    seeds = np.array([noise_seed(env.run_seed, int(a), step) for a in attempts])
    if all(b is looks.still for b in blenders):
        buffers = _buffers(env, looks, looks.still, poses, seeds)
        frames = blend_frames(looks.still, poses, buffers, seeds, looks.keep_raw, judge=True)
        return [frames[i] for i in range(len(attempts))]
    return [
        _blend_one(env, looks, b, {name: T[i : i + 1] for name, T in poses.items()}, seeds[i : i + 1])
        for i, b in enumerate(blenders)
    ]


def _blend_one(env: TwinEnv, looks: Looks, blender: Blender, poses: dict[str, np.ndarray], seeds: np.ndarray) -> Frames:
    return blend_frames(blender, poses, _buffers(env, looks, blender, poses, seeds), seeds, looks.keep_raw, True)[0]


def _buffers(
    env: TwinEnv, looks: Looks, blender: Blender, poses: dict[str, np.ndarray], seeds: np.ndarray
) -> Buffers | None:
    """What the renderer saw; None lets ``blend_frames`` draw."""
    if looks.renderer == OWN_RENDERER:
        return None
    if looks.renderer == TRACER:
        view = blender.plate.camera
        return trace_moving(blender.moving, poses, view, env.twin, blender.light, TRACED_PATHS, seeds)
    return camera_buffers(env, blender.moving.photo_factor)


def noise_seed(seed: int, attempt: int, step: int) -> int:
    """Seed of a frame's noise: a function of what the frame is, so that a frame made again is the same."""
    return int(np.random.SeedSequence([seed, attempt, NOISE_STREAM, step]).generate_state(1)[0])


def owner_poses(env: TwinEnv) -> dict[str, np.ndarray]:
    """Poses (N, 4, 4) of the robot's bodies and of the objects by name, in the frame of their environment."""
    robot = env.scene["robot"]
    position = robot.data.body_pos_w.torch - env.scene.env_origins[:, None]
    bodies = matrices(torch.cat([position, robot.data.body_quat_w.torch], -1))
    poses = {name: bodies[:, i] for i, name in enumerate(robot.body_names)}
    return poses | {item.key: matrices(object_pose(env, item.key)) for item in env.twin.objects}


def matrices(pose: torch.Tensor) -> np.ndarray:
    """Transforms (..., 4, 4) of poses (..., 7)."""
    value = pose.cpu().numpy().astype(np.float64)
    T = np.zeros((*value.shape[:-1], 4, 4))
    T[..., :3, :3], T[..., :3, 3], T[..., 3, 3] = matrix_from_quat_xyzw(value[..., 3:]), value[..., :3], 1.0
    return T


def camera_buffers(env: TwinEnv, photo_factor: np.ndarray) -> Buffers:
    """What the environment's own camera renders; ``photo_factor`` as in ``MovingParts``."""
    data = env.scene["camera"].data
    output: Any = data.output
    ids: dict[str, int] = {}
    for index, label in data.info["semantic_segmentation"]["idToLabels"].items():
        ids[label.get("class", "") if isinstance(label, dict) else str(label)] = int(index)
    lit = "albedo" not in output
    color = output["rgb" if lit else "albedo"].torch[..., :3].cpu().numpy()
    shown = output["semantic_segmentation"].torch[..., 0].cpu().numpy()
    if not lit and "robot" in ids:  # as our own rasteriser paints it
        color = np.where((shown == ids["robot"])[..., None], paint_codes()[color], color)
    return Buffers(
        color=color,
        depth_m=output["depth"].torch[..., 0],
        ids=shown,
        normals_w=None if lit else output["normals"].torch[..., :3],
        robot_ids=(ids["robot"],) if "robot" in ids else (),
        object_ids=tuple(ids.get(item.key, -1) for item in env.twin.objects),
        lit=lit,
        factor=None if lit else photo_factor,
    )
