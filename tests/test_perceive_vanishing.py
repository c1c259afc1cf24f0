"""Gravity and focal length from lines: recovered from projected segments of known cameras, refused where they cannot tell."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from phototwin.frames import invert, make_T, project, transform
from phototwin.perceive.vanishing import (
    LINES_SIGMA_DEG,
    MIN_EXPLAINED,
    camera_rotation,
    centred_K,
    detect_segments,
    focal_from_lines,
    focal_sigma,
    manhattan_frame,
    pitch_roll,
)

W, H = 640, 480


def project_lines(pitch_deg, roll_deg, yaw_deg, K_px, rng, directions=(0, 1, 2), count=30, junk=0, jitter_px=0.3):
    """Segments (N, 4) of random world-parallel edges of a block world, as a camera 0.6 m above the table sees them."""
    T = make_T(camera_rotation(np.radians(pitch_deg), np.radians(roll_deg)), np.array([0, 0, 0.6]))
    c, s = np.cos(np.radians(yaw_deg)), np.sin(np.radians(yaw_deg))
    axes = np.array([[c, s, 0], [-s, c, 0], [0, 0, 1]])
    ahead = 0.6 / np.tan(np.radians(pitch_deg))
    out = []
    while len(out) < count * len(directions):
        start = np.array([ahead, 0, 0.1]) + rng.uniform(-0.35, 0.35, 3) * [1, 1, 0.3]
        ends = np.stack([start, start + 0.2 * axes[directions[len(out) % len(directions)]]])
        out.append((project(K_px, transform(invert(T), ends)) + rng.normal(0, jitter_px, (2, 2))).ravel())
    lines = np.reshape(out, (-1, 4))
    middle = rng.uniform([0, 0], [W, H], (junk, 2))
    turn = rng.uniform(0, np.pi, junk)
    half = 30 * np.stack([np.cos(turn), np.sin(turn)], 1)
    return np.vstack([lines, np.hstack([middle - half, middle + half])])


@pytest.mark.parametrize(("pitch", "roll"), [(20.0, 0.0), (35.0, 6.0), (50.0, -10.0), (70.0, 3.0)])
def test_camera_rotation_and_pitch_roll_are_inverse(pitch, roll):
    R = camera_rotation(np.radians(pitch), np.radians(roll))
    assert np.allclose(R @ R.T, np.eye(3)) and np.linalg.det(R) == pytest.approx(1)
    assert np.degrees(pitch_roll(R)) == pytest.approx([pitch, roll])
    assert R[2, 2] == pytest.approx(-np.sin(np.radians(pitch)))  # the optical axis points down by the pitch


@pytest.mark.parametrize(("pitch", "roll", "yaw"), [(22.0, 0.0, 30.0), (37.0, 5.0, 12.0), (55.0, -8.0, 65.0)])
def test_the_vertical_is_recovered_among_junk_lines(pitch, roll, yaw):
    K = centred_K(600, W, H)
    frame = manhattan_frame(project_lines(pitch, roll, yaw, K, np.random.default_rng(0), junk=20), K)
    assert frame is not None and frame.trusted
    assert np.degrees(pitch_roll(frame.R_world_camera)) == pytest.approx([pitch, roll], abs=1.0)
    assert frame.explained > 0.6


@pytest.mark.parametrize(
    ("roll", "directions", "junk", "trusted"),
    [(5, (0, 1), 60, True), (18, (0, 1), 60, False), (18, (0, 1), 0, True), (18, (0, 1, 2), 60, True)],
)
def test_a_camera_that_is_turned_far_needs_three_directions_or_most_lines(
    roll: float, directions: tuple[int, ...], junk: int, trusted: bool
):
    K = centred_K(560, 640, 480)
    lines = project_lines(35, roll, 30, K, np.random.default_rng(3), directions=directions, junk=junk)
    frame = manhattan_frame(lines, K)
    assert frame is not None and frame.explained > MIN_EXPLAINED and frame.trusted is trusted


def test_random_lines_and_too_few_lines_are_not_trusted():
    K = centred_K(600, W, H)
    noise = project_lines(30, 0, 0, K, np.random.default_rng(1), count=0, junk=120)
    frame = manhattan_frame(noise, K)
    assert frame is not None and not frame.trusted
    assert manhattan_frame(noise[:5], K) is None
    assert manhattan_frame(np.zeros((0, 4)), K) is None


def test_one_direction_alone_does_not_tell_the_vertical():
    K = centred_K(600, W, H)
    frame = manhattan_frame(project_lines(35, 4, 30, K, np.random.default_rng(2), directions=(0,)), K)
    assert frame is not None and not frame.trusted


def test_errors_stay_within_the_stated_deviations():
    K, off = centred_K(600, W, H), []
    for seed in range(6):
        lines = project_lines(34, 3, 20, K, np.random.default_rng(seed), count=5 + 3 * seed, jitter_px=1.0)
        frame = manhattan_frame(lines, K)
        assert frame is not None and (frame.sigma_rad >= np.radians(LINES_SIGMA_DEG)).all()
        off.append((np.array(pitch_roll(frame.R_world_camera)) - np.radians([34, 3])) / frame.sigma_rad)
    assert np.abs(off).max() < 2 and np.mean(np.abs(off) < 1) > 0.67
    sharp, blunt = (
        manhattan_frame(project_lines(34, 3, 20, K, np.random.default_rng(9), count=4, jitter_px=jitter), K)
        for jitter in (0.2, 4.0)
    )
    assert sharp is not None and blunt is not None and (blunt.sigma_rad > 1.05 * sharp.sigma_rad).all()


def test_how_sure_a_focal_length_is_depends_on_its_source():
    sigmas = [focal_sigma(source) for source in ("camera file", "exif", "Depth Pro")]
    assert sigmas == sorted(sigmas) and len(set(sigmas)) == 3


def test_the_focal_length_is_recovered_from_three_directions_and_refused_from_two_parallel_views():
    focal = 560.0
    lines = project_lines(38, 2, 35, centred_K(focal, W, H), np.random.default_rng(3), count=40)
    found = focal_from_lines(lines, W, H)
    assert found is not None and found[0] == pytest.approx(focal, rel=0.12)
    assert np.degrees(pitch_roll(found[1].R_world_camera))[0] == pytest.approx(38, abs=3)
    assert focal_from_lines(lines[:3], W, H) is None


def test_segments_of_a_drawn_square_are_found_in_pixels():
    image = np.full((H, W, 3), 60, np.uint8)
    cv2.rectangle(image, (200, 150), (399, 299), (200, 200, 200), -1)
    segments = detect_segments(image)
    assert len(segments) == 4
    ends = segments.reshape(-1, 2)
    assert ends.min(0) == pytest.approx([200, 150], abs=3) and ends.max(0) == pytest.approx([400, 300], abs=3)
    assert len(detect_segments(np.full((H, W, 3), 60, np.uint8))) == 0
