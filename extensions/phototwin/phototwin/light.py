"""The light of a photo: what shines on its scene, in units of the photo's own linear RGB.

A value of 1 is the photo's white: a surface of albedo ``a`` (linear RGB) under the irradiance ``E`` shows ``a / pi * E``. So what is
shaded by a photo's light has its exposure and its white balance already.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from phototwin.errors import InputError

SH_BAND = np.array([0, 1, 1, 1, 2, 2, 2, 2, 2])
"""Degree of each of the nine coefficients."""
SH_COSINE = np.array([np.pi, 2 * np.pi / 3, np.pi / 4])[SH_BAND]
"""Factors from radiance to irradiance. Source: Ramamoorthi and Hanrahan (2001), equation 8."""


@dataclass(frozen=True, eq=False)
class Light:
    """One dominant source and the light from everywhere else, as they arrive at ``center_w``.

    Attributes:
        sh: Radiance that arrives from every direction but the source, light thrown back by the support included: coefficients (9, 3)
            of the real spherical harmonics in ``sh_basis``, linear RGB.
        direction_w: Unit vector from the scene towards the source, (3,).
        irradiance: What the source brings to a surface at ``center_w`` that faces it, (3,) linear RGB.
        half_angle_rad: Angular radius of the source seen from ``center_w``: how soft shadows are [rad].
        distance_m: From ``center_w`` to the source; infinite for the sun [m].
        center_w: The point where all of this was measured, (3,) [m].
        note: How it was found, one sentence.
    """

    sh: np.ndarray
    direction_w: np.ndarray
    irradiance: np.ndarray
    half_angle_rad: float
    distance_m: float
    center_w: np.ndarray
    note: str = ""


def plain_light() -> Light:
    """The light where nothing is known: a bright room with a large lamp up behind the camera's left shoulder."""
    direction = np.array([-0.35, 0.35, 0.87])
    sh = np.zeros((9, 3))
    sh[0] = 0.42 / sh_basis(np.array([0.0, 0.0, 1.0]))[0]
    return Light(
        sh,
        direction / np.linalg.norm(direction),
        np.full(3, 0.48 * np.pi),
        0.15,
        np.inf,
        np.zeros(3),
        "Nothing is known of the light: a bright room is assumed.",
    )


def sh_basis(directions: np.ndarray) -> np.ndarray:
    """Real spherical harmonics of degree 0 to 2 of unit vectors (..., 3), as (..., 9). Source: Ramamoorthi and Hanrahan (2001), equation 3."""
    x, y, z = np.moveaxis(np.asarray(directions, dtype=np.float64), -1, 0)
    return np.stack(
        [
            np.full_like(x, 0.282095),
            0.488603 * y,
            0.488603 * z,
            0.488603 * x,
            1.092548 * x * y,
            1.092548 * y * z,
            0.315392 * (3 * z * z - 1),
            1.092548 * x * z,
            0.546274 * (x * x - y * y),
        ],
        -1,
    )


def ambient_irradiance(light: Light, normals_w: np.ndarray) -> np.ndarray:
    """Irradiance (..., 3) linear RGB of all light but the source on surfaces with unit normals (..., 3), nothing in the way."""
    return np.maximum((sh_basis(normals_w) * SH_COSINE) @ light.sh, 0.0)


def source_irradiance(light: Light, points_w: np.ndarray, normals_w: np.ndarray) -> np.ndarray:
    """Irradiance (..., 3) linear RGB of the source on surfaces at points (..., 3) with unit normals (..., 3), nothing in the way."""
    towards = light.direction_w * np.ones_like(points_w)
    strength = np.ones(points_w.shape[:-1])
    if np.isfinite(light.distance_m):
        towards = light.center_w + light.distance_m * light.direction_w - points_w
        far = np.linalg.norm(towards, axis=-1)
        towards, strength = towards / far[..., None], (light.distance_m / far) ** 2
    cosine = np.maximum((towards * normals_w).sum(-1), 0.0)
    return (strength * cosine)[..., None] * light.irradiance


def light_to_json(light: Light) -> dict[str, Any]:
    """Plain values of a light; an infinite distance is null."""
    return {
        "sh": light.sh.tolist(),
        "direction_w": light.direction_w.tolist(),
        "irradiance": light.irradiance.tolist(),
        "half_angle_rad": light.half_angle_rad,
        "distance_m": light.distance_m if np.isfinite(light.distance_m) else None,
        "center_w": light.center_w.tolist(),
        "note": light.note,
    }


def light_from_json(value: dict[str, Any]) -> Light:
    """The light that ``light_to_json`` wrote."""
    return Light(
        np.array(value["sh"], dtype=np.float64).reshape(9, 3),
        np.array(value["direction_w"], dtype=np.float64),
        np.array(value["irradiance"], dtype=np.float64),
        float(value["half_angle_rad"]),
        np.inf if value["distance_m"] is None else float(value["distance_m"]),
        np.array(value["center_w"], dtype=np.float64),
        value["note"],
    )


def load_light(file: Path) -> Light:
    """The light in a JSON file with the fields that ``light_to_json`` writes, as under "light" in a twin's ``scene.json``; "note" may be missing.

    Raises:
        InputError: The file cannot be read as a light.
    """
    try:
        value = json.loads(file.read_text())
        light = light_from_json({"note": f"The light is that of {file.name}.", **value})
        length = float(np.linalg.norm(light.direction_w))
        numbers = np.concatenate([light.sh.ravel(), light.direction_w, light.irradiance, light.center_w])
        if not np.isfinite(numbers).all() or light.direction_w.shape != (3,) or light.irradiance.shape != (3,):
            raise ValueError("a number is not finite or missing")
        if (
            length < 1e-6
            or light.irradiance.min() < 0
            or light.distance_m <= 0
            or not 0 <= light.half_angle_rad < np.pi / 2
        ):
            raise ValueError("a direction without length, or a negative irradiance, distance or angle")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"'{file}' cannot be read as a light ({type(error).__name__}: {error}): expected JSON with sh (9 x 3), direction_w, "
            'irradiance, half_angle_rad, distance_m and center_w, as under "light" in a twin\'s scene.json.'
        ) from error
    return replace(light, direction_w=light.direction_w / length)
