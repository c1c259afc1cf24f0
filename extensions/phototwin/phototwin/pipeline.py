"""Photo -> twin: the functions that the scripts, the Kit window and the default tasks call."""

from __future__ import annotations

import os
from pathlib import Path

from phototwin.output import written_aside
from phototwin.progress import Progress, StageTimer, silent

SAMPLE = Path(__file__).resolve().parents[3] / "usd_assets" / "sample"


def photo_to_twin(
    photo: Path,
    folder: Path,
    *,
    depth: Path | None = None,
    camera: Path | None = None,
    objects: Path | None = None,
    anchors: tuple[str, ...] = (),
    seed: int = 0,
    progress: Progress = silent,
) -> Path:
    """Reconstruct a photo into the twin ``folder``; returns its ``twin.usda``. Nothing appears in ``folder`` unless all went well.

    Args:
        photo: Image file.
        folder: Where the twin goes; an older twin there is replaced.
        depth: Depth file [mm as 16-bit PNG, or m].
        camera: JSON with K and an optional pose.
        objects: JSON with hints about objects.
        anchors: Known lengths such as "green cube=0.04" or "camera height=0.4" [m].
        seed: Seed of every random choice.
        progress: Told the stage and its share.

    Raises:
        TwinError: An input is bad, or the photo shows too little.
    """
    from phototwin.build.build import BuildConfig, build_scene
    from phototwin.perceive.perceive import PerceiveConfig, perceive
    from phototwin.perceive.photo import load_photo
    from phototwin.stage.author import author_stage

    timer = progress if isinstance(progress, StageTimer) else StageTimer(progress)
    with timer.stage("read the photo"):
        seen = load_photo(photo, depth, camera, objects)
    with timer.stage("perceive"):
        maps = perceive(seen, PerceiveConfig(seed=seed))
    with written_aside(folder) as aside:
        with timer.stage("build the scene"):
            scene = build_scene(seen, maps, aside, BuildConfig(anchors=anchors, seed=seed))
        with timer.stage("author USD"):
            author_stage(scene, aside)
    return folder / "twin.usda"


def sample_twin() -> Path:
    """Folder of the bundled sample's twin, made once per version of the sample and kept in the cache."""
    from phototwin import __version__

    cache = Path(os.environ.get("PHOTOTWIN_CACHE", Path.home() / ".cache" / "phototwin"))
    folder = cache / f"sample-{__version__}"
    if not (folder / "twin.usda").is_file():
        photo_to_twin(SAMPLE / "photo.png", folder, depth=SAMPLE / "depth.png", camera=SAMPLE / "camera.json")
    return folder
