"""Textures of truth scenes: (H, W, 3) linear RGB arrays, made from a description and a seed."""

from __future__ import annotations

from typing import Any

import numpy as np

WOOD_PX_PER_M = 1200.0  # finer than the finest millimetre per pixel of the sample's photo
PLANK_M = 0.145
OILED_WOOD = np.array([0.255, 0.152, 0.088])
TABLE_PX_PER_M = 800.0
CHECK_M = 0.05
PAINT_TILE_M = 0.1  # what one object texture covers on a flat side
LABEL_TILE_M = 0.2


def noise(rng: np.random.Generator, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Smooth noise in -1..1 with a feature size of 1 in the given coordinates."""
    table = rng.uniform(-1, 1, (256, 256))
    i, j = np.floor(x).astype(int), np.floor(y).astype(int)
    fx, fy = (t * t * (3 - 2 * t) for t in (x - i, y - j))
    pick = [table[(i + a) % 256, (j + b) % 256] for a in (0, 1) for b in (0, 1)]
    return (pick[0] * (1 - fy) + pick[1] * fy) * (1 - fx) + (pick[2] * (1 - fy) + pick[3] * fy) * fx


def wood_texture(length_m: float, width_m: float, seed: int, px_per_m: float = WOOD_PX_PER_M) -> np.ndarray:
    """Oiled planks along the first axis, with rings, fibres and fine seams."""
    rng = np.random.default_rng([seed, 1])
    x, y = np.meshgrid(np.arange(0, length_m, 1 / px_per_m), np.arange(0, width_m, 1 / px_per_m), indexing="ij")
    plank = np.floor(y / PLANK_M).astype(int)
    shift = rng.uniform(0, 100, (plank.max() + 1, 2))[plank]
    tone = rng.uniform(-1, 1, plank.max() + 1)[plank]
    along, across = x + shift[..., 0], y + shift[..., 1]
    bend = noise(rng, along * 2.2, across * 9) + 0.4 * noise(rng, along * 6, across * 25)
    rings = 0.5 + 0.5 * np.sin(2 * np.pi * (across * 38 + 1.1 * bend))
    fibre = noise(rng, along * 30, across * 700) + 0.7 * noise(rng, along * 9, across * 260)
    blotch = noise(rng, along * 4, across * 8)
    shade = 1 + 0.10 * tone + 0.13 * (rings**3 - 0.4) + 0.07 * fibre + 0.06 * blotch
    seam = np.abs(y / PLANK_M - np.round(y / PLANK_M)) * PLANK_M
    shade *= 1 - 0.6 * np.exp(-((seam / 0.0008) ** 2))
    color = OILED_WOOD * (1 + 0.02 * blotch[..., None] * [1.0, 0.0, -1.0])
    return np.clip(color * shade[..., None], 0.005, 0.9).astype(np.float32)


def paint_texture(color: list[float], seed: int, key: str, side_m: float, label: bool = False) -> np.ndarray:
    """One colour with faint blotches, tiled every ``side_m``; ``label`` prints a pale band with a dark stripe."""
    rng = np.random.default_rng([seed, *key.encode()])
    x, y = np.meshgrid(np.linspace(0, 1, 256), np.linspace(0, 1, 256), indexing="ij")
    scale = side_m / 0.01
    shade = 1 + 0.05 * noise(rng, x * scale, y * scale) + 0.035 * noise(rng, x * 8 * scale, y * 8 * scale)
    image = np.asarray(color) * shade[..., None]
    if label:
        band = (y > 0.62) & (y < 0.80)
        image[band] = (np.array([0.60, 0.52, 0.36]) * shade[..., None])[band]
        image[(y > 0.69) & (y < 0.73)] *= 0.25
    return np.clip(image, 0.002, 0.9).astype(np.float32)


def table_texture(table: dict[str, Any], seed: int) -> np.ndarray:
    """The top of a described table: wood, plain, marble, checker, stripes or speckle over its whole size."""
    length, width, kind = *table["size_m"][:2], table["kind"]
    color = np.asarray(table["color"], float)
    if kind == "wood":
        planks = wood_texture(length, width, seed, TABLE_PX_PER_M)
        return np.clip(planks / OILED_WOOD * color, 0.004, 0.9).astype(np.float32)
    rng = np.random.default_rng([seed, 5])
    x, y = np.meshgrid(np.arange(0, length, 1 / TABLE_PX_PER_M), np.arange(0, width, 1 / TABLE_PX_PER_M), indexing="ij")
    shade = 1 + 0.02 * noise(rng, x * 40, y * 40) + 0.02 * noise(rng, x * 300, y * 300)
    second = np.asarray(table.get("second_color", table["color"]), float)
    if kind == "checker":
        share = ((np.floor(x / CHECK_M) + np.floor(y / CHECK_M)) % 2).astype(float)
    elif kind == "stripes":
        share = (np.sin(2 * np.pi * y / CHECK_M) > 0.3).astype(float)
    elif kind == "marble":
        vein = noise(rng, x * 6, y * 6) + 0.5 * noise(rng, x * 14, y * 14) + 0.25 * noise(rng, x * 40, y * 40)
        share = 0.6 * np.exp(-((vein / 0.08) ** 2))
    elif kind == "speckle":
        share = ((noise(rng, x * 200, y * 200) > 0.4) & (noise(rng, x * 90, y * 90) > 0)).astype(float)
    else:
        share = np.zeros_like(x)
    image = (color * (1 - share[..., None]) + second * share[..., None]) * shade[..., None]
    return np.clip(image, 0.004, 0.9).astype(np.float32)


def object_texture(item: dict[str, Any], seed: int) -> tuple[np.ndarray, list[float]]:
    """The texture of a described object by its ``paint``, and what one tile covers in uv (metres on flat sides, turns and share of the profile on round ones)."""
    flat = item["shape"] in ("box", "prism", "star")
    paint = item["paint"]
    tile = (LABEL_TILE_M if paint == "label" else PAINT_TILE_M) if flat else 1.0
    base = paint_texture(item["color"], seed, item["key"], 0.05)
    second = np.asarray(item["second_color"], float)
    x, y = np.meshgrid(np.linspace(0, 1, 256), np.linspace(0, 1, 256), indexing="ij")
    rng = np.random.default_rng([seed, 9, *item["key"].encode()])
    if paint == "label":
        share = _label(x, y, rng)
    elif paint == "stripes":
        share = (np.sin(2 * np.pi * int(rng.integers(3, 7)) * (y if rng.random() < 0.5 else x)) > 0.2).astype(float)
    elif paint == "wood":
        share = 0.5 + 0.3 * np.sin(2 * np.pi * (6 * y + 0.5 * noise(rng, x * 3, y * 12))) + 0.2 * noise(rng, x * 8, y * 90)  # fmt: skip
        share = 0.5 * np.clip(share, 0, 1)
    elif paint == "speckle":
        share = (noise(rng, x * 40, y * 40) > 0.35).astype(float)
    else:
        share = np.zeros_like(x)
    image = base * (1 - share[..., None]) + second * share[..., None]
    return np.clip(image, 0.002, 0.9).astype(np.float32), [tile, tile]


def _label(x: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Two printed panels a turn, each with lines that could be writing: the share of the second colour."""
    turn = (2 * x) % 1
    panel = (np.abs(turn - 0.5) < 0.36) & (np.abs(y - 0.42) < 0.22)
    share = panel.astype(float)
    for line in np.linspace(0.27, 0.57, int(rng.integers(3, 7))):
        end = rng.uniform(0.35, 0.8)
        share[panel & (np.abs(y - line) < 0.015) & (turn > 0.2) & (turn < end)] = 0.0
    return share
