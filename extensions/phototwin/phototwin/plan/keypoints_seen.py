"""Keypoints by what a photo shows: DINOv2 features of an object's pixels, clustered and lifted onto its surface.

Source: Huang et al. 2024 (ReKep), arXiv 2409.01652: K-means over self-supervised patch features within a mask names the parts that
look different; Oquab et al. 2023 (DINOv2), arXiv 2304.07193.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from phototwin.backends.weights import load_model, load_processor, need_weights
from phototwin.errors import PerceptionError
from phototwin.frames import invert
from phototwin.images import load_ids
from phototwin.plan.keypoints import Keypoints, find_keypoints, meet_surface
from phototwin.resolve import resolve
from phototwin.scene import Scene, SceneObject

REPO = "facebook/dinov2-small"
"""Weights under Apache-2.0."""
PATCHES = 32
"""Of the longer side of the crop that the model sees."""
MARGIN = 0.08
"""Left around the object, as a share of its longer side."""
COMPONENTS = 3
"""Of the features that clusters are made in, as in ReKep; more is mostly noise."""
PLACE_WEIGHT = 1.0
"""Of where a patch is, against how it looks: parts hang together."""
COUNT = 5
TURNS = 30
"""Rounds of K-means."""
APART_M = 0.012
"""Keypoints closer than that are one."""


class KeypointBackend(Protocol):
    """Named points of one object."""

    def __call__(self, item: SceneObject, scene: Scene, photo_rgb: np.ndarray, seed: int, /) -> Keypoints:
        """Keypoints of an object of a scene, of which ``photo_rgb`` (H, W, 3) uint8 is the photo."""
        ...


KEYPOINTS = {
    "geometry": "phototwin.plan.keypoints_seen:keypoints_of_geometry",
    "dinov2": "phototwin.plan.keypoints_seen:make_dinov2",
}


def choose_keypoints(name: str = "geometry") -> KeypointBackend:
    """The keypoints of that name: "geometry", "dinov2", "dinov2=FOLDER" with weights, or "module:Attr".

    Raises:
        InputError: It is unknown, or there are no weights.
    """
    kind, _, option = name.partition("=")
    if kind == "dinov2":
        return make_dinov2(option)
    return resolve(name, KEYPOINTS, "keypoints")


def keypoints_of_geometry(item: SceneObject, scene: Scene, photo_rgb: np.ndarray, seed: int) -> Keypoints:
    """What the object's geometry shows; the photo does not matter."""
    return find_keypoints(item)


def make_dinov2(option: str = "") -> SeenKeypoints:
    """Keypoints by DINOv2 with the weights in that folder, or where weights are looked for.

    Raises:
        InputError: There are none.
    """
    return SeenKeypoints(need_weights("The keypoint backend", "dinov2", option, REPO))


class SeenKeypoints:
    """Keypoints where an object's parts look different, by a vision transformer of the DINOv2 family."""

    def __init__(self, weights: Path, count: int = COUNT) -> None:
        self.weights, self.count = weights, count

    @cached_property
    def _loaded(self) -> tuple[Any, Any]:
        from transformers import AutoImageProcessor, AutoModel

        return load_processor(AutoImageProcessor, self.weights), load_model(AutoModel, self.weights)

    def __call__(self, item: SceneObject, scene: Scene, photo_rgb: np.ndarray, seed: int) -> Keypoints:
        """Up to ``count`` points of the surface that the photo shows, "part 1" being the largest.

        Raises:
            PerceptionError: The photo shows too little of the object.
        """
        number = [other.key for other in scene.objects].index(item.key) + 1
        mask = load_ids(scene.path(scene.masks)) == number
        centres_px, features = self._features(photo_rgb, mask)
        points, normals, seen = _lift(item, scene, centres_px)
        if seen.sum() < 2:
            raise PerceptionError(
                f"The photo shows too little of the {item.name} for keypoints: use those of its geometry."
            )
        chosen = cluster(features[seen], points[seen], min(self.count, int(seen.sum())), seed)
        names = tuple(f"part {k + 1}" for k in range(len(chosen)))
        return Keypoints(names, points[seen][chosen], normals[seen][chosen])

    def _features(self, photo_rgb: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Middles (P, 2) [px] of the patches that lie on the object, and their features (P, C)."""
        import torch

        if not mask.any():
            return np.zeros((0, 2)), np.zeros((0, 1))
        processor, model = self._loaded
        low, side, grid = crop_around(mask)
        batch = crop_batch(photo_rgb, low, side, grid, int(model.config.patch_size), processor).to(model.device)
        with torch.inference_mode():
            tokens = model(pixel_values=batch).last_hidden_state[0].float().cpu().numpy()
        patches = tokens[-int(grid.prod()) :]  # before them the class token, and registers where the model has some
        u, v = np.meshgrid(np.arange(grid[0]) + 0.5, np.arange(grid[1]) + 0.5)
        centres = low + side * np.stack([u.ravel(), v.ravel()], 1)
        column, row = np.clip(centres.astype(int), 0, np.array(mask.shape[::-1]) - 1).T
        on = mask[row, column]
        return centres[on], patches[on]


def crop_around(mask: np.ndarray) -> tuple[np.ndarray, float, np.ndarray]:
    """Upper left corner (2,) [px] of the crop around a mask, side of a patch in it [px], and patches across and down (2,).

    The crop stays inside the photo, so that no made-up pixels are looked at.
    """
    v, u = np.nonzero(mask)
    low, high = np.array([u.min(), v.min()], float), np.array([u.max() + 1, v.max() + 1], float)
    margin = MARGIN * (high - low).max()
    photo = np.array(mask.shape[::-1], float)
    low, high = np.maximum(low - margin, 0.0), np.minimum(high + margin, photo)
    side = float((high - low).max()) / PATCHES
    grid = np.maximum(np.floor((high - low) / side + 1e-6), 1).astype(int)
    return low, side, grid


def crop_batch(
    photo_rgb: np.ndarray, low: np.ndarray, side: float, grid: np.ndarray, patch: int, processor: Any
) -> Any:
    """A crop of the photo as a model takes it, (1, 3, ``patch`` rows, ``patch`` columns) float32; what ``crop_around`` gave is where it is."""
    import torch
    from PIL import Image

    image = Image.fromarray(photo_rgb).resize(
        (int(grid[0]) * patch, int(grid[1]) * patch), Image.Resampling.BICUBIC, box=(*low, *(low + side * grid))
    )
    pixels = (np.asarray(image, np.float32) / 255.0 - processor.image_mean) / processor.image_std
    return torch.from_numpy(pixels.astype(np.float32)).permute(2, 0, 1)[None]


def _lift(item: SceneObject, scene: Scene, centres_px: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where pixels (P, 2) of the photo meet the object: points (P, 3) and normals (P, 3) in its frame, and which meet it (P,)."""
    camera = scene.camera
    rays_c = np.concatenate([centres_px, np.ones((len(centres_px), 1))], 1) @ np.linalg.inv(camera.K_px).T
    T_object_camera = invert(item.T_world_object) @ camera.T_world_camera
    rays_o = rays_c @ T_object_camera[:3, :3].T
    rays_o /= np.linalg.norm(rays_o, axis=1, keepdims=True)
    return meet_surface(item.mesh, np.broadcast_to(T_object_camera[:3, 3], rays_o.shape), rays_o)


def cluster(features: np.ndarray, points: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Indices of up to ``count`` patches, each in the middle of a part that looks alike and hangs together, the largest part first.

    Args:
        features: How the patches look, (P, C).
        points: Where they are, (P, 3) [m].
        count: Of clusters; those closer than ``APART_M`` become one.
        seed: Of the first guess.
    """
    from scipy.cluster.vq import kmeans2

    looks = features - features.mean(0)
    _, strength, axes = np.linalg.svd(looks, full_matrices=False)
    rank = min(COMPONENTS, int((strength > 1e-9 * max(strength[0], 1e-30)).sum()))
    looks = looks @ axes[:rank].T
    data = np.concatenate([_unit(looks), PLACE_WEIGHT * _unit(points - points.mean(0))], 1)
    count = min(count, len(np.unique(data, axis=0)))
    _, label = kmeans2(data, count, iter=TURNS, minit="++", rng=np.random.default_rng(seed))
    chosen: list[int] = []
    sizes = np.bincount(label, minlength=count)
    for k in np.argsort(-sizes, kind="stable"):
        members = np.flatnonzero(label == k)
        if not len(members):
            continue
        middle = members[np.linalg.norm(data[members] - data[members].mean(0), axis=1).argmin()]
        if all(np.linalg.norm(points[middle] - points[other]) > APART_M for other in chosen):
            chosen.append(int(middle))
    return np.array(chosen)


def _unit(values: np.ndarray) -> np.ndarray:
    """Columns (P, C) so that their overall spread is one."""
    return values / max(float(np.sqrt((values**2).sum(1).mean())), 1e-12) if values.size else values
