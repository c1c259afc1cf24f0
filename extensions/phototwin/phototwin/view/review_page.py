"""The review page in three parts, jinja2 templates. Prose, style and a little script; every value comes from ``review.py`` and is escaped."""

HEAD = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ title }} - phototwin review</title>
<style>
:root { --ink: #1d2129; --soft: #667085; --line: #e3e6eb; --card: #fff; --page: #f5f6f8; --good: #1f9d6b; --bad: #d0533f; --bar: #4c7dd9; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e8eaee; --soft: #9aa3b2; --line: #333a46; --card: #1d222b; --page: #14181f; --bar: #6c98ea; }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
main { max-width: 1180px; margin: 0 auto; padding: 24px 24px 64px; }
h1 { font-size: 26px; line-height: 1.2; margin: 0 0 4px; overflow-wrap: anywhere; }
p { margin: 4px 0; }
.soft { color: var(--soft); }
.bad { color: var(--bad); font-weight: 600; }
.bar { position: sticky; top: 0; z-index: 1; display: flex; flex-wrap: wrap; gap: 10px; align-items: center; padding: 12px 0; background: var(--page); }
.bar b { font-variant-numeric: tabular-nums; }
button { font: inherit; padding: 6px 14px; border-radius: 8px; border: 1px solid var(--line); background: var(--card); color: var(--ink); cursor: pointer; }
button.main { background: var(--bar); border-color: var(--bar); color: #fff; }
.demo { background: var(--card); border: 1px solid var(--line); border-left: 6px solid var(--good); border-radius: 10px; padding: 12px 16px; margin-bottom: 12px; }
.demo.marked { border-left-color: #e0a030; }
.demo.rejected { border-left-color: var(--bad); }
.demo.rejected .strip { opacity: 0.35; }
.top { display: flex; gap: 14px; align-items: baseline; flex-wrap: wrap; }
.top label { margin-left: auto; white-space: nowrap; cursor: pointer; }
.top input { width: 18px; height: 18px; vertical-align: -3px; }
.strip { display: grid; grid-template-columns: repeat(6, 1fr); gap: 6px; margin: 8px 0; }
.strip img { display: block; width: 100%; border-radius: 6px; }
.scores { display: flex; flex-wrap: wrap; gap: 2px 18px; font-size: 13px; font-variant-numeric: tabular-nums; }
.scores i { font-style: normal; color: var(--soft); }
@media (max-width: 700px) { .strip { grid-template-columns: repeat(3, 1fr); } }
</style>
</head>
<body><main>
<p class="soft">phototwin review</p>
<h1>{{ title }}</h1>
<div class="bar">
<span><b id="count">0</b> rejected of <b id="all">0</b></span>
<button type="button" id="gate">reject what the gate marks</button>
<button type="button" id="none">reject none</button>
<button type="button" class="main" id="save">save rejected.json</button>
<span class="soft">then: dataset.py filter FOLDER --rejected rejected.json --out GOOD</span>
</div>
"""

CARD = """<section class="demo{{ " marked" if card.reasons else "" }}" data-demo="{{ card.name }}" data-digest="{{ card.digest }}">
<div class="top"><b>{{ card.name }}</b><span>&ldquo;{{ episode.instruction }}&rdquo;</span>
<span class="soft">{{ episode.robot }}, attempt {{ episode.attempt }} of task {{ episode.task_index }}, {{ "%.1f" % seconds }} s</span>
<label><input type="checkbox"> reject</label></div>
{% for reason in card.reasons %}
<p class="bad">{{ reason }}</p>
{% endfor %}
{% if frames %}
<div class="strip">
{% for t, address in frames %}
<img src="{{ address }}" alt="frame {{ t }}" title="frame {{ t }}" loading="lazy">
{% endfor %}
</div>
{% else %}
<p class="soft">no frames</p>
{% endif %}
<div class="scores">{% for name, value in scores %}<span><i>{{ name }}</i> {{ value }}</span>{% endfor %}</div>
</section>
"""

FOOT = """
<script>
const demos = [...document.querySelectorAll(".demo")];
const box = demo => demo.querySelector("input");
const key = "phototwin review " + {{ title|tojson }} + " " + demos.map(d => d.dataset.digest.slice(0, 8)).join("");
function show() {
  const chosen = demos.filter(d => box(d).checked);
  demos.forEach(d => d.classList.toggle("rejected", box(d).checked));
  document.getElementById("count").textContent = chosen.length;
  document.getElementById("all").textContent = demos.length;
  try { localStorage.setItem(key, JSON.stringify(chosen.map(d => d.dataset.demo + d.dataset.digest))); } catch (error) { /* a page from a file may not keep anything */ }
}
function choose(rule) { demos.forEach(d => { box(d).checked = rule(d); }); show(); }
demos.forEach(d => box(d).addEventListener("change", show));
document.getElementById("gate").onclick = () => choose(d => box(d).checked || d.classList.contains("marked"));
document.getElementById("none").onclick = () => choose(() => false);
document.getElementById("save").onclick = () => {
  const rejected = demos.filter(d => box(d).checked).map(d => ({ demo: d.dataset.demo, state_sha256: d.dataset.digest }));
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([JSON.stringify({ rejected }, null, 1)], { type: "application/json" }));
  link.download = "rejected.json";
  link.click();
};
let kept = [];
try { kept = JSON.parse(localStorage.getItem(key) || "[]"); } catch (error) { /* as above */ }
choose(d => kept.includes(d.dataset.demo + d.dataset.digest));
</script>
</main></body></html>
"""
