"""Before and after: a photo, the robot pasted into it as simulators' renders usually are, and the robot as the photo's camera would have seen it."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np

from phototwin.blend.blend import blend_frames, make_blender
from phototwin.blend.crop import crop_camera
from phototwin.blend.moving import MovingParts, draw_moving, make_moving_parts
from phototwin.blend.plate import Plate, scene_plate
from phototwin.blend.response import measure_response
from phototwin.errors import InputError, PlanError
from phototwin.frames import invert, make_T, rotation_z, transform
from phototwin.kernels.shade import shade_frames
from phototwin.light import plain_light
from phototwin.pipeline import Source, photo_to_twin
from phototwin.plan.base import place_base
from phototwin.plan.ik import Arm, load_arm, solve_postures
from phototwin.plan.instruction import parse_instruction
from phototwin.robots import PANDA
from phototwin.scene import Scene, SceneObject, load_scene
from phototwin.stage.robots import robot_usd
from phototwin.stage.visuals import read_visuals

CAPTURES: dict[str, tuple[str, ...]] = {
    "six_sugar": (),
    "six_green_bowl": (),
    "simpler_bridge_cubes": ("camera height=0.336",),
    "simpler_counter_three_objects": ("can=0.122",),
}
"""The captures that are shown, and what lengths are known in them."""
PANEL = (640, 480)
GAP_PX = 8
BESIDE_M, HEIGHT_M = 0.07, 0.09
"""The tool stops this far beside the object that it reaches for, and this high over the table."""
YAWS = 8
MOST_BYTES = 300_000
QUALITIES = (92, 88, 84, 80, 74, 66)


def capture_twin(data: Path, name: str, work: Path) -> Path:
    """Folder of the twin of a capture, reconstructed where it is not there yet.

    Args:
        data: Folder of the captures.
        name: Which one, a key of ``CAPTURES``.
        work: Where twins are kept.

    Raises:
        InputError: The capture is not there.
    """
    folder = data / name
    if not (folder / "rgb.png").is_file():
        raise InputError(f"There is no capture '{folder}': name the folder of the captures with --data.")
    twin = work / name
    if not (twin / "scene.json").is_file():
        depth = folder / "depth.png"
        source = Source(
            folder / "rgb.png", depth if depth.is_file() else None, folder / "scene.json", anchor=CAPTURES[name]
        )
        photo_to_twin(source, twin)
    return twin


def before_after(twin: Path) -> np.ndarray:
    """Photo, hard paste and blended frame of a twin beside each other, (H, 3 W + gaps, 3) uint8; the robot reaches for one of the objects.

    Raises:
        PlanError: The robot cannot reach over any object.
    """
    scene = load_scene(twin)
    crop = crop_camera(scene.camera, PANEL, np.zeros((0, 2)))
    plate = scene_plate(scene, crop.camera, crop.box_px)
    shrink = float(crop.box_px[2] - crop.box_px[0]) / PANEL[0]
    moving = make_moving_parts(scene, read_visuals(robot_usd(PANDA)), shrink=shrink)
    poses = _reaching(scene, moving)
    blender = make_blender(plate, moving, scene.light, measure_response(plate.photo))
    ours = blend_frames(blender, poses, seeds=np.array([0])).rgb[0]
    gap = np.full((PANEL[1], GAP_PX, 3), 255, np.uint8)
    return np.concatenate([plate.photo, gap, _hard_paste(plate, moving, poses), gap, ours], 1)


def save_picture(file: Path, rgb: np.ndarray) -> None:
    """Write (H, W, 3) uint8 as a JPEG of at most ``MOST_BYTES``."""
    from PIL import Image

    file.parent.mkdir(parents=True, exist_ok=True)
    packed = io.BytesIO()
    for quality in QUALITIES:
        packed = io.BytesIO()
        Image.fromarray(rgb).save(packed, "JPEG", quality=quality, optimize=True)
        if packed.tell() <= MOST_BYTES:
            break
    file.write_bytes(packed.getvalue())


def _hard_paste(plate: Plate, moving: MovingParts, poses: dict[str, np.ndarray]) -> np.ndarray:
    """The robot rendered under a renderer's own light and pasted where it is in front, pixel by pixel, without a shadow."""
    drawn = draw_moving(moving, poses, plate.camera)
    view = plate.camera
    lit = shade_frames(
        drawn.color, drawn.depth_m, drawn.normals_w, drawn.ids, None, plain_light(), view.T_world_camera, view.K_px
    )
    color, ids, depth = lit.numpy()[0], drawn.ids.numpy()[0], drawn.depth_m.numpy()[0]
    robot = np.isin(ids, drawn.robot_ids) & ((plate.depth_m <= 0) | (depth < plate.depth_m))
    return np.where(robot[..., None], color, plate.photo)


def _reaching(scene: Scene, moving: MovingParts) -> dict[str, np.ndarray]:
    """Poses (1, 4, 4) of everything: objects as in the photo, the robot's tool beside one of them."""
    import pinocchio  # pyright: ignore[reportMissingImports]

    arm = load_arm(PANDA)
    T_world_base, q = _stand(scene, arm)
    pinocchio.framesForwardKinematics(arm.model, arm.data, q)
    bodies = {owner for owner in moving.owners if owner not in moving.keys}
    poses = {name: T_world_base @ arm.data.oMf[arm.model.getFrameId(name)].homogeneous for name in bodies}
    poses |= {item.key: item.T_world_object for item in scene.objects}
    return {name: T[None] for name, T in poses.items()}


def _stand(scene: Scene, arm: Arm) -> tuple[np.ndarray, np.ndarray]:
    """Pose of the base and joint positions that bring the tool beside the first object that can be grasped."""
    for item in scene.objects:
        try:
            task = parse_instruction(f"lift the {item.name}", scene.objects)
            T_world_base = place_base(scene, task, PANDA, arm, 0)
        except PlanError:
            continue
        target = _place_beside(scene, item)
        for turn in np.arange(YAWS) * 2 * np.pi / YAWS:
            T_world_tool = make_T(rotation_z(float(turn)) @ np.diag([1.0, -1.0, -1.0]), target)
            postures = solve_postures(arm, invert(T_world_base) @ T_world_tool, arm.home)
            if postures:
                return T_world_base, postures[0]
    raise PlanError("The robot cannot reach over any object of the photo: choose another one.")


def _place_beside(scene: Scene, item: SceneObject) -> np.ndarray:
    """A point (3,) over the table beside an object, on the side where the picture has more room."""
    camera = scene.camera
    place_c = transform(invert(camera.T_world_camera), item.T_world_object[:3, 3])
    right_w = camera.T_world_camera[:2, 0] / np.linalg.norm(camera.T_world_camera[:2, 0])
    side = -1.0 if place_c[0] > 0 else 1.0
    away = side * (np.linalg.norm(item.size_m[:2]) / 2 + BESIDE_M)
    return np.array([*(item.T_world_object[:2, 3] + away * right_w), HEIGHT_M])
