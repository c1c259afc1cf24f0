import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from phototwin import frames

unit = st.floats(-1, 1, allow_nan=False, width=32)
angle = st.floats(-np.pi, np.pi, allow_nan=False)


def random_rotations(count, seed=0):
    quat = np.random.default_rng(seed).normal(size=(count, 4))
    return frames.matrix_from_quat_xyzw(quat)


def test_matrices_of_quaternions_are_rotations():
    R = random_rotations(200)
    assert np.allclose(R @ np.swapaxes(R, -1, -2), np.eye(3), atol=1e-14)
    assert np.allclose(np.linalg.det(R), 1)


@given(unit, unit, unit, unit)
def test_quaternion_matrix_round_trip(x, y, z, w):
    quat = np.array([x, y, z, w], dtype=np.float64)
    if np.linalg.norm(quat) < 1e-3:
        return
    quat /= np.linalg.norm(quat)
    back = frames.quat_xyzw_from_matrix(frames.matrix_from_quat_xyzw(quat))
    assert back[3] >= 0
    assert min(np.abs(back - quat).max(), np.abs(back + quat).max()) < 1e-9


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_half_turns_have_quaternions(axis):
    R = -np.eye(3)
    R[axis, axis] = 1.0
    quat = frames.quat_xyzw_from_matrix(R)
    assert np.allclose(np.abs(quat), np.eye(4)[axis], atol=1e-12)
    assert np.allclose(frames.matrix_from_quat_xyzw(quat), R, atol=1e-12)


@given(angle)
def test_rotation_z_closed_form(theta):
    quat = frames.quat_xyzw_from_matrix(frames.rotation_z(theta))
    expected = np.array([0, 0, np.sin(theta / 2), np.cos(theta / 2)])
    assert min(np.abs(quat - expected).max(), np.abs(quat + expected).max()) < 1e-9
    assert np.allclose(frames.rotation_z(theta) @ (1, 0, 0), (np.cos(theta), np.sin(theta), 0))


def test_invert_is_the_inverse_for_stacks():
    rng = np.random.default_rng(1)
    T = np.stack([frames.make_T(R, rng.normal(size=3)) for R in random_rotations(20)])
    assert np.allclose(frames.invert(T) @ T, np.eye(4), atol=1e-13)
    assert np.allclose(frames.invert(T), np.linalg.inv(T), atol=1e-13)
    assert np.allclose(frames.invert(frames.invert(T[0])), T[0], atol=1e-15)


def test_transform_is_homogeneous_multiplication():
    rng = np.random.default_rng(2)
    T = frames.make_T(random_rotations(1)[0], rng.normal(size=3))
    points = rng.normal(size=(5, 7, 3))
    expected = np.concatenate([points, np.ones((5, 7, 1))], -1) @ T.T
    assert np.allclose(frames.transform(T, points), expected[..., :3])


def test_usd_camera_axes():
    assert np.allclose(frames.T_OPENCV_USD @ frames.T_OPENCV_USD, np.eye(4))
    looking_usd, up_usd = np.array([0, 0, -1.0, 0]), np.array([0, 1.0, 0, 0])
    assert np.allclose(frames.T_OPENCV_USD @ looking_usd, (0, 0, 1, 0))
    assert np.allclose(frames.T_OPENCV_USD @ up_usd, (0, -1, 0, 0))


K_PX = np.array([[150.0, 0.0, 83.5], [0.0, 153.0, 57.25], [0.0, 0.0, 1.0]])


def test_pixel_rays_project_onto_their_pixel_centres():
    rays = frames.pixel_rays(K_PX, 160, 120)
    assert rays.shape == (120, 160, 3)
    depth = np.random.default_rng(3).uniform(0.3, 3.0, (120, 160, 1))
    uv = frames.project(K_PX, depth * rays)
    v, u = np.indices((120, 160)) + 0.5
    assert np.allclose(uv, np.stack([u, v], -1), atol=1e-9)


def test_principal_point_looks_straight_ahead():
    assert np.allclose(frames.project(K_PX, np.array([0.0, 0.0, 2.0])), (83.5, 57.25))


def test_support_depth_from_straight_above_is_the_height():
    T = frames.make_T(np.diag([1.0, -1.0, -1.0]), np.array([0.2, -0.1, 0.8]))
    assert np.allclose(frames.support_depth(K_PX, T, 160, 120), 0.8)
    assert np.allclose(frames.support_depth(K_PX, T, 160, 120, z_w=0.3), 0.5)


def test_support_depth_closed_form_at_45_degrees():
    """Rays tilted 45 deg down plus the pixel's own angle meet the plane at h / (cos 45 + sin 45 * y)."""
    c = np.sqrt(0.5)
    z = np.array([c, 0, -c])
    x = np.array([0, -1.0, 0])
    T = frames.make_T(np.stack([x, np.cross(z, x), z], 1), np.array([0, 0, 0.6]))
    depth = frames.support_depth(K_PX, T, 160, 120)
    y = (np.arange(120) + 0.5 - K_PX[1, 2]) / K_PX[1, 1]
    assert np.allclose(depth, np.broadcast_to((0.6 / (c * (1 + y)))[:, None], depth.shape))
    points_w = frames.transform(T, depth[..., None] * frames.pixel_rays(K_PX, 160, 120))
    assert np.abs(points_w[..., 2]).max() < 1e-12


def test_support_depth_is_infinite_above_the_horizon():
    z, x = np.array([1.0, 0, 0]), np.array([0, -1.0, 0])
    T = frames.make_T(np.stack([x, np.cross(z, x), z], 1), np.array([0, 0, 0.5]))
    depth = frames.support_depth(K_PX, T, 160, 120)
    above = np.arange(120) + 0.5 < K_PX[1, 2]
    assert np.isinf(depth[above]).all()
    assert np.isfinite(depth[~above]).all()
    assert (depth > 0).all()
