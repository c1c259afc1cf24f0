"""Turn a short name or a ``"package.module:Attr"`` string into the object it names."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

from phototwin.errors import InputError


def resolve(name: str, table: Mapping[str, str], what: str) -> Any:
    """The object that ``name`` stands for: a key of ``table`` (name -> "module:Attr") or a "module:Attr" of its own.

    Raises:
        InputError: The name is neither, or the module or attribute does not exist.
    """
    target = table.get(name, name)
    module, _, attribute = target.partition(":")
    if not attribute:
        raise InputError(
            f"Unknown {what} '{name}'. Choose one of {', '.join(sorted(table))}, or give 'package.module:Attr'."
        )
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise InputError(f"The {what} '{name}' could not be loaded from '{target}': {error}.") from error
