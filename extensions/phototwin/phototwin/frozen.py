"""Save, load and fingerprint any frozen value of ours: dataclasses, arrays, tuples, dicts and plain values.

A value is one ``.npz``: its arrays, and a JSON tree that says where they belong. Loading makes only classes of this package
and never runs code from the file.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import zipfile
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np

from phototwin.errors import InputError
from phototwin.output import disk_errors

PACKAGE = "phototwin."
BROKEN = (OSError, KeyError, IndexError, ValueError, TypeError, AttributeError, ImportError, zipfile.BadZipFile)


def save_value(file: Path, value: Any) -> None:
    """Write a value; the file appears only when it is whole.

    Raises:
        OutputError: The disk refuses it.
    """
    arrays: list[np.ndarray] = []
    tree = json.dumps(_pack(value, arrays))
    partial = file.with_name(file.name + ".partial")
    named = {f"a{i}": array for i, array in enumerate(arrays)} | {"tree": np.array(tree)}
    with disk_errors(file.parent):
        file.parent.mkdir(parents=True, exist_ok=True)
        try:
            with partial.open("wb") as stream:
                np.savez_compressed(stream, **named)  # pyright: ignore[reportArgumentType]
            os.replace(partial, file)
        finally:
            partial.unlink(missing_ok=True)


def load_value(file: Path) -> Any:
    """The value that ``save_value`` wrote, arrays bit by bit.

    Raises:
        InputError: The file is missing, damaged, or holds something else.
    """
    try:
        with np.load(file, allow_pickle=False) as data:
            arrays = [data[f"a{i}"] for i in range(len(data.files) - 1)]
            return _unpack(json.loads(str(data["tree"])), arrays)
    except BROKEN as error:
        raise InputError(
            f"'{file}' cannot be read ({type(error).__name__}: {error}): delete it and run again."
        ) from error


def fingerprint(value: Any) -> str:
    """SHA-256 of a value: the same for equal values, in every process."""
    arrays: list[np.ndarray] = []
    digest = hashlib.sha256(json.dumps(_pack(value, arrays), sort_keys=True).encode())
    for array in arrays:
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def file_fingerprint(path: Path) -> str:
    """SHA-256 of a file, or of a folder's files and their names."""
    if path.is_file():
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    files = sorted(file for file in path.rglob("*") if file.is_file())
    lines = [f"{file.relative_to(path).as_posix()} {file_fingerprint(file)}" for file in files]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _pack(value: Any, arrays: list[np.ndarray]) -> Any:
    """A JSON tree; arrays are moved to the list."""
    if isinstance(value, np.ndarray):
        arrays.append(value)
        return {"array": len(arrays) - 1}
    if is_dataclass(value) and not isinstance(value, type):
        name = f"{type(value).__module__}:{type(value).__qualname__}"
        return {"class": name, "fields": {f.name: _pack(getattr(value, f.name), arrays) for f in fields(value)}}
    if isinstance(value, tuple | list):
        return {type(value).__name__: [_pack(item, arrays) for item in value]}
    if isinstance(value, dict):
        return {"dict": [[_pack(key, arrays), _pack(item, arrays)] for key, item in value.items()]}
    if isinstance(value, Path):
        return {"path": str(value)}
    if isinstance(value, np.generic):
        return value.item()
    if value is None or isinstance(value, str | int | float | bool):
        return value
    raise TypeError(f"a value of type {type(value).__name__} cannot be saved")


def _unpack(tree: Any, arrays: list[np.ndarray]) -> Any:
    if not isinstance(tree, dict):
        return tree
    kind = next(iter(tree))
    inside = tree[kind]
    if kind == "array":
        return arrays[inside]
    if kind == "class":
        module, _, name = inside.partition(":")
        if not module.startswith(PACKAGE):
            raise ValueError(f"'{inside}' is no class of this program")
        made = getattr(importlib.import_module(module), name)
        if not is_dataclass(made):
            raise ValueError(f"'{inside}' is no dataclass")
        return made(**{key: _unpack(item, arrays) for key, item in tree["fields"].items()})  # pyright: ignore[reportCallIssue]
    if kind in ("tuple", "list"):
        items = [_unpack(item, arrays) for item in inside]
        return tuple(items) if kind == "tuple" else items
    if kind == "dict":
        return {_unpack(key, arrays): _unpack(item, arrays) for key, item in inside}
    if kind == "path":
        return Path(inside)
    raise ValueError(f"unknown kind '{kind}'")
