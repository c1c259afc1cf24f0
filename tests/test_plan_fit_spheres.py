from functools import cache

import numpy as np
import pytest
import trimesh

from phototwin.errors import InputError
from phototwin.kernels.links import sphere_centers
from phototwin.kernels.obstacles import load_meshes
from phototwin.kernels.spheres import sphere_mesh_distances
from phototwin.plan.fit_spheres import fit_spheres, load_body
from phototwin.plan.ik import link_points, load_arm
from phototwin.robots import PANDA

BODIES = {
    "ball": trimesh.creation.icosphere(3, 0.06),
    "plate": trimesh.creation.box((0.2, 0.15, 0.004)),
    "rod": trimesh.creation.cylinder(0.01, 0.3),
    "torus": trimesh.creation.torus(0.08, 0.02),
    "open": trimesh.Trimesh(
        *(lambda m: (m.vertices, m.faces[:-4]))(trimesh.creation.icosphere(2, 0.05)), process=False
    ),
}


@pytest.mark.parametrize("tolerance", [0.01, 0.025])
@pytest.mark.parametrize("name", BODIES)
def test_the_surface_is_covered_and_nothing_sticks_out_further(name, tolerance):
    body = BODIES[name]
    centers, radii = fit_spheres(body.vertices, body.faces, tolerance)
    body = body if body.is_volume else body.convex_hull
    points = trimesh.sample.sample_surface(body, 4000, seed=1)[0]
    uncovered = np.linalg.norm(points[:, None] - centers, axis=2) - radii
    assert uncovered.min(1).max() < 1e-9
    # The directions of every sphere, against the body by another library.
    directions = trimesh.creation.icosphere(2).vertices
    out = (centers[:, None] + radii[:, None, None] * directions).reshape(-1, 3)
    sticks = -trimesh.proximity.signed_distance(body, out[:: 1 + len(out) // 1500])
    assert sticks.max() < tolerance + 1e-6


def test_few_spheres():
    sphere, rod = BODIES["ball"], BODIES["rod"]
    assert len(fit_spheres(sphere.vertices, sphere.faces, 0.01)[1]) <= 2
    # A sphere of radius r + t covers a piece of length 2 sqrt((r + t)^2 - r^2) of a rod.
    least = 0.3 / (2 * np.sqrt(0.03**2 - 0.01**2))
    assert least <= len(fit_spheres(rod.vertices, rod.faces, 0.02)[1]) <= 3 * least + 2


def test_the_same_every_time():
    body = BODIES["torus"]
    one, two = (fit_spheres(body.vertices, body.faces, 0.01) for _ in range(2))
    assert one[0].tobytes() == two[0].tobytes() and one[1].tobytes() == two[1].tobytes()


@cache
def body_and_arm():
    return load_body(PANDA), load_arm(PANDA)


def test_the_spheres_of_the_arm_hold_all_its_links_in_every_posture():
    body, arm = body_and_arm()
    assert len(body.spheres.radii_m) < 220
    rng = np.random.default_rng(0)
    q = np.zeros((10, len(body.chain.lower)))
    q[:, :7] = rng.uniform(arm.lower, arm.upper, (10, 7))
    q[:, 7:] = PANDA.finger_open_m
    for row, centers in zip(q, sphere_centers(body.chain, body.spheres, q), strict=True):
        points = link_points(arm, row[:7])
        assert (np.linalg.norm(points[:, None] - centers, axis=2) - body.spheres.radii_m).min(1).max() < 2e-3


def test_a_clearance_of_spheres_is_at_most_the_tolerance_less_than_that_of_the_links():
    body, arm = body_and_arm()
    box = trimesh.creation.box((0.2, 0.2, 0.2)).apply_translation((0.5, 0.0, 0.3))
    meshes = load_meshes([(box.vertices, box.faces)])
    rng = np.random.default_rng(1)
    q = np.zeros((40, len(body.chain.lower)))
    q[:, :7] = rng.uniform(arm.lower, arm.upper, (40, 7))
    q[:, 7:] = PANDA.finger_open_m
    moving = body.spheres.link > 0
    centers = sphere_centers(body.chain, body.spheres, q)[:, moving]
    found = sphere_mesh_distances(centers, body.spheres.radii_m[moving], meshes).clearance_m
    for row, clearance in zip(q, found, strict=True):
        points = link_points(arm, row[:7])
        beside = np.linalg.norm(points - np.clip(points, box.bounds[0], box.bounds[1]), axis=1).min()
        if beside > 0.0:
            assert beside - 0.03 < clearance < beside + 2e-3  # the points on the links are a few centimetres apart


def test_bad_input_is_named():
    body = BODIES["ball"]
    with pytest.raises(InputError, match="tolerance > 0"):
        fit_spheres(body.vertices, body.faces, 0.0)
    with pytest.raises(InputError, match="larger tolerance"):
        fit_spheres(body.vertices, body.faces, 1e-4)
