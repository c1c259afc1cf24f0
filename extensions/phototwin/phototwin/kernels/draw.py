"""Draw rigid parts that move (robot links, objects) into the buffers that compositing reads: albedo, depth, normals, ids.

The parts are put in the camera's frame, drawn into a z-buffer, and each pixel reads the colour or texture, the
smooth normal and the id of the triangle it sees. Nothing but these parts is drawn, and only rows and columns that they
touch are visited, which is why it is many times faster than ray casting the whole frame.
"""

# Warp reads these annotations as types of its own; a type checker cannot.
# pyright: reportInvalidTypeForm=false, reportOperatorIssue=false, reportArgumentType=false, reportCallIssue=false
# pyright: reportAssignmentType=false, reportIndexIssue=false, reportGeneralTypeIssues=false, reportReturnType=false

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import warp as wp

from phototwin.kernels.meshlist import MeshArrays, closed_faces, flat_faces
from phototwin.kernels.rasterize import GPU_SPAN, NEAR_M, NO_HIT
from phototwin.kernels.srgb import to_warp
from phototwin.kernels.zbuffer import (
    BOTH_SIDES,
    FRONT_ONLY,
    HIDDEN,
    Scratch,
    Target,
    draw_faces_kernel,
    draw_frames_kernel,
    finish_rows_kernel,
    place_points_kernel,
    resolve_kernel,
)


@dataclass(frozen=True, eq=False)
class Part:
    """A rigid mesh with one colour or one texture.

    Attributes:
        points: (V, 3) float32 in the part's frame [m].
        faces: (F, 3) int32.
        normals: Unit normals per vertex, (V, 3) float32 in the part's frame; None for flat ones of the faces.
        color_rgb: sRGB in 0..1, (3,); what shows where there is no texture.
        st: Texture coordinates per face corner, (F, 3, 2) float32, (0, 0) at the lower left; None without a texture.
        texture: (h, w, 3) uint8 sRGB, or None.
        id: What the id buffer says of its pixels, at least 1.
    """

    points: np.ndarray
    faces: np.ndarray
    normals: np.ndarray | None
    color_rgb: np.ndarray
    st: np.ndarray | None
    texture: np.ndarray | None
    id: int


@dataclass(frozen=True, eq=False)
class DrawList:
    """Parts joined into arrays on a device; made once by ``make_draw_list``.

    Attributes:
        device: Warp device.
        parts: How many parts there are (P).
        bounds: Bounding sphere of each in its own frame, (P, 4) float64 [m].
        mesh: The arrays.
    """

    device: str
    parts: int
    bounds: np.ndarray
    mesh: Any


@dataclass(frozen=True, eq=False)
class Canvas:
    """Memory to draw on, made once by ``make_canvas`` and used by one thread at a time; every drawing on it overwrites the one before.

    Attributes:
        albedo, depth, normals, ids: What ``draw_parts`` returns.
        spans: (N, H, 2) int32: first and one past the last column of each row where anything was drawn.
        points_c, uv: Places of the vertices in the camera's frame and in the image.
        nearest: The z-buffer.
        first, last: Spans of the frame that is being drawn.
    """

    albedo: Any
    depth: Any
    normals: Any
    ids: Any
    spans: Any
    points_c: Any
    uv: Any
    nearest: Any
    first: Any
    last: Any


def make_draw_list(parts: Sequence[Part], device: str = "cpu") -> DrawList:
    """Parts joined for ``draw_parts``, in their order.

    Raises:
        ValueError: There are no parts, or a face names a vertex that is not there.
    """
    if not parts:
        raise ValueError("There is nothing to draw: no parts were given.")
    points, normals, faces, closed, st, first = [], [], [], [], [], 0
    for part in parts:
        if part.faces.min() < 0 or part.faces.max() >= len(part.points):
            raise ValueError(
                f"Faces name vertices {part.faces.min()}..{part.faces.max()}, there are {len(part.points)}."
            )
        closed.append(closed_faces(part.points, part.faces))
        p, n, f = (part.points, part.normals, part.faces)
        if n is None:
            p, n, f = flat_faces(p, f)
        points.append(p)
        normals.append(n)
        faces.append(f + first)
        st.append(np.zeros((len(f), 3, 2)) if part.st is None else part.st)
        first += len(p)
    textures = [np.zeros((0, 3), np.uint8) if p.texture is None else p.texture.reshape(-1, 3) for p in parts]
    offsets = np.cumsum([0, *(len(t) for t in textures)])
    sizes = [(0, 0) if p.texture is None else (p.texture.shape[1], p.texture.shape[0]) for p in parts]
    texture_at = np.array([[offset, *size] for offset, size in zip(offsets[:-1], sizes, strict=True)])
    vertex_counts, face_counts = [len(p) for p in points], [len(f) for f in faces]
    order = np.arange(len(parts))
    middles = [(p.min(0) + p.max(0)) / 2.0 for p in points]
    radii = [np.linalg.norm(p - m, axis=1).max() for p, m in zip(points, middles, strict=True)]
    mesh = MeshArrays()
    with wp.ScopedDevice(device):
        mesh.points = wp.array(np.concatenate(points).astype(np.float32), dtype=wp.vec3)
        mesh.normals = wp.array(np.concatenate(normals).astype(np.float32), dtype=wp.vec3)
        mesh.vertex_part = wp.array(np.repeat(order, vertex_counts).astype(np.int32), dtype=wp.int32)
        mesh.faces = wp.array(np.concatenate(faces).astype(np.int32), dtype=wp.vec3i)
        mesh.face_part = wp.array(np.repeat(order, face_counts).astype(np.int32), dtype=wp.int32)
        mesh.closed = wp.array(np.concatenate(closed).astype(np.uint8), dtype=wp.uint8)
        mesh.first_vertex = wp.array(np.cumsum([0, *vertex_counts]).astype(np.int32), dtype=wp.int32)
        mesh.first_face = wp.array(np.cumsum([0, *face_counts]).astype(np.int32), dtype=wp.int32)
        mesh.st = wp.array(np.concatenate(st).astype(np.float32), dtype=wp.vec2)
        mesh.textures = wp.array(np.concatenate([*textures, np.zeros((1, 3), np.uint8)]), dtype=wp.vec3ub)
        mesh.texture_at = wp.array(texture_at.astype(np.int32), dtype=wp.vec3i)
        mesh.color = _codes([p.color_rgb for p in parts])
        mesh.id = wp.array(np.array([p.id for p in parts], np.int32), dtype=wp.int32)
    return DrawList(device, len(parts), np.concatenate([middles, np.array(radii)[:, None]], 1), mesh)


def recolored(parts: DrawList, colors_rgb: np.ndarray) -> DrawList:
    """The same parts with other plain colours, (P, 3) sRGB in 0..1; textures and all other memory are shared."""
    mesh = MeshArrays()
    for name in MeshArrays.vars:
        setattr(mesh, name, getattr(parts.mesh, name))
    with wp.ScopedDevice(parts.device):
        mesh.color = _codes(list(colors_rgb))
    return replace(parts, mesh=mesh)


def _codes(colors_rgb: Sequence[np.ndarray]) -> Any:
    return wp.array(np.array([255.0 * np.clip(c, 0, 1) for c in colors_rgb], np.float32), dtype=wp.vec3)


def make_canvas(parts: DrawList, count: int, width: int, height: int) -> Canvas:
    """Memory for up to ``count`` frames."""
    with wp.ScopedDevice(parts.device) as active:
        slots = count if active.is_cuda else 1
        vertices = len(parts.mesh.points)
        return Canvas(
            albedo=wp.zeros((count, height, width, 3), dtype=wp.uint8),
            depth=wp.zeros((count, height, width), dtype=wp.float32),
            normals=wp.zeros((count, height, width), dtype=wp.vec3),
            ids=wp.zeros((count, height, width), dtype=wp.int32),
            spans=wp.zeros((count, height), dtype=wp.vec2i),
            points_c=wp.empty(slots * vertices, dtype=wp.vec3),
            uv=wp.empty(slots * vertices, dtype=wp.vec2),
            nearest=wp.full(slots * height * width, NO_HIT, dtype=wp.uint64),
            first=wp.full(slots * height, width, dtype=wp.int32),
            last=wp.zeros(slots * height, dtype=wp.int32),
        )


def draw_parts(
    parts: DrawList,
    T_world_parts: np.ndarray,
    T_world_camera: np.ndarray,
    K_px: np.ndarray,
    width: int,
    height: int,
    canvas: Canvas | None = None,
) -> dict[str, Any]:
    """Buffers of N frames as Warp arrays: "albedo" (N, H, W, 3) uint8 sRGB, "depth" (N, H, W) float32 along the optical axis (0 = nothing) [m], "normals" (N, H, W, 3) world, "ids" (N, H, W) int32 (0 = nothing), "spans" (N, H, 2) int32 first and one past the last column of a row that has anything.

    Args:
        parts: What to draw.
        T_world_parts: Pose of every part in every frame, (N, P, 4, 4).
        T_world_camera: Pose of the camera, (4, 4).
        K_px: Intrinsics (3, 3) without skew [px].
        width: Image width [px].
        height: Image height [px].
        canvas: Where to draw, for at least N frames of that size: saves the memory's allocation and clearing. The buffers are then
            the canvas' own, and change with the next drawing. None makes a new one.

    Raises:
        ValueError: The poses do not fit the parts, or the canvas does not fit the frames.
    """
    if T_world_parts.ndim != 4 or T_world_parts.shape[1:] != (parts.parts, 4, 4):
        raise ValueError(f"Expected poses (N, {parts.parts}, 4, 4), got {T_world_parts.shape}.")
    count = len(T_world_parts)
    canvas = canvas or make_canvas(parts, count, width, height)
    if canvas.ids.shape[0] < count or canvas.ids.shape[1:] != (height, width):
        raise ValueError(f"A canvas of {canvas.ids.shape} does not hold {count} frames of {height} rows x {width}.")
    T_camera_parts = np.linalg.inv(T_world_camera) @ T_world_parts
    intrinsics = wp.vec4(*(float(K_px[i]) for i in ((0, 0), (1, 1), (0, 2), (1, 2))))
    scratch, target = Scratch(), Target()
    scratch.width, scratch.height, scratch.vertices = width, height, len(parts.mesh.points)
    for name in ("points_c", "uv", "nearest", "first", "last"):
        setattr(scratch, name, getattr(canvas, name))
    target.albedo = to_warp(canvas.albedo, np.uint8, wp.vec3ub, parts.device, (canvas.ids.size,))
    for name in ("depth", "normals", "ids", "spans"):
        setattr(target, name, getattr(canvas, name).flatten())
    mesh = parts.mesh
    with wp.ScopedDevice(parts.device) as active:
        T_c = wp.array(T_camera_parts.astype(np.float32), dtype=wp.mat44)
        T_w = wp.array(T_world_parts.astype(np.float32), dtype=wp.mat44)
        state = wp.array(_states(parts, T_camera_parts, K_px, width, height), dtype=wp.int32)
        view = [intrinsics, NEAR_M]
        if not active.is_cuda:
            given = [mesh, T_c, T_w, state, *view, NO_HIT]
            wp.launch(draw_frames_kernel, count, inputs=given, outputs=[scratch, target])
        else:
            wp.launch(
                place_points_kernel, (count, len(mesh.points)), inputs=[mesh, T_c, state, *view], outputs=[scratch]
            )
            wp.launch(draw_faces_kernel, (count, len(mesh.faces)), inputs=[mesh, state, *view], outputs=[scratch])
            blocks = (count, height, -(-width // GPU_SPAN))
            given = [mesh, T_w, intrinsics, NO_HIT, GPU_SPAN]
            wp.launch(resolve_kernel, blocks, inputs=given, outputs=[scratch, target])
            wp.launch(finish_rows_kernel, (count, height), outputs=[scratch, target])
    names = ("albedo", "depth", "normals", "ids", "spans")
    return {name: getattr(canvas, name)[:count] for name in names}


def _states(parts: DrawList, T_camera_parts: np.ndarray, K_px: np.ndarray, width: int, height: int) -> np.ndarray:
    """What is drawn of each part in each frame, (N, P) int32, from its bounding sphere and the planes of the view."""
    middles = np.einsum("npij,pj->npi", T_camera_parts[..., :3, :3], parts.bounds[:, :3]) + T_camera_parts[..., :3, 3]
    fx, fy, cx, cy = K_px[0, 0], K_px[1, 1], K_px[0, 2], K_px[1, 2]
    planes = np.array([[fx, 0, cx], [-fx, 0, width - cx], [0, fy, cy], [0, -fy, height - cy]])
    planes /= np.linalg.norm(planes, axis=1, keepdims=True)
    radius = parts.bounds[:, 3] + 1e-6
    seen = ((middles @ planes.T) >= -radius[:, None]).all(-1) & (middles[..., 2] >= NEAR_M - radius)
    around = np.linalg.norm(middles, axis=-1) <= radius + 2 * NEAR_M
    return np.where(seen, np.where(around, BOTH_SIDES, FRONT_ONLY), HIDDEN).astype(np.int32)
