"""The Kit window: fields for a photo and what to do with it, a progress bar, a log, and the twin in the viewport."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import omni.kit.app  # pyright: ignore[reportMissingImports]
import omni.ui as ui  # pyright: ignore[reportMissingImports]
import omni.usd  # pyright: ignore[reportMissingImports]

from phototwin.errors import InputError
from phototwin.kit.model import Job, Request, Status

TITLE = "Phototwin"
LABEL_WIDTH = 110
PATH_FIELDS = (("photo", "Photo"), ("depth", "Depth (optional)"), ("camera", "Camera (optional)"))


class TwinWindow:
    """Shows a ``Job`` and starts it; everything that touches the screen runs on Kit's own thread."""

    def __init__(self, job: Job | None = None) -> None:
        self.job = job or Job()
        self._shown: Status | None = None
        self._dialog: Any = None
        self._fields: dict[str, Any] = {}
        self._window = ui.Window(TITLE, width=460, height=520)
        with self._window.frame, ui.VStack(spacing=6, height=0):
            self._build_inputs()
            self._build_outputs()
        self.refresh()
        self._poll = asyncio.ensure_future(self._follow())

    def destroy(self) -> None:
        """Stop following the job, ask it to end and close the window."""
        self._poll.cancel()
        self.job.cancel()
        self._close_dialog()
        self._window.destroy()

    def _build_inputs(self) -> None:
        for key, label in PATH_FIELDS:
            with ui.HStack(height=24, spacing=4):
                ui.Label(label, width=LABEL_WIDTH)
                self._fields[key] = ui.StringField().model
                ui.Button("...", width=28, clicked_fn=self._picker(key, label))
        for key, label in (("anchor", "Known length"), ("instruction", "Instruction")):
            with ui.HStack(height=24, spacing=4):
                ui.Label(label, width=LABEL_WIDTH)
                self._fields[key] = ui.StringField().model
        with ui.HStack(height=24, spacing=4):
            ui.Label("Demonstrations", width=LABEL_WIDTH)
            self._fields["num_demos"] = ui.IntField().model

    def _build_outputs(self) -> None:
        with ui.HStack(height=28, spacing=4):
            self._start_button = ui.Button("Start", clicked_fn=self.start)
            self._cancel_button = ui.Button("Cancel", clicked_fn=self.job.cancel)
            self._open_button = ui.Button("Open stage", clicked_fn=self.open_stage)
        self._bar = ui.ProgressBar(height=20)
        self._message = ui.Label("", word_wrap=True)
        with ui.ScrollingFrame(height=200):
            self._log = ui.Label("", word_wrap=True, alignment=ui.Alignment.LEFT_TOP)

    def request(self) -> Request:
        """What the fields say.

        Raises:
            InputError: No photo is named.
        """
        text = {key: field.get_value_as_string().strip() for key, field in self._fields.items() if key != "num_demos"}
        if not text["photo"]:
            raise InputError("No photo is named: pick one.")
        photo = Path(text["photo"])
        return Request(
            photo=photo,
            out=photo.parent / f"{photo.stem}_phototwin",
            depth=Path(text["depth"]) if text["depth"] else None,
            camera=Path(text["camera"]) if text["camera"] else None,
            anchors=(text["anchor"],) if text["anchor"] else (),
            instruction=text["instruction"],
            num_demos=self._fields["num_demos"].get_value_as_int(),
        )

    def start(self) -> None:
        """Start what the fields say; what they lack is said in the window."""
        try:
            self.job.start(self.request())
        except InputError as error:
            self._message.text = str(error)
            return
        self.refresh()

    def open_stage(self) -> None:
        """Open the twin in the viewport."""
        stage_file = self.job.status.stage_file
        if stage_file is not None:
            omni.usd.get_context().open_stage(str(stage_file))

    def refresh(self) -> None:
        """Show the job's status if it changed."""
        status = self.job.status
        if status is self._shown:
            return
        self._shown = status
        self._start_button.enabled = status.state != "running"
        self._cancel_button.enabled = status.state == "running"
        self._open_button.enabled = status.stage_file is not None
        self._bar.model.set_value(status.share)
        self._message.text = status.stage if status.state == "running" else status.message
        self._log.text = "\n".join(status.log)

    async def _follow(self) -> None:
        while True:
            await omni.kit.app.get_app().next_update_async()
            self.refresh()

    def _picker(self, key: str, label: str) -> Callable[[], None]:
        def chosen(name: str, folder: str) -> None:
            self._fields[key].set_value(str(Path(folder) / name))
            self._close_dialog()

        def show() -> None:
            from omni.kit.window.filepicker import FilePickerDialog  # pyright: ignore[reportMissingImports]

            self._close_dialog()
            self._dialog = FilePickerDialog(label, apply_button_label="Select", click_apply_handler=chosen)
            self._dialog.show()

        return show

    def _close_dialog(self) -> None:
        if self._dialog is not None:
            self._dialog.hide()
            self._dialog.destroy()
            self._dialog = None
