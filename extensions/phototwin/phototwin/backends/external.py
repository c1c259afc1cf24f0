"""Models that live in an environment of their own: one folder goes in, the same folder comes back with the answer.

The folder is described in docs/external.md. A command gets its path, a server gets its files as a zip archive.
"""

from __future__ import annotations

import io
import json
import shlex
import shutil
import time
import urllib.parse
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from phototwin.backends.contract import DepthEstimate, check_depth
from phototwin.backends.external_run import AttemptError, FinalError, run_command, run_post
from phototwin.errors import InputError, OutputError, PerceptionError
from phototwin.images import save_ids, save_rgb
from phototwin.meshes import load_mesh
from phototwin.scene import GivenMesh

VERSION = 1
FOLDER_WORD = "{folder}"
IMAGE, MASK, DEPTH, MESH, ANSWER, REQUEST = (
    "crop.png",
    "mask.png",
    "depth.npy",
    "mesh.glb",
    "answer.json",
    "request.json",
)
ANSWER_FILES = {"mesh": (MESH, ANSWER), "depth": (DEPTH, ANSWER)}
MARGIN = 0.12  # of the mask's longer side, left around an object: models want to see where it ends
MAX_NPY_BYTES = 256 * 2**20
MAX_JSON_BYTES = 2**20
DEPTH_SCALE_SIGMA = 0.1  # of a model that does not say how sure it is of its metres


@dataclass(frozen=True)
class External:
    """A model outside, and how patient we are with it.

    Attributes:
        kind: "command" or "http".
        target: The command with ``{folder}`` in it, or the address.
        timeout_s: An attempt that takes longer is ended and not tried again [s].
        retries: How often a failed attempt is repeated.
        wait_s: Pause before the first repetition, doubled for each further one; a server's Retry-After comes first [s].
    """

    kind: str
    target: str
    timeout_s: float = 900.0
    retries: int = 2
    wait_s: float = 2.0


def parse_external(text: str, timeout_s: float = External.timeout_s) -> External:
    """What "command:conda run -n NAME python run.py {folder}" or "http://host:port/path" stands for.

    Raises:
        InputError: It is neither, the command lacks ``{folder}`` or is quoted wrongly, or the time is not positive.
    """
    if not timeout_s > 0:
        raise InputError(f"The time for an external model is {timeout_s:g} s; expected a positive number of seconds.")
    if text.startswith("command:"):
        command = text.removeprefix("command:").strip()
        try:
            words = shlex.split(command)
        except ValueError as error:
            raise InputError(
                f"The command '{command}' cannot be split into words ({error}): check its quotes."
            ) from error
        if len(words) < 2 or not any(FOLDER_WORD in word for word in words[1:]):
            raise InputError(
                f"The command '{command}' must name a program and hold {FOLDER_WORD}, where the request is."
            )
        return External("command", command, timeout_s)
    if text.startswith(("http://", "https://")):
        try:
            address = urllib.parse.urlsplit(text)
            good = bool(address.hostname) and (address.port is None or address.port > 0)
        except ValueError:
            good = False
        if good:
            return External("http", text, timeout_s)
    raise InputError(
        f"The external model is '{text}', expected 'command:PROGRAM ... {FOLDER_WORD}' or 'http://HOST:PORT/PATH'."
    )


def request_mesh(
    external: External,
    rgb: np.ndarray,
    mask: np.ndarray,
    K_px: np.ndarray,
    depth_m: np.ndarray | None,
    folder: Path,
    name: str = "object",
    seed: int = 0,
) -> GivenMesh:
    """The mesh that an external model makes of one object of a photo.

    Args:
        external: The model.
        rgb: Photo (H, W, 3) uint8.
        mask: The object (H, W) bool.
        K_px: (3, 3) of the photo [px].
        depth_m: (H, W), 0 unknown [m], or None.
        folder: Where the request is written, and the answer is found; it stays.
        name: What the object is called.
        seed: For the model's random numbers.

    Raises:
        InputError: The mask is empty.
        OutputError: The folder cannot be written.
        PerceptionError: The model failed, took too long, or its answer is no usable mesh; the folder is named.
    """
    v, u = np.nonzero(mask)
    if not len(v):
        raise InputError(f"The mask of '{name}' is empty: there is nothing to ask an external model about.")
    margin = int(np.ceil(MARGIN * max(np.ptp(u) + 1, np.ptp(v) + 1)))
    low = np.maximum([u.min() - margin, v.min() - margin], 0)
    high = np.minimum([u.max() + 1 + margin, v.max() + 1 + margin], mask.shape[::-1])
    part = (slice(low[1], high[1]), slice(low[0], high[0]))
    K = np.array(K_px, dtype=np.float64)
    K[:2, 2] -= low
    facts = {"kind": "mesh", "name": name, "seed": seed, "K_px": K.tolist(), "crop_px": [*low.tolist(), *high.tolist()]}
    _write_request(folder, facts, rgb[part], mask[part], None if depth_m is None else depth_m[part])
    answer = _ask(external, folder, "mesh")
    try:
        given = load_mesh(folder / MESH)
    except InputError as error:
        raise _refusal(external, folder, f"its answer is no usable mesh: {error}") from error
    source = str(answer.get("source") or external.target)[:120]
    return GivenMesh(given.points, given.faces, source, given.colors_rgb)


def request_depth(
    external: External, rgb: np.ndarray, K_px: np.ndarray | None, folder: Path, seed: int = 0
) -> DepthEstimate:
    """The metric depth that an external model estimates from a photo (H, W, 3) uint8, taken with ``K_px`` where that is known.

    Raises:
        OutputError: The folder cannot be written.
        PerceptionError: The model failed, took too long, or its answer is no depth of this photo; the folder is named.
    """
    facts = {
        "kind": "depth",
        "name": "photo",
        "seed": seed,
        "K_px": None if K_px is None else np.asarray(K_px).tolist(),
    }
    _write_request(folder, facts | {"crop_px": [0, 0, rgb.shape[1], rgb.shape[0]]}, rgb, None, None)
    answer = _ask(external, folder, "depth")
    depth = _load_depth(external, folder)
    try:
        K = np.array(answer["K_px"], dtype=np.float64) if answer.get("K_px") is not None else None
        sigma = float(answer.get("scale_sigma", DEPTH_SCALE_SIGMA))
    except (TypeError, ValueError) as error:
        raise _refusal(
            external, folder, f"its {ANSWER} holds a K_px or scale_sigma that is no number ({error})"
        ) from error
    estimate = DepthEstimate(depth, K, sigma, str(answer.get("source") or external.target)[:120])
    return check_depth(estimate, rgb, f"{external.target}' in '{folder}")


def _write_request(
    folder: Path, facts: dict[str, Any], rgb: np.ndarray, mask: np.ndarray | None, depth_m: np.ndarray | None
) -> None:
    """Write the folder afresh; ``request.json`` comes last, so its presence means the rest is whole."""
    try:
        if folder.exists() and any(folder.iterdir()):
            if not (folder / REQUEST).is_file():
                raise OutputError(f"'{folder}' is not empty and holds no request of ours: name another folder.")
            shutil.rmtree(folder)
        folder.mkdir(parents=True, exist_ok=True)
        save_rgb(folder / IMAGE, rgb)
        files = {"image": IMAGE}
        if mask is not None:
            save_ids(folder / MASK, mask * 255)
            files["mask"] = MASK
        if depth_m is not None:
            np.save(folder / DEPTH, depth_m.astype(np.float32))
            files["depth"] = DEPTH
        size = {"width": rgb.shape[1], "height": rgb.shape[0]}
        (folder / REQUEST).write_text(
            json.dumps({"version": VERSION, **facts, **size, "files": files}, indent=1) + "\n"
        )
    except OSError as error:
        raise OutputError(f"The request for an external model cannot be written to '{folder}' ({error}).") from error


def _ask(external: External, folder: Path, kind: str) -> dict[str, Any]:
    """Run the model until it answers; what ``answer.json`` says.

    Raises:
        OutputError: The folder cannot be written.
        PerceptionError: It failed every time, took too long, or refused.
    """
    files = ANSWER_FILES[kind]
    wait, failed = external.wait_s, ""
    for attempt in range(external.retries + 1):
        for file in files:
            (folder / file).unlink(missing_ok=True)
        try:
            if external.kind == "command":
                words = [word.replace(FOLDER_WORD, str(folder.resolve())) for word in shlex.split(external.target)]
                run_command(words, folder, external.timeout_s)
            else:
                reply = run_post(external.target, _packed(folder), external.timeout_s)
                _unpack(reply, folder, files)
            return _read_answer(external, folder, files)
        except AttemptError as error:
            failed = str(error)
            if attempt < external.retries:
                time.sleep(error.wait_s if error.wait_s is not None else wait)
                wait *= 2
        except FinalError as error:
            raise _refusal(external, folder, str(error)) from error
        except OSError as error:
            raise OutputError(f"The answer of an external model cannot be kept in '{folder}' ({error}).") from error
    times = "once" if external.retries == 0 else f"{external.retries + 1} times"
    raise _refusal(external, folder, f"it was tried {times}; at last {failed}")


def _packed(folder: Path) -> bytes:
    """The request's files as a zip archive without folders."""
    buffer = io.BytesIO()
    names = json.loads((folder / REQUEST).read_text())["files"].values()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in (REQUEST, *names):
            archive.write(folder / name, name)
    return buffer.getvalue()


def _unpack(reply: bytes, folder: Path, files: tuple[str, ...]) -> None:
    """Write the answer's files out of a zip archive, or out of a bare glTF binary; nothing else is written.

    Raises:
        FinalError: The reply is neither, or a name in it leads out of the folder, or a file in it is too large.
    """
    if reply[:4] == b"glTF" and MESH in files:
        (folder / MESH).write_bytes(reply)
        return
    try:
        with zipfile.ZipFile(io.BytesIO(reply)) as archive:
            for info in archive.infolist():
                name = info.filename.replace("\\", "/")
                if name.startswith("/") or ".." in name.split("/") or ":" in name:
                    raise FinalError(f"its reply holds a file named '{info.filename}', which leads out of the folder")
                if name not in files:
                    continue
                if info.file_size > _limit(name):
                    raise FinalError(
                        f"the {name} in its reply has {info.file_size >> 20} MB, at most {_limit(name) >> 20}"
                    )
                with archive.open(info) as source:
                    (folder / name).write_bytes(source.read(info.file_size))
    except (zipfile.BadZipFile, zipfile.LargeZipFile, NotImplementedError, RuntimeError, EOFError, zlib.error) as error:
        start = reply[:60].decode("utf-8", "replace")
        raise FinalError(f"its reply is no zip archive ({error}); it begins '{start}'") from error


def _limit(name: str) -> int:
    from phototwin.meshes import MAX_FILE_BYTES

    return {MESH: MAX_FILE_BYTES, DEPTH: MAX_NPY_BYTES}.get(name, MAX_JSON_BYTES)


def _read_answer(external: External, folder: Path, files: tuple[str, ...]) -> dict[str, Any]:
    """``answer.json`` as a dictionary, empty where there is none.

    Raises:
        FinalError: It is unreadable, states an error, or the file that answers is missing.
    """
    answer: Any = {}
    file = folder / ANSWER
    if file.is_file():
        if file.stat().st_size > MAX_JSON_BYTES:
            raise FinalError(f"its {ANSWER} has {file.stat().st_size >> 20} MB, at most {MAX_JSON_BYTES >> 20}")
        try:
            answer = json.loads(file.read_text())
        except (ValueError, OSError) as error:
            raise FinalError(f"its {ANSWER} is no JSON ({error})") from error
        if not isinstance(answer, dict):
            raise FinalError(f"its {ANSWER} holds a {type(answer).__name__}, expected an object")
        if answer.get("error"):
            raise FinalError(f"it says: {str(answer['error'])[:300]}")
    if not (folder / files[0]).is_file():
        raise FinalError(f"it ended well but left no {files[0]}")
    return answer


def _load_depth(external: External, folder: Path) -> np.ndarray:
    file = folder / DEPTH
    if file.stat().st_size > MAX_NPY_BYTES:
        raise _refusal(
            external, folder, f"its {DEPTH} has {file.stat().st_size >> 20} MB, at most {MAX_NPY_BYTES >> 20}"
        )
    try:
        depth = np.load(file, allow_pickle=False)
        if depth.dtype.kind not in "fiu":
            raise ValueError(f"its numbers are {depth.dtype}")
        depth = depth.astype(np.float32)
    except (ValueError, OSError, EOFError, MemoryError) as error:
        raise _refusal(external, folder, f"its {DEPTH} cannot be read ({error})") from error
    return np.where(np.isfinite(depth) & (depth > 0), depth, np.float32(0))


def _refusal(external: External, folder: Path, what: str) -> PerceptionError:
    return PerceptionError(
        f"The external model '{external.target}' gave nothing usable: {what.rstrip('.')}. "
        f"What it was sent and what it left is in '{folder}'."
    )
