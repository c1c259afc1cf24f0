import numpy as np
import pytest
import trimesh
import warp as wp

from phototwin.errors import InputError
from phototwin.frames import invert, make_T, matrix_from_quat_xyzw, project, transform
from phototwin.kernels.obstacles import load_meshes
from phototwin.kernels.visibility import Cameras, visible_past_spheres, visible_points

NO_GPU = pytest.mark.skipif(wp.get_cuda_device_count() == 0, reason="no CUDA device")
DEVICES = ["cpu", pytest.param("cuda:0", marks=[pytest.mark.gpu, NO_GPU])]
K_PX = np.array([[300.0, 0, 160.3], [0, 310.0, 121.2], [0, 0, 1]])


def look_at(eye):
    forward = -np.asarray(eye) / np.linalg.norm(eye)
    right = np.cross(forward, [0.0, 0.0, 1.0])
    right /= np.linalg.norm(right)
    return make_T(np.stack([right, np.cross(forward, right), forward], 1), eye)


def cameras():
    T = np.array([look_at(eye) for eye in ([0.8, 0.1, 0.5], [-0.3, 0.6, 0.7], [0.1, -0.5, 0.2])])
    return Cameras(T, np.broadcast_to(K_PX, (3, 3, 3)), np.broadcast_to([320, 240], (3, 2)))


def things():
    rng = np.random.default_rng(5)
    T = [
        make_T(matrix_from_quat_xyzw(q), t)
        for q, t in zip(rng.standard_normal((3, 4)), rng.uniform(-0.2, 0.2, (3, 3)), strict=True)
    ]
    parts = [
        trimesh.creation.box((0.1, 0.2, 0.05)),
        trimesh.creation.torus(0.1, 0.03, 16, 10),
        trimesh.creation.icosphere(1, 0.08),
    ]
    return parts, np.array(T)


def crosses(eye, points, corners):
    """Whether the segment from the eye to each point crosses any triangle. Source: Moller and Trumbore (1997)."""
    a, b, c = np.moveaxis(corners, 1, 0)
    way = (points - eye)[:, None]
    p = np.cross(way, c - a)
    with np.errstate(divide="ignore", invalid="ignore"):
        det = (p * (b - a)).sum(-1)
        u = ((eye - a) * p).sum(-1) / det
        q = np.cross(eye - a, b - a)
        v, t = (way * q).sum(-1) / det, (q * (c - a)).sum(-1) / det
    return ((u >= 0) & (v >= 0) & (u + v <= 1) & (t > 0) & (t < 1)).any(1)


def visible_numpy(points, views, parts, T_world_mesh):
    """The twin."""
    out = np.ones((len(views.K_px), len(points)), bool)
    for c, (T, K, size) in enumerate(zip(views.T_world_camera, views.K_px, views.size_px, strict=True)):
        p = transform(invert(T), points)
        with np.errstate(divide="ignore", invalid="ignore"):
            uv = project(K, p)
        out[c] = (p[:, 2] > 0.01) & (uv >= 0).all(1) & (uv < size).all(1)
        for mesh, pose in zip(parts, T_world_mesh, strict=True):
            out[c] &= ~crosses(T[:3, 3], points, transform(pose, mesh.vertices)[mesh.faces])
    return out


@pytest.mark.parametrize("device", DEVICES)
def test_agrees_with_every_ray_against_every_triangle(device):
    parts, T = things()
    points = np.random.default_rng(0).uniform(-0.5, 0.5, (600, 3))
    meshes = load_meshes([(m.vertices, m.faces) for m in parts], device)
    found = visible_points(points, cameras(), meshes, T, slack_m=0.0)
    truth = visible_numpy(points, cameras(), parts, T)
    assert 0.1 < truth.mean() < 0.7
    assert (found == truth).mean() > 0.998  # a ray through an edge may go either way


def test_trimesh_agrees_on_points_of_surfaces():
    parts, T = things()
    placed = trimesh.util.concatenate([m.copy().apply_transform(t) for m, t in zip(parts, T, strict=True)])
    points, face = trimesh.sample.sample_surface(placed, 400, seed=0)
    meshes = load_meshes([(m.vertices, m.faces) for m in parts])
    found = visible_points(points, cameras(), meshes, T)
    everything = visible_points(points, cameras(), load_meshes([]))
    for c, pose in enumerate(cameras().T_world_camera):
        eye = pose[:3, 3]
        way = points - eye
        first = placed.ray.intersects_first(np.broadcast_to(eye, way.shape), way)
        judged = (first == face) & everything[c]
        clear = np.abs((placed.face_normals[face] * way).sum(1)) > 0.2 * np.linalg.norm(way, axis=1)
        assert (found[c] == judged)[clear].mean() > 0.99


@pytest.mark.parametrize("device", DEVICES)
def test_spheres_hide_what_is_behind_and_inside_them(device):
    rng = np.random.default_rng(1)
    points, centers, radii = (
        rng.uniform(-0.4, 0.4, (300, 3)),
        rng.uniform(-0.4, 0.4, (20, 6, 3)),
        rng.uniform(0.02, 0.12, 6),
    )
    before = visible_points(points, cameras(), load_meshes([]))
    found = visible_past_spheres(points, cameras(), before, centers, radii, device)
    share = np.linspace(0, 1, 400)[:, None, None]
    for c, pose in enumerate(cameras().T_world_camera):
        on_way = pose[:3, 3] + share * (points - pose[:3, 3])
        for b in range(20):
            gap = (np.linalg.norm(on_way[:, :, None] - centers[b], axis=-1) - radii).min((0, 2))
            sure = np.abs(gap) > 2e-3
            np.testing.assert_array_equal(found[b, c][sure], ((gap > 0) & before[c])[sure])
    assert 0.1 < found.mean() < before.mean() - 0.05


def test_a_wall_hides_all_behind_it_and_nothing_before_it():
    wall = trimesh.creation.box((0.01, 4.0, 4.0))
    view = Cameras(look_at([1.0, 0.0, 1e-9])[None], K_PX[None], np.array([[320, 240]]))
    x = np.linspace(-0.5, 0.5, 41)
    found = visible_points(np.stack([x, 0 * x, 0 * x], 1), view, load_meshes([(wall.vertices, wall.faces)]))
    np.testing.assert_array_equal(found[0], x > 0.004)


def test_threads_and_bad_input():
    parts, T = things()
    meshes = load_meshes([(m.vertices, m.faces) for m in parts])
    points = np.random.default_rng(2).uniform(-0.5, 0.5, (700, 3))
    one, four = (visible_points(points, cameras(), meshes, T, threads=n) for n in (1, 4))
    np.testing.assert_array_equal(one, four)
    with pytest.raises(InputError, match="points"):
        visible_points(np.zeros((4, 2)), cameras(), meshes)
    with pytest.raises(InputError, match="cameras"):
        visible_points(points, Cameras(np.zeros((2, 4, 4)), K_PX[None], np.zeros((2, 2))), meshes)
    with pytest.raises(InputError, match="answers of the cameras"):
        visible_past_spheres(points, cameras(), one[:1], np.zeros((1, 2, 3)), np.zeros(2))
