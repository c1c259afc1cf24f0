"""Meshes that the user gives for some of the objects: which file is for which."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from phototwin.build.names import make_key
from phototwin.errors import InputError
from phototwin.meshes import MESH_ENDINGS, load_mesh
from phototwin.scene import GivenMesh


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
