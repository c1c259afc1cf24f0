"""A model behind an OpenAI-compatible chat-completions address as planner."""

from __future__ import annotations

import base64
import io
import json
import os
import time
import urllib.parse
from dataclasses import dataclass, field

import numpy as np

from phototwin.backends.external_run import AttemptError, FinalError, LateError, run_post
from phototwin.errors import InputError, InstructionError
from phototwin.plan.planner_answer import Turns, ask_for_plan, shrunk, tidy
from phototwin.plan.task import Task
from phototwin.scene import Scene

URL_VARIABLE, KEY_VARIABLE, MODEL_VARIABLE = "PHOTOTWIN_PLANNER_URL", "PHOTOTWIN_PLANNER_KEY", "PHOTOTWIN_PLANNER_MODEL"
PATH = "/chat/completions"
LOCAL = ("localhost", "127.0.0.1", "::1")
JPEG_QUALITY = 90


@dataclass(frozen=True)
class Endpoint:
    """Where the model is, and how patient we are with it.

    Attributes:
        url: Address that is posted to.
        model: Name of the model there.
        key: Sent as a bearer token where it is not empty; never printed, logged or recorded.
        timeout_s: An attempt that takes longer counts as failed [s].
        retries: How often a failed attempt is repeated.
        wait_s: Pause before the first repetition, doubled for each further one; a server's Retry-After comes first [s].
    """

    url: str
    model: str
    key: str = field(default="", repr=False)
    timeout_s: float = 60.0
    retries: int = 3
    wait_s: float = 1.0


class EndpointPlanner:
    """Asks a model behind an address for a plan."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint, self.name = endpoint, endpoint.model

    def __call__(self, text: str, scene: Scene, photo_rgb: np.ndarray) -> Task:
        """The plan that the model makes of an instruction.

        Raises:
            InstructionError: It cannot be reached, refuses, or gives no usable plan.
        """
        image = data_url(photo_rgb)
        return ask_for_plan(lambda question, turns: self._ask(image, question, turns), text, scene, self.name)

    def _ask(self, image: str, question: str, turns: Turns) -> str:
        """The model's words."""
        content = [{"type": "text", "text": question}, {"type": "image_url", "image_url": {"url": image}}]
        messages = [{"role": "user", "content": content}, *({"role": r, "content": said} for r, said in turns)]
        body = json.dumps({"model": self.endpoint.model, "messages": messages}).encode()
        return self._words(self._post(body))

    def _post(self, body: bytes) -> bytes:
        """The server's reply; attempts that failed in a way that may pass are repeated."""
        end = self.endpoint
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        headers |= {"Authorization": f"Bearer {end.key}"} if end.key else {}
        wait, failed = end.wait_s, ""
        for attempt in range(end.retries + 1):
            asked_s = None
            try:
                return run_post(end.url, body, end.timeout_s, headers)
            except AttemptError as error:
                failed, asked_s = str(error), error.wait_s
            except LateError as error:
                failed = str(error)
            except FinalError as error:
                raise self._failure(str(error)) from None
            if attempt < end.retries:
                time.sleep(wait if asked_s is None else asked_s)
                wait *= 2
        raise self._failure(f"it was tried {end.retries + 1} times; at last {failed}")

    def _words(self, reply: bytes) -> str:
        """The text of the first choice of a chat completion."""
        try:
            message = json.loads(reply)["choices"][0]["message"]
            said = message.get("content")
            if isinstance(said, list):
                said = "".join(part["text"] for part in said if part.get("type") == "text")
            if not said and isinstance(message.get("refusal"), str):
                said = json.dumps({"refuse": message["refusal"]})
            if not isinstance(said, str):
                raise TypeError(f"the content is a {type(said).__name__}")
        except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError) as error:
            start = reply[:200].decode("utf-8", "replace")
            raise self._failure(
                f"its reply is no chat completion ({type(error).__name__}: {error}); it begins '{start}'"
            ) from None
        return said

    def _failure(self, what: str) -> InstructionError:
        """What went wrong, without the key, which servers like to quote."""
        what = what.replace(self.endpoint.key, "***") if self.endpoint.key else what
        return InstructionError(
            f"The planner '{self.name}' at {_shown(self.endpoint.url)} gave no answer: {tidy(what, 400).rstrip('.')}. Try again, or use "
            "the planner 'grammar'."
        )


def make_endpoint(option: str = "") -> EndpointPlanner:
    """The planner behind the address in the environment; ``option`` names the model instead of the environment.

    Raises:
        InputError: The address, the model or the key is missing or cannot be one.
    """
    url, model = os.environ.get(URL_VARIABLE, "").strip(), option or os.environ.get(MODEL_VARIABLE, "").strip()
    key = os.environ.get(KEY_VARIABLE)
    if not url:
        raise InputError(
            f"The planner 'endpoint' needs an address: set {URL_VARIABLE} to that of an OpenAI-compatible server, such as "
            f"http://localhost:8000/v1, and {MODEL_VARIABLE} and {KEY_VARIABLE} to its model and key."
        )
    try:
        address = urllib.parse.urlsplit(url)
        good = address.scheme in ("http", "https") and bool(address.hostname) and (address.port or 1) > 0
        good = good and url.isascii() and url.isprintable() and " " not in url and not address.username
    except ValueError:
        good = False
    if not good:
        raise InputError(
            f"{URL_VARIABLE} is no address that can be asked: expected http(s)://HOST[:PORT]/PATH, without a user or a password in it."
        )
    if not model:
        raise InputError(f"The planner 'endpoint' needs a model's name: set {MODEL_VARIABLE}, or say endpoint=MODEL.")
    if key is None and urllib.parse.urlsplit(url).hostname not in LOCAL:
        raise InputError(
            f"The planner 'endpoint' needs a key: set {KEY_VARIABLE} (to nothing where the server wants none)."
        )
    key = (key or "").strip()
    if not key.isascii() or not key.isprintable() or " " in key:
        raise InputError(
            f"{KEY_VARIABLE} holds characters that no key has: set it again, without quotes or line breaks."
        )
    path = urllib.parse.urlsplit(url).path.rstrip("/").removesuffix(PATH) + PATH
    return EndpointPlanner(
        Endpoint(urllib.parse.urlunsplit(urllib.parse.urlsplit(url)._replace(path=path)), model, key)
    )


def data_url(photo_rgb: np.ndarray) -> str:
    """The photo (H, W, 3) uint8 as a data URL with a JPEG of at most ``MAX_SIDE_PX``."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(shrunk(photo_rgb)).save(buffer, "JPEG", quality=JPEG_QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _shown(url: str) -> str:
    """The address without its query, which may hold a secret."""
    return urllib.parse.urlunsplit(urllib.parse.urlsplit(url)._replace(query="", fragment=""))
