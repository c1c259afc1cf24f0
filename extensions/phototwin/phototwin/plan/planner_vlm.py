"""A vision-language model of transformers as planner, from weights in a local folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from phototwin.backends.listing import VisionLanguage
from phototwin.backends.tables import LISTING
from phototwin.backends.weights import FOLDER_VARIABLE, find_weights
from phototwin.errors import InputError
from phototwin.plan.planner_answer import ask_for_plan
from phototwin.plan.task import Task
from phototwin.scene import Scene

MAX_TOKENS = 700
"""Of an answer: eight steps and a sentence."""


class VisionLanguagePlanner:
    """Any image-text-to-text model whose processor has a chat template, asked for a plan."""

    def __init__(self, weights: Path, name: str) -> None:
        self.model, self.name = VisionLanguage(weights), name

    def __call__(self, text: str, scene: Scene, photo_rgb: np.ndarray) -> Task:
        """The plan that the model makes of an instruction; the same answer each time.

        Raises:
            InstructionError: It refuses, or gives no usable plan.
        """
        return ask_for_plan(
            lambda question, turns: self.model.answer(photo_rgb, question, turns, MAX_TOKENS), text, scene, self.name
        )


def make_vlm(option: str = "") -> VisionLanguagePlanner:
    """The planner on the model of that short name or in that folder, or on the first one whose weights are found.

    Raises:
        InputError: There are none.
    """
    if option and option not in LISTING:
        if not (Path(option) / "config.json").is_file():
            raise InputError(
                f"'{option}' is no folder with a model (it has no config.json), nor one of {', '.join(LISTING)}: name one, as in vlm=FOLDER."
            )
        return VisionLanguagePlanner(Path(option), Path(option).resolve().name)
    repos = {name: model.weights[0] for name, model in LISTING.items() if option in ("", name)}
    reasons = []
    for repo in repos.values():
        folder, reason = find_weights(repo)
        if folder is not None:
            return VisionLanguagePlanner(folder, repo.split("/")[-1])
        reasons.append(f"{repo}: {reason}")
    raise InputError(
        f"The planner 'vlm' has no model ({'; '.join(reasons)}): get one with 'hf download {next(iter(repos.values()))}', put it into "
        f"${FOLDER_VARIABLE}, or name any image-text-to-text model's folder, as in vlm=FOLDER. Nothing is downloaded by itself."
    )
