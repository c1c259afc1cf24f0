"""The tilt from outlines: drawn from known cameras and recovered; things that tell nothing are not made to."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from phototwin.frames import invert, make_T, project, rotation_z, transform
from phototwin.perceive.tilt import outline_extents, outline_misfit, tilt_from_outlines
from phototwin.perceive.vanishing import LINES_SIGMA_DEG, ManhattanFrame, camera_rotation, centred_K

W, H = 640, 480
K_PX = centred_K(560, W, H)
NO_LINES = np.zeros((0, 4))
ARC = np.linspace(0, 2 * np.pi, 90, endpoint=False)


def box(x, y, size, yaw):
    corners = np.array([[a, b, c] for a in (-0.5, 0.5) for b in (-0.5, 0.5) for c in (0, 1)]) * size
    return corners @ rotation_z(yaw).T + [x, y, 0]


def vessel(x, y, foot, rim, height):
    circle = np.stack([np.cos(ARC), np.sin(ARC), 0 * ARC], -1)
    up = np.array([0, 0, height])
    rings = np.concatenate([foot * circle, rim * circle + up])
    return rings + np.array([x, y, 0])


def ball(x, y, radius):
    polar = np.linspace(0, np.pi, 40)[:, None]
    points = np.stack([np.sin(polar) * np.cos(ARC), np.sin(polar) * np.sin(ARC), np.cos(polar) + 0 * ARC], -1)
    return radius * points.reshape(-1, 3) + [x, y, radius]


def draw(points_w, pitch_deg, roll_deg=0.0):
    """Mask of a convex thing on the table that the camera looks at from 0.75 m."""
    height_m = 0.75 * np.sin(np.radians(pitch_deg))
    T = make_T(camera_rotation(*np.radians([pitch_deg, roll_deg])), np.array([0.0, 0.0, height_m]))
    looked_at = np.array([height_m / np.tan(np.radians(pitch_deg)), 0, 0])
    pixels = project(K_PX, transform(invert(T), points_w + looked_at))
    hull = cv2.convexHull(np.round((pixels - 0.5) * 16).astype(np.int32))
    return cv2.fillConvexPoly(np.zeros((H, W), np.uint8), hull, 1, cv2.LINE_8, 4) > 0


THINGS = (
    box(0.02, 0.12, [0.1, 0.06, 0.07], 0.5),
    vessel(-0.03, -0.1, 0.035, 0.035, 0.1),
    vessel(0.06, 0, 0.03, 0.06, 0.05),
)


@pytest.mark.parametrize(("pitch", "roll"), [(24.0, 0.0), (38.0, 3.0), (47.0, -2.5), (58.0, 0.0)])
def test_the_tilt_of_a_table_with_a_box_a_can_and_a_bowl_is_recovered(pitch: float, roll: float):
    masks = np.array([draw(thing, pitch, roll) for thing in THINGS])
    tilt = tilt_from_outlines(masks, K_PX, NO_LINES, 35.0)
    assert tilt is not None and tilt.used == 3
    off = np.degrees(tilt.angles_rad) - [pitch, roll]
    assert np.abs(off) == pytest.approx(0, abs=1.5)
    assert (np.abs(off) < 2 * np.degrees(tilt.sigma_rad)).all() and np.degrees(tilt.sigma_rad[0]) < 4


@pytest.mark.parametrize("thing", [0, 1, 2])
def test_one_thing_is_enough_and_says_less(thing: int):
    tilt = tilt_from_outlines(draw(THINGS[thing], 48)[None], K_PX, NO_LINES, 35.0)
    every = tilt_from_outlines(np.array([draw(each, 48) for each in THINGS]), K_PX, NO_LINES, 35.0)
    assert tilt is not None and every is not None and tilt.sigma_rad[0] >= every.sigma_rad[0]
    assert abs(np.degrees(tilt.angles_rad[0]) - 48) < 2.5 * np.degrees(tilt.sigma_rad[0])


def frame_at(pitch_deg, roll_deg):
    R = camera_rotation(*np.radians([pitch_deg, roll_deg]))
    return ManhattanFrame(R, 0.8, np.full(3, 0.27), 0.7, 0.5, np.radians(LINES_SIGMA_DEG))


def test_outlines_sharpen_what_lines_say_and_overrule_a_false_frame():
    masks = np.array([draw(thing, 42, 1) for thing in THINGS])
    near = tilt_from_outlines(masks, K_PX, NO_LINES, 35.0, frame_at(43.5, 0))
    assert near is not None and np.degrees(near.angles_rad) == pytest.approx([42, 1], abs=1.2)
    for false in (33, 56):
        tilt = tilt_from_outlines(masks, K_PX, NO_LINES, 35.0, frame_at(false, 4))
        assert tilt is not None and np.degrees(tilt.angles_rad[0]) == pytest.approx(42, abs=1.5)
    alone = tilt_from_outlines(draw(ball(0, 0, 0.04), 45)[None], K_PX, NO_LINES, 35.0, frame_at(47, 2))
    assert alone is None or np.degrees(alone.angles_rad) == pytest.approx([47, 2], abs=0.6)


def test_balls_and_odd_shapes_and_cut_things_tell_nothing():
    spoon = draw(box(0, 0, [0.2, 0.015, 0.01], 0.6), 45) | draw(vessel(0.08, 0.06, 0.03, 0.03, 0.01), 45)
    cut = np.roll(draw(THINGS[0], 45), 330, axis=1)
    cut[:, :200] = False
    for masks in (draw(ball(0, 0, 0.04), 45)[None], spoon[None], cut[None], np.zeros((0, H, W), bool)):
        assert tilt_from_outlines(masks, K_PX, NO_LINES, 35.0) is None
    with_ball = np.array([draw(ball(0, 0.12, 0.04), 45), draw(THINGS[1], 45)])
    tilt = tilt_from_outlines(with_ball, K_PX, NO_LINES, 35.0)
    assert tilt is not None and np.degrees(tilt.angles_rad[0]) == pytest.approx(45, abs=2)


def test_extents_and_misfits_are_those_of_the_drawing():
    disc = cv2.circle(np.zeros((H, W), np.uint8), (300, 200), 60, 1, -1) > 0
    extents = outline_extents(disc)
    assert extents is not None
    ways = 2 * np.pi * np.arange(len(extents)) / len(extents)
    assert extents == pytest.approx(300.5 * np.cos(ways) + 200.5 * np.sin(ways) + 60.3, abs=0.8)
    truth, wrong = np.array([[40.0, 2.0]]), np.array([[60.0, 2.0]])
    for thing in THINGS:
        extents = outline_extents(draw(thing, 40, 2))
        assert extents is not None
        assert outline_misfit(extents, K_PX, truth)[0] < 0.15 < outline_misfit(extents, K_PX, wrong)[0]
