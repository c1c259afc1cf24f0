"""What every reader of a user's file does first: is it there, is it JSON, are these finite numbers?"""

from __future__ import annotations

import json
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from phototwin.errors import InputError

BROKEN = (OSError, SyntaxError, ValueError, EOFError, IndexError, TypeError, struct.error, zlib.error)
"""What Pillow and others raise for damaged files."""


def check_file(file: Path, what: str) -> None:
    """Refuse what is no file, or an empty one, by an ``InputError``."""
    if not file.exists():
        raise InputError(f"There is no {what} file '{file}': check the path.")
    if not file.is_file():
        raise InputError(f"The {what} '{file}' is a folder, expected a file.")
    if file.stat().st_size == 0:
        raise InputError(f"The {what} file '{file}' is empty (0 bytes): copy or take it again.")


def read_json(file: Path, what: str) -> Any:
    """What a JSON file holds.

    Raises:
        InputError: It cannot be read.
    """
    check_file(file, what)
    try:
        return json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise InputError(f"The {what} file '{file}' is not JSON ({error}).") from error


def read_array(value: Any, shape: tuple[int, ...], where: str) -> np.ndarray:
    """``value`` as finite float64 of that shape."""
    try:
        array = np.array(value, dtype=np.float64)
    except (TypeError, ValueError):
        array = np.empty(0)
    if array.shape != shape or not np.isfinite(array).all():
        raise InputError(f"{where} must be {' x '.join(str(n) for n in shape)} finite numbers, got {str(value)[:120]}.")
    return array
