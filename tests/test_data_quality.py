"""The gate finds what physics and borders do wrong, and nothing in what is possible."""

from dataclasses import replace

import numpy as np
import pytest
from data_helpers import possible_episode
from scipy.spatial import ConvexHull

from phototwin.data.quality import QualityLimits, judge
from phototwin.scene import ConvexPiece

CORNERS = (np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)]) * 0.02).astype(np.float32)
CUBE = ConvexPiece(CORNERS, ConvexHull(CORNERS).simplices.astype(np.int32))


ELSEWHERE = np.array([[3, 0, -0.5, 0, 0, 0, 1]] * 2, np.float32)


def gate(*episodes, bodies=None):
    named = [(f"demo_{i}", str(i), e) for i, e in enumerate(episodes)]
    return judge(named, QualityLimits(), lambda episode: bodies or {})


def moved(attempt, rows, values):
    episode = possible_episode(attempt)
    episode.object_poses_w[rows] = values
    return episode


def test_what_is_possible_passes():
    passed = gate(*map(possible_episode, range(4)), bodies={"green_cube": [CUBE], "yellow_cube": [CUBE]})
    assert [q.reasons for q in passed] == [()] * 4
    assert passed[0].scores["object_speed"] == pytest.approx(0.1, abs=1e-3)
    assert passed[0].scores["below_support_m"] < 1e-6 and passed[0].scores["overlap_m"] == 0
    assert passed[0].scores["seam"] == pytest.approx(0.6) and passed[0].scores["steps"] == 30


@pytest.mark.parametrize(
    ("episode", "word"),
    [
        (replace(possible_episode(1), success=False, failure="slip"), "it failed: slip"),
        (moved(1, (slice(10, None), 1, 0), 0.8), "an object moves at 10.00 m/s"),
        (moved(1, (slice(10, None), 1, 0), 0.36), "off its velocity"),
        (moved(1, (slice(10, None), 1, 2), -0.01), "0.0100 m below the support"),
        (moved(1, (3, 0, 0), np.nan), "NaN or infinite numbers in object_poses_w"),
        (replace(possible_episode(1), action=np.full((30, 8), np.nan)), "NaN or infinite numbers in action"),
        (replace(possible_episode(1), seam=np.array([np.nan] * 2 + [1.0] * 28)), "NaN or infinite numbers in seam"),
        (replace(possible_episode(1), final_object_poses_w=ELSEWHERE), "an object moves at"),
        (replace(possible_episode(1), final_object_poses_w=ELSEWHERE), "below the support"),
        (replace(possible_episode(1), final_joint_pos=np.full(9, 2.0, np.float32)), "a joint moves at"),
        (replace(possible_episode(1), seam=np.full(30, 0.2, np.float32)), "composited in 1.00 of the frames"),
        (replace(possible_episode(1), joint_pos=possible_episode(1).joint_pos * 20), "a joint moves at"),
    ],
)
def test_what_is_not_is_rejected_with_a_reason(episode, word):
    fine, wrong, also = gate(possible_episode(0), episode, possible_episode(2))
    assert not fine.reasons and not also.reasons
    assert any(word in reason for reason in wrong.reasons), wrong


def test_shapes_show_what_centres_hide():
    """A cube of 4 cm whose centre is 1 cm above the support is 1 cm in it; one 3 cm beside another is 1 cm in that."""
    sunk = moved(1, (slice(None), 1, 2), 0.01)
    assert not gate(sunk)[0].reasons
    (quality,) = gate(sunk, bodies={"yellow_cube": [CUBE]})
    assert quality.scores["below_support_m"] == pytest.approx(0.01, abs=1e-6) and quality.reasons
    inside = possible_episode(1)
    inside.object_poses_w[5, 1, :3] = inside.object_poses_w[5, 0, :3] + [0, 0, 0.03]
    (quality,) = gate(inside, bodies={"green_cube": [CUBE], "yellow_cube": [CUBE]})
    assert quality.scores["overlap_m"] == pytest.approx(0.01, abs=1e-6)
    assert any("inside each other" in reason for reason in quality.reasons)


def test_of_many_those_that_are_there_again_are_told():
    """Three hundred, each tenth again: the tree finds what comparing all pairs would."""
    rng = np.random.default_rng(0)
    base = possible_episode(0)
    episodes = [replace(base, joint_pos=base.joint_pos + rng.normal(0, 0.02, 9).astype(np.float32)) for _ in range(270)]
    episodes += [replace(e, joint_pos=e.joint_pos + np.float32(1e-3)) for e in episodes[::9]]
    found = {i: q.reasons for i, q in enumerate(gate(*episodes)) if q.reasons}
    assert found == {270 + i: (f"it is demo_{9 * i} again",) for i in range(30)}


def test_the_same_again_is_told():
    again = possible_episode(1)
    again.joint_pos[...] += 1e-3
    later = possible_episode(3, joint_pos=again.joint_pos)
    found = gate(possible_episode(1), possible_episode(2), again, later)
    assert [q.reasons for q in found] == [(), (), ("it is demo_0 again",), ()]
