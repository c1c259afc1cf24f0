"""One page that shows how policies did: ``evaluation.html``, self-contained."""

from __future__ import annotations

import base64
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from phototwin.view.evaluation_page import EVALUATION
from phototwin.view.report import machine, write_page

EVALUATION_PAGE = "evaluation.html"
HUES = 6
"""Colours of policies."""
MOST_MB = 64.0
"""Of films inside the page; further ones are linked."""
SUCCESS = "success"


@dataclass(frozen=True)
class Measured:
    """What one policy did, at one value of a factor, on one twin or on all.

    Attributes:
        policy: Its name.
        value: Of the factor; None where nothing was varied.
        twin: Name of the twin; empty for all.
        successes, trials: Attempts.
        low, high: Ends of the interval, 0..1.
        seconds: Time of each success.
        failures: How often each class of failure came.
    """

    policy: str
    value: float | None
    twin: str
    successes: int
    trials: int
    low: float
    high: float
    seconds: tuple[float, ...]
    failures: dict[str, int]


@dataclass(frozen=True)
class Pair:
    """Two policies on the same attempts.

    Attributes:
        first, second: Their names.
        value: Of the factor; None where nothing was varied.
        both, only_first, only_second, neither: Attempts that succeeded.
        difference: Success of the first less that of the second.
        p_value: Of the paired test.
    """

    first: str
    second: str
    value: float | None
    both: int
    only_first: int
    only_second: int
    neither: int
    difference: float
    p_value: float


@dataclass(frozen=True)
class Clip:
    """A film.

    Attributes:
        kind: Class of the failure, or "success".
        said: What it shows.
        file: Where it is.
    """

    kind: str
    said: str
    file: Path


@dataclass(frozen=True)
class EvaluationFacts:
    """All that the page tells.

    Attributes:
        title: Its heading.
        instruction: What the robot was told.
        all_twins: What all twins together are called.
        factor: What was varied; empty for nothing.
        confidence: Of the intervals.
        intervals: What kind of intervals they are, a sentence or two.
        limit_s: Time that an attempt had.
        rows: What was measured; of each evaluation first the one over all twins.
        pairs: Paired comparisons.
        clips: Films.
        meanings: What classes of failure mean.
        attempts: For each evaluation and twin its name and index, success, failure and seconds of every attempt.
        settings: What was asked for, name -> value.
        notes: What was used, name -> value.
    """

    title: str
    instruction: str = ""
    all_twins: str = "all"
    factor: str = ""
    confidence: float = 0.95
    intervals: str = ""
    limit_s: float = 0.0
    rows: tuple[Measured, ...] = ()
    pairs: tuple[Pair, ...] = ()
    clips: tuple[Clip, ...] = ()
    meanings: dict[str, str] = field(default_factory=dict)
    attempts: tuple[tuple[str, tuple[tuple[int, bool, str, float], ...]], ...] = ()
    settings: dict[str, str] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)


def write_evaluation(file: Path, facts: EvaluationFacts, most_mb: float = MOST_MB) -> Path:
    """``file``, now a page of what was measured, with its films inside.

    Args:
        file: Where it goes.
        facts: What it tells.
        most_mb: Films of so many megabytes are inside; further ones must lie beside it and are linked.

    Raises:
        OutputError: It cannot be written.
    """
    whole = [row for row in facts.rows if not row.twin]
    hues = {name: i % HUES for i, name in enumerate(dict.fromkeys(row.policy for row in whole))}
    addresses = _addresses(facts.clips, file.parent, most_mb)
    counts: dict[str, int] = {}
    for row in whole:
        for name, count in row.failures.items():
            counts[name] = counts.get(name, 0) + count
    classes = sorted(counts, key=lambda name: -counts[name])
    values: dict[str, Any] = {
        "facts": facts,
        "percent": lambda share: f"{100 * share:.0f} %",
        "numbers": _numbers(facts, whole),
        "rows": [_table_row(row, hues[row.policy]) for row in facts.rows],
        "classes": classes,
        "groups": _groups(facts, classes, counts, addresses, sum(row.successes for row in whole)),
        "linked": sum(not address.startswith("data:") for address in addresses),
        "most_mb": most_mb,
        "sweep": _sweep(whole, hues) if facts.factor else None,
        "strips": _strips(whole, hues, facts),
        "machine": machine(),
    }
    return write_page(file, EVALUATION, values)


def _numbers(facts: EvaluationFacts, whole: Sequence[Measured]) -> list[tuple[str, str]]:
    """Large numbers at the top: name and value."""
    count = sum(row.trials for row in whole)
    policies = {row.policy for row in whole}
    twins = {row.twin for row in facts.rows if row.twin}
    found = [("attempts", str(count))]
    if len(whole) == 1:
        row = whole[0]
        share = row.successes / row.trials if row.trials else 0.0
        found += [("success", f"{100 * share:.0f} %"), ("interval", f"{100 * row.low:.0f} to {100 * row.high:.0f} %")]
    if len(policies) > 1:
        found.append(("policies", str(len(policies))))
    if len(twins) > 1:
        found.append(("twins", str(len(twins))))
    if facts.factor:
        found.append((f"values of {facts.factor}", str(len({row.value for row in whole}))))
    return found


def _table_row(row: Measured, hue: int) -> dict[str, Any]:
    return {
        "m": row,
        "first": not row.twin,
        "hue": hue,
        "rate": row.successes / row.trials if row.trials else 0.0,
        "median": f"{statistics.median(row.seconds):.1f}" if row.seconds else "-",
    }


def _addresses(clips: Sequence[Clip], folder: Path, most_mb: float) -> list[str]:
    """What each film is reached by: an address that holds it, or, from where they become too many, the way to its file."""
    found: list[str] = []
    left = most_mb * 1e6
    for clip in clips:
        left -= clip.file.stat().st_size
        if left < 0:
            found.append(clip.file.relative_to(folder).as_posix())
        else:
            found.append("data:video/mp4;base64," + base64.b64encode(clip.file.read_bytes()).decode())
    return found


def _groups(
    facts: EvaluationFacts, classes: Sequence[str], counts: dict[str, int], addresses: Sequence[str], successes: int
) -> list[dict[str, Any]]:
    """Films by class, failures first."""
    counts = counts | {SUCCESS: successes}
    found = []
    for name in (*classes, *([SUCCESS] if successes else [])):
        clips = [
            {"said": clip.said, "address": address}
            for clip, address in zip(facts.clips, addresses, strict=True)
            if clip.kind == name
        ]
        found.append({"name": name, "count": counts[name], "meaning": facts.meanings.get(name, ""), "clips": clips})
    return found


def _sweep(whole: Sequence[Measured], hues: dict[str, int]) -> dict[str, Any]:
    """Where everything of the chart over a factor is drawn [px]."""
    width, height, left, right, top, bottom = 900, 320, 60, 880, 14, 270
    values = sorted({row.value for row in whole if row.value is not None})
    span = (values[-1] - values[0]) or 1.0
    inner = (left + 40, right - 40)

    def across(value: float) -> float:
        share = (value - values[0]) / span if len(values) > 1 else 0.5
        return round(inner[0] + (inner[1] - inner[0]) * share, 1)

    def down(share: float) -> float:
        return round(bottom - (bottom - top) * share, 1)

    lines = []
    for i, (policy, hue) in enumerate(hues.items()):
        aside = 7 * (i - (len(hues) - 1) / 2)  # intervals of policies must not cover each other
        dots = [
            {
                "x": across(row.value) + aside,
                "y": down(row.successes / row.trials if row.trials else 0.0),
                "low": down(row.low),
                "high": down(row.high),
                "said": f"{policy}, {row.value:g}: {row.successes} of {row.trials}",
            }
            for row in sorted((r for r in whole if r.policy == policy), key=lambda r: r.value or 0.0)
            if row.value is not None
        ]
        lines.append({"policy": policy, "hue": hue, "dots": dots})
    return {
        "width": width,
        "height": height,
        "left": left,
        "right": right,
        "bottom": bottom,
        "levels": [(down(i / 4), f"{25 * i} %") for i in range(5)],
        "ticks": [(across(value), f"{value:g}") for value in values],
        "lines": lines,
    }


def _strips(whole: Sequence[Measured], hues: dict[str, int], facts: EvaluationFacts) -> dict[str, Any]:
    """Where the times to success are drawn [px], a strip for each evaluation."""
    width, left, right, pitch = 900, 190, 880, 30
    most = facts.limit_s or max((max(row.seconds) for row in whole if row.seconds), default=1.0)

    def across(seconds: float) -> float:
        return round(left + (right - left) * min(seconds / most, 1.0), 1)

    shown = [row for row in whole if row.seconds]
    rows = [
        {
            "label": _short(row.policy + (f" at {row.value:g}" if row.value is not None else "")),
            "hue": hues[row.policy],
            "y": 18 + pitch * i,
            "dots": [(across(seconds), seconds) for seconds in row.seconds],
            "median": across(statistics.median(row.seconds)),
        }
        for i, row in enumerate(shown)
    ]
    bottom, step = 8 + pitch * len(rows), _tick(most)
    return {
        "width": width,
        "height": bottom + 24,
        "left": left,
        "bottom": bottom,
        "rows": rows,
        "ticks": [(across(step * i), f"{step * i:g} s") for i in range(int(most / step) + 1)],
    }


def _tick(most: float) -> float:
    """A round step of which about eight go into ``most``."""
    raw = most / 8
    power = 10 ** math.floor(math.log10(raw))
    return next(power * factor for factor in (1, 2, 5, 10) if power * factor >= raw * 0.999)


def _short(text: str, most: int = 26) -> str:
    return text if len(text) <= most else "..." + text[3 - most :]
