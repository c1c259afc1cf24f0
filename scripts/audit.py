"""Is a twin fit for simulation? Measures, engines compared, go or no-go; exit status 1 where it is no-go.

./isaaclab.sh -p scripts/audit.py out/desk/twin
./isaaclab.sh -p scripts/audit.py out/desk/twin --engines mujoco --export out/desk/models
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
    """Command line of audit.py.

    Attributes:
        twin: Folder of the twin; audit.json and report.html go into it.
        engines: Physics engines to compare: mujoco, ovphysx, newton_mjwarp. MuJoCo always runs.
        robot: Whose gripper is tried.
        export: Folder for the scene as MJCF and its objects as URDF.
    """

    twin: Annotated[Path, tyro.conf.Positional]
    engines: tuple[str, ...] = ("mujoco", "ovphysx", "newton_mjwarp")
    robot: str = "panda"
    export: Path | None = None


def main(args: Args) -> int:
    """Audit the twin; returns 1 where it is no-go."""
    from phototwin_tasks.audit.job import run_audit

    go, text = run_audit(args.twin, args.engines, args.robot, args.export)
    sys.stdout.write(text)
    return 0 if go else 1


if __name__ == "__main__":
    run_script(Args, main)
