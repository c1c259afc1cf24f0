"""Which backends a run uses: what the user named, or the best that is installed with its weights."""

from __future__ import annotations

import importlib.util
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from phototwin.backends.contract import DepthBackend, InpaintingBackend, ListingBackend, SegmentationBackend
from phototwin.backends.tables import FAMILIES, Model
from phototwin.backends.weights import FOLDER_VARIABLE, find_weights, unload
from phototwin.errors import InputError
from phototwin.resolve import resolve

OUTSIDE = ("command:", "http://", "https://")
OUTSIDE_DEPTH = "phototwin.backends.depth:OutsideDepth"


@dataclass(frozen=True, eq=False)
class Backends:
    """One backend per family, or None where the weightless perception does without.

    Attributes:
        depth: Metric depth.
        segmentation: Masks by words.
        listing: Words for what is there.
        inpainting: What lies behind.
        names: What each family's backend is called.
        notes: Per family what was taken, under which licence, and why nothing better: one sentence for the report.
    """

    depth: DepthBackend | None = None
    segmentation: SegmentationBackend | None = None
    listing: ListingBackend | None = None
    inpainting: InpaintingBackend | None = None
    names: dict[str, str] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)

    def release(self) -> None:
        """Let go of the loaded models; a backend that is called again loads its own again."""
        for family in FAMILIES:
            unload(getattr(self, family))


def choose_backends(choice: str = "auto") -> Backends:
    """The backends that ``choice`` stands for; no model is loaded yet, and nothing is ever downloaded.

    Args:
        choice: "offline" for none; "auto" for the best of each family that is installed, whose weights are found and
            whose licence allows any use; or a comma-separated list of names and "family=NAME", where NAME is a short
            name or "module:Attr", for depth also "command:..." or an address (docs/external.md). With "auto" in the list
            the other families are chosen too, otherwise they stay empty.

    Raises:
        InputError: A name is unknown, or the weights or packages of a named backend are missing.
    """
    parts = [part.strip() for part in choice.split(",") if part.strip()]
    if not parts or ("offline" in parts and len(parts) > 1):
        raise InputError(f"--perception is '{choice}', expected auto, offline, or names such as {_example()}.")
    if parts == ["offline"]:
        return Backends(notes={family: "No model, as asked for." for family in FAMILIES})
    named: dict[str, str] = {}
    for part in parts:
        if part != "auto":
            family, name = _family_of(part)
            if family in named:
                raise InputError(f"--perception names two {family} backends, '{named[family]}' and '{name}': keep one.")
            named[family] = name
    taken, notes = {}, {}
    for family in FAMILIES:
        if family in named:
            taken[family] = (named[family], _make(family, named[family]))
            notes[family] = f"{named[family]}, as asked for{_licence(family, named[family])}."
        elif "auto" in parts:
            name, notes[family] = _best(family)
            if name:
                taken[family] = (name, _make(family, name))
        else:
            notes[family] = "No model named."
    return Backends(
        **{family: backend for family, (_, backend) in taken.items()},
        names={family: name for family, (name, _) in taken.items()},
        notes=notes,
    )


def _family_of(part: str) -> tuple[str, str]:
    """Family and name of one part of the choice."""
    family, equals, name = part.partition("=")
    if equals:
        if family not in FAMILIES or not name:
            raise InputError(f"--perception has '{part}', expected FAMILY=NAME with one of {', '.join(FAMILIES)}.")
        return family, name
    for known, table in FAMILIES.items():
        if part in table:
            return known, part
    if ":" in part:
        raise InputError(f"--perception has '{part}': say what it is for, as in depth={part}.")
    names = "; ".join(f"{known}: {', '.join(table)}" for known, table in FAMILIES.items())
    raise InputError(f"There is no backend '{part}'. Choose auto, offline, or from {names}.")


def _best(family: str) -> tuple[str | None, str]:
    """The first usable free model of a family, and a sentence that says why it and not a better one."""
    skipped: dict[str, list[str]] = {}  # by reason
    for name, model in FAMILIES[family].items():
        reason = _unusable(model)
        if reason is None and not model.free:
            reason = f"must be named, its licence is {model.licence}"
        if reason is None:
            return name, f"{name}{_licence(family, name)}" + (f"; not {_reasons(skipped)}." if skipped else ".")
        skipped.setdefault(reason, []).append(name)
    return None, f"No model: {_reasons(skipped)}."


def _reasons(skipped: dict[str, list[str]]) -> str:
    return "; ".join(f"{', '.join(names)} ({reason})" for reason, names in skipped.items())


def _unusable(model: Model) -> str | None:
    """Why a model cannot run here, or None."""
    missing = _missing_packages(model)
    if missing:
        return f"{missing[0]} is not installed"
    return next((reason for _, reason in map(find_weights, model.weights) if reason), None)


def _missing_packages(model: Model) -> list[str]:
    return [name for name in model.packages if importlib.util.find_spec(name) is None]


def _licence(family: str, name: str) -> str:
    model = FAMILIES[family].get(name)
    return f" (weights under {model.licence})" if model else ""


def _make(family: str, name: str) -> Any:
    """The backend of that name: one of ours on its weights, or the callable (or the class of callables) that "module:Attr" names.

    Raises:
        InputError: It does not exist, or lacks weights or packages.
    """
    table = FAMILIES[family]
    model = table.get(name)
    if family == "depth" and name.startswith(OUTSIDE):
        return resolve(OUTSIDE_DEPTH, {}, "depth backend")(name)
    if model is None:
        found = resolve(name, {short: row.target for short, row in table.items()}, f"{family} backend")
        backend = found() if isinstance(found, type) else found
        if not callable(backend):
            raise InputError(f"The {family} backend '{name}' is a {type(backend).__name__} and cannot be called.")
        return backend
    missing = _missing_packages(model)
    if missing:
        raise InputError(f"The {family} backend '{name}' needs {', '.join(missing)}: pip install {' '.join(missing)}.")
    return resolve(name, {name: model.target}, f"{family} backend")(*(_weights(family, name, r) for r in model.weights))


def _weights(family: str, name: str, repo: str) -> Path:
    """Folder of the weights of a backend that was named."""
    folder, reason = find_weights(repo)
    if folder is None:
        places = os.environ.get(FOLDER_VARIABLE) or f"${FOLDER_VARIABLE} (not set)"
        raise InputError(
            f"The {family} backend '{name}' needs the weights of {repo} (licence: {FAMILIES[family][name].licence}), but "
            f"there are {reason}, neither in {places} nor in the Hugging Face cache: get them with 'hf download {repo}'."
            if reason == "no weights here"
            else f"The {family} backend '{name}' cannot run: {reason}; complete it with 'hf download {repo}'."
        )
    return folder


def _example() -> str:
    return "depth=depth_anything,segmentation=my_package.module:Segmenter"
