"""Values with arrays as bytes and back, as openpi's policy servers and clients write them: msgpack, an array as its bytes, type and shape."""

from __future__ import annotations

from typing import Any

import numpy as np

from phototwin.errors import InputError

KINDS = "biufSU"
"""Kinds of arrays that may travel: numbers and words, nothing that would have to be unpickled."""


def pack(value: Any) -> bytes:
    """A value of dictionaries, lists, words, numbers and arrays as bytes.

    Raises:
        InputError: Something in it cannot travel.
    """
    import msgpack

    try:
        return bytes(msgpack.Packer(default=_written).pack(value))
    except (TypeError, ValueError, OverflowError) as error:
        raise InputError(f"This cannot be sent to a policy server or client: {error}.") from error


def unpack(data: bytes) -> Any:
    """What ``pack`` was given; arrays share the bytes and cannot be written to.

    Raises:
        InputError: The bytes are no msgpack, or an array in them is impossible.
    """
    import msgpack

    try:
        return msgpack.unpackb(data, object_hook=_read, strict_map_key=False)
    except (msgpack.UnpackException, ValueError, TypeError, KeyError) as error:
        raise InputError(
            f"{len(data)} bytes came that are no msgpack with arrays as openpi writes them ({error}): "
            "is what answers there a policy server?"
        ) from error


def _written(value: Any) -> Any:
    if isinstance(value, np.ndarray | np.generic):
        if value.dtype.kind not in KINDS:
            raise TypeError(f"an array of type {value.dtype}")
        if isinstance(value, np.generic):
            return {b"__npgeneric__": True, b"data": value.item(), b"dtype": value.dtype.str}
        return {b"__ndarray__": True, b"data": value.tobytes(), b"dtype": value.dtype.str, b"shape": value.shape}
    raise TypeError(f"a value of type {type(value).__name__}")


def _read(value: dict[Any, Any]) -> Any:
    if b"__ndarray__" not in value and b"__npgeneric__" not in value:
        return value
    kind = np.dtype(value[b"dtype"])
    if kind.kind not in KINDS:
        raise ValueError(f"an array of type {kind}")
    if b"__npgeneric__" in value:
        return kind.type(value[b"data"])
    return np.frombuffer(value[b"data"], kind).reshape(value[b"shape"])
