"""One photo -> a metric, physics-enabled USD twin.

./isaaclab.sh -p scripts/reconstruct.py --photo desk.jpg --depth desk_depth.png --camera desk.json
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
    """Command line of reconstruct.py; run it again and only the stages whose inputs changed run again.

    Attributes:
        source: The photo and what comes with it.
        seed: Seed of every random choice.
        out: Folder of the run; out/<name of the photo> when not given. The twin goes into its subfolder twin.
        redo: Stages to run again even if nothing changed: see, perceive, shapes, background.
    """

    source: tyro.conf.OmitArgPrefixes[Source] = NO_SOURCE
    seed: int = 0
    out: Path | None = None
    redo: tuple[str, ...] = ()


def main(args: Args) -> int:
    """Make the twin; returns the exit status."""
    from phototwin_tasks.main_job import run_reconstruction

    sys.stdout.write(run_reconstruction(args.source, args.seed, args.out, args.redo))
    return 0


if __name__ == "__main__":
    run_script(Args, main)
