"""Masks of things by their words: Grounding DINO with SAM 2, and SAM 3, through transformers."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from phototwin.backends.contract import FoundObject
from phototwin.backends.weights import as_image, load_model, load_processor

WORDS_A_PROMPT = 12
"""Grounding DINO reads 256 tokens at most, and long lists make it miss things."""


@dataclass(frozen=True)
class SegmentationConfig:
    """What counts as found.

    Attributes:
        min_score: Least score of a thing. Grounding DINO's authors use 0.35 for boxes, SAM 3's 0.5.
        mask_threshold: Least probability of SAM 3's mask pixels.
        max_area: Larger shares of the photo are furniture, not objects.
        min_area_px: Smaller masks show too little to rebuild.
        same_iou: Two masks that overlap by more are one thing found twice.
        min_left: A thing of whose mask less is left, once what lies on it is cut out, is dropped.
        min_piece: Separate pieces of a mask smaller than this share of its largest are specks.
    """

    min_score: float = 0.35
    mask_threshold: float = 0.5
    max_area: float = 0.5
    min_area_px: int = 64
    same_iou: float = 0.6
    min_left: float = 0.3
    min_piece: float = 0.05


class GroundedSam2:
    """Boxes of words by Grounding DINO, their masks by SAM 2.

    Source: Liu et al. 2023, arXiv 2303.05499; Ravi et al. 2024, arXiv 2408.00714.
    """

    def __init__(self, detector: Path, segmenter: Path, config: SegmentationConfig | None = None) -> None:
        self.detector, self.segmenter = detector, segmenter
        self.config = config or SegmentationConfig()

    @cached_property
    def _loaded(self) -> tuple[Any, Any, Any, Any]:
        from transformers import GroundingDinoForObjectDetection, GroundingDinoProcessor, Sam2Model, Sam2Processor

        return (
            load_processor(GroundingDinoProcessor, self.detector),
            load_model(GroundingDinoForObjectDetection, self.detector),
            load_processor(Sam2Processor, self.segmenter),
            load_model(Sam2Model, self.segmenter),
        )

    def __call__(self, rgb: np.ndarray, words: tuple[str, ...]) -> tuple[FoundObject, ...]:
        """What the words name, best first."""
        found = [
            item
            for start in range(0, len(words), WORDS_A_PROMPT)
            for item in self._boxes(rgb, words[start : start + WORDS_A_PROMPT])
        ]
        if not found:
            return ()
        names, boxes, scores = zip(*found, strict=True)
        masks = self._masks(rgb, np.array(boxes))
        return separate([FoundObject(*item) for item in zip(names, masks, scores, strict=True)], self.config)

    def _boxes(self, rgb: np.ndarray, words: tuple[str, ...]) -> list[tuple[str, np.ndarray, float]]:
        """Word, box (4,) x0 y0 x1 y1 [px] and score of each detection."""
        import torch

        processor, model = self._loaded[:2]
        text, spans = prompt_of(words)
        inputs = processor(images=as_image(rgb), text=text, return_tensors="pt")
        offsets = processor.tokenizer(text, return_offsets_mapping=True)["offset_mapping"]
        with torch.inference_mode():
            outputs = model(**inputs.to(model.device))
        by_token = outputs.logits[0].sigmoid().float().cpu().numpy()  # (queries, tokens)
        by_word = np.stack([by_token[:, tokens_in(offsets, span)].max(1, initial=0.0) for span in spans], 1)
        boxes = pixel_boxes(outputs.pred_boxes[0].float().cpu().numpy(), rgb.shape[1], rgb.shape[0])
        sides = boxes[:, 2:] - boxes[:, :2]
        fits = (sides.min(1) >= 1) & (sides.prod(1) <= self.config.max_area * rgb.shape[0] * rgb.shape[1])
        chosen = np.flatnonzero(fits & (by_word.max(1) >= self.config.min_score))
        return [(words[by_word[i].argmax()], boxes[i], float(by_word[i].max())) for i in chosen]

    def _masks(self, rgb: np.ndarray, boxes: np.ndarray) -> np.ndarray:
        """Masks (N, H, W) bool of boxes (N, 4)."""
        import torch

        processor, model = self._loaded[2:]
        inputs = processor(images=as_image(rgb), input_boxes=[boxes.tolist()], return_tensors="pt")
        sizes = inputs.pop("original_sizes")
        with torch.inference_mode():
            outputs = model(**inputs.to(model.device), multimask_output=False)
            return processor.post_process_masks(outputs.pred_masks.cpu(), sizes)[0][:, 0].numpy()


class Sam3:
    """Every instance of each word by SAM 3. Source: Carion et al. 2025, SAM 3: Segment Anything with Concepts."""

    def __init__(self, weights: Path, config: SegmentationConfig | None = None) -> None:
        self.weights = weights
        self.config = config or SegmentationConfig(min_score=0.5)

    @cached_property
    def _loaded(self) -> tuple[Any, Any]:
        from transformers import Sam3Model, Sam3Processor

        return load_processor(Sam3Processor, self.weights), load_model(Sam3Model, self.weights)

    def __call__(self, rgb: np.ndarray, words: tuple[str, ...]) -> tuple[FoundObject, ...]:
        """What the words name, best first."""
        import torch

        processor, model = self._loaded
        found = []
        with torch.inference_mode():
            pixels = processor(images=as_image(rgb), return_tensors="pt")["pixel_values"].to(model.device)
            seen = model.get_vision_features(pixel_values=pixels)  # once for all words
            for word in words:
                text = processor(text=word, return_tensors="pt").to(model.device)
                outputs = model(vision_embeds=seen, input_ids=text["input_ids"], attention_mask=text["attention_mask"])
                result = processor.post_process_instance_segmentation(
                    outputs, self.config.min_score, self.config.mask_threshold, [rgb.shape[:2]]
                )[0]
                masks, scores = result["masks"].cpu().numpy() > 0, result["scores"].float().cpu().numpy()
                found += [FoundObject(word, mask, float(s)) for mask, s in zip(masks, scores, strict=True)]
        return separate(found, self.config)


def prompt_of(words: tuple[str, ...]) -> tuple[str, list[tuple[int, int]]]:
    """Grounding DINO's prompt, lower-case words each with a full stop, and where each word is in it."""
    text, spans = "", []
    for word in words:
        plain = " ".join(word.lower().replace(".", " ").split())
        spans.append((len(text), len(text) + len(plain)))
        text += f"{plain}. "
    return text.strip(), spans


def tokens_in(offsets: list[tuple[int, int]], span: tuple[int, int]) -> list[int]:
    """Indices of the tokens whose characters lie in ``span``; special tokens have no characters."""
    return [i for i, (start, end) in enumerate(offsets) if span[0] <= start < end <= span[1]]


def pixel_boxes(boxes: np.ndarray, width: int, height: int) -> np.ndarray:
    """Boxes (N, 4) x0 y0 x1 y1 [px], inside the photo, of centres and sides (N, 4) as shares of it."""
    center, half = boxes[:, :2], boxes[:, 2:] / 2
    return np.clip(np.hstack([center - half, center + half]), 0, 1) * (width, height, width, height)


def separate(found: list[FoundObject], config: SegmentationConfig) -> tuple[FoundObject, ...]:
    """Disjoint masks, best score first: specks are dropped, doubles go to the better score, shared pixels to the smaller thing.

    What lies on a plate or in a bowl is smaller than it, and hides it.
    """
    kept: list[FoundObject] = []
    for item in sorted(found, key=lambda f: -f.score):
        mask = _without_specks(item.mask, config.min_piece)
        if not config.min_area_px <= mask.sum() <= config.max_area * mask.size:
            continue
        if all(_iou(mask, other.mask) <= config.same_iou for other in kept):
            kept.append(FoundObject(item.name, mask, item.score))
    left = [item.mask.copy() for item in kept]
    by_size = sorted(range(len(kept)), key=lambda i: kept[i].mask.sum())
    for place, i in enumerate(by_size):
        for smaller in by_size[:place]:
            left[i] &= ~left[smaller]
        if left[i].sum() < max(config.min_left * kept[i].mask.sum(), config.min_area_px):
            left[i][:] = False
    return tuple(FoundObject(f.name, mask, f.score) for f, mask in zip(kept, left, strict=True) if mask.any())


def _without_specks(mask: np.ndarray, min_piece: float) -> np.ndarray:
    import cv2

    _, pieces = cv2.connectedComponents(mask.astype(np.uint8))
    sizes = np.bincount(pieces.ravel())
    sizes[0] = 0
    return (sizes >= max(min_piece * sizes.max(), 1))[pieces]


def _iou(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum() / max((a | b).sum(), 1))
