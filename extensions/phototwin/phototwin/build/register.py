"""Where a given mesh stands in the photo and how large it is: a search over how it may rest, then one joint least-squares fit."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from phototwin.build.convex import convex_pieces
from phototwin.build.fit import FittedShape, _cropped
from phototwin.build.fit_view import JUMP_SHARE, MIN_POINTS, View, make_view
from phototwin.build.register_fit import Pose, posed, refine
from phototwin.build.register_search import search
from phototwin.build.repair import clean, close, simplify
from phototwin.build.solid import holds_water
from phototwin.frames import make_T, rotation_z, transform
from phototwin.kernels.rasterize import rasterize
from phototwin.scene import GivenMesh

SEARCH_FACES, MESH_FACES = 1500, 4000  # for finding the pose; for the twin
REFINED, POLISHED = 6, 2  # starts that are refined, and refined again with every pixel
EXPLAINED_M, EXPLAINED_SHARE = 0.006, 0.06  # a measured point is explained within the lesser of these, at least ..
LEAST_EXPLAINED_M = 0.003  # .. within the noise of a sensor
POOR_IOU, POOR_EXPLAINED = 0.88, 0.75  # below these the mesh is hardly of this object
POOR_IOU_ALONE = 0.93  # without depth: many a thing of about the right length can be turned to cover most of a mask
UPSIDE_DOWN_COST = 0.02


@dataclass(frozen=True)
class _Verdict:
    score: float
    iou: float
    rmse_m: float | None
    explained: float
    ahead: float


def register_mesh(
    given: GivenMesh,
    mask: np.ndarray,
    K_px: np.ndarray,
    T_world_camera: np.ndarray,
    depth_m: np.ndarray | None,
    rgb: np.ndarray | None,
) -> FittedShape:
    """A given mesh, posed and scaled so that it explains one object's mask and depth; it stands on what the object stands on.

    Rotation, place and one factor for the size are free; the mesh is never mirrored and its proportions are kept.

    Args:
        given: Any frame and unit; which way is up need not be known.
        mask: (H, W) bool.
        K_px: (3, 3) [px].
        T_world_camera: (4, 4) [m].
        depth_m: (H, W) along the optical axis, 0 unknown [m], or None.
        rgb: (H, W, 3) uint8, or None.

    Raises:
        InputError: The mask is empty.
        PerceptionError: The mask is too small or its foot does not meet the support.
    """
    view = make_view(*_cropped(mask, K_px, depth_m, rgb, T_world_camera))
    if len(view.points_w) < MIN_POINTS and depth_m is not None:
        view = make_view(*_cropped(mask, K_px, None, rgb, T_world_camera))
    points, faces = clean(given.points, np.asarray(given.faces, dtype=np.int64))
    points = (points - points.mean(axis=0)) / float(np.ptp(points, axis=0).max())
    light = simplify(points, faces, SEARCH_FACES, keep_closed=False)
    starts = search(view, *light)
    refined = [refine(view, *light, start, coarse=True) for start in starts[:REFINED]]
    refined.sort(key=lambda pose: _cost(view, *light, pose))
    polished = [refine(view, *light, pose, coarse=False) for pose in refined[:POLISHED]]
    best = min(polished, key=lambda pose: _cost(view, *light, pose))
    return _shape(view, points, faces, best, given.source)


def _cost(view: View, points: np.ndarray, faces: np.ndarray, pose: Pose) -> float:
    """The judge's score; a vessel on its head pays, because from outside it looks much like one that stands."""
    points_w = posed(pose, points)
    on_its_head = not holds_water(points_w, faces) and holds_water(points_w * [1, -1, -1], faces)
    return _judge(view, points, faces, pose).score + UPSIDE_DOWN_COST * on_its_head


def _shape(view: View, points: np.ndarray, faces: np.ndarray, pose: Pose, source: str) -> FittedShape:
    """The posed mesh as an object: closed, with its pieces, in the frame that objects have."""
    points_w, faces, repaired = close(posed(pose, points), faces)
    points_w, faces = simplify(points_w, faces, MESH_FACES, keep_closed=True)
    points_w[:, 2] -= points_w[:, 2].min() - view.base_z
    verdict = _judge(view, points_w, faces, replace(pose, R=np.eye(3), t=np.zeros(3), scale=1.0))
    T_world_object = _object_frame(points_w)
    points_o = (points_w - T_world_object[:3, 3]) @ T_world_object[:3, :3]
    pieces, off = convex_pieces(points_o, faces)
    notes = f"Mesh from {source}, placed by {_evidence(view)}{_words(verdict)}."
    notes += "".join(f" {text[0].upper()}{text[1:]}." for text in (repaired, off) if text)
    least = POOR_IOU_ALONE if verdict.rmse_m is None else POOR_IOU
    if verdict.iou < least or verdict.explained < POOR_EXPLAINED:
        notes += " This is a poor fit: the mesh is hardly of this object; give another one or leave it out."
    return FittedShape(
        shape="mesh",
        hollow=holds_water(points_o, faces),
        T_world_object=T_world_object,
        points=points_o.astype(np.float32),
        faces=faces.astype(np.int32),
        pieces=pieces,
        size_m=np.ptp(points_o, axis=0),
        iou=verdict.iou,
        depth_rmse_m=verdict.rmse_m,
        notes=notes,
    )


def _evidence(view: View) -> str:
    return f"{len(view.points_w)} depth points and the silhouette" if len(view.points_w) else "the silhouette only"


def _words(verdict: _Verdict) -> str:
    if verdict.rmse_m is None:
        return f": overlap {verdict.iou:.2f}"
    return f": overlap {verdict.iou:.2f}, {100 * verdict.explained:.0f} % of the points explained"


def _object_frame(points_w: np.ndarray) -> np.ndarray:
    """T_world_object (4, 4): Z up, the horizontal box of least area, +X along its longer side, origin at the box's centre."""
    import cv2

    (_, (wide, deep), angle_deg) = cv2.minAreaRect(points_w[:, :2].astype(np.float32))
    R = rotation_z(np.radians(angle_deg) + (0.0 if wide >= deep else np.pi / 2))
    points = points_w @ R
    return make_T(R, R @ ((points.min(axis=0) + points.max(axis=0)) / 2))


def _judge(view: View, points: np.ndarray, faces: np.ndarray, pose: Pose) -> _Verdict:
    """Missing overlap + unexplained points + surface in front of what was measured; lower is better."""
    points_w = posed(pose, points)
    height, width = view.mask.shape
    raster = rasterize(transform(view.T_camera_world, points_w), faces, view.K_px, width, height)
    covered = raster.face >= 0
    counted = _counted(view, raster.depth_m)
    iou = float((covered & view.mask).sum() / max(((covered | view.mask) & counted).sum(), 1))
    if not len(view.points_w) or not covered.any():
        return _Verdict(1 - iou, iou, None, 1.0, 0.0)
    from scipy.spatial import cKDTree

    assert view.depth_m is not None
    seen_w = np.einsum("nc,ncd->nd", raster.bary[covered], points_w[faces[raster.face[covered]]])
    tolerance = max(LEAST_EXPLAINED_M, min(EXPLAINED_M, EXPLAINED_SHARE * float(np.ptp(points_w, axis=0).max())))
    distance = cKDTree(seen_w).query(view.points_w)[0]
    explained = distance < tolerance
    rmse = float(np.sqrt(np.mean(distance[explained] ** 2))) if explained.any() else tolerance
    slack = tolerance + JUMP_SHARE * 0.25 * raster.depth_m
    ahead = covered & (view.depth_m > raster.depth_m + slack)
    share, hidden = float(explained.mean()), float(ahead.sum() / covered.sum())
    return _Verdict(1 - iou + 1 - share + hidden + 0.1 * rmse / tolerance, iou, rmse, share, hidden)


def _counted(view: View, drawn_m: np.ndarray) -> np.ndarray:
    """Where the silhouette says something (H, W): not where something nearer than the drawn mesh hides it."""
    if view.depth_m is None or not len(view.points_w):
        return np.ones_like(view.mask)
    return view.mask | (view.depth_m <= 0) | (view.depth_m > drawn_m * (1 - JUMP_SHARE))
