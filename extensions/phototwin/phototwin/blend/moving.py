"""What moves in a twin, robot links and objects: how it is drawn, what shadow it throws, how it takes the light."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from phototwin.blend.delight import delight_texture
from phototwin.buffers import Buffers
from phototwin.images import load_rgb
from phototwin.kernels.casters import Casters, make_casters
from phototwin.kernels.draw import Canvas, DrawList, Part, draw_parts, make_draw_list
from phototwin.kernels.srgb import linear_to_srgb, srgb_to_linear
from phototwin.light import Light
from phototwin.scene import Camera, Mesh, Scene, SceneObject
from phototwin.stage.shapes import corner_normals
from phototwin.stage.visuals import BodyVisual

WHITEST = 0.9
"""Reflectance of white paint. Colours in robot descriptions are for display and go up to 1, which nothing reflects."""


@dataclass(frozen=True, eq=False)
class MovingParts:
    """What moves, ready to be drawn and lit.

    Attributes:
        parts: Its meshes.
        draw_list: The same on the device.
        owners: For each part of the draw list, the robot's body or the object's key that carries it.
        casters: Its coarser meshes, which throw shadows.
        caster_owners: For each of them, who carries it: first the robot's bodies, then every object in order.
        keys: The objects.
        rest: Where the objects stand in the photo, (O, 4, 4).
        reach_m: Distance of each object's furthest point from its origin, (O,) [m].
        robot_ids: Ids of the robot's meshes in the id buffer: one each, so that borders between links are soft too.
        object_ids: Id of every object.
        factor: What each object's colours are multiplied with: 8 bits hold no base colour brighter than white, (O,).
        photo_factor: The same for a renderer that shows the twin's own textures, which hold the photo's light: its mean is taken out, (O,).
    """

    parts: tuple[Part, ...]
    draw_list: DrawList
    owners: tuple[str, ...]
    casters: Casters
    caster_owners: tuple[str, ...]
    keys: tuple[str, ...]
    rest: np.ndarray
    reach_m: np.ndarray
    robot_ids: tuple[int, ...]
    object_ids: tuple[int, ...]
    factor: np.ndarray
    photo_factor: np.ndarray

    def part_poses(self, T_world_owner: dict[str, np.ndarray]) -> np.ndarray:
        """Poses (N, P, 4, 4) of the meshes."""
        return np.stack([T_world_owner[owner] for owner in self.owners], 1)

    def caster_poses(self, T_world_owner: dict[str, np.ndarray]) -> np.ndarray:
        """Poses (N, P, 4, 4) of the casters."""
        return np.stack([T_world_owner[owner] for owner in self.caster_owners], 1)

    def caster_weights(self, share: np.ndarray, robot: float = 1.0) -> np.ndarray:
        """How much each caster counts, (N, P): the robot fully, objects by ``share`` (N, O)."""
        bodies = len(self.caster_owners) - len(self.keys)
        return np.concatenate([np.full((len(share), bodies), robot), share], 1)

    def at_rest(self) -> dict[str, np.ndarray]:
        """Poses (1, 4, 4) of everything as in the photo: objects where they stand, the robot away."""
        away = np.eye(4)
        away[2, 3] = -1e4
        poses = {owner: away[None] for owner in self.owners}
        return poses | {key: T[None] for key, T in zip(self.keys, self.rest, strict=True)}


def make_moving_parts(
    scene: Scene, robot: tuple[BodyVisual, ...], light: Light | None = None, shrink: float = 1.0, device: str = "cpu"
) -> MovingParts:
    """The robot's and the scene's movable meshes.

    Args:
        scene: The twin.
        robot: What the robot looks like.
        light: The light that is in the textures; None for the twin's.
        shrink: Photo pixels per frame pixel. Textures have the photo's resolution and are reduced as much, or they would shimmer.
        device: Warp device.
    """
    light = light or scene.light
    bodies = list(dict.fromkeys(v.body for v in robot))
    solids = [_join([v for v in robot if v.body == body]) for body in bodies]
    solids += [(item.mesh.points, item.mesh.faces) for item in scene.objects]
    casters = make_casters(
        solids,
        device,
        [_albedo([v for v in robot if v.body == b]) for b in bodies] + [_linear(o.color_rgb) for o in scene.objects],
    )
    keys = tuple(item.key for item in scene.objects)
    rest = np.stack([item.T_world_object for item in scene.objects]) if keys else np.zeros((0, 4, 4))
    away = np.eye(4)
    away[2, 3] = -1e4
    T_casters = np.concatenate([np.repeat(away[None], len(bodies), 0), rest])
    weight = np.concatenate([np.zeros(len(bodies)), np.ones(len(keys))])
    parts = [Part(v.points, v.faces, v.normals, _painted(v.color_rgb), None, None, 1 + i) for i, v in enumerate(robot)]
    factor, photo_factor = np.ones(len(keys), np.float32), np.ones(len(keys), np.float32)
    for i, item in enumerate(scene.objects):
        index = 1 + len(robot) + i
        texture = texture_of(scene, item)
        colors, factor[i], photo_factor[i] = delight_texture(
            item.mesh, texture, item.T_world_object, scene.camera, light, casters, T_casters, weight
        )
        points, faces, normals = _smooth(item.mesh)
        parts.append(Part(points, faces, normals, item.color_rgb, item.mesh.st, _reduce(colors, shrink), index))
    reach = np.array([np.linalg.norm(item.mesh.points, axis=1).max() for item in scene.objects])
    robot_ids = tuple(range(1, 1 + len(robot)))
    ids = tuple(1 + len(robot) + i for i in range(len(keys)))
    owners = (*(v.body for v in robot), *keys)
    return MovingParts(
        tuple(parts),
        make_draw_list(parts, device),
        owners,
        casters,
        (*bodies, *keys),
        keys,
        rest,
        reach,
        robot_ids,
        ids,
        factor,
        photo_factor,
    )


def draw_moving(
    moving: MovingParts, T_world_owner: dict[str, np.ndarray], view: Camera, canvas: Canvas | None = None
) -> Buffers:
    """Buffers of N frames, see ``draw_parts``.

    Args:
        moving: What to draw.
        T_world_owner: Poses (N, 4, 4) of every body and object by name.
        view: The camera.
        canvas: Memory to draw on, see ``make_canvas``.
    """
    T = moving.part_poses(T_world_owner)
    drawn: dict[str, Any] = draw_parts(
        moving.draw_list, T, view.T_world_camera, view.K_px, view.width, view.height, canvas
    )
    return Buffers(
        drawn["albedo"],
        drawn["depth"],
        drawn["ids"],
        drawn["normals"],
        moving.robot_ids,
        moving.object_ids,
        factor=moving.factor,
    )


def _smooth(mesh: Mesh) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Points, triangles and unit normals per point: smooth but at creases, where points are there once a side."""
    corners = np.column_stack([mesh.faces.ravel(), corner_normals(mesh.points, mesh.faces).reshape(-1, 3).round(4)])
    kept, faces = np.unique(corners, axis=0, return_inverse=True)
    points = mesh.points[kept[:, 0].astype(int)]
    return points.astype(np.float32), faces.reshape(-1, 3).astype(np.int32), kept[:, 1:].astype(np.float32)


def texture_of(scene: Scene, item: SceneObject) -> np.ndarray:
    """The object's texture, or its plain colour as one."""
    if item.mesh.texture is not None:
        return load_rgb(scene.path(item.mesh.texture))
    return np.tile(np.round(255 * np.clip(item.color_rgb, 0, 1)).astype(np.uint8), (8, 8, 1))


def paint_codes() -> np.ndarray:
    """By 8-bit display code of a robot's colour, the code of its paint, (256,) uint8."""
    return np.round(255 * _painted(np.arange(256) / 255.0)).astype(np.uint8)


def _painted(color_rgb: np.ndarray) -> np.ndarray:
    """A robot's display colour as the sRGB of a paint."""
    return linear_to_srgb(WHITEST * srgb_to_linear(np.clip(np.asarray(color_rgb), 0, 1)))


def _linear(color_rgb: np.ndarray) -> float:
    """Mean reflectance of a colour."""
    return float(srgb_to_linear(np.clip(np.asarray(color_rgb), 0, 1)).mean())


def _albedo(visuals: Sequence[BodyVisual]) -> float:
    """Mean reflectance of a body's meshes, by how many triangles each has."""
    return float(np.average([_linear(_painted(v.color_rgb)) for v in visuals], weights=[len(v.faces) for v in visuals]))


def _join(visuals: Sequence[BodyVisual]) -> tuple[np.ndarray, np.ndarray]:
    """Points and triangles of meshes in one frame together."""
    first = np.cumsum([0, *(len(v.points) for v in visuals)])
    faces = [v.faces + k for v, k in zip(visuals, first, strict=False)]
    return np.concatenate([v.points for v in visuals]), np.concatenate(faces)


def _reduce(texture: np.ndarray, shrink: float) -> np.ndarray:
    import cv2

    if shrink < 1.5:
        return texture
    size = tuple(max(1, round(side / shrink)) for side in texture.shape[1::-1])
    return cv2.resize(texture, size, interpolation=cv2.INTER_AREA)


def trace_moving(
    moving: MovingParts,
    T_world_owner: dict[str, np.ndarray],
    view: Camera,
    scene: Scene | None,
    light: Light,
    samples: int,
    seeds: np.ndarray,
) -> Buffers:
    """The same path traced, see ``trace_reference``: finished colours in the photo's light, slow, for truth.

    Args:
        moving: What to draw.
        T_world_owner: Poses (N, 4, 4) of every body and object by name.
        view: The camera.
        scene: The twin whose support throws light back; None for nothing around.
        light: What shines.
        samples: Paths a pixel, at least.
        seeds: Draw the paths, (N,).

    Raises:
        InputError: Mitsuba is not installed.
    """
    from phototwin.blend.reference import trace_reference

    frames = [
        trace_reference(
            scene,
            moving.parts,
            T,
            light,
            view,
            samples,
            robot_ids=moving.robot_ids,
            object_ids=moving.object_ids,
            seed=int(seed),
        )
        for T, seed in zip(moving.part_poses(T_world_owner), seeds, strict=True)
    ]
    color, depth_m, ids = (
        np.concatenate([getattr(frame, name) for frame in frames]) for name in ("color", "depth_m", "ids")
    )
    return Buffers(color, depth_m, ids, None, moving.robot_ids, moving.object_ids, lit=True, factor=moving.factor)
