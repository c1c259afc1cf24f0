import numpy as np
import pytest
import warp as wp

from phototwin.frames import pixel_rays
from phototwin.kernels.rasterize import NEAR_M, rasterize

K_PX = np.array([[60.0, 0, 31.7], [0, 55.0, 23.2], [0, 0, 1]])
WIDTH, HEIGHT = 64, 48
NO_GPU = pytest.mark.skipif(wp.get_cuda_device_count() == 0, reason="no CUDA device")
DEVICES = ["cpu", pytest.param("cuda:0", marks=[pytest.mark.gpu, NO_GPU])]


def rasterize_numpy(points_c, faces):
    """Every ray against every triangle (Moller and Trumbore), in double precision."""
    rays = pixel_rays(K_PX, WIDTH, HEIGHT).reshape(-1, 3)
    depth, face, bary = np.full(len(rays), np.inf), np.full(len(rays), -1), np.zeros((len(rays), 3))
    margin = np.full(len(rays), np.inf)  # how far the closest decision was from going the other way
    for i, (a, b, c) in enumerate(np.asarray(points_c, np.float64)[faces]):
        M = np.stack([-rays, np.broadcast_to(b - a, rays.shape), np.broadcast_to(c - a, rays.shape)], -1)
        z, v, w = np.linalg.solve(M, np.broadcast_to(-a, rays.shape)[..., None])[..., 0].T
        weights = np.stack([1 - v - w, v, w], -1)
        margin = np.minimum(margin, np.abs(weights).min(1))
        margin = np.where(weights.min(1) >= 0, np.minimum(margin, np.abs(z - depth)), margin)
        hit = (weights.min(1) >= 0) & (z >= NEAR_M) & (z < depth)
        depth[hit], face[hit], bary[hit] = z[hit], i, weights[hit]
    shape = (HEIGHT, WIDTH)
    return (
        np.where(face < 0, 0, depth).reshape(shape),
        face.reshape(shape),
        bary.reshape(*shape, 3),
        (margin > 1e-4).reshape(shape),
    )


def soup(seed, count=40, z_low=-0.5):
    rng = np.random.default_rng(seed)
    points_c = rng.uniform([-1.5, -1.2, z_low], [1.5, 1.2, 3.0], (count, 3)).astype(np.float32)
    return points_c, rng.integers(0, count, (count, 3)).astype(np.int32)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("seed", range(4))
def test_agrees_with_ray_casting_also_through_the_near_plane(seed, device):
    points_c, faces = soup(seed)
    faces = faces[(faces[:, 0] != faces[:, 1]) & (faces[:, 1] != faces[:, 2]) & (faces[:, 0] != faces[:, 2])]
    raster = rasterize(points_c, faces, K_PX, WIDTH, HEIGHT, device)
    depth, face, bary, sure = rasterize_numpy(points_c, faces)
    assert sure.mean() > 0.95
    np.testing.assert_array_equal(raster.face[sure], face[sure])
    np.testing.assert_allclose(raster.depth_m[sure], depth[sure], rtol=1e-3)
    np.testing.assert_allclose(raster.bary[sure], bary[sure], atol=1e-3)


@pytest.mark.parametrize("device", DEVICES)
def test_winding_does_not_matter_and_ties_go_to_the_first_face(device):
    points_c, faces = soup(7, z_low=0.5)
    one, two = (rasterize(points_c, f, K_PX, WIDTH, HEIGHT, device) for f in (faces, faces[:, ::-1]))
    np.testing.assert_array_equal(one.face, two.face)
    np.testing.assert_allclose(one.bary, two.bary[..., ::-1], atol=1e-4)
    twice = rasterize(points_c, np.concatenate([faces, faces]), K_PX, WIDTH, HEIGHT, device)
    np.testing.assert_array_equal(twice.face, one.face)


@pytest.mark.parametrize("shift_z", [0.8, 30.0])
def test_a_fine_grid_leaves_no_gap(shift_z):
    """A wavy sheet that fills the picture: every pixel hit, interpolated position on its own ray."""
    x, y = np.meshgrid(np.linspace(-1, 1, 301), np.linspace(-1, 1, 301))
    z = shift_z * (1 + 0.02 * np.sin(9 * x) * np.cos(7 * y))
    points_c = np.stack([x * z, y * z, z], -1).reshape(-1, 3).astype(np.float32)
    corner = (np.arange(300)[:, None] * 301 + np.arange(300)).reshape(-1, 1)
    faces = np.concatenate([corner + np.array([0, 1, 302]), corner + np.array([0, 302, 301])])
    raster = rasterize(points_c, faces, K_PX, WIDTH, HEIGHT)
    assert (raster.face >= 0).all()
    hits = (points_c[faces[raster.face]] * raster.bary[..., None]).sum(2)
    np.testing.assert_allclose(hits, pixel_rays(K_PX, WIDTH, HEIGHT) * raster.depth_m[..., None], atol=3e-4 * shift_z)


def test_rays_through_vertices_are_not_lost():
    """A grid whose vertices project exactly to pixel centres, at uneven depths."""
    v, u = np.mgrid[0:HEIGHT:3, 0:WIDTH:3] + 0.5
    z = np.random.default_rng(0).uniform(1, 1.02, u.shape)
    points_c = np.stack([(u - K_PX[0, 2]) / K_PX[0, 0] * z, (v - K_PX[1, 2]) / K_PX[1, 1] * z, z], -1).reshape(-1, 3)
    index = np.arange(u.size).reshape(u.shape)
    a, b, c, d = (i.reshape(-1) for i in (index[:-1, :-1], index[:-1, 1:], index[1:, 1:], index[1:, :-1]))
    faces = np.concatenate([np.stack([a, d, c], 1), np.stack([a, c, b], 1)])
    raster = rasterize(points_c, faces, K_PX, WIDTH, HEIGHT)
    assert (raster.face[1 : HEIGHT - 3, 1 : WIDTH - 3] >= 0).all()
    assert raster.bary.min() >= 0


def test_pixel_centres_decide():
    """A square that covers pixel centres 10.5..12.5 and no more."""
    edges = (np.array([10.4, 12.6]) - K_PX[0, 2]) / K_PX[0, 0], (np.array([5.4, 6.6]) - K_PX[1, 2]) / K_PX[1, 1]
    points_c = np.array([[x, y, 1.0] for y in edges[1] for x in edges[0]], np.float32)
    hit = rasterize(points_c, np.array([[0, 1, 2], [1, 3, 2]]), K_PX, WIDTH, HEIGHT).face >= 0
    assert hit.sum() == 6 and hit[5:7, 10:13].all()


def test_floor_through_the_camera_plane_ends_at_the_horizon():
    points_c = np.array([[-50, 1, -40], [50, 1, -40], [50, 1, 40], [-50, 1, 40]], np.float32)
    raster = rasterize(points_c, np.array([[0, 1, 2], [0, 2, 3]]), K_PX, WIDTH, HEIGHT)
    rows = (np.arange(HEIGHT) + 0.5 - K_PX[1, 2]) / K_PX[1, 1]
    expected = np.where(rows > 1 / 40, 1 / np.maximum(rows, 1e-9), 0)
    np.testing.assert_allclose(raster.depth_m, np.broadcast_to(expected[:, None], (HEIGHT, WIDTH)), rtol=1e-4)


def test_nothing_to_draw_and_degenerate_faces():
    points_c = np.array([[0, 0, 1], [0.1, 0, 1], [0, 0, -1]], np.float32)
    for faces in (np.zeros((0, 3)), [[0, 0, 0]], [[0, 1, 1]], [[2, 2, 2]]):
        raster = rasterize(points_c, np.array(faces), K_PX, WIDTH, HEIGHT)
        assert (raster.face == -1).all() and not raster.depth_m.any() and not raster.bary.any()


def test_bad_shapes_are_refused():
    with pytest.raises(ValueError, match="vertices"):
        rasterize(np.zeros((2, 3)), np.array([[0, 1, 2]]), K_PX, WIDTH, HEIGHT)
    with pytest.raises(ValueError, match="Expected points"):
        rasterize(np.zeros((2, 2)), np.array([[0, 1, 1]]), K_PX, WIDTH, HEIGHT)
