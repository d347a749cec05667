"""`colva.load`: a model from a folder of any known layout."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast

from colva.checkpoints.adapters import apply, is_adapter, read_delta
from colva.checkpoints.tokens import token_id
from colva.checkpoints.view import Checkpoint, check, is_tied, open_checkpoint
from colva.model.backbones import backbone_class
from colva.model.colva import ColvaModel
from colva.model.config import ColvaConfig
from colva.model.experts import build
from colva.processing.chat_templates import get_template
from colva.processing.collator import Processor
from colva.processing.image_processors import build_image_processor
from colva.processing.tokens import Vocabulary
from mmvm_data.core.errors import UsageError


def load(
    path: str | Path,
    *,
    dtype: torch.dtype | str | None = None,
    device: str | torch.device | None = None,
    image_token_id: int | None = None,
    object_token_id: int | None = None,
    adapter: str | Path | None = None,
    lora_alpha: float | None = None,
    merge: bool = False,
) -> ColvaModel:
    """A model in eval mode.

    Args:
        path: a folder of ours; an original InternVL or CoLVA folder, or one of transformers (InternVL, Qwen-VL,
            LLaVA), whose names are mapped in memory; or an adapter folder, which is applied to the model it names.
        dtype: of the parameters, such as torch.bfloat16 or "bfloat16"; None keeps what is stored.
        device: where to; None is the CPU, "auto" a GPU if there is one.
        image_token_id, object_token_id: for a folder that comes without a tokenizer.
        adapter: an adapter folder or an mmengine `.pth`, applied on top.
        lora_alpha: for a `.pth` with LoRA, which does not hold it (an adapter folder does).
        merge: fold LoRA into the weights instead of leaving peft's modules in place.

    Returns:
        The model; `processor` is set when there is a tokenizer.

    Raises:
        InputError: a damaged file, or tensors missing, unexpected or of another shape, with a list of them.
        UsageError: LoRA without `lora_alpha`, ids that contradict the tokenizer.
    """
    path = Path(path)
    if is_adapter(path):
        if adapter is not None:
            raise UsageError(f"{path}: is an adapter already; give the model as path, and one adapter")
        adapter = path
        path = read_delta(path).base_folder()
    found = open_checkpoint(path)
    for name, given in (("image_token_id", image_token_id), ("object_token_id", object_token_id)):
        known = getattr(found.config, name)
        if given is not None and known is not None and given != known:
            raise UsageError(f"{path}: {name} is {known}, but {given} was given")
        if given is not None:
            setattr(found.config, name, given)
    model = build_model(found, _dtype(dtype), _device(device))
    if adapter is not None:
        apply(model, read_delta(Path(adapter), lora_alpha), merge)
        model.eval()
    return model


def build_model(found: Checkpoint, dtype: torch.dtype | None = None, device: torch.device | None = None) -> ColvaModel:
    """The model of a checkpoint, in eval mode, with its processor; InputError when the tensors do not fit."""
    model = check(found)
    if device is None:
        device = torch.device("cpu")
    for name, stored in found.tensors.items():
        _put(model, name, _placed(stored.read(), dtype, device))
    if is_tied(model):
        model.get_output_embeddings().weight = model.get_input_embeddings().weight
    if device.type != "cpu":
        model.to(device)  # what is left are buffers
    if found.tokenizer is not None:
        model.processor = make_processor(found.config, found.tokenizer)
        eos = token_id(found.tokenizer, model.processor.template.end)
        if eos is not None:
            model.generation_config.eos_token_id = eos
            model.generation_config.pad_token_id = model.processor.pad_id
    return model


def _dtype(given: torch.dtype | str | None) -> torch.dtype | None:
    found = getattr(torch, given, None) if isinstance(given, str) else given
    if found is not None and not (isinstance(found, torch.dtype) and found.is_floating_point):
        found = None
    if found is None and given is not None:
        raise UsageError(f"dtype {given!r}: expected float32, bfloat16, float16 or float64")
    return found


def _device(given: str | torch.device | None) -> torch.device:
    if given == "auto":
        given = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(given or "cpu")


def make_processor(config: ColvaConfig, tokenizer: PreTrainedTokenizerFast) -> Processor:
    """What prepares conversations for a model of this configuration; needs no weights."""
    family = backbone_class(config.backbone_config)
    pad = tokenizer.pad_token_id
    return Processor(
        vocabulary=Vocabulary(tokenizer, family.image_wrap),
        template=get_template(config.template),
        image_processor=build_image_processor(config.backbone_config, config.pictures),
        expert_side=config.expert_side if config.expert else 0,
        expert_stride=_stride(config),
        threshold=config.mask_threshold,
        prompt_style=config.prompt_style,
        pad_id=0 if pad is None else int(pad),
    )


def _stride(config: ColvaConfig) -> int:
    if config.expert is None:
        return 0
    fields = dict(config.expert)
    with torch.device("meta"):
        return build(fields.pop("kind"), fields).stride


def _placed(tensor: Tensor, dtype: torch.dtype | None, device: torch.device) -> Tensor:
    if dtype is not None and tensor.is_floating_point():
        tensor = tensor.to(dtype)
    if device.type == "cpu":
        return tensor.clone()  # of its own: what was read may be mapped from a file
    return tensor.to(device)


def _put(model: nn.Module, name: str, tensor: Tensor) -> None:
    owner, _, leaf = name.rpartition(".")
    module = model.get_submodule(owner)
    if leaf in module._parameters:
        old = module._parameters[leaf]
        module._parameters[leaf] = nn.Parameter(tensor, requires_grad=old is None or old.requires_grad)
    else:
        module._buffers[leaf] = tensor
