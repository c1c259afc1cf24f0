"""Words -> the region of an object that they name, by what its shape and the photo tell or by a model that has read about it."""

from __future__ import annotations

from functools import lru_cache
from typing import Protocol, cast

import numpy as np

from phototwin.errors import InputError, PlanError
from phototwin.plan.region import Region, sample_item
from phototwin.resolve import resolve
from phototwin.scene import Scene, SceneObject

DEFAULT = "words"
QUERIES = {"words": "phototwin.plan.query_words:make_words", "clip": "phototwin.plan.query_clip:make_clip"}
"""Name -> function that makes the backend, given what follows "=" in the name."""


class QueryBackend(Protocol):
    """Finds the parts of objects that words name."""

    def __call__(self, scene: Scene, item: SceneObject, part: str, /) -> np.ndarray:
        """How well ``part`` fits each of ``region.sample_item(item)``, (N,) in 0..1; from 0.5 on better than anything else it could be.

        Raises:
            PlanError: The object has no such part, or the words are not known.
        """
        ...


@lru_cache(maxsize=16)
def choose_query(name: str = DEFAULT) -> QueryBackend:
    """The backend of that name: "words" (no weights), "clip", "clip=FOLDER" with its weights, or "module:Attr".

    Raises:
        InputError: It is unknown, or there are no weights.
    """
    kind, _, option = name.partition("=")
    if kind in QUERIES:
        return resolve(kind, QUERIES, "query")(option)
    found = resolve(name, QUERIES, "query")
    backend = found() if isinstance(found, type) else found
    if not callable(backend):
        raise InputError(f"The query '{name}' is a {type(backend).__name__} and cannot be called.")
    return cast(QueryBackend, backend)


@lru_cache(maxsize=256)
def find_region(scene: Scene, item: SceneObject, part: str, query: str = DEFAULT) -> Region:
    """The region of an object of a scene that ``part`` ("handle", "red part") names.

    Raises:
        PlanError: There is no such part.
        InputError: The backend is unknown, or lacks its weights.
    """
    samples = sample_item(item)
    score = np.asarray(choose_query(query)(scene, item, part), np.float64)
    if score.shape != (len(samples.points_o),) or not np.isfinite(score).all():
        raise PlanError(
            f"The query '{query}' gave scores of shape {score.shape} for the {item.name}, expected {len(samples.points_o)} "
            "finite numbers: choose another with --query."
        )
    region = Region(part, samples, score)
    if not region.inside.any():
        raise PlanError(
            f"Nothing of the {item.name} fits '{part}' better than anything else does: name another part, or none."
        )
    return region
