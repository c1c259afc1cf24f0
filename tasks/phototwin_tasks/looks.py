"""What an environment looks like: its frames, blended into the photo, from the photo's camera or from ones beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from phototwin.blend.backdrop import Backdrop, Margin, make_backdrop, view_backdrop
from phototwin.blend.blend import Blender, Frames, blend_frames, make_blender
from phototwin.blend.moving import make_moving_parts, paint_codes, trace_moving
from phototwin.blend.paste import paste_frames
from phototwin.blend.plate import make_plate, scene_plate
from phototwin.blend.response import measure_response
from phototwin.blend.restyle import Style, change_light, paint_robot, restyle_plate
from phototwin.buffers import Buffers
from phototwin.errors import InputError
from phototwin.frames import make_T, matrix_from_quat_xyzw
from phototwin.images import load_depth, load_rgb
from phototwin.plan.randomize_draw import BackgroundDraw, CameraDraw, Draw, SurfaceDraw
from phototwin.scene import Camera, Support
from phototwin.stage.robots import robot_usd
from phototwin.stage.visuals import read_visuals
from phototwin_tasks.generate.config import OWN_RENDERER, PASTED, PLAIN, POSED, TRACER
from phototwin_tasks.mdp.observations import object_pose
from phototwin_tasks.randomization import attempt_draw
from phototwin_tasks.twin_env import TwinEnv

TRACED_PATHS = 36
"""Paths a pixel of the path-traced renderer."""
SEAM_EVERY = 5
"""Every so manieth frame of an attempt has its seams scored: that takes a fifth of the time of a frame, and they change slowly."""
NOISE_STREAM = 1
"""The camera's noise is drawn from seed, attempt and frame with this in between."""


@dataclass(frozen=True, eq=False)
class Looks:
    """What makes the frames of an environment; made once by ``make_looks``.

    Attributes:
        still: The blender of the photo's own camera.
        backdrop: The background for moved cameras, None where none moves.
        renderer: Who draws what moves: one of ``POSED``, or any other name for the environment's own camera.
        keep_raw: Keep what was rendered beside what became of it.
        threads: Threads that share the frames; None for one a core.
    """

    still: Blender
    backdrop: Backdrop | None
    renderer: str
    keep_raw: bool = False
    threads: int | None = None

    @property
    def live(self) -> bool:
        """Whether frames are what the environment's own camera sees now; otherwise poses are enough, at any time."""
        return self.renderer not in POSED


def make_looks(env: TwinEnv, renderer: str, keep_raw: bool = False, threads: int | None = None) -> Looks:
    """The looks of an environment over a twin, ready for all that ``env.randomization`` lets attempts draw.

    Args:
        env: The environment.
        renderer: Who draws, as in ``Looks``.
        keep_raw: Keep what was rendered.
        threads: Threads that share the frames.

    Raises:
        InputError: The environment's own camera would have to be moved, or the robot that it sees painted.
    """
    scene, camera, ranges = env.twin, env.crop.camera, env.randomization
    moves = max(ranges.camera_shift_m, ranges.camera_turn_deg, ranges.camera_zoom) > 0
    if renderer not in POSED and (moves or ranges.robot_factor > 1 or ranges.robot_tint > 0):
        raise InputError(
            f"The renderer {renderer} can neither move the camera of each attempt nor paint its robot: use {OWN_RENDERER}, "
            "or set camera_shift_m, camera_turn_deg, camera_zoom and robot_tint to 0 and robot_factor to 1."
        )
    shrink = float(env.crop.box_px[2] - env.crop.box_px[0]) / camera.width
    moving = make_moving_parts(scene, read_visuals(robot_usd(env.robot)), shrink=shrink)
    plate = scene_plate(scene, camera, env.crop.box_px)
    still = make_blender(plate, moving, scene.light, measure_response(plate.photo))
    backdrop = None
    if moves:
        background = load_rgb(scene.path(scene.background_rgb))
        depth = load_depth(scene.path(scene.background_depth))
        margin = Margin(ranges.camera_shift_m, np.radians(ranges.camera_turn_deg), ranges.camera_zoom)
        guessed = scene.camera_sigma.depth_m == 0
        backdrop = make_backdrop(background, depth, scene.camera, scene.support.polygon_w, margin, guessed, shrink)
    return Looks(still, backdrop, renderer, keep_raw, threads)


def attempt_blenders(env: TwinEnv, looks: Looks, attempts: Sequence[int]) -> list[Blender]:
    """One blender an attempt; it is the photo's own where camera, light and looks are the photo's."""
    pictures = Path(env.randomization.pictures)
    return [_blender_of(looks, env.twin.support, attempt_draw(env, i), pictures) for i in attempts]


def moved_camera(camera: Camera, draw: CameraDraw) -> Camera:
    """The camera shifted and turned in its own frame, and zoomed about its principal point."""
    if draw == CameraDraw():
        return camera
    from scipy.spatial.transform import Rotation

    T_camera_moved = make_T(Rotation.from_rotvec(draw.turn_rad).as_matrix(), np.array(draw.shift_m))
    K_px = np.diag([draw.zoom, draw.zoom, 1.0]) @ camera.K_px
    K_px[:2, 2] = camera.K_px[:2, 2]
    return replace(camera, K_px=K_px, T_world_camera=camera.T_world_camera @ T_camera_moved)


def _blender_of(looks: Looks, support: Support, draw: Draw, pictures: Path) -> Blender:
    """The view of one attempt. Where anything of it is not the photo's, things that have not moved are drawn as well."""
    still, plate, moving, light = looks.still, looks.still.plate, looks.still.moving, looks.still.light
    if draw.looks_like_photo:
        return still
    camera = moved_camera(plate.camera, draw.camera)
    if camera is not plate.camera and looks.backdrop is not None:
        view = view_backdrop(looks.backdrop, camera)
        plate = make_plate(camera, view.rgb, view.depth_m, still=False)
    if draw.light.changes:
        light = change_light(light, np.array(draw.light.turn_rad), np.array(draw.light.all_rgb), draw.light.source)
    if draw.table != SurfaceDraw() or draw.background != BackgroundDraw() or draw.light.changes:
        plate = restyle_plate(plate, support, _style(draw, pictures), still.light, light)
    if draw.robot != SurfaceDraw():
        moving = paint_robot(moving, np.array(draw.robot.gain_rgb))
    return make_blender(plate, moving, light, still.response, still.real)


def _style(draw: Draw, pictures: Path) -> Style:
    table, behind = draw.table, draw.background
    return Style(
        table.gain_rgb,
        table.pattern,
        table.pattern_seed,
        behind.gain_rgb,
        behind.blur,
        load_rgb(pictures / behind.picture) if behind.picture else None,
        draw.light.on_photo,
    )


def look(
    env: TwinEnv, looks: Looks, blenders: list[Blender], step: int, before: np.ndarray | None, which: Sequence[int]
) -> np.ndarray:
    """What a policy sees, (N, H, W, 3) uint8: frames of the environments ``which``; the others keep what they had ``before``, and cost nothing."""
    if before is None or looks.live:  # a camera of the environments sees all of them
        return np.stack([frame.rgb for frame in render(env, looks, blenders, step)])
    seen = before.copy()
    for i, frame in zip(which, render(env, looks, blenders, step, which), strict=True):
        seen[i] = frame.rgb
    return seen


def render(
    env: TwinEnv, looks: Looks, blenders: list[Blender], step: int, which: Sequence[int] | None = None
) -> list[Frames]:
    """One frame of each of some environments as they stand.

    Args:
        env: The environment.
        looks: Its looks.
        blenders: One an environment, see ``attempt_blenders``.
        step: Which frame of the attempts this is; it seeds the camera's noise.
        which: Indices of the environments, at least one; None for all, as it must be where ``looks`` is ``live``.
    """
    which = list(range(env.num_envs) if which is None else which)
    poses = {name: T[which] for name, T in owner_poses(env).items()}
    attempts = env.attempt.cpu().numpy()[which]
    seeds = np.array([noise_seed(env.run_seed, int(a), step) for a in attempts])
    if all(b is looks.still for b in blenders):
        frames = _blend(env, looks, looks.still, poses, seeds)
        return [frames[i] for i in range(len(attempts))]
    return [
        _blend(env, looks, blenders[index], {name: T[i : i + 1] for name, T in poses.items()}, seeds[i : i + 1])[0]
        for i, index in enumerate(which)
    ]


def render_attempt(
    env: TwinEnv, looks: Looks, blender: Blender, attempt: int, poses: dict[str, np.ndarray], first: int = 0
) -> Frames:
    """The frames of one attempt from its poses alone, the bytes that ``render`` gives step by step; ``looks`` is not ``live``.

    Args:
        env: The environment.
        looks: Its looks.
        blender: Of the attempt.
        attempt: Its index.
        poses: Poses (T, 4, 4) of robot and objects by name, see ``owner_poses``.
        first: Which frame of the attempt the first is.
    """
    count = len(next(iter(poses.values())))
    seeds = np.array([noise_seed(env.run_seed, attempt, first + t) for t in range(count)])
    return _blend(env, looks, blender, poses, seeds)


def _blend(env: TwinEnv, looks: Looks, blender: Blender, poses: dict[str, np.ndarray], seeds: np.ndarray) -> Frames:
    if looks.renderer in (PASTED, PLAIN):
        return paste_frames(blender, poses, looks.renderer == PLAIN, looks.keep_raw)
    buffers = _buffers(env, looks, blender, poses, seeds)
    return blend_frames(blender, poses, buffers, seeds, looks.keep_raw, judge=SEAM_EVERY, workers=looks.threads)


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
