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
from phototwin.kernels.rasterize import BOUNDS_SLACK_PX, EDGE_SLACK, bary_of_ray, grow_bounds_clipped

HIDDEN, BOTH_SIDES, FRONT_ONLY = 0, 1, 2
"""What a frame draws of a part: nothing where it is out of view, all where the camera may be inside it, else closed surfaces from outside only."""

NARROW_PX = wp.constant(4)
"""In triangles this narrow every pixel of a row is tested."""


@wp.struct
class Scratch:
    """The canvas as the kernels see it, flat: one index is much faster than three. On the CPU all frames share one slot."""

    width: wp.int32
    height: wp.int32
    vertices: wp.int32
    points_c: wp.array(dtype=wp.vec3)
    uv: wp.array(dtype=wp.vec2)
    nearest: wp.array(dtype=wp.uint64)
    first: wp.array(dtype=wp.int32)
    last: wp.array(dtype=wp.int32)


@wp.struct
class Target:
    """What is drawn into, flat too."""

    albedo: wp.array(dtype=wp.vec3ub)
    depth: wp.array(dtype=wp.float32)
    normals: wp.array(dtype=wp.vec3)
    ids: wp.array(dtype=wp.int32)
    spans: wp.array(dtype=wp.vec2i)


@wp.func
def place_vertices(  # noqa: ANN201
    mesh: MeshArrays, scratch: Scratch, s: int, first: int, last: int, T: wp.mat44, intrinsics: wp.vec4, near: float
):
    """Vertices' places in the camera's frame, and in the image where they are in front of the near plane."""
    start = s * scratch.vertices
    for v in range(first, last):
        p = wp.transform_point(T, mesh.points[v])
        scratch.points_c[start + v] = p
        if p[2] >= near:
            inverse = 1.0 / p[2]
            scratch.uv[start + v] = wp.vec2(
                intrinsics[0] * p[0] * inverse + intrinsics[2], intrinsics[1] * p[1] * inverse + intrinsics[3]
            )


@wp.func
def plane_between(p: wp.vec3, q: wp.vec3, a: int, b: int) -> wp.vec3:
    """``edge_plane`` of vertices whose places are at hand."""
    normal = wp.where(a <= b, wp.cross(p, q - p), wp.cross(q, p - q))
    return wp.where(a <= b, normal, -normal)


@wp.func
def cut_row(limits: wp.vec2, slope: float, start: float, intrinsics: wp.vec4) -> wp.vec2:
    """The part of a row, first and last column, where ``slope`` times the ray's first coordinate plus ``start`` is not negative."""
    if slope != 0.0:
        x = intrinsics[0] * (-start / slope) + intrinsics[2] - 0.5
        if slope > 0.0:
            limits[0] = wp.clamp(x, limits[0], limits[1])
        else:
            limits[1] = wp.clamp(x, limits[0], limits[1])
    return limits


@wp.func
def draw_faces(  # noqa: ANN201
    mesh: MeshArrays, scratch: Scratch, s: int, first: int, last: int, state: int, intrinsics: wp.vec4, near: float
):
    """Write the packed depth and index of triangles to every pixel whose centre they cover and where nothing nearer is."""
    width = scratch.width
    height = scratch.height
    start = s * scratch.vertices
    right = float(width)
    bottom = float(height)
    across = 1.0 / intrinsics[0]
    for face in range(first, last):
        corner = mesh.faces[face]
        i0 = start + corner[0]
        i1 = start + corner[1]
        i2 = start + corner[2]
        p0 = scratch.points_c[i0]
        p1 = scratch.points_c[i1]
        p2 = scratch.points_c[i2]
        bounds = wp.vec4(1.0e9, 1.0e9, -1.0e9, -1.0e9)
        front = bool(True)  # noqa: UP018 (a bare literal would be a constant to Warp)
        if wp.min(wp.min(p0[2], p1[2]), p2[2]) >= near:
            a = scratch.uv[i0]
            b = scratch.uv[i1]
            c = scratch.uv[i2]
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
            if wp.dot(n0, p0) < 0.0:
                # Seen from behind: then all weights of what is in front of the camera are negative.
                n0 = -n0
                n1 = -n1
                n2 = -n2
            for y in range(y0, y1):
                v = (float(y) + 0.5 - intrinsics[3]) / intrinsics[1]
                row = wp.vec3(n0[1] * v + n0[2], n1[1] * v + n1[2], n2[1] * v + n2[2])
                begin = x0
                end = x1
                if x1 - x0 > NARROW_PX:
                    # Where the row enters and leaves the triangle, give or take a pixel.
                    limits = wp.vec2(float(x0), float(x1))
                    limits = cut_row(limits, n0[0], row[0], intrinsics)
                    limits = cut_row(limits, n1[0], row[1], intrinsics)
                    limits = cut_row(limits, n2[0], row[2], intrinsics)
                    begin = wp.max(x0, int(limits[0]) - 1)
                    end = wp.min(x1, int(limits[1]) + 2)
                low = int(width)
                high = int(0)  # noqa: RUF046, UP018
                pixel = (s * height + y) * width
                for x in range(begin, end):
                    u = (float(x) + 0.5 - intrinsics[2]) * across
                    w = wp.vec3(n0[0] * u + row[0], n1[0] * u + row[1], n2[0] * u + row[2])
                    total = w[0] + w[1] + w[2]
                    if total > 0.0 and wp.min(w) >= -EDGE_SLACK * total:
                        z = (w[0] * p0[2] + w[1] * p1[2] + w[2] * p2[2]) / total
                        if z >= near:
                            # Bits of positive floats sort like the floats: one atomic keeps nearest depth and its face.
                            key = (wp.uint64(wp.cast(z, wp.uint32)) << wp.uint64(32)) | wp.uint64(face)
                            if key < scratch.nearest[pixel + x]:
                                wp.atomic_min(scratch.nearest, pixel + x, key)
                                low = wp.min(low, x)
                                high = x + 1
                if low < high:
                    wp.atomic_min(scratch.first, s * height + y, low)
                    wp.atomic_max(scratch.last, s * height + y, high)


@wp.func
def texel(textures: wp.array(dtype=wp.vec3ub), at: wp.vec3i, x: int, y: int) -> wp.vec3:
    """Colour of a texel, the nearest inside the image; ``at`` is the offset, width and height of the texture."""
    row = at[0] + wp.clamp(y, 0, at[2] - 1) * at[1] + wp.clamp(x, 0, at[1] - 1)
    value = textures[row]
    return wp.vec3(float(value[0]), float(value[1]), float(value[2]))


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
    start = s * scratch.vertices
    down = (float(y) + 0.5 - intrinsics[3]) / intrinsics[1]
    for x in range(x0, x1):
        cell = (s * scratch.height + y) * scratch.width + x
        pixel = (n * scratch.height + y) * scratch.width + x
        key = scratch.nearest[cell]
        if key == no_hit:
            target.albedo[pixel] = wp.vec3ub(wp.uint8(0), wp.uint8(0), wp.uint8(0))
            target.depth[pixel] = 0.0
            target.normals[pixel] = wp.vec3(0.0, 0.0, 0.0)
            target.ids[pixel] = 0
        else:
            scratch.nearest[cell] = no_hit
            face = int(key & wp.uint64(0xFFFFFFFF))
            corner = mesh.faces[face]
            i0 = corner[0]
            i1 = corner[1]
            i2 = corner[2]
            p0 = scratch.points_c[start + i0]
            p1 = scratch.points_c[start + i1]
            p2 = scratch.points_c[start + i2]
            ray = wp.vec3((float(x) + 0.5 - intrinsics[2]) / intrinsics[0], down, 1.0)
            n0 = wp.cross(p1, p2 - p1)
            n1 = wp.cross(p2, p0 - p2)
            n2 = wp.cross(p0, p1 - p0)
            w = bary_of_ray(ray, n0, n1, n2)
            w = wp.max(w, wp.vec3(0.0, 0.0, 0.0))
            w = w / (w[0] + w[1] + w[2])
            part = mesh.face_part[face]
            value = color_at(mesh, face, part, w)
            target.albedo[pixel] = wp.vec3ub(
                wp.uint8(value[0] + 0.5), wp.uint8(value[1] + 0.5), wp.uint8(value[2] + 0.5)
            )
            normal = w[0] * mesh.normals[i0] + w[1] * mesh.normals[i1] + w[2] * mesh.normals[i2]
            target.depth[pixel] = wp.cast(wp.uint32(key >> wp.uint64(32)), wp.float32)
            target.normals[pixel] = wp.normalize(wp.transform_vector(T_world_part[n, part], normal))
            target.ids[pixel] = mesh.id[part]


@wp.func
def finish_row(scratch: Scratch, target: Target, s: int, n: int, y: int):  # noqa: ANN201
    """Keep a row's span, and leave the scratch as it was found."""
    row = s * scratch.height + y
    target.spans[n * scratch.height + y] = wp.vec2i(wp.min(scratch.first[row], scratch.last[row]), scratch.last[row])
    scratch.first[row] = scratch.width
    scratch.last[row] = 0


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
    for y in range(scratch.height):
        before = target.spans[n * scratch.height + y]
        x0 = scratch.first[y]
        x1 = scratch.last[y]
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
    x1 = wp.min(scratch.width, (block + 1) * span)
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
