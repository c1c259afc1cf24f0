"""What can be told of a twin without moving anything: sound meshes, and whether the objects cover their masks."""

from __future__ import annotations

import numpy as np
import trimesh

from phototwin.frames import invert, transform
from phototwin.images import load_ids
from phototwin.kernels.rasterize import rasterize
from phototwin.scene import Scene, SceneObject

GRID = 40
"""Cells along each side of the box in which volumes are counted: good to about 1 % of a shape that fills half of it."""
INSIDE_M = 1e-6
"""Rounding of hull planes."""
DEGENERATE_SHARE = 1e-7
"""A face smaller than this share of the squared size is a line or a point."""
OPEN_CAVITY_SHARE = 0.8
"""Share of a vessel's cavity that its convex pieces must leave free: their inner walls are chords of its round."""
VESSEL_CAVITY_SHARE = 0.1
"""A vessel's cavity is at least this share of its convex hull."""
BROKEN = ("open", "inside out", "no pieces", "filled")
"""First words of the defects that physics cannot live with."""


def mesh_defects(item: SceneObject, volume_tolerance: float) -> tuple[str, ...]:
    """What is wrong with an object's surface and its convex pieces, one phrase each.

    Args:
        item: The object.
        volume_tolerance: Share by which the pieces' volume may differ from the surface's.
    """
    surface = trimesh.Trimesh(item.mesh.points.astype(np.float64), item.mesh.faces)  # welds points at one place
    found: list[str] = []
    if not surface.is_watertight:
        # A closed surface has every edge in exactly two faces.
        uses = np.unique(surface.edges_sorted, axis=0, return_counts=True)[1]
        found.append(f"open: {int((uses != 2).sum())} edges do not join two faces")
    if not surface.is_winding_consistent or surface.volume <= 0:
        found.append("inside out: its faces do not all look outwards")
    flat = int((surface.area_faces < DEGENERATE_SHARE * float(item.size_m.max()) ** 2).sum())
    if flat:
        found.append(f"{flat} of {len(surface.faces)} faces have no area")
    if not item.pieces:
        return (*found, "no pieces: nothing of it can collide")
    if found and found[0].startswith(BROKEN):
        return tuple(found)  # without a volume there is nothing to compare
    return (*found, *_volume_defects(item, surface, volume_tolerance))


def _volume_defects(item: SceneObject, surface: trimesh.Trimesh, tolerance: float) -> list[str]:
    """Whether the pieces fill what the surface encloses, and nothing else."""
    found = []
    filled, volume = pieces_volume(item), float(surface.volume)
    off = filled / volume - 1.0
    if abs(off) > tolerance:
        found.append(
            f"its pieces fill {100 * abs(off):.0f} % {'more' if off > 0 else 'less'} than its surface encloses"
        )
    if item.hollow:
        hull = float(surface.convex_hull.volume)
        cavity = hull - volume
        if cavity < VESSEL_CAVITY_SHARE * hull:
            found.append(f"filled: it is said to be hollow, but its cavity is {100 * cavity / hull:.0f} % of its hull")
        elif hull - filled < OPEN_CAVITY_SHARE * cavity:
            found.append(f"filled: its pieces leave {100 * max(hull - filled, 0) / cavity:.0f} % of its cavity free")
    return found


def pieces_volume(item: SceneObject) -> float:
    """Volume of the union of an object's convex pieces, by counting the cells of a grid over them [m^3]."""
    clouds = [np.asarray(piece.points, np.float64) for piece in item.pieces]
    low, high = np.concatenate(clouds).min(0), np.concatenate(clouds).max(0)
    axes = [low[k] + (np.arange(GRID) + 0.5) / GRID * (high[k] - low[k]) for k in range(3)]
    cells = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3)
    inside = np.zeros(len(cells), bool)
    for cloud in clouds:
        near = np.flatnonzero(~inside & ((cells >= cloud.min(0)) & (cells <= cloud.max(0))).all(1))
        hull = trimesh.convex.convex_hull(cloud)
        reach = np.einsum("fi,fi->f", hull.face_normals, hull.triangles[:, 0])
        inside[near] = (cells[near] @ hull.face_normals.T <= reach + INSIDE_M).all(1)
    return float(inside.mean() * np.prod(high - low))


def reprojection_iou(scene: Scene, poses: list[np.ndarray]) -> list[float]:
    """For each object, how well what the photo's camera sees of it matches its mask: intersection over union, 0..1.

    Objects hide each other as they do in the photo.

    Args:
        scene: The twin.
        poses: T_world_object of each object, (4, 4) [m].
    """
    wanted = load_ids(scene.path(scene.masks))
    seen = seen_ids(scene, poses)
    out = []
    for i in range(len(scene.objects)):
        a, b = seen == i + 1, wanted == i + 1
        out.append(float((a & b).sum() / max((a | b).sum(), 1)))
    return out


def seen_ids(scene: Scene, poses: list[np.ndarray]) -> np.ndarray:
    """Which object each pixel of the photo's camera sees, (H, W) int: 0 = none, i + 1 = the i-th."""
    camera = scene.camera
    T_camera_world = invert(camera.T_world_camera)
    points, faces, owner, first = [], [], [], 0
    for i, (item, T) in enumerate(zip(scene.objects, poses, strict=True)):
        points.append(transform(T_camera_world @ T, item.mesh.points.astype(np.float64)))
        faces.append(item.mesh.faces + first)
        owner.append(np.full(len(item.mesh.faces), i + 1))
        first += len(item.mesh.points)
    if not points:
        return np.zeros((camera.height, camera.width), int)
    raster = rasterize(np.concatenate(points), np.concatenate(faces), camera.K_px, camera.width, camera.height)
    return np.append(np.concatenate(owner), 0)[raster.face]  # -1, nothing hit, is the last
