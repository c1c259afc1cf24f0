"""The kernels that draw parts into a z-buffer and read off what every pixel sees; ``draw`` launches them.

On the CPU, where the threads of a launch run one after another, one thread draws a whole frame and everything it needs stays in the
cache; on CUDA a thread takes a vertex, a triangle or a few pixels.
"""

# Warp reads these annotations as types of its own; a type checker cannot.
# pyright: reportInvalidTypeForm=false, reportOperatorIssue=false, reportArgumentType=false, reportCallIssue=false
# pyright: reportAssignmentType=false, reportIndexIssue=false, reportGeneralTypeIssues=false, reportReturnType=false

from __future__ import annotations

import warp as wp

from phototwin.kernels.meshlist import MeshArrays
from phototwin.kernels.rasterize import BOUNDS_SLACK_PX, EDGE_SLACK, grow_bounds_clipped, weights_at

HIDDEN, BOTH_SIDES, FRONT_ONLY = 0, 1, 2
"""What a frame draws of a part: nothing where it is out of view, all where the camera may be inside it, else closed surfaces from outside only."""


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
