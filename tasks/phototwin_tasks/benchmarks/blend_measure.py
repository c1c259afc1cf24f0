"""How near a blended picture comes to the path-traced truth, beside a hard paste."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from phototwin.images import load_depth, load_ids, load_rgb
from phototwin.light import Light, ambient_irradiance, light_from_json
from phototwin.scene import Camera
from phototwin_tasks.benchmarks.blend_scenes import load_robot, robot_parts
from phototwin_tasks.benchmarks.capture_measures import psnr, ssim
from phototwin_tasks.benchmarks.truth_scenes import scene_parts
from phototwin_tasks.benchmarks.truth_trace import see_parts

REGIONS = ("robot", "shadow", "robot + shadow", "frame")


@dataclass(frozen=True, eq=False)
class Case:
    """One rendered scene, see ``blend_scenes``; files are read on first use.

    Attributes:
        folder: Where it is.
    """

    folder: Path

    @cached_property
    def truth(self) -> dict[str, Any]:
        """Its description."""
        return json.loads((self.folder / "truth.json").read_text())

    @property
    def seed(self) -> int:
        """Its number."""
        return self.truth["blend_seed"]

    @cached_property
    def camera(self) -> Camera:
        """The photo's camera."""
        return camera_of(self.truth["camera"])

    @cached_property
    def light(self) -> Light:
        """The true light."""
        return light_from_json(self.truth["light"])

    @cached_property
    def photo(self) -> np.ndarray:
        """The clean photo without the robot, (H, W, 3) uint8."""
        return load_rgb(self.folder / "photo.png")

    @cached_property
    def noisy(self) -> np.ndarray:
        """The photo with sensor noise and JPEG, (H, W, 3) uint8."""
        return load_rgb(self.folder / "photo_noisy.png")

    @cached_property
    def with_robot(self) -> np.ndarray:
        """The truth, (H, W, 3) uint8."""
        return load_rgb(self.folder / "truth.png")

    @cached_property
    def depth_m(self) -> np.ndarray:
        """Exact depth (H, W) of the photo [m]."""
        return load_depth(self.folder / "depth_exact.png")

    @cached_property
    def ids(self) -> np.ndarray:
        """Exact object ids (H, W) of the photo, 0 = none."""
        return load_ids(self.folder / "masks.png")

    @cached_property
    def normals_w(self) -> np.ndarray:
        """Exact normals (H, W, 3) of the photo."""
        return np.load(self.folder / "normals.npy").astype(np.float32)

    @cached_property
    def covered(self) -> np.ndarray:
        """Pixels (H, W) that show the robot more than anything else."""
        return load_ids(self.folder / "coverage.png") >= 128

    @cached_property
    def regions(self) -> dict[str, np.ndarray]:
        """Masks (H, W) of ``REGIONS``; the pixels around the robot are its own, as soft edges reach into them."""
        import cv2

        robot = cv2.dilate(load_ids(self.folder / "coverage.png"), np.ones((3, 3), np.uint8)) > 0
        shadow = (load_ids(self.folder / "shadow.png") > 0) & ~robot
        return dict(zip(REGIONS, (robot, shadow, robot | shadow, np.ones_like(robot)), strict=True))


def camera_of(value: dict[str, Any]) -> Camera:
    """The camera of a description."""
    return Camera(np.array(value["K_px"]), value["width"], value["height"], np.array(value["T_world_camera"]))


@dataclass(frozen=True)
class Score:
    """A picture against the truth in one region.

    Attributes:
        psnr_db: Peak signal-to-noise ratio [dB].
        ssim: Structural similarity.
        share: Root mean square error as a share of the hard paste's; NaN in an empty region.
    """

    psnr_db: float
    ssim: float
    share: float


def score(rgb: np.ndarray, true_rgb: np.ndarray, hard_rgb: np.ndarray, where: np.ndarray) -> Score:
    """A picture (H, W, 3) uint8 against the truth on the pixels of a mask, beside the hard paste."""
    if not where.any():
        return Score(float("nan"), float("nan"), float("nan"))
    return Score(
        psnr(rgb, true_rgb, where),
        ssim(rgb, true_rgb, where),
        rmse(rgb, true_rgb, where) / max(rmse(hard_rgb, true_rgb, where), 1e-9),
    )


def rmse(a_rgb: np.ndarray, b_rgb: np.ndarray, where: np.ndarray) -> float:
    """Root mean square difference of two pictures (H, W, 3) uint8 on the pixels of a mask [codes]."""
    return float(np.sqrt(((a_rgb[where].astype(np.float64) - b_rgb[where]) ** 2).mean()))


def hard_paste(case: Case, photo: np.ndarray) -> np.ndarray:
    """What today's tools make of a photo (H, W, 3) uint8: the robot's bare colours where exact depth shows it, and no shadow."""
    scene, visuals = scene_parts(case.truth), load_robot()[1]
    seen = see_parts(case.truth["camera"], [*scene, *robot_parts(case.truth["robot"])]).part - len(scene)
    colors = np.round(255 * np.array([v.color_rgb for v in visuals])).astype(np.uint8)
    return np.where((seen >= 0)[..., None], colors[np.maximum(seen, 0)], photo)


def direction_error_deg(light: Light, true_light: Light) -> float:
    """Angle between the sources of two lights [deg]."""
    return float(np.rad2deg(np.arccos(np.clip(light.direction_w @ true_light.direction_w, -1, 1))))


def flow_error_deg(light: Light, true_light: Light) -> float:
    """Angle between the directions from which all light together comes, source and surroundings [deg]."""
    a, b = (flow_of(value) for value in (light, true_light))
    return float(
        np.rad2deg(np.arccos(np.clip(a @ b / max(float(np.linalg.norm(a) * np.linalg.norm(b)), 1e-12), -1, 1)))
    )


def flow_of(light: Light) -> np.ndarray:
    """Vector irradiance (3,) of a light, mean of its colours: the integral of radiance times direction.

    Of the harmonics only the first degree adds to it: the integral of x times 0.488603 x over the sphere is 4 pi / 3 of that.
    """
    around = 4 * np.pi / 3 * 0.488603 * light.sh[[3, 1, 2]].mean(1)
    return around + light.irradiance.mean() * light.direction_w


def source_share(light: Light) -> float:
    """Share of the irradiance on a level surface that comes from the source."""
    up = np.array([0.0, 0.0, 1.0])
    direct = max(float(light.direction_w[2]), 0.0) * float(light.irradiance.mean())
    return direct / max(direct + float(ambient_irradiance(light, up).mean()), 1e-9)


def unchanged_share(rgb: np.ndarray, photo: np.ndarray, drawn: np.ndarray, shaded: np.ndarray) -> float:
    """Share of the pixels that neither robot nor shadow touches which are the photo's, bit by bit; NaN without such pixels."""
    outside = ~(drawn | shaded)
    return float((rgb == photo).all(-1)[outside].mean()) if outside.any() else float("nan")
