"""Rays through meshes: closed forms, and trimesh as the judge."""

import numpy as np
import pytest
import trimesh
import warp as wp
from synthetic import box_mesh, make_bowl

from phototwin.errors import InputError
from phototwin.kernels.obstacles import load_meshes
from phototwin.kernels.pierce import pierce_mesh

NO_GPU = pytest.mark.skipif(wp.get_cuda_device_count() == 0, reason="no CUDA device")
DEVICES = ["cpu", pytest.param("cuda:0", marks=[pytest.mark.gpu, NO_GPU])]


@pytest.mark.parametrize("device", DEVICES)
def test_rays_meet_a_box_where_they_must(device):
    box = load_meshes([box_mesh(np.array([0.2, 0.1, 0.06]))[:2]], device)
    rng = np.random.default_rng(0)
    origins = np.column_stack([rng.uniform(-0.09, 0.09, 50), rng.uniform(-0.04, 0.04, 50), np.full(50, 0.5)])
    down = np.tile([0.0, 0.0, -1.0], (50, 1))
    distance, face = pierce_mesh(box, origins, down, 1.0)
    np.testing.assert_allclose(distance[:, :2], np.tile([0.47, 0.53], (50, 1)), atol=1e-6)
    assert np.isinf(distance[:, 2:]).all() and (face[:, 2:] == -1).all() and (face[:, :2] >= 0).all()
    assert np.isinf(pierce_mesh(box, origins + np.array([1.0, 0.0, 0.0]), down, 1.0)[0]).all()
    short = pierce_mesh(box, origins, down, 0.5)[0]
    np.testing.assert_allclose(short[:, 0], 0.47, atol=1e-6)
    assert np.isinf(short[:, 1]).all()


def test_trimesh_finds_the_same_hits_of_a_bowl():
    bowl = make_bowl().mesh
    rng = np.random.default_rng(1)
    origins, directions = rng.uniform(-0.05, 0.05, (300, 3)), rng.standard_normal((300, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    distance, face = pierce_mesh(load_meshes([(bowl.points, bowl.faces)]), origins, directions, 1.0)
    mesh = trimesh.Trimesh(bowl.points, bowl.faces, process=False)
    places, rays, faces = mesh.ray.intersects_location(origins, directions)
    for i in range(300):
        own = rays == i
        expected = np.sort(np.linalg.norm(places[own] - origins[i], axis=1))
        np.testing.assert_allclose(distance[i, : own.sum()], expected, atol=1e-5)
        assert np.isinf(distance[i, own.sum() :]).all()
        assert set(faces[own]) == set(face[i, : own.sum()])


def test_rays_that_do_not_fit_are_refused():
    box = load_meshes([box_mesh(np.full(3, 0.1))[:2]])
    with pytest.raises(InputError, match=r"rays \(N, 3\) and \(N, 3\)"):
        pierce_mesh(box, np.zeros((2, 3)), np.zeros((3, 3)), 1.0)
