"""Small image-text-to-text models with random weights, as folders that ``from_pretrained`` reads."""

from __future__ import annotations

from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    CLIPImageProcessor,
    CLIPVisionConfig,
    GotOcr2ImageProcessor,
    InternVLConfig,
    InternVLForConditionalGeneration,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
    Qwen2VLImageProcessor,
)

_LLAVA = (
    "{% for m in messages %}{{ m['role'] }} :{% for c in m['content'] %}"
    "{% if c['type'] == 'image' %} <image> {% else %} {{ c['text'] }} {% endif %}{% endfor %}{% endfor %} assistant :"
)
_QWEN = (
    "{% for m in messages %}<|im_start|> {{ m['role'] }} {% for c in m['content'] %}{% if c['type'] == 'image' %}"
    "<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ c['text'] }}{% endif %}{% endfor %}<|im_end|>"
    "{% endfor %}<|im_start|> assistant "
)

_INTERN = (
    "{% for m in messages %}{{ m['role'] }} :{% for c in m['content'] %}{% if c['type'] == 'image' %} <IMG_CONTEXT> "
    "{% else %}{{ c['text'] }}{% endif %}{% endfor %} . {% endfor %}assistant : "
)


def tokenizer(specials: list[str], template: str) -> PreTrainedTokenizerFast:
    """A tokenizer of whole words: letters, numbers, and a few words."""
    words = ["<unk>", "<pad>", "<eos>", *specials, *"ABCDEFGHIJKLMNOPQRSTUVWXYZ", *map(str, range(40))]
    words += ["user", "assistant", "object", "image", "the", "is", "same", ".", ":", ","]
    made = Tokenizer(models.WordLevel({word: k for k, word in enumerate(words)}, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation()])
    return PreTrainedTokenizerFast(
        tokenizer_object=made,
        unk_token="<unk>",
        pad_token="<pad>",
        eos_token="<eos>",
        additional_special_tokens=specials,
        chat_template=template,
    )


def llava(folder: Path, layers: int = 2, width: int = 32) -> Path:
    """LLaVA with a CLIP of 32 x 32 pixels; its processor can be built without torchvision."""
    torch.manual_seed(0)
    words = tokenizer(["<image>"], _LLAVA)
    vision = CLIPVisionConfig(
        hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2, image_size=32, patch_size=8
    )
    text = LlamaConfig(
        vocab_size=len(words),
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=layers,
        num_attention_heads=2,
        num_key_value_heads=2,
        pad_token_id=words.pad_token_id,
        eos_token_id=words.eos_token_id,
    )
    token = words.convert_tokens_to_ids("<image>")
    config = LlavaConfig(vision_config=vision, text_config=text, image_token_index=token)
    LlavaForConditionalGeneration(config).save_pretrained(folder)
    images = CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    LlavaProcessor(
        images,
        words,
        patch_size=8,
        vision_feature_select_strategy="default",
        chat_template=_LLAVA,
        num_additional_image_tokens=1,
    ).save_pretrained(folder)
    return folder


def qwen2_vl(folder: Path) -> Path:
    """Qwen2-VL, whose processor cannot be built without torchvision."""
    torch.manual_seed(1)
    specials = ["<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"]
    words = tokenizer(specials, _QWEN)
    ids = {name: words.convert_tokens_to_ids(f"<|{name}|>") for name in ("vision_start", "vision_end", "image_pad")}
    config = Qwen2VLConfig(
        text_config={
            "vocab_size": len(words),
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "rope_scaling": {"type": "mrope", "mrope_section": [1, 1, 2]},
            "bos_token_id": words.eos_token_id,
            "eos_token_id": words.eos_token_id,
        },
        vision_config={"depth": 2, "embed_dim": 32, "hidden_size": 32, "num_heads": 2, "patch_size": 14},
        vision_start_token_id=ids["vision_start"],
        vision_end_token_id=ids["vision_end"],
        image_token_id=ids["image_pad"],
        video_token_id=words.convert_tokens_to_ids("<|video_pad|>"),
    )
    Qwen2VLForConditionalGeneration(config).save_pretrained(folder)
    Qwen2VLImageProcessor(min_pixels=28 * 28, max_pixels=28 * 28 * 12).save_pretrained(folder)
    words.save_pretrained(folder)
    return folder


def internvl(folder: Path) -> Path:
    """InternVL with a Qwen2 as its LLM, whose processor cannot be built without torchvision either."""
    torch.manual_seed(2)
    marks = {"start_image_token": "<img>", "end_image_token": "</img>", "context_image_token": "<IMG_CONTEXT>"}
    words = tokenizer(list(marks.values()), _INTERN)
    words = PreTrainedTokenizerFast(
        tokenizer_object=words.backend_tokenizer,
        unk_token="<unk>",
        pad_token="<pad>",
        eos_token="<eos>",
        extra_special_tokens=marks,
        chat_template=_INTERN,
    )
    config = InternVLConfig(
        vision_config={
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "image_size": [28, 28],
            "patch_size": [7, 7],
        },
        text_config={
            "model_type": "qwen2",
            "initializer_range": 0.2,  # with less, every prompt is answered by the same words
            "vocab_size": len(words),
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "num_key_value_heads": 2,
            "pad_token_id": words.pad_token_id,
            "eos_token_id": words.eos_token_id,
        },
        image_token_id=words.convert_tokens_to_ids("<IMG_CONTEXT>"),
        image_seq_length=4,
    )
    InternVLForConditionalGeneration(config).save_pretrained(folder)
    GotOcr2ImageProcessor(size={"height": 28, "width": 28}, max_patches=4).save_pretrained(folder)
    words.save_pretrained(folder)
    (folder / "processor_config.json").write_text('{"image_seq_length": 4, "processor_class": "InternVLProcessor"}')
    return folder
