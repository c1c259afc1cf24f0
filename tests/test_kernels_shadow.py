"""Shadows of moving parts: closed forms of umbra, penumbra and form factor, and a furnace in which nothing throws any."""

from dataclasses import replace

import numpy as np
import pytest
import trimesh

from phototwin.frames import make_T, rotation_z, transform
from phototwin.kernels.casters import bound_pieces, fit_spheres, make_casters
from phototwin.kernels.foreground import light_foreground
from phototwin.kernels.shadow import cast_shadows
from phototwin.light import Light, sh_basis

DEVICES = ["cpu", pytest.param("cuda:0", marks=pytest.mark.gpu)]
EVEN: np.ndarray = np.concatenate([np.full((1, 3), 1.0 / 0.282095), np.zeros((8, 3))])


def light(
    direction=(0.0, 0.0, 1.0), half_angle_rad=0.0, distance_m=np.inf, center=(0.0, 0.0, 0.0), sh: np.ndarray = EVEN
):
    unit = np.array(direction) / np.linalg.norm(direction)
    return Light(sh, unit, np.ones(3), half_angle_rad, distance_m, np.array(center))


def box(*size):
    mesh = trimesh.creation.box(size)
    return mesh.vertices, mesh.faces


def floor(half=0.5, count=101):
    x, y = np.meshgrid(np.linspace(-half, half, count), np.linspace(-half, half, count))
    return np.stack([x, y, np.zeros_like(x)], -1), np.broadcast_to([0.0, 0.0, 1.0], (count, count, 3))


def shadows(parts, poses, shine, receivers=None, weight=None, device="cpu", albedo=0.0):
    points, normals = receivers or floor()
    T = np.asarray(poses)[None] if np.ndim(poses) == 3 else np.asarray(poses)
    weight = np.ones(T.shape[:2]) if weight is None else weight
    casters = make_casters(parts, device, [albedo] * len(parts))
    return [v.numpy() for v in cast_shadows(casters, T, weight, points, normals, shine, strength=1.0)]


def disc_share(x):
    """Share of a unit disc beyond a line at signed distance x from its middle."""
    x = np.clip(x, -1, 1)
    return (np.arccos(x) - x * np.sqrt(1 - x * x)) / np.pi


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("distance", [np.inf, 1.5])
def test_a_hard_light_throws_the_outline_of_a_box(device, distance):
    shine = light((0.3, 0.2, 1.0), 0.0, distance)
    T = make_T(rotation_z(0.4), np.array([0.05, -0.03, 0.2]))
    blocked, _ = shadows([box(0.1, 0.16, 0.08)], [T], shine, device=device)
    corners = transform(T, np.array([[x, y, z] for x in (-0.05, 0.05) for y in (-0.08, 0.08) for z in (-0.04, 0.04)]))
    if np.isfinite(distance):
        lamp = shine.direction_w * distance
        on_floor = corners + (lamp - corners) * (-corners[:, 2:] / (lamp[2] - corners[:, 2:]))
    else:
        on_floor = corners - corners[:, 2:] / shine.direction_w[2] * shine.direction_w
    from scipy.spatial import ConvexHull

    hull = ConvexHull(on_floor[:, :2])
    points = floor()[0][..., :2]
    inside = (points @ hull.equations[:, :2].T + hull.equations[:, 2]).max(-1)
    assert (inside < -0.005).sum() > 100
    assert (blocked[0][inside < -0.005] == 1).all()
    assert (blocked[0][inside > 0.005] == 0).all()


@pytest.mark.parametrize(("distance", "half"), [(np.inf, 0.1), (2.0, 0.1), (np.inf, 0.05)])
def test_the_penumbra_of_an_edge_is_as_wide_as_the_source_and_smooth(distance, half):
    shine = light(half_angle_rad=0.1, distance_m=distance)
    height = 0.3
    # A plate whose edge is the line x = 0; the receivers are 2 mm below where their rays start.
    receivers = floor(half)
    blocked, _ = shadows([box(2.0, 4.0, 1e-3)], [make_T(np.eye(3), np.array([-1.0, 0, height]))], shine, receivers)
    x = receivers[0][..., 0]
    lever = np.tan(0.1) * (height - 0.002)
    if np.isfinite(distance):
        # The line from a receiver past the edge meets the source's plane this much farther to the other side.
        lever = np.tan(0.1) * distance / ((distance - 0.002) / (height - 0.002) - 1)
    expected = disc_share(x / lever)
    error = blocked[0] - expected
    assert np.abs(error).max() < 0.06
    assert np.abs(error).mean() < 0.008
    # No pattern stays: along the edge all receivers say nearly the same.
    assert blocked[0][5:-5].std(0).max() < 0.02


@pytest.mark.parametrize("device", DEVICES)
def test_a_sphere_hides_what_its_form_factor_says(device):
    radius, centre = 0.08, np.array([0.0, 0.0, 0.12])
    ball = trimesh.creation.icosphere(subdivisions=4, radius=radius)
    points, _ = floor(0.3, 21)
    rng = np.random.default_rng(0)
    normals = rng.normal(size=points.shape) * 0.6 + [0, 0, 1]
    normals /= np.linalg.norm(normals, axis=-1, keepdims=True)
    poses = [make_T(np.eye(3), centre)]
    # Each receiver stands four times in each direction, so that none is interpolated.
    twice = [np.repeat(np.repeat(v, 4, 0), 4, 1) for v in (points, normals)]
    _, occluded = shadows([(ball.vertices, ball.faces)], poses, light(), twice, device=device)
    directions = rng.normal(size=(200_000, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    for r, c in rng.integers(0, 21, (40, 2)):
        away = centre - points[r, c]
        along = directions @ away
        hit = (along > 0) & (away @ away - along**2 < radius**2)
        cosine = np.maximum(directions @ normals[r, c], 0)
        assert abs(occluded[0, 4 * r, 4 * c] - 4 * (cosine * hit).mean()) < 0.006


def test_where_everything_is_white_and_light_is_even_nothing_is_lost():
    _, occluded = shadows([box(0.1, 0.1, 0.1)], [make_T(np.eye(3), np.array([0, 0, 0.1]))], light(), albedo=1.0)
    # Only the light of the source, which the sides of the box throw back, is left, and it makes the floor brighter.
    assert occluded.max() <= 0 and occluded.min() >= -0.3
    dark = replace(light(), irradiance=np.zeros(3))
    _, occluded = shadows([box(0.1, 0.1, 0.1)], [make_T(np.eye(3), np.array([0, 0, 0.1]))], dark, albedo=1.0)
    assert np.abs(occluded).max() < 1e-6


def test_what_hides_the_brighter_side_of_the_sky_hides_more():
    sh = EVEN + 0.5 * sh_basis(np.array([1.0, 0, 0]))[:, None] * np.eye(9)[:, 3:4]
    parts, normal = [box(0.1, 0.1, 0.1)], floor(0.5, 41)
    right = shadows(parts, [make_T(np.eye(3), np.array([0.2, 0, 0.1]))], light(sh=sh), normal)[1]
    left = shadows(parts, [make_T(np.eye(3), np.array([-0.2, 0, 0.1]))], light(sh=sh), normal)[1]
    assert right[0, 20, 20] > 1.2 * left[0, 20, 20]


def test_weights_frames_and_missing_surfaces():
    parts = [box(0.1, 0.1, 0.1), box(0.06, 0.2, 0.1)]
    poses = np.array(
        [
            [make_T(np.eye(3), np.array([x, y, 0.1])) for x, y in pair]
            for pair in (((0, 0), (0.2, 0)), ((0, 0.1), (-0.2, 0)))
        ]
    )
    shine = light((0.2, 0.1, 1.0), 0.05)
    weight = np.array([[1.0, 0.0], [0.5, 1.0]])
    points, normals = floor()
    holes = normals.copy()
    holes[40:60, 30:70] = 0
    both = shadows(parts, poses, shine, (points, holes), weight)
    for i in range(2):
        alone = shadows(parts, poses[i : i + 1], shine, (points, holes), weight[i : i + 1])
        for a, b in zip(both, alone, strict=True):
            np.testing.assert_array_equal(a[i], b[0])
    assert all((v[:, 40:60, 30:70] == 0).all() for v in both)
    only = shadows(parts[:1], poses[:1, :1], shine, (points, holes))
    np.testing.assert_array_equal(both[0][0], only[0][0])
    assert both[0][1].max() == 1.0 and (np.abs(both[0][1] - 0.5) < 1e-6).sum() > 4
    below = shadows(parts, poses, light((0.2, 0.1, -1.0), 0.05))
    assert not below[0].any()
    with pytest.raises(ValueError, match="poses"):
        shadows(parts, poses[:, :1], shine)


def test_more_than_thirty_two_parts():
    poses = [make_T(np.eye(3), np.array([0.02 * k - 0.4, 0.3 * (-1) ** k, 0.1])) for k in range(40)]
    many = shadows([box(0.01, 0.1, 0.02)] * 40, poses, light())
    first, rest = (shadows([box(0.01, 0.1, 0.02)] * 20, p, light()) for p in (poses[:20], poses[20:]))
    np.testing.assert_array_equal(many[0], np.maximum(first[0], rest[0]))


def test_spheres_show_as_much_as_the_part():
    for mesh in (
        trimesh.creation.box((0.3, 0.05, 0.05)),
        trimesh.creation.cylinder(0.1, 0.02),
        trimesh.creation.icosphere(4),
    ):
        spheres = fit_spheres(mesh.vertices, mesh.faces)
        shown = np.pi * (spheres[:, 3] ** 2).sum()
        assert 0.75 * mesh.area / 4 < shown < 1.02 * mesh.area / 4
        np.testing.assert_array_equal(spheres, fit_spheres(mesh.vertices, mesh.faces))
    assert len(fit_spheres(*box(0.3, 0.05, 0.05))) > 2


def test_parts_shadow_each_other_and_not_themselves():
    from phototwin.kernels.draw import Part, draw_parts, make_draw_list

    ball = trimesh.creation.icosphere(subdivisions=4, radius=0.05)
    slab = trimesh.creation.box((0.5, 0.5, 0.02))
    K = np.array([[400.0, 0, 200], [0, 400.0, 160], [0, 0, 1]])
    T_camera = make_T(np.diag([1.0, -1.0, -1.0]), np.array([0, 0, 0.9]))  # looks straight down
    parts = [
        Part(ball.vertices, ball.faces, ball.vertex_normals, np.ones(3), None, None, 1),
        Part(slab.vertices, slab.faces, None, np.ones(3), None, None, 2),
    ]
    poses = np.stack([make_T(np.eye(3), np.array([0, 0, 0.15])), np.eye(4)])[None]
    got = {k: v.numpy() for k, v in draw_parts(make_draw_list(parts), poses, T_camera, K, 400, 320).items()}
    casters = make_casters([(p.points, p.faces) for p in parts])
    shine = light((0.8, 0.0, 1.0), 0.02)
    seen = light_foreground(casters, poses, got["depth"], got["normals"], got["ids"], T_camera, K, shine).numpy()[0]
    lit = (got["normals"][0] @ shine.direction_w) > 0.15
    on_ball, on_slab = got["ids"][0] == 1, got["ids"][0] == 2
    assert seen[on_ball & lit, 0].min() == 1.0, "acne"
    # Receivers are 4 mm apart, and the ball's shadow is blurred by as much. It lies 0.14 m below its middle, moved by 0.8 times that.
    x, y = np.meshgrid(np.arange(400) + 0.5 - 200, np.arange(320) + 0.5 - 160)
    X, Y = x / 400 * 0.89, -y / 400 * 0.89
    axis = np.hypot((X + 0.112) / np.hypot(1, 0.8), Y)
    assert seen[on_slab & (axis < 0.034), 0].max() < 0.05
    assert seen[on_slab & (axis > 0.068), 0].min() > 0.97
    assert seen[on_slab, 1].min() < 0.9 < seen[on_slab & (np.hypot(X, Y) > 0.2), 1].min()


def test_pieces_hold_all_of_a_part():
    for mesh in (
        trimesh.creation.box((0.3, 0.05, 0.05)),
        trimesh.creation.annulus(0.08, 0.1, 0.02),
        trimesh.creation.icosphere(4),
    ):
        bounds = bound_pieces(mesh.vertices, mesh.faces)
        inside = (
            np.linalg.norm(mesh.triangles[:, None] - bounds[None, :, None, :3], axis=-1)
            <= bounds[None, :, None, 3] + 1e-9
        )
        assert inside.all(2).any(1).all()
