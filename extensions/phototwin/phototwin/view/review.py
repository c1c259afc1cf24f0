"""A page to look through demonstrations and reject some by hand: ``review.html``, self-contained; its button saves ``rejected.json``."""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from phototwin.episode import Episode
from phototwin.errors import OutputError
from phototwin.view.review_page import CARD, FOOT, HEAD

THUMBNAILS = 6
"""Frames of the contact strip of a demonstration."""
THUMBNAIL_PX = 160
THUMBNAIL_QUALITY = 75


@dataclass(frozen=True)
class ReviewCard:
    """What is known of a demonstration besides its frames.

    Attributes:
        name: Its name in the file.
        digest: Its ``state_sha256``, by which ``rejected.json`` names it.
        scores: What it measures, by name.
        reasons: Why the gate rejects it; () where it passes.
    """

    name: str
    digest: str
    scores: dict[str, float]
    reasons: tuple[str, ...]


def write_review(file: Path, title: str, cards: Iterable[tuple[ReviewCard, Episode]]) -> Path:
    """``file``, now a page with a contact strip, scores and a checkbox for every demonstration; written as they come.

    Raises:
        OutputError: It cannot be written.
    """
    partial = file.with_name(file.name + ".partial")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("w", encoding="utf-8") as stream:
            stream.writelines(_parts(title, cards))
        os.replace(partial, file)
    except OSError as error:
        raise OutputError(f"The page '{file}' could not be written: {error.strerror or error}.") from error
    finally:
        if partial.is_file():
            partial.unlink()
    return file


def _parts(title: str, cards: Iterable[tuple[ReviewCard, Episode]]) -> Iterator[str]:
    from jinja2 import Environment

    # Names and instructions come from the user: everything is escaped.
    pages = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    head, card, foot = (pages.from_string(text) for text in (HEAD, CARD, FOOT))
    yield head.render(title=title)
    for facts, episode in cards:
        yield card.render(_values(facts, episode))
    yield foot.render(title=title)


def _values(facts: ReviewCard, episode: Episode) -> dict[str, Any]:
    count = len(episode.rgb)
    rows = np.linspace(0, count - 1, min(THUMBNAILS, count)).round().astype(int)
    return {
        "card": facts,
        "episode": episode,
        "seconds": len(episode.action) / episode.fps,
        "frames": [(int(t), _thumbnail(episode.rgb[t])) for t in rows],
        "scores": [(name.replace("_", " "), f"{value:.3g}") for name, value in facts.scores.items() if name != "steps"],
    }


def _thumbnail(rgb: np.ndarray) -> str:
    image = Image.fromarray(np.ascontiguousarray(rgb))
    image.thumbnail((THUMBNAIL_PX, THUMBNAIL_PX))
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=THUMBNAIL_QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode()
