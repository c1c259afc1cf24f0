"""One photo -> a USD twin -> demonstrations of a robot in it.

./isaaclab.sh -p scripts/generate.py
./isaaclab.sh -p scripts/generate.py --photo desk.jpg --instruction "put the green cube on the yellow cube" --num-demos 50
./isaaclab.sh -p scripts/generate.py --twin out/desk/twin --physics newton_mjwarp --out out/desk_newton
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from phototwin.console import run_script


@dataclass(frozen=True)
class Args:
    """Command line of generate.py.

    Attributes:
        photo: Image to start from; the bundled sample when neither this nor --twin is given.
        depth: Depth of the photo: 16-bit PNG [mm], npy or exr [m].
        camera: JSON with K_px and, optionally, T_world_camera.
        objects: JSON list of hints: optional "name" with a "box", a "point" or a "mask" each.
        anchor: A known length, "green cube=0.04" (longest side) or "camera height=0.34" [m]; may be repeated.
        twin: Start from this twin instead of a photo.
        instruction: What the robot shall do; empty for a task that fits the scene.
        robot: Robot.
        num_demos: Successful episodes to store.
        num_envs: Environments side by side; 0 chooses.
        seed: Seed of every random choice.
        resolution: Width and height of the frames [px].
        physics: ovphysx, newton_mjwarp or isaacsim_physx.
        renderer: warp_raster (ours: draws only what moves), newton_warp, ovrtx or isaacsim_rtx.
        device: cpu or cuda:0.
        out: Folder of the run; out/<name of the photo> when not given.
        resume: Go on with an interrupted run of the same settings.
    """

    photo: Path | None = None
    depth: Path | None = None
    camera: Path | None = None
    objects: Path | None = None
    anchor: tuple[str, ...] = ()
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
    out: Path | None = None
    resume: bool = False


def main(args: Args) -> int:
    """Run the whole way; returns the exit status."""
    from phototwin_tasks.generate import GenerateConfig
    from phototwin_tasks.main_job import Source, run_main_job

    source = Source(args.photo, args.depth, args.camera, args.objects, args.anchor, args.twin)
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
    )
    sys.stdout.write(run_main_job(source, config, args.out, args.resume))
    return 0


if __name__ == "__main__":
    run_script(Args, main)
