"""Models outside: stand-in programs and a stand-in server that answer, fail, hang, lie, or try to leave their folder."""

import io
import json
import os
import sys
import threading
import time
import zipfile
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
import trimesh
from PIL import Image

from phototwin.backends import external_run
from phototwin.backends.external import External, parse_external, request_depth, request_mesh
from phototwin.errors import InputError, OutputError, PerceptionError

K_PX = np.array([[500.0, 0, 161], [0, 510.0, 118], [0, 0, 1]])
RGB = np.random.default_rng(0).integers(0, 255, (240, 320, 3), dtype=np.uint8)
MASK = np.zeros((240, 320), bool)
MASK[60:160, 100:180] = True
DEPTH = np.where(MASK, 0.75, 0).astype(np.float32)
BOX = trimesh.creation.box((1, 2, 3)).export(file_type="glb")


def command(code, **settings):
    """An external model that is a line of Python; ``folder`` names the request."""
    text = f"from pathlib import Path; import sys, json, time, os; folder = Path(sys.argv[1])\n{code}"
    return External("command", f'{sys.executable} -c "{text}" {{folder}}', wait_s=0.01, **settings)


def ask(external, folder, **changes):
    values = {"rgb": RGB, "mask": MASK, "K_px": K_PX, "depth_m": DEPTH, "name": "blue mug", "seed": 7} | changes
    return request_mesh(external, folder=folder, **values)


def packed(files):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return buffer.getvalue()


@pytest.fixture
def server():
    """A server whose replies are queued as functions of the handler; it keeps what it was sent."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            self.server.received.append((self.path, self.headers["Content-Type"], body, time.monotonic()))
            script = self.server.script
            (script.pop(0) if len(script) > 1 else script[0])(self)

        def log_message(self, *_):
            pass

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    httpd.received, httpd.script, httpd.daemon_threads = [], [], True
    thread = threading.Thread(target=httpd.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield httpd
    httpd.shutdown()
    httpd.server_close()


def says(status, body=b"", **headers):
    def reply(handler):
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    return reply


def at(httpd, **settings):
    return External("http", f"http://127.0.0.1:{httpd.server_port}/mesh", wait_s=0.01, **settings)


GOOD = packed({"mesh.glb": BOX, "answer.json": json.dumps({"source": "Stand-in 1.0"})})


def test_parse():
    external = parse_external("command:conda run -n trellis python run.py {folder}", timeout_s=5)
    assert (external.kind, external.timeout_s) == ("command", 5) and external.target.endswith("{folder}")
    assert parse_external("http://localhost:8000/mesh").kind == "http"


@pytest.mark.parametrize(
    "text",
    ["", "trellis", "command:", "command:run", "command:{folder}", "command:run 'a {folder}", "http://", "ftp://a/b", "http://h:99999/x"],
)  # fmt: skip
def test_parse_refuses(text):
    with pytest.raises(InputError, match="folder"):
        parse_external(text)


def test_parse_refuses_no_time():
    with pytest.raises(InputError, match="seconds"):
        parse_external("http://localhost/", timeout_s=0)


def test_a_request_holds_what_the_page_says(tmp_path):
    folder = tmp_path / "with a space; and $(signs)"
    code = f"import shutil; shutil.copy('{_box_file(tmp_path)}', folder / 'mesh.glb')"
    given = ask(command(code), folder)
    request = json.loads((folder / "request.json").read_text())
    x0, y0, x1, y1 = request["crop_px"]
    assert (request["version"], request["kind"], request["name"], request["seed"]) == (1, "mesh", "blue mug", 7)
    assert x0 < 100 and y0 < 60 and x1 > 180 and y1 > 160
    assert np.array_equal(np.asarray(Image.open(folder / "crop.png")), RGB[y0:y1, x0:x1])
    mask = np.asarray(Image.open(folder / "mask.png"))
    assert mask.shape == (request["height"], request["width"]) and np.array_equal(mask == 255, MASK[y0:y1, x0:x1])
    assert np.array_equal(np.load(folder / "depth.npy"), DEPTH[y0:y1, x0:x1])
    moved = np.array(request["K_px"])
    assert np.allclose(moved + np.array([[0, 0, x0], [0, 0, y0], [0, 0, 0]]), K_PX)
    assert len(given.faces) == 12 and np.allclose(np.sort(np.ptp(given.points, axis=0)), [1, 2, 3])


def _box_file(folder):
    file = folder / "box.glb"
    file.write_bytes(BOX)
    return file


def test_a_command_that_fails_twice_is_tried_again(tmp_path):
    code = f"""
count = folder.parent / 'count'; count.write_text((count.read_text() if count.exists() else '') + 'x')
sys.exit('not yet') if len(count.read_text()) < 3 else None
import shutil; shutil.copy('{_box_file(tmp_path)}', folder / 'mesh.glb')"""
    assert len(ask(command(code), tmp_path / "request").faces) == 12
    assert (tmp_path / "count").read_text() == "xxx"


def test_a_failing_command_is_quoted_and_its_folder_kept(tmp_path):
    code = "print('loading'); sys.stderr.write('first line\\nCUDA out of memory\\n'); sys.exit(3)"
    with pytest.raises(PerceptionError, match=r"tried 2 times.*status 3.*CUDA out of memory") as caught:
        ask(command(code, retries=1), tmp_path / "request")
    assert str(tmp_path / "request") in str(caught.value)
    assert (tmp_path / "request/crop.png").is_file() and "first line" in (tmp_path / "request/stderr.txt").read_text()


def test_a_hanging_command_is_ended_with_all_it_started(tmp_path):
    code = f"""
import subprocess; child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])
Path('{tmp_path}/pid').write_text(str(child.pid)); time.sleep(60)"""
    began = time.monotonic()
    with pytest.raises(PerceptionError, match=r"longer than 1\.5 s"):
        ask(command(code, timeout_s=1.5), tmp_path / "request")
    assert time.monotonic() - began < 8
    assert _gone(int((tmp_path / "pid").read_text()))


def _gone(pid):
    for _ in range(100):
        try:
            with open(f"/proc/{pid}/stat") as file:
                if file.read().rsplit(")", 1)[1].split()[0] == "Z":
                    return True
        except OSError:
            return True
        time.sleep(0.02)
    os.kill(pid, 9)
    return False


def test_no_shell_reads_the_command(tmp_path):
    external = parse_external(
        f"command:{sys.executable} -c 'import sys; sys.exit(str(sys.argv))' {{folder}} ; touch {tmp_path}/harm"
    )
    with pytest.raises(PerceptionError, match="';', 'touch'"):
        ask(External("command", external.target, retries=0), tmp_path / "request")
    assert not (tmp_path / "harm").exists()


def test_a_program_that_does_not_exist_is_said_at_once(tmp_path):
    with pytest.raises(PerceptionError, match="'no_such_program' cannot be started"):
        ask(External("command", "no_such_program {folder}", wait_s=60), tmp_path / "request")


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("pass", r"left no mesh\.glb"),
        ("(folder / 'mesh.glb').write_bytes(b'garbage')", "no usable mesh"),
        ("(folder / 'mesh.glb').write_bytes(b'')", "no usable mesh"),
        ("(folder / 'answer.json').write_text(json.dumps({'error': 'no object there'}))", "it says: no object there"),
        ("(folder / 'answer.json').write_text('{')", "no JSON"),
        ("(folder / 'answer.json').write_text('[]')", "a list"),
    ],
)
def test_useless_answers(tmp_path, code, words):
    with pytest.raises(PerceptionError, match=words):
        ask(command(code), tmp_path / "request")


def test_an_old_answer_is_not_taken_for_a_new_one(tmp_path):
    folder = tmp_path / "request"
    ask(command(f"import shutil; shutil.copy('{_box_file(tmp_path)}', folder / 'mesh.glb')"), folder)
    with pytest.raises(PerceptionError, match="left no"):
        ask(command("pass"), folder)


def test_a_folder_of_somebody_else_is_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(OutputError, match="not empty"):
        ask(command("pass"), tmp_path)
    assert (tmp_path / "thesis.txt").is_file()


def test_empty_mask(tmp_path):
    with pytest.raises(InputError, match="blue mug"):
        ask(command("pass"), tmp_path / "request", mask=np.zeros_like(MASK))


def test_a_server_answers_with_an_archive_or_a_bare_mesh(server, tmp_path):
    server.script = [says(200, GOOD), says(200, BOX)]
    first = ask(at(server), tmp_path / "a")
    assert first.source == "Stand-in 1.0" and len(first.faces) == 12
    assert len(ask(at(server), tmp_path / "b", depth_m=None).faces) == 12
    (path, kind, body, _), (_, _, second, _) = server.received
    assert (path, kind) == ("/mesh", "application/zip")
    assert set(zipfile.ZipFile(io.BytesIO(body)).namelist()) == {"request.json", "crop.png", "mask.png", "depth.npy"}
    assert "depth.npy" not in zipfile.ZipFile(io.BytesIO(second)).namelist()
    assert zipfile.ZipFile(io.BytesIO(body)).read("crop.png") == (tmp_path / "a/crop.png").read_bytes()


def test_a_busy_server_is_asked_again(server, tmp_path):
    server.script = [says(503, b"busy"), says(503, b"busy"), says(200, GOOD)]
    assert len(ask(at(server), tmp_path / "request").faces) == 12 and len(server.received) == 3


def test_retry_after_is_honoured(server, tmp_path):
    server.script = [says(429, Retry_After="0.6"), says(200, GOOD)]
    ask(at(server), tmp_path / "request")
    assert server.received[1][3] - server.received[0][3] > 0.55
    assert external_run._retry_after(formatdate(time.time() + 30, usegmt=True)) == pytest.approx(30, abs=1.5)
    assert external_run._retry_after("86400") == external_run.MAX_RETRY_AFTER_S
    assert external_run._retry_after("soon") is external_run._retry_after(None) is None


def test_a_server_that_stays_away(server, tmp_path):
    server.script = [says(500, b"CUDA error")]
    with pytest.raises(PerceptionError, match=r"tried 3 times.*500.*CUDA error"):
        ask(at(server), tmp_path / "request")
    assert len(server.received) == 3 and (tmp_path / "request/mask.png").is_file()
    external = at(server)
    server.shutdown()
    server.server_close()
    with pytest.raises(PerceptionError, match=r"tried 3 times.*cannot be reached"):
        ask(external, tmp_path / "request")


@pytest.mark.parametrize("status", [400, 404, 413, 307])
def test_a_refusal_is_final(server, tmp_path, status):
    server.script = [says(status, b"crop too small", Location="http://127.0.0.1:9/elsewhere")]
    with pytest.raises(PerceptionError, match=rf"{status}.*crop too small"):
        ask(at(server), tmp_path / "request")
    assert len(server.received) == 1


def test_a_broken_connection_is_tried_again(server, tmp_path):
    def breaks(handler):
        handler.send_response(200)
        handler.send_header("Content-Length", "100000")
        handler.end_headers()
        handler.wfile.write(b"PK half")
        handler.connection.close()

    server.script = [breaks, says(200, GOOD)]
    assert len(ask(at(server), tmp_path / "request").faces) == 12


def test_a_hanging_server(server, tmp_path):
    done = threading.Event()

    def drips(handler):
        handler.send_response(200)
        handler.end_headers()
        while not done.wait(0.2):
            handler.wfile.write(b"x")
            handler.wfile.flush()

    for hang in (lambda handler: done.wait(20), drips):
        server.script = [hang]
        began = time.monotonic()
        with pytest.raises(PerceptionError, match=r"longer than 0\.8 s"):
            ask(at(server, timeout_s=0.8), tmp_path / "request")
        assert time.monotonic() - began < 5
    done.set()


@pytest.mark.parametrize(
    "name", ["../outside.txt", "/outside.txt", "a/../../outside.txt", "..\\outside.txt", "C:\\x.txt"]
)
def test_an_archive_that_leads_out_is_refused(server, tmp_path, name):
    server.script = [says(200, packed({"mesh.glb": BOX, name: b"harm"}))]
    with pytest.raises(PerceptionError, match="leads out of the folder"):
        ask(at(server), tmp_path / "request")
    assert not list(tmp_path.rglob("outside.txt"))


def test_an_archive_writes_only_what_was_asked_for(server, tmp_path):
    server.script = [
        says(200, packed({"mesh.glb": BOX, "request.json": b"{}", "run.sh": b"harm", "sub/mesh.glb": b"no"}))
    ]
    ask(at(server), tmp_path / "request")
    assert json.loads((tmp_path / "request/request.json").read_text())["kind"] == "mesh"
    assert {p.name for p in (tmp_path / "request").iterdir()} == {
        "request.json",
        "crop.png",
        "mask.png",
        "depth.npy",
        "mesh.glb",
    }


def test_useless_replies(server, tmp_path, monkeypatch):
    server.script = [says(200, b"<html>hello</html>")]
    with pytest.raises(PerceptionError, match=r"no zip archive.*<html>hello"):
        ask(at(server), tmp_path / "request")
    damaged = bytearray(GOOD)
    damaged[len(BOX) // 4 : len(BOX) // 4 + 40] = b"\0" * 40
    server.script = [says(200, bytes(damaged))]
    with pytest.raises(PerceptionError, match="gave nothing usable"):
        ask(at(server), tmp_path / "request")
    monkeypatch.setattr(external_run, "MAX_REPLY_BYTES", 1000)
    server.script = [says(200, b"x" * 5000)]
    with pytest.raises(PerceptionError, match="larger than"):
        ask(at(server), tmp_path / "request")


def test_an_archive_that_swells_is_refused(server, tmp_path):
    server.script = [says(200, packed({"answer.json": b" " * (3 * 2**20), "mesh.glb": BOX}))]
    with pytest.raises(PerceptionError, match=r"answer\.json in its reply has 3 MB"):
        ask(at(server), tmp_path / "request")


def npy(array):
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def test_depth_from_a_server(server, tmp_path):
    depth = np.full(RGB.shape[:2], 1.25)
    depth[0, :3] = [np.nan, -1, np.inf]
    answer = {"K_px": K_PX.tolist(), "scale_sigma": 0.05, "source": "Stand-in depth"}
    server.script = [says(200, packed({"depth.npy": npy(depth), "answer.json": json.dumps(answer)}))]
    estimate = request_depth(at(server), RGB, None, tmp_path / "request")
    assert (estimate.depth_m[0, :3] == 0).all() and (estimate.depth_m[1:] == 1.25).all()
    assert estimate.depth_m.dtype == np.float32 and np.array_equal(estimate.K_px, K_PX)
    assert (estimate.scale_sigma, estimate.source) == (0.05, "Stand-in depth")
    request = json.loads((tmp_path / "request/request.json").read_text())
    assert request["kind"] == "depth" and request["K_px"] is None and request["files"] == {"image": "crop.png"}


@pytest.mark.parametrize(
    ("depth", "answer"),
    [
        (npy(np.ones((5, 5))), {}),
        (npy(np.zeros(RGB.shape[:2])), {}),
        (npy(np.array(["text"])), {}),
        (npy(np.array([{}], dtype=object)), {}),
        (b"garbage", {}),
        (npy(np.ones(RGB.shape[:2])), {"K_px": [[1, 2], [3]]}),
        (npy(np.ones(RGB.shape[:2])), {"K_px": [[0, 0, 1]] * 3}),
        (npy(np.ones(RGB.shape[:2])), {"scale_sigma": "much"}),
    ],
)
def test_useless_depth(server, tmp_path, depth, answer):
    server.script = [says(200, packed({"depth.npy": depth, "answer.json": json.dumps(answer)}))]
    with pytest.raises(PerceptionError) as caught:
        request_depth(at(server), RGB, K_PX, tmp_path / "request")
    assert str(tmp_path / "request") in str(caught.value)
