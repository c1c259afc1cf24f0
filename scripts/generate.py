"""One photo -> a USD twin -> demonstrations of a robot in it.

./isaaclab.sh -p scripts/generate.py
./isaaclab.sh -p scripts/generate.py --photo desk.jpg --instruction "put the green cube on the yellow cube" --num-demos 50
./isaaclab.sh -p scripts/generate.py --twin out/desk/twin --physics newton_mjwarp --out out/desk_newton
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import tyro

from phototwin.console import run_script
from phototwin.pipeline import Source

NO_SOURCE = Source()


@dataclass(frozen=True)
class Args:
    """Command line of generate.py.

    Attributes:
        source: The photo and what comes with it.
        twin: Start from this twin instead of a photo.
        instruction: What the robot shall do; empty for a task that fits the scene.
        robot: Robot.
        num_demos: Successful episodes to store.
        num_envs: Environments side by side; 0 chooses.
        seed: Seed of every random choice.
        resolution: Width and height of the frames [px].
        physics: ovphysx, newton_mjwarp or isaacsim_physx.
        renderer: warp_raster (ours: draws only what moves), path_traced (ours, slow, for truth), newton_warp, ovrtx or isaacsim_rtx.
        device: cpu or cuda:0.
        camera_jitter: Move the camera of every attempt but the first, up to so many metres along and degrees about each axis, and a share of zoom.
        keep_raw: Store what was rendered beside what was blended (raw/rgba in the HDF5).
        out: Folder of the run; out/<name of the photo> when not given.
        resume: Go on with an interrupted run of the same settings.
    """

    source: tyro.conf.OmitArgPrefixes[Source] = NO_SOURCE
    twin: Path | None = None
    instruction: str = ""
    robot: str = "panda"
    num_demos: int = 10
    num_envs: int = 0
    seed: int = 0
    resolution: tuple[int, int] = (224, 224)
    physics: str = "ovphysx"
    renderer: str = "warp_raster"
    device: str = "cpu"
    camera_jitter: tuple[float, float, float] = (0.0, 0.0, 0.0)
    keep_raw: bool = False
    out: Path | None = None
    resume: bool = False


def main(args: Args) -> int:
    """Run the whole way; returns the exit status."""
    from phototwin_tasks.generate import GenerateConfig
    from phototwin_tasks.main_job import run_main_job

    config = GenerateConfig(
        args.instruction,
        args.robot,
        args.num_demos,
        args.num_envs,
        args.seed,
        args.resolution,
        args.physics,
        args.renderer,
        args.device,
        args.camera_jitter,
        args.keep_raw,
    )
    sys.stdout.write(run_main_job(args.source, args.twin, config, args.out, args.resume))
    return 0


if __name__ == "__main__":
    run_script(Args, main)
