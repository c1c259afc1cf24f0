"""Objects on a plain surface, from colour alone, with the user's hints where there are any.

The support is the surface in the lower middle of the photo. Its colour is a smooth field (a quadratic in the pixel
position, which follows falling light) plus texture; a shadow darkens it but keeps its chroma. An object is a closed
region that the field does not explain and that the support encloses. Every threshold is in units of the surface's own
texture, so a plain table is judged strictly and a wooden one mildly.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from phototwin.errors import PerceptionError
from phototwin.perceive.regions import (
    crop_around,
    dilate,
    erode,
    farther_than,
    hull,
    inner_radius,
    largest,
    open_,
    piece_at,
    pieces,
    touches_border,
)
from phototwin.perceive.surface import SupportField, fit_support, to_lab
from phototwin.scene import ObjectHint

WORK_PX = 640
"""Longer side of the copy that is segmented: objects of interest are then 20 to 300 px wide."""
REFINE_PX, REFINE_FROM = 1280, 1.3
"""Longer side of the copy on which outlines are refined, and how much finer than the working copy it must be to matter."""
SHADOW_SHARE, SHADOW_OFF_HUE = 0.45, 5.0
"""Darker pixels of a region are its shadow if they are less far from the field than this share of the region's upper quartile
and their hue is the field's, within so many deviations; an object's face that lies in the dark has its own hue."""
MIN_AREA, MAX_AREA = 0.0012, 0.25
"""Size of an object as a share of the photo."""
MIN_RADIUS_PX = 5.0
"""Smallest inscribed radius on the working copy: thinner things are scratches, cables, reflections of lamps."""
MAX_SLENDER = 40.0
"""Largest area / inscribed radius^2: a disc has 3, a square 4, a spoon 12, a lamp's streak or a cable more than 60."""
MIN_SOLIDITY = 0.4
"""Smallest share of its convex hull that an object fills; a spoon on its rest fills half, a reflection that runs along an edge less."""
HOLE_SHARE, HOLE_DISTANCE = 0.01, 0.6
"""A part of an object of at least this share of it that looks like the support is seen through a handle and is no object."""
MIN_SUPPORT = 0.12
"""Smallest support as a share of the photo."""
MIN_ENCLOSED = 0.75
"""Share of a candidate's rim that must be near support."""
LOWER_PART, MIN_LOWER_ENCLOSED, MIN_INSIDE = 0.6, 0.85, 0.7
"""For what rises over the far edge: the share of its rows that is looked at, how enclosed they must be, and how much lies inside the hull."""
LOBE = 0.2
"""Beyond the hull a region is cut off where it is narrower than twice this share of its inner radius."""
MAX_CONCAVE, TWO_CHROMA, TWO_SHARE = 0.88, 25.0, 0.12
"""Two things in one region: it fills less than this of its hull, two chromas differ by this much, each has this share of it."""
STEP_FLOOR, STEP_SIGMAS, MIN_OUTLINED = 10.0, 2.5, 0.7
"""An object's outline steps by this much [Lab units; deviations of the texture] along at least this share of it; glare and shade fade."""
MIN_OUTLINED_BEYOND = 0.9
"""The same for what is not wholly surrounded by the support, so a part of something larger (a gripper) is not taken."""
GLARE_SLENDER = 12.0
"""Area / inscribed radius^2 from which something brighter and paler than the surface is a reflection (a white plate has 3)."""
STRICT, MIN_AGREEMENT, MAX_SWELL = 1.2, 0.8, 2.5
"""Factor of the second reading; share of each object that one of its regions must cover, and how much larger that may be."""
MAX_UNEXPLAINED = 0.2
"""Share of the support's convex hull that may be neither support nor object: more, and the surface is not one surface."""
HULL_PX = 5
"""How far the convex hull of the support reaches beyond its found pixels (edges are blurred)."""
RIM_PX = 12
"""Width of the edge blur and contact shadow that may lie between an object and clean support."""
MAX_OBJECTS = 8
MIN_BOX_IOU = 0.6
"""Overlap that the bounding box of a hinted object must have with the hint's box."""
MIN_HINTED_PX = 60
"""Smallest hinted object on the working copy [px]."""
SPOT_PX, ALIKE_LAB, POINT_REACH = 4.0, 14.0, 0.3
"""A point hint stands for a disc of this radius; pixels this near in Lab are its first guess; no object reaches farther (share of the width)."""
GRAB_ROUNDS = 4
ASK = "name each object with a box or a point (--objects)"


@dataclass(frozen=True, eq=False)
class Segmentation:
    """Support and objects of one photo.

    Attributes:
        support_mask: (H, W) bool.
        masks: (N, H, W) bool, disjoint, from left to right.
        names: N names from hints, None where there was none.
        note: One sentence on how the objects were found.
    """

    support_mask: np.ndarray
    masks: np.ndarray
    names: tuple[str | None, ...]
    note: str


def segment_photo(rgb: np.ndarray, hints: tuple[ObjectHint, ...] = ()) -> Segmentation:
    """Support and object masks of a photo (H, W, 3) uint8; with hints, only the hinted objects.

    Raises:
        PerceptionError: The evidence is too thin to be trusted; the message names the hint that would help.
    """
    import cv2

    height, width = rgb.shape[:2]
    scale = WORK_PX / max(height, width)
    size = (max(round(width * scale), 8), max(round(height * scale), 8))
    work = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    field = fit_support(work)
    if hints:
        masks = [segment_hint(work, field, resize_hint(hint, size, (width, height))) for hint in hints]
        names = [hint.name for hint in hints]
        note = f"{len(hints)} hinted objects, cut out by colour"
    else:
        masks = propose_objects(work, field)
        names = [None] * len(masks)
        note = f"{len(masks)} objects found as closed regions that differ from the support in colour"
    full = [_to_full(rgb, mask) for mask in masks]
    order = sorted(range(len(full)), key=lambda i: float(np.nonzero(full[i])[1].mean()))
    stack = _disjoint([full[i] for i in order])
    support = cv2.resize(field.mask.astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST) > 0
    if (
        support.mean() < MIN_SUPPORT
    ):  # only with hints: the user's word holds, the surface is then what is around the objects
        support = np.any([_around(mask) for mask in stack], axis=0)
        note += "; the support has no one colour, the objects' surroundings stand for it"
    return Segmentation(support & ~stack.any(0), stack, tuple(names[i] for i in order), note)


def _around(mask: np.ndarray) -> np.ndarray:
    """Bounding box of a mask, widened by half its size."""
    out = np.zeros_like(mask)
    if mask.any():
        out[crop_around(mask, 0.5)] = True
    return out


def propose_objects(rgb: np.ndarray, field: SupportField) -> list[np.ndarray]:
    """Object masks (H, W) bool that stand out of the support without any hint.

    Raises:
        PerceptionError: No support, no object, or too many to be objects.
    """
    if field.mask.mean() < MIN_SUPPORT:
        raise PerceptionError(f"No plain surface fills the lower middle of the photo: {ASK}.")
    inside = dilate(hull(field.mask), HULL_PX)
    lab = to_lab(rgb)
    cores, ground = _closed_regions(field)
    found = []
    for core in cores:
        if not _plausible(core, ground, inside):
            continue
        mask = _refine_beyond(rgb, core, inside) if (core & ~erode(inside, 3)).any() else refine(field.residual, core)
        mask = _carve(mask, field)
        needed = (
            MIN_OUTLINED
            if enclosure(mask, field.mask) >= MIN_ENCLOSED and not (mask & ~inside).any()
            else MIN_OUTLINED_BEYOND
        )
        if _plausible(mask, ground, inside) and outlined(lab, mask, field) >= needed and not _is_glare(lab, mask):
            found.append(mask)
    if not found:
        raise PerceptionError(f"Nothing stands out clearly from the surface in the photo: {ASK}.")
    if len(found) > MAX_OBJECTS:
        raise PerceptionError(f"{len(found)} regions differ from the surface, too many to be sure: {ASK}.")
    if not _agree(found, _closed_regions(fit_support(rgb, STRICT))[0]):
        raise PerceptionError(f"What is surface and what is object depends on the threshold in this photo: {ASK}.")
    if any(_two_things(lab, mask) for mask in found):
        raise PerceptionError(f"A region of two colours looks like two things that touch or hide each other: {ASK}.")
    explained = ground | dilate(np.any(found, axis=0), RIM_PX)
    if (inside & ~explained).sum() > MAX_UNEXPLAINED * inside.sum():
        raise PerceptionError(
            f"The surface in the photo is not of one colour, so objects cannot be told from it: {ASK}."
        )
    return found


def segment_hint(rgb: np.ndarray, field: SupportField, hint: ObjectHint) -> np.ndarray:
    """Mask (H, W) bool of one hinted object on the working copy.

    Raises:
        PerceptionError: Nothing can be told apart at the hint.
    """
    if hint.mask is not None:
        return hint.mask
    closed, ground = _closed_regions(field)
    if hint.box_px is not None:
        mask = _from_box(rgb, field, np.asarray(hint.box_px), closed)
    else:
        mask = _from_point(rgb, field, np.asarray(hint.point_px), closed, ground)
    if mask.sum() < MIN_HINTED_PX:
        given, better = ("box", "mask") if hint.box_px is not None else ("point", "box")
        raise PerceptionError(
            f"No object can be told from its surroundings at the {given} of '{hint.name or 'an object'}': give a {better} for it."
        )
    return mask


def _closed_regions(field: SupportField) -> tuple[list[np.ndarray], np.ndarray]:
    """Regions (H, W) bool within the support's hull that are not support (rough objects, and junk), and the support with their shadows."""
    inside = dilate(hull(field.mask), HULL_PX)
    least = 0.5 * MIN_AREA * field.mask.size
    cores: list[np.ndarray] = []
    ground = field.mask.copy()
    for piece in pieces(open_(inside & ~field.mask, 3), least):
        shadow = _shadow(piece, field)
        ground |= shadow
        cores += pieces(open_(piece & ~shadow & (field.distance > 0.7), 2), least)
    return cores, ground


def _from_box(rgb: np.ndarray, field: SupportField, box_px: np.ndarray, closed: list[np.ndarray]) -> np.ndarray:
    """The region that fills a box: one that the support encloses, else GrabCut with, at last without the support's colours as a start."""
    height, width = field.mask.shape
    x0, y0, x1, y1 = np.clip(np.round(box_px), 0, [width, height, width, height]).astype(int)
    box = np.zeros_like(field.mask)
    box[y0:y1, x0:x1] = True
    for core in closed:
        if _fills(core, box):
            mask = _carve(refine(field.residual, core), field)
            if _fills(mask, box):
                return mask
    for guess in (box & ~field.mask, box):
        mask = _cut_box(rgb, box, guess)
        shadowless = _drop_shadow(mask, field)
        for result in (shadowless, mask):
            if _fills(result, box):
                return result
    return np.zeros_like(box)


def _fills(mask: np.ndarray, box: np.ndarray) -> bool:
    """Whether a mask's bounding box agrees with a box, given as a mask."""
    if not mask.any() or not box.any():
        return False
    around = np.logical_and.outer(mask.any(1), mask.any(0))  # for one connected piece this is its bounding box
    return bool((around & box).sum() >= MIN_BOX_IOU * (around | box).sum())


def _cut_box(rgb: np.ndarray, box: np.ndarray, guess: np.ndarray) -> np.ndarray:
    import cv2

    label = np.full(box.shape, cv2.GC_BGD, np.uint8)
    label[box] = cv2.GC_PR_BGD
    label[guess] = cv2.GC_PR_FGD
    return _grab(rgb, label, *crop_around(box, 0.35)) if box.sum() >= MIN_HINTED_PX else np.zeros_like(box)


def _from_point(
    rgb: np.ndarray, field: SupportField, point_px: np.ndarray, closed: list[np.ndarray], ground: np.ndarray
) -> np.ndarray:
    """The closed region around a point; where the support does not enclose one, what has the point's colour."""
    import cv2

    height, width = field.mask.shape
    x, y = np.clip(point_px.astype(int), 0, [width - 1, height - 1])
    spot = np.hypot(np.arange(width) + 0.5 - point_px[0], np.arange(height)[:, None] + 0.5 - point_px[1]) <= SPOT_PX
    lab = to_lab(cv2.medianBlur(rgb, 5))
    for core in closed:
        if core[y, x]:
            enclosed = _plausible(core, ground, field.mask)
            tries = (refine(field.residual, core), refine(rgb, core), core) if enclosed else (refine(rgb, core), core)
            for mask in tries:
                if mask[y, x] and _stands_out(lab, mask, field):
                    return next((part for part in _two_things(lab, mask) if part[y, x]), _carve(mask, field))
    alike = np.linalg.norm(lab - np.median(lab[spot], axis=0), axis=-1) < ALIKE_LAB
    guess = piece_at(open_(alike & ~field.mask, 1) | spot, y, x)
    label = np.full(spot.shape, cv2.GC_PR_BGD, np.uint8)
    label[field.mask | farther_than(spot, POINT_REACH * width)] = cv2.GC_BGD
    label[guess & (label != cv2.GC_BGD)] = cv2.GC_PR_FGD
    label[spot] = cv2.GC_FGD
    mask = piece_at(open_(_grab(rgb, label, slice(0, height), slice(0, width)), 1), y, x)
    return mask if mask.any() and _stands_out(lab, mask, field) else np.zeros_like(mask)


def _stands_out(lab: np.ndarray, mask: np.ndarray, field: SupportField) -> bool:
    """Whether a hinted region ends where its colour ends, inside the photo, and is not too big."""
    return not touches_border(mask) and mask.mean() <= MAX_AREA and outlined(lab, mask, field) >= MIN_OUTLINED


def _grab(picture: np.ndarray, label: np.ndarray, rows: slice, columns: slice) -> np.ndarray:
    """GrabCut of a part of the picture from initial labels (H, W); the largest piece, holes filled, (H, W) bool."""
    import cv2

    out = np.zeros(label.shape, bool)
    part = np.ascontiguousarray(label[rows, columns])
    front = (part == cv2.GC_FGD) | (part == cv2.GC_PR_FGD)
    if not front.any() or front.all():
        return out
    cv2.setRNGSeed(0)  # its k-means draws from OpenCV's global generator
    state = np.zeros((1, 65)), np.zeros((1, 65))
    cv2.grabCut(np.ascontiguousarray(picture[rows, columns]), part, None, *state, GRAB_ROUNDS, cv2.GC_INIT_WITH_MASK)  # pyright: ignore
    out[rows, columns] = largest(open_((part == cv2.GC_FGD) | (part == cv2.GC_PR_FGD), 1))
    return out


def refine(picture: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """GrabCut around a rough mask (H, W) bool on any 3-channel uint8 picture; the result is one piece without holes."""
    import cv2

    radius = inner_radius(mask)
    label = np.full(mask.shape, cv2.GC_BGD, np.uint8)
    label[dilate(mask, max(3, round(0.25 * radius)))] = cv2.GC_PR_BGD
    label[mask] = cv2.GC_PR_FGD
    label[erode(mask, max(2, round(0.35 * radius)))] = cv2.GC_FGD
    out = _grab(picture, label, *crop_around(mask, 0.35))
    return out if out.any() else mask


def _refine_beyond(rgb: np.ndarray, mask: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Like ``refine`` for a region at the border of the support's hull: it may go on outside, as a tall object or as what is no object."""
    import cv2

    rows, columns = crop_around(mask, 1.0)
    label = np.full(mask.shape, cv2.GC_BGD, np.uint8)
    around = np.zeros_like(mask)
    around[rows, columns] = True
    radius = inner_radius(mask)
    label[around & ~inside] = cv2.GC_PR_BGD
    label[dilate(mask, max(3, round(0.25 * radius)))] = cv2.GC_PR_BGD
    label[mask] = cv2.GC_PR_FGD
    label[erode(mask, max(2, round(0.35 * radius)))] = cv2.GC_FGD
    out = _grab(rgb, label, rows, columns)
    reaches_crop = (out & ~erode(around, 2)).any()
    if reaches_crop:
        return np.zeros_like(mask)
    thin = max(2, round(LOBE * radius))  # what hangs on outside by less is something behind, of a similar colour
    return largest(out & (dilate(open_(out, thin), 2) | erode(inside, 3)))


def outlined(lab: np.ndarray, mask: np.ndarray, field: SupportField) -> float:
    """Share of a region's outline across which the colour steps by more than the surface's texture does."""
    import cv2

    def local_mean(side: np.ndarray) -> np.ndarray:
        weight = cv2.GaussianBlur(side.astype(np.float32), (0, 0), 2.5)
        return cv2.GaussianBlur(lab * side[..., None], (0, 0), 2.5) / np.maximum(weight, 1e-6)[..., None]

    outline = mask & ~erode(mask, 1)
    step = np.linalg.norm(local_mean(erode(mask, 1)) - local_mean(~dilate(mask, 1)), axis=-1)[outline]
    return float((step > max(STEP_FLOOR, STEP_SIGMAS * float(np.hypot(*field.sigma)))).mean()) if outline.any() else 0.0


def _plausible(mask: np.ndarray, ground: np.ndarray, inside: np.ndarray) -> bool:
    """Whether a region can be an object: its size, its shape, inside the photo, standing on the ``ground`` (support and shadows).

    What rises over the far edge of the support is judged by its lower part, if most of it is ``inside`` the support's hull.
    """
    area = int(mask.sum())
    if not MIN_AREA * mask.size <= area <= MAX_AREA * mask.size or touches_border(mask):
        return False
    radius = inner_radius(mask)
    if radius < MIN_RADIUS_PX or area / radius**2 > MAX_SLENDER or area < MIN_SOLIDITY * hull(mask, 0).sum():
        return False
    if enclosure(mask, ground) >= MIN_ENCLOSED:
        return True
    rows = np.nonzero(mask.any(1))[0]
    lower = np.arange(len(mask)) >= rows[0] + (1 - LOWER_PART) * len(rows)
    return (mask & inside).sum() >= MIN_INSIDE * area and enclosure(mask, ground, lower) >= MIN_LOWER_ENCLOSED


def enclosure(mask: np.ndarray, ground: np.ndarray, rows: np.ndarray | None = None) -> float:
    """Share of a region's rim (in some rows) near which there is ground within ``RIM_PX``."""
    rim = dilate(mask, 2) & ~mask
    if rows is not None:
        rim &= rows[:, None]
    return float(dilate(ground, RIM_PX)[rim].mean()) if rim.any() else 0.0


def _is_glare(lab: np.ndarray, mask: np.ndarray) -> bool:
    """Whether a slender region is brighter and paler than what surrounds it: a lamp or window mirrored in the surface."""
    around = dilate(mask, RIM_PX) & ~dilate(mask, 3)
    inner, outer = np.median(lab[mask], axis=0), np.median(lab[around], axis=0)
    paler = np.linalg.norm(inner[1:]) <= np.linalg.norm(outer[1:])
    return bool(mask.sum() > GLARE_SLENDER * inner_radius(mask) ** 2 and inner[0] > outer[0] and paler)


def _agree(found: list[np.ndarray], strict: list[np.ndarray]) -> bool:
    """Whether a second, stricter reading of the support has a region over each object that is not much larger (shadow and blur join it)."""
    return all(
        any(
            (mask & core).sum() >= MIN_AGREEMENT * mask.sum() and core.sum() <= MAX_SWELL * mask.sum()
            for core in strict
        )
        for mask in found
    )


def _two_things(lab: np.ndarray, mask: np.ndarray) -> list[np.ndarray]:
    """The two connected parts of clearly different chroma that a concave region consists of; empty where it does not."""
    import cv2

    if mask.sum() > MAX_CONCAVE * hull(mask, 0).sum():
        return []
    colors = np.ascontiguousarray(lab[mask][:, 1:])
    cv2.setRNGSeed(0)
    stop = (cv2.TERM_CRITERIA_EPS + cv2.TERM_CRITERIA_MAX_ITER, 20, 0.5)
    _, which, centers = cv2.kmeans(colors, 2, None, stop, 2, cv2.KMEANS_PP_CENTERS)  # pyright: ignore
    if np.linalg.norm(centers[0] - centers[1]) < TWO_CHROMA:
        return []
    parts = []
    for k in (0, 1):
        part = np.zeros_like(mask)
        part[mask] = which.ravel() == k
        if part.sum() < TWO_SHARE * mask.sum() or largest(open_(part, 1)).sum() < 0.8 * part.sum():
            return []
        parts.append(largest(open_(part, 1)))
    return parts


def _carve(mask: np.ndarray, field: SupportField) -> np.ndarray:
    """The mask without holes through which the support is seen (a mug's handle)."""
    same = open_(mask & (field.distance < 1), 2)
    for hole in pieces(same, max(HOLE_SHARE * mask.sum(), MIN_HINTED_PX)):
        if np.median(field.distance[hole]) < HOLE_DISTANCE:
            mask = mask & ~hole
    return mask


def _shadow(mask: np.ndarray, field: SupportField) -> np.ndarray:
    """The pixels of a region that look like the shadow of the rest."""
    distance = field.distance[mask]
    limit = max(1.0, SHADOW_SHARE * float(np.percentile(distance, 75))) if distance.size else 1.0
    return mask & (field.residual[..., 0] < 128) & (field.distance < limit) & (field.off_hue < SHADOW_OFF_HUE)


def _drop_shadow(mask: np.ndarray, field: SupportField) -> np.ndarray:
    """The largest part of a region that is not its shadow."""
    return largest(open_(mask & ~_shadow(mask, field) & (field.distance > 0.7), 2))


def resize_hint(hint: ObjectHint, size: tuple[int, int], full: tuple[int, int]) -> ObjectHint:
    """The hint in the pixels of a copy of another ``size`` (width, height)."""
    import cv2

    scale = np.array([size[0] / full[0], size[1] / full[1]])
    mask = None
    if hint.mask is not None:
        mask = cv2.resize(hint.mask.astype(np.uint8), size, interpolation=cv2.INTER_AREA) > 0
    box = None if hint.box_px is None else np.asarray(hint.box_px, float) * np.tile(scale, 2)
    point = None if hint.point_px is None else np.asarray(hint.point_px, float) * scale
    return ObjectHint(hint.name, box, point, mask)


def _to_full(rgb: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """A mask of the working copy on the photo's own pixels; where those are finer, its outline is refined on them."""
    import cv2

    height, width = rgb.shape[:2]
    fine = min(1.0, REFINE_PX / max(height, width))
    ratio = round(width * fine) / mask.shape[1]
    if ratio > REFINE_FROM:
        size = (round(width * fine), round(height * fine))
        mask = _refine_outline(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA), _enlarge(mask, size), ratio)
    return _enlarge(mask, (width, height))


def _enlarge(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A mask at another size (width, height) with a smooth outline."""
    import cv2

    soft = cv2.GaussianBlur(mask.astype(np.float32), (0, 0), 0.8)
    return cv2.resize(soft, size, interpolation=cv2.INTER_LINEAR) > 0.5


def _refine_outline(rgb: np.ndarray, mask: np.ndarray, ratio: float) -> np.ndarray:
    """The mask with its outline moved by GrabCut within the uncertainty of a copy ``ratio`` times coarser."""
    import cv2

    band = max(2, round(1.5 * ratio))
    label = np.full(mask.shape, cv2.GC_PR_BGD, np.uint8)
    label[mask] = cv2.GC_PR_FGD
    label[~dilate(mask, band)] = cv2.GC_BGD
    label[erode(mask, band)] = cv2.GC_FGD
    if not mask.any():
        return mask
    hole = erode(largest(mask) & ~mask, 1)
    out = _grab(rgb, label, *crop_around(mask, 0.25)) & ~hole
    return out if (out & mask).sum() > 0.85 * (out | mask).sum() else mask


def _disjoint(masks: list[np.ndarray]) -> np.ndarray:
    """Stack (N, H, W); a pixel of two masks goes to the smaller one."""
    stack = np.stack(masks)
    taken = np.zeros(stack.shape[1:], bool)
    for i in np.argsort([mask.sum() for mask in masks], kind="stable"):
        stack[i] &= ~taken
        taken |= stack[i]
    return stack
