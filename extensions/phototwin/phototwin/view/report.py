"""One page that shows what was made of a photo, and how: ``report.html``, self-contained."""

from __future__ import annotations

import base64
import io
import json
import os
import platform
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from phototwin.episode import Episode
from phototwin.errors import OutputError
from phototwin.images import load_rgb
from phototwin.scene import CameraSigma, Scene, SceneObject, load_scene
from phototwin.view.page import OVERVIEW, PAGE
from phototwin.view.render import PALETTE, color_depth, overlay_masks, render_twin, scaled_camera, side_camera
from phototwin.view.run_section import RunFacts, render_run

SHOWN_EPISODES = 4
PICTURE_WIDTH_PX = 640
AUDIT_FILE, REPORT_FILE = "audit.json", "report.html"
JPEG_QUALITY = 88
SIDE_ANGLE_RAD = np.radians(35)
"""How far the second view of the twin is turned."""


@dataclass(frozen=True)
class ReportFacts:
    """What a run can tell besides its files; whatever is empty is left out of the page.

    Attributes:
        seconds: Seconds per stage, in order.
        settings: What the run was asked for (instruction, robot, seed, ...), name -> value.
        notes: What was used or assumed, name -> sentence; joins the notes of the scene.
        versions: Package -> version.
        attempts: Index, success, failure ("" on success) and steps of every attempt.
        peak_memory_gb: Most memory used [GB], or None.
        run: The demonstrations' tasks, failures and numbers, or None.
    """

    seconds: dict[str, float] = field(default_factory=dict)
    settings: dict[str, str] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    attempts: tuple[tuple[int, bool, str, int], ...] = ()
    peak_memory_gb: float | None = None
    run: RunFacts | None = None


def write_report(folder: Path, twin: Path, episodes: Iterable[Episode] = (), facts: ReportFacts | None = None) -> Path:
    """``folder/report.html``; all pictures are inside it, and it loads nothing from anywhere.

    Args:
        folder: Folder of the run; a ``preview.mp4`` in it is linked.
        twin: Folder of the twin.
        episodes: Demonstrations; the first ``SHOWN_EPISODES`` that have frames are shown.
        facts: What else is known.

    Raises:
        InputError: ``twin`` holds no scene.
        OutputError: The page cannot be written.
    """
    scene, facts = load_scene(twin), facts or ReportFacts()
    values: dict[str, Any] = {
        "scene": scene,
        "facts": facts,
        "pictures": _pictures(scene),
        "objects": [_object_row(i, item) for i, item in enumerate(scene.objects)],
        "audit": _audit(twin),
        "episodes": _strips(episodes),
        "notes": {**scene.notes, **_camera_note(scene), **facts.notes},
        "failures": Counter(failure for _, success, failure, _ in facts.attempts if not success).most_common(),
        "successes": sum(success for _, success, _, _ in facts.attempts),
        "longest": max(facts.seconds.values(), default=0.0) or 1.0,
        "machine": machine(),
        "preview": "preview.mp4" if (folder / "preview.mp4").is_file() else None,
    }
    values["run_section"] = render_run(facts.run, inline) if facts.run else ""
    return write_page(folder / REPORT_FILE, PAGE, values)


def write_overview(folder: Path, title: str, run: RunFacts, links: Iterable[tuple[str, str]]) -> Path:
    """``folder/report.html`` of a run over several twins.

    Args:
        folder: Folder of the run.
        title: What it is called.
        run: Its tasks, failures and numbers.
        links: Name and address of each twin's own report.

    Raises:
        OutputError: The page cannot be written.
    """
    values = {"title": title, "run_section": render_run(run, inline), "links": list(links)}
    return write_page(folder / REPORT_FILE, OVERVIEW, values)


def machine() -> str:
    """What a page says of the machine it was made on."""
    return f"Python {platform.python_version()}, {platform.system()} {platform.machine()}, {os.cpu_count()} cores"


def write_page(file: Path, template: str, values: dict[str, Any]) -> Path:
    """``file``, now the page that a jinja2 template makes of values; whatever is not marked as safe is escaped.

    Raises:
        OutputError: The page cannot be written.
    """
    from jinja2 import Environment

    # Names, notes and instructions come from the user: everything is escaped; run_section was before.
    page = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(template).render(values)
    partial = file.with_name(file.name + ".partial")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(page, encoding="utf-8")
        os.replace(partial, file)
    except OSError as error:
        if partial.is_file():
            partial.unlink()
        raise OutputError(f"The page '{file}' could not be written: {error.strerror or error}.") from error
    return file


def _pictures(scene: Scene) -> list[tuple[str, str]]:
    """Image address and caption of the photo and of what became of it."""
    camera = scaled_camera(scene.camera, PICTURE_WIDTH_PX)
    side = scaled_camera(side_camera(scene, SIDE_ANGLE_RAD), PICTURE_WIDTH_PX)
    depth, reach = color_depth(scene)
    measured = f"depth, {reach[0]:.2f} m (yellow) to {reach[1]:.2f} m (violet)" if reach else "depth: nothing is known"
    return [
        (inline(load_rgb(scene.path(scene.photo))), "photo"),
        (inline(overlay_masks(scene)), "objects found"),
        (inline(depth), measured),
        (inline(load_rgb(scene.path(scene.background_rgb))), "background, objects removed"),
        (inline(render_twin(scene, camera, over_photo=True)), "twin: meshes over the background"),
        (inline(render_twin(scene, side, over_photo=False)), "twin from the side: meshes only"),
    ]


def _audit(twin: Path) -> dict[str, Any] | None:
    """What ``audit.json`` of the twin says, ready for the page; None where the twin was not audited."""
    file = twin / AUDIT_FILE
    if not file.is_file():
        return None
    value = json.loads(file.read_text())
    issues = value["usd_issues"]
    said = {None: "The USD was not validated.", 0: "The USD passes the asset validator."}
    count = None if issues is None else len(issues)
    value["usd"] = said.get(count, f"The asset validator finds {count} errors in the USD.")
    value["engines"] = value["engines"] if len(value["engines"]) > 1 else []
    return value


def _strips(episodes: Iterable[Episode]) -> list[dict[str, Any]]:
    """First, middle and last frame of the first episodes that have any."""
    strips: list[dict[str, Any]] = []
    for episode in episodes:
        if len(strips) == SHOWN_EPISODES:
            break
        count = len(episode.rgb)
        if count:
            frames = [inline(episode.rgb[t]) for t in (0, count // 2, count - 1)]
            strips.append({"attempt": episode.attempt, "instruction": episode.instruction, "frames": frames})
            strips[-1]["seconds"] = count / episode.fps
            strips[-1]["seam"] = _seam(episode.seam)
    return strips


def _seam(scores: np.ndarray) -> str:
    """What the borders of what was composited look like over an episode, in words; nothing where it was not judged."""
    if not len(scores):
        return ""
    return (
        f" (seams {scores.mean():.2f}, worst {scores.min():.2f} in frame {int(scores.argmin())}; 1 is a real photo's)"
    )


def _object_row(index: int, item: SceneObject) -> dict[str, Any]:
    return {
        "mark": "#{:02x}{:02x}{:02x}".format(*PALETTE[index % len(PALETTE)]),
        "color": "#{:02x}{:02x}{:02x}".format(*(np.clip(item.color_rgb, 0, 1) * 255).round().astype(int)),
        "name": item.name,
        "shape": f"hollow {item.shape}" if item.hollow else item.shape,
        "size": _size(item),
        "material": item.material,
        "mass": f"{1000 * item.mass_kg:.0f}",
        "friction": f"{item.friction:.2f}",
        "faces": len(item.mesh.faces),
        "pieces": len(item.pieces),
        "place": ", ".join(f"{v:.3f}" for v in item.T_world_object[:3, 3]),
    }


def _size(item: SceneObject) -> str:
    """Sides in millimetres, each with its standard deviation where one is known."""
    if not item.size_sigma_m.any():
        return " x ".join(f"{1000 * side:.0f}" for side in item.size_m)
    pairs = zip(1000 * item.size_m, 1000 * item.size_sigma_m, strict=True)
    return " x ".join(f"{side:.0f} ± {max(sigma, 0.1):.{0 if sigma >= 1 else 1}f}" for side, sigma in pairs)


def _camera_note(scene: Scene) -> dict[str, str]:
    """One sentence on how sure the camera is, or nothing where that is not known."""
    sigma = scene.camera_sigma
    if sigma == CameraSigma():
        return {}
    focal_px, height_m = scene.camera.K_px[0, 0], scene.camera.T_world_camera[2, 3]
    return {
        "camera, one standard deviation": f"Focal length {focal_px:.0f} px ± {100 * sigma.focal:.1f} %, tilt ± "
        f"{np.degrees(sigma.pitch_rad):.2f}°, roll ± {np.degrees(sigma.roll_rad):.2f}°, {height_m:.3f} m above the support; "
        f"all lengths together ± {100 * sigma.scale:.1f} %."
    }


def inline(rgb: np.ndarray) -> str:
    """A picture (H, W, 3) uint8 as an address that holds its own data; wide ones are made ``PICTURE_WIDTH_PX`` wide."""
    image = Image.fromarray(np.ascontiguousarray(rgb))
    if image.width > PICTURE_WIDTH_PX:
        image = image.resize((PICTURE_WIDTH_PX, max(round(image.height * PICTURE_WIDTH_PX / image.width), 1)))
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=JPEG_QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode()
