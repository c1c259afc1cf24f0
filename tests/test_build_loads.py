"""Carriers whose far side was hidden reach under what stands on them, unless the photo shows that they do not."""

from dataclasses import replace

import numpy as np
import pytest
import trimesh
from synthetic import look_at

from phototwin.build.fit import FittedShape
from phototwin.build.loads import bear_loads
from phototwin.frames import invert, make_T, rotation_z, transform
from phototwin.kernels.rasterize import rasterize
from phototwin.scene import ConvexPiece, Maps

K_PX = np.array([[500.0, 0, 160], [0, 500.0, 120], [0, 0, 1]])
T_WORLD_CAMERA = look_at(np.array([0.0, 0.0, 0.35]), np.array([0.5, 0.0, 0.05]))
NAMES = ("carrier", "load")


def box(size, place, yaw=0.0, shape="box"):
    mesh = trimesh.creation.box(size)
    points, faces = mesh.vertices.astype(np.float32), mesh.faces.astype(np.int32)
    T = make_T(rotation_z(yaw), np.array(place))
    return FittedShape(shape, False, T, points, faces, (ConvexPiece(points, faces),), np.array(size), 1.0, None, "")


def maps_of(fits):
    """What a camera sees of shapes."""
    depth, owner = np.full((240, 320), np.inf), np.full((240, 320), -1)
    for i, fit in enumerate(fits):
        points_c = transform(invert(T_WORLD_CAMERA) @ fit.T_world_object, fit.points.astype(float))
        raster = rasterize(points_c, fit.faces, K_PX, 320, 240)
        nearer = (raster.face >= 0) & (raster.depth_m < depth)
        depth[nearer], owner[nearer] = raster.depth_m[nearer], i
    masks = np.stack([owner == i for i in range(len(fits))])
    return Maps(np.zeros((240, 320, 3), np.uint8), K_PX, T_WORLD_CAMERA, None, owner < 0, masks, (None,) * len(fits))


@pytest.mark.parametrize("yaw", [0.0, 0.2])
def test_the_hidden_far_side_grows_under_the_load(yaw):
    truth = box((0.10, 0.14, 0.05), (0.5, 0, 0.025), yaw)
    load = box((0.09, 0.13, 0.08), (0.5, 0, 0.09), yaw)
    maps = maps_of([truth, load])
    front = truth.T_world_object[:2, 3] - truth.T_world_object[:2, 0] * 0.035  # only the near 3 cm were fitted
    short = box((0.03, 0.14, 0.05), (*front, 0.025), yaw)
    grown, notes = bear_loads(maps, [short, load], NAMES)
    assert len(notes) == 1 and "carrier" in notes[0]
    np.testing.assert_allclose(grown[0].size_m, [0.10, 0.14, 0.05], rtol=0.15)
    near = [(fit.T_world_object @ [-fit.size_m[0] / 2, 0, 0, 1])[:2] for fit in (grown[0], short)]
    np.testing.assert_allclose(near[0], near[1], atol=1e-9)  # the side that is seen stays where it is
    np.testing.assert_allclose(np.ptp(grown[0].pieces[0].points, axis=0), grown[0].size_m, rtol=1e-5)
    assert grown[1] is load


def test_what_stands_already_stays_and_so_does_what_is_beside():
    carrier, load = box((0.10, 0.14, 0.05), (0.5, 0, 0.025)), box((0.05, 0.05, 0.05), (0.5, 0.02, 0.075))
    beside = box((0.05, 0.05, 0.05), (0.5, 0.2, 0.075))
    for other in (load, beside):
        grown, notes = bear_loads(maps_of([carrier, other]), [carrier, other], NAMES)
        assert not notes and grown[0] is carrier


def test_a_side_that_would_be_seen_does_not_grow():
    carrier, load = box((0.10, 0.05, 0.05), (0.5, 0, 0.025)), box((0.05, 0.05, 0.08), (0.5, 0.035, 0.09))
    grown, notes = bear_loads(maps_of([carrier, load]), [carrier, load], NAMES)
    assert not notes and grown[0] is carrier


def test_round_carriers_do_not_grow():
    carrier, load = (
        box((0.03, 0.14, 0.05), (0.465, 0, 0.025), shape="cylinder"),
        box((0.09, 0.13, 0.08), (0.5, 0, 0.09)),
    )
    assert not bear_loads(maps_of([carrier, load]), [carrier, replace(load)], NAMES)[1]
