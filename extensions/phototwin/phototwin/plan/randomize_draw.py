"""What one attempt draws from the ranges of domain randomisation.

Attempt i of a run draws each factor from ``SeedSequence([seed, i, factor])`` alone: what it draws does not depend on what ran before
or beside it, nor on whether other factors vary. Numbers are drawn as shares of their range, so in a run with twice the range an attempt
is off twice as far in the same direction: sweeps compare like with like. Attempt 0 is the photo itself.
"""

from __future__ import annotations

import json
import zlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from phototwin.errors import InputError
from phototwin.frames import quat_xyzw_from_matrix
from phototwin.plan.randomize import Randomization
from phototwin.plan.randomize_places import Room, draw_places

GRAVITY_M_S2 = 9.81
LOWEST_SOURCE = 0.2
"""Sine of the height above the support at which a source may stand: lower, and shadows reach across the whole scene."""


@dataclass(frozen=True)
class LightDraw:
    """How the light differs from the photo's.

    Attributes:
        turn_rad: Turn of the source about the scene, a rotation vector in the world frame.
        all_rgb: Factor of all light, linear RGB.
        source: Further factor of the dominant source.
        on_photo: Share of the change that the photo's own pixels follow.
    """

    turn_rad: tuple[float, float, float] = (0.0, 0.0, 0.0)
    all_rgb: tuple[float, float, float] = (1.0, 1.0, 1.0)
    source: float = 1.0
    on_photo: float = 0.0

    @property
    def changes(self) -> bool:
        """Whether the light is not the photo's."""
        return self != LightDraw(on_photo=self.on_photo)


@dataclass(frozen=True)
class SurfaceDraw:
    """How a surface differs from the photo's: factor of its colour (linear RGB), contrast and seed of a pattern on it."""

    gain_rgb: tuple[float, float, float] = (1.0, 1.0, 1.0)
    pattern: float = 0.0
    pattern_seed: int = 0


@dataclass(frozen=True)
class BackgroundDraw:
    """How what is not the support differs: factor of its colour (linear RGB), blur [image widths], and which picture replaces it ("" none)."""

    gain_rgb: tuple[float, float, float] = (1.0, 1.0, 1.0)
    blur: float = 0.0
    picture: str = ""


@dataclass(frozen=True)
class CameraDraw:
    """How the camera differs: shift along its axes [m], turn about them as a rotation vector [rad], factor of its focal length."""

    shift_m: tuple[float, float, float] = (0.0, 0.0, 0.0)
    turn_rad: tuple[float, float, float] = (0.0, 0.0, 0.0)
    zoom: float = 1.0


@dataclass(frozen=True, eq=False)
class Draw:
    """All that one attempt draws.

    Attributes:
        attempt: Its index.
        T_world_objects: Where every object starts, key -> (4, 4).
        mass_factor: By which the mass of every object differs from the twin's, key -> factor.
        friction_factor: By which friction differs.
        stiffness_factor: By which the stiffness of the robot's drives differs.
        damping_factor: By which their damping differs.
        gravity_m_s2: Gravity, world frame, (3,).
        camera, light, robot, table, background: How they differ from the photo's.
        note: What could not be drawn as asked; empty otherwise.
    """

    attempt: int
    T_world_objects: dict[str, np.ndarray]
    mass_factor: dict[str, float]
    friction_factor: float = 1.0
    stiffness_factor: float = 1.0
    damping_factor: float = 1.0
    gravity_m_s2: tuple[float, float, float] = (0.0, 0.0, -GRAVITY_M_S2)
    camera: CameraDraw = CameraDraw()
    light: LightDraw = LightDraw()
    robot: SurfaceDraw = SurfaceDraw()
    table: SurfaceDraw = SurfaceDraw()
    background: BackgroundDraw = BackgroundDraw()
    note: str = ""

    @property
    def looks_like_photo(self) -> bool:
        """Whether camera, light and all that does not move are the photo's."""
        plain = self.table == self.robot == SurfaceDraw() and self.background == BackgroundDraw()
        return plain and self.camera == CameraDraw() and not self.light.changes


def draw_to_json(draw: Draw) -> dict[str, Any]:
    """Plain values of a draw, for an episode's provenance."""
    value = asdict(draw)
    value["T_world_objects"] = {key: T.tolist() for key, T in draw.T_world_objects.items()}
    return json.loads(json.dumps(value))


def factor_rng(seed: int, attempt: int, factor: str) -> np.random.Generator:
    """The random numbers of one factor in one attempt: a function of the three alone."""
    return np.random.default_rng(np.random.SeedSequence([seed, attempt, zlib.crc32(factor.encode())]))


def draw_attempt(room: Room, seed: int, attempt: int, config: Randomization) -> Draw:
    """Everything that an attempt draws, a pure function of its arguments; attempt 0 is the photo itself."""
    poses, note = attempt_poses(room, seed, attempt, config)
    if attempt == 0:
        return Draw(0, poses, dict.fromkeys(poses, 1.0))
    dice = _Dice(seed, attempt, config)
    shift, turn, zoom = (dice.even(f"camera_{name}", 3) for name in ("shift_m", "turn_deg", "zoom"))
    marks = dice.rng("table_pattern")
    return Draw(
        attempt,
        poses,
        {item.key: dice.times("mass_factor", f"mass_factor {item.key}") for item in room.scene.objects},
        dice.times("friction_factor"),
        dice.times("gain_factor", "stiffness"),
        dice.times("gain_factor", "damping"),
        _tilted_gravity(dice.rng("gravity_tilt_deg"), np.radians(config.gravity_tilt_deg)),
        CameraDraw(_triple(shift), _triple(np.radians(turn)), 1.0 + float(zoom[0])),
        LightDraw(
            _source_turn(dice.rng("light_turn_deg"), room, np.radians(config.light_turn_deg)),
            dice.tint("light"),
            dice.times("light_contrast"),
            config.light_on_photo,
        ),
        SurfaceDraw(dice.tint("robot")),
        SurfaceDraw(
            dice.tint("table"),
            config.table_pattern * float(marks.uniform()),
            int(marks.integers(2**31)) if config.table_pattern else 0,
        ),
        _draw_background(dice),
        note,
    )


@dataclass(frozen=True)
class _Dice:
    """Draws of one attempt."""

    seed: int
    attempt: int
    config: Randomization

    def rng(self, name: str) -> np.random.Generator:
        """The numbers of one factor."""
        return factor_rng(self.seed, self.attempt, name)

    def even(self, factor: str, count: int) -> np.ndarray:
        """Numbers (count,) between minus and plus the range."""
        return getattr(self.config, factor) * self.rng(factor).uniform(-1.0, 1.0, count)

    def times(self, factor: str, name: str | None = None) -> float:
        """A number between one over the range and the range, log-evenly; ``name`` where one range is drawn from several times."""
        return float(getattr(self.config, factor) ** self.rng(name or factor).uniform(-1.0, 1.0))

    def tint(self, what: str) -> tuple[float, float, float]:
        """The factor of a colour, linear RGB: brightness ``<what>_factor`` and ``<what>_tint`` of each channel."""
        share = self.rng(f"{what}_tint").uniform(-1.0, 1.0, 3)
        return _triple(self.times(f"{what}_factor") * (1.0 + getattr(self.config, f"{what}_tint")) ** share)


def _draw_background(dice: _Dice) -> BackgroundDraw:
    blur = dice.config.background_blur * float(dice.rng("background_blur").uniform())
    chance, which = dice.rng("background_swap").uniform(size=2)
    picture = ""
    if chance < dice.config.background_swap:
        names = picture_names(dice.config.pictures)
        picture = names[int(which * len(names))]
    return BackgroundDraw(dice.tint("background"), blur, picture)


def picture_names(folder: str) -> list[str]:
    """Names of the pictures in a folder, in order.

    Raises:
        InputError: There are none.
    """
    endings = (".png", ".jpg", ".jpeg")
    names = sorted(file.name for file in Path(folder).glob("*") if file.suffix.lower() in endings)
    if not names:
        raise InputError(f"The folder '{folder}' of background pictures holds no {', '.join(endings)}.")
    return names


def _triple(values: np.ndarray) -> tuple[float, float, float]:
    x, y, z = (float(value) for value in values)
    return x, y, z


def _tilted_gravity(rng: np.random.Generator, most_rad: float) -> tuple[float, float, float]:
    """Gravity tilted by up to ``most_rad``, evenly over the directions of that cone (for small angles)."""
    tilt, heading = most_rad * np.sqrt(rng.uniform()), rng.uniform(0.0, 2.0 * np.pi)
    level = np.sin(tilt) * np.array([np.cos(heading), np.sin(heading)])
    return _triple(GRAVITY_M_S2 * np.array([*level, -np.cos(tilt)]))


def _source_turn(rng: np.random.Generator, room: Room, most_rad: float) -> tuple[float, float, float]:
    """A rotation vector that turns the source by up to ``most_rad`` and leaves it above the support if it was."""
    towards = np.asarray(room.scene.light.direction_w, dtype=np.float64)
    angle, heading = most_rad * np.sqrt(rng.uniform()), rng.uniform(0.0, 2.0 * np.pi)
    side = np.cross(towards, [0.0, 0.0, 1.0] if abs(towards[2]) < 0.9 else [1.0, 0.0, 0.0])
    side /= np.linalg.norm(side)
    axis = np.cos(heading) * side + np.sin(heading) * np.cross(towards, side)
    turned = np.cos(angle) * towards + np.sin(angle) * np.cross(axis, towards)
    if turned[2] < LOWEST_SOURCE and towards[2] >= LOWEST_SOURCE:
        axis = -axis  # the other way it rises
    return _triple(angle * axis)


def placement_pool(room: Room, config: Randomization, seed: int, count: int) -> np.ndarray:
    """Poses (count, N, 7) of all objects in attempts 0 to ``count - 1``, x, y, z, quat_xyzw, as ``draw_attempt`` draws them: for resets of many environments."""
    pool = np.zeros((count, len(room.scene.objects), 7))
    for attempt in range(count):
        T = (
            np.stack(list(attempt_poses(room, seed, attempt, config)[0].values()))
            if pool.shape[1]
            else np.zeros((0, 4, 4))
        )
        pool[attempt, :, :3], pool[attempt, :, 3:] = T[:, :3, 3], quat_xyzw_from_matrix(T[:, :3, :3])
    return pool


def attempt_poses(room: Room, seed: int, attempt: int, config: Randomization) -> tuple[dict[str, np.ndarray], str]:
    """Where every object starts, key -> T_world_object (4, 4), and a note where they could not be moved."""
    if attempt == 0:
        return {item.key: item.T_world_object for item in room.scene.objects}, ""
    rng = factor_rng(seed, attempt, "place")
    return draw_places(room, rng, config.shift_m, np.radians(config.yaw_deg), config.margin_m)
