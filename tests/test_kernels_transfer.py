import numpy as np
import pytest
import trimesh
import warp as wp

from phototwin.kernels.transfer import cast_rays, make_blockers, see_sources

NO_GPU = pytest.mark.skipif(wp.get_cuda_device_count() == 0, reason="no CUDA device")
DEVICES = ["cpu", pytest.param("cuda:0", marks=[pytest.mark.gpu, NO_GPU])]


def surface(mesh):
    return np.asarray(mesh.vertices), np.asarray(mesh.faces)


def unit(rng, *shape):
    v = rng.normal(size=(*shape, 3))
    return v / np.linalg.norm(v, axis=-1, keepdims=True)


def plate(z, half=1.0):
    points = np.array([[-half, -half, z], [half, -half, z], [half, half, z], [-half, half, z]])
    return points, np.array([[0, 1, 2], [0, 2, 3]])


@pytest.mark.parametrize("device", DEVICES)
def test_first_hits_are_those_of_trimesh(device):
    rng = np.random.default_rng(0)
    ball = trimesh.creation.icosphere(subdivisions=2, radius=0.3)
    box = trimesh.creation.box((0.4, 0.2, 0.6), transform=trimesh.transformations.translation_matrix((0.7, 0.1, 0.0)))
    origins, directions = rng.uniform(-1.5, 1.5, (40, 3)), unit(rng, 40, 25)
    distance, owner = cast_rays(make_blockers((surface(ball), surface(box)), device), origins, directions)
    both = trimesh.util.concatenate([ball, box])
    flat = directions.reshape(-1, 3)
    starts = np.repeat(origins, 25, axis=0)
    at, ray = both.ray.intersects_location(starts, flat, multiple_hits=False)[:2]
    face = both.ray.intersects_first(starts, flat)
    expected = np.full(len(flat), np.inf)
    expected[ray] = np.linalg.norm(at - starts[ray], axis=1)
    np.testing.assert_allclose(distance.ravel(), expected, rtol=1e-4)
    who = np.where(face < 0, -1, (face >= len(ball.faces)).astype(int))
    np.testing.assert_array_equal(owner.ravel(), who)
    assert set(who) == {-1, 0, 1}


@pytest.mark.parametrize("device", DEVICES)
def test_half_of_a_source_behind_an_edge_is_seen_as_half(device):
    # A plate whose edge is the plane x = 0 seen from the origin hides all of the disc with x < 0.
    points = np.array([[-5.0, -5, 1], [0, -5, 1], [0, 5, 1], [-5, 5, 1]])
    blockers = make_blockers([(points, np.array([[0, 1, 2], [0, 2, 3]]))], device)
    centers = np.array([[0.0, 0, 2, 1], [0.5, 0, 2, 1], [-0.5, 0, 2, 1], [0, 0, 1, 0], [0, 0, 0.5, 1]])
    radii = np.array([0.2, 0.2, 0.2, 0.1, 0.2])
    seen = see_sources(blockers, np.zeros((1, 3)), np.array([[0.0, 0, 1]]), np.zeros(1), centers, radii, 512)[0]
    assert seen[0] == pytest.approx(0.5, abs=0.03)
    assert seen[1] == pytest.approx(2 / np.hypot(2, 0.5), abs=0.01)
    assert seen[2] == 0
    assert seen[3] == pytest.approx(0.5, abs=0.03)
    assert seen[4] == pytest.approx(1.0, abs=0.1), "what is behind the source hides nothing"


@pytest.mark.parametrize("device", DEVICES)
def test_shadows_are_those_that_numpy_casts(device):
    rng = np.random.default_rng(1)
    ball = trimesh.creation.icosphere(subdivisions=3, radius=0.2)
    ball.apply_translation((0, 0, 0.3))
    points = np.column_stack([rng.uniform(-1, 1, (300, 2)), np.zeros(300)])
    normals = np.tile([0.0, 0, 1], (300, 1))
    direction = np.array([0.5, 0.2, 0.8]) / np.linalg.norm([0.5, 0.2, 0.8])
    sun = np.append(direction, 0.0)[None]
    seen = see_sources(make_blockers([surface(ball)], device), points, normals, np.zeros(300), sun, np.zeros(1), 1)[
        :, 0
    ]
    to = np.array([0, 0, 0.3]) - points
    passes = np.linalg.norm(to - (to @ direction)[:, None] * direction, axis=1)
    sure = np.abs(passes - 0.2) > 0.005
    np.testing.assert_allclose(seen[sure], np.where(passes[sure] < 0.2, 0.0, direction[2]), atol=1e-5)
    assert 10 < (passes < 0.2).sum() < 200


def test_a_surface_does_not_shadow_itself_and_nothing_blocks_nothing():
    points, normals = np.array([[0.1, 0.2, 0.0]]), np.array([[0.0, 0, 1]])
    up = np.array([[0.0, 0, 1, 0]])
    for blockers in (make_blockers([plate(0.0)]), make_blockers(())):
        assert see_sources(blockers, points, normals, np.zeros(1), up, np.array([0.05]), 16)[0, 0] > 0.99
    distance, owner = cast_rays(make_blockers(()), points, np.array([[[0.0, 0, 1]]]))
    assert np.isinf(distance).all() and (owner == -1).all()


def test_a_face_of_no_vertex_is_refused():
    with pytest.raises(ValueError, match=r"vertices 0\.\.9"):
        make_blockers([(np.zeros((3, 3)), np.array([[0, 1, 9]]))])
