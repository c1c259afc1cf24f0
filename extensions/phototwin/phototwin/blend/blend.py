"""Rendered buffers + photo -> photoreal frames: shade what moves, shadow what it darkens, composite, look like the camera."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np

from phototwin.blend.moving import MovingParts, draw_moving
from phototwin.blend.plate import Plate
from phototwin.blend.response import Response, apply_response
from phototwin.blend.seam import seam_score
from phototwin.blend.truth import frame_truth
from phototwin.buffers import Buffers
from phototwin.kernels.composite import composite
from phototwin.kernels.draw import Canvas, make_canvas
from phototwin.kernels.foreground import light_foreground
from phototwin.kernels.parallel import AT_ONCE, split_frames
from phototwin.kernels.plate_arrays import PlateArrays, make_plate_arrays
from phototwin.kernels.shade import SPECULAR, shade_frames
from phototwin.kernels.shadow import cast_shadows
from phototwin.light import Light, ambient_irradiance, source_irradiance

STILL_M, MOVED_M = 0.001, 0.004
"""A thing whose furthest point moved less than the first is still the photo's own; from the second on it is drawn; between, both are mixed."""
SAME_M = 0.0002
"""While nothing's furthest point moves by more than this, frames show the same but for the camera's noise: they are drawn once."""
AT_ONCE_PX = AT_ONCE * 640 * 480
"""So many pixels are made at once where frames are small: every run of frames costs some Python as well."""


@dataclass(frozen=True, eq=False)
class Blender:
    """All that the frames of one view have in common; made once by ``make_blender``.

    Attributes:
        plate: What stays of the photo.
        arrays: The same on the device, with what is known of its light.
        moving: What moves.
        light: What shines on it.
        response: The camera's signature, or None for clean frames.
        real: A real photo of the scene that seams are judged by, (H, W, 3) uint8.
        canvases: What each worker draws on, made on demand.
    """

    plate: Plate
    arrays: PlateArrays
    moving: MovingParts
    light: Light
    response: Response | None
    real: np.ndarray
    canvases: dict[int, Canvas] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Frames:
    """What was blended.

    Attributes:
        rgb: (N, H, W, 3) uint8 sRGB.
        mask: What was drawn, (N, H, W) uint8: 0 nothing or a thing that is the photo's own, else 1 + id % 255.
        seam: How much like a real photo the borders of what was drawn look, (N,) float32, 0 to 1, 1 where nothing was drawn; None where it was not judged.
        raw_rgba: What was rendered before, (N, H, W, 4) uint8, alpha 255 where anything was; None where it was not kept.
        raw_depth_mm: Depth of what is seen, (N, H, W) uint16, 0 = unknown; None where it was not kept.
        raw_labels: Owner of each pixel, (N, H, W) uint8, see ``frame_truth``; None where it was not kept.
    """

    rgb: np.ndarray
    mask: np.ndarray
    seam: np.ndarray | None = None
    raw_rgba: np.ndarray | None = None
    raw_depth_mm: np.ndarray | None = None
    raw_labels: np.ndarray | None = None

    def __getitem__(self, index: int) -> Frames:
        """Frame ``index`` alone, its arrays without their first axis."""
        return Frames(*(None if v is None else v[index] for v in self.arrays()))  # pyright: ignore[reportArgumentType]

    def arrays(self) -> list[np.ndarray | None]:
        """Its arrays, in order."""
        return [getattr(self, f.name) for f in fields(self)]


def make_blender(
    plate: Plate, moving: MovingParts, light: Light, response: Response | None = None, real: np.ndarray | None = None
) -> Blender:
    """A blender of one view.

    Args:
        plate: What stays of the photo.
        moving: What moves.
        light: The photo's light.
        response: The camera's signature, see ``measure_response``; None leaves what is drawn clean.
        real: A real photo of the scene, (H, W, 3) uint8; None for the plate's own.
    """
    count = len(moving.keys)
    at_rest = moving.at_rest()
    T_rest = np.repeat(moving.caster_poses(at_rest), max(count, 1), 0)
    each = moving.caster_weights(np.eye(count) if count else np.zeros((1, 0)), robot=0.0)
    blocked, occluded = cast_shadows(moving.casters, T_rest, each, plate.points_w, plate.normals_w, light)
    from_source = source_irradiance(light, plate.points_w, plate.normals_w)
    from_all = from_source + ambient_irradiance(light, plate.normals_w)
    facing = (plate.normals_w != 0).any(-1, keepdims=True)
    source_share = np.where(facing, from_source / np.maximum(from_all, 1e-6), 0.0)
    drawn = draw_moving(moving, at_rest, plate.camera)
    rest = _finish(drawn, moving, at_rest, plate, light)
    arrays = make_plate_arrays(
        plate.rgb,
        plate.photo,
        plate.owners,
        plate.depth_m,
        _numpy(rest)[0],
        _owner_of(_numpy(drawn.ids)[0], moving.object_ids),
        source_share,
        _numpy(blocked)[:count],
        _numpy(occluded)[:count],
        moving.draw_list.device,
    )
    return Blender(plate, arrays, moving, light, response, plate.photo if real is None else real)


def blend_frames(
    blender: Blender,
    T_world_owner: Mapping[str, np.ndarray],
    buffers: Buffers | None = None,
    seeds: np.ndarray | None = None,
    keep_raw: bool = False,
    judge: int = 0,
    workers: int | None = None,
) -> Frames:
    """Frames as if robot and objects had stood there when the photo was taken.

    Args:
        blender: The view.
        T_world_owner: Poses (N, 4, 4) of every robot body and object by name.
        buffers: What a renderer saw; None draws what moves with our own rasteriser.
        seeds: Of the camera's noise, one a frame; None leaves what is drawn without the camera's signature.
        keep_raw: Keep what was rendered beside what became of it, with depth and labels.
        judge: Score the seams of every so manieth frame, those between get the score before theirs; 0 scores none.
        workers: Threads that share the frames; None for one a core. The bytes do not depend on it.

    Raises:
        InputError: Shapes that do not belong together.
    """
    count = len(next(iter(T_world_owner.values())))
    firsts = _changes(blender.moving, T_world_owner) if buffers is None else np.arange(count)
    edges = np.append(firsts, count)

    def blend_some(worker: int, some: slice) -> Frames:
        begin, end = edges[some.start], edges[some.stop]
        given = None if seeds is None else seeds[begin:end]
        poses = {owner: T[firsts[some]] for owner, T in T_world_owner.items()}
        drawn = _draw(blender, poses, worker) if buffers is None else _part(buffers, some)
        judged = [i for i in range(end - begin) if judge and (begin + i) % judge == 0]
        repeats = np.diff(edges[some.start : some.stop + 1])
        return _blend(blender, poses, drawn, repeats, given, keep_raw, judged if judge else None, buffers is None)

    view = blender.plate.camera
    at_once = max(AT_ONCE, AT_ONCE_PX // (view.width * view.height))
    parts = split_frames(blend_some, len(firsts), workers, blender.moving.casters.device, at_once)
    frames = parts[0] if len(parts) == 1 else _join(parts)
    if frames.seam is None:
        return frames
    return replace(frames, seam=frames.seam[np.arange(count) // judge * judge])


def _changes(moving: MovingParts, T_world_owner: Mapping[str, np.ndarray]) -> np.ndarray:
    """First frame of each run of frames in which no caster's bounding sphere has a point that moved by more than ``SAME_M`` since its first, (K,)."""
    T, bound = moving.caster_poses(dict(T_world_owner)), moving.casters.bound_p
    center = np.einsum("npij,pj->npi", T[..., :3, :3], bound[:, :3]) + T[..., :3, 3]
    firsts = [0]
    for i in range(1, len(T)):
        shift = np.linalg.norm(center[i] - center[firsts[-1]], axis=-1)
        turn = np.linalg.norm(T[i, :, :3, :3] - T[firsts[-1], :, :3, :3], axis=(-2, -1)) / np.sqrt(2)
        if (shift + turn * bound[:, 3]).max() > SAME_M:
            firsts.append(i)
    return np.array(firsts)


def _draw(blender: Blender, poses: dict[str, np.ndarray], worker: int) -> Buffers:
    """What our rasteriser sees, on memory that each worker uses again."""
    view, parts = blender.plate.camera, blender.moving.draw_list
    count = len(next(iter(poses.values())))
    canvas = blender.canvases.get(worker)
    if canvas is None or canvas.ids.shape[0] < count:
        canvas = blender.canvases[worker] = make_canvas(parts, count, view.width, view.height)
    return draw_moving(blender.moving, poses, view, canvas)


def _blend(
    blender: Blender,
    poses: dict[str, np.ndarray],
    drawn: Buffers,
    repeats: np.ndarray,
    seeds: np.ndarray | None,
    keep_raw: bool,
    judged: list[int] | None,
    comparable: bool,
) -> Frames:
    """The frames of one worker, each as often as ``repeats`` says."""
    moving, plate, light = blender.moving, blender.plate, blender.light
    share = photo_share(blender, poses)
    T_casters, weight = moving.caster_poses(poses), moving.caster_weights(1.0 - share)
    blocked, occluded = cast_shadows(moving.casters, T_casters, weight, plate.points_w, plate.normals_w, light)
    color = drawn.color if drawn.lit else _finish(drawn, moving, poses, plate, light)
    rgb, mask = composite(
        color,
        drawn.depth_m,
        drawn.ids,
        blender.arrays,
        drawn.robot_ids,
        drawn.object_ids,
        share,
        blocked,
        occluded,
        drawn.factor,
        comparable,
    )
    mask = _without_still(mask, drawn.object_ids, share)
    rgb, mask = rgb.repeat(repeats, 0), mask.repeat(repeats, 0)
    if blender.response is not None and seeds is not None:
        rgb = apply_response(rgb, mask, blender.response, seeds)
    raw = seam = depth_mm = labels = None
    if keep_raw:
        depth_mm, labels = (truth.repeat(repeats, 0) for truth in frame_truth(drawn, plate.depth_m))
        seen = np.where(_numpy(drawn.ids) > 0, 255, 0).astype(np.uint8)
        raw = np.concatenate([_numpy(drawn.color)[..., :3], seen[..., None]], -1).repeat(repeats, 0)
    if judged is not None:
        seam = np.full(len(rgb), np.nan, np.float32)
        for i in judged:
            seam[i] = seam_score(rgb[i], mask[i] > 0, blender.real).score
    return Frames(rgb, mask, seam, raw, depth_mm, labels)


def _part(buffers: Buffers, some: slice) -> Buffers:
    normals = None if buffers.normals_w is None else buffers.normals_w[some]
    return replace(
        buffers, color=buffers.color[some], depth_m=buffers.depth_m[some], ids=buffers.ids[some], normals_w=normals
    )


def _join(parts: list[Frames]) -> Frames:
    each = zip(*(part.arrays() for part in parts), strict=True)
    joined = [None if values[0] is None else np.concatenate(values) for values in each]
    return Frames(*joined)  # pyright: ignore[reportArgumentType]


def photo_share(blender: Blender, T_world_owner: Mapping[str, np.ndarray]) -> np.ndarray:
    """How much each object still is where the photo shows it, (N, O): 1 there, 0 elsewhere."""
    moving = blender.moving
    if not moving.keys or not blender.plate.still:
        return np.zeros((len(next(iter(T_world_owner.values()))), len(moving.keys)))
    T = np.stack([T_world_owner[key] for key in moving.keys], 1)
    shift = np.linalg.norm(T[..., :3, 3] - moving.rest[:, :3, 3], axis=-1)
    turn = np.linalg.norm(T[..., :3, :3] - moving.rest[:, :3, :3], axis=(-2, -1)) / np.sqrt(2)
    moved = shift + turn * moving.reach_m
    t = np.clip((moved - STILL_M) / (MOVED_M - STILL_M), 0.0, 1.0)
    return 1.0 - t * t * (3.0 - 2.0 * t)


def _finish(
    drawn: Buffers, moving: MovingParts, T_world_owner: dict[str, np.ndarray], plate: Plate, light: Light
) -> Any:
    """Shaded colours (N, H, W, 3) uint8 of base colours."""
    view, T_casters = plate.camera, moving.caster_poses(T_world_owner)
    visibility = light_foreground(
        moving.casters, T_casters, drawn.depth_m, drawn.normals_w, drawn.ids, view.T_world_camera, view.K_px, light
    )
    specular = np.zeros(max([0, *drawn.robot_ids, *drawn.object_ids]) + 1)
    specular[list(drawn.robot_ids)] = SPECULAR  # an object's highlights are in its texture
    return shade_frames(
        drawn.color,
        drawn.depth_m,
        drawn.normals_w,
        drawn.ids,
        visibility,
        light,
        view.T_world_camera,
        view.K_px,
        specular=specular.tolist(),
        device=moving.casters.device,
    )


def _owner_of(ids: np.ndarray, object_ids: tuple[int, ...]) -> np.ndarray:
    """Where ids (H, W) show object i, i + 1, else 0, (H, W) uint8."""
    owner = np.zeros(ids.shape, np.uint8)
    for i, index in enumerate(object_ids):
        owner[ids == index] = i + 1
    return owner


def _without_still(mask: np.ndarray, object_ids: tuple[int, ...], share: np.ndarray) -> np.ndarray:
    """The mask (N, H, W) without things that are more the photo's own than drawn: they have its noise and its edges already."""
    if not (share > 0.5).any():
        return mask
    kept = np.ones((len(mask), 256), np.uint8)
    for i, index in enumerate(object_ids):
        kept[share[:, i] > 0.5, 1 + index % 255] = 0
    return mask * np.take_along_axis(kept, mask.reshape(len(mask), -1).astype(np.intp), 1).reshape(mask.shape)


def _numpy(array: Any) -> np.ndarray:
    return array if isinstance(array, np.ndarray) else array.numpy()
