import numpy as np
import pytest
import trimesh
import warp as wp

from phototwin.errors import InputError
from phototwin.frames import invert, make_T, matrix_from_quat_xyzw, transform
from phototwin.kernels.obstacles import FAR_M, load_meshes
from phototwin.kernels.spheres import sphere_mesh_distances, sphere_volume_distances
from phototwin.kernels.volumes import make_distance_volume

NO_GPU = pytest.mark.skipif(wp.get_cuda_device_count() == 0, reason="no CUDA device")
DEVICES = ["cpu", pytest.param("cuda:0", marks=[pytest.mark.gpu, NO_GPU])]


def random_poses(rng, count, spread):
    R = matrix_from_quat_xyzw(rng.standard_normal((count, 4)))
    return np.array([make_T(r, t) for r, t in zip(R, rng.uniform(-spread, spread, (count, 3)), strict=True)])


def closest_on_triangles(p, corners):
    """Distance (N, F) of points to triangles: of the foot on the plane where it is inside, else of the nearest edge, in double precision."""
    a, b, c = np.moveaxis(corners, 1, 0)
    n = np.cross(b - a, c - a)
    n /= np.linalg.norm(n, axis=1, keepdims=True)
    height = np.einsum("nfi,fi->nf", p[:, None] - a, n)
    foot = p[:, None] - height[..., None] * n
    inside = np.ones(height.shape, bool)
    best = np.full(height.shape, np.inf)
    for u, v in ((a, b), (b, c), (c, a)):
        edge = v - u
        inside &= np.einsum("nfi,fi->nf", foot - u, np.cross(n, edge)) >= 0
        t = np.clip(np.einsum("nfi,fi->nf", p[:, None] - u, edge) / (edge**2).sum(1), 0, 1)
        best = np.minimum(best, np.linalg.norm(p[:, None] - u - t[..., None] * edge, axis=2))
    return np.where(inside, np.abs(height), best)


def winding(p, corners):
    """Winding number (N,). Source: van Oosterom and Strackee (1983)."""
    a, b, c = np.moveaxis(corners[None] - p[:, None, None], 2, 0)
    la, lb, lc = (np.linalg.norm(x, axis=-1) for x in (a, b, c))
    top = np.einsum("nfi,nfi->nf", a, np.cross(b, c))
    dot = lambda x, y: np.einsum("nfi,nfi->nf", x, y)  # noqa: E731
    return np.arctan2(top, la * lb * lc + dot(a, b) * lc + dot(b, c) * la + dot(c, a) * lb).sum(1) / (2 * np.pi)


def distances_numpy(centers_w, radii, parts, T_world_mesh):
    """The twin: every sphere against every triangle."""
    flat = centers_w.reshape(-1, 3)
    best = np.full(len(flat), np.inf)
    for (points, faces), T in zip(parts, T_world_mesh, strict=True):
        p = transform(invert(T), flat)
        corners = points[faces]
        d = closest_on_triangles(p, corners).min(1)
        best = np.minimum(best, np.where(winding(p, corners) > 0.5, -d, d))
    return best.reshape(centers_w.shape[:2]) - radii


def scene(seed):
    """A torus, two interlocked boxes in one mesh, and a hull without its lid."""
    rng = np.random.default_rng(seed)
    torus = trimesh.creation.torus(0.12, 0.05, 16, 12)
    boxes = trimesh.util.concatenate(
        [
            trimesh.creation.box((0.2, 0.1, 0.1)),
            trimesh.creation.box((0.1, 0.2, 0.05)).apply_translation((0.04, 0.03, 0.01)),
        ]
    )
    hull = trimesh.convex.convex_hull(rng.uniform(-0.1, 0.1, (24, 3)))
    parts = [(np.array(m.vertices), np.array(m.faces)) for m in (torus, boxes, hull)]
    return parts, random_poses(rng, 3, 0.2), rng


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("seed", range(3))
def test_agrees_with_every_triangle_also_deep_inside(seed, device):
    parts, T, rng = scene(seed)
    centers, radii = rng.uniform(-0.35, 0.35, (60, 9, 3)), rng.uniform(0.005, 0.06, 9)
    truth = distances_numpy(centers, radii, parts, T)
    meshes = load_meshes(parts, device)
    assert list(meshes.first_face >= 0) == [True, False, True]
    found = sphere_mesh_distances(centers, radii, meshes, T, each=True)
    np.testing.assert_allclose(found.gap_m, truth, atol=2e-6)
    assert (truth < -radii).sum() >= 15  # centres inside
    quick = sphere_mesh_distances(centers, radii, meshes, T)
    np.testing.assert_allclose(quick.clearance_m, truth.min(1), atol=2e-6)
    np.testing.assert_allclose(quick.clearance_m, found.clearance_m, atol=1e-7)
    np.testing.assert_allclose(np.take_along_axis(truth, quick.sphere[:, None], 1)[:, 0], truth.min(1), atol=4e-6)
    assert quick.gap_m is None
    capped = sphere_mesh_distances(centers, radii, meshes, T, reach_m=0.02)
    np.testing.assert_allclose(capped.clearance_m, np.minimum(truth.min(1), 0.02), atol=2e-6)
    np.testing.assert_array_equal(capped.sphere >= 0, capped.clearance_m < np.float32(0.02))


@pytest.mark.parametrize("device", DEVICES)
def test_the_gradient_is_the_slope_of_the_gap(device):
    parts, T, rng = scene(5)
    centers, radii, step = rng.uniform(-0.3, 0.3, (40, 4, 3)), np.full(4, 0.01), 1e-4
    meshes = load_meshes(parts, device)
    found = sphere_mesh_distances(centers, radii, meshes, T, each=True)
    gap = lambda c: distances_numpy(c, radii, parts, T)  # noqa: E731
    slope = np.stack([(gap(centers + step * e) - gap(centers - step * e)) / (2 * step) for e in np.eye(3)], -1)
    smooth = np.linalg.norm(slope, axis=-1) > 0.99  # not across a medial axis
    assert smooth.mean() > 0.9
    np.testing.assert_allclose(found.gradient[smooth], slope[smooth], atol=0.02)


def test_a_sphere_at_a_ball_and_poses_of_its_own_for_every_row():
    ball = trimesh.creation.icosphere(4, 0.1)
    meshes = load_meshes([(ball.vertices, ball.faces)])
    shift = np.linspace(0.0, 0.5, 40)
    T = np.broadcast_to(np.eye(4), (40, 1, 4, 4)).copy()
    T[:, 0, 0, 3] = shift
    found = sphere_mesh_distances(np.zeros((40, 1, 3)), np.array([0.02]), meshes, T)
    np.testing.assert_allclose(found.clearance_m, shift - 0.12, atol=4e-4)


def test_several_threads_give_the_same_bytes():
    parts, T, rng = scene(1)
    centers, radii = rng.uniform(-0.4, 0.4, (500, 5, 3)), np.full(5, 0.03)
    one, four = (sphere_mesh_distances(centers, radii, load_meshes(parts), T, each=True, threads=n) for n in (1, 4))
    assert one.clearance_m.tobytes() == four.clearance_m.tobytes()
    assert one.gradient.tobytes() == four.gradient.tobytes()


def test_a_mesh_turned_inside_out_is_turned_back():
    box = trimesh.creation.box((0.2, 0.2, 0.2))
    found = [
        sphere_mesh_distances(np.zeros((1, 1, 3)), np.zeros(1), load_meshes([(box.vertices, faces)])).clearance_m[0]
        for faces in (box.faces, box.faces[:, ::-1])
    ]
    np.testing.assert_allclose(found, -0.1, atol=1e-6)


@pytest.mark.parametrize("device", DEVICES)
def test_a_volume_holds_the_distances_on_its_corners_and_nearly_so_between(device):
    parts, T, rng = scene(2)
    meshes = load_meshes(parts, device)
    voxel = 0.01
    volume = make_distance_volume(meshes, voxel, T_world_mesh=T)
    index = rng.integers(0, volume.values_m.shape, (300, 3))
    corners = volume.origin + voxel * index
    truth = distances_numpy(corners[None], np.zeros(300), parts, T)[0]
    np.testing.assert_allclose(volume.values_m[tuple(index.T)], truth, atol=3e-6)
    inside = volume.origin + rng.uniform(0, 1, (400, 1, 3)) * voxel * (np.array(volume.values_m.shape) - 1)
    T_world_volume = random_poses(rng, 1, 1.0)[0]
    moved = inside @ T_world_volume[:3, :3].T + T_world_volume[:3, 3]
    found = sphere_volume_distances(moved, np.array([0.02]), volume, T_world_volume, each=True, device=device)
    exact = distances_numpy(inside, np.array([0.02]), parts, T)
    error = np.abs(found.gap_m - exact)
    # A distance changes by at most a metre a metre, so no interpolation is further off than half a cube's diagonal.
    assert error.max() < 0.87 * voxel
    assert np.median(error) < 0.03 * voxel
    np.testing.assert_allclose(found.clearance_m, found.gap_m[:, 0], atol=0)
    meant = sphere_mesh_distances(inside, np.array([0.02]), meshes, T, each=True).gradient @ T_world_volume[:3, :3].T
    assert np.median((meant * found.gradient).sum(-1)) > 0.999


def test_outside_a_volume_distances_are_lower_bounds_and_close_to_the_truth():
    ball = trimesh.creation.icosphere(3, 0.1)
    volume = make_distance_volume(load_meshes([(ball.vertices, ball.faces)]), 0.01)
    p = np.random.default_rng(0).uniform(-1, 1, (500, 1, 3))
    truth = np.linalg.norm(p[:, 0], axis=1) - 0.1
    far = np.abs(p[:, 0]).max(1) > 0.15
    found = sphere_volume_distances(p, np.zeros(1), volume).clearance_m
    assert (found[far] <= truth[far] + 1.5e-3).all()
    assert (found[far] > 0.7 * truth[far]).all()


@pytest.mark.parametrize("seed", range(2))
def test_trimesh_agrees(seed):
    parts, _, rng = scene(seed)
    parts = [parts[0], parts[2]]
    points = rng.uniform(-0.2, 0.2, (200, 1, 3))
    judged = np.max([trimesh.proximity.signed_distance(trimesh.Trimesh(v, f), points[:, 0]) for v, f in parts], 0)
    found = sphere_mesh_distances(points, np.zeros(1), load_meshes(parts)).clearance_m
    np.testing.assert_allclose(found, -judged, atol=2e-6)


def test_nothing_in_the_way_and_no_spheres():
    empty = load_meshes([])
    assert (sphere_mesh_distances(np.zeros((4, 2, 3)), np.ones(2), empty).clearance_m == FAR_M).all()
    box = trimesh.creation.box((1, 1, 1))
    meshes = load_meshes([(box.vertices, box.faces)])
    found = sphere_mesh_distances(np.zeros((4, 0, 3)), np.zeros(0), meshes, each=True)
    assert (found.clearance_m == FAR_M).all() and (found.sphere == -1).all() and found.gap_m.shape == (4, 0)
    assert sphere_mesh_distances(np.zeros((0, 3, 3)), np.zeros(3), meshes).clearance_m.shape == (0,)


def test_bad_input_is_named():
    box = trimesh.creation.box((1, 1, 1))
    meshes = load_meshes([(box.vertices, box.faces)])
    with pytest.raises(InputError, match="centres"):
        sphere_mesh_distances(np.zeros((4, 2, 3)), np.ones(3), meshes)
    with pytest.raises(InputError, match="do not fit 1 meshes"):
        sphere_mesh_distances(np.zeros((4, 2, 3)), np.ones(2), meshes, np.zeros((3, 1, 4, 4)))
    with pytest.raises(InputError, match="name vertices"):
        load_meshes([(box.vertices[:3], box.faces)])
    with pytest.raises(InputError, match="voxel > 0"):
        make_distance_volume(meshes, 0.0)
    with pytest.raises(InputError, match="larger voxel"):
        make_distance_volume(meshes, 1e-4)
