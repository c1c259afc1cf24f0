import numpy as np
import pytest
import trimesh
import warp as wp

from phototwin.errors import InputError
from phototwin.frames import make_T, matrix_from_quat_xyzw
from phototwin.kernels.convex_pairs import convex_pair_gaps
from phototwin.kernels.signed_distance import Solids, signed_distances

NO_GPU = pytest.mark.skipif(wp.get_cuda_device_count() == 0, reason="no CUDA device")
DEVICES = ["cpu", pytest.param("cuda:0", marks=[pytest.mark.gpu, NO_GPU])]


def solids(pieces, owner):
    """Convex meshes as solids, all planes leading out."""
    planes, points, first_plane, first_point, bounds = [], [], [0], [0], []
    for piece in pieces:
        d = (piece.face_normals * piece.triangles[:, 0]).sum(1)
        rows = np.unique(np.column_stack([piece.face_normals, d]).round(9), axis=0)
        planes.append(rows)
        points.append(piece.vertices)
        first_plane.append(first_plane[-1] + len(rows))
        first_point.append(first_point[-1] + len(piece.vertices))
        bounds.append([*piece.bounds.mean(0), np.linalg.norm(piece.vertices - piece.bounds.mean(0), axis=1).max()])
    planes, points = np.concatenate(planes), np.concatenate(points)
    ints = [np.array(x, np.int32) for x in (first_plane, first_point, owner)]
    return Solids(
        planes.astype(np.float32),
        np.ones(len(planes), np.int32),
        ints[0],
        points.astype(np.float32),
        ints[1],
        np.array(bounds, np.float32),
        ints[2],
    )


def poses(seed, count, spread):
    rng = np.random.default_rng(seed)
    R = matrix_from_quat_xyzw(rng.standard_normal((count, 4)))
    return np.array([make_T(r, t) for r, t in zip(R, rng.uniform(-spread, spread, (count, 3)), strict=True)])


def hulls(seed):
    rng = np.random.default_rng(seed)
    return [
        trimesh.convex.convex_hull(rng.uniform(-0.06, 0.06, (12, 3)) + shift)
        for shift in ([0, 0, 0], [0.1, 0, 0], [0, 0, 0])
    ]


@pytest.mark.parametrize("device", DEVICES)
def test_the_same_as_one_pose_after_the_other(device):
    made = solids(hulls(0), [0, 0, 1])
    T = poses(1, 1100, 0.15)
    found = convex_pair_gaps(made, T, device).gap_m
    for pose, gap in zip(T[::10], found[::10], strict=True):
        alone = signed_distances(made, np.array([np.eye(4), pose]), 10.0)[2].min()
        assert abs(alone - gap) < 1e-6


def test_coal_agrees():
    coal = pytest.importorskip("coal")
    made, T = hulls(3), poses(2, 400, 0.15)
    found = convex_pair_gaps(solids(made, [0, 0, 1]), T).gap_m
    points = [coal.StdVec_Vec3s() for _ in made]
    for cloud, piece in zip(points, made, strict=True):
        for vertex in piece.vertices:
            cloud.append(np.asarray(vertex))
    shapes = [coal.ConvexBase.convexHull(cloud, False, "Qt") for cloud in points]
    request = coal.DistanceRequest()
    truth = np.array(
        [
            min(
                coal.distance(
                    s,
                    coal.Transform3s(),
                    shapes[2],
                    coal.Transform3s(p[:3, :3], p[:3, 3]),
                    request,
                    coal.DistanceResult(),
                )
                for s in shapes[:2]
            )
            for p in T
        ]
    )
    apart, near = truth > 1e-4, truth < -1e-4
    assert (found[apart] <= truth[apart] + 1e-5).all()  # a lower bound
    assert np.median(truth[apart] - found[apart]) < 0.2 * np.median(truth[apart])
    assert (found[near] <= truth[near] + 1e-5).all()  # the way out along a face is not shorter than the shortest
    assert ((found < 0) == near)[np.abs(truth) > 0.02].all()


def test_the_gradient_is_the_slope_of_the_gap():
    made, T, step = solids(hulls(5), [0, 0, 1]), poses(4, 200, 0.12), 2e-5
    found = convex_pair_gaps(made, T)
    slope = np.empty((len(T), 6))
    for k in range(6):
        ends = []
        for sign in (-1.0, 1.0):
            moved = T.copy()
            if k < 3:
                moved[:, k, 3] += sign * step
            else:
                a = sign * step * 10
                axis = np.eye(3)[k - 3]
                turn = matrix_from_quat_xyzw(np.array([*(np.sin(a / 2) * axis), np.cos(a / 2)]))
                moved[:, :3, :3] = turn @ moved[:, :3, :3]
            ends.append(convex_pair_gaps(made, moved).gap_m)
        slope[:, k] = (ends[1] - ends[0]) / (2 * step * (1 if k < 3 else 10))
    error = np.abs(found.gradient - slope).max(1)
    assert (error < 0.02).mean() > 0.9  # but where the nearest pair of features changes
    np.testing.assert_allclose(np.linalg.norm(found.gradient[:, :3], axis=1), 1.0, atol=1e-5)


def test_no_poses_and_bad_input():
    made = solids(hulls(0), [0, 0, 1])
    assert convex_pair_gaps(made, np.zeros((0, 4, 4))).gradient.shape == (0, 6)
    with pytest.raises(InputError, match="objects 0 and 1"):
        convex_pair_gaps(solids(hulls(0), [0, 1, 2]), np.eye(4)[None])
