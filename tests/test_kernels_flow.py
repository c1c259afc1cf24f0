"""Flow against closed forms, an analytic ray-cast scene with a turning box, and a numpy twin of the kernel."""

import numpy as np
import pytest

from phototwin.errors import InputError
from phototwin.frames import invert, make_T, pixel_rays, rotation_z, transform
from phototwin.kernels.flow import NOISE_M, NOISE_SHARE, scene_flow
from phototwin.scene import Camera

WIDTH, HEIGHT = 320, 240
BOX_HALF = np.array([0.06, 0.04, 0.05])
IDENTITY = np.eye(4)[None]


def camera(position=(0.0, 0.0, 0.6), pitch=0.7, roll=0.0, focal=300.0, size=(WIDTH, HEIGHT)):
    forward, right = np.array([np.cos(pitch), 0, -np.sin(pitch)]), np.array([0.0, -1.0, 0.0])
    R = np.stack([right, np.cross(forward, right), forward], 1) @ rotation_z(roll)
    K = np.array([[focal, 0, size[0] / 2 + 3], [0, focal * 1.02, size[1] / 2 - 2], [0, 0, 1.0]])
    return Camera(K, *size, make_T(R, np.array(position)))


def cast(origin, directions, T_world_box):
    """Distance (..., in units of the directions) and id of what rays meet: 0 the table z = 0, 1 the box; inf where nothing."""
    with np.errstate(divide="ignore", invalid="ignore"):
        table = np.where(directions[..., 2] < 0, -origin[2] / directions[..., 2], np.inf)
        T = invert(T_world_box)
        start, d = transform(T, origin), directions @ T[:3, :3].T
        low, high = (-BOX_HALF - start) / d, (BOX_HALF - start) / d
    enter, leave = np.minimum(low, high).max(-1), np.maximum(low, high).min(-1)
    box = np.where((enter < leave) & (enter > 0), enter, np.inf)
    return np.minimum(table, box), (box < table).astype(np.int32)


def see(cam, T_world_box):
    rays = pixel_rays(cam.K_px, cam.width, cam.height) @ cam.T_world_camera[:3, :3].T
    depth, ids = cast(cam.T_world_camera[:3, 3], rays, T_world_box)
    return np.where(np.isfinite(depth), depth, 0).astype(np.float32), ids, rays


def truth(cam_a, cam_b, box_a, box_b):
    """Exact flow and occlusion of frame a by moving each ray's hit point and looking for it from b."""
    eye, rays = (
        cam_a.T_world_camera[:3, 3],
        pixel_rays(cam_a.K_px, cam_a.width, cam_a.height) @ cam_a.T_world_camera[:3, :3].T,
    )
    far, ids = cast(eye, rays, box_a)
    points = eye + rays * np.where(np.isfinite(far), far, 1.0)[..., None]
    points = np.where((ids == 1)[..., None], transform(box_b @ invert(box_a), points), points)
    points_c = transform(invert(cam_b.T_world_camera), points)
    uv = (points_c @ cam_b.K_px.T)[..., :2] / points_c[..., 2:]
    eye_b = cam_b.T_world_camera[:3, 3]
    seen, _ = cast(eye_b, points - eye_b, box_b)
    out = ((uv < 0) | (uv >= [cam_b.width, cam_b.height])).any(-1)
    v, u = np.mgrid[: cam_a.height, : cam_a.width]
    return uv - np.stack([u, v], -1) - 0.5, (seen < 1 - 1e-6) | out, np.isfinite(far)


def f1(found, true):
    return 2 * (found & true).sum() / max(found.sum() + true.sum(), 1)


def box_pose(angle, x=0.75, y=0.0):
    return make_T(rotation_z(angle), np.array([x, y, BOX_HALF[2]]))


def twin(depth, ids, cam_a, cam_b, motion, depth_b, ids_b):
    """The kernel in numpy, float64."""
    T = invert(cam_b.T_world_camera) @ motion[ids] @ cam_a.T_world_camera
    rays = pixel_rays(cam_a.K_px, cam_a.width, cam_a.height)
    far = depth <= 0
    p = np.einsum("hwij,hwj->hwi", T[..., :3, :3], rays * np.where(far, 1, depth)[..., None])
    p += np.where(far[..., None], 0, T[..., :3, 3])
    uv = (p @ cam_b.K_px.T)[..., :2] / p[..., 2:]
    y, x = np.mgrid[: cam_a.height, : cam_a.width]
    out = ((uv < 0) | (uv >= [cam_b.width, cam_b.height])).any(-1)
    limit = np.where(far, 1e9, p[..., 2] - NOISE_M - NOISE_SHARE * p[..., 2])
    points = rays * depth[..., None]

    def step(axis):
        best = np.zeros_like(points)
        best[..., 1 - axis] = depth / cam_a.K_px[0, 0]
        change = 0.5 * depth
        for sign in (1, -1):
            there = np.roll(points, -sign, axis)
            near = np.abs(there[..., 2] - depth)
            edge = np.zeros_like(far)
            edge[tuple([slice(None)] * axis + [-1 if sign == 1 else 0])] = True
            ok = ~edge & (there[..., 2] > 0) & (np.roll(ids, -sign, axis) == ids) & (near < change)
            best = np.where(ok[..., None], (there - points) * sign, best)
            change = np.where(ok, near, change)
        return best

    normal = np.einsum("hwij,hwj->hwi", T[..., :3, :3], np.cross(step(1), step(0)))
    corner = np.floor(uv - 0.5).astype(int)
    part = uv - 0.5 - corner
    before = np.zeros(depth.shape)
    rays_b = pixel_rays(cam_b.K_px, cam_b.width, cam_b.height)
    for k in range(4):
        i, j = k & 1, k >> 1
        share = np.where(i, part[..., 0], 1 - part[..., 0]) * np.where(j, part[..., 1], 1 - part[..., 1])
        qx, qy = np.clip(corner[..., 0] + i, 0, cam_b.width - 1), np.clip(corner[..., 1] + j, 0, cam_b.height - 1)
        there = depth_b[qy, qx]
        with np.errstate(divide="ignore", invalid="ignore"):
            expected = (normal * p).sum(-1) / (normal * rays_b[qy, qx]).sum(-1)
        expected = np.clip(expected, 0.5 * p[..., 2], p[..., 2])
        slanted = (ids_b[qy, qx] == ids) & ~far & (there >= expected - NOISE_M - NOISE_SHARE * p[..., 2])
        before += share * ((there > 0) & (there < limit) & ~slanted)
    return uv - np.stack([x, y], -1) - 0.5, (before > 0.5) | out


def test_a_turning_camera_is_a_homography_whatever_the_depth():
    rng = np.random.default_rng(0)
    a = camera()
    b = Camera(
        a.K_px,
        WIDTH,
        HEIGHT,
        a.T_world_camera
        @ make_T(
            rotation_z(0.05) @ camera(pitch=0.06).T_world_camera[:3, :3] @ camera(pitch=0.0).T_world_camera[:3, :3].T,
            np.zeros(3),
        ),
    )
    depth = rng.uniform(0.3, 3.0, (HEIGHT, WIDTH)).astype(np.float32)
    depth[::7] = 0
    zero = np.zeros((HEIGHT, WIDTH), np.int32)
    flow = scene_flow(depth, zero, a, b, IDENTITY, np.zeros_like(depth), zero).flow_px
    R = b.T_world_camera[:3, :3].T @ a.T_world_camera[:3, :3]
    rays = pixel_rays(a.K_px, WIDTH, HEIGHT) @ (b.K_px @ R).T
    v, u = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    assert np.abs(flow - (rays[..., :2] / rays[..., 2:] - np.stack([u, v], -1))).max() < 2e-3


def test_a_step_before_a_plane_is_a_constant():
    a = camera(pitch=0.0)
    b = Camera(a.K_px, WIDTH, HEIGHT, a.T_world_camera @ make_T(np.eye(3), np.array([0.03, -0.02, 0.0])))
    depth, zero = np.full((HEIGHT, WIDTH), 0.8, np.float32), np.zeros((HEIGHT, WIDTH), np.int32)
    found = scene_flow(depth, zero, a, b, IDENTITY, depth, zero)
    assert np.allclose(found.flow_px, [-300 * 0.03 / 0.8, 306 * 0.02 / 0.8], atol=2e-3)
    v, u = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    out = (u - 11.25 < 0) | (v + 7.65 >= HEIGHT)
    assert np.array_equal(found.occluded, out)


PAIRS = [
    (camera(), camera(), box_pose(0.3), box_pose(0.6)),
    (camera(), camera(), box_pose(0.3), box_pose(0.5, 0.7, 0.05)),
    (camera(), camera((0.04, 0.05, 0.58), 0.72, 0.04), box_pose(0.3), box_pose(0.3)),
    (camera(), camera((-0.03, 0.04, 0.63), 0.66, -0.03, 310.0), box_pose(1.0), box_pose(1.2, 0.78, -0.04)),
    (camera((0, 0, 0.25), 0.3), camera((0.05, 0.03, 0.22), 0.3), box_pose(0.2), box_pose(0.2, 0.75, 0.06)),
]


@pytest.mark.parametrize("pair", PAIRS)
def test_a_turning_box_before_a_moving_camera(pair):
    cam_a, cam_b, box_a, box_b = pair
    depth, ids, _ = see(cam_a, box_a)
    depth_b, ids_b, _ = see(cam_b, box_b)
    motion = np.stack([np.eye(4), box_b @ invert(box_a)])
    found = scene_flow(depth, ids, cam_a, cam_b, motion, depth_b, ids_b)
    flow, hidden, known = truth(*pair)
    error = np.linalg.norm(found.flow_px - flow, axis=-1)[known]
    assert np.median(error) < 1e-3 and error.max() < 0.02
    assert f1(found.occluded[known], hidden[known]) > 0.95
    inner = known & (hidden == hidden)
    assert (found.occluded == hidden)[inner].mean() > 0.99


@pytest.mark.parametrize("pair", PAIRS)
def test_numpy_twin(pair):
    cam_a, cam_b, box_a, box_b = pair
    depth, ids, _ = see(cam_a, box_a)
    depth_b, ids_b, _ = see(cam_b, box_b)
    motion = np.stack([np.eye(4), box_b @ invert(box_a)])
    found = scene_flow(depth, ids, cam_a, cam_b, motion, depth_b, ids_b)
    flow, hidden = twin(depth, ids, cam_a, cam_b, motion, depth_b, ids_b)
    assert np.abs(found.flow_px - flow).max() < 5e-3
    assert (found.occluded == hidden).mean() > 0.9998


def test_nothing_moves_and_nothing_is_hidden_however_slanted_and_noisy():
    cam = camera((0, 0, 0.1), 0.12)  # the table at a grazing angle
    depth, ids, _ = see(cam, box_pose(0.4))
    noisy = depth * (1 + 0.0005 * np.random.default_rng(1).standard_normal(depth.shape)).astype(np.float32)
    found = scene_flow(depth, ids, cam, cam, np.stack([np.eye(4)] * 2), noisy, ids)
    assert np.abs(found.flow_px).max() < 2e-3 and not found.occluded.any()
    step = Camera(cam.K_px, WIDTH, HEIGHT, cam.T_world_camera @ make_T(np.eye(3), np.array([0.0011, 0.0007, 0.002])))
    depth_b, ids_b, _ = see(step, box_pose(5.0, 50.0))
    depth, ids, _ = see(cam, box_pose(5.0, 50.0))
    found = scene_flow(depth, ids, cam, step, np.stack([np.eye(4)] * 2), depth_b, ids_b)
    v, u = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    at = np.stack([u, v], -1) + found.flow_px
    inside = ((at > 0) & (at < [WIDTH, HEIGHT])).all(-1) & (depth < 6)
    assert found.occluded[inside].mean() < 1e-3


def test_pairs_in_a_batch_are_those_alone_and_sizes_may_differ():
    cam_a, cam_b, box_a, box_b = PAIRS[3]
    half = Camera(np.diag([0.5, 0.5, 1]) @ cam_b.K_px, WIDTH // 2, HEIGHT // 2, cam_b.T_world_camera)
    depth, ids, _ = see(cam_a, box_a)
    motion = np.stack([np.eye(4), box_b @ invert(box_a)])
    depth_b, ids_b, _ = see(half, box_b)
    depth_c, ids_c, _ = see(half, box_a)
    both = scene_flow(
        np.stack([depth] * 2),
        np.stack([ids] * 2),
        cam_a,
        half,
        np.stack([motion, np.stack([np.eye(4)] * 2)]),
        np.stack([depth_b, depth_c]),
        np.stack([ids_b, ids_c]),
    )
    one = scene_flow(depth, ids, cam_a, half, motion, depth_b, ids_b)
    assert np.array_equal(both.flow_px[0], one.flow_px) and np.array_equal(both.occluded[0], one.occluded)
    assert one.flow_px.shape == (HEIGHT, WIDTH, 2)
    assert not np.array_equal(both.occluded[0], both.occluded[1])


def test_points_behind_the_second_camera_have_no_flow():
    a = camera(pitch=0.0)
    b = Camera(a.K_px, WIDTH, HEIGHT, a.T_world_camera @ make_T(np.eye(3), np.array([0, 0, 1.0])))
    depth, zero = np.full((HEIGHT, WIDTH), 0.8, np.float32), np.zeros((HEIGHT, WIDTH), np.int32)
    found = scene_flow(depth, zero, a, b, IDENTITY, depth, zero)
    assert (found.flow_px == 0).all() and found.occluded.all()


def test_wrong_shapes_are_refused():
    a, depth, zero = camera(), np.ones((HEIGHT, WIDTH), np.float32), np.zeros((HEIGHT, WIDTH), np.int32)
    with pytest.raises(InputError, match="flow"):
        scene_flow(depth[:-1], zero, a, a, IDENTITY, depth, zero)
    with pytest.raises(InputError, match="flow"):
        scene_flow(depth, zero, a, a, np.eye(4)[None, None, :3], depth, zero)
