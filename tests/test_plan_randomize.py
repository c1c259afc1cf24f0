"""Object poses of an attempt are a function of seed and attempt alone, and never worse placed than the photo's."""

import numpy as np
import pytest
from synthetic import make_scene

from phototwin.frames import make_T, rotation_z
from phototwin.plan.randomize import RandomizeConfig, focus_points, footprint_radius, sample_object_poses

T_WORLD_BASE = make_T(rotation_z(np.pi), np.array([0.95, 0.0, 0.0]))


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    return make_scene(tmp_path_factory.mktemp("twin"))


def draw(scene, attempt, seed=0, config=None):
    return sample_object_poses(scene, scene.camera, T_WORLD_BASE, seed, attempt, config or RandomizeConfig())


def test_attempt_zero_is_the_photo(scene):
    for item in scene.objects:
        assert np.array_equal(draw(scene, 0)[item.key], item.T_world_object)


def test_same_seed_and_attempt_give_the_same_poses_and_others_differ(scene):
    first, again, other, seeded = draw(scene, 3), draw(scene, 3), draw(scene, 4), draw(scene, 3, seed=1)
    for key in first:
        assert np.array_equal(first[key], again[key])
        assert not np.array_equal(first[key], other[key])
        assert not np.array_equal(first[key], seeded[key])


def test_objects_stay_upright_near_and_apart(scene):
    config = RandomizeConfig()
    for attempt in range(1, 40):
        poses = draw(scene, attempt)
        for item in scene.objects:
            T = poses[item.key]
            assert np.allclose(T[2, :3], item.T_world_object[2, :3])
            assert T[2, 3] == item.T_world_object[2, 3]
            assert np.linalg.norm(T[:2, 3] - item.T_world_object[:2, 3]) <= config.radius_m + 1e-9
        for i, a in enumerate(scene.objects):
            for b in scene.objects[:i]:
                own = np.linalg.norm(a.T_world_object[:2, 3] - b.T_world_object[:2, 3])
                least = min(own, footprint_radius(a) + footprint_radius(b) + config.margin_m)
                assert np.linalg.norm(poses[a.key][:2, 3] - poses[b.key][:2, 3]) >= least - 1e-9


def test_no_room_falls_back_to_the_photo(scene):
    impossible = RandomizeConfig(radius_m=0.5, margin_m=5.0, max_reach_m=0.0)
    poses = draw(scene, 1, config=impossible)
    for item in scene.objects:
        own = np.linalg.norm(item.T_world_object[:2, 3] - T_WORLD_BASE[:2, 3])
        assert np.linalg.norm(poses[item.key][:2, 3] - T_WORLD_BASE[:2, 3]) <= own + 1e-9


def test_focus_points_are_in_the_photo(scene):
    points = focus_points(scene)
    assert points.shape == (8 * len(scene.objects), 2)
    assert (points > 0).all() and (points < [scene.camera.width, scene.camera.height]).all()
