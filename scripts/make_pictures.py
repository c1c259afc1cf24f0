"""Pictures of four real photos before and after: photo, hard paste, blended.

./isaaclab.sh -p scripts/make_pictures.py --data ../shared/data
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from phototwin.console import run_script

PICTURES = Path(__file__).resolve().parents[1] / "docs/pictures"


@dataclass(frozen=True)
class Args:
    """Command line of make_pictures.py.

    Attributes:
        data: Folder of the captures.
        work: Where their twins are kept; one that is there already is used.
        out: Where the pictures go.
    """

    data: Path = Path("../shared/data")
    work: Path = Path("out/pictures")
    out: Path = PICTURES


def main(args: Args) -> int:
    """Reconstruct, draw and write each picture; returns the exit status."""
    from phototwin_tasks.pictures import CAPTURES, before_after, capture_twin, save_picture

    for name in CAPTURES:
        save_picture(args.out / f"{name}.jpg", before_after(capture_twin(args.data, name, args.work)))
        sys.stdout.write(f"Wrote {args.out / name}.jpg: photo, hard paste, blended.\n")
    return 0


if __name__ == "__main__":
    run_script(Args, main)
