"""Stage 2: the language model learns to read object tokens (arXiv 2501.04670, section 4).

As published LoRA is trained and all else is frozen; `tune` trains more of the language model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import KW_ONLY, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor, nn

from colva.checkpoints.checkpoint import Checkpoint
from colva.checkpoints.lazy_tensors import wrap_tensors
from colva.checkpoints.load import build_model, build_model_without_weights, make_processor
from colva.checkpoints.read import open_checkpoint
from colva.config import PositiveFloat, TrainConfig
from colva.data.lengths import load_lengths
from colva.data.mixture import Mixture, SftOptions, open_record_sources
from colva.data.prompt_variants import make_prompt_variants
from colva.data.record_reader import RecordReader
from colva.model.colva import ColvaModel
from colva.model.packed_attention import select_packed_kernel
from colva.processing.collator import Processor
from colva.training.cached_objects import ADAPTER_PREFIX, EXPERT_PREFIX, CachedObjects
from colva.training.cost import estimate_activation_bytes, estimate_step_flops
from colva.training.deferred_weights import DeferredWeights
from colva.training.head_bound import MAX_BOUND, check_frozen_head
from colva.training.loader import BatchSharding, training_loader
from colva.training.lora import LoraOptions
from colva.training.object_adapter import (
    AdapterField,
    AdapterOptions,
    check_is_new,
    load_adapter,
    measure_text_norm,
    scale_to_text_norm,
)
from colva.training.rows import RowCollator, RowDataset, SamplePreparer, count_hits, num_target_tokens, zero_embeddings
from colva.training.stage import Batch, PartialItem, Stage, StepResult
from colva.training.token_norms import measure_token_norms
from colva.training.tuning import Tune, load_trained_weights, save_trained_weights, select_trained_weights
from mmvm_data.cases.prompts import LETTERS
from mmvm_data.core.errors import UsageError
from mmvm_data.core.options import OptionError, options

_INPUTS = (
    "input_ids",
    "attention_mask",
    "position_ids",
    "segments",
    "labels",
    "pixel_values",
    "image_grid",
    "expert_pixel_values",
    "object_cells",
    "object_images",
    "object_embeddings",
    "image_positions",
    "object_positions",
    "target_positions",
    "max_objects",
    "option_ids",
    "option_targets",
)
_MODEL_PREFIX = "colva."
_MEASURED_ROWS = 2


@options
class Stage2Config(TrainConfig):
    """Configuration of stage 2.

    Attributes:
        data: see `SftOptions`.
        tune: what is trained: `lora`; `full`, the language model and its head without LoRA; or a list of `head`,
            `embeddings` and `norms`, which are trained beside LoRA.
        max_loss_bound: the run is refused when a frozen head keeps the loss of an answer above this, in nats (see
            `colva.training.head_bound`); null trains anyway.
        lora: see `LoraOptions`.
        adapter: see `AdapterOptions`; a path alone is its `path`.
    """

    _: KW_ONLY
    data: SftOptions
    tune: Tune = "lora"
    max_loss_bound: PositiveFloat | None = MAX_BOUND
    lora: LoraOptions = field(default_factory=LoraOptions)
    adapter: AdapterField = field(default_factory=AdapterOptions)


class Stage2Model(nn.Module):
    """The model with its loss, of which only the language model is ever in training mode (for LoRA's dropout)."""

    def __init__(self, colva: ColvaModel) -> None:
        super().__init__()
        self.colva = colva

    def train(self, mode: bool = True) -> Stage2Model:
        """Set the mode of the language model; the frozen encoders stay in eval mode."""
        super().train(False)
        self.training = mode
        self.colva.backbone.language_model.train(mode)
        return self

    def forward(
        self, option_ids: Tensor | None = None, option_targets: Tensor | None = None, **inputs: Any
    ) -> Tensor | tuple[Tensor, Tensor]:
        """The loss of a batch, summed over its target tokens; see `ColvaModel.forward` for the inputs.

        Given options (see `RowCollator`), also their logits `[cases, options]`.
        """
        # with a key-value cache transformers would not find where packed samples start
        output = self.colva(**inputs, use_cache=False, num_items_in_batch=1, logit_targets=option_targets)
        loss: Tensor = output.loss
        if option_ids is None:
            return loss
        return loss, output.logits.gather(1, option_ids.clamp(min=0))


def build_stage(config: Stage2Config, is_dry_run: bool = False, defer_layers: bool = False) -> Stage:
    """The stage for the engine.

    Args:
        config: of the run.
        is_dry_run: leave the model without weights, on the meta device, and write to no cache. Objects are zeros, and
            what a frozen head can say is not checked.
        defer_layers: leave the decoder layers without weights, see `Stage.fill_weights`.

    Raises:
        InputError: the model, the adapter or a source is damaged.
        UsageError: the mixture cannot be used, the model has no expert for its object tokens, or nothing is left to
            train on.
    """
    base = open_checkpoint(config.model)
    if base.tokenizer is None:
        raise UsageError(f"{config.model}: has no tokenizer")
    cache_dir = config.data.cache_dir or config.output_dir / "cache"
    readers = open_record_sources(config.data, None if is_dry_run else cache_dir)
    if config.data.image_options:
        base.config.pictures = base.config.pictures | config.data.image_options
    try:
        processor = make_processor(base.config, base.tokenizer)
    except OptionError as error:
        raise OptionError("data.image_options", error.reason) from error
    has_objects = config.data.use_object_tokens and any(reader.has_cases for reader in readers)
    if has_objects and base.config.expert is None:
        raise UsageError(
            f"{config.model}: has no expert for object tokens; `colva convert {config.model} DST --expert EXPERT` "
            "adds one, data.use_object_tokens=false trains on the drawn images alone"
        )
    adapter = load_adapter(base, config.adapter.path) if base.config.expert is not None else {}

    def open_objects(weights: Mapping[str, Tensor]) -> CachedObjects:
        return CachedObjects(base, weights, cache_dir, readers, config.trainer.precision, config.trainer.num_workers)

    if has_objects and config.adapter.match_text_norm:
        check_is_new(base, config.adapter)
        if not is_dry_run:
            adapter = scale_to_text_norm(base, adapter, cache_dir, open_objects)
    use_cache = has_objects and config.data.use_object_cache
    cached = open_objects(adapter) if use_cache and not is_dry_run else None
    with_expert = has_objects and not use_cache
    model, weights = load_model(base, config, adapter, with_expert, with_weights=not is_dry_run, defer=defer_layers)
    if not is_dry_run:
        device = "cuda" if torch.cuda.is_available() else "cpu"
        try:
            model.colva.packed_kernel = select_packed_kernel(
                config.trainer.attention, device, config.trainer.precision == "bf16"
            )
        except ValueError as error:
            raise OptionError("trainer.attention", str(error)) from error
    if any(reader.has_cases for reader in readers):
        model.colva.config.use_object_tokens = has_objects
    letters = {letter: processor.vocabulary.answer_ids(letter, processor.template)[0] for letter in LETTERS[:4]}
    loss_bounds = {} if is_dry_run else check_frozen_head(model.colva, letters, config.max_loss_bound)
    lookup = None if cached is None else cached.lookup
    if use_cache and cached is None:
        lookup = zero_embeddings
    data = config.data
    if data.objects_only_steps and not has_objects:
        raise UsageError("data.objects_only_steps: needs cases, and data.use_object_tokens")
    if data.copy_share and not data.objects_only_steps:
        raise UsageError("data.copy_share: needs data.objects_only_steps, of whose cases it is a share")
    preparer = SamplePreparer(
        processor,
        data.use_object_tokens,
        lookup,
        data.max_length,
        data.renumber,
        recolor=data.vary_prompts,
        objects_only_rows=data.objects_only_steps * config.trainer.global_batch_size,
        copy_share=data.copy_share,
    )
    with TemporaryDirectory() if is_dry_run else nullcontext() as scratch:
        scratch_dir = None if scratch is None else Path(scratch)
        train = _make_dataset(config, readers, preparer, cache_dir, scratch_dir, held_out=False)
        held_out = _make_dataset(config, readers, preparer, cache_dir, scratch_dir, held_out=True)
    if train is None:
        raise UsageError("data: no conversation to train on")
    if not len(train):
        first = train.first_reject()
        reason = f"; {first.file}: {first.field}: {first.reason}" if first else ""
        raise UsageError(f"data: no conversation can be used{reason}")

    def step(wrapped: nn.Module, batch: Batch) -> StepResult:
        output = wrapped(**{name: batch[name] for name in _INPUTS if name in batch})
        size = batch["input_ids"].numel()
        means = {"padding": (size - batch["tokens"], size)}
        if isinstance(output, Tensor):
            return StepResult(output, means)
        loss, scores = output
        return StepResult(loss, means, count_hits(batch, scores))

    def save_weights(folder: Path, weights: Mapping[str, Tensor]) -> None:
        trained = {name.removeprefix(_MODEL_PREFIX): tensor for name, tensor in weights.items()}
        save_trained_weights(folder, model.colva, config.lora, trained, adapter, config.model)

    def load_weights(folder: Path) -> Mapping[str, Tensor]:
        return {_MODEL_PREFIX + name: tensor for name, tensor in load_trained_weights(folder, model.colva).items()}

    def count_throughput(batch: Batch) -> Mapping[str, float]:
        counts = {"samples": float(batch["samples"]), "tokens": float(batch["tokens"])}
        return counts | {"flops": estimate_step_flops(model.colva, batch, num_target_tokens(batch))}

    def enable_gradient_checkpointing(use_reentrant: bool) -> None:
        language_model = model.colva.backbone.language_model
        language_model.gradient_checkpointing_enable({"use_reentrant": use_reentrant})
        if use_reentrant:  # its backward pass needs inputs with a gradient, and the embeddings may be frozen
            language_model.enable_input_require_grads()

    def estimate_activations(items: int) -> float:
        num_tokens = items * config.data.max_length
        return estimate_activation_bytes(model.colva, num_tokens, config.trainer.gradient_checkpointing)

    def measure_start() -> Mapping[str, float]:
        sharding = BatchSharding(_MEASURED_ROWS, _MEASURED_ROWS, num_processes=1, rank=0)
        first = data.objects_only_steps * config.trainer.global_batch_size // _MEASURED_ROWS  # the first with images
        # in a worker, so that no file is open here when workers are forked
        num_workers = min(1, config.trainer.num_workers)
        batch = next(iter(training_loader(stage, sharding, first + 1, num_workers, False, first)))["inputs"]
        return {} if batch is None else measure_token_norms(model.colva, batch)

    stage = Stage(
        model=model,
        train=train,
        held_out=held_out,
        collate=RowCollator(processor, config.data.packing),
        count_units=num_target_tokens,
        step=step,
        save_weights=save_weights,
        load_weights=load_weights,
        count_throughput=count_throughput,
        describe=lambda: {
            **describe_data(config.data.packing, readers, train, held_out, processor),
            "loss_bounds": loss_bounds,
            "text_norm": round(measure_text_norm(base), 4),
        },
        enable_gradient_checkpointing=enable_gradient_checkpointing,
        prepare=(lambda: None) if cached is None else cached.fill,
        estimate_activation_bytes=estimate_activations,
        measure_start=measure_start,
        fill_weights=(lambda module: None) if weights is None else weights.fill,
    )
    return stage


def _make_dataset(
    config: Stage2Config,
    readers: Sequence[RecordReader],
    preparer: SamplePreparer,
    cache_dir: Path,
    scratch_dir: Path | None,
    held_out: bool,
) -> RowDataset | None:
    """The training or the held-out rows; None when there are none. Lengths that are not cached are written to the
    scratch folder if there is one."""
    data = config.data
    variants = make_prompt_variants(False) if held_out else make_prompt_variants(data.vary_prompts, data.clean_share)
    if not data.use_object_tokens:  # without tokens a clean image does not show which object is meant
        variants = make_prompt_variants(data.vary_prompts and not held_out)
    mixture = Mixture(readers, data, variants, config.seed, held_out)
    if not len(mixture.epoch_items()):
        return None
    lengths = None
    if data.packing:
        lengths = [
            load_lengths(
                reader, preparer.processor, preparer.object_tokens, cache_dir, config.trainer.num_workers, scratch_dir
            )
            for reader in readers
        ]
    dataset = RowDataset(mixture, preparer, lengths)
    return dataset if len(dataset) or not held_out else None


def load_model(
    base: Checkpoint,
    config: Stage2Config,
    adapter: Mapping[str, Tensor],
    with_expert: bool,
    with_weights: bool = True,
    defer: bool = False,
) -> tuple[Stage2Model, DeferredWeights | None]:
    """The network with what is trained; without the expert when objects come from a cache.

    With `defer` its decoder layers are on the meta device, and their weights are returned too.
    """
    if with_expert:
        tensors = base.tensors | wrap_tensors({ADAPTER_PREFIX + name: tensor for name, tensor in adapter.items()})
        base = replace(base, tensors=tensors)
    else:
        kept = {n: s for n, s in base.tensors.items() if not n.startswith((ADAPTER_PREFIX, EXPERT_PREFIX))}
        fields = type(base.config).from_dict(base.config.to_dict() | {"expert": None})
        base = replace(base, config=fields, tensors=kept)
    model = build_model(base) if with_weights and not defer else build_model_without_weights(base)
    model.to(torch.bfloat16 if config.trainer.precision == "bf16" else torch.float32)
    select_trained_weights(model, config.tune, config.lora, config.seed)
    if not with_weights or not defer:
        return Stage2Model(model), None
    weights = DeferredWeights(model, base.tensors, config.seed)
    weights.fill(model, except_for=model.backbone.decoder_layers)
    return Stage2Model(model), weights


def describe_data(
    packing: bool,
    readers: Sequence[RecordReader],
    train: RowDataset,
    held_out: RowDataset | None,
    processor: Processor,
) -> dict[str, Any]:
    """Facts for `--dry-run`; objects that are not cached yet are replaced by zeros."""
    sources = [
        {
            "kind": reader.source.kind,
            "path": str(reader.source.path),
            "records": len(reader),
            "weight": reader.source.weight,
        }
        for reader in readers
    ]
    facts: dict[str, Any] = {
        "sources": sources,
        "conversations_in_an_epoch": train.num_samples,
        "left_out": train.num_left_out,
        "rows_in_an_epoch": len(train),
        "rows_held_out": len(held_out) if held_out else 0,
    }
    if packing:
        facts |= {"lengths": train.length_stats, "padding_share_at_max_length": round(train.padding_share, 5)}
    row: PartialItem = train.with_dummy_objects()[0]
    rejected = [reject.to_json() for reject in row.rejects[:3]]
    if row.value is None:
        return facts | {"first_row": {"rejected": rejected}}
    sample = row.value[0]
    return facts | {
        "first_row": {
            "conversations": len(row.value),
            "tokens": sum(map(len, row.value)),
            "rejected": rejected,
            "first": {"name": sample.name} | _decode_sample(processor, sample.input_ids, sample.labels),
        }
    }


def _decode_sample(processor: Processor, ids: Tensor, labels: Tensor) -> dict[str, Any]:
    """The text of a sample and that of its targets; repeated image tokens are shown as their number."""
    tokenizer, image_id = processor.vocabulary.tokenizer, processor.vocabulary.image_id
    pieces, start = [], 0
    values, counts = torch.unique_consecutive(ids, return_counts=True)
    ends = counts.cumsum(0).tolist()
    for value, count, end in zip(values.tolist(), counts.tolist(), ends, strict=True):
        if value == image_id and count > 1:
            pieces.append(tokenizer.decode(ids[start : end - count + 1].tolist()) + f"[x {count}]")
            start = end
    text = "".join([*pieces, tokenizer.decode(ids[start:].tolist())])
    return {"text": text, "targets": tokenizer.decode(labels[labels >= 0].tolist())}
