"""Photo -> twin: the functions that the scripts, the Kit window and the default tasks call."""

from __future__ import annotations

import json
import os
import shutil
import socket
import tempfile
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from phototwin.errors import InputError
from phototwin.frozen import file_fingerprint
from phototwin.light import load_light
from phototwin.output import written_aside
from phototwin.progress import Progress, StageTimer, silent
from phototwin.stages import Stages, source_fingerprint

if TYPE_CHECKING:
    from phototwin.backends.choose import Backends
    from phototwin.backends.external import External
    from phototwin.build.build import Background, Shapes
    from phototwin.scene import GivenMesh, Maps, Photo, Scene

SAMPLE = Path(__file__).resolve().parents[3] / "usd_assets" / "sample"
MANIFEST = "manifest.json"
STAGES = ("see", "perceive", "shapes", "background")
"""Stages whose results are kept and can be made again alone."""
STAGES_FOLDER = "stages"
"""Where a run keeps them."""


@dataclass(frozen=True)
class Source:
    """A photo and all that may come with it; every learned or estimated stage can be replaced by a file.

    Attributes:
        photo: Image to start from; the bundled sample when not given.
        depth: Depth of the photo: 16-bit PNG [mm], npy or exr [m].
        camera: JSON with K_px and, optionally, T_world_camera.
        objects: JSON list of hints: optional "name" with a "box", a "point" or a "mask" each.
        masks: Masks of the objects: a PNG of object ids, or a folder with one black and white PNG per object, named after it.
        meshes: Folder with meshes of objects (glb, gltf, obj, ply, stl), named after them or object_1, object_2 ...
        background: The photo without its objects, same size, instead of inpainting.
        anchor: Known lengths [m]: "green cube=0.04" (longest side; "+-0.001" if you know how well), "mug height=0.1", "can diameter=0.066", "mug to can=0.2", "camera height=0.34".
        materials: JSON with materials, masses and frictions that are known.
        light: JSON with the light of the photo, as under "light" in a twin's scene.json, instead of estimating it.
        perception: offline (no models), auto (the best models found on this machine), or names like "depth=depth_pro,segmentation=sam3".
        shapes_from: Where meshes of the objects come from: "command:CMD {folder}" or an http address, see docs/external.md.
    """

    photo: Path | None = None
    depth: Path | None = None
    camera: Path | None = None
    objects: Path | None = None
    masks: Path | None = None
    meshes: Path | None = None
    background: Path | None = None
    anchor: tuple[str, ...] = ()
    materials: Path | None = None
    light: Path | None = None
    perception: str = "offline"
    shapes_from: str = ""


def sample_source() -> Source:
    """The bundled photo with its depth and camera."""
    return Source(SAMPLE / "photo.png", SAMPLE / "depth.png", SAMPLE / "camera.json")


def photo_to_twin(
    source: Source,
    folder: Path,
    *,
    stages: Path | None = None,
    redo: tuple[str, ...] = (),
    seed: int = 0,
    progress: Progress = silent,
) -> Path:
    """Reconstruct a photo into the twin ``folder``; returns its ``twin.usda``. Nothing appears in ``folder`` unless all went well.

    Args:
        source: The photo and what comes with it.
        folder: Where the twin goes; an older twin there is replaced.
        stages: Where results of stages are kept, and taken from where their inputs did not change; None keeps nothing.
        redo: Stages that run again even if nothing changed, of ``STAGES``.
        seed: Seed of every random choice.
        progress: Told the stage and its share.

    Raises:
        TwinError: An input is bad, or the photo shows too little.
    """
    from phototwin.backends.choose import choose_backends
    from phototwin.build.build import BuildConfig, build_scene
    from phototwin.perceive.perceive import PerceiveConfig, perceive
    from phototwin.stage.author import author_stage

    timer = progress if isinstance(progress, StageTimer) else StageTimer(progress)
    run = Stages(stages, timer, redo)
    with timer.stage("read the photo"):
        photo = read_source(source)
    models = choose_backends(source.perception)
    if source.perception != "offline":
        photo = run.run("see", lambda: see_with_models(photo, models), photo, models.names)
    config = PerceiveConfig(seed=seed)
    maps = run.run("perceive", lambda: perceive(photo, config), photo, config)
    given = (source.shapes_from, file_fingerprint(source.meshes) if source.meshes else "")
    shapes = run.run("shapes", lambda: find_shapes(maps, source, stages), maps, given)
    backing = (file_fingerprint(source.background) if source.background else "", models.names.get("inpainting"))
    cleared = run.run("background", lambda: find_background(shapes.maps, source, models), shapes.maps, backing)
    with written_aside(folder) as aside:
        with timer.stage("build the scene"):
            scene = build_scene(photo.name, shapes, cleared, aside, BuildConfig(source.anchor, source.materials))
        with timer.stage("find the light"):
            scene = light_scene(scene, source, aside)
        with timer.stage("author USD"):
            author_stage(scene, aside)
        write_manifest(aside / MANIFEST, source, seed, models.names, run, measured(scene, shapes))
    return folder / "twin.usda"


def light_scene(scene: Scene, source: Source, folder: Path) -> Scene:
    """The scene with the light that its photo shows, or that was given, saved again into ``folder``."""
    from phototwin.blend.estimate import estimate_scene_light
    from phototwin.scene import save_scene

    light = load_light(source.light) if source.light else estimate_scene_light(scene)
    scene = replace(scene, light=light, notes=scene.notes | {"light": light.note})
    save_scene(scene, folder)
    return scene


def read_source(source: Source) -> Photo:
    """The photo with its files, checked.

    Raises:
        InputError: A file is missing or bad, or files do not go together.
    """
    from phototwin.backends.external import parse_external
    from phototwin.build.physics import load_materials
    from phototwin.build.scale import parse_anchor
    from phototwin.perceive.photo import load_photo

    for text in source.anchor:  # what cannot work is refused before any work
        parse_anchor(text)
    load_materials(source.materials)
    if source.shapes_from:
        parse_external(source.shapes_from)
    if source.photo is None:
        raise InputError("No photo was given: name an image file with --photo.")
    given = {
        "meshes": source.meshes,
        "background": source.background,
        "materials": source.materials,
        "light": source.light,
    }
    for what, file in given.items():
        if file is not None and not file.exists():
            raise InputError(f"There is no '{file}' for --{what}: check the path.")
    if source.light:
        load_light(source.light)
    return load_photo(source.photo, source.depth, source.camera, source.objects, source.masks)


def see_with_models(photo: Photo, models: Backends) -> Photo:
    """The photo with what models see in it: depth and intrinsics where none were given, masks where there are no hints."""
    from phototwin.backends.see import see_more

    seen = see_more(photo, models)
    models.release()
    chosen = " ".join(f"{family.capitalize()}: {note}" for family, note in models.notes.items())
    return replace(seen, note=f"{seen.note} {chosen}".strip())


def find_shapes(maps: Maps, source: Source, scratch: Path | None) -> Shapes:
    """Fitted shapes, with given meshes in the place of those that have one."""
    from phototwin.backends.external import parse_external
    from phototwin.build.build import fit_shapes, name_shapes, register_meshes
    from phototwin.build.fit import FitConfig

    shapes = fit_shapes(maps, FitConfig())
    if not source.meshes and not source.shapes_from:
        return shapes
    names = name_shapes(shapes)
    given: dict[int, GivenMesh] = {}
    if source.shapes_from:
        given = request_shapes(parse_external(source.shapes_from), shapes.maps, names, scratch)
    if source.meshes:
        from phototwin.build.given import load_meshes, match_meshes

        given |= match_meshes(load_meshes(source.meshes), names, source.meshes)
    return register_meshes(shapes, given)


def request_shapes(
    external: External, maps: Maps, names: tuple[str, ...], scratch: Path | None
) -> dict[int, GivenMesh]:
    """What an external model makes of every object, by its index; each request and answer stays in a folder of ``scratch``."""
    from phototwin.backends.external import request_mesh
    from phototwin.build.names import make_key

    with tempfile.TemporaryDirectory(prefix="phototwin_shapes_") as folder:
        return {
            i: request_mesh(
                external,
                maps.rgb,
                maps.masks[i],
                maps.K_px,
                maps.depth_m,
                (scratch or Path(folder)) / "external" / make_key(name),
                name,
            )
            for i, name in enumerate(names)
        }


def find_background(maps: Maps, source: Source, models: Backends) -> Background:
    """The photo without its objects: the user's own, an inpainting model's, or ours.

    Raises:
        InputError: The given image has other proportions than the photo.
        PerceptionError: A model failed.
    """
    from phototwin.backends.see import paint_hole
    from phototwin.build.build import Background, clear_background
    from phototwin.build.holes import nearest_owner
    from phototwin.perceive.photo import load_background

    if source.background:
        rgb = load_background(source.background, maps.rgb.shape)
        return Background(
            rgb, nearest_owner((rgb != maps.rgb).any(-1), maps.masks), "The background is an image that was given."
        )
    cleared = clear_background(maps)
    painted = paint_hole(maps.rgb, cleared.owners > 0, models)
    models.release()
    if painted is None:
        return cleared
    name = models.names["inpainting"]
    return Background(painted, cleared.owners, f"What was behind the objects and their shadows is painted by {name}.")


def measured(scene: Scene, shapes: Shapes) -> dict[str, Any]:
    """What the manifest keeps of how well each object was fitted."""
    return {
        item.key: {
            "outline_iou": round(fit.iou, 4),
            "depth_rmse_mm": None if fit.depth_rmse_m is None else round(1000 * fit.depth_rmse_m, 3),
            "size_mm": (1000 * item.size_m).round(2).tolist(),
            "size_sigma_mm": (1000 * item.size_sigma_m).round(2).tolist(),
        }
        for item, fit in zip(scene.objects, shapes.fits, strict=True)
    }


def write_manifest(
    file: Path, source: Source, seed: int, models: dict[str, str], run: Stages, metrics: dict[str, Any]
) -> None:
    """What the twin was made of and how well: inputs by hash, settings, program, every stage's fingerprint, metrics."""
    from importlib.metadata import version

    inputs, settings = _source_facts(source, seed)
    names = ("phototwin", "numpy", "opencv-python-headless", "scipy", "trimesh", "warp-lang")
    manifest: dict[str, Any] = {
        "inputs": inputs,
        "settings": settings,
        "versions": {name: version(name) for name in names},
        "program": source_fingerprint(),
        "models": models,
        "stages": {name: asdict(record) for name, record in run.records.items()},
        "metrics": metrics,
    }
    file.write_text(json.dumps(manifest, indent=1) + "\n")


def other_inputs(folder: Path, source: Source, seed: int) -> list[str]:
    """Names of the inputs and settings in which ``source`` differs from what a twin was made of; none where its manifest cannot be read."""
    try:
        known = json.loads((folder / MANIFEST).read_text())
        before = {name: value["sha256"] for name, value in known["inputs"].items()} | known["settings"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return []
    inputs, settings = _source_facts(source, seed)
    now = json.loads(json.dumps({name: value["sha256"] for name, value in inputs.items()} | settings))
    return sorted(name for name in {*before, *now} if before.get(name) != now.get(name))


def _source_facts(source: Source, seed: int) -> tuple[dict[str, dict[str, str]], dict[str, Any]]:
    """Files of a source by name and content, and its settings."""
    inputs, settings = {}, {"seed": seed}
    for item in fields(source):
        value = getattr(source, item.name)
        if isinstance(value, Path):
            inputs[item.name] = {"file": value.name, "sha256": file_fingerprint(value)}
        elif value:
            settings[item.name] = value
    return inputs, settings


def sample_twin() -> Path:
    """Folder of the bundled sample's twin, made once per version of the sample and kept in the cache.

    Of processes that start together, as the first ones of a cluster do, each makes its own and the first to end keeps it.
    """
    from phototwin import __version__
    from phototwin.stage.robots import cache_folder

    folder = cache_folder() / f"sample-{__version__}-{source_fingerprint()[:12]}"
    if not (folder / "twin.usda").is_file():
        own = folder.with_name(f"{folder.name}.{socket.gethostname()}-{os.getpid()}")
        try:
            photo_to_twin(sample_source(), own)
            own.rename(folder)
        except OSError:
            if not folder.is_dir():  # otherwise another process was faster
                raise
        finally:
            shutil.rmtree(own, ignore_errors=True)
    return folder
