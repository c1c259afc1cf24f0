"""What ``scripts/train.py`` runs: datasets to a policy in a folder."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path

from phototwin.errors import InputError
from phototwin.learn.config import CHECKPOINT, TRAINING_FILE, Shown, TrainConfig, check_training
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
        resume: Go on with a training that was interrupted in ``out``.

    Raises:
        InputError: The config makes no sense, there is nothing to learn from, several tasks would be learned as one, or ``out`` holds a policy
            or a part of one and ``resume`` is False.
        OutputError: The disk refuses.
    """
    from phototwin.learn.policy import FACTS_FILE
    from phototwin.learn.train import choose_precision, train

    check_training(config)
    choose_precision(config)
    if out.is_file():
        raise InputError(f"'{out}' is a file: give --out the name of a folder.")
    begun = any((out / name).is_file() for name in (TRAINING_FILE, CHECKPOINT)) and not (out / FACTS_FILE).is_file()
    if out.exists() and any(out.iterdir()) and not (resume and begun):
        raise InputError(
            f"'{out}' is not empty: give another --out, or --resume where a training was interrupted before its end."
        )
    whole = gather_demos(data, config.policy.image_px, demos)
    sys.stderr.write(f"{len(whole)} demonstrations, {len(whole.rgb)} frames of {config.policy.image_px} px\n")
    told: list[tuple[int, float]] = []

    def say(step: int, loss: float) -> None:
        told.append((step, time.monotonic()))
        (first, began), (_, now) = told[0], told[-1]
        left = f", {(now - began) / (step - first) * (config.steps - step) / 60:.1f} min left" if step > first else ""
        sys.stderr.write(f"step {step} of {config.steps}, loss {loss:.4f}{left}\n")

    with disk_errors(out):
        trained = train(whole, config, out, say)
    return (
        f"{config.policy.kind} from {len(whole)} demonstrations: {config.steps} steps, loss {trained.losses[-1]:.4f}, "
        f"{trained.cpu_s / 60:.1f} CPU-minutes.\n  {out}   scripts/evaluate.py --policy {out} --twin TWIN\n"
    )


def gather_demos(data: tuple[Path, ...], image_px: int, demos: int | None = None) -> Demos:
    """All demonstrations of datasets as one, or the first ``demos`` of each.

    Raises:
        InputError: There are none, not so many, they do not go together, or are of several tasks on one twin.
    """
    if not data:
        raise InputError("There is nothing to learn from: give folders of runs of generate.py, or of LeRobot datasets.")
    whole = join_demos([load_demos(folder, image_px, demos) for folder in data])
    _check_tasks(whole.shown)
    return whole


def _check_tasks(shown: Sequence[Shown]) -> None:
    """Refuse several tasks on one twin: policies are not given words, and would learn a mean of them."""
    for twin in dict.fromkeys(each.twin for each in shown if each.twin):
        here = {each.task: each.instruction for each in shown if each.twin == twin}
        if len(here) > 1:
            raise InputError(
                f"The demonstrations are of {len(here)} tasks on one twin ({', '.join(sorted(here.values()))}), and a policy is not told which: "
                "train one for each, on parts that scripts/dataset.py split --by task, object or instruction makes."
            )
