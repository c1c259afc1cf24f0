"""Where the objects stand at the start of an attempt."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from phototwin.frames import invert, make_T, project, rotation_z, transform
from phototwin.scene import Camera, Scene, SceneObject, depth_inside

TRIES = 100
CORNERS = np.array([[x, y, z] for x in (-0.5, 0.5) for y in (-0.5, 0.5) for z in (-0.5, 0.5)])


@dataclass(frozen=True)
class RandomizeConfig:
    """How far objects move from their place in the photo.

    Attributes:
        radius_m: Largest shift on the support [m].
        yaw_rad: Largest turn about the vertical [rad].
        margin_m: Least distance between the footprints of two objects that are apart in the photo [m].
        base_clearance_m: Least distance between the robot's base axis and an object's footprint [m].
        max_reach_m: Greatest distance of an object from the base axis [m].
    """

    radius_m: float = 0.06
    yaw_rad: float = 0.6
    margin_m: float = 0.03
    base_clearance_m: float = 0.18
    max_reach_m: float = 0.72


def footprint_radius(item: SceneObject) -> float:
    """Radius of the circle around an object's footprint [m]."""
    return float(np.hypot(item.size_m[0], item.size_m[1])) / 2


def focus_points(scene: Scene) -> np.ndarray:
    """Pixels (8 N, 2) of the photo that show the corners of the objects' bounding boxes: what a crop must keep."""
    return np.concatenate([_corners_px(scene.camera, item, item.T_world_object) for item in scene.objects])


def sample_object_poses(
    scene: Scene, view: Camera, T_world_base: np.ndarray, seed: int, attempt: int, config: RandomizeConfig
) -> dict[str, np.ndarray]:
    """Poses of all objects for one attempt, key -> T_world_object (4, 4).

    Attempt 0 is the photo itself. Any other draws from ``SeedSequence([seed, attempt])`` alone: shifts and turns every object such that
    footprints stay apart, on the known support, in view and in reach. Where no draw fits, the photo's own poses stand.
    """
    own = {item.key: item.T_world_object for item in scene.objects}
    if attempt == 0:
        return own
    rng = np.random.default_rng(np.random.SeedSequence([seed, attempt]))
    for shrink in np.linspace(1.0, 0.2, TRIES):
        drawn = {key: _move(T, rng, config, shrink) for key, T in own.items()}
        if all(_stands_well(item, drawn[item.key], scene, view, T_world_base, config) for item in scene.objects) and (
            _apart(scene, drawn, config)
        ):
            return drawn
    return own


def _move(T: np.ndarray, rng: np.random.Generator, config: RandomizeConfig, shrink: float) -> np.ndarray:
    radius = config.radius_m * shrink * np.sqrt(rng.uniform())
    heading = rng.uniform(0, 2 * np.pi)
    yaw = rng.uniform(-config.yaw_rad, config.yaw_rad) * shrink
    shift = radius * np.array([np.cos(heading), np.sin(heading), 0.0])
    return make_T(rotation_z(yaw) @ T[:3, :3], T[:3, 3] + shift)


def _stands_well(
    item: SceneObject, T: np.ndarray, scene: Scene, view: Camera, T_world_base: np.ndarray, config: RandomizeConfig
) -> bool:
    """On the support, in view and in reach, as far as the object was so in the photo."""
    distance = float(np.linalg.norm(T[:2, 3] - T_world_base[:2, 3]))
    own_distance = float(np.linalg.norm(item.T_world_object[:2, 3] - T_world_base[:2, 3]))
    radius = footprint_radius(item)
    if distance > max(config.max_reach_m, own_distance):
        return False
    if distance < min(config.base_clearance_m + radius, own_distance):
        return False
    polygon = scene.support.polygon_w
    if depth_inside(polygon, T[:2, 3]) < min(radius, depth_inside(polygon, item.T_world_object[:2, 3])):
        return False
    return _in_view(view, item, T) or not _in_view(view, item, item.T_world_object)


def _apart(scene: Scene, poses: dict[str, np.ndarray], config: RandomizeConfig) -> bool:
    """No two footprints nearer than the margin, or than they are in the photo."""
    for i, a in enumerate(scene.objects):
        for b in scene.objects[:i]:
            own = np.linalg.norm(a.T_world_object[:2, 3] - b.T_world_object[:2, 3])
            least = min(float(own), footprint_radius(a) + footprint_radius(b) + config.margin_m)
            if np.linalg.norm(poses[a.key][:2, 3] - poses[b.key][:2, 3]) < least:
                return False
    return True


def _in_view(view: Camera, item: SceneObject, T: np.ndarray) -> bool:
    px = _corners_px(view, item, T)
    return bool(((px >= 0) & (px <= [view.width, view.height])).all())


def _corners_px(camera: Camera, item: SceneObject, T: np.ndarray) -> np.ndarray:
    points_c = transform(invert(camera.T_world_camera) @ T, CORNERS * item.size_m)
    return project(camera.K_px, points_c)
