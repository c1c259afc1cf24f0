"""Maps -> Scene: fit, scale, name, texture and weigh every object, clear the background, and save the twin."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from phototwin.build.background import background_depth, background_mesh, object_depth, support_polygon
from phototwin.build.inpaint import remove_objects
from phototwin.build.names import Look, color_of, make_key, name_objects
from phototwin.build.physics import estimate_physics
from phototwin.build.scale import find_scale, parse_anchor
from phototwin.build.settle import settle_objects
from phototwin.build.shapes import mesh_volume
from phototwin.build.texture import bake_texture
from phototwin.errors import PerceptionError
from phototwin.frames import transform
from phototwin.images import save_depth, save_ids, save_rgb
from phototwin.scene import Camera, ConvexPiece, Maps, Mesh, Photo, Scene, SceneObject, Support, save_scene

if TYPE_CHECKING:
    from phototwin.build.fit import FitConfig, FittedShape


def _fit_config() -> FitConfig:
    from phototwin.build.fit import FitConfig

    return FitConfig()


@dataclass(frozen=True)
class BuildConfig:
    """How to build.

    Attributes:
        fit: How shapes compete.
        anchors: Known lengths, each like "green cube=0.04" or "camera height=0.45" [m].
        seed: Unused by today's steps, none of which draws anything; part of the twin's provenance.
    """

    fit: FitConfig = field(default_factory=_fit_config)
    anchors: tuple[str, ...] = ()
    seed: int = 0


def build_scene(photo: Photo, maps: Maps, folder: Path, config: BuildConfig) -> Scene:
    """The metric twin of what perception saw, saved into ``folder``; ``scene.json`` is written last.

    Raises:
        InputError: An anchor is malformed or names nothing in the photo.
        PerceptionError: There is no object, or one that the user pointed at cannot be fitted.
    """
    anchors = tuple(parse_anchor(text) for text in config.anchors)
    maps, fits, notes = _fit_all(maps, config)
    factor, scale_note = find_scale(
        anchors,
        _name_all(maps, fits)[0],
        np.array([float(max(fit.size_m)) for fit in fits]),
        float(maps.T_world_camera[2, 3]),
        maps.metric,
        maps.depth_m is not None,
    )
    maps, fits = _scale_maps(maps, factor), [_scale_fit(fit, factor) for fit in fits]
    names, colors = _name_all(maps, fits)
    poses, moves = settle_objects([f.T_world_object for f in fits], [f.pieces for f in fits], names)
    notes |= {f"object {name}": _fit_sentence(fit) for name, fit in zip(names, fits, strict=True)}
    if moves:
        notes["layout"] = " ".join(moves)
    folder.mkdir(parents=True, exist_ok=True)
    objects = tuple(
        _make_object(maps, i, fit, T, names[i], colors[i], folder)
        for i, (fit, T) in enumerate(zip(fits, poses, strict=True))
    )
    scene = _make_scene(photo.name, maps, fits, objects, folder)
    if scale_note:
        notes["scale"] = f"{maps.notes.get('scale', '')} {scale_note}".strip()
    scene = replace(scene, notes=maps.notes | notes)
    save_scene(scene, folder)
    return scene


def _fit_all(maps: Maps, config: BuildConfig) -> tuple[Maps, list[FittedShape], dict[str, str]]:
    """The maps of the objects that a shape could be fitted to, their shapes, and a note on what was left out."""
    from phototwin.build.fit import fit_object

    fits, kept, left = [], [], []
    for i, mask in enumerate(maps.masks):
        try:
            fits.append(fit_object(mask, maps.K_px, maps.T_world_camera, maps.depth_m, maps.rgb, config.fit))
            kept.append(i)
        except PerceptionError as error:
            if maps.names[i] is not None:
                raise PerceptionError(f"The {maps.names[i]} cannot be reconstructed: {error}") from error
            left.append(str(error))
    if not fits:
        why = f" {left[0]}" if left else ""
        raise PerceptionError(f"No object could be reconstructed.{why} Point at one with --objects.")
    notes = {"left out": f"{len(left)} thing(s) stay part of the background: {' '.join(left)}"} if left else {}
    return replace(maps, masks=maps.masks[kept], names=tuple(maps.names[i] for i in kept)), fits, notes


def _name_all(maps: Maps, fits: list[FittedShape]) -> tuple[tuple[str, ...], list[np.ndarray]]:
    """Unique names and typical colours."""
    seen = [color_of(maps.rgb, mask) for mask in maps.masks]
    right, ahead = maps.T_world_camera[:2, 0], maps.T_world_camera[:2, 2]
    if np.linalg.norm(ahead) < 0.05:  # looking straight down, away is up in the picture
        ahead = -maps.T_world_camera[:2, 1]
    looks = []
    for (word, _), fit in zip(seen, fits, strict=True):
        place = fit.T_world_object[:2, 3]
        fill = abs(mesh_volume(fit.points, fit.faces)) / max(float(np.prod(fit.size_m)), 1e-12)
        looks.append(Look(word, fit.shape, fit.hollow, fit.size_m, fill, np.array([place @ right, place @ ahead])))
    return name_objects(looks, maps.names), [color for _, color in seen]


def _scale_maps(maps: Maps, factor: float) -> Maps:
    """All lengths times a factor, about the world's origin."""
    if factor == 1.0:
        return maps
    T = maps.T_world_camera.copy()
    T[:3, 3] *= factor
    depth = None if maps.depth_m is None else (maps.depth_m * factor).astype(np.float32)
    return replace(maps, T_world_camera=T, depth_m=depth, metric=True)


def _scale_fit(fit: FittedShape, factor: float) -> FittedShape:
    if factor == 1.0:
        return fit
    T = fit.T_world_object.copy()
    T[:3, 3] *= factor
    return replace(
        fit,
        T_world_object=T,
        points=(fit.points * factor).astype(np.float32),
        pieces=tuple(ConvexPiece((p.points * factor).astype(np.float32), p.faces) for p in fit.pieces),
        size_m=fit.size_m * factor,
        depth_rmse_m=None if fit.depth_rmse_m is None else fit.depth_rmse_m * factor,
    )


def _fit_sentence(fit: FittedShape) -> str:
    size = " x ".join(f"{1000 * v:.0f}" for v in fit.size_m)
    rmse = "" if fit.depth_rmse_m is None else f", {1000 * fit.depth_rmse_m:.1f} mm from the depth"
    kind = f"{'hollow ' if fit.hollow else ''}{fit.shape}"
    return f"{kind} of {size} mm, outline overlap {100 * fit.iou:.0f} %{rmse}. {fit.notes}".strip()


def _make_object(
    maps: Maps, index: int, fit: FittedShape, T_world_object: np.ndarray, name: str, color: np.ndarray, folder: Path
) -> SceneObject:
    """One object with its texture, written to ``textures/<key>.png``."""
    key = make_key(name)
    # The texture is read from the photo where the fit put the object, before it was moved out of its neighbours.
    st, texture = bake_texture(
        fit.points,
        fit.faces,
        fit.T_world_object,
        maps.T_world_camera,
        maps.K_px,
        maps.rgb,
        maps.masks[index],
        fit.shape,
    )
    file = f"textures/{key}.png"
    save_rgb(folder / file, texture)
    mass, friction, restitution = estimate_physics(name, fit.hollow, mesh_volume(fit.points, fit.faces))
    return SceneObject(
        name=name,
        key=key,
        shape=fit.shape,
        hollow=fit.hollow,
        T_world_object=T_world_object,
        size_m=np.asarray(fit.size_m, dtype=np.float64),
        color_rgb=np.asarray(color, dtype=np.float64),
        mesh=Mesh(np.asarray(fit.points, np.float32), np.asarray(fit.faces, np.int32), st, file),
        pieces=fit.pieces,
        mass_kg=mass,
        friction=friction,
        restitution=restitution,
    )


def _make_scene(
    name: str, maps: Maps, fits: list[FittedShape], objects: tuple[SceneObject, ...], folder: Path
) -> Scene:
    """The scene with its images written, without notes."""
    shape = maps.rgb.shape[:2]
    parts = [(transform(f.T_world_object, np.asarray(f.points, np.float64)), f.faces) for f in fits]
    standing = [transform(o.T_world_object, np.asarray(o.mesh.points, np.float64))[:, :2] for o in objects]
    polygon = support_polygon(maps.support_mask, maps.K_px, maps.T_world_camera, standing)
    objects_mask = np.asarray(maps.masks.any(0))
    cleared, _ = remove_objects(maps.rgb, maps.masks, maps.support_mask)
    behind = background_depth(maps.K_px, maps.T_world_camera, polygon, shape, maps.depth_m, objects_mask)
    shown = object_depth(parts, maps.T_world_camera, maps.K_px, shape)
    model = np.where((shown > 0) & objects_mask, shown, behind)
    scene = Scene(
        name=name,
        camera=Camera(maps.K_px, shape[1], shape[0], maps.T_world_camera),
        objects=objects,
        support=Support(polygon),
        background=background_mesh(behind, maps.K_px, maps.T_world_camera, Scene.background_rgb),
        folder=folder,
    )
    save_rgb(folder / scene.photo, maps.rgb)
    # Where the sensor saw nothing the model says what is there.
    save_depth(folder / scene.depth, model if maps.depth_m is None else np.where(maps.depth_m > 0, maps.depth_m, model))
    ids = np.where(objects_mask, maps.masks.argmax(0) + 1, 0)
    save_ids(folder / scene.masks, ids)
    save_rgb(folder / scene.background_rgb, cleared)
    save_depth(folder / scene.background_depth, behind)
    return scene
