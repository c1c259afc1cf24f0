"""The models that have a short name: per family, the best first."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Model:
    """A backend and the weights that it runs on.

    Attributes:
        target: "module:Attr"; called with one folder per entry of ``weights``, it gives the backend.
        weights: Repositories that hold the weights.
        licence: Licence of the weights.
        free: The licence allows any use without asking; others are taken only by name.
        packages: Modules that must be installed.
    """

    target: str
    weights: tuple[str, ...]
    licence: str
    free: bool = True
    packages: tuple[str, ...] = ("torch", "transformers")


DIFFUSION = ("torch", "transformers", "diffusers")

DEPTH = {
    "depth_pro": Model(
        "phototwin.backends.depth:DepthPro", ("apple/DepthPro-hf",), "Apple ML Research Model, research only", False
    ),
    "depth_anything_large": Model(
        "phototwin.backends.depth:DepthAnything",
        ("depth-anything/Depth-Anything-V2-Metric-Indoor-Large-hf",),
        "CC-BY-NC-4.0, no commercial use",
        False,
    ),
    "depth_anything_base": Model(
        "phototwin.backends.depth:DepthAnything",
        ("depth-anything/Depth-Anything-V2-Metric-Indoor-Base-hf",),
        "CC-BY-NC-4.0, no commercial use",
        False,
    ),
    "depth_anything": Model(
        "phototwin.backends.depth:DepthAnything",
        ("depth-anything/Depth-Anything-V2-Metric-Indoor-Small-hf",),
        "Apache-2.0",
    ),
    "zoedepth": Model("phototwin.backends.depth:ZoeDepth", ("Intel/zoedepth-nyu",), "MIT"),
}
SEGMENTATION = {
    "sam3": Model("phototwin.backends.segmentation:Sam3", ("facebook/sam3",), "SAM License, some uses excluded", False),
    "grounded_sam2": Model(
        "phototwin.backends.segmentation:GroundedSam2",
        ("IDEA-Research/grounding-dino-base", "facebook/sam2.1-hiera-large"),
        "Apache-2.0",
    ),
    "grounded_sam2_small": Model(
        "phototwin.backends.segmentation:GroundedSam2",
        ("IDEA-Research/grounding-dino-tiny", "facebook/sam2.1-hiera-small"),
        "Apache-2.0",
    ),
}
LISTING = {
    "qwen3_vl": Model("phototwin.backends.listing:VisionLanguage", ("Qwen/Qwen3-VL-2B-Instruct",), "Apache-2.0"),
    "smolvlm": Model("phototwin.backends.listing:VisionLanguage", ("HuggingFaceTB/SmolVLM-Instruct",), "Apache-2.0"),
    "smolvlm_small": Model("phototwin.backends.listing:VisionLanguage", ("HuggingFaceTB/SmolVLM-500M-Instruct",), "Apache-2.0"),
}  # fmt: skip
INPAINTING = {
    "sdxl_inpainting": Model(
        "phototwin.backends.inpainting:DiffusionInpainter",
        ("diffusers/stable-diffusion-xl-1.0-inpainting-0.1",),
        "CreativeML Open RAIL++-M, some uses excluded",
        False,
        DIFFUSION,
    ),
    "sd_inpainting": Model(
        "phototwin.backends.inpainting:DiffusionInpainter",
        ("stable-diffusion-v1-5/stable-diffusion-inpainting",),
        "CreativeML Open RAIL-M, some uses excluded",
        False,
        DIFFUSION,
    ),
}
FAMILIES = {"depth": DEPTH, "segmentation": SEGMENTATION, "listing": LISTING, "inpainting": INPAINTING}
