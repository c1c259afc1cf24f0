"""Evaluations -> what ``evaluation.html`` tells of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from phototwin.learn.statistics import compare_paired
from phototwin.plan.randomize import PRESETS, Randomization
from phototwin.view.evaluation import SUCCESS, Clip, EvaluationFacts, Measured, Pair
from phototwin_tasks.evaluate.config import Evaluation
from phototwin_tasks.evaluate.films import film_file, filmed
from phototwin_tasks.evaluate.run import held_out
from phototwin_tasks.generate.config import versions
from phototwin_tasks.generate.failures import CLASSES
from phototwin_tasks.generate.jobs import twin_hash

FILMS = 24
"""Most films of one class on the page."""
INTERVALS = {
    "wilson": "Wilson's interval, for a number of attempts that was fixed before.",
    "always": "The interval holds at every moment, as the number of attempts depended on what was seen (--half-width).",
}


@dataclass(frozen=True)
class Entry:
    """One evaluation among those of a command.

    Attributes:
        policy: Name of the policy.
        value: Of the factor; None where nothing is varied.
        folder: Where the evaluation lies.
        found: What was found.
        digest: Of the policy.
    """

    policy: str
    value: float | None
    folder: Path
    found: Evaluation
    digest: str

    @property
    def label(self) -> str:
        """Policy and value."""
        return self.policy + (f" at {self.value:g}" if self.value is not None else "")


def page_facts(entries: Sequence[Entry], twins: Sequence[Path], instruction: str, factor: str) -> EvaluationFacts:
    """What a page tells of evaluations of one command.

    Args:
        entries: The evaluations, policy by policy.
        twins: Folders of the twins.
        instruction: What the robot was told.
        factor: What was varied; empty for nothing.
    """
    config = entries[0].found.config
    policies = list(dict.fromkeys(entry.policy for entry in entries))
    method = entries[0].found.rate().method
    stopped = sum(entry.found.stopped_early for entry in entries)
    intervals = INTERVALS[method] + (
        f" {stopped} of {len(entries)} evaluations stopped early: narrow enough." if stopped else ""
    )
    names = entries[0].found.twins()
    return EvaluationFacts(
        title=" and ".join(policies) if len(policies) < 4 else f"{len(policies)} policies",
        instruction=instruction,
        all_twins=names[0] if len(names) == 1 else "all",
        factor=factor,
        confidence=config.confidence,
        intervals=intervals,
        limit_s=config.seconds,
        rows=tuple(row for entry in entries for row in _rows(entry)),
        pairs=tuple(_pairs(entries)),
        clips=tuple(_clips(entries)),
        meanings=dict(CLASSES),
        attempts=tuple(marks for entry in entries for marks in _attempts(entry)),
        settings=_settings(entries, twins, factor),
        notes={
            **{f"policy {entry.policy}": entry.found.policy for entry in entries},
            **{f"digest of {entry.policy}": entry.digest for entry in entries},
            **{f"digest of {name}": twin_hash(twin) for name, twin in zip(names, twins, strict=False)},
            **entries[0].found.notes,
            **versions(),
        },
    )


def _settings(entries: Sequence[Entry], twins: Sequence[Path], factor: str) -> dict[str, str]:
    """What was asked for; what is empty or zero was not."""
    config = entries[0].found.config
    asked = {name.replace("_", " "): str(value) for name, value in asdict(config).items() if value}
    asked |= {"seed": str(config.seed), "randomize": _ranges(config.randomize)}
    asked |= {"time for an attempt": f"{config.seconds:.1f} s"}
    asked.pop("seconds", None)
    if factor:
        values = ", ".join(f"{value:g}" for value in dict.fromkeys(e.value for e in entries) if value is not None)
        asked |= {"randomize": f"{factor} = {values}, the rest as given"}
    for i, (twin, name) in enumerate(zip(twins, entries[0].found.twins(), strict=False)):
        marks = {entry.policy: held_out(entry.found, name) for entry in entries}
        alike = len(set(marks.values())) == 1
        said = marks[entries[0].policy] if alike else "".join(f"{mark} of {policy}" for policy, mark in marks.items())
        asked[f"twin {i + 1}" if len(twins) > 1 else "twin"] = f"{twin}{said}"
    return asked


def _ranges(randomize: str) -> str:
    """What attempts vary: the name of a preset, or what differs from not varying anything."""
    if randomize in PRESETS:
        return randomize
    none = asdict(Randomization())
    return ", ".join(f"{name} {value}" for name, value in json.loads(randomize).items() if value != none.get(name))


def _rows(entry: Entry) -> list[Measured]:
    """What was measured over all twins, and on each where there are several."""
    found, twins = entry.found, entry.found.twins()
    measured = []
    for twin in ("", *(twins if len(twins) > 1 else [])):
        rows = [row for row in found.rows if twin in ("", row.twin)]
        rate = found.rate(twin)
        times = tuple(row.seconds for row in rows if row.success)
        failures = found.failures() if not twin else {}
        measured.append(
            Measured(entry.policy, entry.value, twin, rate.successes, rate.trials, rate.low, rate.high, times, failures)
        )
    return measured


def _pairs(entries: Sequence[Entry]) -> list[Pair]:
    """The first policy against each other one, value by value."""
    first = [entry for entry in entries if entry.policy == entries[0].policy]
    pairs = []
    for other in entries[len(first) :]:
        one = next(entry for entry in first if entry.value == other.value)
        mine, theirs = paired(one.found, other.found)
        test = compare_paired(mine, theirs)
        both = sum(a and b for a, b in zip(mine, theirs, strict=True))
        neither = test.trials - both - test.only_first - test.only_second
        counts = (both, test.only_first, test.only_second, neither)
        pairs.append(Pair(one.policy, other.policy, other.value, *counts, test.difference, test.p_value))
    return pairs


def paired(one: Evaluation, other: Evaluation) -> tuple[list[bool], list[bool]]:
    """Success of two policies in the attempts that both have met, in the same order."""
    theirs = {(row.twin, row.attempt): row.success for row in other.rows}
    shared = [row for row in one.rows if (row.twin, row.attempt) in theirs]
    return [row.success for row in shared], [theirs[row.twin, row.attempt] for row in shared]


def _clips(entries: Sequence[Entry]) -> list[Clip]:
    """Films of all evaluations, by turns, so that none hides another's; not more than ``FILMS`` of a class."""
    turns: list[tuple[int, Clip]] = []
    for entry in entries:
        rows = {(row.twin, row.attempt): row for row in entry.found.rows}
        several = len(entry.found.twins()) > 1
        counts: dict[str, int] = {}
        for twin in entry.found.twins():
            for attempt, word in sorted(filmed(entry.folder, twin).items()):
                row = rows.get((twin, attempt))
                if row is None:
                    continue
                detail = row.failure.partition(": ")[2]
                parts = [entry.label, twin if several else "", f"attempt {attempt}", f"{row.seconds:.1f} s", detail]
                file = film_file(entry.folder, twin, attempt, word)
                turns.append((counts.get(word, 0), Clip(word, ", ".join(filter(None, parts)), file)))
                counts[word] = counts.get(word, 0) + 1
    ordered = [clip for _, clip in sorted(turns, key=lambda turn: turn[0])]
    kinds = (SUCCESS, *CLASSES)
    kept = {id(clip) for kind in kinds for clip in [clip for clip in ordered if clip.kind == kind][:FILMS]}
    return [clip for clip in ordered if id(clip) in kept]


def _attempts(entry: Entry) -> list[tuple[str, tuple[tuple[int, bool, str, float], ...]]]:
    twins = entry.found.twins()
    return [
        (
            entry.label + (f", {twin}" if len(twins) > 1 else ""),
            tuple((row.attempt, row.success, row.failure, row.seconds) for row in entry.found.rows if row.twin == twin),
        )
        for twin in twins
    ]
