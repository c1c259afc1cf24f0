"""Photos of a run: one, a folder, a pattern or a list, each with the files that lie beside it."""

from __future__ import annotations

import glob
from dataclasses import fields, replace
from pathlib import Path

from phototwin.errors import InputError
from phototwin.perceive.photo import PLAIN_STEMS, photo_name
from phototwin.pipeline import Source

IMAGES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
COMPANIONS = {
    "depth": (".png", ".npy", ".exr"),
    "camera": (".json",),
    "objects": (".json",),
    "masks": (".png", ""),
    "meshes": ("",),
    "background": (".png", ".jpg"),
    "materials": (".json",),
    "light": (".json",),
}
"""What may lie beside a photo ``desk.jpg`` as ``desk_depth.png`` and so on, beside a ``photo.png`` in a folder of its own as ``depth.png``."""
OF_ONE_PHOTO = ("depth", "objects", "masks", "meshes", "background")
"""What cannot belong to several photos."""


def expand_photos(given: tuple[Path, ...]) -> tuple[Path, ...]:
    """The image files that are meant, in the order of the list and by name within a folder or a pattern.

    Raises:
        InputError: A folder or pattern holds no photo.
    """
    found: list[Path] = []
    for item in given:
        if item.is_dir():
            here = _photos_in(item) or [photo for part in sorted(item.iterdir()) for photo in _plain_in(part)]
        elif glob.has_magic(str(item)):
            here = [Path(name) for name in sorted(glob.glob(str(item), recursive=True))]
            here = [file for file in here if _is_photo(file)]
        else:
            here = [item]
        if not here:
            raise InputError(
                f"There is no photo in '{item}': expected {', '.join(IMAGES)}, or folders that each hold one of "
                f"{', '.join(PLAIN_STEMS)}."
            )
        found += here
    return tuple(dict.fromkeys(found))


def sources_of(source: Source, more: tuple[Path, ...]) -> tuple[Source, ...]:
    """One source a photo; where there are several, each with the files beside it, and what was given for all.

    Raises:
        InputError: No photo is found, or a file is given that belongs to one photo only.
    """
    given = (source.photo, *more) if source.photo else more
    photos = expand_photos(tuple(given))
    if photos == (source.photo,):
        return (source,)
    if wrong := [f"--{name}" for name in OF_ONE_PHOTO if getattr(source, name) is not None]:
        raise InputError(
            f"{', '.join(wrong)} belongs to one photo, and there are {len(photos)}: name such files after their photo "
            f"('{photos[0].stem}_depth.png') and lay them beside it."
        )
    return tuple(_beside(replace(source, photo=photo)) for photo in photos)


def names_of(sources: tuple[Source, ...]) -> list[str]:
    """A short name a photo, all different."""
    names: list[str] = []
    for source in sources:
        assert source.photo is not None
        name = base = photo_name(source.photo)
        count = 2
        while name in names:
            name, count = f"{base}_{count}", count + 1
        names.append(name)
    return names


def _beside(source: Source) -> Source:
    """The source with the files that lie beside its photo, where nothing was given for them."""
    photo = source.photo
    assert photo is not None
    stems = ["", f"{photo.stem}_"] if photo.stem.lower() in PLAIN_STEMS else [f"{photo.stem}_"]
    found: dict[str, Path] = {}
    for name, endings in COMPANIONS.items():
        files = [photo.with_name(f"{stem}{name}{ending}") for stem in stems for ending in endings]
        there = next((file for file in files if file.exists()), None)
        if there is not None and getattr(source, name) is None:
            found[name] = there
    known = {f.name for f in fields(Source)}
    return replace(source, **{name: file for name, file in found.items() if name in known})


def _is_photo(file: Path) -> bool:
    """Whether a file is a photo and not what lies beside one."""
    if not file.is_file() or file.suffix.lower() not in IMAGES:
        return False
    stem = file.stem.lower()
    beside = any(
        stem == name or (stem.endswith(f"_{name}") and _has_photo(file, stem.removesuffix(f"_{name}")))
        for name in COMPANIONS
    )
    return not beside


def _has_photo(file: Path, stem: str) -> bool:
    return any(
        other.stem.lower() == stem and other.suffix.lower() in IMAGES
        for other in file.parent.iterdir()
        if other != file
    )


def _photos_in(folder: Path) -> list[Path]:
    return [file for file in sorted(folder.iterdir()) if _is_photo(file)]


def _plain_in(folder: Path) -> list[Path]:
    """The photo of a folder that holds one under a plain name."""
    if not folder.is_dir():
        return []
    return [file for file in _photos_in(folder) if file.stem.lower() in PLAIN_STEMS][:1]
