"""A checkpoint of any known layout as ours: its configuration, and each tensor of ours with where it comes from."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from accelerate import init_empty_weights
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from colva.checkpoints.configs import dialect_of, picture_options, to_colva_config
from colva.checkpoints.published_names import Dialect, TensorMapping, map_tensors, skip_reason, upgrade_key
from colva.checkpoints.store import Stored, open_folder, read_json
from colva.checkpoints.tokens import has_tokenizer, read_tokenizer, token_id, with_object_token
from colva.model.backbones import backbone_class
from colva.model.colva import ColvaModel
from colva.model.config import ColvaConfig
from colva.processing.tokens import OBJECT
from mmvm_data.core.errors import InputError
from mmvm_data.io.files import path_kind

CONFIG = "config.json"
PUBLISHED = "published_config.json"
"""The configuration that a converted folder had, kept beside ours so that the way back is exact."""

_SHOWN = 12


class CheckpointError(InputError):
    """Tensors that do not fit the configuration.

    Attributes:
        missing: names that the model has and the checkpoint lacks.
        unexpected: names that the checkpoint has and nothing is known to be for.
        mismatched: name -> (shape expected, shape found).
    """

    def __init__(
        self,
        file: str | Path,
        missing: list[str],
        unexpected: list[str],
        mismatched: dict[str, tuple[tuple[int, ...], tuple[int, ...]]],
    ) -> None:
        self.missing, self.unexpected, self.mismatched = missing, unexpected, mismatched
        lines = [
            *_listed("missing", missing),
            *_listed("unexpected", unexpected),
            *_listed(
                "of another shape",
                [f"{name}: expected {list(want)}, found {list(have)}" for name, (want, have) in mismatched.items()],
            ),
        ]
        super().__init__(file, "the tensors are not those that the configuration asks for\n" + "\n".join(lines))

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.file, self.missing, self.unexpected, self.mismatched)


@dataclass
class Checkpoint:
    """Attributes:
    config: ours.
    tensors: of ours by name, as far as there are any; `check` says whether they are complete.
    path: the folder it came from.
    dialect: whose names the folder has.
    published: the folder's configuration, when it is not ours.
    unused: published names that are not needed -> why.
    unknown: published names that nothing is known about.
    tokenizer: with `<VPT_CONTEXT>`; None when the folder has none.
    notes: what was decided on the way, a sentence each.
    """

    config: ColvaConfig
    tensors: dict[str, Stored]
    path: Path
    dialect: Dialect
    published: dict[str, Any] | None = None
    unused: dict[str, str] = field(default_factory=dict)
    unknown: list[str] = field(default_factory=list)
    tokenizer: PreTrainedTokenizerFast | None = None
    notes: list[str] = field(default_factory=list)


def meta_model(config: ColvaConfig) -> ColvaModel:
    """The model without weights: parameters on the meta device, buffers that are not saved real. In eval mode."""
    with init_empty_weights(include_buffers=False):
        return ColvaModel(config).eval()


def expected(model: ColvaModel) -> dict[str, tuple[int, ...]]:
    """Names and shapes of what a checkpoint of this model holds; a head tied to the embeddings is not saved."""
    tied = head_name(model) if is_tied(model) else None
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items() if name != tied}


def is_tied(model: ColvaModel) -> bool:
    """Whether the head's weight is that of the embeddings."""
    return bool(model.backbone.config.get_text_config().tie_word_embeddings)


def embedding_name(model: ColvaModel) -> str:
    """Name of the token embeddings."""
    return _weight_name(model, model.get_input_embeddings())


def head_name(model: ColvaModel) -> str:
    """Name of the head's weight."""
    return _weight_name(model, model.get_output_embeddings())


def _weight_name(model: ColvaModel, module: torch.nn.Module) -> str:
    return next(name for name, found in model.named_modules() if found is module) + ".weight"


def open_checkpoint(path: Path) -> Checkpoint:
    """Read a folder's configuration and headers; no tensor yet.

    Args:
        path: ours, an original InternVL or CoLVA folder, or one of transformers.

    Raises:
        InputError: it is none of these, or a file is damaged.
    """
    if path_kind(path) != "folder":
        raise InputError(path, "expected a folder with config.json, found " + path_kind(path))
    file = path / CONFIG
    published = read_json(file)
    dialect = dialect_of(published, file)
    config = to_colva_config(published, file)
    try:
        backbone_class(config.backbone_config)
    except (ValueError, AttributeError) as error:
        raise InputError(file, str(error), "model_type") from error
    preparation = path / "preprocessor_config.json"
    if dialect == "native" and path_kind(preparation) == "file":
        model_type = config.backbone_config.model_type
        config.pictures = picture_options(model_type, read_json(preparation), preparation)
    tokenizer = read_tokenizer(path) if has_tokenizer(path) else None
    found = Checkpoint(config, {}, path, dialect, None if dialect == "ours" else published, tokenizer=tokenizer)
    if dialect == "ours" and path_kind(path / PUBLISHED) == "file":
        found.published = read_json(path / PUBLISHED)
    model = meta_model(config)
    stored = open_folder(path)
    translate(found, stored, model)
    if tokenizer is not None:
        _know_tokens(found, model)
    return found


def translate(found: Checkpoint, stored: dict[str, Stored], model: ColvaModel) -> None:
    """Fill in `tensors`, `unused` and `unknown` from what a folder holds."""
    names = expected(model)
    whole = map_tensors(names, found.config.backbone_config, found.dialect)
    head, embeddings = head_name(model), embedding_name(model)
    tied = is_tied(model)
    for other, one in stored.items():
        name = other
        if found.dialect == "native":
            name = upgrade_key(other, found.config.backbone_config.model_type)
        tie = whole.get(name)
        if tie is not None:
            if tie.ours[0] in found.tensors:
                raise InputError(found.path, f"two tensors for {tie.ours[0]}, one of them {other}")
            found.tensors |= split(tie, one)
        elif tied and name == next(iter(map_tensors([head], found.config.backbone_config, found.dialect))):
            found.unused[other] = "tied to the embeddings"
            _same(found, one, embeddings)
        elif reason := skip_reason(name):
            found.unused[other] = reason
        else:
            found.unknown.append(other)


def _same(found: Checkpoint, head: Stored, embeddings: str) -> None:
    other = found.tensors.get(embeddings)
    if other is not None and not torch.equal(head.read(), other.read()):
        raise InputError(
            found.path, f"{head.sources[0]} is not the embeddings, though the configuration ties it to them"
        )


def split(tie: TensorMapping, stored: Stored) -> dict[str, Stored]:
    """A published tensor as ours; a fused one is read once for each part."""
    if tie.rows is None:
        return {tie.ours[0]: stored}
    wanted = sum(len(rows) for rows in tie.rows)
    if not stored.shape or stored.shape[0] != wanted:
        # no part can be taken; give all of it, so that the shapes tell
        return dict.fromkeys(tie.ours, stored)
    return {
        name: Stored(
            (len(rows), *stored.shape[1:]),
            stored.dtype,
            lambda rows=rows: stored.read()[rows],  # type: ignore[misc]
            stored.sources,
        )
        for name, rows in zip(tie.ours, tie.rows, strict=True)
    }


def _know_tokens(found: Checkpoint, model: ColvaModel) -> None:
    """Find or add the tokens for pictures and objects, and make room for them."""
    assert found.tokenizer is not None
    config = found.config
    image = backbone_class(config.backbone_config).image_wrap[1]
    image_id = token_id(found.tokenizer, image)
    if image_id is None:
        raise InputError(found.path, f"its tokenizer has no {image}, which stands for a picture")
    object_id, added = with_object_token(found.tokenizer)
    if found.dialect == "ours" and added:
        raise InputError(found.path, f"its tokenizer has no {OBJECT}")
    for name, value in (("image_token_id", image_id), ("object_token_id", object_id)):
        known = getattr(config, name)
        if known is not None and known != value:
            raise InputError(found.path / CONFIG, f"expected {value} as in the tokenizer, found {known}", name)
        setattr(config, name, value)
    if hasattr(config.backbone_config, "image_token_id"):
        config.backbone_config.image_token_id = image_id
    if added:
        found.notes.append(f"{OBJECT} added to the vocabulary as token {object_id}")
    rows = config.backbone_config.get_text_config().vocab_size
    wanted = max(object_id, image_id) + 1
    if wanted > rows:
        if found.dialect == "ours":
            raise InputError(found.path, f"{rows} embeddings for token {wanted - 1} of its tokenizer")
        grow(found, model, wanted)


def grow(found: Checkpoint, model: ColvaModel, rows: int) -> None:
    """Give embeddings and head so many rows. A new one is the mean of the old ones, which favours no token; that of
    `<VPT_CONTEXT>` is never read, since an object's embedding takes its place."""
    text = found.config.backbone_config.get_text_config()
    old = text.vocab_size
    for name in {embedding_name(model), head_name(model)}:
        stored = found.tensors.get(name)
        if stored is not None and stored.shape[0] == old:
            found.tensors[name] = replace(
                stored,
                shape=(rows, *stored.shape[1:]),
                read=lambda stored=stored: _grown(stored.read(), rows),  # type: ignore[misc]
            )
    text.vocab_size = rows
    if "vocab_size" in found.config.backbone_config.__dict__:
        found.config.backbone_config.vocab_size = rows
    found.notes.append(f"embeddings and head grown from {old} to {rows} rows; new rows are the mean of the old")


def _grown(tensor: Tensor, rows: int) -> Tensor:
    mean = tensor.float().mean(dim=0, keepdim=True).to(tensor.dtype)
    return torch.cat([tensor, mean.expand(rows - len(tensor), *tensor.shape[1:])])


def check(found: Checkpoint, model: ColvaModel | None = None, ignore: Iterable[str] = ()) -> ColvaModel:
    """Refuse a checkpoint that is not exactly what its configuration asks for; gives the empty model otherwise.

    Args:
        ignore: published names that are left out although nothing is known about them.

    Raises:
        CheckpointError: tensors missing, unexpected, or of another shape.
    """
    if model is None:
        model = meta_model(found.config)
    names = expected(model)
    left_out = set(ignore)
    mismatched = {
        name: (shape, found.tensors[name].shape)
        for name, shape in names.items()
        if name in found.tensors and found.tensors[name].shape != shape
    }
    missing = [name for name in names if name not in found.tensors]
    unexpected = [name for name in found.unknown if name not in left_out]
    unexpected += [name for name in found.tensors if name not in names]
    if missing or mismatched or unexpected:
        raise CheckpointError(found.path, missing, unexpected, mismatched)
    return model


def _listed(what: str, names: list[str]) -> list[str]:
    if not names:
        return []
    more = [f"    and {len(names) - _SHOWN} more"] if len(names) > _SHOWN else []
    return [f"  {what} ({len(names)}):", *(f"    {name}" for name in names[:_SHOWN]), *more]
