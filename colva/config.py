"""Configuration of training: validated options, and the YAML files that hold them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, field
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, TypeAdapter, model_validator

from mmvm_data.core.errors import InputError, UsageError
from mmvm_data.core.options import options
from mmvm_data.io.json_files import MAX_DEPTH
from mmvm_data.io.yaml_files import parse_yaml, read_yaml_file

FINAL_DIR = "final"
"""Folder of a run's trained weights, below its ``output_dir``."""

Share = Annotated[float, Field(ge=0, le=1)]
PositiveInt = Annotated[int, Field(ge=1)]
NonNegativeInt = Annotated[int, Field(ge=0)]
PositiveFloat = Annotated[float, Field(gt=0)]


@options
class OptimizerOptions:
    """AdamW and its learning rate schedule. The defaults are those of both published stages (arXiv 2501.04670).

    Attributes:
        learning_rate: peak learning rate.
        betas: decay rates of AdamW's two moments.
        eps: added to AdamW's denominator.
        weight_decay: not applied to biases and norms.
        warmup_ratio: share of all steps over which the rate rises linearly from 0.
        lr_scheduler_type: shape after the warm-up: cosine to 0, linear to 0, or constant.
        max_grad_norm: gradients are clipped to this norm; 0 disables clipping.
    """

    _: KW_ONLY
    learning_rate: PositiveFloat = 2e-4
    betas: tuple[Share, Share] = (0.9, 0.999)
    eps: PositiveFloat = 1e-8
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    warmup_ratio: Share = 0.03
    lr_scheduler_type: Literal["cosine", "linear", "constant_with_warmup"] = "cosine"
    max_grad_norm: Annotated[float, Field(ge=0)] = 1.0


@options
class TrainerOptions:
    """How a training run is carried out.

    Attributes:
        global_batch_size: items of one optimizer step, over all processes and micro-batches.
        micro_batch_size: items of one forward pass of one process; by default the process's whole share of the batch.
        num_epochs: passes over the data; may be a fraction.
        max_steps: number of optimizer steps; overrides `num_epochs`.
        num_workers: data loading processes per training process; 0 loads in the training process.
        precision: ``bf16`` (automatic mixed precision; trained weights stay in float32) or ``float32``.
        attention: what attends in packed rows of stage 2: ``flash`` (flash-attention 2 or 3), ``flex`` (PyTorch's
            FlexAttention), ``sdpa`` (a loop over the conversations), or ``auto`` for the first that can be used.
        compile: compile the decoder layers of stage 2 with `torch.compile`; not with ZeRO 3.
        gradient_checkpointing: recompute activations in the backward pass to save memory.
        logging_steps: optimizer steps between two lines of the log.
        eval_steps: optimizer steps between two evaluations; 0 evaluates before the first step and at the end only.
        save_steps: optimizer steps between two checkpoints; 0 saves at the end only.
        save_total_limit: number of checkpoints to keep; the oldest are deleted.
        select_by: metric of the evaluations whose best weights are kept in `best` and become the run's result;
            None keeps the last weights.
        early_stopping_patience: stop after so many evaluations in a row that are not better; needs `select_by`.
        report_to: trackers that receive the metrics in addition to `log.jsonl`.
        max_reject_share: the run stops when a larger share of the items is unusable, once 200 were read.
        peak_tflops: peak of one device at this precision, for the model FLOPs utilization (MFU); known GPUs need none.
        timeout_minutes: how long processes wait for each other before the run fails.
    """

    _: KW_ONLY
    global_batch_size: PositiveInt = 64
    micro_batch_size: PositiveInt | None = None
    num_epochs: PositiveFloat = 1.0
    max_steps: PositiveInt | None = None
    num_workers: NonNegativeInt = 2
    precision: Literal["bf16", "float32"] = "bf16"
    attention: Literal["auto", "flash", "flex", "sdpa"] = "auto"
    compile: bool = False
    gradient_checkpointing: bool = False
    logging_steps: PositiveInt = 10
    eval_steps: NonNegativeInt = 0
    save_steps: NonNegativeInt = 1000
    save_total_limit: PositiveInt = 2
    select_by: Literal["accuracy", "loss"] | None = None
    early_stopping_patience: PositiveInt | None = None
    report_to: tuple[Literal["tensorboard", "wandb"], ...] = ()
    max_reject_share: Share = 0.2
    peak_tflops: PositiveFloat | None = None
    timeout_minutes: PositiveFloat = 30.0

    @model_validator(mode="after")
    def _check_selection(self) -> TrainerOptions:
        if self.early_stopping_patience is not None and self.select_by is None:
            raise ValueError("early_stopping_patience needs select_by: accuracy or loss")
        return self


@options
class TrainConfig:
    """Configuration that all stages share; each stage adds its own options.

    Attributes:
        stage: a key of `colva.training.run.STAGES`.
        model: folder of the model to train.
        output_dir: folder of the run: checkpoints, logs, and at the end the trained weights.
        seed: of the data order, augmentation and new weights.
        optimizer: see `OptimizerOptions`.
        trainer: see `TrainerOptions`.
    """

    _: KW_ONLY
    stage: str
    model: Path
    output_dir: Path
    seed: int = 0
    optimizer: OptimizerOptions = field(default_factory=OptimizerOptions)
    trainer: TrainerOptions = field(default_factory=TrainerOptions)


def read_yaml(path: Path, changes: Sequence[str] = ()) -> dict[str, Any]:
    """The content of a YAML file, with changes applied.

    Args:
        path: the file; its top level must be a mapping.
        changes: `a.b=value` with the value in YAML; integers in the key index lists.

    Raises:
        InputError: the file cannot be read, or is not a mapping.
        UsageError: a change is malformed or does not apply to the content.
    """
    content = read_yaml_file(path)
    if not isinstance(content, dict):
        raise InputError(path, f"must be a mapping of option names to values, got {type(content).__name__}")
    for change in changes:
        _apply_change(content, change)
    return content


def dump_config(config: Any) -> str:
    """A configuration as YAML that `parse_config` reads back."""
    text: str = yaml.safe_dump(to_plain(config), sort_keys=False, allow_unicode=True)
    return text


def to_plain(config: Any) -> Any:
    """A configuration as dicts, lists, strings and numbers."""
    return TypeAdapter(type(config)).dump_python(config, mode="json")


def _apply_change(content: dict[str, Any], change: str) -> None:
    key, equals, text = change.partition("=")
    parts = key.strip().split(".")
    if not equals or not all(parts):
        raise UsageError(f"--set {_shorten(change)}: expected key=value, such as trainer.global_batch_size=32")
    if len(parts) > MAX_DEPTH:
        raise UsageError(f"--set {_shorten(change)}: more than {MAX_DEPTH} levels")
    try:
        value = parse_yaml(text, "--set")
    except InputError as error:
        raise UsageError(f"--set {_shorten(change)}: the value is {error.reason:.200}") from error
    node: Any = content
    for depth, part in enumerate(parts):
        is_last = depth == len(parts) - 1
        parent = ".".join(parts[:depth])
        if isinstance(node, list):
            if not part.isdigit() or int(part) >= len(node):
                raise UsageError(f"--set {change}: {parent} is a list of {len(node)}; expected an index below that")
            index: Any = int(part)
        elif isinstance(node, dict):
            index = part
            if not is_last and node.get(index) is None:
                node[index] = {}
        else:
            raise UsageError(f"--set {change}: {parent} is {node!r:.40}, which has no keys")
        if is_last:
            node[index] = value
        else:
            node = node[index]


def _shorten(change: str) -> str:
    return change if len(change) <= 80 else f"{change[:79]}…"
