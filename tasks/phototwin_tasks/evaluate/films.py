"""Which attempts of an evaluation are filmed, and where their films lie."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from phototwin.episode import Episode

VIDEOS = "videos"
SUCCESS = "success"


def failure_word(episode: Episode) -> str:
    """The class of an episode's failure, or "success"."""
    return SUCCESS if episode.success else episode.failure.partition(":")[0]


def film_file(folder: Path, twin: str, attempt: int, word: str) -> Path:
    """The film of an attempt in the folder of an evaluation.

    Args:
        folder: Of the evaluation.
        twin: Name of the twin.
        attempt: Index of the attempt.
        word: As ``failure_word`` gives it.
    """
    return folder / VIDEOS / f"{_plain(twin)}_{attempt:04d}_{word}.mp4"


def filmed(folder: Path, twin: str) -> dict[int, str]:
    """Attempts on a twin of which there are films, with what ``failure_word`` says of them."""
    found: dict[int, str] = {}
    for file in sorted((folder / VIDEOS).glob("*.mp4")):
        parts = re.fullmatch(r"(.*)_(\d+)_([^_]+)", file.stem)
        if parts and parts[1] == _plain(twin):
            found[int(parts[2])] = parts[3]
    return found


def kept_films(words: dict[int, str], most: int) -> set[int]:
    """Attempts whose films are kept: so many successes, and so many failures, the first of each class before the second of any.

    What is not kept of some attempts is not kept of these and more either: batch by batch comes to the same as all at once.

    Args:
        words: What ``failure_word`` says of each attempt.
        most: Most films of successes, and of failures.
    """
    seen: Counter[str] = Counter()
    turns: list[tuple[int, int]] = []
    for attempt in sorted(words):
        turns.append((seen[words[attempt]], attempt))
        seen[words[attempt]] += 1
    successes = [attempt for _, attempt in turns if words[attempt] == SUCCESS]
    failures = [attempt for _, attempt in sorted(turns) if words[attempt] != SUCCESS]
    return {*successes[:most], *failures[:most]}


def _plain(name: str) -> str:
    return name.replace(" ", "_")
