"""A policy as an ONNX file: frames and readings in, actions in their own units out, for programs without torch."""

from __future__ import annotations

import copy
import inspect
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import nn

ACTIONS = "actions"
BATCH = "batch"


class _Chunks(nn.Module):
    """The ``chunks`` of a policy as a module's only method."""

    def __init__(self, policy: Any) -> None:
        super().__init__()
        self.policy = policy

    def forward(self, *given: torch.Tensor) -> torch.Tensor:
        return self.policy.chunks(*given)


class _Pool(nn.Module):
    """``AdaptiveAvgPool2d`` as two products, which ONNX has for any size; its own pooling needs one that divides the picture's."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def forward(self, value: torch.Tensor) -> torch.Tensor:
        down, across = (_shares(int(count), self.size) for count in value.shape[-2:])
        return down @ value @ across.T


def _shares(count: int, size: int) -> torch.Tensor:
    """How much each of ``count`` cells gives to each of ``size`` means, (size, count), with torch's borders."""
    found = torch.zeros(size, count)
    for i in range(size):
        first, end = i * count // size, -(-(i + 1) * count // size)
        found[i, first:end] = 1.0 / (end - first)
    return found


def export_onnx(policy: Any, given: tuple[torch.Tensor, ...], file: Path) -> None:
    """Write what ``policy.chunks`` computes; inputs have the names of its arguments, the output is ``actions``, any number of rows goes.

    Args:
        policy: Which gives the same actions for the same inputs.
        given: An example of every argument, a row an attempt.
        file: Where it goes.
    """
    policy = copy.deepcopy(policy)
    for parent in list(policy.modules()):
        for name, child in parent.named_children():
            if isinstance(child, nn.AdaptiveAvgPool2d) and isinstance(child.output_size, int):
                setattr(parent, name, _Pool(child.output_size))
    names = list(inspect.signature(policy.chunks).parameters)[: len(given)]
    axes = {name: {0: BATCH} for name in (*names, ACTIONS)}
    with warnings.catch_warnings():
        # Tracing takes a fraction of a second; torch's newer exporter took 12 to 24 s and wrote paths of the machine into the file.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            _Chunks(policy).eval(),
            given,
            file,
            input_names=names,
            output_names=[ACTIONS],
            dynamic_axes=axes,
            dynamo=False,
        )
