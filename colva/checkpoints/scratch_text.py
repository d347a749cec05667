"""A small language model to be trained from scratch, with a tokenizer for which this project's questions are short."""

from __future__ import annotations

import itertools
import re
from typing import Final

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import nn
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2Model

from colva.checkpoints.package_weights import TextModel
from colva.model.initial_values import init_fan_in
from colva.processing.chat_templates import TEMPLATES, Turn
from colva.processing.tokens import IMAGE, OBJECT, build_case_text, build_object_text
from mmvm_data.cases import prompts
from mmvm_data.core.types import Candidate, Case, Frame, Region
from mmvm_data.formats.conversations import WHY

TEMPLATE: Final = "qwen3-vl"  # no system text
_SPECIAL: Final = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
_PROMPTS: Final[tuple[prompts.Prompt, ...]] = ("mask", "box")
_MAX_VOCABULARY: Final = 1024
_WIDTH: Final = 128
_LAYERS: Final = 3
_HEADS: Final = 8


def build_scratch_text(seed: int = 0) -> TextModel:
    """Return a Qwen2 text model of 3 layers of width 128 (0.5 M parameters without embeddings), untrained.

    Its values keep the scale of activations (`colva.model.initial_values`), with which a model of this size learns to
    match sooner, and so do many narrow heads. All of it must be trained: `tune: full` in stage 2.

    Args:
        seed: of the values.
    """
    tokenizer = build_sentence_tokenizer()
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=_WIDTH,
        intermediate_size=2 * _WIDTH,
        num_hidden_layers=_LAYERS,
        num_attention_heads=_HEADS,
        num_key_value_heads=_HEADS,
        max_position_embeddings=4096,
        tie_word_embeddings=False,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    text = Qwen2Model(config)
    head = nn.Linear(_WIDTH, config.vocab_size, bias=False)
    init_fan_in(text, head, seed)
    return TextModel(config, dict(text.state_dict()), tokenizer, head.weight.detach())


def build_sentence_tokenizer() -> PreTrainedTokenizerFast:
    """Return a byte-level BPE tokenizer whose tokens span words: of a case's text each line is one token, or a few.

    An object's number belongs to its token (`, <object-2>`), as does the number of a choice (`B. 2`). Text that it has
    not seen falls apart into bytes and pieces, as with any BPE. Attention starts out spread evenly, so a short prompt
    is what a small model learns from soonest.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            # so that an answer does not merge with what stands before it
            pre_tokenizers.Split(Regex("(system|user|assistant)\n"), "isolated"),
            pre_tokenizers.Split(Regex("\n(?=.)"), "merged_with_next"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=_MAX_VOCABULARY, initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()), show_progress=False
    )
    tokenizer.train_from_iterator(_list_sentences(), trainer)
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in (*_SPECIAL, OBJECT)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=TEMPLATES[TEMPLATE].end,
        pad_token=_SPECIAL[0],
        clean_up_tokenization_spaces=False,
    )


def _list_sentences() -> list[str]:
    """Return what stands between special tokens in conversations about cases."""
    frame = Frame(path="1.jpg", index=0, width=8, height=8)
    region = Region(id="1", box=(0.0, 0.0, 8.0, 8.0))
    texts = []
    for prompt, count in itertools.product(_PROMPTS, range(2, 13)):
        numbers = range(1, count + 1)
        case = Case(
            id="1",
            frames=(frame, frame),
            query=(region,),
            candidates=tuple(Candidate(number=number, region=region) for number in numbers),
            answer=1,
            prompt=prompt,
            question=prompts.format_question(prompt),
            options=prompts.build_options(numbers, 1),
        )
        turns = [Turn("user", build_case_text(case)), Turn("assistant", "A"), Turn("user", WHY)]
        texts += [TEMPLATES[TEMPLATE].render(turns)[0], build_object_text(case)]
    marks = "|".join(re.escape(mark) for mark in (*_SPECIAL, IMAGE, OBJECT))
    return [piece for text in texts for piece in re.split(marks, text) if piece]
