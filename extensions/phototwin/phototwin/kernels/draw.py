"""Draw rigid parts that move (robot links, objects) into the buffers that compositing reads: albedo, depth, normals, ids.

The parts are put in the camera's frame, drawn by ``rasterize``'s z-buffer, and each pixel reads the colour or texture, the
smooth normal and the id of the triangle it sees. Nothing but these parts is drawn, which is why it is several times faster
than ray casting the whole frame.
"""

# Warp reads these annotations as types of its own; a type checker cannot.
# pyright: reportInvalidTypeForm=false, reportOperatorIssue=false, reportArgumentType=false, reportCallIssue=false
# pyright: reportAssignmentType=false, reportIndexIssue=false, reportGeneralTypeIssues=false, reportReturnType=false

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import warp as wp

from phototwin.kernels.rasterize import GPU_SPAN, NEAR_M, NO_HIT, draw_triangles_kernel, weights_at


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
    """Parts joined into arrays on a device; made once by ``make_draw_list``."""

    device: str
    parts: int
    points: Any
    normals: Any
    part: Any
    faces: Any
    face_part: Any
    st: Any
    textures: Any
    texture_at: Any
    color: Any
    id: Any


@wp.kernel(enable_backward=False)
def place_points_kernel(
    # in
    points: wp.array(dtype=wp.vec3),
    normals: wp.array(dtype=wp.vec3),
    part: wp.array(dtype=wp.int32),
    T_camera_part: wp.array(dtype=wp.mat44),
    T_world_part: wp.array(dtype=wp.mat44),
    # out
    points_c_out: wp.array(dtype=wp.vec3),
    normals_w_out: wp.array(dtype=wp.vec3),
) -> None:
    """One thread a vertex: its place in the camera's frame, its normal in the world."""
    v = wp.tid()
    points_c_out[v] = wp.transform_point(T_camera_part[part[v]], points[v])
    normals_w_out[v] = wp.transform_vector(T_world_part[part[v]], normals[v])


@wp.func
def texel(textures: wp.array2d(dtype=wp.uint8), at: wp.vec3i, x: int, y: int) -> wp.vec3:
    """Colour of a texel, the nearest inside the image; ``at`` is the offset, width and height of the texture."""
    row = at[0] + wp.clamp(y, 0, at[2] - 1) * at[1] + wp.clamp(x, 0, at[1] - 1)
    return wp.vec3(float(textures[row, 0]), float(textures[row, 1]), float(textures[row, 2]))


@wp.kernel(enable_backward=False)
def shade_pixels_kernel(
    # in
    points_c: wp.array(dtype=wp.vec3),
    normals_w: wp.array(dtype=wp.vec3),
    faces: wp.array2d(dtype=wp.int32),
    face_part: wp.array(dtype=wp.int32),
    st: wp.array2d(dtype=wp.vec2),
    textures: wp.array2d(dtype=wp.uint8),
    texture_at: wp.array(dtype=wp.vec3i),
    color: wp.array(dtype=wp.vec3),
    id: wp.array(dtype=wp.int32),
    intrinsics: wp.vec4,
    nearest: wp.array2d(dtype=wp.uint64),
    no_hit: wp.uint64,
    width: int,
    span: int,
    # out
    albedo_out: wp.array3d(dtype=wp.uint8),
    depth_out: wp.array2d(dtype=wp.float32),
    normal_out: wp.array2d(dtype=wp.vec3),
    id_out: wp.array2d(dtype=wp.int32),
) -> None:
    """One thread a run of pixels: what the triangle that was nearest looks like there."""
    y, block = wp.tid()
    for x in range(block * span, wp.min(width, (block + 1) * span)):
        key = nearest[y, x]
        if key != no_hit:
            face = int(key & wp.uint64(0xFFFFFFFF))
            i0 = faces[face, 0]
            i1 = faces[face, 1]
            i2 = faces[face, 2]
            w = weights_at(points_c, i0, i1, i2, x, y, intrinsics)
            part = face_part[face]
            at = texture_at[part]
            value = color[part]
            if at[1] > 0:
                uv = w[0] * st[face, 0] + w[1] * st[face, 1] + w[2] * st[face, 2]
                tx = uv[0] * float(at[1]) - 0.5
                ty = (1.0 - uv[1]) * float(at[2]) - 0.5
                left = int(wp.floor(tx))
                top = int(wp.floor(ty))
                fx = tx - float(left)
                fy = ty - float(top)
                upper = texel(textures, at, left, top) * (1.0 - fx) + texel(textures, at, left + 1, top) * fx
                lower = texel(textures, at, left, top + 1) * (1.0 - fx) + texel(textures, at, left + 1, top + 1) * fx
                value = upper * (1.0 - fy) + lower * fy
            for c in range(3):
                albedo_out[y, x, c] = wp.uint8(value[c] + 0.5)
            depth_out[y, x] = wp.cast(wp.uint32(key >> wp.uint64(32)), wp.float32)
            normal_out[y, x] = wp.normalize(w[0] * normals_w[i0] + w[1] * normals_w[i1] + w[2] * normals_w[i2])
            id_out[y, x] = id[part]


def make_draw_list(parts: Sequence[Part], device: str = "cpu") -> DrawList:
    """Parts joined for ``draw_parts``, in their order.

    Raises:
        ValueError: There are no parts, or a face names a vertex that is not there.
    """
    if not parts:
        raise ValueError("There is nothing to draw: no parts were given.")
    points, normals, faces, st, first = [], [], [], [], 0
    for part in parts:
        if part.faces.min() < 0 or part.faces.max() >= len(part.points):
            raise ValueError(
                f"Faces name vertices {part.faces.min()}..{part.faces.max()}, there are {len(part.points)}."
            )
        p, n, f = (part.points, part.normals, part.faces) if part.normals is not None else _flat(part)
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
    with wp.ScopedDevice(device):
        return DrawList(
            device=device,
            parts=len(parts),
            points=wp.array(np.concatenate(points).astype(np.float32), dtype=wp.vec3),
            normals=wp.array(np.concatenate(normals).astype(np.float32), dtype=wp.vec3),
            part=wp.array(np.repeat(order, vertex_counts).astype(np.int32), dtype=wp.int32),
            faces=wp.array(np.concatenate(faces).astype(np.int32), dtype=wp.int32),
            face_part=wp.array(np.repeat(order, face_counts).astype(np.int32), dtype=wp.int32),
            st=wp.array(np.concatenate(st).astype(np.float32), dtype=wp.vec2),
            textures=wp.array(np.concatenate([*textures, np.zeros((1, 3), np.uint8)]), dtype=wp.uint8),
            texture_at=wp.array(texture_at.astype(np.int32), dtype=wp.vec3i),
            color=wp.array(np.array([255.0 * np.clip(p.color_rgb, 0, 1) for p in parts], np.float32), dtype=wp.vec3),
            id=wp.array(np.array([p.id for p in parts], np.int32), dtype=wp.int32),
        )


def draw_parts(
    parts: DrawList, T_world_parts: np.ndarray, T_world_camera: np.ndarray, K_px: np.ndarray, width: int, height: int
) -> dict[str, Any]:
    """Buffers of N frames as Warp arrays: "albedo" (N, H, W, 3) uint8 sRGB, "depth" (N, H, W) float32 along the optical axis (0 = nothing) [m], "normals" (N, H, W, 3) world, "ids" (N, H, W) int32 (0 = nothing).

    Args:
        parts: What to draw.
        T_world_parts: Pose of every part in every frame, (N, P, 4, 4).
        T_world_camera: Pose of the camera, (4, 4).
        K_px: Intrinsics (3, 3) without skew [px].
        width: Image width [px].
        height: Image height [px].

    Raises:
        ValueError: The poses do not fit the parts.
    """
    if T_world_parts.ndim != 4 or T_world_parts.shape[1:] != (parts.parts, 4, 4):
        raise ValueError(f"Expected poses (N, {parts.parts}, 4, 4), got {T_world_parts.shape}.")
    count = len(T_world_parts)
    T_camera_parts = (np.linalg.inv(T_world_camera) @ T_world_parts).astype(np.float32)
    intrinsics = wp.vec4(*(float(K_px[i]) for i in ((0, 0), (1, 1), (0, 2), (1, 2))))
    with wp.ScopedDevice(parts.device) as active:
        span = GPU_SPAN if active.is_cuda else width
        points_c, normals_w = wp.empty_like(parts.points), wp.empty_like(parts.normals)
        nearest = wp.empty((height, width), dtype=wp.uint64)
        albedo = wp.zeros((count, height, width, 3), dtype=wp.uint8)
        depth = wp.zeros((count, height, width), dtype=wp.float32)
        normals = wp.zeros((count, height, width), dtype=wp.vec3)
        ids = wp.zeros((count, height, width), dtype=wp.int32)
        for i in range(count):
            T_c = wp.array(T_camera_parts[i], dtype=wp.mat44)
            T_w = wp.array(T_world_parts[i].astype(np.float32), dtype=wp.mat44)
            placed = [parts.points, parts.normals, parts.part, T_c, T_w]
            wp.launch(place_points_kernel, len(parts.points), inputs=placed, outputs=[points_c, normals_w])
            nearest.fill_(NO_HIT)
            drawn = [points_c, parts.faces, intrinsics, NEAR_M, width, height]
            wp.launch(draw_triangles_kernel, len(parts.faces), inputs=drawn, outputs=[nearest])
            seen = [points_c, normals_w, parts.faces, parts.face_part, parts.st, parts.textures, parts.texture_at]
            seen += [parts.color, parts.id, intrinsics, nearest, NO_HIT, width, span]
            out = [albedo[i], depth[i], normals[i], ids[i]]
            wp.launch(shade_pixels_kernel, (height, -(-width // span)), inputs=seen, outputs=out)
    return {"albedo": albedo, "depth": depth, "normals": normals, "ids": ids}


def _flat(part: Part) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Points, normals and faces with every corner a vertex of its own, so that faces are flat."""
    corners = part.points[part.faces]
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-12)
    faces = np.arange(3 * len(part.faces)).reshape(-1, 3)
    return corners.reshape(-1, 3), np.repeat(normal, 3, axis=0), faces
