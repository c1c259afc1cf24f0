"""Parts by any words: features of CLIP for every patch of the photo, lifted to the object's surface and compared with the words.

Source: Radford et al. 2021 (CLIP), arXiv 2103.00020; Zhou et al. 2022 (MaskCLIP), arXiv 2112.01071: the values of the last attention are
features of places; Kerr et al. 2023 (LERF), arXiv 2303.09553, eq. 3, and Shen et al. 2023 (F3RM), arXiv 2308.07931: words count
relative to other words.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from phototwin.backends.weights import load_model, load_processor, need_weights
from phototwin.errors import PlanError
from phototwin.images import load_ids, load_rgb
from phototwin.plan.keypoints_seen import crop_around, crop_batch
from phototwin.plan.part_words import PARTS, read_words
from phototwin.plan.region import see_item
from phototwin.scene import Scene, SceneObject

REPO = "openai/clip-vit-large-patch14"
"""Weights under the MIT licence of the authors' repository."""
POSITIVES = ("{part}", "the {part} of a {name}", "a photo of the {part} of a {name}")
NEGATIVES = ("a {name}", "object", "things", "stuff", "texture")
"""What a place shows if not the part: the thing as a whole, and the words that LERF and F3RM take."""
SCALE = 10.0
"""Of differences of cosines, as in LERF."""
NEAR_PATCHES = 4
"""Patches whose mean, weighed by nearness, is the feature between them."""


class ClipQuery:
    """Words against patches, by a model of the CLIP family."""

    def __init__(self, weights: Path) -> None:
        self.weights = weights

    @cached_property
    def _loaded(self) -> tuple[Any, Any, Any]:
        from transformers import CLIPImageProcessor, CLIPModel, CLIPTokenizerFast

        return (
            load_processor(CLIPImageProcessor, self.weights),
            load_processor(CLIPTokenizerFast, self.weights),
            load_model(CLIPModel, self.weights),
        )

    def __call__(self, scene: Scene, item: SceneObject, part: str) -> np.ndarray:
        """How much better the words fit each sample than the nearest of all other words, (N,) in 0..1.

        Raises:
            PlanError: The photo shows nothing of the object.
        """
        seen = see_item(scene, item)
        if not seen.seen.any():
            raise PlanError(f"The photo shows nothing of the {item.name}: ask for a part by its shape (--query words).")
        number = [other.key for other in scene.objects].index(item.key) + 1
        mask = load_ids(scene.path(scene.masks)) == number
        features = self._lifted(load_rgb(scene.path(scene.photo)), mask, seen.px)
        words = set(read_words(part) or ())
        others = [f"the {name} of a {item.name}" for name in PARTS if name not in words]
        wanted = self._texts([text.format(part=part, name=item.name) for text in POSITIVES]).mean(0)
        wanted /= np.linalg.norm(wanted)
        negatives = self._texts([*(text.format(name=item.name) for text in NEGATIVES), *others])
        return relevance(features @ wanted, features @ negatives.T)

    def _lifted(self, photo_rgb: np.ndarray, mask: np.ndarray, px: np.ndarray) -> np.ndarray:
        """Unit features (N, C) at pixels (N, 2) of the photo."""
        from scipy.spatial import cKDTree

        centres, features = self._patches(photo_rgb, mask)
        away, near = cKDTree(centres).query(px, min(NEAR_PATCHES, len(centres)))
        away, near = away.reshape(len(px), -1), near.reshape(len(px), -1)
        share = 1.0 / np.maximum(away, 1e-6)
        mixed = ((share / share.sum(1, keepdims=True))[..., None] * features[near]).sum(1)
        return mixed / np.maximum(np.linalg.norm(mixed, axis=1, keepdims=True), 1e-12)

    def _patches(self, photo_rgb: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Middles (P, 2) [px] of the patches around the object, and their unit features (P, C)."""
        import torch

        processor, _, model = self._loaded
        vision = model.vision_model
        low, side, grid = crop_around(mask)
        batch = crop_batch(photo_rgb, low, side, grid, int(vision.config.patch_size), processor).to(model.device)
        with torch.inference_mode():
            states = vision(batch, output_hidden_states=True, interpolate_pos_encoding=True).hidden_states
            last = vision.encoder.layers[-1]
            values = last.self_attn.out_proj(last.self_attn.v_proj(last.layer_norm1(states[-2])))
            features = model.visual_projection(vision.post_layernorm(values))[0, 1:].float().cpu().numpy()
        u, v = np.meshgrid(np.arange(grid[0]) + 0.5, np.arange(grid[1]) + 0.5)
        centres = low + side * np.stack([u.ravel(), v.ravel()], 1)
        return centres, features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)

    def _texts(self, texts: list[str]) -> np.ndarray:
        """Unit features (T, C) of texts."""
        import torch

        _, tokenizer, model = self._loaded
        tokens = tokenizer(texts, padding=True, truncation=True, return_tensors="pt").to(model.device)
        with torch.inference_mode():
            pooled = model.text_model(**tokens).pooler_output
            features = model.text_projection(pooled).float().cpu().numpy()
        return features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)


def make_clip(option: str = "") -> ClipQuery:
    """The backend "clip" with the weights in that folder, or where weights are looked for.

    Raises:
        InputError: There are none.
    """
    return ClipQuery(need_weights("The query", "clip", option, REPO))


def relevance(wanted: np.ndarray, negatives: np.ndarray) -> np.ndarray:
    """Least share (N,) of what is wanted against each negative: above 0.5 it fits better than all of them.

    Args:
        wanted: Cosines with what is wanted, (N,).
        negatives: Cosines with other words, (N, K).
    """
    return 1.0 / (1.0 + np.exp(-SCALE * (wanted - negatives.max(1))))
