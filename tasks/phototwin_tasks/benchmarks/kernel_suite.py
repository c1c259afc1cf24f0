"""Suite "kernels": how fast the planning kernels are beside other libraries that give the same answers, on this machine."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from phototwin_tasks.benchmarks import Measure
from phototwin_tasks.benchmarks import kernel_rivals as rivals
from phototwin_tasks.benchmarks.kernel_rows import SAME_M, ratio_rows, reach_rows, visibility_rows

GPU_QUERIES = ">= 20"


@dataclass(frozen=True, eq=False)
class _World:
    """What is asked: an arm in many postures before a few things on a table.

    Attributes:
        body: The robot.
        parts: Points and triangles of every thing, in the world.
        points: Of all things as one mesh.
        faces: Of all things as one mesh.
        q: Postures, (B, J).
        centers_w: Centres of the arm's spheres, (B, S, 3) float32 [m].
        radii_m: (S,) float32 [m].
    """

    body: Any
    parts: list[tuple[np.ndarray, np.ndarray]]
    points: np.ndarray
    faces: np.ndarray
    q: np.ndarray
    centers_w: np.ndarray
    radii_m: np.ndarray


def measure(data: Path | None, quick: bool) -> Iterator[Measure]:
    """All measures of the suite; ``data`` is not needed."""
    world = _make_world(60 if quick else 400)
    yield from _missing()
    yield from _sphere_rows(world, quick)
    yield from _clearance_rows(world)
    yield from _pair_rows(quick)
    yield from _arm_rows(world, quick)
    yield from visibility_rows(world.parts, (world.points, world.faces), world.centers_w, world.radii_m, quick)
    yield from reach_rows(quick)
    yield from _gpu_rows(world)


def _make_world(poses: int) -> _World:
    import trimesh

    from phototwin.kernels.links import BodySpheres, sphere_centers
    from phototwin.plan.fit_spheres import RobotBody, load_body
    from phototwin.robots import PANDA

    made = [
        trimesh.creation.torus(0.10, 0.04, 96, 48).apply_translation((0.5, 0.15, 0.05)),
        trimesh.creation.annulus(0.03, 0.04, 0.1, sections=128).subdivide().apply_translation((0.55, -0.1, 0.05)),
        trimesh.creation.icosphere(4, 0.06).apply_translation((0.4, -0.2, 0.06)),
    ]
    whole = trimesh.util.concatenate(made)
    body = load_body(PANDA)
    moving = body.spheres.link > 0
    spheres = BodySpheres(body.spheres.link[moving], body.spheres.centers[moving], body.spheres.radii_m[moving])
    rng = np.random.default_rng(0)
    home = np.array([*PANDA.home_rad, PANDA.finger_open_m, PANDA.finger_open_m])
    q = home + rng.uniform(-0.5, 0.5, (poses, len(home))) * (np.arange(len(home)) < 7)
    q = np.clip(q, body.chain.lower, body.chain.upper)
    return _World(
        body=RobotBody(body.chain, spheres),
        parts=[(np.asarray(m.vertices), np.asarray(m.faces)) for m in made],
        points=np.asarray(whole.vertices),
        faces=np.asarray(whole.faces),
        q=q,
        centers_w=sphere_centers(body.chain, spheres, q),
        radii_m=spheres.radii_m.astype(np.float32),
    )


def _missing() -> Iterator[Measure]:
    """A row for every library that cannot be asked."""
    for name, found in (("coal", rivals.load_coal()), ("FCL", rivals.load_fcl()), ("Open3D", rivals.load_open3d())):
        if found is None:
            yield Measure(f"{name} is there to compare with", "libraries", 0.0, "", None, "not installed: left out")


def _sphere_rows(world: _World, quick: bool) -> Iterator[Measure]:
    """Signed distances of single points, everywhere around the things and close to them."""
    import trimesh

    from phototwin.kernels.obstacles import load_meshes
    from phototwin.kernels.spheres import sphere_mesh_distances

    count = 20_000 if quick else 100_000
    near = trimesh.sample.sample_surface(trimesh.Trimesh(world.points, world.faces), count, seed=0)[0]
    near = near + np.random.default_rng(1).normal(0.0, 0.01, near.shape)
    of_arm = world.centers_w.reshape(-1, 3)[:count]
    meshes = load_meshes(world.parts)
    for scene, queries in (("points of the arm", of_arm), ("points within 1 cm", near)):
        queries = np.ascontiguousarray(queries, np.float32)
        rows, zero = queries[:, None], np.zeros(1)

        def ours(threads: int | None, rows: np.ndarray = rows, zero: np.ndarray = zero) -> np.ndarray:
            return sphere_mesh_distances(rows, zero, meshes, threads=threads).clearance_m

        answer, one = rivals.seconds(lambda ours=ours: ours(1))
        many = rivals.seconds(lambda ours=ours: ours(None))[1]
        rates = dict(_distance_rivals(world, scene, queries, answer))
        yield from rates.pop("notes", [])
        yield from ratio_rows("signed distances", scene, len(queries), one, many, rates)


def _distance_rivals(world: _World, scene: str, queries: np.ndarray, answer: np.ndarray) -> Iterator[tuple[str, Any]]:
    """Rates per second of the others on one thread, Open3D's on all cores too, and rows of how far their answers are."""
    notes = []
    radius = 1e-4  # coal and FCL know no points
    some = slice(None, None, max(1, len(queries) // 3000))
    few = slice(None, None, max(1, len(queries) // 300))
    asked: list[tuple[str, Callable[[np.ndarray], np.ndarray], slice, float]] = []
    if o3d := rivals.load_open3d():
        asked.append(("Open3D", rivals.open3d_distances(o3d, world.points, world.faces, 1), slice(None), 0.0))
        asked.append(
            ("Open3D on all cores", rivals.open3d_distances(o3d, world.points, world.faces, 0), slice(None), 0.0)
        )
    if coal := rivals.load_coal():
        asked.append(("coal", rivals.coal_sphere_distances(coal, world.points, world.faces, radius), some, radius))
    if fcl := rivals.load_fcl():
        asked.append(("FCL", rivals.fcl_sphere_distances(fcl, world.points, world.faces, radius), some, radius))
    asked.append(("trimesh", rivals.trimesh_distances(world.points, world.faces), few, 0.0))
    for name, run, part, ball in asked:
        found, taken = rivals.seconds(lambda run=run, part=part: run(queries[part]), 2)
        yield name, len(found) / taken
        outside = (
            answer[part] > 2.0 * radius if ball else np.ones(len(found), dtype=bool)
        )  # they stop where things touch
        differ = np.abs(found + ball - answer[part])[outside]
        notes.append(
            Measure(
                f"signed distances, {name} differs by",
                scene,
                differ.max(),
                "m",
                f"<= {SAME_M}",
                f"{outside.sum()} points",
            )
        )
    yield "notes", notes


def _clearance_rows(world: _World) -> Iterator[Measure]:
    """The smallest clearance of whole postures: the arm's spheres against all things."""
    from phototwin.kernels.obstacles import load_meshes
    from phototwin.kernels.spheres import sphere_mesh_distances, sphere_volume_distances
    from phototwin.kernels.volumes import make_distance_volume

    meshes, spheres = load_meshes(world.parts), len(world.radii_m)
    scene = f"{spheres} spheres"
    ask = (world.centers_w, world.radii_m)
    answer, one = rivals.seconds(lambda: sphere_mesh_distances(*ask, meshes, threads=1).clearance_m)
    many = rivals.seconds(lambda: sphere_mesh_distances(*ask, meshes))[1]
    rates: dict[str, float] = {}
    if o3d := rivals.load_open3d():
        flat = np.ascontiguousarray(world.centers_w.reshape(-1, 3))
        for name, threads in (("Open3D", 1), ("Open3D on all cores", 0)):
            run = rivals.open3d_distances(o3d, world.points, world.faces, threads)
            found, taken = rivals.seconds(lambda run=run: (run(flat).reshape(-1, spheres) - world.radii_m).min(1))
            rates[name] = len(answer) / taken
        differ = float(np.abs(found - answer).max())
        yield Measure("clearance of postures, Open3D differs by", scene, differ, "m", f"<= {SAME_M}")
    yield from ratio_rows("clearance of postures", scene, len(answer), one, many, rates)
    room = (world.points.min(0) - 0.15, world.points.max(0) + 0.15)  # outside of it a volume knows lower bounds only
    volume, taken = rivals.seconds(lambda: make_distance_volume(meshes, 0.01, *room), 1)
    yield Measure("distance volume, a voxel of 1 cm", f"{volume.values_m.size} voxels", taken, "s")
    found, one = rivals.seconds(lambda: sphere_volume_distances(*ask, volume, threads=1).clearance_m)
    yield Measure("clearance in a volume, one thread", scene, len(answer) / one / 1e3, "1000/s", method="Warp")
    close = answer < 0.05
    if close.any():
        differ = float(np.abs(found - answer)[close].max())
        yield Measure("clearance in a volume, differs from meshes by", scene, differ, "m", "<= 0.0087")


def _pair_rows(quick: bool) -> Iterator[Measure]:
    """A gripper's mesh against an object's."""
    import trimesh

    from phototwin.frames import make_T, matrix_from_quat_xyzw
    from phototwin.kernels.mesh_pairs import mesh_pair_collisions, prepare_mesh

    boxes = [
        ((0.02, 0.01, 0.05), (0, 0.045, 0)),
        ((0.02, 0.01, 0.05), (0, -0.045, 0)),
        ((0.06, 0.2, 0.08), (0, 0, -0.08)),
    ]
    gripper = trimesh.util.concatenate([trimesh.creation.box(s).apply_translation(t) for s, t in boxes])
    gripper = gripper.subdivide().subdivide()
    thing = trimesh.creation.torus(0.05, 0.02, 64, 32)
    a, b = ((np.asarray(m.vertices), np.asarray(m.faces)) for m in (gripper, thing))
    rng = np.random.default_rng(2)
    count = 1000 if quick else 4000
    moving, fixed = prepare_mesh(*a), prepare_mesh(*b)
    for scene, spread in (("close, most collide", 0.08), ("a third collides", 0.15)):
        turns = matrix_from_quat_xyzw(rng.standard_normal((count, 4)))
        T = np.array([make_T(R, t) for R, t in zip(turns, rng.uniform(-spread, spread, (count, 3)), strict=True)])
        answer, one = rivals.seconds(lambda T=T: mesh_pair_collisions(moving, fixed, T, threads=1).collide)
        many = rivals.seconds(lambda T=T: mesh_pair_collisions(moving, fixed, T))[1]
        rates: dict[str, float] = {}
        asked: list[tuple[str, Callable[[np.ndarray], np.ndarray]]] = []
        if coal := rivals.load_coal():
            asked.append(("coal", rivals.coal_collisions(coal, a, b)))
        if fcl := rivals.load_fcl():
            asked.append(("FCL", rivals.fcl_collisions(fcl, a, b)))
        for name, run in asked:
            found, taken = rivals.seconds(lambda run=run, T=T: run(T))
            rates[name] = count / taken
            differ = 100.0 * float((found != answer).mean())
            yield Measure(f"mesh pairs, {name} answers otherwise", scene, differ, "%", "<= 0.3")
        yield from ratio_rows("mesh pairs", scene, count, one, many, rates)


def _arm_rows(world: _World, quick: bool) -> Iterator[Measure]:
    """Forward kinematics beside pinocchio's loop, and swept paths."""
    from phototwin.kernels.links import link_poses
    from phototwin.kernels.obstacles import load_meshes
    from phototwin.kernels.sweeps import sweep_paths

    chain, spheres = world.body.chain, world.body.spheres
    rng = np.random.default_rng(3)
    q = rng.uniform(chain.lower, chain.upper, (2000 if quick else 10_000, len(chain.lower)))
    answer, one = rivals.seconds(lambda: link_poses(chain, q, threads=1))
    many = rivals.seconds(lambda: link_poses(chain, q))[1]
    found, taken = rivals.seconds(lambda: _pinocchio_poses(q), 1)
    differ = float(np.abs(found - answer[:, 1 : found.shape[1] + 1]).max())
    yield Measure("link poses, pinocchio differs by", "panda", differ, "m", f"<= {SAME_M}")
    yield from ratio_rows("link poses", "panda", len(q), one, many, {"pinocchio": len(q) / taken})
    paths = world.q[: 4 * (len(world.q) // 4)].reshape(-1, 4, world.q.shape[1])
    meshes = load_meshes(world.parts)
    sweep, taken = rivals.seconds(lambda: sweep_paths(chain, spheres, paths, meshes))
    yield Measure("swept paths of 4 waypoints, all cores", "panda", len(paths) / taken, "1/s", method="Warp")
    yield Measure("swept paths, looks at a path", "panda", float(sweep.looks.mean()), "")


def _pinocchio_poses(q: np.ndarray) -> np.ndarray:
    """Poses (B, J, 4, 4) of all joints by pinocchio, one configuration after the other."""
    import pinocchio as pin  # pyright: ignore[reportMissingImports]

    from phototwin.robots import PANDA
    from phototwin.stage.robots import robot_urdf

    model = pin.buildModelFromUrdf(str(robot_urdf(PANDA)[0]))
    data = model.createData()
    out = np.zeros((len(q), model.njoints - 1, 4, 4))
    out[..., 3, 3] = 1.0
    for i, row in enumerate(q):
        pin.forwardKinematics(model, data, row)
        for j in range(1, model.njoints):
            out[i, j - 1, :3, :3], out[i, j - 1, :3, 3] = data.oMi[j].rotation, data.oMi[j].translation
    return out


def _gpu_rows(world: _World) -> Iterator[Measure]:
    """Queries a second on a GPU, where one is."""
    import warp as wp

    if not wp.is_cuda_available():
        return
    from phototwin.kernels.obstacles import load_meshes
    from phototwin.kernels.spheres import sphere_mesh_distances

    meshes = load_meshes(world.parts, "cuda:0")
    centers = np.tile(world.centers_w, (max(1, 20_000 // len(world.centers_w)), 1, 1))
    taken = rivals.seconds(lambda: sphere_mesh_distances(centers, world.radii_m, meshes), 5)[1]
    rate = centers.shape[0] * centers.shape[1] / taken / 1e6
    yield Measure("sphere-mesh queries on a GPU, copies included", "arm", rate, "M/s", GPU_QUERIES, "Warp CUDA")
