"""What lies behind the objects, by an inpainting pipeline of diffusers; pixels outside the hole stay bit by bit."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from phototwin.backends.weights import as_image, load_pipeline, pick_device
from phototwin.errors import PerceptionError

RING_PX = 8
"""How far around a hole the pipeline's picture is compared with the photo's, to take out the decoder's shift of colours."""


@dataclass(frozen=True)
class InpaintConfig:
    """How to fill.

    Attributes:
        prompt: What to show.
        negative_prompt: What not to show.
        steps: Denoising steps; more than about 30 changes little.
        guidance: How closely to follow the prompt, the pipelines' own default.
        strength: Share of noise at the start. SDXL's inpainting needs less than 1; the hole is smoothed first, so nothing of the object leaks.
        context: What is shown around a hole, as a share of its longer side, at each side.
        min_context_px: And at least.
        side_px: Longer side of the pictures that the pipeline works on; None for the size it was trained at.
        seed: Seed of the noise.
    """

    prompt: str = "empty surface, nothing on it, plain background, photo"
    negative_prompt: str = "object, item, text, hand, shadow"
    steps: int = 30
    guidance: float = 7.5
    strength: float = 0.99
    context: float = 0.75
    min_context_px: int = 48
    side_px: int | None = None
    seed: int = 0


class DiffusionInpainter:
    """Any pipeline that ``AutoPipelineForInpainting`` knows. Source: Rombach et al. 2022, arXiv 2112.10752, section 4.5."""

    def __init__(self, weights: Path, config: InpaintConfig | None = None) -> None:
        self.weights = weights
        self.config = config or InpaintConfig()

    @cached_property
    def _loaded(self) -> Any:
        import torch
        from diffusers import AutoPipelineForInpainting

        return load_pipeline(
            AutoPipelineForInpainting,
            self.weights,
            dtype=torch.float16 if pick_device() == "cuda" else torch.float32,
        )

    def __call__(self, rgb: np.ndarray, mask: np.ndarray) -> np.ndarray:
        """The photo with the hole filled: one picture per separate part of the hole, with whatever else lies in its window."""
        import cv2

        out, todo = rgb.copy(), mask.copy()
        _, _, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8))
        for left, top, width, height, _ in sorted(stats[1:].tolist(), key=lambda row: -row[4]):  # the largest first
            box = (slice(top, top + height), slice(left, left + width))
            if todo[box].any():
                window = widen(box, rgb.shape[:2], self.config)
                out[window] = self._fill(out[window], todo[window])
                todo[window] = False
        return out

    def _fill(self, rgb: np.ndarray, hole: np.ndarray) -> np.ndarray:
        """One window (h, w, 3), filled where the hole (h, w) is."""
        import torch
        from PIL import Image

        pipeline, config = self._loaded, self.config
        height, width = rgb.shape[:2]
        size = working_size(width, height, config.side_px or trained_side(pipeline), pipeline.vae_scale_factor)
        smooth = as_image(smooth_hole(rgb, hole)).resize(size, Image.Resampling.LANCZOS)
        result = pipeline(
            prompt=config.prompt,
            negative_prompt=config.negative_prompt,
            image=smooth,
            mask_image=Image.fromarray(hole).convert("L").resize(size, Image.Resampling.NEAREST),
            width=size[0],
            height=size[1],
            strength=config.strength,
            num_inference_steps=config.steps,
            guidance_scale=config.guidance,
            generator=torch.Generator("cpu").manual_seed(config.seed),  # the same noise on every device
        )
        if any(getattr(result, "nsfw_content_detected", None) or ()):
            raise PerceptionError(
                f"The safety filter of the pipeline in '{self.weights}' blanked its picture: choose another seed or model."
            )
        drawn = np.asarray(result.images[0].resize((width, height), Image.Resampling.LANCZOS)).astype(np.float32)
        return blend_hole(rgb, drawn, hole)


def widen(box: tuple[slice, slice], shape: tuple[int, int], config: InpaintConfig) -> tuple[slice, slice]:
    """The window of a hole's bounding box with its context, inside the photo."""
    margin = max(round(config.context * max(side.stop - side.start for side in box)), config.min_context_px)
    rows, columns = (
        slice(max(side.start - margin, 0), min(side.stop + margin, length))
        for side, length in zip(box, shape, strict=True)
    )
    return rows, columns


def working_size(width: int, height: int, side_px: int, multiple: int) -> tuple[int, int]:
    """Width and height that a pipeline takes: the longer side ``side_px``, both multiples of ``multiple`` and at least it."""
    scale = side_px / max(width, height)
    return tuple(max(round(length * scale / multiple), 1) * multiple for length in (width, height))  # pyright: ignore[reportReturnType]


def trained_side(pipeline: Any) -> int:
    """Side of the pictures that a pipeline was trained on [px]."""
    network = getattr(pipeline, "unet", None)
    latent = getattr(getattr(network, "config", None), "sample_size", None) or 128
    return int(latent) * pipeline.vae_scale_factor


def smooth_hole(rgb: np.ndarray, hole: np.ndarray) -> np.ndarray:
    """The window with the nearest known colour in the hole, so that nothing of the object is left to be redrawn."""
    from scipy import ndimage

    if hole.all():
        return rgb
    nearest: Any = ndimage.distance_transform_edt(hole, return_distances=False, return_indices=True)
    return rgb[tuple(nearest)]


def blend_hole(rgb: np.ndarray, drawn: np.ndarray, hole: np.ndarray) -> np.ndarray:
    """``rgb`` (h, w, 3) uint8 with the drawn pixels (h, w, 3) float in the hole, shifted by what the ring around it is off."""
    from scipy import ndimage

    ring = ndimage.binary_dilation(hole, iterations=RING_PX) & ~hole
    shift = np.median(rgb[ring] - drawn[ring], axis=0) if ring.any() else np.zeros(3)
    out = rgb.copy()
    out[hole] = np.clip(np.round(drawn[hole] + shift), 0, 255).astype(np.uint8)
    return out
