"""Maps -> Shapes -> Scene: fit, scale, name, texture and weigh every object, and save the twin."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from phototwin.build.background import background_depth, background_mesh, object_depth, support_polygon
from phototwin.build.inpaint import remove_objects
from phototwin.build.layout import Layout, solve_layout
from phototwin.build.loads import bear_loads
from phototwin.build.names import Look, color_of, make_key, name_objects
from phototwin.build.physics import Physics, estimate_physics, load_materials, match_overrides
from phototwin.build.scale import find_scale, lengths_of, parse_anchor
from phototwin.build.shapes import mesh_volume
from phototwin.build.texture import bake_texture
from phototwin.build.uncertainty import fit_doubts, object_sigmas
from phototwin.errors import PerceptionError
from phototwin.frames import transform
from phototwin.images import save_depth, save_ids, save_rgb
from phototwin.scene import Camera, ConvexPiece, GivenMesh, Maps, Mesh, Scene, SceneObject, Support, save_scene

if TYPE_CHECKING:
    from phototwin.build.fit import FitConfig, FittedShape


AWAY_DOUBT, AWAY_DOUBT_WITH_DEPTH = 3.0, 1.5
"""How much less a photo tells of a place along the view than across it: a foot that is hidden, a back that is not seen."""


@dataclass(frozen=True, eq=False)
class Shapes:
    """What stands where, before scale and layout.

    Attributes:
        maps: What perception saw, with only the objects that have a shape.
        fits: Their shapes, in the order of the masks.
        notes: What was left out, and why.
    """

    maps: Maps
    fits: tuple[FittedShape, ...]
    notes: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class BuildConfig:
    """How to build.

    Attributes:
        anchors: Known lengths, each like "green cube=0.04" or "camera height=0.45" [m].
        materials: JSON file with materials of the user's own, or None.
    """

    anchors: tuple[str, ...] = ()
    materials: Path | None = None


@dataclass(frozen=True, eq=False)
class Background:
    """What is behind the objects.

    Attributes:
        rgb: The photo without its objects and their shadows, (H, W, 3) uint8.
        owners: i + 1 where pixels are not the photo's because of object i, its body or its shadow; else 0, (H, W) uint8.
        note: How they were filled.
    """

    rgb: np.ndarray
    owners: np.ndarray
    note: str


def clear_background(maps: Maps) -> Background:
    """The photo with the objects and their shadows filled in from their surroundings."""
    rgb, owners = remove_objects(maps.rgb, maps.masks, maps.support_mask, maps.K_px, maps.T_world_camera)
    return Background(
        rgb, owners, "What was behind the objects and their shadows is filled in from their surroundings."
    )


def fit_shapes(maps: Maps, config: FitConfig) -> Shapes:
    """A shape for every object that one can be fitted to; what is left out is said in the notes.

    Raises:
        PerceptionError: There is no object, or one that the user pointed at cannot be fitted.
    """
    from phototwin.build.fit import fit_object

    fits, kept, left = [], [], []
    for i, mask in enumerate(maps.masks):
        try:
            others = np.where(maps.masks.any(0) & ~mask, maps.masks.argmax(0) + 1, 0).astype(np.int32)
            fits.append(fit_object(mask, maps.K_px, maps.T_world_camera, maps.depth_m, maps.rgb, config, others))
            kept.append(i)
        except PerceptionError as error:
            if maps.names[i] is not None:
                raise PerceptionError(f"The {maps.names[i]} cannot be reconstructed: {error}") from error
            left.append(str(error))
    if not fits:
        why = f" {left[0]}" if left else ""
        raise PerceptionError(f"No object could be reconstructed.{why} Point at one with --objects.")
    notes = {"left out": f"{len(left)} thing(s) stay part of the background: {' '.join(left)}"} if left else {}
    maps = replace(maps, masks=maps.masks[kept], names=tuple(maps.names[i] for i in kept))
    return Shapes(maps, tuple(fits), notes)


def name_shapes(shapes: Shapes) -> tuple[str, ...]:
    """Unique names of the objects, before their scale is known."""
    return _name_all(shapes.maps, shapes.fits)[0]


def register_meshes(shapes: Shapes, given: dict[int, GivenMesh]) -> Shapes:
    """The shapes with some replaced by given meshes, brought to where the photo shows the objects.

    Args:
        shapes: Fitted shapes.
        given: Index of the object -> its mesh.

    Raises:
        PerceptionError: A mesh cannot be brought to its object.
    """
    from phototwin.build.register import register_mesh

    maps, fits = shapes.maps, list(shapes.fits)
    for index, mesh in given.items():
        fits[index] = register_mesh(mesh, maps.masks[index], maps.K_px, maps.T_world_camera, maps.depth_m, maps.rgb)
    return replace(shapes, fits=tuple(fits))


def build_scene(name: str, shapes: Shapes, background: Background, folder: Path, config: BuildConfig) -> Scene:
    """The metric twin of fitted shapes, saved into ``folder``; ``scene.json`` is written last.

    Args:
        name: Short name of the scene.
        shapes: What stands where.
        background: What is behind the objects.
        folder: Where the files go.
        config: Anchors and materials.

    Raises:
        InputError: An anchor or a material is malformed or names nothing in the photo.
    """
    maps, fits = shapes.maps, list(shapes.fits)
    anchors = tuple(parse_anchor(text) for text in config.anchors)
    doubts = fit_doubts(maps, fits)
    scale = find_scale(anchors, lengths_of(maps, fits, name_shapes(shapes), doubts))
    maps, fits = _scale_maps(maps, scale.factor), [_scale_fit(fit, scale.factor) for fit in fits]
    maps = replace(maps, sigma=replace(maps.sigma, scale=scale.sigma))
    size_sigma_m, position_sigma_m = object_sigmas(fits, doubts, maps.T_world_camera[:3, 3], scale)
    names, colors = _name_all(maps, fits)
    fits, grown = bear_loads(maps, fits, names)
    layout = _lay_out(maps, fits, names)
    notes = maps.notes | shapes.notes | {"background": background.note}
    notes |= {f"object {name}": _fit_sentence(fit) for name, fit in zip(names, fits, strict=True)}
    if grown or layout.notes:
        notes["layout"] = " ".join([*grown, *layout.notes])
    if scale.sentence:
        notes["scale"] = f"{maps.notes.get('scale', '')} {scale.sentence}".strip()
    materials = load_materials(config.materials)
    overrides = match_overrides(materials, names)
    folder.mkdir(parents=True, exist_ok=True)
    objects = []
    for i, (fit, T) in enumerate(zip(fits, layout.T_world_object, strict=True)):
        volume = mesh_volume(fit.points, fit.faces)
        physics = estimate_physics(names[i], fit.hollow, volume, materials, overrides.get(i))
        item = _make_object(maps, i, fit, T, names[i], colors[i], physics, folder)
        objects.append(replace(item, size_sigma_m=size_sigma_m[i], position_sigma_m=position_sigma_m[i]))
    scene = replace(_make_scene(name, maps, fits, tuple(objects), background, folder), notes=notes)
    if materials.support_friction is not None:
        scene = replace(scene, support=replace(scene.support, friction=materials.support_friction))
    save_scene(scene, folder)
    return scene


def _name_all(maps: Maps, fits: Sequence[FittedShape]) -> tuple[tuple[str, ...], list[np.ndarray]]:
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


def _lay_out(maps: Maps, fits: Sequence[FittedShape], names: tuple[str, ...]) -> Layout:
    """The fitted objects where they can stand, seen from the camera as little moved as possible."""
    poses = [fit.T_world_object for fit in fits]
    away = np.array([T[:2, 3] for T in poses]).reshape(-1, 2) - maps.T_world_camera[:2, 3]
    away /= np.maximum(np.linalg.norm(away, axis=1, keepdims=True), 1e-9)
    doubt = AWAY_DOUBT if maps.depth_m is None else AWAY_DOUBT_WITH_DEPTH
    return solve_layout(poses, [fit.pieces for fit in fits], names, away, doubt)


def _fit_sentence(fit: FittedShape) -> str:
    size = " x ".join(f"{1000 * v:.0f}" for v in fit.size_m)
    rmse = "" if fit.depth_rmse_m is None else f", {1000 * fit.depth_rmse_m:.1f} mm from the depth"
    kind = f"{'hollow ' if fit.hollow else ''}{fit.shape}"
    return f"{kind} of {size} mm, outline overlap {100 * fit.iou:.0f} %{rmse}. {fit.notes}".strip()


def _make_object(
    maps: Maps,
    index: int,
    fit: FittedShape,
    T_world_object: np.ndarray,
    name: str,
    color: np.ndarray,
    physics: Physics,
    folder: Path,
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
        mass_kg=physics.mass_kg,
        friction=physics.friction,
        restitution=physics.restitution,
        material=physics.material,
    )


def _make_scene(
    name: str,
    maps: Maps,
    fits: Sequence[FittedShape],
    objects: tuple[SceneObject, ...],
    background: Background,
    folder: Path,
) -> Scene:
    """The scene with its images written, without notes."""
    shape = maps.rgb.shape[:2]
    parts = [(transform(f.T_world_object, np.asarray(f.points, np.float64)), f.faces) for f in fits]
    standing = [transform(o.T_world_object, np.asarray(o.mesh.points, np.float64))[:, :2] for o in objects]
    polygon = support_polygon(maps.support_mask, maps.K_px, maps.T_world_camera, standing)
    objects_mask = np.asarray(maps.masks.any(0))
    behind = background_depth(maps.K_px, maps.T_world_camera, polygon, shape, maps.depth_m, objects_mask)
    shown = object_depth(parts, maps.T_world_camera, maps.K_px, shape)
    model = np.where((shown > 0) & objects_mask, shown, behind)
    scene = Scene(
        name=name,
        camera=Camera(maps.K_px, shape[1], shape[0], maps.T_world_camera),
        objects=objects,
        support=Support(polygon),
        background=background_mesh(behind, maps.K_px, maps.T_world_camera, Scene.background_rgb),
        camera_sigma=maps.sigma,
        folder=folder,
    )
    save_rgb(folder / scene.photo, maps.rgb)
    # Where the sensor saw nothing the model says what is there.
    save_depth(folder / scene.depth, model if maps.depth_m is None else np.where(maps.depth_m > 0, maps.depth_m, model))
    ids = np.where(objects_mask, maps.masks.argmax(0) + 1, 0)
    save_ids(folder / scene.masks, ids)
    save_rgb(folder / scene.background_rgb, background.rgb)
    save_ids(folder / scene.owners, background.owners)
    save_depth(folder / scene.background_depth, behind)
    return scene
