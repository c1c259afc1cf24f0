"""Tiny models with random weights, saved as the real ones are, so that the real loading code runs on them offline."""

from pathlib import Path

import numpy as np
import torch

VIT = {"hidden_size": 16, "num_attention_heads": 2, "mlp_ratio": 2}


def save(folder: Path, *parts) -> Path:
    """Save model and processors into one folder."""
    from transformers.utils import logging

    logging.disable_progress_bar()
    for part in parts:
        part.save_pretrained(folder)
    return folder


def center_output(head: torch.nn.Module, value: float) -> None:
    """Let the last convolution of a head answer around ``value``."""
    last = [m for m in head.modules() if isinstance(m, torch.nn.Conv2d)][-1]
    with torch.no_grad():
        last.weight.mul_(0.01)
        last.bias.fill_(value)


def depth_pro(folder: Path, fov_deg: float = 60.0, has_fov: bool = True) -> Path:
    from transformers import DepthProConfig, DepthProForDepthEstimation, DepthProImageProcessor

    torch.manual_seed(0)
    vit = {"model_type": "dinov2", "num_hidden_layers": 2, "image_size": 32, "patch_size": 4, **VIT}
    config = DepthProConfig(
        patch_size=32,
        intermediate_hook_ids=[1, 0],
        intermediate_feature_dims=[16, 8],
        scaled_images_feature_dims=[16, 16, 16],
        fusion_hidden_size=16,
        merge_padding_value=1,
        use_fov_model=has_fov,
        image_model_config=vit,
        patch_model_config=vit,
        fov_model_config=vit,
    )
    model = DepthProForDepthEstimation(config)
    center_output(model.head, 1.0)  # about where trained weights are: inverse depth 1, 60 degrees
    if has_fov:
        center_output(model.fov_model.head, fov_deg)
    return save(folder, model, DepthProImageProcessor(size={"height": 128, "width": 128}))


def depth_anything(folder: Path, kind: str = "metric") -> Path:
    from transformers import DepthAnythingConfig, DepthAnythingForDepthEstimation, Dinov2Config, DPTImageProcessor

    torch.manual_seed(0)
    backbone = Dinov2Config(
        num_hidden_layers=4, image_size=70, patch_size=14, out_indices=[1, 2, 3, 4], reshape_hidden_states=False, **VIT
    )
    config = DepthAnythingConfig(
        backbone_config=backbone,
        reassemble_hidden_size=16,
        neck_hidden_sizes=[8, 8, 16, 16],
        fusion_hidden_size=8,
        head_hidden_size=8,
        depth_estimation_type=kind,
        max_depth=20,
    )
    processor = DPTImageProcessor(size={"height": 70, "width": 70}, keep_aspect_ratio=True, ensure_multiple_of=14)
    return save(folder, DepthAnythingForDepthEstimation(config), processor)


def zoedepth(folder: Path) -> Path:
    from transformers import BeitConfig, ZoeDepthConfig, ZoeDepthForDepthEstimation, ZoeDepthImageProcessor

    torch.manual_seed(0)
    backbone = BeitConfig(
        hidden_size=16,
        num_hidden_layers=4,
        num_attention_heads=2,
        intermediate_size=32,
        image_size=64,
        out_indices=[1, 2, 3, 4],
        reshape_hidden_states=False,
        use_relative_position_bias=True,
    )
    config = ZoeDepthConfig(
        backbone_config=backbone,
        neck_hidden_sizes=[8, 8, 16, 16],
        fusion_hidden_size=8,
        bottleneck_features=8,
        num_relative_features=8,
        num_attractors=[4, 2, 2, 1],
        bin_embedding_dim=8,
        bin_configurations=[{"n_bins": 8, "min_depth": 0.001, "max_depth": 10.0, "name": "nyu"}],
    )
    processor = ZoeDepthImageProcessor(size={"height": 64, "width": 64}, ensure_multiple_of=32)
    return save(folder, ZoeDepthForDepthEstimation(config), processor)


def photo(height: int = 96, width: int = 160) -> np.ndarray:
    """A photo that is not square, so that swapped sides show."""
    rows, columns = np.mgrid[:height, :width]
    rgb = np.stack([columns * 255 // width, rows * 255 // height, np.full((height, width), 90)], -1).astype(np.uint8)
    rgb[height // 3 : height // 2, width // 4 : width // 2] = (200, 30, 30)
    return rgb
