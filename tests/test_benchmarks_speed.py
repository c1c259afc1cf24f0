"""The plain implementations that the kernels are timed against give the same pictures, so their times can be compared."""

import numpy as np
import pytest

from phototwin.buffers import Buffers
from phototwin.frames import make_T
from phototwin.kernels.casters import make_casters
from phototwin.kernels.composite import composite
from phototwin.kernels.plate_arrays import make_plate_arrays
from phototwin.kernels.shade import shade_frames
from phototwin.kernels.shadow import cast_shadows
from phototwin.light import Light
from phototwin.scene import Camera
from phototwin_tasks.benchmarks.frame_plain import composite_opencv, shade_plain, shadow_opencv

K_PX = np.array([[60.0, 0.0, 32.0], [0.0, 60.0, 24.0], [0.0, 0.0, 1.0]])
CAMERA = Camera(K_PX, 64, 48, make_T(np.diag([1.0, -1.0, -1.0]), np.array([0.0, 0.0, 1.0])))


def light(distance_m):
    rng = np.random.default_rng(3)
    sh = 0.05 * rng.normal(size=(9, 3))
    sh[0] = (0.9, 0.8, 0.7)
    direction = np.array([0.3, -0.4, 0.8]) / np.linalg.norm([0.3, -0.4, 0.8])
    return Light(sh, direction, np.array([1.2, 1.1, 0.9]), 0.05, distance_m, np.zeros(3))


def drawn():
    rng = np.random.default_rng(0)
    ids = np.zeros((2, 48, 64), np.int32)
    ids[:, 10:30, 15:40], ids[:, 22:40, 35:50] = 1, 2
    normals = rng.normal(size=(2, 48, 64, 3)) * 0.4 + [0, 0, 1]
    normals /= np.linalg.norm(normals, axis=-1, keepdims=True)
    depth = np.where(ids > 0, rng.uniform(0.5, 1.1, ids.shape), 0).astype(np.float32)
    color = rng.integers(0, 256, (2, 48, 64, 3)).astype(np.uint8)
    return Buffers(color, depth, ids, normals.astype(np.float32), (1,), (2,))


@pytest.mark.parametrize("library", ["numpy", "torch"])
@pytest.mark.parametrize("distance", [np.inf, 1.5])
def test_plain_shading_is_the_kernel_s(library, distance):
    seen = drawn()
    visibility = np.random.default_rng(1).uniform(0, 1, (2, 48, 64, 2)).astype(np.float32)
    buffers = (seen.color, seen.depth_m, seen.normals_w, seen.ids)
    ours = shade_frames(*buffers, visibility, light(distance), CAMERA.T_world_camera, K_PX).numpy()
    plain = shade_plain(library, seen, visibility, light(distance), CAMERA)
    apart = np.abs(ours.astype(int) - plain)[seen.ids > 0]
    assert apart.max() <= 2 and (apart > 0).mean() < 0.05


def test_plain_compositing_is_the_kernel_s():
    seen, rng = drawn(), np.random.default_rng(2)
    plate = rng.integers(0, 256, (48, 64, 3)).astype(np.uint8)
    share, none = rng.uniform(0.2, 0.8, (24, 32, 3)).astype(np.float32), np.zeros((1, 24, 32), np.float32)
    far, empty = np.full((48, 64), 0.9, np.float32), np.zeros((48, 64), np.uint8)
    arrays = make_plate_arrays(plate, plate, empty, far, np.zeros_like(plate), empty, share, none, none)
    blocked, occluded = (rng.uniform(-0.02, 0.6, (2, 24, 32)).astype(np.float32) for _ in range(2))
    ours = composite(seen.color, seen.depth_m, seen.ids, arrays, (1,), (2,), None, blocked, occluded)[0]
    plain = composite_opencv(seen.color, seen, arrays, blocked, occluded)
    assert np.abs(ours.astype(int) - plain).max() <= 2


def test_the_plain_shadow_of_a_box_on_the_support_is_the_rays():
    import trimesh

    from phototwin.blend.plate import make_plate

    box = trimesh.creation.box((0.2, 0.15, 0.1))
    casters, T = make_casters([(box.vertices, box.faces)]), make_T(np.eye(3), np.array([0.0, 0.05, 0.2]))[None, None]
    # OpenCV fills every pixel that an edge touches: small pixels keep that small.
    camera = Camera(np.diag([5.0, 5.0, 1.0]) @ K_PX, 320, 240, CAMERA.T_world_camera)
    plate = make_plate(camera, np.zeros((240, 320, 3), np.uint8), np.ones((240, 320), np.float32))
    weight = np.ones((1, 1))
    ours = cast_shadows(casters, T, weight, plate.points_w, plate.normals_w, light(2.0))[0].numpy()
    plain = shadow_opencv(casters, T, weight, plate, light(2.0))[0]
    assert ours.max() == 1 and np.abs(ours - plain).mean() < 0.015
    assert (ours > 0.5).sum() == pytest.approx((plain > 0.5).sum(), rel=0.15)
