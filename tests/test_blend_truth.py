"""Depth and labels of frames are of what the frames show."""

from dataclasses import replace

import numpy as np
import pytest
from test_blend_frames import blender, placed, scene  # noqa: F401 (fixtures)

from phototwin.blend.blend import blend_frames
from phototwin.blend.truth import ROBOT_LABEL, frame_truth
from phototwin.buffers import Buffers

FAR = np.array([[1.0, 0.0, 0.5, 0.5]], np.float32)


def test_what_is_in_front_counts():
    """Robot before the wall, object before the unknown, object behind the table, object lying on the table."""
    ids, z = np.array([[[3, 5, 6, 6]]], np.int32), np.array([[[0.8, 0.9, 0.6, 0.507]]], np.float32)
    drawn = Buffers(None, z, ids, None, robot_ids=(3, 4), object_ids=(5, 6))
    depth_mm, labels = frame_truth(drawn, FAR)
    assert labels.tolist() == [[[ROBOT_LABEL, 1, 0, 2]]] and depth_mm.tolist() == [[[800, 900, 500, 507]]]
    depth_mm, labels = frame_truth(replace(drawn, depth_m=0 * z, ids=0 * ids), FAR)
    assert not labels.any() and depth_mm.tolist() == [[[1000, 0, 500, 500]]]
    far = frame_truth(replace(drawn, depth_m=0 * z), np.full((1, 4), 70.0))[0]
    assert not far.any()


def test_truth_of_blended_frames(blender):  # noqa: F811
    several = [placed(blender, [0.45, 0.0, 0.2]), placed(blender), placed(blender, green_cube=[0.0, -0.1, 0.05])]
    poses = {name: np.concatenate([one[name] for one in several]) for name in several[0]}
    plain, frames = blend_frames(blender, poses), blend_frames(blender, poses, keep_raw=True)
    assert plain.raw_labels is None and (plain.rgb == frames.rgb).all()
    labels, depth_mm = frames.raw_labels, frames.raw_depth_mm
    assert labels is not None and depth_mm is not None and labels.shape == depth_mm.shape == frames.mask.shape
    # What was drawn has a label; what stands still has one too, though the photo's own picture of it is shown.
    robots = np.isin(frames.mask, [1 + i for i in blender.moving.robot_ids])
    assert robots[0].any() and (labels[robots] == ROBOT_LABEL).all() and (labels[1:] != ROBOT_LABEL).all()
    assert set(np.unique(labels[1])) == set(range(len(blender.moving.keys) + 1)) and not frames.mask[1].any()
    cube = 1 + blender.moving.keys.index("green_cube")
    own = labels[1] == cube
    camera, T_cube = blender.plate.camera, blender.moving.rest[cube - 1]
    z_mm = 1000 * (np.linalg.inv(camera.T_world_camera) @ T_cube)[2, 3]
    assert np.median(depth_mm[1][own]) == pytest.approx(z_mm, abs=30)
    # Raised by 5 cm it is nearer, and where it was the background's depth is seen again.
    assert np.median(depth_mm[2][labels[2] == cube]) < np.median(depth_mm[1][own])
    gone = own & (labels[2] == 0)
    behind = np.round(1000 * blender.plate.depth_m[gone])
    assert gone.any() and (depth_mm[2][gone] == behind).all()
