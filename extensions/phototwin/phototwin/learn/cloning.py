"""A small network for behaviour cloning: where things are in the picture, as key points, and what the joints read -> the next actions."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional

from phototwin.data.lerobot import IMAGE_KEY
from phototwin.learn.demos import ACTION, MARKS, PADDED, PLACES, STATE
from phototwin.learn.eye import Look, make_convolutions, seeing_loss

HIDDEN = 256
GRIP_WEIGHT = 0.2
"""Of the gripper's logistic loss against the L1 of the joints."""
DROPPED = 0.1


class CloningNet(nn.Module):
    """An eye, and a perceptron on top.

    Args:
        states: Joint readings, S.
        actions: Numbers of an action, A; the last is the gripper, positive opens.
        chunk: Actions that are predicted at once, H.
        places: So many key points are taught where to lie.
        marks: So many numbers of marks are told from the whole picture.
    """

    def __init__(self, states: int, actions: int, chunk: int, places: int, marks: int) -> None:
        super().__init__()
        self.chunk, self.actions = chunk, actions
        self.see = make_convolutions()
        self.look = Look(places, marks)
        self.think = nn.Sequential(
            nn.Linear(self.look.numbers + states, HIDDEN),
            nn.ReLU(),
            nn.Dropout(DROPPED),
            nn.Linear(HIDDEN, HIDDEN),
            nn.ReLU(),
            nn.Linear(HIDDEN, chunk * actions),
        )

    def forward(self, rgb: torch.Tensor, state: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Of frames (B, 3, h, w) and states (B, S): normalised actions (B, H, A), the gripper's as a logit; and where things are and marks, as ``Look`` tells them."""
        seen, heat, marks = self.look(self.see(rgb - 0.5))
        return self.think(torch.cat([seen, state], -1)).view(-1, self.chunk, self.actions), heat, marks


LABELS = {STATE: "state", ACTION: "action", MARKS: "marks"}
"""What has units, and its short name."""


class _Units(nn.Module):
    """Numbers less their mean, over their standard deviation, and back."""

    def __init__(self, mean: Any, std: Any) -> None:
        super().__init__()
        self.mean: torch.Tensor
        self.std: torch.Tensor
        self.register_buffer("mean", torch.as_tensor(mean, dtype=torch.float32))
        self.register_buffer("std", torch.as_tensor(std, dtype=torch.float32).clamp(min=1e-3))

    def forward(self, value: torch.Tensor) -> torch.Tensor:
        return (value - self.mean) / self.std

    def back(self, value: torch.Tensor) -> torch.Tensor:
        """What ``forward`` was given."""
        return value * self.std + self.mean


class CloningPolicy(nn.Module):
    """``CloningNet`` in the units of the data.

    Args:
        chunk: Actions that are predicted at once.
        places: So many key points are taught where to lie.
        stats: Mean and standard deviation of each of ``LABELS``.
    """

    def __init__(self, chunk: int, places: int, stats: dict[str, tuple[Any, Any]]) -> None:
        super().__init__()
        self.units = nn.ModuleDict({label: _Units(*stats[name]) for name, label in LABELS.items()})
        sizes = {label: len(stats[name][0]) for name, label in LABELS.items()}
        self.states = sizes["state"]
        self.net = CloningNet(sizes["state"], sizes["action"], chunk, places, sizes["marks"])

    def loss(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """L1 of the joints, logistic loss of the gripper, and of the key points on tool and objects, L1 of the marks; of a batch with LeRobot's names."""
        told, located, marks = self.net(batch[IMAGE_KEY], self.units["state"](batch[STATE]))
        wanted = self.units["action"](batch[ACTION])
        counts = (~batch[PADDED])[..., None].float()
        joints = ((told - wanted)[..., :-1].abs() * counts).sum() / (counts.sum() * (told.shape[-1] - 1))
        opens = (batch[ACTION][..., -1] > 0).float()
        grip = functional.binary_cross_entropy_with_logits(told[..., -1], opens)
        seeing = seeing_loss(located, marks, batch[PLACES], self.units["marks"](batch[MARKS]))
        return joints + GRIP_WEIGHT * grip + seeing

    def chunks(self, rgb: torch.Tensor, state: torch.Tensor) -> torch.Tensor:
        """Actions (B, H, A) in the units of the data for frames (B, 3, h, w) in 0..1 and states (B, S)."""
        told, _, _ = self.net(rgb, self.units["state"](state))
        joints = self.units["action"].back(told)[..., :-1]  # pyright: ignore[reportCallIssue]
        return torch.cat([joints, torch.where(told[..., -1:] > 0, 1.0, -1.0)], -1)
