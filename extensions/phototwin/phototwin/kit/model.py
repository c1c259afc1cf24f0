"""What the Kit window does, without Kit: one job at a time in a worker thread, with progress, cancel and one error sentence."""

from __future__ import annotations

import os
import subprocess
import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from phototwin.errors import InputError, TwinError
from phototwin.pipeline import STAGES_FOLDER, Source, photo_to_twin
from phototwin.progress import Progress

State = Literal["idle", "running", "done", "failed"]
LOG_LINES = 200
"""Lines the window keeps; a run of fifty demonstrations prints fewer."""

DOOR = Path(__file__).resolve().parents[4] / "isaaclab.sh"
KIT_VARIABLES = ("PYTHONHOME", "PYTHONPATH", "LD_LIBRARY_PATH", "VIRTUAL_ENV")
"""Kit sets these for its own Python; another Python started with them does not run."""


@dataclass(frozen=True)
class Request:
    """What the user asked for.

    Attributes:
        photo: Image file.
        out: Folder of the run; the twin goes into ``out/twin``.
        depth: Depth file, or None.
        camera: Camera JSON, or None.
        anchors: Known lengths such as "green cube=0.04" [m].
        instruction: What the robot shall do; empty leaves the choice to the program.
        num_demos: How many demonstrations to record after the twin; 0 stops there.
        seed: Seed of every random choice.
    """

    photo: Path
    out: Path
    depth: Path | None = None
    camera: Path | None = None
    anchors: tuple[str, ...] = ()
    instruction: str = ""
    num_demos: int = 0
    seed: int = 0


@dataclass(frozen=True)
class Status:
    """What the window shows.

    Attributes:
        state: "idle", "running", "done" or "failed" (cancelled counts as idle).
        stage: What is being done.
        share: Share of that stage, 0..1.
        message: One sentence for the user: what was written, or what went wrong.
        stage_file: The twin's USD file once it exists.
        log: Last lines of the log.
    """

    state: State = "idle"
    stage: str = ""
    share: float = 0.0
    message: str = "Pick a photo and press Start."
    stage_file: Path | None = None
    log: tuple[str, ...] = ()


class JobCancelledError(Exception):
    """The user pressed Cancel; raised out of the progress callback."""


MakeTwin = Callable[..., Path]
"""``photo_to_twin(source, folder, *, stages, redo, seed, progress) -> Path of twin.usda``."""

MakeDemos = Callable[[Request, Path, Progress], None]
"""Records demonstrations of a request in a twin's folder."""


def demos_in_own_process(request: Request, twin: Path, progress: Progress) -> None:
    """Run ``scripts/generate.py`` on a finished twin, in the project's own Python, so that Kit's stage stays as it is.

    Each line it prints becomes the progress text; cancelling ends the process.

    Raises:
        TwinError: It ended with an error; the message is its last line.
    """
    command = [str(DOOR), "-p", str(DOOR.parent / "scripts/generate.py"), "--twin", str(twin)]
    command += ["--out", str(request.out), "--num-demos", str(request.num_demos), "--seed", str(request.seed)]
    if request.instruction:
        command += ["--instruction", request.instruction]
    environment = {k: v for k, v in os.environ.items() if k not in KIT_VARIABLES}
    last = "it printed nothing"
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
    ) as child:
        assert child.stdout is not None
        try:
            for line in child.stdout:
                last = line.strip() or last
                progress(last, 0.0)
        except JobCancelledError:
            child.terminate()
            raise
    if child.returncode != 0:
        raise TwinError(f"The demonstrations were not finished: {last}")


class Job:
    """One photo at a time through the pipeline, in a thread; ``status`` may be read from any thread at any time."""

    def __init__(self, make_twin: MakeTwin = photo_to_twin, make_demos: MakeDemos = demos_in_own_process) -> None:
        self._make_twin, self._make_demos = make_twin, make_demos
        self._lock = threading.Lock()
        self._status = Status()
        self._cancel = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def status(self) -> Status:
        """A snapshot that does not change any more."""
        with self._lock:
            return self._status

    def start(self, request: Request) -> None:
        """Begin a request; the outcome shows in ``status``.

        Raises:
            InputError: A job is running, or the request cannot be meant.
        """
        if self.status.state == "running":
            raise InputError("A photo is being worked on: wait for it or press Cancel.")
        if not request.photo.is_file():
            raise InputError(f"There is no photo '{request.photo}': pick an image file.")
        if request.num_demos < 0:
            raise InputError(f"The number of demonstrations is {request.num_demos}, expected 0 or more.")
        self._cancel.clear()
        self._set(Status(state="running", stage="start", message=f"Working on {request.photo.name}."))
        self._thread = threading.Thread(target=self._run, args=(request,), name="phototwin-job", daemon=True)
        self._thread.start()

    def cancel(self) -> None:
        """Ask a running job to stop; it does at its next sign of progress."""
        self._cancel.set()

    def join(self, timeout_s: float | None = None) -> None:
        """Wait for the job to end."""
        if self._thread is not None:
            self._thread.join(timeout_s)

    def _run(self, request: Request) -> None:
        try:
            source = Source(request.photo, request.depth, request.camera, anchor=request.anchors)
            stages = request.out / STAGES_FOLDER
            stage_file = self._make_twin(
                source, request.out / "twin", stages=stages, seed=request.seed, progress=self._progress
            )
            self._set(replace(self.status, stage_file=stage_file))
            if request.num_demos:
                self._progress("record demonstrations", 0.0)
                self._make_demos(request, stage_file.parent, self._progress)
            what = f"{request.num_demos} demonstrations in {request.out}" if request.num_demos else f"{stage_file}"
            self._set(replace(self.status, state="done", share=1.0, message=f"Wrote {what}."))
        except JobCancelledError:
            self._set(replace(self.status, state="idle", stage="", share=0.0, message="Cancelled."))
        except TwinError as error:
            self._set(replace(self.status, state="failed", message=str(error)))
        except Exception as error:  # a worker thread has nobody above it: whatever went wrong must reach the window
            self._log(traceback.format_exc())
            text = f"Something unexpected went wrong ({type(error).__name__}: {error}); the log has the details."
            self._set(replace(self.status, state="failed", message=text))

    def _progress(self, stage: str, share: float) -> None:
        if self._cancel.is_set():
            raise JobCancelledError
        if stage != self.status.stage:
            self._log(stage)
        self._set(replace(self.status, stage=stage, share=min(max(share, 0.0), 1.0)))

    def _log(self, text: str) -> None:
        self._set(replace(self.status, log=(*self.status.log, *text.splitlines())[-LOG_LINES:]))

    def _set(self, status: Status) -> None:
        with self._lock:
            self._status = status
