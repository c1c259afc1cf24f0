"""The exact light of a described scene: its window as one source, everything else as path-traced spherical harmonics."""

from __future__ import annotations

from typing import Any

import numpy as np

from phototwin.light import Light, ambient_irradiance, sh_basis
from phototwin_tasks.benchmarks.truth_scenes import scene_parts
from phototwin_tasks.benchmarks.truth_trace import MAX_BOUNCES, Part, build_traced, load_mitsuba

PROBE_RAYS = 6000  # their spread leaves about 1 % of noise in the ambient irradiance
WINDOW_CELLS = 24
WHITE = 0.8
"""Albedo of white paint: a camera's automatic keeps it from clipping."""


def true_light(truth: dict[str, Any], parts: list[Part] | None = None) -> Light:
    """The light at ``center_w`` of a described scene, its robot not there, times its ``exposure`` (1 where that is not set yet).

    Args:
        truth: The description.
        parts: Its surfaces, made again where they are not given.
    """
    parts = scene_parts(truth) if parts is None else parts
    center_w, exposure = np.array(truth["center_w"]), truth.get("exposure", 1.0)
    vector, solid_angle = window_irradiance(truth["lights"][0], center_w)
    strength = vector.mean(1)  # one colour, so one direction
    direction = strength / np.linalg.norm(strength)
    distance = float(np.linalg.norm(np.array(truth["lights"][0]["center_w"]) - center_w))
    half_angle = float(np.arccos(np.clip(1 - solid_angle / (2 * np.pi), -1, 1)))
    sh = ambient_harmonics(truth, parts, center_w)
    return Light(sh * exposure, direction, direction @ vector * exposure, half_angle, distance, center_w, "The truth.")


def window_irradiance(window: dict[str, Any], point_w: np.ndarray) -> tuple[np.ndarray, float]:
    """Vector irradiance (3 directions, 3 colours) and solid angle [sr] of a rectangle that shines towards its target, nothing in the way."""
    center, target = np.array(window["center_w"]), np.array(window["target_w"])
    ahead = (target - center) / np.linalg.norm(target - center)
    # Mitsuba's look_at with +X as up: its left is up x ahead.
    left = np.cross([1.0, 0.0, 0.0], ahead)
    left /= np.linalg.norm(left)
    up = np.cross(ahead, left)
    ticks = (np.arange(WINDOW_CELLS) + 0.5) / WINDOW_CELLS - 0.5
    a, b = np.meshgrid(ticks * window["size_m"][0], ticks * window["size_m"][1], indexing="ij")
    towards = center + a[..., None] * left + b[..., None] * up - point_w
    far = np.linalg.norm(towards, axis=-1, keepdims=True)
    towards /= far
    cell = window["size_m"][0] * window["size_m"][1] / WINDOW_CELLS**2
    sr = np.maximum(-(towards @ ahead), 0.0)[..., None] / far**2 * cell
    return (sr * towards).sum((0, 1))[:, None] * np.array(window["radiance"]), float(sr.sum())


def ambient_harmonics(truth: dict[str, Any], parts: list[Part], point_w: np.ndarray) -> np.ndarray:
    """Spherical harmonics (9, 3) of the radiance that arrives at a point from everywhere but the window itself, before exposure."""
    mi = load_mitsuba()
    path = {"type": "path", "max_depth": MAX_BOUNCES, "hide_emitters": True}
    whole = build_traced(truth, parts, 8, 1, "box", path)
    rest = {**truth, "lights": truth["lights"][1:]}
    shining = build_traced(rest, parts, 8, 1, "box", {"type": "path", "max_depth": 1})
    sampler = mi.load_dict({"type": "independent"})
    sampler.seed(truth["seed"])
    directions = even_directions(PROBE_RAYS)
    radiance = np.zeros((PROBE_RAYS, 3))
    for i, direction in enumerate(directions):
        ray = mi.RayDifferential3f(mi.Ray3f(point_w.tolist(), direction.tolist()))
        for scene in (whole, shining):
            color = scene.integrator().sample(scene, sampler, ray)[0]
            radiance[i] += [color[0], color[1], color[2]]
    return 4 * np.pi / PROBE_RAYS * sh_basis(directions).T @ radiance


def even_directions(count: int) -> np.ndarray:
    """Unit vectors (count, 3) spread evenly over the sphere. Source: Swinbank and Purser (2006), the Fibonacci lattice."""
    k = np.arange(count) + 0.5
    z, phi = 1 - 2 * k / count, np.pi * (3 - np.sqrt(5)) * k
    ring = np.sqrt(1 - z * z)
    return np.stack([ring * np.cos(phi), ring * np.sin(phi), z], -1)


def exposure_of(truth: dict[str, Any], linear: np.ndarray, light: Light) -> float:
    """Exposure of a linear photo (H, W, 3) under a light that was measured with exposure 1.

    Bright parts are brought to the described brightness; white paint that faces the source, or up, does not clip.
    """
    facing = np.stack([light.direction_w, [0.0, 0.0, 1.0]])
    direct = np.maximum(facing @ light.direction_w, 0.0)[:, None] * light.irradiance
    white = WHITE / np.pi * (direct + ambient_irradiance(light, facing)).max()
    bright = max(float(np.percentile(linear.mean(-1), 95)), 1e-6)
    return float(min(truth["brightness"] / bright, 1.0 / white))
