"""The same twin in several engines: who is off, by how much; a crash is said; on a sound scene they agree."""

import dataclasses

import numpy as np
import pytest
from sim_helpers import make_twin
from synthetic import make_scene

from phototwin.frames import make_T, rotation_z
from phototwin.scene import load_scene
from phototwin_tasks.audit.audit import audit_twin
from phototwin_tasks.audit.engines import compare_engines, run_engine
from phototwin_tasks.audit.rest import Motion, MujocoTwin, push_directions
from phototwin_tasks.audit.values import Limits
from phototwin_tasks.audit.verdict import judge_engine


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    return make_scene(tmp_path_factory.mktemp("scene"))


def motion(engine, scene, rest_x=0.0, turn=0.0, push_x=0.01):
    """Every object moved by ``rest_x`` and turned by ``turn`` at rest, and ``push_x`` farther after its push."""
    rest = np.array([T @ make_T(rotation_z(turn), np.zeros(3)) for T in (o.T_world_object for o in scene.objects)])
    rest[:, 0, 3] += rest_x
    pushed = rest.copy()
    pushed[:, 0, 3] += push_x
    return Motion(engine, rest, pushed)


def test_the_engine_that_differs_is_named_with_its_difference(scene):
    motions = [motion("a", scene), motion("b", scene, 0.001, 0.02), motion("c", scene, 0.021, 0.3, 0.05)]
    a, b, c = compare_engines(scene, motions, Limits())
    for first, second, third in zip(a.objects, b.objects, c.objects, strict=True):
        assert (first.rest_off_mm, second.rest_off_mm) == pytest.approx((1.0, 0.0))
        assert third.rest_off_mm == pytest.approx(20.0) and third.drift_mm == pytest.approx(21.0)
        assert third.rest_off_deg == pytest.approx(np.degrees(0.28), abs=1e-4)
        # The push is compared by what it did: it is not charged with the other place of rest.
        assert (first.push_off_mm, second.push_off_mm) == pytest.approx((0.0, 0.0), abs=1e-9)
        assert third.push_off_mm == pytest.approx(40.0) and third.push_mm == pytest.approx(50.0)
        assert third.push_off_deg == pytest.approx(0.0, abs=1e-4)


def test_a_difference_becomes_a_sentence_and_a_crash_a_reason(scene, tmp_path):
    names = {item.key: item.name for item in scene.objects}
    moved, failed = compare_engines(
        scene,
        [
            motion("ovphysx", scene, 0.021),
            Motion("newton_mjwarp", np.zeros((0, 4, 4)), np.zeros((0, 4, 4)), "it crashed."),
        ],
        Limits(),
    )
    assert judge_engine(failed, names, Limits())[0] == ["newton_mjwarp could not simulate the scene: it crashed."]
    assert "The green cube in ovphysx drifts 21 mm in 2 s (at most 10 mm)." in judge_engine(moved, names, Limits())[0]
    assert moved.objects[0].rest_off_mm == 0.0  # alone it is the median


def test_pushes_go_along_the_longer_side_and_away_from_the_others(scene):
    directions = push_directions(scene)
    centers = np.array([item.T_world_object[:3, 3] for item in scene.objects])
    for i, item in enumerate(scene.objects):
        assert np.linalg.norm(directions[i]) == pytest.approx(1.0) and directions[i, 2] == 0.0
        assert abs(directions[i] @ item.T_world_object[:3, 0]) == pytest.approx(1.0)
        assert directions[i] @ (centers[i] - np.delete(centers, i, 0).mean(0)) >= 0


def test_a_push_in_mujoco_moves_its_object_alone_and_leaves_the_scene_as_it_was(scene):
    body = MujocoTwin(scene)
    rest = body.settle()
    pushed = body.push()
    moved = np.linalg.norm(pushed[:, :3, 3] - rest[:, :3, 3], axis=1)
    friction = np.array([max(o.friction, scene.support.friction) for o in scene.objects])
    slide = 0.3**2 / (2 * friction * 9.81)
    assert moved[:2] == pytest.approx(slide[:2], rel=0.15)
    assert 1e-3 < moved[2] < slide[2]  # the tall can rocks and so slides less far
    assert np.allclose(body.poses(), rest)


def test_an_engine_that_dies_is_a_failure_and_not_a_crash(tmp_path):
    (tmp_path / "twin").mkdir()
    died = run_engine(tmp_path / "twin", "ovphysx")
    assert "its process ended with status 1" in died.failure and "not a twin" in died.failure
    slow = run_engine(tmp_path / "twin", "ovphysx", timeout_s=0.01)
    assert slow.failure == "it did not end within 0 s."


@pytest.mark.sim
def test_a_sound_twin_behaves_alike_in_all_three_engines(tmp_path):
    twin = make_twin(tmp_path / "twin")
    found = audit_twin(twin, ("mujoco", "ovphysx", "newton_mjwarp"), validate=False)
    assert [engine.failure for engine in found.engines] == ["", "", ""]
    assert found.go, found.reasons
    for engine in found.engines:
        for item in engine.objects:
            assert item.drift_mm < 0.5 and item.rest_off_mm < 0.5 and item.rest_off_deg < 0.5, (engine.engine, item)
            assert 2.0 < item.push_mm < 12.0 and item.push_off_mm < 2.0, (engine.engine, item)


@pytest.mark.sim
def test_physx_does_not_throw_what_is_a_rounding_error_deep_in_the_table(tmp_path):
    """Left to its default it moves such a cube by 4 mm and tilts it by 7 degrees, and throws a mug off its place."""
    twin = make_twin(tmp_path / "twin")
    scene = load_scene(twin)
    from phototwin.scene import save_scene
    from phototwin.stage.author import author_stage

    lowered = []
    for item in scene.objects:
        T = item.T_world_object.copy()
        T[2, 3] -= 1e-7
        lowered.append(dataclasses.replace(item, T_world_object=T))
    lowered = dataclasses.replace(scene, objects=tuple(lowered))
    save_scene(lowered, twin)
    author_stage(lowered, twin)
    run = run_engine(twin, "ovphysx")
    assert not run.failure
    for item, rest in zip(lowered.objects, run.rest, strict=True):
        assert np.linalg.norm(rest[:3, 3] - item.T_world_object[:3, 3]) < 5e-4, item.name
