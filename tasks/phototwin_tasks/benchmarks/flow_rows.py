"""Optical flow against the exact motion of known scenes, frames warped along it against drawn ones, and speed beside other libraries.

Truth are Mitsuba's rays: which triangle the ray of a pixel meets, where that point of it goes in double precision, and whether anything
lies between there and the second camera. What the flow is given are the buffers that our renderer draws.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from phototwin.blend.backdrop import make_backdrop, view_backdrop
from phototwin.frames import invert, make_T, pixel_rays, transform
from phototwin.kernels.flow import NOISE_M, NOISE_SHARE, Flow, scene_flow
from phototwin.kernels.warp_image import compose_flows, warp_frames
from phototwin.scene import Camera
from phototwin_tasks.benchmarks import Measure
from phototwin_tasks.benchmarks.blend_measure import camera_of
from phototwin_tasks.benchmarks.blend_scenes import describe_blend, robot_parts, rotation_about
from phototwin_tasks.benchmarks.capture_measures import psnr
from phototwin_tasks.benchmarks.truth_scenes import scene_parts
from phototwin_tasks.benchmarks.truth_trace import Part, load_mitsuba, see_parts

SEEDS, QUICK_SEEDS = (0, 1, 2, 3, 4, 5), (1,)
FRAMES = 7
PAIR_APART = 6  # frames: far enough to hide and uncover something
JOINT_STEP_RAD = 0.008  # every joint at 0.24 rad/s, filmed at 30 frames a second
OBJECT_STEP_M, OBJECT_STEP_RAD = 0.012, 0.05
CAMERA_STEP_M, CAMERA_STEP_RAD = 0.004, 0.006
SUPERSAMPLING = 2
SELF_HIT = 2e-4  # share of its distance by which a point must lie behind what hides it
BIG = 2  # speed is taken at 640 x 480
KINDS = ("camera", "objects", "arm")
DRAWN = "holes: backdrop, drawn robot"
COMPOSED = "flows composed, the same"
ALONE = "holes: backdrop, seen robot"


@dataclass(frozen=True, eq=False)
class Shot:
    """One frame of a known scene: parts and camera."""

    parts: list[Part]
    camera: dict[str, Any]
    part: np.ndarray
    depth_m: np.ndarray

    @property
    def ids(self) -> np.ndarray:
        """Ids (H, W) for the flow: 0 is nothing, i + 1 part i."""
        return (self.part + 1).astype(np.int32)

    @property
    def view(self) -> Camera:
        """The camera as the product's value."""
        return camera_of(self.camera)


def flow_rows(quick: bool) -> Iterator[Measure]:
    """Accuracy of flow, occlusion and warped frames, and speed ratios on this CPU."""
    counts = np.zeros(2)
    for seed in QUICK_SEEDS if quick else SEEDS:
        for kind in KINDS:
            counts += yield from _pair_rows(seed, kind)
        yield from _sequence_rows(seed, still=True)
        yield from _sequence_rows(seed, still=False)
    f1 = float(counts[0] / max(counts[1], 1.0))
    yield Measure("occlusion F1 within the picture", "all pairs", f1, "", ">= 0.95", "hidden, not merely out of view")
    yield from _speed_rows()


def _pair_rows(seed: int, kind: str) -> Generator[Measure, None, np.ndarray]:
    """Rows of one pair; returns twice the pixels rightly found hidden within the picture, and the sum of found and true ones."""
    first, second = shot(seed, 0, kind), shot(seed, PAIR_APART, kind)
    found = flow_between(first, second)
    flow, hidden, known = exact_flow(first, second)
    error = np.linalg.norm(found.flow_px - flow, axis=-1)
    scene = f"{seed:04d} {kind}"
    yield Measure("flow, median end-point error", scene, float(np.median(error[known & ~hidden])), "px", "< 0.1")
    yield Measure("flow, 99 % below", scene, float(np.percentile(error[known & ~hidden], 99)), "px")
    inside = known & _lands_inside(flow, second.view)
    for name, where, target in (("occlusion F1", known, ">= 0.95"), ("occlusion F1 within the picture", inside, None)):
        both, either = (
            2 * (found.occluded & hidden & where).sum(),
            (found.occluded & where).sum() + (hidden & where).sum(),
        )
        yield Measure(name, scene, float(both / max(either, 1)), "", target)
    return np.array([both, either])


def _lands_inside(flow_px: np.ndarray, camera: Camera) -> np.ndarray:
    rows, columns = np.mgrid[: flow_px.shape[0], : flow_px.shape[1]]
    at = np.stack([columns, rows], -1) + 0.5 + flow_px
    return np.asarray(((at >= 0) & (at < [camera.width, camera.height])).all(-1))


# ---------------------------------------------------------------- scenes


def shot(seed: int, frame: int, kind: str, still: bool = True, robot: bool = True) -> Shot:
    """Frame ``frame`` of scene ``seed``: its camera, its objects or its arm move, or ("arm" and not ``still``) arm and camera."""
    truth, rng = copy.deepcopy(describe_blend(seed)), np.random.default_rng([seed, 5])
    turn, move = (v / np.linalg.norm(v) for v in (rng.standard_normal(3), rng.standard_normal(3)))
    if kind == "camera" or not still:
        step = make_T(rotation_about(turn, frame * CAMERA_STEP_RAD), frame * CAMERA_STEP_M * move)
        truth["camera"]["T_world_camera"] = (np.array(truth["camera"]["T_world_camera"]) @ step).tolist()
    if kind == "objects":
        for item in truth["objects"]:
            axis = np.array([0.0, 0.0, 1.0])
            angle = frame * OBJECT_STEP_RAD * rng.choice([-1, 1])
            T = np.array(item["T_world_object"]) @ make_T(rotation_about(axis, angle), np.zeros(3))
            T[:2, 3] += frame * OBJECT_STEP_M * rotation_about(axis, rng.uniform(-3, 3))[:2, 0]
            item["T_world_object"] = T.tolist()
    speed = JOINT_STEP_RAD * rng.choice([-1, 1], len(truth["robot"]["q_rad"]))
    if kind == "arm":
        truth["robot"]["q_rad"] = (np.array(truth["robot"]["q_rad"]) + frame * speed).tolist()
    parts = scene_parts(truth) + (robot_parts(truth["robot"]) if robot else [])
    seen = see_parts(truth["camera"], parts)
    return Shot(parts, truth["camera"], seen.part, seen.depth_m.astype(np.float32))


def picture(frame: Shot) -> np.ndarray:
    """The parts' own colours as a picture (H, W, 3) uint8 with soft edges: no light, so a moved thing looks the same."""
    n, camera = SUPERSAMPLING, frame.camera
    K = np.diag([n, n, 1.0]) @ np.array(camera["K_px"])
    fine = {**camera, "width": n * camera["width"], "height": n * camera["height"], "K_px": K.tolist()}
    seen = see_parts(fine, frame.parts)
    color = np.zeros((*seen.part.shape, 3))
    for i, part in enumerate(frame.parts):
        here = seen.part == i
        rows, columns = part.texture.shape[:2]
        u = np.floor(seen.uv[here, 0] * rows).astype(int) % rows
        v = np.floor(seen.uv[here, 1] * columns).astype(int) % columns
        color[here] = part.texture[u, v]
    mean = color.reshape(camera["height"], n, camera["width"], n, 3).mean((1, 3))
    return np.round(255 * np.clip(mean, 0, 1) ** (1 / 2.2)).astype(np.uint8)


def motions(first: Shot, second: Shot) -> np.ndarray:
    """Motion (P + 1, 4, 4) in the world of nothing and of each part."""
    pairs = zip(first.parts, second.parts, strict=True)
    return np.stack([np.eye(4), *(b.T_world_part @ invert(a.T_world_part) for a, b in pairs)])


def flow_between(first: Shot, second: Shot) -> Flow:
    """The product's flow from one frame to another."""
    T = motions(first, second)
    return scene_flow(first.depth_m, first.ids, first.view, second.view, T, second.depth_m, second.ids)


# ---------------------------------------------------------------- truth


def exact_flow(first: Shot, second: Shot) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Flow (H, W, 2) [px], what the second frame does not show (H, W) and which pixels meet anything (H, W), by rays of Mitsuba."""
    camera, there = first.view, second.view
    R, eye = camera.T_world_camera[:3, :3], camera.T_world_camera[:3, 3]
    rays_w = pixel_rays(camera.K_px, camera.width, camera.height) @ R.T
    owner, face = _hits(first.parts, eye, rays_w)
    known = owner >= 0
    points = _on_triangles(first.parts, owner, face, eye, rays_w)
    T = motions(first, second)[1:][owner]
    points = np.einsum("hwij,hwj->hwi", T[..., :3, :3], points) + T[..., :3, 3]
    points_c = transform(invert(there.T_world_camera), points)
    at = (points_c @ there.K_px.T)[..., :2] / np.where(np.abs(points_c[..., 2:]) > 1e-9, points_c[..., 2:], 1e-9)
    rows, columns = np.mgrid[: camera.height, : camera.width]
    flow = at - np.stack([columns, rows], -1) - 0.5
    outside = (points_c[..., 2] < 0.005) | ~_lands_inside(flow, there)
    seen = known & ~outside
    hidden = outside.copy()
    hidden[seen] = _blocked(second.parts, there.T_world_camera[:3, 3], points[seen])
    return flow, hidden & known, known


def _traced(parts: list[Part]) -> Any:
    """The parts as Mitsuba's geometry; its shapes are named after their numbers."""
    mi = load_mitsuba()
    value: dict[str, Any] = {"type": "scene"}
    for i, part in enumerate(parts):
        points, faces = transform(part.T_world_part, part.surface[0]), part.surface[3]
        mesh = mi.Mesh(f"part{i}", len(points), len(faces))
        params = mi.traverse(mesh)
        params["vertex_positions"] = points.astype(np.float32).ravel()
        params["faces"] = faces.astype(np.uint32).ravel()
        params.update()
        value[f"part{i}"] = mesh
    return mi.load_dict(value)


def _hits(parts: list[Part], eye: np.ndarray, rays_w: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Part (-1 none) and its triangle that each ray (H, W, 3) meets first, (H, W)."""
    mi, scene = load_mitsuba(), _traced(parts)
    owner, face = np.full(rays_w.shape[:2], -1), np.zeros(rays_w.shape[:2], int)
    origin = mi.Point3f(*eye.tolist())
    for at in np.ndindex(*owner.shape):
        hit = scene.ray_intersect_preliminary(mi.Ray3f(origin, mi.Vector3f(*rays_w[at].tolist())))
        if hit.is_valid():
            owner[at], face[at] = int(hit.shape.id().removeprefix("part")), hit.prim_index
    return owner, face


def _blocked(parts: list[Part], eye: np.ndarray, points_w: np.ndarray) -> np.ndarray:
    """Whether anything lies between the camera and each point (N, 3)."""
    mi, scene = load_mitsuba(), _traced(parts)
    origin, out = mi.Point3f(*eye.tolist()), np.zeros(len(points_w), bool)
    for i, direction in enumerate((points_w - eye).tolist()):
        ray = mi.Ray3f(origin, mi.Vector3f(*direction))
        ray.maxt = 1.0 - SELF_HIT
        out[i] = scene.ray_test(ray)
    return out


def _on_triangles(
    parts: list[Part], owner: np.ndarray, face: np.ndarray, eye: np.ndarray, rays: np.ndarray
) -> np.ndarray:
    """Where rays (H, W, 3) meet the planes of the given triangles, in double precision, (H, W, 3) world."""
    out = np.zeros(rays.shape)
    for i, part in enumerate(parts):
        here = owner == i
        if here.any():
            corners = transform(part.T_world_part, part.surface[0].astype(np.float64))[part.surface[3]][face[here] % len(part.surface[3])]  # fmt: skip
            normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
            along = (normal * rays[here]).sum(-1)
            distance = ((corners[:, 0] - eye) * normal).sum(-1) / np.where(np.abs(along) > 1e-15, along, 1e-15)
            out[here] = eye + rays[here] * distance[:, None]
    return out


# ---------------------------------------------------------------- sequences


def _sequence_rows(seed: int, still: bool) -> Iterator[Measure]:
    """Seven frames of the moving arm, each warped from the first one, against drawn ones."""
    scene = f"{seed:04d} arm{'' if still else ' + camera'}, {FRAMES} frames"
    quality: dict[str, list[float]] = {DRAWN: [], COMPOSED: [], ALONE: []}
    missing, chain, key = [], None, shot(seed, 0, "arm", still)
    known, last = picture(key), key
    plate = shot(seed, 0, "arm", still, robot=False)
    backdrop = make_backdrop(picture(plate), plate.depth_m, plate.view)
    for frame in range(1, FRAMES + 1):
        now = shot(seed, frame, "arm", still)
        true_rgb, behind = picture(now), view_backdrop(backdrop, now.view).rgb
        robots = [np.where(s.part >= len(plate.parts), s.ids, 0) for s in (now, key)]
        drawn = np.where((robots[0] > 0)[..., None], true_rgb, behind)
        back, step = flow_between(now, key), flow_between(now, last)
        chain = (step.flow_px, step.occluded) if chain is None else compose_flows(*chain, step.flow_px, step.occluded)
        ways = {
            DRAWN: (back.flow_px, back.occluded, drawn, *robots, True),
            COMPOSED: (*chain, drawn, *robots, True),
            ALONE: (back.flow_px, back.occluded, behind, *robots, False),
        }
        for method, way in ways.items():
            quality[method].append(psnr(warp_frames(known, *way)[0], true_rgb))
        missing.append(float(back.occluded.mean()))
        last = now
    for method, values in quality.items():
        target = None if method == ALONE else ">= 28"
        yield Measure("warped frame, worst of the sequence", scene, min(values), "dB", target, method)
    yield Measure("not in the first frame", scene, 100 * missing[-1], "%")


# ---------------------------------------------------------------- speed


def _speed_rows() -> Iterator[Measure]:
    """Processor time of flow and of warping, as a share of the fastest other way, one thread each, 640 x 480."""
    first, second = _larger(shot(0, 0, "arm", False)), _larger(shot(0, 3, "arm", False))
    T, views = motions(first, second), (first.view, second.view)
    inputs = (first.depth_m, first.ids, *views, T, second.depth_m, second.ids)
    found, rgb = flow_between(first, second), picture(first)
    with _one_thread():
        ours = _fastest(lambda: scene_flow(*inputs))
        others = {
            "numpy + OpenCV": _fastest(lambda: _flow_numpy(*inputs)),
            "torch": _fastest(lambda: _flow_torch(*inputs)),
        }
        yield from _ratios("flow and occlusion", ours, others)
        flow, hidden = found.flow_px, found.occluded
        ours = _fastest(lambda: warp_frames(rgb, flow, hidden, rgb))
        others = {"OpenCV": _fastest(lambda: _warp_opencv(rgb, flow, hidden)), "torch": _fastest(lambda: _warp_torch(rgb, flow, hidden))}  # fmt: skip
        yield from _ratios("warp", ours, others)


def _larger(frame: Shot) -> Shot:
    camera = frame.camera
    K = np.diag([BIG, BIG, 1.0]) @ np.array(camera["K_px"])
    camera = {**camera, "width": BIG * camera["width"], "height": BIG * camera["height"], "K_px": K.tolist()}
    seen = see_parts(camera, frame.parts)
    return Shot(frame.parts, camera, seen.part, seen.depth_m.astype(np.float32))


def _ratios(name: str, ours: float, others: dict[str, float]) -> Iterator[Measure]:
    yield Measure(f"{name}, ours", "640 x 480", 1000 * ours, "ms")
    for method, seconds in others.items():
        yield Measure(f"{name}, {method}", "640 x 480", 1000 * seconds, "ms")
    yield Measure(f"{name}, share of the fastest other", "640 x 480", ours / min(others.values()), "", "<= 1.0")


def _fastest(call: Callable[[], Any], rounds: int = 12) -> float:
    call()
    times = []
    for _ in range(rounds):
        started = time.process_time()
        call()
        times.append(time.process_time() - started)
    return min(times)


class _one_thread:  # noqa: N801
    """OpenCV and torch on one thread each, as Warp is, and as they were afterwards."""

    def __enter__(self) -> None:
        import cv2
        import torch

        self.before = cv2.getNumThreads(), torch.get_num_threads()
        cv2.setNumThreads(1)
        torch.set_num_threads(1)

    def __exit__(self, *_: object) -> None:
        import cv2
        import torch

        cv2.setNumThreads(self.before[0])
        torch.set_num_threads(self.before[1])


def _flow_numpy(depth_m: np.ndarray, ids: np.ndarray, camera_a: Camera, camera_b: Camera, T: np.ndarray, depth_b: np.ndarray, ids_b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """The same flow with a plain bilinear depth test: less than the kernel does."""
    import cv2

    T_b_a = (invert(camera_b.T_world_camera) @ T @ camera_a.T_world_camera).astype(np.float32)[ids]
    rays = pixel_rays(camera_a.K_px, camera_a.width, camera_a.height).astype(np.float32)
    p = np.einsum("hwij,hwj->hwi", T_b_a[..., :3, :3], rays * depth_m[..., None]) + T_b_a[..., :3, 3]
    u = (camera_b.K_px[0, 0] * p[..., 0] / p[..., 2] + camera_b.K_px[0, 2]).astype(np.float32) - 0.5
    v = (camera_b.K_px[1, 1] * p[..., 1] / p[..., 2] + camera_b.K_px[1, 2]).astype(np.float32) - 0.5
    there = cv2.remap(depth_b, u, v, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=0)
    y, x = np.indices(depth_m.shape, dtype=np.float32)
    return np.stack([u - x, v - y], -1), there < p[..., 2] * (1 - NOISE_SHARE) - NOISE_M


def _flow_torch(depth_m: np.ndarray, ids: np.ndarray, camera_a: Camera, camera_b: Camera, T: np.ndarray, depth_b: np.ndarray, ids_b: np.ndarray) -> tuple[Any, Any]:  # fmt: skip
    """The same in torch, with ``grid_sample`` for depth."""
    import torch

    T_b_a = torch.from_numpy((invert(camera_b.T_world_camera) @ T @ camera_a.T_world_camera).astype(np.float32))
    rays = torch.from_numpy(pixel_rays(camera_a.K_px, camera_a.width, camera_a.height).astype(np.float32))
    T_px = T_b_a[torch.from_numpy(ids).long()]
    p = (T_px[..., :3, :3] @ (rays * torch.from_numpy(depth_m)[..., None])[..., None])[..., 0] + T_px[..., :3, 3]
    K = camera_b.K_px
    u = float(K[0, 0]) * p[..., 0] / p[..., 2] + float(K[0, 2])
    v = float(K[1, 1]) * p[..., 1] / p[..., 2] + float(K[1, 2])
    grid = torch.stack([2 * u / camera_b.width - 1, 2 * v / camera_b.height - 1], -1)[None]
    there = torch.nn.functional.grid_sample(torch.from_numpy(depth_b)[None, None], grid, align_corners=False)[0, 0]
    y, x = torch.meshgrid(torch.arange(u.shape[0]), torch.arange(u.shape[1]), indexing="ij")
    return torch.stack([u - x - 0.5, v - y - 0.5], -1), there < p[..., 2] * (1 - NOISE_SHARE) - NOISE_M


def _warp_opencv(rgb: np.ndarray, flow_px: np.ndarray, hidden: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    import cv2

    y, x = np.indices(hidden.shape, dtype=np.float32)
    u, v = x + flow_px[..., 0], y + flow_px[..., 1]
    out = cv2.remap(rgb, u, v, cv2.INTER_LINEAR)
    holes = hidden | (u < 0) | (v < 0) | (u > rgb.shape[1] - 1) | (v > rgb.shape[0] - 1)
    out[holes] = rgb[holes]
    return out, holes


def _warp_torch(rgb: np.ndarray, flow_px: np.ndarray, hidden: np.ndarray) -> tuple[Any, Any]:
    import torch

    height, width = hidden.shape
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    flow = torch.from_numpy(flow_px)
    grid = torch.stack([2 * (x + 0.5 + flow[..., 0]) / width - 1, 2 * (y + 0.5 + flow[..., 1]) / height - 1], -1)[None]
    image = torch.from_numpy(rgb).permute(2, 0, 1)[None].float()
    out = torch.nn.functional.grid_sample(image, grid, align_corners=False)[0]
    holes = torch.from_numpy(hidden) | (grid[0].abs() > 1).any(-1)
    return torch.where(holes, image[0], out).round().byte(), holes
