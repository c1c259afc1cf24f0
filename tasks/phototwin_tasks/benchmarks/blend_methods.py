"""The blended pictures that are measured: by exact and reconstructed geometry, with estimated, true and no light."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from phototwin.errors import TwinError
from phototwin.frames import invert, transform
from phototwin.images import save_rgb
from phototwin.light import Light, plain_light
from phototwin.scene import Mesh, Scene, Support
from phototwin_tasks.benchmarks.blend_measure import Case
from phototwin_tasks.benchmarks.blend_scenes import body_poses, load_robot
from phototwin_tasks.benchmarks.truth_scenes import scene_parts

GEOMETRIES = ("exact", "reconstructed", "noise + JPEG")
"""What the blending knows: exact depth, normals and meshes; the twin made of photo, camera, depth and masks; or that of a camera's JPEG."""
LIGHTS = ("estimated", "true", "none")
BACKGROUND = ("table", "floor", "wall")


@dataclass(frozen=True, eq=False)
class Blend:
    """One blended picture.

    Attributes:
        photo: What it was blended into, (H, W, 3) uint8.
        rgb: The picture, (H, W, 3) uint8.
        drawn: Where the robot was drawn, (H, W) bool.
        shaded: Where it may hide any light, (H, W) bool, by its rays and not by the picture.
        light: The light that was used.
    """

    photo: np.ndarray
    rgb: np.ndarray
    drawn: np.ndarray
    shaded: np.ndarray
    light: Light


@dataclass(frozen=True, eq=False)
class Setting:
    """What one way to know a scene gives the blending.

    Attributes:
        photo: The photo, (H, W, 3) uint8.
        scene: The twin; without objects where its geometry is exact, as none moves.
        plate: What of the photo stays.
        estimated: The light estimated from the photo.
    """

    photo: np.ndarray
    scene: Scene
    plate: Any
    estimated: Light


def make_setting(case: Case, geometry: str, scratch: Path) -> Setting:
    """The setting of a scene.

    Args:
        case: The scene.
        geometry: One of ``GEOMETRIES``.
        scratch: Where twins go.

    Raises:
        TwinError: There is no twin of the photo.
    """
    if geometry == "exact":
        return _exact_setting(case)
    photo = case.photo if geometry == "reconstructed" else case.noisy
    return twin_setting(case, photo, scratch / f"{case.seed:04d}_{geometry.split()[0]}")


def _exact_setting(case: Case) -> Setting:
    from phototwin.blend.estimate import estimate_light
    from phototwin.blend.plate import make_plate

    surfaces = exact_surfaces(case.truth)
    light = estimate_light(case.photo, case.camera, surfaces, case.ids, np.array(case.truth["center_w"]))
    points, faces = surfaces[0]
    background = Mesh(points.astype(np.float32), faces.astype(np.int32), np.zeros((len(faces), 3, 2), np.float32))
    scene = Scene("exact", case.camera, (), Support(np.zeros((0, 2))), background, light=light)
    return Setting(case.photo, scene, make_plate(case.camera, case.photo, case.depth_m, case.normals_w), light)


def exact_surfaces(truth: dict[str, Any]) -> tuple[tuple[np.ndarray, np.ndarray], ...]:
    """World points (V, 3) and faces (F, 3) of everything that stays, then of each object in order."""
    parts = scene_parts(truth)
    groups = [BACKGROUND, *((item["key"],) for item in truth["objects"])]
    return tuple(_join([p for p in parts if p.key in keys]) for keys in groups)


def _join(parts: list[Any]) -> tuple[np.ndarray, np.ndarray]:
    first = np.cumsum([0, *(len(p.surface[0]) for p in parts)])
    points = np.concatenate([transform(p.T_world_part, p.surface[0]) for p in parts])
    return points, np.concatenate([p.surface[3] + at for p, at in zip(parts, first, strict=False)])


def twin_setting(case: Case, photo: np.ndarray, folder: Path) -> Setting:
    """The setting of a twin that the product makes of a photo with its camera, depth and masks; made when it is not in ``folder``."""
    from phototwin.blend.plate import scene_plate
    from phototwin.pipeline import Source, photo_to_twin
    from phototwin.scene import load_scene

    file = folder.with_suffix(".png")
    if not (folder / "scene.json").is_file():
        save_rgb(file, photo)
        camera, masks = case.folder / "camera_pose.json", case.folder / "masks.png"
        photo_to_twin(Source(file, depth=case.folder / "depth_exact.png", camera=camera, masks=masks), folder)
    scene = load_scene(folder)
    whole = np.array([0.0, 0.0, case.camera.width, case.camera.height])
    return Setting(photo, scene, scene_plate(scene, scene.camera, whole), scene.light)


def blend_case(case: Case, setting: Setting, light_kind: str) -> Blend:
    """The robot blended into the photo.

    Args:
        case: The scene.
        setting: What is known of it.
        light_kind: One of ``LIGHTS``; "none" shades the robot as where nothing is known, and throws no shadow.
    """
    import cv2

    from phototwin.blend.blend import blend_frames, make_blender
    from phototwin.blend.moving import make_moving_parts
    from phototwin.blend.response import measure_response

    light = {"estimated": setting.estimated, "true": case.light, "none": plain_light()}[light_kind]
    scene = replace(setting.scene, light=light)
    moving = make_moving_parts(scene, load_robot()[1], light)
    response = measure_response(setting.photo)
    blender = make_blender(setting.plate, moving, light, response)
    poses = {name: T[None] for name, T in body_poses(case.truth["robot"]).items()}
    poses |= {item.key: item.T_world_object[None] for item in setting.scene.objects}
    frames = blend_frames(blender, poses, seeds=np.array([case.seed]))
    # The mask says what pixel centres see; soft edges reach into the pixels around it.
    rgb, drawn = frames.rgb[0], cv2.dilate(np.minimum(frames.mask[0], 1), np.ones((3, 3), np.uint8)) > 0
    if light_kind == "none":
        return Blend(setting.photo, np.where(drawn[..., None], rgb, setting.photo), drawn, np.zeros_like(drawn), light)
    return Blend(setting.photo, rgb, drawn, _shaded(case, setting, moving, poses, light), light)


def _shaded(case: Case, setting: Setting, moving: Any, poses: dict[str, np.ndarray], light: Light) -> np.ndarray:
    """Pixels (H, W) around points where the robot hides more of source or sky than what is called nothing; on objects, any of it.

    Where a plate has no objects, theirs are the exact surfaces.
    """
    import cv2

    from phototwin.blend.plate import make_plate
    from phototwin.kernels.composite import FAINT

    found = _hidden_light(setting.plate, moving, poses, light) > FAINT
    if moving.keys:
        exact = make_plate(case.camera, case.photo, case.depth_m, case.normals_w)
        near = cv2.dilate((case.ids > 0).astype(np.uint8), np.ones((7, 7), np.uint8)) > 0
        found |= near & (_hidden_light(exact, moving, poses, light) > 0)
    return cv2.dilate(found.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0


def _hidden_light(plate: Any, moving: Any, poses: dict[str, np.ndarray], light: Light) -> np.ndarray:
    """Share (H, W) of source or of sky, whichever is more, that the robot hides from the points of a plate or adds to them."""
    import cv2

    from phototwin.kernels.shadow import cast_shadows

    weight = moving.caster_weights(np.zeros((1, len(moving.keys))))
    hidden = cast_shadows(moving.casters, moving.caster_poses(poses), weight, plate.points_w, plate.normals_w, light)
    most = np.abs(np.stack([np.asarray(share)[0] for share in hidden])).max(0)
    return cv2.resize(most, plate.rgb.shape[1::-1], interpolation=cv2.INTER_NEAREST)


def still_share(setting: Setting) -> float:
    """Share of the pixels that are the photo's bit by bit where nothing moves and no robot stands."""
    from phototwin.blend.blend import blend_frames, make_blender
    from phototwin.blend.moving import make_moving_parts

    moving = make_moving_parts(setting.scene, load_robot()[1], setting.estimated)
    frames = blend_frames(make_blender(setting.plate, moving, setting.estimated), moving.at_rest())
    return float((frames.rgb[0] == setting.photo).all(-1).mean())


def moved_object_picture(case: Case, setting: Setting) -> tuple[np.ndarray, np.ndarray]:
    """One object where it was moved to, blended by its twin; and pasted: its photo's texture on the cleared background.

    Raises:
        TwinError: The twin has no such object.
    """
    from phototwin.blend.blend import blend_frames, make_blender
    from phototwin.blend.moving import make_moving_parts
    from phototwin.view.render import render_twin

    moved, truth = case.truth["moved_object"], case.truth
    number = [item["key"] for item in truth["objects"]].index(moved["key"])
    scene = setting.scene
    if len(scene.objects) != len(truth["objects"]):
        raise TwinError("The twin has other objects than the scene.")
    T_old, T_new = np.array(truth["objects"][number]["T_world_object"]), np.array(moved["T_world_object"])
    item = scene.objects[number]
    placed = replace(item, T_world_object=T_new @ invert(T_old) @ item.T_world_object)
    moving = make_moving_parts(scene, (), setting.estimated)
    poses = {o.key: o.T_world_object[None] for o in scene.objects} | {placed.key: placed.T_world_object[None]}
    frames = blend_frames(make_blender(setting.plate, moving, setting.estimated), poses)
    objects = tuple(placed if o.key == placed.key else o for o in scene.objects)
    return frames.rgb[0], render_twin(replace(scene, objects=objects), scene.camera, True)
