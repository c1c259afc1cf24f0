"""A twin with other or more objects: its photo, masks and depth are made to show them, so that it is a twin like any other."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from phototwin.blend.blend import blend_frames, make_blender
from phototwin.blend.delight import light_texture
from phototwin.blend.moving import MovingParts, draw_moving, make_moving_parts
from phototwin.blend.plate import complete_owners, scene_plate
from phototwin.blend.response import measure_response
from phototwin.images import load_depth, load_ids, load_rgb, save_depth, save_ids, save_rgb
from phototwin.kernels.casters import make_casters
from phototwin.kernels.srgb import srgb_to_linear
from phototwin.scene import Scene, SceneObject, save_scene
from phototwin.stage.author import author_stage

AWAY_M = -1e4
"""Height of things that the photo does not show, in what is compared with the photo."""
NO_LIGHT = 0.5
"""Plain reflectance of things while only their shadows count."""


def derive_twin(
    scene: Scene,
    objects: tuple[SceneObject, ...],
    textures: dict[str, np.ndarray],
    colors: dict[str, np.ndarray],
    folder: Path,
    seed: int,
) -> Scene:
    """A twin in ``folder`` whose scene holds ``objects``: those of ``scene`` in order, some of them changed, then new ones.

    What is unchanged stays the photo's picture; what is changed or new is drawn into it with light, shadow and noise.

    Args:
        scene: The twin to start from.
        objects: All objects; the first are those of ``scene`` by key.
        textures: Textures of changed objects as the photo would show them, key -> (h, w, 3) uint8.
        colors: Of new objects, linear reflectance without light, key -> (h, w, 3).
        folder: Where the twin is written.
        seed: Of the noise.
    """
    fresh = [item.key in textures or item.key in colors for item in objects]
    folder.mkdir(parents=True, exist_ok=True)
    _copy_textures(scene, objects, fresh, folder)
    shown = dict(textures) | _lit(scene, objects, colors)
    for key, texture in shown.items():
        save_rgb(folder / f"textures/{key}.png", texture)
    objects = tuple(
        replace(item, color_rgb=_typical(shown[item.key]), mesh=replace(item.mesh, texture=f"textures/{item.key}.png"))
        if new
        else item
        for item, new in zip(objects, fresh, strict=True)
    )
    derived = replace(scene, objects=objects, folder=folder)
    _paint_images(scene, derived, np.array(fresh), folder, seed)
    for name in (scene.background_rgb, scene.background_depth, scene.background.texture):
        if name and not (folder / name).exists():
            (folder / name).write_bytes(scene.path(name).read_bytes())
    save_scene(derived, folder)
    author_stage(derived, folder)
    return derived


def reflectance_of(scene: Scene, item: SceneObject) -> np.ndarray:
    """Reflectance (h, w, 3) linear of an object of a twin, the light of its photo taken out."""
    moving = make_moving_parts(scene, ())
    index = moving.keys.index(item.key)
    texture = next(part.texture for part in moving.parts if part.id == moving.object_ids[index])
    assert texture is not None
    return np.clip(srgb_to_linear(texture / 255.0) * moving.factor[index], 0.0, 1.0)


def _copy_textures(scene: Scene, objects: tuple[SceneObject, ...], fresh: list[bool], folder: Path) -> None:
    for item, new in zip(objects, fresh, strict=True):
        if not new and item.mesh.texture:
            (folder / item.mesh.texture).parent.mkdir(parents=True, exist_ok=True)
            (folder / item.mesh.texture).write_bytes(scene.path(item.mesh.texture).read_bytes())


def _lit(scene: Scene, objects: tuple[SceneObject, ...], colors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Textures that hold the photo's light, as those of all objects of a twin do."""
    if not colors:
        return {}
    solids = [(item.mesh.points, item.mesh.faces) for item in objects]
    casters = make_casters(solids, "cpu", [NO_LIGHT] * len(objects))
    T = np.stack([item.T_world_object for item in objects])
    weight = np.ones(len(objects))
    return {
        item.key: light_texture(
            item.mesh, colors[item.key], item.T_world_object, scene.camera, scene.light, casters, T, weight
        )
        for item in objects
        if item.key in colors
    }


def _typical(texture: np.ndarray) -> np.ndarray:
    """The median colour of a texture, (3,) sRGB in 0..1."""
    return np.median(texture.reshape(-1, 3), axis=0) / 255.0


def _paint_images(before: Scene, derived: Scene, fresh: np.ndarray, folder: Path, seed: int) -> None:
    """Photo, masks, depth and owners of the derived twin."""
    camera = before.camera
    whole = np.array([0.0, 0.0, camera.width, camera.height])
    plate = scene_plate(before, camera, whole)
    moving = _away(make_moving_parts(derived, ()), fresh)
    poses = {item.key: item.T_world_object[None] for item in derived.objects}
    blender = make_blender(plate, moving, derived.light, measure_response(plate.photo))
    frames = blend_frames(blender, poses, None, np.array([seed]))
    photo, drawn = frames.rgb[0], _drawn_object(frames.mask[0], moving, fresh)
    kept = np.concatenate([[True], ~fresh])  # by owner, 0 is nobody
    owners = load_ids(before.path(before.owners))
    masks = load_ids(before.path(before.masks))
    gone = ~kept[masks]
    depth = np.where(gone, load_depth(before.path(before.background_depth)), load_depth(before.path(before.depth)))
    seen = draw_moving(moving, poses, camera)
    background = load_rgb(before.path(before.background_rgb))
    masks = np.where(drawn > 0, drawn, np.where(gone, 0, masks)).astype(np.uint8)
    owners = np.where(drawn > 0, drawn, np.where(kept[owners], owners, 0)).astype(np.uint8)
    save_rgb(folder / derived.photo, photo)
    save_ids(folder / derived.masks, masks)
    save_depth(folder / derived.depth, np.where(drawn > 0, seen.depth_m.numpy()[0], depth))
    save_ids(folder / derived.owners, complete_owners(owners, (photo != background).any(-1)))


def _away(moving: MovingParts, fresh: np.ndarray) -> MovingParts:
    """The parts with the fresh ones as if the photo did not show them."""
    rest = moving.rest.copy()
    rest[fresh, 2, 3] = AWAY_M
    return replace(moving, rest=rest)


def _drawn_object(mask: np.ndarray, moving: MovingParts, fresh: np.ndarray) -> np.ndarray:
    """Which fresh object was drawn at each pixel, (H, W) uint8: i + 1, 0 for none."""
    drawn = np.zeros(mask.shape, np.uint8)
    for i in np.flatnonzero(fresh):
        drawn[mask == 1 + moving.object_ids[i] % 255] = i + 1
    return drawn
