"""What Kit loads: opens the phototwin window when the extension is enabled and closes it when it is disabled."""

from __future__ import annotations

import omni.ext  # pyright: ignore[reportMissingImports]

from phototwin.kit.window import TwinWindow


class PhototwinExtension(omni.ext.IExt):
    """One window."""

    def on_startup(self, ext_id: str) -> None:
        """Called by Kit when the extension is enabled."""
        self._window: TwinWindow | None = TwinWindow()

    def on_shutdown(self) -> None:
        """Called by Kit when the extension is disabled."""
        if self._window is not None:
            self._window.destroy()
            self._window = None
