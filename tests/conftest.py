"""Settings for every test: modest threads, one kernel cache, and skips for what this machine lacks."""

import os
import tempfile
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "2")
os.environ.setdefault("WARP_CACHE_PATH", str(Path(tempfile.gettempdir()) / "phototwin-warp-cache"))
os.environ.setdefault("HF_HUB_OFFLINE", "1")


def has_cuda() -> bool:
    import torch

    return torch.cuda.is_available()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what is marked ``gpu`` without a CUDA device and ``weights`` without a folder of model weights."""
    wants_gpu = [item for item in items if item.get_closest_marker("gpu")]
    if wants_gpu and not has_cuda():
        for item in wants_gpu:
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))
    if not os.environ.get("PHOTOTWIN_WEIGHTS"):
        for item in items:
            if item.get_closest_marker("weights"):
                item.add_marker(pytest.mark.skip(reason="needs model weights: set PHOTOTWIN_WEIGHTS to their folder"))
