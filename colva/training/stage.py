"""What a stage gives to the engine: a model, its data, a step, and how its weights are kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor, nn

from mmvm_data.core.errors import Reject

Batch = dict[str, Any]
"""What `Stage.collate` makes; tensors at its top level are moved to the device."""


@dataclass(frozen=True)
class Part:
    """An item that is made of several.

    Attributes:
        value: what of it is usable, for `Stage.collate`; None when nothing is.
        rejects: why the rest is not.
        seen: how many there were.
    """

    value: Any | None
    rejects: tuple[Reject, ...] = ()
    seen: int = 1


def part_of(item: Any) -> Part:
    """What `Data` gives, as a `Part`."""
    if isinstance(item, Part):
        return item
    return Part(None, (item,)) if isinstance(item, Reject) else Part(item)


class Data(Protocol):
    """Training items, each a function of its ordinal alone.

    The engine asks for ordinals 0, 1, 2 … of the whole run in ascending order (dealt to processes and workers), and
    after a restart from the first one that was not trained on. So shuffling, epochs and augmentation follow from the
    ordinal (`epoch, position = divmod(ordinal, len(data))`) and the seed, never from a state. It is copied to worker
    processes: open files lazily.
    """

    def __len__(self) -> int:
        """Items in one epoch, at least 1."""
        ...

    def __getitem__(self, ordinal: int) -> Any | Part | Reject:
        """One item for `Stage.collate` (one sample, or one pack), or why it cannot be used.

        A `Reject` is left out of its batch, listed in `rejects.jsonl` and counted; nothing takes its place. Of a
        `Part` the usable part stays in.
        """
        ...


@dataclass(frozen=True)
class Step:
    """What one forward gives.

    Attributes:
        loss: scalar with a gradient, *summed* over the batch's units (see `Stage.units`); the engine divides by their
            number over all micro-batches and processes of the optimiser step.
        means: name -> (sum, number) of what is logged as a quotient over the logging window, such as
            `{"accuracy": (hits, anchors)}`; detached tensors or plain numbers.
    """

    loss: Tensor
    means: Mapping[str, tuple[Tensor | float, Tensor | float]] = field(default_factory=dict)


@dataclass(frozen=True)
class Stage:
    """One training stage, built by `build(config)` of its module.

    Attributes:
        model: a module whose `forward` does the whole differentiable work, so that it can be wrapped (DDP, DeepSpeed,
            FSDP). Exactly its parameters with `requires_grad` are trained and saved.
        train: see `Data`.
        held_out: the same for evaluation, taken once in order; None for none.
        collate: items (at least one) to a batch; runs in workers, so it must be picklable and touch no weights.
        units: how many units (anchors, learnt tokens) the summed loss of a batch is over; known before the forward.
        step: calls the (wrapped) model on a batch that is on its device.
        save: writes weights (name in `model` -> CPU tensor, trained ones only) and whatever loading needs into an
            existing empty folder; called in the first process.
        load: reads them back from such a folder as names and tensors.
        counts: of a batch, what is logged per second: `{"images": 8, "tokens": 4096, "flops": 1e12}`; `flops` (forward
            and backward, recomputation not counted) also gives the share of the device's peak.
        describe: facts for `--dry-run`: counts, lengths, one decoded sample; plain JSON values.
        checkpointing: turns activation checkpointing on, in PyTorch's reentrant form if its argument is true; None when
            the stage has nothing to checkpoint.
        prepare: what must be done before training and writes files, such as filling a cache; not called for
            `--dry-run`. Called in every process.
        activations: bytes of activations of a micro-batch of so many items, for the memory estimate.
    """

    model: nn.Module
    train: Data
    held_out: Data | None
    collate: Callable[[list[Any]], Batch]
    units: Callable[[Batch], int]
    step: Callable[[nn.Module, Batch], Step]
    save: Callable[[Path, Mapping[str, Tensor]], None]
    load: Callable[[Path], Mapping[str, Tensor]]
    counts: Callable[[Batch], Mapping[str, float]] = lambda batch: {}
    describe: Callable[[], Mapping[str, Any]] = dict
    checkpointing: Callable[[bool], None] | None = None
    prepare: Callable[[], None] = lambda: None
    activations: Callable[[int], float] = lambda items: 0.0
