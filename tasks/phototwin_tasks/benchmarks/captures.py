"""The real captures with what is known of them, and their reconstructions: each is made once and measured many times."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from phototwin.errors import TwinError
from phototwin.images import load_ids, load_rgb
from phototwin.pipeline import SAMPLE, Source, photo_to_twin
from phototwin.scene import Maps, Scene, SceneObject, load_scene
from phototwin_tasks.benchmarks.capture_measures import bounding_box, inner_point, overlap

DRAWN = Path(__file__).with_name("outlines.json")
"""Outlines of objects by capture and name: polygons [px], drawn by hand on enlarged photos before any result was seen beside them.
The segmented points that come with ``six_*`` end 2 to 4 px inside the objects and 9 mm above the table: no truth for an outline."""
NAMELESS = ("plate", "pitcher", "bowl", "mug", "teapot")
"""The objects of pcr_google7, whose truth brings only names of mesh files."""
FINE = 4
"""Polygons are filled on this many sub-pixels a side."""
SAME_OBJECT = 0.4
"""Overlap from which a found mask is taken for an object of the truth."""


@dataclass(frozen=True, eq=False)
class Capture:
    """One photo and the truth about it.

    Attributes:
        name: Folder name, or "sample".
        photo: Image file.
        depth: Depth file, or None.
        camera: Camera file with K alone.
        K_px: Intrinsics (3, 3) [px].
        pose: T_world_camera (4, 4) that the source states, or None.
        facts: ``scene.json``.
        outlines: Where each object is, by name, (H, W) bool.
        folder: Where all of it lies.
    """

    name: str
    photo: Path
    depth: Path | None
    camera: Path
    K_px: np.ndarray
    pose: np.ndarray | None
    facts: dict
    outlines: dict[str, np.ndarray]
    folder: Path


@dataclass(frozen=True, eq=False)
class Take:
    """One reconstruction.

    Attributes:
        scene: The twin, or None where it was refused.
        method: What was given, in words.
        wall_s: Time it took [s].
        cpu_s: Processor time it took, all cores together [s].
        error: Why there is none.
    """

    scene: Scene | None
    method: str
    wall_s: float = float("nan")
    cpu_s: float = float("nan")
    error: str = ""


@dataclass(frozen=True, eq=False)
class Bench:
    """What the rows of the table share.

    Attributes:
        data: Folder of the captures, or None.
        scratch: Where twins are written.
        names: Captures that take part.
        captures: Those that were loaded, by name.
        takes: Reconstructions by capture and method.
    """

    data: Path | None
    scratch: Path
    names: tuple[str, ...]
    captures: dict[str, Capture] = field(default_factory=dict)
    takes: dict[tuple[str, str], Take] = field(default_factory=dict)

    def capture(self, name: str) -> Capture | None:
        """A capture by name, None where it does not take part or its folder is not there."""
        if name not in self.names:
            return None
        if name not in self.captures:
            folder = SAMPLE if name == "sample" else (self.data or Path()) / name
            if name != "sample" and (self.data is None or not folder.is_dir()):
                return None
            self.captures[name] = load_capture(name, folder, self.scratch)
        return self.captures[name]

    def take(
        self,
        capture: Capture,
        method: str,
        depth: bool = False,
        anchors: tuple[str, ...] = (),
        hints: list[dict] | None = None,
    ) -> Take:
        """The reconstruction of a capture by a method, made on the first call; a refusal is said on the error stream."""
        key = (capture.name, method)
        if key not in self.takes:
            folder = self.scratch / f"{capture.name} {method}".replace(" ", "_").replace(",", "")
            self.takes[key] = _reconstruct(capture, method, folder, depth, anchors, hints)
            if self.takes[key].error:
                complain(capture.name, method, self.takes[key].error)
        return self.takes[key]


def complain(scene: str, method: str, sentence: str) -> None:
    """Say on the error stream why a row of the table is empty."""
    sys.stderr.write(f"{scene} ({method}): {sentence}\n")
    sys.stderr.flush()


def attempt(scene: str, method: str, call: Callable[[], float]) -> float:
    """What ``call`` returns, or NaN with the reason on the error stream: one bad scene does not end the table."""
    try:
        return float(call())
    except Exception as error:
        complain(scene, method, f"{type(error).__name__}: {error}")
        return float("nan")


def load_capture(name: str, folder: Path, scratch: Path) -> Capture:
    """A capture with its truth; the camera file, K alone, is written to ``scratch``."""
    sample = name == "sample"
    facts = json.loads((folder / ("truth.json" if sample else "scene.json")).read_text())
    K = facts["camera"]["K_px"] if sample else facts["K_px"]
    K_px = np.array([[K["fx"], 0, K["cx"]], [0, K["fy"], K["cy"]], [0, 0, 1]] if isinstance(K, dict) else K)
    camera = scratch / f"{name}_camera.json"
    camera.write_text(json.dumps({"K_px": K_px.tolist()}))
    pose = facts["camera"]["T_world_camera"] if sample else facts.get("T_world_camera", facts.get("T_base_camera"))
    photo, depth = folder / ("photo.png" if sample else "rgb.png"), folder / "depth.png"
    outlines = _outlines(name, folder, facts, load_rgb(photo).shape[:2])
    return Capture(
        name,
        photo,
        depth if depth.is_file() else None,
        camera,
        K_px,
        None if pose is None else np.array(pose),
        facts,
        outlines,
        folder,
    )


def _outlines(name: str, folder: Path, facts: dict, shape: tuple[int, int]) -> dict[str, np.ndarray]:
    """Outlines by name: rendered with the scene where it was, else drawn by hand over the photo, true to about a pixel."""
    if (folder / "masks.png").is_file():
        ids = load_ids(folder / "masks.png")
        return {item.get("name", NAMELESS[i]): ids == i + 1 for i, item in enumerate(facts["objects"])}
    drawn = json.loads(DRAWN.read_text()).get(name, {})
    return {name: outline_of(polygons, shape) for name, polygons in drawn.items()}


def outline_of(polygons: list[list[list[float]]], shape: tuple[int, int]) -> np.ndarray:
    """The mask (H, W) that polygons [px] enclose; one inside another is a hole."""
    import cv2

    fine = [np.round(np.array(polygon) * FINE).astype(np.int32) for polygon in polygons]
    mask = cv2.fillPoly(np.zeros((shape[0] * FINE, shape[1] * FINE), np.uint8), fine, (1.0,))
    return mask.reshape(shape[0], FINE, shape[1], FINE).mean((1, 3)) >= 0.5


def box_hints(capture: Capture) -> list[dict]:
    """One box around each object of the truth."""
    return [{"box": [float(v) for v in bounding_box(mask)]} for mask in capture.outlines.values()]


def point_hints(capture: Capture) -> list[dict]:
    """One point well inside each object of the truth."""
    return [{"point": list(inner_point(mask))} for mask in capture.outlines.values()]


def mask_hints(capture: Capture) -> list[dict]:
    """The outline of each object of the truth."""
    return [{"mask": mask} for mask in capture.outlines.values()]


def _reconstruct(
    capture: Capture, method: str, folder: Path, depth: bool, anchors: tuple[str, ...], hints: list[dict] | None
) -> Take:
    objects = None if hints is None else write_hints(hints, folder.with_name(f"{folder.name}_hints"))
    wall, cpu = time.perf_counter(), time.process_time()
    try:
        source = Source(capture.photo, capture.depth if depth else None, capture.camera, objects, anchor=anchors)
        photo_to_twin(source, folder)
    except TwinError as error:
        return Take(None, method, error=str(error))
    except Exception as error:
        return Take(None, method, error=f"{type(error).__name__}: {error}")
    seconds = (time.perf_counter() - wall, time.process_time() - cpu)
    return Take(load_scene(folder), method, *seconds)


def look(capture: Capture, scratch: Path, depth: bool, hints: list[dict] | None = None) -> Maps:
    """What perception sees in a capture, given K and the rest.

    Raises:
        TwinError: It refuses.
    """
    from phototwin.perceive.perceive import PerceiveConfig, perceive
    from phototwin.perceive.photo import load_photo

    objects = None if hints is None else write_hints(hints, scratch / f"{capture.name}_look_hints")
    photo = load_photo(capture.photo, capture.depth if depth else None, capture.camera, objects)
    return perceive(photo, PerceiveConfig())


def write_hints(hints: list[dict], folder: Path) -> Path:
    """The hints as a file for ``--objects``; masks become images beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    items = []
    for i, hint in enumerate(hints):
        if "mask" in hint:
            Image.fromarray(hint["mask"].astype(np.uint8) * 255).save(folder / f"{i}.png")
            hint = hint | {"mask": f"{i}.png"}
        items.append(hint)
    file = folder / "objects.json"
    file.write_text(json.dumps(items))
    return file


def best_match(masks: np.ndarray, outline: np.ndarray) -> tuple[int, float]:
    """Index of the mask (N, H, W) that overlaps an outline most, and how much; -1 where there is none."""
    shares = [overlap(mask, outline) for mask in masks]
    return (int(np.argmax(shares)), max(shares)) if shares else (-1, 0.0)


def masks_of(scene: Scene) -> np.ndarray:
    """Masks of a twin's objects (N, H, W) bool."""
    return load_ids(scene.path(scene.masks))[None] == np.arange(1, len(scene.objects) + 1)[:, None, None]


def all_objects(scene: Scene) -> np.ndarray:
    """Pixels of any object of a twin, (H, W) bool."""
    return load_ids(scene.path(scene.masks)) > 0


def object_at(scene: Scene, outline: np.ndarray) -> tuple[SceneObject, np.ndarray]:
    """The twin's object at an outline of the truth, and its mask.

    Raises:
        TwinError: None is there.
    """
    masks = masks_of(scene)
    index, share = best_match(masks, outline)
    if share < SAME_OBJECT:
        raise TwinError(f"No object of the twin covers the outline (best overlap {share:.2f}).")
    return scene.objects[index], masks[index]
