"""Words for the movable things in a photo, by a model that reads images and answers in text."""

from __future__ import annotations

import json
import re
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from phototwin.backends.contract import MAX_NAME
from phototwin.backends.weights import as_image, load_model, load_processor
from phototwin.errors import PerceptionError

QUESTION = (
    "Which separate objects in this photo could a hand pick up from the table or floor? Leave out furniture, walls and "
    "people. Answer with nothing but a JSON list of short nouns with colour where it helps, each kind once, for example "
    '["red cup", "spoon"]; answer [] if there are none.'
)
MAX_SIDE_PX = 1024
"""Larger photos cost time with the square of their side and name no more things."""
MAX_TOKENS = 256
MAX_WORDS = 40
"""A longer answer is a model repeating itself."""
FENCE = re.compile(r"^```(?:json)?\s*(.*?)\s*```$", re.DOTALL)
ITEM = re.compile(r"(?:an? |the )?([a-z][a-z'-]*(?: [a-z][a-z'-]*){0,3})")
"""A noun of a plain list: up to four words of lower-case letters."""


class VisionLanguage:
    """Any image-text-to-text model of transformers whose processor has a chat template: Qwen3-VL, SmolVLM and others."""

    def __init__(self, weights: Path) -> None:
        self.weights = weights

    @cached_property
    def _loaded(self) -> tuple[Any, Any]:
        from transformers import AutoModelForImageTextToText, AutoProcessor

        return (
            load_processor(AutoProcessor, self.weights),
            load_model(AutoModelForImageTextToText, self.weights, half=True),
        )

    def __call__(self, rgb: np.ndarray) -> tuple[str, ...]:
        """What the model lists.

        Raises:
            PerceptionError: Its answer is not a list.
        """
        return parse_list(self.answer(rgb))

    def answer(
        self,
        rgb: np.ndarray,
        question: str = QUESTION,
        turns: tuple[tuple[str, str], ...] = (),
        max_tokens: int = MAX_TOKENS,
    ) -> str:
        """The model's answer as it is; the likeliest word each time, so the same photo gives the same answer.

        Args:
            rgb: Photo (H, W, 3) uint8.
            question: What is asked about it.
            turns: What was said since, as pairs of role ("assistant" or "user") and text.
            max_tokens: Longest answer.
        """
        import torch

        processor, model = self._loaded
        image = as_image(rgb)
        image.thumbnail((MAX_SIDE_PX, MAX_SIDE_PX))
        content = [{"type": "image", "image": image}, {"type": "text", "text": question}]
        later = [{"role": role, "content": [{"type": "text", "text": text}]} for role, text in turns]
        inputs = processor.apply_chat_template(
            [{"role": "user", "content": content}, *later],
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
        )
        with torch.inference_mode():
            tokens = model.generate(
                **inputs.to(model.device, dtype=model.dtype), max_new_tokens=max_tokens, do_sample=False
            )
        return processor.batch_decode(tokens[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)[0].strip()


def parse_list(answer: str) -> tuple[str, ...]:
    """The nouns of a model's answer, each once: a JSON list of texts, or nouns with commas between them.

    Raises:
        PerceptionError: The answer is neither.
    """
    text = answer.strip()
    fenced = FENCE.match(text)
    items = _json_items(fenced[1] if fenced else text)
    if items is None:
        items = _plain_items(text)
    if items is None or len(items) > MAX_WORDS or not all(0 < len(item) <= MAX_NAME for item in items):
        raise PerceptionError(
            f"The listing model answered {text[:120]!r}, expected a JSON list of up to {MAX_WORDS} nouns: name the objects with "
            "--objects, or choose another model with --perception."
        )
    return tuple(dict.fromkeys(items))


def _json_items(text: str) -> list[str] | None:
    try:
        value = json.loads(text)
    except ValueError:
        return None
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        return None
    return [" ".join(item.lower().split()) for item in value]


def _plain_items(text: str) -> list[str] | None:
    found = [ITEM.fullmatch(item.strip()) for item in text.lower().removesuffix(".").split(",")]
    if not all(found):
        return None
    items = [match[1] for match in found if match]
    return [] if items in (["none"], ["nothing"]) else items
