"""Mesh files: read, flattened, with a colour per vertex, and checked; errors name the file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from phototwin.errors import InputError
from phototwin.scene import GivenMesh

MESH_ENDINGS = (".glb", ".gltf", ".obj", ".ply", ".stl")
MAX_FACES = 2_000_000  # what a scanner or a generator may bring; more is refused before it fills the memory
MAX_FILE_BYTES = 512 * 2**20
MIN_FACES = 4  # a tetrahedron


def load_mesh(file: Path) -> GivenMesh:
    """One mesh file: its scene flattened, textures sampled to a colour per vertex, in the file's own axes and unit.

    Raises:
        InputError: The file cannot be read, has no triangles, or numbers that are not finite.
    """
    import trimesh

    if not file.is_file():
        raise InputError(f"The mesh '{file}' does not exist.")
    if file.stat().st_size > MAX_FILE_BYTES:
        raise InputError(
            f"The mesh '{file}' has {file.stat().st_size >> 20} MB; at most {MAX_FILE_BYTES >> 20} are read."
        )
    try:
        mesh: Any = trimesh.load_scene(file).to_mesh()
        points = np.array(mesh.vertices, dtype=np.float64)
        faces = np.array(mesh.faces, dtype=np.int64)
    except Exception as error:  # the readers raise whatever a broken file makes them raise
        words = f"{type(error).__name__}: {error}".splitlines()[0][:200]
        raise InputError(f"The mesh '{file}' cannot be read ({words}): export it again.") from error
    colors = _vertex_colors(mesh) if len(points) else None
    return check_mesh(points, faces, f"file {file.name}", colors, f"The mesh '{file}'")


def check_mesh(
    points: np.ndarray, faces: np.ndarray, source: str, colors_rgb: np.ndarray | None, subject: str
) -> GivenMesh:
    """The arrays as a value, where they are a mesh with a size.

    Args:
        points: (V, 3).
        faces: (F, 3).
        source: Where it comes from, for the report.
        colors_rgb: (V, 3) uint8, or None.
        subject: The first words of an error, "The mesh 'mug.glb'".

    Raises:
        InputError: Too few or too many triangles, indices or numbers that are none, or no extent in two directions.
    """
    if points.ndim != 2 or points.shape[-1] != 3 or faces.ndim != 2 or faces.shape[-1] != 3 or len(faces) < MIN_FACES:
        raise InputError(f"{subject} has {len(faces)} triangles; a solid thing needs at least {MIN_FACES}.")
    if len(faces) > MAX_FACES:
        raise InputError(f"{subject} has {len(faces)} triangles; at most {MAX_FACES} are read: simplify it first.")
    if faces.min() < 0 or faces.max() >= len(points):
        raise InputError(f"{subject} has triangles that name vertices which are not there: export it again.")
    if not np.isfinite(points).all():
        raise InputError(f"{subject} has vertices that are not finite numbers: export it again.")
    used = points[np.unique(faces)]
    extent = np.linalg.svd(used - used.mean(axis=0), compute_uv=False)
    if not 0 < extent[0] < np.inf or extent[1] < 1e-4 * extent[0]:
        raise InputError(f"{subject} is a point or a line; expected the surface of a thing.")
    return GivenMesh(points, faces.astype(np.int32), source, colors_rgb)


def _vertex_colors(mesh: Any) -> np.ndarray | None:
    """Colours (V, 3) uint8 of a loaded mesh's vertices, read from its texture where it has one; None where it has no colours."""
    visual = mesh.visual
    if not getattr(visual, "defined", False):
        return None
    try:
        if visual.kind == "texture":
            visual = visual.to_color()
        colors = np.asarray(visual.vertex_colors)[:, :3].astype(np.uint8)
    except Exception:  # a texture that cannot be read costs the colours, not the shape
        return None
    return colors if len(colors) == len(mesh.vertices) else None
