"""What a photo tells about its light: pixels with their place, their normal, their colour, and what blocks or lights them.

Everything happens at a reduced size, in linear RGB. Light that comes from what the photo shows is not estimated but looked
up: a ray that meets the scene brings the radiance that the photo has there.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from phototwin.frames import invert, pixel_rays, project, transform
from phototwin.kernels.rasterize import rasterize
from phototwin.kernels.transfer import RAY_START_M, Blockers, cast_rays, make_blockers
from phototwin.scene import Camera

WORK_WIDTH = 360
"""The photo is reduced by a whole factor until it is no wider than this [px]."""
DARK, BRIGHT = 0.003, 0.92
"""Linear values beyond these are lost in noise and in clipping."""
TABLE_M = 0.006
"""Background this close to z = 0 and facing up is the table [m]."""
NEAR_TABLE, FAR_TABLE, ON_OBJECTS = 700, 250, 550
"""Pixels taken of the table around objects, of the rest of it, and of all objects."""
SHADOW_REACH = 1.5
"""Shadows are looked for within this many heights of an object."""
HEMISPHERE_RAYS = 96
GLOSS_RAYS = 8
ROUGHNESS = 0.5
COAT = 0.04
"""Share of light from straight ahead that plastic, paint, lacquer and glaze mirror."""
SKY_RINGS = ((90.0, 1, 2, np.pi / 2), (25.0, 6, 2, 0.7948), (90.0, 1, 12, 2 * np.pi / 14), (55.0, 6, 6, 0.6436))
"""Lobes of the sky: elevation [deg], how many around, power of the cosine, and what one brings to a surface that faces up."""
GLOSS_RAYS = 8
ROUGHNESS = 0.5
COAT = 0.04
"""Share of light from straight ahead that plastic, paint, lacquer and glaze mirror."""
SIDE_ELEVATION_DEG = 25.0
SIDE_IRRADIANCE = 0.7948
"""What a lobe cos^2 about an axis of that elevation, cut at the horizon, brings to a surface that faces up."""
GOLDEN_ANGLE = np.pi * (3 - np.sqrt(5))

Surfaces = tuple[tuple[np.ndarray, np.ndarray], ...]


@dataclass(frozen=True, eq=False)
class View:
    """The photo, reduced, and what each of its pixels shows.

    Attributes:
        linear: (h, w, 3) linear RGB.
        good: (h, w) bool: shows one surface alone, neither dark nor clipped, and the meshes agree with the ids.
        surface: (h, w) int32 index of the surface that the meshes put there, -1 = none.
        depth_m: (h, w) depth of the meshes, 0 = none [m].
        points_w: (h, w, 3) [m].
        normals_w: (h, w, 3), towards the camera.
        K_px: Intrinsics of the reduced photo.
        T_world_camera: (4, 4).
        mean: Mean radiance of each surface, (N, 3); of the first only its table, where it shows any.
    """

    linear: np.ndarray
    good: np.ndarray
    surface: np.ndarray
    depth_m: np.ndarray
    points_w: np.ndarray
    normals_w: np.ndarray
    K_px: np.ndarray
    T_world_camera: np.ndarray
    mean: np.ndarray

    @property
    def things(self) -> np.ndarray:
        """Pixels (h, w) bool well inside objects, clipped ones among them."""
        return _inside(np.where(self.surface >= 1, self.surface, -2))

    @property
    def table(self) -> np.ndarray:
        """Pixels (h, w) that show the table's top."""
        return (self.surface == 0) & (np.abs(self.points_w[..., 2]) < TABLE_M) & (self.normals_w[..., 2] > 0.9)


@dataclass(frozen=True, eq=False)
class Samples:
    """P pixels and how light reaches them.

    Attributes:
        points_w: (P, 3) [m].
        normals_w: (P, 3).
        linear: (P, 3) linear RGB.
        surface: (P,) int, 0 = table.
        turns: (P,) angle of each point's pattern of rays [rad].
        sky: Irradiance (P, L) that each of the L lobes of ``sky_lobes`` brings, with what is in its way.
        bounce: Irradiance (P, 3) from what the photo shows.
        towards_camera: (P, 3) unit vectors.
        gloss_sky: The same as ``sky`` for light that a glossy coat mirrors: pi times the radiance of each lobe, times Fresnel's share, (P, L).
        gloss_bounce: The same as ``bounce``, (P, 3).
    """

    points_w: np.ndarray
    normals_w: np.ndarray
    linear: np.ndarray
    surface: np.ndarray
    turns: np.ndarray
    sky: np.ndarray
    bounce: np.ndarray
    towards_camera: np.ndarray
    gloss_sky: np.ndarray
    gloss_bounce: np.ndarray


def linear_from_srgb(rgb: np.ndarray) -> np.ndarray:
    """Linear values of 8-bit sRGB. Source: IEC 61966-2-1."""
    value = np.arange(256) / 255.0
    table = np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)
    return table.astype(np.float32)[rgb]


def sky_lobes(directions: np.ndarray) -> np.ndarray:
    """Radiance (..., L) of the lobes that make up the sky, for unit vectors (..., 3): even, from the zenith, and from six sides.

    None is negative, none is narrow, and each brings the irradiance 1 to a free surface that faces up.
    """
    z = directions[..., 2]
    lobes = [np.full((*z.shape, 1), 1 / np.pi)]
    for elevation, count, power, irradiance in SKY_RINGS:
        around = np.arange(count) * 2 * np.pi / count
        low, high = np.cos(np.deg2rad(elevation)), np.sin(np.deg2rad(elevation))
        axes = np.stack([low * np.cos(around), low * np.sin(around), np.full(count, high)], -1)
        lobes.append(np.maximum(directions @ axes.T, 0.0) ** power / irradiance)
    return np.where(z[..., None] > -1e-6, np.concatenate(lobes, -1), 0.0)


def sphere_directions(count: int) -> np.ndarray:
    """Unit vectors (count, 3), evenly over the sphere along a golden spiral."""
    z = 1 - (2 * np.arange(count) + 1) / count
    turn = GOLDEN_ANGLE * np.arange(count)
    return np.stack([np.sqrt(1 - z * z) * np.cos(turn), np.sqrt(1 - z * z) * np.sin(turn), z], -1)


def look_at_photo(rgb: np.ndarray, camera: Camera, surfaces: Surfaces, ids: np.ndarray) -> View:
    """The photo reduced to working size with the geometry that its pixels show.

    Args:
        rgb: (H, W, 3) uint8.
        camera: The photo's camera.
        surfaces: Points (V, 3) [m] and faces (F, 3) in the world: background, then objects.
        ids: Which surface each pixel shows, (H, W).
    """
    n = max(1, -(-camera.width // WORK_WIDTH))
    h, w = camera.height // n, camera.width // n
    blocks = (h, n, w, n)
    linear = linear_from_srgb(rgb[: h * n, : w * n]).reshape(*blocks, 3)
    kind = ids[: h * n, : w * n].astype(np.int32).reshape(blocks)
    low, high = kind.min((1, 3)), kind.max((1, 3))
    calm = (linear.max((1, 3, 4)) < BRIGHT) & (linear.mean((1, 3)).min(-1) > DARK)
    linear = linear.mean((1, 3))
    K = np.diag([1 / n, 1 / n, 1.0]) @ camera.K_px
    T = camera.T_world_camera
    first = np.cumsum([0, *(len(p) for p, _ in surfaces)])
    points = np.concatenate([np.asarray(p, np.float64).reshape(-1, 3) for p, _ in surfaces])
    faces = np.concatenate(
        [np.asarray(f, np.int32).reshape(-1, 3) + at for (_, f), at in zip(surfaces, first, strict=False)]
    )
    owner = np.repeat(np.arange(len(surfaces)), [len(f) for _, f in surfaces])
    raster = rasterize(transform(invert(T), points), faces, K, w, h)
    hit = raster.face >= 0
    face = np.maximum(raster.face, 0)
    surface = np.where(hit, owner[face], -1)
    points_w = transform(T, pixel_rays(K, w, h) * raster.depth_m[..., None])
    corners = points[faces]
    flat = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    flat /= np.maximum(np.linalg.norm(flat, axis=-1, keepdims=True), 1e-12)
    normals_w = flat[face]
    away = ((points_w - T[:3, 3]) * normals_w).sum(-1) > 0
    normals_w = np.where(away[..., None], -normals_w, normals_w)
    good = hit & calm & _inside(np.where((low == high) & (low == surface), surface, -2))
    view = View(linear, good, surface, raster.depth_m, points_w, normals_w, K, T, np.zeros((len(surfaces), 3)))
    table = view.table
    for i in range(len(surfaces)):
        here = surface == i if i or not table.any() else table
        view.mean[i] = linear[here].mean(0) if here.any() else linear.mean((0, 1))
    return view


def _inside(label: np.ndarray) -> np.ndarray:
    """Pixels whose eight neighbours all have their label, and none below 0."""
    padded = np.pad(label, 1, constant_values=-2)
    h, w = label.shape
    around = np.stack([padded[y : y + h, x : x + w] for y in range(3) for x in range(3)])
    return (around == label).all(0) & (label >= 0)


def choose_samples(view: View, surfaces: Surfaces, blockers: Blockers, rng: np.random.Generator) -> Samples:
    """Pixels of the table, most of them where shadows may fall, and of the objects, with the light that reaches them."""
    table = view.good & view.table
    near = table & _near_objects(view, surfaces)
    picks = [_pick(near, NEAR_TABLE, rng), _pick(table & ~near, FAR_TABLE, rng)]
    shown = [(view.good & (view.surface == i)) for i in range(1, len(surfaces))]
    count = sum(bool(s.any()) for s in shown)
    picks += [_pick(s, ON_OBJECTS // max(count, 1), rng) for s in shown]
    at = np.concatenate(picks)
    rows, columns = np.unravel_index(at, view.good.shape)
    points_w, normals_w = view.points_w[rows, columns], view.normals_w[rows, columns].copy()
    surface = view.surface[rows, columns]
    normals_w[surface == 0] = (0.0, 0.0, 1.0)
    turns = rng.uniform(0, 2 * np.pi, len(at))
    sky, bounce = gather_light(view, blockers, points_w, normals_w, turns)
    towards = view.T_world_camera[:3, 3] - points_w
    towards /= np.linalg.norm(towards, axis=1, keepdims=True)
    gloss = mirror_light(view, blockers, points_w, normals_w, towards, turns)
    return Samples(points_w, normals_w, view.linear[rows, columns], surface, turns, sky, bounce, towards, *gloss)


def _near_objects(view: View, surfaces: Surfaces) -> np.ndarray:
    """Pixels (h, w) whose points lie where an object's shadow could fall."""
    near = np.zeros(view.good.shape, bool)
    for points, _ in surfaces[1:]:
        low, high = np.min(points, axis=0), np.max(points, axis=0)
        reach = np.linalg.norm(high[:2] - low[:2]) / 2 + SHADOW_REACH * max(high[2], 0.01)
        away = view.points_w[..., :2] - (low[:2] + high[:2]) / 2
        near |= (away**2).sum(-1) < reach**2
    return near


def _pick(mask: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    at = np.flatnonzero(mask)
    return at if len(at) <= count else np.sort(rng.choice(at, count, replace=False))


def gather_light(
    view: View, blockers: Blockers, points_w: np.ndarray, normals_w: np.ndarray, turns: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Irradiance (P, L) of the lobes of the sky and (P, 3) of the light from what the photo shows, by rays in proportion to the cosine."""
    k = (np.arange(HEMISPHERE_RAYS) + 0.5) / HEMISPHERE_RAYS
    turn = turns[:, None] + GOLDEN_ANGLE * np.arange(HEMISPHERE_RAYS)
    local = np.stack([np.sqrt(k) * np.cos(turn), np.sqrt(k) * np.sin(turn), np.sqrt(1 - k) * np.ones_like(turn)], -1)
    side = np.cross(normals_w, np.where(np.abs(normals_w[:, 2:]) < 0.9, [[0.0, 0.0, 1.0]], [[1.0, 0.0, 0.0]]))
    side /= np.linalg.norm(side, axis=1, keepdims=True)
    directions = np.einsum("prk,kpc->prc", local, np.stack([side, np.cross(normals_w, side), normals_w]))
    origins = points_w + RAY_START_M * normals_w
    radiance, free = incoming(view, blockers, origins, directions)
    sky = np.pi * (sky_lobes(directions) * free[..., None]).mean(1)
    return sky, np.pi * radiance.mean(1)


def mirror_light(
    view: View, blockers: Blockers, points_w: np.ndarray, normals_w: np.ndarray, towards: np.ndarray, turns: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """What a rough coat mirrors towards the camera: pi times the radiance of the lobes (P, L) and of the photo (P, 3), times Fresnel's share."""
    k = (np.arange(GLOSS_RAYS) + 0.5) / GLOSS_RAYS
    turn = turns[:, None] + GOLDEN_ANGLE * np.arange(GLOSS_RAYS)
    slope = ROUGHNESS**2 * np.sqrt(k / (1 - k))  # of microfacets. Source: Walter et al. (2007), equation 35
    side = np.cross(normals_w, np.where(np.abs(normals_w[:, 2:]) < 0.9, [[0.0, 0.0, 1.0]], [[1.0, 0.0, 0.0]]))
    side /= np.linalg.norm(side, axis=1, keepdims=True)
    up = np.cross(side, normals_w)
    facet = normals_w[:, None] + slope[:, None] * (
        np.cos(turn)[..., None] * side[:, None] + np.sin(turn)[..., None] * up[:, None]
    )
    facet /= np.linalg.norm(facet, axis=-1, keepdims=True)
    facing = np.clip((facet * towards[:, None]).sum(-1), 0, 1)
    directions = 2 * facing[..., None] * facet - towards[:, None]
    leaves = (directions * normals_w[:, None]).sum(-1) > 0.02
    radiance, free = incoming(view, blockers, points_w + RAY_START_M * normals_w, directions)
    share = np.pi * np.where(leaves, fresnel(facing), 0.0)[..., None]
    return (share * sky_lobes(directions) * free[..., None]).mean(1), (share * radiance).mean(1)


def fresnel(cosine: np.ndarray) -> np.ndarray:
    """Share of light that a coat mirrors. Source: Schlick (1994)."""
    return COAT + (1 - COAT) * (1 - cosine) ** 5


def incoming(
    view: View, blockers: Blockers, origins: np.ndarray, directions: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Radiance (P, R, 3) that the photo shows where rays meet the scene, 0 where they reach the sky; and whether they do (P, R).

    What the photo does not show of a surface is taken to look like the rest of it; the table goes on beyond its mesh.
    """
    distance, owner = cast_rays(blockers, origins, directions)
    down = directions[..., 2] < -1e-6
    missed_down = (owner < 0) & down
    with np.errstate(divide="ignore", invalid="ignore"):
        to_floor = np.maximum(origins[:, None, 2], 0.0) / -directions[..., 2]
    distance = np.where(missed_down, to_floor, distance)
    owner = np.where(missed_down, 0, owner)
    met = owner >= 0
    radiance = np.zeros((*met.shape, 3))
    points_w = (origins[:, None] + directions * np.where(met, distance, 0.0)[..., None])[met]
    radiance[met] = radiance_at(view, points_w, owner[met])
    return radiance, ~met


def radiance_at(view: View, points_w: np.ndarray, owner: np.ndarray) -> np.ndarray:
    """Radiance (N, 3) that the photo shows of surface ``owner`` (N,) at points (N, 3); the surface's mean where it is hidden."""
    h, w = view.surface.shape
    points_c = transform(invert(view.T_world_camera), points_w)
    ahead = points_c[:, 2] > 0.01
    uv = project(view.K_px, np.where(ahead[:, None], points_c, [[0.0, 0.0, 1.0]]))
    column, row = (np.floor(np.clip(uv[:, i], -1, n)).astype(int) for i, n in ((0, w), (1, h)))
    shown = ahead & (column >= 0) & (column < w) & (row >= 0) & (row < h)
    row, column = np.where(shown, row, 0), np.where(shown, column, 0)
    shown &= (view.surface[row, column] == owner) & (
        np.abs(view.depth_m[row, column] - points_c[:, 2]) < 0.03 * points_c[:, 2]
    )
    return np.where(shown[:, None], view.linear[row, column], view.mean[owner])


def make_scene_blockers(surfaces: Surfaces) -> tuple[Blockers, Blockers, Blockers]:
    """All surfaces for light that bounces; the objects alone for shadows, a wall in the background may be made up; the background alone."""
    return make_blockers(surfaces), make_blockers(surfaces[1:]), make_blockers(surfaces[:1])
