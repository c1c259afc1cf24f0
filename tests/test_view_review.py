"""The review page: self-contained, escaped, and what its button saves is what the filter reads."""

import json
import re
import shutil
import subprocess

import pytest
from data_helpers import fill_store, possible_episode

from phototwin.data.compose import read_entries
from phototwin.data.quality import QualityLimits
from phototwin.errors import OutputError
from phototwin.view.review import THUMBNAILS, ReviewCard, write_review
from phototwin_tasks.dataset import job
from phototwin_tasks.dataset.gate import read_rejected


def test_every_demonstration_has_a_strip_and_its_scores(tmp_path):
    file = fill_store(tmp_path / "a", 3)
    text = job.review(tmp_path / "a", None, QualityLimits(), None)
    page = (tmp_path / "a/review.html").read_text()
    assert "3 demonstrations, 0 marked" in text and "shapes of 3 are not known" in text
    assert page.count("<img ") == 3 * THUMBNAILS and page.count('type="checkbox"') == 3
    assert re.findall(r'data-digest="(\w+)"', page) == [e.digest for e in read_entries(file)]
    assert not re.findall(r'(?:src|href)="(?!data:)', page) and "http" not in page
    assert "object speed</i> 0.1" in page and not list((tmp_path / "a").glob("*.partial"))


def test_names_and_reasons_are_escaped(tmp_path):
    episode = possible_episode(0, instruction="<script>alert(1)</script>")
    card = ReviewCard("demo_0", "abc", {"seam": 0.5}, ("<b>bad</b>",))
    page = write_review(tmp_path / "r.html", "</script><i>", [(card, episode)]).read_text()
    assert "<script>alert" not in page and "<b>bad" not in page and "<i>" not in page.split("scores")[0]
    assert page.count("</script>") == 1 and 'class="demo marked"' in page


def test_a_page_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="could not be written"):
        write_review(tmp_path / "file/r.html", "x", [])


SAVE = """
<script>
URL.createObjectURL = blob => { blob.text().then(text => { document.title = "saved"; const pre = document.createElement("pre");
  pre.id = "saved"; pre.textContent = text; document.body.append(pre); }); return "#"; };
document.querySelectorAll(".demo input")[1].click();
document.getElementById("save").click();
</script></main>"""


@pytest.mark.skipif(shutil.which("chromium") is None, reason="chromium is not here")
def test_the_button_saves_what_the_filter_reads(tmp_path):
    file = fill_store(tmp_path / "a", 3)
    job.review(tmp_path / "a", tmp_path / "r.html", QualityLimits(), None)
    page = tmp_path / "r.html"
    page.write_text(page.read_text().replace("</main>", SAVE))
    options = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}/profile"]
    command = ["chromium", *options, "--virtual-time-budget=3000", "--dump-dom", page.as_uri()]
    dom = subprocess.run(command, capture_output=True, text=True, timeout=120).stdout
    saved = re.search(r'<pre id="saved">(.*?)</pre>', dom, re.DOTALL)
    assert saved and '<b id="count">1</b>' in dom and dom.count("rejected") and 'class="demo rejected"' in dom
    (tmp_path / "rejected.json").write_text(saved.group(1))
    assert json.loads(saved.group(1))["rejected"][0]["demo"] == "demo_1"
    assert read_rejected(tmp_path / "rejected.json") == {("demo_1", read_entries(file)[1].digest)}
    wanted = job.Wanted(rejected=tmp_path / "rejected.json")
    assert "2 of 3" in job.keep(tmp_path / "a", tmp_path / "out", wanted, None, lerobot=False)
