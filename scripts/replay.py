"""Replay the demonstrations of a run: their states exactly, or their actions in any physics engine.

./isaaclab.sh -p scripts/replay.py out/desk
./isaaclab.sh -p scripts/replay.py out/desk --by action --engine newton_mjwarp
./isaaclab.sh -p scripts/replay.py out/desk --by action --engine mujoco --count 20
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
    """Command line of replay.py.

    Attributes:
        run: Folder of a run of generate.py.
        by: state (write what was recorded, compare what is read back) or action (start as recorded, repeat the actions).
        engine: ovphysx, newton_mjwarp or mujoco (MuJoCo's own engine, by action).
        count: So many demonstrations; all when not given.
    """

    run: Annotated[Path, tyro.conf.Positional]
    by: str = "state"
    engine: str = "ovphysx"
    count: int | None = None


def main(args: Args) -> int:
    """Replay; returns the exit status."""
    from phototwin_tasks.replay.job import run_replay

    sys.stdout.write(run_replay(args.run, args.by, args.engine, args.count))
    return 0


if __name__ == "__main__":
    run_script(Args, main)
