"""Perception with the kind of depth that networks give: blurred at edges, bent, off as a whole."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter

from phototwin.backends.choose import Backends
from phototwin.backends.contract import DepthEstimate
from phototwin.backends.see import see_more
from phototwin.images import load_depth, load_ids
from phototwin.perceive.perceive import PerceiveConfig, perceive
from phototwin.perceive.photo import load_photo

SAMPLE = Path(__file__).resolve().parents[1] / "usd_assets/sample"
OFF = 1.05


def network_like(rgb, K_px):
    """The sample's true depth, blurred by two pixels, bent by 1 % and 5 % too large."""
    depth_m = load_depth(SAMPLE / "depth.png")
    depth_m = gaussian_filter(np.where(depth_m > 0, depth_m, np.median(depth_m[depth_m > 0])), 2.0)
    bend = gaussian_filter(np.random.default_rng(0).normal(size=depth_m.shape), 80)
    return DepthEstimate(
        (depth_m * OFF * (1 + 0.01 * bend / abs(bend).max())).astype(np.float32), None, 0.15, "a network"
    )


def test_objects_are_found_in_depth_as_networks_give_it():
    photo = replace(load_photo(SAMPLE / "photo.png", None, SAMPLE / "camera.json"), T_world_camera=None)
    seen = see_more(photo, Backends(depth=network_like))
    assert (seen.depth_source, seen.depth_scale_sigma) == ("a network", 0.15)
    maps = perceive(seen, PerceiveConfig())
    ids = load_ids(SAMPLE / "masks.png")
    truths = [value == ids for value in np.unique(ids[ids > 0])]
    overlaps = [max((m & t).sum() / (m | t).sum() for m in maps.masks) for t in truths]
    assert len(maps.masks) == len(truths) and min(overlaps) > 0.9
    height = maps.T_world_camera[2, 3] / 0.55  # the true height of the camera, in the metres of the network
    assert abs(height / OFF - 1) < 0.02
    tilt = np.degrees(np.arccos(-maps.T_world_camera[2, 2]))
    assert abs(tilt - np.degrees(np.arccos(0.6018150231520483))) < 0.6
