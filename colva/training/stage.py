"""The interface between a stage and the engine: a model, its data, a step, and how its weights are stored."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor, nn

from mmvm_data.core.errors import Reject

Batch = dict[str, Any]
"""What `Stage.collate` returns; tensors at its top level are moved to the device."""


@dataclass(frozen=True)
class PartialItem:
    """An item that consists of several samples, of which some may be unusable.

    Attributes:
        value: the usable part, for `Stage.collate`; None when nothing is usable.
        rejects: why the rest is not.
        num_seen: number of samples, usable or not.
    """

    value: Any | None
    rejects: tuple[Reject, ...] = ()
    num_seen: int = 1


def as_partial(item: Any) -> PartialItem:
    """What `TrainingData` returns, as a `PartialItem`."""
    if isinstance(item, PartialItem):
        return item
    return PartialItem(None, (item,)) if isinstance(item, Reject) else PartialItem(item)


class TrainingData(Protocol):
    """Training items, each a function of its ordinal alone.

    The engine reads ordinals 0, 1, 2 … of the whole run in ascending order (sharded over processes and workers), and
    after a restart continues at the first one that was not trained on. So shuffling, epochs and augmentation must
    follow from the ordinal (`epoch, position = divmod(ordinal, len(data))`) and the seed, never from a state. Objects
    are copied to worker processes: open files lazily.
    """

    def __len__(self) -> int:
        """Items in one epoch, at least 1."""
        ...

    def __getitem__(self, ordinal: int) -> Any | PartialItem | Reject:
        """One item for `Stage.collate` (a sample or a packed row), or why it cannot be used.

        A `Reject` is left out of its batch, listed in `rejects.jsonl` and counted; it is not replaced. Of a
        `PartialItem` the usable part is kept.
        """
        ...


@dataclass(frozen=True)
class StepResult:
    """The result of one forward pass.

    Attributes:
        loss: scalar with a gradient, *summed* over the batch's units (see `Stage.count_units`); the engine divides by
            their number over all micro-batches and processes of the optimizer step.
        means: name -> (sum, count) of what is logged as a quotient over the logging window, such as
            `{"accuracy": (hits, anchors)}`; detached tensors or plain numbers.
        hits: name -> (hits, cases) of an evaluation, which is logged as a share with its Wilson interval.
    """

    loss: Tensor
    means: Mapping[str, tuple[Tensor | float, Tensor | float]] = field(default_factory=dict)
    hits: Mapping[str, tuple[int, int]] = field(default_factory=dict)


@dataclass(frozen=True)
class Stage:
    """One training stage, built by `build_stage(config)` of its module.

    Attributes:
        model: a module whose `forward` does all differentiable work, so that it can be wrapped (DDP, DeepSpeed, FSDP).
            Exactly its parameters with `requires_grad` are trained and saved.
        train: see `TrainingData`.
        held_out: the same for evaluation, read once in order; None for no evaluation.
        collate: joins items (at least one) into a batch; runs in workers, so it must be picklable and hold no weights.
        count_units: number of units (anchors, target tokens) that the summed loss of a batch is over; known before the
            forward pass.
        step: calls the (wrapped) model on a batch that is on its device.
        save_weights: writes weights (name in `model` -> CPU tensor, trained ones only) and whatever loading needs into
            an existing empty folder; called in the main process.
        load_weights: reads them back from such a folder as names and tensors.
        count_throughput: of a batch, what is logged per second: `{"images": 8, "tokens": 4096, "flops": 1e12}`; `flops`
            (forward and backward, without recomputation) also gives the MFU.
        describe: facts for `--dry-run`: counts, lengths, one decoded sample; plain JSON values.
        enable_gradient_checkpointing: turns it on, in PyTorch's reentrant form if its argument is true; None when the
            stage has nothing to recompute.
        prepare: work before training that writes files, such as filling a cache; called in every process, but not for
            `--dry-run`.
        estimate_activation_bytes: bytes of activations of a micro-batch of so many items.
        measure_start: values that are logged at step 0 of a new run; called after `prepare`, before the model is
            sharded, in the main process alone.
        fill_weights: reads the weights of a part of `model` that has none yet; called in every process before that part
            is sharded.
    """

    model: nn.Module
    train: TrainingData
    held_out: TrainingData | None
    collate: Callable[[list[Any]], Batch]
    count_units: Callable[[Batch], int]
    step: Callable[[nn.Module, Batch], StepResult]
    save_weights: Callable[[Path, Mapping[str, Tensor]], None]
    load_weights: Callable[[Path], Mapping[str, Tensor]]
    count_throughput: Callable[[Batch], Mapping[str, float]] = lambda batch: {}
    describe: Callable[[], Mapping[str, Any]] = dict
    enable_gradient_checkpointing: Callable[[bool], None] | None = None
    prepare: Callable[[], None] = lambda: None
    estimate_activation_bytes: Callable[[int], float] = lambda items: 0.0
    measure_start: Callable[[], Mapping[str, float]] = dict
    fill_weights: Callable[[nn.Module], None] = lambda module: None
