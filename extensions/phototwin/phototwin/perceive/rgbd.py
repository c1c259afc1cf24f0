"""A photo with depth -> Maps: the support by a robust plane, objects as what stands on it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from phototwin.errors import InputError
from phototwin.frames import pixel_rays, transform
from phototwin.perceive.clusters import Cloud, find_objects, hinted_objects
from phototwin.perceive.plane import Plane, align_pose, depth_sigma, fit_plane, heights, world_from_plane
from phototwin.perceive.refine import refine_mask
from phototwin.perceive.vanishing import FOCAL_SIGMA, focal_sigma
from phototwin.scene import SENSOR_SCALE_SIGMA, CameraSigma, Maps, Photo

MODEL_NOISE_M = (
    0.01  # of one reading of an estimated depth map at 1 m: smooth, but wrong by about a percent within a thing
)
POSE_SCALE_SIGMA = 0.015
"""Share by which a depth may be off whose scale comes from a camera pose: poses are good to about a centimetre."""
SUPPORT_GAP_M = 0.03  # the table goes on behind an object's sensor shadow of about this width


@dataclass(frozen=True)
class RgbdConfig:
    """What counts as an object.

    Attributes:
        max_depth_m: Readings beyond are not trusted; the sensor's noise grows with the square of depth.
        min_height_m: Lowest thing that is told from the support.
        min_area_m2: Smallest visible surface of an object.
        max_size_m: Larger things are furniture, not objects.
        horizontal_fov_deg: Assumed where neither the camera file nor EXIF states the focal length.
    """

    max_depth_m: float = 1.6
    min_height_m: float = 0.004
    min_area_m2: float = 1.5e-4
    max_size_m: float = 0.7
    horizontal_fov_deg: float = 60.0


def perceive_rgbd(photo: Photo, config: RgbdConfig | None = None, seed: int = 0) -> Maps:
    """Camera, support and objects of a photo with depth, in metres.

    Args:
        photo: With ``depth_m``.
        config: Thresholds; the defaults serve tabletop sensors.
        seed: Draws the candidates of the plane fit.

    Raises:
        InputError: The photo has no depth.
        PerceptionError: No support, nothing on it, or a hint that points at nothing.
    """
    if photo.depth_m is None:
        raise InputError("The photo brings no depth: give --depth, or perceive it by colour alone.")
    config = config or RgbdConfig()
    height, width = photo.depth_m.shape
    K_px, intrinsics = _intrinsics(photo, config)
    points_c = pixel_rays(K_px, width, height) * photo.depth_m[..., None].astype(np.float64)
    trusted = (photo.depth_m > 0) & (photo.depth_m <= config.max_depth_m)
    if photo.T_world_camera is not None and photo.depth_scale_sigma > 2 * POSE_SCALE_SIGMA:
        return _by_pose(photo, photo.T_world_camera, points_c, trusted, config, seed)
    plane = fit_plane(points_c, trusted, np.random.default_rng(seed), photo.T_world_camera)
    T_world_camera, gravity = _world(photo, plane)
    cloud = _cloud(photo, K_px, points_c, T_world_camera, plane, trusted, config)
    if photo.hints:
        masks, names, remarks = hinted_objects(cloud, photo.hints)
    else:
        masks, remarks = find_objects(cloud)
        names = [None] * len(masks)
    masks, refined = _refine(cloud, masks, [hint.mask is not None for hint in photo.hints])
    support = _support_mask(cloud, masks)
    notes = {
        "intrinsics": intrinsics,
        "gravity": gravity,
        "scale": _scale_words(photo),
        "segmentation": " ".join([_summary(cloud, masks, bool(photo.hints)), refined, *remarks]).replace("  ", " "),
    }
    return Maps(
        rgb=photo.rgb,
        K_px=K_px,
        T_world_camera=T_world_camera,
        depth_m=photo.depth_m,
        support_mask=support,
        masks=masks,
        names=tuple(names),
        sigma=_sigma(photo, plane),
        notes=notes,
    )


def _by_pose(
    photo: Photo,
    T_world_camera: np.ndarray,
    points_c: np.ndarray,
    trusted: np.ndarray,
    config: RgbdConfig,
    seed: int,
) -> Maps:
    """Maps of a photo whose depth is an estimate and whose pose is known: the camera's height over the support gives the depth its scale."""
    plane = fit_plane(points_c, trusted, np.random.default_rng(seed))
    factor = float(T_world_camera[2, 3]) / plane.camera_height_m
    assert photo.depth_m is not None
    scaled = replace(photo, depth_m=(photo.depth_m * factor).astype(np.float32), depth_scale_sigma=POSE_SCALE_SIGMA)
    maps = perceive_rgbd(scaled, config, seed)
    words = f"Metric: {photo.depth_source} times {factor:.3f}, which puts the camera as high above the support as its pose says."
    return replace(maps, notes=maps.notes | {"scale": words})


def _scale_words(photo: Photo) -> str:
    if photo.depth_scale_sigma > 2 * SENSOR_SCALE_SIGMA:
        return f"Metric, from the depth that {photo.depth_source} estimated, as a whole to about {photo.depth_scale_sigma:.0%}."
    return f"Metric, from the {photo.depth_source}."


def _sigma(photo: Photo, plane: Plane) -> CameraSigma:
    """How sure the camera is: the focal length by its source, the tilt by the plane, lengths by the depth."""
    estimated = photo.depth_scale_sigma > 2 * SENSOR_SCALE_SIGMA
    return CameraSigma(
        focal=FOCAL_SIGMA["prior"] if photo.K_px is None else focal_sigma(photo.K_source),
        pitch_rad=float(plane.tilt_sigma_rad[0]),
        roll_rad=float(plane.tilt_sigma_rad[1]),
        scale=photo.depth_scale_sigma,
        depth_m=MODEL_NOISE_M if estimated else float(depth_sigma(np.array(1.0))),
    )


def _intrinsics(photo: Photo, config: RgbdConfig) -> tuple[np.ndarray, str]:
    height, width = photo.rgb.shape[:2]
    if photo.K_px is not None:
        return photo.K_px, f"Focal length {photo.K_px[0, 0]:.0f} px, from {photo.K_source or 'the caller'}."
    focal = 0.5 * max(width, height) / np.tan(np.radians(config.horizontal_fov_deg) / 2)
    K_px = np.array([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1.0]])
    return K_px, (
        f"Focal length {focal:.0f} px, assumed: {config.horizontal_fov_deg:.0f} degrees across the longer side, because neither "
        "--camera nor EXIF states it; widths are as wrong as this is."
    )


def _world(photo: Photo, plane: Plane) -> tuple[np.ndarray, str]:
    found = f"normal of the plane fitted to the depth ({100 * plane.share:.0f} % of the readings, spread {1000 * plane.spread_m:.1f} mm)"
    if photo.T_world_camera is None:
        return world_from_plane(plane), f"Up is the {found}."
    T_world_camera, tilt, lift = align_pose(photo.T_world_camera, plane)
    return T_world_camera, (
        f"The pose of the camera file, corrected by {np.degrees(tilt):.2f} degrees and {1000 * lift:+.1f} mm to the {found}."
    )


def _cloud(
    photo: Photo,
    K_px: np.ndarray,
    points_c: np.ndarray,
    T_world_camera: np.ndarray,
    plane: Plane,
    trusted: np.ndarray,
    config: RgbdConfig,
) -> Cloud:
    assert photo.depth_m is not None
    depth_m = photo.depth_m
    # A reading is an object's where noise cannot explain it: the table's own spread and the sensor's both count.
    threshold = np.maximum(
        config.min_height_m, 4 * np.maximum(1.4826 * plane.spread_m, 0.4 * depth_sigma(depth_m))
    ).astype(np.float32)
    return Cloud(
        rgb=photo.rgb,
        K_px=K_px,
        depth_m=depth_m,
        points_w=transform(T_world_camera, points_c).astype(np.float32),
        height_m=np.where(depth_m > 0, heights(plane, points_c), np.nan).astype(np.float32),
        threshold_m=threshold,
        known=depth_m > 0,
        trusted=trusted,
        T_world_camera=T_world_camera,
        min_area_m2=config.min_area_m2,
        max_size_m=config.max_size_m,
        max_depth_m=config.max_depth_m,
    )


def _refine(cloud: Cloud, masks: np.ndarray, exact: list[bool]) -> tuple[np.ndarray, str]:
    """Masks drawn along the edges of the photo, disjoint; those the user drew stay."""
    out = np.zeros_like(masks)
    kept = 0
    for i, mask in enumerate(masks):
        if exact and exact[i]:
            out[i] = mask
            continue
        others = np.any(np.delete(masks, i, axis=0), axis=0) if len(masks) > 1 else np.zeros_like(mask)
        refined = refine_mask(cloud, mask, others)
        kept += refined is None
        out[i] = mask if refined is None else refined
    claimed = out.sum(0) > 1
    for i, mask in enumerate(masks):  # where two refined masks overlap, the depth decides
        out[i] &= ~claimed | mask
    taken = np.zeros(out.shape[1:], dtype=bool)
    for i, mask in enumerate(out):
        if mask.sum() < 0.3 * masks[i].sum():  # the others took what colour gave it: depth alone is better than a scrap
            mask |= masks[i]
        mask &= ~taken
        taken |= mask
    return out, f"The outline of {kept} of them is by depth alone, colour would not agree." if kept else ""


def _support_mask(cloud: Cloud, masks: np.ndarray) -> np.ndarray:
    """Pixels on the plane, in the patches that reach the objects' surroundings."""
    import cv2

    objects = np.asarray(masks.any(0))
    flat = cloud.known & (np.abs(cloud.height_m) < cloud.threshold_m) & ~objects
    flat &= cloud.depth_m <= cloud.max_depth_m
    median_m = float(np.median(cloud.depth_m[objects & cloud.known])) if (objects & cloud.known).any() else 0.7
    gap = max(3, round(cloud.K_px[0, 0] * SUPPORT_GAP_M / median_m))
    near = cv2.distanceTransform((~objects).astype(np.uint8), cv2.DIST_L2, 3) <= gap
    labels = cv2.connectedComponents((flat | objects).astype(np.uint8), connectivity=4)[1]
    reached = np.unique(labels[near & flat])
    return flat & np.isin(labels, reached[reached > 0])


def _summary(cloud: Cloud, masks: np.ndarray, hinted: bool) -> str:
    how = "where the hints say" if hinted else "by height above the support and gaps in depth"
    tops = [float(np.nanpercentile(cloud.height_m[mask & cloud.known], 99.5)) for mask in masks]
    listed = ", ".join(f"{1000 * top:.0f}" for top in tops)
    return f"{len(masks)} object{'s' * (len(masks) > 1)} found {how}, {listed} mm tall."
