"""Mass properties of an object: where its mass sits and how it resists turning."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from phototwin.errors import InputError
from phototwin.frames import quat_xyzw_from_matrix
from phototwin.scene import SceneObject


@dataclass(frozen=True, eq=False)
class MassProperties:
    """How the mass of an object is spread.

    Attributes:
        center_o: Centre of mass (3,) in the object frame [m].
        inertia: Principal moments (3,) about it [kg m^2].
        axes_quat_xyzw: Rotation (4,) from the principal axes to the object frame.
        source: "mesh" or "pieces".
    """

    center_o: np.ndarray
    inertia: np.ndarray
    axes_quat_xyzw: np.ndarray
    source: str


def mass_properties(item: SceneObject) -> MassProperties:
    """Mass properties of the object filled evenly with its mass.

    Computed from the surface where it is closed, otherwise from the convex pieces; ``source`` says which.

    Raises:
        InputError: Neither encloses any volume, or the mass is not positive.
    """
    import trimesh

    if not item.mass_kg > 0:
        raise InputError(f"The object '{item.name}' has a mass of {item.mass_kg} kg; it must be positive.")
    surface = trimesh.Trimesh(item.mesh.points.astype(np.float64), item.mesh.faces)  # welds points at one place
    solids, source = [surface], "mesh"
    if not surface.is_watertight or not surface.is_winding_consistent or surface.volume <= 0:
        solids = [trimesh.Trimesh(p.points.astype(np.float64), p.faces).convex_hull for p in item.pieces]
        source = "pieces"
    volumes = np.array([solid.volume for solid in solids])
    if not volumes.sum() > 0:
        raise InputError(
            f"The object '{item.name}' encloses no volume: its surface is open and it has no solid pieces."
        )
    centers = np.stack([solid.center_mass for solid in solids])
    center = volumes @ centers / volumes.sum()
    tensor = np.zeros((3, 3))
    for solid, volume, at in zip(solids, volumes, centers - center, strict=True):
        tensor += solid.moment_inertia + volume * (at @ at * np.eye(3) - np.outer(at, at))  # parallel axes
    moments, axes = np.linalg.eigh(tensor * item.mass_kg / volumes.sum())
    axes[:, 2] *= np.sign(np.linalg.det(axes))
    return MassProperties(center, moments, quat_xyzw_from_matrix(axes), source)
