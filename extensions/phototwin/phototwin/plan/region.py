"""Part of an object's surface that words name: a score per surface sample, and which grasps hold it.

The samples are the same for every question about an object. Those that the photo shows carry what its pixels tell; the others take it
from the nearest sample that is seen, on the side that faces the same way, so that a part has a back as well.
Source: Shen et al. 2023 (F3RM), arXiv 2308.07931: features of pictures are lifted to geometry, words choose among them, grasps go there.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np

from phototwin.frames import invert, project, transform
from phototwin.images import load_ids
from phototwin.kernels.obstacles import load_meshes
from phototwin.kernels.visibility import Cameras, visible_points
from phototwin.plan.grasp_contacts import sample_surface
from phototwin.plan.gripper import grip_offset
from phototwin.robots import Robot
from phototwin.scene import Scene, SceneObject

SAMPLES = 6000
"""A mug then has one every 3 mm."""
NEIGHBOURS = 5
"""Samples whose mean is the score of a point between them."""
FACING_M = 0.02
"""Samples that face opposite ways count as so much further apart (twice that), so the two sides of a wall stay apart."""
HELD = 0.5
"""A sample fits the words better than anything else from this score on; a grasp holds the part whose contacts do."""


@dataclass(frozen=True, eq=False)
class Samples:
    """Points all over the surface of an object.

    Attributes:
        points_o: Object frame, (N, 3) [m].
        normals_o: Outward unit normals, (N, 3).
    """

    points_o: np.ndarray
    normals_o: np.ndarray

    @cached_property
    def tree(self) -> Any:
        """For nearest neighbours, by place and by where the surface faces."""
        from scipy.spatial import cKDTree

        return cKDTree(placed(self.points_o, self.normals_o))


@dataclass(frozen=True, eq=False)
class Seen:
    """What of an object's samples the photo shows.

    Attributes:
        seen: Which, (N,) bool.
        source: Index of the seen sample that stands for each, (N,); its own where it is seen itself.
        px: Where the photo shows that one, (N, 2) [px].
    """

    seen: np.ndarray
    source: np.ndarray
    px: np.ndarray


@dataclass(frozen=True, eq=False)
class Region:
    """The part of an object that words name.

    Attributes:
        part: The words.
        samples: Points all over the surface.
        score: How well they fit each, (N,) in 0..1; ``HELD`` and more is the part.
    """

    part: str
    samples: Samples
    score: np.ndarray

    @property
    def inside(self) -> np.ndarray:
        """Which samples are the part, (N,) bool."""
        return self.score >= HELD

    def at(self, points_o: np.ndarray, normals_o: np.ndarray) -> np.ndarray:
        """Score (P,) at points (P, 3) of the surface with outward normals (P, 3)."""
        _, near = self.samples.tree.query(placed(points_o, normals_o), NEIGHBOURS)
        return self.score[near].mean(-1)

    def hold(self, middle: np.ndarray, closing: np.ndarray, width_m: np.ndarray) -> np.ndarray:
        """Score (G,) of the worse contact of pads ``width_m`` (G,) apart about ``middle`` (G, 3) that close along ``closing`` (G, 3)."""
        half = 0.5 * width_m[:, None] * closing
        return np.minimum(self.at(middle - half, -closing), self.at(middle + half, closing))


def placed(points_o: np.ndarray, normals_o: np.ndarray) -> np.ndarray:
    """Points (P, 3) and normals (P, 3) as one vector each, (P, 6) [m]."""
    return np.concatenate([points_o, FACING_M * normals_o], 1)


def grasps_hold(region: Region, T_object_tool: np.ndarray, width_m: np.ndarray, robot: Robot) -> np.ndarray:
    """Score (G,) of the worse contact of grasps (G, 4, 4) with pads ``width_m`` (G,) apart."""
    closing = T_object_tool[:, :3, 1]
    middle = T_object_tool[:, :3, 3] + grip_offset(robot, width_m)[:, None] * closing
    return region.hold(middle, closing, width_m)


@lru_cache(maxsize=256)
def sample_item(item: SceneObject) -> Samples:
    """The samples of an object, the same ones every time."""
    return Samples(*sample_surface(item.mesh, SAMPLES, 0))


@lru_cache(maxsize=256)
def see_item(scene: Scene, item: SceneObject) -> Seen:
    """Which samples of an object the photo shows: in its mask, facing the camera, and nothing of the twin in front of them.

    Where the photo shows nothing of it, nothing is seen and ``source`` is each sample's own.
    """
    samples, camera = sample_item(item), scene.camera
    points_w = transform(item.T_world_object, samples.points_o)
    px = project(camera.K_px, transform(invert(camera.T_world_camera), points_w))
    column, row = np.clip(np.nan_to_num(px), 0, (camera.width - 1, camera.height - 1)).astype(int).T
    number = [other.key for other in scene.objects].index(item.key) + 1
    in_mask = load_ids(scene.path(scene.masks))[row, column] == number
    to_camera = camera.T_world_camera[:3, 3] - points_w
    facing = np.einsum("ni,ni->n", samples.normals_o @ item.T_world_object[:3, :3].T, to_camera) > 0.0
    seen = in_mask & facing & _in_view(scene, points_w)
    source = np.arange(len(seen))
    if seen.any():
        from scipy.spatial import cKDTree

        keys = placed(samples.points_o, samples.normals_o)
        there = np.flatnonzero(seen)
        source[~seen] = there[cKDTree(keys[seen]).query(keys[~seen])[1]]
    return Seen(seen, source, px[source])


def _in_view(scene: Scene, points_w: np.ndarray) -> np.ndarray:
    """Which points (N, 3) the photo's camera sees past all objects, (N,) bool."""
    camera = scene.camera
    cameras = Cameras(
        camera.T_world_camera[None], camera.K_px[None], np.array([[camera.width, camera.height]], np.float64)
    )
    meshes = load_meshes([(o.mesh.points, o.mesh.faces) for o in scene.objects])
    poses = np.array([o.T_world_object for o in scene.objects])
    return visible_points(points_w, cameras, meshes, poses, threads=1)[0]
