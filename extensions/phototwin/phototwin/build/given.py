"""Mesh files that a user or a model brings: read, checked, flattened, with a colour per vertex."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from phototwin.build.names import make_key
from phototwin.errors import InputError
from phototwin.scene import GivenMesh

MESH_ENDINGS = (".glb", ".gltf", ".obj", ".ply", ".stl")
MAX_FACES = 2_000_000  # what a scanner or a generator may bring; more is refused before it fills the memory
MAX_FILE_BYTES = 512 * 2**20
MIN_FACES = 4  # a tetrahedron


def load_meshes(folder: Path) -> dict[str, GivenMesh]:
    """Every mesh file of a folder by its name without the ending: ``mug.glb`` -> "mug".

    Raises:
        InputError: The folder does not exist, holds no mesh, two of one name, or a broken file.
    """
    if not folder.is_dir():
        raise InputError(
            f"'{folder}' is not a folder; --meshes expects one that holds {', '.join(MESH_ENDINGS)} files."
        )
    files = sorted(f for f in folder.iterdir() if f.suffix.lower() in MESH_ENDINGS and f.is_file())
    if not files:
        raise InputError(f"The folder '{folder}' holds no mesh; expected files that end in {', '.join(MESH_ENDINGS)}.")
    twice = sorted({a.stem for a in files for b in files if a != b and a.stem == b.stem})
    if twice:
        raise InputError(f"The folder '{folder}' holds more than one mesh named '{twice[0]}': keep one of them.")
    return {file.stem: load_mesh(file) for file in files}


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


def match_meshes(
    meshes: Mapping[str, GivenMesh], names: Sequence[str | None], folder: Path | None = None
) -> dict[int, GivenMesh]:
    """Which object each mesh is for: a file is named like the object ("mug"), its key ("blue_mug"), or "object_1" for the first.

    Args:
        meshes: By file name without the ending.
        names: One per object, None where it has none yet.
        folder: Where they come from, for the error.

    Raises:
        InputError: A mesh fits no object, or two fit the same one.
    """
    out: dict[int, GivenMesh] = {}
    for stem, mesh in meshes.items():
        numbered = stem.lower().removeprefix("object_")
        index = next((i for i, name in enumerate(names) if name is not None and make_key(name) == make_key(stem)), None)
        if index is None and stem.lower().startswith("object_") and numbered.isdigit():
            index = int(numbered) - 1 if 1 <= int(numbered) <= len(names) else None
        if index is None:
            known = ", ".join(f"object_{i + 1}" if n is None else f"'{n}'" for i, n in enumerate(names)) or "none"
            where = f" in '{folder}'" if folder else ""
            raise InputError(f"The mesh '{stem}'{where} is named like no object of the photo; the objects are {known}.")
        if index in out:
            raise InputError(f"Two meshes are for object {index + 1} ({names[index] or 'unnamed'}): keep one of them.")
        out[index] = mesh
    return out


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
