"""Other libraries on the same queries as the planning kernels: coal, FCL, trimesh, Open3D, pinocchio. One that is not there is None."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

LEAST_S = 0.4
MOST_REPEATS = 20
"""What takes milliseconds is repeated until the least of its times is one in which nothing else ran."""


def seconds(work: Callable[[], Any], repeats: int = 3) -> tuple[Any, float]:
    """What the work returns, and its least wall time after a first run that warms up [s]."""
    value, times = work(), []
    while len(times) < repeats or (sum(times) < LEAST_S and len(times) < MOST_REPEATS):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return value, min(times)


def load_open3d() -> Any:
    """Open3D, or None where it or a system library that it needs is not installed."""
    try:
        import open3d  # pyright: ignore[reportMissingImports]
    except (ImportError, OSError):
        return None
    return open3d


def load_fcl() -> Any:
    """python-fcl, or None."""
    try:
        import fcl  # pyright: ignore[reportMissingImports]
    except ImportError:
        return None
    return fcl


def load_coal() -> Any:
    """coal, which comes in the pinocchio package, or None."""
    try:
        import coal  # pyright: ignore[reportMissingImports]
    except ImportError:
        return None
    return coal


def open3d_distances(
    o3d: Any, points: np.ndarray, faces: np.ndarray, threads: int
) -> Callable[[np.ndarray], np.ndarray]:
    """Signed distances (N,) of points (N, 3) by Open3D's ray casting scene; 0 threads are all."""
    scene = o3d.t.geometry.RaycastingScene(nthreads=threads)
    scene.add_triangles(points.astype(np.float32), faces.astype(np.uint32))

    def run(queries: np.ndarray) -> np.ndarray:
        return scene.compute_signed_distance(o3d.core.Tensor(queries), nthreads=threads).numpy()

    return run


def open3d_visible(o3d: Any, points: np.ndarray, faces: np.ndarray, threads: int) -> Callable[..., np.ndarray]:
    """Which points (M, 3) cameras T (C, 4, 4) of one kind K (3, 3) see past a mesh, (C, M) bool: numpy projects, Open3D casts the rays."""
    scene = o3d.t.geometry.RaycastingScene(nthreads=threads)
    scene.add_triangles(points.astype(np.float32), faces.astype(np.uint32))

    def run(queries: np.ndarray, T: np.ndarray, K: np.ndarray, size: np.ndarray) -> np.ndarray:
        out = np.empty((len(T), len(queries)), dtype=bool)
        for c in range(len(T)):
            pose = T[c].astype(np.float32)
            way = queries - pose[:3, 3]
            uvw = np.einsum("mi,ij,kj->mk", way, pose[:3, :3], K.astype(np.float32), optimize=True)
            inside = (uvw[:, 2] > 0.01) & (uvw[:, :2] >= 0.0).all(1) & (uvw[:, :2] < size * uvw[:, 2:]).all(1)
            rays = o3d.core.Tensor(np.concatenate([queries, -way], 1)[inside])
            out[c] = inside
            out[c, inside] = ~scene.test_occlusions(rays, tnear=0.0, tfar=1.0, nthreads=threads).numpy()
        return out

    return run


def trimesh_distances(points: np.ndarray, faces: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Signed distances (N,) by trimesh's proximity query, negative inside."""
    import trimesh

    query = trimesh.proximity.ProximityQuery(trimesh.Trimesh(points, faces))
    return lambda queries: -query.signed_distance(queries)


def coal_model(coal: Any, points: np.ndarray, faces: np.ndarray) -> Any:
    """A triangle mesh for coal."""
    model = coal.BVHModelOBBRSS()
    model.beginModel(len(faces), len(points))
    vertices, triangles = coal.StdVec_Vec3s(), coal.StdVec_Triangle()
    for vertex in np.asarray(points, np.float64):
        vertices.append(vertex)
    for face in faces:
        triangles.append(coal.Triangle(*(int(i) for i in face)))
    model.addSubModel(vertices, triangles)
    model.endModel()
    return model


def coal_sphere_distances(
    coal: Any, points: np.ndarray, faces: np.ndarray, radius: float
) -> Callable[[np.ndarray], np.ndarray]:
    """Distances (N,) of spheres around points (N, 3) to a mesh by coal; what overlaps is about 0 or less."""
    model, ball, still = coal_model(coal, points, faces), coal.Sphere(radius), coal.Transform3s()
    request = coal.DistanceRequest()

    def run(queries: np.ndarray) -> np.ndarray:
        turn, out = np.eye(3), np.empty(len(queries))
        for i, center in enumerate(queries.astype(np.float64)):
            out[i] = coal.distance(ball, coal.Transform3s(turn, center), model, still, request, coal.DistanceResult())
        return out

    return run


def fcl_model(fcl: Any, points: np.ndarray, faces: np.ndarray) -> Any:
    """A triangle mesh for FCL."""
    model = fcl.BVHModel()
    model.beginModel(len(points), len(faces))
    model.addSubModel(points, faces)
    model.endModel()
    return model


def fcl_sphere_distances(
    fcl: Any, points: np.ndarray, faces: np.ndarray, radius: float
) -> Callable[[np.ndarray], np.ndarray]:
    """Distances (N,) of spheres around points (N, 3) to a mesh by FCL; -1 where they overlap."""
    body, ball = fcl.CollisionObject(fcl_model(fcl, points, faces)), fcl.CollisionObject(fcl.Sphere(radius))
    request = fcl.DistanceRequest()

    def run(queries: np.ndarray) -> np.ndarray:
        out = np.empty(len(queries))
        for i, center in enumerate(queries.astype(np.float64)):
            ball.setTranslation(center)
            out[i] = fcl.distance(ball, body, request, fcl.DistanceResult())
        return out

    return run


def coal_collisions(
    coal: Any, moving: tuple[np.ndarray, np.ndarray], fixed: tuple[np.ndarray, np.ndarray]
) -> Callable[[np.ndarray], np.ndarray]:
    """Which poses (B, 4, 4) of one mesh collide with the other, (B,) bool, by coal."""
    a, b, still, request = (
        coal_model(coal, *moving),
        coal_model(coal, *fixed),
        coal.Transform3s(),
        coal.CollisionRequest(),
    )

    def run(T: np.ndarray) -> np.ndarray:
        placed = [coal.Transform3s(pose[:3, :3], pose[:3, 3]) for pose in T]
        return np.array([coal.collide(a, pose, b, still, request, coal.CollisionResult()) > 0 for pose in placed])

    return run


def fcl_collisions(
    fcl: Any, moving: tuple[np.ndarray, np.ndarray], fixed: tuple[np.ndarray, np.ndarray]
) -> Callable[[np.ndarray], np.ndarray]:
    """Which poses (B, 4, 4) of one mesh collide with the other, (B,) bool, by FCL."""
    a, b = fcl.CollisionObject(fcl_model(fcl, *moving)), fcl.CollisionObject(fcl_model(fcl, *fixed))
    request = fcl.CollisionRequest()

    def run(T: np.ndarray) -> np.ndarray:
        out = np.empty(len(T), dtype=bool)
        for i, pose in enumerate(T):
            a.setTransform(fcl.Transform(np.ascontiguousarray(pose[:3, :3]), pose[:3, 3]))
            out[i] = fcl.collide(a, b, request, fcl.CollisionResult()) > 0
        return out

    return run
