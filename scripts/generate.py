"""One photo -> a USD twin -> demonstrations of a robot in it.

./isaaclab.sh -p scripts/generate.py
./isaaclab.sh -p scripts/generate.py --photo desk.jpg --instruction "put the green cube on the yellow cube" --num-demos 50
./isaaclab.sh -p scripts/generate.py --twin out/desk/twin --physics newton_mjwarp --out out/desk_newton
./isaaclab.sh -p scripts/generate.py --photo "captures/*.jpg" --num-demos 1000 --workers 8 --out out/all
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from phototwin.console import run_script
from phototwin.pipeline import Source

NO_SOURCE = Source()


@dataclass(frozen=True)
class Args:
    """Command line of generate.py.

    Attributes:
        source: The photo and what comes with it.
        photos: More photos, folders or patterns; files beside them (desk_depth.png, desk_camera.json ...) are taken along.
        twin: Start from this twin, or from several, instead of photos.
        instruction: What the robot shall do, one sentence or several; empty for tasks that make sense on the twin.
        planner: What reads instructions: grammar; vlm or vlm=FOLDER; endpoint or endpoint=MODEL.
        query: What finds the part by which a thing shall be held: words (shape and colour); clip or clip=FOLDER (any words, needs weights).
        robot: Robot: panda, ur10, so101, g1, or "module:NAME".
        base: Where it stands, "x y z yaw" (world, m and deg) or a JSON file with T_world_base or T_camera_base; empty finds a place.
        num_demos: Successful episodes to store, shared among the tasks.
        num_tasks: At most so many tasks are proposed for a twin where no instruction is given.
        num_envs: Environments side by side; 0 chooses.
        seed: Seed of every random choice.
        fps: Control and frame rate: 10, 12, 15, 20, 24, 30, 40 or 60.
        resolution: Width and height of the frames [px].
        physics: ovphysx, newton_mjwarp or isaacsim_physx.
        renderer: warp_raster (ours: draws only what moves), path_traced (ours, slow, for truth), pasted and plain (to compare with), newton_warp, ovrtx or isaacsim_rtx.
        device: cpu or cuda:0.
        camera_jitter: Move the camera of every attempt but the first, up to so many metres along and degrees about each axis, and a share of zoom.
        grasp_variety: How much attempts differ in which of the good grasps they take: 1 as usual, 0 always the best, which is easier to learn from.
        noise_m: Make the tool wander off its path by so many metres (root mean square), and record what should be done there: policies learn the way back.
        keep_raw: Store what was rendered beside what was blended, with depth and labels of every frame (raw/ in the HDF5).
        out: Folder of the run; out/<name of the photo> when not given.
        resume: Go on with an interrupted run of the same settings.
        workers: Processes with a simulator each; 0 chooses.
        ray: Address of a Ray cluster that shall work on it ("auto" for the one this machine is part of).
        part: all; or plan, work (by any number of machines at once, in a shared folder) and merge, see docs/cluster.md.
    """

    source: tyro.conf.OmitArgPrefixes[Source] = NO_SOURCE
    photos: tuple[Path, ...] = ()
    twin: tuple[Path, ...] = ()
    instruction: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    planner: str = "grammar"
    query: str = "words"
    robot: str = "panda"
    base: str = ""
    num_demos: int = 10
    num_tasks: int = 3
    num_envs: int = 0
    seed: int = 0
    fps: int = 15
    resolution: tuple[int, int] = (224, 224)
    physics: str = "ovphysx"
    renderer: str = "warp_raster"
    device: str = "cpu"
    camera_jitter: tuple[float, float, float] = (0.0, 0.0, 0.0)
    randomize: str = "default"
    grasp_variety: float = 1.0
    noise_m: float = 0.0
    keep_raw: bool = False
    out: Path | None = None
    resume: bool = False
    workers: int = 0
    ray: str = ""
    part: str = "all"


def main(args: Args) -> int:
    """Run the whole way; returns the exit status."""
    from phototwin_tasks.generate import GenerateConfig
    from phototwin_tasks.generate.config import Crew
    from phototwin_tasks.main_job import run_main_job

    config = GenerateConfig(
        instructions=tuple(text for text in args.instruction if text.strip()),
        planner=args.planner,
        query=args.query,
        robot=args.robot,
        base=args.base,
        num_demos=args.num_demos,
        num_tasks=args.num_tasks,
        num_envs=args.num_envs,
        seed=args.seed,
        fps=args.fps,
        resolution=args.resolution,
        physics=args.physics,
        renderer=args.renderer,
        device=args.device,
        randomize=args.randomize,
        camera_jitter=args.camera_jitter,
        grasp_variety=args.grasp_variety,
        noise_m=args.noise_m,
        keep_raw=args.keep_raw,
    )
    crew = Crew(args.workers, args.ray, args.part)
    sys.stdout.write(run_main_job(args.source, args.twin, config, args.out, args.resume, crew, args.photos))
    return 0


if __name__ == "__main__":
    run_script(Args, main)
