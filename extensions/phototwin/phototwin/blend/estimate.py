"""The light of a photo, estimated from the photo and the geometry it shows.

Shading of known shapes and the shadows they cast say where light comes from; see ``estimate_fit`` for the model. A dominant
source is searched for over the upper half of all directions, refined, and kept as far as it explains the photo better than
an even sky does.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from phototwin.blend.estimate_fit import Evidence, Fits, fit_lights, segment_logs
from phototwin.blend.estimate_samples import (
    Samples,
    Surfaces,
    View,
    choose_samples,
    fresnel,
    incoming,
    look_at_photo,
    make_scene_blockers,
    sky_lobes,
    sphere_directions,
)
from phototwin.blend.estimate_segments import split_colors
from phototwin.blend.estimate_white import admit_white
from phototwin.frames import transform
from phototwin.images import load_ids, load_rgb
from phototwin.kernels.transfer import Blockers, see_sources
from phototwin.light import Light, ambient_irradiance, sh_basis, source_irradiance
from phototwin.scene import Camera, Scene

BRIGHTEST_ALBEDO, ALBEDO_SIGMA = 0.3, 0.6
"""Mean albedo that the two brightest segments are taken to have, and the spread of its logarithm: paints and woods, seldom white paper."""
EXPOSED_IRRADIANCE, EXPOSURE_SIGMA = 3.3, 0.5
"""Irradiance that a camera's automatic lets in, and the spread of its logarithm: white paint (albedo 0.8) that faces the light just does not clip."""
LEVEL_SIGMA = 0.12
"""Spread of the logarithm of what both say, as weighed against thousands of pixels whose errors are far from independent."""
CANDIDATES = 150
LOWEST_DEG = 12.0
START_DISTANCE_M, START_HALF_ANGLE = 2.0, 0.15
SEARCH_RAYS, REFINE_RAYS = 5, 14
STARTS, REFINE_ROUNDS = 2, 8
MIN_SAMPLES = 60
CENTER_ABOVE_M = 0.1
SIGMA_LOW, SIGMA_HIGH = 0.04, 0.5
ROUGHNESSES = (0.2, 0.45)
GLOSS = 0.7
LOWEST_ALBEDO = 0.02
COLOR_FREEDOM = 0.06
HALF_TRUSTED = 12.0
"""A source that lowers the loss by this much is half believed; clear shadows lower it by hundreds."""
WHITE = 0.85


@dataclass(frozen=True, eq=False)
class Source:
    """C candidate sources: direction (C, 3), inverse distance (C,) [1/m], angular radius (C,) [rad], all seen from the centre."""

    direction_w: np.ndarray
    inverse_m: np.ndarray
    half_angle: np.ndarray

    def __getitem__(self, at: np.ndarray | slice) -> Source:
        return Source(self.direction_w[at], self.inverse_m[at], self.half_angle[at])


def estimate_scene_light(scene: Scene) -> Light:
    """The light of a reconstructed twin's photo, measured a hand above its objects."""
    surfaces = [(scene.background.points, scene.background.faces)]
    surfaces += [(transform(o.T_world_object, o.mesh.points), o.mesh.faces) for o in scene.objects]
    middle = np.mean([o.T_world_object[:2, 3] for o in scene.objects] or [scene.support.polygon_w.mean(0)], axis=0)
    rgb, ids = load_rgb(scene.path(scene.photo)), load_ids(scene.path(scene.masks))
    return estimate_light(rgb, scene.camera, tuple(surfaces), ids, np.append(middle, CENTER_ABOVE_M))


def estimate_light(
    rgb: np.ndarray, camera: Camera, surfaces: Surfaces, ids: np.ndarray, center_w: np.ndarray, seed: int = 0
) -> Light:
    """The light of a photo as it arrives at ``center_w``.

    Args:
        rgb: The photo, (H, W, 3) uint8.
        camera: Its camera.
        surfaces: What it shows, each points (V, 3) [m] and faces (F, 3) in the world: the background with the table, then objects.
        ids: Which surface each pixel shows, (H, W): 0 the background, i + 1 the i-th object.
        center_w: Where the light is wanted, (3,) [m].
        seed: Chooses the pixels and turns the patterns of rays.
    """
    rng = np.random.default_rng(seed)
    view = look_at_photo(rgb, camera, surfaces, ids)
    everything, objects, backdrop = make_scene_blockers(surfaces)
    samples = choose_samples(view, surfaces, everything, rng)
    if len(samples.points_w) < MIN_SAMPLES:
        return guess_light(view, backdrop, center_w, "The photo shows too little of table and objects")
    problem = Problem.of(samples, objects, np.asarray(center_w, np.float64), float(view.mean.mean(1).max()))
    light = solve(view, backdrop, problem)
    # What is clipped is at least that bright; what is background may shine by itself.
    things = view.things
    return admit_white(light, view.linear[things], view.points_w[things], view.normals_w[things], view.surface[things])


@dataclass(frozen=True, eq=False)
class Problem:
    """What stays the same while sources are tried."""

    samples: Samples
    blockers: Blockers
    center_w: np.ndarray
    evidence: Evidence
    segment: np.ndarray
    shine: np.ndarray
    level: float

    @staticmethod
    def of(samples: Samples, blockers: Blockers, center_w: np.ndarray, brightest: float) -> Problem:
        """The problem of these samples."""
        segment = split_colors(samples.linear, samples.surface, samples.points_w)
        tone = samples.linear.mean(1)
        member = np.eye(segment.max() + 1)[segment]
        log = np.log(np.maximum(tone, 1e-5))
        counts = member.sum(0)
        medians = np.array([np.median(tone[segment == k]) for k in range(len(counts))])
        gauge = max(expected_level(medians, counts), float(np.log(np.pi * brightest / WHITE)))
        level = np.exp(gauge)
        shine = level / medians[segment]  # pi / albedo
        evidence = Evidence(log, samples.bounce.mean(1), member, np.full(len(log), 0.12), gauge, LEVEL_SIGMA)
        return Problem(
            samples, blockers, center_w, evidence, segment, np.minimum(shine, np.pi / LOWEST_ALBEDO), float(level)
        )


def expected_level(medians: np.ndarray, counts: np.ndarray) -> float:
    """Logarithm of the irradiance to expect of a photo whose segments have these brightnesses (K,) and numbers of pixels (K,)."""
    seen = medians[counts >= max(15, 0.02 * counts.sum())]
    brightest = np.sort(seen if len(seen) else medians)[-2:]
    by_albedo = np.log(np.pi / BRIGHTEST_ALBEDO) + np.log(brightest).mean()
    a, b = ALBEDO_SIGMA**-2, EXPOSURE_SIGMA**-2
    return float((a * by_albedo + b * np.log(EXPOSED_IRRADIANCE)) / (a + b))


def solve(view: View, backdrop: Blockers, problem: Problem) -> Light:
    """The light that explains the samples."""
    for _ in range(2):
        base, sigma = fit_sky(problem)
        problem = with_fit(problem, base, sigma)
    base, _ = fit_sky(problem)
    source, fit = search(problem)
    return assemble(view, backdrop, problem, base, source, fit)


def with_fit(problem: Problem, fit: Fits, sigma: np.ndarray) -> Problem:
    """The same with the spread of the pixels (P,) and the albedos that a fit gives."""
    logs = segment_logs(problem.evidence, fit.irradiance[0], fit.weight[0])
    shine = np.minimum(np.exp(-logs), np.pi / LOWEST_ALBEDO)[problem.segment]
    evidence = replace(problem.evidence, sigma=sigma, bounce=known_light(problem.samples, shine).mean(1))
    return replace(problem, evidence=evidence, shine=shine, level=float(np.exp(np.log(fit.irradiance[0]).mean())))


def known_light(samples: Samples, shine: np.ndarray) -> np.ndarray:
    """Irradiance (P, 3) from what the photo shows, and what would look the same as what the coat mirrors of it."""
    return samples.bounce + GLOSS * shine[:, None] / np.pi * samples.gloss_bounce


def priors(problem: Problem, own: int) -> tuple[np.ndarray, np.ndarray]:
    """What is expected of theta, and how surely."""
    level = problem.level
    lobes = problem.samples.sky.shape[1]
    prior = np.concatenate([[0.4], np.zeros(lobes - 1), np.zeros(own)])
    sigma = np.concatenate([[1.0, 0.5], np.full(6, 0.12), [0.5], np.full(lobes - 9, 0.12), np.full(own, 1.5)])
    return prior * level, sigma * level


def shared_columns(problem: Problem) -> np.ndarray:
    """Irradiance (P, L) of the lobes of the sky, and what would look the same as what the coat mirrors of them."""
    s = problem.samples
    return s.sky + GLOSS * problem.shine[:, None] / np.pi * s.gloss_sky


def fit_sky(problem: Problem) -> tuple[Fits, np.ndarray]:
    """The fit without any source, and the spread of the segments around it, (P,)."""
    prior, sigma = priors(problem, 0)
    e = problem.evidence
    fit = fit_lights(e, shared_columns(problem), np.zeros((1, len(e.log), 0)), prior, sigma)
    return fit, spreads(problem, fit.irradiance[0], fit.weight[0])


def spreads(problem: Problem, irradiance: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """How far the pixels of each segment are from a fit, (P,)."""
    e = problem.evidence
    off = np.abs(e.log - np.log(irradiance) - segment_logs(e, irradiance, weight)[problem.segment])
    per = np.array([1.48 * np.median(off[problem.segment == k]) for k in range(e.member.shape[1])])
    return np.clip(per, SIGMA_LOW, SIGMA_HIGH)[problem.segment]


def source_columns(problem: Problem, source: Source, rays: int) -> np.ndarray:
    """Irradiance (C, P, 3) of each source at strength 1, and how the table mirrors it at two roughnesses."""
    s, c = problem.samples, problem.center_w
    near = source.inverse_m > 0
    distance = 1 / np.where(near, source.inverse_m, 1.0)
    place = np.where(near[:, None], c + distance[:, None] * source.direction_w, source.direction_w)
    centers = np.concatenate([place, near[:, None]], 1)
    cosine = see_sources(
        problem.blockers, s.points_w, s.normals_w, s.turns, centers, distance * np.tan(source.half_angle), rays
    ).T
    towards = place[:, None] - near[:, None, None] * s.points_w
    far = np.linalg.norm(towards, axis=-1)
    cosine = cosine * np.where(near[:, None], (distance[:, None] / far) ** 2, 1.0)
    towards = towards / far[..., None]
    table = s.surface == 0
    half = towards + s.towards_camera
    half /= np.linalg.norm(half, axis=-1, keepdims=True)
    share = fresnel(np.clip((half * s.towards_camera).sum(-1), 0, 1))
    columns = [cosine]
    for rough in ROUGHNESSES:
        wide = rough**2
        h = half[..., 2]
        spread = wide / (np.pi * (h * h * (wide - 1) + 1) ** 2)
        facing = np.maximum(s.towards_camera[:, 2], 0.05) * np.maximum(towards[..., 2], 0.05)
        columns.append(np.where(table, problem.shine * spread * share / (4 * np.maximum(facing, 0.02)) * cosine, 0.0))
    return np.stack(columns, -1)


def fit_sources(problem: Problem, source: Source, rays: int) -> Fits:
    """Fits of C sources, their plausibility counted."""
    own = source_columns(problem, source, rays)
    prior, sigma = priors(problem, own.shape[-1])
    fit = fit_lights(problem.evidence, shared_columns(problem), own, prior, sigma)
    extra = 0.5 * (np.log(source.half_angle / 0.13) / 0.7) ** 2 + 0.5 * ((source.inverse_m - 0.5) / 0.5) ** 2
    return Fits(fit.theta, fit.loss + extra, fit.irradiance, fit.weight)


def search(problem: Problem) -> tuple[Source, Fits]:
    """The source that explains the photo best, and its fit."""
    directions = sphere_directions(CANDIDATES)
    directions = directions[directions[:, 2] > np.sin(np.deg2rad(LOWEST_DEG))]
    count = len(directions)
    coarse = Source(directions, np.full(count, 1 / START_DISTANCE_M), np.full(count, START_HALF_ANGLE))
    first = fit_sources(problem, coarse, SEARCH_RAYS)
    order = np.argsort(first.loss, kind="stable")
    starts = [order[0]]
    for i in order[1:]:
        if len(starts) < STARTS and all(directions[i] @ directions[j] < np.cos(np.deg2rad(35)) for j in starts):
            starts.append(i)
    found = [refine(problem, coarse[i : i + 1]) for i in starts]
    return min(found, key=lambda sf: sf[1].loss[0])


def refine(problem: Problem, source: Source) -> tuple[Source, Fits]:
    """The source moved, made nearer or farther, smaller or larger, as long as that explains more."""
    fit = fit_sources(problem, source, REFINE_RAYS)
    step, soft, away = np.deg2rad(9.0), 0.5, 0.25
    for _ in range(REFINE_ROUNDS):
        tries = neighbours(source, step, soft, away)
        fits = fit_sources(problem, tries, REFINE_RAYS)
        i = int(np.argmin(fits.loss))
        if fits.loss[i] < fit.loss[0]:
            source, fit = (
                tries[i : i + 1],
                Fits(*(v[i : i + 1] for v in (fits.theta, fits.loss, fits.irradiance, fits.weight))),
            )
        else:
            step, soft, away = step / 2, soft / 2, away / 2
    return source, fit


def neighbours(source: Source, step: float, soft: float, away: float) -> Source:
    """Sources a step away from the first."""
    d = source.direction_w[0]
    side = np.cross(d, [0.0, 0.0, 1.0] if abs(d[2]) < 0.95 else [1.0, 0.0, 0.0])
    side /= np.linalg.norm(side)
    up = np.cross(side, d)
    turn = np.arange(8) * np.pi / 4
    moved = d + np.tan(step) * (np.cos(turn)[:, None] * side + np.sin(turn)[:, None] * up)
    moved /= np.linalg.norm(moved, axis=1, keepdims=True)
    moved = moved[moved[:, 2] > np.sin(np.deg2rad(LOWEST_DEG - 4))]
    n = len(moved)
    direction = np.concatenate([moved, np.tile(d, (4, 1))])
    half = source.half_angle[0] * np.exp(np.concatenate([np.zeros(n), [soft, -soft, 0, 0]]))
    inverse = source.inverse_m[0] + np.concatenate([np.zeros(n + 2), [away, -away]])
    return Source(direction, np.clip(inverse, 0.0, 1.2), np.clip(half, 0.01, 0.5))


def assemble(view: View, backdrop: Blockers, problem: Problem, base: Fits, source: Source, fit: Fits) -> Light:
    """The light at the centre: what the source explains is mixed with the sky alone by how much better it explains."""
    lobes = problem.samples.sky.shape[1]
    gain = max(float(base.loss[0] - fit.loss[0]), 0.0)
    trust = gain / (gain + HALF_TRUSTED)
    theta = trust * channel_lights(problem, source, fit)[: lobes + 1]
    theta[:lobes] += (1 - trust) * base.theta[0, :lobes, None]
    sh = gather_sh(view, backdrop, problem.center_w, theta[:lobes])
    direction, inverse = source.direction_w[0], float(source.inverse_m[0])
    distance = 1 / inverse if inverse > 1e-3 else np.inf
    half = float(source.half_angle[0])
    light = Light(sh, direction, theta[lobes], half, distance, problem.center_w)
    return replace(light, note=describe_light(light, trust))


def describe_light(light: Light, trust: float) -> str:
    """One sentence for the report."""
    up = np.array([0.0, 0.0, 1.0])
    direct = source_irradiance(light, light.center_w, up).mean()
    share = direct / max(float(direct + ambient_irradiance(light, up).mean()), 1e-9)
    azimuth, elevation = np.rad2deg(
        [np.arctan2(light.direction_w[1], light.direction_w[0]), np.arcsin(light.direction_w[2])]
    )
    if share < 0.02:
        return "The light was estimated from shading and shadows in the photo: it comes evenly from above, no source stands out."
    sure = "clear" if trust > 0.9 else "weak" if trust > 0.5 else "hardly any"
    return (
        f"The light was estimated from shading and shadows in the photo: {100 * share:.0f} % of it comes from one source at azimuth "
        f"{azimuth:.0f} deg (0 is +X, 90 is +Y) and elevation {elevation:.0f} deg; the evidence for it is {sure}."
    )


def channel_lights(problem: Problem, source: Source, fit: Fits) -> np.ndarray:
    """Theta (L, 3) of the three channels, held near the grey fit; what comes from above is white as a whole."""
    own, e, s = source_columns(problem, source, REFINE_RAYS)[0], problem.evidence, problem.samples
    level = float(np.log(fit.irradiance[0]).mean())
    out = []
    for c in range(3):
        evidence = replace(e, log=np.log(np.maximum(s.linear[:, c], 1e-5)), gauge=level, gauge_sigma=0.02)
        shine = np.exp(-segment_logs(evidence, fit.irradiance[0], fit.weight[0]))[problem.segment]
        channel = replace(problem, shine=np.minimum(shine, np.pi / LOWEST_ALBEDO))
        evidence = replace(evidence, bounce=known_light(s, channel.shine)[:, c])
        columns = own * np.stack([np.ones_like(shine), *[channel.shine / problem.shine] * len(ROUGHNESSES)], -1)
        near = COLOR_FREEDOM * fit.theta[0] + 0.01 * problem.level
        out.append(fit_lights(evidence, shared_columns(channel), columns[None], fit.theta[0], near).theta[0])
    theta = np.stack(out, -1)
    lobes = s.sky.shape[1]
    above = theta[:lobes].sum(0) + theta[lobes] * source.direction_w[0, 2]
    return theta * (above.mean() / above)


def gather_sh(view: View, backdrop: Blockers, center_w: np.ndarray, sky: np.ndarray) -> np.ndarray:
    """Coefficients (9, 3) of what arrives at the centre from the sky and from what the photo shows, the objects aside: one may be around it."""
    directions = sphere_directions(1024)
    radiance, free = incoming(view, backdrop, center_w[None], directions[None])
    arriving = radiance[0] + free[0][:, None] * (sky_lobes(directions) @ sky)
    return 4 * np.pi * (sh_basis(directions)[:, :, None] * arriving[:, None]).mean(0)


def guess_light(view: View, backdrop: Blockers, center_w: np.ndarray, why: str) -> Light:
    """A light from above that makes a table of middling albedo look like this one."""
    level = np.pi * view.mean[0].mean() / 0.4
    sky = np.zeros((sky_lobes(np.zeros(3)).shape[-1], 3))
    sky[0], sky[1] = 0.45 * level, 0.25 * level
    direction = np.array([0.0, 0.0, 1.0])
    return Light(
        gather_sh(view, backdrop, np.asarray(center_w), sky),
        direction,
        np.full(3, 0.3 * level),
        0.4,
        np.inf,
        np.asarray(center_w, np.float64),
        why,
    )
