"""LeRobot's own policies on demonstrations: ACT and Diffusion Policy, at a size that trains on a CPU or at the usual one."""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from typing import Any

import torch
from torch import nn

from phototwin.data.lerobot import IMAGE_KEY
from phototwin.learn.demos import ACTION, MARKS, MARKS_B, PADDED, PLACES, STATE
from phototwin.learn.eye import MARK_STD, Look, make_convolutions, seeing_loss

TINY, EYE = "resnet_phototwin_tiny", "resnet_phototwin_eye"
"""Names under which LeRobot finds the small backbones of Diffusion Policy and of ACT; it wants some that begin with "resnet"."""
TAUGHT = 3
"""Key points of ACT's eye that are taught: on the tool, on what is taken, and on where it belongs."""
WIDTHS = (16, 32, 64, 128)
INFERENCE_STEPS = 10


class _Block(nn.Module):
    """Two convolutions, added to what they are given; at first they add nothing, so that depth needs no norm."""

    def __init__(self, before: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, width, 3, stride, 1)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1)
        for value in self.conv2.parameters():
            nn.init.zeros_(value)
        self.past = nn.Identity() if before == width and stride == 1 else nn.Conv2d(before, width, 1, stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.past(x) + self.conv2(torch.relu(self.conv1(x))))


class TinyResNet(nn.Module):
    """A residual network of four blocks, a hundredth of ResNet-18, for Diffusion Policy, with the children that LeRobot takes from torchvision's.

    Without norms: frozen statistics of no training would be none, and norms of groups of channels cost a third of a step.

    Source: Zhang et al., "Fixup Initialization: Residual Learning Without Normalization", 2019 (blocks that begin as nothing).
    """

    def __init__(self, **torchvision_options: Any) -> None:
        super().__init__()
        self.conv1, self.relu = nn.Conv2d(3, WIDTHS[0], 7, 2, 3), nn.ReLU()
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        before = WIDTHS[0]
        for i, width in enumerate(WIDTHS):
            setattr(self, f"layer{i + 1}", _Block(before, width, 1 if i == 0 else 2))
            before = width
        self.avgpool, self.fc = nn.AdaptiveAvgPool2d(1), nn.Linear(before, 1)


class EyeNet(nn.Module):
    """``learn.eye`` with the children that LeRobot's ACT takes from torchvision's networks: all that is seen is one token.

    Of 3 by 3 tokens of a residual network it took a thing that was shoved less often, see docs/benchmarks.md.
    """

    def __init__(self, **torchvision_options: Any) -> None:
        super().__init__()
        self.conv1, self.layer4 = make_convolutions(), EyeMap()
        self.fc = nn.Linear(self.layer4.look.numbers, 1)


class EyeMap(nn.Module):
    """``Look`` as a feature map of one cell, (B, numbers, 1, 1); what it was taught to see is kept for the loss."""

    def __init__(self) -> None:
        super().__init__()
        self.look = Look(TAUGHT, 2 * len(MARKS_B))
        self.mean: torch.Tensor
        self.register_buffer("mean", torch.zeros(2 * len(MARKS_B)))
        self._seen: tuple[torch.Tensor, torch.Tensor] | None = None

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Of features (B, C, cells, cells)."""
        numbers, heat, marks = self.look(features)
        self._seen = (heat, marks) if self.training else None
        return numbers[..., None, None]

    def loss(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """Of what it has just seen; 0 where it does not learn."""
        if self._seen is None:
            return self.mean.new_zeros(())
        (heat, marks), self._seen = self._seen, None
        return seeing_loss(heat, marks, batch[PLACES], (batch[MARKS] - self.mean) / MARK_STD)


class LerobotPolicy(nn.Module):
    """One of LeRobot's policies with its processors, which bring data to its units and back.

    Args:
        kind: "act" or "diffusion".
        size: "small" (about a million numbers) or "usual" (LeRobot's own settings, without downloaded weights).
        image_px: Side of the frames.
        chunk: Actions that are predicted at once.
        stats: LeRobot's statistics of each feature: mean, std, min, max; and the mean of the marks.
    """

    def __init__(self, kind: str, size: str, image_px: int, chunk: int, stats: dict[str, dict[str, Any]]) -> None:
        super().__init__()
        os.environ["HF_HUB_OFFLINE"] = "1"
        from lerobot.configs.types import FeatureType, PolicyFeature

        sizes = {name: (len(stats[name]["mean"]),) for name in (STATE, ACTION)}
        inputs = {
            IMAGE_KEY: PolicyFeature(FeatureType.VISUAL, (3, image_px, image_px)),
            STATE: PolicyFeature(FeatureType.STATE, sizes[STATE]),
        }
        outputs = {ACTION: PolicyFeature(FeatureType.ACTION, sizes[ACTION])}
        _offer_tiny()
        config = MAKERS[kind](size, chunk, {"input_features": inputs, "output_features": outputs, "device": "cpu"})
        self._take(config, {name: value for name, value in stats.items() if name != MARKS})
        for part in self.eyes():
            part.mean.copy_(torch.as_tensor(stats[MARKS]["mean"]))

    def _take(self, config: Any, stats: dict[str, dict[str, Any]] | None, folder: Path | None = None) -> None:
        from lerobot.policies.factory import get_policy_class, make_pre_post_processors

        made = get_policy_class(config.type)
        self.policy: Any = made(config) if folder is None else made.from_pretrained(folder, config=config)
        self.diffusion = config.type == "diffusion"
        self.states = config.robot_state_feature.shape[0]
        tensors = {
            k: {n: torch.as_tensor(v, dtype=torch.float32) for n, v in s.items()} for k, s in (stats or {}).items()
        }
        given: dict[str, Any] = {"dataset_stats": tensors} if folder is None else {"pretrained_path": str(folder)}
        self.before, self.after = make_pre_post_processors(config, **given)

    def to(self, *args: Any, **kwargs: Any) -> LerobotPolicy:
        """As every module; LeRobot's step that brings data to a device follows."""
        from lerobot.processor.device_processor import DeviceProcessorStep

        super().to(*args, **kwargs)
        device = next(self.policy.parameters()).device
        for step in self.before.steps:
            if isinstance(step, DeviceProcessorStep):
                step.device, step.tensor_device = device.type, device
        return self

    def loss(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """The policy's own loss of a batch with LeRobot's names."""
        given = self.before({name: batch[name] for name in (IMAGE_KEY, STATE, ACTION)})
        given[PADDED] = batch[PADDED]
        if self.diffusion:
            given[STATE] = given[STATE].unsqueeze(1)
        loss = self.policy(given)[0]
        return loss + sum(part.loss(batch) for part in self.eyes())

    def eyes(self) -> list[EyeMap]:
        """The parts that are taught what to see."""
        return [part for part in self.modules() if isinstance(part, EyeMap)]

    def chunks(self, rgb: torch.Tensor, state: torch.Tensor) -> torch.Tensor:
        """Actions (B, H, A) in the units of the data for frames (B, 3, h, w) in 0..1 and states (B, S)."""
        given = self.before({IMAGE_KEY: rgb, STATE: state})
        if self.diffusion:
            given[STATE] = given[STATE].unsqueeze(1)
        return self.after(self.policy.predict_action_chunk(given))

    def units(self) -> dict[str, torch.Tensor]:
        """What LeRobot's processors bring numbers to the policy's units and back with, which is none of its weights."""
        steps = enumerate([*self.before.steps, *self.after.steps])
        return {f"units.{i}.{name}": value for i, step in steps for name, value in step.state_dict().items()}

    def save(self, folder: Path) -> None:
        """Write it as LeRobot does, so that ``from_pretrained`` of any LeRobot program reads it."""
        self.policy.save_pretrained(folder)
        self.before.save_pretrained(folder)
        self.after.save_pretrained(folder)

    @classmethod
    def load(cls, folder: Path) -> LerobotPolicy:
        """What ``save`` has written."""
        os.environ["HF_HUB_OFFLINE"] = "1"
        importlib.import_module("lerobot.policies.factory")  # makes the kinds known by whose names configs are read
        from lerobot.configs.policies import PreTrainedConfig

        _offer_tiny()
        policy = cls.__new__(cls)
        nn.Module.__init__(policy)
        policy._take(PreTrainedConfig.from_pretrained(folder), None, folder)
        return policy


def _offer_tiny() -> None:
    """Let LeRobot, which asks torchvision for a backbone by name, find the small ones too."""
    import torchvision

    for name, made in ((TINY, TinyResNet), (EYE, EyeNet)):
        setattr(torchvision.models, name, made)


def _act(size: str, chunk: int, features: dict[str, Any]) -> Any:
    from lerobot.policies.act.configuration_act import ACTConfig

    small: dict[str, Any] = {
        "vision_backbone": EYE,
        "dim_model": 128,
        "n_heads": 4,
        "dim_feedforward": 512,
        "n_encoder_layers": 2,
        "n_vae_encoder_layers": 2,
        "latent_dim": 16,
    }
    options = small if size == "small" else {}
    return ACTConfig(chunk_size=chunk, n_action_steps=chunk, pretrained_backbone_weights=None, **options, **features)


def _diffusion(size: str, chunk: int, features: dict[str, Any]) -> Any:
    from lerobot.policies.diffusion.configuration_diffusion import DiffusionConfig

    # It tells the actions instead of the noise in them: of a short training the noise that it tells wrongly stays in the actions.
    small: dict[str, Any] = {
        "vision_backbone": TINY,
        "down_dims": (64, 128, 256),
        "diffusion_step_embed_dim": 64,
        "prediction_type": "sample",
    }
    options = small if size == "small" else {"use_group_norm": True}
    return DiffusionConfig(
        n_obs_steps=1,
        horizon=chunk,
        n_action_steps=chunk,
        pretrained_backbone_weights=None,
        noise_scheduler_type="DDIM",
        num_inference_steps=INFERENCE_STEPS,
        do_mask_loss_for_padding=True,
        **options,
        **features,
    )


MAKERS = {"act": _act, "diffusion": _diffusion}
