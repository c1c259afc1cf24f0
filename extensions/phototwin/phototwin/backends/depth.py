"""Metric depth from one photo: Depth Pro, Depth Anything V2 and ZoeDepth through transformers."""

from __future__ import annotations

import shutil
import tempfile
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from phototwin.backends.contract import DepthEstimate
from phototwin.backends.weights import as_image, load_model, load_processor
from phototwin.errors import InputError, PerceptionError
from phototwin.images import MAX_DEPTH_M

SIGMA_WITH_FOCAL = 0.15
"""Of Depth Pro, assumed: its authors report most indoor pixels within 25 %; not measured here."""
SIGMA_FIXED_CAMERA = 0.25
"""Of models that learnt one camera, on photos of another; not measured here. The tabletop is nearer than most of what they saw."""
HYPERSIM_FOCAL = 886.81 / 1024
"""Focal length over width of the camera that Depth Anything's indoor weights learnt. Source: Roberts et al. 2021, Hypersim (60 deg)."""
NYU_FOCAL = 518.86 / 640
"""The same of ZoeDepth's indoor weights. Source: Silberman et al. 2012, NYU Depth V2 calibration."""


class DepthPro:
    """Metric depth and focal length by Depth Pro. Source: Bochkovskii et al. 2024, arXiv 2410.02073, eq. 1.

    The network gives inverse depth for a canonical camera; the focal length, given or from its field of view, makes it metric.
    """

    def __init__(self, weights: Path) -> None:
        self.weights = weights

    @cached_property
    def _loaded(self) -> tuple[Any, Any]:
        from transformers import DepthProForDepthEstimation, DepthProImageProcessor

        return load_processor(DepthProImageProcessor, self.weights), load_model(
            DepthProForDepthEstimation, self.weights
        )

    def __call__(self, rgb: np.ndarray, K_px: np.ndarray | None) -> DepthEstimate:
        """Depth, and the camera where none is given."""
        import torch

        processor, model = self._loaded
        height, width = rgb.shape[:2]
        with torch.inference_mode():
            outputs = model(**processor(images=as_image(rgb), return_tensors="pt").to(model.device))
            if K_px is not None:
                outputs.field_of_view = outputs.predicted_depth.new_tensor([field_of_view_deg(K_px[0, 0], width)])
            elif outputs.field_of_view is None:
                raise PerceptionError(
                    f"The Depth Pro weights in '{self.weights}' tell no field of view: give the camera with --camera."
                )
            result = processor.post_process_depth_estimation(outputs, target_sizes=[(height, width)])[0]
        estimated = None
        if K_px is None:
            focal = float(result["focal_length"])
            estimated = np.array([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]], dtype=np.float64)
        return DepthEstimate(_metres(result["predicted_depth"]), estimated, SIGMA_WITH_FOCAL, "Depth Pro")


class DepthAnything:
    """Metric depth by the indoor weights of Depth Anything V2. Source: Yang et al. 2024, arXiv 2406.09414, section 7.3.

    It knows no camera: photos of another field of view than its training camera's are off by a factor, which ``scale_sigma`` covers.
    """

    def __init__(self, weights: Path) -> None:
        self.weights = weights

    @cached_property
    def _loaded(self) -> tuple[Any, Any]:
        from transformers import AutoImageProcessor, DepthAnythingForDepthEstimation

        model = load_model(DepthAnythingForDepthEstimation, self.weights)
        if model.config.depth_estimation_type != "metric":
            raise InputError(
                f"The Depth Anything weights in '{self.weights}' estimate relative depth, expected one of the metric indoor models."
            )
        return load_processor(AutoImageProcessor, self.weights), model

    def __call__(self, rgb: np.ndarray, K_px: np.ndarray | None) -> DepthEstimate:
        """Depth; the camera only tells how far to trust it."""
        import torch

        processor, model = self._loaded
        with torch.inference_mode():
            outputs = model(**processor(images=as_image(rgb), return_tensors="pt").to(model.device))
            result = processor.post_process_depth_estimation(outputs, target_sizes=[rgb.shape[:2]])[0]
        sigma = fixed_camera_sigma(K_px, rgb.shape[1], HYPERSIM_FOCAL)
        return DepthEstimate(_metres(result["predicted_depth"]), None, sigma, "Depth Anything V2")


class ZoeDepth:
    """Metric depth by ZoeDepth, the mean of the photo and its mirror image. Source: Bhat et al. 2023, arXiv 2302.12288."""

    def __init__(self, weights: Path) -> None:
        self.weights = weights

    @cached_property
    def _loaded(self) -> tuple[Any, Any]:
        from transformers import ZoeDepthForDepthEstimation, ZoeDepthImageProcessor

        return load_processor(ZoeDepthImageProcessor, self.weights), load_model(
            ZoeDepthForDepthEstimation, self.weights
        )

    def __call__(self, rgb: np.ndarray, K_px: np.ndarray | None) -> DepthEstimate:
        """Depth; the camera only tells how far to trust it."""
        import torch

        processor, model = self._loaded
        size = rgb.shape[:2]
        with torch.inference_mode():
            pixels = processor(images=as_image(rgb), return_tensors="pt").to(model.device)["pixel_values"]
            result = processor.post_process_depth_estimation(
                model(pixels), source_sizes=[size], target_sizes=[size], outputs_flipped=model(pixels.flip(-1))
            )[0]
        sigma = fixed_camera_sigma(K_px, size[1], NYU_FOCAL)
        return DepthEstimate(_metres(result["predicted_depth"]), None, sigma, "ZoeDepth")


class OutsideDepth:
    """Metric depth by a model in an environment of its own, such as MoGe-2, through a folder: docs/external.md."""

    def __init__(self, target: str) -> None:
        from phototwin.backends.external import parse_external

        self.external = parse_external(target)

    def __call__(self, rgb: np.ndarray, K_px: np.ndarray | None) -> DepthEstimate:
        """What the model answers; the folder stays only where that failed, and the error names it."""
        from phototwin.backends.external import request_depth

        folder = Path(tempfile.mkdtemp(prefix="phototwin-depth-"))
        estimate = request_depth(self.external, rgb, K_px, folder)
        shutil.rmtree(folder, ignore_errors=True)
        return estimate


def field_of_view_deg(focal_px: float, width: int) -> float:
    """Horizontal field of view of a pinhole camera [deg]."""
    return float(np.degrees(2 * np.arctan(width / (2 * focal_px))))


def fixed_camera_sigma(K_px: np.ndarray | None, width: int, trained_focal: float) -> float:
    """Standard deviation of the scale of depth that was learnt with one camera, as a share.

    A narrower view shows everything larger, hence nearer, by the ratio of focal lengths; how much of that a network
    follows is not documented, so the whole ratio counts as doubt.

    Args:
        K_px: The photo's camera, (3, 3) [px], or None where it is not known.
        width: The photo's width [px].
        trained_focal: Focal length over width of the training camera.
    """
    ratio = 1.0 if K_px is None else float(K_px[0, 0]) / width / trained_focal
    return float(np.hypot(SIGMA_FIXED_CAMERA, np.log(ratio)))


def _metres(depth: Any) -> np.ndarray:
    """Depth (H, W) float32 of a tensor; what is not positive or beyond the twin's range is unknown."""
    depth_m = depth.float().cpu().numpy().astype(np.float32)
    known = np.isfinite(depth_m) & (depth_m > 0) & (depth_m <= MAX_DEPTH_M)
    return np.where(known, depth_m, np.float32(0))
