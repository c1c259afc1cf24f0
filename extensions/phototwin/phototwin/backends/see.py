"""Let the chosen models look at a photo before perception does."""

from __future__ import annotations

from dataclasses import replace

from phototwin.backends.choose import Backends
from phototwin.backends.contract import check_depth, check_objects, check_words
from phototwin.scene import ObjectHint, Photo


def see_more(photo: Photo, backends: Backends, words: tuple[str, ...] = ()) -> Photo:
    """The photo with depth, camera and objects that models see in it; what the user gave stays as it is.

    Args:
        photo: What the user gave.
        backends: Chosen by ``choose_backends``.
        words: What is on the table, where the user said so; otherwise the listing model is asked.

    Raises:
        PerceptionError: A model's answer breaks its contract.
        InputError: A model cannot be loaded.
    """
    notes = [photo.note] if photo.note else []
    if photo.depth_m is None and backends.depth is not None:
        photo, note = _see_depth(photo, backends)
        notes.append(note)
    if not photo.hints and backends.segmentation is not None and (words or backends.listing is not None):
        photo, note = _see_objects(photo, backends, words)
        notes.append(note)
    return replace(photo, note=" ".join(notes))


def _see_depth(photo: Photo, backends: Backends) -> tuple[Photo, str]:
    assert backends.depth is not None
    who = backends.names.get("depth", "depth")
    estimate = check_depth(backends.depth(photo.rgb, photo.K_px), photo.rgb, who)
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
        words = check_words(backends.listing(photo.rgb), who)
        if not words:
            return photo, f"{who} saw no movable objects, so they are sought without words."
        listed = f"of {', '.join(words)}, which {who} listed"
    who = backends.names.get("segmentation", "segmentation")
    found = check_objects(backends.segmentation(photo.rgb, words), photo.rgb, who)
    if not found:
        return photo, f"{who} found none {listed}, so objects are sought without words."
    hints = tuple(ObjectHint(name=item.name, mask=item.mask) for item in found)
    return replace(photo, hints=hints), f"{len(found)} objects by {who} {listed}."
