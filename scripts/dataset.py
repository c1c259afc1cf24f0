"""Look into datasets of demonstrations, check them, and make new ones of them.

./isaaclab.sh -p scripts/dataset.py info out/desk
./isaaclab.sh -p scripts/dataset.py verify out/desk
./isaaclab.sh -p scripts/dataset.py merge out/desk out/kitchen --out out/both
./isaaclab.sh -p scripts/dataset.py filter out/desk --quality --out out/good
./isaaclab.sh -p scripts/dataset.py review out/desk
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro

from phototwin.console import run_script
from phototwin.data.quality import QualityLimits

Folder = Annotated[Path, tyro.conf.Positional]
Folders = Annotated[tuple[Path, ...], tyro.conf.Positional]


@dataclass(frozen=True)
class Info:
    """Say what a dataset holds.

    Attributes:
        folder: Folder of a run or of a dataset, or an .hdf5 file.
    """

    folder: Folder


@dataclass(frozen=True)
class Verify:
    """Check everything of a dataset; exit status 1 and a line for each defect where there is any.

    Attributes:
        folder: Folder of a run or of a dataset, or an .hdf5 file.
    """

    folder: Folder


@dataclass(frozen=True)
class Merge:
    """Make one dataset of several.

    Attributes:
        folders: Datasets with an HDF5 file.
        out: The new dataset; with --append one that exists.
        append: Add to the dataset in --out.
        lerobot: Whether to write a LeRobot dataset as well.
    """

    folders: Folders
    out: Path
    append: bool = False
    lerobot: bool = True


@dataclass(frozen=True)
class Filter:
    """Make a dataset of some demonstrations of another.

    Attributes:
        folder: Dataset with an HDF5 file.
        out: The new dataset.
        success: Only those that did their task, or only those that did not.
        task: Only those of these families (place, stack ...).
        object: Only those whose task is about one of these objects.
        min_seam: Only those whose worst frame has at least this seam score.
        rejected: A rejected.json of the review page: all but those.
        leave_out: Names of demonstrations that are not wanted, such as demo_3.
        quality: Only those that pass the gate.
        limits: What the gate lets pass.
        twin: Folder of the twin, for the shapes of its objects; found by itself beside a run.
        lerobot: Whether to write a LeRobot dataset as well.
    """

    folder: Folder
    out: Path
    success: bool | None = None
    task: tuple[str, ...] = ()
    object: tuple[str, ...] = ()
    min_seam: float | None = None
    rejected: Path | None = None
    leave_out: tuple[str, ...] = ()
    quality: bool = False
    limits: QualityLimits = field(default_factory=QualityLimits)
    twin: Path | None = None
    lerobot: bool = True


@dataclass(frozen=True)
class Split:
    """Make several datasets of one, each a folder in --out.

    Attributes:
        folder: Dataset with an HDF5 file.
        out: Folder of the new datasets.
        by: task (family), object (of the task), instruction, or share.
        shares: With --by share, how much each part gets; demonstrations are dealt evenly over the parts.
        lerobot: Whether to write LeRobot datasets as well.
    """

    folder: Folder
    out: Path
    by: Literal["task", "object", "instruction", "share"] = "share"
    shares: tuple[float, ...] = (0.9, 0.1)
    lerobot: bool = True


@dataclass(frozen=True)
class Convert:
    """Write a dataset anew in another layout.

    Attributes:
        folder: Dataset with an HDF5 file.
        to: lerobot (a folder), lerobot_depth (the same with the depth and masks of --keep-raw), hdf5 (self-contained, with fingerprints), robomimic (the same with next frames), or rlds (a folder for
            TensorFlow Datasets; needs the extra rlds).
        out: The folder or file to write.
    """

    folder: Folder
    to: Literal["lerobot", "lerobot_depth", "hdf5", "robomimic", "rlds"]
    out: Path


@dataclass(frozen=True)
class Review:
    """Write a page to look through the demonstrations and reject some by hand: review.html.

    Attributes:
        folder: Dataset with an HDF5 file.
        out: Where the page goes; review.html beside the dataset when not given.
        limits: What the gate lets pass; what does not is marked.
        twin: Folder of the twin, for the shapes of its objects; found by itself beside a run.
    """

    folder: Folder
    out: Path | None = None
    limits: QualityLimits = field(default_factory=QualityLimits)
    twin: Path | None = None


@dataclass(frozen=True)
class Replay:
    """Play the demonstrations of a run again: their states exactly, or their actions in any physics engine.

    Attributes:
        run: Folder of a run of generate.py.
        by: state or action.
        engine: ovphysx, newton_mjwarp or mujoco (by action).
        count: So many demonstrations; all when not given.
    """

    run: Folder
    by: str = "state"
    engine: str = "ovphysx"
    count: int | None = None


@dataclass(frozen=True)
class Args:
    """Command line of dataset.py.

    Attributes:
        do: What to do.
    """

    do: Info | Verify | Merge | Filter | Split | Convert | Review | Replay


def main(args: Args) -> int:
    """Do it; returns the exit status."""
    from phototwin_tasks.dataset import job

    match args.do:
        case Info(folder):
            sys.stdout.write(job.info(folder))
        case Verify(folder):
            return job.verify_to(sys.stdout, folder)
        case Merge():
            sys.stdout.write(job.merge(args.do.folders, args.do.out, args.do.append, args.do.lerobot))
        case Filter() as f:
            wanted = job.Wanted(
                f.success, f.task, f.object, f.min_seam, f.rejected, f.leave_out, f.limits if f.quality else None
            )
            sys.stdout.write(job.keep(f.folder, f.out, wanted, f.twin, f.lerobot))
        case Split() as s:
            sys.stdout.write(job.split(s.folder, s.out, s.by, s.shares, s.lerobot))
        case Convert(folder, to, out):
            sys.stdout.write(job.convert(folder, to, out))
        case Review() as r:
            sys.stdout.write(job.review(r.folder, r.out, r.limits, r.twin))
        case Replay() as r:
            from phototwin_tasks.replay.job import run_replay

            sys.stdout.write(run_replay(r.run, r.by, r.engine, r.count))
    return 0


if __name__ == "__main__":
    run_script(tyro.conf.OmitArgPrefixes[tyro.conf.OmitSubcommandPrefixes[Args]], main)
