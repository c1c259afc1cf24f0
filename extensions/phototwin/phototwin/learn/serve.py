"""A policy of ours for programs elsewhere, in openpi's protocol: what ``RemotePolicy`` and openpi's own client talk to."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from phototwin.errors import InputError
from phototwin.learn.config import PolicyFacts
from phototwin.learn.remote import ACTIONS_KEY, BEGIN_KEY, SEED_KEY
from phototwin.learn.server_config import SECTION, ServerConfig
from phototwin.learn.wire import pack, unpack

if TYPE_CHECKING:
    from websockets.sync.server import Server, ServerConnection

INTERNAL_ERROR = 1011
"""Code of a connection that is closed after an error was told."""


class Driver(Protocol):
    """What drives the attempts of one client."""

    def begin(self, attempts: int, seed: int) -> None:
        """New attempts begin, so many side by side; what it draws comes of the seed."""
        ...

    def actions(self, rgb: np.ndarray, state: np.ndarray, instruction: str) -> np.ndarray:
        """Joint commands and gripper (B, H, J + 1) for frames (B, h, w, 3) uint8 and joint readings (B, S)."""
        ...


def make_server(make: Callable[[], Driver], metadata: dict[str, Any], host: str, port: int) -> Server:
    """A server that listens; its ``serve_forever()`` answers until ``shutdown()``.

    Every client has a driver of its own and begins an attempt when it connects; one question is answered at a time.

    Args:
        make: Makes a driver.
        metadata: What clients are told first, see ``describe_policy``.
        host: Address to listen at; "0.0.0.0" for every network of this machine.
        port: Port to listen at; 0 takes a free one.

    Raises:
        InputError: It cannot listen there.
    """
    from websockets.sync.server import serve

    turn = threading.Lock()

    def answer(client: ServerConnection) -> None:
        driver = make()
        driver.begin(1, 0)
        client.send(pack(metadata))
        for message in client:
            try:
                with turn:
                    told = answer_question(driver, message, metadata[SECTION])
            except Exception as error:
                client.send(f"{type(error).__name__}: {error}")
                client.close(INTERNAL_ERROR, "the error was told before")
                return
            client.send(told)

    try:
        # A client that simulates between its questions need not answer pings in time.
        return serve(answer, host, port, compression=None, max_size=None, ping_interval=None)
    except OSError as error:
        raise InputError(
            f"{host}:{port} cannot be listened at ({error.strerror or error}): give another --host or --port."
        ) from error


def describe_policy(facts: PolicyFacts) -> dict[str, Any]:
    """What a client is told of a policy: all that it needs to drive a robot with it, and to test it on nothing that it was shown."""
    names = ("robot", "fps", "resolution", "state_names", "instructions", "seconds", "demos")
    said: dict[str, Any] = {name: getattr(facts, name) for name in names}
    said["shown"] = [asdict(each) for each in facts.shown]
    # Whatever space it has learned in, joints go in and come out.
    said |= {"space": "joint", "execute": facts.config.execute, "chunk": facts.config.chunk, "kind": facts.config.kind}
    return {SECTION: said | {"batched": True, "trained_on": facts.data_sha256, "weights_sha256": facts.digest}}


def answer_question(driver: Driver, message: str | bytes, said: dict[str, Any]) -> bytes:
    """The packed answer to a packed question: one attempt's frame (h, w, 3) and readings (S,), or all attempts' with one row each.

    Args:
        driver: What drives.
        message: The question.
        said: What the client was told.

    Raises:
        InputError: The question is none.
    """
    asked = unpack(message) if isinstance(message, bytes) else None
    keys = ServerConfig()
    if not isinstance(asked, dict) or not {keys.image_key, keys.state_key} <= asked.keys():
        raise InputError(f"Expected a packed dictionary with '{keys.image_key}' and '{keys.state_key}'.")
    rgb, state = np.asarray(asked[keys.image_key]), np.asarray(asked[keys.state_key])
    many, joints = rgb.ndim == 4, said["state_names"]
    if rgb.dtype != np.uint8 or rgb.ndim not in (3, 4) or rgb.shape[-1] != 3 or not rgb.size:
        raise InputError(f"'{keys.image_key}' is {rgb.shape} of type {rgb.dtype}, expected (h, w, 3) uint8.")
    wanted = (*rgb.shape[: rgb.ndim - 3], len(joints))
    if state.dtype.kind not in "fiu" or state.shape != wanted or not np.isfinite(state).all():
        raise InputError(
            f"'{keys.state_key}' is {state.shape} of type {state.dtype}, expected finite numbers {wanted}: {', '.join(joints)}."
        )
    seed = asked.get(SEED_KEY, 0)
    if not isinstance(seed, int) or seed < 0:
        raise InputError(f"'{SEED_KEY}' is {seed!r}, expected a whole number from 0 on.")
    if asked.get(BEGIN_KEY, False):
        driver.begin(len(rgb) if many else 1, seed)
    words = str(asked.get(keys.prompt_key) or (said["instructions"] or ("",))[0])
    rgb, state = (rgb, state) if many else (rgb[None], state[None])
    told = driver.actions(rgb, state.astype(np.float32), words)
    return pack({ACTIONS_KEY: told if many else told[0]})
