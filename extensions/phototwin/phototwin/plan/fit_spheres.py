"""Few spheres that cover a body and stick out of it by no more than a tolerance, and a robot's links made of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from phototwin.errors import InputError
from phototwin.kernels.links import BodySpheres, Chain, chain_of
from phototwin.kernels.obstacles import load_meshes
from phototwin.kernels.spheres import sphere_mesh_distances
from phototwin.meshes import load_mesh
from phototwin.robots import Robot, tool_in_link

TOLERANCE_M = 0.02
"""How far a robot's spheres may stick out; at 20 mm an arm takes some 130 spheres, at 12 mm more than twice as many."""
PATCH = 1.2
"""Longest side of the patches a surface is cut into, in tolerances: no corner of a triangle is further from its middle than two thirds of that."""
MAX_CANDIDATES = 1500
"""In the inside, and as many on the surface."""
MAX_PATCHES = 20000


@dataclass(frozen=True, eq=False)
class RobotBody:
    """A robot for the kernels.

    Attributes:
        chain: Its joints as links, then the tool frame named "tool".
        spheres: What covers its links.
    """

    chain: Chain
    spheres: BodySpheres


def fit_spheres(points: np.ndarray, faces: np.ndarray, tolerance_m: float) -> tuple[np.ndarray, np.ndarray]:
    """Centres (S, 3) and radii (S,) of spheres that cover every point of a closed surface and reach at most ``tolerance_m`` out of it [m].

    Greedy cover: of many candidates inside the body, each as large as its depth plus the tolerance, the one that covers most of what is
    left comes next. The surface is cut into triangles so small that one is covered as soon as its corners are, so nothing
    between samples is missed. A body that is not closed is taken as its convex hull. The result is the same every time.

    Raises:
        InputError: The tolerance is too small for a body of that size.
    """
    import trimesh

    if not tolerance_m > 0.0:
        raise InputError(f"Spheres need a tolerance > 0 to stick out by, got {tolerance_m} m.")
    body = trimesh.Trimesh(points, faces)
    body = body if body.is_volume else body.convex_hull
    if body.area > 0.2 * MAX_PATCHES * (PATCH * tolerance_m) ** 2:
        raise InputError(
            f"A body of {body.area:.3g} m2 cannot be covered within {tolerance_m} m: take a larger tolerance."
        )
    patches = _cut(np.asarray(body.triangles, dtype=np.float64), PATCH * tolerance_m)
    middles = patches.mean(1)
    candidates = np.concatenate([_grid(body, tolerance_m), middles[:: -(-len(middles) // MAX_CANDIDATES)]])
    meshes = load_meshes([(np.asarray(body.vertices), np.asarray(body.faces))])
    measured = sphere_mesh_distances(candidates[:, None], np.zeros(1), meshes).clearance_m.astype(np.float64)
    inside = measured < 1e-6
    centers, radii, left = _cover(candidates[inside], tolerance_m - measured[inside], patches)
    # What no candidate covers, such as a thin wall far from the grid, takes spheres around its own middles.
    more, more_radii, _ = _cover(middles[left], np.full(len(left), tolerance_m), patches[left])
    return np.concatenate([centers, more]), np.concatenate([radii, more_radii])


def _cut(triangles: np.ndarray, longest_m: float) -> np.ndarray:
    """Triangles (F, 3, 3) halved across their longest sides until none is longer, so that slivers become few pieces."""
    done = []
    while len(triangles):
        sides = np.linalg.norm(np.roll(triangles, -1, 1) - triangles, axis=2)
        small = sides.max(1) <= longest_m
        done.append(triangles[small])
        triangles, side = triangles[~small], sides[~small].argmax(1)
        a, b, c = (triangles[np.arange(len(side)), (side + k) % 3] for k in range(3))
        middle = 0.5 * (a + b)
        triangles = np.concatenate([np.stack([a, middle, c], 1), np.stack([middle, b, c], 1)])
    return np.concatenate(done)


def _grid(body: Any, tolerance_m: float) -> np.ndarray:
    """Points (C, 3) of a grid in the bounds of the body."""
    pitch = max(0.75 * tolerance_m, (float(np.prod(body.extents)) / MAX_CANDIDATES) ** (1.0 / 3.0))
    counts = np.maximum(np.ceil(body.extents / pitch).astype(int), 1)
    # Centred in the bounds, so that a symmetric body has candidates on its axis.
    axes = [
        low + extent * (np.arange(n) + 0.5) / n
        for low, extent, n in zip(body.bounds[0], body.extents, counts, strict=True)
    ]
    return np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3)


def _cover(centers: np.ndarray, radii: np.ndarray, patches: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The greedy choice among candidates for patches (P, 3, 3), which weigh by their area; and the patches that none covers."""
    reach = (radii * (1.0 - 1e-9))[:, None] ** 2
    covers = np.ones((len(centers), len(patches)), dtype=bool)
    for k in range(3):
        corner = patches[:, k]
        covers &= (centers**2).sum(1)[:, None] + (corner**2).sum(1) - 2.0 * centers @ corner.T <= reach
    a, b, c = np.moveaxis(patches, 1, 0)
    area = np.linalg.norm(np.cross(b - a, c - a), axis=1)
    area = (area + 1e-3 * area.mean()).astype(np.float32) if len(area) else area
    open_ = covers.any(0)
    weighed = covers.astype(np.float32)
    chosen: list[int] = []
    while open_.any():
        left = np.flatnonzero(open_)
        best = int(np.argmax(weighed[:, left] @ area[left] if len(left) < len(area) else weighed @ area))
        chosen.append(best)
        open_ &= ~covers[best]
    return centers[chosen], radii[chosen], np.flatnonzero(~covers.any(0))


def load_body(robot: Robot, tolerance_m: float = TOLERANCE_M) -> RobotBody:
    """A robot's whole URDF, fingers included, as a chain, and spheres that cover its collision shapes within a tolerance.

    Raises:
        InputError: The robot has a joint or shape that is not known.
    """
    import pinocchio as pin  # pyright: ignore[reportMissingImports]

    from phototwin.stage.robots import robot_urdf

    urdf, share = robot_urdf(robot)
    model = pin.buildModelFromUrdf(str(urdf))
    shapes = pin.buildGeomFromUrdf(model, str(urdf), pin.GeometryType.COLLISION, package_dirs=[str(share)])
    if not model.existFrame(robot.tcp_body):
        raise InputError(f"The URDF of robot '{robot.name}' has no link {robot.tcp_body}: correct its name.")
    hand = model.frames[model.getFrameId(robot.tcp_body)]
    T_body_tool = pin.SE3(tool_in_link(robot))
    model.addFrame(pin.Frame("tool", hand.parentJoint, hand.placement * T_body_tool, pin.FrameType.OP_FRAME))
    links, centers, radii = [], [np.zeros((0, 3))], [np.zeros(0)]
    for shape in shapes.geometryObjects:
        points, faces = _shape_mesh(shape)
        center, radius = fit_spheres(points, faces, tolerance_m)
        links += [int(shape.parentJoint)] * len(radius)
        centers.append(center @ shape.placement.rotation.T + shape.placement.translation)
        radii.append(radius)
    spheres = BodySpheres(np.array(links, dtype=np.int32), np.concatenate(centers), np.concatenate(radii))
    return RobotBody(chain_of(model, ("tool",)), spheres)


def _shape_mesh(shape: Any) -> tuple[np.ndarray, np.ndarray]:
    """Points (V, 3) and triangles (F, 3) of one of pinocchio's collision shapes."""
    import trimesh

    geometry = shape.geometry
    if Path(shape.meshPath).suffix:  # primitives are named "BOX" and the like
        mesh = load_mesh(Path(shape.meshPath))
        return np.asarray(mesh.points) * np.asarray(shape.meshScale), np.asarray(mesh.faces)
    if hasattr(geometry, "halfSide"):
        mesh = trimesh.creation.box(2.0 * np.asarray(geometry.halfSide))
    elif hasattr(geometry, "halfLength"):  # a cylinder or a capsule, as the cylinder around it
        ends = geometry.radius if type(geometry).__name__ == "Capsule" else 0.0
        mesh = trimesh.creation.cylinder(geometry.radius, 2.0 * (geometry.halfLength + ends), sections=24)
    elif hasattr(geometry, "radius"):
        mesh = trimesh.creation.icosphere(2, geometry.radius)
    else:
        raise InputError(f"The shape '{shape.name}' is a {type(geometry).__name__}, which no spheres can be fitted to.")
    return np.array(mesh.vertices), np.array(mesh.faces)
