"""A small network for behaviour cloning: where things are in the picture, as key points, and what the joints read -> the next actions."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional

from phototwin.data.lerobot import IMAGE_KEY
from phototwin.learn.demos import ACTION, MARKS, PADDED, PLACES, STATE

WIDTHS = (32, 64, 64, 64)
"""Channels of the convolutions; the first two halve the picture."""
STRIDE = 4
KEYPOINTS = 32
HIDDEN = 256
GRIP_WEIGHT = 0.2
"""Of the gripper's logistic loss against the L1 of the joints."""
PLACE_WEIGHT = 0.2
"""Of the cross entropy of the first key points, which are taught to lie on the tool and on the objects: of the distance alone they hardly learn."""
MARK_WEIGHT = 0.2
"""Of the L1 of the marks, in units of ``MARK_STD``: without, a policy finds out little of from where it looks."""
MARK_STD = 0.05
"""What marks are told in, of half the frame."""
WIDE = 128
"""Numbers of what the whole picture tells."""
DROPPED = 0.1


class CloningNet(nn.Module):
    """Convolutions, soft arg max, and a perceptron on top.

    Key points say to a fraction of a pixel where what they have learned to look for is; what the whole picture tells beside them says
    whether it is there, and from where the camera looks.

    Args:
        image_px: Side of the frames.
        states: Joint readings, S.
        actions: Numbers of an action, A; the last is the gripper, positive opens.
        chunk: Actions that are predicted at once, H.
        places: So many key points are taught where to lie.
        marks: So many numbers of marks are told from the whole picture.

    Source: Levine et al., "End-to-End Training of Deep Visuomotor Policies", 2016 (spatial soft arg max).
    """

    def __init__(self, image_px: int, states: int, actions: int, chunk: int, places: int, marks: int) -> None:
        super().__init__()
        self.chunk, self.actions, self.places = chunk, actions, places
        a, b, c, d = WIDTHS
        self.see = nn.Sequential(
            nn.Conv2d(3, a, 5, 2, 2),
            nn.ReLU(),
            nn.Conv2d(a, b, 3, 2, 1),
            nn.ReLU(),
            nn.Conv2d(b, c, 3, 1, 1),
            nn.ReLU(),
            nn.Conv2d(c, d, 3, 1, 1),
            nn.ReLU(),
        )
        self.point = nn.Conv2d(d, KEYPOINTS + places, 1)
        side = -(-image_px // STRIDE // 4)  # two more halvings, rounded up
        self.whole = nn.Sequential(
            nn.Conv2d(d, 32, 3, 2, 1),
            nn.ReLU(),
            nn.Conv2d(32, 32, 3, 2, 1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(32 * side**2, WIDE),
            nn.ReLU(),
        )
        self.mark = nn.Linear(WIDE + 2 * KEYPOINTS, marks)
        seen = 2 * (KEYPOINTS + places) + WIDE + marks
        self.think = nn.Sequential(
            nn.Linear(seen + states, HIDDEN),
            nn.ReLU(),
            nn.Dropout(DROPPED),
            nn.Linear(HIDDEN, HIDDEN),
            nn.ReLU(),
            nn.Linear(HIDDEN, chunk * actions),
        )
        self.cells = image_px // STRIDE
        # Where the middles of the features are: those of every fourth pixel.
        rows = (STRIDE * torch.arange(self.cells) + 0.5) / image_px * 2 - 1
        self.register_buffer("rows", rows, persistent=False)

    def forward(self, rgb: torch.Tensor, state: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Of frames (B, 3, h, w) and states (B, S): normalised actions (B, H, A), the gripper's as a logit; how likely tool and objects are in each cell, (B, 1 + K, cells) logits; and normalised marks (B, 2 M)."""
        features = self.see(rgb - 0.5)
        heat = self.point(features).float()  # where a key point is must not be rounded
        weight = heat.flatten(2).softmax(-1).view_as(heat)
        x, y = (weight.sum(2) * self.rows).sum(-1), (weight.sum(3) * self.rows).sum(-1)
        points = torch.stack([x, y], -1).flatten(1)
        whole = self.whole(features)
        marks = self.mark(torch.cat([whole, points[:, 2 * self.places :]], -1))
        told = self.think(torch.cat([points, whole, marks, state], -1))
        return told.view(-1, self.chunk, self.actions), heat[:, : self.places].flatten(2), marks


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
        image_px: Side of the frames.
        chunk: Actions that are predicted at once.
        places: So many key points are taught where to lie.
        stats: Mean and standard deviation of each of ``LABELS``.
    """

    def __init__(self, image_px: int, chunk: int, places: int, stats: dict[str, tuple[Any, Any]]) -> None:
        super().__init__()
        self.units = nn.ModuleDict({label: _Units(*stats[name]) for name, label in LABELS.items()})
        sizes = {label: len(stats[name][0]) for name, label in LABELS.items()}
        self.states = sizes["state"]
        self.net = CloningNet(image_px, sizes["state"], sizes["action"], chunk, places, sizes["marks"])

    def loss(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """L1 of the joints, logistic loss of the gripper, and of the key points on tool and objects, L1 of the marks; of a batch with LeRobot's names."""
        told, located, marks = self.net(batch[IMAGE_KEY], self.units["state"](batch[STATE]))
        wanted = self.units["action"](batch[ACTION])
        counts = (~batch[PADDED])[..., None].float()
        joints = ((told - wanted)[..., :-1].abs() * counts).sum() / (counts.sum() * (told.shape[-1] - 1))
        opens = (batch[ACTION][..., -1] > 0).float()
        grip = functional.binary_cross_entropy_with_logits(told[..., -1], opens)
        places = self._place_loss(located.float(), batch[PLACES])
        camera = (marks.float() - self.units["marks"](batch[MARKS])).abs().mean()
        return joints + GRIP_WEIGHT * grip + PLACE_WEIGHT * places + MARK_WEIGHT * camera

    def _place_loss(self, heat: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
        """Cross entropy of logits (B, 1 + K, cells) with the four cells about each place (B, 2 + 2 K), whose mean is the place; what is unknown does not count."""
        cells = self.net.cells
        place = places.view(len(places), -1, 2)
        known = ~place.isnan().any(-1)
        at = (((place.nan_to_num() + 1) / 2 * cells * STRIDE - 0.5) / STRIDE).clamp(0, cells - 1.001)
        low, share = at.floor().long(), at - at.floor()
        log = heat.log_softmax(-1)
        loss = torch.zeros_like(log[..., 0])
        for dx in (0, 1):
            for dy in (0, 1):
                cell = (low[..., 1] + dy) * cells + low[..., 0] + dx
                weight = (share[..., 0] if dx else 1 - share[..., 0]) * (share[..., 1] if dy else 1 - share[..., 1])
                loss = loss - weight * log.gather(-1, cell[..., None])[..., 0]
        return (loss * known).sum() / known.sum().clamp(min=1)

    def chunks(self, rgb: torch.Tensor, state: torch.Tensor) -> torch.Tensor:
        """Actions (B, H, A) in the units of the data for frames (B, 3, h, w) in 0..1 and states (B, S)."""
        told, _, _ = self.net(rgb, self.units["state"](state))
        joints = self.units["action"].back(told)[..., :-1]  # pyright: ignore[reportCallIssue]
        return torch.cat([joints, torch.where(told[..., -1:] > 0, 1.0, -1.0)], -1)
