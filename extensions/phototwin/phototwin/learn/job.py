"""What ``scripts/train.py`` runs: datasets to a policy in a folder."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from phototwin.errors import InputError
from phototwin.learn.config import CHECKPOINT, TrainConfig
from phototwin.learn.demos import Demos, join_demos, load_demos
from phototwin.output import disk_errors


def run_training(
    data: tuple[Path, ...], config: TrainConfig, out: Path, demos: int | None = None, resume: bool = False
) -> str:
    """Train a policy on datasets; what to say at the end.

    Args:
        data: Folders of runs of generate.py, or of LeRobot datasets.
        config: How.
        out: Folder of the policy.
        demos: So many episodes of each; all where None.
        resume: Go on from a checkpoint in ``out``.

    Raises:
        InputError: There is nothing to learn from, or ``out`` holds a policy or a checkpoint and ``resume`` is False.
        OutputError: The disk refuses.
    """
    from phototwin.learn.train import train

    if out.exists() and any(out.iterdir()) and not (resume and (out / CHECKPOINT).is_file()):
        raise InputError(
            f"'{out}' is not empty: give another --out, or --resume where a training was interrupted before its end."
        )
    whole = gather_demos(data, config.policy.image_px, demos)
    sys.stderr.write(f"{len(whole)} demonstrations, {len(whole.rgb)} frames of {config.policy.image_px} px\n")
    begun = time.monotonic()

    def say(step: int, loss: float) -> None:
        left = (time.monotonic() - begun) / step * (config.steps - step)
        sys.stderr.write(f"step {step} of {config.steps}, loss {loss:.4f}, {left / 60:.1f} min left\n")

    with disk_errors(out):
        trained = train(whole, config, out, say)
    return (
        f"{config.policy.kind} from {len(whole)} demonstrations: {config.steps} steps, loss {trained.losses[-1]:.4f}, "
        f"{trained.cpu_s / 60:.1f} CPU-minutes.\n  {out}   scripts/evaluate.py --policy {out} --twin TWIN\n"
    )


def gather_demos(data: tuple[Path, ...], image_px: int, demos: int | None = None) -> Demos:
    """All demonstrations of datasets as one, or the first ``demos`` of each.

    Raises:
        InputError: There are none, not so many, or they do not go together.
    """
    if not data:
        raise InputError("There is nothing to learn from: give folders of runs of generate.py, or of LeRobot datasets.")
    return join_demos([load_demos(folder, image_px, demos) for folder in data])
