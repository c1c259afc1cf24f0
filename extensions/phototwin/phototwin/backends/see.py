"""Let the chosen models look at a photo before perception does, and paint what is behind the objects after it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from phototwin.backends.choose import Backends
from phototwin.backends.contract import check_depth, check_image, check_objects, check_words
from phototwin.errors import PerceptionError, TwinError
from phototwin.scene import ObjectHint, Photo


def see_more(photo: Photo, backends: Backends, words: tuple[str, ...] = ()) -> Photo:
    """The photo with depth, camera and objects that models see in it; what the user gave stays as it is.

    Args:
        photo: What the user gave.
        backends: Chosen by ``choose_backends``.
        words: What is on the table, where the user said so; otherwise the listing model is asked.

    Raises:
        PerceptionError: A model failed, or its answer breaks its contract.
        InputError: A model cannot be loaded.
    """
    notes = [photo.note] if photo.note else []
    if photo.depth_m is None and backends.depth is not None:
        photo, note = _see_depth(photo, backends)
        notes.append(note)
    if not photo.hints and backends.segmentation is not None:
        if words or backends.listing is not None:
            photo, note = _see_objects(photo, backends, words)
            notes.append(note)
        else:
            notes.append(f"{backends.names.get('segmentation')} was not used: no model lists the words for it.")
    return replace(photo, note=" ".join(notes))


def paint_hole(rgb: np.ndarray, hole: np.ndarray, backends: Backends) -> np.ndarray | None:
    """The photo (H, W, 3) uint8 with the hole (H, W) bool painted by the inpainting model; None where none was chosen.

    Raises:
        PerceptionError: The model failed, or its picture breaks the contract.
        InputError: The model cannot be loaded.
    """
    if backends.inpainting is None:
        return None
    who = backends.names.get("inpainting", "inpainting")
    return check_image(_ask(who, backends.inpainting, rgb.copy(), hole.copy()), rgb, hole, who)


def _ask(who: str, backend: Callable[..., Any], *args: Any) -> Any:
    """What a backend answers; whatever goes wrong in it is an error the user can read."""
    try:
        return backend(*args)
    except TwinError:
        raise
    except Exception as error:  # memory, drivers, files, other people's code
        first = (str(error).strip().splitlines() or [""])[0][:200]
        raise PerceptionError(
            f"The backend '{who}' failed ({type(error).__name__}: {first}): choose another with --perception."
        ) from error


def _see_depth(photo: Photo, backends: Backends) -> tuple[Photo, str]:
    assert backends.depth is not None
    who = backends.names.get("depth", "depth")
    estimate = check_depth(_ask(who, backends.depth, photo.rgb.copy(), photo.K_px), photo.rgb, who)
    note = f"Depth by {estimate.source}, as a whole within about {estimate.scale_sigma:.0%}"
    if photo.K_px is None and estimate.K_px is not None:
        photo = replace(photo, K_px=estimate.K_px, K_source=estimate.source)
        note += f", and a focal length of {estimate.K_px[0, 0]:.0f} px"
    seen = replace(
        photo, depth_m=estimate.depth_m, depth_source=estimate.source, depth_scale_sigma=float(estimate.scale_sigma)
    )
    return seen, f"{note}."


def _see_objects(photo: Photo, backends: Backends, words: tuple[str, ...]) -> tuple[Photo, str]:
    assert backends.segmentation is not None
    if words:
        listed = "of the words given"
    else:
        assert backends.listing is not None
        who = backends.names.get("listing", "listing")
        words = check_words(_ask(who, backends.listing, photo.rgb.copy()), who)
        if not words:
            return photo, f"{who} saw no movable objects, so they are sought without words."
        listed = f"of {', '.join(words)}, which {who} listed"
    who = backends.names.get("segmentation", "segmentation")
    found = check_objects(_ask(who, backends.segmentation, photo.rgb.copy(), words), photo.rgb, who)
    if not found:
        return photo, f"{who} found none {listed}, so objects are sought without words."
    hints = tuple(ObjectHint(name=item.name, mask=item.mask) for item in found)
    return replace(photo, hints=hints), f"{len(found)} objects by {who} {listed}."
