"""`convert` and `merge`: from one checkpoint layout to another.

Every conversion is planned first (a `Checkpoint`: each tensor of the result with its source), and checked against the
shapes that the configuration asks for. Then the tensors are streamed into a folder that appears when it is complete.
"""

from __future__ import annotations

import fnmatch
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import Field

from colva.checkpoints.adapters import fold_into_checkpoint, write_adapter
from colva.checkpoints.checkpoint import (
    CONFIG,
    PUBLISHED_CONFIG,
    Checkpoint,
    check_tensors,
    expected_shapes,
    meta_model,
)
from colva.checkpoints.experts import EXPERT_MODEL_TYPE, attach_expert, is_expert, read_expert
from colva.checkpoints.lazy_tensors import LazyTensor
from colva.checkpoints.original_layout import original_config, original_tensors
from colva.checkpoints.read import open_checkpoint
from colva.checkpoints.save import SHARD_BYTES, atomic_folder, write_json, write_tensors
from colva.checkpoints.tokenizers import copy_tokenizer
from colva.checkpoints.trained_weights import (
    ResolvedWeights,
    is_adapter_folder,
    is_trained_weights,
    read_trained_weights,
    resolve_weights,
)
from colva.processing.chat_templates import get_template
from mmvm_data.core.errors import UsageError
from mmvm_data.core.options import OptionError, options
from mmvm_data.core.plurals import pluralize

OnProgress = Callable[[int, int], None]
"""Called with the number of tensors written and their total."""


@options
class ConvertOptions:
    """Options of `convert` and `merge`.

    Attributes:
        to: `colva`, or `original` for the layout of the released InternVL2 and CoLVA folders.
        base: the model that a `.pth` or DeepSpeed's shards were trained on.
        expert: an expert to add, see `read_expert`.
        adapter: trained parameters to put in: a `.pth`, an adapter folder, DeepSpeed's shards.
        lora_alpha: for a `.pth` or shards with LoRA.
        template: chat template in place of the folder's.
        prompt_style: of the model written, see `ColvaConfig`; None keeps the source's.
        seed: of a new adapter.
        dtype: of the weights written; None keeps what is stored.
        shard_bytes: largest size of a shard.
        ignore: patterns (`*` and `?`) of unknown tensors that may be left out.
        dry_run: plan and check, write nothing.
    """

    to: Literal["colva", "original"] = "colva"
    base: Path | None = None
    expert: str | None = None
    adapter: Path | None = None
    lora_alpha: Annotated[float, Field(gt=0)] | None = None
    template: str | None = None
    prompt_style: Literal["colva", "published-eval"] | None = None
    seed: int = 0
    dtype: torch.dtype | None = None
    shard_bytes: Annotated[int, Field(ge=1)] = SHARD_BYTES
    ignore: tuple[str, ...] = ()
    dry_run: bool = False


@dataclass(frozen=True)
class ConvertReport:
    """What a conversion wrote, or would write.

    Attributes:
        result: what the destination holds.
        tensors: by their names in the result, with their sources.
        unused: name in the source -> why it is not needed.
        notes: what was decided, a sentence each.
        is_written: False for a dry run.
    """

    result: Literal["model", "original", "adapter", "expert"]
    tensors: dict[str, LazyTensor]
    unused: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    is_written: bool = True


def _ignore_progress(done: int, total: int) -> None:
    pass


def convert(
    source: Path,
    destination: Path,
    options: ConvertOptions | None = None,
    on_progress: OnProgress = _ignore_progress,
) -> ConvertReport:
    """Convert a checkpoint.

    A model's folder becomes a CoLVA folder, or with `to="original"` one in the original layout. A `.pth` or DeepSpeed's
    shards become an adapter folder for their base. An expert by itself becomes a folder that `expert=` takes.

    Raises:
        CheckpointError: tensors missing, unexpected, or of another shape; nothing is written.
        InputError: the source is damaged or of no known layout.
        UsageError: options that contradict the source, a destination that exists.
        OutputError: the disk is full or read-only.
    """
    options = options or ConvertOptions()
    if is_adapter_folder(source):
        raise UsageError(f"{source}: is an adapter folder already; colva merge folds it into its model")
    if is_expert(source):
        return _convert_expert(source, destination, options, on_progress)
    if is_trained_weights(source):
        return _convert_trained_weights(source, destination, options, on_progress)
    _check_unset(options, "base", "is for a .pth or DeepSpeed's shards; for a model give adapter")
    checkpoint = _plan(source, options)
    if options.to == "original":
        return _write_original(checkpoint, destination, options, on_progress)
    return _write_colva(checkpoint, destination, options, on_progress)


def merge(
    source: Path,
    destination: Path,
    options: ConvertOptions | None = None,
    on_progress: OnProgress = _ignore_progress,
) -> ConvertReport:
    """Fold an adapter folder, a `.pth` or DeepSpeed's shards into their model, and write the complete model.

    Args:
        source: trained parameters.
        destination: a folder that does not exist yet.
        options: `base` where the source does not name it; `to="original"` for the released layout.
        on_progress: called while tensors are written.

    Raises:
        As `convert`; UsageError when the base or LoRA's alpha is not known.
    """
    options = options or ConvertOptions()
    if not is_trained_weights(source):
        raise UsageError(f"{source}: expected an adapter folder, a .pth or DeepSpeed's shards")
    base = options.base or read_trained_weights(source, options.lora_alpha).base_folder()
    return convert(base, destination, replace(options, base=None, adapter=source), on_progress)


def _plan(source: Path, options: ConvertOptions) -> Checkpoint:
    """Return the checked checkpoint of a model's folder, with expert and trained parameters put in."""
    checkpoint = open_checkpoint(source)
    if options.template is not None:
        try:
            get_template(options.template)
        except ValueError as error:
            raise UsageError(str(error)) from error
        checkpoint.config.template = options.template
    if options.prompt_style is not None:
        checkpoint.config.prompt_style = options.prompt_style
    if options.expert is not None:
        attach_expert(checkpoint, read_expert(options.expert), options.seed)
    ignored = [name for name in checkpoint.unknown if any(fnmatch.fnmatchcase(name, p) for p in options.ignore)]
    model = check_tensors(checkpoint, ignore=ignored)
    checkpoint.unused |= dict.fromkeys(ignored, "ignored as asked")
    if options.adapter is not None:
        trained = read_trained_weights(options.adapter, options.lora_alpha)
        resolved = resolve_weights(trained, model)
        fold_into_checkpoint(checkpoint, resolved)
        checkpoint.config.use_object_tokens = trained.use_object_tokens
        if any(name.startswith("adapter.") for name in resolved.tensors):
            checkpoint.notes = [note for note in checkpoint.notes if not note.startswith("adapter new")]
        checkpoint.notes.append(_describe_weights(resolved, options.adapter))
    checkpoint.tensors = {name: _cast(checkpoint.tensors[name], options.dtype) for name in expected_shapes(model)}
    return checkpoint


def _describe_weights(resolved: ResolvedWeights, source: Path) -> str:
    parts = []
    if resolved.tensors:
        parts.append(f"{pluralize(len(resolved.tensors), 'tensor')} replaced")
    if resolved.lora:
        update = next(iter(resolved.lora.values()))
        parts.append(f"LoRA folded into {len(resolved.lora)} (rank {update.rank}, scale {update.scale:g})")
    return f"{source.name}: " + ", ".join(parts)


def _cast(stored: LazyTensor, dtype: torch.dtype | None) -> LazyTensor:
    if dtype is None or not stored.dtype.is_floating_point:
        return stored
    return replace(stored, dtype=dtype, read=lambda: stored.read().to(dtype))


def _write_colva(
    checkpoint: Checkpoint, destination: Path, options: ConvertOptions, on_progress: OnProgress
) -> ConvertReport:
    report = ConvertReport("model", checkpoint.tensors, checkpoint.unused, tuple(checkpoint.notes), not options.dry_run)
    if options.dry_run:
        return report
    with atomic_folder(destination) as folder:
        write_json(folder / CONFIG, config_json(checkpoint))
        if checkpoint.published is not None:
            write_json(folder / PUBLISHED_CONFIG, checkpoint.published)
        if checkpoint.tokenizer is not None:
            checkpoint.tokenizer.save_pretrained(folder)
        _write_tensors(folder, checkpoint.tensors, options, on_progress)
    return report


def config_json(checkpoint: Checkpoint) -> dict[str, Any]:
    """Return the content of config.json of a CoLVA folder."""
    dtypes = {stored.dtype for stored in checkpoint.tensors.values() if stored.dtype.is_floating_point}
    config = checkpoint.config.to_dict() | {"architectures": ["ColvaModel"]}
    config.pop("_name_or_path", None)
    if len(dtypes) == 1:
        config["dtype"] = str(dtypes.pop()).removeprefix("torch.")
    return config


def _write_original(
    checkpoint: Checkpoint, destination: Path, options: ConvertOptions, on_progress: OnProgress
) -> ConvertReport:
    config, layout = original_config(checkpoint)
    tensors = original_tensors(checkpoint, layout)
    report = ConvertReport("original", tensors, checkpoint.unused, tuple(checkpoint.notes), not options.dry_run)
    if options.dry_run:
        return report
    with atomic_folder(destination) as folder:
        write_json(folder / CONFIG, config)
        if checkpoint.tokenizer is not None:
            checkpoint.tokenizer.save_pretrained(folder)
        _write_tensors(folder, tensors, options, on_progress)
    return report


def _convert_expert(source: Path, destination: Path, options: ConvertOptions, on_progress: OnProgress) -> ConvertReport:
    for name in ("base", "expert", "adapter", "lora_alpha", "template", "prompt_style"):
        _check_unset(options, name, f"is for a model, but {source} is an expert by itself")
    expert = read_expert(source)
    tensors = {name: _cast(stored, options.dtype) for name, stored in expert.tensors.items()}
    notes = (f"expert {expert.config['kind']}",)
    report = ConvertReport("expert", tensors, expert.unused, notes, not options.dry_run)
    if options.dry_run:
        return report
    config: dict[str, Any] = {"model_type": EXPERT_MODEL_TYPE, "expert": expert.config}
    if expert.radio_config is not None:
        config["radio_config"] = expert.radio_config
    with atomic_folder(destination) as folder:
        write_json(folder / CONFIG, config)
        _write_tensors(folder, tensors, options, on_progress)
    return report


def _convert_trained_weights(
    source: Path, destination: Path, options: ConvertOptions, on_progress: OnProgress
) -> ConvertReport:
    for name in ("expert", "adapter", "template", "prompt_style"):
        _check_unset(options, name, f"is for a model, but {source} holds trained parameters")
    if options.base is None:
        raise OptionError("base", f"is missing: {source} does not name the model that it was trained on")
    model = meta_model(open_checkpoint(options.base).config)
    resolved = resolve_weights(read_trained_weights(source, options.lora_alpha), model)
    tensors = {
        name: LazyTensor(tuple(t.shape), t.dtype, lambda t=t: t, (resolved.sources[name],))  # type: ignore[misc]
        for name, t in resolved.tensors.items()
    }
    for name, update in resolved.lora.items():
        tensors[name] = LazyTensor(update.shape, update.b.dtype, update.delta_weight, (resolved.sources[name],))
    report = ConvertReport("adapter", tensors, notes=(f"base {options.base}",), is_written=not options.dry_run)
    if options.dry_run:
        return report
    with atomic_folder(destination) as folder:
        base = os.path.relpath(options.base.resolve(), destination.resolve())
        write_adapter(folder, model, resolved, base, is_published=True)
        copy_tokenizer(options.base, folder)
        on_progress(len(tensors), len(tensors))
    return report


def _write_tensors(
    folder: Path, tensors: Mapping[str, LazyTensor], options: ConvertOptions, on_progress: OnProgress
) -> None:
    write_tensors(folder, tensors, options.shard_bytes, on_progress=lambda done: on_progress(done, len(tensors)))


def _check_unset(options: ConvertOptions, name: str, reason: str) -> None:
    if getattr(options, name) is not None:
        raise OptionError(name, reason)
