"""Parts by shape and colour, without a model: what a handle, a rim or a red part is, as a score per surface sample.

Everything is in the object frame, Z up as it stands in the photo. A phrase is one or two parts, a colour, or a colour and a part
("top of the handle", "red part", "red handle"); where several words meet, the weakest counts.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from phototwin.errors import InputError, PlanError
from phototwin.images import load_rgb
from phototwin.nouns import COLORS, color_names
from phototwin.plan.grasp_contacts import sample_surface
from phototwin.plan.grasp_parts import has_handle, on_handle
from phototwin.plan.keypoints import find_keypoints, find_opening
from phototwin.plan.part_words import PARTS, is_keypoint, read_words
from phototwin.plan.query import QueryBackend
from phototwin.plan.region import NEIGHBOURS, Samples, sample_item, see_item
from phototwin.scene import Scene, SceneObject

SOFT = 0.2
"""Share of a limit within which a score goes from 0.73 to 0.27."""
TOP_SHARE, BOTTOM_SHARE = 0.75, 0.2
"""Of the height: the top begins and the bottom ends there."""
RIM_SHARE, RIM_M = 0.15, (0.006, 0.014)
"""A rim reaches so far from the lip: a share of the height, or of half the width where that is more, within these bounds."""
LIP_BINS, LIP_POINTS = 72, 40000
"""Directions in which the lip is looked for, and points of the surface among which it is."""
STEEP = 0.7
"""Largest vertical part of the normal of a side."""
BEYOND_SHARE, BEYOND_M = 0.15, 0.003
"""A handle leaves a round body where it is so far outside of it: a share of the radius, and at least so much."""
SLICES = 24
"""Of the height, in each of which the body has one radius."""
COLOR_NEIGHBOURS = 12
"""Samples among which half must show a colour: single pixels show many."""
EDGE_M = 0.006
"""Surface this close by tells whether there is an edge."""
FLATNESS = 0.9
"""Length of the mean normal around a sample that is no longer on an edge; 0.71 at a right angle."""
OTHER_SIDE = -0.3
"""Cosine between normals below which they are of two sides of something thin."""
KEYPOINT_M = 0.025
"""What is named by a keypoint reaches so far."""


def make_words(option: str = "") -> QueryBackend:
    """The backend "words"; it takes no option."""
    if option:
        raise InputError(f"The query 'words' takes no model, got '{option}': say 'words'.")
    return score_words


def missing_part(item: SceneObject, phrase: str) -> str:
    """Why an object has no such part, going by its shape, as a sentence; "" where it may have it."""
    words = read_words(phrase)
    if words is None:
        return (
            f"'{phrase}' is no part that is known by its shape or colour. Known: {', '.join(PARTS)}, a keypoint, and colours; "
            "other words need a model (--query clip)."
        )
    for word in words:
        if word in ("rim", "inside") and not item.hollow:
            return (
                f"The {item.name} is not hollow and has no {word}. Choose another part of {', '.join(PARTS)}, or none."
            )
        if word in ("handle", "head") and not has_handle(item):
            return f"The {item.name} has no {word}: nothing sticks out of its body. Name another part."
        if is_keypoint(word) and word not in (named := find_keypoints(item).names):
            return f"The {item.name} has no keypoint '{word}'. Choose one of {', '.join(named)}, or a part of {', '.join(PARTS)}."
    return ""


def score_words(scene: Scene, item: SceneObject, part: str) -> np.ndarray:
    """How well the words fit each sample, (N,) in 0..1.

    Raises:
        PlanError: The object has no such part, or the words are not known.
    """
    if problem := missing_part(item, part):
        raise PlanError(problem)
    words = read_words(part)
    assert words is not None
    scores = [_color_score(scene, item, w) if w in COLORS else _part_score(item, w) for w in words]
    return np.min(scores, axis=0)


def _color_score(scene: Scene, item: SceneObject, color: str) -> np.ndarray:
    """Share of a sample's neighbourhood that has that colour in the photo, (N,)."""
    rgb, seen, samples = load_rgb(scene.path(scene.photo)), see_item(scene, item), sample_item(item)
    if not seen.seen.any():
        raise PlanError(f"The photo shows nothing of the {item.name}, so no part of it is known to be {color}.")
    column, row = np.clip(seen.px, 0, (rgb.shape[1] - 1, rgb.shape[0] - 1)).astype(int).T
    own = (color_names(rgb[row, column]) == color).astype(np.float64)
    _, near = samples.tree.query(samples.tree.data, COLOR_NEIGHBOURS)
    return own[near].mean(-1)


@lru_cache(maxsize=1024)
def _part_score(item: SceneObject, word: str) -> np.ndarray:
    """How well a part or keypoint fits each sample, (N,)."""
    samples = sample_item(item)
    if is_keypoint(word):
        away = np.linalg.norm(samples.points_o - find_keypoints(item).point(word), axis=1)
        return _below(away, KEYPOINT_M)
    if word == "edge" and item.hollow:
        word = "rim"
    return _SCORES[word](item, samples)


def _below(value: np.ndarray, limit: float) -> np.ndarray:
    """1 far below a limit, 0.5 at it, 0 far above."""
    return 1.0 / (1.0 + np.exp(np.clip((value - limit) / (SOFT * limit), -60.0, 60.0)))


def _handle(item: SceneObject, samples: Samples) -> np.ndarray:
    """What sticks out of the outline from above; beside a round body also what is outside of it at that height, near there.

    A body that tapers hides the lower end of its handle under the outline of its rim.
    """
    there = on_handle(item, samples.points_o)
    if item.hollow and there.any():
        middle = _axis(item)
        offset = samples.points_o[:, :2] - middle
        radius = np.linalg.norm(offset, axis=1)
        body = _body_radius(samples.points_o[:, 2], np.where(there, 0.0, radius))
        outward = offset / np.maximum(radius, 1e-9)[:, None]
        way = offset[there].mean(0) / np.linalg.norm(offset[there].mean(0))
        widest = (outward[there] @ way).min()
        margin = np.maximum(BEYOND_SHARE * body, BEYOND_M)
        there = there | ((outward @ way >= max(widest, 0.0)) & (radius > body + margin))
    _, near = samples.tree.query(samples.tree.data, NEIGHBOURS)
    return there[near].mean(-1)


def _body_radius(height: np.ndarray, radius: np.ndarray) -> np.ndarray:
    """Outer radius (N,) of a round body at the height of each sample: the 90th percentile of its slice."""
    low, span = height.min(), max(float(np.ptp(height)), 1e-9)
    slice_of = np.clip((SLICES * (height - low) / span).astype(int), 0, SLICES - 1)
    outer = np.array(
        [np.percentile(radius[slice_of == k], 90) if (slice_of == k).any() else 0.0 for k in range(SLICES)]
    )
    return outer[slice_of]


def _rim(item: SceneObject, samples: Samples) -> np.ndarray:
    """Near the lip: the highest place of the wall in each direction from the middle of the opening."""
    from scipy.spatial import cKDTree

    points = sample_surface(item.mesh, LIP_POINTS, 1)[0]
    height = points[:, 2]
    offset = points[:, :2] - _axis(item)
    bin_of = ((np.arctan2(offset[:, 1], offset[:, 0]) / (2 * np.pi) % 1.0) * LIP_BINS).astype(int) % LIP_BINS
    body = np.flatnonzero(~on_handle(item, points))
    order = body[np.lexsort((height[body], bin_of[body]))]
    last = np.flatnonzero(np.diff(bin_of[order], append=-1))
    lip = points[order[last]]
    # A lip is about as high all around; a direction in which few samples are has none.
    lip = lip[lip[:, 2] > np.median(lip[:, 2]) - 0.5 * (np.median(lip[:, 2]) - height.min())]
    away = cKDTree(lip).query(samples.points_o)[0]
    size = np.ptp(samples.points_o, axis=0)
    score = _below(away, float(np.clip(RIM_SHARE * max(size[2], 0.5 * size[:2].min()), *RIM_M)))
    return score * (1.0 - _part_score(item, "handle")) if has_handle(item) else score


def _edge(item: SceneObject, samples: Samples) -> np.ndarray:
    """Where the surface bends within a few millimetres; the other side of something thin does not count."""
    from scipy.spatial import cKDTree

    tree = cKDTree(samples.points_o)
    normals = samples.normals_o
    straight = np.array([_mean_length(normals[near], own) for near, own in zip(tree.query_ball_point(samples.points_o, EDGE_M), normals, strict=True)])  # fmt: skip
    return 1.0 / (1.0 + np.exp(np.clip((straight - FLATNESS) / (SOFT * (1.0 - FLATNESS)), -60.0, 60.0)))


def _mean_length(normals: np.ndarray, own: np.ndarray) -> float:
    """Length of the mean of those normals (K, 3) that do not face the other way than one's own (3,)."""
    return float(np.linalg.norm(normals[normals @ own > OTHER_SIDE].mean(0)))


def _side(item: SceneObject, samples: Samples) -> np.ndarray:
    """What faces sideways and outwards between bottom and top, and is no handle."""
    height = _height(samples)
    steep = _below(np.abs(samples.normals_o[:, 2]), STEEP)
    between = np.minimum(_below(height, 0.9), 1.0 - _below(height, 0.1))
    score = np.minimum(steep, between)
    if item.hollow:
        score = score * ~_faces_in(item, samples)
    return score * (1.0 - _part_score(item, "handle")) if has_handle(item) else score


def _top(item: SceneObject, samples: Samples) -> np.ndarray:
    return _below(1.0 - _height(samples), 1.0 - TOP_SHARE)


def _bottom(item: SceneObject, samples: Samples) -> np.ndarray:
    score = _below(_height(samples), BOTTOM_SHARE)
    return score * ~_faces_in(item, samples) if item.hollow else score


def _head(item: SceneObject, samples: Samples) -> np.ndarray:
    return 1.0 - _part_score(item, "handle")


def _inside(item: SceneObject, samples: Samples) -> np.ndarray:
    score = _faces_in(item, samples).astype(np.float64)
    return score * (1.0 - _part_score(item, "handle")) if has_handle(item) else score


_SCORES = {
    "handle": _handle, "rim": _rim, "edge": _edge, "side": _side, "top": _top, "bottom": _bottom, "head": _head, "inside": _inside,
}  # fmt: skip


def _faces_in(item: SceneObject, samples: Samples) -> np.ndarray:
    """Which samples of a vessel face its axis, or up at its floor, (N,) bool."""
    offset = samples.points_o[:, :2] - _axis(item)
    radius = np.linalg.norm(offset, axis=1)
    outward = np.einsum("ni,ni->n", samples.normals_o[:, :2], offset) / np.maximum(radius, 1e-9)
    body = _body_radius(samples.points_o[:, 2], radius)
    return (outward - np.maximum(samples.normals_o[:, 2], 0.0) < -0.2) & (radius < body + 1e-3)


def _height(samples: Samples) -> np.ndarray:
    """Share of the object's height, (N,) in 0..1."""
    z = samples.points_o[:, 2]
    return (z - z.min()) / max(float(np.ptp(z)), 1e-9)


def _axis(item: SceneObject) -> np.ndarray:
    """Middle (2,) of a vessel's opening."""
    return find_opening(item)[0]
