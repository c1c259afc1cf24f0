"""A small exact scene built by hand: what other tests start from.

``make_scene(folder)`` gives a textured 4 cm cube, a hollow bowl of several convex pieces and a can on a table, seen by an
oblique camera whose focal lengths differ and whose principal point is off-centre; all images are ray cast from the same
geometry, so photo, depth, masks and meshes agree to the pixel.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from phototwin.frames import make_T, pixel_rays, rotation_z, support_depth, transform
from phototwin.images import save_depth, save_ids, save_rgb
from phototwin.scene import Camera, ConvexPiece, Mesh, Scene, SceneObject, Support

WIDTH, HEIGHT = 160, 120
BOWL_PIECES = 12


def look_at(eye_w: np.ndarray, target_w: np.ndarray) -> np.ndarray:
    """T_world_camera of an upright OpenCV camera."""
    z = (target_w - eye_w) / np.linalg.norm(target_w - eye_w)
    x = np.cross(z, (0.0, 0.0, 1.0))
    x /= np.linalg.norm(x)
    return make_T(np.stack([x, np.cross(z, x), z], 1), eye_w)


def make_camera() -> Camera:
    """Oblique, fx != fy, off-centre principal point."""
    K = np.array([[150.0, 0.0, 83.5], [0.0, 153.0, 57.25], [0.0, 0.0, 1.0]])
    return Camera(K, WIDTH, HEIGHT, look_at(np.array([0.0, 0.0, 0.45]), np.array([0.45, 0.0, 0.0])))


def lathe(profile_rz: np.ndarray, steps: int, start_rad: float = 0.0, sweep_rad: float = 2 * np.pi):
    """Points (V, 3) and faces of a closed profile (P, 2) of (r, z), turned about Z. The profile runs counter-clockwise in (r, z)."""
    whole = sweep_rad >= 2 * np.pi - 1e-9
    rings = steps if whole else steps + 1
    angle = start_rad + sweep_rad * np.arange(rings) / steps
    r, z = profile_rz.T
    grid = np.stack(
        [np.outer(np.cos(angle), r), np.outer(np.sin(angle), r), np.broadcast_to(z, (rings, len(z)))], -1
    ).reshape(-1, 3)
    faces = []
    count = len(profile_rz)
    for i in range(steps):
        for j in range(count):
            k = (j + 1) % count
            a, b, c, d = (i * count + j, i * count + k, ((i + 1) % rings) * count + j, ((i + 1) % rings) * count + k)
            faces += [[a, c, d], [a, d, b]]
    return _weld(grid, np.array(faces))


def _weld(points: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    unique, inverse = np.unique(np.round(points, 9), axis=0, return_inverse=True)
    faces = inverse.reshape(-1)[faces]
    proper = (faces[:, 0] != faces[:, 1]) & (faces[:, 1] != faces[:, 2]) & (faces[:, 2] != faces[:, 0])
    return unique.astype(np.float32), faces[proper].astype(np.int32)


def box_mesh(size: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Points, faces and st of a box; its six sides share one texture of 3 x 2 tiles."""
    points = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)]) * np.asarray(size) / 2
    quads = [[4, 6, 7, 5], [2, 0, 1, 3], [6, 2, 3, 7], [0, 4, 5, 1], [1, 5, 7, 3], [0, 2, 6, 4]]
    faces, st = [], []
    for i, (a, b, c, d) in enumerate(quads):
        u, v = (i % 3) / 3, (i // 3) / 2
        corner = [(u, v), (u + 1 / 3, v), (u + 1 / 3, v + 1 / 2), (u, v + 1 / 2)]
        faces += [[a, b, c], [a, c, d]]
        st += [[corner[0], corner[1], corner[2]], [corner[0], corner[2], corner[3]]]
    return points.astype(np.float32), np.array(faces, np.int32), np.array(st, np.float32)


def hull_piece(points: np.ndarray) -> ConvexPiece:
    import trimesh

    hull = trimesh.convex.convex_hull(np.asarray(points, np.float64))
    return ConvexPiece(np.asarray(hull.vertices, np.float32), np.asarray(hull.faces, np.int32))


def planar_st(points: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Texture coordinates by looking down on the thing."""
    low, high = points[:, :2].min(0), points[:, :2].max(0)
    return (((points[:, :2] - low) / (high - low))[faces]).astype(np.float32)


def make_cube(size_m: float = 0.04) -> SceneObject:
    points, faces, st = box_mesh(np.full(3, size_m))
    T = make_T(rotation_z(0.4), np.array([0.40, -0.10, size_m / 2]))
    return SceneObject(
        "green cube", "green_cube", "box", False, T, np.full(3, size_m), np.array([0.15, 0.6, 0.2]),
        Mesh(points, faces, st, "textures/green_cube.png"), (ConvexPiece(points, faces),), 0.045, 0.9, 0.05,
    )  # fmt: skip


def make_bowl(radius: float = 0.06, height: float = 0.05, wall: float = 0.005) -> SceneObject:
    h, foot = height / 2, 0.6 * radius
    outside = [(0.0, -h), (foot, -h), (radius, h)]
    inside = [(radius - wall, h), (foot - wall, wall - h), (0.0, wall - h)]
    points, faces = lathe(np.array(outside + inside), 48)
    pieces = [hull_piece(lathe(np.array([(0.0, -h), (foot, -h), (foot, wall - h), (0.0, wall - h)]), 24)[0])]
    step = 2 * np.pi / BOWL_PIECES
    side = np.array([(foot, -h), (radius, h), (radius - wall, h), (foot - wall, wall - h)])
    pieces += [hull_piece(lathe(side, 2, i * step, step)[0]) for i in range(BOWL_PIECES)]
    return SceneObject(
        "white bowl", "white_bowl", "revolution", True, make_T(np.eye(3), np.array([0.50, 0.08, h])),
        np.array([2 * radius, 2 * radius, height]), np.array([0.9, 0.9, 0.88]),
        Mesh(points, faces, planar_st(points, faces), "textures/white_bowl.png"), tuple(pieces), 0.12, 0.7,
    )  # fmt: skip


def mug_mesh(radius: float = 0.045, height: float = 0.11, wall: float = 0.004) -> Mesh:
    """A vessel with a handle of three bars towards +X."""
    h = height / 2
    profile = [(0, -h), (radius, -h), (radius, h), (radius - wall, h), (radius - wall, wall - h), (0, wall - h)]
    parts = [lathe(np.array(profile, float), 64)]
    for size, at in (
        ((0.012, 0.015, 0.07), (radius + 0.03, 0.0, 0.0)),
        ((0.03, 0.015, 0.01), (radius + 0.012, 0.0, 0.03)),
        ((0.03, 0.015, 0.01), (radius + 0.012, 0.0, -0.03)),
    ):
        points, faces, _ = box_mesh(np.array(size))
        parts.append((points + np.array(at, np.float32), faces))
    start = np.cumsum([0, *(len(p) for p, _ in parts[:-1])])
    points = np.concatenate([p for p, _ in parts])
    faces = np.concatenate([f + k for (_, f), k in zip(parts, start, strict=True)]).astype(np.int32)
    return Mesh(points, faces, planar_st(points, faces))


def make_can(radius: float = 0.03, height: float = 0.09) -> SceneObject:
    h = height / 2
    points, faces = lathe(np.array([(0.0, -h), (radius, -h), (radius, h), (0.0, h)]), 32)
    return SceneObject(
        "red can", "red_can", "cylinder", False, make_T(np.eye(3), np.array([0.38, 0.10, h])),
        np.array([2 * radius, 2 * radius, height]), np.array([0.75, 0.15, 0.12]),
        Mesh(points, faces, planar_st(points, faces), "textures/red_can.png"),
        (ConvexPiece(points, faces),), 0.2,
    )  # fmt: skip


def make_background(camera: Camera, texture: str) -> Mesh:
    """The table as a grid of points where the photo's rays meet z = 0, textured with the background image."""
    rows, columns = 7, 9
    v, u = np.meshgrid(np.linspace(0, camera.height, rows), np.linspace(0, camera.width, columns), indexing="ij")
    K, T = camera.K_px, camera.T_world_camera
    rays_w = np.stack([(u - K[0, 2]) / K[0, 0], (v - K[1, 2]) / K[1, 1], np.ones_like(u)], -1) @ T[:3, :3].T
    points = (T[:3, 3] - rays_w * (T[2, 3] / rays_w[..., 2:])).reshape(-1, 3)
    i, j = np.meshgrid(np.arange(rows - 1), np.arange(columns - 1), indexing="ij")
    a = (i * columns + j).ravel()
    faces = np.concatenate([np.stack([a, a + columns, a + columns + 1], 1), np.stack([a, a + columns + 1, a + 1], 1)])
    st = np.stack([u / camera.width, 1 - v / camera.height], -1).reshape(-1, 2)
    return Mesh(points.astype(np.float32), faces.astype(np.int32), st[faces].astype(np.float32), texture)


def raycast(camera: Camera, objects: tuple[SceneObject, ...]):
    """Depth (H, W), ids (H, W) and world normals (H, W, 3) of objects on the table."""
    import trimesh

    depth = support_depth(camera.K_px, camera.T_world_camera, camera.width, camera.height)
    ids = np.zeros(depth.shape, np.uint8)
    normals = np.broadcast_to((0.0, 0.0, 1.0), (*depth.shape, 3)).copy()
    T = camera.T_world_camera
    rays_w = pixel_rays(camera.K_px, camera.width, camera.height) @ T[:3, :3].T
    for i, item in enumerate(objects):
        mesh = trimesh.Trimesh(transform(item.T_world_object, item.mesh.points.astype(np.float64)), item.mesh.faces)
        for face, normal in zip(mesh.triangles, mesh.face_normals, strict=True):
            t = _ray_triangle(T[:3, 3], rays_w, face)  # rays have z = 1 along the axis, so t is the depth
            hit = t < depth
            depth[hit], ids[hit], normals[hit] = t[hit], i + 1, normal
    return depth, ids, normals


def _ray_triangle(origin: np.ndarray, rays: np.ndarray, triangle: np.ndarray) -> np.ndarray:
    """Ray parameter (H, W) where rays meet a triangle, inf elsewhere. Source: Moller and Trumbore (1997)."""
    a, e1, e2 = triangle[0], triangle[1] - triangle[0], triangle[2] - triangle[0]
    p = np.cross(rays, e2)
    with np.errstate(divide="ignore", invalid="ignore"):
        inv = 1.0 / (p @ e1)
        s = origin - a
        u = (p @ s) * inv
        q = np.cross(s, e1)
        v = (rays @ q) * inv
        t = (e2 @ q) * inv
        inside = (u >= 0) & (v >= 0) & (u + v <= 1) & (t > 0)
    return np.where(inside, t, np.inf)


def make_scene(folder: Path) -> Scene:
    """The scene, its images written into ``folder``."""
    camera = make_camera()
    objects = (make_cube(), make_bowl(), make_can())
    depth, ids, normals = raycast(camera, objects)
    table = support_depth(camera.K_px, camera.T_world_camera, camera.width, camera.height)
    rays_w = pixel_rays(camera.K_px, camera.width, camera.height) @ camera.T_world_camera[:3, :3].T
    xy = camera.T_world_camera[:2, 3] + rays_w[..., :2] * table[..., None]
    tiles = ((np.floor(xy[..., 0] / 0.05) + np.floor(xy[..., 1] / 0.05)) % 2)[..., None]
    background = np.where(tiles > 0, (0.55, 0.45, 0.35), (0.50, 0.40, 0.30))
    shade = 0.65 + 0.35 * np.clip(normals @ (0.3, -0.4, 0.866), 0, 1)[..., None]
    colors = np.array([(0.0, 0.0, 0.0), *(o.color_rgb for o in objects)])
    rgb = np.where(ids[..., None] > 0, colors[ids], background) * shade
    save_rgb(folder / "photo.png", np.round(255 * rgb).astype(np.uint8))
    lit = 0.65 + 0.35 * 0.866  # a level table under the same light
    save_rgb(folder / "background.png", np.round(255 * background * lit).astype(np.uint8))
    save_depth(folder / "depth.png", depth)
    save_depth(folder / "background_depth.png", table)
    save_ids(folder / "masks.png", ids)
    save_ids(folder / "owners.png", ids)
    for item in objects:
        pattern = (np.indices((32, 48)).sum(0) // 8 % 2)[..., None] * 0.15 + 0.85
        save_rgb(folder / f"textures/{item.key}.png", np.round(255 * item.color_rgb * pattern).astype(np.uint8))
    polygon = np.array([[0.15, -0.35], [0.85, -0.35], [0.85, 0.35], [0.15, 0.35]])
    return Scene(
        "synthetic", camera, objects, Support(polygon, 0.04, 0.75), make_background(camera, "background.png"),
        notes={"scale": "Exact by construction.", "gravity": "Exact by construction."}, folder=folder,
    )  # fmt: skip
