"""`colva.load`: a model from a checkpoint folder of any known layout."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast

from colva.checkpoints.adapters import apply_weights
from colva.checkpoints.checkpoint import Checkpoint, check_tensors, has_tied_head
from colva.checkpoints.read import open_checkpoint
from colva.checkpoints.tokenizers import token_id
from colva.checkpoints.trained_weights import is_adapter_folder, read_trained_weights
from colva.model.backbones import backbone_class
from colva.model.colva import ColvaModel
from colva.model.config import ColvaConfig
from colva.model.experts import build_expert
from colva.processing.chat_templates import get_template
from colva.processing.collator import Processor
from colva.processing.image_processors import build_image_processor
from colva.processing.tokens import Vocabulary
from mmvm_data.core.errors import UsageError
from mmvm_data.core.options import OptionError


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
    """Return a model in eval mode.

    Args:
        path: a CoLVA folder; an original InternVL or CoLVA folder, or one of transformers (InternVL, Qwen-VL, LLaVA),
            whose tensor names are mapped in memory; or an adapter folder, which is applied to the model it names.
        dtype: of the parameters, such as torch.bfloat16 or "bfloat16"; None keeps the stored one.
        device: None is the CPU, "auto" a GPU if there is one.
        image_token_id, object_token_id: for a folder without a tokenizer.
        adapter: an adapter folder or an mmengine `.pth`, applied on top.
        lora_alpha: for a `.pth` with LoRA, which does not hold it (an adapter folder does).
        merge: add LoRA to the weights instead of injecting peft's modules.

    Returns:
        The model; `processor` is set when the folder has a tokenizer.

    Raises:
        InputError: a damaged file, or tensors missing, unexpected or of another shape, with a list of them.
        UsageError: LoRA without `lora_alpha`, ids that contradict the tokenizer, an unknown dtype.
    """
    path = Path(path)
    if is_adapter_folder(path):
        if adapter is not None:
            raise UsageError(f"{path}: is an adapter already; give the model as path, and one adapter")
        adapter = path
        path = read_trained_weights(path).base_folder()
    checkpoint = open_checkpoint(path)
    for name, value in (("image_token_id", image_token_id), ("object_token_id", object_token_id)):
        known = getattr(checkpoint.config, name)
        if value is not None and known is not None and value != known:
            raise UsageError(f"{path}: {name} is {known}, got {value}")
        if value is not None:
            setattr(checkpoint.config, name, value)
    model = build_model(checkpoint, _parse_dtype(dtype), _select_device(device))
    if adapter is not None:
        apply_weights(model, read_trained_weights(Path(adapter), lora_alpha), merge)
        model.eval()
    return model


def build_model(
    checkpoint: Checkpoint, dtype: torch.dtype | None = None, device: torch.device | None = None
) -> ColvaModel:
    """Return the model of a checkpoint, in eval mode, with its processor.

    Raises:
        CheckpointError: the tensors do not fit the configuration.
    """
    model = check_tensors(checkpoint)
    if device is None:
        device = torch.device("cpu")
    for name, stored in checkpoint.tensors.items():
        _assign_tensor(model, name, _to_own_memory(stored.read(), dtype, device))
    if has_tied_head(model):
        model.get_output_embeddings().weight = model.get_input_embeddings().weight
    if device.type != "cpu":
        model.to(device)  # the buffers that no checkpoint holds
    if checkpoint.tokenizer is not None:
        processor = make_processor(checkpoint.config, checkpoint.tokenizer)
        model.processor = processor
        eos = token_id(checkpoint.tokenizer, processor.template.end)
        if eos is not None:
            model.generation_config.eos_token_id = eos
            model.generation_config.pad_token_id = processor.pad_id
    return model


def build_model_without_weights(checkpoint: Checkpoint) -> ColvaModel:
    """Return the model of a checkpoint with its parameters, in their stored dtypes, on the meta device.

    Raises:
        CheckpointError: the tensors do not fit the configuration.
    """
    model = check_tensors(checkpoint)
    for name, stored in checkpoint.tensors.items():
        _assign_tensor(model, name, torch.empty(stored.shape, dtype=stored.dtype, device="meta"))
    if has_tied_head(model):
        model.get_output_embeddings().weight = model.get_input_embeddings().weight
    return model


def _parse_dtype(dtype: torch.dtype | str | None) -> torch.dtype | None:
    parsed = getattr(torch, dtype, None) if isinstance(dtype, str) else dtype
    if dtype is not None and not (isinstance(parsed, torch.dtype) and parsed.is_floating_point):
        raise OptionError("dtype", f"must be float32, bfloat16, float16 or float64, got {dtype!r}")
    return parsed


def _select_device(device: str | torch.device | None) -> torch.device:
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(device or "cpu")


def make_processor(config: ColvaConfig, tokenizer: PreTrainedTokenizerFast) -> Processor:
    """Return the processor of conversations for a model of this configuration; needs no weights.

    Raises:
        OptionError: `config.pictures` holds an option that the family does not have.
        ValueError: an unknown chat template or a slow tokenizer.
    """
    family = backbone_class(config.backbone_config)
    pad = tokenizer.pad_token_id
    return Processor(
        vocabulary=Vocabulary(tokenizer, family.image_wrap),
        template=get_template(_template_name(config)),
        image_processor=build_image_processor(
            config.backbone_config, config.pictures, config.prompt_style == "published-eval"
        ),
        expert_side=config.expert_side if config.expert else 0,
        expert_stride=_expert_stride(config),
        threshold=config.mask_threshold,
        prompt_style=config.prompt_layout,
        fill_empty=config.fill_empty,
        pad_id=0 if pad is None else int(pad),
    )


def _template_name(config: ColvaConfig) -> str:
    """Return the chat template; the published evaluation writes InternVL2.5 in the one of InternLM2."""
    if config.prompt_style == "published-eval" and config.template == "internvl2_5":
        return "internlm2-chat"
    return config.template


def _expert_stride(config: ColvaConfig) -> int:
    if config.expert is None:
        return 0
    fields = dict(config.expert)
    with torch.device("meta"):
        return build_expert(fields.pop("kind"), fields).stride


def _to_own_memory(tensor: Tensor, dtype: torch.dtype | None, device: torch.device) -> Tensor:
    if dtype is not None and tensor.is_floating_point():
        tensor = tensor.to(dtype)
    if device.type == "cpu":
        return tensor.clone()  # what was read may be mapped from a file
    return tensor.to(device)


def _assign_tensor(model: nn.Module, name: str, tensor: Tensor) -> None:
    owner, _, leaf = name.rpartition(".")
    module = model.get_submodule(owner)
    if leaf in module._parameters:
        old = module._parameters[leaf]
        module._parameters[leaf] = nn.Parameter(tensor, requires_grad=old is None or old.requires_grad)
    else:
        module._buffers[leaf] = tensor
