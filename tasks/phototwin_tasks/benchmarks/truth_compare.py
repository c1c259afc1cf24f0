"""A twin against the truth of its scene: which object is which, and how far off its place, turn, size and outline are.

Worlds differ (a twin's origin is under its own camera), the camera is common: everything is compared in the camera's frame.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from phototwin.frames import invert, pixel_rays, transform
from phototwin.images import load_ids
from phototwin.scene import Scene, SceneObject
from phototwin_tasks.benchmarks.capture_measures import box_sides, overlap, upright_box

MATCH_IOU = 0.25  # an outline that shares less shows another thing
SQUARE = 0.12  # sides that differ by less could be taken for each other: a quarter turn is no error


@dataclass(frozen=True)
class Recovered:
    """One true object as a twin has it.

    Attributes:
        name: Its name in the truth.
        shape: Its true shape.
        found: Whether the twin has it; all else is NaN or empty where not.
        twin_shape: What the twin takes it for.
        position_mm: Distance of the centres of the boxes around it [mm].
        yaw_deg: Turn about the vertical, boxes only [deg].
        size_error: Signed relative errors of length, width, height.
        iou: Of the masks.
        hollow_right: Whether vessels are vessels and solids solid; None where it is a matter of words.
        sigmas: Size errors over the standard deviations that the twin states; empty where it states none.
        position_sigmas: The same of the position along the world's axes.
    """

    name: str
    shape: str
    found: bool = False
    twin_shape: str = ""
    position_mm: float = float("nan")
    yaw_deg: float = float("nan")
    size_error: tuple[float, ...] = ()
    iou: float = float("nan")
    hollow_right: bool | None = None
    sigmas: tuple[float, ...] = ()
    position_sigmas: tuple[float, ...] = ()


@dataclass(frozen=True)
class Comparison:
    """A twin against its truth.

    Attributes:
        objects: One row per true object.
        extra: Objects that are not there.
        tilt_deg: Angle between the two verticals [deg].
        height_mm: Error of the camera's height above the table [mm].
    """

    objects: tuple[Recovered, ...]
    extra: int
    tilt_deg: float
    height_mm: float


def compare_twin(scene: Scene, truth: dict[str, Any], true_ids: np.ndarray) -> Comparison:
    """The twin of a truth scene against its description and masks (H, W)."""
    ids = load_ids(scene.path(scene.masks))
    T_true = np.array(truth["camera"]["T_world_camera"])
    T_true_world = T_true @ invert(
        scene.camera.T_world_camera
    )  # the twin's world in the true one, the camera being the same
    taken = match_ids(ids, true_ids, len(scene.objects), len(truth["objects"]))
    rows = []
    for i, item in enumerate(truth["objects"]):
        if i not in taken:
            rows.append(Recovered(item["name"], item["shape"]))
            continue
        k = taken[i]
        iou = overlap(ids == k + 1, true_ids == i + 1)
        rows.append(_compare_object(scene.objects[k], item, T_true_world, iou))
    up = float(np.clip(T_true_world[2, 2], -1, 1))
    lift = scene.camera.T_world_camera[2, 3] - T_true[2, 3]
    return Comparison(
        tuple(rows), len(scene.objects) - len(taken), float(np.rad2deg(np.arccos(up))), 1000 * float(lift)
    )


def match_ids(ids: np.ndarray, true_ids: np.ndarray, count: int, true_count: int) -> dict[int, int]:
    """True object -> object of the twin: the pairs whose masks overlap most."""
    pairs = [(overlap(ids == k + 1, true_ids == i + 1), i, k) for i in range(true_count) for k in range(count)]
    taken: dict[int, int] = {}
    for iou, i, k in sorted(pairs, reverse=True):
        if iou >= MATCH_IOU and i not in taken and k not in taken.values():
            taken[i] = k
    return taken


def _compare_object(found: SceneObject, item: dict[str, Any], T_true_world: np.ndarray, iou: float) -> Recovered:
    T_found = T_true_world @ found.T_world_object
    T_item = np.array(item["T_world_object"])
    off_w = T_found[:3, 3] - T_item[:3, 3]
    true_size = np.array(item["size_m"])
    size, yaw = _size_and_yaw(found, item, T_found, T_item)
    sigma = np.asarray(found.size_sigma_m)
    sure = np.abs(size - true_size) / sigma if (sigma > 0).all() else np.empty(0)
    place = np.asarray(found.position_sigma_m)
    sure_place = np.abs(T_true_world[:3, :3].T @ off_w) / place if (place > 0).all() else np.empty(0)
    return Recovered(
        item["name"],
        item["shape"],
        True,
        found.shape,
        1000 * float(np.linalg.norm(off_w)),
        yaw,
        tuple((size / true_size - 1).tolist()),
        iou,
        None if item["shape"] == "plate" else found.hollow == item["hollow"],  # a plate may be taken for either
        tuple(sure.tolist()),
        tuple(sure_place.tolist()),
    )


def _size_and_yaw(found: SceneObject, item: dict[str, Any], T_found: np.ndarray, T_item: np.ndarray) -> tuple[np.ndarray, float]:  # fmt: skip
    """Size (3,) [m] along the true object's axes, and the turn of a box [deg]; a box keeps its own axes, whichever is nearest."""
    if item["shape"] != "box":
        points = transform(invert(T_item) @ T_found, found.mesh.points.astype(np.float64))
        return np.ptp(points, axis=0), float("nan")
    axis = T_found[:3, 0]
    angle = np.arctan2(axis[1], axis[0]) - np.arctan2(T_item[1, 0], T_item[0, 0])
    length, width = item["size_m"][:2]
    period = np.pi / 2 if length < width * (1 + SQUARE) else np.pi
    yaw = (angle + period / 2) % period - period / 2
    return np.asarray(found.size_m), float(np.rad2deg(abs(yaw)))


def box_baseline(truth: dict[str, Any], true_ids: np.ndarray, depth_m: np.ndarray) -> list[Recovered]:
    """The simplest baseline: the true mask's depth, the true camera, and the smallest upright box around the points."""
    camera = truth["camera"]
    T = np.array(camera["T_world_camera"])
    points_w = transform(
        T, pixel_rays(np.array(camera["K_px"]), camera["width"], camera["height"]) * depth_m[..., None]
    )
    rows = []
    for i, item in enumerate(truth["objects"]):
        here = (true_ids == i + 1) & (depth_m > 0)
        corners, _ = upright_box(points_w[here])
        center, size = corners.mean(0), box_sides(corners)
        T_item = np.array(item["T_world_object"])
        true_size = np.array(item["size_m"])
        error = tuple((size / true_size - 1).tolist())
        off_mm = 1000 * float(np.linalg.norm(center - T_item[:3, 3]))
        rows.append(Recovered(item["name"], item["shape"], True, "box", off_mm, size_error=error))
    return rows
