"""Boxes against meshes: closed forms, and coal as the judge."""

import numpy as np
import pytest
import warp as wp
from synthetic import box_mesh, make_bowl

from phototwin.errors import InputError
from phototwin.frames import make_T, matrix_from_quat_xyzw
from phototwin.kernels.boxes import find_box_hits
from phototwin.kernels.obstacles import load_meshes

NO_GPU = pytest.mark.skipif(wp.get_cuda_device_count() == 0, reason="no CUDA device")
DEVICES = ["cpu", pytest.param("cuda:0", marks=[pytest.mark.gpu, NO_GPU])]
LOWER = np.array([[-0.01, -0.007, -0.02], [-0.03, -0.1, 0.02]])
UPPER = np.array([[0.01, 0.007, 0.02], [0.03, 0.1, 0.12]])


def random_poses(seed, count, spread_m):
    rng = np.random.default_rng(seed)
    R = matrix_from_quat_xyzw(rng.standard_normal((count, 4)))
    return np.array([make_T(r, rng.uniform(-spread_m, spread_m, 3)) for r in R])


@pytest.mark.parametrize("device", DEVICES)
def test_a_box_meets_a_cube_up_to_where_they_touch(device):
    cube = load_meshes([box_mesh(np.full(3, 0.1))[:2]], device)
    for gap, expected in ((-1e-4, 1), (1e-4, -1)):
        T = make_T(np.eye(3), np.array([0.0, 0.0, 0.05 - 0.02 + gap]))[None]
        assert find_box_hits(cube, T, LOWER[1:], UPPER[1:])[0] == (0 if expected == 1 else -1)
    # Turned by 45 degrees about Z, the 2 cm square reaches sqrt(2) cm far.
    turned = np.array([[0.5**0.5, -(0.5**0.5), 0.0], [0.5**0.5, 0.5**0.5, 0.0], [0.0, 0.0, 1.0]])
    for gap, hits in ((-1e-4, True), (1e-4, False)):
        T = make_T(turned, np.array([0.05 + 0.01 * 2**0.5 + gap, 0.0, 0.0]))[None]
        square = np.array([[-0.01, -0.01, -0.01]]), np.array([[0.01, 0.01, 0.01]])
        assert (find_box_hits(cube, T, *square)[0] == 0) == hits


@pytest.mark.parametrize("device", DEVICES)
def test_inside_and_around_is_a_hit_and_a_box_without_volume_is_none(device):
    cube = load_meshes([box_mesh(np.full(3, 0.1))[:2]], device)
    T = np.eye(4)[None]
    small, large = np.full((1, 3), 0.01), np.full((1, 3), 0.2)
    assert find_box_hits(cube, T, -small, small)[0] == 0
    assert find_box_hits(cube, T, -large, large)[0] == 0
    assert find_box_hits(cube, T, small, -small)[0] == -1


def test_coal_agrees_on_boxes_of_any_pose_about_a_bowl():
    import coal  # pyright: ignore[reportMissingImports]

    bowl = make_bowl().mesh
    T = random_poses(0, 400, 0.08)
    hits = find_box_hits(load_meshes([(bowl.points, bowl.faces)]), T, LOWER, UPPER)
    model = coal.BVHModelOBBRSS()
    model.beginModel(len(bowl.faces), len(bowl.points))
    model.addVertices(bowl.points.astype(np.float64))
    model.addTriangles(bowl.faces)
    model.endModel()
    for pose, hit in zip(T, hits, strict=True):
        judged = []
        for low, high in zip(LOWER, UPPER, strict=True):
            middle = (pose @ np.append(0.5 * (low + high), 1.0))[:3]
            result = coal.CollisionResult()
            place = coal.Transform3s(pose[:3, :3], middle)
            coal.collide(model, coal.Transform3s(), coal.Box(*(high - low)), place, coal.CollisionRequest(), result)
            judged.append(result.isCollision())
        assert hit == (judged.index(True) if any(judged) else -1)
    assert 0.1 < (hits >= 0).mean() < 0.9


def test_meshes_that_are_elsewhere_and_boxes_of_their_own():
    bowl, cube = make_bowl().mesh, box_mesh(np.full(3, 0.05))
    T = random_poses(1, 200, 0.1)
    both = load_meshes([(bowl.points, bowl.faces), cube[:2]])
    T_world_mesh = np.array([make_T(np.eye(3), np.array([0.05, 0.0, 0.0])), make_T(np.eye(3), np.array([-0.08, 0, 0]))])
    hits = find_box_hits(both, T, LOWER, UPPER, T_world_mesh) >= 0
    alone = [
        find_box_hits(load_meshes([mesh]), np.linalg.inv(place) @ T, LOWER, UPPER) >= 0
        for mesh, place in zip([(bowl.points, bowl.faces), cube[:2]], T_world_mesh, strict=True)
    ]
    np.testing.assert_array_equal(hits, alone[0] | alone[1])
    own = np.repeat(LOWER[None], 200, 0), np.repeat(UPPER[None], 200, 0)
    np.testing.assert_array_equal(find_box_hits(both, T, *own, T_world_mesh) >= 0, hits)


def test_shapes_that_do_not_fit_are_refused():
    cube = load_meshes([box_mesh(np.full(3, 0.1))[:2]])
    with pytest.raises(InputError, match=r"Expected poses \(B, 4, 4\)"):
        find_box_hits(cube, np.eye(4), LOWER, UPPER)
    with pytest.raises(InputError, match="Boxes of 3 poses do not fit 2 poses"):
        find_box_hits(cube, np.tile(np.eye(4), (2, 1, 1)), np.tile(LOWER, (3, 1, 1)), np.tile(UPPER, (3, 1, 1)))
