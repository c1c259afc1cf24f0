"""Find model weights in local folders, and load them without ever asking the network."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from phototwin.errors import InputError

FOLDER_VARIABLE = "PHOTOTWIN_MODELS"


def find_weights(repo: str) -> tuple[Path | None, str]:
    """The local folder of a model's weights, or None and why there is none.

    Looks for ``$PHOTOTWIN_MODELS/<name>`` (the repository's name without its owner), then in the Hugging Face cache.
    Only files are looked at: nothing heavy is imported and nothing is downloaded.
    """
    reason = "no weights here"
    for folder in _places(repo):
        missing = missing_file(folder)
        if missing is None:
            return folder, ""
        reason = f"'{folder}' lacks {missing}"
    return None, reason


def need_weights(what: str, name: str, option: str, repo: str) -> Path:
    """The folder of a backend's weights: ``option`` where one is given, else where weights are looked for.

    Args:
        what: The family of backends, as it is called in a message.
        name: The backend's.
        option: A folder, or empty.
        repo: Whose weights it takes.

    Raises:
        InputError: There are none.
    """
    folder, reason = (Path(option), "") if option else find_weights(repo)
    if folder is None or not (folder / "config.json").is_file():
        raise InputError(
            f"{what} '{name}' has no weights ({reason or f'{option} has no config.json'}): get them with 'hf download {repo}', "
            f"put them into ${FOLDER_VARIABLE}, or name their folder, as in {name}=FOLDER. Nothing is downloaded by itself."
        )
    return folder


def missing_file(folder: Path) -> str | None:
    """What a model folder lacks (a download that was cut off leaves some files out); None where it is whole."""
    if (folder / "model_index.json").is_file():  # diffusers: a folder per part
        for part, origin in _read(folder / "model_index.json").items():
            if isinstance(origin, list) and origin[0] is not None:
                if not (folder / part).is_dir():
                    return part
                if (folder / part / "config.json").is_file() and not any((folder / part).glob("*.safetensors")):
                    return f"{part}/*.safetensors"  # only models have a config.json
        return None
    if not (folder / "config.json").is_file():
        return "config.json"
    indices = sorted(folder.glob("*.safetensors.index.json"))
    shards = {name for index in indices for name in _read(index).get("weight_map", {}).values()}
    for name in sorted(shards):
        if not (folder / name).is_file():
            return name
    return None if shards or any(f.is_file() for f in folder.glob("*.safetensors")) else "*.safetensors"


def as_image(rgb: np.ndarray) -> Any:
    """A photo (H, W, 3) uint8 as the processors take it without guessing the order of its axes."""
    from PIL import Image

    return Image.fromarray(rgb)


def pick_device() -> str:
    """Where models run: the CUDA device where there is one."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def load_model(kind: Any, folder: Path, half: bool = False) -> Any:
    """A transformers model of class ``kind`` on the device that models run on, ready for inference.

    Args:
        kind: Class of the model.
        folder: Where its weights are.
        half: Keep the half precision that the weights are stored in where there is a CUDA device.

    Raises:
        InputError: The folder does not hold such a model, or only a part of its weights.
    """
    device = pick_device()
    with _loading(folder):
        model, info = kind.from_pretrained(
            folder,
            local_files_only=True,
            use_safetensors=True,
            output_loading_info=True,
            dtype="auto" if half and device == "cuda" else "float32",
        )
    if info["missing_keys"]:
        # from_pretrained only warns and draws the missing weights at random.
        raise InputError(
            f"The weights in '{folder}' lack {len(info['missing_keys'])} parts of a {kind.__name__} "
            f"({sorted(info['missing_keys'])[0]}): they belong to another model, download them again."
        )
    return model.to(device).eval()


def load_processor(kind: Any, folder: Path) -> Any:
    """The processor of class ``kind`` that belongs to the model in ``folder``.

    Raises:
        InputError: The folder does not hold one.
    """
    with _loading(folder):
        return kind.from_pretrained(folder, local_files_only=True)


def load_pipeline(kind: Any, folder: Path, **options: Any) -> Any:
    """A diffusers pipeline of class ``kind`` on the device that models run on.

    Raises:
        InputError: The folder does not hold one.
    """
    from diffusers.utils import logging

    logging.disable_progress_bar()
    with _loading(folder):
        pipeline = kind.from_pretrained(
            folder,
            local_files_only=True,
            use_safetensors=True,
            low_cpu_mem_usage=False,
            variant=_variant(folder),
            **options,
        )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline.to(pick_device())


def unload(backend: Any) -> None:
    """Let go of the model that a backend of ours keeps in ``_loaded``; its next call loads it again."""
    if getattr(backend, "__dict__", {}).pop("_loaded", None) is not None:
        import torch

        if torch.cuda.is_available():
            torch.cuda.empty_cache()  # the simulator wants the memory


def _variant(folder: Path) -> str | None:
    """The variant "fp16" where a part comes only so, as Stable Diffusion 1.5 is published; on a processor it is widened."""
    for part in (file.parent for file in folder.glob("*/*.fp16.safetensors")):
        if all(".fp16." in file.name for file in part.glob("*.safetensors")):
            return "fp16"
    return None


@contextmanager
def _loading(folder: Path) -> Iterator[None]:
    """Quiet, and with errors that name the folder."""
    from transformers.utils import logging

    logging.disable_progress_bar()
    before = logging.get_verbosity()
    logging.set_verbosity_error()  # SAM 2's weights come as a video model, which transformers warns of
    try:
        yield
    except Exception as error:  # the libraries raise whatever a broken file makes them raise
        first = (str(error).strip().splitlines() or [""])[0][:200]
        raise InputError(
            f"The model in '{folder}' cannot be loaded ({type(error).__name__}: {first}): download it again."
        ) from error
    finally:
        logging.set_verbosity(before)


def _places(repo: str) -> Iterator[Path]:
    """Folders that may hold the weights of a repository, the one to prefer first."""
    given = os.environ.get(FOLDER_VARIABLE)
    if given and (Path(given) / repo.split("/")[-1]).is_dir():
        yield Path(given) / repo.split("/")[-1]
    from huggingface_hub import constants  # 30 ms; it knows the environment variables of the cache

    cached = Path(constants.HF_HUB_CACHE) / f"models--{repo.replace('/', '--')}"
    if (cached / "refs/main").is_file():
        yield cached / "snapshots" / (cached / "refs/main").read_text().strip()


def _read(file: Path) -> dict[str, Any]:
    try:
        value = json.loads(file.read_text())
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}
