"""What a backend of each family takes and gives, and the checks that every result passes, ours or anybody's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from phototwin.errors import PerceptionError

MAX_NAME = 60
FOCAL_RANGE = (0.2, 20.0)
"""Focal length over the longer side: from fish-eyes to long telephoto lenses, as for camera files."""


@dataclass(frozen=True, eq=False)
class DepthEstimate:
    """Depth that a model estimated from one photo.

    Attributes:
        depth_m: (H, W) float32 along the optical axis, 0 where it is unknown [m].
        K_px: The camera that the model estimated, (3, 3) float64 [px], or None where it estimates none.
        scale_sigma: Standard deviation of the one factor that all of the depth may be off by, as a share.
        source: The model, for the report.
    """

    depth_m: np.ndarray
    K_px: np.ndarray | None
    scale_sigma: float
    source: str


@dataclass(frozen=True, eq=False)
class FoundObject:
    """One thing found by its word.

    Attributes:
        name: The word.
        mask: (H, W) bool; the masks of one answer are disjoint.
        score: How sure the model is, 0..1.
    """

    name: str
    mask: np.ndarray
    score: float


class DepthBackend(Protocol):
    """Metric depth of one photo."""

    def __call__(self, rgb: np.ndarray, K_px: np.ndarray | None) -> DepthEstimate:
        """Depth of a photo (H, W, 3) uint8 taken with ``K_px`` [px], where that is known."""
        ...


class SegmentationBackend(Protocol):
    """Masks of the things that words name."""

    def __call__(self, rgb: np.ndarray, words: tuple[str, ...]) -> tuple[FoundObject, ...]:
        """The things in a photo (H, W, 3) uint8 that one of the words fits."""
        ...


class ListingBackend(Protocol):
    """Words for the movable things in a photo."""

    def __call__(self, rgb: np.ndarray) -> tuple[str, ...]:
        """Nouns of the things on the support of a photo (H, W, 3) uint8, each once."""
        ...


class InpaintingBackend(Protocol):
    """What lies behind the masked pixels."""

    def __call__(self, rgb: np.ndarray, mask: np.ndarray) -> np.ndarray:
        """The photo (H, W, 3) uint8 with the masked pixels (H, W) bool replaced and all others untouched."""
        ...


def check_depth(estimate: Any, rgb: np.ndarray, who: str) -> DepthEstimate:
    """``estimate``, which the backend ``who`` gave for a photo (H, W, 3).

    Raises:
        PerceptionError: It breaks the contract.
    """
    if not isinstance(estimate, DepthEstimate):
        raise _refusal(who, f"a {type(estimate).__name__}", "a DepthEstimate")
    depth_m, shape = estimate.depth_m, rgb.shape[:2]
    if not isinstance(depth_m, np.ndarray) or depth_m.dtype != np.float32 or depth_m.shape != shape:
        raise _refusal(who, f"depth as {_describe(depth_m)}", f"{shape[0]} x {shape[1]} float32 [m]")
    if not np.isfinite(depth_m).all():
        raise _refusal(who, "depth that is not finite everywhere", "0 where it is unknown")
    if depth_m.min() < 0:
        raise _refusal(who, f"depth down to {depth_m.min():.3g} m", "0 where it is unknown")
    if not depth_m.any():
        raise _refusal(who, "no depth anywhere within the twin's range", "positive distances [m]")
    if not _is_number(estimate.scale_sigma) or not 0 < estimate.scale_sigma < np.inf:
        raise _refusal(who, f"scale_sigma {estimate.scale_sigma!r}", "a positive share such as 0.2")
    if not isinstance(estimate.source, str) or not estimate.source.strip():
        raise _refusal(who, f"the source {estimate.source!r}", "the model's name for the report")
    if estimate.K_px is not None:
        _check_camera(estimate.K_px, shape, who)
    return estimate


def check_objects(found: Any, rgb: np.ndarray, who: str) -> tuple[FoundObject, ...]:
    """``found``, which the backend ``who`` gave for a photo (H, W, 3).

    Raises:
        PerceptionError: It breaks the contract.
    """
    if not isinstance(found, tuple) or not all(isinstance(item, FoundObject) for item in found):
        raise _refusal(who, f"a {type(found).__name__}", "a tuple of FoundObject")
    shape, taken = rgb.shape[:2], np.zeros(rgb.shape[:2], bool)
    for item in found:
        if not _is_word(item.name):
            raise _refusal(who, f"an object named {item.name!r}", f"a text of 1 to {MAX_NAME} characters")
        if not isinstance(item.mask, np.ndarray) or item.mask.dtype != np.bool_ or item.mask.shape != shape:
            raise _refusal(who, f"the mask of '{item.name}' as {_describe(item.mask)}", f"{shape[0]} x {shape[1]} bool")
        if not item.mask.any() or item.mask.all():
            raise _refusal(
                who, f"an {'empty' if not item.mask.any() else 'all-covering'} mask of '{item.name}'", "some"
            )
        if not _is_number(item.score) or not 0 <= item.score <= 1:
            raise _refusal(who, f"the score {item.score!r} of '{item.name}'", "0 to 1")
        if (taken & item.mask).any():
            raise _refusal(who, f"a mask of '{item.name}' that overlaps another", "disjoint masks")
        taken |= item.mask
    return found


def check_words(words: Any, who: str) -> tuple[str, ...]:
    """``words``, which the listing backend ``who`` gave.

    Raises:
        PerceptionError: They break the contract.
    """
    if not isinstance(words, tuple) or not all(_is_word(word) for word in words):
        raise _refusal(who, repr(words)[:120], f"a tuple of texts of 1 to {MAX_NAME} characters")
    if len(set(words)) < len(words):
        raise _refusal(who, f"a word twice: {', '.join(words)[:120]}", "each word once")
    return words


def check_image(image: Any, rgb: np.ndarray, mask: np.ndarray, who: str) -> np.ndarray:
    """``image``, with which the inpainting backend ``who`` filled ``mask`` (H, W) of a photo (H, W, 3).

    Raises:
        PerceptionError: It breaks the contract.
    """
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.shape != rgb.shape:
        raise _refusal(who, f"an image as {_describe(image)}", " x ".join(map(str, rgb.shape)) + " uint8")
    changed = int((image != rgb).any(-1)[~mask].sum())
    if changed:
        raise _refusal(who, f"an image with {changed} pixels changed outside the mask", "them untouched")
    return image


def _check_camera(K_px: Any, shape: tuple[int, int], who: str) -> None:
    if not isinstance(K_px, np.ndarray) or K_px.shape != (3, 3) or not np.isfinite(K_px).all():
        raise _refusal(who, f"K_px as {_describe(K_px)}", "3 x 3 finite numbers, or None")
    focal = np.array([K_px[0, 0], K_px[1, 1]]) / max(shape)
    if not (FOCAL_RANGE[0] < focal.min() and focal.max() < FOCAL_RANGE[1]):
        raise _refusal(who, f"focal lengths {focal[0]:.3g}, {focal[1]:.3g} times the longer side", "what a camera has")
    if not (0 < K_px[0, 2] < shape[1] and 0 < K_px[1, 2] < shape[0]):
        raise _refusal(who, f"the principal point {K_px[0, 2]:.0f}, {K_px[1, 2]:.0f}", "one inside the photo")


def _refusal(who: str, got: str, expected: str) -> PerceptionError:
    return PerceptionError(
        f"The backend '{who}' returned {got}, expected {expected}: choose another with --perception."
    )


def _describe(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"{' x '.join(map(str, value.shape)) or 'one'} {value.dtype}"
    return type(value).__name__


def _is_word(value: Any) -> bool:
    return isinstance(value, str) and 0 < len(value.strip()) <= MAX_NAME


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float, np.floating)) and not isinstance(value, bool)
