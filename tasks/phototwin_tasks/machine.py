"""What this machine can run: refused in one sentence before any work is done, not by a library in the middle of it."""

from __future__ import annotations

import importlib.util
import re

from phototwin.errors import InputError

NEEDED = {
    "isaacsim_physx": ("isaacsim", "Isaac Sim"),
    "isaacsim_rtx": ("isaacsim", "Isaac Sim"),
    "path_traced": ("mitsuba", "Mitsuba (extra truth of this project)"),
    "ovrtx": ("ovrtx", "the package 'ovrtx' and an RTX GPU"),
}
"""Presets that need more than this project installs: module, and what to call it."""


def check_machine(physics: str, renderer: str, device: str) -> None:
    """Refuse what is not here.

    Raises:
        InputError: An engine or renderer is not installed, or there is no such device.
    """
    for option, value, other in (("physics", physics, "ovphysx"), ("renderer", renderer, "newton_warp")):
        module, name = NEEDED.get(value, ("", ""))
        if module and importlib.util.find_spec(module) is None:
            raise InputError(
                f"--{option} {value} needs {name}, which this Python does not have: install it, "
                f"or use another {option} such as {other}."
            )
    if device == "cpu":
        return
    if not re.fullmatch(r"cuda:\d+", device):
        raise InputError(f"Unknown device '{device}'. Give cpu or cuda:N, for example cuda:0.")
    import torch

    if int(device[5:]) >= torch.cuda.device_count():
        raise InputError(
            f"--device {device}: this machine has {torch.cuda.device_count()} CUDA devices that PyTorch can use; "
            "use --device cpu, or check the NVIDIA driver."
        )
