"""Read what the user gave: a photo and, where there are any, its depth, camera and object hints.

Everything is checked here, once, so that the rooms behind can trust a ``Photo``; each refusal is one sentence.
"""

from __future__ import annotations

import os
import re
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import ExifTags, Image, ImageOps

from phototwin.errors import InputError
from phototwin.perceive.files import BROKEN, check_file, read_array, read_json
from phototwin.perceive.hints import read_hints, read_masks
from phototwin.scene import Photo

MIN_SIDE_PX = 64
MAX_SIDE_PX = 1920  # more pixels cost time and bring nothing: every camera of a demonstration is smaller
MAX_PIXELS = 400_000_000  # beyond this the decoder alone takes gigabytes
MAX_DEPTH_MEDIAN_M = 20.0
MIN_DEPTH_MEDIAN_M = 0.02
DIAGONAL_35MM = 43.2666  # of the 36 x 24 mm frame, which FocalLengthIn35mmFilm refers to (CIPA DCG-001)
PLAIN_STEMS = ("rgb", "photo", "image", "color")
CAMERA_KEYS = {"K_px", "T_world_camera", "T_base_camera", "width", "height"}
CAMERA_REMARKS = {"source", "licence", "license", "depth", "objects", "name", "note", "date"}


def load_photo(
    photo: Path,
    depth: Path | None = None,
    camera: Path | None = None,
    objects: Path | None = None,
    masks: Path | None = None,
) -> Photo:
    """The photo and its companions, checked, upright, at most ``MAX_SIDE_PX`` on its longer side.

    Depth, camera and hints refer to the photo as it is shown upright, at its full size; all are reduced along with it.

    Args:
        photo: Any still image Pillow reads.
        depth: 16-bit PNG [mm], ``.npy`` (floats in metres or integers in millimetres) or ``.exr`` [m]; 0 = unknown.
        camera: JSON with ``K_px`` (3x3, or fx fy cx cy) and optionally ``T_world_camera`` (OpenCV camera, support at z = 0).
        objects: JSON list of {"name", "box": [x0, y0, x1, y1], "point": [x, y], "mask": file}, each but one optional.
        masks: PNG of object ids, or a folder with one PNG per object; not together with ``objects``.

    Raises:
        InputError: A file is missing, unreadable, or does not fit the photo.
    """
    photo = Path(photo)
    rgb, exif, stored, (width, height) = _read_image(photo)
    depth_m = None if depth is None else _read_depth(Path(depth), width, height)
    K_px, T_world_camera = (None, None) if camera is None else _read_camera(Path(camera), width, height)
    K_source = None if camera is None else "camera file"
    if K_px is None:
        K_px = _exif_intrinsics(exif, stored, width, height)
        K_source = None if K_px is None else "exif"
    if objects is not None and masks is not None:
        raise InputError("Both --objects and --masks were given: keep one; --objects can name mask files, too.")
    hints = () if objects is None else read_hints(Path(objects), width, height)
    hints = hints if masks is None else read_masks(Path(masks), width, height)
    loaded = Photo(rgb, depth_m, K_px, K_source, T_world_camera, hints, name=photo_name(photo))
    return loaded if rgb.shape[:2] == (height, width) else _reduce(loaded, width, height)


def photo_name(photo: Path) -> str:
    """The photo's short name, an identifier: its file's, or its folder's where the file is just called "photo"."""
    stem = photo.stem
    if stem.lower() in PLAIN_STEMS and photo.resolve().parent.name:
        stem = photo.resolve().parent.name
    name = re.sub(r"[^A-Za-z0-9]+", "_", stem).strip("_")
    return name if name and name[0].isalpha() else f"photo_{name}".rstrip("_")


def _read_image(file: Path) -> tuple[np.ndarray, Any, tuple[int, int], tuple[int, int]]:
    """Upright pixels (H, W, 3) uint8, reduced if large; EXIF; full size (width, height) as stored and upright."""
    check_file(file, "photo")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # large photos are reduced on purpose, and broken EXIF is only a pity
        image = _open_large(file)
        stored = image.size
        if stored[0] * stored[1] > MAX_PIXELS:
            raise InputError(f"The photo '{file}' has {stored[0]} x {stored[1]} pixels, expected at most 400 million.")
        _check_size(file, stored, "")
        scale = min(MAX_SIDE_PX / max(stored), 1.0)
        _check_size(file, (round(stored[0] * scale), round(stored[1] * scale)), f" once reduced to {MAX_SIDE_PX}")
        try:
            exif = image.getexif()
            if scale < 1:
                image.draft(None, (round(stored[0] * scale), round(stored[1] * scale)))  # JPEG decodes small at once
            image.load()
        except BROKEN as error:
            raise InputError(f"The photo '{file}' is truncated or damaged ({error}): copy it again.") from error
        turned = exif.get(ExifTags.Base.Orientation) in (5, 6, 7, 8)
        ImageOps.exif_transpose(image, in_place=True)
        full = (stored[1], stored[0]) if turned else stored
        image = _to_rgb(file, image)
        if scale < 1:
            size = (round(full[0] * scale), round(full[1] * scale))
            image = image.resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0)
    return np.array(image), exif, stored, full


def _open_large(file: Path) -> Image.Image:
    """Open without Pillow's own pixel limit; ours is checked before anything is decoded."""
    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    try:
        return Image.open(file)
    except Image.UnidentifiedImageError as error:
        raise InputError(
            f"The photo '{file}' is not an image that can be read (HEIC and raw files cannot): save it as JPEG or PNG."
        ) from error
    except BROKEN as error:
        raise InputError(f"The photo '{file}' cannot be read ({error}): save it again as JPEG or PNG.") from error
    finally:
        Image.MAX_IMAGE_PIXELS = limit


def _check_size(file: Path, size: tuple[int, int], when: str) -> None:
    if min(size) < MIN_SIDE_PX:
        raise InputError(
            f"The photo '{file}' has {size[0]} x {size[1]} pixels{when}, expected at least {MIN_SIDE_PX} on each side."
        )


def _to_rgb(file: Path, image: Image.Image) -> Image.Image:
    if image.mode in ("I;16", "I;16B", "I;16L", "I", "F"):
        grey = np.asarray(image).astype(np.float32)
        if image.mode == "F" or grey.min() < 0 or grey.max() > 65535:
            raise InputError(f"The photo '{file}' holds numbers beyond 16 bits a pixel: save it as JPEG or PNG.")
        return Image.fromarray(np.round(grey / 257).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


def _read_depth(file: Path, width: int, height: int) -> np.ndarray:
    """Depth (H, W) float32 [m], 0 where it is not known."""
    check_file(file, "depth")
    try:
        values, unit = _depth_values(file)
    except BROKEN as error:
        raise InputError(f"The depth file '{file}' is damaged or not what its name says ({error}).") from error
    if values.ndim == 3 and values.shape[2] == 1:
        values = values[..., 0]
    if values.shape != (height, width):
        got = " x ".join(str(n) for n in values.shape[1::-1] + values.shape[2:])
        turned = "; it fits the photo before its EXIF rotation" if values.shape == (width, height) else ""
        raise InputError(
            f"The depth '{file}' has {got} values and the upright photo {width} x {height} pixels{turned}: they must agree."
        )
    depth_m = values.astype(np.float64) * unit
    depth_m = np.where(np.isfinite(depth_m) & (depth_m > 0), depth_m, 0).astype(np.float32)
    if not depth_m.any():
        raise InputError(f"The depth '{file}' has no reading anywhere: expected positive distances.")
    median_m = float(np.median(depth_m[depth_m > 0]))
    if median_m > MAX_DEPTH_MEDIAN_M:
        raise InputError(
            f"The depth '{file}' is {median_m:.0f} m in the middle, which looks like millimetres in a file of metres: "
            "divide by 1000, or save a 16-bit PNG in millimetres."
        )
    if median_m < MIN_DEPTH_MEDIAN_M:
        raise InputError(
            f"The depth '{file}' is {median_m * 1000:.1f} mm in the middle, too near for a camera: "
            "expected millimetres in PNG and integers, metres in floats."
        )
    return depth_m


def _depth_values(file: Path) -> tuple[np.ndarray, float]:
    """Raw values and the length of their unit [m]."""
    suffix = file.suffix.lower()
    if suffix == ".npy":
        values = np.load(file, allow_pickle=False)
        if values.dtype.kind not in "fui":
            raise InputError(f"The depth '{file}' has values of type {values.dtype}, expected floats or integers.")
        return values, 1.0 if values.dtype.kind == "f" else 1e-3
    if suffix == ".exr":
        os.environ.setdefault("OPENCV_IO_ENABLE_OPENEXR", "1")
        import cv2

        values = cv2.imread(str(file), cv2.IMREAD_UNCHANGED)
        if values is None:
            raise InputError(f"The depth '{file}' is not an EXR image that can be read.")
        return (values[..., 0] if values.ndim == 3 else values), 1.0
    if suffix != ".png":
        raise InputError(f"The depth '{file}' ends in '{suffix}', expected .png (16 bits, mm), .npy or .exr (m).")
    with Image.open(file) as image:
        if not image.mode.startswith("I"):
            raise InputError(f"The depth '{file}' is a PNG of mode {image.mode}, expected 16-bit grey in millimetres.")
        return np.array(image), 1e-3


def _read_camera(file: Path, width: int, height: int) -> tuple[np.ndarray, np.ndarray | None]:
    """K_px (3, 3) and T_world_camera (4, 4), which may be None."""
    value = read_json(file, "camera")
    if not isinstance(value, dict) or "K_px" not in value:
        raise InputError(f"The camera file '{file}' has no 'K_px': expected a 3x3 matrix or fx, fy, cx, cy.")
    unknown = {key for key in value if not key.endswith("_note")} - CAMERA_KEYS - CAMERA_REMARKS
    if unknown:
        raise InputError(
            f"The camera file '{file}' has unknown keys {sorted(unknown)}: expected {', '.join(sorted(CAMERA_KEYS))}."
        )
    K = value["K_px"]
    if isinstance(K, dict):
        if set(K) != {"fx", "fy", "cx", "cy"}:
            raise InputError(f"'K_px' in '{file}' has the keys {sorted(K)}, expected fx, fy, cx, cy.")
        K = [[K["fx"], 0, K["cx"]], [0, K["fy"], K["cy"]], [0, 0, 1]]
    K_px = read_array(K, (3, 3), f"'K_px' in '{file}'")
    stated = tuple(value.get(key, size) for key, size in (("width", width), ("height", height)))
    if stated != (width, height):
        raise InputError(
            f"The camera file '{file}' is for {stated[0]} x {stated[1]} pixels, the upright photo has {width} x {height}."
        )
    _check_intrinsics(K_px, width, height, f"'K_px' in '{file}'", size_stated="width" in value and "height" in value)
    poses = [key for key in ("T_world_camera", "T_base_camera") if value.get(key) is not None]
    if len(poses) == 2:
        raise InputError(f"The camera file '{file}' has both T_world_camera and T_base_camera: keep one.")
    return K_px, _check_pose(value[poses[0]], f"'{poses[0]}' in '{file}'") if poses else None


def _check_intrinsics(K_px: np.ndarray, width: int, height: int, where: str, size_stated: bool) -> None:
    fx, fy, cx, cy = K_px[0, 0], K_px[1, 1], K_px[0, 2], K_px[1, 2]
    if fx <= 0 or fy <= 0:
        raise InputError(f"{where} has focal lengths {fx:g}, {fy:g}: they must be positive pixels.")
    if not np.allclose(K_px[2], [0, 0, 1]) or K_px[1, 0] != 0:
        raise InputError(f"{where} must have 0 below the diagonal and end in the row 0, 0, 1.")
    if abs(K_px[0, 1]) > 1e-3 * fx:
        raise InputError(f"{where} has skew {K_px[0, 1]:g}: undistort the photo to a camera without skew.")
    if not (0 < cx < width and 0 < cy < height):
        raise InputError(
            f"{where} has its principal point {cx:g}, {cy:g} outside the upright photo of {width} x {height} pixels: "
            "it belongs to another size, or to the photo before rotation."
        )
    off = np.array([cx / width - 0.5, cy / height - 0.5])
    if not size_stated and abs(off).min() > 0.15:  # both far off-centre: no lens does that, a reduced photo does
        raise InputError(
            f"{where} has its principal point {cx:g}, {cy:g} far from the middle of {width} x {height}: it seems to belong "
            "to a photo of another size or rotation; if it is right, state 'width' and 'height' in the file."
        )
    if not 0.8 < fx / fy < 1.25 or not 0.2 < fx / max(width, height) < 20:
        raise InputError(
            f"{where} has focal lengths {fx:g}, {fy:g} for {width} x {height} pixels, which no camera has: check it."
        )


def _check_pose(value: Any, where: str) -> np.ndarray:
    T = read_array(value, (4, 4), where)
    U, _, Vt = np.linalg.svd(T[:3, :3])
    R = U @ Vt
    if not np.allclose(T[3], [0, 0, 0, 1]) or np.abs(T[:3, :3] - R).max() > 1e-3 or np.linalg.det(R) < 0:
        raise InputError(
            f"{where} is not a rigid transform: expected a rotation, a translation and the row 0, 0, 0, 1."
        )
    if T[2, 3] <= 0:
        raise InputError(f"{where} puts the camera {T[2, 3]:g} m above the support at z = 0: it must be above it.")
    if R[2, 2] >= 0:
        raise InputError(
            f"{where} lets the camera look up: its +Z axis must point down to the support (OpenCV camera)."
        )
    T[:3, :3] = R
    return T


def _exif_intrinsics(exif: Any, stored: tuple[int, int], width: int, height: int) -> np.ndarray | None:
    """K_px from the focal length in EXIF, principal point in the middle; None where EXIF does not say."""
    focal_px = _exif_focal_px(exif, stored) if exif is not None else None
    if focal_px is None or not 0.2 < focal_px / max(stored) < 20:
        return None
    return np.array([[focal_px, 0, width / 2], [0, focal_px, height / 2], [0, 0, 1]], dtype=np.float64)


def _exif_focal_px(exif: Any, stored: tuple[int, int]) -> float | None:
    try:
        tags = exif.get_ifd(ExifTags.IFD.Exif)
        taken = (tags.get(ExifTags.Base.ExifImageWidth), tags.get(ExifTags.Base.ExifImageHeight))
        if all(taken) and abs(np.log(taken[0] / taken[1] * stored[1] / stored[0])) > 0.02:
            return None  # cropped after it was taken: the focal length no longer fits the width
        film_mm = float(tags.get(ExifTags.Base.FocalLengthIn35mmFilm) or 0)
        if film_mm > 0:
            return film_mm * float(np.hypot(*stored)) / DIAGONAL_35MM
        focal_mm = float(tags.get(ExifTags.Base.FocalLength) or 0)
        per_unit = float(tags.get(ExifTags.Base.FocalPlaneXResolution) or 0)
        unit_mm = {2: 25.4, 3: 10.0, 4: 1.0}.get(int(tags.get(ExifTags.Base.FocalPlaneResolutionUnit) or 2), 0.0)
        if focal_mm > 0 and per_unit > 0 and unit_mm > 0:
            return focal_mm * per_unit / unit_mm * (stored[0] / taken[0] if all(taken) else 1.0)
    except (*BROKEN, ZeroDivisionError, KeyError, AttributeError):
        pass  # a broken EXIF block states nothing
    return None


def _reduce(photo: Photo, width: int, height: int) -> Photo:
    """Fit what belongs to the full size to the reduced pixels; centres at +0.5 make K a plain scaling."""
    size = (photo.rgb.shape[1], photo.rgb.shape[0])
    ratio = np.array([size[0] / width, size[1] / height])
    rows = np.minimum(((np.arange(size[1]) + 0.5) / ratio[1]).astype(int), height - 1)
    columns = np.minimum(((np.arange(size[0]) + 0.5) / ratio[0]).astype(int), width - 1)
    nearest = np.ix_(rows, columns)  # depth and masks must not be mixed across edges
    hints = tuple(
        replace(
            hint,
            box_px=None if hint.box_px is None else hint.box_px * np.tile(ratio, 2),
            point_px=None if hint.point_px is None else hint.point_px * ratio,
            mask=None if hint.mask is None else hint.mask[nearest],
        )
        for hint in photo.hints
    )
    return replace(
        photo,
        depth_m=None if photo.depth_m is None else photo.depth_m[nearest],
        K_px=None if photo.K_px is None else np.diag([*ratio, 1.0]) @ photo.K_px,
        hints=hints,
        note=f"The photo was reduced from {width} x {height} to {size[0]} x {size[1]} pixels.",
    )


def load_background(file: Path, shape: tuple[int, ...]) -> np.ndarray:
    """The photo without its objects, (H, W, 3) uint8, of the photo's (reduced) ``shape``.

    Raises:
        InputError: It cannot be read, or has other proportions than the photo.
    """
    rgb = _read_image(file)[0]
    if abs(np.log(rgb.shape[1] / rgb.shape[0] * shape[0] / shape[1])) > 0.01:
        raise InputError(
            f"The background '{file}' has {rgb.shape[1]} x {rgb.shape[0]} pixels, the photo {shape[1]} x {shape[0]}: "
            "expected the same view in the same size."
        )
    if rgb.shape[:2] == tuple(shape[:2]):
        return rgb
    return np.array(Image.fromarray(rgb).resize((shape[1], shape[0]), Image.Resampling.LANCZOS))
