"""Textures of fitted shapes: what the photo shows, and a plausible guess for what it does not."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from phototwin.frames import invert, project, transform
from phototwin.kernels.rasterize import Raster, rasterize

MAX_TEXTURE_PX = 1024
MIN_TEXTURE_PX = 32
OVERSAMPLING = 1.5
"""Texels per photo pixel: sampling twice with a filter of one pixel would blur the photo's finest detail."""
PADDING_PX = 2
"""Texels around each chart that repeat its rim, so that filtering never reaches another chart."""
MIN_COSINE = 0.1
"""Surface seen more edge-on than this says little about its colour."""
DEPTH_TOLERANCE = 0.02
"""A point is seen where it is within this share of the object's size of what the camera sees first."""
RIM_SHARE = 0.08
"""Where the fit reaches beyond the mask by less than this share of its size, the nearest pixel inside is taken."""
NEIGHBOURS, NEAR_SOURCES = 12, 20000
"""At a seam a colour is the mean of so many nearest of at most so many seen points."""
FAR_NEIGHBOURS, FAR_SOURCES = 80, 600
"""On a flat side of which nothing was seen, of many of few: nearest alone would paint each region like the edge next to it."""
NORMAL_WEIGHT, FLAT_NORMAL_WEIGHT = 0.3, 1.0
"""Two points that face opposite ways are as unlike as two that are this much, doubled, of the object's size apart. A flat side is coloured
from what is seen of that side, however little, and not from around its edges."""
GRAZING, GRAZING_SOURCES = 0.35, 64
"""What is seen more edge-on than this cosine is known only roughly: stretched to full view its details would be smears.
It is taken smooth from so many samples of it."""
SCRAP_SHARE = 0.3
"""Of a flat side less of which is seen nothing is taken: bevels that face the camera are no picture of the side behind them."""
FLAT_SIDED = ("box", "extrusion")
"""Shapes of which whole sides are seen edge-on; what is round turns away slowly, next to what is seen well."""
SEAM_SHARE = 0.1
"""Guessed colours fade into seen ones over this share of the object's size."""
CELLS_PER_SIDE = 64
"""Unseen texels are coloured in cells this fine along the object's longest side."""


@dataclass(frozen=True, eq=False)
class View:
    """The photo as one object sees it.

    Attributes:
        rgb: (H, W, 3) uint8.
        clean: (2, H, W) int, row and column of the nearest pixel that shows nothing but this object, -1 where none is near.
        depth_m: Depth of the fitted object alone, (H, W) float32, 0 = not there [m].
        nearest_m: Its least depth within ``around_px`` of each pixel, (H, W) float32 [m].
        around_px: How far an edge may be from where the fit has it [px].
        K_px: Intrinsics (3, 3).
        T_camera_object: Pose of the object, (4, 4).
        tolerance_m: Distance behind ``depth_m`` at which a point still counts as seen [m].
    """

    rgb: np.ndarray
    clean: np.ndarray
    depth_m: np.ndarray
    nearest_m: np.ndarray
    around_px: int
    K_px: np.ndarray
    T_camera_object: np.ndarray
    tolerance_m: float


def bake_texture(
    points_o: np.ndarray,
    faces: np.ndarray,
    T_world_object: np.ndarray,
    T_world_camera: np.ndarray,
    K_px: np.ndarray,
    rgb: np.ndarray,
    mask: np.ndarray,
    shape: str = "box",
) -> tuple[np.ndarray, np.ndarray]:
    """Texture coordinates (F, 3, 2) float32 and the texture (h, w, 3) uint8 of an object in a photo.

    What the photo shows is copied from it. The rest is taken from where the shape's own symmetry lands on a seen point,
    then from the nearest seen points.

    Args:
        points_o: Vertices (V, 3), object frame [m].
        faces: (F, 3), counter-clockwise seen from outside.
        T_world_object: Fitted pose (4, 4).
        T_world_camera: Camera pose (4, 4).
        K_px: Intrinsics (3, 3).
        rgb: Photo (H, W, 3) uint8.
        mask: Pixels of the object (H, W) bool.
        shape: One of ``OBJECT_SHAPES``; says which symmetries to try.
    """
    points_o = np.asarray(points_o, dtype=np.float64)
    T_camera_object = invert(T_world_camera) @ T_world_object
    points_c = transform(T_camera_object, points_o)
    normals_o = face_normals(points_o, faces)
    pixel_m = max(float(np.median(points_c[:, 2])), 1e-3) / float(K_px[0, 0])
    uv, width, height = _unwrap(points_o, faces, normals_o, pixel_m / OVERSAMPLING)
    atlas = _draw_flat(uv, width, height)
    where = atlas.face >= 0
    hit = atlas.face[where]
    texels_o = np.einsum("nc,ncd->nd", atlas.bary[where].astype(np.float64), points_o[faces[hit]])
    size = float(np.ptp(points_o, axis=0).max())
    shown = rasterize(points_c, faces, K_px, rgb.shape[1], rgb.shape[0])
    around_px = _rim_px(mask) + 1
    nearest = _nearest_around(shown.depth_m, around_px)
    view = View(
        rgb, _nearest_clean(mask), shown.depth_m, nearest, around_px, K_px, T_camera_object, DEPTH_TOLERANCE * size
    )
    colors = _complete(view, texels_o, normals_o[hit], shape, size)
    texture = np.zeros((height, width, 3), np.uint8)
    texture[where] = np.clip(np.round(colors), 0, 255)
    st = np.stack([uv[..., 0] / width, 1.0 - uv[..., 1] / height], -1)
    return st.astype(np.float32), _spread(texture, where)


def face_normals(points: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Unit normals (F, 3) of triangles, 0 for those without area."""
    a, b, c = np.moveaxis(np.asarray(points, dtype=np.float64)[faces], 1, 0)
    normals = np.cross(b - a, c - a)
    length = np.linalg.norm(normals, axis=1, keepdims=True)
    return normals / np.where(length > 0, length, 1.0)


def sample_texture(texture: np.ndarray, st: np.ndarray) -> np.ndarray:
    """Bilinear colours (..., 3) float32 of a texture (h, w, 3) at coordinates (..., 2), (0, 0) at its lower left."""
    height, width = texture.shape[:2]
    pixels = np.stack([st[..., 0] * width, (1.0 - st[..., 1]) * height], -1)
    return _sample(texture, pixels.reshape(-1, 2)).reshape(*st.shape[:-1], 3)


def shade_raster(raster: Raster, st: np.ndarray, texture: np.ndarray) -> np.ndarray:
    """Colours (H, W, 3) uint8 of what a raster shows of a textured mesh, 0 where it shows nothing."""
    hit = raster.face >= 0
    out = np.zeros((*raster.face.shape, 3), np.uint8)
    at = np.einsum("nc,ncd->nd", raster.bary[hit], st[raster.face[hit]])
    out[hit] = np.clip(np.round(sample_texture(texture, at)), 0, 255)
    return out


def _sample(image: np.ndarray, pixels: np.ndarray) -> np.ndarray:
    """Bilinear values (N, C) float32 at pixel coordinates (N, 2), centres at +0.5, the border repeated."""
    height, width = image.shape[:2]
    x = np.clip(pixels[:, 0] - 0.5, 0, width - 1)
    y = np.clip(pixels[:, 1] - 0.5, 0, height - 1)
    x0, y0 = np.minimum(x.astype(int), max(width - 2, 0)), np.minimum(y.astype(int), max(height - 2, 0))
    x1, y1 = np.minimum(x0 + 1, width - 1), np.minimum(y0 + 1, height - 1)
    fx, fy = (x - x0)[:, None].astype(np.float32), (y - y0)[:, None].astype(np.float32)
    top = image[y0, x0] * (1 - fx) + image[y0, x1] * fx
    return top * (1 - fy) + (image[y1, x0] * (1 - fx) + image[y1, x1] * fx) * fy


def _clean_pixels(mask: np.ndarray) -> np.ndarray:
    """The mask without its rim, whose pixels mix the object with what is behind it."""
    import cv2

    for r in range(_rim_px(mask), 0, -1):  # thinner where nothing would be left
        inner = cv2.erode(mask.astype(np.uint8), np.ones((2 * r + 1, 2 * r + 1), np.uint8), borderValue=0) > 0
        if inner.sum() > 0.4 * mask.sum():
            return inner
    return mask


def _rim_px(mask: np.ndarray) -> int:
    """How many pixels at an edge are not to be trusted: two, more on large objects, whose masks and fits are rougher."""
    return round(float(np.clip(0.01 * np.sqrt(mask.sum()), 2, 5)))


def _nearest_around(depth_m: np.ndarray, radius: int) -> np.ndarray:
    """The least depth in a square about each pixel, (H, W), inf where nothing is near."""
    import cv2

    depth = np.where(depth_m > 0, depth_m, np.inf).astype(np.float32)
    return cv2.erode(depth, np.ones((2 * radius + 1, 2 * radius + 1), np.uint8))


def _nearest_clean(mask: np.ndarray) -> np.ndarray:
    """Row and column (2, H, W) of each pixel's nearest clean one, -1 where that is too far to say anything."""
    from scipy.ndimage import distance_transform_edt

    clean = _clean_pixels(mask)
    out = np.full((2, *mask.shape), -1)
    if not clean.any():
        return out
    rows, columns = np.flatnonzero(clean.any(1)), np.flatnonzero(clean.any(0))
    reach = max(4, round(RIM_SHARE * float(np.sqrt(clean.sum()))))
    top, left = max(0, rows[0] - reach), max(0, columns[0] - reach)
    window = np.s_[top : rows[-1] + reach + 1, left : columns[-1] + reach + 1]
    nearest = np.asarray(distance_transform_edt(~clean[window], return_distances=False, return_indices=True))
    distance = np.linalg.norm(nearest - np.indices(nearest.shape[1:]), axis=0)
    out[:, *window] = np.where(distance <= reach, nearest + np.array([top, left])[:, None, None], -1)
    return out


def _unwrap(points: np.ndarray, faces: np.ndarray, normals: np.ndarray, texel_m: float) -> tuple[np.ndarray, int, int]:
    """Pixel coordinates (F, 3, 2) of every corner in an atlas, and its width and height.

    Faces are projected along the axis nearest to their normal; connected faces of one axis share a chart.
    """
    chart = _charts(points, faces, normals)
    axis = np.abs(normals).argmax(1)
    flat = np.zeros((len(faces), 3, 2))
    for k, (i, j) in enumerate(((1, 2), (0, 2), (0, 1))):
        flat[axis == k] = points[faces[axis == k]][..., [i, j]]
    count = int(chart.max()) + 1
    low, high = np.full((count, 2), np.inf), np.full((count, 2), -np.inf)
    np.minimum.at(low, chart, flat.min(1))
    np.maximum.at(high, chart, flat.max(1))
    while True:
        sizes = np.ceil((high - low) / texel_m).astype(int) + 2 * PADDING_PX + 1
        corners, width, height = _pack(sizes)
        if max(width, height) <= MAX_TEXTURE_PX:
            break
        texel_m *= 1.1
    uv = (flat - low[chart][:, None]) / texel_m + (corners[chart][:, None] + PADDING_PX + 0.5)
    return uv, width, height


def _charts(points: np.ndarray, faces: np.ndarray, normals: np.ndarray) -> np.ndarray:
    """Chart of each face (F,): components of faces that share an edge and face the same way along the same axis."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    axis = np.abs(normals).argmax(1)
    side = 2 * axis + (np.take_along_axis(normals, axis[:, None], 1)[:, 0] > 0)
    _, welded = np.unique(np.round(points, 7), axis=0, return_inverse=True)
    edges = np.sort(welded.reshape(-1)[faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2)], axis=1)
    owner = np.repeat(np.arange(len(faces)), 3)
    order = np.lexsort((edges[:, 0], edges[:, 1]))
    edges, owner = edges[order], owner[order]
    pair = (edges[1:] == edges[:-1]).all(1)
    a, b = owner[1:][pair], owner[:-1][pair]
    same = side[a] == side[b]
    graph = coo_array((np.ones(same.sum()), (a[same], b[same])), shape=(len(faces), len(faces)))
    return connected_components(graph, directed=False)[1]


def _pack(sizes: np.ndarray) -> tuple[np.ndarray, int, int]:
    """Upper left corners (N, 2) of rectangles (N, 2) set in rows, tallest first, and the width and height of the whole."""
    width = int(max(np.sqrt(1.1 * np.prod(sizes, axis=1, dtype=np.int64).sum()), sizes[:, 0].max(), MIN_TEXTURE_PX))
    corners = np.zeros_like(sizes)
    x = y = row = 0
    for i in np.argsort(-sizes[:, 1], kind="stable"):
        if x + sizes[i, 0] > width:
            x, y, row = 0, y + row, 0
        corners[i] = x, y
        x, row = x + sizes[i, 0], max(row, sizes[i, 1])
    return corners, width, max(int(y + row), MIN_TEXTURE_PX)


def _draw_flat(uv: np.ndarray, width: int, height: int) -> Raster:
    """Which face and where on it each texel of the atlas is."""
    flat = np.concatenate([uv.reshape(-1, 2), np.ones((uv.size // 2, 1))], 1)
    return rasterize(flat, np.arange(len(flat)).reshape(-1, 3), np.eye(3), width, height)


def _look_up(view: View, points_o: np.ndarray, normals_o: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Photo colours (N, 3) of surface points, and the cosine (N,) under which they are really seen, 0 where they are not."""
    colors, seen = np.zeros((len(points_o), 3), np.float32), np.zeros(len(points_o), np.float32)
    eye_o = invert(view.T_camera_object)[:3, 3]
    towards = eye_o - points_o
    cosine = np.einsum("ij,ij->i", towards, normals_o) / np.sqrt(np.einsum("ij,ij->i", towards, towards))
    facing = np.flatnonzero(cosine > MIN_COSINE)
    points_c = transform(view.T_camera_object, points_o[facing])
    ahead = points_c[:, 2] > 1e-3
    facing, points_c = facing[ahead], points_c[ahead]
    pixels = project(view.K_px, points_c)
    height, width = view.depth_m.shape
    inside = (pixels >= 0).all(1) & (pixels[:, 0] < width) & (pixels[:, 1] < height)
    column, row = np.where(inside[:, None], pixels, 0).astype(int).T
    clean_row, clean_column = view.clean[:, row, column]
    behind = np.abs(points_c[:, 2] - view.depth_m[row, column])
    ok = inside & (clean_row >= 0) & (view.depth_m[row, column] > 0) & (behind < view.tolerance_m)
    # Just behind an edge of the object itself the photo may still show what is in front; a slope explains some depth.
    slope = view.around_px * points_c[:, 2] / view.K_px[0, 0] / cosine[facing]
    ok &= points_c[:, 2] - view.nearest_m[row, column] < 3 * view.tolerance_m + slope
    aside = np.stack([clean_column - column, clean_row - row], -1)
    colors[facing[ok]] = _sample(view.rgb, pixels[ok] + aside[ok])
    seen[facing[ok]] = cosine[facing[ok]]
    return colors, seen


def _symmetries(shape: str, T_camera_object: np.ndarray) -> list[np.ndarray]:
    """Linear maps (3, 3) of the object onto itself, most plausible first."""
    mirror_x, mirror_y, mirror_z = np.diag([-1.0, 1, 1]), np.diag([1.0, -1, 1]), np.diag([1.0, 1, -1])
    if shape in ("cylinder", "sphere", "revolution"):
        # Behind the axis is what is before it: no seam where the seen part ends.
        away = np.array([*T_camera_object[2, :2], 0.0])
        away = away / np.linalg.norm(away) if np.linalg.norm(away) > 1e-6 else np.array([1.0, 0, 0])
        behind = np.eye(3) - 2 * np.outer(away, away)
        return [behind, mirror_z, behind @ mirror_z] if shape == "cylinder" else [behind]
    if shape == "extrusion":  # its ends differ: a spoon's bowl is not its handle
        return [mirror_y, mirror_z]
    # Half a turn keeps print readable, a mirror image does not.
    return [mirror_x @ mirror_y, mirror_y, mirror_x, mirror_x @ mirror_z, mirror_y @ mirror_z, mirror_z]


def _complete(view: View, points_o: np.ndarray, normals_o: np.ndarray, shape: str, size: float) -> np.ndarray:
    """A colour for every surface point (N, 3) float32: seen, mirrored from seen, or like its neighbours."""
    flat = shape in FLAT_SIDED
    weight = FLAT_NORMAL_WEIGHT if flat else NORMAL_WEIGHT
    place = np.concatenate([points_o / size, weight * normals_o], 1)
    # Points are alike where they are near and face the same way: the inside of a cup is not its outside.
    colors, cosine = _look_up(view, points_o, normals_o)
    seen, known = cosine > 0, cosine > 0
    for S in _symmetries(shape, view.T_camera_object):
        missing = np.flatnonzero(~known)
        found, found_cosine = _look_up(view, points_o[missing] @ S.T, normals_o[missing] @ S.T)
        taken = missing[found_cosine > 0]
        colors[taken], cosine[taken], known[taken] = found[found_cosine > 0], found_cosine[found_cosine > 0], True
    if flat:
        scraps = _scraps(normals_o, known)
        seen, known = seen & ~scraps, known & ~scraps
    if not seen.any():
        clean = (view.clean == np.indices(view.depth_m.shape)).all(0)
        pixels = view.rgb[clean]
        return np.broadcast_to(np.median(pixels, axis=0) if len(pixels) else 128.0, colors.shape).astype(np.float32)
    if flat:
        _smooth_grazing(place, colors, cosine, known)
    if not known.all():
        many = (FAR_NEIGHBOURS, FAR_SOURCES) if flat else (NEIGHBOURS, NEAR_SOURCES)
        far = _from_neighbours(place[known], colors[known], place[~known], *many)
        colors[~known] = far[0]
    if not seen.all():
        # What was guessed gives way to what was seen, so that no seam shows where the guess begins.
        alike, distance = _from_neighbours(place[seen], colors[seen], place[~seen], NEIGHBOURS, NEAR_SOURCES)
        share = np.clip(1 - distance / SEAM_SHARE, 0, 1)[:, None]
        colors[~seen] += share * (alike - colors[~seen])
    return colors


def _scraps(normals_o: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Points (N,) bool of flat sides of which so little is known that it would show as specks along their edges."""
    axis = np.abs(normals_o).argmax(1)
    side = 2 * axis + (np.take_along_axis(normals_o, axis[:, None], 1)[:, 0] > 0)
    count, shown = np.bincount(side, minlength=6), np.bincount(side, known, minlength=6)
    return (known & (shown < SCRAP_SHARE * count)[side]) if len(side) else known


def _smooth_grazing(place: np.ndarray, colors: np.ndarray, cosine: np.ndarray, known: np.ndarray) -> None:
    """Take the detail out of colours (N, 3) that were seen nearly edge-on, in place."""
    grazing = np.flatnonzero(known & (cosine < GRAZING))
    if len(grazing):
        smooth = _from_neighbours(
            place[grazing], colors[grazing], place[grazing], GRAZING_SOURCES // 2, GRAZING_SOURCES
        )[0]
        share = np.clip(2 * (1 - cosine[grazing] / GRAZING), 0, 1)[:, None]
        colors[grazing] += share * (smooth - colors[grazing])


def _from_neighbours(
    known: np.ndarray, colors: np.ndarray, wanted: np.ndarray, neighbours: int, sources: int
) -> tuple[np.ndarray, np.ndarray]:
    """Colours (M, 3) by inverse distance over the nearest of some known places (N, 6), once per small cell, and the nearest's distance (M,)."""
    from scipy.spatial import cKDTree

    # Drawn at random: every n-th of a grid of texels would be a pattern.
    thin = np.random.default_rng(0).permutation(len(known))[:sources]
    key = np.floor(wanted * CELLS_PER_SIDE).astype(np.int64) + 512
    _, first, member = np.unique(key @ (1 << 10 * np.arange(6)), return_index=True, return_inverse=True)
    count = min(neighbours, len(thin))
    distance, index = cKDTree(known[thin]).query(wanted[first], k=count)
    distance, index = distance.reshape(len(first), count), index.reshape(len(first), count)
    weight = 1.0 / (distance + 0.25 / CELLS_PER_SIDE)
    mean = (colors[thin][index] * weight[..., None]).sum(1) / weight.sum(1, keepdims=True)
    return mean[member.reshape(-1)].astype(np.float32), distance[:, 0][member.reshape(-1)].astype(np.float32)


def _spread(texture: np.ndarray, where: np.ndarray) -> np.ndarray:
    """The texture with every texel outside ``where`` set to its nearest one inside."""
    from scipy.ndimage import distance_transform_edt

    if not where.any():
        return np.full_like(texture, 128)
    nearest = np.asarray(distance_transform_edt(~where, return_distances=False, return_indices=True))
    return texture[nearest[0], nearest[1]]
