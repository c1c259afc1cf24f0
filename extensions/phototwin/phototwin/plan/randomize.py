"""Every range of domain randomisation in one value: presets, files, sweeps. What an attempt draws from it is in ``randomize_draw``."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from phototwin.errors import InputError


def _factor(default: float, wide: float, most: float, unit: str, meaning: str, neutral: float = 0.0) -> Any:
    """A range: its value in the presets "default", "wide" and "none", and the most that is allowed."""
    whole = isinstance(default, int)
    cast = int if whole else float
    facts = {"wide": cast(wide), "most": most, "neutral": cast(neutral), "unit": unit, "meaning": meaning}
    return field(default=default, metadata=facts)


def _times(default: float, wide: float, most: float, meaning: str) -> Any:
    """A factor that is drawn log-evenly between 1 / x and x."""
    return _factor(default, wide, most, "x", meaning, neutral=1.0)


@dataclass(frozen=True)
class Randomization:
    """Ranges of everything that attempts vary; ``FACTORS`` describes each. Where it says x, a factor is drawn log-evenly between 1 / x and x.

    ``pictures`` is a folder of pictures that may replace the background, ``things`` one with twins whose objects may be added as distractors.
    """

    shift_m: float = _factor(
        0.06, 1.0, 3.0, "m", "how far an object moves from its place in the photo, on the free support"
    )
    yaw_deg: float = _factor(35.0, 180.0, 180.0, "deg", "turn of an object about the vertical, either way")
    margin_m: float = _factor(0.03, 0.03, 10.0, "m", "least gap between objects that are apart in the photo", 0.03)
    mass_factor: float = _times(1.2, 2.0, 10.0, "mass of each object, its inertia in proportion")
    friction_factor: float = _times(1.1, 1.5, 5.0, "friction of objects and robot (on Newton of the support too)")
    gain_factor: float = _times(1.05, 1.3, 3.0, "stiffness of the robot's drives, and apart from it their damping")
    gravity_tilt_deg: float = _factor(0.0, 2.0, 45.0, "deg", "tilt of gravity, as of a table that is not level")
    camera_shift_m: float = _factor(0.0, 0.03, 0.1, "m", "shift of the camera along each of its axes")
    camera_turn_deg: float = _factor(0.0, 3.0, 10.0, "deg", "turn of the camera about each of its axes")
    camera_zoom: float = _factor(0.0, 0.03, 0.1, "share", "change of the focal length")
    light_turn_deg: float = _factor(0.0, 35.0, 90.0, "deg", "turn of the dominant source about the scene")
    light_factor: float = _times(1.0, 1.4, 4.0, "all light")
    light_contrast: float = _times(1.0, 1.4, 4.0, "the dominant source alone")
    light_tint: float = _factor(0.0, 0.1, 0.5, "share", "colour of the light, each channel")
    light_on_photo: float = _factor(
        0.0, 1.0, 1.0, "share", "how much of a change of light the photo's own pixels follow"
    )
    robot_factor: float = _times(1.0, 1.3, 4.0, "brightness of the robot's paint")
    robot_tint: float = _factor(0.0, 0.3, 0.9, "share", "colour of the robot's paint, each channel")
    table_factor: float = _times(1.0, 1.25, 4.0, "brightness of the support")
    table_tint: float = _factor(0.0, 0.12, 0.9, "share", "colour of the support, each channel")
    table_pattern: float = _factor(0.0, 0.2, 0.9, "share", "contrast of a pattern on the support")
    background_factor: float = _times(1.0, 1.3, 4.0, "brightness of what is not the support")
    background_tint: float = _factor(0.0, 0.15, 0.9, "share", "colour of what is not the support, each channel")
    background_blur: float = _factor(0.0, 0.01, 0.1, "image widths", "blur of what is not the support")
    background_swap: float = _factor(
        0.0, 0.0, 1.0, "chance", "that one of ``pictures`` replaces what is not the support"
    )
    distractors: int = _factor(0, 3, 12, "objects", "most objects that are added to the scene")
    cousins: float = _factor(0.0, 0.5, 1.0, "chance", "that an object is replaced by a relative of it")
    cousin_scale: float = _times(1.1, 1.2, 2.0, "size of a relative")
    cousin_aspect: float = _times(1.08, 1.15, 1.5, "height of a relative against its width")
    cousin_taper: float = _factor(
        0.06, 0.12, 0.4, "share", "how much wider a relative is at its top than in its middle, or narrower"
    )
    cousin_hue_deg: float = _factor(30.0, 180.0, 180.0, "deg", "turn of a relative's colours")
    cousin_contrast: float = _times(1.15, 1.4, 3.0, "contrast of a relative's texture")
    cousin_pattern: float = _factor(0.0, 0.2, 0.9, "share", "contrast of a pattern on a relative")
    pictures: str = ""
    things: str = ""


FACTORS = {f.name: dict(f.metadata) for f in fields(Randomization) if f.metadata}
"""Name of each range -> "unit", "meaning", "wide", "neutral" (its value where nothing varies), "most" (what is allowed)."""
PRESETS = {
    "none": Randomization(**{name: facts["neutral"] for name, facts in FACTORS.items()}),
    "default": Randomization(),
    "wide": Randomization(**{name: facts["wide"] for name, facts in FACTORS.items()}),
}


def load_randomization(given: str | Path | Mapping[str, Any] | Randomization) -> Randomization:
    """The ranges of a preset, of a JSON file, or of a dictionary of values; what is not named there is as in its "preset", or in "default".

    Raises:
        InputError: There is no such preset or file, a name is unknown, or a number is impossible.
    """
    if isinstance(given, Randomization):
        return _checked(given, "The randomisation")
    if not isinstance(given, Mapping):
        if str(given) in PRESETS:
            return PRESETS[str(given)]
        where, value = f"The randomisation file '{given}'", _read_json(Path(given))
    else:
        where, value = "The randomisation", dict(given)
    preset = value.pop("preset", "default")
    if preset not in PRESETS:
        raise InputError(f"{where} starts from '{preset}', which is no preset. There are: {', '.join(PRESETS)}.")
    known = [f.name for f in fields(Randomization)]
    unknown = sorted(set(value) - set(known))
    if unknown:
        raise InputError(f"{where} has unknown names {', '.join(unknown)}. There are: {', '.join(known)}.")
    return _checked(replace(PRESETS[preset], **value), where)


def sweep(config: Randomization, factor: str, values: Sequence[float]) -> list[Randomization]:
    """One config for each value of one factor, everything else as in ``config``: for studies of what a policy is sensitive to.

    Raises:
        InputError: The factor is unknown or a value is not allowed.
    """
    if factor not in FACTORS:
        raise InputError(f"There is no factor '{factor}' to sweep. There are: {', '.join(FACTORS)}.")
    return [_checked(replace(config, **{factor: value}), f"The sweep of {factor}") for value in values]


def factor_table() -> str:
    """All factors with unit, meaning and their value in the presets, as a table in Markdown."""
    own = Randomization()
    rows = [
        f"| `{name}` | {getattr(own, name):g} | {facts['wide']:g} | {facts['most']:g} | {facts['unit']} | {facts['meaning']} |"
        for name, facts in FACTORS.items()
    ]
    return "\n".join(["| factor | default | wide | at most | unit | what |", "|---|---|---|---|---|---|", *rows])


def _read_json(file: Path) -> dict[str, Any]:
    try:
        value = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise InputError(
            f"'{file}' is neither a preset ({', '.join(PRESETS)}) nor a readable JSON file ({error})."
        ) from error
    if not isinstance(value, dict):
        raise InputError(f"The randomisation file '{file}' must hold a JSON object of names and numbers.")
    return value


def _checked(config: Randomization, where: str) -> Randomization:
    """The config with numbers of the right kind.

    Raises:
        InputError: One is not between its least and its most.
    """
    numbers = {}
    for name, facts in FACTORS.items():
        value, least = getattr(config, name), 1.0 if facts["unit"] == "x" else 0.0
        if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= facts["most"]:
            raise InputError(
                f"{where} has {name} = {value!r}: expected a number from {least:g} to {facts['most']:g} ({facts['unit']})."
            )
        if isinstance(facts["wide"], int) and value != int(value):
            raise InputError(f"{where} has {name} = {value!r}: expected a whole number.")
        numbers[name] = type(facts["wide"])(value)
    for name in ("pictures", "things"):
        if not isinstance(getattr(config, name), str):
            raise InputError(f"{where} has {name} = {getattr(config, name)!r}: expected the path of a folder.")
    if config.background_swap > 0 and not config.pictures:
        raise InputError(f"{where} has background_swap = {config.background_swap} but no pictures: name their folder.")
    return replace(config, **numbers)
