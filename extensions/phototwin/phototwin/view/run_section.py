"""What a run of demonstrations tells, as a piece of a page: tasks, cost, failures with a frame each, what was set aside."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from phototwin.images import load_rgb

SHOWN_FAILURES = 24

SECTION = """
{% if run.numbers %}
<div class="numbers">
{% for name, value in run.numbers.items() %}
<div><b>{{ value }}</b>{{ name }}</div>
{% endfor %}
</div>
{% endif %}
{% if run.tasks %}
<h2>Tasks</h2>
<div class="card"><table>
<tr><th>twin</th><th>instruction</th><th>skill and object</th><th class="n">succeeded</th><th class="n">attempts</th><th class="n">yield</th></tr>
{% for t in run.tasks %}
<tr><td class="key">{{ t.twin }}</td><td class="long">{{ t.instruction }}{% if t.other_words %}<br><span class="soft">also: {{ t.other_words|join("; ") }}</span>{% endif %}</td><td>{{ t.label }}</td><td class="n">{{ t.successes }}</td><td class="n">{{ t.attempts }}</td><td class="n">{{ "%.0f %%" % (100 * t.successes / t.attempts) if t.attempts else "" }}</td></tr>
{% endfor %}
</table></div>
{% endif %}
{% if run.set_aside %}
<h2>Set aside</h2>
<div class="card"><table>
<tr><th>what</th><th>class</th><th>why</th></tr>
{% for what, kind, reason in run.set_aside %}
<tr><td class="key">{{ what }}</td><td>{{ kind }}</td><td class="long">{{ reason }}</td></tr>
{% endfor %}
</table></div>
{% endif %}
{% if run.failures %}
<h2>Failed attempts</h2>
<p>{% for name, count in run.classes.items() %}{{ count }} x {{ name }}{% if run.meanings[name] %} ({{ run.meanings[name] }}){% endif %}{{ "; " if not loop.last else "." }}{% endfor %}</p>
<div class="failures">
{% for f in shown %}
<figure>{% if f.image %}<img src="{{ f.image }}" alt="last frame">{% endif %}<figcaption><b>{{ f.row.kind }}</b>, attempt {{ f.row.attempt }} of &ldquo;{{ f.row.instruction }}&rdquo;{% if f.row.detail %}: {{ f.row.detail }}{% endif %}</figcaption></figure>
{% endfor %}
</div>
{% if run.failures|length > shown|length %}
<p class="soft">The first {{ shown|length }} of {{ run.failures|length }}; the last frame of each is in demos/failures.</p>
{% endif %}
{% endif %}
"""


@dataclass(frozen=True)
class TaskRow:
    """One task of a run.

    Attributes:
        twin: Name of the twin.
        instruction: What the robot was told.
        other_words: Other wordings of it that were used.
        label: Skill and object.
        successes: Successful attempts.
        attempts: All attempts.
    """

    twin: str
    instruction: str
    other_words: tuple[str, ...]
    label: str
    successes: int
    attempts: int


@dataclass(frozen=True)
class FailureRow:
    """One failed attempt.

    Attributes:
        instruction: What the robot was told.
        attempt: Its index.
        kind: Class of the failure.
        detail: What else is known, or "".
        picture: File of its last frame.
    """

    instruction: str
    attempt: int
    kind: str
    detail: str
    picture: Path


@dataclass(frozen=True)
class RunFacts:
    """All that a page tells of a run.

    Attributes:
        numbers: Large numbers at the top, name -> value.
        tasks: Every task.
        failures: Every failed attempt.
        classes: How often each class of failure came.
        meanings: What the classes mean.
        set_aside: What was left out: what, class, reason.
    """

    numbers: dict[str, str] = field(default_factory=dict)
    tasks: tuple[TaskRow, ...] = ()
    failures: tuple[FailureRow, ...] = ()
    classes: dict[str, int] = field(default_factory=dict)
    meanings: dict[str, str] = field(default_factory=dict)
    set_aside: tuple[tuple[str, str, str], ...] = ()


def render_run(run: RunFacts, inline: Callable[[np.ndarray], str]) -> str:
    """The piece of a page; every word is escaped.

    Args:
        run: The facts.
        inline: Makes an address that holds its own data of a picture (H, W, 3) uint8.
    """
    from jinja2 import Environment

    shown = [
        {"row": row, "image": inline(load_rgb(row.picture)) if row.picture.is_file() else ""}
        for row in run.failures[:SHOWN_FAILURES]
    ]
    template = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(SECTION)
    return template.render(run=run, shown=shown)
