"""The shape that explains one object's mask, depth and colours best, as a closed mesh with convex pieces."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from phototwin.build import shapes
from phototwin.build.fit_dish import fit_dish, usual_plate
from phototwin.build.fit_extrusion import fit_extrusion
from phototwin.build.fit_lying import fit_lying
from phototwin.build.fit_revolution import fit_revolution
from phototwin.build.fit_solids import Candidate, fit_box, fit_cylinder, fit_sphere
from phototwin.build.fit_view import JUMP_SHARE, MIN_POINTS, View, make_view, overlap
from phototwin.errors import InputError
from phototwin.frames import invert, make_T, rotation_z, transform
from phototwin.scene import ConvexPiece

CROP_MARGIN_PX = 12
RAGGED_PX = 25.0
DOUBTFUL = 0.12  # score without depth above which the user should look at the fit
TIE = 0.02  # a reading whose score is this close to the best is told to the user ...
DIFFERS = 1.25  # ... where one of its sizes differs by this factor
FLAT_SHARE = 0.08  # height over width below which a round thing's foot would hide under a rim of the same outline
MAX_SIDE_PX = 400  # larger objects are looked at with fewer pixels


@dataclass(frozen=True)
class FitConfig:
    """How shapes compete.

    Attributes:
        shapes: The shapes that may be chosen; empty means all.
        residual_m: A measured point further than this from the surface is unexplained [m].
        overlap_weight: What one unit of missing silhouette overlap costs against the share of unexplained points.
    """

    shapes: tuple[str, ...] = ()
    residual_m: float = 0.006
    overlap_weight: float = 1.0


@dataclass(frozen=True, eq=False)
class FittedShape:
    """The chosen shape.

    Attributes:
        shape: One of ``scene.OBJECT_SHAPES``.
        hollow: Open vessel.
        T_world_object: Pose (4, 4): Z up, origin at the bounding box's centre, +X along the longer horizontal side [m].
        points: (V, 3) float32, object frame [m].
        faces: (F, 3) int32, counter-clockwise seen from outside; closed.
        pieces: Convex pieces, object frame.
        size_m: Extent of the bounding box (3,) [m].
        iou: Overlap of the mesh's silhouette with the mask, 0..1.
        depth_rmse_m: Root mean square distance of the measured points to the surface, without those it does not explain, or None [m].
        notes: One sentence: which shapes competed and how they scored.
    """

    shape: str
    hollow: bool
    T_world_object: np.ndarray
    points: np.ndarray
    faces: np.ndarray
    pieces: tuple[ConvexPiece, ...]
    size_m: np.ndarray
    iou: float
    depth_rmse_m: float | None
    notes: str


def fit_object(
    mask: np.ndarray,
    K_px: np.ndarray,
    T_world_camera: np.ndarray,
    depth_m: np.ndarray | None,
    rgb: np.ndarray | None,
    config: FitConfig | None = None,
    others: np.ndarray | None = None,
) -> FittedShape:
    """The shape of one object that stands on the support z = 0 (or on what the depth shows beneath it).

    Args:
        mask: (H, W) bool.
        K_px: (3, 3) [px].
        T_world_camera: (4, 4) [m].
        depth_m: (H, W) along the optical axis, 0 unknown [m], or None.
        rgb: (H, W, 3) uint8, or None.
        config: How shapes compete.
        others: (H, W) int32 ids of other objects, 0 where there is none, or None: the object may go on behind them.

    Raises:
        InputError: An array has another size than the mask.
        PerceptionError: The mask is too small or its foot does not meet the support.
    """
    config = config or FitConfig()
    for name, image in (("depth", depth_m), ("rgb", rgb)):
        if image is not None and image.shape[:2] != mask.shape:
            raise InputError(
                f"The {name} is {image.shape[:2]} but the mask is {mask.shape}; both must be of one photo."
            )
    view = make_view(*_cropped(mask, K_px, depth_m, rgb, T_world_camera, others))
    if len(view.points_w) < MIN_POINTS and depth_m is not None:
        view = make_view(*_cropped(mask, K_px, None, rgb, T_world_camera, others))
    candidates = [c for c in _candidates(view) if not config.shapes or c.shape in config.shapes]
    if not candidates:
        raise InputError(f"No shape of {', '.join(config.shapes)} can be fitted to this object.")
    judged = [(judge(view, c, config), c) for c in candidates]
    judged.sort(key=lambda item: item[0].score)
    (verdict, best) = judged[0]
    words = ", ".join(f"{'hollow ' if c.hollow else ''}{c.shape} {v.score:.3f}" for v, c in judged)
    evidence = f"{len(view.points_w)} depth points and the silhouette" if len(view.points_w) else "the silhouette only"
    if depth_m is not None and not len(view.points_w):
        evidence += " (too few depth readings on it)"
    notes = f"Fitted by {evidence}; lower is better: {words}{'; ' + best.note if best.note else ''}."
    if not len(view.points_w):
        notes += _doubts(judged)
    return in_object_frame(best, verdict, notes)


def _doubts(judged: list[tuple[Verdict, Candidate]]) -> str:
    """What the user should know where only a silhouette speaks: a poor fit, or another reading that is nearly as good."""
    (verdict, best), out = judged[0], ""
    size = np.ptp(best.solid.points, axis=0)
    if verdict.score > DOUBTFUL:
        out += f" This fit is doubtful: {verdict.score:.2f} is poor."
    if best.shape == "cylinder" and size[2] < FLAT_SHARE * size[0]:
        out += " A plate whose rim hides its foot would look the same and be taller."
    for other, candidate in judged[1:]:
        wide = np.ptp(candidate.solid.points, axis=0)
        ratio = np.array([wide[:2].max(), wide[:2].min(), wide[2]]) / [size[:2].max(), size[:2].min(), size[2]]
        if other.score < verdict.score + TIE and np.maximum(ratio, 1 / ratio).max() > DIFFERS:
            words = " x ".join(f"{share:.2f}" for share in ratio)
            kind = f"{'hollow ' if candidate.hollow else ''}{candidate.shape}"
            out += f" Nearly as good: a {kind} with {words} times its length, width and height."
            break
    return out


def _cropped(
    mask: np.ndarray,
    K_px: np.ndarray,
    depth_m: np.ndarray | None,
    rgb: np.ndarray | None,
    T_world_camera: np.ndarray,
    others: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray | None, np.ndarray | None, np.ndarray | None]:
    """``make_view``'s arguments for the mask's surroundings, with every second, third.. pixel where that is enough."""
    v, u = np.nonzero(mask)
    if not len(v):
        raise InputError("An object's mask is empty.")
    low = np.maximum([u.min() - CROP_MARGIN_PX, v.min() - CROP_MARGIN_PX], 0)
    high = np.minimum([u.max() + CROP_MARGIN_PX + 1, v.max() + CROP_MARGIN_PX + 1], mask.shape[::-1])
    step = int(np.ceil((high - low).max() / MAX_SIDE_PX))
    part = (slice(low[1] + step // 2, high[1], step), slice(low[0] + step // 2, high[0], step))
    K = np.array(K_px, dtype=np.float64)
    K[:2, 2] -= low + step // 2 + 0.5  # the first kept pixel's centre ...
    K[:2] /= step
    K[:2, 2] += 0.5  # ... is the centre of the new first pixel
    deep, seen, beside = (
        None if image is None else np.ascontiguousarray(image[part]) for image in (depth_m, rgb, others)
    )
    return np.ascontiguousarray(mask[part]), K, np.asarray(T_world_camera, dtype=np.float64), deep, seen, beside


def _candidates(view: View) -> list[Candidate]:
    cylinder, parameters, body = fit_cylinder(view)
    round_view = replace(view, body_contour=body)
    out = [fit_box(view), cylinder, fit_lying(view), fit_sphere(view), *fit_revolution(round_view, parameters)]
    return [*out, *fit_dish(view), *usual_plate(view, parameters), *fit_extrusion(view)]


@dataclass(frozen=True)
class Verdict:
    """How well a candidate explains a view.

    Attributes:
        score: Lower is better; comparable between candidates for one view only.
        iou: Overlap of the candidate's silhouette with the mask, 0..1.
        rmse_m: Root mean square distance of the points that it explains to its surface; None without points [m].
    """

    score: float
    iou: float
    rmse_m: float | None


def judge(view: View, candidate: Candidate, config: FitConfig) -> Verdict:
    """The verdict on one candidate, a given mesh as well as a fitted shape.

    Its score is the missing silhouette overlap + the share of unexplained points + the share of the surface in front of what
    was measured + the candidate's complexity.

    Args:
        view: One object as the camera sees it, from ``fit_view.make_view``.
        candidate: Surface in its fit frame, with that frame's pose in the world.
        config: How shapes compete.
    """
    points_w = transform(candidate.T_world_fit, candidate.solid.points)
    iou = overlap(view, points_w, candidate.solid.faces)
    ragged = 1 + RAGGED_PX / np.sqrt(view.mask.sum())  # the fewer pixels, the more a free shape can follow their noise
    score = config.overlap_weight * (1 - iou) + candidate.complexity * float(ragged)
    if not len(view.points_w):
        return Verdict(score, iou, None)
    from scipy.spatial import cKDTree

    samples = _surface_samples(points_w, candidate.solid.faces, 12000)
    distance = cKDTree(samples).query(view.points_w)[0]
    tolerance = min(config.residual_m, max(0.003, 0.08 * float(np.ptp(points_w, axis=0).max())))
    explained = distance < tolerance
    rmse = float(np.sqrt(np.mean(distance[explained] ** 2))) if explained.any() else tolerance
    ahead = _in_front(view, samples, tolerance)
    score += float(np.mean(~explained)) + ahead + 0.1 * min(rmse / tolerance, 1.0)
    return Verdict(score, iou, rmse)


def _surface_samples(points: np.ndarray, faces: np.ndarray, count: int) -> np.ndarray:
    """About ``count`` points (N, 3) spread over a mesh by area, the same every time."""
    a, b, c = (points[faces[:, i]] for i in range(3))
    area = np.linalg.norm(np.cross(b - a, c - a), axis=1)
    rng = np.random.default_rng(0)
    face = rng.choice(len(faces), count, p=area / area.sum())
    r, s = np.sqrt(rng.random((count, 1))), rng.random((count, 1))
    return (1 - r) * a[face] + r * (1 - s) * b[face] + r * s * c[face]


def _in_front(view: View, samples_w: np.ndarray, tolerance_m: float) -> float:
    """Share of surface samples that hide something the sensor saw behind them: free space that the shape fills."""
    assert view.depth_m is not None
    height, width = view.mask.shape
    distance = transform(view.T_camera_world, samples_w)[:, 2]
    u, v = np.floor(view.project(samples_w)).astype(int).T
    inside = (u >= 0) & (v >= 0) & (u < width) & (v < height)
    measured = np.zeros(len(samples_w))
    measured[inside] = view.depth_m[v[inside], u[inside]]
    slack = tolerance_m + JUMP_SHARE * 0.25 * distance
    return float(np.mean((measured > 0) & (distance < measured - slack)))


def in_object_frame(candidate: Candidate, verdict: Verdict, notes: str) -> FittedShape:
    """The candidate as a fitted shape: origin at the bounding box's centre, +X along the longer horizontal side.

    Args:
        candidate: The chosen one; its fit frame's Z is the world's up where the thing stands.
        verdict: What ``judge`` said of it.
        notes: One sentence on how it was found.
    """
    T_world_fit = candidate.T_world_fit
    size = np.ptp(candidate.solid.points, axis=0)
    turn = rotation_z(np.pi / 2 if size[1] > size[0] else 0.0)
    points = candidate.solid.points @ turn
    center = (points.min(axis=0) + points.max(axis=0)) / 2
    T_fit_object = make_T(turn, turn @ center)
    T_object_fit = invert(T_fit_object)
    pieces = tuple(
        ConvexPiece(transform(T_object_fit, piece.points.astype(np.float64)).astype(np.float32), piece.faces)
        for piece in candidate.solid.pieces
    )
    return FittedShape(
        shape=candidate.shape,
        hollow=candidate.hollow,
        T_world_object=T_world_fit @ T_fit_object,
        points=(points - center).astype(np.float32),
        faces=candidate.solid.faces,
        pieces=pieces,
        size_m=np.ptp(points, axis=0),
        iou=verdict.iou,
        depth_rmse_m=verdict.rmse_m,
        notes=notes,
    )


def mesh_facts(shape: FittedShape) -> dict[str, float | bool]:
    """Closedness, volume of mesh and pieces [m^3]: what a report or a test asks of a fitted shape."""
    pieces: Sequence[ConvexPiece] = shape.pieces
    return {
        "closed": shapes.is_closed(shape.faces),
        "volume_m3": shapes.mesh_volume(shape.points.astype(np.float64), shape.faces),
        "pieces_volume_m3": sum(shapes.mesh_volume(p.points.astype(np.float64), p.faces) for p in pieces),
    }
