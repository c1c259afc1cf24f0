"""What a folder was begun with: who goes on in it must ask for the same."""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

from phototwin.errors import InputError


def begin_folder(file: Path, begun: dict[str, Any], free: Collection[str] = ()) -> None:
    """Write down what the folder of ``file`` is begun with, or find that it was begun with the same.

    Args:
        file: Where it is written.
        begun: What decides what comes of it, as JSON has it; dictionaries within may hold more of it.
        free: Names that may differ from what is written there.

    Raises:
        InputError: The folder was begun with something else; the message names what.
    """
    text = json.dumps(begun, indent=1, sort_keys=True) + "\n"
    if file.is_file():
        try:
            before = _flat(json.loads(file.read_text()))
        except (ValueError, AttributeError) as error:
            raise InputError(
                f"'{file}' cannot be read ({error}): delete it if '{file.parent}' was begun as now."
            ) from error
        asked = _flat(json.loads(text))
        other = sorted(n for n in before.keys() | asked.keys() if before.get(n) != asked.get(n) and n not in free)
        if other:
            told = ", ".join(f"{name} {before.get(name)} (asked for: {asked.get(name)})" for name in other)
            raise InputError(f"'{file.parent}' was begun with {told:.600}: give another --out, or ask for the same.")
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_name(f"{file.name}.partial")
    partial.write_text(text)
    partial.rename(file)


def _flat(value: dict[str, Any], above: str = "") -> dict[str, Any]:
    """Nested names with dots between; ranges of randomisation are nested as JSON."""
    found: dict[str, Any] = {}
    for name, part in value.items():
        part = json.loads(part) if name == "randomize" and str(part).startswith("{") else part
        found |= _flat(part, f"{above}{name}.") if isinstance(part, dict) else {f"{above}{name}": part}
    return found
