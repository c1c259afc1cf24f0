import asyncio
import importlib
import sys
import threading
import types
from pathlib import Path

import pytest

from phototwin.errors import InputError, PerceptionError, TwinError
from phototwin.kit import model
from phototwin.kit.model import Job, Request
from phototwin.pipeline import Source


@pytest.fixture
def request_(tmp_path):
    photo = tmp_path / "desk.jpg"
    photo.write_bytes(b"not looked at by the stand-in")
    return Request(photo, tmp_path / "out", anchors=("green cube=0.04",), seed=5)


def twin(source, folder, *, progress, **options):
    for stage in ("perceive", "build"):
        for share in (0.0, 0.5, 1.0):
            progress(stage, share)
    return folder / "twin.usda"


def test_a_job_ends_done_with_the_stage_and_a_log_of_its_stages(request_):
    seen = {}

    def record(source, folder, **options):
        seen.update(options, source=source, folder=folder)
        return twin(source, folder, **options)

    job = Job(record)
    assert job.status.state == "idle"
    job.start(request_)
    job.join(5)
    status = job.status
    assert (status.state, status.share, status.log) == ("done", 1.0, ("perceive", "build"))
    assert status.stage_file == request_.out / "twin" / "twin.usda"
    assert str(status.stage_file) in status.message
    assert seen["source"] == Source(request_.photo, anchor=("green cube=0.04",))
    assert (seen["folder"], seen["seed"]) == (request_.out / "twin", 5)


def test_demonstrations_follow_the_twin_only_when_asked_for(request_):
    calls = []
    job = Job(twin, lambda request, folder, progress: calls.append((request.num_demos, folder)))
    job.start(request_)
    job.join(5)
    assert calls == []
    job.start(Request(request_.photo, request_.out, num_demos=3))
    job.join(5)
    assert calls == [(3, request_.out / "twin")]
    assert job.status.state == "done" and "3 demonstrations" in job.status.message


def test_cancel_stops_at_the_next_progress_and_the_job_can_start_again(request_):
    working, go_on = threading.Event(), threading.Event()

    def slow(source, folder, *, progress, **options):
        progress("perceive", 0.1)
        working.set()
        assert go_on.wait(5)
        progress("perceive", 0.2)
        pytest.fail("went on after cancel")

    job = Job(slow)
    job.start(request_)
    assert working.wait(5)
    assert job.status.state == "running" and job.status.share == 0.1
    with pytest.raises(InputError, match="wait for it or press Cancel"):
        job.start(request_)
    job.cancel()
    go_on.set()
    job.join(5)
    assert (job.status.state, job.status.message, job.status.stage_file) == ("idle", "Cancelled.", None)
    job._make_twin = twin
    job.start(request_)
    job.join(5)
    assert job.status.state == "done"


@pytest.mark.parametrize(
    ("error", "message", "logged"),
    [
        (PerceptionError("The photo shows no table: give a hint."), "The photo shows no table: give a hint.", False),
        (ZeroDivisionError("oh"), "Something unexpected went wrong (ZeroDivisionError: oh)", True),
    ],
)
def test_errors_become_one_sentence_and_surprises_keep_their_traceback(request_, error, message, logged):
    def fail(*args, **options):
        raise error

    job = Job(fail)
    job.start(request_)
    job.join(5)
    assert job.status.state == "failed" and job.status.message.startswith(message)
    assert any("Traceback" in line for line in job.status.log) == logged


def test_requests_that_cannot_be_meant_are_refused(tmp_path, request_):
    with pytest.raises(InputError, match="no photo"):
        Job(twin).start(Request(tmp_path / "missing.png", tmp_path))
    with pytest.raises(InputError, match="-1"):
        Job(twin).start(Request(request_.photo, tmp_path, num_demos=-1))


def fake_door(tmp_path, monkeypatch, body):
    door = tmp_path / "isaaclab.sh"
    door.write_text(f"#!/bin/bash\n{body}\n")
    door.chmod(0o755)
    monkeypatch.setattr(model, "DOOR", door)
    monkeypatch.setenv("PYTHONHOME", "/nowhere")


def test_demonstrations_run_in_a_process_without_kits_variables(tmp_path, monkeypatch, request_):
    fake_door(tmp_path, monkeypatch, 'echo "home=$PYTHONHOME"; printf "%s\\n" "$@"')
    lines = []
    request = Request(request_.photo, request_.out, instruction="pick up the mug", num_demos=4, seed=9)
    model.demos_in_own_process(request, tmp_path / "twin", lambda text, share: lines.append(text))
    assert lines[0] == "home="
    options = dict(zip(lines[3::2], lines[4::2], strict=True))
    assert options["--twin"] == str(tmp_path / "twin") and options["--instruction"] == "pick up the mug"
    assert (options["--num-demos"], options["--seed"], options["--out"]) == ("4", "9", str(request_.out))


def test_demonstrations_that_fail_say_why_and_cancel_ends_the_process(tmp_path, monkeypatch, request_):
    fake_door(tmp_path, monkeypatch, 'echo "Nothing is on the table."; exit 3')
    with pytest.raises(TwinError, match=r"not finished: Nothing is on the table\."):
        model.demos_in_own_process(request_, tmp_path, lambda text, share: None)
    fake_door(tmp_path, monkeypatch, f"echo one; sleep 60; touch {tmp_path}/survived")

    def cancel(text, share):
        raise model.JobCancelledError

    with pytest.raises(model.JobCancelledError):
        model.demos_in_own_process(request_, tmp_path, cancel)
    assert not (tmp_path / "survived").exists()


# ---------------------------------------------------------------- window and extension on a stand-in for Kit


MADE = []


class Widget:
    """Any omni.ui widget: remembers what it was made with, is a context, has a value model."""

    def __init__(self, *args, **options):
        self.args, self.options, self.text, self.enabled, self.value = args, options, "", True, ""
        self.model = self
        self.frame = self
        MADE.append(self)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        return False

    def get_value_as_string(self):
        return str(self.value)

    def get_value_as_int(self):
        return int(self.value or 0)

    def set_value(self, value):
        self.value = value

    def show(self):
        self.shown = True

    def hide(self):
        self.shown = False

    def destroy(self):
        self.destroyed = True


@pytest.fixture
def kit(monkeypatch):
    """Fake ``omni`` modules and freshly imported ``phototwin.kit.window`` and ``extension``."""
    MADE.clear()
    opened = []

    class App:
        async def next_update_async(self):
            await asyncio.sleep(0.001)

    names = (
        "Window",
        "VStack",
        "HStack",
        "Label",
        "Button",
        "StringField",
        "IntField",
        "ProgressBar",
        "ScrollingFrame",
    )
    fakes = {
        "omni": {},
        "omni.kit": {},
        "omni.kit.app": {"get_app": App},
        "omni.kit.window": {},
        "omni.kit.window.filepicker": {"FilePickerDialog": Widget},
        "omni.ext": {"IExt": object},
        "omni.usd": {"get_context": lambda: types.SimpleNamespace(open_stage=opened.append)},
        "omni.ui": {name: type(name, (Widget,), {}) for name in names}
        | {"Alignment": types.SimpleNamespace(LEFT_TOP=0)},
    }
    for name, values in fakes.items():
        module = types.ModuleType(name)
        vars(module).update(values)
        monkeypatch.setitem(sys.modules, name, module)
        parent, _, child = name.rpartition(".")
        if parent:
            setattr(sys.modules[parent], child, module)
    for name in ("phototwin.kit.window", "phototwin.kit.extension"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    window = importlib.import_module("phototwin.kit.window")
    extension = importlib.import_module("phototwin.kit.extension")
    yield types.SimpleNamespace(window=window, extension=extension, opened=opened)
    for name in ("phototwin.kit.window", "phototwin.kit.extension"):
        sys.modules.pop(name, None)


def button(label):
    return next(w for w in MADE if type(w).__name__ == "Button" and w.args == (label,))


def test_the_window_runs_a_photo_and_opens_the_stage(kit, request_):
    async def use():
        window = kit.window.TwinWindow(Job(twin))
        assert not button("Open stage").enabled and not button("Cancel").enabled
        button("Start").options["clicked_fn"]()
        assert "pick one" in window._message.text
        window._fields["photo"].set_value(str(request_.photo))
        window._fields["anchor"].set_value("camera height=0.4")
        button("Start").options["clicked_fn"]()
        window.job.join(5)
        await asyncio.sleep(0.05)
        assert button("Open stage").enabled and button("Start").enabled and window._bar.value == 1.0
        assert window._log.text == "perceive\nbuild"
        button("Open stage").options["clicked_fn"]()
        assert kit.opened == [str(request_.photo.parent / "desk_phototwin/twin/twin.usda")]
        assert window.request().anchors == ("camera height=0.4",)
        window.destroy()

    asyncio.run(use())


def test_the_file_picker_fills_its_field(kit, tmp_path):
    async def use():
        window = kit.window.TwinWindow(Job(twin))
        picks = [w for w in MADE if type(w).__name__ == "Button" and w.args == ("...",)]
        picks[1].options["clicked_fn"]()
        dialog = MADE[-1]
        assert dialog.shown
        dialog.options["click_apply_handler"]("depth.png", str(tmp_path))
        assert window._fields["depth"].value == str(tmp_path / "depth.png") and dialog.destroyed
        window.destroy()

    asyncio.run(use())


def test_the_extension_opens_one_window_and_closes_it(kit):
    async def use():
        extension = kit.extension.PhototwinExtension()
        extension.on_startup("phototwin-0.1.0")
        shown = next(w for w in MADE if type(w).__name__ == "Window")
        extension.on_shutdown()
        assert shown.destroyed
        extension.on_shutdown()

    asyncio.run(use())


def test_only_window_and_extension_import_omni():
    kit_folder = Path(model.__file__).parent
    users = {f.name for f in kit_folder.glob("*.py") if "import omni" in f.read_text()}
    assert users == {"window.py", "extension.py"}
