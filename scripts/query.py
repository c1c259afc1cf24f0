"""Show which part of a thing words name: a heat map on the photo, and how a gripper can hold it there.

./isaaclab.sh -p scripts/query.py out/desk/twin "the mug by its handle" --out handle.png
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from phototwin.console import run_script


@dataclass(frozen=True)
class Args:
    """Command line of query.py.

    Attributes:
        twin: Folder of the twin.
        text: A thing and its part, as an instruction would name them: "the mug by its handle", "the red part of the box".
        query: words (shape and colour), or clip, clip=FOLDER (any words after "by its", needs weights).
        robot: Whose gripper: panda, ur10, so101, g1, or "module:NAME".
        out: The picture: red is the part, white where it begins, blue what it is not.
    """

    twin: Annotated[Path, tyro.conf.Positional]
    text: Annotated[str, tyro.conf.Positional]
    query: str = "words"
    robot: str = "panda"
    out: Path = Path("query.png")


def main(args: Args) -> int:
    """Answer and draw; returns the exit status."""
    from phototwin_tasks.query import show_query

    sys.stdout.write(show_query(args.twin, args.text, args.query, args.robot, args.out))
    return 0


if __name__ == "__main__":
    run_script(Args, main)
