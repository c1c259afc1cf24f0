"""Read and write the image files of a twin; errors name the file."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image

MAX_DEPTH_M = 65.535


def save_rgb(file: Path, rgb: np.ndarray) -> None:
    """Write (H, W, 3) uint8 as PNG."""
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.ascontiguousarray(rgb)).save(file, compress_level=4)


def png_bytes(rgb: np.ndarray) -> bytes:
    """What a PNG file of (H, W, 3) uint8 holds."""
    stream = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(rgb)).save(stream, "PNG", compress_level=4)
    return stream.getvalue()


def load_rgb(file: Path) -> np.ndarray:
    """(H, W, 3) uint8 of an image file of ours."""
    return np.asarray(Image.open(file).convert("RGB"))


def save_depth(file: Path, depth_m: np.ndarray) -> None:
    """Write depth (H, W) [m] as 16-bit PNG in millimetres; not finite, not positive or too far becomes 0."""
    known = np.isfinite(depth_m) & (depth_m > 0) & (depth_m <= MAX_DEPTH_M)
    Image.fromarray(np.where(known, np.round(np.where(known, depth_m, 0) * 1000), 0).astype(np.uint16)).save(file)


def load_depth(file: Path) -> np.ndarray:
    """Depth (H, W) float32 [m] of a 16-bit PNG in millimetres; 0 stays 0 (unknown)."""
    return np.asarray(Image.open(file)).astype(np.float32) / 1000.0


def save_ids(file: Path, ids: np.ndarray) -> None:
    """Write ids (H, W) as 8-bit PNG."""
    Image.fromarray(ids.astype(np.uint8)).save(file)


def load_ids(file: Path) -> np.ndarray:
    """Ids (H, W) uint8."""
    return np.asarray(Image.open(file))
