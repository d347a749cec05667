"""What a released checkpoint gets from us is what the published evaluation gives it: text, tiles, canvases, tokens.

The judge is ``published_evaluator``; with MMVMEVALKIT naming a checkout of zhouyiks/MMVMEvalKit, also its own code.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from transformers import InternVLConfig, Qwen2VLConfig

from colva.checkpoints.load import make_processor
from colva.evaluation.benchmark import load_questions
from colva.evaluation.models.colva import make_question_conversation
from colva.evaluation.question import AskOptions
from colva.inference.generate import read_tokens, stop_options
from colva.model.backbones.internvl import InternVLBackbone
from colva.model.config import ColvaConfig
from colva.model.experts import tiny_config
from colva.processing.collator import Processor, Sample
from colva.processing.published_eval import MAX_NEW_TOKENS
from mmvm_data.formats import bench as bench_format
from tests.peers import published_evaluator, world
from tests.toys import tokenizer

QWEN_WRAP = ("<|vision_start|>", "<|image_pad|>", "<|vision_end|>")
FAMILIES = ("internvl", "qwen2vl")
IMAGENET = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]])[:, :, None, None]
CLIP = np.array([[0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]])


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("few")
    world.write_benchmark(folder)
    return folder / "bench"


def make_config(family: str, style: str = "published-eval") -> ColvaConfig:
    """A released model's sizes of images, without its weights."""
    vision = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
    text = {"model_type": "qwen2", **vision, "num_key_value_heads": 1, "vocab_size": 512}
    if family == "internvl":
        native: Any = InternVLConfig(
            vision_config={**vision, "image_size": [448, 448], "patch_size": [14, 14]}, text_config=text
        )
    else:
        text |= {"model_type": "qwen2_vl_text", "rope_scaling": {"type": "mrope", "mrope_section": [1, 1, 2]}}
        native = Qwen2VLConfig(
            text_config=text, vision_config={"depth": 1, "embed_dim": 8, "num_heads": 1, "patch_size": 14}
        )
    template, pictures = "phi3-chat", {"max_tiles": 12}
    if family == "qwen2vl":  # of the published preprocessor_config.json
        template, pictures = "qwen2-vl", {"min_pixels": 3136, "max_pixels": 12845056}
    expert = {"kind": "radio", **tiny_config("radio")}
    return ColvaConfig(native, expert, pictures=pictures, template=template, prompt_style=style)


def open_processor(config: ColvaConfig) -> Processor:
    wrap = InternVLBackbone.image_wrap if config.backbone_config.model_type == "internvl" else QWEN_WRAP
    return make_processor(config, tokenizer(*wrap, "<|endoftext|>"))


def prepare_all(folder: Path, family: str, style: str = "published-eval") -> Iterator[tuple[Processor, Sample]]:
    """Our inputs for each case of a benchmark, in order."""
    config = make_config(family, style)
    processor = open_processor(config)
    for question in load_questions(folder, AskOptions(), folder):
        yield processor, processor.prepare(make_question_conversation(question, config.prompt_layout), prompt=True)


def prompt_text(processor: Processor, sample: Sample) -> str:
    """The prompt, with one ``<image>`` in the place of each image's tokens."""
    start, image, end = processor.vocabulary.image_wrap
    text = processor.vocabulary.tokenizer.decode(sample.input_ids, skip_special_tokens=False)
    while image * 2 in text:
        text = text.replace(image * 2, image)
    return text.replace(start + image + end, "<image>")


def qwen_patches(square: np.ndarray) -> np.ndarray:
    """A square as Qwen2-VL's own processor cuts it: 1036 pixels, CLIP's normalization, patches of 2 x 14 x 14."""
    from PIL import Image

    resized = np.asarray(Image.fromarray(square).resize((1036, 1036), Image.Resampling.BICUBIC))
    pixels = ((resized / 255 - CLIP[0]) / CLIP[1]).transpose(2, 0, 1)
    cut = np.stack([pixels] * 2).reshape(1, 2, 3, 37, 2, 14, 37, 2, 14).transpose(0, 3, 6, 4, 7, 2, 1, 5, 8)
    return cut.reshape(74 * 74, -1)


@pytest.mark.parametrize("family", FAMILIES)
def test_inputs_are_the_published_ones(few: Path, family: str) -> None:
    rows = pd.read_csv(few / bench_format.TSV, sep="\t").to_dict("records")
    prepared = list(prepare_all(few, family))
    assert len(prepared) == len(rows)
    for row, (processor, sample) in zip(rows, prepared, strict=True):
        theirs = published_evaluator.play(few, row, family)
        assert prompt_text(processor, sample) == theirs.text
        assert all(
            np.array_equal(ours.permute(1, 2, 0), canvas)
            for ours, canvas in zip(sample.canvases, theirs.canvases, strict=True)
        )
        for ours, cells in zip(sample.object_cells, theirs.cells, strict=True):
            assert np.array_equal(ours, cells)
        if family == "internvl":
            assert [len(pixels) for pixels in sample.pixel_values] == theirs.counts
            assert np.array_equal(torch.cat(sample.pixel_values).permute(0, 2, 3, 1), np.stack(theirs.images))
            assert sample.position_ids.tolist() == list(range(len(sample)))
        else:
            assert sample.image_grids == ((1, 74, 74),) * len(theirs.images)
            assert int((sample.input_ids == processor.vocabulary.image_id).sum()) == 37 * 37 * len(theirs.images)
            assert sample.position_ids.tolist() == [list(range(len(sample)))] * 3
    if family == "qwen2vl":
        assert np.allclose(sample.pixel_values[0], qwen_patches(theirs.images[0]), atol=1e-5)


def test_ours_differs_where_the_published_evaluation_is_its_own(few: Path) -> None:
    published = list(prepare_all(few, "internvl"))
    for (_, theirs), (processor, ours) in zip(published, prepare_all(few, "internvl", "colva"), strict=True):
        assert "<Image-1>" not in prompt_text(processor, ours)
        assert not torch.equal(theirs.input_ids, ours.input_ids)


@pytest.mark.parametrize("family", FAMILIES)
def test_generation_is_the_published_one(family: str) -> None:
    config = make_config(family)
    processor = open_processor(config)
    wanted = published_evaluator.GENERATION[family]
    assert MAX_NEW_TOKENS[config.prompt_layout] == wanted["max_new_tokens"]
    ends = [processor.vocabulary.token_id(word) for word in wanted.get("stop", ["<|im_end|>", "<|endoftext|>"])]
    assert stop_options(processor)["eos_token_id"] == sorted(ends)
    reply = torch.arange(300)
    for has_end, start in ((True, 101), (False, 100)):
        read = read_tokens(processor.prompt_style, reply, has_end)
        assert torch.equal(read, reply[start:] if family == "qwen2vl" else reply)


def test_tiles_of_a_model_with_fewer_stay() -> None:
    config = make_config("internvl")
    config.pictures = {"max_tiles": 4}
    assert open_processor(config).image_processor.max_tiles == 4


@world.needs("MMVMEVALKIT")
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("family", FAMILIES)
def test_the_published_code_gives_the_same(bench: Path, family: str) -> None:
    checkout, cases = world.checkout("MMVMEVALKIT"), 0
    with world.stream_peer("run_published_matcher.py", checkout, family, bench) as stream:
        for processor, sample in prepare_all(bench, family):
            compare(family, processor, sample, pickle.load(stream))
            cases += 1
        assert cases == world.CASES and not stream.read(1)


def compare(family: str, processor: Processor, sample: Sample, theirs: dict[str, Any]) -> None:
    assert prompt_text(processor, sample) == theirs["text"]
    assert torch.equal(torch.stack(sample.canvases).float() / 255, theirs["ot_pixel_values"])
    for ours, masks in zip(sample.object_cells, theirs["ot_visual_prompts"], strict=True):
        cells = torch.nn.functional.interpolate(masks[:, None].float(), size=(64, 64), mode="bilinear") > 0.55
        assert torch.equal(ours, cells.flatten(1))
    if family == "internvl":
        assert [len(pixels) for pixels in sample.pixel_values] == theirs["num_patches_list"]
        normalized = (torch.cat(sample.pixel_values).float() / 255 - IMAGENET[0]) / IMAGENET[1]
        assert torch.equal(normalized.bfloat16(), theirs["pixel_values"])
        assert theirs["generation_config"]["max_new_tokens"] == MAX_NEW_TOKENS["published-eval"]
    else:
        assert all(
            np.allclose(pixels, qwen_patches(square), atol=1e-5)
            for pixels, square in zip(sample.pixel_values, theirs["images"], strict=True)
        )
