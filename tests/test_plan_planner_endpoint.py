"""The planner behind an address, against a server that answers as told: what it is sent, its moods, and what is never said."""

import base64
import io
import json
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from PIL import Image
from synthetic import make_scene

from phototwin.errors import InputError, InstructionError
from phototwin.plan.planner import choose_planner, make_plan
from phototwin.plan.planner_endpoint import KEY_VARIABLE, MODEL_VARIABLE, URL_VARIABLE, Endpoint, EndpointPlanner
from phototwin.plan.task import Step

KEY = "sk-very-secret"
GOOD = {"steps": [{"skill": "place", "object": "green_cube", "relation": "in", "target": "white_bowl"}]}
PLACE = Step("place", "green_cube", "in", "white_bowl")
UNKNOWN = {"steps": [{"skill": "lift", "object": "banana"}]}


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    return make_scene(tmp_path_factory.mktemp("twin"))


def said(answer):
    """A chat completion that says it."""
    content = answer if isinstance(answer, str) else json.dumps(answer)
    return 200, json.dumps({"choices": [{"message": {"role": "assistant", "content": content}}]}), {}


@contextmanager
def server(*replies):
    """A server that gives one reply (status, body, headers) after another, the last one again and again; what it was asked."""
    asked, left = [], list(replies)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            asked.append((self.path, dict(self.headers), json.loads(body)))
            status, text, headers = left.pop(0) if len(left) > 1 else left[0]
            if callable(text):
                text = text()
            try:
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(text.encode())))
                self.end_headers()
                self.wfile.write(text.encode())
            except (BrokenPipeError, ConnectionResetError):
                pass  # it has lost patience

        def log_message(self, *_):
            pass

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    httpd.daemon_threads = True
    thread = threading.Thread(target=httpd.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{httpd.server_port}/v1", asked
    finally:
        httpd.shutdown()
        httpd.server_close()


def ask(scene, url, text="put the cube in the bowl", **options):
    options = {"key": KEY, "wait_s": 0.01, "timeout_s": 5.0} | options
    planner = EndpointPlanner(Endpoint(f"{url}/chat/completions", "tiny-model", **options))
    return make_plan(text, scene, planner=planner)


def test_a_good_answer_and_what_was_sent_for_it(scene, monkeypatch):
    with server(said(GOOD | {"reason": "Into the bowl."})) as (url, asked):
        for name, value in ((URL_VARIABLE, url), (KEY_VARIABLE, KEY), (MODEL_VARIABLE, "tiny-model")):
            monkeypatch.setenv(name, value)
        task = make_plan("put the cube in the bowl", scene, planner="endpoint")
        assert task.steps == (PLACE,) and task.planner == "tiny-model"
        assert task.note == "Planned by tiny-model: Into the bowl."
        make_plan("put the cube in the bowl", scene, planner="endpoint=other-model")
    (path, headers, body), (_, _, other) = asked
    assert path == "/v1/chat/completions" and headers["Authorization"] == f"Bearer {KEY}"
    assert set(body) == {"model", "messages"} and (body["model"], other["model"]) == ("tiny-model", "other-model")
    (message,) = body["messages"]
    text, image = message["content"]
    assert 'Instruction: "put the cube in the bowl"' in text["text"] and KEY not in json.dumps(body)
    prefix = "data:image/jpeg;base64,"
    assert image["image_url"]["url"].startswith(prefix)
    shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(image["image_url"]["url"].removeprefix(prefix)))))
    photo = np.asarray(Image.open(scene.path(scene.photo)).convert("RGB"))
    assert shown.shape == photo.shape and np.abs(shown.astype(float) - photo).mean() < 6


def test_an_unknown_object_is_mended_when_told(scene):
    with server(said(UNKNOWN), said(GOOD)) as (url, asked):
        assert ask(scene, url).steps == (PLACE,)
    roles = [message["role"] for message in asked[1][2]["messages"]]
    assert roles == ["user", "assistant", "user"]
    assert "no object 'banana'. Choose one of green_cube, white_bowl, red_can" in asked[1][2]["messages"][2]["content"]


def test_two_bad_answers_are_the_end(scene):
    with server(said("I am not able to produce JSON.")) as (url, asked):
        with pytest.raises(
            InstructionError, match="not even when told what was wrong: The answer holds no JSON object"
        ):
            ask(scene, url)
        assert len(asked) == 2


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503])
def test_moods_that_pass_are_waited_for(scene, status):
    with server((status, "later", {"Retry-After": "0.01"}), (status, "later", {}), said(GOOD)) as (url, asked):
        assert ask(scene, url).steps == (PLACE,)
        assert len(asked) == 3 and asked[0][2] == asked[2][2]


def test_a_server_that_stays_broken_is_given_up(scene):
    with server((500, f"internal error for {KEY}", {})) as (url, asked):
        with pytest.raises(
            InstructionError, match=r"tried 3 times; at last the server answered 500 .*planner 'grammar'"
        ) as e:
            ask(scene, url, retries=2)
        assert len(asked) == 3 and KEY not in str(e.value) and "***" in str(e.value)


def test_each_wait_is_twice_the_one_before(scene, monkeypatch):
    waits = []
    monkeypatch.setattr(time, "sleep", waits.append)
    with server((503, "later", {})) as (url, _), pytest.raises(InstructionError):
        ask(scene, url, retries=3, wait_s=0.5)
    assert [wait for wait in waits if wait >= 0.5] == [0.5, 1.0, 2.0]


def test_a_server_that_is_too_slow_is_asked_again_and_then_given_up(scene):
    slow = (200, lambda: time.sleep(0.6) or "{}", {})
    with server(slow, said(GOOD)) as (url, asked):
        assert ask(scene, url, timeout_s=0.2).steps == (PLACE,)
    with server(slow) as (url, asked):
        with pytest.raises(InstructionError, match=r"tried 2 times; at last it took longer than 0.2 s"):
            ask(scene, url, timeout_s=0.2, retries=1)
        assert len(asked) == 2


@pytest.mark.parametrize("status", [400, 401, 403, 404, 302])
def test_a_server_that_refuses_is_not_asked_again(scene, status):
    with server((status, json.dumps({"error": f"bad key {KEY}"}), {"Location": "http://127.0.0.1:9/elsewhere"})) as (
        url,
        asked,
    ):
        with pytest.raises(InstructionError, match=f"the server answered {status}") as caught:
            ask(scene, url)
        assert len(asked) == 1 and KEY not in str(caught.value)


def test_nobody_there(scene):
    with pytest.raises(InstructionError, match="cannot be reached"):
        ask(scene, "http://127.0.0.1:9/v1", retries=0)


@pytest.mark.parametrize(
    "body",
    ["", "hello", "[]", "{}", '{"choices": []}', '{"choices": [{"message": {"content": null}}]}', '{"choices": [{"message": {"content": 7}}]}', "[" * 100_000],
)  # fmt: skip
def test_replies_that_are_no_chat_completion(scene, body):
    with server((200, body, {})) as (url, _), pytest.raises(InstructionError, match="no chat completion") as caught:
        ask(scene, url)
    assert len(str(caught.value)) < 700


def test_contents_in_parts_and_refusals_of_the_model(scene):
    parts = [{"type": "text", "text": json.dumps(GOOD)[:20]}, {"type": "text", "text": json.dumps(GOOD)[20:]}]
    with server((200, json.dumps({"choices": [{"message": {"content": parts}}]}), {})) as (url, _):
        assert ask(scene, url).steps == (PLACE,)
    refusal = json.dumps({"choices": [{"message": {"content": None, "refusal": "I do not do this."}}]})
    for reply, part in (((200, refusal, {}), "I do not do this"), (said({"refuse": "No banana."}), "No banana")):
        with server(reply) as (url, asked):
            with pytest.raises(InstructionError, match=f"cannot be done: {part}"):
                ask(scene, url, "pick up the banana")
            assert len(asked) == 1


def test_what_a_hostile_model_says_does_nothing(scene, tmp_path):
    trap = tmp_path / "trap"
    evil = f"__import__('os').system('touch {trap}')"
    answers = (
        evil,
        {"steps": evil},
        {"steps": [{"skill": evil, "object": evil}]},
        GOOD | {"code": evil},
        "\x1b[2J" + evil,
    )
    for answer in answers:
        with server(said(answer)) as (url, _), pytest.raises(InstructionError) as caught:
            ask(scene, url)
        assert str(caught.value).isprintable()
    assert not trap.exists()


@pytest.mark.parametrize(
    ("settings", "part"),
    [
        ({}, f"set {URL_VARIABLE}"),
        ({URL_VARIABLE: "ftp://host/v1"}, "no address that can be asked"),
        ({URL_VARIABLE: "http://"}, "no address that can be asked"),
        ({URL_VARIABLE: "http://user:secret@host/v1"}, "without a user"),
        ({URL_VARIABLE: "http://host:port/v1"}, "no address that can be asked"),
        ({URL_VARIABLE: "https://host/v1"}, f"set {MODEL_VARIABLE}"),
        ({URL_VARIABLE: "https://host/v1", MODEL_VARIABLE: "m"}, f"set {KEY_VARIABLE}"),
        ({URL_VARIABLE: "https://host/v1", MODEL_VARIABLE: "m", KEY_VARIABLE: "secret one"}, "no key has"),
        ({URL_VARIABLE: "https://host/v1", MODEL_VARIABLE: "m", KEY_VARIABLE: "se\ncret"}, "no key has"),
    ],
)  # fmt: skip
def test_what_is_missing_in_the_environment_is_named(monkeypatch, settings, part):
    for name in (URL_VARIABLE, KEY_VARIABLE, MODEL_VARIABLE):
        monkeypatch.delenv(name, raising=False)
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(InputError) as caught:
        choose_planner("endpoint")
    assert part in str(caught.value) and "secret" not in str(caught.value)


def test_addresses_are_completed_and_the_key_is_not_shown(monkeypatch):
    monkeypatch.setenv(MODEL_VARIABLE, "m")
    monkeypatch.setenv(KEY_VARIABLE, KEY)
    for url, full in (
        ("https://host/v1", "https://host/v1/chat/completions"),
        ("https://host/v1/", "https://host/v1/chat/completions"),
        ("https://host/v1/chat/completions", "https://host/v1/chat/completions"),
        ("https://host/x?version=2", "https://host/x/chat/completions?version=2"),
    ):
        monkeypatch.setenv(URL_VARIABLE, url)
        planner = choose_planner("endpoint")
        assert planner.endpoint.url == full and KEY not in repr(planner.endpoint)
    monkeypatch.delenv(KEY_VARIABLE)
    monkeypatch.setenv(URL_VARIABLE, "http://localhost:8000/v1")
    assert choose_planner("endpoint").endpoint.key == ""
