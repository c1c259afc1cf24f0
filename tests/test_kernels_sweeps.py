from itertools import pairwise

import numpy as np
import pytest
import trimesh
import warp as wp

from phototwin.errors import InputError
from phototwin.frames import make_T
from phototwin.kernels.links import FIXED, SLIDES, TURNS, BodySpheres, Chain, sphere_centers
from phototwin.kernels.obstacles import load_meshes
from phototwin.kernels.spheres import sphere_mesh_distances
from phototwin.kernels.sweeps import levers, sweep_paths
from phototwin.kernels.volumes import make_distance_volume

NO_GPU = pytest.mark.skipif(wp.get_cuda_device_count() == 0, reason="no CUDA device")
DEVICES = ["cpu", pytest.param("cuda:0", marks=[pytest.mark.gpu, NO_GPU])]


def arm():
    """Three joints that turn about Z, Y, Y and one that slides; a sphere in the middle and at the end of every link."""
    T = np.broadcast_to(np.eye(4), (5, 4, 4)).copy()
    T[2, 2, 3] = 0.3
    T[3:, 0, 3] = 0.3
    axis = np.array([[0, 0, 1.0], [0, 0, 1], [0, 1, 0], [0, 1, 0], [1, 0, 0]])
    kind = np.array([FIXED, TURNS, TURNS, TURNS, SLIDES], np.int32)
    limits = np.array([3.0, 3.0, 3.0, 0.1])
    chain = Chain(
        tuple(["base", "a", "b", "c", "d"]),
        np.arange(-1, 4, dtype=np.int32),
        kind,
        np.arange(-1, 4, dtype=np.int32),
        axis,
        T,
        -limits,
        limits,
    )
    link = np.array([2, 2, 3, 3, 4], np.int32)
    return chain, BodySpheres(link, np.array([[0.15, 0, 0], [0.3, 0, 0]] * 2 + [[0.1, 0, 0]]), np.full(5, 0.03))


def posts(device="cpu"):
    """Thin posts around the arm."""
    made = [
        trimesh.creation.cylinder(0.01, 1.0).apply_translation((0.5 * np.cos(a), 0.5 * np.sin(a), 0.4))
        for a in (0.5, 2.0, 4.0)
    ]
    return load_meshes([(m.vertices, m.faces) for m in made], device)


def densely(chain, spheres, q, meshes, samples=400):
    """The twin: clearance at very many poses along every path, (B, (T - 1) * samples)."""
    share = np.arange(samples)[:, None] / samples
    poses = [np.concatenate([a + share * (b - a) for a, b in pairwise(path)] + [path[-1:]]) for path in q]
    return np.array(
        [sphere_mesh_distances(sphere_centers(chain, spheres, p), spheres.radii_m, meshes).clearance_m for p in poses]
    )


def random_paths(rng, chain, count=120, waypoints=4):
    return rng.uniform(chain.lower, chain.upper, (count, waypoints, 4)) * np.array([1, 0.3, 0.3, 1])


@pytest.mark.parametrize("device", DEVICES)
def test_dense_sampling_agrees_and_no_collision_deeper_than_half_a_step_is_missed(device):
    chain, spheres = arm()
    q = random_paths(np.random.default_rng(0), chain)
    meshes, step, margin = posts(device), 0.01, 0.004
    found = sweep_paths(chain, spheres, q, meshes, step_m=step, margin_m=margin)
    truth = densely(chain, spheres, q, meshes)
    hits = truth.min(1) < margin
    assert 20 < hits.sum() < 110
    assert (truth.min(1)[found.free] >= margin - step / 2 - 1e-5).all()  # the promise
    assert not (~found.free & (truth.min(1) > margin + 1e-3)).any()  # no hit that is none
    assert (found.free == ~hits).mean() > 0.97
    for b in np.flatnonzero(~found.free):
        before = truth[b, : int(found.first[b] * 400)]
        assert (before >= margin - step / 2 - 1e-5).all()  # nothing comes earlier
        assert truth[b, round(float(found.first[b]) * 400)] < margin + 2e-3
    # Far fewer looks than steps of 10 mm would take.
    steps = (levers(chain, spheres) * np.abs(np.diff(q, axis=1))).sum((1, 2)) / step
    assert found.looks[found.free].sum() < 0.4 * steps[found.free].sum()


def test_no_joint_moves_a_sphere_further_than_its_lever():
    chain, spheres = arm()
    rng, bound = np.random.default_rng(1), levers(chain, spheres)
    q = rng.uniform(chain.lower, chain.upper, (400, 4))
    there = sphere_centers(chain, spheres, q)
    for j in range(4):
        moved = q.copy()
        moved[:, j] += 1e-2
        way = np.linalg.norm(sphere_centers(chain, spheres, moved) - there, axis=2).max() / 1e-2
        assert way <= bound[j] * 1.001
        assert way > 0.6 * bound[j]


def test_a_thin_wall_between_two_waypoints_is_seen():
    chain, spheres = arm()
    wall = trimesh.creation.box((1.0, 0.001, 1.0)).apply_translation((0.5, 0.0, 0.3))
    q = np.zeros((1, 2, 4))
    q[0, :, 0] = [-1.0, 1.0]
    found = sweep_paths(chain, spheres, q, load_meshes([(wall.vertices, wall.faces)]))
    # The sphere 0.15 m from the axis is the first to touch, where it is its radius from the wall, and the last step is 10 mm at most.
    touch = 0.5 - np.arcsin(0.0305 / 0.15) / 2
    assert not found.free[0] and touch <= found.first[0] < touch + 0.01


def test_volumes_poses_of_the_base_and_of_meshes_per_path():
    chain, spheres = arm()
    q, meshes = random_paths(np.random.default_rng(2), chain, 60), posts()
    plain = sweep_paths(chain, spheres, q, meshes)
    shift = make_T(np.eye(3), np.array([0.2, -0.1, 0.0]))
    T_mesh = np.broadcast_to(shift, (60, 3, 4, 4))
    moved = sweep_paths(chain, spheres, q, meshes, T_mesh, np.broadcast_to(shift, (60, 4, 4)))
    np.testing.assert_array_equal(plain.free, moved.free)
    volume = make_distance_volume(meshes, 0.005)
    by_volume = sweep_paths(chain, spheres, q, load_meshes([]), volume=volume)
    differ = by_volume.free != plain.free
    assert differ.mean() < 0.1
    assert (np.abs(densely(chain, spheres, q[differ], meshes).min(1)) < 0.87 * 0.005 + 0.005).all()
    threads = sweep_paths(chain, spheres, np.repeat(q, 4, 0), meshes, threads=3)
    np.testing.assert_array_equal(threads.first[::4], plain.first)


def test_one_waypoint_and_paths_that_stand_still():
    chain, spheres = arm()
    q = random_paths(np.random.default_rng(3), chain, 50, 1)
    one = sweep_paths(chain, spheres, q, posts())
    still = sweep_paths(chain, spheres, np.repeat(q, 3, 1), posts())
    np.testing.assert_array_equal(one.free, still.free)
    assert (one.looks == 1).all() and (still.looks <= 2).all()
    truth = sphere_mesh_distances(sphere_centers(chain, spheres, q[:, 0]), spheres.radii_m, posts(), reach_m=0.15)
    np.testing.assert_allclose(one.clearance_m, truth.clearance_m, atol=1e-6)


def test_bad_input_is_named():
    chain, spheres = arm()
    with pytest.raises(InputError, match="paths"):
        sweep_paths(chain, spheres, np.zeros((3, 0, 4)), posts())
    with pytest.raises(InputError, match="step > 0"):
        sweep_paths(chain, spheres, np.zeros((3, 2, 4)), posts(), step_m=0.0)
