"""Stage 2: the language model learns by LoRA to read object tokens; all the rest is frozen (DESIGN section 5)."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from colva.checkpoints.adapters import read_delta, resolve
from colva.checkpoints.load import build_model, make_processor
from colva.checkpoints.view import Checkpoint, meta_model, open_checkpoint
from colva.config import TrainConfig
from colva.data.cache import ObjectCache, fingerprint
from colva.data.lengths import lengths_of
from colva.data.main_process import by_one
from colva.data.mixture import CASE_KINDS, Mixture, Opened, SftOptions, open_sources
from colva.data.object_cache import Preparation, fill, is_filled
from colva.data.prompt_variants import variants
from colva.data.sft import Lookup
from colva.model.adapter import Adapter
from colva.model.colva import ColvaModel
from colva.model.experts import build as build_expert
from colva.model.experts.base import Expert, to_unit_range
from colva.model.pooling import pool_objects
from colva.processing.collator import Processor
from colva.training.cost import activation_bytes, step_flops
from colva.training.lora import LoraOptions, add_lora, load_lora, save_lora
from colva.training.rows import Joining, Preparing, Rows, learnt
from colva.training.stage import Batch, Part, Stage, Step
from mmvm_data.core.errors import InputError, UsageError
from mmvm_data.core.options import OptionError

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
)
_ADAPTER, _EXPERT, _OURS = "adapter.", "expert.", "colva."


@dataclass(frozen=True, kw_only=True)
class Config(TrainConfig):
    """Stage 2.

    Attributes:
        data: see `SftOptions`.
        lora: see `LoraOptions`.
        adapter: the adapter that stage 1 trained (its folder, or a published `.pth`), in place of the model's own.
    """

    data: SftOptions
    lora: LoraOptions = field(default_factory=LoraOptions)
    adapter: Path | None = None


class TuningModel(nn.Module):
    """The model with its loss; only LoRA's dropout knows that it is being trained."""

    def __init__(self, colva: ColvaModel) -> None:
        super().__init__()
        self.colva = colva

    def train(self, mode: bool = True) -> TuningModel:
        """Train the language model; encoders stay in eval mode, as everything in them is frozen."""
        super().train(False)
        self.training = mode
        self.colva.backbone.language_model.train(mode)
        return self

    def forward(self, **inputs: Any) -> Tensor:
        """The loss of a batch, summed over its learnt tokens; see `ColvaModel.forward` for the inputs."""
        # a cache would hide from transformers where packed samples begin
        return self.colva(**inputs, use_cache=False, num_items_in_batch=1).loss


def build(config: Config) -> Stage:
    """The stage for the engine.

    Raises:
        InputError: the model, the adapter or a source is damaged.
        UsageError: the mixture cannot be taken so, the model has no expert for its object tokens, or nothing is left.
    """
    found = open_checkpoint(config.model)
    if found.tokenizer is None:
        raise UsageError(f"{config.model}: has no tokenizer")
    cache = config.data.cache or config.out / "cache"
    opened = open_sources(config.data, cache)
    if config.data.pictures:
        found.config.pictures = found.config.pictures | config.data.pictures
    try:
        processor = make_processor(found.config, found.tokenizer)
    except OptionError as error:
        raise OptionError(f"data.{error.argument}", error.reason) from error
    objects = config.data.objects and any(one.source.kind in CASE_KINDS for one in opened)
    if objects and found.config.expert is None:
        raise UsageError(
            f"{config.model}: has no expert for object tokens; `colva convert {config.model} DST --expert EXPERT` "
            "gives one, data.objects=false trains on the drawn pictures alone"
        )
    adapter = adapter_weights(found, config.adapter) if found.config.expert is not None else {}
    cached = CachedObjects(config, found, adapter, cache, opened) if objects and config.data.object_cache else None
    model = load_model(found, config, adapter, bool(objects and cached is None))
    preparing = Preparing(
        processor, config.data.objects, None if cached is None else cached.lookup, config.data.max_length
    )
    rows = functools.partial(_rows, config, opened, preparing, cache)
    train, held_out = rows(False), rows(True)
    if train is None:
        raise UsageError("data: nothing is left to train on")
    if not len(train):
        first = train.first_reject()
        said = f"; {first.file}: {first.field}: {first.reason}" if first else ""
        raise UsageError(f"data: no conversation can be used{said}")

    def step(wrapped: nn.Module, batch: Batch) -> Step:
        loss = wrapped(**{name: batch[name] for name in _INPUTS if name in batch})
        return Step(loss, {"padding": (batch["input_ids"].numel() - int(batch["tokens"]), batch["input_ids"].numel())})

    def save(folder: Path, weights: Mapping[str, Tensor]) -> None:
        ours = {name.removeprefix(_OURS): tensor for name, tensor in weights.items()}
        save_lora(folder, model.colva, config.lora, ours, adapter, config.model)

    def load(folder: Path) -> Mapping[str, Tensor]:
        return {_OURS + name: tensor for name, tensor in load_lora(folder, model.colva).items()}

    def counts(batch: Batch) -> Mapping[str, float]:
        facts = {"samples": float(batch["samples"]), "tokens": float(batch["tokens"])}
        return facts | {"flops": step_flops(model.colva, batch, learnt(batch))}

    def checkpointing(reentrant: bool) -> None:
        text = model.colva.backbone.language_model
        text.gradient_checkpointing_enable({"use_reentrant": reentrant})
        if reentrant:  # its backward pass begins at inputs with a gradient, and the embeddings are frozen
            text.enable_input_require_grads()

    return Stage(
        model=model,
        train=train,
        held_out=held_out,
        collate=Joining(processor, config.data.packing),
        units=learnt,
        step=step,
        save=save,
        load=load,
        counts=counts,
        describe=lambda: describe(config, opened, train, held_out, preparing),
        checkpointing=checkpointing,
        prepare=(lambda: None) if cached is None else cached.fill,
        activations=lambda items: activation_bytes(
            model.colva, items * config.data.max_length, config.run.checkpointing
        ),
    )


def _rows(config: Config, opened: Sequence[Opened], preparing: Preparing, cache: Path, held_out: bool) -> Rows | None:
    chosen = variants(False) if held_out else variants(config.data.vary, config.data.clean_share)
    if not config.data.objects:  # without tokens a clean picture does not say what is asked about
        chosen = variants(config.data.vary and not held_out)
    mixture = Mixture(opened, config.data, chosen, config.seed, held_out)
    if not len(mixture.items()):
        return None
    lengths = None
    if config.data.packing:
        workers = config.run.workers
        lengths = [lengths_of(one, preparing.processor, preparing.objects, cache, workers) for one in opened]
    found = Rows(mixture, preparing, lengths)
    return found if len(found) or not held_out else None


def adapter_weights(found: Checkpoint, given: Path | None) -> dict[str, Tensor]:
    """The adapter's tensors by its own names: from a file of stage 1, or the model's."""
    if given is None:
        return {n.removeprefix(_ADAPTER): s.read() for n, s in found.tensors.items() if n.startswith(_ADAPTER)}
    whole = resolve(read_delta(given), meta_model(found.config)).whole
    weights = {n.removeprefix(_ADAPTER): tensor for n, tensor in whole.items() if n.startswith(_ADAPTER)}
    if not weights:
        raise InputError(given, "holds no adapter")
    return weights


def load_model(found: Checkpoint, config: Config, adapter: Mapping[str, Tensor], with_expert: bool) -> TuningModel:
    """The network with LoRA in it; without the expert when objects come from a cache."""
    if not with_expert:
        kept = {n: s for n, s in found.tensors.items() if not n.startswith((_ADAPTER, _EXPERT))}
        fields = type(found.config).from_dict(found.config.to_dict() | {"expert": None})
        found = replace(found, config=fields, tensors=kept)
    model = build_model(found)
    if with_expert:
        assert model.adapter is not None
        model.adapter.load_state_dict(dict(adapter))
    frozen = torch.bfloat16 if config.run.precision == "bf16" else torch.float32
    model.to(frozen)
    add_lora(model, config.lora, config.seed)
    return TuningModel(model)


class CachedObjects:
    """The object cache of a run; opened in each process when it is first asked."""

    def __init__(
        self,
        config: Config,
        found: Checkpoint,
        adapter: Mapping[str, Tensor],
        cache: Path,
        opened: Sequence[Opened],
    ) -> None:
        ours = found.config
        self._config = config
        self._adapter = dict(adapter)
        self._opened = tuple(opened)
        self._fields = dict(ours.expert or {})
        self._tensors = {n.removeprefix(_EXPERT): s for n, s in found.tensors.items() if n.startswith(_EXPERT)}
        self._width = int(ours.backbone_config.get_text_config().hidden_size)
        with torch.device("meta"):
            stride = build_expert(self._fields["kind"], {k: v for k, v in self._fields.items() if k != "kind"}).stride
        self._preparation = Preparation(ours.expert_side, stride, ours.mask_threshold)
        settings = {
            "expert": self._fields,
            "side": ours.expert_side,
            "threshold": ours.mask_threshold,
            "precision": config.run.precision,
        }
        self._folder = cache / "objects" / fingerprint(_Read(self._tensors, self._adapter), settings)
        self.lookup: Lookup = Reading(self._folder, self._width)

    def fill(self) -> None:
        """Embed what is missing; the first process does, the others wait."""
        by_one(lambda: is_filled(ObjectCache(self._folder, self._width), self._opened), self._fill)

    def _fill(self) -> None:
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        embed = self._embedder(device)

        def told(done: int, count: int) -> None:
            print(f"objects embedded of {done} of {count} records", flush=True)

        cache = ObjectCache(self._folder, self._width)
        fill(cache, self._opened, self._preparation, embed, self._config.run.workers, told=told)

    def _embedder(self, device: torch.device) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
        fields = dict(self._fields)
        expert: Expert = build_expert(fields.pop("kind"), fields)
        expert.load_state_dict({name: stored.read() for name, stored in self._tensors.items()})
        adapter = Adapter(expert.hidden_size, self._width)
        adapter.load_state_dict(self._adapter)
        half = self._config.run.precision == "bf16"
        dtype = torch.bfloat16 if half else torch.float32
        expert.eval().to(device, dtype)
        adapter.eval().to(device, dtype)

        @torch.no_grad()
        def embed(pixels: Tensor, cells: Tensor, images: Tensor) -> Tensor:
            with torch.autocast(device.type, torch.bfloat16, enabled=half):
                tokens = adapter(expert(to_unit_range(pixels.to(device))).tokens)
            return pool_objects(tokens, cells.to(device), images.to(device))[0]

        return embed


class Reading:
    """Objects of a cache by their keys (a `Lookup`), mapped when first asked."""

    def __init__(self, folder: Path, width: int) -> None:
        self.folder = folder
        self.width = width
        self._cache: ObjectCache | None = None

    def __call__(self, keys: Sequence[bytes]) -> Tensor:
        """Embeddings `[n, d]`; KeyError when one is not there."""
        if self._cache is None:
            self._cache = ObjectCache(self.folder, self.width)
        return self._cache.read(keys)

    def __getstate__(self) -> dict[str, Any]:
        return {"folder": self.folder, "width": self.width, "_cache": None}


class _Read(Mapping[str, Tensor]):
    """Stored tensors, read one at a time, and others."""

    def __init__(self, stored: Mapping[str, Any], others: Mapping[str, Tensor]) -> None:
        self._stored = {_EXPERT + name: one for name, one in stored.items()}
        self._others = {_ADAPTER + name: one for name, one in others.items()}

    def __getitem__(self, name: str) -> Tensor:
        return self._others[name] if name in self._others else self._stored[name].read()

    def __iter__(self) -> Iterator[str]:
        return iter([*self._stored, *self._others])

    def __len__(self) -> int:
        return len(self._stored) + len(self._others)


def describe(
    config: Config, opened: Sequence[Opened], train: Rows, held_out: Rows | None, preparing: Preparing
) -> dict[str, Any]:
    """Facts for `--dry-run`; objects that are not cached yet are shown as places."""
    sources = [
        {"kind": one.source.kind, "path": str(one.source.path), "records": len(one), "weight": one.source.weight}
        for one in opened
    ]
    facts: dict[str, Any] = {
        "sources": sources,
        "conversations_in_an_epoch": train.samples,
        "left_out": train.left_out,
        "rows_in_an_epoch": len(train),
        "rows_held_out": len(held_out) if held_out else 0,
    }
    if config.data.packing:
        facts |= {"lengths": train.spread, "padding_share_at_max_length": round(train.waste, 5)}
    row: Part = train.shown()[0]
    if row.value is None:
        return facts | {"first_row": {"rejected": [reject.to_json() for reject in row.rejects[:3]]}}
    sample = row.value[0]
    return facts | {
        "first_row": {
            "conversations": len(row.value),
            "tokens": sum(map(len, row.value)),
            "rejected": [reject.to_json() for reject in row.rejects[:3]],
            "first": {"name": sample.name} | _decoded(preparing.processor, sample.input_ids, sample.labels),
        }
    }


def _decoded(processor: Processor, ids: Tensor, labels: Tensor) -> dict[str, Any]:
    """What is said and what of it is learnt; runs of image tokens are shown as their number."""
    tokenizer, image = processor.vocabulary.tokenizer, processor.vocabulary.image_id
    pieces, begun = [], 0
    values, counts = torch.unique_consecutive(ids, return_counts=True)
    ends = counts.cumsum(0).tolist()
    for value, count, end in zip(values.tolist(), counts.tolist(), ends, strict=True):
        if value == image and count > 1:
            pieces.append(tokenizer.decode(ids[begun : end - count + 1].tolist()) + f"[x {count}]")
            begun = end
    said = "".join([*pieces, tokenizer.decode(ids[begun:].tolist())])
    return {"text": said, "learnt": tokenizer.decode(labels[labels >= 0].tolist())}
