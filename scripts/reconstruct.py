"""One photo -> a metric, physics-enabled USD twin.

./isaaclab.sh -p scripts/reconstruct.py --photo desk.jpg --depth desk_depth.png --camera desk.json
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from phototwin.console import run_script


@dataclass(frozen=True)
class Args:
    """Command line of reconstruct.py.

    Attributes:
        photo: Image to start from; the bundled sample when not given.
        depth: Depth of the photo: 16-bit PNG [mm], npy or exr [m].
        camera: JSON with K_px and, optionally, T_world_camera.
        objects: JSON list of hints: optional "name" with a "box", a "point" or a "mask" each.
        anchor: A known length, "green cube=0.04" (longest side) or "camera height=0.34" [m]; may be repeated.
        seed: Seed of every random choice.
        out: Folder of the run; out/<name of the photo> when not given. The twin goes into its subfolder twin.
        resume: Keep a twin that is there already.
    """

    photo: Path | None = None
    depth: Path | None = None
    camera: Path | None = None
    objects: Path | None = None
    anchor: tuple[str, ...] = ()
    seed: int = 0
    out: Path | None = None
    resume: bool = False


def main(args: Args) -> int:
    """Make the twin; returns the exit status."""
    from phototwin_tasks.main_job import Source, run_reconstruction

    source = Source(args.photo, args.depth, args.camera, args.objects, args.anchor)
    sys.stdout.write(run_reconstruction(source, args.seed, args.out, args.resume))
    return 0


if __name__ == "__main__":
    run_script(Args, main)
