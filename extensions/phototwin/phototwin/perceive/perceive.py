"""Photo -> Maps: with depth or without."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from phototwin.perceive.rgb import RgbConfig, perceive_rgb
from phototwin.perceive.rgbd import RgbdConfig, perceive_rgbd
from phototwin.scene import Maps, Photo


@dataclass(frozen=True)
class PerceiveConfig:
    """How to see.

    Attributes:
        rgbd: For photos with depth.
        rgb: For photos without.
        seed: Draws the candidates of the plane fit.
    """

    rgbd: RgbdConfig = field(default_factory=RgbdConfig)
    rgb: RgbConfig = field(default_factory=RgbConfig)
    seed: int = 0


def perceive(photo: Photo, config: PerceiveConfig) -> Maps:
    """What the photo shows: camera, support and objects.

    Raises:
        PerceptionError: The evidence is too thin; the message names the hint that would help.
        InputError: The photo does not bring what is needed.
    """
    if photo.depth_m is not None:
        maps = perceive_rgbd(photo, config.rgbd, config.seed)
    else:
        maps = perceive_rgb(photo, config.rgb)
    return replace(maps, notes={**maps.notes, "photo": photo.note}) if photo.note else maps
