"""The page of an evaluation, a jinja2 template in the style of the report. Prose and drawing only; every value comes from ``evaluation.py`` and is escaped."""

from __future__ import annotations

from phototwin.view.page import PAGE

STYLE = """
svg { display: block; width: 100%; height: auto; }
svg.chart { min-width: 640px; }
svg text { fill: var(--soft); font: 12px system-ui, sans-serif; }
svg .grid { stroke: var(--line); }
svg .axis { stroke: var(--soft); }
.c0 { --hue: var(--bar); } .c1 { --hue: #d9864c; } .c2 { --hue: #3fa58a; } .c3 { --hue: #a767c9; } .c4 { --hue: #c9a43a; } .c5 { --hue: #d0533f; }
svg .line { stroke: var(--hue); stroke-width: 2; fill: none; }
svg .dot { fill: var(--hue); }
svg .range { fill: var(--hue); opacity: 0.35; }
.key-mark { display: inline-block; width: 11px; height: 11px; border-radius: 6px; margin-right: 7px; background: var(--hue); }
td.draw { width: 34%; min-width: 200px; }
td { vertical-align: middle; }
td.twin { white-space: nowrap; }
.narrow table { width: auto; }
.narrow th, .narrow td { padding-right: 40px; }
.films { display: grid; grid-template-columns: repeat(auto-fill, minmax(210px, 1fr)); gap: 14px; margin: 10px 0 4px; }
video { display: block; width: 100%; border-radius: 8px; background: #000; }
h3 { font-size: 15px; margin: 22px 0 2px; }
"""

EVALUATION = (
    PAGE.partition("<header>")[0]
    .replace("{{ scene.name }} - phototwin report", "{{ facts.title }} - phototwin evaluation")
    .replace("</style>", STYLE.strip() + "\n</style>")
    + """<header>
<p class="soft">phototwin evaluation</p>
<h1>{{ facts.title }}</h1>
{% if facts.instruction %}
<p class="lead">&ldquo;{{ facts.instruction }}&rdquo;</p>
{% endif %}
<div class="numbers">
{% for name, value in numbers %}
<div><b>{{ value }}</b>{{ name }}</div>
{% endfor %}
</div>
</header>

<h2>Success</h2>
<div class="card"><table>
<tr><th>policy</th>{% if facts.factor %}<th class="n">{{ facts.factor }}</th>{% endif %}<th>twin</th><th class="n">succeeded</th><th class="n">attempts</th><th class="n">success</th><th class="n">{{ percent(facts.confidence) }} interval</th><th>0 to 100 %</th><th class="n">median time [s]</th></tr>
{% for r in rows %}
<tr class="c{{ r.hue }}"><td class="key">{% if r.first %}<span class="key-mark"></span>{{ r.m.policy }}{% endif %}</td>{% if facts.factor %}<td class="n">{{ "%g"|format(r.m.value) if r.first }}</td>{% endif %}<td class="twin">{{ r.m.twin or facts.all_twins }}</td><td class="n">{{ r.m.successes }}</td><td class="n">{{ r.m.trials }}</td><td class="n">{{ percent(r.rate) }}</td><td class="n">{{ percent(r.m.low) }} to {{ percent(r.m.high) }}</td><td class="draw"><svg viewBox="0 0 200 18" role="img" aria-label="{{ percent(r.rate) }}, {{ percent(r.m.low) }} to {{ percent(r.m.high) }}">
{% for x in (1, 50, 100, 150, 199) %}
<line class="grid" x1="{{ x }}" x2="{{ x }}" y1="1" y2="17"/>
{% endfor %}
<rect class="range" x="{{ "%.1f"|format(200 * r.m.low) }}" width="{{ "%.1f"|format(200 * (r.m.high - r.m.low)) }}" y="5" height="8" rx="4"/><circle class="dot" cx="{{ "%.1f"|format(3.5 + 193 * r.rate) }}" cy="9" r="3.5"/></svg></td><td class="n">{{ r.median }}</td></tr>
{% endfor %}
</table>
<p class="soft">{{ facts.intervals }}</p>
</div>

{% if facts.pairs %}
<h2>Compared on the same attempts</h2>
<div class="card"><table>
<tr><th>first</th><th>second</th>{% if facts.factor %}<th class="n">{{ facts.factor }}</th>{% endif %}<th class="n">both</th><th class="n">only the first</th><th class="n">only the second</th><th class="n">neither</th><th class="n">first less second</th><th class="n">p</th></tr>
{% for p in facts.pairs %}
<tr><td class="key">{{ p.first }}</td><td class="key">{{ p.second }}</td>{% if facts.factor %}<td class="n">{{ "%g"|format(p.value) }}</td>{% endif %}<td class="n">{{ p.both }}</td><td class="n">{{ p.only_first }}</td><td class="n">{{ p.only_second }}</td><td class="n">{{ p.neither }}</td><td class="n">{{ "%+.0f"|format(100 * p.difference) }} points</td><td class="n">{{ "%.3g"|format(p.p_value) }}</td></tr>
{% endfor %}
</table>
<p class="soft">p: how likely so lopsided a split is where both are equally good (exact McNemar test, two sides). Attempts that both did or both missed say nothing.</p>
</div>
{% endif %}

{% if sweep %}
<h2>Success over {{ facts.factor }}</h2>
<div class="card">
<svg class="chart" viewBox="0 0 {{ sweep.width }} {{ sweep.height }}" role="img" aria-label="success over {{ facts.factor }}">
{% for y, label in sweep.levels %}
<line class="grid" x1="{{ sweep.left }}" x2="{{ sweep.right }}" y1="{{ y }}" y2="{{ y }}"/><text x="{{ sweep.left - 8 }}" y="{{ y + 4 }}" text-anchor="end">{{ label }}</text>
{% endfor %}
{% for x, label in sweep.ticks %}
<line class="axis" x1="{{ x }}" x2="{{ x }}" y1="{{ sweep.bottom }}" y2="{{ sweep.bottom + 5 }}"/><text x="{{ x }}" y="{{ sweep.bottom + 20 }}" text-anchor="middle">{{ label }}</text>
{% endfor %}
<text x="{{ sweep.right }}" y="{{ sweep.bottom + 38 }}" text-anchor="end">{{ facts.factor }}</text>
{% for line in sweep.lines %}
<g class="c{{ line.hue }}">
<polyline class="line" points="{% for d in line.dots %}{{ d.x }},{{ d.y }} {% endfor %}"/>
{% for d in line.dots %}
<line class="line" x1="{{ d.x }}" x2="{{ d.x }}" y1="{{ d.high }}" y2="{{ d.low }}"/><circle class="dot" cx="{{ d.x }}" cy="{{ d.y }}" r="4.5"><title>{{ d.said }}</title></circle>
{% endfor %}
</g>
{% endfor %}
</svg>
{% if sweep.lines|length > 1 %}
<p>{% for line in sweep.lines %}<span class="c{{ line.hue }}"><span class="key-mark"></span>{{ line.policy }}</span>&emsp;{% endfor %}</p>
{% endif %}
<p class="soft">All twins together; bars are the intervals of the table.</p>
</div>
{% endif %}

{% if strips.rows %}
<h2>Time to success</h2>
<div class="card">
<svg class="chart" viewBox="0 0 {{ strips.width }} {{ strips.height }}" role="img" aria-label="time to success">
{% for x, label in strips.ticks %}
<line class="grid" x1="{{ x }}" x2="{{ x }}" y1="4" y2="{{ strips.bottom }}"/><text x="{{ x }}" y="{{ strips.bottom + 16 }}" text-anchor="middle">{{ label }}</text>
{% endfor %}
{% for row in strips.rows %}
<g class="c{{ row.hue }}"><text x="{{ strips.left - 10 }}" y="{{ row.y + 4 }}" text-anchor="end">{{ row.label }}</text>
{% for x, seconds in row.dots %}
<circle class="dot" opacity="0.5" cx="{{ x }}" cy="{{ row.y }}" r="4"><title>{{ "%.2f"|format(seconds) }} s</title></circle>
{% endfor %}
<line class="line" x1="{{ row.median }}" x2="{{ row.median }}" y1="{{ row.y - 9 }}" y2="{{ row.y + 9 }}"/></g>
{% endfor %}
</svg>
<p class="soft">A dot for each success, seconds from the start; the line is the median. Attempts end after {{ "%.1f"|format(facts.limit_s) }} s.</p>
</div>
{% endif %}

<h2>Failures by class</h2>
{% if classes %}
<div class="card narrow"><table>
<tr><th>policy</th>{% if facts.factor %}<th class="n">{{ facts.factor }}</th>{% endif %}{% for name in classes %}<th class="n">{{ name }}</th>{% endfor %}<th class="n">all failures</th></tr>
{% for r in rows if r.first %}
<tr><td class="key">{{ r.m.policy }}</td>{% if facts.factor %}<td class="n">{{ "%g"|format(r.m.value) }}</td>{% endif %}{% for name in classes %}<td class="n">{{ r.m.failures[name] or "-" }}</td>{% endfor %}<td class="n">{{ r.m.trials - r.m.successes }}</td></tr>
{% endfor %}
</table></div>
{% else %}
<p>There were none.</p>
{% endif %}

{% for group in groups %}
<h3>{{ group.name }}: {{ group.count }} attempt{{ "" if group.count == 1 else "s" }}</h3>
{% if group.meaning %}
<p class="soft">{{ group.meaning }}</p>
{% endif %}
{% if group.clips %}
<div class="films">
{% for clip in group.clips %}
<figure><video controls muted loop playsinline preload="metadata" src="{{ clip.address }}"></video><figcaption>{{ clip.said }}</figcaption></figure>
{% endfor %}
</div>
{% else %}
<p class="soft">No film: give a larger --videos.</p>
{% endif %}
{% endfor %}
{% if linked %}
<p class="soft">Films of more than {{ "%.0f"|format(most_mb) }} MB together would make this page slow: {{ linked }} of them are not in it but beside it.</p>
{% endif %}

<h2>Attempts</h2>
<div class="card">
{% for label, marks in facts.attempts %}
<p class="key">{{ label }}</p>
<div class="attempts">
{% for index, success, failure, seconds in marks %}
<span class="{{ 'ok' if success }}" title="attempt {{ index }}: {{ 'success' if success else failure }} after {{ "%.2f"|format(seconds) }} s">{{ index }}</span>
{% endfor %}
</div>
{% endfor %}
<p class="soft">Green succeeded, red failed.</p>
</div>

<div class="two">
<div>
<h2>What was asked for</h2>
<div class="card"><table>
{% for key, value in facts.settings.items() %}
<tr><td class="key">{{ key }}</td><td class="long">{{ value }}</td></tr>
{% endfor %}
</table></div>
</div>
<div>
<h2>What was used</h2>
<div class="card"><table>
{% for key, value in facts.notes.items() %}
<tr><td class="key">{{ key }}</td><td class="long">{{ value }}</td></tr>
{% endfor %}
<tr><td class="key">machine</td><td class="long">{{ machine }}</td></tr>
</table></div>
</div>
</div>
</main></body>
</html>
"""
)
