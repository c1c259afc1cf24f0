"""The page of the report, a jinja2 template. Prose and style only; every value comes from ``report.py`` and is escaped."""

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ scene.name }} - phototwin report</title>
<style>
:root { --ink: #1d2129; --soft: #667085; --line: #e3e6eb; --card: #fff; --page: #f5f6f8; --good: #1f9d6b; --bad: #d0533f; --bar: #4c7dd9; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e8eaee; --soft: #9aa3b2; --line: #333a46; --card: #1d222b; --page: #14181f; --bar: #6c98ea; }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
main { max-width: 1180px; margin: 0 auto; padding: 32px 24px 64px; }
h1 { font-size: 30px; line-height: 1.2; margin: 0 0 4px; overflow-wrap: anywhere; }
h2 { font-size: 18px; margin: 40px 0 12px; }
p { margin: 4px 0; }
.soft, figcaption { color: var(--soft); }
.bad { color: var(--bad); font-weight: 600; }
.lead { font-size: 18px; overflow-wrap: anywhere; }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 16px 18px; overflow-x: auto; }
.numbers { display: flex; flex-wrap: wrap; gap: 12px; margin-top: 20px; }
.numbers div { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 10px 18px; min-width: 130px; }
.numbers b { display: block; font-size: 24px; font-variant-numeric: tabular-nums; }
.pictures { display: grid; grid-template-columns: repeat(3, 1fr); gap: 14px; }
.frames { display: grid; grid-template-columns: repeat(3, 1fr); gap: 6px; margin-bottom: 14px; max-width: 760px; }
.failures { display: grid; grid-template-columns: repeat(auto-fill, minmax(150px, 1fr)); gap: 12px; margin-top: 10px; }
figure { margin: 0; }
img { display: block; width: 100%; border-radius: 8px; }
figcaption { font-size: 13px; margin-top: 4px; }
.two { display: grid; grid-template-columns: 1fr 1fr; gap: 0 24px; }
.two > * { min-width: 0; }
@media (max-width: 800px) { .pictures, .two { grid-template-columns: 1fr; } }
table { border-collapse: collapse; width: 100%; }
th { text-align: left; font-weight: 600; color: var(--soft); font-size: 13px; }
th, td { padding: 6px 14px 6px 0; border-bottom: 1px solid var(--line); vertical-align: top; }
tr:last-child td { border-bottom: 0; }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
td.key { white-space: nowrap; font-weight: 600; }
td.long { overflow-wrap: anywhere; }
.dot { display: inline-block; width: 12px; height: 12px; border-radius: 3px; margin-right: 7px; border: 1px solid #0003; vertical-align: -1px; }
.bar { height: 9px; border-radius: 4px; background: var(--bar); min-width: 2px; margin-top: 7px; }
.attempts { display: flex; flex-wrap: wrap; gap: 4px; margin: 10px 0 4px; }
.attempts span { width: 30px; height: 24px; border-radius: 5px; color: #fff; font-size: 11px; line-height: 24px; text-align: center; background: var(--bad); }
.attempts span.ok { background: var(--good); }
</style>
</head>
<body><main>
<header>
<p class="soft">phototwin report</p>
<h1>{{ scene.name }}</h1>
{% if facts.settings.instruction %}
<p class="lead">&ldquo;{{ facts.settings.instruction }}&rdquo;</p>
{% endif %}
<div class="numbers">
<div><b>{{ objects|length }}</b>object{{ "" if objects|length == 1 else "s" }}</div>
{% if facts.attempts %}
<div><b>{{ successes }} of {{ facts.attempts|length }}</b>attempts succeeded</div>
<div><b>{{ "%.0f" % (100 * successes / facts.attempts|length) }} %</b>success</div>
{% endif %}
{% if facts.seconds %}
<div><b>{{ "%.1f" % facts.seconds.values()|sum }} s</b>in all</div>
{% endif %}
{% if facts.peak_memory_gb %}
<div><b>{{ "%.1f" % facts.peak_memory_gb }} GB</b>peak memory</div>
{% endif %}
</div>
</header>

<h2>From photo to twin</h2>
<div class="pictures">
{% for address, caption in pictures %}
<figure><img src="{{ address }}" alt="{{ caption }}"><figcaption>{{ caption }}</figcaption></figure>
{% endfor %}
</div>

{% if episodes %}
<h2>Demonstrations: first, middle and last frame</h2>
{% if preview %}
<p>The first of them as a film: <a href="{{ preview }}">{{ preview }}</a></p>
{% endif %}
<div class="two">
{% for episode in episodes %}
<div>
<p class="soft">attempt {{ episode.attempt }}, {{ "%.1f" % episode.seconds }} s: {{ episode.instruction }}{{ episode.seam }}</p>
<div class="frames">
{% for address in episode.frames %}
<img src="{{ address }}" alt="{{ ['first', 'middle', 'last'][loop.index0] }} frame">
{% endfor %}
</div>
</div>
{% endfor %}
</div>
{% endif %}

<h2>Objects</h2>
<div class="card"><table>
<tr><th>name</th><th>shape</th><th class="n">size ± sigma [mm]</th><th>material</th><th class="n">mass [g]</th><th class="n">friction</th><th class="n">triangles</th><th class="n">convex pieces</th><th class="n">x, y, z [m]</th></tr>
{% for o in objects %}
<tr><td class="key"><span class="dot" style="background:{{ o.mark }}" title="colour in the picture of the objects found"></span>{{ o.name }} <span class="dot" style="background:{{ o.color }}" title="its own colour"></span></td><td>{{ o.shape }}</td><td class="n">{{ o.size }}</td><td>{{ o.material }}</td><td class="n">{{ o.mass }}</td><td class="n">{{ o.friction }}</td><td class="n">{{ o.faces }}</td><td class="n">{{ o.pieces }}</td><td class="n">{{ o.place }}</td></tr>
{% else %}
<tr><td>none</td></tr>
{% endfor %}
</table></div>

{% if audit %}
<h2>Fit for simulation: {{ "go" if audit.go else "no-go" }}</h2>
<div class="card">
{% for text in audit.reasons %}
<p class="bad">{{ text }}</p>
{% endfor %}
{% for text in audit.warnings %}
<p class="soft">{{ text }}</p>
{% endfor %}
<table>
<tr><th>name</th><th class="n">inside others [mm]</th><th class="n">after 2 s [mm]</th><th class="n">drift in 2 s [mm]</th><th class="n">tilt [&deg;]</th><th>stays</th><th>graspable</th><th class="n">covers its mask (IoU)</th><th>mesh</th></tr>
{% for o in audit.objects %}
<tr><td class="key">{{ o.name }}</td><td class="n">{{ "%.2f" % o.penetration_before_mm }}</td><td class="n">{{ "%.2f" % o.penetration_after_mm }}</td><td class="n">{{ "%.1f" % o.drift_mm }}</td><td class="n">{{ "%.1f" % o.tilt_deg }}</td><td>{{ "falls" if o.falls else "yes" }}</td><td>{{ "yes" if o.graspable else "no" }}</td><td class="n">{{ "%.2f" % o.reprojection_iou }}</td><td class="long">{{ o.defects|join("; ") or "sound" }}</td></tr>
{% endfor %}
</table>
<p class="soft">{{ audit.usd }} The gripper is that of the {{ audit.robot }}.</p>
</div>
{% if audit.engines %}
<h2>The same stage in {{ audit.engines|length }} physics engines</h2>
<div class="card"><table>
<tr><th>engine</th><th>object</th><th class="n">drift in 2 s [mm]</th><th class="n">tilt [&deg;]</th><th class="n">rests off the median [mm]</th><th class="n">[&deg;]</th><th class="n">moved by a push [mm]</th><th class="n">off the median [mm]</th></tr>
{% for engine in audit.engines %}
{% for o in engine.objects %}
<tr><td class="key">{{ engine.engine if loop.first }}</td><td>{{ o.key }}</td><td class="n">{{ "%.1f" % o.drift_mm }}</td><td class="n">{{ "%.1f" % o.tilt_deg }}</td><td class="n">{{ "%.2f" % o.rest_off_mm }}</td><td class="n">{{ "%.1f" % o.rest_off_deg }}</td><td class="n">{{ "%.1f" % o.push_mm }}</td><td class="n">{{ "%.1f" % o.push_off_mm }}</td></tr>
{% else %}
<tr><td class="key">{{ engine.engine }}</td><td class="long" colspan="7">{{ engine.failure }}</td></tr>
{% endfor %}
{% endfor %}
</table>
<p class="soft">A push gives one object 0.3 m/s along its longer side; engines combine the friction of two surfaces differently and roll differently.</p>
</div>
{% endif %}
{% endif %}

{% if notes %}
<h2>How it was found, and what was assumed</h2>
<div class="card"><table>
{% for key, note in notes.items() %}
<tr><td class="key">{{ key }}</td><td class="long">{{ note }}</td></tr>
{% endfor %}
</table></div>
{% endif %}

{{ run_section|safe }}

{% if facts.attempts %}
<h2>Attempts</h2>
<div class="card">
<p>{{ successes }} of {{ facts.attempts|length }} succeeded{% for failure, count in failures %}; {{ count }} x {{ failure or "failed" }}{% endfor %}.</p>
<div class="attempts">
{% for index, success, failure, steps in facts.attempts %}
<span class="{{ 'ok' if success }}" title="attempt {{ index }}: {{ 'success' if success else failure }}, {{ steps }} steps">{{ index }}</span>
{% endfor %}
</div>
<p class="soft">Green succeeded and is a demonstration as far as they were asked for; red failed and was kept out.</p>
</div>
{% endif %}

<div class="two">
{% if facts.seconds %}
<div>
<h2>Seconds per stage</h2>
<div class="card"><table>
{% for stage, seconds in facts.seconds.items() %}
<tr><td class="key">{{ stage }}</td><td style="width:45%"><div class="bar" style="width:{{ "%.1f" % (100 * seconds / longest) }}%"></div></td><td class="n">{{ "%.1f" % seconds }}</td></tr>
{% endfor %}
<tr><td class="key">together</td><td></td><td class="n">{{ "%.1f" % facts.seconds.values()|sum }}</td></tr>
</table></div>
</div>
{% endif %}
<div>
<h2>Settings and versions</h2>
<div class="card"><table>
{% for key, value in facts.settings.items() %}
<tr><td class="key">{{ key }}</td><td class="long">{{ value }}</td></tr>
{% endfor %}
{% for key, value in facts.versions.items() %}
<tr><td class="key">{{ key }}</td><td class="long">{{ value }}</td></tr>
{% endfor %}
<tr><td class="key">machine</td><td class="long">{{ machine }}</td></tr>
</table></div>
</div>
</div>
</main></body>
</html>
"""

OVERVIEW = (
    PAGE.partition("<header>")[0].replace("{{ scene.name }} - phototwin report", "{{ title }} - phototwin run")
    + """<header>
<p class="soft">phototwin run</p>
<h1>{{ title }}</h1>
</header>
{{ run_section|safe }}
{% if links %}
<h2>Twins</h2>
<div class="card"><table>
{% for name, address in links %}
<tr><td class="key">{{ name }}</td><td><a href="{{ address }}">{{ address }}</a></td></tr>
{% endfor %}
</table></div>
{% endif %}
</main></body>
</html>
"""
)
"""The page of a run over several twins; the style is that of ``PAGE``."""
