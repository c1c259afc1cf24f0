"""Tiny models with random weights, saved as the real ones are, so that the real loading code runs on them offline."""

import itertools
from pathlib import Path

import numpy as np
import torch

VIT = {"hidden_size": 16, "num_attention_heads": 2, "mlp_ratio": 2}


def save(folder: Path, *parts, **options) -> Path:
    """Save model and processors into one folder."""
    from transformers.utils import logging

    logging.disable_progress_bar()
    for part in parts:
        part.save_pretrained(folder, **options)
    return folder


def center_output(head: torch.nn.Module, value: float) -> None:
    """Let the last convolution of a head answer around ``value``."""
    last = [m for m in head.modules() if isinstance(m, torch.nn.Conv2d)][-1]
    with torch.no_grad():
        last.weight.mul_(0.01)
        last.bias.fill_(value)


def depth_pro(folder: Path, fov_deg: float = 60.0, has_fov: bool = True) -> Path:
    from transformers import DepthProConfig, DepthProForDepthEstimation, DepthProImageProcessor

    torch.manual_seed(0)
    vit = {"model_type": "dinov2", "num_hidden_layers": 2, "image_size": 32, "patch_size": 4, **VIT}
    config = DepthProConfig(
        patch_size=32,
        intermediate_hook_ids=[1, 0],
        intermediate_feature_dims=[16, 8],
        scaled_images_feature_dims=[16, 16, 16],
        fusion_hidden_size=16,
        merge_padding_value=1,
        use_fov_model=has_fov,
        image_model_config=vit,
        patch_model_config=vit,
        fov_model_config=vit,
    )
    model = DepthProForDepthEstimation(config)
    center_output(model.head, 1.0)  # about where trained weights are: inverse depth 1, 60 degrees
    if has_fov:
        center_output(model.fov_model.head, fov_deg)
    return save(folder, model, DepthProImageProcessor(size={"height": 128, "width": 128}))


def depth_anything(folder: Path, kind: str = "metric") -> Path:
    from transformers import DepthAnythingConfig, DepthAnythingForDepthEstimation, Dinov2Config, DPTImageProcessor

    torch.manual_seed(0)
    backbone = Dinov2Config(
        num_hidden_layers=4, image_size=70, patch_size=14, out_indices=[1, 2, 3, 4], reshape_hidden_states=False, **VIT
    )
    config = DepthAnythingConfig(
        backbone_config=backbone,
        reassemble_hidden_size=16,
        neck_hidden_sizes=[8, 8, 16, 16],
        fusion_hidden_size=8,
        head_hidden_size=8,
        depth_estimation_type=kind,
        max_depth=20,
    )
    processor = DPTImageProcessor(size={"height": 70, "width": 70}, keep_aspect_ratio=True, ensure_multiple_of=14)
    return save(folder, DepthAnythingForDepthEstimation(config), processor)


def dinov2(folder: Path, registers: int = 0) -> Path:
    """DINOv2, with register tokens before the patches where some are asked for."""
    from transformers import (
        BitImageProcessor,
        Dinov2Config,
        Dinov2Model,
        Dinov2WithRegistersConfig,
        Dinov2WithRegistersModel,
    )

    torch.manual_seed(0)
    options = {"num_hidden_layers": 2, "image_size": 70, "patch_size": 14, **VIT}
    model = Dinov2Model(Dinov2Config(**options))
    if registers:
        model = Dinov2WithRegistersModel(Dinov2WithRegistersConfig(num_register_tokens=registers, **options))
    return save(folder, model, BitImageProcessor())


def clip(folder: Path) -> Path:
    """CLIP with a tokenizer that knows single letters."""
    import json

    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPTokenizerFast

    torch.manual_seed(0)
    letters = [c + end for end in ("", "</w>") for c in "abcdefghijklmnopqrstuvwxyz"]
    vocabulary = {word: i for i, word in enumerate([*letters, "<|startoftext|>", "<|endoftext|>"])}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    tokenizer = CLIPTokenizerFast(str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=64)
    common = {"num_hidden_layers": 2, "hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 32}
    end = len(vocabulary) - 1
    text = {"vocab_size": len(vocabulary), "max_position_embeddings": 64, "bos_token_id": end - 1, "eos_token_id": end, "pad_token_id": end}  # fmt: skip
    vision = {"image_size": 32, "patch_size": 8}
    model = CLIPModel(CLIPConfig(text_config=common | text, vision_config=common | vision, projection_dim=8))
    return save(folder, model, CLIPImageProcessor(), tokenizer)


def zoedepth(folder: Path) -> Path:
    from transformers import BeitConfig, ZoeDepthConfig, ZoeDepthForDepthEstimation, ZoeDepthImageProcessor

    torch.manual_seed(0)
    backbone = BeitConfig(
        hidden_size=16,
        num_hidden_layers=4,
        num_attention_heads=2,
        intermediate_size=32,
        image_size=64,
        out_indices=[1, 2, 3, 4],
        reshape_hidden_states=False,
        use_relative_position_bias=True,
    )
    config = ZoeDepthConfig(
        backbone_config=backbone,
        neck_hidden_sizes=[8, 8, 16, 16],
        fusion_hidden_size=8,
        bottleneck_features=8,
        num_relative_features=8,
        num_attractors=[4, 2, 2, 1],
        bin_embedding_dim=8,
        bin_configurations=[{"n_bins": 8, "min_depth": 0.001, "max_depth": 10.0, "name": "nyu"}],
    )
    processor = ZoeDepthImageProcessor(size={"height": 64, "width": 64}, ensure_multiple_of=32)
    return save(folder, ZoeDepthForDepthEstimation(config), processor)


def photo(height: int = 96, width: int = 160) -> np.ndarray:
    """A photo that is not square, so that swapped sides show."""
    rows, columns = np.mgrid[:height, :width]
    rgb = np.stack([columns * 255 // width, rows * 255 // height, np.full((height, width), 90)], -1).astype(np.uint8)
    rgb[height // 3 : height // 2, width // 4 : width // 2] = (200, 30, 30)
    return rgb


def clip_tokenizer(**options):
    """Letters as CLIP's tokenizer spells them, without merges."""
    from tokenizers import pre_tokenizers
    from transformers import CLIPTokenizer

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = ["<|startoftext|>", "<|endoftext|>", *letters, *(f"{c}</w>" for c in letters)]
    return CLIPTokenizer(vocab={token: i for i, token in enumerate(tokens)}, merges=[], **options)


CLIP_TEXT = {
    "vocab_size": 600,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": 1,
}


def grounding_dino(folder: Path, words=("cup", "red", "cube", "spoon")) -> Path:
    from transformers import (
        BertConfig,
        BertTokenizer,
        GroundingDinoConfig,
        GroundingDinoForObjectDetection,
        GroundingDinoImageProcessor,
        GroundingDinoProcessor,
        SwinConfig,
    )

    torch.manual_seed(0)
    # The model knows [CLS], [SEP] and the full stop by BERT's numbers for them.
    numbered = {0: "[PAD]", 100: "[UNK]", 101: "[CLS]", 102: "[SEP]", 103: "[MASK]", 1012: ".", 1029: "?", 300: "##s"}
    numbered |= {200 + i: word for i, word in enumerate(words)}
    tokenizer = BertTokenizer(vocab={numbered.get(i, f"[unused{i}]"): i for i in range(1100)})
    config = GroundingDinoConfig(
        backbone_config=SwinConfig(
            embed_dim=8, depths=[1] * 4, num_heads=[1] * 4, image_size=64, out_indices=[2, 3, 4]
        ),
        text_config=BertConfig(
            vocab_size=1100, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8
        ),
        d_model=32,
        encoder_layers=2,
        decoder_layers=2,
        encoder_ffn_dim=16,
        decoder_ffn_dim=16,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        num_queries=20,
        disable_custom_kernels=True,
    )
    processor = GroundingDinoProcessor(
        GroundingDinoImageProcessor(size={"shortest_edge": 64, "longest_edge": 128}), tokenizer
    )
    return save(folder, GroundingDinoForObjectDetection(config), processor)


def sam2(folder: Path, video: bool = False) -> Path:
    """SAM 2; with ``video`` as its authors publish it, with the parts for tracking that a photo does not need."""
    from transformers import (
        Sam2Config,
        Sam2ImageProcessor,
        Sam2Model,
        Sam2Processor,
        Sam2VideoConfig,
        Sam2VideoModel,
        Sam2VideoProcessor,
        Sam2VideoVideoProcessor,
    )

    torch.manual_seed(0)
    vision = {
        "model_type": "sam2_vision_model",
        "backbone_config": {
            "model_type": "sam2_hiera_det_model",
            "hidden_size": 12,
            "image_size": [128, 128],
            "blocks_per_stage": [1, 1, 2, 1],
            "embed_dim_per_stage": [12, 24, 48, 96],
            "num_attention_heads_per_stage": [1, 2, 4, 8],
            "global_attention_blocks": [3],
        },
        "backbone_channel_list": [96, 48, 24, 12],
        "backbone_feature_sizes": [[32, 32], [16, 16], [8, 8]],
        "fpn_hidden_size": 32,
    }
    prompt = {"hidden_size": 32, "image_size": 128, "mask_input_channels": 8}
    decoder = {"hidden_size": 32, "mlp_dim": 32, "num_attention_heads": 2, "iou_head_hidden_dim": 32}
    parts = {"vision_config": vision, "prompt_encoder_config": prompt, "mask_decoder_config": decoder}
    images = Sam2ImageProcessor(size={"height": 128, "width": 128}, mask_size={"height": 32, "width": 32})
    if not video:
        return save(folder, Sam2Model(Sam2Config(**parts)), Sam2Processor(images))
    config = Sam2VideoConfig(
        **{name: part.to_dict() for name, part in vars(Sam2Config(**parts)).items() if name in parts},
        image_size=128,
        memory_attention_hidden_size=32,
        memory_attention_num_layers=1,
        memory_attention_feed_forward_hidden_size=32,
        memory_attention_rope_feat_sizes=[8, 8],
        memory_encoder_hidden_size=32,
        memory_encoder_output_channels=16,
        mask_downsampler_embed_dim=32,
        memory_fuser_embed_dim=32,
        memory_fuser_num_layers=1,
        memory_fuser_intermediate_dim=32,
    )
    return save(folder, Sam2VideoModel(config), Sam2VideoProcessor(images, Sam2VideoVideoProcessor()))


def sam3(folder: Path) -> Path:
    """SAM 3 as its authors publish it: the detector inside a video model, beside a tracker that a photo does not need."""
    from safetensors.torch import save_file
    from transformers import Sam3Config, Sam3ImageProcessor, Sam3Model, Sam3Processor, Sam3VideoConfig

    torch.manual_seed(0)
    small = {"hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 32}
    backbone = {
        "model_type": "sam3_vit_model",
        "num_hidden_layers": 2,
        "image_size": 112,
        "pretrain_image_size": 56,
        "window_size": 4,
        "global_attn_indexes": [1],
        **small,
    }
    sizes = [[32, 32], [16, 16], [8, 8]]
    config = Sam3Config(
        vision_config={"backbone_config": backbone, "fpn_hidden_size": 32, "backbone_feature_sizes": sizes},
        text_config={**CLIP_TEXT, "hidden_size": 32, "max_position_embeddings": 32, "projection_dim": 32},
        geometry_encoder_config={"num_layers": 1, **small},
        detr_encoder_config={"num_layers": 1, **small},
        detr_decoder_config={"num_layers": 1, "num_queries": 8, **small},
        mask_decoder_config={"hidden_size": 32, "num_upsampling_stages": 2, "num_attention_heads": 2},
    )
    processor = Sam3Processor(Sam3ImageProcessor(size={"height": 112, "width": 112}), clip_tokenizer())
    parts = {f"detector_model.{name}": value.contiguous() for name, value in Sam3Model(config).state_dict().items()}
    save(folder, Sam3VideoConfig(detector_config=config), processor)
    parts |= {"tracker_model.x": torch.zeros(1), "tracker_neck.x": torch.zeros(1)}
    save_file(parts, folder / "model.safetensors", {"format": "pt"})
    return folder


def word_tokenizer(words, special):
    """One token per word, and its vocabulary."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocab = {word: i for i, word in enumerate(["<pad>", "<eos>", "<unk>", *special, *words])}
    plain = Tokenizer(models.WordLevel(vocab, unk_token="<unk>"))
    plain.pre_tokenizer = pre_tokenizers.Whitespace()
    named = {"pad_token": "<pad>", "eos_token": "<eos>", "unk_token": "<unk>"}
    return PreTrainedTokenizerFast(tokenizer_object=plain, additional_special_tokens=list(special), **named), vocab


def say(text_model: torch.nn.Module, head: torch.nn.Linear, vocab: dict[str, int], tokens) -> None:
    """Let a language model say ``tokens[1:]`` after ``tokens[0]``: the layers add nothing, and the head leads from word to word."""
    with torch.no_grad():
        for layer in text_model.layers:
            layer.self_attn.o_proj.weight.zero_()
            layer.mlp.down_proj.weight.zero_()
        text_model.embed_tokens.weight.zero_().fill_diagonal_(1)
        head.weight.zero_()
        for before, after in itertools.pairwise(tokens):
            head.weight[vocab[after], vocab[before]] = 1


def chat_template(image: str, end: str) -> str:
    return (
        "{% for m in messages %}{% for c in m['content'] %}{% if c['type'] == 'image' %}"
        + image
        + "{% else %}{{ c['text'] }}{% endif %}{% endfor %}"
        + end
        + "{% endfor %}"
    )


LLAMA = {"intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 2}
SAID = ["[", '"red cup"', ",", '"spoon"', "]", "<eos>"]
HIDDEN = 32


def smolvlm(folder: Path, said=SAID) -> Path:
    """SmolVLM (its first release is an Idefics 3) that answers every photo with ``said``."""
    from transformers import Idefics3Config, Idefics3ForConditionalGeneration, Idefics3ImageProcessor, Idefics3Processor

    torch.manual_seed(0)
    special = ["<image>", "<fake_token_around_image>", "<global-img>", "<end_of_utterance>"]
    tokenizer, vocab = word_tokenizer(dict.fromkeys(w for w in said if w != "<eos>"), special)
    text = {**LLAMA, "model_type": "llama", "hidden_size": HIDDEN, "vocab_size": HIDDEN, "pad_token_id": 0}
    config = Idefics3Config(
        vision_config={"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
        | {"image_size": 32, "patch_size": 8},
        text_config={**text, "bos_token_id": 1, "eos_token_id": 1},
        image_token_id=vocab["<image>"],
        pad_token_id=0,
    )
    model = Idefics3ForConditionalGeneration(config)
    say(model.model.text_model, model.lm_head, vocab, ["<end_of_utterance>", *said])
    model.generation_config.eos_token_id = 1
    images = Idefics3ImageProcessor(size={"longest_edge": 64}, max_image_size={"longest_edge": 32})
    template = chat_template("<image>", "<end_of_utterance>")
    return save(folder, model, Idefics3Processor(images, tokenizer, image_seq_len=4, chat_template=template))


def qwen3_vl(folder: Path, said=SAID) -> Path:
    """Qwen3-VL that answers every photo with ``said``."""
    from transformers import (
        Qwen2VLImageProcessor,
        Qwen3VLConfig,
        Qwen3VLForConditionalGeneration,
        Qwen3VLProcessor,
        Qwen3VLVideoProcessor,
    )

    torch.manual_seed(0)
    special = ["<|image_pad|>", "<|video_pad|>", "<|vision_start|>", "<|vision_end|>", "<|im_end|>"]
    tokenizer, vocab = word_tokenizer(dict.fromkeys(w for w in said if w != "<eos>"), special)
    rope = {"rope_type": "default", "mrope_section": [2, 1, 1], "rope_theta": 10000}
    config = Qwen3VLConfig(
        text_config={**LLAMA, "hidden_size": HIDDEN, "vocab_size": HIDDEN, "head_dim": 8, "rope_parameters": rope}
        | {"bos_token_id": 1, "eos_token_id": 1, "pad_token_id": 0},
        vision_config={"depth": 2, "hidden_size": 16, "intermediate_size": 32, "num_heads": 2, "patch_size": 8}
        | {"out_hidden_size": HIDDEN, "num_position_embeddings": 16, "deepstack_visual_indexes": [0]},
        image_token_id=vocab[special[0]],
        video_token_id=vocab[special[1]],
        vision_start_token_id=vocab[special[2]],
        vision_end_token_id=vocab[special[3]],
    )
    model = Qwen3VLForConditionalGeneration(config)
    say(model.model.language_model, model.lm_head, vocab, ["<|im_end|>", *said])
    model.generation_config.eos_token_id = 1
    images = Qwen2VLImageProcessor(size={"shortest_edge": 1024, "longest_edge": 8192}, patch_size=8)
    template = chat_template("<|vision_start|><|image_pad|><|vision_end|>", "<|im_end|>")
    processor = Qwen3VLProcessor(images, tokenizer, Qwen3VLVideoProcessor(patch_size=8), chat_template=template)
    return save(folder, model, processor)


UNET = {
    "block_out_channels": (8, 16),
    "layers_per_block": 1,
    "sample_size": 8,
    "in_channels": 9,
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
    "norm_num_groups": 4,
    "attention_head_dim": 2,
}


def autoencoder():
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        block_out_channels=[8] * 4,
        down_block_types=["DownEncoderBlock2D"] * 4,
        up_block_types=["UpDecoderBlock2D"] * 4,
        norm_num_groups=4,
    )


def stable_diffusion(folder: Path, variant: str | None = None) -> Path:
    from diffusers import DDIMScheduler, StableDiffusionInpaintPipeline, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    torch.manual_seed(0)
    pipeline = StableDiffusionInpaintPipeline(
        vae=autoencoder(),
        text_encoder=CLIPTextModel(CLIPTextConfig(**CLIP_TEXT, hidden_size=16)),
        tokenizer=clip_tokenizer(model_max_length=77),
        unet=UNet2DConditionModel(**UNET, cross_attention_dim=16),
        scheduler=DDIMScheduler(steps_offset=1, clip_sample=False),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    return save(folder, pipeline, variant=variant)


def stable_diffusion_xl(folder: Path) -> Path:
    from diffusers import EulerDiscreteScheduler, StableDiffusionXLInpaintPipeline, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        **UNET,
        cross_attention_dim=32,  # both text models side by side
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=6 * 8 + 16,
    )
    text = CLIPTextConfig(**CLIP_TEXT, hidden_size=16, projection_dim=16)
    pipeline = StableDiffusionXLInpaintPipeline(
        vae=autoencoder(),
        text_encoder=CLIPTextModel(text),
        text_encoder_2=CLIPTextModelWithProjection(text),
        tokenizer=clip_tokenizer(model_max_length=77),
        tokenizer_2=clip_tokenizer(model_max_length=77),
        unet=unet,
        scheduler=EulerDiscreteScheduler(steps_offset=1),
    )
    return save(folder, pipeline)
