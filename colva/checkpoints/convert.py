"""`colva convert` and `colva merge`: from one layout to another, streamed, and with nothing half-written.

Every conversion is first a plan (`Checkpoint`: each tensor of the result with where it comes from), which is checked
against the shapes that the configuration asks for. Only then is anything written.
"""

from __future__ import annotations

import fnmatch
import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from colva.checkpoints.adapters import (
    Resolved,
    fold,
    is_adapter,
    is_delta,
    read_delta,
    resolve,
    write_adapter,
)
from colva.checkpoints.configs import to_colva_config, to_original_config
from colva.checkpoints.experts import MODEL_TYPE, ExpertWeights, attach, is_expert, read_expert
from colva.checkpoints.published_names import Dialect, TensorMapping, map_tensors
from colva.checkpoints.save import SHARD_BYTES, new_folder, write_json, write_tensors
from colva.checkpoints.store import Stored
from colva.checkpoints.tokens import copy_tokenizer
from colva.checkpoints.view import CONFIG, PUBLISHED, Checkpoint, check, expected, meta_model, open_checkpoint
from colva.processing.chat_templates import get_template
from mmvm_data.core.errors import UsageError

Tick = Callable[[int, int], None]


@dataclass(frozen=True)
class ConvertOptions:
    """Attributes:
    to: `ours`, or `original` for the layout of the released InternVL2 and CoLVA folders.
    base: the model that a `.pth` or DeepSpeed's shards were trained on.
    expert: an expert to add, see `read_expert`.
    adapter: trained parameters to put in: a `.pth`, an adapter folder, DeepSpeed's shards.
    lora_alpha: for a `.pth` with LoRA.
    template: chat template in place of the one found.
    seed: of a new adapter.
    dtype: of the weights written; None keeps what is stored.
    shard_bytes: size of a shard.
    ignore: patterns (`*` and `?`) of tensors that nothing is known about and that may be left out.
    dry_run: plan and check, write nothing.
    """

    to: Literal["ours", "original"] = "ours"
    base: Path | None = None
    expert: str | None = None
    adapter: Path | None = None
    lora_alpha: float | None = None
    template: str | None = None
    seed: int = 0
    dtype: torch.dtype | None = None
    shard_bytes: int = SHARD_BYTES
    ignore: tuple[str, ...] = ()
    dry_run: bool = False


@dataclass(frozen=True)
class Report:
    """What a conversion did or would do.

    Attributes:
        what: `model`, `original`, `adapter` or `expert`: what the result is.
        tensors: name in the result -> what it is made of.
        unused: name in the source -> why it is not needed.
        notes: what was decided on the way.
        written: False for a dry run.
    """

    what: Literal["model", "original", "adapter", "expert"]
    tensors: dict[str, Stored]
    unused: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    written: bool = True


def convert(
    source: Path,
    destination: Path,
    options: ConvertOptions | None = None,
    tick: Tick = lambda done, of: None,
) -> Report:
    """Convert a checkpoint.

    A model's folder becomes a folder of ours, or with `to="original"` the other way round; a `.pth` or DeepSpeed's
    shards become an adapter folder for their base; an expert by itself becomes a folder that `expert=` takes.

    Raises:
        CheckpointError: tensors missing, unexpected, or of another shape: nothing is written.
        InputError: the source is damaged or not known.
        UsageError: options that contradict the source, a destination that exists.
        OutputError: the disk is full or read-only.
    """
    options = options or ConvertOptions()
    if is_adapter(source):
        raise UsageError(f"{source}: is an adapter folder of ours already; colva merge folds it into its model")
    if is_expert(source):
        return _convert_expert(source, destination, options, tick)
    if is_delta(source):
        return _convert_delta(source, destination, options, tick)
    _without(options, "base", "is for a .pth or DeepSpeed's shards; for a model give adapter")
    found = _plan(source, options)
    if options.to == "original":
        return _write_original(found, destination, options, tick)
    return _write_ours(found, destination, options, tick)


def merge(
    source: Path,
    destination: Path,
    options: ConvertOptions | None = None,
    tick: Tick = lambda done, of: None,
) -> Report:
    """Fold an adapter folder, a `.pth` or DeepSpeed's shards into their model, and write the whole of it.

    Args:
        source: what was trained.
        options: `base` where the source does not name it; `to="original"` for the released layout.

    Raises:
        as `convert`; UsageError when nobody says the base or LoRA's alpha.
    """
    options = options or ConvertOptions()
    if not is_delta(source):
        raise UsageError(f"{source}: expected an adapter folder, a .pth or DeepSpeed's shards")
    base = options.base or read_delta(source, options.lora_alpha).base_folder()
    return convert(base, destination, replace(options, base=None, adapter=source), tick)


def _plan(source: Path, options: ConvertOptions) -> Checkpoint:
    """The checkpoint as ours, with expert and trained parameters put in, and checked."""
    found = open_checkpoint(source)
    if options.template is not None:
        try:
            get_template(options.template)
        except ValueError as error:
            raise UsageError(str(error)) from error
        found.config.template = options.template
    if options.expert is not None:
        attach(found, read_expert(options.expert), options.seed)
    ignored = [name for name in found.unknown if any(fnmatch.fnmatchcase(name, p) for p in options.ignore)]
    model = check(found, ignore=ignored)
    found.unused |= dict.fromkeys(ignored, "ignored as asked")
    if options.adapter is not None:
        delta = resolve(read_delta(options.adapter, options.lora_alpha), model)
        fold(found, delta)
        if any(name.startswith("adapter.") for name in delta.whole):
            found.notes = [note for note in found.notes if not note.startswith("adapter new")]
        found.notes.append(_said(delta, options.adapter))
    found.tensors = {name: _cast(found.tensors[name], options.dtype) for name in expected(model)}
    return found


def _said(delta: Resolved, source: Path) -> str:
    parts = []
    if delta.whole:
        parts.append(f"{len(delta.whole)} tensors replaced")
    if delta.lora:
        one = next(iter(delta.lora.values()))
        parts.append(f"LoRA folded into {len(delta.lora)} (rank {one.a.shape[0]}, scale {one.scale:g})")
    return f"{source.name}: " + ", ".join(parts)


def _cast(stored: Stored, dtype: torch.dtype | None) -> Stored:
    if dtype is None or not stored.dtype.is_floating_point:
        return stored
    return replace(stored, dtype=dtype, read=lambda: stored.read().to(dtype))


def _write_ours(found: Checkpoint, destination: Path, options: ConvertOptions, tick: Tick) -> Report:
    report = Report("model", found.tensors, found.unused, tuple(found.notes), not options.dry_run)
    if options.dry_run:
        return report
    with new_folder(destination) as folder:
        write_json(folder / CONFIG, model_config(found))
        if found.published is not None:
            write_json(folder / PUBLISHED, found.published)
        if found.tokenizer is not None:
            found.tokenizer.save_pretrained(folder)
        _write(folder, found.tensors, options, tick)
    return report


def model_config(found: Checkpoint) -> dict[str, Any]:
    """The content of config.json of a folder of ours."""
    dtypes = {stored.dtype for stored in found.tensors.values() if stored.dtype.is_floating_point}
    config = found.config.to_dict() | {"architectures": ["ColvaModel"]}
    config.pop("_name_or_path", None)
    if len(dtypes) == 1:
        config["dtype"] = str(dtypes.pop()).removeprefix("torch.")
    return config


def _write_original(found: Checkpoint, destination: Path, options: ConvertOptions, tick: Tick) -> Report:
    published, dialect = _original_config(found)
    model = meta_model(found.config)
    listed = map_tensors(expected(model), found.config.backbone_config, dialect)
    tensors = {other: _joined(tie, found.tensors) for other, tie in listed.items()}
    report = Report("original", tensors, found.unused, tuple(found.notes), not options.dry_run)
    if options.dry_run:
        return report
    with new_folder(destination) as folder:
        write_json(folder / CONFIG, published)
        if found.tokenizer is not None:
            found.tokenizer.save_pretrained(folder)
        _write(folder, tensors, options, tick)
    return report


def _original_config(found: Checkpoint) -> tuple[dict[str, Any], Dialect]:
    """The published configuration if it was kept and still says this model, else one made anew."""
    kept = found.published
    vocabulary = found.config.backbone_config.get_text_config().vocab_size
    wanted = expected(meta_model(found.config))
    if kept is not None and isinstance(kept.get("llm_config"), dict):
        kept = kept | {"llm_config": kept["llm_config"] | {"vocab_size": vocabulary}, "template": found.config.template}
        if expected(meta_model(to_colva_config(kept, found.path / PUBLISHED))) == wanted:
            return kept, "internlm2" if kept["llm_config"].get("model_type") == "internlm2" else "internvl"
    try:
        made = to_original_config(found.config, "internvl")
    except ValueError as error:
        raise UsageError(f"{found.path}: {error}") from error
    if expected(meta_model(to_colva_config(made, found.path / CONFIG))) != wanted:
        raise UsageError(f"{found.path}: the original layout cannot say this model's configuration")
    return made, "internvl"


def _joined(tie: TensorMapping, tensors: dict[str, Stored]) -> Stored:
    parts = [tensors[name] for name in tie.ours]
    if tie.rows is None:
        return replace(parts[0], sources=tie.ours)

    def read() -> Tensor:
        return tie.join([part.read() for part in parts])

    rows = sum(part.shape[0] for part in parts)
    return Stored((rows, *parts[0].shape[1:]), parts[0].dtype, read, tie.ours)


def _convert_expert(source: Path, destination: Path, options: ConvertOptions, tick: Tick) -> Report:
    for name in ("base", "expert", "adapter", "lora_alpha", "template"):
        _without(options, name, f"is for a model, but {source} is an expert by itself")
    expert: ExpertWeights = read_expert(source)
    tensors = {name: _cast(stored, options.dtype) for name, stored in expert.tensors.items()}
    report = Report("expert", tensors, expert.unused, (f"expert {expert.config['kind']}",), not options.dry_run)
    if options.dry_run:
        return report
    config: dict[str, Any] = {"model_type": MODEL_TYPE, "expert": expert.config}
    if expert.radio_config is not None:
        config["radio_config"] = expert.radio_config
    with new_folder(destination) as folder:
        write_json(folder / CONFIG, config)
        _write(folder, tensors, options, tick)
    return report


def _convert_delta(source: Path, destination: Path, options: ConvertOptions, tick: Tick) -> Report:
    for name in ("expert", "adapter", "template"):
        _without(options, name, f"is for a model, but {source} is what was trained on one")
    if options.base is None:
        raise UsageError(f"{source}: say the model that it was trained on (base=, --base)")
    base = open_checkpoint(options.base)
    model = meta_model(base.config)
    delta = resolve(read_delta(source, options.lora_alpha), model)
    tensors = {
        name: Stored(tuple(t.shape), t.dtype, lambda t=t: t, (delta.sources[name],))  # type: ignore[misc]
        for name, t in delta.whole.items()
    }
    for name, one in delta.lora.items():
        shape = (one.b.shape[0], one.a.shape[1])
        tensors[name] = Stored(shape, one.b.dtype, one.added, (delta.sources[name],))
    report = Report("adapter", tensors, notes=(f"base {options.base}",), written=not options.dry_run)
    if options.dry_run:
        return report
    with new_folder(destination) as folder:
        write_adapter(folder, model, delta, os.path.relpath(options.base.resolve(), destination.resolve()))
        copy_tokenizer(options.base, folder)
        tick(len(tensors), len(tensors))
    return report


def _write(folder: Path, tensors: dict[str, Stored], options: ConvertOptions, tick: Tick) -> None:
    write_tensors(folder, tensors, options.shard_bytes, tick=lambda done: tick(done, len(tensors)))


def _without(options: ConvertOptions, name: str, why: str) -> None:
    if getattr(options, name) is not None:
        raise UsageError(f"--{name.replace('_', '-')} {why}")
