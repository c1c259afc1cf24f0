"""Suite ``main``: the whole way, photo to demonstrations, on the sample and on real captures, on both engines."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from phototwin.pipeline import SAMPLE
from phototwin_tasks.benchmarks import REPOSITORY, Measure
from phototwin_tasks.benchmarks.read_back import measure_read_back

ENGINES = ("ovphysx", "newton_mjwarp")
TIMEOUT_S = 1500
TWIN_STAGES = ("read the photo", "perceive", "shapes", "background", "build the scene", "author USD", "audit")
"""From photo to twin, in ``summary.json``."""


@dataclass(frozen=True)
class MainScene:
    """One run of the main job.

    Attributes:
        name: Folder of the capture, or "sample".
        instruction: What to do; empty for the default.
        depth: Whether the capture's depth is given.
        anchor: A known length, or empty.
        hints: Name, x, y of a pixel for every object that is pointed at.
    """

    name: str
    instruction: str = ""
    depth: bool = False
    anchor: str = ""
    hints: tuple[tuple[str, float, float], ...] = ()


SCENES = (
    MainScene("sample", depth=True),
    MainScene("simpler_bridge_cubes", "put the green cube on the yellow cube", anchor="camera height=0.336"),
    MainScene("six_cheezit", "pick up the red box", depth=True),
    MainScene("six_blue_mug", "pick up the blue mug", depth=True),
    MainScene("simpler_counter_three_objects", "pick up the can", anchor="can=0.122"),
    MainScene("o2s_spoon_plate", "pick up the spoon", depth=True),
)


def measure(data: Path | None, quick: bool) -> Iterator[Measure]:
    """Run the scenes that exist; ``quick`` takes two scenes, one engine and four demonstrations each."""
    scenes = [s for s in SCENES if s.name == "sample" or (data and (data / s.name).is_dir())]
    demos = 4 if quick else 10
    with tempfile.TemporaryDirectory(prefix="phototwin_benchmark_") as folder:
        for scene in scenes[:2] if quick else scenes:
            twin: Path | None = None
            for engine in ENGINES[:1] if quick else ENGINES:
                out = Path(folder) / f"{scene.name}_{engine}"
                source = ["--twin", str(twin)] if twin else source_arguments(scene, data, Path(folder))
                facts = run_generate([*source, "--instruction", scene.instruction, "--physics", engine], out, demos)
                yield from _measures(f"{scene.name} {engine}", facts, demos)
                twin = out / "twin" if twin is None and (out / "twin").is_dir() else twin
                if twin is None:
                    break
                if engine == ENGINES[0] and "error" not in facts:
                    yield from measure_read_back(scene.name, twin, out / "demos", Path(folder))


def source_arguments(scene: MainScene, data: Path | None, scratch: Path) -> list[str]:
    """Command line of generate.py that names the photo and what belongs to it; only K of the camera is given."""
    if scene.name == "sample" or data is None:
        return [
            "--photo",
            str(SAMPLE / "photo.png"),
            "--depth",
            str(SAMPLE / "depth.png"),
            "--camera",
            str(SAMPLE / "camera.json"),
        ]
    folder = data / scene.name
    camera = scratch / f"{scene.name}_camera.json"
    camera.write_text(json.dumps({"K_px": json.loads((folder / "scene.json").read_text())["K_px"]}))
    arguments = ["--photo", str(folder / "rgb.png"), "--camera", str(camera)]
    if scene.depth:
        arguments += ["--depth", str(folder / "depth.png")]
    if scene.anchor:
        arguments += ["--anchor", scene.anchor]
    if scene.hints:
        hints = scratch / f"{scene.name}_objects.json"
        hints.write_text(json.dumps([{"name": name, "point": [x, y]} for name, x, y in scene.hints]))
        arguments += ["--objects", str(hints)]
    return arguments


def run_generate(arguments: list[str], out: Path, demos: int) -> dict:
    """The facts (``summary.json``) of one run in a process of its own; "error" holds its last line where it failed."""
    command = [sys.executable, str(REPOSITORY / "scripts/generate.py"), *arguments]
    command += ["--num-demos", str(demos), "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S)
    file = out / "summary.json"
    if done.returncode or not file.exists():
        lines = (done.stderr or done.stdout).strip().splitlines() or ["no output"]
        sys.stderr.write(f"{out.name}: exit {done.returncode}: {lines[-1]}\n")
        return {"error": lines[-1]}
    return json.loads(file.read_text())


def _measures(scene: str, facts: dict, demos: int) -> Iterator[Measure]:
    if "error" in facts:
        yield Measure("demonstrations", scene, 0, "", f">= {demos}")
        return
    seconds = facts["seconds"]
    fast = scene == "sample ovphysx"
    twin = sum(seconds.get(stage, 0.0) for stage in TWIN_STAGES)
    rest = sum(seconds.values()) - twin
    if twin:
        yield Measure("photo to twin", scene, twin, "s", "< 20")
    for stage, value in seconds.items():
        yield Measure(stage, scene, value, "s")
    yield Measure("twin to demonstrations", scene, rest, "s", "< 60" if fast and demos == 10 else None)
    yield Measure("attempts", scene, facts["attempts"], "")
    yield Measure("success share", scene, facts["successes"] / facts["attempts"], "", ">= 0.5")
    yield Measure("demonstrations", scene, facts["demonstrations"], "", f">= {demos}")
    yield Measure("demonstrations per minute", scene, 60 * facts["demonstrations"] / rest, "1/min")
    yield Measure("peak memory", scene, facts["peak_memory_gb"], "GB", "< 6")
