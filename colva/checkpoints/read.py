"""Read a checkpoint folder of any known layout, without reading a tensor yet."""

from __future__ import annotations

from pathlib import Path

import torch

from colva.checkpoints.checkpoint import (
    CONFIG,
    PUBLISHED_CONFIG,
    Checkpoint,
    embedding_name,
    expected_shapes,
    has_tied_head,
    head_name,
    meta_model,
    resize_embeddings,
)
from colva.checkpoints.configs import detect_layout, image_options, to_colva_config
from colva.checkpoints.lazy_tensors import LazyTensor, open_tensor_folder
from colva.checkpoints.published_names import TensorMapping, map_tensors, skip_reason, upgrade_key
from colva.checkpoints.tokenizers import add_object_token, has_tokenizer, read_tokenizer, token_id
from colva.model.backbones import backbone_class
from colva.model.colva import ColvaModel
from colva.processing.image_processors import build_image_processor
from colva.processing.tokens import OBJECT
from mmvm_data.core.errors import InputError, first_line
from mmvm_data.core.options import OptionError
from mmvm_data.io.files import path_kind
from mmvm_data.io.json_files import read_json_object


def open_checkpoint(path: Path) -> Checkpoint:
    """Read a folder's configuration, tokenizer and tensor headers.

    Args:
        path: a CoLVA folder, an original InternVL or CoLVA folder, or one of transformers.

    Raises:
        InputError: it is none of these, or a file is damaged.
    """
    if path_kind(path) != "folder":
        raise InputError(path, "expected a folder with config.json, found " + path_kind(path))
    file = path / CONFIG
    published = read_json_object(file)
    layout = detect_layout(published, file)
    config = to_colva_config(published, file)
    try:
        backbone_class(config.backbone_config)
    except (ValueError, AttributeError) as error:
        raise InputError(file, str(error), "model_type") from error
    preprocessor = path / "preprocessor_config.json"
    if layout == "transformers" and path_kind(preprocessor) == "file":
        config.pictures = image_options(config.backbone_config.model_type, read_json_object(preprocessor), preprocessor)
    tokenizer = read_tokenizer(path) if has_tokenizer(path) else None
    checkpoint = Checkpoint(config, {}, path, layout, None if layout == "colva" else published, tokenizer=tokenizer)
    if layout == "colva" and path_kind(path / PUBLISHED_CONFIG) == "file":
        checkpoint.published = read_json_object(path / PUBLISHED_CONFIG)
    try:
        model = meta_model(config)
    except (TypeError, ValueError, AttributeError, KeyError, ZeroDivisionError) as error:
        # values that transformers does not check before it computes with them
        raise InputError(file, f"no network can be built from it: {' '.join(str(error).split()):.200}") from error
    try:
        build_image_processor(config.backbone_config, config.pictures)
    except (TypeError, ValueError, AttributeError, KeyError, IndexError, ZeroDivisionError) as error:
        reason = error.reason if isinstance(error, OptionError) else first_line(error)
        raise InputError(file, f"its images cannot be prepared: {reason}", "pictures") from error
    _assign_tensors(checkpoint, open_tensor_folder(path), model)
    if tokenizer is not None:
        _register_tokens(checkpoint, model)
    return checkpoint


def _assign_tensors(checkpoint: Checkpoint, folder_tensors: dict[str, LazyTensor], model: ColvaModel) -> None:
    """Fill in `tensors`, `unused` and `unknown` from the tensors of a folder."""
    backbone_config, layout = checkpoint.config.backbone_config, checkpoint.layout
    mappings = map_tensors(expected_shapes(model), backbone_config, layout)
    is_tied = has_tied_head(model)
    published_head = next(iter(map_tensors([head_name(model)], backbone_config, layout)))
    for published_name, stored in folder_tensors.items():
        name = published_name
        if layout == "transformers":
            name = upgrade_key(published_name, backbone_config.model_type)
        mapping = mappings.get(name)
        if mapping is not None:
            if mapping.names[0] in checkpoint.tensors:
                raise InputError(checkpoint.path, f"two tensors for {mapping.names[0]}, one of them {published_name}")
            checkpoint.tensors |= _split_tensor(mapping, stored)
        elif is_tied and name == published_head:
            checkpoint.unused[published_name] = "tied to the embeddings"
            _check_tied_head(checkpoint, stored, embedding_name(model))
        elif reason := skip_reason(name):
            checkpoint.unused[published_name] = reason
        else:
            checkpoint.unknown.append(published_name)


def _check_tied_head(checkpoint: Checkpoint, head: LazyTensor, embeddings_name: str) -> None:
    embeddings = checkpoint.tensors.get(embeddings_name)
    if embeddings is not None and not torch.equal(head.read(), embeddings.read()):
        raise InputError(
            checkpoint.path, f"{head.sources[0]} is not the embeddings, though the configuration ties it to them"
        )


def _split_tensor(mapping: TensorMapping, stored: LazyTensor) -> dict[str, LazyTensor]:
    """Return a published tensor as the model's; a fused one is read once for each part."""
    if mapping.rows is None:
        return {mapping.names[0]: stored}
    num_rows = sum(len(rows) for rows in mapping.rows)
    if not stored.shape or stored.shape[0] != num_rows:
        # it cannot be split; all of it for each part, so that the check of the shapes reports it
        return dict.fromkeys(mapping.names, stored)
    return {
        name: LazyTensor(
            (len(rows), *stored.shape[1:]),
            stored.dtype,
            lambda rows=rows: stored.read()[rows],  # type: ignore[misc]
            stored.sources,
        )
        for name, rows in zip(mapping.names, mapping.rows, strict=True)
    }


def _register_tokens(checkpoint: Checkpoint, model: ColvaModel) -> None:
    """Find or add the image token and the object token, and give them embeddings."""
    assert checkpoint.tokenizer is not None
    config = checkpoint.config
    image_token = backbone_class(config.backbone_config).image_wrap[1]
    image_id = token_id(checkpoint.tokenizer, image_token)
    if image_id is None:
        raise InputError(checkpoint.path, f"its tokenizer has no image token {image_token}")
    object_id, is_new = add_object_token(checkpoint.tokenizer)
    if checkpoint.layout == "colva" and is_new:
        raise InputError(checkpoint.path, f"its tokenizer has no {OBJECT}")
    for name, value in (("image_token_id", image_id), ("object_token_id", object_id)):
        known = getattr(config, name)
        if known is not None and known != value:
            raise InputError(checkpoint.path / CONFIG, f"expected {value} as in the tokenizer, found {known}", name)
        setattr(config, name, value)
    if hasattr(config.backbone_config, "image_token_id"):
        config.backbone_config.image_token_id = image_id
    if is_new:
        checkpoint.notes.append(f"{OBJECT} added to the vocabulary as token {object_id}")
    rows = config.backbone_config.get_text_config().vocab_size
    required_rows = max(object_id, image_id) + 1
    if required_rows > rows:
        if checkpoint.layout == "colva":
            raise InputError(checkpoint.path, f"{rows} embeddings for token {required_rows - 1} of its tokenizer")
        resize_embeddings(checkpoint, model, required_rows)
