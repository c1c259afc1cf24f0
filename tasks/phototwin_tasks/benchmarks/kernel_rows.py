"""Rows of suite "kernels": rates beside the best of others, what cameras see, and where an arm reaches."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from phototwin_tasks.benchmarks import Measure
from phototwin_tasks.benchmarks import kernel_rivals as rivals

SAME_M = 1e-5
"""Answers of two libraries that differ by no more are the same: rounding of single precision over a table."""
NOT_SLOWER = ">= 1"


def ratio_rows(
    name: str, scene: str, count: int, one: float, many: float, rates: dict[str, float]
) -> Iterator[Measure]:
    """Our rates on one thread and on all cores, and how often they are the best of the others'."""
    yield Measure(f"{name}, one thread", scene, count / one / 1e3, "1000/s", method="Warp")
    yield Measure(f"{name}, all cores", scene, count / many / 1e3, "1000/s", method="Warp")
    if not rates:
        return
    single = {key: rate for key, rate in rates.items() if "all cores" not in key}
    for key, rate in rates.items():
        yield Measure(f"{name}, {key}", scene, rate / 1e3, "1000/s", method=key)
    best = max(single, key=lambda key: single[key])
    yield Measure(f"{name}, one thread over the best", scene, count / one / single[best], "x", NOT_SLOWER, best)
    best = max(rates, key=lambda key: rates[key])
    yield Measure(f"{name}, all cores over the best", scene, count / many / rates[best], "x", NOT_SLOWER, best)


def visibility_rows(
    parts: list[tuple[np.ndarray, np.ndarray]],
    whole: tuple[np.ndarray, np.ndarray],
    centers_w: np.ndarray,
    radii_m: np.ndarray,
    quick: bool,
) -> Iterator[Measure]:
    """Points of the workspace that three cameras see past things, beside Open3D, and past an arm in many postures.

    Args:
        parts: Points and triangles of the things.
        whole: The same as one mesh.
        centers_w: Of the arm's spheres, (B, S, 3) [m].
        radii_m: (S,) [m].
        quick: Fewer points.
    """
    from phototwin.kernels.obstacles import load_meshes
    from phototwin.kernels.visibility import Cameras, visible_past_spheres, visible_points

    rng = np.random.default_rng(4)
    points = rng.uniform([0.2, -0.4, 0.0], [0.8, 0.4, 0.3], (20_000 if quick else 100_000, 3)).astype(np.float32)
    eyes = np.array([[1.2, 0.5, 0.7], [1.3, -0.4, 0.4], [0.5, 1.0, 0.6]])
    T = np.array([_looking(eye, np.array([0.5, 0.0, 0.1])) for eye in eyes])
    K = np.array([[500.0, 0.0, 320.0], [0.0, 500.0, 240.0], [0.0, 0.0, 1.0]])
    cameras = Cameras(T, np.broadcast_to(K, (3, 3, 3)), np.broadcast_to([640, 480], (3, 2)))
    meshes = load_meshes(parts)
    answer, one = rivals.seconds(lambda: visible_points(points, cameras, meshes, slack_m=0.0, threads=1))
    many = rivals.seconds(lambda: visible_points(points, cameras, meshes, slack_m=0.0))[1]
    rates: dict[str, float] = {}
    if o3d := rivals.load_open3d():
        for name, threads in (("Open3D", 1), ("Open3D on all cores", 0)):
            run = rivals.open3d_visible(o3d, *whole, threads)
            found, taken = rivals.seconds(lambda run=run: run(points, T, K, np.array([640, 480])))
            rates[name] = answer.size / taken
        differ = 100.0 * float((found != answer).mean())
        yield Measure("visible points, Open3D answers otherwise", "3 cameras", differ, "%", "<= 0.1")
    yield from ratio_rows("visible points", "3 cameras", answer.size, one, many, rates)
    some = points[:1000]
    seen, taken = rivals.seconds(lambda: visible_past_spheres(some, cameras, answer[:, :1000], centers_w, radii_m))
    yield Measure("visible points past an arm, all cores", "3 cameras", seen.size / taken / 1e6, "M/s", method="Warp")
    yield Measure("workspace seen past the arm", "3 cameras", 100.0 * seen.any(1).mean(), "%")


def _looking(eye: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Pose T_world_camera (4, 4) of an upright camera."""
    from phototwin.frames import make_T

    forward = (at - eye) / np.linalg.norm(at - eye)
    right = np.cross(forward, [0.0, 0.0, 1.0])
    right /= np.linalg.norm(right)
    return make_T(np.stack([right, np.cross(forward, right), forward], 1), eye)


def reach_rows(quick: bool) -> Iterator[Measure]:
    """The map of what an arm reaches, the score of many bases, and how often inverse kinematics agrees."""
    from phototwin.frames import make_T, matrix_from_quat_xyzw, rotation_z
    from phototwin.kernels.links import chain_of
    from phototwin.kernels.reach import ENOUGH, count_postures, make_reach_map
    from phototwin.plan.ik import load_arm, reached, solve_pose
    from phototwin.robots import PANDA

    arm = load_arm(PANDA)
    chain = chain_of(arm.model, ("tool",))
    reach, taken = rivals.seconds(lambda: make_reach_map(chain, "tool", 0), 1)
    yield Measure("reach map", "panda", taken, "s", method="Warp")
    rng = np.random.default_rng(5)
    count = 100 if quick else 400
    R = matrix_from_quat_xyzw(rng.standard_normal((20 * count, 4)))
    R = R[R[:, 2, 2] < -0.5][:count]  # tilted by 60 degrees at most
    angle, way, up = rng.uniform(-3.0, 3.0, count), rng.uniform(0.2, 0.95, count), rng.uniform(-0.05, 0.5, count)
    T = np.array(
        [make_T(r, np.array([d * np.cos(a), d * np.sin(a), z])) for r, d, a, z in zip(R, way, angle, up, strict=True)]
    )
    truth = np.array([reached(*solve_pose(arm, pose, arm.home)[1:]) for pose in T])
    said = count_postures(reach, np.eye(4)[None], T)[0] >= ENOUGH
    right = float((said & truth).sum())
    method = "inverse kinematics of plan/ik.py"
    yield Measure("reach map, precision", f"{count} tool poses", right / max(said.sum(), 1), "", ">= 0.85", method)
    yield Measure("reach map, recall", f"{count} tool poses", right / max(truth.sum(), 1), "", ">= 0.9", method)
    places = rng.uniform(-1.0, 1.0, (10_000, 2))
    bases = np.array(
        [
            make_T(rotation_z(float(a)), np.array([x, y, 0.0]))
            for a, (x, y) in zip(rng.uniform(-3, 3, 10_000), places, strict=True)
        ]
    )
    taken = rivals.seconds(lambda: count_postures(reach, bases, T[:50]))[1]
    yield Measure("base places scored for 50 tool poses, all cores", "panda", len(bases) / taken / 1e3, "1000/s")
