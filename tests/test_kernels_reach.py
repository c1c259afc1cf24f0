from functools import cache

import numpy as np
import pytest
import warp as wp

from phototwin.errors import InputError
from phototwin.frames import make_T, matrix_from_quat_xyzw, rotation_z
from phototwin.kernels.links import chain_of, link_poses
from phototwin.kernels.reach import AZIMUTHS, ENOUGH, SIDES, count_postures, make_reach_map
from phototwin.plan.ik import load_arm, reached, solve_pose
from phototwin.robots import PANDA

NO_GPU = pytest.mark.skipif(wp.get_cuda_device_count() == 0, reason="no CUDA device")
DEVICES = ["cpu", pytest.param("cuda:0", marks=[pytest.mark.gpu, NO_GPU])]


@cache
def arm_and_map():
    arm = load_arm(PANDA)
    chain = chain_of(arm.model, ("tool",))
    return arm, chain, make_reach_map(chain, "tool", 0)


def cells_numpy(T, reach):
    """The twin: azimuth, radius, height and direction cell of tool poses (N, 4, 4) in the frame of the base, (N, 4)."""
    angle = np.arctan2(T[:, 1, 3], T[:, 0, 3])
    approach = np.array([rotation_z(-a) @ t[:3, 2] for a, t in zip(angle, T, strict=True)])
    axis = np.abs(approach).argmax(1)
    row = np.arange(len(T))
    main = approach[row, axis]
    uv = np.stack([approach[row, (axis + k) % 3] / np.abs(main) for k in (1, 2)], 1)
    i, j = np.clip(((np.arctan(uv) / (np.pi / 4) + 1) / 2 * SIDES).astype(int), 0, SIDES - 1).T
    face = 2 * axis + (main < 0)
    a = np.clip(np.floor((angle / (2 * np.pi) + 0.5) * AZIMUTHS).astype(int), 0, AZIMUTHS - 1)
    radius, height = np.hypot(T[:, 0, 3], T[:, 1, 3]), T[:, 2, 3] - reach.lowest_m
    return np.stack([a, radius // reach.voxel_m, height // reach.voxel_m, (face * SIDES + i) * SIDES + j], 1).astype(
        int
    )


def targets(seed, count, tilt=-0.5):
    """Tool poses on and above a table, tilted by up to 60 degrees."""
    rng = np.random.default_rng(seed)
    R = matrix_from_quat_xyzw(rng.standard_normal((count * 10, 4)))
    R = R[R[:, 2, 2] < tilt][:count]
    angle, way = rng.uniform(-3, 3, count), rng.uniform(0.2, 0.95, count)
    t = np.stack([way * np.cos(angle), way * np.sin(angle), rng.uniform(-0.05, 0.5, count)], 1)
    return np.array([make_T(r, p) for r, p in zip(R, t, strict=True)])


@pytest.mark.parametrize("device", DEVICES)
def test_a_posture_is_found_in_the_cell_of_its_tool(device):
    _, chain, reach = arm_and_map()
    T = targets(1, 500)
    bases = np.array([make_T(rotation_z(a), np.array([x, 0.1, 0.0])) for a, x in ((0.0, 0.0), (2.0, 0.3))])
    found = count_postures(reach, bases, T, device)
    for row, base in zip(found, bases, strict=True):
        cell = cells_numpy(np.linalg.inv(base) @ T, reach)
        inside = (cell >= 0).all(1) & (cell < reach.counts.shape).all(1)
        meant = np.where(inside, reach.counts[tuple(np.where(inside[:, None], cell, 0).T)], 0)
        assert (row == meant).mean() > 0.995  # rounding at the border of a cell
    assert chain.names[-1] == "tool"


def test_every_azimuth_that_the_first_joint_allows_is_counted():
    _, chain, _ = arm_and_map()
    samples = 2000
    reach = make_reach_map(chain, "tool", 3, samples)
    q = np.random.default_rng(3).uniform(chain.lower, chain.upper, (samples, 7)).astype(np.float32)
    share = (chain.upper[0] - chain.lower[0]) / (2 * np.pi)
    assert abs(reach.counts.sum() / (samples * AZIMUTHS) - share) < 0.02
    # A quarter of the postures themselves lie in a cell that holds them at their own azimuth's middle.
    cell = cells_numpy(link_poses(chain, q)[:, -1].astype(np.float64), reach)
    assert (reach.counts[tuple(cell.T)] > 0).mean() > 0.9


def test_inverse_kinematics_agrees():
    arm, _, reach = arm_and_map()
    T = targets(0, 120)
    truth = np.array([reached(*solve_pose(arm, pose, arm.home)[1:]) for pose in T])
    said = count_postures(reach, np.eye(4)[None], T)[0] >= ENOUGH
    right = (said & truth).sum()
    assert 0.3 < truth.mean() < 0.95
    assert right / said.sum() > 0.85  # precision
    assert right / truth.sum() > 0.93  # recall


def test_a_base_near_the_targets_scores_better_than_one_far_away():
    _, _, reach = arm_and_map()
    down = np.array(
        [make_T(np.diag([1.0, -1.0, -1.0]), np.array([x, y, 0.1])) for x in (-0.1, 0.1) for y in (-0.1, 0.1)]
    )
    way = np.array([0.5, 0.9, 1.5])
    bases = np.array([make_T(np.eye(3), np.array([-x, 0.0, 0.0])) for x in way])
    score = (count_postures(reach, bases, down) >= ENOUGH).mean(1)
    assert score[0] == 1.0 and score[0] >= score[1] > score[2] == 0.0


def test_the_same_seed_gives_the_same_map_and_joints_can_be_held():
    _, chain, _ = arm_and_map()
    one, two = (make_reach_map(chain, "tool", 1, 5000, threads=n) for n in (1, 3))
    assert one.counts.tobytes() == two.counts.tobytes()
    fixed = np.array([np.nan] + [0.3] * 6)
    held = make_reach_map(chain, "tool", 1, 5000, fixed=fixed)
    assert (held.counts.sum(0) > 0).sum() == 1


def test_bad_input_is_named():
    _, chain, reach = arm_and_map()
    with pytest.raises(InputError, match="'nose'"):
        make_reach_map(chain, "nose", 0)
    with pytest.raises(InputError, match="base poses"):
        count_postures(reach, np.eye(4), np.eye(4)[None])
