"""One attempt at an external model: a program with a time limit, or one HTTP request with a time and a size limit."""

from __future__ import annotations

import email.utils
import http.client
import os
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

STDOUT, STDERR = "stdout.txt", "stderr.txt"
LAST_LINES, LAST_CHARACTERS = 6, 600  # of what a failed program said
GRACE_S = 5.0  # between asking a program to end and ending it
MAX_REPLY_BYTES = 520 * 2**20
MAX_RETRY_AFTER_S = 120.0  # a server that asks for more patience is as good as away
CHUNK_BYTES = 2**18
ZIP_HEADERS = {"Content-Type": "application/zip", "Accept": "application/zip, model/gltf-binary"}
RETRIED_STATUS = (408, 425, 429, 500, 502, 503, 504)  # RFC 9110 and 6585: not the request's fault, may pass


class AttemptError(Exception):
    """An attempt failed in a way that may pass; ``wait_s`` is what the other side asked for, or None."""

    def __init__(self, message: str, wait_s: float | None = None) -> None:
        super().__init__(message)
        self.wait_s = wait_s


class FinalError(Exception):
    """Another attempt would fail the same way."""


class LateError(FinalError):
    """It took too long; whoever has time left may try again."""


def run_command(words: list[str], folder: Path, timeout_s: float) -> None:
    """Run a program without a shell; it and all it started are ended when the time is over.

    Its output goes to ``stdout.txt`` and ``stderr.txt`` in the folder.

    Raises:
        AttemptError: It ended with an error.
        FinalError: It cannot be started, or took too long.
    """
    with open(folder / STDOUT, "wb") as out, open(folder / STDERR, "wb") as err:
        try:
            # A session of its own makes it the leader of a process group, which can be ended as a whole.
            process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=out, stderr=err, start_new_session=True)
        except OSError as error:
            raise FinalError(f"the program '{words[0]}' cannot be started ({error.strerror or error})") from error
        try:
            code = process.wait(timeout_s)
        except subprocess.TimeoutExpired as error:
            raise FinalError(f"it took longer than {timeout_s:g} s and was ended{_said(folder)}") from error
        finally:
            _end_group(process)
    if code:
        how = f"it was ended by signal {-code}" if code < 0 else f"it ended with status {code}"
        raise AttemptError(f"{how}{_said(folder)}")


def _end_group(process: subprocess.Popen[Any]) -> None:
    """End the program and whatever it left running."""
    for number, patience_s in ((signal.SIGTERM, GRACE_S), (signal.SIGKILL, GRACE_S)):
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            break  # nobody is left
        except PermissionError:
            break  # only ended children that nobody has waited for
        until = time.monotonic() + patience_s
        while process.poll() is None and time.monotonic() < until:
            time.sleep(0.02)
    process.poll()


def _said(folder: Path) -> str:
    """The last lines of what the program wrote as errors, or else at all."""
    for name in (STDERR, STDOUT):
        with open(folder / name, "rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - 16 * LAST_CHARACTERS))
            lines = [line.strip() for line in file.read().decode("utf-8", "replace").splitlines() if line.strip()]
        if lines:
            return ": " + " | ".join(lines[-LAST_LINES:])[-LAST_CHARACTERS:]
    return ""


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """The photo goes to the address that the user named and to no other."""

    def redirect_request(self, *_: Any) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        return None


def run_post(address: str, body: bytes, timeout_s: float, headers: Mapping[str, str] = ZIP_HEADERS) -> bytes:
    """What a server replies to a zip archive, or to what else ``headers`` say that ``body`` is.

    Raises:
        AttemptError: The server cannot be reached, broke off, or asks to try again (408, 425, 429, 5xx).
        LateError: It takes too long.
        FinalError: It refuses, or replies with too much.
    """
    request = urllib.request.Request(address, body, dict(headers), method="POST")
    until = time.monotonic() + timeout_s
    try:
        with urllib.request.build_opener(_NoRedirect).open(request, timeout=timeout_s) as reply:
            return _read_all(reply, until, timeout_s)
    except urllib.error.HTTPError as error:
        said = error.read(LAST_CHARACTERS).decode("utf-8", "replace").strip().replace("\n", " ")
        what = f"the server answered {error.code} {error.reason}{f': {said}' if said else ''}"
        if error.code in RETRIED_STATUS:
            raise AttemptError(what, _retry_after(error.headers.get("Retry-After"))) from error
        raise FinalError(what) from error
    except TimeoutError as error:
        raise LateError(f"it took longer than {timeout_s:g} s") from error
    except (http.client.HTTPException, OSError) as error:  # URLError is an OSError
        reason = getattr(error, "reason", None) or error
        if isinstance(reason, TimeoutError):
            raise LateError(f"it took longer than {timeout_s:g} s") from error
        raise AttemptError(f"the server cannot be reached or broke off ({type(error).__name__}: {reason})") from error


def _read_all(reply: Any, until: float, timeout_s: float) -> bytes:
    """The whole body; the time counts for all of it, the size is limited whatever the header says."""
    parts, total = [], 0
    while chunk := reply.read1(CHUNK_BYTES):
        parts.append(chunk)
        total += len(chunk)
        if total > MAX_REPLY_BYTES:
            raise FinalError(f"its reply is larger than {MAX_REPLY_BYTES >> 20} MB")
        if time.monotonic() > until:
            raise TimeoutError(f"{timeout_s:g} s are over")
    length = reply.headers.get("Content-Length")
    if length is not None and length.isdigit() and total < int(length):
        raise http.client.IncompleteRead(b"", int(length) - total)
    return b"".join(parts)


def _retry_after(value: str | None) -> float | None:
    """Seconds to wait by a Retry-After header, a number or a date (RFC 9110, 10.2.3); at most ``MAX_RETRY_AFTER_S``."""
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = email.utils.parsedate_to_datetime(value).timestamp() - time.time()
        except (ValueError, TypeError):
            return None
    return min(max(seconds, 0.0), MAX_RETRY_AFTER_S) if seconds == seconds else None
