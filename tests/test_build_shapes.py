"""Meshes and convex pieces of the shapes: closed, of the volume that the formula says, pieces convex and tight."""

from __future__ import annotations

import numpy as np
import pytest

from phototwin.build import shapes


def _bowl() -> tuple[np.ndarray, np.ndarray]:
    heights = np.linspace(0, 0.08, 10)
    return 0.035 + 0.045 * np.sin(heights / 0.08 * np.pi / 2), heights


def _solids() -> dict[str, shapes.Solid]:
    radii, heights = _bowl()
    bottle = np.array([0.03, 0.034, 0.034, 0.03, 0.012, 0.012])
    x = np.linspace(-0.1, 0.1, 25)
    width = 0.012 + 0.02 * np.exp(-(((x - 0.07) / 0.02) ** 2))
    angle = np.linspace(-1.3, 1.3, 9)
    arc = np.stack([0.04 + 0.03 * np.cos(angle), np.zeros(9), 0.05 + 0.03 * np.sin(angle)], -1)
    body = shapes.vessel(np.full(10, 0.04), np.linspace(0, 0.1, 10), 0.004, 0.006)
    handle = shapes.tube(arc, np.array([0.0, 1.0, 0.0]), 0.008, 0.012)
    turn = 2 * np.pi * np.arange(48) / 48
    circle = np.stack([np.cos(turn), np.sin(turn)], -1)
    square = 0.1 * np.sign(circle) * np.abs(circle) ** 0.3
    stations, inside = np.linspace(0.6, 1.0, 6), 0.005 + 0.02 * np.linspace(0, 1, 6) ** 1.5
    return {
        "plate": shapes.dish(0.11 * circle, stations, inside, 0.004, False),
        "tray": shapes.dish(square, stations, inside + 0.012, 0.004, True),
        "bevelled box": shapes.box(np.array([0.1, 0.05, 0.2]), 0.003),
        "box": shapes.box(np.array([0.1, 0.05, 0.2])),
        "cylinder": shapes.revolution(np.array([0.03, 0.03]), np.array([0.0, 0.1])),
        "sphere": shapes.sphere(0.035),
        "bottle": shapes.revolution(bottle, np.array([0, 0.01, 0.08, 0.1, 0.13, 0.16])),
        "bowl": shapes.vessel(radii, heights, 0.005, 0.008),
        "mug": shapes.merge([body, handle]),
        "spoon": shapes.loft(x, -width, width, 0.01 + 0.1 * (x + 0.1) ** 2, 0.02 * np.maximum(-x, 0)),
        "lump": shapes.lump(np.random.default_rng(0).normal(size=(40, 3)) * 0.01),
    }


SOLIDS = _solids()


@pytest.mark.parametrize("name", SOLIDS)
def test_surface_is_closed_outward_and_small(name):
    solid = SOLIDS[name]
    assert shapes.is_closed(solid.faces)
    assert shapes.mesh_volume(solid.points, solid.faces) > 0
    assert len(solid.faces) <= 3000
    assert name == "lump" or solid.points[:, 2].min() == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize("name", SOLIDS)
def test_pieces_are_convex_and_add_up(name):
    from scipy.spatial import ConvexHull

    solid = SOLIDS[name]
    total = 0.0
    for piece in solid.pieces:
        assert piece.points.dtype == np.float32 and piece.faces.dtype == np.int32
        assert len(piece.points) <= shapes.PIECE_VERTICES
        volume = shapes.mesh_volume(piece.points.astype(np.float64), piece.faces)
        assert shapes.is_closed(piece.faces)
        assert volume == pytest.approx(ConvexHull(piece.points.astype(np.float64)).volume, rel=1e-4)
        total += volume
    assert total == pytest.approx(shapes.mesh_volume(solid.points, solid.faces), rel=0.15)


def test_volumes_follow_the_formulas():
    polygon = 24 / np.pi * np.sin(np.pi / 24)  # area of 48 corners over the circle's
    volume = {name: shapes.mesh_volume(s.points, s.faces) for name, s in SOLIDS.items()}
    assert volume["box"] == pytest.approx(0.1 * 0.05 * 0.2, rel=1e-9)
    assert volume["cylinder"] == pytest.approx(np.pi * 0.03**2 * 0.1 * polygon, rel=1e-9)
    assert volume["sphere"] == pytest.approx(4 / 3 * np.pi * 0.035**3, rel=0.03)
    straight = shapes.vessel(np.full(5, 0.04), np.linspace(0, 0.1, 5), 0.004, 0.006)
    expected = np.pi * polygon * (0.04**2 * 0.1 - 0.036**2 * 0.094)
    assert shapes.mesh_volume(straight.points, straight.faces) == pytest.approx(expected, rel=1e-6)


def test_a_dish_reaches_its_rim_and_stands_on_its_foot():
    for name, tall in (("plate", 0.025), ("tray", 0.037)):
        points = SOLIDS[name].points
        np.testing.assert_allclose(np.ptp(points, axis=0)[:2], 0.22 if name == "plate" else 0.2, rtol=0.005)
        assert points[:, 2].max() == pytest.approx(tall)
        above_middle = np.array([[0.0, 0.0, z] for z in np.linspace(0.006 if name == "plate" else 0.018, tall, 5)])
        assert not any(_inside(piece, above_middle).any() for piece in SOLIDS[name].pieces)
    size = np.array([0.1, 0.05, 0.2])
    np.testing.assert_allclose(np.ptp(SOLIDS["bevelled box"].points, axis=0), size, atol=1e-7)


def test_a_ball_rests_at_its_height():
    """Its hull touches the support where the mesh does, has the ball's volume and stays within 1.2 mm of it."""
    radius = 0.035
    (piece,) = shapes.sphere(radius).pieces
    points = piece.points.astype(np.float64)
    assert len(points) <= shapes.PIECE_VERTICES
    foot = points[points[:, 2] < 1e-6]
    assert points[:, 2].min() == pytest.approx(0, abs=1e-6) and len(foot) >= 3  # on a single corner it would wobble
    np.testing.assert_allclose(foot[:, :2].mean(axis=0), 0, atol=1e-6)
    assert points[:, 2].max() == pytest.approx(2 * radius, abs=1e-6)
    assert shapes.mesh_volume(points, piece.faces) == pytest.approx(4 / 3 * np.pi * radius**3, rel=1e-3)
    a, b, c = (points[piece.faces[:, i]] - [0, 0, radius] for i in range(3))
    normal = np.cross(b - a, c - a)
    flat = np.einsum("ij,ij->i", a, normal) / np.linalg.norm(normal, axis=1)
    assert flat.min() > radius - 0.001 and np.linalg.norm(a, axis=1).max() < radius + 0.0012


@pytest.mark.parametrize("name", ["bowl", "mug"])
def test_vessel_pieces_leave_the_cavity_open(name):
    """A ball-ish probe on the axis above the floor is in no piece; a point inside the wall is in one."""
    solid = SOLIDS[name]
    top = float(solid.points[:, 2].max())
    wall_radius = {"bowl": float(np.interp(0.05, _bowl()[1], _bowl()[0])) - 0.003, "mug": 0.038}[name]
    around = np.linspace(0, 2 * np.pi, 16, endpoint=False) + 0.1
    ring = np.stack([np.cos(around), np.sin(around)], -1)
    hollow = np.concatenate(
        [
            np.stack([share * wall_radius * ring[:, 0], share * wall_radius * ring[:, 1], np.full(16, 0.05)], -1)
            for share in (0.0, 0.5, 0.85)
        ]
        + [np.array([[0, 0, z] for z in np.linspace(0.012, top, 6)])]
    )
    wall = np.concatenate([wall_radius * ring, np.full((16, 1), 0.05)], -1)
    assert not any(_inside(piece, hollow).any() for piece in solid.pieces)
    covered = np.any([_inside(piece, wall) for piece in solid.pieces], axis=0)
    assert covered.all()


def test_an_open_surface_is_noticed():
    box = SOLIDS["box"]
    assert not shapes.is_closed(box.faces[:-1])
    flipped = box.faces.copy()
    flipped[0] = flipped[0, ::-1]
    assert not shapes.is_closed(flipped)


def _inside(piece, points: np.ndarray) -> np.ndarray:
    a, b, c = (piece.points[piece.faces[:, i]].astype(np.float64) for i in range(3))
    normal = np.cross(b - a, c - a)
    return (np.einsum("fj,pfj->pf", normal, points[:, None] - a) <= 1e-12).all(axis=1)
