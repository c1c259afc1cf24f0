"""How small policies see: where things are in the picture, as key points, and from where the camera looks; and the losses that teach it."""

from __future__ import annotations

import torch
from torch import nn

WIDTHS = (32, 64, 64, 64)
"""Channels of the convolutions; the first two halve the picture."""
STRIDE = 4
KEYPOINTS = 32
"""Key points that are free to be wherever they help."""
WIDE = 128
"""Numbers of what the whole picture tells."""
SIDE = 6
"""What the whole picture is brought to before it is told: a sixteenth of 96 px."""
MARK_STD = 0.05
"""What marks are told in, of half the frame."""
PLACE_WEIGHT = 0.2
"""Of the cross entropy of the first key points, which are taught to lie on the tool and on the objects: of the distance alone they hardly learn."""
MARK_WEIGHT = 0.2
"""Of the L1 of the marks, in units of ``MARK_STD``: without, a policy finds out little of from where it looks."""


def make_convolutions() -> nn.Sequential:
    """Frames (B, 3, h, w) about 0 -> features (B, ``WIDTHS[-1]``, h / 4, w / 4)."""
    a, b, c, d = WIDTHS
    return nn.Sequential(
        nn.Conv2d(3, a, 5, 2, 2),
        nn.ReLU(),
        nn.Conv2d(a, b, 3, 2, 1),
        nn.ReLU(),
        nn.Conv2d(b, c, 3, 1, 1),
        nn.ReLU(),
        nn.Conv2d(c, d, 3, 1, 1),
        nn.ReLU(),
    )


class Look(nn.Module):
    """Features -> numbers: key points by soft arg max, what the whole picture tells, and marks.

    Key points say to a fraction of a pixel where what they have learned to look for is; what the whole picture tells beside them says
    whether it is there, and from where the camera looks.

    Args:
        places: So many key points are taught where to lie, the first.
        marks: So many numbers of marks are told from the whole picture.

    Source: Levine et al., "End-to-End Training of Deep Visuomotor Policies", 2016 (spatial soft arg max).
    """

    def __init__(self, places: int, marks: int) -> None:
        super().__init__()
        self.places, self.numbers = places, 2 * (KEYPOINTS + places) + WIDE + marks
        features = WIDTHS[-1]
        self.point = nn.Conv2d(features, KEYPOINTS + places, 1)
        self.whole = nn.Sequential(
            nn.Conv2d(features, 32, 3, 2, 1),
            nn.ReLU(),
            nn.Conv2d(32, 32, 3, 2, 1),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(SIDE),
            nn.Flatten(),
            nn.Linear(32 * SIDE**2, WIDE),
            nn.ReLU(),
        )
        self.mark = nn.Linear(WIDE + 2 * KEYPOINTS, marks)

    def forward(self, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Of features (B, C, cells, cells): all that is told (B, ``numbers``); how likely what is looked for is in each cell, (B, places, cells ** 2) logits; and normalised marks (B, marks)."""
        heat = self.point(features).float()  # where a key point is must not be rounded
        weight = heat.flatten(2).softmax(-1).view_as(heat)
        rows = _middles(heat.shape[-1]).to(heat.device)
        x, y = (weight.sum(2) * rows).sum(-1), (weight.sum(3) * rows).sum(-1)
        points = torch.stack([x, y], -1).flatten(1)
        whole = self.whole(features)
        marks = self.mark(torch.cat([whole, points[:, 2 * self.places :]], -1))
        return torch.cat([points, whole, marks], -1), heat[:, : self.places].flatten(2), marks


def _middles(cells: int) -> torch.Tensor:
    """Where the middles of the features are, -1 to 1: those of every fourth pixel."""
    return (STRIDE * torch.arange(cells) + 0.5) / (STRIDE * cells) * 2 - 1


def seeing_loss(
    heat: torch.Tensor, marks: torch.Tensor, wanted_places: torch.Tensor, wanted_marks: torch.Tensor
) -> torch.Tensor:
    """How wrong ``Look`` is about where things are and from where it looks.

    Args:
        heat: (B, K, cells ** 2) logits.
        marks: (B, M) normalised.
        wanted_places: (B, 2 K or fewer), -1 to 1, NaN where unknown: only the first are known of a scene with fewer things.
        wanted_marks: (B, M) normalised.
    """
    camera = (marks.float() - wanted_marks).abs().mean()
    return PLACE_WEIGHT * _place_loss(heat.float(), wanted_places) + MARK_WEIGHT * camera


def _place_loss(heat: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """Cross entropy of logits with the four cells about each place, whose mean is the place; what is unknown does not count."""
    cells = round(heat.shape[-1] ** 0.5)
    place = places[:, : 2 * heat.shape[1]].reshape(len(places), -1, 2)
    log = heat[:, : place.shape[1]].log_softmax(-1)
    known = ~place.isnan().any(-1)
    at = (((place.nan_to_num() + 1) / 2 * cells * STRIDE - 0.5) / STRIDE).clamp(0, cells - 1.001)
    low, share = at.floor().long(), at - at.floor()
    loss = torch.zeros_like(log[..., 0])
    for dx in (0, 1):
        for dy in (0, 1):
            cell = (low[..., 1] + dy) * cells + low[..., 0] + dx
            weight = (share[..., 0] if dx else 1 - share[..., 0]) * (share[..., 1] if dy else 1 - share[..., 1])
            loss = loss - weight * log.gather(-1, cell[..., None])[..., 0]
    return (loss * known).sum() / known.sum().clamp(min=1)
