"""Render a known thing by sphere tracing, fit it from mask, depth and colour, and compare sizes, closedness and pieces."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from phototwin.build.fit import FitConfig, FittedShape, fit_object, mesh_facts
from phototwin.errors import InputError, PerceptionError
from phototwin.frames import make_T, pixel_rays, rotation_z, support_depth, transform

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
WIDTH, HEIGHT = 320, 240
K_PX = np.array([[300.0, 0, 161], [0, 300.0, 118], [0, 0, 1]])

Distance = Callable[[np.ndarray], np.ndarray]


def looking_down(pitch_deg: float, height_m: float) -> np.ndarray:
    pitch = np.radians(pitch_deg)
    z = np.array([np.cos(pitch), 0, -np.sin(pitch)])
    x = np.array([0.0, -1.0, 0.0])
    return make_T(np.stack([x, np.cross(z, x), z], 1), np.array([0, 0, height_m]))


def box_distance(size: tuple[float, float, float]) -> Distance:
    def distance(p: np.ndarray) -> np.ndarray:
        gap = np.abs(p - [0, 0, size[2] / 2]) - np.array(size) / 2
        return np.linalg.norm(np.maximum(gap, 0), axis=-1) + np.minimum(gap.max(axis=-1), 0)

    return distance


def cylinder_distance(radius: float, tall: float) -> Distance:
    def distance(p: np.ndarray) -> np.ndarray:
        gap = np.stack([np.hypot(p[..., 0], p[..., 1]) - radius, np.abs(p[..., 2] - tall / 2) - tall / 2], -1)
        return np.linalg.norm(np.maximum(gap, 0), axis=-1) + np.minimum(gap.max(axis=-1), 0)

    return distance


def sphere_distance(radius: float) -> Distance:
    return lambda p: np.linalg.norm(p - [0, 0, radius], axis=-1) - radius


def bowl_distance(foot: float, mouth: float, tall: float, wall: float) -> Distance:
    """A cone's wall and a floor disc, both ``wall`` thick with round edges; the outside reaches exactly the sizes given."""
    w = wall / 2
    a, b = np.array([foot - w, w]), np.array([mouth - w, tall - w])

    def segment(q: np.ndarray, start: np.ndarray, stop: np.ndarray) -> np.ndarray:
        way = stop - start
        share = np.clip((q - start) @ way / (way @ way), 0, 1)
        return np.linalg.norm(q - start - share[..., None] * way, axis=-1)

    def distance(p: np.ndarray) -> np.ndarray:
        q = np.stack([np.hypot(p[..., 0], p[..., 1]), p[..., 2]], -1)
        return np.minimum(segment(q, a, b), segment(q, np.array([0.0, w]), a)) - w

    return distance


THINGS: dict[str, tuple[Distance, tuple[float, float, float]]] = {
    "box": (box_distance((0.12, 0.07, 0.16)), (0.12, 0.07, 0.16)),
    "cylinder": (cylinder_distance(0.035, 0.12), (0.07, 0.07, 0.12)),
    "sphere": (sphere_distance(0.04), (0.08, 0.08, 0.08)),
    "bowl": (bowl_distance(0.03, 0.075, 0.07, 0.006), (0.15, 0.15, 0.07)),
}


def vessel_distance(outline: list[tuple[float, float]], wall: float) -> Distance:
    """A wall along (radius, height) points and a floor disc at the first of them, ``wall`` thick with round edges."""
    w = wall / 2
    line = np.array([(0.0, w), *((r - w, np.clip(z, w, outline[-1][1] - w)) for r, z in outline)])

    def distance(p: np.ndarray) -> np.ndarray:
        q = np.stack([np.hypot(p[..., 0], p[..., 1]), p[..., 2]], -1)
        parts = []
        for a, b in itertools.pairwise(line):
            share = np.clip((q - a) @ (b - a) / max((b - a) @ (b - a), 1e-12), 0, 1)
            parts.append(np.linalg.norm(q - a - share[..., None] * (b - a), axis=-1))
        return np.min(parts, axis=0) - w

    return distance


ROUND = [(0.045 + 0.035 * np.sin(t), 0.065 * (1 - np.cos(t))) for t in np.linspace(0, np.pi / 2, 8)]
VESSELS: dict[str, tuple[Distance, tuple[float, float, float]]] = {
    "round bowl": (vessel_distance(ROUND, 0.005), (0.16, 0.16, 0.065)),
    "cup": (vessel_distance([(0.041, 0.0), (0.041, 0.095)], 0.005), (0.082, 0.082, 0.095)),
}


@cache
def render(name: str, yaw_deg: float, pitch_deg: float, scale: float = 1.0, away_m: float = 0.7):
    """mask, T_world_camera, depth over the table, shaded photo."""
    distance_o, _ = (THINGS | VESSELS)[name]
    T_world_camera = looking_down(pitch_deg, away_m * np.sin(np.radians(pitch_deg)))
    center = np.array([away_m * np.cos(np.radians(pitch_deg)) - 0.02, 0.03, 0.0])
    R = rotation_z(np.radians(yaw_deg))

    def distance(p: np.ndarray) -> np.ndarray:
        return distance_o((p - center) @ R / scale) * scale

    rays = pixel_rays(K_PX, WIDTH, HEIGHT) @ T_world_camera[:3, :3].T
    length = np.linalg.norm(rays, axis=-1)
    table = support_depth(K_PX, T_world_camera, WIDTH, HEIGHT)
    depth = np.full((HEIGHT, WIDTH), 0.2)
    live = np.ones((HEIGHT, WIDTH), dtype=bool)
    for _ in range(70):
        gap = distance(T_world_camera[:3, 3] + depth[live, None] * rays[live])
        depth[live] += gap / length[live]
        live[live] = (gap > 2e-5) & (depth[live] < table[live])
    mask = (depth < table - 1e-4) & ~live
    depth = np.where(mask, depth, np.where(np.isfinite(table) & (table < 3), table, 0)).astype(np.float32)
    p = T_world_camera[:3, 3] + depth[..., None] * rays
    slope = [distance(p + 1e-4 * axis) - distance(p - 1e-4 * axis) for axis in np.eye(3)]
    lamp = np.array([-0.6, 0.35, 0.72])
    shade = 0.55 + 0.4 * (np.stack(slope, -1) / 2e-4) @ lamp
    if name in VESSELS:  # a wall keeps the lamp from the other one: about half of the light there comes from around
        way = p[mask][:, None] + np.linspace(0.004, 0.16, 60)[:, None] * lamp
        shade[mask] = np.where((distance(way) < 0.0005).any(axis=-1), 0.5 * shade[mask], shade[mask])
    rgb = np.where(mask[..., None], np.clip(shade, 0, 1)[..., None] * [90, 180, 110], [150, 110, 80])
    return mask, T_world_camera, depth, rgb.astype(np.uint8)


def noisy(mask: np.ndarray, depth: np.ndarray, seed: int = 0, border_px: float = 1.2) -> tuple[np.ndarray, np.ndarray]:
    """The mask's border moved by about a pixel here and there, depth with 1.5 mm of noise, 4 % holes and smeared edges."""
    import cv2

    rng = np.random.default_rng(seed)
    wobble = cv2.GaussianBlur(rng.normal(size=mask.shape).astype(np.float32), (0, 0), 3)
    signed = cv2.distanceTransform(mask.astype(np.uint8), cv2.DIST_L2, 3) - cv2.distanceTransform(
        (~mask).astype(np.uint8), cv2.DIST_L2, 3
    )
    rough = signed + border_px * wobble / wobble.std() > 0
    smeared = cv2.blur(depth, (3, 3)) + rng.normal(size=depth.shape) * 0.0015
    return rough, np.where((depth > 0) & (rng.random(depth.shape) > 0.04), smeared, 0).astype(np.float32)


def check_sound(fit: FittedShape) -> None:
    """Closed, outward, on the table, pieces convex and of about the mesh's volume, frame as documented."""
    from scipy.spatial import ConvexHull

    facts = mesh_facts(fit)
    assert facts["closed"] and facts["volume_m3"] > 0
    assert facts["pieces_volume_m3"] == pytest.approx(facts["volume_m3"], rel=0.15)
    for piece in fit.pieces:
        a, b, c = (piece.points[piece.faces[:, i]].astype(np.float64) for i in range(3))
        volume = np.einsum("ij,ij->i", a, np.cross(b, c)).sum() / 6
        assert volume == pytest.approx(ConvexHull(piece.points.astype(np.float64)).volume, rel=1e-3)
    assert fit.points.dtype == np.float32 and fit.faces.dtype == np.int32 and len(fit.faces) <= 3000
    low, high = fit.points.min(axis=0), fit.points.max(axis=0)
    np.testing.assert_allclose(low + high, 0, atol=1e-5)
    np.testing.assert_allclose(high - low, fit.size_m, atol=1e-5)
    assert fit.size_m[0] >= fit.size_m[1] - 1e-6
    np.testing.assert_allclose(fit.T_world_object[:3, 2], [0, 0, 1], atol=1e-9)
    assert transform(fit.T_world_object, fit.points.astype(np.float64))[:, 2].min() > -1e-6


EXPECTED = {"box": "box", "cylinder": "cylinder", "sphere": "sphere", "bowl": "revolution"}


@pytest.mark.parametrize(("yaw", "pitch"), [(20.0, 35.0), (64.0, 50.0)])
@pytest.mark.parametrize("name", THINGS)
def test_recovers_with_depth(name, yaw, pitch):
    mask, T_world_camera, depth, rgb = render(name, yaw, pitch)
    mask, depth = noisy(mask, depth)
    fit = fit_object(mask, K_PX, T_world_camera, depth, rgb, FitConfig())
    assert fit.shape == EXPECTED[name], fit.notes
    assert fit.hollow == (name == "bowl")
    np.testing.assert_allclose(fit.size_m, THINGS[name][1], rtol=0.03)
    assert fit.iou > 0.9 and fit.depth_rmse_m is not None and fit.depth_rmse_m < 0.003
    assert transform(fit.T_world_object, fit.points.astype(np.float64))[:, 2].min() == pytest.approx(0, abs=1e-6)
    check_sound(fit)


@pytest.mark.parametrize(("name", "yaw", "pitch"), [*((n, 20.0, 35.0) for n in THINGS), ("box", 64.0, 50.0)])
def test_recovers_from_the_silhouette(name, yaw, pitch):
    mask, T_world_camera, _, rgb = render(name, yaw, pitch)
    fit = fit_object(mask, K_PX, T_world_camera, None, rgb, FitConfig())
    assert fit.shape == EXPECTED[name], fit.notes
    assert fit.depth_rmse_m is None
    expected = np.array(THINGS[name][1])
    loose = 0.18 if name == "box" else 0.08
    np.testing.assert_allclose(fit.size_m[:2], expected[:2], rtol=loose)
    np.testing.assert_allclose(fit.size_m[2], expected[2], rtol=0.08)
    assert fit.iou > 0.95
    check_sound(fit)


@pytest.mark.parametrize("pitch", [38.0, 52.0])
@pytest.mark.parametrize("name", VESSELS)
def test_a_vessel_without_depth_is_no_solid_disc(name, pitch):
    """Its outline is nearly that of a solid disc with half its height, or of a can; the light inside the rim tells."""
    mask, T_world_camera, _, rgb = render(name, 20.0, pitch)
    fit = fit_object(mask, K_PX, T_world_camera, None, rgb, FitConfig())
    assert fit.shape == "revolution" and fit.hollow, fit.notes
    np.testing.assert_allclose(fit.size_m[:2], VESSELS[name][1][:2], rtol=0.08)
    assert fit.size_m[2] == pytest.approx(VESSELS[name][1][2], rel=0.2)
    check_sound(fit)


def test_a_hidden_foot_and_a_poor_fit_are_told():
    mask, T_world_camera, _, rgb = render("round bowl", 20.0, 52.0)
    fit = fit_object(mask, K_PX, T_world_camera, None, rgb, FitConfig())
    assert "mm tall would look the same" in fit.notes and "doubtful" not in fit.notes
    mask, T_world_camera, _, rgb = render("box", 20.0, 35.0)
    poor = fit_object(mask, K_PX, T_world_camera, None, rgb, FitConfig(shapes=("sphere",)))
    assert "doubtful" in poor.notes


@pytest.mark.parametrize(("name", "scale"), [("box", 0.45), ("cylinder", 0.6), ("sphere", 0.8)])
def test_small_things_stay_simple(name, scale):
    """30 pixels across, ragged mask, no depth: the right simple shape, or at least a sound one of the right height."""
    mask, T_world_camera, depth, rgb = render(name, 33.0, 40.0, scale, 0.75)
    assert 18 < np.sqrt(mask.sum()) < 32
    mask, _ = noisy(mask, depth, 1, 0.6)
    fit = fit_object(mask, K_PX, T_world_camera, None, rgb, FitConfig())
    assert fit.shape == EXPECTED[name], fit.notes
    assert fit.size_m[2] == pytest.approx(scale * THINGS[name][1][2], rel=0.2)
    check_sound(fit)


@pytest.mark.parametrize("grow", [-1, 1])
def test_a_sloppy_mask_moves_sizes_little(grow):
    import cv2

    mask, T_world_camera, depth, rgb = render("box", 20.0, 35.0)
    change = cv2.erode if grow < 0 else cv2.dilate
    sloppy = change(mask.astype(np.uint8), np.ones((2 * abs(grow) + 1,) * 2, np.uint8)) > 0
    fit = fit_object(sloppy, K_PX, T_world_camera, depth, rgb, FitConfig())
    assert fit.shape == "box"
    np.testing.assert_allclose(fit.size_m, THINGS["box"][1], rtol=0.08)


def test_same_input_same_bytes():
    mask, T_world_camera, depth, rgb = render("cylinder", 20.0, 35.0)
    one, two = (fit_object(mask, K_PX, T_world_camera, depth, rgb, FitConfig()) for _ in range(2))
    np.testing.assert_array_equal(one.points, two.points)
    np.testing.assert_array_equal(one.T_world_object, two.T_world_object)


def test_only_the_asked_shapes_compete():
    mask, T_world_camera, depth, rgb = render("cylinder", 20.0, 35.0)
    fit = fit_object(mask, K_PX, T_world_camera, depth, rgb, FitConfig(shapes=("box",)))
    assert fit.shape == "box" and "cylinder" not in fit.notes


def test_stands_on_what_is_below_it():
    """The same can on a 5 cm block: its bottom is at 5 cm, and the block's pixels are not its own."""
    mask, T_world_camera, depth, rgb = render("cylinder", 20.0, 40.0)
    raised = T_world_camera.copy()
    raised[2, 3] += 0.05  # lift camera and everything it sees; the ground is then 5 cm below the plane seen
    fit = fit_object(mask, K_PX, raised, depth, rgb, FitConfig())
    bottom = transform(fit.T_world_object, fit.points.astype(np.float64))[:, 2].min()
    assert bottom == pytest.approx(0.05, abs=0.004)
    assert fit.size_m[2] == pytest.approx(0.12, rel=0.05)


def test_bad_input_says_why():
    mask, T_world_camera, depth, rgb = render("box", 20.0, 35.0)
    with pytest.raises(InputError, match="one photo"):
        fit_object(mask, K_PX, T_world_camera, depth[:-1], rgb, FitConfig())
    with pytest.raises(InputError, match="empty"):
        fit_object(np.zeros_like(mask), K_PX, T_world_camera, depth, rgb, FitConfig())
    tiny = np.zeros_like(mask)
    tiny[100:103, 100:103] = True
    with pytest.raises(PerceptionError, match="pixels"):
        fit_object(tiny, K_PX, T_world_camera, depth, rgb, FitConfig())
    upward = T_world_camera.copy()
    upward[:3, 1:3] *= -1
    with pytest.raises(PerceptionError, match="support"):
        fit_object(mask, K_PX, upward, None, rgb, FitConfig())


@pytest.mark.skipif(not DATA.is_dir(), reason="the shared captures are not here")
def test_rendered_mug_and_bowl_match_their_complete_clouds():
    import json

    from PIL import Image
    from scipy.spatial import cKDTree

    folder = DATA / "pcr_google7"
    scene = json.loads((folder / "scene.json").read_text())
    K = np.array(
        [[scene["K_px"]["fx"], 0, scene["K_px"]["cx"]], [0, scene["K_px"]["fy"], scene["K_px"]["cy"]], [0, 0, 1]]
    )
    ids = np.asarray(Image.open(folder / "masks.png"))
    depth = np.asarray(Image.open(folder / "depth.png")).astype(np.float32) / 1000
    clouds = np.load(folder / "complete_points_world.npz")
    for index, least in ((2, 0.97), (3, 0.97)):
        fit = fit_object(ids == index + 1, K, np.array(scene["T_world_camera"]), depth, None, FitConfig())
        truth = clouds["points_w"][clouds["instance"] == index]
        surface = transform(fit.T_world_object, fit.points.astype(np.float64))
        corners = surface[fit.faces]
        weights = np.random.default_rng(0).dirichlet(np.ones(3), size=(len(corners), 8))
        samples = np.einsum("fsk,fkj->fsj", weights, corners).reshape(-1, 3)
        precision = np.mean(cKDTree(truth).query(samples)[0] < 0.01)
        recall = np.mean(cKDTree(samples).query(truth)[0] < 0.01)
        assert fit.shape == "revolution" and fit.hollow, fit.notes
        assert 2 * precision * recall / (precision + recall) > least
        check_sound(fit)
