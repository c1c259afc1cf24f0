"""What lies behind the objects: the outline of the support, depth without holes, and a mesh of it."""

from __future__ import annotations

import numpy as np

from phototwin.build.edges import Piece, cut_faces, hidden_piece
from phototwin.build.fields import diffuse
from phototwin.frames import invert, pixel_rays, support_depth, transform
from phototwin.scene import Mesh, depth_inside

MAX_REACH_M = 2.0
"""Support farther than this from every object is left out: no arm reaches it."""
FOOTPRINT_MARGIN_M = 0.03
BACKDROP_GAP_M = 0.02
"""The wall stands this far behind the support."""
FLOOR_M = 0.75
"""Usual height of a table, for what is seen beside it."""
CLUTTER_M, CLUTTER_SHARE = 0.012, 0.012
"""Measured points this much, plus this share of their distance, above the support are things on it, not noise."""
BEYOND = 1.5
"""Where nothing is measured, the surface goes on to this many times the distance of its far edge."""
GAP_SHARE = 0.03
"""Gaps in the measured depth are filled from their rim; farther from it than this share of the picture's diagonal they are not gaps."""
SCRAP_SHARE = 0.05
"""Raised readings beside an object that are smaller than this share of it are its smeared edge."""
MAX_TRIANGLES, GRID_TRIANGLES = 20000, 15000
"""Of the whole background, and of the picture before its edges are cut."""
JUMP = 0.06
"""Neighbouring mesh points whose depths differ by more than this share are not one surface."""


def support_polygon(
    support_mask: np.ndarray, K_px: np.ndarray, T_world_camera: np.ndarray, footprints_w: list[np.ndarray]
) -> np.ndarray:
    """Convex outline (K, 2) of the support on z = 0, counter-clockwise seen from above [m].

    Args:
        support_mask: Pixels that show the support (H, W) bool.
        K_px: Intrinsics (3, 3).
        T_world_camera: Camera pose (4, 4).
        footprints_w: World x, y of each object's points (N, 2); the outline holds them with a margin.
    """
    import cv2

    height, width = support_mask.shape
    points = np.zeros((0, 2))
    main = _main_region(support_mask)
    if main.any():
        depth = support_depth(K_px, T_world_camera, width, height)
        rim = main & ~(cv2.erode(main.astype(np.uint8), np.ones((3, 3), np.uint8), borderValue=0) > 0)
        rim &= np.isfinite(depth)
        points = transform(T_world_camera, pixel_rays(K_px, width, height)[rim] * depth[rim][:, None])[:, :2]
    around = [f[_hull_index(f)] for f in footprints_w if len(f) >= 3]
    if around:
        # The rim may be far beyond reach with the reachable part inside it: pull it in rather than drop it.
        centre = np.concatenate(around).mean(0)
        offset = points - centre
        reach = MAX_REACH_M + max(np.linalg.norm(f - centre, axis=1).max() for f in around)
        points = centre + offset * np.minimum(1.0, reach / np.maximum(np.linalg.norm(offset, axis=1), 1e-9))[:, None]
    grown = [f + FOOTPRINT_MARGIN_M * step for f in around for step in np.array([(1, 1), (1, -1), (-1, -1), (-1, 1)])]
    points = np.concatenate([points, *grown])
    if len(points) < 3:
        below = T_world_camera[:2, 3]
        return below + np.array([[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]]) * MAX_REACH_M / 2
    return _thin_polygon(points[_hull_index(points)])


def background_depth(
    K_px: np.ndarray,
    T_world_camera: np.ndarray,
    polygon_w: np.ndarray,
    shape: tuple[int, int],
    depth_m: np.ndarray | None,
    removed: np.ndarray,
) -> np.ndarray:
    """Depth (H, W) float32 of the scene without its objects, no holes [m].

    On the support it is the plane. Elsewhere it is what was measured, its gaps filled smoothly; without measurement a
    wall behind the support and a floor beside it.

    Args:
        K_px: Intrinsics (3, 3).
        T_world_camera: Camera pose (4, 4).
        polygon_w: Outline of the support (K, 2).
        shape: Rows and columns.
        depth_m: Measured depth (H, W), 0 = no reading, or None.
        removed: Pixels of objects (H, W) bool.
    """
    import cv2

    height, width = shape
    plane = support_depth(K_px, T_world_camera, width, height)
    rays_w = pixel_rays(K_px, width, height) @ T_world_camera[:3, :3].T
    on_plane = np.isfinite(plane)
    hits_w = T_world_camera[:3, 3] + rays_w * np.where(on_plane, plane, 0)[..., None]
    on_support = on_plane & (depth_inside(polygon_w, hits_w[..., :2]) >= -1e-9)
    if depth_m is None:
        room = _room_depth(T_world_camera, rays_w, _far_edge(T_world_camera, polygon_w))
        return np.where(on_support, plane, room).astype(np.float32)
    # Depth sensors smear object edges over a few pixels.
    blurred = cv2.dilate(removed.astype(np.uint8), np.ones((7, 7), np.uint8)) > 0
    known = (depth_m > 0) & ~blurred
    above = T_world_camera[2, 3] + rays_w[..., 2] * depth_m
    clutter = known & (above > CLUTTER_M + CLUTTER_SHARE * depth_m)
    scraps = _scraps(clutter, removed)
    flat = on_support & (~clutter | scraps)
    known = (known & ~scraps) | flat
    near = np.where(flat, plane, depth_m)
    # Where the sensor saw nothing far around, the surface goes on for a while and then a wall ends the view.
    far = _far_edge(T_world_camera, polygon_w) * BEYOND
    beyond = np.minimum(plane, _room_depth(T_world_camera, rays_w, far, floor_m=0.0))
    reach = GAP_SHARE * np.hypot(height, width)
    lost = cv2.distanceTransform((~known).astype(np.uint8), cv2.DIST_L2, 5) > reach if known.any() else ~known
    near, known = np.where(lost, beyond, near), known | lost
    # Inverse depth is what is linear across a flat thing in the picture.
    inverse = diffuse(np.where(known, 1.0 / np.where(known, near, 1.0), 0), known)
    return np.where(known, near, 1.0 / np.maximum(inverse, 1e-2)).astype(np.float32)


def background_mesh(depth_m: np.ndarray, K_px: np.ndarray, T_world_camera: np.ndarray, texture: str) -> Mesh:
    """The background as a world-frame mesh, cut where depth jumps, what is behind an edge going on a little; st is the position in the picture.

    It has at most 20000 triangles, more only where depth is torn all over.

    Args:
        depth_m: Background depth (H, W), no holes [m].
        K_px: Intrinsics (3, 3).
        T_world_camera: Camera pose (4, 4).
        texture: Image path relative to the scene folder.
    """
    height, width = depth_m.shape
    step = max(1, int(np.ceil(np.sqrt(2 * height * width / GRID_TRIANGLES))))
    rows, columns = (
        np.unique(np.round(np.linspace(0, n - 1, max(2, (n - 1) // step + 1))).astype(int)) for n in (height, width)
    )
    # The outermost points lie on the picture's border, half a pixel out; inverse depth is linear on a plane.
    u, v = columns + 0.5, rows + 0.5
    inverse = 1.0 / depth_m.astype(np.float64)
    inverse = _to_border(_to_border(inverse, 0)[rows], 1)[:, columns]
    u[[0, -1]], v[[0, -1]] = (0.0, width), (0.0, height)
    z = 1.0 / inverse
    pixels = np.stack(np.broadcast_arrays(u, v[:, None]), -1).reshape(-1, 2)
    points_w = _unproject(K_px, T_world_camera, pixels, z.reshape(-1))
    index = np.arange(z.size).reshape(z.shape)
    a, b, c, d = index[:-1, :-1], index[:-1, 1:], index[1:, 1:], index[1:, :-1]
    # Counter-clockwise seen from the camera, whose picture has y down.
    faces = np.concatenate([np.stack([a, d, c], -1).reshape(-1, 3), np.stack([a, c, b], -1).reshape(-1, 3)])
    torn = _torn(faces, z, points_w)
    parts = [Piece(pixels, z.reshape(-1), faces[~torn], pixels)]
    if torn.any():
        parts += [
            cut_faces(faces[torn], pixels, z, depth_m.astype(np.float64)),
            hidden_piece(z, faces[torn], pixels, JUMP, max(MAX_TRIANGLES - len(faces) - 2 * int(torn.sum()), 0)),
        ]
    first = np.cumsum([0, *(len(part.pixels) for part in parts)])
    faces = np.concatenate([part.faces + k for part, k in zip(parts, first, strict=False)])
    shown = np.concatenate([part.shown for part in parts])[faces]
    st = np.stack([shown[..., 0] / width, 1 - shown[..., 1] / height], -1)
    points_w = np.concatenate([_unproject(K_px, T_world_camera, part.pixels, part.depth_m) for part in parts])
    used, compact = np.unique(faces, return_inverse=True)
    return Mesh(
        points_w[used].astype(np.float32), compact.reshape(-1, 3).astype(np.int32), st.astype(np.float32), texture
    )


def _unproject(K_px: np.ndarray, T_world_camera: np.ndarray, pixels: np.ndarray, depth_m: np.ndarray) -> np.ndarray:
    """World points (N, 3) of pixel coordinates (N, 2) at depths (N,)."""
    rays = (pixels - K_px[:2, 2]) / np.diag(K_px)[:2]
    return transform(T_world_camera, np.concatenate([rays, np.ones((len(rays), 1))], 1) * depth_m[:, None])


def _to_border(values: np.ndarray, axis: int) -> np.ndarray:
    """Values with the outermost ones moved half a step out, in a straight line unless that is a jump."""
    values = np.moveaxis(values.copy(), axis, 0)
    for outer, inner in ((0, 1), (-1, -2)) if len(values) > 2 else ():
        step = values[outer] - values[inner]
        values[outer] += np.where(np.abs(step) < JUMP * values[outer], 0.5 * step, 0.0)
    return np.moveaxis(values, 0, axis)


def _scraps(clutter: np.ndarray, removed: np.ndarray) -> np.ndarray:
    """Small raised regions (H, W) that touch an object."""
    import cv2

    count, label, stats, _ = cv2.connectedComponentsWithStats(clutter.astype(np.uint8))
    beside = np.unique(label[cv2.dilate(removed.astype(np.uint8), np.ones((21, 21), np.uint8)) > 0])
    small = stats[:, cv2.CC_STAT_AREA] < max(SCRAP_SHARE * removed.sum(), 30)
    # Single pixels are noise wherever they are.
    small &= np.isin(np.arange(count), beside) | (stats[:, cv2.CC_STAT_AREA] < 10)
    small[0] = False
    return small[label]


def _torn(faces: np.ndarray, z: np.ndarray, points_w: np.ndarray) -> np.ndarray:
    """True (F,) for triangles over a depth jump; what lies flat on the support is never torn, however slanted it is seen."""
    corners = z.reshape(-1)[faces]
    jump = corners.max(1) > (1 + JUMP) * corners.min(1)
    # A slanted surface has the same step on both sides: compare with the step that the neighbourhood takes.
    slope = np.maximum(_usual_step(np.log(z), 0), _usual_step(np.log(z), 1)).reshape(-1)[faces].max(1)
    jump &= np.log(corners.max(1) / corners.min(1)) > 3 * slope
    flat = np.abs(points_w[faces][..., 2]).max(1) < 1e-3
    return jump & ~flat


def _usual_step(values: np.ndarray, axis: int) -> np.ndarray:
    """The smaller of the steps to the two neighbours along an axis, (h, w)."""
    step = np.abs(np.diff(values, axis=axis))
    pad = [(0, 0), (0, 0)]
    pad[axis] = (1, 0)
    before = np.pad(step, pad, mode="edge")
    pad[axis] = (0, 1)
    return np.minimum(before, np.pad(step, pad, mode="edge"))


def _main_region(mask: np.ndarray) -> np.ndarray:
    """The mask without specks: opened, and only parts at least a twentieth as large as the largest."""
    import cv2

    opened = cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_OPEN, np.ones((5, 5), np.uint8))
    count, label, stats, _ = cv2.connectedComponentsWithStats(opened)
    if count < 2:
        return mask
    area = stats[:, cv2.CC_STAT_AREA].astype(float)
    area[0] = 0
    return (area >= 0.05 * area.max())[label]


def _hull_index(points: np.ndarray) -> np.ndarray:
    """Indices of the convex hull of points (N, 2), counter-clockwise."""
    from scipy.spatial import ConvexHull, QhullError

    try:
        return ConvexHull(points).vertices
    except QhullError:  # all on one line
        return np.arange(len(points))


def _thin_polygon(polygon: np.ndarray, limit: int = 24) -> np.ndarray:
    """The convex polygon with at most ``limit`` corners: those go first that cut off the least area."""
    while len(polygon) > limit:
        before, after = np.roll(polygon, 1, axis=0) - polygon, np.roll(polygon, -1, axis=0) - polygon
        area = np.abs(before[:, 0] * after[:, 1] - before[:, 1] * after[:, 0])
        polygon = np.delete(polygon, int(area.argmin()), axis=0)
    return polygon


def _ahead(T_world_camera: np.ndarray) -> np.ndarray:
    """Horizontal direction (2,) in which the camera looks; where it looks straight down, the upper side of the picture."""
    ahead = T_world_camera[:2, 2]
    if np.linalg.norm(ahead) < 0.05:
        ahead = -T_world_camera[:2, 1]
    return ahead / np.linalg.norm(ahead)


def _far_edge(T_world_camera: np.ndarray, polygon_w: np.ndarray) -> float:
    """Horizontal distance from the camera to the far end of the support [m]."""
    return max(float(((polygon_w - T_world_camera[:2, 3]) @ _ahead(T_world_camera)).max()), 0.3)


def _room_depth(T_world_camera: np.ndarray, rays_w: np.ndarray, wall_m: float, floor_m: float = FLOOR_M) -> np.ndarray:
    """Depth (H, W) of a wall across the line of sight, ``wall_m`` ahead, and of a floor ``floor_m`` below the support: whichever comes first."""
    forward = rays_w[..., :2] @ _ahead(T_world_camera)
    with np.errstate(divide="ignore"):
        wall = np.where(forward > 1e-6, (wall_m + BACKDROP_GAP_M) / forward, np.inf)
        floor = np.where(rays_w[..., 2] < -1e-6, -(T_world_camera[2, 3] + floor_m) / rays_w[..., 2], np.inf)
    room = np.minimum(wall, floor)
    finite = room[np.isfinite(room)]
    return np.where(np.isfinite(room), room, finite.max() if len(finite) else wall_m)


def object_depth(
    parts: list[tuple[np.ndarray, np.ndarray]],
    T_world_camera: np.ndarray,
    K_px: np.ndarray,
    shape: tuple[int, int],
) -> np.ndarray:
    """Depth (H, W) float32 of meshes (points_w (V, 3), faces), 0 where none is [m]."""
    from phototwin.kernels.rasterize import rasterize

    if not parts:
        return np.zeros(shape, np.float32)
    starts = np.cumsum([0, *(len(p) for p, _ in parts)])[:-1]
    points_c = transform(invert(T_world_camera), np.concatenate([p for p, _ in parts]))
    faces = np.concatenate([f + s for (_, f), s in zip(parts, starts, strict=True)])
    return rasterize(points_c, faces, K_px, shape[1], shape[0]).depth_m
