"""The photo's background as something that can be looked at from a camera that has moved a little.

A front layer holds the photo's pixels where its depth puts them, cut at depth jumps. Behind every jump the farther surface goes on, and beyond
the borders each surface goes on along itself, with its texture. A view is drawn from these by depth.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from phototwin.blend.backdrop_hidden import (
    OVERLAP_PX,
    Canvas,
    close_jumps,
    find_hidden,
    grow_near_side,
    make_canvas,
    pad_surfaces,
    support_reach,
)
from phototwin.blend.backdrop_mesh import PixelMesh, mesh_pixels
from phototwin.blend.backdrop_paint import paint_surface, paint_tone, sample
from phototwin.blend.backdrop_surfaces import NOTHING, Surfaces, find_cuts, find_surfaces
from phototwin.blend.crop import resample_area, resample_nearest
from phototwin.build.fields import diffuse, dilate
from phototwin.errors import InputError
from phototwin.frames import invert, pixel_rays, transform
from phototwin.kernels.rasterize import rasterize
from phototwin.scene import Camera

FAR_M = 50.0
"""Where depth is 0 the background is this far away: no parallax that anyone sees [m]."""
NEAR_M = 0.05
"""Nothing in a photo is closer than this [m]."""
FLAT_PX = 0.15
"""Large triangles stand for many pixels where this displaces none by more [px]."""
UNDER = 1e-4
"""Hidden parts lie this share of their distance deeper where they overlap with visible ones."""
MAX_SAMPLES = 4
"""Samples along each side of a pixel, at most, where the view is smaller than the photo."""


@dataclass(frozen=True)
class Margin:
    """How far cameras may move from the photo's.

    Attributes:
        move_m: Along each axis [m].
        turn_rad: About each axis [rad].
        focal: Of the focal length, as a share of it.
    """

    move_m: float = 0.05
    turn_rad: float = 0.0873
    focal: float = 0.05


@dataclass(frozen=True, eq=False)
class Backdrop:
    """A background that can be seen from other cameras, made by ``make_backdrop``.

    Attributes:
        rgb: The photo (H, W, 3) uint8.
        depth_m: Its depth (H, W) float32, 0 = far [m].
        camera: The photo's camera.
        canvas: The photo and the room around it.
        colors: Colours of the layers on the canvas, each (rows, columns, 3) float32; the first is the photo, continued beyond its borders.
        corners: Upper left pixel of each layer's colours on the canvas, (L, 2) rows and columns.
        points_c: Vertices of all layers in the photo camera's frame (V, 3) [m].
        faces: Triangles (F, 3) int32.
        face_layer: Layer of each triangle (F,) int32.
    """

    rgb: np.ndarray
    depth_m: np.ndarray
    camera: Camera
    canvas: Canvas
    colors: tuple[np.ndarray, ...]
    corners: np.ndarray
    points_c: np.ndarray
    faces: np.ndarray
    face_layer: np.ndarray


@dataclass(frozen=True, eq=False)
class BackdropView:
    """What a camera sees of a backdrop.

    Attributes:
        rgb: (h, w, 3) uint8.
        depth_m: (h, w) float32 along the optical axis [m].
        holes: Pixels that no layer covers, filled from their neighbours, (h, w) bool.
        source_px: Pixel coordinates in the photo that each pixel's colour comes from, (h, w, 2) float32; NaN where it was made up.
    """

    rgb: np.ndarray
    depth_m: np.ndarray
    holes: np.ndarray
    source_px: np.ndarray


def make_backdrop(
    rgb: np.ndarray,
    depth_m: np.ndarray,
    camera: Camera,
    support_polygon_w: np.ndarray | None = None,
    margin: Margin = Margin(),
    guessed: bool = False,
    shrink: float = 1.0,
) -> Backdrop:
    """The background of a photo, ready for ``view_backdrop``; takes seconds, once per photo.

    Args:
        rgb: Photo (H, W, 3) uint8, as a rule without its movable objects.
        depth_m: Its depth (H, W) float32, 0 = far [m].
        camera: Its camera, in the world whose support is z = 0.
        support_polygon_w: Known outline of the support (K, 2) [m], or None.
        margin: How far cameras may move.
        guessed: Whether the depth beside the support was assumed and not measured: then nothing is torn at the support's edge, as what lies
            behind it and where exactly it ends are guesses.
        shrink: Photo pixels per pixel of the views: where they are smaller, the photo is reduced first, which is faster by its square.

    Raises:
        InputError: Shapes that do not belong together.
    """
    shape = (camera.height, camera.width)
    if rgb.shape != (*shape, 3) or depth_m.shape != shape:
        raise InputError(
            f"Cannot make a backdrop: expected a photo {(*shape, 3)} and depth {shape}, got {rgb.shape} and {depth_m.shape}."
        )
    if shrink > 1.0:
        rgb, depth_m, camera = _reduce(rgb, depth_m, camera, shrink)
    far = ~np.isfinite(depth_m) | (depth_m <= 0)
    inverse = 1.0 / np.clip(np.where(far, FAR_M, depth_m), NEAR_M, FAR_M).astype(np.float64)
    stretch = float(camera.K_px[0, 0]) * np.sqrt(3.0) * margin.move_m
    if guessed:
        surfaces = find_surfaces(close_jumps(inverse, camera, stretch), camera, stretch, support_polygon_w, torn=False)
    else:
        surfaces = grow_near_side(find_surfaces(inverse, camera, stretch, support_polygon_w), stretch)
    canvas = make_canvas(camera, surfaces.inverse, margin.move_m, margin.turn_rad, margin.focal)
    allowed = support_reach(surfaces, canvas, support_polygon_w)
    inverse, label = pad_surfaces(surfaces, canvas, allowed)
    right, down = find_cuts(inverse, label, int(surfaces.flat.sum()), stretch)
    if guessed:
        right[:, :-1][canvas.inside] = down[:-1][canvas.inside] = False
    cuts = right, down
    base = np.zeros((*inverse.shape, 3), np.float32)
    base[canvas.inside] = rgb
    painted_px = np.zeros(inverse.shape, bool)
    painted_px[canvas.inside] = True
    layers = [(base, np.zeros(2, int), mesh_pixels(inverse, np.ones(inverse.shape, bool), *cuts, FLAT_PX / stretch))]
    for hidden in find_hidden(surfaces, canvas, inverse, label, cuts, allowed, stretch):
        overlap = dilate(hidden.behind, OVERLAP_PX) & (label == hidden.surface)
        under = hidden.behind | overlap
        painted = _paint(base, surfaces, canvas, hidden.surface, hidden.seen, hidden.wanted | overlap)
        beyond = hidden.wanted & ~hidden.behind
        base[beyond] = painted[beyond]
        painted_px |= beyond
        if hidden.behind.any():
            layers.append(_layer(painted, hidden.inverse * (1 - UNDER), under, FLAT_PX / stretch))
    if not painted_px.all():
        base[:] = diffuse(base, painted_px)
    return _assemble(rgb, depth_m, camera, canvas, layers)


def _reduce(
    rgb: np.ndarray, depth_m: np.ndarray, camera: Camera, shrink: float
) -> tuple[np.ndarray, np.ndarray, Camera]:
    """Photo, depth and camera with ``shrink`` times fewer pixels along each side."""
    size = int(camera.width / shrink), int(camera.height / shrink)
    box = np.array([0.0, 0.0, shrink * size[0], shrink * size[1]])
    K = np.diag([1 / shrink, 1 / shrink, 1.0]) @ camera.K_px
    return resample_area(rgb, box, size), resample_nearest(depth_m, box, size), Camera(K, *size, camera.T_world_camera)


def _paint(
    base: np.ndarray, surfaces: Surfaces, canvas: Canvas, surface: int, seen: np.ndarray, wanted: np.ndarray
) -> np.ndarray:
    """The canvas with the wanted pixels of a surface painted."""
    known = seen & ~wanted
    if not known.any():
        known[canvas.inside] = True
        known &= ~wanted
    if surface == NOTHING:
        colors = paint_tone(base, known, wanted)
    else:
        a, b, c = surfaces.models[surface]
        model = np.array([a, b, c - a * canvas.left - b * canvas.top]) if surfaces.flat[surface] else None
        colors = paint_surface(base, known, wanted, canvas.camera.K_px, model)
    out = base.copy()
    out[wanted] = np.clip(colors, 0, 255)
    return out


def _layer(
    colors: np.ndarray, inverse: np.ndarray, mask: np.ndarray, tolerance: float
) -> tuple[np.ndarray, np.ndarray, PixelMesh]:
    """Colours, their corner on the canvas, and the mesh of a hidden part."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    low = np.maximum([rows[0] - 4, columns[0] - 4], 0)
    window = slice(low[0], rows[-1] + 5), slice(low[1], columns[-1] + 5)
    part, values = mask[window], inverse[window]
    none = np.zeros((part.shape[0], part.shape[1] - 1), bool), np.zeros((part.shape[0] - 1, part.shape[1]), bool)
    mesh = mesh_pixels(np.where(part, values, 1.0), part, *none, tolerance)
    return colors[window], low, PixelMesh(mesh.pixels + low[::-1], mesh.inverse, mesh.faces)


def _assemble(
    rgb: np.ndarray,
    depth_m: np.ndarray,
    camera: Camera,
    canvas: Canvas,
    layers: list[tuple[np.ndarray, np.ndarray, PixelMesh]],
) -> Backdrop:
    meshes = [mesh for _, _, mesh in layers]
    pixels, inverse = np.concatenate([m.pixels for m in meshes]), np.concatenate([m.inverse for m in meshes])
    first = np.cumsum([0, *(len(m.pixels) for m in meshes)])
    rays = np.concatenate([pixels, np.ones((len(pixels), 1))], 1) @ np.linalg.inv(canvas.camera.K_px).T
    return Backdrop(
        rgb,
        depth_m,
        camera,
        canvas,
        tuple(np.ascontiguousarray(colors) for colors, _, _ in layers),
        np.array([corner for _, corner, _ in layers]),
        rays / inverse[:, None],
        np.concatenate([m.faces + at for m, at in zip(meshes, first[:-1], strict=True)]),
        np.repeat(np.arange(len(meshes)), [len(m.faces) for m in meshes]),
    )


def view_backdrop(backdrop: Backdrop, camera: Camera) -> BackdropView:
    """The background as another camera sees it; from the photo's own pose, in the photo's own pixels, it is the photo bit by bit.

    Args:
        backdrop: See ``make_backdrop``.
        camera: Any size and crop, in the same world.
    """
    same = _same_view(backdrop, camera)
    return same if same is not None else draw_view(backdrop, camera)


def _same_view(backdrop: Backdrop, camera: Camera) -> BackdropView | None:
    """The view of a camera that has not moved and sees a part of the photo, resampled; None for other cameras."""
    old, new = backdrop.camera.K_px, camera.K_px
    scale = old[0, 0] / new[0, 0]
    low = old[:2, 2] - scale * new[:2, 2]
    high = low + scale * np.array([camera.width, camera.height])
    fits = np.allclose(backdrop.camera.T_world_camera, camera.T_world_camera, atol=1e-9)
    fits &= np.isclose(old[1, 1] / new[1, 1], scale, rtol=1e-9) and bool((low > -1e-6).all())
    if not fits or high[0] > backdrop.camera.width + 1e-6 or high[1] > backdrop.camera.height + 1e-6:
        return None
    box, size = np.concatenate([low, high]), (camera.width, camera.height)
    first = np.round(low).astype(int)
    if abs(scale - 1.0) < 1e-9 and np.allclose(low, first, atol=1e-6):
        window = slice(first[1], first[1] + camera.height), slice(first[0], first[0] + camera.width)
        rgb, depth = backdrop.rgb[window], backdrop.depth_m[window]
    else:
        rgb, depth = resample_area(backdrop.rgb, box, size), resample_nearest(backdrop.depth_m, box, size)
    x, y = np.meshgrid(np.arange(camera.width) + 0.5, np.arange(camera.height) + 0.5)
    source = (low + scale * np.stack([x, y], -1)).astype(np.float32)
    return BackdropView(rgb, depth.astype(np.float32), np.zeros(rgb.shape[:2], bool), source)


def draw_view(backdrop: Backdrop, camera: Camera) -> BackdropView:
    """The background as another camera sees it, drawn from the layers; several samples a pixel where the photo is finer than the view."""
    shrink = backdrop.camera.K_px[0, 0] / camera.K_px[0, 0]
    fine = int(np.clip(round(shrink), 1, MAX_SAMPLES))
    height, width = camera.height * fine, camera.width * fine
    K = np.diag([fine, fine, 1.0]) @ camera.K_px
    T_view_photo = invert(camera.T_world_camera) @ backdrop.camera.T_world_camera
    raster = rasterize(transform(T_view_photo, backdrop.points_c), backdrop.faces, K, width, height)
    seen = raster.face >= 0
    points = transform(invert(T_view_photo), pixel_rays(K, width, height) * raster.depth_m[..., None])
    points[..., 2] = np.where(seen, points[..., 2], 1.0)
    at = points @ backdrop.canvas.camera.K_px.T
    at = at[..., :2] / at[..., 2:]
    layer = np.where(seen, backdrop.face_layer[raster.face], -1)
    rgb = np.zeros((height, width, 3), np.float32)
    for i, (colors, corner) in enumerate(zip(backdrop.colors, backdrop.corners, strict=True)):
        here = layer == i
        if here.any():
            rgb[here] = sample(colors, at[here] - corner[::-1] - 0.5, smooth=fine == 1)
    source = at - [backdrop.canvas.left, backdrop.canvas.top]
    size = np.array([backdrop.camera.width, backdrop.camera.height])
    source[(layer != 0) | ((source < 0) | (source > size)).any(-1)] = np.nan
    return _gather(rgb, raster.depth_m, seen, source, fine)


def _gather(rgb: np.ndarray, depth_m: np.ndarray, seen: np.ndarray, source: np.ndarray, fine: int) -> BackdropView:
    """Pixels from ``fine`` times as many samples along each side; what no sample shows is filled from beside."""
    middle = slice(fine // 2, None, fine)
    weight = _mean(seen.astype(np.float32)[..., None], fine)
    color = _mean(np.where(seen[..., None], rgb, 0), fine) / np.maximum(weight, 1e-6)
    holes = weight[..., 0] == 0
    # Depth and source are not averaged: between a table and the floor behind it there is nothing.
    depth, source = depth_m[middle, middle], source[middle, middle]
    if not holes.all() and (holes | (depth <= 0)).any():
        color = diffuse(color, ~holes)
        known = depth > 0
        inverse = diffuse(np.where(known, 1.0 / np.where(known, depth, 1.0), 0), known)
        depth = np.where(known, depth, 1.0 / np.maximum(inverse, 1.0 / FAR_M))
    rgb8 = np.clip(np.round(color), 0, 255).astype(np.uint8)
    return BackdropView(rgb8, depth.astype(np.float32), holes, source.astype(np.float32))


def _mean(image: np.ndarray, fine: int) -> np.ndarray:
    if fine == 1:
        return image
    height, width = image.shape[0] // fine, image.shape[1] // fine
    return image.reshape(height, fine, width, fine, -1).mean((1, 3))
