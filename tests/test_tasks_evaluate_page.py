"""What an evaluation tells: which attempts are filmed, and a page that is whole, escaped and true to the rows."""

import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phototwin.errors import InputError, OutputError
from phototwin.learn.server_config import ServerConfig
from phototwin.view.evaluation import EVALUATION_PAGE, EvaluationFacts, Measured, write_evaluation
from phototwin.view.preview import write_preview
from phototwin_tasks.evaluate import job, page
from phototwin_tasks.evaluate.config import EvalConfig, Evaluation, Row
from phototwin_tasks.evaluate.films import film_file, filmed, kept_films

WORDS = ("success", "grasp", "slip", "collision")


@given(st.lists(st.sampled_from(WORDS), max_size=30), st.integers(1, 5), st.integers(1, 7))
@settings(deadline=None)
def test_every_class_has_a_film_where_there_is_room(came, most, batch):
    words = dict(enumerate(came, 1))
    kept = kept_films(words, most)
    classes = {word for word in came if word != "success"}
    for success in (True, False):
        mine = [a for a in words if (words[a] == "success") == success]
        assert len(kept & set(mine)) == min(most, len(mine))
    shown = {words[a] for a in kept if words[a] != "success"}
    assert len(shown) == min(len(classes), most)
    assert not kept or all(min(a for a in words if words[a] == word) in kept for word in shown)
    streamed: dict[int, str] = {}
    for start in range(0, len(came), batch):
        streamed |= {a: words[a] for a in range(start + 1, min(start + batch, len(came)) + 1)}
        streamed = {a: streamed[a] for a in kept_films(streamed, most)}
    assert set(streamed) == kept, "batch by batch comes to the same"


def test_films_are_found_by_their_names(tmp_path):
    for twin, attempt, word in (("a", 1, "grasp"), ("a_b", 2, "success"), ("a b", 30000, "slip")):
        film_file(tmp_path, twin, attempt, word).parent.mkdir(exist_ok=True)
        film_file(tmp_path, twin, attempt, word).touch()
    (tmp_path / "videos" / "stray.mp4").touch()
    assert filmed(tmp_path, "a") == {1: "grasp"} and filmed(tmp_path, "a b") == {2: "success", 30000: "slip"}
    assert filmed(tmp_path / "none", "a") == {}


def evaluation(policy, successes, trials, seed=0, twins=("desk",), **fields):
    """Attempts of which the first succeed; their failures go through the classes."""
    rng = np.random.default_rng(seed)
    rows = [
        Row(twin, i + 1, 0, i < successes, float(rng.uniform(3, 9)), "" if i < successes else WORDS[1 + i % 3] + (": the <mug> was hit" if i % 3 == 2 else ""), "0" * 64)
        for twin in twins
        for i in range(trials)
    ]  # fmt: skip
    return Evaluation(f"/policies/{policy}", EvalConfig(episodes=trials, seconds=10.0, **fields), tuple(rows), False, {"physics": "<ovphysx>"})  # fmt: skip


def entry(folder, policy, value, found):
    from test_data_lerobot import smooth_episode

    for row in (found.rows[0], *found.rows[-2:]):
        word = "success" if row.success else row.failure.partition(":")[0]
        write_preview([smooth_episode(row.attempt, 4, (32, 32))], film_file(folder, row.twin, row.attempt, word))
    return page.Entry(policy, value, folder, found, "d" * 64)


@pytest.fixture
def no_twins(monkeypatch):
    monkeypatch.setattr(page, "twin_hash", lambda twin: f"hash of {twin}")


def test_the_page_of_one_policy_tells_what_its_rows_say(tmp_path, no_twins):
    one = entry(tmp_path, "bc", None, evaluation("bc", 14, 20))
    facts = page.page_facts([one], [Path("desk")], "pick up the <cube>", "")
    file = write_evaluation(tmp_path / EVALUATION_PAGE, facts)
    text = file.read_text()
    assert "&ldquo;pick up the &lt;cube&gt;&rdquo;" in text and "<cube>" not in text and "<mug>" not in text
    assert ">70 %<" in text and "48 % to 85 %" in text, "Wilson's interval of 14 of 20"
    assert text.count("<video ") == 3 and text.count('src="data:video/mp4;base64,') == 3
    assert not re.findall(r'(?:src|href)="(?!data:)', text) and "http" not in text
    marks = re.findall(r'<span class="(ok)?" title="attempt (\d+): (\w+)', text)
    assert [(bool(ok), int(i)) for ok, i, _ in marks] == [(i < 14, i + 1) for i in range(20)]
    told = re.findall(r"<h3>(\w+): (\d+) attempts?</h3>", text)
    assert {name: int(count) for name, count in told} == {**one.found.failures(), "success": 14}
    assert "Compared" not in text and "Success over" not in text and "hash of desk" in text


def test_the_page_of_a_sweep_with_two_policies_and_twins(tmp_path, no_twins):
    twins = ("desk", "bench")
    entries = [
        entry(tmp_path / f"{policy}_{value:g}", policy, value, evaluation(policy, successes, 12, i, twins, half_width=0.2))
        for policy, rates in (("a", (11, 8, 3)), ("b", (12, 4, 0)))
        for i, (value, successes) in enumerate(zip((0.0, 1.0, 4.0), rates, strict=True))
    ]  # fmt: skip
    facts = page.page_facts(entries, [Path(t) for t in twins], "stack", "camera_turn_deg")
    assert [(p.value, p.both, p.only_first, p.only_second, p.neither) for p in facts.pairs] == [
        (0.0, 22, 0, 2, 0),
        (1.0, 8, 8, 0, 8),
        (4.0, 0, 6, 0, 18),
    ]
    assert [row.trials for row in facts.rows if not row.twin] == [24] * 6 and len(facts.rows) == 18
    text = write_evaluation(tmp_path / EVALUATION_PAGE, facts, 0.0).read_text()
    assert text.count("<polyline") == 2 and text.count("<title>a, ") == 3 and "holds at every moment" in text
    links = re.findall(r'<video [^>]*src="([^"]+)"', text)
    assert links and all((tmp_path / link).is_file() for link in links), "what is too much for the page lies beside it"
    assert f"{len(links)} of them are not in it" in text


def test_a_page_without_failures_films_or_attempts(tmp_path):
    whole = Measured("a", None, "", 3, 3, 0.4, 1.0, (1.0, 2.0, 3.0), {})
    text = write_evaluation(tmp_path / "p.html", EvaluationFacts("a", rows=(whole,))).read_text()
    assert "There were none." in text and "No film" in text
    nothing = replace(whole, successes=0, trials=0, seconds=())
    assert (
        "Time to success"
        not in write_evaluation(tmp_path / "p.html", EvaluationFacts("a", rows=(nothing,))).read_text()
    )
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="could not be written"):
        write_evaluation(tmp_path / "file/p.html", EvaluationFacts("a", rows=(whole,)))


@pytest.mark.skipif(shutil.which("chromium") is None, reason="chromium is not here")
def test_a_browser_plays_the_films(tmp_path, no_twins):
    one = entry(tmp_path, "bc", None, evaluation("bc", 14, 20))
    file = write_evaluation(tmp_path / EVALUATION_PAGE, page.page_facts([one], [Path("desk")], "lift", ""))
    script = """<script>
    Promise.all([...document.querySelectorAll("video")].map(v => new Promise(done => {
      const say = () => done(v.error ? "error" : `${v.videoWidth}x${v.duration.toFixed(1)}`);
      if (v.readyState > 0) say(); else { v.onloadedmetadata = say; v.onerror = say; }
    }))).then(all => { document.body.dataset.films = all.join(" "); });
    </script></main>"""
    file.write_text(file.read_text().replace("</main>", script))
    options = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}/profile"]
    command = ["chromium", *options, "--virtual-time-budget=5000", "--dump-dom", file.as_uri()]
    dom = subprocess.run(command, capture_output=True, text=True, timeout=120).stdout
    films = re.search(r'data-films="([^"]*)"', dom)
    assert films and re.fullmatch(r"(\d{3}x1\.2 ?){3}", films[1]), films  # 4 frames of 20 Hz and a second of the last


def test_what_cannot_be_evaluated_is_refused_before_anything_is_opened(tmp_path):
    twins, config = (tmp_path,), EvalConfig()
    with pytest.raises(InputError, match="nothing to evaluate"):
        job.run_evaluation((), twins, config, tmp_path / "out")
    with pytest.raises(InputError, match="needs --values"):
        job.run_evaluation(("a",), twins, config, tmp_path / "out", "camera_turn_deg")
    with pytest.raises(InputError, match="ws://HOST:PORT"):
        job.run_evaluation(("a",), twins, config, tmp_path / "out", server=ServerConfig(execute=2))
    assert not (tmp_path / "out").exists()


def test_a_server_that_says_nothing_needs_an_instruction(tmp_path, monkeypatch):
    pytest.importorskip("websockets")
    from test_learn_remote import plain_server

    with pytest.raises(InputError, match="is not a twin"):
        job.run_evaluation(("ws://localhost:1",), (tmp_path / "gone",), EvalConfig(), tmp_path / "out")
    monkeypatch.setattr(job, "load_scene", lambda twin: None)
    monkeypatch.setattr(job, "twin_hash", lambda twin: "of a twin")
    with plain_server(lambda question: None) as address, pytest.raises(InputError, match="give --instruction"):
        job.run_evaluation((address,), (tmp_path,), EvalConfig(), tmp_path / "out")
    with pytest.raises(InputError, match="No policy server answers"):
        job.run_evaluation((address,), (tmp_path,), EvalConfig(), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_policies_have_names_that_differ():
    assert job._labels(("out/a", "ws://localhost:8000", "wss://x.org/b/")) == ["a", "localhost_8000", "x.org_b"]
    assert job._labels(("out/a", "other/a", "b")) == ["a_1", "a_2", "b"]
