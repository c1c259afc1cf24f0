"""Draw what moves in a twin, robot links and objects, with our own rasteriser: the buffers of a renderer, without one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from phototwin.images import load_rgb
from phototwin.kernels.draw import DrawList, Part, draw_parts, make_draw_list
from phototwin.scene import Camera, Scene
from phototwin.stage.visuals import BodyVisual

ROBOT_ID = 1


@dataclass(frozen=True, eq=False)
class MovingParts:
    """What moves, ready to be drawn.

    Attributes:
        draw_list: Its meshes.
        owners: For each part of the draw list, the robot's body or the object's key that carries it.
        object_ids: Id of every object in the id buffer; the robot is ``ROBOT_ID``.
    """

    draw_list: DrawList
    owners: tuple[str, ...]
    object_ids: tuple[int, ...]


def make_moving_parts(
    scene: Scene, robot: tuple[BodyVisual, ...], shrink: float = 1.0, device: str = "cpu"
) -> MovingParts:
    """The robot's and the scene's movable meshes.

    Args:
        scene: The twin.
        robot: What the robot looks like.
        shrink: Photo pixels per frame pixel. Textures have the photo's resolution and are reduced as much, or they would shimmer.
        device: Warp device.
    """
    parts = [Part(v.points, v.faces, v.normals, v.color_rgb, None, None, ROBOT_ID) for v in robot]
    owners = [v.body for v in robot]
    for i, item in enumerate(scene.objects):
        texture = None if item.mesh.texture is None else _reduce(load_rgb(scene.path(item.mesh.texture)), shrink)
        mesh = item.mesh
        parts.append(Part(mesh.points, mesh.faces, None, item.color_rgb, mesh.st, texture, ROBOT_ID + 1 + i))
        owners.append(item.key)
    ids = tuple(ROBOT_ID + 1 + i for i in range(len(scene.objects)))
    return MovingParts(make_draw_list(parts, device), tuple(owners), ids)


def draw_moving(moving: MovingParts, T_world_owner: dict[str, np.ndarray], view: Camera) -> dict[str, Any]:
    """Buffers of N frames, see ``draw_parts``.

    Args:
        moving: What to draw.
        T_world_owner: Poses (N, 4, 4) of every body and object by name.
        view: The camera.
    """
    T = np.stack([T_world_owner[owner] for owner in moving.owners], 1)
    return draw_parts(moving.draw_list, T, view.T_world_camera, view.K_px, view.width, view.height)


def _reduce(texture: np.ndarray, shrink: float) -> np.ndarray:
    import cv2

    if shrink < 1.5:
        return texture
    size = tuple(max(1, round(side / shrink)) for side in texture.shape[1::-1])
    return cv2.resize(texture, size, interpolation=cv2.INTER_AREA)
