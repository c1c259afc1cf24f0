"""The camera's signature in a photo, and the same signature on what was drawn into it: blur, colour fringes, noise, JPEG.

Measured on the plate that frames are made of: a photo that was reduced to the frame's size has lost most of its noise.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from phototwin.blend.edges import edge_width, fringe_shift, step_edges
from phototwin.blend.jpeg import JpegGrid, find_jpeg_grid, recompress
from phototwin.kernels.respond import respond
from phototwin.kernels.srgb import srgb_to_linear

RENDERED_EDGE_PX = 0.75
"""Standard deviation of an edge that ``composite`` draws, as ``edge_width`` sees it: the tent filter's 0.71 px and the steps of a mask [px]."""
BLUR_LIMIT_PX = 2.5
"""Wider edges at frame size are a photo out of focus; a robot that dim would help nobody."""
NO_BLUR_PX = 0.1
"""What is less cannot be seen and is not worth a pass."""
BLOCK_PX = 16
STRIDE_PX = 8
FLAT_SHARE = 0.05
"""Share of blocks, those with the least coarse structure, that noise is read from: choosing them by their noise would favour luck."""
MIN_BLOCKS = 8
ROUNDING_VARIANCE = 1 / 12
"""What rounding to 8 bits adds [codes^2]; rendered frames are rounded themselves."""
TEXTURE_GROWTH = 4.0
"""Texture with a 1/f spectrum has four times the filtered variance when pixels are twice as large; white noise has the same."""
SAME_FLOOR = 0.4
"""Spread of the logarithm of block variances up to which they show one floor, noise, and not patches of texture."""
FLOOR_GROWTH = 3.0
"""The most that the floor may grow from pixels to pairs of pixels: beyond, it cannot be told from fine texture."""
PRIOR_WEIGHT = 0.03
"""How much the belief in shot noise counts against all that was measured."""
GRAIN_SIZE = 256
GRAIN_WIDTHS_PX = np.linspace(0.0, 1.2, 25)
CLIPPED = (4.0, 250.0)
"""Mean codes beyond which a block says nothing about noise."""


@dataclass(frozen=True, eq=False)
class Response:
    """What a camera and its files did to a photo, at frame resolution.

    Attributes:
        read: Noise where it is dark, standard deviation per channel, (3,) linear RGB with white = 1.
        shot: Noise that grows with light: ``variance = read^2 + shot^2 * light``, (3,).
        grain_px: Size of the grain: standard deviation of the Gaussian that white noise would have to be blurred with [px].
        shared: Share of the noise's variance that all channels have in common, 0 (colourful) to 1 (grey).
        edge_px: Standard deviation of the sharpest edges across them [px]; None where the photo has too few.
        shift: Where red and blue lie beside green, (2, 3): x, y [px], and growth per pixel away from the middle of the image.
        jpeg: The JPEG grid that still shows, or None.
        note: What was found, one sentence.
    """

    read: np.ndarray
    shot: np.ndarray
    grain_px: float
    shared: float
    edge_px: float | None
    shift: np.ndarray
    jpeg: JpegGrid | None
    note: str

    @property
    def blur_px(self) -> float:
        """What blurs a drawn edge until it is as soft as the photo's sharpest ones, standard deviation [px]."""
        extra = np.sqrt(max((self.edge_px or 0.0) ** 2 - RENDERED_EDGE_PX**2, 0.0))
        return float(min(extra, BLUR_LIMIT_PX)) if extra > NO_BLUR_PX else 0.0


def measure_response(rgb: np.ndarray) -> Response:
    """The camera's signature in an image (H, W, 3) uint8 sRGB, at the image's own resolution."""
    read, shot, grain_px, shared = measure_noise(rgb)
    edges = step_edges(rgb)
    edge_px, shift, jpeg = edge_width(edges), fringe_shift(edges, rgb.shape[:2]), find_jpeg_grid(rgb)
    middle = noise_codes(read, shot)[128].mean()
    sharp = "no clear edges" if edge_px is None else f"edges {edge_px:.2f} px soft"
    corner = np.hypot(*rgb.shape[:2]) / 2
    fringe = float((np.hypot(shift[:, 0], shift[:, 1]) + np.abs(shift[:, 2]) * corner).max())
    packed = "no JPEG grid" if jpeg is None else f"JPEG of quality {jpeg.quality}"
    note = f"Noise {middle:.2f} of 255 in mid-grey (grain {grain_px:.1f} px), {sharp}, colour fringes up to {fringe:.2f} px, {packed}."
    return Response(read, shot, grain_px, shared, edge_px, shift, jpeg, note)


def apply_response(
    frames: np.ndarray, footprint: Any, response: Response, seeds: np.ndarray, device: str = "cpu"
) -> np.ndarray:
    """Frames (N, H, W, 3) uint8 in which what was drawn looks as the photo's camera would have taken it.

    Args:
        frames: (N, H, W, 3) uint8 sRGB.
        footprint: Not 0 where something was drawn, (N, H, W) bool or uint8, as ``composite`` returns it (shadow on the photo does
            not count: it has the photo's noise already). Pixels with nothing drawn within one pixel keep their bits.
        response: Of the photo at this size.
        seeds: (N,) integers; a frame's noise depends on its seed alone.
        device: Warp device.
    """
    sigma, grain = _noise_of(response)
    out = frames
    if response.blur_px or response.shift.any() or sigma.any():
        offsets = _scatter(np.asarray(seeds))
        out = respond(frames, footprint, offsets, response.blur_px, response.shift, sigma, grain, device)
    if response.jpeg is not None:
        drawn = np.asarray(footprint.numpy() if hasattr(footprint, "numpy") else footprint) != 0
        out = np.stack([recompress(f, _grow(d), response.jpeg) for f, d in zip(out, drawn, strict=True)])
    return out


@lru_cache(maxsize=4)
def _noise_of(response: Response) -> tuple[np.ndarray, np.ndarray]:
    """Standard deviation by code and the noise itself; the frames of one photo share them."""
    return noise_codes(response.read, response.shot), noise_tile(response.grain_px, response.shared)


def _grow(mask: np.ndarray) -> np.ndarray:
    """A mask (H, W) and the pixels around it: the soft edge of what was drawn."""
    import cv2

    return cv2.dilate(mask.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0


def noise_codes(read: np.ndarray, shot: np.ndarray) -> np.ndarray:
    """Standard deviation of the noise in 8-bit codes for every code and channel, (256, 3)."""
    light = srgb_to_linear(np.arange(256) / 255.0)[:, None]
    return np.sqrt(np.asarray(read) ** 2 + np.asarray(shot) ** 2 * light) * _codes_per_light()[:, None]


def measure_noise(rgb: np.ndarray) -> tuple[np.ndarray, np.ndarray, float, float]:
    """Read and shot noise (3,) each, grain [px] and shared part of an image (H, W, 3) uint8, as in ``Response``.

    Blocks with the least coarse structure are looked at with a filter that takes no notice of slopes, at two scales. Where their
    variances agree, they show the floor of the noise, and the two scales its grain. Where they do not, there is texture in them;
    it grows with scale and white noise does not, so the two scales tell one from the other. Source: Immerkaer (1996), the filter.
    """
    fine, coarse, level, rough, shared = _block_statistics(rgb.astype(np.float32))
    usable = (level > CLIPPED[0]).all(1) & (level < CLIPPED[1]).all(1)
    if usable.sum() < MIN_BLOCKS:
        return np.zeros(3), np.zeros(3), 0.0, 0.0
    flattest = np.argsort(np.where(usable, rough, np.inf))[: max(int(FLAT_SHARE * usable.sum()), MIN_BLOCKS)]
    fine, coarse, level, shared = (a[flattest] for a in (fine, coarse, level, shared))
    fine, coarse = np.maximum(fine - ROUNDING_VARIANCE, 0.0), np.maximum(coarse - ROUNDING_VARIANCE, 0.0)
    tone = np.log(np.maximum(fine.mean(1), 1e-3))
    spread = 1.4826 * float(np.median(np.abs(tone - np.median(tone))))
    growth = float(np.median(coarse.mean(1)) / max(np.median(fine.mean(1)), 1e-3))
    if spread < SAME_FLOOR and growth < FLOOR_GROWTH:
        grain_px, gain = _grain_of(growth)
        variance, error = fine / gain, fine / gain
    else:
        grain_px = 0.0
        variance = (TEXTURE_GROWTH * fine - coarse) / (TEXTURE_GROWTH - 1)
        error = np.hypot(TEXTURE_GROWTH * fine, coarse) / (TEXTURE_GROWTH - 1)
    fits = [_fit_noise(level[:, c], variance[:, c], error[:, c]) for c in range(3)]
    return np.array([f[0] for f in fits]), np.array([f[1] for f in fits]), grain_px, float(np.median(shared))


def _block_statistics(codes: np.ndarray) -> tuple[np.ndarray, ...]:
    """Per block of ``BLOCK_PX``: filtered variance (B, 3) in pixels and in pairs of pixels, mean (B, 3), coarse structure and shared part (B,)."""
    import cv2

    laplace = np.array([1.0, -2.0, 1.0])
    fine_kernel = np.outer(laplace, laplace) / 6.0  # unit gain for white noise
    coarse_kernel = np.kron(fine_kernel, np.full((2, 2), 0.5))
    fine, coarse = (cv2.filter2D(codes, -1, kernel) for kernel in (fine_kernel, coarse_kernel))
    smooth = cv2.blur(codes, (4, 4))
    green = smooth[..., 1]

    def mean(image: np.ndarray) -> np.ndarray:
        inner = cv2.boxFilter(image, -1, (BLOCK_PX, BLOCK_PX), anchor=(0, 0))[4:-4, 4:-4]
        rows, columns = (n - BLOCK_PX + 1 for n in inner.shape[:2])
        return inner[:rows:STRIDE_PX, :columns:STRIDE_PX].reshape(-1, *inner.shape[2:3] or (1,))

    power = np.maximum(mean(fine**2), 0.0)  # the running sum of the box filter may end a rounding below 0
    common = mean(fine[..., [0, 1, 2]] * fine[..., [1, 2, 0]])
    pairs = np.sqrt(power * power[:, [1, 2, 0]])
    shared = np.clip((common / np.maximum(pairs, 1e-4)).mean(1), 0.0, 1.0)
    slope = mean(cv2.Sobel(green, cv2.CV_32F, 1, 0) ** 2 + cv2.Sobel(green, cv2.CV_32F, 0, 1) ** 2)[:, 0]
    return power, np.maximum(mean(coarse**2), 0.0), mean(smooth), slope, shared


def _fit_noise(level: np.ndarray, variance: np.ndarray, error: np.ndarray) -> tuple[float, float]:
    """Read and shot noise in linear light; neither is negative.

    Where brightness hardly varies, shot noise is believed: its codes are the same for dark and bright.

    Args:
        level: Means of blocks, (B,) [codes].
        variance: What they show of noise, (B,) [codes^2]; may be negative where texture was taken off.
        error: How much that may be off, in proportion, (B,) [codes^2].
    """
    light = srgb_to_linear(level / 255.0)
    scale = _codes_per_light()[np.clip(np.round(level).astype(int), 0, 255)] ** -2
    weight = 1.0 / np.maximum(error * scale, 1e-9) ** 2
    linear = variance * scale
    shot_only = max(float((weight * light * linear).sum() / (weight * light**2).sum()), 0.0)
    prior = np.array([0.03, 0.6])
    weight = np.append(weight, PRIOR_WEIGHT * (weight * light**2).sum() / prior**2)
    light, linear = np.append(light, prior), np.append(linear, shot_only * prior)
    a, b, c = weight.sum(), (weight * light).sum(), (weight * light**2).sum()
    p, q = (weight * linear).sum(), (weight * light * linear).sum()
    determinant = a * c - b * b
    read, shot = (c * p - b * q) / determinant, (a * q - b * p) / determinant
    if read < 0:
        read, shot = 0.0, max(q / c, 0.0)
    elif shot < 0:
        read, shot = max(p / a, 0.0), 0.0
    return float(np.sqrt(read)), float(np.sqrt(shot))


def _codes_per_light() -> np.ndarray:
    """Slope of the sRGB curve at every code [codes per unit of linear light], (256,)."""
    return 1.0 / np.gradient(srgb_to_linear(np.arange(256) / 255.0))


def _grain_of(growth: float) -> tuple[float, float]:
    """Grain [px] for which noise grows that much from pixels to pairs of pixels, and what Immerkaer's filter leaves of its variance."""
    table = _grain_table()
    growths = table[:, 1] / table[:, 0]
    grain_px = float(np.interp(growth, growths, GRAIN_WIDTHS_PX))
    return grain_px, float(np.interp(grain_px, GRAIN_WIDTHS_PX, table[:, 0]))


@lru_cache(maxsize=1)
def _grain_table() -> np.ndarray:
    """For every width of ``GRAIN_WIDTHS_PX``: variance after the fine and after the coarse filter of noise with variance 1, (G, 2)."""
    frequency = np.fft.fftfreq(64)
    fine = (2 - 2 * np.cos(2 * np.pi * frequency)) ** 2 / 6.0
    coarse = (2 - 2 * np.cos(4 * np.pi * frequency)) ** 2 / 6.0 * np.cos(np.pi * frequency) ** 2 * 2
    rows = []
    for width in GRAIN_WIDTHS_PX:
        power = _grain_power(width, 64)
        power = power / power.mean()
        rows.append([(power * np.outer(f, f)).mean() for f in (fine, coarse)])
    return np.array(rows)


def _grain_power(width_px: float, size: int) -> np.ndarray:
    """Power spectrum (size, size) of white noise blurred by a Gaussian."""
    frequency = np.fft.fftfreq(size)
    one = np.exp(-((2 * np.pi * frequency * width_px) ** 2))
    return np.outer(one, one)


@lru_cache(maxsize=4)
def noise_tile(grain_px: float, shared: float) -> np.ndarray:
    """Noise of unit variance with that grain and shared part, (``GRAIN_SIZE``, ``GRAIN_SIZE``, 3) float32, periodic."""
    rng = np.random.default_rng(0)
    white = rng.standard_normal((GRAIN_SIZE, GRAIN_SIZE, 4))
    mixed = np.sqrt(shared) * white[..., 3:] + np.sqrt(1 - shared) * white[..., :3]
    spectrum = np.fft.fft2(mixed, axes=(0, 1)) * np.sqrt(_grain_power(grain_px, GRAIN_SIZE))[..., None]
    tile = np.fft.ifft2(spectrum, axes=(0, 1)).real
    return (tile / tile.std((0, 1))).astype(np.float32)


def _scatter(seeds: np.ndarray) -> np.ndarray:
    """Where in the noise each frame begins, (N, 2). Source: Steele et al. (2014), SplitMix64."""
    z = seeds.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z ^= z >> np.uint64(31)
    return np.stack([z % np.uint64(GRAIN_SIZE), (z >> np.uint64(32)) % np.uint64(GRAIN_SIZE)], 1).astype(np.int32)
