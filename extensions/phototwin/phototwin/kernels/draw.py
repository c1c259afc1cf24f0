"""Draw rigid parts that move (robot links, objects) into the buffers that compositing reads: albedo, depth, normals, ids.

The parts are put in the camera's frame, drawn into a z-buffer, and each pixel reads the colour or texture, the
smooth normal and the id of the triangle it sees. Nothing but these parts is drawn, and only rows and columns that they
touch are visited, which is why it is many times faster than ray casting the whole frame. On the CPU, where the threads of a launch run one
after another, one thread draws a whole frame and everything it needs stays in the cache; on CUDA a thread takes a vertex, a triangle or a few pixels.
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

from phototwin.kernels.meshlist import MeshArrays, closed_faces, flat_faces
from phototwin.kernels.rasterize import (
    BOUNDS_SLACK_PX,
    EDGE_SLACK,
    GPU_SPAN,
    NEAR_M,
    NO_HIT,
    grow_bounds_clipped,
    weights_at,
)

HIDDEN, BOTH_SIDES, FRONT_ONLY = 0, 1, 2
"""What a frame draws of a part: nothing where it is out of view, all where the camera may be inside it, else closed surfaces from outside only."""


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


@wp.struct
class Scratch:
    """The canvas as the kernels see it; on the CPU all frames share one slot."""

    points_c: wp.array2d(dtype=wp.vec3)
    uv: wp.array2d(dtype=wp.vec2)
    nearest: wp.array3d(dtype=wp.uint64)
    first: wp.array2d(dtype=wp.int32)
    last: wp.array2d(dtype=wp.int32)


@wp.struct
class Target:
    """What is drawn into."""

    albedo: wp.array4d(dtype=wp.uint8)
    depth: wp.array3d(dtype=wp.float32)
    normals: wp.array3d(dtype=wp.vec3)
    ids: wp.array3d(dtype=wp.int32)
    spans: wp.array2d(dtype=wp.vec2i)


@wp.func
def place_vertices(  # noqa: ANN201
    mesh: MeshArrays, scratch: Scratch, s: int, first: int, last: int, T: wp.mat44, intrinsics: wp.vec4, near: float
):
    """Vertices' places in the camera's frame, and in the image where they are in front of the near plane."""
    for v in range(first, last):
        p = wp.transform_point(T, mesh.points[v])
        scratch.points_c[s, v] = p
        if p[2] >= near:
            inverse = 1.0 / p[2]
            scratch.uv[s, v] = wp.vec2(
                intrinsics[0] * p[0] * inverse + intrinsics[2], intrinsics[1] * p[1] * inverse + intrinsics[3]
            )


@wp.func
def plane_between(p: wp.vec3, q: wp.vec3, a: int, b: int) -> wp.vec3:
    """``edge_plane`` of vertices whose places are at hand."""
    normal = wp.where(a <= b, wp.cross(p, q - p), wp.cross(q, p - q))
    return wp.where(a <= b, normal, -normal)


@wp.func
def draw_faces(  # noqa: ANN201
    mesh: MeshArrays, scratch: Scratch, s: int, first: int, last: int, state: int, intrinsics: wp.vec4, near: float
):
    """Write the packed depth and index of triangles to every pixel whose centre they cover and where nothing nearer is."""
    width = scratch.nearest.shape[2]
    height = scratch.nearest.shape[1]
    right = float(width)
    bottom = float(height)
    for face in range(first, last):
        i0 = mesh.faces[face, 0]
        i1 = mesh.faces[face, 1]
        i2 = mesh.faces[face, 2]
        p0 = scratch.points_c[s, i0]
        p1 = scratch.points_c[s, i1]
        p2 = scratch.points_c[s, i2]
        bounds = wp.vec4(1.0e9, 1.0e9, -1.0e9, -1.0e9)
        front = bool(True)  # noqa: UP018 (a bare literal would be a constant to Warp)
        if wp.min(wp.min(p0[2], p1[2]), p2[2]) >= near:
            a = scratch.uv[s, i0]
            b = scratch.uv[s, i1]
            c = scratch.uv[s, i2]
            if state == FRONT_ONLY and mesh.closed[face] == wp.uint8(1):
                # Rows go down: what is counter-clockwise seen from outside has a negative area in the image.
                front = (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0]) <= 0.0
            bounds = wp.vec4(
                wp.min(wp.min(a[0], b[0]), c[0]),
                wp.min(wp.min(a[1], b[1]), c[1]),
                wp.max(wp.max(a[0], b[0]), c[0]),
                wp.max(wp.max(a[1], b[1]), c[1]),
            )
        else:
            bounds = grow_bounds_clipped(bounds, p0, p1, near, intrinsics)
            bounds = grow_bounds_clipped(bounds, p1, p2, near, intrinsics)
            bounds = grow_bounds_clipped(bounds, p2, p0, near, intrinsics)
        # Only pixels whose centre is inside the bounds: most triangles of a detailed mesh are smaller than a pixel and have none.
        # Clamped as floats first, because a far value would overflow the integer.
        x0 = int(wp.ceil(wp.clamp(bounds[0] - 0.5 - BOUNDS_SLACK_PX, 0.0, right)))
        x1 = int(wp.clamp(bounds[2] + 0.5 + BOUNDS_SLACK_PX, 0.0, right))
        y0 = int(wp.ceil(wp.clamp(bounds[1] - 0.5 - BOUNDS_SLACK_PX, 0.0, bottom)))
        y1 = int(wp.clamp(bounds[3] + 0.5 + BOUNDS_SLACK_PX, 0.0, bottom))
        if front and x0 < x1 and y0 < y1:
            n0 = plane_between(p1, p2, i1, i2)
            n1 = plane_between(p2, p0, i2, i0)
            n2 = plane_between(p0, p1, i0, i1)
            for y in range(y0, y1):
                v = (float(y) + 0.5 - intrinsics[3]) / intrinsics[1]
                row = wp.vec3(n0[1] * v + n0[2], n1[1] * v + n1[2], n2[1] * v + n2[2])
                low = int(width)
                high = int(0)  # noqa: RUF046, UP018
                for x in range(x0, x1):
                    u = (float(x) + 0.5 - intrinsics[2]) / intrinsics[0]
                    w = wp.vec3(n0[0] * u + row[0], n1[0] * u + row[1], n2[0] * u + row[2])
                    total = w[0] + w[1] + w[2]
                    slack = -EDGE_SLACK * total
                    inside = wp.min(w) >= slack
                    if total < 0.0:
                        inside = wp.max(w) <= slack
                    if inside and total != 0.0:
                        z = (w[0] * p0[2] + w[1] * p1[2] + w[2] * p2[2]) / total
                        if z >= near:
                            # Bits of positive floats sort like the floats: one atomic keeps nearest depth and its face.
                            key = (wp.uint64(wp.cast(z, wp.uint32)) << wp.uint64(32)) | wp.uint64(face)
                            wp.atomic_min(scratch.nearest, s, y, x, key)
                            low = wp.min(low, x)
                            high = x + 1
                if low < high:
                    wp.atomic_min(scratch.first, s, y, low)
                    wp.atomic_max(scratch.last, s, y, high)


@wp.func
def texel(textures: wp.array2d(dtype=wp.uint8), at: wp.vec3i, x: int, y: int) -> wp.vec3:
    """Colour of a texel, the nearest inside the image; ``at`` is the offset, width and height of the texture."""
    row = at[0] + wp.clamp(y, 0, at[2] - 1) * at[1] + wp.clamp(x, 0, at[1] - 1)
    return wp.vec3(float(textures[row, 0]), float(textures[row, 1]), float(textures[row, 2]))


@wp.func
def color_at(mesh: MeshArrays, face: int, part: int, w: wp.vec3) -> wp.vec3:
    """Colour of a triangle where its corners have weights w: of its texture, between texels, or of its part."""
    at = mesh.texture_at[part]
    if at[1] <= 0:
        return mesh.color[part]
    uv = w[0] * mesh.st[face, 0] + w[1] * mesh.st[face, 1] + w[2] * mesh.st[face, 2]
    tx = uv[0] * float(at[1]) - 0.5
    ty = (1.0 - uv[1]) * float(at[2]) - 0.5
    left = int(wp.floor(tx))
    top = int(wp.floor(ty))
    fx = tx - float(left)
    fy = ty - float(top)
    upper = texel(mesh.textures, at, left, top) * (1.0 - fx) + texel(mesh.textures, at, left + 1, top) * fx
    lower = texel(mesh.textures, at, left, top + 1) * (1.0 - fx) + texel(mesh.textures, at, left + 1, top + 1) * fx
    return upper * (1.0 - fy) + lower * fy


@wp.func
def resolve_pixels(  # noqa: ANN201
    mesh: MeshArrays,
    scratch: Scratch,
    target: Target,
    T_world_part: wp.array2d(dtype=wp.mat44),
    s: int,
    n: int,
    y: int,
    x0: int,
    x1: int,
    intrinsics: wp.vec4,
    no_hit: wp.uint64,
):
    """What the triangles that were nearest look like in a run of pixels; leaves the z-buffer empty, and nothing of an earlier drawing."""
    for x in range(x0, x1):
        key = scratch.nearest[s, y, x]
        if key == no_hit:
            for c in range(3):
                target.albedo[n, y, x, c] = wp.uint8(0)
            target.depth[n, y, x] = 0.0
            target.normals[n, y, x] = wp.vec3(0.0, 0.0, 0.0)
            target.ids[n, y, x] = 0
        else:
            scratch.nearest[s, y, x] = no_hit
            face = int(key & wp.uint64(0xFFFFFFFF))
            i0 = mesh.faces[face, 0]
            i1 = mesh.faces[face, 1]
            i2 = mesh.faces[face, 2]
            w = weights_at(scratch.points_c[s], i0, i1, i2, x, y, intrinsics)
            part = mesh.face_part[face]
            value = color_at(mesh, face, part, w)
            for c in range(3):
                target.albedo[n, y, x, c] = wp.uint8(value[c] + 0.5)
            normal = w[0] * mesh.normals[i0] + w[1] * mesh.normals[i1] + w[2] * mesh.normals[i2]
            target.depth[n, y, x] = wp.cast(wp.uint32(key >> wp.uint64(32)), wp.float32)
            target.normals[n, y, x] = wp.normalize(wp.transform_vector(T_world_part[n, part], normal))
            target.ids[n, y, x] = mesh.id[part]


@wp.func
def finish_row(scratch: Scratch, target: Target, s: int, n: int, y: int):  # noqa: ANN201
    """Keep a row's span, and leave the scratch as it was found."""
    target.spans[n, y] = wp.vec2i(wp.min(scratch.first[s, y], scratch.last[s, y]), scratch.last[s, y])
    scratch.first[s, y] = scratch.nearest.shape[2]
    scratch.last[s, y] = 0


@wp.kernel(enable_backward=False)
def draw_frames_kernel(
    # in
    mesh: MeshArrays,
    T_camera_part: wp.array2d(dtype=wp.mat44),
    T_world_part: wp.array2d(dtype=wp.mat44),
    state: wp.array2d(dtype=wp.int32),
    intrinsics: wp.vec4,
    near: float,
    no_hit: wp.uint64,
    # out
    scratch: Scratch,
    target: Target,
) -> None:
    """One thread a frame, for devices that run threads one after another."""
    n = wp.tid()
    for part in range(state.shape[1]):
        if state[n, part] != HIDDEN:
            T = T_camera_part[n, part]
            place_vertices(mesh, scratch, 0, mesh.first_vertex[part], mesh.first_vertex[part + 1], T, intrinsics, near)
            draw_faces(
                mesh, scratch, 0, mesh.first_face[part], mesh.first_face[part + 1], state[n, part], intrinsics, near
            )
    for y in range(scratch.nearest.shape[1]):
        before = target.spans[n, y]
        x0 = scratch.first[0, y]
        x1 = scratch.last[0, y]
        if before[0] < before[1]:
            x0 = wp.min(x0, before[0])
            x1 = wp.max(x1, before[1])
        if x0 < x1:
            resolve_pixels(mesh, scratch, target, T_world_part, 0, n, y, x0, x1, intrinsics, no_hit)
        finish_row(scratch, target, 0, n, y)


@wp.kernel(enable_backward=False)
def place_points_kernel(
    # in
    mesh: MeshArrays,
    T_camera_part: wp.array2d(dtype=wp.mat44),
    state: wp.array2d(dtype=wp.int32),
    intrinsics: wp.vec4,
    near: float,
    # out
    scratch: Scratch,
) -> None:
    """One thread a vertex of a frame."""
    n, v = wp.tid()
    part = mesh.vertex_part[v]
    if state[n, part] != HIDDEN:
        place_vertices(mesh, scratch, n, v, v + 1, T_camera_part[n, part], intrinsics, near)


@wp.kernel(enable_backward=False)
def draw_faces_kernel(
    # in
    mesh: MeshArrays,
    state: wp.array2d(dtype=wp.int32),
    intrinsics: wp.vec4,
    near: float,
    # out
    scratch: Scratch,
) -> None:
    """One thread a triangle of a frame."""
    n, face = wp.tid()
    part = mesh.face_part[face]
    if state[n, part] != HIDDEN:
        draw_faces(mesh, scratch, n, face, face + 1, state[n, part], intrinsics, near)


@wp.kernel(enable_backward=False)
def resolve_kernel(
    # in
    mesh: MeshArrays,
    T_world_part: wp.array2d(dtype=wp.mat44),
    intrinsics: wp.vec4,
    no_hit: wp.uint64,
    span: int,
    # out
    scratch: Scratch,
    target: Target,
) -> None:
    """One thread a run of pixels."""
    n, y, block = wp.tid()
    x1 = wp.min(scratch.nearest.shape[2], (block + 1) * span)
    resolve_pixels(mesh, scratch, target, T_world_part, n, n, y, block * span, x1, intrinsics, no_hit)


@wp.kernel(enable_backward=False)
def finish_rows_kernel(
    # out
    scratch: Scratch,
    target: Target,
) -> None:
    """One thread a row."""
    n, y = wp.tid()
    finish_row(scratch, target, n, n, y)


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
        mesh.faces = wp.array(np.concatenate(faces).astype(np.int32), dtype=wp.int32)
        mesh.face_part = wp.array(np.repeat(order, face_counts).astype(np.int32), dtype=wp.int32)
        mesh.closed = wp.array(np.concatenate(closed).astype(np.uint8), dtype=wp.uint8)
        mesh.first_vertex = wp.array(np.cumsum([0, *vertex_counts]).astype(np.int32), dtype=wp.int32)
        mesh.first_face = wp.array(np.cumsum([0, *face_counts]).astype(np.int32), dtype=wp.int32)
        mesh.st = wp.array(np.concatenate(st).astype(np.float32), dtype=wp.vec2)
        mesh.textures = wp.array(np.concatenate([*textures, np.zeros((1, 3), np.uint8)]), dtype=wp.uint8)
        mesh.texture_at = wp.array(texture_at.astype(np.int32), dtype=wp.vec3i)
        colors = np.array([255.0 * np.clip(p.color_rgb, 0, 1) for p in parts], np.float32)
        mesh.color = wp.array(colors, dtype=wp.vec3)
        mesh.id = wp.array(np.array([p.id for p in parts], np.int32), dtype=wp.int32)
    return DrawList(device, len(parts), np.concatenate([middles, np.array(radii)[:, None]], 1), mesh)


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
            points_c=wp.empty((slots, vertices), dtype=wp.vec3),
            uv=wp.empty((slots, vertices), dtype=wp.vec2),
            nearest=wp.full((slots, height, width), NO_HIT, dtype=wp.uint64),
            first=wp.full((slots, height), width, dtype=wp.int32),
            last=wp.zeros((slots, height), dtype=wp.int32),
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
    for name in ("points_c", "uv", "nearest", "first", "last"):
        setattr(scratch, name, getattr(canvas, name))
    for name in ("albedo", "depth", "normals", "ids", "spans"):
        setattr(target, name, getattr(canvas, name))
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
